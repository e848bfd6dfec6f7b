//! One trial: a shipper at rest, the Job's last lines, the end; then what is missing.
//!
//! Always holds: the shipper has delivered a first line before the last ones are written, so that it runs and follows.

use std::fs;
use std::io::Write as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::shell::{self, Held, Kill};
use super::{Cell, End, Setup, Write};
use crate::child::Child;
use crate::shipper::{Place, input, output};
use crate::sink::{Depth, Sink};
use crate::{Outcome, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// A restarted Filebeat, which doesn't end by itself, is given this long to send what it missed.
const AFTER_RESTART: Duration = Duration::from_secs(20);
/// How long after the last line a signal comes, by trial.
const DELAYS_MS: [u64; 5] = [0, 1, 5, 20, 100];

/// See [`Counts::at_once`]. In 600 trials with kills aimed at the first 20 ms after the last line (bench/results) the latest
/// lost line was written 7 ms before the shell's end: one of a burst of 300, with two requests to wait for.
pub(super) const AT_ONCE: Duration = Duration::from_millis(20);
/// The same where other work on the machine can't be kept back: seen were 44 ms, and once 94 ms.
pub(super) const AT_ONCE_CROWDED: Duration = Duration::from_millis(100);

pub(super) struct Trial<'a> {
    pub(super) setup: &'a Setup,
    pub(super) cell: Cell,
    pub(super) number: usize,
    /// [`AT_ONCE`] or [`AT_ONCE_CROWDED`].
    pub(super) at_once: Duration,
}

/// What became of the lines of one trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) lost: usize,
    pub(super) doubled: usize,
    /// Sent twice, but told apart by their id.
    pub(super) refused: usize,
    /// Lost, but written less than [`Trial::at_once`] before a plain shell's end, which kills the shipper: no shipper can do
    /// anything about a SIGKILL that leaves it no time, so these aren't counted as lost, but told.
    pub(super) at_once: usize,
    /// 1 when Pillion didn't end with exit code 0 though it should have.
    pub(super) bad_exit: usize,
    /// Of a shell trial.
    pub(super) kill: Option<Left>,
}

/// How much time a plain shell's end left, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Left {
    /// From the last line to the shell's end.
    pub(super) last_line: f64,
    /// From the shell's end to when the shipper was found dead: the kill came somewhere between, and a busy machine takes
    /// its time to carry it out.
    pub(super) dying: f64,
    /// From the earliest lost line to the shell's end, when one was lost.
    pub(super) lost_line: Option<f64>,
    /// Lines lost, whether counted as lost or apart.
    pub(super) lost: usize,
}

/// A line and when it was handed to the kernel, or shortly before.
type Written = (String, Instant);

