//! One chunk of one file.
//!
//! Comes in: a file that has something to read, and the space there is. Goes out: a batch, or nothing: then the file
//! waits for more bytes, or for a larger chunk at its next turn.
//!
//! Always holds: before bytes at `pos` are taken, the bytes before them are checked to be those that were read last
//! (`rules.rs`); at the end of a file `pos` stays at the beginning of what isn't complete; a batch is accounted for
//! byte by byte (`Batch::check`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use pillion_event::{Batch, FileStat, GUARD, Guard, Source};
use pillion_registry::{Identifier, Intent};
use pillion_world::{File, Meta, Mono, names};

use crate::harvest::account::LossCause;
use crate::harvest::file::{Drain, FileState, Tally};
use crate::harvest::identity::read_exactly;
use crate::harvest::table::FileId;
use crate::harvest::take::{LONG, Taken, Turn, of_file, take_as_wanted, without_line_end};
use crate::harvest::{Harvester, MAX_UNZIPPING};
use crate::parse::{Flush, Open};
use crate::spec::Budget;

/// What the bytes before `pos` say.
enum Before {
    /// They are what was read; here they are.
    Known(Vec<u8>),
    /// They are others.
    Other,
}

impl Harvester {
    /// Reads one chunk of a file and puts it back in the queue if there is more.
    pub(crate) fn read_chunk(&mut self, id: FileId, budget: Budget, now: Mono) -> Option<Batch> {
        if let Some(f) = self.table.get_mut(id) {
            f.queued = false;
            self.pace.reads(now, (f.pos > 0).then_some(f.active));
        }
        let batch = match self.try_read(id, budget, now) {
            Ok(batch) => batch,
            Err(e) => {
                self.failed(id, "a file can't be read; it is tried again", &e, now);
                None
            }
        };
        self.note_behind(id);
        self.schedule(id, now);
        batch
    }

    fn try_read(&mut self, id: FileId, budget: Budget, now: Mono) -> io::Result<Option<Batch>> {
        if self.table.get(id).is_none_or(|f| f.key.is_none()) {
            // It lost its key while it waited for its turn: what it holds is read once it has another.
            return Ok(None);
        }
        if self.waits_for_metadata(id, now) || self.may_be_others(id) {
            return Ok(None);
        }
        let seen = self.now_of(id, now)?;
        if self.waits_for_others(id) {
            self.make_ready(id);
            return Ok(None);
        }
        let Some(f) = self.table.get_mut(id) else { return Ok(None) };
        self.at.set(&f.path);
        let Some(fd) = &f.fd else { return Ok(None) };
        let meta = seen.meta;
        if meta.len < f.floor() {
            self.judge_and_act(id, &seen, now);
            return Ok(None);
        }
        let mut before = check_before(&**fd, f)?;
        if !self.fingerprint_holds(id)? {
            before = Before::Other;
        }
        let Some(f) = self.table.get_mut(id) else { return Ok(None) };
        let before = match before {
            Before::Known(bytes) => bytes,
            Before::Other => {
                if seen.sure {
                    self.begin_anew(id, &meta, LossCause::Truncated, now);
                    self.bind_and_consider(id, now);
                } else {
                    // What an open descriptor reads may be cached, too: the next turn opens it anew.
                    self.close(id);
                    self.make_ready(id);
                }
                return Ok(None);
            }
        };
        let (least, least_sure) = if seen.sure { (0, 0) } else { (f.len, f.sure_len) };
        (f.len, f.sure_len) = (meta.len.max(least), meta.len.max(least_sure));
        self.grow_fingerprint(id, now);
        if self.table.get(id).is_some_and(|f| f.replays.is_some()) {
            return self.replay(id, budget, &meta, before, now);
        }
        self.read_on(id, budget, &meta, before, now)
    }

