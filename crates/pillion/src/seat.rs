//! Where a run sits: in its own place, or in that of a dead one whose work it ends.
//!
//! Comes in: the configuration. Goes out: [`Seat`]: the registry, through what file system it and the logs are seen, whose
//! names events carry, and the heart that shows others that somebody is there (docs/decisions/beside-logs.md).
//!
//! Always holds: in a folder beside the logs nothing is opened before it is claimed, and a run that finds another's claim
//! there ends. A folder is marked as done only by whoever has it, after everything was acknowledged and the work has
//! ended.
//! Tested by the command line's tests and end to end (`cargo xtask e2e sweep`).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_config::Config;
use pillion_engine::drain::{Cause, Phase};
use pillion_engine::ledger::Ledger;
use pillion_engine::receipt::{Receipt, Verdict};
use pillion_engine::run::Ending;
use pillion_engine::settings::{Beside, EngineSettings};
use pillion_event::Incarnation;
use pillion_input::InputSpec;
use pillion_output::Requests;
use pillion_queue::Queue;
use pillion_registry::beside::{self, Beat, FOLDER, Heart, Owner};
use pillion_registry::{Error, Options, Registry};
use pillion_world::{Home, World, rfc3339};
use serde_json::json;
use tokio::sync::mpsc;

use crate::assemble::Assembled;
use crate::company::Part;
use crate::harvesting::Harvesting;
use crate::lasting::{Lasting, lasting, warn_of_place};
use crate::sharing::{Replica, Shared};
use crate::work::{fail, refuse};

/// How long a start waits for a lock that a sweeper may hold: it ends what it has begun.
const WAIT_FOR_LOCK: Duration = Duration::from_secs(300);

/// See the module.
pub(crate) struct Seat {
    /// Through which the registry and the logs are seen.
    pub(crate) world: World,
    /// The registry's folder: `path.data`, or one beside the logs.
    pub(crate) data: PathBuf,
    pub(crate) registry: Arc<Registry>,
    /// The host's name in events.
    pub(crate) host: String,
    /// The variables of the pod whose seat this is, when it isn't our own.
    pub(crate) pod: Option<BTreeMap<String, String>>,
    /// Lives of files whose lines another process may have sent: that the target has them already is no error.
    pub(crate) believed: Arc<HashSet<Incarnation>>,
    /// The system tells of changes.
    pub(crate) watches: bool,
    /// Where the receipt goes.
    pub(crate) receipt: Option<PathBuf>,
    /// A later run finds the registry again.
    pub(crate) resumable: bool,
    /// Shows that somebody works here.
    pub(crate) pulse: Option<Pulse>,
    /// One of several replicas that share their files.
    pub(crate) replica: Option<Replica>,
    /// One of several runs of this process.
    pub(crate) part: Option<Part>,
}

/// A heart, and how often it beats.
#[derive(Clone)]
pub(crate) struct Pulse {
    pub(crate) heart: Arc<Mutex<Heart>>,
    pub(crate) every: Duration,
}

