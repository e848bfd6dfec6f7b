//! The ledger: the one place that knows of every batch from its reading to its acknowledgement.
//!
//! ```text
//!  reader ──accept──▶ staged ──registrar: intend, sync──▶ queue ──▶ output
//!                │      (exactly_once only)                ▲           │
//!                └──────────── otherwise ──────────────────┘           │ settled
//!  registry ◀──commit── cursor ◀── books ◀─────────────────────────────┘
//!
//!  with a disk queue:
//!  reader ──accept──▶ staged ──registrar: store, sync──▶ files ──registrar: load──▶ queue ──▶ output
//!                                   │                      ▲ checkpoint                         │ settled
//!  registry ◀──commit── cursor ◀── books ◀──────────────── books ◀──────────────────────────────┘
//! ```
//!
//! Comes in: batches from readers ([`Ledger::accept`]), fates from outputs ([`AckSink`]). Goes out: batches to the
//! queue, cursors to the registry, and the state of things for drain and receipt.
//!
//! Always holds:
//! - With `exactly_once` a batch is visible to outputs only when its range and read time are durable. A batch whose
//!   incarnation the registry no longer has (its file was truncated or replaced since) is sent all the same: its bytes
//!   exist nowhere else, and since they can't be read again, they can't be sent again.
//! - A cursor is committed only for what the target has acknowledged, or what is durable in the disk queue, after the books
//!   have it.
//! - With a disk queue a life of a file is durable in the registry before anything of it is stored, and so are the cursors
//!   behind what was stored before: a crash leaves at most the last write's cursors behind, which the next start moves on.
//! - Space in the queue is taken when a batch is accepted and given back when it is settled.
//!
//! [`Ledger::registrar_step`] is what the registrar thread repeats; the simulation calls it at moments of its choice.
//! Tested below and by the simulation.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_event::{Batch, Fate, Incarnation, InputDesc, Slice};
use pillion_queue::disk::{Carried, DiskOptions, DiskQueue, Status, loaded_number};
use pillion_queue::{AckSink, Fates, Queue, Request, SpaceWaker};
use pillion_registry::{Intent, Registry};
use tokio::sync::Notify;

use crate::account::{Accounts, Counts};
use crate::ack::{Books, OnWay, Settled, Unacked};
use crate::stored::{Next, Stored};

/// How long the registrar waits before it tries again to write a registry that couldn't be written.
pub const RETRY: Duration = Duration::from_millis(500);

/// Of so many failures one is told: about one a minute.
const SAY_EVERY: u32 = 120;

/// How long the registrar waits for acknowledgements when it may write down no more ranges of a file.
const FULL_PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Staged {
    batches: VecDeque<Arc<Batch>>,
    flush_now: bool,
    stop: bool,
    /// With a disk queue: what the batches hold, which of the loaded ones are settled, and whether the batches wait for
    /// room or for a disk that works.
    events: usize,
    bytes: usize,
    done: Vec<u64>,
    blocked: bool,
}

impl Staged {
    /// Whether the registrar has something to do.
    fn is_due(&self) -> bool {
        self.stop || self.flush_now || !self.done.is_empty() || (!self.batches.is_empty() && !self.blocked)
    }
}

/// See the module's header.
pub struct Ledger {
    queue: Arc<Queue>,
    registry: Arc<Registry>,
    exactly_once: bool,
    disk: Option<Stored>,
    books: Mutex<Books>,
    staged: Mutex<Staged>,
    wake: Condvar,
    /// Something was committed since the last sync began.
    dirty: AtomicBool,
    /// The last error of the registry's file, until a sync succeeds.
    error: Mutex<Option<String>>,
    writing: Writing,
    /// Told at every change that a drain may wait for.
    progress: Notify,
}

/// How often the registry was changed and written since the start.
#[derive(Debug, Default)]
struct Writing {
    updates: AtomicU64,
    written: AtomicU64,
    failed: AtomicU64,
}

/// How often the registry was changed and written since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Cursors that moved.
    pub updates: u64,
    /// Rounds that made something durable.
    pub written: u64,
    /// Rounds that failed.
    pub failed: u64,
}

/// What the disk queue holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InQueue {
    /// Events that the target hasn't decided about.
    pub events: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// The most bytes; 0 = no limit.
    pub limit: u64,
    /// Why it can't be written.
    pub error: Option<String>,
}

