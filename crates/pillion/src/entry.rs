//! Pillion called by the name `docker-entrypoint`, as the entry point of Elastic's images: flags or a command of ours after
//! it are ours, anything else is a program to become.
//!
//! Comes in: arguments. Goes out: the arguments of a `filebeat`, or an exit code when the other program can't be run (127
//! when there is none of that name, 126 when it can't be run).
//! Always holds: the process stays the same, so that signals reach what it has become.
//! Tested below and by `cargo xtask e2e image`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use crate::cli::{self, Process};
use crate::complain;

/// The name.
pub(crate) const NAME: &str = "docker-entrypoint";

/// What is to become of this process.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// `filebeat` with these arguments.
    Ours(Vec<OsString>),
    /// Another program, its name first.
    Program(Vec<OsString>),
}

fn wanted(args: Vec<OsString>) -> Wanted {
    let ours = match args.first().map(|first| first.to_string_lossy()) {
        None => true,
        Some(first) => first.is_empty() || first.starts_with('-') || cli::is_command(&first),
    };
    if ours { Wanted::Ours(args) } else { Wanted::Program(args) }
}

/// The process as `filebeat` sees it. Doesn't come back when another program is wanted and can be run.
///
/// # Errors
/// With the exit code when it can't.
pub(crate) fn filebeat(mut process: Process) -> Result<Process, u8> {
    match wanted(process.args.into_iter().skip(1).collect()) {
        Wanted::Ours(args) => {
            process.args = std::iter::once("filebeat".into()).chain(args).collect();
            Ok(process)
        }
        Wanted::Program(words) => {
            let Some((program, args)) = words.split_first() else { return Err(1) };
            let e = std::process::Command::new(program).args(args).exec();
            complain(&format!("{NAME}: {}: {e}", program.to_string_lossy()));
            Err(if e.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_commands_are_ours() {
        for (line, ours) in [
            ("", true),
            ("-e", true),
            ("-environment container", true),
            ("test config -c x", true),
            ("exec -- ls", true),
            ("setup --dashboards", true),
            ("filebeat -e", false),
            ("sh -c x", false),
            ("/bin/sleep 1", false),
        ] {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(matches!(wanted(words), Wanted::Ours(_)), ours, "{line}");
        }
    }
}
