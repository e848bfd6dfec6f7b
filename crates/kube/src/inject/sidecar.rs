//! Our container: image, arguments, variables, resources, privileges.
//!
//! Comes in: options and what was found about the pod. Goes out: the container as JSON.
//!
//! Always holds: it fits the `restricted` policy (Pod Security Standards): no root, no privilege, no capability, the
//! default seccomp profile; its root file system is read-only.
//! Tested in `tests/inject.rs`, and on a real cluster.

use serde_json::{Map, Value, json};

use super::CONTAINER;
use super::options::{ConfigSource, Options, Resources, Way};
use super::wrapper::{FLAG, LOCK, RUN, Restart};

/// The registry, in an emptyDir: it outlives a restart of the container.
pub(crate) const DATA: &str = "/var/lib/pillion";
/// The configuration.
pub(crate) const CONFIG: &str = "/etc/pillion";
/// Where `exec` finds the program.
pub(crate) const BIN: &str = "/opt/pillion";
/// The program in our image, for those who need a command.
const PROGRAM: &str = "/usr/bin/pillion";
/// The user of our image.
const OWN_USER: u32 = 1000;
/// What kubelet gives a container, in seconds, whose hook took the whole grace period.
const AFTER_HOOK: u64 = 2;

/// What the container has to know about its pod.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) way: Way,
    pub(crate) restart: Restart,
    /// Whether Kubernetes itself, or Argo, starts the container.
    pub(crate) argo: bool,
    /// Seconds between SIGTERM and the kill.
    pub(crate) grace: u64,
    /// The user, when the pod doesn't say one for all its containers.
    pub(crate) user: Option<u32>,
    /// The pod counts as guaranteed: every container has limits, and requests no less.
    pub(crate) guaranteed: bool,
    /// The name of the process whose end is awaited.
    pub(crate) process: Option<String>,
    /// Files that the image's own configuration doesn't look for.
    pub(crate) patterns: Vec<String>,
    /// Mounts of logs.
    pub(crate) mounts: Vec<Value>,
    /// Variables beside the usual ones.
    pub(crate) env: Vec<Value>,
    /// The folder of logs that the registry lies in.
    pub(crate) beside: Option<String>,
    /// Volumes of ours: registry, configuration, flag.
    pub(crate) data: String,
    pub(crate) config: Option<String>,
    pub(crate) run: Option<String>,
}

impl About {
    /// Whether it is a native sidecar. Beside a watched process too: that may have ended before it could be seen, and then
    /// nothing else would tell of it.
    pub(crate) fn is_native(&self) -> bool {
        matches!(self.way, Way::Native | Way::Process)
    }

    /// Whether a hook keeps SIGTERM from the container as long as the work may write. A pod that is deleted ends all its
    /// containers at once, and the work has its whole grace period; the last lines of that would have to be read, sent and
    /// acknowledged in no time.
    ///
    /// Only where flag or lock end the container by themselves, and the hook with it. Where the work is started again
    /// they don't before SIGTERM (`pillion.completion.restarts`), so that each pod would take its whole grace period.
    fn outlives_work(&self) -> bool {
        self.way == Way::Flag && self.restart == Restart::Never && self.grace > AFTER_HOOK
    }

    /// Seconds between the container's SIGTERM and its kill.
    fn own_grace(&self) -> u64 {
        if self.outlives_work() { AFTER_HOOK } else { self.grace }
    }
}

/// The container.
pub(crate) fn container(options: &Options, about: &About) -> Value {
    let mut container = Map::new();
    let mut put = |key: &str, value: Value| drop(container.insert(key.to_owned(), value));
    put("name", json!(CONTAINER));
    put("image", json!(options.image));
    if let Some(policy) = &options.pull_policy {
        put("imagePullPolicy", json!(policy));
    }
    if about.is_native() {
        put("restartPolicy", json!("Always"));
    }
    if about.argo {
        put("command", json!([PROGRAM]));
    }
    put("args", json!(arguments(options, about)));
    put("env", Value::Array(variables(options, about)));
    if let Some(secret) = &options.secret {
        put("envFrom", json!([{"secretRef": {"name": secret}}]));
    }
    if about.outlives_work() {
        put("lifecycle", json!({"preStop": {"exec": {"command": ["sleep", "86400"]}}}));
    }
    put("resources", resources(&options.resources, about.guaranteed));
    put("terminationMessagePolicy", json!("FallbackToLogsOnError"));
    put("securityContext", security(about.user));
    put("volumeMounts", Value::Array(mounts(about)));
    Value::Object(container)
}

