//! What a configuration says of queue, registry and the end of a run.
//!
//! Comes in: the configuration's root. Goes out: typed settings with the dialect's defaults
//! (spec: Filebeat's reference, `queue.mem`, `filebeat.registry`, `shutdown_timeout`; `pillion.*` is our own).
//!
//! What it says of queues is in `settings/queue.rs`. Tested below.

mod queue;

use std::path::PathBuf;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_queue::Limits;
use pillion_queue::disk::DiskOptions;
use pillion_registry::beside::{HEARTBEAT, RESERVED};

use crate::trigger::process::Watched;

/// Bytes between reader and acknowledgement, unless `pillion.queue.bytes` says otherwise.
pub const QUEUE_BYTES: usize = 4 << 20;
/// Most time for a drain after a flag, a process' end or SIGINT, unless `pillion.drain.timeout` says otherwise.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// What an incomplete end means for the exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnIncomplete {
    /// Exit code 3: an ordinary sidecar fails the pod.
    #[default]
    Fail,
    /// Exit code 0; the receipt tells.
    Succeed,
}

/// The settings.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The memory queue.
    pub queue: Limits,
    /// `queue.disk`: what is kept on a disk between reader and target.
    pub disk: Option<DiskOptions>,
    /// `pillion.exactly_once`: every event has an id; off by default, since an id costs the target's index.
    pub exactly_once: bool,
    /// `filebeat.registry.flush`: how often acknowledgements are made durable; 0 in a configuration = at each batch of
    /// acknowledgements, which is taken as 1 ms here.
    pub registry_flush: Duration,
    /// `filebeat.registry.path`, `registry.file_permissions`, `registry.migrate_file`.
    pub registry: pillion_registry::Options,
    /// `pillion.registry.beside_logs`: the registry lies beside the logs.
    pub beside: Option<Beside>,
    /// `pillion.completion.flag`: a file that says that the work is done.
    pub flag: Option<PathBuf>,
    /// `pillion.completion.lock`: a FIFO that the work's shell holds; its release says that the work is gone.
    pub lock: Option<PathBuf>,
    /// `pillion.completion.restarts`: the work's container is started again when it fails.
    pub restarts: bool,
    /// `pillion.completion.process`: a process whose end says so.
    pub process: Option<Watched>,
    /// `pillion.completion.accept_stale`: believe a flag that is older than the pod.
    pub accept_stale: bool,
    /// `pillion.drain.timeout`; `None` = not set: 10 minutes after a flag, process or SIGINT, no limit for `--once` and
    /// standard input.
    pub drain_timeout: Option<Duration>,
    /// `pillion.drain.grace_period`: the time between SIGTERM and the kill.
    pub grace_period: Option<Duration>,
    /// `pillion.on_incomplete`.
    pub on_incomplete: OnIncomplete,
    /// `pillion.receipt`: where the receipt goes as JSON.
    pub receipt: Option<PathBuf>,
    /// `pillion.termination_log`, by default Kubernetes' own path.
    pub termination_log: PathBuf,
}

/// A registry that lies beside the logs, on a volume that others see too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The folder of the logs; `None` = that of the inputs.
    pub folder: Option<PathBuf>,
    /// `pillion.registry.name`: what tells it from others beside the same logs; `None` = the host's name.
    pub name: Option<String>,
    /// `pillion.registry.heartbeat`: how often others see that its owner lives.
    pub heartbeat: Duration,
}

