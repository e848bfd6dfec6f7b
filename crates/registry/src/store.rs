//! All entries in memory, each in as few bytes as it needs.
//!
//! Comes in: records by key. Goes out: the same records. Most files are quiet ones: nothing of theirs is on its way, and
//! nothing in their entry is unusual. Those lie beside each other in [`Packed`], 96 bytes each with the key and the path
//! ([`CompactPath`]); what doesn't fit is kept as it is.
//!
//! Always holds: what is taken out is what was put in. Places never move; a removed one is used again. A block of them in
//! which nothing is left takes no memory. The order of places follows from what was done, so that one seed replays a run.
//! Tested below and with the registry.

use std::num::NonZeroI64;
use std::sync::Arc;

use hashbrown::HashTable;
use pillion_event::{Guard, Incarnation};

use crate::compact::{CompactKey, Parts, Prefixes, hash, parts_of};
use crate::entry::{Entry, FilestreamState, Kind, LogState, LogWords};
use crate::path::{CompactPath, Folders};
use crate::registry::Record;

/// How many records lie beside each other.
const BLOCK: usize = 64;

/// So much room for more is always left.
const SPARE: usize = 4096;

/// This and what is larger stands for the kind `filestream` in the place of the words of a log input, with a bit for each
/// member of its state that is there.
const FILESTREAM: u8 = 0xfc;
const HAS_LEN: u8 = 1;
const HAS_EOF: u8 = 2;

/// An entry without intents, unknown members and a lifetime.
#[derive(Clone)]
struct Packed {
    /// The key, when it isn't `prefix` with the inode and the device that stand here anyway.
    text: Option<Box<Arc<str>>>,
    source: CompactPath,
    offset: u64,
    updated_ns: i64,
    /// Two halves: a `u128` would be aligned.
    incarnation: [u64; 2],
    birth_ns: Option<NonZeroI64>,
    guard: u64,
    /// Inode; of a filestream whose key is a text, the length of its growing fingerprint.
    ino: u64,
    dev: u32,
    prefix: u16,
    words: u8,
    guard_len: u8,
}

impl Packed {
    fn native(&self) -> CompactKey {
        CompactKey::Native { ino: self.ino, dev: self.dev, prefix: self.prefix }
    }
}

#[derive(Clone)]
enum Place {
    Free,
    Packed(Packed),
    Whole(CompactKey, Record),
}

/// The key of what is at a place, taken apart.
fn parts<'a>(prefixes: &Prefixes, place: &'a Place) -> Option<Parts<'a>> {
    match place {
        Place::Free => None,
        Place::Packed(Packed { text: Some(text), .. }) => Some(prefixes.parts(text)),
        Place::Packed(Packed { ino, dev, prefix, .. }) => Some(Parts::Native(*prefix, *ino, *dev)),
        Place::Whole(key, _) => Some(parts_of(key)),
    }
}

/// A record as it was at one moment, in few bytes; [`Store::shown`] says what it is.
pub(crate) struct Kept(Place);

/// See the module's header.
#[derive(Default)]
pub(crate) struct Store {
    places: Vec<Vec<Place>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    prefixes: Prefixes,
    folders: Folders,
    words: Vec<Arc<LogWords>>,
}

fn place_of(places: &[Vec<Place>], at: u32) -> Option<&Place> {
    places.get(at as usize / BLOCK)?.get(at as usize % BLOCK)
}

impl Store {
    fn find(&self, key: &str) -> Option<u32> {
        self.find_parts(self.prefixes.parts(key))
    }

    fn find_parts(&self, key: Parts<'_>) -> Option<u32> {
        let is_it = |at: &u32| self.place(*at).and_then(|place| parts(&self.prefixes, place)) == Some(key);
        self.index.find(hash(key), is_it).copied()
    }

    /// The text of the key of what is at a place.
    fn key_at(&self, place: &Place) -> Option<Arc<str>> {
        match place {
            Place::Free => None,
            Place::Packed(Packed { text: Some(text), .. }) => Some(Arc::clone(text)),
            Place::Packed(packed) => Some(self.prefixes.text(&packed.native())),
            Place::Whole(key, _) => Some(self.prefixes.text(key)),
        }
    }

