//! A connection to one broker: TLS, login, requests and their answers, one after another.
//!
//! Comes in: a host, who logs in, requests. Goes out: answers. Always holds: an answer takes at most [`LIMIT`] bytes;
//! every step has a limit in time; a broker that is too old is told at the beginning. Tested in `tests.rs`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use pillion_world::Random;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::refusal::explain;
use super::sasl::{self, Mechanism, Scram};
use super::wire::{self, Api, Malformed, Reader, Request};
use crate::dial::Stream;
use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::tls::{TlsClient, explain_io, is_tls};

/// Metadata of very large clusters; all other answers are far smaller.
const LIMIT: usize = 16 << 20;
/// So much has to get through within the timeout.
const WRITE: usize = 64 * 1024;
/// Kafka 0.11: records as they are written here.
const OLDEST_PRODUCE: i16 = 3;
/// The last version without tagged fields that is the same to us.
const NEWEST_PRODUCE: i16 = 7;

/// What [`Reach::dial`] gives: wait on it.
pub(super) type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Stream, Problem>> + Send + 'a>>;

/// How brokers are reached: they are named by the cluster. A trait, so that tests can stand on the other side.
pub(super) trait Reach: Send + Sync {
    fn dial<'a>(&'a self, host: &'a Host) -> Dialing<'a>;
}

/// The real way.
pub(super) struct Dialer {
    pub(super) connector: Connector,
    pub(super) tls: Option<TlsClient>,
    /// The limit for the TLS handshake.
    pub(super) timeout: Duration,
}

impl Reach for Dialer {
    fn dial<'a>(&'a self, host: &'a Host) -> Dialing<'a> {
        Box::pin(async move {
            let stream = self.connector.connect(host, true).await?;
            Ok(match &self.tls {
                None => Box::new(stream) as Stream,
                Some(tls) => Box::new(tls.connect(host, stream, self.timeout).await?),
            })
        })
    }
}

/// Who connects, and how patiently.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) login: Option<(Mechanism, String, String)>,
    pub(super) timeout: Duration,
}

/// A connection that is logged in.
pub(super) struct Broker {
    stream: Stream,
    pub(super) name: String,
    client: Client,
    correlation: i32,
    /// The version in which records are sent.
    produce: i16,
}

impl Broker {
    /// Connects and logs in.
    pub(super) async fn open(
        reach: &dyn Reach,
        host: &Host,
        client: &Client,
        random: &dyn Random,
    ) -> Result<Broker, Problem> {
        let (stream, name) = (reach.dial(host).await?, host.to_string());
        let mut broker = Broker { stream, name, client: client.clone(), correlation: 0, produce: OLDEST_PRODUCE };
        match broker.begin(random).await {
            Ok(()) => Ok(broker),
            Err(problem) => Err(problem.during(host)),
        }
    }

    async fn begin(&mut self, random: &dyn Random) -> Result<(), Problem> {
        let answer = self.call(Api::Versions, 0, |_| ()).await?;
        let versions = wire::read_versions(&mut Reader(&answer)).map_err(malformed)?;
        let of =
            |api: Api| versions.iter().find(|(id, ..)| *id == api as i16).map_or((1, 0), |(_, from, to)| (*from, *to));
        let (from, to) = of(Api::Produce);
        if from > NEWEST_PRODUCE || to < OLDEST_PRODUCE || of(Api::Metadata).1 < 4 {
            return Err(Problem::new("the broker is too old or too new", "Kafka 0.11 to 4 are spoken to."));
        }
        self.produce = to.min(NEWEST_PRODUCE);
        match self.client.login.clone() {
            Some((mechanism, user, password)) => self.log_in(mechanism, &user, &password, random).await,
            None => Ok(()),
        }
    }

