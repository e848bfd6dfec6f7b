//! Processors with odd options on events with odd values: what is missing, empty, null, of another type, or has dots.
//!
//! Comes in: `odd.txt`, beside Filebeat 9 `odd9.txt` too: a line that begins with `{` is the event for those behind it, one with `#` a comment, any other one a
//! processor. Goes out: two inputs for each processor, whose file has that event alone.
//! Always holds: Filebeat takes each of them, and gives the same event.

use std::fs;

use super::cases::Case;
use crate::{Outcome, root};

/// How an event gets its fields: by the input, and by a processor, which leaves more of it as it was read.
const WAYS: [(&str, &str, &str); 2] = [
    ("json", "json: {keys_under_root: true, overwrite_keys: true}, ", ""),
    ("line", "", "{decode_json_fields: {fields: [message], target: '', overwrite_keys: true}}, "),
];

/// Those that both versions know.
pub(super) fn cases() -> Outcome<Vec<Case>> {
    of("odd")
}

/// Those of 9 alone.
pub(super) fn nine() -> Outcome<Vec<Case>> {
    of("odd9")
}

fn of(table: &str) -> Outcome<Vec<Case>> {
    let path = root().join("xtask/src/peer").join(table).with_extension("txt");
    // A chore's few cases stay for as long as it runs, as those that are constants.
    let text: &str = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?.leak();
    let (mut cases, mut event) = (Vec::new(), "");
    for (i, line) in text.lines().enumerate() {
        if line.starts_with('{') {
            event = line;
        } else if !line.starts_with('#') {
            for (way, before, first) in WAYS {
                let name = format!("{table}-{way}-{:03}", i + 1).leak();
                let options = format!("{before}processors: [{first}{{{line}}}]").leak();
                let bytes: &'static [u8] = format!("{event}\n").leak().as_bytes();
                let files = Box::leak(Box::new([("a.log", bytes)]));
                cases.push(Case { name, kind: "log", glob: "*.log", options, files });
            }
        }
    }
    Ok(cases)
}
