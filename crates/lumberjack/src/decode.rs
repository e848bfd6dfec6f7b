//! Reading windows: the server's parser.
//!
//! Bytes in pieces in, whole windows out. Always holds: memory grows only with bytes that have come, never by what a
//! frame announces, and stays within [`Limits`]: a compressed frame is inflated no further than the window's limit, and
//! compressed frames are nested no deeper than [`Limits::nesting`]. After an error the stream can't be read on.
//! Tested here, in `tests/roundtrip.rs`, and by the fuzz target `lumberjack_windows`.

use pillion_deflate::{Container, InflateError, Inflater};

use crate::frame::{COMPRESSED, DATA, JSON, ProtocolError, V1, V2, WINDOW};

/// What a server takes from a client at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events in a window.
    pub window_events: u32,
    /// Bytes of one window, decompressed, frame headers included; also the most that one frame may be.
    pub window_bytes: usize,
    /// Bytes of one event.
    pub event_bytes: usize,
    /// Compressed frames within compressed frames: 1 = none within another.
    pub nesting: usize,
}

impl Default for Limits {
    /// 65,536 events, 64 MiB, events of 16 MiB, two compressed frames in each other. Filebeat's defaults are 2,048
    /// events and a line of 10 MiB.
    fn default() -> Limits {
        Limits { window_events: 65_536, window_bytes: 64 << 20, event_bytes: 16 << 20, nesting: 2 }
    }
}

/// The events of one window.
#[derive(Debug, Default)]
pub struct Window {
    version: u8,
    count: u32,
    data: Vec<u8>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    start: usize,
    end: usize,
    seq: u32,
}

impl Window {
    /// How many events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it is an empty window, which some clients send to see whether the server lives.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events' JSON as it was sent; it isn't checked to be JSON. Events of version 1 become an object of strings.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.events.iter().map(|e| self.data.get(e.start..e.end).unwrap_or_default())
    }

    /// The bytes of all events' JSON.
    pub fn bytes(&self) -> u64 {
        self.events.iter().map(|e| (e.end - e.start) as u64).sum()
    }

    /// The sequence that acknowledges the first `n` events; 0 for none.
    pub(crate) fn seq_of(&self, n: usize) -> u32 {
        n.min(self.events.len()).checked_sub(1).and_then(|i| self.events.get(i)).map_or(0, |e| e.seq)
    }

    /// The version byte that its acknowledgements carry.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    fn is_complete(&self) -> bool {
        self.events.len() == self.count as usize
    }
}

/// Reads windows from bytes that come in pieces.
///
/// ```
/// # use pillion_lumberjack::{Decoder, Limits};
/// let mut decoder = Decoder::new(Limits::default());
/// decoder.input().extend_from_slice(b"2W\0\0\0\x012J\0\0\0\x01\0\0\0\x02{}");
/// let window = decoder.next_window().unwrap().unwrap();
/// assert_eq!(window.events().collect::<Vec<_>>(), [b"{}"]);
/// ```
pub struct Decoder {
    limits: Limits,
    input: Vec<u8>,
    /// What of `input` is read.
    at: usize,
    window: Option<Window>,
    inflater: Inflater,
    /// Buffers of a window that was given back.
    spare: Window,
}

/// One frame at the front of some bytes.
enum Frame {
    Window { version: u8, count: u32 },
    Json { seq: u32, start: usize, end: usize },
    Data { seq: u32, pairs: u32, start: usize, end: usize },
    Compressed { start: usize, end: usize },
}

impl Frame {
    fn end(&self) -> usize {
        match self {
            Frame::Window { .. } => 6,
            Frame::Json { end, .. } | Frame::Data { end, .. } | Frame::Compressed { end, .. } => *end,
        }
    }
}

