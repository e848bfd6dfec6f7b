//! Inputs that come and go while others are read.
//!
//! Comes in: [`Harvester::add`], [`Harvester::end`]. Goes out: the batches of the new input; of an ended one, whatever its
//! files still hold, then nothing.
//!
//! ```text
//! add ──▶ read ──end──▶ one last search, every file read to its end ──▶ all acknowledged ──▶ forgotten
//! ```
//!
//! Always holds: an ended input loses nothing: its files are read to their end as at the drain, unfinished last lines
//! included; they are forgotten only once all of it is acknowledged, so that another input that reads the same file goes
//! on where this one stopped. An input's place is used again after it.
//! Tested in `tests/live.rs`.

use std::sync::Arc;

use pillion_event::InputKind;
use pillion_world::Mono;

use crate::harvest::file::{Drain, FileState};
use crate::harvest::table::FileId;
use crate::harvest::tour::Tour;
use crate::harvest::{Harvester, Input, account_of};
use crate::scan::Glob;
use crate::spec::{Compression, InputSpec};
use crate::unzip::Unzip;

/// Names an input of a harvester: unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputId(pub(crate) u64);

/// Where an input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Reading,
    /// It reads what is there, then ends.
    Ending,
    /// It reads nothing more; what of it isn't acknowledged is waited for (`replace.rs`).
    Stopped,
    /// Its place is free.
    Over,
}

/// How often an ended input's acknowledgements are looked at.
const SETTLES_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

impl Harvester {
    /// Begins to read a further input. `None`: it is one of standard input, the drain has begun, or there are 65,535
    /// already.
    pub fn add(&mut self, spec: InputSpec) -> Option<InputId> {
        if self.draining || spec.desc.kind == InputKind::Stdin || spec.desc.kind.is_network() {
            return None;
        }
        let group = self.group_of(&spec)?;
        let id = self.numbers.input();
        self.peer.reads(&spec);
        let input = Input::new(spec, group, id, self.world.clock.mono());
        match self.inputs.iter().position(|i| i.life == Life::Over) {
            Some(free) => self.inputs[free] = input,
            None if self.inputs.len() < usize::from(u16::MAX) => self.inputs.push(input),
            None => return None,
        }
        self.set_compression();
        Some(id)
    }

    /// Tells the file system which paths may hold compressed files, once there are such inputs.
    pub(crate) fn set_compression(&mut self) {
        let compressed = |i: &&Input| i.life != Life::Over && i.spec.compression != Compression::None;
        let rules: Vec<_> =
            self.inputs.iter().filter(compressed).map(|i| (i.spec.paths.clone(), i.spec.compression)).collect();
        if rules.is_empty() && self.unzip.is_none() {
            return;
        }
        let world = &mut self.world;
        let unzip = self.unzip.get_or_insert_with(|| {
            let (fs, shared) = Unzip::new(Arc::clone(&world.fs));
            world.fs = Arc::new(fs);
            shared
        });
        unzip.set_rules(rules);
    }

    /// Ends an input: what its files hold now is read, then it is forgotten. One that isn't there has ended already.
    pub fn end(&mut self, id: InputId) {
        let Some(at) = self.inputs.iter().position(|i| i.id == id && i.life == Life::Reading) else { return };
        if self.draining {
            return;
        }
        self.inputs[at].life = Life::Ending;
        self.inputs[at].searched_at_drain = false;
        self.ending += 1;
        self.forget_leaving(at);
        self.drain_files(|input| usize::from(input) == at);
        self.search_now(at);
    }

    /// Whether an input still reads or has something that isn't acknowledged.
    pub fn is_known(&self, id: InputId) -> bool {
        self.inputs.iter().any(|i| i.id == id && i.life != Life::Over)
    }

    /// Whether what a file of this input holds is all that will be read of it.
    pub(crate) fn is_draining(&self, input: u16) -> bool {
        self.draining || self.inputs.get(usize::from(input)).is_some_and(|i| i.life == Life::Ending)
    }

