//! Real search servers on loopback, for end-to-end tests.
//!
//! Comes in: which server, with which settings. Goes out: a running [`Server`], and questions to it.
//! Always holds: at most two run at a time (each takes up to 512 MB of heap); each listens on free loopback ports, is
//! asked over HTTP whether it is ready, and ends with the value that stands for it; logs stay when something failed.
//! Tested by `cargo xtask e2e servers` and all that is built upon it.

mod build;
mod jdk;
mod quirks;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::child::Child;
use crate::http::{self, Answer};
use crate::{Outcome, ports, wait};

pub(crate) use quirks::check;

const READY_WITHIN: Duration = Duration::from_secs(120);

/// A server, with its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 5.6.16: mapping types, items without `_seq_no`, 429 only for items.
    Elasticsearch5,
    /// 7.10.2: the last one that OpenSearch comes from.
    Elasticsearch7,
    /// 8.19.14: without x-pack, so without data stream management.
    Elasticsearch8,
    /// 2.19.1.
    OpenSearch2,
    /// 3.8.0: needs Java 21.
    OpenSearch3,
}

impl Kind {
    /// All of them, oldest first.
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Elasticsearch5, Kind::Elasticsearch7, Kind::Elasticsearch8, Kind::OpenSearch2, Kind::OpenSearch3];

    /// Its name, which is its folder's too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Elasticsearch5 => "elasticsearch-5.6",
            Kind::Elasticsearch7 => "elasticsearch-7.10",
            Kind::Elasticsearch8 => "elasticsearch-8.19",
            Kind::OpenSearch2 => "opensearch-2.19",
            Kind::OpenSearch3 => "opensearch-3.8",
        }
    }

    /// Whether an index has a mapping type, which `_bulk` must name.
    pub(crate) fn typed(self) -> bool {
        self == Kind::Elasticsearch5
    }

    fn main(self) -> &'static str {
        match self {
            Kind::Elasticsearch5 | Kind::Elasticsearch7 => "RunElasticsearch",
            Kind::Elasticsearch8 => "RunElasticsearch8",
            Kind::OpenSearch2 | Kind::OpenSearch3 => "RunOpenSearch",
        }
    }

    fn java(self) -> RangeInclusive<u32> {
        if self == Kind::OpenSearch3 { 21..=99 } else { 17..=17 }
    }

    /// Why it can't run here, when a JDK is missing.
    pub(crate) fn missing(self) -> Option<String> {
        jdk::tool(self.java(), "javac").err()
    }

    /// Builds it now, for a network that leads nowhere.
    pub(crate) fn ready(self) -> Outcome {
        build::ready(self).map(drop)
    }

    /// The name of the settings of the pool that writes.
    pub(crate) fn write_pool(self) -> &'static str {
        if self == Kind::Elasticsearch5 { "thread_pool.bulk" } else { "thread_pool.write" }
    }

    fn settings(self, http: u16, transport: u16) -> Vec<String> {
        let mut all =
            vec![format!("http.port={http}"), "cluster.routing.allocation.disk.threshold_enabled=false".into()];
        match self {
            Kind::Elasticsearch5 => all.push(format!("transport.tcp.port={transport}")),
            _ => all.push(format!("transport.port={transport}")),
        }
        match self {
            Kind::Elasticsearch5 => {}
            Kind::Elasticsearch7 => all.push("node.roles=master,data,ingest".into()),
            // Since 8 indices can be deleted by their full names alone, unless this is said.
            Kind::Elasticsearch8 => all.extend(
                ["discovery.type=single-node", "cluster.name=e2e", "action.destructive_requires_name=false"]
                    .map(str::to_owned),
            ),
            Kind::OpenSearch2 | Kind::OpenSearch3 => all.push("node.roles=cluster_manager,data,ingest".into()),
        }
        all
    }
}

/// A server that runs.
pub(crate) struct Server {
    kind: Kind,
    built: PathBuf,
    port: u16,
    settings: Vec<String>,
    home: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with further settings (`"thread_pool.write.size=1"`) and waits until it answers.
    pub(crate) fn start(kind: Kind, further: &[&str]) -> Outcome<Server> {
        let built = build::ready(kind)?;
        let home = tempfile::Builder::new().prefix(kind.name()).tempdir().map_err(|e| e.to_string())?;
        let port = ports::free()?;
        let mut settings = kind.settings(port, ports::free()?);
        settings.extend(further.iter().map(|&s| s.to_owned()));
        let mut server = Server { kind, built, port, settings, home, child: None };
        match server.start_again() {
            Ok(()) => Ok(server),
            Err(why) => Err(format!("{why}\n{}", server.keep_log())),
        }
    }

