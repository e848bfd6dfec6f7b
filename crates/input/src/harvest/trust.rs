//! What is believed of what a file system says.
//!
//! Comes in: paths, and descriptors that are open. Goes out: [`Seen`]: what is there, and whether that is sure.
//!
//! A local file system is believed. On a network one, attributes, names and listings come from caches: a size may lie
//! behind or ahead of the data, a name may lead to what was there before. Three things are sure there:
//! - **What a file that is opened now says of itself first**: close-to-open consistency (nfs(5), "Data and metadata
//!   coherence"; SMB without a lease asks the server at each open).
//! - **What a name leads to after its directory was asked for its attributes**: a client throws cached names and
//!   listings away when it sees that their directory has changed (Linux: `nfs_revalidate_mapping`, `nfs_check_verifier`).
//!   `Fs::stat` asks the server (`AT_STATX_FORCE_SYNC`).
//! - **Data that can be read** is there, whatever the size says.
//!
//! So a look is believed as it is only where it agrees with what is known: the same file at the same path, no smaller than
//! what was read. Whatever else it shows is asked again in that way before anything follows from it; what isn't sure never
//! makes a known size smaller.
//!
//! On a file system in user space not even the first has to be of the file that is open: sshfs asks and caches by the path
//! and reads by the descriptor. There a descriptor is renewed whenever what is told of it has changed.
//!
//! Always holds: a file is taken for truncated, replaced, renamed or gone only for what is sure. Tested by the
//! simulation's plans with network file systems, and in `tests/faults.rs`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use pillion_world::{File, FileKind, Meta, Mono, OpenHow};

use crate::harvest::Harvester;
use crate::harvest::file::{FileState, differ, ns};
use crate::harvest::identity::{guard_holds, read_exactly};
use crate::harvest::look::missing;
use crate::harvest::table::FileId;
use pillion_event::Guard;
use pillion_registry::Entry;

/// What a look shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) meta: Meta,
    /// It is no cache's word.
    pub(crate) sure: bool,
}

/// A file that was opened to ask what is at its path; whoever opens it in the same step gets it.
pub(crate) struct Asked {
    path: PathBuf,
    follow: bool,
    fd: Box<dyn File>,
    meta: Meta,
}

impl Harvester {
    /// A regular file at a path; `None` = something else, or a link where links aren't followed. `known`: the file that
    /// should be there.
    pub(crate) fn look_up(&mut self, path: &Path, symlinks: bool, known: Option<FileId>) -> io::Result<Option<Seen>> {
        let seen = self.stat_file(path, symlinks);
        if !path.parent().is_some_and(|dir| self.folder(dir).network) {
            return Ok(seen?.map(|meta| Seen { meta, sure: true }));
        }
        let agrees = |f: &FileState, m: &Meta| !f.gone && *f.path == *path && f.is(m) && m.len >= f.floor();
        if let (Ok(Some(meta)), Some(f)) = (&seen, known.and_then(|id| self.table.get(id)))
            && agrees(f, meta)
        {
            return Ok(Some(Seen { meta: *meta, sure: false }));
        }
        match self.ask(path, symlinks) {
            // Whoever mayn't read it may look at it all the same.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(seen?.map(|meta| Seen { meta, sure: false })),
            Err(e) if leads_nowhere(&e) => Ok(None),
            asked => Ok(asked?.map(|meta| Seen { meta, sure: true })),
        }
    }

    /// The same, whatever is known: nothing that a cache says.
    pub(crate) fn is_there(&mut self, path: &Path, symlinks: bool) -> io::Result<Option<Meta>> {
        Ok(self.look_up(path, symlinks, None)?.map(|seen| seen.meta))
    }

    pub(crate) fn stat_file(&self, path: &Path, symlinks: bool) -> io::Result<Option<Meta>> {
        self.at.set(path);
        let mut meta = self.world.fs.stat(path, false)?;
        if meta.kind == FileKind::Symlink && symlinks {
            meta = match self.world.fs.stat(path, true) {
                Err(e) if leads_nowhere(&e) => return Ok(None),
                other => other?,
            };
        }
        Ok((meta.kind == FileKind::File).then_some(meta))
    }

    fn ask(&mut self, path: &Path, follow: bool) -> io::Result<Option<Meta>> {
        let (fd, meta) = self.open_path(path, follow, true)?;
        self.asked = Some(Asked { path: path.to_owned(), follow, fd, meta });
        Ok((meta.kind == FileKind::File).then_some(meta))
    }

