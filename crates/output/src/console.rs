//! The console output (`output.console`): records to standard output.
//!
//! Comes in: requests. Goes out: one record for each event; a request is settled when all its bytes are written. Written
//! in large pieces on a thread of its own, so that a reader who is slow stops neither signals nor the drain.
//!
//! Always holds: bytes that were written aren't written again, whatever error came between. A reader who went away
//! (`EPIPE`) ends the output: nobody will ever read the rest, and it stays undelivered. A standard output that isn't open
//! is refused ([`is_absent`]). Tested below and in `crates/pillion/tests/outputs.rs`.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use rustix::fs::OFlags;

use crate::backoff::Backoff;
use crate::codec::{Codec, CodecOptions};
use crate::contract::{OutputContext, Requests};
use crate::problem::Problem;
use crate::settle::{Unencodable, settle};
use crate::{AckSink, Request};

/// How many bytes are rendered before they are written.
const CHUNK: usize = 256 * 1024;
/// How long to wait for a reader whose pipe doesn't block.
const NOT_NOW: Duration = Duration::from_millis(5);
/// What standard output is called where troubles with hosts are kept.
const HOST: &str = "standard output";

/// What the user set in `output.console`.
#[derive(Clone, Debug)]
pub struct ConsoleOptions {
    /// `bulk_max_size`: events taken at once.
    pub bulk_max_size: usize,
    /// `codec`; `pretty: true` is the older way to say `codec.json.pretty`.
    pub codec: CodecOptions,
    /// The dialect.
    pub compat: Compat,
}

impl ConsoleOptions {
    /// Reads `output.console`.
    pub fn from_section(section: &Section<'_>, compat: Compat) -> Result<ConsoleOptions, Error> {
        let bulk_max_size = section.usize("bulk_max_size")?.unwrap_or(2048).clamp(1, 65_536);
        let mut codec = CodecOptions::from_section(section, compat)?;
        if section.bool("pretty")? == Some(true)
            && let CodecOptions::Json { pretty, .. } = &mut codec
        {
            *pretty = true;
        }
        Ok(ConsoleOptions { bulk_max_size, codec, compat })
    }
}

/// The console output.
pub struct ConsoleOutput {
    context: OutputContext,
    bulk_max_size: usize,
    records: Records,
}

impl ConsoleOutput {
    /// The output, on the process' standard output.
    ///
    /// # Errors
    /// When standard output isn't open.
    pub fn new(options: ConsoleOptions, context: OutputContext) -> Result<ConsoleOutput, Problem> {
        // Rust's own handle holds lines back, and after an error doesn't say what it wrote: a file on the same
        // descriptor does neither.
        let fd = io::stdout().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|e| Problem::bare(format!("standard output can't be used: {e}")))?;
        if is_absent(&fd) {
            return Err(Problem::new(
                "standard output isn't open: what is written there is nobody's",
                "give it a reader or a file; to throw events away on purpose write `>/dev/null` in a shell",
            ));
        }
        Ok(ConsoleOutput::to(Box::new(std::fs::File::from(fd)), options, context))
    }

    /// The output, to something else.
    pub fn to(target: Box<dyn Write + Send>, options: ConsoleOptions, context: OutputContext) -> ConsoleOutput {
        let codec = Codec::new(options.codec, options.compat, &context);
        let records = Records { target, codec, buffer: Vec::new(), written: 0 };
        ConsoleOutput { context, bulk_max_size: options.bulk_max_size, records }
    }

    /// Runs until the source is closed and everything is settled.
    ///
    /// # Errors
    /// When nobody reads standard output any more; what isn't settled isn't delivered.
    pub async fn run(self, requests: Arc<dyn Requests>, acks: Arc<dyn AckSink>) -> Result<(), Problem> {
        let ConsoleOutput { context, bulk_max_size, mut records } = self;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        while let Some(request) = requests.take(bulk_max_size).await {
            let mut job = Job { records, request, next: (0, 0), seen: 0, dropped: Vec::new(), bytes: 0 };
            loop {
                let (back, done) = job.attempt().await?;
                job = back;
                context.stats.bytes.add(std::mem::take(&mut job.bytes));
                match done {
                    Ok(()) => break,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(NOT_NOW).await,
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                        let remedy = "keep its reader running until Pillion ends";
                        let problem = Problem::new("nobody reads standard output any more", remedy);
                        context.stats.fails_with(HOST, &problem);
                        return Err(problem);
                    }
                    Err(e) => {
                        context.stats.failed.add(1);
                        let problem = Problem::bare(format!("writing to standard output failed: {e}"));
                        if context.stats.fails_with(HOST, &problem) {
                            tracing::warn!("{problem}; trying again, and until it works");
                        } else {
                            tracing::debug!("{problem} again");
                        }
                        let wait = backoff.wait(&*context.world.random);
                        context.hurry.pause(wait, &*context.world.random).await;
                    }
                }
            }
            backoff.reset();
            if context.stats.works(HOST) {
                tracing::info!("writing to standard output works again");
            }
            context.stats.requests.add(1);
            settle(&job.request.slices, &job.dropped, &*acks, &context.stats);
            records = job.records;
        }
        Ok(())
    }
}

/// Whether nobody gave the process this descriptor. Rust opens `/dev/null` in place of a missing one, for reading and
/// writing, and all that is written there would count as delivered; a shell's `>/dev/null` is open for writing alone.
fn is_absent(fd: &impl AsFd) -> bool {
    let null = rustix::fs::makedev(1, 3);
    let is_null = rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_rdev == null);
    is_null && rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR)
}

/// Where records go, and what of them is still to be written.
struct Records {
    target: Box<dyn Write + Send>,
    codec: Codec,
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
}

