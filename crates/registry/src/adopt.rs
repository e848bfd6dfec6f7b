//! Taking the seat of a dead owner, in the order that survives a crash behind every step.
//!
//! Comes in: a folder beside logs, and how its owner looked when the grace was over. Goes out: [`Claim`], then [`Taken`]: its
//! registry, opened in its place, with what others could have put into it taken out.
//!
//! Always holds: nothing is written before the lock is held and the owner still looks the same; the claim comes before the
//! registry. What is taken out or renamed makes lines be sent again, never be left out.
//! Tested in `tests/adopt.rs` (a crash at every step of the file system) and by `pillion sweep`'s tests.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_event::Incarnation;
use pillion_world::{Lock, World};

use crate::beside::{self, Heart, Sighting};
use crate::error::Error;
use crate::foreign::{self, Bounds, Foreign};
use crate::open::{Opened, Options};
use crate::registry::Registry;

/// A folder that was claimed, and whose registry isn't opened yet.
pub struct Claim {
    world: World,
    dir: PathBuf,
    lock: Box<dyn Lock>,
    /// The file system has locks. Where it hasn't, or they may not reach other machines, the claim counts only when it is
    /// still there a while later ([`Heart::beat`]).
    pub locks: bool,
    /// The claim.
    pub heart: Heart,
}

/// An adopted registry.
pub struct Taken {
    /// The registry: durable as it is now only after the next [`Registry::sync`].
    pub registry: Registry,
    /// What opening it found.
    pub opened: Opened,
    /// The claim.
    pub heart: Heart,
    /// What it held, looked at without trust. Entries whose incarnation was nobody's have 0 here, and a new one in the
    /// registry.
    pub read: Foreign,
}

impl Claim {
    /// Takes the lock and claims the folder. `None`: somebody is there, or it is done by now.
    ///
    /// # Errors
    /// When the file system fails; nothing but the claim was written then.
    pub fn lay(world: &World, dir: &Path, registry: &Path, seen: &Sighting) -> Result<Option<Claim>, Error> {
        let failed = |source| Error::Unwritable { path: dir.into(), source };
        let (lock, locks) = match beside::lock(world, dir) {
            Ok(lock) => lock,
            Err(Error::Locked { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        if beside::is_done(world, dir) || beside::sight(world, dir, registry).map_err(failed)? != *seen {
            return Ok(None);
        }
        let heart = Heart::claim(world, dir).map_err(failed)?;
        Ok(Some(Claim { world: world.clone(), dir: dir.to_owned(), lock, locks, heart }))
    }

    /// Opens the registry. `claimed`: incarnations that other registries claim, to which its own are added; what is there
    /// already gets a new one.
    ///
    /// # Errors
    /// When it can't be read or written, or is beyond the bounds.
    pub fn open(self, registry: &Path, bounds: &Bounds, claimed: &mut HashSet<Incarnation>) -> Result<Taken, Error> {
        let options = Options { path: registry.into(), bounds: *bounds, ..Options::default() };
        let mut read = foreign::read(&self.world, &self.dir, &options, bounds)?;
        for entry in &mut read.entries {
            if entry.incarnation != Incarnation(0) && !claimed.insert(entry.incarnation) {
                read.refused.push(format!("{}: another registry claims the same life of this file", entry.source));
                read.refused_count += 1;
                entry.incarnation = Incarnation(0);
                entry.intents.clear();
            }
        }
        let (registry, opened) = Registry::open_held(&self.world, &self.dir, &options, self.lock)?;
        correct(&registry, &read);
        Ok(Taken { registry, opened, heart: self.heart, read })
    }
}

/// Takes out of an opened registry what was refused, and gives what is nobody's a life of its own.
fn correct(registry: &Registry, read: &Foreign) {
    let good: HashSet<_> = read.entries.iter().map(|e| Arc::clone(&e.key)).collect();
    let mut bad = Vec::new();
    registry.visit(|entry| {
        if !good.contains(&entry.key) {
            bad.push(Arc::clone(&entry.key));
        }
    });
    bad.iter().for_each(|key| registry.remove(key));
    for entry in &read.entries {
        let known = registry.get(&entry.key);
        if known.is_none_or(|k| k.incarnation != entry.incarnation || k.intents != entry.intents) {
            registry.remove(&entry.key);
            registry.adopt(entry.clone());
        }
    }
}
