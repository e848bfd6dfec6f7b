//! The real Filebeat beside Pillion: the same events field by field, registries swapped, Filebeat as our client.
//!
//! Always holds: both have the same files and the same configuration; what may differ is named in [`FREE`].

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::Score;
use crate::child::Child;
use crate::shipper::{Place, Shipper, input, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job, ports, wait};

const LIMIT: Duration = Duration::from_secs(30);

/// What two runs may have different: times, ids, and the operation that tells a data stream's event.
const FREE: [&str; 5] = ["@timestamp", "agent.id", "agent.ephemeral_id", "@metadata._id", "action._id"];

/// Settings that Pillion alone gets, so that it speaks as this Filebeat.
const AS_FILEBEAT: &str = "pillion.compat: 7\npillion.agent_version: 7.17.29\n";

/// A case of comparison: its name, the input's kind, further lines of the input, what the files hold.
type Compared = (&'static str, &'static str, &'static str, &'static str);

const PLAIN_TEXT: &str = "line one\n\n  spaces  \ttab \"quoted\" \\ Zürich \u{1f980}\r\n\u{1}control\nlast\n";
const TRACES: &str =
    "2026-01-01 ERROR a\n  at b\n  at c\n2026-01-01 INFO d\n2026-01-01 ERROR e\n\tat f\n2026-01-01 end\n";
const JSON: &str =
    "{\"message\":\"m\",\"level\":\"info\",\"n\":1.0,\"o\":{\"p\":[1,null,true]}}\nnot json\n{\"log\":\"text\"}\n";
const DOCKER: &str = "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.000000001Z\"}\n{\"log\":\"part \",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:00.5Z\"}\n{\"log\":\"whole\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-01T00:00:00.6Z\"}\n";
const CRI: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n2026-01-01T00:00:01Z stderr P part \n2026-01-01T00:00:02Z stderr F whole\n";

const COMPARED: [Compared; 10] = [
    ("log", "log", "", PLAIN_TEXT),
    ("filestream", "filestream", "", PLAIN_TEXT),
    ("fields", "log", "  fields: {team: a, num: 1, deep: {er: [x, y]}}\n  tags: [one, two]\n", PLAIN_TEXT),
    ("fields-root", "filestream", "  fields: {team: a, message: over}\n  fields_under_root: true\n", PLAIN_TEXT),
    ("include", "log", "  include_lines: ['line', '^last']\n  exclude_lines: ['one$']\n", PLAIN_TEXT),
    (
        "multiline",
        "log",
        "  multiline: {type: pattern, pattern: '^2026', negate: true, match: after, timeout: 1s}\n",
        TRACES,
    ),
    ("json", "log", "  json: {keys_under_root: true, add_error_key: true, message_key: message}\n", JSON),
    ("ndjson", "filestream", "  parsers: [{ndjson: {target: 'doc', add_error_key: true}}]\n", JSON),
    ("docker", "container", "", DOCKER),
    ("cri", "container", "", CRI),
];

/// Runs all cases.
pub(super) fn suite(score: &mut Score, pillion: &Shipper) {
    let filebeat = match Shipper::named("filebeat") {
        Ok(filebeat) => filebeat,
        Err(why) => {
            score.skipped += 1;
            println!("{:18} SKIPPED: {why}", "filebeat");
            return;
        }
    };
    for (name, kind, more, text) in COMPARED {
        for protocol in [Protocol::Bulk, Protocol::Lumberjack] {
            let name = format!("{name}-{}", protocol.name());
            score.case("filebeat", &name, || {
                let config = |place: &Place| input(place, kind) + more;
                same_events(&filebeat, pillion, &config, protocol, text)
            });
        }
    }
    for kind in ["log", "filestream"] {
        score.case("filebeat", &format!("registry-{kind}"), || registry(&filebeat, pillion, kind));
    }
    score.case("filebeat", "our-client", || client(&filebeat, pillion));
}

/// Both read the same file from the same path; their events are compared.
fn same_events(
    filebeat: &Shipper,
    pillion: &Shipper,
    input: &dyn Fn(&Place) -> String,
    protocol: Protocol,
    text: &str,
) -> Outcome {
    let place = Place::new()?;
    fs::write(place.logs().join("a.log"), text).map_err(|e| e.to_string())?;
    let mut seen = Vec::new();
    for shipper in [filebeat, pillion] {
        let sink = Sink::start(protocol, Depth::Lines)?;
        let own = if shipper.pillion { AS_FILEBEAT } else { "" };
        place.configure(&(input(&place) + &output(protocol, sink.port()) + own))?;
        // A home of its own for each, since the registry would say that all is read.
        fs::remove_dir_all(place.home()).and_then(|()| fs::create_dir(place.home())).map_err(|e| e.to_string())?;
        if shipper.pillion {
            Child::start(shipper.command(&place).arg("--once"), &place.log())?.wait(LIMIT)?;
        } else {
            let mut child = Child::start(&mut shipper.command(&place), &place.log())?;
            until_read(&place, &mut child, text.len() as u64)
                .map_err(|why| format!("{why}; its place: {}", place.folder().display()))?;
        }
        seen.push(flat(&sink.tally().stored()));
    }
    if seen[0].is_empty() {
        return Err("Filebeat sent nothing: nothing is compared".into());
    }
    difference(&seen[0], &seen[1]).map_or(Ok(()), |why| Err(format!("{why}; its place: {}", place.keep().display())))
}

