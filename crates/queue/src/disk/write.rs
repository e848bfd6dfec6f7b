//! Appending to the disk queue.
//!
//! Comes in: batches. Goes out: records in the last segment, or in a new one. Always holds: see the module above; the
//! numbers of what couldn't be written are given again to the same batches. Tested in `tests.rs`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Batch, Source};
use pillion_world::{File, OpenHow};

use super::format::{HEAD, HEADER, Head, Kind, Point, segment_header, segment_name};
use super::{Batches, DiskQueue, Retry, Segment, body, recover, sync_dir};

/// How many sources a segment's table has before it begins anew.
const SOURCES: usize = 4096;
/// How many bytes are written and synced at once, about.
const GROUP: usize = 4 << 20;

/// The last segment, open to be written.
pub(super) struct Writer {
    file: Box<dyn File>,
    sources: Sources,
}

/// The numbers of sources in a segment. A source that is in the table is held by it, so that its address is its own.
#[derive(Default)]
struct Sources(HashMap<usize, (Arc<Source>, u32)>);

/// Records that are to be written at once.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    /// Where the heads of batches lie, and what they say but for the group's size.
    heads: Vec<(usize, Head)>,
    sources: Sources,
}

impl DiskQueue {
    /// Stores as many of these batches as there is room for, in order, and tells how many: those are durable. None, while
    /// a write that failed isn't to be tried again yet.
    ///
    /// # Errors
    /// None of them is stored. To be repeated with the same batches.
    pub fn append(&mut self, batches: Batches<'_>) -> io::Result<usize> {
        if !self.may_write() {
            return Ok(0);
        }
        let mut stored = 0;
        while let Some(rest) = batches.get(stored..).filter(|rest| !rest.is_empty()) {
            match self.write_group(rest) {
                Ok(0) => break,
                Ok(n) => stored += n,
                // What is durable stays so; the caller learns of the error when it comes again.
                Err(_) if stored > 0 => break,
                Err(e) => return Err(self.failed(e)),
            }
        }
        if stored > 0 {
            self.retry = None;
        }
        Ok(stored)
    }

    /// Writes anew what a crash left in doubt. It is no longer, when this succeeds.
    ///
    /// # Errors
    /// To be repeated.
    pub fn settle_doubt(&mut self) -> io::Result<()> {
        let Some(doubt) = &self.doubt else { return Ok(()) };
        if !self.may_write() {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the disk queue couldn't be written a moment ago"));
        }
        let batches = match recover::batches(self, doubt) {
            Ok(batches) => batches,
            Err(e) => return Err(self.failed(e)),
        };
        let next = std::mem::replace(&mut self.next, doubt.begin);
        self.writer = None;
        let done = self.write_all(&batches);
        self.next = next;
        done.map_err(|e| self.failed(e))?;
        (self.doubt, self.retry) = (None, None);
        Ok(())
    }

    fn may_write(&self) -> bool {
        self.retry.as_ref().is_none_or(|retry| self.world.clock.mono() >= retry.at)
    }

    /// Whether writes fail at present.
    pub fn is_failing(&self) -> bool {
        self.retry.is_some()
    }

    fn failed(&mut self, e: io::Error) -> io::Error {
        let (first, most) = self.options.retry;
        let before = self.retry.as_ref().map(|retry| retry.pause);
        let pause = before.map_or(first, |pause| pause.saturating_mul(2)).min(most.max(first));
        let pause = pause.max(Duration::from_millis(1));
        self.retry = Some(Retry { at: self.world.clock.mono().plus(pause), pause });
        e
    }

    /// Writes all of them in one group.
    fn write_all(&mut self, batches: Batches<'_>) -> io::Result<()> {
        let mut group = Group::default();
        let mut end = self.next;
        for batch in batches {
            self.add(&mut group, batch, &mut end);
        }
        self.write(group)
    }

    /// Writes as many as fit, and tells how many.
    fn write_group(&mut self, batches: Batches<'_>) -> io::Result<usize> {
        if self.segments.back().is_some_and(|s| s.len >= self.options.segment_size) {
            self.writer = None;
        }
        let mut group = Group::default();
        if let Some(writer) = &mut self.writer {
            group.sources = std::mem::take(&mut writer.sources);
        }
        let status = self.status();
        let room = usize::try_from(status.free).unwrap_or(usize::MAX);
        let header = if self.writer.is_some() { 0 } else { HEADER };
        let (mut end, mut n, mut full) = (self.next, 0, false);
        for batch in batches {
            let (bytes, heads) = (group.bytes.len(), group.heads.len());
            self.add(&mut group, batch, &mut end);
            // An empty queue takes anything: a batch that never fits would stay for ever.
            let is_alone = n == 0 && self.acked == self.next && status.bytes < self.small();
            if group.bytes.len() + header > room && !is_alone {
                group.bytes.truncate(bytes);
                group.heads.truncate(heads);
                full = true;
                break;
            }
            n += 1;
            if group.bytes.len() >= GROUP {
                break;
            }
        }
        if n == 0 {
            // The table has a source whose record isn't written.
            self.writer = None;
            return Ok(0);
        }
        let events: u64 = batches.iter().take(n).map(|b| b.events.len() as u64).sum();
        let end = Point { seq: self.next.seq + n as u64, events: self.next.events + events };
        self.write(group)?;
        self.next = end;
        if full {
            self.writer = None;
        }
        Ok(n)
    }

