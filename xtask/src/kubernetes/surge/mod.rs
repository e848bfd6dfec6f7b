//! `cargo xtask bench surge`: a KEDA ScaledJob that goes from no pod to hundreds at once.
//!
//! Comes in: how many pods, and who rides beside the work. Goes out, for each who rides: seconds until all work at once and
//! until all Jobs are complete; lines written and arrived; memory of all sidecars; processor time of all pods; requests that
//! pods made to the API server; how many sidecars found no inotify instance left. As text, and into `bench/results/`.
//! Always holds: the pods really run at the same time, since the work of each waits in its middle until the last one is there;
//! of Pillion, a lost line, an incomplete receipt, a request to the API server, or fewer that say they go without inotify
//! than the kernel's limit leaves, is an error. Filebeat's losses are only told.

pub(in crate::kubernetes) mod gauge;
pub(in crate::kubernetes) mod keda;
pub(in crate::kubernetes) mod ride;

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gauge::{Gauge, Memory};
use ride::Ride;
use serde_json::json;

use super::{Node, Rig, api, example, pods};
use crate::args::Args;
use crate::{Outcome, child, image, root, wait};

const LIMIT: Duration = Duration::from_secs(400);
/// Lines that each pod writes, half of them before the others are there.
const LINES: usize = 1000;
/// Where the work waits for the other pods.
pub(in crate::kubernetes) const GATE: u16 = 7300;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a sidecar's log says when the kernel has refused it an inotify instance.
const POLLS: &str = "inotify has nothing left";

/// What one surge took.
struct Row {
    ride: Ride,
    /// Seconds from the first Job until all pods' work runs at once.
    together: f64,
    /// Seconds from the first Job until the last one is complete.
    complete: f64,
    /// Different lines that have arrived, and how many came again.
    lines: (usize, usize),
    memory: Memory,
    /// Seconds.
    cpu: f64,
    requests: usize,
    /// Sidecars that go without inotify; nothing where none is used.
    polling: Option<usize>,
}

/// `--pods N` (200), `--only NAME,NAME`, `--out FILE`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let pods = args.number("--pods", 200)?;
    let out = args.value("--out")?.map_or_else(|| root().join("bench/results/surge.md"), PathBuf::from);
    let rides = chosen(args.value("--only")?.as_deref())?;
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    super::ready()?;
    let schema = keda::schema("scaledjobs")?;
    let peer = if rides.iter().any(|r| r.is_filebeat()) { vec![image::filebeat(ride::FILEBEAT)?] } else { Vec::new() };
    let rig = Rig::with(false, &peer)?;
    know(&rig, &schema)?;
    let mut table = head(pods);
    print!("{table}");
    let mut before = None;
    for ride in rides {
        if let Some(done) = before.replace(ride) {
            clear(done)?;
        }
        let line = surge(&rig, ride, pods)?.told(pods);
        print!("{line}");
        table.push_str(&line);
    }
    let text = format!("# A surge\n\nMeasured by `cargo xtask bench surge`. {table}");
    fs::write(&out, text).map_err(|e| format!("{}: {e}", out.display()))
}

/// Has the API server know the kind ScaledJob.
pub(in crate::kubernetes) fn know(rig: &Rig, schema: &Path) -> Outcome {
    child::run(rig.node.kubectl().args(["create", "-f"]).arg(schema))?;
    wait::until("KEDA's API", LIMIT, || Ok(api::get("/apis/keda.sh/v1alpha1/scaledjobs").is_ok().then_some(())))
}

fn chosen(only: Option<&str>) -> Outcome<Vec<Ride>> {
    let Some(only) = only else { return Ok(Ride::ALL.to_vec()) };
    let one = |name: &str| {
        Ride::ALL.into_iter().find(|r| r.name() == name).ok_or_else(|| {
            let all = Ride::ALL.map(Ride::name).join(", ");
            format!("nobody called {name} rides: {all}")
        })
    };
    only.split(',').map(one).collect()
}

fn head(pods: usize) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{pods} Jobs at once of a ScaledJob (the schema of KEDA {}), {LINES} lines each, one node on {cpus} processors \
         (load before: {}), {} inotify instances for each user.\n\n\
         | sidecar | all work at once after | all complete after | lines arrived (again) | lost | sidecars' memory, at most: all / \
         one | CPU of all pods | API requests by pods | without inotify |\n|---|---|---|---|---|---|---|---|---|\n",
        keda::VERSION,
        load(),
        instances()
    )
}

