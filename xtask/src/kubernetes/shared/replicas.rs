//! The replicas of `deploy/examples/replicas.yml`, in a namespace of their own.
//!
//! Comes in: how many, which folder, where to. Goes out: their pods, who owns which shard.
//! Always holds: of the manifest only volume, output and number are others than what a user reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::folder::{Folder, Side};
use crate::kubernetes::example::{self, Example};
use crate::kubernetes::{Rig, api, look, pods};
use crate::{Outcome, child, wait};

const LIMIT: Duration = Duration::from_secs(120);
/// The Deployment, and the label `app` of its pods.
pub(super) const NAME: &str = "pillion-replicas";
/// The manifest's shards, by the default.
pub(super) const SHARDS: usize = 64;
/// The default lease.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// What the manifest says of the output, and of the shards.
const OUTPUT: &str = "output.elasticsearch.hosts: ['http://elasticsearch.logging:9200']";
const SHARING: &str = "pillion.shards:\n  root: /logs\n  board: kubernetes\n";

/// Some replicas.
pub(super) struct Replicas<'a> {
    rig: &'a Rig,
    pub(super) namespace: String,
}

impl<'a> Replicas<'a> {
    /// Makes `n` of them. `output`: lines of the configuration. `shared`: whether they share files; else there is one that
    /// reads all.
    pub(super) fn create(
        rig: &'a Rig,
        namespace: &str,
        folder: &Folder,
        (n, shared): (usize, bool),
        output: &str,
    ) -> Outcome<Replicas<'a>> {
        example::namespace(namespace, "restricted")?;
        folder.claim(namespace, Side::Readers)?;
        let mut manifest = Example::read(&rig.node, "replicas")?;
        manifest.leave_out(&["Namespace", "PersistentVolumeClaim"]);
        manifest.object("RoleBinding")["subjects"][0]["namespace"] = namespace.into();
        manifest.object("Deployment")["spec"]["replicas"] = n.into();
        manifest.configure(OUTPUT, output);
        if !shared {
            manifest.configure(SHARING, "");
        }
        manifest.create(namespace)?;
        let replicas = Replicas { rig, namespace: namespace.to_owned() };
        replicas.up(n)?;
        if shared {
            replicas.even(n)?;
        }
        Ok(replicas)
    }

    /// Those that run and aren't about to end.
    pub(super) fn pods(&self) -> Outcome<Vec<Value>> {
        let mut all = pods::all(&self.namespace)?;
        all.retain(|pod| {
            let runs = pods::status(pod, "pillion").is_some_and(|s| !s["state"]["running"].is_null());
            runs && pod["metadata"]["deletionTimestamp"].is_null()
        });
        Ok(all)
    }

    /// One of them.
    pub(super) fn first(&self) -> Outcome<Value> {
        self.pods()?.into_iter().next().ok_or_else(|| format!("no replica runs; {}", self.look()))
    }

    /// Waits until exactly `n` run.
    pub(super) fn up(&self, n: usize) -> Outcome {
        let up = wait::until(&format!("{n} replicas"), LIMIT, || {
            std::thread::sleep(Duration::from_millis(200));
            let all = pods::all(&self.namespace)?.len();
            Ok((all == n && self.pods()?.len() == n).then_some(()))
        });
        up.map_err(|why| format!("{why}; {}", self.look()))
    }

    /// Says how many there are to be.
    pub(super) fn scale(&self, n: usize) -> Outcome {
        let replicas = format!("--replicas={n}");
        self.kubectl(&["scale", "deployment", NAME, &replicas]).map(drop)
    }

    /// What kubectl says in the namespace.
    pub(super) fn kubectl(&self, words: &[&str]) -> Outcome<String> {
        child::run(self.rig.node.kubectl().args(["-n", &self.namespace]).args(words))
    }

    /// How many shards each member owns, by the table's Lease.
    pub(super) fn owners(&self) -> Outcome<BTreeMap<String, usize>> {
        let lease = api::get(&self.lease("pillion"))?;
        let text = lease["metadata"]["annotations"]["pillion.dev/shards"].as_str().unwrap_or_default();
        let table: Value = serde_json::from_str(text).unwrap_or_default();
        let mut owners = BTreeMap::new();
        for record in table["shards"].as_object().into_iter().flatten().map(|(_, record)| record) {
            if let Some(owner) = record["owner"].as_str() {
                *owners.entry(owner.to_owned()).or_default() += 1;
            }
        }
        Ok(owners)
    }

    /// Waits until `n` members that live own all shards, as evenly as they can be divided.
    pub(super) fn even(&self, n: usize) -> Outcome {
        let mut seen = BTreeMap::new();
        let even = wait::until(&format!("{SHARDS} shards of {n}"), LIMIT, || {
            std::thread::sleep(Duration::from_millis(200));
            seen = self.owners().unwrap_or_default();
            let names: BTreeSet<String> = self.pods()?.iter().map(|p| pods::name(p).to_owned()).collect();
            let live = |member: &String| names.iter().any(|name| member.starts_with(name));
            let (least, most) = (SHARDS / n, SHARDS.div_ceil(n));
            let fair = seen.len() == n && seen.values().all(|have| (least..=most).contains(have));
            Ok((fair && seen.keys().all(live) && seen.values().sum::<usize>() == SHARDS).then_some(()))
        });
        even.map_err(|why| format!("{why}; the table: {seen:?}; {}", self.look()))
    }

    /// The path of a Lease.
    pub(super) fn lease(&self, name: &str) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{name}", self.namespace)
    }

    /// What `pillion shards` says in a pod.
    pub(super) fn shown(&self) -> Outcome<Value> {
        let pod = self.first()?;
        let words = ["pillion", "shards", "--json", "-c", "/etc/pillion/filebeat.yml", "--path.data", "/state"];
        let said = self.kubectl(&[&["exec", pods::name(&pod), "-c", "pillion", "--"][..], &words].concat())?;
        serde_json::from_str(&said).map_err(|e| format!("pillion shards: {e}: {said}"))
    }

    pub(super) fn look(&self) -> String {
        look::look(&self.rig.node, &self.namespace)
    }
}
