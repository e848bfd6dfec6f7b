//! Connections to hosts: TCP, a proxy between, TLS on top.
//!
//! Comes in: the place of a host in the output's list. Goes out: a stream that is ready for the target's protocol, or why
//! there is none. Always holds: connecting and the handshake each have a limit. Used by the outputs that speak a protocol
//! of their own over TCP; tested in their tests, which stand in the place of [`Dialer`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::tls::TlsClient;

/// What a connection must be able to do.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection that is ready for the protocol.
pub(crate) type Stream = Box<dyn Duplex>;

/// What [`Dial::dial`] gives: wait on it.
pub(crate) type Dialing<'a> = Pin<Box<dyn Future<Output = Result<Stream, Problem>> + Send + 'a>>;

/// How workers get their connections. A trait, so that tests can stand on the other side.
pub(crate) trait Dial: Send + Sync {
    /// Connects to the host with this index.
    fn dial(&self, host: usize) -> Dialing<'_>;

    /// What this host is called in messages.
    fn name(&self, host: usize) -> String;
}

/// The real way.
pub(crate) struct Dialer {
    /// The hosts, each with TLS or without.
    pub(crate) hosts: Vec<(Host, Option<TlsClient>)>,
    pub(crate) connector: Connector,
    /// The limit for the TLS handshake.
    pub(crate) timeout: Duration,
}

impl Dial for Dialer {
    fn dial(&self, host: usize) -> Dialing<'_> {
        Box::pin(async move {
            let (host, tls) = self.hosts.get(host).ok_or_else(|| Problem::bare("there is no such host"))?;
            let stream = self.connector.connect(host, true).await?;
            Ok(match tls {
                None => Box::new(stream) as Stream,
                Some(tls) => Box::new(tls.connect(host, stream, self.timeout).await?),
            })
        })
    }

    fn name(&self, host: usize) -> String {
        self.hosts.get(host).map(|(host, _)| host.to_string()).unwrap_or_default()
    }
}
