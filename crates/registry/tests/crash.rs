//! The registry on the simulated disk: a crash at every step of the file system, and long runs with faults.
//!
//! The model: for each key the states that it may have after a crash, which are the last one that was synced and all
//! later ones. After each restart what the registry says must be one of them, whole.

#![expect(clippy::panic, reason = "a failing seed is told with its trace")]
#![expect(clippy::disallowed_methods, reason = "the test plays the engine")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::{
    Entry, Error, FilestreamState, Identifier, Intent, Kind, LogState, LogWords, Options, Registry,
};
use pillion_sim::world::{Crash, Faults, Rng, SimWorld};
use proptest::prelude::*;

const DATA: &str = "/var/data";

/// What is compared of an entry.
type State = Option<(Arc<str>, u64, Incarnation, Vec<Intent>)>;

fn state(entry: Option<Arc<Entry>>) -> State {
    entry.map(|e| (Arc::clone(&e.source), e.offset, e.incarnation, e.intents.clone()))
}

fn entry(n: u64, source: &str, incarnation: u128) -> Entry {
    let id = Identifier::Native { ino: n, dev: 1 };
    let kind = if n.is_multiple_of(2) {
        let words = LogWords { input_type: "log".into(), ..LogWords::default() };
        Kind::Log(LogState { ino: n, dev: 1, words: words.into() })
    } else {
        Kind::Filestream(FilestreamState::default())
    };
    Entry::new(kind, "jobs", &id, source.into(), Incarnation(incarnation))
}

fn open(sim: &SimWorld) -> Result<Registry, Error> {
    Registry::open(&sim.world(), Path::new(DATA), &Options::default()).map(|(registry, _)| registry)
}

/// One thing that may be done.
#[derive(Clone, Debug)]
enum Op {
    Upsert { n: u64, incarnation: u128 },
    Rename { n: u64 },
    Intend { n: u64, len: u64 },
    Commit { n: u64, by: u64 },
    Remove { n: u64 },
    Sync,
}

fn key(n: u64) -> Arc<str> {
    entry(n, "", 0).key
}

fn apply(registry: &Registry, op: &Op) {
    match op {
        Op::Upsert { n, incarnation } => registry.upsert(entry(*n, "/x/a.log", *incarnation * 10 + u128::from(*n))),
        Op::Rename { n } => {
            if let Some(e) = registry.get(&key(*n)) {
                registry.upsert(Entry { source: format!("{}.1", e.source).into(), ..(*e).clone() });
            }
        }
        Op::Intend { n, len } => {
            if let Some(e) = registry.get(&key(*n)) {
                let from = e.intents.last().map_or(e.offset, |i| i.to);
                let _ = registry.intend(
                    &e.key,
                    e.incarnation,
                    Intent { from, to: from + len, read_ms: 1, guard: Guard::default() },
                );
            }
        }
        Op::Commit { n, by } => {
            if let Some(e) = registry.get(&key(*n)) {
                let (key, incarnation, offset) = (Arc::clone(&e.key), e.incarnation, e.offset + by);
                registry.commit(&Acked::by_target(Cursor { key, incarnation, offset, guard: Default::default() }));
            }
        }
        Op::Remove { n } => registry.remove(&key(*n)),
        Op::Sync => {}
    }
}

/// What may be on the disk.
#[derive(Default)]
struct Model {
    /// For each key the last durable state and all later ones, the newest last.
    allowed: BTreeMap<Arc<str>, Vec<State>>,
}

impl Model {
    fn note(&mut self, registry: &Registry, n: u64) {
        let now = state(registry.get(&key(n)));
        let states = self.allowed.entry(key(n)).or_insert_with(|| vec![None]);
        if states.last() != Some(&now) {
            states.push(now);
        }
    }

    fn synced(&mut self) {
        for states in self.allowed.values_mut() {
            states.drain(..states.len() - 1);
        }
    }

    /// Compares with what a restart found, and goes on from there.
    fn check(&mut self, registry: &Registry) -> Result<(), String> {
        for found in registry.entries() {
            if !self.allowed.contains_key(&found.key) {
                return Err(format!("invented: {found:?}"));
            }
        }
        for (key, states) in &mut self.allowed {
            let found = state(registry.get(key));
            if !states.contains(&found) {
                return Err(format!("{key}: {found:?} isn't one of {states:?}"));
            }
            *states = vec![found];
        }
        Ok(())
    }
}

fn number(op: &Op) -> Option<u64> {
    match op {
        Op::Upsert { n, .. } | Op::Rename { n } | Op::Intend { n, .. } | Op::Commit { n, .. } | Op::Remove { n } => {
            Some(*n)
        }
        Op::Sync => None,
    }
}

/// Does the operations, as far as the process lives. With `model` keeps up what may be found afterwards.
fn drive(sim: &SimWorld, registry: &Registry, ops: &[Op], model: &mut Model) {
    for op in ops {
        if sim.crashed() {
            return;
        }
        apply(registry, op);
        match number(op) {
            Some(n) => model.note(registry, n),
            None if registry.sync().is_ok() => model.synced(),
            None => {}
        }
    }
}

