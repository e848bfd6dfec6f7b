//! Registry entries of files that vanished while nobody had them: before this run began, or after their input had ended.
//!
//! Comes in: the registry's entries, a few after each search. Goes out: those forgotten whose file surely won't come back;
//! what may have been sent of one and isn't acknowledged is lost, and counted.
//!
//! ```text
//! nobody has it ─▶ its path leads nowhere, or to another file ─▶ a whole, sure search of every input ─▶ nor now ─▶ forgotten
//! ```
//!
//! | where the file lay | forgotten |
//! |---|---|
//! | local, the folder is there, on the device on which the entry says it was; an input reads the path | an hour after the entry's last change |
//! | the same, but the folder is gone and one above it, beneath the pattern's root, is there | the same, when this run is an hour old |
//! | the entry tells no device | an hour, when the folder has shown this run another file |
//! | anywhere else: on a network, on another device, by a pattern that is gone, where a search mayn't look everywhere | seven days, when what is there of its path is on its device or has shown this run another file |
//!
//! So a mount that isn't there keeps what it holds: its folder is on another device, and empty.
//!
//! Always holds:
//! - Only `ENOENT` and `ENOTDIR` say that a file is gone; any other answer keeps its entry.
//! - An entry stays that has an owner in the table, that a file could be bound to whose key isn't known yet, that another
//!   process or another thread may be about, or whose input says `clean_removed: false`.
//! - A drain forgets nothing but what it tells: at its end, entries of which something was sent and not acknowledged, and whose
//!   file isn't found, count as lost: a run that is shorter than an hour would say that all is well. Until such an entry's time is
//!   over, each run says so: the file may come back. Not so on network file systems, where a new name may not show yet.
//! - What lies aside to be deleted (`delete.rs`) isn't gone.
//! - That the searches of an input see not all for an hour, so that nothing is forgotten, is said.
//! - After a search at most [`LOOKS`] paths are looked at, and as many entries remembered; at most [`PLACES`] entries are
//!   passed over, and all of them once an hour at most.
//!
//! Tested in `tests/vanished.rs`, and with a crash at every step in the simulation's `tests/vanished.rs`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_registry::{Entry, Identifier, Kind, filestream_key, log_key};
use pillion_world::{FileKind, Mono};

use crate::harvest::account::{FileAccount, LossCause};
use crate::harvest::file::Tally;
use crate::harvest::live::Life;
use crate::harvest::look::missing;
use crate::harvest::{Harvester, Input};
use crate::scan::{Glob, LEAVING};
use crate::spec::{Identity, InputSpec};

/// How many paths are looked at after a search.
const LOOKS: usize = 256;
/// How many of them in one piece.
const PIECE: usize = 64;
/// How many entries are passed over after a search, in one piece, and while others wait for the registry.
const PLACES: usize = 4_096;
const SKIM: usize = 2048;
const HELD: usize = 256;
/// How often all entries are gone over.
const EVERY: Duration = Duration::from_secs(3600);
/// How long an entry is kept after its last change where it is sure that its file could be seen.
const HOUR: Duration = Duration::from_secs(3600);
/// How long where it isn't.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where the search for such entries stands.
#[derive(Default)]
pub(crate) struct Vanished {
    /// How many paths may be looked at before the next search has ended.
    looks: usize,
    /// And how many entries may be passed over.
    places: usize,
    /// The place in the registry that is next; at rest: none.
    at: Option<usize>,
    /// When all are gone over next.
    due: Mono,
    /// When all inputs had been searched for the first time.
    began: Option<Mono>,
    /// Those that were missing at the first look, the longest ago first.
    missing: VecDeque<Missing>,
    /// The files that had found no room in the table when a search ended last.
    refused: u64,
    /// In a drain: the place in the registry that is next, and whether all are gone over.
    at_end: usize,
    ended: bool,
}

/// An entry whose file wasn't there.
struct Missing {
    key: Arc<str>,
    life: Incarnation,
    at: Mono,
}

/// Who may speak for an entry's path.
struct Claim {
    /// The input that would go on with the file; `None` = one only looks into its folder.
    input: Option<usize>,
}

/// The nearest folder of a path that is there.
#[derive(Clone)]
struct Ground {
    dir: PathBuf,
    dev: u64,
    network: bool,
    /// It is the file's own.
    own: bool,
}

