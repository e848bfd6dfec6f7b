//! Acknowledgements: from what became of single events to how far each source is delivered.
//!
//! Comes in: every batch once, in the order in which its reader made it ([`Books::accept`]), and what outputs say of
//! its events, in any order and any pieces ([`Books::settle`]). Goes out: [`Acked`] cursors for the registry, and the
//! account of every file for the receipt ([`crate::account`]).
//!
//! Always holds:
//! - This is the only place that makes an [`Acked`].
//! - A cursor stands before the first byte of its incarnation that isn't settled: it moves over the contiguous part
//!   alone, and never back.
//! - An event is settled once; a second time is a defect of the output, is counted, and changes nothing.
//! - With a disk queue a batch is settled for its reader once it is durable there ([`Books::stored`]): that moves the cursor.
//!   What the target has of it is counted apart, when it comes out of the queue again ([`Books::loaded`]); nothing is
//!   settled for the drain before that.
//! - What another replica has taken over ([`Books::hand_over`]) moves no cursor and isn't waited for, whatever comes of it.
//! - Dropped and dead-lettered events are settled: the target refused them for good, and asking again would only be
//!   refused again. The receipt names them.
//! - Only batches that aren't finished, and sources with such, take memory here; the queue bounds them.
//!
//! Tested below against a model, and by the simulation.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pillion_event::{Acked, Batch, BatchId, Cursor, Fate, Guard, Incarnation, Slice, Source};
use pillion_queue::Fates;
use pillion_queue::disk::Carried;

use crate::account::{Accounts, Counts};
use crate::queued::Queued;

/// What a settlement brought about.
#[derive(Debug, Default)]
pub struct Settled {
    /// The source's cursor moved to here.
    pub cursor: Option<Acked<Cursor>>,
    /// All events of the batch are settled: its space in the queue is free.
    pub finished: bool,
}

struct OpenBatch {
    from: u64,
    to: u64,
    guard: Guard,
    remaining: usize,
    /// One bit an event: settled.
    settled: Vec<u64>,
    /// Another replica ships it.
    handed_over: bool,
    /// It came out of the disk queue: its cursor has moved long ago.
    loaded: bool,
}

impl OpenBatch {
    fn of(batch: &Batch, loaded: bool) -> OpenBatch {
        let n = batch.events.len();
        OpenBatch {
            from: batch.from,
            to: batch.to,
            guard: batch.guard,
            remaining: n,
            settled: vec![0; n.div_ceil(64)],
            handed_over: false,
            loaded,
        }
    }
}

struct OpenSource {
    source: Arc<Source>,
    batches: VecDeque<BatchId>,
}

/// A part of a file that was read and isn't acknowledged as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unacked {
    /// The file's path when it was read.
    pub path: Arc<str>,
    /// The life of its content.
    pub incarnation: Incarnation,
    /// The first byte.
    pub from: u64,
    /// The first byte behind it.
    pub to: u64,
    /// How many of the events in it aren't settled.
    pub events: u64,
    /// It lies in the disk queue: the next run sends it, without reading the file again.
    pub queued: bool,
}

/// What is read and where no cursor stands behind it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnWay {
    /// Bytes between cursors and what is read.
    pub bytes: u64,
    /// Files with such bytes that are read to their ends, so that nobody else counts them as behind.
    pub read_files: u64,
}

/// A map that was large and is empty gives its space back: at rest nothing is on its way.
fn give_back<K, V>(map: &mut HashMap<K, V>) {
    const LARGE: usize = 256;
    if map.is_empty() && map.capacity() > LARGE {
        *map = HashMap::new();
    }
}

/// The books of what is on its way.
#[derive(Default)]
pub struct Books {
    batches: HashMap<BatchId, OpenBatch>,
    /// By the life of the content alone: a growing fingerprint changes the registry's key while batches are on their way.
    sources: HashMap<Incarnation, OpenSource>,
    /// Bytes of the batches that are in the books.
    bytes: u64,
    queued: Queued,
    accounts: Accounts,
    settled_twice: u64,
}

