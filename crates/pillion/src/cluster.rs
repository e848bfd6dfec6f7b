//! What is known of pods, the machine and the cloud, joined to the processors that ask for it.
//!
//! Comes in: inputs whose processors may have `add_kubernetes_metadata`. Goes out: the same, connected to the own pod's
//! metadata (no call to the API server) or to a watch of pods, which runs as a task from then on. Machine and cloud are
//! looked at on the same occasion.
//!
//! Always holds: nothing is asked of the API server unless a processor or a provider needs it; those that ask for the same
//! share a watch. A watch that fails is tried again for ever and holds nothing up.
//! Tested in the crate `kube`, and on a real cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_input::InputSpec;
use pillion_kube::client::{Client, Target, own_namespace};
use pillion_kube::metadata::Pods;
use pillion_kube::pods;
use pillion_process::Outside;
use pillion_process::fqdn::{LIMIT, full_name};
use pillion_process::kubernetes::{Indexer, Kubernetes, Origin, Scope};
use pillion_world::World;

use crate::clouds;

/// A file of the downward API larger than this isn't one.
const PODINFO_LIMIT: usize = 1 << 20;

/// How long it takes until the own node is asked for again.
const AGAIN: Duration = Duration::from_secs(10);

/// The watches of this process.
pub(crate) struct Cluster {
    world: World,
    /// The variables of the pod whose seat this is, when it isn't our own.
    pod: Option<BTreeMap<String, String>>,
    /// What the machine is called in `host.name`.
    host: String,
    watched: Vec<(Scope, Vec<Indexer>, Arc<Pods>)>,
    /// That there is no cluster was said.
    said: bool,
    /// How long reading waits for the first answer.
    wait: Duration,
}

/// What the machine of a seat is called. `full`: by its full name, where one is found within its time.
pub(crate) async fn machine_name(world: &World, host: &str, full: bool) -> String {
    if !full {
        return host.to_owned();
    }
    let (world, short) = (world.clone(), host.to_owned());
    let asked = tokio::task::spawn_blocking(move || full_name(&world, &short));
    match tokio::time::timeout(LIMIT, asked).await.map_err(|_| "no answer in time".to_owned()) {
        Ok(Ok(Ok(name))) => name,
        Ok(Ok(Err(why))) | Err(why) => {
            tracing::warn!("features.fqdn: the machine's full name isn't known, host.name is {host}: {why}");
            host.to_owned()
        }
        Ok(Err(_)) => host.to_owned(),
    }
}

impl Cluster {
    /// `host`: what the machine is called.
    pub(crate) fn new(world: &World, pod: Option<BTreeMap<String, String>>, host: String) -> Cluster {
        Cluster { world: world.clone(), pod, host, watched: Vec::new(), said: false, wait: Duration::ZERO }
    }

    /// Connects the processors of these inputs. Call it before they are bound. Where there is no cluster to ask, that is
    /// said, and events pass without metadata, as with Filebeat, whose default configuration has the processor anywhere.
    pub(crate) fn connect(&mut self, inputs: &[InputSpec]) {
        for outside in inputs.iter().flat_map(|input| input.processors.outside()) {
            let Some(kubernetes) = self.around(outside) else { continue };
            match kubernetes.origin {
                Origin::Downward => self.own(kubernetes),
                Origin::Api => match self.pods(&kubernetes.scope, &kubernetes.indexers) {
                    Ok(pods) => {
                        self.wait = self.wait.max(kubernetes.wait);
                        kubernetes.connect(pods);
                    }
                    Err(why) if std::mem::replace(&mut self.said, true) => tracing::debug!("{why}"),
                    Err(why) => tracing::warn!("add_kubernetes_metadata adds nothing: {why}"),
                },
            }
        }
    }

