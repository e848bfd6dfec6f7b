//! The cluster: members, the board behind a network that does what it likes, the disk, the target.
//!
//! Lines are numbers: a shard's file has as many as were written. A registry holds how many are committed, and the random
//! incarnation of the file, which with the line's number is its id.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use pillion_shards::{
    Adopted, Beat, Board, Fence, Member, Order, Report, Rules, Settings, Shard, Stage, Table, Version, Wrote,
};
use pillion_world::Mono;

const SHARDS: u16 = 64;
/// How much time one step takes.
const STEP: Duration = Duration::from_millis(100);

/// splitmix64.
pub(crate) struct Rng(u64);

impl Rng {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.draw() % n.max(1)
    }

    /// True in `n` of 10,000 cases.
    fn chance(&mut self, n: u64) -> bool {
        self.below(10_000) < n
    }
}

/// What may go wrong.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    on: bool,
}

impl Faults {
    pub(crate) fn all() -> Faults {
        Faults { on: true }
    }

    pub(crate) fn none() -> Faults {
        Faults { on: false }
    }
}

/// What a shard's registry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    incarnation: u64,
    committed: u64,
}

#[derive(Default)]
struct Disk {
    /// A member keeps all its shards in one registry: by process and shard. Its name on the board is `MEMBER/EPOCH`.
    registries: Vec<BTreeMap<Shard, Cursor>>,
    /// The note beside them: which is the newest whole one.
    current: HashMap<Shard, (u64, String)>,
    /// From which registry each was served last.
    served: HashMap<Shard, String>,
}

/// Whose registry a name on the board means: `pillion-N/EPOCH` is that of the Nth process.
fn keeper(name: &str) -> usize {
    let number = name.split_once('/').and_then(|(member, _)| member.rsplit('-').next()?.parse::<usize>().ok());
    number.unwrap() - 1
}

impl Disk {
    /// Whoever takes a shard has at least what was committed where it was served last.
    fn copied(&self, shard: Shard, cursor: &Cursor, name: &str) -> Result<(), String> {
        let served = self.served.get(&shard).and_then(|served| self.of(served, shard));
        let enough = served.is_none_or(|s| s.incarnation == cursor.incarnation && s.committed <= cursor.committed);
        match enough {
            true => Ok(()),
            false => Err(format!("{name} takes {cursor:?} of shard {shard}, and {served:?} was committed")),
        }
    }

    fn of(&self, name: &str, shard: Shard) -> Option<Cursor> {
        self.registries.get(keeper(name))?.get(&shard).copied()
    }
}

#[derive(Default)]
struct Api {
    beats: BTreeMap<String, Beat>,
    table: Option<(u64, Table)>,
    versions: u64,
    requests: (u64, u64, u64),
}

impl Api {
    fn write(&mut self, over: Option<&Version>, table: &Table) -> Wrote {
        let stands = self.table.as_ref().map(|(version, _)| Version(version.to_string()));
        if stands.as_ref() != over {
            return Wrote::Conflict;
        }
        self.versions += 1;
        self.table = Some((self.versions, table.clone()));
        Wrote::Done(Version(self.versions.to_string()))
    }

    fn board(&self) -> Board {
        let table = self.table.as_ref().map(|(version, table)| (Version(version.to_string()), table.clone()));
        Board { beats: self.beats.values().cloned().collect(), table }
    }
}

/// What a member reads and sends.
struct Open {
    registry: String,
    incarnation: u64,
    read: u64,
    acked: u64,
    closing: bool,
}

struct Process {
    name: String,
    member: Member,
    fence: Fence,
    /// How fast its clock runs, in thousandths.
    speed: u64,
    origin: u64,
    wake: Mono,
    paused_until: u64,
    cut_off_until: u64,
    open: BTreeMap<Shard, Open>,
    alive: bool,
}

enum Flight {
    /// On its way to the API server.
    Request(usize, Order, Mono),
    /// On its way back.
    Answer(usize, Report),
    /// A disk's answer.
    Local(usize, Report),
    /// Copying a registry takes time.
    Copy(usize, Shard, u64, Option<String>),
}

