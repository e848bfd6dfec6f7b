//! The receiver over real sockets: raw HTTP, and the client of the Lumberjack crate.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pillion_deflate::{Compressor, Container};
use pillion_lumberjack::{Client, ClientError, ClientOptions, Level, WindowWriter};
use pillion_receive::{Counts, Kind, Listen, Options, Receiver, Sink};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn http(receiver: &Receiver, head: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = TcpStream::connect(receiver.address(Kind::Elasticsearch).unwrap()).await.unwrap();
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let request =
        format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    // A server that has refused the body may have closed its end by now.
    let _ = stream.write_all(body).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains("x-elastic-product: elasticsearch"), "{head}");
    (head[9..12].parse().unwrap(), if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() })
}

fn statuses(answer: &Value) -> Vec<u64> {
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|i| i.as_object().unwrap().values().next().unwrap()["status"].as_u64().unwrap()).collect()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(Container::Gzip, Level::new(1).unwrap()).compress(body, &mut out);
    out
}

fn files(folder: &std::path::Path, kind: Kind, port: u16) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(format!("{}-{port}.ndjson", kind.as_str()))).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

async fn lumberjack(receiver: &Receiver) -> Client<TcpStream> {
    let stream = TcpStream::connect(receiver.address(Kind::Lumberjack).unwrap()).await.unwrap();
    Client::new(stream, ClientOptions::default())
}

fn window(events: &[&str]) -> WindowWriter {
    let mut w = WindowWriter::new(Level::new(3));
    events.iter().for_each(|e| w.push(e.as_bytes()));
    w
}

#[tokio::test]
async fn bulk_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::Folder(folder.path().join("new"));
    let receiver = Receiver::start(Options { sink, with_action: true, ..Options::default() }).await.unwrap();
    let one = b"{\"create\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"x\":1}\n";
    let (status, answer) = http(&receiver, "POST /_bulk?filter_path=errors,items.*.status", one).await;
    assert_eq!((status, answer), (200, json!({"errors": false, "items": [{"create": {"status": 201}}]})));
    let (_, answer) = http(&receiver, "POST /_bulk", one).await;
    assert_eq!(answer["items"][0]["create"]["error"]["type"], "version_conflict_engine_exception");
    let more =
        b"{\"index\":{}}\n{\"x\":2}\n{\"create\":{}}\n{oops\n{\"index\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"x\":3}\n\
        {\"delete\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"create\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{ \"x\" :4}\n";
    let (_, answer) = http(&receiver, "POST /b/_bulk\ncontent-encoding: gzip\r\n", &gzip(more)).await;
    assert_eq!(statuses(&answer), [201, 400, 200, 200, 201]);
    let (_, answer) = http(&receiver, "POST /b/doc/_bulk", b"{\"index\":{}}\n{\"x\":5}\n").await;
    assert_eq!(statuses(&answer), [201]);
    let port = receiver.address(Kind::Elasticsearch).unwrap().port();
    let counts = receiver.stop().await;
    assert_eq!((counts.events, counts.duplicates, counts.malformed, counts.batches), (5, 1, 1, 4));
    let written = files(&folder.path().join("new"), Kind::Elasticsearch, port);
    assert_eq!(written.iter().map(|v| v["doc"]["x"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(written[0], json!({"action": "create", "index": "a", "id": "1", "doc": {"x": 1}}));
    assert_eq!(written[1], json!({"action": "index", "index": "b", "id": null, "doc": {"x": 2}}));
}

#[tokio::test]
async fn requests_that_are_refused_change_nothing() {
    let receiver = Receiver::start(Options { body_bytes: 1000, ..Options::default() }).await.unwrap();
    let zipped = "content-encoding: gzip\r\n";
    for (head, body, status) in [
        ("POST /_bulk".to_owned(), b"{\"index\":{\"_index\":\"a\"}}\n{}".to_vec(), 400),
        ("POST /_bulk".into(), b"{\"index\":{}}\n{}\n".to_vec(), 400),
        ("POST /_bulk".into(), b"".to_vec(), 400),
        (format!("POST /a/_bulk\n{zipped}"), b"{\"index\":{}}\n{}\n".to_vec(), 400),
        (format!("POST /a/_bulk\n{zipped}"), gzip(&[b' '; 2000]), 413),
        ("POST /a/_bulk".into(), vec![b' '; 2000], 413),
        ("POST /a/_bulk\ncontent-encoding: br\r\n".into(), b"x".to_vec(), 415),
        ("DELETE /a".into(), b"".to_vec(), 405),
        ("GET /a/_bulk".into(), b"".to_vec(), 405),
        ("POST /_search".into(), b"".to_vec(), 405),
    ] {
        let (got, answer) = http(&receiver, &head, &body).await;
        assert_eq!(got, status, "{head}: {answer}");
        assert_eq!(answer["status"], status, "{head}");
        assert!(answer["error"]["root_cause"][0]["reason"].is_string(), "{answer}");
    }
    assert_eq!(receiver.counts(), Counts { connections: 10, errors: 10, ..Counts::default() });
}

#[tokio::test]
async fn what_clients_ask_before_they_send() {
    let receiver = Receiver::start(Options { version: "7.17.29".into(), ..Options::default() }).await.unwrap();
    let (status, answer) = http(&receiver, "GET /", b"").await;
    assert_eq!((status, &answer["version"]["number"]), (200, &json!("7.17.29")));
    assert_eq!(answer["tagline"], "You Know, for Search");
    for (head, want) in [
        ("HEAD /", 200),
        ("GET /_license", 200),
        ("GET /_xpack", 200),
        ("HEAD /_template/filebeat-7.17.29", 404),
        ("PUT /_template/filebeat-7.17.29", 200),
        ("PUT /_index_template/filebeat", 200),
        ("PUT /_ilm/policy/filebeat", 200),
        ("PUT /_ingest/pipeline/p", 200),
        ("PUT /_data_stream/filebeat-8.19.3", 200),
        ("HEAD /_alias/filebeat", 404),
        ("PUT /filebeat-000001", 200),
    ] {
        assert_eq!(http(&receiver, head, b"").await.0, want, "{head}");
    }
}

#[tokio::test]
async fn lumberjack_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::Folder(folder.path().to_owned());
    let receiver = Receiver::start(Options { sink, ..Options::default() }).await.unwrap();
    let mut client = lumberjack(&receiver).await;
    client.send(&mut window(&["{\"x\":1}", "{\n\"x\":\r\n2}", "oops"])).await.unwrap();
    client.send(&mut window(&["{\"x\":3}"])).await.unwrap();
    assert!(client.next_ack().await.unwrap().is_done());
    assert!(client.next_ack().await.unwrap().is_done());
    let port = receiver.address(Kind::Lumberjack).unwrap().port();
    let counts = receiver.stop().await;
    assert_eq!((counts.events, counts.malformed, counts.batches, counts.bytes), (3, 1, 2, 24));
    let written = files(folder.path(), Kind::Lumberjack, port);
    assert_eq!(written, [json!({"x": 1}), json!({"x": 2}), json!({"x": 3})]);
    assert!(client.next_ack().await.is_err(), "stopped, it closes its connections");
}

#[tokio::test]
async fn refusing_on_request() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let seen = Arc::clone(&seen);
        Sink::Call(Arc::new(move |e| seen.lock().unwrap().push(String::from_utf8(e.json.to_vec()).unwrap())))
    };
    let options = Options { sink, reject_every: NonZeroU64::new(2), ..Options::default() };
    let receiver = Receiver::start(options).await.unwrap();
    let (_, answer) = http(&receiver, "POST /i/_bulk", "{\"index\":{}}\n1\n".repeat(5).as_bytes()).await;
    assert_eq!(statuses(&answer), [201, 429, 201, 429, 201]);
    assert_eq!(answer["errors"], true);
    let mut client = lumberjack(&receiver).await;
    client.send(&mut window(&["2"])).await.unwrap();
    assert!(client.next_ack().await.unwrap().is_done());
    client.send(&mut window(&["3", "4"])).await.unwrap();
    assert!(matches!(client.next_ack().await, Err(ClientError::Closed | ClientError::Io(_))));
    assert_eq!(client.pending().len(), 1);
    let counts = receiver.wait_for(|c| c.rejected == 4).await;
    assert_eq!((counts.events, counts.rejected), (4, 4));
    assert_eq!(*seen.lock().unwrap(), ["1", "1", "1", "2"]);
}

