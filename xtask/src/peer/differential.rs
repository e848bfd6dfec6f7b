//! The same files and the same configuration for both, and their events field by field.
//!
//! Comes in: [`super::cases`]. Goes out: a line for each run, its differences printed.
//! Always holds: a difference fails the run unless it is in [`DELIBERATE`]; a deliberate one that isn't seen fails too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pillion_world::calendar::civil_from_days;

use super::cases::{Case, DELIBERATE, Deliberate, RUNS, SILENT};
use super::compare::{Flat, by_case, by_place, differences};
use super::nine::NINE;
use super::seven::SEVEN;
use super::{Pair, Score, Version, around, dns, end_filebeat, odd, pillion_once, sockets, stdin};
use crate::child::Child;
use crate::shipper::{Place, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, wait};

/// How long Filebeat gets beyond what it needs for as many events as Pillion had: only used when it has fewer.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(25);

/// A queue that hands events on at once.
pub(super) const QUEUE: &str = "queue.mem: {events: 4096, flush.min_events: 1, flush.timeout: 0s}\n";
/// The output to files, of which [`written`] is told the folder.
pub(super) const TO_FILE: &str = "output.file: {path: '${path.home}/out', filename: events}\n";

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File,
    Console,
    Wire(Protocol),
}

/// Where one program's events go.
struct Out {
    target: Target,
    sink: Option<Sink>,
}

impl Out {
    fn new(target: Target) -> Outcome<Out> {
        let Target::Wire(protocol) = target else { return Ok(Out { target, sink: None }) };
        Ok(Out { target, sink: Some(Sink::start(protocol, Depth::Lines)?) })
    }

    fn config(&self) -> String {
        match (self.target, &self.sink) {
            (Target::Wire(protocol), Some(sink)) => output(protocol, sink.port()),
            (Target::Console, _) => "output.console.enabled: true\n".to_owned(),
            _ => TO_FILE.to_owned(),
        }
    }

    /// The events so far, as NDJSON.
    fn written(&self, place: &Place) -> Vec<u8> {
        match (self.target, &self.sink) {
            (_, Some(sink)) => sink.tally().stored().iter().flat_map(|e| format!("{e}\n").into_bytes()).collect(),
            (Target::Console, _) => {
                let all = fs::read(place.console()).unwrap_or_default();
                let events = all.split_inclusive(|&b| b == b'\n').filter(|l| l.starts_with(b"{\"@timestamp\""));
                events.flatten().copied().collect()
            }
            _ => written(&place.home().join("out")),
        }
    }
}

/// What the files of a folder hold: `events`, or since 8.0 `events-DATE.ndjson`.
pub(super) fn written(folder: &Path) -> Vec<u8> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.flat_map(|file| fs::read(file.path()).unwrap_or_default()).collect()
}

/// All runs, each to a file or the console and to one of the wire's endpoints, in turn.
pub(super) fn suite(score: &mut Score, pair: &Pair) {
    for (i, (name, cases, settings)) in RUNS.iter().enumerate() {
        let (local, wire) = match i % 2 {
            0 => (Target::File, Protocol::Bulk),
            _ => (Target::Console, Protocol::Lumberjack),
        };
        score.case(name, || run(pair, cases, settings, local));
        score.case(&format!("{name}-{}", wire.name()), || run(pair, cases, settings, Target::Wire(wire)));
    }
    score.case("sockets", || sockets::compare(pair).map(|(said, _)| said));
    score.case("stdin", || stdin::compare(pair));
    score.case("around", || around::compare(pair));
    score.case("dns", || dns::compare(pair).map(|(said, _)| said));
    score.case("odd", || run(pair, &odd::cases("odd")?, "", Target::File));
    if pair.version == Version::Seven {
        score.case("seven", || run(pair, SEVEN, "", Target::File));
    }
    if pair.version == Version::Nine {
        score.case("nine", || run(pair, NINE, "", Target::File));
        score.case("odd9", || run(pair, &odd::cases("odd9")?, "", Target::File));
        score.case("cache", || {
            let runs = odd::runs("cache9")?;
            let said = runs.iter().map(|cases| run(pair, cases, "", Target::File)).collect::<Outcome<Vec<_>>>()?;
            Ok(said.join("; "))
        });
    }
}

fn run(pair: &Pair, cases: &[Case], settings: &str, target: Target) -> Outcome<String> {
    compare(pair, cases, settings, target).map(|(said, _)| said)
}

