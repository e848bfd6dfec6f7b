//! The metadata of pods, kept up to date by watches: what `add_kubernetes_metadata` and autodiscovery look things up in.
//!
//! Comes in: a [`Scope`], a client. Goes out: a [`Pods`] that answers at once from what is known, and [`Told`] about each
//! pod for whoever wants to hear ([`Pods::listen`]).
//!
//! Always holds: a lookup never waits, for the API server least of all: while that is away, what was known stays, and
//! pods that came meanwhile have no metadata. A pod's metadata outlive it by `cleanup_timeout`, since its last lines are
//! read later than it ends. Only what indexers ask for is kept, and at most [`MAX_PODS`] pods.
//! Tested below against a scripted API server, and on a real cluster.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_process::kubernetes::{Indexer, Metadata, Scope};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::client::{Change, Client, Watched, follow};
use crate::pods::{self, Beside, Fields};

/// Pods that are kept at most; further ones have no metadata. A node has 110 by default.
pub const MAX_PODS: usize = 100_000;

/// What happened to a pod.
#[derive(Clone, Debug)]
pub enum Told {
    /// It is there, or has changed: the pod, and its `kubernetes.*`.
    Seen {
        /// The object.
        pod: Arc<Value>,
        /// Without a container.
        kubernetes: Arc<Fields>,
    },
    /// It is gone: `namespace/name` and its uid.
    Gone {
        /// `namespace/name`.
        name: String,
        /// Its uid.
        uid: String,
    },
}

struct Pod {
    uid: String,
    keys: Vec<String>,
    /// When what is known of it goes.
    until: Option<Instant>,
    object: Arc<Value>,
}

#[derive(Default)]
struct Known {
    pods: HashMap<String, Pod>,
    by_key: HashMap<String, Arc<Fields>>,
    nodes: HashMap<String, Value>,
    namespaces: HashMap<String, Value>,
    listeners: Vec<mpsc::UnboundedSender<Told>>,
    refused: bool,
}

/// See the module's header.
pub struct Pods {
    scope: Scope,
    indexers: Vec<Indexer>,
    known: Mutex<Known>,
    /// How many of the three lists haven't come yet.
    awaited: watch::Sender<usize>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Metadata for Pods {
    fn lookup(&self, key: &str) -> Option<Arc<Map<String, Value>>> {
        self.lock().by_key.get(key).cloned()
    }
}

/// What is followed beside pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Nodes,
    Namespaces,
}

impl Pods {
    /// Nothing is known yet: [`Pods::follow`] has to run.
    pub fn new(scope: Scope, indexers: Vec<Indexer>) -> Arc<Pods> {
        let others = usize::from(scope.node_metadata.is_some()) + usize::from(scope.namespace_metadata.is_some());
        Arc::new(Pods { scope, indexers, known: Mutex::default(), awaited: watch::Sender::new(1 + others) })
    }

    /// Waits until pods have been listed once, and what is beside them too where that is possible.
    pub async fn known(&self) {
        // The sender is this object's: it is there.
        let _ = self.awaited.subscribe().wait_for(|awaited| *awaited == 0).await;
    }

    /// One list has come, or can't come now.
    fn came(&self, first: &AtomicBool) {
        if first.swap(false, Ordering::Relaxed) {
            self.awaited.send_modify(|awaited| *awaited = awaited.saturating_sub(1));
        }
    }

