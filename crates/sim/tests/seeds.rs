//! Many seeds, and every planted defect until it is found.
//!
//! `PILLION_SEED=n` replays one; `PILLION_SEEDS=n` runs that many (default 200; continuous integration runs 10,000).

use pillion_sim::run::{Defect, Plan, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, steps: 1000, crashes: 3, exactly_once: seed % 3 != 0, faults: seed % 5 < 2, defect: None }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

#[test]
fn every_line_arrives_whatever_crashes() {
    if let Some(seed) = number("PILLION_SEED") {
        println!("{:?}", run(plan(seed)).unwrap_or_else(|failure| panic!("{failure}")));
        return;
    }
    let seeds = number("PILLION_SEEDS").unwrap_or(200);
    let (mut lines, mut crashes, mut duplicates) = (0, 0, 0);
    for seed in 0..seeds {
        let report = run(plan(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.crashes >= 3, "seed {seed}: {report:?}");
        lines += report.lines;
        crashes += report.crashes;
        duplicates += report.duplicates;
    }
    println!("{seeds} seeds: {lines} lines, {crashes} crashes, {duplicates} events sent again and recognised");
    assert!(duplicates > 0, "nothing was ever sent twice: the simulation shows nothing");
}

#[test]
fn every_planted_defect_is_found() {
    for defect in Defect::ALL {
        let found = (0..300).find_map(|seed| {
            let plan = Plan { exactly_once: true, defect: Some(defect), ..plan(seed) };
            run(plan).err().map(|failure| (seed, failure.what))
        });
        let (seed, what) = found.unwrap_or_else(|| panic!("{defect:?} was never found"));
        println!("{defect:?}: found by seed {seed}: {what}");
    }
}
