//! A TLS server as old sites have it, before one of our endpoints.
//!
//! Comes in: what it speaks, its certificate, the endpoint's port. Goes out: its port, and how often it was tried.
//! Always holds: it is Python's ssl module on OpenSSL, not rustls, so that both sides can't be wrong in the same way; it
//! ends with its [`Relay`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::child::Child;
use crate::{Outcome, wait};

/// What a server speaks and shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    /// The oldest and the newest protocol, by Python's names: `TLSv1`, `TLSv1_1`, `TLSv1_2`, `TLSv1_3`.
    pub(super) versions: (&'static str, &'static str),
    /// Suites before TLS 1.3, by OpenSSL's names.
    pub(super) ciphers: &'static str,
    /// The certificate's and the key's file, without their endings.
    pub(super) certificate: (&'static str, &'static str),
    /// Whether clients must have a certificate.
    pub(super) wants_certificate: bool,
}

/// One that nobody can complain about.
pub(super) const GOOD: Server = Server {
    versions: ("TLSv1_2", "TLSv1_3"),
    ciphers: "DEFAULT",
    certificate: ("server", "server"),
    wants_certificate: false,
};

/// A running server.
pub(super) struct Relay {
    _child: Child,
    log: PathBuf,
    port: u16,
}

impl Relay {
    /// Starts it before the endpoint on port `to`; `port` 0 takes a free one.
    pub(super) fn start(server: &Server, certificates: &Path, folder: &Path, port: u16, to: u16) -> Outcome<Relay> {
        let file = |name: &str, end: &str| certificates.join(format!("{name}.{end}"));
        let (certificate, key) = server.certificate;
        let options = json!({
            "port": port,
            "to": to,
            "versions": [server.versions.0, server.versions.1],
            "ciphers": server.ciphers,
            "certificate": file(certificate, "crt"),
            "key": file(key, "key"),
            "clients": server.wants_certificate.then(|| file("ca", "crt")),
        });
        let log = folder.join(format!("relay-{certificate}-{}.log", if port == 0 { "first" } else { "second" }));
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("relay.py"), &options.to_string()]);
        let mut child = Child::start(&mut command, &log)?;
        let port = wait::until("the TLS server", Duration::from_secs(20), || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(ended) = child.ended()? {
                return Err(format!("the TLS server ended with {}: {said}", ended.status));
            }
            Ok(said.strip_prefix("listening ").and_then(|s| s.lines().next()?.parse::<u16>().ok()))
        })?;
        Ok(Relay { _child: child, log, port })
    }

    /// Its port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections there were.
    pub(super) fn attempts(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().lines().filter(|l| *l == "attempt").count()
    }
}
