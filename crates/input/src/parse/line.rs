//! Lines: where they end, and what of them is text.
//!
//! Comes in: bytes. Goes out: the range of each line, and of the text in it: without its ending, without a byte order
//! mark at the beginning of the file, cut at a limit. Always holds: the text depends on the line's bytes alone, not on
//! how they were read ([`Rule::text`] is used for a line in a chunk and for one that came in pieces). Tested in
//! `tests.rs`.

use std::ops::Range;

use memchr::memchr;

use crate::parse::options::Terminator;

/// UTF-8's byte order mark.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// How many bytes more than `line_max` of a line have to be at hand: a byte order mark and a carriage return.
pub(super) const LINE_SLACK: usize = BOM.len() + 1;

/// What of a line is text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The longest text, in bytes.
    pub(super) line_max: usize,
    /// How lines end.
    pub(super) terminator: Terminator,
}

/// A line of `len` bytes, its line feed not counted, whose first bytes are at `start..` of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawLine {
    /// Where it begins in the buffer.
    pub(super) start: usize,
    /// Its bytes without the line feed.
    pub(super) len: usize,
    /// The last of these bytes, which needn't be in the buffer.
    pub(super) last: Option<u8>,
    /// Whether it begins at byte 0 of the file.
    pub(super) at_file_start: bool,
    /// Whether a line feed ended it.
    pub(super) terminated: bool,
}

impl Rule {
    /// The range of the line's text in `data`, and whether it was cut. `data` holds the whole line or its first
    /// `line_max` + [`LINE_SLACK`] bytes.
    pub(super) fn text(self, data: &[u8], line: RawLine) -> (Range<usize>, bool) {
        let mut start = line.start;
        let mut end = line.start + line.len;
        if line.terminated && self.terminator == Terminator::Auto && line.last == Some(b'\r') {
            end -= 1;
        }
        if line.at_file_start && data[line.start..end.min(data.len())].starts_with(BOM) {
            start += BOM.len();
        }
        let cut = end - start > self.line_max;
        (start..if cut { start + self.line_max } else { end }, cut)
    }

    /// [`Rule::text`] of a line that is wholly in `data`.
    pub(super) fn whole(
        self,
        data: &[u8],
        line: Range<usize>,
        at_file_start: bool,
        terminated: bool,
    ) -> (Range<usize>, bool) {
        let last = data[line.clone()].last().copied();
        self.text(data, RawLine { start: line.start, len: line.len(), last, at_file_start, terminated })
    }
}

/// The complete lines of the first `len` bytes of a buffer that grows behind them.
#[derive(Debug)]
pub(super) struct Lines {
    pos: usize,
    len: usize,
}

impl Lines {
    pub(super) fn new(len: usize) -> Lines {
        Lines { pos: 0, len }
    }

    /// The next line without its line feed.
    pub(super) fn next(&mut self, data: &[u8]) -> Option<Range<usize>> {
        let end = self.pos + memchr(b'\n', &data[self.pos..self.len])?;
        let line = self.pos..end;
        self.pos = end + 1;
        Some(line)
    }

    /// Where the next line begins.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }
}
