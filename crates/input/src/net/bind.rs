//! Sockets that listen.
//!
//! Comes in: a [`Listen`]. Goes out: a socket that doesn't block, or why not, with its name. Always holds: only a socket
//! that somebody left behind is removed from a path, never a file; what was made on the way is removed at the end.
//! Tested end to end.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode};

use crate::net::{Address, Listen};

/// How many connections wait in the kernel.
const BACKLOG: i32 = 4096;

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Stream(UnixListener),
    Datagrams(UnixDatagram),
}

/// A socket's file; removed with this.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it, or made another.
        let _ = rustix::fs::unlink(&self.0);
    }
}

/// Makes the socket of an input.
pub(super) fn bind(listen: &Listen) -> io::Result<(Socket, Option<SocketFile>)> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", listen.name));
    match &listen.address {
        Address::Tcp(all) => {
            let socket = first(all, |at| TcpListener::bind(at)).map_err(named)?;
            rustix::net::listen(&socket, BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok((Socket::Tcp(socket), None))
        }
        Address::Udp(all) => {
            let socket = first(all, |at| UdpSocket::bind(at)).map_err(named)?;
            if let Some(size) = listen.read_buffer {
                rustix::net::sockopt::set_socket_recv_buffer_size(&socket, size)?;
            }
            socket.set_nonblocking(true)?;
            Ok((Socket::Udp(socket), None))
        }
        Address::Unix { path, datagrams, group, mode } => {
            make_way(path).map_err(named)?;
            let socket = if *datagrams {
                Socket::Datagrams(UnixDatagram::bind(path).map_err(named)?)
            } else {
                Socket::Stream(UnixListener::bind(path).map_err(named)?)
            };
            let file = SocketFile(path.clone());
            permit(path, *group, *mode).map_err(named)?;
            match &socket {
                Socket::Datagrams(socket) => socket.set_nonblocking(true)?,
                Socket::Stream(socket) => {
                    rustix::net::listen(socket.as_fd(), BACKLOG)?;
                    socket.set_nonblocking(true)?;
                }
                Socket::Tcp(_) | Socket::Udp(_) => {}
            }
            Ok((socket, Some(file)))
        }
    }
}

/// The first address that can be bound; of several the last one's error.
fn first<T>(all: &[SocketAddr], bind: impl Fn(&SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for at in all {
        match bind(at) {
            Ok(socket) => return Ok(socket),
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// Removes the socket that a process before this one left behind.
fn make_way(path: &Path) -> io::Result<()> {
    match rustix::fs::lstat(path) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => Ok(rustix::fs::unlink(path)?),
        Ok(_) => Err(io::Error::other("there is a file that isn't a socket, and it isn't removed for one")),
    }
}

fn permit(path: &Path, group: Option<u32>, mode: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        rustix::fs::chownat(rustix::fs::CWD, path, None, Some(Gid::from_raw(group)), AtFlags::empty())?;
    }
    if let Some(mode) = mode {
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}
