//! The options of network inputs.
//!
//! Comes in: an input's section. Goes out: [`Listen`], or what is wrong and where; defaults are Filebeat's. Names of hosts
//! are looked up in `/etc/hosts` alone. Tested below.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Error, Section};
use pillion_event::InputKind;
use pillion_process::syslog::{Format, Syslog};
use pillion_world::{World, names};

use crate::net::CONNECTIONS;
use crate::net::frame::Framing;
use crate::parse::MAX_BYTES_LIMIT;

/// Where an input listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP; the first that can be bound.
    Tcp(Vec<SocketAddr>),
    /// UDP; the first that can be bound.
    Udp(Vec<SocketAddr>),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Datagrams instead of connections.
        datagrams: bool,
        /// `group`: the number of the group that it is given to.
        group: Option<u32>,
        /// `mode`: its permissions.
        mode: Option<u32>,
    },
}

/// What a network input is told.
#[derive(Clone)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// What it is called in the log and the receipt: `tcp://127.0.0.1:9000`.
    pub name: String,
    /// Where messages end; not of datagrams.
    pub(crate) framing: Framing,
    /// `max_message_size`, bytes.
    pub(crate) max_message: usize,
    /// `max_connections`.
    pub(crate) connections: usize,
    /// `timeout`: a connection that is quiet for so long is closed.
    pub(crate) timeout: Duration,
    /// `read_buffer`: bytes that the kernel keeps of UDP; `None` = as the system has it.
    pub(crate) read_buffer: Option<usize>,
    /// How messages of the input `syslog` are read.
    pub(crate) syslog: Option<Syslog>,
    /// The key of the section `ssl`, when it has one: whoever knows TLS makes [`Listen::tls`] of it.
    pub ssl: Option<String>,
    /// TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listen").field("name", &self.name).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// What a protocol has of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    Unix,
}

impl Listen {
    /// Reads the options of an input of this kind.
    ///
    /// # Errors
    /// The first option that is wrong.
    pub(crate) fn from_section(s: &Section<'_>, kind: InputKind) -> Result<Listen, Error> {
        match kind {
            InputKind::Tcp => Listen::of(s, Protocol::Tcp, None),
            InputKind::Udp => Listen::of(s, Protocol::Udp, None),
            InputKind::Unix => Listen::of(s, Protocol::Unix, None),
            _ => syslog(s),
        }
    }

    fn of(s: &Section<'_>, protocol: Protocol, syslog: Option<Syslog>) -> Result<Listen, Error> {
        let (address, name) = match protocol {
            Protocol::Unix => unix(s)?,
            Protocol::Tcp | Protocol::Udp => internet(s, protocol, syslog.is_some())?,
        };
        let streams = !matches!(address, Address::Udp(_) | Address::Unix { datagrams: true, .. });
        let default_size = if protocol == Protocol::Udp { 10 << 10 } else { 20 << 20 };
        let max_message = match s.size("max_message_size")?.map_or(Ok(default_size), usize::try_from) {
            Ok(size @ 1..=MAX_BYTES_LIMIT) => size,
            _ => return Err(s.error("max_message_size", "out of range", "give 1 to 256MiB")),
        };
        let framing = if protocol == Protocol::Udp { Framing::default() } else { framing(s, streams)? };
        let connections = if protocol == Protocol::Udp { None } else { s.u64("max_connections")? };
        let timeout = s.duration("timeout")?.unwrap_or(Duration::from_secs(300));
        if timeout.is_zero() && protocol != Protocol::Udp {
            return Err(s.error("timeout", "a time span of 0 isn't possible here", "give a time span such as `5m`"));
        }
        let read_buffer =
            if protocol == Protocol::Udp { s.size("read_buffer")?.filter(|size| *size > 0) } else { None };
        let ssl = if protocol == Protocol::Tcp { s.section("ssl")?.map(|ssl| ssl.path().to_owned()) } else { None };
        Ok(Listen {
            address,
            name,
            framing,
            max_message,
            connections: connections.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(CONNECTIONS),
            timeout,
            read_buffer: read_buffer.map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
            syslog,
            ssl,
            tls: None,
        })
    }
}

/// The input `syslog`: one of `protocol.tcp`, `protocol.udp`, `protocol.unix`.
fn syslog(s: &Section<'_>) -> Result<Listen, Error> {
    const KEY: &str = "protocol";
    let syslog = Syslog::from_section(s, Format::Rfc3164)?;
    let missing = || s.error(KEY, "not one protocol", "give one: `protocol.udp: {host: \"localhost:9000\"}`");
    let own = s.section(KEY)?.ok_or_else(missing)?;
    let named = own.named_sections()?;
    let [(name, options)] = named.as_slice() else { return Err(missing()) };
    let protocol = match *name {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "unix" => Protocol::Unix,
        other => return Err(s.error(KEY, format!("`{other}` isn't a protocol"), "there are tcp, udp and unix")),
    };
    Listen::of(options, protocol, Some(syslog))
}

