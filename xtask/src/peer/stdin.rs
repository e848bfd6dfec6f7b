//! The input `stdin`: the same bytes for both programs, by a redirection.
//!
//! Comes in: nothing but the cases below. Goes out: the verdict.
//! Always holds: each case is a run of its own, since a process has one standard input; Pillion ends with it, Filebeat is ended when it
//! has written as many events. `log.offset` isn't compared: Filebeat's is always 0.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::cases::{LEVELS, TEXT};
use super::compare::{Flat, grouped};
use super::differential::{QUEUE, TO_FILE, filebeat_ends_at, now, verdict, written};
use super::{Pair, pillion_ends};
use crate::Outcome;
use crate::child::Child;
use crate::shipper::{Place, Shipper};

const LATIN: &[u8] = b"caf\xe9\nna\xefve\r\nend\n";
const TRACE: &[u8] = b"begin 1\n at a\n at b\nbegin 2\nbegin 3\n at c\nbegin 4\n";
const JSON: &[u8] = b"{\"message\":\"m\",\"a\":{\"b\":1}}\nno json\n{\"message\":\"n\",\"f\":1.5}\n";

/// A name, the input's options, what comes in.
type Stdin = (&'static str, &'static str, &'static [u8]);

const CASES: [Stdin; 8] = [
    ("stdin", "", TEXT),
    ("stdin-latin", "encoding: latin1", LATIN),
    ("stdin-lines", "include_lines: ['^INF', '^ERR'], exclude_lines: [secret]", LEVELS),
    ("stdin-cut", "max_bytes: 4", TEXT),
    ("stdin-fields", "tags: [a, b], fields: {k: 1}, fields_under_root: true, pipeline: p", LEVELS),
    ("stdin-processors", "processors: [{add_tags: {tags: [t]}}, {drop_event.when.contains.message: INF}]", LEVELS),
    ("stdin-multiline", "multiline: {pattern: '^begin', negate: true, match: after, timeout: 100ms}", TRACE),
    ("stdin-json", "json: {keys_under_root: true, add_error_key: true, message_key: message}", JSON),
];

/// Both programs side by side.
pub(super) fn compare(pair: &Pair) -> Outcome<String> {
    let (mut filebeat, mut pillion) = (BTreeMap::new(), BTreeMap::new());
    for case in CASES {
        let ours = events(pair, &pair.pillion, case, None)?;
        let count = ours.len();
        pillion.insert(case.0.to_owned(), ours);
        filebeat.insert(case.0.to_owned(), events(pair, &pair.filebeat, case, Some(count))?);
    }
    verdict(pair.version, &CASES.map(|case| case.0), false, &filebeat, &pillion)
}

/// What a program makes of its standard input; of Filebeat, `count` events are awaited.
fn events(pair: &Pair, shipper: &Shipper, (_, options, bytes): Stdin, count: Option<usize>) -> Outcome<Vec<Flat>> {
    let place = Place::new()?;
    let comma = if options.is_empty() { "" } else { ", " };
    place.configure(&format!("filebeat.inputs:\n- {{type: stdin{comma}{options}}}\n{QUEUE}{TO_FILE}"))?;
    let input = place.folder().join("input");
    fs::write(&input, bytes).map_err(|e| e.to_string())?;
    let (begin, out) = (now(&place)?, place.home().join("out"));
    let plain = shipper.command(&place);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" <\"$INPUT\""]).arg(plain.get_program()).args(plain.get_args());
    command.env("INPUT", &input);
    if shipper.is_pillion() {
        command.args(pair.version.settings());
    } else {
        command.args(["-E", "filebeat.shutdown_timeout=5s"]);
    }
    let child = Child::start_apart(&mut command, &place.log(), &place.console())?;
    match count {
        Some(count) => filebeat_ends_at(child, &place, &|| written(&out), count)?,
        None => pillion_ends(child, &place)?,
    }
    let mut all = grouped(&written(&out), &begin, |_| String::new())?.into_values().next().unwrap_or_default();
    // Filebeat says 0 of each line; Pillion, where in the stream it began.
    all.iter_mut().for_each(|event| drop(event.remove("log.offset")));
    Ok(all)
}
