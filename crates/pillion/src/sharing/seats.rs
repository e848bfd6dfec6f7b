//! What dead sidecars left on the shared file system: a replica ships it from where they stopped.
//!
//! Comes in: files of which no replica knows anything ([`Seats::beside`]), and the registries that lie beside them. Goes out:
//! whether somebody else reads such a file, and the entries of whoever did. The way of a registry beside logs:
//!
//! ```text
//!  lives ──nothing moved for the grace, the lock is free──▶ held ──all of ours is acknowledged──▶ done, or released for
//!    ▲ files wait                                             │ files go on with its entries       the other replicas
//!    └───────────── its owner is back: it was deposed, or takes the lock later ────────────────────────┘
//! ```
//! It is found, told dead, claimed and read by the code of `pillion sweep`, with the same distrust and the same bounds. While it is
//! held here, its offsets follow ours ([`turn`]), so that a sweep, or the next try of the Job, goes on from there. Of several
//! replicas that have files of one dead owner each has its turn.
//!
//! Always holds:
//! - A file that a living owner's registry knows isn't read, nor one that has waited for less than the grace.
//! - What can't be used of a registry is said, and its files are new: what nobody knows is sent, never left out.
//! - Tables are bounded ([`MAX_SEATS`], [`MAX_WAITING`]); beyond them files wait.
//!
//! Tested by the command line's tests (`tests/run/seats.rs`).

mod turn;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_input::Beside;
use pillion_registry::beside::{self, FOLDER, RESERVED};
use pillion_registry::foreign::{self, Foreign};
use pillion_registry::{Entry, Identifier, Options, Registry};
use pillion_world::{FileKind, Mono, World};

use super::ours::Ours;
use crate::sweep::{BOUNDS, Found, REGISTRY, Root, State, look};
use turn::Turn;

/// Folders that are remembered.
const MAX_FOLDERS: usize = 4096;
/// Registries beside logs that are looked at together.
const MAX_SEATS: usize = 4096;
/// Files that wait for one of them and are remembered by name; more wait, too.
const MAX_WAITING: usize = 4096;
/// Files that no search has shown for so long don't wait any more.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// How often an owner is looked at, by its grace: at least and at most.
const PACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How deep a file may lie beneath the folder of its logs.
const MAX_DEPTH: usize = 32;
/// Lives that were claimed by dead owners' registries and are remembered.
const MAX_CLAIMED: usize = 1_000_000;

/// See the module.
pub(super) struct Seats {
    root: Root,
    member: String,
    registry: Arc<Registry>,
    grace: Duration,
    known: Mutex<Known>,
    /// Held by who looks after them: one at a time.
    turns: Mutex<Turns>,
}

/// What the reading threads ask.
#[derive(Default)]
struct Known {
    /// Which registries lie beside the logs in a folder, and when that was looked.
    folders: HashMap<PathBuf, (Mono, Vec<PathBuf>)>,
    /// What was looked up before doesn't count: files were found since.
    anew: Mono,
    seats: BTreeMap<PathBuf, Seat>,
}

/// A registry beside logs.
struct Seat {
    state: Stand,
    /// Files that wait for it: since when, and when they were seen last.
    waiting: BTreeMap<PathBuf, (Mono, Mono)>,
    /// When it is looked at next.
    next: Mono,
    /// Files that its owner, who lives, doesn't know.
    strange: HashSet<PathBuf>,
}

/// What is known of its owner.
enum Stand {
    /// Not dead, as far as is known.
    Lives,
    /// It can't be used.
    Refused,
    /// Everything is shipped, or it is held here: what its registry says.
    Open(Arc<Left>),
}

/// What a registry says of the files beside it.
pub(super) struct Left {
    entries: Vec<Entry>,
    /// A file that went elsewhere, and the one that took its place, may be noted of one path; each fits its own.
    by_path: HashMap<PathBuf, Vec<usize>>,
    by_ino: HashMap<u64, Vec<usize>>,
}

/// What only who looks after the registries needs.
#[derive(Default)]
struct Turns {
    /// How an owner looked, and since when it has looked so.
    seen: BTreeMap<PathBuf, (Found, Mono)>,
    held: BTreeMap<PathBuf, Turn>,
    claimed: HashSet<Incarnation>,
}

