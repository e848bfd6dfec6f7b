//! Events into files: written, synced, rotated, repaired.
//!
//! Comes in: the slices of a request, as often as it takes. Goes out: whole records, each once.
//!
//! Always holds: what [`FileWriter::write`] said `Ok` about is synced, the file's name too. After any error the file is
//! cut back to what was last synced, and everything behind it is written again: also after a failed sync, since the
//! kernel may have thrown the unwritten pages away and would call the next sync a success. A last record without its
//! line end is what a crash left of an unacknowledged request: it is cut off when the file is opened.
//! Tested in `file/tests.rs`, with faults at every call.

use std::io;
use std::path::Path;
use std::sync::Arc;

use pillion_event::Slice;
use pillion_world::rotated::Names;
use pillion_world::{File, FileKind, OpenHow, World};

use crate::codec::Codec;
use crate::settle::Unencodable;

/// How many bytes are rendered before they are written.
const CHUNK: usize = 256 * 1024;

/// How far a request is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Events, from the first one on, that are durable or dropped.
    durable: usize,
    /// Those that can't be encoded.
    pub(super) dropped: Vec<Unencodable>,
}

/// The writing side of the file output.
pub(super) struct FileWriter {
    pub(super) world: World,
    pub(super) codec: Arc<Codec>,
    pub(super) names: Names,
    pub(super) limit: u64,
    pub(super) mode: u32,
    pub(super) rotate_first: bool,
    open: Option<Open>,
    /// Records that aren't written yet.
    buffer: Vec<u8>,
}

struct Open {
    file: Box<dyn File>,
    /// Bytes that are synced.
    durable: u64,
    /// Bytes in the file.
    written: u64,
}

impl FileWriter {
    pub(super) fn new(
        world: World,
        codec: Arc<Codec>,
        names: Names,
        limit: u64,
        mode: u32,
        rotate_first: bool,
    ) -> FileWriter {
        FileWriter { world, codec, names, limit, mode, rotate_first, open: None, buffer: Vec::new() }
    }

    /// Writes and syncs all events that aren't durable yet. After an error it is to be called again with the same
    /// slices and progress. Bytes written are added to `bytes`.
    pub(super) fn write(&mut self, slices: &[Slice], progress: &mut Progress, bytes: &mut usize) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.shrink_to(2 * CHUNK);
        self.repair()?;
        progress.dropped.retain(|(at, _)| *at < progress.durable);
        let done = self.write_rest(slices, progress, bytes);
        if done.is_err() {
            self.buffer.clear();
        }
        done
    }

    fn write_rest(&mut self, slices: &[Slice], progress: &mut Progress, bytes: &mut usize) -> io::Result<()> {
        let mut at = 0;
        for slice in slices {
            for event in slice.events() {
                at += 1;
                if at <= progress.durable {
                    continue;
                }
                let begin = self.buffer.len();
                if let Err(missing) = self.codec.encode(&slice.batch, event, &mut self.buffer) {
                    progress.dropped.push((at - 1, missing));
                    continue;
                }
                self.buffer.push(b'\n');
                if self.is_full(begin) {
                    let record = self.buffer.split_off(begin);
                    self.flush(bytes)?;
                    self.sync()?;
                    progress.durable = at - 1;
                    self.open = None;
                    let path = self.names.rotate(&self.world)?;
                    self.open_file(&path)?;
                    self.buffer = record;
                }
                if self.buffer.len() >= CHUNK {
                    self.flush(bytes)?;
                }
            }
        }
        self.flush(bytes)?;
        self.sync()?;
        progress.durable = at;
        Ok(())
    }

    /// Whether the record that begins here in the buffer belongs into a new file. A file takes at least one record.
    fn is_full(&self, begin: usize) -> bool {
        let written = self.open.as_ref().map_or(0, |open| open.written);
        written + begin as u64 > 0 && written + self.buffer.len() as u64 > self.limit
    }

    fn flush(&mut self, bytes: &mut usize) -> io::Result<()> {
        if let Some(open) = self.open.as_mut().filter(|_| !self.buffer.is_empty()) {
            // Counted before: after an error any part of it may be there.
            open.written += self.buffer.len() as u64;
            open.file.write_all(&self.buffer)?;
            *bytes += self.buffer.len();
            self.buffer.clear();
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.as_mut().filter(|open| open.written != open.durable) {
            open.file.sync()?;
            open.durable = open.written;
        }
        Ok(())
    }

    /// Makes sure that a file is open and holds exactly what is durable.
    fn repair(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            let meta = open.file.stat()?;
            if meta.nlink == 0 {
                // Somebody removed it: what follows goes to a file that can be found.
                self.open = None;
            } else {
                if open.written != open.durable {
                    let len = open.durable.min(meta.len);
                    open.file.set_len(len)?;
                    (open.written, open.durable) = (len, len);
                } else if meta.len < open.written {
                    // Somebody emptied it.
                    (open.written, open.durable) = (meta.len, meta.len);
                }
                return Ok(());
            }
        }
        let dir_mode = 0o700 | if self.mode & 0o070 > 0 { 0o050 } else { 0 } | if self.mode & 7 > 0 { 5 } else { 0 };
        self.world.fs.create_dir_all(&self.names.dir, dir_mode)?;
        let path = self.names.active(&self.world)?;
        self.open_file(&path)?;
        let has_some = self.open.as_ref().is_some_and(|open| open.written > 0);
        if has_some && std::mem::take(&mut self.rotate_first) {
            self.open = None;
            let path = self.names.rotate(&self.world).inspect_err(|_| self.rotate_first = true)?;
            self.open_file(&path)?;
        }
        self.rotate_first = false;
        Ok(())
    }

    fn open_file(&mut self, path: &Path) -> io::Result<()> {
        let file = self.world.fs.open(path, OpenHow::Append(self.mode))?;
        let meta = file.stat()?;
        if meta.kind != FileKind::File {
            return Err(io::Error::other(format!("{} isn't a regular file", path.display())));
        }
        let len = self.whole_records(path, meta.len)?;
        if len < meta.len {
            tracing::warn!(
                file = %path.display(),
                bytes = meta.len - len,
                "cut off a half-written record that a crash left"
            );
            file.set_len(len)?;
        }
        // Also what was there before: a sync that an earlier run didn't get to.
        file.sync()?;
        self.world.fs.sync_dir(&self.names.dir)?;
        self.open = Some(Open { file, durable: len, written: len });
        Ok(())
    }

    /// How many bytes of a file are whole records.
    fn whole_records(&self, path: &Path, len: u64) -> io::Result<u64> {
        if len == 0 {
            return Ok(0);
        }
        let file = self.world.fs.open(path, OpenHow::Read)?;
        let mut chunk = vec![0; 64 * 1024];
        let mut end = len;
        while end > 0 {
            let begin = end.saturating_sub(chunk.len() as u64);
            let part = chunk.get_mut(..(end - begin) as usize).unwrap_or_default();
            let mut filled = 0;
            while let Some(rest) = part.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, begin + filled as u64)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => filled += n,
                }
            }
            if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
                return Ok(begin + at as u64 + 1);
            }
            end = begin;
        }
        Ok(0)
    }
}
