//! Connections: TCP, TLS over it, and Unix sockets.
//!
//! Comes in: a socket that listens, what is sent over its connections. Goes out: messages into the [`Port`]. Always holds:
//! while the queue is full, nothing is read of what was accepted; what has come before the drain is read by it.
//! Tested end to end.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::net::frame::Frames;
use crate::net::port::Port;
use crate::net::{CHUNK, HELD_LIMIT, LINGER, QUIET};

/// Events of one batch.
const EVENTS: usize = 4096;

/// How long to wait when nothing can be accepted: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What connections are accepted from.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What was accepted.
enum Peer {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Peer> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Peer::Tcp(stream, peer)),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Peer::Unix(stream)),
        }
    }
}

/// Accepts connections and reads them until the drain has read all of them to their end.
pub(super) async fn listen(port: Rc<Port>, listener: Listener) {
    let mut connections = JoinSet::new();
    let draining = port.drain();
    tokio::pin!(draining);
    let (mut begun, mut said) = (None, false);
    loop {
        // A full input leaves further connections to the kernel; the drain takes those, too.
        let may = connections.len() < port.listen.connections;
        let quiet = async {
            match begun {
                Some(_) => tokio::time::sleep(QUIET).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut draining, if begun.is_none() => begun = Some(Instant::now()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if may => match accepted {
                Ok(peer) => {
                    said = false;
                    connections.spawn_local(connection(Rc::clone(&port), peer));
                }
                Err(e) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("{}: no connection can be accepted: {e}; trying again", port.listen.name);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
            () = quiet => break,
        }
        if begun.is_some_and(|begun| begun.elapsed() > LINGER) {
            break;
        }
    }
    drop(listener);
    port.closed();
    while connections.join_next().await.is_some() {}
}

async fn connection(port: Rc<Port>, peer: Peer) {
    match peer {
        Peer::Unix(stream) => serve(&port, stream, None).await,
        Peer::Tcp(stream, peer) => {
            let address = SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string();
            let Some(tls) = port.listen.tls.clone() else { return serve(&port, stream, Some(&address)).await };
            match timeout(port.listen.timeout.min(HANDSHAKE), TlsAcceptor::from(Arc::clone(&tls)).accept(stream)).await
            {
                Ok(Ok(stream)) => serve(&port, stream, Some(&address)).await,
                Ok(Err(e)) => tracing::warn!("{}: TLS with {address}: {e}", port.listen.name),
                Err(_) => tracing::warn!("{}: TLS with {address}: no handshake in time", port.listen.name),
            }
        }
    }
}

/// What a connection holds of the memory that all share; given back with this.
struct Held<'p> {
    port: &'p Port,
    shared: usize,
    unfinished: u64,
}

impl Held<'_> {
    /// Notes how many bytes the connection holds now.
    fn now(&mut self, bytes: usize) {
        let beyond = bytes.saturating_sub(CHUNK);
        let held = &self.port.shared.held;
        held.set(held.get().saturating_sub(self.shared) + beyond);
        self.shared = beyond;
        let unfinished = &self.port.unfinished;
        unfinished.set(unfinished.get().saturating_sub(self.unfinished) + bytes as u64);
        self.unfinished = bytes as u64;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.now(0);
    }
}

/// Why no more is read.
enum Ended {
    /// The other side has ended, is quiet for too long, or can't be read.
    Over,
    /// The drain begins.
    Drain,
}

/// Reads a connection to its end.
async fn serve(port: &Port, mut stream: impl AsyncRead + AsyncWrite + Unpin, address: Option<&str>) {
    let mut frames = Frames::new(&port.listen.framing, port.listen.max_message);
    let mut held = Held { port, shared: 0, unfinished: 0 };
    let drain = port.drain();
    tokio::pin!(drain);
    let ended = loop {
        let read = async {
            port.shared.room().await;
            timeout(port.listen.timeout, stream.read_buf(&mut frames.buf)).await
        };
        // Neither first: who sends all the time mustn't hide the drain.
        tokio::select! {
            read = read => match read {
                Ok(Ok(1..)) => step(port, &mut frames, &mut held, address, false).await,
                Ok(Ok(0)) => break Ended::Over,
                Ok(Err(e)) => {
                    tracing::debug!("{}: {}: {e}", port.listen.name, address.unwrap_or_default());
                    break Ended::Over;
                }
                Err(_) => break Ended::Over,
            },
            () = &mut drain => break Ended::Drain,
        }
    };
    if matches!(ended, Ended::Drain) {
        read_out(port, &mut stream, &mut frames, &mut held, address).await;
    }
    step(port, &mut frames, &mut held, address, true).await;
    // Over TLS the other side wants to be told; who doesn't take it doesn't read.
    let _ = timeout(QUIET, stream.shutdown()).await;
}

/// Hands the messages that are whole on. `at_end`: all that is there.
async fn step(port: &Port, frames: &mut Frames<'_>, held: &mut Held<'_>, address: Option<&str>, at_end: bool) {
    let others = port.shared.held.get().saturating_sub(held.shared);
    frames.limit(port.listen.max_message.min(HELD_LIMIT.saturating_sub(others).max(CHUNK)));
    loop {
        let budget = port.shared.room().await;
        let most = budget.events.clamp(1, EVENTS);
        let (data, found) = frames.take(most, at_end);
        let more = found.len() == most;
        port.push(data, &found, address);
        held.now(frames.buf.len());
        if !more {
            return;
        }
    }
}

/// The drain's last reading: what has arrived, and, after the other side was told, what is still on its way.
async fn read_out(
    port: &Port,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    frames: &mut Frames<'_>,
    held: &mut Held<'_>,
    address: Option<&str>,
) {
    let begun = Instant::now();
    // Who doesn't take it doesn't read.
    let _ = timeout(QUIET, stream.shutdown()).await;
    loop {
        port.shared.room().await;
        match timeout(QUIET, stream.read_buf(&mut frames.buf)).await {
            Ok(Ok(1..)) => step(port, frames, held, address, false).await,
            _ => return,
        }
        if begun.elapsed() > LINGER {
            port.abandon();
            tracing::warn!(
                "{}: {} was still sending {LINGER:?} after it was told to end: what it sends from now on isn't read",
                port.listen.name,
                address.unwrap_or("a client")
            );
            return;
        }
    }
}
