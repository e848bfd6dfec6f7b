//! The work's end, told by a flag, by a lock, or by both.
//!
//! Comes in: what is waited for, and whether the work's container is started again when it fails. Goes out: the cause of
//! the drain.
//!
//! Always holds:
//! - A lock that is released while the flag is there means the flag: the work ended as it should.
//! - Where the work is started again (`restartPolicy: OnFailure`), a failed end isn't the end: neither a number other
//!   than 0 in the flag nor a lock released without a flag. The next try writes into the same files, and a sidecar that
//!   had ended with 0 would not be started again. After SIGTERM there is no next try, and both count.
//!
//! Tested below, end to end, and on a real cluster.

use std::time::Duration;

use tokio::sync::watch;

use super::flag::Flag;
use super::lock::Lock;
use crate::drain::Cause;

/// How often a failed try is looked at again.
pub const RETRY_PERIOD: Duration = Duration::from_millis(250);
/// How long an empty flag may become one with a number in it, where that makes a difference.
pub const CONTENT: Duration = Duration::from_millis(100);

/// What tells of the work's end.
#[derive(Clone)]
pub struct Work {
    /// The completion flag.
    pub flag: Option<Flag>,
    /// The lock that the work's shell holds.
    pub lock: Option<Lock>,
    /// Whether the work's container is started again when it fails.
    pub restarts: bool,
    /// Becomes true with SIGTERM.
    pub terminated: watch::Receiver<bool>,
}

impl Work {
    /// Waits for the end; for ever, when neither flag nor lock is set. Cancel safe.
    pub async fn ended(self) -> Cause {
        tokio::select! {
            biased;
            cause = self.by_flag(), if self.flag.is_some() => cause,
            cause = self.by_lock(), if self.lock.is_some() => cause,
            else => std::future::pending().await,
        }
    }

    async fn by_flag(&self) -> Cause {
        let Some(flag) = &self.flag else { return std::future::pending().await };
        let mut told = false;
        loop {
            flag.wait().await;
            let mut code = flag.seen_exit_code().await;
            if self.restarts && code.is_none() {
                tokio::time::sleep(CONTENT).await;
                code = flag.seen_exit_code().await;
            }
            if self.is_end(code) {
                return Cause::Flag(code);
            }
            self.next_try(&mut told).await;
        }
    }

    async fn by_lock(&self) -> Cause {
        let Some(lock) = &self.lock else { return std::future::pending().await };
        let mut told = false;
        loop {
            lock.wait().await;
            let code = match &self.flag {
                Some(flag) if flag.is_present().await => Some(flag.seen_exit_code().await),
                _ => None,
            };
            match code {
                Some(code) if self.is_end(code) => return Cause::Flag(code),
                None if self.is_last_try() => return Cause::Released,
                _ => self.next_try(&mut told).await,
            }
        }
    }

    fn is_last_try(&self) -> bool {
        !self.restarts || *self.terminated.borrow()
    }

    fn is_end(&self, code: Option<i32>) -> bool {
        self.is_last_try() || code.is_none_or(|code| code == 0)
    }

    /// Until it is time to look again: now and then, and at once with SIGTERM.
    async fn next_try(&self, told: &mut bool) {
        if !*told {
            *told = true;
            tracing::info!("the work has failed and is started again: following on");
        }
        let mut terminated = self.terminated.clone();
        let _ = tokio::time::timeout(RETRY_PERIOD, terminated.wait_for(|t| *t)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_world::World;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    struct Stage {
        tmp: tempfile::TempDir,
        sigterm: watch::Sender<bool>,
    }

    impl Stage {
        fn new() -> Stage {
            Stage { tmp: tempfile::tempdir().unwrap(), sigterm: watch::channel(false).0 }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.tmp.path().join(name)
        }

        fn work(&self, restarts: bool) -> Work {
            Work {
                flag: Some(Flag::new(World::real(), self.path("flag"), None)),
                lock: Some(Lock::new(self.path("lock"))),
                restarts,
                terminated: self.sigterm.subscribe(),
            }
        }

        fn flag(&self, content: &str) {
            World::real().fs.replace(&self.path("flag"), content.as_bytes(), 0o600).unwrap();
        }

        /// Takes the lock; dropping it releases it.
        fn hold(&self) -> OwnedFd {
            use rustix::fs::{CWD, FileType, Mode, OFlags};
            let path: &Path = &self.path("lock.new");
            rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
            let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
            rustix::fs::rename(path, self.path("lock")).unwrap();
            fd
        }
    }

    async fn goes_on(waiting: std::pin::Pin<&mut impl Future<Output = Cause>>) -> bool {
        tokio::time::timeout(Duration::from_millis(600), waiting).await.is_err()
    }

    #[tokio::test]
    async fn a_released_lock_is_the_end_and_the_flag_says_more() {
        let stage = Stage::new();
        let held = stage.hold();
        let waiting = stage.work(false).ended();
        tokio::pin!(waiting);
        assert!(goes_on(waiting.as_mut()).await);
        drop(held);
        assert_eq!(waiting.await, Cause::Released);
        for (content, code) in [("0", Some(0)), ("137\n", Some(137)), ("", None)] {
            stage.flag(content);
            assert_eq!(stage.work(false).ended().await, Cause::Flag(code), "{content:?}");
        }
    }

    #[tokio::test]
    async fn a_failed_try_is_not_the_end_where_there_is_another() {
        let stage = Stage::new();
        let waiting = stage.work(true).ended();
        tokio::pin!(waiting);
        let held = stage.hold();
        drop(held);
        assert!(goes_on(waiting.as_mut()).await, "killed");
        let held = stage.hold();
        stage.flag("1");
        drop(held);
        assert!(goes_on(waiting.as_mut()).await, "failed");
        std::fs::remove_file(stage.path("flag")).unwrap();
        let held = stage.hold();
        assert!(goes_on(waiting.as_mut()).await, "the third try runs");
        stage.flag("0");
        assert_eq!(waiting.await, Cause::Flag(Some(0)));
        drop(held);
    }

    #[tokio::test]
    async fn after_sigterm_there_is_no_other_try() {
        for flag in [None, Some(7)] {
            let stage = Stage::new();
            drop(stage.hold());
            flag.iter().for_each(|code: &i32| stage.flag(&code.to_string()));
            let waiting = stage.work(true).ended();
            tokio::pin!(waiting);
            assert!(goes_on(waiting.as_mut()).await);
            stage.sigterm.send_replace(true);
            assert_eq!(waiting.await, flag.map_or(Cause::Released, |code| Cause::Flag(Some(code))));
        }
    }
}