    /// Opens what is at a path now, or takes what this step has opened there; with its first `stat`.
    pub(crate) fn open_path(&mut self, path: &Path, follow: bool, network: bool) -> io::Result<(Box<dyn File>, Meta)> {
        if let Some(asked) = self.asked.take().filter(|a| a.path == path && a.follow == follow) {
            return Ok((asked.fd, asked.meta));
        }
        self.at.set(path);
        if network && let Some(dir) = path.parent() {
            // What it says isn't of interest: that it is asked makes the client forget names that have changed. A folder
            // that can't be looked at shows in the open.
            let _ = self.world.fs.stat(dir, true);
        }
        let how = if follow { OpenHow::Read } else { OpenHow::ReadNoFollow };
        let fd = self.world.fs.open(path, how)?;
        let meta = fd.stat()?;
        Ok((fd, meta))
    }

    /// What an open file is now. Its size isn't below what was read, nor beyond what can be read, unless it was opened anew
    /// to find that out; of one that can't be opened anew the data tells.
    pub(crate) fn now_of(&mut self, id: FileId, now: Mono) -> io::Result<Seen> {
        if let Some(meta) = self.ensure_open(id, now)? {
            return Ok(Seen { meta, sure: true });
        }
        let opened = self.table.get(id).and_then(|f| Some((f, f.fd.as_deref()?)));
        let Some((f, fd)) = opened else { return Err(ErrorKind::NotFound.into()) };
        self.at.set(&f.path);
        let meta = fd.stat()?;
        if f.userspace
            && meta.len != f.opened_len
            && let Some(meta) = self.renew(id, now)?
        {
            return Ok(Seen { meta, sure: true });
        }
        let opened = self.table.get(id).and_then(|f| Some((f, f.fd.as_deref()?)));
        let Some((f, fd)) = opened else { return Err(ErrorKind::NotFound.into()) };
        if !f.network {
            return Ok(Seen { meta, sure: true });
        }
        if f.gone {
            let len = end_of_data(fd, f.floor(), meta.len)?;
            return Ok(Seen { meta: Meta { len, ..meta }, sure: true });
        }
        let meta = f.not_older(meta);
        // No smaller than what was read, and no larger than what can be read.
        if meta.len >= f.floor() && (meta.len == f.opened_len || has_byte(fd, meta.len - 1)?) {
            return Ok(Seen { meta, sure: false });
        }
        Ok(Seen { meta: self.open_anew(id, now)?, sure: true })
    }

