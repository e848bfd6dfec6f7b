//! What is kept of the API's objects: a node's pods cost some kilobytes each, whatever their makers write into them.
//!
//! Comes in: pods, nodes, namespaces as the API has them. Goes out: the same without what nobody asks for. Tested below.

use pillion_process::kubernetes::Selection;
use serde_json::{Map, Value, json};

/// What kubectl writes into every object: its whole text once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The members of an object at `pointer` that have these names.
fn some(object: &Value, pointer: &str, keys: &[&str]) -> Map<String, Value> {
    let all = object.pointer(pointer).and_then(Value::as_object);
    let wanted = all.into_iter().flatten().filter(|(key, _)| keys.contains(&key.as_str()));
    wanted.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The items of a list at `pointer`, each with the members that `each` leaves.
fn list(object: &Value, pointer: &str, each: impl Fn(&Value) -> Map<String, Value>) -> Option<Value> {
    let items = object.pointer(pointer)?.as_array()?;
    Some(items.iter().map(|item| Value::Object(each(item))).collect())
}

/// Of a pod: who it is, its labels and annotations, who made it, its containers with their ports and ids.
pub(crate) fn slim_pod(pod: &Value, selection: &Selection) -> Value {
    let mut metadata =
        some(pod, "/metadata", &["name", "namespace", "uid", "labels", "annotations", "ownerReferences"]);
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations")
        && !selection.include_annotations.iter().any(|a| a == LAST_APPLIED)
    {
        annotations.remove(LAST_APPLIED);
    }
    let mut spec = some(pod, "/spec", &["nodeName", "hostNetwork"]);
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        if let Some(containers) = list(pod, &format!("/spec/{key}"), |c| some(c, "", &["name", "image", "ports"])) {
            spec.insert(key.to_owned(), containers);
        }
    }
    let mut status = some(pod, "/status", &["podIP", "phase"]);
    for key in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        let each = |container: &Value| {
            let mut out = some(container, "", &["name", "image", "containerID"]);
            if let Some(id) = container.pointer("/lastState/terminated/containerID") {
                out.insert("lastState".to_owned(), json!({"terminated": {"containerID": id}}));
            }
            out
        };
        if let Some(statuses) = list(pod, &format!("/status/{key}"), each) {
            status.insert(key.to_owned(), statuses);
        }
    }
    json!({"metadata": metadata, "spec": spec, "status": status})
}

/// Of a node or a namespace: who it is, its labels and annotations, and its addresses.
pub(crate) fn slim(object: &Value) -> Value {
    let mut metadata = some(object, "/metadata", &["name", "uid", "labels", "annotations"]);
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
    match object.pointer("/status/addresses") {
        Some(addresses) => json!({"metadata": metadata, "status": {"addresses": addresses}}),
        None => json!({"metadata": metadata}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asks_for_is_left_out() {
        let pod = json!({
            "metadata": {"name": "p", "uid": "u", "managedFields": [1], "annotations": {LAST_APPLIED: "{}", "a": "b"}},
            "spec": {"nodeName": "n", "volumes": [1], "containers": [{"name": "m", "image": "i", "ports": [], "env": [1]}]},
            "status": {"podIP": "10.1.1.1", "conditions": [1], "containerStatuses": [
                {"name": "m", "image": "i", "containerID": "x://2", "state": {"running": {}},
                    "lastState": {"terminated": {"containerID": "x://1", "message": "long"}}}]},
        });
        let slim = slim_pod(&pod, &Selection::default());
        assert_eq!(
            slim,
            json!({
                "metadata": {"name": "p", "uid": "u", "annotations": {"a": "b"}},
                "spec": {"nodeName": "n", "containers": [{"name": "m", "image": "i", "ports": []}]},
                "status": {"podIP": "10.1.1.1", "containerStatuses": [{"name": "m", "image": "i", "containerID": "x://2",
                    "lastState": {"terminated": {"containerID": "x://1"}}}]},
            })
        );
        assert_eq!(slim_pod(&slim, &Selection::default()), slim);
        let wanted = Selection { include_annotations: vec![LAST_APPLIED.to_owned()], ..Selection::default() };
        assert_eq!(slim_pod(&pod, &wanted)["metadata"]["annotations"][LAST_APPLIED], "{}");
    }
}
