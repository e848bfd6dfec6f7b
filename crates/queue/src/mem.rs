//! The memory queue (`queue.mem`).
//!
//! Sync on the side of the readers, async on the side of the outputs; one lock, held for a few instructions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_event::{Batch, Slice};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What the queue may hold, and when it gives out part-filled requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `queue.mem.events`: events between reader and acknowledgement.
    pub events: usize,
    /// Bytes (see `Batch::weight`) between reader and acknowledgement.
    pub bytes: usize,
    /// `queue.mem.flush`, when the user set it: a request waits for this many events or until the oldest has waited for
    /// this long. Without it, lines gather only while a part-filled request is in flight.
    pub flush: Option<(usize, Duration)>,
}

/// The events of one request to a target, never none.
#[derive(Debug, Default)]
pub struct Request {
    /// The events, in order.
    pub slices: Vec<Slice>,
    /// Dropped when the request is answered or given up: the queue's way of knowing that it is no longer in flight.
    pub in_flight: Option<Part>,
}

impl Request {
    /// How many events.
    pub fn len(&self) -> usize {
        self.slices.iter().map(Slice::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}

/// Marks the one part-filled request in flight; dropping it lets the next one go.
#[derive(Debug)]
pub struct Part(Arc<Queue>);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.lock().part_in_flight = false;
        self.0.ready.notify_waiters();
    }
}

struct Waiting {
    batch: Arc<Batch>,
    next: usize,
    since: Instant,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    waiting_events: usize,
    held_events: usize,
    held_bytes: usize,
    part_in_flight: bool,
    closed: bool,
    flush: bool,
}

/// Called when space comes free, on the thread that released it: wakes a reader. It must not block.
pub type SpaceWaker = Box<dyn Fn() + Send + Sync>;

/// The memory queue. See the crate's header for what always holds.
pub struct Queue {
    limits: Limits,
    state: Mutex<State>,
    ready: Notify,
    space: Mutex<Option<SpaceWaker>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("limits", &self.limits).finish_non_exhaustive()
    }
}

