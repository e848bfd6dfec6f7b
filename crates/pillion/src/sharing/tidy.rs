//! What a replica forgets: entries of shards that others have, and folders of dead replicas that nothing names any more.
//!
//! Comes in: what each look at the board showed. Goes out: removals, on threads that nobody waits for.
//!
//! Always holds: nothing goes before it was useless for an hour without a break, by the own monotonic clock: a file that was
//! renamed into another shard is found by its entry here, and a dead replica's registry may be the one that a note names.
//! One replica removes folders, whoever has shard 0, and only those whose lock is free. Tested below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_registry::{Entry, Removed, note, remove_replica};
use pillion_shards::{Board, Shard};
use pillion_world::Mono;

use super::adopt::Disk;
use super::drive::keepers;
use super::ours::{MAX_NAMES, replicas};

/// How long something must have been useless.
const USELESS: Duration = Duration::from_secs(3600);
/// How often folders are looked for.
const EVERY: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Default)]
pub(super) struct Tidy {
    /// Shards whose entries are in the own registry and that others have, and since when.
    left: BTreeMap<Shard, Mono>,
    /// Shards whose entries may be in the own registry.
    kept: BTreeSet<Shard>,
    next: Mono,
    folders: Arc<Mutex<Folders>>,
}

/// Folders that nothing names, and since when.
#[derive(Default)]
struct Folders(BTreeMap<String, Mono>);

impl Tidy {
    /// A shard's entries are here from now on.
    pub(super) fn took(&mut self, shard: Shard) {
        self.kept.insert(shard);
        self.left.remove(&shard);
    }

    /// A look showed this. `mine`: shards that are read here, or about to be.
    pub(super) fn looked(&mut self, board: &Board, mine: &BTreeSet<Shard>, disk: &Arc<Disk>, now: Mono) {
        let keepers = keepers(board);
        let useless = self.useless(&keepers, mine, &disk.member, now);
        if !useless.is_empty() {
            let disk = Arc::clone(disk);
            tokio::task::spawn_blocking(move || forget(&disk, &useless));
        }
        if now < self.next || !mine.contains(&Shard(0)) {
            return;
        }
        self.next = now.plus(EVERY);
        let mut named: BTreeSet<String> = keepers.into_values().collect();
        named.extend(board.beats.iter().map(|beat| beat.member.clone()));
        named.insert(disk.member.clone());
        let (disk, folders) = (Arc::clone(disk), Arc::clone(&self.folders));
        tokio::task::spawn_blocking(move || {
            // One that hangs holds up no other: the next one finds the lock taken, and goes.
            let mut folders = match folders.try_lock() {
                Ok(folders) => folders,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
                Err(std::sync::TryLockError::WouldBlock) => return,
            };
            let old = folders.old(&there(&disk), &named, now);
            if !old.is_empty() {
                remove(&disk, old);
            }
        });
    }

    /// Shards whose entries have been in another's registry for long enough.
    fn useless(
        &mut self,
        keepers: &BTreeMap<Shard, String>,
        mine: &BTreeSet<Shard>,
        member: &str,
        now: Mono,
    ) -> BTreeSet<Shard> {
        for shard in &self.kept {
            let others = !mine.contains(shard) && keepers.get(shard).is_some_and(|keeper| keeper != member);
            if others {
                self.left.entry(*shard).or_insert(now);
            } else {
                self.left.remove(shard);
            }
        }
        let old = self.left.iter().filter(|(_, since)| now.since(**since) >= USELESS);
        let old: BTreeSet<Shard> = old.map(|(shard, _)| *shard).collect();
        self.left.retain(|shard, _| !old.contains(shard));
        self.kept.retain(|shard| !old.contains(shard));
        old
    }
}

