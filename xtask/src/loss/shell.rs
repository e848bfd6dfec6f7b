//! The usual workaround as process 1 of a pid namespace, and when exactly its end killed the shipper.
//!
//! Comes in: the shipper's words. Goes out: a command, and the time of the kill. Always holds: the shell's script is the
//! workaround word for word, but for a pipe that the shell alone holds. Linux closes the files of an ending process before
//! it kills its namespace, and the harness hears of both: the kill lies between the pipe's end and the shipper's. The
//! first of the two counts as the kill: what the machine then takes to carry it out leaves the shipper nothing.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::child::{self, Child, poll};
use crate::shipper::{Place, Shipper};
use crate::{Outcome, wait};

/// What the shell sleeps between two looks for the flag.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// The pipe that the shell holds.
pub(super) struct Held {
    pipe: File,
    shipper: PathBuf,
}

/// When the kill came: between these two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// The shell had closed its files.
    pub(super) from: Instant,
    /// The shipper was dead.
    pub(super) to: Instant,
}

/// Runs what this thread starts from now on ahead of all other work on the machine (or no longer), so that a trial shows
/// the shipper and not how long the others let it wait. Whether that is allowed; where it isn't, it is said.
pub(super) fn ahead_of_others(yes: bool) -> bool {
    let class: &[&str] = if yes { &["--rr", "--pid", "10"] } else { &["--other", "--pid", "0"] };
    let done = child::run(Command::new("chrt").args(class).arg(std::process::id().to_string()));
    if let Err(e) = &done {
        println!("the trials can't run ahead of the machine's other work: {}", e.trim());
    }
    done.is_ok()
}

fn pipe(place: &Place) -> PathBuf {
    place.folder().join("held-by-the-shell")
}

/// The workaround, word for word.
pub(super) fn command(shipper: &Shipper, place: &Place) -> Outcome<(Command, Held)> {
    let pipe = pipe(place);
    child::run(Command::new("mkfifo").arg(&pipe))?;
    let words: Vec<String> = shipper.words(place).iter().map(|w| format!("'{w}'")).collect();
    let (words, flag) = (words.join(" "), place.flag().display().to_string());
    let script =
        format!("exec 3>'{}'; {words} 3>&- & while [ ! -f {flag} ]; do sleep 1 3>&-; done && exit 0", pipe.display());
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(["sh", "-c"]).arg(script);
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe);
    let pipe = open.map_err(|e| format!("{}: {e}", pipe.display()))?;
    Ok((command, Held { pipe, shipper: shipper.path.clone() }))
}

impl Held {
    /// Has the flag written by `raise`, and waits for the end of the shipper and of the namespace.
    pub(super) fn killed(&self, child: &mut Child, limit: Duration, raise: impl FnOnce() -> Outcome) -> Outcome<Kill> {
        let is_it = |id: &u32| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == self.shipper);
        let id = children(init(child)?).into_iter().find(is_it).ok_or("the shell has no shipper")?;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        let shipper = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| format!("pidfd_open: {e}"))?;
        raise()?;
        poll(self.pipe.as_fd(), limit)?;
        let from = Instant::now();
        poll(shipper.as_fd(), limit)?;
        let to = Instant::now();
        child.wait(limit).map(|_| Kill { from, to })
    }
}

/// Returns `left` before the shell's next look for the flag, as well as that can be told from outside.
pub(super) fn shortly_before_a_look(child: &Child, left: Duration) -> Outcome {
    let init = init(child)?;
    let before = children(init);
    // A pause of its own: the look is to be met within a few milliseconds.
    let begin = Instant::now();
    while children(init).iter().all(|c| before.contains(c)) {
        if begin.elapsed() > LIMIT {
            return Err("the shell doesn't look for its flag".to_owned());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    std::thread::sleep(LOOKS_EVERY.saturating_sub(left));
    Ok(())
}

/// The shell, as it is called outside of its namespace.
fn init(child: &Child) -> Outcome<u32> {
    wait::until("the shell", LIMIT, || Ok(children(child.id()).first().copied()))
}

fn children(id: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|w| w.parse().ok()).collect()
}
