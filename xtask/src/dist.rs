//! `target/dist/pillion`: the one executable that is measured and shipped.
//!
//! Comes in: the workspace. Goes out: a static, stripped executable.
//! Always holds: it asks for no interpreter and no shared library, is at most 16.3 MB, and starts; else the chore fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kubernetes::has;
use crate::{Outcome, root};

/// What the executable is measured on.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const MOST_BYTES: u64 = 16_300_000;

/// Builds and checks it.
pub(crate) fn run() -> Outcome {
    let path = build()?;
    let bytes = fs::metadata(&path).map_err(|e| e.to_string())?.len();
    println!("{}: {:.2} MB, static", path.display(), bytes as f64 / 1e6);
    Ok(())
}

/// Builds it, and gives its path when it is what it should be.
pub(crate) fn build() -> Outcome<PathBuf> {
    build_for(TARGET)
}

/// The same for another target, whose executable lies in a folder of its own.
pub(crate) fn build_for(target: &str) -> Outcome<PathBuf> {
    let root = root();
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&root).args(["build", "--profile", "dist", "--package", "pillion", "--target", target]);
    // The flags go to the target alone: build scripts and procedural macros can't be linked statically.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    cargo.env(flags, rust_flags(target));
    linker(&mut cargo, target);
    let status = cargo.status().map_err(|e| format!("cargo: {e}"))?;
    if !status.success() {
        return Err(format!("cargo build: {status}"));
    }
    let made = root.join("target").join(target).join("dist/pillion");
    if target != TARGET {
        check(&fs::read(&made).map_err(|e| format!("{}: {e}", made.display()))?)?;
        return starts_emulated(&made, target).map(|()| made);
    }
    let path = root.join("target/dist/pillion");
    let copy = || -> std::io::Result<Vec<u8>> {
        fs::create_dir_all(root.join("target/dist"))?;
        if path.exists() {
            fs::remove_file(&path)?;
        }
        fs::copy(&made, &path)?;
        fs::read(&path)
    };
    let image = copy().map_err(|e| format!("{}: {e}", path.display()))?;
    check(&image)?;
    let said = Command::new(&path).arg("version").output().map_err(|e| format!("{}: {e}", path.display()))?;
    if !said.status.success() {
        return Err(format!("{} doesn't start: {}", path.display(), said.status));
    }
    Ok(path)
}

/// Debian's cross compiler as the linker, where cargo isn't told another; C code finds it by itself.
fn linker(cargo: &mut Command, target: &str) {
    let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let arch = target.split('-').next().unwrap_or_default();
    let compiler = format!("{arch}-linux-gnu-gcc");
    if arch != std::env::consts::ARCH && std::env::var_os(&variable).is_none() && has(&compiler) {
        cargo.env(variable, compiler);
    }
}

/// Starts an executable for another architecture where this machine can: with qemu's emulation. Else that is said.
fn starts_emulated(path: &Path, target: &str) -> Outcome {
    let arch = target.split('-').next().unwrap_or_default();
    let emulator = format!("qemu-{arch}-static");
    if !has(&emulator) {
        println!("not started: no {emulator} (Debian: qemu-user-static)");
        return Ok(());
    }
    crate::child::run(Command::new(emulator).arg(path).arg("version")).map(drop)
}

/// Static, at a random address. The 19,000 places that have to be adjusted to that address are listed in 10 KB instead of
/// 450 where the C library that is linked understands such a list: all of it is read at each start. Of another target's
/// library nothing is known here.
fn rust_flags(target: &str) -> String {
    let mut flags = "-C target-feature=+crt-static".to_owned();
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    if target == TARGET && said.is_ok_and(|said| knows_short_lists(&String::from_utf8_lossy(&said.stdout))) {
        flags += " -C link-arg=-Wl,-z,pack-relative-relocs";
    }
    flags
}

/// Whether a C library, as `getconf` names it (`glibc 2.36`), takes `DT_RELR`: glibc 2.36 and later.
fn knows_short_lists(name: &str) -> bool {
    let numbers = name.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    let number = |text: &str| text.split('.').next().and_then(|n| n.parse::<u32>().ok());
    let version = numbers.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    version.is_some_and(|version| version >= (2, 36))
}

fn check(image: &[u8]) -> Outcome {
    if image.len() as u64 > MOST_BYTES {
        return Err(format!("the executable has {} bytes, {MOST_BYTES} are allowed", image.len()));
    }
    check_static(image)
}

/// Checks that an executable needs nothing else to run.
pub(crate) fn check_static(image: &[u8]) -> Outcome {
    let kinds = segment_kinds(image).ok_or("the executable is no 64-bit little-endian ELF file")?;
    const INTERPRETER: u32 = 3;
    if kinds.contains(&INTERPRETER) {
        return Err("the executable asks for an interpreter: it isn't static".into());
    }
    Ok(())
}

/// The types of an ELF file's program headers.
fn segment_kinds(image: &[u8]) -> Option<Vec<u32>> {
    let bytes = |at: usize, n: usize| image.get(at..at.checked_add(n)?);
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?));
    if bytes(0, 6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(bytes(32, 8)?.try_into().ok()?)).ok()?;
    let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
    (0..count).map(|i| Some(u32::from_le_bytes(bytes(table.checked_add(i * size)?, 4)?.try_into().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_test_is_dynamic_and_a_broken_file_is_no_executable() {
        let image = std::fs::read("/proc/self/exe").unwrap();
        assert!(super::segment_kinds(&image).unwrap().contains(&3));
        assert!(super::segment_kinds(&image[..80]).is_none());
        assert!(super::segment_kinds(b"#!/bin/sh").is_none());
    }

    #[test]
    fn c_libraries_that_take_short_lists() {
        for (name, takes) in [
            ("glibc 2.36\n", true),
            ("glibc 2.41", true),
            ("glibc 3.0", true),
            ("glibc 2.35", false),
            ("musl", false),
            ("", false),
        ] {
            assert_eq!(super::knows_short_lists(name), takes, "{name}");
        }
    }
}
