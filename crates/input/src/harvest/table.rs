//! The files that are known, and how they are found.
//!
//! Always holds: each file is in the slab once; by its inode (or path, see [`FileState::by_path`]) within the group of
//! inputs that share registry keys; the path index names the file that was last seen at a path; a registry key belongs
//! to one file.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::harvest::file::FileState;

/// A file's place in the table; used again after it is removed.
pub(crate) type FileId = u32;

/// A hasher with a fixed key, so that one seed replays a run.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// What tells files apart in memory: a group of inputs, then device and inode, or the hash of the path.
type Slot = (u16, u64, u64);

/// Marks slots that are about paths.
const BY_PATH: u16 = 0x8000;

#[derive(Default)]
pub(crate) struct Table {
    files: Vec<Option<Box<FileState>>>,
    free: Vec<FileId>,
    slots: HashMap<Slot, FileId, Fixed>,
    paths: HashMap<(u16, u64), FileId, Fixed>,
    keys: HashMap<Arc<str>, FileId, Fixed>,
}

fn hash(path: &Path) -> u64 {
    Fixed::default().hash_one(path.as_os_str().as_bytes())
}

fn slot(group: u16, file: &FileState) -> Slot {
    if file.by_path { (group | BY_PATH, hash(&file.path), 0) } else { (group, file.dev, file.ino) }
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.files.len() - self.free.len()
    }

    /// One more than the largest id.
    pub(crate) fn end(&self) -> FileId {
        self.files.len() as FileId
    }

    pub(crate) fn get(&self, id: FileId) -> Option<&FileState> {
        self.files.get(id as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: FileId) -> Option<&mut FileState> {
        self.files.get_mut(id as usize)?.as_deref_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (FileId, &FileState)> {
        self.files.iter().enumerate().filter_map(|(i, f)| Some((i as FileId, f.as_deref()?)))
    }

    pub(crate) fn insert(&mut self, group: u16, file: FileState) -> FileId {
        let (slot, path) = (slot(group, &file), (group, hash(&file.path)));
        let id = self.free.pop().unwrap_or_else(|| {
            self.files.push(None);
            self.files.len() as FileId - 1
        });
        self.slots.insert(slot, id);
        self.paths.insert(path, id);
        self.files[id as usize] = Some(Box::new(file));
        id
    }

    pub(crate) fn remove(&mut self, group: u16, id: FileId) -> Option<FileState> {
        let file = self.files.get_mut(id as usize)?.take()?;
        self.drop_slot(group, id, &file);
        if let Some(key) = &file.key {
            self.free_key(id, key);
        }
        self.free.push(id);
        Some(*file)
    }

    fn drop_slot(&mut self, group: u16, id: FileId, file: &FileState) {
        let (slot, path) = (slot(group, file), (group, hash(&file.path)));
        if self.slots.get(&slot) == Some(&id) {
            self.slots.remove(&slot);
        }
        if self.paths.get(&path) == Some(&id) {
            self.paths.remove(&path);
        }
    }

    pub(crate) fn by_inode(&self, group: u16, dev: u64, ino: u64) -> Option<FileId> {
        self.slots.get(&(group, dev, ino)).copied()
    }

    /// The file that was last seen at this path.
    pub(crate) fn by_path(&self, group: u16, path: &Path) -> Option<FileId> {
        let id = *self.paths.get(&(group, hash(path)))?;
        (self.get(id)?.path == path).then_some(id)
    }

    pub(crate) fn owner(&self, key: &str) -> Option<FileId> {
        self.keys.get(key).copied()
    }

    pub(crate) fn own_key(&mut self, id: FileId, key: &Arc<str>) {
        self.keys.insert(Arc::clone(key), id);
    }

    pub(crate) fn free_key(&mut self, id: FileId, key: &str) {
        if self.keys.get(key) == Some(&id) {
            self.keys.remove(key);
        }
    }

    /// Changes where a file is found.
    pub(crate) fn relocate(&mut self, group: u16, id: FileId, change: impl FnOnce(&mut FileState)) {
        let Some(mut file) = self.files.get_mut(id as usize).and_then(Option::take) else { return };
        self.drop_slot(group, id, &file);
        change(&mut file);
        self.slots.insert(slot(group, &file), id);
        self.paths.insert((group, hash(&file.path)), id);
        self.files[id as usize] = Some(file);
    }
}
