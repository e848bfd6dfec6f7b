//! What a replica does on the shared file system for a shard: finding the highest epoch, and taking over cursors.
//!
//! Comes in: which shards, and which registries the board names. Goes out: the name of the own registry once it holds the
//! cursors durably, or nothing; why not is said.
//!
//! ```text
//! the registry that the board names, or the note's when that is newer ─▶ copied into the own one ─▶ synced ─▶ noted
//! ```
//! Always holds: the note names a registry only after the cursors are durable in it; what can't be read makes the taking
//! fail, and is never taken for nothing. All of it may block for as long as the file system does: it is called on threads
//! that nobody waits for.
//! Tested below, with crashes in `registry/tests/handover.rs`, and by the command line's tests (`tests/run/replicas.rs`).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillion_registry::foreign::Bounds;
use pillion_registry::note::{self, Wrote};
use pillion_registry::{Entry, Error, Options, Registry, live};
use pillion_shards::{Adopted, Shard};
use pillion_world::World;

use super::divided::divides_otherwise;
use super::ours::Ours;

/// Entries that are read of one registry at most: as many as a registry may have.
const MAX_ENTRIES: usize = 1_000_000;
/// Bytes of one of its files that are read at most.
const MAX_FILE: u64 = 1 << 30;

/// A shard to take.
#[derive(Clone, Debug)]
pub(crate) struct Taking {
    pub(crate) shard: Shard,
    pub(crate) epoch: u64,
    /// The registry that the board names.
    pub(crate) from: Option<String>,
}

/// The replicas' folder on the shared file system, as this replica uses it.
pub(crate) struct Disk {
    /// In which nothing leads out of the shared root.
    pub(crate) world: World,
    pub(crate) root: PathBuf,
    pub(crate) member: String,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ours: Arc<Ours>,
    /// One at a time: several takings of one registry would each read it whole.
    pub(crate) busy: Mutex<()>,
    /// Under which epoch each shard is to be taken now: a taking that waited too long is none any more.
    pub(crate) current: Mutex<BTreeMap<Shard, u64>>,
    /// Who divides the files otherwise, as it was said last.
    pub(crate) divided: Mutex<Option<String>>,
}

