//! The Kubernetes API, as tests use it.
//!
//! Comes in: paths and objects. Goes out: objects as JSON.
//! Always holds: the calling thread is in the node's network, where `kubectl proxy` answers.

use serde_json::Value;

use super::node::Node;
use crate::Outcome;
use crate::http;

/// Gets an object or a list.
pub(crate) fn get(path: &str) -> Outcome<Value> {
    Ok(http::request(Node::PORT, "GET", path, b"")?.good()?.json())
}

/// Makes an object.
pub(crate) fn create(namespace: &str, object: &Value) -> Outcome<Value> {
    let body = object.to_string().into_bytes();
    Ok(http::request(Node::PORT, "POST", &collection(namespace, object)?, &body)?.good()?.json())
}

/// Deletes an object; its pods get their grace period.
pub(crate) fn delete(path: &str) -> Outcome {
    let body = br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#;
    http::request(Node::PORT, "DELETE", path, body)?.good().map(drop)
}

/// The path of the list that an object belongs into.
fn collection(namespace: &str, object: &Value) -> Outcome<String> {
    let (version, kind) = (text(object, "apiVersion"), text(object, "kind"));
    let group = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let name = match kind.as_str() {
        "Namespace" => return Ok(format!("{group}/namespaces")),
        "PersistentVolume" => return Ok(format!("{group}/persistentvolumes")),
        "CustomResourceDefinition" => return Ok(format!("{group}/customresourcedefinitions")),
        "" => return Err(format!("no kind: {object}")),
        kind => format!("{}s", kind.to_lowercase()),
    };
    Ok(format!("{group}/namespaces/{namespace}/{name}"))
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

/// The items of a list.
pub(crate) fn items(path: &str) -> Outcome<Vec<Value>> {
    Ok(get(path)?["items"].as_array().cloned().unwrap_or_default())
}
