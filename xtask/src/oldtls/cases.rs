//! What old sites have, and what Pillion is to do with it.

use super::server::{GOOD, Server};

/// One kind of old site.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) server: Server,
    /// Settings below `ssl`; `@NAME` stands for a file of the certificates.
    pub(super) ssl: &'static [&'static str],
    pub(super) want: Want,
}

/// What is to happen.
pub(super) enum Want {
    /// All is delivered. `says`: the warning that is given once for it; empty = none.
    Works { says: &'static str },
    /// `test output` names reason and remedy; a run says the reason once, loses nothing, and delivers all when the server
    /// has become a good one.
    Refused { reason: &'static str, remedy: &'static str },
    /// `test config` names reason and remedy, and a run doesn't begin; with these settings it works.
    BadConfig { reason: &'static str, remedy: &'static str, instead: &'static [&'static str] },
}

/// Trusts the authority of all certificates here.
pub(super) const CA: &str = "certificate_authorities: ['@ca.crt']";
const RSA: (&str, &str) = ("rsa", "rsa");
const OLD_PROTOCOL: Want = Want::Refused {
    reason: "the server only speaks TLS 1.0 or 1.1, which are broken and not spoken here (RFC 8996)",
    remedy: "Turn on TLS 1.2 at the server (Logstash: ssl_supported_protocols; Elasticsearch: \
             xpack.security.http.ssl.supported_protocols), or put a TLS proxy before it.",
};
const OLD_SUITE: Want = Want::Refused {
    reason: "the server refuses the handshake (handshake_failure): it has no cipher suite in common, or wants a client certificate",
    remedy: "CBC and RSA key exchange aren't spoken here: turn on ECDHE with AES-GCM at the server (TLS 1.2), or TLS 1.3.",
};
const WORKS: Want = Want::Works { says: "" };
const CONVERT: &str = "Convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.key -out NEW.key";

const fn shows(certificate: &'static str) -> Server {
    Server { certificate: (certificate, "server"), ..GOOD }
}

