//! The account of every file: what was read, what the target has, what it hasn't and why.
//!
//! Comes in: batches as they are read, and every fate that isn't a plain acknowledgement. Goes out: numbers and byte
//! ranges for the receipt. It holds paths, types, field names and counts, never values.
//!
//! Always holds: for each file, events read = acknowledged + dropped + dead-lettered + handed over + lost in the disk queue +
//! open. The tables
//! are bounded ([`MAX_FILES`], [`MAX_REASONS`], [`MAX_RANGES`]); beyond that only the totals go on, and how many files
//! were left out is said.
//!
//! Tested below and with `ack.rs`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use hashbrown::HashTable;
use pillion_event::{Batch, Drop, Event, InputDesc};
use pillion_registry::{CompactPath, Folders, PathParts, path_parts};

/// Files with an account of their own; further ones are only in the totals.
pub const MAX_FILES: usize = 20_000;
/// Inputs with an account of their own; further ones are only in the totals.
pub const MAX_INPUTS: usize = 1000;
/// The name of what has no path: standard input.
pub const STDIN: &str = "-";
/// Different reasons for drops of a file; further ones count as the last.
pub const MAX_REASONS: usize = 16;
/// Byte ranges kept for each reason and for what isn't acknowledged: the first ones, then a count.
pub const MAX_RANGES: usize = 16;

/// Counts of events and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of files that were read into batches.
    pub bytes: u64,
    /// Events read, and those that were in the disk queue at the start.
    pub events: u64,
    /// Events the target acknowledged, duplicates included.
    pub acked: u64,
    /// Of the acknowledged ones: the target had them already.
    pub duplicates: u64,
    /// Events the target refused, kept in a dead-letter index or file.
    pub dead_lettered: u64,
    /// Events the target refused for good; they are nowhere.
    pub dropped: u64,
    /// Bytes that were destroyed before they could be read (truncated, or deleted beyond the descriptor limit).
    pub lost_bytes: u64,
    /// Lines and events that the configuration left out (`include_lines`, `exclude_lines`, processors): read, and
    /// not to be delivered.
    pub filtered: u64,
    /// Events that the processor `rate_limit` dropped for being too many: not to be delivered either.
    pub rate_limited: u64,
    /// Datagrams that the kernel dropped before they could be read.
    pub lost_datagrams: u64,
    /// Messages of network inputs that were cut to `max_message_size`, which the configuration wants so.
    pub cut_messages: u64,
    /// Senders that were cut off while they were sending.
    pub cut_off_senders: u64,
    /// Of the events: an earlier run read them and left them in the disk queue.
    pub carried: u64,
    /// Events that were in the disk queue and can't be read any more: its files are damaged.
    pub lost_events: u64,
    /// Events that were read here, weren't acknowledged, and are shipped by another replica now: the target may have got
    /// them from here too.
    pub handed_over: u64,
}

impl Counts {
    fn add(&mut self, more: &Counts) {
        self.bytes += more.bytes;
        self.events += more.events;
        self.acked += more.acked;
        self.duplicates += more.duplicates;
        self.dead_lettered += more.dead_lettered;
        self.dropped += more.dropped;
        self.lost_bytes += more.lost_bytes;
        self.filtered += more.filtered;
        self.rate_limited += more.rate_limited;
        self.lost_datagrams += more.lost_datagrams;
        self.cut_messages += more.cut_messages;
        self.cut_off_senders += more.cut_off_senders;
        self.handed_over += more.handed_over;
        self.carried += more.carried;
        self.lost_events += more.lost_events;
    }

    /// What was there and couldn't be read, in whatever it is counted: 0 = nothing is lost.
    pub fn lost(&self) -> u64 {
        self.lost_bytes + self.lost_events + self.lost_datagrams + self.cut_off_senders
    }

    /// Events that nobody has decided about.
    pub fn unacked(&self) -> u64 {
        let decided = self.acked + self.dead_lettered + self.dropped + self.handed_over + self.lost_events;
        self.events.saturating_sub(decided)
    }
}

/// Events that shared a reason: the first ranges, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many events.
    pub count: u64,
    /// The byte ranges of the first ones.
    pub ranges: Vec<(u64, u64)>,
}

/// Refused events of a file by reason; dead-lettered ones are marked by the flag.
pub type Drops = BTreeMap<(Drop, bool), Dropped>;

/// The account of one path. Its incarnations (truncations, rotations onto it) are added up.
///
/// There is one for each file, and most hold nothing but what was read and acknowledged: the rest is elsewhere.
#[derive(Clone, Debug, Default)]
pub struct FileAccount {
    bytes: u64,
    events: u64,
    acked: u64,
    rare: Option<Box<Rare>>,
}

