//! The sending side of one connection.
//!
//! Windows in, acknowledgements out. Always holds: acknowledgements answer windows in the order in which they were
//! sent, and never one of which nothing is written; every frame from the server, a keep-alive (sequence 0) too, restarts
//! the deadline, so that a server that lives may take as long as it needs; after any error the connection is of no more
//! use, and [`Client::pending`] says how much of each window is done: the rest is to be sent again over another one.
//! Tested in `tests/roundtrip.rs` against the server of this crate, and by the fuzz target `lumberjack_acks`.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::ack::AckDecoder;
use crate::frame::ProtocolError;
use crate::window::WindowWriter;

/// So much of a window has to get through within the timeout: a server that takes a byte now and then hangs too.
const WRITE: usize = 64 * 1024;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How many windows may wait for their acknowledgement, at least 1 (Filebeat's `pipelining: 0` is 1 here).
    pub pipelining: usize,
    /// How long the server may say nothing while windows wait, or may need for 64 KiB while one is written (`timeout`, 30 s).
    pub timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions { pipelining: 2, timeout: Duration::from_secs(30) }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server closed it. Logstash does so after `client_inactivity_timeout`, often by a reset (an [`Io`] error).
    ///
    /// [`Io`]: ClientError::Io
    #[error("the server closed the connection")]
    Closed,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server neither answered nor took bytes for this long.
    #[error("no answer for {0:?}")]
    Timeout(Duration),
    /// The server broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// The connection failed before, or a `send` was dropped before its end.
    #[error("the connection has failed before")]
    Failed,
}

/// The number of a window on its connection, from 0.
pub type WindowId = u64;

/// A window that was sent, and how far it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which window.
    pub window: WindowId,
    /// Its events.
    pub count: u32,
    /// How many of them, from the first one on, are acknowledged.
    pub acked: u32,
}

impl Progress {
    /// Whether all events are acknowledged.
    pub fn is_done(&self) -> bool {
        self.acked == self.count
    }
}

/// One connection to a server.
pub struct Client<S> {
    stream: S,
    options: ClientOptions,
    /// Sent and not yet reported as done by `next_ack`; done ones stand first.
    windows: VecDeque<Progress>,
    /// How much of the first window `next_ack` has reported.
    reported: u32,
    next_id: WindowId,
    acks: AckDecoder,
    deadline: Pin<Box<Sleep>>,
    /// Nothing of the newest window is written: an acknowledgement can't be for it.
    unwritten: bool,
    failed: bool,
    /// The error behind the last reported acknowledgement.
    ended: Option<ClientError>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client on a stream that is connected (and has done its TLS handshake). Must be made within a tokio runtime.
    pub fn new(stream: S, options: ClientOptions) -> Client<S> {
        let deadline = Box::pin(tokio::time::sleep(options.timeout));
        Client {
            stream,
            options,
            windows: VecDeque::new(),
            reported: 0,
            next_id: 0,
            acks: AckDecoder::default(),
            deadline,
            unwritten: false,
            failed: false,
            ended: None,
        }
    }

    /// Sends a window. While there is no room for it (see [`ClientOptions::pipelining`]) it waits for acknowledgements,
    /// which [`next_ack`](Self::next_ack) reports afterwards. An empty window isn't sent, and done at once.
    ///
    /// # Errors
    /// See [`ClientError`]; the window may have reached the server in part or whole. When the future is dropped before
    /// its end, the connection has failed.
    pub async fn send(&mut self, window: &mut WindowWriter) -> Result<WindowId, ClientError> {
        if self.failed {
            return Err(ClientError::Failed);
        }
        self.failed = true;
        let id = self.write(window).await?;
        self.failed = false;
        Ok(id)
    }

    async fn write(&mut self, window: &mut WindowWriter) -> Result<WindowId, ClientError> {
        self.restart_deadline();
        while self.waiting() >= self.options.pipelining.max(1) {
            std::future::poll_fn(|cx| self.poll_read_acks(cx)).await?;
        }
        let (count, id) = (window.count(), self.next_id);
        self.next_id += 1;
        self.windows.push_back(Progress { window: id, count, acked: 0 });
        if count > 0 {
            self.restart_deadline();
            let bytes = window.finish();
            let mut written = 0;
            self.unwritten = true;
            std::future::poll_fn(|cx| Poll::Ready(self.poll_early(cx))).await?;
            std::future::poll_fn(|cx| self.poll_write_all(cx, bytes, &mut written)).await?;
        }
        Ok(id)
    }

