//! The settings of `output.elasticsearch`, with the defaults of each dialect.
//!
//! Comes in: the section. Goes out: [`Settings`]. Always holds: what is in it can be used as it stands: hosts have
//! scheme and port, format strings compile, counts are within their limits. Tested in `tests.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pillion_config::{Compat, Error, Section};
use pillion_deflate::Level;

use super::cloud;
use super::setup::{Mode, SetupSettings};
use crate::choose::{Case, Rules};
use crate::format::Format;
use crate::hosts::{Host, percent_encode};
use crate::net::Proxy;
use crate::problem::Problem;
use crate::tls::TlsSettings;

/// The most events of one request: what a `bulk_max_size` of 0 or less ("no limit" in Filebeat) means here.
pub const MOST_EVENTS: usize = 16_384;
/// The most requests at once.
const MOST_WORKERS: u64 = 64;
/// What a dead-letter file may hold unless it is said otherwise, bytes.
const DEAD_LETTER_FILE_SIZE: u64 = 100 << 20;

/// Where Filebeat 7 writes to without an alias that rolls over.
pub(super) const DAILY: &str = "filebeat-%{[agent.version]}-%{+yyyy.MM.dd}";

/// What becomes of events that the target refuses for good (`non_indexable_policy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NonIndexable {
    /// They are dropped, and reported.
    #[default]
    Drop,
    /// They go to this index, with the reason.
    Index(String),
    /// They are appended to this file (mode 0600), up to so many bytes.
    File(PathBuf, u64),
}

/// What `output.elasticsearch` says.
#[derive(Clone)]
pub struct Settings {
    /// Whose defaults and event shape.
    pub compat: Compat,
    /// The targets; `scheme` is `http` or `https`; never empty.
    pub hosts: Vec<Host>,
    /// `ssl`, for `https`.
    pub tls: TlsSettings,
    /// `proxy_url`.
    pub proxy: Option<Proxy>,
    /// `proxy_disable`: not even a proxy that the environment names.
    pub proxy_disabled: bool,
    /// The value of the header `Authorization`, where it is the same for all hosts.
    pub authorization: Option<String>,
    /// `headers`.
    pub headers: Vec<(String, String)>,
    /// `parameters`, encoded for a URL; empty or `a=b&c=d`.
    pub parameters: String,
    /// `index`; `None` = the default of the dialect, see [`Settings::index_for`].
    pub index: Option<Arc<Format>>,
    /// `indices`: rules that are asked before `index`.
    pub(crate) indices: Arc<Rules>,
    /// `pipeline`.
    pub pipeline: Option<Arc<Format>>,
    /// `pipelines`.
    pub(crate) pipelines: Arc<Rules>,
    /// `compression_level`; `None` = 0.
    pub compression: Option<Level>,
    /// `worker`: connections to each host.
    pub workers: usize,
    /// `loadbalance`: use all hosts at once; else one, and another when it fails.
    pub load_balance: bool,
    /// `bulk_max_size`: events of one request.
    pub bulk_max_size: usize,
    /// `backoff.init` and `backoff.max`.
    pub backoff: (Duration, Duration),
    /// `timeout`: of a request.
    pub timeout: Duration,
    /// `idle_connection_timeout`.
    pub idle_timeout: Duration,
    /// `escape_html`.
    pub escape_html: bool,
    /// `non_indexable_policy`.
    pub non_indexable: NonIndexable,
    /// What is put before the first event.
    pub setup: SetupSettings,
    /// The ids of the ingest pipelines that modules need: `test output` looks whether they are there.
    pub needed: Vec<String>,
}

/// What a `preset` sets, or the defaults.
struct Preset {
    /// It has a name, and wins over what stands beside it, as in Filebeat (`config_presets.go`).
    wins: bool,
    bulk_max_size: usize,
    workers: u64,
    level: u64,
    idle: Duration,
    backoff: (Duration, Duration),
    backoff_wins: bool,
}

impl Preset {
    /// The option's value, unless the preset says otherwise.
    fn or<T>(&self, s: &Section<'_>, key: &str, wins: bool, set: Option<T>, own: T) -> T {
        match set {
            Some(_) if wins => {
                s.warn(key, "the preset sets this itself, as in Filebeat", "remove one of the two");
                own
            }
            Some(set) => set,
            None => own,
        }
    }
}

fn preset(s: &Section<'_>) -> Result<Preset, Error> {
    let old = matches!(s.compat(), Compat::V5 | Compat::V7);
    let seconds = Duration::from_secs;
    let mut p = Preset {
        wins: false,
        bulk_max_size: if old { 50 } else { 1_600 },
        workers: 1,
        level: u64::from(s.compat() != Compat::V5),
        idle: if old { seconds(60) } else { seconds(3) },
        backoff: (seconds(1), seconds(60)),
        backoff_wins: false,
    };
    let name = s.choice("preset", &["", "custom", "balanced", "throughput", "scale", "latency"])?;
    p.wins = !matches!(name, None | Some("" | "custom"));
    match name {
        Some("throughput") => (p.workers, p.idle) = (4, seconds(15)),
        Some("scale") => (p.idle, p.backoff, p.backoff_wins) = (seconds(1), (seconds(5), seconds(300)), true),
        Some("latency") => (p.bulk_max_size, p.idle) = (50, seconds(60)),
        _ => {}
    }
    Ok(p)
}

