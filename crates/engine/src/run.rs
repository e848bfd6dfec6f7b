//! One run: from the first batch to the exit.
//!
//! Comes in: signals, what else ends a run ([`Ending`]), and how far readers and ledger are. Goes out: commands to the
//! readers ([`Reading`]), the receipt, again every second while the end is near, since a SIGKILL runs no handler.
//!
//! Always holds: only [`Drain`] decides when a run ends; nothing here waits for a file system or a target without a
//! limit: receipts are written on a thread of their own, one at a time.
//!
//! Tested end to end by the loss trials; the decisions are tested in `drain.rs` and below.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillion_queue::Queue;
use pillion_world::{Mono, OpenHow, UnixMillis, World};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::account::Counts;
use crate::drain::{Cause, Drain, Phase, Progress};
use crate::ledger::Ledger;
use crate::receipt::{Receipt, Unread};
use crate::signals::while_held;
use crate::termination::Termination;
use crate::trigger::flag::Flag;

/// How often receipts are rewritten while the end is near.
pub const RECEIPT_PERIOD: Duration = Duration::from_secs(1);
/// How long a registry that can't be written is tried again when everything else is done.
pub const REGISTRY_LIMIT: Duration = Duration::from_secs(5);
/// How long after the drain's begin the first receipt is written: most runs have ended by then.
pub const RECEIPT_DELAY: Duration = Duration::from_millis(200);
/// How long the last receipt may take to be written.
pub const RECEIPT_LIMIT: Duration = Duration::from_secs(2);

/// A native sidecar gets SIGTERM when main has ended, but where main has used up the pod's grace period, in the very moment
/// in which it is killed (kubelet waits for it no longer): what it writes within this time is still read.
pub const LAST_WORDS: Duration = Duration::from_millis(300);
/// How long a command that was killed may take to be gone.
pub const COMMAND_END: Duration = Duration::from_millis(1500);

/// The readers, as the run sees them.
pub trait Reading: Send + Sync {
    /// Look at everything once more, read it to its end, hold nothing back.
    fn drain(&self, cause: &Cause);
    /// How far that is: everything is read; everything that was held back has gone out. Whoever changes this tells
    /// [`Ledger::tell`].
    fn progress(&self) -> (bool, bool);
    /// What is there and wasn't read, and what was destroyed before it could be. Answers within a fraction of a second.
    fn report(&self) -> ReadingReport;
}

/// What the readers say for the receipt.
#[derive(Clone, Debug, Default)]
pub struct ReadingReport {
    /// What is there and isn't in batches yet, as far as is known.
    pub unread: Vec<Unread>,
    /// What is there and won't be read: not allowed, or more files than the table takes.
    pub unreadable: Vec<Unread>,
    /// Folders (and files) that nobody here is allowed to look at, so that it isn't known what is there; and how many more.
    pub unseen: (Vec<String>, u64),
    /// What was destroyed before it could be read.
    pub lost: Vec<Unread>,
    /// Paths, and what was counted of them apart from batches: see [`Accounts::counted`](crate::account::Accounts::counted).
    pub counted: Vec<(String, Counts)>,
}

/// What ends a run, beside signals.
#[derive(Debug)]
pub enum Ending {
    /// Drain for this cause.
    Drain(Cause),
    /// The run can't go on: the output or a reader failed for good.
    Failed(String),
}

/// What the user chose about the end of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most time for the drain after a flag, a process' end or SIGINT; `None` = no limit (`--once`, standard input,
    /// unless set).
    pub limit: Option<Duration>,
    /// The time between SIGTERM and the kill, when it is known.
    pub grace: Option<Duration>,
    /// A flag, a lock or a process is waited for, which SIGTERM doesn't replace: the main container may write on for its whole
    /// grace period.
    pub awaits_work: bool,
    /// The work is a wrapped command: SIGINT is its business while it runs, and nothing ends the run before it.
    pub wraps_command: bool,
    /// How long files are followed after SIGTERM when no work is awaited. In a pod: [`LAST_WORDS`].
    pub last_words: Duration,
    /// `--receipt`: where the receipt goes as JSON.
    pub receipt: Option<PathBuf>,
    /// Where the pod's termination message goes.
    pub termination: Option<Termination>,
    /// Whether a later run on the same data path can go on.
    pub resumable: bool,
    /// Draws a progress line on a terminal while draining.
    pub progress_line: bool,
}

