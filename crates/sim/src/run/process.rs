//! One process: the real harvester, ledger, registry and queue over the simulated world.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_engine::ledger::Ledger;
use pillion_event::{Batch, Incarnation};
use pillion_input::{Budget, Harvester, Limits, Order, Own, Step};
use pillion_queue::disk::{DiskOptions, DiskQueue};
use pillion_queue::{Limits as QueueLimits, Queue};
use pillion_registry::{Options, Registry};
use pillion_world::{Mono, World};

use crate::run::Plan;
use crate::run::inputs::Setup;
use crate::run::target::Worker;

/// Where the registry is.
pub(crate) const DATA: &str = "/data";

pub(crate) struct Process {
    pub harvester: Harvester,
    pub ledger: Arc<Ledger>,
    pub queue: Arc<Queue>,
    pub worker: Worker,
}

/// What a step of the reader did.
pub(crate) enum Read {
    /// It read a batch, which the ledger has now.
    Batch {
        /// The life of the content, and the first line of it: they tell which content it is.
        incarnation: Incarnation,
        first: Option<String>,
        /// For the trace.
        about: String,
    },
    /// It did something.
    Worked,
    /// It has nothing to do until then.
    Idle(Mono),
}

impl Process {
    /// Starts it; an error is what the user would be told (the disk fails).
    pub(crate) fn start(world: &World, plan: &Plan, setup: &Setup) -> Result<Process, String> {
        let (registry, _) = Registry::open(world, Path::new(DATA), &Options::default()).map_err(|e| e.to_string())?;
        let registry = Arc::new(registry);
        let queue = Queue::new(QueueLimits { events: 64, bytes: 64 << 10, flush: None });
        let ledger = if plan.disk {
            let options = disk_queue();
            let opened = DiskQueue::open(world, &Path::new(DATA).join("diskqueue"), &options);
            let opened = opened.map_err(|e| e.to_string())?;
            Ledger::with_disk(Arc::clone(&queue), Arc::clone(&registry), plan.exactly_once, opened, &options)
        } else {
            Ledger::new(Arc::clone(&queue), Arc::clone(&registry), plan.exactly_once)
        };
        // One order or the other: every promise holds in both.
        let order = if plan.seed.is_multiple_of(4) { Order::Oldest } else { Order::Fair };
        let limits = Limits { chunk: 4096, events: 16, descriptors: 4, deleted: 2, files: 1000, accounts: 1000, order };
        let own = Own { dirs: vec![DATA.into()], ..Own::default() };
        let harvester = Harvester::new(world.clone(), registry, setup.specs(plan)?, &own, limits, &Arc::default());
        let books = Arc::clone(&ledger);
        let harvester = harvester.asking(Arc::new(move |path, life| books.is_whole(path, life)));
        Ok(Process { harvester, ledger, queue, worker: Worker::default() })
    }

    /// One step of the reader.
    pub(crate) fn read(&mut self) -> Read {
        let budget = Budget { bytes: self.ledger.free(), events: self.ledger.free_events() };
        let step = self.harvester.step(budget);
        debug_assert_eq!(self.harvester.standing().unread_bytes, self.harvester.stats().unread);
        match step {
            Step::Batch(batch) => {
                debug_assert_eq!(batch.check(), Ok(()));
                let about = format!(
                    "batch {} {}..{} of {}{}",
                    batch.id.0,
                    batch.from,
                    batch.to,
                    batch.source.path,
                    if batch.replayed { ", replayed" } else { "" }
                );
                let read = Read::Batch { incarnation: batch.source.incarnation, first: first_line(&batch), about };
                self.ledger.accept(batch);
                read
            }
            Step::Worked => Read::Worked,
            Step::Full { until } | Step::Idle { until } => Read::Idle(until),
        }
    }
}

/// Files of a few batches, a few files, and little in memory: everything happens often.
fn disk_queue() -> DiskOptions {
    DiskOptions {
        path: None,
        max_size: 40_000,
        segment_size: 4000,
        read_ahead: 16,
        write_ahead: 64,
        retry: (Duration::from_millis(100), Duration::from_secs(1)),
    }
}

fn first_line(batch: &Batch) -> Option<String> {
    let text = String::from_utf8_lossy(batch.text(batch.events.first()?)).into_owned();
    text.split('\n').next().map(str::to_owned)
}
