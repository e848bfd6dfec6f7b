//! A manifest of `deploy/examples`, with what a test changes in it.
//!
//! Comes in: a file's name. Goes out: its objects, ready to be made in a namespace.
//! Always holds: only what a case says is changed; the rest is what a user reads.

use serde_json::{Value, json};

use super::api;
use super::node::Node;
use crate::{Outcome, root};

/// The objects of one manifest.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    objects: Vec<Value>,
}

impl Example {
    /// Reads a manifest.
    pub(crate) fn read(node: &Node, name: &str) -> Outcome<Example> {
        let path = root().join("deploy/examples").join(format!("{name}.yml"));
        let mut kubectl = node.kubectl();
        kubectl.args(["create", "--dry-run=client", "--validate=false", "-o", "json", "-f"]).arg(&path);
        let text = crate::child::run(&mut kubectl)?;
        let objects = serde_json::Deserializer::from_str(&text).into_iter::<Value>().collect::<Result<Vec<Value>, _>>();
        let mut objects = objects.map_err(|e| format!("{}: {e}", path.display()))?;
        // kubectl has said `default`; a case has a namespace of its own.
        for object in &mut objects {
            object["metadata"].as_object_mut().map(|meta| meta.remove("namespace"));
        }
        Ok(Example { objects })
    }

    /// The object of this kind; the first one.
    pub(crate) fn object(&mut self, kind: &str) -> &mut Value {
        let at = self.objects.iter().position(|o| o["kind"] == kind).unwrap_or_default();
        &mut self.objects[at]
    }

    /// Takes the objects of these kinds away.
    pub(crate) fn leave_out(&mut self, kinds: &[&str]) {
        self.objects.retain(|object| !kinds.iter().any(|kind| object["kind"] == *kind));
    }

    /// Adds an object.
    pub(crate) fn add(&mut self, object: Value) {
        self.objects.push(object);
    }

    /// All objects as one list, for `kubectl apply`.
    pub(crate) fn text(&self) -> String {
        json!({"apiVersion": "v1", "kind": "List", "items": self.objects}).to_string()
    }

    /// The Job's specification.
    pub(crate) fn job(&mut self) -> &mut Value {
        &mut self.object("Job")["spec"]
    }

    /// The pod's specification.
    pub(crate) fn pod(&mut self) -> &mut Value {
        &mut self.job()["template"]["spec"]
    }

    /// A container, whichever kind it is.
    pub(crate) fn container(&mut self, name: &str) -> &mut Value {
        let pod = self.pod();
        for list in ["initContainers", "containers"] {
            let all = pod[list].as_array().map_or(&[][..], Vec::as_slice);
            if let Some(at) = all.iter().position(|c| c["name"] == name) {
                return &mut pod[list][at];
            }
        }
        &mut pod["containers"][0]
    }

    /// Puts a script in the place of the work.
    pub(crate) fn work(&mut self, script: &str) {
        let found = self.objects.iter_mut().find(|o| o["metadata"]["name"] == "work");
        if let Some(work) = found {
            work["data"]["work.sh"] = format!("#!/bin/sh\n{script}\n").into();
        }
    }

    /// Changes a text in the shipper's configuration.
    pub(crate) fn configure(&mut self, from: &str, to: &str) {
        for object in &mut self.objects {
            if let Some(text) = object["data"]["filebeat.yml"].as_str() {
                let text = text.replace(from, to);
                object["data"]["filebeat.yml"] = text.into();
            }
        }
    }

    /// Has the shipper's configuration send to a search server, into the index `ride`.
    pub(crate) fn ship_to_search(&mut self, url: &str) {
        let output = format!(
            "output.elasticsearch:\n  hosts: [\"{url}\"]\n  index: ride\nsetup.template.enabled: false\nsetup.ilm.enabled: false"
        );
        self.configure("setup.template.enabled: false\nsetup.ilm.enabled: false\n", "");
        for usual in [
            "logstash:\n  hosts: [\"logstash.logging:5044\"]",
            "elasticsearch:\n  hosts: [\"http://elasticsearch.logging:9200\"]",
        ] {
            self.configure(&format!("output.{usual}"), &output);
        }
    }

    /// Adds words to a container's command line.
    pub(crate) fn flags(&mut self, container: &str, words: &[&str]) {
        let container = self.container(container);
        let mut args = container["args"].as_array().cloned().unwrap_or_default();
        args.extend(words.iter().map(|&w| Value::from(w)));
        container["args"] = args.into();
    }

    /// The pod's grace period, in seconds, as the shipper is told it too.
    pub(crate) fn grace(&mut self, container: &str, seconds: u64) {
        self.pod()["terminationGracePeriodSeconds"] = seconds.into();
        let env = self.container(container)["env"].as_array_mut();
        let grace = env.into_iter().flatten().find(|e| e["name"] == "PILLION_GRACE_PERIOD_SECONDS");
        if let Some(grace) = grace.filter(|g| g["value"] == "30") {
            grace["value"] = seconds.to_string().into();
        }
    }

    /// Wraps the Job into a CronJob that is due every minute.
    pub(crate) fn every_minute(&mut self) {
        let job = self.object("Job");
        let spec =
            json!({"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job["spec"]}});
        *job = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "ride"}, "spec": spec});
    }

    /// Makes its objects.
    pub(crate) fn create(&self, namespace: &str) -> Outcome {
        self.objects.iter().try_for_each(|object| api::create(namespace, object).map(drop))
    }

    /// Makes further Jobs like its own.
    pub(crate) fn create_jobs(&mut self, namespace: &str, names: impl Iterator<Item = String>) -> Outcome {
        let mut job = self.object("Job").clone();
        for name in names {
            job["metadata"]["name"] = name.into();
            api::create(namespace, &job)?;
        }
        Ok(())
    }

    /// Makes all but the Job.
    pub(crate) fn create_rest(&self, namespace: &str) -> Outcome {
        let mut rest = self.objects.iter().filter(|o| o["kind"] != "Job");
        rest.try_for_each(|object| api::create(namespace, object).map(drop))
    }
}

/// Makes a namespace, which holds its pods to a policy.
pub(crate) fn namespace(name: &str, policy: &str) -> Outcome {
    let labels = json!({"pod-security.kubernetes.io/enforce": policy});
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    api::create("", &object)?;
    crate::wait::until("the namespace's service account", std::time::Duration::from_secs(30), || {
        Ok(api::get(&format!("/api/v1/namespaces/{name}/serviceaccounts/default")).is_ok().then_some(()))
    })
}

/// A service by this name, behind which something on the node listens.
pub(crate) fn service(namespace: &str, name: &str, port: u16) -> Outcome {
    let meta = json!({"name": name, "labels": {"kubernetes.io/service-name": name}});
    let ports = json!([{"name": "main", "port": port, "protocol": "TCP"}]);
    api::create(
        namespace,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}}),
    )?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
        "endpoints": [{"addresses": [Node::ADDRESS], "conditions": {"ready": true}}], "ports": ports,
    });
    api::create(namespace, &slice).map(drop)
}
