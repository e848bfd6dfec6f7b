//! One worker: one connection at a time, to one of its hosts.
//!
//! ```text
//! connect, log in ──► session: send commands, settle by their answers ──► all is settled: the end
//!   ▲      ▲                  │ closed at rest            │ lost, or refused: given back
//!   │      └── wait for work ◄┘                           ▼
//!   └───────────────────────────────────────── wait (backoff), next host
//! ```
//!
//! Always holds: an event is settled by the answer to its command and by nothing else: a connection on which more comes than
//! was asked is given up; what a lost connection left without an answer, and what was refused, is given back before anything
//! newer. What is refused for its key alone, where keys differ, is put off and holds up no other. Tested in `tests.rs`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Fate, Slice};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Kind;
use super::refusal::{explain, is_of_key};
use super::resp::{self, Answer, Answers};
use crate::AckSink;
use crate::choose::Choice;
use crate::codec::Codec;
use crate::contract::OutputContext;
use crate::dial::{Dial, Stream};
use crate::format::MissingField;
use crate::problem::{Problem, before};
use crate::settle::{Books, unencodable};
use crate::tls::{explain_io, is_tls};
use crate::turn::Turn;
use crate::work::{PUT_OFF, Piece, Pool};

/// Commands are sent when they have grown beyond this, however few events they hold.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// An `RPUSH` ends beyond this: a server does nothing else while it carries one out.
const COMMAND_BYTES: usize = 1024 * 1024;
/// So much has to get through within the timeout.
const WRITE: usize = 64 * 1024;

/// How workers work.
pub(super) struct Settings {
    /// For each host.
    pub(super) logins: Vec<Login>,
    pub(super) kind: Kind,
    pub(super) key: Choice,
    pub(super) codec: Codec,
    pub(super) bulk_max_size: usize,
    pub(super) timeout: Duration,
    pub(super) backoff: (Duration, Duration),
}

/// Who logs in where.
pub(super) struct Login {
    pub(super) user: String,
    /// Empty = there is no login.
    pub(super) password: String,
    pub(super) db: u64,
}

/// A connection that is logged in.
pub(super) struct Line {
    stream: Stream,
    answers: Answers,
    timeout: Duration,
    name: String,
    /// Commands were answered on it.
    used: bool,
}

