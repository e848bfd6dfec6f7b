//! Zeros where data is on its way.
//!
//! Comes in: a chunk of a file on a network file system, or the bytes of its fingerprint. Goes out: the part of it before the first
//! byte of zero, or an error by which it is tried again.
//!
//! The machine that writes a file sends its pages in any order, and a reader's cache may have the last page of before the file grew:
//! then there are zeros between what was written, for a moment. A line would be made of them, and the lines that belong there never
//! read. So zeros aren't believed at once where text has none: each try opens the file anew, and after a while they are what the
//! file holds (a log that was cut off under a writer which goes on at its place begins with them).
//!
//! Always holds: nothing behind a zero that isn't believed is taken; a file waits for [`WAIT`] and the next try, at the drain for
//! [`WAIT_AT_DRAIN`], and then for none of the zeros that it has by that time.
//! Tested in `tests/faults.rs` and by the simulation's plans with network file systems.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_world::Mono;

use crate::harvest::Harvester;
use crate::harvest::file::FileState;
use crate::harvest::table::FileId;
use crate::parse::Chain;

/// How long zeros aren't believed.
const WAIT: Duration = Duration::from_secs(12);
/// The same at the drain: what a writer has closed is there when the file is opened anew.
const WAIT_AT_DRAIN: Duration = Duration::from_secs(1);

/// Of so many files at most it is known that they have zeros; those of others are believed.
const MAX_FILES: usize = 16_384;

/// What is thought of the zeros of files that have some.
#[derive(Default)]
pub(crate) struct Zeros(HashMap<FileId, (Incarnation, Thought)>);

/// What is thought of a file's zeros.
#[derive(Clone, Copy)]
enum Thought {
    /// They haven't been believed since then.
    Doubted(Mono),
    /// Those before this place are the file's.
    Believed(u64),
}

/// Zeros that may be data on its way.
#[derive(Debug, thiserror::Error)]
#[error("there are zeros where data seems to be on its way")]
struct NotThereYet;

impl Zeros {
    fn of(&self, id: FileId, f: &FileState) -> Option<Thought> {
        // A number is given to another file when its file is gone.
        self.0.get(&id).filter(|(life, _)| *life == f.incarnation).map(|(_, thought)| *thought)
    }
}

impl Harvester {
    /// Whether zeros in what is read next may be data that is on its way.
    pub(crate) fn doubts_zeros(&self, id: FileId, f: &FileState, chain: &Chain, now: Mono) -> bool {
        let wait = if self.is_file_draining(id) { WAIT_AT_DRAIN } else { WAIT };
        let believed = match self.zeros.of(id, f) {
            None => self.zeros.0.len() >= MAX_FILES,
            Some(Thought::Doubted(since)) => now.since(since) >= wait,
            Some(Thought::Believed(to)) => f.pos < to,
        };
        f.network && !believed && !f.is_compressed() && !chain.has_zeros()
    }

    /// A file was read up to `len`: while zeros were doubted, or with those that it has.
    pub(crate) fn settles_zeros(&mut self, id: FileId, doubted: bool, len: u64) {
        let Some(f) = self.table.get(id) else { return };
        if let Some(Thought::Doubted(_)) = self.zeros.of(id, f) {
            match doubted {
                true => drop(self.zeros.0.remove(&id)),
                false => drop(self.zeros.0.insert(id, (f.incarnation, Thought::Believed(len)))),
            }
        }
    }

    /// A call for a file has failed: whether since then it waits for what is on its way.
    pub(crate) fn note_zeros(&mut self, id: FileId, e: &io::Error, now: Mono) {
        let Some(f) = self.table.get(id).filter(|_| e.get_ref().is_some_and(|e| e.is::<NotThereYet>())) else { return };
        if matches!(self.zeros.of(id, f), Some(Thought::Doubted(_))) {
            return;
        }
        let life = f.incarnation;
        if self.zeros.0.len() + 1 >= MAX_FILES {
            let table = &self.table;
            self.zeros.0.retain(|id, (life, _)| table.get(*id).is_some_and(|f| f.incarnation == *life));
        }
        self.zeros.0.insert(id, (life, Thought::Doubted(now)));
    }

    /// Refuses a fingerprint of what may be on its way.
    pub(crate) fn without_zeros(&self, id: FileId, raw: &[u8], offset: u64, now: Mono) -> io::Result<()> {
        let Some(zero) = memchr::memchr(0, raw) else { return Ok(()) };
        let Some(f) = self.table.get(id).filter(|f| offset + zero as u64 >= f.pos) else { return Ok(()) };
        let chain = self.inputs.get(usize::from(f.input)).map(|input| &input.spec.chain);
        if chain.is_some_and(|chain| self.doubts_zeros(id, f, chain, now)) { Err(not_there_yet()) } else { Ok(()) }
    }
}

/// Cuts a chunk off at the first zero; whether there is one.
pub(crate) fn cut_at_zero(data: &mut Vec<u8>) -> bool {
    let zero = memchr::memchr(0, data);
    zero.into_iter().for_each(|at| data.truncate(at));
    zero.is_some()
}

/// What is said of them.
pub(crate) fn not_there_yet() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, NotThereYet)
}
