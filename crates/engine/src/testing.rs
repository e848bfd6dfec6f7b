//! Batches for this crate's tests.

use std::sync::{Arc, OnceLock};

use pillion_event::{Batch, BatchId, Event, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Source, Stream};

pub(crate) fn source(path: &str) -> Arc<Source> {
    source_of_life(path, 7)
}

pub(crate) fn source_of_life(path: &str, life: u128) -> Arc<Source> {
    let input = InputDesc::bare(InputKind::Log, "");
    Arc::new(Source {
        input: Arc::new(input),
        path: path.into(),
        key: format!("filebeat::logs::path::{path}").into(),
        incarnation: Incarnation(life),
        stat: FileStat::default(),
        render: OnceLock::new(),
        more: Default::default(),
    })
}

/// A batch at `from` with events of these lengths; without events it covers one filtered byte.
pub(crate) fn batch(source: &Arc<Source>, id: u64, from: u64, lens: &[u32]) -> Arc<Batch> {
    let mut at = 0;
    let events: Vec<Event> = lens
        .iter()
        .map(|&len| {
            let text = at..at + len;
            at += len;
            let offset = from + u64::from(text.start);
            Event { text, offset, len, time_ms: 0, stream: Stream::None, flags: Flags::default(), overlay: None }
        })
        .collect();
    let to = from + u64::from(at.max(1));
    let data = vec![b'x'; at as usize];
    Arc::new(Batch {
        id: BatchId(id),
        source: Arc::clone(source),
        from,
        to,
        guard: Guard::default(),
        read_ms: 0,
        data,
        events,
        replayed: false,
    })
}
