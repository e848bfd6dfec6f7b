//! The simulated machine: a clock, a disk, randomness, and the application that writes logs. One seed replays a run.
//!
//! Comes in: a seed, and what the driver does ([`SimWorld`]) and the application writes ([`App`]). Goes out: a
//! [`World`] for the process under test, with faults and crashes.
//!
//! # Fault model
//! The process under test sees the disk through [`SimWorld::world`]. Each of its calls of the file system is a *step*;
//! steps are counted from 1, and a crash can be set to happen in the middle of any of them
//! ([`SimWorld::crash_at`]): the call has then taken effect or not, a write up to any byte. From then on each call of that
//! process fails, for ever, until [`SimWorld::restart`] and a new [`SimWorld::world`]; locks are released.
//!
//! - [`Crash::Process`]: the process is killed. All it wrote is still there, synced or not.
//! - [`Crash::Machine`]: the power fails. Of what the process wrote, what it synced is there. Of the rest:
//!   - *data*: from the last `File::sync` on, either the writes up to one of them or any selection of them is there; each
//!     of those may be torn at any byte, or be there in length alone, with zeros for bytes;
//!   - *names*: a file that was made, renamed or removed is so for certain only after `sync_dir` of the directory
//!     (either one, for a rename between two); before that either the first few of all pending changes are there (as a
//!     journal has it) or any selection of them (as POSIX has it). A rename is there whole or not at all. `File::sync`
//!     doesn't make a file's name durable.
//! - A sync that fails ([`Faults::sync_error`]) may lose for good what it should have written, while it is still to be
//!   seen until the machine fails; a later sync succeeds and doesn't bring it back (as on Linux).
//!
//! What the application writes is outside of this: it is durable at once and its calls never fail. Otherwise each machine
//! crash would take lines with it that no shipper could have shipped.
//!
//! Inode numbers are used again soon after the last name and the last open file are gone, mostly the number freed last.
//!
//! Below a path that is marked [`SimWorld::network`], births aren't told, and sizes, names and listings lie as a client's
//! caches do: see [`Faults`]. Two things are true there: what a file that was opened just now tells of itself first, and
//! names and listings of a directory that was looked at itself after they changed. Data that is read is never old.
//! docs/decisions/network-file-systems.md tells which real promises these are. `EINTR` isn't
//! simulated: `pillion_world::Fs` has retried it. Permissions aren't checked, but [`SimWorld::read_only`] makes a
//! subtree fail with `EROFS`.
//!
//! # Always holds
//! The same seed and the same calls in the same order give the same results, on every machine. Time moves only by
//! [`SimWorld::advance`] and [`SimWorld::jump_wall`].
//!
//! # A run
//! ```
//! use pillion_sim::world::{Crash, SimWorld};
//! let sim = SimWorld::new(7);
//! sim.app().append("/logs/a.log", b"one\n")?;
//! sim.crash_at(sim.steps() + 3, Crash::Machine);
//! let world = sim.world();
//! // … drive the code under test with `world` until sim.crashed(), drop its objects, then:
//! sim.restart();
//! let world = sim.world();
//! # drop(world);
//! # std::io::Result::Ok(())
//! ```
//! Tested in `tests.rs`.

mod app;
mod cache;
mod disk;
mod faults;
mod names;
mod rng;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_world::{Clock, Mono, Random, UnixMillis, World};

pub use app::{App, AppFile};
pub use faults::Faults;
pub use rng::Rng;

use disk::Disk;

/// 2026-11-23T18:40:00Z: when each run begins.
const START_MS: i64 = 1_795_459_200_000;
/// How many of the last steps are kept for [`SimWorld::trace`].
const TRACE: usize = 400;

/// What ends the process under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed: the page cache stays.
    Process,
    /// The power fails: what wasn't synced may be gone.
    Machine,
}

/// The simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct SimWorld {
    state: Arc<Mutex<State>>,
}

