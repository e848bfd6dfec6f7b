//! Servers that take a connection and then hang, each in a way of its own, before each output that has hosts.
//!
//! What they show: each wait has the output's `timeout`, the next host gets what the first one left, with nothing settled
//! that nobody has acknowledged, and it is said which host hangs. Real sockets, timeouts of a fifth of a second; the pauses
//! of the servers are what they do to us, and no test waits for a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_config::Config;
use pillion_event::InputKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::any::AnyOptions;
use crate::render::tests::{batch, input};
use crate::testing::{Books, List, context};

/// Far more than any of it takes.
const LIMIT: Duration = Duration::from_secs(30);

/// How a server hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It reads, and says nothing.
    Silent,
    /// It reads nothing: writes block.
    Deaf,
    /// It reads, and answers a byte at a time without an end.
    Drips,
    /// It says nothing to a TLS handshake.
    Tls,
    /// It answers a TLS handshake a byte at a time without an end.
    TlsDrips,
}

/// A server, and how often somebody came.
struct Server {
    at: SocketAddr,
    came: Arc<AtomicUsize>,
    /// All that was read, up to a limit.
    read: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn start(way: Way, beginning: &'static [u8]) -> Server {
        let socket = TcpSocket::new_v4().unwrap();
        // What the kernel takes in our place is little.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let (came, read): (Arc<AtomicUsize>, Arc<Mutex<Vec<u8>>>) = Default::default();
        let server = Server { at: listener.local_addr().unwrap(), came: Arc::clone(&came), read: Arc::clone(&read) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(hang(stream, way, beginning, Arc::clone(&read)));
            }
        });
        server
    }

    fn read(&self, part: &[u8]) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        memchr::memmem::find(&read, part).is_some()
    }
}

/// Until the other side has enough of it.
async fn hang(stream: TcpStream, way: Way, beginning: &'static [u8], read: Arc<Mutex<Vec<u8>>>) {
    let (mut from, mut to) = stream.into_split();
    let listening = async {
        let mut some = [0; 4096];
        if way == Way::Deaf {
            return std::future::pending::<()>().await;
        }
        while let Ok(n @ 1..) = from.read(&mut some).await {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.len() < 1 << 20 {
                read.extend_from_slice(&some[..n]);
            }
        }
    };
    let dripping = async {
        if matches!(way, Way::Silent | Way::Deaf | Way::Tls) {
            return std::future::pending::<()>().await;
        }
        // The head of a TLS record of 16 KiB, which never comes whole.
        let beginning = if way == Way::TlsDrips { b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" } else { beginning };
        // Keep-alives of Logstash are whole frames: they come again, more slowly than they may.
        let rest = if beginning.starts_with(b"2A") { beginning } else { b"a" };
        for byte in beginning.iter().chain(rest.iter().cycle()) {
            if to.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(45)).await;
        }
    };
    tokio::select! {
        () = listening => {}
        () = dripping => {}
    }
}

/// An output, its settings beside the hosts, those for TLS, and how an answer to it begins that has no end.
type Row = (&'static str, &'static str, &'static str, &'static [u8]);

const ROWS: &[Row] = &[
    (
        "elasticsearch",
        "compression_level: 0",
        "protocol: https, ssl.verification_mode: none",
        b"HTTP/1.1 200 OK\r\nx: ",
    ),
    ("logstash", "compression_level: 0", "ssl.verification_mode: none", b"2A\0\0\0\0"),
    ("kafka", "topic: t, metadata.retry.backoff: 1ms", "ssl.verification_mode: none", b"\0\0\x01\0"),
    ("redis", "key: k", "ssl.verification_mode: none", b"+"),
    ("forward", "tag: t, ack_response_timeout: 200ms", "ssl.verification_mode: none", b"\x81\xa3ack\xda\xff\xff"),
];

