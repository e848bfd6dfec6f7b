//! The work that the workers of an output share.
//!
//! Comes in: requests from the queue. Goes out: [`Piece`]s, each to one worker at a time; what one worker can't deliver
//! it gives back, and any other takes it. An output that remembers more of a piece wraps it in a type of its own.
//!
//! Always holds: every event taken from the queue is in exactly one piece until it is settled; [`Pool::next`] says
//! `None`, and [`Pool::ended`] returns, only when the queue is closed and no piece is left with anybody. What was given back
//! goes out again only while the [`Gate`] is open, and without what somebody else sends by then. What was put off comes
//! again after [`PUT_OFF`] and holds up nothing meanwhile. Bounded: what workers hold, what they gave back or put off (no
//! more than the queue holds), and one request more. Tested below and in the tests of the outputs.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_event::{Batch, Event, Slice};
use pillion_queue::Request;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::contract::{Gate, Requests};

/// How long what was put off waits: no longer than any pause while a run drains.
pub(crate) const PUT_OFF: Duration = Duration::from_secs(1);

/// A piece, and what an output remembers of it.
pub(crate) trait Carried: From<Piece> + AsRef<Piece> {
    /// Takes slices out, each with what is remembered of it.
    fn leave_out(&mut self, gone: &dyn Fn(&Slice) -> bool);
}

type Later<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Where workers take work from: [`Piece`]s, or what an output makes of them.
pub(crate) struct Pool<W> {
    requests: Arc<dyn Requests>,
    /// The most events in a request.
    max_events: usize,
    /// Given back, in order.
    back: Mutex<VecDeque<W>>,
    /// Put off, in the order in which it is due.
    later: Mutex<VecDeque<(Instant, W)>>,
    held: Arc<Held>,
}

/// What is known of the requests.
#[derive(Default)]
struct Held {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Requests of which something isn't settled.
    outstanding: usize,
    /// The queue is closed and empty.
    closed: bool,
}

impl State {
    fn ended(&self) -> bool {
        self.closed && self.outstanding == 0
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave its state half changed by a panic.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request of which something isn't settled; also keeps the queue's mark that it is in flight.
struct InFlight {
    held: Arc<Held>,
    _request: Request,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.held.lock().outstanding -= 1;
        self.held.changed.notify_waiters();
    }
}

/// Some events of one request.
pub(crate) struct Piece {
    slices: VecDeque<Slice>,
    /// Gone with the request's last piece.
    in_flight: Arc<InFlight>,
}

impl<W: Carried> Pool<W> {
    pub(crate) fn new(requests: Arc<dyn Requests>, max_events: usize) -> Arc<Pool<W>> {
        let (back, later) = (Mutex::default(), Mutex::default());
        Arc::new(Pool { requests, max_events, back, later, held: Arc::default() })
    }

    /// The next work: what was given back, else a new request. `None`: all is settled and nothing will come. May be
    /// dropped at any time without losing anything.
    pub(crate) async fn next(&self) -> Option<W> {
        loop {
            let mut changed = pin!(self.held.changed.notified());
            changed.as_mut().enable();
            let (open, moved) = self.look_at_gate();
            let back = open.then(|| lock(&self.back).pop_front().or_else(|| self.due())).flatten();
            if back.is_some() {
                return back;
            }
            let waits = !open && !lock(&self.back).is_empty();
            let due = lock(&self.later).front().map(|(due, _)| *due).filter(|_| open);
            let closed = {
                let state = self.held.lock();
                if state.ended() {
                    return None;
                }
                state.closed
            };
            tokio::select! {
                () = changed => {}
                () = moved, if waits => {}
                () = until(due) => {}
                // What was given back comes first.
                taken = self.requests.take(self.max_events), if !closed && !waits => match taken {
                    Some(request) => return Some(self.hold(request)),
                    None => self.close(),
                },
            }
        }
    }

    /// Waits until all is settled and nothing will come. It looks for that at the queue too, since all workers may be
    /// without a host: what it finds there it gives to whoever can send it, one request at most.
    pub(crate) async fn ended(&self) {
        loop {
            let mut changed = pin!(self.held.changed.notified());
            changed.as_mut().enable();
            let (open, moved) = self.look_at_gate();
            let may_take = {
                let state = self.held.lock();
                if state.ended() {
                    return;
                }
                !state.closed && lock(&self.back).is_empty()
            };
            tokio::select! {
                () = changed => {}
                () = moved, if !open => {}
                taken = self.requests.take(self.max_events), if may_take => match taken {
                    Some(request) => self.put(self.hold(request)),
                    None => self.close(),
                },
            }
        }
    }

