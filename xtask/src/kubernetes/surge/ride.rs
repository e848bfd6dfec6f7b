//! Who rides beside the work in a surge, and how its manifest is made from the plain one.
//!
//! Comes in: `deploy/examples/scaledjob.yml`, a ScaledJob without a sidecar. Goes out: the objects of each row, as text for
//! `kubectl apply`.
//! Always holds: Pillion's row is what `pillion inject` writes, untouched; every row has the same work and the same requests.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::kubernetes::example::Example;
use crate::kubernetes::{LUMBERJACK, Rig};
use crate::{Outcome, child, root};

/// The plain manifest, under `deploy/examples`.
const PLAIN: &str = "scaledjob";
/// The name of Filebeat's image on the node.
pub(in crate::kubernetes) const FILEBEAT: &str = "localhost/filebeat:7.17.29";
/// What each container requests: with the usual 10m a node of two processors takes only a hundred pods.
pub(in crate::kubernetes) const CPU: &str = "1m";
/// The usual workaround, as in `deploy/examples/a-shell-loop.yml`.
const LOOP: &str = "filebeat -e -c /etc/filebeat/filebeat.yml & \
    while [ ! -f /data/completion-flag ]; do sleep 1; done && exit 0";

/// Who rides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ride {
    /// The work alone.
    None,
    /// What `pillion inject` adds: a native sidecar.
    Pillion,
    /// The real Filebeat in the usual workaround: a flag and a shell loop.
    FilebeatLoop,
    /// The real Filebeat as a native sidecar, which gets SIGTERM when the work has ended.
    FilebeatNative,
}

impl Ride {
    pub(super) const ALL: [Ride; 4] = [Ride::None, Ride::Pillion, Ride::FilebeatLoop, Ride::FilebeatNative];

    /// Its name on the command line, and in its namespace's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Ride::None => "none",
            Ride::Pillion => "pillion",
            Ride::FilebeatLoop => "filebeat-loop",
            Ride::FilebeatNative => "filebeat-native",
        }
    }

    /// Its name in the table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Ride::None => "none",
            Ride::Pillion => "Pillion, by `inject`",
            Ride::FilebeatLoop => "Filebeat 7.17.29, shell loop",
            Ride::FilebeatNative => "Filebeat 7.17.29, native sidecar",
        }
    }

    /// The program in the sidecar.
    pub(super) fn program(self) -> &'static str {
        if self.is_filebeat() { "filebeat" } else { "pillion" }
    }

    pub(super) fn is_filebeat(self) -> bool {
        matches!(self, Ride::FilebeatLoop | Ride::FilebeatNative)
    }

    /// The objects of this row.
    pub(super) fn manifest(self, rig: &Rig) -> Outcome<String> {
        let path = root().join("deploy/examples").join(format!("{PLAIN}.yml"));
        let plain = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let plain = plain.replace("cpu: 10m", &format!("cpu: {CPU}"));
        match self {
            Ride::None => Ok(plain),
            Ride::Pillion => {
                let path = rig.node.folder("plain.yml");
                fs::write(&path, plain).map_err(|e| format!("{}: {e}", path.display()))?;
                let mut inject = Command::new(&rig.program);
                inject.args(["inject", "--kube-version", "1.34", "-f"]).arg(&path);
                let output = format!("output=logstash=logstash.logging:{LUMBERJACK}");
                let resources = format!("resources=requests.cpu={CPU}");
                for setting in [&output, &resources, "image=localhost/pillion:0.1.0", "pull_policy=Never"] {
                    inject.args(["--set", setting]);
                }
                child::run(&mut inject)
            }
            Ride::FilebeatLoop | Ride::FilebeatNative => {
                let mut example = Example::read(&rig.node, PLAIN)?;
                let pod = &mut example.object("ScaledJob")["spec"]["jobTargetRef"]["template"]["spec"];
                pod["containers"][0]["resources"]["requests"]["cpu"] = CPU.into();
                self.seat_filebeat(pod);
                let config = config();
                example.add(json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "filebeat"},
                    "data": {"filebeat.yml": config},
                }));
                Ok(example.text())
            }
        }
    }

    fn seat_filebeat(self, pod: &mut Value) {
        let command = match self {
            Ride::FilebeatNative => json!(["filebeat", "-e", "-c", "/etc/filebeat/filebeat.yml"]),
            _ => json!(["/bin/sh", "-c", LOOP]),
        };
        let mut sidecar = json!({
            "name": "filebeat", "image": FILEBEAT, "imagePullPolicy": "Never", "command": command,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "resources": {"requests": {"cpu": CPU, "memory": "16Mi"}, "limits": {"memory": "512Mi"}},
            "volumeMounts": [
                {"name": "data", "mountPath": "/data"}, {"name": "filebeat", "mountPath": "/etc/filebeat"},
                {"name": "state", "mountPath": "/usr/share/filebeat/data"},
            ],
        });
        if let Some(volumes) = pod["volumes"].as_array_mut() {
            volumes.push(json!({"name": "filebeat", "configMap": {"name": "filebeat"}}));
            volumes.push(json!({"name": "state", "emptyDir": {}}));
        }
        if self == Ride::FilebeatNative {
            sidecar["restartPolicy"] = "Always".into();
            pod["initContainers"] = json!([sidecar]);
        } else if let Some(containers) = pod["containers"].as_array_mut() {
            containers[0]["command"] = json!(["sh", "-c", "sh /job/work.sh; touch /data/completion-flag"]);
            containers.push(sidecar);
        }
    }
}

fn config() -> String {
    format!(
        "filebeat.inputs:\n- type: log\n  paths: [/data/*.log]\noutput.logstash:\n  hosts: [\"logstash.logging:{LUMBERJACK}\"]\n"
    )
}
