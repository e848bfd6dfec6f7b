//! Signals, waited for one by one with who sent them.
//!
//! Always holds: from [`Signals::block`] on none ends or stops this process, but those of its own faults and SIGKILL. As
//! process 1 it would lose those without a handler; blocked, they are kept until they are asked for.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// Signals that a fault of the program itself raises: blocked, they would loop.
const FAULTS: &[i32] =
    &[libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) signal: i32,
    /// From the kernel, as the terminal's Ctrl-C: then all of the foreground have got it.
    pub(super) from_kernel: bool,
}

/// All signals, blocked.
pub(super) struct Signals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl Signals {
    /// Blocks them for this thread, which must be the only one.
    #[expect(unsafe_code, reason = "the signal mask has no safe wrapper among the libraries that are here")]
    pub(super) fn block() -> Signals {
        // SAFETY: a sigset_t is plain bits, for which zero is valid, and sigfillset overwrites it as a whole.
        let (mut set, mut before): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is one live, writable set; sigfillset and sigdelset fail only for numbers that are no signals.
        unsafe {
            libc::sigfillset(&mut set);
            for &fault in FAULTS {
                libc::sigdelset(&mut set, fault);
            }
        }
        // SAFETY: `set` is initialised, and `before` is writable.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut before) };
        Signals { set, before }
    }

    /// Has a command start with the signals blocked that were so before: a mask is inherited.
    #[expect(unsafe_code, reason = "only code between fork and exec can change the mask of a child alone")]
    pub(super) fn unblock_in(&self, command: &mut Command) {
        let before = self.before;
        let unblock = move || {
            // SAFETY: the set is initialised, and the old mask isn't asked for; the call is safe after fork.
            match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) } {
                0 => Ok(()),
                e => Err(std::io::Error::from_raw_os_error(e)),
            }
        };
        // SAFETY: the closure makes one system call; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(unblock) };
    }

    /// The next one; `None` when the time is up.
    #[expect(unsafe_code, reason = "no safe wrapper waits for a signal and tells where it comes from")]
    pub(super) fn wait(&self, limit: Duration) -> Option<Came> {
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
        };
        // SAFETY: a siginfo_t is plain numbers, for which zero is valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: all three are live for the call, and `info` is writable.
        let signal = unsafe { libc::sigtimedwait(&self.set, &mut info, &limit) };
        (signal > 0).then_some(Came { signal, from_kernel: info.si_code == libc::SI_KERNEL })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;

    #[test]
    fn a_signal_is_kept_until_it_is_asked_for() {
        // A thread of its own: the mask is a thread's, and a signal to the thread itself can't go to another.
        std::thread::spawn(|| {
            let signals = Signals::block();
            assert_eq!(signals.wait(Duration::ZERO), None);
            raise(Signal::USR1);
            assert_eq!(signals.wait(Duration::from_secs(5)), Some(Came { signal: libc::SIGUSR1, from_kernel: false }));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_child_is_started_with_nothing_blocked() {
        let blocked = |restore: bool| {
            let signals = Signals::block();
            let mut command = Command::new("cat");
            command.arg("/proc/self/status");
            if restore {
                signals.unblock_in(&mut command);
            }
            let status = String::from_utf8(command.output().unwrap().stdout).unwrap();
            let mask = status.lines().find_map(|l| l.strip_prefix("SigBlk:")).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() != 0
        };
        std::thread::spawn(move || assert_eq!((blocked(true), blocked(false)), (false, true))).join().unwrap();
    }

    #[expect(unsafe_code, reason = "only raise() sends to the calling thread")]
    fn raise(signal: Signal) {
        // SAFETY: raise has no requirements.
        assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
    }
}
