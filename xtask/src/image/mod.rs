//! `cargo xtask image`: the container image, without a container engine.
//!
//! Comes in: `target/dist/pillion` (built when it isn't up to date) or `--binary FILE`; Debian's busybox-static and
//! ca-certificates, or `--busybox FILE` and `--certificates FILE`. Goes out: one tar that containerd, podman and docker load,
//! and its bill of materials beside it.
//! Always holds: the same parts give the same bytes; the tar was read back; unpacked it has at most 20 MB; every executable
//! in it is static and of the image's architecture.

mod busybox;
mod contents;
mod oci;
mod peer;
mod sbom;
mod tar;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use contents::Parts;
use flate2::Compression;
use oci::Image;
pub(crate) use peer::filebeat;
use pillion_world::calendar::civil_from_days;
use sbom::Package;
use tar::Kind;

use crate::args::Args;
use crate::{Outcome, child, dist, root};

const MOST_BYTES: u64 = 20_000_000;
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where Debian keeps what it says of licences.
const COPYRIGHTS: &[&str] = &[busybox::PACKAGE, "ca-certificates"];

/// A platform, by Go's name, Rust's target, and ELF's number for the machine.
struct Platform {
    arch: &'static str,
    target: &'static str,
    machine: u16,
}

const PLATFORMS: &[Platform] = &[
    Platform { arch: "amd64", target: "x86_64-unknown-linux-gnu", machine: 62 },
    Platform { arch: "arm64", target: "aarch64-unknown-linux-gnu", machine: 183 },
];

/// `-o FILE`, `--tag NAME`, `--arch amd64|arm64`, `--binary FILE`, `--busybox FILE`, `--certificates FILE`, `--layer FILE`
/// (the root file system alone, as a tar, for the Dockerfile), `--any-size`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let arch = args.value("--arch")?.unwrap_or_else(|| own_arch().into());
    let platform = PLATFORMS.iter().find(|p| p.arch == arch).ok_or("the architectures are amd64 and arm64")?;
    let out = args.value("-o")?.map(PathBuf::from);
    let out = out.unwrap_or_else(|| root().join(format!("target/image/pillion-{arch}.tar")));
    let name = args.value("--tag")?.unwrap_or_else(|| format!("localhost/pillion:{}", env!("CARGO_PKG_VERSION")));
    let name = if name.rsplit('/').next().unwrap_or_default().contains(':') { name } else { format!("{name}:latest") };
    // For trying out a build with debugging aids.
    let any_size = args.switch("--any-size");
    let layer_only = args.value("--layer")?.map(PathBuf::from);
    let sources = Sources {
        binary: args.value("--binary")?.map(PathBuf::from),
        busybox: args.value("--busybox")?.map(PathBuf::from),
        certificates: PathBuf::from(args.value("--certificates")?.unwrap_or_else(|| CERTIFICATES.into())),
    };
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let time = time()?;
    let parts = sources.read(platform)?;
    let bill = parts.sbom.clone();
    let entries = contents::entries(parts);
    let size = contents::unpacked(&entries);
    if size > MOST_BYTES && !any_size {
        return Err(format!("unpacked the image has {size} bytes, {MOST_BYTES} are allowed"));
    }
    let layer = tar::archive(&entries, time)?;
    if let Some(path) = layer_only {
        return write(&path, &layer);
    }
    let (created, packing) = (created(time), Compression::best());
    let image = Image { arch: platform.arch, name, time, created, labels: labels()?, packing };
    let archive = oci::archive(&image, &layer)?;
    let back = oci::read(&archive)?;
    if back.root != entries || back.config["architecture"] != platform.arch {
        return Err("what was read back isn't what was written".into());
    }
    write(&out, &archive)?;
    write(&out.with_extension("cdx.json"), bill.as_bytes())?;
    let (size, packed) = (size as f64 / 1e6, archive.len() as f64 / 1e6);
    println!("{}: {}, {size:.2} MB unpacked, {packed:.2} MB packed", out.display(), image.name);
    Ok(())
}

/// Makes the image for this machine from an executable that is up to date, and gives its tar.
pub(crate) fn make() -> Outcome<PathBuf> {
    run(&[])?;
    Ok(root().join(format!("target/image/pillion-{}.tar", own_arch())))
}