struct State {
    disk: Disk,
    faults: Faults,
    rng: Rng,
    random: Rng,
    mono_ns: u64,
    wall_ms: i64,
    steps: u64,
    crash_at: Option<(u64, Crash)>,
    /// Counts processes: objects of an earlier one fail.
    process: u64,
    alive: bool,
    /// Counts the machine's starts: what the application holds open ends with it.
    boot: u64,
    /// Locked inodes, each with the process that holds it; `None` = another program.
    locks: BTreeMap<u64, Option<u64>>,
    read_only: Vec<PathBuf>,
    full: bool,
    trace: Option<VecDeque<String>>,
}

/// How far a call takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// As it should.
    Whole,
    /// The caller is told that it failed: its effect may be partial.
    Failing,
    /// The process ends in the midst of it: its effect may be partial.
    Dying,
}

fn crashed() -> io::Error {
    io::Error::other("simulated: the process has crashed")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimWorld {
    /// A machine with an empty disk, whose every accident follows from the seed. No faults but those that are asked for.
    pub fn new(seed: u64) -> SimWorld {
        let state = State {
            disk: Disk::new(),
            faults: Faults::NONE,
            rng: Rng::new(seed),
            random: Rng::new(seed ^ 0x5eed_0000_0000_0000),
            mono_ns: 1,
            wall_ms: START_MS,
            steps: 0,
            crash_at: None,
            process: 1,
            alive: true,
            boot: 1,
            locks: BTreeMap::new(),
            read_only: Vec::new(),
            full: false,
            trace: None,
        };
        SimWorld { state: Arc::new(Mutex::new(state)) }
    }

    /// The world as the current process sees it; of no use after a crash.
    pub fn world(&self) -> World {
        let process = lock(&self.state).process;
        World {
            clock: Arc::new(self.clone()),
            fs: Arc::new(view::SimFs::new(Arc::clone(&self.state), process)),
            random: Arc::new(self.clone()),
        }
    }

    /// The application that writes logs, and the driver's own look at the disk.
    pub fn app(&self) -> App {
        App::new(Arc::clone(&self.state))
    }

    /// From now on, these faults.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// Whether the disk is full for the process under test: each write fails with `ENOSPC`, some after a few bytes.
    pub fn set_full(&self, full: bool) {
        lock(&self.state).full = full;
    }

    /// Marks a subtree as a network file system with a device number of its own. Before anything is made in it.
    pub fn network(&self, mount: impl Into<PathBuf>) {
        lock(&self.state).disk.network.push(mount.into());
    }

    /// Lets local files, too, not tell their birth (`Meta::birth_ns`), as old file systems do. Network ones never tell.
    pub fn hide_births(&self) {
        lock(&self.state).disk.births = false;
    }

    /// Makes all changes below a path fail with `EROFS` for the process under test.
    pub fn read_only(&self, path: impl Into<PathBuf>) {
        lock(&self.state).read_only.push(path.into());
    }

    /// How many calls of the file system the processes under test have made, over all restarts.
    pub fn steps(&self) -> u64 {
        lock(&self.state).steps
    }

    /// Lets the process crash in the middle of this step (see [`SimWorld::steps`]); a later call replaces it.
    pub fn crash_at(&self, step: u64, how: Crash) {
        lock(&self.state).crash_at = Some((step, how));
    }

    /// Takes back [`SimWorld::crash_at`].
    pub fn no_crash(&self) {
        lock(&self.state).crash_at = None;
    }

    /// Crashes now, between two steps.
    pub fn crash(&self, how: Crash) {
        lock(&self.state).crash(how);
    }

    /// Whether the process has crashed and no new one was started.
    pub fn crashed(&self) -> bool {
        !lock(&self.state).alive
    }

    /// Starts a new process; one that is still there is killed.
    pub fn restart(&self) {
        let mut state = lock(&self.state);
        if state.alive {
            state.crash(Crash::Process);
        }
        state.process += 1;
        state.alive = true;
    }

    /// Lets time pass, on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut state = lock(&self.state);
        let ns = state.mono_ns.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
        // Whole milliseconds of the sum: many small steps make up as much wall time as one large.
        state.wall_ms += (ns / 1_000_000 - state.mono_ns / 1_000_000) as i64;
        state.mono_ns = ns;
    }

    /// Sets the wall clock forward or back, as an administrator or NTP does.
    pub fn jump_wall(&self, by_ms: i64) {
        lock(&self.state).wall_ms += by_ms;
    }

    /// A random number below `n` for the driver, from the run's seed.
    pub fn below(&self, n: u64) -> u64 {
        lock(&self.state).rng.below(n)
    }

    /// Begins to keep the last 400 steps for [`SimWorld::trace`].
    pub fn start_trace(&self) {
        lock(&self.state).trace = Some(VecDeque::new());
    }

    /// Notes something beside the steps, where they are kept or logged (each is a `tracing` event of the level `TRACE`).
    pub fn note(&self, what: impl FnOnce() -> String) {
        lock(&self.state).note(what);
    }

    /// The last steps, one a line: what a failing seed prints.
    pub fn trace(&self) -> String {
        lock(&self.state).trace.iter().flatten().fold(String::new(), |all, line| all + line + "\n")
    }
}

