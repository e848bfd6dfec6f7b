//! Messages of the forward protocol: the events of a piece that share a tag, with the id that the server's
//! acknowledgement repeats.
//!
//! Comes in: the front of a piece. Goes out: one message in the mode PackedForward or CompressedPackedForward, and of how many
//! events. Facts: the forward protocol's v1 specification ("PackedForward Mode", "CompressedPackedForward Mode", "Option").
//!
//! Always holds: the same events with the same id give the same bytes; a message ends where the tag changes, before an
//! event that can't be sent, and when it has grown beyond its limit. What it costs: each event is rendered as JSON and read
//! once more to become MessagePack; a message is built in one buffer, and copied once behind its head. Tested below and in `tests.rs`.

use pillion_deflate::{Compressor, Container, Level};
use pillion_event::{Batch, Drop, DropKind, Event, Fate};

use super::msgpack;
use crate::codec::Codec;
use crate::format::{MissingField, Selector};
use crate::settle::unencodable;
use crate::work::Piece;

/// A message ends when its entries have grown beyond this, before compression: Fluent Bit takes no more than 6 MB.
pub(super) const MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Makes messages. Each worker has its own.
pub(super) struct Maker {
    tag: Selector,
    compressor: Option<Compressor>,
    entries: Vec<u8>,
    record: Vec<u8>,
}

/// What the front of a piece becomes.
pub(super) enum Front {
    /// So many events.
    Message(usize),
    /// The first event can't be sent.
    Unsendable(Fate),
}

impl Maker {
    pub(super) fn new(tag: Selector, level: Option<Level>) -> Maker {
        let compressor = level.map(|level| Compressor::new(Container::Gzip, level));
        Maker { tag, compressor, entries: Vec::new(), record: Vec::new() }
    }

    /// Appends the message of the first events, at most so many.
    pub(super) fn make(&mut self, codec: &Codec, piece: &Piece, most: usize, chunk: &str, out: &mut Vec<u8>) -> Front {
        self.entries.clear();
        let (mut tag, mut count) = (String::new(), 0);
        for (batch, _, event) in piece.events().take(most) {
            if self.entries.len() >= MESSAGE_BYTES {
                break;
            }
            let whole = self.entries.len();
            let fate = match self.tag(codec, batch, event) {
                Ok(own) if count > 0 && own != tag => break,
                Ok(own) => {
                    own.clone_into(&mut tag);
                    self.entry(codec, batch, event).err()
                }
                Err(missing) => Some(unencodable(&missing)),
            };
            if let Some(fate) = fate {
                self.entries.truncate(whole);
                if count == 0 {
                    return Front::Unsendable(fate);
                }
                break;
            }
            count += 1;
        }
        self.message(&tag, count, chunk, out);
        Front::Message(count)
    }

    fn tag(&mut self, codec: &Codec, batch: &Batch, event: &Event) -> Result<&str, MissingField> {
        match self.tag.get(codec.renderer(), batch, event)? {
            "" => Err(MissingField("tag".to_owned())),
            tag => Ok(tag),
        }
    }

    /// `[EventTime, {…}]`
    fn entry(&mut self, codec: &Codec, batch: &Batch, event: &Event) -> Result<(), Fate> {
        self.record.clear();
        codec.encode(batch, event, &mut self.record).map_err(|missing| unencodable(&missing))?;
        self.entry_of(event.time_ms)
    }

    /// The entry of the JSON in `record`.
    fn entry_of(&mut self, time_ms: i64) -> Result<(), Fate> {
        msgpack::array(2, &mut self.entries);
        msgpack::event_time(time_ms, &mut self.entries);
        msgpack::json(&self.record, &mut self.entries).map_err(|_| {
            // The codec gives nothing else that isn't readable.
            Fate::Dropped(Drop { kind: DropKind::Unencodable, type_name: "nested_too_deep".to_owned(), field: None })
        })
    }

    /// `[tag, entries, {"size": …, "chunk": …, "compressed": "gzip"}]`
    fn message(&mut self, tag: &str, count: usize, chunk: &str, out: &mut Vec<u8>) {
        msgpack::array(3, out);
        msgpack::text(tag, out);
        let compressed = self.compressor.as_mut().map(|compressor| {
            self.record.clear();
            compressor.compress(&self.entries, &mut self.record);
            &self.record
        });
        let entries = compressed.unwrap_or(&self.entries);
        msgpack::bytes(entries.len() as u32, out);
        out.extend_from_slice(entries);
        msgpack::map(if compressed.is_some() { 3 } else { 2 }, out);
        msgpack::text("size", out);
        msgpack::unsigned(count as u64, out);
        msgpack::text("chunk", out);
        msgpack::text(chunk, out);
        if compressed.is_some() {
            msgpack::text("compressed", out);
            msgpack::text("gzip", out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::Format;

    #[test]
    fn what_is_too_deep_is_reported() {
        for (deep, fits) in [(100, true), (200, false)] {
            let mut maker = Maker::new(Selector::new(Arc::new(Format::literal("x"))), None);
            maker.record = format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep)).into_bytes();
            match maker.entry_of(0) {
                Ok(()) => assert!(fits),
                Err(fate) => assert!(!fits && matches!(fate, Fate::Dropped(d) if d.type_name == "nested_too_deep")),
            }
        }
    }
}