    /// Waits until more of the oldest window is acknowledged, and reports it. Windows are reported in the order in
    /// which they were sent; a window of which all is reported is forgotten. Without a window in flight it waits for
    /// the end of the connection.
    ///
    /// It may be dropped at any time (`select!`) and called again; nothing is lost.
    ///
    /// # Errors
    /// See [`ClientError`]. The deadline runs only while windows are in flight.
    pub async fn next_ack(&mut self) -> Result<Progress, ClientError> {
        loop {
            if let Some(progress) = self.report() {
                return Ok(progress);
            }
            if self.failed {
                return Err(self.ended.take().unwrap_or(ClientError::Failed));
            }
            if let Err(e) = std::future::poll_fn(|cx| self.poll_read_acks(cx)).await {
                self.failed = true;
                self.ended = Some(e);
            }
        }
    }

    /// The windows that [`next_ack`](Self::next_ack) hasn't reported as done, the oldest first, with all that is known
    /// of them. After an error: what is to be sent again over another connection is what isn't acknowledged of these.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = Progress> {
        self.windows.iter().copied()
    }

    /// Windows of which something is still to be acknowledged.
    pub fn in_flight(&self) -> usize {
        self.waiting()
    }

    /// Whether another window would be written without waiting for an acknowledgement.
    pub fn has_room(&self) -> bool {
        self.waiting() < self.options.pipelining.max(1)
    }

    /// Ends the connection in order, within the timeout: TLS says good-bye, which the server may not take. What is in flight
    /// stays unknown.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn close(mut self) -> io::Result<()> {
        match tokio::time::timeout(self.options.timeout, self.stream.shutdown()).await {
            Ok(done) => done,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn waiting(&self) -> usize {
        self.windows.iter().filter(|w| !w.is_done()).count()
    }

    fn report(&mut self) -> Option<Progress> {
        let first = *self.windows.front()?;
        if first.is_done() {
            self.windows.pop_front();
            self.reported = 0;
            return Some(first);
        }
        (first.acked > self.reported).then(|| {
            self.reported = first.acked;
            first
        })
    }

    fn restart_deadline(&mut self) {
        self.deadline.as_mut().reset(Instant::now() + self.options.timeout);
    }

    /// Writes and flushes; reads acknowledgements on the way, so that neither side waits for the other for ever.
    fn poll_write_all(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        written: &mut usize,
    ) -> Poll<Result<(), ClientError>> {
        loop {
            let rest = bytes.get(*written..).unwrap_or_default();
            let step = if rest.is_empty() {
                Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0)
            } else {
                Pin::new(&mut self.stream).poll_write(cx, rest)
            };
            match step {
                Poll::Ready(Ok(_)) if rest.is_empty() => {
                    // The answer has all its time.
                    self.restart_deadline();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ClientError::Closed)),
                Poll::Ready(Ok(n)) => {
                    let before = *written / WRITE;
                    *written += n;
                    self.unwritten = false;
                    if *written / WRITE > before {
                        self.restart_deadline();
                    }
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e.into())),
                // Each frame read restarts the deadline; then the stream is asked again.
                Poll::Pending => ready!(self.poll_read_acks(cx))?,
            }
        }
    }

    /// Reads what is there before a window is written, so that an acknowledgement too many doesn't count for it.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Result<(), ClientError> {
        match self.poll_read_acks(cx) {
            Poll::Ready(done) => done,
            Poll::Pending => Ok(()),
        }
    }

    /// Ready once something was read, however little it said.
    fn poll_read_acks(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let mut space = [0u8; 512];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => Poll::Ready(Err(ClientError::Closed)),
            Poll::Ready(Ok(())) => Poll::Ready(self.take_acks(buf.filled())),
            Poll::Ready(Err(e)) => Poll::Ready(Err(e.into())),
            Poll::Pending if self.waiting() == 0 => Poll::Pending,
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Err(ClientError::Timeout(self.options.timeout)))
            }
        }
    }

    fn take_acks(&mut self, mut bytes: &[u8]) -> Result<(), ClientError> {
        while let Some(seq) = self.acks.next(&mut bytes)? {
            self.restart_deadline();
            self.acked(seq)?;
        }
        Ok(())
    }

    fn acked(&mut self, seq: u32) -> Result<(), ProtocolError> {
        if seq == 0 {
            return Ok(());
        }
        let sent = self.windows.len().saturating_sub(usize::from(self.unwritten));
        let Some(oldest) = self.windows.iter_mut().take(sent).find(|w| !w.is_done()) else {
            return Err(ProtocolError::AckBeyond { seq, sent: 0 });
        };
        if seq > oldest.count {
            return Err(ProtocolError::AckBeyond { seq, sent: oldest.count });
        }
        // A smaller one than before says nothing new.
        oldest.acked = oldest.acked.max(seq);
        Ok(())
    }
}
