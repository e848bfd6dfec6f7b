//! One listening port: accepting connections within the limit, and what its connections share.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::counts::{Counters, Counts};
use crate::ids::Ids;
use crate::options::{Kind, Listen, Options};
use crate::sink::Port;
use crate::{http, lumber};

/// What all connections of a port share.
pub(crate) struct Shared {
    pub(crate) options: Arc<Options>,
    pub(crate) port: Port,
    pub(crate) ids: Mutex<Ids>,
    pub(crate) requests: Semaphore,
    /// Events and windows so far, for `--reject-every`.
    tries: AtomicU64,
    /// For made-up ids.
    pub(crate) numbers: AtomicU64,
    counters: Counters,
    /// The counts of all ports changed.
    changed: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn count(&self, more: Counts) {
        self.counters.add(more);
        self.changed.send_replace(());
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counters.get()
    }

    /// Whether this one is refused on request.
    pub(crate) fn rejects(&self) -> bool {
        let Some(every) = self.options.reject_every else { return false };
        (self.tries.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every.get())
    }

    pub(crate) async fn delay(&self) {
        if !self.options.delay.is_zero() {
            tokio::time::sleep(self.options.delay).await;
        }
    }
}

/// A bound port whose connections are being accepted.
pub(crate) struct Running {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) accepting: tokio::task::JoinHandle<()>,
}

pub(crate) async fn start(options: &Arc<Options>, listen: &Listen, changed: &watch::Sender<()>) -> io::Result<Running> {
    let listener = TcpListener::bind(listen.address).await?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        options: Arc::clone(options),
        port: Port::open(options, listen.kind, address.port())?,
        ids: Mutex::new(Ids::new(options.ids)),
        requests: Semaphore::new(options.requests.max(1)),
        tries: AtomicU64::new(0),
        numbers: AtomicU64::new(0),
        counters: Counters::default(),
        changed: changed.clone(),
    });
    let tls = listen.tls.clone().map(TlsAcceptor::from);
    let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), tls));
    Ok(Running { kind: listen.kind, address, shared, accepting })
}

/// Accepts until it is aborted, which ends its connections too. At the limit, new connections wait in the kernel.
async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    let max = shared.options.connections.max(1);
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < max => match accepted {
                Ok((stream, _)) => {
                    shared.count(Counts { connections: 1, ..Counts::default() });
                    connections.spawn(connection(stream, Arc::clone(&shared), tls.clone()));
                }
                Err(e) => {
                    // Out of descriptors, most likely: connections that end give some back.
                    tracing::warn!("can't accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    // Acknowledgements are six bytes: they mustn't wait for more.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return match shared.port.kind() {
            Kind::Lumberjack => lumber::serve(stream, shared).await,
            Kind::Elasticsearch => http::serve(stream, shared).await,
        };
    };
    match tokio::time::timeout(shared.options.lumberjack.inactivity, tls.accept(stream)).await {
        Ok(Ok(stream)) => match shared.port.kind() {
            Kind::Lumberjack => lumber::serve(stream, shared).await,
            Kind::Elasticsearch => http::serve(stream, shared).await,
        },
        failed => {
            tracing::debug!("TLS handshake: {:?}", failed.map(|r| r.map(|_| ())));
            shared.count(Counts { errors: 1, ..Counts::default() });
        }
    }
}
