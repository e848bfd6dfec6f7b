//! A running reading thread, as the rest of the program holds it: the one that reads files and the one of standard input.
//!
//! Comes in: what the thread does. Goes out: commands to it, and its reports. Always holds: nobody waits longer than he
//! says for a thread that hangs in a file system; such a thread is left behind, and stops by itself when it comes back.
//!
//! Tested in `tests/thread.rs` and with standard input.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::at::At;
use crate::harvest::{Behind, InputId};
use crate::spec::InputSpec;
use crate::standing::Standing;
use crate::thread::{Report, Waker};

/// Inputs that couldn't be begun, by their labels, and why.
pub type Refused = Vec<(u64, String)>;

/// What a reading thread is told. It looks for commands whenever its waker is called.
pub(crate) enum Command {
    /// Read what is there now, to its end, and say so.
    Drain,
    /// Read a further input; the answer is its name.
    Add(Box<InputSpec>, Sender<Option<InputId>>),
    /// End an input.
    End(InputId),
    /// End the inputs with these labels where they stand, and begin others; the answer is what couldn't be begun.
    Replace { go: Vec<u64>, come: Vec<InputSpec>, reply: Sender<Refused> },
    /// Let go of the files at such paths, and say so.
    Release(Box<dyn Fn(&Path) -> bool + Send>, Sender<()>),
    /// More files may be ours.
    SharesGrew,
    /// Tell what was read so far.
    Report(Sender<Report>),
    /// End.
    Stop,
}

/// A running reading thread: [`HarvestThread`](crate::HarvestThread) or [`StdinThread`](crate::StdinThread) started it.
pub struct Handle {
    waker: Waker,
    commands: Mutex<Sender<Command>>,
    thread: JoinHandle<Report>,
    at: At,
}

impl Handle {
    /// Starts a thread of this name. `at`: where it notes what it turns to. `run` gets what it is told, and must end
    /// after [`Command::Stop`].
    pub(crate) fn start(
        name: &str,
        waker: Waker,
        at: At,
        run: impl FnOnce(Receiver<Command>) -> Report + Send + 'static,
    ) -> io::Result<Handle> {
        let (commands, receiver) = channel();
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024);
        let thread = builder.spawn(move || run(receiver))?;
        Ok(Handle { waker, commands: Mutex::new(commands), thread, at })
    }

    /// Begins the drain; [`BatchSink::drained`](crate::BatchSink::drained) tells when it is done.
    pub fn drain(&self) {
        self.tell(Command::Drain);
    }

    /// Begins to read a further input; where to hear its name. See [`Harvester::add`](crate::Harvester::add).
    pub fn add(&self, spec: InputSpec) -> Receiver<Option<InputId>> {
        let (reply, answer) = channel();
        self.tell(Command::Add(Box::new(spec), reply));
        answer
    }

    /// Ends an input once its files are read to their end. See [`Harvester::end`](crate::Harvester::end).
    pub fn end(&self, id: InputId) {
        self.tell(Command::End(id));
    }

    /// Ends the inputs with these labels where they stand, and begins others; where to hear what couldn't be begun, and why.
    /// See [`Harvester::replace`](crate::Harvester::replace).
    pub fn replace(&self, go: Vec<u64>, come: Vec<InputSpec>) -> Receiver<Refused> {
        let (reply, answer) = channel();
        self.tell(Command::Replace { go, come, reply });
        answer
    }

    /// Lets go of the files at such paths; where to hear that nothing of them comes any more. See
    /// [`Harvester::release`](crate::Harvester::release).
    pub fn release(&self, which: impl Fn(&Path) -> bool + Send + 'static) -> Receiver<()> {
        let (reply, answer) = channel();
        self.tell(Command::Release(Box::new(which), reply));
        answer
    }

    /// More files may be ours: see [`Harvester::shares_grew`](crate::Harvester::shares_grew).
    pub fn shares_grew(&self) {
        self.tell(Command::SharesGrew);
    }

    /// What was read so far; `None` when the thread doesn't answer within `wait` (a file system hangs).
    pub fn report(&self, wait: Duration) -> Option<Report> {
        self.ask().recv_timeout(wait).ok()
    }

    /// Asks what was read so far; where the answer will come.
    pub fn ask(&self) -> Receiver<Report> {
        let (reply, answer) = channel();
        self.tell(Command::Report(reply));
        answer
    }

    /// The number of the piece of work that the thread is at, `None` while it has none: a thread that is at the same one for
    /// seconds hangs, since each is bounded.
    pub fn work(&self) -> Option<u64> {
        self.at.work()
    }

    /// Files that the thread has still to read, the first ones, as they were when it was heard of last.
    pub fn behind(&self) -> Vec<Behind> {
        self.at.behind()
    }

    /// Where reading stands; of a thread that hangs, where it stood. A byte is said to be read only once its batch is in the
    /// sink: whoever asks here first and then what became of the batches may count it twice, and never not at all.
    pub fn standing(&self) -> Standing {
        self.at.standing()
    }

    /// The file or folder that the thread turned to last: of a thread that doesn't answer, the one whose file system
    /// hangs. Empty for standard input.
    pub fn at(&self) -> PathBuf {
        self.at.get()
    }

    /// Stops reading and gives the last report; `None` when the thread doesn't answer within `wait`: it is left behind.
    pub fn stop(self, wait: Duration) -> Option<Report> {
        let (reply, answer) = channel();
        self.tell(Command::Report(reply));
        self.tell(Command::Stop);
        let report = answer.recv_timeout(wait).ok()?;
        self.thread.join().ok().or(Some(report))
    }

    /// Stops reading, without waiting for it.
    pub fn quit(&self) {
        self.tell(Command::Stop);
    }

    fn tell(&self, command: Command) {
        // A thread that is gone has nothing to be told.
        let _ = self.commands.lock().unwrap_or_else(PoisonError::into_inner).send(command);
        self.waker.wake();
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("thread", &self.thread.thread().name()).finish_non_exhaustive()
    }
}
