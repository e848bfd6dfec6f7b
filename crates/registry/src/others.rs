//! Which other replica's registry knows a file: for one that was renamed into a shard of ours, with its cursor elsewhere.
//!
//! Comes in: the folder of the replicas' data paths and who is in it. Goes out: for keys, what other replicas have under
//! them: of a file that went from one to the next, of another one that had its inode or begins alike. Which of these is the
//! file's is decided by whoever sees it: by what is in it, not by when something was written.
//!
//! Each registry is followed: its newest checkpoint is read once, then what is appended to its log. Kept is a hash of each
//! key and whose it is, 16 bytes; of a fingerprint the same for the life, since its key changes when it grows. The entry
//! itself is read at a hit ([`live::read`]), so that an index that is old and hashes that are the same cost a read and
//! nothing else.
//!
//! Always holds:
//! - [`Found::whole`] is said only when every registry was followed to what was durable when the last refresh began, and
//!   every key had room.
//! - A registry without any checkpoint has nothing that was durable: its owner writes one at its start.
//! - One refresh reads a bounded number of bytes, in turns, and goes on the next time; memory is bounded by the number of
//!   keys. As in [`crate::foreign`], nothing is written there.
//! - While a new checkpoint is read, what was known before still counts.
//!
//! Tested in `tests/others.rs`: against a model, with the owners' calls between any two, and with real files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::path::{Path, PathBuf};

use hashbrown::HashTable;
use pillion_event::Incarnation;
use pillion_world::{File, World};
use serde_json::Value;

use crate::chunks::{Bytes, Element, Line};
use crate::disk::LOG;
use crate::entry::Entry;
use crate::error::Error;
use crate::foreign::Bounds;
use crate::key::{Identifier, identifier_of, untied};
use crate::live;
use crate::load::{self, MAX_FILE};
use crate::note::is_member;
use crate::open::{Options, STORE};

/// Keys that are kept, unless it is set: 40 MB, when there are so many.
const KEYS: usize = 2_000_000;
/// What a life begins with in the index. Keys begin with their input's type.
const LIFE: &str = "::life::";
/// Entries of one registry that are looked at together: files that begin alike.
const ALIKE: usize = 100_000;
/// Lengths of growing fingerprints that are kept: as many as a fingerprint has bytes, and more.
const LENGTHS: usize = 4096;
/// Entries that are remembered until the next refresh: many new files may begin alike.
const REMEMBERED: usize = 10_000;
/// Bytes that one refresh reads, unless it is set.
const BYTES: u64 = 16 << 20;

/// What others have under some keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Each with the member whose registry has it.
    pub entries: Vec<(String, Entry)>,
    /// Nobody has more: otherwise something wasn't read yet or can't be read, or there were more keys than are kept.
    pub whole: bool,
}

/// How far a refresh came.
#[derive(Debug, Default)]
pub struct Progress {
    /// Everything that was durable when it began is in the index.
    pub complete: bool,
    /// Whose registry can't be read, and why.
    pub failed: Vec<(String, Error)>,
}

/// What the registries of other replicas hold. See the module's header.
pub struct Others {
    world: World,
    folder: PathBuf,
    options: Options,
    bounds: Bounds,
    keys: usize,
    bytes: u64,
    index: HashTable<Slot>,
    followed: BTreeMap<String, Followed>,
    lengths: BTreeSet<u32>,
    /// What was found since the last refresh, by the key without a path or by the life ([`name_of`]).
    remembered: HashMap<String, Vec<(String, Entry)>>,
    /// Who comes first in the next refresh.
    turn: String,
}

/// A key, or a life, that a registry holds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    hash: u64,
    registry: u16,
}

/// How far one registry was read.
struct Followed {
    /// Whose slots are its own.
    number: u16,
    /// The checkpoint whose keys are in the index; 0: none yet.
    checkpoint: u64,
    /// The last operation that counts, and where the next one begins in the log.
    last: u64,
    at: u64,
    /// As far as operations are surely the owner's: the log was still the same one behind them.
    sure: u64,
    rebuilding: Option<Rebuilding>,
    complete: bool,
    /// There was no room for a key, or no sense in an entry.
    partial: bool,
}