impl Records {
    fn flush(&mut self, bytes: &mut usize) -> io::Result<()> {
        while let Some(rest) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.target.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n;
                    *bytes += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(2 * CHUNK);
        self.written = 0;
        self.target.flush()
    }
}

/// What goes to the blocking thread and comes back.
struct Job {
    records: Records,
    request: Request,
    /// The next event to be rendered: slice, event in it.
    next: (usize, usize),
    /// Events rendered or dropped so far.
    seen: usize,
    dropped: Vec<Unencodable>,
    bytes: usize,
}

impl Job {
    async fn attempt(mut self) -> Result<(Job, io::Result<()>), Problem> {
        let working = tokio::task::spawn_blocking(move || {
            let done = self.go_on();
            (self, done)
        });
        working.await.map_err(|e| Problem::bare(format!("the console output's thread ended: {e}")))
    }

    fn go_on(&mut self) -> io::Result<()> {
        self.records.flush(&mut self.bytes)?;
        while let Some(slice) = self.request.slices.get(self.next.0) {
            let Some(event) = slice.events().get(self.next.1) else {
                self.next = (self.next.0 + 1, 0);
                continue;
            };
            match self.records.codec.encode(&slice.batch, event, &mut self.records.buffer) {
                Ok(()) => self.records.buffer.push(b'\n'),
                Err(missing) => self.dropped.push((self.seen, missing)),
            }
            self.next.1 += 1;
            self.seen += 1;
            if self.records.buffer.len() >= CHUNK {
                self.records.flush(&mut self.bytes)?;
            }
        }
        self.records.flush(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::format::Format;
    use crate::testing::{Books, List, context, lines};

    /// Takes at most three bytes at a time, and fails as the script says.
    #[derive(Clone, Default)]
    struct Picky {
        got: Arc<Mutex<Vec<u8>>>,
        script: Arc<Mutex<VecDeque<Option<io::ErrorKind>>>>,
    }

    impl Write for Picky {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if let Some(Some(kind)) = self.script.lock().unwrap().pop_front() {
                return Err(kind.into());
            }
            let n = buf.len().min(3);
            self.got.lock().unwrap().extend_from_slice(&buf[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn console(target: &Picky, format: &str) -> ConsoleOutput {
        let codec = CodecOptions::Format(Format::compile(format).unwrap());
        let options = ConsoleOptions { bulk_max_size: 3, codec, compat: Compat::V8 };
        ConsoleOutput::to(Box::new(target.clone()), options, context())
    }

    #[tokio::test(start_paused = true)]
    async fn each_byte_once_whatever_fails_between() {
        use io::ErrorKind::{Interrupted, StorageFull, WouldBlock};
        let target = Picky::default();
        *target.script.lock().unwrap() =
            [Some(WouldBlock), None, Some(Interrupted), None, Some(StorageFull), None, Some(WouldBlock)].into();
        let (requests, books) = (List::of(lines(7)), Arc::new(Books::default()));
        console(&target, "<%{[message]}>").run(requests, Arc::clone(&books) as _).await.unwrap();
        let want: String = (0..7).map(|i| format!("<line {i}>\n")).collect();
        assert_eq!(String::from_utf8(target.got.lock().unwrap().clone()).unwrap(), want);
        assert_eq!(books.acked(), 7);
    }

    #[tokio::test]
    async fn a_reader_who_went_away_ends_it_and_nothing_is_called_delivered() {
        let target = Picky::default();
        *target.script.lock().unwrap() = [None, Some(io::ErrorKind::BrokenPipe)].into();
        let (requests, books) = (List::of(lines(2)), Arc::new(Books::default()));
        let problem = console(&target, "%{[message]}").run(requests, Arc::clone(&books) as _).await.unwrap_err();
        assert!(problem.reason.contains("nobody reads"), "{problem}");
        assert_eq!(books.acked(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_is_named_for_the_receipt_until_it_takes_more() {
        let (target, context) = (Picky::default(), context());
        *target.script.lock().unwrap() = [Some(io::ErrorKind::StorageFull); 40].into();
        let stats = Arc::clone(&context.stats);
        let codec = CodecOptions::Format(Format::compile("%{[message]}").unwrap());
        let options = ConsoleOptions { bulk_max_size: 3, codec, compat: Compat::V8 };
        let console = ConsoleOutput::to(Box::new(target.clone()), options, context);
        let (requests, books) = (List::of(lines(1)), Arc::new(Books::default()));
        let mut run = std::pin::pin!(console.run(requests, Arc::clone(&books) as _));
        let while_full = tokio::time::timeout(Duration::from_secs(10), &mut run).await;
        assert!(while_full.is_err(), "a full disk is waited for");
        assert!(stats.last_error().is_some_and(|e| e.contains("standard output")), "{:?}", stats.last_error());
        run.await.unwrap();
        assert_eq!((books.acked(), stats.last_error()), (1, None));
    }

    #[test]
    fn only_what_nobody_gave_is_absent() {
        let open = |how: &mut std::fs::OpenOptions| how.open("/dev/null").unwrap();
        assert!(is_absent(&open(std::fs::OpenOptions::new().read(true).write(true))));
        assert!(!is_absent(&open(std::fs::OpenOptions::new().write(true))));
        assert!(!is_absent(&io::pipe().unwrap().1));
    }

    #[tokio::test]
    async fn what_can_not_be_encoded_is_dropped_and_said() {
        let target = Picky::default();
        let (requests, books) = (List::of(lines(3)), Arc::new(Books::default()));
        console(&target, "%{[no.such]}").run(requests, Arc::clone(&books) as _).await.unwrap();
        assert_eq!(target.got.lock().unwrap().len(), 0);
        assert_eq!((books.acked(), books.dropped()), (0, vec![0, 1, 2]));
    }
}
