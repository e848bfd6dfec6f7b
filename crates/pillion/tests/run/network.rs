//! The inputs `tcp`, `udp`, `unix` and `syslog`: real sockets, real TLS, real signals.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::harness::{Endpoint, Job, Running, dead_port, wait_for};

/// A job whose inputs are these.
fn job(target: SocketAddr, inputs: &str, more: &str) -> Job {
    let job = Job::new(target);
    let log = job.path("termination-log").display().to_string();
    job.write(
        "filebeat.yml",
        &format!(
            "filebeat.inputs:\n{inputs}output.logstash:\n  hosts: ['{target}']\n  backoff: {{init: 50ms, max: 100ms}}\npillion.termination_log: {log}\n{more}"
        ),
    );
    job
}

fn connect(at: SocketAddr) -> TcpStream {
    wait_for("the port", || TcpStream::connect(at).ok())
}

/// A port of UDP where nobody listens.
fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Ends it as Kubernetes does, and gives the receipt.
fn drained(job: &Job, run: &mut Running, code: i32) -> Value {
    run.signal(Signal::TERM);
    run.ends_with(code);
    job.receipt()
}

/// The messages in an order of their own.
fn sorted(end: &Endpoint) -> Vec<String> {
    let mut all = end.messages();
    all.sort();
    all
}

#[test]
fn many_connections_and_nothing_of_what_they_sent_is_lost_by_a_drain() {
    let (end, at) = (Endpoint::start(), dead_port());
    let job = job(end.address, &format!("- {{type: tcp, host: '{at}', tags: [t], fields: {{a: 1}}}}\n"), "");
    let mut run = job.start::<&str>(&[]);
    let mut want = Vec::new();
    // Some have ended, some stay, some leave a line unfinished.
    let mut open = Vec::new();
    for i in 0..60 {
        let mut peer = connect(at);
        for line in 0..50 {
            want.push(format!("{i}-{line}"));
            peer.write_all(format!("{i}-{line}\r\n").as_bytes()).unwrap();
        }
        match i % 3 {
            0 => drop(peer),
            1 => open.push(peer),
            _ => {
                want.push(format!("{i} unfinished"));
                peer.write_all(format!("{i} unfinished").as_bytes()).unwrap();
                open.push(peer);
            }
        }
    }
    let peers: Vec<String> = open.iter().map(|peer| peer.local_addr().unwrap().to_string()).collect();
    let receipt = drained(&job, &mut run, 0);
    want.sort();
    assert_eq!(sorted(&end), want);
    assert_eq!((&receipt["verdict"], &receipt["totals"]["acknowledged"]), (&"complete".into(), &want.len().into()));
    let event = end.events().into_iter().find(|e| e["message"] == "1-0").unwrap();
    assert_eq!(
        (&event["input"]["type"], &event["tags"], &event["fields"]),
        (&"tcp".into(), &json!(["t"]), &json!({"a": 1}))
    );
    assert_eq!(event["log"], json!({"source": {"address": peers[0]}}), "there is neither a file nor an offset");
    // They were told.
    for mut peer in open {
        assert_eq!(peer.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    let (end, at) = (Endpoint::start(), dead_port());
    let job = job(end.address, &format!("- {{type: tcp, host: '{at}', max_message_size: 100000}}\n"), "");
    let mut run = job.start::<&str>(&[]);
    let mut peer = connect(at);
    peer.write_all(&[b'x'; 300_000]).unwrap();
    peer.write_all(b"\nafter\n\n").unwrap();
    drop(peer);
    end.wait(3);
    let receipt = drained(&job, &mut run, 0);
    let events = end.events();
    assert_eq!(events[0]["message"].as_str().unwrap().len(), 100_000);
    assert_eq!(events[0]["log"]["flags"], json!(["truncated"]));
    assert_eq!(
        (&events[1]["message"], &events[2]["message"], &events[1]["log"]["flags"]),
        (&"after".into(), &"".into(), &Value::Null)
    );
    assert_eq!((&receipt["totals"]["bytes"], &receipt["totals"]["cut_messages"]), (&300_008.into(), &1.into()));
}

#[test]
fn counted_messages_and_other_delimiters() {
    let (end, counted, pairs) = (Endpoint::start(), dead_port(), dead_port());
    let inputs = format!(
        "- {{type: tcp, host: '{counted}', framing: rfc6587}}\n- {{type: tcp, host: '{pairs}', line_delimiter: '||'}}\n"
    );
    let job = job(end.address, &inputs, "");
    let mut run = job.start::<&str>(&[]);
    connect(counted).write_all(b"5 hello11 two\nlines..plain line\n3 abc").unwrap();
    connect(pairs).write_all(b"one\ntwo||three||").unwrap();
    end.wait(6);
    drained(&job, &mut run, 0);
    assert_eq!(sorted(&end), ["abc", "hello", "one\ntwo", "plain line", "three", "two\nlines.."]);
}

/// An authority and what it signs, as PEM: certificate and key of `localhost`.
fn signed() -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), leaf.pem(), key.serialize_pem())
}

