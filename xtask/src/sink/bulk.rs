//! Elasticsearch 7.17 as far as a shipper sees it: `GET /` and `_bulk`.
//!
//! Always holds: each item is answered; a `create` with an id that is there gets 409; a body may be gzipped.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::tally::{Fate, Tally};

const ROOT: &str = r#"{"name":"sink","cluster_name":"sink","cluster_uuid":"sink","version":{"number":"7.17.29","build_flavor":"oss"},"tagline":"You Know, for Search"}"#;
const MOST: u64 = 256 * 1024 * 1024;

/// Serves one connection to its end.
pub(super) fn serve(stream: TcpStream, tally: &Tally) -> io::Result<()> {
    let mut answer = stream.try_clone()?;
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    while let Some(request) = read(&mut stream, &mut answer)? {
        let bulk = request.path.split('?').next().is_some_and(|p| p.ends_with("_bulk"));
        let body = match (request.method.as_str(), bulk) {
            ("POST" | "PUT", true) => items(&request.body, tally)?,
            ("HEAD", _) => String::new(),
            _ => ROOT.to_owned(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Elastic-Product: Elasticsearch\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        answer.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        if bulk {
            tally.acknowledged();
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

fn read(stream: &mut BufReader<TcpStream>, answer: &mut TcpStream) -> io::Result<Option<Request>> {
    let first = line(stream)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next().filter(|m| !m.is_empty()), words.next()) else { return Ok(None) };
    let (mut length, mut chunked, mut packed) = (0, false, false);
    loop {
        let header = line(stream)?.to_ascii_lowercase();
        let Some((name, value)) = header.split_once(':') else { break };
        match (name, value.trim()) {
            ("content-length", n) => length = n.parse().map_err(|_| odd("a length that is no number"))?,
            ("transfer-encoding", "chunked") => chunked = true,
            ("content-encoding", "gzip") => packed = true,
            ("expect", "100-continue") => answer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        while let size @ 1.. = u64::from_str_radix(line(stream)?.trim(), 16).map_err(|_| odd("a chunk's size"))? {
            stream.by_ref().take(size).read_to_end(&mut body)?;
            line(stream)?;
        }
        line(stream)?;
    } else {
        stream.by_ref().take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if packed {
        let mut plain = Vec::with_capacity(body.len() * 8);
        MultiGzDecoder::new(body.as_slice()).take(MOST).read_to_end(&mut plain)?;
        body = plain;
    }
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), body }))
}

/// Takes all items of a body and says of each what became of it.
fn items(body: &[u8], tally: &Tally) -> io::Result<String> {
    let mut lines = body.split_inclusive(|&b| b == b'\n').filter(|l| l.len() > 1);
    let (mut count, mut errors, mut answer) = (0, false, String::new());
    while let (Some(action), Some(event)) = (lines.next(), lines.next()) {
        count += 1;
        answer.push(if count > 1 { ',' } else { '[' });
        let create = action.starts_with(b"{\"create\"");
        if !create && !action.starts_with(b"{\"index\"") {
            return Err(odd("neither index nor create"));
        }
        let name = if create { "create" } else { "index" };
        let fate = if tally.looks_inside() {
            let action: Value = serde_json::from_slice(action)?;
            tally.add(event, Some(&action[name]))?
        } else {
            tally.show(event);
            Fate::Stored
        };
        answer.push_str(&match fate {
            Fate::Stored => format!(r#"{{"{name}":{{"status":201,"result":"created"}}}}"#),
            Fate::Known => {
                errors = true;
                let error = r#"{"type":"version_conflict_engine_exception","reason":"document already exists"}"#;
                format!(r#"{{"{name}":{{"status":409,"error":{error}}}}}"#)
            }
        });
    }
    if !tally.looks_inside() {
        tally.add_unseen(count);
    }
    if count == 0 {
        return Err(odd("a body without items"));
    }
    Ok(format!(r#"{{"took":1,"errors":{errors},"items":{answer}]}}"#))
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    stream.read_line(&mut text)?;
    Ok(text.trim_end().to_owned())
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
