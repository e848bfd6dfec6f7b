//! Pods that should have a sidecar and have none: what passed while the webhook was down or refused.
//!
//! Comes in: namespaces and the metadata of pods without our label, from list and watch. Goes out: a gauge and a counter.
//! Always holds: only one replica watches ([`Lease`]); a pod is counted once; of pods only the uids of those that are
//! missing their sidecar are kept, at most [`MOST`] (more are counted, and said, but not told apart); pods that opted
//! out, protected namespaces and mirror pods don't count. Pods of a namespace that were there before it opted in count
//! too: they have no sidecar. Tested below.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::lease::{Lease, RENEW};
use super::review::{ASK, LABEL, PROTECTED};
use super::server::Shared;
use crate::client::{Change, Client, Watched, follow};

/// Pods that are kept, and namespaces.
const MOST: usize = 10_000;

/// The label of a namespace by which it opts in, and its value.
pub(crate) const OPT_IN: (&str, &str) = ("pillion.dev/inject", "enabled");

/// Counts as long as this replica holds the lease; never ends by itself.
pub(crate) async fn run(shared: Arc<Shared>, client: Client, lease: &mut Lease, own_namespace: String) {
    let mut ours = client.clone();
    loop {
        let (holds, error) = lease.hold(&mut ours).await;
        if let Some(e) = error {
            tracing::debug!("the lease: {e}");
        }
        if holds {
            shared.metrics.census.store(1, Relaxed);
            let census = Mutex::new(Census::new(&own_namespace));
            tokio::select! {
                () = watch(&shared, &client, &census) => {}
                () = keep(lease, &mut ours) => {}
            }
            shared.metrics.census.store(0, Relaxed);
            shared.metrics.uninjected.store(0, Relaxed);
        }
        tokio::time::sleep(RENEW).await;
    }
}

/// Ends when the lease is lost.
async fn keep(lease: &mut Lease, client: &mut Client) {
    loop {
        tokio::time::sleep(RENEW).await;
        if !lease.hold(client).await.0 {
            return;
        }
    }
}

/// Follows namespaces, then pods; begins with the pods again when a namespace opts in.
async fn watch(shared: &Shared, client: &Client, census: &Mutex<Census>) {
    let namespaces = Watched {
        path: "/api/v1/namespaces".into(),
        labels: format!("{}={}", OPT_IN.0, OPT_IN.1),
        metadata_only: true,
        ..Watched::default()
    };
    let pods =
        Watched { path: "/api/v1/pods".into(), labels: format!("!{LABEL}"), metadata_only: true, ..Watched::default() };
    let (mut first, mut second) = (client.clone(), client.clone());
    let again = Notify::new();
    let failed = |e: &crate::client::Error| tracing::warn!("counting pods without a sidecar: {e}");
    let of_namespaces = follow(
        &mut first,
        &namespaces,
        |change| {
            if locked(census).namespace(change) {
                again.notify_one();
            }
            locked(census).tell(shared);
        },
        failed,
    );
    let of_pods = async {
        again.notified().await;
        loop {
            let following = follow(
                &mut second,
                &pods,
                |change| {
                    let new = locked(census).pod(change);
                    shared.metrics.uninjected_total.fetch_add(new, Relaxed);
                    locked(census).tell(shared);
                },
                failed,
            );
            tokio::select! { _ = following => {}, () = again.notified() => {} }
        }
    };
    tokio::select! { _ = of_namespaces => {}, () = of_pods => {} }
}

fn locked(census: &Mutex<Census>) -> MutexGuard<'_, Census> {
    census.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known.
struct Census {
    own_namespace: String,
    /// Namespaces that opted in.
    namespaces: BTreeSet<String>,
    /// Those seen in the listing that is under way.
    listing: Option<BTreeSet<String>>,
    /// Pods without a sidecar: uid, and the namespace when only that opted in.
    missing: BTreeMap<String, Option<String>>,
    /// Those seen in the listing that is under way.
    relisted: Option<BTreeSet<String>>,
    full: bool,
}

impl Census {
    fn new(own_namespace: &str) -> Census {
        Census {
            own_namespace: own_namespace.to_owned(),
            namespaces: BTreeSet::new(),
            listing: None,
            missing: BTreeMap::new(),
            relisted: None,
            full: false,
        }
    }

    fn tell(&self, shared: &Shared) {
        shared.metrics.uninjected.store(i64::try_from(self.missing.len()).unwrap_or(i64::MAX), Relaxed);
    }

    /// Whether the pods have to be looked at again: all namespaces are known for the first time, or there is a new one.
    fn namespace(&mut self, change: Change) -> bool {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match change {
            Change::Listing => self.listing = Some(BTreeSet::new()),
            Change::Seen(object) => {
                let name = name(&object);
                match &mut self.listing {
                    Some(listing) => drop(listing.insert(name)),
                    None => return self.namespaces.len() < MOST && self.namespaces.insert(name),
                }
            }
            Change::Gone(object) => self.forget(&name(&object)),
            Change::Listed => {
                let now = self.listing.take().unwrap_or_default();
                let gone: Vec<String> = self.namespaces.difference(&now).cloned().collect();
                gone.iter().for_each(|name| self.forget(name));
                self.namespaces.extend(now.into_iter().take(MOST));
                return true;
            }
        }
        false
    }

