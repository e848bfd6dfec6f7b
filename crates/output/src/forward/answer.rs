//! What a server says: its greeting, what it says to a login, its acknowledgements.
//!
//! Comes in: bytes from a server. Goes out: one [`Answer`] after another. Facts: the forward protocol's v1 specification
//! ("Handshake Messages", "Response").
//!
//! Always holds: an answer takes at most [`LIMIT`] bytes, whatever lengths it names; what isn't an answer is malformed as
//! soon as it can be told; waiting for an answer may be dropped without losing any of it. Tested below, with every split of
//! the bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::msgpack::{Item, Reader};

/// No answer is longer: they are short texts.
pub(super) const LIMIT: usize = 64 * 1024;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `HELO`: it wants a login.
    Hello {
        nonce: Vec<u8>,
        /// What a user's password is hashed with; empty = no user is asked for.
        auth: Vec<u8>,
        /// Whether the connection outlives a message.
        keepalive: bool,
    },
    /// `PONG`: what became of a login.
    Pong { welcome: bool, reason: String, hostname: Vec<u8>, digest: Vec<u8> },
    /// The message with this `chunk` is taken.
    Ack(Vec<u8>),
}

/// What a server has sent and nobody has looked at yet.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<u8>);

impl Answers {
    /// The next answer.
    ///
    /// # Errors
    /// `UnexpectedEof`: the server closed the connection. `InvalidData`: this isn't the forward protocol.
    pub(super) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.0)? {
                self.0.drain(..length);
                return Ok(answer);
            }
            if stream.read_buf(&mut self.0).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The first answer in these bytes and its length; `None` = it isn't all there yet.
fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let malformed = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    // A map or a list.
    if !matches!(bytes.first(), None | Some(0x80..=0x9f | 0xdc..=0xdf)) {
        return malformed("the answer isn't one of the forward protocol");
    }
    // What follows an answer isn't looked at.
    let some = bytes.get(..LIMIT).unwrap_or(bytes);
    match Reader::read(some)? {
        None if some.len() == LIMIT => malformed("an answer without end"),
        None => Ok(None),
        Some((item, length)) => match answer(&item) {
            Some(answer) => Ok(Some((answer, length))),
            None => malformed("the answer isn't one of the forward protocol"),
        },
    }
}

fn answer(item: &Item<'_>) -> Option<Answer> {
    let list = match item {
        Item::Map(_) => return bytes(member(item, b"ack")?).map(Answer::Ack),
        Item::List(list) => list.as_slice(),
        _ => return None,
    };
    match list {
        [Item::Bytes(b"HELO"), options @ Item::Map(_), ..] => Some(Answer::Hello {
            nonce: member(options, b"nonce").and_then(bytes).unwrap_or_default(),
            auth: member(options, b"auth").and_then(bytes).unwrap_or_default(),
            keepalive: member(options, b"keepalive") != Some(&Item::Bool(false)),
        }),
        [Item::Bytes(b"PONG"), Item::Bool(welcome), more @ ..] => {
            // A refusal may leave out what nobody needs.
            let text = |at: usize| more.get(at).and_then(bytes).unwrap_or_default();
            let reason = String::from_utf8_lossy(&text(0)).into_owned();
            Some(Answer::Pong { welcome: *welcome, reason, hostname: text(1), digest: text(2) })
        }
        _ => None,
    }
}

fn member<'i, 'a>(map: &'i Item<'a>, name: &[u8]) -> Option<&'i Item<'a>> {
    let Item::Map(members) = map else { return None };
    members.iter().find(|(key, _)| matches!(key, Item::Bytes(key) if *key == name)).map(|(_, value)| value)
}

fn bytes(item: &Item<'_>) -> Option<Vec<u8>> {
    match item {
        Item::Bytes(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}

/// For the fuzz target: answers are the same when the bytes come one by one, and never longer than they are.
pub fn fuzz_answers(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((answer, length))) = parse(rest) {
        assert!((1..=rest.len().min(LIMIT)).contains(&length), "an answer of {length} in {} bytes", rest.len());
        for end in 0..length.min(64) {
            assert!(matches!(parse(rest.get(..end).unwrap_or_default()), Ok(None)), "an answer before its end");
        }
        let whole = parse(rest.get(..length).unwrap_or_default());
        assert!(matches!(whole, Ok(Some((same, _))) if same == answer), "another answer when nothing follows");
        rest = rest.get(length..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes(garbage in proptest::collection::vec(any::<u8>(), 0..80), at in 0_usize..40, bit in 0_u8..8) {
            fuzz_answers(&garbage);
            let mut bent = b"\x92\xa4HELO\x83\xa5nonce\xc4\x03abc\xa4auth\xa0\xa9keepalive\xc3\x81\xa3ack\xa2id".to_vec();
            bent[at] ^= 1 << bit;
            fuzz_answers(&bent);
            fuzz_answers(&[bent, garbage].concat());
        }
    }

    #[test]
    fn each_kind_also_in_pieces() {
        let hello = |auth: &[u8], keepalive| Answer::Hello { nonce: b"abc".to_vec(), auth: auth.to_vec(), keepalive };
        for (text, want) in [
            (&b"\x81\xa3ack\xa2id"[..], Answer::Ack(b"id".to_vec())),
            (b"\x82\xa1x\x93\x01\xc0\xc4\x01y\xa3ack\xd9\x02id", Answer::Ack(b"id".to_vec())),
            (b"\x92\xa4HELO\x83\xa5nonce\xc4\x03abc\xa4auth\xa0\xa9keepalive\xc3", hello(b"", true)),
            (b"\x92\xa4HELO\x83\xa5nonce\xa3abc\xa4auth\xa2xy\xa9keepalive\xc2", hello(b"xy", false)),
            (b"\x92\xa4HELO\x81\xa5nonce\xa3abc", hello(b"", true)),
            (
                b"\x95\xa4PONG\xc3\xa0\xa1h\xa1d",
                Answer::Pong { welcome: true, reason: String::new(), hostname: b"h".to_vec(), digest: b"d".to_vec() },
            ),
            (
                b"\x93\xa4PONG\xc2\xa3why",
                Answer::Pong { welcome: false, reason: "why".into(), hostname: vec![], digest: vec![] },
            ),
        ] {
            assert_eq!(parse(text).unwrap(), Some((want.clone(), text.len())));
            for end in 0..text.len() {
                assert_eq!(parse(&text[..end]).unwrap(), None, "{end} of {text:?}");
            }
            let two = [text, b"\xc1\xc1"].concat();
            assert_eq!(parse(&two).unwrap(), Some((want, text.len())));
            fuzz_answers(&two);
        }
    }

    #[test]
    fn garbage_is_seen_at_once() {
        for text in [
            &b"HTTP/1.1 400"[..],
            b"\x80",
            b"\x81\xa3ack\x01",
            b"\x92\xa4HELO\x01",
            b"\x91\xa4PONG",
            b"\x16\x03\x01",
            b"\xc1",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let mut endless = b"\x81\xa3ack\xdb\x00\xff\xff\xff".to_vec();
        endless.resize(LIMIT - 1, b'x');
        assert_eq!(parse(&endless).unwrap(), None);
        endless.push(b'x');
        assert!(parse(&endless).is_err());
    }
}