/// The grounds of a piece, by the files' own folders: `None` = it can't be told.
type Grounds = HashMap<PathBuf, Option<Ground>>;

/// An entry that may go, and what has to hold for that.
struct Parting {
    entry: Arc<Entry>,
    /// Where another file has to have been seen.
    sign: Option<PathBuf>,
}

/// A file that has no key yet.
struct Unbound {
    dev: u64,
    ino: u64,
    len: u64,
}

/// The device on which a file was, as far as its entry tells.
fn device(entry: &Entry) -> Option<u64> {
    let dev = match (&entry.kind, entry.identifier()) {
        (_, Some(Identifier::Native { dev, .. })) => dev,
        (Kind::Log(log), _) => log.dev,
        (Kind::Filestream(_), _) => 0,
    };
    Some(dev).filter(|dev| *dev != 0)
}

/// How far a file may have been sent.
fn sent(entry: &Entry) -> u64 {
    entry.intents.iter().map(|i| i.to).max().unwrap_or(0)
}

/// Whether an input would know a file by this key.
fn has_key(spec: &InputSpec, entry: &Entry) -> bool {
    entry.identifier().is_some_and(|identifier| {
        let key = match spec.is_filestream() {
            true => filestream_key(&spec.desc.id, &identifier),
            false => log_key(&identifier, &spec.meta),
        };
        *entry.key == *key
    })
}

impl Harvester {
    /// A search has ended: whether it saw all that is there, and how much may be looked at now.
    pub(crate) fn note_search(&mut self, input: usize, failed: bool) {
        let now = self.world.clock.mono();
        let full = std::mem::replace(&mut self.vanished.refused, self.refused) != self.refused;
        let Some(i) = self.inputs.get_mut(input) else { return };
        if !failed && !full && !i.tour.is_unsure() {
            (i.surely, i.sure_at) = (Some(i.tour.begun()), now);
        } else if now.since(i.sure_at) >= HOUR {
            let folder = i.spec.paths.first().map(Glob::root).unwrap_or_default();
            let what =
                "no search of an input has seen all for an hour: entries of files that are gone stay in the registry";
            self.say_once(
                &folder,
                what,
                &"a folder or file can't be looked at (see above), or there are more files than the limit",
            );
        }
        (self.vanished.looks, self.vanished.places) = (LOOKS, PLACES);
    }

    /// Looks at some entries; false: there is nothing to do until a search has ended.
    pub(crate) fn forget_vanished(&mut self, now: Mono) -> bool {
        if self.draining {
            return self.tell_at_drain(now);
        }
        if self.vanished.looks == 0 {
            return false;
        }
        let worked = match self.searched_surely() {
            Some(since) => {
                self.vanished.began.get_or_insert(now);
                self.look_twice(since, now) || self.look_for_vanished(now)
            }
            None => false,
        };
        if !worked {
            self.vanished.looks = 0;
        }
        worked
    }

    /// Whether a drain has told of what is lost with files that are gone.
    pub(crate) fn has_told(&self) -> bool {
        self.vanished.ended
    }

    /// Behind a drain's last search: goes over some entries of which something was sent and isn't acknowledged.
    fn tell_at_drain(&mut self, now: Mono) -> bool {
        if self.vanished.ended || !self.is_searched_at_drain() {
            return false;
        }
        let (registry, table) = (Arc::clone(&self.registry), &self.table);
        let mut found: Vec<Arc<Entry>> = Vec::new();
        for _ in 0..SKIM / HELD {
            let next = registry.visit_from(self.vanished.at_end, HELD, |entry| {
                if sent(entry) > entry.offset && !table.has_owner(&entry.key) {
                    found.push(Arc::clone(entry));
                }
                found.len() < PIECE
            });
            match next {
                Some(next) => self.vanished.at_end = next,
                None => self.vanished.ended = true,
            }
            if next.is_none() || found.len() >= PIECE {
                break;
            }
        }
        let (mut grounds, mut parting, unbound) = (Grounds::new(), Vec::new(), self.unbound());
        for entry in found {
            let Some(claim) = self.reading_of(&entry) else { continue };
            let Some(ground) = self.is_missing(&entry, &claim, &mut grounds) else { continue };
            // On a network file system a name that is new may not show yet: what is told there, is told when the entry goes.
            if ground.network || self.may_be_bound(&entry, &claim, &unbound) {
                continue;
            }
            let clean = claim.input.is_none_or(|at| self.cleans(at as u16));
            match self.parting(Arc::clone(&entry), &claim, &ground, now).filter(|_| clean) {
                Some(gone) => parting.push(gone),
                None => self.lose_unacknowledged(&entry),
            }
        }
        self.part_with(parting);
        true
    }

