//! Opening the disk queue after whatever ended the last run.
//!
//! Comes in: a folder. Goes out: the queue, and what it holds of each source. Always holds:
//! - The groups before the last one are durable: each was synced before the next was written. Of them heads are read, and
//!   bodies only when they are loaded.
//! - The last group is in doubt unless the cursor says that it was stored. What of it is whole from its beginning on stays;
//!   the rest is cut off: the sync behind it never succeeded, or the disk broke its word.
//! - What was written twice (into a second file after an error, or out of doubt) counts once: a file ends where the next
//!   begins. When that next one was torn in its first group, the file before it may still have more of it.
//!
//! Tested in `tests.rs`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_event::{Batch, BatchId, Incarnation, Source};
use pillion_world::{File, FileKind, OpenHow, World};

use super::format::{CURSOR, Cursor, HEADER, Header, Kind, Point, parse_header, parse_name, segment_name};
use super::read::Reader;
use super::scan::{Found, Walk, body, read_at};
use super::{
    CURSOR_FILE, Carried, DiskOptions, DiskQueue, LOADED, LOCK_FILE, NEW_CURSOR, OpenError, Segment, Shared,
    body as bytes, sync_dir,
};

/// A batch that was found.
#[derive(Clone)]
pub(super) struct Entry {
    found: Found,
    source: Option<Arc<Source>>,
}

impl Entry {
    fn begin(&self) -> Point {
        Point { seq: self.found.head.seq, events: self.found.head.events_before }
    }

    fn end(&self) -> Point {
        let Point { seq, events } = self.begin();
        Point { seq: seq + 1, events: events + u64::from(self.found.head.events) }
    }
}

/// The last group, when nobody knows whether it is on the disk.
pub(super) struct Doubt {
    pub begin: Point,
    segment: Segment,
    entries: Vec<Entry>,
}

/// What a recovery works with.
struct Recovery<'a> {
    world: &'a World,
    dir: &'a Path,
    shared: Shared,
    cursor: Option<Cursor>,
}

/// What it has found.
struct Sum {
    carried: HashMap<Incarnation, Carried>,
    acked: Option<Point>,
    next: Point,
}

pub(super) fn open(world: &World, dir: &Path, options: &DiskOptions) -> Result<(DiskQueue, Vec<Carried>), OpenError> {
    let io = |e| OpenError::Io(dir.to_owned(), e);
    if list(world, dir)?.is_none() {
        world.fs.create_dir_all(dir, 0o700).map_err(io)?;
    }
    let lock = world.fs.try_lock(&dir.join(LOCK_FILE)).map_err(io)?;
    let lock = lock.ok_or_else(|| OpenError::Locked(dir.to_owned()))?;
    sync_names(world, dir).map_err(io)?;
    let mut segments = list(world, dir)?.unwrap_or_default();
    let (cursor, begins) = (read_cursor(world, dir)?, begins(world, dir, &segments)?);
    let next_number = segments.last().map_or(1, |s| s.number + 1);
    if cursor.is_none() && !segments.is_empty() {
        tracing::warn!(
            dir = %dir.display(),
            "the disk queue doesn't say what of it was delivered: all that is in it is sent again"
        );
    }
    let said = cursor.map(|c| c.acked).or(begins.first().copied().flatten());
    let acked = emptied(&segments, &begins).max(said);
    let next = cursor.map(|c| c.stored).unwrap_or_default().max(acked.unwrap_or_default());
    let mut recovery = Recovery { world, dir, shared: Shared::default(), cursor };
    let mut sum = Sum { carried: HashMap::new(), acked, next };
    let doubt = recovery.run(&mut segments, &mut sum).map_err(io)?;
    let Sum { carried, next, .. } = sum;
    let acked = sum.acked.unwrap_or_default();
    let sure = doubt.as_ref().map_or(next, |doubt| doubt.begin);
    let queue = DiskQueue {
        world: world.clone(),
        options: options.clone(),
        dir: dir.to_owned(),
        _lock: lock,
        segments: segments.into(),
        writer: None,
        next_number,
        next,
        opened: next.seq,
        doubt,
        reader: Reader::default(),
        read: acked,
        flight: Default::default(),
        acked,
        sure,
        saved: cursor.unwrap_or_default(),
        saved_at: world.clock.mono(),
        retry: None,
        shared: recovery.shared,
    };
    Ok((queue, carried.into_values().collect()))
}

/// The last process may have ended before it did so, and what is seen now is what counts from now on: names in the folder,
/// and those of all folders on the way to it, which may be as new.
fn sync_names(world: &World, dir: &Path) -> io::Result<()> {
    sync_dir(world, dir)?;
    for above in dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        match sync_dir(world, above) {
            // A folder that may not be read, or not be changed, isn't one that we have made.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {}
            other => other?,
        }
    }
    Ok(())
}

pub(super) fn holds_something(world: &World, dir: &Path) -> bool {
    let Ok(Some(segments)) = list(world, dir) else { return false };
    let Ok(Some(cursor)) = read_cursor(world, dir) else { return !segments.is_empty() };
    cursor.acked != cursor.stored || segments.last().is_some_and(|last| last.first > cursor.acked.seq)
}

