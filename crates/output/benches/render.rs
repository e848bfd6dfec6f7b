//! What rendering an event costs: `cargo bench -p pillion-output`. Prints nanoseconds for each event of about 200 bytes,
//! of this thread's own processor time.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement needs a clock and says its result")]

use std::sync::{Arc, OnceLock};

use pillion_config::Compat;
use pillion_event::{Batch, BatchId, Event, FileStat, Flags, Guard, Incarnation, InputDesc, InputKind, Source, Stream};
use pillion_output::Agent;
use pillion_output::render::{RenderOptions, Renderer, Target};

const LINES: usize = 2000;
const ROUNDS: usize = 500;

fn main() {
    let clean: Vec<u8> = (0..200_u8).map(|i| b'a' + i % 26).collect();
    let mut quotes = clean.clone();
    quotes.iter_mut().skip(10).step_by(20).for_each(|b| *b = b'"');
    let json = br#"{"a":"b","c":"d"}"#.repeat(12);
    let cyrillic = "строка ".repeat(16).into_bytes();
    for (name, line) in [("clean", &clean), ("10 quotes", &quotes), ("JSON", &json), ("Cyrillic", &cyrillic)] {
        for compat in [Compat::V5, Compat::V8] {
            measure(name, compat, line);
        }
    }
}

fn measure(name: &str, compat: Compat, line: &[u8]) {
    let batch = batch(line);
    let agent = Agent {
        version: "8.19.3".into(),
        name: "host".into(),
        hostname: "host".into(),
        id: "00000000-0000-4000-8000-000000000000".into(),
        ephemeral_id: "00000000-0000-4000-8000-000000000001".into(),
    };
    let renderer = Renderer::new(RenderOptions::new(Target::Logstash, compat), Arc::new(agent));
    let mut out = Vec::new();
    let began = thread_ns();
    for _ in 0..ROUNDS {
        out.clear();
        for event in &batch.events {
            renderer.write(&batch, event, &mut out);
        }
    }
    let ns = (thread_ns() - began) / (ROUNDS * LINES) as u64;
    println!("{name:10} {:4} {ns:5} ns for each event of {} bytes", compat.name(), out.len() / LINES);
}

/// Nanoseconds that this thread has run: other processes on the machine don't count.
fn thread_ns() -> u64 {
    let text = std::fs::read("/proc/thread-self/schedstat").unwrap_or_default();
    String::from_utf8_lossy(&text).split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn batch(line: &[u8]) -> Batch {
    let input = InputDesc::bare(InputKind::Log, "");
    let source = Source {
        input: Arc::new(input),
        path: "/data/orders.log".into(),
        key: "".into(),
        incarnation: Incarnation(1),
        stat: FileStat::default(),
        render: OnceLock::new(),
        more: Default::default(),
    };
    let len = line.len() as u32;
    let event = |i: u32| Event {
        text: i * len..(i + 1) * len,
        offset: u64::from(i * len),
        len,
        time_ms: 1_795_459_223_656,
        stream: Stream::None,
        flags: Flags::default(),
        overlay: None,
    };
    let data = line.repeat(LINES);
    Batch {
        id: BatchId(1),
        source: Arc::new(source),
        from: 0,
        to: data.len() as u64,
        guard: Guard::default(),
        read_ms: 0,
        data,
        events: (0..LINES as u32).map(event).collect(),
        replayed: false,
    }
}
