//! One program goes on where the other stopped, on the same `path.data`.
//!
//! Always holds: at each change of hands all that was written so far is acknowledged once: nothing lost, nothing doubled.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{LIMIT, Pair, Score, end_filebeat, pillion_once, tail};
use crate::child::Child;
use crate::shipper::{Place, Shipper, input, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job, wait};

/// All swaps.
pub(super) fn suite(score: &mut Score, pair: &Pair) {
    for kind in ["log", "filestream"] {
        for (order, first) in [("filebeat-first", false), ("pillion-first", true)] {
            score.case(&format!("{kind}-{order}"), || to_and_fro(pair, kind, first));
        }
        score.case(&format!("{kind}-midway"), || midway(pair, kind));
    }
    for (name, nested) in [("registry-5.6", Old::Five), ("registry-6.x", Old::Six), ("registry-7.0", Old::Seven)] {
        score.case(name, || old_registry(pair, nested));
    }
}

/// A place, an endpoint, and what has been written so far.
struct Stage {
    place: Place,
    sink: Sink,
    written: Vec<String>,
}

impl Stage {
    fn new(kind: &str) -> Outcome<Stage> {
        let (place, sink) = (Place::new()?, Sink::start(Protocol::Lumberjack, Depth::Lines)?);
        let config = input(&place, kind)
            + &output(Protocol::Lumberjack, sink.port())
            + "queue.mem: {events: 4096, flush.min_events: 1, flush.timeout: 0s}\nfilebeat.registry.flush: 0s\n";
        place.configure(&config)?;
        Ok(Stage { place, sink, written: Vec::new() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.logs().join(name)
    }

    fn write(&mut self, name: &str, lines: usize) -> Outcome {
        let new = job::lines(self.written.len(), self.written.len() + lines, 100);
        job::append(&self.file(name), &new)?;
        self.written.extend(new);
        Ok(())
    }

    /// Lets a program ship all there is, then ends it.
    fn ship(&self, pair: &Pair, by: &Shipper) -> Outcome {
        if by.is_pillion() {
            return pillion_once(pair, &self.place, &[]);
        }
        let mut child = pair.start(by, &self.place, &["-E", "filebeat.shutdown_timeout=20s"])?;
        self.settled(&mut child)?;
        end_filebeat(child)
    }

    /// Waits until Filebeat's registry has each file's whole length.
    fn settled(&self, child: &mut Child) -> Outcome {
        wait::until("Filebeat's registry to have it all", LIMIT, || match child.ended()? {
            Some(ended) => Err(format!("Filebeat ended: {}; {}", ended.status, tail(&self.place.log()))),
            None => Ok(self.registry_has_all()?.then_some(())),
        })
    }

    fn registry_has_all(&self) -> Outcome<bool> {
        let folder = self.place.home().join("data/registry/filebeat");
        let texts: Vec<String> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| fs::read_to_string(e.path()).ok())
            .collect();
        for file in fs::read_dir(self.place.logs()).map_err(|e| e.to_string())?.flatten() {
            let about = file.metadata().map_err(|e| e.to_string())?;
            let key = format!("::{}-", about.ino());
            let offset = format!("\"offset\":{}", about.len());
            // A line of the log, or a checkpoint's array, in which each value is looked at for itself.
            let has = |t: &String| t.split(['\n', '{']).any(|part| part.contains(&offset)) && t.contains(&key);
            if !texts.iter().any(has) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check(&self, when: &str) -> Outcome {
        let stored = self.sink.tally().lines();
        let arrived = stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times));
        job::compare(&self.written, arrived).map_err(|why| format!("{when}: {why}"))
    }

    fn keep(self, outcome: Outcome<String>) -> Outcome<String> {
        outcome.map_err(|why| format!("{why}; {}; its place: {}", tail(&self.place.log()), self.place.keep().display()))
    }
}

/// Six turns: appended, rotated, new and untouched files.
fn to_and_fro(pair: &Pair, kind: &str, pillion_first: bool) -> Outcome<String> {
    let mut stage = Stage::new(kind)?;
    let outcome = (|| {
        for turn in 0..6 {
            stage.write("appended.log", 100 + turn)?;
            stage.write(&format!("new-{turn}.log"), 50)?;
            match turn {
                0 => stage.write("untouched.log", 30)?,
                // Renamed within what is read, and begun anew under its old name.
                2 | 3 => {
                    let to = stage.file(&format!("appended-{turn}.log"));
                    fs::rename(stage.file("appended.log"), to).map_err(|e| e.to_string())?;
                    stage.write("appended.log", 40)?;
                }
                _ => {}
            }
            let by = if (turn % 2 == 0) == pillion_first { &pair.pillion } else { &pair.filebeat };
            stage.ship(pair, by)?;
            stage.check(&format!("turn {turn}, {}", by.name()))?;
        }
        let files = fs::read_dir(stage.place.logs()).map_err(|e| e.to_string())?.count();
        Ok(format!("6 turns, {} lines of {files} files, each once", stage.written.len()))
    })();
    stage.keep(outcome)
}

/// Filebeat is stopped while it ships; Pillion goes on, is killed while it ships, and goes on; Filebeat ends it.
///
/// What a program had sent and not yet written down comes again: nothing is lost, and what is doubled is counted.
fn midway(pair: &Pair, kind: &str) -> Outcome<String> {
    const LINES: usize = 60_000;
    let mut stage = Stage::new(kind)?;
    let outcome = (|| {
        stage.write("a.log", LINES / 2)?;
        stage.write("b.log", LINES / 2)?;
        let child = pair.start(&pair.filebeat, &stage.place, &[])?;
        stage.sink.tally().wait_for(2000, LIMIT)?;
        end_filebeat(child)?;
        let after_filebeat = stage.sink.tally().events();
        let child = pair.start(&pair.pillion, &stage.place, &["-E", "output.logstash.bulk_max_size=200"])?;
        stage.sink.tally().wait_for(after_filebeat + 2000, LIMIT)?;
        drop(child);
        let after_kill = stage.sink.tally().events();
        pillion_once(pair, &stage.place, &[])?;
        stage.write("a.log", 100)?;
        stage.ship(pair, &pair.filebeat)?;
        let lines = stage.sink.tally().lines();
        let lost = stage.written.iter().filter(|l| !lines.contains_key(*l)).count();
        let again: usize = lines.values().map(|n| n - 1).sum();
        if lost > 0 || lines.len() != stage.written.len() {
            return Err(format!("{lost} of {} lines lost, {} known", stage.written.len(), lines.len()));
        }
        Ok(format!(
            "{} lines, none lost: {after_filebeat} sent when Filebeat was stopped, {after_kill} when Pillion was killed, {again} sent again",
            stage.written.len()
        ))
    })();
    stage.keep(outcome)
}

/// The registries of before memlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    Five,
    Six,
    Seven,
}

