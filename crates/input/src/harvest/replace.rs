//! Inputs that are replaced while others are read: those of a file of the configuration that has changed.
//!
//! Comes in: [`Harvester::replace`]: which inputs go, by their labels, and which come. Goes out: nothing by itself; what is
//! read of a file goes on at the byte behind the last one that is in a batch, as the input says that has the file now.
//!
//! ```text
//! an input goes ─▶ each of its files: has one that comes now the file's path? ──yes──▶ it goes on there, its descriptor open
//!                                      │no
//!                                      ├─ deleted, and only we have it open ─▶ read to its end: nobody could later
//!                                      └─ closed at what was read ─▶ all acknowledged ─▶ forgotten; its entry stays
//! ```
//!
//! Always holds: nothing is read twice, and what is in flight is acknowledged as ever: while a file isn't forgotten, an input
//! of the same registry keys that finds it goes on in memory, not at the entry. What an input leaves unread isn't counted as
//! unread: nobody asks for it any more. The files of other inputs aren't touched.
//! Tested in `tests/replace.rs`.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Weak;

use pillion_world::Mono;

use crate::harvest::account::{LossCause, Unseen};
use crate::harvest::file::Drain;
use crate::harvest::identity::Former;
use crate::harvest::live::Life;
use crate::harvest::table::FileId;
use crate::harvest::tour::Tour;
use crate::harvest::{Harvester, Input};
use crate::spec::InputSpec;

impl Harvester {
    /// Ends the inputs with these labels where they stand, and begins others, which go on with their files. The labels of those
    /// that can't be begun: as [`Harvester::add`].
    pub fn replace(&mut self, go: &[u64], come: Vec<InputSpec>) -> Vec<u64> {
        if self.draining {
            // What there is now is read to its end; nothing may take it away from that.
            return come.iter().map(|spec| spec.label).collect();
        }
        let goes = |i: &Input| i.life == Life::Reading && i.spec.label != 0 && go.contains(&i.spec.label);
        let old: Vec<usize> = (0..self.inputs.len()).filter(|at| goes(&self.inputs[*at])).collect();
        let (mut begun, mut refused) = (Vec::new(), Vec::new());
        for spec in come {
            let label = spec.label;
            let id = self.add(spec);
            match id.and_then(|id| self.inputs.iter().position(|i| i.id == id)) {
                Some(at) => begun.push(at),
                None => refused.push(label),
            }
        }
        if !old.is_empty() {
            self.stop_inputs(&old, &begun);
        }
        refused
    }

    fn stop_inputs(&mut self, old: &[usize], begun: &[usize]) {
        let mut late = HashMap::new();
        for &at in old {
            let input = &mut self.inputs[at];
            late.extend(input.tour.take_late());
            (input.life, input.tour, input.due) = (Life::Stopped, Tour::default(), Mono(u64::MAX));
            input.unseen = Unseen::default();
            self.ending += 1;
            self.forget_leaving(at);
        }
        let (now, mut closed) = (self.world.clock.mono(), HashSet::new());
        for id in 0..self.table.end() {
            let quiet = self.table.quiet_mut(id).map(|cold| cold.input);
            if let Some(input) = quiet
                && (!old.contains(&usize::from(input)) || !self.quiet_goes_on(id, input, old, begun))
            {
                continue;
            }
            let Some((input, path)) = self.table.get(id).map(|f| (f.input, f.path.clone())) else { continue };
            if !old.contains(&usize::from(input)) {
                continue;
            }
            match self.heir(input, &path, old, begun) {
                Some(heir) => match late.get(&id) {
                    Some(before) => self.waits_with(id, heir, *before),
                    None => self.goes_on_with(id, heir, now),
                },
                None if self.stops(id, now) => drop(closed.insert(id)),
                None => {}
            }
        }
        self.hand_on_former(old, begun);
        self.ready.retain(|id| !closed.contains(&id));
        closed.iter().for_each(|id| self.note_behind(*id));
        old.iter().for_each(|at| self.inputs[*at].spec.paths = Vec::new());
        self.set_compression();
    }

    /// What a truncated file of an input that goes still had is its heir's: a copy may come yet. Without one its entry stays.
    fn hand_on_former(&mut self, old: &[usize], begun: &[usize]) {
        for (key, former) in std::mem::take(&mut self.former) {
            let heir = self.heir(former.input, &former.path, old, begun);
            if let Some(input) = heir {
                self.former.insert(key, Former { input, ended_in: 0, ..former });
            } else if !old.contains(&usize::from(former.input)) {
                self.former.insert(key, former);
            }
        }
    }

    /// A quiet file of an input that goes: it goes on with its heir, or stays as it is until it is forgotten. True: its entry
    /// says something else with that one, so that it can't be done quietly.
    fn quiet_goes_on(&mut self, id: FileId, input: u16, old: &[usize], begun: &[usize]) -> bool {
        let Some(path) = self.table.path_of(id) else { return false };
        let Some(heir) = self.heir(input, &path, old, begun) else { return false };
        let words = |at: u16| self.inputs.get(usize::from(at)).map(|i| &i.words);
        if words(heir) != words(input) {
            self.table.thaw_if(id, |_| true);
            return true;
        }
        self.table.quiet_mut(id).into_iter().for_each(|cold| (cold.input, cold.seen) = (heir, 0));
        false
    }

