//! `pillion receive`: from flags to the receiver's options. Tested by the command line's tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_receive::{Kind, Listen, Options, Sink, tls_config};
use pillion_world::{Fs, World};

use crate::cli::Receive;

/// Where the two listen when nothing is said: Logstash's and Elasticsearch's own ports, on loopback.
const PORTS: [(Kind, u16); 2] = [(Kind::Lumberjack, 5044), (Kind::Elasticsearch, 9200)];

/// Certificates and keys are small.
const PEM_LIMIT: usize = 1 << 20;

pub(crate) fn receive(flags: &Receive) -> u8 {
    let outcome = options(flags).and_then(|options| pillion_receive::run(options).map_err(|e| e.to_string()));
    match outcome {
        Ok(_) => 0,
        Err(e) => {
            crate::complain(&format!("error: {e}"));
            crate::work::FAILURE
        }
    }
}

fn options(flags: &Receive) -> Result<Options, String> {
    let world = World::real();
    let tls = match &flags.tls {
        None => None,
        Some((cert, key)) => {
            let (cert, key) = (pem(&*world.fs, cert)?, pem(&*world.fs, key)?);
            let ca = flags.tls_client_ca.as_deref().map(|path| pem(&*world.fs, path)).transpose()?;
            Some(tls_config(&cert, &key, ca.as_deref()).map_err(|e| e.to_string())?)
        }
    };
    let asked = [&flags.lumberjack, &flags.elasticsearch];
    let both = asked.iter().all(|a| a.is_none());
    let mut listen = Vec::new();
    for ((kind, port), asked) in PORTS.into_iter().zip(asked) {
        let address = match asked {
            Some(text) => address(text, port)?,
            None if both => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            None => continue,
        };
        listen.push(Listen { kind, address, tls: tls.as_ref().map(Arc::clone) });
    }
    let sink = match &flags.to {
        _ if flags.count => Sink::Count,
        Some(folder) => {
            let made = world.fs.create_dir_all(folder, 0o755);
            made.map_err(|e| format!("{}: {e}", folder.display()))?;
            Sink::Folder(folder.clone())
        }
        None => Sink::Stdout,
    };
    Ok(Options {
        listen,
        sink,
        with_action: flags.with_action,
        delay: Duration::from_nanos(flags.delay_ns),
        reject_every: NonZeroU64::new(flags.reject_every),
        ..Options::default()
    })
}

fn pem(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>, String> {
    fs.read(path, PEM_LIMIT).map_err(|e| format!("{}: {e}", path.display()))
}

/// `HOST:PORT`, `:PORT`, `PORT` or `HOST`: without a host on loopback, without a port on the usual one.
pub(crate) fn address(text: &str, usual: u16) -> Result<SocketAddr, String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => ("", text),
        _ => (text, ""),
    };
    let host = match host.trim_matches(['[', ']']) {
        "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| format!("`{text}`: `{host}` isn't an IP address"))?,
    };
    let port = if port.is_empty() { usual } else { port.parse().map_err(|_| format!("`{text}`: not a port"))? };
    Ok(SocketAddr::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_loopback_unless_said_otherwise() {
        for (text, expected) in [
            ("5045", "127.0.0.1:5045"),
            (":5045", "127.0.0.1:5045"),
            ("localhost:0", "127.0.0.1:0"),
            ("0.0.0.0:9200", "0.0.0.0:9200"),
            ("[::1]:9200", "[::1]:9200"),
            ("127.0.0.1", "127.0.0.1:5044"),
        ] {
            assert_eq!(address(text, 5044).unwrap().to_string(), expected, "{text}");
        }
        assert!(address("example.org:1", 5044).is_err() && address("127.0.0.1:x", 5044).is_err());
    }
}
