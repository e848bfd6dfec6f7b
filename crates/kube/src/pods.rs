//! What is known of pods: from the API's objects to the fields that events get.
//!
//! Comes in: pods, nodes, namespaces, jobs and replica sets as the API has them. Goes out: `kubernetes.*` and
//! `container.*` by key, as Filebeat has them (Beats' `kubernetes/metadata` and `add_kubernetes_metadata`), and what
//! autodiscovery has to know of each container.
//!
//! Always holds: pure functions over JSON: a field that isn't there or is of another type is left out.
//! Tested below, with what Filebeat 7.17.29 gives for the same.

use pillion_process::kubernetes::{Indexer, Scope, Selection};
use serde_json::{Map, Value, json};

/// Fields by their top-level names.
pub type Fields = Map<String, Value>;

/// A container of a pod, as its status has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its id without the runtime's scheme.
    pub id: String,
    /// `containerd`, `docker`, `cri-o`.
    pub runtime: String,
    /// The image as the status has it.
    pub image: String,
}

/// What is beside the pod itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Its node.
    pub node: Option<&'a Value>,
    /// Its namespace.
    pub namespace: Option<&'a Value>,
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str).filter(|s| !s.is_empty())
}

fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

/// `namespace/name` of an object.
pub(crate) fn name_of(object: &Value) -> String {
    let name = text(object, "/metadata/name").unwrap_or_default();
    match text(object, "/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// Kind and name of whoever controls an object.
pub(crate) fn controller(object: &Value) -> Option<(&str, &str)> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|o| o["controller"] == true)?;
    Some((text(owner, "/kind")?, text(owner, "/name")?))
}

/// The deployment of a pod: its replica set is named after it and the hash in the pod's label, so that nobody has to be
/// asked.
fn deployment(pod: &Value) -> Option<&str> {
    let (_, set) = controller(pod).filter(|(kind, _)| *kind == "ReplicaSet")?;
    set.strip_suffix(text(pod, "/metadata/labels/pod-template-hash")?)?.strip_suffix('-')
}

