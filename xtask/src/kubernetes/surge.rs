//! `cargo xtask bench surge`: a KEDA ScaledJob that goes from no pod to hundreds at once.
//!
//! Comes in: how many pods. Goes out: seconds until all Jobs are complete, without a sidecar and with Pillion's; what all
//! sidecars' memory was at most; how many requests pods made to the API server; as text and into `bench/results/`.
//! Always holds: every line of every pod has arrived, or it is an error; the node and the work are the same for each row.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::example::{self, Example};
use super::{Rig, api, pods};
use crate::args::Args;
use crate::{Outcome, root, wait};

const LIMIT: Duration = Duration::from_secs(600);
const LINES: usize = 100;

/// What one surge took.
struct Row {
    sidecar: &'static str,
    seconds: f64,
    /// The most memory that all sidecars had at one time (cgroups: anonymous, page cache and kernel), and how many they were.
    memory: (u64, usize),
    requests: usize,
    lines: usize,
}

/// `--pods N` (200), `--out FILE`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let pods = args.number("--pods", 200)?;
    let out = args.value("--out")?;
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    super::Node::sweep()?;
    let missing = super::missing();
    if !missing.is_empty() {
        return Err(missing.iter().map(|why| format!("not run: {why}\n")).collect());
    }
    let rig = Rig::up(false)?;
    let crd = root().join("e2e/cluster/scaledjob.yaml");
    crate::child::run(rig.node.kubectl().args(["create", "-f"]).arg(crd))?;
    wait::until("KEDA's API", LIMIT, || Ok(api::get("/apis/keda.sh/v1alpha1").is_ok().then_some(())))?;
    let mut table =
        format!("{pods} Jobs at once, {LINES} lines each, one node of this machine's {} processors:\n", cpus());
    table.push_str("\n| sidecar | all complete after | sidecars' memory, at most | API requests by pods | lines |\n|---|---|---|---|---|\n");
    for sidecar in ["none", "pillion"] {
        let row = surge(&rig, sidecar, pods)?;
        let (bytes, n) = row.memory;
        let line = format!(
            "| {} | {:.1} s | {:.0} MB of {n} at a time | {} | {} |\n",
            row.sidecar,
            row.seconds,
            bytes as f64 / 1e6,
            row.requests,
            row.lines
        );
        print!("{line}");
        table.push_str(&line);
    }
    let path = out.map_or_else(|| root().join("bench/results/surge.md"), Into::into);
    let head = "# A surge\n\nMeasured by `cargo xtask bench surge`. ";
    fs::write(&path, format!("{head}{table}")).map_err(|e| format!("{}: {e}", path.display()))
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn surge(rig: &Rig, sidecar: &'static str, n: usize) -> Outcome<Row> {
    let name = format!("surge-{sidecar}");
    let mut example = Example::read(&rig.node, "c-native")?;
    let work = "for i in $(seq 50); do echo \"@ $HOSTNAME $i\"; done >>/data/app.log; sleep 5
for i in $(seq 51 100); do echo \"@ $HOSTNAME $i\"; done >>/data/app.log";
    example.work(&work.replace('@', &name));
    if sidecar == "none" {
        example.pod()["initContainers"] = json!([]);
    }
    example::namespace(&name, "restricted")?;
    example.create_rest(&name)?;
    let trigger = json!({"type": "rabbitmq", "metadata": {"queueName": "work", "queueLength": "1"}});
    let scaled = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {"name": "ride"},
        "spec": {"jobTargetRef": example.job(), "maxReplicaCount": n, "triggers": [trigger]},
    });
    api::create(&name, &scaled)?;
    let begin = Instant::now();
    scale(&name, n)?;
    let mut most = (0, 0);
    wait::until("all Jobs of the surge", LIMIT, || {
        let jobs = api::items(&format!("/apis/batch/v1/namespaces/{name}/jobs"))?;
        if jobs.iter().any(|j| j["status"]["failed"].as_u64().unwrap_or(0) > 0) {
            return Err(format!("a Job has failed; {}", super::case::look(&rig.node, &name)));
        }
        let used = memory(&pods::all(&name)?);
        if used.0 > most.0 {
            most = used;
        }
        let done = jobs.iter().filter(|j| !j["status"]["completionTime"].is_null()).count();
        std::thread::sleep(Duration::from_millis(500));
        Ok((done == n).then_some(()))
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let lines = rig.endpoint.lines(&name)?.len();
    if sidecar != "none" && lines != n * LINES {
        return Err(format!("{lines} of {} lines arrived", n * LINES));
    }
    let requests = requests(rig, &name);
    api::delete(&format!("/api/v1/namespaces/{name}"))?;
    wait::until("the namespace's end", LIMIT, || {
        Ok(api::get(&format!("/api/v1/namespaces/{name}")).is_err().then_some(()))
    })?;
    Ok(Row { sidecar, seconds, memory: most, requests, lines })
}

/// KEDA's operator, as far as a surge needs it: one Job for each message that waits, made from the ScaledJob.
fn scale(namespace: &str, n: usize) -> Outcome {
    let scaled = api::get(&format!("/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledjobs/ride"))?;
    for i in 0..n {
        let meta = json!({"name": format!("ride-{i}"), "labels": {"scaledjob.keda.sh/name": "ride"}});
        let spec = &scaled["spec"]["jobTargetRef"];
        api::create(namespace, &json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}))?;
    }
    Ok(())
}

/// What the sidecars' cgroups hold, and how many they are.
fn memory(all: &[Value]) -> (u64, usize) {
    let used = all.iter().filter_map(|pod| {
        let group = pods::cgroup(pod, "pillion", "memory")?;
        let files = ["memory.usage_in_bytes", "memory.current"];
        files.iter().find_map(|f| fs::read_to_string(group.join(f)).ok()?.trim().parse::<u64>().ok())
    });
    used.fold((0, 0), |(bytes, n), one| (bytes + one, n + 1))
}

/// Requests to the API server with a service account of this namespace, by the audit log.
fn requests(rig: &Rig, namespace: &str) -> usize {
    let log = fs::read_to_string(rig.node.folder("logs").join("audit.log")).unwrap_or_default();
    let user = format!("system:serviceaccount:{namespace}:");
    log.lines().filter(|l| l.contains(&user) || l.contains("\"system:anonymous\"")).count()
}
