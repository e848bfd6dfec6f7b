//! Messages on their way through the parsers.
//!
//! Comes in: lines. Goes out: events, through `emit.rs`. A [`Run`] lives as long as one chunk is parsed, or as one
//! event that is larger than a buffer is followed ([`super::Long`]).
//!
//! Always holds: the file is to be parsed again from the first byte that a parser holds. What was emitted lies before
//! it, with one exception: lines of a container that were put together from parts lying among each other hang together
//! (they have one `anchor`), and as long as one of them is held, all of them are parsed again: then what was emitted
//! of them is taken back. Lines are counted when they lie before that byte.

use std::ops::Range;

use pillion_event::{Event, Flags, Stream};
use serde_json::{Map, Value};

use crate::parse::container::{self, Cluster, Released};
use crate::parse::emit::Emit;
use crate::parse::json::{self, Decoded};
use crate::parse::multiline::{self, Group};
use crate::parse::options::Parser;
use crate::parse::syslog;
use crate::parse::{Chain, Flush, Open, Parsed};

/// What a parser found beside the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// Fields of the event by top-level name.
    pub(super) fields: Map<String, Value>,
    /// Fields of `@metadata`.
    pub(super) metadata: Map<String, Value>,
    /// What `json.*` decoded, to be merged when the event is complete.
    pub(super) json: Option<Decoded>,
}

impl Extra {
    /// Takes over what a further line of the same event brings: as in Filebeat, by top-level name, the later wins.
    pub(super) fn join(extra: &mut Option<Box<Extra>>, later: Option<Box<Extra>>) {
        match (extra.as_mut(), later) {
            (Some(extra), Some(later)) => {
                extra.fields.extend(later.fields);
                extra.metadata.extend(later.metadata);
                if later.json.is_some() {
                    extra.json = later.json;
                }
            }
            (None, Some(later)) => *extra = Some(later),
            (_, None) => {}
        }
    }
}

/// A line, or several joined ones, on the way to an event.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The text in the buffer.
    pub(super) text: Range<usize>,
    /// The byte of the file at which it begins.
    pub(super) offset: u64,
    /// The byte from which the file has to be parsed to find it again: `offset`, or before it.
    pub(super) anchor: u64,
    /// How many bytes of the file it covers.
    pub(super) len: u64,
    /// How many lines.
    pub(super) lines: u64,
    pub(super) time_ms: i64,
    pub(super) stream: Stream,
    pub(super) flags: Flags,
    pub(super) extra: Option<Box<Extra>>,
}

impl Message {
    /// The first byte of the file behind it.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.len
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is an event.
    Event,
    /// It isn't wanted.
    Filtered,
    /// It is empty.
    Empty,
    /// It can't be read.
    Malformed,
}

/// A message that left the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) anchor: u64,
    pub(super) lines: u64,
    pub(super) fate: Fate,
}

impl Done {
    fn new(m: &Message, fate: Fate) -> Done {
        Done { offset: m.offset, end: m.end(), anchor: m.anchor, lines: m.lines, fate }
    }
}

/// What a parser holds.
#[derive(Debug)]
enum Held {
    Nothing,
    Group(Option<Group>),
    Cluster(Cluster),
}

/// One pass over consecutive lines.
pub(super) struct Run<'c> {
    chain: &'c Chain,
    emit: Emit<'c>,
    held: Vec<Held>,
    /// What left the chain, not yet counted; the events among it in their order.
    done: Vec<Done>,
    /// Some of it hangs together.
    tangled: bool,
}

