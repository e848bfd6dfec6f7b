//! From messages to batches: what all connections of one input share.
//!
//! Comes in: messages with the bytes that they lie in. Goes out: batches into the sink. Always holds: the messages of an
//! input lie one behind the other in one stream of its own, whichever connection they came by, so that each event has a
//! range that no other has. Tested end to end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use pillion_event::{Batch, Event, FileStat, Flags, Guard, Incarnation, Overlay, Source, Stream};
use pillion_process::Pipeline;
use pillion_process::syslog::Found;
use pillion_world::World;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::harvest::{FileAccount, Numbers, Tally};
use crate::net::frame::Frame;
use crate::net::{Listen, Missed};
use crate::spec::{Budget, InputSpec};
use crate::thread::BatchSink;

/// What all inputs of the thread share.
pub(super) struct Shared {
    pub(super) world: World,
    pub(super) sink: RefCell<Box<dyn BatchSink>>,
    /// Told when the sink may have space again.
    pub(super) space: Notify,
    pub(super) draining: watch::Receiver<bool>,
    /// Told when a socket listens no more.
    pub(super) closed: Notify,
    pub(super) numbers: Arc<Numbers>,
    /// Bytes of unfinished messages beyond what each connection may keep.
    pub(super) held: Cell<usize>,
}

impl Shared {
    /// Waits until there is space in the queue: how much.
    pub(super) async fn room(&self) -> Budget {
        loop {
            let notified = self.space.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let budget = self.sink.borrow().budget();
            if !budget.is_empty() {
                return budget;
            }
            notified.await;
        }
    }

