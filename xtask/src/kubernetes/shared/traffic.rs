//! Files that grow steadily, and when each of their lines has arrived.
//!
//! Comes in: the shared folder, the folder of a receiver's NDJSON. Goes out: what was lost, what came twice, and after an event
//! how long each file was silent at the target.
//! Always holds: every line has its file's and its own number; the moment of its write and the one at which it was seen at the
//! receiver are of this process' clock; the receiver keeps one of two events with one id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Outcome, wait};

/// How many files grow.
pub(super) const FILES: usize = 64;
/// How often each grows by one line.
const TICK: Duration = Duration::from_millis(200);
/// How often the receiver's file is looked at.
const LOOK: Duration = Duration::from_millis(30);
const LIMIT: Duration = Duration::from_secs(60);

/// A line: the numbers of its file and its own.
type Line = (usize, usize);

/// What was written and what has arrived.
#[derive(Default)]
struct Seen {
    written: HashMap<Line, Instant>,
    arrived: HashMap<Line, Instant>,
    again: usize,
    trouble: Option<String>,
}

/// Files that grow until this is finished or dropped.
pub(super) struct Traffic {
    seen: Arc<Mutex<Seen>>,
    writing: Arc<AtomicBool>,
    reading: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Begins: `folder` gets the files, `arrived` is the receiver's.
    pub(super) fn start(word: &str, folder: PathBuf, arrived: PathBuf) -> Traffic {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (writing, reading) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let (go, to, word) = (writing.clone(), seen.clone(), word.to_owned());
        let mark = format!("\"message\":\"{word} ");
        let writer = std::thread::spawn(move || note(&to, write(&go, &to, &word, &folder)));
        let (go, to) = (reading.clone(), seen.clone());
        let reader = std::thread::spawn(move || note(&to, read(&go, &to, &mark, &arrived)));
        Traffic { seen, writing, reading, threads: vec![writer, reader] }
    }

    fn ask<T>(&self, ask: impl FnOnce(&Seen) -> T) -> Outcome<T> {
        let seen = self.seen.lock().map_err(|e| e.to_string())?;
        match &seen.trouble {
            Some(why) => Err(why.clone()),
            None => Ok(ask(&seen)),
        }
    }

    /// Waits until of each file a line has arrived that was written after `event`. Gives the longest that one took, since
    /// `event`.
    pub(super) fn goes_on(&self, event: Instant, limit: Duration) -> Outcome<Duration> {
        let mut silent = Vec::new();
        let all = wait::until("a new line of every file", limit, || {
            let first = self.ask(|seen| seen.first_after(event))?;
            silent = (0..FILES).filter(|file| !first.contains_key(file)).collect();
            Ok(silent.is_empty().then_some(first))
        });
        let first = all.map_err(|why| format!("{why}: {} are silent: {silent:?}", silent.len()))?;
        Ok(first.into_values().max().unwrap_or_default())
    }

    /// Ends the writing and waits until everything has arrived: nothing lost, nothing twice. What was compared.
    pub(super) fn finish(mut self) -> Outcome<String> {
        self.writing.store(false, Ordering::Relaxed);
        if let Some(writer) = (!self.threads.is_empty()).then(|| self.threads.remove(0)) {
            writer.join().map_err(|_| "the writer panicked")?;
        }
        let missing = |seen: &Seen| -> Vec<Line> {
            seen.written.keys().filter(|line| !seen.arrived.contains_key(line)).copied().collect()
        };
        let mut left = Vec::new();
        let all = wait::until("all lines", LIMIT, || {
            left = self.ask(missing)?;
            Ok(left.is_empty().then_some(()))
        });
        left.sort_unstable();
        all.map_err(|why| format!("{why}: {} are missing, the first are {:?}", left.len(), left.iter().take(5)))?;
        // What comes twice comes late.
        std::thread::sleep(Duration::from_secs(2));
        let (written, again) = self.ask(|seen| (seen.written.len(), seen.again))?;
        match again {
            0 => Ok(format!("{written} lines of {FILES} files, none lost, none twice")),
            n => Err(format!("{n} of {written} lines came twice")),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.writing.store(false, Ordering::Relaxed);
        self.reading.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Seen {
    /// For each file, how long after the event the first line arrived that was written after it.
    fn first_after(&self, event: Instant) -> HashMap<usize, Duration> {
        let mut first = HashMap::new();
        for (line, at) in &self.arrived {
            if self.written.get(line).is_some_and(|written| *written > event) {
                let took = at.saturating_duration_since(event);
                first.entry(line.0).and_modify(|best: &mut Duration| *best = took.min(*best)).or_insert(took);
            }
        }
        first
    }
}

fn note(seen: &Mutex<Seen>, outcome: Outcome) {
    if let (Err(why), Ok(mut seen)) = (outcome, seen.lock()) {
        seen.trouble.get_or_insert(why);
    }
}

fn write(go: &AtomicBool, seen: &Mutex<Seen>, word: &str, folder: &Path) -> Outcome {
    let mut files = Vec::new();
    for file in 0..FILES {
        let path = folder.join(format!("{file:03}.log"));
        files.push(File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    for n in 1.. {
        if !go.load(Ordering::Relaxed) {
            break;
        }
        for (at, file) in files.iter_mut().enumerate() {
            let line = format!("{word} {at} {n} of a file that grows\n");
            seen.lock().map_err(|e| e.to_string())?.written.insert((at, n), Instant::now());
            file.write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn read(go: &AtomicBool, seen: &Mutex<Seen>, mark: &str, folder: &Path) -> Outcome {
    let mut read: HashMap<PathBuf, u64> = HashMap::new();
    while go.load(Ordering::Relaxed) {
        let text = fresh(folder, &mut read).map_err(|e| format!("{}: {e}", folder.display()))?;
        let now = Instant::now();
        let (mut seen, mut again) = (seen.lock().map_err(|e| e.to_string())?, 0);
        for line in text.lines().filter_map(|line| number(line, mark)) {
            match seen.arrived.entry(line) {
                Entry::Vacant(first) => drop(first.insert(now)),
                Entry::Occupied(_) => again += 1,
            }
        }
        seen.again += again;
        drop(seen);
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The numbers in an event's message.
fn number(line: &str, mark: &str) -> Option<Line> {
    let (_, text) = line.split_once(mark)?;
    let mut words = text.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The complete lines of all NDJSON that weren't there at the last look.
fn fresh(folder: &Path, read: &mut HashMap<PathBuf, u64>) -> std::io::Result<String> {
    let mut out = String::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "ndjson") {
            continue;
        }
        let mut file = File::open(&path)?;
        let from = read.entry(path).or_default();
        file.seek(SeekFrom::Start(*from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        bytes.truncate(bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1));
        *from += bytes.len() as u64;
        out.push_str(&String::from_utf8_lossy(&bytes));
    }
    Ok(out)
}
