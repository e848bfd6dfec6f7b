//! Where built test servers and peers are kept between runs.
//!
//! Comes in: a name and the texts that a thing is built from. Goes out: a folder that holds it.
//! Always holds: a folder appears under its name only when it is complete; the name changes with the texts; two runs at
//! the same time build once.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::Outcome;

/// The cache's folder: `$PILLION_E2E_CACHE`, else `pillion-e2e` in the user's cache folder.
pub(crate) fn folder() -> Outcome<PathBuf> {
    let folder = match (std::env::var_os("PILLION_E2E_CACHE"), std::env::var_os("HOME")) {
        (Some(set), _) => PathBuf::from(set),
        (None, Some(home)) => Path::new(&home).join(".cache/pillion-e2e"),
        (None, None) => return Err("set PILLION_E2E_CACHE: there is no HOME to keep test servers in".into()),
    };
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// Whether `name` is there, built from `texts`.
pub(crate) fn has(name: &str, texts: &[&str]) -> bool {
    folder().is_ok_and(|cache| cache.join(key(name, texts)).exists())
}

fn key(name: &str, texts: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    format!("{name}-{:016x}", hasher.finish())
}

/// The folder of `name` built from `texts`; `build` fills a new folder when there is none yet.
pub(crate) fn built(name: &str, texts: &[&str], build: impl FnOnce(&Path) -> Outcome) -> Outcome<PathBuf> {
    let cache = folder()?;
    let done = cache.join(key(name, texts));
    if done.exists() {
        return Ok(done);
    }
    let say = |e: std::io::Error| format!("{}: {e}", done.display());
    let lock = File::create(cache.join(format!("{name}.lock"))).map_err(say)?;
    lock.lock().map_err(say)?;
    if done.exists() {
        return Ok(done);
    }
    let new = cache.join(format!("{name}.new"));
    if new.exists() {
        fs::remove_dir_all(&new).map_err(say)?;
    }
    fs::create_dir_all(&new).map_err(say)?;
    eprintln!("building {name} into {}", done.display());
    build(&new)?;
    fs::rename(&new, &done).map_err(say)?;
    Ok(done)
}