    /// Adds the records of a batch.
    fn add(&mut self, group: &mut Group, batch: &Batch, end: &mut Point) {
        let mut head = Head {
            kind: Kind::Source,
            body_len: 0,
            seq: end.seq,
            back: 0,
            group: 0,
            events_before: end.events,
            events: 0,
            source: 0,
            from: 0,
            to: 0,
            guard: Default::default(),
            body_crc: 0,
        };
        let address = Arc::as_ptr(&batch.source) as usize;
        head.source = match group.sources.0.get(&address) {
            Some((_, number)) => *number,
            None => {
                let body = body::put_source(&batch.source, &body::put_input(&batch.source.input));
                if group.sources.0.len() >= SOURCES {
                    group.sources.0.clear();
                }
                head.source = group.sources.0.len() as u32;
                group.sources.0.insert(address, (Arc::clone(&batch.source), head.source));
                self.shared.know(&body, &batch.source);
                group.put(&mut head, &body);
                head.source
            }
        };
        head.kind = Kind::Batch;
        head.events = batch.events.len() as u32;
        (head.from, head.to, head.guard) = (batch.from, batch.to, batch.guard);
        group.put(&mut head, &body::put_batch(batch));
        *end = Point { seq: end.seq + 1, events: end.events + u64::from(head.events) };
    }

    /// Makes a group durable. After an error nothing of it counts, and the segment is left for good.
    fn write(&mut self, mut group: Group) -> io::Result<()> {
        let new = self.writer.is_none();
        if new {
            self.begin_segment()?;
        }
        let (Some(segment), Some(writer)) = (self.segments.back_mut(), &mut self.writer) else {
            return Err(io::Error::other("a segment that was begun is gone"));
        };
        group.finish(segment.number);
        let done = writer.file.write_all(&group.bytes).and_then(|()| writer.file.sync());
        let done = done.and_then(|()| if new { sync_dir(&self.world, &self.dir) } else { Ok(()) });
        match done {
            Ok(()) => {
                segment.len += group.bytes.len() as u64;
                writer.sources = group.sources;
                Ok(())
            }
            Err(e) => {
                self.leave_segment(new);
                Err(e)
            }
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let (number, first) = (self.next_number, self.next);
        self.next_number += 1;
        let path = self.dir.join(segment_name(number, first.seq));
        let file = self.world.fs.open(&path, OpenHow::Truncate(0o600))?;
        if let Err(e) = file.write_all(&segment_header(number, first)) {
            let _ = self.world.fs.remove(&path);
            return Err(e);
        }
        self.writer = Some(Writer { file, sources: Sources::default() });
        self.segments.push_back(Segment { number, first: first.seq, len: HEADER as u64 });
        Ok(())
    }

    /// Gives the room of what doesn't count back, if that works: it is passed over in any case.
    fn leave_segment(&mut self, new: bool) {
        let Some(writer) = self.writer.take() else { return };
        let Some(segment) = self.segments.back().cloned() else { return };
        if new {
            self.segments.pop_back();
            let _ = self.world.fs.remove(&self.dir.join(segment_name(segment.number, segment.first)));
        } else {
            let _ = writer.file.set_len(segment.len);
        }
    }
}

impl Group {
    fn put(&mut self, head: &mut Head, body: &[u8]) {
        head.body_len = body.len() as u32;
        head.body_crc = crc32fast::hash(body);
        let mut own = head.clone();
        if own.kind == Kind::Source {
            (own.events, own.from, own.to, own.guard) = (0, 0, 0, Default::default());
        }
        self.heads.push((self.bytes.len(), own));
        self.bytes.resize(self.bytes.len() + HEAD, 0);
        self.bytes.extend_from_slice(body);
    }

    /// Writes the heads, now that it is known how many batches there are.
    fn finish(&mut self, number: u64) {
        let is_batch = |head: &Head| head.kind == Kind::Batch;
        let group = self.heads.iter().filter(|(_, head)| is_batch(head)).count() as u32;
        let mut back = 0;
        for (at, head) in &mut self.heads {
            (head.group, head.back) = (group, back);
            back += u32::from(is_batch(head));
            let mut bytes = Vec::with_capacity(HEAD);
            head.encode(number, &mut bytes);
            if let Some(place) = self.bytes.get_mut(*at..*at + HEAD) {
                place.copy_from_slice(&bytes);
            }
        }
    }
}