fn framing(s: &Section<'_>, streams: bool) -> Result<Framing, Error> {
    let counted = s.choice("framing", &["delimiter", "rfc6587"])? == Some("rfc6587");
    let delimiter = s.str("line_delimiter")?.unwrap_or_else(|| "\n".to_owned()).into_bytes();
    if delimiter.is_empty() && streams {
        return Err(s.error(
            "line_delimiter",
            "it can't be empty",
            r#"give what ends a message: `line_delimiter: "\n"`"#,
        ));
    }
    Ok(Framing { counted, delimiter })
}

fn internet(s: &Section<'_>, protocol: Protocol, syslog: bool) -> Result<(Address, String), Error> {
    const KEY: &str = "host";
    let scheme = if protocol == Protocol::Tcp { "tcp" } else { "udp" };
    // Filebeat's own default of the input udp.
    let default = (protocol == Protocol::Udp && !syslog).then(|| "localhost:8080".to_owned());
    let Some(host) = s.str(KEY)?.filter(|h| !h.is_empty()).or(default) else {
        return Err(s.error(KEY, "missing", "give where to listen: `host: \"localhost:9000\"`"));
    };
    let words: &[&str] = if protocol == Protocol::Tcp { &["tcp", "tcp4", "tcp6"] } else { &["udp", "udp4", "udp6"] };
    let network = s.choice("network", words)?.unwrap_or(scheme);
    let mut found = addresses(&World::real(), &host).map_err(|(why, remedy)| s.error(KEY, why, remedy))?;
    found.retain(|address| match network.as_bytes().last() {
        Some(b'4') => address.is_ipv4(),
        Some(b'6') => address.is_ipv6(),
        _ => true,
    });
    if found.is_empty() {
        return Err(s.error(
            KEY,
            format!("it has no address of {network}"),
            "give one that fits `network`, or leave that out",
        ));
    }
    let address = if protocol == Protocol::Tcp { Address::Tcp(found) } else { Address::Udp(found) };
    Ok((address, format!("{scheme}://{host}")))
}

/// The addresses of `host:port`, those to be tried first before the others.
fn addresses(world: &World, host: &str) -> Result<Vec<SocketAddr>, (String, &'static str)> {
    let form =
        || (format!("{host:?} isn't a host and a port"), "write it as `localhost:9000`, `0.0.0.0:9000` or `:9000`");
    let (name, port) = host.rsplit_once(':').ok_or_else(form)?;
    let port: u16 = port.parse().map_err(|_| form())?;
    let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let ips = match name {
        "" => vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        "localhost" => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        name => in_hosts_file(world, name),
    };
    if ips.is_empty() {
        let why = format!("{name:?} isn't in /etc/hosts");
        return Err((why, "give an address of this machine, or `:9000` for all of them"));
    }
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

fn in_hosts_file(world: &World, name: &str) -> Vec<IpAddr> {
    let bytes = world.fs.read("/etc/hosts".as_ref(), 1 << 20).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if let Some(Ok(ip)) = words.next().map(str::parse)
            && words.any(|word| word.eq_ignore_ascii_case(name))
        {
            found.push(ip);
        }
    }
    found
}

