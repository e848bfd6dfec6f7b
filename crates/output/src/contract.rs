//! What all outputs have in common: where their work comes from, and whom they tell what became of it.
//!
//! Always holds: see [`Requests::take`] and [`pillion_queue::AckSink::settled`], the two promises that queue and outputs
//! make each other. Tested by each output's own tests, which stand on both sides.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pillion_queue::{Queue, Request};
use pillion_world::World;

use crate::hurry::Hurry;

/// What [`Requests::take`] gives: wait on it.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Option<Request>> + Send + 'a>>;

/// Where an output's workers take their work from; shared by all workers of the output.
pub trait Requests: Send + Sync {
    /// Waits for events and takes at most `max_events` (at least one) of them: a full request, or a part-filled one
    /// when no other part-filled request of this output is in flight. `None`: closed, and nothing is left to take; it
    /// stays so. A future that is dropped before it is ready has taken nothing.
    fn take(&self, max_events: usize) -> Taking<'_>;
}

impl Requests for Arc<Queue> {
    fn take(&self, max_events: usize) -> Taking<'_> {
        // Outputs bound a request's bytes by themselves, after rendering.
        Box::pin(Queue::take(self, max_events, usize::MAX))
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
    /// Told when the end of the run has begun: pauses between attempts are short then.
    pub hurry: Arc<Hurry>,
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
    last_error: Mutex<Option<String>>,
}

impl Stats {
    /// Notes why the target can't be reached or refuses, for the receipt; no values, credentials or headers in it.
    pub fn fails_with(&self, why: &dyn fmt::Display) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    /// The target works again.
    pub fn works(&self) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the target couldn't be used last, while it can't.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
