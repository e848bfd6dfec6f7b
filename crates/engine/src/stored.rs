//! The disk queue beneath the ledger: what is done with it in a round of the registrar.
//!
//! Comes in: batches that readers handed over, and what the target has decided about. Goes out: how many of them are
//! durable, and batches for the outputs. Always holds: the files are touched only in a round, by one thread; who asks how
//! much there is doesn't wait for a disk. What fails is said once in ten minutes. Tested by the simulation and with
//! `ledger.rs`.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_event::{Batch, Source};
use pillion_queue::disk::{DiskOptions, DiskQueue, Loaded, Status};
use pillion_queue::{Queue, SpaceWaker};
use pillion_world::Mono;

/// See the module's header.
pub(crate) struct Stored {
    files: Mutex<DiskQueue>,
    /// Most bytes of its files; 0 = no limit.
    pub(crate) limit: u64,
    /// Most events that wait to be stored.
    pub(crate) write_ahead: usize,
    /// Events that wait for an output, at least, while there are more.
    read_ahead: usize,
    /// The folder's name.
    pub(crate) name: String,
    standing: Mutex<Standing>,
    space: Mutex<Option<SpaceWaker>>,
}

#[derive(Default)]
struct Standing {
    status: Status,
    /// What was acknowledged is written down.
    saved: bool,
    /// What a crash left isn't sure to be durable yet.
    doubt: bool,
    /// Why it can't be written.
    error: Option<String>,
    /// Why it can't be read.
    unreadable: bool,
    /// When these were said last: a slow target makes room again and again.
    failing: Said,
    full: Said,
}

/// How long the same isn't said again.
const QUIET: Duration = Duration::from_secs(600);

/// When something was said last.
#[derive(Default)]
struct Said(Option<Mono>);

impl Said {
    fn may_be_said(&mut self, now: Mono) -> bool {
        let may = self.0.is_none_or(|last| now.since(last) >= QUIET);
        if may {
            self.0 = Some(now);
        }
        may
    }
}

