//! The one thread of all network inputs.
//!
//! Comes in: inputs, commands, space in the queue. Goes out: batches; what was read. Always holds: it has an async runtime
//! of its own, so that the outputs' runtime isn't held up by what is received; every socket of the start listens before the
//! thread starts, so that a port that is taken is known at the start. An input that has to go while others stay ends as at the
//! drain; another one may have its place as soon as its socket is closed. Tested end to end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use pillion_world::World;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet, LocalSet};

use crate::at::At;
use crate::handle::{Command, Handle, Refused};
use crate::harvest::{FileAccount, Numbers, Stats, Tally};
use crate::net::Missed;
use crate::net::bind::{Socket, SocketFile, bind};
use crate::net::datagram::{self, Datagrams};
use crate::net::port::{Port, Shared};
use crate::net::stream::{self, Listener};
use crate::spec::InputSpec;
use crate::standing::Standing;
use crate::thread::{BatchSink, Report, Waker};

/// The thread that network inputs are read by.
#[derive(Debug)]
pub struct NetThread;

/// Inputs that have ended and are told of by name; further ones are told of together.
const FORMER: usize = 1000;

/// An input and its socket.
type Bound = (InputSpec, Socket, Option<SocketFile>);

impl NetThread {
    /// Binds the sockets of these inputs and starts a thread that reads them into `sink`. `numbers`: those of the readers
    /// beside it.
    ///
    /// # Errors
    /// When a socket can't be bound; the text names it.
    pub fn spawn(
        world: World,
        specs: Vec<InputSpec>,
        sink: Box<dyn BatchSink>,
        waker: Waker,
        numbers: &Arc<Numbers>,
    ) -> io::Result<Handle> {
        let mut bound: Vec<Bound> = Vec::new();
        for spec in specs {
            let Some(listen) = &spec.listen else { continue };
            let (socket, file) = bind(listen)?;
            tracing::info!("{}: listening", listen.name);
            bound.push((spec, socket, file));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (at, numbers, wake) = (At::default(), Arc::clone(numbers), waker.clone());
        Handle::start("net", waker, at.clone(), move |commands| {
            let (drain, draining) = watch::channel(false);
            let (sink, held) = (RefCell::new(sink), Cell::new(0));
            let (space, closed) = (Notify::new(), Notify::new());
            let shared = Rc::new(Shared { world, sink, space, closed, draining, numbers, held });
            let (ports, former, coming) = Default::default();
            let driver = Driver { shared, ports, former, coming, at, commands, drain, told: false };
            let report = LocalSet::new().block_on(&runtime, driver.run(bound, &wake));
            // What is still read when it is told to stop isn't waited for.
            runtime.shutdown_background();
            report
        })
    }
}

/// An input that listens, or is about to end.
struct Open {
    port: Rc<Port>,
    file: Option<SocketFile>,
    task: AbortHandle,
}

/// What an input that has ended has read.
struct Former {
    account: FileAccount,
    missed: Missed,
}

/// Inputs that are to begin once those have closed their sockets that are to go.
struct Coming {
    specs: Vec<InputSpec>,
    reply: Sender<Refused>,
}

struct Driver {
    shared: Rc<Shared>,
    ports: Vec<Open>,
    former: Vec<Former>,
    coming: Vec<Coming>,
    at: At,
    commands: Receiver<Command>,
    drain: watch::Sender<bool>,
    told: bool,
}

impl Driver {
    async fn run(mut self, bound: Vec<Bound>, waker: &Waker) -> Report {
        let mut tasks = JoinSet::new();
        for (spec, socket, file) in bound {
            if let Err(e) = self.begin(&mut tasks, &spec, socket, file) {
                tracing::error!("{}: {e}", spec.desc.kind.as_str());
            }
        }
        loop {
            if let Some(last) = self.commands() {
                return last;
            }
            self.forget_ended();
            self.begin_coming(&mut tasks);
            self.at.stands(self.standing());
            if tasks.is_empty() && *self.shared.draining.borrow() && !std::mem::replace(&mut self.told, true) {
                let report = self.report();
                self.shared.sink.borrow_mut().drained(report);
            }
            tokio::select! {
                () = waker.woken() => self.shared.space.notify_waiters(),
                () = self.shared.closed.notified() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Carries out what it is told; the last report when it has to end.
    fn commands(&mut self) -> Option<Report> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Drain => {
                    self.drain.send_replace(true);
                }
                // What a container brings are files.
                Command::Add(_, reply) => drop(reply.send(None)),
                Command::Replace { go, come, reply } => {
                    let goes = |open: &&Open| open.port.label != 0 && go.contains(&open.port.label);
                    self.ports.iter().filter(goes).for_each(|open| open.port.end());
                    self.coming.push(Coming { specs: come, reply });
                }
                Command::End(_) | Command::SharesGrew => {}
                Command::Release(_, reply) => drop(reply.send(())),
                // Nobody waits any more: no answer.
                Command::Report(reply) => drop(reply.send(self.report())),
                Command::Stop => return Some(self.report()),
            }
        }
        None
    }

