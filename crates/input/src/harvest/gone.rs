//! Files that their path no longer leads to: read to their end as long as a descriptor does, counted as lost when none
//! does, forgotten once everything of them is acknowledged.

use std::time::Duration;

use pillion_world::Mono;

use crate::harvest::account::LossCause;
use crate::harvest::file::Drain;
use crate::harvest::live::Life;
use crate::harvest::look::{DOUBT, missing};
use crate::harvest::table::{FileId, Gone};
use crate::harvest::{Harvester, account_of};

/// How long a search that sees all is waited for: an input of which a folder fails for ever doesn't keep every file that ever
/// was in memory.
const PATIENCE: Duration = Duration::from_secs(3600);

/// In the place of the search in which a file lost its name: those of its own input don't find it.
const SOUGHT: u32 = u32::MAX;

impl Harvester {
    /// A file that a whole walk didn't see.
    pub(crate) fn look_for_missing(&mut self, id: FileId, now: Mono) {
        let Some(f) = self.table.get(id) else { return };
        let path = f.path.clone();
        let symlinks = self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.symlinks);
        let there = self.is_there(&path, symlinks);
        let Some(f) = self.table.get_mut(id) else { return };
        match there {
            Ok(Some(meta)) if f.is(&meta) => {}
            Err(e) if !missing(&e) => {}
            _ => {
                f.missed = f.missed.saturating_add(1);
                self.lost_its_name(id, now);
            }
        }
    }

    /// A file's path leads to it no longer.
    pub(crate) fn lost_its_name(&mut self, id: FileId, now: Mono) {
        let Some(f) = self.table.get_mut(id) else { return };
        if !f.gone {
            f.gone_in = self.inputs.get(usize::from(f.input)).map_or(0, |i| i.tour.number);
        }
        f.gone = true;
        f.active = now;
        let Some(fd) = &f.fd else { return self.strays(id) };
        if let Ok(meta) = fd.stat() {
            f.deleted = meta.nlink == 0;
            f.len = f.len.max(meta.len);
        }
        self.strays(id);
        let Some(f) = self.table.get_mut(id) else { return };
        if !f.kept {
            if self.open_deleted >= self.limits.deleted {
                if f.deleted {
                    self.give_up(id, LossCause::TooManyDeleted);
                } else {
                    // It still has a name: the search may find it there.
                    self.close(id);
                }
                return;
            }
            f.kept = true;
            self.open_deleted += 1;
        }
        self.consider(id, now);
        self.schedule(id, now);
    }

    /// Looks at a file that only its descriptor leads to.
    /// False: that failed.
    pub(crate) fn look_at_gone(&mut self, id: FileId, now: Mono) -> bool {
        if self.table.get(id).is_none_or(|f| f.fd.is_none()) {
            return true;
        }
        match self.now_of(id, now) {
            Ok(seen) => {
                if let Some(f) = self.table.get_mut(id) {
                    f.deleted = seen.meta.nlink == 0;
                }
                self.judge_and_act(id, &seen, now)
            }
            Err(e) => {
                self.failed(id, "a file can't be looked at; it is tried again", &e, now);
                false
            }
        }
    }

    /// What a file still has is lost.
    pub(crate) fn give_up(&mut self, id: FileId, cause: LossCause) {
        self.close(id);
        let Some(f) = self.table.get_mut(id) else { return };
        f.drain = if f.drain == Drain::No { Drain::No } else { Drain::Done };
        f.replays = None;
        if f.len > f.pos {
            f.tally.lose(f.len - f.pos);
            let (path, pos, len) = (f.path.clone(), f.pos, f.len);
            (f.len, f.sure_len) = (f.pos, f.pos);
            f.scanned_to = f.pos;
            self.books.lose(&path, pos, len, cause);
        }
    }

    /// After a search: what is gone without a descriptor is lost; what is gone and acknowledged is forgotten. A search that
    /// began before a file was gone proves nothing: it may have listed its folder before the file got its new name. That name
    /// may also be one of another input of the same keys, whose next search has to end first. Where that is in vain for long, the
    /// file goes, and its entry stays: by that it is known wherever it is found.
    pub(crate) fn forget_gone(&mut self, input: usize, now: Mono) {
        let Some(i) = self.inputs.get(input) else { return };
        let (number, group, unsure) = (i.tour.number, i.group, i.tour.is_unsure() || i.tour.failed);
        let gone: Vec<Gone> = self.table.gone().filter(|gone| gone.group == group).collect();
        for gone in gone {
            if usize::from(gone.input) == input && gone.gone_in != SOUGHT {
                if unsure && self.is_late(gone, now) {
                    self.forget(gone.id, true, now);
                    continue;
                }
                if gone.gone_in == number || unsure {
                    self.search_now(input);
                    continue;
                }
                self.table.set_gone_in(gone.id, SOUGHT);
            } else if gone.gone_in != SOUGHT {
                continue;
            }
            let sought = self.is_sought_elsewhere(gone);
            if !sought || self.is_late(gone, now) {
                self.forget(gone.id, sought, now);
            }
        }
    }

    /// Whether a file without a name, of which nothing is unread, has been looked for in vain for long.
    fn is_late(&mut self, gone: Gone, now: Mono) -> bool {
        if now.since(gone.since) < PATIENCE {
            return false;
        }
        self.table.thaw_if(gone.id, |_| true);
        self.table.get(gone.id).is_some_and(|f| f.len <= f.pos && f.replays.is_none())
    }

    /// Whether another input of a file's keys hasn't searched, wholly and surely, since it lost its name.
    fn is_sought_elsewhere(&mut self, gone: Gone) -> bool {
        if gone.deleted {
            return false;
        }
        let draining = self.is_draining(gone.input);
        let mut sought = false;
        for at in 0..self.inputs.len() {
            let i = &self.inputs[at];
            let looks = i.group == gone.group && matches!(i.life, Life::Reading | Life::Ending);
            let has_looked = i.surely.is_some_and(|begun| begun > gone.since);
            if looks && at != usize::from(gone.input) && !has_looked {
                sought = true;
                // Otherwise its own time comes soon enough.
                if draining {
                    self.search_now(at);
                }
            }
        }
        sought
    }

    /// Whether the entries of an input's files go with these.
    pub(crate) fn cleans(&self, input: u16) -> bool {
        self.inputs.get(usize::from(input)).is_none_or(|i| i.spec.clean_removed)
    }

    /// `found`: by its entry, wherever it may be.
    fn forget(&mut self, id: FileId, found: bool, now: Mono) {
        self.table.thaw_if(id, |_| true);
        let draining = self.is_file_draining(id);
        let Some(f) = self.table.get_mut(id) else { return };
        if f.network && f.missed < 2 && f.len > f.pos && !draining {
            // One listing may be old: look once more.
            f.missed = 2;
            f.gone = false;
            f.look_at = Some(now.plus(DOUBT));
            self.schedule(id, now);
            return;
        }
        if f.len > f.pos || f.replays.is_some() {
            self.give_up(id, LossCause::Deleted);
        }
        let key = self.table.key(id);
        let Some(f) = self.table.get(id) else { return };
        let settled = match &key {
            Some(key) => self.registry.get(key).is_none_or(|e| e.incarnation != f.incarnation || e.offset >= f.pos),
            None => true,
        };
        if settled
            && !f.queued
            && let Some(f) = self.table.remove(id)
        {
            if let Some(key) = key.filter(|_| !found && self.cleans(f.input)) {
                self.registry.remove(&key);
                self.books.forgotten += 1;
            }
            self.books.close(account_of(&self.table, &f));
        }
    }
}
