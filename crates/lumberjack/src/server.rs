//! The receiving side of connections.
//!
//! A stream in, its windows out over a bounded channel, each with an [`AckHandle`]. Always holds: acknowledgements
//! leave in the order of the windows; while a window waits, the client hears an `ACK 0` in every
//! [`ServerOptions::keep_alive`]; a connection on which nothing waits and nothing comes is closed after
//! [`ServerOptions::inactivity`]; an abandoned window (its handle dropped before [`AckHandle::done`]) closes the
//! connection, so that the client sends it again. No more than [`ServerOptions::in_flight`] windows of a connection are
//! kept; then it isn't read, and the client's writes wait.
//! Tested in `tests/roundtrip.rs`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::decode::{Decoder, Limits, Window};
use crate::frame::{ACK, ProtocolError, short};

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// What it takes from a client.
    pub limits: Limits,
    /// How often a client that waits for an acknowledgement hears that the server lives (Logstash: 5 s).
    pub keep_alive: Duration,
    /// How long a connection may say nothing while nothing waits (`client_inactivity_timeout`, 60 s), and how long
    /// a client may leave an acknowledgement in its way.
    pub inactivity: Duration,
    /// Windows of one connection that may wait for their acknowledgement, at least 1.
    pub in_flight: usize,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            limits: Limits::default(),
            keep_alive: Duration::from_secs(5),
            inactivity: Duration::from_secs(60),
            in_flight: 8,
        }
    }
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The client broke the protocol or a limit.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The client closed the connection within a window.
    #[error("the client closed the connection within a window")]
    Truncated,
    /// The client said nothing, or didn't take an acknowledgement, for this long.
    #[error("no byte from the client for {0:?}")]
    Inactive(Duration),
    /// Whoever had a window gave it up without acknowledging it.
    #[error("a window was given up")]
    Abandoned,
    /// Nobody takes windows any more.
    #[error("the server ends")]
    Stopped,
}

/// A window that was received, and the right to acknowledge it.
#[derive(Debug)]
pub struct Received {
    /// The events.
    pub window: Window,
    /// Their acknowledgement.
    pub ack: AckHandle,
}

#[derive(Debug)]
struct Waiting {
    /// The acknowledged sequence.
    seq: AtomicU32,
    /// The handle is gone.
    ended: AtomicBool,
    /// The sequence of the last event.
    last: u32,
    version: u8,
    wake: Arc<Notify>,
}

/// Acknowledges a window. Dropped before [`done`](AckHandle::done), it closes the connection.
#[derive(Debug)]
pub struct AckHandle(Arc<Waiting>);

impl AckHandle {
    /// Acknowledges the first `events` of the window. The client sends those no more, also if the connection breaks.
    pub fn partial(&self, window: &Window, events: usize) {
        self.0.seq.fetch_max(window.seq_of(events), Ordering::AcqRel);
        self.0.wake.notify_one();
    }

    /// Acknowledges the whole window.
    pub fn done(self) {
        self.0.seq.store(self.0.last, Ordering::Release);
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.wake.notify_one();
    }
}

/// Serves one connection to its end. Windows go into `windows`; while that is full, the client waits (and is told
/// that the server lives). Empty windows are answered with `ACK 0` and not passed on.
///
/// ```no_run
/// # use pillion_lumberjack::{serve, ServerOptions};
/// # async fn accept(listener: tokio::net::TcpListener) -> std::io::Result<()> {
/// let (windows, mut received) = tokio::sync::mpsc::channel::<pillion_lumberjack::Received>(4);
/// tokio::spawn(async move {
///     while let Some(r) = received.recv().await {
///         // … use r.window.events(), then:
///         r.ack.done();
///     }
/// });
/// loop {
///     let (stream, _) = listener.accept().await?;
///     tokio::spawn(serve(stream, ServerOptions::default(), windows.clone()));
/// }
/// # }
/// ```
///
/// # Errors
/// How it ended, unless the client closed it between two windows.
pub async fn serve<S>(stream: S, options: ServerOptions, windows: mpsc::Sender<Received>) -> Result<(), ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = Instant::now();
    let connection = Connection {
        stream,
        decoder: Decoder::new(options.limits.clone()),
        options,
        windows,
        wake: Arc::new(Notify::new()),
        waiting: VecDeque::new(),
        acked: 0,
        heard: now,
        told: now,
        at_end: false,
    };
    connection.run().await
}