    /// When ended inputs are to be looked at again.
    pub(crate) fn ending_due(&self, now: Mono) -> Option<Mono> {
        (self.ending > 0 && !self.draining).then(|| now.plus(SETTLES_EVERY))
    }

    /// Forgets the inputs that have ended and whose files are read and acknowledged; false: there is none.
    pub(crate) fn forget_ended(&mut self) -> bool {
        let now = self.world.clock.mono();
        if self.ending == 0 || self.draining || now < self.settle_at {
            return false;
        }
        let before = self.ending;
        self.settle_at = now.plus(SETTLES_EVERY);
        for at in 0..self.inputs.len() {
            let input = &self.inputs[at];
            let has_former = self.former.values().any(|former| usize::from(former.input) == at);
            let has_ended = input.life == Life::Ending && input.searched_at_drain && !input.tour.is_running();
            let has_ended = has_ended && !has_former;
            if has_ended || input.life == Life::Stopped {
                self.forget_input(at);
            }
        }
        self.ending < before
    }

    fn forget_input(&mut self, at: usize) {
        let mine = |id: &FileId| self.table.peek(*id, at, |_| ()).is_some();
        let mine: Vec<FileId> = (0..self.table.end()).filter(mine).collect();
        if !mine.iter().all(|id| self.is_over(*id, at)) {
            return;
        }
        for id in mine {
            self.table.thaw_if(id, |_| true);
            self.close(id);
            if self.inputs[at].life == Life::Ending && self.is_looked_for_elsewhere(id) {
                continue;
            }
            let key = self.table.key(id);
            let Some(f) = self.table.remove(id) else { continue };
            // Of an input that has stopped no last search has told a deleted file from a renamed one.
            let gone = if self.inputs[at].life == Life::Stopped { f.deleted } else { f.gone };
            if let (Some(key), true) = (&key, gone && self.cleans(at as u16)) {
                self.registry.remove(key);
                self.books.forgotten += 1;
            }
            self.books.close(account_of(&self.table, &f));
        }
        let input = &mut self.inputs[at];
        let unseen = std::mem::take(&mut input.unseen);
        if input.life == Life::Ending {
            self.books.unseen.add(&unseen);
        }
        input.life = Life::Over;
        input.spec.paths = Vec::new();
        input.tour = Tour::default();
        input.due = Mono(u64::MAX);
        self.ending -= 1;
        self.forget_folders();
    }

    /// A file that an ended input doesn't find any more, and of which it isn't known that it was deleted: an input of the same
    /// keys that looks into its folder may find it under another name. If its next search doesn't, it is forgotten.
    pub(crate) fn is_looked_for_elsewhere(&mut self, id: FileId) -> bool {
        let Some(f) = self.table.get(id).filter(|f| f.gone && !f.deleted) else { return false };
        let (group, folder) = (self.group(f.input), f.path.parent());
        let looks = |i: &Input| {
            let covers = |glob: &Glob| folder.is_some_and(|dir| dir.starts_with(glob.root()));
            i.life == Life::Reading && i.group == group && i.spec.paths.iter().any(covers)
        };
        let Some(heir) = self.inputs.iter().position(looks) else { return false };
        let number = self.inputs[heir].tour.number;
        if let Some(f) = self.table.get_mut(id) {
            (f.input, f.drain, f.gone_in) = (heir as u16, Drain::No, number);
        }
        self.table.cools(id);
        self.search_now(heir);
        true
    }

    /// Whether everything of a file of this input is in batches, and acknowledged.
    fn is_over(&self, id: FileId, input: usize) -> bool {
        let acknowledged = |f: &FileState| match &self.table.key_of(f) {
            Some(key) => self.registry.get(key).is_none_or(|e| e.incarnation != f.incarnation || e.offset >= f.pos),
            None => true,
        };
        // What was quiet when the end began is as good as read, until a look shows something else.
        let is_over = |f: &FileState| f.drain != Drain::Pending && !f.queued && acknowledged(f);
        self.table.peek(id, input, is_over).unwrap_or(true)
    }
}