    /// Whether enough compressed files are being read beside this one. Each is read to its end, however slow that is: then
    /// the next one begins.
    fn waits_for_others(&mut self, id: FileId) -> bool {
        if !self.table.get(id).is_some_and(FileState::is_compressed) || self.unzipping.contains(&id) {
            return false;
        }
        if self.unzipping.len() >= MAX_UNZIPPING {
            // It costs as much to open it again as to keep it open.
            return true;
        }
        self.unzipping.push(id);
        false
    }

    /// Reads what nobody has read.
    fn read_on(
        &mut self,
        id: FileId,
        budget: Budget,
        meta: &Meta,
        before: Vec<u8>,
        now: Mono,
    ) -> io::Result<Option<Batch>> {
        let Some(f) = self.table.get(id) else { return Ok(None) };
        let Some(input) = self.inputs.get(usize::from(f.input)) else { return Ok(None) };
        let mut turn = self.turn(f, budget, meta, now);
        let Some(fd) = &f.fd else { return Ok(None) };
        let chain = Arc::clone(&input.spec.chain);
        let Some(chain) = of_file(&chain, &**fd, turn.flush_at_end)? else { return Ok(None) };
        turn.doubts_zeros = self.doubts_zeros(id, f, chain, now);
        if turn.flush_at_end == Flush::No
            && f.floor() > turn.from
            && let Some(looked) = without_line_end(chain, &**fd, turn.from..f.floor(), &turn)?
        {
            return Ok(self.no_progress_yet(id, looked, now));
        }
        let taken = take_as_wanted(chain, &**fd, &turn, self.limits.chunk)?;
        self.settles_zeros(id, turn.doubts_zeros, turn.len);
        Ok(self.took(id, &turn, taken, before, now))
    }

    fn turn(&self, f: &FileState, budget: Budget, meta: &Meta, now: Mono) -> Turn {
        let max_events = self.limits.events.min(budget.events).max(1);
        let mut want = self.limits.chunk.min(budget.bytes.max(4096));
        if let Some(each) = f.tally.bytes_each(64) {
            // Short lines: more than the events that may be made needn't be read.
            want = want.min((each as usize + 1).saturating_mul(max_events).saturating_mul(5) / 4).max(4096);
        }
        want = want.checked_shl(u32::from(f.grow)).unwrap_or(usize::MAX).min(LONG + 1);
        let floor = f.floor();
        if f.grow == 0 && floor > f.pos {
            // What is known to be incomplete, and as much again.
            want = want.max(usize::try_from(floor - f.pos).unwrap_or(usize::MAX).saturating_add(4096)).min(LONG + 1);
        }
        let group_is_due = f.group_at.is_some_and(|at| at <= now);
        let flush_at_end = if f.drain == Drain::Pending || f.ending || f.is_compressed() {
            Flush::All
        } else if group_is_due {
            Flush::Groups
        } else {
            Flush::No
        };
        let read_ms = self.world.clock.wall().0;
        Turn { from: f.pos, want, len: meta.len, flush_at_end, read_ms, max_events, doubts_zeros: false }
    }

    /// There is no line end in what is new: all of it belongs to the unfinished line.
    fn no_progress_yet(&mut self, id: FileId, looked: u64, now: Mono) -> Option<Batch> {
        let f = self.table.get_mut(id)?;
        if looked > 0 {
            (f.active, f.quiet) = (now, 0);
        }
        f.scanned_to = f.floor() + looked;
        f.len = f.len.max(f.scanned_to);
        if f.len > f.scanned_to && looked > 0 {
            self.make_ready(id);
        }
        None
    }