/// Nothing that holds one of these locks leaves a half-made change behind when it panics: go on.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// A ledger over an empty queue.
    pub fn new(queue: Arc<Queue>, registry: Arc<Registry>, exactly_once: bool) -> Arc<Ledger> {
        Arc::new(Ledger::over(queue, registry, exactly_once, None))
    }

    /// A ledger over a disk queue, with what an earlier run left in it; nothing may have been read yet.
    pub fn with_disk(
        queue: Arc<Queue>,
        registry: Arc<Registry>,
        exactly_once: bool,
        (files, carried): (DiskQueue, Vec<Carried>),
        options: &DiskOptions,
    ) -> Arc<Ledger> {
        let stored = Stored::new(files, options);
        let ledger = Ledger::over(queue, registry, exactly_once, Some(stored));
        if let Some(disk) = &ledger.disk {
            let mut books = lock(&ledger.books);
            for one in &carried {
                let cursor = books.carried(one);
                if !one.source.key.is_empty() && ledger.registry.commit(&cursor) {
                    ledger.dirty.store(true, Ordering::Relaxed);
                }
            }
            let nameless = disk.status().events.saturating_sub(books.queued());
            if nameless > 0 {
                books.carried_nameless(&disk.name, nameless);
            }
        }
        Arc::new(ledger)
    }

    fn over(queue: Arc<Queue>, registry: Arc<Registry>, exactly_once: bool, disk: Option<Stored>) -> Ledger {
        Ledger {
            queue,
            registry,
            exactly_once,
            disk,
            books: Mutex::default(),
            staged: Mutex::default(),
            wake: Condvar::new(),
            dirty: AtomicBool::new(false),
            error: Mutex::default(),
            writing: Writing::default(),
            progress: Notify::new(),
        }
    }

    /// How many bytes a reader may hand over now; 0 = wait for space.
    pub fn free(&self) -> usize {
        let Some(disk) = &self.disk else { return self.queue.free() };
        let room = usize::try_from(disk.status().free).unwrap_or(usize::MAX).min(self.queue.limits().bytes);
        let staged = lock(&self.staged);
        if staged.events >= disk.write_ahead { 0 } else { room.saturating_sub(staged.bytes) }
    }

    /// How many events a reader may hand over now.
    pub fn free_events(&self) -> usize {
        let Some(disk) = &self.disk else { return self.queue.free_events() };
        disk.write_ahead.saturating_sub(lock(&self.staged).events)
    }

    /// Whom to tell when space comes free after there was none.
    pub fn on_space(&self, waker: SpaceWaker) {
        match &self.disk {
            None => self.queue.on_space(waker),
            Some(disk) => disk.on_space(waker),
        }
    }

    /// Takes a batch from a reader. Batches of one source come in the order of their ranges.
    pub fn accept(&self, batch: Batch) {
        let batch = Arc::new(batch);
        let settled = lock(&self.books).accept(&batch);
        if batch.events.is_empty() {
            self.enter(settled);
            return;
        }
        if self.disk.is_some() {
            let mut staged = lock(&self.staged);
            staged.events += batch.events.len();
            staged.bytes += batch.weight();
            staged.batches.push_back(batch);
            self.wake.notify_one();
            return;
        }
        self.queue.reserve(&batch);
        // A source without a key has no place in the registry (standard input).
        if self.exactly_once && !batch.source.key.is_empty() {
            lock(&self.staged).batches.push_back(batch);
            self.wake.notify_one();
        } else {
            self.queue.push(batch);
        }
    }

    /// Another replica has the files at such paths: see [`Books::hand_over`]. How many of their events it may send again.
    pub fn hand_over(&self, which: &dyn Fn(&str) -> bool) -> u64 {
        let events = lock(&self.books).hand_over(which);
        self.progress.notify_one();
        events
    }

    /// Shows the path of each file of which something isn't settled.
    pub fn visit_open(&self, show: &mut dyn FnMut(&str)) {
        lock(&self.books).visit_open(show);
    }

    /// Whether another replica ships what isn't settled of this by now.
    pub fn is_handed_over(&self, slice: &Slice) -> bool {
        lock(&self.books).is_handed_over(slice.batch.id)
    }

    /// Takes out of a request what another replica ships by now, before it is sent.
    pub fn without_handed_over(&self, request: &mut Request) {
        let gone: Vec<Slice> = {
            let books = lock(&self.books);
            request.slices.extract_if(.., |slice| books.is_handed_over(slice.batch.id)).collect()
        };
        for slice in gone {
            // What is said of it counts for nothing; its space in the queue is free.
            self.settled(&slice, Fates::All(Fate::Acked));
        }
    }

    /// Notes that bytes of a file were destroyed before they could be read.
    pub fn lost(&self, path: &str, bytes: u64) {
        lock(&self.books).accounts_mut().lost(path, bytes);
    }

    fn enter(&self, settled: Settled) {
        if let Some(cursor) = settled.cursor
            && !cursor.get().key.is_empty()
            && self.registry.commit(&cursor)
        {
            self.dirty.store(true, Ordering::Relaxed);
            self.writing.updates.fetch_add(1, Ordering::Relaxed);
        }
        self.progress.notify_one();
    }

    /// One round of the registrar: makes durable what is staged and committed, and shows the staged batches to the
    /// outputs. On an error nothing is lost, and the round can be repeated.
    pub fn registrar_step(&self) -> io::Result<()> {
        match &self.disk {
            None => self.memory_step(),
            Some(disk) => self.disk_step(disk),
        }
    }

    fn disk_step(&self, disk: &Stored) -> io::Result<()> {
        let was_full = self.free() == 0;
        let (round, done, now, blocked) = {
            let mut staged = lock(&self.staged);
            let round: Vec<Arc<Batch>> = staged.batches.iter().map(Arc::clone).collect();
            (round, std::mem::take(&mut staged.done), staged.flush_now || staged.stop, staged.blocked)
        };
        disk.acked(done);
        let changed = self.dirty.swap(false, Ordering::Relaxed) || !round.is_empty();
        let synced = disk.make_sure().and_then(|()| self.registry.sync());
        match &synced {
            Ok(()) => disk.registry_is_durable(),
            Err(_) => self.dirty.store(true, Ordering::Relaxed),
        }
        let saved = disk.save(now, blocked || synced.is_err());
        let stored = if synced.is_ok() && !round.is_empty() { disk.append(&round) } else { 0 };
        for batch in round.iter().take(stored) {
            let settled = lock(&self.books).stored(batch);
            self.enter(settled);
        }
        self.load(disk);
        if disk.status().events == 0 {
            lock(&self.books).nothing_queued();
        }
        {
            let staged = &mut *lock(&self.staged);
            for batch in staged.batches.drain(..stored) {
                staged.events -= batch.events.len();
                staged.bytes = staged.bytes.saturating_sub(batch.weight());
            }
            staged.blocked = stored < round.len();
            let clean = staged.batches.is_empty() && staged.done.is_empty() && disk.is_saved();
            if clean && !self.dirty.load(Ordering::Relaxed) {
                staged.flush_now = false;
            }
        }
        // A reader may have found it full since the round began: whatever was stored made room.
        if (was_full || stored > 0) && self.free() > 0 {
            disk.wake_readers();
        }
        let outcome = synced.and(saved);
        self.note_round(&outcome, changed);
        outcome
    }

    /// Has the outputs have enough to do.
    fn load(&self, disk: &Stored) {
        while let Some(next) = disk.next(&self.queue) {
            match next {
                Next::Batch(batch) => {
                    lock(&self.books).loaded(&batch);
                    self.queue.reserve(&batch);
                    self.queue.push(batch);
                }
                Next::Lost(events, of) => {
                    let path = of.as_ref().map_or(&*disk.name, |(source, _)| &source.path);
                    tracing::error!(
                        events,
                        path,
                        "the disk queue's files are damaged: these events can't be read any more; the receipt counts them"
                    );
                    lock(&self.books).lost_in_queue(&disk.name, events, of.as_ref());
                }
            }
        }
    }

    fn note_round(&self, outcome: &io::Result<()>, changed: bool) {
        match outcome {
            Ok(()) => self.writing.written.fetch_add(u64::from(changed), Ordering::Relaxed),
            Err(_) => self.writing.failed.fetch_add(1, Ordering::Relaxed),
        };
        *lock(&self.error) = outcome.as_ref().err().map(ToString::to_string);
        self.progress.notify_one();
    }

    fn memory_step(&self) -> io::Result<()> {
        let mut round: Vec<Arc<Batch>> = lock(&self.staged).batches.drain(..).collect();
        self.drop_handed_over(&mut round);
        let changed = self.dirty.swap(false, Ordering::Relaxed) || !round.is_empty();
        let fits = round.iter().position(|b| !self.intend(b)).unwrap_or(round.len());
        let held = round.split_off(fits);
        let synced = self.registry.sync();
        {
            let mut staged = lock(&self.staged);
            for batch in held.into_iter().rev() {
                staged.batches.push_front(batch);
            }
            if synced.is_err() {
                for batch in round.drain(..).rev() {
                    staged.batches.push_front(batch);
                }
                self.dirty.store(true, Ordering::Relaxed);
            } else if staged.batches.is_empty() && !self.dirty.load(Ordering::Relaxed) {
                staged.flush_now = false;
            }
        }
        for batch in round {
            self.queue.push(batch);
        }
        self.note_round(&synced, changed);
        synced
    }

    /// What another replica ships isn't written down as about to be sent: it isn't sent.
    fn drop_handed_over(&self, round: &mut Vec<Arc<Batch>>) {
        let gone: Vec<Arc<Batch>> = {
            let books = lock(&self.books);
            round.extract_if(.., |batch| books.is_handed_over(batch.id)).collect()
        };
        for batch in gone {
            let events = 0..batch.events.len();
            self.settled(&Slice { batch, events }, Fates::All(Fate::Acked));
        }
    }

    /// Writes down that a batch is about to be sent. False: it must wait until others are acknowledged.
    fn intend(&self, batch: &Batch) -> bool {
        let source = &batch.source;
        let intent = Intent { from: batch.from, to: batch.to, read_ms: batch.read_ms, guard: batch.guard };
        self.registry.intend(&source.key, source.incarnation, intent)
            || self.registry.get(&source.key).is_none_or(|entry| entry.incarnation != source.incarnation)
    }

    /// What the registrar thread does until [`Ledger::stop`]: a round when something is staged or a drain wants it,
    /// and every `flush` when something was committed or changed.
    pub fn registrar(&self, flush: Duration) {
        let mut failures: u32 = 0;
        // What an earlier run left goes out without waiting for anything new.
        let mut begins = self.disk.is_some();
        loop {
            let mut staged = lock(&self.staged);
            if !std::mem::take(&mut begins) && !staged.is_due() {
                let tries_again = staged.blocked || self.disk.as_ref().is_some_and(Stored::tries_again);
                let most = if tries_again { flush.min(RETRY) } else { flush };
                let woken = self.wake.wait_timeout_while(staged, most, |s| !s.is_due());
                staged = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            let stop = staged.stop;
            drop(staged);
            let outcome = self.registrar_step();
            if stop {
                return;
            }
            if outcome.is_ok() && self.must_wait() {
                // A file has as many ranges in flight as the registry may hold, or the disk queue is full: some must be
                // acknowledged first.
                self.pause(FULL_PAUSE);
            }
            match outcome {
                Ok(()) if failures > 0 => {
                    failures = 0;
                    tracing::info!("the registry can be written again");
                }
                Ok(()) => {}
                Err(e) => {
                    if failures.is_multiple_of(SAY_EVERY) {
                        self.say(&e);
                    }
                    failures = failures.saturating_add(1);
                    self.pause(RETRY);
                }
            }
        }
    }

    fn must_wait(&self) -> bool {
        let staged = lock(&self.staged);
        !staged.batches.is_empty() && (self.disk.is_none() || staged.blocked)
    }

    /// Tells what a registry means that can't be written.
    fn say(&self, error: &io::Error) {
        if self.disk.is_some() {
            tracing::error!(
                %error,
                "the registry can't be written: nothing is queued that it doesn't know of, so reading pauses until it can be; \
                 trying again"
            );
        } else if self.holds_back() {
            tracing::error!(
                %error,
                "the registry can't be written: exactly_once sends nothing that isn't written down before, so lines wait \
                 until it can be; trying again"
            );
        } else {
            tracing::error!(
                %error,
                "the registry can't be written: after a crash what was delivered since would be sent again; trying again"
            );
        }
    }

    fn pause(&self, time: Duration) {
        let staged = lock(&self.staged);
        drop(self.wake.wait_timeout_while(staged, time, |s| !s.stop));
    }

    /// The drain wants everything durable as soon as it can be.
    pub fn flush(&self) {
        lock(&self.staged).flush_now = true;
        self.wake.notify_one();
    }

    /// Ends the registrar thread after a last round.
    pub fn stop(&self) {
        lock(&self.staged).stop = true;
        self.wake.notify_one();
    }

    /// Whether the target has decided about every event that was accepted.
    pub fn is_settled(&self) -> bool {
        lock(&self.books).all_settled()
    }

    /// Whether all that was committed is durable.
    pub fn is_synced(&self) -> bool {
        let written = !self.dirty.load(Ordering::Relaxed) && lock(&self.error).is_none();
        let saved = self.disk.as_ref().is_none_or(Stored::is_saved);
        let staged = lock(&self.staged);
        written && saved && !staged.flush_now && staged.done.is_empty()
    }

    /// What the disk queue holds, if there is one, and why it can't be written, while it can't.
    pub fn disk_queue(&self) -> Option<InQueue> {
        let disk = self.disk.as_ref()?;
        let Status { bytes, .. } = disk.status();
        Some(InQueue { events: lock(&self.books).queued(), bytes, limit: disk.limit, error: disk.error() })
    }

    /// Why the registry can't be written, while it can't.
    pub fn registry_error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    /// Whether batches wait to be sent since their ranges can't be written down (`exactly_once`).
    pub fn holds_back(&self) -> bool {
        lock(&self.error).is_some() && !lock(&self.staged).batches.is_empty()
    }

    /// The accounts so far, and what isn't acknowledged.
    pub fn state(&self) -> (Accounts, Vec<Unacked>) {
        let books = lock(&self.books);
        (books.accounts().clone(), books.unacked())
    }

    /// Whether the target has refused nothing of a file in this run, as far as is known, and nothing of this life of it waits
    /// in the disk queue. Not before the registry may be made durable: whoever asks is about to do that.
    pub fn is_whole(&self, path: Option<&str>, life: Incarnation) -> bool {
        if self.disk.as_ref().is_some_and(Stored::is_in_doubt) {
            return false;
        }
        let books = lock(&self.books);
        !books.is_queued(life) && books.accounts().is_whole(path)
    }

    /// The totals so far.
    pub fn totals(&self) -> Counts {
        *lock(&self.books).accounts().totals()
    }

    /// The totals so far, and what is on its way.
    pub fn standing(&self) -> (Counts, OnWay) {
        let books = lock(&self.books);
        (*books.accounts().totals(), books.on_way())
    }

    /// What each input has given so far.
    pub fn inputs(&self) -> Vec<(Arc<InputDesc>, Counts)> {
        lock(&self.books).accounts().inputs().to_vec()
    }

    /// How often the registry was changed and written.
    pub fn writes(&self) -> Writes {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let Writing { updates, written, failed } = &self.writing;
        Writes { updates: get(updates), written: get(written), failed: get(failed) }
    }

    /// Something changed that a drain may wait for.
    pub fn tell(&self) {
        self.progress.notify_one();
    }

    /// Waits until something changed that a drain may wait for; may return early.
    pub async fn progressed(&self) {
        self.progress.notified().await;
    }
}

