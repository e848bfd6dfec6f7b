//! Who is on the other side: `verification_mode`, pinned authorities, and certificates as old sites have them.
//!
//! Always holds: the handshake's signature is always checked, so that nobody can pose with another's certificate; only
//! `none` accepts any certificate. Beyond webpki, as Filebeat: a certificate that is itself among the configured
//! authorities is trusted (also when marked as an authority), and in mode `full` a certificate without alternative names
//! is taken by its Common Name, once with a warning; `strict` refuses it. Tested in `tls/tests.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Verification;
use super::der::{Certificate, rsa_bits};
use crate::problem::Problem;

/// Checks a server's certificate.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) mode: Verification,
    /// The authorities as certificates: what is trusted, also as a server's own.
    pub(super) roots: RootCertStore,
    /// The configured authorities' certificates (not the system's).
    pub(super) own: Vec<CertificateDer<'static>>,
    /// SHA-256 of the public keys of which one must be in the chain (`ca_sha256`); empty = any.
    pub(super) pins: Vec<[u8; 32]>,
    /// SHA-256 of a certificate that is trusted as an authority when the server sends it (`ca_trusted_fingerprint`).
    pub(super) fingerprint: Option<[u8; 32]>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) warned: AtomicBool,
}

/// Smaller keys of RSA have no signature that is accepted.
const LEAST_RSA_BITS: usize = 2048;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn other(problem: Problem) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
}

impl Verifier {
    fn chain(
        &self,
        end: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.own.iter().any(|c| c == end) || self.fingerprint == Some(sha256(end)) {
            return self.itself_trusted(end, parsed, now);
        }
        let mut roots = self.roots.clone();
        if let Some(print) = self.fingerprint {
            for der in between.iter().filter(|c| sha256(c) == print) {
                roots.add(der.clone())?;
            }
        }
        if let Err(error) = self.signed_by(&roots, parsed, between, now) {
            let unknown = matches!(
                &error,
                Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
            );
            return Err(match Certificate::parse(end) {
                Some(c) if unknown && c.signs_itself => other(Problem::new(
                    "the server's certificate is signed by itself, and isn't one that is trusted",
                    "Put it into ssl.certificate_authorities, or its fingerprint into ssl.ca_trusted_fingerprint, if it is \
                     the right one.",
                )),
                _ => error,
            });
        }
        if self.pins.is_empty() {
            return Ok(());
        }
        self.pinned(parsed, &roots, between, now)
    }

    /// One of the pinned keys must be that of the certificate, or of an authority that really signed it.
    fn pinned(
        &self,
        parsed: &ParsedCertificate<'_>,
        roots: &RootCertStore,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let pinned = |spki: &[u8]| self.pins.contains(&sha256(spki));
        if pinned(&parsed.subject_public_key_info()) {
            return Ok(());
        }
        let mut only = RootCertStore::empty();
        // An anchor keeps the key without its outer SEQUENCE.
        only.roots.extend(roots.roots.iter().filter(|a| pinned(&sequence(&a.subject_public_key_info))).cloned());
        for der in between {
            if ParsedCertificate::try_from(der).is_ok_and(|c| pinned(&c.subject_public_key_info())) {
                only.add(der.clone())?;
            }
        }
        if !only.is_empty() && self.signed_by(&only, parsed, between, now).is_ok() {
            return Ok(());
        }
        Err(other(Problem::new(
            "no authority of the server's certificate has a key of ssl.ca_sha256",
            "Has the authority been renewed? Its pin: openssl x509 -in ca.crt -pubkey -noout | openssl pkey -pubin -outform der | \
             openssl dgst -sha256 -binary | base64",
        )))
    }

    fn signed_by(
        &self,
        roots: &RootCertStore,
        parsed: &ParsedCertificate<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        verify_server_cert_signed_by_trust_anchor(parsed, roots, between, now, self.algorithms.all)
    }