    /// Whether work may be sent, and what to wait for when it mayn't. What somebody else sends by now is let go.
    fn look_at_gate(&self) -> (bool, Later<'_>) {
        let Some(gate) = self.requests.gate() else { return (true, Box::pin(std::future::pending())) };
        let changed = gate.changed();
        let empty: VecDeque<W> = {
            let mut back = lock(&self.back);
            back.iter_mut().for_each(|work| work.leave_out(&|slice| let_go(gate, slice)));
            let (empty, rest) = back.drain(..).partition(|work: &W| work.as_ref().is_empty());
            *back = rest;
            empty
        };
        let gone: VecDeque<(Instant, W)> = {
            let mut later = lock(&self.later);
            later.iter_mut().for_each(|(_, work)| work.leave_out(&|slice| let_go(gate, slice)));
            let (gone, rest) = later.drain(..).partition(|(_, work): &(Instant, W)| work.as_ref().is_empty());
            *later = rest;
            gone
        };
        // The end of a request is told once the locks are free.
        drop((empty, gone));
        (gate.is_open(), changed)
    }

    /// Waits until work that a worker holds may be sent, before each attempt; what somebody else sends by then leaves it. Work
    /// is lost with a future that is dropped before.
    pub(crate) async fn admit(&self, mut work: W) -> W {
        let Some(gate) = self.requests.gate() else { return work };
        loop {
            let changed = gate.changed();
            work.leave_out(&|slice| let_go(gate, slice));
            if gate.is_open() || work.as_ref().is_empty() {
                return work;
            }
            changed.await;
        }
    }

    /// Whether anything may be sent now.
    pub(crate) fn is_open(&self) -> bool {
        self.requests.gate().is_none_or(Gate::is_open)
    }

    /// Gives work back, to be taken before all other; nothing is done with work that has no events.
    pub(crate) fn put(&self, work: W) {
        if !work.as_ref().is_empty() {
            lock(&self.back).push_front(work);
            self.held.changed.notify_waiters();
        }
    }

    /// Gives work back that can't be delivered now while other work can: it comes again after [`PUT_OFF`], and whatever else
    /// there is goes before.
    pub(crate) fn put_off(&self, work: W) {
        if !work.as_ref().is_empty() {
            lock(&self.later).push_back((Instant::now() + PUT_OFF, work));
            self.held.changed.notify_waiters();
        }
    }

    /// The first work that was put off and has waited long enough.
    fn due(&self) -> Option<W> {
        let mut later = lock(&self.later);
        later.pop_front_if(|(due, _)| *due <= Instant::now()).map(|(_, work)| work)
    }

    /// Gives all of it back, in its order.
    pub(crate) fn put_all(&self, works: &mut VecDeque<W>) {
        while let Some(work) = works.pop_back() {
            self.put(work);
        }
    }

    fn hold(&self, mut request: Request) -> W {
        self.held.lock().outstanding += 1;
        let slices = std::mem::take(&mut request.slices).into();
        let in_flight = Arc::new(InFlight { held: Arc::clone(&self.held), _request: request });
        W::from(Piece { slices, in_flight })
    }

    fn close(&self) {
        self.held.lock().closed = true;
        self.held.changed.notify_waiters();
    }
}

/// Waits for that moment; without one for ever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Whether somebody else sends this by now; then it is out of the books.
fn let_go(gate: &dyn Gate, slice: &Slice) -> bool {
    let gone = gate.is_gone(slice);
    if gone {
        gate.forget(slice);
    }
    gone
}

impl Piece {
    /// How many events.
    pub(crate) fn len(&self) -> usize {
        self.slices.iter().map(Slice::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slices.iter().all(Slice::is_empty)
    }

    /// The slices, in order.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter()
    }

    /// The events in order, with the index in their batch.
    pub(crate) fn events(&self) -> impl Iterator<Item = (&Arc<Batch>, usize, &Event)> {
        self.slices.iter().flat_map(|s| {
            let first = s.events.start;
            s.events().iter().enumerate().map(move |(i, e)| (&s.batch, first + i, e))
        })
    }

    /// The same request's events in other slices.
    pub(crate) fn with(&self, slices: Vec<Slice>) -> Piece {
        Piece { slices: slices.into(), in_flight: Arc::clone(&self.in_flight) }
    }

