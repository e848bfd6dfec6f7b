//! Reading zlib and gzip streams, with a limit.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use zlib_rs::adler32::adler32;

use crate::Container;

/// Why a stream can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It isn't what it should be: header, contents or checksum.
    Corrupt,
    /// It holds more than this many bytes.
    TooLarge(usize),
    /// It ended too early.
    Truncated,
    /// Bytes follow its end.
    Trailing,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InflateError::Corrupt => f.write_str("the compressed data is corrupt"),
            InflateError::TooLarge(max) => write!(f, "the data is more than {max} bytes when decompressed"),
            InflateError::Truncated => f.write_str("the compressed data ends too early"),
            InflateError::Trailing => f.write_str("bytes follow the end of the compressed data"),
        }
    }
}

impl std::error::Error for InflateError {}

/// Reads one stream after another.
pub struct Inflater {
    raw: Decompress,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater::new()
    }
}

impl Inflater {
    /// A reader for streams of both containers.
    pub fn new() -> Inflater {
        Inflater { raw: Decompress::new(false) }
    }

    /// Inflates a whole stream and appends its bytes to `out`, at most `max` of them.
    ///
    /// # Errors
    /// See [`InflateError`]; `out` then holds what was read so far.
    pub fn inflate(
        &mut self,
        container: Container,
        input: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let body = match container {
            Container::Zlib => zlib_header(input)?,
            Container::Gzip => gzip_header(input)?,
        };
        let start = out.len();
        let used = self.raw_stream(body, max, out)?;
        let made = out.get(start..).unwrap_or_default();
        let tail = body.get(used..).unwrap_or_default();
        match container {
            Container::Zlib => {
                let sum = tail.first_chunk::<4>().ok_or(InflateError::Truncated)?;
                check(u32::from_be_bytes(*sum) == adler32(1, made))?;
                none_left(tail, 4)
            }
            Container::Gzip => {
                let sum = tail.first_chunk::<4>().ok_or(InflateError::Truncated)?;
                let len = tail.get(4..).and_then(|t| t.first_chunk::<4>()).ok_or(InflateError::Truncated)?;
                check(u32::from_le_bytes(*sum) == crc32fast::hash(made))?;
                check(u32::from_le_bytes(*len) == made.len() as u32)?;
                none_left(tail, 8)
            }
        }
    }

    /// Inflates the bare blocks; returns how many bytes of `body` they take.
    fn raw_stream(&mut self, body: &[u8], max: usize, out: &mut Vec<u8>) -> Result<usize, InflateError> {
        self.raw.reset(false);
        let start = out.len();
        loop {
            let made = out.len() - start;
            // One byte beyond the limit is room enough to see that there is more.
            let room = (max - made).saturating_add(1).min(made.clamp(16 * 1024, 1024 * 1024));
            if out.capacity() - out.len() < room {
                out.reserve(room);
            }
            let rest = body.get(self.raw.total_in() as usize..).unwrap_or_default();
            let before = (self.raw.total_in(), out.len());
            let status =
                self.raw.decompress_vec(rest, out, FlushDecompress::None).map_err(|_| InflateError::Corrupt)?;
            if out.len() - start > max {
                return Err(InflateError::TooLarge(max));
            }
            if status == Status::StreamEnd {
                return Ok(self.raw.total_in() as usize);
            }
            if (self.raw.total_in(), out.len()) == before {
                return Err(InflateError::Truncated);
            }
        }
    }
}

fn check(holds: bool) -> Result<(), InflateError> {
    if holds { Ok(()) } else { Err(InflateError::Corrupt) }
}

fn none_left(tail: &[u8], used: usize) -> Result<(), InflateError> {
    if tail.len() == used { Ok(()) } else { Err(InflateError::Trailing) }
}

/// RFC 1950, 2.2: method 8, no dictionary, a check of both bytes.
fn zlib_header(input: &[u8]) -> Result<&[u8], InflateError> {
    let ([cmf, flg], rest) = input.split_first_chunk::<2>().ok_or(InflateError::Truncated)?;
    check(cmf & 15 == 8 && flg & 32 == 0 && (u16::from(*cmf) * 256 + u16::from(*flg)) % 31 == 0)?;
    Ok(rest)
}

/// RFC 1952, 2.3: the optional parts are skipped.
fn gzip_header(input: &[u8]) -> Result<&[u8], InflateError> {
    let (head, mut rest) = input.split_first_chunk::<10>().ok_or(InflateError::Truncated)?;
    check(head[0] == 0x1f && head[1] == 0x8b && head[2] == 8 && head[3] & 0xe0 == 0)?;
    let flags = head[3];
    if flags & 4 != 0 {
        let (len, after) = rest.split_first_chunk::<2>().ok_or(InflateError::Truncated)?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..).ok_or(InflateError::Truncated)?;
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|b| *b == 0).ok_or(InflateError::Truncated)?;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..).ok_or(InflateError::Truncated)?;
    }
    Ok(rest)
}

/// For fuzzing: reads a stream of any kind under a small limit.
#[doc(hidden)]
pub fn fuzz_inflate(data: &[u8]) {
    for container in [Container::Zlib, Container::Gzip] {
        let mut out = Vec::new();
        let _ = Inflater::new().inflate(container, data, 10_000, &mut out);
        assert!(out.len() <= 10_001 && out.capacity() <= 64 * 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compressor, Level};

    fn packed(container: Container, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Compressor::new(container, Level::new(1).unwrap()).compress(data, &mut out);
        out
    }

    fn read(container: Container, data: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
        let mut out = Vec::new();
        fuzz_inflate(data);
        Inflater::new().inflate(container, data, max, &mut out).map(|()| out)
    }

    #[test]
    fn streams_that_are_refused() {
        for container in [Container::Zlib, Container::Gzip] {
            let good = packed(container, b"hello hello hello");
            assert_eq!(read(container, &good, 17).unwrap(), b"hello hello hello");
            assert_eq!(read(container, &good, 16), Err(InflateError::TooLarge(16)));
            for cut in 0..good.len() {
                assert_eq!(read(container, &good[..cut], 100), Err(InflateError::Truncated), "{cut}");
            }
            assert_eq!(read(container, &[&good[..], b"x"].concat(), 100), Err(InflateError::Trailing));
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert_eq!(read(container, &bad, 100), Err(InflateError::Corrupt));
            let other = if container == Container::Zlib { Container::Gzip } else { Container::Zlib };
            assert_eq!(read(other, &good, 100), Err(InflateError::Corrupt));
            assert_eq!(
                read(container, &packed(container, &vec![0; 1 << 24]), 1 << 20),
                Err(InflateError::TooLarge(1 << 20))
            );
        }
    }

    #[test]
    fn the_optional_parts_of_a_gzip_header() {
        let plain = packed(Container::Gzip, b"x");
        let head = [0x1f, 0x8b, 8, 4 | 8 | 16 | 2, 0, 0, 0, 0, 0, 3];
        let parts = b"\x02\x00ab name\0comment\0cc";
        let full = [&head[..], parts, &plain[10..]].concat();
        assert_eq!(read(Container::Gzip, &full, 10).unwrap(), b"x");
        for cut in 0..full.len() {
            assert!(read(Container::Gzip, &full[..cut], 10).is_err());
        }
    }
}
