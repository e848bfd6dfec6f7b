//! The drain: one last search, every file opened anew and read to its end.
//!
//! Comes in: [`Harvester::drain`]. Goes out: the rest as batches, open groups and unfinished last lines included; then
//! [`Harvester::drained`]. Always holds: a file that can't be read isn't drained, however long it takes: whoever waits
//! sets the limit, and the accounts tell what is missing. Only a file that it isn't allowed to read isn't waited for
//! beyond a few tries, since time doesn't heal that. On a network file system descriptors are closed first:
//! close-to-open consistency promises the last bytes only to an open that comes after the writer's close.

use std::io::{self, ErrorKind};
use std::path::Path;

use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::file::{Drain, FileState};
use crate::harvest::live::Life;
use crate::harvest::look::DOUBT;
use crate::harvest::table::FileId;
use crate::harvest::trust::Seen;

/// How often a file may be refused, or not be what its input says it is, in a row before the drain goes on without it: 1.5 s.
const REFUSALS: u8 = 4;

impl Harvester {
    /// Begins the drain. Files that appear while it lasts are read too.
    pub fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        let stopped: Vec<bool> = self.inputs.iter().map(|i| i.life == Life::Stopped).collect();
        self.drain_files(|input| !stopped.get(usize::from(input)).copied().unwrap_or(false));
        for input in &mut self.inputs {
            input.searched_at_drain = false;
        }
        self.search_all_now();
    }

    /// The files of these inputs are to be read to their end. Of quiet ones everything is read that was seen: the search
    /// that follows looks at each, and only what it finds changed is more than that.
    pub(crate) fn drain_files(&mut self, of: impl Fn(u16) -> bool) {
        for id in 0..self.table.end() {
            let Some(f) = self.table.get_mut(id).filter(|f| of(f.input)) else { continue };
            f.drain = Drain::Pending;
            f.look_at = None;
            if f.network && !f.gone {
                self.close(id);
            }
        }
    }

    /// After [`Harvester::drain`]: everything that was there is in batches.
    pub fn drained(&self) -> bool {
        self.draining
            && self.hints.is_empty()
            // What they still had is taken up by a copy or counted at the end of the next search.
            && self.former.is_empty()
            && self.is_searched_at_drain()
            && self.has_told()
            && self.table.iter().all(|(_, f)| f.drain != Drain::Pending)
    }

    /// Whether every input has been searched since the drain began.
    pub(crate) fn is_searched_at_drain(&self) -> bool {
        self.inputs.iter().all(|i| i.searched_at_drain || matches!(i.life, Life::Over | Life::Stopped))
    }

    /// A search that began after the drain did has ended: what has nothing to read is done.
    pub(crate) fn searched_at_drain(&mut self, input: usize) {
        let now = self.world.clock.mono();
        if self.inputs[input].tour.is_again() {
            return;
        }
        self.inputs[input].searched_at_drain = true;
        for id in 0..self.table.end() {
            let Some(f) = self.table.get_mut(id) else { continue };
            if usize::from(f.input) != input || f.drain != Drain::Pending {
                continue;
            }
            if f.network && !f.gone {
                // Each is opened anew in a step of its own.
                f.look_at = Some(now);
                self.schedule(id, now);
            } else {
                self.settle_at_drain(id, now);
            }
        }
    }

    /// A file was found at this path after the last search, which would have settled it.
    pub(crate) fn settle_after_search(&mut self, input: usize, path: &Path, now: Mono) {
        let Some(i) = self.inputs.get(input) else { return };
        let ended = i.searched_at_drain && self.is_draining(input as u16);
        if let Some(id) = ended.then(|| self.table.by_path(i.group, path)).flatten() {
            self.settle_at_drain(id, now);
        }
    }

    /// Whether what a file holds is all that will be read of it.
    pub(crate) fn is_file_draining(&self, id: FileId) -> bool {
        self.draining || self.table.get(id).is_some_and(|f| self.is_draining(f.input))
    }

    /// A call for a file failed in the drain: whether there is no use in waiting for it. What was read is in batches, the
    /// rest stays unread and is told.
    pub(crate) fn is_denied(&mut self, id: FileId, e: &io::Error) -> bool {
        let draining = self.is_file_draining(id);
        let Some(f) = self.table.get_mut(id) else { return false };
        let hopeless = matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidData);
        f.denied = draining && hopeless && f.errors >= REFUSALS;
        if f.denied {
            (f.drain, f.look_at) = (Drain::Done, None);
        }
        f.denied
    }

    /// A file has a size, but no bytes yet, or an old size: only opening it anew tells, whatever the drain was done with.
    pub(crate) fn doubt_at_drain(&mut self, id: FileId, now: Mono) {
        let draining = self.is_file_draining(id);
        if let Some(f) = self.table.get_mut(id).filter(|f| draining && f.network && f.len > f.pos) {
            (f.drain, f.look_at) = (Drain::Pending, Some(now.plus(DOUBT)));
            self.schedule(id, now);
        }
    }

    /// Brings a file nearer to its end: has it read, or notes that there is nothing left.
    pub(crate) fn settle_at_drain(&mut self, id: FileId, now: Mono) {
        let pending = |f: &&FileState| f.drain == Drain::Pending && !f.queued;
        let Some(f) = self.table.get(id).filter(pending) else { return };
        self.at.set(&f.path);
        if f.network && f.gone {
            if !self.look_at_gone(id, now) {
                return;
            }
        } else if f.network {
            match self.open_anew(id, now) {
                Ok(meta) if self.judge_and_act(id, &Seen { meta, sure: true }, now) => {}
                Ok(_) => return,
                Err(e) => {
                    self.failed(id, "a file can't be read; it is tried again", &e, now);
                    return;
                }
            }
        }
        let Some(f) = self.table.get_mut(id).filter(|f| f.drain == Drain::Pending && !f.queued) else { return };
        if f.len <= f.pos && f.replays.is_none() {
            f.drain = Drain::Done;
            self.close(id);
        } else {
            self.bind_and_consider(id, now);
        }
    }
}
