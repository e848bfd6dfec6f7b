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

use crate::harvest::file::Drain;
use crate::harvest::table::FileId;
use crate::harvest::tour::Tour;
use crate::harvest::{Harvester, Input, account_of};
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

    /// Forgets the inputs that have ended and whose files are read and acknowledged.
    pub(crate) fn forget_ended(&mut self) {
        let now = self.world.clock.mono();
        if self.ending == 0 || self.draining || now < self.settle_at {
            return;
        }
        self.settle_at = now.plus(SETTLES_EVERY);
        for at in 0..self.inputs.len() {
            let input = &self.inputs[at];
            let has_ended = input.life == Life::Ending && input.searched_at_drain && !input.tour.is_running();
            if has_ended || input.life == Life::Stopped {
                self.forget_input(at);
            }
        }
    }

    fn forget_input(&mut self, at: usize) {
        let mine: Vec<FileId> =
            self.table.iter().filter(|(_, f)| usize::from(f.input) == at).map(|(id, _)| id).collect();
        if !mine.iter().all(|id| self.is_over(*id)) {
            return;
        }
        for id in mine {
            self.close(id);
            let key = self.table.key(id);
            let Some(f) = self.table.remove(id) else { continue };
            // Of an input that has stopped no last search has told a deleted file from a renamed one.
            let gone = if self.inputs[at].life == Life::Stopped { f.deleted } else { f.gone };
            if let (Some(key), true) = (&key, gone) {
                self.registry.remove(key);
            }
            self.books.close(account_of(&self.table, &f));
        }
        let input = &mut self.inputs[at];
        input.life = Life::Over;
        input.spec.paths = Vec::new();
        input.tour = Tour::default();
        input.due = Mono(u64::MAX);
        self.ending -= 1;
        self.forget_folders();
    }

    /// Whether everything of a file is in batches, and acknowledged.
    fn is_over(&self, id: FileId) -> bool {
        let Some(f) = self.table.get(id) else { return true };
        let acknowledged = match &self.table.key_of(f) {
            Some(key) => self.registry.get(key).is_none_or(|e| e.incarnation != f.incarnation || e.offset >= f.pos),
            None => true,
        };
        f.drain == Drain::Done && !f.queued && acknowledged
    }

    /// Folders in which no input looks any more.
    fn forget_folders(&mut self) {
        let roots: Vec<_> = self.inputs.iter().flat_map(|i| i.spec.paths.iter().map(|g| g.root())).collect();
        self.folders.retain(|dir, _| roots.iter().any(|root| dir.starts_with(root) || root.starts_with(dir)));
    }
}
