//! What the real Filebeat made of cases that need somebody at the other end, held against Pillion's without it.
//!
//! Comes in: `recorded/NAME-VERSION.ndjson`, a line for each case: its name, and its events as paths and values. `--record`
//! writes them. Goes out: what was compared.
//! Always holds: where and by whom an event was read, and times of reading, are left out of both.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::compare::Flat;
use super::differential::verdict;
use super::{Pair, Score, Version, dns, sockets};
use crate::{Outcome, root};

/// What is left out, with all below it.
const PLACE: [&str; 6] = ["agent", "host", "ecs", "log.file", "@metadata.beat", "@metadata.version"];

fn path(name: &str, version: Version) -> PathBuf {
    root().join("xtask/src/peer/recorded").join(format!("{name}-{}.ndjson", version.name()))
}

/// What was said of a comparison, and Filebeat's events by their cases.
pub(super) type Compared = (String, BTreeMap<String, Vec<Flat>>);

/// Pillion as each version beside what was written down of it.
pub(super) fn suite(score: &mut Score, pair: &Pair) {
    for version in [Version::Seven, Version::Nine] {
        let pair = Pair { version, filebeat: pair.filebeat.clone(), pillion: pair.pillion.clone() };
        score.case(&format!("sockets-of-{}", version.name()), || hold("sockets", version, &sockets::pillions(&pair)?));
        score.case(&format!("dns-of-{}", version.name()), || hold("dns", version, &dns::pillions(&pair)?));
    }
}

/// Writes Filebeat's events down.
pub(super) fn write(name: &str, version: Version, (said, events): Compared) -> Outcome<String> {
    let line =
        |(case, events): (&String, &Vec<Flat>)| format!("{}\n", json!({"case": case, "events": lasting(events)}));
    let text: String = events.iter().map(line).collect();
    let path = path(name, version);
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(said)
}

/// Holds Pillion's events against those written down.
fn hold(name: &str, version: Version, ours: &BTreeMap<String, Vec<Flat>>) -> Outcome<String> {
    let path = path(name, version);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let row = |line: &str| -> Outcome<(String, Vec<Flat>)> {
        let row: Value = serde_json::from_str(line).map_err(|e| format!("{}: {e}", path.display()))?;
        let case = row["case"].as_str().unwrap_or_default().to_owned();
        Ok((case, serde_json::from_value(row["events"].clone()).map_err(|e| e.to_string())?))
    };
    let theirs: BTreeMap<String, Vec<Flat>> = text.lines().map(row).collect::<Outcome<_>>()?;
    let ours = ours.iter().map(|(case, events)| (case.clone(), lasting(events))).collect();
    let names: Vec<&str> = theirs.keys().map(String::as_str).collect();
    verdict(version, &names, false, &theirs, &ours)
}

fn lasting(events: &[Flat]) -> Vec<Flat> {
    let is_place = |path: &str| {
        PLACE.iter().any(|place| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    // A time that says no year lies in this one, or in the one before.
    let passes = |path: &str, value: &Value| path == "@timestamp" && value.as_str() >= Some("2025");
    let keep = |event: &Flat| {
        event
            .iter()
            .filter(|(path, value)| !is_place(path) && !passes(path, value))
            .map(|(p, v)| (p.clone(), v.clone()))
            .collect()
    };
    events.iter().map(keep).collect()
}
