//! What all outputs have in common: where their work comes from, and whom they tell what became of it.
//!
//! Always holds: see [`Requests::take`] and [`AckSink::settled`], the two promises that queue and outputs make each
//! other. Tested by each output's own tests, which stand on both sides.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pillion_event::{Fate, Slice};
use pillion_world::World;

/// Some events to be sent together.
#[derive(Default)]
pub struct Request {
    /// The events, in the order of their reading for each source; none of the slices is empty.
    pub slices: Vec<Slice>,
    /// Dropped when the request is answered or given up: the queue's way of knowing that it is no longer in flight.
    pub in_flight: Option<Box<dyn Any + Send + Sync>>,
}

impl Request {
    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.slices.iter().map(Slice::len).sum()
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.slices.iter().all(Slice::is_empty)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("slices", &self.slices).finish_non_exhaustive()
    }
}

/// What [`Requests::take`] gives: wait on it.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Option<Request>> + Send + 'a>>;

/// Where an output's workers take their work from; shared by all workers of the output.
pub trait Requests: Send + Sync {
    /// Waits for events and takes at most `max_events` (at least one) of them: a full request, or a part-filled one
    /// when no other part-filled request of this output is in flight. `None`: closed, and nothing is left to take; it
    /// stays so. A future that is dropped before it is ready has taken nothing.
    fn take(&self, max_events: usize) -> Taking<'_>;
}

/// Whom outputs tell what became of events.
pub trait AckSink: Send + Sync {
    /// The events of this slice are settled. The slice may be a part of one that was taken; each event of every taken
    /// slice is settled exactly once, in any order. Called from the output's task: must not block.
    fn settled(&self, slice: &Slice, fates: Fates);
}

/// What became of the events of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fates {
    /// The same for all.
    All(Fate),
    /// These events (index into the batch's `events`, ascending, within the slice), and what became of all others.
    Each(Vec<(usize, Fate)>, Fate),
}

impl Fates {
    /// What became of the event at this index of the batch.
    pub fn of(&self, index: usize) -> &Fate {
        match self {
            Fates::All(fate) => fate,
            Fates::Each(some, rest) => {
                some.binary_search_by_key(&index, |(i, _)| *i).map_or(rest, |at| some.get(at).map_or(rest, |(_, f)| f))
            }
        }
    }
}

/// Who sends: what events say of the shipper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The version that events carry (`pillion.agent_version`, else that of the dialect), such as `8.19.3`.
    pub version: String,
    /// The setting `name`, else the host name.
    pub name: String,
    /// The host name.
    pub hostname: String,
    /// The lasting id, a UUID (`meta.json`).
    pub id: String,
    /// The id of this run, a UUID.
    pub ephemeral_id: String,
}

/// What each output is given beside its own settings. Cheap to clone.
#[derive(Clone)]
pub struct OutputContext {
    /// The clock, the files and the randomness.
    pub world: World,
    /// Who sends.
    pub agent: Arc<Agent>,
    /// Whether events carry their id, and "exists already" is believed for what may have been sent before.
    pub exactly_once: bool,
    /// The folder for what outlives the process (`path.data`).
    pub data_path: PathBuf,
    /// What the output counts.
    pub stats: Arc<Stats>,
}

/// What an output counts since the start; only ever growing.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests sent, each resend counted.
    pub requests: Counter,
    /// Bytes written to targets, after compression, without headers.
    pub bytes: Counter,
    /// Events the target has acknowledged.
    pub acked: Counter,
    /// Events the target had already under their id.
    pub duplicates: Counter,
    /// Events refused for good that a dead-letter index or file has.
    pub dead_lettered: Counter,
    /// Events refused for good that go nowhere.
    pub dropped: Counter,
    /// Events sent again, each time counted.
    pub retried: Counter,
    /// Requests that failed as a whole: no connection, no answer, or a refusal of all.
    pub failed: Counter,
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use pillion_event::Fate;

    use super::Fates;

    #[test]
    fn the_fate_of_an_event_is_its_own_or_that_of_the_rest() {
        let fates = Fates::Each(vec![(3, Fate::Duplicate)], Fate::Acked);
        assert_eq!(*fates.of(3), Fate::Duplicate);
        assert_eq!(*fates.of(2), Fate::Acked);
        assert_eq!(*fates.of(4), Fate::Acked);
    }
}