impl Clock for SimWorld {
    fn mono(&self) -> Mono {
        Mono(lock(&self.state).mono_ns)
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(lock(&self.state).wall_ms)
    }
}

impl Random for SimWorld {
    fn fill(&self, buf: &mut [u8]) {
        let mut state = lock(&self.state);
        for chunk in buf.chunks_mut(8) {
            let bytes = state.random.draw().to_le_bytes();
            chunk.copy_from_slice(bytes.get(..chunk.len()).unwrap_or_default());
        }
    }
}

impl State {
    fn now_ns(&self) -> i128 {
        i128::from(self.wall_ms) * 1_000_000
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let step = self.steps;
        if tracing::enabled!(tracing::Level::TRACE) {
            tracing::trace!("{step}: {}", what());
            return;
        }
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(format!("{step}: {}", what()));
        }
    }

    /// One step of a process: does `act`, or fails with `error` in `chance` of 10,000 cases, or crashes. When it fails or
    /// crashes, `act` may have been done all the same; its argument tells it.
    /// `act` must make no object that locks the state when it is dropped unless the effect is whole.
    fn step<T>(
        &mut self,
        process: u64,
        (chance, error): (u32, rustix::io::Errno),
        what: impl FnOnce() -> String,
        act: impl FnOnce(&mut State, Effect) -> io::Result<T>,
    ) -> io::Result<T> {
        if !self.alive || process != self.process {
            return Err(crashed());
        }
        self.steps += 1;
        let dying = self.crash_at.filter(|(step, _)| *step == self.steps);
        let fails = self.rng.chance(chance);
        let effect = match dying {
            Some(_) => Effect::Dying,
            None if fails => Effect::Failing,
            None => Effect::Whole,
        };
        let does = effect == Effect::Whole || self.rng.chance(5000);
        let outcome = match effect {
            Effect::Whole => "",
            _ if does => ", fails with effect",
            _ => ", fails without effect",
        };
        let how = dying.map(|(_, how)| how);
        self.note(|| format!("{}{outcome}{}", what(), how.map_or(String::new(), |how| format!(", crash: {how:?}"))));
        let done = if does { act(self, effect) } else { Err(error.into()) };
        if let Some(how) = how {
            self.crash(how);
            return Err(crashed());
        }
        if fails { Err(error.into()) } else { done }
    }

    fn crash(&mut self, how: Crash) {
        self.note(|| format!("crash: {how:?}"));
        self.alive = false;
        self.crash_at = None;
        self.locks.retain(|_, holder| holder.is_none());
        match how {
            Crash::Process => self.disk.end_process(),
            Crash::Machine => {
                self.boot += 1;
                let State { disk, rng, .. } = self;
                disk.lose_power(rng);
            }
        }
    }

    fn writable(&self, real: &Path) -> io::Result<()> {
        if self.read_only.iter().any(|p| real.starts_with(p)) {
            return Err(rustix::io::Errno::ROFS.into());
        }
        Ok(())
    }
}
