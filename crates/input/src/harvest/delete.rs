//! Files that are deleted once they are delivered (`delete.*` of filestream).
//!
//! Comes in: the files of an input, after each of its searches. Goes out: those deleted that may go.
//!
//! ```text
//! read to its end, closed (`close.*`), all acknowledged ─▶ waits for the grace period ─▶ put aside, looked at again ─▶ removed
//!          ▲                                                       │ it has changed           │ swapped or written to
//!          └───────────────────────────────────────────────────────┴──────────────────────────┘
//! ```
//!
//! Always holds: a file goes only when the registry says durably that all of it is acknowledged, nothing of it lies in the disk
//! queue (the target may refuse it yet) or was refused by the target, no other input is behind with it (of this thread or another: `peers.rs`), and its descriptor says right before: a regular file with one name, the inode, length, time and last bytes
//! that were read. It is open while it goes: what somebody who has it open writes at the last moment is read like that of any
//! deleted file. One that was put aside by a process that was killed then gets its name back at the next start, and waits
//! anew. In the end of a run nothing is deleted. Facts: Filebeat's documentation, "Removing files after ingestion".
//! Tested in `tests/delete.rs`, and with a crash at every step in the simulation's `tests/delete.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_event::{Guard, Incarnation};
use pillion_world::{File, FileKind, Mono, put_aside};

use crate::harvest::file::{FileState, differ, ns};
use crate::harvest::identity::read_exactly;
use crate::harvest::live::Life;
use crate::harvest::look::missing;
use crate::harvest::table::FileId;
use crate::harvest::{Harvester, Input};
use crate::scan::LEAVING;

/// Whether the target has taken all that was read of a life of a file in this process, known by its path, too; without a
/// path, as the file had others: of all files.
pub type Whole = Arc<dyn Fn(Option<&str>, Incarnation) -> bool + Send + Sync>;

/// Files that are to be deleted.
#[derive(Default)]
pub(crate) struct Deleting {
    waiting: BTreeMap<FileId, Leaving>,
    /// Those whose time has come.
    due: VecDeque<FileId>,
    whole: Option<Whole>,
    /// What lies aside since a call failed, and where it belongs: until it is back, nothing else goes.
    strayed: Option<(PathBuf, PathBuf)>,
}

/// A file that waits to be deleted.
#[derive(Clone, Copy)]
struct Leaving {
    input: u16,
    life: Incarnation,
    pos: u64,
    due: Mono,
    /// It is one of those whose time has come.
    called: bool,
}

/// What a file has to be when it goes.
struct Expected {
    dev: u64,
    ino: u64,
    birth: Option<std::num::NonZeroI64>,
    mtime_ns: i64,
    len: u64,
    guard: Guard,
}

impl Expected {
    fn of(f: &FileState) -> Expected {
        let (dev, ino, birth) = (f.dev, f.ino, f.birth_ns);
        Expected { dev, ino, birth, mtime_ns: f.mtime_ns, len: f.pos, guard: f.guard }
    }

    fn fits(&self, file: &dyn File) -> io::Result<bool> {
        let meta = file.stat()?;
        let same = (meta.dev, meta.ino) == (self.dev, self.ino) && !differ(self.birth, ns(meta.birth_ns));
        let unchanged = meta.len == self.len && meta.mtime_ns as i64 == self.mtime_ns;
        if meta.kind != FileKind::File || meta.nlink != 1 || !same || !unchanged || self.guard.len == 0 {
            return Ok(false);
        }
        let known = u64::from(self.guard.len);
        let tail = read_exactly(file, self.len.saturating_sub(known), known as usize)?;
        Ok(Guard::of(&tail) == self.guard)
    }
}

/// Where a life of a file lies while it goes.
fn aside(path: &Path, life: Incarnation) -> Option<PathBuf> {
    let mut name = OsString::from(format!("{:032x}-", life.0));
    name.push(path.file_name()?);
    Some(path.parent()?.join(LEAVING).join(name))
}

/// The life and the own name of what lies aside under this name.
fn left(name: &OsStr) -> Option<(Incarnation, &OsStr)> {
    let (life, name) = name.as_bytes().split_at_checked(32)?;
    let life = u128::from_str_radix(std::str::from_utf8(life).ok()?, 16).ok()?;
    Some((Incarnation(life), OsStr::from_bytes(name.strip_prefix(b"-").filter(|name| !name.is_empty())?)))
}

impl Harvester {
    /// Deletes nothing of which this says that the target hasn't taken all. To be called before the first step.
    #[must_use]
    pub fn asking(mut self, whole: Whole) -> Harvester {
        self.deleting.whole = Some(whole);
        self
    }