enum Take {
    Request(Request),
    Wait(Option<Instant>),
    Closed,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits) -> Arc<Queue> {
        Arc::new(Queue { limits, state: Mutex::default(), ready: Notify::new(), space: Mutex::new(None) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed by a panic: counters and a queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to tell when space comes free after there was none.
    pub fn on_space(&self, waker: SpaceWaker) {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// How many bytes a reader may add now; 0 = wait for space.
    pub fn free(&self) -> usize {
        let s = self.lock();
        if s.held_events >= self.limits.events { 0 } else { self.limits.bytes.saturating_sub(s.held_bytes) }
    }

    /// How many events a reader may add now.
    pub fn free_events(&self) -> usize {
        self.limits.events.saturating_sub(self.lock().held_events)
    }

    /// Takes space for a batch before it is pushed (it is being made durable first).
    pub fn reserve(&self, batch: &Batch) {
        let mut s = self.lock();
        s.held_events += batch.events.len();
        s.held_bytes += batch.weight();
    }

    /// Shows a batch to the outputs. Its space was [reserved](Queue::reserve); it has at least one event.
    pub fn push(&self, batch: Arc<Batch>) {
        debug_assert!(!batch.events.is_empty(), "a batch without events has nothing to send");
        let mut s = self.lock();
        s.waiting_events += batch.events.len();
        s.waiting.push_back(Waiting { batch, next: 0, since: Instant::now() });
        drop(s);
        self.ready.notify_waiters();
    }

    /// All events of a batch are settled: its space is free.
    pub fn release(&self, batch: &Batch) {
        let mut s = self.lock();
        let was_full = s.held_events >= self.limits.events || s.held_bytes >= self.limits.bytes;
        s.held_events = s.held_events.saturating_sub(batch.events.len());
        s.held_bytes = s.held_bytes.saturating_sub(batch.weight());
        drop(s);
        if was_full && let Some(wake) = &*self.space.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }

    /// Nothing follows for now (the drain): explicit flush settings don't hold back what is there.
    pub fn flush(&self) {
        self.lock().flush = true;
        self.ready.notify_waiters();
    }

    /// Nothing will be pushed any more: [`Queue::take`] gives out what is there, then `None`.
    pub fn close(&self) {
        let mut s = self.lock();
        s.closed = true;
        s.flush = true;
        drop(s);
        self.ready.notify_waiters();
    }

    /// What it may hold.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Events and bytes between reader and acknowledgement.
    pub fn held(&self) -> (usize, usize) {
        let s = self.lock();
        (s.held_events, s.held_bytes)
    }

    /// Events that no output has taken yet.
    pub fn waiting(&self) -> usize {
        self.lock().waiting_events
    }

    /// Waits for the next request of at most `max_events` events and about `max_bytes` bytes of text (at least one
    /// event, however long). `None`: closed and empty. Cancel safe.
    pub async fn take(self: &Arc<Self>, max_events: usize, max_bytes: usize) -> Option<Request> {
        loop {
            let notified = self.ready.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            match self.try_take(max_events.max(1), max_bytes) {
                Take::Request(request) => return Some(request),
                Take::Closed => return None,
                Take::Wait(None) => notified.await,
                Take::Wait(Some(until)) => {
                    let _ = tokio::time::timeout_at(until, notified).await;
                }
            }
        }
    }

    fn try_take(self: &Arc<Self>, max_events: usize, max_bytes: usize) -> Take {
        let mut s = self.lock();
        let Some(oldest) = s.waiting.front() else {
            return if s.closed { Take::Closed } else { Take::Wait(None) };
        };
        // More than the queue may hold can't come.
        let full = s.waiting_events >= max_events.min(self.limits.events);
        let mut part = false;
        if !full {
            match self.limits.flush {
                Some((min, timeout)) if !s.flush => {
                    let due = oldest.since + timeout;
                    // A queue that is full can't grow to `min` any more: waiting would only cost time.
                    let stuck = s.held_events >= self.limits.events || s.held_bytes >= self.limits.bytes;
                    if s.waiting_events < min && !stuck && Instant::now() < due {
                        return Take::Wait(Some(due));
                    }
                }
                _ if s.part_in_flight => return Take::Wait(None),
                _ => part = true,
            }
        }
        let slices = gather(&mut s, max_events, max_bytes);
        // Many long lines fill a request before its number of events does: then it isn't part-filled.
        part &= s.waiting.is_empty();
        s.part_in_flight |= part;
        drop(s);
        Take::Request(Request { slices, in_flight: part.then(|| Part(Arc::clone(self))) })
    }
}

fn gather(s: &mut State, max_events: usize, max_bytes: usize) -> Vec<Slice> {
    let mut slices = Vec::new();
    let (mut events, mut bytes) = (0, 0);
    while let Some(head) = s.waiting.front_mut() {
        let begin = head.next;
        for event in head.batch.events.get(begin..).unwrap_or_default() {
            let len = event.text.len();
            if events == max_events || (events > 0 && bytes + len > max_bytes) {
                break;
            }
            events += 1;
            bytes += len;
            head.next += 1;
        }
        if head.next > begin {
            slices.push(Slice { batch: Arc::clone(&head.batch), events: begin..head.next });
        }
        if head.next < head.batch.events.len() {
            break;
        }
        s.waiting.pop_front();
    }
    s.waiting_events -= events;
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_event::{BatchId, Event, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Source, Stream};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn batch(id: u64, events: usize, len: u32) -> Arc<Batch> {
        let source = Arc::new(Source {
            input: Arc::new(InputDesc::bare(InputKind::Log, "")),
            path: "/x".into(),
            key: "k".into(),
            incarnation: Incarnation(1),
            stat: FileStat::default(),
            render: OnceLock::new(),
            more: Default::default(),
        });
        let events = (0..events as u32)
            .map(|i| Event {
                text: i * len..(i + 1) * len,
                offset: u64::from(i * len),
                len,
                time_ms: 0,
                stream: Stream::None,
                flags: Flags::default(),
                overlay: None,
            })
            .collect::<Vec<_>>();
        let to = events.len() as u64 * u64::from(len);
        let data = vec![b'x'; to as usize];
        Arc::new(Batch {
            id: BatchId(id),
            source,
            from: 0,
            to,
            guard: Guard::default(),
            read_ms: 0,
            data,
            events,
            replayed: false,
        })
    }

    fn queue(flush: Option<(usize, Duration)>) -> Arc<Queue> {
        Queue::new(Limits { events: 100, bytes: 1 << 20, flush })
    }

    fn put(q: &Queue, b: &Arc<Batch>) {
        q.reserve(b);
        q.push(Arc::clone(b));
    }

    fn ranges(r: &Request) -> Vec<(u64, std::ops::Range<usize>)> {
        r.slices.iter().map(|s| (s.batch.id.0, s.events.clone())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn at_rest_a_line_goes_at_once_and_the_next_gather_until_it_is_answered() {
        let q = queue(None);
        put(&q, &batch(1, 1, 10));
        let first = q.take(10, 1000).await.unwrap();
        assert_eq!(ranges(&first), [(1, 0..1)]);
        put(&q, &batch(2, 3, 10));
        put(&q, &batch(3, 4, 10));
        let waits = tokio::time::timeout(Duration::from_secs(60), q.take(10, 1000)).await;
        assert!(waits.is_err(), "a second part-filled request went out");
        put(&q, &batch(4, 5, 10));
        let full = q.take(10, 1000).await.unwrap();
        assert_eq!(ranges(&full), [(2, 0..3), (3, 0..4), (4, 0..3)]);
        drop(first);
        let rest = q.take(10, 1000).await.unwrap();
        assert_eq!(ranges(&rest), [(4, 3..5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn explicit_flush_settings_hold() {
        let q = queue(Some((5, Duration::from_secs(3))));
        put(&q, &batch(1, 2, 10));
        let begin = Instant::now();
        assert_eq!(ranges(&q.take(10, 1000).await.unwrap()), [(1, 0..2)]);
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
        put(&q, &batch(2, 5, 10));
        assert_eq!(ranges(&q.take(10, 1000).await.unwrap()), [(2, 0..5)]);
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
        put(&q, &batch(3, 1, 10));
        q.flush();
        assert_eq!(ranges(&q.take(10, 1000).await.unwrap()), [(3, 0..1)]);
        assert_eq!(begin.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_limit_a_request_but_one_event_always_goes() {
        let q = queue(None);
        put(&q, &batch(1, 3, 100));
        assert_eq!(ranges(&q.take(10, 250).await.unwrap()), [(1, 0..2)]);
        assert_eq!(ranges(&q.take(10, 50).await.unwrap()), [(1, 2..3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn space_is_free_when_settled_and_the_reader_is_told() {
        let q = queue(None);
        let told = Arc::new(AtomicUsize::new(0));
        let t = Arc::clone(&told);
        q.on_space(Box::new(move || {
            t.fetch_add(1, Ordering::Relaxed);
        }));
        let b = batch(1, 100, 10);
        put(&q, &b);
        assert_eq!((q.free(), q.free_events()), (0, 0));
        assert_eq!((q.held(), q.limits().events), ((100, b.weight()), 100));
        q.take(200, 1 << 20).await.unwrap();
        assert_eq!(q.free(), 0, "taken isn't settled");
        q.release(&b);
        assert_eq!(q.free(), 1 << 20);
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn closed_gives_the_rest_and_then_none() {
        let q = queue(Some((50, Duration::from_secs(3600))));
        put(&q, &batch(1, 2, 10));
        q.close();
        assert_eq!(q.take(10, 1000).await.unwrap().len(), 2);
        assert!(q.take(10, 1000).await.is_none());
    }
}
