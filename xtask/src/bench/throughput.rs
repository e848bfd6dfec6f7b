//! Processor time and memory while shipping a lot.

use std::fs;
use std::time::{Duration, Instant};

use super::report::Row;
use super::run::{LIMIT, Plan, Running, configure, write_files};
use crate::shipper::{Bulk, Place, Shipper, input};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, wait};

/// Between two looks at the resident size.
const SAMPLE: Duration = Duration::from_millis(50);

/// One run's figures.
struct Figures {
    cpu_s: f64,
    wall_s: f64,
    average_mb: f64,
    peak_mb: f64,
}

fn rows(what: &str, shipper: &Shipper, lines: usize, runs: &[Figures], most: [Option<f64>; 2]) -> Vec<Row> {
    let row = |name: &str, unit: &'static str, most: Option<f64>, figure: &dyn Fn(&Figures) -> f64| {
        Row::new(format!("{what}: {name}"), shipper, unit, runs.iter().map(figure).collect(), most)
    };
    let million = 1e6 / lines as f64;
    vec![
        row("CPU for 1,000,000 lines", "s", most[0], &|f| f.cpu_s * million),
        row("lines per second", "lines/s", None, &|f| lines as f64 / f.wall_s),
        row("resident, average", "MB", None, &|f| f.average_mb),
        row("resident, peak", "MB", most[1], &|f| f.peak_mb),
    ]
}

/// Ships to an endpoint of ours; from the start to the last acknowledgement.
fn to_endpoint(shipper: &Shipper, protocol: Protocol, lines: usize, files: usize) -> Outcome<Figures> {
    with_more(shipper, protocol, (lines, files), "")
}

/// The same with further lines in the configuration for `_bulk`.
fn with_more(shipper: &Shipper, protocol: Protocol, (lines, files): (usize, usize), more: &str) -> Outcome<Figures> {
    let (place, sink) = (Place::new()?, Sink::start(protocol, Depth::Count)?);
    write_files(&place, lines, files)?;
    match protocol {
        Protocol::Bulk => shipper.configure(&place, &Bulk { gzip: true, more, ..Bulk::to(sink.port()) })?,
        Protocol::Lumberjack => configure(shipper, &place, protocol, sink.port())?,
    }
    let mut running = Running::start(shipper, &place, &[])?;
    let end = loop {
        running.sample()?;
        if let Ok(at) = sink.tally().wait_for(lines as u64, SAMPLE) {
            break at;
        }
        if running.begin.elapsed() > LIMIT {
            return Err(format!("{} of {lines} lines after {LIMIT:?}", sink.tally().events()));
        }
    };
    figures(running, end)
}

fn figures(running: Running, end: Instant) -> Outcome<Figures> {
    let (wall_s, average_mb) = ((end - running.begin).as_secs_f64(), running.average_mb());
    let ended = running.stop()?;
    Ok(Figures { cpu_s: ended.cpu.as_secs_f64(), wall_s, average_mb, peak_mb: ended.peak_bytes as f64 / 1e6 })
}

/// To `_bulk`, with gzip at level 1.
pub(super) fn bulk(shipper: &Shipper, plan: &Plan) -> Outcome<Vec<Row>> {
    let run = |_| to_endpoint(shipper, Protocol::Bulk, plan.lines, 10);
    let runs = (0..plan.repeat).map(run).collect::<Outcome<Vec<_>>>()?;
    Ok(rows("10 files to _bulk, gzip 1", shipper, plan.lines, &runs, [Some(2.0), Some(16.0)]))
}

/// To Lumberjack, with its default compression (level 3).
pub(super) fn lumberjack(shipper: &Shipper, plan: &Plan) -> Outcome<Vec<Row>> {
    if !shipper.reads_filebeat_yml() {
        return Ok(Vec::new());
    }
    let run = |_| to_endpoint(shipper, Protocol::Lumberjack, plan.lines, 10);
    let runs = (0..plan.repeat).map(run).collect::<Outcome<Vec<_>>>()?;
    Ok(rows("10 files to Lumberjack", shipper, plan.lines, &runs, [Some(2.5), Some(16.0)]))
}