    /// After a search: which files of the input wait to be deleted, and which of them are due.
    pub(crate) fn look_for_leaving(&mut self, input: usize, now: Mono) {
        let Some(grace) = self.inputs.get(input).and_then(|i| i.spec.delete_after) else { return };
        if self.is_draining(input as u16) {
            return;
        }
        let mut waiting = BTreeMap::new();
        for id in 0..self.table.end() {
            let Some((life, pos)) = self.table.peek(id, input, |f| self.may_go(f, now)).flatten() else { continue };
            // With another input another time counts.
            let same = |l: &&Leaving| (usize::from(l.input), l.life, l.pos) == (input, life, pos);
            let known = self.deleting.waiting.get(&id).filter(same);
            let anew = Leaving { input: input as u16, life, pos, due: now.plus(grace), called: false };
            let mut leaving = known.copied().unwrap_or(anew);
            if leaving.due <= now && !leaving.called {
                leaving.called = true;
                self.deleting.due.push_back(id);
            }
            waiting.insert(id, leaving);
        }
        self.deleting.waiting.retain(|_, l| usize::from(l.input) != input);
        self.deleting.waiting.append(&mut waiting);
        // The next one that is due doesn't wait for the next search.
        let next = self.deleting.waiting.values().filter(|l| usize::from(l.input) == input).map(|l| l.due).min();
        if let (Some(next), Some(i)) = (next.filter(|next| *next > now), self.inputs.get_mut(input)) {
            i.due = i.due.min(next.max(i.tour.not_before));
        }
    }

    /// The life and the end of a file that may go, but for the time.
    fn may_go(&self, f: &FileState, now: Mono) -> Option<(Incarnation, u64)> {
        let deletes = |i: &&Input| i.life == Life::Reading && i.spec.delete_after.is_some();
        let close = self.inputs.get(usize::from(f.input)).filter(deletes)?.spec.close;
        let read = f.pos > 0 && (f.pos, f.pos, f.pos) == (f.len, f.sure_len, f.scanned_to) && f.replays.is_none();
        let at_rest = !f.gone && !f.queued && !f.link && !f.userspace && f.errors == 0 && f.group_at.is_none();
        let closed = close.eof || now.since(f.active) >= close.inactive;
        if !read || !at_rest || !closed {
            return None;
        }
        let acked = self.is_acknowledged(f) && self.is_read_by_others(f);
        // What was refused stands under the path that the file had then.
        let path = (!f.renamed).then(|| f.path.text());
        let whole = self.deleting.whole.as_ref().is_none_or(|whole| whole(path.map(|path| &**path), f.incarnation));
        (acked && whole).then_some((f.incarnation, f.pos))
    }

    /// Nothing waits any more as this input says: its place may be another one's soon.
    pub(crate) fn forget_leaving(&mut self, input: usize) {
        self.deleting.waiting.retain(|_, l| usize::from(l.input) != input);
    }

    /// Whether all that was read of a file is acknowledged.
    pub(crate) fn is_acknowledged(&self, f: &FileState) -> bool {
        let entry = self.table.key_of(f).and_then(|key| self.registry.get(&key));
        entry.is_some_and(|e| e.incarnation == f.incarnation && e.offset == f.pos && e.intents.is_empty())
    }

    /// Deletes the file that is due first, unless it has changed; false: none is due.
    pub(crate) fn delete_next(&mut self, now: Mono) -> bool {
        let Some(id) = self.deleting.due.pop_front() else { return false };
        self.goes(id, now);
        true
    }

    fn goes(&mut self, id: FileId, now: Mono) {
        // Most of them are quiet.
        self.table.thaw_if(id, |_| true);
        let life = self.table.get(id).and_then(|f| self.may_go(f, now).map(|life| (f.input, life)));
        let is_it = |l: &Leaving| l.due <= now && life == Some((l.input, (l.life, l.pos)));
        let Some(mut waits) = self.deleting.waiting.remove(&id).filter(|l| !self.draining && is_it(l)) else { return };
        let Some(path) = self.table.get(id).map(|f| f.path.to_path_buf()) else { return };
        self.at.set(&path);
        if !self.goes_back() {
            waits.called = false;
            self.deleting.waiting.insert(id, waits);
            return;
        }
        match self.put_away(id, &path, waits.life, now) {
            Ok(true) => {
                tracing::info!(path = %path.display(), bytes = waits.pos, "a file was deleted: all of it is acknowledged");
                // Before it is closed it is looked at once more: somebody may have it open.
                self.table.get_mut(id).into_iter().for_each(|f| f.look_at = None);
                self.forget_asked(&path);
                self.lost_its_name(id, now);
            }
            // It waits anew, as after any change.
            Ok(false) => {}
            Err(e) if missing(&e) => {}
            Err(e) => {
                self.say_once(&path, "a delivered file can't be deleted; it is tried again", &e);
                waits.called = false;
                self.deleting.waiting.insert(id, waits);
            }
        }
    }

