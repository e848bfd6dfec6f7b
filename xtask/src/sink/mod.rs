//! Endpoints that count: Elasticsearch's `_bulk` and Lumberjack v2, as small as can be.
//!
//! Comes in: connections on loopback. Goes out: a [`Tally`] of what arrived, and acknowledgements.
//! Always holds: it shares no code with Pillion, so that both can't be wrong in the same way; an event is in the tally
//! before it is acknowledged; a connection's thread ends with the [`Sink`].
//! Tested below, and by the real Filebeat that ships to it.

mod bulk;
mod lumberjack;
mod tally;

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub(crate) use tally::{Depth, Show, Tally};

use crate::Outcome;

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Elasticsearch's `_bulk`, with what a client asks before.
    Bulk,
    /// Lumberjack v2, as Logstash listens.
    Lumberjack,
}

impl Protocol {
    /// Its name on the command line and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Bulk => "bulk",
            Protocol::Lumberjack => "lumberjack",
        }
    }
}

/// An endpoint that listens.
pub(crate) struct Sink {
    port: u16,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    listener: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on a free port of loopback.
    pub(crate) fn start(protocol: Protocol, depth: Depth) -> Outcome<Sink> {
        Sink::listen(protocol, Tally::new(depth))
    }

    /// The same; each event is shown before it is acknowledged.
    pub(crate) fn showing(protocol: Protocol, show: Show) -> Outcome<Sink> {
        Sink::listen(protocol, Tally::shown(show))
    }

    fn listen(protocol: Protocol, tally: Tally) -> Outcome<Sink> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let (tally, stop) = (Arc::new(tally), Arc::new(AtomicBool::new(false)));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (our_tally, our_stop, our_open) = (tally.clone(), stop.clone(), open.clone());
        let accept = move || {
            for stream in listener.incoming().flatten() {
                if our_stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.set_nodelay(true);
                if let Ok(twin) = stream.try_clone() {
                    our_open.lock().unwrap_or_else(PoisonError::into_inner).push(twin);
                }
                let tally = our_tally.clone();
                std::thread::spawn(move || drop(serve(protocol, stream, &tally)));
            }
        };
        Ok(Sink { port, tally, stop, open, listener: Some(std::thread::spawn(accept)) })
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What arrived.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(protocol: Protocol, stream: TcpStream, tally: &Tally) -> io::Result<()> {
    match protocol {
        Protocol::Bulk => bulk::serve(stream, tally),
        Protocol::Lumberjack => lumberjack::serve(stream, tally),
    }
}
