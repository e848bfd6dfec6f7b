//! A worker of the forward output.
//!
//! ```text
//! connect, log in ──► send messages ──► settle by their acknowledgements ──► all is settled: the end
//!   ▲      ▲               │ closed at rest            │ lost, late or odd: given back, each with its id
//!   │      └ wait for work ◄┘                          ▼
//!   └─────────────────────────────── wait (backoff), next host
//! ```
//!
//! Always holds: an event is settled by the acknowledgement of its message and by nothing else; what a lost connection left
//! without one is given back before anything newer, and goes out again as the same message with the same id, unless some of
//! it is another replica's by then. Tested in `tests.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pillion_deflate::Level;
use pillion_event::Slice;

use super::line::Line;
use super::login::Login;
use super::message::{Front, MESSAGE_BYTES, Maker};
use crate::AckSink;
use crate::codec::Codec;
use crate::contract::OutputContext;
use crate::dial::Dial;
use crate::format::{Format, Selector};
use crate::problem::Problem;
use crate::settle::Books;
use crate::turn::Turn;
use crate::work::{Carried, Piece, Pool};

/// How workers work.
pub(super) struct Settings {
    pub(super) login: Login,
    pub(super) tag: Arc<Format>,
    pub(super) codec: Codec,
    pub(super) level: Option<Level>,
    pub(super) bulk_max_size: usize,
    /// The most messages on their way on one connection.
    pub(super) in_flight: usize,
    /// For connecting, the login, and each part of what is sent.
    pub(super) timeout: Duration,
    /// For each acknowledgement.
    pub(super) ack_timeout: Duration,
    pub(super) backoff: (Duration, Duration),
}

/// Some events, and the id of the message that they are all of, once they have been sent as one.
pub(super) struct Work {
    piece: Piece,
    chunk: Option<String>,
}

impl From<Piece> for Work {
    fn from(piece: Piece) -> Work {
        Work { piece, chunk: None }
    }
}

impl AsRef<Piece> for Work {
    fn as_ref(&self) -> &Piece {
        &self.piece
    }
}

impl Carried for Work {
    /// With fewer events it is another message.
    fn leave_out(&mut self, gone: &dyn Fn(&Slice) -> bool) {
        let before = self.piece.len();
        self.piece.leave_out(gone);
        if self.piece.len() != before {
            self.chunk = None;
        }
    }
}

/// How a session ended.
enum Ended {
    /// All is settled and nothing will come.
    AllDone,
    /// The server closed the connection while there was nothing to do, or keeps none.
    Idle,
    /// It failed, or the server refuses.
    Failed(Problem),
}

pub(super) struct Worker {
    pool: Arc<Pool<Work>>,
    books: Books,
    turn: Turn,
    settings: Arc<Settings>,
    context: OutputContext,
    maker: Maker,
}

impl Worker {
    pub(super) fn new(
        pool: Arc<Pool<Work>>,
        acks: Arc<dyn AckSink>,
        dial: Arc<dyn Dial>,
        hosts: Vec<usize>,
        settings: Arc<Settings>,
        context: OutputContext,
    ) -> Worker {
        let turn = Turn::new("forward", dial, hosts, settings.backoff, &context);
        let books = Books::new(acks, Arc::clone(&context.stats));
        let maker = Maker::new(Selector::new(Arc::clone(&settings.tag)), settings.level);
        Worker { pool, books, turn, settings, context, maker }
    }