/// A checkpoint that is being read.
struct Rebuilding {
    id: u64,
    number: u16,
    elements: Bytes<ReadAt>,
    begun: bool,
    partial: bool,
}

type ReadAt = Box<dyn FnMut(&mut [u8], u64) -> io::Result<usize> + Send>;

/// Of a key, whatever path it is tied to: the file may have another one by now.
fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(untied(key))
}

fn no_checkpoint(home: &Path) -> Error {
    let source = io::Error::new(io::ErrorKind::NotFound, "there is no checkpoint");
    Error::Unreadable { path: home.into(), source }
}

fn reader(file: Box<dyn File>) -> ReadAt {
    Box::new(
        move |buf, offset| {
            if offset > MAX_FILE { Err(io::ErrorKind::FileTooLarge.into()) } else { file.read_at(buf, offset) }
        },
    )
}

impl Others {
    /// Knows nothing yet. `folder`: the data paths of all replicas, each by its member's name.
    pub fn new(world: &World, folder: &Path) -> Others {
        Others {
            world: world.clone(),
            folder: folder.to_owned(),
            options: Options::default(),
            bounds: Bounds { file: MAX_FILE, entries: ALIKE, ..Bounds::default() },
            keys: KEYS,
            bytes: BYTES,
            index: HashTable::new(),
            followed: BTreeMap::new(),
            lengths: BTreeSet::new(),
            remembered: HashMap::new(),
            turn: String::new(),
        }
    }

    /// With other limits: how many keys are kept, and how many bytes a refresh reads (at least 64 KiB of each registry
    /// whose turn it is).
    #[must_use]
    pub fn limited(self, keys: usize, bytes: u64) -> Others {
        Others { keys, bytes, ..self }
    }

