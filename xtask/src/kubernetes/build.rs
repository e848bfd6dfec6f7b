//! Kubernetes' own executables, built from their Go modules.
//!
//! Comes in: `e2e/cluster/hyperkube` and `e2e/cluster/coredns`. Goes out: a folder with all executables in the cache.
//! Always holds: it is built again only when a module's text, Go's version or a flag has changed; minutes on two cores
//! with empty caches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::run;
use crate::{Outcome, cache, root};

/// What Kubernetes calls itself; the module versions are in `go.mod`.
const VERSION: &str = "v1.34.4";
const COMPONENTS: [&str; 6] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// The two programs.
const PROGRAMS: [&str; 2] = ["hyperkube", "coredns"];

fn flags(program: &str) -> Vec<String> {
    let mut flags = vec!["-trimpath".to_owned()];
    if program == "hyperkube" {
        let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
        let about = [("gitVersion", VERSION), ("gitMajor", "1"), ("gitMinor", "34"), ("gitTreeState", "clean")];
        let about: String = about.iter().map(|(n, v)| set(n, v)).collect();
        flags.extend(["-tags".into(), "notest,grpcnotrace".into(), "-ldflags".into(), format!("-s -w{about}")]);
    } else {
        flags.extend(["-ldflags".into(), "-s -w".into()]);
    }
    flags
}

/// The texts that decide what is built.
fn texts() -> Outcome<Vec<String>> {
    let mut texts = Vec::new();
    for program in PROGRAMS {
        for file in ["go.mod", "go.sum", "main.go"] {
            let path = source(program).join(file);
            texts.push(fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?);
        }
        texts.extend(flags(program));
    }
    // A machine without Go can use what another one has built.
    texts.push(std::env::var("PILLION_GO_VERSION").or_else(|_| go_version()).unwrap_or_default());
    Ok(texts)
}

fn go_version() -> Outcome<String> {
    run(Command::new("go").args(["env", "GOVERSION"])).map(|v| v.trim().to_owned())
}

fn source(program: &str) -> PathBuf {
    root().join("e2e/cluster").join(program)
}

/// The folder of the executables, built when it isn't in the cache yet.
pub(crate) fn ready() -> Outcome<PathBuf> {
    let texts = texts()?;
    let keys: Vec<&str> = texts.iter().map(String::as_str).collect();
    cache::built("kubernetes", &keys, |folder| PROGRAMS.iter().try_for_each(|p| build(p, folder)))
}

/// Whether they are built already.
pub(crate) fn is_ready() -> bool {
    let Ok(texts) = texts() else { return false };
    let keys: Vec<&str> = texts.iter().map(String::as_str).collect();
    cache::has("kubernetes", &keys)
}

fn build(program: &str, folder: &Path) -> Outcome {
    let mut go = Command::new("go");
    go.current_dir(source(program)).env("CGO_ENABLED", "0").arg("build").args(flags(program));
    run(go.arg("-o").arg(folder.join(program)).arg("."))?;
    let links: &[&str] = if program == "hyperkube" { &COMPONENTS } else { &[] };
    for name in links {
        std::os::unix::fs::symlink(program, folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}
