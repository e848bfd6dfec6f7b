//! Which of what others have written down is this file's: for one that came into our part with its cursor elsewhere.
//!
//! Comes in: a file of which nothing is known here, and what others have under its keys ([`Shares::find`]). Goes out: the entry
//! that it goes on with, in the own registry.
//!
//! An inode number is used again, a file is truncated, and many files begin alike; so several entries may be there, of several
//! lives, and no clock tells which is the newest. What is in the file tells:
//! - An entry is another file's when the births differ, when it was read further than the file is long, or when the bytes
//!   before its offset aren't there.
//! - With fingerprints it is another file's, too, when that one is still where the entry says, with that fingerprint; and it
//!   may be another file's when neither births are kept nor whoever had the file has noted its new path, or when several lives
//!   fit. What may be another file's begins anew: two files never share a life, and repeated lines are no lost ones.
//! - Of all that fit the one that was read furthest counts.
//! - With fingerprints, what was read furthest of a life shows whose life it is: a replica that had a file before still has an
//!   entry of its beginning, which fits all files that begin alike.
//!
//! Always holds: an entry that doesn't fit is nobody's loss here: whoever read that file counts what became of it. What can't be
//! told isn't begun anew: the file waits. Tested in `tests/shared.rs`.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use pillion_event::Incarnation;
use pillion_registry::{Entry, Identifier, Kind, identifier_of, tied_key};
use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::file::{differ, ns};
use crate::harvest::identity::{Bind, bears};
use crate::harvest::look::missing;
use crate::harvest::shared::{Known, Shares};
use crate::harvest::table::FileId;
use crate::harvest::trust::holds;
use crate::spec::Identity;

/// How far a life was read, and how far it may have been sent.
fn reach(entry: &Entry) -> (u64, u64) {
    (entry.offset, entry.intents.iter().map(|i| i.to).fold(entry.offset, u64::max))
}

fn not_known_yet() -> io::Error {
    io::Error::other("what other replicas have isn't known yet")
}

impl Harvester {
    /// Asks what others know of a file, unless it is known here. `Some`: it can't be bound now.
    pub(crate) fn asks_others(&mut self, id: FileId, keys: &[Arc<str>], now: Mono) -> Option<Bind> {
        if !self.may_be_known_elsewhere(id, keys, now) {
            return None;
        }
        match self.adopt_from_others(id, keys, now) {
            None => Some(Bind::Unknown),
            Some(Ok(())) => None,
            Some(Err(e)) => Some(Bind::Failed(e)),
        }
    }

    /// Whether others have to be asked what they know of a file with one of these keys: what is known here is of another file,
    /// or of a path that is another's.
    fn may_be_known_elsewhere(&mut self, id: FileId, keys: &[Arc<str>], now: Mono) -> bool {
        if self.sharing.is_none() {
            return false;
        }
        let fingerprint = self.is_fingerprinted(id);
        for key in keys {
            let Some(entry) = self.registry.get(key).filter(|entry| !self.is_others_entry(entry)) else { continue };
            // What can't be looked at now is looked at by whoever asks.
            let may_be = |fits: io::Result<bool>| fits.unwrap_or(false);
            if !fingerprint
                || self.is_noted(&entry, id)
                || (!self.is_elsewhere(&entry.source, id) && may_be(self.has_bytes(&entry, id, now)))
            {
                return false;
            }
        }
        true
    }

    /// Whether an entry of the own registry is of a path that is another's: it is kept for whoever has the file now.
    pub(crate) fn is_others_entry(&self, entry: &Entry) -> bool {
        self.shares().is_some_and(|shares| !shares.is_ours(Path::new(&*entry.source)))
    }

    /// Whether a file's input tells files apart by their beginnings.
    pub(crate) fn is_fingerprinted(&self, id: FileId) -> bool {
        let input = self.table.get(id).and_then(|f| self.inputs.get(usize::from(f.input)));
        input.is_some_and(|i| matches!(i.spec.identity, Identity::Fingerprint { .. }))
    }