impl<'c> Run<'c> {
    pub(super) fn new(chain: &'c Chain, read_ms: i64) -> Run<'c> {
        let held = chain.options.parsers.iter().map(|p| match p {
            Parser::Multiline(_) => Held::Group(None),
            Parser::Container(_) => Held::Cluster(Cluster::default()),
            Parser::Json(_) | Parser::IncludeMessage(_) | Parser::Syslog(_) => Held::Nothing,
        });
        Run { chain, emit: Emit::new(chain, read_ms), held: held.collect(), done: Vec::new(), tangled: false }
    }

    /// Takes the next line: its text in `data`, whether it was cut, and where it lies in the file.
    pub(super) fn line(
        &mut self,
        data: &mut Vec<u8>,
        (text, cut): (Range<usize>, bool),
        offset: u64,
        len: u64,
        events: &mut Vec<Event>,
    ) {
        let flags = Flags { multiline: false, truncated: cut };
        let time_ms = self.emit.read_ms;
        let message =
            Message { text, offset, anchor: offset, len, lines: 1, time_ms, stream: Stream::None, flags, extra: None };
        self.push(0, message, data, events);
    }

    /// Gives a message to the parser at `at`, and what comes out of it to the next ones.
    fn push(&mut self, at: usize, message: Message, data: &mut Vec<u8>, events: &mut Vec<Event>) {
        let options = &self.chain.options;
        let (Some(parser), Some(held)) = (options.parsers.get(at), self.held.get_mut(at)) else {
            let mut done = Done::new(&message, Fate::Event);
            done.fate = self.emit.message(message, data, events);
            self.done.push(done);
            return;
        };
        match (parser, held) {
            (Parser::Multiline(m), Held::Group(group)) => {
                for done in multiline::accept(m, options, group, message, data).into_iter().flatten() {
                    self.push(at + 1, done, data, events);
                }
            }
            (Parser::Container(c), Held::Cluster(cluster)) => {
                let mut skipped = Done::new(&message, Fate::Malformed);
                match container::accept(c, options, cluster, message, data) {
                    Ok(Released::Nothing) => {}
                    Ok(Released::One(done)) => self.push(at + 1, done, data, events),
                    Ok(Released::Many(done)) => {
                        self.tangled |= done.len() > 1;
                        self.push_all(at + 1, done, data, events);
                    }
                    Err(fate) => {
                        skipped.fate = fate;
                        self.done.push(skipped);
                    }
                }
            }
            (Parser::IncludeMessage(patterns), _) => {
                let text = &data[message.text.clone()];
                if patterns.iter().any(|p| p.is_match(text)) {
                    self.push(at + 1, message, data, events);
                } else {
                    let fate = if text.is_empty() { Fate::Empty } else { Fate::Filtered };
                    self.done.push(Done::new(&message, fate));
                }
            }
            (Parser::Json(j), _) => {
                let message = json::accept(j, options, message, data);
                self.push(at + 1, message, data, events);
            }
            (Parser::Syslog(s), _) => {
                let message = syslog::accept(s, message, data, self.emit.read_ms);
                self.push(at + 1, message, data, events);
            }
            (Parser::Multiline(_) | Parser::Container(_), _) => self.push(at + 1, message, data, events),
        }
    }

    fn push_all(&mut self, at: usize, messages: Vec<Message>, data: &mut Vec<u8>, events: &mut Vec<Event>) {
        for message in messages {
            self.push(at, message, data, events);
        }
    }

    /// Lets go what the parsers hold, the first one first, so that it passes the others.
    pub(super) fn flush(&mut self, how: Flush, data: &mut Vec<u8>, events: &mut Vec<Event>) {
        if how == Flush::No {
            return;
        }
        for at in 0..self.held.len() {
            let done = match &mut self.held[at] {
                Held::Group(group) => multiline::finish(&self.chain.options, group, data).into_iter().collect(),
                Held::Cluster(cluster) if how == Flush::All => cluster.release(data),
                Held::Cluster(_) | Held::Nothing => continue,
            };
            self.push_all(at + 1, done, data, events);
        }
    }

    /// The first byte of the file that a parser holds.
    fn held_from(&self) -> Option<u64> {
        let anchor = |held: &Held| match held {
            Held::Group(group) => group.as_ref().map(Group::anchor),
            Held::Cluster(cluster) => cluster.anchor(),
            Held::Nothing => None,
        };
        self.held.iter().filter_map(anchor).min()
    }

    /// The ranges of the buffer that the parsers hold.
    pub(super) fn held_texts(&mut self, each: &mut dyn FnMut(&mut Range<usize>)) {
        for held in &mut self.held {
            match held {
                Held::Group(Some(group)) => group.texts().into_iter().for_each(&mut *each),
                Held::Cluster(cluster) => cluster.texts(each),
                Held::Group(None) | Held::Nothing => {}
            }
        }
    }

    fn holds_group(&self) -> bool {
        self.held.iter().any(|h| matches!(h, Held::Group(Some(_))))
    }

    /// From which byte the file is to be parsed again when the lines before `pos` were taken.
    pub(super) fn settled(&self, pos: u64) -> u64 {
        let mut settled = self.held_from().unwrap_or(pos);
        if self.tangled {
            let torn = |settled: u64| self.done.iter().filter(|d| d.end > settled).map(|d| d.anchor).min();
            while let Some(anchor) = torn(settled).filter(|anchor| *anchor < settled) {
                settled = anchor;
            }
        }
        settled
    }

    /// How far it came. Events that have to be parsed again are taken back.
    pub(super) fn parsed(mut self, at: &Reached, more: bool, events: &mut Vec<Event>) -> Parsed {
        let settled = self.settled(at.pos);
        let mut kept = at.kept;
        for done in self.done.iter().filter(|d| d.end <= settled) {
            kept += usize::from(done.fate == Fate::Event);
            self.emit.count(done);
        }
        events.truncate(kept);
        let open = match self.held_from() {
            _ if self.holds_group() => Open::Group,
            Some(_) => Open::Line,
            None if at.unfinished && !more => Open::Line,
            None => Open::Nothing,
        };
        self.emit.parsed(settled - at.from, at.seen - at.from, open, more)
    }
}

/// Where a [`Run`] ended, in bytes of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reached {
    /// Where it began.
    pub(super) from: u64,
    /// Behind the last line taken.
    pub(super) pos: u64,
    /// Behind the last complete line taken.
    pub(super) seen: u64,
    /// Bytes follow `pos` that are no line yet.
    pub(super) unfinished: bool,
    /// How many events there were before.
    pub(super) kept: usize,
}
