//! The index of other replicas' registries, while their owners write: every call of theirs between any two of the
//! reader's, and real files. And its limits.
//!
//! The model: for each file the states that it had, in their order, and which of them was durable when the index was
//! refreshed. What is found is that state or a later one.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the test plays the engine")]

mod steps;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::others::{Found, Others};
use pillion_registry::{Entry, Error, FilestreamState, Identifier, Kind, Options, Registry};
use pillion_sim::world::{Rng, SimWorld};
use pillion_world::World;
use steps::{Gate, before};

const FOLDER: &str = "/share/.pillion/replicas";
const FILES: u64 = 6;

fn entry(n: u64) -> Entry {
    // Those with fingerprints are found by their lives, too.
    let id = match n % 2 {
        0 => Identifier::Native { ino: n, dev: 0 },
        _ => Identifier::Fingerprint(format!("{n:064x}")),
    };
    let kind = Kind::Filestream(FilestreamState::default());
    Entry::new(kind, "jobs", &id, format!("/share/{n}.log").into(), Incarnation(u128::from(n) + 1))
}

fn path(member: &str) -> PathBuf {
    Path::new(FOLDER).join(member)
}

/// Of each file the offsets that it had, and which of them is durable.
type Model = Mutex<Vec<(Vec<Option<u64>>, usize)>>;

fn model() -> Arc<Model> {
    Arc::new(Mutex::new(vec![(vec![None], 0); FILES as usize]))
}

fn durable(model: &Model) -> Vec<usize> {
    model.lock().unwrap().iter().map(|(_, durable)| *durable).collect()
}

/// One change by the owner and, mostly, a sync.
fn change(registry: &Registry, rng: &mut Rng, model: &Model, clock: &mut u64) {
    let n = rng.below(FILES);
    *clock += 1;
    match registry.get(&entry(n).key) {
        Some(_) if rng.chance(3000) => registry.remove(&entry(n).key),
        Some(known) => {
            let (key, incarnation) = (Arc::clone(&known.key), known.incarnation);
            registry.commit(&Acked::by_target(Cursor { key, incarnation, offset: *clock, guard: Guard::default() }));
        }
        None => registry.upsert(Entry { offset: *clock, ..entry(n) }),
    }
    let now = registry.get(&entry(n).key).map(|e| e.offset);
    model.lock().unwrap()[n as usize].0.push(now);
    let last: Vec<usize> = model.lock().unwrap().iter().map(|(states, _)| states.len() - 1).collect();
    if rng.chance(7000) {
        registry.sync().unwrap();
        for (file, last) in model.lock().unwrap().iter_mut().zip(last) {
            file.1 = last;
        }
    }
}

