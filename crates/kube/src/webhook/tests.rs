use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::certs::generation::Bundle;
use super::*;
use crate::testing::FakeApi;

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pillion";
const SECRET: &str = "/api/v1/namespaces/own/secrets/certs";

fn options(certificate: Certificate) -> Options {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Options {
        listen: loopback,
        status: loopback,
        certificate,
        manage_ca_bundle: true,
        configuration: "pillion".into(),
        service: "hook".into(),
        namespace: "own".into(),
        census: false,
        identity: "me".into(),
        linger: Duration::ZERO,
        inject: inject::Options { image: "registry/pillion:1".into(), ..inject::Options::default() },
        ask_version: true,
    }
}

fn own_certificate() -> Options {
    options(Certificate::Secret { name: "certs".into(), lifetime: Duration::from_secs(3600) })
}

/// A running webhook; ends when it is told to.
struct Running {
    admission: SocketAddr,
    status: SocketAddr,
    shared: Arc<Shared>,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Running {
    async fn start(api: &FakeApi, options: Options) -> Running {
        let target = Target::at(api.url()).unwrap();
        let webhook = Webhook::bind(&World::real(), options, target).await.unwrap();
        let (admission, status) = webhook.addresses().unwrap();
        let shared = Arc::clone(&webhook.shared);
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(webhook.run(async { drop(ended.await) }));
        Running { admission, status, shared, end, task }
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.status).await.unwrap();
        exchange(stream, Request::get(path).body(Full::default()).unwrap()).await
    }

    async fn is_ready(&self) {
        let limit = Duration::from_secs(20);
        let ready = async {
            while self.get("/readyz").await.0 != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, ready).await.unwrap();
    }

    async fn post(&self, trusted: &Bundle, path: &str, body: String) -> Result<(StatusCode, String), String> {
        let stream = self.connect(trusted).await?;
        let request = Request::post(path).header("content-type", "application/json").body(Full::from(body)).unwrap();
        Ok(exchange(stream, request).await)
    }

    async fn connect(&self, trusted: &Bundle) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let mut roots = RootCertStore::empty();
        let pem = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, trusted.text()).unwrap();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.admission).await.unwrap();
        let name = "hook.own.svc".try_into().unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| e.to_string())
    }

    async fn end(self) {
        self.end.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> (StatusCode, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn cluster() -> FakeApi {
    let api = FakeApi::start().await;
    let hook = |name: &str| json!({"name": name, "clientConfig": {"service": {"name": "hook"}}});
    api.put(CONFIGURATION, json!({"metadata": {"name": "pillion"}, "webhooks": [hook("a"), hook("b")]}));
    api.put("/version", json!({"metadata": {}, "major": "1", "minor": "34+"}));
    api
}

fn bundle(api: &FakeApi) -> Bundle {
    let configuration = api.object(CONFIGURATION).unwrap();
    let text =
        |i: usize| configuration["webhooks"][i]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
    assert_eq!(text(0), text(1));
    Bundle::read(&text(0))
}

fn review(namespace: &str) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": namespace,
        "object": {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "i", "command": ["work"]}]}},
    }})
    .to_string()
}

