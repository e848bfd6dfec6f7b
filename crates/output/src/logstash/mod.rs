//! The Logstash output (`output.logstash`): the Beats protocol with windows in flight, compression and partial
//! acknowledgements.
//!
//! Comes in: requests. Goes out: windows of JSON events; each event is settled when the server has acknowledged it.
//! `worker` drives one connection, [`crate::work`] shares the requests between workers.
//!
//! Always holds: an unacknowledged event is sent again until it is acknowledged; a server that says it lives is waited
//! for without end; work never waits for a host that is down while another is up. Facts: elastic/beats
//! `libbeat/outputs/logstash/`, elastic/go-lumber, logstash-input-beats. Tested in `tests.rs` against scripted servers.

mod stays;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_lumberjack::Level;
use tokio::task::JoinSet;

use crate::AckSink;
use crate::contract::{OutputContext, Requests};
use crate::dial::{Dial, Dialer};
use crate::hosts::Host;
use crate::net::{Connector, Proxy};
use crate::problem::Problem;
use crate::render::{RenderOptions, Renderer, Target};
use crate::tls::TlsSettings;
use crate::turn::{ended, groups};
use crate::work::Pool;
use worker::{Settings, Worker};

/// The most events in a window.
const MOST_EVENTS: usize = 65_536;

/// What the user set in `output.logstash`.
#[derive(Clone)]
pub struct LogstashOptions {
    /// `hosts`, at least one.
    pub hosts: Vec<Host>,
    /// `loadbalance`: all hosts at once; else one, and another one when it fails.
    pub load_balance: bool,
    /// `worker`: connections to each host; only with load balancing, as in Filebeat.
    pub workers: usize,
    /// `bulk_max_size`: the most events in a window, 1 to 65,536.
    pub bulk_max_size: usize,
    /// `slow_start`: small windows at first and after an error.
    pub slow_start: bool,
    /// `pipelining`: windows in flight; 0 and 1 are the same.
    pub pipelining: usize,
    /// `timeout`: how long a server may say nothing while events wait, and how long connecting may take.
    pub timeout: Duration,
    /// `ttl`: connections are made anew after this time (for load balancers and moved names); `None` = never.
    pub ttl: Option<Duration>,
    /// `compression_level`: `None` = 0, not compressed.
    pub compression: Option<Level>,
    /// `backoff.init` and `backoff.max`.
    pub backoff: (Duration, Duration),
    /// `escape_html`.
    pub escape_html: bool,
    /// `index`: what `@metadata.beat` says.
    pub index: String,
    /// `proxy_url`.
    pub proxy: Option<Proxy>,
    /// `ssl`; `None` = no TLS.
    pub tls: Option<TlsSettings>,
    /// The dialect.
    pub compat: Compat,
}

impl std::fmt::Debug for LogstashOptions {
    /// Without what may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogstashOptions").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl LogstashOptions {
    /// Reads `output.logstash`.
    pub fn from_section(section: &Section<'_>, compat: Compat) -> Result<LogstashOptions, Error> {
        let v5 = compat == Compat::V5;
        let port =
            section.u64_in("port", 1..=65_535)?.filter(|_| v5).map_or(if v5 { 10_200 } else { 5044 }, |p| p as u16);
        let workers = match section.u64_in("worker", 1..=256)? {
            Some(workers) => Some(workers),
            None => section.u64_in("workers", 1..=256)?,
        };
        let bulk = section.i64("bulk_max_size")?.unwrap_or(2048);
        let level = section.u64_in("compression_level", 0..=9)?.unwrap_or(3);
        let seconds = Duration::from_secs;
        let init = section.duration("backoff.init")?.unwrap_or(seconds(1));
        let max = section.duration("backoff.max")?.unwrap_or(seconds(60));
        let timeout = section.duration("timeout")?.unwrap_or(seconds(30));
        // Filebeat takes it and ignores it: it retries without end.
        section.i64("max_retries")?;
        let tls = match section.section("ssl")? {
            Some(ssl) => TlsSettings::from_section(&ssl)?,
            None => None,
        };
        let index = section.str("index")?.filter(|index| !index.is_empty()).unwrap_or_else(|| "filebeat".to_owned());
        Ok(LogstashOptions {
            hosts: hosts(section, port)?,
            load_balance: section.bool("loadbalance")?.unwrap_or(false),
            workers: workers.unwrap_or(1) as usize,
            // Filebeat: 0 and less mean no limit of the output's own.
            bulk_max_size: usize::try_from(bulk).ok().filter(|n| *n > 0).unwrap_or(MOST_EVENTS).min(MOST_EVENTS),
            slow_start: section.bool("slow_start")?.unwrap_or(false),
            pipelining: section.u64_in("pipelining", 0..=64)?.unwrap_or(if v5 { 0 } else { 2 }) as usize,
            timeout: if timeout.is_zero() { seconds(30) } else { timeout },
            ttl: section.duration("ttl")?.filter(|ttl| !ttl.is_zero()),
            compression: u8::try_from(level).ok().filter(|level| *level > 0).and_then(Level::new),
            backoff: (init.max(Duration::from_millis(1)), max.max(Duration::from_millis(1))),
            escape_html: section.bool("escape_html")?.unwrap_or(false) || v5,
            index: if v5 { index } else { index.to_lowercase() },
            proxy: Proxy::socks(section)?,
            tls,
            compat,
        })
    }
}

