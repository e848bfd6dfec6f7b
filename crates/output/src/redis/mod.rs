//! The Redis output (`output.redis`): events pushed onto a list, or published on a channel.
//!
//! Comes in: requests. Goes out: `RPUSH` with as many values as share a key, or `PUBLISH` for each event, many commands
//! at once; each event is settled by the answer to its command. `resp` is the protocol, `refusal` says what the server's
//! errors mean, `worker` drives one connection.
//!
//! Always holds: an event without an answer, or with a refusal, is sent again until it is taken; work never waits for a
//! host that is down while another is up. A number is an acknowledgement, also 0 receivers of a channel, as in Filebeat.
//! Facts: elastic/beats `libbeat/outputs/redis/`. Why without a client library: docs/decisions/redis.md. Tested in
//! `tests.rs` against scripted servers, and end to end by `cargo xtask e2e redis`.

mod refusal;
mod resp;
mod worker;

pub use resp::fuzz_answers;

use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use tokio::task::JoinSet;

use crate::AckSink;
use crate::choose::Choice;
use crate::codec::{Codec, CodecOptions};
use crate::contract::{OutputContext, Requests};
use crate::dial::{Dial, Dialer};
use crate::hosts::Host;
use crate::net::{Connector, Proxy};
use crate::problem::Problem;
use crate::tls::TlsSettings;
use crate::turn::{ended, groups};
use crate::work::Pool;
use worker::{Line, Login, Settings, Worker};

/// The most events in a request.
const MOST_EVENTS: usize = 65_536;

/// What becomes of an event at the server (`datatype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `RPUSH`: it is kept.
    List,
    /// `PUBLISH`: who listens gets it.
    Channel,
}

/// What the user set in `output.redis`.
#[derive(Clone)]
pub struct RedisOptions {
    /// `hosts`, at least one; a scheme says whether there is TLS.
    hosts: Vec<Host>,
    /// `ssl`, for hosts without a scheme and for `rediss://`.
    tls: Option<TlsSettings>,
    proxy: Option<Proxy>,
    user: String,
    password: String,
    db: u64,
    kind: Kind,
    /// `key` and `keys`.
    key: Choice,
    /// `index`: what `@metadata.beat` says, and the key when there is none.
    index: String,
    codec: CodecOptions,
    load_balance: bool,
    /// `worker`: connections to each host with load balancing.
    workers: usize,
    bulk_max_size: usize,
    timeout: Duration,
    backoff: (Duration, Duration),
    compat: Compat,
}

impl std::fmt::Debug for RedisOptions {
    /// Without what may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// Reads `output.redis`.
    pub fn from_section(section: &Section<'_>, compat: Compat) -> Result<RedisOptions, Error> {
        let v5 = compat == Compat::V5;
        let port = section.u64_in("port", 1..=65_535)?.filter(|_| v5).map_or(6379, |port| port as u16);
        let workers = match section.u64_in("worker", 1..=256)? {
            Some(workers) => Some(workers),
            None => section.u64_in("workers", 1..=256)?,
        };
        let bulk = section.i64("bulk_max_size")?.unwrap_or(2048);
        let kind = match section.choice("datatype", &["", "list", "channel"])? {
            Some("channel") => Kind::Channel,
            _ => Kind::List,
        };
        let index = section.str("index")?.filter(|index| !index.is_empty()).unwrap_or_else(|| "filebeat".to_owned());
        let (seconds, least) = (Duration::from_secs, Duration::from_millis(1));
        let init = section.duration("backoff.init")?.unwrap_or(seconds(1)).max(least);
        let max = section.duration("backoff.max")?.unwrap_or(seconds(60)).max(least);
        // Filebeat takes it and retries without end.
        section.i64("max_retries")?;
        let tls = section.section("ssl")?.map(|ssl| TlsSettings::from_section(&ssl)).transpose()?.flatten();
        Ok(RedisOptions {
            hosts: hosts(section, port)?,
            tls,
            proxy: Proxy::socks(section)?,
            user: section.str("username")?.unwrap_or_default(),
            password: section.str("password")?.unwrap_or_default(),
            db: section.u64_in("db", 0..=1_000_000)?.unwrap_or(0),
            kind,
            key: Choice::from_section(section, "key", "keys", Some(&index))?,
            // The key keeps its upper case, `@metadata.beat` doesn't.
            index: if v5 { index } else { index.to_lowercase() },
            codec: CodecOptions::from_section(section, compat)?,
            load_balance: section.bool("loadbalance")?.unwrap_or(true),
            workers: workers.unwrap_or(1) as usize,
            // Filebeat: 0 and less mean no limit of the output's own.
            bulk_max_size: usize::try_from(bulk).ok().filter(|n| *n > 0).unwrap_or(MOST_EVENTS).min(MOST_EVENTS),
            timeout: section.duration("timeout")?.filter(|t| !t.is_zero()).unwrap_or(seconds(5)),
            backoff: (init, max),
            compat,
        })
    }

