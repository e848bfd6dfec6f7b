//! One host as a `_bulk` endpoint: its URL, its headers, its connection, and what was learned of it.
//!
//! Always holds: an answer that isn't complete is a failure; of an error's body only a bounded beginning is kept, and
//! only its type is shown. Tested in `tests.rs`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use pillion_config::Compat;
use pillion_world::World;

use super::answer::{AnswerParser, Verdict};
use super::json::{Reader, Token};
use super::settings::{Settings, basic};
use crate::hosts::Host;
use crate::http::{Failure, HttpClient};
use crate::net::{Connector, Proxy};
use crate::problem::Problem;
use crate::tls::TlsClient;

/// What is kept of an error's body.
const ERROR_LIMIT: usize = 4 << 10;
/// How often a host may change its mind about `_type`.
const MOST_FLIPS: u8 = 2;

/// What the host said to a request.
pub(super) enum Reply {
    /// It took the request.
    Taken(Verdict),
    /// 413.
    TooLarge,
    /// It wants the same request with (or without) `_type`: [`Target::with_type`] has changed.
    OtherForm,
    /// Any other status: nothing of the request was done, or (`maybe_done`) nobody knows.
    Refused { problem: Problem, maybe_done: bool, status: StatusCode },
}

/// A host.
pub(super) struct Target {
    pub(super) client: HttpClient,
    /// Whether action lines need `_type` (Elasticsearch up to 6) or must not have it (8, OpenSearch 2).
    pub(super) with_type: bool,
    flips: u8,
    bulk: Uri,
    /// What stands before the path of any request: nothing, or the host where a proxy is asked; then `path`.
    base: String,
    /// `parameters` and those of the host.
    query: String,
    headers: HeaderMap,
}

impl Target {
    pub(super) fn new(
        settings: &Settings,
        host: &Host,
        tls: Option<TlsClient>,
        world: &World,
        gzip: bool,
    ) -> Result<Target, Problem> {
        let https = host.scheme.as_deref() == Some("https");
        let proxy = proxy(settings, host, https)?;
        let connector = Connector::new(world.clone(), proxy.clone(), settings.timeout);
        let client = HttpClient::new(connector, host.clone(), tls.filter(|_| https), settings.timeout);
        let base = if client.wants_whole_url() { format!("http://{host}") } else { String::new() };
        let mut query: Vec<&str> =
            [settings.parameters.as_str(), host.query.as_str()].into_iter().filter(|q| !q.is_empty()).collect();
        let own_query = query.join("&");
        if !query.iter().any(|q| q.contains("filter_path=")) {
            // A shorter answer: of an event that was taken only the status.
            query.push("filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason");
        }
        let bad =
            |_| Problem::new(format!("{host}: path or parameters can't stand in a URL"), "Check `path` and `hosts`.");
        let bulk = Uri::try_from(format!("{base}{}/_bulk?{}", host.path, query.join("&"))).map_err(bad)?;
        let base = format!("{base}{}", host.path);
        let to_proxy = proxy.as_ref().filter(|_| client.wants_whole_url());
        let headers = headers(settings, host, to_proxy, gzip);
        Ok(Target { client, with_type: settings.compat == Compat::V5, flips: 0, bulk, base, query: own_query, headers })
    }

    /// Sends a `_bulk` request of so many events.
    pub(super) async fn bulk(&mut self, body: Bytes, events: usize) -> Result<Reply, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.bulk.clone();
        *request.headers_mut() = self.headers.clone();
        let mut parser = AnswerParser::new(events);
        let mut error = Vec::new();
        let status = self.client.send(request, |status, piece| {
            if status.is_success() {
                parser.push(piece);
            } else {
                keep(&mut error, piece);
            }
        });
        let status = status.await?;
        if status.is_success() {
            return Ok(Reply::Taken(parser.finish()));
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(Reply::TooLarge);
        }
        if status == StatusCode::BAD_REQUEST && self.flips < MOST_FLIPS && wants_other_form(&error, self.with_type) {
            self.flips += 1;
            self.with_type = !self.with_type;
            return Ok(Reply::OtherForm);
        }
        let maybe_done = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
        Ok(Reply::Refused { problem: refusal(self.client.host(), status, &error), maybe_done, status })
    }

    /// `GET /`: the status and the beginning of the answer.
    pub(super) async fn root(&mut self) -> Result<(StatusCode, Vec<u8>), Failure> {
        self.send(Method::GET, "/", Vec::new()).await
    }

    /// A request that isn't `_bulk`, with the user's parameters: the status and the beginning of the answer. `path` and
    /// `query` are encoded.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        query: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Vec<u8>), Failure> {
        let query: Vec<&str> = [self.query.as_str(), query].into_iter().filter(|q| !q.is_empty()).collect();
        let whole = if query.is_empty() { path.to_string() } else { format!("{path}?{}", query.join("&")) };
        self.send(method, &whole, body).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), Failure> {
        let uri = Uri::try_from(format!("{}{path}", self.base)).map_err(|e| Failure {
            problem: Problem::bare(format!("{}: {e}", self.client.host())),
            maybe_received: false,
            was_idle: false,
        })?;
        let mut headers = self.headers.clone();
        headers.remove(header::CONTENT_ENCODING);
        if body.is_empty() {
            headers.remove(header::CONTENT_TYPE);
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        let mut answer = Vec::new();
        let status = self.client.send(request, |_, piece| keep(&mut answer, piece)).await?;
        Ok((status, answer))
    }
}

