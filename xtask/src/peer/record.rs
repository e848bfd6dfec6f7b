//! What the real Filebeat makes of lines and of processors, written down for tests that have none.
//!
//! Comes in: the lines and options of `filebeat-7.17.29.ndjson` in pillion-input, the tables of [`super::odd`]. Goes out:
//! `testdata/filebeat-VERSION.ndjson` in pillion-input and pillion-process.
//! Always holds: nothing is written that Pillion makes otherwise; what is the same for all events of an input is left out,
//! and so are times of reading.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::cases::Case;
use super::compare::{Flat, flatten, folder_of};
use super::differential::{filebeats, same};
use super::{Pair, Score, Version, dns, odd, recorded, sockets};
use crate::{Outcome, root};

/// The members of an event that say where it was read.
const PLACE: [&str; 4] = ["agent", "host", "ecs", "input"];

/// Records all tables.
pub(super) fn suite(score: &mut Score, pair: &Pair) {
    score.case("lines", || lines(pair));
    score.case("processors", || processors(pair));
    score.case("script", || script(pair));
    score.case("sockets", || recorded::write("sockets", pair.version, sockets::compare(pair)?));
    score.case("dns", || recorded::write("dns", pair.version, dns::compare(pair)?));
}

fn lines(pair: &Pair) -> Outcome<String> {
    let folder = root().join("crates/input/src/parse/testdata");
    let known = fs::read_to_string(folder.join("filebeat-7.17.29.ndjson")).map_err(|e| e.to_string())?;
    let mut rows: Vec<Value> =
        known.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(|e| format!("a row: {e}"))?;
    // Where lines are filtered the two tell different offsets, and a line may write over its own.
    rows.retain(|row| {
        row["events"] != json!([])
            && row["options"]["stream"] != "stdout"
            && !row["file"].to_string().contains(r#"\"log\":{"#)
    });
    let case = |(i, row): (usize, &Value)| {
        let options = row["options"].to_string();
        let inner = options.strip_prefix('{').and_then(|o| o.strip_suffix('}')).unwrap_or_default().to_owned();
        let file: &'static [u8] = row["file"].as_str().unwrap_or_default().to_owned().leak().as_bytes();
        Case {
            name: format!("row-{i:04}").leak(),
            kind: row["kind"].as_str().unwrap_or_default().to_owned().leak(),
            glob: "*.log",
            options: inner.leak(),
            files: Box::leak(Box::new([("a.log", file)])),
        }
    };
    let cases: Vec<Case> = rows.iter().enumerate().map(case).collect();
    let (said, raw) = same(pair, &cases)?;
    let mut events = by_case(&raw)?;
    let mut out = String::new();
    for (case, row) in cases.iter().zip(&rows) {
        let events = events.remove(case.name).unwrap_or_default();
        let row = json!({"events": events, "file": row["file"], "kind": row["kind"], "options": row["options"]});
        out.push_str(&format!("{row}\n"));
    }
    write(&folder, pair.version, &out)?;
    Ok(said)
}

fn processors(pair: &Pair) -> Outcome<String> {
    let (mut out, mut all, mut before) = (String::new(), Vec::new(), "");
    let tables: &[&str] = if pair.version == Version::Nine { &["odd", "odd9", "cache9"] } else { &["odd"] };
    for table in tables {
        let mut events = BTreeMap::new();
        for cases in odd::runs(table)? {
            let (said, raw) = same(pair, &cases)?;
            all.push(said);
            events.extend(by_case(&raw)?);
        }
        append_rows(&mut out, &mut before, table, events)?;
    }
    write(&root().join("crates/process/src/testdata"), pair.version, &out)?;
    Ok(all.join("; "))
}

/// `script` isn't in the executable that is published: Pillion's tests hold it against what Filebeat alone is written to have made.
fn script(pair: &Pair) -> Outcome<String> {
    let cases = odd::lines("script")?;
    // Such an event is gone.
    let events = cases
        .iter()
        .filter(|case| !case.options.contains("{e.Cancel();}") && !case.options.contains("{ e.Cancel(); }"))
        .count();
    let raw = filebeats(pair, &cases, events)?;
    let mut out = String::new();
    append_rows(&mut out, &mut "", "script", by_case(&raw)?)?;
    let folder = root().join("crates/process/src/action/script/testdata");
    write(&folder, pair.version, &out)?;
    Ok(format!("{events} events of {} scripts", cases.len()))
}

/// A line for each row's event, when it is another one than before, and for each row.
fn append_rows(
    out: &mut String,
    before: &mut &'static str,
    table: &str,
    mut events: BTreeMap<String, Vec<Value>>,
) -> Outcome {
    for row in odd::rows(table)? {
        if row.event != *before {
            out.push_str(&format!("{}\n", json!({"event": row.event})));
            *before = row.event;
        }
        let event: Value = serde_json::from_str(row.event).map_err(|e| e.to_string())?;
        let mut found = events.remove(odd::name(table, "line", row.line)).unwrap_or_default();
        let Some(mut after) = found.pop() else { continue };
        if after["message"] == row.event {
            after.as_object_mut().map(|after| after.remove("message"));
        }
        drop_members(&mut after, "log", &["offset"]);
        let row = json!({"processor": row.processor, "changes": changes(event, after)});
        out.push_str(&format!("{row}\n"));
    }
    Ok(())
}

/// The paths whose value isn't the same afterwards; null: there is none any more.
fn changes(before: Value, after: Value) -> Value {
    let flat = |value| {
        let mut flat = Flat::new();
        flatten(String::new(), value, &mut flat);
        flat
    };
    let (before, mut after) = (flat(before), flat(after));
    // An event of which nothing is left.
    after.remove("");
    for (path, value) in before {
        match after.get(&path) {
            Some(same) if *same == value => drop(after.remove(&path)),
            None if !value.is_null() => drop(after.insert(path, Value::Null)),
            _ => {}
        }
    }
    after.into_iter().collect::<Map<_, _>>().into()
}

/// The events of each case in the order of their offsets, without what all of an input's have.
fn by_case(raw: &[u8]) -> Outcome<BTreeMap<String, Vec<Value>>> {
    let mut cases: BTreeMap<String, Vec<(u64, Value)>> = BTreeMap::new();
    for line in raw.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let mut event: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
        let case = folder_of(event.pointer("/log/file/path"));
        let offset = event.pointer("/log/offset").and_then(Value::as_u64).unwrap_or_default();
        strip(&mut event);
        cases.entry(case).or_default().push((offset, event));
    }
    let sorted = |mut events: Vec<(u64, Value)>| {
        events.sort_by_key(|(offset, _)| *offset);
        events.into_iter().map(|(_, event)| event).collect()
    };
    Ok(cases.into_iter().map(|(case, events)| (case, sorted(events))).collect())
}

fn strip(event: &mut Value) {
    let Some(fields) = event.as_object_mut() else { return };
    fields.retain(|name, _| !PLACE.contains(&name.as_str()));
    // What a line says of its time lies in the past.
    if fields.get("@timestamp").and_then(Value::as_str).is_some_and(|time| time.get(..4) >= Some("2026")) {
        fields.remove("@timestamp");
    }
    drop_members(event, "log", &["file"]);
    drop_members(event, "@metadata", &["beat", "type", "version"]);
}

/// Takes members of an object away, and the object when it has no others.
fn drop_members(event: &mut Value, object: &str, names: &[&str]) {
    let Some(fields) = event.as_object_mut() else { return };
    if let Some(Value::Object(below)) = fields.get_mut(object) {
        below.retain(|name, _| !names.contains(&name.as_str()));
        if below.is_empty() {
            fields.remove(object);
        }
    }
}

fn write(folder: &Path, version: Version, text: &str) -> Outcome {
    let path = folder.join(format!("filebeat-{}.ndjson", version.name()));
    fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(|e| format!("{}: {e}", path.display()))
}
