//! Making a window: events in, the bytes of one window out.
//!
//! The caller renders each event's JSON straight into the window's buffer: no copy. Always holds: sequences are 1 to n;
//! between windows nothing is allocated unless the buffers have to grow, and a buffer grown beyond what is usual is
//! given back.
//! Tested here, and against the decoder in `tests/roundtrip.rs`.

use pillion_deflate::{Compressor, Container, Level};

use crate::frame::{COMPRESSED, JSON, JSON_HEADER, SHORT_FRAME, V2, WINDOW, short};

/// Rendered bytes beyond which they are handed to the compressor: they stay in the processor's cache, and a window
/// costs little more memory than its compressed form.
const COMPRESS_AT: usize = 64 * 1024;
/// The most that an emptied buffer keeps.
const KEEP: usize = 1024 * 1024;

/// Writes one window after another into reused buffers.
///
/// ```
/// let mut window = pillion_lumberjack::WindowWriter::new(None);
/// window.begin_event().extend_from_slice(br#"{"message":"hello"}"#);
/// window.end_event();
/// assert_eq!(window.finish().len(), 6 + 10 + 19);
/// ```
pub struct WindowWriter {
    /// Frames that aren't in `out` yet.
    raw: Vec<u8>,
    /// Where the frame of the event that is being written begins in `raw`.
    open: Option<usize>,
    count: u32,
    bytes: u64,
    compressor: Option<Compressor>,
    /// The window as it is sent.
    out: Vec<u8>,
    finished: bool,
}

impl WindowWriter {
    /// A writer; without a level nothing is compressed (`compression_level: 0`).
    pub fn new(level: Option<Level>) -> WindowWriter {
        let mut writer = WindowWriter {
            raw: Vec::new(),
            open: None,
            count: 0,
            bytes: 0,
            compressor: level.map(|l| Compressor::new(Container::Zlib, l)),
            out: Vec::new(),
            finished: false,
        };
        writer.clear();
        writer
    }

    /// Begins a new window; what was in the old one is forgotten.
    pub fn clear(&mut self) {
        for buffer in [&mut self.raw, &mut self.out] {
            buffer.clear();
            buffer.shrink_to(KEEP);
        }
        self.open = None;
        self.count = 0;
        self.bytes = 0;
        self.finished = false;
        self.out.extend_from_slice(&short(V2, WINDOW, 0));
        if let Some(compressor) = &mut self.compressor {
            self.out.extend_from_slice(&short(V2, COMPRESSED, 0));
            compressor.begin(&mut self.out);
        }
    }

    /// The buffer to which the caller appends the JSON of the next event, and nothing else; what is in it before must
    /// stay. An event that was begun and not ended is forgotten, and so is a finished window.
    pub fn begin_event(&mut self) -> &mut Vec<u8> {
        if self.finished {
            self.clear();
        }
        self.abort_event();
        let buffer = if self.compressor.is_some() { &mut self.raw } else { &mut self.out };
        self.open = Some(buffer.len());
        buffer.extend_from_slice(&[V2, JSON, 0, 0, 0, 0, 0, 0, 0, 0]);
        buffer
    }

    /// Ends the event that was begun. Returns the bytes of its JSON. An event of 4 GiB or more, which has no form in
    /// the protocol, or one that wasn't begun, is left out, and 0 is returned.
    pub fn end_event(&mut self) -> usize {
        let Some(at) = self.open.take() else { return 0 };
        let buffer = if self.compressor.is_some() { &mut self.raw } else { &mut self.out };
        let len = buffer.len().saturating_sub(at + JSON_HEADER);
        let (Ok(len32), Some(seq)) = (u32::try_from(len), self.count.checked_add(1)) else {
            buffer.truncate(at);
            return 0;
        };
        if let Some(header) = buffer.get_mut(at..at + JSON_HEADER) {
            header[2..6].copy_from_slice(&seq.to_be_bytes());
            header[6..].copy_from_slice(&len32.to_be_bytes());
        }
        self.count = seq;
        self.bytes += (len + JSON_HEADER) as u64;
        if self.raw.len() >= COMPRESS_AT {
            self.compress();
        }
        len
    }