    /// What happens to pods from now on, and first all that are known.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Told> {
        let (told, news) = mpsc::unbounded_channel();
        let mut known = self.lock();
        for pod in known.pods.values().filter(|p| p.until.is_none()) {
            let kubernetes = Arc::new(self.fields(&known, &pod.object));
            let _ = told.send(Told::Seen { pod: Arc::clone(&pod.object), kubernetes });
        }
        known.listeners.push(told);
        news
    }

    /// Keeps what is known up to date, for ever. `node`: whose pods, unless the scope is the cluster.
    pub async fn follow(&self, client: &Client, node: Option<&str>) {
        let namespace = self.scope.namespace.as_deref();
        let path = match namespace {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/pods"),
            None => "/api/v1/pods".to_owned(),
        };
        let node = node.filter(|_| !self.scope.cluster);
        let pods = Watched {
            path,
            fields: node.map(|node| format!("spec.nodeName={node}")).unwrap_or_default(),
            ..Watched::default()
        };
        let one_node = node.map(|node| format!("metadata.name={node}")).unwrap_or_default();
        let one_namespace = namespace.map(|name| format!("metadata.name={name}")).unwrap_or_default();
        let nodes = Watched { path: "/api/v1/nodes".to_owned(), fields: one_node, ..Watched::default() };
        let metadata =
            |path: String, fields: String| Watched { path, fields, metadata_only: true, ..Watched::default() };
        let namespaces = metadata("/api/v1/namespaces".to_owned(), one_namespace);
        let scope = &self.scope;
        tokio::join!(
            self.follow_pods(client, &pods),
            self.follow_other(client, &nodes, Other::Nodes, scope.node_metadata.is_some()),
            self.follow_other(client, &namespaces, Other::Namespaces, scope.namespace_metadata.is_some()),
            self.clean(),
        );
    }

    async fn follow_pods(&self, client: &Client, what: &Watched) {
        let mut client = client.clone();
        let mut listed: Option<HashSet<String>> = None;
        let mut said = false;
        let first = AtomicBool::new(true);
        let each = |change| match change {
            Change::Listing => listed = Some(HashSet::new()),
            Change::Seen(pod) => {
                if let Some(listed) = &mut listed {
                    listed.insert(pods::name_of(&pod));
                }
                self.seen(pod);
            }
            Change::Gone(pod) => self.gone(&pods::name_of(&pod)),
            Change::Listed => {
                let there = listed.take().unwrap_or_default();
                let gone: Vec<String> =
                    self.lock().pods.keys().filter(|name| !there.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.gone(name));
                tracing::info!(pods = there.len(), "the API server has told which pods there are");
                self.came(&first);
            }
        };
        follow(&mut client, what, each, |e| {
            // Once as a warning: an outage isn't said every half minute.
            if std::mem::replace(&mut said, true) {
                tracing::debug!(error = %e, "pods can't be watched");
            } else {
                tracing::warn!(error = %e, "pods can't be watched: events of unknown pods pass without their metadata");
            }
        })
        .await;
    }

    async fn follow_other(&self, client: &Client, what: &Watched, kind: Other, wanted: bool) {
        if !wanted {
            return;
        }
        let mut client = client.clone();
        let mut said = false;
        let first = AtomicBool::new(true);
        let each = |change| {
            if change == Change::Listed {
                self.came(&first);
            }
            self.other(kind, change);
        };
        follow(&mut client, what, each, |e| {
            self.came(&first);
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(error = %e, what = what.path, "can't be watched: its metadata isn't added to events");
            }
        })
        .await;
    }

    fn other(&self, kind: Other, change: Change) {
        let (object, gone) = match change {
            Change::Seen(object) => (object, false),
            Change::Gone(object) => (object, true),
            Change::Listing | Change::Listed => return,
        };
        let name = pods::name_of(&object);
        let mut known = self.lock();
        let table = if kind == Other::Nodes { &mut known.nodes } else { &mut known.namespaces };
        let slim = slim(&object);
        if gone {
            table.remove(&name);
        } else if table.insert(name, slim.clone()).as_ref() != Some(&slim) {
            self.refresh(&mut known);
        }
    }

    /// All pods anew: what is beside them has changed.
    fn refresh(&self, known: &mut Known) {
        let all: Vec<Arc<Value>> =
            known.pods.values().filter(|p| p.until.is_none()).map(|p| Arc::clone(&p.object)).collect();
        all.into_iter().for_each(|pod| self.enter(known, pod));
    }

    fn seen(&self, pod: Value) {
        let mut known = self.lock();
        if known.pods.len() >= MAX_PODS && !known.pods.contains_key(&pods::name_of(&pod)) {
            if !std::mem::replace(&mut known.refused, true) {
                tracing::warn!(limit = MAX_PODS, "there are too many pods: some have no metadata");
            }
            return;
        }
        self.enter(&mut known, Arc::new(slim_pod(pod)));
    }

    fn enter(&self, known: &mut Known, object: Arc<Value>) {
        let fields = self.fields(known, &object);
        let name = pods::name_of(&object);
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut keys = Vec::new();
        for (key, fields) in pods::index(&object, &fields, &self.indexers) {
            known.by_key.insert(key.clone(), Arc::new(fields));
            keys.push(key);
        }
        let pod = Pod { uid, keys: keys.clone(), until: None, object: Arc::clone(&object) };
        if let Some(mut old) = known.pods.insert(name.clone(), pod) {
            old.keys.retain(|key| !keys.contains(key));
            if !old.keys.is_empty() {
                // Former containers, or a former pod of this name: their last lines may still be read.
                old.until = Some(Instant::now() + self.scope.cleanup_timeout);
                known.pods.insert(format!("{name}\n{}\n{}", old.uid, old.keys.join(" ")), old);
            }
        }
        self.tell(known, &Told::Seen { pod: object, kubernetes: Arc::new(fields) });
    }

    fn gone(&self, name: &str) {
        let mut known = self.lock();
        let until = Instant::now() + self.scope.cleanup_timeout;
        let Some(pod) = known.pods.get_mut(name).filter(|p| p.until.is_none()) else { return };
        pod.until = Some(until);
        let uid = pod.uid.clone();
        self.tell(&mut known, &Told::Gone { name: name.to_owned(), uid });
    }

    fn tell(&self, known: &mut Known, what: &Told) {
        known.listeners.retain(|listener| listener.send(what.clone()).is_ok());
    }

    /// Forgets pods that are gone for long enough.
    async fn clean(&self) {
        loop {
            tokio::time::sleep(self.scope.cleanup_timeout.clamp(Duration::from_secs(1), Duration::from_secs(60))).await;
            let now = Instant::now();
            let mut known = self.lock();
            let over: Vec<String> =
                known.pods.iter().filter(|(_, p)| p.until.is_some_and(|t| t <= now)).map(|(n, _)| n.clone()).collect();
            for name in over {
                let Some(pod) = known.pods.remove(&name) else { continue };
                for key in pod.keys {
                    if !known.pods.values().any(|p| p.keys.contains(&key)) {
                        known.by_key.remove(&key);
                    }
                }
            }
        }
    }

    fn fields(&self, known: &Known, pod: &Value) -> Fields {
        let at = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let beside = Beside {
            node: known.nodes.get(at("/spec/nodeName")),
            namespace: known.namespaces.get(at("/metadata/namespace")),
        };
        pods::kubernetes(pod, beside, &self.scope)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of a pod: neither its managed fields nor its volumes.
fn slim_pod(mut pod: Value) -> Value {
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| matches!(key.as_str(), "nodeName" | "hostNetwork" | "containers" | "initContainers"));
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.retain(|key, _| matches!(key.as_str(), "name" | "image" | "ports"));
                }
            }
        }
    }
    pod
}

