//! RESP2, the protocol of Redis, as far as a shipper needs it.
//!
//! Comes in: the parts of a command; bytes from the server. Goes out: a command's bytes; one [`Answer`] after another.
//! Facts: redis.io, "Redis serialization protocol specification".
//!
//! Always holds: an answer takes at most [`LIMIT`] bytes, whatever length it names; lists, and the types of RESP3, which
//! no command of ours is answered with, are malformed. Waiting for an answer may be dropped without losing any of it.
//! Tested below, with every split of the bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// No answer to our commands is longer: they are short texts and numbers.
pub(super) const LIMIT: usize = 64 * 1024;

/// What the server says to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A number.
    Integer(i64),
    /// A text.
    Text,
    /// A refusal, in the server's words: `WRONGTYPE Operation against …`.
    Error(String),
}

/// Appends the head of a command of so many parts.
pub(super) fn begin(parts: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{parts}\r\n").as_bytes());
}

/// Appends a part of a command.
pub(super) fn part(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A whole command.
pub(super) fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    begin(parts.len(), &mut out);
    parts.iter().for_each(|bytes| part(bytes, &mut out));
    out
}

/// What a server has sent and nobody has looked at yet.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<u8>);

impl Answers {
    /// Whether something has come that no command was sent for, or the end of the connection.
    pub(super) async fn has_more(&self, stream: &mut (impl AsyncRead + Unpin)) -> bool {
        let mut byte = [0];
        let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte))));
        !self.0.is_empty() || read.await.is_ready()
    }

    /// The next answer.
    ///
    /// # Errors
    /// `UnexpectedEof`: the server closed the connection. `InvalidData`: this isn't RESP2.
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
    let malformed = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"+-:$".contains(kind) {
        return malformed("the answer isn't one of Redis");
    }
    let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
        return if bytes.len() > LIMIT { malformed("an answer without end") } else { Ok(None) };
    };
    let (line, length) = (rest.get(..end).unwrap_or_default(), 1 + end + 2);
    if length > LIMIT {
        return malformed("an answer without end");
    }
    let number = std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok());
    match (kind, number) {
        (b'+', _) => Ok(Some((Answer::Text, length))),
        (b'-', _) => Ok(Some((Answer::Error(String::from_utf8_lossy(line).into_owned()), length))),
        (b':', Some(n)) => Ok(Some((Answer::Integer(n), length))),
        // No text at all.
        (b'$', Some(-1)) => Ok(Some((Answer::Text, length))),
        (b'$', Some(n)) => match usize::try_from(n) {
            Ok(n) if n <= LIMIT => {
                let all = length + n + 2;
                match bytes.get(length + n..all) {
                    Some(b"\r\n") => Ok(Some((Answer::Text, all))),
                    Some(_) => malformed("a text longer than it says"),
                    None => Ok(None),
                }
            }
            _ => malformed("a text of an impossible length"),
        },
        _ => malformed("a number that isn't one"),
    }
}

/// For the fuzz target: answers are the same when the bytes come one by one, and never longer than they are.
pub fn fuzz_answers(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((answer, length))) = parse(rest) {
        assert!((1..=rest.len()).contains(&length), "an answer of {length} in {} bytes", rest.len());
        for end in 0..length.min(64) {
            assert!(!matches!(parse(rest.get(..end).unwrap_or_default()), Ok(Some(_))), "an answer before its end");
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

    async fn all(bytes: &[u8], cut: usize) -> Vec<io::Result<Answer>> {
        let (first, second) = bytes.split_at(cut);
        let mut stream = first.chain(second);
        let (mut answers, mut out) = (Answers::default(), Vec::new());
        loop {
            match answers.next(&mut stream).await {
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && answers.0.is_empty() => return out,
                Err(e) => {
                    out.push(Err(e));
                    return out;
                }
                Ok(answer) => out.push(Ok(answer)),
            }
        }
    }

    #[tokio::test]
    async fn answers_come_whole_wherever_the_bytes_are_cut() {
        let bytes = b"+OK\r\n:2048\r\n-OOM command not allowed\r\n$5\r\na\r\nb\xff\r\n$-1\r\n$0\r\n\r\n:-1\r\n";
        let want = [
            Answer::Text,
            Answer::Integer(2048),
            Answer::Error("OOM command not allowed".to_owned()),
            Answer::Text,
            Answer::Text,
            Answer::Text,
            Answer::Integer(-1),
        ];
        for cut in 0..=bytes.len() {
            let got: Vec<Answer> = all(bytes, cut).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(got, want, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_and_bounded() {
        let long = [b"+".as_slice(), &vec![b'x'; 2 * LIMIT]].concat();
        for (bytes, why) in [
            (b"HTTP/1.1 400 Bad Request\r\n".as_slice(), "isn't one of Redis"),
            (b"*1\r\n:1\r\n", "isn't one of Redis"),
            (b":12x\r\n", "number"),
            (b"$9999999999\r\n", "impossible length"),
            (b"$-2\r\n", "impossible length"),
            (b"$99999999999999999999\r\n", "number"),
            (b"$1\r\nabc\r\n", "longer than it says"),
            (&long, "without end"),
        ] {
            let got = all(bytes, 0).await;
            assert!(got[0].as_ref().unwrap_err().to_string().contains(why), "{got:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_not(kind in 0usize..5, rest in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [&b"+-:$*"[kind..=kind], &rest, b"\r\n"].concat();
            if let Ok(Some((_, length))) = parse(&bytes) {
                prop_assert!(length <= bytes.len() && &bytes[length - 2..length] == b"\r\n");
            }
        }
    }

    #[test]
    fn commands_are_lists_of_texts() {
        assert_eq!(command(&[b"RPUSH", b"k", b"a\r\nb"]), b"*3\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n");
    }
}