    fn forget(&mut self, namespace: &str) {
        self.namespaces.remove(namespace);
        self.missing.retain(|_, of| of.as_deref() != Some(namespace));
    }

    /// How many pods are newly found to be missing their sidecar: 0 or 1.
    fn pod(&mut self, change: Change) -> u64 {
        let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        match change {
            Change::Listing => self.relisted = Some(BTreeSet::new()),
            Change::Listed => {
                let there = self.relisted.take().unwrap_or_default();
                self.missing.retain(|uid, _| there.contains(uid));
            }
            // Gone, or labelled since: then it isn't of the watch any more.
            Change::Gone(object) => drop(self.missing.remove(&uid(&object))),
            Change::Seen(object) if self.should_have(&object) => {
                let uid = uid(&object);
                let known = self.missing.contains_key(&uid);
                if let Some(relisted) = self.relisted.as_mut().filter(|_| known || self.missing.len() < MOST) {
                    relisted.insert(uid.clone());
                }
                if known {
                    return 0;
                }
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if self.missing.len() < MOST {
                    tracing::warn!("pod {namespace}/{name} runs without its log shipper");
                    let itself = object["metadata"]["annotations"].get(ASK).is_some();
                    self.missing.insert(uid, (!itself).then(|| namespace.to_owned()));
                } else if !std::mem::replace(&mut self.full, true) {
                    tracing::warn!(
                        "more than {MOST} pods run without their log shipper: further ones aren't told apart"
                    );
                }
                return 1;
            }
            Change::Seen(object) => drop(self.missing.remove(&uid(&object))),
        }
        0
    }

    fn should_have(&self, pod: &Value) -> bool {
        let meta = &pod["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or_default();
        let annotation = |key: &str| meta["annotations"].get(key).and_then(Value::as_str);
        let asked = match annotation(ASK).map(str::trim) {
            Some("false" | "disabled" | "no") => false,
            Some(_) => true,
            None => self.namespaces.contains(namespace),
        };
        asked
            && meta["labels"].get(LABEL).is_none()
            && !PROTECTED.contains(&namespace)
            && namespace != self.own_namespace
            && annotation("kubernetes.io/config.mirror").is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pillion_world::World;
    use serde_json::json;

    use super::*;
    use crate::testing::FakeApi;
    use crate::webhook::review::Policy;
    use crate::webhook::server::Limits;

    fn pod(api: &FakeApi, namespace: &str, name: &str, labels: &Value, annotations: &Value) {
        let meta = json!({"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
            "labels": labels, "annotations": annotations});
        api.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), json!({"metadata": meta}));
    }

    #[tokio::test]
    async fn pods_that_passed_without_are_counted_once() {
        let api = FakeApi::start().await;
        let namespace =
            |name: &str| api.put(&format!("/api/v1/namespaces/{name}"), json!({"metadata": {"name": name}}));
        let (none, has) = (json!({}), json!({LABEL: "true"}));
        namespace("team");
        pod(&api, "team", "before", &none, &none);
        pod(&api, "team", "injected", &has, &none);
        pod(&api, "team", "out", &none, &json!({ASK: "false"}));
        pod(&api, "other", "asks", &none, &json!({ASK: "true"}));
        pod(&api, "other", "silent", &none, &none);
        pod(&api, "kube-system", "asks", &none, &json!({ASK: "true"}));
        pod(&api, "own", "asks", &none, &json!({ASK: "true"}));
        let policy = Policy { options: crate::inject::Options::default(), own_namespace: "own".into() };
        let shared = Arc::new(Shared::new(World::real(), policy, Limits::default()));
        let mut lease = Lease::new("own", "x", "me".into());
        let counting = run(Arc::clone(&shared), api.client(), &mut lease, "own".into());
        let m = &shared.metrics;
        let script = async {
            let wait = async |now: i64, total: u64| {
                let reached = async {
                    while (m.uninjected.load(Relaxed), m.uninjected_total.load(Relaxed)) != (now, total) {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                };
                let got = tokio::time::timeout(Duration::from_secs(20), reached).await;
                assert!(got.is_ok(), "{:?} of {now}, {total}", (&m.uninjected, &m.uninjected_total));
            };
            wait(2, 2).await;
            pod(&api, "team", "late", &none, &none);
            wait(3, 3).await;
            // A change of it is no new pod; a new list isn't either.
            pod(&api, "team", "late", &none, &json!({"x": "y"}));
            api.break_watches(true);
            api.remove("/api/v1/namespaces/team/pods/before");
            wait(2, 3).await;
            // A namespace opts in: the pods that are there have none.
            namespace("other");
            wait(3, 4).await;
            api.remove("/api/v1/namespaces/other");
            wait(2, 4).await;
            assert_eq!(m.census.load(Relaxed), 1);
        };
        tokio::select! { () = counting => {}, () = script => {} }
        assert!(api.requests().iter().any(|r| r.contains("labelSelector=%21pillion.dev%2Finjected")));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut census = Census::new("");
        let seen = |n: usize| {
            Change::Seen(json!({"metadata": {"uid": n.to_string(), "namespace": "a", "annotations": {ASK: "true"}}}))
        };
        let told: u64 = (0..MOST + 5).map(|n| census.pod(seen(n))).sum();
        assert_eq!((told, census.missing.len()), (MOST as u64 + 5, MOST));
    }
}
