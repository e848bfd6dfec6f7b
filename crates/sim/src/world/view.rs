//! The disk as the process under test sees it, with faults.
//!
//! Always holds: an object of a process that has crashed fails in every call and changes nothing when it is dropped.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pillion_world::{DirEntry, File, FileKind, Fs, FsKind, Lock, Meta, OpenHow};
use rustix::io::Errno;

use super::cache::Former;
use super::disk::{By, Content, Data, Names, Place, new_dir};
use super::{Effect, State, lock};

/// The file system of one process.
pub(super) struct SimFs {
    state: Arc<Mutex<State>>,
    process: u64,
}

struct SimFile {
    state: Arc<Mutex<State>>,
    process: u64,
    ino: u64,
    generation: u64,
    path: PathBuf,
    writes: bool,
    network: bool,
    /// Nothing was asked of it yet: the first answer is true.
    fresh: AtomicBool,
    /// `ESTALE` was said.
    stale: AtomicBool,
    /// How long it was when it was opened: so much of it is true.
    opened_len: usize,
}

struct SimLock {
    state: Arc<Mutex<State>>,
    process: u64,
    ino: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.locks.get(&self.ino) == Some(&Some(self.process)) {
            state.locks.remove(&self.ino);
        }
    }
}

/// How a look at a path fails.
fn look_fails(state: &State, path: &Path) -> (u32, Errno) {
    let faults = &state.faults;
    // Which of the two it is depends on the step, and together they are as frequent as they should be.
    match state.disk.is_network(path) && state.steps.is_multiple_of(2) {
        true => (faults.stale_handle * 2, Errno::STALE),
        false if state.disk.is_network(path) => (faults.look_error * 2, Errno::IO),
        false => (faults.look_error, Errno::IO),
    }
}

impl SimFs {
    pub(super) fn new(state: Arc<Mutex<State>>, process: u64) -> SimFs {
        SimFs { state, process }
    }

    fn step<T>(
        &self,
        fault: impl FnOnce(&State) -> (u32, Errno),
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut State, Effect) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = lock(&self.state);
        let fault = fault(&state);
        state.step(self.process, fault, || format!("{what} {}", path.display()), act)
    }
}

impl State {
    /// The file at a place, made when missing.
    fn made(&mut self, place: &Place, mode: u32) -> io::Result<u64> {
        if let Some(ino) = place.ino {
            return Ok(ino);
        }
        if self.full {
            return Err(Errno::NOSPC.into());
        }
        self.make_by_process(place, Content::File(Data::default()), mode)
    }

    fn make_by_process(&mut self, place: &Place, content: Content, mode: u32) -> io::Result<u64> {
        self.writable(&place.real)?;
        let now = self.now_ns();
        let State { disk, rng, .. } = self;
        disk.make(place, content, mode, now, By::Process, rng)
    }

    /// What a cached name leads to, when the cache is believed: `None` = it isn't, `Some(None)` = to nothing.
    fn cached(&mut self, place: &Place) -> Option<Option<Former>> {
        // The mount's own name isn't one of its names.
        let network = place.real.parent().is_some_and(|dir| self.disk.is_network(dir));
        let before = self.disk.cached.before(place.dir, &place.name).filter(|_| network)?;
        self.rng.chance(self.faults.stale_name).then_some(before)
    }

    /// Makes a listing an old one: one of its names is what it was before, or one is left out.
    fn age(&mut self, dir: u64, names: &mut Names) {
        let changed: Vec<_> = self.disk.cached.names_before(dir).map(|(name, ino)| (name.clone(), ino)).collect();
        let left_out = names.keys().nth(self.rng.index(names.len().max(1))).cloned();
        match (changed.get(self.rng.index(changed.len().max(1))), left_out) {
            (Some((name, Some(ino))), _) if self.rng.chance(5000) => drop(names.insert(name.clone(), *ino)),
            (Some((name, None)), _) if self.rng.chance(5000) => drop(names.remove(name)),
            (_, Some(name)) => drop(names.remove(&name)),
            _ => {}
        }
    }

