//! A look at one path: which file is there, and what that means.
//!
//! Comes in: a path from a walk, a hint or a timer. Goes out: changes of the table and the registry, files that are
//! ready to be read. The table of what can happen is in `rules.rs`.

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_world::{FileKind, Meta, Mono};

use crate::harvest::account::LossCause;
use crate::harvest::file::{Drain, FileState};
use crate::harvest::identity::{Former, replays_of};
use crate::harvest::live::Life;
use crate::harvest::rules::{Verdict, judge};
use crate::harvest::table::FileId;
use crate::harvest::trust::{Seen, holds};
use crate::harvest::{Harvester, Hint};
use crate::spec::Identity;

/// When what a search didn't see, or couldn't, is looked for again.
pub(crate) const DOUBT: Duration = Duration::from_secs(1);

/// How seldom quiet files on a network file system are looked at, at most.
const SELDOM: Duration = Duration::from_secs(60);

pub(crate) fn missing(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether this is a client's own name for a file that was deleted while a program of its machine has it open: `.nfs` and 24
/// hexadecimal digits (Linux: `nfs_sillyrename`), `.fuse_hidden` and as many as it likes (libfuse: `hidden_name`).
///
/// Such a file isn't taken up as a new one. One that is known is read to its end under this name, and closed, so that the
/// name goes away.
pub(crate) fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().map_or(&b""[..], OsStrExt::as_bytes);
    let digits = name.strip_prefix(b".nfs").filter(|d| d.len() == 24).or_else(|| name.strip_prefix(b".fuse_hidden"));
    digits.is_some_and(|digits| digits.len() >= 8 && digits.iter().all(u8::is_ascii_hexdigit))
}

impl Harvester {
    /// Whether what is at a path is this input's to read.
    fn is_wanted(&mut self, input: u16, path: &Path, listed_ino: u64, now: Mono) -> bool {
        self.at.set(path);
        let group = self.group(input);
        if self.is_others(path, listed_ino, group, now) {
            return false;
        }
        let Some(i) = self.inputs.get(usize::from(input)) else { return false };
        !i.spec.leaves_out(path) && !self.is_own(path)
    }

    /// Looks at a path that a walk of this input found.
    pub(crate) fn look(&mut self, input: u16, path: PathBuf, listed_ino: u64, now: Mono) {
        let alone = self.sharing.is_none();
        if alone && self.is_quiet(input, &path)
            || !self.is_wanted(input, &path, listed_ino, now)
            || !alone && self.is_quiet(input, &path)
        {
            return;
        }
        let Some(i) = self.inputs.get(usize::from(input)) else { return };
        let (group, number, symlinks) = (i.group, i.tour.number, i.spec.symlinks);
        let known = self.table.by_path(group, &path);
        if let Some(id) = known
            && self.may_skip(id, input, listed_ino, now)
        {
            if let Some(f) = self.table.get_mut(id) {
                f.seen = number;
            }
            return;
        }
        let seen = match self.look_up(&path, symlinks, known) {
            Ok(Some(seen)) => seen,
            Ok(None) => return,
            Err(e) => {
                if missing(&e) {
                    self.vanished(input, &path);
                } else {
                    // It is there, but can't be looked at: it isn't gone.
                    if let Some(f) = known.and_then(|id| self.table.get_mut(id)) {
                        f.seen = number;
                    }
                    self.failed_to_see(input, &path, &e);
                    self.say_once(&path, "a file can't be looked at; it is tried again at each search", &e);
                }
                return;
            }
        };
        self.found_listed(input, path, known, &seen, now);
    }

    /// A regular file is at a path that matches: unless it is what a client keeps of a deleted one.
    fn found_listed(&mut self, input: u16, path: PathBuf, known: Option<FileId>, seen: &Seen, now: Mono) {
        if known.is_none() && is_leftover(&path) && path.parent().is_some_and(|dir| self.folder(dir).network) {
            let group = self.group(input);
            if self.table.by_inode(group, seen.meta.dev, seen.meta.ino).is_none() {
                return;
            }
        }
        self.found(input, path, seen, now);
    }

