//! The spool: what a wrapped command prints, on disk until it is delivered.
//!
//! Comes in: bytes of one stream. Goes out: files `<stream>-<number>.log` of whole lines, which an input reads.
//!
//! Always holds:
//! - Only whole lines are written, so that nothing waits for the rest of a line: a line longer than [`MAX_LINE`] is
//!   written in pieces, a last line without a newline at the end of the stream.
//! - A segment is finished when it has [`SEGMENT`] bytes and its last line has ended, with [`MAX_SPLIT`] more also in
//!   the middle of a line, and removed when all of it is delivered.
//! - All streams together hold at most the limit (and one segment's worth of slack for each). Beyond it the rule that
//!   the user chose holds: wait until something is delivered, or drop whole lines and count them.
//!
//! Tested below.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pillion_world::{File, OpenHow, World};

/// Bytes of one segment.
pub const SEGMENT: u64 = 8 << 20;
/// Bytes of a line that are held in memory until its end is seen.
pub const MAX_LINE: usize = 64 << 10;
/// Bytes that a segment may be longer, so that a line isn't split. A line that is longer may be: it becomes two.
pub const MAX_SPLIT: u64 = 1 << 20;
/// The least limit: a segment of each stream has to fit, or the command could wait forever for room.
pub const MIN_SIZE: u64 = 2 * (SEGMENT + MAX_SPLIT + MAX_LINE as u64);
/// `pillion.exec.spool_limit`: bytes of the spool by default.
pub const MAX_SIZE: u64 = 256 << 20;

/// What happens when the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The command goes on; its lines pass through and aren't shipped. They are counted as lost.
    #[default]
    Drop,
    /// The command waits at its next output until something is delivered.
    Block,
}

/// How much of a segment is delivered, bytes; `None` = nothing is known of it.
pub type Delivered = Arc<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

/// What all streams share.
#[derive(Clone)]
pub struct Shared {
    /// Files.
    pub world: World,
    /// Where the segments lie.
    pub dir: PathBuf,
    /// Bytes that all streams may hold.
    pub limit: u64,
    /// Bytes that they hold.
    pub held: Arc<AtomicU64>,
    /// What is delivered.
    pub delivered: Delivered,
}

struct Segment {
    path: PathBuf,
    len: u64,
}

/// The spool of one stream.
pub struct Spool {
    shared: Shared,
    stream: &'static str,
    number: u64,
    current: Option<(Box<dyn File>, Segment)>,
    finished: VecDeque<Segment>,
    line: Vec<u8>,
    dropping: bool,
}