    /// The input here that would go on with an entry's file.
    fn reading_of(&self, entry: &Entry) -> Option<Claim> {
        if self.former.contains_key(&entry.key) || self.is_others_entry(entry) {
            return None;
        }
        self.readers(entry).next().map(|at| Claim { input: Some(at) })
    }

    /// The inputs that read an entry's path and would know its file by its key.
    fn readers(&self, entry: &Entry) -> impl Iterator<Item = usize> {
        let path = Path::new(&*entry.source);
        let reads = move |i: &Input| i.life == Life::Reading && i.spec.has_path(path) && has_key(&i.spec, entry);
        self.inputs.iter().enumerate().filter(move |(_, i)| reads(i)).map(|(at, _)| at)
    }

    /// Since when every input has been searched, wholly and surely; `None`: one hasn't.
    fn searched_surely(&self) -> Option<Mono> {
        let reading = self.inputs.iter().filter(|i| i.life == Life::Reading);
        reading.map(|i| i.surely).min().flatten()
    }

    /// The second look at those that were missing before that search.
    fn look_twice(&mut self, since: Mono, now: Mono) -> bool {
        if self.vanished.missing.front().is_none_or(|missing| missing.at >= since) {
            return false;
        }
        let (mut grounds, mut parting, unbound) = (Grounds::new(), Vec::new(), self.unbound());
        let mut looked = 0;
        while looked < PIECE && self.vanished.looks > 0 {
            let Some(missing) = self.vanished.missing.pop_front_if(|missing| missing.at < since) else { break };
            looked += 1;
            let entry = self.registry.get(&missing.key).filter(|entry| entry.incarnation == missing.life);
            let Some((entry, claim)) = entry.and_then(|entry| Some((Arc::clone(&entry), self.claim(&entry)?))) else {
                continue;
            };
            let Some(ground) = self.is_missing(&entry, &claim, &mut grounds) else { continue };
            if !self.may_be_bound(&entry, &claim, &unbound) {
                parting.extend(self.parting(entry, &claim, &ground, now));
            }
        }
        self.part_with(parting);
        true
    }

    /// The first look at those that come next.
    fn look_for_vanished(&mut self, now: Mono) -> bool {
        let room = LOOKS.saturating_sub(self.vanished.missing.len()).min(self.vanished.looks).min(PIECE);
        if self.vanished.at.is_none() && now >= self.vanished.due {
            (self.vanished.at, self.vanished.due) = (Some(0), now.plus(EVERY));
        }
        if room == 0 || self.vanished.at.is_none() || self.vanished.places == 0 {
            return false;
        }
        let mut grounds = Grounds::new();
        for entry in self.next_entries(room) {
            let Some(claim) = self.claim(&entry) else { continue };
            if self.age(&entry) < self.least_age(&entry, &claim) {
                continue;
            }
            if self.is_missing(&entry, &claim, &mut grounds).is_some() {
                let (key, life) = (Arc::clone(&entry.key), entry.incarnation);
                self.vanished.missing.push_back(Missing { key, life, at: now });
            }
        }
        true
    }

    /// The next entries that nobody has and that are old enough, at most `room`.
    fn next_entries(&mut self, room: usize) -> Vec<Arc<Entry>> {
        let (registry, table) = (Arc::clone(&self.registry), &self.table);
        let now_ns = i128::from(self.world.clock.wall().0) * 1_000_000;
        let mut found: Vec<Arc<Entry>> = Vec::new();
        for _ in 0..SKIM / HELD {
            let Some(at) = self.vanished.at.filter(|_| found.len() < room) else { break };
            self.vanished.places = self.vanished.places.saturating_sub(HELD);
            self.vanished.at = registry.visit_from(at, HELD, |entry| {
                let old = now_ns - entry.updated_ns >= HOUR.as_nanos() as i128;
                if old && !table.has_owner(&entry.key) {
                    found.push(Arc::clone(entry));
                }
                found.len() < room
            });
        }
        found
    }

