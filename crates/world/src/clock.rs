//! Time as the core sees it: a monotonic one for waiting, a wall clock for what is written down.

use std::time::Duration;

use crate::calendar::civil_from_days;

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

/// The form of RFC 3339 in which logs and receipts have times: `2026-11-23T18:40:23.656Z`.
pub fn rfc3339(time: UnixMillis) -> String {
    let (days, ms) = (time.0.div_euclid(86_400_000), time.0.rem_euclid(86_400_000));
    let (y, m, d) = civil_from_days(days);
    let (h, min, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(UnixMillis(1_795_459_223_656)), "2026-11-23T18:40:23.656Z");
        assert_eq!(rfc3339(UnixMillis(951_782_400_000)), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(UnixMillis(-1)), "1969-12-31T23:59:59.999Z");
    }
}
