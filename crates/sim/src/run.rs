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
//! What must hold (the promises of the design):
//! - P1: every line that wasn't destroyed by the application has arrived, and nothing has arrived that wasn't written.
//! - P2 (`exactly_once`): every line has arrived once; one id never had two contents; nothing was refused as there
//!   already.
//! - P3: the drain ends, and a start after it has nothing to send.
//! - Nothing is deleted (`delete.*`) before all of it has arrived.
//! - P4: the accounts add up; what the process had seen of a file and couldn't read any more is a loss in them; where
//!   nothing was destroyed, there is none.
//!
//! [`Defect`]s break the core on purpose, to show that the simulation finds what it is there to find.
//!
//! | where | what |
//! |---|---|
//! | `application.rs` | who writes the logs |
//! | `inputs.rs` | what it reads, and how that changes |
//! | `process.rs` | the core |
//! | `target.rs` | the output's worker and the target |
//! | `stage.rs` | all of them around one machine, and the steps each can take |
//! | `driver.rs`, `script.rs` | which step is next: at random, or as written |
//! | `promises.rs` | what must hold at the end |
//! | `defect.rs` | what is broken on purpose |
//!
//! Tested by `tests/seeds.rs` (many seeds, and every defect until it is found) and `tests/scenarios.rs`.

mod application;
mod defect;
mod driver;
mod inputs;
mod process;
mod promises;
mod script;
mod stage;
mod target;

pub use defect::Defect;
pub use driver::run;
pub use script::{Act, play};

use std::fmt;

/// What tells files apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Inode and device.
    Native,
    /// A growing hash of their first 64 bytes.
    Fingerprint,
}

/// Which inputs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inputs {
    /// A filestream that reads all.
    #[default]
    One,
    /// Two `log` inputs of the same registry keys, one for live files and one for rotated ones: names wander between them.
    Two,
    /// A `log` input and a filestream, each of which reads all.
    Both,
    /// A `log` input for live files and a filestream for rotated ones: what wanders is another's then, which begins with it.
    Split,
}

/// What the application does, and doesn't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// It destroys nothing.
    pub gentle: bool,
    /// All its lines are equally long.
    pub fixed_lines: bool,
    /// Its events have several lines.
    pub groups: bool,
    /// It renames rotated files, too: on, so that names are used again, and back to what looks like a live one.
    pub renames: bool,
}

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All that is random follows from it.
    pub seed: u64,
    /// Steps before the drain begins.
    pub steps: u32,
    /// Crashes before the drain ends, at least; the last ones fall into the drain.
    pub crashes: u32,
    /// Whether events have ids.
    pub exactly_once: bool,
    /// What tells files apart.
    pub identity: Identity,
    /// What the application does.
    pub habits: Habits,
    /// Whether calls fail now and then, and, on a network file system, sizes, names and listings lie.
    pub faults: bool,
    /// Whether the logs lie on a network file system.
    pub network: bool,
    /// Whether there is a disk queue.
    pub disk: bool,
    /// Whether the wall clock passes midnight in the midst of it.
    pub midnight: bool,
    /// Whether hours or days pass between a crash and the next process, in which the application goes on.
    pub absences: bool,
    /// Which inputs there are.
    pub inputs: Inputs,
    /// Whether inputs go, come and are replaced meanwhile.
    pub reloads: bool,
    /// Whether filestreams delete what is delivered.
    pub deletes: bool,
    /// Whether local folders are watched, by a watch that doesn't tell everything.
    pub watched: bool,
    /// What is broken on purpose.
    pub defect: Option<Defect>,
}

impl Plan {
    /// Nothing goes wrong, nothing is random but what follows from the seed.
    pub fn calm(seed: u64) -> Plan {
        Plan {
            seed,
            steps: 0,
            crashes: 0,
            exactly_once: false,
            identity: Identity::Native,
            habits: Habits::default(),
            faults: false,
            network: false,
            disk: false,
            midnight: false,
            absences: false,
            inputs: Inputs::One,
            reloads: false,
            deletes: false,
            watched: false,
            defect: None,
        }
    }

    /// The plan of a seed: a thousand steps, three crashes, and the rest as its bits say. Every third one's logs lie on a
    /// network file system, and about as many have a disk queue, or delete what is delivered; half of them have one input,
    /// and half of them change the configuration.
    pub fn of(seed: u64) -> Plan {
        let bits = crate::world::Rng::new(seed ^ 0x91a7).draw();
        let one_in = |n: u64, shift: u32| (bits >> shift).is_multiple_of(n);
        Plan {
            seed,
            steps: 1000,
            crashes: 3,
            exactly_once: !one_in(4, 0),
            identity: if one_in(2, 2) { Identity::Native } else { Identity::Fingerprint },
            habits: Habits {
                gentle: one_in(4, 3),
                fixed_lines: one_in(4, 5),
                groups: one_in(4, 7),
                renames: one_in(2, 31),
            },
            faults: one_in(2, 9),
            network: seed % 3 == 2,
            disk: one_in(3, 15),
            midnight: one_in(2, 12),
            absences: one_in(3, 32),
            inputs: match bits >> 18 & 7 {
                0 | 1 => Inputs::Two,
                2 => Inputs::Both,
                3 => Inputs::Split,
                _ => Inputs::One,
            },
            reloads: one_in(2, 21),
            deletes: one_in(3, 23),
            watched: one_in(2, 29),
            defect: None,
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines written by the application.
    pub lines: u64,
    /// Lines that the application destroyed, whether they had arrived before or not.
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        write!(f, "replay: PILLION_SEED={} with {:?}", self.plan.seed, self.plan)
    }
}
