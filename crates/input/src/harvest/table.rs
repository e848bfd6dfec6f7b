//! The files that are known, and how they are found.
//!
//! Always holds: each file is in the slab once; by its inode (or path, see [`FileState::by_path`]) within the group of
//! inputs that share registry keys; the path index names the file that was last seen at a path; a registry key belongs
//! to one file. The indexes hold nothing but the files' places (5 bytes each): what a file is found by stands in the
//! file alone, and changes only through [`Table`]. Of several files with the same, the last one is found. A quiet file
//! lies there as [`Cold`] until somebody finds it by what it is, or a search doesn't see it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashTable;

use pillion_registry::{PathParts, Prefixes, hash_of, path_parts};
use pillion_world::{Meta, Mono};

use crate::harvest::cold::{Cold, Common};
use crate::harvest::file::{FileState, Tally};
use crate::harvest::path::FilePath;
use crate::harvest::sums::Sums;

/// A file's place in the table; used again after it is removed.
pub(crate) type FileId = u32;

/// A hasher with a fixed key, so that one seed replays a run.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// How many files lie beside each other.
const BLOCK: usize = 32;

/// One file.
enum Place {
    Free,
    Hot(Box<FileState>),
    Cold(Cold),
}

/// A file without a name and without a descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Gone {
    pub(crate) id: FileId,
    pub(crate) input: u16,
    pub(crate) group: u16,
    /// The search in which it lost its name.
    pub(crate) gone_in: u32,
    /// When that was.
    pub(crate) since: Mono,
    /// It is known to have no other one.
    pub(crate) deleted: bool,
}

/// What a file is found by.
struct View<'a> {
    group: u16,
    by_path: bool,
    dev: u64,
    ino: u64,
    path: PathParts<'a>,
}

impl Place {
    fn hot(&self) -> Option<&FileState> {
        match self {
            Place::Hot(file) => Some(file),
            _ => None,
        }
    }

    fn view<'a>(&'a self, common: &'a Common) -> Option<View<'a>> {
        match self {
            Place::Free => None,
            Place::Hot(f) => Some(view(f)),
            Place::Cold(c) => {
                let dev = u64::from(c.dev);
                Some(View { group: c.group, by_path: c.is_by_path(), dev, ino: c.ino, path: c.path_parts(common) })
            }
        }
    }
}

fn parts(path: &Path) -> PathParts<'_> {
    path_parts(path.as_os_str().as_bytes())
}

fn view(f: &FileState) -> View<'_> {
    View { group: f.group, by_path: f.by_path, dev: f.dev, ino: f.ino, path: parts(&f.path) }
}

/// The files in blocks of [`BLOCK`], which never move: of a burst's short-lived memory nothing lies between them, and so
/// no holes stay there. All blocks but the last are full of places.
#[derive(Default)]
pub(super) struct Files(Vec<Vec<Place>>);

impl Files {
    fn place_mut(&mut self, id: FileId) -> Option<&mut Place> {
        self.0.get_mut(id as usize / BLOCK)?.get_mut(id as usize % BLOCK)
    }

    fn place(&self, id: FileId) -> Option<&Place> {
        self.0.get(id as usize / BLOCK)?.get(id as usize % BLOCK)
    }

    fn get(&self, id: FileId) -> Option<&FileState> {
        self.place(id)?.hot()
    }

    pub(super) fn hot_mut(&mut self, id: FileId) -> Option<&mut FileState> {
        match self.place_mut(id)? {
            Place::Hot(file) => Some(file),
            _ => None,
        }
    }

    fn view<'a>(&'a self, id: FileId, common: &'a Common) -> Option<View<'a>> {
        self.place(id)?.view(common)
    }

