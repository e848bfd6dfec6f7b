//! Kubelet's rotation, and shippers that are killed and replaced, while containers write.
//!
//! Comes in: the stage. Goes out: what was compared.
//! Always holds: nothing is lost; nothing comes twice where the shipper wasn't killed.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::arrived::Arrived;
use super::shippers::Program;
use super::writers::Writer;
use super::{LIMIT, PORT, Stage};
use crate::kubernetes::node::Node;
use crate::kubernetes::{example, pods};
use crate::{Outcome, wait};

/// The example's inputs and processors with a target of the case's own.
pub(super) fn config(at: u16, more: &str) -> String {
    format!(
        "filebeat.inputs:
- type: container
  paths: [/var/log/containers/*_nw-*.log]
processors:
- add_kubernetes_metadata:
    host: ${{NODE_NAME}}
    matchers:
    - logs_path: {{logs_path: /var/log/containers/}}
{more}output.logstash.hosts: [\"{}:{}\"]
",
        Node::ADDRESS,
        PORT + at
    )
}

/// Five rotations and more of each file while all of it is read.
pub(super) fn rotation(stage: &Stage<'_>) -> Outcome<String> {
    let namespace = "nw-rotation";
    let (_endpoint, mut arrived) = stage.endpoint(namespace, 0)?;
    stage.ship(Program::Pillion, Some(&config(0, "")), namespace)?;
    let writers = make(stage, namespace, 2, |w| w.paced(1000, 250), 40_000)?;
    let all = 80_000;
    let mut files = HashSet::new();
    let outcome = watched(stage, namespace, &mut arrived, &writers, all, &mut files);
    let compared = outcome
        .and_then(|()| arrived.check(&writers, false))
        .map_err(|why| format!("{why}; {}", stage.said(namespace)))?;
    stage.end(Program::Pillion)?;
    let rotations = files.len() - writers.len();
    if rotations < 2 * writers.len() {
        return Err(format!("kubelet rotated {rotations} times only: nothing is shown"));
    }
    clean(stage, namespace)?;
    Ok(format!("{compared}; {rotations} rotations"))
}

/// Waits for all lines, and collects the inodes that the writers' files had meanwhile.
fn watched(
    stage: &Stage<'_>,
    namespace: &str,
    arrived: &mut Arrived,
    writers: &[Writer],
    all: usize,
    files: &mut HashSet<u64>,
) -> Outcome {
    let logs = stage.rig.node.folder("log/pods");
    wait::until("all lines to arrive", LIMIT, || {
        for folder in fs::read_dir(&logs).into_iter().flatten().flatten() {
            if folder.file_name().to_string_lossy().starts_with(namespace)
                && let Ok(file) = fs::metadata(folder.path().join("main/0.log"))
            {
                files.insert(file.ino());
            }
        }
        let there = arrived.count(writers)?;
        std::thread::sleep(std::time::Duration::from_millis(100));
        Ok((there >= all).then_some(()))
    })
    .or_else(|why| arrived.check(writers, true).map(drop).map_err(|more| format!("{why}: {more}")))
}

/// Killed with SIGKILL twice, replaced by a new pod twice, in mid-work.
pub(super) fn restarts(stage: &Stage<'_>) -> Outcome<String> {
    let namespace = "nw-restarts";
    let (_endpoint, mut arrived) = stage.endpoint(namespace, 1)?;
    stage.ship(Program::Pillion, Some(&config(1, "")), namespace)?;
    // Less than kubelet rotates: a file that is renamed while nobody runs isn't found again (docs/migration.md).
    let writers = make(stage, namespace, 3, |w| w.paced(10, 100), 4_000)?;
    let mut said = Vec::new();
    let mut mark = 1_000;
    for kill in [true, false, true, false] {
        arrived.wait(&writers, mark).map_err(|why| format!("{why}; {}", stage.said(namespace)))?;
        let pod = stage.shipper(Program::Pillion)?;
        if kill {
            let id = |pod: &serde_json::Value| pods::status(pod, "pillion").map(|s| s["containerID"].clone());
            let before = id(&pod);
            pods::kill(&pod, "pillion")?;
            wait::until("another container", LIMIT, || {
                Ok(Some(stage.shipper(Program::Pillion)?).filter(|p| id(p) != before).map(drop))
            })?;
        } else {
            stage.rig.kubectl(&["-n", super::HOME, "delete", "pod", pods::name(&pod), "--wait=true"])?;
        }
        said.push(if kill { "killed" } else { "deleted" });
        mark = arrived.count(&writers)? + 1_000;
    }
    arrived.wait(&writers, 12_000).map_err(|why| format!("{why}; {}", stage.said(namespace)))?;
    let compared = arrived.check(&writers, true)?;
    stage.end(Program::Pillion)?;
    clean(stage, namespace)?;
    Ok(format!("{compared}; {}", said.join(", ")))
}

/// Makes writers in a namespace of their own.
pub(super) fn make(
    stage: &Stage<'_>,
    namespace: &str,
    n: usize,
    pace: impl Fn(Writer) -> Writer,
    lines: usize,
) -> Outcome<Vec<Writer>> {
    example::namespace(namespace, "privileged")?;
    let writers: Vec<Writer> = (0..n).map(|i| pace(Writer::new(format!("{namespace}-{i}"), lines))).collect();
    let pods: Vec<_> = writers.iter().map(|w| w.pod(namespace)).collect();
    stage.apply(&pods)?;
    Ok(writers)
}

/// Deletes a case's namespace; its end isn't waited for.
pub(super) fn clean(stage: &Stage<'_>, namespace: &str) -> Outcome {
    stage.rig.kubectl(&["delete", "namespace", namespace, "--wait=false"]).map(drop)
}
