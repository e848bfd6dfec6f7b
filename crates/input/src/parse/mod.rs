//! The parse chain: from the bytes of one chunk of a file to events.
//!
//! Comes in: bytes from the start of a line or group on, and where they stand in the file. Goes out: events whose texts
//! are ranges of those bytes (rewritten texts are appended behind them), and how many bytes they account for. No I/O, no
//! clock, no state between calls: whatever isn't complete is read and parsed again, or taken up by [`Long`] when it is
//! larger than the caller's buffer.
//!
//! ```text
//! bytes → lines (line.rs) → parsers in their order (run.rs) → include_lines, exclude_lines, empty ones → events
//!         encoding.rs       container.rs  json.rs  multiline.rs  syslog.rs     emit.rs
//! ```
//!
//! Always holds:
//! - Any way of cutting a file into chunks, with the unconsumed tail read again or taken up by [`Long`], yields the same
//!   events as parsing it whole.
//! - Parsing `from..to` of a batch again with [`Flush::All`] yields the same events, whatever ended the batch.
//! - Events are in the order of their ranges, the ranges don't overlap and lie within the consumed bytes.
//! - A line that yields no event is counted: empty, filtered or malformed.
//!
//! Where Filebeat's versions differ from each other, [`ChainOptions::shape`] decides; where this differs from Filebeat,
//! the module that does so says why. Tested in `tests.rs` (the properties above and tables), `encoded.rs` (the same in other
//! encodings), `compared.rs` (against what a real Filebeat sent), in each module, and by the fuzz targets `multiline`,
//! `container`, `json`, `syslog` and `encoding`.

pub mod check;
mod container;
mod emit;
mod encoding;
mod json;
mod line;
mod long;
mod multiline;
mod options;
mod pages;
mod pattern;
mod run;
mod settings;
mod syslog;
mod time;

#[cfg(test)]
mod compared;
#[cfg(test)]
mod encoded;
#[cfg(test)]
mod tests;

use std::time::Duration;

use pillion_event::Event;

pub use container::{Container, Format};
pub use encoding::Encoding;
pub use json::Json;
pub use long::{Long, LongParsed};
pub use multiline::{Grouping, Match, Multiline};
pub use options::{ChainOptions, MAX_BYTES_LIMIT, Parser, Shape, Terminator};
pub use pattern::Pattern;
pub use syslog::SyslogLines;

use crate::parse::line::{LineEnd, Lines, RawLine, Rule};
use crate::parse::run::{Reached, Run};

/// The largest chunk that [`Chain::parse`] takes, in bytes; of a larger one only this many are looked at. A line
/// without an end is cut into lines of this size.
pub const CHUNK_LIMIT: usize = 1 << 30;

/// How many bytes of a line are looked at at least where a parser has to see its end: the 16 KiB of text that container
/// engines put into a line at most may take six times as many, and labels stand beside them.
const WHOLE_LINE: usize = 256 << 10;

/// What happens to what isn't complete at the end of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing: it is left to the next call.
    No,
    /// Open multiline groups are events as they are (their timeout has passed); an unfinished line is left.
    Groups,
    /// Nothing will follow: open groups and the unfinished line are events as they are.
    All,
}

/// What [`Chain::parse`] is to parse.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    /// How many bytes at the beginning of `data` are the file's; at most [`CHUNK_LIMIT`].
    pub len: usize,
    /// The byte of the file at which `data` begins: where an earlier call's consumed bytes ended, or 0.
    pub offset: u64,
    /// What happens to what isn't complete.
    pub flush: Flush,
    /// `@timestamp` of events that don't bring their own, milliseconds since 1970.
    pub read_ms: i64,
    /// After how many events to stop, at least 1; a few more can come out of one container line.
    pub max_events: usize,
}

/// What isn't complete behind the consumed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// There is nothing.
    Nothing,
    /// An unfinished line, or the first parts of a container's line: only more bytes or [`Flush::All`] complete it.
    Line,
    /// A multiline group with at least one complete line: [`Flush::Groups`] completes it.
    Group,
}

/// Lines that a parser couldn't read and that are no events; Filebeat skips them with an error in its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Malformed {
    /// How many.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first ones' ranges in the file, at most [`Malformed::RANGES`].
    pub first: Vec<std::ops::Range<u64>>,
}

