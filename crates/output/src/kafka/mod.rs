//! The Kafka output (`output.kafka`): events as records of topics.
//!
//! Comes in: requests. Goes out: batches of records, one for each partition, to the brokers that lead them; each event is
//! settled by the answer for its batch. `wire` and `records` are the protocol, `broker` a connection, `cluster` who leads
//! what, `absent` which topics aren't there, `partition` which partition an event goes to, `worker` puts it together.
//!
//! Always holds: an event is sent again until a broker has it or refuses it for good; with `idempotent` a second sending
//! is told from the first, so that none is there twice within a run. Facts: elastic/beats `libbeat/outputs/kafka/`,
//! kafka.apache.org/protocol. Why without a client library: docs/decisions/kafka.md. Tested in `tests.rs` against a
//! scripted broker, and end to end by `cargo xtask e2e kafka`.

mod absent;
mod batch;
mod broker;
mod cluster;
mod partition;
mod records;
mod refusal;
mod sasl;
mod wire;
mod worker;

pub use wire::fuzz_answers;

use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_deflate::Level;
use tokio::task::JoinSet;

use crate::AckSink;
use crate::choose::Choice;
use crate::codec::{Codec, CodecOptions};
use crate::contract::{OutputContext, Requests};
use crate::format::Format;
use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::settle::Books;
use crate::tls::TlsSettings;
use crate::work::Pool;
use broker::{Broker, Client, Dialer, Reach};
use cluster::{Cluster, is_topic};
use partition::PartitionOptions;
use records::Compression;
use sasl::Mechanism;
use worker::{Settings, Worker};

/// The most events in a round.
const MOST_EVENTS: usize = 65_536;

/// What the user set in `output.kafka`.
#[derive(Clone)]
pub struct KafkaOptions {
    hosts: Vec<Host>,
    /// `ssl`; `None` = no TLS.
    pub(crate) tls: Option<TlsSettings>,
    client: Client,
    topic: Choice,
    key: Option<Format>,
    headers: Vec<(String, String)>,
    partition: PartitionOptions,
    codec: CodecOptions,
    compression: Compression,
    acks: i16,
    idempotent: bool,
    max_bytes: usize,
    bulk_max_size: usize,
    broker_timeout: Duration,
    backoff: (Duration, Duration),
    metadata_backoff: Duration,
    refresh: Duration,
    workers: usize,
    compat: Compat,
}

