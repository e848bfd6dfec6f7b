//! The wrapped command: started, its output passed through and spooled, its end told.
//!
//! Comes in: a command line and two spools. Goes out: the command's output, on our own standard output and error; when
//! it ended and with which code, as a shell would tell it (128 + signal).
//!
//! Always holds:
//! - Bytes pass through before they are spooled, at once, in order.
//! - Signals go to the command through a pidfd, so that none reaches a stranger that has its id later.
//! - The command's end is told when it has ended and its output is read to the end, or [`LINGER`] later when something
//!   that it left running holds its output open.
//! - A spool that can't be written (a full disk) counts as dropped; it never stops the command.
//!
//! Tested below with real processes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use pillion_world::World;

use super::spool::{OnFull, Spool};

/// How long after the command's end its output is waited for, when something else still holds it open.
pub const LINGER: Duration = Duration::from_secs(1);
/// How often a full spool is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// A running command.
#[derive(Clone)]
pub struct Handle {
    pidfd: Arc<OwnedFd>,
    pid: i32,
}

/// The processes below this one, by what /proc says of parents.
fn descendants(world: &World, root: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    let _ = world.fs.read_dir(Path::new("/proc"), &mut |entry| {
        parents.extend(entry.name.to_str().and_then(|s| s.parse::<i32>().ok()).map(|pid| (pid, 0)));
        true
    });
    for (pid, parent) in &mut parents {
        let stat = world.fs.read(&PathBuf::from(format!("/proc/{pid}/stat")), 1 << 12).unwrap_or_default();
        // After the name, which may hold anything: the state, the parent.
        let rest = String::from_utf8_lossy(stat.rsplit(|b| *b == b')').next().unwrap_or_default()).into_owned();
        *parent = rest.split_whitespace().nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&above) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

impl Handle {
    /// Sends it a signal; one that has ended doesn't mind.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&*self.pidfd, signal);
    }

    /// Ends it with all that it has started, as a container's end would: by SIGKILL. What another process has adopted
    /// isn't found.
    pub fn kill(&self, world: &World) {
        let children = descendants(world, self.pid);
        self.signal(Signal::KILL);
        for pid in children.into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Told of bytes that pass through without being kept: the stream and how many.
pub type OnDropped = Arc<dyn Fn(&'static str, u64) + Send + Sync>;
/// Told once, when the command has ended, with its exit code and the spools.
pub type OnEnd = Box<dyn FnOnce(i32, Vec<Spool>) + Send>;

type From = Box<dyn Read + Send>;
type To = Box<dyn Write + Send>;

#[derive(Default)]
struct Pumps {
    done: Mutex<Vec<Spool>>,
    changed: Condvar,
}

/// Starts the command; the first spool is for its standard output, the second for its standard error.
pub fn start(
    command: &[OsString],
    spools: (Spool, Spool),
    on_full: OnFull,
    on_dropped: &OnDropped,
    on_end: OnEnd,
) -> io::Result<Handle> {
    let Some((program, args)) = command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command after `--`"));
    };
    let mut child = Command::new(program).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let pumps = Arc::new(Pumps::default());
    let out: Option<From> = child.stdout.take().map(|s| Box::new(s) as _);
    let err: Option<From> = child.stderr.take().map(|s| Box::new(s) as _);
    let streams: [(_, To, _, _); 2] =
        [(out, Box::new(io::stdout()), spools.0, "stdout"), (err, Box::new(io::stderr()), spools.1, "stderr")];
    for (from, to, spool, name) in streams {
        let Some(from) = from else { continue };
        let (pumps, on_dropped) = (Arc::clone(&pumps), Arc::clone(on_dropped));
        std::thread::Builder::new().name(name.into()).spawn(move || {
            let spool = pump(from, to, spool, on_full, &|bytes| on_dropped(name, bytes));
            pumps.done.lock().unwrap_or_else(PoisonError::into_inner).push(spool);
            pumps.changed.notify_all();
        })?;
    }
    std::thread::Builder::new().name("command".into()).spawn(move || {
        let code = child.wait().map_or(1, exit_code);
        let done = pumps.done.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = pumps.changed.wait_timeout_while(done, LINGER, |done| done.len() < 2);
        let spools = std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0);
        on_end(code, spools);
    })?;
    Ok(Handle { pidfd: Arc::new(pidfd), pid: pid.as_raw_nonzero().get() })
}

/// As a shell tells it: the exit code, or 128 and the signal's number.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn pump(mut from: impl Read, mut to: impl Write, mut spool: Spool, on_full: OnFull, dropped: &dyn Fn(u64)) -> Spool {
    let mut buf = vec![0; 32 << 10];
    let mut through = true;
    let mut told = false;
    loop {
        let n = match from.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let bytes = buf.get(..n).unwrap_or_default();
        // Whoever listened to us may have gone; the command doesn't have to end for that.
        through = through && to.write_all(bytes).and_then(|()| to.flush()).is_ok();
        if on_full == OnFull::Block {
            wait_for_room(&mut spool);
        }
        match spool.write(bytes) {
            Ok(0) => {}
            Ok(lost) => dropped(lost),
            Err(e) => {
                dropped(n as u64);
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(error = %e, "what the command prints can't be spooled, so it isn't shipped");
                }
            }
        }
    }
    if let Ok(lost @ 1..) = spool.end() {
        dropped(lost);
    }
    spool
}