/// The same events of both, written to files; gives what was said, and Filebeat's as NDJSON.
pub(super) fn same(pair: &Pair, cases: &[Case]) -> Outcome<(String, Vec<u8>)> {
    compare(pair, cases, "", Target::File)
}

fn compare(pair: &Pair, cases: &[Case], settings: &str, target: Target) -> Outcome<(String, Vec<u8>)> {
    let (files, theirs, ours) = (Place::new()?, Place::new()?, Place::new()?);
    let config = configuration(pair.version, &files.logs(), cases, settings)?;
    let begin = now(&files)?;
    let outcome = (|| -> Outcome<(String, Vec<u8>)> {
        let (our_out, their_out) = (Out::new(target)?, Out::new(target)?);
        ours.configure(&(config.clone() + &our_out.config()))?;
        pillion_once(pair, &ours, &[])?;
        let pillion = by_case(&our_out.written(&ours), &text(&files.logs()), &begin)?;
        theirs.configure(&(config + &their_out.config()))?;
        filebeat_at(
            pair,
            &theirs,
            &|| their_out.written(&theirs),
            pillion.values().map(Vec::len).sum::<usize>().saturating_sub(more(cases)),
        )?;
        let raw = their_out.written(&theirs);
        let mut filebeat = by_case(&raw, &text(&files.logs()), &begin)?;
        filebeat.values_mut().for_each(|events| by_place(events));
        let bulk = target == Target::Wire(Protocol::Bulk);
        Ok((verdict(pair.version, &names(cases), bulk, &filebeat, &pillion)?, raw))
    })();
    outcome.map_err(|why| {
        let kept = [files, theirs, ours].map(|p| text(&p.keep()));
        format!("{why}\n    files, Filebeat's and Pillion's place: {}", kept.join(", "))
    })
}

/// Pillion's events alone.
pub(super) fn pillions(pair: &Pair, cases: &[Case]) -> Outcome<BTreeMap<String, Vec<Flat>>> {
    let (files, ours, out) = (Place::new()?, Place::new()?, Out::new(Target::File)?);
    ours.configure(&(configuration(pair.version, &files.logs(), cases, "")? + &out.config()))?;
    pillion_once(pair, &ours, &[])?;
    by_case(&out.written(&ours), &text(&files.logs()), &now(&files)?)
}

/// Filebeat's events alone, so many, as NDJSON.
pub(super) fn filebeats(pair: &Pair, cases: &[Case], events: usize) -> Outcome<Vec<u8>> {
    let (files, theirs, out) = (Place::new()?, Place::new()?, Out::new(Target::File)?);
    theirs.configure(&(configuration(pair.version, &files.logs(), cases, "")? + &out.config()))?;
    filebeat_at(pair, &theirs, &|| out.written(&theirs), events)?;
    Ok(out.written(&theirs))
}

fn names(cases: &[Case]) -> Vec<&str> {
    cases.iter().map(|case| case.name).collect()
}

/// How many events Pillion makes and Filebeat doesn't.
fn more(cases: &[Case]) -> usize {
    DELIBERATE.iter().filter(|d| d.field == "events" && cases.iter().any(|c| c.name == d.case)).count()
}

/// The time as the file system has it, as in an event.
pub(super) fn now(place: &Place) -> Outcome<String> {
    let seconds = fs::metadata(place.folder())
        .and_then(|m| m.modified())
        .map_err(|e| e.to_string())?
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|e| e.to_string())?
        .as_secs();
    let (year, month, day) = civil_from_days((seconds / 86_400) as i64);
    Ok(format!("{year:04}-{month:02}-{day:02}"))
}

fn configuration(version: Version, logs: &Path, cases: &[Case], settings: &str) -> Outcome<String> {
    let mut config = String::from("filebeat.inputs:\n");
    for case in cases {
        let folder = logs.join(case.name);
        for (name, bytes) in case.files {
            put(&folder.join(name), bytes).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        // Filebeat flushes an open group at the end of the file only when it closes the file there.
        let close = if case.kind == "filestream" { "close.reader.on_eof: true" } else { "close_eof: true" };
        let id = if case.kind == "filestream" { format!("id: {}, ", case.name) } else { String::new() };
        let old = if version == Version::Nine { as_before(case) } else { "" };
        let comma = if case.options.is_empty() { "" } else { ", " };
        let paths = match case.kind {
            "docker" => format!("containers.path: '{}', containers.ids: [{}]", logs.display(), case.name),
            _ => format!("paths: ['{}']", folder.join(case.glob).display()),
        };
        let _ = writeln!(config, "- {{type: {}, {id}{paths}, {close}{old}{comma}{}}}", case.kind, case.options);
    }
    config.push_str(settings);
    config.push_str(QUEUE);
    Ok(config)
}

/// What an input of 9 needs to behave as before: two types are taken only so, and a filestream leaves small files alone
/// unless it goes by inodes.
fn as_before(case: &Case) -> &'static str {
    match case.kind {
        "filestream" if case.options.contains("fingerprint") => "",
        "filestream" if case.options.contains("file_identity") => ", prospector.scanner.fingerprint.enabled: false",
        "filestream" => ", file_identity.native: null, prospector.scanner.fingerprint.enabled: false",
        _ => ", allow_deprecated_use: true",
    }
}

