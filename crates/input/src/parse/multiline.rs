//! Several lines joined to one event.
//!
//! Comes in: messages in the order of the file. Goes out: groups of them as one message each, joined with line feeds.
//! A group's text stays a range of the file's bytes as long as these are the joined text; else it is gathered in a
//! buffer of at most `max_bytes`.
//!
//! Always holds: where a group begins depends on the lines since the previous beginning alone, so that parsing again
//! from the beginning of any group gives the same groups. As Filebeat: a group's first line isn't looked at for
//! `flush_pattern`; lines beyond `max_lines` or `max_bytes` belong to the group and are left out of its text; empty
//! lines at a group's beginning leave no line feed. Otherwise than Filebeat: a group of `count` is sent with its last
//! line, not when the next one comes, and counts lines that were left out.
//! Filestream says as `log.offset` where the last line begins; so does this.
//!
//! Tested in `tests.rs`; fuzz target `multiline`.

use std::ops::Range;
use std::time::Duration;

use serde_json::json;

use crate::parse::options::{ChainOptions, Shape};
use crate::parse::pattern::Pattern;
use crate::parse::run::{Extra, Message};

/// Where a group is cut whatever its lines say, in bytes of the file.
const GROUP_LIMIT: u64 = 1 << 31;

/// `multiline.match`: which lines a matching line belongs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// A matching line belongs to the lines before it.
    After,
    /// A matching line belongs to the line behind it.
    Before,
}

/// `multiline.type`: what makes a group.
#[derive(Clone, Debug)]
pub enum Grouping {
    /// `pattern`.
    Pattern {
        /// The pattern.
        pattern: Pattern,
        /// `negate`: lines that don't match count as matching.
        negate: bool,
        /// `match`.
        matching: Match,
        /// `flush_pattern`: a line that matches is the group's last.
        flush: Option<Pattern>,
    },
    /// `count`: so many lines, at least 1.
    Count(u64),
    /// `while_pattern`: consecutive lines that match; each other line stands alone.
    While {
        /// The pattern.
        pattern: Pattern,
        /// `negate`: lines that don't match count as matching.
        negate: bool,
    },
}

/// `multiline.*`, or the parser `multiline`.
#[derive(Clone, Debug)]
pub struct Multiline {
    /// What makes a group.
    pub grouping: Grouping,
    /// `max_lines`: how many lines are put into the text; 0 = all. Filebeat's default is 500, with `count` all.
    pub max_lines: u64,
    /// `timeout`: after which time without a new line a group is sent; 0 = never. Filebeat's default is 5 s.
    pub timeout: Duration,
    /// `skip_newline`: lines are joined without a line feed.
    pub skip_newline: bool,
}

impl Multiline {
    /// Filebeat's default of `max_lines`.
    pub const MAX_LINES: u64 = 500;
    /// Filebeat's default of `timeout`.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// This grouping with Filebeat's defaults.
    pub fn new(grouping: Grouping) -> Multiline {
        let max_lines = if matches!(grouping, Grouping::Count(_)) { 0 } else { Self::MAX_LINES };
        Multiline { grouping, max_lines, timeout: Self::TIMEOUT, skip_newline: false }
    }

    /// As Filebeat, `count` has no timeout.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let counts = matches!(self.grouping, Grouping::Count(_));
        (!counts && !self.timeout.is_zero()).then_some(self.timeout)
    }
}

/// A group that isn't complete.
#[derive(Debug)]
pub(super) struct Group {
    /// All but the text where `gathered` is something.
    message: Message,
    gathered: Option<Vec<u8>>,
    /// Lines whose text is in the group's.
    added: u64,
    /// All lines of the group.
    lines: u64,
    cut: bool,
    /// The last line's text.
    last: Range<usize>,
    /// Where the last line that isn't empty begins in the file.
    last_offset: u64,
}

impl Group {
    pub(super) fn anchor(&self) -> u64 {
        self.message.anchor
    }

    /// The ranges of the buffer that the group needs.
    pub(super) fn texts(&mut self) -> [&mut Range<usize>; 2] {
        [&mut self.message.text, &mut self.last]
    }
}

/// The groups that a message completed, the first one first.
pub(super) type Completed = [Option<Message>; 2];