    fn put_away(&mut self, id: FileId, path: &Path, life: Incarnation, now: Mono) -> io::Result<bool> {
        let (Some(to), fs) = (aside(path, life), Arc::clone(&self.world.fs)) else { return Ok(false) };
        self.registry.sync()?;
        self.ensure_open(id, now)?;
        let Some(f) = self.table.get(id).filter(|f| f.incarnation == life) else { return Ok(false) };
        let expected = Expected::of(f);
        let folder = to.parent().unwrap_or(path);
        if fs.stat(folder, false).is_ok_and(|meta| meta.kind != FileKind::Dir) {
            return Err(io::Error::other(format!("{} isn't a folder", folder.display())));
        }
        let done = put_aside(&*fs, path, &to, &|file| expected.fits(file)).and_then(|gone| {
            if gone {
                fs.remove(&to)?;
                // Before anybody forgets what was read of it: a power failure must not bring it back as a new file.
                fs.sync_dir(folder)?;
            }
            Ok(gone)
        });
        if done.is_err() {
            self.deleting.strayed = Some((to, path.to_owned()));
            self.goes_back();
        } else {
            // Others may be in it.
            let _ = fs.remove_dir(folder);
        }
        done
    }

    /// A file that lies aside since a call failed gets its name back, before a search of any input takes it for gone. False:
    /// that failed, too.
    pub(crate) fn goes_back(&mut self) -> bool {
        let Some((from, path)) = self.deleting.strayed.take() else { return true };
        match self.world.fs.rename_new(&from, &path) {
            Err(e) if !missing(&e) && e.kind() != io::ErrorKind::AlreadyExists => {
                self.deleting.strayed = Some((from, path));
                return false;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.say_once(&from, "a file that was about to be deleted stays where it is", &e);
            }
            Ok(()) | Err(_) => {}
        }
        from.parent().into_iter().for_each(|folder| drop(self.world.fs.remove_dir(folder)));
        true
    }

    /// Before an input's first search: what a process that was killed had put aside gets its name back, whichever input deletes
    /// it: for the others it isn't gone.
    pub(crate) fn bring_all_back(&mut self) {
        self.goes_back();
        for at in 0..self.inputs.len() {
            if !std::mem::replace(&mut self.inputs[at].brought_back, true) {
                self.bring_back(at);
            }
        }
    }

    fn bring_back(&mut self, input: usize) {
        let Some(i) = self.inputs.get(input).filter(|i| i.spec.delete_after.is_some()) else { return };
        // A path that is no text stands in the registry as far as it is one: what it is, the name of what was put aside tells.
        let mut by_folder: BTreeMap<PathBuf, Vec<(Incarnation, OsString)>> = BTreeMap::new();
        self.registry.visit(|entry| {
            let path = Path::new(&*entry.source);
            if i.spec.paths.iter().any(|glob| glob.matches(path))
                && let (Some(folder), Some(name)) = (path.parent(), path.file_name())
            {
                by_folder.entry(folder.to_owned()).or_default().push((entry.incarnation, name.to_owned()));
            }
        });
        for (folder, known) in by_folder {
            self.bring_back_into(&folder, &known);
        }
    }

    fn bring_back_into(&mut self, folder: &Path, known: &[(Incarnation, OsString)]) {
        let (fs, leaving) = (Arc::clone(&self.world.fs), folder.join(LEAVING));
        if !fs.stat(&leaving, false).is_ok_and(|meta| meta.kind == FileKind::Dir) {
            return;
        }
        let mut files = Vec::new();
        let listed = fs.read_dir(&leaving, &mut |entry| {
            let own = left(entry.name)
                .filter(|(life, name)| known.iter().any(|(of, text)| of == life && **text == *name.to_string_lossy()));
            files.extend(own.map(|(_, name)| (leaving.join(entry.name), folder.join(name))));
            files.len() < known.len()
        });
        if let Err(e) = listed {
            self.say_once(&leaving, "files that were about to be deleted can't be looked for", &e);
        }
        for (from, path) in files {
            match fs.rename_new(&from, &path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "a file that was about to be deleted has its name again")
                }
                Err(e) if missing(&e) => {}
                Err(e) => self.say_once(&from, "a file that was about to be deleted stays where it is", &e),
            }
        }
        let _ = fs.remove_dir(&leaving);
    }
}
