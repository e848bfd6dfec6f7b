//! The first process of a container whose command is a shell: it runs the real shell, and outlives it until all is delivered.
//!
//! ```text
//!            the shell ends                     no shipper is left              all have ended, or 1 s
//!  Running ────────────────▶ waiting for drains ─────────────────▶ last words ─────────────────▶ exit, the shell's code
//! ```
//!
//! Comes in: the shell's command line, signals, the ends of processes. Goes out: the shell's exit code, 128 + n when signal n
//! ended it.
//!
//! Always holds:
//! - It reaps whatever ends; as a subreaper also where it isn't process 1. It never signals a process that doesn't descend
//!   from it.
//! - A signal from outside goes to the shell when that has a trap for it (or has become another program with `exec` that
//!   catches it), as process 1 gets only what it catches. SIGTERM else goes to the shell's children, see [`Init::terminate`].
//! - While the shell runs, a shipper in the background isn't told to drain, only that the pod ends ([`POD_ENDS`]): the main
//!   container may write for its whole grace period, and the script's own loop knows when it is done.
//! - When the shell has ended, each shipper is told once to drain (SIGINT; `exec`'s by the end of its command), as soon as it
//!   listens: a Job that was done before its sidecar began is shipped too. All others get SIGTERM.
//!
//! Tested below for its rules, and with real processes in namespaces by `cargo xtask e2e image`.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pillion_engine::run::POD_ENDS;
use pillion_world::{Mono, World};
use rustix::process::{Pid, Signal, WaitOptions, kill_process};

use super::procs::{self, Kind, Kinds, Proc};
use super::signals::{Came, Signals};
use crate::complain;

/// How often processes are looked at while one hasn't been told yet what it is to be told.
const SOON: Duration = Duration::from_millis(10);
/// The same when only ends are waited for, which also come as signals.
const LATER: Duration = Duration::from_secs(1);
/// How long after the shell's end something that it forked may take to become another program.
const FORK_LIMIT: Duration = Duration::from_secs(10);
/// How long a shipper may take until it listens to signals.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the others are waited for, when no shipper is left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the shell and everything after it.
pub(super) fn run(world: &World, mut shell: Command, busybox: &Path) -> u8 {
    // First of all: a signal that comes now is kept.
    let signals = Signals::block();
    let own = rustix::process::getpid();
    if let Err(e) = rustix::process::set_child_subreaper(Some(own)) {
        complain(&format!("sh: what the shell leaves behind can't be waited for: {e}"));
    }
    signals.unblock_in(&mut shell);
    let shell = match shell.spawn() {
        Ok(child) => Pid::from_child(&child),
        Err(e) => {
            complain(&format!("sh: {}: {e}", busybox.display()));
            return super::NO_SHELL;
        }
    };
    let init = Init {
        world,
        own: own.as_raw_nonzero().get(),
        shell,
        kinds: Kinds::new(busybox),
        told: HashMap::new(),
        terminating: false,
        ended: None,
        done: None,
    };
    init.live(&signals)
}

struct Init<'a> {
    world: &'a World,
    own: i32,
    shell: Pid,
    kinds: Kinds,
    /// What each process has been told last, and as what: it may become another program.
    told: HashMap<(i32, u64), (Kind, i32)>,
    /// SIGTERM has come from outside.
    terminating: bool,
    /// The shell's exit code, and when it ended.
    ended: Option<(u8, Mono)>,
    /// Since when no shipper is left.
    done: Option<Mono>,
}

