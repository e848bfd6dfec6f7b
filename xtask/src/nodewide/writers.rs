//! Pods that write to standard output.
//!
//! Comes in: names, how many lines, how fast. Goes out: pods.
//! Always holds: a line is `NAME NUMBER …` with numbers from 1; a writer that has written all stays, so that nothing but
//! the shipper under test decides what becomes of its file.

use serde_json::{Value, json};

/// One writer.
pub(super) struct Writer {
    /// Its pod's name, and the first word of its lines.
    pub(super) name: String,
    /// How many lines it writes.
    pub(super) lines: usize,
    /// Lines between two pauses.
    pub(super) burst: usize,
    /// A pause, in milliseconds.
    pub(super) pause: usize,
}

/// What makes a line about 180 bytes long.
const FILLER: &str = "the quick brown fox jumps over the lazy dog and goes on to do so until the line has the length of one \
                      that a program writes when it is asked to be talkative";

impl Writer {
    pub(super) fn new(name: impl Into<String>, lines: usize) -> Writer {
        Writer { name: name.into(), lines, burst: lines, pause: 0 }
    }

    /// So many lines, then a pause in milliseconds, and so on.
    pub(super) fn paced(self, burst: usize, pause: usize) -> Writer {
        Writer { burst, pause, ..self }
    }

    /// Its pod.
    pub(super) fn pod(&self, namespace: &str) -> Value {
        let script = format!(
            "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo \"{} $i {FILLER}\"; [ $((i % {})) -ne 0 ] || usleep {}; done",
            self.lines,
            self.name,
            self.burst,
            self.pause * 1000
        );
        pod(namespace, &self.name, &json!({}), &json!({}), &[("main", &script)])
    }
}

/// A pod whose containers run a script and then stay.
pub(super) fn pod(
    namespace: &str,
    name: &str,
    labels: &Value,
    annotations: &Value,
    containers: &[(&str, &str)],
) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, script)| {
            let script = format!("{script}\nexec sleep 100000");
            json!({"name": name, "image": "busybox:1", "command": ["sh", "-c", script]})
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 1},
    })
}