    /// A name that was listed is gone already: the file may have another one now, which the listing didn't have.
    fn vanished(&mut self, input: u16, path: &Path) {
        let is_link = matches!(self.world.fs.stat(path, false), Ok(m) if m.kind == FileKind::Symlink);
        if let Some(i) = self.inputs.get_mut(usize::from(input)).filter(|_| !is_link) {
            i.tour.vanished = true;
        }
    }

    fn is_own(&mut self, path: &Path) -> bool {
        if self.own.dirs.is_empty() && self.own.files.is_empty() && self.own.rotated.is_empty() {
            return false;
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return true };
        let folder = self.folder(dir);
        let (own, real) = (folder.own, folder.real.join(name));
        if own || !self.own.is_file(&real) {
            return own;
        }
        if self.said.is_new(path, "own") {
            tracing::info!(path = %path.display(), "a file of Pillion's own is left out, though an input's paths match it");
        }
        true
    }

    /// Whether the file at a path is one that rests, and to which nothing has happened: most looks of a search end here. One
    /// that is known was wanted when it was found; what has changed since can only be whose it is (`shared.rs`).
    fn is_quiet(&mut self, input: u16, path: &Path) -> bool {
        let Some(i) = self.inputs.get(usize::from(input)) else { return false };
        let (group, number, symlinks) = (i.group, i.tour.number, i.spec.symlinks);
        let Some(id) = self.table.resting_at(group, input, path) else { return false };
        let Ok(Some(meta)) = self.stat_file(path, symlinks) else { return false };
        self.table.saw(id, &meta, number)
    }

    /// Quiet files on a network file system aren't looked at in each search.
    fn may_skip(&self, id: FileId, input: u16, listed_ino: u64, now: Mono) -> bool {
        let Some(f) = self.table.get(id) else { return false };
        let quiet_for = now.since(f.active);
        f.network
            && !self.is_draining(input)
            && f.input == input
            && !f.gone
            && f.ino == listed_ino
            && f.look_at.is_none()
            && f.looked.plus((quiet_for / 8).min(SELDOM)) > now
    }

    /// A regular file is at this path.
    pub(crate) fn found(&mut self, input: u16, path: PathBuf, seen: &Seen, now: Mono) {
        let meta = &seen.meta;
        let group = self.group(input);
        let by_path = matches!(self.inputs.get(usize::from(input)).map(|i| &i.spec.identity), Some(Identity::Path));
        let here = self.table.by_path(group, &path);
        let known = match here {
            Some(id) if by_path || self.table.get(id).is_some_and(|f| f.by_path) => Some(id),
            _ if by_path => None,
            _ => self.table.by_inode(group, meta.dev, meta.ino),
        };
        match known {
            Some(id) => self.seen(id, input, path, seen, now),
            None => self.newcomer(input, path, meta, here, now),
        }
    }

    /// A known file was seen at this path.
    fn seen(&mut self, id: FileId, input: u16, path: PathBuf, seen: &Seen, now: Mono) {
        let meta = &seen.meta;
        let number = self.inputs.get(usize::from(input)).map_or(0, |i| i.tour.number);
        let Some(f) = self.table.get(id) else { return };
        let at = path.clone();
        let on = match (*f.path != *path, f.gone) {
            (true, _) => self.seen_elsewhere(id, input, path, meta, now),
            (false, true) => self.goes_on_at(id, input, path, meta, now).map(|()| true),
            (false, false) => Ok(true),
        };
        match on {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => return self.failed_to_see(input, &at, &e),
        }
        self.take_over_stopped(id, input, now);
        self.take_back(id);
        let Some(f) = self.table.get_mut(id) else { return };
        if f.input == input {
            f.seen = number;
        }
        let (was_gone, network) = (f.gone, f.network);
        (f.gone, f.deleted, f.missed, f.looked, f.ending) = (false, false, 0, now, false);
        if was_gone && network {
            // Its descriptor is older than whatever took its name.
            self.close(id);
        }
        let Some(f) = self.table.get(id) else { return };
        if f.by_path && (f.dev, f.ino) != (meta.dev, meta.ino) && !self.replaced_at_its_path(id, meta, now) {
            return;
        }
        self.judge_and_act(id, seen, now);
    }

