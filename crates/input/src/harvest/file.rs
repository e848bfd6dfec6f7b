//! What is kept of one file: a few hundred bytes, no bytes of its content.
//!
//! Always holds: `pos <= scanned_to`; everything before `pos` is in batches, everything from `pos` to `scanned_to` was
//! read and holds no complete event; `len` is the size last seen and never makes a loss smaller.

use std::collections::VecDeque;
use std::num::NonZeroI64;
use std::sync::Weak;

use pillion_event::{Guard, Incarnation, Source};
use pillion_process::LeftOut;
use pillion_registry::{CompactKey, Intent};
use pillion_world::{File, Meta, Mono};

use crate::harvest::path::FilePath;

/// What has been read of a file, over all of its lives in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes that are in batches.
    pub bytes: u64,
    /// Lines in them, with and without an event.
    pub lines: u64,
    /// Events in them.
    pub events: u64,
    /// Lines without an event because they are empty.
    pub empty: u64,
    /// Lines that the configuration filters out.
    pub filtered: u64,
    /// Events beyond what `rate_limit` lets through.
    pub limited: u64,
    /// Lines that a parser couldn't read.
    pub malformed: u64,
    /// Bytes that were destroyed before they could be read.
    pub lost: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Tally) {
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.events += other.events;
        self.empty += other.empty;
        self.filtered += other.filtered;
        self.limited += other.limited;
        self.malformed += other.malformed;
        self.lost += other.lost;
    }
}

/// A [`Tally`] as a file keeps it: what few files have stands elsewhere.
#[derive(Default)]
pub(crate) struct Counted {
    bytes: u64,
    lines: u64,
    events: u64,
    /// The others; its `bytes`, `lines` and `events` are 0.
    rare: Option<Box<Tally>>,
}

impl Counted {
    pub(crate) fn total(&self) -> Tally {
        let rare = self.rare.as_deref().copied().unwrap_or_default();
        Tally { bytes: self.bytes, lines: self.lines, events: self.events, ..rare }
    }

    pub(crate) fn add(&mut self, more: &Tally) {
        self.bytes += more.bytes;
        self.lines += more.lines;
        self.events += more.events;
        let rare = Tally { bytes: 0, lines: 0, events: 0, ..*more };
        if rare != Tally::default() {
            self.rare.get_or_insert_default().add(&rare);
        }
    }

    /// Events that were counted turn out to be left out.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        self.events = self.events.saturating_sub(left_out.all());
        self.add(&Tally { filtered: left_out.filtered, limited: left_out.limited, ..Tally::default() });
    }

    /// Counts bytes that nobody can read any more.
    pub(crate) fn lose(&mut self, lost: u64) {
        self.add(&Tally { lost, ..Tally::default() });
    }

    /// Bytes, lines and events, when there is nothing else.
    pub(crate) fn usual(&self) -> Option<(u64, u64, u64)> {
        self.rare.is_none().then_some((self.bytes, self.lines, self.events))
    }

    /// How many bytes an event has on average; `None` while there were fewer than `least` of them.
    pub(crate) fn bytes_each(&self, least: u64) -> Option<u64> {
        (self.events >= least.max(1)).then(|| (self.bytes / self.events).max(1))
    }
}

/// Where the drain stands with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// There is none.
    No,
    /// Not yet read to its end.
    Pending,
    /// Everything is in batches.
    Done,
}

/// Ranges to be sent again, the first ones first. Few files have any: boxed, they cost the others one word.
pub(crate) type Replays = VecDeque<Intent>;

