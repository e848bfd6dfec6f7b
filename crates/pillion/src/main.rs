//! The binary: what the user asked for, and the exit code.
//!
//! Comes in: arguments, environment. Goes out: what [`pillion`] does with them; 0 well, 2 a bad command line or
//! configuration, others by command. Tested in `tests/`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pillion::end_on_panic();
    ExitCode::from(pillion::run(pillion::cli::Process::real()))
}