impl Trial<'_> {
    /// Runs it; the place is kept when Pillion failed.
    pub(super) fn run(&self) -> Outcome<Counts> {
        // How long a busy disk takes to sync isn't what a kill that counts milliseconds is to show.
        let place = if self.cell.end == End::Shell { Place::in_memory()? } else { Place::new()? };
        let counts = self.run_at(&place);
        let bad = !matches!(counts, Ok(Counts { lost: 0, doubled: 0, bad_exit: 0, at_once: 0, .. }));
        if bad && self.setup.shipper.is_pillion() {
            eprintln!("trial {} of {:?}: {counts:?}, kept in {}", self.number, self.cell, place.keep().display());
        }
        counts
    }

    fn run_at(&self, place: &Place) -> Outcome<Counts> {
        let sink = Sink::start(self.cell.target, Depth::Lines)?;
        let mut config = input(place, &self.setup.input)
            + self.setup.shipper.for_small_files()
            + &output(self.cell.target, sink.port());
        if self.setup.exactly_once {
            config.push_str("pillion.exactly_once: true\n");
        }
        place.configure(&config)?;
        append(place, "followed.log", &["ready".to_owned()])?;
        let (mut child, held) = self.start(place)?;
        wait::until("the first line", LIMIT, || match child.ended()? {
            Some(ended) => Err(format!("the shipper ended before the first line: {}", ended.status)),
            None => Ok((sink.tally().events() > 0).then_some(())),
        })
        .map_err(|e| format!("{e}; {}", tail(place)))?;
        if held.is_some() {
            // Spread over the range, whatever the number of trials.
            shell::shortly_before_a_look(
                &child,
                Duration::from_micros(self.number as u64 * 618_034 % (self.setup.aim_ms * 1000 + 1)),
            )?;
        }

        let lines: Vec<String> =
            (0..self.cell.write.lines()).map(|i| format!("line {i} of trial {}", self.number)).collect();
        let file = if self.cell.write == Write::NewFile { "new.log" } else { "followed.log" };
        let lines = append(place, file, &lines)?;
        match held {
            None => self.end(place, &mut child, &sink).map(|status| self.counts(&sink, &lines, status)),
            Some(held) => {
                let kill = held.killed(&mut child, LIMIT, || raise(place));
                let kill = kill.map_err(|e| format!("{e}; {}", tail(place)))?;
                Ok(self.counts_after(&sink, &lines, kill))
            }
        }
    }

    fn counts(&self, sink: &Sink, lines: &[Written], status: ExitStatus) -> Counts {
        let stored = sink.tally().lines();
        let times = |line: &String| stored.get(line).copied().unwrap_or(0);
        Counts {
            lost: lines.iter().filter(|(l, _)| times(l) == 0).count(),
            doubled: lines.iter().filter(|(l, _)| times(l) > 1).count(),
            refused: sink.tally().refused() as usize,
            bad_exit: usize::from(self.setup.shipper.is_pillion() && status.code() != Some(0)),
            ..Counts::default()
        }
    }

    /// The same for a shell trial, whose end says nothing of the shipper.
    fn counts_after(&self, sink: &Sink, lines: &[Written], kill: Kill) -> Counts {
        let stored = sink.tally().lines();
        let left: Vec<Duration> = lines
            .iter()
            .filter(|(l, _)| !stored.contains_key(l))
            .map(|(_, at)| kill.from.saturating_duration_since(*at))
            .collect();
        let at_once = left.iter().filter(|l| **l < self.at_once).count();
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        let last = lines.last().map_or(Duration::ZERO, |(_, at)| kill.from.saturating_duration_since(*at));
        Counts {
            lost: left.len() - at_once,
            at_once,
            kill: Some(Left {
                last_line: ms(last),
                dying: ms(kill.to.saturating_duration_since(kill.from)),
                lost_line: left.iter().max().map(|d| ms(*d)),
                lost: left.len(),
            }),
            ..self.counts(sink, lines, ExitStatus::default())
        }
    }

    fn start(&self, place: &Place) -> Outcome<(Child, Option<Held>)> {
        let shipper = &self.setup.shipper;
        if self.cell.end == End::Shell {
            let (mut command, held) = shell::command(shipper, place)?;
            return Ok((Child::start(&mut command, &place.log())?, Some(held)));
        }
        let mut command = shipper.command(place);
        if matches!(self.cell.end, End::Flag | End::FlagLater | End::Kill) && shipper.is_pillion() {
            command.arg("--until").arg(place.flag());
        }
        Ok((Child::start(&mut command, &place.log())?, None))
    }

    fn end(&self, place: &Place, child: &mut Child, sink: &Sink) -> Outcome<ExitStatus> {
        let delay = Duration::from_millis(DELAYS_MS[self.number % DELAYS_MS.len()]);
        match self.cell.end {
            End::Flag | End::Shell => raise(place)?,
            End::FlagLater => {
                std::thread::sleep(Duration::from_millis(50));
                raise(place)?;
            }
            End::Term => {
                std::thread::sleep(delay);
                child.signal(Signal::TERM);
            }
            End::Kill => {
                std::thread::sleep(delay);
                child.signal(Signal::KILL);
                child.wait(LIMIT)?;
                *child = self.start(place)?.0;
                if self.setup.shipper.is_pillion() {
                    raise(place)?;
                } else {
                    // What is still missing then counts as lost.
                    let _ = sink.tally().wait_for(1 + self.cell.write.lines() as u64, AFTER_RESTART);
                    child.signal(Signal::TERM);
                }
            }
        }
        child.wait(LIMIT).map(|e| e.status).map_err(|e| format!("{e}; {}", tail(place)))
    }
}

fn raise(place: &Place) -> Outcome {
    fs::write(place.flag(), b"").map_err(|e| e.to_string())
}

fn append(place: &Place, file: &str, lines: &[String]) -> Outcome<Vec<Written>> {
    let path = place.logs().join(file);
    let write = || -> std::io::Result<Vec<Written>> {
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        // As a program logs: each line by a call of its own.
        let one = |line: &String| {
            let at = Instant::now();
            file.write_all(format!("{line}\n").as_bytes()).map(|()| (line.clone(), at))
        };
        lines.iter().map(one).collect()
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

/// The last words of the shipper, for an error.
fn tail(place: &Place) -> String {
    let log = fs::read_to_string(place.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    format!("the shipper's last words:\n{}", lines[lines.len().saturating_sub(5)..].join("\n"))
}
