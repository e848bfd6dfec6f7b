//! `cargo xtask bench files backlog`: an hour of lines gathers while the target doesn't answer; then it does.
//!
//! Comes in: how many files, how many lines each. Goes out: memory while they gather, lines a second while they are made
//! up for, beside those of the same lines without a stop; in which order files were finished.
//! Always holds: the hour is compressed: the lines are written as fast as the disk takes them, file by file, so that the
//! first file is the oldest. Each line arrives once, or it is an error.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::run::Running;
use super::arrived::{Arrived, Compared};
use super::{SAMPLE, Watched, writer};
use crate::Outcome;
use crate::args::Args;
use crate::shipper::{Bulk, Place, Shipper};
use crate::sink::{Protocol, Sink};

/// How long the target goes on being silent when all is written: half a search and more.
const SILENT: Duration = Duration::from_secs(12);

struct Backlog {
    files: usize,
    /// Of each file.
    lines: usize,
    order: String,
}

/// What was measured.
struct Figures {
    took: Duration,
    cpu: Duration,
    most_mb: f64,
}

/// `--files N`, `--lines N` (of each file), `--order fair|oldest` (both, one after the other), `--shipper NAME`.
pub(super) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let shipper = Shipper::named(&args.value("--shipper")?.unwrap_or_else(|| "pillion".into()))?;
    let (files, lines) = (args.number("--files", 100)?, args.number("--lines", 36_000)?);
    let orders = args.value("--order")?.map_or(vec!["fair".to_owned(), "oldest".to_owned()], |one| vec![one]);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let plan = |order: String| Backlog { files, lines, order };
    let plain = measure(&shipper, &plan("fair".into()), false)?;
    say(&plan("fair".into()), "all there at the start, no stop", &plain);
    for order in orders {
        let plan = plan(order);
        let made_up = measure(&shipper, &plan, true)?;
        say(&plan, &format!("behind, order {}", plan.order), &made_up);
    }
    Ok(())
}

fn say(plan: &Backlog, what: &str, f: &Figures) {
    let lines = (plan.files * plan.lines) as f64;
    println!(
        "{what}: {lines} lines of {} files in {:.1} s: {:.0} a second; CPU {:.2} s for 1,000,000; resident at most {:.1} MB",
        plan.files,
        f.took.as_secs_f64(),
        lines / f.took.as_secs_f64(),
        f.cpu.as_secs_f64() * 1e6 / lines,
        f.most_mb,
    );
}

fn path(place: &Place, file: usize) -> PathBuf {
    place.logs().join(format!("b{file:05}.log"))
}

fn fill(plan: &Backlog, place: &Place, begin: Instant) -> std::io::Result<()> {
    let mut buf = Vec::new();
    for file in 0..plan.files {
        let mut out = fs::File::options().create(true).append(true).open(path(place, file))?;
        for from in (0..plan.lines).step_by(1000) {
            buf.clear();
            (from..plan.lines.min(from + 1000)).for_each(|n| writer::line(&mut buf, file as u32, n as u32, begin));
            out.write_all(&buf)?;
        }
    }
    Ok(())
}

/// From the moment at which the target answers to the last line's arrival.
fn measure(shipper: &Shipper, plan: &Backlog, behind: bool) -> Outcome<Figures> {
    let begin = Instant::now();
    let (place, arrived) = (Place::new()?, Arc::new(Arrived::new(begin)));
    let taker = Arc::clone(&arrived);
    let sink = Sink::showing(Protocol::Bulk, Box::new(move |event| taker.take(event)))?;
    let order = if shipper.is_pillion() { format!("pillion.files.order: {}\n", plan.order) } else { String::new() };
    shipper.configure(&place, &Bulk { more: &order, ..Bulk::to(sink.port()) })?;
    if !behind {
        fill(plan, &place, begin).map_err(|e| e.to_string())?;
    }
    let mut watched = Watched { running: Running::start(shipper, &place, &[])?, most_mb: 0.0, most_open: 0 };
    if behind {
        arrived.stop(true);
        gather(plan, &place, &mut watched, begin)?;
        arrived.stop(false);
    }
    let (from, cpu) = (Instant::now(), watched.running.cpu());
    watched.until(&arrived, (plan.files * plan.lines) as u64)?;
    let (took, cpu) = (from.elapsed(), watched.running.cpu() - cpu);
    if behind {
        let ends = arrived.ends();
        let in_order = ends.windows(2).filter(|two| two[0] <= two[1]).count();
        let half = ends.get(ends.len() / 2).copied().unwrap_or_default();
        let half = Duration::from_micros(half).saturating_sub(from - begin).as_secs_f64() / took.as_secs_f64();
        println!(
            "order {}: {in_order} of {} files end after the next older one; the middle one by age ends after {:.0} % of the time",
            plan.order,
            ends.len().saturating_sub(1),
            half * 100.0
        );
    }
    watched.running.stop()?;
    let wrong = arrived.compare(0, &vec![plan.lines as u32; plan.files]);
    if wrong != Compared::default() {
        return Err(format!("{wrong:?}; the files are in {}", place.keep().display()));
    }
    Ok(Figures { took, cpu, most_mb: watched.most_mb })
}

/// Writes everything while the target is silent, and looks at the memory.
fn gather(plan: &Backlog, place: &Place, watched: &mut Watched, begin: Instant) -> Outcome {
    let mut first = None;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| fill(plan, place, begin));
        let mut written = None;
        while written.is_none_or(|at: Instant| at.elapsed() < SILENT) {
            watched.sample()?;
            // What the first lines need is there by now.
            first = first.or_else(|| (begin.elapsed() > SAMPLE * 10).then_some(watched.most_mb));
            if writing.is_finished() {
                written = written.or_else(|| Some(Instant::now()));
            }
            std::thread::sleep(SAMPLE);
        }
        writing.join().map_err(|_| "the writer panicked".to_owned())?.map_err(|e| format!("writing: {e}"))
    })?;
    println!(
        "order {}: the target silent for {:.0} s: resident {:.1} MB after 2 s, at most {:.1} MB",
        plan.order,
        begin.elapsed().as_secs_f64(),
        first.unwrap_or_default(),
        watched.most_mb
    );
    Ok(())
}