/// The load of the last minute.
pub(in crate::kubernetes) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// How many inotify instances the kernel gives each user.
fn instances() -> usize {
    let text = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

impl Row {
    fn told(&self, pods: usize) -> String {
        let written = pods * LINES;
        let (seen, again) = self.lines;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let times = format!("| {} | {:.1} s | {:.1} s ", self.ride.title(), self.together, self.complete);
        if self.ride == Ride::None {
            return format!("{times}| – | – | – | {:.1} s | {} | – |\n", self.cpu, self.requests);
        }
        let lost = written - seen;
        let (all, n) = self.memory.all;
        format!(
            "{times}| {seen} ({again}) | {lost} | {:.0} MB of {n} / {:.1} MB | {:.1} s | {} | {} |\n",
            megabytes(all),
            megabytes(self.memory.one),
            self.cpu,
            self.requests,
            self.polling.map_or_else(|| "–".to_owned(), |n| n.to_string())
        )
    }
}

/// The work of one pod: half of its lines, the wait for all others, and the other half in ten seconds.
fn work(word: &str) -> String {
    let (half, part) = (LINES / 2, LINES / 20);
    let write = |from: &str, to: &str| {
        format!(
            "for i in $(seq {from} {to}); do echo \"{word} $HOSTNAME $i was written by one of very many pods at once\"; done \
             >>/data/app.log"
        )
    };
    format!(
        "#!/bin/sh\n{}\nnc {} {GATE} </dev/null || exit 9\nfor n in $(seq {half} {part} {})\ndo sleep 1; {}\ndone\n",
        write("1", &half.to_string()),
        Node::ADDRESS,
        LINES - part,
        write("$((n + 1))", &format!("$((n + {part}))"))
    )
}

/// Makes a row's namespace with its objects; nothing of it runs yet.
fn prepare(rig: &Rig, ride: Ride, namespace: &str) -> Outcome {
    example::namespace(namespace, "restricted")?;
    apply(rig, namespace, &ride.manifest(rig)?, &work(namespace))
}

/// Applies a manifest that has a ConfigMap `work`, and puts this script into that.
pub(in crate::kubernetes) fn apply(rig: &Rig, namespace: &str, manifest: &str, work: &str) -> Outcome {
    let path = rig.node.folder(&format!("{namespace}.yml"));
    fs::write(&path, manifest).map_err(|e| e.to_string())?;
    let mut apply = rig.node.kubectl();
    apply.args(["-n", namespace, "apply", "--server-side", "--validate=strict", "-f"]).arg(&path);
    child::run(&mut apply)?;
    let patch = json!({"data": {"work.sh": work}}).to_string();
    let mut kubectl = rig.node.kubectl();
    child::run(kubectl.args(["-n", namespace, "patch", "configmap", "work", "--type=merge", "-p", &patch])).map(drop)
}

/// Deletes what a row has left behind.
fn clear(ride: Ride) -> Outcome {
    delete(&namespace(ride))
}

/// Deletes a namespace and waits until it is gone, with all pods.
pub(in crate::kubernetes) fn delete(namespace: &str) -> Outcome {
    let path = format!("/api/v1/namespaces/{namespace}");
    api::delete(&path)?;
    wait::until("the namespace's end", LIMIT, || {
        std::thread::sleep(LOOK_EVERY);
        Ok(api::get(&path).is_err().then_some(()))
    })
}

fn namespace(ride: Ride) -> String {
    format!("surge-{}", ride.name())
}

fn surge(rig: &Rig, ride: Ride, pods: usize) -> Outcome<Row> {
    let namespace = namespace(ride);
    prepare(rig, ride, &namespace)?;
    let (cpu, begin) = (gauge::cpu(), Instant::now());
    let mut gauge = Gauge::new(ride.program());
    let together = run_all(rig, &namespace, pods, &mut gauge, begin)?;
    let complete = begin.elapsed().as_secs_f64();
    let cpu = gauge::cpu() - cpu;
    let arrived = arrived(rig, &namespace)?;
    let again = arrived.values().map(|times| times - 1).sum();
    let polling = if ride == Ride::Pillion { Some(proven(rig, &namespace, pods)?) } else { None };
    let requests = gauge::requests(rig, &namespace);
    if ride == Ride::Pillion && (arrived.len() != pods * LINES || requests > 0) {
        return Err(format!("{} of {} lines arrived, {requests} requests by pods", arrived.len(), pods * LINES));
    }
    if ride != Ride::None && gauge.most.all.1 == 0 {
        return Err("no sidecar's memory was seen".into());
    }
    Ok(Row { ride, together, complete, lines: (arrived.len(), again), memory: gauge.most, cpu, requests, polling })
}

/// From no Job to all complete. Gives the seconds until all worked at once.
fn run_all(rig: &Rig, namespace: &str, n: usize, gauge: &mut Gauge, begin: Instant) -> Outcome<f64> {
    gather(rig, namespace, n, || gauge.look())?;
    let together = begin.elapsed().as_secs_f64();
    wait::until("all Jobs of the surge", LIMIT, || {
        gauge.look();
        std::thread::sleep(LOOK_EVERY);
        Ok((completed(namespace)? == n).then_some(()))
    })
    .map_err(|why| format!("{why}; {}", super::look::look(&rig.node, namespace)))?;
    Ok(together)
}

/// Makes `n` Jobs of the ScaledJob `ride` and waits until the work of each asks at the gate; then lets them all go on.
pub(in crate::kubernetes) fn gather(rig: &Rig, namespace: &str, n: usize, mut look: impl FnMut()) -> Outcome {
    let gate = TcpListener::bind((Node::ADDRESS, GATE)).map_err(|e| format!("port {GATE}: {e}"))?;
    gate.set_nonblocking(true).map_err(|e| e.to_string())?;
    let made = keda::scale(namespace, "ride", n)?;
    if made != n {
        return Err(format!("the ScaledJob allows {made} Jobs, not {n}"));
    }
    let mut waiting = Vec::new();
    wait::until("all pods to work at once", LIMIT, || {
        while let Ok((stream, _)) = gate.accept() {
            waiting.push(stream);
        }
        completed(namespace)?;
        look();
        std::thread::sleep(LOOK_EVERY);
        Ok((waiting.len() == n).then_some(()))
    })
    .map_err(|why| format!("{why}: {} of {n} are there; {}", waiting.len(), super::look::look(&rig.node, namespace)))
}

/// How many Jobs are complete; a failed one is an error.
pub(in crate::kubernetes) fn completed(namespace: &str) -> Outcome<usize> {
    let jobs = api::items(&format!("/apis/batch/v1/namespaces/{namespace}/jobs"))?;
    if let Some(job) = jobs.iter().find(|j| j["status"]["failed"].as_u64().unwrap_or(0) > 0) {
        return Err(format!("{} has failed", job["metadata"]["name"]));
    }
    Ok(jobs.iter().filter(|j| !j["status"]["completionTime"].is_null()).count())
}

/// What has arrived, when no more comes: a shipper that was killed may leave the receiver with something to do.
fn arrived(rig: &Rig, namespace: &str) -> Outcome<HashMap<String, usize>> {
    let count = |lines: &HashMap<String, usize>| lines.values().sum::<usize>();
    let mut before = rig.endpoint.lines(namespace)?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = rig.endpoint.lines(namespace)?;
        if count(&now) == count(&before) {
            return Ok(now);
        }
        before = now;
    }
}

