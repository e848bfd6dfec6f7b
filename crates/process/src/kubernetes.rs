//! `add_kubernetes_metadata`: which pod an event belongs to, and what is added then.
//!
//! Comes in: the options, a source of metadata ([`Kubernetes::connect`]), then events. Goes out: `kubernetes.*` and
//! `container.*`, as Filebeat has them. Who asks the cluster is none of this crate's business: the binary joins a
//! [`Metadata`] to it.
//!
//! Two ways: **downward**, the pod's own metadata from its environment and from files of the downward API: the same for
//! every event, and no call to the API server; **api**, by a watch, for whoever reads other pods' files. Which one is the
//! option `source` (ours); without it, `downward` when the environment names the pod (`POD_NAME`, `POD_NAMESPACE`) and
//! nothing in the options is about other pods.
//!
//! Always holds: an event whose pod isn't known passes without metadata, at once, as in Filebeat; an event that has
//! `kubernetes` already is left alone. Whoever reads files can ask before ([`Kubernetes::waits_for`]).
//! Tested below; the watch in the crate `kube`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use regex::Regex;
use serde_json::{Map, Value};

use crate::action::{Action, Constant, Done};
use crate::doc::Doc;
use crate::options::Outside;

/// Who knows pods.
pub trait Metadata: Send + Sync + std::fmt::Debug {
    /// What is to be merged into the events that belong to a key: a container's id, a pod's uid, `namespace/name`, an
    /// address, as the indexers say.
    fn lookup(&self, key: &str) -> Option<Arc<Map<String, Value>>>;
}

/// Where metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This pod's own, from the environment and files.
    Downward,
    /// Of all pods of the node or cluster, by a watch.
    Api,
}

/// By what pods are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexer {
    /// A container's id.
    Container,
    /// `namespace/name`.
    PodName,
    /// The uid.
    PodUid,
    /// The address, and the address with each port.
    IpPort,
}

/// Which labels and annotations are told, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only these labels; empty = all.
    pub include_labels: Vec<String>,
    /// None of these labels.
    pub exclude_labels: Vec<String>,
    /// Only these annotations; empty = none.
    pub include_annotations: Vec<String>,
    /// Dots in labels' names become underscores.
    pub labels_dedot: bool,
    /// Dots in annotations' names become underscores.
    pub annotations_dedot: bool,
}

impl Default for Selection {
    fn default() -> Selection {
        Selection {
            include_labels: Vec::new(),
            exclude_labels: Vec::new(),
            include_annotations: Vec::new(),
            labels_dedot: true,
            annotations_dedot: true,
        }
    }
}

impl Selection {
    /// Reads the options of a processor, a provider, or one of their `add_resource_metadata`.
    pub fn from_section(s: &Section<'_>) -> Result<Selection, Error> {
        Ok(Selection {
            include_labels: s.strings("include_labels")?,
            exclude_labels: s.strings("exclude_labels")?,
            include_annotations: s.strings("include_annotations")?,
            labels_dedot: s.bool("labels.dedot")?.unwrap_or(true),
            annotations_dedot: s.bool("annotations.dedot")?.unwrap_or(true),
        })
    }

    /// The labels that are told.
    pub fn labels(&self, all: &Map<String, Value>) -> Map<String, Value> {
        let wanted = |k: &str| {
            (self.include_labels.is_empty() || self.include_labels.iter().any(|w| w == k))
                && !self.exclude_labels.iter().any(|w| w == k)
        };
        named(all, wanted, self.labels_dedot)
    }

    /// The annotations that are told.
    pub fn annotations(&self, all: &Map<String, Value>) -> Map<String, Value> {
        named(all, |k| self.include_annotations.iter().any(|w| w == k), self.annotations_dedot)
    }
}

pub(crate) fn named(all: &Map<String, Value>, wanted: impl Fn(&str) -> bool, dedot: bool) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in all.iter().filter(|(k, _)| wanted(k)) {
        if dedot {
            out.insert(key.replace('.', "_"), value.clone());
        } else {
            put_safely(&mut out, key, value.clone());
        }
    }
    out
}

