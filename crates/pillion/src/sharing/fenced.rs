//! What outputs send while files are shared: nothing while the fence has lapsed, and nothing that another replica ships by
//! now, neither for the first time nor again.
//!
//! Comes in: requests of the queue. Goes out: the same, without what was handed over; and whether what a worker has may be
//! tried again. Always holds: what was taken from the
//! queue is given out or settled, also when whoever waits for it goes away. Tested below.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use pillion_engine::ledger::Ledger;
use pillion_event::{Fate, Slice};
use pillion_output::{AckSink, Fates, Gate, Requests, Taking};
use pillion_queue::{Queue, Request};

use super::ours::Ours;

/// See the module.
pub(crate) struct Fenced {
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    ours: Arc<Ours>,
    /// Taken while the fence lapsed: one for each worker at most.
    kept: Mutex<VecDeque<Request>>,
}

impl Fenced {
    pub(crate) fn new(queue: &Arc<Queue>, ledger: &Arc<Ledger>, ours: &Arc<Ours>) -> Fenced {
        Fenced { queue: Arc::clone(queue), ledger: Arc::clone(ledger), ours: Arc::clone(ours), kept: Mutex::default() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Request>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests for Fenced {
    fn take(&self, max_events: usize) -> Taking<'_> {
        Box::pin(async move {
            loop {
                self.ours.held().await;
                let kept = self.kept().pop_front();
                let mut request = match kept {
                    Some(kept) => kept,
                    None => Queue::take(&self.queue, max_events, usize::MAX).await?,
                };
                if !self.ours.holds() {
                    // Nobody waits between the taking and here: nothing is lost with a future that is dropped.
                    self.kept().push_back(request);
                    continue;
                }
                self.ledger.without_handed_over(&mut request);
                if !request.is_empty() {
                    return Some(request);
                }
            }
        })
    }

    fn gate(&self) -> Option<&dyn Gate> {
        Some(self)
    }
}

impl Gate for Fenced {
    fn is_open(&self) -> bool {
        self.ours.holds()
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.ours.moved())
    }

    fn is_gone(&self, slice: &Slice) -> bool {
        self.ledger.is_handed_over(slice)
    }

    fn forget(&self, slice: &Slice) {
        // What is said of it counts for nothing.
        self.ledger.settled(slice, Fates::All(Fate::Acked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::task::{Context, Poll, Waker};

    use pillion_event::{
        Batch, BatchId, Event, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Source, Stream,
    };
    use pillion_queue::Limits;
    use pillion_registry::{Options, Registry};
    use pillion_shards::Fence;
    use pillion_world::{Clock, Mono, UnixMillis, World};

    /// A clock that a test sets.
    struct Set(Arc<AtomicU64>);

    impl Clock for Set {
        fn mono(&self) -> Mono {
            Mono(self.0.load(Ordering::SeqCst))
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(0)
        }
    }

    struct Rig {
        _dir: tempfile::TempDir,
        now: Arc<AtomicU64>,
        fence: Fence,
        ours: Arc<Ours>,
        ledger: Arc<Ledger>,
        fenced: Fenced,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(0));
        let world = World { clock: Arc::new(Set(Arc::clone(&now))), ..World::real() };
        let (registry, _) = Registry::open(&world, &dir.path().join("data"), &Options::default()).unwrap();
        let queue = Queue::new(Limits { events: 100, bytes: 1 << 20, flush: None });
        let ledger = Ledger::new(Arc::clone(&queue), Arc::new(registry), false);
        let fence = Fence::default();
        let ours = Ours::new(&world, Path::new("/logs"), "me", 4, Some(fence.clone()));
        let fenced = Fenced::new(&queue, &ledger, &ours);
        Rig { _dir: dir, now, fence, ours, ledger, fenced }
    }

    fn batch(id: u64, path: &str) -> Batch {
        let source = Arc::new(Source {
            input: Arc::new(InputDesc::bare(InputKind::Log, "")),
            path: path.into(),
            key: path.into(),
            incarnation: Incarnation(u128::from(id)),
            stat: FileStat::default(),
            render: OnceLock::new(),
            more: AtomicBool::new(false),
        });
        let (stream, flags) = (Stream::None, Flags::default());
        let event = Event { text: 0..1, offset: 0, len: 1, time_ms: 0, stream, flags, overlay: None };
        let (data, events) = (vec![b'x'], vec![event]);
        Batch {
            id: BatchId(id),
            source,
            from: 0,
            to: 1,
            guard: Guard::default(),
            read_ms: 0,
            data,
            events,
            replayed: false,
        }
    }

    /// The ids of what is given out now; `None`: nothing yet.
    fn taken(taking: &mut Taking<'_>) -> Option<Vec<u64>> {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(request) => {
                Some(request.iter().flat_map(|r| &r.slices).map(|slice| slice.batch.id.0).collect())
            }
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn nothing_is_given_out_while_the_fence_has_lapsed_and_nothing_is_lost() {
        let rig = rig();
        rig.ledger.accept(batch(1, "/logs/a"));
        let mut taking = pin!(rig.fenced.take(10));
        assert_eq!(taken(&mut taking), None, "it never held");
        rig.fence.extend(Mono(100));
        rig.ours.wake();
        assert_eq!(taken(&mut taking), Some(vec![1]));
        // One waits for an event while the fence lapses, then goes away.
        let mut waits = rig.fenced.take(10);
        assert_eq!(taken(&mut waits), None);
        rig.now.store(100, Ordering::SeqCst);
        rig.ledger.accept(batch(2, "/logs/a"));
        assert_eq!(taken(&mut waits), None);
        drop(waits);
        rig.fence.extend(Mono(200));
        assert_eq!(taken(&mut rig.fenced.take(10)), Some(vec![2]));
    }

    #[tokio::test]
    async fn what_another_replica_ships_is_not_given_out() {
        let rig = rig();
        rig.fence.extend(Mono(100));
        for (id, path) in [(1, "/logs/theirs"), (2, "/logs/ours"), (3, "/logs/theirs")] {
            rig.ledger.accept(batch(id, path));
        }
        assert_eq!(rig.ledger.hand_over(&|path| path.ends_with("theirs")), 2);
        assert_eq!(taken(&mut rig.fenced.take(10)), Some(vec![2]));
        assert_eq!(rig.ledger.totals().handed_over, 2);
        assert!(!rig.ledger.is_settled());
    }

    #[tokio::test]
    async fn what_a_worker_has_waits_for_the_fence_or_for_another_replica_to_take_it() {
        let rig = rig();
        rig.fence.extend(Mono(100));
        rig.ledger.accept(batch(1, "/logs/theirs"));
        rig.ledger.accept(batch(2, "/logs/ours"));
        let request = rig.fenced.take(10).await.unwrap();
        let gate = rig.fenced.gate().unwrap();
        assert!(gate.is_open() && !request.slices.iter().any(|slice| gate.is_gone(slice)));
        rig.now.store(100, Ordering::SeqCst);
        assert!(!gate.is_open());
        let mut changed = gate.changed();
        let mut poll = || changed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll(), Poll::Pending);
        assert_eq!(rig.ledger.hand_over(&|path| path.ends_with("theirs")), 1);
        rig.ours.wake();
        assert_eq!(poll(), Poll::Ready(()));
        let gone: Vec<bool> = request.slices.iter().map(|slice| gate.is_gone(slice)).collect();
        assert_eq!(gone, [true, false]);
        gate.forget(&request.slices[0]);
        assert!(!gate.is_gone(&request.slices[0]), "the books are done with it");
        gate.forget(&request.slices[1]);
        let totals = rig.ledger.totals();
        assert_eq!((totals.handed_over, totals.acked, rig.ledger.is_settled()), (1, 1, true));
    }
}
