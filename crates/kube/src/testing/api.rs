//! An API server as far as the tests need one: objects with resource versions, optimistic concurrency, JSON and merge
//! patches, pages, watches with history, and faults.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::client::{Client, Target};
use pillion_world::World;

/// A fault: the request is lost, and there is no answer.
pub(crate) const HANGS: u16 = 0;
/// A fault: it is done, and there is no answer.
pub(crate) const LATE: u16 = 1;

/// What happened: version, kind, the object's path, the object.
type Event = (u64, &'static str, String, Value);

#[derive(Default)]
struct Store {
    version: u64,
    objects: BTreeMap<String, Value>,
    history: Vec<Event>,
    /// Versions up to this one are forgotten.
    forgotten: u64,
    /// Ends all watches when it changes.
    breaks: u64,
    /// Every request as `METHOD path?query`, with its `Accept`.
    requests: Vec<String>,
    /// The next requests are answered with these codes instead.
    faults: Vec<u16>,
}

impl Store {
    fn put(&mut self, path: &str, mut object: Value, kind: &'static str) -> Value {
        self.version += 1;
        if path.contains("/leases/") && object["metadata"]["uid"].is_null() {
            let held = self.objects.get(path).map(|held| held["metadata"]["uid"].clone());
            object["metadata"]["uid"] = held.unwrap_or_else(|| format!("uid-{}", self.version).into());
        }
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        self.history.push((self.version, kind, path.to_owned(), object.clone()));
        object
    }
}

/// The server; ends with the runtime.
#[derive(Clone)]
pub(crate) struct FakeApi {
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<()>,
    url: String,
}

impl FakeApi {
    pub(crate) async fn start() -> FakeApi {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = FakeApi { store: Arc::default(), changed: watch::Sender::new(()), url };
        let serving = api.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let api = serving.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.answer(request).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        api
    }

    pub(crate) fn client(&self) -> Client {
        self.client_in(World::real())
    }

    pub(crate) fn client_in(&self, world: World) -> Client {
        Client::new(world, self.target())
    }

    pub(crate) fn target(&self) -> Target {
        Target::at(&self.url).unwrap()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.store.lock().unwrap().objects.get(path).cloned()
    }

    /// Makes or changes an object as somebody else would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut store = self.store.lock().unwrap();
        let kind = if store.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        store.put(path, object, kind);
        drop(store);
        self.changed.send_replace(());
    }

    pub(crate) fn remove(&self, path: &str) {
        let mut store = self.store.lock().unwrap();
        let object = store.objects.remove(path).unwrap();
        store.version += 1;
        let version = store.version;
        store.history.push((version, "DELETED", path.to_owned(), object));
        drop(store);
        self.changed.send_replace(());
    }

    /// Ends all watches; with `forget`, the server can't say what was missed.
    pub(crate) fn break_watches(&self, forget: bool) {
        let mut store = self.store.lock().unwrap();
        store.breaks += 1;
        if forget {
            store.version += 1;
            store.forgotten = store.version;
        }
        drop(store);
        self.changed.send_replace(());
    }

    pub(crate) fn fail_next(&self, codes: &[u16]) {
        self.store.lock().unwrap().faults = codes.to_vec();
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.store.lock().unwrap().requests.clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let path = head.uri.path().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let (mut hangs, mut late) = (false, false);
        {
            let mut store = self.store.lock().unwrap();
            let accept = head.headers.get("accept").and_then(|v| v.to_str().ok()).unwrap_or_default();
            store.requests.push(format!("{} {path}?{query} {accept}", head.method));
            if !store.faults.is_empty() {
                let code = store.faults.remove(0);
                if code != HANGS && code != LATE {
                    return refusal(code, "Fault");
                }
                late = code == LATE;
                hangs = true;
            }
        }
        if hangs && !late {
            return std::future::pending().await;
        }
        if parameter(&query, "watch").is_some() {
            return self.watch(&path, &query);
        }
        let (code, answer) = self.one(&head.method, &path, &query, &body);
        self.changed.send_replace(());
        if hangs {
            return std::future::pending().await;
        }
        respond(code, answer.to_string())
    }

    fn one(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let mut store = self.store.lock().unwrap();
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        let held = store.objects.get(path).cloned();
        let status = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "code": code, "reason": reason, "message": reason}))
        };
        match (method.as_str(), held) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) if is_list(path) => (200, page(&store, path, query)),
            ("POST", _) => {
                let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                if store.objects.contains_key(&path) {
                    return status(409, "AlreadyExists");
                }
                (201, store.put(&path, sent, "ADDED"))
            }
            ("PUT", Some(held)) => {
                let uid = &sent["metadata"]["uid"];
                if !uid.is_null() && *uid != held["metadata"]["uid"] {
                    return status(409, "Conflict");
                }
                let version = &sent["metadata"]["resourceVersion"];
                if !version.is_null() && *version != held["metadata"]["resourceVersion"] {
                    return status(409, "Conflict");
                }
                (200, store.put(path, sent, "MODIFIED"))
            }
            // As Leases are: a replacement of what isn't there makes it, unless it is of a certain one.
            ("PUT", None) if path.contains("/leases/") => match sent["metadata"]["uid"].is_null() {
                true => (201, store.put(path, sent, "ADDED")),
                false => status(409, "Conflict"),
            },
            ("DELETE", Some(held)) => {
                let asked = &sent["preconditions"];
                let differs = |key: &str| !asked[key].is_null() && asked[key] != held["metadata"][key];
                if differs("uid") || differs("resourceVersion") {
                    return status(409, "Conflict");
                }
                store.objects.remove(path);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            ("PATCH", Some(mut held)) => {
                for op in sent.as_array().unwrap() {
                    let (at, value) = (op["path"].as_str().unwrap(), op["value"].clone());
                    match op["op"].as_str().unwrap() {
                        "test" if held.pointer(at) != Some(&value) => return status(422, "Invalid"),
                        "test" => {}
                        _ => {
                            let (parent, key) = at.rsplit_once('/').unwrap();
                            held.pointer_mut(parent).unwrap()[key] = value;
                        }
                    }
                }
                (200, store.put(path, held, "MODIFIED"))
            }
            _ => status(404, "NotFound"),
        }
    }

    fn watch(&self, path: &str, query: &str) -> Response<BoxBody<Bytes, Infallible>> {
        let mut from: u64 = parameter(query, "resourceVersion").unwrap().parse().unwrap();
        let breaks = self.store.lock().unwrap().breaks;
        if from < self.store.lock().unwrap().forgotten {
            return refusal(410, "Expired");
        }
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(8);
        let (api, prefix, mut changed) = (self.clone(), path.to_owned(), self.changed.subscribe());
        tokio::spawn(async move {
            loop {
                let lines: Vec<String> = {
                    let store = api.store.lock().unwrap();
                    if store.breaks != breaks {
                        return;
                    }
                    let news = store.history.iter().filter(|(v, _, path, _)| *v > from && is_in(path, &prefix));
                    let lines = news.map(|(_, kind, _, o)| json!({"type": kind, "object": o}).to_string()).collect();
                    from = store.version;
                    lines
                };
                for line in lines {
                    // In two pieces, as networks do.
                    let (a, b) = line.split_at(line.len() / 2);
                    for piece in [a, b, "\n"] {
                        if sender.send_data(Bytes::from(piece.to_owned())).await.is_err() {
                            return;
                        }
                    }
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        });
        Response::new(body.boxed())
    }
}

fn is_list(path: &str) -> bool {
    ["pods", "namespaces", "nodes", "things", "leases"].contains(&path.rsplit('/').next().unwrap())
}

/// Is the object of this list, or of the same kind in a namespace?
fn is_in(path: &str, list: &str) -> bool {
    let (base, kind) = list.rsplit_once('/').unwrap();
    let folder = path.rsplit_once('/').unwrap().0;
    folder.starts_with(base) && folder.ends_with(&format!("/{kind}"))
}

fn page(store: &Store, path: &str, query: &str) -> Value {
    let limit: usize = parameter(query, "limit").map_or(usize::MAX, |l| l.parse().unwrap());
    let skip: usize = parameter(query, "continue").map_or(0, |c| c.parse().unwrap());
    let selector = parameter(query, "labelSelector").unwrap_or_default().replace("%3D", "=").replace("%2C", ",");
    let selected = |object: &Value| {
        let mut parts = selector.split(',').filter_map(|part| part.split_once('='));
        !path.ends_with("/leases") || parts.all(|(label, value)| object["metadata"]["labels"][label] == value)
    };
    let all = store.objects.iter().filter(|(p, o)| is_in(p, path) && selected(o));
    let all: Vec<&Value> = all.map(|(_, o)| o).collect();
    let items: Vec<&Value> = all.iter().skip(skip).take(limit).copied().collect();
    let next = skip + items.len();
    // As the real one does.
    let items = if items.is_empty() { Value::Null } else { items.into_iter().cloned().collect() };
    let go_on = if next < all.len() { next.to_string() } else { String::new() };
    json!({"metadata": {"resourceVersion": store.version.to_string(), "continue": go_on}, "items": items})
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='))
}

fn refusal(code: u16, reason: &str) -> Response<BoxBody<Bytes, Infallible>> {
    respond(code, json!({"kind": "Status", "code": code, "reason": reason, "message": "said the server"}).to_string())
}

fn respond(code: u16, body: String) -> Response<BoxBody<Bytes, Infallible>> {
    Response::builder().status(code).body(Full::new(Bytes::from(body)).boxed()).unwrap()
}
