//! `cargo xtask e2e podman`: the image with a container engine's real program, and the Dockerfile.
//!
//! Comes in: Debian's podman and runc, the image that `cargo xtask image` makes, deploy/image/Dockerfile. Goes out: a line for each case.
//! Always holds: podman's storage lies in a folder of the run, nothing is pulled, no container has a network; the
//! Dockerfile's first stage is a stand-in (its base image and Debian's packages are elsewhere), all else is as it stands.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::args::Args;
use crate::peer::Score;
use crate::{Outcome, child, image, root};

/// What `cargo xtask image` names its image.
const NAME: &str = concat!("localhost/pillion:", env!("CARGO_PKG_VERSION"));
const BUILT: &str = "localhost/pillion:dockerfile";
/// The Dockerfile's base.
const BASE: &str = "docker.io/library/rust:1.95-bookworm";

/// `--case NAME`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let mut score = Score::new(args.value("--case")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let engine = Engine::new()?;
    let tar = image::make()?;
    engine.podman(&["load", "--input", &tar.display().to_string()])?;
    score.case("runs", || engine.runs());
    score.case("no-target", || engine.no_target());
    score.case("shell", || engine.shell());
    score.case("dockerfile", || engine.dockerfile());
    let ended = score.end();
    // Layers have owners and modes that removing a folder can't cope with everywhere; podman knows its own.
    engine.podman(&["rmi", "--all", "--force"])?;
    ended
}

struct Engine {
    place: TempDir,
}

impl Engine {
    fn new() -> Outcome<Engine> {
        let place = tempfile::Builder::new().prefix("pillion-podman").tempdir().map_err(|e| e.to_string())?;
        let at = |name: &str| place.path().join(name).display().to_string();
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n", at("graph"), at("run"));
        fs::write(place.path().join("storage.conf"), storage).map_err(|e| e.to_string())?;
        Ok(Engine { place })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_STORAGE_CONF", self.place.path().join("storage.conf"));
        // crun refuses machines that have both kinds of control groups.
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc"]).args(words);
        command
    }

    fn podman(&self, words: &[&str]) -> Outcome<String> {
        child::run(&mut self.command(words))
    }

    /// Runs the image as any user, with a read-only root file system and no capability.
    fn start(&self, flags: &[&str], words: &[&str]) -> Outcome<Output> {
        let files = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
        let files = format!("--ulimit=nofile={files}:{files}");
        let run = ["run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--user=12345", &files];
        // A limit that the machine forbids to raise isn't ours to try.
        let processes = "--ulimit=nproc=1000:1000";
        let all = [&run[..], &[processes], flags, &[NAME], words].concat();
        self.command(&all).output().map_err(|e| format!("podman: {e}"))
    }

    fn runs(&self) -> Outcome<String> {
        let out = self.start(&[], &["version"])?;
        let said = String::from_utf8_lossy(&out.stdout);
        if out.status.success() && said.contains("pillion") {
            return Ok(said.trim().to_owned());
        }
        Err(format!("{}: {said}{}", out.status, String::from_utf8_lossy(&out.stderr)))
    }

    fn no_target(&self) -> Outcome<String> {
        let out = self.start(&[], &[])?;
        let said = String::from_utf8_lossy(&out.stderr);
        if out.status.code() == Some(2) && said.contains("remedy:") && said.contains("LOGSTASH_HOSTS=") {
            return Ok("refused, with the remedy".to_owned());
        }
        Err(format!("{}: {said}", out.status))
    }

    fn shell(&self) -> Outcome<String> {
        let out = self.start(&["--entrypoint=/bin/sh"], &["-c", "id -u; exit 7"])?;
        let said = String::from_utf8_lossy(&out.stdout);
        if out.status.code() == Some(7) && said.trim() == "12345" {
            return Ok("its exit code is the container's".to_owned());
        }
        Err(format!("{}: {said}{}", out.status, String::from_utf8_lossy(&out.stderr)))
    }