/// Waits until Filebeat's registry says that so much is acknowledged, then ends Filebeat. (`--once` is no use: it ended
/// before anything was sent, or never.)
fn until_read(place: &Place, child: &mut Child, offset: u64) -> Outcome {
    wait::until("Filebeat's registry to have it all", LIMIT, || match child.ended()? {
        Some(ended) => Err(format!("Filebeat ended: {}", ended.status)),
        None => Ok(knows(place, offset).then_some(())),
    })?;
    child.signal(Signal::TERM);
    child.wait(LIMIT).map(drop)
}

/// An event as its fields' paths and values.
type Flat = BTreeMap<String, Value>;

fn flat(events: &[Value]) -> Vec<Flat> {
    let mut all: Vec<Flat> = events
        .iter()
        .map(|event| {
            let mut fields = Flat::new();
            flatten("", event, &mut fields);
            fields.retain(|path, _| !FREE.contains(&path.as_str()));
            fields
        })
        .collect();
    all.sort_by_key(|f| f.get("log.offset").and_then(Value::as_u64));
    all
}

fn flatten(path: &str, value: &Value, into: &mut Flat) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, member, into);
            }
        }
        other => drop(into.insert(path.to_owned(), other.clone())),
    }
}

/// The first difference, for a person.
fn difference(filebeat: &[Flat], pillion: &[Flat]) -> Option<String> {
    if filebeat.len() != pillion.len() {
        return Some(format!("{} events of Filebeat, {} of Pillion", filebeat.len(), pillion.len()));
    }
    for (i, (theirs, ours)) in filebeat.iter().zip(pillion).enumerate() {
        let paths: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for path in paths {
            let (a, b) = (theirs.get(path), ours.get(path));
            if a != b {
                return Some(format!("event {i}: {path}: {a:?} of Filebeat, {b:?} of Pillion"));
            }
        }
    }
    None
}

/// Filebeat reads a part, Pillion goes on, Filebeat goes on again: each line once.
fn registry(filebeat: &Shipper, pillion: &Shipper, kind: &str) -> Outcome {
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Lines)?);
    let lines = job::lines(0, 400, 100);
    let file = place.logs().join("a.log");
    for (turn, part) in lines.chunks(100).enumerate() {
        let shipper = if turn % 2 == 0 { filebeat } else { pillion };
        let own = if shipper.pillion { AS_FILEBEAT } else { "" };
        place.configure(&(input(&place, kind) + &output(Protocol::Bulk, sink.port()) + own))?;
        job::append(&file, part)?;
        let size = fs::metadata(&file).map_err(|e| e.to_string())?.len();
        if shipper.pillion {
            let status = Child::start(shipper.command(&place).arg("--once"), &place.log())?.wait(LIMIT)?.status;
            if status.code() != Some(0) {
                return Err(format!("turn {turn}: Pillion: {status}; its place: {}", place.keep().display()));
            }
        } else {
            let mut child = Child::start(&mut shipper.command(&place), &place.log())?;
            until_read(&place, &mut child, size)?;
        }
        let stored = sink.tally().lines();
        let arrived = stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times));
        if let Err(why) = job::compare(&lines[..(turn + 1) * 100], arrived) {
            return Err(format!("turn {turn}, {}: {why}; its place: {}", shipper.name(), place.keep().display()));
        }
    }
    Ok(())
}

/// Whether any file of the registry holds this offset.
fn knows(place: &Place, offset: u64) -> bool {
    let folder = place.home().join("data/registry/filebeat");
    let texts = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|e| fs::read_to_string(e.path()).ok());
    texts.into_iter().any(|t| t.contains(&format!("\"offset\":{offset}")))
}

/// Filebeat ships to `pillion receive`, over both of its ports.
fn client(filebeat: &Shipper, pillion: &Shipper) -> Outcome {
    for protocol in [Protocol::Lumberjack, Protocol::Bulk] {
        let place = Place::new()?;
        let (lumberjack, bulk) = (ports::free()?, ports::free()?);
        let to = place.folder().join("received");
        fs::create_dir(&to).map_err(|e| e.to_string())?;
        let mut receive = Command::new(&pillion.path);
        receive.arg("receive").arg("--to").arg(&to);
        receive.args(["--lumberjack", &format!("127.0.0.1:{lumberjack}")]);
        receive.args(["--elasticsearch", &format!("127.0.0.1:{bulk}")]);
        let receiver = Child::start(&mut receive, &place.folder().join("receive.log"))?;
        let port = if protocol == Protocol::Bulk { bulk } else { lumberjack };
        place.configure(&(input(&place, "log") + &output(protocol, port)))?;
        let lines = job::lines(0, 10_000, 120);
        job::append(&place.logs().join("a.log"), &lines)?;
        let shipper = Child::start(&mut filebeat.command(&place), &place.log())?;
        let received = || -> Vec<String> {
            let texts =
                fs::read_dir(&to).into_iter().flatten().flatten().filter_map(|e| fs::read_to_string(e.path()).ok());
            let message = |l: &str| Some(serde_json::from_str::<Value>(l).ok()?["message"].as_str()?.to_owned());
            texts.flat_map(|t| t.lines().filter_map(message).collect::<Vec<_>>()).collect()
        };
        wait::until("all lines at the receiver", LIMIT, || Ok((received().len() >= lines.len()).then_some(())))
            .map_err(|e| format!("{}: {e}: {} came", protocol.name(), received().len()))?;
        drop((shipper, receiver));
        job::compare(&lines, received().iter().map(String::as_str))?;
    }
    Ok(())
}