    /// Tells the machine and the cloud to those that ask for them; gives back who asks for pods.
    fn around<'p>(&self, outside: Outside<'p>) -> Option<&'p Kubernetes> {
        match outside {
            Outside::Kubernetes(kubernetes) => return Some(kubernetes),
            Outside::Machine(machine) => machine.look(&self.world, &self.host),
            Outside::Cloud(cloud) => clouds::ask(cloud),
        }
        None
    }

    /// Waits until pods are known, for as long as the processors want at most: events read before have no metadata.
    pub(crate) async fn known(&self) {
        let all = async {
            for (_, _, pods) in &self.watched {
                pods.known().await;
            }
        };
        if self.wait > Duration::ZERO && tokio::time::timeout(self.wait, all).await.is_err() {
            tracing::warn!(
                "the API server hasn't told yet which pods there are: until then events pass without their metadata"
            );
        }
    }

    fn own(&self, kubernetes: &Kubernetes) {
        let read = |name: &str| {
            let bytes =
                self.world.fs.read(&Path::new(&kubernetes.podinfo).join(name), PODINFO_LIMIT).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // What labels a dead pod had isn't known any more.
        let (labels, annotations) = match &self.pod {
            None => (read("labels"), read("annotations")),
            Some(_) => Default::default(),
        };
        let variable = |name: &str| match &self.pod {
            None => std::env::var(name).ok(),
            Some(pod) => pod.get(name).cloned(),
        };
        match pods::own(variable, &labels, &annotations, &kubernetes.scope.pod) {
            Some(fields) => kubernetes.set_own(fields),
            None => tracing::warn!(
                "add_kubernetes_metadata: neither POD_NAME nor POD_NAMESPACE is set, so that the own pod isn't known: pass \
                 them by the downward API (fieldRef metadata.name, metadata.namespace)"
            ),
        }
    }

    /// A watch of these pods, which begins now unless there is one.
    ///
    /// # Errors
    /// When there is no cluster to ask, with the remedy.
    pub(crate) fn pods(&mut self, scope: &Scope, indexers: &[Indexer]) -> Result<Arc<Pods>, String> {
        if let Some((_, _, known)) = self.watched.iter().find(|(s, i, _)| s == scope && i == indexers) {
            return Ok(Arc::clone(known));
        }
        let target = match &scope.api_server {
            Some(url) => Target::at(url),
            None => Target::in_cluster(&|name| std::env::var(name).ok()),
        };
        let target = target.map_err(|problem| format!("the metadata of pods can't be watched: {problem}"))?;
        let pods = Pods::new(scope.clone(), indexers.to_vec());
        self.watched.push((scope.clone(), indexers.to_vec(), Arc::clone(&pods)));
        let (following, world, scope) = (Arc::clone(&pods), self.world.clone(), scope.clone());
        tokio::spawn(async move {
            let client = Client::new(world, target);
            let node = if scope.cluster { None } else { Some(node(&client, &scope).await) };
            following.follow(&client, node.as_deref()).await;
        });
        Ok(pods)
    }
}

/// The node whose pods are meant: as it is set, by the variable `NODE_NAME`, or that of the own pod.
async fn node(client: &Client, scope: &Scope) -> String {
    let set = scope.node.clone().or_else(|| std::env::var("NODE_NAME").ok().filter(|n| !n.is_empty()));
    if let Some(node) = set {
        return node;
    }
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let namespace = own_namespace(client.world()).unwrap_or_else(|| "default".to_owned());
    let path = format!("/api/v1/namespaces/{namespace}/pods/{hostname}");
    let mut client = client.clone();
    loop {
        match client.get(&path).await {
            Ok(pod) => match pod.pointer("/spec/nodeName").and_then(serde_json::Value::as_str) {
                Some(node) => return node.to_owned(),
                None => tracing::warn!(path, "the own pod has no node yet"),
            },
            Err(e) => tracing::warn!(
                error = %e,
                "the own node isn't known, so that no metadata of pods are: set NODE_NAME (fieldRef spec.nodeName) or `node`"
            ),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
