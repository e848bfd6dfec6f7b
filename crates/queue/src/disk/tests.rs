//! The disk queue over real files: what comes back, limits, damage at each byte, foreign folders. Crashes and full disks are
//! in the simulation's `tests/disk_queue.rs`.

#![allow(clippy::disallowed_methods, reason = "what is on the disk is looked at and damaged behind the queue's back")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pillion_event::{
    Batch, BatchId, Event, Extent, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Overlay, Source, Stream,
};
use pillion_world::World;
use serde_json::json;

use super::*;

fn options() -> DiskOptions {
    DiskOptions {
        path: None,
        max_size: 0,
        segment_size: 2000,
        read_ahead: 512,
        write_ahead: 2048,
        retry: (Duration::from_secs(1), Duration::from_secs(30)),
    }
}

fn source(path: &str, life: u128) -> Arc<Source> {
    let mut input = InputDesc::bare(InputKind::Container, "pods");
    input.tags = vec!["a".into(), "b".into()];
    input.fields.insert("n".into(), json!({"deep": [1, -2, 0.1, null, true, "ü"]}));
    input.pipeline = Some("%{[x]}".into());
    Arc::new(Source {
        input: Arc::new(input),
        path: path.into(),
        key: format!("filebeat::logs::{path}").into(),
        incarnation: Incarnation(life),
        stat: FileStat { inode: 7, device: 1 << 40, owner: Some("root".into()), ..FileStat::default() },
        render: OnceLock::new(),
        more: Default::default(),
    })
}

/// Two lines, of which the second one has a life of its own, and a filtered one between them.
fn batch(source: &Arc<Source>, n: u64) -> Arc<Batch> {
    let text = format!("first {n}\nleft out\nsecond {n}\n");
    let (one, two) = (text.find('\n').unwrap() as u32, text.find("second").unwrap() as u32);
    let from = n * 100;
    let mut overlay = Overlay { no_message: true, weight: 99, ..Overlay::default() };
    overlay.fields.insert("json".into(), json!({"a": 1.5, "b": [n]}));
    overlay.metadata.insert("_id".into(), json!("x"));
    overlay.extent = match n % 3 {
        0 => Extent::Merged,
        1 => Extent::Members(vec!["agent".into(), "log".into()]),
        _ => Extent::Whole,
    };
    let event = |text: std::ops::Range<u32>, overlay| Event {
        offset: from + u64::from(text.start),
        len: text.end + 1 - text.start,
        text,
        time_ms: 1_700_000_000_123 - n as i64,
        stream: Stream::Stderr,
        flags: Flags { multiline: n.is_multiple_of(2), truncated: true },
        overlay,
    };
    let events = vec![event(0..one, None), event(two..text.len() as u32 - 1, Some(Box::new(overlay)))];
    Arc::new(Batch {
        id: BatchId(n),
        source: Arc::clone(source),
        from,
        to: from + text.len() as u64,
        guard: Guard::of(text.as_bytes()),
        read_ms: 1_700_000_000_000,
        data: text.into_bytes(),
        events,
        replayed: false,
    })
}

/// All that makes an event what it is at the target.
fn said(batch: &Batch) -> String {
    let events: Vec<_> = batch
        .events
        .iter()
        .map(|e| (batch.text(e), batch.event_id(e), e.time_ms, e.stream, e.flags, &e.overlay))
        .collect();
    let (source, input) = (&batch.source, &batch.source.input);
    format!(
        "{:?} {}..{} {:?} {} {} {} {:?} {:?} {input:?}",
        events,
        batch.from,
        batch.to,
        batch.guard,
        batch.read_ms,
        source.path,
        source.key,
        source.incarnation,
        source.stat
    )
}

fn open(dir: &Path) -> (DiskQueue, Vec<Carried>) {
    DiskQueue::open(&World::real(), dir, &options()).unwrap()
}

fn next(queue: &mut DiskQueue) -> Option<Batch> {
    match queue.load().unwrap()? {
        Loaded::Batch(batch) => Some(*batch),
        lost => panic!("{lost:?}"),
    }
}

/// Everything that comes: batches as they are told, and how many events were lost.
fn drain(queue: &mut DiskQueue) -> (Vec<Batch>, u64) {
    let (mut batches, mut lost) = (Vec::new(), 0);
    while let Some(loaded) = queue.load().unwrap() {
        match loaded {
            Loaded::Batch(batch) => {
                queue.acked(loaded_number(batch.id).unwrap());
                batches.push(*batch);
            }
            Loaded::Lost { events, .. } => lost += events,
        }
    }
    (batches, lost)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "segment"));
    all.sort();
    all
}

