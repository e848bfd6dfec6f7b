//! The simulated disk: inodes, names, and what of both would survive a crash of the machine.
//!
//! Comes in: changes, each by the process under test (durable only when synced) or by the application (durable at
//! once). Goes out: what is to be seen now, and after [`Disk::lose_power`] what is left.
//!
//! Always holds: what is durable was written; an inode lives while a name (to be seen or durable) or an open file refers
//! to it, and its number is used again afterwards. Tested in `tests.rs`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use pillion_world::{FileKind, Meta};
use rustix::io::Errno;

use super::cache::{Former, NameCache};
use super::names::NameChange;
use super::rng::Rng;

pub(super) const ROOT: u64 = 2;
/// The device number of all that isn't a network mount.
const LOCAL: u64 = 1;
const MAX_LINKS: usize = 40;

/// Who changes something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The process under test: durable when synced.
    Process,
    /// The application or whoever writes the logs: durable at once.
    App,
}

/// A change of a file's content that isn't durable yet.
enum Write {
    Bytes { at: usize, bytes: Vec<u8> },
    Len(usize),
}

/// A file's content.
#[derive(Default)]
pub(super) struct Data {
    pub(super) now: Vec<u8>,
    /// What would survive; `None` = all of it.
    durable: Option<Vec<u8>>,
    pending: Vec<Write>,
    /// A sync has failed: `durable` lags behind, and no later sync makes that good.
    tainted: bool,
    /// The size before the last change, and as far as the process has read what is there.
    pub(super) len_before: usize,
    pub(super) shown: usize,
}

pub(super) type Names = BTreeMap<OsString, u64>;

pub(super) enum Content {
    File(Data),
    Dir { now: Names, durable: Names },
    Link(PathBuf),
}

pub(super) struct Node {
    pub(super) content: Content,
    pub(super) mode: u32,
    mtime_ns: i128,
    birth_ns: i128,
    pub(super) nlink: u64,
    durable_links: u64,
    pub(super) process_handles: u32,
    pub(super) app_handles: u32,
    dev: u64,
    pub(super) generation: u64,
}

/// Where a path leads.
pub(super) struct Place {
    pub(super) dir: u64,
    pub(super) name: OsString,
    pub(super) ino: Option<u64>,
    /// The path without symbolic links.
    pub(super) real: PathBuf,
}

pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    free: Vec<u64>,
    next: u64,
    names: Vec<NameChange>,
    pub(super) cached: NameCache,
    /// Counts inodes, whatever their numbers.
    generations: u64,
    pub(super) network: Vec<PathBuf>,
    /// Local files tell their birth.
    pub(super) births: bool,
}

fn errno(e: Errno) -> io::Error {
    e.into()
}

impl Disk {
    pub(super) fn new() -> Disk {
        let mut disk = Disk {
            nodes: BTreeMap::new(),
            free: Vec::new(),
            next: ROOT + 1,
            names: Vec::new(),
            cached: NameCache::default(),
            generations: 0,
            network: Vec::new(),
            births: true,
        };
        disk.nodes.insert(ROOT, new_node(new_dir(), 0o755, LOCAL, 0));
        disk
    }

    pub(super) fn node(&self, ino: u64) -> io::Result<&Node> {
        self.nodes.get(&ino).ok_or_else(|| errno(Errno::STALE))
    }