/// Nothing that holds one of these locks leaves a half-made change behind when it panics.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// A shard is to be taken under this epoch, or not at all.
    pub(crate) fn is_to_take(&self, shard: Shard, epoch: Option<u64>) {
        let mut current = lock(&self.current);
        match epoch {
            Some(epoch) => drop(current.insert(shard, epoch)),
            None => drop(current.remove(&shard)),
        }
    }

    /// Somebody has removed the own registry, which never comes again: why this replica must end.
    pub(crate) fn is_gone(&self) -> Option<String> {
        let data = note::data_path(&self.root, &self.member)?;
        let looked = self.world.fs.stat(&data, false);
        matches!(&looked, Err(e) if e.kind() == io::ErrorKind::NotFound)
            .then(|| format!("{} was removed: the registry of this replica isn't there any more", data.display()))
    }

    /// The highest epoch of each shard that the notes have, 0 = none; `None`: one can't be read.
    pub(crate) fn probe(&self, shards: &[Shard]) -> Option<BTreeMap<Shard, u64>> {
        let mut found = BTreeMap::new();
        for shard in shards {
            match note::read(&self.world, &self.root, shard.0) {
                Ok(note) => drop(found.insert(*shard, note.map_or(0, |note| note.epoch))),
                Err(e) => {
                    tracing::warn!(%shard, "the shard can't be taken: {e}");
                    return None;
                }
            }
        }
        Some(found)
    }

    /// Takes over what the registries hold of these shards. For each shard, in the same order: what came of it.
    pub(crate) fn adopt(&self, takings: &[Taking]) -> Vec<Adopted> {
        let _one = lock(&self.busy);
        if self.is_divided_otherwise() {
            return vec![Adopted::Not; takings.len()];
        }
        let is_current = |taking: &&Taking| lock(&self.current).get(&taking.shard) == Some(&taking.epoch);
        let current: Vec<Taking> = takings.iter().filter(is_current).cloned().collect();
        let mut copied = BTreeSet::new();
        for (from, shards) in self.sources(&current) {
            match self.copy(from.as_deref(), &shards) {
                Ok(()) => copied.extend(shards),
                Err(why) => {
                    let from = from.as_deref().unwrap_or_default();
                    tracing::warn!(
                        shards = shards.len(),
                        "the registry of {from} can't be taken over: {why}; trying again"
                    );
                }
            }
        }
        let synced = self.registry.sync();
        if let Err(e) = &synced {
            tracing::warn!("the own registry can't be written, so that no shard is taken: {e}");
        }
        let note = |taking: &Taking| {
            if synced.is_err() || !copied.contains(&taking.shard) || !is_current(&taking) {
                return Adopted::Not;
            }
            self.note(taking)
        };
        takings.iter().map(note).collect()
    }

    /// Whether somebody runs who divides the files otherwise: nothing is taken then, and that is said once.
    fn is_divided_otherwise(&self) -> bool {
        let found = match divides_otherwise(&self.world, &self.root, &self.member) {
            Ok(found) => found,
            Err(e) => {
                tracing::warn!("no shard is taken, since the other replicas can't be listed: {e}");
                return true;
            }
        };
        let mut said = lock(&self.divided);
        if *said != found {
            match &found {
                Some(other) => tracing::error!(
                    "{other} reads files of this folder and divides them otherwise (fixed parts, or a board of replicas): two divisions at once \
                     send lines twice. This replica reads nothing until that one has ended; use one kind of pillion.shards.board for all"
                ),
                None => tracing::info!("nobody divides the files otherwise any more: this replica takes part"),
            }
            said.clone_from(&found);
        }
        found.is_some()
    }

    /// Which member's registry has which shards; `None`: no registry has any of them.
    fn sources(&self, takings: &[Taking]) -> BTreeMap<Option<String>, BTreeSet<Shard>> {
        let mut sources: BTreeMap<Option<String>, BTreeSet<Shard>> = BTreeMap::new();
        for taking in takings {
            match self.source(taking) {
                Ok(member) => drop(sources.entry(member).or_default().insert(taking.shard)),
                Err(why) => tracing::warn!(shard = %taking.shard, "the shard can't be taken: {why}"),
            }
        }
        sources
    }

    /// Whose registry has the shard's cursors.
    fn source(&self, taking: &Taking) -> Result<Option<String>, String> {
        let noted = note::read(&self.world, &self.root, taking.shard.0).map_err(|e| e.to_string())?;
        let named = taking.from.as_deref().map(|name| (epoch_of(name), name));
        let noted = noted.as_ref().map(|note| (note.epoch, note.registry.as_str()));
        let Some((_, name)) = named.into_iter().chain(noted).max_by_key(|(epoch, _)| *epoch) else { return Ok(None) };
        let member = note::member_of(name).ok_or_else(|| format!("{name:?} is no name of a registry"))?;
        Ok(Some(member.to_owned()))
    }

    fn copy(&self, from: Option<&str>, shards: &BTreeSet<Shard>) -> Result<(), String> {
        let part = |entry: &Entry| self.ours.shard(Path::new(&*entry.source)).is_some_and(|s| shards.contains(&s));
        let entries = match from {
            // Nobody ever had them: what is there is new.
            None => return Ok(()),
            Some(member) if member == self.member => return Ok(()),
            Some(member) => self.read(member, &part).map_err(|e| e.to_string())?,
        };
        // A file that was renamed out of a shard of ours has its cursor here until whoever has it now has found it.
        let theirs: HashSet<Arc<str>> = entries.iter().map(|entry| Arc::clone(&entry.key)).collect();
        let part = |entry: &Entry| part(entry) && (theirs.contains(&entry.key) || !self.ours.is_handed(&entry.key));
        let took = self.registry.take_part(&part, entries);
        tracing::info!(
            shards = shards.len(),
            files = took.taken + took.merged + took.replaced,
            "took over the cursors of {from:?}"
        );
        Ok(())
    }

    fn read(&self, member: &str, part: &dyn Fn(&Entry) -> bool) -> Result<Vec<Entry>, Error> {
        let data = note::data_path(&self.root, member).unwrap_or_default();
        let bounds = Bounds { file: MAX_FILE, entries: MAX_ENTRIES, ..Bounds::default() };
        Ok(live::read(&self.world, &data, &Options::default(), &bounds, part)?.entries)
    }

    fn note(&self, taking: &Taking) -> Adopted {
        let Some(name) = note::name(&self.member, taking.epoch) else { return Adopted::Not };
        match note::write(&self.world, &self.root, taking.shard.0, taking.epoch, &name) {
            Ok(Wrote::Done) => Adopted::Into(name),
            Ok(Wrote::Newer(newer)) => {
                tracing::warn!(shard = %taking.shard, epoch = newer.epoch, "somebody else has taken the shard meanwhile");
                Adopted::Outdone
            }
            Err(e) => {
                tracing::warn!(shard = %taking.shard, "the shard's note can't be written: {e}; trying again");
                Adopted::Not
            }
        }
    }

    /// Takes fixed shards: no board says who has had them, so that whoever has them by the notes must have ended.
    ///
    /// # Errors
    /// Why they can't be taken, for a person.
    pub(crate) fn take_fixed(&self, shards: &[Shard]) -> Result<(), String> {
        let probed = self.probe(shards).ok_or("a shard's note can't be read")?;
        let takings: Vec<Taking> = shards
            .iter()
            .map(|shard| {
                let epoch = probed.get(shard).copied().unwrap_or_default().saturating_add(1);
                Taking { shard: *shard, epoch, from: None }
            })
            .collect();
        if let Some(other) = divides_otherwise(&self.world, &self.root, &self.member).map_err(|e| e.to_string())? {
            return Err(format!("{other} reads files of this folder, divides them otherwise, and is still running"));
        }
        *lock(&self.current) = takings.iter().map(|taking| (taking.shard, taking.epoch)).collect();
        for member in self.sources(&takings).into_keys().flatten().filter(|member| *member != self.member) {
            if note::is_running(&self.world, &self.root, &member) {
                return Err(format!("{member} has files of this part and is still running"));
            }
        }
        let noted = |taking: &Taking| {
            let note = note::read(&self.world, &self.root, taking.shard.0).ok().flatten();
            note.is_some_and(|note| note::member_of(&note.registry) == Some(&self.member))
        };
        if self.adopt(&takings).iter().all(|adopted| matches!(adopted, Adopted::Into(_))) {
            // Another division may have begun in the same moment.
            if !takings.iter().all(noted) {
                return Err(
                    "another replica has taken files of this part in this moment; its parts are others".to_owned()
                );
            }
            shards.iter().for_each(|shard| self.ours.open(*shard));
            return Ok(());
        }
        Err("the cursors of this part can't be taken over (see above)".to_owned())
    }
}