/// Half as many lines in 5,000 files, to `_bulk`.
pub(super) fn many_files(shipper: &Shipper, plan: &Plan) -> Outcome<Vec<Row>> {
    let lines = plan.lines / 2;
    let run = |_| to_endpoint(shipper, Protocol::Bulk, lines, 5000);
    let runs = (0..plan.repeat).map(run).collect::<Outcome<Vec<_>>>()?;
    Ok(rows("5,000 files to _bulk, gzip 1", shipper, lines, &runs, [None, Some(32.0)]))
}

/// To `_bulk` through the queue in memory and through the one on the disk, in turn, and the second by the first.
pub(super) fn disk_queue(shipper: &Shipper, plan: &Plan) -> Outcome<Vec<Row>> {
    if !shipper.reads_filebeat_yml() {
        return Ok(Vec::new());
    }
    let (mut memory, mut disk) = (Vec::new(), Vec::new());
    for _ in 0..plan.repeat {
        let run = |more| with_more(shipper, Protocol::Bulk, (plan.lines, 10), more);
        memory.push(run("")?);
        disk.push(run("queue.disk.max_size: 10GB\n")?);
    }
    let mut all = rows("through queue.mem", shipper, plan.lines, &memory, [None; 2]);
    all.extend(rows("through queue.disk", shipper, plan.lines, &disk, [None; 2]));
    let ratio = |name: &str, figure: &dyn Fn(&Figures) -> f64| {
        let pairs = memory.iter().zip(&disk).map(|(memory, disk)| figure(disk) / figure(memory)).collect();
        Row::new(format!("queue.disk by queue.mem: {name}"), shipper, "times", pairs, None)
    };
    all.push(ratio("CPU", &|f| f.cpu_s));
    all.push(ratio("time", &|f| f.wall_s));
    all.push(ratio("resident, peak", &|f| f.peak_mb));
    Ok(all)
}

/// To a file.
pub(super) fn file(shipper: &Shipper, plan: &Plan) -> Outcome<Vec<Row>> {
    if !shipper.reads_filebeat_yml() {
        return Ok(Vec::new());
    }
    let runs = (0..plan.repeat).map(|_| to_file(shipper, plan.lines)).collect::<Outcome<Vec<_>>>()?;
    Ok(rows("10 files to a file", shipper, plan.lines, &runs, [Some(0.7), Some(16.0)]))
}

fn to_file(shipper: &Shipper, lines: usize) -> Outcome<Figures> {
    let place = Place::new()?;
    write_files(&place, lines, 10)?;
    let out = place.folder().join("out");
    fs::create_dir(&out).map_err(|e| e.to_string())?;
    let output = format!(
        "output.file:\n  path: {}\n  filename: events\n  rotate_every_kb: 4000000\n  number_of_files: 7\n",
        out.display()
    );
    place.configure(&(input(&place, shipper.input()) + &output))?;
    let mut running = Running::start(shipper, &place, &[])?;
    let mut counter = LineCounter::default();
    wait::until("all lines in the output file", LIMIT, || {
        running.sample()?;
        Ok((counter.count(&out)? >= lines as u64).then_some(()))
    })?;
    figures(running, Instant::now())
}

/// Counts the newlines of a folder's one growing file, reading each byte once.
#[derive(Default)]
struct LineCounter {
    file: Option<fs::File>,
    lines: u64,
}

impl LineCounter {
    fn count(&mut self, folder: &std::path::Path) -> Outcome<u64> {
        use std::io::Read;
        if self.file.is_none() {
            let first = fs::read_dir(folder).map_err(|e| e.to_string())?.flatten().next();
            self.file = first.and_then(|e| fs::File::open(e.path()).ok());
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let mut buf = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buf).map_err(|e| e.to_string())?;
            if n == 0 {
                return Ok(self.lines);
            }
            self.lines += buf[..n].iter().filter(|&&b| b == b'\n').count() as u64;
        }
    }
}
