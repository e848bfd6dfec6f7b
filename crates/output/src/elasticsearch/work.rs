//! What is to be sent, shared by all workers of an output.
//!
//! Always holds: work that was taken stays counted until it is settled to its last event; what one worker can't deliver
//! another may take; when the source is closed, workers end only after the last work is settled. Bounded: each worker
//! holds at most one work, and puts back what it split. Tested in `settle.rs` and `tests.rs`.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillion_event::{Batch, Drop, Event, Slice};
use tokio::sync::Notify;

use crate::{Request, Requests};

/// Events that the target refused, on their way to a dead-letter index.
#[derive(Clone, Debug)]
pub(super) struct Dead {
    /// For the receipt.
    pub(super) reason: Drop,
    /// The target's text.
    pub(super) text: String,
}

/// Some events to be sent in one request.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) slices: Vec<Slice>,
    /// The target may have got these events before: "exists already" is then believed.
    pub(super) resent: bool,
    /// For a dead-letter index: why, one for each event; else empty.
    pub(super) dead: Vec<Dead>,
    /// Gone with the last part of the request.
    _in_flight: Arc<InFlight>,
}

/// Counts a request until all of it is settled, and tells the queue.
struct InFlight {
    pool: Arc<Pool>,
    _part: Request,
}

impl std::ops::Drop for InFlight {
    fn drop(&mut self) {
        let mut s = self.pool.lock();
        s.alive = s.alive.saturating_sub(1);
        drop(s);
        self.pool.changed.notify_waiters();
    }
}

impl Work {
    /// How many events.
    pub(super) fn len(&self) -> usize {
        self.slices.iter().map(Slice::len).sum()
    }

    /// The events in order, with the index in their batch.
    pub(super) fn events(&self) -> impl Iterator<Item = (&Arc<Batch>, usize, &Event)> {
        self.slices.iter().flat_map(|s| {
            let first = s.events.start;
            s.events().iter().enumerate().map(move |(i, e)| (&s.batch, first + i, e))
        })
    }

    /// The same request's events in other slices.
    pub(super) fn with(&self, slices: Vec<Slice>, dead: Vec<Dead>) -> Work {
        Work { slices, resent: self.resent, dead, _in_flight: Arc::clone(&self._in_flight) }
    }

    /// Takes all events behind the first `n` away, as work of their own.
    pub(super) fn split_off(&mut self, n: usize) -> Work {
        let mut left = n;
        let mut behind = Vec::new();
        for slice in &mut self.slices {
            let keep = left.min(slice.len());
            left -= keep;
            let cut = slice.events.start + keep;
            if cut < slice.events.end {
                behind.push(Slice { batch: Arc::clone(&slice.batch), events: cut..slice.events.end });
                slice.events.end = cut;
            }
        }
        self.slices.retain(|s| !s.is_empty());
        let dead = self.dead.split_off(n.min(self.dead.len()));
        self.with(behind, dead)
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    alive: usize,
}

/// Where workers take work from.
pub(super) struct Pool {
    requests: Arc<dyn Requests>,
    max_events: usize,
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
}

impl Pool {
    pub(super) fn new(requests: Arc<dyn Requests>, max_events: usize) -> Arc<Pool> {
        let (closed, state, changed) = (AtomicBool::new(false), Mutex::default(), Notify::new());
        Arc::new(Pool { requests, max_events, closed, state, changed })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives work back, to be taken next by any worker.
    pub(super) fn put(&self, work: Work) {
        if work.len() > 0 {
            self.lock().waiting.push_front(work);
            self.changed.notify_waiters();
        }
    }

    /// The next work; `None` when there will be no more. Dropping the future loses nothing.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Work> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut s = self.lock();
                if let Some(work) = s.waiting.pop_front() {
                    return Some(work);
                }
                if self.closed.load(Ordering::Acquire) && s.alive == 0 {
                    return None;
                }
            }
            if self.closed.load(Ordering::Acquire) {
                changed.await;
                continue;
            }
            tokio::select! {
                () = changed => {}
                taken = self.requests.take(self.max_events) => match taken {
                    Some(request) => return Some(self.work(request)),
                    None => {
                        self.closed.store(true, Ordering::Release);
                        self.changed.notify_waiters();
                    }
                },
            }
        }
    }

    fn work(self: &Arc<Self>, mut request: Request) -> Work {
        let slices = std::mem::take(&mut request.slices);
        self.lock().alive += 1;
        let in_flight = Arc::new(InFlight { pool: Arc::clone(self), _part: request });
        Work { slices, resent: false, dead: Vec::new(), _in_flight: in_flight }
    }

    /// Waits until there is nothing more to do, ever.
    pub(super) async fn ended(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.closed.load(Ordering::Acquire) && self.lock().alive == 0 {
                return;
            }
            changed.await;
        }
    }
}