/// A registry made by hand: one file half read, one wholly, one unknown, one that is gone, and a faulty entry.
fn old_registry(pair: &Pair, old: Old) -> Outcome<String> {
    let mut stage = Stage::new("log")?;
    let outcome = (|| {
        let half = job::lines(1_000_000, 1_000_040, 100);
        job::append(&stage.file("half.log"), &half)?;
        job::append(&stage.file("whole.log"), &half)?;
        let entry = |name: &str| -> Outcome<Value> {
            let about = fs::metadata(stage.file(name)).map_err(|e| e.to_string())?;
            let mut entry = json!({"source": stage.file(name), "offset": about.len(), "ttl": -1,
                "timestamp": "2020-01-01T00:00:00.123456789Z",
                "FileStateOS": {"inode": about.ino(), "device": about.dev()}});
            if old != Old::Five {
                entry["type"] = "log".into();
                entry["meta"] = Value::Null;
            }
            Ok(entry)
        };
        let gone = json!({"source": "/nowhere/gone.log", "offset": 7, "ttl": -1, "timestamp": "2020-01-01T00:00:00Z",
            "FileStateOS": {"inode": 1, "device": 1}});
        let registry = json!([entry("half.log")?, gone, entry("whole.log")?]).to_string();
        let data = stage.place.home().join("data");
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&data)?;
            match old {
                Old::Five | Old::Six => fs::write(data.join("registry"), &registry),
                Old::Seven => {
                    fs::create_dir_all(data.join("registry/filebeat"))?;
                    fs::write(data.join("registry/filebeat/meta.json"), r#"{"version":"0"}"#)?;
                    fs::write(data.join("registry/filebeat/data.json"), &registry)
                }
            }
        };
        write().map_err(|e| e.to_string())?;
        stage.write("half.log", 60)?;
        stage.write("unknown.log", 20)?;
        stage.ship(pair, &pair.pillion)?;
        stage.check("taken over by Pillion")?;
        stage.write("half.log", 10)?;
        stage.write("whole.log", 10)?;
        stage.ship(pair, &pair.filebeat)?;
        stage.check("handed on to Filebeat")?;
        stage.write("whole.log", 10)?;
        stage.ship(pair, &pair.pillion)?;
        stage.check("and back")?;
        Ok(format!("{} new lines each once, 80 old ones not again", stage.written.len()))
    })();
    stage.keep(outcome)
}
