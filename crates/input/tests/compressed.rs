//! Compressed files: `compression: auto` and `gzip`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::io::Write;

use common::Rig;
use flate2::write::GzEncoder;
use pillion_input::{Budget, Compression, Identity};
use proptest::prelude::*;

const NONE: [&str; 0] = [];

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn rig() -> Rig {
    Rig::with(|spec| spec.compression = Compression::Auto)
}

fn lines(name: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{name}: line {i} {}", i.wrapping_mul(2_654_435_761))).collect()
}

fn denied(rig: &Rig) -> Vec<(String, u64)> {
    let accounts = rig.harvester.accounts().into_iter().filter(|a| a.denied);
    accounts.map(|a| (a.path.file_name().unwrap().to_string_lossy().into_owned(), a.pos)).collect()
}

#[test]
fn a_compressed_file_is_what_it_holds() {
    let mut rig = rig();
    rig.append("a.log", "plain\n");
    rig.append("b.log", [gzip("one\ntwo\n"), gzip(""), gzip("three\nno end")].concat());
    let mut read = rig.settle();
    let plain = read.iter().position(|line| line == "plain").unwrap();
    read.remove(plain);
    assert_eq!(read, ["one", "two", "three", "no end"]);
    let last = rig.batches.iter().find(|b| b.source.path.ends_with("b.log")).unwrap();
    assert_eq!((last.from, last.to, last.events.last().unwrap().offset), (0, 20, 14), "offsets are those of the text");
    assert_eq!(rig.harvester.stats().open, 1, "it isn't waited for at its end");
    rig.ack();
    rig.restart();
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.drain(), NONE);
    assert_eq!((rig.harvester.stats().unread, rig.lost()), (0, 0));
}

#[test]
fn it_goes_on_in_its_middle() {
    let mut rig = rig();
    let all = lines("a", 20_000);
    rig.append("a.log", gzip(all.join("\n") + "\n"));
    let budget = Budget { bytes: 1 << 20, events: 1500 };
    let mut read = Vec::new();
    while read.len() < 10_000 {
        if let pillion_input::Step::Batch(batch) = rig.harvester.step(budget) {
            read.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
            rig.batches.push(batch);
        }
    }
    rig.ack();
    rig.restart();
    read.extend(rig.settle());
    assert_eq!(read, all);
}

#[test]
fn what_is_incomplete_or_damaged_is_waited_for_and_told() {
    let mut rig = rig();
    let whole = gzip(lines("a", 5_000).join("\n") + "\n");
    rig.append("a.log", &whole[..whole.len() - 3]);
    let mut damaged = gzip("damaged\n");
    let sum = damaged.len() - 6;
    damaged[sum] ^= 1;
    rig.append("b.log", &damaged);
    rig.append("c.log", [gzip("fine\n"), b"and then no gzip".to_vec()].concat());
    assert_eq!(rig.settle(), NONE);
    rig.append("a.log", &whole[whole.len() - 3..]);
    assert_eq!(rig.search().len(), 5_000);
    assert_eq!(rig.drain(), NONE);
    let mut told = denied(&rig);
    told.sort();
    assert_eq!(told, [("b.log".into(), 0), ("c.log".into(), 0)]);
}

#[test]
fn a_log_that_was_read_is_not_read_again_when_it_was_compressed() {
    let mut rig = Rig::with(|spec| {
        spec.compression = Compression::Auto;
        spec.identity = Identity::Fingerprint { offset: 0, length: 64, growing: true };
    });
    let all = lines("a", 3_000);
    rig.append("a.log", all[..2_000].join("\n") + "\n");
    assert_eq!(rig.settle().len(), 2_000);
    rig.ack();
    // Rotated, written to once more, and compressed between two searches.
    rig.append("a.log", all[2_000..].join("\n") + "\n");
    rig.append("a.log.1.log", gzip(std::fs::read(rig.path("a.log")).unwrap()));
    rig.remove("a.log");
    rig.append("new.log", "new\n");
    let mut read = rig.search();
    read.extend(rig.search());
    read.sort();
    let mut rest = all[2_000..].to_vec();
    rest.push("new".into());
    rest.sort();
    assert_eq!(read, rest);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn with_gzip_each_file_has_to_be_one() {
    let mut rig = Rig::with(|spec| spec.compression = Compression::Gzip);
    rig.append("a.log", gzip("one\n"));
    rig.append("b.log", "plain\n");
    assert_eq!(rig.settle(), ["one"]);
    assert_eq!(rig.drain(), NONE);
    assert_eq!(denied(&rig), [("b.log".into(), 0)]);
    let mut plain = Rig::log();
    plain.append("a.log", gzip("one\n"));
    plain.settle();
    assert_eq!(plain.drain().len(), 1, "without the option its bytes are a line");
}

#[test]
fn many_are_read_a_few_at_a_time() {
    let mut rig = rig();
    let mut all = Vec::new();
    for file in 0..20 {
        let of_file = lines(&file.to_string(), 6_000);
        rig.append(&format!("{file}.log"), gzip(of_file.join("\n") + "\n"));
        all.extend(of_file);
    }
    let mut read = rig.settle();
    let begun: Vec<_> = rig.batches.iter().map(|b| b.source.path.to_string()).collect();
    let ends = |path: &String| begun.iter().rposition(|other| other == path).unwrap();
    for at in 0..begun.len() {
        let open: std::collections::HashSet<_> = begun[..=at].iter().filter(|path| ends(path) >= at).collect();
        assert!(open.len() <= 8, "{} at once", open.len());
    }
    read.sort();
    all.sort();
    assert_eq!(read, all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a file is divided into members, and wherever the process is restarted, its lines come once.
    #[test]
    fn every_line_comes_once(
        text in "([a-z]{1,200}\n){1,200}", cuts in prop::collection::vec(1usize..3_000, 0..6), events in 1usize..40,
        restarts in prop::collection::vec(any::<bool>(), 0..5),
    ) {
        let mut rig = rig();
        let (mut file, mut at) = (Vec::new(), 0);
        for cut in cuts {
            let to = (at + cut).min(text.len());
            file.extend(gzip(&text[at..to]));
            at = to;
        }
        file.extend(gzip(&text[at..]));
        rig.append("a.log", file);
        let mut read = Vec::new();
        for restart in restarts {
            for _ in 0..10 {
                if let pillion_input::Step::Batch(batch) = rig.harvester.step(Budget { bytes: 5_000, events }) {
                    read.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
                    rig.batches.push(batch);
                    break;
                }
            }
            rig.ack();
            if restart {
                rig.restart();
            }
        }
        read.extend(rig.drain());
        prop_assert_eq!(read, text.lines().collect::<Vec<_>>());
    }
}
