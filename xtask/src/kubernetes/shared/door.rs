//! A door before the server, for Filebeat: 7.17 asks each server for its licence, and takes none that has no answer, as the
//! free build of Elasticsearch 7.10.
//!
//! Comes in: Filebeat's requests. Goes out: the server's answers, and one of the door's own for `/_license`.
//! Always holds: everything else is passed on as it is, but for `Connection: close`: one request for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::Outcome;
use crate::kubernetes::Node;

/// Longer than the server takes for a request.
const PATIENCE: Duration = Duration::from_secs(120);
/// Filebeat's requests are of 50 events.
const LARGEST: u64 = 64 << 20;

const LICENCE: &str = r#"{"license":{"uid":"0","type":"basic","mode":"basic","status":"active"}}"#;

/// Opens a door to a server on loopback; its port. It stays open until the program ends.
pub(super) fn open(to: u16) -> Outcome<u16> {
    let listener = TcpListener::bind((Node::ADDRESS, 0)).map_err(|e| format!("{}: {e}", Node::ADDRESS))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // What fails, Filebeat tries again.
            let _ = std::thread::Builder::new().spawn(move || pass(client, to));
        }
    });
    Ok(port)
}

fn pass(mut client: TcpStream, to: u16) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client.try_clone()?.take(LARGEST));
    let (mut head, mut length, mut first) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let name = line.to_ascii_lowercase();
        if let Some(value) = name.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
        if line == "\r\n" {
            break;
        }
        if !name.starts_with("connection:") {
            head.push_str(&line);
        }
        if first.is_empty() {
            first = line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if first.contains(" /_license") {
        let length = LICENCE.len();
        return write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{LICENCE}"
        );
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    server.set_read_timeout(Some(PATIENCE))?;
    write!(server, "{head}Connection: close\r\n\r\n")?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.take(LARGEST).read_to_end(&mut answer)?;
    // Filebeat would send its next request here, too, and wait for seconds after it failed.
    let status = answer.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    let (status, rest) = answer.split_at(status);
    client.write_all(status)?;
    client.write_all(b"Connection: close\r\n")?;
    client.write_all(rest)
}