    /// Makes zeros of a part of what was read and came since the file was opened, as long as it was then. `None`: it can't be so.
    fn punch(&mut self, opened_len: Option<usize>, ino: u64, at: usize, read: &mut [u8]) -> io::Result<()> {
        let end = at.saturating_add(read.len());
        let shown = self.disk.data(ino)?.shown;
        let from = opened_len.map_or(usize::MAX, |len| len.max(shown).max(at));
        let mut true_to = end;
        if from < end && self.rng.chance(self.faults.hole) {
            true_to = from + self.rng.index(end - from);
            let to = true_to + 1 + self.rng.index(end - true_to);
            read.get_mut(true_to - at..to - at).into_iter().for_each(|hole| hole.fill(0));
        }
        let data = self.disk.data_mut(ino)?;
        if at <= data.shown {
            data.shown = data.shown.max(true_to);
        }
        Ok(())
    }

    /// A stat with the lies of a network file system's attribute cache.
    fn seen(&mut self, ino: u64) -> io::Result<Meta> {
        let mut meta = self.disk.meta(ino)?;
        if let Ok(data) = self.disk.data(ino) {
            if self.rng.chance(self.faults.stale_size) {
                meta.len = data.len_before as u64;
            } else if self.rng.chance(self.faults.size_ahead) {
                meta.len += 1 + self.rng.below(4096);
            }
        }
        Ok(meta)
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        let reads = matches!(how, OpenHow::Read | OpenHow::ReadNoFollow);
        let fault = |s: &State| match reads {
            true => look_fails(s, path),
            false => (s.faults.write_error, Errno::IO),
        };
        self.step(fault, "open", path, |s, effect| {
            let place = s.disk.find(path, how != OpenHow::ReadNoFollow)?;
            let ino = match how {
                OpenHow::Read | OpenHow::ReadNoFollow => match s.cached(&place) {
                    None => place.ino.ok_or(Errno::NOENT)?,
                    // What is no more makes the client ask for the name.
                    Some(former) => s.disk.former(&former.ok_or(Errno::NOENT)?).or(place.ino).ok_or(Errno::NOENT)?,
                },
                OpenHow::Append(mode) | OpenHow::Truncate(mode) => s.made(&place, mode)?,
            };
            match &s.disk.node(ino)?.content {
                Content::Link(_) => return Err(Errno::LOOP.into()),
                Content::Dir { .. } if !reads => return Err(Errno::ISDIR.into()),
                _ => {}
            }
            if !reads {
                s.writable(&place.real)?;
            }
            if matches!(how, OpenHow::Truncate(_)) && !s.disk.data(ino)?.now.is_empty() {
                let now = s.now_ns();
                s.disk.set_len(ino, 0, now, By::Process)?;
            }
            if effect != Effect::Whole {
                return Err(Errno::IO.into());
            }
            let node = s.disk.node_mut(ino)?;
            node.process_handles += 1;
            let generation = node.generation;
            Ok(Box::new(SimFile {
                state: Arc::clone(&self.state),
                process: self.process,
                ino,
                generation,
                path: place.real.clone(),
                writes: !reads,
                network: s.disk.is_network(&place.real),
                fresh: AtomicBool::new(true),
                stale: AtomicBool::new(false),
                opened_len: s.disk.data(ino).map_or(0, |data| data.now.len()),
            }) as Box<dyn File>)
        })
    }

    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        self.step(
            |s| look_fails(s, path),
            "stat",
            path,
            |s, _| {
                let place = s.disk.find(path, follow)?;
                if !s.disk.is_network(&place.real) {
                    return s.disk.meta(place.ino.ok_or(Errno::NOENT)?);
                }
                if let Some(former) = s.cached(&place) {
                    return Ok(former.ok_or(Errno::NOENT)?.meta);
                }
                let ino = place.ino.ok_or(Errno::NOENT)?;
                s.disk.cached.ask(ino);
                s.seen(ino)
            },
        )
    }

    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        let mut entries = Vec::new();
        let listed = self.step(
            |s| look_fails(s, path),
            "read_dir",
            path,
            |s, effect| {
                let place = s.disk.find(path, true)?;
                let dir = place.ino.ok_or(Errno::NOENT)?;
                let stale = s.disk.is_network(&place.real) && !s.disk.cached.is_up_to_date(dir);
                let mut names = s.disk.names(dir)?.clone();
                if stale && s.rng.chance(s.faults.stale_dir) {
                    s.age(dir, &mut names);
                }
                for (name, ino) in names {
                    let kind = match s.disk.node(ino).map(|node| &node.content) {
                        Ok(Content::File(_)) => FileKind::File,
                        Ok(Content::Dir { .. }) => FileKind::Dir,
                        Ok(Content::Link(_)) => FileKind::Symlink,
                        Err(_) => FileKind::Unknown,
                    };
                    entries.push((name, kind, ino));
                }
                if !entries.is_empty() {
                    // A directory has its own order, which isn't the alphabet's.
                    let start = s.rng.index(entries.len());
                    entries.rotate_left(start);
                }
                for entry in &mut entries {
                    if s.rng.chance(s.faults.unknown_kind) {
                        entry.1 = FileKind::Unknown;
                    }
                }
                if effect != Effect::Whole {
                    // It fails in the midst of it.
                    entries.truncate(s.rng.index(entries.len() + 1));
                }
                Ok(())
            },
        );
        // Outside of the lock: what is called may look at the disk.
        for (name, kind, ino) in &entries {
            if !each(DirEntry { name, kind: *kind, ino: *ino }) {
                return Ok(());
            }
        }
        listed
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.step(
            |s| look_fails(s, path),
            "canonicalize",
            path,
            |s, _| {
                let place = s.disk.find(path, true)?;
                place.ino.ok_or(Errno::NOENT)?;
                Ok(place.real)
            },
        )
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.step(
            |s| look_fails(s, path),
            "readlink",
            path,
            |s, _| {
                let ino = s.disk.find(path, false)?.ino.ok_or(Errno::NOENT)?;
                match &s.disk.node(ino)?.content {
                    Content::Link(target) => Ok(target.clone()),
                    _ => Err(Errno::INVAL.into()),
                }
            },
        )
    }

    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        self.step(
            |s| look_fails(s, path),
            "statfs",
            path,
            |s, _| {
                let place = s.disk.find(path, true)?;
                place.ino.ok_or(Errno::NOENT)?;
                Ok(if s.disk.is_network(&place.real) { FsKind::Network } else { FsKind::Local })
            },
        )
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(
            |s| (s.faults.dir_error, Errno::IO),
            &format!("rename to {} from", to.display()),
            from,
            |s, _| {
                let (from, to) = (s.disk.find(from, false)?, s.disk.find(to, false)?);
                s.writable(&to.real)?;
                s.disk.rename(&from, &to, By::Process)
            },
        )
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(
            |s| (s.faults.dir_error, Errno::IO),
            "remove",
            path,
            |s, _| {
                let place = s.disk.find(path, false)?;
                s.writable(&place.real)?;
                s.disk.unlink(&place, By::Process)
            },
        )
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step(
            |s| (s.faults.dir_error, Errno::IO),
            "remove_dir",
            path,
            |s, _| {
                let place = s.disk.find(path, false)?;
                s.writable(&place.real)?;
                s.disk.remove_dir(&place)
            },
        )
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step(
            |s| (s.faults.write_error, Errno::IO),
            "create_dir_all",
            path,
            |s, _| {
                let mut at = PathBuf::from("/");
                for part in path.components().skip(1) {
                    at.push(part);
                    let place = s.disk.find(&at, true)?;
                    match place.ino {
                        Some(ino) => {
                            s.disk.names(ino)?;
                        }
                        None if s.full => return Err(Errno::NOSPC.into()),
                        None => {
                            s.make_by_process(&place, new_dir(), mode)?;
                        }
                    }
                }
                Ok(())
            },
        )
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(
            |s| (s.faults.dir_error, Errno::IO),
            "sync_dir",
            path,
            |s, _| {
                let ino = s.disk.lookup(path, true)?;
                s.disk.sync_dir(ino)
            },
        )
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.step(
            |s| (s.faults.write_error, Errno::IO),
            "lock",
            path,
            |s, effect| {
                let place = s.disk.find(path, true)?;
                let ino = s.made(&place, 0o600)?;
                if s.locks.contains_key(&ino) || effect != Effect::Whole {
                    return Ok(None);
                }
                s.locks.insert(ino, Some(self.process));
                let lock = SimLock { state: Arc::clone(&self.state), process: self.process, ino };
                Ok(Some(Box::new(lock) as Box<dyn Lock>))
            },
        )
    }
}

