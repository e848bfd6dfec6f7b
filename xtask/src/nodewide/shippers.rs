//! The DaemonSets: Pillion's as `deploy/examples` has it, and the same with the real Filebeat in its place.
//!
//! Comes in: what is changed: configuration, data folder, program. Goes out: a DaemonSet that runs, and its end.

use serde_json::{Value, json};

use super::{HOME, LIMIT, Stage};
use crate::kubernetes::pods;
use crate::{Outcome, root, wait};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Pillion,
    Filebeat,
}

impl Program {
    /// The DaemonSet's name.
    pub(super) fn name(self) -> &'static str {
        if self == Program::Pillion { "pillion" } else { "filebeat" }
    }
}

impl Stage<'_> {
    /// The objects of the example, in the namespace of the tests.
    fn manifest(&self) -> Outcome<Vec<Value>> {
        let path = root().join("deploy/examples/daemonset.yml");
        let mut kubectl = self.rig.node.kubectl();
        kubectl.args(["create", "--dry-run=client", "--validate=false", "-o", "json", "-f"]).arg(path);
        let text = crate::child::run(&mut kubectl)?
            .replace("\"namespace\": \"logging\"", &format!("\"namespace\": \"{HOME}\""));
        let objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>().collect::<Result<Vec<Value>, _>>();
        let objects = objects.map_err(|e| format!("the manifest: {e}"))?;
        Ok(objects.into_iter().filter(|o| o["kind"] != "Namespace").collect())
    }

    /// Starts a DaemonSet. `config`: its filebeat.yml, else the example's; `data`: the node's folder of its registry.
    /// What kubectl said.
    pub(super) fn ship(&self, program: Program, config: Option<&str>, data: &str) -> Outcome<String> {
        let mut objects = self.manifest()?;
        let folder = self.rig.node.folder("data").join(data).display().to_string();
        for object in &mut objects {
            if object["kind"] == "ConfigMap" {
                if let Some(config) = config {
                    object["data"]["filebeat.yml"] = config.into();
                }
                object["metadata"]["name"] = program.name().into();
            }
            if object["kind"] == "DaemonSet" {
                self.place(object, program, &folder);
                if config.is_some() {
                    // Both programs say the same host.
                    object["spec"]["template"]["spec"]["hostNetwork"] = true.into();
                }
            }
        }
        let said = self.apply(&objects)?;
        let rolled = self.rig.kubectl(&[
            "-n",
            HOME,
            "rollout",
            "status",
            &format!("daemonset/{}", program.name()),
            "--timeout=60s",
        ]);
        rolled.map_err(|why| format!("{why}; {}", self.said(HOME)))?;
        Ok(said)
    }

    /// What differs from the example: the program, its labels, the data's place on the node.
    fn place(&self, daemonset: &mut Value, program: Program, data: &str) {
        let name = program.name();
        daemonset["metadata"]["name"] = name.into();
        daemonset["spec"]["selector"]["matchLabels"] = json!({"shipper": name});
        daemonset["spec"]["template"]["metadata"]["labels"] = json!({"shipper": name});
        let pod = &mut daemonset["spec"]["template"]["spec"];
        for volume in pod["volumes"].as_array_mut().into_iter().flatten() {
            match volume["name"].as_str() {
                Some("data") => volume["hostPath"]["path"] = data.into(),
                Some("config") => volume["configMap"]["name"] = name.into(),
                _ => {}
            }
        }
        if program == Program::Filebeat {
            let folder = self.filebeat.parent().unwrap_or(&self.filebeat);
            let places = [
                ("program", folder.display().to_string(), "/opt"),
                ("lib", "/lib/x86_64-linux-gnu".into(), "/lib/x86_64-linux-gnu"),
                ("lib64", "/lib64".into(), "/lib64"),
            ];
            let container = &mut pod["containers"][0];
            container["image"] = "busybox:1".into();
            container["command"] = json!([
                "/opt/filebeat",
                "-e",
                "-c",
                "/etc/pillion/filebeat.yml",
                "-strict.perms=false",
                "--path.data",
                "/state",
                "--path.home",
                "/opt",
                "--path.logs",
                "/state/logs",
            ]);
            container["resources"] = json!({});
            for (name, _, inside) in &places {
                push(&mut container["volumeMounts"], json!({"name": name, "mountPath": inside, "readOnly": true}));
            }
            for (name, path, _) in &places {
                push(&mut pod["volumes"], json!({"name": name, "hostPath": {"path": path}}));
            }
        }
    }

    /// The shipper's pod, once it runs.
    pub(super) fn shipper(&self, program: Program) -> Outcome<Value> {
        let found = wait::until("the shipper's pod", LIMIT, || {
            let all = pods::all(HOME)?;
            let mut mine = all.into_iter().filter(|p| p["metadata"]["labels"]["shipper"] == program.name());
            Ok(mine.find(|p| {
                p["metadata"]["deletionTimestamp"].is_null()
                    && pods::status(p, "pillion").is_some_and(|s| !s["state"]["running"].is_null())
            }))
        });
        found.map_err(|why| format!("{why}; {}", self.said(HOME)))
    }

    /// Deletes a DaemonSet as a user does, and waits until its pods are gone.
    pub(super) fn end(&self, program: Program) -> Outcome {
        self.rig.kubectl(&["-n", HOME, "delete", "daemonset", program.name(), "--wait=true"])?;
        wait::until("the shipper's end", LIMIT, || {
            let all = pods::all(HOME)?;
            Ok(all.iter().all(|p| p["metadata"]["labels"]["shipper"] != program.name()).then_some(()))
        })
    }

    /// The termination message of a shipper isn't there any more when it was deleted: its log, as long as it is there.
    pub(super) fn log(&self, program: Program) -> String {
        let label = format!("shipper={}", program.name());
        self.rig.kubectl(&["-n", HOME, "logs", "-l", &label, "--tail=-1"]).unwrap_or_else(|why| why)
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(items) = list.as_array_mut() {
        items.push(item);
    }
}