/// `a` and `a.b` can't be both: the value of the former moves to `a.value` (Beats' `safemapstr`).
fn put_safely(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => match map.get_mut(path) {
            Some(Value::Object(below)) => drop(below.insert("value".to_owned(), value)),
            _ => drop(map.insert(path.to_owned(), value)),
        },
        Some((head, tail)) => {
            let below = map.entry(head).or_insert_with(|| Value::Object(Map::new()));
            if !below.is_object() {
                let old = std::mem::take(below);
                *below = Value::Object([("value".to_owned(), old)].into_iter().collect());
            }
            if let Value::Object(below) = below {
                put_safely(below, tail, value);
            }
        }
    }
}

/// What is watched, and what is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The node whose pods are watched; `None` = found out (`NODE_NAME`, the own pod). Ignored with `cluster`.
    pub node: Option<String>,
    /// All pods of the cluster.
    pub cluster: bool,
    /// Only this namespace.
    pub namespace: Option<String>,
    /// The API server's URL, instead of the one that the pod's environment names (ours; `kubectl proxy`, tests).
    pub api_server: Option<String>,
    /// How long a pod's metadata outlive it.
    pub cleanup_timeout: Duration,
    /// Labels and annotations of pods.
    pub pod: Selection,
    /// Labels and annotations of their nodes; `None` = off.
    pub node_metadata: Option<Selection>,
    /// Labels and annotations of their namespaces; `None` = off.
    pub namespace_metadata: Option<Selection>,
    /// Tell the deployment of a pod's replica set. Filebeat 7 does by default.
    pub deployment: bool,
    /// Tell the cron job of a pod's job. Filebeat 7 does by default.
    pub cronjob: bool,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope {
            node: None,
            cluster: false,
            namespace: None,
            api_server: None,
            cleanup_timeout: Duration::from_secs(60),
            pod: Selection::default(),
            node_metadata: Some(Selection::default()),
            namespace_metadata: Some(Selection::default()),
            deployment: false,
            cronjob: false,
        }
    }
}

impl Scope {
    /// Reads the options that `add_kubernetes_metadata` and the autodiscover provider share.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_section(s: &Section<'_>) -> Result<Scope, Error> {
        let add = |name: &str| -> Result<Option<Selection>, Error> {
            match s.section(&format!("add_resource_metadata.{name}"))? {
                None => Ok(Some(Selection::default())),
                Some(own) if own.bool("enabled")? == Some(false) => Ok(None),
                Some(own) => Selection::from_section(&own).map(Some),
            }
        };
        let v7 = s.compat() == Compat::V7;
        let host = s.str("host")?.filter(|h| !h.is_empty());
        if s.str("kube_config")?.is_some_and(|path| !path.is_empty()) {
            return Err(s.error(
                "kube_config",
                "kubeconfig files aren't read: Pillion asks with the service account of its pod",
                "remove the option; outside of a cluster, run `kubectl proxy` and give `api_server: http://127.0.0.1:8001`",
            ));
        }
        s.bool("in_cluster")?;
        s.duration("sync_period")?;
        s.bool("use_kubeadm")?;
        s.json("kube_client_options")?;
        Ok(Scope {
            node: s.str("node")?.filter(|n| !n.is_empty()).or(host),
            cluster: s.choice("scope", &["node", "cluster"])? == Some("cluster"),
            namespace: s.str("namespace")?.filter(|n| !n.is_empty()),
            api_server: s.str("api_server")?.filter(|n| !n.is_empty()),
            cleanup_timeout: s.duration("cleanup_timeout")?.unwrap_or(Duration::from_secs(60)),
            pod: Selection::from_section(s)?,
            node_metadata: add("node")?,
            namespace_metadata: add("namespace")?,
            deployment: s.bool("add_resource_metadata.deployment")?.unwrap_or(v7),
            cronjob: s.bool("add_resource_metadata.cronjob")?.unwrap_or(v7),
        })
    }
}

