//! TLS to targets: the `ssl.*` settings of Filebeat, on rustls with aws-lc-rs.
//!
//! Comes in: settings, files or inline PEM. Goes out: a [`TlsClient`] that makes TLS of a TCP connection. Always holds:
//! nothing weaker than TLS 1.2 with forward secrecy and authenticated encryption is spoken; an option that asks for
//! less is refused with the remedy, or dropped with a warning where the same option also names something stronger; the
//! system's authorities are read only when a connection needs them. Tested in `tls/tests.rs`.

mod der;
mod explain;
mod key;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine;
use pillion_config::{Error, Section};
use pillion_world::{World, authorities};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as provider};
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hosts::Host;
use crate::problem::Problem;

pub(crate) use explain::{explain, explain_io, is_tls};
pub use server::ServerTls;

/// A file of certificates or keys larger than this isn't one.
const PEM_LIMIT: usize = 16 << 20;

/// How much of a server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// The chain and the name; without alternative names the Common Name.
    #[default]
    Full,
    /// The chain and the name; the Common Name doesn't count.
    Strict,
    /// The chain alone.
    Certificate,
    /// Nothing: anybody can read and change what is sent.
    None,
}

/// The `ssl.*` settings.
#[derive(Clone, Default)]
pub struct TlsSettings {
    /// `verification_mode`.
    pub verification: Verification,
    /// `certificate_authorities`: files or inline PEM; empty = the system's.
    pub authorities: Vec<String>,
    /// `certificate`: file or inline PEM, the own certificate first, then its chain.
    pub certificate: Option<String>,
    /// `key`: file or inline PEM.
    pub key: Option<String>,
    /// `key_passphrase`.
    pub passphrase: Option<String>,
    /// `key_passphrase_path`: the file that holds it instead.
    pub passphrase_path: Option<String>,
    /// `supported_protocols`; empty = 1.2 and 1.3.
    versions: Vec<&'static SupportedProtocolVersion>,
    /// `cipher_suites`; empty = all that are spoken.
    suites: Vec<SupportedCipherSuite>,
    /// `curve_types`; empty = all that are spoken.
    groups: Vec<&'static dyn SupportedKxGroup>,
    /// `ca_sha256`.
    pins: Vec<[u8; 32]>,
    /// `ca_trusted_fingerprint`.
    fingerprint: Option<[u8; 32]>,
}