impl EngineSettings {
    /// Reads them from the root of a configuration.
    pub fn from_section(root: &Section<'_>) -> Result<EngineSettings, Error> {
        let drain_timeout = match root.duration("pillion.drain.timeout")? {
            Some(time) => Some(time),
            // Filebeat's own limit; 0, its default, means that none is set.
            None => root.duration("filebeat.shutdown_timeout")?.filter(|t| !t.is_zero()),
        };
        let process = root.str("pillion.completion.process")?;
        let process = process.map(|p| p.parse::<Watched>()).transpose();
        let process = process
            .map_err(|e| root.error("pillion.completion.process", e, "name a process id or a program's name"))?;
        let on_incomplete = match root.choice("pillion.on_incomplete", &["fail", "succeed"])? {
            Some("succeed") => OnIncomplete::Succeed,
            _ => OnIncomplete::Fail,
        };
        let path = |key| Ok::<_, Error>(root.str(key)?.filter(|p| !p.is_empty()).map(PathBuf::from));
        let (queue, disk) = queue::read(root)?;
        let beside = beside(root)?;
        refuse_queue_elsewhere(root, disk.is_some(), beside.is_some())?;
        Ok(EngineSettings {
            queue,
            disk,
            exactly_once: root.bool("pillion.exactly_once")?.unwrap_or(false),
            registry_flush: root
                .duration("filebeat.registry.flush")?
                .unwrap_or(Duration::from_secs(1))
                .max(Duration::from_millis(1)),
            registry: registry(root)?,
            beside,
            flag: path("pillion.completion.flag")?,
            lock: path("pillion.completion.lock")?,
            restarts: root.bool("pillion.completion.restarts")?.unwrap_or(false),
            process,
            accept_stale: root.bool("pillion.completion.accept_stale")?.unwrap_or(false),
            drain_timeout,
            grace_period: root.duration("pillion.drain.grace_period")?.filter(|t| !t.is_zero()),
            on_incomplete,
            receipt: path("pillion.receipt")?,
            termination_log: path("pillion.termination_log")?.unwrap_or_else(|| "/dev/termination-log".into()),
        })
    }
}

/// What lies in a disk queue is delivered as far as the registry knows: where others go on from that registry, they would
/// never send what a dead pod's own queue still held.
fn refuse_queue_elsewhere(root: &Section<'_>, disk: bool, beside: bool) -> Result<(), Error> {
    let shards = root.has("pillion.shards");
    let key = match (beside, shards) {
        (true, _) => "pillion.registry.beside_logs",
        (_, true) => "pillion.shards",
        _ => return Ok(()),
    };
    if !disk {
        return Ok(());
    }
    let reason =
        "others go on from the registry that they share, and would never send what this pod's disk queue holds";
    Err(root.error(key, reason, "remove queue.disk: the log files are the buffer while the target is away"))
}

