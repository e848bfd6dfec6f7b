//! What replicas need of a cluster, without any replica: their manifests, and the rules of the API server that their board
//! relies on.
//!
//! Comes in: `deploy/examples/replicas*.yml`, the program `board` of the crate kube. Goes out: what was seen.
//! Always holds: the manifests are tried as they stand, and are to be accepted without a warning: the namespace has the policy
//! `restricted`.

use std::process::Command;
use std::time::Duration;

use super::surge::keda;
use super::{Rig, api};
use crate::{Outcome, child, root, wait};

/// The manifests, in the order in which a user applies them.
const MANIFESTS: [&str; 3] = ["replicas", "replicas-keda", "replicas-hpa"];

/// How long the API server may take to know a new kind.
const LIMIT: Duration = Duration::from_secs(60);

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Board {
    /// The manifests are accepted.
    Manifests,
    /// Two members on the real API server.
    Leases,
}

impl Board {
    pub(super) const ALL: [Board; 2] = [Board::Manifests, Board::Leases];

    pub(super) fn name(self) -> &'static str {
        match self {
            Board::Manifests => "replicas-manifests",
            Board::Leases => "replicas-leases",
        }
    }

    pub(super) fn run(self, rig: &Rig) -> Outcome<String> {
        match self {
            Board::Manifests => manifests(rig),
            Board::Leases => leases(),
        }
    }
}

fn manifests(rig: &Rig) -> Outcome<String> {
    child::run(rig.node.kubectl().args(["apply", "--server-side", "-f"]).arg(keda::schema("scaledobjects")?))?;
    let there = || api::get("/apis/keda.sh/v1alpha1/scaledobjects").is_ok().then_some(());
    wait::until("KEDA's API", LIMIT, || Ok(there()))?;
    for name in MANIFESTS {
        let mut kubectl = rig.node.kubectl();
        kubectl.args(["apply", "--dry-run=server", "--validate=strict", "-f"]);
        let output = kubectl.arg(root().join("deploy/examples").join(format!("{name}.yml"))).output();
        let output = output.map_err(|e| format!("kubectl: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        // The namespace was made before, and not by `apply`.
        let odd: Vec<&str> = said.lines().filter(|line| !line.contains("resource namespaces/logging")).collect();
        if !output.status.success() || !odd.is_empty() {
            return Err(format!("{name}.yml: {said}"));
        }
    }
    Ok(format!("{} manifests are accepted as they stand", MANIFESTS.len()))
}

fn leases() -> Outcome<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["run", "-q", "-p", "pillion-kube", "--example", "board", "--"]);
    cargo.args([&format!("http://127.0.0.1:{}", super::node::Node::PORT), "default"]);
    let said = child::run(&mut cargo)?;
    let seen = said.lines().filter(|line| line.starts_with("ok")).count();
    Ok(format!("{seen} rules hold"))
}
