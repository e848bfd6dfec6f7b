//! Drives one replica: asks [`Member`] what is to be done, has it done, and tells it what became of it.
//!
//! ```text
//!            ┌── beat, look, write, bury ──▶ the board (Leases, files)
//! Member ────┼── probe, adopt ─────────────▶ the shared file system (adopt.rs)
//!            └── open, close, abandon ─────▶ the reading threads and the books
//! ```
//! Comes in: time, what the backend and the file system answer, and that the run ends. Goes out: shards that are opened and
//! shut ([`Ours`]), and how far that is ([`Stand`]).
//!
//! Always holds:
//! - A shard's files are read only between `Open` and `Close` or `Abandon`; it is given back only when everything that was
//!   read of it is acknowledged and the cursors are durable.
//! - What somebody else has taken moves no cursor here, and isn't sent if it wasn't yet.
//! - Nothing here waits for a file system: what may hang is done elsewhere, one of each kind.
//!
//! Tested by the command line's tests (`tests/run/replicas.rs`) and on a real cluster; what is decided is tested in the crate
//! `shards`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_engine::ledger::Ledger;
use pillion_engine::run::Ending;
use pillion_registry::note;
use pillion_shards::{Backend, Board, Member, Order, Report, Shard, Stage, Wrote};
use pillion_world::{Clock, Mono};
use tokio::sync::{mpsc, watch};

use super::adopt::{Disk, Taking};
use super::tidy::Tidy;
use crate::harvesting::Harvesting;

/// How often it is looked whether what was read of a shard that is given back is acknowledged.
const CLOSING: Duration = Duration::from_millis(20);
/// How long the reading threads may take to let go of everything when the board is away.
const LET_GO: Duration = Duration::from_secs(5);
/// Reports that wait at most: each order gives one.
const REPORTS: usize = 256;

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// Nothing here is still to be read, acknowledged or copied.
    pub(crate) idle: bool,
    /// It was told to leave, and has nothing any more.
    pub(crate) gone: bool,
}

/// What reaches the driver.
pub(super) enum Told {
    Report(Report),
    /// A look, with what it showed.
    Looked(Option<Board>),
    /// All that was read of a shard is acknowledged and durable; which closing of it that was.
    Closed(Shard, u64),
    /// The reading threads have let go of it: it may be taken again.
    LetGo(BTreeSet<Shard>),
    /// Give everything back.
    Leave,
}

/// What orders are carried out with.
pub(super) struct Hands {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) disk: Arc<Disk>,
    pub(super) harvesting: Arc<Harvesting>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) tell: mpsc::Sender<Told>,
    pub(super) endings: mpsc::Sender<Ending>,
    /// Closings under way, each by its number: one that somebody else's taking has ended isn't the next one's.
    pub(super) closing: Mutex<BTreeMap<Shard, u64>>,
}

/// See the module.
pub(super) struct Driver {
    member: Member,
    hands: Arc<Hands>,
    told: mpsc::Receiver<Told>,
    stand: watch::Sender<Stand>,
    tidy: Tidy,
    /// How often the reading threads were told to let go of these and haven't yet; a taking of them waits, since what they
    /// have read of the shard's former time must not be taken for its next one's.
    letting_go: BTreeMap<Shard, usize>,
    waiting: Vec<Taking>,
    closings: u64,
    held: bool,
    /// The board couldn't be reached, and that was said.
    away: bool,
    said: Option<usize>,
    /// Into how many shards somebody else divides the files, who comes first.
    yields: Option<u16>,
}

/// The mailbox of a driver.
pub(super) fn mailbox() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(REPORTS)
}

impl Driver {
    pub(super) fn new(
        member: Member,
        hands: Arc<Hands>,
        told: mpsc::Receiver<Told>,
        stand: watch::Sender<Stand>,
        tidy: Tidy,
    ) -> Driver {
        Driver {
            member,
            hands,
            told,
            stand,
            tidy,
            letting_go: BTreeMap::new(),
            waiting: Vec::new(),
            closings: 0,
            held: false,
            away: false,
            said: None,
            yields: None,
        }
    }

