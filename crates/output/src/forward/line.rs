//! A connection to a server of the forward protocol.
//!
//! Comes in: a host, who logs in, messages. Goes out: a connection that is logged in, acknowledgements. Always holds: the
//! login, each part of what is sent and each acknowledgement have a limit of time. Tested in `tests.rs`.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::answer::{Answer, Answers};
use super::login::{Login, refused};
use super::worker::Settings;
use crate::dial::{Dial, Stream};
use crate::problem::Problem;
use crate::tls::{explain_io, is_tls};

/// So many acknowledgements are remembered, to know a repeated one.
const DONE: usize = 64;
/// So much has to get through within the timeout.
const WRITE: usize = 64 * 1024;

/// A connection that is logged in.
pub(super) struct Line {
    stream: Stream,
    answers: Answers,
    timeout: Duration,
    /// What its host is called.
    pub(super) name: String,
    /// Whether it outlives a message.
    pub(super) keepalive: bool,
    /// The ids of messages that were acknowledged last, once each.
    done: VecDeque<Vec<u8>>,
}

impl Line {
    /// Connects, and logs in where there is a shared key. `salt`: random, for this connection alone.
    pub(super) async fn open(dial: &dyn Dial, host: usize, settings: &Settings, salt: &str) -> Result<Line, Problem> {
        let (stream, name) = (dial.dial(host).await?, dial.name(host));
        let (answers, done) = (Answers::default(), VecDeque::new());
        let mut line = Line { stream, answers, timeout: settings.timeout, name, keepalive: true, done };
        if !settings.login.shared_key.is_empty() {
            line.log_in(&settings.login, salt).await.map_err(|p| p.during(&line.name))?;
        }
        Ok(line)
    }

    async fn log_in(&mut self, login: &Login, salt: &str) -> Result<(), Problem> {
        let limit = self.timeout;
        let late =
            "Does the server ask for a shared key? Without one it says nothing first: leave shared_key out then.";
        let (nonce, auth) = match self.answer(limit, late).await? {
            Answer::Hello { nonce, auth, keepalive } => {
                self.keepalive = keepalive;
                (nonce, auth)
            }
            _ => return Err(odd()),
        };
        if !auth.is_empty() && login.user.is_empty() {
            return Err(Problem::new("the server asks for a user", "Set output.forward.username and password."));
        }
        self.write(&login.ping(salt, &nonce, &auth)).await?;
        match self.answer(limit, "Is the server overloaded or stopped?").await? {
            Answer::Pong { welcome: false, reason, .. } => Err(refused(&reason, login)),
            Answer::Pong { hostname, digest, .. } if login.knows(salt, &nonce, &hostname, &digest) => Ok(()),
            Answer::Pong { .. } => {
                let why = "the server doesn't show that it knows the shared key";
                Err(Problem::new(why, "Put output.forward.shared_key right. Is it the server that it should be?"))
            }
            _ => Err(odd()),
        }
    }

    /// Sends it all.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        for some in bytes.chunks(WRITE) {
            let sent = async {
                self.stream.write_all(some).await?;
                self.stream.flush().await
            };
            match timeout(self.timeout, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(broken(&e)),
                Err(_) => {
                    let why = format!("the server took nothing for {:?}", self.timeout);
                    return Err(Problem::new(why, "Is it overloaded or stopped, or output.forward.timeout too short?"));
                }
            }
        }
        Ok(())
    }

    /// The id of the next message that the server acknowledges.
    pub(super) async fn acknowledged(&mut self, limit: Duration) -> Result<Vec<u8>, Problem> {
        let late = "Does the server acknowledge at all (Fluentd, Fluent Bit and others do), and is \
                    output.forward.ack_response_timeout long enough for it?";
        match self.answer(limit, late).await? {
            Answer::Ack(chunk) => Ok(chunk),
            Answer::Hello { .. } => {
                Err(Problem::new("the server asks for a shared key", "Set output.forward.shared_key."))
            }
            Answer::Pong { .. } => Err(odd()),
        }
    }

    /// A message was acknowledged.
    pub(super) fn done(&mut self, chunk: Vec<u8>) {
        self.done.truncate(DONE - 1);
        self.done.push_front(chunk);
    }

    /// Whether that was acknowledged a while ago: a server may say it twice, and not more often.
    pub(super) fn was_done(&mut self, chunk: &[u8]) -> bool {
        let at = self.done.iter().position(|done| done == chunk);
        at.is_some_and(|at| self.done.remove(at).is_some())
    }

    async fn answer(&mut self, limit: Duration, late: &str) -> Result<Answer, Problem> {
        match timeout(limit, self.answers.next(&mut self.stream)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(broken(&e)),
            Err(_) => Err(Problem::new(format!("no answer within {limit:?}"), late)),
        }
    }

    /// Waits for what a server does that has nothing to answer: it closes the connection.
    pub(super) async fn closed(&mut self) {
        let said = self.answers.next(&mut self.stream).await;
        tracing::debug!("forward: {}: a connection at rest ended: {}", self.name, said.is_ok());
    }
}

fn odd() -> Problem {
    Problem::bare("the server's answer doesn't belong here")
}

/// Why a connection can't be used any more.
fn broken(e: &io::Error) -> Problem {
    match e.kind() {
        io::ErrorKind::InvalidData if !is_tls(e) => {
            Problem::new(e.to_string(), "Is this the port of a forward input, and without TLS as configured?")
        }
        io::ErrorKind::UnexpectedEof if !is_tls(e) => Problem::new(
            "the server closed the connection",
            "Is this the port of a forward input, does it want TLS or a shared key, and does it take messages of 2 MiB?",
        ),
        _ => explain_io(e),
    }
}
