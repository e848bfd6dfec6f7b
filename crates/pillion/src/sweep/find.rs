//! Which registries lie beside logs beneath a folder, and of which of them nobody works any more.
//!
//! Comes in: the folder, and the grace. Goes out: [`Found`], each with its [`State`].
//!
//! Always holds:
//! - An owner is dead when its lock is free, or there are no locks, and nothing of what is to be seen of it has changed
//!   during the whole grace, which this process measured by its own monotonic clock.
//! - A grace that is too short for an owner's own beat makes nobody dead.
//! - The search is bounded ([`MAX_FOLDERS`], [`MAX_DEPTH`], [`MAX_FOUND`]); what is beyond is said.
//!
//! Tested below and by the command line's tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_registry::Error;
use pillion_registry::beside::{self, FOLDER, Owner, RESERVED, Sighting};
use pillion_world::{FileKind, World};

use super::Root;

/// Folders that are looked into.
const MAX_FOLDERS: usize = 1_000_000;
/// How deep.
const MAX_DEPTH: usize = 32;
/// Registries of one sweep; the next sweep takes the others.
const MAX_FOUND: usize = 20_000;
/// How often owners are looked at during the grace.
const LOOKS: u32 = 4;
/// Where a registry lies in its folder.
pub(crate) const REGISTRY: &str = "registry";

/// What is known of a registry's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Somebody works on it.
    Alive,
    /// Everything was shipped.
    Done,
    /// Nobody works on it, and it isn't done.
    Dead,
    /// It can't be used: why.
    Refused(String),
}

/// A registry beside logs.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The folder of the logs.
    pub(crate) logs: PathBuf,
    /// The registry's own folder in it.
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) owner: Owner,
    /// How its owner looked, last.
    pub(crate) sighting: Sighting,
}

/// Finds all of them, and waits until it is known of each whether its owner lives.
pub(crate) async fn find(root: &Root, grace: Duration) -> Vec<Found> {
    let mut all: Vec<Found> = walk(root).into_iter().filter_map(|dir| look(&root.world, &dir, grace)).collect();
    let step = grace / LOOKS;
    for _ in 0..LOOKS {
        if step.is_zero() || !all.iter().any(|found| found.state == State::Dead) {
            break;
        }
        tokio::time::sleep(step).await;
        for found in all.iter_mut().filter(|found| found.state == State::Dead) {
            if !still(&root.world, found) {
                found.state = State::Alive;
            }
        }
    }
    all
}

/// Whether nothing has changed about an owner since it was looked at.
fn still(world: &World, found: &Found) -> bool {
    matches!(beside::sight(world, &found.dir, Path::new(REGISTRY)), Ok(now) if now == found.sighting)
}

/// The folders of registries, in the order of their names.
fn walk(root: &Root) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(root.path.clone(), 0)];
    let mut looked = 0;
    while let Some((dir, depth)) = folders.pop() {
        looked += 1;
        if looked > MAX_FOLDERS || found.len() >= MAX_FOUND {
            tracing::warn!(path = %dir.display(), "too many folders for one sweep: the rest is left for the next one");
            break;
        }
        let is_ours = dir.file_name().is_some_and(|name| name == FOLDER);
        let listed = folders_in(&root.world, &dir);
        for below in listed {
            if is_ours {
                // What replicas keep there is theirs.
                let reserved = below.file_name().and_then(|name| name.to_str());
                if reserved.is_none_or(|name| !RESERVED.contains(&name)) {
                    found.push(below);
                }
            } else if depth < MAX_DEPTH {
                folders.push((below, depth + 1));
            }
        }
    }
    found.sort();
    found
}

/// The folders in a folder, links left out.
fn folders_in(world: &World, dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let listed = world.fs.read_dir(dir, &mut |entry| {
        let path = dir.join(entry.name);
        let is_dir = match entry.kind {
            FileKind::Dir => true,
            FileKind::Unknown => matches!(world.fs.stat(&path, false), Ok(meta) if meta.kind == FileKind::Dir),
            _ => false,
        };
        if is_dir {
            all.push(path);
        }
        all.len() < MAX_FOLDERS
    });
    if let Err(e) = listed {
        tracing::warn!(path = %dir.display(), error = %e, "a folder can't be looked into: what lies in it isn't swept");
    }
    all
}

/// The first look at one. A `grace` that can't tell whether its owner lives makes it refused. `None`: it isn't a registry's folder.
pub(crate) fn look(world: &World, dir: &Path, grace: Duration) -> Option<Found> {
    let logs = dir.parent()?.parent()?.to_owned();
    let name = dir.file_name()?.to_string_lossy().into_owned();
    let found = |state| Found {
        logs: logs.clone(),
        dir: dir.to_owned(),
        name: name.clone(),
        state,
        owner: Owner::default(),
        sighting: Sighting::default(),
    };
    if beside::is_done(world, dir) {
        // Whoever only wants to know that it is done needs no more.
        let owner = Owner::read(world, dir).unwrap_or_default();
        return Some(Found { owner, ..found(State::Done) });
    }
    let owner = match Owner::read(world, dir) {
        Ok(owner) => owner,
        Err(e) => return Some(found(State::Refused(e.to_string()))),
    };
    let beat = Duration::from_millis(owner.heartbeat_ms);
    let state = match beside::lock(world, dir) {
        Err(Error::Locked { .. }) => State::Alive,
        Err(e) => State::Refused(e.to_string()),
        // With a lock that works the beat is a second proof; without, it is the only one.
        Ok((_, locks)) if grace < beat * 2 && !(locks && grace.is_zero()) => State::Refused(format!(
            "its owner shows every {} s that it lives: a grace of {} s can't tell",
            beat.as_secs(),
            grace.as_secs()
        )),
        Ok(_) => State::Dead,
    };
    match beside::sight(world, dir, Path::new(REGISTRY)) {
        Ok(sighting) => Some(Found { owner, sighting, ..found(state) }),
        Err(e) => Some(found(State::Refused(e.to_string()))),
    }
}