/// Looks at every sidecar's receipt and log. Gives how many went without inotify.
fn proven(rig: &Rig, namespace: &str, n: usize) -> Outcome<usize> {
    let all = pods::all(namespace)?;
    let complete = all.iter().filter(|p| pods::message(p, "pillion").starts_with("pillion: complete")).count();
    let mut polling = 0;
    for pod in &all {
        let path = log_of(rig, pod).ok_or_else(|| format!("{} has no log", pods::name(pod)))?;
        polling += usize::from(fs::read_to_string(&path).map_err(|e| e.to_string())?.contains(POLLS));
    }
    let least = n.saturating_sub(instances());
    if complete != n || polling < least {
        return Err(format!(
            "{complete} of {n} receipts are complete; {polling} said that they go without inotify, {least} must"
        ));
    }
    Ok(polling)
}

/// Where kubelet has the log of a pod's sidecar.
fn log_of(rig: &Rig, pod: &serde_json::Value) -> Option<PathBuf> {
    let (name, uid) = (pods::name(pod), pod["metadata"]["uid"].as_str()?);
    let namespace = pod["metadata"]["namespace"].as_str()?;
    let folder = rig.node.folder("log").join("pods").join(format!("{namespace}_{name}_{uid}")).join("pillion");
    Some(folder.join("0.log")).filter(|path: &PathBuf| Path::exists(path))
}
