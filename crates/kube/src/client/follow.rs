//! What there is, and what changes: list, then watch, for ever.
//!
//! Comes in: which objects. Goes out: [`Change`]s in order. Always holds: between [`Change::Listing`] and
//! [`Change::Listed`] every object there is comes as [`Change::Seen`]; a change after it is told once the server has told
//! it, however often the connection breaks; nothing is kept but one page of a list or one line of a watch; pauses between
//! attempts grow to half a minute and differ between replicas. Tested in `tests.rs`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use pillion_output::Problem;
use serde_json::Value;
use tokio::time::Instant;

use super::{Client, Error};

/// Objects in a page of a list; fewer when they are so large that a page would be too long.
const PAGE: usize = 250;
/// How long the server lets a watch run; it is begun again from where it stood.
const WATCH_SECONDS: u64 = 120;
/// How much longer a silent server is waited for.
const SLACK: Duration = Duration::from_secs(10);
/// The longest line of a watch, in bytes: an object has at most 1.5 MiB in etcd.
const LINE_LIMIT: usize = 8 << 20;
/// The pauses after failures.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Which objects are followed.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The list's path: `/api/v1/pods`.
    pub path: String,
    /// A selector of labels, as in the API: `app=x,!y`; empty = all.
    pub labels: String,
    /// A selector of fields: `spec.nodeName=n1`; empty = all.
    pub fields: String,
    /// Only metadata is sent (`PartialObjectMetadata`), no spec and no status.
    pub metadata_only: bool,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A complete list begins, at the start and when the server can't say what was missed. What isn't seen again before
    /// [`Change::Listed`] is gone.
    Listing,
    /// An object that is there, new or changed.
    Seen(Value),
    /// An object that is gone, as it was last.
    Gone(Value),
    /// The list is complete; what follows are changes.
    Listed,
}

