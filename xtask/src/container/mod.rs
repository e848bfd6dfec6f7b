//! `cargo xtask e2e image`: the image's root file system in namespaces, as a container runtime would run it.
//!
//! Comes in: the image's tar. Goes out: a line for each case, and an error when one failed.
//! Always holds: a container's first process has no parent in its process namespace, no capability it doesn't need, and a
//! user of its own; nothing of a case outlives it. Needs root, for the namespaces and mounts.

mod cases;
mod job;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::args::Args;
use crate::child::Child;
use crate::{Outcome, image, wait};

const LIMIT: Duration = Duration::from_secs(60);
const LAUNCH: &str = include_str!("launch.sh");
const PATH: &str = "PATH=/usr/share/filebeat:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `--image FILE` (else it is made from `target/dist/pillion`), `--case NAME`, `--trials N` for those that race.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let file = args.value("--image")?.map(PathBuf::from);
    let only = args.value("--case")?;
    let trials = args.number("--trials", 20)?;
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let bed = Bed::unpack(&file.map_or_else(image::make, Ok)?, trials)?;
    let mut failed = 0;
    for case in cases::ALL.iter().filter(|c| only.as_ref().is_none_or(|o| o == c.name)) {
        let outcome = (case.run)(&bed);
        println!("{:28} {}", case.name, outcome.as_ref().map_or_else(|why| format!("FAILED: {why}"), |()| "ok".into()));
        failed += usize::from(outcome.is_err());
    }
    if failed > 0 { Err(format!("{failed} cases failed")) } else { Ok(()) }
}

/// An unpacked image.
struct Bed {
    root: TempDir,
    trials: usize,
}

impl Bed {
    fn unpack(file: &Path, trials: usize) -> Outcome<Bed> {
        let root = tempfile::Builder::new().prefix("pillion-image").tempdir().map_err(|e| e.to_string())?;
        image::unpack(file, root.path())?;
        // Where a runtime mounts something.
        for folder in ["proc", "dev", "data"] {
            fs::create_dir_all(root.path().join(folder)).map_err(|e| e.to_string())?;
        }
        open_to_all(root.path(), 0o755)?;
        fs::write(root.path().join("launch.sh"), LAUNCH).map_err(|e| e.to_string())?;
        Ok(Bed { root, trials })
    }

    fn launch(&self) -> PathBuf {
        self.root.path().join("launch.sh")
    }
}

fn open_to_all(path: &Path, mode: u32) -> Outcome {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| format!("{}: {e}", path.display()))
}

/// How a container is started.
struct Spec<'a> {
    command: Vec<&'a str>,
    env: Vec<String>,
    user: u32,
    read_only: bool,
    /// Filebeat's data folder lies on a volume.
    state: bool,
    /// Another container's process namespace, by that one's first process.
    shared: Option<i32>,
}

impl<'a> Spec<'a> {
    fn new(command: &[&'a str]) -> Spec<'a> {
        Spec { command: command.to_vec(), env: Vec::new(), user: 1000, read_only: true, state: true, shared: None }
    }

    /// `/bin/sh -c SCRIPT`.
    fn shell(script: &'a str) -> Spec<'a> {
        Spec::new(&["/bin/sh", "-c", script])
    }

    fn env(mut self, name: &str, value: impl std::fmt::Display) -> Spec<'a> {
        self.env.push(format!("{name}={value}"));
        self
    }
}

/// A running container.
struct Container {
    launcher: Child,
    folder: TempDir,
}

impl Container {
    fn start(bed: &Bed, spec: &Spec<'_>) -> Outcome<Container> {
        let folder = tempfile::Builder::new().prefix("pillion-container").tempdir().map_err(|e| e.to_string())?;
        for name in ["data", "state"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).map_err(|e| e.to_string())?;
            open_to_all(&path, 0o777)?;
        }
        let mut command = match spec.shared {
            None => words("unshare", &["--pid", "--mount", "--fork", "--kill-child"]),
            Some(pid) => words("nsenter", &[&format!("--pid=/proc/{pid}/ns/pid"), "unshare", "--mount"]),
        };
        let (root, user) = (bed.root.path().display(), spec.user);
        command.arg("/bin/sh").arg(bed.launch()).arg(bed.root.path()).arg(folder.path().join("data"));
        command.arg(if spec.state { folder.path().join("state") } else { "none".into() });
        command.arg(if spec.read_only { "yes" } else { "no" });
        command.args(["/usr/bin/env", "-i", PATH]).args(&spec.env).arg("/usr/bin/unshare");
        command.args([format!("--root={root}"), "--wd=/usr/share/filebeat".into()]);
        command.args([format!("--setgid={user}"), format!("--setuid={user}")]).args(&spec.command);
        let launcher = Child::start(&mut command, &folder.path().join("log"))?;
        Ok(Container { launcher, folder })
    }

    /// Starts it, and waits until it has printed `ready`.
    fn ready(bed: &Bed, spec: &Spec<'_>) -> Outcome<Container> {
        let mut container = Container::start(bed, spec)?;
        container.wait_for_line("ready")?;
        Ok(container)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// What it has printed.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait_for_line(&mut self, line: &str) -> Outcome {
        wait::until(&format!("the line {line}"), LIMIT, || {
            let there = self.log().lines().any(|l| l == line);
            match self.launcher.ended()? {
                Some(ended) if !there => Err(format!("it ended before: {}", ended.status)),
                _ => Ok(there.then_some(())),
            }
        })
        .map_err(|e| format!("{e}; {}", self.log()))
    }

    /// The first process, by the id that it has here.
    fn first(&self) -> Outcome<i32> {
        let launcher = self.launcher.id();
        wait::until("the container's first process", LIMIT, || {
            let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children"));
            Ok(children.unwrap_or_default().split_whitespace().next().and_then(|pid| pid.parse().ok()))
        })
    }

    /// Sends the first process a signal, as kubelet does.
    fn signal(&self, signal: Signal) -> Outcome {
        let pid = Pid::from_raw(self.first()?).ok_or("no process")?;
        kill_process(pid, signal).map_err(|e| format!("a signal: {e}"))
    }

    /// Its exit code.
    fn wait(&mut self) -> Outcome<i32> {
        let ended = self.launcher.wait(LIMIT).map_err(|e| format!("{e}; {}", self.log()))?;
        ended.status.code().ok_or_else(|| format!("{}; {}", ended.status, self.log()))
    }

    fn ends_with(&mut self, code: i32) -> Outcome {
        let got = self.wait()?;
        if got == code { Ok(()) } else { Err(format!("exit code {got}, not {code}; {}", self.log())) }
    }

    /// Runs a command in it, as `kubectl exec` does: its exit code and what it printed.
    fn exec(&self, command: &[&str]) -> Outcome<(i32, String)> {
        let pid = self.first()?;
        let flags = [format!("--target={pid}"), "--pid".into(), "--mount".into(), format!("--root=/proc/{pid}/root")];
        let user = ["--wd=/".to_owned(), "--setgid=1000".into(), "--setuid=1000".into(), "--".into()];
        let mut enter = Command::new("nsenter");
        let said = enter.args(flags).args(user).args(["/usr/bin/env", "-i", PATH]).args(command).output();
        let said = said.map_err(|e| format!("nsenter: {e}"))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        Ok((said.status.code().unwrap_or(-1), text))
    }
}

fn words(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}
