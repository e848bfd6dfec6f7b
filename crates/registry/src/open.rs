//! Opening a data path: the lock, the agent's id, which layout is there, and taking over an older one.
//!
//! Comes in: `path.data` and the options. Goes out: a [`Registry`] and what was found ([`Opened`]).
//!
//! Always holds: what [`Registry::open`] found in a store is durable when it returns (but on a full disk, where the next
//! sync says so). What is read from an old layout is durable in the new one before the old one is moved aside; a crash at
//! any step leaves one of the two complete.
//!
//! An old file `registry` is converted in the folder `registry.new` beside it; then the file becomes `registry.bak` and
//! the folder `registry`. A start that finds no `registry` and a complete `registry.new` takes the last step again.
//! Tested in `tests/`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_event::Incarnation;
use pillion_world::{FileKind, Lock, World, rfc3339};
use serde_json::{Value, json};

use crate::chunks::Bytes;
use crate::disk::{CHECKPOINT_AT, Disk, META, sync_dir};
use crate::entry::{Entry, Kind};
use crate::error::Error;
use crate::foreign::Bounds;
use crate::load::{self, Faults, Loaded, LogFile, Map};
use crate::registry::{Agent, Record, Registry};
use crate::takeover;
use crate::time::parse_rfc3339;

/// The name of the lock, the same as Filebeat's, so that the two exclude each other.
pub(crate) const LOCK: &str = "filebeat.lock";
/// The name of the store under the registry's path.
pub const STORE: &str = "filebeat";
/// What the old layouts of 7.0 to 7.8 call their array.
const DATA: &str = "data.json";
/// Larger `meta.json` files aren't read, in bytes.
pub(crate) const MAX_META: usize = 64 * 1024;
/// For new directories.
const DIR_MODE: u32 = 0o700;

/// A registry of one's own: see [`Options::bounds`].
const OWN: Bounds = Bounds { file: load::MAX_FILE, entries: load::MAX_ENTRIES, path: usize::MAX, key: usize::MAX };

/// How to open a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `filebeat.registry.path` (5.6: `filebeat.registry_file`), relative to `path.data`.
    pub path: PathBuf,
    /// `filebeat.registry.file_permissions`.
    pub file_mode: u32,
    /// `filebeat.registry.migrate_file`: an old registry file somewhere else, relative to `path.data`; taken over when
    /// there is no registry yet.
    pub migrate_file: Option<PathBuf>,
    /// How large a registry may be.
    pub bounds: Bounds,
    /// The log's size in bytes from which a checkpoint takes its place: 10 MiB, as in Filebeat. Or the last checkpoint's,
    /// when that is larger.
    pub checkpoint_at: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            path: "registry".into(),
            file_mode: 0o600,
            migrate_file: None,
            bounds: OWN,
            checkpoint_at: CHECKPOINT_AT,
        }
    }
}

/// What opening a registry found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// There was no registry: this is the data path's first start.
    pub fresh: bool,
    /// Files it knows.
    pub entries: usize,
    /// Of these, how many Filebeat wrote last: they got a new incarnation, and no ranges are in flight.
    pub adopted: usize,
    /// An older layout that was taken over.
    pub taken_over: Option<TakenOver>,
    /// Why the log ended before its end: the last run was interrupted while writing. What was acknowledged to be durable
    /// isn't concerned.
    pub torn: Option<String>,
    /// What was wrong with the registry's content, for a warning each; at most 20.
    pub faults: Vec<String>,
    /// How many there were.
    pub fault_count: usize,
}

impl Opened {
    /// What the log says of it, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.fresh {
            lines.push(format!("the registry knows {} files", self.entries));
        }
        if let Some(t) = &self.taken_over {
            lines.push(format!(
                "took over {} files from {} (written by {}); it is kept as {}",
                t.entries,
                t.from.display(),
                t.written_by,
                t.backup.display()
            ));
        }
        if self.adopted > 0 {
            lines.push(format!("{} of them were written by Filebeat last: reading goes on there", self.adopted));
        }
        lines.extend(self.torn.iter().map(|why| format!("the registry's log ends early, as after a crash: {why}")));
        lines.extend(self.faults.iter().map(|fault| format!("faulty registry entry left out: {fault}")));
        if self.fault_count > self.faults.len() {
            lines.push(format!("{} further faulty registry entries", self.fault_count - self.faults.len()));
        }
        lines
    }
}

/// An older layout that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The file that was read.
    pub from: PathBuf,
    /// Where it lies now.
    pub backup: PathBuf,
    /// Which Filebeats write it.
    pub written_by: &'static str,
    /// How many files it knew.
    pub entries: usize,
}