    /// Takes over what others have of a file under these keys. `None`: they haven't been asked since the file was found.
    fn adopt_from_others(&mut self, id: FileId, keys: &[Arc<str>], now: Mono) -> Option<io::Result<()>> {
        let shares = self.asked_shares()?;
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let known = match shares.find(&names) {
            Ok(known) => known,
            Err(e) => return Some(Err(e)),
        };
        let own = keys.iter().filter_map(|key| self.registry.get(key)).filter(|entry| self.is_others_entry(entry));
        let own: Vec<Entry> = own.map(|entry| (*entry).clone()).collect();
        let mut fitting = Vec::new();
        for entry in known.entries.into_iter().chain(own) {
            match self.fits(&entry, id, now) {
                Ok(true) => fitting.push(entry),
                Ok(false) => {}
                Err(e) => return Some(Err(e)),
            }
        }
        let chosen = match self.choose(fitting, &*shares, id, now) {
            Ok(chosen) => chosen,
            Err(e) => return Some(Err(e)),
        };
        Some(match chosen {
            Some(entry) => {
                self.take_up(entry, id, keys);
                Ok(())
            }
            None if known.whole => Ok(()),
            None => Err(not_known_yet()),
        })
    }

    /// Which of the entries that fit is the file's.
    fn choose(
        &mut self,
        mut fitting: Vec<Entry>,
        shares: &dyn Shares,
        id: FileId,
        now: Mono,
    ) -> io::Result<Option<Entry>> {
        if self.is_fingerprinted(id) {
            if fitting.iter().any(|entry| self.is_noted(entry, id)) {
                fitting.retain(|entry| self.is_noted(entry, id));
            } else {
                let others = self.lives_of_others(&fitting, shares, id, now)?;
                fitting.retain(|entry| !others.contains(&entry.incarnation));
            }
            let lives: HashSet<Incarnation> = fitting.iter().map(|entry| entry.incarnation).collect();
            if lives.len() > 1 {
                return Ok(None);
            }
        }
        Ok(fitting.into_iter().max_by_key(reach))
    }

    /// Which of these lives are other files': those of which what was read furthest, wherever that is known, doesn't fit.
    fn lives_of_others(
        &mut self,
        fitting: &[Entry],
        shares: &dyn Shares,
        id: FileId,
        now: Mono,
    ) -> io::Result<HashSet<Incarnation>> {
        let lives: HashSet<Incarnation> = fitting.iter().map(|entry| entry.incarnation).collect();
        let asked: Vec<Incarnation> = lives.iter().copied().collect();
        let found = if asked.is_empty() { Known { entries: Vec::new(), whole: true } } else { shares.lives(&asked)? };
        if !found.whole {
            return Err(not_known_yet());
        }
        let mut known = found.entries;
        for life in &lives {
            known.extend(self.own_of(*life));
        }
        let mut furthest: HashMap<Incarnation, (u64, u64)> = HashMap::new();
        for entry in known.iter().chain(fitting) {
            let most = furthest.entry(entry.incarnation).or_default();
            *most = reach(entry).max(*most);
        }
        let mut others = HashSet::new();
        for entry in known.iter().filter(|entry| furthest.get(&entry.incarnation) == Some(&reach(entry))) {
            if !others.contains(&entry.incarnation) && !self.fits(entry, id, now)? {
                others.insert(entry.incarnation);
            }
        }
        Ok(others)
    }

    /// Whether an entry is noted of this very path.
    fn is_noted(&self, entry: &Entry, id: FileId) -> bool {
        self.table.get(id).is_some_and(|f| f.path.text() == &entry.source)
    }

    /// Which of the entries that a dead sidecar has left beside a file is the file's.
    pub(crate) fn fitting(&mut self, left: Vec<Entry>, id: FileId, now: Mono) -> io::Result<Option<Entry>> {
        let mut best: Option<Entry> = None;
        for entry in left {
            if self.holds_what(&entry, id, now)? && best.as_ref().is_none_or(|best| reach(best) < reach(&entry)) {
                best = Some(entry);
            }
        }
        Ok(best)
    }

