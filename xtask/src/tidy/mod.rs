//! The project's style, as tests.
//!
//! Comes in: the tracked files. Goes out: each breach with its file and line; an error when there is one.
//! Always holds: what is long may stay long only when `xtask/tidy.allow` names it with its length, and that length can
//! only go down.

mod length;
mod rules;

use std::fs;
use std::path::Path;

use crate::child::run as run_command;
use crate::{Outcome, root};

/// A tracked file.
struct Source {
    /// Its path below the root.
    path: String,
    /// Its content; what isn't UTF-8 is replaced.
    text: String,
    bytes: u64,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A file that holds tests only.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs" || name.ends_with("_tests.rs") || self.path.contains("/tests/")
    }
}

/// Checks everything.
pub(crate) fn run() -> Outcome {
    let root = root();
    let files = tracked(&root)?;
    let mut breaches: Vec<String> = files.iter().flat_map(rules::check).collect();
    let allow = fs::read_to_string(root.join(length::ALLOWED)).map_err(|e| format!("{}: {e}", length::ALLOWED))?;
    breaches.extend(length::check(&files, &allow));
    if breaches.is_empty() {
        println!("{} tracked files, all tidy", files.len());
        return Ok(());
    }
    Err(format!("{}\n{} breaches", breaches.join("\n"), breaches.len()))
}

fn tracked(root: &Path) -> Outcome<Vec<Source>> {
    let mut git = std::process::Command::new("git");
    let list = run_command(git.current_dir(root).args(["ls-files", "-z"]))?;
    let read = |path: &str| {
        let content = fs::read(root.join(path)).map_err(|e| format!("{path}: {e}"))?;
        let text = String::from_utf8_lossy(&content).into_owned();
        Ok(Source { path: path.to_owned(), text, bytes: content.len() as u64 })
    };
    // A file that is deleted but not committed yet is still listed.
    let there = |path: &&str| !path.is_empty() && root.join(path).is_file();
    list.split('\0').filter(there).map(read).collect()
}
