//! What a run says of itself while it lasts: the HTTP endpoint (`http.*`), and the line of metrics in the log
//! (`logging.metrics.*`).
//!
//! Comes in: the parts of a run that count. Goes out: answers, log lines. Always holds: nothing listens unless it is asked for;
//! whoever asks makes no other thread wait for longer than a few numbers are read. Bytes are looked for where they are to be
//! read before where they are on their way: they may be counted twice, and never not at all, so that a backlog of 0 is true.
//! Tested by the command line's tests (`tests/run/monitoring.rs`), and with promtool by `cargo xtask e2e metrics`.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use pillion_config::{Compat, Config};
use pillion_engine::account::Counts;
use pillion_engine::ledger::Ledger;
use pillion_event::InputDesc;
use pillion_input::Standing;
use pillion_output::{OutputContext, Stats};
use pillion_queue::Queue;
use pillion_registry::Registry;
use pillion_telemetry::{
    About, Answers, Endpoint, Input, Lines, Output, Place as Where, Processes, Queued, Read, Registered, Settings,
    Snapshot, log_metrics,
};
use pillion_world::{Mono, World};
use tokio::task::AbortHandle;

use crate::assemble::Assembled;
use crate::company::Part;
use crate::harvesting::{self, Harvesting};
use crate::seat::Seat;
use crate::work::fail;

/// What was asked for, and the place that is taken for it.
pub(crate) struct Monitor {
    endpoint: Option<Endpoint>,
    /// Lines of metrics.
    lines: Option<Lines>,
    /// The output's name.
    output: &'static str,
    /// How many inputs the run begins with, and their types.
    inputs: u64,
    kinds: Vec<&'static str>,
    /// `monitoring.cluster_uuid`.
    cluster: String,
}

/// Ends what it stands for when it is dropped.
pub(crate) struct Monitoring(Vec<AbortHandle>);

impl Drop for Monitoring {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Monitor {
    /// Takes the endpoint's place, before anything else of the run begins. A run in a dead one's seat says nothing: the
    /// summary of all of them does.
    ///
    /// # Errors
    /// An exit code, when the place can't be had; why is said.
    pub(crate) async fn open(config: &Config, parts: &Assembled, seat: &Seat) -> Result<Monitor, u8> {
        let Settings { http, metrics_period, cluster } = &parts.monitoring;
        let name = seat.part.as_ref().and_then(|part| part.name.as_ref());
        let mut monitor = Monitor {
            endpoint: None,
            lines: metrics_period.filter(|_| seat.is_own()).map(|period| Lines {
                period,
                flat: config.compat() == Compat::V5,
                of: name.cloned(),
            }),
            output: parts.output.name(),
            inputs: parts.inputs.len() as u64,
            kinds: parts
                .inputs
                .iter()
                .map(|input| input.desc.kind.as_str())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            cluster: cluster.clone(),
        };
        if let Some(place) = http.as_ref().filter(|_| seat.is_own() && name.is_none()) {
            let endpoint = Endpoint::open(&World::real(), place).await.map_err(|e| refused(config, place, &e))?;
            tracing::info!("Metrics endpoint listening on: {} (configured: {place})", endpoint.place());
            monitor.endpoint = Some(endpoint);
        }
        Ok(monitor)
    }

    /// Begins to answer and to tell.
    pub(crate) fn begin(
        self,
        place: &harvesting::Place<'_>,
        context: &OutputContext,
        harvesting: &Arc<Harvesting>,
    ) -> Monitoring {
        let further = place.seat.part.as_ref().and_then(|part| Some((part, part.name.as_deref()?)));
        if self.endpoint.is_none() && self.lines.is_none() && further.is_none() {
            return Monitoring(Vec::new());
        }
        let source = Arc::new(Source::new(&self, place, context, harvesting));
        if let Some((part, name)) = further {
            part.says(name, Arc::clone(&source) as Arc<dyn Answers>);
        }
        let mut tasks = Vec::new();
        if let Some(endpoint) = self.endpoint {
            tasks.push(tokio::spawn(endpoint.serve(Arc::clone(&source) as Arc<dyn Answers>)).abort_handle());
        }
        if let Some(lines) = self.lines {
            let telling = async move { log_metrics(lines, source.about(), || source.snapshot()).await };
            tasks.push(tokio::spawn(telling).abort_handle());
        }
        Monitoring(tasks)
    }
}

/// Says, as Filebeat does, why the place can't be had.
fn refused(config: &Config, place: &Where, e: &io::Error) -> u8 {
    let key = match place {
        Where::Port(_) => "http.port",
        Where::Socket(_) => "http.host",
    };
    let error = config.root().error(key, format!("can't listen at {place}: {e}"), remedy(place, e.kind()));
    fail(&format!("could not start the HTTP server for the API: {}", error.one_line()))
}

fn remedy(place: &Where, kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as E;
    match (kind, place) {
        (E::AddrInUse, Where::Port(_)) => {
            "another process listens there, in this pod or on this host: give each its own http.port"
        }
        (E::AddrInUse, Where::Socket(_)) => "another process listens there: give each a socket of its own",
        (E::AlreadyExists, _) => "remove what is there, or name another path",
        (E::AddrNotAvailable, _) => "http.host is no address of this machine: take one, or 0.0.0.0 for all",
        (E::PermissionDenied, Where::Port(_)) => "this user may not have that port: take one from 1024 on",
        (E::PermissionDenied, Where::Socket(_)) => "this user may not write to that folder: name another path",
        (E::NotFound, _) => "the folder of the socket isn't there: make it, or name another path",
        _ => "give another http.host or http.port, or set http.enabled: false",
    }
}

/// Where the numbers come from.
struct Source {
    world: World,
    began: Mono,
    about: About,
    inputs: u64,
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
    stats: Arc<Stats>,
    harvesting: Arc<Harvesting>,
    registry: Arc<Registry>,
    processes: Processes,
    /// One of several runs: the first one's endpoint answers for all.
    part: Option<Part>,
}

impl Source {
    fn new(
        monitor: &Monitor,
        place: &harvesting::Place<'_>,
        context: &OutputContext,
        harvesting: &Arc<Harvesting>,
    ) -> Source {
        let (world, agent) = (World::real(), &context.agent);
        let about = About {
            name: agent.name.clone(),
            hostname: agent.hostname.clone(),
            version: agent.version.clone(),
            uuid: agent.id.clone(),
            ephemeral_id: agent.ephemeral_id.clone(),
            output: monitor.output,
            ids: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
            queue: if place.ledger.disk_queue().is_some() { "disk" } else { "mem" },
            kinds: monitor.kinds.clone(),
            cluster: monitor.cluster.clone(),
            host: pillion_process::machine(&world),
        };
        Source {
            began: world.clock.mono(),
            world,
            about,
            inputs: monitor.inputs,
            ledger: Arc::clone(place.ledger),
            queue: Arc::clone(place.queue),
            stats: Arc::clone(&context.stats),
            harvesting: Arc::clone(harvesting),
            registry: Arc::clone(&place.seat.registry),
            processes: Processes::default(),
            part: place.seat.part.clone().filter(|part| part.name.is_none()),
        }
    }

