//! What rustls and servers say, in words that name the remedy. Tested by `tls/tests.rs` with servers that fail so.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::problem::Problem;

/// Says what went wrong in TLS.
pub(crate) fn explain(error: &Error) -> Problem {
    match error {
        Error::InvalidCertificate(e) => certificate(e),
        Error::AlertReceived(alert) => alerted(*alert),
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
        | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => old_protocol(),
        Error::PeerIncompatible(e) => Problem::new(
            format!("the server can't agree on TLS: {e:?}"),
            "It needs TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3.",
        ),
        Error::InvalidMessage(_) => Problem::new(
            "the server doesn't speak TLS on this port",
            "Is the port right? For a target without TLS leave out `https` and `ssl`.",
        ),
        other => Problem::bare(format!("TLS: {other}")),
    }
}

/// As [`explain`], where rustls's error is inside an input/output error.
pub(crate) fn explain_io(error: &std::io::Error) -> Problem {
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(tls) => explain(tls),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => Problem::new(
            "the server closed the connection during the TLS handshake",
            "It may only speak TLS 1.0 or 1.1, want a client certificate (ssl.certificate, ssl.key), or not speak TLS.",
        ),
        None => Problem::bare(error.to_string()),
    }
}

/// Whether TLS is what failed.
pub(crate) fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<Error>())
}

fn old_protocol() -> Problem {
    Problem::new(
        "the server only speaks TLS 1.0 or 1.1, which are broken and not spoken here (RFC 8996)",
        "Turn on TLS 1.2 at the server (Logstash: ssl_supported_protocols; Elasticsearch: xpack.security.http.ssl.supported_protocols), \
         or put a TLS proxy before it.",
    )
}

fn alerted(alert: AlertDescription) -> Problem {
    match alert {
        AlertDescription::ProtocolVersion => old_protocol(),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Problem::new(
            "the server refuses the handshake (handshake_failure): it has no cipher suite in common, or wants a client certificate",
            "CBC and RSA key exchange aren't spoken here: turn on ECDHE with AES-GCM at the server (TLS 1.2), or TLS 1.3. \
             If it wants a client certificate, set ssl.certificate and ssl.key.",
        ),
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => Problem::new(
            format!("the server refuses our certificate, or misses one ({alert:?})"),
            "Set ssl.certificate and ssl.key to a certificate that the server's CA has signed and that hasn't expired.",
        ),
        other => Problem::bare(format!("the server ended TLS: {other:?}")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum isn't exhaustive")]
fn certificate(error: &CertificateError) -> Problem {
    match error {
        CertificateError::UnknownIssuer => Problem::new(
            "the server's certificate is signed by an authority that isn't trusted",
            "Put the authority's certificate into ssl.certificate_authorities, or its fingerprint into ssl.ca_trusted_fingerprint.",
        ),
        CertificateError::BadSignature => Problem::new(
            "the server's certificate isn't trusted: its authority has the name of a trusted one, but another key, or one of \
             RSA with less than 2048 bits",
            "Has the authority been made anew? Put its present certificate into ssl.certificate_authorities.",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Problem::new(
            format!("the server's certificate has expired ({error})"),
            "Renew it, and check this machine's clock.",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Problem::new(format!("the server's certificate isn't valid yet ({error})"), "Check this machine's clock.")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Problem::new(
            format!("the server's certificate is for another name ({error})"),
            "Use a name in `hosts` that is in the certificate, or give the certificate this name; \
             ssl.verification_mode: certificate checks the signature alone.",
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => Problem::new(
            format!("the server's certificate, or that of its authority, is signed {}", signed(signature_algorithm_id)),
            "Sign it anew with SHA-256 (openssl x509 -sha256 …), or put the server's own certificate into \
                 ssl.certificate_authorities: it is then trusted for itself.",
        ),
        CertificateError::Other(e) => match e.0.downcast_ref::<Problem>() {
            Some(problem) => problem.clone(),
            None => Problem::new(
                format!("the server's certificate isn't usable: {error}"),
                "Certificates have to be X.509 version 3; a server's own must not be marked as an authority (CA:TRUE), \
                 unless it is itself in ssl.certificate_authorities.",
            ),
        },
        other => Problem::bare(format!("the server's certificate isn't accepted: {other}")),
    }
}

/// How something is signed that isn't taken.
fn signed(algorithm: &[u8]) -> &'static str {
    const SHA1: [&[u8]; 2] =
        [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]];
    const MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04];
    // The algorithm's name with its parameters around: the name is looked for anywhere in it.
    let names = |oid: &[u8]| algorithm.windows(oid.len()).any(|w| w == oid);
    if SHA1.iter().any(|oid| names(oid)) {
        "with SHA-1, which is broken and not taken here"
    } else if names(MD5) {
        "with MD5, which is broken and not taken here"
    } else {
        "in a way that isn't known here"
    }
}
