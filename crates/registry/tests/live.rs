//! A registry is read while its owner writes it: every call of the file system of one between any two of the other, and
//! real files with both as fast as they can.
//!
//! The model: for each file the states that it had, in their order, and which of them was durable. What a read finds must
//! be the one that was durable when it began, or a later one.

#![expect(clippy::panic, reason = "a failing seed is told")]
#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the test plays the engine")]

mod steps;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::foreign::Bounds;
use pillion_registry::{Entry, Error, FilestreamState, Identifier, Kind, Options, Registry, live};
use pillion_sim::world::{Rng, SimWorld};
use pillion_world::World;
use steps::{Gate, before};

const FILES: usize = 6;

/// A file's state: whether it is of the part, and its offset.
type State = Option<u64>;

/// The states that each file had, and the one that is durable.
struct Model(Mutex<Vec<(Vec<State>, usize)>>);

impl Model {
    fn new() -> Arc<Model> {
        Arc::new(Model(Mutex::new(vec![(vec![None], 0); FILES])))
    }

    fn durable(&self) -> Vec<usize> {
        self.0.lock().unwrap().iter().map(|(_, durable)| *durable).collect()
    }

    /// Compares with what a read found that began when these were durable.
    fn check(&self, began: &[usize], found: &[Entry]) -> Result<(), String> {
        let all = self.0.lock().unwrap();
        for (n, ((states, _), began)) in all.iter().zip(began).enumerate() {
            let key = entry(n, true).key;
            let is = found.iter().find(|e| e.key == key).map(|e| e.offset);
            let may = states.get(*began..).unwrap();
            if !may.contains(&is) {
                return Err(format!("{key}: {is:?} isn't one of {may:?}"));
            }
        }
        let strange = found.iter().find(|e| !e.source.starts_with("/in/"));
        strange.map_or(Ok(()), |e| Err(format!("{e:?} isn't of the part")))
    }
}

fn entry(n: usize, inside: bool) -> Entry {
    let id = Identifier::Native { ino: n as u64, dev: 0 };
    let source = format!("/{}/{n}.log", if inside { "in" } else { "out" });
    let life = Incarnation(n as u128 + 1);
    Entry::new(Kind::Filestream(FilestreamState::default()), "jobs", &id, source.into(), life)
}

fn is_part(entry: &Entry) -> bool {
    entry.source.starts_with("/in/")
}

/// One change by the owner and, mostly, a sync.
fn change(registry: &Registry, rng: &mut Rng, model: &Model, clock: &mut u64) {
    let n = rng.index(FILES);
    let key = entry(n, true).key;
    *clock += 1;
    match (rng.below(10), registry.get(&key)) {
        (0, Some(_)) => registry.remove(&key),
        (1 | 2, Some(known)) => {
            registry.upsert(Entry { source: entry(n, rng.chance(5000)).source, ..(*known).clone() })
        }
        (_, Some(known)) => {
            let cursor = Cursor { key, incarnation: known.incarnation, offset: *clock, guard: Guard::default() };
            assert!(registry.commit(&Acked::by_target(cursor)));
        }
        (_, None) => registry.upsert(Entry { offset: *clock, ..entry(n, rng.chance(8000)) }),
    }
    let now = registry.get(&entry(n, true).key).filter(|e| is_part(e)).map(|e| e.offset);
    model.0.lock().unwrap()[n].0.push(now);
    let last: Vec<usize> = model.0.lock().unwrap().iter().map(|(states, _)| states.len() - 1).collect();
    if rng.chance(7000) {
        registry.sync().unwrap();
        for (file, last) in model.0.lock().unwrap().iter_mut().zip(last) {
            file.1 = last;
        }
    }
}

const DATA: &str = "/share/.pillion/replicas/pod-1";

