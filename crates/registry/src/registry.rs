//! The map in memory, and which of it has to be written.
//!
//! Comes in: changes, from any thread. Goes out: lists of changed entries to [`Disk`], in order.
//! Always holds: no file-system call is made under the lock of the map; readers never wait for a disk. What isn't yet
//! durable is marked dirty, or `all` is set, which makes the next sync write everything.
//! Tested in `tests/`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillion_event::{Acked, Cursor, Incarnation};
use pillion_world::{Lock, World};
use serde_json::Value;

use crate::compact::CompactKey;
use crate::disk::Disk;
use crate::entry::{Entry, Intent};
use crate::foreign::Adopted;
use crate::part::merged;
use crate::store::{Kept, Store};

/// How many unacknowledged ranges of one file may be durable at once; more are refused until some are acknowledged.
pub const MAX_INTENTS: usize = 256;

/// More changed keys than this aren't listed: everything is written instead. Bounds what a long failing disk costs.
const MAX_DIRTY: usize = 65_536;

/// What is kept under a key.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// A file's state.
    File(Arc<Entry>),
    /// What another input of Filebeat keeps, or what couldn't be read: written back as it was.
    Foreign(Arc<Value>),
}

/// A key and what is to be written for it; `None` = it is to be removed.
pub(crate) type Change = (Arc<str>, Option<Record>);

/// A checkpoint that is being written, piece by piece.
#[derive(Default)]
struct Piecemeal {
    /// The places before this one are written.
    at: usize,
    /// What was removed behind it meanwhile: it is written all the same, since what takes its place may come too late.
    removed: VecDeque<Change>,
}

#[derive(Default)]
pub(crate) struct Mem {
    store: Store,
    checkpoint: Option<Piecemeal>,
    /// The changed keys, each with the place in `order` that counts.
    dirty: HashMap<CompactKey, usize>,
    order: Vec<CompactKey>,
    /// Everything has to be written.
    all: bool,
    /// Where an incarnation went whose key was changed while batches with the old key were on their way.
    moved: HashMap<Incarnation, Arc<str>>,
}

/// How far each file is delivered. Shared by reader and engine (`Arc<Registry>`).
pub struct Registry {
    mem: Mutex<Mem>,
    disk: Mutex<Disk>,
    world: World,
    agent: Agent,
    _lock: Box<dyn Lock>,
}

/// Whose registry it is.
pub(crate) struct Agent {
    pub(crate) id: String,
    /// `None`: whoever made the data path didn't say.
    pub(crate) first_start_ns: Option<i128>,
}

/// A thread that panicked between two changes left whole entries behind: go on with them.
pub(crate) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mem {
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Puts an entry under its key, as it is.
    pub(crate) fn put(&mut self, entry: Entry) {
        let key = Arc::clone(&entry.key);
        self.store.insert(&key, Record::File(Arc::new(entry)));
        self.touch(&key);
    }

    fn touch(&mut self, key: &Arc<str>) {
        let key = self.store.compact(key);
        if !self.all && !self.dirty.contains_key(&key) {
            self.touch_last(key);
        }
    }

    /// Puts the key at the end of what is to be written, so that a removal doesn't overtake what was changed before it.
    fn touch_last(&mut self, key: CompactKey) {
        if self.all {
            return;
        }
        if self.order.len() >= MAX_DIRTY {
            self.write_all();
            return;
        }
        self.dirty.insert(key.clone(), self.order.len());
        self.order.push(key);
    }

    fn write_all(&mut self) {
        self.all = true;
        self.dirty = HashMap::new();
        self.order = Vec::new();
    }

    /// What has changed, as it is now: thousands of files may have, so each is kept in as few bytes as in the store.
    fn take_changes(&mut self) -> Vec<(CompactKey, Option<Kept>)> {
        let keys = self.take_changed_keys();
        let kept = |key: CompactKey| {
            let kept = self.store.kept(&key);
            (key, kept)
        };
        keys.into_iter().map(kept).collect()
    }

    /// A change in full.
    fn change(&self, (key, kept): (CompactKey, Option<Kept>)) -> Change {
        let key = self.store.text(&key);
        let record = kept.and_then(|kept| self.store.shown(&key, &kept));
        (key, record)
    }

    /// The changed keys, in their order.
    fn take_changed_keys(&mut self) -> Vec<CompactKey> {
        let mut order = std::mem::take(&mut self.order);
        let dirty = std::mem::take(&mut self.dirty);
        let mut at = 0;
        order.retain(|key| {
            at += 1;
            dirty.get(key) == Some(&(at - 1))
        });
        order
    }

    /// Marks keys as changed again, before those that changed meanwhile.
    fn give_back(&mut self, changes: Vec<CompactKey>) {
        let later = self.take_changed_keys();
        for key in changes.into_iter().chain(later) {
            self.touch_last(key);
        }
    }

    /// The key of the entry of a life: the one that is known, or the one that the file has got since.
    fn key_of(&self, key: &str, incarnation: Incarnation) -> Option<Arc<str>> {
        let is_it = |key: &str| self.store.incarnation(key) == Some(incarnation);
        if is_it(key) {
            return Some(key.into());
        }
        self.moved.get(&incarnation).filter(|key| is_it(key)).cloned()
    }

    fn upsert(&mut self, mut entry: Entry) {
        if let Some(old) = self.store.file(&entry.key)
            && old.incarnation == entry.incarnation
        {
            if old.offset >= entry.offset {
                (entry.offset, entry.guard) = (old.offset, old.guard);
            }
            entry.intents.clone_from(&old.intents);
        }
        self.put(entry);
    }

    pub(crate) fn remove(&mut self, key: &str) {
        let Some((at, record)) = self.store.remove(key) else { return };
        let key: Arc<str> = key.into();
        if let Record::File(entry) = &record {
            self.moved.remove(&entry.incarnation);
        }
        if let Some(checkpoint) = self.checkpoint.as_mut().filter(|c| at >= c.at) {
            checkpoint.removed.push_back((Arc::clone(&key), Some(record)));
        }
        let key = self.store.compact(&key);
        self.touch_last(key);
    }

    /// The next record of the checkpoint that is being written.
    fn next_of_checkpoint(&mut self) -> Option<(Arc<str>, Record)> {
        let checkpoint = self.checkpoint.as_mut()?;
        while checkpoint.at < self.store.end() {
            checkpoint.at += 1;
            if let Some(found) = self.store.at(checkpoint.at - 1) {
                return Some(found);
            }
        }
        loop {
            let (key, record) = checkpoint.removed.pop_front()?;
            // One that is there again has been written, or comes with the next sync.
            if let Some(record) = record.filter(|_| !self.store.contains(&key)) {
                return Some((key, record));
            }
        }
    }
}