impl Folders {
    /// Those that nothing has named for long enough.
    fn old(&mut self, there: &BTreeSet<String>, named: &BTreeSet<String>, now: Mono) -> BTreeSet<String> {
        self.0.retain(|name, _| there.contains(name) && !named.contains(name));
        for name in there.difference(named) {
            self.0.entry(name.clone()).or_insert(now);
        }
        let old = self.0.iter().filter(|(_, since)| now.since(**since) >= USELESS);
        old.map(|(name, _)| name.clone()).collect()
    }
}

fn there(disk: &Disk) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // A folder that isn't listed now is removed another time: as many are looked at as replicas look at to find each other.
    let _ = disk.world.fs.read_dir(&replicas(&disk.root), &mut |entry| {
        let name = entry.name.to_string_lossy();
        if note::data_path(&disk.root, &name).is_some() {
            names.insert(name.into_owned());
        }
        names.len() < MAX_NAMES
    });
    names
}

fn forget(disk: &Disk, shards: &BTreeSet<Shard>) {
    let part = |entry: &Entry| disk.ours.shard(Path::new(&*entry.source)).is_some_and(|s| shards.contains(&s));
    let part = |entry: &Entry| part(entry) && !disk.ours.is_handed(&entry.key);
    let files = disk.registry.drop_part(&part);
    tracing::debug!(shards = shards.len(), files, "forgot files that other replicas have");
}

fn remove(disk: &Disk, mut old: BTreeSet<String>) {
    for shard in 0..disk.ours.shards() {
        match note::read(&disk.world, &disk.root, shard) {
            Ok(Some(note)) => {
                if let Some(member) = note::member_of(&note.registry) {
                    old.remove(member);
                }
            }
            Ok(None) => {}
            // What it names isn't known: nothing goes.
            Err(_) => return,
        }
    }
    for member in old {
        match remove_replica(&disk.world, &disk.root, &member) {
            Ok(Removed::Done) => tracing::info!(member, "removed the folder of a dead replica"),
            Ok(Removed::InUse) => {}
            Ok(Removed::Kept(strange)) => {
                tracing::warn!(member, ?strange, "the folder of a dead replica stays: something else lies in it");
            }
            Err(e) => tracing::debug!(member, "the folder of a dead replica can't be removed: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn entries_go_when_another_has_had_them_for_an_hour() {
        let mut tidy = Tidy::default();
        let mut useless = |keeper: &str, mine: &[u16], now: u64, took: bool| {
            if took {
                tidy.took(Shard(1));
            }
            let keepers = BTreeMap::from([(Shard(1), keeper.to_owned()), (Shard(2), "b".to_owned())]);
            let mine = mine.iter().map(|shard| Shard(*shard)).collect();
            tidy.useless(&keepers, &mine, "a", at(now)).into_iter().map(|s| s.0).collect::<Vec<_>>()
        };
        assert!(useless("a", &[1], 0, true).is_empty());
        assert!(useless("a", &[], 10, false).is_empty(), "given back, and nobody has taken it");
        assert!(useless("b", &[], 20, false).is_empty());
        assert!(useless("b", &[], 3619, false).is_empty());
        assert!(useless("b", &[1], 3620, false).is_empty(), "it is about to come back");
        assert!(useless("b", &[], 3630, false).is_empty(), "the hour begins anew");
        assert_eq!(useless("b", &[], 7230, false), [1]);
        assert!(useless("b", &[], 20_000, false).is_empty(), "once");
    }

    #[test]
    fn folders_go_when_nothing_has_named_them_for_an_hour() {
        let mut folders = Folders::default();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let there = set(&["a", "b", "c"]);
        assert!(folders.old(&there, &set(&["a"]), at(0)).is_empty());
        assert!(folders.old(&there, &set(&["a", "b"]), at(1800)).is_empty());
        assert_eq!(folders.old(&there, &set(&["a"]), at(3600)), set(&["c"]));
        assert_eq!(folders.old(&there, &set(&["a"]), at(7200)), set(&["b", "c"]));
        assert!(folders.old(&set(&["a"]), &set(&["a"]), at(9000)).is_empty());
    }
}
