//! The input `stdin`: a stream that can't be read twice.
//!
//! Comes in: bytes from a descriptor, and the space that the queue has. Goes out: batches whose source has no registry
//! key; the end of the stream ends the run ([`BatchSink::drained`]). Always holds: an unfinished line or group is kept
//! in memory, up to a few times `max_bytes`; what of a line is beyond is accounted for and left out, as `max_bytes` says.
//! Nothing is read while there is no space: the pipe is the buffer.
//!
//! Tested below.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use pillion_event::{Batch, FileStat, Guard, Incarnation, Source};
use pillion_process::Pipeline;
use pillion_world::{Mono, World};

use crate::at::At;
use crate::handle::{Command, Handle};
use crate::harvest::{FileAccount, Numbers, Stats, Tally};
use crate::parse::{Chain, Chunk, Flush, Open};
use crate::spec::{Budget, InputSpec};
use crate::standing::Standing;
use crate::thread::{BatchSink, Report, Waker};

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;

/// Turns a stream into batches.
struct Stream {
    chain: Arc<Chain>,
    pipeline: Option<Arc<Pipeline>>,
    source: Arc<Source>,
    /// What isn't in a batch yet.
    buf: Vec<u8>,
    /// Where it begins in the stream.
    pos: u64,
    /// The beginning of a line that is too long was sent: the rest is left out.
    skipping: bool,
    /// Bytes up to the last complete line that was looked at.
    seen: u64,
    group_at: Option<Mono>,
    /// So many of the bytes hold nothing complete.
    looked: usize,
    numbers: Arc<Numbers>,
    tally: Tally,
}

impl Stream {
    fn new(world: &World, spec: &InputSpec, numbers: &Arc<Numbers>) -> Stream {
        let source = Source {
            input: Arc::clone(&spec.desc),
            path: Arc::from(""),
            key: Arc::from(""),
            incarnation: Incarnation(world.random.u128()),
            stat: FileStat::default(),
            render: std::sync::OnceLock::new(),
            more: Default::default(),
        };
        Stream {
            chain: Arc::clone(&spec.chain),
            pipeline: spec.pipeline.clone(),
            source: Arc::new(source),
            buf: Vec::new(),
            pos: 0,
            skipping: false,
            seen: 0,
            group_at: None,
            looked: 0,
            numbers: Arc::clone(numbers),
            tally: Tally::default(),
        }
    }

    /// How many bytes without an event are kept.
    fn limit(&self) -> usize {
        self.chain.options().max_bytes.saturating_mul(4).saturating_add(1 << 20)
    }

    /// Makes a batch of what is complete; `at_end`: nothing will follow. `more` of the result: call again.
    fn take(&mut self, now: Mono, read_ms: i64, budget: Budget, at_end: bool) -> (Option<Batch>, bool) {
        if self.buf.is_empty() {
            return (None, false);
        }
        if self.skipping {
            return self.skip(read_ms, at_end);
        }
        let overlong = self.buf.len() >= self.limit();
        let due = self.group_at.is_some_and(|at| at <= now);
        // A line end may begin in what was looked at.
        let fresh = self.looked.saturating_sub(self.chain.line_end_len() - 1);
        if !at_end && !due && !overlong && self.chain.line_end(&self.buf, fresh, self.pos).is_none() {
            self.looked = self.buf.len();
            return (None, false);
        }
        let mut data = self.buf.clone();
        let mut events = Vec::new();
        let mut chunk = Chunk {
            len: data.len(),
            offset: self.pos,
            flush: Flush::No,
            read_ms,
            max_events: budget.events.clamp(1, 4096),
        };
        chunk.flush = match (at_end, due) {
            (true, _) => Flush::All,
            (false, true) => Flush::Groups,
            _ => Flush::No,
        };
        let mut parsed = self.chain.parse(&mut data, &chunk, &mut events);
        if parsed.consumed == 0 && overlong {
            data.truncate(chunk.len);
            chunk.flush = Flush::All;
            self.skipping = parsed.open == Open::Line;
            parsed = self.chain.parse(&mut data, &chunk, &mut events);
        }
        let seen = self.pos + parsed.seen;
        if parsed.open != Open::Group || parsed.more {
            self.group_at = None;
        } else if seen > self.seen || self.group_at.is_none() || due {
            self.group_at = self.chain.group_timeout().map(|t| now.plus(t));
        }
        self.seen = self.seen.max(seen);
        if parsed.consumed == 0 {
            self.looked = self.buf.len();
            return (None, false);
        }
        self.looked = 0;
        self.tally.lines += parsed.lines;
        self.tally.empty += parsed.empty;
        self.tally.filtered += parsed.filtered;
        self.tally.malformed += parsed.malformed.lines;
        let consumed = parsed.consumed as usize;
        if data.len() == chunk.len {
            data.truncate(consumed);
        } else {
            self.chain.tidy(&mut data, &mut events);
        }
        (Some(self.batch(consumed, data, events, read_ms)), parsed.more)
    }

