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
use crate::{Outcome, job, wait};

/// What an input needs for that.
pub(crate) const BY_FINGERPRINT: &str =
    "  file_identity.fingerprint: ~\n  prospector.scanner.fingerprint.enabled: true\n";

const LIMIT: Duration = Duration::from_secs(120);

/// Runs all cases.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let Some(odd) = words.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let mut score = Score::new(None);
    for (name, layout, sweepers) in
        [("killed", Layout::Own, 1), ("flat", Layout::Flat, 1), ("two-sweepers", Layout::Own, 2)]
    {
        score.case(name, || {
            let place = Place::new()?;
            let (logs, swept) = (place.logs(), vec![place.logs(); sweepers]);
            killed(
                &shipper,
                &place,
                &Scene { layout, pods: 20, killed: 7, lines: 2000, stopped: true, by_fingerprint: false, logs, swept },
            )
        });
    }
    score.end()
}

/// Where pods write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each in a folder of its own.
    Own,
    /// All in one, each its own files.
    Flat,
}

/// Pods on a volume, and those who sweep it.
pub(crate) struct Scene {
    pub(crate) layout: Layout,
    /// Sidecars, and how many of them are killed.
    pub(crate) pods: usize,
    pub(crate) killed: usize,
    /// Lines that each pod writes, half of them before the kill.
    pub(crate) lines: usize,
    /// One that lives is stopped while the sweepers look: it holds its lock, and shows nothing else.
    pub(crate) stopped: bool,
    /// Files are told by their content, not by their inodes.
    pub(crate) by_fingerprint: bool,
    /// The volume as the pods see it.
    pub(crate) logs: PathBuf,
    /// As each of the sweepers sees it, which are there at once.
    pub(crate) swept: Vec<PathBuf>,
}

impl Scene {
    fn file(&self, pod: &str) -> PathBuf {
        match self.layout {
            Layout::Own => self.logs.join(pod).join("a.log"),
            Layout::Flat => self.logs.join(format!("{pod}.log")),
        }
    }

    fn pattern(&self) -> String {
        let logs = self.logs.display();
        match self.layout {
            Layout::Own => format!("{logs}/${{POD_NAME}}/*.log"),
            Layout::Flat => format!("{logs}/${{POD_NAME}}.log"),
        }
    }

    /// Whether a pod's registry has such a file.
    fn has(&self, pod: &str, name: &str) -> bool {
        let file = self.file(pod);
        file.parent().is_some_and(|dir| dir.join(".pillion").join(pod).join(name).is_file())
    }
}

/// Sidecars write and ship at once; some are killed in mid-work, and what they left is swept while the others work on.
pub(crate) fn killed(shipper: &Shipper, place: &Place, scene: &Scene) -> Outcome<String> {
    let sink = Sink::start(Protocol::Bulk, Depth::Lines)?;
    let identity = if scene.by_fingerprint { BY_FINGERPRINT } else { "" };
    place.configure(&format!(
        "filebeat.inputs:\n- type: filestream\n  id: job\n  paths: ['{}']\n  prospector.scanner.check_interval: 500ms\n\
         {identity}pillion:\n  exactly_once: true\n  registry: {{beside_logs: true, name: '${{POD_NAME}}', heartbeat: 1s}}\n{}",
        scene.pattern(),
        output(Protocol::Bulk, sink.port())
    ))?;
    let names: Vec<String> = (0..scene.pods).map(|n| format!("pod-{n:02}")).collect();
    let mut pods = Vec::new();
    for name in &names {
        let file = scene.file(name);
        file.parent().map_or(Ok(()), fs::create_dir_all).map_err(|e| e.to_string())?;
        let mut command = shipper.command(place);
        command.env("POD_NAME", name).env_remove("KUBERNETES_SERVICE_HOST");
        pods.push(Child::start(&mut command, &place.folder().join(format!("{name}.err")))?);
    }
    let outcome = shipped(shipper, place, scene, &sink, &names, &mut pods);
    outcome.map_err(|why: String| format!("{why}; {}", tail(&place.folder().join("sweep-0.err"))))
}

fn shipped(
    shipper: &Shipper,
    place: &Place,
    scene: &Scene,
    sink: &Sink,
    names: &[String],
    pods: &mut [Child],
) -> Outcome<String> {
    let (killed, all) = (scene.killed, scene.pods * scene.lines);
    let lines = job::lines(0, all, 80);
    let of = |n: usize| &lines[n * scene.lines..(n + 1) * scene.lines];
    for (n, name) in names.iter().enumerate() {
        job::append(&scene.file(name), &of(n)[..scene.lines / 2])?;
    }
    // In mid-work: something of most of them has arrived, and not all; and whoever never began leaves nothing to go on with.
    sink.tally().wait_for((all / 4) as u64, LIMIT)?;
    let begun = || Ok(names.iter().all(|name| scene.has(name, "registry/filebeat/meta.json")).then_some(()));
    wait::until("every sidecar to have a registry", LIMIT, begun)?;
    for pod in &mut pods[..killed] {
        pod.signal(Signal::KILL);
        pod.wait(LIMIT)?;
    }
    let stopped = pods.get(killed).filter(|_| scene.stopped);
    stopped.inspect(|pod| pod.signal(Signal::STOP));
    for (n, name) in names.iter().enumerate() {
        job::append(&scene.file(name), &of(n)[scene.lines / 2..])?;
    }
    let swept = sweep(shipper, place, scene);
    stopped.inspect(|pod| pod.signal(Signal::CONT));
    swept?;
    sink.tally().wait_for(all as u64, LIMIT)?;
    for pod in &mut pods[killed..] {
        pod.signal(Signal::INT);
        let status = pod.wait(LIMIT)?.status;
        // One whose seat was taken ends with another code.
        if status.code() != Some(0) {
            return Err(format!("a living sidecar ended with {status}"));
        }
    }
    let stored = sink.tally().lines();
    job::compare(&lines, stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times)))?;
    // What another client has made may show late.
    let done = || Ok(names[..killed].iter().all(|name| scene.has(name, "done.json")).then_some(()));
    wait::until("the marks of what is done", LIMIT, done)?;
    Ok(format!("{all} lines of {} pods, {killed} of them killed, each once", scene.pods))
}

/// Sweeps until nothing is left, with all of them at once.
fn sweep(shipper: &Shipper, place: &Place, scene: &Scene) -> Outcome {
    let start = |(n, volume): (usize, &PathBuf)| {
        let mut command = Command::new(&shipper.path);
        command.args(["sweep", "-e", "--strict.perms=false", "--grace", "3s", "--path.home"]).arg(place.home());
        command.arg("-c").arg(place.config()).arg(volume);
        command.env("POD_NAME", "sweeper").env_remove("KUBERNETES_SERVICE_HOST");
        Child::start(&mut command, &place.folder().join(format!("sweep-{n}.err")))
    };
    let mut all = scene.swept.iter().enumerate().map(start).collect::<Outcome<Vec<Child>>>()?;
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
        let logs = PathBuf::from("/logs");
        let scene = |layout| Scene {
            layout,
            pods: 1,
            killed: 0,
            lines: 1,
            stopped: false,
            by_fingerprint: false,
            logs: logs.clone(),
            swept: vec![],
        };
        assert_eq!(scene(Layout::Flat).file("a").parent(), Some(&*logs));
        assert!(scene(Layout::Own).pattern().ends_with("/${POD_NAME}/*.log"));
    }
}