    pub(super) fn node_mut(&mut self, ino: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&ino).ok_or_else(|| errno(Errno::STALE))
    }

    pub(super) fn data(&self, ino: u64) -> io::Result<&Data> {
        match &self.node(ino)?.content {
            Content::File(data) => Ok(data),
            Content::Dir { .. } => Err(errno(Errno::ISDIR)),
            Content::Link(_) => Err(errno(Errno::INVAL)),
        }
    }

    pub(super) fn data_mut(&mut self, ino: u64) -> io::Result<&mut Data> {
        self.data(ino)?;
        match &mut self.node_mut(ino)?.content {
            Content::File(data) => Ok(data),
            _ => Err(errno(Errno::INVAL)),
        }
    }

    pub(super) fn names(&self, ino: u64) -> io::Result<&Names> {
        match &self.node(ino)?.content {
            Content::Dir { now, .. } => Ok(now),
            _ => Err(errno(Errno::NOTDIR)),
        }
    }

    fn dir_mut(&mut self, ino: u64) -> io::Result<(&mut Names, &mut Names)> {
        match &mut self.node_mut(ino)?.content {
            Content::Dir { now, durable } => Ok((now, durable)),
            _ => Err(errno(Errno::NOTDIR)),
        }
    }

    pub(super) fn is_network(&self, real: &Path) -> bool {
        self.network.iter().any(|mount| real.starts_with(mount))
    }

    fn device(&self, real: &Path) -> u64 {
        self.network.iter().position(|mount| real.starts_with(mount)).map_or(LOCAL, |n| n as u64 + 2)
    }

    /// Follows a path from the root. The last component need not exist.
    pub(super) fn find(&self, path: &Path, follow: bool) -> io::Result<Place> {
        self.walk(path, follow, MAX_LINKS)
    }

    fn walk(&self, path: &Path, follow: bool, links: usize) -> io::Result<Place> {
        let mut trail = vec![(ROOT, OsString::new())];
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let name = match part {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => {
                    trail.truncate((trail.len() - 1).max(1));
                    continue;
                }
                Component::Normal(name) => name,
            };
            let dir = trail.last().map_or(ROOT, |t| t.0);
            let real: PathBuf = trail.iter().skip(1).fold(PathBuf::from("/"), |p, t| p.join(&t.1));
            let last = parts.peek().is_none();
            let found = self.names(dir)?.get(name).copied();
            if let Some(Content::Link(target)) = found.and_then(|ino| self.nodes.get(&ino)).map(|n| &n.content)
                && (follow || !last)
            {
                let next = links.checked_sub(1).ok_or_else(|| errno(Errno::LOOP))?;
                let rest = parts.fold(real.join(target), |p, c| p.join(c));
                return self.walk(&rest, follow, next);
            }
            match found {
                _ if last => return Ok(Place { dir, name: name.into(), ino: found, real: real.join(name) }),
                Some(ino) => trail.push((ino, name.into())),
                None => return Err(errno(Errno::NOENT)),
            }
        }
        let real = trail.iter().skip(1).fold(PathBuf::from("/"), |p, t| p.join(&t.1));
        let (ino, name) = trail.pop().unwrap_or((ROOT, OsString::new()));
        Ok(Place { dir: trail.last().map_or(ROOT, |t| t.0), name, ino: Some(ino), real })
    }

    /// The inode that a path leads to.
    pub(super) fn lookup(&self, path: &Path, follow: bool) -> io::Result<u64> {
        self.find(path, follow)?.ino.ok_or_else(|| errno(Errno::NOENT))
    }

    pub(super) fn meta(&self, ino: u64) -> io::Result<Meta> {
        let node = self.node(ino)?;
        let (kind, len) = match &node.content {
            Content::File(data) => (FileKind::File, data.now.len() as u64),
            Content::Dir { now, .. } => (FileKind::Dir, now.len() as u64),
            Content::Link(target) => (FileKind::Symlink, target.as_os_str().len() as u64),
        };
        let (mtime_ns, mode, dev, nlink) = (node.mtime_ns, node.mode, node.dev, node.nlink);
        let birth_ns = (self.births && dev == LOCAL).then_some(node.birth_ns);
        Ok(Meta { kind, len, ino, dev, mtime_ns, birth_ns, mode, uid: 0, gid: 0, nlink })
    }

    /// The inode that a cached name leads to, if it still is what it was.
    pub(super) fn former(&self, former: &Former) -> Option<u64> {
        let node = self.nodes.get(&former.meta.ino)?;
        (node.generation == former.generation).then_some(former.meta.ino)
    }

    /// Makes an inode under a name that is free.
    pub(super) fn make(
        &mut self,
        place: &Place,
        content: Content,
        mode: u32,
        now_ns: i128,
        by: By,
        rng: &mut Rng,
    ) -> io::Result<u64> {
        if place.name.is_empty() || place.ino.is_some() {
            return Err(errno(Errno::EXIST));
        }
        let reuse = !self.free.is_empty() && !rng.chance(2500);
        let ino = if reuse { self.free.pop() } else { None }.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.generations += 1;
        let node = new_node(content, mode, self.device(&place.real), now_ns);
        self.nodes.insert(ino, Node { generation: self.generations, ..node });
        self.link(place.dir, place.name.clone(), ino, by)?;
        Ok(ino)
    }

    /// Gives an inode a (further) name.
    pub(super) fn link(&mut self, dir: u64, name: OsString, ino: u64, by: By) -> io::Result<()> {
        self.set_name(dir, &name, Some(ino))?;
        self.change_names(NameChange::Link { dir, name, ino }, by);
        Ok(())
    }

    pub(super) fn unlink(&mut self, place: &Place, by: By) -> io::Result<()> {
        let ino = place.ino.ok_or_else(|| errno(Errno::NOENT))?;
        if matches!(self.node(ino)?.content, Content::Dir { .. }) {
            return Err(errno(Errno::ISDIR));
        }
        self.set_name(place.dir, &place.name, None)?;
        self.change_names(NameChange::Unlink { dir: place.dir, name: place.name.clone() }, by);
        self.reap(ino);
        Ok(())
    }

    /// Removes an empty directory.
    pub(super) fn remove_dir(&mut self, place: &Place) -> io::Result<()> {
        let ino = place.ino.ok_or_else(|| errno(Errno::NOENT))?;
        match &self.node(ino)?.content {
            Content::Dir { now, .. } if now.is_empty() => {}
            Content::Dir { .. } => return Err(errno(Errno::NOTEMPTY)),
            _ => return Err(errno(Errno::NOTDIR)),
        }
        self.set_name(place.dir, &place.name, None)?;
        self.change_names(NameChange::Unlink { dir: place.dir, name: place.name.clone() }, By::Process);
        self.reap(ino);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Place, to: &Place, by: By) -> io::Result<()> {
        let ino = from.ino.ok_or_else(|| errno(Errno::NOENT))?;
        if to.ino == Some(ino) {
            return Ok(());
        }
        if to.name.is_empty() || to.real.starts_with(&from.real) {
            return Err(errno(Errno::INVAL));
        }
        let is_dir = matches!(self.node(ino)?.content, Content::Dir { .. });
        if let Some(old) = to.ino {
            match &self.node(old)?.content {
                Content::Dir { now, .. } if is_dir && now.is_empty() => {}
                Content::Dir { .. } if is_dir => return Err(errno(Errno::NOTEMPTY)),
                Content::Dir { .. } => return Err(errno(Errno::ISDIR)),
                _ if is_dir => return Err(errno(Errno::NOTDIR)),
                _ => {}
            }
        }
        self.set_name(from.dir, &from.name, None)?;
        self.set_name(to.dir, &to.name, Some(ino))?;
        let (from, to_place) = ((from.dir, from.name.clone()), (to.dir, to.name.clone()));
        self.change_names(NameChange::Rename { from, to: to_place, ino }, by);
        if let Some(old) = to.ino {
            self.reap(old);
        }
        Ok(())
    }

    /// Changes what is to be seen under a name.
    fn set_name(&mut self, dir: u64, name: &OsStr, ino: Option<u64>) -> io::Result<()> {
        let old = self.names(dir)?.get(name).copied();
        let former =
            |ino: u64| Some(Former { meta: self.meta(ino).ok()?, generation: self.node(ino).ok()?.generation });
        let before = old.and_then(former);
        self.cached.changes(dir, name, before);
        let (now, _) = self.dir_mut(dir)?;
        match ino {
            Some(ino) => now.insert(name.to_owned(), ino),
            None => now.remove(name),
        };
        if let Some(node) = ino.and_then(|ino| self.nodes.get_mut(&ino)) {
            node.nlink += 1;
        }
        if let Some(node) = old.and_then(|old| self.nodes.get_mut(&old)) {
            node.nlink = node.nlink.saturating_sub(1);
        }
        Ok(())
    }

    fn change_names(&mut self, change: NameChange, by: By) {
        match by {
            By::Process => self.names.push(change),
            By::App => {
                // A name's changes keep their order: what the process did to it is durable with what comes after.
                let (before, rest) = std::mem::take(&mut self.names).into_iter().partition(|c| c.meets(&change));
                self.names = rest;
                let before: Vec<NameChange> = before;
                before.iter().for_each(|earlier| self.make_durable(earlier));
                self.make_durable(&change);
            }
        }
    }

    fn make_durable(&mut self, change: &NameChange) {
        match change {
            NameChange::Link { dir, name, ino } => self.set_durable(*dir, name, Some(*ino)),
            NameChange::Unlink { dir, name } => self.set_durable(*dir, name, None),
            NameChange::Rename { from, to, ino } => {
                self.set_durable(to.0, &to.1, Some(*ino));
                let is_it = self.dir_mut(from.0).is_ok_and(|(_, durable)| durable.get(&from.1) == Some(ino));
                if is_it {
                    self.set_durable(from.0, &from.1, None);
                }
            }
        }
    }

    fn set_durable(&mut self, dir: u64, name: &OsStr, ino: Option<u64>) {
        let ino = ino.filter(|ino| self.nodes.contains_key(ino));
        let Ok((_, durable)) = self.dir_mut(dir) else { return };
        let old = match ino {
            Some(ino) => durable.insert(name.to_owned(), ino),
            None => durable.remove(name),
        };
        if let Some(node) = ino.and_then(|ino| self.nodes.get_mut(&ino)) {
            node.durable_links += 1;
        }
        if let Some(old) = old {
            if let Some(node) = self.nodes.get_mut(&old) {
                node.durable_links = node.durable_links.saturating_sub(1);
            }
            self.reap(old);
        }
    }

    /// Lets an inode go with its last name, whoever has it open.
    pub(super) fn forget_readers(&mut self, ino: u64) {
        if let Some(node) = self.nodes.get_mut(&ino).filter(|node| node.nlink == 1 && node.app_handles == 0) {
            node.process_handles = 0;
        }
    }

    /// Frees an inode that nothing refers to.
    pub(super) fn reap(&mut self, ino: u64) {
        let pending = |names: &[NameChange]| {
            names
                .iter()
                .any(|c| matches!(c, NameChange::Link { ino: i, .. } | NameChange::Rename { ino: i, .. } if *i == ino))
        };
        let unused = self
            .nodes
            .get(&ino)
            .is_some_and(|n| n.nlink == 0 && n.durable_links == 0 && n.process_handles == 0 && n.app_handles == 0);
        if unused && ino != ROOT && !pending(&self.names) {
            self.nodes.remove(&ino);
            self.free.push(ino);
        }
    }

    /// `fsync` of a directory: the names in it.
    pub(super) fn sync_dir(&mut self, dir: u64) -> io::Result<()> {
        self.names(dir)?;
        let (synced, rest) = std::mem::take(&mut self.names).into_iter().partition::<Vec<_>, _>(|c| c.touches(dir));
        self.names = rest;
        for change in &synced {
            self.make_durable(change);
        }
        for change in synced {
            if let NameChange::Link { ino, .. } | NameChange::Rename { ino, .. } = change {
                self.reap(ino);
            }
        }
        Ok(())
    }

    /// Appends bytes.
    pub(super) fn append(&mut self, ino: u64, bytes: &[u8], now_ns: i128, by: By) -> io::Result<()> {
        self.node_mut(ino)?.mtime_ns = now_ns;
        let data = self.data_mut(ino)?;
        data.len_before = data.now.len();
        if by == By::Process {
            data.durable.get_or_insert_with(|| data.now.clone());
            data.pending.push(Write::Bytes { at: data.now.len(), bytes: bytes.to_vec() });
        } else if let Some(durable) = &mut data.durable {
            durable.extend_from_slice(bytes);
        }
        data.now.extend_from_slice(bytes);
        Ok(())
    }

    /// Cuts or extends a file.
    pub(super) fn set_len(&mut self, ino: u64, len: usize, now_ns: i128, by: By) -> io::Result<()> {
        self.node_mut(ino)?.mtime_ns = now_ns;
        let data = self.data_mut(ino)?;
        (data.len_before, data.shown) = (data.now.len(), data.shown.min(len));
        if by == By::Process {
            data.durable.get_or_insert_with(|| data.now.clone());
            data.pending.push(Write::Len(len));
        } else if let Some(durable) = &mut data.durable {
            durable.resize(len, 0);
        }
        data.now.resize(len, 0);
        Ok(())
    }

    /// `fdatasync` of a file.
    pub(super) fn sync(&mut self, ino: u64) -> io::Result<()> {
        let Ok(data) = self.data_mut(ino) else { return Ok(()) };
        if data.tainted {
            let durable = data.durable.get_or_insert_with(Vec::new);
            for write in data.pending.drain(..) {
                apply(durable, &write);
            }
            data.tainted = *durable != data.now;
        }
        if !data.tainted {
            data.durable = None;
        }
        data.pending.clear();
        Ok(())
    }

    /// A sync that failed: some of what was to be written is, the rest never will be.
    pub(super) fn fail_sync(&mut self, ino: u64, rng: &mut Rng) -> io::Result<()> {
        let data = self.data_mut(ino)?;
        if let Some(mut durable) = data.durable.take() {
            survive(&mut durable, &data.pending, rng);
            data.pending.clear();
            data.tainted = durable != data.now;
            data.durable = data.tainted.then_some(durable);
        }
        Ok(())
    }

    /// The process under test is gone: its open files are closed; the disk doesn't notice more.
    pub(super) fn end_process(&mut self) {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        for ino in all {
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.process_handles = 0;
            }
            self.reap(ino);
        }
    }

    /// The machine is gone, and comes up with what was durable and some of the rest.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let names = std::mem::take(&mut self.names);
        // Half of the time as a journal would have it (a prefix), else as the letter of the law allows (any).
        let prefix = if rng.chance(5000) { rng.index(names.len() + 1) } else { usize::MAX };
        for (n, change) in names.iter().enumerate() {
            if if prefix == usize::MAX { rng.chance(5000) } else { n < prefix } {
                self.make_durable(change);
            }
        }
        self.cached = NameCache::default();
        for node in self.nodes.values_mut() {
            (node.nlink, node.process_handles, node.app_handles) = (node.durable_links, 0, 0);
            match &mut node.content {
                Content::File(data) => {
                    if let Some(mut durable) = data.durable.take() {
                        survive(&mut durable, &data.pending, rng);
                        data.now = durable;
                    }
                    data.pending.clear();
                    (data.tainted, data.len_before) = (false, data.now.len());
                }
                Content::Dir { now, durable } => now.clone_from(durable),
                Content::Link(_) => {}
            }
        }
        self.drop_unreachable();
    }

    fn drop_unreachable(&mut self) {
        let mut reached = std::collections::BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            if let Ok(names) = self.names(ino) {
                todo.extend(names.values().copied().filter(|child| reached.insert(*child)));
            }
        }
        let lost: Vec<u64> = self.nodes.keys().copied().filter(|ino| !reached.contains(ino)).collect();
        for ino in lost {
            self.nodes.remove(&ino);
            self.free.push(ino);
        }
    }
}

