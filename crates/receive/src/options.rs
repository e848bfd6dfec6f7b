//! What a receiver does: filled by the command line, by tests and by the demo.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pillion_lumberjack::ServerOptions;

use crate::bulk::BulkLimits;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The Beats protocol, as Logstash.
    Lumberjack,
    /// HTTP with `_bulk`, as Elasticsearch.
    Elasticsearch,
}

impl Kind {
    /// Its name in messages and in the names of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Lumberjack => "lumberjack",
            Kind::Elasticsearch => "elasticsearch",
        }
    }
}

/// One port.
#[derive(Clone, Debug)]
pub struct Listen {
    /// What is spoken there.
    pub kind: Kind,
    /// Where; port 0 takes a free one. Only loopback is safe: whoever can connect can fill the disk.
    pub address: SocketAddr,
    /// TLS, if any; see [`tls_config`](crate::tls_config).
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listen {
    /// A free port on loopback, without TLS.
    pub fn loopback(kind: Kind) -> Listen {
        Listen { kind, address: (Ipv4Addr::LOCALHOST, 0).into(), tls: None }
    }
}

/// An event as it arrived, for [`Sink::Call`].
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// How.
    pub kind: Kind,
    /// The index it was sent to; empty from Lumberjack.
    pub index: &'a str,
    /// Its id, if it was sent with one.
    pub id: Option<&'a str>,
    /// Its JSON; not checked to be JSON.
    pub json: &'a [u8],
}

/// Where events go.
#[derive(Clone)]
pub enum Sink {
    /// One NDJSON file for each port, `<kind>-<port>.ndjson`, in this folder. Files are appended to.
    Folder(PathBuf),
    /// NDJSON to standard output.
    Stdout,
    /// Nowhere: events are only counted, and their JSON isn't looked at. For benchmarks.
    Count,
    /// To a function, on the receiver's thread, before they are acknowledged.
    Call(Arc<dyn Fn(Arrived<'_>) + Send + Sync>),
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sink::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Sink::Stdout => f.write_str("Stdout"),
            Sink::Count => f.write_str("Count"),
            Sink::Call(_) => f.write_str("Call"),
        }
    }
}

/// What a receiver does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ports.
    pub listen: Vec<Listen>,
    /// Where events go.
    pub sink: Sink,
    /// Whether lines of `_bulk` are written with what was said about them:
    /// `{"action":"create","index":"…","id":"…","doc":{…}}` instead of the document alone.
    pub with_action: bool,
    /// How long each batch waits between its writing and its answer.
    pub delay: Duration,
    /// Refuse every n-th: items of `_bulk` by a 429, windows of Lumberjack by closing the connection.
    pub reject_every: Option<NonZeroU64>,
    /// The version that `GET /` answers.
    pub version: String,
    /// How many ids of `create` and `index` are remembered; the oldest are forgotten first, and a `create` of a
    /// forgotten one succeeds again. Each takes about 50 bytes.
    pub ids: usize,
    /// Connections at once for each port; more have to wait.
    pub connections: usize,
    /// Bytes of a request's body, before and after decompression; more is answered by a 413 (Elasticsearch: 100 MB).
    pub body_bytes: usize,
    /// Requests that are read and handled at once; more have to wait.
    pub requests: usize,
    /// What a `_bulk` request may hold.
    pub bulk: BulkLimits,
    /// How the Lumberjack side behaves.
    pub lumberjack: ServerOptions,
}

impl Default for Options {
    /// One port of each kind on loopback, events only counted.
    fn default() -> Options {
        Options {
            listen: vec![Listen::loopback(Kind::Lumberjack), Listen::loopback(Kind::Elasticsearch)],
            sink: Sink::Count,
            with_action: false,
            delay: Duration::ZERO,
            reject_every: None,
            version: "8.19.3".into(),
            ids: 1_000_000,
            connections: 256,
            body_bytes: 100 << 20,
            requests: 8,
            bulk: BulkLimits::default(),
            lumberjack: ServerOptions::default(),
        }
    }
}
