//! The completion flag: a file that the main container makes when its work is done.
//!
//! Comes in: a path. Goes out: when it is there, and the number in it, which is the work's exit code.
//!
//! Always holds:
//! - A flag that is older than the pod is another run's: it is refused loudly, once, and waited for to be made again.
//! - A flag may be seen before its content: [`Flag::local_exit_code`] can be asked again later.
//! - On a local file system the kernel tells of new files in the folder, and a look every [`WATCHED_PERIOD`] is only for
//!   what it doesn't tell. Where it can't (no folder yet, no watches left), there is one every [`LOCAL_PERIOD`].
//! - A network file system is asked on a thread of its own, so that one that hangs stops nothing else.
//! - On a network file system there are two calls every [`NETWORK_PERIOD`]: the folder is listed too, since a client may
//!   have cached that the file isn't there, for half a minute.
//!
//! Tested below.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use pillion_world::{FsKind, OpenHow, UnixMillis, World};

/// How often a local path is looked at while the kernel tells of new files.
pub const WATCHED_PERIOD: Duration = Duration::from_millis(500);
/// How often a local path is looked at otherwise.
pub const LOCAL_PERIOD: Duration = Duration::from_millis(20);
/// How often a path on a network file system is looked at.
pub const NETWORK_PERIOD: Duration = Duration::from_millis(250);

/// How long after news the next look is.
const AFTER_NEWS: Duration = Duration::from_millis(1);

/// A flag to wait for.
#[derive(Clone)]
pub struct Flag {
    world: World,
    path: PathBuf,
    not_before: Option<UnixMillis>,
    /// As it was at the beginning: asking is a call that may hang.
    network: bool,
}

/// What a look at the flag's place found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing there, or nothing that could be seen.
    Absent,
    /// There, but made before the pod: of another run.
    Stale,
    /// There.
    Present,
}

impl Flag {
    /// A flag at `path`; one that was last changed before `not_before` doesn't count.
    pub fn new(world: World, path: PathBuf, not_before: Option<UnixMillis>) -> Flag {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let network = world.fs.kind(folder).is_ok_and(FsKind::is_network);
        Flag { world, path, not_before, network }
    }

    /// Waits until the flag is there. Cancel safe.
    pub async fn wait(&self) {
        let mut told = false;
        let mut watch = None;
        loop {
            if watch.is_none() && !self.network {
                watch = self.watch();
            }
            let look = if self.network { self.blocking(Flag::look).await.unwrap_or(Look::Absent) } else { self.look() };
            match look {
                Look::Present => return,
                Look::Stale if !told => {
                    told = true;
                    tracing::error!(
                        path = %self.path.display(),
                        "the completion flag is older than this pod and is not believed: it was left by another run, \
                         or several pods share its place; give each pod a path of its own (subPathExpr), or remove \
                         the flag before the work starts. Waiting for it to be made again"
                    );
                }
                Look::Stale | Look::Absent => {}
            }
            match &watch {
                Some(watch) => drop(tokio::time::timeout(WATCHED_PERIOD, news(watch)).await),
                None if self.network => tokio::time::sleep(NETWORK_PERIOD).await,
                None => tokio::time::sleep(LOCAL_PERIOD).await,
            }
        }
    }

    /// The kernel's word for new files in the flag's folder, if it gives it.
    fn watch(&self) -> Option<AsyncFd<OwnedFd>> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&fd, self.folder(), flags).ok()?;
        super::readable(fd).ok()
    }

    /// Asks something of the file system on a thread of its own: one that hangs stops neither outputs nor signals.
    async fn blocking<T: Send + 'static>(&self, ask: impl FnOnce(&Flag) -> T + Send + 'static) -> Option<T> {
        let flag = self.clone();
        tokio::task::spawn_blocking(move || ask(&flag)).await.ok()
    }

    /// The number in the flag that was seen, if there is one by now.
    pub async fn seen_exit_code(&self) -> Option<i32> {
        self.blocking(Flag::exit_code).await.flatten()
    }

    /// Whether it is there, asked on a thread of its own.
    pub async fn is_present(&self) -> bool {
        self.blocking(Flag::look).await == Some(Look::Present)
    }

    /// Looks once.
    pub fn look(&self) -> Look {
        let meta = match self.world.fs.stat(&self.path, true) {
            Ok(meta) => meta,
            Err(_) if self.is_listed() => return Look::Present,
            Err(_) => return Look::Absent,
        };
        match self.not_before {
            Some(least) if meta.mtime_ns < i128::from(least.0) * 1_000_000 => Look::Stale,
            _ => Look::Present,
        }
    }

    /// The number in a flag on a local file system, if there is one by now: for whoever can't wait.
    pub fn local_exit_code(&self) -> Option<i32> {
        if self.network { None } else { self.exit_code() }
    }

    fn exit_code(&self) -> Option<i32> {
        let file = self.world.fs.open(&self.path, OpenHow::Read).ok()?;
        let mut buf = [0; 64];
        let n = file.read_at(&mut buf, 0).ok()?;
        std::str::from_utf8(buf.get(..n)?).ok()?.trim().parse().ok()
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn is_listed(&self) -> bool {
        if self.not_before.is_some() || !self.network {
            return false; // its age would be unknown
        }
        let mut found = false;
        let _ = self.world.fs.read_dir(self.folder(), &mut |entry| {
            found = Some(entry.name) == self.path.file_name();
            !found
        });
        found
    }
}

/// Waits until something is new, and takes all of it; which file it is, the next look tells.
async fn news(watch: &AsyncFd<OwnedFd>) {
    if let Ok(mut ready) = watch.readable().await {
        let mut buf = [0; 4096];
        while rustix::io::read(watch.get_ref(), &mut buf).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
    }
    // Where many files are made, one look for all of a moment is enough.
    tokio::time::sleep(AFTER_NEWS).await;
}

/// When this pod began, as far as it can be told from inside: kubelet and the container engine write `/etc/hostname`
/// anew for each pod. `None` outside of Kubernetes.
pub fn pod_start(world: &World, in_kubernetes: bool) -> Option<UnixMillis> {
    if !in_kubernetes {
        return None;
    }
    let meta = world.fs.stat(Path::new("/etc/hostname"), true).ok()?;
    // Two seconds for file systems that count time in seconds and for servers whose clock differs a little.
    i64::try_from(meta.mtime_ns / 1_000_000 - 2000).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path, content: &[u8]) {
        World::real().fs.replace(path, content, 0o600).unwrap();
    }

    #[tokio::test]
    async fn it_is_there_when_it_is_made_and_tells_the_exit_code() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("completion-flag");
        let flag = Flag::new(World::real(), path.clone(), None);
        assert_eq!(flag.look(), Look::Absent);
        let waiting = flag.wait();
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
        touch(&path, b"");
        waiting.await;
        assert_eq!(flag.exit_code(), None);
        for (content, code) in [("0\n", Some(0)), (" 137", Some(137)), ("done", None), ("\u{fffd}", None)] {
            touch(&path, content.as_bytes());
            assert_eq!(flag.exit_code(), code, "{content:?}");
        }
    }

    #[test]
    fn a_flag_of_another_run_is_stale_until_it_is_made_again() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("completion-flag");
        touch(&path, b"");
        let now = World::real().clock.wall();
        let later = Flag::new(World::real(), path.clone(), Some(UnixMillis(now.0 + 60_000)));
        assert_eq!(later.look(), Look::Stale);
        let earlier = Flag::new(World::real(), path, Some(UnixMillis(now.0 - 60_000)));
        assert_eq!(earlier.look(), Look::Present);
    }
}