/// How the run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The final receipt.
    pub receipt: Receipt,
    /// Why the run couldn't go on, when that ended it.
    pub failure: Option<String>,
}

/// Tells a shipper that its pod is being ended: SIGURG, which does nothing to a process that doesn't listen to it. The shell
/// of the image sends it to shippers in its background, whose own end is the script's business; where the script itself
/// sends SIGTERM, that means what it always means.
pub const POD_ENDS: rustix::process::Signal = rustix::process::Signal::URG;

/// SIGTERM, SIGINT and [`POD_ENDS`], from the moment that this is made: before it, the first two end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    pod_ends: Signal,
    /// A background job of a shell without job control: such a shell has it ignore SIGINT. It is listened to all the same.
    in_background: bool,
}

impl Signals {
    /// Listens, within a tokio runtime, while the process has no other thread. What comes before [`Run::run`] isn't lost.
    pub fn listen(world: &World) -> std::io::Result<Signals> {
        let in_background = ignores_interrupt(world);
        while_held(|| {
            Ok(Signals {
                in_background,
                pod_ends: signal(SignalKind::from_raw(POD_ENDS.as_raw()))?,
                terminate: signal(SignalKind::terminate())?,
                // The last: who waits for this one to be listened to can rely on the others.
                interrupt: signal(SignalKind::interrupt())?,
            })
        })
    }
}

/// Whether this process was started with SIGINT ignored.
fn ignores_interrupt(world: &World) -> bool {
    let status = world.fs.read(Path::new("/proc/self/status"), 1 << 16).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (rustix::process::Signal::INT.as_raw() - 1) != 0)
}

/// Everything a run needs.
pub struct Run {
    /// Clock and files.
    pub world: World,
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The queue behind it.
    pub queue: Arc<Queue>,
    /// The readers.
    pub reading: Arc<dyn Reading>,
    /// The flag, to ask for the exit code in it.
    pub flag: Option<Flag>,
    /// Called when the drain begins: outputs needn't spare the target any longer than it takes.
    pub hurry: Box<dyn Fn() + Send + Sync>,
    /// Told of SIGTERM: a work that has failed isn't started again after it.
    pub terminated: watch::Sender<bool>,
    /// Ends a wrapped command for good: what it would write in its last moments before the kill could not be delivered.
    pub end_command: Box<dyn Fn() + Send + Sync>,
    /// The signals.
    pub signals: Signals,
    /// What ends the run beside signals.
    pub endings: mpsc::Receiver<Ending>,
    /// The settings.
    pub settings: Settings,
    /// The agent's id, for the receipt.
    pub agent_id: String,
    /// The target's last error, for the receipt.
    pub target_error: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

struct State {
    drain: Drain,
    started: UnixMillis,
    /// SIGTERM came while work is awaited: when the drain must begin, if the grace period is known.
    terminated: bool,
    begin_at: Option<Mono>,
    /// The wrapped command was ended, since it didn't end by itself.
    command_ended: bool,
    /// SIGKILL is expected then, less a margin.
    kill_at: Option<Mono>,
    next_receipt: Option<Mono>,
    writing: Option<JoinHandle<()>>,
    interrupts: u32,
    /// Everything is settled, and the registrar was asked to write it down at once.
    flush_asked: bool,
    /// Since when everything is settled and isn't in the registry.
    settled_at: Option<Mono>,
    failure: Option<String>,
}

impl Run {
    /// Runs until the drain has ended. Must be called within the tokio runtime that runs the outputs.
    pub async fn run(mut self) -> Outcome {
        let mut state = State {
            drain: Drain::default(),
            started: self.world.clock.wall(),
            terminated: false,
            begin_at: None,
            command_ended: false,
            kill_at: None,
            next_receipt: None,
            writing: None,
            interrupts: 0,
            flush_asked: false,
            settled_at: None,
            failure: None,
        };
        loop {
            self.advance(&mut state);
            let work_runs = self.settings.wraps_command && state.drain.phase() == Phase::Following;
            if state.drain.phase().is_final() || (state.failure.is_some() && !work_runs) {
                break;
            }
            self.wait(&mut state).await;
        }
        self.finish(state).await
    }

