//! The readers as a run sees them: the harvest thread, and where its batches go.
//!
//! Comes in: inputs. Goes out: batches into the ledger, and what the receipt says of reading. Tested end to end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pillion_engine::ledger::Ledger;
use pillion_engine::receipt::Unread;
use pillion_engine::run::{Reading, ReadingReport};
use pillion_event::Batch;
use pillion_input::{BatchSink, Budget, HarvestThread, Harvester, InputSpec, Limits, Own};
use pillion_queue::Queue;
use pillion_registry::Registry;
use pillion_world::World;

/// How long a report of the harvest thread is waited for: longer, and a file system hangs.
const ANSWER: Duration = Duration::from_millis(250);

pub(crate) struct Harvesting {
    thread: HarvestThread,
    drained: Arc<AtomicBool>,
}

struct Sink {
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
    drained: Arc<AtomicBool>,
}

impl BatchSink for Sink {
    fn budget(&self) -> Budget {
        Budget { bytes: self.ledger.free(), events: self.queue.free_events() }
    }

    fn push(&mut self, batch: Batch) {
        self.ledger.accept(batch);
    }

    fn drained(&mut self) {
        self.drained.store(true, Ordering::Release);
        self.ledger.tell();
    }
}

impl Harvesting {
    pub(crate) fn start(
        world: &World,
        registry: &Arc<Registry>,
        ledger: &Arc<Ledger>,
        queue: &Arc<Queue>,
        inputs: Vec<InputSpec>,
        own: &Own,
    ) -> std::io::Result<Arc<Harvesting>> {
        let limits = Limits { descriptors: descriptors(), ..Limits::default() };
        let harvester = Harvester::new(world.clone(), Arc::clone(registry), inputs, own, limits);
        let drained = Arc::new(AtomicBool::new(false));
        let sink = Sink { ledger: Arc::clone(ledger), queue: Arc::clone(queue), drained: Arc::clone(&drained) };
        let waker = HarvestThread::waker_for()?;
        let wakes = waker.clone();
        queue.on_space(Box::new(move || wakes.wake()));
        let thread = HarvestThread::spawn(world.clone(), harvester, Box::new(sink), waker, true)?;
        Ok(Arc::new(Harvesting { thread, drained }))
    }
}

/// Half of the descriptors that the process may open, at most: the rest is for connections and its own files.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(16, Limits::default().descriptors)
}

impl Reading for Harvesting {
    fn drain(&self) {
        self.thread.drain();
    }

    fn progress(&self) -> (bool, bool) {
        let drained = self.drained.load(Ordering::Acquire);
        (drained, drained)
    }

    fn report(&self) -> ReadingReport {
        let part = |path: &PathBuf, from, to| Unread { path: path.to_string_lossy().into_owned(), from, to };
        let Some(report) = self.thread.report(ANSWER) else {
            let path = "(unknown: a file system doesn't answer)".to_owned();
            return ReadingReport { unread: vec![Unread { path, from: 0, to: 0 }], lost: Vec::new() };
        };
        let unread = report.files.iter().filter(|f| f.len > f.pos);
        let mut unread: Vec<Unread> = unread.map(|f| part(&f.path, f.pos, f.len)).collect();
        if report.stats.refused > 0 {
            let path = format!("({} files beyond the limit of the table)", report.stats.refused);
            unread.push(Unread { path, from: 0, to: 0 });
        }
        let mut lost: Vec<_> = report.losses.iter().map(|l| part(&l.path, l.from, l.to.max(l.from + 1))).collect();
        if report.stats.unlisted_losses > 0 {
            lost.push(Unread { path: "(further files)".into(), from: 0, to: report.stats.unlisted_losses });
        }
        ReadingReport { unread, lost }
    }
}
