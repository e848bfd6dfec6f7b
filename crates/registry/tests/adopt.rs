//! A dead owner's registry is adopted: a crash at every step of the file system of owner and sweeper, and an owner that
//! wakes up beside its successor.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the test plays the engine")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::adopt::Claim;
use pillion_registry::beside::{Beat, Heart, Owner, is_done, lock, sight};
use pillion_registry::foreign::Bounds;
use pillion_registry::{Entry, FilestreamState, Identifier, Intent, Kind, Options, Registry};
use pillion_sim::world::{Crash, Rng, SimWorld};
use pillion_world::World;
use serde_json::json;

const DIR: &str = "/logs/.pillion/job-1";
const REGISTRY: &str = "registry";
const END: u64 = 100;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn entry(n: u64) -> Entry {
    let id = Identifier::Native { ino: n, dev: 0 };
    let source = format!("/logs/{n}.log");
    Entry::new(Kind::Filestream(FilestreamState::default()), "jobs", &id, source.into(), Incarnation(u128::from(n)))
}

fn acked(n: u64, offset: u64) -> Acked<Cursor> {
    let entry = entry(n);
    Acked::by_target(Cursor { key: entry.key, incarnation: entry.incarnation, offset, guard: Guard::default() })
}

fn offset(registry: &Registry, n: u64) -> Option<u64> {
    registry.get(&entry(n).key).map(|e| e.offset)
}

/// Opens a registry whose lock doesn't part processes.
fn open_beside(world: &World) -> Registry {
    struct Free;
    impl pillion_world::Lock for Free {}
    Registry::open_held(world, dir(), &Options::default(), Box::new(Free)).unwrap().0
}

/// What the owner has made durable so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Synced {
    offset: u64,
    in_flight: bool,
}

/// An owner's life, as long as nothing fails.
fn own(world: &World, synced: &mut Synced) -> Option<()> {
    let (held, _) = lock(world, dir()).ok()?;
    let mut heart = Heart::claim(world, dir()).ok()?;
    Owner { view: "/logs".into(), ..Owner::default() }.write(world, dir()).ok()?;
    let (registry, _) = Registry::open_held(world, dir(), &Options::default(), held).ok()?;
    registry.upsert(entry(1));
    registry.upsert(entry(2));
    registry.sync().ok()?;
    registry.commit(&acked(1, 40));
    registry.sync().ok()?;
    synced.offset = 40;
    heart.beat().ok()?;
    let intent = Intent { from: 40, to: 60, read_ms: 1_795_459_239_000, guard: Guard::default() };
    assert!(registry.intend(&entry(1).key, Incarnation(1), intent));
    registry.sync().ok()?;
    synced.in_flight = true;
    Some(())
}

/// A sweeper's work, as long as nothing fails: `true` when it has marked the registry.
fn sweep(world: &World, synced: Synced) -> Option<bool> {
    if is_done(world, dir()) {
        return Some(true);
    }
    let seen = sight(world, dir(), Path::new(REGISTRY)).ok()?;
    let claim = Claim::lay(world, dir(), Path::new(REGISTRY), &seen).ok()??;
    let mut taken = claim.open(Path::new(REGISTRY), &Bounds::default(), &mut HashSet::new()).ok()?;
    // Exactly from where it stopped, with what may have been sent.
    let one = taken.read.entries.iter().find(|e| e.key == entry(1).key);
    let at = one.map_or(0, |e| e.offset);
    assert!(at >= synced.offset, "{:?} of {synced:?}", taken.read);
    if synced.in_flight && at < 60 {
        let ranges: Vec<_> = one.unwrap().intents.iter().map(|i| (i.from, i.to)).collect();
        assert!(ranges == [(40, 60)] && one.unwrap().incarnation == Incarnation(1), "{:?}", taken.read);
    }
    for n in [1, 2] {
        taken.registry.upsert(entry(n));
        taken.registry.commit(&acked(n, END));
    }
    taken.registry.sync().ok()?;
    Some(taken.heart.done(&json!({"verdict": "complete"})).ok()? == Beat::Ours)
}

/// Whether the mark, if it is there, is true.
fn is_true(world: &World) -> Result<bool, String> {
    if !is_done(world, dir()) {
        return Ok(false);
    }
    let registry = open_beside(world);
    match (offset(&registry, 1), offset(&registry, 2)) {
        (Some(END), Some(END)) => Ok(true),
        other => Err(format!("marked as done at {other:?}")),
    }
}