/// `MEMBER/EPOCH`.
fn epoch_of(name: &str) -> u64 {
    name.rsplit_once('/').and_then(|(_, epoch)| epoch.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_event::Incarnation;
    use pillion_registry::{FilestreamState, Identifier, Kind};
    use pillion_shards::shard_of;

    const COUNT: u16 = 4;

    struct Rig {
        dir: tempfile::TempDir,
    }

    impl Rig {
        fn root(&self) -> &Path {
            self.dir.path()
        }

        fn disk(&self, member: &str) -> Disk {
            let (world, root) = (World::real(), self.root().to_owned());
            let data = note::data_path(&root, member).unwrap();
            let (registry, _) = Registry::open(&world, &data, &Options::default()).unwrap();
            registry.sync().unwrap();
            let ours = Ours::new(&world, &root, member, COUNT, None);
            Disk {
                world,
                root,
                member: member.into(),
                registry: Arc::new(registry),
                ours,
                busy: Mutex::default(),
                current: Mutex::default(),
                divided: Mutex::default(),
            }
        }

        /// A file whose name is one of this shard.
        fn file(&self, shard: u16) -> PathBuf {
            let name =
                (0..).map(|n| format!("{n}.log")).find(|n| shard_of(n.as_bytes(), COUNT) == Shard(shard)).unwrap();
            self.root().join(name)
        }

        fn entry(&self, shard: u16, offset: u64) -> Entry {
            let kind = Kind::Filestream(FilestreamState::default());
            let id = Identifier::Native { ino: u64::from(shard), dev: 0 };
            let source = self.file(shard).to_str().unwrap().into();
            let mut entry = Entry::new(kind, "jobs", &id, source, Incarnation(u128::from(shard) + 1));
            entry.offset = offset;
            entry
        }
    }

    fn rig() -> Rig {
        Rig { dir: tempfile::tempdir().unwrap() }
    }

    fn taking(shard: u16, epoch: u64, from: Option<&str>) -> Taking {
        Taking { shard: Shard(shard), epoch, from: from.map(str::to_owned) }
    }

    /// These takings are what the driver wants.
    fn adopt(disk: &Disk, takings: &[Taking]) -> Vec<Adopted> {
        lock(&disk.current).extend(takings.iter().map(|taking| (taking.shard, taking.epoch)));
        disk.adopt(takings)
    }

    #[test]
    fn cursors_come_from_the_registry_that_is_named_and_are_noted() {
        let rig = rig();
        let (a, b) = (rig.disk("a"), rig.disk("b"));
        assert_eq!(
            adopt(&a, &[taking(0, 1, None), taking(1, 1, None)]),
            [Adopted::Into("a/1".to_owned()), Adopted::Into("a/1".to_owned())]
        );
        a.registry.upsert(rig.entry(0, 10));
        a.registry.upsert(rig.entry(1, 20));
        a.registry.sync().unwrap();
        // One of its shards; the other one stays.
        assert_eq!(adopt(&b, &[taking(0, 2, Some("a/1"))]), [Adopted::Into("b/2".to_owned())]);
        let offset = |disk: &Disk, shard| disk.registry.get(&rig.entry(shard, 0).key).map(|entry| entry.offset);
        assert_eq!((offset(&b, 0), offset(&b, 1)), (Some(10), None));
        assert_eq!(b.probe(&[Shard(0), Shard(1), Shard(3)]).unwrap().into_values().collect::<Vec<_>>(), [2, 1, 0]);
        // The board is older than the note, or is gone: the note counts.
        a.registry.upsert(rig.entry(0, 11));
        b.registry.upsert(rig.entry(0, 30));
        b.registry.sync().unwrap();
        let c = rig.disk("c");
        assert_eq!(adopt(&c, &[taking(0, 3, Some("a/1"))]), [Adopted::Into("c/3".to_owned())]);
        assert_eq!(offset(&c, 0), Some(30));
        // One that waited too long is none any more.
        assert_eq!(c.adopt(&[taking(0, 2, Some("a/1"))]), [Adopted::Not]);
        // Somebody else was faster: it isn't ours.
        assert_eq!(adopt(&b, &[taking(0, 2, Some("a/1"))]), [Adopted::Outdone]);
    }

    #[test]
    fn what_cant_be_read_is_never_taken_for_nothing() {
        let rig = rig();
        let a = rig.disk("a");
        for from in ["gone/1", "../../etc/1", "nonsense"] {
            assert_eq!(adopt(&a, &[taking(0, 2, Some(from))]), [Adopted::Not], "{from}");
        }
        note::write(&a.world, &a.root, 1, 5, "a/5").unwrap();
        World::real().fs.replace(&rig.root().join(".pillion/shards/01.json"), b"{", 0o600).unwrap();
        assert_eq!(
            adopt(&a, &[taking(1, 6, None), taking(2, 1, None)]),
            [Adopted::Not, Adopted::Into("a/1".to_owned())]
        );
        assert_eq!(a.probe(&[Shard(1)]), None);
    }

    #[test]
    fn replicas_with_a_board_and_fixed_parts_never_read_side_by_side() {
        let rig = rig();
        let part = rig.disk("part-1-of-2");
        part.take_fixed(&[Shard(0), Shard(2)]).unwrap();
        part.registry.upsert(rig.entry(0, 7));
        part.registry.sync().unwrap();
        let board = rig.disk("pod-00000000ff");
        // Shard 1 was nobody's, and shard 3 would be that of a part of another count.
        assert_eq!(adopt(&board, &[taking(0, 2, None), taking(1, 1, None)]), [Adopted::Not, Adopted::Not]);
        assert!(lock(&board.divided).as_deref() == Some("part-1-of-2"));
        drop(part);
        let into = |epoch| Adopted::Into(format!("pod-00000000ff/{epoch}"));
        assert_eq!(adopt(&board, &[taking(0, 2, None), taking(1, 1, None)]), [into(2), into(1)]);
        assert_eq!(board.registry.get(&rig.entry(0, 0).key).unwrap().offset, 7);
        // The other way round, whatever it has.
        let why = rig.disk("part-2-of-2").take_fixed(&[Shard(3)]).unwrap_err();
        assert!(why.contains("pod-00000000ff") && why.contains("still running"), "{why}");
    }

    #[test]
    fn a_fixed_part_waits_for_nobody_who_runs() {
        let rig = rig();
        let first = rig.disk("part-1-of-2");
        first.take_fixed(&[Shard(0), Shard(2)]).unwrap();
        first.registry.upsert(rig.entry(0, 7));
        first.registry.sync().unwrap();
        let other = rig.disk("part-1-of-1");
        let why = other.take_fixed(&[Shard(0), Shard(1)]).unwrap_err();
        assert!(why.contains("part-1-of-2") && why.contains("still running"), "{why}");
        assert!(!pillion_input::Shares::is_ours(&*other.ours, &rig.file(0)));
        drop(first);
        other.take_fixed(&[Shard(0), Shard(1)]).unwrap();
        assert_eq!(other.registry.get(&rig.entry(0, 0).key).unwrap().offset, 7);
        assert!(pillion_input::Shares::is_ours(&*other.ours, &rig.file(0)));
    }
}
