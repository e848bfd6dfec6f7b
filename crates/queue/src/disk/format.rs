//! The frame of what the disk queue writes: segments, records, the cursor.
//!
//! ```text
//! segment   <number, 10 digits>-<first seq, 20 digits>.segment
//!   "PILLIONQ"  version u32  number u64  first seq u64  first event u64  CRC u32
//!   record*
//! record    head (74 bytes, [`Head`]), then the body (see `body.rs`)
//! cursor    "PILLIONC"  version u32  acknowledged: seq u64, events u64  stored: seq u64, events u64  CRC u32
//! ```
//! Numbers are little-endian. A record's head has a checksum of its own, which covers the segment's number too, so that a
//! head is found again behind damaged bytes and never taken for that of another file; its body has another one.
//!
//! Comes in: bytes of a file, which may be any. Goes out: what they say, or that they say nothing. Always holds: nothing
//! here fails, and nothing is believed whose checksum is wrong. Tested below and by `tests.rs`.

use pillion_event::Guard;

/// The version of this format; a folder of another one is refused.
pub(super) const VERSION: u32 = 1;
/// How many bytes a segment's own header takes.
pub(super) const HEADER: usize = 40;
/// How many bytes a record's head takes.
pub(super) const HEAD: usize = 74;
/// How many bytes the cursor's file has.
pub(super) const CURSOR: usize = 48;

const SEGMENT_MAGIC: &[u8; 8] = b"PILLIONQ";
const CURSOR_MAGIC: &[u8; 8] = b"PILLIONC";
/// What a head begins with: rare in text, so that a search passes over it fast.
pub(super) const HEAD_MAGIC: &[u8; 4] = b"\x9ePq1";

/// A place in the queue: how many batches and events were stored before it, since the folder was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub seq: u64,
    pub events: u64,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The description of a source, for the batches behind it in the same segment.
    Source,
    /// A batch.
    Batch,
}

/// The head of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    pub body_len: u32,
    /// The batch's number; of a source, that of the batch behind it.
    pub seq: u64,
    /// How many batches of the same write lie before it.
    pub back: u32,
    /// How many batches were written at once with it: all of them are synced, or none was acknowledged to a reader.
    pub group: u32,
    /// How many events were stored before it.
    pub events_before: u64,
    pub events: u32,
    /// The source's number in the segment; 0 begins anew.
    pub source: u32,
    pub from: u64,
    pub to: u64,
    pub guard: Guard,
    pub body_crc: u32,
}

impl Head {
    /// The number of the first batch of its write.
    pub(super) fn group_first(&self) -> u64 {
        self.seq.saturating_sub(u64::from(self.back))
    }

    pub(super) fn encode(&self, number: u64, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(HEAD_MAGIC);
        out.push(match self.kind {
            Kind::Source => 1,
            Kind::Batch => 2,
        });
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.back.to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.events_before.to_le_bytes());
        out.extend_from_slice(&self.events.to_le_bytes());
        out.extend_from_slice(&self.source.to_le_bytes());
        out.extend_from_slice(&self.from.to_le_bytes());
        out.extend_from_slice(&self.to.to_le_bytes());
        out.extend_from_slice(&self.guard.hash.to_le_bytes());
        out.push(self.guard.len);
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        let crc = head_crc(out.get(from..).unwrap_or_default(), number);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The head at the beginning of these bytes, if there is one.
    pub(super) fn parse(bytes: &[u8], number: u64) -> Option<Head> {
        let (said, crc) = bytes.get(..HEAD)?.split_last_chunk::<4>()?;
        if !said.starts_with(HEAD_MAGIC) || u32::from_le_bytes(*crc) != head_crc(said, number) {
            return None;
        }
        let mut fields = Fields(said.get(HEAD_MAGIC.len()..)?);
        let kind = match fields.u8()? {
            1 => Kind::Source,
            2 => Kind::Batch,
            _ => return None,
        };
        Some(Head {
            kind,
            body_len: fields.u32()?,
            seq: fields.u64()?,
            back: fields.u32()?,
            group: fields.u32()?,
            events_before: fields.u64()?,
            events: fields.u32()?,
            source: fields.u32()?,
            from: fields.u64()?,
            to: fields.u64()?,
            guard: Guard { hash: fields.u64()?, len: fields.u8()? },
            body_crc: fields.u32()?,
        })
    }
}

fn head_crc(said: &[u8], number: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(said);
    crc.update(&number.to_le_bytes());
    crc.finalize()
}

/// The bytes that a segment begins with.
pub(super) fn segment_header(number: u64, first: Point) -> Vec<u8> {
    let mut out = SEGMENT_MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    for field in [number, first.seq, first.events] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    seal(out)
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Where it begins.
    Ours(Point),
    /// It is of another version.
    Version(u32),
    /// Nothing: it is torn or damaged.
    Damaged,
}

