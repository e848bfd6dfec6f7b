//! What a machine must have to run a Kubernetes node.
//!
//! Comes in: this machine. Goes out: what it lacks, each with the remedy; empty when a node can run.

use std::fs;
use std::path::Path;

use crate::Outcome;

/// Commands, and the Debian package that has them.
const COMMANDS: [(&str, &str); 12] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("busybox", "busybox-static"),
    ("cc", "gcc"),
    ("unshare", "util-linux"),
    ("sysctl", "procps"),
    ("bindfs", "bindfs"),
];

/// What is missing; `built` = the node's own executables are there already.
pub(crate) fn missing(built: bool) -> Vec<String> {
    let mut all = Vec::new();
    if !rustix::process::getuid().is_root() {
        all.push("needs root: namespaces, mounts and cgroups".to_owned());
    }
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !file_systems.lines().any(|l| l.ends_with("overlay")) {
        all.push("the kernel has no overlayfs".to_owned());
    }
    if let Err(why) = cgroups() {
        all.push(why);
    }
    let packages: Vec<&str> = COMMANDS.iter().filter(|(c, _)| !has(c)).map(|(_, p)| *p).collect();
    if !packages.is_empty() {
        all.push(format!("missing commands: apt-get install {}", packages.join(" ")));
    }
    if !Path::new("/usr/lib/cni/bridge").exists() {
        all.push("no network plugins: apt-get install containernetworking-plugins".to_owned());
    }
    if !built && !has("go") {
        all.push("no Go, and Kubernetes isn't built yet".to_owned());
    }
    all
}

/// Whether a command is on the path.
pub(crate) fn has(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
}

/// The hierarchies of cgroups that can be written: version 2's one, or version 1's for memory, pids and processors.
fn cgroups() -> Outcome {
    let root = Path::new("/sys/fs/cgroup");
    let needed: &[&str] = if root.join("cgroup.controllers").exists() { &[""] } else { &["memory", "pids", "cpu"] };
    for name in needed {
        let probe = root.join(name).join(format!("pillion-probe-{}", std::process::id()));
        fs::create_dir(&probe).map_err(|e| format!("cgroups can't be made: {}: {e}", probe.display()))?;
        let _ = fs::remove_dir(&probe);
    }
    if root.join("kubepods").exists() || root.join("memory/kubepods").exists() {
        return Err("another kubelet runs on this machine: /sys/fs/cgroup has kubepods".into());
    }
    Ok(())
}
