//! Making zlib and gzip streams.

use flate2::{Compress, Compression, FlushCompress, Status};

/// What stands around the compressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// RFC 1950: two bytes before, an Adler-32 behind.
    Zlib,
    /// RFC 1952: ten bytes before, a CRC-32 and the length behind.
    Gzip,
}

/// How hard to compress: 1 (fast) to 9 (small), as the configuration's `compression_level`.
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

/// Makes one stream after another.
pub struct Compressor {
    container: Container,
    raw: Compress,
    crc: crc32fast::Hasher,
    len: u32,
}

impl Compressor {
    /// A compressor for streams of one kind.
    pub fn new(container: Container, level: Level) -> Compressor {
        let level = Compression::new(u32::from(level.get()));
        Compressor {
            container,
            raw: Compress::new(level, container == Container::Zlib),
            crc: crc32fast::Hasher::new(),
            len: 0,
        }
    }

    /// Begins a stream: appends its header to `out`. An unfinished stream is forgotten.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.raw.reset();
        self.crc.reset();
        self.len = 0;
        if self.container == Container::Gzip {
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        }
    }

    /// Compresses a piece of any length. What is ready is appended to `out`.
    pub fn write(&mut self, input: &[u8], out: &mut Vec<u8>) {
        if self.container == Container::Gzip {
            self.crc.update(input);
            self.len = self.len.wrapping_add(input.len() as u32);
        }
        self.run(input, FlushCompress::None, out);
    }

    /// Ends the stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.run(&[], FlushCompress::Finish, out);
        if self.container == Container::Gzip {
            out.extend_from_slice(&self.crc.clone().finalize().to_le_bytes());
            out.extend_from_slice(&self.len.to_le_bytes());
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
            out.reserve(32 * 1024);
            let before = self.raw.total_in();
            let Ok(status) = self.raw.compress_vec(input, out, flush) else { return };
            input = input.get((self.raw.total_in() - before) as usize..).unwrap_or_default();
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => input.is_empty() && out.len() < out.capacity(),
            };
            if done {
                return;
            }
        }
    }
}