/// Sends a line over TLS; with this certificate when there is one.
fn send_tls(at: SocketAddr, authority: &str, own: Option<(&str, &str)>, line: &[u8]) -> std::io::Result<()> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, connect(at));
    stream.write_all(line)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)?;
    // A refused certificate shows when the other side is heard.
    stream.read(&mut [0]).map(|_| ())
}

#[test]
fn tls_with_certificates_of_clients() {
    let (end, at) = (Endpoint::start(), dead_port());
    let (authority, certificate, key) = signed();
    let (_, stranger, strangers_key) = signed();
    let inputs = format!(
        "- type: syslog\n  protocol.tcp:\n    host: '{at}'\n    ssl: {{certificate: tls.crt, key: tls.key, certificate_authorities: [ca.crt]}}\n"
    );
    let job = job(end.address, &inputs, "");
    job.write("ca.crt", &authority);
    job.write("tls.crt", &certificate);
    job.write("tls.key", &key);
    let mut run = job.start::<&str>(&[]);
    assert!(send_tls(at, &authority, None, b"<13>Oct 11 22:14:15 host su: nobody\n").is_err());
    assert!(
        send_tls(at, &authority, Some((&stranger, &strangers_key)), b"<13>Oct 11 22:14:15 host su: stranger\n")
            .is_err()
    );
    send_tls(at, &authority, Some((&certificate, &key)), b"<13>Oct 11 22:14:15 host su[7]: a friend\n").unwrap();
    end.wait(1);
    drained(&job, &mut run, 0);
    let event = end.events().remove(0);
    assert_eq!(end.messages(), ["a friend"]);
    assert_eq!((&event["process"], &event["hostname"]), (&json!({"program": "su", "pid": 7}), &"host".into()));
    assert_eq!(event["syslog"]["facility_label"], "user-level");
    assert_eq!(event["@metadata"]["truncated"], false);
    // Without its key it doesn't start, and says why.
    std::fs::remove_file(job.path("tls.key")).unwrap();
    let mut run = job.start::<&str>(&[]);
    run.ends_with(2);
    assert!(run.err().contains("ssl.key: tls.key"), "{}", run.err());
}

#[test]
fn syslog_over_udp_and_datagrams_that_came_before_the_end() {
    let (end, syslog, plain) = (Endpoint::start(), free_udp(), free_udp());
    let inputs = format!(
        "- {{type: syslog, format: auto, timezone: '+0200', protocol.udp.host: '{syslog}'}}\n\
         - {{type: udp, host: '{plain}', max_message_size: 10, read_buffer: 1MiB}}\n"
    );
    let job = job(end.address, &inputs, "");
    let mut run = job.start::<&str>(&[]);
    run.says(&format!("udp://{plain}: listening"));
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(b"<34>Oct 11 22:14:15 mymachine su: 3164", syslog).unwrap();
    from.send_to(b"<165>1 2003-10-11T22:14:15.003Z host app 9 ID47 [a b=\"c\"] 5424", syslog).unwrap();
    from.send_to(b"", plain).unwrap();
    from.send_to(b"more than ten", plain).unwrap();
    for i in 0..500 {
        from.send_to(format!("d{i}").as_bytes(), plain).unwrap();
    }
    let receipt = drained(&job, &mut run, 0);
    assert_eq!((&receipt["verdict"], &receipt["totals"]["cut_messages"]), (&"complete".into(), &1.into()));
    let events = end.events();
    assert_eq!(events.len(), 503);
    let by = |message: &str| events.iter().find(|e| e["message"] == message).unwrap();
    let sender = from.local_addr().unwrap().to_string();
    assert_eq!(by("d499")["log"], json!({"source": {"address": sender}}));
    assert_eq!(by("more than ")["log"]["flags"], json!(["truncated"]));
    assert!(by("3164")["@timestamp"].as_str().unwrap().ends_with("-10-11T20:14:15.000Z"));
    let modern = by("5424");
    assert_eq!(
        (&modern["@timestamp"], &modern["syslog"]["data"]),
        (&"2003-10-11T22:14:15.003Z".into(), &json!({"a": {"b": "c"}}))
    );
}