/// The segments in a folder, in order; `None` = there is no folder.
fn list(world: &World, dir: &Path) -> Result<Option<Vec<Segment>>, OpenError> {
    let io = |e| OpenError::Io(dir.to_owned(), e);
    let mut names = Vec::new();
    let listed = world.fs.read_dir(dir, &mut |entry| {
        names.push((PathBuf::from(entry.name), entry.kind));
        true
    });
    match listed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io)?,
    }
    let mut segments = Vec::new();
    for (name, mut kind) in names {
        let path = dir.join(&name);
        if kind == FileKind::Unknown {
            kind = world.fs.stat(&path, false).map_err(io)?.kind;
        }
        let text = name.to_string_lossy();
        let is_own = [CURSOR_FILE, NEW_CURSOR, LOCK_FILE].contains(&&*text);
        if let Some((number, first)) = parse_name(&text) {
            let len = world.fs.stat(&path, false).map_err(io)?.len;
            segments.push(Segment { number, first, len });
        } else if text == "state.dat" || text.ends_with(".seg") {
            return Err(OpenError::Filebeat(path));
        } else if !is_own && kind != FileKind::Dir && !text.starts_with('.') {
            return Err(OpenError::Foreign(path));
        }
    }
    segments.sort_by_key(|s| s.number);
    Ok(Some(segments))
}

fn read_cursor(world: &World, dir: &Path) -> Result<Option<Cursor>, OpenError> {
    let path = dir.join(CURSOR_FILE);
    match world.fs.read(&path, 4 * CURSOR) {
        Ok(bytes) => Cursor::parse(&bytes).map_err(|version| OpenError::Version(path, version)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) => Ok(None),
        Err(e) => Err(OpenError::Io(path, e)),
    }
}

/// Where each segment begins, as far as it says so itself.
fn begins(world: &World, dir: &Path, segments: &[Segment]) -> Result<Vec<Option<Point>>, OpenError> {
    let mut all = Vec::with_capacity(segments.len());
    for segment in segments {
        let path = dir.join(segment_name(segment.number, segment.first));
        let io = |e| OpenError::Io(path.clone(), e);
        let file = world.fs.open(&path, OpenHow::Read).map_err(io)?;
        let mut header = [0; HEADER];
        let n = read_at(&*file, &mut header, 0).map_err(io)?;
        all.push(match parse_header(header.get(..n).unwrap_or_default(), segment.number) {
            Header::Version(version) => return Err(OpenError::Version(path, version)),
            Header::Ours(point) => Some(point),
            Header::Damaged => None,
        });
    }
    Ok(all)
}

/// What is delivered, though the disk was too full for a cursor: the first files are empty.
fn emptied(segments: &[Segment], begins: &[Option<Point>]) -> Option<Point> {
    let empty = segments.iter().take_while(|s| s.len == 0).count();
    begins.get(empty).copied().flatten().filter(|_| empty > 0)
}

