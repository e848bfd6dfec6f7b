//! `pillion exec`: the spool's place and bounds, the inputs that read it, and the signals that go on to the command.
//!
//! Comes in: a command, the configuration's `pillion.exec`. Goes out: a running command whose output is read like any
//! other log, with `stream: stdout` or `stderr` in each event. Tested end to end.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pillion_config::{Compat, Config, Error};
use pillion_engine::drain::Cause;
use pillion_engine::exec::child::{self, Handle, OnDropped};
use pillion_engine::exec::spool::{MAX_SIZE, MIN_SIZE, OnFull, Shared, Spool};
use pillion_engine::ledger::Ledger;
use pillion_engine::run::Ending;
use pillion_input::InputSpec;
use pillion_registry::Registry;
use pillion_world::World;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What the user chose about the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// `pillion.exec.spool_limit`, bytes.
    pub limit: u64,
    /// `pillion.exec.on_full`.
    pub on_full: OnFull,
}

impl Rule {
    pub(crate) fn from_config(config: &Config) -> Result<Rule, Error> {
        let root = config.root();
        let limit = root.size("pillion.exec.spool_limit")?.unwrap_or(MAX_SIZE).max(MIN_SIZE);
        let on_full = match root.choice("pillion.exec.on_full", &["drop", "block"])? {
            Some("block") => OnFull::Block,
            _ => OnFull::Drop,
        };
        Ok(Rule { limit, on_full })
    }
}

/// The inputs that read the spool, one for each stream.
pub(crate) fn inputs(config: &Config, dir: &Path) -> Result<Vec<InputSpec>, Error> {
    let kind = if config.compat() == Compat::V5 { "log" } else { "filestream" };
    let folder = dir.display().to_string().replace('\'', "''");
    let mut specs = Vec::new();
    for stream in ["stdout", "stderr"] {
        let yaml = format!(
            "pillion.compat: {}\nfilebeat.inputs:\n- type: {kind}\n  id: pillion-exec-{stream}\n  \
             paths: ['{folder}/{stream}-*.log']\n  file_identity.native: ~\n  fields_under_root: true\n  \
             fields: {{stream: {stream}}}\n",
            config.compat().name()
        );
        let own = Config::from_yaml(&yaml)?;
        specs.extend(pillion_input::specs(&config.root(), &own.root(), &[])?);
    }
    Ok(specs)
}

/// The spools, once the command has ended.
pub(crate) type Ended = Arc<Mutex<Vec<Spool>>>;

/// Where the command's parts meet.
pub(crate) struct Place<'a> {
    pub world: &'a World,
    pub dir: &'a Path,
    pub registry: &'a Arc<Registry>,
    pub ledger: &'a Arc<Ledger>,
    pub tell: &'a mpsc::Sender<Ending>,
}

/// Starts the command. Its end starts the drain.
pub(crate) fn start(place: &Place<'_>, command: &[OsString], rule: Rule) -> io::Result<(Ended, Handle)> {
    let registry = Arc::clone(place.registry);
    let delivered = move |path: &Path| {
        let path = path.to_string_lossy();
        registry.entries().iter().find(|e| *e.source == *path).map(|e| e.offset)
    };
    let shared = Shared {
        world: place.world.clone(),
        dir: place.dir.to_owned(),
        limit: rule.limit,
        held: Arc::default(),
        delivered: Arc::new(delivered),
    };
    let spools = (Spool::open(shared.clone(), "stdout")?, Spool::open(shared, "stderr")?);
    tracing::info!(
        spool = %place.dir.display(),
        limit = rule.limit,
        "the command's output is shipped by way of the spool; when that is full, {}",
        match rule.on_full {
            OnFull::Drop => "the command goes on, and lines that don't fit are counted as lost (pillion.exec.on_full)",
            OnFull::Block => "the command waits at its output (pillion.exec.on_full)",
        }
    );
    let (ledger, tell) = (Arc::clone(place.ledger), place.tell.clone());
    let dir = place.dir.to_owned();
    let on_dropped: OnDropped = Arc::new(move |stream, bytes| lost(&ledger, &dir, stream, bytes));
    let ended = Ended::default();
    let keep = Arc::clone(&ended);
    let on_end = Box::new(move |code, spools| {
        *keep.lock().unwrap_or_else(PoisonError::into_inner) = spools;
        let _ = tell.blocking_send(Ending::Drain(Cause::CommandEnd(code)));
    });
    let signals = listen()?; // before there is a command that may be sent one
    let handle = child::start(command, spools, rule.on_full, &on_dropped, on_end)?;
    forward(signals, &handle);
    Ok((ended, handle))
}

fn lost(ledger: &Ledger, dir: &Path, stream: &str, bytes: u64) {
    ledger.lost(&dir.join(stream).to_string_lossy(), bytes);
}

/// Signals that go on to the command, and whether a terminal sends them.
type Signals = Vec<(tokio::signal::unix::Signal, Signal, bool)>;

/// From now on, no signal that asks for something ends this process.
fn listen() -> io::Result<Signals> {
    let kinds = [
        (SignalKind::terminate(), Signal::TERM, false),
        (SignalKind::interrupt(), Signal::INT, true),
        (SignalKind::quit(), Signal::QUIT, true),
        (SignalKind::hangup(), Signal::HUP, false),
        (SignalKind::user_defined1(), Signal::USR1, false),
        (SignalKind::user_defined2(), Signal::USR2, false),
        (SignalKind::window_change(), Signal::WINCH, true),
    ];
    kinds.into_iter().map(|(kind, same, from_terminal)| Ok((signal(kind)?, same, from_terminal))).collect()
}

/// Those that a terminal sends go to the whole group there, and so to the command without us.
fn forward(signals: Signals, handle: &Handle) {
    let by_terminal = io::stdin().is_terminal();
    for (mut stream, same, from_terminal) in signals {
        let handle = handle.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if !(from_terminal && by_terminal) {
                    handle.signal(same);
                }
            }
        });
    }
}
