//! Servers from Maven Central, made ready to run in the cache.
//!
//! Comes in: a [`Kind`]. Goes out: a folder with `lib/` (its jars) and `classes/` (the small program that starts it).
//! Always holds: what is built depends only on the files in `e2e/servers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::{Kind, jdk};
use crate::child::run;
use crate::{Outcome, cache, root};

/// The folder of a server that is ready to run.
pub(super) fn ready(kind: Kind) -> Outcome<PathBuf> {
    let source = root().join("e2e/servers");
    let text = |path: &str| fs::read_to_string(source.join(path)).map_err(|e| format!("e2e/servers/{path}: {e}"));
    let pom = text(&format!("{}/pom.xml", kind.name()))?;
    let main = text(&format!("mains/{}.java", kind.main()))?;
    let module = if kind == Kind::Elasticsearch8 { text(NETWORK)? } else { String::new() };
    cache::built(kind.name(), &[&pom, &main, &module], |dir| {
        fs::write(dir.join("pom.xml"), &pom).map_err(|e| e.to_string())?;
        copy_jars(dir)?;
        if kind == Kind::Elasticsearch8 {
            network_module(dir, &source)?;
        }
        let main = source.join(format!("mains/{}.java", kind.main()));
        compile(kind, &dir.join("lib/*"), &main, &dir.join("classes"))
    })
}

/// One at a time: two that fill an empty local repository at once break each other's metadata in it.
fn copy_jars(dir: &Path) -> Outcome {
    static REPOSITORY: Mutex<()> = Mutex::new(());
    let _alone = REPOSITORY.lock().unwrap_or_else(PoisonError::into_inner);
    let mut maven = Command::new("mvn");
    maven.current_dir(dir).args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]);
    run(&mut maven).map(drop)
}

const NETWORK: &str = "module/NetworkAndRoot.java";

fn compile(kind: Kind, class_path: &Path, source: &Path, into: &Path) -> Outcome {
    let mut javac = Command::new(jdk::tool(kind.java(), "javac")?);
    javac.args(["-nowarn", "-proc:none", "-cp"]).arg(class_path).arg("-d").arg(into).arg(source);
    run(&mut javac).map(drop)
}

/// The jars of Elasticsearch 8's network module go into a folder of their own: the server loads them as a module and
/// refuses to start when they are on the class path too.
fn network_module(dir: &Path, source: &Path) -> Outcome {
    let (lib, module) = (dir.join("lib"), dir.join("module"));
    let say = |e: std::io::Error| format!("{}: {e}", module.display());
    fs::create_dir(&module).map_err(say)?;
    for jar in fs::read_dir(&lib).map_err(say)? {
        let jar = jar.map_err(say)?;
        let name = jar.file_name();
        if ["netty-", "transport-netty4-"].iter().any(|p| name.to_string_lossy().starts_with(p)) {
            fs::rename(jar.path(), module.join(&name)).map_err(say)?;
        }
    }
    let classes = dir.join("module-classes");
    let class_path = format!("{}/*:{}/*", lib.display(), module.display());
    compile(Kind::Elasticsearch8, Path::new(&class_path), &source.join(NETWORK), &classes)?;
    let mut jar = Command::new(jdk::tool(Kind::Elasticsearch8.java(), "jar")?);
    jar.arg("cf").arg(module.join("network-and-root.jar")).arg("-C").arg(&classes).arg(".");
    run(&mut jar).map(drop)
}