    async fn wait(&mut self, state: &mut State) {
        let next = [state.drain.deadline(), state.begin_at, state.next_receipt].into_iter().flatten().min();
        let sleep = next.map(|at| at.since(self.world.clock.mono()));
        tokio::select! {
            Some(ending) = self.endings.recv() => match ending {
                Ending::Drain(cause) => self.start(state, cause, self.settings.limit),
                Ending::Failed(why) => {
                    tracing::error!("{why}");
                    state.failure = Some(why);
                }
            },
            _ = self.signals.terminate.recv() => self.on_terminate(state, self.settings.awaits_work),
            _ = self.signals.pod_ends.recv() => {
                self.on_terminate(state, self.settings.awaits_work || self.signals.in_background);
            }
            _ = self.signals.interrupt.recv() => self.on_interrupt(state),
            () = self.ledger.progressed() => {}
            () = async { tokio::time::sleep(sleep.unwrap_or_default()).await }, if sleep.is_some() => {}
        }
    }

    fn start(&self, state: &mut State, cause: Cause, limit: Option<Duration>) {
        tracing::info!(cause = cause.as_str(), "draining: reading every file to its end");
        let now = self.world.clock.mono();
        let until_kill = state.kill_at.map(|at| at.since(now));
        let limit = match (limit, until_kill) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.reading.drain(&cause);
        state.drain.start(cause, now, limit);
        (self.hurry)();
        state.begin_at = None;
        state.next_receipt.get_or_insert(now.plus(RECEIPT_DELAY));
    }

    /// The pod ends. `awaits_work`: what it waits for may still write.
    fn on_terminate(&self, state: &mut State, awaits_work: bool) {
        let now = self.world.clock.mono();
        if state.terminated && (awaits_work || state.drain.phase() != Phase::Following) {
            return;
        }
        if !std::mem::replace(&mut state.terminated, true) {
            self.terminated.send_replace(true);
            state.next_receipt = Some(now);
            state.kill_at = self.settings.grace.map(|g| now.plus(g.saturating_sub(KILL_MARGIN)));
        }
        match plan_for_terminate(awaits_work, self.settings.grace) {
            OnTerminate::DrainNow if self.settings.last_words.is_zero() => self.start(state, Cause::Terminate, None),
            OnTerminate::DrainNow => state.begin_at = Some(now.plus(self.settings.last_words)),
            OnTerminate::FollowUntil(delay) => {
                tracing::info!("SIGTERM: following on until the work's end is seen, since it may write to the last");
                state.begin_at = delay.map(|d| now.plus(d));
            }
        }
    }

    fn on_interrupt(&self, state: &mut State) {
        if self.settings.wraps_command && state.drain.phase() == Phase::Following {
            return;
        }
        state.interrupts += 1;
        if state.interrupts > 1 {
            tracing::warn!("second SIGINT: stopping now");
            state.drain.stop_now();
        } else {
            self.start(state, Cause::Interrupt, self.settings.limit);
        }
    }

