//! Files in other encodings, in mid-character and in mid-file.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Rig;
use pillion_config::Config;
use pillion_event::InputKind;
use pillion_input::parse::{Chain, ChainOptions};
use proptest::prelude::*;

const NONE: [&str; 0] = [];

fn rig(options: &str) -> Rig {
    let config = Config::from_yaml(&format!("i: {{{options}}}")).unwrap();
    let section = config.root().section("i").unwrap().unwrap();
    let chain = Arc::new(Chain::new(ChainOptions::from_section(&section, InputKind::Log).unwrap()));
    Rig::with(|spec| spec.chain = Arc::clone(&chain))
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
}

#[test]
fn a_file_in_utf_16_goes_on_in_its_middle() {
    let mut rig = rig("encoding: utf-16-bom");
    rig.append("a.log", b"\xFE");
    assert_eq!(rig.settle(), NONE);
    let text = [b"\xFE\xFF".to_vec(), utf16("eins\r\nzwölf\n𝄞 drei\n", true)].concat();
    // Up to the first half of a character.
    rig.append("a.log", &text[1..23]);
    assert_eq!(rig.search(), ["eins"]);
    rig.append("a.log", &text[23..33]);
    assert_eq!(rig.search(), ["zwölf"]);
    let ends: Vec<_> = rig.batches.iter().map(|b| b.to).collect();
    assert_eq!(ends, [14, 26], "a batch ends at a byte of the file");
    rig.ack();
    rig.restart();
    rig.append("a.log", &text[33..]);
    assert_eq!(rig.settle(), ["𝄞 drei"]);
    rig.ack();
    rig.append("a.log", utf16("ohne Ende", true));
    assert_eq!(rig.drain(), ["ohne Ende"]);
    assert_eq!(rig.harvester.stats().tally.bytes, rig.path("a.log").metadata().unwrap().len() - 26);
}

#[test]
fn a_file_without_its_mark_is_told_and_not_waited_for() {
    let mut rig = rig("encoding: utf-16-bom");
    rig.append("a.log", "plain text\n");
    rig.append("b.log", [b"\xFF\xFE".to_vec(), utf16("b\n", false)].concat());
    assert_eq!(rig.settle(), ["b"]);
    assert_eq!(rig.drain(), NONE);
    let denied: Vec<_> = rig.harvester.accounts().into_iter().filter(|a| a.denied).collect();
    assert_eq!(denied.iter().map(|a| (a.pos, a.len)).collect::<Vec<_>>(), [(0, 11)]);
}

#[test]
fn lines_with_other_ends_that_grow_and_that_are_long() {
    let mut rig = rig("encoding: utf-16le, line_terminator: carriage_return_line_feed, max_bytes: 3000000");
    let long = "x".repeat(1_500_000);
    let file = utf16(&format!("a\r\n{long}\r\nb\nc\r\n"), false);
    // The parts end within the line end, and within a character.
    let mut read = Vec::new();
    for part in [&file[..5], &file[5..200_001], &file[200_001..3_000_009], &file[3_000_009..]] {
        rig.append("a.log", part);
        read.extend(rig.search());
    }
    assert_eq!(read, ["a", &long, "b\nc"]);
    assert_eq!(rig.batches.last().unwrap().to, file.len() as u64);
    assert!(rig.batches.iter().all(|b| b.data.len() < 2_000_000), "no batch keeps the bytes that were decoded");
}

fn options() -> impl Strategy<Value = (&'static str, &'static str, &'static str)> {
    prop_oneof![
        Just(("encoding: utf-16le-bom", "utf-16le", "\n")),
        Just(("encoding: utf-16be, line_terminator: carriage_return_line_feed", "utf-16be", "\r\n")),
        Just(("encoding: iso8859-1, line_terminator: null_terminator", "latin1", "\0")),
        Just(("line_terminator: paragraph_separator", "utf-8", "\u{2029}")),
        Just(("encoding: utf-16le, multiline: {pattern: '^ ', match: after}", "utf-16le", "\n")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a file grows, and wherever the process was restarted, its lines are what they are.
    #[test]
    fn every_line_is_read_whole(
        (options, form, end) in options(),
        lines in prop::collection::vec("[a-zü日本語\u{a0a}]{1,9}", 1..30),
        cuts in prop::collection::vec((1usize..40, 0..4u8), 1..40),
    ) {
        let latin = |line: &String| line.chars().map(|c| if c > 'ÿ' { 'ÿ' } else { c }).collect::<String>();
        let lines: Vec<_> = if form == "latin1" { lines.iter().map(latin).collect() } else { lines };
        let text = lines.iter().map(|line| format!("{line}{end}")).collect::<String>();
        let file = match form {
            "utf-16le" => utf16(&text, false),
            "utf-16be" => utf16(&text, true),
            "latin1" => text.chars().map(|c| u8::try_from(c).unwrap()).collect(),
            _ => text.into_bytes(),
        };
        let mut rig = rig(options);
        let (mut at, mut read) = (0, Vec::new());
        for (size, what) in cuts {
            let to = (at + size).min(file.len());
            rig.append("a.log", &file[at..to]);
            at = to;
            match what {
                0 => rig.ack(),
                1 => {
                    rig.ack();
                    rig.restart();
                }
                _ => {}
            }
            read.extend(rig.search());
        }
        rig.append("a.log", &file[at..]);
        rig.advance(Duration::from_secs(1));
        read.extend(rig.drain());
        prop_assert_eq!(read, lines);
    }
}
