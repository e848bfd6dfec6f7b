//! The last look at a patch: what an injected pod may have that it hadn't.
//!
//! Comes in: the pod before and after. Goes out: yes, or what is wrong. It knows nothing of how injection works, so that a
//! mistake there, or an annotation that nobody thought of, can't become a way to more rights. Always holds, of what it
//! lets through:
//! - The work's containers keep image, rights and all else but command, arguments, variables and mounts.
//! - What is added runs the one image of the webhook's own options, not as root, without any capability.
//! - Added volumes are `emptyDir`, `configMap`, `downwardAPI`; no host path, no Secret, no token.
//! - Nothing else of the pod's spec changes but `terminationGracePeriodSeconds`, which only grows.
//!
//! Tested below, and with arbitrary annotations in `tests/webhook.rs`.

use serde_json::{Map, Value};

use crate::inject::Options;

/// What may change in a container of the work.
const OF_THE_WORK: [&str; 4] = ["command", "args", "env", "volumeMounts"];
/// The kinds of volumes that may be added.
const VOLUMES: [&str; 3] = ["emptyDir", "configMap", "downwardAPI"];

/// Checks an injected pod.
pub(crate) fn check(before: &Value, after: &Value, options: &Options) -> Result<(), String> {
    let none = Map::new();
    let (old, new) = (before["spec"].as_object().unwrap_or(&none), after["spec"].as_object().unwrap_or(&none));
    let keys = old.keys().chain(new.keys());
    for key in keys {
        let (old, new) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        match key.as_str() {
            "containers" | "initContainers" => containers(old, new, options)?,
            "volumes" => volumes(old, new)?,
            "terminationGracePeriodSeconds" if new.as_u64() >= old.as_u64() => {}
            _ if old == new => {}
            _ => return Err(format!("an injection must not change spec.{key}")),
        }
    }
    Ok(())
}

/// The items of two lists by name.
struct Paired<'a> {
    /// Each of the first with its successor.
    pairs: Vec<(&'a Value, &'a Value)>,
    /// Those that are new.
    added: Vec<&'a Value>,
}

fn paired<'a>(old: &'a Value, new: &'a Value) -> Result<Paired<'a>, String> {
    let list = |value: &'a Value| value.as_array().map_or(&[][..], Vec::as_slice);
    let (old, new) = (list(old), list(new));
    let mut pairs = Vec::new();
    for item in old {
        let next = new.iter().find(|n| n["name"] == item["name"]);
        pairs.push((item, next.ok_or_else(|| format!("an injection must not remove {}", item["name"]))?));
    }
    let added = new.iter().filter(|n| !old.iter().any(|o| o["name"] == n["name"])).collect();
    Ok(Paired { pairs, added })
}

fn containers(old: &Value, new: &Value, options: &Options) -> Result<(), String> {
    let Paired { pairs, added } = paired(old, new)?;
    for (old, new) in pairs {
        let without = |container: &Value| {
            let mut map = container.as_object().cloned().unwrap_or_default();
            map.retain(|key, _| !OF_THE_WORK.contains(&key.as_str()));
            map
        };
        if without(old) != without(new) {
            return Err(format!("an injection must not change the rights of container {}", old["name"]));
        }
    }
    added.into_iter().try_for_each(|container| sidecar(container, options))
}

fn sidecar(container: &Value, options: &Options) -> Result<(), String> {
    let deny = |what: &str| Err(format!("an added container must not have {what}"));
    let rights = &container["securityContext"];
    let drops_all = rights["capabilities"]["drop"].as_array().is_some_and(|drop| drop.iter().any(|c| c == "ALL"));
    match container {
        c if c["image"] != options.image.as_str() => deny("another image"),
        _ if rights["privileged"] == true || rights["allowPrivilegeEscalation"] != false => deny("privileges"),
        _ if !drops_all || !rights["capabilities"]["add"].is_null() => deny("capabilities"),
        _ if rights["runAsUser"] == 0 || rights["runAsNonRoot"] != true => deny("the rights of root"),
        _ if !rights["procMount"].is_null() || !rights["seLinuxOptions"].is_null() => deny("rights of its own"),
        c if !c["volumeDevices"].is_null() => deny("devices"),
        c if c["ports"].as_array().into_iter().flatten().any(|p| !p["hostPort"].is_null()) => deny("ports of the host"),
        _ => Ok(()),
    }
}

