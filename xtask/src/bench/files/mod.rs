//! `cargo xtask bench files`: ten thousand files that are written at once, beside a hundred thousand quiet ones.
//!
//! Comes in: how many files of which kind, for how long, under which limits. Goes out: figures, and an error when a line
//! is missing, or, with the numbers that are the default, when a figure is beyond its limit.
//!
//! ```text
//! quiet files, delivered ──▶ writing: rotation, new files, deletion ──▶ all arrived ──▶ rest ──▶ end
//! ```
//!
//! Always holds: writers and target are this process and the shipper another one; each line is known by file and number
//! at the target.

mod arrived;
mod backlog;
mod plot;
mod writer;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrived::{Arrived, Delays};
use writer::Written;

use super::run::Running;
use crate::Outcome;
use crate::args::Args;
use crate::shipper::{Bulk, Place, Shipper};
use crate::sink::{Protocol, Sink};

/// Between two looks at the process.
const SAMPLE: Duration = Duration::from_millis(200);
/// How long the rest lasts: three searches, after one that may have begun before.
const REST: Duration = Duration::from_secs(30);
/// What hasn't arrived when nothing has arrived for so long is missing: a few searches.
const STUCK: Duration = Duration::from_secs(45);
/// How often paths are searched by default.
const SCAN: Duration = Duration::from_secs(10);

/// What may be resident at most, MB.
const RESIDENT: f64 = 64.0;
/// What a search of 100,000 quiet files may cost at most, seconds of a processor.
const SCAN_CPU: f64 = 0.3;

/// What is done.
pub(super) struct Plan {
    /// Files that are written all the time.
    writers: usize,
    /// Lines a second for each.
    rate: usize,
    /// Files with one line, delivered before.
    quiet: usize,
    /// New files a second, of 5 lines each.
    new: usize,
    seconds: usize,
    /// After how many seconds a file is renamed, and the one renamed before deleted; 0 = never.
    rotate: usize,
    /// `ulimit -n` of the shipper.
    descriptors: Option<String>,
    /// For how many seconds the target stops, after a quarter of the time.
    stop: usize,
    /// Further lines of the configuration.
    config: Vec<String>,
    /// The numbers are the default ones: figures have limits.
    usual: bool,
}

/// See the usage.
pub(crate) fn run(words: &[&str]) -> Outcome {
    match words {
        ["plot", rest @ ..] => return plot::run(rest),
        ["backlog", rest @ ..] => return backlog::run(rest),
        _ => {}
    }
    let mut args = Args::new(words);
    let shipper = args.value("--shipper")?.unwrap_or_else(|| "pillion".into());
    let mut config = Vec::new();
    while let Some(line) = args.value("--config")? {
        config.push(line);
    }
    let mut plan = Plan {
        writers: args.number("--writers", 10_000)?,
        rate: args.number("--rate", 10)?,
        quiet: args.number("--quiet", 100_000)?,
        new: args.number("--new", 500)?,
        seconds: args.number("--seconds", 60)?,
        rotate: args.number("--rotate", 20)?,
        descriptors: args.value("--descriptors")?,
        stop: args.number("--stop", 0)?,
        config,
        usual: false,
    };
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    plan.usual = plan.writers <= 10_000 && plan.rate <= 10 && plan.quiet <= 100_000 && plan.new <= 500;
    plan.usual &= plan.stop == 0 && plan.descriptors.is_none() && shipper == "pillion";
    measure(&Shipper::named(&shipper)?, &plan)
}

/// A shipper that is looked at while something happens.
struct Watched {
    running: Running,
    most_mb: f64,
    most_open: usize,
}

impl Watched {
    fn sample(&mut self) -> Outcome {
        self.running.sample()?;
        self.most_mb = self.most_mb.max(self.running.resident_mb()[0]);
        self.most_open = self.most_open.max(self.running.descriptors());
        Ok(())
    }

    /// Waits until so many lines have arrived, or none do any more.
    fn until(&mut self, arrived: &Arrived, lines: u64) -> Outcome {
        let (mut last, mut since) = (0, Instant::now());
        while arrived.lines() < lines {
            if arrived.lines() > last {
                (last, since) = (arrived.lines(), Instant::now());
            }
            if since.elapsed() > STUCK {
                println!("{last} of {lines} lines have arrived, and no more since {:.0} s", STUCK.as_secs_f64());
                return Ok(());
            }
            self.sample()?;
            std::thread::sleep(SAMPLE);
        }
        Ok(())
    }
}

