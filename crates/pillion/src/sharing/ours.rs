//! Which shared files are this replica's: what the reading threads, the queue's end and the books ask.
//!
//! Comes in: which shards are read here ([`Ours::open`], [`Ours::shut`]), and what other replicas have written down. Goes
//! out: yes or no for a path, and the entry of a file that another replica has read before.
//!
//! Always holds: a path has one shard, the same in all replicas; one that isn't beneath the shared root is nobody's. Nothing
//! is read or sent while the fence has lapsed.
//! Tested below, and by the command line's tests (`tests/run/replicas.rs`).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::seats::Seats;
use pillion_event::Incarnation;
use pillion_input::{Beside, Known, Shares};
use pillion_registry::others::{Found, Others};
use pillion_registry::{Error, Options, STORE, note};
use pillion_shards::{Fence, Shard, shard_of};
use pillion_world::{Mono, World};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Replicas whose registries are followed at most: as many as a board knows.
const MAX_MEMBERS: usize = 1024;
/// Names that are looked at for them: most of the dead ones that died young have no registry.
pub(super) const MAX_NAMES: usize = 16 * MAX_MEMBERS;

/// How long a file that went to another replica is remembered, and how many of them.
const HANDED: Duration = Duration::from_secs(3600);
const MAX_HANDED: usize = 65_536;

/// Nothing that holds one of these locks leaves a half-made change behind when it panics.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub(crate) struct Ours {
    /// In which nothing leads out of the shared root.
    world: World,
    root: PathBuf,
    member: String,
    /// By shard: its files are read here.
    open: Vec<AtomicBool>,
    /// `None`: parts are fixed, and nobody takes them.
    fence: Option<Fence>,
    regained: Notify,
    others: Mutex<Others>,
    /// What dead sidecars have left; nobody asks for it before it is set.
    seats: OnceLock<Arc<Seats>>,
    /// Files that went to another replica by a rename, and when: it finds them by their entries here.
    handed: Mutex<HashMap<Arc<str>, Mono>>,
}

impl Ours {
    pub(crate) fn new(world: &World, root: &Path, member: &str, count: u16, fence: Option<Fence>) -> Arc<Ours> {
        Arc::new(Ours {
            world: world.clone(),
            root: root.to_owned(),
            member: member.to_owned(),
            open: (0..count.max(1)).map(|_| AtomicBool::new(false)).collect(),
            fence,
            regained: Notify::new(),
            others: Mutex::new(Others::new(world, &replicas(root))),
            seats: OnceLock::new(),
            handed: Mutex::default(),
        })
    }

    /// Files of which no replica knows anything are looked for there.
    pub(super) fn look_beside(&self, seats: Arc<Seats>) {
        let _ = self.seats.set(seats);
    }

    /// The shard of a path; `None`: it isn't beneath the root. One that isn't UTF-8 has that of its text, by which registries and
    /// books know it.
    pub(crate) fn shard(&self, path: &Path) -> Option<Shard> {
        let relative = path.strip_prefix(&self.root).ok()?;
        Some(shard_of(relative.to_string_lossy().as_bytes(), self.shards()))
    }

    /// Files of this shard are read from now on.
    pub(crate) fn open(&self, shard: Shard) {
        if let Some(open) = self.open.get(usize::from(shard.0)) {
            open.store(true, Ordering::Release);
        }
    }

    /// Files of this shard aren't read any more.
    pub(crate) fn shut(&self, shard: Shard) {
        if let Some(open) = self.open.get(usize::from(shard.0)) {
            open.store(false, Ordering::Release);
        }
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> u16 {
        self.open.len() as u16
    }

    /// Whether this is the key of a file that went to another replica by a rename a while ago.
    pub(crate) fn is_handed(&self, key: &str) -> bool {
        lock(&self.handed).contains_key(key)
    }

    /// Whether reading and sending is allowed now.
    pub(crate) fn holds(&self) -> bool {
        self.fence.as_ref().is_none_or(|fence| fence.holds(self.world.clock.mono()))
    }

    /// Waits until it is. Cancel safe.
    pub(crate) async fn held(&self) {
        loop {
            let notified = self.regained.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.holds() {
                return;
            }
            notified.await;
        }
    }

    /// The next [`Ours::wake`] since the call.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.regained.notified()
    }