impl Malformed {
    /// How many ranges are kept.
    pub const RANGES: usize = 16;
}

/// How far [`Chain::parse`] came. The counts are of the consumed bytes alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bytes of complete events and of lines without an event: the caller goes on behind them.
    pub consumed: u64,
    /// Bytes up to the end of the last complete line looked at, consumed or not. A multiline timeout runs anew when
    /// it grows.
    pub seen: u64,
    /// What isn't complete behind `consumed`.
    pub open: Open,
    /// `max_events` was reached: there may be more events in this chunk.
    pub more: bool,
    /// Lines consumed, with and without an event.
    pub lines: u64,
    /// Lines that yield no event because they are empty.
    pub empty: u64,
    /// Lines that `include_lines`, `exclude_lines` or a container's `stream` filtered out.
    pub filtered: u64,
    /// Lines that couldn't be read.
    pub malformed: Malformed,
}

/// How the bytes of an input's files become events. Built once for each input.
#[derive(Debug)]
pub struct Chain {
    options: ChainOptions,
    end: LineEnd,
    /// Where a file's first bytes say how it is written: the chains for the higher byte first, and for the lower one.
    by_mark: Option<Box<[Chain; 2]>>,
}

impl Chain {
    /// A chain with these options; `max_bytes` is brought into `1..=MAX_BYTES_LIMIT`. Where the encoding lacks the
    /// terminator, lines end with a line feed.
    pub fn new(mut options: ChainOptions) -> Chain {
        options.max_bytes = options.max_bytes.clamp(1, MAX_BYTES_LIMIT);
        let end = |terminator| LineEnd::new(terminator, options.encoding);
        let end = end(options.terminator).or_else(|| end(Terminator::LineFeed)).unwrap_or(LineEnd::FEED);
        let marked = matches!(options.encoding, Encoding::Utf16Bom { .. });
        let written = |big| Chain::new(ChainOptions { encoding: Encoding::Utf16 { big }, ..options.clone() });
        let by_mark = marked.then(|| Box::new([written(true), written(false)]));
        Chain { options, end, by_mark }
    }

    /// Whether a file's first two bytes have to be known: see [`Chain::of_file`].
    pub fn needs_beginning(&self) -> bool {
        self.by_mark.is_some()
    }

    /// The chain for a file that begins with these bytes; `None` = it lacks the byte order mark that it has to have.
    pub fn of_file(&self, first: &[u8]) -> Option<&Chain> {
        let Some([big, little]) = self.by_mark.as_deref() else { return Some(self) };
        let found = self.options.encoding.of_file(first)?;
        Some(if found == (Encoding::Utf16 { big: true }) { big } else { little })
    }

    /// The first line end behind byte `from` of what begins at byte `offset` of the file: its range.
    pub fn line_end(&self, data: &[u8], from: usize, offset: u64) -> Option<std::ops::Range<usize>> {
        self.end.find(data, from, offset).map(|start| start..start + self.end.len())
    }

    /// Whether text that is written so has bytes of zero.
    pub fn has_zeros(&self) -> bool {
        self.end.has_zeros()
    }

    /// How many bytes a line end has.
    pub fn line_end_len(&self) -> usize {
        self.end.len()
    }

    /// The options.
    pub fn options(&self) -> &ChainOptions {
        &self.options
    }

    /// After which time without a new complete line an open group is flushed; `None` = never.
    pub fn group_timeout(&self) -> Option<Duration> {
        self.options.parsers.iter().filter_map(Parser::timeout).min()
    }

    /// Parses the first `chunk.len` bytes of `data` and pushes the events; texts that had to be rewritten are appended
    /// to `data`. Nothing consumed and [`Open`] something: read more bytes and call again, or go on with [`Chain::long`].
    pub fn parse(&self, data: &mut Vec<u8>, chunk: &Chunk, events: &mut Vec<Event>) -> Parsed {
        if self.options.parsers.is_empty() && self.options.encoding == Encoding::Plain && self.end.is_feed() {
            self.parse_lines(data, chunk, events)
        } else {
            self.parse_staged(data, chunk, events)
        }
    }

