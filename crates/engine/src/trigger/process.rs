//! The end of a watched process, in a process namespace shared with the main container.
//!
//! Comes in: a process id, or a program's name. Goes out: when it has ended.
//!
//! Always holds: an id that is used again by another process isn't mistaken for it (a pidfd names one process); a name
//! has ended when at least one such process was seen and none is left. This process itself never counts.
//!
//! Tested below with real processes.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_world::World;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How often the processes are listed while none of the name is seen.
pub const LIST_PERIOD: Duration = Duration::from_millis(200);
/// How long a name may be unseen before that is said.
pub const UNSEEN_WARNING: Duration = Duration::from_secs(60);

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The process with this id.
    Pid(i32),
    /// All processes whose program (the first word of the command line, without its folder) or `comm` has this name.
    Name(String),
}

impl std::str::FromStr for Watched {
    type Err = String;

    fn from_str(s: &str) -> Result<Watched, String> {
        match s.parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(Watched::Pid(pid)),
            Ok(_) => Err(format!("{s} isn't a process id: those are greater than 0")),
            Err(_) if s.is_empty() => Err("neither a process id nor a name was given".into()),
            Err(_) => Ok(Watched::Name(s.to_owned())),
        }
    }
}

/// Waits until what is watched has ended. Cancel safe.
pub async fn wait(world: &World, watched: &Watched) -> std::io::Result<()> {
    match watched {
        Watched::Pid(pid) => wait_pid(*pid).await,
        Watched::Name(name) => wait_name(world, name).await,
    }
}

async fn wait_pid(pid: i32) -> std::io::Result<()> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(()) };
    match pidfd_open(id, PidfdFlags::NONBLOCK) {
        Ok(fd) => wait_fd(fd).await,
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
async fn wait_fd(fd: OwnedFd) -> std::io::Result<()> {
    let fd = super::readable(fd)?;
    fd.readable().await?.retain_ready();
    Ok(())
}

async fn wait_name(world: &World, name: &str) -> std::io::Result<()> {
    let (mut seen, mut told) = (false, false);
    let began = world.clock.mono();
    loop {
        let pids = find(world, name)?;
        if pids.is_empty() {
            if seen {
                return Ok(());
            }
            if !told && world.clock.mono().since(began) >= UNSEEN_WARNING {
                told = true;
                tracing::warn!(
                    name,
                    "no process of this name has been seen yet: does the pod set shareProcessNamespace, and is the \
                     name right? Still waiting"
                );
            }
            tokio::time::sleep(LIST_PERIOD).await;
        }
        for pid in pids {
            seen = true;
            wait_pid(pid).await?;
        }
    }
}

fn find(world: &World, name: &str) -> std::io::Result<Vec<i32>> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut pids = Vec::new();
    world.fs.read_dir(Path::new("/proc"), &mut |entry| {
        if let Some(pid) = entry.name.to_str().and_then(|s| s.parse().ok()).filter(|&pid: &i32| pid != own) {
            pids.push(pid);
        }
        true
    })?;
    pids.retain(|pid| is_named(world, *pid, name));
    Ok(pids)
}

fn is_named(world: &World, pid: i32, name: &str) -> bool {
    let of = |file: &str| PathBuf::from(format!("/proc/{pid}/{file}"));
    let read = |file: &str| world.fs.read(&of(file), 1 << 20).unwrap_or_default();
    if read("stat").rsplit(|b| *b == b')').next().is_some_and(|rest| rest.starts_with(b" Z")) {
        return false; // ended, and only waiting for its parent to ask
    }
    if read("comm").strip_suffix(b"\n") == Some(name.as_bytes()) {
        return true;
    }
    let command = read("cmdline");
    let program = command.split(|b| *b == 0).next().unwrap_or_default();
    let program = Path::new(std::ffi::OsStr::from_bytes(program));
    program.file_name().is_some_and(|base| base == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A real process of this name that ends when its standard input does.
    fn start(dir: &Path, name: &str) -> Child {
        let program = dir.join(name);
        let _ = std::os::unix::fs::symlink("/bin/cat", &program);
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    async fn ends_with(watched: Watched, mut child: Child) {
        let world = World::real();
        let waiting = wait(&world, &watched);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(LIST_PERIOD * 2, waiting.as_mut()).await.is_err(), "ended too early");
        drop(child.stdin.take());
        let reaped = tokio::task::spawn_blocking(move || child.wait().unwrap());
        waiting.await.unwrap();
        reaped.await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_watched_by_id() {
        let tmp = tempfile::tempdir().unwrap();
        let child = start(tmp.path(), "watched-by-id");
        let pid = i32::try_from(child.id()).unwrap();
        ends_with(Watched::Pid(pid), child).await;
        wait(&World::real(), &Watched::Pid(pid)).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_watched_by_name() {
        let tmp = tempfile::tempdir().unwrap();
        let child = start(tmp.path(), "watched-by-a-long-name");
        ends_with(Watched::Name("watched-by-a-long-name".into()), child).await;
    }

    #[test]
    fn a_number_is_an_id_and_anything_else_a_name() {
        assert_eq!("12".parse(), Ok(Watched::Pid(12)));
        assert_eq!("worker".parse(), Ok(Watched::Name("worker".into())));
        assert!("0".parse::<Watched>().is_err() && "".parse::<Watched>().is_err());
    }
}
