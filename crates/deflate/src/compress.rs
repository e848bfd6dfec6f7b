//! Making zlib and gzip streams.

use flate2::{Compress, Compression, FlushCompress, Status};
use zlib_rs::adler32::adler32;

/// What stands around the compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// RFC 1950: two bytes before, an Adler-32 behind.
    Zlib,
    /// RFC 1952: ten bytes before, a CRC-32 and the length behind.
    Gzip,
}

/// How hard to compress: 1 (fast) to 9 (small), as the configuration's `compression_level`.
///
/// They are zlib's levels, except that 3 is done as 2: on what shippers send that takes a quarter less time for 3 % more bytes. See
/// `docs/decisions/compression.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(u8);

impl Level {
    /// The level, when it is one of 1 to 9. 0 isn't a level: then nothing is compressed.
    pub fn new(level: u8) -> Option<Level> {
        (1..=9).contains(&level).then_some(Level(level))
    }

    /// The number.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// How much compressed data is made at once.
const STEP: usize = 32 * 1024;

/// Makes one stream after another. Its memory is fixed, about 400 KB.
pub struct Compressor {
    container: Container,
    blocks: Compress,
    step: Vec<u8>,
    adler: u32,
    crc: crc32fast::Hasher,
    len: u32,
}

impl Compressor {
    /// A compressor for streams of one kind.
    pub fn new(container: Container, level: Level) -> Compressor {
        let level = if level.get() == 3 { 2 } else { u32::from(level.get()) };
        Compressor {
            container,
            blocks: Compress::new(Compression::new(level), false),
            step: vec![0; STEP],
            adler: 1,
            crc: crc32fast::Hasher::new(),
            len: 0,
        }
    }

    /// Begins a stream: appends its header to `out`. An unfinished stream is forgotten.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.adler = 1;
        self.crc.reset();
        self.len = 0;
        self.blocks.reset();
        match self.container {
            Container::Zlib => out.extend_from_slice(&[0x78, 0x01]),
            Container::Gzip => out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]),
        }
    }

    /// Compresses a piece of any length. What is ready is appended to `out`.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        match self.container {
            Container::Zlib => self.adler = adler32(self.adler, input),
            Container::Gzip => {
                self.crc.update(input);
                self.len = self.len.wrapping_add(input.len() as u32);
            }
        }
        self.run(input, FlushCompress::None, out);
    }

    /// Ends the stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.run(&[], FlushCompress::Finish, out);
        match self.container {
            Container::Zlib => out.extend_from_slice(&self.adler.to_be_bytes()),
            Container::Gzip => {
                out.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
                out.extend_from_slice(&self.len.to_le_bytes());
            }
        }
    }

    /// A whole stream at once.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        self.write(input, out);
        self.finish(out);
    }

    fn run(&mut self, mut input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) {
        loop {
            let before = (self.blocks.total_in(), self.blocks.total_out());
            // It fails only after the end of a stream, where `begin` has reset it.
            let Ok(status) = self.blocks.compress(input, &mut self.step, flush) else { return };
            input = input.get((self.blocks.total_in() - before.0) as usize..).unwrap_or_default();
            let made = (self.blocks.total_out() - before.1) as usize;
            out.extend_from_slice(self.step.get(..made).unwrap_or_default());
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty() && made < STEP,
            };
            if done {
                return;
            }
        }
    }
}

/// For fuzzing: what is compressed in pieces is read again.
#[doc(hidden)]
pub fn fuzz_roundtrip(data: &[u8]) {
    let (piece, data) = data.split_first().map_or((1, data), |(n, rest)| (usize::from(*n) * 16 + 1, rest));
    // Long streams come from short seeds: each round is the last one and its middle again.
    let mut long = data.to_vec();
    for _ in 0..6 {
        long.extend_from_within(long.len() / 3..long.len() * 2 / 3);
    }
    for (container, level) in [(Container::Zlib, Level(3)), (Container::Gzip, Level(1)), (Container::Gzip, Level(6))] {
        let (mut packed, mut read) = (Vec::new(), Vec::new());
        let mut compressor = Compressor::new(container, level);
        compressor.compress(data, &mut packed);
        packed.clear();
        compressor.begin(&mut packed);
        long.chunks(piece).for_each(|p| compressor.write(p, &mut packed));
        compressor.finish(&mut packed);
        assert_eq!(crate::Inflater::new().inflate(container, &packed, long.len(), &mut read), Ok(()));
        assert!(read == long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_and_container() {
        for level in 0..=10 {
            assert_eq!(Level::new(level).is_some(), (1..=9).contains(&level));
        }
        for seed in [&b""[..], b"a", b"\xffabcabcabcdefghijklmnop", &[7; 5000]] {
            fuzz_roundtrip(seed);
        }
    }
}
