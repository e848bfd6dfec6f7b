//! go-lumber, the reference implementation of the Beats protocol: slow, dropping, over TLS.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use serde_json::Value;

use super::Score;
use crate::child::Child;
use crate::shipper::{Place, Shipper, input};
use crate::{Outcome, filebeat, job, wait};

const LIMIT: Duration = Duration::from_secs(90);
const LINES: usize = 5000;

/// A case: its name, the server's flags, whether the server has TLS, whether it wants the client's certificate.
const CASES: [(&str, &[&str], bool, bool); 6] = [
    ("plain", &[], false, false),
    ("slow", &["-delay-ack", "300ms", "-keepalive", "50ms"], false, false),
    ("drops", &["-drop-every", "5"], false, false),
    ("lost-acks", &["-lose-ack-every", "7"], false, false),
    ("tls", &[], true, false),
    ("mutual-tls", &["-drop-every", "9"], true, true),
];

/// Runs all cases.
pub(super) fn suite(score: &mut Score, shipper: &Shipper) {
    for (name, flags, tls, mutual) in CASES {
        score.case("go-lumber", name, || {
            let place = Place::new()?;
            let outcome = ship(shipper, &place, flags, tls, mutual);
            outcome.map_err(|why| format!("{why}; its place: {}", place.keep().display()))
        });
    }
}

/// Ships some files and compares what arrived; an event that came twice has the same id both times.
fn ship(shipper: &Shipper, place: &Place, flags: &[&str], tls: bool, mutual: bool) -> Outcome {
    let out = place.folder().join("events.ndjson");
    let mut words: Vec<String> = flags.iter().map(|&f| f.to_owned()).collect();
    let mut more = String::new();
    if tls {
        let ca = certificates(place)?;
        let file = |name: &str| place.folder().join(name).display().to_string();
        words.extend(["-tls-cert".into(), file("server.pem"), "-tls-key".into(), file("server.key")]);
        more = format!("  ssl.certificate_authorities: ['{}']\n", ca.display());
        if mutual {
            words.extend(["-client-ca".into(), ca.display().to_string()]);
            more.push_str(&format!(
                "  ssl.certificate: '{}'\n  ssl.key: '{}'\n",
                file("client.pem"),
                file("client.key")
            ));
        }
    }
    let log = place.folder().join("golumber.log");
    let mut command = Command::new(filebeat::go_program("golumber")?);
    command.arg("serve").arg("-out").arg(&out).args(&words);
    let mut server = Child::start(&mut command, &log)?;
    let port = wait::until("go-lumber to listen", LIMIT, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let port = text.lines().find_map(|l| l.strip_prefix("listening on ")?.rsplit(':').next()?.parse::<u16>().ok());
        Ok(port)
    })?;
    // The certificate is for the name: the address must be resolved, and the name checked.
    let host = if tls { "localhost" } else { "127.0.0.1" };
    let config = format!(
        "{}output.logstash:\n  hosts: ['{host}:{port}']\n  bulk_max_size: 100\n  backoff.init: 50ms\n{more}pillion.exactly_once: true\n",
        input(place, "filestream")
    );
    place.configure(&config)?;
    let lines = job::lines(0, LINES, 120);
    for (i, part) in lines.chunks(LINES / 4).enumerate() {
        job::append(&place.logs().join(format!("{i}.log")), part)?;
    }
    let mut pillion = Child::start(shipper.command(place).arg("--once"), &place.log())?;
    let status = pillion.wait(LIMIT)?.status;
    server.signal(Signal::TERM);
    server.wait(LIMIT)?;
    if status.code() != Some(0) {
        return Err(format!("{status}"));
    }
    compare(&lines, &fs::read_to_string(&out).map_err(|e| e.to_string())?)
}

/// Each line is there; events with the same id are the same.
pub(crate) fn compare(lines: &[String], ndjson: &str) -> Outcome {
    let events: Vec<Value> =
        ndjson.lines().map(|l| serde_json::from_str(l).map_err(|e| e.to_string())).collect::<Outcome<_>>()?;
    let mut by_id = std::collections::HashMap::new();
    for event in &events {
        let id = event["@metadata"]["_id"].as_str().ok_or("an event without an id")?;
        if let Some(old) = by_id.insert(id, event)
            && old != event
        {
            return Err(format!("two events with one id: {old} and {event}"));
        }
    }
    job::compare(lines, by_id.values().map(|e| e["message"].as_str().unwrap_or_default()))
}

/// An authority, and certificates of it for server (`localhost`) and client, as PEM files; the authority's path.
pub(crate) fn certificates(place: &Place) -> Outcome<PathBuf> {
    let make = || -> Result<PathBuf, Box<dyn std::error::Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let path = place.folder().join("ca.pem");
        fs::write(&path, params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
            // OpenSSL takes one that is named like its authority for one that is signed by itself.
            params.distinguished_name.push(DnType::CommonName, name);
            let cert = params.signed_by(&key, &issuer)?;
            fs::write(place.folder().join(format!("{name}.pem")), cert.pem())?;
            fs::write(place.folder().join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(path)
    };
    make().map_err(|e| format!("certificates: {e}"))
}
