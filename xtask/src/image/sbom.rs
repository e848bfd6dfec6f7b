//! What the image is made of, as CycloneDX 1.5: each crate in the executable, busybox, the certificates.
//!
//! Comes in: `cargo metadata`'s graph, the other parts' versions. Goes out: JSON, the same for the same parts.
//! Always holds: crates that only build or test the program aren't listed; procedural macros are, since what they wrote is
//! in it.

use std::collections::{BTreeSet, HashMap};
use std::process::Command;

use serde_json::{Value, json};

use crate::{Outcome, child, root};

/// A part that isn't a crate: Debian's package.
pub(super) struct Package {
    pub(super) name: &'static str,
    /// As Debian writes it, when it is known.
    pub(super) version: Option<String>,
    pub(super) licence: &'static str,
    pub(super) sha256: String,
}

/// The document for an image of this version.
pub(super) fn document(target: &str, version: &str, packages: &[Package]) -> Outcome<String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).args(["metadata", "--format-version=1", "--locked", "--filter-platform", target]);
    let metadata: Value = serde_json::from_str(&child::run(&mut cargo)?).map_err(|e| format!("cargo metadata: {e}"))?;
    let mut components = crates(&metadata, "pillion")?;
    components.extend(packages.iter().map(debian));
    let document = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "image", "name": "pillion", "version": version}},
        "components": components,
    });
    serde_json::to_string_pretty(&document).map_err(|e| e.to_string())
}

fn debian(package: &Package) -> Value {
    let mut one = json!({
        "type": "library", "bom-ref": format!("deb/{}", package.name), "name": package.name,
        "hashes": [{"alg": "SHA-256", "content": package.sha256}],
        "licenses": [{"license": {"id": package.licence}}],
    });
    if let Some(version) = &package.version {
        one["version"] = version.as_str().into();
        one["purl"] = format!("pkg:deb/debian/{}@{}", package.name, version.replace('+', "%2B")).into();
    }
    one
}

/// All crates that `name` needs to run, itself first, then sorted.
fn crates(metadata: &Value, name: &str) -> Outcome<Vec<Value>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: HashMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|p| (text(&p["id"]), p)).collect();
    let nodes: HashMap<String, Vec<Value>> =
        list(&metadata["resolve"]["nodes"]).iter().map(|n| (text(&n["id"]), list(&n["deps"]))).collect();
    let first = packages.iter().find(|(_, p)| p["name"] == name && p["source"].is_null());
    let first = first.ok_or_else(|| format!("cargo metadata knows no {name}"))?.0;
    let (mut seen, mut next) = (BTreeSet::from([first.clone()]), vec![first.clone()]);
    while let Some(id) = next.pop() {
        for dep in nodes.get(&id).into_iter().flatten() {
            let runs = list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if runs && seen.insert(text(&dep["pkg"])) {
                next.push(text(&dep["pkg"]));
            }
        }
    }
    let mut all: Vec<&Value> = seen.iter().filter_map(|id| packages.get(id)).collect();
    all.sort_by_key(|p| (p["name"] != name, text(&p["name"]), text(&p["version"])));
    Ok(all.into_iter().map(component).collect())
}

fn component(package: &Value) -> Value {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let (name, version) = (text("name"), text("version"));
    let mut one =
        json!({"type": "library", "bom-ref": format!("cargo/{name}@{version}"), "name": name, "version": version});
    if !package["source"].is_null() {
        one["purl"] = format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")).into();
    }
    if !text("license").is_empty() {
        // An old spelling of "or" that isn't SPDX.
        one["licenses"] = json!([{"expression": text("license").replace('/', " OR ")}]);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_builds_or_tests_is_left_out() {
        let package = |id: &str, source: Value| json!({"id": id, "name": id, "version": "1.0.0", "source": source, "license": "MIT/Apache-2.0"});
        let dep = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("us", Value::Null), package("used", "r".into()), package("deeper", "r".into()),
                package("builds", "r".into()), package("tests", "r".into())],
            "resolve": {"nodes": [
                {"id": "us", "deps": [dep("used", Value::Null), dep("builds", "build".into()), dep("tests", "dev".into())]},
                {"id": "used", "deps": [dep("deeper", Value::Null), dep("us", Value::Null)]},
            ]},
        });
        let all = crates(&metadata, "us").unwrap();
        let names: Vec<&str> = all.iter().filter_map(|c| c["name"].as_str()).collect();
        assert_eq!(names, ["us", "deeper", "used"]);
        assert_eq!(all[1]["purl"], "pkg:cargo/deeper@1.0.0");
        assert_eq!(all[1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert!(crates(&metadata, "nobody").is_err());
    }
}
