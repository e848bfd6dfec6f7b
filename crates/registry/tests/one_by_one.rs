//! Entries that are shown a few at a time, and forgotten only as they were shown.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

use std::sync::Arc;

use pillion_event::{Acked, Cursor, Guard, Incarnation};
use pillion_registry::{Entry, FilestreamState, Identifier, Intent, Kind, Options, Registry};
use pillion_world::World;

fn entry(n: u64) -> Entry {
    let (kind, path) = (Kind::Filestream(FilestreamState::default()), format!("/l/{n}.log"));
    let source: Arc<str> = path.as_str().into();
    Entry::new(kind, "jobs", &Identifier::Path(path), source, Incarnation(u128::from(n) + 1))
}

fn with(count: u64) -> (tempfile::TempDir, Registry) {
    let tmp = tempfile::tempdir().unwrap();
    let (registry, _) = Registry::open(&World::real(), tmp.path(), &Options::default()).unwrap();
    (0..count).for_each(|n| registry.upsert(entry(n)));
    (tmp, registry)
}

#[test]
fn each_entry_is_shown_once_however_it_is_cut() {
    let (_tmp, registry) = with(200);
    // Holes, and blocks of which nothing is left.
    (64..130).filter(|n| *n != 129).for_each(|n| registry.remove(&entry(n).key));
    for (places, room) in [(1, 1), (7, 3), (64, 64), (64, 5), (1000, 1000), (1000, 10)] {
        let (mut shown, mut next, mut calls) = (Vec::new(), Some(0), 0);
        while let Some(from) = next {
            let mut count = 0;
            next = registry.visit_from(from, places, |entry| {
                shown.push(entry.incarnation);
                count += 1;
                count < room
            });
            assert!(count <= room.min(places));
            calls += 1;
            assert!(calls <= 201);
        }
        let all: Vec<_> = registry.entries().iter().map(|entry| entry.incarnation).collect();
        assert_eq!((shown.len(), shown), (135, all), "{places}, {room}");
    }
    assert_eq!(registry.visit_from(10_000, 10, |_| true), None);
}

#[test]
fn what_has_changed_since_it_was_shown_stays() {
    let changes: [fn(&Registry, &Entry); 4] = [
        |registry, known| {
            let cursor = Cursor {
                key: Arc::clone(&known.key),
                incarnation: known.incarnation,
                offset: 5,
                guard: Guard::default(),
            };
            assert!(registry.commit(&Acked::by_target(cursor)));
        },
        |registry, known| {
            let intent = Intent { from: 0, to: 9, read_ms: 1, guard: Guard::default() };
            assert!(registry.intend(&known.key, known.incarnation, intent));
        },
        |registry, known| registry.upsert(Entry { source: "/l/renamed.log".into(), ..known.clone() }),
        |registry, known| registry.upsert(Entry { incarnation: Incarnation(99), ..known.clone() }),
    ];
    for change in changes {
        let (_tmp, registry) = with(2);
        let known = registry.get(&entry(0).key).unwrap();
        change(&registry, &known);
        assert!(!registry.remove_unchanged(&known));
        assert_eq!(registry.len(), 2);
        let known = registry.get(&known.key).unwrap();
        assert!(registry.remove_unchanged(&known) && !registry.remove_unchanged(&known));
        assert_eq!(registry.len(), 1);
    }
}