fn measure(shipper: &Shipper, plan: &Plan) -> Outcome {
    let begin = Instant::now();
    let (place, arrived) = (Place::new()?, Arc::new(Arrived::new(begin)));
    let taker = Arc::clone(&arrived);
    let sink = Sink::showing(Protocol::Bulk, Box::new(move |event| taker.take(event)))?;
    let logs = place.logs();
    let mut buf = Vec::new();
    for n in 0..plan.quiet {
        buf.clear();
        writer::line(&mut buf, n as u32, 0, begin);
        fs::write(logs.join(format!("q{n:06}.log")), &buf).map_err(|e| e.to_string())?;
    }
    let more: String = plan.config.iter().map(|line| format!("{line}\n")).collect();
    shipper.configure(&place, &Bulk { files: "*.log*", more: &more, ..Bulk::to(sink.port()) })?;
    let running = Running::start_with(shipper, &place, plan.descriptors.as_deref())?;
    let mut watched = Watched { running, most_mb: 0.0, most_open: 0 };
    watched.until(&arrived, plan.quiet as u64)?;
    if plan.quiet > 0 {
        println!("{} quiet files delivered: at most {:.1} MB", plan.quiet, watched.most_mb);
    }
    let quiet_scan = if plan.usual { scan_cpu(&watched)? } else { 0.0 };
    if plan.usual {
        println!("nothing but quiet files: {quiet_scan:.3} s of CPU for a search of {}", plan.quiet);
    }
    (watched.most_mb, watched.most_open) = (0.0, 0);

    let (cpu, first) = (watched.running.cpu(), plan.quiet as u32);
    let written = while_writing(plan, &mut watched, &arrived, || writer::write(plan, &logs, first, begin))?;
    let lines = written.lines.iter().map(|n| u64::from(*n)).sum::<u64>();
    let (end, behind) = (Instant::now(), (plan.quiet as u64 + lines).saturating_sub(arrived.lines()));
    watched.until(&arrived, plan.quiet as u64 + lines)?;
    let (caught_up, busy) = (end.elapsed(), watched.running.cpu() - cpu);
    let (most_mb, most_open) = (watched.most_mb, watched.most_open);
    say_written(&written, lines, behind, caught_up);
    println!("CPU: {:.2} s for 1,000,000 lines", busy.as_secs_f64() * 1e6 / lines.max(1) as f64);
    println!("resident: at most {most_mb:.1} MB; descriptors: at most {most_open}");
    let delays = arrived.delays(plan.quiet..plan.quiet + plan.writers);
    say_delays("files written all the time", delays);
    say_delays("new files", arrived.delays(plan.quiet + plan.writers..usize::MAX));

    let scan = scan_cpu(&watched)?;
    let entries = fs::read_dir(&logs).map_err(|e| e.to_string())?.count();
    println!(
        "at rest: {scan:.3} s of CPU for a search of {entries} entries; resident {:.1} MB, {:.1} of it anonymous",
        watched.running.resident_mb()[0],
        watched.running.resident_mb()[2]
    );
    let (ended, most_ever) = watched.running.stop_watched()?;
    let wrong = arrived.compare(plan.quiet, &written.lines);
    println!("missing {}, doubled {}, in {} files; exit {}", wrong.missing, wrong.doubled, wrong.files, ended.status);
    println!("resident: at most {most_ever:.1} MB from its start to its end");
    let fair = u64::from(delays.p99.saturating_sub(delays.median)) <= 3 * SCAN.as_millis() as u64;
    let within = most_mb <= RESIDENT && quiet_scan <= SCAN_CPU && fair;
    if wrong.missing + wrong.odd > 0 || wrong.files > 0 && shipper.is_pillion() || plan.usual && !within {
        return Err(format!("{wrong:?}, or beyond a limit; the files are in {}", place.keep().display()));
    }
    Ok(())
}

fn say_written(written: &Written, lines: u64, behind: u64, caught_up: Duration) {
    println!(
        "{lines} lines in {} files, in {:.1} s ({} a second); {behind} behind at the end, all there {:.1} s later; \
         load {}",
        written.lines.len(),
        written.took.as_secs_f64(),
        lines * 1000 / written.took.as_millis().max(1) as u64,
        caught_up.as_secs_f64(),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default(),
    );
}

fn say_delays(what: &str, delays: Delays) {
    let Delays { median, p99, most, slow_file } = delays;
    println!(
        "written to acknowledged, {what}: median {median} ms, 99 % {p99} ms, longest {most} ms; median of the slowest \
         1 % of files {slow_file} ms"
    );
}

/// Lets writers write, and looks at the shipper meanwhile; stops the target for a while when the plan says so.
fn while_writing(
    plan: &Plan,
    watched: &mut Watched,
    arrived: &Arrived,
    write: impl FnOnce() -> std::io::Result<Written> + Send,
) -> Outcome<Written> {
    let start = Instant::now();
    let stop_at = Duration::from_secs(plan.seconds as u64) / 4;
    let go_on_at = stop_at + Duration::from_secs(plan.stop as u64);
    let (mut stopped, mut before) = (false, 0.0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(write);
        while !writing.is_finished() || stopped {
            watched.sample()?;
            let at = start.elapsed();
            let stop = plan.stop > 0 && at >= stop_at && at < go_on_at;
            if stop != stopped {
                println!("the target {} at {:.0} s", if stop { "stops" } else { "goes on" }, at.as_secs_f64());
                if stop {
                    before = watched.most_mb;
                } else {
                    println!("resident: at most {before:.1} MB before, {:.1} MB since", watched.most_mb);
                }
                arrived.stop(stop);
                stopped = stop;
            }
            std::thread::sleep(SAMPLE);
        }
        writing.join().map_err(|_| "the writer panicked".to_owned())?.map_err(|e| format!("writing: {e}"))
    })
}

/// What one search costs when nothing happens.
fn scan_cpu(watched: &Watched) -> Outcome<f64> {
    // What is measured is a time without events: here a pause is the measurement.
    std::thread::sleep(SCAN);
    let before = watched.running.cpu();
    std::thread::sleep(REST);
    let spent = (watched.running.cpu() - before).as_secs_f64();
    Ok(spent / (REST.as_secs_f64() / SCAN.as_secs_f64()))
}