    /// The input among those that have begun that has a file of an old one now.
    fn heir(&self, input: u16, path: &Path, old: &[usize], begun: &[usize]) -> Option<u16> {
        let from = old.iter().find(|at| **at == usize::from(input)).and_then(|at| self.inputs.get(*at))?;
        let is_heir = |at: &&usize| {
            let Some(to) = self.inputs.get(**at).filter(|to| to.group == from.group) else { return false };
            let spec = &to.spec;
            let same = spec.identity == from.spec.identity && spec.symlinks == from.spec.symlinks;
            same && spec.compression == from.spec.compression && spec.has_path(path)
        };
        begun.iter().find(is_heir).and_then(|at| u16::try_from(*at).ok())
    }

    /// A file goes on with another input of its group.
    pub(crate) fn goes_on_with(&mut self, id: FileId, input: u16, now: Mono) {
        self.is_now_of(id, input);
        self.write_entry(id);
        self.bind_and_consider(id, now);
        self.schedule(id, now);
    }

    /// A file that waits for the end of a search, since it may be another one's next life, waits for the other input's.
    fn waits_with(&mut self, id: FileId, input: u16, before: Option<FileId>) {
        self.is_now_of(id, input);
        self.inputs[usize::from(input)].tour.wait(id, before);
        self.search_now(usize::from(input));
    }

    fn is_now_of(&mut self, id: FileId, input: u16) {
        let draining = self.is_draining(input);
        let Some(f) = self.table.get_mut(id) else { return };
        // What was looked at without giving an event may give one in the other input's eyes.
        (f.input, f.source, f.scanned_to, f.grow) = (input, Weak::new(), f.pos, 0);
        (f.group_at, f.seen, f.quiet, f.errors) = (None, 0, 0, 0);
        f.drain = if draining { Drain::Pending } else { Drain::No };
    }

    /// A file stops with its input. True: nothing more is read of it.
    fn stops(&mut self, id: FileId, now: Mono) -> bool {
        let Some(f) = self.table.get_mut(id) else { return false };
        if let Some(fd) = &f.fd
            && f.gone
            && let Ok(meta) = fd.stat()
        {
            f.deleted = meta.nlink == 0;
        }
        // On a network file system a deleted file may have a name that its client keeps.
        let last = f.gone && (f.deleted || f.network) && f.len > f.pos;
        // Or it was renamed: its last line may not be whole.
        if last && !f.deleted && self.is_looked_for_elsewhere(id) {
            return false;
        }
        let Some(f) = self.table.get_mut(id) else { return false };
        if last && f.fd.is_some() && f.key.is_some() {
            f.drain = Drain::Pending;
            self.consider(id, now);
            return false;
        }
        self.leaves(id);
        self.table.get_mut(id).into_iter().for_each(|f| f.queued = false);
        true
    }

    /// What a file still has is left as it is; lost, if it was deleted.
    fn leaves(&mut self, id: FileId) {
        if self.table.get(id).is_some_and(|f| f.gone && f.deleted) {
            self.give_up(id, LossCause::Deleted);
        }
        self.stays_unread(id);
    }

    fn stays_unread(&mut self, id: FileId) {
        self.close(id);
        if let Some(f) = self.table.get_mut(id) {
            (f.len, f.sure_len, f.scanned_to) = (f.pos, f.pos, f.pos);
            (f.look_at, f.group_at, f.drain) = (None, None, Drain::Done);
        }
    }

    fn is_of_stopped_and_gone(&self, id: FileId) -> bool {
        let stopped = |input: u16| self.inputs.get(usize::from(input)).is_some_and(|i| i.life == Life::Stopped);
        self.table.get(id).is_some_and(|f| f.gone && stopped(f.input))
    }

    /// A call for a file failed: if its input has stopped and nothing leads to it any more, no search will settle it.
    pub(crate) fn leaves_stopped(&mut self, id: FileId) {
        if self.is_of_stopped_and_gone(id) && self.table.get(id).is_some_and(|f| f.fd.is_none()) {
            self.leaves(id);
        }
    }

    /// A file has another content now: of one that is read to its end though its input has stopped, that isn't asked for.
    pub(crate) fn leaves_what_is_new(&mut self, id: FileId) {
        if self.is_of_stopped_and_gone(id) {
            self.stays_unread(id);
        }
    }

    /// Whether a file's input has stopped, and nothing more is to be read of the file.
    pub(crate) fn has_stopped(&self, id: FileId) -> bool {
        let stopped = |input: u16| self.inputs.get(usize::from(input)).is_some_and(|i| i.life == Life::Stopped);
        self.table.get(id).is_some_and(|f| f.drain != Drain::Pending && stopped(f.input))
    }

    /// The input whose searches find a file: its own, or, where that has stopped, another one of its keys.
    pub(crate) fn reader_of(&self, id: FileId) -> Option<u16> {
        let f = self.table.get(id)?;
        if self.inputs.get(usize::from(f.input)).is_some_and(|i| i.life != Life::Stopped) {
            return Some(f.input);
        }
        let reads = |i: &Input| matches!(i.life, Life::Reading | Life::Ending) && i.spec.has_path(&f.path);
        let found = self.inputs.iter().position(|i| i.group == f.group && reads(i));
        found.and_then(|at| u16::try_from(at).ok())
    }

    /// A file that has stopped is found by an input that hasn't: it goes on there.
    pub(crate) fn take_over_stopped(&mut self, id: FileId, input: u16, now: Mono) {
        if self.table.get(id).is_some_and(|f| f.input != input) && self.has_stopped(id) {
            self.goes_on_with(id, input, now);
        }
    }
}
