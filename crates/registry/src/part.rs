//! Taking in what another replica's registry says of a shard's files, and forgetting what another has taken.
//!
//! Comes in: which files a part is, as a function; entries that [`crate::live`] has read. Goes out: changes of the map in
//! memory, durable after the next [`Registry::sync`].
//!
//! Always holds:
//! - Files outside of the part stay as they are, but for one thing: where one of them is the same life of a file as one
//!   that is taken in, the larger offset counts.
//! - At each moment, and so after a crash behind any sync, a key has the state that it had or the one that was taken in;
//!   what is taken in is there before what it replaces is removed.
//! - Files that begin alike, of which each was alone with that fingerprint in its registry, don't share a life: the one that
//!   is taken in gets a key of its own ([`tied_key`]).
//! - The lock is held for [`PIECE`] entries at a time.
//!
//! Tested in `tests/part.rs`: against a model, and with a crash at every step of the file system.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pillion_event::Incarnation;

use crate::entry::{Entry, Intent};
use crate::key::tied_key;
use crate::registry::{MAX_INTENTS, Mem, Record, Registry, apart, lock};

/// How many entries are looked at or changed before others may have the lock.
const PIECE: usize = 256;

/// What became of the entries of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TookPart {
    /// Files that weren't known.
    pub taken: usize,
    /// Files that were known in the same life: the larger offset counts, and the ranges in flight of both.
    pub merged: usize,
    /// Files that were known in another life, which is gone.
    pub replaced: usize,
    /// Files that were known, and that the other registry doesn't have.
    pub removed: usize,
    /// Entries of the other registry that were left out: they aren't of the part, or the key is that of another file
    /// outside of the part, and no fingerprint.
    pub refused: usize,
}

/// Own entries by what may meet an entry that is taken in.
#[derive(Default)]
struct Own {
    /// The keys of the part.
    part: HashSet<Arc<str>>,
    /// Lives that both have, and under which key they are here.
    lives: HashMap<Incarnation, Arc<str>>,
}

impl Registry {
    /// Makes the files for which `part` holds what `entries` say: those of a registry whose owner has given the part back
    /// or is dead ([`crate::live::read`]). Nobody else changes files of the part meanwhile.
    ///
    /// Of the same life of a file the larger offset counts, and the ranges in flight of both; of two lives, theirs. What
    /// they don't have is removed. An incarnation of 0 becomes a new one. `part` is called under the registry's lock: it
    /// is quick and calls nothing here.
    pub fn take_part(&self, part: &dyn Fn(&Entry) -> bool, entries: Vec<Entry>) -> TookPart {
        let mut took = TookPart::default();
        let lives = entries.iter().map(|entry| entry.incarnation).filter(|life| *life != Incarnation(0)).collect();
        let own = self.own(part, &lives);
        let mut theirs = HashSet::new();
        let mut entries = entries.into_iter();
        loop {
            let piece: Vec<Entry> = entries.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                break;
            }
            let mut mem = lock(self.mem());
            for mut entry in piece {
                if !part(&entry) {
                    took.refused += 1;
                    continue;
                }
                if entry.incarnation == Incarnation(0) {
                    entry.incarnation = Incarnation(self.random());
                    entry.intents.clear();
                }
                theirs.extend(mem.take_one(self.stamped(entry), part, &own, &mut took));
            }
        }
        let gone: Vec<Arc<str>> = own.part.into_iter().filter(|key| !theirs.contains(key)).collect();
        for piece in gone.chunks(PIECE) {
            let mut mem = lock(self.mem());
            for key in piece {
                // A key that left the part meanwhile isn't ours to remove.
                if mem.store().file(key).is_some_and(|entry| part(&entry)) {
                    mem.remove(key);
                    took.removed += 1;
                }
            }
        }
        took
    }

    /// Forgets the files for which `part` holds, since another replica has them now: how many. `part` is called under the
    /// registry's lock, as in [`Registry::take_part`].
    pub fn drop_part(&self, part: &dyn Fn(&Entry) -> bool) -> usize {
        let mut dropped = 0;
        self.piecewise(|mem, entry| {
            if part(&entry) {
                mem.remove(&entry.key);
                dropped += 1;
            }
        });
        dropped
    }

    fn own(&self, part: &dyn Fn(&Entry) -> bool, lives: &HashSet<Incarnation>) -> Own {
        let mut own = Own::default();
        self.piecewise(|_, entry| {
            if lives.contains(&entry.incarnation) {
                own.lives.insert(entry.incarnation, Arc::clone(&entry.key));
            }
            if part(&entry) {
                own.part.insert(Arc::clone(&entry.key));
            }
        });
        own
    }

    /// Shows every entry, with the lock taken anew for each piece. Places don't move meanwhile.
    fn piecewise(&self, mut each: impl FnMut(&mut Mem, Arc<Entry>)) {
        let mut at = 0;
        loop {
            let mut mem = lock(self.mem());
            if at >= mem.store().end() {
                return;
            }
            for place in at..mem.store().end().min(at + PIECE) {
                if let Some((_, Record::File(entry))) = mem.store().at(place) {
                    each(&mut mem, entry);
                }
            }
            at += PIECE;
        }
    }
}

impl Mem {
    /// Takes in one entry of the part; the key under which it is now.
    fn take_one(
        &mut self,
        mut entry: Entry,
        part: &dyn Fn(&Entry) -> bool,
        own: &Own,
        took: &mut TookPart,
    ) -> Option<Arc<str>> {
        // The same life under another key: a fingerprint that grew, or a file that left the part.
        let twin = own.lives.get(&entry.incarnation).filter(|key| **key != entry.key);
        let twin = twin.and_then(|key| self.store().file(key)).filter(|twin| twin.incarnation == entry.incarnation);
        if let Some(twin) = twin {
            if !part(&twin) {
                self.put(merged((*twin).clone(), &entry));
                took.merged += 1;
                return None;
            }
            entry = merged(entry, &twin);
        }
        let is_anothers = |known: &Entry| known.incarnation != entry.incarnation && !part(known);
        if self.store().file(&entry.key).is_some_and(|known| is_anothers(&known))
            && let Some(tied) = tied_key(&entry.key, entry.source.as_bytes())
        {
            // Two files that begin alike, each of which was alone with that in its registry.
            entry.key = tied.into();
        }
        match self.store().file(&entry.key) {
            None => took.taken += 1,
            Some(known) if known.incarnation == entry.incarnation => {
                entry = if part(&known) { merged(entry, &known) } else { merged((*known).clone(), &entry) };
                took.merged += 1;
            }
            Some(known) if part(&known) => took.replaced += 1,
            Some(_) => {
                took.refused += 1;
                return None;
            }
        }
        let key = Arc::clone(&entry.key);
        self.put(entry);
        Some(key)
    }
}

/// One state of two of the same life: the larger offset with its guard, and the ranges in flight of both.
pub(crate) fn merged(mut entry: Entry, other: &Entry) -> Entry {
    if other.offset > entry.offset {
        (entry.offset, entry.guard) = (other.offset, other.guard);
    }
    entry.updated_ns = entry.updated_ns.max(other.updated_ns);
    let added: Vec<Intent> = other.intents.iter().filter(|i| apart(**i, &entry.intents)).copied().collect();
    entry.intents.extend(added);
    entry.intents.sort_unstable();
    entry.intents.retain(|i| i.to > entry.offset);
    entry.intents.truncate(MAX_INTENTS);
    entry
}