/// What is at the registry's path.
enum Layout {
    /// Nothing.
    None,
    /// The one file of 5.6 and 6.x.
    File,
    /// The folder of 7.0 to 7.8.
    V0,
    /// The store of 7.9 and later; `bare`: without a readable `meta.json`.
    V1 { bare: bool },
}

struct Opener<'a> {
    world: &'a World,
    data_path: &'a Path,
    root: PathBuf,
    mode: u32,
    limits: load::Limits,
    faults: Faults,
    opened: Opened,
}

impl Registry {
    /// Opens the registry under `path.data`, making what is missing and taking over what is older.
    pub fn open(world: &World, data_path: &Path, options: &Options) -> Result<(Registry, Opened), Error> {
        let lock = hold(world, data_path)?;
        Registry::open_held(world, data_path, options, lock)
    }

    /// The same, where the lock is held already: by [`hold`], or by other means where the file system has no locks.
    pub fn open_held(
        world: &World,
        data_path: &Path,
        options: &Options,
        lock: Box<dyn Lock>,
    ) -> Result<(Registry, Opened), Error> {
        let root = data_path.join(&options.path);
        let (faults, opened) = (Faults::default(), Opened::default());
        let limits = load::Limits { file: options.bounds.file, entries: options.bounds.entries };
        let mut opener = Opener { world, data_path, root, mode: options.file_mode, limits, faults, opened };
        let agent = opener.agent()?;
        let (mut disk, loaded) = opener.store(options)?;
        let Loaded { mut records, log, checkpoint_len, torn, .. } = loaded;
        let changed = opener.adopt(&mut records.map) && log != LogFile::Used;
        let done = match log {
            LogFile::Missing => Ok(()),
            LogFile::Empty => disk.resume(checkpoint_len),
            LogFile::Used => disk.checkpoint(&mut records.map.iter().map(|(k, r)| (Arc::clone(k), r.clone()))),
        };
        match done {
            // A full disk may have room again when it counts: `sync` tells.
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {}
            Err(source) => return Err(Error::Unwritable { path: opener.home(), source }),
            Ok(()) => {}
        }
        let mut opened = opener.opened;
        opened.torn = torn;
        opened.entries = records.map.values().filter(|r| matches!(r, Record::File(_))).count();
        (opened.faults, opened.fault_count) = (opener.faults.list, opener.faults.count);
        Ok((Registry::new(world.clone(), disk, records.map, changed, agent, lock), opened))
    }
}

/// Takes the lock of a data path, which is made when it is missing.
///
/// # Errors
/// [`Error::Locked`] when another process holds it; [`Error::Unwritable`] when it can't be made, or the file system has no
/// locks.
pub fn hold(world: &World, data_path: &Path) -> Result<Box<dyn Lock>, Error> {
    make_dir(world, data_path)?;
    let path = data_path.join(LOCK);
    match world.fs.try_lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::Locked { data_path: data_path.into(), lock: path }),
        Err(source) => Err(Error::Unwritable { path, source }),
    }
}

