//! The one table of what steers an injection: by flag, by `--set`, by annotation.
//!
//! Always holds: the manual's table (docs/kubernetes.md) is this one, and every row is read by [`Options::set`]; a test
//! holds both against it (`tests/manual.rs`).
//!
//! [`Options::set`]: super::Options::set

/// One thing that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name, as `--set NAME=VALUE` takes it.
    pub name: &'static str,
    /// Whether the pod template may say it, as the annotation `pillion.dev/NAME`, which then wins.
    pub annotation: bool,
    /// What holds when nothing is said.
    pub default: &'static str,
    /// What it means, as the manual says it.
    pub meaning: &'static str,
}

const fn row(name: &'static str, annotation: bool, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, annotation, default, meaning }
}

/// All of them.
pub const SETTINGS: &[Setting] = &[
    row("inject", true, "`true`", "`false`: leave this pod alone; with `opt_in`, `true` asks for it"),
    row(
        "paths",
        true,
        "`/data` or `/var/log/app`, where a container mounts one of them; else `/var/log/app`",
        "the folders that logs are written to, or patterns of files (`/data/logs/*.log`), with commas between",
    ),
    row(
        "config",
        true,
        "the image's own `filebeat.yml`",
        "the ConfigMap that holds the configuration: `NAME`, or `NAME/KEY` where the key isn't `filebeat.yml`",
    ),
    row(
        "output",
        true,
        "what the configuration says",
        "`elasticsearch=URL` or `logstash=HOST:PORT`, with commas between several hosts",
    ),
    row("way", true, "`auto`", "how Pillion learns of the end: `auto`, `native`, `flag`, `signal`, `process`, `exec`"),
    row(
        "resources",
        true,
        "`requests.cpu=10m, requests.memory=16Mi, limits.memory=64Mi`",
        "requests and limits, each over the default; an empty value (`limits.memory=`) takes one away",
    ),
    row("image", false, "`pillion:` and the version", "the image of the sidecar"),
    row("pull_policy", false, "Kubernetes' own", "`Always`, `IfNotPresent` or `Never`"),
    row("kube_version", false, "1.29 or later is assumed", "the version of the cluster, such as `1.34`"),
    row("containers", false, "all", "the containers whose logs are shipped, with commas between"),
    row(
        "grace_period",
        false,
        "the pod's own",
        "seconds between SIGTERM and the kill that the pod has at least (`terminationGracePeriodSeconds`)",
    ),
    row("on_incomplete", false, "`succeed`", "`fail`: a sidecar that couldn't deliver all fails the pod"),
    row(
        "beside_logs",
        true,
        "`false`",
        "`true`: the registry lies beside the logs, where they are on a volume that pods share, so that `pillion sweep` can ship \
         what a dead pod left; the sidecar mounts that volume to write",
    ),
    row("exactly_once", false, "`true`", "`false`: events have no ids of their own (`pillion.exactly_once`)"),
    row("secret", false, "none", "a Secret whose keys become variables of the sidecar, for `${PASSWORD}`"),
    row(
        "user",
        false,
        "that of the container or the pod, where it is written down; else the image's own, 1000",
        "the user id of the sidecar; not 0",
    ),
    row("opt_in", false, "`false`", "`true`: only pods with `pillion.dev/inject: \"true\"` are injected"),
];