/// Follows the objects until it is dropped. `each` gets the changes; `failed` each failure, after which it is tried
/// again.
pub async fn follow(
    client: &mut Client,
    what: &Watched,
    mut each: impl FnMut(Change),
    mut failed: impl FnMut(&Error),
) -> std::convert::Infallible {
    let mut pause = PAUSES.0;
    let mut version: Option<String> = None;
    loop {
        let begin = Instant::now();
        let outcome = match version.take() {
            None => list(client, what, &mut each).await.map(Some),
            Some(from) => watch(client, what, from, &mut version, &mut each).await.map(|()| None),
        };
        match outcome {
            // A server that ends watches at once isn't asked without rest.
            Ok(None) if begin.elapsed() < PAUSES.0 => {
                tokio::time::sleep(jittered(client, pause)).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Ok(listed) => {
                version = listed.or(version);
                pause = PAUSES.0;
            }
            Err(e) => {
                failed(&e);
                if e.is_expired() {
                    version = None;
                }
                tokio::time::sleep(jittered(client, pause)).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Between half and all of it.
fn jittered(client: &Client, pause: Duration) -> Duration {
    let half = pause / 2;
    half + half.mul_f64((client.world().random.u128() % 1000) as f64 / 1000.0)
}

fn query(what: &Watched) -> String {
    let mut out = format!("{}?", what.path);
    for (key, value) in [("labelSelector", &what.labels), ("fieldSelector", &what.fields)] {
        if !value.is_empty() {
            out.push_str(&format!("{key}={}&", encoded(value)));
        }
    }
    out
}

/// Percent-encoded, as a value of a query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// All pages; the version to watch from.
async fn list(client: &mut Client, what: &Watched, each: &mut impl FnMut(Change)) -> Result<String, Error> {
    each(Change::Listing);
    let mut go_on = String::new();
    let mut limit = PAGE;
    loop {
        let mut path = format!("{}limit={limit}", query(what));
        if !go_on.is_empty() {
            path.push_str(&format!("&continue={}", encoded(&go_on)));
        }
        let page = if what.metadata_only { client.get_metadata(&path).await } else { client.get(&path).await };
        let mut page = match page {
            Err(Error::TooLong(_)) if limit > 1 => {
                limit = (limit / 4).max(1);
                continue;
            }
            page => page?,
        };
        let metadata = |page: &Value, key: &str| page["metadata"][key].as_str().unwrap_or_default().to_owned();
        let (next, version) = (metadata(&page, "continue"), metadata(&page, "resourceVersion"));
        let items = match page.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            // An empty list, as Go writes it.
            Some(Value::Null) => Vec::new(),
            _ => return Err(Problem::bare(format!("{}: the API server's answer is no list", what.path)).into()),
        };
        for item in items {
            each(Change::Seen(item));
        }
        if next.is_empty() {
            each(Change::Listed);
            return Ok(version);
        }
        go_on = next;
    }
}

/// The state of one watch, behind a lock since pieces arrive in a closure.
struct Lines {
    open: Vec<u8>,
    version: String,
    error: Option<Error>,
}

/// One watch to its end. `version`: from where to go on, also after a failure.
async fn watch(
    client: &mut Client,
    what: &Watched,
    from: String,
    version: &mut Option<String>,
    each: &mut impl FnMut(Change),
) -> Result<(), Error> {
    let path = format!(
        "{}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
        query(what),
        encoded(&from)
    );
    let accept = match what.metadata_only {
        true => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        false => "application/json",
    };
    let lines = Mutex::new(Lines { open: Vec::new(), version: from, error: None });
    // A connection of its own: its time limit is another one.
    let mut own = client.clone();
    let limit = Duration::from_secs(WATCH_SECONDS) + SLACK;
    let outcome = own
        .exchange(Method::GET, &path, accept, None, limit, &mut |status, piece| {
            take(&mut lines.lock().unwrap_or_else(PoisonError::into_inner), status, piece, each);
        })
        .await;
    let Lines { open, version: reached, error } = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    *version = Some(reached);
    let status = match error {
        Some(error) => return Err(error),
        None => outcome?,
    };
    if status.is_success() {
        return Ok(());
    }
    Err(Error::refused(status.as_u16(), &serde_json::from_slice(&open).unwrap_or_default()))
}

/// Takes the complete lines out of what has come; of a refusal, the body is kept as it is.
fn take(lines: &mut Lines, status: StatusCode, piece: &[u8], each: &mut impl FnMut(Change)) {
    if lines.error.is_some() {
        return;
    }
    if lines.open.len() + piece.len() > LINE_LIMIT {
        let text = format!("a line of a watch is longer than {LINE_LIMIT} bytes");
        lines.error = Some(Problem::bare(text).into());
        return;
    }
    let searched = lines.open.len();
    lines.open.extend_from_slice(piece);
    if !status.is_success() {
        return;
    }
    let mut begin = 0;
    while let Some(end) = memchr::memchr(b'\n', lines.open.get(begin.max(searched)..).unwrap_or_default()) {
        let end = begin.max(searched) + end;
        let outcome = event(lines.open.get(begin..end).unwrap_or_default(), &mut lines.version, each);
        begin = end + 1;
        if let Err(e) = outcome {
            lines.error = Some(e);
            break;
        }
    }
    lines.open.drain(..begin);
}

fn event(line: &[u8], version: &mut String, each: &mut impl FnMut(Change)) -> Result<(), Error> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let bad = |e: serde_json::Error| Problem::bare(format!("a line of a watch isn't JSON: {e}"));
    let mut event: Value = serde_json::from_slice(line).map_err(bad)?;
    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
    let kind = event["type"].as_str().unwrap_or_default();
    if kind == "ERROR" {
        let code = object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
        return Err(Error::refused(code, &object));
    }
    if let Some(now) = object["metadata"]["resourceVersion"].as_str() {
        now.clone_into(version);
    }
    match kind {
        "ADDED" | "MODIFIED" => each(Change::Seen(object)),
        "DELETED" => each(Change::Gone(object)),
        // A bookmark, or what a later server has.
        _ => {}
    }
    Ok(())
}
