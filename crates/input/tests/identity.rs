//! Restarts, resends, and which registry entry a file goes on with.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::Rig;
use pillion_event::Guard;
use pillion_input::Identity;
use pillion_input::parse::{Chain, ChainOptions, Pattern};
use pillion_registry::Intent;

const NONE: [&str; 0] = [];

#[test]
fn a_restart_goes_on_behind_what_was_acknowledged() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\ntwo\n");
    assert_eq!(rig.settle(), ["one", "two"]);
    rig.ack();
    rig.append("a.log", "three\n");
    assert_eq!(rig.search(), ["three"]);
    let life = rig.batches[0].source.incarnation;
    rig.restart();
    assert_eq!(rig.settle(), ["three"]);
    assert_eq!(rig.batches[0].source.incarnation, life);
    assert!(!rig.batches[0].replayed);
}

#[test]
fn a_file_that_was_renamed_or_truncated_meanwhile() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.append("b.log", "a long line\n");
    rig.settle();
    rig.ack();
    rig.rename("a.log", "a.log.1");
    rig.append("a.log.1", "two\n");
    rig.truncate("b.log", 0);
    rig.append("b.log", "new\n");
    rig.restart();
    let mut lines = rig.settle();
    lines.sort();
    assert_eq!(lines, ["new", "two"]);
}

#[test]
fn what_happens_to_files_is_counted() {
    let mut rig = Rig::log();
    for name in ["a.log", "b.log", "c.log"] {
        rig.append(name, "one long line\n");
    }
    assert_eq!(rig.search().len(), 3);
    rig.ack();
    let told = |rig: &Rig| {
        let standing = rig.harvester.standing();
        (standing.renamed, standing.truncated, standing.forgotten)
    };
    assert_eq!(told(&rig), (0, 0, 0));
    rig.rename("a.log", "a.log.1");
    rig.truncate("b.log", 0);
    rig.append("b.log", "new\n");
    rig.remove("c.log");
    for _ in 0..5 {
        rig.search();
        rig.ack();
        rig.advance(std::time::Duration::from_secs(400));
    }
    assert_eq!(told(&rig), (1, 1, 1));
}

#[test]
fn a_copytruncate_to_the_same_size_is_noticed_also_when_nobody_looked() {
    for more in ["", "and\nmore\n"] {
        let mut rig = Rig::log();
        rig.append("a.log", "one\ntwo\n");
        rig.settle();
        let life = rig.batches[0].source.incarnation;
        rig.ack();
        rig.truncate("a.log", 0);
        rig.append("a.log", format!("six\nten\n{more}"));
        rig.restart();
        let lines = rig.settle();
        assert_eq!(lines[..2], ["six", "ten"]);
        assert_ne!(rig.batches[0].source.incarnation, life);
    }
}

#[test]
fn what_may_have_been_sent_is_sent_again_the_same() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\ntwo\nthree\nfour\nunfini");
    assert_eq!(rig.settle().len(), 4);
    let entry = rig.registry.entries().remove(0);
    // 0..4 was acknowledged; 4..8 and 14..19 were about to be sent; 8..14 between them wasn't written down.
    let bytes = b"one\ntwo\nthree\nfour\n";
    for (from, to, read_ms) in [(4, 8, 111), (14, 19, 222)] {
        assert!(rig.registry.intend(
            &entry.key,
            entry.incarnation,
            Intent { from, to, read_ms, guard: Guard::of(&bytes[..to as usize]) }
        ));
    }
    let cursor = pillion_event::Cursor {
        key: Arc::clone(&entry.key),
        incarnation: entry.incarnation,
        offset: 4,
        guard: Default::default(),
    };
    rig.registry.commit(&pillion_event::Acked::by_target(cursor));
    rig.append("a.log", "shed\nfive\n");
    rig.restart();
    assert_eq!(rig.settle(), ["two", "three", "four", "unfinished", "five"]);
    let batches: Vec<_> = rig.batches.iter().map(|b| (b.from, b.to, b.replayed)).collect();
    assert_eq!(batches, [(4, 8, true), (8, 14, true), (14, 19, true), (19, 35, false)]);
    assert_eq!((rig.batches[0].read_ms, rig.batches[2].read_ms), (111, 222));
    assert!(rig.batches.iter().all(|b| b.source.incarnation == entry.incarnation));
}

