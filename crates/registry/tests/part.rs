//! A shard's files are taken from another replica's registry, and forgotten when another has them: against a model, and
//! with a crash at every step of the file system.

#![expect(clippy::disallowed_methods, reason = "the test plays the engine")]
#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::foreign::Bounds;
use pillion_registry::{Entry, FilestreamState, Identifier, Intent, Kind, Options, Registry, TookPart, live};
use pillion_sim::world::{Crash, Faults, SimWorld};
use proptest::prelude::*;

const OURS: &str = "/share/.pillion/replicas/pod-1";
const THEIRS: &str = "/share/.pillion/replicas/pod-2";

/// A file: its key's number, its shard, its life and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spec {
    n: u64,
    shard: u8,
    life: u128,
    offset: u64,
    in_flight: bool,
}

fn entry(spec: Spec) -> Entry {
    let Spec { n, shard, life, offset, in_flight } = spec;
    let id = Identifier::Native { ino: n, dev: 0 };
    let kind = Kind::Filestream(FilestreamState::default());
    let mut entry = Entry::new(kind, "jobs", &id, format!("/share/{shard}/{n}.log").into(), Incarnation(life));
    entry.offset = offset;
    entry.guard = Guard::of(&offset.to_le_bytes());
    if in_flight && life != 0 {
        entry.intents =
            vec![Intent { from: offset, to: offset + 5, read_ms: 1_795_459_239_000, guard: Guard::default() }];
    }
    entry
}

fn is_of(shard: u8) -> impl Fn(&Entry) -> bool {
    move |entry| entry.source.starts_with(&format!("/share/{shard}/"))
}

fn open(sim: &SimWorld, path: &str) -> Registry {
    Registry::open(&sim.world(), Path::new(path), &Options::default()).map(|(registry, _)| registry).unwrap()
}

/// What is compared of an entry.
type State = (Arc<str>, u64, Incarnation, Vec<Intent>);

fn states(registry: &Registry) -> BTreeMap<Arc<str>, State> {
    let state =
        |e: Arc<Entry>| (Arc::clone(&e.key), (Arc::clone(&e.source), e.offset, e.incarnation, e.intents.clone()));
    registry.entries().into_iter().map(state).collect()
}

/// Specs whose keys and lives differ, as one registry has them.
fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let spec = (0..12_u64, 0..3_u8, 1..16_u128, 0..100_u64, any::<bool>());
    let spec = spec.prop_map(|(n, shard, life, offset, in_flight)| Spec { n, shard, life, offset, in_flight });
    prop::collection::vec(spec, 0..12).prop_map(|all| {
        let mut kept: Vec<Spec> = Vec::new();
        for spec in all {
            if kept.iter().all(|k| k.n != spec.n && k.life != spec.life) {
                kept.push(spec);
            }
        }
        kept
    })
}

/// A state of the model: a file and where its ranges in flight begin, each of 5 bytes.
#[derive(Clone, Debug, PartialEq)]
struct Is(Spec, Vec<u64>);

impl Is {
    fn of(spec: Spec) -> Is {
        Is(spec, if spec.in_flight { vec![spec.offset] } else { Vec::new() })
    }

    /// The same life in two states.
    fn with(mut self, other: &Is) -> Is {
        self.0.offset = self.0.offset.max(other.0.offset);
        let own = self.1.clone();
        self.1.extend(other.1.iter().filter(|from| own.iter().all(|o| o.abs_diff(**from) >= 5)));
        self.1.retain(|from| from + 5 > self.0.offset);
        self.1.sort_unstable();
        self
    }
}

