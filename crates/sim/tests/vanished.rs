//! Entries of files that vanished between two runs: a crash at every step of the file system, and the next run.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

#[path = "common/reading.rs"]
mod reading;

use std::path::Path;
use std::time::Duration;

use pillion_input::Identity;
use pillion_registry::{Options, Registry};
use pillion_sim::world::{Crash, SimWorld};

/// What becomes of the file between the runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Vanishes,
    /// Another file gets its inode; births are told, or aren't.
    GivesItsInode {
        births: bool,
    },
    IsRenamed,
}

/// Reads and acknowledges until a crash or for two minutes; which lines the target got.
fn run(sim: &SimWorld, identity: &Identity) -> Vec<String> {
    let identity = identity.clone();
    reading::run(sim, 120, |spec| spec.identity = identity, |registry| drop(registry.sync()))
}

/// The paths that the registry knows.
fn known(sim: &SimWorld) -> Vec<String> {
    let (registry, _) = Registry::open(&sim.world(), Path::new("/data"), &Options::default()).unwrap();
    let mut known: Vec<String> = registry.entries().iter().map(|entry| entry.source.to_string()).collect();
    known.sort();
    known
}

/// A run has read `a.log` and `b.log`; then the former has its fate, and two hours pass.
fn after_a_run(seed: u64, identity: &Identity, fate: Fate) -> SimWorld {
    let sim = SimWorld::new(seed);
    let world = sim.world();
    for dir in ["/logs", "/data"] {
        sim.app().create_dir_all(dir).unwrap();
    }
    if fate == (Fate::GivesItsInode { births: false }) {
        sim.hide_births();
    }
    for name in ["a", "b"] {
        sim.app().append(format!("/logs/{name}.log"), format!("{name} one\n{name} two\n").as_bytes()).unwrap();
    }
    for dir in ["/", "/logs", "/data"] {
        world.fs.sync_dir(Path::new(dir)).unwrap();
    }
    assert_eq!(run(&sim, identity).len(), 4);
    match fate {
        Fate::Vanishes => sim.app().delete("/logs/a.log").unwrap(),
        Fate::GivesItsInode { .. } => {
            let ino = sim.app().meta("/logs/a.log").unwrap().ino;
            sim.app().delete("/logs/a.log").unwrap();
            let made = (0..100).map(|n| format!("/{n}")).find(|path| {
                sim.app().append(path, b"c one\nc two\nc three\n").unwrap();
                sim.app().meta(path).unwrap().ino == ino
            });
            sim.app().rename(made.unwrap(), "/logs/c.log").unwrap();
        }
        Fate::IsRenamed => sim.app().rename("/logs/a.log", "/logs/c.log").unwrap(),
    }
    sim.advance(Duration::from_secs(2 * 3600));
    sim
}

#[test]
fn a_crash_at_every_step_loses_nothing_and_the_next_run_forgets_what_is_gone() {
    let fingerprint = Identity::Fingerprint { offset: 0, length: 64, growing: true };
    let fates =
        [Fate::Vanishes, Fate::GivesItsInode { births: true }, Fate::GivesItsInode { births: false }, Fate::IsRenamed];
    let all = fates.into_iter().flat_map(|fate| [(Identity::Native, fate), (fingerprint.clone(), fate)]);
    for ((identity, fate), how) in all.flat_map(|case| [(case.clone(), Crash::Process), (case, Crash::Machine)]) {
        for step in 1.. {
            let what = format!("{identity:?}, {fate:?}, {how:?} at {step}");
            let sim = after_a_run(step, &identity, fate);
            sim.crash_at(sim.steps() + step, how);
            let mut lines = run(&sim, &identity);
            let crashed = sim.crashed();
            sim.no_crash();
            sim.restart();
            lines.extend(run(&sim, &identity));
            lines.sort();
            lines.dedup();
            let (read, there): (&[&str], &[&str]) = match fate {
                Fate::Vanishes => (&[], &["/logs/b.log"]),
                Fate::GivesItsInode { .. } => (&["c one", "c three", "c two"], &["/logs/b.log", "/logs/c.log"]),
                Fate::IsRenamed => (&[], &["/logs/b.log", "/logs/c.log"]),
            };
            assert_eq!(lines, read, "{what}");
            sim.restart();
            assert_eq!(known(&sim), there, "{what}");
            if !crashed {
                break;
            }
        }
    }
}
