//! `cargo xtask e2e nodewide`: the DaemonSet of `deploy/examples` on a real cluster, alone, beside the real Filebeat and
//! after it.
//!
//! Comes in: perhaps which case. Goes out: a line for each case.
//! Always holds: of the manifest only what a case says is changed; writers number their lines, so that what is missing or
//! doubled is known without looking at files that kubelet rotates.

mod arrived;
mod events;
mod shippers;
mod takeover;
mod under_load;
mod writers;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::args::Args;
use crate::kubernetes::endpoint::Endpoint;
use crate::kubernetes::{self, Rig, example};
use crate::peer::Score;
use crate::{Outcome, filebeat};

const LIMIT: Duration = Duration::from_secs(120);
/// The namespace of the shippers.
const HOME: &str = "nodewide";
/// The first port of receivers that a case has for itself.
const PORT: u16 = 6100;

/// `--case NAME`, `--keep`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let keep = args.switch("--keep");
    let mut score = Score::new(args.value("--case")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    kubernetes::ready()?;
    let filebeat = filebeat::path()?;
    let rig = Rig::up(keep)?;
    example::namespace(HOME, "privileged")?;
    let stage = Stage { rig: &rig, filebeat };
    score.case("example", || events::example(&stage));
    score.case("hints", || events::hints(&stage));
    score.case("same-metadata", || events::same_as_filebeat(&stage, "same-metadata", events::METADATA));
    score.case("same-autodiscover", || events::same_as_filebeat(&stage, "same-autodiscover", events::AUTODISCOVER));
    score.case("rotation", || under_load::rotation(&stage));
    score.case("restarts", || under_load::restarts(&stage));
    score.case("takeover", || takeover::daemonset(&stage));
    score.case("takeover-sidecar", || takeover::sidecar(&stage));
    score.end()
}

/// The cluster and the programs.
struct Stage<'a> {
    rig: &'a Rig,
    filebeat: PathBuf,
}

impl Stage<'_> {
    /// Applies objects; what kubectl says, warnings included.
    fn apply(&self, objects: &[Value]) -> Outcome<String> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let path = self.rig.node.folder("apply.json");
        std::fs::write(&path, list.to_string()).map_err(|e| e.to_string())?;
        let mut kubectl: Command = self.rig.node.kubectl();
        let out = kubectl.arg("apply").arg("-f").arg(path).output().map_err(|e| e.to_string())?;
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if out.status.success() { Ok(said) } else { Err(said) }
    }

    /// A receiver of a case's own.
    fn endpoint(&self, case: &str, at: u16) -> Outcome<(Endpoint, arrived::Arrived)> {
        let folder = self.rig.node.folder("arrived").join(case);
        let endpoint = Endpoint::start(&self.rig.program, folder.clone(), PORT + at, PORT + 100 + at)?;
        Ok((endpoint, arrived::Arrived::new(folder)))
    }

    /// What a person would look at when a case failed.
    fn said(&self, namespace: &str) -> String {
        let mut said = String::new();
        for words in [
            &["-n", HOME, "get", "pods", "-o", "wide"][..],
            &["-n", namespace, "get", "pods", "-o", "wide"],
            &["-n", HOME, "logs", "-l", "shipper", "--tail=20", "--prefix", "--ignore-errors"],
            &["-n", HOME, "get", "events", "--sort-by=.lastTimestamp"],
        ] {
            let text = self.rig.kubectl(words).unwrap_or_else(|why| why);
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(24);
            said.push_str(&format!("\n  $ kubectl {}\n    {}", words.join(" "), lines[from..].join("\n    ")));
        }
        said
    }
}