    /// The fence holds again, or what waits for it is another's by now.
    pub(crate) fn wake(&self) {
        self.regained.notify_waiters();
    }

    /// The other replicas that have a registry.
    ///
    /// # Errors
    /// When they can't be listed, or there are more than can be followed: a file could be anybody's then.
    fn members(&self) -> io::Result<Vec<String>> {
        let folder = replicas(&self.root);
        let mut members = listed(&self.world, &self.root, |name| name != self.member)?;
        // One that has just made its folder, or died over it, has nothing yet.
        members.retain(|member| {
            let store = folder.join(member).join(Options::default().path).join(STORE);
            !matches!(self.world.fs.stat(&store, true), Err(e) if e.kind() == io::ErrorKind::NotFound)
        });
        if members.len() > MAX_MEMBERS { Err(too_many(&folder)) } else { Ok(members) }
    }
}

/// The replicas that have a folder, of those that are wanted.
///
/// # Errors
/// When they can't be listed, or there are too many names beside them.
pub(super) fn listed(world: &World, root: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let folder = replicas(root);
    let (mut found, mut names) = (Vec::new(), 0);
    // A network file system's client asks for the names in a folder when it has looked at it.
    world.fs.stat(&folder, true)?;
    world.fs.read_dir(&folder, &mut |entry| {
        names += 1;
        let name = entry.name.to_str().filter(|name| note::data_path(root, name).is_some() && wanted(name));
        found.extend(name.map(str::to_owned));
        names <= MAX_NAMES
    })?;
    if names > MAX_NAMES { Err(too_many(&folder)) } else { Ok(found) }
}

fn too_many(folder: &Path) -> io::Error {
    io::Error::other(format!(
        "{} has more than {MAX_MEMBERS} registries (or {MAX_NAMES} names), so that nobody knows who has read a file \
         before. Those of dead replicas go an hour after their end, when a board names them no more; others have to be \
         removed by hand",
        folder.display()
    ))
}

/// The folder of the replicas' registries.
pub(crate) fn replicas(root: &Path) -> PathBuf {
    root.join(pillion_registry::beside::FOLDER).join(note::REPLICAS)
}

impl Shares for Ours {
    fn is_ours(&self, path: &Path) -> bool {
        let open = self.shard(path).and_then(|shard| self.open.get(usize::from(shard.0)));
        open.is_some_and(|open| open.load(Ordering::Acquire))
    }

    fn refresh(&self) -> io::Result<()> {
        self.seats.get().into_iter().for_each(|seats| seats.look_anew());
        let members = self.members()?;
        let progress = lock(&self.others).refresh(&members);
        match progress.failed.into_iter().next() {
            Some((member, e)) => Err(io::Error::other(format!("the registry of {member}: {e}"))),
            None => Ok(()),
        }
    }

    fn handed_over(&self, key: &Arc<str>) {
        let now = self.world.clock.mono();
        let mut handed = lock(&self.handed);
        handed.retain(|_, since| now.since(*since) < HANDED);
        if handed.len() < MAX_HANDED {
            handed.insert(Arc::clone(key), now);
        }
    }

    fn lengths(&self) -> BTreeSet<u32> {
        lock(&self.others).lengths().clone()
    }

    fn beside(&self, path: &Path, ino: u64) -> io::Result<Beside> {
        self.seats.get().map_or(Ok(Beside::Nothing), |seats| seats.beside(path, ino))
    }

    fn find(&self, keys: &[&str]) -> io::Result<Known> {
        known(lock(&self.others).find(keys))
    }

    fn lives(&self, lives: &[Incarnation]) -> io::Result<Known> {
        known(lock(&self.others).lives(lives))
    }
}