#[tokio::test]
async fn two_replicas_share_a_certificate_that_they_made_and_published() {
    let api = cluster().await;
    let (one, two) = tokio::join!(Running::start(&api, own_certificate()), Running::start(&api, own_certificate()));
    assert_eq!(one.get("/healthz").await.0, StatusCode::OK);
    one.is_ready().await;
    two.is_ready().await;
    let trusted = bundle(&api);
    for replica in [&one, &two] {
        let (status, body) = replica.post(&trusted, "/mutate", review("team")).await.unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["response"]["patchType"]), (StatusCode::OK, &json!("JSONPatch")), "{body}");
    }
    assert!(one.post(&Bundle::default(), "/mutate", review("team")).await.is_err());
    assert_eq!(api.object(SECRET).unwrap()["data"].as_object().unwrap().len(), 3);
    let (status, text) = one.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    for line in ["pillion_webhook_admissions_total{result=\"injected\"} 1", "pillion_webhook_ready 1"] {
        assert!(text.lines().any(|l| l == line), "{text}");
    }
    assert_eq!(
        one.shared.policy.read().unwrap().options.kube_version,
        Some(inject::KubeVersion { major: 1, minor: 34 })
    );
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn without_rights_it_lives_is_not_ready_and_says_why() {
    let api = FakeApi::start().await;
    let options = own_certificate();
    // There is no configuration of that name.
    let hook = Running::start(&api, options).await;
    let limit = tokio::time::timeout(Duration::from_secs(20), async {
        while !hook.get("/metrics").await.1.contains("sync_errors_total 1\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    limit.await.unwrap();
    assert_eq!(hook.get("/healthz").await.0, StatusCode::OK);
    let (status, why) = hook.get("/readyz").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && why.contains("certificate"), "{why}");
    hook.end().await;
}

#[tokio::test]
async fn what_is_no_admission_is_refused_and_costs_nothing() {
    let api = cluster().await;
    let hook = Running::start(&api, own_certificate()).await;
    hook.is_ready().await;
    let trusted = bundle(&api);
    let large = " ".repeat(Limits::default().body_bytes + 1);
    for (path, body, expected) in [
        ("/mutate", "no".to_owned(), StatusCode::BAD_REQUEST),
        ("/mutate", large, StatusCode::PAYLOAD_TOO_LARGE),
        ("/metrics", String::new(), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(hook.post(&trusted, path, body).await.unwrap().0, expected, "{path}");
    }
    let stream = hook.connect(&trusted).await.unwrap();
    let get = Request::get("/mutate").body(Full::default()).unwrap();
    assert_eq!(exchange(stream, get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(hook.get("/mutate").await.0, StatusCode::NOT_FOUND);
    assert_eq!(hook.shared.metrics.count(metrics::Outcome::Invalid), 2);
    hook.end().await;
}

#[tokio::test]
async fn a_certificate_from_a_folder_is_read_again_when_it_changes() {
    let api = cluster().await;
    let folder = tempfile::tempdir().unwrap();
    let world = World::real();
    let put = |generation: &Generation, key: &str| {
        let ca = Bundle::default().with(std::slice::from_ref(generation), 0).text();
        let ca = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca).unwrap();
        let files = [("tls.crt", generation.chain.as_bytes()), ("tls.key", key.as_bytes()), ("ca.crt", &ca)];
        for (name, content) in files {
            world.fs.replace(&folder.path().join(name), content, 0o600).unwrap();
        }
    };
    let now = world.clock.wall().0 / 1000;
    let make = || Generation::make(&["hook.own.svc".into()], now, 3600).unwrap();
    let (first, second) = (make(), make());
    let of_folder = Options { manage_ca_bundle: false, ..options(Certificate::Folder(folder.path().into())) };
    let missing = Webhook::bind(&world, of_folder.clone(), Target::at(api.url()).unwrap()).await.unwrap();
    let why = missing.run(std::future::pending()).await.unwrap_err().to_string();
    assert!(why.contains("tls.crt"), "{why}");
    put(&first, &first.key);
    let webhook = Webhook::bind(&world, of_folder.clone(), Target::at(api.url()).unwrap()).await.unwrap();
    let shared = Arc::clone(&webhook.shared);
    let mut certificates = Certificates::new(&of_folder, &shared, &webhook.client, &webhook.slot).unwrap();
    assert_eq!(certificates.served.as_ref().unwrap().chain, first.chain);
    assert_eq!(shared.metrics.ready.load(Relaxed), 1);
    // In the middle of a change certificate and key don't fit: what was there goes on.
    put(&second, &first.key);
    assert!(certificates.look().is_err());
    assert_eq!(certificates.served.as_ref().unwrap().chain, first.chain);
    put(&second, &second.key);
    certificates.look().unwrap();
    assert_eq!(certificates.served.as_ref().unwrap().chain, second.chain);
    // With `caBundle` kept by us, the first goes on until the second is published and settled.
    let managed = Options { manage_ca_bundle: true, ..of_folder };
    put(&first, &first.key);
    let mut certificates = Certificates::new(&managed, &shared, &webhook.client, &webhook.slot).unwrap();
    put(&second, &second.key);
    certificates.look().unwrap();
    assert_eq!(certificates.served.as_ref().unwrap().chain, first.chain);
    while !matches!(certificates.keeper.next(certificates.now()), Ask::Rest(_)) {
        let ask = certificates.keeper.next(certificates.now());
        let answer = certificates.perform(ask).await;
        let now = certificates.now();
        certificates.keeper.answered(now, answer);
    }
    assert!([&first, &second].iter().all(|g| bundle(&api).has(&g.authority)));
    assert_eq!(certificates.keeper.serving().unwrap().chain, first.chain);
    assert_eq!(api.object(SECRET), None);
}
