//! Files that go on where another input had read to.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::time::Duration;

use common::{Rig, desc};
use pillion_event::InputKind;
use pillion_input::{Identity, InputSpec, TakeOver};

const NONE: [&str; 0] = [];

/// A filestream over the same paths that takes over.
fn stream(rig: &Rig, id: &str, from: &[&str], fingerprint: bool) -> InputSpec {
    let mut spec = rig.specs[0].clone();
    spec.desc = desc(InputKind::Filestream, id);
    spec.registry_v9 = true;
    spec.identity = Identity::Native;
    if fingerprint {
        spec.identity = Identity::Fingerprint { offset: 0, length: 64, growing: true };
    }
    spec.take_over = Some(TakeOver { from_ids: from.iter().map(|id| (*id).to_owned()).collect(), stream: None });
    spec
}

fn keys(rig: &Rig) -> Vec<String> {
    let mut keys: Vec<_> =
        rig.registry.entries().iter().map(|e| e.key.split("::").take(3).collect::<Vec<_>>().join(" ")).collect();
    keys.sort();
    keys
}

#[test]
fn a_filestream_goes_on_where_a_log_input_stopped() {
    for fingerprint in [false, true] {
        let mut rig = Rig::log();
        rig.append("a.log", "one\n");
        rig.append("b.log", "two\nthree\n");
        rig.settle();
        rig.ack();
        rig.append("a.log", "four\n");
        rig.append("c.log", "new\n");
        rig.specs = vec![stream(&rig, "s", &[], fingerprint)];
        rig.restart();
        let mut lines = rig.settle();
        lines.sort();
        assert_eq!(lines, ["four", "new"]);
        let own = format!("filestream s {}", if fingerprint { "fingerprint" } else { "native" });
        assert_eq!(keys(&rig), [own.as_str(); 3]);
        rig.ack();
        // And once more: it is its own now.
        rig.append("b.log", "five\n");
        rig.restart();
        assert_eq!(rig.settle(), ["five"]);
        assert_eq!(rig.drain(), NONE);
    }
}

#[test]
fn another_id_takes_over_from_those_that_are_named_alone() {
    let mut rig = Rig::log();
    rig.append("log.log", "of log\n");
    rig.settle();
    rig.ack();
    rig.specs = vec![InputSpec { take_over: None, ..stream(&rig, "old", &[], false) }];
    rig.restart();
    rig.append("a.log", "one\n");
    let mut lines = rig.settle();
    lines.sort();
    assert_eq!(lines, ["of log", "one"]);
    rig.ack();
    rig.append("a.log", "two\n");
    rig.specs = vec![stream(&rig, "new", &["other", "old"], true)];
    rig.restart();
    assert_eq!(rig.settle(), ["two"]);
    let want = ["filebeat logs native", "filestream new fingerprint", "filestream new fingerprint"];
    assert_eq!(keys(&rig), want, "the log input's entry isn't touched");
}

#[test]
fn what_was_in_flight_is_sent_again_by_the_one_that_takes_over() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.settle();
    rig.specs = vec![stream(&rig, "s", &[], true)];
    rig.restart();
    assert_eq!(rig.settle(), ["one"], "it was never acknowledged");
}

#[test]
fn a_file_that_appears_later_or_was_replaced_begins() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.append("b.log", "a longer line\n");
    rig.settle();
    rig.ack();
    rig.rename("a.log", "elsewhere");
    rig.truncate("b.log", 0);
    rig.append("b.log", "new\n");
    rig.specs = vec![stream(&rig, "s", &[], false)];
    rig.restart();
    assert_eq!(rig.settle(), ["new"]);
    rig.rename("elsewhere", "a.log");
    assert_eq!(rig.search(), ["one"], "as Filebeat: only what is there at the start");
}

#[test]
fn an_input_that_is_still_read_keeps_its_files() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.settle();
    rig.ack();
    let other = stream(&rig, "s", &[], false);
    rig.harvester.add(other).unwrap();
    assert_eq!(rig.settle(), ["one"], "two inputs of different keys read one file each for itself");
    rig.append("a.log", "two\n");
    rig.advance(Duration::from_secs(3));
    assert_eq!(rig.settle(), ["two", "two"]);
}

#[test]
fn an_input_that_is_replaced_hands_over_what_is_in_flight() {
    let mut rig = Rig::with(|spec| spec.label = 7);
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    // Not acknowledged, and the old input is gone.
    let next = stream(&rig, "s", &[], true);
    assert!(rig.harvester.replace(&[7], vec![next]).is_empty());
    rig.append("a.log", "two\n");
    rig.advance(Duration::from_secs(3));
    assert_eq!(rig.settle(), ["two"]);
    assert_eq!(rig.batches.len(), 2);
    rig.ack();
    let entries = rig.registry.entries();
    assert_eq!((entries.len(), entries[0].offset), (1, 8), "acknowledgements under the old key count");
    assert_eq!(keys(&rig), ["filestream s fingerprint"]);
    assert_eq!(rig.drain(), NONE);
}
