//! What a configuration says of `http.*` and `logging.metrics.*`.
//!
//! Comes in: the configuration's root. Goes out: [`Settings`] with Filebeat's defaults (spec: its reference, "HTTP endpoint"
//! and "Logging"). Always holds: nothing listens unless it is asked for, and elsewhere than on loopback only by an address
//! that is written down. Tested below.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use pillion_config::{Error, Section};

/// `http.port` when nothing is said.
const PORT: u16 = 5066;

/// `logging.metrics.period` when nothing is said.
const PERIOD: Duration = Duration::from_secs(30);

/// Lines of metrics come no more often than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// Where the endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A port of an address.
    Port(SocketAddr),
    /// A socket in the file system.
    Socket(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Port(address) => address.fmt(f),
            Place::Socket(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// See the module's header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `http.host` and `http.port`, when `http.enabled` is true.
    pub http: Option<Place>,
    /// `logging.metrics.period`; `None` when `logging.metrics.enabled` is false.
    pub metrics_period: Option<Duration>,
    /// `monitoring.cluster_uuid`; empty when it isn't set.
    pub cluster: String,
}

impl Settings {
    /// Reads them from the root.
    ///
    /// # Errors
    /// A value that isn't one, with its position.
    pub fn from_root(root: &Section<'_>) -> Result<Settings, Error> {
        let enabled = root.bool("http.enabled")?.unwrap_or(false);
        let place = place(root)?;
        let period = root.duration("logging.metrics.period")?.unwrap_or(PERIOD);
        // Filebeat refuses 0 nowhere and then never writes one.
        let metrics = root.bool("logging.metrics.enabled")?.unwrap_or(true) && !period.is_zero();
        Ok(Settings {
            http: enabled.then_some(place),
            metrics_period: metrics.then_some(period.max(SHORTEST)),
            cluster: match root.compat() {
                pillion_config::Compat::V5 => String::new(),
                _ => root.str("monitoring.cluster_uuid")?.unwrap_or_default(),
            },
        })
    }
}

fn place(root: &Section<'_>) -> Result<Place, Error> {
    const HOST: &str = "http.host";
    let port = root.u64_in("http.port", 0..=65_535)?.map_or(PORT, |port| port as u16);
    let host = root.str(HOST)?.unwrap_or_default();
    // `unix:/PATH` is the same URL, and Filebeat takes it.
    if let Some(path) = host.strip_prefix("unix:") {
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        return if path.is_absolute() {
            Ok(Place::Socket(path))
        } else {
            Err(root.error(
                HOST,
                "the path of the socket isn't absolute",
                "write it as `unix:///var/run/filebeat.sock`",
            ))
        };
    }
    if host.starts_with("npipe:") {
        let remedy = "named pipes are Windows': take localhost, or `unix:///var/run/filebeat.sock`";
        return Err(root.error(HOST, "there are no named pipes here", remedy));
    }
    let bare = host.strip_prefix("http://").unwrap_or(&host).trim_matches(['[', ']']);
    let address = match bare {
        "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        bare => bare.parse().map_err(|_| {
            root.error(
                HOST,
                format!("`{host}` isn't an IP address"),
                "take localhost, an address of this machine (`${POD_IP}`), 0.0.0.0 for all, or `unix:///PATH`",
            )
        })?,
    };
    Ok(Place::Port(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_config::Config;

    fn read(yaml: &str) -> Result<Settings, String> {
        let config = Config::from_yaml(yaml).unwrap();
        Settings::from_root(&config.root()).map_err(|e| e.to_string())
    }

    #[test]
    fn places() {
        for (yaml, expected) in [
            ("http.enabled: true", Some("127.0.0.1:5066")),
            ("http: {enabled: true, host: localhost, port: 1}", Some("127.0.0.1:1")),
            ("http: {enabled: true, host: 0.0.0.0}", Some("0.0.0.0:5066")),
            ("http: {enabled: true, host: '::'}", Some("[::]:5066")),
            ("http: {enabled: true, host: '[::1]', port: 0}", Some("[::1]:0")),
            ("http: {enabled: true, host: 'http://127.0.0.2'}", Some("127.0.0.2:5066")),
            ("http: {enabled: true, host: 'unix:///run/f.sock', port: 5066}", Some("unix:///run/f.sock")),
            ("http: {enabled: true, host: 'unix:/run/f.sock'}", Some("unix:///run/f.sock")),
            ("http: {enabled: false, port: 80}", None),
            ("http.port: 80", None),
            ("x: 1", None),
        ] {
            let http = read(yaml).unwrap().http;
            assert_eq!(http.map(|place| place.to_string()).as_deref(), expected, "{yaml}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_its_position() {
        for (yaml, reason) in [
            ("http.host: example.org", "isn't an IP address"),
            ("http.host: 'unix://x'", "isn't absolute"),
            ("http.host: 'npipe:///filebeat'", "no named pipes"),
            ("http.port: 65536", "out of range"),
            ("http.enabled: perhaps", "true or false"),
            ("logging.metrics.period: soon", "period"),
        ] {
            let e = read(yaml).unwrap_err();
            assert!(e.contains(reason) && e.contains(":1:"), "{yaml}: {e}");
        }
    }

    #[test]
    fn the_line_of_metrics_comes_unless_it_is_switched_off() {
        let seconds = |yaml| read(yaml).unwrap().metrics_period.map(|p| p.as_secs());
        assert_eq!(seconds("x: 1"), Some(30));
        assert_eq!(seconds("logging.metrics: {enabled: true, period: 2m}"), Some(120));
        assert_eq!(seconds("logging.metrics.period: 1ms"), Some(1));
        assert_eq!((seconds("logging.metrics.enabled: false"), seconds("logging.metrics.period: 0")), (None, None));
    }
}
