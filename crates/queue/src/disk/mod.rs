//! The disk queue (`queue.disk`): what a reader was promised, until the target has it.
//!
//! ```text
//!  ledger ──append──▶ segment, segment, segment ──load──▶ memory queue ──▶ output
//!                        ▲ removed when acknowledged        │
//!                     cursor ◀──checkpoint──────── acked ◀──┘
//! ```
//!
//! Comes in: batches ([`DiskQueue::append`]), and which of them the target has decided about ([`DiskQueue::acked`]). Goes
//! out: the same batches ([`DiskQueue::load`]), in the order in which they were stored, each once in a run.
//!
//! Always holds:
//! - What `append` has counted is durable: written, synced, its file's name synced. All that is appended at once is synced
//!   at once (a *group*).
//! - A file in which a write or a sync has failed is never written again: what is stored of it counts, the rest is written
//!   anew into another one. A sync that succeeds after one that failed says nothing of what that one lost.
//! - So after a crash only the last group is in doubt: it can be read, and nobody knows whether it is on the disk. It is
//!   written anew ([`DiskQueue::settle_doubt`]) before anything relies on it, [`Registry`](DiskQueue#the-registry) included.
//! - Batches have numbers without gaps, and each record says how many events lie before it: what is missing is counted,
//!   whatever of the files is damaged.
//! - The files hold at most `max_size` bytes: a batch beyond it isn't taken.
//! - A file is removed only after a cursor behind it is durable. A folder with files that aren't this queue's is refused.
//!
//! # The registry
//! A cursor in the registry may stand behind a batch only when the batch is durable here. Whoever opens the queue moves the
//! cursors over all that it holds ([`Carried`]): a crash may have come between the two. Until the doubt is settled the
//! registry must not be made durable.
//!
//! | where | what |
//! |---|---|
//! | `format.rs`, `body.rs` | the bytes (docs/queue.md) |
//! | `scan.rs` | from record to record over damaged bytes |
//! | `recover.rs` | opening |
//! | `write.rs`, `read.rs` | appending; loading |
//!
//! Tested in `tests.rs` (a crash at each step, damage at each byte, a full disk), and by the simulation with the rest of the
//! core.

mod body;
mod format;
mod fuzz;
mod read;
mod recover;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Batch, BatchId, Guard, InputDesc, Source};
use pillion_world::{Lock, Mono, OpenHow, World};

use format::{Cursor, Point};
use read::Reader;
use recover::Doubt;
use write::Writer;

pub use fuzz::fuzz;
pub use read::Loaded;

/// The cursor's file.
const CURSOR_FILE: &str = "cursor";
/// The next one, until it is renamed.
const NEW_CURSOR: &str = "cursor.new";
/// Locked while a process has the queue.
const LOCK_FILE: &str = "lock";
/// How often what the target acknowledged is written down while nobody waits for it.
const CHECKPOINT: Duration = Duration::from_secs(1);
/// A file that is delivered as a whole is removed though it isn't full, once it is this long (or as long as a segment).
const SMALL: u64 = 1 << 20;
/// How many descriptions of sources are remembered to be shared.
const SHARED: usize = 4096;

/// `queue.disk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// The queue's folder; `None` = `diskqueue` in `path.data`.
    pub path: Option<PathBuf>,
    /// Most bytes of its files; 0 = no limit.
    pub max_size: u64,
    /// A file that is longer isn't written any more.
    pub segment_size: u64,
    /// Events that are read before an output asks for them.
    pub read_ahead: usize,
    /// Events that wait in memory to be stored.
    pub write_ahead: usize,
    /// How long a write that failed is waited with: at first, and at most.
    pub retry: (Duration, Duration),
}

