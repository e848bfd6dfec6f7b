//! What a receiver has got, read as it comes.
//!
//! Comes in: the folder of its NDJSON. Goes out: events, and how often each numbered line has come.
//! Always holds: every line of a file is parsed once, and only when it is complete.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;

use super::writers::Writer;
use crate::{Outcome, wait};

/// The events of one receiver.
pub(super) struct Arrived {
    folder: PathBuf,
    /// How far each file was read.
    read: HashMap<PathBuf, u64>,
    /// How often each line with a writer's name at its beginning has come: by that name and the line's number.
    lines: BTreeMap<String, HashMap<usize, usize>>,
}

impl Arrived {
    pub(super) fn new(folder: PathBuf) -> Arrived {
        Arrived { folder, read: HashMap::new(), lines: BTreeMap::new() }
    }

    /// The texts of events that weren't there at the last look.
    fn fresh(&mut self) -> Outcome<String> {
        let mut out = String::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "ndjson") {
                continue;
            }
            let mut read = || -> std::io::Result<()> {
                let from = self.read.entry(path.clone()).or_default();
                let mut file = File::open(&path)?;
                file.seek(SeekFrom::Start(*from))?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                bytes.truncate(bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1));
                *from += bytes.len() as u64;
                out.push_str(&String::from_utf8_lossy(&bytes));
                Ok(())
            };
            read().map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(out)
    }

    /// All events that have a word in them.
    pub(super) fn events(&self, word: &str) -> Outcome<Vec<Value>> {
        let text = Arrived::new(self.folder.clone()).fresh()?;
        let with = text.lines().filter(|l| l.contains(word));
        with.map(|l| serde_json::from_str(l).map_err(|e| format!("{e}: {l}"))).collect()
    }

    /// NDJSON of all events that have a word in them.
    pub(super) fn ndjson(&self, word: &str) -> Outcome<String> {
        let text = Arrived::new(self.folder.clone()).fresh()?;
        Ok(text.split_inclusive('\n').filter(|l| l.contains(word)).collect())
    }

    /// How many lines of these writers have come, each counted once.
    pub(super) fn count(&mut self, writers: &[Writer]) -> Outcome<usize> {
        for line in self.fresh()?.lines() {
            // `"message":"NAME NUMBER …"`, looked for as text: parsing all of it takes minutes.
            let Some((_, text)) = line.split_once("\"message\":\"") else { continue };
            let mut words = text.split([' ', '"']);
            if let (Some(name), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) {
                *self.lines.entry(name.to_owned()).or_default().entry(number).or_default() += 1;
            }
        }
        Ok(writers.iter().filter_map(|w| self.lines.get(&w.name)).map(HashMap::len).sum())
    }

    /// Waits until so many lines of these writers have come.
    pub(super) fn wait(&mut self, writers: &[Writer], n: usize) -> Outcome {
        let mut there = 0;
        let come = wait::until("lines to arrive", super::LIMIT, || {
            there = self.count(writers)?;
            if there < n {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            Ok((there >= n).then_some(()))
        });
        come.map_err(|why| format!("{why}: {there} of {n}; {}", self.missing(writers)))
    }

    /// Which lines aren't there, in ranges.
    fn missing(&self, writers: &[Writer]) -> String {
        let mut out = String::new();
        for writer in writers {
            let there = self.lines.get(&writer.name);
            let is = |n: &usize| there.is_some_and(|t| t.contains_key(n));
            let missing: Vec<usize> = (1..=writer.lines).filter(|n| !is(n)).collect();
            let holes = missing.chunk_by(|a, b| a + 1 == *b);
            let holes: Vec<String> = holes.take(5).map(|h| format!("{}-{}", h[0], h[h.len() - 1])).collect();
            if !holes.is_empty() {
                out.push_str(&format!("{} lacks {}: {}; ", writer.name, missing.len(), holes.join(", ")));
            }
        }
        out
    }

    /// Every line of these writers has come, and none twice unless `again`; how many did.
    pub(super) fn check(&mut self, writers: &[Writer], again: bool) -> Outcome<String> {
        let all: usize = writers.iter().map(|w| w.lines).sum();
        let there = self.count(writers)?;
        if there != all {
            return Err(format!("{there} of {all} lines: {}", self.missing(writers)));
        }
        let times = writers.iter().filter_map(|w| self.lines.get(&w.name)).flat_map(HashMap::values);
        let twice: usize = times.map(|n| n - 1).sum();
        if twice > 0 && !again {
            return Err(format!("{twice} of {all} lines came twice"));
        }
        Ok(format!("{all} lines, none missing, {twice} again"))
    }
}
