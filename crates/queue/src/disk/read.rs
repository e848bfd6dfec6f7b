//! Loading from the disk queue.
//!
//! Comes in: segments. Goes out: batches in order, and how many events are missing between them ([`Loaded::Lost`]). Always
//! holds: what is given out was written, whole; each batch comes once in a run. Tested in `tests.rs`; any bytes by the fuzz
//! target `disk_queue`.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use pillion_event::{Batch, BatchId, Source};
use pillion_world::{File, OpenHow};

use super::format::{Kind, Point, segment_name};
use super::recover::note_source;
use super::scan::{Walk, body};
use super::{DiskQueue, Flight, LOADED, Segment, body as bytes};

/// What comes next out of the queue.
#[derive(Debug)]
pub enum Loaded {
    /// A batch. [`super::loaded_number`] of its id is what [`DiskQueue::acked`] wants.
    Batch(Box<Batch>),
    /// Events that were stored and can't be read any more: the files are damaged.
    Lost {
        /// How many.
        events: u64,
        /// Whose they were and where that batch ended, as far as is known.
        of: Option<(Arc<Source>, u64)>,
    },
}

/// Where in the files the next batch is looked for.
#[derive(Default)]
pub(super) struct Reader {
    open: Option<Open>,
    /// The last segment that was left behind.
    left: u64,
}

struct Open {
    file: Box<dyn File>,
    walk: Walk,
    sources: HashMap<u32, Arc<Source>>,
}

impl DiskQueue {
    /// The next batch; `None`: all that is stored was given out.
    ///
    /// # Errors
    /// A file can't be read. To be repeated.
    pub fn load(&mut self) -> io::Result<Option<Loaded>> {
        let limit = self.doubt.as_ref().map_or(self.next, |doubt| doubt.begin);
        while self.read.seq < limit.seq {
            let Some((segment, end)) = self.segment_to_read(limit) else { return Ok(self.lost(limit, None)) };
            let open = match &mut self.reader.open {
                Some(open) => open,
                free => free.insert(open_segment(&self.world, &self.dir, &segment)?),
            };
            open.walk.len = segment.len;
            let before = open.walk;
            let Some(found) = open.walk.next(&*open.file)? else {
                if end == limit.seq {
                    return Ok(self.lost(limit, None));
                }
                self.reader = Reader { open: None, left: segment.number };
                continue;
            };
            let head = &found.head;
            if head.seq >= end || head.seq < self.read.seq && head.kind == Kind::Batch {
                continue;
            }
            let outcome = match head.kind {
                Kind::Source => note_source(&mut open.sources, &mut self.shared, &*open.file, &found).map(|()| None),
                Kind::Batch => body(&*open.file, &found),
            };
            let body = outcome.inspect_err(|_| open.walk = before)?;
            if head.kind == Kind::Source {
                continue;
            }
            let begin = Point { seq: head.seq, events: head.events_before };
            if begin.seq > self.read.seq {
                open.walk = before;
                if let Some(lost) = self.lost(begin, None) {
                    return Ok(Some(lost));
                }
                continue;
            }
            let source = open.sources.get(&head.source).map(Arc::clone);
            let end = Point { seq: head.seq + 1, events: head.events_before + u64::from(head.events) };
            let id = BatchId(LOADED | head.seq);
            let batch = body.zip(source.clone());
            let batch = batch.and_then(|(body, source)| bytes::take_batch(head, &body, source, id));
            let Some(mut batch) = batch else {
                let of = source.map(|source| (source, head.to));
                return Ok(self.lost(end, of));
            };
            batch.replayed |= head.seq < self.opened;
            self.read = end;
            self.flight.push_back(Flight { end, done: false });
            return Ok(Some(Loaded::Batch(Box::new(batch))));
        }
        Ok(None)
    }

    /// The segment in which the next batch may be, and the number at which it ends.
    fn segment_to_read(&mut self, limit: Point) -> Option<(Segment, u64)> {
        if let Some(open) = &self.reader.open
            && !self.segments.iter().any(|s| s.number == open.walk.number)
        {
            self.reader = Reader { open: None, left: open.walk.number };
        }
        let wanted = |s: &Segment| match &self.reader.open {
            Some(open) => s.number == open.walk.number,
            None => s.number > self.reader.left,
        };
        let at = self.segments.iter().position(wanted)?;
        let end = self.segments.get(at + 1).map_or(limit.seq, |next| next.first.min(limit.seq));
        self.segments.get(at).map(|segment| (segment.clone(), end))
    }

    /// Everything up to here is given up. `None`: no event is missing there.
    fn lost(&mut self, end: Point, of: Option<(Arc<Source>, u64)>) -> Option<Loaded> {
        let events = end.events.saturating_sub(self.read.events);
        self.read = end;
        self.flight.push_back(Flight { end, done: true });
        self.pass_done();
        (events > 0).then_some(Loaded::Lost { events, of })
    }
}

fn open_segment(world: &pillion_world::World, dir: &std::path::Path, segment: &Segment) -> io::Result<Open> {
    let file = world.fs.open(&dir.join(segment_name(segment.number, segment.first)), OpenHow::Read)?;
    Ok(Open { file, walk: Walk::new(segment.number, segment.len), sources: HashMap::new() })
}
