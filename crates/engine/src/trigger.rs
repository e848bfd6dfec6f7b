//! What starts the drain, beside signals: each submodule waits for one kind of end and says so once.

pub mod flag;
pub mod lock;
pub mod process;
pub mod work;

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor to wait for until it can be read.
fn readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "the safe form is deprecated, since it can't know what the next line says")]
    // SAFETY: an `OwnedFd` stays open, and the same descriptor, until the `AsyncFd` that owns it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? })
}
