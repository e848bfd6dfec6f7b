//! The application: it writes lines that are all different, and knows what became of each.
//!
//! Comes in: what it is to do, at random ([`Application::step`]) or as a script says. Goes out: bytes in files, and
//! [`Application::lines`]: every line, which content it lies in at which bytes, and whether that content was destroyed.
//!
//! Always holds: a line's text occurs once in all that is written; what the application destroys (cuts off, deletes,
//! replaces) is noted with the bytes that went, since nobody can promise that they were read before. A *content* is what
//! a file holds between two cuts; a *file* is what an inode is, whatever its names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use pillion_world::{Clock as _, Mono};

use crate::run::Habits;
use crate::world::{App, SimWorld};

/// The folder that is read.
pub(crate) const LOGS: &str = "/logs";
/// Where copies go that nobody reads.
const ELSEWHERE: &str = "/elsewhere";
/// Names of live files.
const NAMES: u64 = 4;
/// How long a file has a name at least: two searches. Whoever renames a file from one input's paths to another's and back while
/// both search may hide it from both (docs/simulation.md).
const NAMED: Duration = Duration::from_secs(21);
/// What a change of a file takes: the coarse clock of a kernel ticks in between, so that its time stamp is another.
const TICK: Duration = Duration::from_millis(5);

/// The number of a content.
pub(crate) type ContentId = usize;
/// The number of a file.
pub(crate) type FileId = usize;

/// A line that was written.
pub(crate) struct Line {
    /// As far as it was written; without its end.
    pub text: String,
    pub content: ContentId,
    /// Its bytes in the content, with its end once that is written.
    pub range: Range<u64>,
    /// It lay in a content that the application destroyed.
    pub destroyed: bool,
}

/// What was destroyed at once.
pub(crate) struct Destroyed {
    pub content: ContentId,
    pub file: FileId,
    /// How long the content was.
    pub len: u64,
}

/// What a file holds, whatever its names.
struct Content {
    id: ContentId,
    lines: Vec<usize>,
    len: u64,
    /// What is still to come of the last line.
    rest: Option<String>,
    file: FileId,
    /// When it got its name, where it had another one before.
    renamed: Option<Mono>,
}

pub(crate) struct Application {
    app: App,
    habits: Habits,
    pub lines: Vec<Line>,
    /// What was destroyed since somebody looked last.
    pub destroyed: Vec<Destroyed>,
    /// The paths that each file has had.
    pub paths: Vec<BTreeSet<String>>,
    files: BTreeMap<String, Content>,
    /// What the process has deleted or put aside: it may get its name back, or the power failure gives it back.
    taken: Vec<(String, Content)>,
    /// Paths at which something happened since somebody looked last.
    pub touched: Vec<String>,
    contents: usize,
    rotated: u64,
}

impl Application {
    pub(crate) fn new(sim: &SimWorld, habits: Habits) -> Application {
        let app = sim.app();
        for dir in [LOGS, ELSEWHERE] {
            let made = app.create_dir_all(dir);
            debug_assert!(made.is_ok(), "an empty disk takes a folder");
        }
        let (lines, destroyed, paths) = (Vec::new(), Vec::new(), Vec::new());
        Application {
            app,
            habits,
            lines,
            destroyed,
            paths,
            files: BTreeMap::new(),
            taken: Vec::new(),
            touched: Vec::new(),
            contents: 0,
            rotated: 0,
        }
    }

    /// Does one thing to one of its files.
    pub(crate) fn step(&mut self, sim: &SimWorld) {
        let name = format!("{LOGS}/{}.log", sim.below(NAMES));
        match sim.below(100) {
            0..=64 => {
                let lines = 1 + sim.below(9);
                self.write(sim, &name, lines);
            }
            65..=74 => self.write_part(sim, &name),
            75..=79 if self.habits.renames => self.shift(sim, &name),
            80..=82 if self.habits.renames => self.wander(sim),
            75..=84 => self.rotate(sim, &name),
            85..=87 => self.copy_and_cut(sim, &name),
            _ if self.habits.gentle => self.write(sim, &name, 1),
            88..=91 => self.truncate(sim, &name),
            92..=95 => self.delete(sim, &name),
            _ => self.replace(sim, &name),
        }
    }

    fn done(&self, sim: &SimWorld, what: &str, result: &std::io::Result<()>) {
        sim.note(|| format!("application: {what}"));
        debug_assert!(result.is_ok(), "the application's calls don't fail: {what}: {result:?}");
        sim.advance(TICK);
    }

    /// A new line's text: of a fixed length if the application has that habit, so that offsets repeat. No 64 bytes of it
    /// are those of another line: such contents can't be told apart without a birth (docs/simulation.md).
    fn text(&self, sim: &SimWorld) -> String {
        let number = self.lines.len();
        if self.habits.fixed_lines {
            return format!("line {number:06} {}", "x".repeat(20));
        }
        let times = 1 + sim.below(if sim.below(50) == 0 { 2000 } else { 6 });
        // A line that goes on the event before it, where events have several.
        let indent = if self.habits.groups && sim.below(3) > 0 { "  " } else { "" };
        format!("{indent}line {number} {}", format!("abcd{number:06}").repeat(times as usize))
    }