    /// Whether an entry can be this file's.
    fn fits(&mut self, entry: &Entry, id: FileId, now: Mono) -> io::Result<bool> {
        if !self.holds_what(entry, id, now)? {
            return Ok(false);
        }
        if !self.is_fingerprinted(id) || self.is_noted(entry, id) {
            return Ok(true);
        }
        let births = entry.birth_ns.is_some() && self.table.get(id).is_some_and(|f| f.birth_ns.is_some());
        Ok(births && !self.has_a_file_of_its_own(entry, id)?)
    }

    /// Whether a file holds what an entry says of it, by its birth, its length, and the bytes before the offset.
    fn holds_what(&mut self, entry: &Entry, id: FileId, now: Mono) -> io::Result<bool> {
        let another = self.table.get(id).is_none_or(|f| differ(f.birth_ns, entry.birth_ns));
        Ok(!another && self.has_bytes(entry, id, now)?)
    }

    /// Whether a file is as long as it was read by an entry, with the bytes before the offset.
    pub(crate) fn has_bytes(&mut self, entry: &Entry, id: FileId, now: Mono) -> io::Result<bool> {
        if entry.offset > 0 {
            self.ensure_open(id, now)?;
            let Some((f, fd)) = self.table.get(id).and_then(|f| Some((f, f.fd.as_deref()?))) else { return Ok(false) };
            if !fd.is_sequential() {
                // What was just opened says how long it is, whatever a cache said before.
                let len = f.len.max(fd.stat()?.len);
                let there = entry.guard.len == 0 || holds(fd, entry.offset, entry.guard)?;
                if len < reach(entry).1 || !there {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether another file is where an entry says, with the fingerprint that the entry says.
    fn has_a_file_of_its_own(&mut self, entry: &Entry, id: FileId) -> io::Result<bool> {
        let Some(input) = self.table.get(id).and_then(|f| self.inputs.get(usize::from(f.input))) else {
            return Ok(false);
        };
        let (identity, symlinks) = (input.spec.identity.clone(), input.spec.symlinks);
        let source = Path::new(&*entry.source);
        if !input.spec.paths.iter().any(|glob| glob.matches(source)) {
            return Ok(false);
        }
        let is_this = |meta| self.table.get(id).is_some_and(|f| f.is(meta));
        let (Kind::Filestream(state), Some(Identifier::Fingerprint(known))) = (&entry.kind, identifier_of(&entry.key))
        else {
            return Ok(false);
        };
        let found = self.stat_file(source, symlinks);
        let looked = match found {
            // One that was made later is there in its place.
            Ok(Some(meta)) if is_this(&meta) || differ(ns(meta.birth_ns), entry.birth_ns) => return Ok(false),
            Ok(Some(_)) => {
                let network = source.parent().is_some_and(|dir| self.folder(dir).network);
                self.open_path(source, symlinks, network)
            }
            Ok(None) => return Ok(false),
            Err(e) => Err(e),
        };
        match looked {
            Ok((_, meta)) if self.table.get(id).is_some_and(|f| f.is(&meta)) => Ok(false),
            Ok((fd, _)) => bears(&identity, &known, state.fingerprint_len.unwrap_or(0), &*fd),
            Err(e) if missing(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes an entry the own one, of this file, under one of its keys.
    fn take_up(&mut self, entry: Entry, id: FileId, keys: &[Arc<str>]) {
        let Some(path) = self.table.get(id).map(|f| f.path.clone()) else { return };
        tracing::info!(key = %entry.key, from = %entry.source, offset = entry.offset, "a file goes on that another replica has read");
        self.forget_twins(&entry);
        let mut key = Arc::clone(&entry.key);
        // It begins like another file that is there too, or was tied to the path that it had.
        if self.registry.get(&key).is_some() || !keys.contains(&key) {
            match tied_key(&key, path.text().as_bytes()) {
                Some(tied) => key = tied.into(),
                None => self.registry.remove(&key),
            }
        }
        self.has_life(entry.incarnation, &key);
        self.registry.upsert(Entry { source: Arc::clone(path.text()), key, ..entry });
    }
}