/// This machine's name; in a pod, the pod's.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Seat {
    /// The place that the configuration names.
    ///
    /// # Errors
    /// An exit code; why is said.
    pub(crate) async fn own(world: &World, config: &Config, parts: &Assembled) -> Result<Seat, u8> {
        let engine = &parts.engine;
        if let Some(sharing) = &parts.sharing {
            let (replica, seat) = Replica::open(sharing, parts)?;
            return Ok(Seat { replica: Some(replica), ..seat });
        }
        let beside = match &engine.beside {
            Some(beside) => beside_logs(world, beside, engine, &parts.inputs).await?,
            None => None,
        };
        let (world, data, registry, pulse) = match beside {
            Some(beside) => beside,
            None => {
                let data = config.paths().data.clone();
                let opened = Registry::open(world, &data, &engine.registry).map_err(|e| fail(&e.to_string()))?;
                (world.clone(), data, opened, None)
            }
        };
        for line in registry.1.lines() {
            tracing::info!("{line}");
        }
        warn_of_place(&data);
        let receipt = engine.receipt.clone();
        Ok(Seat {
            world,
            registry: Arc::new(registry.0),
            host: hostname(),
            pod: None,
            believed: Arc::default(),
            watches: true,
            receipt: receipt.or_else(|| pulse.is_some().then(|| data.join(beside::RECEIPT))),
            resumable: lasting(&data) == Lasting::Yes,
            data,
            pulse,
            replica: None,
            part: None,
        })
    }

    /// The place of one of several replicas, beneath the folder that they share.
    pub(crate) fn shared(world: World, data: PathBuf, registry: Arc<Registry>, receipt: Option<PathBuf>) -> Seat {
        Seat {
            world,
            data,
            registry,
            host: hostname(),
            pod: None,
            believed: Arc::default(),
            watches: true,
            receipt,
            resumable: true,
            pulse: None,
            replica: None,
            part: None,
        }
    }

    /// Where outputs take their work from.
    pub(crate) fn requests(&self, queue: &Arc<Queue>, ledger: &Arc<Ledger>) -> Arc<dyn Requests> {
        match &self.replica {
            Some(replica) => replica.requests(queue, ledger),
            None => Arc::new(Arc::clone(queue)),
        }
    }

    /// The readers as the run sees them; a replica takes part from now on.
    pub(crate) fn begin(
        &self,
        harvesting: &Arc<Harvesting>,
        ledger: &Arc<Ledger>,
        tell: &mpsc::Sender<Ending>,
    ) -> Shared {
        let helm = self.replica.as_ref().and_then(|replica| replica.begin(harvesting, ledger, tell));
        Shared { harvesting: Arc::clone(harvesting), helm }
    }

    /// Who ships, as events tell it.
    pub(crate) fn agent_id(&self) -> &str {
        self.part.as_ref().map_or_else(|| self.registry.agent_id(), |part| &part.agent_id)
    }

    /// Whether this process' own work is done here.
    pub(crate) fn is_own(&self) -> bool {
        self.pod.is_none()
    }

    /// Lets the heart beat from now on; a run that was deposed ends, and one beside which another can't go on.
    pub(crate) fn live(&self, ledger: &Arc<Ledger>, tell: &mpsc::Sender<Ending>) {
        self.part.iter().for_each(|part| part.follow(tell));
        if let Some(pulse) = self.pulse.clone() {
            tokio::spawn(beat(pulse, self.is_own(), Arc::clone(ledger), tell.clone()));
        }
    }

    /// Marks a folder beside the logs as done, when the work has ended and everything of it was delivered.
    pub(crate) fn leave(&self, receipt: &Receipt) {
        let over = matches!(&receipt.cause, Some(cause) if !matches!(cause, Cause::Terminate | Cause::Interrupt));
        let whole = receipt.phase == Phase::Committed && receipt.verdict() == Verdict::Complete;
        let Some(pulse) = self.pulse.as_ref().filter(|_| over && whole && receipt.registry_error.is_none()) else {
            return;
        };
        let told = json!({
            "verdict": receipt.verdict().as_str(),
            "by": {"host": self.host, "agent": receipt.agent_id, "swept": false},
            "at": rfc3339(self.world.clock.wall()),
        });
        let done = pulse.heart.lock().unwrap_or_else(PoisonError::into_inner).done(&told);
        if let Err(e) = done {
            tracing::warn!(error = %e, "the registry beside the logs can't be marked as done: a sweep looks at it again");
        }
    }
}

/// Whoever took the place of this run may have marked everything as shipped, while the work writes on.
async fn unmark(pulse: &Pulse) {
    let heart = Arc::clone(&pulse.heart);
    let unmark = move || heart.lock().unwrap_or_else(PoisonError::into_inner).unmark();
    if let Ok(Err(e)) = tokio::task::spawn_blocking(unmark).await {
        tracing::warn!(error = %e, "the mark beside the logs can't be removed: lines that are written from now on are missed by sweeps");
    }
}

/// Beats until the run ends. `own`: the work may go on beside it.
async fn beat(pulse: Pulse, own: bool, ledger: Arc<Ledger>, tell: mpsc::Sender<Ending>) {
    let mut acked = ledger.totals().acked;
    loop {
        tokio::time::sleep(pulse.every).await;
        let (heart, now) = (Arc::clone(&pulse.heart), ledger.totals().acked);
        let beat = move || heart.lock().unwrap_or_else(PoisonError::into_inner).beat();
        match tokio::task::spawn_blocking(beat).await {
            Ok(Ok(Beat::Ours)) => acked = now,
            Ok(Ok(Beat::Deposed)) => {
                let doubled = ledger.totals().acked - acked;
                if own {
                    unmark(&pulse).await;
                }
                let why = format!(
                    "another run has taken over the registry beside the logs, and goes on with these files. Up to {doubled} \
                     events that were acknowledged here since this run was last seen may be delivered by it too (once, with \
                     pillion.exactly_once)"
                );
                let _ = tell.send(Ending::Failed(why)).await;
                return;
            }
            Ok(Err(e)) => {
                tracing::warn!(error = %e, "the heartbeat beside the logs can't be written; it is tried again")
            }
            Err(_) => return,
        }
    }
}

