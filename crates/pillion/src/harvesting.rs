//! The readers as a run sees them: the harvest threads, the threads of standard input and of the network, and where their batches go.
//!
//! Comes in: inputs. Goes out: batches into the ledger, the end of standard input, and what the receipt says of reading.
//! Always holds: reading has ended only when each of the threads says so; a thread that hangs in its file system holds up
//! none of the others, and nobody waits for it: it is named, with what it had still to read.
//! Tested in `harvesting/tests.rs` and end to end.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pillion_engine::account::Counts;
use pillion_engine::drain::Cause;
use pillion_engine::ledger::Ledger;
use pillion_engine::receipt::Unread;
use pillion_engine::run::{Ending, Reading, ReadingReport};
use pillion_event::{Batch, Incarnation, InputKind};
use pillion_input::net::{Missed, NetThread};
use pillion_input::{
    BatchSink, Budget, Division, Handle, HarvestThread, Harvester, InputId, InputSpec, Limits, MAX_SHARES, Mounts,
    Numbers, Own, Refused, Report, Share, Shares, Standing, StdinThread, Tally, Waker,
};
use pillion_queue::Queue;
use pillion_world::World;
use tokio::sync::mpsc;

use crate::discover::Inputs;
use crate::seat::Seat;
use crate::sharing::Ours;

/// How long a report of a reading thread is waited for: longer, and a file system hangs.
const ANSWER: Duration = Duration::from_millis(250);

/// How often it is looked whether threads have let go of files.
const RELEASED: Duration = Duration::from_millis(5);

/// What readers need beside their inputs.
pub(crate) struct Place<'a> {
    pub(crate) seat: &'a Seat,
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) queue: &'a Arc<Queue>,
    /// Told when standard input ends.
    pub(crate) tell: &'a mpsc::Sender<Ending>,
}

/// A reading thread, and what the run knows of it.
struct Reader {
    thread: Handle,
    /// Where the network file systems are mounted that it reads.
    mounts: Vec<PathBuf>,
    /// What it said when it had read everything.
    last: Arc<OnceLock<Report>>,
}

/// Which inputs may come while others are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Later {
    /// Some that read files.
    pub(crate) files: bool,
    /// Some that listen.
    pub(crate) sockets: bool,
}

impl Later {
    /// When files of inputs are looked at again, and when containers are discovered.
    pub(crate) fn of(reload: bool, discovery: bool) -> Later {
        Later { files: reload || discovery, sockets: reload }
    }
}

pub(crate) struct Harvesting {
    world: World,
    /// First those of files, standard input last.
    readers: Vec<Reader>,
    /// The one of the network among them.
    net: Option<usize>,
    division: Division,
    /// How many more inputs there are than at the start.
    more: AtomicI64,
    /// How often files of inputs were looked at, and how often one had changed.
    looks: [AtomicU64; 2],
    draining: AtomicBool,
    /// Threads that haven't read everything to its end.
    reading: Arc<AtomicUsize>,
    /// Where threads hang.
    hung: Mutex<Vec<PathBuf>>,
}

struct Sink {
    ledger: Arc<Ledger>,
    reading: Arc<AtomicUsize>,
    /// Lives of files whose lines another process may have sent.
    believed: Arc<HashSet<Incarnation>>,
    /// Which files are ours, when they are shared.
    ours: Option<Arc<Ours>>,
    last: Arc<OnceLock<Report>>,
    /// Where to say that this was the end of standard input.
    ends: Option<mpsc::Sender<Ending>>,
}

impl BatchSink for Sink {
    fn budget(&self) -> Budget {
        if self.ours.as_ref().is_some_and(|ours| !ours.holds()) {
            return Budget { bytes: 0, events: 0 };
        }
        Budget { bytes: self.ledger.free(), events: self.ledger.free_events() }
    }

