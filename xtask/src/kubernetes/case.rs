//! One case on the cluster: a manifest, what is done to it, what must hold.
//!
//! Comes in: a [`Case`] of the table. Goes out: what was compared, or what didn't hold.
//! Always holds: a case has a namespace of its own, with the strictest policy that its manifest fits; what the work wrote
//! is known from hard links to its files, which outlive the pods; every wait has a limit.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::endpoint::Endpoint;
use super::example::{self, Example};
use super::node::Node;
use super::{api, look, pods};
use crate::servers::Kind;
use crate::{Outcome, child, wait};

/// How long a case may take; far more than a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(180);

/// A case.
pub(super) struct Case {
    /// Its name, and its namespace's.
    pub(super) name: &'static str,
    /// The manifest under `deploy/examples`.
    pub(super) example: &'static str,
    /// Whether it runs without `--all`.
    pub(super) usual: bool,
    /// The work. `@` stands for the case's name, with which every line must begin.
    pub(super) work: &'static str,
    /// What is changed in the manifest.
    pub(super) tweak: fn(&mut Example),
    /// What is done to it when its first lines have arrived.
    pub(super) act: fn(&mut Ride<'_>) -> Outcome,
    /// What must hold at the end.
    pub(super) expect: Expect,
}

impl Case {
    /// The real server that it ships to.
    pub(super) fn server(&self) -> Option<Kind> {
        match self.name.split_once('-')?.1 {
            "elasticsearch" => Some(Kind::Elasticsearch8),
            "opensearch" => Some(Kind::OpenSearch2),
            _ => None,
        }
    }
}

/// What must hold at the end.
#[derive(Clone, Copy)]
pub(super) struct Expect {
    /// What becomes of the Job.
    pub(super) job: End,
    /// How many lines were written in all, where the work isn't cut short.
    pub(super) lines: Option<usize>,
    /// How the receipt of each pod that is still there begins, after `pillion: `.
    pub(super) receipt: Option<&'static str>,
    /// Whether lines may arrive again, since a shipper or an endpoint was killed between sending and acknowledging.
    pub(super) again: bool,
}

/// What becomes of a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Complete.
    Complete,
    /// Failed; the reason.
    Failed(&'static str),
    /// It is deleted with its pods.
    Deleted,
}

/// A case that runs.
pub(super) struct Ride<'a> {
    pub(super) node: &'a Node,
    pub(super) endpoint: &'a mut Endpoint,
    pub(super) namespace: &'static str,
    shipper: &'static str,
    links: PathBuf,
    linked: HashSet<PathBuf>,
}

/// The container that ships, in each way.
fn shipper(example: &str) -> &'static str {
    match example {
        "a-shell-loop" => "filebeat",
        "e-exec" => "main",
        _ => "pillion",
    }
}

/// Runs a case.
pub(super) fn run(case: &Case, node: &Node, endpoint: &mut Endpoint, mut example: Example) -> Outcome<String> {
    let begin = Instant::now();
    example.work(&case.work.replace('@', case.name));
    (case.tweak)(&mut example);
    example::namespace(case.name, if case.example == "a-shell-loop" { "baseline" } else { "restricted" })?;
    let links = node.folder("written").join(case.name);
    fs::create_dir_all(&links).map_err(|e| e.to_string())?;
    let mut ride =
        Ride { node, endpoint, namespace: case.name, shipper: shipper(case.example), links, linked: HashSet::new() };
    example.create(case.name)?;
    (case.act)(&mut ride)?;
    ride.end(case.expect.job)?;
    let compared = ride.compare(&case.expect)?;
    if let Some(receipt) = case.expect.receipt {
        ride.receipts(receipt)?;
    }
    Ok(format!("{compared}, {:.0} s", begin.elapsed().as_secs_f64()))
}