/// The spool is full.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Spool {
    /// The spool of a stream (`stdout`, `stderr`). What an earlier run left is kept until it is delivered.
    pub fn open(shared: Shared, stream: &'static str) -> io::Result<Spool> {
        shared.world.fs.create_dir_all(&shared.dir, 0o700)?;
        let mut numbers = Vec::new();
        shared.world.fs.read_dir(&shared.dir, &mut |entry| {
            let name =
                entry.name.to_str().and_then(|n| n.strip_prefix(stream)?.strip_prefix('-')?.strip_suffix(".log"));
            numbers.extend(name.and_then(|n| n.parse::<u64>().ok()));
            true
        })?;
        numbers.sort_unstable();
        let number = numbers.last().map_or(0, |n| n + 1);
        let mut finished = VecDeque::new();
        for n in numbers {
            let path = segment_path(&shared.dir, stream, n);
            let len = shared.world.fs.stat(&path, false)?.len;
            shared.held.fetch_add(len, Ordering::Relaxed);
            finished.push_back(Segment { path, len });
        }
        let (line, dropping) = (Vec::new(), false);
        let mut spool = Spool { shared, stream, number, current: None, finished, line, dropping };
        spool.reclaim();
        Ok(spool)
    }

    /// Whether there is room; when not, what is delivered is removed first.
    pub fn has_room(&mut self) -> bool {
        if self.shared.held.load(Ordering::Relaxed) >= self.shared.limit {
            self.reclaim();
        }
        self.shared.held.load(Ordering::Relaxed) < self.shared.limit
    }

    /// Takes bytes in. Returns how many bytes of whole lines were dropped because there was no room.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<u64> {
        let mut dropped = 0;
        while !bytes.is_empty() {
            let room = MAX_LINE.saturating_sub(self.line.len()).max(1);
            let window = bytes.get(..room.min(bytes.len())).unwrap_or(bytes);
            // Up to the last newline there are whole lines; without one, a piece of a long line.
            let whole = match window.iter().rposition(|b| *b == b'\n') {
                Some(at) => at + 1,
                None if window.len() == room => room,
                None => 0,
            };
            let (now, rest) = if whole == 0 { (&[][..], window) } else { window.split_at(whole) };
            if !now.is_empty() {
                self.line.extend_from_slice(now);
                dropped += self.put()?;
            }
            let keep = rest.len().min(MAX_LINE);
            self.line.extend_from_slice(rest.get(..keep).unwrap_or(rest));
            bytes = bytes.get(now.len() + keep..).unwrap_or_default();
        }
        Ok(dropped)
    }

    /// The stream has ended: what is left of a line goes out. Returns dropped bytes.
    pub fn end(&mut self) -> io::Result<u64> {
        self.put()
    }

    /// Writes `line`, which ends at the end of a line or is a piece of a long one.
    fn put(&mut self) -> io::Result<u64> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Ok(0);
        }
        let ends = line.last() == Some(&b'\n');
        if self.dropping || !self.has_room() {
            // Begin again only at the beginning of a line.
            self.dropping = !ends;
            return Ok(line.len() as u64);
        }
        let outcome = self.append(&line);
        self.line = line;
        self.line.clear();
        outcome?;
        Ok(0)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (file, segment) = match &mut self.current {
            Some(current) => current,
            None => {
                let path = segment_path(&self.shared.dir, self.stream, self.number);
                self.number += 1;
                let file = self.shared.world.fs.open(&path, OpenHow::Append(0o600))?;
                self.current.insert((file, Segment { path, len: 0 }))
            }
        };
        file.write_all(bytes)?;
        segment.len += bytes.len() as u64;
        self.shared.held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let ends = bytes.last() == Some(&b'\n');
        if !ends && segment.len >= SEGMENT + MAX_SPLIT {
            // A segment without an end could never be delivered and removed.
            file.write_all(b"\n")?;
            segment.len += 1;
            self.shared.held.fetch_add(1, Ordering::Relaxed);
        }
        if segment.len >= SEGMENT && (ends || segment.len > SEGMENT + MAX_SPLIT) {
            self.finished.extend(self.current.take().map(|(_, segment)| segment));
            self.reclaim();
        }
        Ok(())
    }

    /// Removes finished segments that are delivered.
    fn reclaim(&mut self) {
        let shared = &self.shared;
        self.finished.retain(|segment| {
            let done = (shared.delivered)(&segment.path).is_some_and(|offset| offset >= segment.len);
            if done && shared.world.fs.remove(&segment.path).is_ok() {
                shared.held.fetch_sub(segment.len, Ordering::Relaxed);
                return false;
            }
            true
        });
    }

    /// After the drain: removes every segment that is delivered, also the current one.
    pub fn clean(mut self) {
        self.finished.extend(self.current.take().map(|(_, segment)| segment));
        self.reclaim();
    }
}

