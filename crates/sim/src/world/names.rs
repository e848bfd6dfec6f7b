//! Changes of names that aren't durable yet.
//!
//! Comes in: what the process under test did to names. Goes out: which of it belongs to a directory, or to a name. Always holds:
//! what changes the same name keeps its order. Tested in `tests.rs`.

use std::ffi::OsString;

/// A change of names that isn't durable yet.
pub(super) enum NameChange {
    Link { dir: u64, name: OsString, ino: u64 },
    Unlink { dir: u64, name: OsString },
    Rename { from: (u64, OsString), to: (u64, OsString), ino: u64 },
}

impl NameChange {
    /// Whether it is made durable with this directory.
    pub(super) fn touches(&self, dir: u64) -> bool {
        match self {
            NameChange::Link { dir: d, .. } | NameChange::Unlink { dir: d, .. } => *d == dir,
            NameChange::Rename { from, to, .. } => from.0 == dir || to.0 == dir,
        }
    }

    /// Whether both change one name.
    pub(super) fn meets(&self, other: &NameChange) -> bool {
        self.changed().any(|name| other.changed().any(|o| o == name))
    }

    fn changed(&self) -> impl Iterator<Item = (u64, &OsString)> {
        let (one, two) = match self {
            NameChange::Link { dir, name, .. } | NameChange::Unlink { dir, name } => ((*dir, name), None),
            NameChange::Rename { from, to, .. } => ((from.0, &from.1), Some((to.0, &to.1))),
        };
        std::iter::once(one).chain(two)
    }
}
