//! The processor `dns`, with a nameserver of our own: the same answers for both programs.
//!
//! Comes in: `dns.txt`, and beside Filebeat 9 `dns9.txt`, in the form of [`super::odd`]; `NAMESERVER` stands for where ours listens.
//! Goes out: the verdict, and Filebeat's events for [`super::recorded`].
//! Always holds: the nameserver answers each question at once, so that nobody's timeout matters; it ends with the process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::cases::Case;
use super::compare::{Flat, folder_of, grouped};
use super::recorded::Compared;
use super::{Pair, Version, differential, odd};
use crate::Outcome;

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
/// Response codes: the server failed; there is no such name.
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// Both programs side by side: what was compared, and Filebeat's events.
pub(super) fn compare(pair: &Pair) -> Outcome<Compared> {
    let cases = cases(pair.version, nameserver()?)?;
    let (said, raw) = differential::same(pair, &cases)?;
    Ok((said, grouped(&raw, "2025", |event| folder_of(event.get("log.file.path")))?))
}

/// Pillion's events.
pub(super) fn pillions(pair: &Pair) -> Outcome<BTreeMap<String, Vec<Flat>>> {
    differential::pillions(pair, &cases(pair.version, nameserver()?)?)
}

fn cases(version: Version, nameserver: SocketAddr) -> Outcome<Vec<Case>> {
    let mut cases = odd::cases("dns")?;
    if version == Version::Nine {
        cases.extend(odd::cases("dns9")?);
    }
    for case in &mut cases {
        case.options = case.options.replace("NAMESERVER", &nameserver.to_string()).leak();
    }
    Ok(cases)
}

/// Answers over UDP for as long as the process lives.
fn nameserver() -> Outcome<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("a nameserver: {e}"))?;
    let address = socket.local_addr().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..size]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Ok(address)
}

/// The answer to a message with one question (RFC 1035, section 4).
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let (id, mut rest) = (message.get(..2)?, message.get(12..)?);
    let mut name = String::new();
    while let Some((&length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        name.push_str(&String::from_utf8_lossy(after.get(..length.into())?).to_lowercase());
        name.push('.');
        rest = after.get(length.into()..)?;
    }
    let kind = u16::from_be_bytes([*rest.get(1)?, *rest.get(2)?]);
    let question = message.get(12..message.len() - rest.len() + 5)?;
    let (code, records) = known(&name, kind);
    let mut out = [id, &[0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0], question].concat();
    for data in records {
        // Of the name in the question; class IN; for a minute.
        out.extend([0xC0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    Some(out)
}

/// What the nameserver knows: a response code, and records.
fn known(name: &str, kind: u16) -> (u8, Vec<Vec<u8>>) {
    let records: Vec<Vec<u8>> = match (name, kind) {
        ("1.0.0.127.in-addr.arpa.", PTR) => vec![labels("One.Example.com")],
        ("1.0.0.10.in-addr.arpa.", PTR) => vec![labels("a.x"), labels("b.x")],
        ("localhost.", A) => vec![vec![127, 0, 0, 1], vec![127, 0, 0, 2]],
        ("localhost.", AAAA) => vec![[&[0; 15][..], &[1]].concat()],
        ("localhost.", TXT) => {
            vec![b"\x03abc\x03def".to_vec(), b"\x04q\"\\\n".to_vec(), "\x02\u{e4}".as_bytes().to_vec()]
        }
        ("fails.x.", _) => return (SERVFAIL, Vec::new()),
        ("empty.x.", _) => return (0, Vec::new()),
        _ => return (NXDOMAIN, Vec::new()),
    };
    (0, records)
}

fn labels(name: &str) -> Vec<u8> {
    let mut out: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    out.push(0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_and_a_cut_one_is_not() {
        let ask = |name: &str, kind: u16| {
            [&[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels(name), &kind.to_be_bytes(), &[0, 1]].concat()
        };
        let got = answer(&ask("LocalHost", A)).unwrap();
        assert_eq!(got[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        assert_eq!(got[got.len() - 16..], [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 2]);
        assert_eq!(answer(&ask("other", A)).unwrap()[3], 0x80 | NXDOMAIN);
        let whole = ask("localhost", A);
        for cut in 0..whole.len() {
            assert!(answer(&whole[..cut]).is_none(), "{cut}");
        }
    }
}