    /// Who may speak for an entry; `None`: nobody here.
    fn claim(&self, entry: &Entry) -> Option<Claim> {
        let path = Path::new(&*entry.source);
        let held = self.table.has_owner(&entry.key) || self.former.contains_key(&entry.key);
        if held || self.is_others_entry(entry) {
            return None;
        }
        let claimers: Vec<usize> = self.readers(entry).collect();
        if let Some(first) = claimers.first() {
            let clean = claimers.iter().all(|at| self.cleans(*at as u16));
            return clean.then_some(Claim { input: Some(*first) });
        }
        let folder = path.parent()?;
        let looks = |i: &&Input| i.life == Life::Reading && i.spec.paths.iter().any(|glob| glob.enters(folder));
        let mut looks = self.inputs.iter().filter(looks).peekable();
        let alone = looks.peek().is_some() && looks.all(|i| i.spec.clean_removed);
        (alone && !self.numbers.peers.reach(&self.peer, path)).then_some(Claim { input: None })
    }

    /// How old an entry is at least when it is worth a look: a network file system isn't asked about one that stays anyway.
    fn least_age(&self, entry: &Entry, claim: &Claim) -> Duration {
        let known = Path::new(&*entry.source).ancestors().skip(1).find_map(|dir| self.folders.get(dir));
        if claim.input.is_none() || known.is_some_and(|folder| folder.network) { WEEK } else { HOUR }
    }

    /// How long ago an entry was changed.
    fn age(&self, entry: &Entry) -> Duration {
        let ns = i128::from(self.world.clock.wall().0) * 1_000_000 - entry.updated_ns;
        Duration::from_nanos(u64::try_from(ns.max(0)).unwrap_or(u64::MAX))
    }

    /// Where a file lay that isn't at its path any more; `None`: it may be there.
    fn is_missing(&mut self, entry: &Entry, claim: &Claim, grounds: &mut Grounds) -> Option<Ground> {
        let path = Path::new(&*entry.source);
        self.vanished.looks = self.vanished.looks.saturating_sub(1);
        let folder = path.parent()?;
        if !grounds.contains_key(folder) {
            let ground = self.ground(folder);
            grounds.insert(folder.to_owned(), ground);
        }
        let ground = grounds.get(folder)?.clone()?;
        if !ground.own {
            return Some(ground);
        }
        // Its folder was asked for just now: a name that is gone is gone on a network file system, too.
        self.at.set(path);
        match self.world.fs.stat(path, false) {
            Err(e) => missing(&e).then_some(ground),
            Ok(_) => self.is_anothers_place(path, claim).then_some(ground),
        }
    }

    /// Whether the file at a path is known by another key.
    fn is_anothers_place(&self, path: &Path, claim: &Claim) -> bool {
        let Some(group) = claim.input.and_then(|at| self.inputs.get(at)).map(|i| i.group) else { return false };
        self.table.peek_at(group, path, |f| f.key.is_some() && !f.gone).unwrap_or(false)
    }