fn crash_at(step: u64, how: Crash, seed: u64) -> Result<bool, String> {
    let sim = SimWorld::new(seed);
    let mut synced = Synced::default();
    sim.start_trace();
    sim.crash_at(step, how);
    let _ = own(&sim.world(), &mut synced);
    if !sim.crashed() {
        sim.no_crash();
        let at = step.saturating_sub(sim.steps());
        sim.crash(Crash::Process);
        sim.restart();
        sim.crash_at(sim.steps() + at.max(1), how);
        let _ = sweep(&sim.world(), synced);
    }
    let crashed = sim.crashed();
    let told = |why: String| format!("{how:?} at {step}, seed {seed}: {why}\n{}", sim.trace());
    if crashed {
        sim.restart();
        sim.no_crash();
        is_true(&sim.world()).map_err(told)?;
    }
    sim.no_crash();
    let again = sweep(&sim.world(), synced);
    if again != Some(true) {
        return Err(told(format!("the next sweep says {again:?}")));
    }
    sim.crash(Crash::Machine);
    sim.restart();
    match is_true(&sim.world()) {
        Ok(true) => Ok(crashed),
        // A mark that wasn't durable yet when the sweeper died: it is made again.
        Ok(false) if sweep(&sim.world(), synced) == Some(true) => Ok(crashed),
        other => Err(told(format!("after all: {other:?}"))),
    }
}

#[test]
fn a_crash_at_every_step_of_adopting_and_finishing_is_gone_on_with() {
    for how in [Crash::Process, Crash::Machine] {
        for seed in 0..8 {
            let mut step = 1;
            while crash_at(step, how, seed).unwrap_or_else(|why| panic!("{why}")) {
                step += 1;
            }
            assert!(step > 60, "{step}");
        }
    }
}

#[test]
fn an_owner_that_moved_or_came_back_is_not_adopted() {
    let sim = SimWorld::new(1);
    let world = sim.world();
    let registry = Path::new(REGISTRY);
    own(&world, &mut Synced::default()).unwrap();
    let seen = sight(&world, dir(), registry).unwrap();
    // It has moved since.
    Heart::claim(&world, dir()).unwrap();
    assert!(Claim::lay(&world, dir(), registry, &seen).unwrap().is_none());
    // It hasn't, and its lock is held.
    let seen = sight(&world, dir(), registry).unwrap();
    sim.app().lock(dir().join("filebeat.lock")).unwrap();
    assert!(Claim::lay(&world, dir(), registry, &seen).unwrap().is_none());
    sim.app().unlock(dir().join("filebeat.lock")).unwrap();
    assert!(Claim::lay(&world, dir(), registry, &seen).unwrap().is_some());
}

/// The owner had lost its lock without knowing it: both write for a while, in any order.
#[test]
fn two_that_write_one_registry_never_say_more_than_was_acknowledged() {
    for seed in 0..400 {
        let sim = SimWorld::new(seed);
        let (world, mut rng) = (sim.world(), Rng::new(seed));
        sim.app().create_dir_all(DIR).unwrap();
        let both = [open_beside(&world)];
        both[0].upsert(entry(1));
        both[0].sync().unwrap();
        let both = [both.into_iter().next().unwrap(), open_beside(&world)];
        let mut at = [0, 0];
        for _ in 0..rng.below(40) {
            let who = usize::try_from(rng.below(2)).unwrap();
            if rng.chance(6000) {
                at[who] += 1 + rng.below(5);
                both[who].commit(&acked(1, at[who]));
            } else {
                let _ = both[who].sync();
            }
        }
        let most = at.into_iter().max().unwrap();
        both.iter().for_each(|registry| drop(registry.sync()));
        drop(both);
        sim.crash(if rng.chance(5000) { Crash::Machine } else { Crash::Process });
        sim.restart();
        let registry = open_beside(&sim.world());
        let entry = registry.get(&entry(1).key);
        let said = entry.as_ref().map_or(0, |e| e.offset);
        assert!(said <= most, "seed {seed}: {said} of {most}");
        assert!(entry.is_none_or(|e: Arc<Entry>| e.incarnation == Incarnation(1)), "seed {seed}");
    }
}
