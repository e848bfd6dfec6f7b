//! Processors with odd options on events with odd values: what is missing, empty, null, of another type, or has dots.
//!
//! Comes in: `odd.txt`: a line that begins with `{` is the event for those behind it, one with `#` a comment, any other one a
//! processor. Goes out: two inputs for each processor, whose file has that event alone.
//! Always holds: Filebeat 7.17 takes each of them, and gives the same event.

use super::cases::Case;

/// How an event gets its fields: by the input, and by a processor, which leaves more of it as it was read.
const WAYS: [(&str, &str, &str); 2] = [
    ("json", "json: {keys_under_root: true, overwrite_keys: true}, ", ""),
    ("line", "", "{decode_json_fields: {fields: [message], target: '', overwrite_keys: true}}, "),
];

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    const ALL: &str = include_str!("odd.txt");
    let (mut cases, mut event) = (Vec::new(), "");
    for (i, line) in ALL.lines().enumerate() {
        if line.starts_with('{') {
            event = line;
        } else if !line.starts_with('#') {
            for (way, before, first) in WAYS {
                // A chore's few cases stay for as long as it runs, as those that are constants.
                let name = format!("odd-{way}-{:03}", i + 1).leak();
                let options = format!("{before}processors: [{first}{{{line}}}]").leak();
                let bytes: &'static [u8] = format!("{event}\n").leak().as_bytes();
                let files = Box::leak(Box::new([("a.log", bytes)]));
                cases.push(Case { name, kind: "log", glob: "*.log", options, files });
            }
        }
    }
    cases
}