    /// The Dockerfile gives the image that `cargo xtask image` writes: the same files, the same settings.
    fn dockerfile(&self) -> Outcome<String> {
        self.base()?;
        let empty = self.place.path().join("context");
        fs::create_dir(&empty).map_err(|e| e.to_string())?;
        let file = root().join("deploy/image/Dockerfile");
        let (file, empty) = (file.display().to_string(), empty.display().to_string());
        let build = ["build", "--quiet", "--pull=never", "--isolation=chroot", "--tag", BUILT, "--file", &file, &empty];
        self.podman(&build)?;
        let (ours, built) = (self.settings(NAME)?, self.settings(BUILT)?);
        if ours != built {
            return Err(format!("settings: {ours} and {built}"));
        }
        let (ours, built) = (self.files(NAME)?, self.files(BUILT)?);
        if ours != built {
            let odd = |a: &str, b: &str| {
                a.lines().filter(|line| !b.contains(line)).map(|l| format!("\n  {l}")).collect::<String>()
            };
            return Err(format!("only ours:{}\nonly the Dockerfile's:{}", odd(&ours, &built), odd(&built, &ours)));
        }
        Ok(format!("{} files and all settings are the same", ours.lines().count()))
    }

    /// What stands in for the base image: a shell, and a `cargo` that has the root file system ready.
    fn base(&self) -> Outcome {
        let base = self.place.path().join("base");
        let why = |e: std::io::Error| e.to_string();
        fs::create_dir_all(base.join("bin")).map_err(why)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.ok_or("no busybox: install busybox-static")?, base.join("bin/busybox")).map_err(why)?;
        for name in ["sh", "mkdir", "tar", "cp"] {
            symlink("busybox", base.join("bin").join(name)).map_err(why)?;
        }
        let scripts = [
            ("apt-get", "#!/bin/sh\nexit 0\n"),
            (
                "cargo",
                "#!/bin/sh\n[ \"$*\" = \"xtask image --layer /out/rootfs.tar\" ] || exit 1\nmkdir -p /out && cp /layer.tar /out/rootfs.tar\n",
            ),
        ];
        for (name, text) in scripts {
            let path = base.join("bin").join(name);
            fs::write(&path, text).map_err(why)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(why)?;
        }
        image::run(&["--layer", &base.join("layer.tar").display().to_string()])?;
        fs::write(base.join("Dockerfile"), "FROM scratch\nCOPY bin /bin\nCOPY layer.tar /\nENV PATH=/bin\n")
            .map_err(why)?;
        self.podman(&["build", "--quiet", "--isolation=chroot", "--tag", BASE, &base.display().to_string()]).map(drop)
    }

    /// What an image says of itself, without what is different for each build.
    fn settings(&self, name: &str) -> Outcome<Value> {
        let said = self.podman(&["image", "inspect", "--format", "{{json .Config}}", name])?;
        let mut config: Value = serde_json::from_str(&said).map_err(|e| format!("{said}: {e}"))?;
        if let Some(labels) = config["Labels"].as_object_mut() {
            let each = ["io.buildah.version", "org.opencontainers.image.created", "org.opencontainers.image.revision"];
            labels.retain(|label, _| !each.contains(&label.as_str()));
        }
        Ok(config)
    }

    /// Every path with its mode, owner, kind, target and content.
    fn files(&self, name: &str) -> Outcome<String> {
        let mounted = self.podman(&["image", "mount", name])?;
        let list =
            "cd \"$1\" && find . -mindepth 1 -printf '%P %m %U:%G %y %l\\n' && find . -type f -exec sha256sum {} +";
        let found = child::run(Command::new("sh").args(["-c", list, "sh", mounted.trim()]));
        self.podman(&["image", "unmount", name])?;
        let found = found?;
        let mut lines: Vec<&str> = found.lines().collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }
}
