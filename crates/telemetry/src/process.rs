//! What the kernel knows of this process and of the machine.
//!
//! Comes in: `/proc`. Goes out: [`Process`]. Always holds: what can't be read is 0; `/proc` is read at most once a second,
//! however often somebody asks. Tested below.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pillion_world::{Mono, World};

/// For so long what was read is believed.
const FRESH: Duration = Duration::from_secs(1);

/// Larger descriptions aren't read, in bytes.
const MOST: usize = 64 * 1024;

/// Milliseconds of one tick: `USER_HZ` is 100 on every architecture that Linux has.
const TICK_MS: u64 = 10;

/// See the module's header.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time in user mode, ms.
    pub user_ms: u64,
    /// CPU time in the kernel, ms.
    pub system_ms: u64,
    /// Resident bytes.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// How many it may have open: now, and at most.
    pub descriptor_limits: (u64, u64),
    /// The machine's load over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// CPUs that the process may use.
    pub cores: u64,
}

impl Process {
    fn read(world: &World) -> Process {
        let text = |path: &str| {
            let bytes = world.fs.read(Path::new(path), MOST).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (user_ms, system_ms) = cpu(&text("/proc/self/stat"));
        let status = text("/proc/self/status");
        let mut descriptors = 0_u64;
        let _ = world.fs.read_dir(Path::new("/proc/self/fd"), &mut |_| {
            descriptors += 1;
            true
        });
        Process {
            user_ms,
            system_ms,
            resident: field(&status, "VmRSS:") * 1024,
            threads: field(&status, "Threads:"),
            // Without the one that listed them.
            descriptors: descriptors.saturating_sub(1),
            descriptor_limits: limits(&text("/proc/self/limits")),
            load: load(&text("/proc/loadavg")),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        }
    }
}

/// User and system time of `/proc/self/stat`, ms. The second field, the program's name, may hold anything, also `)`.
fn cpu(stat: &str) -> (u64, u64) {
    let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = behind.split_ascii_whitespace().skip(11).map(|n| n.parse().unwrap_or(0_u64) * TICK_MS);
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// The number behind a name.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|v| v.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The soft and the hard limit of open files.
fn limits(text: &str) -> (u64, u64) {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut numbers = line.unwrap_or_default().split_ascii_whitespace().map(|n| n.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn load(text: &str) -> [f64; 3] {
    let mut numbers = text.split_ascii_whitespace().map(|n| n.parse().unwrap_or(0.0));
    [0; 3].map(|_: u8| numbers.next().unwrap_or(0.0))
}

/// Reads [`Process`] when it isn't fresh any more.
#[derive(Debug, Default)]
pub struct Processes(Mutex<Option<(Mono, Process)>>);

impl Processes {
    /// As it is now, or was a second ago.
    pub fn now(&self, world: &World) -> Process {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = world.clock.mono();
        match *last {
            Some((at, process)) if now.since(at) < FRESH => process,
            _ => last.insert((now, Process::read(world))).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_proc() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 90 0 0 0 12 34 0 0 20 0 3 0 100 1 2\n";
        assert_eq!(cpu(stat), (120, 340));
        assert_eq!((cpu(""), cpu("1 (x) S")), ((0, 0), (0, 0)));
        let status = "Name:\tpillion\nThreads:\t3\nVmRSS:\t    2048 kB\n";
        assert_eq!((field(status, "VmRSS:"), field(status, "Threads:"), field(status, "No:")), (2048, 3, 0));
        let text =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 unlimited  files\n";
        assert_eq!((limits(text), limits("")), ((1024, u64::MAX), (0, 0)));
        assert_eq!((load("0.50 1.25 2.00 1/200 7\n"), load("")), ([0.5, 1.25, 2.0], [0.0; 3]));
    }

    #[test]
    fn this_process_has_them_all() {
        let world = World::real();
        let processes = Processes::default();
        let process = processes.now(&world);
        assert!(process.resident > 1 << 20 && process.threads > 0 && process.descriptors > 2, "{process:?}");
        assert!(process.descriptor_limits.0 > 0 && process.cores > 0, "{process:?}");
        assert_eq!(processes.now(&world), process, "within a second nothing is read again");
    }
}
