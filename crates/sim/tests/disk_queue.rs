//! The disk queue alone on the simulated disk, in lockstep with a model: a crash at each step, faults, and a full disk.
//!
//! The model is a reader that numbers its batches: it remembers how many the queue has said to be stored, goes on after a
//! crash where the queue says that it ends (as the registry's cursors do), and knows which ones the target has. The rest of
//! the core with a disk queue is in `seeds.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing call is a failing test")]

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pillion_event::{Batch, BatchId, Event, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Source, Stream};
use pillion_queue::disk::{DiskOptions, DiskQueue, Loaded, OpenError, loaded_number};
use pillion_sim::world::{Crash, Faults, SimWorld};

const DIR: &str = "/data/diskqueue";
/// Batches of a run.
const BATCHES: u64 = 24;
/// Bytes of the source that a batch accounts for.
const SPAN: u64 = 100;

fn options() -> DiskOptions {
    DiskOptions {
        path: None,
        max_size: 0,
        segment_size: 1500,
        read_ahead: 1,
        write_ahead: 1,
        retry: (Duration::from_millis(10), Duration::from_millis(50)),
    }
}

fn text(n: u64) -> String {
    format!("line {n} {}", "x".repeat(n as usize * 7 % 90))
}

fn batch(source: &Arc<Source>, n: u64) -> Arc<Batch> {
    let (text, from) = (text(n), n * SPAN);
    let len = text.len() as u32;
    let event = Event {
        text: 0..len,
        offset: from,
        len,
        time_ms: n as i64,
        stream: Stream::None,
        flags: Flags::default(),
        overlay: None,
    };
    Arc::new(Batch {
        id: BatchId(n),
        source: Arc::clone(source),
        from,
        to: from + SPAN,
        guard: Guard::default(),
        read_ms: n as i64,
        data: text.into_bytes(),
        events: vec![event],
        replayed: false,
    })
}

fn source() -> Arc<Source> {
    Arc::new(Source {
        input: Arc::new(InputDesc::bare(InputKind::Log, "")),
        path: "/logs/a.log".into(),
        key: "key".into(),
        incarnation: Incarnation(7),
        stat: FileStat::default(),
        render: OnceLock::new(),
        more: Default::default(),
    })
}

/// What outlives a process.
#[derive(Default)]
struct Model {
    /// Batches that the queue has said to be durable.
    stored: u64,
    /// How often each has been at the target.
    arrived: Vec<u32>,
    /// What was broken, if anything.
    broken: Option<String>,
}

impl Model {
    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(what());
        }
    }
}

/// One process: appends, loads and acknowledges until all is delivered, or a call fails for good.
fn process(sim: &SimWorld, model: &mut Model) -> io::Result<()> {
    let world = sim.world();
    let opened = DiskQueue::open(&world, Path::new(DIR), &options());
    let (mut queue, carried) = opened.map_err(|e| match e {
        OpenError::Io(_, e) => e,
        other => panic!("{other}"),
    })?;
    let source = source();
    // The registry of this model: what was acknowledged to the reader, or more, as the queue has it.
    let held = carried.first().map_or(0, |c| c.to / SPAN);
    let (mut next, mut last) = (held.max(model.stored), None);
    let stored = model.stored;
    model.must(carried.is_empty() || held >= stored, || format!("{held} of {stored} batches are left"));
    for _ in 0..2000 {
        sim.advance(Duration::from_millis(20));
        if queue.settle_doubt().is_ok() {
            queue.registry_is_durable();
            let want: Vec<_> = (next..BATCHES.min(next + 1 + sim.below(4))).map(|n| batch(&source, n)).collect();
            next += queue.append(&want).unwrap_or(0) as u64;
            model.stored = model.stored.max(next);
        }
        let _ = queue.checkpoint(sim.below(3) == 0);
        for _ in 0..sim.below(4) {
            let Ok(Some(loaded)) = queue.load() else { break };
            let Loaded::Batch(batch) = loaded else {
                model.must(false, || format!("{loaded:?} though nothing was damaged"));
                continue;
            };
            let n = batch.from / SPAN;
            let right = batch.events.first().is_some_and(|e| batch.text(e) == text(n).as_bytes());
            model.must(right && batch.read_ms == n as i64, || format!("batch {n} isn't what was written"));
            model.must(last.is_none_or(|last| n == last + 1), || format!("{n} came after {last:?}"));
            last = Some(n);
            if let Some(times) = model.arrived.get_mut(n as usize) {
                *times += 1;
            }
            queue.acked(loaded_number(batch.id).unwrap());
        }
        if sim.crashed() {
            return Err(io::Error::other("crashed"));
        }
        if next == BATCHES && queue.status().events == 0 && queue.checkpoint(true).is_ok() && queue.is_saved() {
            return Ok(());
        }
    }
    model.must(false, || format!("it doesn't end: {:?}, {next} stored", queue.status()));
    Ok(())
}