/// What ours are to be when shard 1 is taken.
fn model(ours: &[Spec], theirs: &[Spec]) -> (Vec<Is>, TookPart) {
    let mut took = TookPart::default();
    let mut out: Vec<Is> = ours.iter().map(|o| Is::of(*o)).collect();
    let mut placed = Vec::new();
    for their in theirs {
        if their.shard != 1 {
            took.refused += 1;
            continue;
        }
        let mut new = Is::of(*their);
        if let Some(at) = out.iter().position(|o| o.0.life == their.life && o.0.n != their.n) {
            if out[at].0.shard != 1 {
                out[at] = out[at].clone().with(&new);
                took.merged += 1;
                continue;
            }
            new = new.with(&out[at]);
        }
        match out.iter().position(|o| o.0.n == their.n) {
            None => {
                took.taken += 1;
                out.push(new);
            }
            Some(at) if out[at].0.life == their.life => {
                took.merged += 1;
                let ours = out[at].clone();
                out[at] = if ours.0.shard == 1 { new.with(&ours) } else { ours.with(&new) };
            }
            Some(at) if out[at].0.shard == 1 => {
                took.replaced += 1;
                out[at] = new;
            }
            Some(_) => {
                took.refused += 1;
                continue;
            }
        }
        placed.push(their.n);
    }
    let before = out.len();
    out.retain(|o| o.0.shard != 1 || placed.contains(&o.0.n));
    took.removed = before - out.len();
    (out, took)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Any two registries: what is taken is what the model says, the rest stays, and all of it is durable behind a sync.
    #[test]
    fn a_part_becomes_what_they_say(ours in specs(), theirs in specs()) {
        let sim = SimWorld::new(1);
        let own = open(&sim, OURS);
        ours.iter().for_each(|spec| own.upsert(entry(*spec)));
        let took = own.take_part(&is_of(1), theirs.iter().map(|spec| entry(*spec)).collect());
        let (want, counts) = model(&ours, &theirs);
        prop_assert_eq!(took, counts);
        let found = states(&own);
        prop_assert_eq!(found.len(), want.len(), "{:?} {:?}", found, want);
        for Is(want, flying) in &want {
            let (source, offset, life, intents) = &found[&entry(*want).key];
            prop_assert_eq!((&**source, *offset, life.0), (&*entry(*want).source, want.offset, want.life));
            prop_assert_eq!(&intents.iter().map(|i| i.from).collect::<Vec<_>>(), flying);
        }
        own.sync().unwrap();
        drop(own);
        let own = open(&sim, OURS);
        prop_assert_eq!(&states(&own), &found);
        let of_part = found.values().filter(|(source, ..)| source.starts_with("/share/1/")).count();
        prop_assert_eq!(own.drop_part(&is_of(1)), of_part);
        own.sync().unwrap();
        drop(own);
        let mut rest = found;
        rest.retain(|_, (source, ..)| !source.starts_with("/share/1/"));
        prop_assert_eq!(states(&open(&sim, OURS)), rest);
    }
}

const fn spec(n: u64, shard: u8, life: u128, offset: u64) -> Spec {
    Spec { n, shard, life, offset, in_flight: false }
}

/// Ours: two files of another shard, and leftovers of the one that is taken.
const HAVE: [Spec; 5] = [spec(1, 0, 1, 10), spec(2, 0, 2, 20), spec(3, 1, 3, 7), spec(4, 1, 4, 90), spec(5, 1, 5, 1)];
/// Theirs: one further, one less far, one of another life, one that is new; and one of another shard.
const GIVE: [Spec; 5] =
    [spec(3, 1, 3, 30), spec(4, 1, 4, 40), spec(5, 1, 55, 50), spec(6, 1, 6, 60), spec(7, 2, 7, 70)];

/// Takes the shard over, syncs, ships a line of another one, and gives the shard away again, as long as nothing fails: how
/// far it came.
fn take_and_give(sim: &SimWorld, reached: &mut u8) -> Option<()> {
    let world = sim.world();
    let (own, _) = Registry::open(&world, Path::new(OURS), &Options::default()).ok()?;
    let theirs = live::read(&world, Path::new(THEIRS), &Options::default(), &Bounds::default(), &is_of(1)).ok()?;
    let took = own.take_part(&is_of(1), theirs.entries);
    assert_eq!(took, TookPart { taken: 1, merged: 2, replaced: 1, removed: 0, refused: 0 });
    own.sync().ok()?;
    *reached = 1;
    let one = entry(spec(1, 0, 1, 15));
    own.commit(&Acked::by_target(Cursor { key: one.key, incarnation: one.incarnation, offset: 15, guard: one.guard }));
    own.sync().ok()?;
    *reached = 2;
    assert_eq!(own.drop_part(&is_of(1)), 4);
    own.sync().ok()?;
    *reached = 3;
    Some(())
}

fn check(sim: &SimWorld, reached: u8) -> Result<(), String> {
    let found = states(&open(sim, OURS));
    let offset = |n: u64, life: u128| {
        found.get(&entry(spec(n, 0, life, 0)).key).filter(|(_, _, is, _)| is.0 == life).map(|(_, offset, ..)| *offset)
    };
    let one_of = |n: u64, life: u128, may: &[Option<u64>]| match offset(n, life) {
        is if may.contains(&is) => Ok(()),
        is => Err(format!("file {n} of life {life} is at {is:?}, not at one of {may:?}")),
    };
    one_of(1, 1, if reached >= 2 { &[Some(15)] } else { &[Some(10), Some(15)] })?;
    one_of(2, 2, &[Some(20)])?;
    // Before it was given away a file has what it had or what was taken in: never neither, never less.
    let gone = |mut may: Vec<Option<u64>>| {
        if reached >= 2 {
            may.push(None);
        }
        if reached == 3 { vec![None] } else { may }
    };
    let had = reached == 0;
    one_of(3, 3, &gone(if had { vec![Some(7), Some(30)] } else { vec![Some(30)] }))?;
    one_of(4, 4, &gone(vec![Some(90)]))?;
    one_of(6, 6, &gone(if had { vec![None, Some(60)] } else { vec![Some(60)] }))?;
    one_of(5, 55, &gone(if had { vec![None, Some(50)] } else { vec![Some(50)] }))?;
    if had && offset(5, 55).is_none() {
        one_of(5, 5, &[Some(1)])?;
    }
    one_of(7, 7, &[None])
}

