//! Time as the core sees it: a monotonic one for waiting, a wall clock for what is written down.

use std::time::Duration;

/// A point on the monotonic clock, in nanoseconds since an origin that is the same for the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The point `d` later; stays at the end of time when it would pass it.
    pub fn plus(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Wall clock time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds. May jump in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

/// What time it is.
pub trait Clock: Send + Sync {
    /// The monotonic clock: never goes back; the only one that waits and timeouts may use.
    fn mono(&self) -> Mono;

    /// The wall clock: for time stamps of events, registry entries and receipts, and to compare with a file's mtime.
    fn wall(&self) -> UnixMillis;
}