/// Whether a range overlaps none of these.
pub(crate) fn apart(range: Intent, others: &[Intent]) -> bool {
    others.iter().all(|other| range.to <= other.from || other.to <= range.from)
}

impl Registry {
    pub(crate) fn new(
        world: World,
        disk: Disk,
        records: BTreeMap<Arc<str>, Record>,
        all: bool,
        agent: Agent,
        lock: Box<dyn Lock>,
    ) -> Registry {
        let mut mem = Mem { all, ..Mem::default() };
        for (key, record) in records {
            mem.store.insert(&key, record);
        }
        Registry { mem: Mutex::new(mem), disk: Mutex::new(disk), world, agent, _lock: lock }
    }

    /// The agent's id (`agent.id` of events): a UUID, the same for the life of the data path.
    pub fn agent_id(&self) -> &str {
        &self.agent.id
    }

    /// When a program was started with this data path for the first time, nanoseconds since 1970; `None` = it isn't known.
    pub fn first_start_ns(&self) -> Option<i128> {
        self.agent.first_start_ns
    }

    /// What is known under a key.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        lock(&self.mem).store.file(key)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        lock(&self.mem).store.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries, in no order; a picture of this moment.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        let mut all = Vec::new();
        self.visit(|entry| all.push(Arc::clone(entry)));
        all
    }

    /// Shows all entries, one after the other and in no order, without keeping them all. The registry waits meanwhile.
    pub fn visit(&self, mut show: impl FnMut(&Arc<Entry>)) {
        let mem = lock(&self.mem);
        for at in 0..mem.store.end() {
            if let Some((_, Record::File(entry))) = mem.store.at(at) {
                show(&entry);
            }
        }
    }

    /// Shows the entries at so many places from one on, until `go_on` says no; from which place on the next call goes on,
    /// `None` at the end. Each entry that is there from the first call to the last is shown. The registry waits meanwhile.
    pub fn visit_from(&self, from: usize, places: usize, mut go_on: impl FnMut(&Arc<Entry>) -> bool) -> Option<usize> {
        let mem = lock(&self.mem);
        let end = mem.store.end();
        for at in from..end.min(from.saturating_add(places)) {
            if let Some((_, Record::File(entry))) = mem.store.at(at)
                && !go_on(&entry)
            {
                return Some(at + 1);
            }
        }
        Some(from.saturating_add(places)).filter(|next| *next < end)
    }

    /// Writes down a new file, a new path of a known one, or (with a new incarnation) that its content began anew.
    ///
    /// Within one incarnation the offset never goes back (the larger one counts) and the intents stay those that are
    /// known: a reader may change what it got a while ago without undoing what was acknowledged meanwhile.
    pub fn upsert(&self, entry: Entry) {
        lock(&self.mem).upsert(self.stamped(entry));
    }

    /// Gives a file another key (a fingerprint that grew): `entry` takes the place of `old_key`. Cursors that are on
    /// their way with the old key still count. Durable in this order: never neither of both.
    pub fn rekey(&self, old_key: &str, entry: Entry) {
        let mut entry = self.stamped(entry);
        let mut mem = lock(&self.mem);
        if old_key == &*entry.key {
            return mem.upsert(entry);
        }
        if let Some(old) = mem.store.file(old_key)
            && old.incarnation == entry.incarnation
        {
            if old.offset >= entry.offset {
                (entry.offset, entry.guard) = (old.offset, old.guard);
            }
            entry.intents.clone_from(&old.intents);
        }
        let (incarnation, key) = (entry.incarnation, Arc::clone(&entry.key));
        mem.upsert(entry);
        mem.remove(old_key);
        mem.moved.insert(incarnation, key);
    }

    /// Forgets a file.
    pub fn remove(&self, key: &str) {
        lock(&self.mem).remove(key);
    }

    /// The same, unless it has changed in any way since `known` was got: whether it is forgotten.
    pub fn remove_unchanged(&self, known: &Entry) -> bool {
        let mut mem = lock(&self.mem);
        let unchanged = mem.store.file(&known.key).is_some_and(|entry| *entry == *known);
        if unchanged {
            mem.remove(&known.key);
        }
        unchanged
    }

    /// Writes down that a range is about to be sent (`exactly_once`): sync before sending it.
    ///
    /// `false`: nothing was written down, since the entry is gone or of another incarnation, or [`MAX_INTENTS`] ranges
    /// are waiting already: the range mustn't be sent now.
    #[must_use]
    pub fn intend(&self, key: &str, incarnation: Incarnation, intent: Intent) -> bool {
        let mut mem = lock(&self.mem);
        let Some(key) = mem.key_of(key, incarnation) else { return false };
        let Some(entry) = mem.store.file(&key) else { return false };
        if entry.intents.contains(&intent) {
            return true;
        }
        if entry.intents.len() >= MAX_INTENTS {
            return false;
        }
        drop(entry);
        mem.store.change(&key, |entry| {
            let at = entry.intents.partition_point(|i| *i < intent);
            entry.intents.insert(at, intent);
        });
        mem.touch(&key);
        true
    }

    /// Moves a cursor to what the target has acknowledged, and drops the intents that lie below.
    ///
    /// `false`: it was ignored, since the entry is gone or of another incarnation, or is there already.
    pub fn commit(&self, cursor: &Acked<Cursor>) -> bool {
        let now = self.world.clock.wall().0.saturating_mul(1_000_000);
        let cursor = cursor.get();
        let mut mem = lock(&self.mem);
        let Some(key) = mem.key_of(&cursor.key, cursor.incarnation) else { return false };
        let moved = mem.store.advance(&key, cursor.incarnation, cursor.offset, cursor.guard, now) == Some(true);
        if moved {
            mem.touch(&key);
        }
        moved
    }

    /// Makes durable all that was called before. Several threads may call it: one writes for all that wait.
    ///
    /// On an error nothing is forgotten, and the next call writes everything anew beside what may be torn.
    pub fn sync(&self) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        let changes = {
            let mut mem = lock(&self.mem);
            if mem.all || disk.must_checkpoint() {
                mem.write_all();
                None
            } else {
                Some(mem.take_changes())
            }
        };
        let done = match changes {
            None => self.checkpoint(&mut disk),
            Some(changes) if changes.is_empty() => Ok(()),
            Some(changes) => {
                let mut changes = changes.into_iter().map(|change| lock(&self.mem).change(change));
                let done = disk.append(&mut changes);
                if done.is_err() {
                    lock(&self.mem).write_all();
                }
                done
            }
        };
        if done.is_ok() && disk.wants_checkpoint() {
            // What was asked for is durable: a checkpoint that fails now is tried again later.
            let _ = self.checkpoint(&mut disk);
        }
        done
    }

    /// Writes everything into a new checkpoint. On an error what was to be written still is.
    ///
    /// It is taken piece by piece, since a picture of all would take as much memory again. What changes meanwhile is dirty,
    /// and comes with the next sync.
    fn checkpoint(&self, disk: &mut Disk) -> io::Result<()> {
        let (all, changes) = {
            let mut mem = lock(&self.mem);
            mem.checkpoint = Some(Piecemeal::default());
            (std::mem::take(&mut mem.all), mem.take_changed_keys())
        };
        let mut records = std::iter::from_fn(|| lock(&self.mem).next_of_checkpoint());
        let done = disk.checkpoint(&mut records);
        let mut mem = lock(&self.mem);
        mem.checkpoint = None;
        if done.is_err() {
            if all || disk.must_checkpoint() { mem.write_all() } else { mem.give_back(changes) }
        }
        done
    }

    pub(crate) fn mem(&self) -> &Mutex<Mem> {
        &self.mem
    }

    pub(crate) fn random(&self) -> u128 {
        self.world.random.u128()
    }

    /// Takes in an entry that another process has kept: see [`Registry::adopt`].
    pub(crate) fn take_in(&self, entry: Entry) -> Adopted {
        let mut mem = lock(&self.mem);
        let Some(known) = mem.store.file(&entry.key) else {
            mem.upsert(self.stamped(entry));
            return Adopted::Taken;
        };
        if known.incarnation != entry.incarnation {
            return Adopted::Refused;
        }
        mem.put(self.stamped(merged((*known).clone(), &entry)));
        Adopted::Merged
    }

    pub(crate) fn stamped(&self, mut entry: Entry) -> Entry {
        entry.updated_ns = i128::from(self.world.clock.wall().0) * 1_000_000;
        entry
    }
}
