//! Drain, options, bounds, and what is long or short.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use common::Rig;
use pillion_input::parse::{Chain, ChainOptions, Grouping, Match, Multiline, Parser, Pattern};
use pillion_input::{Budget, Hint, LossCause, Step};
use proptest::prelude::*;

const NONE: [&str; 0] = [];

fn multiline() -> Arc<Chain> {
    let pattern = Pattern::new("^ ").unwrap();
    let grouping = Grouping::Pattern { pattern, negate: false, matching: Match::After, flush: None };
    let parsers = vec![Parser::Multiline(Multiline::new(grouping))];
    Arc::new(Chain::new(ChainOptions { parsers, ..ChainOptions::default() }))
}

#[test]
fn the_drain_reads_everything_to_its_last_byte() {
    let mut rig = Rig::with(|spec| spec.chain = multiline());
    rig.append("a.log", "one\n two\nlast");
    rig.append("empty.log", "");
    assert_eq!(rig.settle(), NONE);
    assert!(!rig.harvester.drained());
    rig.append("new.log", "never seen\n");
    assert_eq!(rig.drain(), ["one\n two", "last", "never seen"]);
    let stats = rig.harvester.stats();
    assert_eq!((stats.unread, stats.tally.events, stats.tally.lines, stats.open), (0, 3, 4, 0));
}

#[test]
fn a_drain_at_once_is_once() {
    let mut rig = Rig::log();
    for i in 0..300 {
        rig.append(&format!("{i}.log"), format!("line {i}\n"));
    }
    assert_eq!(rig.drain().len(), 300);
}

#[test]
fn a_drain_of_deleted_and_quiet_files() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.append("b.log", "quiet\nunfinished");
    rig.settle();
    rig.append("a.log", "two\nhalf");
    rig.remove("a.log");
    let mut lines = rig.drain();
    lines.sort();
    assert_eq!(lines, ["half", "two", "unfinished"]);
}

/// Quiet files aren't taken up one by one when a drain begins: its search finds what has changed.
#[test]
fn a_drain_reads_what_came_to_files_that_are_closed() {
    let mut rig = Rig::log();
    for n in 0..200 {
        rig.append(&format!("{n}.log"), "one\n");
    }
    assert_eq!(rig.settle().len(), 200);
    rig.advance(Duration::from_secs(3600));
    rig.settle();
    assert_eq!(rig.harvester.stats().open, 0);
    rig.append("7.log", "two\nhalf");
    rig.rename("8.log", "8.log.1");
    rig.append("8.log", "new\n");
    rig.remove("9.log");
    let mut lines = rig.drain();
    lines.sort();
    assert_eq!(lines, ["half", "new", "two"]);
    assert_eq!((rig.harvester.stats().unread, rig.harvester.losses().len()), (0, 0));
}

#[test]
fn an_open_group_goes_out_after_its_timeout() {
    let mut rig = Rig::with(|spec| spec.chain = multiline());
    rig.append("a.log", "one\n two\n");
    assert_eq!(rig.settle(), NONE);
    rig.advance(Duration::from_secs(4));
    rig.append("a.log", " three\nunfin");
    assert_eq!(rig.settle(), NONE);
    rig.advance(Duration::from_secs(4));
    assert_eq!(rig.settle(), NONE);
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.settle(), ["one\n two\n three"]);
    rig.append("a.log", "ished\n");
    rig.search();
    rig.advance(Duration::from_secs(6));
    rig.settle();
    assert_eq!(rig.batches.last().unwrap().to, 27);
}

#[test]
fn old_files_and_tails() {
    let mut rig = Rig::with(|spec| spec.ignore_older = Some(Duration::from_secs(3600)));
    rig.append("old.log", "old\n");
    let old = std::time::SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::options().write(true).open(rig.path("old.log")).unwrap().set_modified(old).unwrap();
    rig.append("new.log", "new\n");
    assert_eq!(rig.settle(), ["new"]);
    rig.append("old.log", "appended\n");
    assert_eq!(rig.search(), ["appended"]);
    let mut rig = Rig::with(|spec| spec.ignore_before_first_start = true);
    rig.append("a.log", "new\n");
    rig.append("old.log", "older than the first start\n");
    let file = std::fs::File::options().write(true).open(rig.path("old.log")).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    rig.restart();
    assert_eq!(rig.settle(), ["new"]);
    let mut rig = Rig::with(|spec| spec.tail = true);
    rig.append("a.log", "before\n");
    assert_eq!(rig.settle(), NONE);
    rig.append("a.log", "after\n");
    assert_eq!(rig.search(), ["after"]);
}