    /// Leaves out what follows of a line that is too long.
    fn skip(&mut self, read_ms: i64, at_end: bool) -> (Option<Batch>, bool) {
        let end = self.chain.line_end(&self.buf, 0, self.pos);
        self.skipping = end.is_none();
        let begun = if at_end { 0 } else { self.chain.line_end_len() - 1 };
        let len = end.map_or(self.buf.len().saturating_sub(begun), |e| e.end);
        if len == 0 {
            return (None, false);
        }
        (Some(self.batch(len, Vec::new(), Vec::new(), read_ms)), !self.buf.is_empty())
    }

    fn batch(&mut self, len: usize, data: Vec<u8>, events: Vec<pillion_event::Event>, read_ms: i64) -> Batch {
        let from = self.pos;
        self.buf.drain(..len);
        self.buf.shrink_to(CHUNK);
        self.pos += len as u64;
        self.tally.bytes += len as u64;
        self.tally.events += events.len() as u64;
        let (mut data, mut events) = (data, events);
        data.shrink_to_fit();
        events.shrink_to_fit();
        let mut batch = Batch {
            id: self.numbers.batch(),
            source: Arc::clone(&self.source),
            from,
            to: self.pos,
            guard: Guard::default(),
            read_ms,
            data,
            events,
            replayed: false,
        };
        if let Some(pipeline) = &self.pipeline {
            let left_out = pipeline.run(&mut batch);
            self.tally.events -= left_out.all();
            self.tally.filtered += left_out.filtered;
            self.tally.limited += left_out.limited;
        }
        batch
    }

    fn report(&self) -> Report {
        let account = FileAccount {
            path: "-".into(),
            key: String::new(),
            incarnation: self.source.incarnation,
            pos: self.pos,
            len: self.pos + self.buf.len() as u64,
            tally: self.tally,
            gone: false,
            denied: false,
        };
        let stats = Stats { files: 1, open: 1, tally: self.tally, unread: self.buf.len() as u64, ..Stats::default() };
        Report { files: vec![account], stats, ..Report::default() }
    }
}

/// The thread that reads a stream.
#[derive(Debug)]
pub struct StdinThread;

impl StdinThread {
    /// Starts a thread that reads `stream` (standard input, a pipe, a file) into `sink`, by the options of `spec`. Its
    /// drain reads what is there, and doesn't wait for the stream's end. `numbers`: those of the harvesters beside it.
    pub fn spawn(
        world: World,
        spec: &InputSpec,
        stream: OwnedFd,
        sink: Box<dyn BatchSink>,
        waker: Waker,
        numbers: &Arc<Numbers>,
    ) -> io::Result<Handle> {
        let state = Stream::new(&world, spec, numbers);
        let at = At::default();
        Handle::start("stdin", waker.clone(), at.clone(), move |commands| {
            Driver { world, at, state, fd: stream, sink, waker, commands, ended: false, draining: false }.run()
        })
    }
}

struct Driver {
    world: World,
    at: At,
    state: Stream,
    fd: OwnedFd,
    sink: Box<dyn BatchSink>,
    waker: Waker,
    commands: Receiver<Command>,
    ended: bool,
    draining: bool,
}