pub(super) fn parse_header(bytes: &[u8], number: u64) -> Header {
    let parsed = (|| {
        let mut fields = unseal(bytes.get(..HEADER)?, SEGMENT_MAGIC)?;
        let version = fields.u32()?;
        if version != VERSION {
            return Some(Header::Version(version));
        }
        let same = fields.u64()? == number;
        let first = Point { seq: fields.u64()?, events: fields.u64()? };
        same.then_some(Header::Ours(first))
    })();
    parsed.unwrap_or(Header::Damaged)
}

/// How far the queue is delivered, and how far it was surely written then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Everything before it is acknowledged by the target.
    pub acked: Point,
    /// Everything before it was synced.
    pub stored: Point,
}

impl Cursor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = CURSOR_MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        for point in [self.acked, self.stored] {
            out.extend_from_slice(&point.seq.to_le_bytes());
            out.extend_from_slice(&point.events.to_le_bytes());
        }
        seal(out)
    }

    /// `Err`: of another version. `Ok(None)`: damaged.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Cursor>, u32> {
        let Some(mut fields) = unseal(bytes, CURSOR_MAGIC) else { return Ok(None) };
        match fields.u32() {
            Some(VERSION) => {}
            Some(other) => return Err(other),
            None => return Ok(None),
        }
        Ok((|| {
            let acked = Point { seq: fields.u64()?, events: fields.u64()? };
            let stored = Point { seq: fields.u64()?, events: fields.u64()? };
            (bytes.len() == CURSOR && acked <= stored).then_some(Cursor { acked, stored })
        })())
    }
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn unseal<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Option<Fields<'a>> {
    let (said, crc) = bytes.split_last_chunk::<4>()?;
    let good = said.starts_with(magic) && u32::from_le_bytes(*crc) == crc32fast::hash(said);
    good.then_some(Fields(said.get(magic.len()..)?))
}

/// Fields of fixed widths, from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[b]| b)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// The name of a segment's file.
pub(super) fn segment_name(number: u64, first_seq: u64) -> String {
    format!("{number:010}-{first_seq:020}.segment")
}

/// Number and first batch of the segment with this name; `None` = it is none.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (number, first) = name.strip_suffix(".segment")?.split_once('-')?;
    let (number, first) = (number.parse().ok()?, first.parse().ok()?);
    (segment_name(number, first) == name).then_some((number, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            kind: Kind::Batch,
            body_len: 3,
            seq: 9,
            back: 2,
            group: 5,
            events_before: 70,
            events: 4,
            source: 1,
            from: 10,
            to: 50,
            guard: Guard::of(b"guarded"),
            body_crc: 11,
        }
    }

    /// Damaged at any byte, or cut off there.
    fn all_refused(bytes: &[u8], refused: impl Fn(&[u8]) -> bool) {
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x40;
            assert!(refused(&damaged) && refused(&bytes[..at]), "byte {at}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut bytes = Vec::new();
        head().encode(3, &mut bytes);
        assert_eq!((bytes.len(), head().group_first()), (HEAD, 7));
        assert_eq!(Head::parse(&bytes, 3), Some(head()));
        assert_eq!(Head::parse(&bytes, 4), None, "of another segment");
        let first = Point { seq: 9, events: 70 };
        let header = segment_header(3, first);
        assert_eq!((header.len(), parse_header(&header, 3)), (HEADER, Header::Ours(first)));
        let cursor = Cursor { acked: Point { seq: 1, events: 2 }, stored: first };
        assert_eq!((cursor.encode().len(), Cursor::parse(&cursor.encode())), (CURSOR, Ok(Some(cursor))));
        all_refused(&bytes, |b| Head::parse(b, 3).is_none());
        all_refused(&header, |b| parse_header(b, 3) == Header::Damaged);
        all_refused(&cursor.encode(), |b| Cursor::parse(b) == Ok(None));
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut header = segment_header(3, Point::default());
        header.truncate(HEADER - 4);
        header[8] = 9;
        assert_eq!(parse_header(&seal(header), 3), Header::Version(9));
        let mut cursor = Cursor::default().encode();
        cursor.truncate(CURSOR - 4);
        cursor[8] = 9;
        assert_eq!(Cursor::parse(&seal(cursor)), Err(9));
    }

    #[test]
    fn only_its_own_names_are_segments() {
        assert_eq!(parse_name(&segment_name(7, 12)), Some((7, 12)));
        for odd in ["7.seg", "state.dat", "1-2.segment", "0000000001-00000000000000000002.segment.new"] {
            assert_eq!(parse_name(odd), None, "{odd}");
        }
    }
}
