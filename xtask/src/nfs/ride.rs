//! Pillion in a case: what it reads, what it has delivered, how it ends.
//!
//! Always holds: it ships into a file in memory, so that it depends on no network; its data path outlives it, so that
//! another run of the same ride goes on.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::Child;
use crate::peer::tail;
use crate::shipper::{Place, Shipper};
use crate::sweep::BY_FINGERPRINT;
use crate::{Outcome, job, wait};

/// How long anything may take to be seen: a client that has cached that a file isn't there believes it for up to a minute.
pub(crate) const SEEN: Duration = Duration::from_secs(90);

/// What it says when it has started.
const STARTED: &str = "\"started; ";

/// How long a drain may take.
const END: Duration = Duration::from_secs(30);

/// One shipper with a place of its own.
pub(crate) struct Ride {
    shipper: Shipper,
    place: Place,
    child: Option<Child>,
}

impl Ride {
    /// Starts to read these patterns, each by an input of its own.
    pub(crate) fn start(paths: &[PathBuf], words: &[&str]) -> Outcome<Ride> {
        Ride::told(paths, "", words)
    }

    /// The same, but a file is told by its content and not by its inode.
    pub(crate) fn by_fingerprint(paths: &[PathBuf]) -> Outcome<Ride> {
        Ride::told(paths, BY_FINGERPRINT, &[])
    }

    fn told(paths: &[PathBuf], more: &str, words: &[&str]) -> Outcome<Ride> {
        let mut ride = Ride { shipper: Shipper::named("pillion")?, place: Place::new()?, child: None };
        let inputs: String = paths
            .iter()
            .enumerate()
            .map(|(i, path)| {
                let path = path.display();
                format!("- type: filestream\n  id: input-{i}\n  paths: ['{path}']\n  prospector.scanner.check_interval: 1s\n{more}")
            })
            .collect();
        let out = ride.out();
        let text = format!("pillion.compat: 8\nfilebeat.inputs:\n{inputs}output.file:\n  path: '{}'\n", out.display());
        ride.place.configure(&text)?;
        ride.again(words)?;
        Ok(ride)
    }

    /// Starts it once more on the same data.
    pub(crate) fn again(&mut self, words: &[&str]) -> Outcome {
        let mut command: Command = self.shipper.command(&self.place);
        command.args(["--receipt".as_ref(), self.place.receipt().as_os_str()]).args(words);
        let starts = |ride: &Ride| ride.log().matches(STARTED).count();
        let before = starts(self);
        self.child = Some(Child::start(&mut command, &self.place.log())?);
        // What is told to end before it listens to signals ends by them.
        let listens = || Ok((starts(self) > before).then_some(()));
        wait::until("the start", SEEN, listens).map_err(|why| format!("{why}; {}", self.tail()))
    }

    fn out(&self) -> PathBuf {
        self.place.folder().join("out")
    }

    /// The lines that were delivered, in no order.
    pub(crate) fn arrived(&self) -> Outcome<Vec<String>> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.out()).into_iter().flatten().flatten() {
            let text = fs::read(entry.path()).map_err(|e| e.to_string())?;
            // The last one may be on its way, and end within a character.
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &text[..end]);
            let whole = std::str::from_utf8(whole).map_err(|e| e.to_string())?;
            for event in whole.lines() {
                let event: serde_json::Value = serde_json::from_str(event).map_err(|e| format!("{e}: {event}"))?;
                lines.push(event["message"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(lines)
    }

    /// Waits until so many different lines have arrived.
    pub(crate) fn until(&mut self, count: usize, limit: Duration) -> Outcome {
        let got = wait::until(&format!("{count} lines"), limit, || {
            if let Some(ended) = self.child.as_mut().map(Child::ended).transpose()?.flatten() {
                return Err(format!("it ended with {}", ended.status));
            }
            Ok((self.arrived()?.into_iter().collect::<HashSet<_>>().len() >= count).then_some(()))
        });
        got.map_err(|why| {
            format!("{why}; {} there; {}", self.arrived().map_or(0, |l| l.len()), tail(&self.place.log()))
        })
    }

    /// Waits until the log says something.
    pub(crate) fn until_said(&self, words: &str, limit: Duration) -> Outcome {
        let said = || Ok(self.log().contains(words).then_some(()));
        wait::until(&format!("the log's words {words:?}"), limit, said).map_err(|why| format!("{why}; {}", self.tail()))
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.log()).unwrap_or_default()
    }

    pub(crate) fn tail(&self) -> String {
        tail(&self.place.log())
    }

    /// Ends it by a signal, or waits for its end where something else is its cause; it ends with this code.
    pub(crate) fn end(&mut self, signal: Option<Signal>, code: i32) -> Outcome<Duration> {
        let mut child = self.child.take().ok_or("it isn't running")?;
        let begin = std::time::Instant::now();
        if let Some(signal) = signal {
            child.signal(signal);
        }
        let status = child.wait(END).map_err(|why| format!("{why}; {}", self.tail()))?.status;
        if status.code() == Some(code) {
            return Ok(begin.elapsed());
        }
        Err(format!("it ended with {status}, not {code}; {}", self.tail()))
    }

    /// Tells it to end, and waits for its last words: for how long, and not for the end itself.
    pub(crate) fn told_to_end(&self, words: &str, limit: Duration) -> Outcome<Duration> {
        let begin = std::time::Instant::now();
        self.child.as_ref().ok_or("it isn't running")?.signal(Signal::INT);
        self.until_said(words, limit)?;
        Ok(begin.elapsed())
    }

    /// Ends it, complete, and compares what was written with what arrived: each line once.
    pub(crate) fn finish(mut self, written: &[String]) -> Outcome {
        self.end(Some(Signal::INT), 0)?;
        self.compare(written)
    }

    /// Ends it, complete: nothing is lost, and at most so many lines came more than once. How many these are.
    pub(crate) fn finish_doubling(mut self, written: &[String], most: usize) -> Outcome<usize> {
        self.end(Some(Signal::INT), 0)?;
        let arrived = self.arrived()?;
        let counted = job::doubled(written, arrived.iter().map(String::as_str), most);
        counted.map_err(|why| format!("{why}; {}", self.tail()))
    }

    /// Compares what was written with what arrived: each line once.
    pub(crate) fn compare(&self, written: &[String]) -> Outcome {
        let arrived = self.arrived()?;
        job::compare(written, arrived.iter().map(String::as_str)).map_err(|why| format!("{why}; {}", self.tail()))
    }

    /// The receipt.
    pub(crate) fn receipt(&self) -> Outcome<String> {
        let path: &Path = &self.place.receipt();
        fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
    }
}
