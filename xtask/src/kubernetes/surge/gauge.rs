//! What a surge uses: memory of all sidecars, processor time of all pods, requests to the API server.
//!
//! Comes in: pods, the kernel's cgroups, the audit log. Goes out: numbers.
//! Always holds: memory is what `kubectl top` shows, without page cache that the kernel would give up first.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kubernetes::{Rig, pods};

/// The most memory that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Of all sidecars at one time, in bytes, and how many they were.
    pub(super) all: (u64, usize),
    /// Of one sidecar at any time, in bytes.
    pub(super) one: u64,
}

/// Watches the sidecars' memory. Their cgroups are looked for once.
pub(super) struct Gauge {
    container: &'static str,
    groups: HashMap<String, PathBuf>,
    pub(super) most: Memory,
}

impl Gauge {
    pub(super) fn new(container: &'static str) -> Gauge {
        Gauge { container, groups: HashMap::new(), most: Memory::default() }
    }

    /// Learns of pods.
    pub(super) fn learn(&mut self, all: &[Value]) {
        for pod in all {
            let name = pods::name(pod);
            if !self.groups.contains_key(name)
                && let Some(group) = pods::cgroup(pod, self.container, "memory")
            {
                self.groups.insert(name.to_owned(), group);
            }
        }
    }

    /// Looks at all of them now.
    pub(super) fn look(&mut self) {
        let now: Vec<u64> = self.groups.values().filter_map(|group| working_set(group)).collect();
        let sum = now.iter().sum();
        if sum > self.most.all.0 {
            self.most.all = (sum, now.len());
        }
        self.most.one = self.most.one.max(now.into_iter().max().unwrap_or(0));
    }
}

/// A cgroup's memory without inactive file pages, in bytes. `None` when it is gone.
fn working_set(group: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(group.join(file)).ok();
    let usage = read("memory.usage_in_bytes").or_else(|| read("memory.current"))?.trim().parse::<u64>().ok()?;
    let stat = read("memory.stat")?;
    let inactive = ["total_inactive_file ", "inactive_file "]
        .iter()
        .find_map(|name| stat.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok()))?;
    Some(usage.saturating_sub(inactive))
}

/// Processor time of all pods since the node's start, those that are gone included, in seconds.
pub(super) fn cpu() -> f64 {
    let top = Path::new("/sys/fs/cgroup");
    if let Ok(text) = fs::read_to_string(top.join("cpuacct/kubepods/cpuacct.usage")) {
        return text.trim().parse::<u64>().unwrap_or(0) as f64 / 1e9;
    }
    let text = fs::read_to_string(top.join("kubepods/cpu.stat")).unwrap_or_default();
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok());
    used.unwrap_or(0) as f64 / 1e6
}

/// Requests to the API server with a service account of this namespace or without any, by the audit log.
pub(super) fn requests(rig: &Rig, namespace: &str) -> usize {
    let log = fs::read_to_string(rig.node.folder("logs").join("audit.log")).unwrap_or_default();
    let user = format!("system:serviceaccount:{namespace}:");
    log.lines().filter(|l| l.contains(&user) || l.contains("\"system:anonymous\"")).count()
}
