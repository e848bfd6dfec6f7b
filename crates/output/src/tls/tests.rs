//! TLS against servers that have what old sites have, and against ones that are wrong.

use std::sync::Arc;
use std::time::Duration;

use pillion_config::Config;
use pillion_world::World;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority for tests.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names, changed as wanted.
    pub(crate) fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

impl Identity {
    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server's configuration; with `clients` it wants certificates of that authority.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(provider::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        builder.with_single_cert(vec![self.certificate.clone()], key).unwrap()
    }
}

/// Serves TLS connections: says `hello` and closes.
pub(crate) async fn serve(config: ServerConfig) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    Host::parse("localhost", port).unwrap()
}

/// A server that sends these bytes to whatever comes, and closes.
async fn serve_bytes(bytes: &'static [u8]) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buf = [0; 4096];
            let _ = stream.read(&mut buf).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    Host::parse("localhost", port).unwrap()
}

fn settings(yaml: &str) -> TlsSettings {
    try_settings(yaml).unwrap().0
}

fn try_settings(yaml: &str) -> Result<(TlsSettings, usize), Error> {
    let mut text = "ssl:\n".to_string();
    yaml.lines().for_each(|l| text.push_str(&format!("  {l}\n")));
    if yaml.is_empty() {
        text = "ssl: {enabled: true}\n".into();
    }
    let config = Config::from_yaml(&text)?;
    let section = config.root().section("ssl")?.unwrap();
    let settings = TlsSettings::from_section(&section)?.unwrap();
    Ok((settings, config.warnings().len()))
}

fn trusting(authority: &Authority) -> TlsSettings {
    TlsSettings { authorities: vec![authority.pem()], ..TlsSettings::default() }
}

/// Connects by TLS and reads to the end.
async fn talk(settings: &TlsSettings, host: &Host) -> Result<String, Problem> {
    let client = settings.build(&World::real(), &[])?;
    let stream = TcpStream::connect(("127.0.0.1", host.port)).await.unwrap();
    let mut stream = client.connect(host, stream, Duration::from_secs(10)).await?;
    let mut text = String::new();
    match stream.read_to_string(&mut text).await {
        Ok(_) => Ok(text),
        Err(e) => Err(explain_io(&e)),
    }
}

#[tokio::test]
async fn the_chain_and_the_name_are_checked() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = serve(ours.issue(&["localhost"], |_| {}).server(None)).await;
    assert_eq!(talk(&trusting(&ours), &good).await.unwrap(), "hello");

    let p = talk(&trusting(&theirs), &good).await.unwrap_err();
    assert!(p.reason.contains("isn't trusted") && p.remedy.contains("certificate_authorities"), "{p}");

    let named = serve(ours.issue(&["es.example"], |_| {}).server(None)).await;
    let p = talk(&trusting(&ours), &named).await.unwrap_err();
    assert!(p.reason.contains("another name") && p.reason.contains("es.example"), "{p}");
    let mut chain_only = trusting(&ours);
    chain_only.verification = Verification::Certificate;
    assert_eq!(talk(&chain_only, &named).await.unwrap(), "hello");
    chain_only.authorities = vec![theirs.pem()];
    assert!(talk(&chain_only, &named).await.is_err());

    let none = TlsSettings { verification: Verification::None, ..TlsSettings::default() };
    assert_eq!(talk(&none, &named).await.unwrap(), "hello");
}

