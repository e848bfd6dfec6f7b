//! Processors with odd options on events with odd values: what is missing, empty, null, of another type, or has dots.
//!
//! Comes in: `odd.txt`, beside Filebeat 9 `odd9.txt` and `cache9.txt` too: a line that begins with `{` is the event for those behind it, one
//! with `#` a comment, any other one a processor. Goes out: two inputs for each processor, whose file has that event alone.
//! Always holds: Filebeat takes each of them, and gives the same event.

use std::fs;

use super::cases::Case;
use crate::{Outcome, root};

/// How an event gets its fields: by the input, and by a processor, which leaves more of it as it was read.
const WAYS: [(&str, &str, &str); 2] = [
    ("json", "json: {keys_under_root: true, overwrite_keys: true}, ", ""),
    ("line", "", "{decode_json_fields: {fields: [message], target: '', overwrite_keys: true}}, "),
];

/// The stores of `cache` that a process of Pillion has at most.
const STORES: usize = 16;

/// A processor, and the event that it gets.
pub(super) struct Odd {
    /// The number of its line in the table, from 1 on.
    pub(super) line: usize,
    pub(super) event: &'static str,
    pub(super) processor: &'static str,
}

/// The rows of a table.
pub(super) fn rows(table: &str) -> Outcome<Vec<Odd>> {
    let path = root().join("xtask/src/peer").join(table).with_extension("txt");
    // A chore's few cases stay for as long as it runs, as those that are constants.
    let text: &str = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?.leak();
    let (mut rows, mut event) = (Vec::new(), "");
    for (i, line) in text.lines().enumerate() {
        if line.starts_with('{') {
            event = line;
        } else if !line.starts_with('#') {
            rows.push(Odd { line: i + 1, event, processor: line });
        }
    }
    Ok(rows)
}

/// The inputs of a table.
pub(super) fn cases(table: &str) -> Outcome<Vec<Case>> {
    let mut cases = Vec::new();
    for row in rows(table)? {
        for (way, before, first) in WAYS {
            let options = format!("{before}processors: [{first}{{{}}}]", row.processor).leak();
            let bytes: &'static [u8] = format!("{}\n", row.event).leak().as_bytes();
            let files = Box::leak(Box::new([("a.log", bytes)]));
            cases.push(Case { name: name(table, way, row.line), kind: "log", glob: "*.log", options, files });
        }
    }
    Ok(cases)
}

/// The inputs to which a processor gives an event's fields.
pub(super) fn lines(table: &str) -> Outcome<Vec<Case>> {
    let mut cases = cases(table)?;
    cases.retain(|case| case.name.contains("-line-"));
    Ok(cases)
}

/// The inputs of a table, by processes: all in one, but for `cache9`. There each processor has one input, since two would meet in
/// one store, and a process not more than there may be stores.
pub(super) fn runs(table: &str) -> Outcome<Vec<Vec<Case>>> {
    if table != "cache9" {
        return Ok(vec![cases(table)?]);
    }
    let mut cases = lines(table)?;
    let mut runs = Vec::new();
    while !cases.is_empty() {
        let rest = cases.split_off(cases.len().min(STORES));
        runs.push(std::mem::replace(&mut cases, rest));
    }
    Ok(runs)
}

/// The name of a row's case whose event comes in this way.
pub(super) fn name(table: &str, way: &str, line: usize) -> &'static str {
    format!("{table}-{way}-{line:03}").leak()
}
