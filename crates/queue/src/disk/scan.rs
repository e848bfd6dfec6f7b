//! Reading a segment: from one record to the next, over whatever is damaged between them.
//!
//! Comes in: a segment's file, and how many of its bytes count. Goes out: heads that are whole, in the order in which they
//! lie, and bodies whose checksum is right. Always holds: what is damaged is passed over up to the next head that says of
//! itself that it is one of this segment; a file that can't be read is an error and never taken for a damaged one. Tested in
//! `tests.rs`.

use std::io;

use pillion_world::File;

use super::format::{HEAD, HEAD_MAGIC, HEADER, Head};

/// How much is read at once where a head is searched for.
const WINDOW: usize = 64 << 10;

/// A walk over the records of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// The segment's number.
    pub number: u64,
    /// How many of its bytes count.
    pub len: u64,
    /// Where the next record is expected.
    pub at: u64,
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub head: Head,
    /// Where its body begins.
    pub body: u64,
}

impl Walk {
    /// From the first record of a segment on.
    pub(super) fn new(number: u64, len: u64) -> Walk {
        Walk { number, len, at: HEADER as u64 }
    }

    /// The next record whose head is whole and whose body lies within the segment. `None`: there is none.
    pub(super) fn next(&mut self, file: &dyn File) -> io::Result<Option<Found>> {
        if let Some(found) = self.here(file, self.at)? {
            return Ok(Some(self.passed(found)));
        }
        // The rest is damaged or torn: the next head is wherever one is.
        let mut from = self.at.saturating_add(1);
        let mut window = vec![0; WINDOW];
        while from + HEAD as u64 <= self.len {
            let wanted = window.len().min((self.len - from) as usize);
            let n = read_at(file, window.get_mut(..wanted).unwrap_or_default(), from)?;
            let seen = window.get(..n).unwrap_or_default();
            for at in candidates(seen) {
                if let Some(found) = self.here(file, from + at as u64)? {
                    return Ok(Some(self.passed(found)));
                }
            }
            if n < HEAD {
                break;
            }
            // A head may begin in the last bytes of the window.
            from += (n - (HEAD_MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }

    fn passed(&mut self, found: Found) -> Found {
        self.at = found.body + u64::from(found.head.body_len);
        found
    }

    fn here(&self, file: &dyn File, at: u64) -> io::Result<Option<Found>> {
        if at.saturating_add(HEAD as u64) > self.len {
            return Ok(None);
        }
        let mut bytes = [0; HEAD];
        if read_at(file, &mut bytes, at)? < HEAD {
            return Ok(None);
        }
        let body = at + HEAD as u64;
        let within = |head: &Head| u64::from(head.body_len) <= self.len - body;
        Ok(Head::parse(&bytes, self.number).filter(within).map(|head| Found { head, body }))
    }
}

/// Where in these bytes a head may begin.
fn candidates(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.windows(HEAD_MAGIC.len()).enumerate().filter(|(_, w)| w == HEAD_MAGIC).map(|(at, _)| at)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn read_at(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// The body of a record; `None` = its checksum is wrong.
pub(super) fn body(file: &dyn File, found: &Found) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; found.head.body_len as usize];
    let n = read_at(file, &mut bytes, found.body)?;
    Ok((n == bytes.len() && crc32fast::hash(&bytes) == found.head.body_crc).then_some(bytes))
}