#[test]
fn names_that_are_not_utf8_and_excluded_ones() {
    let mut rig = Rig::with(|spec| spec.exclude_files = vec![Pattern::new("skip").unwrap()]);
    rig.append("skip.log", "x\n");
    let name = OsStr::from_bytes(b"\xff\xfe.log");
    std::fs::write(rig.tmp.path().join("logs").join(name), "bytes\n").unwrap();
    assert_eq!(rig.settle(), ["bytes"]);
}

#[test]
fn lines_longer_than_a_chunk_and_than_max_bytes() {
    let mut rig = Rig::with(|spec| {
        spec.chain = Arc::new(Chain::new(ChainOptions { max_bytes: 3 << 20, ..ChainOptions::default() }));
    });
    let long = |n: usize, c: &str| c.repeat(n);
    rig.append("a.log", format!("{}\n{}\nshort\n", long(300_000, "a"), long(5 << 20, "b")));
    let lines = rig.settle();
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [300_000, 3 << 20, 5]);
    let unfinished = rig.path("a.log");
    for _ in 0..5 {
        rig.append("a.log", long(500_000, "c"));
        rig.harvester.hint(Hint::Path(unfinished.clone()));
        assert_eq!(rig.settle(), NONE);
    }
    rig.append("a.log", "\nend\n");
    rig.harvester.hint(Hint::Path(unfinished));
    assert_eq!(rig.settle().iter().map(String::len).collect::<Vec<_>>(), [2_500_000, 3]);
    let size = std::fs::metadata(rig.path("a.log")).unwrap().len();
    assert_eq!(rig.harvester.stats().tally.bytes, size);
}

#[test]
fn a_large_file_starves_no_small_one() {
    let mut rig = Rig::log();
    rig.append("big.log", "a line of the big file\n".repeat(200_000));
    for i in 0..50 {
        rig.append(&format!("small{i}.log"), "small\n");
    }
    rig.settle();
    let last_small = rig.batches.iter().rposition(|b| b.source.path.contains("small")).unwrap();
    let of_big = rig.batches[..last_small].iter().filter(|b| b.source.path.contains("big")).count();
    assert!(of_big <= 60 && rig.batches.len() - last_small > 10, "{of_big} of {}", rig.batches.len());
}

#[test]
fn nothing_is_read_without_space() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle_with(Budget { bytes: 0, events: 10 }), NONE);
    assert_eq!(rig.settle_with(Budget { bytes: 10, events: 0 }), NONE);
    assert_eq!(rig.settle_with(Budget { bytes: 1, events: 1 }), ["one"]);
}

#[test]
fn few_descriptors_are_enough_and_too_many_deleted_files_are_counted() {
    let mut rig = Rig::log();
    rig.limits.descriptors = 4;
    rig.limits.deleted = 2;
    rig.restart();
    for i in 0..20 {
        rig.append(&format!("{i}.log"), "one\n");
    }
    assert_eq!(rig.settle().len(), 20);
    assert!(rig.harvester.stats().open <= 4);
    for i in 0..20 {
        rig.append(&format!("{i}.log"), "two\n");
    }
    rig.advance(Duration::from_secs(10));
    rig.settle_with(Budget { bytes: 0, events: 0 });
    (0..20).for_each(|i| rig.remove(&format!("{i}.log")));
    rig.advance(Duration::from_secs(10));
    rig.settle_with(Budget { bytes: 0, events: 0 });
    let read = rig.settle().len();
    assert_eq!(read, 2);
    assert_eq!(rig.lost(), 18 * 4);
    assert!(rig.harvester.losses().iter().any(|l| l.cause == LossCause::TooManyDeleted));
    assert!(rig.harvester.losses().iter().any(|l| l.cause == LossCause::Deleted));
}

/// Ten thousand writers give hints that never end; files of which no hint tells are found all the same, and those that are gone
/// are forgotten.
#[test]
fn hints_that_never_end_leave_the_search_its_turn() {
    let mut rig = Rig::log();
    ["a.log", "b.log", "gone.log"].iter().for_each(|name| rig.append(name, "one\n"));
    assert_eq!(rig.settle().len(), 3);
    rig.ack();
    rig.append("untold.log", "two\n");
    rig.remove("gone.log");
    let mut lines = Vec::new();
    for _ in 0..3 {
        rig.advance(Duration::from_secs(10));
        for step in 0..400 {
            // One is followed and another comes: there is always one that waits, and now and then something to read.
            ["a.log", "b.log"].iter().for_each(|name| rig.harvester.hint(Hint::Path(rig.path(name))));
            if step % 50 == 0 {
                rig.append("a.log", "more\n");
            }
            if let Step::Batch(batch) = rig.harvester.step(Budget::UNLIMITED) {
                lines.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
                rig.batches.push(batch);
            }
        }
        rig.ack();
    }
    let found = lines.iter().filter(|line| *line == "two").count();
    assert_eq!((found, rig.harvester.stats().files, rig.lost()), (1, 3, 0), "{lines:?}");
    assert!(lines.len() > 3, "hints have their turn, too: {lines:?}");
}

