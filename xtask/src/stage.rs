//! A run of the executable in a suite for one output: lines in files, a configuration, an end.
//!
//! Comes in: the output's section. Goes out: how it ended, and its receipt. Always holds: every wait has a limit; a stage
//! that failed keeps its folder and says where.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::child::{self, Child};
use crate::peer::tail;
use crate::shipper::{Place, Shipper, input};
use crate::{Outcome, job, wait};

/// How long anything may take: far more than a loaded machine needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A place with lines to ship, and the program that ships them.
pub(crate) struct Stage<'a> {
    shipper: &'a Shipper,
    /// Its folder.
    pub(crate) place: Place,
    /// What has been written so far.
    pub(crate) lines: Vec<String>,
}

/// Runs a case in a place of its own.
pub(crate) fn at(shipper: &Shipper, run: impl FnOnce(&mut Stage<'_>) -> Outcome<String>) -> Outcome<String> {
    let mut stage = Stage { shipper, place: Place::in_memory()?, lines: Vec::new() };
    let outcome = run(&mut stage);
    outcome.map_err(|why| format!("{why}; {}; its place: {}", tail(&stage.place.log()), stage.place.keep().display()))
}

impl Stage<'_> {
    /// Writes more lines, to four files in turn.
    pub(crate) fn write(&mut self, n: usize) -> Outcome {
        let from = self.lines.len();
        let new = job::lines(from, from + n, 120);
        for (i, part) in new.chunks(n.div_ceil(4)).enumerate() {
            job::append(&self.place.logs().join(format!("{i}.log")), part)?;
        }
        self.lines.extend(new);
        Ok(())
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.place.folder().join(name).display().to_string()
    }

    /// Writes the configuration; `output` is the section's text.
    pub(crate) fn configure(&self, output: &str) -> Outcome {
        let input = input(&self.place, "filestream");
        self.place.configure(&format!("{input}{output}pillion.exactly_once: true\n"))
    }

    /// Starts a run that ends at the end of the files.
    pub(crate) fn once(&self) -> Outcome<Child> {
        self.start(&["--once"])
    }

    /// Starts a run that ends at [`Stage::flag`].
    pub(crate) fn follow(&self) -> Outcome<Child> {
        self.start(&["--until", &self.place.flag().display().to_string()])
    }

    fn start(&self, more: &[&str]) -> Outcome<Child> {
        let mut command = self.shipper.command(&self.place);
        command.args(["--receipt".as_ref(), self.place.receipt().as_os_str()]);
        Child::start(command.args(more), &self.place.log())
    }

    /// The work has ended.
    pub(crate) fn flag(&self) -> Outcome {
        fs::write(self.place.flag(), "0").map_err(|e| e.to_string())
    }

    /// What all runs have said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.log()).unwrap_or_default()
    }

    /// Waits for a complete end, with a receipt that says so of all lines.
    pub(crate) fn complete(&self, child: Child) -> Outcome {
        let receipt = self.ended(child, 0)?;
        let totals = &receipt["totals"];
        let all = totals["acknowledged"].as_u64().unwrap_or(0) > 0 && totals["unacknowledged"] == 0;
        if receipt["verdict"] == "complete" && all { Ok(()) } else { Err(format!("the receipt: {receipt}")) }
    }

    /// Runs until the log says this reason, then ends the run at once: an incomplete end, with a receipt that names the
    /// reason. Returns what that says.
    pub(crate) fn refused(&self, reason: &str) -> Outcome<String> {
        let before = self.log().len();
        let mut child = self.once()?;
        wait::until("the reason in the log", LIMIT, || {
            if let Some(ended) = child.ended()? {
                return Err(format!("Pillion ended with {} before it said {reason}", ended.status));
            }
            Ok(self.log().get(before..).is_some_and(|new| new.contains(reason)).then_some(()))
        })?;
        wait::until("the end", LIMIT, || {
            // The second one doesn't wait for anything.
            child.signal(Signal::INT);
            Ok(child.ended()?.map(drop))
        })?;
        let receipt = self.ended(child, 3)?;
        let error = receipt["target_error"].as_str().unwrap_or_default();
        if receipt["verdict"] == "incomplete" && error.contains(reason) {
            return Ok(error.to_owned());
        }
        Err(format!("the receipt doesn't say {reason}: {receipt}"))
    }

    fn ended(&self, mut child: Child, code: i32) -> Outcome<Value> {
        let status = child.wait(LIMIT)?.status;
        if status.code() != Some(code) {
            return Err(format!("Pillion ended with {status}, not {code}"));
        }
        let receipt = fs::read(self.place.receipt()).map_err(|e| format!("the receipt: {e}"))?;
        serde_json::from_slice(&receipt).map_err(|e| format!("the receipt: {e}"))
    }

    /// What `test output` says, good or bad.
    pub(crate) fn test_output(&self) -> String {
        let config = self.place.config();
        let mut command = Command::new(&self.shipper.path);
        command.args(["test", "output", "--strict.perms=false", "-c"]).arg(config);
        child::run(&mut command).unwrap_or_else(|said| said)
    }

    /// Compares what has arrived (an event a line) with what was written; returns how many came again, with their id.
    pub(crate) fn compare(&self, ndjson: &str) -> Outcome<usize> {
        let (mut by_id, mut again) = (HashMap::new(), 0);
        for line in ndjson.lines() {
            let event: Value = serde_json::from_str(line).map_err(|e| format!("{e} in {line:.80}"))?;
            let id = event["@metadata"]["_id"].as_str().ok_or("an event without an id")?.to_owned();
            let told = (event["message"].clone(), event["@timestamp"].clone());
            match by_id.insert(id, told.clone()) {
                Some(old) if old != told => return Err(format!("two events with one id: {old:?} and {told:?}")),
                Some(_) => again += 1,
                None => {}
            }
        }
        job::compare(&self.lines, by_id.values().map(|(message, _)| message.as_str().unwrap_or_default()))?;
        Ok(again)
    }
}