/// One file that is known.
pub(crate) struct FileState {
    /// Which input reads it.
    pub(crate) input: u16,
    /// The group of that input: kept by the table.
    pub(crate) group: u16,
    /// Where it was last seen.
    pub(crate) path: FilePath,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) birth_ns: Option<NonZeroI64>,
    pub(crate) mtime_ns: i64,
    /// The registry's key; `None` while it is empty or too short for a fingerprint.
    pub(crate) key: Option<CompactKey>,
    /// How many bytes a growing fingerprint covers; 0 = it is complete, or there is none.
    pub(crate) fingerprint_len: u32,
    pub(crate) incarnation: Incarnation,
    /// What the batches on their way share. Let go of once there are none: until then it keeps the memory.
    pub(crate) source: Weak<Source>,
    pub(crate) fd: Option<Box<dyn File>>,
    /// Ranges that may have been sent by an earlier run, to be sent again first.
    pub(crate) replays: Option<Box<Replays>>,
    pub(crate) pos: u64,
    pub(crate) scanned_to: u64,
    pub(crate) len: u64,
    /// The size when the content was last known to be the one that is read: `len` may be another content's already.
    pub(crate) sure_len: u64,
    pub(crate) guard: Guard,
    pub(crate) tally: Counted,
    /// Its part of the sums of what there is to read.
    pub(crate) counted: u64,
    /// When it is to be looked at, by itself; `None` = only scans and hints do.
    pub(crate) look_at: Option<Mono>,
    /// When an open multiline group is an event as it is.
    pub(crate) group_at: Option<Mono>,
    /// When it was last read from, or first seen.
    pub(crate) active: Mono,
    /// When `stat` looked at it.
    pub(crate) looked: Mono,
    /// When its descriptor was opened.
    pub(crate) opened: Mono,
    /// The size when its descriptor was opened: on a network file system the one that surely isn't old.
    pub(crate) opened_len: u64,
    /// The one entry of the timer queue that counts.
    pub(crate) timer: Option<Mono>,
    /// The last scan that saw it.
    pub(crate) seen: u32,
    /// Chunks are doubled this often, since one wasn't enough for an event.
    pub(crate) grow: u8,
    /// Looks without anything new in a row.
    pub(crate) quiet: u8,
    /// Failed calls in a row.
    pub(crate) errors: u8,
    /// Scans in a row that missed it.
    pub(crate) missed: u8,
    /// It may have changed since its part of the sums was taken.
    pub(crate) touched: bool,
    /// It waits in the queue of those that have something to read.
    pub(crate) queued: bool,
    /// Readings that its descriptor has served, 2 standing for more; 1 once it was passed over (`descriptors.rs`).
    pub(crate) served: u8,
    /// Its path leads to it no longer.
    pub(crate) gone: bool,
    /// The search in which that was found: it may have listed the file's folder before.
    pub(crate) gone_in: u32,
    /// It has no name any more.
    pub(crate) deleted: bool,
    /// It lies on a network file system.
    pub(crate) network: bool,
    /// Its descriptor may not be of what is at its path ([`pillion_world::FsKind::Userspace`]).
    pub(crate) userspace: bool,
    /// Its path is a link: a watch on the link's folder tells nothing of it.
    pub(crate) link: bool,
    /// It was renamed in this run.
    pub(crate) renamed: bool,
    /// It is gone, and its descriptor is counted as kept.
    pub(crate) kept: bool,
    /// What is there is all that will come: an unfinished line at its end is an event.
    pub(crate) ending: bool,
    /// At the drain it may not be read, or isn't what its input says, again and again: it isn't waited for.
    pub(crate) denied: bool,
    /// It can't be told from another file by inode; the table knows it by path.
    pub(crate) by_path: bool,
    pub(crate) drain: Drain,
}

