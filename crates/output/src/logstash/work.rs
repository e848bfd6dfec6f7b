//! The work that the workers of an output share.
//!
//! Comes in: requests from the queue. Goes out: [`Piece`]s, each to one worker at a time; a worker whose host is down
//! gives its pieces back, and another one takes them.
//!
//! Always holds: every event taken from the queue is in exactly one piece until it is settled; [`Shared::next`] says
//! `None` only when the queue is closed and no piece is left with anybody. Tested in `tests.rs`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pillion_event::{Fate, Slice};
use pillion_queue::{AckSink, Fates, Request};
use tokio::sync::Notify;

use crate::contract::{Requests, Stats};

/// Work to be done, and how much of it is with workers.
pub(super) struct Shared {
    requests: Arc<dyn Requests>,
    acks: Arc<dyn AckSink>,
    stats: Arc<Stats>,
    /// The most events in a request.
    max_events: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Given back, in order.
    back: VecDeque<Piece>,
    /// Requests of which something isn't settled.
    outstanding: usize,
    /// The queue is closed and empty.
    closed: bool,
}

/// Some events of one request.
pub(super) struct Piece {
    slices: VecDeque<Slice>,
    request: Arc<Held>,
}

/// A request of which something isn't settled; also keeps the queue's mark that it is in flight.
struct Held {
    shared: Arc<Shared>,
    _request: Request,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.lock().outstanding -= 1;
        self.shared.changed.notify_waiters();
    }
}

impl Shared {
    pub(super) fn new(
        requests: Arc<dyn Requests>,
        acks: Arc<dyn AckSink>,
        stats: Arc<Stats>,
        max_events: usize,
    ) -> Arc<Shared> {
        Arc::new(Shared { requests, acks, stats, max_events, state: Mutex::default(), changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece: one given back, else a new request. `None`: all is settled and nothing will come. May be
    /// dropped at any time without losing anything.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Piece> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let closed = {
                let mut state = self.lock();
                if let Some(piece) = state.back.pop_front() {
                    return Some(piece);
                }
                if state.closed && state.outstanding == 0 {
                    return None;
                }
                state.closed
            };
            tokio::select! {
                () = changed => {}
                taken = self.requests.take(self.max_events), if !closed => match taken {
                    Some(request) => return Some(self.hold(request)),
                    None => self.close(),
                },
            }
        }
    }

    fn hold(self: &Arc<Self>, mut request: Request) -> Piece {
        self.lock().outstanding += 1;
        let slices = std::mem::take(&mut request.slices).into();
        Piece { slices, request: Arc::new(Held { shared: Arc::clone(self), _request: request }) }
    }

    /// Waits until all is settled and nothing will come. It looks for that at the queue too, since all workers may be
    /// without a host: what it finds there it gives to whoever can send it, one request at most.
    pub(super) async fn done(self: &Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let may_take = {
                let state = self.lock();
                if state.closed && state.outstanding == 0 {
                    return;
                }
                !state.closed && state.back.is_empty()
            };
            tokio::select! {
                () = changed => {}
                taken = self.requests.take(self.max_events), if may_take => match taken {
                    Some(request) => self.give_back(&mut [self.hold(request)].into()),
                    None => self.close(),
                },
            }
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Gives pieces back for whoever can send them, before all others.
    pub(super) fn give_back(&self, pieces: &mut VecDeque<Piece>) {
        if pieces.is_empty() {
            return;
        }
        let mut state = self.lock();
        while let Some(piece) = pieces.pop_back() {
            state.back.push_front(piece);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Settles the first `n` events of a piece; they are no longer in it.
    pub(super) fn settle_front(&self, piece: &mut Piece, n: usize, fate: &Fate) {
        for slice in piece.split_front(n) {
            match fate {
                Fate::Acked => self.stats.acked.add(slice.len()),
                _ => self.stats.dropped.add(slice.len()),
            }
            self.acks.settled(&slice, Fates::All(fate.clone()));
        }
    }
}

impl Piece {
    /// How many events.
    pub(super) fn len(&self) -> usize {
        self.slices.iter().map(Slice::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// The slices, in order.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter()
    }

    /// A piece of the same request with the first `n` events; they are no longer in this one.
    pub(super) fn take_front(&mut self, n: usize) -> Piece {
        Piece { slices: self.split_front(n).into(), request: Arc::clone(&self.request) }
    }

    fn split_front(&mut self, mut n: usize) -> Vec<Slice> {
        let mut front = Vec::new();
        while n > 0 {
            let Some(mut slice) = self.slices.pop_front() else { break };
            if slice.len() > n {
                let cut = slice.events.start + n;
                let rest = Slice { batch: Arc::clone(&slice.batch), events: cut..slice.events.end };
                self.slices.push_front(rest);
                slice.events.end = cut;
            }
            n -= slice.len();
            front.push(slice);
        }
        front
    }
}