const fn speaks(version: &'static str, ciphers: &'static str) -> Server {
    Server { versions: (version, version), ciphers, certificate: RSA, ..GOOD }
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    Case { name: "good", server: GOOD, ssl: &[CA], want: WORKS },
    Case { name: "tls-1.0", server: speaks("TLSv1", "DEFAULT"), ssl: &[CA], want: OLD_PROTOCOL },
    Case { name: "tls-1.1", server: speaks("TLSv1_1", "DEFAULT"), ssl: &[CA], want: OLD_PROTOCOL },
    Case { name: "tls-1.2", server: speaks("TLSv1_2", "DEFAULT"), ssl: &[CA], want: WORKS },
    Case { name: "cbc", server: speaks("TLSv1_2", "ECDHE-RSA-AES128-SHA:AES256-SHA"), ssl: &[CA], want: OLD_SUITE },
    Case { name: "rsa-exchange", server: speaks("TLSv1_2", "AES128-GCM-SHA256"), ssl: &[CA], want: OLD_SUITE },
    Case { name: "dhe", server: speaks("TLSv1_2", "DHE-RSA-AES128-GCM-SHA256"), ssl: &[CA], want: OLD_SUITE },
    Case {
        name: "old-protocols-asked-for",
        server: GOOD,
        ssl: &[CA, "supported_protocols: [TLSv1.0, TLSv1.1]"],
        want: Want::BadConfig {
            reason: "TLSv1.0, TLSv1.1 is broken and not spoken here (RFC 8996)",
            remedy: "Use TLSv1.2 or TLSv1.3; a target that can't needs a TLS proxy before it.",
            instead: &[CA, "supported_protocols: [TLSv1.2]"],
        },
    },
    Case {
        name: "cbc-asked-for",
        server: GOOD,
        ssl: &[CA, "cipher_suites: [ECDHE-RSA-AES-128-CBC-SHA]"],
        want: Want::BadConfig {
            reason: "ECDHE-RSA-AES-128-CBC-SHA: CBC, RC4, 3DES and RSA key exchange aren't spoken here",
            remedy: "Spoken are ECDHE-ECDSA-AES-128-GCM-SHA256, ",
            instead: &[CA, "cipher_suites: [ECDHE-ECDSA-AES-128-GCM-SHA256]"],
        },
    },
    Case {
        name: "name-in-cn",
        server: shows("cn-only"),
        ssl: &[CA],
        want: Want::Works { says: "has its name only in the Common Name" },
    },
    Case {
        name: "name-in-cn-strict",
        server: shows("cn-only"),
        ssl: &[CA, "verification_mode: strict"],
        want: Want::Refused {
            reason: "in its Common Name only, which ssl.verification_mode: strict refuses",
            remedy: "Give the certificate a Subject Alternative Name for localhost, or use verification_mode: full.",
        },
    },
    Case {
        name: "expired",
        server: shows("expired"),
        ssl: &[CA],
        want: Want::Refused {
            reason: "the server's certificate has expired",
            remedy: "Renew it, and check this machine's clock.",
        },
    },
    Case {
        name: "wrong-name",
        server: shows("other-name"),
        ssl: &[CA],
        want: Want::Refused {
            reason: "the server's certificate is for another name",
            remedy: "Use a name in `hosts` that is in the certificate, or give the certificate this name; \
                     ssl.verification_mode: certificate checks the signature alone.",
        },
    },
    Case {
        name: "wrong-name-chain-only",
        server: shows("other-name"),
        ssl: &[CA, "verification_mode: certificate"],
        want: WORKS,
    },
    Case {
        name: "rsa-1024",
        server: Server { certificate: ("rsa1024", "rsa1024"), ..GOOD },
        ssl: &[CA],
        want: Want::Refused {
            reason: "the server's key is RSA with 1024 bits, which is too weak and not taken here",
            remedy: "Give the server a key of at least 2048 bits (openssl req -newkey rsa:2048 …), or one of P-256.",
        },
    },
    Case {
        name: "sha-1",
        server: shows("sha1"),
        ssl: &[CA],
        want: Want::Refused {
            reason: "is signed with SHA-1, which is broken and not taken here",
            remedy: "Sign it anew with SHA-256 (openssl x509 -sha256 …), or put the server's own certificate into \
                     ssl.certificate_authorities: it is then trusted for itself.",
        },
    },
    Case {
        name: "sha-1-trusted",
        server: shows("sha1"),
        ssl: &["certificate_authorities: ['@sha1.crt']"],
        want: WORKS,
    },
    Case {
        name: "self-signed",
        server: shows("self-signed"),
        ssl: &[CA],
        want: Want::Refused {
            reason: "the server's certificate is signed by itself, and isn't one that is trusted",
            remedy: "Put it into ssl.certificate_authorities, or its fingerprint into ssl.ca_trusted_fingerprint, if it is the \
                     right one.",
        },
    },
    Case {
        name: "unknown-authority",
        server: GOOD,
        ssl: &["certificate_authorities: ['@self-signed.crt']"],
        want: Want::Refused {
            reason: "the server's certificate is signed by an authority that isn't trusted",
            remedy: "Put the authority's certificate into ssl.certificate_authorities, or its fingerprint into \
                     ssl.ca_trusted_fingerprint.",
        },
    },
    Case {
        name: "self-signed-trusted",
        server: shows("self-signed"),
        ssl: &["certificate_authorities: ['@self-signed.crt']"],
        want: WORKS,
    },
    Case {
        name: "unchecked",
        server: shows("self-signed"),
        ssl: &["verification_mode: none"],
        want: Want::Works { says: "lets anybody between here and the target read, change and swallow what is sent" },
    },
    Case {
        name: "client-wanted",
        server: Server { wants_certificate: true, ..GOOD },
        ssl: &[CA],
        want: Want::Refused {
            reason: "the server refuses our certificate, or misses one",
            remedy: "Set ssl.certificate and ssl.key to a certificate that the server's CA has signed and that hasn't expired.",
        },
    },
    Case {
        name: "client-wanted-tls-1.2",
        server: Server { wants_certificate: true, ..speaks("TLSv1_2", "DEFAULT") },
        ssl: &[CA],
        want: Want::Refused {
            reason: "handshake_failure",
            remedy: "If it wants a client certificate, set ssl.certificate and ssl.key.",
        },
    },
    Case {
        name: "client-shown",
        server: Server { wants_certificate: true, ..GOOD },
        ssl: &[CA, "certificate: '@client.crt'", "key: '@rsa.key'"],
        want: WORKS,
    },
    Case {
        name: "encrypted-key",
        server: Server { wants_certificate: true, ..GOOD },
        ssl: &[CA, "certificate: '@client.crt'", "key: '@encrypted.key'", "key_passphrase: open"],
        want: WORKS,
    },
    Case {
        name: "passphrase-in-a-file",
        server: Server { wants_certificate: true, ..GOOD },
        ssl: &[CA, "certificate: '@client.crt'", "key: '@encrypted.key'", "key_passphrase_path: '@passphrase'"],
        want: WORKS,
    },
    Case {
        name: "no-passphrase",
        server: Server { wants_certificate: true, ..GOOD },
        ssl: &[CA, "certificate: '@client.crt'", "key: '@encrypted.key'"],
        want: Want::BadConfig {
            reason: "ssl.key: the key is encrypted and there is no passphrase",
            remedy: "Set ssl.key_passphrase.",
            instead: &[CA, "certificate: '@client.crt'", "key: '@encrypted.key'", "key_passphrase: open"],
        },
    },
    Case {
        name: "legacy-key",
        server: Server { wants_certificate: true, ..GOOD },
        ssl: &[CA, "certificate: '@client.crt'", "key: '@legacy.key'", "key_passphrase: open"],
        want: Want::BadConfig {
            reason: "ssl.key: the key is encrypted in the old way of OpenSSL (DEK-Info), whose protection is weak; it isn't read",
            remedy: CONVERT,
            // Made by the very command that the remedy names.
            instead: &[CA, "certificate: '@client.crt'", "key: '@converted.key'", "key_passphrase: open"],
        },
    },
];

/// What the remedy of an old key says to do, with the passphrases that a person would be asked for.
pub(super) fn conversion() -> String {
    let command = CONVERT.trim_start_matches("Convert it: ").replace("OLD", "legacy").replace("NEW", "converted");
    format!("{command} -passin pass:open -passout pass:open")
}