impl FileState {
    /// Nobody can open it by a name of its own any more.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted || (self.network && super::look::is_leftover(&self.path))
    }

    /// Whether it is open and compressed: written once, so that its end is the end.
    pub(crate) fn is_compressed(&self) -> bool {
        self.fd.as_ref().is_some_and(|fd| fd.is_sequential())
    }

    /// What was just found.
    pub(crate) fn new(
        input: u16,
        path: impl Into<FilePath>,
        meta: &Meta,
        incarnation: Incarnation,
        now: Mono,
    ) -> FileState {
        FileState {
            input,
            group: 0,
            path: path.into(),
            dev: meta.dev,
            ino: meta.ino,
            birth_ns: ns(meta.birth_ns),
            mtime_ns: meta.mtime_ns as i64,
            key: None,
            fingerprint_len: 0,
            incarnation,
            source: Weak::new(),
            fd: None,
            replays: None,
            pos: 0,
            scanned_to: 0,
            len: meta.len,
            sure_len: meta.len,
            guard: Guard::default(),
            tally: Counted::default(),
            counted: 0,
            look_at: None,
            group_at: None,
            active: now,
            looked: now,
            opened: now,
            opened_len: 0,
            timer: None,
            seen: 0,
            grow: 0,
            quiet: 0,
            errors: 0,
            missed: 0,
            touched: false,
            queued: false,
            served: 0,
            gone: false,
            gone_in: 0,
            deleted: false,
            network: false,
            userspace: false,
            link: false,
            renamed: false,
            kept: false,
            ending: false,
            denied: false,
            by_path: false,
            drain: Drain::No,
        }
    }

    /// The first byte that nobody has looked at.
    pub(crate) fn floor(&self) -> u64 {
        self.scanned_to.max(self.pos)
    }

    /// Whether there is something that wasn't looked at.
    pub(crate) fn unread(&self) -> bool {
        self.len > self.floor() || self.replays.is_some()
    }

    /// Whether everything of it is read, and nothing about it is unusual or due, but for its name, its descriptor and its
    /// next look.
    pub(crate) fn rests(&self) -> bool {
        let read = self.pos == self.len && self.scanned_to == self.pos && self.sure_len == self.pos;
        let waits = self.queued || self.group_at.is_some() || self.drain != Drain::No || self.replays.is_some();
        let odd = self.ending || self.denied || self.network || self.errors > 0 || self.grow > 0;
        self.key.is_some() && read && !waits && !odd
    }

    /// Whether a look at a file that rests shows just what is known: the same file, not written to since.
    pub(crate) fn is_unchanged(&self, seen: &Meta) -> bool {
        self.is(seen) && self.pos == seen.len && self.mtime_ns == seen.mtime_ns as i64
    }

    /// Whether this is the file that `meta` is about.
    pub(crate) fn is(&self, meta: &Meta) -> bool {
        self.dev == meta.dev && self.ino == meta.ino && !differ(self.birth_ns, ns(meta.birth_ns))
    }

    /// Lets go of a description that no batch needs any more.
    pub(crate) fn forget_source(&mut self) {
        if self.source.strong_count() == 0 {
            self.source = Weak::new();
        }
    }

    /// On a network file system a descriptor's size may be older than that of its opening.
    pub(crate) fn not_older(&self, meta: Meta) -> Meta {
        let len = if self.network && self.fd.is_some() { meta.len.max(self.opened_len) } else { meta.len };
        Meta { len, ..meta }
    }

    /// Begins a new life at byte 0; gives the bytes of the old one that were never read.
    pub(crate) fn begin_anew(&mut self, incarnation: Incarnation, meta: &Meta) -> u64 {
        let lost = self.sure_len.max(self.floor()) - self.pos;
        self.incarnation = incarnation;
        self.source = Weak::new();
        self.replays = None;
        (self.pos, self.scanned_to, self.len, self.sure_len) = (0, 0, meta.len, meta.len);
        // An open descriptor is older than this content.
        self.opened_len = self.opened_len.min(meta.len);
        self.birth_ns = ns(meta.birth_ns);
        self.mtime_ns = meta.mtime_ns as i64;
        self.guard = Guard::default();
        self.group_at = None;
        (self.grow, self.quiet, self.ending) = (0, 0, false);
        lost
    }
}

/// Times in 64 bits: they last until 2262. The beginning of 1970 stands for none.
pub(crate) fn ns(t: Option<i128>) -> Option<NonZeroI64> {
    NonZeroI64::new(t? as i64)
}

/// Whether both births are known and not the same.
pub(crate) fn differ(a: Option<NonZeroI64>, b: Option<NonZeroI64>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_costs_little() {
        assert!(size_of::<FileState>() <= 320, "{} bytes", size_of::<FileState>());
    }

    #[test]
    fn what_is_counted_comes_out_whole() {
        let all = Tally { bytes: 1, lines: 2, events: 3, empty: 4, filtered: 5, limited: 8, malformed: 6, lost: 7 };
        let mut counted = Counted::default();
        counted.add(&Tally { lost: 0, malformed: 0, empty: 0, filtered: 0, limited: 0, ..all });
        assert!(counted.rare.is_none());
        counted.add(&all);
        counted.lose(10);
        let sum = Tally { bytes: 2, lines: 4, events: 6, empty: 4, filtered: 5, limited: 8, malformed: 6, lost: 17 };
        assert_eq!(counted.total(), sum);
        assert_eq!((counted.bytes_each(7), counted.bytes_each(0)), (None, Some(1)));
        assert_eq!(Counted::default().bytes_each(0), None);
    }
}
