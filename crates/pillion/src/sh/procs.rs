//! The processes that `/proc` shows.
//!
//! Comes in: `/proc`. Goes out: who descends from whom, what a process does with signals, and what it is.
//! Always holds: what has ended while it was looked at, or may not be looked at, is left out or [`Kind::Other`]; never an
//! error.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::is_shell;

/// How often a process is taken to become another program while it is looked at.
const BECOMES: usize = 16;

/// What the kernel says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proc {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Clock ticks since the machine's start; with the id it names one process.
    pub(super) started: u64,
    /// `R`, `S`, `D`, `Z`, …
    pub(super) state: u8,
    pub(super) caught: u64,
    pub(super) ignored: u64,
}

impl Proc {
    /// Reads one; `None` when it has ended.
    pub(super) fn read(pid: i32) -> Option<Proc> {
        let stat = read(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything.
        let rest = stat.get(stat.iter().rposition(|&b| b == b')')? + 2..)?;
        let fields: Vec<&str> = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
        let status = read(format!("/proc/{pid}/status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(Proc {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            state: *fields.first()?.as_bytes().first()?,
            caught: mask("SigCgt:")?,
            ignored: mask("SigIgn:")?,
        })
    }

    /// Whether a handler of its own receives this signal.
    pub(super) fn catches(&self, signal: i32) -> bool {
        has(self.caught, signal)
    }

    /// Whether it ignores this signal. A shell without job control has its background jobs ignore SIGINT.
    pub(super) fn ignores(&self, signal: Signal) -> bool {
        has(self.ignored, signal.as_raw())
    }

    /// Whether it does something, rather than waits for something.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, b'R' | b'D')
    }
}

fn has(mask: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).ok().and_then(|bit| mask.checked_shr(bit)).is_some_and(|mask| mask & 1 == 1)
}

/// All processes that can be seen.
pub(super) fn all() -> Vec<Proc> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(Proc::read).collect()
}

/// Those that descend from `pid` and haven't ended; not itself.
pub(super) fn descendants(pid: i32) -> Vec<Proc> {
    of(all(), pid)
}

fn of(all: Vec<Proc>, pid: i32) -> Vec<Proc> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for proc in &all {
        children.entry(proc.parent).or_default().push(proc.pid);
    }
    let (mut found, mut next) = (HashSet::new(), vec![pid]);
    while let Some(parent) = next.pop() {
        for &child in children.get(&parent).into_iter().flatten() {
            if found.insert(child) {
                next.push(child);
            }
        }
    }
    all.into_iter().filter(|p| p.pid != pid && p.state != b'Z' && found.contains(&p.pid)).collect()
}

/// What a process is, for the end of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pillion, following files: it must drain.
    Shipper,
    /// `pillion exec`: it drains when its command ends.
    Wrapper,
    /// A shell, or something that busybox does; also what was forked and hasn't become another program yet.
    Shell,
    /// Anything else.
    Other,
}

/// Tells kinds apart by the file that a process runs.
pub(super) struct Kinds {
    own: Option<(u64, u64)>,
    busybox: Option<(u64, u64)>,
}

impl Kinds {
    /// For this process' own program and the real shell's.
    pub(super) fn new(busybox: &Path) -> Kinds {
        Kinds { own: file_id(Path::new("/proc/self/exe")), busybox: file_id(busybox) }
    }

    /// What a process is, and what the kernel says of it as just that; `None` when it has ended.
    pub(super) fn know(&self, pid: i32) -> Option<(Kind, Proc)> {
        settled(|| self.of(pid), || Proc::read(pid))
    }

    pub(super) fn of(&self, pid: i32) -> Kind {
        let exe = PathBuf::from(format!("/proc/{pid}/exe"));
        let id = file_id(&exe);
        let command = read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|&b| b == 0).collect();
        let called = words.first().and_then(|w| Path::new(std::ffi::OsStr::from_bytes(w)).file_name());
        let by_a_shells_name = called.and_then(|n| n.to_str()).is_some_and(is_shell);
        // A copy on a shared volume is another file.
        let copy =
            || fs::read_link(&exe).is_ok_and(|to| to.file_name().is_some_and(|n| n == "pillion" || n == "filebeat"));
        if id.is_some() && (id == self.own || copy()) {
            match () {
                () if by_a_shells_name => Kind::Shell,
                () if words.iter().skip(1).take_while(|w| **w != b"--").any(|w| *w == b"exec") => Kind::Wrapper,
                () => Kind::Shipper,
            }
        } else if id.is_some() && id == self.busybox {
            Kind::Shell
        } else {
            Kind::Other
        }
    }
}