impl Settings {
    /// Reads `output.elasticsearch` (`s`), and what else of the root concerns it.
    pub fn from_section(root: &Section<'_>, s: &Section<'_>) -> Result<Settings, Error> {
        let compat = s.compat();
        let cloud = cloud::from_root(root)?;
        let preset = preset(s)?;
        // Filebeat doesn't heed it either: it tries again until it is delivered.
        let _ = s.i64("max_retries")?;
        let _ = s.bool("allow_older_versions")?;
        let worker = s.u64_in("worker", 1..=MOST_WORKERS)?;
        let own = s.u64_in("workers", 1..=MOST_WORKERS)?.filter(|_| !preset.wins).unwrap_or(preset.workers);
        let workers = preset.or(s, "worker", preset.wins, worker, own);
        let size = s.i64("bulk_max_size")?.map(|n| match usize::try_from(n) {
            Ok(n @ 1..) => n.min(MOST_EVENTS),
            _ => MOST_EVENTS,
        });
        let bulk_max_size = preset.or(s, "bulk_max_size", preset.wins, size, preset.bulk_max_size);
        let level = s.u64_in("compression_level", 0..=9)?;
        let level = preset.or(s, "compression_level", preset.wins, level, preset.level);
        let idle = s.duration("idle_connection_timeout")?.filter(|t| !t.is_zero());
        let idle_timeout = preset.or(s, "idle_connection_timeout", preset.wins, idle, preset.idle);
        let init = s.duration("backoff.init")?;
        let max = s.duration("backoff.max")?;
        let backoff = (
            preset.or(s, "backoff.init", preset.backoff_wins, init, preset.backoff.0),
            preset.or(s, "backoff.max", preset.backoff_wins, max, preset.backoff.1),
        );
        let settings = Settings {
            compat,
            hosts: hosts(s, cloud.as_ref().map(|c| c.url.as_str()))?,
            tls: s.section("ssl")?.map(|t| TlsSettings::from_section(&t)).transpose()?.flatten().unwrap_or_default(),
            proxy: proxy(s)?,
            proxy_disabled: s.bool("proxy_disable")? == Some(true),
            authorization: authorization(s, cloud.and_then(|c| c.auth))?,
            headers: pairs(s, "headers")?,
            parameters: query(&pairs(s, "parameters")?),
            index: format(s, "index")?,
            indices: rules(s, "index", "indices")?,
            pipeline: format(s, "pipeline")?,
            pipelines: rules(s, "pipeline", "pipelines")?,
            compression: u8::try_from(level).ok().and_then(Level::new),
            workers: workers as usize,
            load_balance: s.bool("loadbalance")?.unwrap_or(true),
            bulk_max_size,
            backoff,
            timeout: s.duration("timeout")?.filter(|t| !t.is_zero()).unwrap_or(Duration::from_secs(90)),
            idle_timeout,
            escape_html: s.bool("escape_html")?.unwrap_or(compat == Compat::V5),
            non_indexable: non_indexable(s)?,
            setup: SetupSettings::from_root(root, s)?,
            needed: Vec::new(),
        };
        settings.check_headers(s)?;
        Ok(settings)
    }

    fn check_headers(&self, s: &Section<'_>) -> Result<(), Error> {
        for (name, value) in &self.headers {
            let good = hyper::header::HeaderName::try_from(name.as_str()).is_ok()
                && hyper::header::HeaderValue::try_from(value.as_str()).is_ok();
            if !good {
                let remedy = "Names are letters, digits and `-`; values are one line of visible characters.";
                return Err(s.error("headers", format!("{name:?} can't be sent as a header"), remedy));
            }
        }
        Ok(())
    }

    /// `index`, or the default for events of this version.
    pub fn index_for(&self, agent_version: &str) -> Result<Arc<Format>, Problem> {
        if let Some(index) = &self.index {
            return Ok(Arc::clone(index));
        }
        let default = match self.compat {
            Compat::V5 => "filebeat-%{+yyyy.MM.dd}".to_string(),
            Compat::V7 if self.setup.ilm.mode == Mode::Off => DAILY.to_string(),
            // The data stream, or the alias of 7: what the template of that version is for.
            Compat::V7 | Compat::V8 | Compat::V9 => format!("filebeat-{agent_version}"),
        };
        Format::compile(&default)
            .map(Arc::new)
            .map_err(|e| Problem::new(e.to_string(), "Set output.elasticsearch.index."))
    }

    /// Whether any host is reached by TLS.
    pub fn uses_tls(&self) -> bool {
        self.hosts.iter().any(|h| h.scheme.as_deref() == Some("https"))
    }
}