/// How an event's key is found.
#[derive(Clone, Debug)]
enum Matcher {
    /// In the file's path, below this folder.
    LogsPath { path: String, pod: bool },
    /// The value of the first field that is there, or its group `key`.
    Fields { fields: Vec<String>, pattern: Option<Regex> },
    /// A text with `%{[field]}` in it.
    Format(Vec<Piece>),
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Field(String),
}

/// One `add_kubernetes_metadata`.
#[derive(Debug)]
pub struct Kubernetes {
    /// Where metadata comes from.
    pub origin: Origin,
    /// What is watched.
    pub scope: Scope,
    /// By what pods are found.
    pub indexers: Vec<Indexer>,
    /// How long the start waits at most until pods are known: 1 s, or `wait_for_metadata_timeout` (30 s) when
    /// `wait_for_metadata` is set.
    pub wait: Duration,
    /// The folder with the files of the downward API (`labels`, `annotations`).
    pub podinfo: String,
    matchers: Vec<Matcher>,
    source: OnceLock<Arc<dyn Metadata>>,
    own: OnceLock<Map<String, Value>>,
}

/// The options of `add_kubernetes_metadata`, by their first names.
pub(crate) const OPTIONS: &[&str] = &[
    "source",
    "podinfo",
    "node",
    "host",
    "scope",
    "namespace",
    "api_server",
    "kube_config",
    "kube_client_options",
    "in_cluster",
    "use_kubeadm",
    "sync_period",
    "cleanup_timeout",
    "indexers",
    "matchers",
    "default_indexers",
    "default_matchers",
    "add_resource_metadata",
    "include_labels",
    "exclude_labels",
    "include_annotations",
    "labels",
    "annotations",
    "wait_for_metadata",
    "wait_for_metadata_timeout",
];

/// Bytes of a container's id.
const CONTAINER_ID: usize = 64;

impl Kubernetes {
    /// Joins a source of metadata to it; the first one counts.
    pub fn connect(&self, source: Arc<dyn Metadata>) {
        let _ = self.source.set(source);
    }

    /// Gives it the own pod's metadata: what is merged into every event.
    pub fn set_own(&self, fields: Map<String, Value>) {
        let _ = self.own.set(fields);
    }

    /// Whether a file's path leads to a pod or container that isn't known yet.
    pub fn waits_for(&self, file: &str) -> bool {
        let Some(source) = self.source.get() else { return false };
        let mut keys = self.matchers.iter().filter_map(|matcher| match matcher {
            Matcher::LogsPath { path, pod: true } => pod_of(path, file),
            Matcher::LogsPath { path, pod: false } => container_of(path, file),
            Matcher::Fields { .. } | Matcher::Format(_) => None,
        });
        keys.next().is_some_and(|key| source.lookup(&key).is_none())
    }

    fn from_section(s: &Section<'_>) -> Result<Kubernetes, Error> {
        let about_others = ["host", "node", "scope", "namespace", "kube_config", "matchers", "indexers"];
        let named = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let origin = match s.choice("source", &["downward", "api"])? {
            Some("downward") => Origin::Downward,
            None if named("POD_NAME") && named("POD_NAMESPACE") && !about_others.iter().any(|key| s.has(key)) => {
                Origin::Downward
            }
            _ => Origin::Api,
        };
        let longer = s.duration("wait_for_metadata_timeout")?.unwrap_or(Duration::from_secs(30));
        let wait = if s.bool("wait_for_metadata")? == Some(true) { longer } else { Duration::from_secs(1) };
        let defaults = |kind: &str| Ok(s.bool(&format!("default_{kind}.enabled"))?.unwrap_or(true));
        let mut matchers = matchers(s)?;
        if defaults("matchers")? {
            matchers.push(Matcher::LogsPath { path: "/var/lib/docker/containers/".to_owned(), pod: false });
        }
        let mut indexers = indexers(s)?;
        if defaults("indexers")? && !indexers.contains(&Indexer::Container) {
            indexers.push(Indexer::Container);
        }
        Ok(Kubernetes {
            origin,
            scope: Scope::from_section(s)?,
            indexers,
            wait,
            podinfo: s.str("podinfo")?.unwrap_or_else(|| "/etc/podinfo".to_owned()),
            matchers,
            source: OnceLock::new(),
            own: OnceLock::new(),
        })
    }
}

