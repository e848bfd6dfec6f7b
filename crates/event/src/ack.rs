//! What became of events, and how far a source is delivered.

use std::sync::Arc;

use crate::source::{Guard, Incarnation};

/// What became of an event at the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The target has it.
    Acked,
    /// The target had it already, under its id, and it may have been sent before: delivered.
    Duplicate,
    /// The target refused it for good, and a dead-letter index or file has it: not delivered where it should be, not
    /// lost.
    DeadLettered(Drop),
    /// The target refused it for good; it goes nowhere.
    Dropped(Drop),
}

/// Why an event was dropped: types, field names and counts, never values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Drop {
    /// The kind of reason.
    pub kind: DropKind,
    /// The target's word for it (`mapper_parsing_exception`), at most 128 bytes; empty when there is none.
    pub type_name: String,
    /// The field it is about, where the target names one, at most 128 bytes.
    pub field: Option<String>,
}

/// The kinds of reasons for which an event isn't delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropKind {
    /// The target refused this event (HTTP status of the item, 4xx).
    Rejected(u16),
    /// The target refuses a request that holds this event alone as too large.
    TooLarge,
    /// The target has another event under this id, though this one was never sent.
    IdTaken,
    /// The event can't be written in the target's form.
    Unencodable,
}

/// How far a source is delivered: all bytes before `offset` of this incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The registry's key of the source.
    pub key: Arc<str>,
    /// The life of the content that the offset counts in.
    pub incarnation: Incarnation,
    /// The first byte that isn't delivered.
    pub offset: u64,
    /// The bytes just before it.
    pub guard: Guard,
}

/// Something that the target's acknowledgement stands behind. The registry moves a cursor only for one of these.
///
/// ```compile_fail
/// let forged = pillion_event::Acked(1); // the field is private
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked<T>(T);

impl<T> Acked<T> {
    /// Says that the target has acknowledged it. Only `engine/ack.rs` may call this (clippy's `disallowed-methods`).
    pub fn by_target(what: T) -> Acked<T> {
        Acked(what)
    }

    /// What was acknowledged.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What was acknowledged.
    pub fn into_inner(self) -> T {
        self.0
    }
}