    /// Waits until the drain begins.
    async fn drain(&self) {
        let mut draining = self.draining.clone();
        // Nobody who could begin it any more: it doesn't.
        if draining.wait_for(|draining| *draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One input.
pub(super) struct Port {
    pub(super) shared: Rc<Shared>,
    pub(super) listen: Listen,
    /// By what its input is named when it has to go.
    pub(super) label: u64,
    /// It has to go while others stay.
    going: watch::Sender<bool>,
    /// Its socket isn't closed yet.
    listens: Cell<bool>,
    pipeline: Option<Arc<Pipeline>>,
    source: Arc<Source>,
    /// Bytes that are in batches.
    pos: Cell<u64>,
    /// Bytes that were read and aren't.
    pub(super) unfinished: Cell<u64>,
    tally: Cell<Tally>,
    missed: Cell<Missed>,
}

impl Port {
    pub(super) fn new(shared: &Rc<Shared>, spec: &InputSpec, listen: Listen) -> Port {
        let source = Source {
            input: Arc::clone(&spec.desc),
            path: Arc::from(listen.name.as_str()),
            key: Arc::from(""),
            incarnation: Incarnation(shared.world.random.u128()),
            stat: FileStat::default(),
            render: std::sync::OnceLock::new(),
            more: Default::default(),
        };
        Port {
            shared: Rc::clone(shared),
            listen,
            label: spec.label,
            going: watch::Sender::new(false),
            listens: Cell::new(true),
            pipeline: spec.pipeline.clone(),
            source: Arc::new(source),
            pos: Cell::new(0),
            unfinished: Cell::new(0),
            tally: Cell::default(),
            missed: Cell::default(),
        }
    }

    /// Waits until what has arrived is all that is to be read: the drain begins, or the input has to go.
    pub(super) async fn drain(&self) {
        let mut going = self.going.subscribe();
        tokio::select! {
            () = self.shared.drain() => {}
            // It fails only without a sender, and this is it.
            _ = going.wait_for(|going| *going) => {}
        }
    }

    /// Has it end as at the drain.
    pub(super) fn end(&self) {
        self.going.send_replace(true);
    }

    /// Its socket is closed.
    pub(super) fn closed(&self) {
        self.listens.set(false);
        self.shared.closed.notify_one();
    }

    pub(super) fn is_going(&self) -> bool {
        *self.going.borrow()
    }

    pub(super) fn listens(&self) -> bool {
        self.listens.get()
    }

    /// Puts the messages into a batch, and that into the sink. `data`: the bytes that they lie in. `address`: who sent them.
    pub(super) fn push(&self, data: Vec<u8>, frames: &[Frame], address: Option<&str>) {
        if data.is_empty() && frames.is_empty() {
            return;
        }
        let (from, read_ms) = (self.pos.get(), self.shared.world.clock.wall().0);
        let to = from + data.len() as u64;
        let events = frames.iter().map(|frame| self.event(&data, frame, from, address, read_ms)).collect();
        let mut batch = Batch {
            id: self.shared.numbers.batch(),
            source: Arc::clone(&self.source),
            from,
            to,
            guard: Guard::default(),
            read_ms,
            data,
            events,
            replayed: false,
        };
        let mut tally = self.tally.get();
        tally.bytes += to - from;
        tally.lines += frames.len() as u64;
        tally.events += frames.len() as u64;
        let cut = frames.iter().filter(|f| f.cut).count() as u64;
        self.missed.set(Missed { cut: self.missed.get().cut + cut, ..self.missed.get() });
        if let Some(pipeline) = &self.pipeline {
            let left_out = pipeline.run(&mut batch);
            tally.events -= left_out.all();
            tally.filtered += left_out.filtered;
            tally.limited += left_out.limited;
        }
        self.pos.set(to);
        self.tally.set(tally);
        self.shared.sink.borrow_mut().push(batch);
    }

    fn event(&self, data: &[u8], frame: &Frame, from: u64, address: Option<&str>, read_ms: i64) -> Event {
        let text = data.get(frame.text.clone()).unwrap_or_default();
        let found = self.listen.syslog.as_ref().and_then(|syslog| syslog.parse_input(text, read_ms));
        let Found { mut fields, message, time_ms, .. } =
            found.unwrap_or_else(|| Found { message: 0..text.len(), ..Found::default() });
        if let Some(address) = address {
            fields.insert("log".to_owned(), json!({"source": {"address": address}}));
        }
        let weight = fields.values().map(weight).sum::<usize>();
        let overlay = Overlay { weight: u32::try_from(weight).unwrap_or(u32::MAX), fields, ..Overlay::default() };
        let at = |place: usize| u32::try_from(frame.text.start + place).unwrap_or(u32::MAX);
        Event {
            text: at(message.start)..at(message.end),
            offset: from + frame.whole.start as u64,
            len: u32::try_from(frame.whole.len()).unwrap_or(u32::MAX),
            time_ms: time_ms.unwrap_or(read_ms),
            stream: Stream::None,
            flags: Flags { multiline: false, truncated: frame.cut },
            overlay: (!overlay.fields.is_empty()).then(|| Box::new(overlay)),
        }
    }

    /// A sender was cut off while it was sending.
    pub(super) fn abandon(&self) {
        self.missed.set(Missed { abandoned: self.missed.get().abandoned + 1, ..self.missed.get() });
    }

    /// How many datagrams the kernel has dropped so far. Whether these are more than before.
    pub(super) fn dropped(&self, datagrams: u64) -> bool {
        let before = self.missed.get();
        self.missed.set(Missed { datagrams, ..before });
        datagrams > before.datagrams
    }

    /// What it didn't get whole.
    pub(super) fn missed(&self) -> Missed {
        self.missed.get()
    }

    /// What it has read.
    pub(super) fn account(&self) -> FileAccount {
        let pos = self.pos.get();
        FileAccount {
            path: self.listen.name.clone().into(),
            key: String::new(),
            incarnation: self.source.incarnation,
            pos,
            len: pos + self.unfinished.get(),
            tally: self.tally.get(),
            gone: false,
            denied: false,
        }
    }
}

/// About how many bytes of memory a value holds.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => 64 + text.len(),
        Value::Array(items) => 64 + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => 256 + fields.iter().map(|(key, value)| 64 + key.len() + weight(value)).sum::<usize>(),
        _ => 64,
    }
}
