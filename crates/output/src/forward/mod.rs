//! The forward output (`output.forward`): events to Fluentd, Fluent Bit and whoever else speaks their protocol, version 1.
//!
//! Comes in: requests. Goes out: messages of many events with one tag (PackedForward, or compressed), each with an id that
//! the server repeats when it has taken the message. `msgpack` is the encoding, `message` makes messages, `answer` reads
//! what the server says, `login` is the handshake with a shared key, `line` a connection, `worker` drives one.
//!
//! Always holds: an event without an acknowledgement is sent again until it has one, in the same message with the same id;
//! work never waits for a host that is down while another is up. Facts: github.com/fluent/fluentd/wiki,
//! "Forward Protocol Specification v1"; Fluentd's `lib/fluent/plugin/out_forward.rb`. Tested in `tests.rs` against
//! scripted servers, and end to end by `cargo xtask e2e forward`.

mod answer;
mod line;
mod login;
mod message;
mod msgpack;
mod worker;

pub use answer::fuzz_answers;

use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_deflate::Level;
use tokio::task::JoinSet;

use crate::AckSink;
use crate::codec::{Codec, CodecOptions};
use crate::contract::{OutputContext, Requests};
use crate::dial::{Dial, Dialer};
use crate::format::Format;
use crate::hosts::Host;
use crate::net::{Connector, Proxy};
use crate::problem::Problem;
use crate::tls::TlsSettings;
use crate::turn::{ended, groups};
use crate::work::Pool;
use line::Line;
use login::Login;
use worker::{Settings, Worker};

/// The most events in a message.
const MOST_EVENTS: usize = 65_536;

/// What the user set in `output.forward`.
#[derive(Clone)]
pub struct ForwardOptions {
    /// `hosts`, at least one.
    hosts: Vec<Host>,
    /// `ssl`; `None` = no TLS.
    pub(crate) tls: Option<TlsSettings>,
    proxy: Option<Proxy>,
    /// `tag`.
    tag: Arc<Format>,
    shared_key: String,
    user: String,
    password: String,
    /// `self_hostname`; `None` = the host's name.
    hostname: Option<String>,
    /// `compression` and `compression_level`; `None` = no compression.
    level: Option<Level>,
    load_balance: bool,
    /// `worker`: connections to each host with load balancing.
    workers: usize,
    /// `pipelining`: messages on their way on one connection.
    in_flight: usize,
    bulk_max_size: usize,
    timeout: Duration,
    ack_timeout: Duration,
    backoff: (Duration, Duration),
    compat: Compat,
}

impl std::fmt::Debug for ForwardOptions {
    /// Without what may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwardOptions").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl ForwardOptions {
    /// Reads `output.forward`.
    pub fn from_section(section: &Section<'_>, compat: Compat) -> Result<ForwardOptions, Error> {
        let workers = match section.u64_in("worker", 1..=256)? {
            Some(workers) => Some(workers),
            None => section.u64_in("workers", 1..=256)?,
        };
        let bulk = section.i64("bulk_max_size")?.unwrap_or(2048);
        let (seconds, least) = (Duration::from_secs, Duration::from_millis(1));
        let time = |name: &str, default: u64| -> Result<Duration, Error> {
            Ok(section.duration(name)?.filter(|t| !t.is_zero()).unwrap_or(seconds(default)))
        };
        // As at the other outputs: it is retried without end.
        section.i64("max_retries")?;
        only_with_acks(section)?;
        let text = |name: &str| -> Result<String, Error> { Ok(section.str(name)?.unwrap_or_default()) };
        let (shared_key, user, password) = (text("shared_key")?, text("username")?, text("password")?);
        if shared_key.is_empty() && !(user.is_empty() && password.is_empty()) {
            let reason = "a user is named without a shared key, and the protocol has no login without one";
            return Err(section.error(
                "username",
                reason,
                "set `shared_key` too, or take `username` and `password` away",
            ));
        }
        Ok(ForwardOptions {
            hosts: hosts(section)?,
            tls: section.section("ssl")?.map(|ssl| TlsSettings::from_section(&ssl)).transpose()?.flatten(),
            proxy: Proxy::socks(section)?,
            tag: Arc::new(tag(section)?),
            shared_key,
            user,
            password,
            hostname: section.str("self_hostname")?.filter(|name| !name.is_empty()),
            level: level(section)?,
            load_balance: section.bool("loadbalance")?.unwrap_or(true),
            workers: workers.unwrap_or(1) as usize,
            in_flight: section.u64_in("pipelining", 1..=64)?.unwrap_or(4) as usize,
            // As at the other outputs: 0 and less mean no limit of the output's own.
            bulk_max_size: usize::try_from(bulk).ok().filter(|n| *n > 0).unwrap_or(MOST_EVENTS).min(MOST_EVENTS),
            timeout: time("timeout", 30)?,
            ack_timeout: time("ack_response_timeout", 60)?,
            backoff: (time("backoff.init", 1)?.max(least), time("backoff.max", 60)?.max(least)),
            compat,
        })
    }
}

