//! A registry that another process wrote, which may be dead, mistaken or hostile: what can be used of it.
//!
//! Comes in: a folder. Goes out: [`Foreign`], entries of which every number and text is within bounds; then, one by one,
//! [`Registry::adopt`] takes them into a registry of our own.
//!
//! Always holds:
//! - Nothing is written, locked, converted or repaired there, and memory is bounded by [`Bounds`].
//! - A path in an entry is a hint, never more: it is absolute, without `..`, and short; who opens it does so beneath a root
//!   that it chose itself ([`pillion_world::Beneath`]), and compares what it finds with the entry.
//! - What is refused makes lines be sent again, never be left out: an entry that isn't used is a file that nobody knows.
//! - An incarnation that two entries claim is nobody's: with it, the lines of one would be taken for delivered by the other.
//!
//! Tested below, in `tests/foreign.rs` (a table of hostile registries), and by the fuzz target `foreign`.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use pillion_event::Incarnation;
use pillion_world::World;
use serde_json::Value;

use crate::disk::META;
use crate::entry::{Entry, Kind};
use crate::error::Error;
use crate::load::{self, Faults, Loaded};
use crate::open::{MAX_META, Options, STORE, age, is_uuid};
use crate::registry::{MAX_INTENTS, Record, Registry};

/// Of the largest file: an offset above it is none (`off_t`).
const MAX_OFFSET: u64 = i64::MAX as u64;
/// A range longer than this was never sent as one batch, in bytes: a batch is one chunk or one long event.
const MAX_INTENT: u64 = 256 << 20;
/// Read times outside of these are none: 2000-01-01 to 2200-01-01, milliseconds since 1970.
const READ_TIMES: std::ops::Range<i64> = 946_684_800_000..7_258_118_400_000;

/// How much of a foreign registry is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of its largest file.
    pub file: u64,
    /// Entries.
    pub entries: usize,
    /// Bytes of a path.
    pub path: usize,
    /// Bytes of a key.
    pub key: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { file: 64 << 20, entries: 100_000, path: 4096, key: 8192 }
    }
}

/// What can be used of a foreign registry.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    /// The agent's id, where there is one.
    pub agent_id: Option<String>,
    /// Its entries, in the order of their keys.
    pub entries: Vec<Entry>,
    /// Why its log ends early.
    pub torn: Option<String>,
    /// What was left out or taken with less than it said, a line each; at most 20.
    pub refused: Vec<String>,
    /// How many there were.
    pub refused_count: usize,
}

/// Reads the registry in `data_path`, which is of the form that [`Registry::open`] makes; the layouts before it aren't
/// looked at.
///
/// # Errors
/// When a file can't be read, isn't a regular file, is larger than the bounds, or is of an unknown version.
pub fn read(world: &World, data_path: &Path, options: &Options, bounds: &Bounds) -> Result<Foreign, Error> {
    let home = data_path.join(&options.path).join(STORE);
    let agent_id = agent_id(world, data_path);
    match world.fs.stat(&home, true) {
        // Its owner got no further.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Foreign { agent_id, ..Foreign::default() }),
        Err(source) => return Err(Error::Unreadable { path: home, source }),
        Ok(_) => {}
    }
    let mut faults = Faults::default();
    let limits = load::Limits { file: bounds.file, entries: bounds.entries };
    let loaded = load::load(world, &home, limits, None, &mut faults)?;
    Ok(vetted(agent_id, loaded, bounds, faults))
}

/// The agent's id of a data path, where there is one.
pub(crate) fn agent_id(world: &World, data_path: &Path) -> Option<String> {
    let bytes = world.fs.read(&data_path.join(META), MAX_META).ok()?;
    let meta: Value = serde_json::from_slice(&bytes).ok()?;
    Some(meta.get("uuid")?.as_str().filter(|id| is_uuid(id))?.to_owned())
}

/// Keeps of what was read what is within bounds.
pub(crate) fn vetted(agent_id: Option<String>, loaded: Loaded<'_>, bounds: &Bounds, mut faults: Faults) -> Foreign {
    let files = loaded.records.map.into_values().filter_map(|record| match record {
        Record::File(entry) => Some(Arc::unwrap_or_clone(entry)),
        Record::Foreign(_) => None,
    });
    let entries = vet(files, bounds, &mut faults);
    Foreign { agent_id, entries, torn: loaded.torn, refused: faults.list, refused_count: faults.count }
}

/// Keeps of entries what is within bounds.
pub(crate) fn vet(entries: impl Iterator<Item = Entry>, bounds: &Bounds, faults: &mut Faults) -> Vec<Entry> {
    let mut kept = Vec::new();
    for entry in entries {
        match check(entry, bounds) {
            Ok((entry, None)) => kept.push(entry),
            Ok((entry, Some(why))) => {
                faults.add(|| format!("key {:?}: {why}", cut(&entry.key)));
                kept.push(entry);
            }
            Err((key, why)) => faults.add(|| format!("key {:?}: {why}; left out", cut(&key))),
        }
    }
    part_twins(&mut kept, faults);
    kept
}