/// The cron job of a pod: its jobs are named after it and the minutes since 1970, which have eight digits until 2160.
fn cronjob(pod: &Value) -> Option<&str> {
    let (_, job) = controller(pod).filter(|(kind, _)| *kind == "Job")?;
    let (name, minutes) = job.rsplit_once('-')?;
    (minutes.len() == 8 && minutes.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// The containers that have an id, in the order of the pod's status: those that run or have ended, then those that ran
/// before them and whose files are there still.
pub fn containers(pod: &Value) -> Vec<Container> {
    let lists = ["/status/containerStatuses", "/status/initContainerStatuses", "/status/ephemeralContainerStatuses"];
    let all = || lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let container = |status: &Value, id: &str| {
        let (runtime, id) = text(status, id)?.split_once("://")?;
        Some(Container {
            name: text(status, "/name")?.to_owned(),
            id: id.to_owned(),
            runtime: runtime.to_owned(),
            image: text(status, "/image").unwrap_or_default().to_owned(),
        })
    };
    let now = all().filter_map(|status| container(status, "/containerID"));
    let mut out: Vec<Container> = now.collect();
    for former in all().filter_map(|status| container(status, "/lastState/terminated/containerID")) {
        // A container that waits for its next start has one id for both.
        if out.iter().all(|c| c.id != former.id) {
            out.push(former);
        }
    }
    out
}

/// The same for autodiscovery, where Filebeat tells the image as the pod's maker has written it.
pub fn discovered(pod: &Value) -> Vec<Container> {
    let lists = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
    let written = |name: &str| {
        let all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
        all.filter(|c| c["name"] == name).find_map(|c| text(c, "/image"))
    };
    let each = |c: Container| match written(&c.name) {
        Some(image) => Container { image: image.to_owned(), ..c },
        None => c,
    };
    containers(pod).into_iter().map(each).collect()
}

/// `kubernetes.*` of a pod, without a container.
pub fn kubernetes(pod: &Value, beside: Beside<'_>, scope: &Scope) -> Fields {
    let mut out = Map::new();
    let mut about = Map::new();
    for (key, pointer) in [("name", "/metadata/name"), ("uid", "/metadata/uid"), ("ip", "/status/podIP")] {
        if let Some(value) = text(pod, pointer) {
            about.insert(key.to_owned(), value.into());
        }
    }
    out.insert("pod".to_owned(), about.into());
    if let Some(namespace) = text(pod, "/metadata/namespace") {
        out.insert("namespace".to_owned(), namespace.into());
    }
    if let Some((kind, name)) = controller(pod)
        && ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"].contains(&kind)
    {
        out.insert(kind.to_lowercase(), json!({"name": name}));
    }
    for (key, name) in [
        ("deployment", deployment(pod).filter(|_| scope.deployment)),
        ("cronjob", cronjob(pod).filter(|_| scope.cronjob)),
    ] {
        if let Some(name) = name {
            out.insert(key.to_owned(), json!({"name": name}));
        }
    }
    told(&mut out, pod, &scope.pod, ["labels", "annotations"]);
    out.insert("node".to_owned(), node(pod, beside.node, scope.node_metadata.as_ref()).into());
    if let (Some(namespace), Some(selection)) = (beside.namespace, &scope.namespace_metadata) {
        if let Some(uid) = text(namespace, "/metadata/uid") {
            out.insert("namespace_uid".to_owned(), uid.into());
        }
        told(&mut out, namespace, selection, ["namespace_labels", "namespace_annotations"]);
    }
    out
}

/// Labels and annotations of an object under these names.
fn told(out: &mut Fields, object: &Value, selection: &Selection, [labels, annotations]: [&str; 2]) {
    let chosen = [
        (labels, map(object, "/metadata/labels").map(|all| selection.labels(all))),
        (annotations, map(object, "/metadata/annotations").map(|all| selection.annotations(all))),
    ];
    for (key, fields) in chosen {
        if let Some(fields) = fields.filter(|f| !f.is_empty()) {
            out.insert(key.to_owned(), fields.into());
        }
    }
}

fn node(pod: &Value, node: Option<&Value>, selection: Option<&Selection>) -> Fields {
    let mut out = Map::new();
    if let Some(name) = text(pod, "/spec/nodeName") {
        out.insert("name".to_owned(), name.into());
    }
    if let (Some(node), Some(selection)) = (node, selection) {
        if let Some(uid) = text(node, "/metadata/uid") {
            out.insert("uid".to_owned(), uid.into());
        }
        let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
        let hostname = addresses.into_iter().flatten().find(|a| a["type"] == "Hostname");
        if let Some(hostname) = hostname.and_then(|a| text(a, "/address")) {
            out.insert("hostname".to_owned(), hostname.into());
        }
        told(&mut out, node, selection, ["labels", "annotations"]);
    }
    out
}

/// What is merged into the events of a container.
pub fn of_container(kubernetes: &Fields, container: &Container) -> Fields {
    let mut fields = kubernetes.clone();
    fields.insert("container".to_owned(), json!({"name": container.name}));
    let about = json!({"id": container.id, "runtime": container.runtime, "image": {"name": container.image}});
    [("kubernetes".to_owned(), Value::Object(fields)), ("container".to_owned(), about)].into_iter().collect()
}

/// What is merged into the events of a pod, whichever container.
pub fn of_pod(kubernetes: &Fields) -> Fields {
    [("kubernetes".to_owned(), Value::Object(kubernetes.clone()))].into_iter().collect()
}

/// Every key of a pod with what is merged then.
pub fn index(pod: &Value, kubernetes: &Fields, indexers: &[Indexer]) -> Vec<(String, Fields)> {
    let mut out = Vec::new();
    for indexer in indexers {
        match indexer {
            Indexer::Container => {
                out.extend(containers(pod).into_iter().map(|c| (c.id.clone(), of_container(kubernetes, &c))));
            }
            Indexer::PodName => out.push((name_of(pod), of_pod(kubernetes))),
            Indexer::PodUid => {
                out.extend(text(pod, "/metadata/uid").map(|uid| (uid.to_owned(), of_pod(kubernetes))));
            }
            Indexer::IpPort => ports(pod, kubernetes, &mut out),
        }
    }
    out
}

/// The pod's address, and the address with each port of a container. Pods of the host's network share theirs.
fn ports(pod: &Value, kubernetes: &Fields, out: &mut Vec<(String, Fields)>) {
    let Some(ip) = text(pod, "/status/podIP") else { return };
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return;
    }
    out.push((ip.to_owned(), of_pod(kubernetes)));
    let known = containers(pod);
    for container in pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten() {
        let Some(status) = known.iter().find(|c| text(container, "/name") == Some(&c.name)) else { continue };
        for port in container["ports"].as_array().into_iter().flatten() {
            if let Some(port) = port["containerPort"].as_u64() {
                out.push((format!("{ip}:{port}"), of_container(kubernetes, status)));
            }
        }
    }
}

/// The own pod's fields, from variables and the files of the downward API. `variable` looks up an environment variable;
/// `None` when it isn't said which pod this is.
pub fn own(
    variable: impl Fn(&str) -> Option<String>,
    labels: &str,
    annotations: &str,
    selection: &Selection,
) -> Option<Fields> {
    let get = |name: &str| variable(name).filter(|v| !v.is_empty());
    let mut pod = json!({
        "metadata": {
            "name": get("POD_NAME")?,
            "namespace": get("POD_NAMESPACE")?,
            "labels": pairs(labels),
            "annotations": pairs(annotations),
        },
    });
    for (name, section, key) in
        [("POD_UID", "metadata", "uid"), ("POD_IP", "status", "podIP"), ("NODE_NAME", "spec", "nodeName")]
    {
        if let Some(value) = get(name) {
            pod[section][key] = value.into();
        }
    }
    let scope = Scope { pod: selection.clone(), ..Scope::default() };
    let mut fields = kubernetes(&pod, Beside::default(), &scope);
    if fields.get("node").and_then(Value::as_object).is_some_and(Map::is_empty) {
        fields.remove("node");
    }
    if let Some(name) = get("PILLION_CONTAINER_NAME") {
        fields.insert("container".to_owned(), json!({"name": name}));
    }
    Some(of_pod(&fields))
}

/// A file of the downward API: `key="value"` in each line, the value with Go's escapes.
fn pairs(file: &str) -> Map<String, Value> {
    let one = |line: &str| {
        let (key, value) = line.split_once('=')?;
        // What Go quotes with %q is JSON but for a few escapes of control characters; those are kept as they stand.
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.trim_matches('"').to_owned());
        Some((key.to_owned(), Value::String(value)))
    };
    file.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1", "labels": {"app.kubernetes.io/name": "web"},
                "annotations": {"note": "n", "other": "o"},
                "ownerReferences": [{"kind": "Job", "name": "cron-29399000", "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "main", "ports": [{"containerPort": 80}]}]},
            "status": {"podIP": "10.1.0.9", "containerStatuses": [
                {"name": "main", "image": "docker.io/x:1", "containerID": "containerd://abc",
                    "lastState": {"terminated": {"containerID": "containerd://before"}}},
                {"name": "waiting", "image": "y"}]},
        })
    }

    #[test]
    fn fields_as_filebeat_has_them() {
        let selection = Selection { include_annotations: vec!["note".into()], ..Selection::default() };
        let scope = Scope { pod: selection, cronjob: true, ..Scope::default() };
        let node = json!({"metadata": {"uid": "nu", "labels": {"a.b": "c"}}, "status": {"addresses": [{"type": "Hostname", "address": "h1"}]}});
        let namespace = json!({"metadata": {"uid": "su", "labels": {"team": "t"}}});
        let beside = Beside { node: Some(&node), namespace: Some(&namespace) };
        let fields = kubernetes(&pod(), beside, &scope);
        assert_eq!(
            json!(fields),
            json!({
                "pod": {"name": "web-0", "uid": "u-1", "ip": "10.1.0.9"}, "namespace": "shop", "namespace_uid": "su",
                "namespace_labels": {"team": "t"}, "job": {"name": "cron-29399000"}, "cronjob": {"name": "cron"},
                "labels": {"app_kubernetes_io/name": "web"}, "annotations": {"note": "n"},
                "node": {"name": "n1", "uid": "nu", "hostname": "h1", "labels": {"a_b": "c"}},
            })
        );
        let all = [Indexer::Container, Indexer::PodName, Indexer::PodUid, Indexer::IpPort];
        let keys: Vec<String> = index(&pod(), &fields, &all).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["abc", "before", "shop/web-0", "u-1", "10.1.0.9", "10.1.0.9:80"]);
        let container = of_container(&fields, &containers(&pod())[0]);
        assert_eq!(
            container["container"],
            json!({"id": "abc", "runtime": "containerd", "image": {"name": "docker.io/x:1"}})
        );
        assert_eq!(container["kubernetes"]["container"], json!({"name": "main"}));
        let mut pod = pod();
        assert_eq!(discovered(&pod)[0].image, "docker.io/x:1");
        pod["spec"]["containers"][0]["image"] = "x:1".into();
        assert_eq!(discovered(&pod)[0].image, "x:1");
    }

    #[test]
    fn deployments_and_cron_jobs_by_the_names_of_what_they_make() {
        let owned = |kind: &str, name: &str| {
            json!({"metadata": {"labels": {"pod-template-hash": "84d4cbd8d"},
                "ownerReferences": [{"kind": kind, "name": name, "controller": true}]}})
        };
        assert_eq!(deployment(&owned("ReplicaSet", "web-84d4cbd8d")), Some("web"));
        assert_eq!(deployment(&owned("ReplicaSet", "bare")), None);
        assert_eq!(cronjob(&owned("Job", "nightly-29399000")), Some("nightly"));
        assert_eq!(cronjob(&owned("Job", "once-7")), None);
    }

    #[test]
    fn the_own_pod_from_the_downward_api() {
        let variable = |name: &str| match name {
            "POD_NAME" => Some("p".to_owned()),
            "POD_NAMESPACE" => Some("ns".to_owned()),
            "POD_UID" => Some("u".to_owned()),
            _ => None,
        };
        let labels = "app=\"a \\\"b\\\"\"\napp.x/y=\"z\"\n";
        let own_fields = own(variable, labels, "", &Selection::default()).unwrap();
        assert_eq!(
            json!(own_fields),
            json!({"kubernetes": {"pod": {"name": "p", "uid": "u"}, "namespace": "ns",
                "labels": {"app": "a \"b\"", "app_x/y": "z"}}})
        );
        assert!(own(|_| None, "", "", &Selection::default()).is_none());
    }
}
