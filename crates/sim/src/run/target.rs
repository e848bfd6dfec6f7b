//! The target and the output's worker: requests are taken, delivered in part, refused for now, answered or not.
//!
//! Always holds: the worker settles only what the target has answered for, as the real outputs promise; "there already"
//! is a success only for what may have been sent before.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pillion_event::{Drop, DropKind, Event, Fate, Slice};
use pillion_queue::{AckSink, Fates, Queue, Request};

use crate::run::Defect;
use crate::world::SimWorld;

/// Most requests in flight.
const WORKERS: usize = 2;

/// What has arrived; it outlives the process.
#[derive(Default)]
pub(crate) struct Target {
    /// By id, with `exactly_once`.
    docs: BTreeMap<String, String>,
    /// How often each text is stored.
    pub texts: BTreeMap<String, u32>,
    pub arrived: u64,
    pub duplicates: u64,
    /// A promise that was broken on the way.
    pub broken: Option<String>,
    /// Texts that were settled as refused.
    pub refused: BTreeSet<String>,
}

enum Stored {
    New,
    There,
}

impl Target {
    fn store(&mut self, id: Option<String>, text: String) -> Stored {
        self.arrived += 1;
        if let Some(id) = id {
            if self.docs.contains_key(&id) {
                self.duplicates += 1;
                return Stored::There;
            }
            self.docs.insert(id, text.clone());
        }
        *self.texts.entry(text).or_default() += 1;
        Stored::New
    }
}

/// One request in flight: its events that aren't settled, each with whether it may have been sent.
struct Flight {
    slices: Vec<(Slice, Vec<(usize, bool)>)>,
    _request: Request,
}

/// The output of one process.
#[derive(Default)]
pub(crate) struct Worker {
    flights: Vec<Flight>,
}

impl Worker {
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes a request, or moves one on.
    pub(crate) fn step(&mut self, sim: &SimWorld, way: &mut Way<'_>) {
        let takes = self.flights.len() < WORKERS && (self.flights.is_empty() || sim.below(2) == 0);
        if takes && let Some(request) = take(way.queue, 1 + sim.below(12) as usize) {
            if way.defect == Some(Defect::CommitBeforeAck) {
                for slice in &request.slices {
                    way.acks.settled(slice, Fates::All(Fate::Acked));
                }
            }
            let slices = request.slices.iter().map(|s| (s.clone(), s.events.clone().map(|i| (i, false)).collect()));
            self.flights.push(Flight { slices: slices.collect(), _request: request });
            return;
        }
        if !self.flights.is_empty() {
            let at = sim.below(self.flights.len() as u64) as usize;
            if let Some(flight) = self.flights.get_mut(at) {
                way.deliver(sim, flight);
                if flight.slices.iter().all(|(_, left)| left.is_empty()) {
                    self.flights.swap_remove(at);
                }
            }
        }
    }
}

/// What a worker works with.
pub(crate) struct Way<'a> {
    pub queue: &'a Arc<Queue>,
    pub acks: &'a dyn AckSink,
    pub target: &'a mut Target,
    pub exactly_once: bool,
    pub defect: Option<Defect>,
}

impl Way<'_> {
    /// One attempt: each event arrives or is put off; then the answer comes, or the connection breaks.
    fn deliver(&mut self, sim: &SimWorld, flight: &mut Flight) {
        let answered = sim.below(4) != 0;
        let cut = if sim.below(3) == 0 { sim.below(20) } else { u64::MAX };
        let mut done = 0;
        for (slice, left) in &mut flight.slices {
            let mut fates = Vec::new();
            let batch = Arc::clone(&slice.batch);
            for (index, sent) in left.iter_mut() {
                done += 1;
                let Some(event) = batch.events.get(*index).filter(|_| done <= cut) else { continue };
                if sim.below(10) == 0 {
                    continue; // put off: a 429
                }
                let before = std::mem::replace(sent, true);
                let fate = self.store(slice, event, before);
                fates.push((*index, fate));
            }
            if answered {
                left.retain(|(index, _)| !fates.iter().any(|(i, _)| i == index));
                if self.defect != Some(Defect::CommitBeforeAck) {
                    for (index, fate) in fates {
                        let one = Slice { batch: Arc::clone(&batch), events: index..index + 1 };
                        self.acks.settled(&one, Fates::All(fate));
                    }
                }
            }
        }
    }

    fn store(&mut self, slice: &Slice, event: &Event, sent_before: bool) -> Fate {
        let text = String::from_utf8_lossy(slice.batch.text(event)).into_owned();
        let id = self.exactly_once.then(|| slice.batch.event_id(event).to_string());
        let there = id.as_ref().and_then(|id| self.target.docs.get(id)).cloned();
        let believes = sent_before || slice.batch.replayed || self.defect == Some(Defect::BelievedConflict);
        match self.target.store(id.clone(), text.clone()) {
            Stored::New => Fate::Acked,
            Stored::There if believes => {
                if there.as_ref() != Some(&text) && self.target.broken.is_none() {
                    self.target.broken = Some(format!("id {id:?} was believed for `{text}`, but it holds {there:?}"));
                }
                Fate::Duplicate
            }
            Stored::There => {
                self.target.refused.insert(text);
                Fate::Dropped(Drop { kind: DropKind::IdTaken, type_name: String::new(), field: None })
            }
        }
    }
}

/// What the queue gives now, without waiting.
fn take(queue: &Arc<Queue>, max_events: usize) -> Option<Request> {
    let taking = std::pin::pin!(queue.take(max_events, usize::MAX));
    match taking.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(request) => request,
        Poll::Pending => None,
    }
}