impl Books {
    /// Enters a batch. One without events is settled at once, in its turn: its cursor may be given back here.
    pub fn accept(&mut self, batch: &Batch) -> Settled {
        self.accounts.read(batch);
        let before = self.batches.insert(batch.id, OpenBatch::of(batch, false));
        debug_assert!(before.is_none(), "batch {:?} was accepted twice", batch.id);
        let source = self
            .sources
            .entry(batch.source.incarnation)
            .or_insert_with(|| OpenSource { source: Arc::clone(&batch.source), batches: VecDeque::new() });
        if !Arc::ptr_eq(&source.source, &batch.source) {
            // What is known of the file stands in the newest.
            source.source = Arc::clone(&batch.source);
        }
        source.batches.push_back(batch.id);
        self.bytes += batch.to - batch.from;
        if batch.events.is_empty() {
            Settled { cursor: self.advance(batch), finished: true }
        } else {
            Settled::default()
        }
    }

    /// Enters what became of the events of a slice.
    pub fn settle(&mut self, slice: &Slice, fates: &Fates) -> Settled {
        let batch = &*slice.batch;
        let Some(open) = self.batches.get_mut(&batch.id) else {
            self.settled_twice += slice.len() as u64;
            return Settled::default();
        };
        let mut counts = Counts::default();
        for (index, event) in slice.events.clone().zip(slice.events()) {
            let (word, bit) = (index / 64, 1_u64 << (index % 64));
            match open.settled.get_mut(word) {
                Some(w) if *w & bit == 0 => *w |= bit,
                _ => {
                    self.settled_twice += 1;
                    continue;
                }
            }
            open.remaining -= 1;
            if open.handed_over {
                continue;
            }
            match fates.of(index) {
                Fate::Acked => counts.acked += 1,
                Fate::Duplicate => {
                    counts.acked += 1;
                    counts.duplicates += 1;
                }
                Fate::DeadLettered(why) => {
                    counts.dead_lettered += 1;
                    self.accounts.refused(batch, event, why, true);
                }
                Fate::Dropped(why) => {
                    counts.dropped += 1;
                    self.accounts.refused(batch, event, why, false);
                }
            }
        }
        self.accounts.settled(batch, &counts);
        if open.remaining > 0 {
            return Settled::default();
        }
        if open.loaded {
            self.queued.leave(&batch.source, batch.to, batch.events.len() as u64);
        }
        if open.handed_over || open.loaded {
            self.batches.remove(&batch.id);
            return Settled { cursor: None, finished: true };
        }
        Settled { cursor: self.advance(batch), finished: true }
    }

    /// A batch is durable in the disk queue: its reader is answered.
    pub fn stored(&mut self, batch: &Batch) -> Settled {
        let Some(open) = self.batches.get_mut(&batch.id) else { return Settled::default() };
        open.remaining = 0;
        self.queued.enter(&batch.source, (batch.from, batch.to), batch.events.len() as u64);
        Settled { cursor: self.advance(batch), finished: true }
    }

    /// A batch came out of the disk queue and is about to be sent.
    pub fn loaded(&mut self, batch: &Batch) {
        self.batches.insert(batch.id, OpenBatch::of(batch, true));
    }

    /// An earlier run left this in the disk queue. Its cursor is given back: the crash may have come before it was moved.
    #[expect(clippy::disallowed_methods, reason = "what is durable in the queue is acknowledged to the reader")]
    pub fn carried(&mut self, carried: &Carried) -> Acked<Cursor> {
        let Carried { source, from, to, guard, events } = carried;
        self.accounts.carried(&source.path, &source.input, *events);
        self.queued.enter(source, (*from, *to), *events);
        let (key, incarnation) = (Arc::clone(&source.key), source.incarnation);
        Acked::by_target(Cursor { key, incarnation, offset: *to, guard: *guard })
    }

    /// The same for events of which nobody knows any more whose they are; `queue` is the folder's name.
    pub fn carried_nameless(&mut self, queue: &str, events: u64) {
        self.accounts.nameless(queue, &Counts { events, carried: events, ..Counts::default() });
        self.queued.enter_nameless(events);
    }

    /// Events of the disk queue can't be read any more: those of a batch that ended there, or nobody knows whose.
    pub fn lost_in_queue(&mut self, queue: &str, events: u64, of: Option<&(Arc<Source>, u64)>) {
        match of {
            Some((source, to)) => {
                self.accounts.lost_events(&source.path, events);
                self.queued.leave(source, *to, events);
            }
            None => {
                self.accounts.nameless(queue, &Counts { lost_events: events, ..Counts::default() });
                self.queued.leave_nameless(events);
            }
        }
    }

    /// Nothing is in the disk queue any more.
    pub fn nothing_queued(&mut self) {
        self.queued.clear();
    }

    /// Events that lie in the disk queue.
    pub fn queued(&self) -> u64 {
        self.queued.events()
    }

