//! What the rows have in common: files of lines, a shipper on them, a look at its process.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Outcome;
use crate::child::{Child, Ended, status_kib};
use crate::shipper::{Bulk, Place, Shipper, input, output};
use crate::sink::Protocol;

/// How much is measured.
pub(super) struct Plan {
    /// Lines of the rows about throughput.
    pub(super) lines: usize,
    /// How often each row is measured; its figure is the median.
    pub(super) repeat: usize,
}

/// Writes the configuration with which it ships `logs/*.log` to this endpoint.
pub(super) fn configure(shipper: &Shipper, place: &Place, protocol: Protocol, port: u16) -> Outcome {
    match protocol {
        Protocol::Bulk => shipper.configure(place, &Bulk::to(port)),
        Protocol::Lumberjack => place.configure(&(input(place, shipper.input()) + &output(protocol, port))),
    }
}

pub(super) const LIMIT: Duration = Duration::from_secs(600);

/// Writes `lines` lines of 200 bytes, evenly into `files` files.
pub(super) fn write_files(place: &Place, lines: usize, files: usize) -> Outcome {
    let write = |path: &Path, from: usize, to: usize| -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(fs::File::create(path)?);
        (from..to).try_for_each(|i| file.write_all(line(i).as_bytes()))?;
        file.flush()
    };
    for n in 0..files {
        let path = place.logs().join(format!("{n:05}.log"));
        write(&path, lines * n / files, lines * (n + 1) / files).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// A line as applications log it: 200 bytes with its newline, of which each is different.
pub(super) fn line(i: usize) -> String {
    let hash = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut text = format!(
        "2026-11-01T12:{:02}:{:02}.{:03}Z INFO [worker-{}] com.example.orders.OrderService - order {i:08} accepted: \
         customer={:08x} total={}.{:02} EUR trace={hash:016x}",
        i / 60_000 % 60,
        i / 1000 % 60,
        i % 1000,
        hash % 8,
        hash >> 32,
        hash % 1000,
        hash % 100,
    );
    while text.len() < 199 {
        text.push('.');
    }
    text.truncate(199);
    text.push('\n');
    text
}

/// A shipper that runs and is looked at.
pub(super) struct Running {
    child: Child,
    /// When it was started.
    pub(super) begin: Instant,
    samples: Vec<u64>,
}

impl Running {
    /// Starts it; `further` are flags of Pillion alone.
    pub(super) fn start(shipper: &Shipper, place: &Place, further: &[&str]) -> Outcome<Running> {
        let mut command = shipper.command(place);
        if shipper.is_pillion() {
            command.args(further);
        }
        let begin = Instant::now();
        Ok(Running { child: Child::start(&mut command, &place.log())?, begin, samples: Vec::new() })
    }

    /// Starts it with this limit of descriptors (`ulimit -n`).
    pub(super) fn start_with(shipper: &Shipper, place: &Place, descriptors: Option<&str>) -> Outcome<Running> {
        let Some(limit) = descriptors else { return Running::start(shipper, place, &[]) };
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", limit]).args(shipper.words(place));
        command.current_dir(place.folder());
        let begin = Instant::now();
        Ok(Running { child: Child::start(&mut command, &place.log())?, begin, samples: Vec::new() })
    }

    /// How many descriptors it has open.
    pub(super) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Notes the resident size; an error when the shipper has ended.
    pub(super) fn sample(&mut self) -> Outcome {
        if let Some(ended) = self.child.ended()? {
            return Err(format!("the shipper ended: {}", ended.status));
        }
        self.samples.extend(status_kib(self.child.id(), "VmRSS"));
        Ok(())
    }

    /// The average of all samples, in MB.
    pub(super) fn average_mb(&self) -> f64 {
        let sum: u64 = self.samples.iter().sum();
        (sum * 1024) as f64 / self.samples.len().max(1) as f64 / 1e6
    }

    /// The resident size now, the largest so far, and what of the present one is not of files, in MB.
    pub(super) fn resident_mb(&self) -> [f64; 3] {
        let id = self.child.id();
        let mb = |kib: u64| (kib * 1024) as f64 / 1e6;
        let status = |name: &str| mb(status_kib(id, name).unwrap_or(0));
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        let anonymous =
            rollup.lines().find_map(|l| l.strip_prefix("Anonymous:")?.trim().strip_suffix(" kB")?.parse().ok());
        [status("VmRSS"), status("VmHWM"), mb(anonymous.unwrap_or(0))]
    }

    /// Processor time used so far by all its threads.
    pub(super) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let of = |task: fs::DirEntry| -> Option<u64> {
            fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(tasks.filter_map(of).sum())
    }

    /// Asks it to end by SIGTERM and waits.
    pub(super) fn stop(mut self) -> Outcome<Ended> {
        self.child.signal(Signal::TERM);
        self.child.wait(LIMIT)
    }

    /// [`Running::stop`]; also says the largest resident size until it was seen last, in MB.
    pub(super) fn stop_watched(mut self) -> Outcome<(Ended, f64)> {
        self.child.signal(Signal::TERM);
        let begin = Instant::now();
        let mut most = 0.0;
        while begin.elapsed() < LIMIT {
            most = f64::max(most, self.resident_mb()[1]);
            if let Some(ended) = self.child.ended()? {
                return Ok((ended, most));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the shipper didn't end within {LIMIT:?}"))
    }

    /// Waits until it ends by itself; also says when that was.
    pub(super) fn wait(mut self) -> Outcome<(Ended, Instant)> {
        let ended = self.child.wait(LIMIT)?;
        Ok((ended, Instant::now()))
    }
}
