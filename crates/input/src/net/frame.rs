//! Where the messages of a stream begin and end.
//!
//! Comes in: bytes as they arrive, in pieces of any size. Goes out: frames, each a message with what delimits it. Always
//! holds: any way of cutting a stream into pieces gives the same messages; every byte is part of one frame or left out as
//! the rest of a message that is too long. Facts: Beats 7.17.29 `inputsource/common/streaming/scan.go`; RFC 6587.
//! Otherwise than there, what isn't whole at the end of the stream is a message too, and a count that is none is text.
//!
//! Tested below.

use std::ops::Range;

/// How messages are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    /// `framing: rfc6587`: a message may begin with the count of its bytes.
    pub(crate) counted: bool,
    /// `line_delimiter`: what ends the others; of a line feed the carriage return before it too.
    pub(crate) delimiter: Vec<u8>,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing { counted: false, delimiter: b"\n".to_vec() }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// All of it, with count and delimiter.
    pub(crate) whole: Range<usize>,
    /// Its text.
    pub(crate) text: Range<usize>,
    /// It is longer, or should be.
    pub(crate) cut: bool,
}

/// What is left out of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    Nothing,
    /// Up to the next delimiter.
    Line,
    /// So many bytes.
    Bytes(usize),
}

/// The digits of a count; more, and it is none.
const COUNT_DIGITS: usize = 9;

/// Cuts one stream into messages.
#[derive(Debug)]
pub(crate) struct Frames<'f> {
    framing: &'f Framing,
    max: usize,
    /// What isn't part of a frame yet.
    pub(crate) buf: Vec<u8>,
    skip: Skip,
    /// So many bytes at the beginning hold no delimiter.
    looked: usize,
}

/// How a message goes on.
enum Next {
    /// One, and what is left out behind it.
    Frame(Frame, Skip),
    /// So many bytes without a message.
    Nothing(usize),
    /// More bytes are needed.
    More,
}