    /// How many places there are.
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * BLOCK + last.len())
    }

    fn push(&mut self, place: Place) -> FileId {
        let id = self.len() as FileId;
        if self.0.last().is_none_or(|last| last.len() == BLOCK) {
            self.0.push(Vec::with_capacity(BLOCK));
        }
        if let Some(last) = self.0.last_mut() {
            last.push(place);
        }
        id
    }

    fn put(&mut self, id: FileId, file: Place) {
        if let Some(place) = self.place_mut(id) {
            *place = file;
        }
    }
}

#[derive(Default)]
pub(crate) struct Table {
    pub(super) files: Files,
    free: Vec<FileId>,
    slots: HashTable<FileId>,
    paths: HashTable<FileId>,
    keys: HashTable<FileId>,
    pub(super) common: Common,
    /// Files that may have become quiet.
    cooling: Vec<FileId>,
    pub(super) sums: Sums,
    /// How many aren't.
    hot: usize,
    /// What was read of files until they became quiet.
    cooled: Tally,
}

fn hash(what: impl Hash) -> u64 {
    Fixed::default().hash_one(what)
}

/// What tells files apart in memory: device and inode, or the path.
fn slot_hash(file: &View<'_>) -> u64 {
    if file.by_path { hash((file.group, file.path)) } else { hash((file.group, file.dev, file.ino)) }
}

pub(crate) fn path_hash(group: u16, path: &Path) -> u64 {
    hash((group, parts(path)))
}

fn same_slot(a: &View<'_>, b: &View<'_>) -> bool {
    let same = if a.by_path { a.path == b.path } else { (a.dev, a.ino) == (b.dev, b.ino) };
    same && a.by_path == b.by_path && a.group == b.group
}

/// Puts a file into an index, in the place of one that has the same.
fn enter(index: &mut HashTable<FileId>, id: FileId, hash: impl Fn(FileId) -> u64, same: impl Fn(FileId) -> bool) {
    let mine = hash(id);
    match index.find_mut(mine, |other| same(*other)) {
        Some(place) => *place = id,
        None => drop(index.insert_unique(mine, id, |other| hash(*other))),
    }
}

