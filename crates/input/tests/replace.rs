//! Inputs that are replaced while others are read.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Rig, desc};
use pillion_event::{InputDesc, InputKind};
use pillion_input::{Budget, Glob, Hint, InputSpec};
use pillion_registry::Kind;
use pillion_world::{Fs, FsKind, World};

const NONE: [&str; 0] = [];

/// The real file system, as if another machine's.
struct Network(Arc<dyn Fs>);

impl Fs for Network {
    fn kind(&self, _: &Path) -> io::Result<FsKind> {
        Ok(FsKind::Network)
    }

    pillion_world::pass_fs!(this => this.0; open stat read_dir canonicalize read_link rename remove create_dir_all sync_dir try_lock);
}

/// An input with this label that reads `logs/PATTERN`, with these tags.
fn spec(rig: &Rig, label: u64, pattern: &str, tag: &str) -> InputSpec {
    let glob = Glob::new(rig.tmp.path().join("logs").join(pattern).as_os_str(), true).unwrap();
    let mut desc = (*desc(InputKind::Log, "")).clone();
    desc.tags = vec![tag.to_owned()];
    InputSpec { paths: vec![glob], label, desc: Arc::new(desc), ..rig.specs[0].clone() }
}

/// The first tag of each batch on its way.
fn tags(rig: &Rig) -> Vec<String> {
    rig.batches.iter().filter_map(|b| b.source.input.tags.first().cloned()).collect()
}

/// Goes on for some seconds; what came.
fn rest(rig: &mut Rig) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..30 {
        rig.advance(Duration::from_secs(1));
        seen.extend(rig.settle());
    }
    seen
}

#[test]
fn a_changed_input_goes_on_at_once_with_descriptors_open() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    assert!(rig.harvester.replace(&[], vec![first]).is_empty());
    rig.append("a.log", "other\n");
    rig.append("x.txt", "one\nunfini");
    rig.append("quiet.txt", "quiet\n");
    let mut lines = rig.settle();
    lines.sort();
    assert_eq!(lines, ["one", "other", "quiet"]);
    let opened = rig.harvester.standing().opened;
    // Nothing is acknowledged yet, and still nothing comes twice.
    rig.batches.clear();
    let second = spec(&rig, 8, "*.txt", "new");
    assert!(rig.harvester.replace(&[7], vec![second]).is_empty());
    assert_eq!(rig.settle(), NONE);
    rig.append("x.txt", "shed\n");
    rig.append("a.log", "undisturbed\n");
    rig.advance(Duration::from_secs(2));
    let mut lines = rig.settle();
    lines.sort();
    assert_eq!(lines, ["undisturbed", "unfinished"]);
    assert!(tags(&rig).contains(&"new".to_owned()));
    assert_eq!(rig.harvester.standing().opened, opened, "no file was opened again");
    assert_eq!(rest(&mut rig), NONE);
    assert_eq!(rig.drain(), NONE);
    assert_eq!(rig.harvester.stats().tally.events, 5);
}

#[test]
fn what_a_gone_input_had_in_flight_is_waited_for_and_its_entry_stays() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.append("x.txt", "two\n");
    assert!(rig.harvester.replace(&[7], Vec::new()).is_empty());
    assert_eq!(rest(&mut rig), NONE, "what it hasn't read stays unread");
    assert_eq!((rig.harvester.stats().files, rig.harvester.stats().unread), (1, 0));
    // It comes back before the acknowledgement: nothing comes twice.
    let back = spec(&rig, 9, "*.txt", "back");
    rig.harvester.replace(&[], vec![back]);
    assert_eq!(rig.settle(), ["two"]);
    rig.harvester.replace(&[9], Vec::new());
    rig.ack();
    assert_eq!(rest(&mut rig), NONE);
    assert_eq!(rig.harvester.stats().files, 0, "acknowledged and forgotten");
    rig.append("x.txt", "three\n");
    assert_eq!(rest(&mut rig), NONE);
    // And after it: it goes on at the entry.
    let again = spec(&rig, 11, "x*", "again");
    rig.harvester.replace(&[], vec![again]);
    assert_eq!(rig.settle(), ["three"]);
    assert_eq!((rig.harvester.stats().tally.events, rig.lost()), (3, 0));
    assert_eq!(rig.drain(), NONE);
}

