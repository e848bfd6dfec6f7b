//! One dead one's registry: taken over, shipped to its end, marked as done.
//!
//! Comes in: a folder in which nobody works. Goes out: what became of it ([`End`]).
//!
//! The steps, each of which may be the last one of this process:
//! 1. the lock, and a look whether the owner has moved after all;
//! 2. the claim: an owner that wakes up finds it and stops;
//! 3. the registry is read without trust; what can't be is taken out of it, incarnations that others claim too are new;
//! 4. a receipt that names what is left, in the place of the owner's;
//! 5. a run `--once` in the dead one's seat: its folder at the path at which it saw it, its name, its ids, its ranges in
//!    flight first;
//! 6. the receipt that says who shipped it, and the mark.
//!
//! Always holds: after a crash behind any step the lock is free, the registry true, and the mark not there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pillion_config::{Config, Error as Refusal};
use pillion_engine::drain::Phase;
use pillion_engine::run::{Outcome, Signals};
use pillion_engine::settings::DRAIN_TIMEOUT;
use pillion_event::{Incarnation, InputKind};
use pillion_input::InputSpec;
use pillion_registry::adopt::{Claim, Taken};
use pillion_registry::beside::{self, Beat, FOLDER, HEARTBEAT, RECEIPT};
use pillion_registry::foreign::{Bounds, Foreign};
use pillion_registry::{Entry, Registry};
use pillion_world::{FileKind, Home, World, rfc3339};
use serde_json::{Value, json};

use super::Root;
use super::find::{Found, REGISTRY};
use super::report::{End, Left};
use crate::assemble::{Assembled, assemble};
use crate::cli::Sweep;
use crate::seat::{Pulse, Seat, hostname};
use crate::work::{RunFlags, ride};

/// How long a claim is left alone before it counts, where locks can't be relied on: another sweeper's would be seen.
const SETTLE: Duration = Duration::from_secs(2);
/// What is adopted at once.
pub(crate) const BOUNDS: Bounds = Bounds { file: 64 << 20, entries: 100_000, path: 4096, key: 8192 };

/// Takes one over and ships it. `claimed`: the incarnations of this sweep's other registries. `held`: the registry, and with
/// it the lock, as long as any thread or task of the run has it.
pub(super) async fn adopt(
    flags: &Sweep,
    root: &Root,
    found: &Found,
    claimed: &mut HashSet<Incarnation>,
    held: &mut Weak<Registry>,
) -> End {
    match try_adopt(flags, root, found, claimed, held).await {
        Ok(end) => end,
        Err(why) => End::Failed(why),
    }
}

async fn try_adopt(
    flags: &Sweep,
    root: &Root,
    found: &Found,
    claimed: &mut HashSet<Incarnation>,
    held: &mut Weak<Registry>,
) -> Result<End, String> {
    let signals = Signals::listen(&World::real()).map_err(|e| format!("signals can't be received: {e}"))?;
    let Some((seat, read)) = sit_down(root, found, claimed).await? else { return Ok(End::Alive) };
    *held = Arc::downgrade(&seat.registry);
    let (config, mut parts) = configured(flags, found)?;
    let mut left = Left::of(&seat.world, &found.owner.view, &read);
    tracing::info!(path = %found.dir.display(), files = left.files(), bytes = left.bytes(), "adopting what a dead owner left");
    write_receipt(&seat, &told(found, &read, &left, None));
    make_ready(&mut parts);
    let inputs = parts.inputs.clone();
    let run = RunFlags { once: true, command: None, log: None };
    let outcome = ride(&config, parts, &run, &seat, signals).await;
    let outcome = outcome.map_err(|_| "the run couldn't start".to_owned())?;
    let unclaimed = left_by(&seat, &inputs);
    left.add_unreachable(behind_links(&seat));
    let told = told(found, &read, &left, Some(&outcome));
    write_receipt(&seat, &told);
    let all = outcome.receipt.phase == Phase::Committed && outcome.failure.is_none();
    if !all || !unclaimed.is_empty() {
        return Ok(End::Left { receipt: Box::new(outcome.receipt), failure: outcome.failure, unclaimed });
    }
    mark(&seat, &told)?;
    Ok(End::Shipped { receipt: Box::new(outcome.receipt), unreachable: left.unreachable() })
}

/// Steps 1 to 3. `None`: its owner, or another sweeper, is there.
pub(crate) async fn sit_down(
    root: &Root,
    found: &Found,
    claimed: &mut HashSet<Incarnation>,
) -> Result<Option<(Seat, Foreign)>, String> {
    let text = |e: std::io::Error| e.to_string();
    let view = &found.owner.view;
    let beneath = Arc::new(root.beneath.narrowed(&found.logs, view).map_err(text)?);
    let data = view.join(FOLDER).join(&found.name);
    let home = Home::of(beneath, &data).map_err(text)?;
    let world = World { fs: Arc::new(home), ..World::real() };
    let registry = Path::new(REGISTRY);
    let claim = Claim::lay(&world, &data, registry, &found.sighting).map_err(|e| e.to_string())?;
    let Some(mut claim) = claim else { return Ok(None) };
    if !claim.locks || world.fs.kind(&data).map_err(text)?.is_network() {
        tokio::time::sleep(SETTLE).await;
        if claim.heart.beat().map_err(text)? == Beat::Deposed {
            return Ok(None);
        }
    }
    let Taken { registry, opened, heart, read } = claim.open(registry, &BOUNDS, claimed).map_err(|e| e.to_string())?;
    opened.lines().iter().for_each(|line| tracing::debug!(path = %found.dir.display(), "{line}"));
    read.refused.iter().for_each(|line| tracing::warn!(path = %found.dir.display(), "{line}"));
    let seat = Seat {
        world,
        data,
        registry: Arc::new(registry),
        host: if found.owner.host.is_empty() { hostname() } else { found.owner.host.clone() },
        pod: Some(found.owner.env.clone()),
        believed: Arc::new(read.entries.iter().map(|e| e.incarnation).collect()),
        watches: false,
        receipt: None,
        resumable: true,
        pulse: Some(Pulse { heart: Arc::new(Mutex::new(heart)), every: HEARTBEAT }),
        replica: None,
        part: None,
    };
    Ok(Some((seat, read)))
}

