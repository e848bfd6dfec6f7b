//! A harvester over a real folder and a clock that only the test moves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a failing call is a failing test")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pillion_event::{Acked, Batch, Cursor, InputDesc, InputKind};
use pillion_input::parse::{Chain, ChainOptions};
use pillion_input::{Budget, Glob, Harvester, Identity, InputSpec, Limits, Own, Step};
use pillion_registry::{Options, Registry};
use pillion_world::{Clock, Mono, UnixMillis, World};

pub struct TestClock {
    wall: i64,
    ns: AtomicU64,
}

impl Clock for TestClock {
    fn mono(&self) -> Mono {
        Mono(self.ns.load(Ordering::SeqCst))
    }
    fn wall(&self) -> UnixMillis {
        UnixMillis(self.wall + (self.mono().0 / 1_000_000) as i64)
    }
}

pub fn desc(kind: InputKind, id: &str) -> Arc<InputDesc> {
    Arc::new(InputDesc::bare(kind, id))
}

pub struct Rig {
    pub tmp: tempfile::TempDir,
    pub world: World,
    pub clock: Arc<TestClock>,
    pub registry: Arc<Registry>,
    pub harvester: Harvester,
    pub specs: Vec<InputSpec>,
    pub limits: Limits,
    /// Batches that aren't acknowledged yet.
    pub batches: Vec<Batch>,
}

impl Rig {
    /// A log input with native identity.
    pub fn log() -> Rig {
        Rig::with(|_| {})
    }

    pub fn fingerprint(growing: bool) -> Rig {
        Rig::with(|spec| {
            spec.desc = desc(InputKind::Filestream, "jobs");
            spec.identity = Identity::Fingerprint { offset: 0, length: 64, growing };
            spec.registry_v9 = true;
        })
    }

    pub fn with(change: impl FnOnce(&mut InputSpec)) -> Rig {
        Rig::on(World::real(), &["*.log*"], change)
    }

    pub fn on(real: World, patterns: &[&str], change: impl FnOnce(&mut InputSpec)) -> Rig {
        let tmp = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock { wall: real.clock.wall().0, ns: AtomicU64::new(1) });
        let world = World { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..real };
        std::fs::create_dir_all(tmp.path().join("logs")).unwrap();
        let globs =
            patterns.iter().map(|p| Glob::new(tmp.path().join("logs").join(p).as_os_str(), true).unwrap()).collect();
        let chain = Arc::new(Chain::new(ChainOptions::default()));
        let mut spec = InputSpec::new(desc(InputKind::Log, ""), chain, globs);
        change(&mut spec);
        let specs = vec![spec];
        let limits = Limits::default();
        let (registry, harvester) = start(&world, tmp.path(), &specs, limits);
        Rig { tmp, world, clock, registry, harvester, specs, limits, batches: Vec::new() }
    }

    /// A restart of the process: what wasn't acknowledged is forgotten.
    pub fn restart(&mut self) {
        self.batches.clear();
        self.registry.sync().unwrap();
        let limits = self.limits;
        // The registry's lock goes with the last user of it.
        let (scratch, spare) = {
            let tmp = tempfile::tempdir().unwrap();
            let pair = start(&self.world, tmp.path(), &[], limits);
            (tmp, pair)
        };
        self.harvester = spare.1;
        self.registry = spare.0;
        drop(scratch);
        let (registry, harvester) = start(&self.world, self.tmp.path(), &self.specs, limits);
        self.registry = registry;
        self.harvester = harvester;
    }

    /// A restart, after which the harvester is changed before its first step.
    pub fn restart_with(&mut self, change: impl FnOnce(Harvester) -> Harvester) {
        self.restart();
        let (world, registry) = (self.world.clone(), Arc::clone(&self.registry));
        let spare = Harvester::new(world, registry, Vec::new(), &Own::default(), self.limits, &Arc::default());
        self.harvester = change(std::mem::replace(&mut self.harvester, spare));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join("logs").join(name)
    }

    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut f = std::fs::OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        f.write_all(text.as_ref()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    pub fn truncate(&self, name: &str, len: u64) {
        std::fs::OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(len).unwrap();
    }

    pub fn advance(&self, by: Duration) {
        self.clock.ns.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }

    /// Steps until there is nothing to do at this time; gives the lines of the batches.
    pub fn settle(&mut self) -> Vec<String> {
        self.settle_with(Budget::UNLIMITED)
    }

    pub fn settle_with(&mut self, budget: Budget) -> Vec<String> {
        let mut lines = Vec::new();
        for turn in 0..1_000_000 {
            let step = self.harvester.step(budget);
            // The walk is long where there are thousands of files, and so are the turns.
            if turn < 200 || turn % 50 == 0 || !matches!(step, Step::Worked | Step::Batch(_)) {
                self.check_sums();
            }
            match step {
                Step::Batch(batch) => {
                    batch.check().unwrap();
                    lines.extend(batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()));
                    self.batches.push(batch);
                }
                Step::Worked => {}
                Step::Full { .. } => return lines,
                Step::Idle { until } if until <= self.clock.mono() => panic!("idle, but something is due"),
                Step::Idle { .. } => return lines,
            }
        }
        panic!("the harvester doesn't come to rest");
    }

    /// What is said without a walk over all files is what a walk gives.
    fn check_sums(&self) {
        let (said, walked) = (self.harvester.standing(), self.harvester.stats());
        let of = (said.unread_bytes, said.files, said.open, said.refused);
        assert_eq!(of, (walked.unread, walked.files as u64, walked.open as u64, walked.refused));
        let lost: u64 = self.harvester.losses().iter().map(|l| l.to - l.from).sum();
        assert_eq!((said.filtered, said.lost), (walked.tally.filtered, lost));
        let lag = |f: &pillion_input::FileAccount| f.len > f.pos && !f.gone;
        let behind = self.harvester.accounts().iter().filter(|f| lag(f)).count() as u64;
        assert!(said.unread_files >= behind && (said.unread_files == 0) == (said.unread_bytes == 0));
    }

    /// The next search.
    pub fn search(&mut self) -> Vec<String> {
        self.advance(Duration::from_secs(10));
        self.settle()
    }

    /// The drain.
    pub fn drain(&mut self) -> Vec<String> {
        self.harvester.drain();
        let mut lines = Vec::new();
        for _ in 0..100 {
            lines.extend(self.settle());
            if self.harvester.drained() {
                return lines;
            }
            self.advance(Duration::from_secs(1));
        }
        panic!("not drained: {:#?}", self.harvester.accounts());
    }

    /// Acknowledges everything that was read.
    pub fn ack(&mut self) {
        for batch in self.batches.drain(..) {
            let cursor = Cursor {
                key: Arc::clone(&batch.source.key),
                incarnation: batch.source.incarnation,
                offset: batch.to,
                guard: batch.guard,
            };
            self.registry.commit(&Acked::by_target(cursor));
        }
    }

    pub fn lost(&self) -> u64 {
        self.harvester.losses().iter().map(|l| l.to - l.from).sum()
    }
}

fn start(world: &World, dir: &Path, specs: &[InputSpec], limits: Limits) -> (Arc<Registry>, Harvester) {
    let options = Options::default();
    let (registry, _) = Registry::open(world, &dir.join("data"), &options).unwrap();
    let registry = Arc::new(registry);
    let own = Own { dirs: vec![dir.join("data")], files: vec![dir.join("logs/pillion-own.log")], ..Own::default() };
    let harvester = Harvester::new(world.clone(), Arc::clone(&registry), specs.to_vec(), &own, limits, &Arc::default());
    (registry, harvester)
}