    /// Notes what a turn has taken, and makes the batch.
    fn took(&mut self, id: FileId, turn: &Turn, taken: Taken, mut before: Vec<u8>, now: Mono) -> Option<Batch> {
        let consumed = taken.parsed.consumed;
        let timeout = {
            let f = self.table.get(id)?;
            self.inputs.get(usize::from(f.input))?.spec.chain.group_timeout()
        };
        let f = self.table.get_mut(id)?;
        let grew = taken.looked_to > f.scanned_to;
        f.errors = 0;
        if grew || consumed > 0 {
            (f.active, f.quiet) = (now, 0);
        }
        f.pos += consumed;
        f.scanned_to = if taken.parsed.more { f.pos } else { taken.looked_to.max(f.pos) };
        f.len = f.len.max(f.floor());
        if consumed > 0 {
            f.grow = 0;
            before.extend_from_slice(&taken.tail);
            f.guard = Guard::of(&before);
            add(f, &taken);
            self.books.filtered += taken.parsed.filtered;
        } else if !taken.at_end {
            f.grow = f.grow.saturating_add(1).min(20);
            f.scanned_to = f.pos;
        }
        if taken.parsed.open == Open::Group && taken.at_end {
            if grew || f.group_at.is_none_or(|at| at <= now) {
                f.group_at = timeout.map(|t| now.plus(t));
            }
        } else if taken.at_end {
            f.group_at = None;
        }
        if taken.at_end && !taken.parsed.more {
            self.at_end(id, turn);
        } else {
            self.make_ready(id);
        }
        (consumed > 0).then(|| self.batch(id, turn, taken)).flatten()
    }

    /// A file was read to its end as it is now.
    fn at_end(&mut self, id: FileId, turn: &Turn) {
        let Some(f) = self.table.get_mut(id) else { return };
        f.grow = 0;
        let last = f.drain == Drain::Pending && turn.flush_at_end == Flush::All && f.pos >= turn.len;
        if last && f.len <= f.pos {
            f.drain = Drain::Done;
        } else if last {
            // A look has shown more than this descriptor does: whichever of the two is old, opening it anew tells.
            self.close(id);
            self.make_ready(id);
            return;
        }
        let ending = std::mem::take(&mut f.ending);
        let close_eof = f.is_compressed() || self.inputs.get(usize::from(f.input)).is_some_and(|i| i.spec.close.eof);
        let done = f.drain == Drain::Done;
        if ending || done || (close_eof && !f.gone) {
            self.close(id);
        }
    }

    /// Makes what is left of a file that is gone into events, then closes it.
    pub(crate) fn finish(&mut self, id: FileId) {
        if let Some(f) = self.table.get_mut(id) {
            f.ending = true;
        }
        self.make_ready(id);
    }

    fn batch(&mut self, id: FileId, turn: &Turn, taken: Taken) -> Option<Batch> {
        let source = self.source(id)?;
        let Taken { mut data, mut events, parsed, .. } = taken;
        data.shrink_to_fit();
        events.shrink_to_fit();
        let to = turn.from + parsed.consumed;
        let mut batch = Batch {
            id: self.numbers.batch(),
            source,
            from: turn.from,
            to,
            guard: self.table.get(id).filter(|f| f.pos == to).map_or_else(Guard::default, |f| f.guard),
            read_ms: turn.read_ms,
            data,
            events,
            replayed: false,
        };
        self.process(id, &mut batch);
        debug_assert_eq!(batch.check(), Ok(()));
        Some(batch)
    }

    /// What processors drop is left out, as lines that the options of the input filter out.
    fn process(&mut self, id: FileId, batch: &mut Batch) {
        let Some(f) = self.table.get_mut(id) else { return };
        let Some(pipeline) = self.inputs.get(usize::from(f.input)).and_then(|i| i.spec.pipeline.as_deref()) else {
            return;
        };
        let left_out = pipeline.run(batch);
        f.tally.leave_out(left_out);
        self.books.leave_out(left_out);
    }

