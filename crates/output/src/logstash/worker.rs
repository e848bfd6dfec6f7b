//! One worker: one connection at a time, to one of its hosts.
//!
//! ```text
//!            ┌───────────── wait (backoff) ◄──────────── no host answers, or no answer at all: pieces given back
//!            ▼                                               ▲
//! idle ──► connect ──► session: send windows, settle answers ┤
//!   ▲                                                        ├─ ended after answers: connect at once, send the rest
//!   └────────────────────────────────────────────────────────┘─ ended with nothing in flight (Logstash closes idle ones)
//! ```
//!
//! Always holds: an event is settled when the server has acknowledged it, and at once; what was sent and isn't
//! acknowledged when a connection ends is sent again, before anything newer. Tested in `tests.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Drop, DropKind, Fate};
use pillion_lumberjack::{Client, ClientError, ClientOptions, Level, Progress, WindowWriter};
use tokio::time::Instant;

use crate::AckSink;
use crate::contract::OutputContext;
use crate::dial::{Dial, Stream};
use crate::problem::Problem;
use crate::render::Renderer;
use crate::settle::Books;
use crate::tls::{explain_io, is_tls};
use crate::turn::Turn;
use crate::work::{Piece, Pool};

/// A window ends when its events' JSON has grown beyond this: what the server must hold at once stays bounded, however
/// long the lines are.
const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// The first window of `slow_start`, as in Beats.
const FIRST_WINDOW: usize = 10;

/// How workers work.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) bulk_max_size: usize,
    pub(super) slow_start: bool,
    /// Windows in flight, at least 1.
    pub(super) in_flight: usize,
    pub(super) timeout: Duration,
    pub(super) ttl: Option<Duration>,
    pub(super) level: Option<Level>,
    pub(super) backoff: (Duration, Duration),
}

pub(super) struct Worker {
    pool: Arc<Pool<Piece>>,
    books: Books,
    turn: Turn,
    settings: Arc<Settings>,
    renderer: Arc<Renderer>,
    context: OutputContext,
    writer: WindowWriter,
    /// The most events in a window now.
    window: usize,
}

/// How a session ended.
enum Ended {
    /// All is settled and nothing will come.
    AllDone,
    /// The connection was closed in order, by us or while nothing was in flight.
    Idle,
    /// It failed after the server had acknowledged something.
    Lost,
    /// It failed, and the server never acknowledged anything.
    Useless(Problem),
}

impl Worker {
    pub(super) fn new(
        pool: Arc<Pool<Piece>>,
        acks: Arc<dyn AckSink>,
        dial: Arc<dyn Dial>,
        hosts: Vec<usize>,
        settings: Arc<Settings>,
        renderer: Arc<Renderer>,
        context: OutputContext,
    ) -> Worker {
        let turn = Turn::new("logstash", dial, hosts, settings.backoff, &context);
        let writer = WindowWriter::new(settings.level);
        let window =
            if settings.slow_start { FIRST_WINDOW.min(settings.bulk_max_size) } else { settings.bulk_max_size };
        let books = Books::new(acks, Arc::clone(&context.stats));
        Worker { pool, books, turn, settings, renderer, context, writer, window }
    }