/// Nothing that holds one of these locks leaves a half-made change behind when it panics.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// Whether a registry and its owner have looked as they do now for so long.
    fn has_stood(&mut self, dir: &Path, found: &Found, now: Mono, enough: Duration) -> bool {
        let same = |before: &Found| (&before.state, &before.sighting) == (&found.state, &found.sighting);
        let since = self.seen.get(dir).filter(|(before, _)| same(before)).map_or(now, |(_, since)| *since);
        if self.seen.len() < MAX_SEATS {
            self.seen.insert(dir.to_owned(), (found.clone(), since));
        }
        now.since(since) >= enough
    }
}

impl Left {
    fn of(found: &Found, read: &Foreign) -> Left {
        let mut left = Left { entries: Vec::new(), by_path: HashMap::new(), by_ino: HashMap::new() };
        for entry in &read.entries {
            let Some(path) = seen_here(found, entry) else { continue };
            let at = left.entries.len();
            if let Some(Identifier::Native { ino, .. } | Identifier::InodeMarker { ino, .. }) = entry.identifier() {
                left.by_ino.entry(ino).or_default().push(at);
            }
            left.by_path.entry(path).or_default().push(at);
            left.entries.push(entry.clone());
        }
        left
    }

    fn find(&self, path: &Path, ino: u64) -> Vec<Entry> {
        let places = self.by_path.get(path).into_iter().chain(self.by_ino.get(&ino)).flatten().copied();
        let places: BTreeSet<usize> = places.collect();
        places.into_iter().filter_map(|at| self.entries.get(at)).cloned().collect()
    }
}

/// Where a file lies here that an owner saw elsewhere. `None`: on another volume.
fn seen_here(found: &Found, entry: &Entry) -> Option<PathBuf> {
    Some(found.logs.join(Path::new(&*entry.source).strip_prefix(&found.owner.view).ok()?))
}

impl Seats {
    pub(super) fn new(root: Root, member: &str, registry: &Arc<Registry>, grace: Duration) -> Seats {
        let (known, turns) = Default::default();
        Seats { root, member: member.to_owned(), registry: Arc::clone(registry), grace, known, turns }
    }

    fn now(&self) -> Mono {
        self.root.world.clock.mono()
    }

    /// Files have been found: their folders are looked into anew, once for all of them.
    pub(super) fn look_anew(&self) {
        lock(&self.known).anew = self.now();
    }

    /// What lies beside a file of which no replica knows anything.
    ///
    /// # Errors
    /// When it can't be looked at: the file waits.
    pub(super) fn beside(&self, path: &Path, ino: u64) -> io::Result<Beside> {
        let now = self.now();
        let (mut waits, mut left) = (false, Vec::new());
        for dir in path.ancestors().skip(1).take(MAX_DEPTH).take_while(|dir| dir.starts_with(&self.root.path)) {
            for seat in self.in_folder(dir, now)? {
                let mut known = lock(&self.known);
                if !known.seats.contains_key(&seat) && known.seats.len() >= MAX_SEATS {
                    // What was decided is decided anew.
                    known.seats.retain(|_, seat| matches!(seat.state, Stand::Lives));
                    if known.seats.len() >= MAX_SEATS {
                        return Ok(Beside::Waits);
                    }
                }
                let seat = known.seats.entry(seat).or_insert_with(|| Seat {
                    state: Stand::Lives,
                    waiting: BTreeMap::new(),
                    next: now,
                    strange: HashSet::new(),
                });
                match &seat.state {
                    Stand::Open(of) => left.extend(of.find(path, ino)),
                    Stand::Refused => {}
                    Stand::Lives if seat.strange.contains(path) => {}
                    Stand::Lives => {
                        waits = true;
                        if let Some((_, last)) = seat.waiting.get_mut(path) {
                            *last = now;
                        } else if seat.waiting.len() < MAX_WAITING {
                            seat.waiting.insert(path.to_owned(), (now, now));
                        }
                    }
                }
            }
        }
        Ok(match left {
            _ if waits => Beside::Waits,
            left if left.is_empty() => Beside::Nothing,
            left => Beside::Left(left),
        })
    }