#[test]
fn a_deleted_file_of_a_gone_input_is_read_to_its_end() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", "one\n");
    rig.settle();
    rig.append("x.txt", "two\nhalf");
    rig.remove("x.txt");
    rig.advance(Duration::from_secs(10));
    rig.settle_with(Budget { bytes: 0, events: 0 });
    rig.harvester.replace(&[7], Vec::new());
    assert_eq!(rig.settle(), ["two", "half"]);
    rig.ack();
    assert_eq!(rest(&mut rig), NONE);
    assert_eq!((rig.harvester.stats().files, rig.lost()), (0, 0));
}

#[test]
fn another_input_of_the_same_keys_goes_on_with_its_files() {
    let mut rig = Rig::log();
    let (first, second) = (spec(&rig, 7, "*.txt", "a"), spec(&rig, 8, "x*", "b"));
    rig.harvester.replace(&[], vec![first, second]);
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.harvester.replace(&[7], Vec::new());
    rig.append("x.txt", "two\n");
    assert_eq!(rest(&mut rig), ["two"]);
    assert_eq!(rig.drain(), NONE);
}

#[test]
fn the_drain_reads_what_changed_right_before_it() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", "one\n");
    rig.append("left.txt", "not read any more\n");
    rig.append("y.txt", "why\n");
    let mut lines = rig.settle();
    lines.sort();
    assert_eq!(lines, ["not read any more", "one", "why"]);
    rig.append("x.txt", "two");
    rig.append("left.txt", "more\n");
    let second = spec(&rig, 8, "x*", "new");
    rig.harvester.replace(&[7], vec![second]);
    assert_eq!(rig.drain(), ["two"]);
    let late = spec(&rig, 9, "*", "late");
    assert_eq!(rig.harvester.replace(&[8], vec![late]), [9], "the drain has begun");
}

#[test]
fn places_are_used_again() {
    let mut rig = Rig::log();
    for n in 1..200_u64 {
        let file = format!("{n}.txt");
        rig.append(&file, "line\n");
        let one = spec(&rig, n, "*.txt", "x");
        assert!(rig.harvester.replace(&[n - 1], vec![one]).is_empty());
        assert_eq!(rig.settle(), ["line"], "{n}");
        rig.ack();
        rig.advance(Duration::from_secs(1));
        rig.settle();
    }
    assert_eq!(rig.harvester.stats().files, 199);
    assert_eq!(rig.harvester.stats().tally.events, 199);
}

#[test]
fn a_file_that_was_renamed_as_its_input_stopped_keeps_its_entry() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", "one\ntwo\n");
    assert_eq!(rig.settle(), ["one", "two"]);
    rig.ack();
    rig.rename("x.txt", "y.txt");
    // That the name is gone is known before a search has found the other one.
    rig.harvester.hint(Hint::Path(rig.path("x.txt")));
    rig.settle();
    rig.harvester.replace(&[7], Vec::new());
    assert_eq!(rest(&mut rig), NONE);
    let again = spec(&rig, 11, "*.txt", "again");
    rig.harvester.replace(&[], vec![again]);
    rig.append("y.txt", "three\n");
    assert_eq!(rest(&mut rig), ["three"]);
    assert_eq!(rig.drain(), NONE);
}

#[test]
fn a_renamed_file_that_is_not_read_to_its_end_is_not_lost_with_its_input() {
    for (opened, network) in [(true, false), (false, false), (true, true), (false, true)] {
        let real = World::real();
        let fs: Arc<dyn Fs> = if network { Arc::new(Network(Arc::clone(&real.fs))) } else { real.fs };
        let mut rig = Rig::on(World { fs, ..World::real() }, &["*.log"], |_| {});
        let first = spec(&rig, 7, "*.txt", "old");
        rig.harvester.replace(&[], vec![first]);
        rig.append("x.txt", "one\n");
        assert_eq!(rig.settle(), ["one"]);
        rig.ack();
        if !opened {
            rig.advance(Duration::from_secs(600));
            rig.settle();
        }
        rig.append("x.txt", "two\nhalf");
        rig.harvester.hint(Hint::Path(rig.path("x.txt")));
        rig.settle_with(Budget { bytes: 0, events: 0 });
        rig.rename("x.txt", "moved.x");
        rig.harvester.hint(Hint::Path(rig.path("x.txt")));
        rig.settle_with(Budget { bytes: 0, events: 0 });
        let heir = spec(&rig, 8, "*.x", "new");
        rig.harvester.replace(&[7], vec![heir]);
        let mut seen = rig.settle();
        rig.append("moved.x", " of it\n");
        rig.ack();
        seen.extend(rest(&mut rig));
        assert_eq!(
            (seen, rig.lost()),
            (vec!["two".to_owned(), "half of it".to_owned()], 0),
            "open: {opened}, network: {network}"
        );
    }
}

