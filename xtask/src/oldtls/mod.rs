//! Pillion against TLS servers as old sites have them.
//!
//! Comes in: `--case NAME`, `--output NAME`. Goes out: a line for each case, and an error when one failed.
//! Always holds: each case either works, or `test config` or `test output` says why not and what to do; a run against it
//! says why once, and what it read arrives once the server is a good one. Certificates are made here by the openssl
//! command; servers are Python's.

mod cases;
mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::args::Args;
use crate::child::{self, Child};
use crate::shipper::{Place, Shipper, input};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job};

use cases::{CA, CASES, Case, Want};
use server::{GOOD, Relay};

const LIMIT: Duration = Duration::from_secs(60);
const LINES: usize = 20;
/// Cases at once.
const PARALLEL: usize = 4;

/// Runs the cases.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let (only, output) = (args.value("--case")?, args.value("--output")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let certificates = tempfile::tempdir().map_err(|e| e.to_string())?;
    make_certificates(certificates.path())?;
    let all: Vec<(&Case, Protocol)> = CASES
        .iter()
        .flat_map(|case| [(case, Protocol::Bulk), (case, Protocol::Lumberjack)])
        .filter(|(case, _)| only.as_ref().is_none_or(|only| only == case.name))
        .filter(|(_, protocol)| output.as_ref().is_none_or(|output| output == protocol.name()))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some((case, protocol)) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let begin = Instant::now();
                    let outcome = try_case(&shipper, certificates.path(), case, *protocol);
                    let said = match outcome {
                        Ok(()) => "ok".to_owned(),
                        Err(why) => {
                            failed.fetch_add(1, Ordering::SeqCst);
                            format!("FAILED: {why}")
                        }
                    };
                    println!("{:10} {:24} {:4.1} s {said}", protocol.name(), case.name, begin.elapsed().as_secs_f64());
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed", all.len() - failed);
    if failed == 0 && !all.is_empty() { Ok(()) } else { Err("not all old TLS servers are served".into()) }
}

fn make_certificates(folder: &Path) -> Outcome {
    let script = format!("{}\n{}\n", include_str!("certificates.sh"), cases::conversion());
    child::run(Command::new("sh").args(["-c", &script]).current_dir(folder)).map(drop)
}

fn try_case(shipper: &Shipper, certificates: &Path, case: &Case, protocol: Protocol) -> Outcome {
    let place = Place::new()?;
    let outcome = Trial::start(shipper, certificates, case, protocol, &place).and_then(|mut trial| trial.run());
    outcome.map_err(|why| format!("{why}\nkept in {}", place.keep().display()))
}

/// One case with one output.
struct Trial<'a> {
    shipper: &'a Shipper,
    certificates: &'a Path,
    case: &'a Case,
    protocol: Protocol,
    place: &'a Place,
    sink: Sink,
    relay: Option<Relay>,
    port: u16,
    lines: Vec<String>,
}

