//! The port that speaks HTTP as Elasticsearch does, as far as shippers use it: `_bulk`, and just enough around it
//! (`GET /`, licence, templates, policies, pipelines) that their clients go on.
//!
//! Requests in, events to the sink, answers out. Always holds: an event is written before it is answered as written; at
//! most [`Options::requests`](crate::Options) bodies are held at once, each within its limit before and after
//! decompression. Tested in `tests/receive.rs`.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pillion_deflate::{Container, InflateError, Inflater};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::answer::{Filter, Outcome, quoted, render};
use crate::bulk::{self, Action, Op};
use crate::counts::Counts;
use crate::options::Arrived;
use crate::port::Shared;

/// Serves one connection to its end.
pub(crate) async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.options.lumberjack.inactivity)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(e) = connection.await {
        tracing::debug!("connection: {e}");
        shared.count(Counts { errors: 1, ..Counts::default() });
    }
}

/// An answer that isn't a success: status, Elasticsearch's name of the error, and its text.
struct Refusal(StatusCode, &'static str, String);

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let head = request.method() == Method::HEAD;
    let (status, body) = match route(shared, request).await {
        Ok((status, body)) => (status, body),
        Err(Refusal(status, kind, reason)) => {
            shared.count(Counts { errors: 1, ..Counts::default() });
            let cause = format!("{{\"type\":\"{kind}\",\"reason\":{}}}", quoted(&reason));
            let root = cause.clone();
            let text = format!(
                "{{\"error\":{{\"root_cause\":[{root}],{}}},\"status\":{}}}",
                cause.trim_matches(['{', '}']),
                status.as_u16()
            );
            (status, text.into_bytes())
        }
    };
    let mut response = Response::new(Full::new(if head { Bytes::new() } else { body.into() }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    response
}

async fn route(shared: &Shared, request: Request<Incoming>) -> Result<(StatusCode, Vec<u8>), Refusal> {
    let path = request.uri().path().trim_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    let bulk = match parts.as_slice() {
        ["_bulk"] => Some(None),
        // 5.6 and older also name a type.
        [index, "_bulk"] | [index, _, "_bulk"] if !index.starts_with('_') => Some(Some(decoded(index))),
        _ => None,
    };
    let ok = |body: String| Ok((StatusCode::OK, body.into_bytes()));
    let method = request.method().clone();
    match (bulk, &method) {
        (Some(index), &(Method::POST | Method::PUT)) => return take_bulk(shared, request, index.as_deref()).await,
        (Some(_), _) => {}
        (None, &(Method::GET | Method::HEAD)) => match parts.as_slice() {
            [""] => return ok(root(&shared.options.version)),
            ["_license" | "_xpack", ..] => return ok(LICENSE.into()),
            ["_cluster", "health", ..] => return ok("{\"cluster_name\":\"pillion\",\"status\":\"green\"}".into()),
            ["_nodes", ..] => return ok("{\"nodes\":{}}".into()),
            ["_pillion", "counts"] => return ok(serde_json::to_string(&shared.counts()).unwrap_or_default()),
            _ => return Ok((StatusCode::NOT_FOUND, b"{}".to_vec())),
        },
        (None, &(Method::PUT | Method::POST)) => {
            let known = ["_template", "_index_template", "_component_template", "_ilm", "_ingest", "_data_stream"];
            let index = parts.len() == 1 && !path.starts_with('_');
            if index || parts.first().is_some_and(|p| known.contains(p)) {
                read_body(shared, request).await?;
                return ok(format!(
                    "{{\"acknowledged\":true,\"shards_acknowledged\":true,\"index\":{}}}",
                    quoted(&path)
                ));
            }
        }
        (None, _) => {}
    }
    let text = format!("Incorrect HTTP method for uri [/{path}] and method [{method}]");
    Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "illegal_argument_exception", text))
}

const LICENSE: &str = "{\"license\":{\"status\":\"active\",\"uid\":\"pillion\",\"type\":\"basic\",\"mode\":\"basic\"},\
    \"features\":{},\"tagline\":\"You know, for X\"}";

/// What Elasticsearch answers to `GET /`; clients read the version, and 8 and later the header beside it.
fn root(version: &str) -> String {
    format!(
        "{{\"name\":\"pillion\",\"cluster_name\":\"pillion\",\"cluster_uuid\":\"pillion-receive-0000000\",\
         \"version\":{{\"number\":{},\"build_flavor\":\"default\",\"build_type\":\"docker\",\"build_hash\":\"0\",\
         \"build_date\":\"2026-01-01T00:00:00Z\",\"build_snapshot\":false,\"lucene_version\":\"9.12.0\",\
         \"minimum_wire_compatibility_version\":\"7.17.0\",\"minimum_index_compatibility_version\":\"7.0.0\"}},\
         \"tagline\":\"You Know, for Search\"}}",
        quoted(version)
    )
}

