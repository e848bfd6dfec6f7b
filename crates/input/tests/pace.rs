//! A file that is written to all the time is read less often the more there are of them (`src/harvest/pace.rs`).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::time::Duration;

use common::Rig;
use pillion_input::Hint;

const NONE: [&str; 0] = [];

fn hinted(rig: &mut Rig, name: &str, text: &str) -> Vec<String> {
    rig.append(name, text);
    rig.harvester.hint(Hint::Path(rig.path(name)));
    rig.settle()
}

/// Two thousand files were just read, and some of them again.
fn busy() -> Rig {
    let mut rig = Rig::log();
    for n in 0..2000 {
        rig.append(&format!("{n}.log"), "one\n");
    }
    assert_eq!(rig.settle().len(), 2000);
    rig.advance(Duration::from_secs(1));
    assert_eq!(hinted(&mut rig, "7.log", "two\n"), ["two"], "it has rested");
    rig
}

#[test]
fn lines_gather_while_a_file_rests() {
    let mut rig = busy();
    assert_eq!(hinted(&mut rig, "7.log", "three\n"), NONE);
    assert_eq!(hinted(&mut rig, "7.log", "four\n"), NONE);
    assert_eq!(hinted(&mut rig, "8.log", "other\n"), ["other"], "another file");
    assert_eq!(hinted(&mut rig, "new.log", "first\n"), ["first"], "a new file");
    rig.advance(Duration::from_millis(400));
    assert_eq!(rig.settle(), ["three", "four"]);
    rig.advance(Duration::from_secs(5));
    assert_eq!(hinted(&mut rig, "7.log", "five\n"), ["five"]);
    assert_eq!(hinted(&mut rig, "7.log", "six\n"), ["six"], "nothing rests when little is read");
}

#[test]
fn a_rotation_and_a_drain_lose_nothing_by_it() {
    let mut rig = busy();
    rig.append("7.log", "three\n");
    rig.rename("7.log", "7.log.1");
    rig.append("7.log", "four\n");
    for name in ["7.log", "7.log.1", "7.log"] {
        rig.harvester.hint(Hint::Path(rig.path(name)));
    }
    let mut lines = rig.settle();
    rig.append("7.log.1", "late\n");
    rig.harvester.hint(Hint::Path(rig.path("7.log.1")));
    lines.extend(rig.settle());
    lines.extend(rig.drain());
    lines.sort();
    assert_eq!(lines, ["four", "late", "three"]);
    assert_eq!(rig.lost(), 0);
}