    /// Where a descriptor may be of a file that was at the path before: opens what is there now in its place. `None`: there is
    /// nothing any more, or the descriptor does follow the file.
    fn renew(&mut self, id: FileId, now: Mono) -> io::Result<Option<Meta>> {
        let Some(f) = self.table.get(id).filter(|f| f.userspace && !f.gone && f.fd.is_some()) else { return Ok(None) };
        let follow = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        let path = f.path.clone();
        match self.open_path(&path, follow, true) {
            Ok((fd, meta)) => {
                let Some(f) = self.table.get_mut(id).filter(|f| f.is(&meta)) else {
                    return Err(io::Error::new(ErrorKind::NotFound, "another file is at its path"));
                };
                (f.fd, f.opened, f.opened_len) = (Some(fd), now, meta.len);
                Ok(Some(meta))
            }
            // It has no name: where descriptors follow files, this one is the only way to it.
            Err(e) if missing(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the bytes before `pos` are those that were read.
    pub(crate) fn content_is_known(&mut self, id: FileId, now: Mono) -> io::Result<bool> {
        if self.table.get(id).is_none_or(|f| f.guard.len == 0) {
            return Ok(true);
        }
        let mut opened = self.ensure_open(id, now)?;
        if opened.is_none() {
            opened = self.renew(id, now)?;
        }
        let Some((f, fd)) = self.table.get(id).and_then(|f| Some((f, f.fd.as_deref()?))) else { return Ok(true) };
        let holds = guard_holds(fd, f.pos, f.guard)? && (!f.userspace || self.has_fingerprint(f, fd)?);
        if holds || opened.is_some() || !f.network || f.gone {
            return Ok(holds);
        }
        // What an open descriptor reads may be cached, too.
        self.close(id);
        self.content_is_known(id, now)
    }

    /// On a network file system whose inode numbers aren't its own, two files can seem one.
    pub(crate) fn is_another(&self, id: FileId, meta: &Meta, there: &Meta) -> bool {
        let differs = (meta.len, meta.mtime_ns, meta.birth_ns) != (there.len, there.mtime_ns, there.birth_ns);
        self.table.get(id).is_some_and(|f| f.network) && meta.nlink <= 1 && differs
    }

    /// Whether the bytes before a file's `pos` can be read and are those that were: then it wasn't cut off before them.
    pub(crate) fn is_all_there(&mut self, id: FileId, now: Mono) -> bool {
        match self.ensure_open(id, now) {
            Ok(None) if self.renew(id, now).is_ok() => {}
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
        let opened = self.table.get(id).and_then(|f| Some((f, f.fd.as_deref()?)));
        opened.is_some_and(|(f, fd)| holds(fd, f.pos, f.guard).unwrap_or(false))
    }

    /// Whether what is at a path is another file than the one whose inode it has: of births that aren't told, the content
    /// tells, and the fingerprint where that is the identity. Otherwise a file of which nothing was read yet can't be told
    /// from another.
    pub(crate) fn is_another_file(&mut self, id: FileId, path: &Path, meta: &Meta) -> io::Result<bool> {
        let Some(f) = self.table.get(id) else { return Ok(false) };
        let born = ns(meta.birth_ns);
        if f.birth_ns.is_some() && born.is_some() {
            return Ok(differ(f.birth_ns, born));
        }
        let network = f.network;
        let follow = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        let (fd, seen) = self.open_path(path, follow, network)?;
        let Some(f) = self.table.get(id).filter(|_| (seen.dev, seen.ino) == (meta.dev, meta.ino)) else {
            return Ok(false);
        };
        let known = f.guard.len == 0 || holds(&*fd, f.pos, f.guard)?;
        let another = !known || !self.has_fingerprint(f, &*fd)?;
        self.asked = Some(Asked { path: path.to_owned(), follow, fd, meta: seen });
        Ok(another)
    }
}

/// File systems that count time coarsely, and a write that came while an entry was written.
const MTIME_SLACK_NS: i128 = 2_000_000_000;

/// Whether the bytes before an entry's offset are to be looked at before a file goes on with it. What has something to read is
/// checked when it is read, unless nothing but its bytes tells that the entry is its own: another file's unread rest is nobody's
/// loss. A file that seems to be at its end and hasn't changed since the entry was written needs no check; on a network file
/// system two clocks can't be compared.
pub(crate) fn has_to_be_checked(f: &FileState, entry: &Entry, fingerprint: bool) -> bool {
    if f.len > f.pos {
        let births = f.birth_ns.is_some() && entry.birth_ns.is_some();
        return f.pos > 0 && !births && !fingerprint && !f.is_compressed();
    }
    f.network || i128::from(f.mtime_ns) > entry.updated_ns - MTIME_SLACK_NS
}

/// Whether a link leads in a circle, or isn't followed by anybody.
pub(crate) fn leads_nowhere(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::ELOOP)
}

/// Whether the bytes before `pos` are there and are those that are remembered; not so where none are.
pub(crate) fn holds(fd: &dyn File, pos: u64, guard: Guard) -> io::Result<bool> {
    let len = usize::from(guard.len);
    let Some(from) = pos.checked_sub(len as u64).filter(|_| len > 0) else { return Ok(false) };
    let bytes = read_exactly(fd, from, len)?;
    Ok(bytes.len() == len && Guard::of(&bytes) == guard)
}

fn has_byte(fd: &dyn File, at: u64) -> io::Result<bool> {
    Ok(fd.read_at(&mut [0], at)? > 0)
}

/// Where a file's data ends, when its size can't be asked for: the size it tells, if there is data up to it and none
/// behind.
fn end_of_data(fd: &dyn File, floor: u64, told: u64) -> io::Result<u64> {
    let mut at = if told == 0 || has_byte(fd, told - 1)? {
        told
    } else if floor > 0 && !has_byte(fd, floor - 1)? {
        return Ok(told.min(floor - 1));
    } else {
        floor
    };
    let mut buf = vec![0; 16 * 1024];
    loop {
        match fd.read_at(&mut buf, at)? {
            0 => return Ok(at),
            n => at += n as u64,
        }
    }
}