/// What few files have. The counts here are those that [`FileAccount`] hasn't; the others are 0.
#[derive(Clone, Debug, Default)]
struct Rare {
    counts: Counts,
    drops: Drops,
}

static NO_DROPS: Drops = BTreeMap::new();

impl FileAccount {
    /// The numbers.
    pub fn counts(&self) -> Counts {
        let rare = self.rare.as_ref().map_or_else(Counts::default, |r| r.counts);
        Counts { bytes: self.bytes, events: self.events, acked: self.acked, ..rare }
    }

    /// Refused events by reason.
    pub fn drops(&self) -> &Drops {
        self.rare.as_ref().map_or(&NO_DROPS, |r| &r.drops)
    }

    fn add(&mut self, more: &Counts) {
        self.bytes += more.bytes;
        self.events += more.events;
        self.acked += more.acked;
        let rare = Counts { bytes: 0, events: 0, acked: 0, ..*more };
        if rare != Counts::default() {
            self.rare.get_or_insert_default().counts.add(&rare);
        }
    }
}

/// The accounts of all files.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    files: Vec<(CompactPath, FileAccount)>,
    /// Their places in `files`, by path.
    index: HashTable<u32>,
    folders: Folders,
    totals: Counts,
    inputs: Vec<(Arc<InputDesc>, Counts)>,
    omitted: u64,
}

type Files = [(CompactPath, FileAccount)];

fn parts_at<'a>(files: &'a Files, folders: &'a Folders, at: u32) -> Option<PathParts<'a>> {
    files.get(at as usize).map(|(path, _)| folders.parts(path))
}

fn hash(path: PathParts<'_>) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(path)
}

impl Accounts {
    fn file(&mut self, path: &Arc<str>) -> Option<&mut FileAccount> {
        let at = match self.known(path) {
            Some(at) => at,
            None if self.files.len() >= MAX_FILES => {
                self.omitted += 1;
                return None;
            }
            None => {
                let name = if path.is_empty() { STDIN.into() } else { Arc::clone(path) };
                let at = self.files.len() as u32;
                self.files.push((self.folders.compact(&name), FileAccount::default()));
                let (files, folders) = (&self.files, &self.folders);
                self.index.insert_unique(hash(path_parts(name.as_bytes())), at, |at| {
                    parts_at(files, folders, *at).map_or(0, hash)
                });
                at
            }
        };
        self.files.get_mut(at as usize).map(|(_, account)| account)
    }

    /// Where the account of a path is.
    fn known(&self, path: &str) -> Option<u32> {
        let parts = path_parts(if path.is_empty() { STDIN } else { path }.as_bytes());
        self.index.find(hash(parts), |at| parts_at(&self.files, &self.folders, *at) == Some(parts)).copied()
    }

    fn add(&mut self, path: &Arc<str>, more: &Counts) {
        self.totals.add(more);
        if let Some(file) = self.file(path) {
            file.add(more);
        }
    }

    /// A batch was read.
    pub(crate) fn read(&mut self, batch: &Batch) {
        let more = Counts { bytes: batch.to - batch.from, events: batch.events.len() as u64, ..Counts::default() };
        self.add(&batch.source.path, &more);
        self.add_to_input(&batch.source.input, &more);
    }

    /// Events of a batch were settled.
    pub(crate) fn settled(&mut self, batch: &Batch, more: &Counts) {
        self.add(&batch.source.path, more);
        self.add_to_input(&batch.source.input, more);
    }

    /// An input that comes again under its id goes on where it was.
    fn add_to_input(&mut self, input: &Arc<InputDesc>, more: &Counts) {
        let same = |one: &InputDesc| !one.id.is_empty() && one.id == input.id && one.kind == input.kind;
        let known = self.inputs.iter_mut().find(|(one, _)| Arc::ptr_eq(one, input) || same(one));
        if let Some((_, counts)) = known {
            counts.add(more);
        } else if self.inputs.len() < MAX_INPUTS {
            self.inputs.push((Arc::clone(input), *more));
        }
    }

    /// The target refused an event; the counts are added by [`Accounts::settled`].
    pub(crate) fn refused(&mut self, batch: &Batch, event: &Event, why: &Drop, dead_lettered: bool) {
        let Some(file) = self.file(&batch.source.path) else { return };
        let reason = (why.clone(), dead_lettered);
        let drops = &mut file.rare.get_or_insert_default().drops;
        let full = drops.len() >= MAX_REASONS && !drops.contains_key(&reason);
        let entry = match full.then(|| drops.last_entry()).flatten() {
            Some(last) => last.into_mut(),
            None => drops.entry(reason).or_default(),
        };
        entry.count += 1;
        if entry.ranges.len() < MAX_RANGES {
            entry.ranges.push((event.offset, event.offset + u64::from(event.len)));
        }
    }

