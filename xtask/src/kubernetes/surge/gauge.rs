//! What a surge uses: memory of all sidecars, processor time of all pods, requests to the API server.
//!
//! Comes in: the kernel's cgroups, the audit log. Goes out: numbers.
//! Always holds: memory is what `kubectl top` shows, without page cache that the kernel would give up first.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::kubernetes::Rig;

/// The most memory that was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kubernetes) struct Memory {
    /// Of all sidecars at one time, in bytes, and how many they were.
    pub(in crate::kubernetes) all: (u64, usize),
    /// Of one sidecar at any time, in bytes.
    pub(in crate::kubernetes) one: u64,
}

/// Watches the sidecars' memory. Nobody is asked where they are: the kernel's cgroups tell at once, and an API server that is
/// busy with a surge has other things to do.
pub(in crate::kubernetes) struct Gauge {
    program: &'static str,
    groups: HashSet<PathBuf>,
    pub(in crate::kubernetes) most: Memory,
}

impl Gauge {
    /// For the containers in which this program runs.
    pub(in crate::kubernetes) fn new(program: &'static str) -> Gauge {
        Gauge { program, groups: HashSet::new(), most: Memory::default() }
    }

    /// Looks at all of them now.
    pub(in crate::kubernetes) fn look(&mut self) {
        for group in containers() {
            if !self.groups.contains(&group) && runs(&group, self.program) {
                self.groups.insert(group);
            }
        }
        let now: Vec<u64> = self.groups.iter().filter_map(|group| working_set(group)).collect();
        let sum = now.iter().sum();
        if sum > self.most.all.0 {
            self.most.all = (sum, now.len());
        }
        self.most.one = self.most.one.max(now.into_iter().max().unwrap_or(0));
    }
}

/// The cgroups of all containers of all pods.
fn containers() -> Vec<PathBuf> {
    let below = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
    };
    let tops = ["/sys/fs/cgroup/memory/kubepods", "/sys/fs/cgroup/kubepods"].map(PathBuf::from);
    let classes = tops.into_iter().flat_map(|top| [top.join("burstable"), top.join("besteffort"), top]);
    let is_pod = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("pod"));
    classes.flat_map(below).filter(is_pod).flat_map(below).collect()
}

/// Whether a process of this program is among those of a cgroup: by its executable, whatever name it was called by.
fn runs(group: &Path, program: &str) -> bool {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let is_it = |id: &str| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.ends_with(program));
    processes.lines().any(is_it)
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
pub(in crate::kubernetes) fn cpu() -> f64 {
    let top = Path::new("/sys/fs/cgroup");
    if let Ok(text) = fs::read_to_string(top.join("cpuacct/kubepods/cpuacct.usage")) {
        return text.trim().parse::<u64>().unwrap_or(0) as f64 / 1e9;
    }
    let text = fs::read_to_string(top.join("kubepods/cpu.stat")).unwrap_or_default();
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok());
    used.unwrap_or(0) as f64 / 1e6
}

/// Requests to the API server with a service account of this namespace or without any, by the audit log.
pub(in crate::kubernetes) fn requests(rig: &Rig, namespace: &str) -> usize {
    let log = fs::read_to_string(rig.node.folder("logs").join("audit.log")).unwrap_or_default();
    let user = format!("system:serviceaccount:{namespace}:");
    log.lines().filter(|l| l.contains(&user) || l.contains("\"system:anonymous\"")).count()
}
