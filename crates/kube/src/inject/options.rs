//! What an injection should do: typed options, each read from its text.
//!
//! Comes in: names and texts, from flags and annotations. Goes out: [`Options`], or the reason why a text doesn't do.
//!
//! Always holds: a text never reaches a manifest unread; what a resource, a host or a name may be is checked here.
//! Tested below.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::Value;

use super::{PREFIX, SETTINGS};

/// How an injection is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Leave pods alone that say nothing: `inject`.
    pub inject: bool,
    /// Only pods that ask for it by annotation.
    pub opt_in: bool,
    /// The image of the sidecar.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; `None` leaves it to Kubernetes.
    pub pull_policy: Option<String>,
    /// How the end of the work is learned.
    pub way: Way,
    /// The version of the cluster; `None` is taken for one that has native sidecars, and said.
    pub kube_version: Option<KubeVersion>,
    /// Where the configuration comes from.
    pub config: ConfigSource,
    /// A target that is laid over the configuration.
    pub output: Option<Output>,
    /// Folders of logs, or patterns of files; empty: the default.
    pub paths: Vec<String>,
    /// The containers whose logs are shipped; empty: all.
    pub containers: Vec<String>,
    /// Requests and limits of the sidecar.
    pub resources: Resources,
    /// Seconds that the pod has at least between SIGTERM and the kill; `None` leaves the pod's own.
    pub grace_period: Option<u32>,
    /// What an incomplete delivery does to the pod.
    pub on_incomplete: OnIncomplete,
    /// Give each event an id, so that nothing arrives twice.
    pub exactly_once: bool,
    /// Keep the registry beside the logs, where they lie on a volume that pods share: `pillion sweep` finds it there.
    pub beside_logs: bool,
    /// A Secret whose keys become variables of the sidecar.
    pub secret: Option<String>,
    /// The user id of the sidecar, above 0; `None`: the main container's where it is written down, else the image's own.
    pub user: Option<u32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            inject: true,
            opt_in: false,
            image: concat!("pillion:", env!("CARGO_PKG_VERSION")).into(),
            pull_policy: None,
            way: Way::Auto,
            kube_version: None,
            config: ConfigSource::Image,
            output: None,
            paths: Vec::new(),
            containers: Vec::new(),
            resources: Resources::default(),
            grace_period: None,
            on_incomplete: OnIncomplete::Succeed,
            exactly_once: true,
            beside_logs: false,
            secret: None,
            user: None,
        }
    }
}

/// How the sidecar learns that the work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The best that cluster and pod allow.
    Auto,
    /// An init container with `restartPolicy: Always`: Kubernetes ends it after the work.
    Native,
    /// An ordinary container, and a shell around the work's command that makes a flag and holds a lock.
    Flag,
    /// An ordinary container that ends at SIGTERM: for pods that run until they are deleted.
    Signal,
    /// An ordinary container that sees the work's process end: needs `shareProcessNamespace: true`.
    Process,
    /// No sidecar: the work's command is run by `pillion exec`.
    Exec,
}

/// The names of the ways.
const WAYS: &[(&str, Way)] = &[
    ("auto", Way::Auto),
    ("native", Way::Native),
    ("flag", Way::Flag),
    ("signal", Way::Signal),
    ("process", Way::Process),
    ("exec", Way::Exec),
];

impl Way {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        WAYS.iter().find(|(_, way)| *way == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(s: &str) -> Result<Way, String> {
        one_of(s, WAYS)
    }
}

/// A version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubeVersion {
    /// 1.
    pub major: u32,
    /// 34 of `1.34.2`.
    pub minor: u32,
}

impl KubeVersion {
    /// The first whose clusters run native sidecars without being asked to (they were behind a gate in 1.28).
    pub const NATIVE: KubeVersion = KubeVersion { major: 1, minor: 29 };
}

impl FromStr for KubeVersion {
    type Err = String;

    /// `1.34`, `v1.34.2`, and what some providers answer: `1.34+`, `v1.34.2-eks-1`.
    fn from_str(s: &str) -> Result<KubeVersion, String> {
        let mut parts = s.trim().trim_start_matches('v').split('.');
        let mut number = || {
            let part = parts.next()?;
            part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]).parse().ok()
        };
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(KubeVersion { major, minor }),
            _ => Err(format!("`{s}` isn't a version such as 1.34")),
        }
    }
}

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// What lies in the image.
    Image,
    /// A ConfigMap that is there, and the key of the file in it.
    ConfigMap {
        /// Its name.
        name: String,
        /// The key, usually `filebeat.yml`.
        key: String,
    },
    /// This text, in a ConfigMap that is written beside the object.
    Text(String),
}

