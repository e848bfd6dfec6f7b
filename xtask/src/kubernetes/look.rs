//! What a person would look at when something went wrong on the cluster.
//!
//! Comes in: the node, a namespace. Goes out: text: for each pod what kubelet says of it; for those that aren't done also what
//! their containers said, what their processes wait for, and their events.
//! Always holds: nothing here fails, and nothing is cut off but by count: [`PODS`] pods, [`LINES`] lines of each log.

use std::fs;

use serde_json::Value;

use super::node::Node;
use super::{api, pods};

/// How many pods are looked at closely.
const PODS: usize = 6;
/// How many of the last lines of a log, and of a pod's events, are shown.
const LINES: usize = 30;

/// Looks at a namespace.
pub(crate) fn look(node: &Node, namespace: &str) -> String {
    let pods = pods::all(namespace).unwrap_or_default();
    let (done, mut closely): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|p| is_done(p));
    let mut said = format!("\n  {} pods, {} of them done", pods.len(), done.len());
    if closely.is_empty() {
        // All have ended, and something else is wrong.
        closely = done;
    }
    for pod in closely.iter().take(PODS) {
        said.push_str(&of_pod(node, namespace, pod));
    }
    let others: Vec<&str> = closely.iter().skip(PODS).map(|p| pods::name(p)).collect();
    if !others.is_empty() {
        said.push_str(&format!("\n  and {}: {}", others.len(), others.join(", ")));
    }
    said.push_str(&format!("\n  the last events:{}", events(namespace, None)));
    said
}

fn is_done(pod: &Value) -> bool {
    ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
}

fn of_pod(node: &Node, namespace: &str, pod: &Value) -> String {
    let (name, status) = (pods::name(pod), &pod["status"]);
    let mut said = format!("\n  == {name}: {} {}", status["phase"], status["reason"]);
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        said.push_str(", being deleted");
    }
    let lists = ["initContainerStatuses", "containerStatuses"];
    for status in lists.iter().filter_map(|l| status[l].as_array()).flatten() {
        let container = status["name"].as_str().unwrap_or_default();
        let restarts = status["restartCount"].as_u64().unwrap_or(0);
        said.push_str(&format!("\n  -- {container}: {} last {}", status["state"], status["lastState"]));
        said.push_str(&format!(", {restarts} restarts{}", log(node, namespace, name, container, false)));
        if restarts > 0 {
            said.push_str(&format!("\n    before:{}", log(node, namespace, name, container, true)));
        }
        pods::processes(pod, container).into_iter().for_each(|pid| said.push_str(&of_process(pid)));
    }
    said.push_str(&format!("\n  -- events:{}", events(namespace, Some(name))));
    let kubelet = node.log("kubelet");
    let of_it: Vec<&str> = kubelet.lines().filter(|l| l.contains(name)).collect();
    said.push_str(&format!("\n  -- kubelet:{}", last(&of_it)));
    said
}

fn log(node: &Node, namespace: &str, pod: &str, container: &str, previous: bool) -> String {
    let mut kubectl = node.kubectl();
    kubectl.args(["-n", namespace, "logs", pod, "-c", container, "--tail", &LINES.to_string()]);
    if previous {
        kubectl.arg("--previous");
    }
    let out = kubectl.output();
    let text = out.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    last(&String::from_utf8_lossy(&text).lines().collect::<Vec<_>>())
}

/// What a process is, and what it does or waits for; its threads too, and its connections.
fn of_process(pid: i32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let words = read("cmdline").replace('\0', " ");
    let mut said = format!("\n    process {pid} {words}");
    let status = read("status");
    let told = ["State", "PPid", "NSpid", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"];
    let told = status.lines().filter(|l| told.iter().any(|name| l.starts_with(name)));
    said.push_str(&format!("\n      {}", told.map(|l| l.replace('\t', " ")).collect::<Vec<_>>().join(", ")));
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let id = thread.file_name().to_string_lossy().into_owned();
        let of = |file: &str| read(&format!("task/{id}/{file}")).trim().replace('\n', " < ");
        said.push_str(&format!("\n      thread {id} {}: waits in {}: {}", of("comm"), of("wchan"), of("stack")));
        said.push_str(&format!("\n        syscall {}", of("syscall")));
    }
    for (file, name) in [("net/tcp", "tcp"), ("net/udp", "udp")] {
        for line in read(file).lines().skip(1).take(LINES) {
            said.push_str(&format!("\n      {name} {}", line.split_whitespace().take(5).collect::<Vec<_>>().join(" ")));
        }
    }
    said
}

fn events(namespace: &str, pod: Option<&str>) -> String {
    let all = api::items(&format!("/api/v1/namespaces/{namespace}/events")).unwrap_or_default();
    let mut all: Vec<&Value> =
        all.iter().filter(|e| pod.is_none_or(|pod| e["involvedObject"]["name"] == pod)).collect();
    all.sort_by_key(|e| e["lastTimestamp"].as_str().or_else(|| e["eventTime"].as_str()).map(str::to_owned));
    let lines: Vec<String> = all
        .iter()
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap_or_default();
            let (when, what) = (text("lastTimestamp"), e["involvedObject"]["name"].as_str().unwrap_or_default());
            format!("{when} {what} {}: {}", text("reason"), text("message"))
        })
        .collect();
    last(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn last(lines: &[&str]) -> String {
    lines[lines.len().saturating_sub(LINES)..].iter().map(|l| format!("\n    {l}")).collect()
}