    /// Forgets the event that was begun and not ended.
    pub fn abort_event(&mut self) {
        if let Some(at) = self.open.take() {
            if self.compressor.is_some() { &mut self.raw } else { &mut self.out }.truncate(at);
        }
    }

    /// Appends an event whose JSON is at hand.
    pub fn push(&mut self, json: &[u8]) {
        self.begin_event().extend_from_slice(json);
        self.end_event();
    }

    /// The events in the window.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is no event in the window.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of the window's data frames before compression.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the window and returns its bytes; again and again the same ones until [`clear`](Self::clear) or
    /// [`begin_event`](Self::begin_event) begins the next one. A window whose compressed form would be 4 GiB or more
    /// can't be made: callers keep windows far below.
    pub fn finish(&mut self) -> &[u8] {
        if !self.finished {
            self.abort_event();
            self.finished = true;
            self.patch(2, self.count);
            if self.count == 0 {
                self.out.truncate(SHORT_FRAME);
            } else if self.compressor.is_some() {
                self.compress();
                if let Some(compressor) = &mut self.compressor {
                    compressor.finish(&mut self.out);
                }
                let len = self.out.len() - 2 * SHORT_FRAME;
                self.patch(SHORT_FRAME + 2, len as u32);
            }
        }
        &self.out
    }

    fn compress(&mut self) {
        if let Some(compressor) = &mut self.compressor {
            compressor.write(&self.raw, &mut self.out);
            self.raw.clear();
        }
    }

    fn patch(&mut self, at: usize, value: u32) {
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_window_byte_for_byte() {
        let mut w = WindowWriter::new(None);
        w.push(b"{}");
        w.begin_event().extend_from_slice(b"{\"half");
        w.abort_event();
        w.push(b"{\"a\":1}");
        assert_eq!((w.count(), w.bytes()), (2, 29));
        let want = b"2W\0\0\0\x022J\0\0\0\x01\0\0\0\x02{}2J\0\0\0\x02\0\0\0\x07{\"a\":1}";
        assert_eq!(w.finish(), want);
        assert_eq!(w.finish(), want, "finishing twice changes nothing");
        w.push(b"{}");
        assert_eq!(w.finish(), b"2W\0\0\0\x012J\0\0\0\x01\0\0\0\x02{}", "the next window begins by itself");
    }

    #[test]
    fn an_empty_window_is_its_size_alone() {
        for level in [None, Level::new(3)] {
            let mut w = WindowWriter::new(level);
            w.begin_event().push(b'{');
            assert_eq!(w.finish(), b"2W\0\0\0\0");
            assert!(w.is_empty());
        }
    }

    #[test]
    fn a_compressed_window_holds_the_plain_one() {
        let (mut plain, mut packed) = (WindowWriter::new(None), WindowWriter::new(Level::new(3)));
        for round in 0..3 {
            plain.clear();
            packed.clear();
            for i in 0..2000 {
                let event = format!("{{\"round\":{round},\"i\":{i},\"message\":\"{}\"}}", "x".repeat(i % 300));
                plain.push(event.as_bytes());
                packed.push(event.as_bytes());
            }
            let (plain, packed) = (plain.finish(), packed.finish());
            assert_eq!(packed[..8], [&plain[..6], b"2C"].concat());
            assert_eq!(u32::from_be_bytes(packed[8..12].try_into().unwrap()) as usize, packed.len() - 12);
            let mut out = Vec::new();
            pillion_deflate::Inflater::new().inflate(Container::Zlib, &packed[12..], 1 << 24, &mut out).unwrap();
            assert!(out == plain[6..]);
        }
    }

    #[test]
    fn a_grown_buffer_is_given_back() {
        let mut w = WindowWriter::new(None);
        w.push(&vec![b' '; 8 * KEEP]);
        w.finish();
        w.clear();
        assert!(w.out.capacity() <= 2 * KEEP);
    }
}