/// A target that is laid over the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What listens there.
    pub kind: OutputKind,
    /// Hosts or URLs; never empty.
    pub hosts: Vec<String>,
}

/// What listens at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Elasticsearch or OpenSearch.
    Elasticsearch,
    /// Logstash, or another Pillion.
    Logstash,
}

impl OutputKind {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            OutputKind::Elasticsearch => "elasticsearch",
            OutputKind::Logstash => "logstash",
        }
    }
}

/// What an incomplete delivery does to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIncomplete {
    /// Nothing: the receipt tells.
    Succeed,
    /// The sidecar ends with 3.
    Fail,
}

impl OnIncomplete {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            OnIncomplete::Succeed => "succeed",
            OnIncomplete::Fail => "fail",
        }
    }
}

/// Requests and limits, by resource.
///
/// The default is what was measured (bench/results): 7 MB at rest, 9 to 21 MB while shipping, no CPU at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// What the scheduler sets aside.
    pub requests: BTreeMap<String, String>,
    /// What it may not exceed.
    pub limits: BTreeMap<String, String>,
}

impl Default for Resources {
    fn default() -> Resources {
        let map = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Resources { requests: map(&[("cpu", "10m"), ("memory", "16Mi")]), limits: map(&[("memory", "64Mi")]) }
    }
}

impl Options {
    /// Sets what [`SETTINGS`] names.
    ///
    /// # Errors
    /// When there is no such setting, or the text doesn't fit it: the reason, in words for whoever wrote it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let text = text.trim();
        match name {
            "inject" => self.inject = truth(text)?,
            "opt_in" => self.opt_in = truth(text)?,
            "image" => self.image = word(text, "an image")?,
            "pull_policy" => {
                let known = ["Always", "IfNotPresent", "Never"].map(|name| (name, name));
                self.pull_policy = Some(one_of(text, &known)?.to_owned());
            }
            "way" => self.way = text.parse()?,
            "kube_version" => self.kube_version = Some(text.parse()?),
            "config" => self.config = config_map(text)?,
            "output" => self.output = Some(output(text)?),
            "paths" => self.paths = paths(text)?,
            "containers" => {
                self.containers = list(text).map(|name| label(name, "a container")).collect::<Result<_, _>>()?
            }
            "resources" => resources(text, &mut self.resources)?,
            "grace_period" => self.grace_period = Some(number(text)?),
            "on_incomplete" => {
                self.on_incomplete = one_of(text, &[("succeed", OnIncomplete::Succeed), ("fail", OnIncomplete::Fail)])?;
            }
            "exactly_once" => self.exactly_once = truth(text)?,
            "beside_logs" => self.beside_logs = truth(text)?,
            "secret" => self.secret = Some(label(text, "a Secret")?),
            "user" => match number(text)? {
                0 => return Err("the sidecar never runs as root: choose another user id".into()),
                user => self.user = Some(user),
            },
            _ => {
                let known: Vec<&str> = SETTINGS.iter().map(|s| s.name).collect();
                return Err(format!("there is no such setting; there are {}", known.join(", ")));
            }
        }
        Ok(())
    }

    /// These options as the annotations of a pod template change them.
    ///
    /// # Errors
    /// With the annotation's name and the reason.
    pub(crate) fn with_annotations(&self, annotations: &Value) -> Result<Options, (String, String)> {
        let mut options = self.clone();
        let mut asked = false;
        for (key, value) in annotations.as_object().into_iter().flatten() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            if key == super::MARK {
                continue;
            }
            let fail = |reason: String| (key.clone(), reason);
            if !SETTINGS.iter().any(|s| s.annotation && s.name == name) {
                let known: Vec<&str> = SETTINGS.iter().filter(|s| s.annotation).map(|s| s.name).collect();
                return Err(fail(format!("there is no such annotation; there are {}", known.join(", "))));
            }
            let text = value.as_str().ok_or_else(|| fail("an annotation is a text: put it in quotes".into()))?;
            options.set(name, text).map_err(fail)?;
            asked |= name == "inject";
        }
        options.inject &= asked || !options.opt_in;
        Ok(options)
    }
}