    /// Begins the inputs that wait until the sockets of those that go are closed: theirs may be the same.
    fn begin_coming(&mut self, tasks: &mut JoinSet<()>) {
        if self.ports.iter().any(|open| open.port.is_going() && open.port.listens()) {
            return;
        }
        for Coming { specs, reply } in std::mem::take(&mut self.coming) {
            let draining = *self.shared.draining.borrow();
            let mut begin = |spec: &InputSpec| {
                let Some(listen) = spec.listen.as_ref() else { return Ok(()) };
                if draining {
                    return Err(io::Error::other(format!("{}: the end has begun", listen.name)));
                }
                let (socket, file) = bind(listen)?;
                tracing::info!("{}: listening", listen.name);
                self.begin(tasks, spec, socket, file)
            };
            let mut refused = Refused::new();
            for spec in &specs {
                if let Err(e) = begin(spec) {
                    refused.push((spec.label, e.to_string()));
                }
            }
            // Nobody waits any more: no answer.
            let _ = reply.send(refused);
        }
    }

    fn begin(
        &mut self,
        tasks: &mut JoinSet<()>,
        spec: &InputSpec,
        socket: Socket,
        file: Option<SocketFile>,
    ) -> io::Result<()> {
        let Some(listen) = spec.listen.clone() else { return Ok(()) };
        let port = Rc::new(Port::new(&self.shared, spec, listen));
        let to = Rc::clone(&port);
        let task = match socket {
            Socket::Tcp(s) => tasks.spawn_local(stream::listen(to, Listener::Tcp(TcpListener::from_std(s)?))),
            Socket::Stream(s) => tasks.spawn_local(stream::listen(to, Listener::Unix(UnixListener::from_std(s)?))),
            Socket::Udp(s) => tasks.spawn_local(datagram::listen(to, Datagrams::Udp(UdpSocket::from_std(s)?))),
            Socket::Datagrams(s) => {
                tasks.spawn_local(datagram::listen(to, Datagrams::Unix(UnixDatagram::from_std(s)?)))
            }
        };
        self.ports.push(Open { port, file, task });
        Ok(())
    }

    /// Keeps of inputs that had to go what they have read, by the names at which they listened.
    fn forget_ended(&mut self) {
        for open in self.ports.iter_mut().filter(|open| !open.port.listens()) {
            // Before another one has its place.
            open.file = None;
        }
        let ended: Vec<Open> =
            self.ports.extract_if(.., |open| open.port.is_going() && open.task.is_finished()).collect();
        for Open { port, .. } in ended {
            let (account, missed) = (port.account(), port.missed());
            let full = self.former.len() >= FORMER;
            match self.former.iter_mut().find(|f| full || f.account.path == account.path) {
                Some(known) => {
                    known.account.tally.add(&account.tally);
                    known.missed.add(&missed);
                }
                None => self.former.push(Former { account, missed }),
            }
        }
    }

    /// What each input has read, those that have ended included, with what it didn't get whole.
    fn accounts(&self) -> impl Iterator<Item = (FileAccount, Missed)> {
        let open = self.ports.iter().map(|open| (open.port.account(), open.port.missed()));
        open.chain(self.former.iter().map(|f| (f.account.clone(), f.missed)))
    }

    fn tally(&self) -> Tally {
        let mut all = Tally::default();
        self.accounts().for_each(|(account, _)| all.add(&account.tally));
        all
    }

    fn standing(&self) -> Standing {
        let Tally { filtered, limited, .. } = self.tally();
        let datagrams = self.accounts().map(|(_, missed)| missed.datagrams).sum();
        Standing { filtered, limited, datagrams, ..Standing::default() }
    }

    fn report(&self) -> Report {
        let (mut missed, mut files) = (Vec::new(), Vec::new());
        for (account, of) in self.accounts() {
            if of != Missed::default() {
                missed.push((account.path.clone(), of));
            }
            files.push(account);
        }
        let unread = files.iter().map(|f| f.len - f.pos).sum();
        let stats = Stats { tally: self.tally(), unread, ..Stats::default() };
        Report { files, missed, stats, ..Report::default() }
    }
}