/// What is kept of a node or a namespace.
fn slim(object: &Value) -> Value {
    let mut out = Map::new();
    let mut metadata = Map::new();
    for key in ["name", "uid", "labels", "annotations"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    out.insert("metadata".to_owned(), metadata.into());
    if let Some(addresses) = object.pointer("/status/addresses") {
        out.insert("status".to_owned(), [("addresses".to_owned(), addresses.clone())].into_iter().collect());
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeApi;
    use serde_json::json;

    fn pod(name: &str, id: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "shop", "uid": format!("u-{name}"), "labels": {"app": name}},
            "spec": {"nodeName": "n1", "volumes": [1]},
            "status": {"containerStatuses": [{"name": "main", "image": "i", "containerID": format!("containerd://{id}")}]},
        })
    }

    async fn until(pods: &Pods, what: &str, holds: impl Fn(&Pods) -> bool) {
        let (_, mut news) = ((), pods.listen());
        let limit = tokio::time::timeout(Duration::from_secs(30), async {
            while !holds(pods) {
                // Either something is told, or the fake server's next answer is a moment away.
                let _ = tokio::time::timeout(Duration::from_millis(50), news.recv()).await;
            }
        });
        assert!(limit.await.is_ok(), "{what}");
    }

    #[tokio::test]
    async fn what_is_known_outlives_the_pod_and_the_api_server() {
        let api = FakeApi::start().await;
        api.put("/api/v1/pods/a", pod("a", "c1"));
        api.put("/api/v1/nodes/n1", json!({"metadata": {"name": "n1", "uid": "nu"}}));
        api.put("/api/v1/namespaces/shop", json!({"metadata": {"name": "shop", "uid": "su"}}));
        let pods = Pods::new(Scope::default(), vec![Indexer::Container]);
        let client = api.client();
        let script = async {
            pods.known().await;
            assert!(pods.lookup("c1").is_some());
            let node = |p: &Pods| Some(p.lookup("c1")?["kubernetes"]["node"]["uid"].clone());
            until(&pods, "pod, node and namespace", |p| {
                node(p) == Some(json!("nu")) && p.lookup("c1").is_some_and(|f| f["kubernetes"]["namespace_uid"] == "su")
            })
            .await;
            assert!(pods.lookup("c2").is_none());
            api.put("/api/v1/pods/a", pod("a", "c2"));
            until(&pods, "the restarted container", |p| p.lookup("c2").is_some()).await;
            assert!(pods.lookup("c1").is_some(), "the former container's last lines may still be read");
            let mut news = pods.listen();
            assert!(matches!(news.recv().await, Some(Told::Seen { .. })));
            api.remove("/api/v1/pods/a");
            let told = tokio::time::timeout(Duration::from_secs(30), async {
                loop {
                    if let Some(Told::Gone { name, uid }) = news.recv().await {
                        return (name, uid);
                    }
                }
            });
            assert_eq!(told.await.unwrap(), ("shop/a".to_owned(), "u-a".to_owned()));
            assert!(pods.lookup("c2").is_some(), "until cleanup_timeout");
        };
        tokio::select! { () = pods.follow(&client, Some("n1")) => {}, () = script => {} }
        let asked = api.requests();
        assert!(asked.iter().any(|r| r.contains("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")), "{asked:#?}");
        assert!(asked.iter().all(|r| !r.contains("replicasets") && !r.contains("jobs")), "{asked:#?}");
    }
}