#[test]
fn a_quiet_file_gets_what_its_new_input_writes_into_entries() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.ack();
    rig.advance(Duration::from_secs(600));
    rig.settle();
    let kind = |rig: &Rig| match &rig.registry.entries()[0].kind {
        Kind::Log(log) => log.words.input_type.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(&rig), "log");
    let mut second = spec(&rig, 8, "*.txt", "new");
    second.desc = Arc::new(InputDesc { kind: InputKind::Container, ..(*second.desc).clone() });
    rig.harvester.replace(&[7], vec![second]);
    assert_eq!(rest(&mut rig), NONE);
    assert_eq!(kind(&rig), "container");
    rig.append("x.txt", "two\n");
    assert_eq!(rest(&mut rig), ["two"]);
}

#[test]
fn a_renamed_file_of_an_input_that_stopped_is_held_on_to_as_any() {
    let mut rig = Rig::log();
    let first = spec(&rig, 7, "*.txt", "old");
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    let heir = spec(&rig, 8, "*.x", "new");
    rig.harvester.replace(&[7], vec![heir]);
    rig.rename("x.txt", "moved.x");
    assert_eq!(rest(&mut rig), NONE);
    rig.append("moved.x", "two\n");
    assert_eq!(rest(&mut rig), ["two"]);
    rig.append("moved.x", "three\n");
    rig.remove("moved.x");
    assert_eq!((rest(&mut rig), rig.lost()), (vec!["three".to_owned()], 0));
}

/// Of a file whose input is replaced right after it was cut off, the copy comes after the input does.
#[test]
fn a_copy_of_what_was_cut_off_goes_on_in_the_input_that_comes() {
    let mut rig = Rig::fingerprint(true);
    let input =
        |rig: &Rig, label, tag| InputSpec { desc: Arc::clone(&rig.specs[0].desc), ..spec(rig, label, "*.txt*", tag) };
    let first = input(&rig, 7, "old");
    rig.harvester.replace(&[], vec![first]);
    let long = "a line that is longer than the fingerprint, which is made of sixty-four bytes";
    rig.append("x.txt", format!("{long}\n"));
    assert_eq!(rig.settle(), [long]);
    rig.append("x.txt", "two\n");
    let copy = std::fs::read(rig.path("x.txt")).unwrap();
    rig.truncate("x.txt", 0);
    rig.append("x.txt", "new\n");
    rig.harvester.hint(Hint::Path(rig.path("x.txt")));
    rig.harvester.step(Budget::UNLIMITED);
    rig.append("x.txt.1", copy);
    let second = input(&rig, 8, "new");
    rig.harvester.replace(&[7], vec![second]);
    let mut seen = rest(&mut rig);
    seen.sort();
    assert_eq!((seen, rig.lost()), (vec!["new".to_owned(), "two".to_owned()], 0));
    assert_eq!(rig.drain(), NONE);
}

#[test]
fn an_input_that_stops_over_a_file_that_was_cut_off_holds_up_no_drain() {
    let mut rig = Rig::fingerprint(true);
    let first = InputSpec { desc: Arc::clone(&rig.specs[0].desc), ..spec(&rig, 7, "*.txt", "old") };
    rig.harvester.replace(&[], vec![first]);
    rig.append("x.txt", format!("{}\n", "x".repeat(100)));
    assert_eq!(rig.settle().len(), 1);
    rig.truncate("x.txt", 0);
    rig.append("x.txt", "new\n");
    rig.harvester.hint(Hint::Path(rig.path("x.txt")));
    rig.harvester.step(Budget::UNLIMITED);
    rig.harvester.replace(&[7], Vec::new());
    assert_eq!(rig.drain(), NONE);
}