/// Flags of a run, for the sidecar and for `exec`.
pub(crate) fn arguments(options: &Options, about: &About) -> Vec<String> {
    let mut args: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| args.extend(words.iter().map(|w| (*w).to_owned()));
    add(&["-e"]);
    match &options.config {
        ConfigSource::Image => {}
        ConfigSource::ConfigMap { key, .. } => add(&["-c", &format!("{CONFIG}/{key}")]),
        ConfigSource::Text(_) => add(&["-c", &format!("{CONFIG}/filebeat.yml")]),
    }
    add(&["--path.data", DATA]);
    if !about.patterns.is_empty() {
        add(&["-E", &format!("filebeat.inputs.0.paths=[{}]", quoted(&about.patterns))]);
    }
    if let Some(output) = options.output.as_ref().filter(|_| options.config != ConfigSource::Image) {
        add(&["-E", &format!("output.{}.hosts=[{}]", output.kind.as_str(), quoted(&output.hosts))]);
    }
    if options.exactly_once {
        add(&["-E", "pillion.exactly_once=true"]);
    }
    if let Some(folder) = &about.beside {
        add(&["-E", &format!("pillion.registry.beside_logs=\"{folder}\"")]);
        // In a pod of the host's network the host's name would be the node's.
        add(&["-E", "pillion.registry.name=$(POD_NAME)"]);
    }
    add(&["--on-incomplete", options.on_incomplete.as_str()]);
    match about.way {
        Way::Flag => {
            if about.restart != Restart::Always {
                add(&["--until", FLAG]);
            }
            add(&["--until-released", LOCK]);
            if about.restart != Restart::Never {
                add(&["-E", "pillion.completion.restarts=true"]);
            }
        }
        Way::Process => add(&["--until-exit", about.process.as_deref().unwrap_or_default()]),
        _ => {}
    }
    args
}

/// As `-E` takes a list: each in quotes of its own.
fn quoted(list: &[String]) -> String {
    list.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

/// The downward API's fields, and the grace period, which it hasn't.
pub(crate) fn variables(options: &Options, about: &About) -> Vec<Value> {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("NODE_NAME", "spec.nodeName"),
        json!({"name": "PILLION_GRACE_PERIOD_SECONDS", "value": about.own_grace().to_string()}),
    ];
    if let Some(output) = options.output.as_ref().filter(|_| options.config == ConfigSource::Image) {
        // The image's own configuration takes its target from these.
        let name = format!("{}_HOSTS", output.kind.as_str().to_uppercase());
        env.push(json!({"name": name, "value": output.hosts.join(",")}));
    }
    for more in &about.env {
        if !env.iter().any(|e| e["name"] == more["name"]) {
            env.push(more.clone());
        }
    }
    env
}

fn resources(resources: &Resources, guaranteed: bool) -> Value {
    let mut resources = resources.clone();
    if guaranteed && resources == Resources::default() {
        // Else the pod would lose its class, and be evicted before others.
        resources.limits.insert("cpu".into(), "100m".into());
        resources.requests = resources.limits.clone();
    }
    let mut out = Map::new();
    for (name, map) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        if !map.is_empty() {
            out.insert(name.to_owned(), json!(map));
        }
    }
    Value::Object(out)
}

fn security(user: Option<u32>) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let Some(user) = user {
        context["runAsUser"] = json!(user);
    }
    context
}

/// The user of the sidecar: the one asked for, else that of the container whose files it reads, else what the pod says
/// for all; `None` where that, or the image's own, holds without a word.
pub(crate) fn user(options: &Options, of_container: Option<u64>, of_pod: Option<u64>) -> Option<u32> {
    let of_container = of_container.filter(|user| *user != 0).and_then(|user| u32::try_from(user).ok());
    let root_for_all = of_pod == Some(0);
    options.user.or(of_container).or(root_for_all.then_some(OWN_USER))
}

/// Mounts beside those of the logs.
pub(crate) fn own_mounts(about: &About) -> Vec<Value> {
    let mut mounts = vec![json!({"name": about.data, "mountPath": DATA})];
    if let Some(config) = &about.config {
        mounts.push(json!({"name": config, "mountPath": CONFIG, "readOnly": true}));
    }
    if let Some(run) = &about.run {
        mounts.push(json!({"name": run, "mountPath": RUN, "readOnly": true}));
    }
    mounts
}

fn mounts(about: &About) -> Vec<Value> {
    about.mounts.iter().cloned().chain(own_mounts(about)).collect()
}

/// The init container that brings the program to `exec`.
pub(crate) fn installer(options: &Options, user: Option<u32>, bin: &str) -> Value {
    let mut container = json!({"name": CONTAINER, "image": options.image});
    if let Some(policy) = &options.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container["command"] = json!([PROGRAM, "install", BIN]);
    container["resources"] = resources(&options.resources, false);
    container["securityContext"] = security(user);
    container["volumeMounts"] = json!([{"name": bin, "mountPath": BIN}]);
    container
}

/// The command of `exec` around the work's.
pub(crate) fn exec(options: &Options, about: &About, command: &[String]) -> Vec<String> {
    let mut words = vec![format!("{BIN}/pillion"), "exec".to_owned()];
    words.extend(arguments(options, about));
    words.push("--".to_owned());
    words.extend(command.iter().cloned());
    words
}
