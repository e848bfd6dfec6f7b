//! Connections to Logstash hosts: TCP, a proxy between, TLS on top.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::tls::{TlsClient, explain_io};

/// What a connection must be able to do.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection that is ready for the protocol.
pub(super) type Stream = Box<dyn Duplex>;

/// What [`Dial::dial`] gives: wait on it.
pub(super) type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Stream, Problem>> + Send + 'a>>;

/// How workers get their connections. A trait, so that tests can stand on the other side.
pub(super) trait Dial: Send + Sync {
    /// Connects to the host with this index.
    fn dial(&self, host: usize) -> Dialing<'_>;

    /// What this host is called in messages.
    fn name(&self, host: usize) -> String;
}

/// The real way.
pub(super) struct Dialer {
    pub(super) hosts: Vec<Host>,
    pub(super) connector: Connector,
    pub(super) tls: Option<TlsClient>,
    /// The limit for the TLS handshake.
    pub(super) timeout: Duration,
}

impl Dial for Dialer {
    fn dial(&self, host: usize) -> Dialing<'_> {
        Box::pin(async move {
            let host = self.hosts.get(host).ok_or_else(|| Problem::bare("there is no such host"))?;
            let stream = self.connector.connect(host, true).await?;
            Ok(match &self.tls {
                None => Box::new(stream) as Stream,
                Some(tls) => Box::new(tls.connect(host, stream, self.timeout).await?),
            })
        })
    }

    fn name(&self, host: usize) -> String {
        self.hosts.get(host).map(ToString::to_string).unwrap_or_default()
    }
}

/// How long a server is listened to that should say nothing.
const LISTEN: Duration = Duration::from_millis(500);

/// Whether a new connection is still there a moment later: with TLS 1.3 a server checks a client's certificate only
/// after the client's handshake is done, and a proxy may take connections that it can't pass on.
pub(super) async fn stays(stream: &mut Stream) -> Result<(), Problem> {
    match tokio::time::timeout(LISTEN, stream.read(&mut [0])).await {
        Err(_) => Ok(()),
        Ok(Ok(0)) => Err(Problem::new(
            "the server closed the connection at once",
            "Does the port speak the Beats protocol, and does it want TLS?",
        )),
        Ok(Ok(_)) => Err(Problem::new(
            "the server speaks first, which the Beats protocol doesn't",
            "Is this the port of Logstash's input `beats`?",
        )),
        Ok(Err(e)) => Err(explain_io(&e)),
    }
}
