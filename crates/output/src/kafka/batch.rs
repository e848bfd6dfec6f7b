//! Events for one partition, as records.
//!
//! Comes in: records, one by one, then a number. Goes out: the bytes that are sent. Always holds: once it is numbered, a
//! batch is the same bytes each time. Tested in `tests.rs`.

use std::sync::Arc;

use pillion_event::Slice;

use super::records::{Compression, Producer, Record, Records, stamp};
use crate::work::Piece;

/// Events for one partition.
pub(super) struct Batch {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) piece: Piece,
    pub(super) events: usize,
    /// Before compression.
    pub(super) size: usize,
    pub(super) bytes: Vec<u8>,
    /// Its first number, once it has one, and who counts.
    pub(super) sequence: Option<i32>,
    pub(super) producer: Producer,
    /// How often in a row the cluster didn't name its partition.
    pub(super) homeless: u32,
}

impl Batch {
    /// From now on it has this number.
    pub(super) fn number(&mut self, producer: Producer, first: i32) {
        stamp(&mut self.bytes, producer, first);
        (self.producer, self.sequence) = (producer, Some(first));
    }
}

/// A batch as it grows.
#[derive(Default)]
pub(super) struct Growing {
    pub(super) records: Records,
    slices: Vec<Slice>,
    pub(super) events: usize,
}

impl Growing {
    pub(super) fn add(&mut self, record: &Record<'_>, slice: Slice) {
        self.records.add(record);
        self.events += 1;
        if let Some(last) = self.slices.last_mut()
            && Arc::ptr_eq(&last.batch, &slice.batch)
            && last.events.end == slice.events.start
        {
            last.events.end = slice.events.end;
        } else {
            self.slices.push(slice);
        }
    }

    /// It has grown enough. `front`: what its events are a part of.
    pub(super) fn finish(self, topic: String, partition: i32, front: &Piece, compression: Compression) -> Batch {
        Batch {
            topic,
            partition,
            piece: front.with(self.slices),
            events: self.events,
            size: self.records.size(),
            bytes: self.records.finish(compression),
            sequence: None,
            producer: Producer::NONE,
            homeless: 0,
        }
    }
}