impl AckSink for Ledger {
    fn settled(&self, slice: &Slice, fates: Fates) {
        let mut books = lock(&self.books);
        let settled = books.settle(slice, &fates);
        if let Some(number) = loaded_number(slice.batch.id).filter(|_| settled.finished) {
            // Before anybody can see that all is settled: the flush that follows from that has to write it down.
            lock(&self.staged).done.push(number);
            self.wake.notify_one();
        }
        drop(books);
        if settled.finished {
            self.queue.release(&slice.batch);
        }
        self.enter(settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, source};
    use pillion_event::Incarnation;
    use pillion_queue::Limits;
    use pillion_registry::{Entry, FilestreamState, Identifier, Kind, Options};
    use pillion_world::World;

    struct Rig {
        _dir: tempfile::TempDir,
        registry: Arc<Registry>,
        queue: Arc<Queue>,
        ledger: Arc<Ledger>,
        key: Arc<str>,
    }

    fn rig(exactly_once: bool) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (registry, _) = Registry::open(&World::real(), dir.path(), &Options::default()).unwrap();
        let registry = Arc::new(registry);
        let kind = Kind::Filestream(FilestreamState::default());
        let identifier = Identifier::Path("/x/a.log".into());
        let entry = Entry::new(kind, "jobs", &identifier, "/x/a.log".into(), Incarnation(7));
        let key = Arc::clone(&entry.key);
        registry.upsert(entry);
        let queue = Queue::new(Limits { events: 100, bytes: 1 << 20, flush: None });
        let ledger = Ledger::new(Arc::clone(&queue), Arc::clone(&registry), exactly_once);
        Rig { _dir: dir, registry, queue, ledger, key }
    }

