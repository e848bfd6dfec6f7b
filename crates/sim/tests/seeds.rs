//! Many seeds, and every planted defect until it is found.
//!
//! `PILLION_SEED=n` replays one and tells every step; `PILLION_SEEDS=n` runs that many (continuous integration: 10,000).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken promise fails the test"
)]
#![allow(clippy::disallowed_methods, reason = "how long it really takes is told")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use pillion_sim::run::{Defect, Failure, Habits, Inputs, Plan, Report, run};

/// Seeds of an ordinary `cargo test`: a few seconds without optimisation.
const FEW: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

/// The plan of a seed, but for what the environment asks for: `PILLION_NETWORK=0|1`, and so `PILLION_FAULTS`, `PILLION_DISK`,
/// `PILLION_ABSENCES`, `PILLION_RELOADS`, `PILLION_DELETES`, `PILLION_WATCHED`, `PILLION_RENAMES`; `PILLION_INPUTS=0..3` in the order of [`Inputs`].
fn plan(seed: u64) -> Plan {
    let plan = Plan::of(seed);
    let asked = |name, of_seed| number(name).map_or(of_seed, |n| n != 0);
    Plan {
        network: asked("PILLION_NETWORK", plan.network),
        faults: asked("PILLION_FAULTS", plan.faults),
        disk: asked("PILLION_DISK", plan.disk),
        absences: asked("PILLION_ABSENCES", plan.absences),
        reloads: asked("PILLION_RELOADS", plan.reloads),
        deletes: asked("PILLION_DELETES", plan.deletes),
        watched: asked("PILLION_WATCHED", plan.watched),
        inputs: match number("PILLION_INPUTS") {
            None => plan.inputs,
            Some(0) => Inputs::One,
            Some(1) => Inputs::Two,
            Some(2) => Inputs::Both,
            Some(_) => Inputs::Split,
        },
        habits: Habits { renames: asked("PILLION_RENAMES", plan.habits.renames), ..plan.habits },
        ..plan
    }
}

/// Runs plans on all processors, in the order of their seeds as far as it goes.
fn all(seeds: u64, plan: impl Fn(u64) -> Plan + Sync, each: impl Fn(Result<Report, Failure>) + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    each(run(plan(seed)));
                }
            });
        }
    });
}

#[test]
fn every_line_arrives_whatever_crashes() {
    if let Some(seed) = number("PILLION_SEED") {
        common::print_steps();
        println!("{:?}", run(plan(seed)).unwrap_or_else(|failure| panic!("{failure}")));
        return;
    }
    let seeds = number("PILLION_SEEDS").unwrap_or(FEW);
    let [lines, steps, crashes, duplicates] = [const { AtomicU64::new(0) }; 4];
    let begin = std::time::Instant::now();
    let failures = std::sync::Mutex::new(Vec::new());
    all(seeds, plan, |outcome| match outcome {
        Ok(report) => {
            assert!(report.crashes >= 3, "{report:?}");
            lines.fetch_add(report.lines, Ordering::Relaxed);
            steps.fetch_add(report.fs_steps, Ordering::Relaxed);
            crashes.fetch_add(report.crashes.into(), Ordering::Relaxed);
            duplicates.fetch_add(report.duplicates, Ordering::Relaxed);
        }
        Err(failure) => failures.lock().unwrap().push(failure),
    });
    let [lines, steps, crashes, duplicates] = [lines, steps, crashes, duplicates].map(AtomicU64::into_inner);
    println!(
        "{seeds} seeds in {:?}: {lines} lines, {steps} steps of the file system, {crashes} crashes, {duplicates} events \
         sent again and recognised",
        begin.elapsed()
    );
    let failures = failures.into_inner().unwrap();
    for failure in failures.iter().take(20) {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds broke a promise", failures.len());
    assert!(duplicates > 0, "nothing was ever sent twice: the simulation shows nothing");
}

#[test]
fn every_planted_defect_is_found() {
    for defect in Defect::ALL {
        let plan = |seed| match Plan::of(seed) {
            of if defect.needs_network() => Plan { exactly_once: true, network: true, faults: true, ..of },
            of => Plan { exactly_once: true, ..of },
        };
        let found = (0..300).find_map(|seed| {
            let broken = run(Plan { defect: Some(defect), ..plan(seed) });
            broken.err().map(|failure| (seed, failure.what))
        });
        let (seed, what) = found.unwrap_or_else(|| panic!("{defect:?} was never found"));
        println!("{defect:?}: found by seed {seed}: {what}");
        run(plan(seed)).unwrap_or_else(|failure| panic!("without {defect:?}, too: {failure}"));
    }
}

#[test]
fn a_file_that_is_deleted_too_early_is_found() {
    let plan = |seed| Plan { inputs: Inputs::One, deletes: true, ..Plan::of(seed) };
    let found = (0..300).find_map(|seed| {
        let broken = run(Plan { defect: Some(Defect::CommitBeforeAck), ..plan(seed) });
        broken.err().filter(|failure| failure.what.contains("deleted before it arrived")).map(|_| seed)
    });
    let seed = found.unwrap_or_else(|| panic!("never found"));
    run(plan(seed)).unwrap_or_else(|failure| panic!("without the defect, too: {failure}"));
}
