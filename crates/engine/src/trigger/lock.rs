//! The lock: a FIFO that the work's shell holds open for writing, so that its end is seen however it ends.
//!
//! Comes in: a path. Goes out: when the FIFO there has been held and nobody holds it any more.
//!
//! ```sh
//! mkfifo /data/lock.new && exec 9<>/data/lock.new && mv -f /data/lock.new /data/lock    # in the work's container
//! ```
//!
//! Always holds:
//! - A process that is killed closes what it has open: no handler, no trap and no last command is needed. What it has
//!   started inherits the descriptor, so that the lock is held until the last writer is gone.
//! - Nothing is written or locked here: a reader that comes, goes and comes again changes nothing for the work.
//! - A lock that lies there unheld was released, even if nobody looked at that time. One made in its place and opened
//!   only then is given [`SETTLE`].
//! - The kernel tells of the release; a look every [`WATCHED_PERIOD`] finds a lock that a restarted container has put
//!   into the place of the one before.
//!
//! Tested below, and with a real shell end to end. Why a FIFO: docs/decisions/lock.md.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::flag::WATCHED_PERIOD;

/// How often an absent lock is looked for.
pub const ABSENT_PERIOD: Duration = Duration::from_millis(100);
/// How long a lock must lie there unheld to count as released.
pub const SETTLE: Duration = Duration::from_millis(100);

/// A lock to watch.
#[derive(Clone, Debug)]
pub struct Lock {
    path: PathBuf,
}

/// What a look at the lock found.
#[derive(Debug)]
enum Look {
    /// Nothing there.
    Absent,
    /// There, but no FIFO, or not to be opened: the reason.
    Unusable(String),
    /// Nobody holds it.
    Unheld,
    /// Somebody holds it; the descriptor tells when no longer.
    Held(OwnedFd),
}

impl Lock {
    /// The lock at `path`, which needn't be there yet.
    pub fn new(path: PathBuf) -> Lock {
        Lock { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the lock was held and is released. Cancel safe.
    pub async fn wait(&self) {
        let mut told = false;
        let mut unheld = false;
        loop {
            match self.look().await {
                Look::Unheld if unheld => return,
                Look::Unheld => {
                    unheld = true;
                    tokio::time::sleep(SETTLE).await;
                    continue;
                }
                Look::Held(fd) => self.watch(fd).await,
                Look::Absent => tokio::time::sleep(ABSENT_PERIOD).await,
                Look::Unusable(why) => {
                    if !told {
                        told = true;
                        tracing::error!(
                            path = %self.path.display(),
                            "the lock can't be watched: {why}. A job that is killed before its flag isn't noticed; \
                             make the lock with `mkfifo`, readable for this user"
                        );
                    }
                    tokio::time::sleep(WATCHED_PERIOD).await;
                }
            }
            unheld = false;
        }
    }

    /// Until nobody holds the FIFO, or another one may lie in its place.
    async fn watch(&self, fd: OwnedFd) {
        let Ok(fd) = super::readable(fd) else {
            tokio::time::sleep(ABSENT_PERIOD).await;
            return;
        };
        let released = async {
            while let Ok(mut ready) = fd.readable().await {
                if !is_held(fd.get_ref()) {
                    return;
                }
                ready.clear_ready();
            }
        };
        let _ = tokio::time::timeout(WATCHED_PERIOD, released).await;
    }

    /// On a thread of its own: a network file system may hang.
    async fn look(&self) -> Look {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || look(&path)).await.unwrap_or(Look::Absent)
    }
}

fn look(path: &Path) -> Look {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Look::Absent,
        Err(e) => return Look::Unusable(e.to_string()),
    };
    match rustix::fs::fstat(&fd) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo => {}
        Ok(_) => return Look::Unusable("it is no FIFO".into()),
        Err(e) => return Look::Unusable(e.to_string()),
    }
    if is_held(&fd) { Look::Held(fd) } else { Look::Unheld }
}

/// Whether somebody has the FIFO open for writing: without a writer a read finds the end (pipe(7)). What somebody wrote
/// into it is thrown away.
fn is_held(fd: &OwnedFd) -> bool {
    let mut buf = [0; 512];
    loop {
        match rustix::io::read(fd, &mut buf) {
            Ok(0) => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};

    /// A shell that holds the lock in the way that is documented, and has said so.
    fn hold(dir: &Path) -> Child {
        let script = "mkfifo lock.new && exec 9<>lock.new && mv -f lock.new lock && echo held && read line";
        let mut shell = Command::new("sh");
        shell.current_dir(dir).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        child
    }

    async fn is_waiting(waiting: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::time::timeout(SETTLE * 3, waiting).await.is_err()
    }

    #[tokio::test]
    async fn a_shell_that_is_killed_has_released_it() {
        let tmp = tempfile::tempdir().unwrap();
        let lock = Lock::new(tmp.path().join("lock"));
        let waiting = lock.wait();
        tokio::pin!(waiting);
        assert!(is_waiting(waiting.as_mut()).await, "there is no lock yet");
        let mut shell = hold(tmp.path());
        assert!(is_waiting(waiting.as_mut()).await, "it is held");
        shell.kill().unwrap();
        waiting.await;
        shell.wait().unwrap();
        // Whoever comes later sees the same.
        lock.wait().await;
    }

    #[tokio::test]
    async fn a_new_holder_counts_and_what_is_written_into_it_does_not() {
        let tmp = tempfile::tempdir().unwrap();
        let lock = Lock::new(tmp.path().join("lock"));
        let mut first = hold(tmp.path());
        let waiting = lock.wait();
        tokio::pin!(waiting);
        assert!(is_waiting(waiting.as_mut()).await);
        // A container that was restarted puts its lock into the place of the one before, which then ends.
        let mut second = hold(tmp.path());
        first.kill().unwrap();
        first.wait().unwrap();
        std::fs::File::options().write(true).open(lock.path()).unwrap().write_all(&[7; 2000]).unwrap();
        assert!(is_waiting(waiting.as_mut()).await, "the second one is held");
        drop(second.stdin.take());
        waiting.await;
        second.wait().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_fifo_is_waited_for_to_become_one() {
        let tmp = tempfile::tempdir().unwrap();
        let lock = Lock::new(tmp.path().join("lock"));
        pillion_world::World::real().fs.replace(lock.path(), b"", 0o600).unwrap();
        assert!(matches!(look(lock.path()), Look::Unusable(_)));
        let waiting = lock.wait();
        tokio::pin!(waiting);
        assert!(is_waiting(waiting.as_mut()).await);
        drop(hold(tmp.path()).stdin.take());
        waiting.await;
    }
}