    impl Rig {
        fn batch(&self, id: u64, from: u64, lens: &[u32]) -> Batch {
            let plain = source("/x/a.log");
            let keyed = pillion_event::Source {
                input: Arc::clone(&plain.input),
                path: plain.path.clone(),
                key: Arc::clone(&self.key),
                incarnation: plain.incarnation,
                stat: plain.stat.clone(),
                render: std::sync::OnceLock::new(),
                more: Default::default(),
            };
            Arc::into_inner(batch(&Arc::new(keyed), id, from, lens)).unwrap()
        }

        fn entry(&self) -> Arc<Entry> {
            self.registry.get(&self.key).unwrap()
        }
    }

    #[tokio::test]
    async fn a_batch_is_seen_only_after_its_range_is_durable() {
        let rig = rig(true);
        rig.ledger.accept(rig.batch(1, 0, &[10, 10]));
        assert_eq!((rig.queue.waiting(), rig.entry().intents.len()), (0, 0));
        assert!(rig.queue.free() < 1 << 20, "staged batches take space");
        rig.ledger.registrar_step().unwrap();
        assert_eq!(rig.queue.waiting(), 2);
        assert_eq!(
            rig.entry().intents,
            [Intent { from: 0, to: 20, read_ms: 0, guard: pillion_event::Guard::default() }]
        );
        let request = rig.queue.take(10, usize::MAX).await.unwrap();
        rig.ledger.settled(&request.slices[0], Fates::All(Fate::Acked));
        assert!(rig.ledger.is_settled() && !rig.ledger.is_synced());
        assert_eq!((rig.entry().offset, rig.entry().intents.len()), (20, 0));
        rig.ledger.flush();
        rig.ledger.registrar_step().unwrap();
        assert!(rig.ledger.is_synced());
        rig.ledger.registrar_step().unwrap();
        let writes = Writes { updates: 1, written: 2, failed: 0 };
        assert_eq!((rig.ledger.writes(), rig.registry.len()), (writes, 1), "a round without news isn't counted");
        assert_eq!(rig.ledger.inputs()[0].1.acked, 2);
        assert_eq!(rig.queue.free(), 1 << 20);
    }

