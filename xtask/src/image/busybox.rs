//! busybox, the image's shell and commands.
//!
//! Comes in: which architecture. Goes out: the path of a static busybox for it: this machine's own, else Debian's package.
//! Always holds: a package for another architecture is fetched with lists and cache of its own; apt's settings on this
//! machine stay as they are.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::own_arch;
use crate::{Outcome, cache, child};

/// The package that has it.
pub(super) const PACKAGE: &str = "busybox-static";

/// The executable for an architecture by Go's name, which is Debian's too.
pub(super) fn path(arch: &str) -> Outcome<PathBuf> {
    if arch == own_arch() { own() } else { foreign(arch) }
}

/// As `PATH` has it.
fn own() -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).chain(["/bin".into(), "/usr/bin".into()]);
    let found = all.map(|folder| folder.join("busybox")).find(|file| file.is_file());
    found.ok_or_else(|| "no busybox: install busybox-static, or name one with --busybox FILE".into())
}

/// From Debian, unpacked into the cache.
fn foreign(arch: &str) -> Outcome<PathBuf> {
    let folder = cache::built(&format!("busybox-{arch}"), &[PACKAGE], |folder| {
        let apt = |words: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.current_dir(folder).args(["-q", "-o", &format!("APT::Architecture={arch}")]);
            let set = [
                format!("APT::Architectures={arch}"),
                format!("Dir::State::Lists={}", folder.join("lists").display()),
                format!("Dir::Cache={}", folder.join("cache").display()),
                "Dir::State::status=/dev/null".to_owned(),
            ];
            child::run(apt.args(set.iter().flat_map(|o| ["-o", o])).args(words))
        };
        for needed in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(needed)).map_err(|e| e.to_string())?;
        }
        apt(&["update"])?;
        apt(&["download", PACKAGE])?;
        let files = fs::read_dir(folder).map_err(|e| e.to_string())?.flatten().map(|e| e.path());
        let package = files.into_iter().find(|p| p.extension().is_some_and(|e| e == "deb")).ok_or("no package came")?;
        child::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder.join("all")))?;
        let keep = || {
            fs::rename(folder.join("all/bin/busybox"), folder.join("busybox"))?;
            fs::remove_file(&package)?;
            ["all", "lists", "cache"].iter().try_for_each(|name| fs::remove_dir_all(folder.join(name)))
        };
        keep().map_err(|e| format!("{}: {e}", folder.display()))
    });
    let why = |why: String| format!("{why}\nname a static busybox for {arch} with --busybox FILE");
    Ok(folder.map_err(why)?.join("busybox"))
}

/// Debian's version in the first line of its help, `BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1)`: also of one that can't be
/// run here.
pub(super) fn version(bytes: &[u8]) -> Option<String> {
    let marks: [&[u8]; 2] = [b"(Debian ", b"BusyBox v"];
    let at = marks.iter().find_map(|m| Some(bytes.windows(m.len()).position(|w| w == *m)? + m.len()))?;
    let rest = bytes.get(at..at + 64)?;
    let end = rest.iter().position(|b| matches!(b, b')' | b' ' | 0 | b'\n'))?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok().filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_tells_its_version() {
        let mut debian = b"..\0BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1)\0".to_vec();
        debian.resize(200, 0);
        assert_eq!(version(&debian).as_deref(), Some("1:1.35.0-4+deb12u1"));
        let mut other = b"BusyBox v1.36.1 ()\0".to_vec();
        other.resize(200, 0);
        assert_eq!(version(&other).as_deref(), Some("1.36.1"));
        assert_eq!(version(b"nothing"), None);
    }
}