    /// A known file's inode was seen at another path. False: it stays where it was.
    fn seen_elsewhere(&mut self, id: FileId, input: u16, path: PathBuf, meta: &Meta, now: Mono) -> io::Result<bool> {
        let Some(f) = self.table.get(id) else { return Ok(false) };
        let number = self.inputs.get(usize::from(input)).map_or(0, |i| i.tour.number);
        let twice = f.seen == number && f.input == input && !f.gone;
        let own = f.path.clone();
        let symlinks = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        let there = match self.is_there(&own, symlinks) {
            Err(e) if !missing(&e) => return Err(e),
            there => there.unwrap_or_default(),
        };
        // A hard link, or a link to it: one path counts.
        if let Some(there) = there.filter(|there| self.table.get(id).is_some_and(|f| f.is(there))) {
            if twice && self.is_another(id, meta, &there) {
                self.newcomer_by_path(input, path, meta, now);
            }
            return Ok(false);
        }
        self.goes_on_at(id, input, path, meta, now)?;
        Ok(true)
    }

    /// A file that isn't at its path, or wasn't, goes on at this one. If its inode is another file's now, what it still had
    /// is lost under its own name, and that one begins.
    fn goes_on_at(&mut self, id: FileId, input: u16, path: PathBuf, meta: &Meta, now: Mono) -> io::Result<()> {
        let another = self.is_another_file(id, &path, meta)?;
        if another {
            self.give_up(id, LossCause::Deleted);
        }
        if self.table.get(id).is_some_and(|f| *f.path != *path) {
            self.renamed(id, input, path);
        }
        if another {
            self.close(id);
            self.begin_anew(id, meta, LossCause::Deleted, now);
        }
        Ok(())
    }

    /// A file that was given up is there again: what an earlier run may have sent of it is still to be sent first.
    fn take_back(&mut self, id: FileId) {
        if self.table.get(id).is_none_or(|f| !f.gone || f.replays.is_some()) {
            return;
        }
        let Some(entry) = self.table.key(id).and_then(|key| self.registry.get(&key)) else { return };
        let Some(f) = self.table.get_mut(id) else { return };
        if entry.incarnation == f.incarnation {
            f.replays = replays_of(&entry, f.pos);
        }
    }

    fn renamed(&mut self, id: FileId, input: u16, path: PathBuf) {
        let (group, drains) = (self.group(input), self.is_draining(input));
        // Nothing of it is to be read any more, or all of it at once: that was for the input that it had.
        let life = self.table.get(id).and_then(|f| self.inputs.get(usize::from(f.input))).map(|i| i.life);
        let drained = self.is_file_draining(id) || life == Some(Life::Stopped);
        self.books.renamed += 1;
        if let Some(f) = self.table.get_mut(id).filter(|f| f.look_at.is_some()) {
            // What it was to be looked at for may be what took its place.
            let old = f.path.to_path_buf();
            self.hint(Hint::Path(old));
        }
        self.table.relocate(group, id, |f| {
            tracing::debug!(from = %f.path.display(), to = %path.display(), "a file was renamed");
            f.path = path.into();
            f.input = input;
            f.renamed = true;
            f.source = std::sync::Weak::new();
            if drains != drained {
                f.drain = if drains { Drain::Pending } else { Drain::No };
            }
        });
        self.set_place(id);
        self.write_entry(id);
    }

    /// With `file_identity: path` another inode is at the path. What the old one still has is read first.
    fn replaced_at_its_path(&mut self, id: FileId, meta: &Meta, now: Mono) -> bool {
        let Some(f) = self.table.get_mut(id) else { return false };
        if let Some(fd) = &f.fd {
            if let Ok(m) = fd.stat() {
                f.len = m.len.max(f.floor());
            }
            if f.unread() {
                f.look_at = Some(now.plus(Duration::from_millis(20)));
                self.make_ready(id);
                self.schedule(id, now);
                return false;
            }
        }
        self.close(id);
        let group = self.table.get(id).map_or(0, |f| self.group(f.input));
        self.table.relocate(group, id, |f| {
            (f.dev, f.ino) = (meta.dev, meta.ino);
            f.birth_ns = super::file::ns(meta.birth_ns);
            f.deleted = false;
        });
        true
    }

