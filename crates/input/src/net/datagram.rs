//! Datagrams: UDP and Unix sockets.
//!
//! Comes in: datagrams, each a message. Goes out: the same into the [`Port`], many in a batch. Always holds: while the queue
//! is full, none is taken: the kernel keeps what its buffer holds and drops the rest of UDP (it makes senders of Unix
//! sockets wait); what it drops is counted. Tested end to end.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::{Instant, timeout};

use crate::net::frame::Frame;
use crate::net::port::Port;
use crate::net::{CHUNK, LINGER, QUIET};

/// The largest datagram that a buffer is made for: of UDP there are none of 64 KiB, of Unix sockets none of a few hundred.
const LARGEST: usize = 4 << 20;

/// Datagrams of one batch.
const DATAGRAMS: usize = 512;

/// A socket for datagrams.
pub(super) enum Datagrams {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Datagrams {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Datagrams::Udp(socket) => socket.readable().await,
            Datagrams::Unix(socket) => socket.readable().await,
        }
    }

    /// Takes one: its length and who sent it.
    fn take(&self, buf: &mut [u8]) -> io::Result<(usize, Option<String>)> {
        match self {
            Datagrams::Udp(socket) => socket.try_recv_from(buf).map(|(len, peer)| {
                let peer = std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port());
                (len, Some(peer.to_string()))
            }),
            Datagrams::Unix(socket) => socket.try_recv(buf).map(|len| (len, None)),
        }
    }

    /// The number by which the kernel lists it.
    fn inode(&self) -> Option<u64> {
        let fd = match self {
            Datagrams::Udp(socket) => socket.as_fd(),
            Datagrams::Unix(socket) => socket.as_fd(),
        };
        rustix::fs::fstat(fd).ok().map(|stat| stat.st_ino)
    }
}

/// Reads until the drain has read all that came before it.
pub(super) async fn listen(port: Rc<Port>, socket: Datagrams) {
    // One byte more shows that a datagram is longer.
    let mut buf = vec![0; port.listen.max_message.min(LARGEST) + 1];
    let drain = port.drain();
    tokio::pin!(drain);
    let (mut draining, mut counted) = (None, Instant::now());
    loop {
        let read = async {
            let budget = port.shared.room().await;
            let readable = match draining {
                Some(_) => timeout(QUIET, socket.readable()).await.is_ok(),
                None => socket.readable().await.is_ok(),
            };
            readable.then_some(budget)
        };
        tokio::select! {
            budget = read => match budget {
                Some(budget) => take(&port, &socket, &mut buf, budget.events.clamp(1, DATAGRAMS)),
                None => break,
            },
            () = &mut drain, if draining.is_none() => draining = Some(Instant::now()),
        }
        if counted.elapsed() > Duration::from_secs(1) {
            counted = Instant::now();
            count_drops(&port, &socket);
        }
        if draining.is_some_and(|begun: Instant| begun.elapsed() > LINGER) {
            port.abandon();
            tracing::warn!("{}: datagrams went on coming: what comes from now on isn't read", port.listen.name);
            break;
        }
    }
    count_drops(&port, &socket);
    drop(socket);
    port.closed();
}

/// Takes at most so many datagrams, and pushes them: those of one sender together.
fn take(port: &Port, socket: &Datagrams, buf: &mut [u8], most: usize) {
    let (mut data, mut frames, mut address) = (Vec::new(), Vec::<Frame>::new(), None);
    let mut taken = 0;
    while taken < most && data.len() < CHUNK {
        let (len, peer) = match socket.take(buf) {
            Ok(datagram) => datagram,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            // Nothing is there, or it is the echo of what nobody here has sent.
            Err(_) => break,
        };
        taken += 1;
        if peer != address {
            port.push(std::mem::take(&mut data), &std::mem::take(&mut frames), address.as_deref());
            address = peer;
        }
        let kept = len.min(buf.len() - 1);
        if kept > 0 {
            let start = data.len();
            data.extend_from_slice(buf.get(..kept).unwrap_or_default());
            frames.push(Frame { whole: start..data.len(), text: start..data.len(), cut: len > kept });
        }
    }
    port.push(data, &frames, address.as_deref());
}

/// Notes how many datagrams the kernel has dropped since the socket was made, and says when there are more.
fn count_drops(port: &Port, socket: &Datagrams) {
    if !matches!(socket, Datagrams::Udp(_)) {
        return;
    }
    let Some(inode) = socket.inode() else { return };
    let world = &port.shared.world;
    let now = ["/proc/net/udp", "/proc/net/udp6"].iter().find_map(|table| {
        let bytes = world.fs.read(table.as_ref(), 16 << 20).ok()?;
        drops(&String::from_utf8_lossy(&bytes), inode)
    });
    if let Some(now) = now
        && port.dropped(now)
    {
        tracing::warn!(
            dropped = now,
            "{}: the kernel has dropped datagrams, since they came faster than they could be taken; a larger `read_buffer` \
             takes longer bursts (up to net.core.rmem_max), and TCP loses none",
            port.listen.name
        );
    }
}

/// What the kernel's table says of a socket.
fn drops(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    row.filter(|row| row.get(9).is_some_and(|i| *i == inode)).find_map(|row| row.get(12)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_of_drops() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             \x20 4200: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n";
        assert_eq!((drops(table, 4711), drops(table, 4712), drops("", 1)), (Some(17), None, None));
    }
}