impl std::fmt::Debug for KafkaOptions {
    /// Without what may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaOptions").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl KafkaOptions {
    /// Reads `output.kafka`.
    pub fn from_section(s: &Section<'_>, compat: Compat) -> Result<KafkaOptions, Error> {
        let workers = match s.u64_in("worker", 1..=64)? {
            Some(workers) => Some(workers),
            None => s.u64_in("workers", 1..=64)?,
        };
        let bulk = s.i64("bulk_max_size")?.unwrap_or(2048);
        let (seconds, least) = (Duration::from_secs, Duration::from_millis(1));
        let time = |key: &str, default: Duration| Ok(s.duration(key)?.filter(|t| !t.is_zero()).unwrap_or(default));
        let backoff = (time("backoff.init", seconds(1))?.max(least), time("backoff.max", seconds(60))?.max(least));
        // Filebeat takes it and retries without end.
        s.i64("max_retries")?;
        version(s)?;
        let (acks, idempotent) = acks(s)?;
        let client = Client {
            id: s.str("client_id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| "beats".to_owned()),
            login: login(s)?,
            timeout: time("timeout", seconds(30))?,
        };
        Ok(KafkaOptions {
            hosts: hosts(s)?,
            tls: s.section("ssl")?.map(|ssl| TlsSettings::from_section(&ssl)).transpose()?.flatten(),
            client,
            topic: topic(s)?,
            key: key(s)?,
            headers: headers(s)?,
            partition: PartitionOptions::from_section(s)?,
            codec: CodecOptions::from_section(s, compat)?,
            compression: compression(s)?,
            acks,
            idempotent,
            max_bytes: s.u64_in("max_message_bytes", 1..=1 << 30)?.unwrap_or(1_000_000) as usize,
            bulk_max_size: usize::try_from(bulk).ok().filter(|n| *n > 0).unwrap_or(MOST_EVENTS).min(MOST_EVENTS),
            broker_timeout: time("broker_timeout", seconds(10))?,
            backoff,
            metadata_backoff: time("metadata.retry.backoff", Duration::from_millis(250))?.max(least),
            refresh: time("metadata.refresh_frequency", seconds(600))?,
            workers: workers.unwrap_or(1) as usize,
            compat,
        })
    }
}

fn hosts(s: &Section<'_>) -> Result<Vec<Host>, Error> {
    let mut hosts = Vec::new();
    for text in s.strings("hosts")? {
        let host = Host::parse(&text, 9092).and_then(|host| match host.scheme {
            Some(_) => Err("a URL isn't expected here".to_owned()),
            None => Ok(host),
        });
        hosts.push(host.map_err(|why| s.error("hosts", why, "write hosts as `name:9092`"))?);
    }
    if hosts.is_empty() {
        return Err(s.error("hosts", "there is no host", "give at least one, such as `hosts: ['kafka:9092']`"));
    }
    Ok(hosts)
}

fn topic(s: &Section<'_>) -> Result<Choice, Error> {
    let topic = Choice::from_section(s, "topic", "topics", None)?;
    if topic.is_empty() {
        return Err(s.error("topic", "there is no topic", "name one, such as `topic: logs`"));
    }
    if topic.constant().is_some_and(|name| !is_topic(name)) {
        return Err(s.error("topic", "not a name that a topic can have", "use letters, digits, `.`, `_` and `-`"));
    }
    Ok(topic)
}

fn key(s: &Section<'_>) -> Result<Option<Format>, Error> {
    let Some(text) = s.str("key")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let remedy = "fields are written `%{[name]}`, dates `%{+yyyy.MM.dd}`";
    Format::compile(&text).map(Some).map_err(|e| s.error("key", e.to_string(), remedy))
}

fn headers(s: &Section<'_>) -> Result<Vec<(String, String)>, Error> {
    let mut headers = Vec::new();
    for header in s.sections("headers")? {
        let key = header.str("key")?.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| header.error_here("a header without `key`", "write `{key: name, value: text}`"))?;
        headers.push((key, header.str("value")?.unwrap_or_default()));
    }
    Ok(headers)
}

fn compression(s: &Section<'_>) -> Result<Compression, Error> {
    let level = s.u64_in("compression_level", 0..=9)?.unwrap_or(4);
    match s.choice("compression", &["none", "gzip", "snappy", "lz4", "zstd"])? {
        Some("none") => Ok(Compression::None),
        Some("snappy") => Ok(Compression::Snappy),
        Some("lz4") => Ok(Compression::Lz4),
        Some("zstd") => Ok(Compression::Zstd),
        _ => Ok(u8::try_from(level).ok().and_then(Level::new).map_or(Compression::None, Compression::Gzip)),
    }
}

/// `required_acks` and `idempotent`.
fn acks(s: &Section<'_>) -> Result<(i16, bool), Error> {
    let idempotent = s.bool("idempotent")?.unwrap_or(false);
    let acks = match s.i64("required_acks")? {
        None if idempotent => -1,
        None => 1,
        Some(n @ -1..=1) => n as i16,
        Some(_) => return Err(s.error("required_acks", "not a number of answers", "give -1 (all), 1 or 0")),
    };
    if idempotent && acks != -1 {
        return Err(s.error(
            "idempotent",
            "it needs the word of all replicas",
            "set required_acks: -1, or leave it out",
        ));
    }
    if acks == 0 {
        s.warn(
            "required_acks",
            "0 asks for no answer: lines count as delivered when they are sent, and may be lost",
            "set 1 or -1",
        );
    }
    Ok((acks, idempotent))
}

/// `version`: what brokers speak is asked of them; only what is too old is told.
fn version(s: &Section<'_>) -> Result<(), Error> {
    let Some(text) = s.str("version")?.filter(|text| !text.is_empty()) else { return Ok(()) };
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), minor) = (parts.next(), parts.next().flatten()) else {
        return Err(s.error("version", "not a version of Kafka", "leave it out: brokers are asked what they speak"));
    };
    if major == 0 && minor.is_some_and(|minor| minor < 11) {
        s.warn(
            "version",
            "records are written as Kafka 0.11 and later keep them, and older brokers aren't spoken to",
            "leave it out when the brokers are newer",
        );
    }
    Ok(())
}