/// The configuration as the dead one had it: with its pod's variables in the place of ours.
fn configured(flags: &Sweep, found: &Found) -> Result<(Config, Assembled), String> {
    let mut load = flags.run.load.clone();
    load.env.retain(|name, _| !beside::VARIABLES.contains(&name.as_str()));
    load.env.extend(found.owner.env.clone());
    let texts = |errors: Vec<Refusal>| errors.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ");
    let config = Config::load(&World::real(), &load).map_err(|e| e.to_string())?;
    let parts = assemble(&config, flags.run.strict, true).map_err(texts)?;
    Ok((config, parts))
}

/// What a run in another's seat does differently from one of its own: it waits for nothing, and leaves out nothing for
/// its age.
fn make_ready(parts: &mut Assembled) {
    let engine = &mut parts.engine;
    (engine.flag, engine.lock, engine.process, engine.beside) = (None, None, None, None);
    // The dead one's registry moves only over what the target has.
    engine.disk = None;
    engine.drain_timeout.get_or_insert(DRAIN_TIMEOUT);
    parts.providers.clear();
    parts.watch = None;
    parts.inputs.retain(|input| input.desc.kind != InputKind::Stdin && !input.desc.kind.is_network());
    for input in &mut parts.inputs {
        // What the dead one would have read in its time isn't too old now.
        (input.ignore_older, input.tail, input.delete_after) = (None, false, None);
        (input.ignore_before_start, input.ignore_before_first_start) = (false, false);
    }
}

/// What is still there when all inputs have read everything: files that none of them reads.
fn left_by(seat: &Seat, inputs: &[InputSpec]) -> Vec<String> {
    let is_read = |e: &Entry| inputs.iter().any(|i| i.paths.iter().any(|glob| glob.matches(Path::new(&*e.source))));
    let longer = |e: &Entry| seat.world.fs.stat(Path::new(&*e.source), true).is_ok_and(|meta| meta.len > e.offset);
    let mut unread = Vec::new();
    // The files are asked afterwards: the registry waits while it is visited.
    seat.registry.visit(|e| {
        if !is_read(e) {
            unread.push(Arc::clone(e));
        }
    });
    unread.iter().filter(|e| longer(e)).map(|e| e.source.to_string()).collect()
}

/// What the dead one has read by a link, and no other path leads to: no link is followed here.
fn behind_links(seat: &Seat) -> Vec<String> {
    let mut sources = Vec::new();
    seat.registry.visit(|e| sources.push(Arc::clone(&e.source)));
    let is_link = |source: &Arc<str>| match seat.world.fs.stat(Path::new(&**source), false) {
        Ok(meta) => meta.kind == FileKind::Symlink,
        // A folder on the way is one.
        Err(e) => e.raw_os_error() == Some(libc::ELOOP),
    };
    sources.iter().filter(|source| is_link(source)).map(|source| source.to_string()).collect()
}

/// What the receipt in the folder says.
fn told(found: &Found, read: &Foreign, left: &Left, ended: Option<&Outcome>) -> Value {
    let verdict = ended.map_or("incomplete", |outcome| outcome.receipt.verdict().as_str());
    json!({
        "verdict": verdict,
        "final": ended.is_some(),
        "of": found.owner.host,
        "left": left.json(),
        "refused": read.refused,
        "swept_by": swept_by(),
        "receipt": ended.map(|outcome| outcome.receipt.json()),
    })
}

/// Who ships what was left, as receipts name it.
pub(crate) fn swept_by() -> Value {
    json!({
        "host": hostname(),
        "version": env!("CARGO_PKG_VERSION"),
        "at": rfc3339(World::real().clock.wall()),
    })
}

/// The Job's receipt: proof only, so that a folder that can't take it doesn't keep lines from being shipped.
pub(crate) fn write_receipt(seat: &Seat, told: &Value) {
    let done = seat.world.fs.replace(&seat.data.join(RECEIPT), format!("{told}\n").as_bytes(), 0o600);
    if let Err(e) = done {
        tracing::warn!(path = %seat.data.display(), error = %e, "the receipt can't be written");
    }
}

/// Step 6. A registry that isn't ours any more isn't marked.
fn mark(seat: &Seat, told: &Value) -> Result<(), String> {
    let Some(pulse) = &seat.pulse else { return Ok(()) };
    match pulse.heart.lock().unwrap_or_else(PoisonError::into_inner).done(told) {
        Ok(Beat::Ours) => Ok(()),
        Ok(Beat::Deposed) => Err("its owner came back, and goes on itself".to_owned()),
        Err(e) => Err(format!("it was shipped, and can't be marked as done: {e}")),
    }
}