#[test]
fn a_crash_at_every_step_leaves_what_was_had_or_what_was_taken() {
    for how in [Crash::Process, Crash::Machine] {
        for seed in 0..16 {
            let mut step = 1;
            loop {
                let sim = SimWorld::new(seed);
                for (path, specs) in [(OURS, HAVE), (THEIRS, GIVE)] {
                    let registry = open(&sim, path);
                    specs.iter().for_each(|spec| registry.upsert(entry(*spec)));
                    registry.sync().unwrap();
                }
                let mut reached = 0;
                sim.start_trace();
                sim.crash_at(sim.steps() + step, how);
                let done = take_and_give(&sim, &mut reached).is_some();
                sim.no_crash();
                sim.restart();
                check(&sim, reached).unwrap_or_else(|why| panic!("{how:?} at {step}: {why}\n{}", sim.trace()));
                if done {
                    break;
                }
                step += 1;
            }
            assert!(step > 30, "{step}");
        }
    }
}

#[test]
fn a_sync_that_fails_forgets_nothing_of_what_was_taken() {
    for seed in 0..100 {
        let sim = SimWorld::new(seed);
        let own = open(&sim, OURS);
        HAVE.iter().for_each(|spec| own.upsert(entry(*spec)));
        own.sync().unwrap();
        sim.set_faults(Faults { sync_error: 3000, no_space: 3000, dir_error: 3000, ..Faults::NONE });
        let given = GIVE.iter().filter(|s| s.shard == 1).map(|s| entry(*s)).collect();
        own.take_part(&is_of(1), given);
        while own.sync().is_err() {}
        let was = states(&own);
        drop(own);
        sim.crash(Crash::Machine);
        sim.restart();
        sim.set_faults(Faults::NONE);
        assert_eq!(states(&open(&sim, OURS)), was, "seed {seed}");
    }
}

#[test]
fn nobodys_life_becomes_one_of_its_own() {
    let sim = SimWorld::new(1);
    let own = open(&sim, OURS);
    let given = vec![entry(Spec { in_flight: true, ..spec(1, 1, 0, 5) }), entry(spec(2, 1, 0, 6))];
    assert_eq!(own.take_part(&is_of(1), given).taken, 2);
    let lives: Vec<_> = own.entries().iter().map(|e| (e.incarnation, e.intents.len())).collect();
    assert!(lives[0].0 != lives[1].0 && lives.iter().all(|(life, n)| life.0 != 0 && *n == 0), "{lives:?}");
}

#[test]
fn many_files_are_taken_and_forgotten_in_pieces() {
    let sim = SimWorld::new(1);
    let own = open(&sim, OURS);
    (0..3000).for_each(|n| own.upsert(entry(spec(n, (n % 3) as u8, u128::from(n) + 1, n))));
    let given: Vec<Entry> =
        (0..3000).filter(|n| n % 6 == 1).map(|n| entry(spec(n, 1, u128::from(n) + 1, n + 1))).collect();
    let took = own.take_part(&is_of(1), given);
    assert_eq!(took, TookPart { merged: 500, removed: 500, ..TookPart::default() });
    assert_eq!(own.entries().len(), 2500);
    assert_eq!(own.drop_part(&is_of(0)), 1000);
    assert_eq!(own.entries().len(), 1500);
}

#[test]
fn files_that_begin_alike_keep_a_life_each() {
    let sim = SimWorld::new(1);
    let registry = open(&sim, OURS);
    let file = |shard: u8, life: u128, offset: u64| {
        let id = Identifier::Fingerprint("31a8".into());
        let source = format!("/share/{shard}/{life}.log");
        let kind = Kind::Filestream(FilestreamState::default());
        Entry { offset, ..Entry::new(kind, "jobs", &id, source.into(), Incarnation(life)) }
    };
    registry.upsert(file(0, 10, 100));
    let took = registry.take_part(&is_of(1), vec![file(1, 11, 200)]);
    assert_eq!(took, TookPart { taken: 1, ..TookPart::default() });
    // The other registry says the same again, and more; then a third one has a file that begins so, too.
    let took = registry.take_part(&is_of(1), vec![file(1, 11, 300)]);
    assert_eq!((took.merged, took.removed, took.refused), (1, 0, 0));
    assert_eq!(registry.take_part(&is_of(2), vec![file(2, 12, 400)]).taken, 1);
    let all: BTreeMap<u128, u64> = registry.entries().iter().map(|e| (e.incarnation.0, e.offset)).collect();
    assert_eq!(all, BTreeMap::from([(10, 100), (11, 300), (12, 400)]));
    let tied = pillion_registry::tied_key(&file(0, 0, 0).key, b"/share/1/11.log").unwrap();
    assert_eq!(registry.get(&tied).unwrap().incarnation, Incarnation(11));
    registry.sync().unwrap();
}