    fn advance(&self, state: &mut State) {
        let now = self.world.clock.mono();
        if state.begin_at.is_some_and(|at| now >= at) {
            if self.settings.wraps_command && !state.command_ended {
                tracing::warn!(
                    "the command hasn't ended after SIGTERM, and the kill is near: ending it to ship its last lines"
                );
                (self.end_command)();
                state.command_ended = true;
                state.begin_at = Some(now.plus(COMMAND_END));
            } else {
                self.start(state, Cause::Terminate, None);
            }
        }
        if state.drain.phase() != Phase::Following {
            let (read_to_end, flushed) = self.reading.progress();
            if read_to_end && flushed {
                self.queue.flush();
            }
            let settled = read_to_end && flushed && self.ledger.is_settled();
            if settled && !state.flush_asked {
                state.flush_asked = true;
                self.ledger.flush();
            }
            let synced = settled && (self.ledger.is_synced() || self.gives_up_on_registry(state, now));
            while state.drain.advance(Progress { read_to_end, flushed, settled, synced }, now) {
                tracing::debug!(phase = %state.drain.phase(), "drain");
            }
        } else {
            state.drain.advance(Progress::default(), now);
        }
        if state.next_receipt.is_some_and(|at| now >= at) {
            state.next_receipt = Some(now.plus(RECEIPT_PERIOD));
            self.write_receipt(state);
        }
    }

    /// Everything is delivered, and only the registry can't be written: a full disk doesn't hold the end for minutes.
    /// The receipt says that a next run would send again.
    fn gives_up_on_registry(&self, state: &mut State, now: Mono) -> bool {
        let since = *state.settled_at.get_or_insert(now);
        is_hopeless(now.since(since), self.ledger.registry_error().is_some())
    }

    fn receipt(&self, state: &mut State) -> Receipt {
        if let Some(code) = self.flag.as_ref().and_then(Flag::local_exit_code) {
            state.drain.work_exited(code);
        }
        let (mut accounts, unacked) = self.ledger.state();
        let reading = self.reading.report();
        for lost in &reading.lost {
            accounts.lost(&lost.path, lost.to.saturating_sub(lost.from));
        }
        for (path, counts) in &reading.counted {
            accounts.counted(path, counts);
        }
        let settled = state.drain.phase() == Phase::Committed;
        let mut unread = reading.unreadable;
        if !settled {
            unread.extend(reading.unread);
        }
        Receipt {
            version: env!("CARGO_PKG_VERSION"),
            agent_id: self.agent_id.clone(),
            phase: state.drain.phase(),
            cause: state.drain.cause().cloned(),
            stopped: state.drain.stopped(),
            started_ms: state.started.0,
            written_ms: self.world.clock.wall().0,
            drain_ms: u64::try_from(state.drain.elapsed(self.world.clock.mono()).as_millis()).unwrap_or(u64::MAX),
            accounts,
            unacked,
            unread,
            unseen: reading.unseen,
            registry_error: self.ledger.registry_error(),
            held_back: self.ledger.holds_back(),
            queue: self.ledger.disk_queue(),
            target_error: if settled { None } else { (self.target_error)() },
            resumable: self.settings.resumable,
        }
    }

    fn write_receipt(&self, state: &mut State) {
        if state.writing.as_ref().is_some_and(|w| !w.is_finished()) {
            return; // a hung file system gets one thread, not one each second
        }
        let receipt = self.receipt(state);
        if self.settings.progress_line {
            show_progress(&receipt);
        }
        let (world, settings) = (self.world.clone(), self.settings.clone());
        state.writing = Some(tokio::task::spawn_blocking(move || write(&world, &settings, &receipt)));
    }