/// `cloud`: the one host that `cloud.id` names, which wins.
fn hosts(s: &Section<'_>, cloud: Option<&str>) -> Result<Vec<Host>, Error> {
    let protocol = s.choice("protocol", &["http", "https"])?;
    let path = s.str("path")?.unwrap_or_default();
    let mut out = Vec::new();
    let own = s.strings("hosts")?;
    for text in cloud.map_or(own, |url| vec![url.to_owned()]) {
        let bad = |why: String| {
            Err(s.error(
                "hosts",
                format!("host {} isn't usable: {why}", out.len() + 1),
                "Write `name:9200` or `https://name:9200`.",
            ))
        };
        let mut host = match Host::parse(&text, 9200) {
            Ok(host) => host,
            Err(why) => return bad(why),
        };
        match host.scheme.as_deref() {
            None => host.scheme = Some(protocol.unwrap_or("http").to_string()),
            Some("http" | "https") => {}
            Some(other) => return bad(format!("the scheme {other:?} isn't known")),
        }
        if host.path.is_empty() && !path.is_empty() {
            host.path = format!("/{}", path.trim_matches('/')).trim_end_matches('/').to_string();
        }
        out.push(host);
    }
    if out.is_empty() {
        return Err(s.error("hosts", "there is no host", "Write hosts: [\"name:9200\"]."));
    }
    Ok(out)
}

fn proxy(s: &Section<'_>) -> Result<Option<Proxy>, Error> {
    let disabled = s.bool("proxy_disable")? == Some(true);
    let headers = pairs(s, "proxy_headers")?;
    let Some(url) = s.str("proxy_url")?.filter(|u| !u.is_empty() && !disabled) else { return Ok(None) };
    let remedy = "Write `http://name:3128` or `socks5://name:1080`.";
    Proxy::parse(&url, false, headers).map(Some).map_err(|why| s.error("proxy_url", why, remedy))
}

/// `cloud`: user and password of `cloud.auth`, which win.
fn authorization(s: &Section<'_>, cloud: Option<(String, String)>) -> Result<Option<String>, Error> {
    let own = (s.str("username")?.unwrap_or_default(), s.str("password")?.unwrap_or_default());
    let (user, password) = cloud.unwrap_or(own);
    let key = s.str("api_key")?.unwrap_or_default();
    match (key.is_empty(), user.is_empty()) {
        (false, false) => Err(s.error("api_key", "there are both an API key and a user", "Set one of them.")),
        // As Kibana shows it, ready made; else `id:key`.
        (false, true) if !key.contains(':') => Ok(Some(format!("ApiKey {key}"))),
        (false, true) => Ok(Some(format!("ApiKey {}", STANDARD.encode(key)))),
        (true, false) => Ok(Some(basic(&user, &password))),
        (true, true) => Ok(None),
    }
}

/// The value of `Authorization` for user and password.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A mapping of names to texts (or lists of texts).
fn pairs(s: &Section<'_>, key: &str) -> Result<Vec<(String, String)>, Error> {
    let Some(map) = s.section(key)? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for name in map.keys() {
        for value in map.strings(name)? {
            out.push((name.to_string(), value));
        }
    }
    Ok(out)
}

fn query(pairs: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        percent_encode(name, &mut out);
        out.push('=');
        percent_encode(value, &mut out);
    }
    out
}

fn format(s: &Section<'_>, key: &str) -> Result<Option<Arc<Format>>, Error> {
    let Some(text) = s.str(key)?.filter(|t| !t.is_empty()) else { return Ok(None) };
    let remedy = "Fields are written %{[fields.team]}, dates %{+yyyy.MM.dd}.";
    Format::compile(&text).map(|f| Some(Arc::new(f))).map_err(|e| s.error(key, e.to_string(), remedy))
}

/// Names are in lower case from 7 on.
fn rules(s: &Section<'_>, name: &str, list: &str) -> Result<Arc<Rules>, Error> {
    let case = if s.compat() == Compat::V5 { Case::Keep } else { Case::Lower };
    Rules::from_section(s, name, list, case).map(Arc::new)
}

fn non_indexable(s: &Section<'_>) -> Result<NonIndexable, Error> {
    let Some(policy) = s.section("non_indexable_policy")? else { return Ok(NonIndexable::Drop) };
    if let Some(dead) = policy.section("dead_letter_index")? {
        let index = dead.str("index")?.unwrap_or_default();
        if index.is_empty() || index.contains("%{") {
            return Err(dead.error(
                "index",
                "a dead-letter index needs a plain name",
                "Write index: \"dead-letters\".",
            ));
        }
        return Ok(NonIndexable::Index(index));
    }
    if let Some(dead) = policy.section("dead_letter_file")? {
        let path = dead.str("path")?.unwrap_or_default();
        if path.is_empty() {
            return Err(dead.error(
                "path",
                "a dead-letter file needs a path",
                "Write path: \"/var/lib/filebeat/dead.ndjson\".",
            ));
        }
        return Ok(NonIndexable::File(path.into(), dead.size("max_size")?.unwrap_or(DEAD_LETTER_FILE_SIZE)));
    }
    if let Some(drop) = policy.section("drop")? {
        drop.ignore();
    }
    Ok(NonIndexable::Drop)
}

impl std::fmt::Debug for Settings {
    /// Only what holds no credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("compat", &self.compat).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