#[expect(clippy::disallowed_methods, reason = "a pump thread has nothing else to wait for than disk space")]
fn wait_for_room(spool: &mut Spool) {
    while !spool.has_room() {
        std::thread::sleep(FULL_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::spool::{MAX_SIZE, Shared};
    use pillion_world::World;
    use std::sync::mpsc;

    fn no_drops() -> OnDropped {
        Arc::new(|_, _| {})
    }

    fn run(script: &str, signal: Option<Signal>) -> (i32, Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared {
            world: World::real(),
            dir: dir.path().join("exec"),
            limit: MAX_SIZE,
            held: Arc::default(),
            delivered: Arc::new(|_| None),
        };
        let spools = (Spool::open(shared.clone(), "stdout").unwrap(), Spool::open(shared.clone(), "stderr").unwrap());
        let command = ["/bin/sh", "-c", script].map(OsString::from);
        let (tell, ended) = mpsc::channel();
        let on_end = Box::new(move |code, _| tell.send(code).unwrap());
        let handle = start(&command, spools, OnFull::Drop, &no_drops(), on_end).unwrap();
        let read = |stream: &str| {
            let path = shared.dir.join(format!("{stream}-00000000.log"));
            shared.world.fs.read(&path, 1 << 20).unwrap_or_default()
        };
        if let Some(signal) = signal {
            while read("stdout").is_empty() {
                std::thread::yield_now();
            }
            handle.signal(signal);
        }
        let code = ended.recv().unwrap();
        (code, read("stdout"), read("stderr"))
    }

    #[test]
    fn output_is_spooled_and_the_exit_code_told() {
        let (code, out, err) = run("echo one; echo two >&2; printf three; exit 7", None);
        assert_eq!((code, &out[..], &err[..]), (7, &b"one\nthree"[..], &b"two\n"[..]));
    }

    #[test]
    fn a_signal_goes_to_the_command_and_its_death_by_one_is_told() {
        let (code, out, _) =
            run("trap 'echo trapped; exit 3' TERM; echo ready; while :; do :; done", Some(Signal::TERM));
        assert_eq!((code, &out[..]), (3, &b"ready\ntrapped\n"[..]));
        let (code, ..) = run("echo ready; exec sleep 60", Some(Signal::KILL));
        assert_eq!(code, 137);
    }

    #[test]
    fn what_it_leaves_running_does_not_hold_the_end() {
        let (code, out, _) = run("sleep 60 & echo $!; exit 0", None);
        assert_eq!(code, 0);
        let pid: i32 = std::str::from_utf8(&out).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared {
            world: World::real(),
            dir: dir.path().into(),
            limit: 1,
            held: Arc::default(),
            delivered: Arc::new(|_| None),
        };
        let spools = (Spool::open(shared.clone(), "stdout").unwrap(), Spool::open(shared, "stderr").unwrap());
        let command = [OsString::from("/no/such/program")];
        assert!(start(&command, spools, OnFull::Drop, &no_drops(), Box::new(|_, _| {})).is_err());
    }
}
