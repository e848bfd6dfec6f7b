//! Which Java is there.
//!
//! Comes in: the oldest and newest version that a server runs on. Goes out: the path of a tool of a JDK between them.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// The path of `tool` in the oldest JDK whose version is in `wanted`, of those in `/usr/lib/jvm` and `$JAVA_HOME`.
pub(super) fn tool(wanted: RangeInclusive<u32>, tool: &str) -> Outcome<PathBuf> {
    let mut homes: Vec<PathBuf> = std::env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    if let Ok(list) = fs::read_dir("/usr/lib/jvm") {
        homes.extend(list.flatten().map(|e| e.path()));
    }
    let found = homes
        .into_iter()
        .filter_map(|home| Some((version(&home)?, home.join("bin").join(tool))))
        .filter(|(version, path)| wanted.contains(version) && path.exists())
        .min();
    let (from, to) = (wanted.start(), wanted.end());
    found.map(|(_, path)| path).ok_or_else(|| format!("no JDK between {from} and {to} in /usr/lib/jvm or JAVA_HOME"))
}

fn version(home: &Path) -> Option<u32> {
    let release = fs::read_to_string(home.join("release")).ok()?;
    let text = release.lines().find_map(|l| l.strip_prefix("JAVA_VERSION=\""))?;
    text.split(['.', '"']).next()?.parse().ok()
}