pub(crate) struct Cluster {
    rng: Rng,
    lease: Duration,
    faults: Faults,
    /// Milliseconds.
    now: u64,
    flights: Vec<(u64, Flight)>,
    processes: Vec<Process>,
    api: Api,
    disk: Disk,
    written: Vec<u64>,
    /// By shard and line: with which incarnation it arrived, and whether with another one, too.
    arrived: Vec<Vec<Option<(u64, bool)>>>,
    again: u64,
    moves: usize,
    joined: u64,
    story: Vec<String>,
    broken: Option<String>,
}

impl Cluster {
    pub(crate) fn new(seed: u64, members: usize, lease: Duration, faults: Faults) -> Cluster {
        let shards = usize::from(SHARDS);
        let mut cluster = Cluster {
            rng: Rng(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1405),
            lease,
            faults,
            now: 0,
            flights: Vec::new(),
            processes: Vec::new(),
            api: Api::default(),
            disk: Disk::default(),
            written: vec![0; shards],
            arrived: vec![Vec::new(); shards],
            again: 0,
            moves: 0,
            joined: 0,
            story: Vec::new(),
            broken: None,
        };
        (0..members).for_each(|_| cluster.join());
        cluster
    }

    pub(crate) fn join(&mut self) {
        self.joined += 1;
        let name = format!("pillion-{}", self.joined);
        let speed = if self.faults.on { 980 + self.rng.below(41) } else { 1000 };
        let origin = self.rng.below(1 << 40);
        let settings = Settings { member: name.clone(), shards: SHARDS, lease: self.lease };
        let mut process = Process {
            name,
            member: Member::new(settings, Mono(0)),
            fence: Fence::default(),
            speed,
            origin,
            wake: Mono(0),
            paused_until: 0,
            cut_off_until: 0,
            open: BTreeMap::new(),
            alive: true,
        };
        process.member = Member::new(
            Settings { member: process.name.clone(), shards: SHARDS, lease: self.lease },
            clock(&process, self.now),
        );
        process.fence = process.member.fence();
        self.tell(&format!("{} begins", process.name));
        self.disk.registries.push(BTreeMap::new());
        self.processes.push(process);
    }

    fn tell(&mut self, what: &str) {
        self.story.push(format!("{:>8.1} s {what}", self.now as f64 / 1000.0));
    }

    pub(crate) fn story(&self) -> String {
        self.story
            .iter()
            .rev()
            .take(if std::env::var_os("PILLION_STORY").is_some() { usize::MAX } else { 150 })
            .rev()
            .fold(String::new(), |mut all, line| {
                let _ = writeln!(all, "{line}");
                all
            })
    }

    /// Nothing goes wrong from now on, and nobody writes.
    pub(crate) fn calm(&mut self) {
        self.faults.on = false;
        for process in &mut self.processes {
            process.paused_until = 0;
            process.cut_off_until = 0;
        }
        if !self.processes.iter().any(|p| p.alive) {
            self.join();
        }
        self.tell("calm");
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time.as_millis() as u64;
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += STEP.as_millis() as u64;
        if self.faults.on {
            self.trouble();
        }
        let writes = self.faults.on || self.now < 60_000;
        for shard in 0..self.written.len() {
            if writes && self.rng.chance(2000) {
                self.written[shard] += 1 + self.rng.below(3);
            }
        }
        self.arrivals();
        for i in 0..self.processes.len() {
            if self.processes[i].alive && self.processes[i].paused_until <= self.now {
                self.ship(i);
                self.orders(i);
            }
        }
    }

    fn trouble(&mut self) {
        if self.rng.chance(30) {
            let i = self.rng.below(self.processes.len() as u64) as usize;
            match self.rng.below(6) {
                0 => {
                    self.crash(i);
                    self.join();
                }
                1 => self.processes[i].paused_until = self.now + self.rng.below(40_000),
                2 => self.processes[i].cut_off_until = self.now + self.rng.below(40_000),
                3 if self.rng.chance(3000) => self.delete_table(),
                4 => self.delete_beat(),
                _ if self.processes.iter().filter(|p| p.alive).count() < 6 => self.join(),
                _ => self.crash(i),
            }
        }
    }

    fn crash(&mut self, i: usize) {
        if self.processes[i].alive {
            self.processes[i].alive = false;
            self.tell(&format!("{} is killed", self.processes[i].name));
        }
    }

    pub(crate) fn delete_table(&mut self) {
        self.api.table = None;
        self.tell("the table is deleted");
    }