    fn push(&mut self, mut batch: Batch) {
        batch.replayed |= self.believed.contains(&batch.source.incarnation);
        if let Some(ours) = &self.ours {
            let path = Path::new(&*batch.source.path);
            if !ours.is_ours(path) {
                return; // read in the moment in which it was given away: whoever has it reads it again
            }
        }
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
    /// `later`: what may come, though there may be none yet.
    pub(crate) fn start(
        place: &Place<'_>,
        inputs: Vec<InputSpec>,
        limits: Limits,
        own: &Own,
        later: Later,
    ) -> io::Result<Arc<Harvesting>> {
        let (mut stdin, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|i| i.desc.kind == InputKind::Stdin);
        let stdin = stdin.pop();
        let (net, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|i| i.desc.kind.is_network());
        let mut division = Division::of(&place.seat.world, &Mounts::read(&place.seat.world), inputs, own, later.files);
        division.shares.retain(|share| later.files || !share.inputs.is_empty());
        say_how(&division);
        let listens = later.sockets || !net.is_empty();
        let threads = division.shares.len() + usize::from(stdin.is_some()) + usize::from(listens);
        let wakers: Vec<Waker> = (0..threads).map(|_| Waker::new()).collect::<io::Result<_>>()?;
        let all = wakers.clone();
        place.ledger.on_space(Box::new(move || all.iter().for_each(Waker::wake)));
        let mut start =
            Start { place, limits, numbers: Arc::default(), reading: Arc::new(AtomicUsize::new(threads)), wakers };
        let mut readers = Vec::with_capacity(threads);
        let shares = division.shares.len();
        // None reads before all are made: each has to know of the others before it deletes anything.
        let made: Vec<_> = division.shares.iter_mut().map(|share| start.harvester(share, shares)).collect();
        for (number, (share, harvester)) in division.shares.iter().zip(made).enumerate() {
            readers.push(start.files(share, harvester, number)?);
        }
        if listens {
            readers.push(start.net(net)?);
        }
        readers.extend(stdin.map(|spec| start.stdin(&spec)).transpose()?);
        Ok(Arc::new(Harvesting {
            world: place.seat.world.clone(),
            readers,
            net: listens.then_some(shares),
            division,
            more: AtomicI64::new(0),
            looks: [AtomicU64::new(0), AtomicU64::new(0)],
            draining: AtomicBool::new(false),
            reading: start.reading,
            hung: Mutex::default(),
        }))
    }
}

impl Harvesting {
    /// Everything is looked at once more and read to its end.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.readers.iter().for_each(|reader| reader.thread.drain());
    }

    /// Whether the end has begun: no input comes any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// How many more inputs there are than at the start; negative: fewer.
    pub(crate) fn more_inputs(&self) -> i64 {
        self.more.load(Ordering::Relaxed)
    }

    /// Files of inputs were looked at; so many had changed.
    pub(crate) fn looked(&self, changed: usize) {
        let [scans, reloads] = &self.looks;
        scans.fetch_add(1, Ordering::Relaxed);
        reloads.fetch_add(changed as u64, Ordering::Relaxed);
    }

    /// How often files of inputs were looked at, and how often one had changed.
    pub(crate) fn looks(&self) -> (u64, u64) {
        let [scans, reloads] = &self.looks;
        (scans.load(Ordering::Relaxed), reloads.load(Ordering::Relaxed))
    }

    /// Ends the inputs with these labels where they stand, and begins others, which go on with their files; where to hear what
    /// couldn't be begun. Inputs of one group are read by one thread, and it is told of both at once.
    pub(crate) fn replace(&self, go: &[u64], come: Vec<InputSpec>) -> Vec<Receiver<Refused>> {
        let mut parts: Vec<Vec<InputSpec>> = self.readers.iter().map(|_| Vec::new()).collect();
        self.more.fetch_add(come.len() as i64 - go.len() as i64, Ordering::Relaxed);
        for spec in come {
            let net = self.net.filter(|_| spec.desc.kind.is_network());
            let home = net.unwrap_or_else(|| self.division.home(&spec));
            parts.get_mut(home).into_iter().for_each(|part| part.push(spec.clone()));
        }
        let concerned = self.readers.iter().zip(parts).filter(|(_, part)| !go.is_empty() || !part.is_empty());
        concerned.map(|(reader, part)| reader.thread.replace(go.to_vec(), part)).collect()
    }

    /// So many of the inputs that were to come couldn't be begun.
    pub(crate) fn not_begun(&self, inputs: usize) {
        self.more.fetch_sub(inputs as i64, Ordering::Relaxed);
    }

    /// More files may be ours.
    pub(crate) fn shares_grew(&self) {
        self.readers.iter().for_each(|reader| reader.thread.shares_grew());
    }

    /// Lets go of the files at such paths, and waits until nothing of them comes any more, or for this long.
    pub(crate) async fn release(&self, which: Arc<dyn Fn(&Path) -> bool + Send + Sync>, limit: Option<Duration>) {
        let mut answers: Vec<_> = self
            .readers
            .iter()
            .map(|reader| {
                let which = Arc::clone(&which);
                reader.thread.release(move |path| which(path))
            })
            .collect();
        let begin = self.world.clock.mono();
        // A thread that has ended answers nothing, and reads nothing either.
        answers.retain(|answer| matches!(answer.try_recv(), Err(TryRecvError::Empty)));
        while !answers.is_empty() && limit.is_none_or(|limit| self.world.clock.mono().since(begin) < limit) {
            tokio::time::sleep(RELEASED).await;
            answers.retain(|answer| matches!(answer.try_recv(), Err(TryRecvError::Empty)));
        }
    }

