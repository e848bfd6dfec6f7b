//! Connections to Logstash hosts: TCP, a proxy between, TLS on top.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::tls::TlsClient;

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
}