    /// Runs for as long as the process does.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.now();
            let orders = self.member.orders(now);
            self.carry_out(orders, now);
            self.note_state();
            let wake = self.member.wake_at().since(self.now()).max(Duration::from_millis(1));
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(told) => self.take(told),
                    None => return,
                },
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    fn now(&self) -> Mono {
        self.hands.clock.mono()
    }

    fn take(&mut self, told: Told) {
        let now = self.now();
        match told {
            Told::Leave => self.member.leave(),
            Told::Looked(board) => {
                self.say_reach(board.is_some());
                if let Some(board) = &board {
                    let mine = self.member.shards().map(|(shard, _)| shard).collect();
                    self.tidy.looked(board, &mine, &self.hands.disk, now);
                }
                self.member.report(Report::Looked(board), now);
            }
            Told::Closed(shard, number) if self.hands.is_closing(shard, number) => {
                self.hands.closings().remove(&shard);
                self.member.report(Report::Closed { shard }, now);
            }
            Told::Closed(..) => {}
            Told::LetGo(shards) => {
                for shard in &shards {
                    let left = self.letting_go.get(shard).map_or(0, |n| n.saturating_sub(1));
                    match left {
                        0 => drop(self.letting_go.remove(shard)),
                        left => drop(self.letting_go.insert(*shard, left)),
                    }
                }
                let waiting = std::mem::take(&mut self.waiting);
                self.adopt(waiting);
            }
            Told::Report(report) => self.member.report(report, now),
        }
    }

    fn say_reach(&mut self, reached: bool) {
        if !std::mem::replace(&mut self.away, !reached) && self.away {
            tracing::warn!("the board of replicas can't be read: without it this one pauses within a lease");
        }
    }

    fn say_division(&mut self) {
        let yields = self.member.yields_to();
        if std::mem::replace(&mut self.yields, yields) == yields {
            return;
        }
        let own = self.hands.disk.ours.shards();
        match yields {
            Some(count) => tracing::error!(
                "pillion.shards.count is {own} here and {count} at another replica: two divisions at once would leave files unread. This \
                 replica reads nothing until the others have ended; give all of them the same count"
            ),
            None => tracing::info!("no other replica divides the files otherwise any more: this one takes part"),
        }
    }

    /// Wakes who waits for the fence, and tells who asks where this replica stands.
    fn note_state(&mut self) {
        let holds = self.hands.disk.ours.holds();
        if std::mem::replace(&mut self.held, holds) != holds {
            if holds {
                self.hands.disk.ours.wake();
                self.hands.harvesting.shares_grew();
                tracing::info!("this replica's sign of life is on the board: it reads and ships its part");
            } else {
                tracing::warn!(
                    "this replica's sign of life wasn't renewed in time: it pauses until the board was read"
                );
            }
        }
        self.say_division();
        let shards = self.member.shards().filter(|(_, stage)| *stage == Stage::Serving).count();
        let settled = self.member.shards().all(|(_, stage)| stage == Stage::Serving);
        if settled && self.said != Some(shards) {
            self.said = Some(shards);
            tracing::info!(shards, "ships the files of its shards");
        }
        let idle = self.member.shards().all(|(_, stage)| stage == Stage::Closed);
        let stand = Stand { idle, gone: self.member.is_gone() };
        self.stand.send_if_modified(|was| std::mem::replace(was, stand) != stand);
    }

    fn carry_out(&mut self, orders: Vec<Order>, now: Mono) {
        let mut takings = Vec::new();
        let (mut close, mut abandon) = (BTreeSet::new(), BTreeSet::new());
        let mut opened = false;
        for order in orders {
            match order {
                Order::Adopt { shard, epoch, from } => {
                    self.tidy.took(shard);
                    takings.push(Taking { shard, epoch, from });
                }
                Order::Open { shard, .. } => {
                    self.hands.disk.ours.open(shard);
                    opened = true;
                }
                Order::Close { shard } => drop(close.insert(shard)),
                Order::Abandon { shard } => drop(abandon.insert(shard)),
                Order::Probe { shards } => self.probe(shards),
                other => self.ask(other, now),
            }
        }
        if opened {
            self.hands.harvesting.shares_grew();
        }
        // Before anything is taken: a shard may be abandoned and claimed anew in one breath.
        if !abandon.is_empty() {
            for shard in &abandon {
                self.hands.disk.ours.shut(*shard);
                self.hands.disk.is_to_take(*shard, None);
                self.hands.closings().remove(shard);
                *self.letting_go.entry(*shard).or_default() += 1;
            }
            self.waiting.retain(|taking| !abandon.contains(&taking.shard));
            tokio::spawn(Arc::clone(&self.hands).abandon(abandon));
        }
        // What is taken in this very breath isn't what was abandoned.
        for taking in &takings {
            self.hands.disk.is_to_take(taking.shard, Some(taking.epoch));
        }
        if !close.is_empty() {
            self.closings += 1;
            for shard in &close {
                self.hands.disk.ours.shut(*shard);
                self.hands.closings().insert(*shard, self.closings);
            }
            tokio::spawn(Arc::clone(&self.hands).close(close, self.closings));
        }
        self.adopt(takings);
    }

    /// What the board is asked for: one of a kind at a time, as the member has it.
    fn ask(&self, order: Order, now: Mono) {
        let hands = Arc::clone(&self.hands);
        tokio::spawn(async move {
            let said = match order {
                Order::Beat { leaving } => {
                    let done = hands.backend.beat(leaving).await;
                    if let Err(why) = &done {
                        tracing::debug!("no sign of life: {why}");
                    }
                    Told::Report(Report::Beat { sent: now, ok: done.is_ok() })
                }
                Order::Look => {
                    let looked = hands.backend.look().await;
                    Told::Looked(looked.inspect_err(|why| tracing::debug!("the board can't be read: {why}")).ok())
                }
                Order::Write { over, table } => Told::Report(Report::Wrote(hands.backend.write(over, table).await)),
                Order::Bury { beat } => {
                    let _ = hands.backend.bury(beat).await;
                    return;
                }
                // Not the board's.
                Order::Probe { .. } | Order::Adopt { .. } | Order::Open { .. } => return,
                Order::Close { .. } | Order::Abandon { .. } => return,
            };
            if matches!(said, Told::Report(Report::Wrote(Wrote::Unknown))) {
                tracing::debug!("whether the board was written isn't known");
            }
            let _ = hands.tell.send(said).await;
        });
    }

    fn probe(&self, shards: Vec<Shard>) {
        let (disk, tell) = (Arc::clone(&self.hands.disk), self.hands.tell.clone());
        tokio::task::spawn_blocking(move || {
            let found = disk.probe(&shards);
            let _ = tell.blocking_send(Told::Report(Report::Probed(found)));
        });
    }

    fn adopt(&mut self, takings: Vec<Taking>) {
        let (wait, now): (Vec<_>, Vec<_>) =
            takings.into_iter().partition(|taking| self.letting_go.contains_key(&taking.shard));
        self.waiting.extend(wait);
        if now.is_empty() {
            return;
        }
        let (disk, tell) = (Arc::clone(&self.hands.disk), self.hands.tell.clone());
        let endings = self.hands.endings.clone();
        tokio::task::spawn_blocking(move || {
            let adopted = disk.adopt(&now);
            if let Some(why) = disk.is_gone() {
                let _ = endings.blocking_send(Ending::Failed(why));
            }
            for (taking, adopted) in now.into_iter().zip(adopted) {
                let report = Report::Adopted { shard: taking.shard, epoch: taking.epoch, adopted };
                let _ = tell.blocking_send(Told::Report(report));
            }
        });
    }
}