/// Asks for every file, by its key and by its life; how many answers there were that tell something.
fn check(others: &mut Others, began: &[usize], model: &Model, member: &str, complete: bool) -> Result<u32, String> {
    let mut told = 0;
    for n in 0..FILES * 2 {
        let (n, by_life) = (n / 2, n % 2 == 1);
        if by_life && matches!(entry(n).identifier(), Some(Identifier::Native { .. })) {
            continue;
        }
        let found = if by_life { others.lives(&[entry(n).incarnation]) } else { others.find(&[&entry(n).key]) };
        let found = match found {
            Ok(found) if complete && !found.whole => return Err(format!("file {n} is unknown to a complete index")),
            Ok(Found { entries, whole }) if entries.is_empty() && !whole => continue,
            Ok(Found { entries, .. }) if entries.is_empty() => None,
            Ok(Found { entries, .. }) if entries.len() == 1 && entries[0].0 == member => Some(entries[0].1.offset),
            Err(Error::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::ResourceBusy => continue,
            other => return Err(format!("{other:?}")),
        };
        told += 1;
        let all = model.lock().unwrap();
        let may = all[n as usize].0.get(began[n as usize]..).unwrap();
        if !may.contains(&found) {
            return Err(format!("file {n}: {found:?} isn't one of {may:?}"));
        }
    }
    Ok(told)
}

fn lockstep(seed: u64) -> Result<(u32, u32), String> {
    let sim = SimWorld::new(seed);
    let (model, gate) = (model(), Arc::new(Gate::default()));
    let world = sim.world();
    let options = Options { checkpoint_at: [400, 4000, 20_000][(seed % 3) as usize], ..Options::default() };
    let (registry, _) = Registry::open(&world, &path("pod-1"), &options).unwrap();
    registry.sync().unwrap();
    drop(registry);
    let owner = std::thread::spawn({
        let (gate, model, world) = (Arc::clone(&gate), Arc::clone(&model), world.clone());
        move || {
            let passing = Arc::clone(&gate);
            let (registry, _) =
                Registry::open(&before(world, move || passing.pass()), &path("pod-1"), &options).unwrap();
            let (mut rng, mut clock) = (Rng::new(seed), 0);
            while !gate.is_open() {
                change(&registry, &mut rng, &model, &mut clock);
            }
        }
    });
    let (granting, steps) = (Arc::clone(&gate), Mutex::new(Rng::new(seed ^ 1)));
    let most = 1 + seed % 4;
    let reader = before(world, move || granting.grant(steps.lock().unwrap().below(most + 1)));
    gate.grant(50);
    // A budget that is often used up in the midst of a checkpoint or a log.
    let mut others = Others::new(&reader, Path::new(FOLDER)).limited(1000, 500 + 700 * (seed % 5));
    let members = ["pod-1".to_owned()];
    let mut told = Ok((0, 0));
    for _ in 0..15 {
        gate.grant(seed % 60);
        let began = durable(&model);
        let progress = others.refresh(&members);
        let answers = check(&mut others, &began, &model, "pod-1", progress.complete);
        told = told.and_then(|(n, whole)| Ok((n + answers?, whole + u32::from(progress.complete))));
    }
    gate.open();
    owner.join().unwrap();
    told
}

#[test]
fn each_call_of_the_owner_between_any_two_of_the_reader() {
    let (mut told, mut whole) = (0, 0);
    for seed in 0..60 {
        let (answers, complete) = lockstep(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        (told, whole) = (told + answers, whole + complete);
    }
    assert!(told > 1000 && whole > 60, "{told} answers, {whole} complete");
}

#[test]
fn real_files_and_two_owners_as_fast_as_they_can() {
    let tmp = tempfile::tempdir().unwrap();
    let members = ["pod-1".to_owned(), "pod-2".to_owned()];
    let models = [model(), model()];
    let options = Options { checkpoint_at: 16 * 1024, ..Options::default() };
    let open = |member| Registry::open(&World::real(), &tmp.path().join(member), &options).unwrap().0;
    let registries = [open("pod-1"), open("pod-2")];
    registries.iter().for_each(|registry| registry.sync().unwrap());
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|threads| {
        // The second one is done before it is looked at, and has files of its own.
        let (mut rng, mut clock) = (Rng::new(2), 0);
        for _ in 0..500 {
            change(&registries[1], &mut rng, &models[1], &mut clock);
        }
        (0..FILES).for_each(|n| registries[1].remove(&entry(n).key));
        registries[1].upsert(Entry { offset: 7, ..entry(99) });
        registries[1].sync().unwrap();
        threads.spawn(|| {
            let (mut rng, mut clock) = (Rng::new(1), 0);
            while !stop.load(Ordering::Relaxed) {
                change(&registries[0], &mut rng, &models[0], &mut clock);
            }
        });
        let mut others = Others::new(&World::real(), tmp.path());
        let (mut told, mut whole, mut turns): (Result<u32, String>, _, _) = (Ok(0), 0, 0);
        while told.is_ok() && (turns < 100 || whole < 20) {
            let began = durable(&models[0]);
            let progress = others.refresh(&members);
            let answers = check(&mut others, &began, &models[0], "pod-1", progress.complete);
            told = told.and_then(|n| Ok(n + answers?));
            if progress.complete {
                let found = others.find(&[&entry(99).key]).unwrap().entries;
                assert!(matches!(&found[..], [(at, e)] if at == "pod-2" && e.offset == 7), "{found:?}");
            }
            (whole, turns) = (whole + u32::from(progress.complete), turns + 1);
        }
        stop.store(true, Ordering::Relaxed);
        told
    });
    assert!(told.unwrap() > 50);
}

#[test]
fn a_refresh_reads_what_is_new_and_a_bounded_part_of_it() {
    let sim = SimWorld::new(1);
    let world = sim.world();
    let options = Options { checkpoint_at: 100_000, ..Options::default() };
    let open = |member: &str| Registry::open(&world, &path(member), &options).unwrap().0;
    let (one, two) = (open("pod-1"), open("pod-2"));
    (0..2000).for_each(|n| one.upsert(entry(n)));
    (1000..1010).for_each(|n| two.upsert(Entry { offset: 5, ..entry(n) }));
    one.sync().unwrap();
    two.sync().unwrap();
    let members = ["pod-1".to_owned(), "pod-2".to_owned()];
    let mut others = Others::new(&world, Path::new(FOLDER)).limited(10_000, 64 * 1024);
    let find = |others: &mut Others, n: u64| {
        let found = others.find(&[&entry(n).key]).unwrap();
        let last = found.entries.last().map(|(member, entry)| (member.clone(), entry.offset));
        last.or_else(|| (!found.whole).then(|| ("unknown".to_owned(), 0)))
    };
    let at = |member: &str, offset| Some((member.to_owned(), offset));
    let mut turns = 1;
    while !others.refresh(&members).complete {
        assert_eq!(find(&mut others, 5000), at("unknown", 0), "what wasn't read yet isn't nowhere");
        turns += 1;
        assert!(turns < 100);
    }
    assert!(turns > 5, "{turns}");
    assert_eq!((find(&mut others, 7), find(&mut others, 5000)), (at("pod-1", 0), None));
    let keys: Vec<_> = [3, 5000, 1005].map(|n| entry(n).key).to_vec();
    let found = others.find(&keys.iter().map(|k| &**k).collect::<Vec<_>>()).unwrap();
    let entries: Vec<_> = found.entries.iter().map(|(member, e)| (&**member, &*e.key, e.offset)).collect();
    let all = [("pod-1", &*keys[0], 0), ("pod-1", &*keys[2], 0), ("pod-2", &*keys[2], 5)];
    assert_eq!((entries, found.whole), (all.to_vec(), true), "of two lives both");
    // What is appended is found after one refresh, and so is what goes; files that nobody has are forgotten.
    one.remove(&entry(7).key);
    one.upsert(entry(7000));
    one.sync().unwrap();
    assert!(others.refresh(&members).complete);
    assert_eq!((find(&mut others, 7), find(&mut others, 7000)), (None, at("pod-1", 0)));
    assert!(others.refresh(&members[1..]).complete);
    assert_eq!((find(&mut others, 7000), find(&mut others, 1005)), (None, at("pod-2", 5)));
    // Beyond the limit nothing is said to be nowhere.
    let mut small = Others::new(&world, Path::new(FOLDER)).limited(100, 64 << 20);
    assert!(small.refresh(&members).complete);
    assert_eq!(find(&mut small, 5000), at("unknown", 0));
    // One that hasn't written anything yet has nothing.
    let _three = open("pod-3");
    assert!(others.refresh(&["pod-2".to_owned(), "pod-3".to_owned()]).complete);
    assert_eq!(find(&mut others, 5000), None);
    // One whose folder isn't there, and names that are none.
    let strange = ["pod-2", "pod-9", "..", "a/b"].map(str::to_owned);
    let progress = others.refresh(&strange);
    assert_eq!((progress.complete, progress.failed.len()), (false, 3), "{progress:?}");
    assert_eq!((find(&mut others, 1005), find(&mut others, 5000)), (at("pod-2", 5), at("unknown", 0)));
}