    /// Works until all is settled and nothing will come. It connects before there is work: the first line needn't wait,
    /// and a wrong host is said early.
    pub(super) async fn run(mut self) {
        loop {
            let pool = Arc::clone(&self.pool);
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = pool.ended() => return,
            };
            let ended = match connected {
                Ok(line) => self.session(line).await,
                Err(problem) => Ended::Failed(problem),
            };
            match ended {
                Ended::AllDone => return,
                Ended::Idle => match pool.next().await {
                    Some(work) => pool.put(work),
                    None => return,
                },
                Ended::Failed(problem) => {
                    let wait = self.turn.failed(&problem);
                    tokio::select! {
                        () = self.context.hurry.pause(wait, &*self.context.world.random) => {}
                        () = pool.ended() => return,
                    }
                }
            }
        }
    }

    /// Connects to the host used last, else to the first of the others that answers.
    async fn connect(&mut self) -> Result<Line, Problem> {
        let mut left = self.turn.len();
        loop {
            let salt = format!("{:032x}", self.context.world.random.u128());
            match Line::open(self.turn.dial(), self.turn.host(), &self.settings, &salt).await {
                Err(problem) if left > 1 => self.turn.pass(&problem),
                done => return done,
            }
            left -= 1;
        }
    }

    async fn session(&mut self, mut line: Line) -> Ended {
        let pool = Arc::clone(&self.pool);
        loop {
            let mut work = tokio::select! {
                biased;
                work = pool.next() => match work {
                    Some(work) => work,
                    None => return Ended::AllDone,
                },
                () = line.closed() => return Ended::Idle,
            };
            loop {
                work = pool.admit(work).await;
                if work.piece.is_empty() {
                    break;
                }
                let mut sent = VecDeque::new();
                if let Err(problem) = self.deliver(&mut line, &mut work, &mut sent).await {
                    self.context.stats.retried.add(sent.iter().map(|work| work.piece.len()).sum());
                    sent.push_back(work);
                    pool.put_all(&mut sent);
                    return Ended::Failed(problem.during(&line.name));
                }
                if !line.keepalive {
                    pool.put(work);
                    return Ended::Idle;
                }
            }
        }
    }

    /// Sends as many messages of a piece's front as may be on their way, and settles each when it is acknowledged. `sent`:
    /// those that aren't.
    async fn deliver(&mut self, line: &mut Line, work: &mut Work, sent: &mut VecDeque<Work>) -> Result<(), Problem> {
        let bytes = self.make(line, work, sent);
        if !bytes.is_empty() {
            self.context.stats.requests.add(sent.len());
            self.context.stats.bytes.add(bytes.len());
        }
        // What was acknowledged before it broke counts all the same, if it is there by now.
        let mut trouble = line.write(&bytes).await.err();
        let limit = if trouble.is_some() { Duration::ZERO } else { self.settings.ack_timeout };
        while !sent.is_empty() {
            match line.acknowledged(limit).await {
                Ok(chunk) => match sent.iter().position(|work| work.is(&chunk)).and_then(|at| sent.remove(at)) {
                    Some(Work { mut piece, .. }) => {
                        self.turn.works();
                        let n = piece.len();
                        self.books.settle_front(&mut piece, n, &pillion_event::Fate::Acked);
                        line.done(chunk);
                    }
                    None if line.was_done(&chunk) => {}
                    None => {
                        let why = "the server acknowledges a message that wasn't sent on this connection";
                        return Err(trouble.unwrap_or_else(|| Problem::bare(why)));
                    }
                },
                Err(problem) => return Err(trouble.take().unwrap_or(problem)),
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// The messages of a piece's front, which move to `sent`. What can't be sent is settled.
    fn make(&mut self, line: &Line, work: &mut Work, sent: &mut VecDeque<Work>) -> Vec<u8> {
        let most = if line.keepalive { self.settings.in_flight } else { 1 };
        let (settings, mut bytes) = (Arc::clone(&self.settings), Vec::new());
        while sent.len() < most && bytes.len() < MESSAGE_BYTES && !work.piece.is_empty() {
            let chunk = work.chunk.take().unwrap_or_else(|| self.new_chunk());
            let front = self.maker.make(&settings.codec, &work.piece, settings.bulk_max_size, &chunk, &mut bytes);
            match front {
                Front::Message(n) => sent.push_back(Work { piece: work.piece.take_front(n), chunk: Some(chunk) }),
                Front::Unsendable(fate) => self.books.settle_front(&mut work.piece, 1, &fate),
            }
        }
        bytes
    }

    /// A new id: 128 random bits as base64, as Fluentd's.
    fn new_chunk(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(self.context.world.random.u128().to_be_bytes())
    }
}

impl Work {
    fn is(&self, chunk: &[u8]) -> bool {
        self.chunk.as_ref().is_some_and(|own| own.as_bytes() == chunk)
    }
}
