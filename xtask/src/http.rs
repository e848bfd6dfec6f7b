//! A small HTTP/1.1 client for servers on loopback.
//!
//! Comes in: a port, a request. Goes out: status and body.
//! Always holds: one request for each connection, 30 s at most for a read or a write, a body of at most 256 MiB.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(30);
const MOST: u64 = 256 * 1024 * 1024;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body, decoded from chunks.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `Null` when it isn't.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The answer when its status is 2xx, else what it says as an error.
    pub(crate) fn good(self) -> Outcome<Answer> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(format!("HTTP {}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// Sends one request to 127.0.0.1 and reads the answer. `body` is JSON, or NDJSON with its last newline.
pub(crate) fn request(port: u16, method: &str, path: &str, body: &[u8]) -> Outcome<Answer> {
    exchange(port, method, path, body).map_err(|e| format!("{method} {path} on port {port}: {e}"))
}

fn exchange(port: u16, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let kind = if path.contains("_bulk") { "application/x-ndjson" } else { "application/json" };
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    if !body.is_empty() {
        head.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    read_answer(&mut BufReader::new(stream.take(MOST)), method == "HEAD")
}

fn read_answer(stream: &mut impl BufRead, bodyless: bool) -> std::io::Result<Answer> {
    let odd = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| odd(&first))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", v)) => length = v.trim().parse::<u64>().ok(),
            Some(("transfer-encoding", v)) => chunked = v.contains("chunked"),
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    if bodyless {
    } else if chunked {
        loop {
            let size = u64::from_str_radix(line(stream)?.trim(), 16).map_err(|_| odd("a chunk without its size"))?;
            let got = stream.by_ref().take(size).read_to_end(&mut body)?;
            line(stream)?;
            if size == 0 || (got as u64) < size {
                break;
            }
        }
    } else {
        stream.by_ref().take(length.unwrap_or(MOST)).read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}

fn line(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    stream.read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn answers_with_a_length_in_chunks_and_to_the_end() {
        let cases: [(&str, &str); 3] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhixxx", "hi"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", "hi!"),
            ("HTTP/1.1 200 OK\r\n\r\nhi", "hi"),
        ];
        for (text, body) in cases {
            let answer = super::read_answer(&mut text.as_bytes(), false).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, body.as_bytes()));
        }
    }
}