/// The content of a new directory.
pub(super) fn new_dir() -> Content {
    Content::Dir { now: Names::new(), durable: Names::new() }
}

fn new_node(content: Content, mode: u32, dev: u64, mtime_ns: i128) -> Node {
    let (nlink, durable_links) = (0, 0);
    Node {
        content,
        mode,
        mtime_ns,
        birth_ns: mtime_ns,
        nlink,
        durable_links,
        process_handles: 0,
        app_handles: 0,
        dev,
        generation: 0,
    }
}

fn apply(content: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Len(len) => content.resize(*len, 0),
        Write::Bytes { at, bytes } => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(place) = content.get_mut(*at..end) {
                place.copy_from_slice(bytes);
            }
        }
    }
}

/// Applies some of the writes that nobody waited for: a prefix or any of them, the last one or each one torn at any byte,
/// or its size without its bytes.
fn survive(content: &mut Vec<u8>, pending: &[Write], rng: &mut Rng) {
    let prefix = if rng.chance(5000) { rng.index(pending.len() + 1) } else { usize::MAX };
    for (n, write) in pending.iter().enumerate() {
        let how = match prefix {
            usize::MAX => rng.below(4),
            _ if n < prefix => 0,
            _ if n == prefix => 1 + rng.below(3),
            _ => 3,
        };
        match (how, write) {
            (0, write) => apply(content, write),
            (1, Write::Bytes { at, bytes }) => {
                let torn = rng.index(bytes.len() + 1);
                apply(content, &Write::Bytes { at: *at, bytes: bytes.get(..torn).unwrap_or_default().to_vec() });
            }
            (2, Write::Bytes { at, bytes }) => {
                apply(content, &Write::Bytes { at: *at, bytes: vec![0; bytes.len()] });
            }
            _ => {}
        }
    }
}