    /// Bytes of a file were destroyed before they could be read.
    pub fn lost(&mut self, path: &str, bytes: u64) {
        self.add(&path.into(), &Counts { lost_bytes: bytes, ..Counts::default() });
    }

    /// Events of a file were in the disk queue at the start.
    pub(crate) fn carried(&mut self, path: &Arc<str>, input: &Arc<InputDesc>, events: u64) {
        let more = Counts { events, carried: events, ..Counts::default() };
        self.add(path, &more);
        self.add_to_input(input, &more);
    }

    /// Events of a file were in the disk queue and can't be read any more.
    pub(crate) fn lost_events(&mut self, path: &Arc<str>, events: u64) {
        self.add(path, &Counts { lost_events: events, ..Counts::default() });
    }

    /// Something of the disk queue of which nobody knows whose it is.
    pub(crate) fn nameless(&mut self, queue: &str, more: &Counts) {
        self.add(&queue.into(), more);
    }

    /// Another replica ships what of a file isn't acknowledged.
    pub(crate) fn handed_over(&mut self, path: &Arc<str>, count: u64) {
        self.add(path, &Counts { handed_over: count, ..Counts::default() });
    }

    /// What reading counted of a path apart from its batches: what was left out, and what didn't come whole.
    pub fn counted(&mut self, path: &str, more: &Counts) {
        self.add(&Arc::from(path), more);
    }

    /// All files together.
    pub fn totals(&self) -> &Counts {
        &self.totals
    }

    /// Whether nothing of a file was refused or lost. Without a path, and of one without an account: whether nothing was of
    /// any file.
    pub fn is_whole(&self, path: Option<&str>) -> bool {
        let account = path.and_then(|path| self.known(path)).and_then(|at| self.files.get(at as usize));
        let counts = account.map_or(self.totals, |(_, account)| account.counts());
        // Whose events the disk queue lost isn't always known.
        counts.dropped + counts.dead_lettered + counts.lost_bytes + self.totals.lost_events == 0
    }

    /// Each input of which something was read, in the order of that.
    pub fn inputs(&self) -> &[(Arc<InputDesc>, Counts)] {
        &self.inputs
    }

    /// How many files have an account of their own.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Each file, in the order in which they were first read.
    pub fn files(&self) -> impl Iterator<Item = (Arc<str>, &FileAccount)> {
        self.files.iter().map(|(path, account)| (self.folders.text(path), account))
    }

    /// How many entries went only into the totals because [`MAX_FILES`] was reached.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_event::InputKind;

    #[test]
    fn a_file_is_whole_until_something_of_it_is_refused() {
        let mut accounts = Accounts::default();
        assert!(accounts.is_whole(Some("/a")), "nothing is wrong anywhere");
        accounts.add(&"/a".into(), &Counts { events: 2, acked: 2, ..Counts::default() });
        accounts.add(&"/b".into(), &Counts { events: 2, acked: 1, dropped: 1, ..Counts::default() });
        assert!(accounts.is_whole(Some("/a")) && !accounts.is_whole(Some("/b")));
        assert!(!accounts.is_whole(Some("/c")), "it may be this one");
        assert!(!accounts.is_whole(None), "it may have had the other's name");
        accounts.nameless("(disk queue)", &Counts { lost_events: 1, ..Counts::default() });
        assert!(!accounts.is_whole(Some("/a")), "it may be of this one");
    }

    #[test]
    fn an_input_that_comes_again_under_its_id_goes_on() {
        let input = |kind, id: &str| Arc::new(InputDesc::bare(kind, id));
        let (first, nameless) = (input(InputKind::Filestream, "pod"), input(InputKind::Log, ""));
        let mut accounts = Accounts::default();
        let one = Counts { events: 1, ..Counts::default() };
        for desc in [&first, &nameless, &nameless, &input(InputKind::Filestream, "pod"), &input(InputKind::Log, "")] {
            accounts.add_to_input(desc, &one);
        }
        let events: Vec<_> = accounts.inputs().iter().map(|(_, counts)| counts.events).collect();
        assert_eq!(events, [2, 2, 1]);
        for n in 0..2 * MAX_INPUTS {
            accounts.add_to_input(&input(InputKind::Container, &format!("{n}")), &one);
        }
        assert_eq!(accounts.inputs().len(), MAX_INPUTS);
    }
}