    async fn log_in(
        &mut self,
        mechanism: Mechanism,
        user: &str,
        password: &str,
        random: &dyn Random,
    ) -> Result<(), Problem> {
        let answer = self.call(Api::SaslHandshake, 1, |r| r.text(mechanism.name())).await?;
        let code = Reader(&answer).i16().map_err(malformed)?;
        if code != 0 {
            return Err(explain(code, &format!("login by {}", mechanism.name())));
        }
        if mechanism == Mechanism::Plain {
            return self.authenticate(&sasl::plain(user, password)).await.map(drop);
        }
        let mut scram = Scram::new(mechanism, user, password, format!("{:032x}", random.u128()));
        let wrong = |why: &str| Problem::bare(format!("login by {}: {why}", mechanism.name()));
        let first = self.authenticate(&scram.first()).await?;
        let last = scram.last(&first).map_err(wrong)?;
        let proof = self.authenticate(&last).await?;
        if scram.check(&proof) { Ok(()) } else { Err(wrong("the server doesn't know the password itself")) }
    }

    async fn authenticate(&mut self, message: &[u8]) -> Result<Vec<u8>, Problem> {
        let answer = self.call(Api::SaslAuthenticate, 0, |r| r.bytes(message)).await?;
        let mut r = Reader(&answer);
        let code = r.i16().map_err(malformed)?;
        if code != 0 {
            // The broker's words may quote the user.
            return Err(explain(code, "login"));
        }
        r.text().and_then(|_| r.bytes()).map(<[u8]>::to_vec).map_err(malformed)
    }

    /// Asks and waits for the answer.
    pub(super) async fn call(
        &mut self,
        api: Api,
        version: i16,
        fill: impl FnOnce(&mut Request),
    ) -> Result<Vec<u8>, Problem> {
        self.send(api, version, fill).await?;
        self.receive().await
    }

    /// Sends records; returns how many bytes that took, and the version, which the answer has too.
    pub(super) async fn produce(&mut self, fill: impl FnOnce(&mut Request)) -> Result<(usize, i16), Problem> {
        let version = self.produce;
        Ok((self.send(Api::Produce, version, fill).await?, version))
    }

    async fn send(&mut self, api: Api, version: i16, fill: impl FnOnce(&mut Request)) -> Result<usize, Problem> {
        self.correlation = self.correlation.wrapping_add(1);
        let mut request = Request::new(api, version, self.correlation, &self.client.id);
        fill(&mut request);
        let bytes = request.finish();
        for some in bytes.chunks(WRITE) {
            let sent = async {
                self.stream.write_all(some).await?;
                self.stream.flush().await
            };
            timeout(self.client.timeout, sent).await.map_err(|_| self.late())?.map_err(|e| broken(&e))?;
        }
        Ok(bytes.len())
    }

    /// The answer to what was sent last, without its head.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, Problem> {
        let reading = async {
            let length = self.stream.read_u32().await? as usize;
            if !(4..=LIMIT).contains(&length) {
                return Ok(None);
            }
            let correlation = self.stream.read_i32().await?;
            let mut body = Vec::new();
            (&mut self.stream).take(length as u64 - 4).read_to_end(&mut body).await?;
            if body.len() < length - 4 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some((correlation, body)))
        };
        match timeout(self.client.timeout, reading).await {
            Ok(Ok(Some((correlation, body)))) if correlation == self.correlation => Ok(body),
            Ok(Ok(_)) => Err(malformed(Malformed)),
            Ok(Err(e)) => Err(broken(&e)),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> Problem {
        let why = format!("no answer within {:?}", self.client.timeout);
        Problem::new(why, "Is the broker overloaded or stopped, or output.kafka.timeout too short for it?")
    }

    /// Whether the broker has closed the connection while nothing was asked.
    pub(super) async fn is_stale(&mut self) -> bool {
        let mut byte = [0];
        poll_fn(|context| {
            let read = Pin::new(&mut self.stream).poll_read(context, &mut ReadBuf::new(&mut byte));
            Poll::Ready(read.is_ready())
        })
        .await
    }
}

/// An answer that can't be read.
pub(super) fn malformed(_: Malformed) -> Problem {
    Problem::new("the answer isn't one of Kafka", "Is this a broker's port, with TLS as configured?")
}

/// Why a connection can't be used any more.
fn broken(e: &std::io::Error) -> Problem {
    if e.kind() == std::io::ErrorKind::UnexpectedEof && !is_tls(e) {
        let remedy = "Is this a broker's port, and does it want TLS or a login?";
        return Problem::new("the broker closed the connection", remedy);
    }
    explain_io(e)
}