async fn take_bulk(
    shared: &Shared,
    request: Request<Incoming>,
    index: Option<&str>,
) -> Result<(StatusCode, Vec<u8>), Refusal> {
    let filter = Filter::new(&parameter(request.uri().query().unwrap_or_default(), "filter_path"));
    let _room = shared.requests.acquire().await;
    let body = read_body(shared, request).await?;
    let bad = |e: bulk::BulkError| Refusal(StatusCode::BAD_REQUEST, "illegal_argument_exception", e.to_string());
    let actions = bulk::parse(&body, index, &shared.options.bulk).map_err(bad)?;
    let outcomes = apply(shared, &actions).map_err(|e| {
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, "i_o_exception", format!("the events can't be written: {e}"))
    })?;
    shared.delay().await;
    let first = shared.numbers.fetch_add(actions.len() as u64, Ordering::Relaxed);
    Ok((StatusCode::OK, render(&actions, &outcomes, &filter, first)))
}

/// Writes what is new, then counts and remembers it: when writing fails, nothing has happened.
fn apply(shared: &Shared, actions: &[Action<'_>]) -> std::io::Result<Vec<Outcome>> {
    let mut counts = Counts { batches: 1, ..Counts::default() };
    let mut lines = Vec::new();
    let mut outcomes = Vec::with_capacity(actions.len());
    let mut ids = shared.ids.lock().unwrap_or_else(PoisonError::into_inner);
    let mut added = Vec::new();
    for action in actions {
        let outcome = match (action.op, action.id.as_deref()) {
            _ if shared.rejects() => Outcome::Rejected,
            (Op::Delete, id) if id.is_some_and(|id| ids.remove(&action.index, id)) => Outcome::Deleted,
            (Op::Delete, _) => Outcome::NotFound,
            (Op::Create, Some(id)) if ids.contains(&action.index, id) => Outcome::Conflict,
            _ if !shared.port.accepts(action.source) => Outcome::Malformed,
            (Op::Index | Op::Create, None) => Outcome::Created,
            (_, Some(id)) if ids.insert(&action.index, id) => {
                added.push((&action.index, id));
                Outcome::Created
            }
            _ => Outcome::Updated,
        };
        match outcome {
            Outcome::Created | Outcome::Updated => {
                counts.events += 1;
                counts.bytes += action.source.len() as u64;
                if shared.port.looks_at_events() {
                    let id = action.id.as_deref();
                    let event = Arrived { kind: shared.port.kind(), index: &action.index, id, json: action.source };
                    shared.port.take(Some(action.op), event, &mut lines);
                }
            }
            Outcome::Conflict => counts.duplicates += 1,
            Outcome::Malformed => counts.malformed += 1,
            Outcome::Rejected => counts.rejected += 1,
            Outcome::Deleted | Outcome::NotFound => {}
        }
        outcomes.push(outcome);
    }
    if let Err(e) = shared.port.write(&lines) {
        for (index, id) in added {
            ids.remove(index, id);
        }
        return Err(e);
    }
    drop(ids);
    shared.count(counts);
    Ok(outcomes)
}

async fn read_body(shared: &Shared, request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
    let max = shared.options.body_bytes;
    let too_large = || {
        let text = format!("the body is larger than {max} bytes");
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, "content_too_long_exception", text)
    };
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, "parse_exception", text);
    let encoding = request.headers().get(CONTENT_ENCODING).cloned();
    let read = Limited::new(request.into_body(), max).collect();
    let body = tokio::time::timeout(shared.options.lumberjack.inactivity, read)
        .await
        .map_err(|_| Refusal(StatusCode::REQUEST_TIMEOUT, "timeout_exception", "the body didn't come".into()))?
        .map_err(|e| if e.is::<LengthLimitError>() { too_large() } else { bad(e.to_string()) })?
        .to_bytes();
    match encoding.as_ref().map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(body.into()),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            match Inflater::new().inflate(Container::Gzip, &body, max, &mut plain) {
                Ok(()) => Ok(plain),
                Err(InflateError::TooLarge(_)) => Err(too_large()),
                Err(e) => Err(bad(e.to_string())),
            }
        }
        Some(other) => {
            let text = format!("content encoding [{}] is not supported", String::from_utf8_lossy(other));
            Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "illegal_argument_exception", text))
        }
    }
}

/// A parameter of a query, decoded; empty when it isn't there.
fn parameter(query: &str, name: &str) -> String {
    let value = query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
    decoded(value.unwrap_or_default())
}

/// Percent-decoded; what isn't UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|h| std::str::from_utf8(h).ok());
        if let Some(value) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            out.push(value);
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        assert_eq!(parameter("a=1&filter_path=errors%2Citems.*.status", "filter_path"), "errors,items.*.status");
        assert_eq!(parameter("filter=1", "filter_path"), "");
        assert_eq!(decoded("%3Clogs-%7Bnow%2Fd%7D%3E%"), "<logs-{now/d}>%");
    }
}
