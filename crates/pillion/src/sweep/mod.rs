//! `pillion sweep PATH`: ships what dead pods left beneath a folder, from where each of them stopped.
//!
//! Comes in: a folder, and the configuration that the pods had. Goes out: their lines at the target; in each registry that
//! was shipped to its end a receipt and the mark that it is done; exit code 0 when nothing is left, else 3.
//!
//! The way: [`find`] (registries beside logs, of which nobody works) → [`adopt`] (one after the other: lock, claim, check,
//! a run in the dead one's seat, receipt) → [`after`] (shipped files go, when that is asked for).
//!
//! Always holds: what pods wrote is not trusted; nothing outside of the folder is read, written or removed
//! ([`pillion_world::Beneath`]). A sweep that is killed at any step leaves a registry that the next one goes on with.
//! Tested by the command line's tests (`tests/sweep.rs`), in the simulation, and by `cargo xtask e2e sweep`.

mod adopt;
mod after;
mod find;
mod report;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pillion_config::Config;
use pillion_registry::beside::VARIABLES;
use pillion_world::{Beneath, World};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::assemble;
use crate::cli::Sweep;
use crate::work::{INCOMPLETE, fail};
pub(crate) use adopt::{BOUNDS, sit_down, swept_by, write_receipt};
pub use after::After;
use find::Search;
pub(crate) use find::{Found, REGISTRY, State, look};
pub(crate) use report::Left;
use report::Summary;

/// How long an owner must not have moved, unless it is said.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// How long the end of a run's threads, which hold its lock, is waited for.
const ENDING: Duration = Duration::from_secs(5);

/// A folder that is swept, as it is seen.
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    pub(crate) beneath: Arc<Beneath>,
    pub(crate) world: World,
}

impl Root {
    pub(crate) fn open(path: &std::path::Path) -> Result<Root, String> {
        let real = World::real();
        let cannot = |e: std::io::Error| format!("{} can't be swept: {e}", path.display());
        let path = real.fs.canonicalize(path).map_err(cannot)?;
        let beneath = Arc::new(Beneath::open(&path, &path).map_err(cannot)?);
        let world = World { fs: Arc::clone(&beneath) as _, ..real };
        Ok(Root { path, beneath, world })
    }
}

pub(crate) fn sweep(flags: &Sweep) -> u8 {
    if flags.dry_run {
        let (level, form) = (tracing::Level::WARN, pillion_telemetry::Form::Text);
        let options = pillion_telemetry::Options::to_stderr(level, form);
        let _ = pillion_telemetry::init(options, &World::real());
    } else if let Err(code) = check(flags) {
        return code;
    }
    let root = match Root::open(&flags.path) {
        Ok(root) => root,
        Err(why) => return fail(&why),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let grace = flags.grace_ns.map_or(GRACE, Duration::from_nanos);
    let looked = runtime.block_on(async {
        tokio::select! {
            found = find::find(&root, grace) => Some(found),
            () = told_to_end() => None,
        }
    });
    runtime.shutdown_background();
    let Some(search) = looked else {
        tracing::warn!("told to end before anything was adopted");
        return INCOMPLETE;
    };
    if flags.dry_run {
        return report::dry_run(&root, &search);
    }
    let mut summary = adopt_all(flags, &root, search);
    if let Some(after) = flags.after.filter(|_| !summary.told_to_end) {
        clear_all(&root, after, &mut summary);
    }
    summary.say();
    if summary.is_whole() { 0 } else { INCOMPLETE }
}

/// Adopts one after the other, each with a runtime of its own: nothing of one run lives on in the next.
fn adopt_all(flags: &Sweep, root: &Root, search: Search) -> Summary {
    let mut summary = Summary::of(&search);
    let mut claimed = HashSet::new();
    for found in search.found {
        if found.state != State::Dead || summary.told_to_end {
            summary.count_state(&found);
            continue;
        }
        let Ok(runtime) = runtime() else {
            summary.failed += 1;
            continue;
        };
        let mut held = Weak::new();
        let end = runtime.block_on(async {
            let told = tokio::spawn(told_to_end());
            let end = adopt::adopt(flags, root, &found, &mut claimed, &mut held).await;
            summary.told_to_end |= told.is_finished();
            end
        });
        runtime.shutdown_background();
        let clock = World::real().clock;
        let since = clock.mono();
        while held.strong_count() > 0 && clock.mono().since(since) < ENDING {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        summary.count(&found, end);
    }
    summary
}

/// Lets shipped files go.
fn clear_all(root: &Root, after: After, summary: &mut Summary) {
    find::each_done(root, &mut |found| match after::clear(root, found, after) {
        Ok(gone) => summary.gone(found, gone),
        Err(why) => {
            tracing::error!(path = %found.dir.display(), "its shipped files stay: {why}");
            summary.failed += 1;
        }
    });
}

fn runtime() -> Result<Runtime, u8> {
    Builder::new_current_thread().enable_all().build().map_err(|e| fail(&format!("the runtime can't start: {e}")))
}

/// Ends with SIGINT or SIGTERM; a run that goes on listens for itself.
async fn told_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Reads the configuration once as it would be for a pod, so that what is wrong with it is said before anything else.
fn check(flags: &Sweep) -> Result<(), u8> {
    let world = World::real();
    let mut load = flags.run.load.clone();
    for name in VARIABLES {
        // Those of the pods, whichever they are.
        load.env.entry((*name).to_owned()).or_insert_with(|| "pod".to_owned());
    }
    let config = Config::load(&world, &load).map_err(|e| crate::refuse(&[e]))?;
    let options = assemble::log_options(&config, &flags.run.log).map_err(|e| crate::refuse(&[e]))?;
    let _ = pillion_telemetry::init(options, &world);
    let parts = assemble::assemble(&config, flags.run.strict, true).map_err(|e| crate::refuse(&e))?;
    if !parts.further.is_empty() {
        let remedy = "take the option out of the configuration of the sweep";
        return Err(crate::refuse(&[config.root().error("pillion.outputs", "a sweep has one output", remedy)]));
    }
    for warning in parts.warnings {
        tracing::warn!("{}", warning.one_line());
    }
    if parts.monitoring.http.is_some() {
        tracing::warn!("http.enabled: a sweep has no HTTP endpoint; its summary and the receipts tell what it did");
    }
    Ok(())
}