    fn delete_beat(&mut self) {
        let names: Vec<String> = self.api.beats.keys().cloned().collect();
        if !names.is_empty() {
            let name = &names[self.rng.below(names.len() as u64) as usize];
            self.api.beats.remove(name);
            self.tell(&format!("the sign of life of {name} is deleted"));
        }
    }

    /// Requests reach the server, answers the members.
    fn arrivals(&mut self) {
        let mut due: Vec<(u64, Flight)> = Vec::new();
        let now = self.now;
        let mut rest = Vec::new();
        for (at, flight) in std::mem::take(&mut self.flights) {
            if at <= now { due.push((at, flight)) } else { rest.push((at, flight)) }
        }
        self.flights = rest;
        due.sort_by_key(|(at, _)| *at);
        for (_, flight) in due {
            match flight {
                Flight::Request(i, order, sent) => self.serve(i, &order, sent),
                Flight::Answer(i, report) | Flight::Local(i, report) => self.report(i, report),
                Flight::Copy(i, shard, epoch, from) => self.copy(i, shard, epoch, from),
            }
        }
    }

    fn report(&mut self, i: usize, report: Report) {
        if !self.processes[i].alive {
            return;
        }
        if self.processes[i].paused_until > self.now {
            // It finds the answer when it wakes up.
            let at = self.processes[i].paused_until;
            self.flights.push((at, Flight::Local(i, report)));
            return;
        }
        let process = &mut self.processes[i];
        let now = clock(process, self.now);
        process.member.report(report, now);
        process.wake = now;
    }

    fn serve(&mut self, i: usize, order: &Order, sent: Mono) {
        let name = self.processes[i].name.clone();
        let report = match order {
            Order::Beat { leaving } => {
                self.api.requests.1 += 1;
                self.api.versions += 1;
                let beat = Beat {
                    member: name.clone(),
                    stamp: self.api.versions.to_string(),
                    leaving: *leaving,
                    rules: Rules::default(),
                };
                self.api.beats.insert(name, beat);
                Report::Beat { sent, ok: true }
            }
            Order::Look => {
                self.api.requests.0 += 1;
                Report::Looked(Some(self.api.board()))
            }
            Order::Write { over, table } => {
                self.api.requests.2 += 1;
                let wrote = self.api.write(over.as_ref(), table);
                Report::Wrote(wrote)
            }
            Order::Bury { beat } => {
                if self.api.beats.get(&beat.member) == Some(beat) {
                    self.api.beats.remove(&beat.member);
                }
                return;
            }
            _ => unreachable!("not for the server"),
        };
        let lost = self.processes[i].cut_off_until > self.now || self.faults.on && self.rng.chance(300);
        let report = match report {
            report if !lost => report,
            Report::Beat { sent, .. } => Report::Beat { sent, ok: false },
            Report::Looked(_) => Report::Looked(None),
            _ => Report::Wrote(Wrote::Unknown),
        };
        let at = self.now + self.delay();
        self.flights.push((at, Flight::Answer(i, report)));
    }

    fn delay(&mut self) -> u64 {
        match self.faults.on {
            true if self.rng.chance(200) => self.rng.below(8_000),
            true => 1 + self.rng.below(200),
            false => 1 + self.rng.below(20),
        }
    }

    fn orders(&mut self, i: usize) {
        let now = clock(&self.processes[i], self.now);
        if self.processes[i].wake > now {
            return;
        }
        let orders = self.processes[i].member.orders(now);
        self.processes[i].wake = self.processes[i].member.wake_at();
        for order in orders {
            self.carry_out(i, order, now);
        }
    }