    /// The certificate is one of the configured authorities: only its dates and pins are left to look at.
    fn itself_trusted(
        &self,
        end: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let Some(Certificate { validity: (from, until), .. }) = Certificate::parse(end) else {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        };
        if at < from {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if at > until {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        if !self.pins.is_empty() && !self.pins.contains(&sha256(&parsed.subject_public_key_info())) {
            return Err(other(Problem::new(
                "the server's certificate has no key of ssl.ca_sha256",
                "Has it been renewed?",
            )));
        }
        Ok(())
    }

    fn name(
        &self,
        end: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let Err(error) = verify_server_name(parsed, name) else { return Ok(()) };
        let Some(Certificate { common_name: Some(cn), has_alternative_names: false, .. }) = Certificate::parse(end)
        else {
            return Err(error);
        };
        let host = name.to_str();
        if self.mode == Verification::Strict {
            return Err(other(Problem::new(
                format!(
                    "the server's certificate names {cn:?} in its Common Name only, which ssl.verification_mode: strict refuses"
                ),
                format!("Give the certificate a Subject Alternative Name for {host}, or use verification_mode: full."),
            )));
        }
        if !is_same_host(cn, &host) {
            return Err(other(Problem::new(
                format!(
                    "the server's certificate is for {cn:?} (in its Common Name, it has no Subject Alternative Name), not for {host}"
                ),
                format!(
                    "Use the certificate's name in `hosts`, or give the certificate a Subject Alternative Name for {host}."
                ),
            )));
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the certificate of {host} has its name only in the Common Name, which is out of use since 2000: \
                 renew it with a Subject Alternative Name (subjectAltName = DNS:{host})"
            );
        }
        Ok(())
    }
}

/// A name of a certificate against a host: without regard to case, `*` for exactly one first label.
fn is_same_host(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.trim_end_matches('.'), host.trim_end_matches('.'));
    if pattern.eq_ignore_ascii_case(host) {
        return !pattern.is_empty();
    }
    let is_ip = host.parse::<std::net::IpAddr>().is_ok();
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(rest), Some((first, tail))) => {
            !is_ip && !first.is_empty() && rest.contains('.') && rest.eq_ignore_ascii_case(tail)
        }
        _ => false,
    }
}

/// Puts the outer SEQUENCE back around a key.
fn sequence(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x30];
    match content.len() {
        n @ 0..128 => out.push(n as u8),
        n @ 128..256 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(content);
    out
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Said here, since the handshake's signature, which is checked in every mode, would only fail.
        if let Some(bits) = ParsedCertificate::try_from(end).ok().and_then(|c| rsa_bits(&c.subject_public_key_info()))
            && bits < LEAST_RSA_BITS
        {
            return Err(other(Problem::new(
                format!("the server's key is RSA with {bits} bits, which is too weak and not taken here"),
                "Give the server a key of at least 2048 bits (openssl req -newkey rsa:2048 …), or one of P-256.",
            )));
        }
        if self.mode == Verification::None {
            return Ok(ServerCertVerified::assertion());
        }
        if Certificate::parse(end).is_some_and(|c| c.version < 3) {
            return Err(other(Problem::new(
                "the server's certificate is X.509 version 1, which has no place for names and purposes",
                "Make a version 3 one: with OpenSSL, sign it with -extfile and subjectAltName.",
            )));
        }
        let parsed = ParsedCertificate::try_from(end)?;
        self.chain(end, &parsed, between, now)?;
        if self.mode != Verification::Certificate {
            self.name(end, &parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::is_same_host;

    #[test]
    fn common_names() {
        for (pattern, host, same) in [
            ("es.example", "ES.example.", true),
            ("*.example.org", "es.example.org", true),
            ("*.example.org", "a.es.example.org", false),
            ("*.org", "example.org", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("", "", false),
        ] {
            assert_eq!(is_same_host(pattern, host), same, "{pattern} {host}");
        }
    }
}