/// The values of `cipher_suites` that are spoken, by Filebeat's names (TLS 1.2; those of 1.3 can't be chosen there).
const SUITES: [(&str, SupportedCipherSuite); 6] = [
    ("ECDHE-ECDSA-AES-128-GCM-SHA256", provider::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-AES-256-GCM-SHA384", provider::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", provider::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES-128-GCM-SHA256", provider::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES-256-GCM-SHA384", provider::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-CHACHA20-POLY1305", provider::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Those of TLS 1.3, always offered.
const SUITES_13: [(&str, SupportedCipherSuite); 3] = [
    ("TLS-AES-128-GCM-SHA256", provider::cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS-AES-256-GCM-SHA384", provider::cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("TLS-CHACHA20-POLY1305-SHA256", provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
];

impl TlsSettings {
    /// Reads a section `ssl`; `None` when it says `enabled: false`.
    pub fn from_section(s: &Section<'_>) -> Result<Option<TlsSettings>, Error> {
        if !s.is_on("enabled")? {
            s.ignore();
            return Ok(None);
        }
        let modes = ["full", "strict", "certificate", "none"];
        let verification = match s.choice("verification_mode", &modes)? {
            Some("strict") => Verification::Strict,
            Some("certificate") => Verification::Certificate,
            Some("none") => {
                s.warn(
                    "verification_mode",
                    "`none` lets anybody between here and the target read, change and swallow what is sent",
                    "Use `full` with ssl.certificate_authorities.",
                );
                Verification::None
            }
            _ => Verification::Full,
        };
        if s.str("renegotiation")?.is_some_and(|r| r != "never") {
            s.warn(
                "renegotiation",
                "renegotiation isn't done: TLS 1.3 has none, and targets need none",
                "Leave it out.",
            );
        }
        let settings = TlsSettings {
            verification,
            authorities: s.strings("certificate_authorities")?,
            certificate: s.str("certificate")?.filter(|c| !c.is_empty()),
            key: s.str("key")?.filter(|c| !c.is_empty()),
            passphrase: s.str("key_passphrase")?.filter(|c| !c.is_empty()),
            passphrase_path: s.str("key_passphrase_path")?.filter(|c| !c.is_empty()),
            versions: versions(s)?,
            suites: suites(s)?,
            groups: groups(s)?,
            pins: pins(s)?,
            fingerprint: fingerprint(s)?,
        };
        if settings.certificate.is_some() != settings.key.is_some() {
            let (has, misses) = if settings.key.is_none() { ("certificate", "key") } else { ("key", "certificate") };
            return Err(s.error(has, format!("there is no ssl.{misses} that belongs to it"), "Set both, or none."));
        }
        Ok(Some(settings))
    }

    /// Reads the files and makes the client. What is missing or can't be read is an error with its remedy.
    pub fn build(&self, world: &World, alpn: &[&str]) -> Result<TlsClient, Problem> {
        let base = Arc::new(self.provider());
        let verifier = self.verifier(world, &base)?;
        let config = ClientConfig::builder_with_provider(base)
            .with_protocol_versions(self.versions())
            .map_err(|e| {
                let remedy = "Name suites that belong to supported_protocols, or leave both out.";
                Problem::new(format!("ssl.cipher_suites and ssl.supported_protocols leave nothing: {e}"), remedy)
            })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(world, certificate).map_err(|p| p.during("ssl.certificate"))?;
                let key = self.key(world, key).map_err(|p| p.during("ssl.key"))?;
                config.with_client_auth_cert(chain, key).map_err(|e| {
                    let remedy = "The certificate in ssl.certificate has to be made for the key in ssl.key.";
                    Problem::new(format!("ssl.certificate and ssl.key don't fit: {e}"), remedy)
                })?
            }
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|a| a.as_bytes().to_vec()).collect();
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        Ok(TlsClient { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// What is spoken.
    fn provider(&self) -> CryptoProvider {
        let mut base = provider::default_provider();
        if !self.suites.is_empty() {
            base.cipher_suites.clone_from(&self.suites);
        }
        if !self.groups.is_empty() {
            base.kx_groups.clone_from(&self.groups);
        }
        base
    }

    fn versions(&self) -> &[&'static SupportedProtocolVersion] {
        if self.versions.is_empty() { rustls::ALL_VERSIONS } else { &self.versions }
    }

    /// Reads each file on its own, so that one which isn't there (returned) doesn't hide what is wrong with another.
    pub fn check(&self, world: &World) -> Result<Vec<String>, Problem> {
        let mut missing = Vec::new();
        let mut is_there = |text: &str| {
            let there = is_inline(text)
                || !matches!(world.fs.stat(Path::new(text), true), Err(e) if e.kind() == ErrorKind::NotFound);
            if !there {
                missing.push(text.to_owned());
            }
            there
        };
        for authority in self.authorities.iter().filter(|a| is_there(a)) {
            certificates(world, authority).map_err(|p| p.during("ssl.certificate_authorities"))?;
        }
        if let Some(certificate) = self.certificate.iter().find(|c| is_there(c)) {
            certificates(world, certificate).map_err(|p| p.during("ssl.certificate"))?;
        }
        let passphrase_is_there = self.passphrase_path.iter().all(|p| is_there(p));
        if let Some(key) = self.key.iter().find(|k| is_there(k) && passphrase_is_there) {
            self.key(world, key).map_err(|p| p.during("ssl.key"))?;
        }
        if missing.is_empty() {
            // Whether all fits together; the system's authorities needn't be on this machine.
            TlsSettings { verification: Verification::None, ..self.clone() }.build(world, &[])?;
        }
        Ok(missing)
    }

    fn key(&self, world: &World, key: &str) -> Result<rustls_pki_types::PrivateKeyDer<'static>, Problem> {
        let read = |path: &String| -> Result<String, Problem> {
            let bytes = pem(world, path).map_err(|p| p.during("ssl.key_passphrase_path"))?;
            Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned())
        };
        let from_file = match &self.passphrase {
            Some(_) => None,
            None => self.passphrase_path.as_ref().map(read).transpose()?,
        };
        key::read(&pem(world, key)?, self.passphrase.as_ref().or(from_file.as_ref()).map(String::as_str))
    }

    fn verifier(&self, world: &World, base: &CryptoProvider) -> Result<verify::Verifier, Problem> {
        let mut own = Vec::new();
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            let found = certificates(world, authority).map_err(|p| p.during("ssl.certificate_authorities"))?;
            for certificate in &found {
                // One that isn't usable as an authority may still be the server's own.
                let _ = roots.add(certificate.clone());
            }
            own.extend(found);
        }
        if own.is_empty() && self.verification != Verification::None {
            match system_roots(world) {
                Ok(found) => roots = found,
                // A fingerprint alone is enough.
                Err(_) if self.fingerprint.is_some() => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(verify::Verifier {
            mode: self.verification,
            roots,
            own,
            pins: self.pins.clone(),
            fingerprint: self.fingerprint,
            algorithms: base.signature_verification_algorithms,
            warned: AtomicBool::new(false),
        })
    }
}

/// Whether this is PEM itself, not the name of a file.
fn is_inline(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN")
}

/// The bytes of a file, or of the PEM that stands in its place.
fn pem(world: &World, text: &str) -> Result<Vec<u8>, Problem> {
    if is_inline(text) {
        return Ok(text.as_bytes().to_vec());
    }
    world.fs.read(Path::new(text), PEM_LIMIT).map_err(|e| {
        Problem::new(format!("{text}: {e}"), "Is it mounted into this container, and may this user read it?")
    })
}

fn certificates(world: &World, text: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let bad = |why: &str| {
        let name = if is_inline(text) { "the PEM in the configuration" } else { text };
        Problem::new(format!("{name}: {why}"), "It has to be PEM, from -----BEGIN CERTIFICATE----- to -----END.")
    };
    let bytes = pem(world, text)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad("there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(e) => Err(bad(&format!("{e}"))),
    }
}

/// The authorities that the system trusts: `SSL_CERT_FILE`, else the first of the usual bundles that exists.
fn system_roots(world: &World) -> Result<RootCertStore, Problem> {
    for bundle in authorities::bundles(world) {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).flatten());
        if !roots.is_empty() {
            return Ok(roots);
        }
    }
    Err(Problem::new(
        "no trusted authorities are known: this system has no bundle of certificates where they usually lie",
        "Set ssl.certificate_authorities, or the variable SSL_CERT_FILE, or install the package ca-certificates.",
    ))
}

/// From when and until when a certificate (DER) is valid, seconds since 1970; `None` when it isn't a certificate.
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    der::Certificate::parse(der).map(|c| c.validity)
}

