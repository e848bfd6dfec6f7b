//! One process: the real harvester, ledger, registry and queue over the simulated world.

use std::path::Path;
use std::sync::Arc;

use pillion_engine::ledger::Ledger;
use pillion_event::{InputDesc, InputKind};
use pillion_input::parse::{Chain, ChainOptions};
use pillion_input::{Budget, Glob, Harvester, Identity, InputSpec, Limits, Own, Step};
use pillion_queue::{Limits as QueueLimits, Queue};
use pillion_registry::{Options, Registry};
use pillion_world::{Mono, World};

use crate::run::Plan;
use crate::run::application::LOGS;
use crate::run::target::Worker;

const DATA: &str = "/data";

pub(crate) struct Process {
    pub harvester: Harvester,
    pub ledger: Arc<Ledger>,
    pub queue: Arc<Queue>,
    pub worker: Worker,
}

impl Process {
    /// Starts it; an error is what the user would be told (the disk fails).
    pub(crate) fn start(world: &World, plan: &Plan) -> Result<Process, String> {
        let (registry, _) = Registry::open(world, Path::new(DATA), &Options::default()).map_err(|e| e.to_string())?;
        let registry = Arc::new(registry);
        let queue = Queue::new(QueueLimits { events: 64, bytes: 64 << 10, flush: None });
        let ledger = Ledger::new(Arc::clone(&queue), Arc::clone(&registry), plan.exactly_once);
        let limits = Limits { chunk: 4096, events: 16, descriptors: 4, deleted: 2, files: 1000, accounts: 1000 };
        let own = Own { dirs: vec![DATA.into()], files: Vec::new() };
        let harvester = Harvester::new(world.clone(), registry, vec![input(plan)?], &own, limits);
        Ok(Process { harvester, ledger, queue, worker: Worker::default() })
    }

    /// One step of the reader. When it has nothing to do: until when.
    pub(crate) fn read(&mut self) -> Option<Mono> {
        let budget = Budget { bytes: self.ledger.free(), events: self.queue.free_events() };
        match self.harvester.step(budget) {
            Step::Batch(batch) => {
                debug_assert_eq!(batch.check(), Ok(()));
                self.ledger.accept(batch);
                None
            }
            Step::Worked => None,
            Step::Full { until } | Step::Idle { until } => Some(until),
        }
    }
}

fn input(plan: &Plan) -> Result<InputSpec, String> {
    let desc = InputDesc {
        kind: InputKind::Filestream,
        id: "jobs".into(),
        tags: Vec::new(),
        fields: Default::default(),
        root_fields: Default::default(),
        pipeline: None,
        index: None,
        service_type: None,
        document_type: "log".into(),
    };
    let glob = Glob::new(format!("{LOGS}/*.log*").as_ref(), false).map_err(|e| e.to_string())?;
    let mut spec = InputSpec::new(Arc::new(desc), Arc::new(Chain::new(ChainOptions::default())), vec![glob]);
    spec.identity = match plan.seed % 2 {
        0 => Identity::Native,
        _ => Identity::Fingerprint { offset: 0, length: 64, growing: true },
    };
    Ok(spec)
}
