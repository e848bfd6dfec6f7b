//! The walk: from patterns to paths, one folder at a time.
//!
//! Comes in: the patterns of one input. Goes out: the paths that match, each once for a folder, in the folder's order.
//!
//! Always holds: patterns that share a folder share its listing; a folder that only one name can match in isn't listed;
//! a folder that can't be listed is reported, and what lies below isn't taken for gone; a folder of registries that lie
//! beside logs, anybody's, isn't looked into whatever the patterns say, nor one of files that are being deleted. The depth is bounded by the
//! patterns, so that links in a circle end.
//!
//! Tested below and with the harvester.

mod glob;
mod names;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use pillion_registry::beside::FOLDER;
use pillion_world::{FileKind, Fs};

pub(crate) use glob::{At, Next};
pub use glob::{Glob, PatternError};
pub(crate) use names::Names;

/// Where files lie that are being deleted, in their own folder (`harvest/delete.rs`).
pub(crate) const LEAVING: &str = ".pillion-leaving";

/// A folder to look at.
#[derive(Debug)]
struct Frame {
    dir: PathBuf,
    at: Vec<At>,
}

/// A walk in progress.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    frames: Vec<Frame>,
}

/// What one folder held.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) dir: PathBuf,
    pub(crate) found: Names,
    /// Why the listing isn't whole.
    pub(crate) error: Option<io::Error>,
}

impl Walk {
    /// A walk of all these patterns.
    pub(crate) fn new(globs: &[Glob]) -> Walk {
        let mut walk = Walk::default();
        for (i, glob) in globs.iter().enumerate() {
            let root = glob.root();
            if root.iter().any(|name| name == FOLDER) {
                continue;
            }
            let at = glob.start(i as u16);
            match walk.frames.iter_mut().find(|f| f.dir == root) {
                Some(frame) => frame.at.extend(at),
                None => walk.frames.push(Frame { dir: root, at }),
            }
        }
        walk.frames.reverse();
        walk
    }

    /// The folder that is next, so that it can be watched before it is listed.
    pub(crate) fn next_dir(&self) -> Option<&PathBuf> {
        self.frames.last().map(|f| &f.dir)
    }

    /// Leaves out the folder that is next.
    pub(crate) fn skip(&mut self) {
        self.frames.pop();
    }

    /// Looks at one folder.
    pub(crate) fn step(&mut self, fs: &dyn Fs, globs: &[Glob]) -> Option<Listed> {
        let Frame { dir, mut at } = self.frames.pop()?;
        at.sort_unstable();
        at.dedup();
        let mut out = Listed { dir, found: Names::default(), error: None };
        let mut below = Vec::new();
        let names: Option<Vec<&OsStr>> =
            at.iter().map(|a| globs.get(usize::from(a.pattern)).and_then(|g| g.only_name(*a))).collect();
        if let Some(mut names) = names {
            names.sort_unstable();
            names.dedup();
            for name in names {
                visit(globs, &at, name, (FileKind::Unknown, 0), &mut out.found, &mut below);
            }
        } else {
            let listing = fs.read_dir(&out.dir, &mut |e| {
                visit(globs, &at, e.name, (e.kind, e.ino), &mut out.found, &mut below);
                true
            });
            out.error = listing.err();
        }
        for (name, at) in below {
            self.frames.push(Frame { dir: out.dir.join(name), at });
        }
        Some(out)
    }
}

/// The names that a pattern matches, in their order: what is there may be anything but a folder. Folders that aren't there
/// hold nothing.
///
/// # Errors
/// The first folder that can't be listed.
pub fn names_of(fs: &dyn Fs, glob: &Glob) -> io::Result<Vec<PathBuf>> {
    let globs = std::slice::from_ref(glob);
    let (mut walk, mut out) = (Walk::new(globs), Vec::new());
    while let Some(mut listed) = walk.step(fs, globs) {
        if let Some(e) = listed.error
            && !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        {
            return Err(io::Error::new(e.kind(), format!("{}: {e}", listed.dir.display())));
        }
        while let Some(found) = listed.found.pop() {
            out.push(listed.dir.join(&found.name));
        }
    }
    out.sort_unstable();
    Ok(out)
}

