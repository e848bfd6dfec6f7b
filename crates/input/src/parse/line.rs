//! Lines: where they end, and what of them is text.
//!
//! Comes in: bytes. Goes out: the range of each line, and of the text in it: decoded, without its ending, without a byte
//! order mark at the beginning of the file, cut at a limit. Always holds: the text depends on the line's bytes alone, not
//! on how they were read ([`Rule::text`] is used for a line in a chunk and for one that came in pieces). Tested in
//! `tests.rs`.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr_iter};

use crate::parse::encoding::Encoding;
use crate::parse::options::Terminator;

/// UTF-8's byte order mark.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// How many bytes more than `line_max` of a text have to be at hand: a byte order mark and a carriage return.
const LINE_SLACK: usize = BOM.len() + 1;

/// The bytes that end a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineEnd {
    bytes: [u8; 4],
    len: usize,
    /// Which of them is looked for: in most files the rarest.
    probe: usize,
    /// They begin at multiples of this in the file.
    unit: usize,
}

impl LineEnd {
    /// How lines end in this encoding; `None` = it lacks the characters, or they can't be found in it.
    pub(super) fn new(terminator: Terminator, encoding: Encoding) -> Option<LineEnd> {
        let mut all = Vec::new();
        for c in terminator.text().chars() {
            all.extend(encoding.find_by(c)?);
        }
        let mut bytes = [0; 4];
        bytes.get_mut(..all.len())?.copy_from_slice(&all);
        let probe = all.iter().position(|b| *b != 0).unwrap_or(0);
        let unit = if matches!(encoding, Encoding::Utf16Bom { .. }) { 2 } else { encoding.unit() };
        Some(LineEnd { bytes, len: all.len(), probe, unit })
    }

    /// A line feed.
    pub(super) const FEED: LineEnd = LineEnd { bytes: [b'\n', 0, 0, 0], len: 1, probe: 0, unit: 1 };

    /// Whether texts whose lines end so have bytes of zero: two bytes make a character, or zeros end lines.
    pub(super) fn has_zeros(self) -> bool {
        self.unit > 1 || self.bytes.iter().take(self.len).any(|b| *b == 0)
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    /// Whether it is a line feed of one byte.
    pub(super) fn is_feed(self) -> bool {
        self.len == 1 && self.bytes[0] == b'\n'
    }

    /// Where the first one behind `from` begins. `offset`: where `data` begins in the file.
    pub(super) fn find(self, data: &[u8], from: usize, offset: u64) -> Option<usize> {
        let rest = data.get(from..)?;
        if self.len == 1 {
            return memchr(self.bytes[0], rest).map(|at| from + at);
        }
        let sought = &self.bytes[..self.len];
        let begins = |at: usize| {
            let start = at.checked_sub(self.probe)?;
            let aligned = (offset + (from + start) as u64).is_multiple_of(self.unit as u64);
            (aligned && rest.get(start..)?.starts_with(sought)).then_some(from + start)
        };
        memchr_iter(self.bytes[self.probe], rest).find_map(begins)
    }
}

/// What of a line is text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The longest text, in bytes.
    pub(super) line_max: usize,
    /// How lines end.
    pub(super) terminator: Terminator,
    /// How they are written.
    pub(super) encoding: Encoding,
}

/// A line of `len` bytes, its end not counted, whose first bytes are at `start..` of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawLine {
    /// Where it begins in the buffer.
    pub(super) start: usize,
    /// Its bytes without those that end it.
    pub(super) len: usize,
    /// The last of these bytes, which needn't be in the buffer.
    pub(super) last: Option<u8>,
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Whether its end was there.
    pub(super) terminated: bool,
}

impl RawLine {
    /// A line that is wholly in the buffer.
    #[inline]
    pub(super) fn whole(data: &[u8], line: Range<usize>, offset: u64, terminated: bool) -> RawLine {
        let last = data[line.clone()].last().copied();
        RawLine { start: line.start, len: line.len(), last, offset, terminated }
    }
}

impl Rule {
    /// How many of a line's bytes are looked at.
    pub(super) fn looked_at(self) -> usize {
        match self.encoding {
            Encoding::Plain => self.line_max + LINE_SLACK,
            // Two bytes of any encoding are at least one of text; where they switch between sets of characters, a line that
            // does little else is cut earlier.
            _ => (self.line_max + LINE_SLACK) * 2,
        }
    }

    /// The range of the line's text, and whether it was cut. `data` holds the whole line or its first
    /// [`Rule::looked_at`] bytes; a text that had to be decoded is appended, with a line feed behind it: texts that are
    /// joined stay one range then.
    pub(super) fn text(self, data: &mut Vec<u8>, line: RawLine) -> (Range<usize>, bool) {
        if self.encoding == Encoding::Plain {
            return self.plain(data, line);
        }
        let kept = line.len.min(self.looked_at());
        let whole = kept == line.len;
        let bytes = &data[line.start..line.start + kept];
        let decoded = self.encoding.decode(bytes, line.offset % 2 == 1, self.line_max + LINE_SLACK);
        let mut text = 0..decoded.len();
        if line.offset == 0 && decoded.starts_with(BOM) {
            text.start = BOM.len();
        }
        if whole && line.terminated && self.terminator == Terminator::Auto && decoded[text.clone()].ends_with(b"\r") {
            text.end -= 1;
        }
        let cut = text.len() > self.line_max || !whole;
        text.end = text.end.min(text.start + self.line_max);
        let start = match decoded {
            Cow::Borrowed(_) => line.start + text.start,
            Cow::Owned(decoded) => {
                let start = data.len();
                data.extend_from_slice(&decoded[text.clone()]);
                data.push(b'\n');
                start
            }
        };
        (start..start + text.len(), cut)
    }

    /// [`Rule::text`] of a line whose bytes are its text.
    #[inline]
    pub(super) fn plain(self, data: &[u8], line: RawLine) -> (Range<usize>, bool) {
        let mut start = line.start;
        let mut end = line.start + line.len;
        if line.terminated && self.terminator == Terminator::Auto && line.last == Some(b'\r') {
            end -= 1;
        }
        if line.offset == 0 && data[line.start..end.min(data.len())].starts_with(BOM) {
            start += BOM.len();
        }
        let cut = end - start > self.line_max;
        (start..if cut { start + self.line_max } else { end }, cut)
    }
}

/// The complete lines of the first `len` bytes of a buffer that grows behind them.
#[derive(Debug)]
pub(super) struct Lines {
    pos: usize,
    len: usize,
    offset: u64,
    end: LineEnd,
}

impl Lines {
    /// `offset`: where the buffer begins in the file.
    pub(super) fn new(len: usize, offset: u64, end: LineEnd) -> Lines {
        Lines { pos: 0, len, offset, end }
    }

    /// The next line without its end.
    pub(super) fn next(&mut self, data: &[u8]) -> Option<Range<usize>> {
        let line = self.pos..self.end.find(&data[..self.len], self.pos, self.offset)?;
        self.pos = line.end + self.end.len();
        Some(line)
    }

    /// Where the next line begins.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }
}
