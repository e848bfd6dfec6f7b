//! The metadata of pods, kept up to date by watches: what `add_kubernetes_metadata` and autodiscovery look things up in.
//!
//! Comes in: a [`Scope`], a client. Goes out: a [`Pods`] that answers at once from what is known, and [`News`] about each
//! pod for whoever wants to hear ([`Pods::listen`]).
//!
//! Always holds: a lookup never waits, for the API server least of all: while that is away, what was known stays, and
//! pods that came meanwhile have no metadata. A pod's metadata outlive it by `cleanup_timeout`, and for as long as events
//! ask for them, since its last lines are read later than it ends. Only what indexers, templates and hints ask for is
//! kept of an object, and at most [`MAX_PODS`] of each kind.
//! Tested below against a scripted API server, and on a real cluster.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pillion_process::kubernetes::{Indexer, Metadata, Scope};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{Change, Client, Watched, follow};
use crate::news::{Latest, News, Told};
use crate::pods::{self, Beside, Fields};
use crate::slim::{slim, slim_pod};

/// Pods that are kept at most, and as many nodes, namespaces and keys of pods that are gone; further ones have no
/// metadata. A node has 110 pods by default.
pub const MAX_PODS: usize = 100_000;

/// A pod that is there.
struct Pod {
    /// Unique in this table, also among pods that had its name before.
    number: u64,
    keys: Vec<String>,
    object: Arc<Value>,
}

/// What is merged into the events of one key.
struct Entry {
    fields: Arc<Fields>,
    /// The pod whose it is.
    number: u64,
    /// An event has asked for it since it was marked last.
    used: bool,
}

/// Keys whose pod or container is gone.
struct Former {
    until: Instant,
    number: u64,
    keys: Vec<String>,
}