    /// Starts it again with the same data, ports and settings, after [`Server::stop`].
    pub(crate) fn start_again(&mut self) -> Outcome {
        let mut java = Command::new(jdk::tool(self.kind.java(), "java")?);
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.arg(format!("-Dmodule={}/module", self.built.display())).arg("-cp");
        java.arg(format!("{0}/classes:{0}/lib/*", self.built.display())).arg(self.kind.main());
        java.arg(self.home.path().join("home")).args(&self.settings);
        self.child = Some(Child::start(&mut java, &self.log())?);
        wait::until(&format!("{} to be ready", self.kind.name()), READY_WITHIN, || {
            if let Some(ended) = self.child.as_mut().map(Child::ended).transpose()?.flatten() {
                return Err(format!("{} ended: {}", self.kind.name(), ended.status));
            }
            let answer = http::request(self.port, "GET", "/_cluster/health?wait_for_status=yellow&timeout=5s", b"");
            Ok(answer.ok().filter(|a| a.status == 200).map(drop))
        })
    }

    /// Ends it; `hard` = by SIGKILL, as a crash does.
    pub(crate) fn stop(&mut self, hard: bool) -> Outcome {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.signal(if hard { Signal::KILL } else { Signal::TERM });
        child.wait(Duration::from_secs(60)).map(drop)
    }

    /// Which server it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its HTTP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its resident size now, in bytes; 0 when it doesn't run.
    pub(crate) fn resident(&self) -> u64 {
        let id = self.child.as_ref().map_or(0, Child::id);
        crate::child::status_kib(id, "VmRSS").unwrap_or(0) * 1024
    }

    /// Sends a request.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Outcome<Answer> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        http::request(self.port, method, path, &body)
    }

    /// All documents of the indices that match, as `(id, source)`, in no particular order.
    pub(crate) fn documents(&self, index: &str) -> Outcome<Vec<(String, Value)>> {
        self.ask("POST", &format!("/{index}/_refresh"), &Value::Null)?;
        let mut page = self
            .ask("POST", &format!("/{index}/_search?scroll=1m"), &json!({"size": 5000, "sort": ["_doc"]}))?
            .good()?
            .json();
        let mut all = Vec::new();
        loop {
            let hits = page["hits"]["hits"].as_array().cloned().unwrap_or_default();
            if hits.is_empty() {
                return Ok(all);
            }
            for hit in hits {
                all.push((hit["_id"].as_str().unwrap_or_default().to_owned(), hit["_source"].clone()));
            }
            let next = json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
            page = self.ask("POST", "/_search/scroll", &next)?.good()?.json();
        }
    }

    /// The file that its output goes to.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    /// Copies the log to where it outlives the server, and says where.
    pub(crate) fn keep_log(&self) -> String {
        let kept = crate::root().join(format!("target/e2e/{}.log", self.kind.name()));
        let copy = || -> std::io::Result<()> {
            fs::create_dir_all(kept.parent().unwrap_or(Path::new(".")))?;
            fs::copy(self.log(), &kept).map(drop)
        };
        match copy() {
            Ok(()) => format!("its log: {}", kept.display()),
            Err(e) => format!("its log couldn't be kept: {e}"),
        }
    }
}

/// The path of a Java of one of these versions.
pub(crate) fn java(wanted: RangeInclusive<u32>) -> Outcome<PathBuf> {
    jdk::tool(wanted, "java")
}

/// Starts the server, prints how long that took, and checks what tests rely on.
pub(crate) fn try_out(kind: Kind) -> Outcome {
    let begin = Instant::now();
    let mut server = Server::start(kind, &[])?;
    let (took, resident) = (begin.elapsed().as_secs_f64(), server.resident() / 1_000_000);
    println!("{}: ready in {took:.1} s, {resident} MB resident", kind.name());
    let outcome = check(&mut server);
    if outcome.is_err() {
        eprintln!("{}", server.keep_log());
    }
    server.stop(false)?;
    outcome
}
