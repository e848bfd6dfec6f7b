//! What the outputs' tests have in common: work from a list, and books of what was settled.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pillion_event::{Batch, Fate, InputKind, Slice};
use pillion_queue::{AckSink, Fates, Request};
use pillion_world::World;
use tokio::sync::Notify;

use crate::contract::{Gate, OutputContext, Requests, Stats, Taking};
use crate::render::tests::{agent, batch, input};

/// A context on the real world.
pub(crate) fn context() -> OutputContext {
    OutputContext {
        world: World::real(),
        agent: agent("8.19.3"),
        exactly_once: false,
        shared: false,
        data_path: "/nowhere".into(),
        stats: Arc::default(),
        hurry: Arc::default(),
    }
}

/// A batch of the lines `line 0`, `line 1`, …
pub(crate) fn lines(n: usize) -> Arc<Batch> {
    let texts: Vec<String> = (0..n).map(|i| format!("line {i}")).collect();
    let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    Arc::new(batch(input(InputKind::Log), 0, &texts))
}

/// Requests out of one batch.
pub(crate) struct List(Mutex<VecDeque<Slice>>);

impl List {
    pub(crate) fn of(batch: Arc<Batch>) -> Arc<List> {
        let events = 0..batch.events.len();
        let slices = (!events.is_empty()).then_some(Slice { batch, events });
        Arc::new(List(Mutex::new(slices.into_iter().collect())))
    }
}

impl Requests for List {
    fn take(&self, max_events: usize) -> Taking<'_> {
        // Only when it is polled: a future that is dropped before has taken nothing.
        Box::pin(async move {
            let mut slices = self.0.lock().unwrap();
            let slice = slices.pop_front()?;
            let (begin, end) = (slice.events.start, slice.events.end);
            let cut = end.min(begin + max_events);
            if cut < end {
                slices.push_front(Slice { batch: Arc::clone(&slice.batch), events: cut..end });
            }
            Some(Request { slices: vec![Slice { batch: slice.batch, events: begin..cut }], in_flight: None })
        })
    }
}

/// Requests of a list, behind a gate that is the test's.
pub(crate) struct Gated {
    list: Arc<List>,
    open: AtomicBool,
    gone: Mutex<Range<usize>>,
    forgotten: AtomicUsize,
    changed: Notify,
}

impl Gated {
    /// Open.
    pub(crate) fn of(batch: Arc<Batch>) -> Arc<Gated> {
        let (open, gone, forgotten) = (AtomicBool::new(true), Mutex::new(0..0), AtomicUsize::new(0));
        Arc::new(Gated { list: List::of(batch), open, gone, forgotten, changed: Notify::new() })
    }

    pub(crate) fn open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Somebody else sends these events.
    pub(crate) fn take_away(&self, events: Range<usize>) {
        *self.gone.lock().unwrap() = events;
        self.changed.notify_waiters();
    }

    /// How many events were forgotten.
    pub(crate) fn forgotten(&self) -> usize {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Waits until an output that runs is where `then` says, and closes the gate for two hours: nothing may be sent in that
    /// time. In the middle of it `gone` is taken away.
    pub(crate) async fn closes(&self, stats: &Stats, then: impl Fn(&Stats) -> bool, gone: Range<usize>) {
        let hour = Duration::from_secs(3600);
        while !then(stats) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.open(false);
        let before = stats.requests.get();
        tokio::time::sleep(hour).await;
        self.take_away(gone.clone());
        tokio::time::sleep(hour).await;
        assert_eq!((stats.requests.get(), self.forgotten()), (before, gone.len()));
        self.open(true);
    }
}

impl Requests for Gated {
    fn take(&self, max_events: usize) -> Taking<'_> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                if self.is_open() {
                    return self.list.take(max_events).await;
                }
                changed.await;
            }
        })
    }

    fn gate(&self) -> Option<&dyn Gate> {
        Some(self)
    }
}

impl Gate for Gated {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.changed.notified())
    }

    fn is_gone(&self, slice: &Slice) -> bool {
        let gone = self.gone.lock().unwrap();
        gone.start <= slice.events.start && slice.events.end <= gone.end
    }

    fn forget(&self, slice: &Slice) {
        self.forgotten.fetch_add(slice.len(), Ordering::SeqCst);
    }
}

/// What was settled, by the event's index in its batch; settling an event twice fails the test.
#[derive(Default)]
pub(crate) struct Books(Mutex<BTreeMap<usize, Fate>>);

impl Books {
    pub(crate) fn acked(&self) -> usize {
        self.0.lock().unwrap().values().filter(|fate| **fate == Fate::Acked).count()
    }

    /// The fates in the order of the events.
    pub(crate) fn all(&self) -> Vec<Fate> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn dropped(&self) -> Vec<usize> {
        let books = self.0.lock().unwrap();
        books.iter().filter(|(_, fate)| matches!(fate, Fate::Dropped(_))).map(|(at, _)| *at).collect()
    }
}

impl AckSink for Books {
    fn settled(&self, slice: &Slice, fates: Fates) {
        let mut books = self.0.lock().unwrap();
        for at in slice.events.clone() {
            assert!(books.insert(at, fates.of(at).clone()).is_none(), "event {at} was settled twice");
        }
    }
}
