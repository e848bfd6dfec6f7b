//! The reading thread: drives a [`Harvester`] in real time.
//!
//! Comes in: commands, inotify, space in the queue. Goes out: batches into a [`BatchSink`]. Always holds: it sleeps
//! until something is due or somebody wakes it; it never polls on its own account. A command is answered between two
//! steps, each of which is bounded; only a call into a hung file system can delay it.
//!
//! Tested in `tests/thread.rs`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use pillion_event::Batch;
use pillion_world::{Mono, World};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use tokio::sync::Notify;

use crate::handle::{Command, Handle, Refused};
use crate::harvest::{FileAccount, Harvester, Hint, Loss, Stats, Step, Unseen};
use crate::net::Missed;
use crate::spec::{Budget, InputSpec};
use crate::watch::{Told, Watches};

/// Where batches go.
pub trait BatchSink: Send {
    /// How much may be read now. When it is empty, the reader sleeps until its [`Waker`] is called.
    fn budget(&self) -> Budget;

    /// Takes a batch; never refuses, whatever the budget: at most one batch goes beyond it.
    fn push(&mut self, batch: Batch);

    /// After a drain was asked for: everything that was there has been pushed, but for what `report` says. Called
    /// once.
    fn drained(&mut self, report: Report);
}

/// Wakes a reading thread: call it when the sink has space again. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Waker(Arc<Wake>);

struct Wake {
    fd: OwnedFd,
    /// The same for a task.
    task: Notify,
    /// A wake is on its way: no need for another one.
    pending: AtomicBool,
}

impl Waker {
    /// A new one, for a thread that is to be started.
    pub fn new() -> io::Result<Waker> {
        let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker(Arc::new(Wake { fd, task: Notify::new(), pending: AtomicBool::new(false) })))
    }

    /// Wakes it.
    pub fn wake(&self) {
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            // It can fail only when it is full of wakes already.
            let _ = rustix::io::write(&self.0.fd, &1_u64.to_ne_bytes());
            self.0.task.notify_one();
        }
    }

    /// Takes back what woke. Whoever calls looks at everything afterwards.
    fn rest(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0.fd, &mut count);
        self.0.pending.store(false, Ordering::Release);
    }

    /// Waits until woken, on an async runtime.
    pub(crate) async fn woken(&self) {
        self.0.task.notified().await;
        self.rest();
    }

    /// Sleeps until woken, until one of the others is readable, or until `until`. Gives which of the others are.
    pub(crate) fn sleep(&self, world: &World, others: &[rustix::fd::BorrowedFd<'_>], until: Mono) -> bool {
        let left = until.since(world.clock.mono());
        let timeout = (until.0 != u64::MAX).then(|| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut fds = vec![PollFd::new(&self.0.fd, PollFlags::IN)];
        fds.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
        let other = fds.iter().skip(1).any(|fd| !fd.revents().is_empty());
        let woken = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if woken {
            self.rest();
        }
        other
    }
}

/// What a reading thread has done so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The files that have more to tell than that all of them was read ([`FileAccount::is_notable`]), in no order.
    pub files: Vec<FileAccount>,
    /// What was destroyed before it could be read, the first ones.
    pub losses: Vec<Loss>,
    /// What network inputs didn't get whole, by the names at which they listen.
    pub missed: Vec<(PathBuf, Missed)>,
    /// What the last searches weren't allowed to look at.
    pub unseen: Unseen,
    /// All together.
    pub stats: Stats,
}

impl Report {
    fn of(h: &Harvester) -> Report {
        let (files, losses) = (h.notable(), h.losses().to_vec());
        Report { files, losses, missed: Vec::new(), unseen: h.unseen(), stats: h.stats() }
    }
}

/// The thread that reads files.
#[derive(Debug)]
pub struct HarvestThread;

impl HarvestThread {
    /// Starts a thread of this name that reads into `sink`. `watch`: use inotify. `waker`: a new one, which the sink may have
    /// already.
    pub fn spawn(
        name: &str,
        world: World,
        harvester: Harvester,
        sink: Box<dyn BatchSink>,
        waker: Waker,
        watch: bool,
    ) -> io::Result<Handle> {
        Handle::start(name, waker.clone(), harvester.at.clone(), move |commands| {
            let watches = Watches::new(watch);
            Driver { world, harvester, sink, waker, commands, watches, told: false, listened: Mono(0) }.run()
        })
    }
}

struct Driver {
    world: World,
    harvester: Harvester,
    sink: Box<dyn BatchSink>,
    waker: Waker,
    commands: Receiver<Command>,
    watches: Watches,
    told: bool,
    /// When the kernel was asked last.
    listened: Mono,
}

/// While there is work, the kernel is asked no more often than this.
const LISTEN_EVERY: Duration = Duration::from_millis(1);

impl Driver {
    fn run(mut self) -> Report {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Drain => {
                        // What the kernel already knows is older than the drain.
                        self.listen();
                        self.harvester.drain();
                    }
                    Command::Add(spec, reply) => drop(reply.send(self.harvester.add(*spec))),
                    Command::End(id) => {
                        // What the kernel already knows belongs to the input.
                        self.listen();
                        self.harvester.end(id);
                    }
                    Command::Replace { go, come, reply } => drop(reply.send(self.replace(&go, come))),
                    Command::Release(which, reply) => {
                        self.harvester.release(&*which);
                        let _ = reply.send(());
                    }
                    Command::SharesGrew => self.harvester.shares_grew(),
                    // Nobody waits any more: no answer.
                    Command::Report(reply) => drop(reply.send(Report::of(&self.harvester))),
                    Command::Stop => return Report::of(&self.harvester),
                }
            }
            for folder in self.harvester.take_folders() {
                let watched = self.watches.add(&folder);
                if watched {
                    self.harvester.watched(&folder, true);
                }
            }
            self.harvester.at.stands(self.harvester.standing());
            self.harvester.at.works();
            match self.harvester.step(self.sink.budget()) {
                Step::Batch(batch) => self.sink.push(batch),
                Step::Worked => {}
                Step::Full { until } | Step::Idle { until } => {
                    self.harvester.at.rests();
                    if !self.told && self.harvester.drained() {
                        self.told = true;
                        self.sink.drained(Report::of(&self.harvester));
                    }
                    let others: Vec<_> = self.watches.fd().into_iter().collect();
                    let told = self.waker.sleep(&self.world, &others, until);
                    if told {
                        self.listen();
                    }
                    continue;
                }
            }
            if self.world.clock.mono().since(self.listened) >= LISTEN_EVERY {
                self.listen();
            }
        }
    }

    fn replace(&mut self, go: &[u64], come: Vec<InputSpec>) -> Refused {
        let why = "the end has begun, or there are too many inputs";
        self.harvester.replace(go, come).into_iter().map(|label| (label, why.to_owned())).collect()
    }

    fn listen(&mut self) {
        self.listened = self.world.clock.mono();
        let harvester = &mut self.harvester;
        self.watches.read(|told| match told {
            Told::Hint(hint) => harvester.hint(hint),
            Told::Ended(folder) => {
                harvester.watched(&folder, false);
                harvester.hint(Hint::All);
            }
        });
    }
}
