//! The disk queue end to end: the real executable while the target is away, killed, and on a full disk.
//!
//! Comes in: nothing. Goes out: a line for each case, and an error when one failed. Always holds: a full disk is a file
//! system in memory in a namespace of the case's own. The simulation tries every step of the file system; here it is shown
//! that the program does what the simulated core does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::child::{self, Child};
use crate::peer::{Score, tail};
use crate::shipper::{Place, Shipper, input, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Files whose lines are queued while the target is away.
const FILES: usize = 4;
/// Lines of each.
const LINES: usize = 1500;

/// Runs all cases.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let Some(odd) = words.first() {
        return Err(format!("what is {odd}?"));
    }
    child::run(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]))
        .map_err(|e| format!("a full disk needs user and mount namespaces: {e}"))?;
    let shipper = Shipper::named("pillion")?;
    let mut score = Score::new(None);
    score.case("away, deleted, killed", || killed_while_away(&shipper));
    score.case("killed again and again", || killed_again_and_again(&shipper));
    score.case("a full disk", || full_disk(&shipper));
    score.end()
}

/// A configuration with a disk queue, for the target at this port.
fn configure(place: &Place, port: u16, more: &str) -> Outcome {
    let input = input(place, "filestream");
    place.configure(&format!("{input}{}pillion.exactly_once: true\n{more}", output(Protocol::Bulk, port)))
}

/// A port on which nobody listens.
fn nobody() -> Outcome<u16> {
    Sink::start(Protocol::Bulk, Depth::Count).map(|sink| sink.port())
}

/// Waits until the registry's cursors stand behind all that is in these files: it is in the queue.
fn all_queued(place: &Place, paths: &[std::path::PathBuf]) -> Outcome {
    let registry = place.home().join("data/registry/filebeat/log.json");
    let sizes: Vec<u64> =
        paths.iter().map(|p| fs::metadata(p).map(|m| m.len())).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    wait::until("cursors behind all lines", LIMIT, || {
        let text = fs::read_to_string(&registry).unwrap_or_default();
        Ok(sizes.iter().all(|size| text.contains(&format!("\"offset\":{size}"))).then_some(()))
    })
}

fn receipt(place: &Place) -> Outcome<Value> {
    let text = fs::read(place.receipt()).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| e.to_string())
}

/// Ends it, and wants this exit code.
fn ends(child: &mut Child, signal: Option<Signal>, code: i32) -> Outcome {
    signal.into_iter().for_each(|signal| child.signal(signal));
    match child.wait(LIMIT)?.status {
        status if status.code() == Some(code) => Ok(()),
        status => Err(format!("it ended with {status} instead of {code}")),
    }
}

fn each_once(lines: &[String], sink: &Sink) -> Outcome {
    let stored = sink.tally().lines();
    job::compare(lines, stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times)))
}

/// The target is away; files are written and deleted; it is killed; a run that ends without the target says what it holds;
/// the next one sends it.
fn killed_while_away(shipper: &Shipper) -> Outcome<String> {
    let place = Place::new()?;
    let lines = job::lines(0, FILES * LINES, 90);
    let receipt_at = format!("queue.disk.max_size: 20MB\npillion.receipt: {}\n", place.receipt().display());
    configure(&place, nobody()?, &receipt_at)?;
    let outcome = (|| {
        let mut first = Child::start(&mut shipper.command(&place), &place.log())?;
        let mut paths = Vec::new();
        for (n, part) in lines.chunks(LINES).enumerate() {
            let path = place.logs().join(format!("{n}.log"));
            // Different sizes, so that one cursor isn't taken for another's.
            job::append(&path, part.get(..LINES - 10 * n).unwrap_or_default())?;
            paths.push(path);
        }
        let lines: Vec<String> =
            lines.chunks(LINES).enumerate().flat_map(|(n, part)| part.iter().take(LINES - 10 * n)).cloned().collect();
        all_queued(&place, &paths)?;
        first.signal(Signal::KILL);
        first.wait(LIMIT)?;
        for path in &paths {
            fs::remove_file(path).map_err(|e| e.to_string())?;
        }
        let drain = format!("{receipt_at}pillion.drain.timeout: 1s\n");
        configure(&place, nobody()?, &drain)?;
        let mut second = Child::start(shipper.command(&place).arg("--once"), &place.log())?;
        ends(&mut second, None, 3)?;
        let said = receipt(&place)?;
        let n = lines.len();
        if said["queue"]["events"] != n || said["totals"]["acknowledged"] != 0 || said["totals"]["carried"] != n {
            return Err(format!("the receipt doesn't tell of {n} queued events: {said}"));
        }
        let sink = Sink::start(Protocol::Bulk, Depth::Lines)?;
        configure(&place, sink.port(), &receipt_at)?;
        let mut third = Child::start(&mut shipper.command(&place), &place.log())?;
        sink.tally().wait_for(n as u64, LIMIT)?;
        ends(&mut third, Some(Signal::TERM), 0)?;
        each_once(&lines, &sink)?;
        match receipt(&place)? {
            said if said["verdict"] == "complete" && said["queue"]["events"] == 0 => {
                Ok(format!("{n} lines of deleted files, each once"))
            }
            said => Err(format!("the last receipt isn't complete: {said}")),
        }
    })();
    outcome.map_err(|why: String| format!("{why}; {}", tail(&place.log())))
}

