//! The core in the simulated world: harvester, ledger, registry and queue, the very objects of the real program, with an
//! application that writes logs and a target that answers as it likes.
//!
//! Comes in: a [`Plan`] (a seed and what may go wrong). Goes out: [`Report`], or the [`Failure`] of the first promise that
//! was broken, with what replays it.
//!
//! One run: the application writes, rotates, truncates and deletes; the process reads, sends and commits, one small step
//! of one of them at a time; now and then the process or the machine crashes in the middle of a step, and a new process
//! goes on. Then the application stops, and the process drains.
//!
//! What must hold at the end (the promises of the design):
//! - P1: every line that wasn't destroyed by the application has arrived.
//! - P2 (`exactly_once`): every line has arrived once; one id never had two contents; nothing was settled as "there
//!   already" that wasn't there.
//! - P3: the drain ends.
//! - P4: nothing is reported as dropped that arrived, and a destroyed line that didn't arrive has a loss in the accounts.
//!
//! [`Defect`]s break the core on purpose, to show that the simulation finds what it is there to find.
//! Tested by `tests/seeds.rs`, which runs many seeds, and every defect until it is found.

mod application;
mod defect;
mod driver;
mod process;
mod target;

pub use defect::Defect;
pub use driver::run;

use std::fmt;

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Steps before the drain begins.
    pub steps: u32,
    /// Crashes before the drain ends, at least; the last ones fall into the drain.
    pub crashes: u32,
    /// Whether events have ids.
    pub exactly_once: bool,
    /// Whether files and disk have faults, and stats lie.
    pub faults: bool,
    /// What is broken on purpose.
    pub defect: Option<Defect>,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines written by the application.
    pub lines: u64,
    /// Lines that the application destroyed before they arrived.
    pub destroyed: u64,
    /// Crashes.
    pub crashes: u32,
    /// Events that arrived, repeated ones counted.
    pub arrived: u64,
    /// Events that the target had already.
    pub duplicates: u64,
    /// Steps of the file system.
    pub fs_steps: u64,
}

/// A broken promise.
#[derive(Debug)]
pub struct Failure {
    /// The plan that replays it.
    pub plan: Plan,
    /// What was broken.
    pub what: String,
    /// The last steps of the file system.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "replay: PILLION_SEED={} with {:?}", self.plan.seed, self.plan)?;
        f.write_str(&self.trace)
    }
}
