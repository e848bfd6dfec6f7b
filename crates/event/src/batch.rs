//! A batch: one chunk of one file, and the events in it.
//!
//! Always holds (see [`Batch::check`]): the events are in the order of their ranges, the ranges don't overlap and lie
//! within `from..to`; each text lies within `data`. A batch is replayed byte for byte by parsing `from..to` of the same
//! incarnation again as if the file ended there: a reader that flushes an open line or group for another reason than
//! the bytes themselves (a timeout, the drain) ends its batch there.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::source::{EventId, Guard, Source};

/// The number of a batch: unique in the process, growing in the order in which one reader makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Which stream of a container an event came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Not a container's log.
    #[default]
    None,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The event's field `stream`.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Stream::None => None,
            Stream::Stdout => Some("stdout"),
            Stream::Stderr => Some("stderr"),
        }
    }
}

/// What readers note of an event: `log.flags` of Filebeat 7 to 9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Several lines joined to one event.
    pub multiline: bool,
    /// Cut at `max_bytes` or `max_lines`.
    pub truncated: bool,
}

/// How the fields of an [`Overlay`] stand to those that the event has of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Extent {
    /// They are merged deeply over its own: an object into an object, anything else replaces. From parsers.
    #[default]
    Merged,
    /// Each takes the place of its own member of that name, and its own members of the names in here are gone. From
    /// processors that touched a few.
    Members(Vec<String>),
    /// They are all that it has beside `@timestamp`, `@metadata` and its text.
    Whole,
}

/// What a parser or processor changed of one event beyond its text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// How `fields` stand to the event's own.
    pub extent: Extent,
    /// The event has no `message` (JSON without `message_key`).
    pub no_message: bool,
    /// Fields of the event by their top-level name.
    pub fields: Map<String, Value>,
    /// Fields of `@metadata`, such as `_id` from `json.document_id`.
    pub metadata: Map<String, Value>,
    /// About how many bytes of memory its maps hold; 0 = a few hundred.
    pub weight: u32,
}

/// One event: a range of the file and what is sent for it.
#[derive(Clone, Debug)]
pub struct Event {
    /// The text in the batch's `data`, without its line ending.
    pub text: Range<u32>,
    /// The byte of the file at which it begins.
    pub offset: u64,
    /// How many bytes of the file it covers, its line ending and joined lines included.
    pub len: u32,
    /// `@timestamp`, milliseconds since 1970: the read time, or what a container's line or its JSON said.
    pub time_ms: i64,
    /// The container's stream.
    pub stream: Stream,
    /// What the readers noted.
    pub flags: Flags,
    /// What differs from the plain event.
    pub overlay: Option<Box<Overlay>>,
}

/// The unit from the reader to the acknowledgement.
#[derive(Debug)]
pub struct Batch {
    /// Its number.
    pub id: BatchId,
    /// Where it was read.
    pub source: Arc<Source>,
    /// The first byte of the file that this batch accounts for.
    pub from: u64,
    /// The first byte behind it. Once all events are settled, all of `from..to` is: lines that were filtered out lie
    /// between or behind the events.
    pub to: u64,
    /// The bytes just before `to`; of no length where nobody knows them.
    pub guard: Guard,
    /// When it was read: milliseconds since 1970. A replay uses the same.
    pub read_ms: i64,
    /// The bytes as read, and behind them texts that parsers had to rewrite.
    pub data: Vec<u8>,
    /// The events; may be empty (only filtered lines: the cursor moves all the same).
    pub events: Vec<Event>,
    /// Bytes of this batch may have been sent by an earlier run of the process: the target's "exists already" is then
    /// believed for its ids.
    pub replayed: bool,
}

impl Batch {
    /// The text of an event.
    pub fn text(&self, event: &Event) -> &[u8] {
        self.data.get(event.text.start as usize..event.text.end as usize).unwrap_or_default()
    }

    /// The id of an event.
    pub fn event_id(&self, event: &Event) -> EventId {
        EventId { incarnation: self.source.incarnation, offset: event.offset, len: event.len }
    }

    /// About how many bytes of memory it holds: what queue and budgets count.
    pub fn weight(&self) -> usize {
        let overlays = self.events.iter().filter_map(|e| e.overlay.as_deref());
        let overlays = overlays.map(|o| (o.weight as usize).max(512)).sum::<usize>();
        size_of::<Batch>() + self.data.capacity() + self.events.capacity() * size_of::<Event>() + overlays
    }

    /// What always holds of a batch; an error names what doesn't. For tests and debug builds.
    pub fn check(&self) -> Result<(), String> {
        let mut at = self.from;
        if self.to < self.from {
            return Err(format!("ends at {} before it begins at {}", self.to, self.from));
        }
        for e in &self.events {
            if e.offset < at {
                return Err(format!("event at {} begins before {at}", e.offset));
            }
            at = e.offset + u64::from(e.len);
            if at > self.to {
                return Err(format!("event at {} ends at {at} behind the batch's end {}", e.offset, self.to));
            }
            if e.text.start > e.text.end || e.text.end as usize > self.data.len() {
                return Err(format!("text {:?} lies outside of {} bytes", e.text, self.data.len()));
            }
        }
        Ok(())
    }
}

/// Some consecutive events of a batch, never none.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The batch.
    pub batch: Arc<Batch>,
    /// Which of its events.
    pub events: Range<usize>,
}

impl Slice {
    /// The events.
    pub fn events(&self) -> &[Event] {
        self.batch.events.get(self.events.clone()).unwrap_or_default()
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