/// `true`, `false`, or the folder of the logs.
fn beside(root: &Section<'_>) -> Result<Option<Beside>, Error> {
    const KEY: &str = "pillion.registry.beside_logs";
    let name = root.str("pillion.registry.name")?.filter(|n| !n.is_empty());
    let heartbeat = root.duration("pillion.registry.heartbeat")?.unwrap_or(HEARTBEAT);
    let folder = match root.str(KEY)?.as_deref() {
        None | Some("" | "false") => return Ok(None),
        Some("true") => None,
        Some(folder) if folder.starts_with('/') => Some(PathBuf::from(folder)),
        Some(_) => {
            let remedy = "write `true`, or the folder of the logs, such as /logs";
            return Err(root.error(KEY, "neither `true` nor an absolute path", remedy));
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if let Some(bad) = name.as_ref().filter(|n| n.starts_with('.') || n.len() > 253 || !n.chars().all(plain)) {
        let reason = format!("{bad:?} can't be the name of a folder of its own");
        return Err(root.error("pillion.registry.name", reason, "use letters, digits, `.`, `_` and `-`"));
    }
    if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&heartbeat) {
        let reason = "others couldn't tell by it whether the owner lives";
        return Err(root.error("pillion.registry.heartbeat", reason, "use 1s to 10m"));
    }
    if let Some(taken) = name.as_ref().filter(|n| RESERVED.contains(&n.as_str())) {
        let reason = format!("{taken:?} is what replicas call a folder of theirs there");
        return Err(root.error("pillion.registry.name", reason, "use another name"));
    }
    Ok(Some(Beside { folder, name, heartbeat }))
}

fn registry(root: &Section<'_>) -> Result<pillion_registry::Options, Error> {
    let mut options = pillion_registry::Options::default();
    let key = if root.compat() == Compat::V5 { "filebeat.registry_file" } else { "filebeat.registry.path" };
    if let Some(path) = root.str(key)? {
        options.path = path.into();
    }
    if let Some(mode) = root.file_mode("filebeat.registry.file_permissions")? {
        options.file_mode = mode;
    }
    options.migrate_file = root.str("filebeat.registry.migrate_file")?.filter(|p| !p.is_empty()).map(PathBuf::from);
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_config::Config;

    fn read(yaml: &str) -> Result<EngineSettings, Error> {
        EngineSettings::from_section(&Config::from_yaml(yaml)?.root())
    }

    #[test]
    fn defaults_hold_nothing_back() {
        let s = read("filebeat.inputs: []").unwrap();
        assert_eq!((s.queue.events, s.queue.bytes, s.queue.flush), (3200, QUEUE_BYTES, None));
        assert_eq!((s.exactly_once, s.drain_timeout, s.on_incomplete), (false, None, OnIncomplete::Fail));
        assert_eq!(s.termination_log, PathBuf::from("/dev/termination-log"));
    }

    #[test]
    fn what_is_written_down_counts() {
        let s = read(
            "filebeat.shutdown_timeout: 5s\nfilebeat.registry.flush: 0\nqueue.mem:\n  events: 64\n  flush.timeout: 3s\n\
             pillion:\n  exactly_once: true\n  completion: {flag: /data/completion-flag, lock: /data/lock, restarts: true, process: worker}\n  \
             on_incomplete: succeed\n  drain.grace_period: 30s\n",
        )
        .unwrap();
        assert_eq!((s.queue.events, s.queue.flush), (64, Some((64, Duration::from_secs(3)))));
        assert_eq!(s.drain_timeout, Some(Duration::from_secs(5)));
        assert_eq!(s.registry_flush, Duration::from_millis(1));
        assert_eq!(s.flag, Some("/data/completion-flag".into()));
        assert_eq!((s.lock, s.restarts), (Some("/data/lock".into()), true));
        assert_eq!(s.process, Some(Watched::Name("worker".into())));
        assert!(s.exactly_once && s.on_incomplete == OnIncomplete::Succeed);
        assert_eq!(s.grace_period, Some(Duration::from_secs(30)));
    }

    #[test]
    fn filebeat_5_has_a_spooler_and_a_registry_file() {
        let s = read("filebeat.prospectors: []\nfilebeat.idle_timeout: 2s\nfilebeat.registry_file: mine").unwrap();
        assert_eq!((s.queue.events, s.queue.flush), (2048, Some((2048, Duration::from_secs(2)))));
        assert_eq!(s.registry.path, PathBuf::from("mine"));
    }

    #[test]
    fn a_registry_beside_the_logs_has_a_folder_a_name_and_a_beat() {
        let at = |yaml: &str| read(&format!("pillion.registry: {yaml}"));
        let of = |folder: Option<&str>, name: Option<&str>, secs| {
            let (folder, name) = (folder.map(PathBuf::from), name.map(str::to_owned));
            Some(Beside { folder, name, heartbeat: Duration::from_secs(secs) })
        };
        assert_eq!(at("{}").unwrap().beside, None);
        assert_eq!(at("{beside_logs: false, name: x}").unwrap().beside, None);
        assert_eq!(at("{beside_logs: true}").unwrap().beside, of(None, None, 10));
        let all = at("{beside_logs: /logs, name: job-1, heartbeat: 5s}").unwrap().beside;
        assert_eq!(all, of(Some("/logs"), Some("job-1"), 5));
        for bad in [
            "{beside_logs: logs}",
            "{beside_logs: true, name: ../x}",
            "{beside_logs: true, name: .x}",
            "{beside_logs: true, name: replicas}",
            "{beside_logs: true, heartbeat: 0}",
            "{beside_logs: true, heartbeat: 1h}",
        ] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_say_where() {
        let e = read("pillion:\n  on_incomplete: shrug\n").unwrap_err();
        assert_eq!(e.line(), Some(2));
    }
}
