//! The figures of Pillion and its peers on the same work.
//!
//! Comes in: which rows, which shippers. Goes out: `bench/results/DATE.json` and `.md`, with machine, versions and
//! command.
//! Always holds: the endpoint is this process and the shipper another one, so that processor time and memory are the
//! shipper's alone, as `wait4` and `/proc` tell them; each shipper gets the same files and settings.

pub(crate) mod files;
mod instructions;
mod memory;
mod report;
mod run;
mod throughput;
mod times;

pub(crate) use memory::check as check_resident;
use report::Row;
use run::Plan;

use crate::Outcome;
use crate::args::Args;
use crate::shipper::Shipper;

/// A row's name, and what measures it.
type Measure = (&'static str, fn(&Shipper, &Plan) -> Outcome<Vec<Row>>);

const ROWS: [Measure; 11] = [
    ("bulk", throughput::bulk),
    ("lumberjack", throughput::lumberjack),
    ("file", throughput::file),
    ("many-files", throughput::many_files),
    ("disk-queue", throughput::disk_queue),
    ("idle", memory::idle),
    ("quiet-files", memory::quiet_files),
    ("very-many-files", memory::very_many),
    ("latency", times::latency),
    ("start", times::start),
    ("exit", times::exit),
];

/// `--only ROW`, `--shipper NAME` (all that are here when not given), `--lines N`, `--repeat N`, `--out FOLDER`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let ["instructions", rest @ ..] = words {
        return instructions::run(rest);
    }
    let mut args = Args::new(words);
    let (only, shipper, out) = (args.value("--only")?, args.value("--shipper")?, args.value("--out")?);
    let plan = Plan { lines: args.number("--lines", 1_000_000)?, repeat: args.number("--repeat", 3)?.max(1) };
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let mut rows = Vec::new();
    let shippers = match shipper {
        Some(name) => vec![Shipper::named(&name)?],
        None => Shipper::all()?,
    };
    for (name, measure) in ROWS {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        for shipper in &shippers {
            let measured = measure(shipper, &plan).map_err(|e| format!("{name}, {}: {e}", shipper.name()))?;
            measured.iter().for_each(|row| println!("{}", row.line()));
            rows.extend(measured);
        }
    }
    report::write(&shippers, words, &rows, out.as_deref())
}