    /// What was read, and what is there to read.
    fn read(&self, reading: &Standing, counts: &Counts) -> Read {
        let (scans, reloads) = self.harvesting.looks();
        Read {
            files: reading.files,
            open: reading.open,
            opened: reading.opened,
            refused: reading.refused,
            renamed: reading.renamed,
            truncated: reading.truncated,
            forgotten: reading.forgotten,
            scans,
            reloads,
            bytes: counts.bytes,
            events: counts.events,
            filtered: reading.filtered,
            limited: reading.limited,
            lost_datagrams: reading.datagrams,
            lost_bytes: counts.lost_bytes + reading.lost,
            unread_bytes: reading.unread_bytes,
            unread_files: reading.unread_files,
            hung: self.harvesting.hung().len() as u64,
        }
    }

    /// Why somebody who waits for this to work has to wait.
    fn unready(&self, reached: bool, nothing_to_send: bool) -> Vec<String> {
        let mut why = Vec::new();
        if !reached && !nothing_to_send {
            let last = self.stats.last_error().map(|e| format!(": {e}")).unwrap_or_default();
            why.push(format!("the output {} hasn't been reached yet{last}", self.about.output));
        }
        if let Some(e) = self.ledger.registry_error() {
            why.push(format!("the registry can't be written: {e}"));
        }
        why.extend(
            self.harvesting.hung().iter().map(|path| format!("{}: its file system doesn't answer", path.display())),
        );
        why
    }
}

impl Answers for Source {
    fn about(&self) -> &About {
        &self.about
    }

    fn snapshot(&self) -> Snapshot {
        // In this order: see the module's header.
        let reading = self.harvesting.standing();
        let (counts, on_way) = self.ledger.standing();
        let writes = self.ledger.writes();
        let (events, bytes, limit_events, limit_bytes) = match self.ledger.disk_queue() {
            Some(disk) => (disk.events, disk.bytes, 0, disk.limit),
            None => {
                let ((events, bytes), limits) = (self.queue.held(), self.queue.limits());
                (events as u64, bytes as u64, limits.events as u64, limits.bytes as u64)
            }
        };
        let (stats, reached) = (&self.stats, self.stats.was_reached());
        Snapshot {
            uptime_ms: self.world.clock.mono().since(self.began).as_millis() as u64,
            inputs: self.inputs.saturating_add_signed(self.harvesting.more_inputs()),
            read: self.read(&reading, &counts),
            queued: Queued {
                events,
                bytes,
                waiting: self.queue.waiting() as u64,
                limit_events,
                limit_bytes,
                unacked_bytes: on_way.bytes,
                unacked_files: on_way.read_files,
            },
            output: Output {
                acked: counts.acked - counts.duplicates,
                duplicates: counts.duplicates,
                dead_lettered: counts.dead_lettered,
                dropped: counts.dropped,
                retried: stats.retried.get(),
                too_many: stats.too_many.get(),
                requests: stats.requests.get(),
                failed: stats.failed.get(),
                bytes: stats.bytes.get(),
                reached,
            },
            registered: Registered {
                entries: self.registry.len() as u64,
                updates: writes.updates,
                written: writes.written,
                failed: writes.failed,
            },
            process: self.processes.now(&self.world),
            unready: self.unready(reached, counts.unacked() == 0),
        }
    }

    fn further(&self) -> Vec<(String, Arc<dyn Answers>)> {
        self.part.as_ref().map(Part::others).unwrap_or_default()
    }

    fn inputs(&self) -> Vec<Input> {
        let one = |(desc, counts): (Arc<InputDesc>, Counts)| Input {
            id: desc.id.clone(),
            kind: desc.kind.as_str(),
            bytes: counts.bytes,
            events: counts.events,
            acked: counts.acked,
            refused: counts.dropped + counts.dead_lettered,
        };
        self.ledger.inputs().into_iter().map(one).collect()
    }
}