impl Driver {
    fn run(mut self) -> Report {
        let mut told = false;
        loop {
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Drain => self.draining = true,
                    // A stream is one input.
                    Command::Add(_, reply) => drop(reply.send(None)),
                    Command::End(_) | Command::SharesGrew => {}
                    Command::Replace { reply, .. } => drop(reply.send(Vec::new())),
                    Command::Release(_, reply) => drop(reply.send(())),
                    // Nobody waits any more: no answer.
                    Command::Report(reply) => drop(reply.send(self.state.report())),
                    Command::Stop => return self.state.report(),
                }
            }
            let Tally { filtered, limited, .. } = self.state.tally;
            self.at.stands(Standing { filtered, limited, ..Standing::default() });
            let (now, budget) = (self.world.clock.mono(), self.sink.budget());
            if budget.bytes == 0 || budget.events == 0 {
                self.waker.sleep(&self.world, &[], Mono(u64::MAX));
                continue;
            }
            let (batch, more) = self.state.take(now, self.world.clock.wall().0, budget, self.ended);
            if let Some(batch) = batch {
                self.sink.push(batch);
                continue;
            }
            if more {
                continue;
            }
            if self.ended {
                if !std::mem::replace(&mut told, true) {
                    self.sink.drained(self.state.report());
                }
                self.waker.sleep(&self.world, &[], Mono(u64::MAX));
                continue;
            }
            let until = if self.draining { now } else { self.state.group_at.unwrap_or(Mono(u64::MAX)) };
            if self.waker.sleep(&self.world, &[self.fd.as_fd()], until) {
                self.read();
            } else if self.draining {
                self.ended = true;
            }
        }
    }

    fn read(&mut self) {
        let at = self.state.buf.len();
        self.state.buf.resize(at + CHUNK, 0);
        let read = self.state.buf.get_mut(at..).map_or(Ok(0), |room| rustix::io::read(&self.fd, room));
        self.state.buf.truncate(at + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.ended = true,
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(e) => {
                tracing::error!(error = %io::Error::from(e), "standard input can't be read: taken for its end");
                self.ended = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{ChainOptions, Grouping, Match, Multiline, Parser, Pattern};
    use pillion_event::{InputDesc, InputKind};
    use std::io::Write;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    const WIDE: Budget = Budget { bytes: 1 << 20, events: 1000 };

    fn spec(options: ChainOptions) -> InputSpec {
        InputSpec::new(Arc::new(InputDesc::bare(InputKind::Stdin, "")), Arc::new(Chain::new(options)), Vec::new())
    }

    fn texts(batch: &Batch) -> Vec<String> {
        batch.check().unwrap();
        batch.events.iter().map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()).collect()
    }

    #[test]
    fn lines_longer_than_may_be_kept_are_cut_and_the_rest_left_out() {
        let world = World::real();
        let mut s =
            Stream::new(&world, &spec(ChainOptions { max_bytes: 10, ..ChainOptions::default() }), &Arc::default());
        s.buf = vec![b'x'; s.limit()];
        let (batch, _) = s.take(Mono(0), 0, WIDE, false);
        assert_eq!(texts(&batch.unwrap()), ["xxxxxxxxxx"]);
        s.buf.extend_from_slice(b"the rest");
        assert!(s.take(Mono(0), 0, WIDE, false).0.unwrap().events.is_empty());
        s.buf.extend_from_slice(b" of it\nnext\nla");
        assert!(s.take(Mono(0), 0, WIDE, false).0.unwrap().events.is_empty());
        assert_eq!(texts(&s.take(Mono(0), 0, WIDE, false).0.unwrap()), ["next"]);
        assert!(s.take(Mono(0), 0, WIDE, false).0.is_none());
        assert_eq!(texts(&s.take(Mono(0), 0, WIDE, true).0.unwrap()), ["la"]);
        assert_eq!((s.buf.len(), s.pos), (0, s.tally.bytes));
    }

    #[test]
    fn an_open_group_is_flushed_after_its_timeout() {
        let world = World::real();
        let grouping = Grouping::Pattern {
            pattern: Pattern::new("^ ").unwrap(),
            negate: false,
            matching: Match::After,
            flush: None,
        };
        let parsers = vec![Parser::Multiline(Multiline::new(grouping))];
        let mut s = Stream::new(&world, &spec(ChainOptions { parsers, ..ChainOptions::default() }), &Arc::default());
        s.buf.extend_from_slice(b"a\n b\n");
        assert!(s.take(Mono(0), 0, WIDE, false).0.is_none());
        let at = s.group_at.unwrap();
        assert!(s.take(Mono(at.0 - 1), 0, WIDE, false).0.is_none());
        assert_eq!(texts(&s.take(at, 0, WIDE, false).0.unwrap()), ["a\n b"]);
    }

    struct Sink(Sender<Option<Batch>>);
    impl BatchSink for Sink {
        fn budget(&self) -> Budget {
            WIDE
        }
        fn push(&mut self, batch: Batch) {
            self.0.send(Some(batch)).unwrap();
        }
        fn drained(&mut self, _: Report) {
            self.0.send(None).unwrap();
        }
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_a_drain_ends_what_has_none() {
        for ends in [true, false] {
            let (reader, mut writer) = io::pipe().unwrap();
            let (out, seen) = channel();
            let waker = Waker::new().unwrap();
            let spec = spec(ChainOptions::default());
            let (sink, numbers) = (Box::new(Sink(out)), Arc::default());
            let thread = StdinThread::spawn(World::real(), &spec, reader.into(), sink, waker, &numbers).unwrap();
            writer.write_all(b"one\ntwo").unwrap();
            let limit = Duration::from_secs(20);
            assert_eq!(texts(&seen.recv_timeout(limit).unwrap().unwrap()), ["one"]);
            let _open = if ends {
                drop(writer);
                None
            } else {
                thread.drain();
                Some(writer)
            };
            assert_eq!(texts(&seen.recv_timeout(limit).unwrap().unwrap()), ["two"]);
            assert!(seen.recv_timeout(limit).unwrap().is_none());
            assert_eq!(thread.stop(limit).unwrap().stats.tally.events, 2);
        }
    }
}
