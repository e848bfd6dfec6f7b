//! The HTTP endpoint (`http.*`).
//!
//! Comes in: connections to a port or a socket, and who has the answers ([`Answers`]). Goes out: one answer for each
//! connection. Always holds:
//! - Connections, the bytes of a request's head and the time for it are bounded ([`CONNECTIONS`], [`HEAD`], [`PATIENCE`]); a
//!   body isn't read.
//! - A new connection is always served: when there are too many, the oldest one is closed for it, so that clients that are
//!   slow or say nothing can't keep a probe out.
//! - A socket's file that nobody listens to any more is replaced; nothing else is ever removed.
//!
//! Tested below and by the command line's tests (`tests/run/monitoring.rs`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_world::{FileKind, World};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};

use crate::settings::Place;
use crate::snapshot::{About, Input, Snapshot};
use crate::{filebeat, prometheus};

/// Open connections.
const CONNECTIONS: usize = 32;
/// Bytes of a request's head.
const HEAD: usize = 8 * 1024;
/// For a request and its answer together.
const PATIENCE: Duration = Duration::from_secs(5);

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "there are /, /state, /stats, /inputs/, /metrics, /backlog, /healthz and /readyz, and the same below /outputs/NAME/";

/// Who has the answers.
pub trait Answers: Send + Sync {
    /// Who this is.
    fn about(&self) -> &About;
    /// The numbers of this moment. It must not wait for anybody.
    fn snapshot(&self) -> Snapshot;
    /// What each input has given.
    fn inputs(&self) -> Vec<Input>;
    /// The further outputs, by their names.
    fn further(&self) -> Vec<(String, Arc<dyn Answers>)> {
        Vec::new()
    }
}

enum Listener {
    Port(TcpListener),
    Socket(UnixListener),
}

/// A port or socket that is taken, and that nobody answers at yet.
pub struct Endpoint {
    listener: Listener,
    place: Place,
}