impl Opener<'_> {
    fn home(&self) -> PathBuf {
        self.root.join(STORE)
    }

    /// `path.data/meta.json`: read, or made.
    fn agent(&mut self) -> Result<Agent, Error> {
        let path = self.data_path.join(META);
        let known = match self.world.fs.read(&path, MAX_META) {
            Ok(bytes) => {
                let meta = serde_json::from_slice::<Value>(&bytes).ok();
                let text = |key: &str| meta.as_ref().and_then(|m| m.get(key)).and_then(Value::as_str);
                let id = text("uuid").filter(|id| is_uuid(id)).map(str::to_owned);
                if id.is_none() {
                    self.faults.add(|| format!("{}: no agent id in it; a new one is made", path.display()));
                }
                let first_start_ns = text("first_start").and_then(parse_rfc3339);
                id.map(|id| Agent { id, first_start_ns })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::Unreadable { path, source }),
        };
        if let Some(agent) = known {
            return Ok(agent);
        }
        let id = uuid_v4(self.world.random.u128());
        let now = self.world.clock.wall();
        let text = format!("{}\n", json!({ "uuid": id, "first_start": rfc3339(now) }));
        let done = self.world.fs.replace(&path, text.as_bytes(), 0o600);
        done.map_err(|source| Error::Unwritable { path, source })?;
        Ok(Agent { id, first_start_ns: Some(i128::from(now.0) * 1_000_000) })
    }

    /// Finds the store, makes it or takes an older one over, and reads it.
    fn store(&mut self, options: &Options) -> Result<(Disk, Loaded<'static>), Error> {
        let mut layout = self.layout()?;
        if matches!(layout, Layout::None) {
            let new = with_suffix(&self.root, ".new");
            if self.kind_of(&new.join(STORE).join(META))? == Some(FileKind::File) {
                self.rename(&new, &self.root.clone())?;
                layout = self.layout()?;
            }
        }
        match layout {
            Layout::File => self.take_over_file(&self.root.clone())?,
            Layout::V0 => self.take_over_v0()?,
            Layout::V1 { bare } => {
                if bare {
                    let meta = self.home().join(META);
                    self.faults.add(|| format!("{}: missing or damaged; made anew", meta.display()));
                    self.write_meta(&self.home())?;
                }
            }
            Layout::None => {
                let old = options.migrate_file.as_ref().map(|file| self.data_path.join(file));
                match old {
                    Some(old) if self.kind_of(&old)? == Some(FileKind::File) => self.take_over_file(&old)?,
                    _ => {
                        self.opened.fresh = true;
                        make_dir(self.world, &self.home())?;
                        self.write_meta(&self.home())?;
                    }
                }
            }
        }
        let home = self.home();
        let loaded = load::load(self.world, &home, self.limits, None, &mut self.faults)?;
        let disk = Disk::new(self.world, &home, self.mode, loaded.next_id, loaded.checkpoints.clone())
            .with_checkpoints_at(options.checkpoint_at);
        Ok((disk, loaded))
    }

    fn layout(&mut self) -> Result<Layout, Error> {
        match self.kind_of(&self.root)? {
            None => return Ok(Layout::None),
            Some(FileKind::File) => return Ok(Layout::File),
            Some(FileKind::Dir) => {}
            Some(_) => {
                let source = io::Error::other("neither a directory nor a file");
                return Err(Error::Unreadable { path: self.root.clone(), source });
            }
        }
        let meta = self.home().join(META);
        let version = match self.world.fs.read(&meta, MAX_META) {
            Ok(bytes) => {
                serde_json::from_slice::<Value>(&bytes).ok().and_then(|m| Some(m.get("version")?.as_str()?.to_owned()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::Unreadable { path: meta, source }),
        };
        match version.as_deref() {
            Some("1") => Ok(Layout::V1 { bare: false }),
            Some("0") => Ok(Layout::V0),
            Some(other) => Err(Error::Version { path: meta, version: other.chars().take(64).collect() }),
            None if self.kind_of(&self.home())? == Some(FileKind::Dir) => {
                // Without anything else in it, it was left by a start that got no further.
                let mut any = false;
                let mut each = |e: pillion_world::DirEntry<'_>| {
                    any |= e.name.to_str().is_some_and(|n| n.ends_with(".json"));
                    !any
                };
                let home = self.home();
                self.world.fs.read_dir(&home, &mut each).map_err(|source| Error::Unreadable { path: home, source })?;
                Ok(if any { Layout::V1 { bare: true } } else { Layout::None })
            }
            None => Ok(Layout::None),
        }
    }

    /// Converts the one file of 5.6 and 6.x.
    fn take_over_file(&mut self, old: &Path) -> Result<(), Error> {
        let new_root = with_suffix(&self.root, ".new");
        let new_home = new_root.join(STORE);
        let entries = self.convert(old, &new_home)?;
        self.write_meta(&new_home)?;
        let backup = with_suffix(old, ".bak");
        self.rename(old, &backup)?;
        if self.kind_of(&self.root)?.is_some() {
            // An empty folder was there beside `migrate_file`: rename takes an empty directory's place alone.
            make_dir(self.world, &self.root)?;
            self.rename(&new_home, &self.home())?;
        } else {
            self.rename(&new_root, &self.root.clone())?;
        }
        let (from, written_by) = (old.to_owned(), "Filebeat 5.6 to 6.8");
        self.opened.taken_over = Some(TakenOver { from, backup, written_by, entries });
        Ok(())
    }

    /// Converts the folder of 7.0 to 7.8 in place; `meta.json` says last that it is done.
    fn take_over_v0(&mut self) -> Result<(), Error> {
        let home = self.home();
        let old = home.join(DATA);
        let entries = self.convert(&old, &home)?;
        self.write_meta(&home)?;
        let backup = with_suffix(&old, ".bak");
        if self.kind_of(&old)?.is_some() {
            self.rename(&old, &backup)?;
        }
        self.opened.taken_over = Some(TakenOver { from: old, backup, written_by: "Filebeat 7.0 to 7.8", entries });
        Ok(())
    }

    /// Reads an array of states and writes it as a checkpoint of a new store.
    fn convert(&mut self, old: &Path, home: &Path) -> Result<usize, Error> {
        make_dir(self.world, home)?;
        let leftovers = load::load(self.world, home, self.limits, None, &mut Faults::default())?;
        let entries = match load::open(self.world, old)? {
            Some(file) => {
                takeover::read_array(&mut Bytes::new(load::bounded(&*file, self.limits.file)), old, &mut self.faults)
                    .map_err(|source| Error::Unreadable { path: old.into(), source })?
            }
            None => Vec::new(),
        };
        let mut records: Map = entries.into_iter().map(|e| (Arc::clone(&e.key), Record::File(Arc::new(e)))).collect();
        self.adopt(&mut records);
        let count = records.len();
        let mut disk = Disk::new(self.world, home, self.mode, leftovers.next_id, leftovers.checkpoints);
        disk.checkpoint(&mut records.into_iter()).map_err(|source| Error::Unwritable { path: home.into(), source })?;
        Ok(count)
    }

    fn write_meta(&self, home: &Path) -> Result<(), Error> {
        let path = home.join(META);
        let done = self.world.fs.replace(&path, b"{\"version\":\"1\"}", self.mode);
        done.map_err(|source| Error::Unwritable { path, source })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let parent = |p: &Path| p.parent().map_or_else(PathBuf::new, Path::to_owned);
        let mut done = self.world.fs.rename(from, to);
        for dir in [parent(to), parent(from)] {
            done = done.and_then(|()| sync_dir(self.world, &dir));
        }
        done.map_err(|source| Error::Unwritable { path: to.into(), source })
    }

    fn kind_of(&self, path: &Path) -> Result<Option<FileKind>, Error> {
        kind_of(self.world, path)
    }

    /// Gives each entry without an incarnation of its own a new one. `true`: something has changed.
    ///
    /// Two keys with one incarnation are one file whose key was being changed when the last run ended: the newer stays.
    fn adopt(&mut self, records: &mut Map) -> bool {
        let mut changed = false;
        let mut newest: HashMap<Incarnation, Arc<Entry>> = HashMap::new();
        for record in records.values_mut() {
            let Record::File(entry) = record else { continue };
            if entry.incarnation == Incarnation(0) {
                Arc::make_mut(entry).incarnation = Incarnation(self.world.random.u128());
                self.opened.adopted += 1;
                changed = true;
            }
            let best = newest.entry(entry.incarnation).or_insert_with(|| Arc::clone(entry));
            if age(best) < age(entry) {
                *best = Arc::clone(entry);
            }
        }
        let all = records.len();
        records.retain(|key, record| match record {
            Record::File(entry) => newest.get(&entry.incarnation).is_some_and(|best| best.key == *key),
            Record::Foreign(_) => true,
        });
        changed || records.len() < all
    }
}

