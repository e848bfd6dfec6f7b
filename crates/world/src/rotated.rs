//! The names of a file that rotates, of the file output or of the program's own log, and of what it was before.
//!
//! Comes in: what lies in the folder. Goes out: which file is written, and which ones move or go at a rotation.
//! 5.6 and 7: `filebeat`, then `filebeat.1` (the newest) to `filebeat.N`. 8 and 9: `filebeat-20261123.ndjson`, then
//! `filebeat-20261123-1.ndjson`, the newest being written. Facts: Beats v5.6.16 `libbeat/logp/file_rotator.go`,
//! elastic-agent-libs `file/rotator.go`. Tested below.

use std::io;
use std::path::{Path, PathBuf};

use crate::calendar::civil_from_days;
use crate::{Fs, World};

/// How files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `name`, `name.1`, …
    Numbered,
    /// `name-YYYYMMDD.ndjson`, `name-YYYYMMDD-1.ndjson`, …
    Dated,
}

/// The place of the files.
#[derive(Clone, Debug)]
pub struct Names {
    /// The folder.
    pub dir: PathBuf,
    /// What their names begin with.
    pub name: String,
    /// How they go on.
    pub naming: Naming,
    /// How many rotated files are kept beside the one that is written.
    pub keep: usize,
}

impl Names {
    /// The file to be written: the newest one that is there, or a new one.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn active(&self, world: &World) -> io::Result<PathBuf> {
        match self.naming {
            Naming::Numbered => Ok(self.dir.join(&self.name)),
            Naming::Dated => {
                let newest = self.dated(&*world.fs)?.pop();
                let (date, index) = newest.unwrap_or_else(|| (today(world), 0));
                Ok(self.dated_path(&date, index))
            }
        }
    }

    /// Makes room for a new file, and names it. What was active must be closed and synced. Safe to do again after an
    /// error.
    ///
    /// # Errors
    /// The folder can't be listed, or a file be renamed or removed.
    pub fn rotate(&self, world: &World) -> io::Result<PathBuf> {
        match self.naming {
            Naming::Numbered => self.shift(&*world.fs),
            Naming::Dated => {
                let mut files = self.dated(&*world.fs)?;
                let today = today(world);
                // The index goes on from the newest of this day; a clock that went back doesn't overwrite anything.
                let index = files.iter().rev().find(|(date, _)| *date == today).map_or(0, |(_, index)| index + 1);
                let excess = files.len().saturating_sub(self.keep);
                for (date, index) in files.drain(..excess) {
                    gone(world.fs.remove(&self.dated_path(&date, index)))?;
                }
                Ok(self.dated_path(&today, index))
            }
        }
    }

    /// Whether a file with this name in the folder is one of these files, or was, under either way of naming.
    pub fn are(&self, file: &str) -> bool {
        let number = |rest: &str| rest.strip_prefix('.').is_some_and(is_number);
        file.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.is_empty() || number(rest))
            || self.parse(file).is_some()
    }

    fn shift(&self, fs: &dyn Fs) -> io::Result<PathBuf> {
        let numbered = |n: usize| match n {
            0 => self.dir.join(&self.name),
            n => self.dir.join(format!("{}.{n}", self.name)),
        };
        // Up to the first gap: what lies behind it needn't move.
        let mut last = 0;
        while last < self.keep && exists(fs, &numbered(last))? {
            last += 1;
        }
        if last == self.keep {
            gone(fs.remove(&numbered(last)))?;
        }
        for n in (0..last).rev() {
            gone(fs.rename(&numbered(n), &numbered(n + 1)))?;
        }
        Ok(numbered(0))
    }

    /// Dates and indices of the files that are there, the oldest first.
    fn dated(&self, fs: &dyn Fs) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        fs.read_dir(&self.dir, &mut |entry| {
            found.extend(entry.name.to_str().and_then(|name| self.parse(name)));
            true
        })?;
        found.sort_unstable();
        Ok(found)
    }

    fn parse(&self, name: &str) -> Option<(String, u64)> {
        let middle = name.strip_prefix(self.name.as_str())?.strip_prefix('-')?.strip_suffix(".ndjson")?;
        let (date, index) = middle.split_once('-').unwrap_or((middle, "0"));
        let is_date = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
        let index = is_number(index).then(|| index.parse().ok())??;
        is_date.then(|| (date.to_owned(), index))
    }

    fn dated_path(&self, date: &str, index: u64) -> PathBuf {
        let name = &self.name;
        self.dir.join(match index {
            0 => format!("{name}-{date}.ndjson"),
            n => format!("{name}-{date}-{n}.ndjson"),
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn today(world: &World) -> String {
    let (year, month, day) = civil_from_days(world.clock.wall().0.div_euclid(86_400_000));
    format!("{year:04}{month:02}{day:02}")
}

fn exists(fs: &dyn Fs, path: &Path) -> io::Result<bool> {
    match fs.stat(path, false) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real files")]
mod tests {
    use super::*;

    fn names(dir: &Path, naming: Naming, keep: usize) -> Names {
        Names { dir: dir.into(), name: "fb".into(), naming, keep }
    }

    fn listing(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn numbered_files_shift_and_the_oldest_goes() {
        let tmp = tempfile::tempdir().unwrap();
        let (world, n) = (World::real(), names(tmp.path(), Naming::Numbered, 2));
        for round in 0..5 {
            let active = if round == 0 { n.active(&world).unwrap() } else { n.rotate(&world).unwrap() };
            assert_eq!(active, tmp.path().join("fb"));
            assert!(!active.exists());
            std::fs::write(&active, round.to_string()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(tmp.path().join(name)).unwrap();
        assert_eq!(listing(tmp.path()), ["fb", "fb.1", "fb.2"]);
        assert_eq!((read("fb"), read("fb.1"), read("fb.2")), ("4".into(), "3".into(), "2".into()));
    }

    #[test]
    fn a_name_is_one_of_theirs_or_only_begins_like_one() {
        let n = names(Path::new("/x"), Naming::Numbered, 2);
        for theirs in ["fb", "fb.1", "fb.12", "fb-20200101.ndjson", "fb-20200101-3.ndjson"] {
            assert!(n.are(theirs), "{theirs}");
        }
        for other in ["fb2", "fb.", "fb.log", "fb.1.gz", "fb-app.ndjson", "fb-20200101-.ndjson", "afb", ""] {
            assert!(!n.are(other), "{other}");
        }
    }

    #[test]
    fn dated_files_count_up_within_a_day() {
        let tmp = tempfile::tempdir().unwrap();
        let (world, n) = (World::real(), names(tmp.path(), Naming::Dated, 2));
        let day = today(&world);
        for other in ["fb-20200101.ndjson", "fb-x.ndjson", "fb-20200101-y.ndjson", "other-20200101.ndjson", "fb"] {
            std::fs::write(tmp.path().join(other), "").unwrap();
        }
        assert_eq!(n.active(&world).unwrap(), tmp.path().join("fb-20200101.ndjson"));
        for round in 0..12u32 {
            let new = n.rotate(&world).unwrap();
            let want = if round == 0 { format!("fb-{day}.ndjson") } else { format!("fb-{day}-{round}.ndjson") };
            assert_eq!(new, tmp.path().join(&want));
            std::fs::write(&new, "").unwrap();
            assert_eq!(n.active(&world).unwrap(), new);
        }
        let mut want: Vec<String> = (9..12).map(|i| format!("fb-{day}-{i}.ndjson")).collect();
        want.extend(["fb-x.ndjson", "fb-20200101-y.ndjson", "other-20200101.ndjson", "fb"].map(String::from));
        want.sort();
        assert_eq!(listing(tmp.path()), want);
    }
}