fn versions(s: &Section<'_>) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
    const KEY: &str = "supported_protocols";
    let (mut out, mut old) = (Vec::new(), Vec::new());
    let names = s.strings(KEY)?;
    for name in &names {
        match name.as_str() {
            "TLSv1.3" => out.push(&rustls::version::TLS13),
            "TLSv1.2" => out.push(&rustls::version::TLS12),
            "SSLv3" | "SSLv3.0" | "TLSv1" | "TLSv1.0" | "TLSv1.1" => old.push(name.as_str()),
            _ => return Err(s.error(KEY, format!("{name:?} isn't a protocol"), "There are TLSv1.2 and TLSv1.3.")),
        }
    }
    let reason = format!("{} is broken and not spoken here (RFC 8996)", old.join(", "));
    let remedy = "Use TLSv1.2 or TLSv1.3; a target that can't needs a TLS proxy before it.";
    if !old.is_empty() && out.is_empty() {
        return Err(s.error(KEY, reason, remedy));
    }
    if !old.is_empty() {
        s.warn(KEY, reason, remedy);
    }
    Ok(out)
}

fn suites(s: &Section<'_>) -> Result<Vec<SupportedCipherSuite>, Error> {
    const KEY: &str = "cipher_suites";
    let names = s.strings(KEY)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut out: Vec<SupportedCipherSuite> = SUITES_13.iter().map(|(_, suite)| *suite).collect();
    let (mut old, mut chosen) = (Vec::new(), false);
    for name in &names {
        if let Some((_, suite)) = SUITES.iter().find(|(n, _)| n == name) {
            out.push(*suite);
            chosen = true;
        } else if SUITES_13.iter().any(|(n, _)| n == name) {
            chosen = true;
        } else if is_old_suite(name) {
            old.push(name.as_str());
        } else {
            return Err(s.error(KEY, format!("{name:?} isn't a cipher suite"), known_suites()));
        }
    }
    let reason = format!("{}: CBC, RC4, 3DES and RSA key exchange aren't spoken here", old.join(", "));
    if !chosen {
        return Err(s.error(KEY, reason, known_suites()));
    }
    if !old.is_empty() {
        s.warn(KEY, reason, known_suites());
    }
    Ok(out)
}

