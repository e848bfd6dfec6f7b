//! `cargo xtask bench instructions`: what a line costs with processors that look into it, and with some that don't.
//!
//! Comes in: how many lines. Goes out: instructions for each line, for each configuration, as valgrind's callgrind counts
//! them over all threads: the same figure on a busy machine as on a quiet one, but for how batches fall.
//! Always holds: a figure is the difference of two runs, one with twice the lines, so that start and end are in neither.

use std::process::Command;

use super::run::write_files;
use crate::Outcome;
use crate::args::Args;
use crate::shipper::{Place, Shipper, input};

/// A configuration's name, and its processors.
const CASES: [(&str, &str); 9] = [
    ("no processors", ""),
    ("the same for every event", "[{add_fields: {fields: {a: b}}}, {add_tags: {tags: [t]}}, {add_host_metadata: ~}]"),
    (
        "the same again, and a condition on tags",
        "[{add_tags: {tags: [t]}}, {drop_event.when.contains.tags: forwarded}]",
    ),
    ("a condition on the message", "[{drop_event.when.contains.message: DEBUG}]"),
    ("a field for each event", "[{add_id: {target_field: id}}]"),
    ("a field where a condition holds", "[{add_fields: {fields: {a: b}, when.contains.message: INFO}}]"),
    ("fields taken away", "[{drop_fields: {fields: [agent.ephemeral_id, ecs]}}]"),
    ("the message renamed", "[{rename: {fields: [{from: message, to: event.original}]}}]"),
    ("the message taken apart", "[{dissect: {tokenizer: '%{time} %{level} [%{worker}] %{rest}', field: message}}]"),
];

/// `--lines N`.
pub(super) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let lines = args.number("--lines", 50_000)?.max(1);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let mut plain = None;
    for (name, processors) in CASES {
        let [less, more] = [lines, 2 * lines].map(|lines| counted(&shipper, processors, lines));
        let each = more?.saturating_sub(less?) as f64 / lines as f64;
        let first = *plain.get_or_insert(each);
        println!("{name}: {each:.0} instructions a line, {:+.0}", each - first);
    }
    Ok(())
}

/// All instructions of one run to a file.
fn counted(shipper: &Shipper, processors: &str, lines: usize) -> Outcome<u64> {
    let place = Place::in_memory()?;
    write_files(&place, lines, 10)?;
    let processors = if processors.is_empty() { String::new() } else { format!("processors: {processors}\n") };
    let output = format!("output.file: {{path: {}, filename: events}}\n", place.home().display());
    place.configure(&(input(&place, "log") + &output + &processors))?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).args(shipper.words(&place)).arg("--once");
    let output = command.output().map_err(|e| format!("valgrind: {e}: it counts the instructions, install it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match count.filter(|_| output.status.success()) {
        Some(count) => Ok(count),
        None => Err(format!("valgrind ended with {}: {said}", output.status)),
    }
}