impl Init<'_> {
    fn live(mut self, signals: &Signals) -> u8 {
        let mut pause = LATER;
        loop {
            let came = signals.wait(pause);
            self.reap();
            if let Some(came) = came {
                self.on_signal(came);
            }
            if let Some((code, since)) = self.ended {
                match self.end(since) {
                    Some(next) => pause = next,
                    None => return code,
                }
            } else if self.terminating {
                self.tell_of_the_end();
            }
        }
    }

    /// Asks for everything that has ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.shell && self.ended.is_none() {
                let code = status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)).unwrap_or(1);
                self.ended = Some((u8::try_from(code).unwrap_or(u8::MAX), self.world.clock.mono()));
            }
        }
    }

    fn on_signal(&mut self, came: Came) {
        // A terminal has told the whole foreground, and an ended child is reaped already.
        if came.from_kernel || came.signal == libc::SIGCHLD {
            return;
        }
        let Some(signal) = Signal::from_named_raw(came.signal) else { return };
        if self.ended.is_some() {
            if [Signal::TERM, Signal::INT].contains(&signal) {
                let shippers = self.descendants().into_iter().filter(|(kind, _)| *kind == Kind::Shipper);
                shippers.filter(|(_, p)| p.catches(came.signal)).for_each(|(_, p)| send(p.pid, signal));
            }
            return;
        }
        let shell = self.shell.as_raw_nonzero().get();
        let caught = Proc::read(shell).is_some_and(|p| p.catches(came.signal));
        if caught {
            send(shell, signal);
        }
        if signal == Signal::TERM {
            self.terminate(caught);
        }
    }

    /// SIGTERM from outside: the pod ends. Shippers are told just that: one in the background follows on, one that the
    /// shell waits for drains. The shell's other children get SIGTERM, unless the shell has it in hand; where a shipper
    /// runs, also not what the shell waits for in its loop (`sleep 1`): `set -e` would end the loop, and with it the shipper.
    fn terminate(&mut self, shell_caught: bool) {
        self.terminating = true;
        let all = self.descendants();
        let ships = all.iter().any(|(kind, _)| matches!(kind, Kind::Shipper | Kind::Wrapper));
        let shell = self.shell.as_raw_nonzero().get();
        for (kind, child) in all.iter().filter(|(_, p)| p.parent == shell && !shell_caught) {
            let spared = ships && !child.catches(libc::SIGTERM) && !child.ignores(Signal::INT);
            if *kind != Kind::Shipper && !spared {
                send(child.pid, Signal::TERM);
            }
        }
        self.tell_of_the_end();
    }

    /// All that descend from this process and haven't ended, each with what it is.
    fn descendants(&self) -> Vec<(Kind, Proc)> {
        let all = procs::descendants(self.own).into_iter().filter_map(|p| self.kinds.know(p.pid));
        all.filter(|(_, p)| p.state != b'Z').collect()
    }

    /// Tells each shipper once that the pod ends, as soon as it listens; also one that starts later.
    fn tell_of_the_end(&mut self) {
        for (kind, proc) in self.descendants() {
            let shell = proc.pid == self.shell.as_raw_nonzero().get();
            if !shell && kind == Kind::Shipper && proc.catches(POD_ENDS.as_raw()) {
                self.tell(&proc, Kind::Shipper, POD_ENDS);
            }
        }
    }

    /// Sends a signal, unless this was the last that the process got as the same program.
    fn tell(&mut self, proc: &Proc, kind: Kind, signal: Signal) {
        let last = self.told.insert((proc.pid, proc.started), (kind, signal.as_raw()));
        if last != Some((kind, signal.as_raw())) {
            send(proc.pid, signal);
        }
    }

    /// After the shell's end, which was at `since`: tells everybody, and says how long to wait; `None` when it is over.
    fn end(&mut self, since: Mono) -> Option<Duration> {
        let now = self.world.clock.mono();
        let after = now.since(since);
        let all = self.descendants();
        let (mut ships, mut soon) = (false, false);
        for (kind, proc) in &all {
            let what = what_to_tell(*kind, proc.is_running(), proc.catches(libc::SIGINT), after);
            ships |= matches!(kind, Kind::Shipper | Kind::Wrapper) || what.is_none();
            match what {
                Some(signal) => self.tell(proc, *kind, signal),
                None => soon = true,
            }
        }
        if all.is_empty() {
            return None;
        }
        if ships {
            self.done = None;
            return Some(if soon { SOON } else { LATER });
        }
        let done = *self.done.get_or_insert(now);
        if now.since(done) < LAST_WORDS {
            return Some(SOON);
        }
        // In a process namespace of its own the kernel would do this; in a shared one they would live on.
        all.iter().for_each(|(_, p)| send(p.pid, Signal::KILL));
        None
    }
}

/// What a process is told `after` the shell's end; `None` when it isn't yet known what it becomes, or it doesn't listen yet.
fn what_to_tell(kind: Kind, running: bool, catches_int: bool, after: Duration) -> Option<Signal> {
    match kind {
        Kind::Shipper if catches_int => Some(Signal::INT),
        Kind::Shipper if after < START_LIMIT => None,
        // Between fork and exec: this may be about to become the shipper.
        Kind::Shell if running && after < FORK_LIMIT => None,
        _ => Some(Signal::TERM),
    }
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_what_it_must_know_when_it_can_hear_it() {
        let s = Duration::from_secs;
        let cases = [
            (Kind::Shipper, false, true, s(0), Some(Signal::INT)),
            (Kind::Shipper, true, false, s(29), None),
            (Kind::Shipper, true, false, s(30), Some(Signal::TERM)),
            (Kind::Wrapper, false, true, s(0), Some(Signal::TERM)),
            (Kind::Shell, true, false, s(0), None),
            (Kind::Shell, false, false, s(0), Some(Signal::TERM)),
            (Kind::Shell, true, false, s(10), Some(Signal::TERM)),
            (Kind::Other, true, true, s(0), Some(Signal::TERM)),
        ];
        for (kind, running, catches, after, want) in cases {
            assert_eq!(what_to_tell(kind, running, catches, after), want, "{kind:?} {running} {catches} {after:?}");
        }
    }
}
