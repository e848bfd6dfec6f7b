//! One trial: a shipper at rest, the Job's last lines, the end; then what is missing.
//!
//! Always holds: the shipper has delivered a first line before the last ones are written, so that it runs and follows.

use std::fs;
use std::io::Write as _;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

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

/// See [`Counts::at_once`]. The usual shell looks for the flag once a second, so this concerns one trial in four; less
/// would do on a machine that doesn't run several trials at once.
const AT_ONCE: Duration = Duration::from_millis(250);

pub(super) struct Trial<'a> {
    pub(super) setup: &'a Setup,
    pub(super) cell: Cell,
    pub(super) number: usize,
}

/// What became of the lines of one trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) lost: usize,
    pub(super) doubled: usize,
    /// Sent twice, but told apart by their id.
    pub(super) refused: usize,
    /// Lost when a plain shell's end came within [`AT_ONCE`] of the last line: no shipper can do anything about a SIGKILL
    /// that leaves it no time, so these aren't counted as lost, but told.
    pub(super) at_once: usize,
    /// 1 when Pillion didn't end with exit code 0 though it should have.
    pub(super) bad_exit: usize,
}

impl Trial<'_> {
    /// Runs it; the place is kept when Pillion failed.
    pub(super) fn run(&self) -> Outcome<Counts> {
        let place = Place::new()?;
        let counts = self.run_at(&place);
        let bad = !matches!(counts, Ok(Counts { lost: 0, doubled: 0, bad_exit: 0, .. }));
        if bad && self.setup.shipper.pillion {
            eprintln!("trial {} of {:?}: {counts:?}, kept in {}", self.number, self.cell, place.keep().display());
        }
        counts
    }

    fn run_at(&self, place: &Place) -> Outcome<Counts> {
        let sink = Sink::start(self.cell.target, Depth::Lines)?;
        let mut config = input(place, &self.setup.input) + &output(self.cell.target, sink.port());
        if self.setup.exactly_once {
            config.push_str("pillion.exactly_once: true\n");
        }
        place.configure(&config)?;
        append(place, "followed.log", &["ready".to_owned()])?;
        let mut child = self.start(place)?;
        wait::until("the first line", LIMIT, || match child.ended()? {
            Some(ended) => Err(format!("the shipper ended before the first line: {}", ended.status)),
            None => Ok((sink.tally().events() > 0).then_some(())),
        })
        .map_err(|e| format!("{e}; {}", tail(place)))?;

        let lines: Vec<String> =
            (0..self.cell.write.lines()).map(|i| format!("line {i} of trial {}", self.number)).collect();
        let file = if self.cell.write == Write::NewFile { "new.log" } else { "followed.log" };
        append(place, file, &lines)?;
        let written = Instant::now();
        let status = self.end(place, &mut child, &sink)?;
        let at_once = self.cell.end == End::Shell && written.elapsed() < AT_ONCE;

        let stored = sink.tally().lines();
        let times = |line: &String| stored.get(line).copied().unwrap_or(0);
        let ended_well = match self.cell.end {
            // A plain shell's end says nothing of the shipper.
            End::Shell => true,
            _ => status.code() == Some(0),
        };
        let missing = lines.iter().filter(|l| times(l) == 0).count();
        Ok(Counts {
            lost: if at_once { 0 } else { missing },
            at_once: if at_once { missing } else { 0 },
            doubled: lines.iter().filter(|l| times(l) > 1).count(),
            refused: sink.tally().refused() as usize,
            bad_exit: usize::from(self.setup.shipper.pillion && !ended_well),
        })
    }

    fn start(&self, place: &Place) -> Outcome<Child> {
        let shipper = &self.setup.shipper;
        let mut command = match self.cell.end {
            End::Shell => self.shell(place),
            _ => shipper.command(place),
        };
        if matches!(self.cell.end, End::Flag | End::FlagLater | End::Kill) && shipper.pillion {
            command.arg("--until").arg(place.flag());
        }
        Child::start(&mut command, &place.log())
    }

    /// The usual workaround, word for word, in a pid namespace of its own.
    fn shell(&self, place: &Place) -> Command {
        let words: Vec<String> = self.setup.shipper.words(place).iter().map(|w| format!("'{w}'")).collect();
        let flag = place.flag().display().to_string();
        let script = format!("{} & while [ ! -f {flag} ]; do sleep 1; done && exit 0", words.join(" "));
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(["sh", "-c"]).arg(script);
        command
    }

    fn end(&self, place: &Place, child: &mut Child, sink: &Sink) -> Outcome<ExitStatus> {
        let delay = Duration::from_millis(DELAYS_MS[self.number % DELAYS_MS.len()]);
        let flag = || fs::write(place.flag(), b"").map_err(|e| e.to_string());
        match self.cell.end {
            End::Flag | End::Shell => flag()?,
            End::FlagLater => {
                std::thread::sleep(Duration::from_millis(50));
                flag()?;
            }
            End::Term => {
                std::thread::sleep(delay);
                child.signal(Signal::TERM);
            }
            End::Kill => {
                std::thread::sleep(delay);
                child.signal(Signal::KILL);
                child.wait(LIMIT)?;
                *child = self.start(place)?;
                if self.setup.shipper.pillion {
                    flag()?;
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

fn append(place: &Place, file: &str, lines: &[String]) -> Outcome {
    let path = place.logs().join(file);
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::options().create(true).append(true).open(&path)?;
        // As a program logs: each line by a call of its own.
        lines.iter().try_for_each(|line| file.write_all(format!("{line}\n").as_bytes()))
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

/// The last words of the shipper, for an error.
fn tail(place: &Place) -> String {
    let log = fs::read_to_string(place.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    format!("the shipper's last words:\n{}", lines[lines.len().saturating_sub(5)..].join("\n"))
}