    /// The TLS settings, when any host is reached by TLS.
    pub(crate) fn tls(&self) -> Option<TlsSettings> {
        self.hosts.iter().find_map(|host| self.tls_of(host))
    }

    /// `redis://` is without TLS, `rediss://` with it; a host without a scheme has it when there is a section `ssl`.
    fn tls_of(&self, host: &Host) -> Option<TlsSettings> {
        match host.scheme.as_deref() {
            Some("redis") => None,
            Some(_) => Some(self.tls.clone().unwrap_or_default()),
            None => self.tls.clone(),
        }
    }
}

fn hosts(section: &Section<'_>, port: u16) -> Result<Vec<Host>, Error> {
    let mut hosts = Vec::new();
    for text in section.strings("hosts")? {
        let host = Host::parse(&text, port).and_then(|host| match host.scheme.as_deref() {
            Some(other) if !["redis", "rediss"].contains(&other) => Err(format!("the scheme {other:?} isn't known")),
            _ if !host.path.is_empty() || !host.query.is_empty() => {
                Err("a path isn't read here: the database is set by `db`".to_owned())
            }
            _ => Ok(host),
        });
        let host = host.map_err(|why| {
            let why = format!("host {} isn't usable: {why}", hosts.len() + 1);
            section.error("hosts", why, "write `name:6379`, `redis://name:6379` or, with TLS, `rediss://name:6379`")
        })?;
        hosts.push(host);
    }
    if hosts.is_empty() {
        return Err(section.error("hosts", "there is no host", "give at least one, such as `hosts: ['redis:6379']`"));
    }
    Ok(hosts)
}

/// The Redis output.
pub struct Redis {
    options: RedisOptions,
    context: OutputContext,
    dial: Arc<dyn Dial>,
}

impl Redis {
    /// Reads the certificates. An error is one of the configuration.
    pub fn new(options: RedisOptions, context: OutputContext) -> Result<Redis, Problem> {
        // One client for all hosts: sessions are resumed.
        let client = options.tls().map(|tls| tls.build(&context.world, &[])).transpose()?;
        let tls = |host: &Host| options.tls_of(host).and(client.clone());
        let dial = Dialer {
            hosts: options.hosts.iter().map(|host| (host.clone(), tls(host))).collect(),
            connector: Connector::new(context.world.clone(), options.proxy.clone(), options.timeout),
            timeout: options.timeout,
        };
        Ok(Redis { options, context, dial: Arc::new(dial) })
    }

    /// Connects to each host and logs in (`test output`).
    pub async fn test(&self) -> Vec<(String, Result<(), Problem>)> {
        let (settings, mut results) = (self.settings(), Vec::new());
        for (at, host) in self.options.hosts.iter().enumerate() {
            results.push((host.to_string(), Line::open(&*self.dial, at, &settings).await.map(drop)));
        }
        results
    }

    fn settings(&self) -> Settings {
        let o = &self.options;
        let login = |host: &Host| {
            let (user, password) = host.user.as_ref().map_or(("", ""), |(user, password)| (user, password));
            let or = |own: &str, other: &String| if own.is_empty() { other.clone() } else { own.to_owned() };
            Login { user: or(user, &o.user), password: or(password, &o.password), db: o.db }
        };
        Settings {
            logins: o.hosts.iter().map(login).collect(),
            kind: o.kind,
            key: o.key.clone(),
            codec: Codec::with_index(o.codec.clone(), o.compat, &self.context, Some(&o.index)),
            bulk_max_size: o.bulk_max_size,
            timeout: o.timeout,
            backoff: o.backoff,
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
        let random = &*self.context.world.random;
        for hosts in groups(self.options.hosts.len(), self.options.load_balance, self.options.workers, random) {
            let (pool, acks, dial) = (Arc::clone(&pool), Arc::clone(&acks), Arc::clone(&self.dial));
            let worker = Worker::new(pool, acks, dial, hosts, Arc::clone(&settings), self.context.clone());
            workers.spawn(worker.run());
        }
        ended(workers).await
    }
}

#[cfg(test)]
mod tests;