fn visit(
    globs: &[Glob],
    at: &[At],
    name: &OsStr,
    (kind, ino): (FileKind, u64),
    found: &mut Names,
    below: &mut Vec<(OsString, Vec<At>)>,
) {
    if kind == FileKind::Other || name == FOLDER || name == LEAVING {
        return;
    }
    let mut next = Next::default();
    for a in at {
        if let Some(glob) = globs.get(usize::from(a.pattern)) {
            glob.step(*a, name, &mut next);
        }
    }
    if next.found && kind != FileKind::Dir {
        found.push(name, ino);
    }
    if !next.below.is_empty() && kind != FileKind::File {
        below.push((name.to_owned(), next.below));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_world::World;
    use std::path::Path;

    fn walk(root: &Path, patterns: &[&str]) -> Vec<String> {
        let globs: Vec<_> = patterns.iter().map(|p| Glob::new(root.join(p).as_os_str(), true).unwrap()).collect();
        let world = World::real();
        let mut walk = Walk::new(&globs);
        let mut out = Vec::new();
        while let Some(mut listed) = walk.step(&*world.fs, &globs) {
            while let Some(f) = listed.found.pop() {
                out.push(listed.dir.join(&f.name).strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
        assert!(walk.next_dir().is_none());
        out.sort();
        out
    }

    #[test]
    fn names_come_in_their_order() {
        let (tmp, fs) = (tempfile::tempdir().unwrap(), World::real().fs);
        for name in ["b.yml", "a.yml", "c.txt"] {
            fs.replace(&tmp.path().join(name), b"", 0o600).unwrap();
        }
        let names = |pattern: &str| {
            let glob = Glob::new(tmp.path().join(pattern).as_os_str(), false).unwrap();
            names_of(&*fs, &glob).map(|all| all.iter().map(|p| p.file_name().unwrap().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names("*.yml").unwrap(), ["a.yml", "b.yml"]);
        assert!(names("none/*.yml").unwrap().is_empty() && names("a.yml/*").unwrap().is_empty());
    }

    #[test]
    fn finds_what_the_patterns_say() {
        let tmp = tempfile::tempdir().unwrap();
        let fs = World::real().fs;
        for dir in ["a/b/c", "a/x", "z", ".pillion/job/registry", "a/.pillion"] {
            fs.create_dir_all(&tmp.path().join(dir), 0o700).unwrap();
        }
        for file in [
            "1.log",
            "a/2.log",
            "a/b/3.log",
            "a/b/c/4.log",
            "a/x/5.log",
            "z/6.txt",
            ".pillion/job/0.log",
            "a/.pillion/0.log",
        ] {
            fs.replace(&tmp.path().join(file), b"", 0o600).unwrap();
        }
        let root = tmp.path();
        assert_eq!(walk(root, &["*.log"]), ["1.log"]);
        assert_eq!(walk(root, &["*.log", "a/2.log"]), ["1.log", "a/2.log"]);
        assert_eq!(walk(root, &["a/*/*.log"]), ["a/b/3.log", "a/x/5.log"]);
        assert_eq!(walk(root, &["**/*.log"]), ["1.log", "a/2.log", "a/b/3.log", "a/b/c/4.log", "a/x/5.log"]);
        assert_eq!(walk(root, &["*/*.log", "**/*.log"]).len(), 5);
        assert_eq!(walk(root, &["**/[56].*"]), ["a/x/5.log", "z/6.txt"]);
        assert_eq!(walk(root, &["a/**"]), ["a/2.log", "a/b/3.log", "a/b/c/4.log", "a/x/5.log"]);
        assert!(
            walk(root, &["nothing/*/x.log", ".pillion/job/0.log", ".pillion/**", "*/.pillion/*", ".p*/*/*.log"])
                .is_empty()
        );
    }
}
