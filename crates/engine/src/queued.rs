//! What lies in the disk queue: no reader waits for it any more, and the target hasn't decided about it.
//!
//! Comes in: batches as they are stored and as they are settled, and what an earlier run left. Goes out: which parts of
//! which files the target doesn't have yet, for drain and receipt. Always holds: it takes memory for each file of which
//! something is queued, not for each batch. Tested with `ack.rs` and by the simulation.

use std::collections::HashMap;
use std::sync::Arc;

use pillion_event::{Incarnation, Source};

use crate::ack::Unacked;

/// What of one content is queued. Batches leave in the order in which they came.
struct Part {
    path: Arc<str>,
    from: u64,
    to: u64,
    events: u64,
}

/// See the module's header.
#[derive(Default)]
pub(crate) struct Queued {
    parts: HashMap<Incarnation, Part>,
    /// Events whose files aren't known: the queue's files are damaged.
    nameless: u64,
}

impl Queued {
    /// `events` of `from..to` are stored.
    pub(crate) fn enter(&mut self, source: &Source, (from, to): (u64, u64), events: u64) {
        let part = self.parts.entry(source.incarnation).or_insert_with(|| Part {
            path: Arc::clone(&source.path),
            from,
            to,
            events: 0,
        });
        part.to = part.to.max(to);
        part.events += events;
    }

    /// Events are stored of which nobody knows whose they are.
    pub(crate) fn enter_nameless(&mut self, events: u64) {
        self.nameless += events;
    }

    /// `events` of a batch that ends at `to` are decided about, all of them.
    pub(crate) fn leave(&mut self, source: &Source, to: u64, events: u64) {
        let Some(part) = self.parts.get_mut(&source.incarnation) else { return };
        part.from = part.from.max(to);
        part.events = part.events.saturating_sub(events);
        if part.events == 0 {
            self.parts.remove(&source.incarnation);
        }
    }

    /// Events of which nobody knows whose they were can't be had any more.
    pub(crate) fn leave_nameless(&mut self, events: u64) {
        self.nameless = self.nameless.saturating_sub(events);
    }

    /// The queue is empty: what was damaged while it lay there may have left it without a name.
    pub(crate) fn clear(&mut self) {
        *self = Queued::default();
    }

    /// Whether something of this content may be queued.
    pub(crate) fn may_have(&self, life: Incarnation) -> bool {
        self.nameless > 0 || self.parts.contains_key(&life)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.nameless == 0
    }

    /// How many events.
    pub(crate) fn events(&self) -> u64 {
        self.nameless + self.parts.values().map(|part| part.events).sum::<u64>()
    }

    /// What isn't acknowledged, in no order.
    pub(crate) fn unacked(&self) -> impl Iterator<Item = Unacked> {
        self.parts.iter().map(|(incarnation, part)| Unacked {
            path: Arc::clone(&part.path),
            incarnation: *incarnation,
            from: part.from,
            to: part.to,
            events: part.events,
            queued: true,
        })
    }
}
