//! Inputs that come and go.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::time::Duration;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::Rig;
use pillion_config::{Compat, Config};
use pillion_input::{Budget, Glob, Hint, InputSpec, Step};
use pillion_process::kubernetes::Metadata;
use pillion_process::{Processors, Steps};

const NONE: [&str; 0] = [];

fn spec(rig: &Rig, pattern: &str) -> InputSpec {
    let glob = Glob::new(rig.tmp.path().join("logs").join(pattern).as_os_str(), true).unwrap();
    InputSpec { paths: vec![glob], ..rig.specs[0].clone() }
}

#[test]
fn an_added_input_is_read_and_an_ended_one_read_to_its_end() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.append("pod.txt", "pod one\n");
    assert_eq!(rig.settle(), ["one"]);
    let added = spec(&rig, "*.txt");
    let id = rig.harvester.add(added).unwrap();
    assert_eq!(rig.settle(), ["pod one"]);
    rig.append("pod.txt", "pod two\nunfinished");
    rig.append("new.txt", "a new file\n");
    rig.harvester.end(id);
    let mut last = rig.settle();
    last.sort();
    assert_eq!(last, ["a new file", "pod two", "unfinished"]);
    assert!(rig.harvester.is_known(id), "not acknowledged yet");
    rig.ack();
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.settle(), NONE);
    assert!(!rig.harvester.is_known(id));
    rig.append("pod.txt", " and more\n");
    rig.append("a.log", "two\n");
    assert_eq!(rig.search(), ["two"]);
    let total = rig.harvester.stats().tally;
    assert_eq!((total.events, total.lost), (6, 0));
    rig.append("a.log", "three\n");
    assert_eq!(rig.drain(), ["three"]);
}

#[test]
fn another_input_goes_on_where_an_ended_one_stopped() {
    let mut rig = Rig::log();
    let first = spec(&rig, "*.txt");
    let id = rig.harvester.add(first).unwrap();
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.harvester.end(id);
    let second = spec(&rig, "x*");
    let next = rig.harvester.add(second).unwrap();
    assert_ne!(id, next);
    assert_eq!(rig.settle(), NONE);
    rig.append("x.txt", "two\n");
    rig.ack();
    let mut seen = Vec::new();
    for _ in 0..30 {
        rig.advance(Duration::from_secs(1));
        seen.extend(rig.settle());
        rig.ack();
    }
    assert_eq!(seen, ["two"]);
    assert!(!rig.harvester.is_known(id) && rig.harvester.is_known(next));
}

#[test]
fn a_file_that_is_deleted_before_its_input_ends_is_read_to_its_end() {
    let mut rig = Rig::log();
    let pod = spec(&rig, "*.txt");
    let id = rig.harvester.add(pod).unwrap();
    rig.append("x.txt", "one\n");
    rig.settle();
    rig.append("x.txt", "two\nhalf");
    rig.remove("x.txt");
    rig.harvester.end(id);
    assert_eq!(rig.settle(), ["two", "half"]);
    rig.ack();
    for _ in 0..30 {
        rig.advance(Duration::from_secs(1));
        assert_eq!(rig.settle(), NONE);
    }
    assert!(!rig.harvester.is_known(id));
    assert!(rig.harvester.losses().is_empty());
}

#[test]
fn places_are_used_again() {
    let mut rig = Rig::log();
    let mut last = None;
    for n in 0..200 {
        rig.append(&format!("{n}.txt"), "line\n");
        let one = spec(&rig, &format!("{n}.txt"));
        let id = rig.harvester.add(one).unwrap();
        assert_eq!(rig.settle(), ["line"]);
        rig.harvester.end(id);
        rig.ack();
        for _ in 0..2 {
            rig.advance(Duration::from_secs(1));
            rig.settle();
        }
        assert!(!rig.harvester.is_known(id), "{n}");
        assert_ne!(last.replace(id), Some(id));
    }
    assert_eq!(rig.harvester.stats().files, 0);
    rig.harvester.drain();
    let more = spec(&rig, "*.txt");
    assert!(rig.harvester.add(more).is_none(), "the drain has begun");
}

/// An API server that tells of the container when it is told to.
#[derive(Debug, Default)]
struct Told(AtomicBool);

impl Metadata for Told {
    fn lookup(&self, key: &str) -> Option<Arc<serde_json::Map<String, serde_json::Value>>> {
        (self.0.load(Ordering::SeqCst) && key == ID).then(Arc::default)
    }
}

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A harvester whose events have metadata of pods, and a container's file with a line in it.
fn of_a_pod() -> (Rig, Arc<Told>, String) {
    let told = Arc::new(Told::default());
    let source: Arc<dyn Metadata> = Arc::<Told>::clone(&told);
    let mut rig = Rig::log();
    let mut pod = spec(&rig, "*.txt");
    let yaml = format!(
        "processors: [{{add_kubernetes_metadata: {{default_matchers.enabled: false, matchers: [{{logs_path: {{logs_path: \
         '{}/'}}}}]}}}}]",
        rig.tmp.path().join("logs").display()
    );
    let steps = Steps::from_section(&Config::from_yaml(&yaml).unwrap().root()).unwrap();
    pod.processors = Processors::new(Compat::V8, steps, Steps::default());
    pod.processors.kubernetes()[0].connect(source);
    rig.harvester.add(pod).unwrap();
    let file = format!("{ID}.txt");
    rig.append(&file, "one\n");
    (rig, told, file)
}