/// What grows when a file gets another key.
pub(crate) fn age(entry: &Entry) -> (i128, u64, Option<u64>) {
    let fingerprint_len = match &entry.kind {
        Kind::Filestream(state) => state.fingerprint_len,
        Kind::Log(_) => None,
    };
    (entry.updated_ns, entry.offset, fingerprint_len)
}

fn kind_of(world: &World, path: &Path) -> Result<Option<FileKind>, Error> {
    match world.fs.stat(path, true) {
        Ok(meta) => Ok(Some(meta.kind)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error::Unreadable { path: path.into(), source }),
    }
}

/// Makes a directory and its parents, each durable in its own parent.
fn make_dir(world: &World, path: &Path) -> Result<(), Error> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    if kind_of(world, path)? == Some(FileKind::Dir) {
        // An earlier start may have made it and have been killed before it was durable. Where somebody else made it, its
        // parent need not be ours to open.
        return match sync_dir(world, parent.unwrap_or(Path::new("."))) {
            Err(e) if e.kind() != io::ErrorKind::PermissionDenied => {
                Err(Error::Unwritable { path: path.into(), source: e })
            }
            _ => Ok(()),
        };
    }
    if let Some(parent) = parent {
        make_dir(world, parent)?;
    }
    let done = world.fs.create_dir_all(path, DIR_MODE);
    let done = done.and_then(|()| sync_dir(world, parent.unwrap_or(Path::new("."))));
    done.map_err(|source| Error::Unwritable { path: path.into(), source })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(n, b)| match n {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// A random UUID (RFC 9562, version 4).
fn uuid_v4(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [hex.get(..8), hex.get(8..12), hex.get(12..16), hex.get(16..20), hex.get(20..)]
        .map(Option::unwrap_or_default)
        .join("-")
}