struct Connection<S> {
    stream: S,
    decoder: Decoder,
    options: ServerOptions,
    windows: mpsc::Sender<Received>,
    wake: Arc<Notify>,
    /// Windows that aren't acknowledged whole, the oldest first.
    waiting: VecDeque<Arc<Waiting>>,
    /// The sequence of the oldest one that was last written.
    acked: u32,
    /// When a byte last came.
    heard: Instant,
    /// When a byte was last written.
    told: Instant,
    /// The client has closed its side.
    at_end: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(mut self) -> Result<(), ServerError> {
        let windows = self.windows.clone();
        let mut ready: Option<Received> = None;
        loop {
            self.write_acks().await?;
            if ready.is_none() && self.waiting.len() < self.options.in_flight.max(1) {
                ready = self.next_window().await?;
            }
            if self.at_end && self.waiting.is_empty() {
                return if self.decoder.is_between_windows() { Ok(()) } else { Err(ServerError::Truncated) };
            }
            let idle = self.waiting.is_empty();
            let deadline =
                if idle { self.heard + self.options.inactivity } else { self.told + self.options.keep_alive };
            let may_read = ready.is_none() && !self.at_end && self.waiting.len() < self.options.in_flight.max(1);
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                permit = windows.reserve(), if ready.is_some() => {
                    let permit = permit.map_err(|_| ServerError::Stopped)?;
                    if let Some(received) = ready.take() {
                        permit.send(received);
                    }
                }
                read = read_some(&mut self.stream, self.decoder.input()), if may_read => {
                    self.at_end = read? == 0;
                    self.heard = Instant::now();
                }
                () = sleep_until(deadline) => {
                    if idle {
                        return Err(ServerError::Inactive(self.options.inactivity));
                    }
                    let version = self.waiting.front().map_or(crate::frame::V2, |w| w.version);
                    self.write(&short(version, ACK, 0)).await?;
                }
            }
        }
    }

    /// A window that has come whole. Empty ones are answered here.
    async fn next_window(&mut self) -> Result<Option<Received>, ServerError> {
        while let Some(window) = self.decoder.next_window()? {
            if window.is_empty() {
                self.write(&short(window.version(), ACK, 0)).await?;
                self.decoder.recycle(window);
                continue;
            }
            if self.waiting.is_empty() {
                self.told = Instant::now();
            }
            let waiting = Arc::new(Waiting {
                seq: AtomicU32::new(0),
                ended: AtomicBool::new(false),
                last: window.seq_of(window.len()),
                version: window.version(),
                wake: Arc::clone(&self.wake),
            });
            self.waiting.push_back(Arc::clone(&waiting));
            return Ok(Some(Received { window, ack: AckHandle(waiting) }));
        }
        Ok(None)
    }

    /// Writes what has been acknowledged since.
    async fn write_acks(&mut self) -> Result<(), ServerError> {
        while let Some(oldest) = self.waiting.front().cloned() {
            let ended = oldest.ended.load(Ordering::Acquire);
            let seq = oldest.seq.load(Ordering::Acquire);
            if seq > self.acked {
                self.write(&short(oldest.version, ACK, seq)).await?;
                self.acked = seq;
            }
            match (seq == oldest.last, ended) {
                (true, _) => {
                    self.waiting.pop_front();
                    self.acked = 0;
                    self.heard = Instant::now();
                }
                (false, true) => return Err(ServerError::Abandoned),
                (false, false) => break,
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ServerError> {
        let all = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(self.options.inactivity, all).await.map_err(|_| ServerError::Inactive(self.options.inactivity))??;
        self.told = Instant::now();
        Ok(())
    }
}

/// Appends a piece whose size grows with what has come already: an idle connection costs little.
async fn read_some<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>) -> io::Result<usize> {
    input.reserve(input.len().clamp(4 * 1024, 256 * 1024));
    stream.read_buf(input).await
}