/// Looks until a process was the same program before and after it was read. A shell's child becomes another program at any
/// time, and what it caught as a shell (`sh -c` catches SIGINT) that program may ignore: a shipper that is told to drain
/// before it listens isn't told at all.
fn settled(kind: impl Fn() -> Kind, read: impl Fn() -> Option<Proc>) -> Option<(Kind, Proc)> {
    let mut before = kind();
    for _ in 0..BECOMES {
        let proc = read()?;
        let after = kind();
        if before == after {
            return Some((after, proc));
        }
        before = after;
    }
    Some((before, read()?))
}

/// A file of `/proc`.
#[expect(
    clippy::disallowed_methods,
    reason = "processes aren't simulated, and so neither is what the kernel says of them"
)]
pub(super) fn read(path: String) -> std::io::Result<Vec<u8>> {
    fs::read(path)
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn this_process_is_seen_as_it_is() {
        let own = Proc::read(std::process::id() as i32).unwrap();
        assert_eq!(Some(own.parent), rustix::process::getppid().map(|p| p.as_raw_nonzero().get()));
        assert!(own.ignores(Signal::PIPE) && !own.ignores(Signal::TERM), "Rust ignores SIGPIPE");
        assert!(own.catches(Signal::SEGV.as_raw()), "Rust catches a stack overflow");
        assert!(Proc::read(0).is_none() && Proc::read(i32::MAX).is_none());
    }

    #[test]
    fn descendants_are_children_and_theirs_that_live() {
        let proc = |pid, parent, state| Proc { pid, parent, started: 0, state, caught: 0, ignored: 0 };
        let all = vec![
            proc(1, 0, b'S'),
            proc(2, 1, b'S'),
            proc(3, 2, b'R'),
            proc(4, 2, b'Z'),
            proc(5, 4, b'S'),
            proc(9, 0, b'S'),
            proc(10, 9, b'S'),
        ];
        let pids = |pid| of(all.clone(), pid).iter().map(|p| p.pid).collect::<Vec<_>>();
        assert_eq!(pids(1), [2, 3, 5]);
        assert_eq!(pids(9), [10]);
        assert_eq!(pids(3), [0_i32; 0]);
    }

    #[test]
    fn what_is_known_of_a_process_is_of_one_program() {
        use std::cell::RefCell;
        let proc = |caught| Proc { pid: 8, parent: 1, started: 0, state: b'R', caught, ignored: 0 };
        let int = 1 << (libc::SIGINT - 1);
        // The shell's child catches SIGINT; it becomes the shipper, which ignores it; at last that listens.
        let now =
            RefCell::new(vec![(Kind::Shell, int), (Kind::Shipper, 0), (Kind::Shipper, int)].into_iter().peekable());
        let kind = || now.borrow_mut().peek().unwrap().0;
        let read = || {
            let caught = now.borrow_mut().next().unwrap().1;
            Some(proc(caught))
        };
        assert_eq!(settled(kind, read), Some((Kind::Shipper, proc(0))));
        assert_eq!(settled(|| Kind::Shell, || None), None);
        // One that changes at every look is taken as it was last.
        let odd = RefCell::new(false);
        let flips = || {
            let odd = !odd.replace_with(|odd| !*odd);
            if odd { Kind::Shell } else { Kind::Other }
        };
        assert!(settled(flips, || Some(proc(0))).is_some());
    }

    #[test]
    fn a_child_is_found_with_what_it_is() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let kinds = Kinds::new(Path::new("/bin/cat"));
        assert!(descendants(std::process::id() as i32).iter().any(|p| p.pid == pid));
        assert_eq!(kinds.of(pid), Kind::Shell);
        assert_eq!(Kinds::new(Path::new("/no/such/file")).of(pid), Kind::Other);
        assert_eq!(kinds.of(std::process::id() as i32), Kind::Shipper, "the own program");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