/// Unpacks an image's root file system into a folder, with the owners and modes that it says.
pub(crate) fn unpack(image: &Path, into: &Path) -> Outcome {
    for entry in oci::read(&read(image)?)?.root {
        let path = into.join(&entry.path);
        let made = match &entry.kind {
            Kind::Folder => fs::create_dir(&path),
            Kind::File(bytes) => fs::write(&path, bytes),
            Kind::Link(target) => std::os::unix::fs::symlink(target, &path),
        };
        let mode = || match entry.kind {
            Kind::Link(_) => Ok(()),
            _ => fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)),
        };
        made.and_then(|()| mode()).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn own_arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

struct Sources {
    binary: Option<PathBuf>,
    busybox: Option<PathBuf>,
    certificates: PathBuf,
}

impl Sources {
    fn read(&self, platform: &Platform) -> Outcome<Parts> {
        let binary = match &self.binary {
            Some(path) => path.clone(),
            None => dist::build_for(platform.target)?,
        };
        let busybox = match &self.busybox {
            Some(path) => path.clone(),
            None => busybox::path(platform.arch)?,
        };
        let pillion = executable(&binary, platform)?;
        let shell = executable(&busybox, platform)?;
        contents::check_busybox(&shell)?;
        let certificates = read(&self.certificates)
            .map_err(|e| format!("{e}: install ca-certificates, or name a bundle with --certificates FILE"))?;
        if !certificates.starts_with(b"-----BEGIN CERTIFICATE-----")
            && !contains(&certificates, b"\n-----BEGIN CERTIFICATE-----")
        {
            return Err(format!("{} holds no certificate (PEM)", self.certificates.display()));
        }
        let packages = [
            Package {
                name: busybox::PACKAGE,
                version: busybox::version(&shell),
                licence: "GPL-2.0-only",
                sha256: oci::sha256(&shell),
            },
            Package {
                name: "ca-certificates",
                version: debian_version("ca-certificates"),
                licence: "MPL-2.0",
                sha256: oci::sha256(&certificates),
            },
        ];
        let sbom = sbom::document(platform.target, env!("CARGO_PKG_VERSION"), &packages)?;
        let copyright = |name: &'static str| Some((name, fs::read(format!("/usr/share/doc/{name}/copyright")).ok()?));
        let copyrights = COPYRIGHTS.iter().copied().filter_map(copyright).collect();
        Ok(Parts { pillion, busybox: shell, certificates, copyrights, sbom })
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(|e| format!("{}: {e}", path.display()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

/// A static executable for this platform.
fn executable(path: &Path, platform: &Platform) -> Outcome<Vec<u8>> {
    let bytes = read(path)?;
    let why = |e: String| format!("{}: {e}", path.display());
    dist::check_static(&bytes).map_err(why)?;
    let machine = bytes.get(18..20).map(|b| u16::from_le_bytes([b[0], b[1]]));
    if machine != Some(platform.machine) {
        return Err(why(format!("isn't for {}", platform.arch)));
    }
    Ok(bytes)
}

fn debian_version(package: &str) -> Option<String> {
    child::run(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package])).ok().filter(|v| !v.is_empty())
}

fn git(words: &[&str]) -> Option<String> {
    let said = child::run(Command::new("git").current_dir(root()).args(words)).ok()?;
    Some(said.trim().to_owned()).filter(|s| !s.is_empty())
}

/// The time that everything in the image has: `SOURCE_DATE_EPOCH`, else the last commit's, else 0.
fn time() -> Outcome<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(set) => set,
        Err(_) => git(&["log", "-1", "--format=%ct"]).unwrap_or_else(|| "0".into()),
    };
    text.trim().parse().map_err(|_| format!("SOURCE_DATE_EPOCH: `{text}` is no number of seconds"))
}

/// RFC 3339, in UTC.
fn created(time: u64) -> String {
    let (year, month, day) = civil_from_days((time / 86_400) as i64);
    let second = time % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

fn labels() -> Outcome<Vec<(&'static str, String)>> {
    let mut labels = vec![
        ("title", "pillion".to_owned()),
        ("description", "A log shipper that rides with Kubernetes Jobs and speaks Filebeat's language".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("licenses", "Apache-2.0 AND GPL-2.0-only AND MPL-2.0".to_owned()),
        ("created", created(time()?)),
    ];
    labels.extend(git(&["rev-parse", "HEAD"]).map(|commit| ("revision", commit)));
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_rfc_3339() {
        for (time, told) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(created(time), told);
        }
    }
}
