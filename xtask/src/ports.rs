//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener};

use crate::Outcome;

/// A TCP port that nobody listens on now. Another program could take it before its user does: callers try again.
pub(crate) fn free() -> Outcome<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(|e| format!("no free port on loopback: {e}"))
}