fn known(found: Result<Found, Error>) -> io::Result<Known> {
    let found = found.map_err(|e| io::Error::other(e.to_string()))?;
    let entries = found.entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Known { entries, whole: found.whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_event::Incarnation;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use pillion_registry::{Entry, FilestreamState, Identifier, Kind, Registry};

    fn entry(ino: u64, source: &Path) -> Entry {
        let id = Identifier::Native { ino, dev: 0 };
        let kind = Kind::Filestream(FilestreamState::default());
        Entry::new(kind, "jobs", &id, source.to_str().unwrap().into(), Incarnation(u128::from(ino) + 1))
    }

    #[test]
    fn what_is_read_here_is_said_by_shards() {
        let ours = Ours::new(&World::real(), Path::new("/logs"), "me", 64, None);
        // As `shard_of` has it, for ever: see its own test.
        let (app, other) = (Path::new("/logs/a/app.log"), Path::new("/logs/b/app.log"));
        assert_eq!((ours.shard(app), ours.shard(other)), (Some(Shard(31)), Some(Shard(16))));
        assert_eq!(ours.shard(Path::new("/elsewhere/app.log")), None);
        for byte in 0x80..=0xff_u8 {
            let odd = Path::new(OsStr::from_bytes(&[b"/logs/job-", &[byte][..], b".log"].concat())).to_owned();
            let text = odd.to_string_lossy().into_owned();
            assert_eq!(ours.shard(&odd), ours.shard(Path::new(&text)), "as the registry and the books call it");
        }
        assert!(!ours.is_ours(app));
        ours.open(Shard(31));
        assert!(ours.is_ours(app) && ours.is_ours(Path::new("/logs/a/app.log.1")));
        assert!(!ours.is_ours(other) && !ours.is_ours(Path::new("/elsewhere/app.log")));
        ours.shut(Shard(31));
        assert!(!ours.is_ours(app) && ours.holds(), "without a board there is no fence");
        ours.handed_over(&"key".into());
        assert!(ours.is_handed("key") && !ours.is_handed("another"));
        // A shard that there isn't is nobody's.
        ours.open(Shard(64));
    }

    #[test]
    fn more_replicas_than_can_be_followed_are_told_of_and_nothing_is_taken_for_unread() {
        let dir = tempfile::tempdir().unwrap();
        let (world, root) = (World::real(), dir.path().canonicalize().unwrap());
        let ours = Ours::new(&world, &root, "me", 64, None);
        let make = |n: usize, store: bool| {
            let data = note::data_path(&root, &format!("r-{n}")).unwrap();
            std::fs::create_dir_all(if store { data.join(Options::default().path).join(STORE) } else { data }).unwrap();
        };
        (0..MAX_MEMBERS).for_each(|n| make(n, true));
        // Those that died young count for nothing.
        (MAX_MEMBERS..MAX_MEMBERS + 200).for_each(|n| make(n, false));
        ours.refresh().unwrap();
        make(MAX_MEMBERS, true);
        let why = ours.refresh().unwrap_err().to_string();
        assert!(why.contains("more than 1024 registries") && why.contains("by hand"), "{why}");
    }

    #[test]
    fn what_others_have_is_found_and_a_replica_that_has_just_begun_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let (world, root) = (World::real(), dir.path().canonicalize().unwrap());
        let ours = Ours::new(&world, &root, "me", 64, None);
        assert!(ours.refresh().is_err(), "there isn't even a folder: what others have isn't known");
        let data = |member: &str| note::data_path(&root, member).unwrap();
        std::fs::create_dir_all(data("begins")).unwrap();
        std::fs::create_dir_all(replicas(&root).join(".hidden")).unwrap();
        for member in ["me", "other"] {
            let (registry, _) = Registry::open(&world, &data(member), &Options::default()).unwrap();
            registry.upsert(entry(if member == "me" { 1 } else { 2 }, &root.join("a.log")));
            registry.sync().unwrap();
        }
        ours.refresh().unwrap();
        let key = |ino| entry(ino, Path::new("/")).key;
        let nothing = Known { entries: Vec::new(), whole: true };
        assert_eq!(ours.find(&[&key(1)]).unwrap(), nothing, "the own registry isn't another's");
        let found = ours.find(&[&key(1), &key(2)]).unwrap().entries;
        assert_eq!(found.iter().map(|e| &*e.key).collect::<Vec<_>>(), [&*key(2)]);
    }
}
