//! A file's bytes, read and parsed for one turn.
//!
//! Comes in: an open file, and what a turn wants. Goes out: the events of it and how far it was looked at, or an error: what isn't
//! there as its size says, or seems to be on its way, is tried again.
//! Always holds: memory is bounded by the chunk, and for a long event by what its text needs. Tested with `read.rs`.

use std::io;
use std::ops::Range;

use pillion_event::{Event, GUARD};
use pillion_world::File;

use crate::harvest::identity::read_exactly;
use crate::harvest::zeros::{cut_at_zero, not_there_yet};
use crate::parse::{Chain, Chunk, Flush, Parsed};

/// Events beyond this size aren't read at once, but followed chunk by chunk.
pub(crate) const LONG: usize = 1 << 20;

/// What one turn is to read.
pub(crate) struct Turn {
    pub(crate) from: u64,
    /// Bytes wanted.
    pub(crate) want: usize,
    /// The size of the file now.
    pub(crate) len: u64,
    pub(crate) flush_at_end: Flush,
    pub(crate) read_ms: i64,
    pub(crate) max_events: usize,
    /// Zeros may be data that is on its way.
    pub(crate) doubts_zeros: bool,
}

/// What one turn has read.
pub(crate) struct Taken {
    pub(crate) data: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) parsed: Parsed,
    /// The end of the file as it is now was reached.
    pub(crate) at_end: bool,
    /// How far the file was looked at.
    pub(crate) looked_to: u64,
    /// The last bytes consumed, for the guard.
    pub(crate) tail: Vec<u8>,
    /// It would have taken more memory than a batch may have; what there is of it is no use.
    pub(crate) too_much: bool,
}

/// The chain for this file; `None` = it is too short to tell how it is written.
pub(crate) fn of_file<'c>(chain: &'c Chain, fd: &dyn File, flush: Flush) -> io::Result<Option<&'c Chain>> {
    if !chain.needs_beginning() {
        return Ok(Some(chain));
    }
    let first = read_exactly(fd, 0, 2)?;
    if first.len() < 2 && flush != Flush::All {
        return Ok(None);
    }
    let unmarked = || io::Error::new(io::ErrorKind::InvalidData, "it has no byte order mark, which its encoding needs");
    chain.of_file(&first).map(Some).ok_or_else(unmarked)
}

/// How many of the bytes behind those that were `looked` at hold no line end: without one nothing can be complete that
/// wasn't. `None`: there is one.
pub(crate) fn without_line_end(
    chain: &Chain,
    fd: &dyn File,
    looked: Range<u64>,
    turn: &Turn,
) -> io::Result<Option<u64>> {
    let len = turn.want;
    // It may begin in what was looked at.
    let before = (chain.line_end_len() as u64 - 1).min(looked.end - looked.start) as usize;
    let (mut from, len) = (looked.end - before as u64, len + before);
    let mut buf = vec![0; len.min(64 * 1024)];
    let (mut at, mut kept) = (0, 0);
    while at < len {
        let room = (buf.len() - kept).min(len - at);
        let n = fd.read_at(&mut buf[kept..kept + room], from + kept as u64)?;
        if chain.line_end(&buf[..kept + n], 0, from).is_some() {
            return Ok(None);
        }
        if turn.doubts_zeros && memchr::memchr(0, &buf[..kept + n]).is_some() {
            return Err(not_there_yet());
        }
        if n == 0 {
            break;
        }
        at += n;
        let filled = kept + n;
        kept = filled.min(chain.line_end_len() - 1);
        buf.copy_within(filled - kept..filled, 0);
        from += (filled - kept) as u64;
    }
    Ok(Some(at.saturating_sub(before) as u64))
}

/// Reads a chunk into memory and parses it.
fn take(chain: &Chain, fd: &dyn File, turn: &Turn) -> io::Result<Taken> {
    let there = usize::try_from(turn.len - turn.from).unwrap_or(usize::MAX);
    let mut data = read_exactly(fd, turn.from, turn.want.min(there))?;
    let len = data.len();
    let at_end = turn.from + len as u64 >= turn.len;
    if len < turn.want.min(there) {
        // The size ran ahead of the data, or the file was cut off just now: the next look tells.
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its size"));
    }
    let zeros = turn.doubts_zeros && cut_at_zero(&mut data);
    let (len, at_end) = (data.len(), at_end && !zeros);
    let flush = if at_end { turn.flush_at_end } else { Flush::No };
    let chunk = Chunk { len, offset: turn.from, flush, read_ms: turn.read_ms, max_events: turn.max_events };
    let mut events = Vec::new();
    let parsed = chain.parse(&mut data, &chunk, &mut events);
    let consumed = parsed.consumed as usize;
    if zeros && consumed == 0 {
        return Err(not_there_yet());
    }
    let tail = data[consumed.saturating_sub(GUARD)..consumed].to_vec();
    if data.len() == len {
        data.truncate(consumed);
    } else {
        chain.tidy(&mut data, &mut events);
    }
    let looked_to = turn.from + len as u64;
    Ok(Taken { data, events, parsed, at_end, looked_to, tail, too_much: false })
}

/// Reads what a turn wants, at once or by following a long event.
pub(crate) fn take_as_wanted(chain: &Chain, fd: &dyn File, turn: &Turn, step: usize) -> io::Result<Taken> {
    if turn.want > LONG { take_long(chain, fd, turn, step) } else { take(chain, fd, turn) }
}

/// Follows an event that is larger than a chunk may be; keeps only what its text needs.
fn take_long(chain: &Chain, fd: &dyn File, turn: &Turn, step: usize) -> io::Result<Taken> {
    let mut long = chain.long(turn.from, turn.read_ms);
    // More than the longest text of the richest parsers, half of it waste, and the short events of the last step.
    let most = chain.options().max_bytes.saturating_mul(20).saturating_add(4 * LONG);
    let mut too_much = false;
    let mut at_end = false;
    let mut done = false;
    let mut zeros = false;
    while !done && !at_end {
        let there = usize::try_from(turn.len - long.next()).unwrap_or(usize::MAX);
        let mut bytes = read_exactly(fd, long.next(), step.min(there))?;
        if bytes.len() < step.min(there) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its size"));
        }
        zeros = turn.doubts_zeros && cut_at_zero(&mut bytes);
        done = long.feed(&bytes) && turn.max_events != usize::MAX || zeros;
        at_end = long.next() >= turn.len;
        too_much = long.kept() > most;
        done |= too_much;
    }
    let looked_to = long.next();
    let flush = if at_end { turn.flush_at_end } else { Flush::No };
    let mut out = long.finish(flush);
    if zeros && out.parsed.consumed == 0 {
        return Err(not_there_yet());
    }
    chain.tidy(&mut out.data, &mut out.events);
    let end = turn.from + out.parsed.consumed;
    let len = out.parsed.consumed.min(GUARD as u64) as usize;
    let tail = read_exactly(fd, end - len as u64, len)?;
    Ok(Taken { data: out.data, events: out.events, parsed: out.parsed, at_end, looked_to, tail, too_much })
}
