//! A full disk. `exactly_once`: nothing is sent that isn't written down, the run ends all the same and says why. A disk queue:
//! what waits to be stored goes on when somebody else has made room, though nothing else happens.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failing call is a failing test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_engine::drain::{Cause, Drain, Phase, Progress};
use pillion_engine::ledger::Ledger;
use pillion_engine::receipt::{Receipt, Verdict};
use pillion_event::{Batch, BatchId, Event, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Source, Stream};
use pillion_queue::disk::{DiskOptions, DiskQueue};
use pillion_queue::{Limits, Queue};
use pillion_registry::{Entry, Identifier, Kind, LogState, Options, Registry};
use pillion_sim::world::SimWorld;

/// One line of a file.
fn batch(entry: &Entry) -> Batch {
    let source = Source {
        input: Arc::new(InputDesc::bare(InputKind::Log, "")),
        path: "/logs/a.log".into(),
        key: Arc::clone(&entry.key),
        incarnation: entry.incarnation,
        stat: FileStat::default(),
        render: std::sync::OnceLock::new(),
        more: Default::default(),
    };
    let (stream, flags) = (Stream::None, Flags::default());
    Batch {
        id: BatchId(1),
        source: Arc::new(source),
        from: 0,
        to: 5,
        guard: Guard::default(),
        read_ms: 1,
        data: b"line\n".to_vec(),
        events: vec![Event { text: 0..4, offset: 0, len: 5, time_ms: 1, stream, flags, overlay: None }],
        replayed: false,
    }
}

/// What the run would say now.
fn receipt(ledger: &Ledger, phase: Phase) -> Receipt {
    let (accounts, unacked) = ledger.state();
    Receipt {
        version: "0",
        agent_id: String::new(),
        phase,
        cause: Some(Cause::Once),
        stopped: false,
        started_ms: 0,
        written_ms: 0,
        drain_ms: 0,
        accounts,
        unacked,
        unread: Vec::new(),
        unseen: Default::default(),
        registry_error: ledger.registry_error(),
        held_back: ledger.holds_back(),
        queue: ledger.disk_queue(),
        target_error: None,
        resumable: true,
    }
}

/// The registry on a disk that is full from then on, a line about to be sent, and a drain of a minute.
fn drained_on_a_full_disk(exactly_once: bool) -> (SimWorld, Arc<Queue>, Arc<Ledger>, Phase) {
    let sim = SimWorld::new(1);
    let world = sim.world();
    let (registry, _) = Registry::open(&world, Path::new("/data"), &Options::default()).unwrap();
    let registry = Arc::new(registry);
    let entry = Entry::new(
        Kind::Log(LogState::default()),
        "",
        &Identifier::Path("/logs/a.log".into()),
        "/logs/a.log".into(),
        Incarnation(7),
    );
    registry.upsert(entry.clone());
    registry.sync().unwrap();
    let queue = Queue::new(Limits { events: 64, bytes: 64 << 10, flush: None });
    let ledger = Ledger::new(Arc::clone(&queue), registry, exactly_once);
    sim.set_full(true);
    ledger.accept(batch(&entry));
    let mut drain = Drain::default();
    let minute = Duration::from_secs(60);
    drain.start(Cause::Once, world.clock.mono(), Some(minute));
    for _ in 0..240 {
        if exactly_once {
            assert!(ledger.registrar_step().is_err());
        }
        let settled = ledger.is_settled();
        let progress = Progress { read_to_end: true, flushed: true, settled, synced: settled && ledger.is_synced() };
        drain.advance(progress, world.clock.mono());
        sim.advance(Duration::from_millis(500));
    }
    (sim, queue, ledger, drain.phase())
}

#[test]
fn nothing_is_sent_and_the_run_ends_with_the_reason() {
    let (sim, queue, ledger, phase) = drained_on_a_full_disk(true);
    assert_eq!((phase, queue.waiting()), (Phase::TimedOut, 0));
    let receipt = receipt(&ledger, phase);
    assert_eq!(receipt.verdict(), Verdict::Incomplete);
    assert!(receipt.line().contains("1 events read and not acknowledged"), "{}", receipt.line());
    assert!(receipt.line().contains("exactly_once sends nothing before it is"), "{}", receipt.line());
    // Space is made: what waited goes out.
    sim.set_full(false);
    ledger.registrar_step().unwrap();
    assert_eq!((queue.waiting(), ledger.holds_back()), (1, false));
}

#[test]
fn without_ids_lines_are_sent_all_the_same() {
    let (_, queue, ledger, _) = drained_on_a_full_disk(false);
    assert_eq!((queue.waiting(), ledger.holds_back()), (1, false));
}

#[test]
fn a_disk_queue_goes_on_when_there_is_room_and_nothing_else_happens() {
    let sim = SimWorld::new(1);
    let world = sim.world();
    let registry = Arc::new(Registry::open(&world, Path::new("/data"), &Options::default()).unwrap().0);
    let path = "/logs/a.log";
    let entry =
        Entry::new(Kind::Log(LogState::default()), "", &Identifier::Path(path.into()), path.into(), Incarnation(7));
    registry.upsert(entry.clone());
    registry.sync().unwrap();
    let retry = (Duration::from_secs(1), Duration::from_secs(30));
    let options = DiskOptions { path: None, max_size: 0, segment_size: 1 << 20, read_ahead: 1, write_ahead: 1, retry };
    let opened = DiskQueue::open(&world, Path::new("/data/diskqueue"), &options).unwrap();
    let queue = Queue::new(Limits { events: 1, bytes: 64 << 10, flush: None });
    let ledger = Ledger::with_disk(Arc::clone(&queue), registry, false, opened, &options);
    let (told, space) = std::sync::mpsc::channel();
    ledger.on_space(Box::new(move || told.send(()).unwrap()));
    sim.set_full(true);
    ledger.accept(batch(&entry));
    // Its own timer is an hour; what wakes it is that it tries again.
    let registrar = std::thread::spawn({
        let ledger = Arc::clone(&ledger);
        move || ledger.registrar(Duration::from_secs(3600))
    });
    let failing = || ledger.disk_queue().is_some_and(|queue| queue.error.is_some());
    while !failing() {
        std::thread::yield_now();
    }
    assert!(space.try_recv().is_err() && queue.waiting() == 0);
    sim.set_full(false);
    sim.advance(Duration::from_secs(60));
    let woken = space.recv_timeout(Duration::from_secs(60));
    ledger.stop();
    registrar.join().unwrap();
    assert_eq!((woken, queue.waiting(), failing()), (Ok(()), 1, false));
}
