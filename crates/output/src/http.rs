//! One kept-alive HTTP/1.1 connection to one host.
//!
//! Comes in: a request with its whole body. Goes out: the status, and the answer's body piece by piece to a closure, or a
//! [`Failure`] that says whether the request may have reached the server. Always holds: one request at a time; each
//! request ends within its time limit; after any failure the connection is dropped; an answer is complete only if its
//! framing says so. Tested by the Elasticsearch output's tests against a scripted server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pillion_deflate::{Container, Inflater};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::tls::{TlsClient, explain};

/// The longest answer that is read to its end; beyond it the connection is given up.
const ANSWER_LIMIT: usize = 64 << 20;
/// What hyper may buffer of an answer.
const READ_BUFFER: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub problem: Problem,
    /// The server may have got the request, whole or in part.
    pub maybe_received: bool,
    /// It happened on a connection that had been at rest: the server may just have closed it, and trying again at once
    /// is fair.
    pub was_idle: bool,
}

/// The connection's driver, which ends with the connection's error; dropped with it.
struct Driver(JoinHandle<Option<hyper::Error>>);

impl Driver {
    /// Why the connection ended, if it has ended.
    async fn end(&mut self) -> Option<hyper::Error> {
        if self.0.is_finished() { (&mut self.0).await.ok().flatten() } else { None }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    used: bool,
    last: Instant,
}

/// A client for one host, with at most one connection.
pub struct HttpClient {
    connector: Connector,
    host: Host,
    tls: Option<TlsClient>,
    timeout: Duration,
    connection: Option<Connection>,
}

impl HttpClient {
    /// A client that connects when it is first used. `timeout`: for each request, from its first byte sent to the
    /// answer's last byte.
    pub fn new(connector: Connector, host: Host, tls: Option<TlsClient>, timeout: Duration) -> HttpClient {
        HttpClient { connector, host, tls, timeout, connection: None }
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Whether requests have to name the whole URL (plain HTTP through an HTTP proxy).
    pub fn wants_whole_url(&self) -> bool {
        self.tls.is_none() && self.connector.proxy().is_some_and(|p| p.takes_requests())
    }

    /// Whether there is a connection that can be used.
    pub fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|c| !c.sender.is_closed())
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// When the connection was last used, if there is one.
    pub fn idle_since(&self) -> Option<Instant> {
        self.connection.as_ref().map(|c| c.last)
    }

    /// Connects, if there is no connection.
    pub async fn connect(&mut self) -> Result<(), Problem> {
        if self.is_connected() {
            return Ok(());
        }
        self.connection = None;
        let stream = self.connector.connect(&self.host, self.tls.is_some()).await?;
        let connection = match &self.tls {
            None => handshake(stream).await?,
            Some(tls) => handshake(tls.connect(&self.host, stream, self.timeout).await?).await?,
        };
        self.connection = Some(connection);
        Ok(())
    }

    /// Sends a request and reads its answer: the body goes to `each` piece by piece, each with the status.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        mut each: impl FnMut(StatusCode, &[u8]),
    ) -> Result<StatusCode, Failure> {
        let was_idle = self.is_connected() && self.connection.as_ref().is_some_and(|c| c.used);
        let connected = self.connect().await;
        connected.map_err(|problem| Failure { problem, maybe_received: false, was_idle: false })?;
        let limit = self.timeout;
        let Some(connection) = self.connection.as_mut() else {
            let problem = Problem::bare("the connection is gone");
            return Err(Failure { problem, maybe_received: false, was_idle });
        };
        connection.used = true;
        let result = tokio::time::timeout(limit, exchange(connection, request, &mut each)).await;
        connection.last = Instant::now();
        let result = result.unwrap_or_else(|_| {
            let remedy = "Is the target overloaded? A longer `timeout` gives it more time.";
            Err((Problem::new(format!("no answer within {limit:?}"), remedy), true, false))
        });
        let (status, keep) = result.map_err(|(problem, maybe_received, may_be_stale)| {
            self.connection = None;
            let problem = problem.during(&self.host);
            Failure { problem, maybe_received, was_idle: was_idle && may_be_stale }
        })?;
        if !keep {
            self.connection = None;
        }
        Ok(status)
    }
}

