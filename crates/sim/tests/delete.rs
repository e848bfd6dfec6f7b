//! Delivered files that are deleted: a crash at every step of the file system, and the next run.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::panic, reason = "a failing call is a failing test")]

#[path = "common/reading.rs"]
mod reading;

use std::path::Path;
use std::time::Duration;

use pillion_input::InputSpec;
use pillion_sim::world::{Crash, SimWorld};

const SOURCE: &str = "/logs/a.log";
const ASIDE: &str = "/logs/.pillion-leaving";
const TEXT: &[u8] = b"one\ntwo\n";

/// A file that is durable, and the folder of a registry.
fn written(seed: u64) -> SimWorld {
    let sim = SimWorld::new(seed);
    let world = sim.world();
    for dir in ["/logs", "/data"] {
        sim.app().create_dir_all(dir).unwrap();
    }
    sim.app().append(SOURCE, TEXT).unwrap();
    for dir in ["/", "/logs", "/data"] {
        world.fs.sync_dir(Path::new(dir)).unwrap();
    }
    world.fs.open(Path::new(SOURCE), pillion_world::OpenHow::Append(0o600)).unwrap().sync().unwrap();
    sim
}

/// Reads, acknowledges and deletes until a crash or for a while; which lines the target got.
fn run(sim: &SimWorld) -> Vec<String> {
    let set = |spec: &mut InputSpec| (spec.close.eof, spec.delete_after) = (true, Some(Duration::from_secs(5)));
    reading::run(sim, 60, set, |_| ())
}

#[test]
fn a_crash_at_every_step_loses_nothing_and_the_next_run_deletes_the_file() {
    for how in [Crash::Process, Crash::Machine] {
        for step in 1.. {
            let what = format!("{how:?} at {step}");
            let sim = written(step);
            sim.crash_at(sim.steps() + step, how);
            let mut lines = run(&sim);
            let crashed = sim.crashed();
            sim.no_crash();
            if crashed {
                sim.restart();
            }
            let aside = sim.app().list(ASIDE).unwrap_or_default();
            for path in aside.iter().map(|name| format!("{ASIDE}/{name}")).chain([SOURCE.to_owned()]) {
                let content = sim.app().read(&path).unwrap_or_else(|_| TEXT.to_vec());
                assert_eq!(content, TEXT, "{what}: {path}");
            }
            lines.extend(run(&sim));
            assert!(["one", "two"].iter().all(|line| lines.iter().any(|l| l == line)), "{what}: {lines:?}");
            assert!(sim.app().read(SOURCE).is_err(), "{what}: it stays");
            assert!(sim.app().list(ASIDE).unwrap_or_default().is_empty(), "{what}: it is left aside");
            if !crashed {
                assert!(step > 15, "{what}");
                break;
            }
        }
    }
}
