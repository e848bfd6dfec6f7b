//! Who ships what the pods write into the shared folder, and how that is set up.
//!
//! Comes in: the examples of `deploy/examples`. Goes out: the objects of each row.
//! Always holds: every row has the same work; Pillion's sidecars are what `pillion inject` writes, its replicas those of
//! `replicas.yml`; all ship to one index of the row's own, and no other setting of theirs is changed.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::folder::{Folder, Side};
use super::replicas::Replicas;
use crate::kubernetes::node::Node;
use crate::kubernetes::surge::ride::{CPU, FILEBEAT};
use crate::kubernetes::{Rig, api, example};
use crate::{Outcome, child, root};

/// Who ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// The work alone.
    Nobody,
    /// What `pillion inject` adds to each pod.
    Sidecars,
    /// One Pillion, without `pillion.shards`.
    Central,
    /// So many replicas.
    Replicas(usize),
    /// One real Filebeat; whether it is killed midway.
    Filebeat(bool),
}

impl Row {
    pub(super) const ALL: [Row; 8] = [
        Row::Nobody,
        Row::Sidecars,
        Row::Central,
        Row::Replicas(1),
        Row::Replicas(2),
        Row::Replicas(4),
        Row::Filebeat(false),
        Row::Filebeat(true),
    ];

    /// Its name on the command line, in its namespaces' names and as its index.
    pub(super) fn name(self) -> String {
        match self {
            Row::Nobody => "nobody".into(),
            Row::Sidecars => "sidecars".into(),
            Row::Central => "central".into(),
            Row::Replicas(n) => format!("replicas-{n}"),
            Row::Filebeat(false) => "filebeat".into(),
            Row::Filebeat(true) => "filebeat-killed".into(),
        }
    }

    /// Its name in the table.
    pub(super) fn title(self) -> String {
        match self {
            Row::Nobody => "nobody".into(),
            Row::Sidecars => "Pillion, a sidecar in each pod, by `inject`".into(),
            Row::Central => "Pillion, one, without `pillion.shards`".into(),
            Row::Replicas(1) => "Pillion, 1 replica".into(),
            Row::Replicas(n) => format!("Pillion, {n} replicas"),
            Row::Filebeat(_) => "Filebeat 7.17.29, one".into(),
        }
    }

    /// The program that ships.
    pub(super) fn program(self) -> &'static str {
        if self.is_filebeat() { "filebeat" } else { "pillion" }
    }

    pub(super) fn is_filebeat(self) -> bool {
        matches!(self, Row::Filebeat(_))
    }

    /// Whether one shipper is killed midway. A sidecar isn't: killed as its work ends, it isn't started again by Kubernetes,
    /// and what it leaves is for `pillion sweep`.
    pub(super) fn is_hurt(self) -> bool {
        !matches!(self, Row::Nobody | Row::Sidecars | Row::Filebeat(false))
    }

    /// The namespace of the work.
    pub(super) fn work(self) -> String {
        format!("work-{}", self.name())
    }

    /// The namespace of the shippers: their own where they are central.
    pub(super) fn shippers(self) -> String {
        if self == Row::Sidecars { self.work() } else { format!("ship-{}", self.name()) }
    }

    /// The index.
    pub(super) fn index(self) -> String {
        format!("shared-{}", self.name())
    }

    /// Makes central shippers and waits until they are ready; nothing for others.
    pub(super) fn begin(self, rig: &Rig, folder: &Folder, port: u16) -> Outcome {
        match self {
            Row::Nobody | Row::Sidecars => Ok(()),
            Row::Central => Replicas::create(rig, &self.shippers(), folder, (1, false), &self.output(port)).map(drop),
            Row::Replicas(n) => {
                Replicas::create(rig, &self.shippers(), folder, (n, true), &self.output(port)).map(drop)
            }
            Row::Filebeat(_) => self.filebeat(rig, folder, port),
        }
    }

    fn output(self, port: u16) -> String {
        format!(
            "output.elasticsearch:\n  hosts: ['http://{}:{port}']\n  index: {}\nsetup.template.enabled: false\n\
             setup.ilm.enabled: false\n",
            Node::ADDRESS,
            self.index()
        )
    }

    /// The ScaledJob with its volume, and its sidecar where it has one.
    pub(super) fn manifest(self, rig: &Rig, port: u16) -> Outcome<String> {
        let path = root().join("deploy/examples/scaledjob.yml");
        let plain = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let volume = "- {name: data, persistentVolumeClaim: {claimName: logs}}";
        let plain = plain.replace("cpu: 10m", &format!("cpu: {CPU}")).replace("- {name: data, emptyDir: {}}", volume);
        if self != Row::Sidecars {
            return Ok(plain);
        }
        let folder = rig.node.folder("injected-shared");
        let (manifest, config) = (folder.join("plain.yml"), folder.join("filebeat.yml"));
        let text =
            format!("filebeat.inputs:\n- type: filestream\n  id: work\n  paths: [/data/*.log]\n{}", self.output(port));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&manifest, plain))
            .and_then(|()| fs::write(&config, text))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut inject = Command::new(&rig.program);
        inject.args(["inject", "--kube-version", "1.34", "--config"]).arg(&config).arg("-f").arg(&manifest);
        let resources = format!("resources=requests.cpu={CPU}");
        // 200 drains at once share the processors with the server that they wait for: a kill after the usual 30 s leaves lines
        // on the volume, for a sweep that isn't set up here.
        let grace = "grace_period=300";
        for setting in ["paths=/data", &resources, "image=localhost/pillion:0.1.0", "pull_policy=Never", grace] {
            inject.args(["--set", setting]);
        }
        child::run(&mut inject)
    }

    fn filebeat(self, rig: &Rig, folder: &Folder, port: u16) -> Outcome {
        let namespace = self.shippers();
        example::namespace(&namespace, "restricted")?;
        folder.claim(&namespace, Side::Readers)?;
        // It refuses servers that are older than itself.
        let output = self.output(port).replace("  index:", "  allow_older_versions: true\n  index:");
        let config = format!("filebeat.inputs:\n- type: log\n  paths: [/logs/*.log]\n{output}");
        api::create(
            &namespace,
            &json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "filebeat"},
                "data": {"filebeat.yml": config},
            }),
        )?;
        api::create(&namespace, &filebeat_pod())?;
        crate::wait::until("Filebeat to run", std::time::Duration::from_secs(60), || {
            let pod = api::get(&format!("/api/v1/namespaces/{namespace}/pods/filebeat"))?;
            Ok((pod["status"]["phase"] == "Running").then_some(()))
        })
        .map_err(|why| format!("{why}; {}", crate::kubernetes::look::look(&rig.node, &namespace)))
    }
}

/// A pod, so that it comes again under its name when it is killed; its registry is on an emptyDir.
fn filebeat_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filebeat"},
        "spec": {
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "filebeat", "image": FILEBEAT, "imagePullPolicy": "Never",
                "command": ["filebeat", "-e", "-c", "/etc/filebeat/filebeat.yml"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "2Gi"}},
                "volumeMounts": [
                    {"name": "logs", "mountPath": "/logs"}, {"name": "filebeat", "mountPath": "/etc/filebeat"},
                    {"name": "state", "mountPath": "/usr/share/filebeat/data"},
                ],
            }],
            "volumes": [
                {"name": "logs", "persistentVolumeClaim": {"claimName": "logs"}},
                {"name": "filebeat", "configMap": {"name": "filebeat"}}, {"name": "state", "emptyDir": {}},
            ],
        },
    })
}