fn unix(s: &Section<'_>) -> Result<(Address, String), Error> {
    let Some(path) = s.str("path")?.filter(|p| !p.is_empty()) else {
        return Err(s.error("path", "missing", "give the socket's path: `path: /run/app/log.sock`"));
    };
    // sockaddr_un has room for 108 bytes, the last of which is 0.
    if path.len() > 107 {
        return Err(s.error("path", "longer than a socket's path can be", "give one of at most 107 bytes"));
    }
    let datagrams = s.choice("socket_type", &["stream", "datagram"])? == Some("datagram");
    let group = match s.str("group")? {
        None => None,
        Some(name) => Some(names::group_number(&World::real(), &name).ok_or_else(|| {
            s.error("group", format!("{name:?} isn't in /etc/group"), "give a group of this machine")
        })?),
    };
    let mode = s.file_mode("mode")?;
    let name = format!("unix://{path}");
    Ok((Address::Unix { path: path.into(), datagrams, group, mode }, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::InputSpec;
    use pillion_config::Config;

    fn read(input: &str) -> Result<InputSpec, String> {
        let config = Config::from_yaml(&format!("filebeat.inputs: [{input}]")).map_err(|e| e.to_string())?;
        let mut specs = crate::specs_from_root(&config.root()).map_err(|e| e.one_line())?;
        // Whoever knows TLS reads it.
        for section in config.root().sections("filebeat.inputs").unwrap() {
            section.section("ssl").unwrap().inspect(Section::ignore);
        }
        let left = config.leftovers();
        assert!(left.unknown.is_empty() && left.unasked.is_empty(), "{left:?}");
        Ok(specs.remove(0))
    }

    fn listen(input: &str) -> Listen {
        read(input).unwrap().listen.unwrap()
    }

    #[test]
    fn defaults_are_filebeats() {
        let minutes = Duration::from_secs(300);
        let localhost =
            |port| vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
        let tcp = listen("{type: tcp, host: 'localhost:9000'}");
        assert_eq!(tcp.address, Address::Tcp(localhost(9000)));
        assert_eq!(
            (tcp.max_message, tcp.timeout, tcp.framing, tcp.syslog.is_none()),
            (20 << 20, minutes, Framing::default(), true)
        );
        let udp = listen("{type: udp}");
        assert_eq!((udp.address, udp.max_message, udp.read_buffer), (Address::Udp(localhost(8080)), 10 << 10, None));
        let unix = listen("{type: unix, path: /run/s}");
        assert_eq!(unix.address, Address::Unix { path: "/run/s".into(), datagrams: false, group: None, mode: None });
        assert_eq!((unix.max_message, unix.name.as_str(), unix.connections), (20 << 20, "unix:///run/s", CONNECTIONS));
        let syslog = listen("{type: syslog, protocol.udp.host: ':514'}");
        let all: Vec<SocketAddr> = vec![(Ipv6Addr::UNSPECIFIED, 514).into(), (Ipv4Addr::UNSPECIFIED, 514).into()];
        assert_eq!((syslog.address, syslog.syslog.unwrap().format), (Address::Udp(all), Format::Rfc3164));
    }

    #[test]
    fn all_options_are_taken() {
        let tcp = listen(
            "{type: tcp, host: '[::1]:1', network: tcp6, framing: rfc6587, line_delimiter: '||', max_message_size: 1KiB, \
             max_connections: 7, timeout: 9s, ssl: {certificate: c, key: k, client_authentication: none}}",
        );
        assert_eq!(tcp.framing, Framing { counted: true, delimiter: b"||".to_vec() });
        assert_eq!((tcp.max_message, tcp.connections, tcp.timeout.as_secs()), (1024, 7, 9));
        assert_eq!(tcp.ssl.as_deref(), Some("filebeat.inputs.0.ssl"));
        let unix =
            listen("{type: unix, path: s, socket_type: datagram, group: root, mode: '0660', line_delimiter: ''}");
        assert_eq!(
            unix.address,
            Address::Unix { path: "s".into(), datagrams: true, group: Some(0), mode: Some(0o660) }
        );
        let syslog = listen(
            "{type: syslog, format: auto, timezone: UTC, protocol.udp: {host: '0.0.0.0:514', network: udp4, read_buffer: 1MiB}}",
        );
        assert_eq!((syslog.read_buffer, syslog.syslog.unwrap().format), (Some(1 << 20), Format::Auto));
        let spec = read("{type: tcp, host: ':1', tags: [a], fields: {b: 1}, pipeline: p, index: i, id: own}").unwrap();
        assert_eq!((spec.desc.tags.len(), spec.desc.pipeline.as_deref(), spec.desc.id.as_str()), (1, Some("p"), "own"));
    }

    #[test]
    fn what_is_refused() {
        for (input, what) in [
            ("{type: tcp}", "host"),
            ("{type: tcp, host: localhost}", "host"),
            ("{type: tcp, host: 'nobody.example:1'}", "/etc/hosts"),
            ("{type: tcp, host: '127.0.0.1:1', network: tcp6}", "host"),
            ("{type: tcp, host: ':1', network: udp}", "network"),
            ("{type: tcp, host: ':1', framing: x}", "framing"),
            ("{type: tcp, host: ':1', line_delimiter: ''}", "line_delimiter"),
            ("{type: tcp, host: ':1', max_message_size: 0}", "max_message_size"),
            ("{type: tcp, host: ':1', max_message_size: 1GiB}", "max_message_size"),
            ("{type: tcp, host: ':1', timeout: 0}", "timeout"),
            ("{type: unix}", "path"),
            ("{type: unix, path: s, group: no-such-group}", "group"),
            ("{type: unix, path: s, mode: '1000'}", "mode"),
            ("{type: unix, path: s, socket_type: seq}", "socket_type"),
            ("{type: syslog}", "protocol"),
            ("{type: syslog, protocol: {tcp.host: ':1', udp.host: ':1'}}", "protocol"),
            ("{type: syslog, protocol.sctp.host: ':1'}", "protocol"),
            ("{type: syslog, format: x, protocol.udp.host: ':1'}", "format"),
            ("{type: syslog, protocol.udp.max_message_size: 1}", "host"),
        ] {
            let error = read(input).unwrap_err();
            assert!(error.contains(what), "{input}: {error}");
        }
    }
}