    /// Judges what is seen of a file and does what follows. False: a call failed, it is looked at again.
    pub(crate) fn judge_and_act(&mut self, id: FileId, seen: &Seen, now: Mono) -> bool {
        let Some(f) = self.table.get_mut(id) else { return true };
        f.forget_source();
        // What isn't sure makes nothing smaller.
        let (least, least_sure) = if seen.sure { (0, 0) } else { (f.len, f.sure_len) };
        let meta = &Meta { len: seen.meta.len.max(least), ..seen.meta };
        match judge(f, meta) {
            Verdict::Same => (f.len, f.sure_len) = (meta.len, meta.len),
            Verdict::Grown => {
                let news = meta.len > f.len || f.mtime_ns != meta.mtime_ns as i64;
                (f.len, f.mtime_ns) = (meta.len, meta.mtime_ns as i64);
                if news {
                    f.quiet = 0;
                }
                // It takes a while until a read checks what came: a truncation meanwhile destroys it.
                if news && self.content_is_known(id, now).unwrap_or(true) {
                    self.table.get_mut(id).into_iter().for_each(|f| f.sure_len = meta.len.max(least_sure));
                }
            }
            Verdict::Touched => match self.content_is_known(id, now) {
                Ok(true) if self.is_to_be_sent_again(id, meta) => self.send_again(id, meta, now),
                Ok(true) => self.table.get_mut(id).into_iter().for_each(|f| {
                    (f.len, f.mtime_ns) = (meta.len, meta.mtime_ns as i64);
                    f.sure_len = meta.len.max(least_sure);
                }),
                Ok(false) => self.begin_anew(id, meta, LossCause::Truncated, now),
                Err(e) => {
                    self.failed(id, "a file can't be read; it is tried again", &e, now);
                    return false;
                }
            },
            Verdict::Shrunk if f.network && meta.len < f.pos && self.is_all_there(id, now) => {
                let lags = io::Error::new(ErrorKind::UnexpectedEof, "its size lags behind its data");
                self.failed(id, "a file's size isn't believed; it is looked at again", &lags, now);
                return false;
            }
            Verdict::Shrunk => self.begin_anew(id, meta, LossCause::Truncated, now),
            Verdict::Another => {
                self.close(id);
                self.begin_anew(id, meta, LossCause::Deleted, now);
            }
        }
        self.bind_and_consider(id, now);
        self.schedule(id, now);
        true
    }