    /// Stops the threads, without waiting for them.
    pub(crate) fn quit(&self) {
        self.readers.iter().for_each(|reader| reader.thread.quit());
    }

    /// At which piece of work each thread is, and the path that it turned to last.
    pub(crate) fn work(&self) -> Vec<(Option<u64>, PathBuf)> {
        self.readers.iter().map(|reader| (reader.thread.work(), reader.thread.at())).collect()
    }

    /// Where all threads together stand.
    pub(crate) fn standing(&self) -> Standing {
        let mut all = Standing::default();
        self.readers.iter().for_each(|reader| all.add(&reader.thread.standing()));
        all
    }

    /// Notes where threads hang.
    pub(crate) fn set_hung(&self, paths: Vec<PathBuf>) {
        *self.hung.lock().unwrap_or_else(PoisonError::into_inner) = paths;
    }

    /// The paths at which threads hang: their file systems don't answer.
    pub(crate) fn hung(&self) -> Vec<PathBuf> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says which mounts are read apart.
fn say_how(division: &Division) {
    for share in division.shares.iter().filter(|_| division.shares.len() > 1) {
        let mounts: Vec<_> = share.mounts.iter().map(|point| point.display().to_string()).collect();
        let mounts = if mounts.is_empty() { "local files".into() } else { mounts.join(", ") };
        tracing::info!(inputs = share.inputs.len(), mounts, "read by a thread of their own");
    }
    if division.crowded > 0 {
        tracing::warn!(
            threads = MAX_SHARES,
            mounts = division.crowded,
            "there are more network mounts than threads to read them: the last ones share a thread, and one of them that \
             hangs holds up the others of them"
        );
    }
}

/// What starts the threads of a run.
struct Start<'a> {
    place: &'a Place<'a>,
    /// Of all threads together.
    limits: Limits,
    numbers: Arc<Numbers>,
    reading: Arc<AtomicUsize>,
    /// One for each thread that is still to be started.
    wakers: Vec<Waker>,
}

impl Start<'_> {
    fn sink(&self, last: &Arc<OnceLock<Report>>, ends: Option<mpsc::Sender<Ending>>) -> Box<Sink> {
        let ledger = Arc::clone(self.place.ledger);
        let (reading, believed) = (Arc::clone(&self.reading), Arc::clone(&self.place.seat.believed));
        let ours = self.place.seat.replica.as_ref().map(|replica| Arc::clone(replica.ours()));
        Box::new(Sink { ledger, reading, believed, ours, last: Arc::clone(last), ends })
    }

    fn waker(&mut self) -> io::Result<Waker> {
        self.wakers.pop().map_or_else(Waker::new, Ok)
    }

    /// The harvester of one of so many shares.
    fn harvester(&self, share: &mut Share, shares: usize) -> Harvester {
        let limits = Limits { descriptors: (self.limits.descriptors / shares).max(2), ..self.limits };
        let (world, registry) = (self.place.seat.world.clone(), Arc::clone(&self.place.seat.registry));
        let inputs = std::mem::take(&mut share.inputs);
        let harvester = Harvester::new(world, registry, inputs, &share.own, limits, &self.numbers);
        let harvester = match &self.place.seat.replica {
            Some(replica) => harvester.sharing(Arc::clone(replica.ours()) as Arc<dyn Shares>),
            None => harvester,
        };
        let ledger = Arc::clone(self.place.ledger);
        harvester.asking(Arc::new(move |path, life| ledger.is_whole(path, life)))
    }

    /// The thread of a share.
    fn files(&mut self, share: &Share, harvester: Harvester, number: usize) -> io::Result<Reader> {
        let (waker, last) = (self.waker()?, Arc::default());
        let world = self.place.seat.world.clone();
        let name = if number == 0 { "harvest".into() } else { format!("harvest-{number}") };
        // No watch tells what other machines do.
        let watch = share.mounts.is_empty() && self.place.seat.watches;
        let thread = HarvestThread::spawn(&name, world, harvester, self.sink(&last, None), waker, watch)?;
        Ok(Reader { thread, mounts: share.mounts.clone(), last })
    }

    fn net(&mut self, specs: Vec<InputSpec>) -> io::Result<Reader> {
        let (waker, last) = (self.waker()?, Arc::default());
        let sink = self.sink(&last, None);
        let thread = NetThread::spawn(self.place.seat.world.clone(), specs, sink, waker, &self.numbers)?;
        Ok(Reader { thread, mounts: Vec::new(), last })
    }

    fn stdin(&mut self, spec: &InputSpec) -> io::Result<Reader> {
        let (waker, last) = (self.waker()?, Arc::default());
        let stream = io::stdin().as_fd().try_clone_to_owned()?;
        let sink = self.sink(&last, Some(self.place.tell.clone()));
        let thread = StdinThread::spawn(self.place.seat.world.clone(), spec, stream, sink, waker, &self.numbers)?;
        Ok(Reader { thread, mounts: Vec::new(), last })
    }
}