fn volumes(old: &Value, new: &Value) -> Result<(), String> {
    let Paired { pairs, added } = paired(old, new)?;
    if let Some((old, _)) = pairs.iter().find(|(old, new)| old != new) {
        return Err(format!("an injection must not change volume {}", old["name"]));
    }
    for volume in added {
        let kinds = volume.as_object().into_iter().flat_map(Map::keys).filter(|key| *key != "name");
        if let Some(kind) = kinds.into_iter().find(|kind| !VOLUMES.contains(&kind.as_str())) {
            return Err(format!("an added volume must not be of kind {kind}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sidecar() -> Value {
        json!({"name": "pillion", "image": "p:1", "securityContext": {"allowPrivilegeEscalation": false,
            "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}}})
    }

    fn after() -> Value {
        json!({"spec": {
            "containers": [{"name": "main", "image": "m", "command": ["wrapped"], "securityContext": {"runAsUser": 7}}, sidecar()],
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}}, {"name": "data", "emptyDir": {}}],
            "serviceAccountName": "a", "terminationGracePeriodSeconds": 60,
        }})
    }

    #[test]
    fn what_an_injection_does_is_let_through_and_nothing_else() {
        let before = json!({"spec": {
            "containers": [{"name": "main", "image": "m", "securityContext": {"runAsUser": 7}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
            "serviceAccountName": "a", "terminationGracePeriodSeconds": 30,
        }});
        let options = Options { image: "p:1".into(), ..Options::default() };
        check(&before, &after(), &options).unwrap();
        let table = [
            ("/spec/containers/0/image", json!("evil")),
            ("/spec/containers/0/securityContext/runAsUser", json!(0)),
            ("/spec/containers/0/name", json!("other")),
            ("/spec/containers/1/image", json!("evil")),
            ("/spec/containers/1/securityContext/privileged", json!(true)),
            ("/spec/containers/1/securityContext/allowPrivilegeEscalation", json!(true)),
            ("/spec/containers/1/securityContext/capabilities/add", json!(["SYS_ADMIN"])),
            ("/spec/containers/1/securityContext/capabilities/drop", json!(["NET_RAW"])),
            ("/spec/containers/1/securityContext/runAsUser", json!(0)),
            ("/spec/containers/1/securityContext/runAsNonRoot", json!(false)),
            ("/spec/containers/1/securityContext/procMount", json!("Unmasked")),
            ("/spec/containers/1/volumeDevices", json!([{"name": "d"}])),
            ("/spec/containers/1/ports", json!([{"containerPort": 1, "hostPort": 1}])),
            ("/spec/volumes/0/hostPath/path", json!("/")),
            ("/spec/volumes/1", json!({"name": "data", "hostPath": {"path": "/"}})),
            ("/spec/volumes/1", json!({"name": "data", "secret": {"secretName": "s"}})),
            ("/spec/volumes/1", json!({"name": "data", "emptyDir": {}, "projected": {}})),
            ("/spec/volumes", json!([])),
            ("/spec/hostPID", json!(true)),
            ("/spec/hostNetwork", json!(true)),
            ("/spec/serviceAccountName", json!("b")),
            ("/spec/terminationGracePeriodSeconds", json!(5)),
        ];
        for (at, value) in table {
            let mut after = after();
            let (parent, key) = at.rsplit_once('/').unwrap();
            match after.pointer_mut(parent).unwrap() {
                Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
                other => other[key] = value.clone(),
            }
            assert!(check(&before, &after, &options).is_err(), "{at} {value}");
        }
    }
}
