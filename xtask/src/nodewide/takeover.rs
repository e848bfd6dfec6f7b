//! From Filebeat to Pillion as docs/migration.md says it: on the same data path, in mid-work.
//!
//! Comes in: the stage. Goes out: what was compared.
//! Always holds: no line is missing and none comes twice, whichever program has sent it.

use serde_json::json;

use super::shippers::Program;
use super::under_load::{clean, config, make};
use super::writers::Writer;
use super::{LIMIT, PORT, Stage};
use crate::kubernetes::node::Node;
use crate::kubernetes::{api, example, pods};
use crate::{Outcome, wait};

/// A DaemonSet, its data on a folder of the node, there and back.
pub(super) fn daemonset(stage: &Stage<'_>) -> Outcome<String> {
    let namespace = "nw-takeover";
    let (_endpoint, mut arrived) = stage.endpoint(namespace, 2)?;
    // As step 2 of the guide: what is sent is acknowledged before the end.
    let config = config(2, "filebeat.shutdown_timeout: 10s\n");
    stage.ship(Program::Filebeat, Some(&config), namespace)?;
    // Less than kubelet rotates: a file that is renamed while nobody runs isn't found again, as the guide says.
    let writers = make(stage, namespace, 3, |w| w.paced(10, 100), 4_000)?;
    let mut by = Vec::new();
    let mut before = 0;
    for (program, next, mark) in [
        (Program::Filebeat, Some(Program::Pillion), 2_000),
        (Program::Pillion, Some(Program::Filebeat), 5_000),
        (Program::Filebeat, Some(Program::Pillion), 8_000),
        (Program::Pillion, None, 12_000),
    ] {
        let context = |why: String| format!("{program:?} after {by:?}: {why}; {}", stage.said(namespace));
        arrived.wait(&writers, mark).map_err(context)?;
        stage.end(program)?;
        let there = arrived.count(&writers)?;
        by.push(format!("{} {}", program.name(), there - before));
        before = there;
        if let Some(next) = next {
            stage.ship(next, Some(&config), namespace)?;
        }
    }
    let compared = arrived.check(&writers, false)?;
    clean(stage, namespace)?;
    Ok(format!("{compared}: {}", by.join(", then ")))
}

/// A sidecar whose data and logs lie on a volume that outlives the pod: the image is changed.
pub(super) fn sidecar(stage: &Stage<'_>) -> Outcome<String> {
    let namespace = "nw-sidecar";
    let (_endpoint, mut arrived) = stage.endpoint(namespace, 3)?;
    example::namespace(namespace, "privileged")?;
    let folder = stage.rig.node.folder("data").join(namespace).display().to_string();
    let config = format!(
        "filebeat.inputs:\n- type: log\n  paths: [/data/*.log]\nfilebeat.shutdown_timeout: 10s\npath.data: /data/filebeat\n\
         output.logstash.hosts: [\"{}:{}\"]\n",
        Node::ADDRESS,
        PORT + 3
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": namespace},
        "data": {"filebeat.yml": config}});
    stage.apply(&[map])?;
    let (writer, mut said) = (Writer::new("nw-sidecar", 900), Vec::new());
    for (n, program) in [Program::Filebeat, Program::Pillion, Program::Filebeat].into_iter().enumerate() {
        // Each pod's work goes on in the file of the one before.
        let script = format!(
            "for i in $(seq {} {}); do echo \"nw-sidecar $i\" >>/data/app.log; usleep 5000; done; exec sleep 100000",
            n * 300 + 1,
            n * 300 + 300
        );
        let name = format!("ride-{n}");
        stage.apply(&[pod(stage, namespace, &name, &script, program, &folder)])?;
        let all = [Writer::new("nw-sidecar", (n + 1) * 300)];
        arrived.wait(&all, (n + 1) * 300).map_err(|why| {
            let logs = stage.rig.kubectl(&["-n", namespace, "logs", &name, "-c", "filebeat", "--tail=20"]);
            format!("{program:?}: {why}; {}", logs.unwrap_or_else(|e| e))
        })?;
        api::delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))?;
        wait::until("the pod's end", LIMIT, || Ok(pods::all(namespace)?.is_empty().then_some(())))?;
        said.push(program.name());
    }
    let compared = arrived.check(&[writer], false)?;
    clean(stage, namespace)?;
    Ok(format!("{compared}: {}", said.join(", then ")))
}

fn pod(
    stage: &Stage<'_>,
    namespace: &str,
    name: &str,
    script: &str,
    program: Program,
    folder: &str,
) -> serde_json::Value {
    let mut mounts =
        vec![json!({"name": "data", "mountPath": "/data"}), json!({"name": "config", "mountPath": "/config"})];
    let mut volumes = vec![
        json!({"name": "data", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}),
        json!({"name": "config", "configMap": {"name": "config"}}),
    ];
    let (image, command) = match program {
        Program::Pillion => ("localhost/pillion:0.1.0", "filebeat"),
        Program::Filebeat => ("busybox:1", "/opt/filebeat"),
    };
    if program == Program::Filebeat {
        let of = stage.filebeat.parent().unwrap_or(&stage.filebeat).display().to_string();
        for (n, path, inside) in [
            ("opt", of.as_str(), "/opt"),
            ("lib", "/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"),
            ("lib64", "/lib64", "/lib64"),
        ] {
            mounts.push(json!({"name": n, "mountPath": inside, "readOnly": true}));
            volumes.push(json!({"name": n, "hostPath": {"path": path}}));
        }
    }
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 15, "volumes": volumes, "restartPolicy": "Never", "containers": [
            {"name": "main", "image": "busybox:1", "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
            {"name": "filebeat", "image": image, "volumeMounts": mounts, "securityContext": {"runAsUser": 0},
                "command": [command, "-e", "-c", "/config/filebeat.yml", "-strict.perms=false"]},
        ]},
    })
}