fn segment_path(dir: &Path, stream: &str, number: u64) -> PathBuf {
    dir.join(format!("{stream}-{number:08}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Mutex;

    struct Rig {
        dir: tempfile::TempDir,
        delivered: Arc<Mutex<HashMap<PathBuf, u64>>>,
        shared: Shared,
    }

    fn rig(limit: u64) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let delivered = Arc::new(Mutex::new(HashMap::new()));
        let known = Arc::clone(&delivered);
        let shared = Shared {
            world: World::real(),
            dir: dir.path().join("exec"),
            limit,
            held: Arc::default(),
            delivered: Arc::new(move |path: &Path| known.lock().unwrap().get(path).copied()),
        };
        Rig { dir, delivered, shared }
    }

    fn content(rig: &Rig, stream: &str) -> Vec<u8> {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(rig.dir.path().join("exec")).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.retain(|n| n.file_name().unwrap().to_str().unwrap().starts_with(stream));
        names.iter().flat_map(|n| rig.shared.world.fs.read(n, 1 << 30).unwrap()).collect()
    }

    #[test]
    fn only_whole_lines_are_written_until_the_end() {
        let rig = rig(MAX_SIZE);
        let mut spool = Spool::open(rig.shared.clone(), "stdout").unwrap();
        spool.write(b"one\ntw").unwrap();
        assert_eq!(content(&rig, "stdout"), b"one\n");
        spool.write(b"o").unwrap();
        spool.end().unwrap();
        assert_eq!(content(&rig, "stdout"), b"one\ntwo");
    }

    #[test]
    fn delivered_segments_make_room_and_a_full_spool_drops_whole_lines() {
        let rig = rig(2 * SEGMENT);
        let mut spool = Spool::open(rig.shared.clone(), "stdout").unwrap();
        let mut line = vec![b'x'; 1023];
        line.push(b'\n');
        let mut kept = 0;
        while spool.has_room() {
            assert_eq!(spool.write(&line).unwrap(), 0);
            kept += 1;
        }
        assert_eq!(kept * 1024, 2 * SEGMENT);
        assert_eq!(spool.write(&line).unwrap(), 1024);
        assert_eq!(spool.write(b"half a ").unwrap(), 0);
        assert_eq!(spool.write(b"line\n").unwrap(), 12);
        let first = segment_path(&rig.shared.dir, "stdout", 0);
        rig.delivered.lock().unwrap().insert(first.clone(), SEGMENT);
        assert_eq!(spool.write(b"room again\n").unwrap(), 0);
        assert!(rig.shared.world.fs.stat(&first, false).is_err());
        drop(spool);
        rig.shared.held.store(0, Ordering::Relaxed);
        let again = Spool::open(rig.shared.clone(), "stdout").unwrap();
        assert_eq!((again.finished.len(), rig.shared.held.load(Ordering::Relaxed)), (2, SEGMENT + 11));
    }

    #[test]
    fn a_line_without_an_end_does_not_hold_its_segment() {
        let rig = rig(MIN_SIZE);
        let mut spool = Spool::open(rig.shared.clone(), "stdout").unwrap();
        let piece = vec![b'x'; MAX_LINE];
        let mut written = 0;
        while spool.finished.is_empty() {
            assert_eq!(spool.write(&piece).unwrap(), 0);
            written += MAX_LINE as u64;
            assert!(written <= SEGMENT + MAX_SPLIT + MAX_LINE as u64);
        }
        let content = content(&rig, "stdout");
        assert_eq!((content.len() as u64, content.last()), (written + 1, Some(&b'\n')));
        assert_eq!(rig.shared.held.load(Ordering::Relaxed), written + 1);
    }

    #[test]
    fn clean_leaves_nothing_that_is_delivered() {
        let rig = rig(MAX_SIZE);
        let mut spool = Spool::open(rig.shared.clone(), "stderr").unwrap();
        spool.write(b"one\n").unwrap();
        rig.delivered.lock().unwrap().insert(segment_path(&rig.shared.dir, "stderr", 0), 4);
        spool.clean();
        assert_eq!(std::fs::read_dir(rig.dir.path().join("exec")).unwrap().count(), 0);
    }

    proptest! {
        /// Whatever the pieces, what is kept is what was printed.
        #[test]
        fn nothing_is_changed(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200_000), 0..6)) {
            let rig = rig(MAX_SIZE);
            let mut spool = Spool::open(rig.shared.clone(), "stdout").unwrap();
            for piece in &pieces {
                prop_assert_eq!(spool.write(piece).unwrap(), 0);
            }
            spool.end().unwrap();
            prop_assert!(content(&rig, "stdout") == pieces.concat());
        }
    }
}
