//! Shards go from replica to replica, and everything crashes now and then: whoever is named holds every cursor that was
//! ever durable.
//!
//! The model: for each file the offset that its shard's owner has made durable, and for each shard whom the board names.
//! The board outlives every crash.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the test plays the engine")]

use std::io;
use std::path::Path;

use pillion_event::{Acked, Cursor, Incarnation};
use pillion_registry::foreign::Bounds;
use pillion_registry::note::{self, Note, Wrote};
use pillion_registry::{Entry, Error, FilestreamState, Identifier, Kind, Options, Registry, live};
use pillion_sim::world::{Crash, Faults, Rng, SimWorld};
use pillion_world::World;

const ROOT: &str = "/share";
const MEMBERS: [&str; 3] = ["pod-0", "pod-1", "pod-2"];
const SHARDS: usize = 4;
const FILES: usize = 3;

fn options() -> Options {
    Options { checkpoint_at: 3000, ..Options::default() }
}

fn open(world: &World, member: usize) -> Result<Registry, Error> {
    let path = note::data_path(Path::new(ROOT), MEMBERS[member]).unwrap();
    Registry::open(world, &path, &options()).map(|(registry, _)| registry)
}

fn is_of(shard: usize) -> impl Fn(&Entry) -> bool {
    move |entry| entry.source.starts_with(&format!("{ROOT}/{shard}/"))
}

fn entry(shard: usize, file: usize) -> Entry {
    let id = Identifier::Native { ino: (shard * FILES + file) as u64, dev: 0 };
    let life = Incarnation((shard * FILES + file) as u128 + 1);
    let source = format!("{ROOT}/{shard}/{file}.log");
    Entry::new(Kind::Filestream(FilestreamState::default()), "jobs", &id, source.into(), life)
}

/// Who has a shard, by the board.
#[derive(Clone, Copy, Default)]
struct Named {
    member: Option<usize>,
    epoch: u64,
}

#[derive(Default)]
struct Model {
    named: [Named; SHARDS],
    durable: [[u64; FILES]; SHARDS],
}

/// The owner of a shard ships a line and, mostly, makes that durable.
fn ship(all: &[Registry], model: &mut Model, rng: &mut Rng, shard: usize) -> io::Result<()> {
    let Some(owner) = model.named[shard].member else { return Ok(()) };
    let file = rng.index(FILES);
    let registry = &all[owner];
    registry.upsert(entry(shard, file));
    let known = registry.get(&entry(shard, file).key).unwrap();
    let cursor =
        Cursor { key: known.key.clone(), incarnation: known.incarnation, offset: known.offset + 1, guard: known.guard };
    assert!(registry.commit(&Acked::by_target(cursor)));
    if rng.chance(7000) {
        registry.sync()?;
        for (file, durable) in model.durable[shard].iter_mut().enumerate() {
            *durable = registry.get(&entry(shard, file).key).map_or(*durable, |e| e.offset);
        }
    }
    Ok(())
}

/// A member takes a shard, from one that gave it back or that is taken for dead.
fn take(world: &World, all: &[Registry], model: &mut Model, rng: &mut Rng, shard: usize) -> io::Result<()> {
    let other = |e: Error| io::Error::other(e.to_string());
    let (to, before) = (rng.index(MEMBERS.len()), model.named[shard]);
    if before.member == Some(to) {
        return Ok(());
    }
    let found = match before.member {
        None => Vec::new(),
        Some(from) => {
            if rng.chance(5000) {
                all[from].sync()?;
            }
            let path = note::data_path(Path::new(ROOT), MEMBERS[from]).unwrap();
            live::read(world, &path, &options(), &Bounds::default(), &is_of(shard)).map_err(other)?.entries
        }
    };
    all[to].take_part(&is_of(shard), found);
    all[to].sync()?;
    let epoch = before.epoch + 1;
    let name = note::name(MEMBERS[to], epoch).unwrap();
    // A note of a taking that a crash ended before the board knew of it: this one is above it, as the protocol has it.
    let epoch = match note::write(world, Path::new(ROOT), shard as u16, epoch, &name)? {
        Wrote::Done => epoch,
        Wrote::Newer(newer) => {
            assert_eq!(note::write(world, Path::new(ROOT), shard as u16, newer.epoch + 1, &name)?, Wrote::Done);
            newer.epoch + 1
        }
    };
    model.named[shard] = Named { member: Some(to), epoch };
    Ok(())
}

/// Whoever is named holds what was durable, and the disk has a note at least as new.
fn check(world: &World, model: &Model) -> Result<(), String> {
    for (shard, (named, durable)) in model.named.iter().zip(&model.durable).enumerate() {
        let Some(owner) = named.member else { continue };
        let path = note::data_path(Path::new(ROOT), MEMBERS[owner]).unwrap();
        let found =
            live::read(world, &path, &options(), &Bounds::default(), &is_of(shard)).map_err(|e| e.to_string())?;
        for (file, durable) in durable.iter().enumerate() {
            let is = found.entries.iter().find(|e| e.key == entry(shard, file).key).map_or(0, |e| e.offset);
            if is < *durable {
                return Err(format!("shard {shard}, file {file}: {is} of {durable} at {}", MEMBERS[owner]));
            }
        }
        match note::read(world, Path::new(ROOT), shard as u16) {
            Ok(Some(Note { epoch, .. })) if epoch >= named.epoch => {}
            other => return Err(format!("shard {shard}: {other:?}, the board says {}", named.epoch)),
        }
    }
    Ok(())
}

fn run(seed: u64) -> Result<u32, String> {
    let (sim, mut rng, mut model) = (SimWorld::new(seed), Rng::new(seed), Model::default());
    sim.app().create_dir_all(ROOT).unwrap();
    let mut crashes = 0;
    for _ in 0..5 {
        sim.set_faults(Faults::NONE);
        let world = sim.world();
        let all: Vec<Registry> = (0..MEMBERS.len()).map(|member| open(&world, member).unwrap()).collect();
        if seed % 2 == 1 {
            sim.set_faults(Faults { no_space: 100, write_error: 100, sync_error: 100, dir_error: 100, ..Faults::NONE });
        }
        let how = if rng.chance(5000) { Crash::Machine } else { Crash::Process };
        sim.crash_at(sim.steps() + 1 + rng.below(400), how);
        for _ in 0..60 {
            let shard = rng.index(SHARDS);
            // What fails isn't known to be done; the model counts only what is.
            let _ = match rng.below(10) {
                0..=5 => ship(&all, &mut model, &mut rng, shard),
                6 | 7 => take(&world, &all, &mut model, &mut rng, shard),
                8 => {
                    let member = rng.index(MEMBERS.len());
                    if model.named[shard].member != Some(member) {
                        all[member].drop_part(&is_of(shard));
                    }
                    Ok(())
                }
                _ => all[rng.index(MEMBERS.len())].sync(),
            };
        }
        crashes += u32::from(sim.crashed());
        if !sim.crashed() {
            sim.no_crash();
            sim.crash(how);
        }
        drop(all);
        sim.restart();
        sim.set_faults(Faults::NONE);
        check(&sim.world(), &model)?;
    }
    Ok(crashes)
}

#[test]
fn whoever_is_named_holds_what_was_durable() {
    let crashes: u32 = (0..250).map(|seed| run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"))).sum();
    assert!(crashes > 400, "{crashes}");
}
