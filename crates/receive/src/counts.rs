//! What has arrived: counters that only grow.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What a listener has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events taken: written to the sink and acknowledged, or about to be.
    pub events: u64,
    /// Bytes of their JSON.
    pub bytes: u64,
    /// Windows and `_bulk` requests that held them.
    pub batches: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Events whose id was there before: not written again.
    pub duplicates: u64,
    /// Events refused on request (`--reject-every`).
    pub rejected: u64,
    /// Events that aren't JSON; not written.
    pub malformed: u64,
    /// Requests and connections that broke a protocol or a limit.
    pub errors: u64,
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, o: Counts) -> Counts {
        Counts {
            events: self.events + o.events,
            bytes: self.bytes + o.bytes,
            batches: self.batches + o.batches,
            connections: self.connections + o.connections,
            duplicates: self.duplicates + o.duplicates,
            rejected: self.rejected + o.rejected,
            malformed: self.malformed + o.malformed,
            errors: self.errors + o.errors,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events, {} bytes, {} batches, {} connections", self.events, self.bytes, self.batches, {
            self.connections
        })?;
        for (n, name) in [
            (self.duplicates, "duplicates"),
            (self.rejected, "rejected"),
            (self.malformed, "malformed"),
            (self.errors, "errors"),
        ] {
            if n > 0 {
                write!(f, ", {n} {name}")?;
            }
        }
        Ok(())
    }
}

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    events: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    connections: AtomicU64,
    duplicates: AtomicU64,
    rejected: AtomicU64,
    malformed: AtomicU64,
    errors: AtomicU64,
}

impl Counters {
    pub(crate) fn add(&self, more: Counts) {
        for (counter, n) in [
            (&self.events, more.events),
            (&self.bytes, more.bytes),
            (&self.batches, more.batches),
            (&self.connections, more.connections),
            (&self.duplicates, more.duplicates),
            (&self.rejected, more.rejected),
            (&self.malformed, more.malformed),
            (&self.errors, more.errors),
        ] {
            if n > 0 {
                counter.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn get(&self) -> Counts {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        Counts {
            events: read(&self.events),
            bytes: read(&self.bytes),
            batches: read(&self.batches),
            connections: read(&self.connections),
            duplicates: read(&self.duplicates),
            rejected: read(&self.rejected),
            malformed: read(&self.malformed),
            errors: read(&self.errors),
        }
    }
}