/// Restarts until a registry opens; faults are off, so that the first one does.
fn reopened(sim: &SimWorld, model: &mut Model) -> Result<Registry, String> {
    sim.restart();
    sim.no_crash();
    let registry = open(sim).map_err(|e| format!("doesn't open: {e}"))?;
    model.check(&registry)?;
    Ok(registry)
}

fn random_op(rng: &mut Rng) -> Op {
    let n = 1 + rng.below(5);
    match rng.below(12) {
        0 | 1 => Op::Upsert { n, incarnation: 1 + u128::from(rng.below(1000)) },
        2 => Op::Rename { n },
        3 | 4 => Op::Intend { n, len: rng.below(50) },
        5..=7 => Op::Commit { n, by: 1 + rng.below(50) },
        8 => Op::Remove { n },
        _ => Op::Sync,
    }
}

/// A short history that passes each kind of step: first start, log, checkpoint after a fault, restart.
fn scripted(sim: &SimWorld, model: &mut Model) {
    let Ok(registry) = open(sim) else { return };
    let up = |n| Op::Upsert { n, incarnation: 1 };
    drive(sim, &registry, &[up(1), up(2), Op::Sync, Op::Intend { n: 1, len: 10 }, Op::Sync], model);
    drive(sim, &registry, &[Op::Commit { n: 1, by: 10 }, up(3), Op::Remove { n: 2 }, Op::Sync], model);
    if sim.crashed() {
        return;
    }
    sim.set_full(true);
    drive(sim, &registry, &[Op::Commit { n: 1, by: 5 }, Op::Sync, Op::Sync], model);
    sim.set_full(false);
    drive(sim, &registry, &[Op::Commit { n: 3, by: 5 }, Op::Sync, Op::Commit { n: 1, by: 1 }, Op::Sync], model);
    if sim.crashed() {
        return;
    }
    drop(registry);
    let Ok(registry) = open(sim) else { return };
    drive(sim, &registry, &[up(4), Op::Sync, Op::Commit { n: 4, by: 1 }, Op::Sync], model);
}

#[test]
fn a_crash_at_every_step_loses_nothing_synced_and_invents_nothing() {
    let steps = {
        let sim = SimWorld::new(0);
        scripted(&sim, &mut Model::default());
        sim.set_full(false);
        sim.steps()
    };
    assert!(steps > 80, "{steps}");
    for how in [Crash::Process, Crash::Machine] {
        for step in 1..=steps {
            for seed in 0..12 {
                let sim = SimWorld::new(seed);
                let mut model = Model::default();
                sim.start_trace();
                sim.crash_at(step, how);
                scripted(&sim, &mut model);
                sim.set_full(false);
                if !sim.crashed() {
                    continue;
                }
                let again = reopened(&sim, &mut model).and_then(|registry| {
                    // It goes on, and a power failure right after the next sync changes nothing any more.
                    drive(&sim, &registry, &[Op::Commit { n: 1, by: 7 }, Op::Sync], &mut model);
                    sim.crash(Crash::Machine);
                    reopened(&sim, &mut model)
                });
                if let Err(why) = again.map(drop) {
                    panic!("{how:?} at step {step}, seed {seed}: {why}\n{}", sim.trace());
                }
            }
        }
    }
}

/// A long run of random operations with faults and crashes.
fn long_run(seed: u64) -> Result<(), String> {
    let sim = SimWorld::new(seed);
    let mut rng = Rng::new(seed);
    let mut model = Model::default();
    sim.start_trace();
    let mut registry = open(&sim).map_err(|e| e.to_string())?;
    for _ in 0..6 {
        let harm = Faults { read_error: 0, ..Faults::SOME };
        sim.set_faults(Faults { no_space: 300, write_error: 300, sync_error: 300, dir_error: 300, ..harm });
        if rng.chance(7000) {
            let how = if rng.chance(5000) { Crash::Machine } else { Crash::Process };
            sim.crash_at(sim.steps() + 1 + rng.below(60), how);
        }
        let ops: Vec<Op> = (0..60).map(|_| random_op(&mut rng)).collect();
        drive(&sim, &registry, &ops, &mut model);
        sim.set_faults(Faults::NONE);
        if !sim.crashed() {
            sim.crash(if rng.chance(5000) { Crash::Machine } else { Crash::Process });
        }
        drop(registry);
        registry = reopened(&sim, &mut model).map_err(|why| format!("{why}\n{}", sim.trace()))?;
    }
    Ok(())
}