    /// The registries beside the logs in a folder.
    fn in_folder(&self, dir: &Path, now: Mono) -> io::Result<Vec<PathBuf>> {
        {
            let known = lock(&self.known);
            if let Some((_, seats)) = known.folders.get(dir).filter(|(looked, _)| *looked >= known.anew) {
                return Ok(seats.clone());
            }
        }
        let (world, folder) = (&self.root.world, dir.join(FOLDER));
        let mut seats = Vec::new();
        let listed = world.fs.stat(&folder, false).and_then(|_| {
            world.fs.read_dir(&folder, &mut |entry| {
                let name = entry.name.to_str().unwrap_or_default();
                let maybe_dir = matches!(entry.kind, FileKind::Dir | FileKind::Unknown);
                if maybe_dir && !name.is_empty() && !RESERVED.contains(&name) {
                    seats.push(folder.join(name));
                }
                seats.len() < MAX_SEATS
            })
        });
        match listed {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            other => other?,
        }
        let mut known = lock(&self.known);
        if known.folders.len() >= MAX_FOLDERS {
            known.folders.clear();
        }
        known.folders.insert(dir.to_owned(), (now, seats.clone()));
        Ok(seats)
    }

    /// Looks after the registries for which files wait, and those that are held. Whether files can go on now. It may block for as
    /// long as the file system does.
    pub(super) fn look_after(&self, ours: &Ours, runtime: &tokio::runtime::Handle) -> bool {
        let mut turns = lock(&self.turns);
        if !ours.holds() {
            // Others may have our files: what was taken is given up, and nothing is marked.
            let held = std::mem::take(&mut turns.held);
            lock(&self.known).seats.retain(|dir, _| !held.contains_key(dir));
            return false;
        }
        let (mut news, now) = (false, self.now());
        let dirs: Vec<PathBuf> = {
            let mut known = lock(&self.known);
            known.seats.retain(|_, seat| {
                seat.waiting.retain(|_, (_, last)| now.since(*last) < FORGOTTEN);
                !matches!(seat.state, Stand::Lives) || !seat.waiting.is_empty() || !seat.strange.is_empty()
            });
            let wanted = known
                .seats
                .iter()
                .filter(|(_, seat)| matches!(seat.state, Stand::Lives) && !seat.waiting.is_empty() && now >= seat.next);
            wanted.map(|(dir, _)| dir.clone()).collect()
        };
        for dir in dirs {
            news |= self.look_at(&dir, &mut turns, runtime);
        }
        let held = std::mem::take(&mut turns.held);
        for (dir, turn) in held {
            match turn.go_on(ours, &self.registry, &self.member) {
                Some(turn) => drop(turns.held.insert(dir, turn)),
                // Whoever has files of it looks at it anew.
                None => drop(lock(&self.known).seats.remove(&dir)),
            }
        }
        news
    }

    /// Looks at one that isn't known to be dead; whether files can go on now.
    fn look_at(&self, dir: &Path, turns: &mut Turns, runtime: &tokio::runtime::Handle) -> bool {
        let now = self.now();
        // The grace is judged here.
        let grace = if self.grace.is_zero() { Duration::ZERO } else { Duration::MAX };
        let Some(found) = look(&self.root.world, dir, grace) else {
            turns.seen.remove(dir);
            return self.stands(dir, Stand::Refused);
        };
        let enough = if self.grace.is_zero() {
            Duration::ZERO
        } else {
            self.grace.max(Duration::from_millis(found.owner.heartbeat_ms) * 2)
        };
        if let Some(seat) = lock(&self.known).seats.get_mut(dir) {
            seat.next = now.plus((enough / 8).clamp(PACE.0, PACE.1));
        }
        match &found.state {
            // Its owner may be just starting, or the file system fails for a moment.
            State::Refused(_) if !turns.has_stood(dir, &found, now, self.grace) => false,
            State::Refused(why) => {
                turns.seen.remove(dir);
                tracing::warn!(path = %dir.display(), "what lies beside these logs can't be used, and they are read from their beginning: {why}");
                self.stands(dir, Stand::Refused)
            }
            State::Done => match self.read(&found) {
                Ok(read) => self.stands(dir, Stand::Open(Arc::new(Left::of(&found, &read)))),
                Err(why) => {
                    tracing::warn!(path = %dir.display(), "the registry beside these logs can't be used: {why}");
                    self.stands(dir, Stand::Refused)
                }
            },
            State::Alive => {
                turns.seen.remove(dir);
                self.find_strangers(dir, &found, now)
            }
            State::Dead => {
                let released = beside::is_released(&self.root.world, dir);
                if !turns.has_stood(dir, &found, now, enough) && !released {
                    return false;
                }
                turns.seen.remove(dir);
                self.take(dir, &found, turns, runtime)
            }
        }
    }