type Opened = (Registry, pillion_registry::Opened);
/// The first parts of a [`Seat`].
type Place = (World, PathBuf, Opened, Option<Pulse>);

/// Opens the registry beside the logs: the lock is taken, the folder claimed, who owns it written down, in this order.
/// `None`: nothing can be written there, and nothing ever was.
async fn beside_logs(
    real: &World,
    settings: &Beside,
    engine: &EngineSettings,
    inputs: &[InputSpec],
) -> Result<Option<Place>, u8> {
    let folder = folder_of_logs(settings, inputs).map_err(|why| refuse(&why))?;
    let name = settings.name.clone().unwrap_or_else(hostname);
    let data = folder.join(FOLDER).join(&name);
    let cannot = |e: io::Error| fail(&format!("{} can't be written: {e}", data.display()));
    match real.fs.create_dir_all(&data, 0o700) {
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            tracing::error!(
                path = %data.display(), error = %e,
                "no registry can be made beside the logs, so that it lies in path.data: what this run leaves when it is killed \
                 can't be swept. Let this user write to the folder of the logs (fsGroup, or the user of the work)"
            );
            return Ok(None);
        }
        done => done.map_err(cannot)?,
    }
    let home = Home::of(Arc::clone(&real.fs), &data).map_err(cannot)?;
    let world = World { fs: Arc::new(home), ..real.clone() };
    let lock = wait_for_lock(&world, &data).await?;
    let owner = Owner {
        view: folder,
        host: hostname(),
        env: beside::variables(|name| std::env::var(name).ok()),
        inputs: inputs.iter().map(|i| i.desc.id.clone()).filter(|id| !id.is_empty()).collect(),
        heartbeat_ms: u64::try_from(settings.heartbeat.as_millis()).unwrap_or(u64::MAX),
    };
    let heart = Heart::claim(&world, &data).map_err(cannot)?;
    owner.write(&world, &data).map_err(cannot)?;
    let options = Options { path: "registry".into(), ..engine.registry.clone() };
    let opened = Registry::open_held(&world, &data, &options, lock).map_err(|e| fail(&e.to_string()))?;
    let pulse = Pulse { heart: Arc::new(Mutex::new(heart)), every: settings.heartbeat };
    Ok(Some((world, data, opened, Some(pulse))))
}

async fn wait_for_lock(world: &World, data: &Path) -> Result<Box<dyn pillion_world::Lock>, u8> {
    let begun = world.clock.mono();
    let mut said = false;
    loop {
        match beside::lock(world, data) {
            Ok((lock, true)) => return Ok(lock),
            Ok((lock, false)) => {
                tracing::warn!(path = %data.display(), "this file system has no locks: only the heartbeat says whose it is");
                return Ok(lock);
            }
            Err(e @ Error::Locked { .. }) if world.clock.mono().since(begun) < WAIT_FOR_LOCK => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!("{e}: it may be a sweep that ships what is there; waiting for it");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(e) => return Err(fail(&e.to_string())),
        }
    }
}

/// The folder that the registry lies in: as it is set, or the one in which all inputs read.
fn folder_of_logs(settings: &Beside, inputs: &[InputSpec]) -> Result<PathBuf, String> {
    if let Some(folder) = &settings.folder {
        return Ok(folder.components().collect());
    }
    let mut roots: Vec<PathBuf> = inputs.iter().flat_map(|i| &i.paths).map(pillion_input::Glob::folder).collect();
    roots.sort();
    roots.dedup();
    match roots.as_slice() {
        [one] if one.parent().is_some() => Ok(one.clone()),
        [] => Err("pillion.registry.beside_logs: no input reads files; remove the option".to_owned()),
        _ => Err(format!(
            "pillion.registry.beside_logs: the inputs read in {}: name the folder that the registry lies in, such as \
             `beside_logs: /logs`",
            roots.iter().map(|r| r.display().to_string()).collect::<Vec<_>>().join(", ")
        )),
    }
}
