//! The files that have something to read, and which is next.
//!
//! Always holds: a file waits once at most ([`FileState::queued`]). In turn: whoever has read a chunk goes to the end. The
//! oldest first: a file keeps its place until it is read to its end, so that one that is written to all the time is
//! neither passed over for ever nor holds up those that waited before it.
//!
//! [`FileState::queued`]: crate::harvest::file::FileState::queued
//!
//! Tested below.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::harvest::table::FileId;
use crate::spec::Order;

/// See the module's header.
pub(crate) struct Ready {
    queue: Queue,
    /// How many of them wait to be read for the first time.
    fresh: usize,
}

/// A file that waits, and whether it is for the first time.
type Waiting = (FileId, bool);

enum Queue {
    Fair(VecDeque<Waiting>),
    Oldest {
        heap: BinaryHeap<Reverse<(i64, Waiting)>>,
        /// The place of the one that is being read.
        now: Option<(FileId, i64)>,
    },
}

impl Ready {
    pub(crate) fn new(order: Order) -> Ready {
        let queue = match order {
            Order::Fair => Queue::Fair(VecDeque::new()),
            Order::Oldest => Queue::Oldest { heap: BinaryHeap::new(), now: None },
        };
        Ready { queue, fresh: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match &self.queue {
            Queue::Fair(queue) => queue.is_empty(),
            Queue::Oldest { heap, .. } => heap.is_empty(),
        }
    }

    /// How many files wait to be read for the first time.
    pub(crate) fn fresh(&self) -> usize {
        self.fresh
    }

    /// A file has something to read, last changed at `mtime_ns`; `fresh`: nothing of it was read yet.
    pub(crate) fn push(&mut self, id: FileId, mtime_ns: i64, fresh: bool) {
        self.fresh += usize::from(fresh);
        match &mut self.queue {
            Queue::Fair(queue) => queue.push_back((id, fresh)),
            Queue::Oldest { heap, now } => {
                let kept = now.filter(|(reading, _)| *reading == id).map(|(_, at)| at);
                heap.push(Reverse((kept.unwrap_or(mtime_ns), (id, fresh))));
            }
        }
    }

    /// The next one.
    pub(crate) fn pop(&mut self) -> Option<FileId> {
        let (id, fresh) = match &mut self.queue {
            Queue::Fair(queue) => queue.pop_front()?,
            Queue::Oldest { heap, now } => {
                let Reverse((at, waiting)) = heap.pop()?;
                *now = Some((waiting.0, at));
                waiting
            }
        };
        self.fresh -= usize::from(fresh);
        Some(id)
    }

    /// Keeps those that are meant.
    pub(crate) fn retain(&mut self, meant: impl Fn(FileId) -> bool) {
        match &mut self.queue {
            Queue::Fair(queue) => queue.retain(|(id, _)| meant(*id)),
            Queue::Oldest { heap, .. } => heap.retain(|Reverse((_, (id, _)))| meant(*id)),
        }
        self.fresh = match &self.queue {
            Queue::Fair(queue) => queue.iter().filter(|(_, fresh)| *fresh).count(),
            Queue::Oldest { heap, .. } => heap.iter().filter(|Reverse((_, (_, fresh)))| *fresh).count(),
        };
    }

    /// The turn of the one that was next is over.
    pub(crate) fn turn_over(&mut self) {
        if let Queue::Oldest { now, .. } = &mut self.queue {
            *now = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turn_or_the_oldest_to_its_end() {
        let next = |order: Order| {
            let mut ready = Ready::new(order);
            for (id, mtime) in [(1, 30), (2, 10), (3, 20)] {
                ready.push(id, mtime, true);
            }
            let mut got = Vec::new();
            for turn in 0.. {
                let Some(id) = ready.pop() else { break };
                got.push(id);
                assert!(ready.fresh() <= 3);
                // Each has two chunks, and is written to meanwhile.
                if got.iter().filter(|i| **i == id).count() < 2 {
                    ready.push(id, 100 + turn, false);
                }
                ready.turn_over();
            }
            assert_eq!(ready.fresh(), 0);
            got
        };
        assert_eq!(next(Order::Fair), [1, 2, 3, 1, 2, 3]);
        assert_eq!(next(Order::Oldest), [2, 2, 3, 3, 1, 1]);
    }

    #[test]
    fn who_comes_back_later_has_a_new_place() {
        let mut ready = Ready::new(Order::Oldest);
        ready.push(1, 10, true);
        assert_eq!(ready.pop(), Some(1));
        ready.turn_over();
        ready.push(2, 20, true);
        ready.push(1, 30, false);
        assert_eq!((ready.pop(), ready.pop(), ready.pop()), (Some(2), Some(1), None));
        assert!(ready.is_empty());
    }
}