impl Line {
    /// Connects and logs in.
    pub(super) async fn open(dial: &dyn Dial, host: usize, settings: &Settings) -> Result<Line, Problem> {
        let (stream, name) = (dial.dial(host).await?, dial.name(host));
        let mut line = Line { stream, answers: Answers::default(), timeout: settings.timeout, name, used: false };
        if let Some(login) = settings.logins.get(host) {
            line.log_in(login).await.map_err(|p| p.during(&line.name))?;
        }
        Ok(line)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Problem> {
        let db = login.db.to_string();
        let mut commands: Vec<Vec<&[u8]>> = Vec::new();
        match (login.user.as_bytes(), login.password.as_bytes()) {
            (_, b"") => {}
            (b"", password) => commands.push(vec![b"AUTH", password]),
            (user, password) => commands.push(vec![b"AUTH", user, password]),
        }
        commands.push(vec![b"PING"]);
        if login.db > 0 {
            commands.push(vec![b"SELECT", db.as_bytes()]);
        }
        for command in commands {
            self.write(&resp::command(&command)).await?;
            if let Answer::Error(text) = self.answer().await? {
                return Err(explain(before(&login.password, &text)));
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        for some in bytes.chunks(WRITE) {
            let sent = async {
                self.stream.write_all(some).await?;
                self.stream.flush().await
            };
            match timeout(self.timeout, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(broken(&e)),
                Err(_) => return Err(self.late()),
            }
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<Answer, Problem> {
        match timeout(self.timeout, self.answers.next(&mut self.stream)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(broken(&e)),
            Err(_) => Err(self.late()),
        }
    }

    /// Whether nothing has come that wasn't asked for: it would be taken for the answer to the next command.
    async fn is_quiet(&mut self) -> bool {
        !self.answers.has_more(&mut self.stream).await
    }

    fn late(&self) -> Problem {
        let why = format!("no answer within {:?}", self.timeout);
        Problem::new(why, "Is Redis overloaded or stopped, or output.redis.timeout too short for it?")
    }

    /// Waits for what a server does that has nothing to answer: it closes the connection.
    async fn closed(&mut self) {
        let said = self.answers.next(&mut self.stream).await;
        tracing::debug!("redis: {}: a connection at rest ended: {said:?}", self.name);
    }
}

/// Why a connection can't be used any more.
fn broken(e: &io::Error) -> Problem {
    match e.kind() {
        io::ErrorKind::InvalidData if !is_tls(e) => {
            Problem::new(e.to_string(), "Is this the port of a Redis, and without TLS as configured?")
        }
        io::ErrorKind::UnexpectedEof if !is_tls(e) => {
            Problem::new("the server closed the connection", "Is this the port of a Redis, and does it want TLS?")
        }
        _ => explain_io(e),
    }
}

/// How a session ended.
enum Ended {
    /// All is settled and nothing will come.
    AllDone,
    /// The server closed the connection while there was nothing to do.
    Idle,
    /// It failed, or the server refuses.
    Failed(Problem),
}

/// Some events in a row and what they share.
enum Part {
    /// One command.
    Command(usize),
    /// One event that can't be sent.
    Missing(MissingField),
}

pub(super) struct Worker {
    pool: Arc<Pool<Piece>>,
    books: Books,
    turn: Turn,
    settings: Arc<Settings>,
    context: OutputContext,
}

impl Worker {
    pub(super) fn new(
        pool: Arc<Pool<Piece>>,
        acks: Arc<dyn AckSink>,
        dial: Arc<dyn Dial>,
        hosts: Vec<usize>,
        settings: Arc<Settings>,
        context: OutputContext,
    ) -> Worker {
        let turn = Turn::new("redis", dial, hosts, settings.backoff, &context);
        let books = Books::new(acks, Arc::clone(&context.stats));
        Worker { pool, books, turn, settings, context }
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
                    Some(piece) => pool.put(piece),
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
            match Line::open(self.turn.dial(), self.turn.host(), &self.settings).await {
                Err(problem) if left > 1 => self.turn.pass(&problem),
                done => return done,
            }
            left -= 1;
        }
    }

    async fn session(&mut self, mut line: Line) -> Ended {
        let pool = Arc::clone(&self.pool);
        loop {
            let mut piece = tokio::select! {
                biased;
                piece = pool.next() => match piece {
                    Some(piece) => piece,
                    None => return Ended::AllDone,
                },
                () = line.closed() => return Ended::Idle,
            };
            loop {
                piece = pool.admit(piece).await;
                if piece.is_empty() {
                    break;
                }
                if !line.is_quiet().await {
                    pool.put(piece);
                    let problem = Problem::bare("the server closes the connection, or says what it wasn't asked");
                    return if line.used { Ended::Idle } else { Ended::Failed(problem.during(&line.name)) };
                }
                let mut back = VecDeque::new();
                if let Err(problem) = self.deliver(&mut line, &mut piece, &mut back).await {
                    self.context.stats.retried.add(back.iter().map(Piece::len).sum());
                    back.push_back(piece);
                    pool.put_all(&mut back);
                    return Ended::Failed(problem.during(&line.name));
                }
                line.used = true;
            }
        }
    }

    /// Sends as much of a piece's front as goes at once and settles it by the answers. What was sent and isn't taken
    /// goes to `back`, or is put off.
    async fn deliver(&mut self, line: &mut Line, piece: &mut Piece, back: &mut VecDeque<Piece>) -> Result<(), Problem> {
        let (parts, bytes) = self.render(piece);
        let mut trouble = None;
        if !bytes.is_empty() {
            self.context.stats.requests.add(1);
            self.context.stats.bytes.add(bytes.len());
            trouble = line.write(&bytes).await.err();
            if trouble.is_some() {
                // What was answered before it broke counts all the same, if it is there by now.
                line.timeout = Duration::ZERO;
            }
        }
        let (mut lost, mut off): (bool, Vec<Slice>) = (false, Vec::new());
        for part in parts {
            let events = match part {
                Part::Command(events) => events,
                Part::Missing(field) => {
                    self.books.settle_front(piece, 1, &unencodable(&field));
                    continue;
                }
            };
            let answer = if lost { Err(None) } else { line.answer().await.map_err(Some) };
            match answer {
                Ok(Answer::Integer(0..)) => {
                    self.turn.works();
                    self.books.settle_front(piece, events, &Fate::Acked);
                    continue;
                }
                Ok(Answer::Error(text)) if is_of_key(&text) && self.settings.key.constant().is_none() => {
                    self.refused_key(&explain(&text).during(&line.name), events);
                    off.extend(piece.take_front(events).slices().cloned());
                    continue;
                }
                Ok(Answer::Error(text)) => drop(trouble.get_or_insert_with(|| explain(&text))),
                Ok(Answer::Text | Answer::Integer(_)) => {
                    lost = true;
                    trouble.get_or_insert_with(|| Problem::bare("the answer isn't one to the command"));
                }
                Err(problem) => {
                    lost = true;
                    trouble = trouble.or(problem);
                }
            }
            back.push_back(piece.take_front(events));
        }
        self.pool.put_off(piece.with(off));
        trouble.map_or(Ok(()), Err)
    }

    /// So many events are put off, since a key of theirs can't be used; each kind is said once.
    fn refused_key(&self, problem: &Problem, events: usize) {
        let stats = &self.context.stats;
        stats.failed.add(1);
        stats.retried.add(events);
        if stats.fails_with("a key", problem) {
            tracing::warn!("redis: {problem} (events with this key wait, and are tried every {PUT_OFF:?})");
        }
    }

    /// The commands for the front of a piece, with what each part of it becomes.
    fn render(&self, piece: &Piece) -> (Vec<Part>, Vec<u8>) {
        let mut batch = Commands::new(self.settings.kind);
        let constant = self.settings.key.constant().map(|key| key.as_bytes().to_vec());
        let (codec, mut record) = (&self.settings.codec, Vec::new());
        for (of, _, event) in piece.events().take(self.settings.bulk_max_size) {
            if batch.bytes.len() >= BATCH_BYTES {
                break;
            }
            record.clear();
            let key = match &constant {
                Some(key) => Ok(key.clone()),
                None => self.settings.key.of(codec.renderer(), of, event),
            };
            match key.and_then(|key| codec.encode(of, event, &mut record).map(|()| key)) {
                Ok(key) => batch.add(key, &record),
                Err(missing) => batch.skip(missing),
            }
        }
        batch.end();
        (batch.parts, batch.bytes)
    }
}

/// Commands as they grow.
struct Commands {
    kind: Kind,
    parts: Vec<Part>,
    bytes: Vec<u8>,
    key: Vec<u8>,
    /// The values of the command that is open, ready made, and how many.
    values: Vec<u8>,
    count: usize,
}

impl Commands {
    fn new(kind: Kind) -> Commands {
        Commands { kind, parts: Vec::new(), bytes: Vec::new(), key: Vec::new(), values: Vec::new(), count: 0 }
    }

    fn add(&mut self, key: Vec<u8>, value: &[u8]) {
        let full = self.kind == Kind::Channel || self.values.len() >= COMMAND_BYTES || key != self.key;
        if full {
            self.end();
        }
        self.key = key;
        resp::part(value, &mut self.values);
        self.count += 1;
    }

    fn skip(&mut self, missing: MissingField) {
        self.end();
        self.parts.push(Part::Missing(missing));
    }

    /// Closes the command that is open.
    fn end(&mut self) {
        if self.count == 0 {
            return;
        }
        resp::begin(2 + self.count, &mut self.bytes);
        resp::part(if self.kind == Kind::List { b"RPUSH" } else { b"PUBLISH" }, &mut self.bytes);
        resp::part(&self.key, &mut self.bytes);
        self.bytes.append(&mut self.values);
        self.parts.push(Part::Command(std::mem::take(&mut self.count)));
    }
}
