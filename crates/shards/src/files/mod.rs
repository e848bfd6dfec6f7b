//! The board as files on the shared file system, for replicas without a Kubernetes. Its locks must work between machines.
//!
//! ```text
//! <root>/.pillion/board/table.lock             held by whoever writes the table
//! <root>/.pillion/board/table.json             {"version":"5f0c….12","shards":{…}}
//! <root>/.pillion/board/members/<member>.json  {"member":"…","beats":17,"at":"…","shards":64,…}
//! ```
//! Comes in: what a member wants written. Goes out: the board.
//!
//! Always holds:
//! - The caller is held up for a third of the lease at most, whatever the file system does: the work is done where it may
//!   block ([`Blocking`]), and while a call hangs the next ones of its kind fail at once.
//! - The table is replaced whole, under the lock, over the version that was read; a version is never used again, not even
//!   after the file was deleted.
//! - Clocks are compared with nothing: a sign of life is a count that changes.
//! - Whose name the table has, is looked for by that name: a listing that lies makes nobody dead.
//! - What is there isn't trusted: regular files of bounded size, no links followed at their names. Where others may write in
//!   the shared folder, the world is to see it through [`pillion_world::Beneath`].
//!
//! Tested in `tests/files.rs`: members over one real folder, a crash at each step, locks that don't work, hostile files.

mod shelf;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_world::World;

use crate::backend::{Backend, Later};
use crate::board::{Beat, Board, Rules, Table, Version};
use crate::order::Wrote;
use shelf::Shelf;

/// What of a lease one call may take.
const PART: u32 = 3;

/// Work that may block for as long as it likes.
pub type Job = Box<dyn FnOnce() + Send>;

/// Where work is done that may block: a thread that nobody waits for, at the end of the process neither.
pub trait Blocking: Send + Sync {
    /// Begins a job, and is done when the job is, or when the time is over: then the job goes on, and nobody waits for it.
    fn run(&self, job: Job, limit: Duration) -> Later<'_, ()>;
}

/// One member's view of the files. See the module.
pub struct Files<B> {
    shelf: Arc<Shelf>,
    blocking: B,
    limit: Duration,
    beating: Desk,
    looking: Desk,
    writing: Desk,
    burying: Desk,
}

/// Whether a call of one kind hasn't come back yet.
#[derive(Default)]
struct Desk(Arc<AtomicBool>);

impl<B: Blocking> Files<B> {
    /// Nothing is touched before the first call. `root`: the shared folder. `member`: the own name, used by no other process
    /// ever, of letters, digits, `.`, `_` and `-`. `lease`: how long a sign of life must stand still. `shards`: into how many the
    /// member divides the files; `None` for who only looks.
    pub fn new(world: World, root: &Path, member: &str, lease: Duration, shards: Option<u16>, blocking: B) -> Files<B> {
        let limit = lease / PART;
        let rules = Rules { shards, lease: Some(lease) };
        let shelf = Arc::new(Shelf::new(world, root, member, rules, limit));
        let [beating, looking, writing, burying] = <[Desk; 4]>::default();
        Files { shelf, blocking, limit, beating, looking, writing, burying }
    }

    /// Whether files can be made and locked there: for the start.
    ///
    /// # Errors
    /// Why not, and what can be done.
    pub async fn check(&self) -> Result<(), String> {
        let done = self.at(&self.writing, |shelf| shelf.lock().map(drop)).await;
        done.unwrap_or_else(|| Err(self.late()))
    }

    /// What a call gives; `None`: not in time.
    async fn at<T: Send + 'static>(&self, desk: &Desk, work: impl FnOnce(&Shelf) -> T + Send + 'static) -> Option<T> {
        if desk.0.swap(true, Ordering::AcqRel) {
            return None;
        }
        let (busy, shelf) = (Arc::clone(&desk.0), Arc::clone(&self.shelf));
        let place = Arc::new(Mutex::new(None));
        let result = Arc::clone(&place);
        let job = Box::new(move || {
            let done = work(&shelf);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
            busy.store(false, Ordering::Release);
        });
        self.blocking.run(job, self.limit).await;
        place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn late(&self) -> String {
        format!("{}: the file system gave no answer within {:?}", self.shelf.folder().display(), self.limit)
    }
}

impl<B: Blocking> Backend for Files<B> {
    fn beat(&self, leaving: bool) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            let done = self.at(&self.beating, move |shelf| shelf.beat(leaving)).await;
            done.unwrap_or_else(|| Err(self.late()))
        })
    }

    fn look(&self) -> Later<'_, Result<Board, String>> {
        Box::pin(async move { self.at(&self.looking, Shelf::look).await.unwrap_or_else(|| Err(self.late())) })
    }

    fn write(&self, over: Option<Version>, table: Table) -> Later<'_, Wrote> {
        Box::pin(async move {
            let done = self.at(&self.writing, move |shelf| shelf.write(over.as_ref(), &table)).await;
            done.unwrap_or_else(|| {
                tracing::warn!("the table of shards isn't known to be written: {}", self.late());
                Wrote::Unknown
            })
        })
    }

    fn bury(&self, beat: Beat) -> Later<'_, Result<(), String>> {
        Box::pin(async move {
            let done = self.at(&self.burying, move |shelf| shelf.bury(&beat)).await;
            done.unwrap_or_else(|| Err(self.late()))
        })
    }
}
