//! Memory and processor time at rest.

use std::time::Duration;

use super::report::Row;
use super::run::{LIMIT, Plan, Running, write_files};
use crate::Outcome;
use crate::shipper::{Bulk, Place, Shipper};
use crate::sink::{Depth, Protocol, Sink};

/// How long a shipper is left alone before it is looked at: a scan or two.
const SETTLE: Duration = Duration::from_secs(15);
/// How long its processor time is counted.
const WATCH: Duration = Duration::from_secs(30);

/// What may be resident with one file at most, MB.
const IDLE: f64 = 7.5;
/// What may be resident with 5,000 quiet files at most, MB.
const QUIET: f64 = 16.0;

/// One file with one line, delivered.
pub(super) fn idle(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    at_rest("idle, 1 file", shipper, 1, [Some(IDLE), None])
}

/// 5,000 files with one line each, delivered.
pub(super) fn quiet_files(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    at_rest("5,000 quiet files", shipper, 5000, [Some(QUIET), Some(0.5)])
}

/// 100,000 files with one line each, delivered.
pub(super) fn very_many(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    if !shipper.is_pillion() {
        return Ok(Vec::new());
    }
    at_rest("100,000 quiet files", shipper, 100_000, [None, None])
}

/// A shipper that has delivered one line of each of its files.
struct Delivered {
    running: Running,
    // Until the end: the files, and the endpoint that it is connected to.
    _place: Place,
    _sink: Sink,
}

impl Delivered {
    fn start(shipper: &Shipper, files: usize) -> Outcome<Delivered> {
        let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Count)?);
        write_files(&place, files, files)?;
        shipper.configure(&place, &Bulk::to(sink.port()))?;
        let running = Running::start(shipper, &place, &[])?;
        sink.tally().wait_for(files as u64, LIMIT)?;
        Ok(Delivered { running, _place: place, _sink: sink })
    }
}

/// `cargo xtask e2e resident`: what Pillion keeps resident at rest is within its limits, which no change may lose.
pub(crate) fn check() -> Outcome {
    let shipper = Shipper::named("pillion")?;
    let all = [("idle, 1 file", 1, IDLE), ("5,000 quiet files", 5000, QUIET)];
    let started = all.map(|(what, files, most)| Delivered::start(&shipper, files).map(|d| (what, most, d)));
    std::thread::sleep(SETTLE);
    let mut beyond = Vec::new();
    for one in started {
        let (what, most, Delivered { mut running, .. }) = one?;
        running.sample()?;
        let [now, peak, anonymous] = running.resident_mb();
        let line =
            format!("{what}: {now:.1} MB resident ({anonymous:.1} anonymous, {peak:.1} at most), {most} allowed");
        println!("{line}");
        if now > most || now == 0.0 {
            beyond.push(line);
        }
        running.stop()?;
    }
    if beyond.is_empty() { Ok(()) } else { Err(beyond.join("\n")) }
}

fn at_rest(what: &str, shipper: &Shipper, files: usize, most: [Option<f64>; 2]) -> Outcome<Vec<Row>> {
    let mut delivered = Delivered::start(shipper, files)?;
    let running = &mut delivered.running;
    // What is measured is a time without events: here a pause is the measurement.
    std::thread::sleep(SETTLE);
    running.sample()?;
    let before = running.cpu();
    std::thread::sleep(WATCH);
    let percent = (running.cpu() - before).as_secs_f64() / WATCH.as_secs_f64() * 100.0;
    let [now, peak, anonymous] = running.resident_mb();
    delivered.running.stop()?;
    let row = |name: &str, unit: &'static str, figure: f64, most: Option<f64>| {
        Row::new(format!("{what}: {name}"), shipper, unit, vec![figure], most)
    };
    Ok(vec![
        row("resident", "MB", now, most[0]),
        row("resident, of it anonymous", "MB", anonymous, None),
        row("resident, peak since the start", "MB", peak, None),
        row("CPU", "% of a core", percent, most[1]),
    ])
}
