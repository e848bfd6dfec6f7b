//! How fast the webhook answers when a cluster makes 200 pods a second: `cargo bench -p pillion-kube --bench admission`.
//!
//! Comes in: perhaps `--rate N` and `--seconds N`. Goes out: the times from a request's first byte to its answer's last,
//! over TLS on loopback; exit code 1 when one in a hundred takes longer than 50 ms. Requests begin at their time, whatever
//! became of those before (a slow answer delays no other's begin). The client shares the machine with the webhook.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench measures the real clock"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use pillion_kube::client::Target;
use pillion_kube::inject;
use pillion_kube::webhook::{Certificate, Options, Webhook};
use pillion_world::World;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::sync::Mutex;

/// Connections that the API server keeps: it opens another when all are busy.
const CONNECTIONS: usize = 8;
const LIMIT: Duration = Duration::from_millis(50);

fn main() {
    let number = |name: &str, usual: u32| {
        let args: Vec<String> = std::env::args().collect();
        let at = args.iter().position(|a| a == name);
        at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(usual)
    };
    let (rate, seconds) = (number("--rate", 200), number("--seconds", 10));
    let folder = std::env::temp_dir().join(format!("pillion-admission-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["hook.own.svc".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let of_webhook = folder.clone();
    // A thread of its own, as the process of its own that it is.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let target = Target::at("http://127.0.0.1:1").unwrap();
            let webhook = Webhook::bind(&World::real(), options(of_webhook), target).await.unwrap();
            send.send(webhook.addresses().unwrap().0).unwrap();
            webhook.run(std::future::pending()).await.unwrap();
        });
    });
    let address = receive.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut times = runtime.block_on(load(address, made.cert.der().clone(), rate, seconds));
    let _ = std::fs::remove_dir_all(&folder);
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 1000];
    println!(
        "{} admissions, {rate} a second: median {:?}, 99 % within {:?}, 99.9 % within {:?}, slowest {:?}",
        times.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
    if at(990) > LIMIT {
        println!("too slow: {LIMIT:?} are allowed");
        std::process::exit(1);
    }
}

fn options(folder: std::path::PathBuf) -> Options {
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    Options {
        listen: loopback,
        status: loopback,
        certificate: Certificate::Folder(folder),
        manage_ca_bundle: false,
        configuration: "pillion".into(),
        service: "hook".into(),
        namespace: "own".into(),
        census: false,
        identity: "bench".into(),
        linger: Duration::ZERO,
        inject: inject::Options { image: "registry/pillion:1".into(), ..inject::Options::default() },
        ask_version: false,
    }
}

/// A pod as the Job controller makes it: some 4 KB.
fn review(i: u32) -> String {
    let env: Vec<_> = (0..40).map(|n| json!({"name": format!("SETTING_{n}"), "value": "x".repeat(40)})).collect();
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": format!("00000000-0000-0000-0000-{i:012}"), "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "operation": "CREATE", "namespace": "team",
        "userInfo": {"username": "system:serviceaccount:kube-system:job-controller"},
        "object": {"kind": "Pod", "apiVersion": "v1",
            "metadata": {"generateName": "orders-", "namespace": "team", "labels": {"job-name": "orders"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "orders", "uid": "u", "controller": true}]},
            "spec": {"restartPolicy": "Never", "serviceAccountName": "default",
                "containers": [{"name": "main", "image": "orders:1", "command": ["sh", "-c", "work"], "env": env,
                    "volumeMounts": [{"name": "logs", "mountPath": "/data"}]}],
                "volumes": [{"name": "logs", "emptyDir": {}}]}},
    }})
    .to_string()
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr, tls: &Arc<rustls::ClientConfig>) -> Sender {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = "hook.own.svc".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn load(address: SocketAddr, trusted: CertificateDer<'static>, rate: u32, seconds: u32) -> Vec<Duration> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let pool: Arc<Mutex<Vec<Sender>>> = Arc::default();
    for _ in 0..CONNECTIONS {
        let sender = connect(address, &tls).await;
        pool.lock().await.push(sender);
    }
    let begin = tokio::time::Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for i in 0..rate * seconds {
        tokio::time::sleep_until(begin + Duration::from_secs(1) / rate * i).await;
        let (pool, tls) = (Arc::clone(&pool), Arc::clone(&tls));
        running.spawn(async move {
            let body = Full::from(review(i));
            let begin = Instant::now();
            let free = pool.lock().await.pop();
            let mut sender = match free {
                Some(sender) => sender,
                None => connect(address, &tls).await,
            };
            let request = Request::post("/mutate").header("content-type", "application/json").body(body).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let answer = response.into_body().collect().await.unwrap().to_bytes();
            let took = begin.elapsed();
            assert!(answer.windows(9).any(|w| w == b"JSONPatch"));
            pool.lock().await.push(sender);
            took
        });
    }
    running.join_all().await
}