/// What a connection is read from and written to.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Endpoint {
    /// Takes the place.
    ///
    /// # Errors
    /// Why it can't be had: somebody else has it, most likely.
    pub async fn open(world: &World, place: &Place) -> io::Result<Endpoint> {
        match place {
            Place::Port(address) => {
                let listener = TcpListener::bind(address).await?;
                let place = Place::Port(listener.local_addr()?);
                Ok(Endpoint { listener: Listener::Port(listener), place })
            }
            Place::Socket(path) => {
                make_way(world, path).await?;
                let listener = UnixListener::bind(path)?;
                // As Filebeat: the group may read and not ask.
                std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o740))?;
                Ok(Endpoint { listener: Listener::Socket(listener), place: place.clone() })
            }
        }
    }

    /// Where it is; a port that was chosen by the system is known here.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Answers until the future is dropped.
    pub async fn serve(self, answers: Arc<dyn Answers>) {
        let mut connections = JoinSet::new();
        let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                Some(_) = connections.join_next() => {
                    oldest.retain(|connection| !connection.is_finished());
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    if oldest.len() >= CONNECTIONS
                        && let Some(connection) = oldest.pop_front()
                    {
                        connection.abort();
                    }
                    oldest.push_back(connections.spawn(connection(stream, Arc::clone(&answers))));
                }
                Err(e) => {
                    // Out of descriptors, most likely: those that end give some back.
                    tracing::debug!("can't accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.listener {
            Listener::Port(listener) => Box::new(listener.accept().await?.0),
            Listener::Socket(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Place::Socket(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes the socket of a process that is gone.
async fn make_way(world: &World, path: &Path) -> io::Result<()> {
    match world.fs.stat(path, false) {
        Ok(meta) if meta.kind == FileKind::Other => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            world.fs.remove(path)
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that isn't a socket")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

async fn connection(stream: Box<dyn Stream>, answers: Arc<dyn Answers>) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&*answers, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(PATIENCE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("a request: {e}"),
        Err(_) => tracing::debug!("a request took too long"),
    }
}

fn answer(answers: &dyn Answers, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET it\n");
    }
    let query = request.uri().query().unwrap_or_default();
    let pretty = query.split('&').any(|part| part.split('=').next() == Some("pretty"));
    let kind = query.split('&').find_map(|part| part.strip_prefix("type=")).filter(|kind| !kind.is_empty());
    let show = |value: &Value| {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        respond(StatusCode::OK, JSON, text)
    };
    let path = request.uri().path();
    let further = answers.further();
    if let Some((name, path)) = path.strip_prefix("/outputs/").and_then(|rest| rest.split_once('/')) {
        let of = further.iter().find(|(other, _)| other == name);
        return of.map_or_else(unknown, |(_, answers)| answer_at(&**answers, &format!("/{path}"), kind, &show));
    }
    answer_at(answers, path, kind, &show)
}

fn unknown() -> Response<Full<Bytes>> {
    respond(StatusCode::NOT_FOUND, TEXT, format!("{PATHS}\n"))
}

fn answer_at(
    answers: &dyn Answers,
    path: &str,
    kind: Option<&str>,
    show: &dyn Fn(&Value) -> Response<Full<Bytes>>,
) -> Response<Full<Bytes>> {
    match path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path) {
        "/" => show(&filebeat::info(answers.about())),
        "/state" => show(&filebeat::state(answers.about(), &answers.snapshot())),
        "/stats" => show(&filebeat::stats(answers.about(), &answers.snapshot())),
        "/inputs" => show(&filebeat::inputs(&answers.inputs(), kind)),
        "/backlog" => show(&backlog(&answers.snapshot())),
        "/metrics" => {
            let text = prometheus::text(answers.about(), &answers.snapshot());
            respond(StatusCode::OK, prometheus::MEDIA_TYPE, text)
        }
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match unready(answers) {
            unready if unready.is_empty() => respond(StatusCode::OK, TEXT, "ok\n"),
            unready => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, unready.join("\n") + "\n"),
        },
        _ => unknown(),
    }
}

/// Why this isn't ready, or one of the further outputs.
fn unready(answers: &dyn Answers) -> Vec<String> {
    let mut why = answers.snapshot().unready;
    for (name, further) in answers.further() {
        why.extend(further.snapshot().unready.iter().map(|why| format!("{name}: {why}")));
    }
    why
}

/// `/backlog`: what is still to be shipped, for scalers.
fn backlog(s: &Snapshot) -> Value {
    json!({
        "lag_bytes": s.lag_bytes(),
        "lag_files": s.lag_files(),
        "unread_bytes": s.read.unread_bytes,
        "unacknowledged_bytes": s.queued.unacked_bytes,
        "unacknowledged_events": s.active(),
        "files": s.read.files,
    })
}

fn respond(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filebeat::tests::{about, snapshot};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpStream, UnixStream};

    struct Fixed(About, Snapshot);
    impl Answers for Fixed {
        fn about(&self) -> &About {
            &self.0
        }
        fn snapshot(&self) -> Snapshot {
            self.1.clone()
        }
        fn inputs(&self) -> Vec<Input> {
            Vec::new()
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    async fn start(unready: &[&str]) -> std::net::SocketAddr {
        let place = Place::Port("127.0.0.1:0".parse().unwrap());
        let endpoint = Endpoint::open(&World::real(), &place).await.unwrap();
        let Place::Port(address) = *endpoint.place() else { panic!("it is a port") };
        let unready = unready.iter().map(|s| (*s).to_owned()).collect();
        tokio::spawn(endpoint.serve(Arc::new(Fixed(about(), Snapshot { unready, ..snapshot() }))));
        address
    }

    async fn said<S: Stream>(mut stream: S, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A server that has closed before it read everything resets the connection.
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = said(TcpStream::connect(address).await.unwrap(), &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn paths() {
        let at = start(&[]).await;
        for (path, code, part) in [
            ("/", 200, "\"beat\":\"filebeat\""),
            ("/?pretty", 200, "\n  \"beat\": \"filebeat\""),
            ("/state", 200, "\"service\":{\"id\":\"u\""),
            ("/state/?pretty", 200, "\n  \"service\": {\n    \"id\": \"u\""),
            ("/stats", 200, "\"acked\":70"),
            ("/stats/?a=b&pretty=true", 200, "\"acked\": 70"),
            ("/inputs/", 200, "[]"),
            ("/inputs", 200, "[]"),
            ("/metrics", 200, "\npillion_backlog_bytes 83\n"),
            ("/backlog", 200, "{\"lag_bytes\":83,\"lag_files\":3,"),
            ("/healthz", 200, "ok\n"),
            ("/readyz", 200, "ok\n"),
            ("/x", 404, PATHS),
        ] {
            let (got, body) = get(at, path).await;
            assert!(got == code && body.contains(part), "{path}: {got} {body}");
        }
    }

    #[tokio::test]
    async fn not_ready_says_why() {
        let at = start(&["the output wasn't reached", "the registry can't be written"]).await;
        assert_eq!(
            get(at, "/readyz").await,
            (503, "the output wasn't reached\nthe registry can't be written\n".into())
        );
        assert_eq!(get(at, "/healthz").await.0, 200);
    }

    #[tokio::test]
    async fn only_questions_are_answered() {
        let at = start(&[]).await;
        for (request, code) in [
            ("POST /stats HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", "405"),
            ("HEAD /stats HTTP/1.1\r\n\r\n", "200"),
            ("GET /stats HTTP/1.0\r\n\r\n", "200"),
            ("garbage\r\n\r\n", "400"),
            ("\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"),
        ] {
            let answer = said(TcpStream::connect(at).await.unwrap(), request).await;
            assert_eq!(answer.split(' ').nth(1), Some(code), "{request:?}: {answer}");
        }
        let huge = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(4 * HEAD));
        let answer = said(TcpStream::connect(at).await.unwrap(), &huge).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
        let answer = said(TcpStream::connect(at).await.unwrap(), &many).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_out() {
        let at = start(&[]).await;
        let mut silent = Vec::new();
        for n in 0..4 * CONNECTIONS {
            let mut stream = TcpStream::connect(at).await.unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET / HT").await.unwrap();
            }
            silent.push(stream);
        }
        assert_eq!(get(at, "/healthz").await.0, 200);
        // The first ones were closed for those that came later.
        let mut first = silent.swap_remove(0);
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LIMIT, first.read_to_end(&mut rest)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_is_left() {
        let (near, far) = tokio::io::duplex(64);
        let answers: Arc<dyn Answers> = Arc::new(Fixed(about(), snapshot()));
        let served = tokio::spawn(connection(Box::new(far), answers));
        let (mut read, mut write) = tokio::io::split(near);
        let began = tokio::time::Instant::now();
        // A byte a second, and later nothing is read of the answer.
        for byte in b"GET /stats HTTP/1.1\r\n" {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        served.await.unwrap();
        assert!(began.elapsed() <= PATIENCE + Duration::from_secs(1), "{:?}", began.elapsed());
        let mut rest = Vec::new();
        let _ = read.read_to_end(&mut rest).await;
        let (mut near, far) = tokio::io::duplex(64);
        let answers: Arc<dyn Answers> = Arc::new(Fixed(about(), snapshot()));
        let served = tokio::spawn(connection(Box::new(far), answers));
        near.write_all(b"GET /stats HTTP/1.1\r\n\r\n").await.unwrap();
        let began = tokio::time::Instant::now();
        served.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test]
    async fn a_socket_is_taken_from_the_dead_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (world, path) = (World::real(), dir.path().join("f.sock"));
        let place = Place::Socket(path.clone());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let endpoint = Endpoint::open(&world, &place).await.unwrap();
        assert_eq!(world.fs.stat(&path, false).unwrap().mode, 0o740);
        let taken = Endpoint::open(&world, &place).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let serving = tokio::spawn(endpoint.serve(Arc::new(Fixed(about(), snapshot()))));
        let stream = UnixStream::connect(&path).await.unwrap();
        assert!(said(stream, "GET / HTTP/1.1\r\n\r\n").await.contains("filebeat"));
        serving.abort();
        let _ = serving.await;
        assert!(!path.exists());
        world.fs.replace(&path, b"precious", 0o600).unwrap();
        assert!(Endpoint::open(&world, &place).await.is_err() && path.exists());
    }
}
