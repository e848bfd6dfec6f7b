//! Pillion beside the real Filebeat: the same events, each other's registries, and Filebeat as our client.
//!
//! Comes in: which check, perhaps which case. Goes out: a line for each case that says what was compared, and an error
//! when one failed.
//! Always holds: every wait has a limit and an event that ends it; a failed case keeps its folders and says where.

mod around;
mod cases;
mod client;
pub(crate) mod compare;
mod differential;
mod dns;
mod modules;
mod nine;
mod odd;
mod record;
mod recorded;
mod seven;
mod sockets;
mod stdin;
mod swap;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::args::Args;
use crate::child::Child;
use crate::shipper::{Place, Shipper};
use crate::{Outcome, filebeat};

/// How long a shipper may take for what it is asked; far more than a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(60);

/// A version of Filebeat to be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// 7.17.29, the last of 7.
    Seven,
    /// 9.5.0 as its main branch was in April 2026: the newest that is published as a Go module.
    Nine,
}

impl Version {
    fn of(word: Option<&str>) -> Outcome<Version> {
        match word {
            None | Some("7") => Ok(Version::Seven),
            Some("9") => Ok(Version::Nine),
            Some(other) => Err(format!("--filebeat {other}: 7 and 9 are here")),
        }
    }

    fn shipper(self) -> Outcome<Shipper> {
        match self {
            Version::Seven => Shipper::named("filebeat"),
            Version::Nine => filebeat::nine().map(Shipper::filebeat_at),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Version::Seven => "7.17.29",
            Version::Nine => "9.5.0",
        }
    }

    /// What Pillion speaks as beside it: settings for its command line alone.
    fn settings(self) -> [&'static str; 4] {
        match self {
            Version::Seven => ["-E", "pillion.compat=7", "-E", "pillion.agent_version=7.17.29"],
            Version::Nine => ["-E", "pillion.compat=9", "-E", "pillion.agent_version=9.5.0"],
        }
    }
}

/// The checks of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The same events for the same files and configuration.
    Differential,
    /// Each goes on where the other stopped.
    Swap,
    /// Filebeat ships to `pillion receive`.
    Client,
}

/// Runs a check: `--case NAME`, `--filebeat 9`, `--record`.
pub(crate) fn run(check: Check, words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let only = args.value("--case")?;
    let version = Version::of(args.value("--filebeat")?.as_deref())?;
    let recording = args.switch("--record");
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let pair = Pair { version, filebeat: version.shipper()?, pillion: Shipper::named("pillion")? };
    let mut score = Score::new(only);
    match check {
        Check::Differential if recording => record::suite(&mut score, &pair),
        Check::Differential => {
            differential::suite(&mut score, &pair);
            recorded::suite(&mut score, &pair);
            score.case("modules", || modules::compare(&pair));
        }
        Check::Swap => swap::suite(&mut score, &pair),
        Check::Client => client::suite(&mut score, &pair),
    }
    score.end()
}

/// The two programs.
struct Pair {
    version: Version,
    filebeat: Shipper,
    pillion: Shipper,
}

/// What came of the cases of a check.
pub(crate) struct Score {
    only: Option<String>,
    passed: usize,
    failed: usize,
}

impl Score {
    /// Nothing yet; with `only`, cases of other names are left out.
    pub(crate) fn new(only: Option<String>) -> Score {
        Score { only, passed: 0, failed: 0 }
    }

    /// Runs one case; what it returns says what was compared.
    pub(crate) fn case(&mut self, name: &str, run: impl FnOnce() -> Outcome<String>) {
        if self.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        let begin = Instant::now();
        let outcome = run();
        let took = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(what) => {
                self.passed += 1;
                println!("{name:28} ok, {took:.1} s: {what}");
            }
            Err(why) => {
                self.failed += 1;
                println!("{name:28} FAILED, {took:.1} s: {why}");
            }
        }
    }

    /// The sum; an error when a case failed or none was run.
    pub(crate) fn end(self) -> Outcome {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 { Ok(()) } else { Err("not all cases passed".into()) }
    }
}

impl Pair {
    /// Starts one of the two on a place, with more words on its command line.
    fn start(&self, shipper: &Shipper, place: &Place, more: &[&str]) -> Outcome<Child> {
        let mut command: Command = shipper.command(place);
        if shipper.is_pillion() {
            command.args(self.version.settings());
        }
        Child::start_apart(command.args(more), &place.log(), &place.console())
    }
}

/// Runs Pillion with `--once` to a complete end.
fn pillion_once(pair: &Pair, place: &Place, more: &[&str]) -> Outcome {
    pillion_ends(pair.start(&pair.pillion, place, &[more, &["--once"]].concat())?, place)
}

/// Waits for Pillion's complete end.
fn pillion_ends(mut child: Child, place: &Place) -> Outcome {
    let status = child.wait(LIMIT)?.status;
    if status.code() == Some(0) { Ok(()) } else { Err(format!("Pillion: {status}; {}", tail(&place.log()))) }
}

/// Ends Filebeat by SIGTERM, or, since it now and then stays there with everything stopped, by SIGKILL when it had the time
/// that its settings give it.
fn end_filebeat(mut child: Child) -> Outcome {
    child.signal(Signal::TERM);
    if child.wait(Duration::from_secs(25)).is_err() {
        println!("Filebeat didn't end by SIGTERM within 25 s, and was killed");
        child.signal(Signal::KILL);
    }
    child.wait(LIMIT).map(drop)
}

/// The last lines of a log, for an error.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!("the last words:\n{}", lines[lines.len().saturating_sub(8)..].join("\n"))
}