fn build(row: &Row, way: Way, hosts: &[SocketAddr], balance: bool) -> AnyOptions {
    let (name, settings, tls, _) = row;
    let hosts: Vec<String> = hosts.iter().map(|at| format!("'{at}'")).collect();
    let tls = if matches!(way, Way::Tls | Way::TlsDrips) { format!(", {tls}") } else { String::new() };
    let balance = if *name == "kafka" { String::new() } else { format!(", loadbalance: {balance}") };
    let yaml = format!(
        "pillion.compat: 8\nsetup: {{template.enabled: false, ilm.enabled: false}}\noutput.{name}: {{hosts: [{}], \
         timeout: 200ms, backoff: {{init: 1ms, max: 5ms}}, {settings}{balance}{tls}}}\n",
        hosts.join(", ")
    );
    let config = Config::from_yaml(&yaml).unwrap();
    AnyOptions::from_root(&config.root()).unwrap()
}

/// Runs an output before two servers that hang until both have seen it several times.
async fn before_two(row: &Row, way: Way) {
    let servers = [Server::start(way, row.3), Server::start(way, row.3)];
    let line = vec![b'x'; if way == Way::Deaf { 1 << 20 } else { 1 << 10 }];
    let lines: Vec<&[u8]> = (0..12).map(|_| line.as_slice()).collect();
    let (context, books) = (context(), Arc::new(Books::default()));
    let output = build(row, way, &servers.each_ref().map(|s| s.at), false).build(context.clone()).unwrap();
    let run = output.run(List::of(Arc::new(batch(input(InputKind::Log), 0, &lines))), Arc::clone(&books) as _);
    let came = async {
        while servers.iter().any(|s| s.came.load(Ordering::SeqCst) < 3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = run => panic!("{} {way:?}: it ended: {ended:?}", row.0),
        () = came => {}
        () = tokio::time::sleep(LIMIT) => panic!("{} {way:?}: a host is held on to", row.0),
    }
    assert_eq!(books.all(), [], "{} {way:?}", row.0);
    let said = context.stats.last_error().unwrap_or_default();
    let host = servers.iter().any(|s| said.contains(&s.at.to_string()));
    let late = ["200ms", "0.2"].iter().any(|time| said.contains(time));
    assert!(host && late, "{} {way:?}: {said}", row.0);
    if way == Way::Silent && row.0 != "kafka" && row.0 != "redis" {
        // Those two say something before the first event.
        assert!(servers.iter().all(|s| s.read(b"xxxxxxxxxxxxxxxx")), "both were sent the same lines");
    }
}

/// In each way, one after another; outputs together.
async fn hangs(output: &str) {
    let row = ROWS.iter().find(|row| row.0 == output).unwrap();
    for way in [Way::Silent, Way::Deaf, Way::Drips, Way::Tls, Way::TlsDrips] {
        before_two(row, way).await;
    }
}

#[tokio::test]
async fn elasticsearch_has_its_limits() {
    hangs("elasticsearch").await;
}

#[tokio::test]
async fn logstash_has_its_limits() {
    hangs("logstash").await;
}

#[tokio::test]
async fn kafka_has_its_limits() {
    hangs("kafka").await;
}

#[tokio::test]
async fn redis_has_its_limits() {
    hangs("redis").await;
}

#[tokio::test]
async fn forward_has_its_limits() {
    hangs("forward").await;
}

#[tokio::test]
async fn an_elasticsearch_that_hangs_gets_no_second_request_before_it_has_said_something() {
    let servers = [Server::start(Way::Silent, b""), Server::start(Way::Silent, b"")];
    let lines: Vec<&[u8]> = vec![b"x"; 100];
    let (context, books) = (context(), Arc::new(Books::default()));
    let options = build(&ROWS[0], Way::Silent, &servers.each_ref().map(|s| s.at), true);
    let output = options.build(context).unwrap();
    let run = output.run(List::of(Arc::new(batch(input(InputKind::Log), 0, &lines))), Arc::clone(&books) as _);
    let came = async {
        while servers.iter().any(|s| s.came.load(Ordering::SeqCst) < 4) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = run => panic!("it ended: {ended:?}"),
        () = came => {}
        () = tokio::time::sleep(LIMIT) => panic!("nobody comes again"),
    }
    for server in &servers {
        let read = server.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (bulks, asked) =
            (memchr::memmem::find_iter(&read, b"POST ").count(), memchr::memmem::find_iter(&read, b"GET / ").count());
        assert!(bulks <= 1 && asked > 0, "{bulks} requests, asked {asked} times");
    }
}
