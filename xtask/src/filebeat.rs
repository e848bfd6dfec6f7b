//! The real Filebeat, built from its Go module: the reference for events, registries and losses.
//!
//! Comes in: `e2e/filebeat/`. Goes out: the path of an executable in the cache.
//! Always holds: `$PILLION_FILEBEAT`, when set, is used instead of a build, which takes minutes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::child::run;
use crate::{Outcome, cache, root};

/// The path of Filebeat's executable, built when it isn't in the cache yet.
pub(crate) fn path() -> Outcome<PathBuf> {
    if let Some(set) = std::env::var_os("PILLION_FILEBEAT") {
        return Ok(PathBuf::from(set));
    }
    go_program("filebeat")
}

/// Filebeat 9's, likewise; `$PILLION_FILEBEAT9` is used instead when set.
pub(crate) fn nine() -> Outcome<PathBuf> {
    std::env::var_os("PILLION_FILEBEAT9").map_or_else(|| go_program("filebeat9"), |set| Ok(PathBuf::from(set)))
}

/// A Go program of `e2e/NAME`, built into the cache.
pub(crate) fn go_program(name: &str) -> Outcome<PathBuf> {
    let source = root().join("e2e").join(name);
    let text = |file: &str| fs::read_to_string(source.join(file)).map_err(|e| format!("e2e/{name}/{file}: {e}"));
    let mut files: Vec<String> = fs::read_dir(&source)
        .map_err(|e| format!("e2e/{name}: {e}"))?
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|f| f.ends_with(".go") || f == "go.mod" || f == "go.sum")
        .collect();
    files.sort();
    let texts = files.iter().map(|f| text(f)).collect::<Outcome<Vec<String>>>()?;
    let keys: Vec<&str> = texts.iter().map(String::as_str).collect();
    let built = cache::built(name, &keys, |dir| {
        for (file, text) in files.iter().zip(&texts) {
            fs::write(dir.join(file), text).map_err(|e| e.to_string())?;
        }
        let mut go = Command::new("go");
        go.current_dir(dir).args(["build", "-mod=mod", "-trimpath", "-o", name, "."]);
        run(&mut go).map(drop)
    })?;
    Ok(built.join(name))
}