    /// Whether something of this life of a file may lie in the disk queue.
    pub fn is_queued(&self, life: Incarnation) -> bool {
        self.queued.may_have(life)
    }

    /// Another replica has the files at such paths: nothing of them that isn't acknowledged is waited for, or moves a
    /// cursor. How many events that is.
    pub fn hand_over(&mut self, which: &dyn Fn(&str) -> bool) -> u64 {
        let gone = self.sources.extract_if(|_, source| which(&source.source.path));
        let mut events = 0;
        for (_, source) in gone {
            let mut open = 0;
            for id in source.batches {
                let Some(batch) = self.batches.get_mut(&id) else { continue };
                open += batch.remaining as u64;
                batch.handed_over = true;
                if batch.remaining == 0 {
                    self.batches.remove(&id);
                }
            }
            self.accounts.handed_over(&source.source.path, open);
            events += open;
        }
        events
    }

    /// Whether another replica ships what is left of a batch.
    pub fn is_handed_over(&self, id: BatchId) -> bool {
        self.batches.get(&id).is_some_and(|open| open.handed_over)
    }

    /// Shows the path of each file of which something isn't settled.
    pub fn visit_open(&self, show: &mut dyn FnMut(&str)) {
        self.sources.values().for_each(|source| show(&source.source.path));
    }

    /// Moves the cursor of a source over the settled batches at its front.
    #[expect(clippy::disallowed_methods, reason = "this is the one place where an acknowledgement becomes a cursor")]
    fn advance(&mut self, batch: &Batch) -> Option<Acked<Cursor>> {
        let incarnation = batch.source.incarnation;
        let source = self.sources.get_mut(&incarnation)?;
        let mut reached = None;
        while let Some(first) = source.batches.front() {
            match self.batches.get(first) {
                Some(open) if open.remaining > 0 => break,
                Some(open) => {
                    self.bytes = self.bytes.saturating_sub(open.to - open.from);
                    reached = Some((open.to, open.guard));
                }
                None => debug_assert!(false, "batch {first:?} left the books before its turn"),
            }
            self.batches.remove(first);
            source.batches.pop_front();
        }
        if source.batches.is_empty() {
            self.sources.remove(&incarnation);
            give_back(&mut self.sources);
            give_back(&mut self.batches);
        }
        let (offset, guard) = reached?;
        let key = Arc::clone(&batch.source.key);
        Some(Acked::by_target(Cursor { key, incarnation, offset, guard }))
    }

    /// Whether everything that was accepted, and isn't another replica's now, is settled.
    pub fn all_settled(&self) -> bool {
        self.sources.is_empty() && self.queued.is_empty()
    }

    /// What is read and not acknowledged, sorted by path.
    pub fn unacked(&self) -> Vec<Unacked> {
        let mut all: Vec<Unacked> = self
            .sources
            .iter()
            .filter_map(|(incarnation, source)| {
                let first = self.batches.get(source.batches.front()?)?;
                let last = self.batches.get(source.batches.back()?)?;
                let open = |id: &BatchId| self.batches.get(id).map_or(0, |b| b.remaining as u64);
                Some(Unacked {
                    path: Arc::clone(&source.source.path),
                    incarnation: *incarnation,
                    from: first.from,
                    to: last.to,
                    events: source.batches.iter().map(open).sum(),
                    queued: false,
                })
            })
            .chain(self.queued.unacked())
            .collect();
        all.sort_by(|a, b| (&a.path, a.from).cmp(&(&b.path, b.from)));
        all
    }

    /// How much lies between the cursors and what is read. Costs a look at each file that is on its way.
    pub fn on_way(&self) -> OnWay {
        let read = |open: &&OpenSource| !open.source.more.load(Ordering::Relaxed);
        OnWay { bytes: self.bytes, read_files: self.sources.values().filter(read).count() as u64 }
    }

    /// The accounts of all files so far.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The accounts, to add what only the reader knows.
    pub fn accounts_mut(&mut self) -> &mut Accounts {
        &mut self.accounts
    }

    /// How many events were settled more than once: a defect of an output.
    pub fn settled_twice(&self) -> u64 {
        self.settled_twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, source, source_of_life};
    use pillion_event::{Drop, DropKind};
    use proptest::prelude::*;

    fn slice(batch: &Arc<Batch>, events: std::ops::Range<usize>) -> Slice {
        Slice { batch: Arc::clone(batch), events }
    }

    fn offset(s: &Settled) -> Option<u64> {
        s.cursor.as_ref().map(|c| c.get().offset)
    }