    fn carry_out(&mut self, i: usize, order: Order, now: Mono) {
        match order {
            Order::Beat { .. } | Order::Look | Order::Write { .. } | Order::Bury { .. } => self.send(i, order, now),
            Order::Probe { shards } => {
                let noted = |shard| self.disk.current.get(shard).map_or(0, |(epoch, _)| *epoch);
                let found = shards.iter().map(|shard| (*shard, noted(shard))).collect();
                let report = Report::Probed((!self.faults.on || !self.rng.chance(500)).then_some(found));
                self.flights.push((self.now + 10, Flight::Local(i, report)));
            }
            Order::Adopt { shard, epoch, from } => {
                let name = self.processes[i].name.clone();
                self.tell(&format!("{name} takes {shard} under {epoch} from {from:?}"));
                let takes = 10 + if self.faults.on { self.rng.below(2000) } else { 50 };
                self.flights.push((self.now + takes, Flight::Copy(i, shard, epoch, from)));
            }
            Order::Open { shard, registry } => {
                self.moves += 1;
                let cursor = self.disk.of(&registry, shard).unwrap();
                let (read, acked) = (cursor.committed, cursor.committed);
                let open = Open { registry, incarnation: cursor.incarnation, read, acked, closing: false };
                self.disk.served.insert(shard, open.registry.clone());
                self.tell(&format!("{} opens {shard} at {read} from {}", self.processes[i].name, open.registry));
                assert!(self.processes[i].open.insert(shard, open).is_none(), "{shard} is open");
            }
            Order::Close { shard } => {
                self.processes[i].open.get_mut(&shard).unwrap().closing = true;
            }
            Order::Abandon { shard } => {
                self.tell(&format!("{} abandons {shard}", self.processes[i].name));
                self.processes[i].open.remove(&shard);
            }
        }
    }

    /// A request may be lost, come late, or be answered as lost and come nevertheless.
    fn send(&mut self, i: usize, order: Order, now: Mono) {
        let failed = |order: &Order| match order {
            Order::Beat { .. } => Some(Report::Beat { sent: now, ok: false }),
            Order::Look => Some(Report::Looked(None)),
            Order::Write { .. } => Some(Report::Wrote(Wrote::Unknown)),
            _ => None,
        };
        let cut_off = self.processes[i].cut_off_until > self.now;
        let lost = cut_off || self.faults.on && self.rng.chance(200);
        if lost {
            // An answer never comes; the member's own time limit ends it. The request may come after that.
            if let Some(report) = failed(&order) {
                self.flights.push((self.now + 2000, Flight::Local(i, report)));
            }
            if matches!(order, Order::Write { .. }) && self.rng.chance(5000) {
                let at = self.now + self.rng.below(30_000);
                self.flights.push((at, Flight::Request(i, order, now)));
            }
            return;
        }
        let at = self.now + self.delay();
        self.flights.push((at, Flight::Request(i, order, now)));
    }

    fn copy(&mut self, i: usize, shard: Shard, epoch: u64, from: Option<String>) {
        // A taking that was abandoned is looked at before its note is written.
        let process = &self.processes[i];
        if !process.alive || !process.member.shards().any(|local| local == (shard, Stage::Adopting)) {
            return;
        }
        // What is newer counts: the board's, or the disk's own note.
        let of = |name: &str| name.rsplit('/').next().and_then(|e| e.parse::<u64>().ok()).unwrap_or(0);
        let noted = self.disk.current.get(&shard).cloned();
        let from = match (from, noted) {
            (Some(from), Some((epoch, name))) => Some(if epoch > of(&from) { name } else { from }),
            (from, noted) => from.or(noted.map(|(_, name)| name)),
        };
        let me = self.processes[i].name.clone();
        let name = format!("{me}/{epoch}");
        // What an earlier tenure of ours was still told is true of the same content, and of no other one.
        let own = self.disk.of(&name, shard);
        let cursor = match (from.as_ref().and_then(|name| self.disk.of(name, shard)), own) {
            (Some(found), Some(own)) if own.incarnation == found.incarnation && own.committed > found.committed => own,
            (Some(found), _) => found,
            (None, Some(own)) => own,
            (None, None) => Cursor { incarnation: self.rng.draw(), committed: 0 },
        };
        self.disk.registries[i].insert(shard, cursor);
        // The note is never written over a newer one.
        let outdone = self.disk.current.get(&shard).is_some_and(|(known, _)| *known > epoch);
        let adopted = if outdone {
            Adopted::Outdone
        } else {
            if let Err(why) = self.disk.copied(shard, &cursor, &name) {
                self.tell(&why);
                self.broken.get_or_insert(why);
            }
            self.disk.current.insert(shard, (epoch, name.clone()));
            Adopted::Into(name)
        };
        self.report(i, Report::Adopted { shard, epoch, adopted });
    }