#[tokio::test]
async fn dates_are_checked() {
    let ours = Authority::new();
    let old = ours.issue(&["localhost"], |p| {
        (p.not_before, p.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    });
    let early = ours.issue(&["localhost"], |p| p.not_before = rcgen::date_time_ymd(3000, 1, 1));
    for (identity, why) in [(&old, "expired"), (&early, "isn't valid yet")] {
        let host = serve(identity.server(None)).await;
        let p = talk(&trusting(&ours), &host).await.unwrap_err();
        assert!(p.reason.contains(why) && p.remedy.contains("clock"), "{p}");
        // The same when the certificate is itself trusted.
        let own = TlsSettings { authorities: vec![identity.pem.clone()], ..TlsSettings::default() };
        let p = talk(&own, &host).await.unwrap_err();
        assert!(p.reason.contains(why), "{p}");
    }
}

#[tokio::test]
async fn a_name_only_in_the_common_name() {
    let ours = Authority::new();
    for (cn, full) in [("localhost", Ok("hello")), ("es.example", Err("es.example"))] {
        let host = serve(ours.issue(&[], |p| p.distinguished_name.push(DnType::CommonName, cn)).server(None)).await;
        let mut s = trusting(&ours);
        match (talk(&s, &host).await, full) {
            (Ok(text), Ok(want)) => assert_eq!(text, want),
            (Err(p), Err(want)) => assert!(p.reason.contains(want) && p.reason.contains("Common Name"), "{p}"),
            (got, _) => panic!("{cn}: {got:?}"),
        }
        s.verification = Verification::Strict;
        let p = talk(&s, &host).await.unwrap_err();
        assert!(p.remedy.contains("Subject Alternative Name"), "{p}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    // As `openssl req -x509` makes it.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let identity = Identity { certificate: certificate.der().clone(), pem: certificate.pem(), key };
    let host = serve(identity.server(None)).await;
    let own = TlsSettings { authorities: vec![identity.pem.clone()], ..TlsSettings::default() };
    assert_eq!(talk(&own, &host).await.unwrap(), "hello");
    assert!(talk(&trusting(&Authority::new()), &host).await.is_err());
}

#[tokio::test]
async fn pins_and_fingerprints() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let identity = ours.issue(&["localhost"], |_| {});
    let host = serve(identity.server(None)).await;
    let sha = |bytes: &[u8]| {
        let mut out = [0; 32];
        out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
        out
    };
    let spki = |der: &CertificateDer<'_>| {
        sha(&rustls::server::ParsedCertificate::try_from(der).unwrap().subject_public_key_info())
    };
    for (pin, good) in
        [(spki(ours.issuer.der()), true), (spki(&identity.certificate), true), (spki(theirs.issuer.der()), false)]
    {
        let mut s = trusting(&ours);
        s.authorities.push(theirs.pem());
        s.pins = vec![pin];
        let result = talk(&s, &host).await;
        assert_eq!(result.is_ok(), good, "{result:?}");
        if let Err(p) = result {
            assert!(p.reason.contains("ca_sha256"), "{p}");
        }
    }
    // Trusted by the fingerprint alone, with no authority that signed it.
    let mut s = trusting(&theirs);
    s.fingerprint = Some(sha(&identity.certificate));
    assert_eq!(talk(&s, &host).await.unwrap(), "hello");
    s.fingerprint = Some([0; 32]);
    assert!(talk(&s, &host).await.is_err());
}

#[tokio::test]
async fn mutual_tls() {
    let ours = Authority::new();
    let host = serve(ours.issue(&["localhost"], |_| {}).server(Some(&ours))).await;
    let p = talk(&trusting(&ours), &host).await.unwrap_err();
    assert!(p.reason.contains("certificate") && p.remedy.contains("ssl.certificate"), "{p}");

    let client = ours.issue(&["pillion"], |_| {});
    let mut s = trusting(&ours);
    (s.certificate, s.key) = (Some(client.pem.clone()), Some(client.key.serialize_pem()));
    assert_eq!(talk(&s, &host).await.unwrap(), "hello");

    let stranger = Authority::new().issue(&["pillion"], |_| {});
    (s.certificate, s.key) = (Some(stranger.pem.clone()), Some(stranger.key.serialize_pem()));
    assert!(talk(&s, &host).await.is_err());
    s.certificate = Some(client.pem.clone());
    let p = s.build(&World::real(), &[]).err().unwrap();
    assert!(p.reason.contains("don't fit"), "{p}");
}

#[tokio::test]
async fn servers_that_cannot_do_better_are_explained() {
    // Alerts: fatal protocol_version, fatal handshake_failure; then a server without TLS.
    for (bytes, why) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "TLS 1.0 or 1.1"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "CBC"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "doesn't speak TLS"),
        (b"", "closed the connection"),
    ] {
        let host = serve_bytes(bytes).await;
        let p = talk(&trusting(&Authority::new()), &host).await.unwrap_err();
        assert!(p.to_string().contains(why), "{why}: {p}");
        assert!(!p.remedy.is_empty());
    }
}

#[test]
fn what_rustls_does_not_speak_is_refused_or_dropped_with_a_warning() {
    for (yaml, refused, warnings) in [
        ("", false, 0),
        ("supported_protocols: [TLSv1.2, TLSv1.3]", false, 0),
        ("supported_protocols: [TLSv1.0, TLSv1.1, TLSv1.2]", false, 1),
        ("supported_protocols: [TLSv1.1]", true, 0),
        ("supported_protocols: [TLSv9]", true, 0),
        ("cipher_suites: [ECDHE-RSA-AES-128-GCM-SHA256]", false, 0),
        ("cipher_suites: [ECDHE-RSA-AES-128-CBC-SHA, ECDHE-RSA-AES-256-GCM-SHA384]", false, 1),
        ("cipher_suites: [RSA-AES-128-GCM-SHA256]", true, 0),
        ("cipher_suites: [MADE-UP]", true, 0),
        ("curve_types: [P-256, P-521]", false, 1),
        ("curve_types: [P-521]", true, 0),
        ("verification_mode: none", false, 1),
        ("renegotiation: never", false, 0),
        ("renegotiation: freely", false, 1),
        ("ca_trusted_fingerprint: abc", true, 0),
    ] {
        match try_settings(yaml) {
            Ok((_, n)) => assert_eq!((false, warnings), (refused, n), "{yaml}"),
            Err(e) => assert!(refused && e.to_string().contains("remedy"), "{yaml}: {e}"),
        }
    }
    let old_suite = settings("supported_protocols: [TLSv1.3]\ncipher_suites: [ECDHE-RSA-AES-128-GCM-SHA256]");
    assert!(trusting(&Authority::new()).build(&World::real(), &[]).is_ok());
    assert!(TlsSettings { verification: Verification::None, ..old_suite }.build(&World::real(), &[]).is_ok());
}

#[test]
fn missing_and_broken_files_are_named() {
    let build = |s: TlsSettings| s.build(&World::real(), &[]).err().unwrap();
    let p = build(TlsSettings { authorities: vec!["/nowhere/ca.crt".into()], ..TlsSettings::default() });
    assert!(p.reason.contains("/nowhere/ca.crt") && p.reason.contains("certificate_authorities"), "{p}");
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let p = build(TlsSettings { authorities: vec![broken.into()], ..TlsSettings::default() });
    assert!(p.remedy.contains("PEM"), "{p}");
}