    #[test]
    fn a_cursor_moves_over_the_contiguous_part_alone() {
        let src = source("/x/a.log");
        let (one, two) = (batch(&src, 1, 0, &[10, 10]), batch(&src, 2, 20, &[5]));
        let mut books = Books::default();
        assert!(!books.accept(&one).finished);
        books.accept(&two);
        src.more.store(true, Ordering::Relaxed);
        assert_eq!(books.on_way(), OnWay { bytes: 25, read_files: 0 });
        let s = books.settle(&slice(&two, 0..1), &Fates::All(Fate::Acked));
        assert_eq!((offset(&s), s.finished), (None, true));
        // What is settled behind something that isn't has no cursor behind it.
        src.more.store(false, Ordering::Relaxed);
        assert_eq!(books.on_way(), OnWay { bytes: 25, read_files: 1 });
        let s = books.settle(&slice(&one, 1..2), &Fates::All(Fate::Acked));
        assert_eq!((offset(&s), s.finished), (None, false));
        assert_eq!(
            books.unacked()[0],
            Unacked {
                path: "/x/a.log".into(),
                incarnation: src.incarnation,
                from: 0,
                to: 25,
                events: 1,
                queued: false
            }
        );
        let s = books.settle(&slice(&one, 0..1), &Fates::All(Fate::Duplicate));
        assert_eq!((offset(&s), s.finished), (Some(25), true));
        assert!(books.all_settled() && books.unacked().is_empty());
        assert_eq!(books.on_way(), OnWay::default());
        let c = books.accounts().totals();
        assert_eq!((c.bytes, c.events, c.acked, c.duplicates, c.unacked()), (25, 3, 3, 1, 0));
    }

    #[test]
    fn a_batch_without_events_moves_the_cursor_in_its_turn() {
        let src = source("/x/a.log");
        let (one, two) = (batch(&src, 1, 0, &[10]), batch(&src, 2, 10, &[]));
        let mut books = Books::default();
        books.accept(&one);
        let s = books.accept(&two);
        assert_eq!((offset(&s), s.finished), (None, true));
        let s = books.settle(&slice(&one, 0..1), &Fates::All(Fate::Acked));
        assert_eq!(offset(&s), Some(two.to));
        assert!(books.all_settled());
    }

    #[test]
    fn a_key_that_changes_on_the_way_changes_nothing() {
        let (before, after) = (source("/x/a.log"), source("/x/renamed.log"));
        assert_eq!(before.incarnation, after.incarnation);
        let (one, two) = (batch(&before, 1, 0, &[10]), batch(&after, 2, 10, &[10]));
        let mut books = Books::default();
        books.accept(&one);
        books.accept(&two);
        assert_eq!(offset(&books.settle(&slice(&two, 0..1), &Fates::All(Fate::Acked))), None);
        assert_eq!(offset(&books.settle(&slice(&one, 0..1), &Fates::All(Fate::Acked))), Some(20));
    }

    #[test]
    fn what_is_settled_twice_changes_nothing() {
        let src = source("/x/a.log");
        let one = batch(&src, 1, 0, &[10, 10]);
        let mut books = Books::default();
        books.accept(&one);
        books.settle(&slice(&one, 0..1), &Fates::All(Fate::Acked));
        let s = books.settle(&slice(&one, 0..1), &Fates::All(Fate::Acked));
        assert_eq!((offset(&s), s.finished, books.settled_twice()), (None, false, 1));
        assert!(books.settle(&slice(&one, 1..2), &Fates::All(Fate::Acked)).finished);
        books.settle(&slice(&one, 0..2), &Fates::All(Fate::Acked));
        assert_eq!((books.settled_twice(), books.accounts().totals().acked), (3, 2));
    }

