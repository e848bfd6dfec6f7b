//! The body of a `_bulk` request.
//!
//! Comes in: work. Goes out: the body, compressed as it is written, and which events are in it. Always holds: the same
//! event gives the same bytes each time; the body before compression stays below [`BODY_LIMIT`] bytes unless a single
//! event is larger; buffers are used again, and given back when a large request has blown them up. Tested in `tests.rs`.

use std::sync::Arc;

use pillion_config::Compat;
use pillion_deflate::{Compressor, Container, Level};
use pillion_event::{Batch, DropKind, Event, Fate};

use super::names::{NameOptions, Names, metadata};
use super::work::{Dead, Work};
use crate::format::{Format, MissingField};
use crate::render::{Renderer, escape, write_event_id, write_timestamp};
use crate::settle::unencodable;

/// A request holds at most this many bytes before compression: Elasticsearch refuses more than 100 MB, advises 5 to
/// 15, and memory is held for it.
pub const BODY_LIMIT: usize = 8 << 20;
/// Requests aren't made smaller than this for a target that finds them too large.
const LEAST_LIMIT: usize = 16 << 10;
/// How much is rendered before it is compressed.
const STEP: usize = 32 << 10;
/// Buffers larger than this are given back after a request.
const KEEP: usize = 2 << 20;

/// What was built.
pub(super) struct Built {
    /// How many of the work's first events were looked at.
    pub(super) taken: usize,
    /// Which of those (their place in the work) can't be sent, and why.
    pub(super) unsendable: Vec<(usize, Fate)>,
    /// Bytes before compression.
    pub(super) bytes: usize,
}

/// Builds bodies; each worker has its own.
pub(super) struct Builder {
    renderer: Arc<Renderer>,
    names: Names,
    dead_index: Option<String>,
    event_ids: bool,
    compressor: Option<Compressor>,
    plain: Vec<u8>,
    dead: Vec<u8>,
    limit: usize,
}

impl Builder {
    pub(super) fn new(
        renderer: Arc<Renderer>,
        names: NameOptions,
        dead_index: Option<String>,
        event_ids: bool,
        compression: Option<Level>,
    ) -> Builder {
        let compressor = compression.map(|level| Compressor::new(Container::Gzip, level));
        Builder {
            renderer,
            names: Names::new(names),
            dead_index,
            event_ids,
            compressor,
            plain: Vec::new(),
            dead: Vec::new(),
            limit: BODY_LIMIT,
        }
    }

    /// From now on events go to this index, unless something else says where to.
    pub(super) fn use_index(&mut self, index: &Arc<Format>) {
        self.names.use_index(index);
    }

    /// The target found so many bytes too large: later requests stay below half of it.
    pub(super) fn too_large(&mut self, bytes: usize) {
        self.limit = (bytes / 2).clamp(LEAST_LIMIT, self.limit);
    }

    /// Writes the body for as many of the work's events as fit into one request. `with_type`: `_type` in action lines.
    pub(super) fn build(&mut self, work: &Work, with_type: bool, out: &mut Vec<u8>) -> Built {
        let mut built = Built { taken: 0, unsendable: Vec::new(), bytes: 0 };
        self.plain.clear();
        if let Some(c) = &mut self.compressor {
            c.begin(out);
        }
        for (place, (batch, _, event)) in work.piece.events().enumerate() {
            let at = self.plain.len();
            let written = match work.dead.get(place) {
                None => self.event(batch, event, with_type),
                Some(dead) => {
                    self.dead_event(batch, event, dead, with_type);
                    Ok(())
                }
            };
            if let Err(missing) = written {
                self.plain.truncate(at);
                built.unsendable.push((place, unencodable(&missing)));
            }
            let len = self.plain.len() - at;
            if built.bytes > 0 && built.bytes + len > self.limit {
                self.plain.truncate(at);
                // Whatever was found of this event will be found again.
                built.unsendable.retain(|(p, _)| *p < place);
                break;
            }
            built.bytes += len;
            built.taken += 1;
            if self.plain.len() >= STEP {
                self.drain(out);
            }
        }
        self.drain(out);
        if let Some(c) = &mut self.compressor {
            c.finish(out);
        }
        if self.plain.capacity() > KEEP {
            self.plain = Vec::new();
        }
        built
    }

    fn drain(&mut self, out: &mut Vec<u8>) {
        match &mut self.compressor {
            Some(c) => c.write(&self.plain, out),
            None => out.extend_from_slice(&self.plain),
        }
        self.plain.clear();
    }