/// Takes a file out of an index, unless another one stands in its place.
fn leave(index: &mut HashTable<FileId>, hash: u64, id: FileId) {
    if let Ok(found) = index.find_entry(hash, |other| *other == id) {
        found.remove();
    }
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.files.len() - self.free.len()
    }

    /// What was read of files until they became quiet: what isn't in the numbers of those that are here.
    pub(crate) fn cooled(&self) -> Tally {
        self.cooled
    }

    /// How many files aren't quiet.
    pub(crate) fn hot(&self) -> usize {
        self.hot
    }

    /// One more than the largest id.
    pub(crate) fn end(&self) -> FileId {
        self.files.len() as FileId
    }

    /// A file; `None` also for one that is quiet. Whoever has found a file by what it is finds it thawed.
    pub(crate) fn get(&self, id: FileId) -> Option<&FileState> {
        self.files.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: FileId) -> Option<&mut FileState> {
        let file = self.files.hot_mut(id)?;
        self.sums.touch(id, file);
        Some(file)
    }

    /// All files but the quiet ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (FileId, &FileState)> {
        (0..).zip(self.files.0.iter().flatten()).filter_map(|(id, place)| Some((id, place.hot()?)))
    }

    /// The quiet ones.
    pub(crate) fn quiet(&self) -> impl Iterator<Item = &Cold> {
        let cold = |place: &'_ Place| matches!(place, Place::Cold(_));
        self.files.0.iter().flatten().filter(move |place| cold(place)).filter_map(|place| match place {
            Place::Cold(cold) => Some(cold),
            _ => None,
        })
    }

    /// A quiet file by its place.
    pub(crate) fn quiet_mut(&mut self, id: FileId) -> Option<&mut Cold> {
        match self.files.place_mut(id)? {
            Place::Cold(cold) => Some(cold),
            _ => None,
        }
    }

    /// A file of an input, a quiet one as it is when it isn't: it stays as it is.
    pub(crate) fn peek<T>(&self, id: FileId, input: usize, look: impl FnOnce(&FileState) -> T) -> Option<T> {
        match self.files.place(id)? {
            Place::Hot(f) if usize::from(f.input) == input => Some(look(f)),
            Place::Cold(cold) if usize::from(cold.input) == input => Some(look(&self.thawed(cold))),
            _ => None,
        }
    }

    /// The file that was last seen at a path, a quiet one as it is when it isn't: it stays as it is.
    pub(crate) fn peek_at<T>(&self, group: u16, path: &Path, look: impl FnOnce(&FileState) -> T) -> Option<T> {
        match self.files.place(self.find_path(group, path)?)? {
            Place::Free => None,
            Place::Hot(f) => Some(look(f)),
            Place::Cold(cold) => Some(look(&self.thawed(cold))),
        }
    }

    /// The same of the file that has an inode.
    pub(crate) fn peek_inode<T>(
        &self,
        group: u16,
        dev: u64,
        ino: u64,
        look: impl FnOnce(&FileState) -> T,
    ) -> Option<T> {
        match self.files.place(self.find_inode(group, dev, ino)?)? {
            Place::Free => None,
            Place::Hot(f) => Some(look(f)),
            Place::Cold(cold) => Some(look(&self.thawed(cold))),
        }
    }

    /// A quiet file as it is when it isn't.
    pub(crate) fn thawed(&self, cold: &Cold) -> FileState {
        cold.thaw(&self.common)
    }

    /// The file of an input that was last seen at this path, if it rests there.
    pub(crate) fn resting_at(&self, group: u16, input: u16, path: &Path) -> Option<FileId> {
        let id = self.find_path(group, path)?;
        let rests = match self.files.place(id)? {
            Place::Free => false,
            Place::Hot(f) => f.input == input && f.rests() && !f.gone && f.missed == 0,
            Place::Cold(cold) => cold.input == input && !cold.is_gone(),
        };
        rests.then_some(id)
    }

    /// Notes that a search has seen a file that rests just as it is known. False: something has happened to it.
    pub(crate) fn saw(&mut self, id: FileId, seen: &Meta, search: u32) -> bool {
        let number = match self.files.place_mut(id) {
            Some(Place::Hot(f)) if f.is_unchanged(seen) => {
                f.forget_source();
                &mut f.seen
            }
            Some(Place::Cold(cold)) if cold.is_unchanged(seen) => &mut cold.seen,
            _ => return false,
        };
        *number = search;
        true
    }

    /// Something happens to a file, if it is one of those that are meant.
    pub(crate) fn thaw_if(&mut self, id: FileId, meant: impl Fn(&Cold) -> bool) {
        if let Some(place) = self.files.place_mut(id)
            && let Place::Cold(cold) = place
            && meant(cold)
        {
            *place = Place::Hot(Box::new(cold.thaw(&self.common)));
            self.hot += 1;
            self.cooling.push(id);
        }
    }

    fn thaw(&mut self, id: FileId) -> FileId {
        self.thaw_if(id, |_| true);
        id
    }

    /// A file may have become quiet: it is looked at by the next [`Table::cool`].
    pub(crate) fn cools(&mut self, id: FileId) {
        if self.get(id).is_some_and(|f| f.fd.is_none() && f.look_at.is_none() && !f.queued) {
            self.cooling.push(id);
        }
    }

    /// Makes those small that are quiet. Nobody may hold on to what he knows of a file beyond this.
    pub(crate) fn cool(&mut self) {
        while let Some(id) = self.cooling.pop() {
            if let Some(place) = self.files.place_mut(id)
                && let Some((cold, tally)) =
                    place.hot().and_then(|f| Some((Cold::of(f, &mut self.common)?, f.tally.total())))
            {
                self.cooled.add(&tally);
                *place = Place::Cold(cold);
                self.hot -= 1;
            }
        }
    }

    pub(crate) fn insert(&mut self, group: u16, file: FileState) -> FileId {
        let place = Place::Hot(Box::new(FileState { group, ..file }));
        self.hot += 1;
        let id = match self.free.pop() {
            Some(id) => {
                self.files.put(id, place);
                id
            }
            None => self.files.push(place),
        };
        self.enter_place(id);
        // Its size counts from now on.
        self.get_mut(id);
        id
    }

    pub(crate) fn remove(&mut self, id: FileId) -> Option<FileState> {
        self.thaw(id);
        self.leave_place(id);
        let Place::Hot(mut file) = std::mem::replace(self.files.place_mut(id)?, Place::Free) else { return None };
        self.sums.leave(&mut file);
        self.hot -= 1;
        if let Some(key) = &file.key {
            leave(&mut self.keys, hash_of(key), id);
        }
        self.free.push(id);
        Some(*file)
    }

    fn enter_place(&mut self, id: FileId) {
        let (files, common) = (&self.files, &self.common);
        let Some(file) = files.view(id, common) else { return };
        let slot = |id: FileId| files.view(id, common).map_or(0, |f| slot_hash(&f));
        enter(&mut self.slots, id, slot, |other| files.view(other, common).is_some_and(|o| same_slot(&file, &o)));
        let path = |id: FileId| files.view(id, common).map_or(0, |f| hash((f.group, f.path)));
        let same =
            |other: FileId| files.view(other, common).is_some_and(|o| (o.group, o.path) == (file.group, file.path));
        enter(&mut self.paths, id, path, same);
    }

    fn leave_place(&mut self, id: FileId) {
        let Some(file) = self.files.view(id, &self.common) else { return };
        leave(&mut self.slots, slot_hash(&file), id);
        leave(&mut self.paths, hash((file.group, file.path)), id);
    }

    pub(crate) fn by_inode(&mut self, group: u16, dev: u64, ino: u64) -> Option<FileId> {
        let found = self.find_inode(group, dev, ino)?;
        Some(self.thaw(found))
    }

    fn find_inode(&self, group: u16, dev: u64, ino: u64) -> Option<FileId> {
        let (files, common) = (&self.files, &self.common);
        let is_it = |f: View<'_>| !f.by_path && (f.group, f.dev, f.ino) == (group, dev, ino);
        let is_it = |id: &FileId| files.view(*id, common).is_some_and(is_it);
        self.slots.find(hash((group, dev, ino)), is_it).copied()
    }

    fn find_path(&self, group: u16, path: &Path) -> Option<FileId> {
        let mine = (group, parts(path));
        let is_it = |id: &FileId| self.files.view(*id, &self.common).is_some_and(|f| (f.group, f.path) == mine);
        self.paths.find(hash(mine), is_it).copied()
    }

    /// The text of a path at which a file is known.
    pub(crate) fn known_path(&self, group: u16, path: &Path) -> Option<FilePath> {
        self.path_of(self.find_path(group, path)?)
    }

    /// Where a file was last seen, a quiet one too.
    pub(crate) fn path_of(&self, id: FileId) -> Option<FilePath> {
        match self.files.place(id)? {
            Place::Free => None,
            Place::Hot(f) => Some(f.path.clone()),
            Place::Cold(c) => Some(c.path(&self.common)),
        }
    }

    /// The files without a name and without a descriptor.
    pub(crate) fn gone(&self) -> impl Iterator<Item = Gone> {
        (0..).zip(self.files.0.iter().flatten()).filter_map(|(id, place)| match place {
            Place::Hot(f) if f.gone && f.fd.is_none() => {
                let (since, deleted) = (f.active, f.deleted);
                Some(Gone { id, input: f.input, group: f.group, gone_in: f.gone_in, since, deleted })
            }
            Place::Cold(c) if c.is_gone() => {
                let (since, deleted) = (c.active, false);
                Some(Gone { id, input: c.input, group: c.group, gone_in: c.gone_in, since, deleted })
            }
            _ => None,
        })
    }

    /// Notes of a file without a name in which search it lost that.
    pub(crate) fn set_gone_in(&mut self, id: FileId, search: u32) {
        match self.files.place_mut(id) {
            Some(Place::Hot(f)) => f.gone_in = search,
            Some(Place::Cold(c)) => c.gone_in = search,
            _ => {}
        }
    }

    /// The file that was last seen at this path.
    pub(crate) fn by_path(&mut self, group: u16, path: &Path) -> Option<FileId> {
        let found = self.find_path(group, path)?;
        Some(self.thaw(found))
    }

    fn has_key(files: &Files, prefixes: &Prefixes, id: FileId, key: &str) -> bool {
        match files.place(id) {
            Some(Place::Hot(f)) => f.key.as_ref().is_some_and(|own| prefixes.is(own, key)),
            Some(Place::Cold(c)) => c.has_key(key, prefixes),
            _ => false,
        }
    }

    /// The key of a file that isn't quiet.
    pub(crate) fn key(&self, id: FileId) -> Option<Arc<str>> {
        self.key_of(self.get(id)?)
    }

    /// The same, of a file that may have left the table.
    pub(crate) fn key_of(&self, file: &FileState) -> Option<Arc<str>> {
        file.key.as_ref().map(|key| self.common.prefixes.text(key))
    }

    /// The file that has a key.
    pub(crate) fn owner(&mut self, key: &str) -> Option<FileId> {
        let (files, prefixes) = (&self.files, &self.common.prefixes);
        let is_it = |id: &FileId| Table::has_key(files, prefixes, *id, key);
        let found = self.keys.find(prefixes.hash(key), is_it).copied()?;
        Some(self.thaw(found))
    }

    /// Whether a file has a key; a quiet one stays as it is.
    pub(crate) fn has_owner(&self, key: &str) -> bool {
        let prefixes = &self.common.prefixes;
        let is_it = |id: &FileId| Table::has_key(&self.files, prefixes, *id, key);
        self.keys.find(prefixes.hash(key), is_it).is_some()
    }

    /// Gives a file a key, in the place of the one that it has.
    pub(crate) fn own_key(&mut self, id: FileId, key: &Arc<str>) {
        self.free_key(id);
        // Its prefix has to be known before it is hashed.
        let own = self.common.prefixes.compact(key);
        let Some(file) = self.get_mut(id) else { return };
        file.key = Some(own);
        let (files, prefixes) = (&self.files, &self.common.prefixes);
        let hash = |id: FileId| match files.place(id) {
            Some(Place::Hot(f)) => f.key.as_ref().map_or(0, hash_of),
            Some(Place::Cold(c)) => c.key_hash(prefixes),
            _ => 0,
        };
        enter(&mut self.keys, id, hash, |other| Table::has_key(files, prefixes, other, key));
    }

    /// Takes a file's key away.
    pub(crate) fn free_key(&mut self, id: FileId) -> Option<Arc<str>> {
        let key = self.get_mut(id)?.key.take()?;
        let key = self.common.prefixes.text(&key);
        leave(&mut self.keys, self.common.prefixes.hash(&key), id);
        Some(key)
    }

    /// Changes where a file is found.
    pub(crate) fn relocate(&mut self, group: u16, id: FileId, change: impl FnOnce(&mut FileState)) {
        self.leave_place(id);
        let Some(file) = self.get_mut(id) else { return };
        change(file);
        file.group = group;
        self.enter_place(id);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use pillion_event::Incarnation;
    use pillion_world::{FileKind, Mono};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    #[test]
    fn a_place_is_no_larger_than_a_quiet_file() {
        assert_eq!(size_of::<super::Place>(), size_of::<Cold>());
    }

    pub(crate) fn file(path: &str, ino: u64, by_path: bool) -> FileState {
        let meta = Meta {
            kind: FileKind::File,
            len: 1,
            ino,
            dev: 1,
            mtime_ns: 0,
            birth_ns: None,
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
        };
        let state = FileState::new(0, PathBuf::from(path), &meta, Incarnation(1), Mono(0));
        FileState { by_path, ..state }
    }

    /// What the indexes should say: by inode or path, by path, by key.
    #[derive(Default)]
    struct Model {
        slots: BTreeMap<(u16, Result<u64, String>), FileId>,
        paths: BTreeMap<(u16, String), FileId>,
        keys: BTreeMap<String, FileId>,
    }

    type Place = (u16, u64, bool, u8);

    fn slot((group, ino, by_path, path): Place) -> (u16, Result<u64, String>) {
        (group, if by_path { Err(format!("/{path}")) } else { Ok(ino) })
    }

    impl Model {
        fn leave(&mut self, id: FileId) {
            self.slots.retain(|_, i| *i != id);
            self.paths.retain(|_, i| *i != id);
        }

        fn enter(&mut self, id: FileId, place: Place) {
            self.slots.insert(slot(place), id);
            self.paths.insert((place.0, format!("/{}", place.3)), id);
        }
    }

    proptest! {
        /// Any insertions, moves, removals and keys: the table finds what the model finds.
        #[test]
        fn finds_what_a_map_would_find(
            steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>(), 0..2_u16, 0..6_u64, any::<bool>(), 0..6_u8), 1..120)
        ) {
            let (mut table, mut model, mut ids) = (Table::default(), Model::default(), Vec::new());
            for (what, pick, group, ino, by_path, path) in steps {
                let place = (group, ino, by_path, path);
                let (text, key) = (format!("/{path}"), format!("native::{ino}-1"));
                let picked = (!ids.is_empty()).then(|| pick.index(ids.len()));
                match (what, picked) {
                    (0, _) | (_, None) => {
                        let id = table.insert(group, file(&text, ino, by_path));
                        model.enter(id, place);
                        ids.push(id);
                    }
                    (1, Some(at)) => {
                        let id = ids.swap_remove(at);
                        prop_assert!(table.remove(id).is_some());
                        model.leave(id);
                        model.keys.retain(|_, i| *i != id);
                    }
                    (2, Some(at)) => {
                        table.thaw(ids[at]);
                        table.relocate(group, ids[at], |f| {
                            (f.path, f.ino, f.by_path) = (PathBuf::from(&text).into(), ino, by_path);
                        });
                        model.leave(ids[at]);
                        model.enter(ids[at], place);
                    }
                    (3, Some(at)) => {
                        table.thaw(ids[at]);
                        table.own_key(ids[at], &key.as_str().into());
                        model.keys.retain(|_, i| *i != ids[at]);
                        model.keys.insert(key, ids[at]);
                    }
                    (_, Some(at)) => {
                        table.thaw(ids[at]);
                        table.free_key(ids[at]);
                        model.keys.retain(|_, i| *i != ids[at]);
                    }
                }
                prop_assert_eq!(table.len(), ids.len());
                // Every second one is quiet by now.
                for id in ids.iter().step_by(2) {
                    if let Some(f) = table.get_mut(*id) {
                        (f.pos, f.scanned_to) = (f.len, f.len);
                    }
                    table.cools(*id);
                }
                table.cool();
                for group in 0..2 {
                    for n in 0..6_u8 {
                        let text = format!("/{n}");
                        prop_assert_eq!(table.by_path(group, Path::new(&text)), model.paths.get(&(group, text)).copied());
                        let ino = u64::from(n);
                        prop_assert_eq!(table.by_inode(group, 1, ino), model.slots.get(&(group, Ok(ino))).copied());
                        let key = format!("native::{n}-1");
                        prop_assert_eq!(table.owner(&key), model.keys.get(&key).copied());
                    }
                }
            }
        }
    }
}
