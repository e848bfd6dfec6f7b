//! Any bytes as what the disk queue reads.
//!
//! Comes in: bytes. Goes out: what is wrong with what was read of them. Always holds: nothing here is part of a run.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use pillion_event::BatchId;
use pillion_world::{File, Meta};

use super::format::{HEAD, Head, Kind};
use super::recover::note_source;
use super::scan::{Walk, body};
use super::{Shared, body as bytes};

/// Any bytes as a segment, and, since hardly any have the right checksums, as a source's body with a batch's behind it: what
/// is read must be batches as they may be, and a batch that was read is read as the same when it is written again.
///
/// # Errors
/// What is wrong.
pub fn fuzz(input: &[u8]) -> Result<(), String> {
    segment(input)?;
    let Some((events, rest)) = input.split_first() else { return Ok(()) };
    let (source, batch) = rest.split_at(rest.len().min(usize::from(*events) * 2));
    let source = bytes::take_source(source, &mut |_| None).unwrap_or_else(bytes::any_source);
    let mut head = Vec::with_capacity(HEAD);
    let said = Head {
        kind: Kind::Batch,
        body_len: 0,
        seq: 0,
        back: 0,
        group: 1,
        events_before: 0,
        events: u32::from(*events),
        source: 0,
        from: 0,
        to: u64::MAX,
        guard: Default::default(),
        body_crc: 0,
    };
    said.encode(1, &mut head);
    if Head::parse(&head, 1).as_ref() != Some(&said) {
        return Err("a head isn't read as it was written".to_owned());
    }
    let source = Arc::new(source);
    let Some(first) = bytes::take_batch(&said, batch, Arc::clone(&source), BatchId(1)) else { return Ok(()) };
    first.check()?;
    let again = bytes::take_batch(&said, &bytes::put_batch(&first), source, BatchId(1));
    match again.map(|again| format!("{again:?}")) {
        Some(again) if again == format!("{first:?}") => Ok(()),
        other => Err(format!("{first:?} was read again as {other:?}")),
    }
}

fn segment(input: &[u8]) -> Result<(), String> {
    let file = Bytes(input.to_vec());
    let (mut walk, mut sources, mut shared) = (Walk::new(1, input.len() as u64), HashMap::new(), Shared::default());
    let said = |e: io::Error| e.to_string();
    while let Some(found) = walk.next(&file).map_err(said)? {
        if found.head.kind == Kind::Source {
            note_source(&mut sources, &mut shared, &file, &found).map_err(said)?;
            continue;
        }
        let Some(source) = sources.get(&found.head.source).map(Arc::clone) else { continue };
        let Some(body) = body(&file, &found).map_err(said)? else { continue };
        if let Some(batch) = bytes::take_batch(&found.head, &body, source, BatchId(1)) {
            batch.check()?;
        }
    }
    Ok(())
}

/// A file in memory.
struct Bytes(Vec<u8>);

impl File for Bytes {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(n)
    }

    fn write_all(&self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stat(&self) -> io::Result<Meta> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