/// Writes a file, or a link when its text is `-> NAME`.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match bytes.strip_prefix(b"-> ") {
        Some(target) => symlink(PathBuf::from(String::from_utf8_lossy(target).into_owned()), path),
        None => fs::write(path, bytes),
    }
}

/// Runs Filebeat until it has written as many events as Pillion, then ends it.
pub(super) fn filebeat_at(pair: &Pair, place: &Place, written: &dyn Fn() -> Vec<u8>, events: usize) -> Outcome {
    let child = pair.start(&pair.filebeat, place, &["-E", "filebeat.shutdown_timeout=5s"])?;
    filebeat_ends_at(child, place, written, events)
}

/// Waits until Filebeat has written so many events, then ends it.
pub(super) fn filebeat_ends_at(
    mut child: Child,
    place: &Place,
    written: &dyn Fn() -> Vec<u8>,
    events: usize,
) -> Outcome {
    let enough = wait::until("as many events as Pillion's", LIMIT, || match child.ended()? {
        Some(ended) => Err(format!("Filebeat ended: {}; {}", ended.status, super::tail(&place.log()))),
        None => Ok((count(&written()) >= events).then_some(())),
    });
    end_filebeat(child)?;
    // What is missing is told as a difference.
    enough.or_else(|why| if why.starts_with("waited") { Ok(()) } else { Err(why) })
}

fn count(ndjson: &[u8]) -> usize {
    ndjson.iter().filter(|&&b| b == b'\n').count()
}

/// What was compared, or all that differs and isn't meant.
pub(super) fn verdict(
    version: Version,
    cases: &[&str],
    bulk: bool,
    filebeat: &BTreeMap<String, Vec<Flat>>,
    pillion: &BTreeMap<String, Vec<Flat>>,
) -> Outcome<String> {
    let none = Vec::new();
    let (mut events, mut fields, mut meant, mut bad) = (0, 0, 0, String::new());
    for &case in cases {
        let theirs = filebeat.get(case).unwrap_or(&none);
        let ours = pillion.get(case).unwrap_or(&none);
        events += theirs.len();
        fields += theirs.iter().map(Flat::len).sum::<usize>();
        if theirs.is_empty() != SILENT.contains(&case) {
            let _ = write!(bad, "\n    {}: Filebeat has {} events", case, theirs.len());
        }
        let meant_here = |d: &&Deliberate| d.case == case && d.beside.is_none_or(|v| v == version);
        let mut expected: Vec<_> =
            DELIBERATE.iter().filter(meant_here).filter(|d| bulk || !d.field.starts_with("action.")).collect();
        let found = differences(theirs, ours);
        for difference in &found {
            match DELIBERATE.iter().filter(meant_here).find(|d| d.field == difference.field) {
                Some(row) => {
                    meant += 1;
                    expected.retain(|d| d.field != row.field);
                    println!("  meant: {}: {}\n    {}", case, row.reason, difference.text);
                }
                None => {
                    let _ = write!(bad, "\n    {}: {}", case, difference.text);
                }
            }
        }
        for row in expected {
            let _ = write!(bad, "\n    {}: {} is no different any more ({})", case, row.field, row.reason);
        }
    }
    // A line may have overwritten the file's path: such events are compared all the same.
    // Which of several files is read first is anybody's choice.
    let [theirs, ours] = [filebeat, pillion].map(|all| {
        let mut events = all.get("?").unwrap_or(&none).clone();
        events.sort_by_cached_key(|event| format!("{event:?}"));
        events
    });
    for difference in differences(&theirs, &ours) {
        let _ = write!(bad, "\n    events that name no file: {}", difference.text);
    }
    if bad.is_empty() {
        Ok(format!("{} inputs, {events} events, {fields} fields the same; {meant} differences meant", cases.len()))
    } else {
        Err(bad)
    }
}

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}