fn hosts(section: &Section<'_>, port: u16) -> Result<Vec<Host>, Error> {
    let mut hosts = Vec::new();
    for text in section.strings("hosts")? {
        let host = Host::parse(&text, port).and_then(|host| match host.scheme {
            Some(_) => Err("a URL isn't expected here".to_owned()),
            None => Ok(host),
        });
        hosts.push(host.map_err(|why| section.error("hosts", why, "write hosts as `name:5044`"))?);
    }
    if hosts.is_empty() {
        return Err(section.error(
            "hosts",
            "there is no host",
            "give at least one, such as `hosts: ['logstash:5044']`",
        ));
    }
    Ok(hosts)
}

/// The Logstash output.
pub struct Logstash {
    options: LogstashOptions,
    context: OutputContext,
    dial: Arc<dyn Dial>,
}

impl Logstash {
    /// Reads the certificates. An error is one of the configuration.
    pub fn new(options: LogstashOptions, context: OutputContext) -> Result<Logstash, Problem> {
        let tls = options.tls.as_ref().map(|tls| tls.build(&context.world, &[])).transpose()?;
        let dial = Dialer {
            hosts: options.hosts.iter().map(|host| (host.clone(), tls.clone())).collect(),
            connector: Connector::new(context.world.clone(), options.proxy.clone(), options.timeout),
            timeout: options.timeout,
        };
        Ok(Logstash { options, context, dial: Arc::new(dial) })
    }

    /// Tries to connect to each host, TLS included (`test output`).
    pub async fn test(&self) -> Vec<(String, Result<(), Problem>)> {
        let mut results = Vec::new();
        for (at, host) in self.options.hosts.iter().enumerate() {
            let mut outcome = self.dial.dial(at).await;
            let outcome = match &mut outcome {
                Ok(stream) => stays::stays(stream).await.map_err(|p| p.during(host)),
                Err(problem) => Err(problem.clone()),
            };
            results.push((host.to_string(), outcome));
        }
        results
    }

    /// Delivers until the requests have ended and everything is settled; only then it returns. Dropping the future
    /// stops at once and leaves unsettled what is in flight.
    ///
    /// # Errors
    /// When a worker failed: a defect.
    pub async fn run(self, requests: Arc<dyn Requests>, acks: Arc<dyn AckSink>) -> Result<(), Problem> {
        let o = &self.options;
        let mut render = RenderOptions::new(Target::Logstash, o.compat);
        render.escape_html = o.escape_html;
        render.event_ids = self.context.exactly_once;
        render.index.clone_from(&o.index);
        let renderer = Arc::new(Renderer::new(render, Arc::clone(&self.context.agent)));
        let settings = Arc::new(Settings {
            bulk_max_size: o.bulk_max_size,
            slow_start: o.slow_start,
            in_flight: o.pipelining.max(1),
            timeout: o.timeout,
            ttl: o.ttl,
            level: o.compression,
            backoff: o.backoff,
        });
        let pool = Pool::new(requests, o.bulk_max_size);
        let mut workers = JoinSet::new();
        let random = &*self.context.world.random;
        for hosts in groups(self.options.hosts.len(), self.options.load_balance, self.options.workers, random) {
            let worker = Worker::new(
                Arc::clone(&pool),
                Arc::clone(&acks),
                Arc::clone(&self.dial),
                hosts,
                Arc::clone(&settings),
                Arc::clone(&renderer),
                self.context.clone(),
            );
            workers.spawn(worker.run());
        }
        ended(workers).await
    }
}

#[cfg(test)]
mod tests;