/// A file of lines that the input leaves out, of 3 MiB, between two that were about to be sent; then the rest.
fn long_gap(rig: &mut Rig, intents: impl Fn(u64, u64) -> Vec<(u64, u64)>) -> (u64, Vec<String>) {
    let shed = "DBG of which nobody hears\n".repeat((3 << 20) / 26);
    rig.append("a.log", format!("one\n{shed}two\n"));
    assert_eq!(rig.settle(), ["one", "two"]);
    let entry = rig.registry.entries().remove(0);
    let end = 4 + shed.len() as u64;
    for (from, to) in intents(end, end + 4) {
        let intent = Intent { from, to, read_ms: from as i64, guard: Guard::default() };
        assert!(rig.registry.intend(&entry.key, entry.incarnation, intent));
    }
    rig.append("a.log", "three\n");
    rig.restart();
    (end, rig.settle())
}

fn without_debug() -> Rig {
    Rig::with(|spec| {
        let exclude = vec![Pattern::new("^DBG").unwrap()];
        let options = ChainOptions { exclude_lines: exclude, max_bytes: 1000, ..ChainOptions::default() };
        spec.chain = Arc::new(Chain::new(options));
    })
}

#[test]
fn what_lies_between_two_ranges_in_flight_is_read_in_bounded_pieces() {
    let mut rig = without_debug();
    let (end, lines) = long_gap(&mut rig, |from, to| vec![(0, 4), (from, to)]);
    assert_eq!(lines, ["one", "two", "three"]);
    assert!(rig.batches.iter().all(|b| b.to - b.from <= 1 << 20 && b.data.len() <= 1 << 20));
    let again: Vec<_> = rig.batches.iter().filter(|b| b.replayed && !b.events.is_empty()).collect();
    assert_eq!(
        again.iter().map(|b| (b.from, b.to, b.read_ms)).collect::<Vec<_>>(),
        [(0, 4, 0), (end, end + 4, end as i64)]
    );
    assert_eq!(rig.batches.windows(2).find(|w| w[0].to != w[1].from).map(|w| w[0].to), None);
}

#[test]
fn a_range_in_flight_that_no_batch_ever_had_isnt_read_into_memory() {
    let mut rig = Rig::with(|spec| {
        spec.chain = Arc::new(Chain::new(ChainOptions { max_bytes: 1000, ..ChainOptions::default() }));
    });
    let text = "a line of a file that is long\n".repeat((8 << 20) / 30);
    rig.append("a.log", &text);
    let lines = rig.settle().len();
    let entry = rig.registry.entries().remove(0);
    let intent = Intent { from: 0, to: text.len() as u64, read_ms: 1, guard: Guard::default() };
    assert!(rig.registry.intend(&entry.key, entry.incarnation, intent));
    rig.restart();
    assert_eq!(rig.settle().len(), lines);
    assert!(rig.batches.iter().all(|b| !b.replayed && b.data.len() <= 1 << 20));
}

#[test]
fn intents_beyond_the_file_are_those_of_another_content() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\ntwo\n");
    rig.settle();
    let entry = rig.registry.entries().remove(0);
    assert!(rig.registry.intend(
        &entry.key,
        entry.incarnation,
        Intent { from: 0, to: 8, read_ms: 1, guard: Guard::default() }
    ));
    rig.truncate("a.log", 0);
    rig.append("a.log", "new\n");
    rig.restart();
    assert_eq!(rig.settle(), ["new"]);
    assert!(!rig.batches[0].replayed && rig.batches[0].source.incarnation != entry.incarnation);
}

#[test]
fn a_range_in_flight_isnt_sent_from_another_content() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\ntwo\n");
    rig.settle();
    let entry = rig.registry.entries().remove(0);
    let guard = Guard::of(b"one\ntwo\n");
    assert!(rig.registry.intend(&entry.key, entry.incarnation, Intent { from: 0, to: 8, read_ms: 1, guard }));
    rig.truncate("a.log", 0);
    rig.append("a.log", "six\nten\nmore\n");
    rig.restart();
    assert_eq!(rig.settle(), ["six", "ten", "more"]);
    assert!(!rig.batches[0].replayed && rig.batches[0].source.incarnation != entry.incarnation);
    assert_eq!(rig.lost(), 8);
}