/// Files that come and are read once don't take the descriptors of those that are written all the time.
#[test]
fn files_that_are_written_all_the_time_stay_open() {
    let mut rig = Rig::log();
    rig.limits.descriptors = 8;
    rig.restart();
    let written = |rig: &mut Rig| {
        (0..4).for_each(|i| rig.append(&format!("w{i}.log"), "more\n"));
        (0..4).for_each(|i| rig.harvester.hint(Hint::Path(rig.path(&format!("w{i}.log")))));
        assert_eq!(rig.settle().len(), 4);
    };
    rig.search();
    written(&mut rig);
    written(&mut rig);
    let before = rig.harvester.standing().opened;
    for n in 0..20 {
        rig.append(&format!("{n}.log"), "one\n");
        rig.harvester.hint(Hint::Path(rig.path(&format!("{n}.log"))));
        assert_eq!(rig.settle(), ["one"]);
        written(&mut rig);
    }
    assert_eq!(rig.harvester.standing().opened - before, 20, "each new file once, no other one again");
    assert_eq!(rig.harvester.stats().open, 8);
}

#[test]
fn an_unreadable_file_is_tried_again() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    std::fs::create_dir(rig.path("sub")).unwrap();
    // The root user may read everything: a link into nothing is as unreadable as can be for both.
    std::os::unix::fs::symlink("nowhere", rig.path("b.log")).unwrap();
    assert_eq!(rig.settle(), ["one"]);
    rig.remove("b.log");
    rig.append("b.log", "two\n");
    assert_eq!(rig.search(), ["two"]);
}

#[derive(Clone, Debug)]
enum Op {
    Append(u8, u16),
    Rotate(u8),
    Remove(u8),
    Look,
    Hint(u8),
    Search,
    Restart,
    Ack,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..3u8, 1..60u16).prop_map(|(f, n)| Op::Append(f, n)),
        1 => (0..3u8).prop_map(Op::Rotate),
        1 => (0..3u8).prop_map(Op::Remove),
        3 => Just(Op::Look),
        2 => (0..3u8).prop_map(Op::Hint),
        3 => Just(Op::Search),
        1 => Just(Op::Restart),
        2 => Just(Op::Ack),
    ];
    proptest::collection::vec(op, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the files, each line that was in one at a search is read exactly once in a life without
    /// restarts, and at least once with them; nothing is counted as lost that wasn't.
    #[test]
    fn every_line_is_read(ops in ops(), fingerprint in any::<bool>()) {
        let mut rig = if fingerprint { Rig::fingerprint(true) } else { Rig::log() };
        let (mut written, mut read, mut next, mut restarted) = (Vec::new(), Vec::new(), 0, false);
        for op in ops {
            match op {
                Op::Append(f, n) => {
                    let lines: Vec<_> = (next..next + usize::from(n)).map(|i| format!("line {i}")).collect();
                    next += usize::from(n);
                    rig.append(&format!("{f}.log"), lines.join("\n") + "\n");
                    written.extend(lines);
                }
                Op::Rotate(f) => {
                    let (from, to) = (format!("{f}.log"), format!("{f}.log.{next}"));
                    if rig.path(&from).exists() {
                        rig.rename(&from, &to);
                        next += 1;
                    }
                }
                Op::Remove(f) => {
                    // Only what has been seen can be saved from deletion.
                    read.extend(rig.search());
                    if rig.path(&format!("{f}.log")).exists() {
                        rig.remove(&format!("{f}.log"));
                        rig.ack();
                    }
                }
                Op::Look => {
                    rig.advance(Duration::from_secs(1));
                    read.extend(rig.settle());
                }
                Op::Hint(f) => {
                    rig.harvester.hint(Hint::Path(rig.path(&format!("{f}.log"))));
                    read.extend(rig.settle());
                }
                Op::Search => read.extend(rig.search()),
                Op::Restart => {
                    restarted = true;
                    rig.restart();
                }
                Op::Ack => rig.ack(),
            }
        }
        read.extend(rig.drain());
        prop_assert_eq!(rig.lost(), 0);
        written.sort();
        read.sort();
        if restarted {
            read.dedup();
        }
        prop_assert_eq!(read, written);
    }
}
