//! The application: it writes lines that are all different, and knows what became of each file.
//!
//! Always holds: a line's text occurs once in all that is written; what the application destroys (truncates, deletes) is
//! noted, since nobody can promise that it was read before.

use std::collections::BTreeMap;

use crate::world::{App, SimWorld};

/// The folder that is read.
pub(crate) const LOGS: &str = "/logs";
/// Names of live files.
const NAMES: u64 = 4;

/// A line that was written.
pub(crate) struct Line {
    pub text: String,
    /// It lay in a file whose content the application destroyed.
    pub destroyed: bool,
}

/// The lines of a file, whatever its name.
#[derive(Default)]
struct Content {
    lines: Vec<usize>,
    /// The last line has no newline yet.
    open: bool,
}

pub(crate) struct Application {
    app: App,
    pub lines: Vec<Line>,
    files: BTreeMap<String, Content>,
    rotated: u64,
}

impl Application {
    pub(crate) fn new(sim: &SimWorld) -> Application {
        let app = sim.app();
        let made = app.create_dir_all(LOGS);
        debug_assert!(made.is_ok(), "an empty disk takes a folder");
        Application { app, lines: Vec::new(), files: BTreeMap::new(), rotated: 0 }
    }

    /// Does one thing.
    pub(crate) fn step(&mut self, sim: &SimWorld) {
        let name = format!("{LOGS}/{}.log", sim.below(NAMES));
        match sim.below(100) {
            0..=69 => self.write(sim, &name),
            70..=79 => self.write_part(sim, &name),
            80..=87 => self.rotate(&name),
            88..=92 => self.truncate(&name),
            93..=95 => self.delete(&name),
            _ => self.replace(sim, &name),
        }
    }

    fn text(&mut self, sim: &SimWorld) -> String {
        let number = self.lines.len();
        let filler = "abcdefghij".repeat(1 + sim.below(if sim.below(50) == 0 { 2000 } else { 6 }) as usize);
        let text = format!("line {number} {filler}");
        self.lines.push(Line { text: text.clone(), destroyed: false });
        text
    }

    fn append(&mut self, name: &str, bytes: &[u8]) {
        let done = self.app.append(name, bytes);
        debug_assert!(done.is_ok(), "the application's writes don't fail");
    }

    fn write(&mut self, sim: &SimWorld, name: &str) {
        let mut bytes = Vec::new();
        for _ in 0..=sim.below(8) {
            let content = self.files.entry(name.to_owned()).or_default();
            if std::mem::take(&mut content.open) {
                bytes.extend_from_slice(b"\n");
            }
            content.lines.push(self.lines.len());
            bytes.extend_from_slice(self.text(sim).as_bytes());
            bytes.extend_from_slice(b"\n");
        }
        self.append(name, &bytes);
    }

    /// A line whose newline comes later, with the next write, or never.
    fn write_part(&mut self, sim: &SimWorld, name: &str) {
        self.write(sim, name);
        let number = self.lines.len();
        let text = self.text(sim);
        if let Some(content) = self.files.get_mut(name) {
            content.lines.push(number);
            content.open = true;
        }
        self.append(name, text.as_bytes());
    }

    fn rotate(&mut self, name: &str) {
        let Some(content) = self.files.remove(name) else { return };
        self.rotated += 1;
        let to = format!("{name}.{}", self.rotated);
        let done = self.app.rename(name, &to);
        debug_assert!(done.is_ok(), "the application's renames don't fail");
        self.files.insert(to, content);
    }

    fn destroy(&mut self, name: &str) -> bool {
        let Some(content) = self.files.remove(name) else { return false };
        for number in content.lines {
            if let Some(line) = self.lines.get_mut(number) {
                line.destroyed = true;
            }
        }
        true
    }

    fn truncate(&mut self, name: &str) {
        if self.destroy(name) {
            let done = self.app.truncate(name, 0);
            debug_assert!(done.is_ok(), "the application's truncations don't fail");
            self.files.insert(name.to_owned(), Content::default());
        }
    }

    /// One of all files, rotated ones too.
    fn delete(&mut self, name: &str) {
        let name = self.files.range(name.to_owned()..).next().map_or(name.to_owned(), |(n, _)| n.clone());
        if self.destroy(&name) {
            let done = self.app.delete(&name);
            debug_assert!(done.is_ok(), "the application's deletions don't fail");
        }
    }

    /// Another file under the same name, often with the same inode.
    fn replace(&mut self, sim: &SimWorld, name: &str) {
        if self.destroy(name) {
            let done = self.app.delete(name);
            debug_assert!(done.is_ok(), "the application's deletions don't fail");
        }
        self.write(sim, name);
    }

    /// One of the files that are there.
    pub(crate) fn some_path(&self, sim: &SimWorld) -> Option<String> {
        let n = self.files.len() as u64;
        (n > 0).then(|| self.files.keys().nth(sim.below(n) as usize).cloned()).flatten()
    }
}