    /// Whether a file that was only touched is read anew (`resend_on_touch`).
    fn is_to_be_sent_again(&self, id: FileId, meta: &Meta) -> bool {
        let Some(f) = self.table.get(id) else { return false };
        let resends = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.resend_on_touch);
        resends && f.key.is_some() && f.mtime_ns != meta.mtime_ns as i64
    }

    /// A new incarnation of the same content, from byte 0: nothing of it is lost.
    fn send_again(&mut self, id: FileId, meta: &Meta, now: Mono) {
        let incarnation = self.new_incarnation();
        let Some(f) = self.table.get_mut(id) else { return };
        tracing::info!(path = %f.path.display(), "a file was touched: it is sent again");
        (f.scanned_to, f.sure_len) = (f.pos, f.pos);
        f.begin_anew(incarnation, meta);
        f.active = now;
        self.write_entry(id);
    }

    /// The content of a file is another: a new incarnation, from byte 0.
    pub(crate) fn begin_anew(&mut self, id: FileId, meta: &Meta, cause: LossCause, now: Mono) {
        let (incarnation, fingerprint) = (self.new_incarnation(), self.is_fingerprinted(id));
        let reader = self.reader_of(id);
        let number = reader.and_then(|at| self.inputs.get(usize::from(at))).map_or(0, |i| i.tour.number);
        let Some(f) = self.table.get_mut(id) else { return };
        tracing::info!(path = %f.path.display(), read = f.pos, size = meta.len, ?cause, "a file begins anew");
        self.books.truncated += u64::from(matches!(cause, LossCause::Truncated));
        let (path, userspace) = (f.path.clone(), f.userspace);
        let (pos, len) = (f.pos, f.sure_len.max(f.floor()));
        let (guard, ended_in) = (f.guard, number);
        let former = reader.map(|input| Former { pos, len, guard, path: path.clone(), input, ended_in });
        let lost = f.begin_anew(incarnation, meta);
        f.active = now;
        if userspace {
            // What is open may be the former content still.
            self.close(id);
        }
        let Some(f) = self.table.get_mut(id) else { return };
        let keyed = fingerprint && f.key.is_some();
        if lost > 0 && !(keyed && former.is_some()) {
            f.tally.lose(lost);
            self.books.lose(&path, pos, len, cause);
        }
        if keyed {
            self.unbind(id, former);
            reader.into_iter().for_each(|input| self.search_now(usize::from(input)));
        } else {
            self.write_entry(id);
        }
        self.leaves_what_is_new(id);
    }

    /// A file that isn't known.
    fn newcomer(&mut self, input: u16, path: PathBuf, meta: &Meta, before: Option<FileId>, now: Mono) {
        let Some(i) = self.inputs.get(usize::from(input)) else { return };
        let fingerprint = matches!(i.spec.identity, Identity::Fingerprint { .. });
        let by_path = i.spec.identity == Identity::Path;
        let Some(id) = self.insert(input, path, meta, by_path, now) else { return };
        if let Some(before) = before {
            // Renamed, replaced or deleted: what it still has is read from its descriptor.
            self.lost_its_name(before, now);
        }
        let network = self.table.get(id).is_some_and(|f| f.network);
        if network && !fingerprint && before.is_some() {
            self.inputs[usize::from(input)].tour.wait(id, before);
            if !self.inputs[usize::from(input)].tour.is_running() {
                self.search_now(usize::from(input));
            }
            return;
        }
        self.bind_and_consider(id, now);
        self.schedule(id, now);
    }

    fn newcomer_by_path(&mut self, input: u16, path: PathBuf, meta: &Meta, now: Mono) {
        if let Some(id) = self.insert(input, path, meta, true, now) {
            self.bind_and_consider(id, now);
            self.schedule(id, now);
        }
    }

    fn insert(&mut self, input: u16, path: PathBuf, meta: &Meta, by_path: bool, now: Mono) -> Option<FileId> {
        if self.table.len() >= self.limits.files {
            self.refused += u64::from(self.said.is_refused_anew(&path));
            self.say_once(Path::new("/"), "too many files: some aren't read", &self.limits.files.to_string());
            return None;
        }
        let incarnation = self.new_incarnation();
        let i = self.inputs.get(usize::from(input))?;
        let mut f = FileState::new(input, path, meta, incarnation, now);
        (f.by_path, f.seen) = (by_path, i.tour.number);
        let age_ms = i128::from(self.world.clock.wall().0) - meta.mtime_ns / 1_000_000;
        let older = i.spec.ignore_older.is_some_and(|d| age_ms > d.as_millis() as i128);
        let before_start = i.spec.ignore_before_start && meta.mtime_ns < i128::from(self.started_ms) * 1_000_000;
        let first_start = if i.spec.ignore_before_first_start { self.registry.first_start_ns() } else { None };
        let old = older || before_start || first_start.is_some_and(|first| meta.mtime_ns < first);
        if i.spec.tail || old {
            (f.pos, f.scanned_to) = (meta.len, meta.len);
        }
        if self.is_draining(input) {
            f.drain = Drain::Pending;
        }
        let group = i.group;
        let id = self.table.insert(group, f);
        self.set_place(id);
        Some(id)
    }

    /// Notes what kind of folder a file lies in.
    fn set_place(&mut self, id: FileId) {
        let Some(dir) = self.table.get(id).and_then(|f| f.path.parent()).map(Path::to_owned) else { return };
        let folder = self.folder(&dir);
        let (network, userspace) = (folder.network, folder.userspace);
        self.folders.get_mut(&dir).into_iter().for_each(|folder| folder.held = true);
        let Some(f) = self.table.get_mut(id) else { return };
        (f.network, f.userspace) = (network, userspace);
        let links = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        f.link = links && !matches!(self.world.fs.stat(&f.path, false), Ok(m) if m.kind == FileKind::File);
    }

    /// Whether a watch tells what happens to a file.
    pub(crate) fn is_watched(&self, f: &FileState) -> bool {
        !f.link && !f.gone && f.path.parent().and_then(|d| self.folders.get(d)).is_some_and(|d| d.watched)
    }

    pub(crate) fn bind_and_consider(&mut self, id: FileId, now: Mono) {
        let waits = |input: u16| self.inputs.get(usize::from(input)).is_some_and(|i| i.tour.came_in_anothers_place(id));
        if self.table.get(id).is_some_and(|f| f.key.is_none() && waits(f.input)) {
            return;
        }
        if self.table.get(id).is_some_and(|f| f.key.is_none()) {
            let bound = self.bind(id, false, now);
            self.after_bind(id, bound, now);
        } else {
            self.consider(id, now);
        }
    }

    /// Puts a file that has something to read in the queue, and holds on to it by a descriptor while there are any: whoever
    /// waits without one is opened when it is read.
    pub(crate) fn consider(&mut self, id: FileId, now: Mono) {
        let draining = self.is_file_draining(id);
        let waits = self.may_be_others(id) || self.has_stopped(id);
        let Some(f) = self.table.get_mut(id) else { return };
        if f.key.is_none() || waits {
            return;
        }
        if draining && f.unread() {
            f.drain = Drain::Pending;
        }
        let flush = f.drain == Drain::Pending && f.len > f.pos;
        if f.unread() || flush {
            if f.fd.is_none()
                && self.has_room()
                && let Err(e) = self.ensure_open(id, now)
            {
                self.failed(id, "a file can't be opened; it is tried again", &e, now);
                return;
            }
            self.make_ready(id);
        }
    }

    /// On a network file system: whether the file at a path is the one that was there before under another inode.
    pub(crate) fn took_its_place(&mut self, before: FileId, id: FileId, now: Mono) -> io::Result<bool> {
        let (Some(old), Some(new)) = (self.table.get(before), self.table.get(id)) else { return Ok(false) };
        if !old.gone || *old.path != *new.path || new.len < old.floor() || old.key.is_none() {
            return Ok(false);
        }
        self.ensure_open(id, now)?;
        let (Some(old), Some(new)) = (self.table.get(before), self.table.get(id)) else { return Ok(false) };
        let same = match &new.fd {
            Some(fd) => holds(&**fd, old.pos, old.guard)?,
            None => false,
        };
        if same {
            self.merge(before, id, now);
        }
        Ok(same)
    }

    /// Whether a file that was read a moment ago rests (`pace.rs`): then it is looked at after that.
    fn rests(&mut self, id: FileId, now: Mono) -> bool {
        let rest = self.pace.rest(now);
        if rest.is_zero() || self.is_file_draining(id) {
            return false;
        }
        let Some(f) = self.table.get_mut(id).filter(|f| f.pos > 0 && !f.gone && f.active.plus(rest) > now) else {
            return false;
        };
        let at = f.active.plus(rest);
        f.look_at = Some(f.look_at.map_or(at, |set| set.min(at)));
        self.schedule(id, now);
        true
    }

    /// Something may have happened at this path.
    pub(crate) fn look_at_hint(&mut self, path: &Path, now: Mono) {
        self.at.set(path);
        let mut matched = false;
        for input in 0..self.inputs.len() {
            let i = &self.inputs[input];
            let known = self.table.by_path(i.group, path);
            if !i.spec.paths.iter().any(|g| g.matches(path)) {
                continue;
            }
            matched = true;
            let symlinks = i.spec.symlinks;
            if known.is_some_and(|id| self.rests(id, now)) || !self.is_wanted(input as u16, path, 0, now) {
                continue;
            }
            match self.look_up(path, symlinks, known) {
                Ok(Some(seen)) => {
                    self.found_listed(input as u16, path.to_owned(), known, &seen, now);
                    self.settle_after_search(input, path, now);
                }
                Ok(None) => {}
                Err(e) if missing(&e) => {
                    if let Some(id) = known.filter(|id| self.table.get(*id).is_some_and(|f| !f.gone)) {
                        self.lost_its_name(id, now);
                        if self.table.get(id).is_some_and(|f| f.fd.is_none()) {
                            self.search_now(input);
                        }
                    }
                }
                Err(_) => {}
            }
        }
        if !matched && matches!(self.world.fs.stat(path, true), Ok(m) if m.kind == FileKind::Dir) {
            self.search_all_now();
        }
    }
}