impl Decoder {
    /// A decoder for one connection.
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, input: Vec::new(), at: 0, window: None, inflater: Inflater::new(), spare: Window::default() }
    }

    /// The buffer to which received bytes are appended. Callers append a bounded piece, then ask for windows.
    pub fn input(&mut self) -> &mut Vec<u8> {
        if self.at > 0 && self.at * 2 >= self.input.len() {
            self.input.drain(..self.at);
            self.at = 0;
            self.input.shrink_to(256 * 1024);
        }
        &mut self.input
    }

    /// Whether nothing of a next window has come: the place where a connection may end.
    pub fn is_between_windows(&self) -> bool {
        self.window.is_none() && self.at == self.input.len()
    }

    /// The next window that has come whole; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the client breaks the protocol or a limit.
    pub fn next_window(&mut self) -> Result<Option<Window>, ProtocolError> {
        loop {
            if let Some(window) = self.window.take_if(|w| w.is_complete()) {
                return Ok(Some(window));
            }
            let rest = self.input.get(self.at..).unwrap_or_default();
            let Some(frame) = next_frame(rest, &self.limits)? else { return Ok(None) };
            let from = self.at;
            self.at += frame.end();
            self.take_frame(&frame, from)?;
        }
    }

    /// Gives a window's buffers back to be used again.
    pub fn recycle(&mut self, mut window: Window) {
        window.data.clear();
        window.data.shrink_to(4 << 20);
        window.events.clear();
        window.events.shrink_to(1 << 16);
        self.spare = window;
    }

    /// Takes a frame of the input, which begins at `from`.
    fn take_frame(&mut self, frame: &Frame, from: usize) -> Result<(), ProtocolError> {
        if let Frame::Window { version, count } = *frame {
            return self.begin_window(version, count);
        }
        let Some(window) = &mut self.window else { return Err(ProtocolError::BeyondWindow) };
        let piece = |start: usize, end: usize| self.input.get(from + start..from + end).unwrap_or_default();
        match *frame {
            Frame::Window { .. } => Ok(()),
            Frame::Json { seq, start, end } => window.copy_event(seq, &self.limits, piece(start, end)),
            Frame::Data { seq, pairs, start, end } => {
                window.copy_event(seq, &self.limits, &pairs_as_json(pairs, piece(start, end)))
            }
            Frame::Compressed { start, end } => inflate(window, &mut self.inflater, &self.limits, piece(start, end), 1),
        }
    }

    fn begin_window(&mut self, version: u8, count: u32) -> Result<(), ProtocolError> {
        if let Some(open) = &self.window {
            return Err(ProtocolError::WindowIncomplete { missing: open.count - open.events.len() as u32 });
        }
        if count > self.limits.window_events {
            return Err(ProtocolError::WindowTooLarge { count, max: self.limits.window_events });
        }
        self.window = Some(Window { version, count, ..std::mem::take(&mut self.spare) });
        Ok(())
    }
}

impl Window {
    fn copy_event(&mut self, seq: u32, limits: &Limits, json: &[u8]) -> Result<(), ProtocolError> {
        if json.len() > limits.window_bytes - self.data.len().min(limits.window_bytes) {
            return Err(ProtocolError::WindowBytes { max: limits.window_bytes });
        }
        let start = self.data.len();
        self.data.extend_from_slice(json);
        self.add_event(seq, start, self.data.len())
    }

    fn add_event(&mut self, seq: u32, start: usize, end: usize) -> Result<(), ProtocolError> {
        let last = self.events.last().map_or(0, |e| e.seq);
        if self.is_complete() {
            return Err(ProtocolError::BeyondWindow);
        }
        if seq <= last {
            return Err(ProtocolError::Sequence { seq, last });
        }
        self.events.push(Event { start, end, seq });
        Ok(())
    }
}

/// Inflates a compressed frame behind the window's data and takes the frames in it where they lie.
fn inflate(
    window: &mut Window,
    inflater: &mut Inflater,
    limits: &Limits,
    packed: &[u8],
    depth: usize,
) -> Result<(), ProtocolError> {
    if depth > limits.nesting {
        return Err(ProtocolError::Nesting(limits.nesting));
    }
    let mut at = window.data.len();
    let room = limits.window_bytes.saturating_sub(at);
    inflater.inflate(Container::Zlib, packed, room, &mut window.data).map_err(|e| match e {
        InflateError::TooLarge(_) => ProtocolError::WindowBytes { max: limits.window_bytes },
        e => ProtocolError::Inflate(e),
    })?;
    let end_of_frames = window.data.len();
    while at < end_of_frames {
        let rest = window.data.get(at..end_of_frames).unwrap_or_default();
        let frame = next_frame(rest, limits)?.ok_or(ProtocolError::SplitFrame)?;
        match frame {
            Frame::Window { .. } => return Err(ProtocolError::FrameType(WINDOW)),
            Frame::Json { seq, start, end } => window.add_event(seq, at + start, at + end)?,
            Frame::Data { seq, pairs, start, end } => {
                let json = pairs_as_json(pairs, rest.get(start..end).unwrap_or_default());
                window.copy_event(seq, limits, &json)?;
            }
            Frame::Compressed { start, end } => {
                let inner = rest.get(start..end).unwrap_or_default().to_vec();
                inflate(window, inflater, limits, &inner, depth + 1)?;
            }
        }
        at += frame.end();
    }
    Ok(())
}

