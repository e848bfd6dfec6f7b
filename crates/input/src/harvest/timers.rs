//! When files are due to be looked at by themselves.
//!
//! Always holds: a file has at most one entry that counts ([`FileState::timer`]); others are skipped. An entry may be
//! early: whoever is woken looks at what is due and asks again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pillion_world::Mono;

use crate::harvest::file::FileState;
use crate::harvest::table::{FileId, Table};

#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Mono, FileId)>>,
}

impl Timers {
    /// Wakes a file at `at` or before.
    pub(crate) fn set(&mut self, id: FileId, file: &mut FileState, at: Mono) {
        if file.timer.is_none_or(|t| at < t) {
            file.timer = Some(at);
            self.heap.push(Reverse((at, id)));
        }
    }

    /// A file that is due.
    pub(crate) fn pop(&mut self, now: Mono, table: &mut Table) -> Option<FileId> {
        while let Some(&Reverse((at, id))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if let Some(file) = table.get_mut(id)
                && file.timer == Some(at)
            {
                file.timer = None;
                return Some(id);
            }
        }
        None
    }

    /// When the next one is due; may be too early by an entry that counts no more.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}