/// Takes the next message into the open group.
pub(super) fn accept(
    options: &Multiline,
    chain: &ChainOptions,
    open: &mut Option<Group>,
    message: Message,
    data: &mut Vec<u8>,
) -> Completed {
    let max_bytes = chain.max_bytes;
    let over = open.as_ref().is_some_and(|g| message.end() - g.message.offset > GROUP_LIMIT);
    let first = if over { finish(chain, open, data) } else { None };
    match &options.grouping {
        Grouping::Pattern { pattern, negate, matching, flush } => {
            let Some(group) = open else {
                *open = Some(begin(options, max_bytes, message, data));
                return [first, None];
            };
            let ends = flush.as_ref().is_some_and(|f| f.is_match(&data[message.text.clone()]));
            let decisive = if *matching == Match::After { &message.text } else { &group.last };
            if !ends && pattern.is_match(&data[decisive.clone()]) == *negate {
                let done = finish(chain, open, data);
                *open = Some(begin(options, max_bytes, message, data));
                return [done, None];
            }
            group.add(options, max_bytes, message, data);
            [first, if ends { finish(chain, open, data) } else { None }]
        }
        Grouping::Count(count) => {
            match open {
                Some(group) => group.add(options, max_bytes, message, data),
                None => *open = Some(begin(options, max_bytes, message, data)),
            }
            let full = open.as_ref().is_some_and(|g| g.lines >= *count);
            [first, if full { finish(chain, open, data) } else { None }]
        }
        Grouping::While { pattern, negate } => {
            if pattern.is_match(&data[message.text.clone()]) == *negate {
                return [first.or_else(|| finish(chain, open, data)), Some(message)];
            }
            match open {
                Some(group) => group.add(options, max_bytes, message, data),
                None => *open = Some(begin(options, max_bytes, message, data)),
            }
            [first, None]
        }
    }
}

/// Ends the open group.
pub(super) fn finish(chain: &ChainOptions, open: &mut Option<Group>, data: &mut Vec<u8>) -> Option<Message> {
    let mut group = open.take()?;
    if let Some(text) = group.gathered {
        let start = data.len();
        data.extend_from_slice(&text);
        group.message.text = start..data.len();
    }
    group.message.flags.truncated |= group.cut;
    group.message.flags.multiline |= group.added > 1;
    if chain.shape == Shape::Filestream && group.last_offset != group.message.offset {
        let log = json!({ "offset": group.last_offset });
        group.message.extra().fields.insert("log".to_owned(), log);
    }
    Some(group.message)
}

fn begin(options: &Multiline, max_bytes: usize, message: Message, data: &[u8]) -> Group {
    let last = message.text.clone();
    let last_offset = message.offset;
    let mut group = Group {
        message: Message { text: last.start..last.start, ..message },
        gathered: None,
        added: 0,
        lines: 0,
        cut: false,
        last: last.clone(),
        last_offset,
    };
    group.put(options, max_bytes, last, data);
    group
}

impl Group {
    fn add(&mut self, options: &Multiline, max_bytes: usize, message: Message, data: &[u8]) {
        let m = &mut self.message;
        m.len = message.end() - m.offset;
        m.anchor = m.anchor.min(message.anchor);
        m.lines += message.lines;
        if !message.text.is_empty() {
            self.last_offset = message.offset;
        }
        m.flags.truncated |= message.flags.truncated;
        m.flags.multiline |= message.flags.multiline;
        if message.stream != pillion_event::Stream::None {
            m.stream = message.stream;
        }
        Extra::join(&mut m.extra, message.extra);
        self.put(options, max_bytes, message.text, data);
    }

    /// Puts a line's text behind the group's, as far as there is room.
    fn put(&mut self, options: &Multiline, max_bytes: usize, line: Range<usize>, data: &[u8]) {
        let size = self.gathered.as_ref().map_or(self.message.text.len(), Vec::len);
        let separator = size > 0 && !options.skip_newline;
        let room = max_bytes.saturating_sub(size + usize::from(separator));
        let max_lines = options.max_lines;
        self.lines += 1;
        self.last = line.clone();
        if room == 0 || (max_lines > 0 && self.added >= max_lines) {
            self.cut |= !line.is_empty();
            return;
        }
        self.added += 1;
        self.cut |= line.len() > room;
        let taken = line.start..line.end.min(line.start + room);
        let text = &mut self.message.text;
        match &mut self.gathered {
            None if size == 0 => *text = taken,
            None if separator && taken.start == text.end + 1 && data.get(text.end) == Some(&b'\n') => {
                text.end = taken.end
            }
            None if !separator && taken.start == text.end => text.end = taken.end,
            None if !separator && taken.is_empty() => {}
            gathered => {
                let buffer = gathered.get_or_insert_with(|| data[text.clone()].to_vec());
                if separator {
                    buffer.push(b'\n');
                }
                buffer.extend_from_slice(&data[taken]);
            }
        }
    }
}
