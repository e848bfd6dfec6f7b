//! KEDA, as far as a surge needs it: the real schema of its ScaledJob, and a stand-in for its operator.
//!
//! Comes in: KEDA's own Go module (Apache-2.0), from which two files are taken, or `$PILLION_KEDA_CRD`, a folder with them. Goes
//! out: a file's path; as many Jobs as messages wait.
//! Always holds: the module is the one whose checksum stands here; it is asked for once, and then lies in the cache, so that
//! later runs need no network. Jobs are made as KEDA's `pkg/scaling/executor/scale_jobs.go` makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::kubernetes::api;
use crate::{Outcome, cache, child};

const MODULE: &str = "github.com/kedacore/keda/v2";
pub(in crate::kubernetes) const VERSION: &str = "v2.21.0";
/// Of the module, as the Go checksum database has it.
const SUM: &str = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=";
const FOLDER: &str = "config/crd/bases";
const KINDS: [&str; 2] = ["scaledjobs", "scaledobjects"];

fn file(kind: &str) -> String {
    format!("keda.sh_{kind}.yaml")
}

/// The CustomResourceDefinition of `scaledjobs` or `scaledobjects`.
pub(in crate::kubernetes) fn schema(kind: &str) -> Outcome<PathBuf> {
    if let Some(set) = std::env::var_os("PILLION_KEDA_CRD") {
        return Ok(PathBuf::from(set).join(file(kind)));
    }
    let key = [MODULE, VERSION, SUM, KINDS[0], KINDS[1]];
    let folder = cache::built("keda", &key, fetch).map_err(|why| {
        format!("{why}\nKEDA's schema comes from its Go module; without a network name {FOLDER} of KEDA's sources in PILLION_KEDA_CRD")
    })?;
    Ok(folder.join(file(kind)))
}

fn fetch(folder: &Path) -> Outcome {
    let mut go = Command::new("go");
    go.current_dir(folder).args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")]);
    let said: Value = serde_json::from_str(&child::run(&mut go)?).map_err(|e| format!("go mod download: {e}"))?;
    if said["Sum"] != SUM {
        return Err(format!("{MODULE}@{VERSION} has the checksum {}, not {SUM}", said["Sum"]));
    }
    let from = Path::new(said["Dir"].as_str().unwrap_or_default()).join(FOLDER);
    KINDS.iter().map(|kind| file(kind)).try_for_each(|file| {
        let path = from.join(&file);
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        fs::write(folder.join(file), text).map_err(|e| e.to_string())
    })
}

/// One Job for each of the messages, but no more than the ScaledJob allows; how many there are.
pub(super) fn scale(namespace: &str, name: &str, messages: usize) -> Outcome<usize> {
    let scaled = api::get(&format!("/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledjobs/{name}"))?;
    let most = scaled["spec"]["maxReplicaCount"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(100);
    let job = job(&scaled, name);
    let n = messages.min(most);
    (0..n).try_for_each(|_| api::create(namespace, &job).map(drop))?;
    Ok(n)
}

fn job(scaled: &Value, name: &str) -> Value {
    let mut spec = scaled["spec"]["jobTargetRef"].clone();
    spec["template"]["metadata"]["labels"]["scaledjob.keda.sh/name"] = name.into();
    let owner = json!({
        "apiVersion": scaled["apiVersion"], "kind": scaled["kind"], "name": name, "uid": scaled["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    });
    let labels = json!({
        "app.kubernetes.io/name": name, "app.kubernetes.io/version": VERSION, "app.kubernetes.io/part-of": name,
        "app.kubernetes.io/managed-by": "keda-operator", "scaledjob.keda.sh/name": name,
    });
    let generation = scaled["metadata"]["generation"].to_string();
    let meta = json!({
        "generateName": format!("{name}-"), "labels": labels, "ownerReferences": [owner],
        "annotations": {"scaledjob.keda.sh/generation": generation},
    });
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec})
}