    #[test]
    fn what_is_handed_over_moves_no_cursor_and_is_not_waited_for() {
        let (ours, theirs) = (source_of_life("/x/ours.log", 1), source_of_life("/x/theirs.log", 2));
        let kept = batch(&ours, 1, 0, &[10]);
        let (done, flying, waiting) =
            (batch(&theirs, 2, 0, &[5]), batch(&theirs, 3, 5, &[5, 5]), batch(&theirs, 4, 15, &[5]));
        let mut books = Books::default();
        for b in [&kept, &done, &flying, &waiting] {
            books.accept(b);
        }
        assert_eq!(offset(&books.settle(&slice(&done, 0..1), &Fates::All(Fate::Acked))), Some(5));
        books.settle(&slice(&waiting, 0..1), &Fates::All(Fate::Acked));
        books.settle(&slice(&flying, 0..1), &Fates::All(Fate::Acked));
        let is_theirs = |path: &str| path.contains("theirs");
        let mut open = Vec::new();
        books.visit_open(&mut |path| open.push(path.to_owned()));
        open.sort();
        assert_eq!(open, ["/x/ours.log", "/x/theirs.log"]);
        assert_eq!(books.hand_over(&is_theirs), 1);
        assert!(books.is_handed_over(flying.id) && !books.is_handed_over(waiting.id) && !books.is_handed_over(kept.id));
        // The file is read here again, from where the other one stopped, while the former batch is still on its way.
        let again = batch(&theirs, 5, 10, &[5]);
        books.accept(&again);
        let late = books.settle(&slice(&flying, 1..2), &Fates::All(Fate::Duplicate));
        assert_eq!((offset(&late), late.finished), (None, true));
        assert_eq!(offset(&books.settle(&slice(&again, 0..1), &Fates::All(Fate::Acked))), Some(15));
        assert!(!books.all_settled());
        books.settle(&slice(&kept, 0..1), &Fates::All(Fate::Acked));
        let c = books.accounts().totals();
        assert!(books.all_settled() && books.settled_twice() == 0);
        assert_eq!((c.handed_over, c.acked, c.duplicates, c.unacked()), (1, 5, 0, 0));
    }

    #[test]
    fn refused_events_are_settled_and_named() {
        let src = source("/x/a.log");
        let one = batch(&src, 1, 100, &[10, 20, 30]);
        let why = Drop {
            kind: DropKind::Rejected(400),
            type_name: "mapper_parsing_exception".into(),
            field: Some("n".into()),
        };
        let mut books = Books::default();
        books.accept(&one);
        let fates =
            Fates::Each(vec![(0, Fate::Dropped(why.clone())), (2, Fate::DeadLettered(why.clone()))], Fate::Acked);
        assert_eq!(offset(&books.settle(&slice(&one, 0..3), &fates)), Some(one.to));
        let c = *books.accounts().totals();
        assert_eq!((c.acked, c.dropped, c.dead_lettered, c.unacked()), (1, 1, 1, 0));
        let (_, file) = books.accounts().files().next().unwrap();
        assert_eq!(file.drops()[&(why.clone(), false)].ranges, [(100, 110)]);
        assert_eq!(file.drops()[&(why, true)].ranges, [(130, 160)]);
    }

    proptest! {
        /// Any batches of any sources, settled in any order and any pieces: each cursor stands where the model has it.
        #[test]
        fn cursors_stand_before_the_first_unsettled_byte(
            sizes in prop::collection::vec((0..3_usize, prop::collection::vec(1..50_u32, 0..6)), 1..30),
            order in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let sources = [("/a", 1), ("/b", 2), ("/c", 3)].map(|(path, life)| source_of_life(path, life));
            let mut ends = [0_u64; 3];
            let mut books = Books::default();
            let mut cursors = [0_u64; 3];
            let mut batches = Vec::new();
            let mut left = Vec::new();
            let mut moved = |s: &Settled, which: usize| -> Result<(), TestCaseError> {
                if let Some(c) = &s.cursor {
                    prop_assert!(c.get().offset > cursors[which], "a cursor went back");
                    cursors[which] = c.get().offset;
                }
                Ok(())
            };
            for (id, (which, lens)) in sizes.iter().enumerate() {
                let b = batch(&sources[*which], id as u64, ends[*which], lens);
                ends[*which] = b.to;
                moved(&books.accept(&b), *which)?;
                left.extend((0..b.events.len()).map(|e| (id, e)));
                batches.push((*which, b));
            }
            for pick in order {
                if left.is_empty() { break; }
                let (id, event) = left.swap_remove(pick.index(left.len()));
                let (which, b) = &batches[id];
                moved(&books.settle(&slice(b, event..event + 1), &Fates::All(Fate::Acked)), *which)?;
            }
            for which in 0..3 {
                let open = |id: usize| left.iter().any(|(i, _)| *i == id);
                let first_open = batches.iter().enumerate().filter(|(_, (w, _))| *w == which).find(|(id, _)| open(*id));
                let expected = first_open.map_or(ends[which], |(_, (_, b))| b.from);
                prop_assert_eq!(cursors[which], expected);
            }
            prop_assert_eq!(books.all_settled(), left.is_empty());
        }
    }
}