    fn event(&mut self, batch: &Batch, event: &Event, with_type: bool) -> Result<(), MissingField> {
        let lower = self.renderer.compat() != Compat::V5;
        let own_id = own_id(event);
        let kind = op_type(event, self.renderer.compat());
        if kind == Some(OpType::Delete) && own_id.is_none() {
            return Err(MissingField("@metadata._id".to_owned()));
        }
        let out = &mut self.plain;
        // 5.6 says `index`, which would overwrite; with an id only `create` shows a second sending.
        let usual = if self.event_ids || lower || own_id.is_some() { OpType::Create } else { OpType::Index };
        out.extend_from_slice(match kind.unwrap_or(usual) {
            OpType::Create => b"{\"create\":{\"_index\":\"",
            OpType::Index => b"{\"index\":{\"_index\":\"",
            OpType::Delete => b"{\"delete\":{\"_index\":\"",
        });
        name(self.names.index(&self.renderer, batch, event)?, lower, out);
        out.push(b'"');
        if with_type {
            out.extend_from_slice(b",\"_type\":\"doc\"");
        }
        if let Some(id) = own_id {
            out.extend_from_slice(b",\"_id\":\"");
            escape(id.as_bytes(), false, out);
            out.push(b'"');
        } else if self.event_ids {
            write_id(batch, event, out);
        }
        let pipeline = self.names.pipeline(&self.renderer, batch, event);
        if !pipeline.is_empty() {
            out.extend_from_slice(b",\"pipeline\":\"");
            name(pipeline, lower, out);
            out.push(b'"');
        }
        out.extend_from_slice(b"}}\n");
        if kind != Some(OpType::Delete) {
            self.renderer.write(batch, event, out);
            out.push(b'\n');
        }
        Ok(())
    }

    fn dead_event(&mut self, batch: &Batch, event: &Event, dead: &Dead, with_type: bool) {
        let out = &mut self.plain;
        out.extend_from_slice(b"{\"create\":{\"_index\":\"");
        escape(self.dead_index.as_deref().unwrap_or_default().as_bytes(), false, out);
        out.push(b'"');
        if with_type {
            out.extend_from_slice(b",\"_type\":\"doc\"");
        }
        if self.event_ids {
            write_id(batch, event, out);
        }
        out.extend_from_slice(b"}}\n{\"@timestamp\":\"");
        write_timestamp(event.time_ms, out);
        out.extend_from_slice(b"\",\"message\":\"");
        self.dead.clear();
        self.renderer.write(batch, event, &mut self.dead);
        escape(&self.dead, false, out);
        let status = match dead.reason.kind {
            DropKind::Rejected(status) => status,
            DropKind::TooLarge | DropKind::IdTaken | DropKind::Unencodable => 0,
        };
        out.extend_from_slice(format!("\",\"error.type\":{status},\"error.message\":\"").as_bytes());
        // What the target said, as JSON within the text.
        self.dead.clear();
        self.dead.push(b'{');
        write_error(dead, &mut self.dead);
        self.dead.push(b'}');
        escape(&self.dead, false, out);
        out.extend_from_slice(b"\"}\n");
    }
}

/// Appends the members of a target's error.
pub(super) fn write_error(dead: &Dead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"type\":\"");
    escape(dead.reason.type_name.as_bytes(), false, out);
    out.extend_from_slice(b"\",\"reason\":\"");
    escape(dead.text.as_bytes(), false, out);
    out.push(b'"');
}

/// What is to be done with an event's document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpType {
    Create,
    Index,
    Delete,
}

/// What the event itself says of that: its `@metadata.op_type`, which 5.6 doesn't know.
pub(super) fn op_type(event: &Event, compat: Compat) -> Option<OpType> {
    match metadata(event, "op_type").filter(|_| compat != Compat::V5)? {
        "create" => Some(OpType::Create),
        "index" => Some(OpType::Index),
        "delete" => Some(OpType::Delete),
        _ => None,
    }
}

/// The id that the event brings along (`json.document_id`).
pub(super) fn own_id(event: &Event) -> Option<&str> {
    metadata(event, "_id")
}

fn write_id(batch: &Batch, event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"_id\":\"");
    write_event_id(&batch.event_id(event), out);
    out.push(b'"');
}

/// Names are in lower case from 7 on.
fn name(text: &str, lower: bool, out: &mut Vec<u8>) {
    if lower && text.chars().any(char::is_uppercase) {
        escape(text.to_lowercase().as_bytes(), false, out);
    } else {
        escape(text.as_bytes(), false, out);
    }
}