#[test]
fn a_new_file_waits_until_its_pod_is_known() {
    let (mut rig, told, file) = of_a_pod();
    assert_eq!(rig.settle(), NONE);
    rig.append(&file, "two\n");
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.settle(), NONE);
    told.0.store(true, Ordering::SeqCst);
    rig.advance(Duration::from_millis(100));
    assert_eq!(rig.settle(), ["one", "two"]);
}

#[test]
fn metadata_that_never_come_hold_nothing_up() {
    let (mut rig, _, file) = of_a_pod();
    assert_eq!(rig.settle(), NONE);
    for _ in 0..60 {
        rig.advance(Duration::from_millis(100));
        if rig.settle() == ["one"] {
            rig.append(&file, "two\n");
            rig.advance(Duration::from_secs(1));
            assert_eq!(rig.settle(), ["two"], "only the first of a file waits");
            return;
        }
    }
    unreachable!("the file waits for ever");
}

#[test]
fn nothing_waits_at_the_drain() {
    let (mut rig, ..) = of_a_pod();
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.drain(), ["one"]);
}

#[test]
fn an_empty_file_behind_a_link_is_read_as_soon_as_it_has_a_line() {
    let mut rig = Rig::log();
    let mut linked = spec(&rig, "*.link");
    linked.symlinks = true;
    linked.scan_every = Duration::from_secs(3600);
    rig.append("target", "");
    std::os::unix::fs::symlink(rig.tmp.path().join("logs/target"), rig.tmp.path().join("logs/a.link")).unwrap();
    rig.harvester.add(linked).unwrap();
    assert_eq!(rig.settle(), NONE);
    rig.append("target", "one\n");
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.settle(), ["one"]);
}

/// Renames a file between two inputs of one group, of which one ends, and tells it by a hint or leaves it to a search.
fn renamed_between(from: &str, to: &str, ends: &str, hinted: bool) -> (Vec<String>, bool) {
    let mut rig = Rig::log();
    let added = spec(&rig, "*.txt");
    let id = rig.harvester.add(added).unwrap();
    rig.append(from, "one\nunfini");
    assert_eq!(rig.settle(), ["one"]);
    rig.ack();
    rig.harvester.watched(&rig.path(""), true);
    rig.settle();
    if ends == "first" {
        rig.harvester.end(id);
    }
    rig.rename(from, to);
    if hinted {
        rig.harvester.hint(Hint::Path(rig.path(to)));
    }
    let mut seen = rig.settle();
    if ends == "then" {
        rig.harvester.end(id);
    }
    seen.extend(rig.settle());
    if to == "x.log" {
        rig.append(to, "shed\n");
    }
    for _ in 0..30 {
        rig.advance(Duration::from_secs(1));
        seen.extend(rig.settle());
        rig.ack();
    }
    assert_eq!(rig.lost(), 0);
    (seen, rig.harvester.is_known(id))
}

#[test]
fn a_file_that_is_renamed_to_an_input_that_goes_on_goes_on() {
    for ends in ["first", "then"] {
        for hinted in [true, false] {
            let (seen, known) = renamed_between("x.txt", "x.log", ends, hinted);
            assert_eq!((seen.concat(), known), ("unfinished".to_owned(), false), "{ends} {hinted}");
        }
    }
}

#[test]
fn a_file_that_is_renamed_to_an_input_that_ends_ends_with_it() {
    for ends in ["first", "then"] {
        for hinted in [true, false] {
            let (seen, known) = renamed_between("x.log", "x.txt", ends, hinted);
            assert_eq!((seen, known), (vec!["unfini".to_owned()], false), "{ends} {hinted}");
        }
    }
}

#[test]
fn an_empty_file_that_comes_after_the_last_search_holds_up_no_end() {
    let mut rig = Rig::log();
    let added = spec(&rig, "*.txt");
    let id = rig.harvester.add(added).unwrap();
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.harvester.watched(&rig.path(""), true);
    rig.settle();
    rig.harvester.end(id);
    assert_eq!(rig.settle(), NONE);
    rig.append("empty.txt", "");
    rig.harvester.hint(Hint::Path(rig.path("empty.txt")));
    assert_eq!(rig.settle(), NONE);
    rig.ack();
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.settle(), NONE);
    assert!(!rig.harvester.is_known(id));
    rig.harvester.drain();
    assert_eq!(rig.settle(), NONE);
    rig.append("empty.log", "");
    rig.harvester.hint(Hint::Path(rig.path("empty.log")));
    assert_eq!(rig.settle(), NONE);
    assert!(rig.harvester.drained());
}

