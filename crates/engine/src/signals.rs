//! Beginning to listen to signals without losing one.
//!
//! Comes in: what begins to listen. Goes out: what that gives.
//! Always holds: a signal that comes meanwhile is delivered afterwards, once. Without this a signal is lost that comes after the
//! kernel knows of the handler (and `/proc/PID/status` shows it as caught) and before the handler knows whom to tell: a
//! few instructions, or many milliseconds where the processor is taken away just there. Whoever was told to drain then
//! went on for ever, and its Job with it.
//!
//! Tested below; with the real executable by `cargo xtask e2e image`, hundreds of times.

/// Does something while all signals to this thread, which must be the process' only one, wait.
pub fn while_held<T>(begin: impl FnOnce() -> T) -> T {
    let held = Held::all();
    let result = begin();
    drop(held);
    result
}

/// Signals wait while this lives.
struct Held {
    before: libc::sigset_t,
}

impl Held {
    #[expect(unsafe_code, reason = "the signal mask has no safe wrapper among the libraries that are here")]
    fn all() -> Held {
        // SAFETY: a sigset_t is plain bits, for which zero is valid; both calls overwrite what they are given.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            Held { before }
        }
    }
}

impl Drop for Held {
    #[expect(unsafe_code, reason = "the signal mask has no safe wrapper among the libraries that are here")]
    fn drop(&mut self) {
        // SAFETY: the set is initialised, and the old mask isn't asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use tokio::signal::unix::{SignalKind, signal};

    #[expect(unsafe_code, reason = "only raise() sends to the calling thread")]
    fn raise(signal: i32) {
        // SAFETY: raise has no requirements.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    /// Ended by the signal where it isn't held: nobody listens to it yet.
    #[tokio::test]
    async fn what_comes_before_the_listener_is_there_afterwards() {
        let mut stream = while_held(|| {
            raise(libc::SIGUSR2);
            signal(SignalKind::user_defined2()).unwrap()
        });
        tokio::time::timeout(Duration::from_secs(30), stream.recv()).await.unwrap();
        // What was blocked before is so afterwards, and nothing else.
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|l| l.starts_with("SigBlk:")).unwrap().to_owned()
        };
        let before = blocked();
        assert_ne!(while_held(blocked), before);
        assert_eq!(blocked(), before);
    }
}
