//! An open gzip file as its decompressed bytes.
//!
//! Comes in: reads at any offset. Goes out: the bytes there. Always holds: reading on, and reading again what was read
//! within the last [`WINDOW`] bytes, costs what it should; reading further back begins at the file's beginning again. Nothing
//! is kept of a file of which only the beginning was read.

use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::{Arc, Mutex};

use flate2::bufread::MultiGzDecoder;
use pillion_world::{File, Meta};

use crate::spec::Compression;
use crate::unzip::{Shared, lock, seen};

/// How many decompressed bytes are kept to be read again: the beginning of an unfinished line.
pub(super) const WINDOW: usize = 64 * 1024;

/// Compressed bytes of one read.
const INPUT: usize = 16 * 1024;

/// The compressed bytes, one after the other.
struct Compressed<F> {
    file: F,
    at: u64,
}

impl<F: std::ops::Deref<Target = dyn File>> Read for Compressed<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Says what is wrong with the compressed bytes; other errors stay as they are.
fn told(e: io::Error) -> io::Error {
    match e.kind() {
        ErrorKind::UnexpectedEof => {
            io::Error::new(ErrorKind::InvalidData, "its gzip stream has no end: it is still written, or was cut off")
        }
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            io::Error::new(ErrorKind::InvalidData, format!("its gzip stream is damaged ({e})"))
        }
        _ => e,
    }
}

/// How many bytes a gzip file holds, decompressed to its end.
///
/// # Errors
/// `InvalidData`: it is damaged or incomplete.
pub(super) fn measure(file: &(dyn File + 'static)) -> io::Result<u64> {
    let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(INPUT, Compressed { file, at: 0 }));
    let (mut len, mut buf) = (0, vec![0; WINDOW]);
    loop {
        match decoder.read(&mut buf).map_err(told)? {
            0 => return Ok(len),
            n => len += n as u64,
        }
    }
}

/// How far a file was decompressed.
struct Progress {
    decoder: MultiGzDecoder<BufReader<Compressed<Arc<dyn File>>>>,
    /// Decompressed bytes so far.
    at: u64,
    /// The last of them.
    window: Vec<u8>,
}

impl Progress {
    fn new(file: &Arc<dyn File>) -> Progress {
        let compressed = Compressed { file: Arc::clone(file), at: 0 };
        Progress {
            decoder: MultiGzDecoder::new(BufReader::with_capacity(INPUT, compressed)),
            at: 0,
            window: Vec::new(),
        }
    }

    /// The first byte that is at hand.
    fn from(&self) -> u64 {
        self.at - self.window.len() as u64
    }

    /// Reads on.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buf).map_err(told)?;
        let new = buf.get(..n).unwrap_or_default();
        let new = new.get(n.saturating_sub(WINDOW)..).unwrap_or_default();
        let surplus = (self.window.len() + new.len()).saturating_sub(WINDOW);
        self.window.drain(..surplus.min(self.window.len()));
        self.window.extend_from_slice(new);
        self.at += n as u64;
        Ok(n)
    }

    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut skipped = vec![0; if offset > self.at { WINDOW } else { 0 }];
        while self.at < offset {
            let want = usize::try_from(offset - self.at).unwrap_or(WINDOW).min(WINDOW);
            if self.read(skipped.get_mut(..want).unwrap_or_default())? == 0 {
                return Ok(0);
            }
        }
        let begin = (offset - self.from()) as usize;
        match self.window.get(begin..).filter(|there| !there.is_empty()) {
            Some(there) => {
                let n = there.len().min(buf.len());
                buf[..n].copy_from_slice(&there[..n]);
                Ok(n)
            }
            None => self.read(buf),
        }
    }
}

/// See the module's header.
pub(super) struct Unzipped {
    file: Arc<dyn File>,
    rule: Compression,
    shared: Arc<Shared>,
    progress: Mutex<Option<Box<Progress>>>,
}

impl Unzipped {
    pub(super) fn new(file: Box<dyn File>, rule: Compression, shared: Arc<Shared>) -> Unzipped {
        Unzipped { file: file.into(), rule, shared, progress: Mutex::default() }
    }
}

fn read_only() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "compressed files are only read")
}

impl File for Unzipped {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut kept = lock(&self.progress);
        let mut progress = match kept.take() {
            Some(progress) if progress.from() <= offset => progress,
            _ => Box::new(Progress::new(&self.file)),
        };
        let n = progress.read_at(buf, offset)?;
        // Begun again it is soon there: a file that waits for its turn costs nothing.
        *kept = Some(progress).filter(|progress| progress.at > WINDOW as u64);
        Ok(n)
    }

    fn write_all(&self, _: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn stat(&self) -> io::Result<Meta> {
        let meta = self.file.stat()?;
        Ok(seen(meta, &self.shared.holds(&*self.file, &meta, self.rule)?))
    }

    fn sync(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn is_sequential(&self) -> bool {
        true
    }
}

/// A file that can't be read as what it is said to be.
pub(super) struct Broken {
    pub(super) file: Box<dyn File>,
    pub(super) why: Arc<str>,
}

impl File for Broken {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::Error::new(ErrorKind::InvalidData, self.why.to_string()))
    }

    fn write_all(&self, _: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn stat(&self) -> io::Result<Meta> {
        self.file.stat()
    }

    fn sync(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }
}