    /// The nearest folder of a path that is there.
    fn ground(&self, folder: &Path) -> Option<Ground> {
        for dir in folder.ancestors() {
            self.at.set(dir);
            match self.world.fs.stat(dir, true) {
                Ok(meta) if meta.kind == FileKind::Dir => {
                    // What a process that was killed was about to delete gets its name back, perhaps by another thread.
                    let aside = dir == folder
                        && !matches!(self.world.fs.stat(&dir.join(LEAVING), false), Err(e) if missing(&e));
                    if aside {
                        return None;
                    }
                    let known = self.folders.get(dir).map(|folder| folder.network);
                    let network = match known {
                        Some(network) => network,
                        None => self.world.fs.kind(dir).ok()?.is_network(),
                    };
                    return Some(Ground { dir: dir.to_owned(), dev: meta.dev, network, own: dir == folder });
                }
                Ok(_) => {}
                Err(e) if missing(&e) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// The files whose key isn't known yet, of which there is something.
    fn unbound(&self) -> Vec<Unbound> {
        let unbound = self.table.iter().filter(|(_, f)| f.key.is_none() && f.len > 0);
        unbound.map(|(_, f)| Unbound { dev: f.dev, ino: f.ino, len: f.len }).collect()
    }

    /// Whether one of these may turn out to be an entry's.
    fn may_be_bound(&self, entry: &Entry, claim: &Claim, unbound: &[Unbound]) -> bool {
        let identity = claim.input.and_then(|at| self.inputs.get(at)).map(|i| &i.spec.identity);
        let least = match (&entry.kind, identity) {
            (Kind::Filestream(state), _) if state.fingerprint_len.is_some_and(|len| len > 0) => {
                state.fingerprint_len.unwrap_or(0)
            }
            (_, Some(Identity::Fingerprint { offset, length, .. })) => offset + length,
            _ => 1,
        };
        let may_be = |f: &Unbound| match entry.identifier() {
            Some(Identifier::Native { ino, dev }) => (ino, dev) == (f.ino, f.dev),
            _ => f.len >= least,
        };
        unbound.iter().any(may_be)
    }

    /// Whether an entry's time is over, and what else has to hold; see the table in the module's header.
    fn parting(&self, entry: Arc<Entry>, claim: &Claim, ground: &Ground, now: Mono) -> Option<Parting> {
        let (path, age) = (Path::new(&*entry.source), self.age(&entry));
        let (folder, reading) = (path.parent()?, || self.inputs.iter().filter(|i| i.life == Life::Reading));
        let reaches = |glob: &Glob| glob.enters(folder) && ground.dir.starts_with(glob.root());
        let within = match claim.input.and_then(|at| self.inputs.get(at)) {
            Some(input) => input.spec.paths.iter().any(reaches),
            None => reading().any(|i| i.spec.paths.iter().any(reaches)),
        };
        let sees_all = reading().all(|i| i.unseen == Default::default());
        let own_device = device(&entry).map(|dev| dev == ground.dev);
        let long = self.vanished.began.is_some_and(|began| now.since(began) >= HOUR);
        let sure = match own_device {
            Some(own) => own && (ground.own || long),
            None => ground.own,
        };
        let hurry = claim.input.is_some() && sees_all && within && !ground.network && sure;
        if age < if hurry { HOUR } else { WEEK } {
            return None;
        }
        let sign = (own_device != Some(true)).then(|| ground.dir.clone());
        (sign.is_none() || within).then_some(Parting { entry, sign })
    }

    fn part_with(&mut self, mut parting: Vec<Parting>) {
        let asked: HashSet<&Path> = parting.iter().filter_map(|p| p.sign.as_deref()).collect();
        let shown = self.that_have_shown_a_file(&asked);
        parting.retain(|p| p.sign.as_ref().is_none_or(|dir| shown.contains(dir)));
        let mut forgotten = 0;
        for Parting { entry, .. } in parting {
            if self.registry.remove_unchanged(&entry) {
                forgotten += 1;
                tracing::debug!(path = %entry.source, key = %entry.key, offset = entry.offset, "a file is gone: its entry is forgotten");
                self.lose_unacknowledged(&entry);
            }
        }
        self.books.forgotten += forgotten;
        if forgotten > 0 {
            tracing::info!(entries = forgotten, "entries of files that are gone were taken out of the registry");
        }
    }

    /// Those of the folders in which, or beneath which, a file was found in this run.
    fn that_have_shown_a_file(&self, asked: &HashSet<&Path>) -> HashSet<PathBuf> {
        let mut shown = HashSet::new();
        if asked.is_empty() {
            return shown;
        }
        for (dir, _) in self.folders.iter().filter(|(_, folder)| folder.held) {
            shown.extend(dir.ancestors().filter(|dir| asked.contains(dir)).map(Path::to_owned));
        }
        shown
    }

    /// What may have been sent of a file that is gone: it may have arrived, or not. Nobody can send it again.
    fn lose_unacknowledged(&mut self, entry: &Entry) {
        let sent = sent(entry);
        if sent <= entry.offset {
            return;
        }
        let path = PathBuf::from(&*entry.source);
        self.books.lose(&path, entry.offset, sent, LossCause::Deleted);
        self.books.close(FileAccount {
            path,
            key: entry.key.to_string(),
            incarnation: entry.incarnation,
            pos: entry.offset,
            len: entry.offset,
            tally: Tally { lost: sent - entry.offset, ..Tally::default() },
            gone: true,
            denied: false,
        });
    }
}