/// Processes until all is delivered, the first ones with a crash; what was broken.
fn run(sim: &SimWorld, crashes: usize) -> Result<(), String> {
    let model = &mut Model { arrived: vec![0; BATCHES as usize], ..Model::default() };
    for n in 0..200 {
        if n < crashes {
            let how = if sim.below(2) == 0 { Crash::Process } else { Crash::Machine };
            sim.crash_at(sim.steps() + 1 + sim.below(250), how);
        }
        let ended = process(sim, model);
        if let Some(broken) = model.broken.take() {
            return Err(broken);
        }
        if ended.is_ok() {
            return match model.arrived.iter().position(|times| *times == 0) {
                None => Ok(()),
                Some(n) => Err(format!("batch {n} never came")),
            };
        }
        sim.restart();
    }
    Err("no process comes to an end".into())
}

#[test]
fn a_crash_at_each_step_loses_nothing() {
    let mut crashes = 0;
    for seed in 0..12 {
        let sim = SimWorld::new(seed);
        run(&sim, 0).unwrap();
        for step in 1..=sim.steps() {
            for how in [Crash::Process, Crash::Machine] {
                let sim = SimWorld::new(seed);
                sim.crash_at(step, how);
                run(&sim, 0).unwrap_or_else(|e| panic!("seed {seed}, {how:?} at {step}: {e}"));
                crashes += 1;
            }
        }
    }
    assert!(crashes > 1000, "{crashes}");
}

#[test]
fn crashes_among_faults_lose_nothing() {
    for seed in 0..2000 {
        let sim = SimWorld::new(seed);
        sim.set_faults(Faults { sync_error: 300, no_space: 300, ..Faults::SOME });
        run(&sim, 6).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn a_full_disk_is_waited_for_and_what_is_queued_goes_on() {
    for seed in 0..200 {
        let sim = SimWorld::new(seed);
        let (mut queue, _) = DiskQueue::open(&sim.world(), Path::new(DIR), &options()).unwrap();
        let source = source();
        let batches: Vec<_> = (0..BATCHES).map(|n| batch(&source, n)).collect();
        let some = sim.below(BATCHES) as usize;
        assert_eq!(queue.append(&batches[..some]).unwrap(), some);
        sim.set_full(true);
        assert!(queue.append(&batches[some..]).is_err() && queue.is_failing());
        assert_eq!(queue.append(&batches[some..]).unwrap(), 0, "not before its time");
        let mut came = 0;
        let mut load = |queue: &mut DiskQueue| {
            while let Some(loaded) = queue.load().unwrap() {
                let Loaded::Batch(batch) = loaded else { panic!("{loaded:?}") };
                assert_eq!(batch.from, came * SPAN);
                came += 1;
                queue.acked(loaded_number(batch.id).unwrap());
            }
            came as usize
        };
        assert_eq!(load(&mut queue), some);
        sim.advance(Duration::from_millis(10));
        assert!(queue.append(&batches[some..]).is_err(), "tried again, in vain");
        sim.set_full(false);
        sim.advance(Duration::from_millis(20));
        assert_eq!(queue.append(&batches[some..]).unwrap(), BATCHES as usize - some);
        assert_eq!(load(&mut queue), BATCHES as usize);
        queue.registry_is_durable();
        queue.checkpoint(true).unwrap();
        assert!(queue.is_saved() && !queue.is_failing());
    }
}

#[test]
fn room_that_it_makes_itself_ends_the_pause() {
    let sim = SimWorld::new(1);
    let hour = Duration::from_secs(3600);
    let options = DiskOptions { retry: (hour, hour), ..options() };
    let (mut queue, _) = DiskQueue::open(&sim.world(), Path::new(DIR), &options).unwrap();
    let source = source();
    let batches: Vec<_> = (0..=BATCHES).map(|n| batch(&source, n)).collect();
    let (last, queued) = batches.split_last().unwrap();
    assert_eq!(queue.append(queued).unwrap(), queued.len());
    queue.registry_is_durable();
    let last = std::slice::from_ref(last);
    sim.set_full(true);
    assert!(queue.append(last).is_err());
    sim.set_full(false);
    queue.checkpoint(true).unwrap();
    assert_eq!(queue.append(last).unwrap(), 0, "nothing says that there is room");
    while let Some(loaded) = queue.load().unwrap() {
        let Loaded::Batch(batch) = loaded else { panic!("{loaded:?}") };
        queue.acked(loaded_number(batch.id).unwrap());
    }
    let before = queue.status().bytes;
    queue.checkpoint(true).unwrap();
    assert!(queue.status().bytes < before, "a file was removed");
    assert_eq!(queue.append(last).unwrap(), 1);
}