#[test]
fn an_input_that_ends_forgets_its_quiet_files_too() {
    let mut rig = Rig::log();
    let added = spec(&rig, "*.txt");
    let id = rig.harvester.add(added).unwrap();
    for n in 0..200 {
        rig.append(&format!("{n}.txt"), "one\n");
    }
    assert_eq!(rig.settle().len(), 200);
    rig.ack();
    for _ in 0..3 {
        rig.advance(Duration::from_secs(600));
        assert_eq!(rig.settle(), NONE);
    }
    rig.append("7.txt", "two\nunfinished");
    rig.harvester.end(id);
    assert_eq!(rig.settle(), ["two", "unfinished"]);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.settle(), NONE);
    assert!(rig.harvester.is_known(id), "not acknowledged yet");
    rig.ack();
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.settle(), NONE);
    assert_eq!((rig.harvester.is_known(id), rig.harvester.stats().files), (false, 0));
}

#[test]
fn hints_that_never_end_hold_up_no_end() {
    let mut rig = Rig::log();
    let added = spec(&rig, "*.txt");
    let id = rig.harvester.add(added).unwrap();
    rig.append("x.txt", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.ack();
    rig.harvester.end(id);
    for n in 0..20_000 {
        rig.advance(Duration::from_millis(10));
        for of in 0..2 {
            rig.harvester.hint(Hint::Path(rig.path(&format!("busy-{n}-{of}.log"))));
        }
        assert!(matches!(rig.harvester.step(Budget::UNLIMITED), Step::Worked));
        if !rig.harvester.is_known(id) {
            return;
        }
    }
    panic!("the input is still there");
}

#[test]
fn a_file_that_was_moved_between_file_systems_goes_on_in_the_input_that_finds_it() {
    let mut rig = Rig::fingerprint(true);
    let added = spec(&rig, "*.txt");
    let id = rig.harvester.add(added).unwrap();
    let long = "a line that is longer than the fingerprint, which is made of sixty-four bytes";
    rig.append("x.txt", format!("{long}\nunfini"));
    assert_eq!(rig.settle(), [long]);
    rig.ack();
    rig.advance(Duration::from_secs(600));
    assert_eq!(rig.settle(), NONE);
    std::fs::copy(rig.path("x.txt"), rig.path("x.log")).unwrap();
    rig.remove("x.txt");
    rig.harvester.end(id);
    let mut seen = rig.settle();
    rig.append("x.log", "shed\n");
    for _ in 0..30 {
        rig.advance(Duration::from_secs(1));
        seen.extend(rig.settle());
        rig.ack();
    }
    assert_eq!((seen, rig.lost()), (vec!["unfinished".to_owned()], 0));
    assert!(!rig.harvester.is_known(id));
}

#[test]
fn a_quiet_file_that_is_renamed_between_two_inputs_goes_on() {
    for (from, to) in [("x.log", "x.txt"), ("x.txt", "x.log")] {
        for (quiet, unread) in [(true, "two\n"), (true, ""), (false, "two\n"), (false, "")] {
            let mut rig = Rig::log();
            let added = spec(&rig, "*.txt");
            rig.harvester.add(added).unwrap();
            rig.append(from, "one\n");
            assert_eq!(rig.settle(), ["one"]);
            rig.ack();
            rig.advance(Duration::from_secs(if quiet { 600 } else { 1 }));
            assert_eq!(rig.settle(), NONE);
            rig.append(from, unread);
            rig.rename(from, to);
            rig.advance(Duration::from_secs(30));
            let mut seen = rig.settle();
            rig.append(to, "three\n");
            rig.advance(Duration::from_secs(30));
            seen.extend(rig.settle());
            let mut lines: Vec<_> = unread.lines().map(str::to_owned).collect();
            lines.push("three".to_owned());
            assert_eq!((seen, rig.lost()), (lines, 0), "{from} {quiet} {unread:?}");
        }
    }
}

/// Whatever is to be searched again and again, as where a watch overflows all the time, keeps no other input from its turn.
#[test]
fn each_input_has_its_search_in_the_drain_however_often_another_one_is_due() {
    let mut rig = Rig::log();
    let other = spec(&rig, "*.txt");
    assert!(rig.harvester.add(other).is_some());
    rig.settle();
    rig.append("a.txt", "one\n");
    rig.harvester.drain();
    for _ in 0..200 {
        rig.harvester.hint(Hint::All);
        if let Step::Batch(batch) = rig.harvester.step(Budget::UNLIMITED) {
            assert_eq!(batch.events.len(), 1);
            return;
        }
        rig.advance(Duration::from_micros(1));
    }
    unreachable!("the second input was never searched");
}