fn one_of<T: Clone>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("`{text}` isn't one of {}", names.join(", "))
    })
}

fn truth(text: &str) -> Result<bool, String> {
    let known =
        [("true", true), ("false", false), ("enabled", true), ("disabled", false), ("yes", true), ("no", false)];
    one_of(text, &known).map_err(|_| format!("`{text}` is neither true nor false"))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` isn't a number"))
}

/// The parts between commas, without blanks around them; empty ones don't count.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// One word of printable characters.
fn word(text: &str, what: &str) -> Result<String, String> {
    match text {
        "" => Err(format!("{what} is needed here")),
        text if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(format!("`{text}` isn't {what}: there is a blank in it"))
        }
        text => Ok(text.to_owned()),
    }
}

/// A name as Kubernetes takes it (RFC 1123).
fn label(text: &str, what: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    if text.is_empty() || text.len() > 253 || !text.chars().all(inner) || text.starts_with('-') || text.ends_with('-') {
        return Err(format!("`{text}` isn't the name of {what}: small letters, digits, `-` and `.`"));
    }
    Ok(text.to_owned())
}

fn config_map(text: &str) -> Result<ConfigSource, String> {
    let (name, key) = text.split_once('/').unwrap_or((text, "filebeat.yml"));
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if key.is_empty() || key.starts_with("..") || !key.chars().all(good) {
        return Err(format!("`{key}` isn't a key of a ConfigMap"));
    }
    Ok(ConfigSource::ConfigMap { name: label(name, "a ConfigMap")?, key: key.to_owned() })
}

/// `elasticsearch=URL,URL`, `logstash=HOST:PORT`.
fn output(text: &str) -> Result<Output, String> {
    let usage = "write elasticsearch=https://HOST:9200 or logstash=HOST:5044";
    let (kind, hosts) = text.split_once('=').ok_or_else(|| format!("`{text}` names no kind: {usage}"))?;
    let kinds = [OutputKind::Elasticsearch, OutputKind::Logstash].map(|kind| (kind.as_str(), kind));
    let kind = one_of(kind.trim(), &kinds).map_err(|e| format!("{e}: {usage}"))?;
    let good = |c: char| c.is_ascii_alphanumeric() || "-._~:/?&=%@[]".contains(c);
    let host = |host: &str| match host {
        host if host.contains('@') => {
            Err("a password doesn't belong into a manifest: use `secret` and the configuration".into())
        }
        host if host.chars().all(good) => Ok(host.to_owned()),
        host => Err(format!("`{host}` isn't a host or URL: {usage}")),
    };
    let hosts = list(hosts).map(host).collect::<Result<Vec<String>, String>>()?;
    if hosts.is_empty() {
        return Err(format!("no host is named: {usage}"));
    }
    Ok(Output { kind, hosts })
}

fn paths(text: &str) -> Result<Vec<String>, String> {
    let path = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        if !path.starts_with('/') || parts.contains(&"..") || parts.contains(&".") || path.contains([':', '$', '\\']) {
            return Err(format!("`{path}` isn't an absolute path without `..`, `:` and `$`"));
        }
        if crate::inject::places::folder_of(path) == "/" {
            return Err(format!("`{path}`: the root of a file system can't be shared; name the folder of the logs"));
        }
        word(path, "a path")
    };
    let paths = list(text).map(path).collect::<Result<Vec<String>, String>>()?;
    if paths.is_empty() { Err("no path is named".into()) } else { Ok(paths) }
}

/// `requests.cpu=10m, limits.memory=64Mi`, each laid over what is there.
fn resources(text: &str, resources: &mut Resources) -> Result<(), String> {
    let usage = "write requests.cpu=10m, requests.memory=16Mi, limits.memory=64Mi";
    for part in list(text) {
        let (name, quantity) = part.split_once('=').ok_or_else(|| format!("`{part}`: {usage}"))?;
        let (name, quantity) = (name.trim(), quantity.trim());
        let (map, resource) = match name.split_once('.') {
            Some(("requests", resource)) => (&mut resources.requests, resource),
            Some(("limits", resource)) => (&mut resources.limits, resource),
            _ => return Err(format!("`{name}`: {usage}")),
        };
        if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") {
            return Err(format!("`{resource}` isn't one of cpu, memory, ephemeral-storage"));
        }
        if quantity.is_empty() {
            map.remove(resource);
        } else {
            bytes_or_cores(quantity).ok_or_else(|| format!("`{quantity}` isn't a quantity such as 10m or 64Mi"))?;
            map.insert(resource.to_owned(), quantity.to_owned());
        }
    }
    for (name, limit) in &resources.limits {
        let request = resources.requests.get(name);
        if let (Some(request), Some(limit)) = (request.and_then(|r| bytes_or_cores(r)), bytes_or_cores(limit))
            && request > limit
        {
            return Err(format!("the request of {name} is above its limit"));
        }
    }
    Ok(())
}

/// The value of a quantity (Kubernetes' resource.Quantity, without exponents).
fn bytes_or_cores(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let units = ["m", "", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    let factors = [1e-3, 1.0, 1e3, 1e6, 1e9, 1e12, 1024.0, 1024f64.powi(2), 1024f64.powi(3), 1024f64.powi(4)];
    let factor = units.iter().zip(factors).find(|(name, _)| **name == unit)?.1;
    digits.parse::<f64>().ok().map(|n| n * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str, text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        options.set(name, text).map(|()| options)
    }

    #[test]
    fn every_setting_of_the_table_is_read() {
        for setting in SETTINGS {
            let error = set(setting.name, "\u{1}").err().unwrap_or_default();
            assert!(!error.contains("no such setting"), "{}", setting.name);
        }
    }

    #[test]
    fn texts_that_fit() {
        assert_eq!(set("way", "flag").unwrap().way, Way::Flag);
        assert_eq!(set("paths", "/data, /logs/*.log,").unwrap().paths, ["/data", "/logs/*.log"]);
        assert_eq!(
            set("config", "a/b.yml").unwrap().config,
            ConfigSource::ConfigMap { name: "a".into(), key: "b.yml".into() }
        );
        let output = set("output", "elasticsearch=https://a:9200, b:9200").unwrap().output.unwrap();
        assert_eq!((output.kind.as_str(), output.hosts.len()), ("elasticsearch", 2));
        let resources = set("resources", "limits.memory=128Mi,requests.cpu=").unwrap().resources;
        assert_eq!((resources.limits["memory"].as_str(), resources.requests.len()), ("128Mi", 1));
        for (text, minor) in [("1.34", 34), ("v1.29.3-eks-1", 29), ("1.28+", 28)] {
            assert_eq!(set("kube_version", text).unwrap().kube_version.unwrap().minor, minor);
        }
    }

    #[test]
    fn texts_that_do_not_fit() {
        for (name, text) in [
            ("way", "magic"),
            ("paths", "data"),
            ("paths", "/"),
            ("paths", "/*.log"),
            ("paths", "/data/../etc"),
            ("paths", ""),
            ("config", "A"),
            ("config", "a/../b"),
            ("output", "kafka=x"),
            ("output", "elasticsearch="),
            ("output", "elasticsearch=https://user:secret@host"),
            ("output", "logstash=a]\nx"),
            ("resources", "cpu=1"),
            ("resources", "requests.gpu=1"),
            ("resources", "requests.memory=1Gi"),
            ("resources", "limits.memory=many"),
            ("kube_version", "new"),
            ("user", "0"),
            ("image", "a b"),
            ("pull_policy", "never"),
            ("nonsense", "1"),
        ] {
            assert!(set(name, text).is_err(), "{name}={text}");
        }
    }

    #[test]
    fn an_annotation_can_say_only_what_the_table_allows() {
        let options = Options::default();
        for setting in SETTINGS.iter().filter(|s| !s.annotation) {
            let key = format!("{PREFIX}{}", setting.name);
            assert!(options.with_annotations(&json!({ key: "x" })).is_err(), "{}", setting.name);
        }
        let changed = options.with_annotations(&json!({"pillion.dev/way": "signal", "other/way": "x"})).unwrap();
        assert_eq!(changed.way, Way::Signal);
        assert!(options.with_annotations(&json!({"pillion.dev/inject": false})).is_err());
    }

    #[test]
    fn with_opt_in_only_those_who_ask() {
        let options = Options { opt_in: true, ..Options::default() };
        assert!(!options.with_annotations(&json!(null)).unwrap().inject);
        assert!(options.with_annotations(&json!({"pillion.dev/inject": "true"})).unwrap().inject);
        assert!(!Options::default().with_annotations(&json!({"pillion.dev/inject": "false"})).unwrap().inject);
    }
}
