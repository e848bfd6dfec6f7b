//! How long a line, a start and an end take.

use std::fs;
use std::time::{Duration, Instant};

use super::report::Row;
use super::run::{LIMIT, Plan, Running, configure, line, write_files};
use crate::Outcome;
use crate::shipper::{Place, Shipper};
use crate::sink::{Depth, Protocol, Sink};

/// A line at rest, from before its write to its acknowledgement.
pub(super) fn latency(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (protocol, files) in [(Protocol::Bulk, 1), (Protocol::Lumberjack, 1), (Protocol::Bulk, 5000)] {
        if protocol == Protocol::Lumberjack && !shipper.reads_filebeat_yml() {
            continue;
        }
        let lines = if shipper.is_pillion() { 300 } else { 20 };
        let times = one_by_one(shipper, protocol, files, lines)?;
        let what = format!("a line at rest to {}, {files} files", protocol.name());
        rows.push(Row::new(what, shipper, "ms", times, Some(10.0)).with_p99(50.0));
    }
    Ok(rows)
}

fn one_by_one(shipper: &Shipper, protocol: Protocol, files: usize, lines: usize) -> Outcome<Vec<f64>> {
    let (place, sink) = (Place::new()?, Sink::start(protocol, Depth::Count)?);
    write_files(&place, files, files)?;
    configure(shipper, &place, protocol, sink.port())?;
    let running = Running::start(shipper, &place, &[])?;
    sink.tally().wait_for(files as u64, LIMIT)?;
    let mut times = Vec::new();
    for i in 0..lines {
        // A Job that logs now and then: 20 to 200 ms apart.
        std::thread::sleep(Duration::from_millis(20 + (i as u64 * 37) % 180));
        let text = line(i);
        let begin = Instant::now();
        crate::job::append(&place.logs().join("00000.log"), &[text.trim_end().to_owned()])?;
        let at = sink.tally().wait_for((files + i + 1) as u64, LIMIT)?;
        times.push((at - begin).as_secs_f64() * 1e3);
    }
    running.stop()?;
    Ok(times)
}

/// From the start of the process to its first acknowledgement, with 100 lines waiting.
pub(super) fn start(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for protocol in [Protocol::Bulk, Protocol::Lumberjack] {
        if protocol == Protocol::Lumberjack && !shipper.reads_filebeat_yml() {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..if shipper.is_pillion() { 30 } else { 5 } {
            let (place, sink) = (Place::new()?, Sink::start(protocol, Depth::Count)?);
            write_files(&place, 100, 1)?;
            configure(shipper, &place, protocol, sink.port())?;
            let running = Running::start(shipper, &place, &[])?;
            let at = sink.tally().wait_for(1, LIMIT)?;
            times.push((at - running.begin).as_secs_f64() * 1e3);
            running.stop()?;
        }
        let what = format!("start to the first acknowledgement from {}", protocol.name());
        rows.push(Row::new(what, shipper, "ms", times, Some(30.0)));
    }
    Ok(rows)
}

/// From the last acknowledgement behind the flag to the process's end, and from the flag to it.
pub(super) fn exit(shipper: &Shipper, _: &Plan) -> Outcome<Vec<Row>> {
    if !shipper.is_pillion() {
        return Ok(Vec::new());
    }
    let (mut after_ack, mut after_flag) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Count)?);
        write_files(&place, 100, 1)?;
        configure(shipper, &place, Protocol::Bulk, sink.port())?;
        let flag = place.flag();
        let running = Running::start(shipper, &place, &["--until", &flag.to_string_lossy()])?;
        sink.tally().wait_for(100, LIMIT)?;
        crate::job::append(&place.logs().join("00000.log"), &[line(100).trim_end().to_owned()])?;
        let set = Instant::now();
        fs::write(&flag, b"").map_err(|e| e.to_string())?;
        let (ended, at) = running.wait()?;
        if ended.status.code() != Some(0) {
            return Err(format!("the shipper ended: {}", ended.status));
        }
        let last = sink.tally().wait_for(101, LIMIT)?;
        after_ack.push((at - last).as_secs_f64() * 1e3);
        after_flag.push((at - set).as_secs_f64() * 1e3);
    }
    Ok(vec![
        Row::new("the last acknowledgement to the exit".into(), shipper, "ms", after_ack, Some(50.0)),
        Row::new("the flag to the exit".into(), shipper, "ms", after_flag, None),
    ])
}