    fn place(&self, at: u32) -> Option<&Place> {
        place_of(&self.places, at)
    }

    fn place_mut(&mut self, at: u32) -> Option<&mut Place> {
        self.places.get_mut(at as usize / BLOCK)?.get_mut(at as usize % BLOCK)
    }

    /// How many places there are, free ones included.
    pub(crate) fn end(&self) -> usize {
        self.places.last().map_or(0, |last| (self.places.len() - 1) * BLOCK + last.len())
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.end() - self.free.len()
    }

    /// What is at a place.
    pub(crate) fn at(&self, at: usize) -> Option<(Arc<str>, Record)> {
        let place = self.place(u32::try_from(at).ok()?)?;
        let key = self.key_at(place)?;
        let record = self.record(&key, place)?;
        Some((key, record))
    }

    /// A key in few bytes.
    pub(crate) fn compact(&mut self, key: &Arc<str>) -> CompactKey {
        self.prefixes.compact(key)
    }

    /// Its text.
    pub(crate) fn text(&self, key: &CompactKey) -> Arc<str> {
        self.prefixes.text(key)
    }

    /// What is under a key now.
    pub(crate) fn kept(&self, key: &CompactKey) -> Option<Kept> {
        self.place(self.find_parts(parts_of(key))?).cloned().map(Kept)
    }

