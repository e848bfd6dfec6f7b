//! One request to a Docker daemon, and its answer.
//!
//! Comes in: a path. Goes out: the body of a 200; nothing for a 404.
//! Always holds: all of it takes no longer than it may, and an answer is at most [`ANSWER`]. HTTP/1.0: nothing is chunked, and the
//! answer's end is the connection's. Tested with the processor, and below.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use pillion_world::World;
use rustix::net::sockopt::Timeout;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use crate::fqdn;

/// The largest answer, bytes.
const ANSWER: usize = 1 << 20;

/// Where a daemon listens.
#[derive(Debug)]
pub(super) enum Daemon {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Daemon::Unix(path) => write!(f, "unix://{}", path.display()),
            // Without what could be a password.
            Daemon::Tcp(host, port) => write!(f, "tcp://{}:{port}", host.rsplit('@').next().unwrap_or(host)),
        }
    }
}

trait Stream: Read + Write + AsFd {}

impl<S: Read + Write + AsFd> Stream for S {}

/// A read and a write take no longer than this.
fn limit(stream: &dyn Stream, left: Duration) -> io::Result<()> {
    for way in [Timeout::Recv, Timeout::Send] {
        sockopt::set_socket_timeout(stream.as_fd(), way, Some(left))?;
    }
    Ok(())
}

impl Daemon {
    /// `unix://PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`; none: nobody can be asked there.
    pub(super) fn at(host: &str) -> Option<Daemon> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Some(Daemon::Unix(path.into()));
        }
        let host = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://"))?;
        let (host, port) = host.trim_end_matches('/').rsplit_once(':')?;
        Some(Daemon::Tcp(host.to_owned(), port.parse().ok()?))
    }

    /// Whether there is something at a socket's path; elsewhere nobody knows without asking.
    pub(super) fn may_be_there(&self, world: &World) -> bool {
        match self {
            Daemon::Unix(path) => world.fs.stat(path, true).is_ok(),
            Daemon::Tcp(..) => true,
        }
    }

    /// Asks; `None`: what is asked for isn't there.
    pub(super) fn get(&self, path: &str, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let clock = World::real().clock;
        let until = clock.mono().plus(patience);
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no whole answer within {patience:?}"));
        let left = || Some(until.since(clock.mono())).filter(|left| !left.is_zero()).ok_or_else(late);
        let mut stream = self.connect(left()?)?;
        limit(&*stream, left()?)?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: docker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|e| if is_late(&e) { late() } else { e })?;
        let (mut answer, mut part) = (Vec::new(), vec![0; 8192]);
        loop {
            limit(&*stream, left()?)?;
            match stream.read(&mut part) {
                Ok(0) => return body(&answer),
                Ok(size) => answer.extend_from_slice(&part[..size]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_late(&e) => return Err(late()),
                Err(e) => return Err(e),
            }
            if answer.len() > ANSWER {
                return Err(io::Error::other(format!("the answer is longer than {ANSWER} bytes")));
            }
        }
    }

    fn connect(&self, left: Duration) -> io::Result<Box<dyn Stream>> {
        match self {
            Daemon::Unix(path) => {
                let flags = SocketFlags::CLOEXEC;
                let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                // A connection waits in a full queue as long as a write would.
                sockopt::set_socket_timeout(&fd, Timeout::Send, Some(left))?;
                let connected = connect(&fd, &SocketAddrUnix::new(path.as_path())?).map_err(io::Error::from);
                connected.map_err(|e| {
                    if is_late(&e) {
                        io::Error::new(io::ErrorKind::TimedOut, "its queue of connections is full")
                    } else {
                        e
                    }
                })?;
                Ok(Box::new(UnixStream::from(fd)))
            }
            Daemon::Tcp(host, port) => {
                let clock = World::real().clock;
                let begin = clock.mono();
                let address = fqdn::address(&World::real(), host, left).map_err(io::Error::other)?;
                let left = left.saturating_sub(clock.mono().since(begin)).max(Duration::from_millis(1));
                Ok(Box::new(TcpStream::connect_timeout(&SocketAddr::new(address, *port), left)?))
            }
        }
    }
}

/// A socket's own limit is over.
fn is_late(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn body(answer: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "that is no answer of a Docker daemon");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(wrong)?;
    match answer.split(|byte| *byte == b' ').nth(1) {
        Some(b"200") => Ok(Some(answer[head + 4..].to_vec())),
        Some(b"404") => Ok(None),
        Some(status) if answer.starts_with(b"HTTP/") => Err(io::Error::other(format!(
            "it answers with status {}",
            String::from_utf8_lossy(&status[..status.len().min(3)])
        ))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let ok = |answer: &str| body(answer.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(ok("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Ok(Some(b"{}".to_vec())));
        assert_eq!(ok("HTTP/1.1 404 Not Found\r\n\r\nx"), Ok(None));
        for (answer, want) in [
            ("HTTP/1.0 500 Oops\r\n\r\n", "status 500"),
            ("HTTP/1.0 200 OK\r\n", "no answer"),
            ("", "no answer"),
            ("SSH-2.0 x y\r\n\r\n", "no answer"),
        ] {
            assert!(ok(answer).is_err_and(|e| e.contains(want)), "{answer}");
        }
    }

    #[test]
    fn one_that_hangs_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let daemon = Daemon::at(&format!("tcp://127.0.0.1:{}", listener.local_addr().unwrap().port())).unwrap();
        let late = |daemon: &Daemon| daemon.get("/_ping", Duration::from_millis(50)).unwrap_err().kind();
        assert_eq!(late(&daemon), io::ErrorKind::TimedOut);
        // One whose queue of connections is full, and nobody takes any.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&fd, &SocketAddrUnix::new(path.as_path()).unwrap()).unwrap();
        rustix::net::listen(&fd, 0).unwrap();
        let daemon = Daemon::Unix(path);
        for _ in 0..4 {
            assert_eq!(late(&daemon), io::ErrorKind::TimedOut);
        }
    }
}