/// Why a queue can't be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A call of the file system failed.
    Io(PathBuf, io::Error),
    /// Another process has it.
    Locked(PathBuf),
    /// A file in the folder isn't this queue's.
    Foreign(PathBuf),
    /// It is Filebeat's.
    Filebeat(PathBuf),
    /// It was written by another version of Pillion.
    Version(PathBuf, u32),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Io(path, e) => write!(f, "the disk queue can't be opened: {}: {e}", path.display()),
            OpenError::Locked(dir) => write!(
                f,
                "the disk queue in {} is in use by another process: give each a queue.disk.path of its own",
                dir.display()
            ),
            OpenError::Foreign(file) => write!(
                f,
                "{} isn't of Pillion's disk queue, and nothing of it is touched: name another folder as queue.disk.path",
                file.display()
            ),
            OpenError::Filebeat(file) => write!(
                f,
                "{} is of Filebeat's own disk queue, whose events Pillion can't read: let Filebeat send them first, or name \
                 another folder as queue.disk.path",
                file.display()
            ),
            OpenError::Version(file, version) => write!(
                f,
                "{} is of version {version} of the disk queue's format, this is version {}: let the newer Pillion send what \
                 is in it, or name another folder as queue.disk.path",
                file.display(),
                format::VERSION
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// What a queue holds of one source when it is opened.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The source as it was described last.
    pub source: Arc<Source>,
    /// The first byte that is in the queue and isn't acknowledged.
    pub from: u64,
    /// The first byte behind what is stored: where the registry's cursor belongs.
    pub to: u64,
    /// The bytes before it.
    pub guard: Guard,
    /// How many events.
    pub events: u64,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Events that are stored and not acknowledged.
    pub events: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many bytes more it takes.
    pub free: u64,
}

/// One file of the queue.
#[derive(Clone, Debug)]
struct Segment {
    number: u64,
    /// The number of its first batch.
    first: u64,
    /// How many of its bytes count.
    len: u64,
}

/// A batch that was loaded, or batches that couldn't be.
#[derive(Debug)]
struct Flight {
    /// The place behind it.
    end: Point,
    done: bool,
}

/// When a write that failed is tried again.
#[derive(Debug, Default)]
struct Retry {
    at: Mono,
    pause: Duration,
}

/// The disk queue. See the module's header.
pub struct DiskQueue {
    world: World,
    options: DiskOptions,
    dir: PathBuf,
    _lock: Box<dyn Lock>,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment, open to be written.
    writer: Option<Writer>,
    next_number: u64,
    /// Behind all that is stored.
    next: Point,
    /// Batches before this one were stored by an earlier run, which may have sent them.
    opened: u64,
    doubt: Option<Doubt>,
    reader: Reader,
    /// Behind all that was loaded.
    read: Point,
    flight: VecDeque<Flight>,
    acked: Point,
    /// Before it the registry's cursors are durable, too.
    sure: Point,
    saved: Cursor,
    saved_at: Mono,
    retry: Option<Retry>,
    shared: Shared,
}

/// Descriptions by their bytes, so that equal ones are one.
#[derive(Default)]
struct Shared {
    inputs: HashMap<Vec<u8>, Arc<InputDesc>>,
    sources: HashMap<Vec<u8>, Arc<Source>>,
}

impl Shared {
    /// The source with this description.
    fn source(&mut self, body: &[u8]) -> Option<Arc<Source>> {
        if let Some(known) = self.sources.get(body) {
            return Some(Arc::clone(known));
        }
        let source = Arc::new(body::take_source(body, &mut |input| self.inputs.get(input).map(Arc::clone))?);
        self.know(body, &source);
        Some(source)
    }

    /// Its description is this from now on.
    fn know(&mut self, body: &[u8], source: &Arc<Source>) {
        if self.sources.len() >= SHARED {
            self.sources.clear();
            self.inputs.clear();
        }
        self.inputs.entry(body::put_input(&source.input)).or_insert_with(|| Arc::clone(&source.input));
        self.sources.insert(body.to_vec(), Arc::clone(source));
    }
}

impl std::fmt::Debug for DiskQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskQueue").field("dir", &self.dir).field("next", &self.next).finish_non_exhaustive()
    }
}

/// The ids of loaded batches: readers' ones are small.
const LOADED: u64 = 1 << 63;

/// The number under which a batch was loaded from a disk queue; `None` = it was read from its source.
pub fn loaded_number(id: BatchId) -> Option<u64> {
    (id.0 & LOADED != 0).then_some(id.0 & !LOADED)
}

impl DiskQueue {
    /// Opens the queue in a folder, which is made when it is missing, and tells what it holds.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing was changed but, perhaps, that the folder and its lock are there.
    pub fn open(world: &World, dir: &Path, options: &DiskOptions) -> Result<(DiskQueue, Vec<Carried>), OpenError> {
        recover::open(world, dir, options)
    }

