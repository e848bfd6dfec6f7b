//! One replica's part in sharing: what to do next, from what was seen.
//!
//! Comes in: [`Report`]s of what was done, and the monotonic clock. Goes out: [`Order`]s. No I/O, no randomness, no wall
//! clock: whoever drives it does the work, and the same reports give the same orders.
//!
//! A shard's life here:
//!
//! ```text
//!        free, given back, or its owner's sign of life stood still for a lease
//!   none ──probe──▶ write owner + epoch ──▶ Adopting ──copied──▶ Adopted ──named on the board──▶ Serving
//!     ▲                                        │                    │                              │ another is to have it
//!     │◀───────────── another has it: abandon, no commit ──────────┴──────────────────────────────┤
//!     └──────────── given back on the board ◀── Closed ◀── all acknowledged and committed ◀── Closing
//! ```
//!
//! Always holds:
//! - The board names a registry only when it is whole on the disk; so whoever takes a shard finds all cursors that were
//!   ever committed by an owner that the board believed.
//! - A shard is read only while the board says that it is ours, under our epoch, with our registry.
//! - A shard of somebody who lives is never taken: its owner gives it back.
//! - An owner whose sign of life isn't acknowledged in time stops committing before anybody may take its shards
//!   ([`Fence`]), and goes on only after it has written itself on the board anew, over what it read there.
//! - At rest: one look a [`LOOKS`]th of the lease, one sign of life a [`BEATS`]th, nothing else.
//!
//! Tested in `tests/protocol.rs`: many members, late, lost and repeated answers, pauses, clocks that run differently,
//! partitions, and what people delete by hand.

mod lives;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pillion_world::Mono;

use crate::board::{Board, Record, Table, Version};
use crate::fence::Fence;
use crate::order::{Adopted, Order, Report, Settings, Wrote};
use crate::path::Shard;
use crate::spread::spread;
use lives::Life;

/// Looks in the time of a lease.
pub const LOOKS: u32 = 15;
/// Signs of life in the time of a lease.
pub const BEATS: u32 = 5;
/// What of a lease the owner itself may use: clocks may differ by the rest.
const OWN_PART: f64 = 0.9;
/// Leases after which a dead member's sign of life is removed.
const BURIED_AFTER: u32 = 20;
/// Races for the table that may be lost before writing slows down.
const AT_ONCE: u32 = 3;

/// Where a shard stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its registry is being copied.
    Adopting,
    /// Copied; the board doesn't name it yet.
    Adopted,
    /// Its files are read.
    Serving,
    /// What was read waits for acknowledgements.
    Closing,
    /// To be given back on the board.
    Closed,
}

#[derive(Clone, Debug)]
struct Local {
    stage: Stage,
    epoch: u64,
    registry: Option<String>,
    /// Adopting failed, and is tried again then.
    again: Option<Mono>,
    /// The disk has a newer epoch than this one: it is to be claimed anew.
    outdone: bool,
}

impl Local {
    /// Its cursors are in the own registry, and were named on the board.
    fn holds(&self) -> bool {
        matches!(self.stage, Stage::Serving | Stage::Closing | Stage::Closed)
    }
}

/// Orders under way.
#[derive(Default)]
struct Under {
    beat: bool,
    look: bool,
    write: Option<Table>,
    probe: bool,
}

/// One replica's part. See the module's header.
pub struct Member {
    settings: Settings,
    fence: Fence,
    /// The newest table that was read or written, and whether a look is needed before it may be believed again.
    table: Option<(Version, Table)>,
    known: bool,
    /// A look that began before this was stale when it came.
    stale: bool,
    /// When the look under way, or the last one, was begun; and the one that was read last.
    begun: Mono,
    as_of: Mono,
    /// Since when shards have no record: removed by hand, or never taken.
    absent: BTreeMap<Shard, Mono>,
    lives: HashMap<String, Life>,
    locals: BTreeMap<Shard, Local>,
    /// The highest epochs on the disk, for the next claims.
    probed: Option<BTreeMap<Shard, u64>>,
    /// The epochs under which the last write took shards.
    claimed: BTreeMap<Shard, u64>,
    under: Under,
    next_beat: Mono,
    next_look: Mono,
    /// The newest acknowledged sign of life was begun then.
    beat_sent: Option<Mono>,
    /// The fence lapsed: shards must be confirmed by what is read after a new sign of life.
    lapsed: bool,
    leaving: bool,
    /// Writes without success since the last one with it.
    failed: u32,
}

impl Member {
    /// A member that has seen nothing yet.
    pub fn new(settings: Settings, now: Mono) -> Member {
        Member {
            settings,
            fence: Fence::default(),
            table: None,
            known: false,
            stale: false,
            begun: now,
            as_of: now,
            absent: BTreeMap::new(),
            lives: HashMap::new(),
            locals: BTreeMap::new(),
            probed: None,
            claimed: BTreeMap::new(),
            under: Under::default(),
            next_beat: now,
            next_look: now,
            beat_sent: None,
            lapsed: true,
            leaving: false,
            failed: 0,
        }
    }