#[test]
fn what_is_stored_comes_back_as_it_was_over_runs_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let sources = [source("/a", 1), source("/b", 2)];
    let batches: Vec<_> = (0..40).map(|n| batch(&sources[n as usize % 2], n)).collect();
    let (mut queue, carried) = open(dir.path());
    assert!(carried.is_empty());
    for some in batches.chunks(3) {
        assert_eq!(queue.append(some).unwrap(), some.len());
    }
    assert!(segments(dir.path()).len() > 3);
    for expected in batches.iter().take(10) {
        let batch = next(&mut queue).unwrap();
        assert_eq!((said(&batch), batch.replayed), (said(expected), false));
        assert!(Arc::ptr_eq(&batch.source, &expected.source), "what an output made ready for a source is made once");
        queue.acked(loaded_number(batch.id).unwrap());
    }
    queue.registry_is_durable();
    queue.checkpoint(true).unwrap();
    assert_eq!(queue.status().events, 60);
    drop(queue);
    let (mut queue, mut carried) = open(dir.path());
    carried.sort_by_key(|c| c.from);
    let said_of: Vec<_> = carried.iter().map(|c| (&*c.source.path, c.from, c.to, c.guard, c.events)).collect();
    let (last_a, last_b) = (&batches[38], &batches[39]);
    assert_eq!(said_of, [("/a", 1000, last_a.to, last_a.guard, 30), ("/b", 1100, last_b.to, last_b.guard, 30)]);
    queue.settle_doubt().unwrap();
    let (found, lost) = drain(&mut queue);
    assert_eq!((found.len(), lost), (30, 0));
    for (batch, expected) in found.iter().zip(&batches[10..]) {
        assert_eq!((said(batch), batch.replayed), (said(expected), true));
    }
    queue.registry_is_durable();
    queue.checkpoint(true).unwrap();
    assert!(queue.is_saved() && queue.status().events == 0 && segments(dir.path()).len() <= 1);
    drop(queue);
    let (mut queue, carried) = open(dir.path());
    assert!(carried.is_empty() && queue.load().unwrap().is_none() && !queue.is_in_doubt());
}

#[test]
fn the_limit_holds_and_room_comes_with_what_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let src = source("/a", 1);
    let limits = DiskOptions { max_size: 9000, segment_size: 1000, ..options() };
    let (mut queue, _) = DiskQueue::open(&World::real(), dir.path(), &limits).unwrap();
    let batches: Vec<_> = (0..100).map(|n| batch(&src, n)).collect();
    let (mut stored, mut came) = (0, 0);
    while came < batches.len() {
        stored += queue.append(&batches[stored..]).unwrap();
        let on_disk: u64 = segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(on_disk <= 9000 && on_disk == queue.status().bytes);
        for _ in 0..7 {
            let Some(batch) = next(&mut queue) else { break };
            assert_eq!(said(&batch), said(&batches[came]));
            queue.acked(loaded_number(batch.id).unwrap());
            came += 1;
        }
        queue.registry_is_durable();
        queue.checkpoint(true).unwrap();
    }
    assert_eq!(stored, batches.len());
}

#[test]
fn damage_at_any_byte_costs_only_what_it_is_in_and_that_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let src = source("/a", 1);
    let batches: Vec<_> = (0..6).map(|n| batch(&src, n)).collect();
    let (mut queue, _) = open(dir.path());
    for some in batches.chunks(2) {
        queue.append(some).unwrap();
    }
    queue.registry_is_durable();
    queue.checkpoint(true).unwrap();
    drop(queue);
    let [path] = segments(dir.path()).try_into().unwrap();
    let good = fs::read(&path).unwrap();
    let expected: Vec<_> = batches.iter().map(|b| said(b)).collect();
    for at in 0..good.len() {
        for flip in [0x01, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let opened = DiskQueue::open(&World::real(), dir.path(), &options());
            let (mut queue, carried) = opened.unwrap();
            let known: u64 = carried.iter().map(|c| c.events).sum();
            assert!(!queue.is_in_doubt() && queue.status().events == 12 && known <= 12);
            let (found, lost) = drain(&mut queue);
            let found: Vec<_> = found.iter().map(said).collect();
            assert!(found.iter().all(|f| expected.contains(f)), "byte {at}: something that wasn't written");
            assert_eq!(found.len() as u64 * 2 + lost, 12, "byte {at}");
            // The record of the source is behind the header; without it no batch can be read.
            let of_source = (format::HEADER..format::HEADER + 400).contains(&at);
            assert!(of_source || found.len() >= 5, "byte {at}: {} came", found.len());
        }
    }
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        let (mut queue, _) = open(dir.path());
        let (found, lost) = drain(&mut queue);
        let found: Vec<_> = found.iter().map(said).collect();
        assert_eq!((&found[..], lost), (&expected[..found.len()], 12 - 2 * found.len() as u64), "{len} bytes");
    }
}