fn matchers(s: &Section<'_>) -> Result<Vec<Matcher>, Error> {
    let mut out = Vec::new();
    for item in s.sections("matchers")? {
        for (name, options) in item.named_sections()? {
            out.push(match name {
                "logs_path" => Matcher::LogsPath {
                    path: options.str("logs_path")?.unwrap_or_else(|| "/var/lib/docker/containers/".to_owned()),
                    pod: options.choice("resource_type", &["container", "pod"])? == Some("pod"),
                },
                "fields" => {
                    let pattern = options.str("regex_pattern")?.filter(|p| !p.is_empty());
                    let wrong = |e: regex::Error| {
                        let why = e.to_string().lines().last().unwrap_or_default().to_owned();
                        options.error("regex_pattern", why, "write it in Go's RE2 syntax, with a group named `key`")
                    };
                    let fields = options.strings("lookup_fields")?;
                    if fields.is_empty() {
                        return Err(options.error("lookup_fields", "no field is named", "give lookup_fields"));
                    }
                    Matcher::Fields { fields, pattern: pattern.map(|p| Regex::new(&p).map_err(wrong)).transpose()? }
                }
                "field_format" => Matcher::Format(pieces(&options)?),
                other => {
                    let known = "logs_path, fields and field_format";
                    return Err(item.error(
                        other,
                        format!("there is no matcher `{other}`"),
                        format!("there are {known}"),
                    ));
                }
            });
        }
    }
    Ok(out)
}

fn indexers(s: &Section<'_>) -> Result<Vec<Indexer>, Error> {
    let mut out = Vec::new();
    for item in s.sections("indexers")? {
        for (name, _) in item.named_sections()? {
            out.push(match name {
                "container" => Indexer::Container,
                "pod_name" => Indexer::PodName,
                "pod_uid" => Indexer::PodUid,
                "ip_port" => Indexer::IpPort,
                other => {
                    let known = "container, pod_name, pod_uid and ip_port";
                    return Err(item.error(
                        other,
                        format!("there is no indexer `{other}`"),
                        format!("there are {known}"),
                    ));
                }
            });
        }
    }
    Ok(out)
}

fn pieces(s: &Section<'_>) -> Result<Vec<Piece>, Error> {
    let text = s.str("format")?.unwrap_or_default();
    let wrong = || s.error("format", "not a format string", "write fields as `%{[kubernetes.pod.name]}`");
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once("%{[") {
        let (field, after) = behind.split_once("]}").ok_or_else(wrong)?;
        out.extend([Piece::Text(before.to_owned()), Piece::Field(field.to_owned())]);
        rest = after;
    }
    out.push(Piece::Text(rest.to_owned()));
    if text.is_empty() { Err(wrong()) } else { Ok(out) }
}

impl Matcher {
    /// The key that an event is looked up by.
    fn key(&self, doc: &mut Doc<'_>) -> Option<String> {
        match self {
            Matcher::LogsPath { path, pod } => {
                let file = doc.text("log.file.path").or_else(|| doc.text("source"))?;
                if *pod { pod_of(path, &file) } else { container_of(path, &file) }
            }
            Matcher::Fields { fields, pattern } => {
                let value = fields.iter().find_map(|field| doc.text(field))?;
                match pattern {
                    None => Some(value),
                    Some(pattern) => Some(pattern.captures(&value)?.name("key")?.as_str().to_owned()),
                }
            }
            Matcher::Format(pieces) => {
                let mut out = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.push_str(text),
                        Piece::Field(field) => out.push_str(&doc.text(field)?),
                    }
                }
                Some(out)
            }
        }
    }
}