/// What failed, whether the server may have got the request, whether a stale connection may be the reason.
type Failed = (Problem, bool, bool);

async fn exchange(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    each: &mut impl FnMut(StatusCode, &[u8]),
) -> Result<(StatusCode, bool), Failed> {
    let sent = match connection.sender.ready().await {
        Ok(()) => connection.sender.try_send_request(request).await.map_err(|e| {
            // A message that is given back was never written.
            let unsent = e.message().is_some();
            let error = e.into_error();
            let stale = unsent || error.is_incomplete_message() || is_io(&error);
            (error, !unsent, stale)
        }),
        Err(e) => Err((e, false, true)),
    };
    let response = match sent {
        Ok(response) => response,
        Err((error, maybe_received, stale)) => {
            // The connection broke before it saw the request, and knows why.
            let why = if maybe_received { None } else { connection.driver.end().await };
            return Err((said(&why.unwrap_or(error)), maybe_received, stale));
        }
    };
    let status = response.status();
    let keep = read(response, &mut |piece| each(status, piece)).await.map_err(|p| (p, true, false))?;
    Ok((status, keep))
}

async fn read(response: Response<Incoming>, each: &mut impl FnMut(&[u8])) -> Result<bool, Problem> {
    let close =
        response.headers().get(hyper::header::CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"));
    let packed = is_packed(&response)?;
    let mut whole = Vec::new();
    let mut body = response.into_body();
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| said(&e).during("the answer broke off"))?;
        if let Some(piece) = frame.data_ref() {
            total = total.saturating_add(piece.len());
            if total > ANSWER_LIMIT {
                return Err(Problem::bare(format!("the answer is longer than {ANSWER_LIMIT} bytes")));
            }
            match packed {
                true => whole.extend_from_slice(piece),
                false => each(piece),
            }
        }
    }
    if packed {
        let mut plain = Vec::new();
        let unpacked = Inflater::new().inflate(Container::Gzip, &whole, ANSWER_LIMIT, &mut plain);
        unpacked.map_err(|e| Problem::bare(format!("the answer: {e}")))?;
        each(&plain);
    }
    Ok(!close)
}

/// Whether an answer is compressed by gzip, which some proxies do without being asked.
fn is_packed(response: &Response<Incoming>) -> Result<bool, Problem> {
    let named = response.headers().get(hyper::header::CONTENT_ENCODING).and_then(|v| v.to_str().ok());
    let named = named.unwrap_or_default().trim().to_ascii_lowercase();
    match named.as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "deflate" | "br" | "zstd" | "compress" => {
            let remedy = "Does a proxy compress answers for whoever doesn't ask for it? Switch that off there.";
            Err(Problem::new(format!("the answer is compressed ({named}), which wasn't asked for"), remedy))
        }
        _ => Ok(false),
    }
}

async fn handshake<S>(stream: S) -> Result<Connection, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(READ_BUFFER);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| said(&e))?;
    // Its errors come out of the request that they concern, or, before there was one, of its end.
    let driver = tokio::spawn(async move { connection.await.err() });
    Ok(Connection { sender, driver: Driver(driver), used: false, last: Instant::now() })
}

/// An error and its causes.
fn causes(e: &hyper::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = e;
    std::iter::successors(Some(first), |e| e.source())
}

fn is_io(e: &hyper::Error) -> bool {
    causes(e).any(|cause| cause.is::<std::io::Error>())
}

/// hyper's words and those of the causes; what TLS says after the handshake (a refused client certificate) in its own.
fn said(e: &hyper::Error) -> Problem {
    let io = causes(e).find_map(|cause| cause.downcast_ref::<std::io::Error>());
    if let Some(tls) = io.and_then(std::io::Error::get_ref).and_then(|c| c.downcast_ref::<rustls::Error>()) {
        return explain(tls);
    }
    Problem::bare(causes(e).map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