#[tokio::test]
async fn delays_and_limits_of_connections() {
    let mut options = Options { connections: 1, delay: Duration::from_millis(300), ..Options::default() };
    options.lumberjack.keep_alive = Duration::from_millis(20);
    let receiver = Receiver::start(options).await.unwrap();
    let stream = TcpStream::connect(receiver.address(Kind::Lumberjack).unwrap()).await.unwrap();
    let timeout = Duration::from_millis(200);
    let mut client = Client::new(stream, ClientOptions { timeout, ..ClientOptions::default() });
    let begin = tokio::time::Instant::now();
    client.send(&mut window(&["1"])).await.unwrap();
    assert!(client.next_ack().await.unwrap().is_done(), "keep-alives restart the client's deadline");
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let mut second = lumberjack(&receiver).await;
    second.send(&mut window(&["2"])).await.unwrap();
    assert_eq!(receiver.counts_of(Kind::Lumberjack).connections, 1, "the second waits");
    client.close().await.unwrap();
    assert!(second.next_ack().await.unwrap().is_done());
}

#[tokio::test]
async fn mutual_tls() {
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate().unwrap()).unwrap();
    let make = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &issuer).unwrap();
        (cert, key)
    };
    let (server, server_key) = make("localhost");
    let tls = pillion_receive::tls_config(
        server.pem().as_bytes(),
        server_key.serialize_pem().as_bytes(),
        Some(issuer.pem().as_bytes()),
    );
    let listen = vec![Listen { tls: Some(tls.unwrap()), ..Listen::loopback(Kind::Lumberjack) }];
    let receiver = Receiver::start(Options { listen, ..Options::default() }).await.unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let (cert, key) = make("client");
    let shown = vec![cert.der().clone()];
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    for (config, accepted) in
        [(config.clone().with_no_client_auth(), false), (config.with_client_auth_cert(shown, key).unwrap(), true)]
    {
        let stream = TcpStream::connect(receiver.address(Kind::Lumberjack).unwrap()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let mut client = Client::new(stream, ClientOptions::default());
        let done = async {
            client.send(&mut window(&["1"])).await?;
            client.next_ack().await
        };
        assert_eq!(done.await.is_ok(), accepted);
    }
    assert_eq!(receiver.counts().events, 1);
    assert!(pillion_receive::tls_config(b"x", b"y", None).is_err());
}
