//! The port that speaks the Beats protocol, as Logstash does.
//!
//! Windows in, events to the sink, acknowledgements out. Always holds: a window is written before it is acknowledged;
//! one that can't be written, or is refused on request, ends its connection unacknowledged.
//! Tested in `tests/receive.rs`.

use std::sync::Arc;

use pillion_lumberjack::{Received, ServerError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::counts::Counts;
use crate::options::Arrived;
use crate::port::Shared;

/// Serves one connection to its end.
pub(crate) async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (windows, mut received) = mpsc::channel(1);
    let connection = pillion_lumberjack::serve(stream, shared.options.lumberjack.clone(), windows);
    let writing = async {
        while let Some(window) = received.recv().await {
            take(&shared, window).await;
        }
    };
    // The connection gives its end of the channel up when it ends; `writing` ends after it.
    let (end, ()) = tokio::join!(connection, writing);
    match end {
        Ok(()) | Err(ServerError::Abandoned | ServerError::Stopped) => {}
        Err(e) => {
            tracing::debug!("connection: {e}");
            if matches!(e, ServerError::Protocol(_) | ServerError::Truncated) {
                shared.count(Counts { errors: 1, ..Counts::default() });
            }
        }
    }
}

async fn take(shared: &Shared, Received { window, ack }: Received) {
    if shared.rejects() {
        shared.count(Counts { rejected: window.len() as u64, ..Counts::default() });
        return;
    }
    let mut counts = Counts { events: window.len() as u64, bytes: window.bytes(), batches: 1, ..Counts::default() };
    if shared.port.looks_at_events() {
        let mut lines = Vec::new();
        for json in window.events() {
            if !shared.port.accepts(json) {
                counts.malformed += 1;
                counts.events -= 1;
                counts.bytes -= json.len() as u64;
                continue;
            }
            let event = Arrived { kind: shared.port.kind(), index: "", id: None, json };
            shared.port.take(None, event, &mut lines);
        }
        if let Err(e) = shared.port.write(&lines) {
            tracing::error!("a window can't be written, and isn't acknowledged: {e}");
            return;
        }
    }
    shared.count(counts);
    shared.delay().await;
    ack.done();
}