    fn take(&self, dir: &Path, found: &Found, turns: &mut Turns, runtime: &tokio::runtime::Handle) -> bool {
        if turns.claimed.len() > MAX_CLAIMED {
            turns.claimed.clear();
        }
        match runtime.block_on(Turn::begin(&self.root, found, &mut turns.claimed, &self.member)) {
            Ok(Some((turn, read))) => {
                turns.held.insert(dir.to_owned(), turn);
                self.stands(dir, Stand::Open(Arc::new(Left::of(found, &read))))
            }
            Ok(None) => false,
            Err(why) => {
                tracing::warn!(path = %dir.display(), "what a dead owner left can't be taken over, and is read from its beginning: {why}");
                self.stands(dir, Stand::Refused)
            }
        }
    }

    fn stands(&self, dir: &Path, state: Stand) -> bool {
        if let Some(seat) = lock(&self.known).seats.get_mut(dir) {
            seat.waiting.clear();
            seat.state = state;
        }
        true
    }

    /// Files that have waited for a grace and that a living owner doesn't know are nobody's.
    fn find_strangers(&self, dir: &Path, found: &Found, now: Mono) -> bool {
        let is_old = |(since, _): &(Mono, Mono)| now.since(*since) >= self.grace;
        if !lock(&self.known).seats.get(dir).is_some_and(|seat| seat.waiting.values().any(is_old)) {
            return false;
        }
        // What can't be read may be known.
        let Ok(read) = self.read(found) else { return false };
        let left = Left::of(found, &read);
        let mut known = lock(&self.known);
        let Some(seat) = known.seats.get_mut(dir) else { return false };
        let strange = seat.waiting.extract_if(.., |path, since| is_old(since) && !left.by_path.contains_key(path));
        let strange: Vec<PathBuf> = strange.map(|(path, _)| path).collect();
        let any = !strange.is_empty();
        if seat.strange.len() >= MAX_WAITING {
            seat.strange.clear();
        }
        seat.strange.extend(strange);
        any
    }

    /// What the registry says, without trust.
    fn read(&self, found: &Found) -> Result<Foreign, String> {
        let beneath = self.root.beneath.narrowed(&found.logs, &found.owner.view).map_err(|e| e.to_string())?;
        let world = World { fs: Arc::new(beneath), ..World::real() };
        let data = found.owner.view.join(FOLDER).join(&found.name);
        let options = Options { path: REGISTRY.into(), ..Options::default() };
        foreign::read(&world, &data, &options, &BOUNDS).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::State;
    use pillion_registry::beside::{Owner, Sighting};
    use pillion_registry::{FilestreamState, Kind};

    #[test]
    fn of_one_path_all_entries_are_found_whatever_their_order() {
        let owner = Owner { view: "/data".into(), ..Owner::default() };
        let found = Found {
            logs: "/logs/job".into(),
            dir: "/logs/job/.pillion/job".into(),
            name: "job".into(),
            state: State::Dead,
            owner,
            sighting: Sighting::default(),
        };
        // A file that was renamed to where nobody reads it, and the one that came in its place.
        let entry = |hash: &str, life| {
            let id = Identifier::Fingerprint(hash.to_owned());
            let kind = Kind::Filestream(FilestreamState::default());
            Entry::new(kind, "job", &id, "/data/a.log".into(), Incarnation(life))
        };
        let lives = |entries: Vec<Entry>| {
            let left = Left::of(&found, &Foreign { entries, ..Foreign::default() });
            let found = left.find(Path::new("/logs/job/a.log"), 7);
            found.iter().map(|entry| entry.incarnation.0).collect::<Vec<_>>()
        };
        assert_eq!(lives(vec![entry("aa", 1), entry("bb", 2)]), [1, 2]);
        assert_eq!(lives(vec![entry("aa", 2), entry("bb", 1)]), [2, 1]);
        let native = |ino, life| {
            let id = Identifier::Native { ino, dev: 0 };
            let kind = Kind::Filestream(FilestreamState::default());
            Entry::new(kind, "job", &id, "/data/a.log".into(), Incarnation(life))
        };
        assert_eq!(lives(vec![native(7, 1), native(8, 2)]), [1, 2], "each once");
    }
}
