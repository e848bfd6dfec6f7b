//! How far behind the owners are: what lies between their cursors and the ends of their files.
//!
//! Comes in: which registry has which shard. Goes out: files and bytes for each shard, and what couldn't be read.
//! Always holds: registries are read without trust, and paths in them are hints, looked at beneath the root alone. What isn't
//! known is said and not taken for nothing. Files that no registry knows yet aren't counted.
//! Tested below and by the command line's tests (`tests/run/shards.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pillion_registry::foreign::Bounds;
use pillion_registry::{Entry, Identifier, Options, live, note};
use pillion_shards::{Shard, Table, shard_of};
use pillion_world::{FileKind, World};

use crate::sharing::settings::Sharing;

/// Of one shard, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Files that the registry knows and that are there.
    pub(super) files: u64,
    /// Bytes between cursors and sizes.
    pub(super) bytes: u64,
}

/// How far behind each shard is; those whose registry can't be read aren't in it.
#[derive(Debug, Default)]
pub(super) struct Behind {
    pub(super) shards: BTreeMap<Shard, Count>,
}

impl Behind {
    /// Of some shards together; `None`: one of them isn't known.
    pub(super) fn of(&self, shards: impl IntoIterator<Item = Shard>) -> Option<Count> {
        shards.into_iter().try_fold(Count::default(), |sum, shard| {
            let one = self.shards.get(&shard)?;
            Some(Count { files: sum.files + one.files, bytes: sum.bytes.saturating_add(one.bytes) })
        })
    }
}

/// Reads the registries that the table names, and looks at their files; what couldn't be read is said beside it.
pub(super) fn measure(world: &World, sharing: &Sharing, table: &Table, options: &Options) -> (Behind, Vec<String>) {
    let mut behind = Behind::default();
    let mut problems = Vec::new();
    let mut keepers: BTreeMap<&str, BTreeSet<Shard>> = BTreeMap::new();
    for (shard, record) in table {
        match record.registry.as_deref().map(note::member_of) {
            Some(Some(member)) => drop(keepers.entry(member).or_default().insert(*shard)),
            Some(None) => problems.push(format!("shard {shard}: what the board names is no registry")),
            // Nobody has ever taken it in: none of its files is known.
            None => drop(behind.shards.insert(*shard, Count::default())),
        }
    }
    for (member, shards) in keepers {
        match of_one(world, sharing, member, &shards, options) {
            Ok(counts) => behind.shards.extend(counts),
            Err(why) => problems.push(format!("the registry of {member}: {why}")),
        }
    }
    (behind, problems)
}

fn of_one(
    world: &World,
    sharing: &Sharing,
    member: &str,
    shards: &BTreeSet<Shard>,
    options: &Options,
) -> Result<BTreeMap<Shard, Count>, String> {
    let data = note::data_path(&sharing.root, member).ok_or("it has no folder")?;
    let shard = |entry: &Entry| {
        use std::os::unix::ffi::OsStrExt as _;
        let relative = Path::new(&*entry.source).strip_prefix(&sharing.root).ok()?;
        let shard = shard_of(relative.as_os_str().as_bytes(), sharing.count);
        shards.contains(&shard).then_some(shard)
    };
    let part = |entry: &Entry| shard(entry).is_some();
    let read = live::read(world, &data, options, &Bounds::default(), &part).map_err(|e| e.to_string())?;
    let mut counts: BTreeMap<Shard, Count> = shards.iter().map(|shard| (*shard, Count::default())).collect();
    for entry in newest(&read.entries) {
        if let Some(count) = shard(entry).and_then(|shard| counts.get_mut(&shard))
            && let Some(len) = size(world, entry)
        {
            count.files += 1;
            count.bytes = count.bytes.saturating_add(len.saturating_sub(entry.offset));
        }
    }
    Ok(counts)
}

/// Of several entries of one path the one that was read furthest: where no inode number tells them apart, a file that began
/// anew has left one behind.
fn newest(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let mut of: BTreeMap<(&str, Option<u64>), &Entry> = BTreeMap::new();
    for entry in entries {
        let one = of.entry((&*entry.source, inode(entry))).or_insert(entry);
        if one.offset < entry.offset {
            *one = entry;
        }
    }
    of.into_values()
}

/// The inode number that an entry is tied to.
fn inode(entry: &Entry) -> Option<u64> {
    match entry.identifier() {
        Some(Identifier::Native { ino, .. } | Identifier::InodeMarker { ino, .. }) => Some(ino),
        _ => None,
    }
}

/// How long the entry's file is; `None`: it isn't there any more, or another one is.
fn size(world: &World, entry: &Entry) -> Option<u64> {
    let meta = world.fs.stat(Path::new(&*entry.source), false).ok()?;
    let is_it = inode(entry).is_none_or(|ino| ino == meta.ino);
    (is_it && meta.kind == FileKind::File).then_some(meta.len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_event::Incarnation;
    use pillion_registry::{FilestreamState, Kind};

    #[test]
    fn a_file_that_began_anew_counts_once() {
        let entry = |id: &Identifier, life: u128, offset| {
            let kind = Kind::Filestream(FilestreamState::default());
            let entry = Entry::new(kind, "jobs", id, "/logs/a.log".into(), Incarnation(life));
            Entry { offset, ..entry }
        };
        let print = |hash: &str| Identifier::Fingerprint(hash.into());
        let alike = [entry(&print("aa"), 1, 10), entry(&print("aa~bb"), 2, 30), entry(&print("cc"), 3, 20)];
        assert_eq!(newest(&alike).map(|e| e.offset).collect::<Vec<_>>(), [30]);
        // Inodes tell which of them is at the path.
        let inode = |ino| Identifier::Native { ino, dev: 0 };
        let rotated = [entry(&inode(7), 1, 10), entry(&inode(8), 2, 30)];
        assert_eq!(newest(&rotated).map(|e| e.offset).collect::<Vec<_>>(), [10, 30]);
    }
}