/// The proxy on the way to a host: `proxy_url`, else the environment's.
pub(super) fn proxy(settings: &Settings, host: &Host, https: bool) -> Result<Option<Proxy>, Problem> {
    if settings.proxy.is_some() || settings.proxy_disabled {
        return Ok(settings.proxy.clone());
    }
    let remedy = "Correct the variable, or set proxy_disable: true.";
    Proxy::from_environment(host, https, &|name| std::env::var(name).ok()).map_err(|why| Problem::new(why, remedy))
}

fn keep(kept: &mut Vec<u8>, piece: &[u8]) {
    let room = ERROR_LIMIT.saturating_sub(kept.len());
    kept.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
}

fn headers(settings: &Settings, host: &Host, to_proxy: Option<&Proxy>, gzip: bool) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(name == header::AUTHORIZATION || name == header::PROXY_AUTHORIZATION);
            map.insert(name, value);
        }
    };
    set(header::HOST, &host.to_string());
    set(header::USER_AGENT, concat!("pillion/", env!("CARGO_PKG_VERSION")));
    set(header::ACCEPT, "application/json");
    set(header::ACCEPT_ENCODING, "identity");
    set(header::CONTENT_TYPE, "application/json");
    if gzip {
        set(header::CONTENT_ENCODING, "gzip");
    }
    let own = host.user.as_ref().map(|(user, password)| basic(user, password));
    if let Some(value) = own.as_ref().or(settings.authorization.as_ref()) {
        set(header::AUTHORIZATION, value);
    }
    if let Some(value) = to_proxy.and_then(Proxy::authorization) {
        set(header::PROXY_AUTHORIZATION, &value);
    }
    let mut seen: Vec<HeaderName> = Vec::new();
    for (name, value) in &settings.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            if seen.contains(&name) {
                map.append(name, value);
            } else {
                map.insert(name.clone(), value);
                seen.push(name);
            }
        }
    }
    map
}

/// Whether a 400 says that `_type` is missing, or that it isn't known.
fn wants_other_form(error: &[u8], with_type: bool) -> bool {
    let said = |text: &[u8]| memchr::memmem::find(error, text).is_some();
    if with_type { said(b"unknown parameter [_type]") } else { said(b"type is missing") }
}

/// Says why a request was refused as a whole.
pub(super) fn refusal(host: &Host, status: StatusCode, body: &[u8]) -> Problem {
    let kind = error_type(body);
    let named = if kind.is_empty() { String::new() } else { format!(" ({kind})") };
    let remedy = match status.as_u16() {
        401 => "Check username and password, or api_key.",
        403 => {
            "The user needs the index privileges create_doc and auto_configure (or write and create_index) for this index."
        }
        404 => "Is this Elasticsearch or OpenSearch, and is `path` right?",
        407 => "Put user and password into proxy_url.",
        300..400 => "Redirects aren't followed: put the host that it points to into `hosts`.",
        429 => "The target is overloaded; it is tried again.",
        400..500 => "Is this the right host, and does anything between here and there change requests?",
        _ => "It is tried again.",
    };
    Problem::new(format!("{host} answered {status}{named}"), remedy)
}

/// `error.type` of an error's body, where it can be found in what was kept of it.
fn error_type(body: &[u8]) -> String {
    let (mut path, mut found) = ([false; 3], String::new());
    // A body that was cut off is no reason to say less.
    let _ = Reader::new().push(body, &mut |depth, token| match (depth, token) {
        (1, Token::Key(key)) => path[1] = key == b"error",
        (2, Token::Key(key)) => path[2] = key == b"type",
        (2, Token::Text(text)) if path[1] && path[2] => {
            found = text
                .iter()
                .filter(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .take(128)
                .map(|b| char::from(*b))
                .collect();
        }
        _ => {}
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_type_and_no_value() {
        let body =
            br#"{"error":{"root_cause":[{"type":"x"}],"type":"security_exception","reason":"secret [u]"},"status":401"#;
        assert_eq!(error_type(body), "security_exception");
        assert_eq!(error_type(b"<html>"), "");
        let p = refusal(&Host::parse("es", 9200).unwrap(), StatusCode::UNAUTHORIZED, body);
        assert_eq!(p.reason, "es:9200 answered 401 Unauthorized (security_exception)");
        assert!(p.remedy.contains("api_key"));
        let p = refusal(&Host::parse("es", 9200).unwrap(), StatusCode::TEMPORARY_REDIRECT, b"");
        assert!(p.remedy.contains("aren't followed"), "{p}");
    }
}
