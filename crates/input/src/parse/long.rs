//! Events that are larger than the caller's buffer.
//!
//! Comes in: consecutive chunks of a file, from the beginning of a line or group on. Goes out: the events that
//! [`Chain::parse`] would have found, could it have seen all of the bytes at once. What is kept between chunks is what
//! the events' texts need: at most a few times `max_bytes`, however long the line or group.
//!
//! Always holds: the result depends on the bytes alone, not on where the chunks were cut. Nothing has to be kept when
//! the file ends before the event does: it is found again by reading from its beginning. Tested in `tests.rs`.

use std::ops::Range;

use pillion_event::Event;

use crate::parse::line::RawLine;
use crate::parse::run::{Reached, Run};
use crate::parse::{CHUNK_LIMIT, Chain, Flush, Parsed};

/// How many bytes that nothing needs may lie in the buffer before it is tidied; few in tests, so that they reach it.
const WASTE: usize = if cfg!(test) { 16 } else { 1 << 20 };

/// Follows an event over several chunks. See [`Chain::long`].
pub struct Long<'c> {
    run: Run<'c>,
    chain: &'c Chain,
    /// The kept bytes.
    data: Vec<u8>,
    events: Vec<Event>,
    /// The byte of the file at which this began.
    from: u64,
    /// The byte of the file behind the last chunk.
    next: u64,
    /// The byte of the file at which the unfinished line begins.
    line_from: u64,
    /// What is kept of it.
    line: Range<usize>,
    /// Its last byte.
    last: Option<u8>,
    /// The last bytes of the last chunk, which may be the first ones of a line end.
    waiting: Vec<u8>,
}

/// What [`Long::finish`] gives.
pub struct LongParsed {
    /// The events' texts lie here.
    pub data: Vec<u8>,
    /// The events.
    pub events: Vec<Event>,
    /// How far it came.
    pub parsed: Parsed,
}

impl<'c> Long<'c> {
    pub(super) fn new(chain: &'c Chain, from: u64, read_ms: i64) -> Long<'c> {
        Long {
            run: Run::new(chain, read_ms),
            chain,
            data: Vec::new(),
            events: Vec::new(),
            from,
            next: from,
            line_from: from,
            line: 0..0,
            last: None,
            waiting: Vec::new(),
        }
    }

    /// The byte of the file at which the next chunk has to begin.
    pub fn next(&self) -> u64 {
        self.next + self.waiting.len() as u64
    }

    /// How many bytes of text are kept.
    pub fn kept(&self) -> usize {
        self.data.len()
    }

    /// Takes the next chunk, which begins at [`Long::next`]. Gives true when bytes are accounted for, so that
    /// [`Long::finish`] brings the caller on; false asks for more, or for the flush.
    pub fn feed(&mut self, chunk: &[u8]) -> bool {
        if self.waiting.is_empty() {
            self.take(chunk);
        } else {
            let mut joined = std::mem::take(&mut self.waiting);
            joined.extend_from_slice(chunk);
            self.take(&joined);
        }
        let progress = self.run.settled(self.line_from) > self.from;
        if !progress {
            self.tidy();
        }
        progress
    }

    fn take(&mut self, mut chunk: &[u8]) {
        let end_len = self.chain.end.len();
        while !chunk.is_empty() {
            let room = CHUNK_LIMIT - (self.next - self.line_from) as usize;
            let reach = &chunk[..chunk.len().min(room)];
            if let Some(end) = self.chain.end.find(reach, 0, self.next) {
                self.keep(&reach[..end]);
                self.end_line(true);
                chunk = &chunk[end + end_len..];
            } else if reach.len() == room {
                self.keep(reach);
                self.end_line(false);
                chunk = &chunk[reach.len()..];
            } else {
                let sure = reach.len().saturating_sub(end_len - 1);
                self.keep(&reach[..sure]);
                self.waiting.extend_from_slice(&reach[sure..]);
                return;
            }
        }
    }

    /// Ends it: with [`Flush::No`] after [`Long::feed`] gave true, else with what is to happen to the rest.
    pub fn finish(mut self, flush: Flush) -> LongParsed {
        let seen = self.line_from;
        let waiting = std::mem::take(&mut self.waiting);
        self.keep(&waiting);
        if flush == Flush::All && self.next > self.line_from {
            self.end_line(false);
        }
        self.run.flush(flush, &mut self.data, &mut self.events);
        let unfinished = self.next > self.line_from;
        let reached = Reached { from: self.from, pos: self.line_from, seen, unfinished, kept: 0 };
        let parsed = self.run.parsed(&reached, false, &mut self.events);
        LongParsed { data: self.data, events: self.events, parsed }
    }

    /// Keeps as much of a piece of the unfinished line as its text can need.
    fn keep(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        self.last = Some(*last);
        self.next += piece.len() as u64;
        let room = self.chain.rule().looked_at() - self.line.len();
        self.data.extend_from_slice(&piece[..piece.len().min(room)]);
        self.line.end = self.data.len();
    }

    fn end_line(&mut self, terminated: bool) {
        let len = self.next - self.line_from;
        let raw = RawLine {
            start: self.line.start,
            len: len as usize,
            last: self.last.take(),
            offset: self.line_from,
            terminated,
        };
        if terminated {
            // Texts that are joined stay one range when the line feed lies between them.
            self.data.push(b'\n');
            self.next += self.chain.end.len() as u64;
        }
        let text = self.chain.rule().text(&mut self.data, raw);
        self.run.line(&mut self.data, text, self.line_from, self.next - self.line_from, &mut self.events);
        self.line_from = self.next;
        self.line = self.data.len()..self.data.len();
    }

    /// Drops the bytes that nothing needs.
    fn tidy(&mut self) {
        let mut needed = self.line.len() + self.events.iter().map(|e| e.text.len()).sum::<usize>();
        self.run.held_texts(&mut |text| needed += text.len());
        if self.data.len() < needed.saturating_mul(2) + WASTE {
            return;
        }
        let mut kept = Vec::with_capacity(needed);
        let data = &self.data;
        let mut move_text = |text: &mut Range<usize>| {
            let start = kept.len();
            kept.extend_from_slice(&data[text.clone()]);
            *text = start..kept.len();
        };
        for event in &mut self.events {
            let mut text = event.text.start as usize..event.text.end as usize;
            move_text(&mut text);
            event.text = text.start as u32..text.end as u32;
        }
        self.run.held_texts(&mut move_text);
        // The unfinished line comes last: it goes on growing.
        move_text(&mut self.line);
        self.data = kept;
    }
}
