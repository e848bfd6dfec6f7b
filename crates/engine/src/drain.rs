//! The drain: how a run ends.
//!
//! ```text
//!              start            read to end        flushed             settled, registry synced
//!  Following ────────▶ ReadingToEnd ────────▶ Flushing ────────▶ AwaitingAcks ────────▶ Committed
//!                           │                    │                    │
//!                           └────────────────────┴────────────────────┴──▶ TimedOut   (deadline, or "stop now")
//! ```
//!
//! Comes in: what starts it ([`Drain::start`]), and how far the others are ([`Drain::advance`]). Goes out: the phase,
//! which tells the harvester to read to the end, the queue to hold nothing back, and the process to end.
//!
//! Always holds:
//! - Phases only follow the arrows; `Committed` and `TimedOut` are final.
//! - The first cause stays the cause; a later one can only bring the deadline nearer.
//! - `Committed` is reached only when every byte that was there is read, every event settled by the **target**, and the
//!   registry says so durably, or can't be written: then the receipt tells. A file that may not be read at all isn't
//!   waited for either; the receipt names it and is `incomplete`.
//! - `TimedOut` is reached only by the deadline or by "stop now", whatever the others do: a hung file system, a dead
//!   target or a full disk doesn't hold the end.
//!
//! Tested below on a clock of its own; end to end by the loss trials.

use std::fmt;
use std::time::Duration;

use pillion_world::Mono;

/// What started the drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The completion flag appeared; a number in it is the main container's exit code.
    Flag(Option<i32>),
    /// The lock that the work's shell held was released without a flag: the work was killed.
    Released,
    /// The watched process ended.
    ProcessEnd,
    /// The wrapped command ended, with this code as a shell would tell it.
    CommandEnd(i32),
    /// Standard input ended.
    StdinEnd,
    /// `--once`: all files were read to their end.
    Once,
    /// SIGTERM.
    Terminate,
    /// SIGINT: drain at once, whatever else was to be waited for.
    Interrupt,
    /// Another output of this process can't go on.
    OtherOutput,
}

impl Cause {
    /// The word for it in the receipt and the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Cause::Flag(_) => "flag",
            Cause::Released => "lock_released",
            Cause::ProcessEnd => "process_end",
            Cause::CommandEnd(_) => "command_end",
            Cause::StdinEnd => "stdin_end",
            Cause::Once => "once",
            Cause::Terminate => "sigterm",
            Cause::Interrupt => "sigint",
            Cause::OtherOutput => "other_output",
        }
    }

    /// The exit code of the work that the cause tells of.
    pub fn work_exit_code(&self) -> Option<i32> {
        match self {
            Cause::Flag(code) => *code,
            Cause::CommandEnd(code) => Some(*code),
            _ => None,
        }
    }
}

/// Where the drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing has started it: files are followed.
    Following,
    /// One last scan; every file is opened anew and read to its end.
    ReadingToEnd,
    /// The last lines without a newline and the open multiline groups go out.
    Flushing,
    /// All is read; the target hasn't acknowledged all, or the registry isn't durable yet.
    AwaitingAcks,
    /// All is delivered and written down.
    Committed,
    /// The time was up, or somebody said "stop now".
    TimedOut,
}

impl Phase {
    /// Whether the process can end.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Committed | Phase::TimedOut)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Following => "following",
            Phase::ReadingToEnd => "reading to the end",
            Phase::Flushing => "flushing",
            Phase::AwaitingAcks => "awaiting acknowledgements",
            Phase::Committed => "committed",
            Phase::TimedOut => "timed out",
        })
    }
}

/// How far the others are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The readers have seen the end of every file and handed on all complete lines.
    pub read_to_end: bool,
    /// Nothing is held back by a reader: unfinished lines and groups have gone out too.
    pub flushed: bool,
    /// The target has decided about every event.
    pub settled: bool,
    /// The registry is durable as it stands (or there is none, or it was given up).
    pub synced: bool,
}

/// The state machine of a run's end.
#[derive(Debug)]
pub struct Drain {
    phase: Phase,
    cause: Option<Cause>,
    started: Mono,
    deadline: Option<Mono>,
    stop_now: bool,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { phase: Phase::Following, cause: None, started: Mono(0), deadline: None, stop_now: false }
    }
}