#[derive(Default)]
struct Known {
    pods: HashMap<String, Pod>,
    by_key: HashMap<String, Entry>,
    /// In the order in which they go.
    former: VecDeque<Former>,
    nodes: HashMap<String, Value>,
    namespaces: HashMap<String, Value>,
    listeners: Vec<Weak<Latest>>,
    next: u64,
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
        let mut known = self.lock();
        let entry = known.by_key.get_mut(key)?;
        entry.used = true;
        Some(Arc::clone(&entry.fields))
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
    pub fn listen(&self) -> News {
        let news = News::default();
        let mut known = self.lock();
        for pod in known.pods.values() {
            news.latest().tell(self.told(&known, &pod.object, false));
        }
        known.listeners.push(Arc::downgrade(news.latest()));
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
                self.seen(&pod);
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
        let mut listed: Option<HashSet<String>> = None;
        let first = AtomicBool::new(true);
        let each = |change| match change {
            Change::Listing => listed = Some(HashSet::new()),
            Change::Seen(object) => {
                if let Some(listed) = &mut listed {
                    listed.insert(pods::name_of(&object));
                }
                self.beside(kind, &object, listed.is_none());
            }
            Change::Gone(object) => drop(self.lock().beside(kind).remove(&pods::name_of(&object))),
            Change::Listed => {
                let there = listed.take().unwrap_or_default();
                let mut known = self.lock();
                known.beside(kind).retain(|name, _| there.contains(name));
                self.refresh(&mut known, |_| true);
                drop(known);
                self.came(&first);
            }
        };
        follow(&mut client, what, each, |e| {
            self.came(&first);
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(error = %e, what = what.path, "can't be watched: its metadata isn't added to events");
            }
        })
        .await;
    }

    /// A node or a namespace is there. `now`: tell its pods' events at once, and not only when the list is complete.
    fn beside(&self, kind: Other, object: &Value, now: bool) {
        let (name, slim) = (pods::name_of(object), slim(object));
        let mut known = self.lock();
        let table = known.beside(kind);
        if table.len() >= MAX_PODS && !table.contains_key(&name) {
            return;
        }
        let changed = table.insert(name.clone(), slim.clone()).as_ref() != Some(&slim);
        if changed && now {
            let pointer = if kind == Other::Nodes { "/spec/nodeName" } else { "/metadata/namespace" };
            self.refresh(&mut known, |pod| pod.pointer(pointer).and_then(Value::as_str) == Some(&name));
        }
    }

    /// These pods anew: what is beside them has changed.
    fn refresh(&self, known: &mut Known, which: impl Fn(&Value) -> bool) {
        let these: Vec<Arc<Value>> =
            known.pods.values().filter(|p| which(&p.object)).map(|p| Arc::clone(&p.object)).collect();
        these.into_iter().for_each(|pod| self.enter(known, pod));
    }

    fn seen(&self, pod: &Value) {
        let mut known = self.lock();
        if known.pods.len() >= MAX_PODS && !known.pods.contains_key(&pods::name_of(pod)) {
            if !std::mem::replace(&mut known.refused, true) {
                tracing::warn!(limit = MAX_PODS, "there are too many pods: some have no metadata");
            }
            return;
        }
        self.enter(&mut known, Arc::new(slim_pod(pod, &self.scope.pod)));
    }

    fn enter(&self, known: &mut Known, object: Arc<Value>) {
        let name = pods::name_of(&object);
        let uid = |pod: &Value| pod.pointer("/metadata/uid").cloned();
        if known.pods.get(&name).is_some_and(|old| uid(&old.object) != uid(&object)) {
            // Another pod of the same name: that the former one is gone wasn't seen.
            self.remove(known, &name);
        }
        let fields = self.fields(known, &object);
        known.next += 1;
        let number = known.next;
        let mut keys = Vec::new();
        for (key, fields) in pods::index(&object, &fields, &self.indexers) {
            known.by_key.insert(key.clone(), Entry { fields: Arc::new(fields), number, used: false });
            keys.push(key);
        }
        let pod = Pod { number, keys: keys.clone(), object: Arc::clone(&object) };
        if let Some(mut old) = known.pods.insert(name, pod) {
            // Former containers: their last lines may still be read.
            old.keys.retain(|key| !keys.contains(key));
            self.outlive(known, old);
        }
        known.tell(&Told { pod: object, kubernetes: Arc::new(fields), gone: false });
    }

    fn gone(&self, name: &str) {
        self.remove(&mut self.lock(), name);
    }

    fn remove(&self, known: &mut Known, name: &str) {
        let Some(pod) = known.pods.remove(name) else { return };
        let told = self.told(known, &pod.object, true);
        self.outlive(known, pod);
        known.tell(&told);
    }

    fn told(&self, known: &Known, pod: &Arc<Value>, gone: bool) -> Told {
        Told { pod: Arc::clone(pod), kubernetes: Arc::new(self.fields(known, pod)), gone }
    }

    /// Keeps the keys of what is gone for a while.
    fn outlive(&self, known: &mut Known, gone: Pod) {
        if gone.keys.is_empty() {
            return;
        }
        for key in &gone.keys {
            if let Some(entry) = known.by_key.get_mut(key).filter(|e| e.number == gone.number) {
                entry.used = false;
            }
        }
        if known.former.len() >= MAX_PODS {
            known.forget_first(false);
        }
        let until = Instant::now() + self.scope.cleanup_timeout;
        known.former.push_back(Former { until, number: gone.number, keys: gone.keys });
    }

    /// Forgets what is gone for long enough, and what events don't ask for any more.
    async fn clean(&self) {
        loop {
            let pause = self.scope.cleanup_timeout.clamp(Duration::from_secs(1), Duration::from_secs(60));
            tokio::time::sleep(pause).await;
            let now = Instant::now();
            let mut known = self.lock();
            while known.former.front().is_some_and(|f| f.until <= now) {
                if let Some(mut asked) = known.forget_first(true) {
                    asked.until = now + pause.max(self.scope.cleanup_timeout);
                    known.former.push_back(asked);
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

impl Known {
    fn beside(&mut self, kind: Other) -> &mut HashMap<String, Value> {
        if kind == Other::Nodes { &mut self.nodes } else { &mut self.namespaces }
    }

    fn tell(&mut self, what: &Told) {
        self.listeners.retain(|listener| match listener.upgrade() {
            Some(latest) => {
                latest.tell(what.clone());
                true
            }
            None => false,
        });
    }

    /// Forgets the keys that are gone for the longest time; with `asked`, those that events have asked for meanwhile are
    /// kept and come back.
    fn forget_first(&mut self, asked: bool) -> Option<Former> {
        let mut former = self.former.pop_front()?;
        let by_key = &mut self.by_key;
        former.keys.retain(|key| {
            let Some(entry) = by_key.get_mut(key).filter(|e| e.number == former.number) else { return false };
            let keep = asked && std::mem::take(&mut entry.used);
            if !keep {
                by_key.remove(key);
            }
            keep
        });
        Some(former).filter(|f| !f.keys.is_empty())
    }
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
        let mut news = pods.listen();
        let limit = tokio::time::timeout(Duration::from_secs(30), async {
            while !holds(pods) {
                // Either something is told, or the fake server's next answer is a moment away.
                let _ = tokio::time::timeout(Duration::from_millis(50), news.next()).await;
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
            assert!(!news.next().await.gone);
            api.remove("/api/v1/pods/a");
            let told = tokio::time::timeout(Duration::from_secs(30), async {
                loop {
                    let told = news.next().await;
                    if told.gone {
                        return told.uid();
                    }
                }
            });
            assert_eq!(told.await.unwrap(), "u-a");
            assert!(pods.lookup("c2").is_some(), "until cleanup_timeout");
        };
        tokio::select! { () = pods.follow(&client, Some("n1")) => {}, () = script => {} }
        let asked = api.requests();
        assert!(asked.iter().any(|r| r.contains("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")), "{asked:#?}");
        assert!(asked.iter().all(|r| !r.contains("replicasets") && !r.contains("jobs")), "{asked:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_is_kept_for_as_long_as_events_ask_for_it() {
        let pods = Pods::new(Scope::default(), vec![Indexer::Container]);
        pods.seen(&pod("a", "c1"));
        pods.seen(&pod("b", "c2"));
        pods.gone("shop/a");
        pods.gone("shop/b");
        let script = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                assert!(pods.lookup("c1").is_some());
            }
            assert!(pods.lookup("c2").is_none());
            tokio::time::sleep(Duration::from_secs(300)).await;
            let known = pods.lock();
            assert_eq!((known.by_key.len(), known.former.len(), known.pods.len()), (0, 0, 0));
        };
        tokio::select! { () = pods.clean() => {}, () = script => {} }
    }

    #[test]
    fn another_pod_of_the_same_name() {
        let pods = Pods::new(Scope::default(), vec![Indexer::Container]);
        pods.seen(&pod("a", "c1"));
        let news = pods.listen();
        let mut second = pod("a", "c2");
        second["metadata"]["uid"] = "other".into();
        pods.seen(&second);
        assert!(pods.lookup("c1").is_some() && pods.lookup("c2").is_some());
        assert_eq!(news.latest().waiting(), [("u-a".to_owned(), true), ("other".to_owned(), false)]);
        drop(news);
        pods.seen(&second);
        assert!(pods.lock().listeners.is_empty());
    }
}