    /// Takes the first `n` events out, as a piece of their own.
    pub(crate) fn take_front(&mut self, n: usize) -> Piece {
        let mut left = n;
        let mut front = Vec::new();
        while left > 0 {
            let Some(mut slice) = self.slices.pop_front() else { break };
            if slice.len() > left {
                let cut = slice.events.start + left;
                let rest = Slice { batch: Arc::clone(&slice.batch), events: cut..slice.events.end };
                self.slices.push_front(rest);
                slice.events.end = cut;
            }
            left -= slice.len();
            front.push(slice);
        }
        self.with(front)
    }
}

impl Carried for Piece {
    fn leave_out(&mut self, gone: &dyn Fn(&Slice) -> bool) {
        self.slices.retain(|slice| slice.is_empty() || !gone(slice));
    }
}

impl AsRef<Piece> for Piece {
    fn as_ref(&self) -> &Piece {
        self
    }
}

impl Clone for Piece {
    fn clone(&self) -> Piece {
        self.with(self.slices.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::testing::{Gated, List, lines};

    /// Whether a future has ended when it is looked at once.
    fn is_over(future: impl Future<Output = ()>) -> bool {
        matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    #[tokio::test]
    async fn the_end_is_seen_by_whoever_only_waits_for_it() {
        let pool: Arc<Pool<Piece>> = Pool::new(List::of(lines(0)), 10);
        pool.ended().await;
        assert!(pool.next().await.is_none());
        // With something left it takes that, once, for whoever can send it.
        let pool: Arc<Pool<Piece>> = Pool::new(List::of(lines(30)), 10);
        assert!(!is_over(pool.ended()) && !is_over(pool.ended()));
        assert_eq!(lock(&pool.back).len(), 1);
        for first in [0, 10, 20] {
            let piece = pool.next().await.unwrap();
            assert_eq!(piece.events().next().map(|(_, at, _)| at), Some(first));
        }
        pool.ended().await;
    }

    #[tokio::test]
    async fn what_is_given_back_comes_first_and_in_order() {
        let pool: Arc<Pool<Piece>> = Pool::new(List::of(lines(30)), 10);
        let mut todo: VecDeque<Piece> = [pool.next().await.unwrap(), pool.next().await.unwrap()].into();
        let piece = todo[0].take_front(0);
        pool.put(piece);
        pool.put_all(&mut todo);
        for first in [0, 10, 20] {
            let piece = pool.next().await.unwrap();
            assert_eq!((piece.events().next().map(|(_, at, _)| at), piece.len()), (Some(first), 10));
        }
        assert!(pool.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_off_comes_again_in_a_while_and_holds_up_nothing() {
        let gated = Gated::of(lines(30));
        let pool: Arc<Pool<Piece>> = Pool::new(Arc::clone(&gated) as _, 10);
        let firsts = |piece: Option<Piece>| piece.map(|p| p.events().next().map(|(_, at, _)| at));
        let (begin, mut first) = (Instant::now(), pool.next().await.unwrap());
        pool.put_off(first.take_front(4));
        pool.put_off(first);
        assert_eq!(firsts(pool.next().await), Some(Some(10)));
        assert_eq!(firsts(pool.next().await), Some(Some(20)));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!((firsts(pool.next().await), begin.elapsed()), (Some(Some(0)), PUT_OFF));
        // What somebody else sends by then isn't waited for.
        assert!(!is_over(pool.ended()));
        gated.take_away(4..10);
        pool.ended().await;
        assert_eq!((firsts(pool.next().await), begin.elapsed(), gated.forgotten()), (None, PUT_OFF, 6));
    }

    #[tokio::test]
    async fn what_was_given_back_goes_out_again_only_through_an_open_gate_and_without_what_is_gone() {
        let gated = Gated::of(lines(30));
        let pool: Arc<Pool<Piece>> = Pool::new(Arc::clone(&gated) as _, 10);
        let pieces = [pool.next().await.unwrap(), pool.next().await.unwrap()];
        gated.open(false);
        pool.put_all(&mut pieces.into_iter().collect());
        let mut next = pin!(pool.next());
        let mut poll =
            || next.as_mut().poll(&mut Context::from_waker(Waker::noop())).map(|piece| piece.map(|p| p.len()));
        assert_eq!((poll(), pool.is_open()), (Poll::Pending, false));
        gated.take_away(0..10);
        assert_eq!((poll(), gated.forgotten()), (Poll::Pending, 10), "nor anything newer");
        gated.open(true);
        assert_eq!(poll(), Poll::Ready(Some(10)));
        // What only one worker has: the part that is gone leaves it, and the end needn't wait for the gate.
        gated.take_away(20..25);
        let mut piece = pool.next().await.unwrap();
        assert_eq!(piece.events().next().map(|(_, at, _)| at), Some(20));
        let front = piece.take_front(5);
        let parts = piece.with(front.slices().chain(piece.slices()).cloned().collect());
        drop((front, piece));
        let admitted = pool.admit(parts).await;
        assert_eq!((admitted.len(), gated.forgotten()), (5, 15));
        gated.open(false);
        pool.put(admitted);
        assert!(!is_over(pool.ended()));
        gated.take_away(25..30);
        gated.open(true);
        pool.ended().await;
        assert_eq!(gated.forgotten(), 20);
    }
}