    #[tokio::test]
    async fn without_exactly_once_a_batch_is_seen_at_once() {
        let rig = rig(false);
        rig.ledger.accept(rig.batch(1, 0, &[10]));
        assert_eq!((rig.queue.waiting(), rig.entry().intents.len(), rig.entry().offset), (1, 0, 0));
    }

    #[tokio::test]
    async fn a_batch_of_a_content_that_is_gone_is_sent_all_the_same() {
        let rig = rig(true);
        rig.ledger.accept(rig.batch(1, 0, &[10]));
        let mut anew = (*rig.entry()).clone();
        anew.incarnation = Incarnation(8);
        rig.registry.upsert(anew);
        rig.ledger.registrar_step().unwrap();
        let request = rig.queue.take(10, usize::MAX).await.unwrap();
        rig.ledger.settled(&request.slices[0], Fates::All(Fate::Acked));
        assert_eq!((rig.entry().offset, rig.entry().incarnation), (0, Incarnation(8)));
    }

    #[tokio::test]
    async fn the_registrar_ends_after_a_last_round() {
        let rig = rig(true);
        let ledger = Arc::clone(&rig.ledger);
        let thread = std::thread::spawn(move || ledger.registrar(Duration::from_secs(3600)));
        rig.ledger.accept(rig.batch(1, 0, &[10]));
        let request = rig.queue.take(10, usize::MAX).await.unwrap();
        rig.ledger.settled(&request.slices[0], Fates::All(Fate::Acked));
        rig.ledger.stop();
        thread.join().unwrap();
        assert!(rig.ledger.is_synced() || rig.ledger.registrar_step().is_ok());
        assert_eq!(rig.entry().offset, 10);
    }
}
