//! Who writes: files at a steady rate that rotate, and new ones that are deleted again.
//!
//! Always holds: a line is `FILE NUMBER MICROSECONDS …`, its number counts up within its file from 0 through all
//! rotations; what is written is told by [`Written`], so that nothing has to be remembered by line.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Plan;

/// Lines of a file that is only there for a while.
const SHORT: u32 = 5;

/// Bytes of a line, its newline included.
const LINE: usize = 120;

/// How often all writers write: as often as the rate says, or in pieces of this.
const TICK: Duration = Duration::from_millis(100);

/// How many lines were written to each file.
pub(super) struct Written {
    pub(super) lines: Vec<u32>,
    /// How long it took: longer than asked for where the machine was too slow.
    pub(super) took: Duration,
}

struct Writer {
    file: File,
    path: PathBuf,
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A line of a file.
pub(super) fn line(out: &mut Vec<u8>, file: u32, number: u32, begin: Instant) {
    let from = out.len();
    let _ = write!(out, "{file} {number} {} ", begin.elapsed().as_micros());
    out.resize(from + LINE - 1, b'.');
    out.push(b'\n');
}

/// Writes as the plan says, until its time is over.
pub(super) fn write(plan: &Plan, folder: &Path, first: u32, begin: Instant) -> std::io::Result<Written> {
    let start = Instant::now();
    let mut lines = vec![0; plan.writers];
    let mut writers = Vec::with_capacity(plan.writers);
    for n in 0..plan.writers {
        let path = folder.join(format!("w{n:05}.log"));
        writers.push(Writer { file: open(&path)?, path });
    }
    let ticks = u32::try_from(plan.seconds * 10).unwrap_or(u32::MAX);
    let around = plan.rotate * 10;
    let mut short: VecDeque<(u32, PathBuf)> = VecDeque::new();
    let mut buf = Vec::new();
    for tick in 0..ticks {
        // Rounded so that over a second each file gets its rate.
        let each = (plan.rate * (tick as usize + 1) / 10 - plan.rate * tick as usize / 10) as u32;
        for (n, writer) in writers.iter_mut().enumerate() {
            if around > 0 && tick > 0 && (n + tick as usize).is_multiple_of(around) {
                fs::rename(&writer.path, writer.path.with_extension("log.1"))?;
                writer.file = open(&writer.path)?;
            }
            buf.clear();
            (0..each).for_each(|i| line(&mut buf, first + n as u32, lines[n] + i, begin));
            writer.file.write_all(&buf)?;
            lines[n] += each;
        }
        for _ in 0..plan.new / 10 {
            let number = lines.len() as u32;
            let path = folder.join(format!("n{number:07}.log"));
            buf.clear();
            (0..SHORT).for_each(|i| line(&mut buf, first + number, i, begin));
            open(&path)?.write_all(&buf)?;
            lines.push(SHORT);
            short.push_back((tick, path));
        }
        let old = around.max(100) as u32;
        while let Some((_, path)) = short.pop_front_if(|(at, _)| *at + old < tick) {
            fs::remove_file(path)?;
        }
        let next = start + TICK * (tick + 1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(Written { lines, took: start.elapsed() })
}
