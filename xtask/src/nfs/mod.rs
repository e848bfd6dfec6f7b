//! A real network file system: NFSv4.1, GlusterFS or sshfs, in a kernel of its own, and the real executable as one of its clients.
//!
//! Comes in: the executable (`$PILLION_BIN`, else `target/dist/pillion`, built first). Goes out: a line for each case, and an
//! error when one failed. Always holds: the server, its clients and what hangs in them live in a user-mode kernel
//! (`e2e/nfs/init.sh`), which needs no privilege, starts nothing on the host, and ends with this chore; Debian's packages
//! are unpacked into the cache, not installed.
//!
//! | where | what |
//! |---|---|
//! | here | the guest: its packages, its start, what it said |
//! | `cases.rs` | what is done on the two sides, and what must arrive |
//! | `ride.rs` | Pillion in a case |
//!
//! inotify says nothing of what another client does: everything is seen by looking.

mod cases;
mod ride;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::args::Args;
use crate::child::{self, Child};
use crate::peer::tail;
use crate::shipper::Shipper;
use crate::{Outcome, cache, root, wait};

/// The kernel, the servers, what loads modules, and the libraries that these need.
const PACKAGES: [&str; 24] = [
    "user-mode-linux",
    "nfs-kernel-server",
    "kmod",
    "libkmod2",
    "libnfsidmap1",
    "libtirpc3",
    "libevent-core-2.1-7",
    "libkeyutils1",
    "libwrap0",
    "libsqlite3-0",
    "libreadline8",
    "sshfs",
    "libfuse3-3",
    "libglib2.0-0",
    "openssh-sftp-server",
    "glusterfs-common",
    "libglusterfs0",
    "libgfrpc0",
    "libgfxdr0",
    "liburcu8",
    "libaio1",
    "libacl1",
    "libssl3",
    "libuuid1",
];

/// Fills up what the kernel doesn't know of the machine's registers.
const PTRACE: &str = include_str!("../../../e2e/nfs/ptrace.c");

/// The guest's start, all cases, and its end; it takes about a third of that.
const LIMIT: Duration = Duration::from_secs(280);

/// What the guest serves its folder by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Nfs,
    GlusterFs,
    Sshfs,
}

impl On {
    fn named(name: &str) -> Outcome<On> {
        match name {
            "nfs" => Ok(On::Nfs),
            "glusterfs" => Ok(On::GlusterFs),
            "sshfs" => Ok(On::Sshfs),
            odd => Err(format!("--on nfs, glusterfs or sshfs, not {odd}")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            On::Nfs => "nfs",
            On::GlusterFs => "glusterfs",
            On::Sshfs => "sshfs",
        }
    }
}

/// Runs the cases: `--on nfs|glusterfs|sshfs` (nfs), `--case NAME`, or `--long`, the one that takes minutes. Inside of the guest,
/// `--inside`, these come as variables.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let (inside, long, on) = (args.switch("--inside"), args.switch("--long"), args.value("--on")?);
    let only = args.value("--case")?.or_else(|| long.then(|| cases::LONG.to_owned()));
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let variable = |name| inside.then(|| std::env::var(name).ok()).flatten();
    let on = On::named(&on.or_else(|| variable("ON")).unwrap_or_else(|| "nfs".into()))?;
    let only = only.or_else(|| variable("CASE"));
    if inside { cases::run(on, only.as_deref()) } else { in_guest(on, only.as_deref()) }
}

/// Why the guest can't run here.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("Debian has the user-mode kernel for x86-64 alone".into());
    }
    let tools = ["apt-get", "dpkg-deb", "mkfs.ext4", "setsid", "cc"];
    let found = |tool: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir: PathBuf| dir.join(tool).exists())
    };
    let missing: Vec<&str> = tools.into_iter().filter(|tool| !found(tool)).collect();
    let missing = missing.join(", ");
    (!missing.is_empty())
        .then(|| format!("the guest is made of Debian's packages and a C compiler; there is no {missing}"))
}

/// Debian's packages, unpacked, and what makes its kernel run on every processor.
fn tools() -> Outcome<PathBuf> {
    cache::built("nfs-guest", &[&PACKAGES.join(" "), PTRACE], |new| {
        let mut apt = Command::new("apt-get");
        child::run(apt.args(["download", "-q"]).args(PACKAGES).current_dir(new))?;
        for entry in fs::read_dir(new).map_err(|e| e.to_string())?.flatten() {
            let deb = entry.path();
            child::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(new))?;
            fs::remove_file(deb).map_err(|e| e.to_string())?;
        }
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(new.join("ptrace.so")).arg(root().join("e2e/nfs/ptrace.c"));
        child::run(&mut cc)?;
        // Where modules are looked for.
        let modules = new.join("lib/modules");
        std::os::unix::fs::symlink("../usr/lib/uml/modules", modules).map_err(|e| e.to_string())
    })
}

fn in_guest(on: On, only: Option<&str>) -> Outcome {
    if let Some(why) = missing() {
        return Err(why);
    }
    let (tools, shipper) = (tools()?, Shipper::named("pillion")?);
    let pillion = fs::canonicalize(&shipper.path).map_err(|e| format!("{}: {e}", shipper.path.display()))?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let work = tempfile::Builder::new().prefix("pillion-nfs").tempdir().map_err(|e| e.to_string())?;
    let (disk, log) = (work.path().join("disk"), work.path().join("kernel.log"));
    fs::File::create(&disk).and_then(|disk| disk.set_len(256 << 20)).map_err(|e| e.to_string())?;
    child::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"))?;
    let mut kernel = Command::new(tools.join("usr/bin/linux.uml"));
    kernel.env("LD_PRELOAD", tools.join("ptrace.so"));
    kernel.args(["mem=640M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]);
    kernel.args(["con=null", "con0=null,fd:1", "panic=1"]);
    let path = |name: &str, path: &Path| format!("{name}={}", path.display());
    kernel.args([path("ubda", &disk), path("init", &root().join("e2e/nfs/init.sh"))]);
    kernel.args([path("TOOLS", &tools), path("WORK", work.path()), path("RUN", &own), path("PILLION_BIN", &pillion)]);
    kernel.arg(format!("ON={}", on.name()));
    kernel.args(only.map(|case| format!("CASE={case}")));
    let mut child = Child::start(&mut kernel, &log)?;
    let code = wait::until("the end of the guest", LIMIT, || {
        let code = fs::read_to_string(work.path().join("code")).ok();
        let ended = child.ended()?.is_some().then(|| "it ended before its cases".to_owned());
        Ok(code.or(ended))
    });
    drop(child);
    let cases = fs::read_to_string(work.path().join("cases.log")).unwrap_or_default();
    print!("{cases}");
    match code {
        Ok(code) if code.trim() == "0" => Ok(()),
        Ok(code) if !cases.is_empty() => Err(format!("the cases ended with {}", code.trim())),
        code => {
            let (code, start) = (code.unwrap_or_else(|why| why), tail(&work.path().join("init.log")));
            Err(format!("{}\nthe start: {start}\nthe kernel: {}", code.trim(), tail(&log)))
        }
    }
}
