//! A process that a chore started.
//!
//! Comes in: a command. Goes out: its end, and what it used.
//! Always holds: it runs in a process group of its own, and the whole group is ended when its [`Child`] is dropped; its
//! standard input is a pipe, so that a server can see when the chore itself was killed, and it is killed then.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::Outcome;

/// A started process.
pub(crate) struct Child {
    inner: std::process::Child,
    ended: Option<Ended>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Its exit code or signal.
    pub(crate) status: ExitStatus,
    /// Processor time of the process and of those it waited for, user and system together.
    pub(crate) cpu: Duration,
    /// The largest resident size of the process, in bytes.
    pub(crate) peak_bytes: u64,
}

impl Child {
    /// Starts `command`; both outputs are added to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Outcome<Child> {
        Child::start_apart(command, log, log)
    }

    /// The same with standard output in a file of its own: two streams in one file cut each other's long lines.
    pub(crate) fn start_apart(command: &mut Command, log: &Path, out: &Path) -> Outcome<Child> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|e| format!("{}: {e}", path.display()))
        };
        let (err, out) = (open(log)?, open(out)?);
        command.stdin(Stdio::piped()).stdout(out).stderr(err).process_group(0);
        die_with_parent(command);
        let inner = command.spawn().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
        Ok(Child { inner, ended: None })
    }

    /// Its process id, which is its group's id too.
    pub(crate) fn id(&self) -> u32 {
        self.inner.id()
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.inner.id()).ok().and_then(Pid::from_raw)
    }

    /// Sends a signal to the process alone. Nothing happens when it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let (None, Some(pid)) = (self.ended, self.pid()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends a signal to the process and all its descendants that stayed in the group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if let (None, Some(pid)) = (self.ended, self.pid()) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// How it ended, when it did.
    pub(crate) fn ended(&mut self) -> Outcome<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = reap(self.inner.id())?;
        }
        Ok(self.ended)
    }

    /// Waits for its end; returns as soon as it is there.
    pub(crate) fn wait(&mut self, limit: Duration) -> Outcome<Ended> {
        let (id, begin) = (self.id(), Instant::now());
        loop {
            if let Some(ended) = self.ended()? {
                return Ok(ended);
            }
            let left = limit.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(format!("process {id} goes on after {:.0} s", limit.as_secs_f64()));
            }
            if let Some(pid) = self.pid() {
                sleep_until_end(pid, left)?;
            }
        }
    }
}

/// Has the process killed when the thread that starts it ends, as it does when the chore is killed.
#[expect(unsafe_code, reason = "only code between fork and exec can ask for it")]
fn die_with_parent(command: &mut Command) {
    let ask = || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from);
    // SAFETY: prctl is one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) };
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        let _ = self.wait(Duration::from_secs(10));
    }
}

/// Sleeps until the process ends or the time is up.
fn sleep_until_end(pid: Pid, limit: Duration) -> Outcome {
    let fd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| format!("pidfd_open: {e}"))?;
    poll(fd.as_fd(), limit)
}

/// Sleeps until the descriptor has something to read or its other side is closed, or the time is up.
pub(crate) fn poll(fd: BorrowedFd<'_>, limit: Duration) -> Outcome {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(format!("poll: {e}")),
    }
}

/// Collects an ended child with its resource usage, without waiting.
#[expect(unsafe_code, reason = "no safe wrapper of wait4 gives the resource usage of one child")]
fn reap(id: u32) -> Outcome<Option<Ended>> {
    let pid = i32::try_from(id).map_err(|e| e.to_string())?;
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid `rusage`, which is plain numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live, writable values of the types that wait4 asks for.
    let got = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
    if got < 0 {
        return Err(format!("wait4 of {id}: {}", std::io::Error::last_os_error()));
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Ok((got == pid).then(|| Ended {
        status: ExitStatus::from_raw(status),
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }))
}

/// A number of kibibytes from `/proc/PID/status` (`VmRSS`, `VmHWM`).
pub(crate) fn status_kib(id: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs a command to its end and shows its output only when it fails.
pub(crate) fn run(command: &mut Command) -> Outcome<String> {
    let name = format!("{} {}", command.get_program().to_string_lossy(), args(command));
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(text);
    }
    Err(format!("{name}: {}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr)))
}

fn args(command: &Command) -> String {
    command.get_args().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn an_end_has_its_code_and_dropping_ends_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut child = Child::start(Command::new("sh").args(["-c", "exit 7"]), &log).unwrap();
        assert_eq!(child.wait(Duration::from_secs(10)).unwrap().status.code(), Some(7));

        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", pids.display());
        let child = Child::start(Command::new("sh").args(["-c", &script]), &log).unwrap();
        let limit = Duration::from_secs(10);
        let grandchild = wait::until("the script", limit, || Ok(std::fs::read_to_string(&pids).ok())).unwrap();
        drop(child);
        let proc = format!("/proc/{}/stat", grandchild.trim());
        wait::until("the grandchild's end", limit, || {
            let gone = std::fs::read_to_string(&proc).map_or(true, |s| s.contains(") Z "));
            Ok(gone.then_some(()))
        })
        .unwrap();
    }
}