impl Inputs for Harvesting {
    fn add(&self, spec: InputSpec) -> Option<Receiver<Option<InputId>>> {
        self.more.fetch_add(1, Ordering::Relaxed);
        self.readers.get(self.division.home(&spec)).map(|reader| reader.thread.add(spec))
    }

    fn end(&self, id: InputId) {
        self.more.fetch_sub(1, Ordering::Relaxed);
        // A thread that doesn't know it has nothing to do.
        self.readers.iter().for_each(|reader| reader.thread.end(id));
    }
}

impl Reading for Harvesting {
    fn drain(&self, _: &Cause) {
        self.begin_drain();
    }

    fn progress(&self) -> (bool, bool) {
        let drained = self.reading.load(Ordering::Acquire) == 0;
        (drained, drained)
    }

    fn report(&self) -> ReadingReport {
        let mut said = ReadingReport::default();
        let asked: Vec<_> = self.readers.iter().map(|reader| (reader, reader.thread.ask())).collect();
        // All of them have the same time: however many hang, it is as long as for one.
        let until = self.world.clock.mono().plus(ANSWER);
        for (reader, answer) in asked {
            let answer = answer.recv_timeout(until.since(self.world.clock.mono())).ok();
            // A thread that doesn't answer any more has said at the end of its drain what became of everything.
            match answer.as_ref().or(reader.last.get()) {
                Some(report) => add(&mut said, report),
                None => said.unread.extend(reader.unheard()),
            }
        }
        said
    }
}

impl Reader {
    /// What is known of a thread that doesn't answer: where it hangs, and what it had still to read.
    fn unheard(&self) -> Vec<Unread> {
        let mut path = format!("{} (its file system doesn't answer)", self.thread.at().display());
        if let Some(first) = self.mounts.first() {
            let more = if self.mounts.len() > 1 { ", …" } else { "" };
            let _ = write!(path, "; what came to {}{more} since isn't known", first.display());
        }
        let behind = self.thread.behind().into_iter().filter(|b| b.to > b.from);
        let behind = behind.map(|b| Unread { path: b.path.to_string(), from: b.from, to: b.to });
        std::iter::once(Unread { path, from: 0, to: 0 }).chain(behind).collect()
    }
}

/// Adds what a thread has to say.
fn add(said: &mut ReadingReport, report: &Report) {
    let part = |path: &Path, from, to| Unread { path: path.to_string_lossy().into_owned(), from, to };
    for f in report.files.iter().filter(|f| f.len > f.pos) {
        let list = if f.denied { &mut said.unreadable } else { &mut said.unread };
        list.push(part(&f.path, f.pos, f.len));
    }
    let left_out = report.files.iter().map(|f| (&f.path, left_out(&f.tally)));
    let missed = report.missed.iter().map(|(path, missed)| (path, missed_counts(missed)));
    let told = left_out.chain(missed).filter(|(_, counts)| *counts != Counts::default());
    said.counted.extend(told.map(|(path, counts)| (path.to_string_lossy().into_owned(), counts)));
    let unseen = report.unseen.paths.iter().map(|path| path.to_string_lossy().into_owned());
    said.unseen.0.extend(unseen);
    said.unseen.1 += report.unseen.more;
    if report.stats.refused > 0 {
        let path = format!("({} files beyond the limit of the table)", report.stats.refused);
        said.unreadable.push(Unread { path, from: 0, to: 0 });
    }
    said.lost.extend(report.losses.iter().map(|l| part(&l.path, l.from, l.to.max(l.from + 1))));
    if report.stats.unlisted_losses > 0 {
        said.lost.push(Unread { path: "(further files)".into(), from: 0, to: report.stats.unlisted_losses });
    }
}

fn left_out(tally: &Tally) -> Counts {
    Counts { filtered: tally.filtered, rate_limited: tally.limited, ..Counts::default() }
}

fn missed_counts(missed: &Missed) -> Counts {
    let Missed { datagrams, cut, abandoned } = *missed;
    Counts { lost_datagrams: datagrams, cut_messages: cut, cut_off_senders: abandoned, ..Counts::default() }
}
#[cfg(test)]
mod tests;