/// Parts entries that claim one incarnation. Of the same path they are one file whose key was being changed when the owner
/// died: the newest counts. Otherwise it is nobody's: 0, which [`Registry::adopt`] replaces by a new one.
fn part_twins(entries: &mut Vec<Entry>, faults: &mut Faults) {
    let mut claims: HashMap<Incarnation, Claim> = HashMap::new();
    for entry in &*entries {
        let claim = claims.entry(entry.incarnation).or_insert_with(|| Claim {
            source: Arc::clone(&entry.source),
            newest: (age(entry), Arc::clone(&entry.key)),
            alone: true,
        });
        claim.alone &= claim.source == entry.source;
        claim.newest = claim.newest.clone().max((age(entry), Arc::clone(&entry.key)));
    }
    entries.retain_mut(|entry| match claims.get(&entry.incarnation) {
        Some(claim) if entry.incarnation != Incarnation(0) && !claim.alone => {
            faults.add(|| format!("key {:?}: its incarnation is another entry's too", cut(&entry.key)));
            entry.incarnation = Incarnation(0);
            entry.intents.clear();
            true
        }
        Some(claim) => entry.incarnation == Incarnation(0) || claim.newest.1 == entry.key,
        None => true,
    });
}

/// Who claims an incarnation.
struct Claim {
    source: Arc<str>,
    newest: ((i128, u64, Option<u64>), Arc<str>),
    /// All claims are of one path.
    alone: bool,
}

/// An entry that can be used, and what of it couldn't.
type Checked = (Entry, Option<&'static str>);

/// Looks at one entry. `Ok` with a reason: it was taken with less than it said.
fn check(mut entry: Entry, bounds: &Bounds) -> Result<Checked, (Arc<str>, &'static str)> {
    let refuse = |entry: &Entry, why| Err((Arc::clone(&entry.key), why));
    if entry.key.len() > bounds.key || entry.key.contains('\0') {
        return refuse(&entry, "no such key is ever made");
    }
    if let Err(why) = check_path(&entry.source, bounds.path) {
        return refuse(&entry, why);
    }
    if entry.offset > MAX_OFFSET {
        return refuse(&entry, "an offset that no file has");
    }
    if matches!(&entry.kind, Kind::Filestream(s) if s.fingerprint_len.is_some_and(|len| len > MAX_INTENT)) {
        return refuse(&entry, "a fingerprint of more bytes than there ever are");
    }
    let before = entry.intents.len();
    if !are_ranges(&entry) {
        // Sent again under the same ids they do no harm; as they stand they could be of anything.
        entry.intents.clear();
    }
    let why =
        (before > entry.intents.len()).then_some("its ranges in flight can't have been; they count as never sent");
    Ok((entry, why))
}

/// Whether the ranges in flight can have been: behind the offset, apart from each other, of a size and time that occur.
fn are_ranges(entry: &Entry) -> bool {
    let mut at = 0;
    entry.intents.len() <= MAX_INTENTS
        && entry.incarnation != Incarnation(0)
        && entry.intents.iter().all(|i| {
            let good = i.to > entry.offset
                && i.from >= at
                && i.from < i.to
                && i.to - i.from <= MAX_INTENT
                && i.to <= MAX_OFFSET
                && READ_TIMES.contains(&i.read_ms);
            at = i.to;
            good
        })
}

/// Whether a path can be one that was opened: absolute, plain, short.
fn check_path(path: &str, longest: usize) -> Result<(), &'static str> {
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    match path {
        _ if path.len() > longest => Err("a path longer than any"),
        _ if path.contains('\0') => Err("a path with a zero byte"),
        _ if !path.starts_with('/') => Err("a path that isn't absolute"),
        _ if !Path::new(path).components().all(plain) => Err("a path that leads upwards"),
        _ => Ok(()),
    }
}

/// The beginning of a text that may be of any length.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(120)).unwrap_or_default()
}

/// What became of a foreign entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// Nothing was known under its key: it is ours now.
    Taken,
    /// The same life of the file was known: the larger offset counts, and the ranges in flight of both.
    Merged,
    /// Another life of the file is known: what was known stays.
    Refused,
}

impl Registry {
    /// Takes an entry of a foreign registry into this one, under the entry's key, with its incarnation and its ranges in
    /// flight: they are sent again as they were. Durable after the next [`Registry::sync`].
    ///
    /// The entry comes from [`read`], and its file was found to be the one it tells of. An incarnation of 0 becomes a new
    /// one. Where device numbers mean nothing, the caller has put its own key ([`Entry::new`]) on the entry.
    pub fn adopt(&self, mut entry: Entry) -> Adopted {
        if entry.incarnation == Incarnation(0) {
            entry.incarnation = Incarnation(self.random());
            entry.intents.clear();
        }
        self.take_in(entry)
    }
}

/// What the fuzz target `foreign` calls: any bytes as a foreign registry's log. An error names what doesn't hold.
pub fn fuzz(data: &[u8]) -> Result<(), String> {
    let bounds = Bounds { file: 1 << 20, entries: 64, path: 64, key: 128 };
    let files = load::fuzz_entries(data, bounds.entries);
    let mut faults = Faults::default();
    let kept = vet(files.into_iter(), &bounds, &mut faults);
    let mut lives = HashMap::new();
    for entry in &kept {
        check_path(&entry.source, bounds.path).map_err(|why| format!("{}: {why}", entry.source))?;
        if entry.offset > MAX_OFFSET || !(entry.intents.is_empty() || are_ranges(entry)) {
            return Err(format!("{entry:?} was let through"));
        }
        if entry.incarnation != Incarnation(0) && lives.insert(entry.incarnation, &entry.key).is_some() {
            return Err(format!("{} is there twice", entry.incarnation));
        }
    }
    Ok(())
}