fn known_suites() -> String {
    let names: Vec<&str> = SUITES.iter().map(|(n, _)| *n).collect();
    format!("Spoken are {}, and all of TLS 1.3; or leave it out.", names.join(", "))
}

/// Whether Filebeat knows this name, and we don't speak it.
fn is_old_suite(name: &str) -> bool {
    let rest = ["ECDHE-ECDSA-", "ECDHE-RSA-", "RSA-"].iter().find_map(|p| name.strip_prefix(p));
    let known = [
        "AES-128-CBC-SHA",
        "AES-128-CBC-SHA256",
        "AES-256-CBC-SHA",
        "AES-128-GCM-SHA256",
        "AES-256-GCM-SHA384",
        "3DES-CBC3-SHA",
        "RC4-128-SHA",
    ];
    rest.is_some_and(|r| known.contains(&r))
}

fn groups(s: &Section<'_>) -> Result<Vec<&'static dyn SupportedKxGroup>, Error> {
    const KEY: &str = "curve_types";
    let mut out: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    let mut missing = Vec::new();
    for name in s.strings(KEY)? {
        match name.as_str() {
            "P-256" => out.push(provider::kx_group::SECP256R1),
            "P-384" => out.push(provider::kx_group::SECP384R1),
            "X25519" => out.push(provider::kx_group::X25519),
            "X25519MLKEM768" => out.push(provider::kx_group::X25519MLKEM768),
            "P-521" => missing.push(name),
            _ => return Err(s.error(KEY, format!("{name:?} isn't a curve"), "There are P-256, P-384 and X25519.")),
        }
    }
    if !missing.is_empty() {
        let remedy = "Add P-256, P-384 or X25519, or leave it out.";
        if out.is_empty() {
            return Err(s.error(KEY, "P-521 isn't spoken here", remedy));
        }
        s.warn(KEY, "P-521 isn't spoken here; the other curves are used", remedy);
    }
    Ok(out)
}

fn pins(s: &Section<'_>) -> Result<Vec<[u8; 32]>, Error> {
    let mut out = Vec::new();
    for text in s.strings("ca_sha256")? {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&text).ok();
        let pin = bytes.and_then(|b| <[u8; 32]>::try_from(b).ok());
        out.push(pin.ok_or_else(|| {
            s.error(
                "ca_sha256",
                "it isn't the SHA-256 of a public key in base64",
                "Such a pin has 44 characters and ends in `=`.",
            )
        })?);
    }
    Ok(out)
}

fn fingerprint(s: &Section<'_>) -> Result<Option<[u8; 32]>, Error> {
    let Some(text) = s.str("ca_trusted_fingerprint")?.filter(|t| !t.is_empty()) else { return Ok(None) };
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let mut out = [0; 32];
    let mut good = digits.len() == 64;
    for (i, byte) in out.iter_mut().enumerate() {
        match digits.get(2 * i..2 * i + 2).and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(b) => *byte = b,
            None => good = false,
        }
    }
    if good {
        return Ok(Some(out));
    }
    let remedy = "It has 64 hexadecimal digits: openssl x509 -in ca.crt -noout -fingerprint -sha256";
    Err(s.error("ca_trusted_fingerprint", "it isn't a SHA-256 fingerprint", remedy))
}

/// Makes TLS of TCP connections. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
}

impl TlsClient {
    /// Does the handshake within `limit`. The host's name is what the certificate is checked against.
    pub async fn connect(
        &self,
        host: &Host,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, Problem> {
        let name = ServerName::try_from(host.name.trim_end_matches('.').to_string())
            .map_err(|_| Problem::new(format!("{host}: not a name that a certificate can have"), "Use a DNS name."))?;
        match tokio::time::timeout(limit, self.connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) => Err(explain_io(&e).during(format_args!("TLS with {host}"))),
            Err(_) => Err(Problem::new(
                format!("TLS with {host}: no handshake within {limit:?}"),
                "Does the server speak TLS on this port?",
            )),
        }
    }
}