impl Hands {
    fn is_of<'a>(&'a self, shards: &'a BTreeSet<Shard>) -> impl Fn(&str) -> bool + 'a {
        |path| self.disk.ours.shard(Path::new(path)).is_some_and(|shard| shards.contains(&shard))
    }

    fn closings(&self) -> MutexGuard<'_, BTreeMap<Shard, u64>> {
        // Nothing that holds it leaves a half-made change behind when it panics.
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self, shard: Shard, number: u64) -> bool {
        self.closings().get(&shard) == Some(&number)
    }

    /// Nothing of these is read any more; says of each when all that was read of it is acknowledged and durable.
    async fn close(self: Arc<Self>, mut shards: BTreeSet<Shard>, number: u64) {
        self.let_go(&shards, None).await;
        loop {
            shards.retain(|shard| self.is_closing(*shard, number));
            let mut open = BTreeSet::new();
            self.ledger.visit_open(&mut |path| open.extend(self.disk.ours.shard(Path::new(path))));
            let done: BTreeSet<Shard> = shards.difference(&open).copied().collect();
            if shards.is_empty() {
                return;
            }
            if !done.is_empty() && self.synced().await {
                shards.retain(|shard| !done.contains(shard));
                for shard in done {
                    let _ = self.tell.send(Told::Closed(shard, number)).await;
                }
                continue;
            }
            tokio::time::sleep(CLOSING).await;
        }
    }

    /// Makes the own registry durable; whether it is.
    async fn synced(&self) -> bool {
        let registry = Arc::clone(&self.disk.registry);
        match tokio::task::spawn_blocking(move || registry.sync()).await {
            Ok(Ok(())) => true,
            Ok(Err(e)) => {
                tracing::warn!("the registry can't be written, so that no shard is given back: {e}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                false
            }
            Err(_) => false,
        }
    }

    /// Somebody else has these.
    async fn abandon(self: Arc<Self>, shards: BTreeSet<Shard>) {
        let events = self.hand_over(&shards);
        if events > 0 {
            tracing::warn!(
                shards = shards.len(),
                events,
                "other replicas have taken these shards: events that weren't acknowledged here are shipped by them, and those \
                 of them that were on their way may arrive twice (once, with pillion.exactly_once)"
            );
        }
        self.let_go(&shards, None).await;
        // What was read in between.
        self.hand_over(&shards);
        let _ = self.tell.send(Told::LetGo(shards)).await;
    }

    /// What isn't acknowledged of these leaves the books, also what workers hold and want to send again; how many events.
    fn hand_over(&self, shards: &BTreeSet<Shard>) -> u64 {
        let events = self.ledger.hand_over(&self.is_of(shards));
        self.disk.ours.wake();
        events
    }

    /// Waits until the reading threads have let go of the shards' files.
    async fn let_go(&self, shards: &BTreeSet<Shard>, limit: Option<Duration>) {
        let (ours, shards) = (Arc::clone(&self.disk.ours), shards.clone());
        let which = move |path: &Path| ours.shard(path).is_some_and(|shard| shards.contains(&shard));
        self.harvesting.release(Arc::new(which), limit).await;
    }

    /// Gives up everything that is read here, whoever takes it: the board can't be reached.
    pub(super) async fn give_up(&self) {
        let all: BTreeSet<Shard> = (0..self.disk.ours.shards()).map(Shard).collect();
        all.iter().for_each(|shard| self.disk.ours.shut(*shard));
        self.let_go(&all, Some(LET_GO)).await;
        let events = self.hand_over(&all);
        tracing::warn!(
            events,
            "the board of replicas can't be reached: whoever takes these shards ships what wasn't acknowledged"
        );
    }
}

/// Whose registry each shard is in, by what a look showed.
pub(super) fn keepers(board: &Board) -> BTreeMap<Shard, String> {
    let table = board.table.iter().flat_map(|(_, table)| table);
    let kept = table.filter_map(|(shard, record)| Some((*shard, record.registry.as_deref()?)));
    kept.filter_map(|(shard, name)| Some((shard, note::member_of(name)?.to_owned()))).collect()
}