#[test]
fn a_torn_end_that_nobody_was_told_of_is_cut_off_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let src = source("/a", 1);
    let batches: Vec<_> = (0..5).map(|n| batch(&src, n)).collect();
    let (mut queue, _) = open(dir.path());
    queue.append(&batches[..2]).unwrap();
    let [path] = segments(dir.path()).try_into().unwrap();
    let before = fs::metadata(&path).unwrap().len() as usize;
    queue.append(&batches[2..4]).unwrap();
    drop(queue);
    let good = fs::read(&path).unwrap();
    for len in before..=good.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(path.file_name().unwrap()), &good[..len]).unwrap();
        let (mut queue, carried) = open(dir.path());
        let there = carried[0].events as usize / 2;
        assert!((2..=4).contains(&there) && (there == 4) == (len == good.len()));
        queue.settle_doubt().unwrap();
        // The reader reads again what isn't there.
        assert_eq!(queue.append(&batches[there..]).unwrap(), 5 - there);
        drop(queue);
        let (mut queue, _) = open(dir.path());
        queue.settle_doubt().unwrap();
        let (found, lost) = drain(&mut queue);
        let found: Vec<_> = found.iter().map(said).collect();
        assert_eq!((found, lost), (batches.iter().map(|b| said(b)).collect(), 0), "{len} bytes");
    }
}

#[test]
fn without_its_cursor_everything_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let src = source("/a", 1);
    for damage in [None, Some("nonsense")] {
        let (mut queue, _) = open(dir.path());
        queue.append(&[batch(&src, 0), batch(&src, 1)]).unwrap();
        let batch = next(&mut queue).unwrap();
        queue.acked(loaded_number(batch.id).unwrap());
        queue.registry_is_durable();
        queue.checkpoint(true).unwrap();
        drop(queue);
        match damage {
            None => fs::remove_file(dir.path().join("cursor")).unwrap(),
            Some(text) => fs::write(dir.path().join("cursor"), text).unwrap(),
        }
        let (mut queue, _) = open(dir.path());
        queue.settle_doubt().unwrap();
        let (found, lost) = drain(&mut queue);
        assert!(found.len() >= 2 && lost == 0, "{damage:?}");
        queue.registry_is_durable();
        queue.checkpoint(true).unwrap();
    }
}

#[test]
fn a_folder_of_somebody_else_is_refused_and_left_alone() {
    let world = World::real();
    for (name, content, said) in [
        ("state.dat", &b"x"[..], "Filebeat's own"),
        ("12.seg", b"x", "Filebeat's own"),
        ("notes.txt", b"x", "isn't of Pillion's"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join(name), content).unwrap();
        let error = DiskQueue::open(&world, dir.path(), &options()).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(name) && error.contains("queue.disk.path"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing was made there");
    }
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = open(dir.path());
    let error = DiskQueue::open(&world, dir.path(), &options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    drop(queue);
    let mut newer = Cursor::default().encode();
    newer.truncate(format::CURSOR - 4);
    newer[8] = 2;
    let crc = crc32fast::hash(&newer);
    newer.extend_from_slice(&crc.to_le_bytes());
    fs::write(dir.path().join("cursor"), newer).unwrap();
    let error = DiskQueue::open(&world, dir.path(), &options()).unwrap_err();
    assert!(matches!(error, OpenError::Version(_, 2)), "{error}");
}

#[test]
fn any_bytes_are_read_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (mut queue, _) = open(dir.path());
    queue.append(&[batch(&source("/a", 1), 0)]).unwrap();
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged.rotate_left(at);
        fuzz(&damaged).unwrap();
        fuzz(&bytes[at..]).unwrap();
    }
    // As the fuzz target has it: how many events, twice as many bytes of a source, and a batch's body.
    let mut input = vec![2, 0, 0, 0, 0];
    input.extend(body::put_batch(&batch(&source("/a", 1), 0)));
    for at in 0..input.len() {
        for byte in [0, 1, 2, 5, 7, 8, 0x7f, 0x80, 0xff] {
            let mut damaged = input.clone();
            damaged[at] = byte;
            fuzz(&damaged).unwrap();
        }
        fuzz(&input[..at]).unwrap();
    }
}
