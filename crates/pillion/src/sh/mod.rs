//! Pillion called by the name of a shell: in its image, `/bin/sh` is this.
//!
//! The usual workaround ends a sidecar with `exit 0` in a shell that is process 1, which takes the shipper with it by SIGKILL.
//! So as the first process of a container this is an init that outlives the real shell until all is delivered ([`init`]); in
//! every other place, as under `kubectl exec` or in a script, it becomes the real shell at once.
//!
//! Comes in: a shell's arguments. Goes out: the shell's exit code.
//! Always holds: the real shell is busybox, by its own path, never by `PATH`, where the name would be ours again.
//! Tested in the modules below, and in the image itself by `cargo xtask e2e image`.

mod init;
mod place;
mod procs;
mod signals;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use pillion_world::World;

use crate::cli::Process;
use crate::complain;

/// Where busybox may lie.
const REAL: &[&str] = &["/usr/bin/busybox", "/bin/busybox"];
/// The exit code when there is no real shell.
const NO_SHELL: u8 = 127;

/// Whether this is how a shell is called: `sh`, and `-sh` for a login.
pub(crate) fn is_shell(name: &str) -> bool {
    matches!(name.strip_prefix('-').unwrap_or(name), "sh" | "ash" | "bash")
}

/// Is a shell. Comes back with an exit code only as an init, or when there is no real shell.
pub(crate) fn run(process: &Process) -> u8 {
    let Some(real) = REAL.iter().map(Path::new).find(|path| path.exists()) else {
        complain(&format!("{}: there is no busybox at {}", process.name(), REAL.join(" or ")));
        return NO_SHELL;
    };
    let mut shell = Command::new(real);
    // Busybox knows by its name what it is to be.
    shell.arg0(if process.name().starts_with('-') { "-sh" } else { "sh" });
    shell.args(process.args.iter().skip(1));
    if place::is_first_of_container() {
        return init::run(&World::real(), shell, real);
    }
    let e = shell.exec();
    complain(&format!("{}: {}: {e}", process.name(), real.display()));
    NO_SHELL
}

#[cfg(test)]
mod tests {
    #[test]
    fn shells_are_known_by_name() {
        for (name, shell) in
            [("sh", true), ("-sh", true), ("bash", true), ("ash", true), ("pillion", false), ("-", false)]
        {
            assert_eq!(super::is_shell(name), shell, "{name}");
        }
    }
}
