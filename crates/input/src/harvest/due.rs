//! What is due for a file by itself: another look, the end of its patience with a group of lines, its descriptor's end.
//!
//! Comes in: a file whose time has come. Goes out: a look, a file that is ready, a closed descriptor, the next time.
//! Tested in `tests/`, by what happens when.

use std::time::Duration;

use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::account::LossCause;
use crate::harvest::look::missing;
use crate::harvest::table::FileId;

/// How long a deleted file is followed after its end: its writer may still have it open.
const AFTER_DELETION: Duration = Duration::from_secs(1);

impl Harvester {
    /// Wakes a file whose time has come.
    pub(crate) fn wake(&mut self, now: Mono) -> bool {
        let Some(id) = self.timers.pop(now, &mut self.table) else { return false };
        self.on_timer(id, now);
        true
    }

    /// A file is due to be looked at.
    pub(crate) fn on_timer(&mut self, id: FileId, now: Mono) {
        if self.has_stopped(id) {
            return;
        }
        let Some(f) = self.table.get_mut(id) else { return };
        if f.gone && f.fd.is_none() {
            f.group_at = None;
        }
        if f.group_at.is_some_and(|at| at <= now) && (f.errors == 0 || f.look_at.is_some_and(|at| at <= now)) {
            self.make_ready(id);
        }
        let Some(f) = self.table.get_mut(id) else { return };
        if f.look_at.is_some_and(|at| at <= now) {
            f.look_at = None;
            f.quiet = f.quiet.saturating_add(1);
            self.look_again(id, now);
            if self.is_file_draining(id) {
                self.settle_at_drain(id, now);
            }
        }
        self.close_when_due(id, now);
        self.schedule(id, now);
    }

    fn look_again(&mut self, id: FileId, now: Mono) {
        let Some(f) = self.table.get_mut(id) else { return };
        self.at.set(&f.path);
        f.looked = now;
        if f.gone {
            self.look_at_gone(id, now);
            return;
        }
        let (input, path) = (f.input, f.path.to_path_buf());
        let symlinks = self.inputs.get(usize::from(input)).is_some_and(|i| i.spec.symlinks);
        match self.look_up(&path, symlinks, Some(id)) {
            Ok(Some(seen)) => self.found(input, path, &seen, now),
            Err(e) if !missing(&e) => self.failed(id, "a file can't be looked at; it is tried again", &e, now),
            _ => {
                self.lost_its_name(id, now);
                self.search_now(usize::from(input));
            }
        }
    }

    /// Closes the descriptor of a file that is read to its end, when its time has come.
    fn close_when_due(&mut self, id: FileId, now: Mono) {
        let Some(f) = self.table.get(id) else { return };
        let (Some(i), true) = (self.inputs.get(usize::from(f.input)), f.fd.is_some()) else { return };
        let close = i.spec.close;
        let for_good = close.after.is_some_and(|after| f.opened.plus(after) <= now);
        if for_good {
            if f.gone {
                self.give_up(id, LossCause::Closed);
            } else {
                self.close(id);
            }
            return;
        }
        if f.unread() || f.queued {
            return;
        }
        let quiet_for = now.since(f.active);
        let removed = close.removed || i.spec.delete_after.is_some();
        let ended = f.is_deleted() && removed && quiet_for >= AFTER_DELETION;
        if ended || quiet_for >= close.inactive || (f.renamed && close.renamed) {
            if f.gone && f.len > f.pos {
                // An unfinished last line of a file that nobody can open any more: it is an event as it is.
                self.finish(id);
            } else {
                self.close(id);
            }
        }
    }

    /// The next time at which something is due for a file by itself.
    pub(crate) fn schedule(&mut self, id: FileId, now: Mono) {
        if self.has_stopped(id) {
            return;
        }
        let Some(f) = self.table.get(id) else { return };
        let Some(i) = self.inputs.get(usize::from(f.input)) else { return };
        let close = i.spec.close;
        let mut look = f.look_at;
        let waits = f.errors == 0 && !f.queued && now.since(f.active) < close.inactive;
        // An empty file has no key yet: its first bytes are waited for as any.
        let known = f.key.is_some() || f.len == 0;
        if look.is_none() && waits && known && !self.is_watched(f) && (f.fd.is_some() || !f.gone) {
            let times = i.spec.backoff.factor.max(1.0).powi(i32::from(f.quiet.min(32)));
            let wait =
                i.spec.backoff.init.mul_f64(times.min(1e6)).min(i.spec.backoff.max).max(Duration::from_millis(1));
            look = Some(now.plus(if f.is_deleted() { wait.min(AFTER_DELETION) } else { wait }));
        }
        // What waits for its turn needs no other wake; what can't be read is tried again at its time.
        let group = f.group_at.filter(|_| !f.queued && f.errors == 0);
        let mut at = [look, group].into_iter().flatten().min();
        if f.fd.is_some() {
            let removed = close.removed || i.spec.delete_after.is_some();
            let quiet = if f.is_deleted() && removed { AFTER_DELETION } else { close.inactive };
            let idle = (!f.unread() && !f.queued).then(|| f.active.plus(quiet).max(now.plus(Duration::from_millis(1))));
            at = [at, idle, close.after.map(|a| f.opened.plus(a))].into_iter().flatten().min();
        }
        if let Some(f) = self.table.get_mut(id) {
            f.look_at = look;
            if let Some(at) = at {
                self.timers.set(id, f, at);
            }
        }
        self.table.cools(id);
    }
}
