//! TLS for inputs that listen: the `ssl.*` settings of a server.
//!
//! Comes in: the same settings as of outputs, and whose certificates clients must have. Goes out: what rustls accepts
//! connections with. Always holds: as for outputs, nothing weaker than TLS 1.2 with forward secrecy is spoken; a client's
//! certificate is never taken unchecked. Tested in `tests.rs` and end to end.

use std::sync::Arc;

use pillion_config::{Error, Section};
use pillion_world::World;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::{TlsSettings, Verification, certificates};
use crate::problem::Problem;

/// Which clients may come (`client_authentication`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    /// All; nobody is asked for a certificate.
    All,
    /// Those without a certificate, and those with a right one.
    Optional,
    /// Those with a right one.
    Required,
}

/// The `ssl.*` settings of an input.
#[derive(Clone)]
pub struct ServerTls {
    settings: TlsSettings,
    clients: Clients,
}

impl ServerTls {
    /// Reads a section `ssl`; `None` when it says `enabled: false`.
    ///
    /// # Errors
    /// A setting that is wrong or missing.
    pub fn from_section(s: &Section<'_>) -> Result<Option<ServerTls>, Error> {
        let Some(settings) = TlsSettings::from_section(s)? else { return Ok(None) };
        if let Some(key) = ["ca_sha256", "ca_trusted_fingerprint"].into_iter().find(|key| s.has(key)) {
            return Err(s.error(key, "clients are checked by certificate_authorities alone", "remove it"));
        }
        let asked = s.choice("client_authentication", &["none", "optional", "required"])?;
        let clients = match asked {
            Some("none") => Clients::All,
            Some("optional") => Clients::Optional,
            Some(_) => Clients::Required,
            // Filebeat's rule.
            None if settings.authorities.is_empty() => Clients::All,
            None => Clients::Required,
        };
        if settings.certificate.is_none() {
            return Err(s.error("certificate", "missing: a server has to have one", "set ssl.certificate and ssl.key"));
        }
        if clients != Clients::All && settings.authorities.is_empty() {
            let remedy = "set ssl.certificate_authorities to those that sign the clients' certificates";
            return Err(s.error("client_authentication", "nobody is named whose word for a client counts", remedy));
        }
        if clients != Clients::All && settings.verification == Verification::None {
            let remedy = "leave it out, or set client_authentication to none";
            return Err(s.error("verification_mode", "a client's certificate isn't taken unchecked", remedy));
        }
        Ok(Some(ServerTls { settings, clients }))
    }

    /// Reads the files and makes what connections are accepted with.
    ///
    /// # Errors
    /// What is missing, can't be read or doesn't fit, with its remedy.
    pub fn build(&self, world: &World) -> Result<Arc<ServerConfig>, Problem> {
        let settings = &self.settings;
        let provider = Arc::new(settings.provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(settings.versions())
            .map_err(|e| {
                let remedy = "Name suites that belong to supported_protocols, or leave both out.";
                Problem::new(format!("ssl.cipher_suites and ssl.supported_protocols leave nothing: {e}"), remedy)
            })?;
        let builder = match self.clients {
            Clients::All => builder.with_no_client_auth(),
            Clients::Optional | Clients::Required => {
                let mut roots = RootCertStore::empty();
                for authority in &settings.authorities {
                    let found = certificates(world, authority).map_err(|p| p.during("ssl.certificate_authorities"))?;
                    roots.add_parsable_certificates(found);
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier =
                    if self.clients == Clients::Optional { verifier.allow_unauthenticated() } else { verifier };
                let bad =
                    |e| Problem::new(format!("ssl.certificate_authorities: {e}"), "Name certificates of authorities.");
                builder.with_client_cert_verifier(verifier.build().map_err(bad)?)
            }
        };
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
            return Err(Problem::new("ssl.certificate: missing", "Set ssl.certificate and ssl.key."));
        };
        let chain = certificates(world, certificate).map_err(|p| p.during("ssl.certificate"))?;
        let key = settings.key(world, key).map_err(|p| p.during("ssl.key"))?;
        let config = builder.with_single_cert(chain, key).map_err(|e| {
            let remedy = "The certificate in ssl.certificate has to be made for the key in ssl.key.";
            Problem::new(format!("ssl.certificate and ssl.key don't fit: {e}"), remedy)
        })?;
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_config::Config;

    fn read(ssl: &str) -> Result<Option<ServerTls>, String> {
        let config = Config::from_yaml(&format!("s: {{ssl: {{{ssl}}}}}")).unwrap();
        let section = config.root().section("s.ssl").unwrap().unwrap();
        ServerTls::from_section(&section).map_err(|e| e.one_line())
    }

    #[test]
    fn who_may_come() {
        for (ssl, want) in [
            ("enabled: false", None),
            ("certificate: c, key: k", Some(Clients::All)),
            ("certificate: c, key: k, certificate_authorities: [a]", Some(Clients::Required)),
            (
                "certificate: c, key: k, certificate_authorities: [a], client_authentication: optional",
                Some(Clients::Optional),
            ),
            ("certificate: c, key: k, certificate_authorities: [a], client_authentication: none", Some(Clients::All)),
        ] {
            assert_eq!(read(ssl).unwrap().map(|tls| tls.clients), want, "{ssl}");
        }
        for (ssl, what) in [
            ("certificate_authorities: [a]", "certificate"),
            ("certificate: c", "key"),
            ("certificate: c, key: k, client_authentication: required", "client_authentication"),
            ("certificate: c, key: k, certificate_authorities: [a], verification_mode: none", "verification_mode"),
            ("certificate: c, key: k, client_authentication: x", "client_authentication"),
            ("certificate: c, key: k, ca_trusted_fingerprint: ''", "ca_trusted_fingerprint"),
        ] {
            let error = read(ssl).err().unwrap();
            assert!(error.contains(what), "{ssl}: {error}");
        }
    }

    #[test]
    fn files_are_named_when_they_are_missing() {
        let tls = read("certificate: /no/such.crt, key: /no/such.key").unwrap().unwrap();
        let problem = tls.build(&World::real()).err().unwrap();
        assert!(problem.to_string().contains("ssl.certificate: /no/such.crt"), "{problem}");
    }
}