#[test]
fn long_runs_with_faults_keep_what_was_synced() {
    for seed in 0..1000 {
        long_run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// A crash at each step of taking an old layout over: it is taken over by the next start, whole.
fn take_over(prepare: impl Fn(&SimWorld)) {
    for how in [Crash::Process, Crash::Machine] {
        for seed in 0..6 {
            let mut step = 1;
            loop {
                let sim = SimWorld::new(seed);
                prepare(&sim);
                sim.start_trace();
                sim.crash_at(step, how);
                let done = open(&sim).is_ok_and(|registry| registry.sync().is_ok());
                sim.restart();
                sim.no_crash();
                let found =
                    open(&sim).unwrap_or_else(|e| panic!("{how:?} at {step}, seed {seed}: {e}\n{}", sim.trace()));
                let entry = found.get("filebeat::logs::native::3-4");
                let offset = entry.map(|e| e.offset);
                assert_eq!(offset, Some(17), "{how:?} at {step}, seed {seed}\n{}", sim.trace());
                if done {
                    break;
                }
                step += 1;
            }
            assert!(step > 20, "{step}");
        }
    }
}

const OLD: &[u8] = br#"[{"source":"/p","offset":17,"FileStateOS":{"inode":3,"device":4}}]"#;

#[test]
fn a_crash_while_the_file_of_5_6_is_taken_over() {
    take_over(|sim| sim.app().append(format!("{DATA}/registry"), OLD).unwrap());
}

#[test]
fn a_crash_while_the_folder_of_7_0_is_taken_over() {
    take_over(|sim| {
        let home = format!("{DATA}/registry/filebeat");
        sim.app().append(format!("{home}/meta.json"), br#"{"version":"0"}"#).unwrap();
        sim.app().append(format!("{home}/data.json"), OLD).unwrap();
    });
}

#[test]
fn a_disk_that_is_full_or_read_only_is_named() {
    let sim = SimWorld::new(1);
    sim.app().create_dir_all("/var").unwrap();
    sim.read_only("/var");
    let error = open(&sim).err().unwrap().to_string();
    assert!(error.contains(DATA) && error.contains("path.data"), "{error}");
}

#[test]
fn a_full_disk_forgets_nothing() {
    let sim = SimWorld::new(1);
    let registry = open(&sim).unwrap();
    registry.sync().unwrap();
    sim.set_full(true);
    for n in 1..=5 {
        registry.upsert(entry(n, "/x", u128::from(n)));
        registry.sync().unwrap_err();
    }
    sim.set_full(false);
    registry.sync().unwrap();
    sim.crash(Crash::Machine);
    drop(registry);
    sim.restart();
    assert_eq!(open(&sim).unwrap().entries().len(), 5);
}

#[test]
fn a_tail_torn_at_any_byte_costs_the_last_operation_alone() {
    let home = format!("{DATA}/registry/filebeat");
    let log = format!("{home}/log.json");
    let whole = {
        let sim = SimWorld::new(1);
        let registry = open(&sim).unwrap();
        registry.sync().unwrap();
        for n in [1, 2, 3] {
            registry.upsert(entry(n, "/a\"\\\u{1}é", u128::from(n)));
            registry.sync().unwrap();
        }
        // The first sync made a checkpoint, without entries: id 1.
        sim.app().read(&log).unwrap()
    };
    let last = String::from_utf8(whole.clone()).unwrap().match_indices("{\"op\"").last().unwrap().0;
    for cut in last..=whole.len() {
        // Some file systems leave zeros where data was to be.
        for zeros in [0, 5] {
            let sim = SimWorld::new(1);
            sim.app().append(format!("{home}/meta.json"), br#"{"version":"1"}"#).unwrap();
            sim.app().append(format!("{home}/1.json"), b"[\n]").unwrap();
            sim.app().append(&log, &[&whole[..cut], &vec![0; zeros][..]].concat()).unwrap();
            let options = Options::default();
            let (registry, opened) = Registry::open(&sim.world(), Path::new(DATA), &options).unwrap();
            let complete = cut == whole.len() || (cut == whole.len() - 1 && zeros == 0);
            assert_eq!(registry.entries().len(), if complete { 3 } else { 2 }, "cut at {cut}, {zeros} zeros");
            assert_eq!(opened.torn.is_none(), zeros == 0 && [last, whole.len()].contains(&cut), "cut at {cut}");
            // What is written next is found again.
            registry.upsert(entry(9, "/b", 9));
            registry.sync().unwrap();
            drop(registry);
            let (registry, opened) = Registry::open(&sim.world(), Path::new(DATA), &options).unwrap();
            assert_eq!((registry.entries().len(), opened.torn), (if complete { 4 } else { 3 }, None));
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (1..6u64, 1..9u128).prop_map(|(n, incarnation)| Op::Upsert { n, incarnation }),
        (1..6u64).prop_map(|n| Op::Rename { n }),
        (1..6u64, 0..50u64).prop_map(|(n, len)| Op::Intend { n, len }),
        (1..6u64, 1..50u64).prop_map(|(n, by)| Op::Commit { n, by }),
        (1..6u64).prop_map(|n| Op::Remove { n }),
        Just(Op::Sync),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Random operations and restarts: after a sync the registry is the same as before it was opened anew.
    #[test]
    fn restarts_change_nothing(parts in prop::collection::vec(ops(), 1..4)) {
        let sim = SimWorld::new(1);
        let mut model = Model::default();
        let mut registry = open(&sim).unwrap();
        for part in parts {
            drive(&sim, &registry, &part, &mut model);
            drive(&sim, &registry, &[Op::Sync], &mut model);
            drop(registry);
            registry = open(&sim).unwrap();
            prop_assert_eq!(model.check(&registry), Ok(()));
        }
    }
}
