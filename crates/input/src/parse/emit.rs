//! The end of the chain: from messages to events.
//!
//! Comes in: complete messages. Goes out: events, unless a message is empty or filtered out; then it is counted.
//! Always holds: a text is at most `max_bytes` long. Tested in `tests.rs`.

use pillion_event::{Event, Flags, Overlay, Stream};

use crate::parse::line::{RawLine, Rule};
use crate::parse::options::{ChainOptions, Shape};
use crate::parse::run::{Done, Fate, Message};
use crate::parse::{Chain, Malformed, Open, Parsed, json};

/// Makes events, and counts.
pub(super) struct Emit<'c> {
    options: &'c ChainOptions,
    rule: Rule,
    pub(super) read_ms: i64,
    lines: u64,
    empty: u64,
    filtered: u64,
    malformed: Malformed,
}

impl<'c> Emit<'c> {
    pub(super) fn new(chain: &'c Chain, read_ms: i64) -> Emit<'c> {
        let (options, rule) = (&chain.options, chain.rule());
        Emit { options, rule, read_ms, lines: 0, empty: 0, filtered: 0, malformed: Malformed::default() }
    }

    /// A line of a chain without parsers.
    #[inline]
    pub(super) fn line(
        &mut self,
        data: &[u8],
        start: usize,
        end: usize,
        base: u64,
        terminated: bool,
        events: &mut Vec<Event>,
    ) {
        let offset = base + start as u64;
        let (text, truncated) = self.rule.plain(data, RawLine::whole(data, start..end, offset, terminated));
        self.lines += 1;
        if text.is_empty() {
            self.empty += 1;
        } else if self.filters(&data[text.clone()]) {
            self.filtered += 1;
        } else {
            events.push(Event {
                text: text.start as u32..text.end as u32,
                offset,
                len: (end - start) as u32 + u32::from(terminated),
                time_ms: self.read_ms,
                stream: Stream::None,
                flags: Flags { multiline: false, truncated },
                overlay: None,
            });
        }
    }

    /// A message that passed all parsers: whether it is an event, and why not.
    pub(super) fn message(&self, mut m: Message, data: &[u8], events: &mut Vec<Event>) -> Fate {
        if m.text.len() > self.options.max_bytes {
            m.text.end = m.text.start + self.options.max_bytes;
            m.flags.truncated = true;
        }
        // To Filebeat the flags are a field like others, and a message with fields isn't empty; 5.6 has no flags.
        let flagged = m.flags != Flags::default() && self.options.shape != Shape::V5;
        if m.text.is_empty() && m.extra.is_none() && m.stream == Stream::None && !flagged {
            return Fate::Empty;
        }
        if self.filters(&data[m.text.clone()]) {
            return Fate::Filtered;
        }
        let overlay = self.overlay(&mut m, data);
        if m.text.is_empty() {
            // It may stand behind all bytes of the chunk, of which the reader keeps only what is consumed.
            m.text = 0..0;
        }
        events.push(Event {
            text: m.text.start as u32..m.text.end as u32,
            offset: m.offset,
            len: u32::try_from(m.len).unwrap_or(u32::MAX),
            time_ms: m.time_ms,
            stream: m.stream,
            flags: m.flags,
            overlay,
        });
        Fate::Event
    }

    /// Counts what became of a line or group that is consumed.
    pub(super) fn count(&mut self, done: &Done) {
        self.lines += done.lines;
        match done.fate {
            Fate::Event => {}
            Fate::Filtered => self.filtered += done.lines,
            Fate::Empty => self.empty += done.lines,
            Fate::Malformed => {
                self.malformed.lines += done.lines;
                self.malformed.bytes += done.end - done.offset;
                if self.malformed.first.len() < Malformed::RANGES {
                    self.malformed.first.push(done.offset..done.end);
                }
            }
        }
    }

    pub(super) fn parsed(self, consumed: u64, seen: u64, open: Open, more: bool) -> Parsed {
        let Emit { lines, empty, filtered, malformed, .. } = self;
        Parsed { consumed, seen, open, more, lines, empty, filtered, malformed }
    }

    /// Whether `include_lines` or `exclude_lines` keep the text back.
    fn filters(&self, text: &[u8]) -> bool {
        let ChainOptions { include_lines, exclude_lines, .. } = self.options;
        (!include_lines.is_empty() && !include_lines.iter().any(|p| p.is_match(text)))
            || exclude_lines.iter().any(|p| p.is_match(text))
    }

    /// What differs from the plain event.
    fn overlay(&self, m: &mut Message, data: &[u8]) -> Option<Box<Overlay>> {
        let extra = m.extra.take().map(|e| *e);
        if self.options.shape == Shape::Filestream {
            let no_message = m.text.is_empty();
            let mut overlay =
                extra.map(|e| Overlay { no_message, fields: e.fields, metadata: e.metadata, ..Overlay::default() });
            if let Some(o) = overlay.as_mut().filter(|_| !no_message) {
                // Filestream writes the text last, over whatever parsers have put there.
                o.fields.remove("message");
            }
            return match overlay {
                Some(o) if !no_message && o.fields.is_empty() && o.metadata.is_empty() => None,
                None if no_message => Some(Box::new(Overlay { no_message, ..Overlay::default() })),
                overlay => overlay.map(Box::new),
            };
        }
        let omitted = self.options.modern && m.text.is_empty();
        let Some(mut extra) = extra else {
            return omitted.then(|| Box::new(Overlay { no_message: true, ..Overlay::default() }));
        };
        let mut overlay = Overlay { fields: extra.fields, metadata: extra.metadata, ..Overlay::default() };
        match extra.json.take() {
            Some(decoded) => json::merge(decoded, self.options, m, data, &mut overlay),
            None => overlay.no_message = omitted,
        }
        (overlay != Overlay::default()).then(|| Box::new(overlay))
    }
}