    /// The description that the batches of a file share, as long as one of them is on its way.
    fn source(&mut self, id: FileId) -> Option<Arc<Source>> {
        let f = self.table.get(id)?;
        if let Some(source) = f.source.upgrade() {
            return Some(source);
        }
        let key = self.table.key_of(f)?;
        let spec = &self.inputs.get(usize::from(f.input))?.spec;
        let shown = spec.show_fingerprint;
        let (mut owner, mut group) = (None, None);
        if spec.show_owner || spec.show_group {
            // Its descriptor is in use while it is read.
            let meta = self.world.fs.stat(Path::new(&**f.path.text()), true).ok();
            let meta = meta.filter(|meta| (meta.dev, meta.ino) == (f.dev, f.ino));
            owner = meta.filter(|_| spec.show_owner).and_then(|meta| names::user(&self.world, meta.uid));
            group = meta.filter(|_| spec.show_group).and_then(|meta| names::group(&self.world, meta.gid));
        }
        let fingerprint = match pillion_registry::identifier_of(&key) {
            Some(Identifier::Fingerprint(hash)) if f.fingerprint_len == 0 && shown => {
                Some(hash.split('~').next().unwrap_or_default().to_owned())
            }
            _ => None,
        };
        let source = Arc::new(Source {
            input: Arc::clone(&self.inputs.get(usize::from(f.input))?.spec.desc),
            path: Arc::clone(f.path.text()),
            key,
            incarnation: f.incarnation,
            stat: FileStat { inode: f.ino, device: f.dev, fingerprint, owner, group },
            render: std::sync::OnceLock::new(),
            more: Default::default(),
        });
        self.table.get_mut(id)?.source = Arc::downgrade(&source);
        Some(source)
    }

    /// Sends again what an earlier run may have sent: the same ranges with the same read time. What lies between two
    /// of them is read chunk by chunk, as if the file ended where the next one begins.
    fn replay(
        &mut self,
        id: FileId,
        budget: Budget,
        meta: &Meta,
        before: Vec<u8>,
        now: Mono,
    ) -> io::Result<Option<Batch>> {
        let Some(f) = self.table.get_mut(id) else { return Ok(None) };
        let Some(next) = f.replays.as_mut().and_then(|r| r.pop_front()) else {
            f.replays = None;
            return Ok(None);
        };
        let pos = f.pos;
        if next.from > pos && next.from <= meta.len {
            if let Some(r) = &mut f.replays {
                r.push_front(next);
            }
            return self.read_between(id, budget, meta, next.from, before, now);
        }
        let range = Intent { from: pos, ..next };
        let beyond = f.replays.as_ref().and_then(|r| r.back()).map_or(range.to, |last| last.to.max(range.to));
        if f.replays.as_ref().is_some_and(|r| r.is_empty()) {
            f.replays = None;
        }
        if range.to <= pos {
            self.consider(id, now);
            return Ok(None);
        }
        let taken = if range.to > meta.len { Ok(None) } else { self.take_range(id, &range, &before) };
        match taken {
            Ok(Some((turn, taken, guard))) if range.guard.len == 0 || guard == range.guard => {
                Ok(self.replayed(id, &turn, taken, guard, now))
            }
            Ok(_) => {
                // Another content is there: of the old one, nobody can say what has arrived.
                if let Some(f) = self.table.get_mut(id) {
                    (f.len, f.sure_len) = (beyond, beyond);
                }
                self.begin_anew(id, meta, LossCause::Truncated, now);
                self.bind_and_consider(id, now);
                Ok(None)
            }
            Err(e) => {
                // It has to be sent first, and again in the same form: try it again.
                if let Some(f) = self.table.get_mut(id) {
                    f.replays.get_or_insert_default().push_front(range);
                }
                Err(e)
            }
        }
    }

