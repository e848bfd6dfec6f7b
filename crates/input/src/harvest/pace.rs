//! How soon a file that is written to all the time is read again.
//!
//! Comes in: each reading of a chunk. Goes out: how long a file that was just read rests before a hint makes it be read
//! once more. To open, look at and read a file, and to send and settle what it had, costs more than a line does, so that
//! lines that gather are meant to be cheaper; what it gives by itself wasn't measured (bench/results/2026-11-28.md). So the more files are read within a second, the longer each rests, up to [`MOST`]; with few
//! there is no rest, and a line is read at once.
//!
//! Always holds: what is draining, and a file that is found for the first time, never rests. How long files rest doesn't
//! change how many are counted, so that it doesn't swing. Tested below and in `tests/pace.rs`.

use std::time::Duration;

use pillion_world::Mono;

/// The longest rest.
pub(crate) const MOST: Duration = Duration::from_secs(1);

/// So many files need no rest.
const FREE: u64 = 500;

/// The rest for each file beyond.
const EACH: Duration = Duration::from_micros(100);

/// How long files are counted: no file rests longer, so each that is written to all the time is counted.
const WINDOW: Duration = MOST;

/// See the module's header.
#[derive(Default)]
pub(crate) struct Pace {
    since: Mono,
    /// Files that were read since then.
    count: u64,
    /// Files that were read within a second, of the window before.
    files: u64,
}

impl Pace {
    /// A file is read that was read last at `last`; `None`: it never was.
    pub(crate) fn reads(&mut self, now: Mono, last: Option<Mono>) {
        self.turn(now);
        self.count += u64::from(last.is_none_or(|last| last < self.since));
    }

    /// How long a file rests after it was read.
    pub(crate) fn rest(&mut self, now: Mono) -> Duration {
        self.turn(now);
        let beyond = u32::try_from(self.files.saturating_sub(FREE)).unwrap_or(u32::MAX);
        EACH.saturating_mul(beyond).min(MOST)
    }

    fn turn(&mut self, now: Mono) {
        let passed = now.since(self.since);
        if passed >= WINDOW {
            let files = u128::from(self.count) * WINDOW.as_millis() / passed.as_millis().max(1);
            self.files = u64::try_from(files).unwrap_or(u64::MAX);
            (self.since, self.count) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `files` files that always have something to read: how many readings a second there are after a while.
    fn readings(files: u64) -> u64 {
        let (mut pace, mut next, mut last) =
            (Pace::default(), vec![Mono(0); files as usize], vec![None; files as usize]);
        let mut read = 0;
        for ms in (0..10_000_u64).step_by(10) {
            let now = Mono(ms * 1_000_000);
            // There are hints of further files at any time.
            pace.rest(now);
            for (at, last) in next.iter_mut().zip(&mut last).filter(|(at, _)| **at <= now) {
                pace.reads(now, *last);
                *last = Some(now);
                *at = now.plus(pace.rest(now).max(Duration::from_millis(10)));
                read += u64::from(ms >= 5000);
            }
        }
        read / 5
    }

    #[test]
    fn the_more_are_read_the_longer_each_rests() {
        let (few, many, more) = (readings(10), readings(10_000), readings(20_000));
        assert_eq!(few, 1000, "10 files, each all the time");
        assert!((9_000..=13_000).contains(&many), "{many} readings a second of 10,000 files");
        assert!((18_000..=22_000).contains(&more), "{more} readings a second of 20,000 files");
    }

    #[test]
    fn at_rest_nothing_rests() {
        let mut pace = Pace::default();
        (0..20_000).for_each(|n| pace.reads(Mono(n * 10_000), None));
        assert_eq!(pace.rest(Mono(1_000_000_000)), MOST);
        assert_eq!(pace.rest(Mono(60_000_000_000)), Duration::ZERO);
        (0..400).for_each(|n| pace.reads(Mono(60_000_000_000 + n), None));
        assert_eq!(pace.rest(Mono(61_000_000_000)), Duration::ZERO);
    }
}