    /// What decides whether a commit is allowed.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Gives all shards back, one after the other as their files are acknowledged.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.next_beat = Mono(0);
    }

    /// Leaving is done: nothing on the board is ours any more.
    pub fn is_gone(&self) -> bool {
        let ours = |record: &Record| record.owner.as_deref() == Some(self.settings.member.as_str());
        let table = self.table.as_ref().map(|(_, table)| table);
        self.leaving && self.locals.is_empty() && self.known && !table.is_some_and(|t| t.values().any(ours))
    }

    /// The shards here and where they stand.
    pub fn shards(&self) -> impl Iterator<Item = (Shard, Stage)> {
        self.locals.iter().map(|(shard, local)| (*shard, local.stage))
    }

    /// When [`Member::orders`] should be asked again, if nothing is reported before.
    pub fn wake_at(&self) -> Mono {
        let again = self.locals.values().filter_map(|local| local.again);
        let beat = (!self.under.beat).then_some(self.next_beat);
        let look = (!self.under.look && self.under.write.is_none()).then_some(self.next_look);
        again.chain(beat).chain(look).min().unwrap_or(Mono(u64::MAX))
    }

    /// Takes in what was done.
    pub fn report(&mut self, report: Report, now: Mono) {
        match report {
            Report::Beat { sent, ok } => {
                self.under.beat = false;
                if ok {
                    self.acknowledged(sent, now);
                }
            }
            Report::Looked(board) => {
                self.under.look = false;
                if let Some(board) = board {
                    self.looked(board, now);
                }
            }
            Report::Wrote(wrote) => self.wrote(wrote, now),
            Report::Probed(found) => {
                self.under.probe = false;
                self.probed = found;
            }
            Report::Adopted { shard, epoch, adopted } => {
                if let Some(local) = self.locals.get_mut(&shard)
                    && (local.stage, local.epoch) == (Stage::Adopting, epoch)
                {
                    match adopted {
                        Adopted::Into(name) => (local.stage, local.registry) = (Stage::Adopted, Some(name)),
                        Adopted::Not => local.again = Some(now.plus(self.settings.lease / BEATS)),
                        Adopted::Outdone => local.outdone = true,
                    }
                }
            }
            Report::Closed { shard } => {
                if let Some(local) = self.locals.get_mut(&shard).filter(|l| l.stage == Stage::Closing) {
                    local.stage = Stage::Closed;
                }
            }
        }
    }

    /// What is to be done now.
    pub fn orders(&mut self, now: Mono) -> Vec<Order> {
        let mut orders = Vec::new();
        self.check_fence(now, &mut orders);
        if now >= self.next_beat && !self.under.beat {
            self.under.beat = true;
            self.next_beat = now.plus(self.settings.lease / BEATS);
            orders.push(Order::Beat { leaving: self.leaving });
        }
        if self.known {
            self.reconcile(&mut orders);
            self.change(now, &mut orders);
        }
        for (shard, local) in &mut self.locals {
            if local.stage == Stage::Adopting && local.again.is_some_and(|at| at <= now) {
                local.again = None;
                orders.push(Order::Adopt { shard: *shard, epoch: local.epoch, from: local.registry.clone() });
            }
        }
        if now >= self.next_look && !self.under.look && self.under.write.is_none() {
            self.under.look = true;
            self.begun = now;
            self.stale = false;
            self.next_look = now.plus(self.settings.lease / LOOKS);
            orders.push(Order::Look);
        }
        orders
    }

    /// A lapsed fence means that others may have taken what is ours: our epochs grow, so that a claim that was decided
    /// meanwhile and one of ours can't both stand. What isn't read yet is taken anew.
    fn check_fence(&mut self, now: Mono, orders: &mut Vec<Order>) {
        if self.lapsed || self.fence.holds(now) {
            return;
        }
        self.lapsed = true;
        self.beat_sent = None;
        self.locals.retain(|shard, local| {
            let kept = !matches!(local.stage, Stage::Adopting | Stage::Adopted);
            if kept {
                local.epoch = local.epoch.saturating_add(1);
            } else {
                orders.push(Order::Abandon { shard: *shard });
            }
            kept
        });
    }

    fn acknowledged(&mut self, sent: Mono, now: Mono) {
        if !self.lapsed && self.fence.holds(now) {
            self.fence.extend(self.own_until(sent));
        } else if self.beat_sent.is_none() {
            // What was read before it doesn't show what others did until it stood there.
            self.look_again(now);
        }
        self.beat_sent = Some(sent);
    }

    /// What is known of the board may be old.
    fn look_again(&mut self, now: Mono) {
        self.known = false;
        self.stale = true;
        self.next_look = now;
    }

    fn own_until(&self, sent: Mono) -> Mono {
        sent.plus(self.settings.lease.mul_f64(OWN_PART))
    }

    fn looked(&mut self, board: Board, now: Mono) {
        self.see(&board, now);
        self.as_of = self.begun;
        if self.stale {
            // Something was written, or the fence came back, after this look had begun.
            self.next_look = now;
            return;
        }
        self.table = board.table;
        self.known = true;
        self.note_absent(now);
    }

    fn wrote(&mut self, wrote: Wrote, now: Mono) {
        let Some(table) = self.under.write.take() else { return };
        match wrote {
            Wrote::Done(version) => {
                self.failed = 0;
                self.table = Some((version, table));
                self.known = true;
                self.stale = true;
                self.note_absent(now);
            }
            Wrote::Conflict | Wrote::Unknown => {
                self.look_again(now);
                // Whoever lost a race may try again at once; who always fails does it at the pace of looks.
                self.failed += 1;
                if wrote == Wrote::Unknown || self.failed > AT_ONCE {
                    self.next_look = now.plus(self.settings.lease / LOOKS);
                }
            }
        }
    }

    fn note_absent(&mut self, now: Mono) {
        for shard in (0..self.settings.shards).map(Shard) {
            if self.record(shard).is_some() {
                self.absent.remove(&shard);
            } else {
                self.absent.entry(shard).or_insert(now);
            }
        }
    }

    fn record(&self, shard: Shard) -> Option<&Record> {
        self.table.as_ref().and_then(|(_, table)| table.get(&shard))
    }

    fn is_me(&self, record: &Record) -> bool {
        record.owner.as_deref() == Some(self.settings.member.as_str())
    }

    /// Brings what is here in line with the board.
    fn reconcile(&mut self, orders: &mut Vec<Order>) {
        for (shard, epoch) in std::mem::take(&mut self.claimed) {
            let record = self.record(shard).filter(|record| self.is_me(record) && record.epoch == epoch);
            if let Some(from) = record.map(|record| record.registry.clone())
                && !self.locals.contains_key(&shard)
            {
                orders.push(Order::Adopt { shard, epoch, from: from.clone() });
                let local = Local { stage: Stage::Adopting, epoch, registry: from, again: None, outdone: false };
                self.locals.insert(shard, local);
            }
        }
        let mut confirmed = true;
        let mut gone = Vec::new();
        for (shard, local) in &self.locals {
            match self.record(*shard) {
                Some(r) if r.owner.is_none() && local.stage == Stage::Closed && r.epoch == local.epoch => {
                    gone.push((*shard, false));
                }
                Some(r) if r.epoch > local.epoch || r.owner.is_some() && !self.is_me(r) => gone.push((*shard, true)),
                Some(r) if self.is_me(r) && r.epoch == local.epoch => {}
                Some(r) if self.is_me(r) && r.registry == local.registry => confirmed = false,
                // Whoever may have had it meanwhile has given it back, or the table was deleted: it is taken anew, with the
                // newest cursors.
                _ if self.lapsed && local.holds() => gone.push((*shard, true)),
                _ => confirmed = false,
            }
        }
        for (shard, abandon) in gone {
            self.locals.remove(&shard);
            if abandon {
                orders.push(Order::Abandon { shard });
            }
        }
        if self.lapsed
            && confirmed
            && let Some(sent) = self.beat_sent
        {
            self.lapsed = false;
            self.fence.extend(self.own_until(sent));
        }
        self.open_named(orders);
    }

    fn open_named(&mut self, orders: &mut Vec<Order>) {
        let table = self.table.as_ref().map(|(_, table)| table);
        for (shard, local) in self.locals.iter_mut().filter(|(_, local)| local.stage == Stage::Adopted) {
            let named = table.and_then(|t| t.get(shard)).and_then(|record| record.registry.as_ref());
            if let Some(registry) = named.filter(|name| Some(*name) == local.registry.as_ref()) {
                local.stage = Stage::Serving;
                orders.push(Order::Open { shard: *shard, registry: registry.clone() });
            }
        }
    }

    /// Decides which shards to close and to take, and composes the next table.
    fn change(&mut self, now: Mono, orders: &mut Vec<Order>) {
        if self.lapsed && self.beat_sent.is_none() {
            return;
        }
        let wanted = self.wanted();
        // What isn't read yet and is another's part by now: the record is given back as it was found. What the disk knows
        // under a newer epoch (the table was deleted while somebody took it) is claimed above that one.
        self.locals.retain(|shard, local| {
            let kept = local.holds() || wanted.contains(shard) && !local.outdone;
            if !kept {
                orders.push(Order::Abandon { shard: *shard });
            }
            kept
        });
        for (shard, local) in &mut self.locals {
            if local.stage == Stage::Serving && !wanted.contains(shard) {
                local.stage = Stage::Closing;
                orders.push(Order::Close { shard: *shard });
            }
        }
        if self.under.write.is_some() {
            return;
        }
        let mut edits = self.ours(&wanted);
        self.claims(&wanted, now, &mut edits, orders);
        if !edits.is_empty() {
            let (over, mut table) = self.table.clone().unzip();
            table.get_or_insert_default().append(&mut edits);
            let table = table.unwrap_or_default();
            self.under.write = Some(table.clone());
            orders.push(Order::Write { over, table });
        }
        self.bury(now, orders);
    }

    fn wanted(&self) -> BTreeSet<Shard> {
        if self.yields_to().is_some() {
            return BTreeSet::new();
        }
        let members = self.members();
        let Some(me) = members.iter().position(|m| *m == self.settings.member) else { return BTreeSet::new() };
        let all = || (0..self.settings.shards).map(Shard);
        let owner = |shard: Shard| {
            let owner = self.record(shard)?.owner.as_ref()?;
            members.iter().position(|member| member == owner)
        };
        let owners: Vec<Option<usize>> = all().map(owner).collect();
        all().zip(spread(&owners, members.len())).filter(|(_, owner)| *owner == me).map(|(shard, _)| shard).collect()
    }

    /// What the table doesn't have yet of what is here.
    fn ours(&self, wanted: &BTreeSet<Shard>) -> Table {
        let mut edits = Table::new();
        for (shard, local) in &self.locals {
            let owned = local.stage != Stage::Closed;
            let is_there = self.record(*shard).is_some_and(|record| {
                let owner = if owned { self.is_me(record) } else { record.owner.is_none() };
                owner && record.epoch == local.epoch && record.registry == local.registry
            });
            if !is_there {
                let owner = owned.then(|| self.settings.member.clone());
                edits.insert(*shard, Record { owner, epoch: local.epoch, registry: local.registry.clone() });
            }
        }
        for (shard, record) in self.table.iter().flat_map(|(_, table)| table) {
            // What a dead one had is free for all as soon as one knows it: somebody who came after its death would watch it
            // for a lease of its own first.
            let is_dead = record.owner.as_ref().is_some_and(|owner| self.is_dead(owner));
            if (self.is_me(record) || is_dead) && !self.locals.contains_key(shard) && !wanted.contains(shard) {
                edits.insert(*shard, Record { owner: None, ..record.clone() });
            }
        }
        edits
    }

    /// Takes shards that nobody has, with epochs that neither the board nor the disk has seen.
    fn claims(&mut self, wanted: &BTreeSet<Shard>, now: Mono, edits: &mut Table, orders: &mut Vec<Order>) {
        let free = |shard: &&Shard| match self.record(**shard).and_then(|record| record.owner.as_deref()) {
            _ if self.locals.contains_key(shard) => false,
            Some(owner) => owner == self.settings.member || self.is_dead(owner),
            None => true,
        };
        let free: Vec<Shard> = wanted.iter().filter(free).copied().collect();
        if free.is_empty() {
            return;
        }
        let Some(probed) = self.probed.take().filter(|p| free.iter().all(|shard| p.contains_key(shard))) else {
            if !self.under.probe {
                self.under.probe = true;
                orders.push(Order::Probe { shards: free });
            }
            return;
        };
        let lease = self.lives.values().map(|life| life.lease(self.settings.lease)).max();
        let lease = lease.unwrap_or(self.settings.lease);
        for shard in free {
            let on_disk = probed.get(&shard).copied().unwrap_or(0);
            // A record that was removed by hand is written again by its owner, if there is one.
            let absent = self.absent.get(&shard).map(|since| now.since(*since));
            if on_disk > 0 && absent.is_some_and(|time| time < lease) {
                continue;
            }
            let mut record = self.record(shard).cloned().unwrap_or_default();
            record.epoch = record.epoch.max(on_disk).saturating_add(1);
            record.owner = Some(self.settings.member.clone());
            self.claimed.insert(shard, record.epoch);
            edits.insert(shard, record);
        }
    }

    fn bury(&mut self, now: Mono, orders: &mut Vec<Order>) {
        let owners: BTreeSet<&String> = self
            .table
            .iter()
            .flat_map(|(_, table)| table.values())
            .filter_map(|record| record.owner.as_ref())
            .collect();
        for (name, life) in &mut self.lives {
            let long = life.lease(self.settings.lease) * BURIED_AFTER;
            let due = now.since(life.changed.max(life.buried.unwrap_or_default())) >= long;
            if due
                && *name != self.settings.member
                && !owners.contains(name)
                && let Some(beat) = &life.beat
            {
                life.buried = Some(now);
                orders.push(Order::Bury { beat: beat.clone() });
            }
        }
    }
}