    /// What was kept, in full.
    pub(crate) fn shown(&self, key: &Arc<str>, kept: &Kept) -> Option<Record> {
        self.record(key, &kept.0)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Record> {
        self.record_at(self.find(key)?)
    }

    fn record_at(&self, at: u32) -> Option<Record> {
        let place = self.place(at)?;
        self.record(&self.key_at(place)?, place)
    }

    /// The file that a key names.
    pub(crate) fn file(&self, key: &str) -> Option<Arc<Entry>> {
        match self.get(key)? {
            Record::File(entry) => Some(entry),
            Record::Foreign(_) => None,
        }
    }

    /// The life of a file's content, cheaply.
    pub(crate) fn incarnation(&self, key: &str) -> Option<Incarnation> {
        match self.place(self.find(key)?)? {
            Place::Packed(packed) => Some(incarnation(packed)),
            Place::Whole(_, Record::File(entry)) => Some(entry.incarnation),
            _ => None,
        }
    }

    /// Puts a record under its key, in the place of the one that is there.
    pub(crate) fn insert(&mut self, key: &Arc<str>, record: Record) {
        let known = self.find(key);
        let compact = self.prefixes.compact(key);
        let place = match self.pack(&compact, &record) {
            Some(packed) => Place::Packed(packed),
            None => Place::Whole(compact, record),
        };
        if let Some(place_there) = known.and_then(|at| self.place_mut(at)) {
            *place_there = place;
            return;
        }
        let at = self.take_place(place);
        let (places, prefixes) = (&self.places, &self.prefixes);
        let hash_at = |at: &u32| place_of(places, *at).and_then(|place| parts(prefixes, place)).map_or(0, hash);
        self.index.insert_unique(prefixes.hash(key), at, hash_at);
    }

    fn take_place(&mut self, place: Place) -> u32 {
        if let Some(at) = self.free.pop() {
            if let Some(block) = self.places.get_mut(at as usize / BLOCK).filter(|block| block.is_empty()) {
                block.reserve_exact(BLOCK);
                block.resize(BLOCK, Place::Free);
            }
            if let Some(free) = self.place_mut(at) {
                *free = place;
            }
            return at;
        }
        let at = self.end() as u32;
        if self.places.last().is_none_or(|last| last.len() == BLOCK) {
            self.places.push(Vec::with_capacity(BLOCK));
        }
        if let Some(last) = self.places.last_mut() {
            last.push(place);
        }
        at
    }

    /// Takes a record out; also says where it was.
    pub(crate) fn remove(&mut self, key: &str) -> Option<(usize, Record)> {
        let at = self.find(key)?;
        let record = self.record_at(at)?;
        if let Ok(found) = self.index.find_entry(self.prefixes.hash(key), |other| *other == at) {
            found.remove();
        }
        if let Some(place) = self.place_mut(at) {
            *place = Place::Free;
        }
        self.free.push(at);
        self.give_back(at as usize / BLOCK);
        Some((at as usize, record))
    }

    /// A block in which nothing is left gives its memory back: thousands of files may have been forgotten.
    fn give_back(&mut self, block: usize) {
        let is_free = |block: &Vec<Place>| block.iter().all(|place| matches!(place, Place::Free));
        let last = block + 1 == self.places.len();
        let Some(places) = self.places.get_mut(block).filter(|block| is_free(block)) else { return };
        *places = Vec::new();
        if last {
            while self.places.pop_if(|block| block.is_empty()).is_some() {}
            let end = self.end() as u32;
            self.free.retain(|at| *at < end);
        }
        if self.free.capacity() > SPARE + 4 * self.free.len() {
            self.free.shrink_to(2 * self.free.len());
        }
        if self.index.capacity() > SPARE + 4 * self.index.len() {
            self.places.shrink_to_fit();
            let (places, prefixes) = (&self.places, &self.prefixes);
            let hash_at = |at: &u32| place_of(places, *at).and_then(|place| parts(prefixes, place)).map_or(0, hash);
            self.index.shrink_to(2 * self.index.len(), hash_at);
        }
    }

    /// Moves the offset of an entry of this life forward. `None`: there is no such entry; `false`: it is there already.
    pub(crate) fn advance(
        &mut self,
        key: &str,
        life: Incarnation,
        offset: u64,
        guard: Guard,
        now_ns: i64,
    ) -> Option<bool> {
        let at = self.find(key)?;
        match self.place_mut(at)? {
            Place::Packed(packed) if incarnation(packed) == life => {
                if offset <= packed.offset {
                    return Some(false);
                }
                (packed.offset, packed.updated_ns) = (offset, now_ns);
                (packed.guard, packed.guard_len) = (guard.hash, guard.len);
            }
            Place::Whole(_, Record::File(entry)) if entry.incarnation == life => {
                if offset <= entry.offset {
                    return Some(false);
                }
                let entry = Arc::make_mut(entry);
                (entry.offset, entry.guard, entry.updated_ns) = (offset, guard, i128::from(now_ns));
                entry.intents.retain(|i| i.to > offset);
            }
            _ => return None,
        }
        self.settle(at);
        Some(true)
    }

    /// Changes an entry.
    pub(crate) fn change(&mut self, key: &Arc<str>, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.file(key) {
            change(Arc::make_mut(&mut entry));
            self.insert(key, Record::File(entry));
        }
    }

    /// Packs what has nothing unusual any more.
    fn settle(&mut self, at: u32) {
        let Some(Place::Whole(key, record)) = self.place(at) else { return };
        let (key, record) = (key.clone(), record.clone());
        if let Some(packed) = self.pack(&key, &record)
            && let Some(place) = self.place_mut(at)
        {
            *place = Place::Packed(packed);
        }
    }

    fn words(&mut self, words: &Arc<LogWords>) -> Option<u8> {
        let known = self.words.iter().position(|w| Arc::ptr_eq(w, words) || **w == **words);
        let at = known.unwrap_or(self.words.len());
        let number = u8::try_from(at).ok().filter(|at| *at < FILESTREAM)?;
        if known.is_none() {
            self.words.push(Arc::clone(words));
        }
        Some(number)
    }

    fn pack(&mut self, key: &CompactKey, record: &Record) -> Option<Packed> {
        let Record::File(entry) = record else { return None };
        if !entry.intents.is_empty() || entry.unknown.is_some() || entry.ttl_ns != -1 {
            return None;
        }
        let (ino, dev, words) = match &entry.kind {
            Kind::Log(log) => (log.ino, u32::try_from(log.dev).ok()?, self.words(&log.words)?),
            Kind::Filestream(FilestreamState { eof: Some(true), .. }) => return None,
            Kind::Filestream(state) => {
                let len = if state.fingerprint_len.is_some() { HAS_LEN } else { 0 };
                let eof = if state.eof.is_some() { HAS_EOF } else { 0 };
                (state.fingerprint_len.unwrap_or(0), 0, FILESTREAM | len | eof)
            }
        };
        let (text, prefix, ino, dev) = match *key {
            CompactKey::Native { ino: of, dev: on, prefix } if (of, on) == (ino, dev) => (None, prefix, ino, dev),
            CompactKey::Native { ino: of, dev: on, prefix } if words >= FILESTREAM && ino == 0 => {
                (None, prefix, of, on)
            }
            _ => (Some(Box::new(self.prefixes.text(key))), 0, ino, dev),
        };
        let id = entry.incarnation.0;
        Some(Packed {
            text,
            source: self.folders.compact(&entry.source),
            offset: entry.offset,
            updated_ns: i64::try_from(entry.updated_ns).ok()?,
            incarnation: [(id >> 64) as u64, id as u64],
            birth_ns: entry.birth_ns,
            guard: entry.guard.hash,
            ino,
            dev,
            prefix,
            words,
            guard_len: entry.guard.len,
        })
    }

    fn record(&self, key: &Arc<str>, place: &Place) -> Option<Record> {
        let packed = match place {
            Place::Free => return None,
            Place::Whole(_, record) => return Some(record.clone()),
            Place::Packed(packed) => packed,
        };
        let kind = if packed.words >= FILESTREAM {
            let has = |member: u8| packed.words & member != 0;
            let len = if packed.text.is_some() { packed.ino } else { 0 };
            Kind::Filestream(FilestreamState {
                fingerprint_len: has(HAS_LEN).then_some(len),
                eof: has(HAS_EOF).then_some(false),
            })
        } else {
            let words = Arc::clone(self.words.get(usize::from(packed.words))?);
            Kind::Log(LogState { ino: packed.ino, dev: u64::from(packed.dev), words })
        };
        Some(Record::File(Arc::new(Entry {
            key: Arc::clone(key),
            kind,
            source: self.folders.text(&packed.source),
            offset: packed.offset,
            ttl_ns: -1,
            updated_ns: i128::from(packed.updated_ns),
            incarnation: incarnation(packed),
            birth_ns: packed.birth_ns,
            guard: Guard { hash: packed.guard, len: packed.guard_len },
            intents: Vec::new(),
            unknown: None,
        })))
    }
}

fn incarnation(packed: &Packed) -> Incarnation {
    let [high, low] = packed.incarnation;
    Incarnation(u128::from(high) << 64 | u128::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Intent;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_thousands_of_files_took_is_given_back() {
        let (mut store, count) = (Store::default(), 20_000);
        let key = |n: u64| Arc::<str>::from(format!("filebeat::logs::native::{n}-1"));
        for n in 0..count {
            store.insert(&key(n), Record::Foreign(Arc::new(n.into())));
        }
        // All but one: from the beginning, from the end, from both.
        let orders: [fn(u64, u64) -> u64; 3] =
            [|n, _| n, |n, count| count - 1 - n, |n, count| if n % 2 == 0 { n / 2 } else { count - 1 - n / 2 }];
        // The one that stays is near the beginning, or near the end of the second-last block.
        for (order, stays) in orders.into_iter().flat_map(|order| [(order, 70), (order, count / 64 * 64 - 2)]) {
            let blocks = store.find(&key(stays)).unwrap() as usize / BLOCK + 1;
            for n in (0..count).map(|n| order(n, count)).filter(|n| *n != stays) {
                store.remove(&key(n)).unwrap();
            }
            let left = store.places.iter().filter(|block| block.capacity() > 0).count();
            assert_eq!((store.places.len(), left, store.free.len()), (blocks, 1, blocks * BLOCK - 1));
            let room = (store.index.capacity(), store.free.capacity());
            assert!(room.0 < 4 * SPARE && room.1 < 4 * SPARE.max(store.free.len()), "{room:?}");
            assert_eq!((store.len(), store.contains(&key(stays))), (1, true));
            for n in 0..count {
                store.insert(&key(n), Record::Foreign(Arc::new(n.into())));
            }
            assert!(store.len() as u64 == count && (0..count).all(|n| store.contains(&key(n))));
        }
    }

    #[test]
    fn a_quiet_file_costs_little() {
        assert!(size_of::<Place>() <= 96, "{} bytes", size_of::<Place>());
    }

    fn entry(n: u64, form: u8) -> Entry {
        let words = Arc::new(LogWords { input_type: "log".into(), prev_id: String::new(), meta: Vec::new() });
        let log = LogState { ino: n, dev: if form == 7 { u64::MAX } else { 7 }, words };
        let state = FilestreamState {
            fingerprint_len: match form {
                2 | 9 => Some(n),
                8 => Some(0),
                _ => None,
            },
            eof: [None, Some(false), Some(true)][usize::from(form) % 3],
        };
        Entry {
            key: match form {
                0 | 7 => format!("filebeat::logs::native::{n}-7"),
                1 => format!("filebeat::logs::native::{n}-8"),
                2 => format!("filestream::a::fingerprint::{n}"),
                10 => format!("filebeat::logs::path::/{n}.log"),
                _ => format!("filestream::a::native::{n}-7"),
            }
            .into(),
            kind: if matches!(form, 0 | 1 | 7 | 10) { Kind::Log(log) } else { Kind::Filestream(state) },
            source: format!("/{}/{n}.log", "long".repeat(usize::from(form % 4))).into(),
            offset: n,
            ttl_ns: if form == 4 { 1 } else { -1 },
            updated_ns: if form == 5 { i128::MAX } else { 5 },
            incarnation: Incarnation(u128::from(n) << 64 | u128::from(form)),
            birth_ns: NonZeroI64::new(n as i64 % 2),
            guard: Guard::of(&n.to_le_bytes()),
            intents: if form == 6 {
                vec![Intent { from: n, to: n + 1, read_ms: 1, guard: Guard::default() }]
            } else {
                Vec::new()
            },
            unknown: None,
        }
    }

    proptest! {
        /// Any insertions and removals: the store holds what a map holds.
        #[test]
        fn holds_what_a_map_holds(steps in prop::collection::vec((0..8_u64, 0..11_u8, any::<bool>(), 0..16_u64), 1..100)) {
            let (mut store, mut model) = (Store::default(), BTreeMap::new());
            for (n, form, put, to) in steps {
                let e = entry(n, form);
                if put {
                    store.insert(&e.key, Record::File(Arc::new(e.clone())));
                    model.insert(e.key.to_string(), e);
                } else if to % 2 == 0 {
                    prop_assert_eq!(store.remove(&e.key).is_some(), model.remove(&*e.key).is_some());
                } else {
                    let done = store.advance(&e.key, e.incarnation, to, Guard::of(b"x"), 9);
                    let known = model.get_mut(&*e.key).filter(|k| k.incarnation == e.incarnation);
                    prop_assert_eq!(done, known.as_ref().map(|k| to > k.offset));
                    if let Some(k) = known.filter(|k| to > k.offset) {
                        (k.offset, k.guard, k.updated_ns) = (to, Guard::of(b"x"), 9);
                        k.intents.retain(|i| i.to > to);
                    }
                }
                let mut all: Vec<Entry> = (0..store.end())
                    .filter_map(|at| store.at(at))
                    .filter_map(|(key, r)| match r { Record::File(e) if e.key == key => Some((*e).clone()), _ => None })
                    .collect();
                all.sort_by(|a, b| a.key.cmp(&b.key));
                prop_assert_eq!(&all, &model.values().cloned().collect::<Vec<_>>());
                for e in model.values() {
                    let key = store.compact(&e.key);
                    prop_assert_eq!(&store.text(&key), &e.key);
                    let kept = store.kept(&key).and_then(|kept| store.shown(&e.key, &kept));
                    prop_assert!(matches!(kept, Some(Record::File(shown)) if *shown == *e));
                    prop_assert_eq!(store.incarnation(&e.key), Some(e.incarnation));
                    let found = store.file(&e.key);
                    prop_assert_eq!(found.as_deref(), Some(e));
                }
            }
        }
    }
}