/// It is killed while lines are written, queued and sent.
fn killed_again_and_again(shipper: &Shipper) -> Outcome<String> {
    const ROUNDS: usize = 12;
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Lines)?);
    let lines = job::lines(0, ROUNDS * 500, 90);
    configure(&place, sink.port(), "queue.disk.max_size: 20MB\n")?;
    let outcome = (|| {
        for (n, part) in lines.chunks(500).enumerate() {
            let mut child = Child::start(&mut shipper.command(&place), &place.log())?;
            job::append(&place.logs().join(format!("{}.log", n % 3)), part)?;
            // Somewhere in the midst of it.
            sink.tally().wait_for((n * 450 + 30 * (n % 7)) as u64, LIMIT)?;
            child.signal(Signal::KILL);
            child.wait(LIMIT)?;
        }
        let mut last = Child::start(shipper.command(&place).arg("--once"), &place.log())?;
        ends(&mut last, None, 0)?;
        each_once(&lines, &sink)?;
        Ok(format!("{} lines over {ROUNDS} kills, each once, {} sent again", lines.len(), sink.tally().refused()))
    })();
    outcome.map_err(|why: String| format!("{why}; {}", tail(&place.log())))
}

/// The queue's file system is smaller than what is to be queued: it is waited for room, and that is said once.
fn full_disk(shipper: &Shipper) -> Outcome<String> {
    const SAID: &str = "the disk queue can't be written";
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Lines)?);
    let lines = job::lines(0, 30_000, 200);
    let small = place.folder().join("small");
    fs::create_dir(&small).map_err(|e| e.to_string())?;
    let queue = format!("queue.disk: {{max_size: 0, segment_size: 1MB, path: {}/queue}}\n", small.display());
    let refusing = nobody()?;
    configure(&place, refusing, &queue)?;
    job::append(&place.logs().join("a.log"), &lines)?;
    // The second run has to be in the first one's namespace: the first one's shell waits for a line.
    let words: Vec<String> = shipper.words(&place).iter().map(|w| format!("'{w}'")).collect();
    let words = words.join(" ");
    let go = place.folder().join("go");
    let script = format!(
        "mount -t tmpfs -o size=3m,mode=700 none '{}' && {{ {words} & p=$!; while [ ! -e '{}' ]; do sleep 0.1; done; \
         kill -9 $p; wait $p; exec {words} --once; }}",
        small.display(),
        go.display()
    );
    let outcome = (|| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        let mut child = Child::start(&mut command, &place.log())?;
        let log = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        wait::until(SAID, LIMIT, || Ok(log(&place.log()).contains(SAID).then_some(())))?;
        configure(&place, sink.port(), &queue)?;
        fs::write(&go, "").map_err(|e| e.to_string())?;
        ends(&mut child, None, 0)?;
        each_once(&lines, &sink)?;
        match log(&place.log()).matches(SAID).count() {
            // Once by each of the two runs, if the second one still finds it full.
            1..=2 => Ok(format!("{} lines through 3 MB, said once by a run", lines.len())),
            times => Err(format!("said {times} times that {SAID}")),
        }
    })();
    outcome.map_err(|why: String| format!("{why}; {}", tail(&place.log())))
}