    /// Whether a queue's files lie in a folder, and say that not all of them is delivered; or don't say it.
    pub fn holds_something(world: &World, dir: &Path) -> bool {
        recover::holds_something(world, dir)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The time on its clock.
    pub fn now(&self) -> Mono {
        self.world.clock.mono()
    }

    /// What it holds.
    pub fn status(&self) -> Status {
        let bytes = self.segments.iter().map(|s| s.len).sum();
        let free = if self.options.max_size == 0 { u64::MAX } else { self.options.max_size.saturating_sub(bytes) };
        Status { events: self.next.events.saturating_sub(self.acked.events), bytes, free }
    }

    /// Whether the registry must not be made durable yet.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether what was acknowledged is written down.
    pub fn is_saved(&self) -> bool {
        self.saved.acked == self.acked
    }

    /// The target has decided about all events of a loaded batch.
    pub fn acked(&mut self, number: u64) {
        if let Some(flight) = self.flight.iter_mut().find(|f| f.end.seq == number + 1) {
            flight.done = true;
        }
        self.pass_done();
    }

    /// Files that hold no more than this stay though they are delivered.
    fn small(&self) -> u64 {
        SMALL.min(self.options.segment_size)
    }

    fn pass_done(&mut self) {
        while let Some(first) = self.flight.pop_front_if(|f| f.done) {
            self.acked = first.end;
        }
    }

    /// The registry was made durable: its cursors behind all that is stored here are.
    pub fn registry_is_durable(&mut self) {
        if self.doubt.is_none() {
            self.sure = self.next;
        }
    }

    /// Whether a checkpoint would let a file be removed.
    pub fn would_make_room(&self) -> bool {
        let acked = self.acked.min(self.sure);
        let end = self.segments.get(1).map_or(self.next.seq, |second| second.first);
        end <= acked.seq && self.saved.acked != acked
    }

    /// Makes durable what was acknowledged, when it is time or somebody waits for it, and removes files that are delivered.
    /// What the registry doesn't know durably isn't forgotten here: it would be read from its file again.
    ///
    /// # Errors
    /// Nothing is lost: after a crash more would be sent again. To be repeated.
    pub fn checkpoint(&mut self, now: bool) -> io::Result<()> {
        let time = self.world.clock.mono();
        let wanted = Cursor { acked: self.acked.min(self.sure), stored: self.sure };
        if wanted != self.saved && (now || time.since(self.saved_at) >= CHECKPOINT) {
            if let Err(e) = self.save(wanted) {
                if !matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                    return Err(e);
                }
                self.empty_delivered(wanted.acked)?;
                self.save(wanted)?;
            }
            self.saved_at = time;
        }
        self.remove_delivered()
    }

    fn save(&mut self, wanted: Cursor) -> io::Result<()> {
        let (new, path) = (self.dir.join(NEW_CURSOR), self.dir.join(CURSOR_FILE));
        let file = self.world.fs.open(&new, OpenHow::Truncate(0o600))?;
        file.write_all(&wanted.encode())?;
        file.sync()?;
        self.world.fs.rename(&new, &path)?;
        sync_dir(&self.world, &self.dir)?;
        self.saved = wanted;
        Ok(())
    }

    /// On a full disk there is no room for a cursor: the first file, when it is delivered, gives its own. One that is empty
    /// and has another behind it says by that that it is delivered.
    fn empty_delivered(&mut self, acked: Point) -> io::Result<()> {
        let behind = self.segments.get(1).map(|second| second.first);
        let Some(first) = self.segments.front_mut().filter(|_| behind.is_some_and(|end| end <= acked.seq)) else {
            return Ok(());
        };
        let path = self.dir.join(format::segment_name(first.number, first.first));
        let file = self.world.fs.open(&path, OpenHow::Append(0o600))?;
        file.set_len(0)?;
        first.len = 0;
        file.sync()
    }

    /// Removes the files before the cursor that is durable.
    fn remove_delivered(&mut self) -> io::Result<()> {
        let all = self.saved.acked == self.next;
        if all && self.segments.back().is_some_and(|s| s.len >= self.small()) {
            self.writer = None;
        }
        while let Some(first) = self.segments.front() {
            let is_written = self.writer.is_some() && self.segments.len() == 1;
            let end = self.segments.get(1).map_or(self.next.seq, |second| second.first);
            if is_written || end > self.saved.acked.seq {
                break;
            }
            let small = self.segments.len() == 1 && first.len < self.small();
            if small {
                break;
            }
            let path = self.dir.join(format::segment_name(first.number, first.first));
            match self.world.fs.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            self.segments.pop_front();
            if let Some(retry) = &mut self.retry {
                // There is room now.
                retry.at = Mono::default();
            }
        }
        Ok(())
    }
}

/// Makes the names in a directory durable, where its file system knows of that (some FUSE ones refuse the call).
fn sync_dir(world: &World, dir: &Path) -> io::Result<()> {
    match world.fs.sync_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// What is to be stored: see [`DiskQueue::append`].
type Batches<'a> = &'a [Arc<Batch>];