    fn content(&mut self, name: &str) -> &mut Content {
        let Application { files, contents, paths, .. } = self;
        files.entry(name.to_owned()).or_insert_with(|| {
            *contents += 1;
            paths.push(BTreeSet::from([name.to_owned()]));
            new_content(*contents, paths.len() - 1)
        })
    }

    /// Puts bytes at the end of a content, as the beginning of a line or as more of its last one.
    fn put(&mut self, name: &str, text: &str, is_new: bool, ends: bool, bytes: &mut Vec<u8>) {
        let number = self.lines.len();
        let content = self.content(name);
        let from = content.len;
        content.len += text.len() as u64 + u64::from(ends);
        let to = content.len;
        let id = content.id;
        if is_new {
            content.lines.push(number);
            self.lines.push(Line { text: text.to_owned(), content: id, range: from..to, destroyed: false });
        } else if let Some(line) = content.lines.last().copied().and_then(|n| self.lines.get_mut(n)) {
            line.text.push_str(text);
            line.range.end = to;
        }
        bytes.extend_from_slice(text.as_bytes());
        if ends {
            bytes.push(b'\n');
        }
    }

    /// Whole lines; an unfinished one before them is finished.
    pub(crate) fn write(&mut self, sim: &SimWorld, name: &str, lines: u64) {
        let mut bytes = Vec::new();
        if let Some(rest) = self.content(name).rest.take() {
            self.put(name, &rest, false, true, &mut bytes);
        }
        for _ in 0..lines {
            let text = self.text(sim);
            self.put(name, &text, true, true, &mut bytes);
        }
        let result = self.app.append(name, &bytes);
        self.touched.push(name.to_owned());
        let last = self.lines.len().saturating_sub(1);
        self.done(sim, &format!("append {} to {name}, to line {last}", bytes.len()), &result);
    }

    /// Some lines and the beginning of one more, whose rest comes with the next write, or never.
    pub(crate) fn write_part(&mut self, sim: &SimWorld, name: &str) {
        self.write(sim, name, 1);
        let text = self.text(sim);
        // At least the number: what is written of it is like no other line.
        let head = text.rfind(' ').unwrap_or(0) + 1;
        let cut = head + sim.below((text.len() - head + 1) as u64) as usize;
        let (now, rest) = text.split_at(cut);
        let mut bytes = Vec::new();
        self.put(name, now, true, false, &mut bytes);
        self.content(name).rest = Some(rest.to_owned());
        let result = self.app.append(name, &bytes);
        self.touched.push(name.to_owned());
        self.done(sim, &format!("append {} to {name}, a part of a line", bytes.len()), &result);
    }

    /// Gives a file another name in the same folder; nothing more is written to it.
    pub(crate) fn rotate(&mut self, sim: &SimWorld, name: &str) {
        if self.files.contains_key(name) {
            self.rotated += 1;
            let to = format!("{name}.{}", self.rotated + 10);
            self.rename(sim, name, &to);
        }
    }

    /// Rotates as most programs do: what was `.1` is `.2` then, whose file is destroyed, or gets a name of its own.
    fn shift(&mut self, sim: &SimWorld, name: &str) {
        let (first, second) = (format!("{name}.1"), format!("{name}.2"));
        if ![name, &first, &second].iter().all(|name| self.may_rename(sim, name)) {
            return;
        }
        if self.habits.gentle {
            self.rotate(sim, &second);
        }
        self.rename(sim, &first, &second);
        self.rename(sim, name, &first);
    }

    fn may_rename(&self, sim: &SimWorld, name: &str) -> bool {
        let renamed = self.files.get(name).and_then(|content| content.renamed);
        renamed.is_none_or(|at| sim.mono().since(at) > NAMED)
    }

    /// Gives a file that isn't written to any more a name that looks like a live one's, or like a rotated one's.
    fn wander(&mut self, sim: &SimWorld) {
        let is_old = |name: &&String| (!name.ends_with(".log") || name.contains("/m")) && self.may_rename(sim, name);
        let old: Vec<String> = self.files.keys().filter(is_old).cloned().collect();
        if old.is_empty() {
            return;
        }
        self.rotated += 1;
        let to = match sim.below(2) {
            0 => format!("{LOGS}/m{}.log", self.rotated),
            _ => format!("{LOGS}/m.log.{}", self.rotated),
        };
        self.rename(sim, &old[sim.below(old.len() as u64) as usize], &to);
    }

    fn rename(&mut self, sim: &SimWorld, name: &str, to: &str) {
        let Some(content) = self.files.remove(name) else { return };
        self.destroy(to);
        if let Some(paths) = self.paths.get_mut(content.file) {
            paths.insert(to.to_owned());
        }
        let result = self.app.rename(name, to);
        self.touched.extend([name.to_owned(), to.to_owned()]);
        self.done(sim, &format!("rename {name} to {to}"), &result);
        self.files.insert(to.to_owned(), Content { renamed: Some(sim.mono()), ..content });
    }

