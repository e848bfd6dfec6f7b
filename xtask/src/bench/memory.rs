//! Memory and processor time at rest.

use std::time::Duration;

use super::report::Row;
use super::run::{LIMIT, Plan, Running, write_files};
use crate::Outcome;
use crate::shipper::{Place, Shipper, input, output};
use crate::sink::{Depth, Protocol, Sink};

/// How long a shipper is left alone before it is looked at: a scan or two.
const SETTLE: Duration = Duration::from_secs(15);
/// How long its processor time is counted.
const WATCH: Duration = Duration::from_secs(30);

/// One file with one line, delivered.
pub(super) fn idle(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    at_rest("idle, 1 file", shipper, 1, [Some(6.0), None])
}

/// 5,000 files with one line each, delivered.
pub(super) fn quiet_files(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    at_rest("5,000 quiet files", shipper, 5000, [Some(16.0), Some(0.5)])
}

fn at_rest(what: &str, shipper: &Shipper, files: usize, most: [Option<f64>; 2]) -> Outcome<Vec<Row>> {
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Count)?);
    write_files(&place, files, files)?;
    place.configure(&(input(&place, "log") + &output(Protocol::Bulk, sink.port())))?;
    let mut running = Running::start(shipper, &place, &[])?;
    sink.tally().wait_for(files as u64, LIMIT)?;
    // What is measured is a time without events: here a pause is the measurement.
    std::thread::sleep(SETTLE);
    running.sample()?;
    let before = running.cpu();
    std::thread::sleep(WATCH);
    let percent = (running.cpu() - before).as_secs_f64() / WATCH.as_secs_f64() * 100.0;
    let [now, peak, anonymous] = running.resident_mb();
    running.stop()?;
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
