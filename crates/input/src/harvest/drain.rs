//! The drain: one last search, every file opened anew and read to its end.
//!
//! Comes in: [`Harvester::drain`]. Goes out: the rest as batches, open groups and unfinished last lines included; then
//! [`Harvester::drained`]. Always holds: a file that can't be read isn't drained, however long it takes: whoever waits
//! sets the limit, and the accounts tell what is missing. On a network file system descriptors are closed first:
//! close-to-open consistency promises the last bytes only to an open that comes after the writer's close.

use crate::harvest::Harvester;
use crate::harvest::file::Drain;

impl Harvester {
    /// Begins the drain. Files that appear while it lasts are read too.
    pub fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        for id in 0..self.table.end() {
            let Some(f) = self.table.get_mut(id) else { continue };
            f.drain = Drain::Pending;
            f.look_at = None;
            if f.network && !f.gone {
                self.close(id);
            }
        }
        for input in &mut self.inputs {
            input.searched_at_drain = false;
        }
        self.search_all_now();
    }

    /// After [`Harvester::drain`]: everything that was there is in batches.
    pub fn drained(&self) -> bool {
        self.draining
            && self.hints.is_empty()
            && self.inputs.iter().all(|i| i.searched_at_drain)
            && self.table.iter().all(|(_, f)| f.drain == Drain::Done)
    }

    /// A search that began after the drain did has ended: what has nothing to read is done.
    pub(crate) fn searched_at_drain(&mut self, input: usize) {
        let now = self.world.clock.mono();
        if self.inputs[input].tour.is_again() {
            return;
        }
        self.inputs[input].searched_at_drain = true;
        for id in 0..self.table.end() {
            let Some(f) = self.table.get(id) else { continue };
            if usize::from(f.input) != input || f.drain != Drain::Pending {
                continue;
            }
            let empty = f.len == 0 && f.key.is_none();
            if empty || (f.len <= f.pos && f.replays.is_none() && !f.queued) {
                self.close(id);
                if let Some(f) = self.table.get_mut(id) {
                    f.drain = Drain::Done;
                }
            } else if f.key.is_none() {
                self.bind_and_consider(id, now);
            } else {
                self.consider(id, now);
            }
        }
    }
}