    /// Takes up what begins at byte `offset` of the file and is larger than the caller's buffer.
    pub fn long(&self, offset: u64, read_ms: i64) -> Long<'_> {
        Long::new(self, offset, read_ms)
    }

    /// How many bytes of a line are looked at: Filebeat's four times `max_bytes` where a parser has to see the end, and at
    /// least [`WHOLE_LINE`]: one that is cut is no JSON, and as Docker's it would be lost. (Filebeat drops longer lines, unless
    /// they happen to lie in what it has read already; here the rest is cut off.)
    fn line_max(&self) -> usize {
        let whole = self.options.parsers.iter().any(|p| matches!(p, Parser::Json(_) | Parser::Container(_)));
        if whole { (self.options.max_bytes * 4).max(WHOLE_LINE) } else { self.options.max_bytes }
    }

    fn rule(&self) -> Rule {
        let ChainOptions { terminator, encoding, .. } = self.options;
        Rule { line_max: self.line_max(), terminator, encoding }
    }

    /// Lets go of a file's bytes of which the texts were decoded.
    pub fn tidy(&self, data: &mut Vec<u8>, events: &mut [Event]) {
        if self.options.encoding == Encoding::Plain {
            return;
        }
        let texts = events.iter().map(|e| e.text.len()).sum::<usize>();
        if data.len() <= texts.saturating_mul(2) {
            return;
        }
        let mut kept = Vec::with_capacity(texts);
        for event in events {
            let start = kept.len() as u32;
            kept.extend_from_slice(&data[event.text.start as usize..event.text.end as usize]);
            event.text = start..kept.len() as u32;
        }
        *data = kept;
    }

    /// The hot path: each line is an event, and its bytes are its text.
    fn parse_lines(&self, data: &[u8], chunk: &Chunk, events: &mut Vec<Event>) -> Parsed {
        let bytes = chunk_bytes(data, chunk);
        let mut emit = emit::Emit::new(self, chunk.read_ms);
        let stop = events.len().saturating_add(chunk.max_events.max(1));
        let mut start = 0;
        let mut more = false;
        for end in memchr::memchr_iter(b'\n', bytes) {
            if events.len() >= stop {
                more = true;
                break;
            }
            emit.line(bytes, start, end, chunk.offset, true, events);
            start = end + 1;
        }
        let seen = start as u64;
        if !more && start < bytes.len() && chunk.flush == Flush::All {
            if events.len() < stop {
                emit.line(bytes, start, bytes.len(), chunk.offset, false, events);
                start = bytes.len();
            } else {
                more = true;
            }
        }
        let open = if start < bytes.len() && !more { Open::Line } else { Open::Nothing };
        emit.parsed(start as u64, seen, open, more)
    }

    fn parse_staged(&self, data: &mut Vec<u8>, chunk: &Chunk, events: &mut Vec<Event>) -> Parsed {
        let len = chunk_bytes(data, chunk).len();
        let stop = events.len().saturating_add(chunk.max_events.max(1));
        let kept = events.len();
        let rule = self.rule();
        let mut run = Run::new(self, chunk.read_ms);
        let mut lines = Lines::new(len, chunk.offset, self.end);
        // Events that hang together with what is held don't count: they may be taken back.
        while (events.len() < stop || run.settled(chunk.offset + lines.pos() as u64) == chunk.offset)
            && let Some(line) = lines.next(data)
        {
            let offset = chunk.offset + line.start as u64;
            let text = rule.text(data, RawLine::whole(data, line.clone(), offset, true));
            run.line(data, text, offset, (line.len() + self.end.len()) as u64, events);
        }
        let seen = lines.pos();
        let more = events.len() >= stop && seen < len && run.settled(chunk.offset + seen as u64) > chunk.offset;
        let mut pos = seen;
        if !more && chunk.flush == Flush::All && seen < len {
            let offset = chunk.offset + seen as u64;
            let text = rule.text(data, RawLine::whole(data, seen..len, offset, false));
            run.line(data, text, offset, (len - seen) as u64, events);
            pos = len;
        }
        if !more {
            run.flush(chunk.flush, data, events);
        }
        let at = |pos: usize| chunk.offset + pos as u64;
        let reached = Reached { from: chunk.offset, pos: at(pos), seen: at(seen), unfinished: pos < len, kept };
        run.parsed(&reached, more, events)
    }
}

fn chunk_bytes<'a>(data: &'a [u8], chunk: &Chunk) -> &'a [u8] {
    &data[..chunk.len.min(data.len()).min(CHUNK_LIMIT)]
}