impl<'a> Trial<'a> {
    fn start(
        shipper: &'a Shipper,
        certificates: &'a Path,
        case: &'a Case,
        protocol: Protocol,
        place: &'a Place,
    ) -> Outcome<Trial<'a>> {
        let sink = Sink::start(protocol, Depth::Lines)?;
        let relay = Relay::start(&case.server, certificates, place.folder(), 0, sink.port())?;
        let lines = job::lines(0, LINES, 60);
        job::append(&place.logs().join("job.log"), &lines)?;
        fs::write(place.flag(), b"0").map_err(|e| e.to_string())?;
        let port = relay.port();
        let trial = Trial { shipper, certificates, case, protocol, place, sink, relay: Some(relay), port, lines };
        trial.configure(case.ssl)?;
        Ok(trial)
    }

    fn run(&mut self) -> Outcome {
        match self.case.want {
            Want::Works { says } => self.works(says),
            Want::Refused { reason, remedy } => self.refused(reason, remedy),
            Want::BadConfig { reason, remedy, instead } => {
                self.bad_config(reason, remedy)?;
                self.configure(instead)?;
                self.works("")
            }
        }
    }

    fn configure(&self, ssl: &[&str]) -> Outcome {
        let (port, certificates) = (self.port, self.certificates.display());
        let output = match self.protocol {
            Protocol::Bulk => format!("output.elasticsearch:\n  hosts: ['https://localhost:{port}']\n"),
            Protocol::Lumberjack => format!("output.logstash:\n  hosts: ['localhost:{port}']\n"),
        };
        let ssl: String =
            ssl.iter().map(|line| format!("    {}\n", line.replace('@', &format!("{certificates}/")))).collect();
        let backoff = "  backoff: {init: 50ms, max: 100ms}\n";
        self.place.configure(&format!("{}{output}{backoff}  ssl:\n{ssl}", input(self.place, "log")))
    }

    /// `pillion test config` or `test output`.
    fn test(&self, what: &str) -> Outcome<(Option<i32>, String)> {
        let mut command = self.shipper.command(self.place);
        command.args(["test", what]).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().map_err(|e| e.to_string())?;
        Ok((status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()))
    }

    /// A run to its end: its exit code.
    fn ship(&self, drain_timeout: &str) -> Outcome<Option<i32>> {
        let mut command = self.shipper.command(self.place);
        command.arg("--until").arg(self.place.flag()).arg("--receipt").arg(self.place.receipt());
        command.args(["--drain-timeout", drain_timeout]);
        let mut child = Child::start(&mut command, &self.place.log())?;
        Ok(child.wait(LIMIT)?.status.code())
    }

    fn works(&mut self, says: &str) -> Outcome {
        expect("test config", self.test("config")?, 0, &["Config OK"])?;
        expect("test output", self.test("output")?, 0, &["OK"])?;
        self.delivers()?;
        if !says.is_empty() {
            self.said_once(says)?;
        }
        Ok(())
    }

    fn delivers(&self) -> Outcome {
        let code = self.ship("30s")?;
        if code != Some(0) {
            return Err(format!("a run ended with {code:?}: {}", self.log()));
        }
        let stored = self.sink.tally().lines();
        job::compare(&self.lines, stored.iter().flat_map(|(line, n)| std::iter::repeat_n(line.as_str(), *n)))
    }

    fn refused(&mut self, reason: &str, remedy: &str) -> Outcome {
        expect("test config", self.test("config")?, 0, &["Config OK"])?;
        expect("test output", self.test("output")?, 1, &[reason, remedy])?;
        let before = self.relay.as_ref().map_or(0, Relay::attempts);
        let code = self.ship("2s")?;
        if code != Some(3) {
            return Err(format!("a run against it ended with {code:?}: {}", self.log()));
        }
        let attempts = self.relay.as_ref().map_or(0, Relay::attempts) - before;
        if attempts < 3 {
            return Err(format!("it was tried {attempts} times only"));
        }
        self.said_once(reason)?;
        let receipt = fs::read(self.place.receipt()).map_err(|e| format!("the receipt: {e}"))?;
        let receipt: Value = serde_json::from_slice(&receipt).map_err(|e| format!("the receipt: {e}"))?;
        if receipt["verdict"] != "incomplete" || !receipt["target_error"].as_str().unwrap_or_default().contains(reason)
        {
            return Err(format!("the receipt doesn't say why: {receipt}"));
        }
        if !self.sink.tally().lines().is_empty() {
            return Err("something arrived all the same".into());
        }
        // The old server's end frees its port.
        self.relay = None;
        self.relay = Some(Relay::start(&GOOD, self.certificates, self.place.folder(), self.port, self.sink.port())?);
        if !self.case.ssl.contains(&CA) {
            self.configure(&[CA])?;
        }
        self.delivers()
    }

    fn bad_config(&self, reason: &str, remedy: &str) -> Outcome {
        expect("test config", self.test("config")?, 2, &[reason, remedy])?;
        let code = self.ship("30s")?;
        if code != Some(2) || !self.log().contains(reason) {
            return Err(format!("a run with it ended with {code:?}: {}", self.log()));
        }
        if self.sink.tally().lines().is_empty() { Ok(()) } else { Err("something arrived all the same".into()) }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.log()).unwrap_or_default()
    }

    fn said_once(&self, text: &str) -> Outcome {
        let log = self.log();
        // The receipt's line at the end may name it too.
        let times = log.lines().filter(|l| l.contains(text) && !l.contains("receipt: ")).count();
        if times == 1 { Ok(()) } else { Err(format!("{text:?} is said {times} times, not once: {log}")) }
    }
}

fn expect(what: &str, (code, said): (Option<i32>, String), want: i32, texts: &[&str]) -> Outcome {
    let missing = texts.iter().find(|text| !said.contains(**text));
    match missing {
        _ if code != Some(want) => Err(format!("{what} ended with {code:?}, not {want}: {said}")),
        Some(text) => Err(format!("{what} doesn't say {text:?}: {said}")),
        None => Ok(()),
    }
}