impl Ride<'_> {
    /// The pods of the case.
    pub(super) fn pods(&mut self) -> Outcome<Vec<Value>> {
        let pods = pods::all(self.namespace)?;
        pods.iter().try_for_each(|pod| self.link(pod))?;
        Ok(pods)
    }

    /// Makes hard links to a pod's logs: what was written stays known when the pod is gone.
    fn link(&mut self, pod: &Value) -> Outcome {
        let folder = pods::volume(self.node, pod, "data");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "log") && !self.linked.contains(&path) {
                let to = self.links.join(format!("{}.log", self.linked.len()));
                // The volume may go at this moment; the file was linked before, or is there at the next look.
                if fs::hard_link(&path, to).is_ok() {
                    self.linked.insert(path);
                }
            }
        }
        Ok(())
    }

    /// Waits for something about the pods.
    pub(super) fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&[Value]) -> Option<T>) -> Outcome<T> {
        let found = wait::until(what, LIMIT, || {
            let found = ask(&self.pods()?);
            if found.is_none() {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(found)
        });
        found.map_err(|why| format!("{why}; {}", self.look()))
    }

    /// Waits until so many lines of the case have arrived.
    pub(super) fn arrived(&mut self, n: usize) -> Outcome {
        let namespace = self.namespace;
        let what = format!("{n} lines to arrive");
        let found = wait::until(&what, LIMIT, || {
            self.pods()?;
            let there = self.endpoint.lines(namespace)?.len() >= n;
            if !there {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(there.then_some(()))
        });
        found.map_err(|why| format!("{why}; {}", self.look()))
    }

    /// The only pod, when its first lines have arrived and kubelet has said that work and shipper run.
    pub(super) fn pod(&mut self) -> Outcome<Value> {
        self.arrived(1)?;
        let containers = ["main", self.shipper];
        self.until("a pod that runs", |pods| {
            let runs = |c: &&str| pods::status(pods.first()?, c).map(|s| !s["state"]["running"].is_null());
            containers.iter().all(|c| runs(c) == Some(true)).then(|| pods.first().cloned()).flatten()
        })
    }

    /// The shipping container's name.
    pub(super) fn shipper(&self) -> &'static str {
        self.shipper
    }

    /// Deletes a pod as users do: with its grace period.
    pub(super) fn delete(&mut self, pod: &Value) -> Outcome {
        api::delete(&format!("/api/v1/namespaces/{}/pods/{}", self.namespace, pods::name(pod)))
    }

    /// Evicts a pod, as a node that is drained does.
    pub(super) fn evict(&mut self, pod: &Value) -> Outcome {
        let name = pods::name(pod);
        let meta = json!({"name": name, "namespace": self.namespace});
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta});
        let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", self.namespace);
        crate::http::request(Node::PORT, "POST", &path, eviction.to_string().as_bytes())?.good().map(drop)
    }

    /// Runs a command in a container, as `kubectl exec` does.
    pub(super) fn exec(&mut self, pod: &Value, container: &str, words: &[&str]) -> Outcome<std::process::Output> {
        let mut kubectl = self.node.kubectl();
        kubectl.args(["exec", "-n", self.namespace, pods::name(pod), "-c", container, "--"]).args(words);
        kubectl.output().map_err(|e| format!("kubectl exec: {e}"))
    }

    /// Waits for the Job's end.
    fn end(&mut self, expected: End) -> Outcome {
        let path = format!("/apis/batch/v1/namespaces/{}/jobs", self.namespace);
        let ended = wait::until("the Job's end", LIMIT, || {
            self.pods()?;
            if expected == End::Deleted {
                return Ok(self.pods()?.is_empty().then(String::new));
            }
            let jobs = api::items(&path)?;
            let conditions = jobs.first().and_then(|j| j["status"]["conditions"].as_array()).cloned();
            let mut ends = conditions.unwrap_or_default().into_iter();
            let end = ends.find(|c| c["status"] == "True" && (c["type"] == "Complete" || c["type"] == "Failed"));
            if end.is_none() {
                std::thread::sleep(Duration::from_millis(150));
            }
            Ok(end.map(|c| format!("{} {}", c["type"].as_str().unwrap_or(""), c["reason"].as_str().unwrap_or(""))))
        });
        let ended = ended.map_err(|why| format!("{why}; {}", self.look()))?;
        let good = match expected {
            End::Complete => ended.starts_with("Complete"),
            End::Failed(reason) => ended == format!("Failed {reason}"),
            End::Deleted => true,
        };
        if good { Ok(()) } else { Err(format!("the Job ended as {ended}, not {expected:?}; {}", self.look())) }
    }

    /// Compares what the work wrote with what has arrived.
    fn compare(&mut self, expect: &Expect) -> Outcome<String> {
        let mut written = HashSet::new();
        for entry in fs::read_dir(&self.links).map_err(|e| e.to_string())?.flatten() {
            let text = fs::read(entry.path()).map_err(|e| e.to_string())?;
            written.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
        }
        let arrived = self.endpoint.lines(self.namespace)?;
        let missing: Vec<&String> = written.iter().filter(|l| !arrived.contains_key(*l)).collect();
        if let Some(first) = missing.first() {
            let n = missing.len();
            return Err(format!("{n} of {} lines lost, one of them: {first}; {}", written.len(), self.look()));
        }
        let n = arrived.len();
        if n == 0 || expect.lines.is_some_and(|expected| expected != n) {
            return Err(format!("{n} lines arrived, {:?} were expected; {}", expect.lines, self.look()));
        }
        let again: usize = arrived.values().map(|n| n - 1).sum();
        if again > 0 && !expect.again {
            return Err(format!("{again} lines of {n} arrived again"));
        }
        Ok(format!("{n} lines, {again} again"))
    }

    /// Looks at the termination message of every pod that is there.
    fn receipts(&mut self, expected: &str) -> Outcome {
        let (shipper, begin) = (self.shipper, format!("pillion: {expected}"));
        let pods = self.until("every pod's receipt", |pods| {
            pods.iter().all(|p| pods::ended(p, shipper).is_some()).then(|| pods.to_vec())
        })?;
        if let Some(pod) = pods.first() {
            let mut describe = self.node.kubectl();
            let said = child::run(describe.args(["-n", self.namespace, "describe", "pod", pods::name(pod)]))?;
            if !said.contains(&begin) {
                return Err(format!("`kubectl describe pod` doesn't show the receipt: {said}"));
            }
        }
        let bad = pods.iter().map(|p| pods::message(p, shipper)).find(|m| !m.starts_with(&begin));
        match bad {
            None if pods.is_empty() => Err("no pod is there to show a receipt".into()),
            None => Ok(()),
            Some(message) => Err(format!("a receipt doesn't begin with `{begin}`: {message:?}; {}", self.look())),
        }
    }

    fn look(&self) -> String {
        look::look(self.node, self.namespace)
    }
}
