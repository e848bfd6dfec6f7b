//! The target and the output's worker: requests are taken, delivered in part, refused for now, answered or not.
//!
//! Comes in: requests from the queue. Goes out: fates for the ledger, and what has arrived. The target is an index for
//! each day: an event goes into that of its time, and an id is known there alone, as with Elasticsearch.
//!
//! Always holds: the worker settles only what the target has answered for, as the real outputs promise; "there already"
//! is a success only for what may have been sent before.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pillion_event::{Drop, DropKind, Event, Fate, InputKind, Slice};
use pillion_queue::{AckSink, Fates, Queue, Request};

use crate::run::Defect;
use crate::world::SimWorld;

/// Most requests in flight.
const WORKERS: usize = 2;
const DAY_MS: i64 = 86_400_000;

/// What has arrived; it outlives the process.
#[derive(Default)]
pub(crate) struct Target {
    /// By day and id, with `exactly_once`.
    docs: BTreeMap<(i64, String), String>,
    /// How often each line is stored.
    pub lines: BTreeMap<String, u32>,
    /// How often of it by a filestream; the others are by `log` inputs, which have registry keys of their own.
    pub by_filestream: BTreeMap<String, u32>,
    pub arrived: u64,
    pub duplicates: u64,
    /// A promise that was broken on the way.
    pub broken: Option<String>,
    /// Lines that were settled as refused.
    pub refused: BTreeSet<String>,
}

/// One request in flight: its events that aren't settled, each with whether it may have been sent.
struct Flight {
    slices: Vec<(Slice, Vec<(usize, bool)>)>,
    _request: Request,
}

/// How an attempt to send a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Everything arrives and is answered.
    Answered,
    /// Everything arrives; the answer doesn't.
    Unanswered,
    /// Anything may happen.
    Random,
}

/// The output of one process.
#[derive(Default)]
pub(crate) struct Worker {
    flights: Vec<Flight>,
}

/// What a worker works with.
pub(crate) struct Way<'a> {
    pub queue: &'a Arc<Queue>,
    pub acks: &'a dyn AckSink,
    pub target: &'a mut Target,
    pub exactly_once: bool,
    pub defect: Option<Defect>,
}

impl Worker {
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Takes a request, or moves one on. False: there was nothing to do.
    pub(crate) fn step(&mut self, sim: &SimWorld, way: &mut Way<'_>, attempt: Attempt) -> bool {
        let wants = self.flights.is_empty() || (attempt == Attempt::Random && sim.below(2) == 0);
        if wants && self.flights.len() < WORKERS && self.take(sim, way) {
            return true;
        }
        let at = sim.below(self.flights.len() as u64) as usize;
        let Some(flight) = self.flights.get_mut(at) else { return false };
        way.deliver(sim, flight, attempt);
        if flight.slices.iter().all(|(_, left)| left.is_empty()) {
            self.flights.swap_remove(at);
        }
        true
    }

    fn take(&mut self, sim: &SimWorld, way: &mut Way<'_>) -> bool {
        let Some(request) = poll_take(way.queue, 1 + sim.below(12) as usize) else { return false };
        if way.defect == Some(Defect::CommitBeforeAck) {
            for slice in &request.slices {
                way.acks.settled(slice, Fates::All(Fate::Acked));
            }
        }
        let slices = request.slices.iter().map(|s| (s.clone(), s.events.clone().map(|i| (i, false)).collect()));
        self.flights.push(Flight { slices: slices.collect(), _request: request });
        true
    }
}

impl Way<'_> {
    /// One attempt: each event arrives or is put off; then the answer comes, or the connection breaks.
    fn deliver(&mut self, sim: &SimWorld, flight: &mut Flight, attempt: Attempt) {
        let random = attempt == Attempt::Random;
        let answered = if random { sim.below(4) != 0 } else { attempt == Attempt::Answered };
        let cut = if random && sim.below(3) == 0 { sim.below(20) } else { u64::MAX };
        let mut done = 0;
        for (slice, left) in &mut flight.slices {
            let mut fates = Vec::new();
            let batch = Arc::clone(&slice.batch);
            for (index, sent) in left.iter_mut() {
                done += 1;
                let Some(event) = batch.events.get(*index).filter(|_| done <= cut) else { continue };
                if random && sim.below(10) == 0 {
                    continue; // put off: a 429
                }
                let before = std::mem::replace(sent, true);
                let fate = self.store(slice, event, before);
                sim.note(|| {
                    format!("target: batch {} event {index}: {fate:?} {}", batch.id.0, first_words(&batch, event))
                });
                fates.push((*index, fate));
            }
            if answered {
                left.retain(|(index, _)| !fates.iter().any(|(i, _)| i == index));
                self.settle(&batch, fates);
            }
        }
        sim.note(|| format!("target: attempt ends, answered: {answered}"));
    }

    fn settle(&self, batch: &Arc<pillion_event::Batch>, fates: Vec<(usize, Fate)>) {
        if self.defect == Some(Defect::CommitBeforeAck) {
            return; // they were settled when they were taken
        }
        for (index, fate) in fates {
            let one = Slice { batch: Arc::clone(batch), events: index..index + 1 };
            self.acks.settled(&one, Fates::All(fate));
        }
    }

    fn store(&mut self, slice: &Slice, event: &Event, sent_before: bool) -> Fate {
        let text = String::from_utf8_lossy(slice.batch.text(event)).into_owned();
        let target = &mut *self.target;
        target.arrived += 1;
        if self.exactly_once {
            let id = (event.time_ms.div_euclid(DAY_MS), slice.batch.event_id(event).to_string());
            if let Some(there) = target.docs.get(&id) {
                target.duplicates += 1;
                let believes = sent_before || slice.batch.replayed || self.defect == Some(Defect::BelievedConflict);
                if !believes {
                    target.refused.extend(text.split('\n').map(str::to_owned));
                    return Fate::Dropped(Drop { kind: DropKind::IdTaken, type_name: String::new(), field: None });
                }
                if *there != text && target.broken.is_none() {
                    target.broken = Some(format!("id {id:?} was believed for `{text}`, but it holds `{there}`"));
                }
                return Fate::Duplicate;
            }
            target.docs.insert(id, text.clone());
        }
        for line in text.split('\n') {
            *target.lines.entry(line.to_owned()).or_default() += 1;
            if slice.batch.source.input.kind == InputKind::Filestream {
                *target.by_filestream.entry(line.to_owned()).or_default() += 1;
            }
        }
        Fate::Acked
    }
}

fn first_words(batch: &pillion_event::Batch, event: &Event) -> String {
    String::from_utf8_lossy(batch.text(event)).trim_start().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What the queue gives now, without waiting.
fn poll_take(queue: &Arc<Queue>, max_events: usize) -> Option<Request> {
    let taking = std::pin::pin!(queue.take(max_events, usize::MAX));
    match taking.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(request) => request,
        Poll::Pending => None,
    }
}
