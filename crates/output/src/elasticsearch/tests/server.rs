//! A server that answers as it is told, one step for each request; when the script is over, it takes everything.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pillion_deflate::{Compressor, Container, Inflater, Level};
use rustls::ServerConfig;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The answer that takes everything.
pub(crate) const TAKEN: &str = r#"{"took":1,"errors":false,"items":[]}"#;

/// What to do with a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Answer.
    Reply(u16, String),
    /// Answer 200 as if the connection were kept, and close it.
    ReplyAndClose(String),
    /// Close without an answer.
    Reset,
    /// Answer 200 with this, compressed as the first one says (`gzip` is done, others are only said).
    Packed(&'static str, String),
    /// Promise more bytes than are sent, and close.
    CutOff(String),
    /// Never answer.
    Silent,
}

impl Step {
    pub(crate) fn reply(status: u16, body: &str) -> Step {
        Step::Reply(status, body.into())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    /// The body's lines, decompressed.
    pub(crate) lines: Vec<String>,
}

/// An answer with an item for each event: status, and the error's JSON or nothing.
pub(crate) fn items(items: &[(u16, &str)]) -> String {
    let all: Vec<String> = items
        .iter()
        .map(|(status, error)| match error.is_empty() {
            true => format!(r#"{{"create":{{"status":{status}}}}}"#),
            false => format!(r#"{{"create":{{"status":{status},"error":{error}}}}}"#),
        })
        .collect();
    let errors = items.iter().any(|(status, _)| *status >= 300);
    format!(r#"{{"took":3,"errors":{errors},"items":[{}]}}"#, all.join(","))
}

#[derive(Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Larger bodies get 413.
    limit: Option<usize>,
}

pub(crate) struct Server {
    pub(crate) at: String,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(steps: Vec<Step>) -> Server {
        Server::listen(Script { steps: Mutex::new(steps.into()), ..Script::default() }, None).await
    }

    pub(crate) async fn start_tls(config: ServerConfig, steps: Vec<Step>) -> Server {
        let script = Script { steps: Mutex::new(steps.into()), ..Script::default() };
        Server::listen(script, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    pub(crate) async fn start_limited(limit: usize) -> Server {
        Server::listen(Script { limit: Some(limit), ..Script::default() }, None).await
    }

    async fn listen(script: Script, tls: Option<TlsAcceptor>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let script = Arc::new(script);
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => serve(tls.accept(stream).await.unwrap(), shared).await,
                    }
                });
            }
        });
        Server { at, script, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.script.connections.load(Ordering::Relaxed)
    }

    /// Ends it; gives the address at which nobody listens now.
    pub(crate) fn stop(self) -> String {
        self.at.clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, script: Arc<Script>) {
    script.connections.fetch_add(1, Ordering::Relaxed);
    let mut stream = BufReader::new(stream);
    while let Some((seen, len)) = read(&mut stream).await {
        let step = match script.limit {
            Some(limit) if len > limit => Step::reply(413, ""),
            _ => script.steps.lock().unwrap().pop_front().unwrap_or_else(|| Step::reply(200, TAKEN)),
        };
        script.seen.lock().unwrap().push(seen);
        let head = |status: u16, len: usize| format!("HTTP/1.1 {status} X\r\ncontent-length: {len}\r\n\r\n");
        let (text, close) = match step {
            Step::Reply(status, body) => ((head(status, body.len()) + &body).into_bytes(), false),
            Step::ReplyAndClose(body) => ((head(200, body.len()) + &body).into_bytes(), true),
            Step::Reset => return,
            Step::CutOff(body) => ((head(200, body.len() + 10) + &body).into_bytes(), true),
            Step::Packed(how, body) => {
                let body = if how == "gzip" { gzip(body.as_bytes()) } else { body.into_bytes() };
                let head =
                    format!("HTTP/1.1 200 X\r\ncontent-encoding: {how}\r\ncontent-length: {}\r\n\r\n", body.len());
                ([head.as_bytes(), &body].concat(), false)
            }
            Step::Silent => std::future::pending().await,
        };
        if stream.write_all(&text).await.is_err() || close {
            return;
        }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let (mut packed, level) = (Vec::new(), Level::new(1).unwrap());
    let mut compressor = Compressor::new(Container::Gzip, level);
    compressor.begin(&mut packed);
    compressor.write(plain, &mut packed);
    compressor.finish(&mut packed);
    packed
}

/// A request, and the length of its body when decompressed.
async fn read(stream: &mut (impl AsyncBufReadExt + AsyncReadExt + Unpin)) -> Option<(Seen, usize)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let value = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let len = value("content-length:").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    if value("content-encoding:") == Some("gzip") {
        let mut plain = Vec::new();
        Inflater::new().inflate(Container::Gzip, &body, 64 << 20, &mut plain).unwrap();
        body = plain;
    }
    let len = body.len();
    let text = String::from_utf8(body).unwrap();
    assert!(!head.contains("/_bulk") || text.ends_with('\n'), "a bulk body ends with a line end");
    Some((Seen { head, lines: text.lines().map(str::to_string).collect() }, len))
}