    async fn finish(self, mut state: State) -> Outcome {
        self.queue.close();
        let receipt = self.receipt(&mut state);
        if self.settings.progress_line {
            show_progress(&receipt);
        }
        if let Some(before) = state.writing.take() {
            let _ = tokio::time::timeout(RECEIPT_LIMIT, before).await;
        }
        let (world, settings, copy) = (self.world.clone(), self.settings.clone(), receipt.clone());
        let writing = tokio::task::spawn_blocking(move || write(&world, &settings, &copy));
        if tokio::time::timeout(RECEIPT_LIMIT, writing).await.is_err() {
            tracing::error!("the receipt couldn't be written in time: its file system doesn't answer");
        }
        Outcome { receipt, failure: state.failure }
    }
}

/// Whether a registry isn't waited for any more, when all else has been done for this long.
fn is_hopeless(waited: Duration, failing: bool) -> bool {
    failing && waited >= REGISTRY_LIMIT
}

fn write(world: &World, settings: &Settings, receipt: &Receipt) {
    if let Some(path) = &settings.receipt {
        let mut json = receipt.json().to_string();
        json.push('\n');
        if let Err(e) = replace(world, path, json.as_bytes()) {
            tracing::error!(path = %path.display(), error = %e, "the receipt can't be written");
        }
    }
    if let Some(termination) = &settings.termination {
        termination.write(world, receipt);
    }
}

/// Without a sync of the folder: after a power failure the receipt before may be back, which claims less.
fn replace(world: &World, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let file = world.fs.open(&new, OpenHow::Truncate(0o644))?;
    file.write_all(content)?;
    file.sync()?;
    world.fs.rename(&new, path)
}

fn show_progress(receipt: &Receipt) {
    use std::io::Write as _;
    let c = receipt.accounts.totals();
    let unread: u64 = receipt.unread.iter().map(|u| u.to.saturating_sub(u.from)).sum();
    let end = if receipt.phase.is_final() { "\n" } else { "" };
    let mut err = std::io::stderr().lock();
    let _ = write!(
        err,
        "\r\x1b[Kdraining ({}): {} of {} events acknowledged, {unread} bytes to read{end}",
        receipt.phase, c.acked, c.events
    );
    let _ = err.flush();
}

#[derive(Debug, PartialEq, Eq)]
enum OnTerminate {
    /// Drain at once, until the kill.
    DrainNow,
    /// Go on following; begin to drain after this time at the latest (`None` = unknown: until the kill).
    FollowUntil(Option<Duration>),
}

fn plan_for_terminate(awaits_work: bool, grace: Option<Duration>) -> OnTerminate {
    if awaits_work { OnTerminate::FollowUntil(grace.map(|g| split_grace(g).0)) } else { OnTerminate::DrainNow }
}

/// How long before the kill the last receipt must be written.
const KILL_MARGIN: Duration = Duration::from_millis(500);

/// A grace period, split into the time to follow and the time to drain: a quarter of it for the drain, at least 2 s
/// and at most 30 s, less a margin before the kill; where there is hardly any, half of it. SIGTERM can come in the moment
/// in which the work is killed: what it writes last is still followed.
fn split_grace(grace: Duration) -> (Duration, Duration) {
    let usable = grace.saturating_sub(KILL_MARGIN);
    let drain = (grace / 4).clamp(Duration::from_secs(2), Duration::from_secs(30)).min(usable / 2);
    (usable - drain, drain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigterm_means_the_end_unless_work_is_awaited() {
        let s = Duration::from_secs;
        assert_eq!(plan_for_terminate(false, None), OnTerminate::DrainNow);
        assert_eq!(plan_for_terminate(false, Some(s(30))), OnTerminate::DrainNow);
        assert_eq!(plan_for_terminate(true, None), OnTerminate::FollowUntil(None));
        assert_eq!(plan_for_terminate(true, Some(s(30))), OnTerminate::FollowUntil(Some(s(22))));
    }

    #[test]
    fn a_registry_that_cannot_be_written_is_waited_for_only_so_long() {
        let ms = Duration::from_millis;
        assert!(!is_hopeless(ms(4999), true) && is_hopeless(ms(5000), true));
        assert!(!is_hopeless(Duration::from_secs(3600), false), "a slow disk isn't a full one");
    }

    #[test]
    fn a_grace_period_is_split_without_a_rest() {
        for secs in [0, 1, 2, 3, 30, 600] {
            let grace = Duration::from_secs(secs);
            let (follow, drain) = split_grace(grace);
            assert!(follow + drain <= grace && follow >= drain.min(grace / 4), "{grace:?}");
        }
    }
}
