//! Pods, seen from the node: their processes, volumes and ends.
//!
//! Comes in: a pod's object. Goes out: what the machine knows of it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::api;
use super::node::Node;
use crate::Outcome;

/// All pods of a namespace.
pub(crate) fn all(namespace: &str) -> Outcome<Vec<Value>> {
    api::items(&format!("/api/v1/namespaces/{namespace}/pods"))
}

/// A pod's name.
pub(crate) fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// What kubelet says of a container.
pub(crate) fn status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut all = lists.iter().filter_map(|l| pod["status"][l].as_array()).flatten();
    all.find(|s| s["name"] == container)
}

/// How a container ended, now or the last time.
pub(crate) fn ended<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let status = status(pod, container)?;
    let ends = [&status["state"]["terminated"], &status["lastState"]["terminated"]];
    ends.into_iter().find(|t| !t.is_null())
}

/// A container's termination message: the receipt.
pub(crate) fn message(pod: &Value, container: &str) -> String {
    ended(pod, container).and_then(|t| t["message"].as_str()).unwrap_or_default().to_owned()
}

/// Where an emptyDir of a pod lies on the node.
pub(crate) fn volume(node: &Node, pod: &Value, name: &str) -> PathBuf {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    node.folder("kubelet").join("pods").join(uid).join("volumes/kubernetes.io~empty-dir").join(name)
}

/// A container's cgroup in this hierarchy (version 1: `memory`, `pids`; version 2 has only one).
pub(crate) fn cgroup(pod: &Value, container: &str, hierarchy: &str) -> Option<PathBuf> {
    let id = status(pod, container)?["containerID"].as_str()?.strip_prefix("containerd://")?;
    let uid = pod["metadata"]["uid"].as_str()?;
    let top = Path::new("/sys/fs/cgroup");
    for root in [top.join(hierarchy).join("kubepods"), top.join("kubepods")] {
        for class in ["burstable", "besteffort", ""] {
            let path = root.join(class).join(format!("pod{uid}")).join(id);
            if path.exists() {
                return Some(path);
            }
        }
    }
    None
}

/// The processes of a container, by their ids outside of it.
pub(crate) fn processes(pod: &Value, container: &str) -> Vec<i32> {
    let path = cgroup(pod, container, "pids").map(|c| c.join("cgroup.procs"));
    let text = path.and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Kills a container's processes, as the kernel does to all of it when memory runs out.
pub(crate) fn kill(pod: &Value, container: &str) -> Outcome {
    let pids = processes(pod, container);
    if pids.is_empty() {
        return Err(format!("{} has no process in {container}", name(pod)));
    }
    signal(&pids, Signal::KILL);
    Ok(())
}

/// Kills all processes of a pod that has this container, those of its sandbox too.
pub(crate) fn kill_all(pod: &Value, container: &str) -> Outcome {
    let own = cgroup(pod, container, "pids").ok_or_else(|| format!("{} has no {container}", name(pod)))?;
    let all = fs::read_dir(own.parent().unwrap_or(&own)).map_err(|e| e.to_string())?;
    let of = |path: PathBuf| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let text: String = all.flatten().map(|entry| of(entry.path())).collect();
    signal(&text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>(), Signal::KILL);
    Ok(())
}

/// Sends a signal to processes; to one that has ended, nothing.
pub(crate) fn signal(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        let _ = kill_process(pid, signal);
    }
}
