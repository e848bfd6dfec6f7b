//! What arrived at an endpoint.
//!
//! Comes in: events as JSON, with their document id when they have one. Goes out: counts, and waiting for them.
//! Always holds: with [`Depth::Lines`] each event's `message` is known; an event whose document id was there before is
//! counted apart and not stored, as a search server does it.

use std::collections::{HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;

/// How closely events are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only counted: cheap enough for a benchmark.
    Count,
    /// Each message is kept.
    Lines,
    /// Each event is shown to somebody, and only counted here.
    Shown,
}

/// Who is shown each event, as JSON, before it is acknowledged. It may take its time: so does the endpoint then.
pub(crate) type Show = Box<dyn Fn(&[u8]) + Send + Sync>;

/// The counts, shared between the connections of an endpoint.
pub(crate) struct Tally {
    depth: Depth,
    show: Option<Show>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: u64,
    refused: u64,
    lines: HashMap<String, usize>,
    stored: Vec<Value>,
    ids: HashSet<String>,
    last: Option<Instant>,
}

/// A new event, or one whose document id is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    Known,
}

impl Tally {
    pub(super) fn new(depth: Depth) -> Tally {
        Tally { depth, show: None, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn shown(show: Show) -> Tally {
        Tally { show: Some(show), ..Tally::new(Depth::Shown) }
    }

    /// Shows an event to who wants to see it.
    pub(super) fn show(&self, event: &[u8]) {
        if let Some(show) = &self.show {
            show(event);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether events must be given to [`Tally::add`] one by one.
    pub(super) fn looks_inside(&self) -> bool {
        self.depth == Depth::Lines
    }

    /// Counts events that nobody looks into.
    pub(super) fn add_unseen(&self, events: u64) {
        self.state().events += events;
    }

    /// Stores one event; `action` is what `_bulk` said about it.
    pub(super) fn add(&self, event: &[u8], action: Option<&Value>) -> Result<Fate, serde_json::Error> {
        let mut event: Value = serde_json::from_slice(event)?;
        let mut state = self.state();
        let id = action.map_or(&event["@metadata"]["_id"], |action| &action["_id"]).as_str();
        if let Some(id) = id
            && !state.ids.insert(id.to_owned())
        {
            state.refused += 1;
            return Ok(Fate::Known);
        }
        state.events += 1;
        let line = event["message"].as_str().unwrap_or_default().to_owned();
        if let Some(action) = action {
            event["action"] = action.clone();
        }
        state.stored.push(event);
        *state.lines.entry(line).or_default() += 1;
        Ok(Fate::Stored)
    }

    /// An acknowledgement has gone out: whoever waits looks again.
    pub(super) fn acknowledged(&self) {
        self.state().last = Some(Instant::now());
        self.changed.notify_all();
    }

    /// Waits until at least this many events are stored and acknowledged.
    pub(crate) fn wait_for(&self, events: u64, limit: Duration) -> Outcome<Instant> {
        let enough = |s: &mut State| s.events < events || s.last.is_none();
        let (state, _) =
            self.changed.wait_timeout_while(self.state(), limit, enough).unwrap_or_else(PoisonError::into_inner);
        match state.last {
            Some(at) if state.events >= events => Ok(at),
            _ => Err(format!("{} of {events} events after {:.0} s", state.events, limit.as_secs_f64())),
        }
    }

    /// Events stored.
    pub(crate) fn events(&self) -> u64 {
        self.state().events
    }

    /// Events not stored again since their document id was there.
    pub(crate) fn refused(&self) -> u64 {
        self.state().refused
    }

    /// The events stored, with what `_bulk` said as their field `action`.
    pub(crate) fn stored(&self) -> Vec<Value> {
        self.state().stored.clone()
    }

    /// How often each line is stored, by message.
    pub(crate) fn lines(&self) -> HashMap<String, usize> {
        self.state().lines.clone()
    }
}