fn only_with_acks(section: &Section<'_>) -> Result<(), Error> {
    if section.bool("require_ack_response")? == Some(false) {
        let reason = "without acknowledgements nobody knows what has arrived, and lines would be lost in silence";
        let remedy = "take the option away: servers acknowledge each message that asks for it";
        return Err(section.error("require_ack_response", reason, remedy));
    }
    Ok(())
}

fn tag(section: &Section<'_>) -> Result<Format, Error> {
    let text = section.str("tag")?.filter(|tag| !tag.is_empty()).unwrap_or_else(|| "filebeat".to_owned());
    Format::compile(&text)
        .map_err(|e| section.error("tag", e.to_string(), "fields are written `%{[name]}`, dates `%{+yyyy.MM.dd}`"))
}

fn level(section: &Section<'_>) -> Result<Option<Level>, Error> {
    let level = section.u64_in("compression_level", 1..=9)?.unwrap_or(3);
    let gzip = section.choice("compression", &["none", "gzip", "text"])? == Some("gzip");
    Ok(u8::try_from(level).ok().filter(|_| gzip).and_then(Level::new))
}

fn hosts(section: &Section<'_>) -> Result<Vec<Host>, Error> {
    let mut hosts = Vec::new();
    for text in section.strings("hosts")? {
        let host = Host::parse(&text, 24_224).and_then(|host| match host.scheme {
            Some(_) => Err("a URL isn't expected here".to_owned()),
            None if host.user.is_some() => Err("a user is set by `username` and `password`".to_owned()),
            None => Ok(host),
        });
        hosts.push(host.map_err(|why| section.error("hosts", why, "write hosts as `name:24224`"))?);
    }
    if hosts.is_empty() {
        return Err(section.error(
            "hosts",
            "there is no host",
            "give at least one, such as `hosts: ['fluentd:24224']`",
        ));
    }
    Ok(hosts)
}

/// The forward output.
pub struct Forward {
    options: ForwardOptions,
    context: OutputContext,
    dial: Arc<dyn Dial>,
}

impl Forward {
    /// Reads the certificates. An error is one of the configuration.
    pub fn new(options: ForwardOptions, context: OutputContext) -> Result<Forward, Problem> {
        let tls = options.tls.as_ref().map(|tls| tls.build(&context.world, &[])).transpose()?;
        let dial = Dialer {
            hosts: options.hosts.iter().map(|host| (host.clone(), tls.clone())).collect(),
            connector: Connector::new(context.world.clone(), options.proxy.clone(), options.timeout),
            timeout: options.timeout,
        };
        Ok(Forward { options, context, dial: Arc::new(dial) })
    }

    /// Connects to each host and logs in where there is a shared key (`test output`).
    pub async fn test(&self) -> Vec<(String, Result<(), Problem>)> {
        let (settings, mut results) = (self.settings(), Vec::new());
        for (at, host) in self.options.hosts.iter().enumerate() {
            let salt = format!("{:032x}", self.context.world.random.u128());
            results.push((host.to_string(), Line::open(&*self.dial, at, &settings, &salt).await.map(drop)));
        }
        results
    }

    fn settings(&self) -> Settings {
        let o = &self.options;
        let json = CodecOptions::Json { pretty: false, escape_html: false };
        Settings {
            login: Login {
                shared_key: o.shared_key.clone(),
                hostname: o.hostname.clone().unwrap_or_else(|| self.context.agent.hostname.clone()),
                user: o.user.clone(),
                password: o.password.clone(),
            },
            tag: Arc::clone(&o.tag),
            codec: Codec::new(json, o.compat, &self.context),
            level: o.level,
            bulk_max_size: o.bulk_max_size,
            in_flight: o.in_flight,
            timeout: o.timeout,
            ack_timeout: o.ack_timeout,
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