/// The container's id in a path (Filebeat's `matchers.go`).
fn container_of(logs: &str, file: &str) -> Option<String> {
    if !file.contains(logs) {
        return None;
    }
    if logs.starts_with("/var/log/containers")
        && let Some(stem) = file.strip_suffix(".log")
    {
        return stem.get(stem.len().checked_sub(CONTAINER_ID)?..).map(str::to_owned);
    }
    file.get(logs.len()..logs.len() + CONTAINER_ID).map(str::to_owned)
}

/// The pod's uid in a path.
fn pod_of(logs: &str, file: &str) -> Option<String> {
    if !file.contains(logs) || !file.ends_with(".log") {
        return None;
    }
    let mut parts = file.split('/');
    if logs.starts_with("/var/lib/kubelet/pods") {
        return parts.nth(5).map(str::to_owned);
    }
    if logs.starts_with("/var/log/pods") {
        return parts.nth(4)?.split('_').nth(2).map(str::to_owned);
    }
    None
}

impl Action for Kubernetes {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        if let Some(own) = self.own.get() {
            if doc.get("kubernetes").is_err() {
                doc.merge(own.clone(), true);
            }
            return Ok(Done::Keep);
        }
        let Some(source) = self.source.get() else { return Ok(Done::Keep) };
        let found = self.matchers.iter().find_map(|matcher| matcher.key(doc)).and_then(|key| source.lookup(&key));
        if let Some(found) = found
            && doc.get("kubernetes").is_err()
        {
            doc.merge((*found).clone(), true);
        }
        Ok(Done::Keep)
    }

    fn constant(&self) -> Option<Constant> {
        self.own.get().map(|own| Constant { fields: own.clone(), tags: Vec::new() })
    }

    fn outside(&self) -> Option<Outside<'_>> {
        Some(Outside::Kubernetes(self))
    }
}

pub(crate) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    Ok(Box::new(Kubernetes::from_section(s)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_in_paths() {
        let id = "0123456789abcdef".repeat(4);
        let containers = format!("/var/log/containers/web-0_shop_nginx-{id}.log");
        assert_eq!(container_of("/var/log/containers/", &containers), Some(id.clone()));
        let docker = format!("/var/lib/docker/containers/{id}/{id}-json.log");
        assert_eq!(container_of("/var/lib/docker/containers/", &docker), Some(id));
        assert_eq!(container_of("/var/log/containers/", "/var/log/containers/short.log"), None);
        assert_eq!(container_of("/var/lib/docker/containers/", &containers), None);
        let pods = "/var/log/pods/shop_web-0_1234-5678/nginx/0.log";
        assert_eq!(pod_of("/var/log/pods/", pods).as_deref(), Some("1234-5678"));
        let kubelet = "/var/lib/kubelet/pods/1234-5678/volumes/x/a.log";
        assert_eq!(pod_of("/var/lib/kubelet/pods/", kubelet).as_deref(), Some("1234-5678"));
    }

    #[test]
    fn labels_are_chosen_and_their_dots_replaced() {
        let all = json!({"app": "a", "app.kubernetes.io/name": "n", "x": "y"});
        let all = all.as_object().unwrap();
        let selection = Selection { exclude_labels: vec!["x".into()], ..Selection::default() };
        assert_eq!(json!(selection.labels(all)), json!({"app": "a", "app_kubernetes_io/name": "n"}));
        let selection = Selection {
            labels_dedot: false,
            include_labels: vec!["app".into(), "app.kubernetes.io/name".into()],
            ..selection
        };
        assert_eq!(json!(selection.labels(all)), json!({"app": {"value": "a", "kubernetes": {"io/name": "n"}}}));
        assert!(selection.annotations(all).is_empty());
    }
}