/// Every call of the owner between any two of the reader, as a seed has it. How many reads there were, and how many of
/// them ended with nothing since everything was rewritten too often.
fn lockstep(seed: u64) -> Result<(u32, u32), String> {
    let sim = SimWorld::new(seed);
    let (model, gate) = (Model::new(), Arc::new(Gate::default()));
    let world = sim.world();
    let checkpoint_at = [400, 4000, 20_000][(seed % 3) as usize];
    let options = Options { checkpoint_at, ..Options::default() };
    let (registry, _) = Registry::open(&world, Path::new(DATA), &options).unwrap();
    registry.sync().unwrap();
    drop(registry);
    let owner = std::thread::spawn({
        let (gate, model, world, options) = (Arc::clone(&gate), Arc::clone(&model), world.clone(), options.clone());
        move || {
            let passing = Arc::clone(&gate);
            let world = before(world, move || passing.pass());
            let (registry, _) = Registry::open(&world, Path::new(DATA), &options).unwrap();
            let (mut rng, mut clock) = (Rng::new(seed), 0);
            while !gate.is_open() {
                change(&registry, &mut rng, &model, &mut clock);
            }
        }
    });
    let rng = Mutex::new(Rng::new(seed ^ 1));
    let granting = Arc::clone(&gate);
    let most = 1 + seed % 5;
    let reader = before(world, move || {
        let calls = rng.lock().unwrap().below(most + 1);
        granting.grant(calls);
    });
    gate.grant(50);
    let (mut busy, mut wrong) = (0, Ok(()));
    const READS: u32 = 12;
    for _ in 0..READS {
        gate.grant(20);
        let began = model.durable();
        match live::read(&reader, Path::new(DATA), &options, &Bounds::default(), &is_part) {
            Ok(found) => wrong = wrong.and(model.check(&began, &found.entries)),
            Err(Error::Unreadable { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => busy += 1,
            Err(e) => wrong = wrong.and(Err(e.to_string())),
        }
    }
    gate.open();
    owner.join().unwrap();
    wrong.map(|()| (READS, busy))
}

#[test]
fn each_call_of_the_owner_between_any_two_of_the_reader() {
    let (mut all, mut busy) = (0, 0);
    for seed in 0..150 {
        let (reads, lost) = lockstep(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        (all, busy) = (all + reads, busy + lost);
    }
    // With a checkpoint behind every second change there is no end to it now and then.
    assert!(busy * 10 < all, "{busy} of {all} reads came to nothing");
}

#[test]
fn real_files_and_both_as_fast_as_they_can() {
    let tmp = tempfile::tempdir().unwrap();
    let model = Model::new();
    let options = Options { checkpoint_at: 16 * 1024, ..Options::default() };
    let (registry, _) = Registry::open(&World::real(), tmp.path(), &options).unwrap();
    registry.sync().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let checkpoints = std::thread::scope(|threads| {
        threads.spawn(|| {
            let (mut rng, mut clock) = (Rng::new(1), 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                change(&registry, &mut rng, &model, &mut clock);
            }
        });
        let mut checkpoints = std::collections::BTreeSet::new();
        let mut wrong = Ok(());
        let mut reads = 0;
        // As long as it takes to see the owner put many checkpoints in place.
        while wrong.is_ok() && (reads < 300 || checkpoints.len() < 20) {
            let began = model.durable();
            let found = live::read(&World::real(), tmp.path(), &options, &Bounds::default(), &is_part);
            wrong = found.map_err(|e| e.to_string()).and_then(|found| model.check(&began, &found.entries));
            let names = std::fs::read_dir(tmp.path().join("registry/filebeat")).unwrap();
            let names = names.filter_map(|e| e.unwrap().file_name().into_string().ok());
            checkpoints.extend(names.filter(|name| name.as_bytes()[0].is_ascii_digit()));
            reads += 1;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        wrong.map(|()| checkpoints.len())
    });
    assert!(checkpoints.unwrap() >= 20);
}

fn kind(found: Result<pillion_registry::foreign::Foreign, Error>) -> io::ErrorKind {
    let error = found.err().unwrap();
    let Error::Unreadable { source, .. } = &error else { panic!("{error}") };
    source.kind()
}

#[test]
fn what_cannot_be_relied_on_is_an_error_and_never_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let read = || live::read(&World::real(), tmp.path(), &Options::default(), &Bounds::default(), &|_| true);
    assert_eq!(kind(read()), io::ErrorKind::NotFound);
    let (registry, _) = Registry::open(&World::real(), tmp.path(), &Options::default()).unwrap();
    assert_eq!(kind(read()), io::ErrorKind::NotFound, "opened, and never synced");
    registry.sync().unwrap();
    assert_eq!(read().unwrap().entries, []);
    registry.upsert(entry(1, true));
    registry.upsert(entry(2, false));
    registry.sync().unwrap();
    assert_eq!(read().unwrap().entries.len(), 2);
    drop(registry);
    // A start writes a checkpoint of what it read; then the log begins behind it.
    let (registry, _) = Registry::open(&World::real(), tmp.path(), &Options::default()).unwrap();
    registry.upsert(entry(3, true));
    registry.sync().unwrap();
    let home = tmp.path().join("registry/filebeat");
    let names = std::fs::read_dir(&home).unwrap().map(|e| e.unwrap().path());
    let checkpoint = names.filter(|p| p.file_stem().unwrap().to_str().unwrap().parse::<u64>().is_ok()).max().unwrap();
    let whole = std::fs::read(&checkpoint).unwrap();
    // An old one in its place, or one that is broken.
    std::fs::rename(&checkpoint, home.join("1.json")).unwrap();
    assert_eq!(kind(read()), io::ErrorKind::InvalidData);
    std::fs::remove_file(home.join("1.json")).unwrap();
    assert_eq!(kind(read()), io::ErrorKind::NotFound);
    std::fs::write(&checkpoint, &whole[..whole.len() - 9]).unwrap();
    let found = read().unwrap();
    assert_eq!((found.entries.len(), found.refused_count), (2, 1), "{found:?}");
}

#[test]
fn a_network_file_systems_client_that_lies_is_asked_again() {
    use pillion_sim::world::Faults;
    for seed in 0..200 {
        let sim = SimWorld::new(seed);
        sim.network("/share");
        sim.app().create_dir_all("/share").unwrap();
        let options = Options { checkpoint_at: 2000, ..Options::default() };
        let (registry, _) = Registry::open(&sim.world(), Path::new(DATA), &options).unwrap();
        let (model, mut rng, mut clock) = (Model::new(), Rng::new(seed), 0);
        for _ in 0..20 {
            sim.set_faults(Faults::NONE);
            for _ in 0..rng.below(20) {
                change(&registry, &mut rng, &model, &mut clock);
            }
            registry.sync().unwrap();
            let began = model.durable();
            let lies = Faults { stale_size: 3000, size_ahead: 3000, stale_name: 3000, stale_dir: 3000, ..Faults::NONE };
            sim.set_faults(Faults { stale_handle: 500, short_read: 2000, ..lies });
            let found = live::read(&sim.world(), Path::new(DATA), &options, &Bounds::default(), &is_part).unwrap();
            model.check(&began, &found.entries).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
    }
}
