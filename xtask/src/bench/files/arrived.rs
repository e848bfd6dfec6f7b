//! What arrived, file by file, and how old it was.
//!
//! Always holds: a file has all its lines once when their count and the sum of their numbers are those of what was
//! written: a line that is missing and another that came twice in its place would have to have the same number.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What arrived of one file.
#[derive(Clone, Default)]
struct OfFile {
    count: u32,
    sum: u64,
    /// Milliseconds between writing a line and its arrival.
    delays: Vec<u32>,
    /// Microseconds from the beginning to the arrival of the last line so far.
    last: u64,
}

#[derive(Default)]
struct State {
    files: Vec<OfFile>,
    odd: u64,
    lines: u64,
    stopped: bool,
}

/// See the module's header.
pub(super) struct Arrived {
    begin: Instant,
    state: Mutex<State>,
    go_on: Condvar,
}

/// How old lines were when they arrived, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delays {
    pub(super) median: u32,
    pub(super) p99: u32,
    pub(super) most: u32,
    /// Of the files' medians the one that 99 % of the files don't exceed.
    pub(super) slow_file: u32,
}

impl Arrived {
    pub(super) fn new(begin: Instant) -> Arrived {
        Arrived { begin, state: Mutex::default(), go_on: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one event; waits while the target is stopped.
    pub(super) fn take(&self, event: &[u8]) {
        let now = self.begin.elapsed().as_micros();
        let mut state =
            self.go_on.wait_while(self.state(), |state| state.stopped).unwrap_or_else(PoisonError::into_inner);
        state.lines += 1;
        let Some((file, number, at)) = parse(event) else {
            state.odd += 1;
            return;
        };
        if state.files.len() <= file {
            state.files.resize(file + 1, OfFile::default());
        }
        let of = &mut state.files[file];
        of.count += 1;
        of.sum += u64::from(number);
        of.last = now as u64;
        of.delays.push((now.saturating_sub(u128::from(at)) / 1000) as u32);
    }

    /// The target stops answering, or goes on.
    pub(super) fn stop(&self, yes: bool) {
        self.state().stopped = yes;
        self.go_on.notify_all();
    }

    /// Lines so far.
    pub(super) fn lines(&self) -> u64 {
        self.state().lines
    }

    /// When the last line of each file arrived, microseconds from the beginning.
    pub(super) fn ends(&self) -> Vec<u64> {
        self.state().files.iter().map(|of| of.last).collect()
    }

    /// Lines that weren't made here, and for how many of the files from `first` on lines are missing or doubled, and how
    /// many.
    pub(super) fn compare(&self, first: usize, written: &[u32]) -> Compared {
        let state = self.state();
        let mut out = Compared { odd: state.odd, ..Compared::default() };
        for (i, &count) in written.iter().enumerate() {
            let of = state.files.get(first + i).cloned().unwrap_or_default();
            let n = u64::from(count);
            out.missing += n.saturating_sub(u64::from(of.count));
            out.doubled += u64::from(of.count).saturating_sub(n);
            if of.count != count || of.sum != n * n.saturating_sub(1) / 2 {
                out.files += 1;
            }
        }
        out
    }

    /// The delays of the files in a range.
    pub(super) fn delays(&self, files: std::ops::Range<usize>) -> Delays {
        let state = self.state();
        let of = state.files.get(files.start..files.end.min(state.files.len())).unwrap_or_default();
        let mut medians: Vec<u32> = of.iter().map(|f| quantile(&mut f.delays.clone(), 0.5)).collect();
        let mut all: Vec<u32> = of.iter().flat_map(|f| f.delays.iter().copied()).collect();
        Delays {
            median: quantile(&mut all, 0.5),
            p99: quantile(&mut all, 0.99),
            most: all.iter().copied().max().unwrap_or(0),
            slow_file: quantile(&mut medians, 0.99),
        }
    }
}

/// What differs between what was written and what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) missing: u64,
    pub(super) doubled: u64,
    pub(super) odd: u64,
    /// Files that haven't all their lines once.
    pub(super) files: u64,
}

fn quantile(all: &mut [u32], part: f64) -> u32 {
    if all.is_empty() {
        return 0;
    }
    let at = ((all.len() as f64 * part).ceil() as usize).clamp(1, all.len()) - 1;
    *all.select_nth_unstable(at).1
}

/// File, number and microseconds of a line, out of its event.
fn parse(event: &[u8]) -> Option<(usize, u32, u64)> {
    const BEFORE: &[u8] = b"\"message\":\"";
    let at = event.windows(BEFORE.len()).position(|w| w == BEFORE)? + BEFORE.len();
    let text = std::str::from_utf8(event.get(at..(at + 64).min(event.len()))?).ok()?;
    let mut words = text.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_missing_or_doubled_is_seen() {
        let event = |file: u32, number: u32| format!(r#"{{"a":1,"message":"{file} {number} 0 ....","b":2}}"#);
        let arrived = Arrived::new(Instant::now());
        for (file, number) in [(1, 0), (1, 1), (2, 0), (3, 0), (3, 0), (4, 1), (4, 1)] {
            arrived.take(format!("{:.<200}", event(file, number)).as_bytes());
        }
        arrived.take(b"{}");
        let got = arrived.compare(1, &[2, 2, 1, 2]);
        assert_eq!(got, Compared { missing: 1, doubled: 1, odd: 1, files: 3 });
        assert_eq!(arrived.lines(), 8);
    }

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let mut all: Vec<u32> = (1..=200).rev().collect();
        assert_eq!((quantile(&mut all, 0.5), quantile(&mut all, 0.99), quantile(&mut [], 0.5)), (100, 198, 0));
    }
}