    /// Follows the registries of these members, and forgets all others. The own one isn't among them.
    pub fn refresh(&mut self, members: &[String]) -> Progress {
        self.remembered.clear();
        let names: BTreeSet<&str> = members.iter().map(String::as_str).collect();
        self.followed.retain(|member, _| names.contains(&**member));
        self.forget_strangers();
        for name in &names {
            if !self.followed.contains_key(*name) {
                let number = self.free_number();
                self.followed.insert((*name).to_owned(), Followed::nothing(number));
            }
        }
        self.followed.values_mut().for_each(|followed| followed.complete = false);
        // In turns: a long checkpoint of one doesn't keep the others waiting for ever.
        let (before, behind): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| *name < self.turn.as_str());
        let mut progress = Progress::default();
        let mut left = self.bytes;
        for member in behind.into_iter().chain(before) {
            if left == 0 {
                member.clone_into(&mut self.turn);
                break;
            }
            let Some(mut followed) = self.followed.remove(member) else { continue };
            match self.follow(member, &mut followed, &mut left) {
                Ok(complete) => followed.complete = complete,
                Err(e) => progress.failed.push((member.to_owned(), e)),
            }
            self.followed.insert(member.to_owned(), followed);
        }
        progress.complete = self.followed.values().all(|followed| followed.complete);
        progress
    }

    /// Takes out the slots of registries that aren't followed any more.
    fn forget_strangers(&mut self) {
        let known: BTreeSet<u16> = self.followed.values().flat_map(Followed::numbers).collect();
        self.index.retain(|slot| known.contains(&slot.registry));
    }

    fn free_number(&self) -> u16 {
        let taken: BTreeSet<u16> = self.followed.values().flat_map(Followed::numbers).collect();
        (0..u16::MAX).find(|n| !taken.contains(n)).unwrap_or(u16::MAX)
    }

    fn forget(&mut self, number: u16) {
        self.index.retain(|slot| slot.registry != number);
    }

    /// `false`: there is no room.
    fn put(&mut self, name: &str, registry: u16) -> bool {
        let slot = Slot { hash: hash(name), registry };
        if self.index.find(slot.hash, |other| *other == slot).is_some() {
            return true;
        }
        if self.index.len() >= self.keys {
            return false;
        }
        self.index.insert_unique(slot.hash, slot, |slot| slot.hash);
        true
    }

    /// An entry is there now.
    fn put_entry(&mut self, key: &str, value: &Meta, registry: u16) -> bool {
        self.note_length(value.length);
        let life = value.life.filter(|_| matches!(identifier_of(key), Some(Identifier::Fingerprint(_))));
        self.put(key, registry) && life.is_none_or(|life| self.put(&name_of(life), registry))
    }

    /// A key isn't there any more. Where its life was stays in the index until the next checkpoint.
    fn take_out(&mut self, key: &str, registry: u16) {
        let slot = Slot { hash: hash(key), registry };
        if let Ok(found) = self.index.find_entry(slot.hash, |other| *other == slot) {
            found.remove();
        }
    }

    /// Goes on with one registry; whether it was followed to what was durable at the beginning.
    fn follow(&mut self, member: &str, followed: &mut Followed, left: &mut u64) -> Result<bool, Error> {
        let home = self.home(member)?;
        let newest = match self.newest(&home)? {
            // It has just begun, or never came to write anything down.
            0 if followed.checkpoint == 0 => return Ok(true),
            0 => return Err(no_checkpoint(&home)),
            newest => newest,
        };
        if followed.rebuilding.as_ref().is_some_and(|r| r.id != newest) {
            self.drop_rebuilding(followed);
        }
        if followed.checkpoint != 0 && followed.sure == followed.last && followed.last + 1 == newest {
            // Everything that it holds was seen in the log.
            self.drop_rebuilding(followed);
            (followed.checkpoint, followed.last, followed.sure, followed.at) = (newest, newest, newest, 0);
        }
        if newest != followed.checkpoint && !self.rebuild(&home, newest, followed, left)? {
            return Ok(false);
        }
        let whole = self.read_log(&home, followed, left)?;
        let same = self.newest(&home)? == followed.checkpoint;
        if same {
            followed.sure = followed.last;
        }
        Ok(whole && same)
    }

    fn home(&self, member: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(member);
        if is_member(member) {
            return Ok(path.join(&self.options.path).join(STORE));
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "no member is called so");
        Err(Error::Unreadable { path: self.folder.clone(), source })
    }

    /// The id of the newest checkpoint; 0: there is none.
    fn newest(&self, home: &Path) -> Result<u64, Error> {
        live::look(&self.world, home)?;
        let all = load::list_checkpoints(&self.world, home)?;
        Ok(all.last().map_or(0, |(id, _)| *id))
    }

    fn drop_rebuilding(&mut self, followed: &mut Followed) {
        if let Some(old) = followed.rebuilding.take() {
            self.forget(old.number);
        }
    }

    /// Reads a checkpoint, or some more of it; whether its keys are in the index.
    fn rebuild(&mut self, home: &Path, id: u64, followed: &mut Followed, left: &mut u64) -> Result<bool, Error> {
        let path = home.join(format!("{id}.json"));
        let mut now = match followed.rebuilding.take() {
            Some(now) => now,
            None => {
                let Some(file) = load::open(&self.world, &path)? else { return Ok(false) };
                let taken = followed.number;
                let number = self.free_number_but(taken);
                Rebuilding { id, number, elements: Bytes::new(reader(file)), begun: false, partial: false }
            }
        };
        let (begin, mut out) = (now.elements.position(), Vec::new());
        loop {
            match now.elements.element(!now.begun, &mut out) {
                Ok(Element::Value) => match key_of(&out) {
                    Some((key, meta)) => now.partial |= !self.put_entry(&key, &meta, now.number),
                    None => now.partial = true,
                },
                Ok(Element::TooLong) => now.partial = true,
                Ok(end) => {
                    now.partial |= end == Element::Damaged;
                    break;
                }
                Err(source) => {
                    self.forget(now.number);
                    return Err(Error::Unreadable { path, source });
                }
            }
            now.begun = true;
            if now.elements.position() - begin >= *left {
                *left = 0;
                followed.rebuilding = Some(now);
                return Ok(false);
            }
        }
        *left = left.saturating_sub(now.elements.position() - begin);
        self.forget(followed.number);
        (followed.number, followed.checkpoint, followed.last, followed.sure, followed.at) = (now.number, id, id, id, 0);
        followed.partial = now.partial;
        Ok(true)
    }

    fn free_number_but(&self, taken: u16) -> u16 {
        let others: BTreeSet<u16> = self.followed.values().flat_map(Followed::numbers).collect();
        (0..u16::MAX).find(|n| *n != taken && !others.contains(n)).unwrap_or(u16::MAX)
    }

    /// Reads what was appended to the log; whether its end was reached.
    fn read_log(&mut self, home: &Path, followed: &mut Followed, left: &mut u64) -> Result<bool, Error> {
        let path = home.join(LOG);
        // Opened anew: a network file system's client asks for the size only then.
        let Some(file) = load::open(&self.world, &path)? else { return Ok(true) };
        let mut lines = Bytes::starting_at(reader(file), followed.at);
        let (mut action, mut line) = (Vec::new(), Vec::new());
        let begin = followed.at;
        loop {
            if lines.position() - begin >= *left {
                *left = 0;
                return Ok(false);
            }
            let mut two = || Ok((lines.line(&mut action)?, lines.line(&mut line)?));
            let (first, second) = two().map_err(|source| Error::Unreadable { path: path.clone(), source })?;
            let op = match (first, second) {
                (Line::Whole, Line::Whole) => load::operation(&action, &line, second).ok(),
                _ => None,
            };
            match op {
                // The log wasn't emptied yet for the checkpoint: that it will be isn't to be missed, so nothing of it
                // counts as read.
                Some(op) if op.id <= followed.checkpoint && followed.last == followed.checkpoint => {}
                Some(op) if op.id == followed.last + 1 => {
                    if let Some(value) = &op.value {
                        let member = |name| value.get(name).unwrap_or(&Value::Null);
                        let meta = Meta::of(member("meta"), member("pillion"));
                        followed.partial |= !self.put_entry(&op.key, &meta, followed.number);
                    } else {
                        self.take_out(&op.key, followed.number);
                    }
                    (followed.last, followed.at) = (op.id, lines.position());
                }
                Some(_) => {
                    // Operations are missing: the checkpoint is read anew.
                    followed.checkpoint = 0;
                    return Ok(false);
                }
                // What is being written; or damage, and then nothing behind it counts.
                None => {
                    *left = left.saturating_sub(lines.position() - begin);
                    return Ok(true);
                }
            }
        }
    }

    fn note_length(&mut self, length: Option<u32>) {
        if self.lengths.len() < LENGTHS {
            self.lengths.extend(length);
        }
    }

    /// Of how many bytes fingerprints are made that grow: what a file's earlier keys may be.
    pub fn lengths(&self) -> &BTreeSet<u32> {
        &self.lengths
    }

    /// What others have under these keys, in the order of the keys and of the members, whatever path one is tied to
    /// ([`crate::tied`]), as it was at the last refresh or later: entries that have come since need not be found. Each
    /// registry that has some of them is read once.
    ///
    /// # Errors
    /// As [`live::read`] of a registry that should have a key.
    pub fn find(&mut self, keys: &[&str]) -> Result<Found, Error> {
        self.named(&keys.iter().map(|key| untied(key).to_owned()).collect())
    }

    /// What others have of these lives of files with fingerprints, under whatever keys; otherwise as [`Others::find`].
    ///
    /// # Errors
    /// As [`live::read`] of a registry that should have a life.
    pub fn lives(&mut self, lives: &[Incarnation]) -> Result<Found, Error> {
        self.named(&lives.iter().map(|life| name_of(*life)).collect())
    }

    fn named(&mut self, names: &BTreeSet<String>) -> Result<Found, Error> {
        let fresh = self.read(&names.iter().filter(|name| !self.remembered.contains_key(*name)).collect())?;
        let found = names.iter().filter_map(|name| fresh.get(name).or_else(|| self.remembered.get(name)));
        let entries = found.flatten().cloned().collect();
        if !fresh.is_empty() && self.remembered.values().map(|of| 1 + of.len()).sum::<usize>() > REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.extend(fresh);
        let whole = self.followed.values().all(|followed| followed.complete && !followed.partial);
        Ok(Found { entries, whole })
    }

    /// Reads what there is under each of such names.
    fn read(&self, names: &BTreeSet<&String>) -> Result<HashMap<String, Vec<(String, Entry)>>, Error> {
        let mut wanted: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for name in names {
            for slot in self.index.iter_hash(hash(name)).filter(|slot| slot.hash == hash(name)) {
                let owner = self.followed.iter().find(|(_, f)| f.numbers().any(|n| n == slot.registry));
                if let Some((member, _)) = owner {
                    wanted.entry(member).or_default().insert(name);
                }
            }
        }
        let mut found: HashMap<String, Vec<(String, Entry)>> =
            names.iter().map(|name| ((*name).clone(), Vec::new())).collect();
        for (member, names) in wanted {
            let path = self.folder.join(member);
            let names: HashSet<&str> = names.into_iter().map(String::as_str).collect();
            let lives = names.iter().any(|name| is_life(name));
            let life = |entry: &Entry| lives.then(|| name_of(entry.incarnation));
            let part = |entry: &Entry| {
                names.contains(untied(&entry.key)) || life(entry).is_some_and(|life| names.contains(&*life))
            };
            for entry in live::read(&self.world, &path, &self.options, &self.bounds, &part)?.entries {
                for name in [Some(untied(&entry.key).to_owned()), life(&entry)].into_iter().flatten() {
                    if let Some(of) = found.get_mut(&name).filter(|_| names.contains(&*name)) {
                        of.push((member.clone(), entry.clone()));
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Followed {
    fn nothing(number: u16) -> Followed {
        Followed { number, checkpoint: 0, last: 0, at: 0, sure: 0, rebuilding: None, complete: false, partial: false }
    }

    fn numbers(&self) -> impl Iterator<Item = u16> {
        [Some(self.number), self.rebuilding.as_ref().map(|r| r.number)].into_iter().flatten()
    }
}

/// How a life is called in the index: as no key is.
fn name_of(life: Incarnation) -> String {
    format!("{LIFE}{life}")
}

fn is_life(name: &str) -> bool {
    name.starts_with(LIFE)
}

/// What the index takes of an entry beside its key.
#[derive(Default)]
struct Meta {
    /// Of how many bytes its fingerprint is made, when that still grows.
    length: Option<u32>,
    life: Option<Incarnation>,
}

impl Meta {
    /// From an entry's members `meta` and `pillion`.
    fn of(meta: &Value, pillion: &Value) -> Meta {
        let length = meta.get("fingerprint_len").and_then(Value::as_u64).and_then(|len| u32::try_from(len).ok());
        let life = pillion.get(0).and_then(Value::as_str).and_then(|life| life.parse().ok());
        Meta { length: length.filter(|len| *len > 0), life }
    }
}

/// The key of a checkpoint's element, and what else the index takes.
fn key_of(element: &[u8]) -> Option<(String, Meta)> {
    #[derive(serde::Deserialize)]
    struct Keyed {
        _key: String,
        #[serde(default)]
        meta: Value,
        #[serde(default)]
        pillion: Value,
    }
    let keyed = serde_json::from_slice::<Keyed>(element).ok()?;
    Some((keyed._key, Meta::of(&keyed.meta, &keyed.pillion)))
}
