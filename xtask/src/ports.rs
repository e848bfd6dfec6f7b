//! Free ports on loopback.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::Outcome;

/// A TCP port that nobody listens on now. Another program could take it before its user does: callers try again.
pub(crate) fn free() -> Outcome<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(|e| format!("no free port on loopback: {e}"))
}

/// The same of UDP.
pub(crate) fn free_udp() -> Outcome<u16> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map(|a| a.port())
        .map_err(|e| format!("no free port of UDP on loopback: {e}"))
}
