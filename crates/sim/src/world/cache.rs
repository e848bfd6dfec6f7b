//! What a client of a network file system may still believe of names.
//!
//! Comes in: each change of a name, and when a directory was asked for its attributes. Goes out: what a name led to before
//! its last change, as long as a cache can remember that.
//!
//! Always holds: nothing is remembered of a directory that was asked for its attributes since its names changed last.
//! Tested in `tests.rs`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use pillion_world::Meta;

/// What a name led to before its last change.
#[derive(Clone, Copy)]
pub(super) struct Former {
    pub(super) meta: Meta,
    /// Tells it from a later file with the same inode number.
    pub(super) generation: u64,
}

/// The names that have changed, by directory.
#[derive(Default)]
pub(super) struct NameCache {
    before: BTreeMap<(u64, OsString), Option<Former>>,
    /// How often the names in a directory have changed.
    changes: BTreeMap<u64, u64>,
    /// How often they had when the directory's attributes were asked for last.
    asked: BTreeMap<u64, u64>,
}

impl NameCache {
    /// A name is about to change.
    pub(super) fn changes(&mut self, dir: u64, name: &OsStr, former: Option<Former>) {
        self.before.insert((dir, name.to_owned()), former);
        *self.changes.entry(dir).or_default() += 1;
    }

    /// What a name led to, where a cache may remember that.
    pub(super) fn before(&self, dir: u64, name: &OsStr) -> Option<Option<Former>> {
        if self.is_up_to_date(dir) {
            return None;
        }
        self.before.get(&(dir, name.to_owned())).copied()
    }

    /// The names of a directory that have changed, each with the inode that it led to before.
    pub(super) fn names_before(&self, dir: u64) -> impl Iterator<Item = (&OsString, Option<u64>)> {
        let of_dir = self.before.iter().filter(move |((d, _), _)| *d == dir);
        of_dir.map(|((_, name), before)| (name, before.map(|b| b.meta.ino)))
    }

    /// Whether a directory's attributes were asked for since its names have changed last.
    pub(super) fn is_up_to_date(&self, dir: u64) -> bool {
        self.changes.get(&dir) == self.asked.get(&dir)
    }

    /// The server was asked for a directory's attributes: what is cached of its names is thrown away if they have changed.
    pub(super) fn ask(&mut self, dir: u64) {
        if let Some(n) = self.changes.get(&dir) {
            self.asked.insert(dir, *n);
        }
    }
}