impl<'f> Frames<'f> {
    pub(crate) fn new(framing: &'f Framing, max: usize) -> Frames<'f> {
        Frames { framing, max, buf: Vec::new(), skip: Skip::Nothing, looked: 0 }
    }

    /// How long messages may be from now on.
    pub(crate) fn limit(&mut self, max: usize) {
        self.max = max;
    }

    /// Takes up to `most` frames out: the bytes that they and what is left out lie in. `at_end`: nothing follows.
    pub(crate) fn take(&mut self, most: usize, at_end: bool) -> (Vec<u8>, Vec<Frame>) {
        let (mut pos, mut frames) = (0, Vec::new());
        while frames.len() < most && pos < self.buf.len() {
            match self.next(pos, at_end) {
                Next::Frame(frame, skip) => {
                    pos = frame.whole.end;
                    self.skip = skip;
                    frames.push(frame);
                }
                Next::Nothing(0) | Next::More => break,
                Next::Nothing(bytes) => pos += bytes,
            }
            self.looked = 0;
        }
        let rest = self.buf.split_off(pos);
        (std::mem::replace(&mut self.buf, rest), frames)
    }

    fn next(&mut self, pos: usize, at_end: bool) -> Next {
        let rest = self.buf.get(pos..).unwrap_or_default();
        match self.skip {
            Skip::Nothing => {}
            Skip::Bytes(bytes) => {
                let now = bytes.min(rest.len());
                self.skip = if now == bytes { Skip::Nothing } else { Skip::Bytes(bytes - now) };
                return Next::Nothing(now);
            }
            Skip::Line => {
                let delimiter = &self.framing.delimiter;
                return match memchr::memmem::find(rest, delimiter) {
                    Some(at) => {
                        self.skip = Skip::Nothing;
                        Next::Nothing(at + delimiter.len())
                    }
                    None if at_end => Next::Nothing(rest.len()),
                    // It may have begun.
                    None => Next::Nothing((rest.len() + 1).saturating_sub(delimiter.len())),
                };
            }
        }
        if self.framing.counted {
            if rest.len() == 1 && !at_end {
                return Next::More;
            }
            if at_end && rest == self.framing.delimiter {
                return Next::Nothing(rest.len());
            }
            if let Some(next) = self.counted(pos, at_end) {
                return next;
            }
        }
        self.line(pos, at_end)
    }

    /// A message behind the count of its bytes; `None` = there is none.
    fn counted(&self, pos: usize, at_end: bool) -> Option<Next> {
        let rest = self.buf.get(pos..)?;
        let digits = rest.iter().take(COUNT_DIGITS + 1).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 || digits > COUNT_DIGITS {
            return None;
        }
        match rest.get(digits) {
            Some(b' ') => {}
            None if !at_end => return Some(Next::More),
            _ => return None,
        }
        let count: usize = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
        let (head, there) = (digits + 1, rest.len() - digits - 1);
        let kept = count.min(self.max);
        if there < kept && !at_end {
            return Some(Next::More);
        }
        let len = kept.min(there);
        let text = pos + head..pos + head + len;
        let frame = Frame { whole: pos..text.end, text, cut: len < count };
        Some(Next::Frame(frame, if len < count { Skip::Bytes(count - len) } else { Skip::Nothing }))
    }

    /// A message up to the delimiter.
    fn line(&mut self, pos: usize, at_end: bool) -> Next {
        let (rest, delimiter) = (self.buf.get(pos..).unwrap_or_default(), &self.framing.delimiter);
        let from = (self.looked + 1).saturating_sub(delimiter.len()).min(rest.len());
        let within = rest.len().min(self.max.saturating_add(delimiter.len()));
        let found = memchr::memmem::find(rest.get(from..within.max(from)).unwrap_or_default(), delimiter);
        let (text, whole, cut) = match found.map(|at| from + at) {
            Some(at) if at <= self.max => (at, at + delimiter.len(), false),
            _ if within < rest.len() || within == self.max.saturating_add(delimiter.len()) => {
                (self.max, self.max, true)
            }
            _ if at_end => (rest.len(), rest.len(), false),
            _ => {
                self.looked = rest.len();
                return Next::More;
            }
        };
        let mut end = text;
        if !cut && delimiter == b"\n" && rest.get(..end).is_some_and(|t| t.ends_with(b"\r")) {
            end -= 1;
        }
        let frame = Frame { whole: pos..pos + whole, text: pos..pos + end, cut };
        Next::Frame(frame, if cut { Skip::Line } else { Skip::Nothing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages(framing: &Framing, max: usize, pieces: &[&[u8]]) -> Vec<(String, bool)> {
        let mut frames = Frames::new(framing, max);
        let (mut out, mut len) = (Vec::new(), 0);
        for (i, piece) in pieces.iter().chain([&&b""[..]]).enumerate() {
            frames.buf.extend_from_slice(piece);
            let at_end = i == pieces.len();
            loop {
                let (data, found) = frames.take(2, at_end);
                len += data.len();
                let text = |f: &Frame| String::from_utf8_lossy(&data[f.text.clone()]).into_owned();
                out.extend(found.iter().map(|f| (text(f), f.cut)));
                if found.len() < 2 {
                    break;
                }
            }
        }
        assert_eq!(len, pieces.iter().map(|p| p.len()).sum::<usize>(), "every byte is accounted for");
        out
    }

    fn framing(counted: bool, delimiter: &str) -> Framing {
        Framing { counted, delimiter: delimiter.as_bytes().to_vec() }
    }

    /// What isn't marked: as Filebeat 7.17.29 gave it.
    #[test]
    fn messages_of_streams() {
        let (lines, pairs, counted) = (framing(false, "\n"), framing(false, "||"), framing(true, "\n"));
        let long = "x".repeat(70);
        for (framing, stream, want) in [
            (
                &lines,
                "short\r\n\nempty before\nlast without end",
                vec!["short", "", "empty before", "last without end"],
            ),
            (&lines, "", vec![]),
            (&pairs, "a\r\nb||c|||d|", vec!["a\r\nb", "c", "|d|"]),
            (&counted, "5 hello6 wor\nldplain line\n3 abc", vec!["hello", "wor\nld", "plain line", "abc"]),
            (&counted, "5 hello\n6 foobar\n", vec!["hello", "", "foobar"]),
            (&counted, "0 3 abc", vec!["", "abc"]),
            // Filebeat breaks the connection, or gives nothing of these.
            (&counted, "12a xyz\n", vec!["12a xyz"]),
            (&counted, "1234567890 xyz\n", vec!["1234567890 xyz"]),
            (&counted, "9 hello", vec!["hello!"]),
            (&counted, "x", vec!["x"]),
            (
                &lines,
                &format!("{long}\nafter\n{long}"),
                vec![&format!("{}!", &long[..64]), "after", &format!("{}!", &long[..64])],
            ),
            (&pairs, &format!("{long}|a||after"), vec![&format!("{}!", &long[..64]), "after"]),
            (&counted, &format!("70 {long}5 after"), vec![&format!("{}!", &long[..64]), "after"]),
            (&lines, &format!("{}\nb", &long[..64]), vec![&long[..64], "b"]),
        ] {
            let want: Vec<_> = want.iter().map(|w| (w.trim_end_matches('!').to_owned(), w.ends_with('!'))).collect();
            assert_eq!(messages(framing, 64, &[stream.as_bytes()]), want, "{stream}");
        }
    }

    proptest! {
        #[test]
        fn any_pieces(
            parts in proptest::collection::vec(proptest::sample::select(vec!["a", "\n", "\r", "|", "3 ", "12 ", "7", " ", "xyz"]), 0..40),
            cuts in proptest::collection::vec(0_usize..9, 0..20),
            (counted, pairs, max) in (any::<bool>(), any::<bool>(), 1_usize..12),
        ) {
            let framing = framing(counted, if pairs { "||" } else { "\n" });
            let stream = parts.concat().into_bytes();
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let end = (at + cut).min(stream.len());
                pieces.push(&stream[at..end]);
                at = end;
            }
            pieces.push(&stream[at..]);
            prop_assert_eq!(messages(&framing, max, &pieces), messages(&framing, max, &[&stream]));
        }
    }
}
