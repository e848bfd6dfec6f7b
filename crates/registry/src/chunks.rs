//! Files read piece by piece: lines, and the elements of a JSON array.
//!
//! Comes in: a function that reads at an offset. Goes out: lines or elements, one at a time in a buffer that is used
//! again. Always holds: memory is bounded by [`MAX_ITEM`], whatever the file.
//! Tested below and by the fuzz target `registry`.

use std::io;

/// Longest line and longest element that is read, in bytes; Filebeat's states are about 400.
pub(crate) const MAX_ITEM: usize = 1 << 20;

const CHUNK: usize = 64 * 1024;

/// A file's bytes one after the other.
pub(crate) struct Bytes<R> {
    read_at: R,
    buf: Vec<u8>,
    at: usize,
    offset: u64,
}

impl<R: FnMut(&mut [u8], u64) -> io::Result<usize>> Bytes<R> {
    pub(crate) fn new(read_at: R) -> Bytes<R> {
        Bytes { read_at, buf: Vec::new(), at: 0, offset: 0 }
    }

    /// The same, from an offset on.
    pub(crate) fn starting_at(read_at: R, offset: u64) -> Bytes<R> {
        Bytes { offset, ..Bytes::new(read_at) }
    }

    /// The offset of the next byte that wasn't taken yet.
    pub(crate) fn position(&self) -> u64 {
        self.offset - (self.buf.len() - self.at) as u64
    }

    /// What is there to be looked at; empty = end of file.
    fn peek(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buf.len() {
            self.buf.resize(CHUNK, 0);
            self.at = 0;
            let n = (self.read_at)(&mut self.buf, self.offset);
            self.buf.truncate(*n.as_ref().unwrap_or(&0));
            self.offset += n? as u64;
        }
        Ok(self.buf.get(self.at..).unwrap_or_default())
    }

    fn skip(&mut self, n: usize) {
        self.at += n;
    }

    /// How many bytes were read from the file so far.
    pub(crate) fn len(&self) -> u64 {
        self.offset
    }
}

/// What [`Bytes::line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line that ends with a newline.
    Whole,
    /// The file's last bytes, without a newline.
    Unfinished,
    /// A line longer than [`MAX_ITEM`]; it was skipped.
    TooLong,
    /// Nothing left.
    End,
}

/// What [`Bytes::element`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// An element of the array.
    Value,
    /// An element longer than [`MAX_ITEM`]; it was skipped.
    TooLong,
    /// The array ended as it should.
    End,
    /// It isn't an array, or it isn't ended.
    Damaged,
}

impl<R: FnMut(&mut [u8], u64) -> io::Result<usize>> Bytes<R> {
    /// Reads the next line into `out`, without its end.
    pub(crate) fn line(&mut self, out: &mut Vec<u8>) -> io::Result<Line> {
        out.clear();
        let mut any = false;
        let mut too_long = false;
        loop {
            let bytes = self.peek()?;
            if bytes.is_empty() {
                return Ok(if too_long {
                    Line::TooLong
                } else if any {
                    Line::Unfinished
                } else {
                    Line::End
                });
            }
            any = true;
            let (n, ended) = match bytes.iter().position(|b| *b == b'\n') {
                Some(at) => (at, true),
                None => (bytes.len(), false),
            };
            if out.len() + n > MAX_ITEM {
                too_long = true;
                out.clear();
            }
            if !too_long {
                out.extend_from_slice(bytes.get(..n).unwrap_or_default());
            }
            self.skip(n + usize::from(ended));
            if ended {
                return Ok(if too_long { Line::TooLong } else { Line::Whole });
            }
        }
    }

