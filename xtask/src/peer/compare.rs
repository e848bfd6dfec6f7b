//! Two lists of events, field by field.
//!
//! Comes in: NDJSON of both programs. Goes out: the differences, each as one line for a person.
//! Always holds: times of reading and ids of a run are left out, all else counts; order counts within a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::Outcome;

/// Fields that differ between any two runs of the same program.
const FREE: [&str; 2] = ["agent.id", "agent.ephemeral_id"];

/// An event: the path of each field, and its value.
pub(crate) type Flat = BTreeMap<String, Value>;

/// The events of NDJSON by the folder below `root` that their file lies in, in the order of file and output.
pub(crate) fn by_case(ndjson: &[u8], root: &str, now: &str) -> Outcome<BTreeMap<String, Vec<Flat>>> {
    grouped(ndjson, now, |event| {
        let path = event.get("log.file.path").and_then(Value::as_str).unwrap_or_default();
        let case = path.strip_prefix(root).and_then(|p| p.trim_start_matches('/').split('/').next());
        case.unwrap_or("?").to_owned()
    })
}

/// The name of the folder that a file lies in, which is that of its case; `?` where there is none.
pub(crate) fn folder_of(path: Option<&Value>) -> String {
    let path = path.and_then(Value::as_str).map(Path::new);
    path.and_then(|path| path.parent()?.file_name()?.to_str()).unwrap_or("?").to_owned()
}

/// The events of NDJSON by the case that they are of, in the order of file and output.
pub(crate) fn grouped(
    ndjson: &[u8],
    now: &str,
    case: impl Fn(&Flat) -> String,
) -> Outcome<BTreeMap<String, Vec<Flat>>> {
    let mut cases: BTreeMap<String, Vec<Flat>> = BTreeMap::new();
    for line in ndjson.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        let event: Value = serde_json::from_slice(line)
            .map_err(|e| format!("an event isn't JSON: {e}: {}", String::from_utf8_lossy(line)))?;
        let mut flat = Flat::new();
        flatten(String::new(), event, &mut flat);
        let case = case(&flat);
        flat.retain(|path, value| !FREE.contains(&path.as_str()) && !is_time_of_reading(path, value, now));
        cases.entry(case).or_default().push(flat);
    }
    for events in cases.values_mut() {
        events.sort_by_key(path);
    }
    Ok(cases)
}

/// Puts events in the order of their places in the files, whatever order they came in: Filebeat's requests overtake one another.
/// Pillion's are taken as they come.
pub(crate) fn by_place(events: &mut [Flat]) {
    events.sort_by_key(|e| (path(e), e.get("log.offset").and_then(Value::as_u64)));
}

fn path(event: &Flat) -> String {
    event.get("log.file.path").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A time taken from the line itself is compared; one of today is that of reading.
fn is_time_of_reading(path: &str, value: &Value, now: &str) -> bool {
    path == "@timestamp" && value.as_str().is_some_and(|t| t.get(..10) >= now.get(..10))
}

/// The members of a value by their paths; dots in names are escaped.
pub(crate) fn flatten(path: String, value: Value, into: &mut Flat) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                // A name that holds a dot isn't the same as a path.
                let name = name.replace('.', "\\.");
                flatten(if path.is_empty() { name } else { format!("{path}.{name}") }, member, into);
            }
        }
        other => drop(into.insert(path, other)),
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The field, or `events` for their number.
    pub(crate) field: String,
    /// All about it.
    pub(crate) text: String,
}

/// All differences between the events of one case.
pub(crate) fn differences(filebeat: &[Flat], pillion: &[Flat]) -> Vec<Difference> {
    let mut found = Vec::new();
    if filebeat.len() != pillion.len() {
        let show = |events: &[Flat]| -> String {
            let all: Vec<String> = events.iter().map(|e| format!("\n      {}", message(e))).collect();
            all.concat()
        };
        let text = format!(
            "events: Filebeat has {}:{}\n    Pillion has {}:{}",
            filebeat.len(),
            show(filebeat),
            pillion.len(),
            show(pillion)
        );
        return vec![Difference { field: "events".into(), text }];
    }
    for (i, (theirs, ours)) in filebeat.iter().zip(pillion).enumerate() {
        let fields: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for field in fields {
            let (a, b) = (theirs.get(field), ours.get(field));
            if a != b {
                let show = |v: Option<&Value>| v.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                let text = format!("event {i}: {field}: Filebeat {}, Pillion {}", show(a), show(b));
                found.push(Difference { field: field.clone(), text });
            }
        }
    }
    found
}

fn message(event: &Flat) -> String {
    let offset = event.get("log.offset").map(ToString::to_string).unwrap_or_default();
    format!("{offset}: {}", event.get("message").map_or_else(|| "no message".to_owned(), ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_and_times_of_reading_are_free() {
        let events = |text: &str| by_case(text.as_bytes(), "/x", "2026-11-23T21:00:00Z").unwrap()["c"].clone();
        let base = r#"{"@timestamp":"2026-11-23T21:00:01Z","agent":{"id":"a"},"log":{"file":{"path":"/x/c/f"}},"n":1}"#;
        let same = base.replace("00:01Z", "00:02Z").replace(r#""id":"a""#, r#""id":"b""#);
        assert_eq!(differences(&events(base), &events(&same)), vec![]);
        for other in
            [base.replace("2026-11-23", "2020-01-01"), base.replace(":1}", ":1.0}"), base.replace("\"n\"", "\"m\"")]
        {
            assert_ne!(differences(&events(base), &events(&other)), vec![], "{other}");
        }
        assert_eq!(differences(&events(base), &[])[0].field, "events");
    }
}
