//! Pillion against the real endpoints.
//!
//! Comes in: which suite, server and case. Goes out: a line for each case with its time, and the number that passed.
//! Always holds: a server that can't run here is named as skipped with the reason; a failed case keeps its folder and
//! its server's log. The real Filebeat can't take Pillion's place here: it asks for `_license`, which the servers from
//! Maven Central don't have, and ships nothing.

pub(crate) mod lumber;
mod search;

use std::time::Instant;

use crate::Outcome;
use crate::args::Args;
use crate::servers::{Kind, Server};
use crate::shipper::Shipper;

/// What came of all cases.
struct Score {
    only: Option<String>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Score {
    /// Runs one case, unless another one is asked for.
    fn case(&mut self, place: &str, name: &str, run: impl FnOnce() -> Outcome) {
        if self.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        let begin = Instant::now();
        let outcome = run();
        let took = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("{place:18} {name:16} ok, {took:.1} s");
            }
            Err(why) => {
                self.failed += 1;
                println!("{place:18} {name:16} FAILED, {took:.1} s: {why}");
            }
        }
    }
}

/// `--server NAME` (a search server or `go-lumber`), `--case NAME`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let server = args.value("--server")?;
    let mut score = Score { only: args.value("--case")?, passed: 0, failed: 0, skipped: 0 };
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    for kind in Kind::ALL {
        if server.as_ref().is_some_and(|s| s != kind.name()) {
            continue;
        }
        if let Some(why) = kind.missing() {
            score.skipped += 1;
            println!("{:18} SKIPPED: {why}", kind.name());
            continue;
        }
        for tight in [false, true] {
            search::suite(&mut score, kind, tight, &shipper);
        }
    }
    if server.as_ref().is_none_or(|s| s == "go-lumber") {
        lumber::suite(&mut score, &shipper);
    }
    println!("{} passed, {} failed, {} skipped", score.passed, score.failed, score.skipped);
    if score.failed == 0 && score.passed > 0 { Ok(()) } else { Err("not all endpoints are served".into()) }
}

/// Runs `run` with a server; when it fails, the server's log is kept.
fn with_server(kind: Kind, settings: &[String], run: impl FnOnce(&mut Server)) -> Outcome {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut server = Server::start(kind, &settings)?;
    run(&mut server);
    server.stop(false)
}