fn login(s: &Section<'_>) -> Result<Option<(Mechanism, String, String)>, Error> {
    let mechanism = s.str("sasl.mechanism")?.map(|name| name.to_ascii_uppercase());
    let user = s.str("username")?.filter(|user| !user.is_empty());
    let password = s.str("password")?.unwrap_or_default();
    let mechanism = match mechanism.as_deref() {
        None | Some("" | "PLAIN") => Mechanism::Plain,
        Some("SCRAM-SHA-256") => Mechanism::Scram256,
        Some("SCRAM-SHA-512") => Mechanism::Scram512,
        Some(_) => {
            let remedy = "there are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512";
            return Err(s.error("sasl.mechanism", "not a mechanism that is known here", remedy));
        }
    };
    match user {
        Some(_) if password.is_empty() => {
            Err(s.error("username", "there is no password for it", "set output.kafka.password"))
        }
        Some(user) => Ok(Some((mechanism, user, password))),
        None if !password.is_empty() => {
            Err(s.error("password", "there is no user for it", "set output.kafka.username"))
        }
        None => Ok(None),
    }
}

/// The Kafka output.
pub struct Kafka {
    options: KafkaOptions,
    context: OutputContext,
    reach: Arc<dyn Reach>,
}

impl Kafka {
    /// Reads the certificates. An error is one of the configuration.
    pub fn new(options: KafkaOptions, context: OutputContext) -> Result<Kafka, Problem> {
        let timeout = options.client.timeout;
        let connector = Connector::new(context.world.clone(), None, timeout);
        let tls = options.tls.as_ref().map(|tls| tls.build(&context.world, &[])).transpose()?;
        Ok(Kafka { options, context, reach: Arc::new(Dialer { connector, tls, timeout }) })
    }

    /// Connects to each host and logs in, then asks for the topic where there is one for all (`test output`).
    pub async fn test(&self) -> Vec<(String, Result<(), Problem>)> {
        let (o, random, mut results) = (&self.options, &*self.context.world.random, Vec::new());
        for host in &o.hosts {
            let opened = Broker::open(&*self.reach, host, &o.client, random).await;
            results.push((host.to_string(), opened.map(drop)));
        }
        if let Some(topic) = o.topic.constant().filter(|_| results.iter().any(|(_, r)| r.is_ok())) {
            let outcome = self.cluster().refresh(&[topic.to_owned()]).await;
            results.push((format!("topic {topic}"), outcome.and_then(|trouble| trouble.map_or(Ok(()), Err))));
        }
        results
    }

    fn cluster(&self) -> Cluster {
        let random = Arc::clone(&self.context.world.random);
        Cluster::new(Arc::clone(&self.reach), self.options.client.clone(), random, self.options.hosts.clone())
    }

    fn settings(&self) -> Settings {
        let o = &self.options;
        Settings {
            acks: o.acks,
            broker_timeout: o.broker_timeout,
            compression: o.compression,
            max_bytes: o.max_bytes,
            bulk_max_size: o.bulk_max_size,
            backoff: o.backoff,
            metadata_backoff: o.metadata_backoff,
            refresh: o.refresh,
            topic: o.topic.clone(),
            key: o.key.clone(),
            headers: o.headers.clone(),
            codec: Codec::new(o.codec.clone(), o.compat, &self.context),
            partition: o.partition.clone(),
            idempotent: o.idempotent,
        }
    }

    /// Delivers until the requests have ended and everything is settled; only then it returns. Dropping the future
    /// stops at once and leaves unsettled what is in flight.
    ///
    /// # Errors
    /// When a worker failed: a defect.
    pub async fn run(self, requests: Arc<dyn Requests>, acks: Arc<dyn AckSink>) -> Result<(), Problem> {
        let settings = Arc::new(self.settings());
        let pool = Pool::new(requests, settings.bulk_max_size);
        let mut workers = JoinSet::new();
        for _ in 0..self.options.workers {
            let books = Books::new(Arc::clone(&acks), Arc::clone(&self.context.stats));
            let (pool, settings) = (Arc::clone(&pool), Arc::clone(&settings));
            workers.spawn(Worker::new(pool, books, settings, self.context.clone(), self.cluster()).run());
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|e| Problem::bare(format!("a worker of the output failed: {e}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