impl SimFile {
    fn step<T>(
        &self,
        fault: impl FnOnce(&State) -> (u32, Errno),
        what: &str,
        act: impl FnOnce(&mut State, Effect) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = lock(&self.state);
        let fault = fault(&state);
        state.step(
            self.process,
            fault,
            || format!("{what} {}", self.path.display()),
            |s, effect| {
                if self.network && !self.writes && s.rng.chance(s.faults.stale_handle) {
                    self.stale.store(true, Ordering::Relaxed);
                }
                if self.stale.load(Ordering::Relaxed) || s.disk.node(self.ino)?.generation != self.generation {
                    return Err(Errno::STALE.into());
                }
                act(s, effect)
            },
        )
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.step(
            |s| (s.faults.read_error, Errno::IO),
            "read",
            |s, _| {
                let data = &s.disk.data(self.ino)?.now;
                let rest = usize::try_from(offset).ok().and_then(|at| data.get(at..)).unwrap_or_default();
                let mut n = rest.len().min(buf.len());
                if n > 1 && s.rng.chance(s.faults.short_read) {
                    n = 1 + s.rng.index(n - 1);
                }
                if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
                    to.copy_from_slice(from);
                    let at = usize::try_from(offset).unwrap_or(usize::MAX);
                    s.punch(self.network.then_some(self.opened_len), self.ino, at, to)?;
                }
                Ok(n)
            },
        )
    }

    fn write_all(&self, buf: &[u8]) -> io::Result<()> {
        let fault = |s: &State| match s.full {
            true => (10_000, Errno::NOSPC),
            false if s.steps.is_multiple_of(2) => (s.faults.no_space * 2, Errno::NOSPC),
            false => (s.faults.write_error * 2, Errno::IO),
        };
        self.step(fault, &format!("write {} to", buf.len()), |s, effect| {
            if !self.writes {
                return Err(Errno::BADF.into());
            }
            let n = if effect == Effect::Whole { buf.len() } else { s.rng.index(buf.len() + 1) };
            let now = s.now_ns();
            s.disk.append(self.ino, buf.get(..n).unwrap_or_default(), now, By::Process)
        })
    }

    fn stat(&self) -> io::Result<Meta> {
        self.step(
            |s| (s.faults.look_error, Errno::IO),
            "fstat",
            |s, _| match self.network && !self.fresh.swap(false, Ordering::Relaxed) {
                true => s.seen(self.ino),
                false => s.disk.meta(self.ino),
            },
        )
    }

    fn sync(&self) -> io::Result<()> {
        self.step(
            |s| (s.faults.sync_error, Errno::IO),
            "sync",
            |s, effect| match effect {
                Effect::Failing => {
                    let State { disk, rng, .. } = s;
                    disk.fail_sync(self.ino, rng)
                }
                Effect::Whole | Effect::Dying => s.disk.sync(self.ino),
            },
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(
            |s| (s.faults.write_error, Errno::IO),
            "set_len",
            |s, _| {
                if !self.writes {
                    return Err(Errno::INVAL.into());
                }
                let (len, now) = (usize::try_from(len).map_err(|_| Errno::FBIG)?, s.now_ns());
                s.disk.set_len(self.ino, len, now, By::Process)
            },
        )
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if self.process == state.process && state.alive {
            if let Ok(node) = state.disk.node_mut(self.ino)
                && node.generation == self.generation
            {
                node.process_handles = node.process_handles.saturating_sub(1);
            }
            state.disk.reap(self.ino);
        }
    }
}
