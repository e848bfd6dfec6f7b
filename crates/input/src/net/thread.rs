//! The one thread of all network inputs.
//!
//! Comes in: inputs, commands, space in the queue. Goes out: batches; what was read. Always holds: it has an async runtime
//! of its own, so that the outputs' runtime isn't held up by what is received; every socket listens before the thread
//! starts, so that a port that is taken is known at the start. Tested end to end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use pillion_world::World;
use tokio::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::at::At;
use crate::handle::{Command, Handle};
use crate::harvest::{Loss, LossCause, Numbers, Stats, Tally};
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
            let shared = Rc::new(Shared { world, sink, space: Notify::new(), draining, numbers, held });
            let driver = Driver { shared, ports: Vec::new(), at, commands, drain, told: false };
            let report = LocalSet::new().block_on(&runtime, driver.run(bound, &wake));
            // What is still read when it is told to stop isn't waited for.
            runtime.shutdown_background();
            report
        })
    }
}

struct Driver {
    shared: Rc<Shared>,
    ports: Vec<Rc<Port>>,
    at: At,
    commands: Receiver<Command>,
    drain: watch::Sender<bool>,
    told: bool,
}

impl Driver {
    async fn run(mut self, bound: Vec<Bound>, waker: &Waker) -> Report {
        let mut tasks = JoinSet::new();
        let mut files = Vec::new();
        for (spec, socket, file) in bound {
            files.extend(file);
            if let Err(e) = self.begin(&mut tasks, &spec, socket) {
                tracing::error!("{}: {e}", spec.desc.kind.as_str());
            }
        }
        loop {
            if let Some(last) = self.commands() {
                return last;
            }
            let tally = self.tally();
            self.at.stands(Standing { filtered: tally.filtered, ..Standing::default() });
            if tasks.is_empty() && *self.shared.draining.borrow() && !std::mem::replace(&mut self.told, true) {
                let report = self.report();
                self.shared.sink.borrow_mut().drained(report);
            }
            tokio::select! {
                () = waker.woken() => self.shared.space.notify_waiters(),
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
                // What listens is known from the start.
                Command::Add(_, reply) => drop(reply.send(None)),
                Command::End(_) | Command::SharesGrew => {}
                Command::Release(_, reply) => drop(reply.send(())),
                // Nobody waits any more: no answer.
                Command::Report(reply) => drop(reply.send(self.report())),
                Command::Stop => return Some(self.report()),
            }
        }
        None
    }

    fn begin(&mut self, tasks: &mut JoinSet<()>, spec: &InputSpec, socket: Socket) -> io::Result<()> {
        let Some(listen) = spec.listen.clone() else { return Ok(()) };
        let port = Rc::new(Port::new(&self.shared, spec, listen));
        self.ports.push(Rc::clone(&port));
        match socket {
            Socket::Tcp(s) => tasks.spawn_local(stream::listen(port, Listener::Tcp(TcpListener::from_std(s)?))),
            Socket::Stream(s) => tasks.spawn_local(stream::listen(port, Listener::Unix(UnixListener::from_std(s)?))),
            Socket::Udp(s) => tasks.spawn_local(datagram::listen(port, Datagrams::Udp(UdpSocket::from_std(s)?))),
            Socket::Datagrams(s) => {
                tasks.spawn_local(datagram::listen(port, Datagrams::Unix(UnixDatagram::from_std(s)?)))
            }
        };
        Ok(())
    }

    fn tally(&self) -> Tally {
        let mut all = Tally::default();
        self.ports.iter().for_each(|port| all.add(&port.account().tally));
        all
    }

    fn report(&self) -> Report {
        let loss = |port: &Port, n: u64, what: &str| Loss {
            path: format!("{} ({n} {what})", port.listen.name).into(),
            from: 0,
            to: n,
            cause: LossCause::Closed,
        };
        let mut losses = Vec::new();
        for port in &self.ports {
            let (dropped, abandoned) = (port.dropped.get(), port.abandoned.get());
            if dropped > 0 {
                losses.push(loss(port, dropped, "datagrams that the kernel dropped"));
            }
            if abandoned > 0 {
                losses.push(loss(port, abandoned, "senders that were cut off while they were sending"));
            }
        }
        let files: Vec<_> = self.ports.iter().map(|port| port.account()).collect();
        let unread = files.iter().map(|f| f.len - f.pos).sum();
        let stats = Stats { tally: self.tally(), unread, ..Stats::default() };
        Report { files, losses, stats }
    }
}