#[test]
fn a_burst_beyond_the_kernels_buffer_is_counted() {
    let (target, at) = (dead_port(), free_udp());
    let inputs = format!("- {{type: udp, host: '{at}', read_buffer: 4KiB}}\n");
    // Nothing is taken while the target is away and the queue is full.
    let job = job(target, &inputs, "queue.mem.events: 32\npillion.drain.timeout: 1s\n");
    let mut run = job.start::<&str>(&[]);
    run.says("listening");
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    for i in 0..2000 {
        from.send_to(format!("burst {i}").as_bytes(), at).unwrap();
    }
    let end = Endpoint::at(target);
    end.wait(1);
    let receipt = drained(&job, &mut run, 3);
    let (kept, lost) = (end.events().len() as u64, receipt["totals"]["lost_datagrams"].as_u64().unwrap());
    assert_eq!((kept + lost, &receipt["totals"]["lost_bytes"]), (2000, &0.into()), "{receipt}");
    assert!(lost > 0 && run.err().contains("the kernel has dropped datagrams"), "{}", run.err());
}

#[test]
fn unix_sockets_of_both_kinds() {
    let end = Endpoint::start();
    let inputs = "- {type: unix, path: s.sock, mode: '0622'}\n- {type: unix, path: d.sock, socket_type: datagram}\n\
                  - {type: syslog, protocol.unix.path: y.sock}\n";
    let job = job(end.address, inputs, "");
    // One that a process left behind is no hindrance.
    drop(std::os::unix::net::UnixListener::bind(job.path("s.sock")).unwrap());
    let mut run = job.start::<&str>(&[]);
    run.says("unix://y.sock: listening");
    let stream = |path: &Path, text: &[u8]| UnixStream::connect(path).unwrap().write_all(text).unwrap();
    stream(&job.path("s.sock"), b"one\r\ntwo\nthree");
    stream(&job.path("y.sock"), b"<34>Oct 11 22:14:15 h su: unix\n");
    UnixDatagram::unbound().unwrap().send_to(b"a datagram\n", job.path("d.sock")).unwrap();
    end.wait(5);
    assert_eq!(std::fs::metadata(job.path("s.sock")).unwrap().permissions().mode() & 0o777, 0o622);
    drained(&job, &mut run, 0);
    assert_eq!(sorted(&end), ["a datagram\n", "one", "three", "two", "unix"]);
    assert!(end.events().iter().all(|e| e["log"].is_null()));
    assert!(!job.path("s.sock").exists() && !job.path("d.sock").exists());
    // A file is never taken for a socket.
    job.write("s.sock", "precious");
    let mut run = job.start::<&str>(&[]);
    run.ends_with(1);
    assert!(run.err().contains("unix://s.sock: there is a file that isn't a socket"), "{}", run.err());
    assert_eq!(job.read("s.sock"), "precious");
}

#[test]
fn senders_wait_while_the_target_is_away() {
    let (target, at) = (dead_port(), dead_port());
    let job = job(target, &format!("- {{type: tcp, host: '{at}', timeout: 1h}}\n"), "queue.mem.events: 64\n");
    let mut run = job.start::<&str>(&[]);
    let mut peer = connect(at);
    peer.set_nonblocking(true).unwrap();
    // Until the kernel's buffers are full on both sides: then nobody reads.
    let (line, mut sent) = (format!("{}\n", "x".repeat(999)), 0);
    let mut blocked = 0;
    wait_for("a sender that has to wait", || {
        loop {
            match peer.write(&line.as_bytes()[sent % 1000..]) {
                Ok(n) => (sent, blocked) = (sent + n, 0),
                Err(_) => {
                    blocked += 1;
                    return (blocked > 100).then_some(());
                }
            }
        }
    });
    let end = Endpoint::at(target);
    peer.set_nonblocking(false).unwrap();
    peer.write_all(&line.as_bytes()[sent % 1000..]).unwrap();
    sent += 1000 - sent % 1000;
    drop(peer);
    end.wait(sent / 1000);
    let receipt = drained(&job, &mut run, 0);
    assert_eq!((&receipt["totals"]["events"], end.events().len()), (&(sent / 1000).into(), sent / 1000));
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let job = job(dead_port(), &format!("- {{type: tcp, host: '{at}'}}\n"), "");
    let mut run = job.start::<&str>(&[]);
    run.ends_with(1);
    assert!(run.err().contains(&format!("tcp://{at}: Address already in use")), "{}", run.err());
}