    /// Reads, sends, gets acknowledgements and commits.
    fn ship(&mut self, i: usize) {
        let now = clock(&self.processes[i], self.now);
        let mut closed = Vec::new();
        let process = &mut self.processes[i];
        for (shard, open) in &mut process.open {
            let at = usize::from(shard.0);
            if !open.closing && process.fence.holds(now) && open.read < self.written[at] && self.rng.chance(5000) {
                open.read += 1 + self.rng.below(self.written[at] - open.read);
            }
            if open.acked < open.read && self.rng.chance(5000) {
                let to = open.acked + 1 + self.rng.below(open.read - open.acked);
                let arrived = &mut self.arrived[at];
                arrived.resize(arrived.len().max(to as usize), None);
                for line in &mut arrived[open.acked as usize..to as usize] {
                    match line {
                        Some((id, _)) if *id == open.incarnation => self.again += 1,
                        Some((_, doubled)) => *doubled = true,
                        None => *line = Some((open.incarnation, false)),
                    }
                }
                open.acked = to;
            }
            let Some(cursor) = self.disk.registries[i].get_mut(shard) else { continue };
            if process.fence.holds(now) && self.rng.chance(5000) && cursor.committed < open.acked {
                cursor.committed = open.acked;
            }
            let all = cursor.committed == open.read;
            if open.closing && all {
                closed.push(*shard);
            }
        }
        for shard in closed {
            self.processes[i].open.remove(&shard);
            let process = &mut self.processes[i];
            let serving = process.member.shards().any(|(s, stage)| s == shard && stage == Stage::Closing);
            assert!(serving, "{shard} is closed but not closing");
            process.member.report(Report::Closed { shard }, now);
            process.wake = now;
        }
    }

    pub(crate) fn kill_one(&mut self) -> String {
        let i = self.rng.below(self.processes.len() as u64) as usize;
        self.crash(i);
        self.processes[i].name.clone()
    }

    pub(crate) fn leave_one(&mut self) -> usize {
        let i = self.rng.below(self.processes.len() as u64) as usize;
        let now = clock(&self.processes[i], self.now);
        let process = &mut self.processes[i];
        process.member.leave();
        process.wake = now;
        process.open.len()
    }

    pub(crate) fn moves(&self) -> usize {
        self.moves
    }

    pub(crate) fn requests(&self) -> (u64, u64, u64) {
        self.api.requests
    }

    pub(crate) fn until_served(&mut self, limit: Duration) -> Option<Duration> {
        let begin = self.now;
        while self.now < begin + limit.as_millis() as u64 {
            self.step();
            if self.served() {
                return Some(Duration::from_millis(self.now - begin));
            }
        }
        None
    }

    fn served(&self) -> bool {
        let alive = || self.processes.iter().filter(|p| p.alive);
        (0..SHARDS).all(|s| alive().filter(|p| p.open.contains_key(&Shard(s))).count() == 1)
    }

    pub(crate) fn check_spread(&self) -> Result<(), String> {
        if !self.served() {
            return Err("not every shard is served once".to_owned());
        }
        let loads: Vec<usize> =
            self.processes.iter().filter(|p| p.alive && !p.member.is_gone()).map(|p| p.open.len()).collect();
        match (loads.iter().min(), loads.iter().max()) {
            (Some(least), Some(most)) if most - least <= 1 => Ok(()),
            _ => Err(format!("uneven: {loads:?}")),
        }
    }

    /// All promises; how many lines came again.
    pub(crate) fn check(&self) -> Result<u64, String> {
        self.broken.clone().map_or(Ok(()), Err)?;
        self.check_spread()?;
        for shard in 0..SHARDS {
            let at = usize::from(shard);
            for line in 0..self.written[at] {
                match self.arrived[at].get(line as usize).copied().flatten() {
                    None => return Err(format!("line {line} of shard {shard} never arrived")),
                    Some((_, true)) => return Err(format!("line {line} of shard {shard} has several ids")),
                    Some((_, false)) => {}
                }
            }
            let owner = self.processes.iter().find(|p| p.alive && p.open.contains_key(&Shard(shard)));
            let committed = owner.and_then(|p| self.disk.of(&p.open[&Shard(shard)].registry, Shard(shard)));
            if committed.is_none_or(|c| c.committed != self.written[at]) {
                return Err(format!("shard {shard}: {committed:?} of {} lines are committed", self.written[at]));
            }
        }
        Ok(self.again)
    }
}

/// A process's own clock.
fn clock(process: &Process, now: u64) -> Mono {
    Mono((process.origin + now * process.speed / 1000) * 1_000_000)
}