#[test]
fn growing_fingerprints_read_small_files_at_once_and_keep_their_place() {
    let mut rig = Rig::fingerprint(true);
    rig.append("a.log", "a file of 20 bytes.\n");
    assert_eq!(rig.settle(), ["a file of 20 bytes."]);
    rig.ack();
    let key = |rig: &Rig| rig.registry.entries()[0].key.to_string();
    let small = key(&rig);
    // Grown while nobody looked, still below the fingerprint's range.
    rig.append("a.log", "more\n");
    rig.restart();
    assert_eq!(rig.settle(), ["more"]);
    rig.ack();
    assert_eq!(key(&rig), small);
    rig.append("a.log", "x".repeat(100) + "\n");
    assert_eq!(rig.search().len(), 1);
    rig.ack();
    assert_ne!(key(&rig), small);
    assert_eq!((rig.registry.entries().len(), rig.registry.entries()[0].offset), (1, 126));
    rig.append("a.log", "end\n");
    rig.restart();
    assert_eq!(rig.settle(), ["end"]);
}

#[test]
fn fixed_fingerprints_wait_until_the_file_is_long_enough_or_the_drain() {
    let mut rig = Rig::fingerprint(false);
    rig.append("a.log", "short\n");
    assert_eq!(rig.settle(), NONE);
    rig.append("b.log", "y".repeat(64) + "\n");
    assert_eq!(rig.search().len(), 1);
    assert_eq!(rig.drain(), ["short"]);
}

#[test]
fn files_with_the_same_beginning_are_different_files() {
    for text in ["Starting…\n".to_owned(), "Starting…\n".repeat(20)] {
        let mut rig = Rig::fingerprint(true);
        for pod in 0..20 {
            rig.append(&format!("{pod}.log"), &text);
        }
        let each = text.lines().count();
        assert_eq!(rig.settle().len(), 20 * each);
        rig.ack();
        let keys: BTreeSet<_> = rig.registry.entries().iter().map(|e| e.key.clone()).collect();
        assert_eq!(keys.len(), 20);
        for pod in 0..20 {
            rig.append(&format!("{pod}.log"), format!("pod {pod}\n"));
        }
        rig.restart();
        let lines: BTreeSet<_> = rig.settle().into_iter().collect();
        assert_eq!(lines, (0..20).map(|pod| format!("pod {pod}")).collect());
        assert_eq!(rig.batches.iter().map(|b| b.events.len()).sum::<usize>(), 20);
    }
}

#[test]
fn a_copy_takes_over_from_a_truncated_file() {
    let mut rig = Rig::fingerprint(true);
    let first = "f".repeat(100);
    rig.append("a.log", format!("{first}\n"));
    assert_eq!(rig.settle(), [first.as_str()]);
    rig.append("a.log", "unread\n");
    std::fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
    rig.truncate("a.log", 0);
    rig.append("a.log", "new\n");
    let mut lines = rig.search();
    lines.extend(rig.search());
    lines.sort();
    assert_eq!(lines, ["new", "unread"]);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn a_fingerprint_follows_a_file_to_another_inode() {
    let mut rig = Rig::fingerprint(true);
    rig.append("a.log", "f".repeat(100) + "\n");
    assert_eq!(rig.settle().len(), 1);
    std::fs::copy(rig.path("a.log"), rig.path("copy")).unwrap();
    rig.rename("copy", "a.log");
    rig.append("a.log", "on\n");
    let mut lines = rig.search();
    lines.extend(rig.search());
    assert_eq!(lines, ["on"]);
    assert_eq!(rig.harvester.stats().files, 1);
}

#[test]
fn identity_by_path_goes_on_or_begins_anew_by_content() {
    let mut rig = Rig::with(|spec| spec.identity = Identity::Path);
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.append("b", "one\ntwo\n");
    rig.rename("b", "a.log");
    assert_eq!(rig.search(), ["two"]);
    rig.append("b", "another file altogether\n");
    rig.rename("b", "a.log");
    assert_eq!(rig.search(), ["another file altogether"]);
    assert_eq!(rig.registry.entries().len(), 1);
}

#[test]
fn inode_markers() {
    let tmp = tempfile::tempdir().unwrap();
    let marker = tmp.path().join("marker");
    std::fs::write(&marker, "mark-1\n").unwrap();
    let mut rig = Rig::with(|spec| spec.identity = Identity::InodeMarker(marker.clone()));
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    assert!(rig.registry.entries()[0].key.contains("inode_marker::"));
    rig.ack();
    rig.append("a.log", "two\n");
    rig.restart();
    assert_eq!(rig.settle(), ["two"]);
}