    /// Reads a chunk of what lies before the range that is to be sent again at `to`.
    fn read_between(
        &mut self,
        id: FileId,
        budget: Budget,
        meta: &Meta,
        to: u64,
        mut before: Vec<u8>,
        now: Mono,
    ) -> io::Result<Option<Batch>> {
        let Some(f) = self.table.get(id) else { return Ok(None) };
        let (Some(fd), Some(input)) = (&f.fd, self.inputs.get(usize::from(f.input))) else { return Ok(None) };
        let chain = Arc::clone(&input.spec.chain);
        let Some(chain) = of_file(&chain, &**fd, Flush::All)? else { return Ok(None) };
        let turn = Turn { len: to, flush_at_end: Flush::All, ..self.turn(f, budget, meta, now) };
        let taken = take_as_wanted(chain, &**fd, &turn, self.limits.chunk)?;
        if taken.parsed.consumed > 0 {
            before.extend_from_slice(&taken.tail);
            return Ok(self.replayed(id, &turn, taken, Guard::of(&before), now));
        }
        if let Some(f) = self.table.get_mut(id) {
            f.grow = f.grow.saturating_add(1).min(20);
            self.make_ready(id);
        }
        Ok(None)
    }

    /// Reads a range; `None` = the file is closed, or no range of ours.
    fn take_range(&self, id: FileId, range: &Intent, before: &[u8]) -> io::Result<Option<(Turn, Taken, Guard)>> {
        let Some(f) = self.table.get(id) else { return Ok(None) };
        let (Some(fd), Some(input)) = (&f.fd, self.inputs.get(usize::from(f.input))) else { return Ok(None) };
        let chain = Arc::clone(&input.spec.chain);
        let Some(chain) = of_file(&chain, &**fd, Flush::All)? else { return Ok(None) };
        let want = usize::try_from(range.to - range.from).unwrap_or(usize::MAX);
        let turn = Turn {
            from: range.from,
            want,
            len: range.to,
            flush_at_end: Flush::All,
            read_ms: range.read_ms,
            max_events: usize::MAX,
            doubts_zeros: false,
        };
        let taken = take_as_wanted(chain, &**fd, &turn, self.limits.chunk)?;
        if taken.too_much {
            // No batch was ever so large: who wrote this range down didn't read it as one.
            return Ok(None);
        }
        if !taken.at_end || taken.parsed.consumed != range.to - range.from {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the range could not be read whole"));
        }
        let guard = Guard::of(&[before, &taken.tail].concat());
        Ok(Some((turn, taken, guard)))
    }

    /// Notes what was read again, and makes the batch.
    fn replayed(&mut self, id: FileId, turn: &Turn, taken: Taken, guard: Guard, now: Mono) -> Option<Batch> {
        let f = self.table.get_mut(id)?;
        f.pos += taken.parsed.consumed;
        (f.scanned_to, f.grow) = (f.pos, 0);
        f.guard = guard;
        f.active = now;
        add(f, &taken);
        self.books.filtered += taken.parsed.filtered;
        let batch = self.batch(id, turn, taken).map(|b| Batch { replayed: true, ..b });
        self.consider(id, now);
        batch
    }
}

fn add(f: &mut FileState, taken: &Taken) {
    let p = &taken.parsed;
    f.tally.add(&Tally {
        bytes: p.consumed,
        lines: p.lines,
        events: taken.events.len() as u64,
        empty: p.empty,
        filtered: p.filtered,
        limited: 0,
        malformed: p.malformed.lines,
        lost: 0,
    });
}

/// The bytes before `pos`, compared with what is remembered of them.
fn check_before(fd: &dyn File, f: &FileState) -> io::Result<Before> {
    let known = usize::from(f.guard.len);
    let len = (GUARD as u64).min(f.pos) as usize;
    if len == 0 {
        return Ok(Before::Known(Vec::new()));
    }
    let bytes = read_exactly(fd, f.pos - len as u64, len)?;
    if bytes.len() < len {
        return Ok(Before::Other);
    }
    if known > 0 && Guard::of(&bytes[len - known.min(len)..]) != f.guard {
        return Ok(Before::Other);
    }
    Ok(Before::Known(bytes))
}
