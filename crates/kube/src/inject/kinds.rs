//! Where the objects of Kubernetes hold pods.
//!
//! Comes in: an object. Goes out: a [`Place`] for each pod that it describes; none for kinds that aren't known.
//! Tested below.

use serde_json::Value;

use super::Refusal;

/// What describes a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Kubernetes' own pod template: `metadata` and `spec`.
    Pod,
    /// A template of an Argo Workflow: `metadata` beside `container`, `script` or `containerSet`.
    Argo,
}

/// One pod described by an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The JSON pointer to what describes it.
    pub(crate) at: String,
    pub(crate) shape: Shape,
    /// The JSON pointer to the object itself: of a `List`'s item.
    pub(crate) object: String,
}

/// Kinds with one pod template: the first part of `apiVersion` (`""` for the core), the kind, and where the template is.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("keda.sh", "ScaledJob", "/spec/jobTargetRef/template"),
];

/// Argo's kinds, and where their specification is.
const WORKFLOWS: &[(&str, &str)] = &[
    ("ClusterWorkflowTemplate", "/spec"),
    ("CronWorkflow", "/spec/workflowSpec"),
    ("Workflow", "/spec"),
    ("WorkflowTemplate", "/spec"),
];

/// Deepest nesting of lists within lists.
const MAX_LISTS: usize = 8;

/// The pods that an object describes, in its order.
pub(crate) fn places(object: &Value) -> Result<Vec<Place>, Refusal> {
    let mut found = Vec::new();
    search(object, String::new(), 0, &mut found)?;
    Ok(found)
}

fn search(object: &Value, at: String, depth: usize, found: &mut Vec<Place>) -> Result<(), Refusal> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group.is_empty() && kind == "List" {
        if depth == MAX_LISTS {
            return Err(Refusal::new(at, "lists within lists", "write the objects one after another"));
        }
        for (i, item) in object.get("items").and_then(Value::as_array).into_iter().flatten().enumerate() {
            search(item, format!("{at}/items/{i}"), depth + 1, found)?;
        }
        return Ok(());
    }
    if let Some((.., template)) = TEMPLATES.iter().find(|(g, k, _)| *g == group && *k == kind) {
        if object.pointer(template).is_none_or(|template| !template["spec"].is_object()) {
            let (at, what) = (format!("{at}{template}"), if template.is_empty() { "pod" } else { "pod template" });
            return Err(Refusal::new(at, format!("this {kind} has no {what} with a `spec`"), "complete the manifest"));
        }
        found.push(Place { at: format!("{at}{template}"), shape: Shape::Pod, object: at });
        return Ok(());
    }
    if let Some((_, spec)) = WORKFLOWS.iter().find(|(k, _)| group == "argoproj.io" && *k == kind) {
        let templates = object.pointer(&format!("{spec}/templates")).and_then(Value::as_array);
        for (i, template) in templates.into_iter().flatten().enumerate() {
            if ["container", "script", "containerSet"].iter().any(|key| template[key].is_object()) {
                found.push(Place { at: format!("{at}{spec}/templates/{i}"), shape: Shape::Argo, object: at.clone() });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_found_in_every_kind() {
        let pod = json!({"spec": {}});
        let of = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "spec": spec});
        let templates = json!([{"container": {}}, {"steps": []}, {"script": {}}]);
        for (object, expected) in [
            (of("v1", "Pod", json!({})), vec![""]),
            (of("batch/v1", "Job", json!({"template": pod})), vec!["/spec/template"]),
            (
                of("batch/v1beta1", "CronJob", json!({"jobTemplate": {"spec": {"template": pod}}})),
                vec!["/spec/jobTemplate/spec/template"],
            ),
            (of("apps/v1", "StatefulSet", json!({"template": pod})), vec!["/spec/template"]),
            (
                of("keda.sh/v1alpha1", "ScaledJob", json!({"jobTargetRef": {"template": pod}})),
                vec!["/spec/jobTargetRef/template"],
            ),
            (
                of("argoproj.io/v1alpha1", "CronWorkflow", json!({"workflowSpec": {"templates": templates}})),
                vec!["/spec/workflowSpec/templates/0", "/spec/workflowSpec/templates/2"],
            ),
            (of("v1", "ConfigMap", json!({})), vec![]),
            (of("example.org/v1", "Job", json!({})), vec![]),
            (json!({}), vec![]),
            (json!(null), vec![]),
            (json!({"apiVersion": "v1", "kind": "List", "items": [1, of("v1", "Pod", json!({}))]}), vec!["/items/1"]),
        ] {
            let found: Vec<String> = places(&object).unwrap().into_iter().map(|p| p.at).collect();
            assert_eq!(found, expected, "{object}");
        }
    }

    #[test]
    fn a_template_that_is_missing_is_told() {
        let refusal = places(&json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {}})).unwrap_err();
        assert_eq!(refusal.at, "/spec/template");
    }
}