    /// What is there no more though the application hasn't deleted it; and what is there again. Goes out: the lines of the
    /// former.
    pub(crate) fn notice(&mut self) -> Vec<usize> {
        for (name, content) in std::mem::take(&mut self.taken) {
            let is_back = !self.files.contains_key(&name) && self.is_at(&name, &content);
            if is_back {
                self.files.insert(name, content);
            } else {
                self.taken.push((name, content));
            }
        }
        let app = &self.app;
        let gone = self.files.extract_if(.., |name, _| app.meta(name).is_err());
        let gone: Vec<(String, Content)> = gone.collect();
        let lines = gone.iter().flat_map(|(_, content)| content.lines.clone()).collect();
        self.taken.extend(gone);
        lines
    }

    fn is_at(&self, name: &str, content: &Content) -> bool {
        let Ok(bytes) = self.app.read(name) else { return false };
        let first = content.lines.first().and_then(|n| self.lines.get(*n));
        bytes.len() as u64 == content.len && first.is_some_and(|line| bytes.starts_with(line.text.as_bytes()))
    }

    /// Copies a file to where it isn't read, and cuts it off: `copytruncate`.
    pub(crate) fn copy_and_cut(&mut self, sim: &SimWorld, name: &str) {
        if self.habits.gentle || !self.files.contains_key(name) {
            return;
        }
        self.rotated += 1;
        let to = format!("{ELSEWHERE}/{}", self.rotated);
        let result = self.app.copy(name, &to);
        self.done(sim, &format!("copy {name} to {to}"), &result);
        self.truncate(sim, name);
    }

    /// Copies a file to where it is read, too, and cuts it off in the same instant: nothing is destroyed.
    pub(crate) fn copy_within_and_cut(&mut self, sim: &SimWorld, name: &str) {
        let Some(content) = self.files.remove(name) else { return };
        self.rotated += 1;
        let to = format!("{name}.{}", self.rotated);
        let result = self.app.copytruncate(name, &to);
        self.touched.extend([name.to_owned(), to.clone()]);
        self.done(sim, &format!("copy {name} to {to}, cut off"), &result);
        self.contents += 1;
        self.files.insert(name.to_owned(), new_content(self.contents, content.file));
        self.paths.push(BTreeSet::from([name.to_owned(), to.clone()]));
        self.files.insert(to, Content { file: self.paths.len() - 1, ..content });
    }

    fn destroy(&mut self, name: &str) -> Option<FileId> {
        let content = self.files.remove(name)?;
        for number in content.lines {
            if let Some(line) = self.lines.get_mut(number) {
                line.destroyed = true;
            }
        }
        self.destroyed.push(Destroyed { content: content.id, file: content.file, len: content.len });
        Some(content.file)
    }

    /// Cuts a file off at its beginning.
    pub(crate) fn truncate(&mut self, sim: &SimWorld, name: &str) {
        if let Some(file) = self.destroy(name) {
            let result = self.app.truncate(name, 0);
            self.touched.push(name.to_owned());
            self.done(sim, &format!("cut off {name}"), &result);
            self.contents += 1;
            self.files.insert(name.to_owned(), new_content(self.contents, file));
        }
    }

    /// Deletes the file of this name or the next one: rotated ones too.
    fn delete(&mut self, sim: &SimWorld, name: &str) {
        let name = self.files.range(name.to_owned()..).next().map_or(name.to_owned(), |(n, _)| n.clone());
        self.remove(sim, &name);
    }

    /// Deletes a file.
    pub(crate) fn remove(&mut self, sim: &SimWorld, name: &str) {
        if self.destroy(name).is_some() {
            let result = self.app.delete(name);
            self.touched.push(name.to_owned());
            self.done(sim, &format!("delete {name}"), &result);
        }
    }

    /// Another file under the same name, often with the same inode.
    pub(crate) fn replace(&mut self, sim: &SimWorld, name: &str) {
        self.remove(sim, name);
        let lines = 1 + sim.below(9);
        self.write(sim, name, lines);
    }

    /// Which content a line lies in.
    pub(crate) fn content_of(&self, text: &str) -> Option<ContentId> {
        // `line 17 …`: the number is its place; of one that isn't whole it may be another's.
        let number: usize = text.trim_start().split(' ').nth(1)?.parse().ok()?;
        self.lines.get(number).filter(|l| l.text == text).map(|l| l.content)
    }

    /// One of the files that are there.
    pub(crate) fn some_path(&self, sim: &SimWorld) -> Option<String> {
        let n = self.files.len() as u64;
        (n > 0).then(|| self.files.keys().nth(sim.below(n) as usize).cloned()).flatten()
    }
}

fn new_content(id: ContentId, file: FileId) -> Content {
    Content { id, lines: Vec::new(), len: 0, rest: None, file, renamed: None }
}