    /// Reads the next element of the array that the file is into `out`. `first`: none was read yet.
    pub(crate) fn element(&mut self, first: bool, out: &mut Vec<u8>) -> io::Result<Element> {
        out.clear();
        if first && self.next_visible()? != Some(b'[') {
            return Ok(Element::Damaged);
        }
        let mut byte = self.next_visible()?;
        if !first && byte == Some(b',') {
            byte = self.next_visible()?;
        }
        let mut scan = Scan::default();
        let mut too_long = false;
        loop {
            match byte {
                None => return Ok(Element::Damaged),
                Some(b']') if scan.outside() && out.is_empty() && !too_long => return Ok(Element::End),
                Some(b) => {
                    scan.push(b);
                    if out.len() == MAX_ITEM {
                        too_long = true;
                    } else {
                        out.push(b);
                    }
                }
            }
            let next = self.peek()?.first().copied();
            if scan.outside() && matches!(next, Some(b',' | b']') | None) {
                return Ok(match next {
                    None => Element::Damaged,
                    _ if too_long => Element::TooLong,
                    _ => Element::Value,
                });
            }
            self.skip(usize::from(next.is_some()));
            byte = next;
        }
    }

    /// The next byte that isn't white space.
    fn next_visible(&mut self) -> io::Result<Option<u8>> {
        loop {
            let Some(byte) = self.peek()?.first().copied() else { return Ok(None) };
            self.skip(1);
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
        }
    }
}

/// Where in a JSON value a byte stands: enough to find its end.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    fn push(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn outside(&self) -> bool {
        self.depth == 0 && !self.in_string
    }
}

/// Reads from memory, `step` bytes at a time.
pub(crate) fn slice_reader(data: &[u8], step: usize) -> impl FnMut(&mut [u8], u64) -> io::Result<usize> {
    move |buf, offset| {
        let rest = usize::try_from(offset).ok().and_then(|at| data.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len()).min(step);
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(data: &str, step: usize) -> (Vec<String>, Element) {
        let mut bytes = Bytes::new(slice_reader(data.as_bytes(), step));
        let (mut out, mut all) = (Vec::new(), Vec::new());
        loop {
            match bytes.element(all.is_empty(), &mut out).unwrap() {
                Element::Value => all.push(String::from_utf8(out.clone()).unwrap()),
                end => return (all, end),
            }
        }
    }

    #[test]
    fn elements_of_arrays() {
        for step in [1, 2, 3, 1000] {
            for (data, want, end) in [
                ("[]", &[][..], Element::End),
                (" [\n ] ", &[], Element::End),
                ("[\n{\"a\":1},\n{\"b\":[1,2]}\n]", &["{\"a\":1}", "{\"b\":[1,2]}\n"], Element::End),
                (r#"["],\"[{", 1 ,null]"#, &[r#""],\"[{""#, "1 ", "null"], Element::End),
                ("", &[], Element::Damaged),
                ("{}", &[], Element::Damaged),
                ("[{\"a\":1},{\"b\"", &["{\"a\":1}"], Element::Damaged),
                ("[{\"a\":1}", &[], Element::Damaged),
            ] {
                let (got, got_end) = elements(data, step);
                assert_eq!(
                    (got.iter().map(String::as_str).collect::<Vec<_>>(), got_end),
                    (want.to_vec(), end),
                    "{data}"
                );
            }
        }
    }

    #[test]
    fn lines_and_what_is_too_long() {
        let mut data = b"one\n\n".to_vec();
        data.resize(data.len() + MAX_ITEM + 1, b'x');
        data.extend_from_slice(b"\nlast");
        let mut bytes = Bytes::new(slice_reader(&data, 1000));
        let mut out = Vec::new();
        let mut next = || {
            let line = bytes.line(&mut out).unwrap();
            (line, String::from_utf8(out.clone()).unwrap())
        };
        assert_eq!(next(), (Line::Whole, "one".into()));
        assert_eq!(next(), (Line::Whole, String::new()));
        assert_eq!(next().0, Line::TooLong);
        assert_eq!(next(), (Line::Unfinished, "last".into()));
        assert_eq!(next().0, Line::End);
    }
}
