//! The real Filebeat as a client of `pillion receive`: its Lumberjack, its `_bulk`.
//!
//! Always holds: every line arrives; where the receiver ends in mid-shipment some may come twice, as the protocols have it.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::{LIMIT, Pair, Score, tail};
use crate::child::Child;
use crate::shipper::{Place, input, output};
use crate::sink::Protocol;
use crate::{Outcome, job, ports, wait};

const LINES: usize = 20_000;

/// A case: its name, the protocol, Filebeat's options below the output, how often the receiver is restarted.
type Case = (&'static str, Protocol, &'static str, usize);

const CASES: [Case; 7] = [
    ("logstash", Protocol::Lumberjack, "", 0),
    ("logstash-plain", Protocol::Lumberjack, "  compression_level: 0\n  pipelining: 0\n", 0),
    ("logstash-deep", Protocol::Lumberjack, "  compression_level: 9\n  pipelining: 5\n  bulk_max_size: 100\n", 0),
    ("logstash-restarts", Protocol::Lumberjack, "  pipelining: 2\n  bulk_max_size: 100\n", 3),
    ("bulk", Protocol::Bulk, "", 0),
    ("bulk-gzip", Protocol::Bulk, "  compression_level: 6\n  worker: 2\n  bulk_max_size: 200\n", 0),
    ("bulk-restarts", Protocol::Bulk, "  bulk_max_size: 100\n", 3),
];

/// All cases.
pub(super) fn suite(score: &mut Score, pair: &Pair) {
    for case in CASES {
        score.case(case.0, || {
            let place = Place::new()?;
            ship(pair, &place, case).map_err(|why| {
                format!("{why}; {}; its place: {}", tail(&place.folder().join("receive.log")), place.keep().display())
            })
        });
    }
}

fn ship(pair: &Pair, place: &Place, (_, protocol, options, restarts): Case) -> Outcome<String> {
    let lines = job::lines(0, LINES, 100);
    for (i, part) in lines.chunks(LINES / 4).enumerate() {
        job::append(&place.logs().join(format!("{i}.log")), part)?;
    }
    let port = ports::free()?;
    let quick = "  backoff: {init: 50ms, max: 200ms}\n";
    let target = output(protocol, port);
    let (head, rest) = target.split_once("]\n").ok_or("an output without hosts")?;
    place.configure(&format!("{}{head}]\n{quick}{options}{rest}", input(place, "log")))?;
    let mut receiver = receive(pair, place, protocol, port, restarts > 0)?;
    let shipper = pair.start(&pair.filebeat, place, &[])?;
    for n in 1..=restarts {
        let mark = n * LINES / (restarts + 2);
        wait::until("a part at the receiver", LIMIT, || Ok((received(place)?.0 >= mark).then_some(())))?;
        // As a crash, in the midst of a batch.
        receiver.signal(Signal::KILL);
        receiver.wait(LIMIT)?;
        if received(place)?.1.len() == LINES {
            return Err("all had arrived before the receiver was ended: nothing is shown".into());
        }
        receiver = receive(pair, place, protocol, port, true)?;
    }
    wait::until("all lines at the receiver", LIMIT, || Ok((received(place)?.1.len() >= LINES).then_some(())))?;
    super::end_filebeat(shipper)?;
    receiver.signal(Signal::TERM);
    let status = receiver.wait(LIMIT)?.status;
    if !status.success() {
        return Err(format!("the receiver: {status}"));
    }
    let (events, times) = received(place)?;
    let again = events - times.len();
    if restarts == 0 {
        let arrived = times.iter().flat_map(|(line, &n)| std::iter::repeat_n(line.as_str(), n));
        job::compare(&lines, arrived)?;
        said(place, events)?;
    } else {
        job::compare(&lines, times.keys().map(String::as_str))?;
    }
    Ok(format!("{LINES} lines, all there, {again} came again; {restarts} restarts"))
}

fn receive(pair: &Pair, place: &Place, protocol: Protocol, port: u16, slow: bool) -> Outcome<Child> {
    let log = place.folder().join("receive.log");
    let before = fs::read_to_string(&log).unwrap_or_default().len();
    let mut command = Command::new(&pair.pillion.path);
    let kind = if protocol == Protocol::Bulk { "--elasticsearch" } else { "--lumberjack" };
    command.arg("receive").arg("--to").arg(place.folder().join("received"));
    command.arg(kind).arg(format!("127.0.0.1:{port}"));
    if slow {
        command.args(["--delay", "10ms"]);
    }
    let mut child = Child::start(&mut command, &log)?;
    wait::until("the receiver to listen", LIMIT, || match child.ended()? {
        Some(ended) => Err(format!("the receiver: {}", ended.status)),
        None => {
            let text = fs::read_to_string(&log).unwrap_or_default();
            Ok(text.get(before..).unwrap_or_default().contains(&format!(":{port}\n")).then_some(()))
        }
    })?;
    Ok(child)
}

/// The number of events written, and how often each message; a last line that is being written isn't there yet.
fn received(place: &Place) -> Outcome<(usize, HashMap<String, usize>)> {
    let (mut events, mut times) = (0, HashMap::new());
    for file in fs::read_dir(place.folder().join("received")).into_iter().flatten().flatten() {
        let text = fs::read(file.path()).map_err(|e| e.to_string())?;
        for line in text.split_inclusive(|&b| b == b'\n').filter(|l| l.ends_with(b"\n")) {
            let event: Value = serde_json::from_slice(line).map_err(|e| format!("what was received: {e}"))?;
            *times.entry(event["message"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            events += 1;
        }
    }
    Ok((events, times))
}

/// The receiver's own count agrees.
fn said(place: &Place, events: usize) -> Outcome {
    let log = fs::read_to_string(place.folder().join("receive.log")).map_err(|e| e.to_string())?;
    let last = log.lines().rev().find(|l| l.starts_with("received in all")).unwrap_or_default();
    let digits: Vec<usize> = last.split(|c: char| !c.is_ascii_digit()).filter_map(|d| d.parse().ok()).collect();
    if digits.contains(&events) { Ok(()) } else { Err(format!("{events} events are written, and it says: {last}")) }
}
