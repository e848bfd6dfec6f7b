//! The readers as a run sees them: the harvest thread, the thread of standard input, and where their batches go.
//!
//! Comes in: inputs. Goes out: batches into the ledger, the end of standard input, and what the receipt says of reading.
//! Always holds: reading has ended only when each of the threads says so. Tested end to end.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pillion_engine::drain::Cause;
use pillion_engine::ledger::Ledger;
use pillion_engine::receipt::Unread;
use pillion_engine::run::{Ending, Reading, ReadingReport};
use pillion_event::{Batch, Incarnation, InputKind};
use pillion_input::{
    BatchSink, Budget, Handle, HarvestThread, Harvester, InputId, InputSpec, Limits, Own, Report, StdinThread, Waker,
};
use pillion_queue::Queue;
use tokio::sync::mpsc;

use crate::discover::Inputs;
use crate::seat::Seat;

/// How long a report of a reading thread is waited for: longer, and a file system hangs.
const ANSWER: Duration = Duration::from_millis(250);

/// What readers need beside their inputs.
pub(crate) struct Place<'a> {
    pub(crate) seat: &'a Seat,
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) queue: &'a Arc<Queue>,
    /// Told when standard input ends.
    pub(crate) tell: &'a mpsc::Sender<Ending>,
}

pub(crate) struct Harvesting {
    files: Option<Handle>,
    stdin: Option<Handle>,
    /// What the two said when they had read everything.
    last: [Arc<OnceLock<Report>>; 2],
    /// Threads that haven't read everything to its end.
    reading: Arc<AtomicUsize>,
}

struct Sink {
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
    reading: Arc<AtomicUsize>,
    /// Lives of files whose lines another process may have sent.
    believed: Arc<HashSet<Incarnation>>,
    last: Arc<OnceLock<Report>>,
    /// Where to say that this was the end of standard input.
    ends: Option<mpsc::Sender<Ending>>,
}

impl BatchSink for Sink {
    fn budget(&self) -> Budget {
        Budget { bytes: self.ledger.free(), events: self.queue.free_events() }
    }

    fn push(&mut self, mut batch: Batch) {
        batch.replayed |= self.believed.contains(&batch.source.incarnation);
        self.ledger.accept(batch);
    }

    fn drained(&mut self, report: Report) {
        let _ = self.last.set(report);
        self.reading.fetch_sub(1, Ordering::AcqRel);
        self.ledger.tell();
        if let Some(tell) = self.ends.take() {
            let _ = tell.blocking_send(Ending::Drain(Cause::StdinEnd));
        }
    }
}

impl Harvesting {
    /// `live`: further inputs may come, though there may be none yet.
    pub(crate) fn start(
        place: &Place<'_>,
        inputs: Vec<InputSpec>,
        own: &Own,
        live: bool,
    ) -> io::Result<Arc<Harvesting>> {
        let (mut stdin, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|i| i.desc.kind == InputKind::Stdin);
        let stdin = stdin.pop();
        let files = live || !inputs.is_empty();
        let reading = Arc::new(AtomicUsize::new(usize::from(stdin.is_some()) + usize::from(files)));
        let last: [Arc<OnceLock<Report>>; 2] = Default::default();
        let sink = |last: &Arc<OnceLock<Report>>, ends| {
            let (ledger, queue) = (Arc::clone(place.ledger), Arc::clone(place.queue));
            let believed = Arc::clone(&place.seat.believed);
            Box::new(Sink { ledger, queue, reading: Arc::clone(&reading), believed, last: Arc::clone(last), ends })
        };
        let mut wakers: Vec<Waker> = Vec::new();
        let mut waker = || Waker::new().inspect(|waker| wakers.push(waker.clone()));
        let for_files = files.then(&mut waker).transpose()?;
        let for_stdin = stdin.is_some().then(&mut waker).transpose()?;
        place.queue.on_space(Box::new(move || wakers.iter().for_each(Waker::wake)));
        let files = match for_files {
            None => None,
            Some(waker) => {
                let limits = Limits { descriptors: descriptors(), ..Limits::default() };
                let Seat { world, registry, watches, .. } = place.seat;
                let harvester = Harvester::new(world.clone(), Arc::clone(registry), inputs, own, limits);
                Some(HarvestThread::spawn(world.clone(), harvester, sink(&last[0], None), waker, *watches)?)
            }
        };
        let stdin = match stdin.zip(for_stdin) {
            None => None,
            Some((spec, waker)) => {
                let stream = io::stdin().as_fd().try_clone_to_owned()?;
                let sink = sink(&last[1], Some(place.tell.clone()));
                Some(StdinThread::spawn(place.seat.world.clone(), &spec, stream, sink, waker)?)
            }
        };
        Ok(Arc::new(Harvesting { files, stdin, last, reading }))
    }
}

impl Harvesting {
    /// Stops the threads, without waiting for them.
    pub(crate) fn quit(&self) {
        self.files.iter().chain(&self.stdin).for_each(Handle::quit);
    }
}

impl Inputs for Harvesting {
    fn add(&self, spec: InputSpec) -> Option<Receiver<Option<InputId>>> {
        self.files.as_ref().map(|thread| thread.add(spec))
    }

    fn end(&self, id: InputId) {
        self.files.iter().for_each(|thread| thread.end(id));
    }
}

/// Half of the descriptors that the process may open, at most: the rest is for connections and its own files.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(16, Limits::default().descriptors)
}

impl Reading for Harvesting {
    fn drain(&self) {
        self.files.iter().chain(&self.stdin).for_each(Handle::drain);
    }

    fn progress(&self) -> (bool, bool) {
        let drained = self.reading.load(Ordering::Acquire) == 0;
        (drained, drained)
    }

    fn report(&self) -> ReadingReport {
        let mut said = ReadingReport::default();
        for (thread, last) in [&self.files, &self.stdin].into_iter().zip(&self.last) {
            let Some(thread) = thread else { continue };
            // A thread that doesn't answer any more has said at the end of its drain what became of everything.
            match (thread.report(ANSWER), last.get()) {
                (Some(report), _) => add(&mut said, &report),
                (None, Some(report)) => add(&mut said, report),
                (None, None) => {
                    let path = format!("{} (its file system doesn't answer)", thread.at().display());
                    said.unread.push(Unread { path, from: 0, to: 0 });
                }
            }
        }
        said
    }
}

/// Adds what a thread has to say.
fn add(said: &mut ReadingReport, report: &Report) {
    let part = |path: &Path, from, to| Unread { path: path.to_string_lossy().into_owned(), from, to };
    for f in report.files.iter().filter(|f| f.len > f.pos) {
        let list = if f.denied { &mut said.unreadable } else { &mut said.unread };
        list.push(part(&f.path, f.pos, f.len));
    }
    let filtered = report.files.iter().filter(|f| f.tally.filtered > 0);
    said.filtered.extend(filtered.map(|f| (f.path.to_string_lossy().into_owned(), f.tally.filtered)));
    if report.stats.refused > 0 {
        let path = format!("({} files beyond the limit of the table)", report.stats.refused);
        said.unreadable.push(Unread { path, from: 0, to: 0 });
    }
    said.lost.extend(report.losses.iter().map(|l| part(&l.path, l.from, l.to.max(l.from + 1))));
    if report.stats.unlisted_losses > 0 {
        said.lost.push(Unread { path: "(further files)".into(), from: 0, to: report.stats.unlisted_losses });
    }
}
