//! What the dead leave, end to end: sidecars on one shared folder, killed in mid-work, and `pillion sweep` behind them.
//!
//! Comes in: nothing. Goes out: a line for each case, and an error when one failed. Always holds: the target isn't
//! Pillion's own code; a line counts by its text, a document by its id.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::Child;
use crate::peer::{Score, tail};
use crate::shipper::{Place, Shipper, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job};

const LIMIT: Duration = Duration::from_secs(120);
/// Sidecars, and how many of them are killed.
const PODS: usize = 20;
const KILLED: usize = 7;
/// Lines that each pod writes, half of them before the kill.
const LINES: usize = 2000;

/// Runs all cases.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let Some(odd) = words.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let mut score = Score::new(None);
    score.case("killed", || killed(&shipper, Layout::Own, 1));
    score.case("flat", || killed(&shipper, Layout::Flat, 1));
    score.case("two-sweepers", || killed(&shipper, Layout::Own, 2));
    score.end()
}

/// Where pods write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Each in a folder of its own.
    Own,
    /// All in one, each its own files.
    Flat,
}

impl Layout {
    fn file(self, place: &Place, pod: &str) -> PathBuf {
        match self {
            Layout::Own => place.logs().join(pod).join("a.log"),
            Layout::Flat => place.logs().join(format!("{pod}.log")),
        }
    }

    fn pattern(self, place: &Place) -> String {
        let logs = place.logs().display().to_string();
        match self {
            Layout::Own => format!("{logs}/${{POD_NAME}}/*.log"),
            Layout::Flat => format!("{logs}/${{POD_NAME}}.log"),
        }
    }
}

/// Twenty sidecars write and ship at once; seven are killed in mid-work, and what they left is swept while the others work
/// on.
fn killed(shipper: &Shipper, layout: Layout, sweepers: usize) -> Outcome<String> {
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Lines)?);
    place.configure(&format!(
        "filebeat.inputs:\n- type: filestream\n  id: job\n  paths: ['{}']\n  prospector.scanner.check_interval: 500ms\n\
         pillion:\n  exactly_once: true\n  registry: {{beside_logs: true, name: '${{POD_NAME}}', heartbeat: 1s}}\n{}",
        layout.pattern(&place),
        output(Protocol::Bulk, sink.port())
    ))?;
    let names: Vec<String> = (0..PODS).map(|n| format!("pod-{n:02}")).collect();
    let lines = job::lines(0, PODS * LINES, 80);
    let of = |n: usize| &lines[n * LINES..(n + 1) * LINES];
    let mut pods = Vec::new();
    for name in &names {
        let file = layout.file(&place, name);
        file.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| e.to_string())?;
        let mut command = shipper.command(&place);
        command.env("POD_NAME", name).env_remove("KUBERNETES_SERVICE_HOST");
        pods.push(Child::start(&mut command, &place.folder().join(format!("{name}.err")))?);
    }
    let outcome = (|| {
        for (n, name) in names.iter().enumerate() {
            job::append(&layout.file(&place, name), &of(n)[..LINES / 2])?;
        }
        // In mid-work: something of most of them has arrived, and not all.
        sink.tally().wait_for((PODS * LINES / 4) as u64, LIMIT)?;
        for pod in &mut pods[..KILLED] {
            pod.signal(Signal::KILL);
            pod.wait(LIMIT)?;
        }
        for (n, name) in names.iter().enumerate() {
            job::append(&layout.file(&place, name), &of(n)[LINES / 2..])?;
        }
        sweep(shipper, &place, sweepers)?;
        sink.tally().wait_for((PODS * LINES) as u64, LIMIT)?;
        for pod in &mut pods[KILLED..] {
            pod.signal(Signal::INT);
            let status = pod.wait(LIMIT)?.status;
            if status.code() != Some(0) {
                return Err(format!("a living sidecar ended with {status}"));
            }
        }
        let stored = sink.tally().lines();
        job::compare(&lines, stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times)))?;
        let done = names.iter().enumerate().filter(|(n, name)| *n < KILLED && is_done(layout, &place, name)).count();
        match done {
            KILLED => Ok(format!("{} lines of {PODS} pods, {KILLED} of them killed, each once", lines.len())),
            done => Err(format!("{done} of {KILLED} registries are marked as done")),
        }
    })();
    outcome.map_err(|why: String| format!("{why}; {}", tail(&place.folder().join("sweep-0.err"))))
}

fn is_done(layout: Layout, place: &Place, name: &str) -> bool {
    let file = layout.file(place, name);
    file.parent().is_some_and(|dir| dir.join(".pillion").join(name).join("done.json").is_file())
}

/// Sweeps until nothing is left, with so many at once.
fn sweep(shipper: &Shipper, place: &Place, sweepers: usize) -> Outcome {
    let start = |n: usize| {
        let mut command = Command::new(&shipper.path);
        command.args(["sweep", "-e", "--strict.perms=false", "--grace", "3s", "--path.home"]).arg(place.home());
        command.arg("-c").arg(place.config()).arg(place.logs());
        command.env("POD_NAME", "sweeper").env_remove("KUBERNETES_SERVICE_HOST");
        Child::start(&mut command, &place.folder().join(format!("sweep-{n}.err")))
    };
    let mut all = (0..sweepers).map(start).collect::<Outcome<Vec<Child>>>()?;
    for (n, child) in all.iter_mut().enumerate() {
        let status = child.wait(LIMIT)?.status;
        if status.code() != Some(0) {
            return Err(format!("sweeper {n} ended with {status}: {}", said(place, n)));
        }
    }
    Ok(())
}

fn said(place: &Place, n: usize) -> String {
    fs::read_to_string(place.folder().join(format!("sweep-{n}.err")))
        .unwrap_or_default()
        .lines()
        .rev()
        .take(5)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_folder_tells_pods_by_their_files() {
        let place = Place::new().unwrap();
        assert_eq!(Layout::Flat.file(&place, "a").parent(), Some(place.logs().as_path()));
        assert!(Layout::Own.pattern(&place).ends_with("/${POD_NAME}/*.log"));
    }
}