    /// Works until all is settled and nothing will come.
    pub(super) async fn run(mut self) {
        let mut todo = VecDeque::new();
        // Connects before there is work: the first line needn't wait, and a wrong host is said early.
        let mut connect_first = true;
        loop {
            if !connect_first && todo.is_empty() {
                match self.pool.next().await {
                    Some(piece) => todo.push_back(piece),
                    None => return,
                }
            }
            let pool = Arc::clone(&self.pool);
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = pool.ended() => return,
            };
            let failed = match connected {
                Err(problem) => Some(problem),
                Ok(stream) => match self.session(stream, &mut todo).await {
                    Ended::AllDone => return,
                    Ended::Idle | Ended::Lost => None,
                    Ended::Useless(problem) => Some(problem),
                },
            };
            connect_first = failed.is_some();
            // It comes back before anything newer, if it may still be sent.
            pool.put_all(&mut todo);
            if let Some(problem) = failed {
                let wait = self.turn.failed(&problem);
                tokio::select! {
                    () = self.context.hurry.pause(wait, &*self.context.world.random) => {}
                    () = pool.ended() => return,
                }
            }
        }
    }

    /// Connects to the host used last, else to the first of the others that answers.
    async fn connect(&mut self) -> Result<Stream, Problem> {
        let mut left = self.turn.len();
        loop {
            match self.turn.dial().dial(self.turn.host()).await {
                Err(problem) if left > 1 => self.turn.pass(&problem),
                done => return done,
            }
            left -= 1;
        }
    }

    async fn session(&mut self, stream: Stream, todo: &mut VecDeque<Piece>) -> Ended {
        let options = ClientOptions { pipelining: self.settings.in_flight, timeout: self.settings.timeout };
        let mut client = Client::new(stream, options);
        let until = self.settings.ttl.map(|ttl| Instant::now() + ttl);
        let mut sent = VecDeque::new();
        let mut answered = false;
        let pool = Arc::clone(&self.pool);
        loop {
            let over = until.is_some_and(|until| until <= Instant::now());
            while !over && client.has_room() {
                let Some(piece) = self.render_next(todo) else { break };
                sent.push_back(piece);
                self.context.stats.requests.add(1);
                self.context.stats.bytes.add(self.writer.finish().len());
                if let Err(e) = client.send(&mut self.writer).await {
                    return self.end(&client, &e, sent, todo, answered);
                }
            }
            if over && sent.is_empty() {
                // What the server says to that no longer matters.
                let _ = client.close().await;
                return Ended::Idle;
            }
            let room = !over && client.has_room() && todo.is_empty();
            tokio::select! {
                biased;
                progress = client.next_ack() => match progress {
                    Ok(progress) => {
                        answered = true;
                        self.turn.works();
                        self.take_answer(progress, &mut sent);
                    }
                    Err(e) => return self.end(&client, &e, sent, todo, answered),
                },
                piece = pool.next(), if room => match piece {
                    Some(piece) => todo.push_back(piece),
                    None => {
                        let _ = client.close().await;
                        return Ended::AllDone;
                    }
                },
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() && !over => {}
            }
        }
    }

    fn take_answer(&mut self, progress: Progress, sent: &mut VecDeque<Sent>) {
        let Some(first) = sent.front_mut() else { return };
        first.acked_up_to(progress.acked as usize, &self.books);
        if progress.is_done() {
            let full = first.count >= self.window;
            sent.pop_front();
            if self.settings.slow_start && full {
                self.window = (self.window + self.window.div_ceil(2)).min(self.settings.bulk_max_size);
            }
        }
    }

    /// The connection has ended: settles what it still said, and puts the rest back to be sent first.
    fn end(
        &mut self,
        client: &Client<Stream>,
        error: &ClientError,
        mut sent: VecDeque<Sent>,
        todo: &mut VecDeque<Piece>,
        mut answered: bool,
    ) -> Ended {
        for (window, progress) in sent.iter_mut().zip(client.pending()) {
            answered |= progress.acked > 0;
            window.acked_up_to(progress.acked as usize, &self.books);
        }
        if sent.is_empty() {
            tracing::debug!("logstash: an idle connection ended: {error}");
            return if answered || matches!(error, ClientError::Closed | ClientError::Io(_)) {
                Ended::Idle
            } else {
                Ended::Useless(Problem::bare(error.to_string()))
            };
        }
        let mut unknown = 0;
        while let Some(window) = sent.pop_back() {
            if !window.piece.is_empty() {
                unknown += window.piece.len();
                todo.push_front(window.piece);
            }
        }
        self.context.stats.retried.add(unknown);
        self.window = if self.settings.slow_start { (self.window / 2).max(1) } else { self.window };
        if answered {
            self.turn.works();
            let host = self.turn.name();
            tracing::info!("logstash: {host}: the connection ended ({error}); {unknown} events are sent again");
            // The next one may do better; with a single host it is the same one.
            self.turn.next_host();
            return Ended::Lost;
        }
        Ended::Useless(self.unanswered(error, unknown))
    }

    /// Why a server never answered.
    fn unanswered(&self, error: &ClientError, unknown: usize) -> Problem {
        let what = format!("{}: the connection ended without an answer to {unknown} events", self.turn.name());
        let remedy = match error {
            // A client certificate that is missing or refused shows only here with TLS 1.3.
            ClientError::Io(e) if is_tls(e) => return explain_io(e).during(what),
            ClientError::Protocol(_) => "Does the port speak the Beats protocol, with TLS as configured?",
            ClientError::Timeout(_) => "Is Logstash's pipeline stuck, or `timeout` too short for it?",
            ClientError::Closed | ClientError::Io(_) | ClientError::Failed => {
                "Does the port speak the Beats protocol, and does it want TLS?"
            }
        };
        Problem::new(format!("{what}: {error}"), remedy)
    }

    /// Renders the next window from the front of `todo`. `None`: there is nothing to send.
    fn render_next(&mut self, todo: &mut VecDeque<Piece>) -> Option<Sent> {
        while let Some(mut piece) = todo.pop_front() {
            let count = self.render(&piece);
            let mut front = piece.take_front(count.max(1));
            if !piece.is_empty() {
                todo.push_front(piece);
            }
            if count > 0 {
                return Some(Sent { piece: front, count, acked: 0 });
            }
            let drop = Drop { kind: DropKind::TooLarge, type_name: String::new(), field: None };
            self.books.settle_front(&mut front, 1, &Fate::Dropped(drop));
        }
        None
    }

    /// Renders as many events from the front as a window takes. 0: the first one has no form in the protocol.
    fn render(&mut self, piece: &Piece) -> usize {
        self.writer.clear();
        for slice in piece.slices() {
            for event in slice.events() {
                if self.writer.count() as usize >= self.window || self.writer.bytes() >= WINDOW_BYTES {
                    return self.writer.count() as usize;
                }
                self.renderer.write(&slice.batch, event, self.writer.begin_event());
                if self.writer.end_event() == 0 {
                    return self.writer.count() as usize;
                }
            }
        }
        self.writer.count() as usize
    }
}

/// A window that was sent.
struct Sent {
    /// What of it isn't acknowledged.
    piece: Piece,
    /// Its events.
    count: usize,
    /// How many of them are acknowledged.
    acked: usize,
}

impl Sent {
    fn acked_up_to(&mut self, acked: usize, books: &Books) {
        books.settle_front(&mut self.piece, acked.saturating_sub(self.acked), &Fate::Acked);
        self.acked = self.acked.max(acked);
    }
}
