//! inotify with nothing left: the real executable where the kernel refuses instances or watches.
//!
//! Comes in: nothing. Goes out: a line for each case, and an error when one failed. Always holds: the limits are those of
//! a user namespace of the case's own, so that no other program on the machine goes without.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::{self, Child};
use crate::peer::{Score, tail};
use crate::shipper::{Place, Shipper, input, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job};

const LIMIT: Duration = Duration::from_secs(60);

/// What the log says once.
const SAID: &str = "inotify has nothing left";

/// Runs both cases.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let Some(odd) = words.first() {
        return Err(format!("what is {odd}?"));
    }
    child::run(Command::new("unshare").args(["--user", "--map-root-user", "true"]))
        .map_err(|e| format!("these cases need a user namespace: {e}"))?;
    let shipper = Shipper::named("pillion")?;
    let mut score = Score::new(None);
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        score.case(limit, || without(&shipper, limit));
    }
    score.end()
}

/// A file that is followed, a new one, a new folder, and the end: all of it by looking.
fn without(shipper: &Shipper, limit: &str) -> Outcome<String> {
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Lumberjack, Depth::Lines)?);
    let paths = format!("{}/**/*.log", place.logs().display());
    let config = input(&place, "log").replace(&format!("{}/*.log", place.logs().display()), &paths);
    place.configure(&(config + "  scan_frequency: 1s\n" + &output(Protocol::Lumberjack, sink.port())))?;
    let lines = job::lines(0, 400, 80);
    let mut parts = lines.chunks(100);
    let mut write = |name: &str| {
        let path = place.logs().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| e.to_string())?;
        job::append(&path, parts.next().unwrap_or_default())
    };
    write("a.log")?;
    let words: Vec<String> = shipper.words(&place).iter().map(|w| format!("'{w}'")).collect();
    let script = format!("echo 0 > /proc/sys/user/{limit} && exec {}", words.join(" "));
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &script]);
    let mut child = Child::start(&mut command, &place.log())?;
    let outcome = (|| {
        sink.tally().wait_for(100, LIMIT)?;
        write("a.log")?;
        write("b.log")?;
        write("new/folder/c.log")?;
        sink.tally().wait_for(400, LIMIT)?;
        child.signal(Signal::TERM);
        let status = child.wait(LIMIT)?.status;
        if status.code() != Some(0) {
            return Err(format!("it ended with {status}"));
        }
        let stored = sink.tally().lines();
        job::compare(&lines, stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times)))?;
        match fs::read_to_string(place.log()).map_err(|e| e.to_string())?.matches(SAID).count() {
            1 => Ok("400 lines in three files by looking; said once".to_owned()),
            times => Err(format!("said {times} times that {SAID}")),
        }
    })();
    outcome.map_err(|why| format!("{why}; {}", tail(&place.log())))
}