/// What came out of the queue.
pub(crate) enum Next {
    Batch(Arc<Batch>),
    Lost(u64, Option<(Arc<Source>, u64)>),
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stored {
    pub(crate) fn new(files: DiskQueue, options: &DiskOptions) -> Stored {
        let standing = Standing {
            status: files.status(),
            saved: files.is_saved(),
            doubt: files.is_in_doubt(),
            ..Standing::default()
        };
        Stored {
            name: format!("(disk queue in {})", files.dir().display()),
            files: Mutex::new(files),
            limit: options.max_size,
            write_ahead: options.write_ahead.max(1),
            read_ahead: options.read_ahead.max(1),
            standing: Mutex::new(standing),
            space: Mutex::new(None),
        }
    }

    pub(crate) fn status(&self) -> Status {
        lock(&self.standing).status
    }

    pub(crate) fn is_saved(&self) -> bool {
        lock(&self.standing).saved
    }

    /// Whether the registry must not be made durable yet.
    pub(crate) fn is_in_doubt(&self) -> bool {
        lock(&self.standing).doubt
    }

    /// Why it can't be written, while it can't.
    pub(crate) fn error(&self) -> Option<String> {
        lock(&self.standing).error.clone()
    }

    pub(crate) fn on_space(&self, waker: SpaceWaker) {
        *lock(&self.space) = Some(waker);
    }

    /// Readers may go on.
    pub(crate) fn wake_readers(&self) {
        if let Some(wake) = &*lock(&self.space) {
            wake();
        }
    }

    /// The target has decided about all events of these batches.
    pub(crate) fn acked(&self, numbers: Vec<u64>) {
        let mut files = lock(&self.files);
        numbers.into_iter().for_each(|number| files.acked(number));
        self.note(&files);
    }

    /// What the target has decided about is written down, at once if somebody waits for it, or for room.
    pub(crate) fn save(&self, now: bool, needs_room: bool) -> io::Result<()> {
        let mut files = lock(&self.files);
        let now = now || needs_room && files.would_make_room();
        let outcome = files.checkpoint(now);
        self.note(&files);
        outcome
    }

    /// Makes sure that all that the files hold is durable: the registry may say so only then.
    pub(crate) fn make_sure(&self) -> io::Result<()> {
        let mut files = lock(&self.files);
        let outcome = files.settle_doubt();
        self.note(&files);
        let outcome = outcome.inspect_err(|e| self.said_failed(files.now(), e));
        outcome
            .map_err(|e| io::Error::new(e.kind(), format!("the disk queue, which it waits for, can't be written: {e}")))
    }

    /// The registry was made durable.
    pub(crate) fn registry_is_durable(&self) {
        lock(&self.files).registry_is_durable();
    }

    /// Stores what there is room for, in order; how many batches are durable now.
    pub(crate) fn append(&self, batches: &[Arc<Batch>]) -> usize {
        let mut files = lock(&self.files);
        let outcome = files.append(batches);
        self.note(&files);
        match outcome {
            Ok(n) if n == batches.len() => {
                self.said_good();
                n
            }
            Ok(n) => {
                if !files.is_failing() {
                    self.said_full(files.now());
                }
                n
            }
            Err(e) => {
                self.said_failed(files.now(), &e);
                0
            }
        }
    }

    fn note(&self, files: &DiskQueue) {
        let mut standing = lock(&self.standing);
        (standing.status, standing.saved) = (files.status(), files.is_saved());
        standing.doubt = files.is_in_doubt();
    }

    fn said_failed(&self, now: Mono, e: &io::Error) {
        let mut standing = lock(&self.standing);
        if standing.error.is_some() || e.kind() == io::ErrorKind::WouldBlock {
            return;
        }
        standing.error = Some(e.to_string());
        if standing.failing.may_be_said(now) {
            tracing::error!(
                error = %e,
                "the disk queue can't be written: reading pauses, and what is queued is sent all the same; trying again"
            );
        }
    }

    fn said_full(&self, now: Mono) {
        let mut standing = lock(&self.standing);
        if standing.full.may_be_said(now) {
            tracing::warn!(
                bytes = standing.status.bytes,
                "the disk queue is full: reading pauses until the target has taken some"
            );
        }
    }

    fn said_good(&self) {
        lock(&self.standing).error = None;
    }

    /// What goes to the outputs next, while they have little and the memory for it isn't used up.
    pub(crate) fn next(&self, queue: &Queue) -> Option<Next> {
        if queue.waiting() >= self.read_ahead || queue.held().1 >= queue.limits().bytes {
            return None;
        }
        let mut files = lock(&self.files);
        let loaded = files.load();
        self.note(&files);
        let mut standing = lock(&self.standing);
        match loaded {
            Ok(loaded) => {
                standing.unreadable = false;
                loaded.map(|loaded| match loaded {
                    Loaded::Batch(batch) => Next::Batch(Arc::from(batch)),
                    Loaded::Lost { events, of } => Next::Lost(events, of),
                })
            }
            Err(e) => {
                if !std::mem::replace(&mut standing.unreadable, true) {
                    tracing::error!(error = %e, "the disk queue can't be read: nothing is sent until it can; trying again");
                }
                None
            }
        }
    }

    /// Whether it is to be tried again without a further cause.
    pub(crate) fn tries_again(&self) -> bool {
        let standing = lock(&self.standing);
        standing.unreadable || standing.error.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pillion_event::{Fate, Incarnation};
    use pillion_queue::{AckSink as _, Fates, Limits};
    use pillion_registry::{Entry, FilestreamState, Identifier, Kind, Options, Registry};
    use pillion_world::World;

    use super::*;
    use crate::ack::Unacked;
    use crate::ledger::{InQueue, Ledger};
    use crate::testing::{batch, source_of_life};

    fn options() -> DiskOptions {
        let retry = (Duration::from_secs(1), Duration::from_secs(30));
        DiskOptions { path: None, max_size: 0, segment_size: 1 << 20, read_ahead: 3, write_ahead: 4, retry }
    }

    struct Run {
        registry: Arc<Registry>,
        queue: Arc<Queue>,
        ledger: Arc<Ledger>,
        source: Arc<Source>,
    }

    /// A run on a folder: its registry knows one file.
    fn start(dir: &Path) -> Run {
        let world = World::real();
        let registry = Arc::new(Registry::open(&world, dir, &Options::default()).unwrap().0);
        let kind = Kind::Filestream(FilestreamState::default());
        let path = "/x/a.log";
        let entry = Entry::new(kind, "jobs", &Identifier::Path(path.into()), path.into(), Incarnation(7));
        let plain = source_of_life(path, 7);
        let source = Arc::new(Source {
            key: Arc::clone(&entry.key),
            input: Arc::clone(&plain.input),
            path: Arc::clone(&plain.path),
            incarnation: plain.incarnation,
            stat: plain.stat.clone(),
            render: Default::default(),
            more: Default::default(),
        });
        if registry.get(&entry.key).is_none() {
            registry.upsert(entry);
        }
        let queue = Queue::new(Limits { events: 3, bytes: 1 << 20, flush: None });
        let opened = DiskQueue::open(&world, &dir.join("diskqueue"), &options()).unwrap();
        let ledger = Ledger::with_disk(Arc::clone(&queue), Arc::clone(&registry), true, opened, &options());
        Run { registry, queue, ledger, source }
    }

    impl Run {
        fn accept(&self, id: u64, from: u64, lens: &[u32]) {
            self.ledger.accept(Arc::into_inner(batch(&self.source, id, from, lens)).unwrap());
        }

        fn offset(&self) -> u64 {
            self.registry.get(&self.source.key).unwrap().offset
        }

        fn queued(&self) -> u64 {
            self.ledger.disk_queue().unwrap().events
        }

        /// Sends what the queue gives; whether an earlier run may have sent it.
        async fn send(&self) -> Vec<bool> {
            let request = self.queue.take(10, usize::MAX).await.unwrap();
            request.slices.iter().for_each(|slice| self.ledger.settled(slice, Fates::All(Fate::Acked)));
            request.slices.iter().map(|slice| slice.batch.replayed).collect()
        }
    }

    #[tokio::test]
    async fn the_cursor_moves_when_it_is_stored_and_the_drain_waits_for_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let run = start(dir.path());
        run.accept(1, 0, &[10, 10]);
        assert_eq!((run.offset(), run.ledger.free_events(), run.queue.waiting()), (0, 2, 0));
        run.accept(2, 20, &[10, 10]);
        assert_eq!(run.ledger.free(), 0, "what waits to be stored is bounded");
        run.ledger.registrar_step().unwrap();
        assert_eq!((run.offset(), run.ledger.free_events(), run.queue.waiting()), (40, 4, 4));
        run.accept(3, 40, &[10]);
        run.ledger.registrar_step().unwrap();
        assert_eq!((run.offset(), run.queue.waiting()), (50, 4), "no more is read ahead than is wanted");
        let (accounts, unacked) = run.ledger.state();
        assert_eq!((accounts.totals().acked, accounts.totals().unacked(), run.queued()), (0, 5, 5));
        let range =
            Unacked { path: "/x/a.log".into(), incarnation: Incarnation(7), from: 0, to: 50, events: 5, queued: true };
        assert_eq!(unacked, [range]);
        assert!(!run.ledger.is_settled());
        assert_eq!(run.send().await, [false, false]);
        run.ledger.registrar_step().unwrap();
        assert_eq!((run.queued(), run.ledger.state().1[0].from), (1, 40));
        assert_eq!(run.send().await, [false]);
        assert!(run.ledger.is_settled() && !run.ledger.is_synced());
        run.ledger.flush();
        run.ledger.registrar_step().unwrap();
        assert!(run.ledger.is_synced());
        assert_eq!(run.ledger.state().0.totals().acked, 5);
    }

    #[tokio::test]
    async fn a_file_is_whole_when_the_target_has_decided_about_what_is_queued() {
        let dir = tempfile::tempdir().unwrap();
        let run = start(dir.path());
        let (path, life) = ("/x/a.log", Incarnation(7));
        assert!(run.ledger.is_whole(Some(path), life));
        run.accept(1, 0, &[10]);
        run.ledger.registrar_step().unwrap();
        assert_eq!(run.offset(), 10);
        assert!(!run.ledger.is_whole(Some(path), life), "the target may refuse it yet");
        assert!(!run.ledger.is_whole(Some("/x/renamed.log"), life));
        drop(run);
        // Killed before a cursor was written: it is in doubt at first, and queued after that.
        let run = start(dir.path());
        assert!(!run.ledger.is_whole(Some("/x/other.log"), Incarnation(8)), "the registry must not be made durable");
        run.ledger.registrar_step().unwrap();
        assert!(run.ledger.is_whole(Some("/x/other.log"), Incarnation(8)) && !run.ledger.is_whole(Some(path), life));
        run.send().await;
        run.ledger.registrar_step().unwrap();
        assert!(run.ledger.is_whole(Some(path), life));
    }

    #[tokio::test]
    async fn the_flush_after_the_last_decision_writes_it_down() {
        let dir = tempfile::tempdir().unwrap();
        let run = start(dir.path());
        run.accept(1, 0, &[10, 10, 10]);
        run.ledger.registrar_step().unwrap();
        // A drain that looks in the midst of the settlement.
        let ledger = Arc::clone(&run.ledger);
        run.queue.on_space(Box::new(move || {
            assert!(ledger.is_settled());
            ledger.flush();
            ledger.registrar_step().unwrap();
        }));
        assert_eq!(run.send().await, [false]);
        assert!(run.ledger.is_synced());
    }

    #[tokio::test]
    async fn what_was_left_waits_for_no_timer() {
        let dir = tempfile::tempdir().unwrap();
        let run = start(dir.path());
        run.accept(1, 0, &[10]);
        run.ledger.registrar_step().unwrap();
        drop(run);
        let run = start(dir.path());
        let ledger = Arc::clone(&run.ledger);
        let registrar = std::thread::spawn(move || ledger.registrar(Duration::from_secs(3600)));
        let sent = tokio::time::timeout(Duration::from_secs(60), run.send()).await;
        run.ledger.stop();
        registrar.join().unwrap();
        assert_eq!(sent.unwrap(), [true]);
    }

    #[tokio::test]
    async fn what_is_damaged_while_it_is_queued_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let run = start(dir.path());
        run.accept(1, 0, &[10, 10, 10]);
        run.ledger.registrar_step().unwrap();
        let fs = World::real().fs;
        let segment = dir.path().join("diskqueue/0000000001-00000000000000000000.segment");
        let whole = fs.stat(&segment, true).unwrap().len;
        run.accept(2, 30, &[10, 10]);
        run.ledger.registrar_step().unwrap();
        // Its head, too: nobody knows any more whose it was.
        fs.open(&segment, pillion_world::OpenHow::Append(0o600)).unwrap().set_len(whole).unwrap();
        assert_eq!(run.send().await, [false]);
        run.ledger.registrar_step().unwrap();
        let (accounts, unacked) = run.ledger.state();
        assert_eq!((accounts.totals().lost_events, accounts.totals().unacked()), (2, 0));
        assert!(run.ledger.is_settled() && unacked.is_empty(), "{unacked:?}");
    }

    #[tokio::test]
    async fn what_is_left_is_carried_over_and_the_cursor_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let run = start(dir.path());
        run.accept(1, 0, &[10, 10]);
        // Killed before the cursor is written down.
        run.ledger.registrar_step().unwrap();
        drop(run);
        let run = start(dir.path());
        assert_eq!((run.offset(), run.queued()), (20, 2), "the file isn't read again");
        let carried = *run.ledger.state().0.totals();
        assert_eq!((carried.events, carried.carried, carried.bytes, carried.unacked()), (2, 2, 0, 2));
        run.accept(1, 20, &[10]);
        run.ledger.registrar_step().unwrap();
        assert_eq!(run.send().await, [true, false], "what was left comes first, and may have been sent");
        assert!(run.ledger.is_settled());
        run.ledger.flush();
        run.ledger.registrar_step().unwrap();
        let left = run.ledger.disk_queue();
        assert!(matches!(left, Some(InQueue { events: 0, error: None, .. })), "{left:?}");
        drop(run);
        assert_eq!(start(dir.path()).queued(), 0);
    }
}