impl Recovery<'_> {
    /// Reads what isn't delivered. Segments that hold nothing at the end are taken out.
    fn run(&mut self, segments: &mut Vec<Segment>, sum: &mut Sum) -> io::Result<Option<Doubt>> {
        self.drop_void(segments)?;
        let mut doubt = None;
        for (at, segment) in segments.iter().enumerate() {
            let end = segments.get(at + 1).map(|next| next.first);
            if end.is_some_and(|end| sum.acked.is_some_and(|acked| end <= acked.seq)) {
                continue;
            }
            let (file, mut last) = self.scan(segment, 0, end.unwrap_or(u64::MAX), &mut |entry| sum.count(&entry))?;
            if end.is_none() && !self.is_stored(&last) {
                let whole = self.whole(&*file, &last, None)?;
                if whole < last.first().map_or(0, |first| first.found.head.group as usize) {
                    tracing::warn!(
                        dir = %self.dir.display(),
                        "the last write to the disk queue is torn and cut off: no reader was told that it is stored"
                    );
                }
                last.truncate(whole);
                if let Some(begin) = last.first().map(Entry::begin) {
                    doubt = Some(Doubt { begin, segment: segment.clone(), entries: last.clone() });
                }
            }
            last.iter().for_each(|entry| sum.count(entry));
        }
        Ok(doubt)
    }

    fn is_stored(&self, group: &[Entry]) -> bool {
        let stored = self.cursor.map_or(0, |c| c.stored.seq);
        group.last().is_some_and(|last| last.end().seq <= stored)
    }

    /// Takes segments off the end of which nothing counts.
    fn drop_void(&mut self, segments: &mut Vec<Segment>) -> io::Result<()> {
        while let Some((segment, before)) = segments.split_last() {
            let (file, last) = self.scan(segment, 0, u64::MAX, &mut |_| {})?;
            let first = last.first().map(|first| first.found.head.group_first());
            let is_void = match first {
                None => true,
                Some(_) if self.is_stored(&last) => false,
                // More than one group: the ones before the last are stored.
                Some(first) if first != segment.first => false,
                Some(first) => {
                    let whole = self.whole(&*file, &last, None)?;
                    let complete = last.first().is_some_and(|e| e.found.head.group as usize == whole);
                    let there = match before.last().filter(|_| !complete) {
                        None => 0,
                        Some(before) => {
                            let (file, last) = self.scan(before, first, u64::MAX, &mut |_| {})?;
                            self.whole(&*file, &last, Some(first))?
                        }
                    };
                    whole == 0 || (!complete && there >= whole)
                }
            };
            if !is_void {
                break;
            }
            // If it stays, it says nothing the next time either.
            let _ = self.world.fs.remove(&self.dir.join(segment_name(segment.number, segment.first)));
            segments.pop();
        }
        Ok(())
    }

    /// Shows the batches from one number on and before another one, but for the last group, which is given back.
    fn scan(
        &mut self,
        segment: &Segment,
        mut expected: u64,
        end: u64,
        each: &mut dyn FnMut(Entry),
    ) -> io::Result<(Box<dyn File>, Vec<Entry>)> {
        let path = self.dir.join(segment_name(segment.number, segment.first));
        let file = self.world.fs.open(&path, OpenHow::Read)?;
        let mut walk = Walk::new(segment.number, segment.len);
        let mut sources: HashMap<u32, Arc<Source>> = HashMap::new();
        let mut group: Vec<Entry> = Vec::new();
        while let Some(found) = walk.next(&*file)? {
            if found.head.seq >= end {
                continue;
            }
            if found.head.kind == Kind::Source {
                note_source(&mut sources, &mut self.shared, &*file, &found)?;
                continue;
            }
            if found.head.seq < expected {
                continue;
            }
            expected = found.head.seq + 1;
            let is_another = |first: &Entry| first.found.head.group_first() != found.head.group_first();
            if group.first().is_some_and(is_another) {
                group.drain(..).for_each(&mut *each);
            }
            let source = sources.get(&found.head.source).map(Arc::clone);
            group.push(Entry { found, source });
        }
        Ok((file, group))
    }

    /// How many batches of a group are whole from its beginning on, or from this number on.
    fn whole(&self, file: &dyn File, group: &[Entry], from: Option<u64>) -> io::Result<usize> {
        let Some(first) = from.or(group.first().map(|e| e.found.head.group_first())) else { return Ok(0) };
        for (n, entry) in group.iter().enumerate() {
            if entry.found.head.seq != first + n as u64 || take(file, entry)?.is_none() {
                return Ok(n);
            }
        }
        Ok(group.len())
    }
}

impl Sum {
    fn count(&mut self, entry: &Entry) {
        let (head, begin, end) = (&entry.found.head, entry.begin(), entry.end());
        let acked = *self.acked.get_or_insert(begin);
        self.next = self.next.max(end);
        let Some(source) = entry.source.as_ref().filter(|_| end.seq > acked.seq).map(Arc::clone) else { return };
        let events = u64::from(head.events);
        match self.carried.entry(source.incarnation) {
            Slot::Vacant(free) => {
                free.insert(Carried { source, from: head.from, to: head.to, guard: head.guard, events });
            }
            Slot::Occupied(known) => {
                let known = known.into_mut();
                (known.source, known.to, known.guard) = (source, head.to, head.guard);
                known.events += events;
            }
        }
    }
}

/// Enters a source's record into the table of its segment.
pub(super) fn note_source(
    sources: &mut HashMap<u32, Arc<Source>>,
    shared: &mut Shared,
    file: &dyn File,
    found: &Found,
) -> io::Result<()> {
    if found.head.source == 0 {
        sources.clear();
    }
    match body(file, found)?.and_then(|body| shared.source(&body)) {
        Some(source) => drop(sources.insert(found.head.source, source)),
        // What was under this number before isn't meant any more.
        None => drop(sources.remove(&found.head.source)),
    }
    Ok(())
}

fn take(file: &dyn File, entry: &Entry) -> io::Result<Option<Batch>> {
    let Some(source) = &entry.source else { return Ok(None) };
    let head = &entry.found.head;
    let body = body(file, &entry.found)?;
    Ok(body.and_then(|body| bytes::take_batch(head, &body, Arc::clone(source), BatchId(LOADED | head.seq))))
}

/// The batches in doubt.
pub(super) fn batches(queue: &DiskQueue, doubt: &Doubt) -> io::Result<Vec<Arc<Batch>>> {
    let path = queue.dir.join(segment_name(doubt.segment.number, doubt.segment.first));
    let file = queue.world.fs.open(&path, OpenHow::Read)?;
    let mut all = Vec::with_capacity(doubt.entries.len());
    for entry in &doubt.entries {
        let batch = take(&*file, entry)?;
        all.push(Arc::new(batch.ok_or_else(|| io::Error::other("what was whole at the start isn't any more"))?));
    }
    Ok(all)
}