/// The frame at the front; `None` when it isn't whole yet. Its limits are checked as soon as its header is there.
fn next_frame(bytes: &[u8], limits: &Limits) -> Result<Option<Frame>, ProtocolError> {
    let Some(&version) = bytes.first() else { return Ok(None) };
    if version != V2 && version != V1 {
        return Err(ProtocolError::Version(version));
    }
    let Some(&kind) = bytes.get(1) else { return Ok(None) };
    match kind {
        WINDOW => Ok(u32_at(bytes, 2).map(|count| Frame::Window { version, count })),
        JSON => {
            let (Some(seq), Some(len)) = (u32_at(bytes, 2), u32_at(bytes, 6)) else { return Ok(None) };
            let end = 10 + within(len, limits.event_bytes)?;
            Ok((bytes.len() >= end).then_some(Frame::Json { seq, start: 10, end }))
        }
        COMPRESSED => {
            let Some(len) = u32_at(bytes, 2) else { return Ok(None) };
            let end = 6 + within(len, limits.window_bytes)?;
            Ok((bytes.len() >= end).then_some(Frame::Compressed { start: 6, end }))
        }
        DATA => {
            let (Some(seq), Some(pairs)) = (u32_at(bytes, 2), u32_at(bytes, 6)) else { return Ok(None) };
            Ok(pairs_end(bytes, pairs, limits)?.map(|end| Frame::Data { seq, pairs, start: 10, end }))
        }
        kind => Err(ProtocolError::FrameType(kind)),
    }
}

/// The most pairs that an event of version 1 may have: a walk over them is repeated while the frame isn't whole.
const MAX_PAIRS: u32 = 4096;

/// Where the pairs of a `D` frame end; `None` when they aren't whole yet.
fn pairs_end(bytes: &[u8], pairs: u32, limits: &Limits) -> Result<Option<usize>, ProtocolError> {
    within(pairs, MAX_PAIRS as usize)?;
    let mut at = 10;
    for _ in 0..pairs * 2 {
        let Some(len) = u32_at(bytes, at) else { return Ok(None) };
        at += 4 + within(len, limits.event_bytes)?;
        if at > limits.event_bytes {
            return Err(ProtocolError::FrameTooLarge { len: at as u64, max: limits.event_bytes });
        }
    }
    Ok((bytes.len() >= at).then_some(at))
}

fn within(len: u32, max: usize) -> Result<usize, ProtocolError> {
    if len as usize > max {
        return Err(ProtocolError::FrameTooLarge { len: u64::from(len), max });
    }
    Ok(len as usize)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b))
}

/// The pairs of a `D` frame as a JSON object of strings; bytes that aren't UTF-8 are replaced.
fn pairs_as_json(pairs: u32, bytes: &[u8]) -> Vec<u8> {
    let mut json = vec![b'{'];
    let mut at = 0;
    for i in 0..pairs * 2 {
        let len = u32_at(bytes, at).unwrap_or(0) as usize;
        let text = bytes.get(at + 4..at + 4 + len).unwrap_or_default();
        at += 4 + len;
        if i > 0 {
            json.push(if i % 2 == 0 { b',' } else { b':' });
        }
        push_string(&mut json, &String::from_utf8_lossy(text));
    }
    json.push(b'}');
    json
}

fn push_string(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            0..0x20 => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => json.push(byte),
        }
    }
    json.push(b'"');
}

/// For fuzzing: reads a stream in pieces under small limits, and checks what always holds.
#[doc(hidden)]
pub fn fuzz_windows(data: &[u8]) {
    let limits = Limits { window_events: 64, window_bytes: 64 * 1024, event_bytes: 4096, nesting: 2 };
    let (step, data) = data.split_first().map_or((1, data), |(n, rest)| (usize::from(*n) + 1, rest));
    let mut decoder = Decoder::new(limits.clone());
    for piece in data.chunks(step) {
        decoder.input().extend_from_slice(piece);
        loop {
            match decoder.next_window() {
                Ok(Some(window)) => {
                    assert!(window.len() <= limits.window_events as usize);
                    assert!(window.data.len() <= limits.window_bytes);
                    assert_eq!(window.events().map(|e| e.len() as u64).sum::<u64>(), window.bytes());
                    decoder.recycle(window);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(decoder.input.len() - decoder.at <= limits.window_bytes + 6 + step);
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