impl Drain {
    /// Starts the drain, which may take `limit` (`None` = until it is done or killed). Started again, it keeps its
    /// cause, and the nearer deadline holds.
    pub fn start(&mut self, cause: Cause, now: Mono, limit: Option<Duration>) {
        let deadline = limit.map(|d| now.plus(d));
        self.deadline = match (self.deadline, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if self.phase == Phase::Following {
            self.phase = Phase::ReadingToEnd;
            self.cause = Some(cause);
            self.started = now;
        }
    }

    /// Ends now, with what is done.
    pub fn stop_now(&mut self) {
        self.stop_now = true;
    }

    /// Moves on as far as the others are. True when the phase changed.
    pub fn advance(&mut self, p: Progress, now: Mono) -> bool {
        let before = self.phase;
        // From Following: only `start` leads on, or "stop now".
        if self.phase == Phase::ReadingToEnd && p.read_to_end {
            self.phase = Phase::Flushing;
        }
        if self.phase == Phase::Flushing && p.flushed {
            self.phase = Phase::AwaitingAcks;
        }
        if self.phase == Phase::AwaitingAcks && p.read_to_end && p.flushed && p.settled && p.synced {
            self.phase = Phase::Committed;
        }
        // After the arrows to the right: what is done when the time is up is done.
        if !self.phase.is_final() && (self.stop_now || self.is_late(now)) {
            self.phase = Phase::TimedOut;
        }
        self.phase != before
    }

    fn is_late(&self, now: Mono) -> bool {
        self.phase != Phase::Following && self.deadline.is_some_and(|d| now >= d)
    }

    /// What is known by now of the work's exit code: a flag may be seen before it is written.
    pub fn work_exited(&mut self, exit_code: i32) {
        if let Some(Cause::Flag(code @ None)) = &mut self.cause {
            *code = Some(exit_code);
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What started it; `None` while following, and when "stop now" came first.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// When it must end.
    pub fn deadline(&self) -> Option<Mono> {
        self.deadline
    }

    /// Whether somebody said "stop now".
    pub fn stopped(&self) -> bool {
        self.stop_now
    }

    /// How long it has taken so far; zero while following.
    pub fn elapsed(&self, now: Mono) -> Duration {
        if self.phase == Phase::Following { Duration::ZERO } else { now.since(self.started) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn progress(n: usize) -> Progress {
        Progress { read_to_end: n > 0, flushed: n > 1, settled: n > 2, synced: n > 3 }
    }

    #[test]
    fn it_goes_from_phase_to_phase_as_the_others_do() {
        let mut d = Drain::default();
        assert!(!d.advance(progress(4), Mono(1)), "nothing has started it");
        d.start(Cause::Flag(Some(0)), Mono(S), Some(Duration::from_secs(600)));
        let expected =
            [Phase::ReadingToEnd, Phase::Flushing, Phase::AwaitingAcks, Phase::AwaitingAcks, Phase::Committed];
        for (n, phase) in expected.into_iter().enumerate() {
            d.advance(progress(n), Mono(2 * S));
            assert_eq!(d.phase(), phase);
        }
        assert_eq!(d.cause(), Some(&Cause::Flag(Some(0))));
        assert!(!d.advance(Progress::default(), Mono(1000 * S)), "committed is final");
    }

    #[test]
    fn the_deadline_ends_it_in_every_phase() {
        for n in 0..4 {
            let mut d = Drain::default();
            d.start(Cause::ProcessEnd, Mono(0), Some(Duration::from_secs(10)));
            d.advance(progress(n), Mono(10 * S - 1));
            assert!(!d.phase().is_final());
            d.advance(progress(n), Mono(10 * S));
            assert_eq!(d.phase(), Phase::TimedOut);
        }
    }

    #[test]
    fn done_at_the_deadline_is_done() {
        let mut d = Drain::default();
        d.start(Cause::ProcessEnd, Mono(0), Some(Duration::from_secs(10)));
        d.advance(progress(4), Mono(10 * S));
        assert_eq!(d.phase(), Phase::Committed);
    }

    #[test]
    fn a_second_cause_only_brings_the_end_nearer() {
        let mut d = Drain::default();
        d.start(Cause::Terminate, Mono(0), None);
        d.start(Cause::Interrupt, Mono(S), Some(Duration::from_secs(5)));
        d.start(Cause::Interrupt, Mono(2 * S), Some(Duration::from_secs(50)));
        assert_eq!((d.cause(), d.deadline()), (Some(&Cause::Terminate), Some(Mono(6 * S))));
        d.stop_now();
        d.advance(progress(0), Mono(2 * S));
        assert_eq!(d.phase(), Phase::TimedOut);
    }

    proptest! {
        #[test]
        fn phases_only_follow_the_arrows(steps in prop::collection::vec((0..5_usize, any::<bool>(), 0..3_u64), 1..60)) {
            let mut d = Drain::default();
            let mut now = 0;
            for (n, start, dt) in steps {
                now += dt * S;
                let before = d.phase();
                if start { d.start(Cause::Once, Mono(now), Some(Duration::from_secs(20))); }
                d.advance(progress(n), Mono(now));
                prop_assert!(d.phase() >= before);
                prop_assert!(!before.is_final() || d.phase() == before);
                prop_assert!(d.phase() != Phase::Committed || before == Phase::Committed || n == 4);
            }
        }
    }
}
