//! How many lines of a Job are lost or doubled when it ends: many trials of each way to write and each way to end.
//!
//! Comes in: the shipper, the number of trials. Goes out: a table, `target/e2e/loss-SHIPPER.json`, and an error when
//! Pillion lost or doubled a line, or when another shipper lost none (then the trials prove nothing).
//! Always holds: a trial waits for events, never for time, but for the delays that its scenario consists of.

mod cell;
mod report;
mod shell;
mod trial;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cell::{Cell, End, Write};
use report::Row;
use trial::Trial;

use crate::args::Args;
use crate::shipper::Shipper;
use crate::{Outcome, child};

/// What all trials of a run have in common.
struct Setup {
    shipper: Shipper,
    input: String,
    exactly_once: bool,
    /// The shell's look for its flag comes at most so many ms after the last line.
    aim_ms: u64,
}

/// `--shipper NAME`, `--trials N` of each cell, `--parallel N`, `--target bulk|lumberjack`, `--end NAME`, `--write NAME`,
/// `--input log|filestream`, `--plain` (without `exactly_once`), `--aim MS` (the kills of shell trials are spread over so many
/// ms after the last line, instead of over the whole second that the shell sleeps).
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let shipper = Shipper::named(&args.value("--shipper")?.unwrap_or_else(|| "pillion".into()))?;
    let trials = args.number("--trials", 100)?;
    let parallel = args.number("--parallel", 8)?.max(1);
    let (target, end, write) = (args.value("--target")?, args.value("--end")?, args.value("--write")?);
    let input = args.value("--input")?.unwrap_or_else(|| shipper.input().into());
    let aim_ms = args.number("--aim", 1000)?.min(1000) as u64;
    let exactly_once = shipper.is_pillion() && !args.switch("--plain");
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let cells: Vec<Cell> = Cell::all()
        .into_iter()
        .filter(|c| target.as_ref().is_none_or(|t| t == c.target.name()))
        .filter(|c| end.as_ref().is_none_or(|e| e == c.end.name()))
        .filter(|c| write.as_ref().is_none_or(|w| w == c.write.name()))
        .filter(|c| shipper.is_pillion() || !c.end.needs_pillion())
        .collect();
    if cells.is_empty() {
        return Err("no cell of that name".into());
    }
    if cells.iter().any(|c| c.end == End::Shell) {
        let mut probe = std::process::Command::new("unshare");
        child::run(probe.args(["--pid", "--fork", "--mount-proc", "true"]))
            .map_err(|e| format!("the shell trials need a pid namespace: {e}"))?;
    }
    let setup = Setup { shipper, input, exactly_once, aim_ms };
    println!("{}: {trials} trials of {} cells", setup.shipper.name(), cells.len());
    let rows: Vec<Row> = cells.iter().map(|&cell| run_cell(&setup, cell, trials, parallel)).collect();
    report::write(&setup, trials, &rows)?;
    report::verdict(&setup, &rows)
}

fn run_cell(setup: &Setup, cell: Cell, trials: usize, parallel: usize) -> Row {
    let next = AtomicUsize::new(0);
    let ahead = cell.end == End::Shell && shell::ahead_of_others(true);
    let at_once = if ahead { trial::AT_ONCE } else { trial::AT_ONCE_CROWDED };
    // Where milliseconds decide, trials don't take the processors from each other; most of their time they wait.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parallel = if cell.end == End::Shell { parallel.min(2 * cores) } else { parallel };
    let row = Mutex::new(Row::new(cell));
    std::thread::scope(|scope| {
        for _ in 0..parallel.min(trials) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= trials {
                        return;
                    }
                    let outcome = Trial { setup, cell, number, at_once }.run();
                    row.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(outcome);
                }
            });
        }
    });
    if ahead {
        shell::ahead_of_others(false);
    }
    let row = row.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{}", row.line());
    row
}
