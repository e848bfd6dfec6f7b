//! Open files: a bounded cache of descriptors, and what happens when a call fails.
//!
//! Always holds: a descriptor is of the file that is known (device, inode, birth are compared after the open); there are
//! never more than the limit (and one that the present step may have opened to ask what is there), which falls when the
//! system has none left; one that is the only way to a deleted file isn't
//! closed for another; one that was read from again and again is closed after those that were read once: where more files are
//! written than may be open, those that are written all the time stay so, and aren't opened for each reading.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::time::Duration;

use pillion_world::{FileKind, Meta, Mono};

use crate::harvest::Harvester;
use crate::harvest::file::Drain;
use crate::harvest::look::missing;
use crate::harvest::table::FileId;

/// So many entries of files that aren't open any more aren't worth the work.
const SPARE: usize = 64;

impl Harvester {
    /// A call failed: try again later, never give up.
    pub(crate) fn failed(&mut self, id: FileId, what: &'static str, e: &io::Error, now: Mono) {
        self.note_zeros(id, e, now);
        let draining = self.is_file_draining(id);
        let Some(f) = self.table.get_mut(id) else { return };
        if draining && !f.denied && (f.drain == Drain::No || f.len > f.pos) {
            // It was quiet, or seemed empty; now it isn't known to be read.
            f.drain = Drain::Pending;
        }
        let path = f.path.clone();
        if missing(e) && f.fd.is_none() {
            let input = usize::from(f.input);
            f.errors = f.errors.saturating_add(1);
            f.look_at = Some(now.plus(retry_after(f.errors)));
            self.search_now(input);
        } else {
            f.errors = f.errors.saturating_add(1);
            f.look_at = Some(now.plus(retry_after(f.errors)));
            self.close_unless_kept(id, e);
            self.say_once(&path, what, e);
        }
        self.leaves_stopped(id);
        if self.is_denied(id, e) {
            return;
        }
        self.schedule(id, now);
    }

    /// A descriptor may have gone stale: the next try opens the file anew. Where nothing else leads to it, it is kept until
    /// it is known to be stale; then a search finds the file elsewhere, or it is lost. sshfs asks and reads by the name under
    /// which a file was opened: once that is gone, its descriptor says that there is nothing, for ever.
    fn close_unless_kept(&mut self, id: FileId, e: &io::Error) {
        let Some(f) = self.table.get(id) else { return };
        if !f.gone {
            self.close(id);
        } else if e.raw_os_error() == Some(libc::ESTALE) || (f.network && missing(e)) {
            let input = usize::from(f.input);
            self.close(id);
            self.search_now(input);
        }
    }

    /// Opens a file that isn't open, and checks that it is the one that is known. `Some`: it was opened now, and this is
    /// what it is.
    pub(crate) fn ensure_open(&mut self, id: FileId, now: Mono) -> io::Result<Option<Meta>> {
        let Some(f) = self.table.get(id) else { return Ok(None) };
        if f.fd.is_some() {
            return Ok(None);
        }
        if f.gone {
            return Err(ErrorKind::NotFound.into());
        }
        let follow = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        let (path, network) = (f.path.clone(), f.network);
        self.at.set(&path);
        if !self.has_room() {
            self.close_some(id);
        }
        let opened = match self.open_path(&path, follow, network) {
            Err(e) if is_no_descriptor(&e) => {
                self.limits.descriptors = self.open.saturating_sub(8).max(2);
                self.say_once(&path, "no descriptors left: fewer files are kept open", &e);
                self.close_some(id);
                self.open_path(&path, follow, network)
            }
            other => other,
        };
        let (fd, meta) = opened?;
        let Some(f) = self.table.get_mut(id) else { return Ok(None) };
        if meta.kind != FileKind::File || !f.is(&meta) {
            // Another file took its place since the look: the next one tells.
            return Err(io::Error::new(ErrorKind::NotFound, "another file is at its path"));
        }
        f.fd = Some(fd);
        (f.opened, f.opened_len, f.served) = (now, meta.len, 0);
        self.open += 1;
        self.opens += 1;
        self.note_opened(id);
        self.schedule(id, now);
        Ok(Some(meta))
    }

    /// Opens a file that may be open already once more: on a network file system that tells what it is now.
    pub(crate) fn open_anew(&mut self, id: FileId, now: Mono) -> io::Result<Meta> {
        self.close(id);
        self.ensure_open(id, now)?.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Whether a file can be opened without closing another.
    pub(crate) fn has_room(&self) -> bool {
        self.open < self.limits.descriptors
    }

    /// Closes descriptors until there is room for one: of files that are read first, never of gone ones. Looks at open
    /// files alone, the longest open first, so that it costs the same however many files there are; one that was read from
    /// again and again is passed over once.
    fn close_some(&mut self, except: FileId) {
        let mut passed_over = false;
        for round in 0..3 {
            let also_unread = round == 2;
            if round == 1 && !passed_over {
                continue;
            }
            for _ in 0..self.opened.len() {
                if self.has_room() {
                    return;
                }
                let Some(id) = self.opened.pop_front() else { return };
                let Some(f) = self.table.get(id).filter(|f| f.fd.is_some()) else { continue };
                let may = id != except && !f.gone && (also_unread || !f.unread());
                if may && (also_unread || f.served < 2) {
                    self.close(id);
                    continue;
                }
                if let Some(f) = self.table.get_mut(id).filter(|f| may && f.served > 1) {
                    f.served = 1;
                    passed_over = true;
                }
                self.opened.push_back(id);
            }
        }
    }

    /// Notes that a file was read from.
    pub(crate) fn note_served(&mut self, id: FileId) {
        if let Some(f) = self.table.get_mut(id).filter(|f| f.fd.is_some()) {
            f.served = f.served.saturating_add(1).min(2);
        }
    }

    /// Notes that a file was opened. Entries of files that were closed since stay until somebody meets them, or there are
    /// too many.
    fn note_opened(&mut self, id: FileId) {
        if self.opened.len() > 2 * self.open + SPARE {
            let mut seen = HashSet::new();
            let table = &self.table;
            self.opened.retain(|id| table.get(*id).is_some_and(|f| f.fd.is_some()) && seen.insert(*id));
        }
        self.opened.push_back(id);
    }

    pub(crate) fn close(&mut self, id: FileId) {
        if let Some(f) = self.table.get_mut(id)
            && f.fd.take().is_some()
        {
            self.open -= 1;
            self.unzipping.retain(|other| *other != id);
            if f.kept {
                f.kept = false;
                self.open_deleted -= 1;
            }
            self.table.cools(id);
        }
    }
}

fn retry_after(errors: u8) -> Duration {
    Duration::from_millis(100 << errors.min(7)).min(Duration::from_secs(10))
}

fn is_no_descriptor(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
