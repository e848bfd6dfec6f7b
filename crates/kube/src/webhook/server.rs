//! The ports: HTTPS for admissions, HTTP for probes and metrics.
//!
//! Comes in: connections. Goes out: answers. Always holds: connections, bodies and times are bounded ([`Limits`]); at the
//! limit of connections new ones wait in the kernel; a broken request costs nobody else anything; the certificate of a new
//! connection is the one that is served at that moment. Tested in `webhook/tests.rs` and `benches/admission.rs`.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_world::World;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::metrics::{Metrics, Outcome};
use super::review::{self, Policy, Scope};

/// What a port takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Open connections of one port.
    pub(crate) connections: usize,
    /// Bodies that are held at once.
    pub(crate) bodies: usize,
    /// Bytes of one body: an object in etcd has at most 1.5 MiB.
    pub(crate) body_bytes: usize,
    /// For a handshake, and for a body.
    pub(crate) patience: Duration,
    /// How long a connection may be at rest: longer than the API server keeps one (90 s), so that it is never closed
    /// just when it is used again.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            bodies: 32,
            body_bytes: 4 << 20,
            patience: Duration::from_secs(10),
            idle: Duration::from_secs(120),
        }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) policy: RwLock<Policy>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    /// Set when this replica is to end: it is ready no more.
    pub(crate) ending: AtomicBool,
    bodies: Semaphore,
}

impl Shared {
    pub(crate) fn new(world: World, policy: Policy, limits: Limits) -> Shared {
        Shared {
            world,
            policy: RwLock::new(policy),
            metrics: Metrics::default(),
            limits,
            ending: AtomicBool::new(false),
            bodies: Semaphore::new(limits.bodies),
        }
    }
}

/// Which port.
#[derive(Clone)]
pub(crate) enum Port {
    /// Admissions, over TLS.
    Admission(TlsAcceptor),
    /// Probes and metrics.
    Status,
}

/// Accepts connections until `stop` says true, then lets what is under way end for a while.
pub(crate) async fn serve(listener: TcpListener, port: Port, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while !*stop.borrow() {
        tokio::select! {
            _ = stop.changed() => {}
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < shared.limits.connections => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, port.clone(), Arc::clone(&shared), stop.clone()));
                }
                Err(e) => {
                    // Out of descriptors, most likely: connections that end give some back.
                    tracing::warn!("can't accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(shared.limits.patience, ended).await;
}

async fn connection(stream: TcpStream, port: Port, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    shared.metrics.connections.fetch_add(1, Relaxed);
    let done = match &port {
        Port::Status => speak(stream, &port, &shared, stop).await,
        Port::Admission(tls) => match tokio::time::timeout(shared.limits.patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, &port, &shared, stop).await,
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("no TLS handshake in time".into()),
        },
    };
    shared.metrics.connections.fetch_sub(1, Relaxed);
    if let Err(why) = done {
        shared.metrics.connection_errors.fetch_add(1, Relaxed);
        tracing::debug!("connection: {why}");
    }
}

async fn speak<S>(stream: S, port: &Port, shared: &Arc<Shared>, mut stop: watch::Receiver<bool>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let admission = matches!(port, Port::Admission(_));
    let service = service_fn(move |request| async move {
        let answer = if admission { admit(shared, request).await } else { status(shared, &request) };
        Ok::<_, Infallible>(answer)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.idle)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done.map_err(|e| e.to_string()),
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(|e| e.to_string())
}

fn respond(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn say(code: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    respond(code, "text/plain; charset=utf-8", text.into() + "\n")
}

async fn admit(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let scope = match request.uri().path() {
        "/mutate" => Scope::Namespace,
        "/mutate/annotated" => Scope::Pod,
        _ => return say(StatusCode::NOT_FOUND, "there are /mutate and /mutate/annotated"),
    };
    if request.method() != Method::POST {
        return say(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview");
    }
    let refuse = |code: StatusCode, why: String| {
        shared.metrics.admission(Outcome::Invalid, Duration::ZERO);
        tracing::debug!("{why}");
        say(code, why)
    };
    let _room = shared.bodies.acquire().await;
    let read = Limited::new(request.into_body(), shared.limits.body_bytes).collect();
    let body = match tokio::time::timeout(shared.limits.patience, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let why = format!("the body is larger than {} bytes", shared.limits.body_bytes);
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        Ok(Err(e)) => return refuse(StatusCode::BAD_REQUEST, e.to_string()),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body didn't come in time".into()),
    };
    let begin = shared.world.clock.mono();
    let answer = {
        let policy = shared.policy.read().unwrap_or_else(PoisonError::into_inner);
        review::answer(&policy, scope, &body)
    };
    match answer {
        Ok(answer) => {
            shared.metrics.admission(answer.outcome, shared.world.clock.mono().since(begin));
            respond(StatusCode::OK, "application/json", answer.body)
        }
        Err(why) => refuse(StatusCode::BAD_REQUEST, why),
    }
}

fn status(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return say(StatusCode::METHOD_NOT_ALLOWED, "GET it");
    }
    match request.uri().path() {
        "/healthz" => say(StatusCode::OK, "ok"),
        "/readyz" if shared.ending.load(Relaxed) => say(StatusCode::SERVICE_UNAVAILABLE, "ending"),
        "/readyz" if shared.metrics.ready.load(Relaxed) == 1 => say(StatusCode::OK, "ok"),
        "/readyz" => say(StatusCode::SERVICE_UNAVAILABLE, "no certificate that the API server trusts is served yet"),
        "/metrics" => respond(StatusCode::OK, "text/plain; version=0.0.4", shared.metrics.text()),
        _ => say(StatusCode::NOT_FOUND, "there are /metrics, /readyz and /healthz"),
    }
}
