//! `pillion receive`: an endpoint for trying things out, for tests, the demo and benchmarks.
//!
//! It speaks Lumberjack (as Logstash) and `_bulk` (as Elasticsearch), writes NDJSON and counts what arrives, and can be
//! slow or refuse on request. [`Receiver`] is the programmatic form, on free ports; [`run`] the command.
//!
//! Always holds: an event is written (to the file, not to the disk) before it is acknowledged; everything is bounded:
//! connections, requests at once, bodies before and after decompression, lines, remembered ids. Not for production:
//! nothing is synced, and whoever can connect can fill the disk; it listens on loopback unless told otherwise.

mod answer;
mod bulk;
mod counts;
mod http;
mod ids;
mod lumber;
mod options;
mod port;
mod sink;
mod tls;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use bulk::{Action, BulkError, BulkLimits, Op, fuzz_bulk, parse as parse_bulk};
pub use counts::Counts;
pub use options::{Arrived, Kind, Listen, Options, Sink};
pub use tls::{TlsError, tls_config};

/// A running receiver. Dropped, it ends as by [`Receiver::stop`].
pub struct Receiver {
    ports: Vec<port::Running>,
    changed: watch::Receiver<()>,
}

impl Receiver {
    /// Binds the ports and begins to accept, on the tokio runtime that this is called on.
    ///
    /// # Errors
    /// When a port can't be bound or a file can't be opened; the text names it.
    pub async fn start(options: Options) -> io::Result<Receiver> {
        let (sender, changed) = watch::channel(());
        let options = Arc::new(options);
        let mut receiver = Receiver { ports: Vec::new(), changed };
        for listen in &options.listen {
            let running = port::start(&options, listen, &sender).await.map_err(|e| {
                io::Error::new(e.kind(), format!("{} on {}: {e}", listen.kind.as_str(), listen.address))
            })?;
            receiver.ports.push(running);
        }
        Ok(receiver)
    }

    /// What is spoken where, in the order of [`Options::listen`].
    pub fn ports(&self) -> impl Iterator<Item = (Kind, SocketAddr)> {
        self.ports.iter().map(|p| (p.kind, p.address))
    }

    /// The address of the first port of a kind.
    pub fn address(&self, kind: Kind) -> Option<SocketAddr> {
        self.ports().find(|p| p.0 == kind).map(|p| p.1)
    }

    /// What has arrived on all ports.
    pub fn counts(&self) -> Counts {
        self.ports.iter().map(|p| p.shared.counts()).fold(Counts::default(), |a, b| a + b)
    }

    /// What has arrived on the ports of a kind.
    pub fn counts_of(&self, kind: Kind) -> Counts {
        let ports = self.ports.iter().filter(|p| p.kind == kind);
        ports.map(|p| p.shared.counts()).fold(Counts::default(), |a, b| a + b)
    }

    /// Waits until the counts of all ports are as wished, and returns them. Callers set a time limit.
    pub async fn wait_for(&self, wished: impl Fn(&Counts) -> bool) -> Counts {
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            let counts = self.counts();
            if wished(&counts) {
                return counts;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Closes ports and connections at once, without an answer to what is being handled: as a crash would. Everything
    /// that was acknowledged is written.
    pub async fn stop(mut self) -> Counts {
        for port in &mut self.ports {
            port.accepting.abort();
            // Its end is the one of its connections; the error only says that it was aborted.
            let _ = (&mut port.accepting).await;
        }
        self.counts()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for port in &self.ports {
            port.accepting.abort();
        }
    }
}

/// The command: receives until SIGINT or SIGTERM. Says on standard error where it listens (`lumberjack on
/// 127.0.0.1:5044`), once a second what has arrived when that has changed, and the counts at the end. Returns them.
///
/// # Errors
/// When it can't start.
pub fn run(options: Options) -> io::Result<Counts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ends = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        let [interrupt, terminate] = &mut ends;
        let receiver = Receiver::start(options).await?;
        for (kind, address) in receiver.ports() {
            say(&format!("{} on {address}", kind.as_str()));
        }
        let mut said = Counts::default();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = tick.tick() => {
                    let counts = receiver.counts();
                    if counts != said {
                        say(&format!("received: {counts}"));
                        said = counts;
                    }
                }
            }
        }
        let counts = receiver.stop().await;
        say(&format!("received in all: {counts}"));
        Ok(counts)
    })
}

/// To standard error; where nobody reads that, nobody is told.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
