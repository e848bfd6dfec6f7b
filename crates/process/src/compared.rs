//! What the real Filebeat 7.17.29 and 9.5.0 made of events by odd processors, held against ours.
//!
//! Comes in: `testdata/filebeat-VERSION.ndjson`, which `cargo xtask e2e differential --record` writes: an event, then
//! processors and what each changed of it; null: it is gone. Where the event was read is left out.

use pillion_world::{UnixMillis, rfc3339};
use serde_json::{Map, Value, json};

use crate::doc::Stage;
use crate::pipeline::testing::processed_in;

/// What else an event has; what processors change of it isn't compared.
fn place() -> Value {
    json!({
        "log": {"offset": 0, "file": {"path": "/x/a.log"}}, "input": {"type": "log"}, "ecs": {"version": "8.0.0"},
        "host": {"name": "h"}, "agent": {"name": "h", "type": "filebeat", "version": "9.5.0"},
    })
}

fn flatten(path: &str, value: &Value, into: &mut Map<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let name = name.replace('.', "\\.");
                flatten(&if path.is_empty() { name } else { format!("{path}.{name}") }, member, into);
            }
        }
        Value::Object(_) if path.is_empty() => {}
        other => drop(into.insert(path.to_owned(), other.clone())),
    }
}

/// The paths whose value isn't the same afterwards.
fn changes(before: &Value, after: &Value) -> Map<String, Value> {
    let (mut old, mut new) = (Map::new(), Map::new());
    flatten("", before, &mut old);
    flatten("", after, &mut new);
    for (path, value) in old {
        match new.get(&path) {
            Some(same) if *same == value => drop(new.remove(&path)),
            None if !value.is_null() => drop(new.insert(path, Value::Null)),
            _ => {}
        }
    }
    new
}

/// Without what is the same for all events of an input.
fn written(mut event: Value, line: &str) -> Value {
    let Some(fields) = event.as_object_mut() else { return event };
    ["agent", "host", "ecs", "input"].iter().for_each(|name| drop(fields.remove(*name)));
    if let Some(Value::Object(log)) = fields.get_mut("log") {
        ["file", "offset"].iter().for_each(|name| drop(log.remove(*name)));
        if log.is_empty() {
            fields.remove("log");
        }
    }
    if fields.get("message").and_then(Value::as_str) == Some(line) {
        fields.remove("message");
    }
    if let Some(ms) = fields.get("@timestamp").and_then(Value::as_i64) {
        fields.insert("@timestamp".into(), rfc3339(UnixMillis(ms)).into());
    }
    event
}

fn compare(dialect: u8, table: &str) -> usize {
    let (mut line, mut compared) = (String::new(), 0);
    for row in table.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        if let Some(event) = row["event"].as_str() {
            line = event.to_owned();
            continue;
        }
        let processor = row["processor"].as_str().unwrap();
        let first = "{decode_json_fields: {fields: [message], target: '', overwrite_keys: true}}";
        let mut event = place();
        event["message"] = line.clone().into();
        let after = written(processed_in(Stage::Input, dialect, &format!("[{first}, {{{processor}}}]"), event), &line);
        let expected = row["changes"].as_object().unwrap().clone();
        let got = changes(&serde_json::from_str(&line).unwrap(), &after);
        assert_eq!(Value::from(got), Value::from(expected), "{dialect}: {processor}");
        compared += 1;
    }
    compared
}

#[test]
fn processors_do_what_those_of_the_real_filebeat_did() {
    assert!(compare(7, include_str!("testdata/filebeat-7.17.29.ndjson")) > 800);
    assert!(compare(9, include_str!("testdata/filebeat-9.5.0.ndjson")) > 900);
}

#[cfg(feature = "script")]
#[test]
fn scripts_do_what_they_did_in_the_real_filebeat() {
    assert!(compare(7, include_str!("action/script/testdata/filebeat-7.17.29.ndjson")) > 50);
    assert!(compare(9, include_str!("action/script/testdata/filebeat-9.5.0.ndjson")) > 50);
}
