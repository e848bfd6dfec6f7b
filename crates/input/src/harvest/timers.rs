//! When files are due to be looked at by themselves.
//!
//! Always holds: a file has at most one entry that counts ([`FileState::timer`]); others are skipped. An entry may be
//! early: whoever is woken looks at what is due and asks again. There are never more than about twice as many entries as
//! files that aren't quiet: a group's timeout, sooner than the file's rest, leaves an entry behind that nobody waits for
//! any more, and so does a file that became quiet.
//!
//! Tested below.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pillion_world::Mono;

use crate::harvest::file::FileState;
use crate::harvest::table::{FileId, Table};

/// So many entries that count no more aren't worth the work.
const SPARE: usize = 64;

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
        if self.heap.len() > 2 * table.hot() + SPARE {
            self.tidy(table);
        }
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

    /// Drops the entries that count no more, and those that stand twice.
    fn tidy(&mut self, table: &Table) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.retain(|Reverse((at, id))| table.get(*id).is_some_and(|f| f.timer == Some(*at)));
        entries.sort_unstable();
        entries.dedup();
        entries.shrink_to(2 * table.hot() + SPARE);
        self.heap = entries.into();
    }

    /// When the next one is due; may be too early by an entry that counts no more.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harvest::table::tests::file;

    #[test]
    fn entries_that_count_no_more_are_dropped_and_every_file_is_woken() {
        let (mut timers, mut table) = (Timers::default(), Table::default());
        let ids: Vec<FileId> =
            (0..100).map(|i| table.insert(0, file(&format!("/{i}"), u64::from(i as u32), false))).collect();
        let far = Mono(1 << 40);
        for round in 0..1000_u64 {
            for &id in &ids {
                // Its rest is far off; a line comes, and the group that it begins is due first. Then it rests again.
                timers.set(id, table.get_mut(id).unwrap(), far);
                timers.set(id, table.get_mut(id).unwrap(), Mono(round + 1));
            }
            let mut woken: Vec<FileId> = std::iter::from_fn(|| timers.pop(Mono(round + 1), &mut table)).collect();
            woken.sort_unstable();
            assert_eq!(woken, ids);
            assert!(timers.heap.len() <= 3 * ids.len() + SPARE, "{} entries", timers.heap.len());
        }
        for &id in &ids {
            timers.set(id, table.get_mut(id).unwrap(), far);
        }
        table.remove(ids[0]);
        let woken = std::iter::from_fn(|| timers.pop(far, &mut table)).count();
        assert_eq!((woken, timers.heap.len(), timers.next()), (99, 0, None));
    }
}
