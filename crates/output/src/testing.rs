//! What the outputs' tests have in common: work from a list, and books of what was settled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use pillion_event::{Batch, Fate, InputKind, Slice};
use pillion_queue::{AckSink, Fates, Request};
use pillion_world::World;

use crate::contract::{OutputContext, Requests, Taking};
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
