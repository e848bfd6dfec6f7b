//! Records as Kafka keeps them: batches of format 2, compressed or not.
//!
//! Comes in: keys, values, headers and times. Goes out: a batch's bytes, ready to be sent, and sent again the same.
//! Facts: kafka.apache.org/documentation, "Message format"; KIP-98.
//!
//! Always holds: the checksum covers all from the attributes on; a batch that is sent again is the same but for what
//! [`stamp`] wrote: who produced it and its first number. Tested below and by a real broker, which checks all of it.

use std::io::Write;

use pillion_deflate::{Compressor, Container, Level};
use ruzstd::encoding::CompressionLevel;

/// How batches are compressed (`compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip(Level),
    Snappy,
    Lz4,
    Zstd,
}

/// The bytes before the records.
const HEAD: usize = 61;
/// Where the checksum lies, and where what it covers begins.
const CHECKSUM: usize = 17;
const COVERED: usize = 21;

/// Records of one partition as they grow.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    count: i32,
    first_ms: i64,
    most_ms: i64,
    record: Vec<u8>,
}

/// One record.
pub(super) struct Record<'a> {
    pub(super) time_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) headers: &'a [(String, String)],
}

impl Record<'_> {
    /// At most so many bytes in a batch of its own.
    pub(super) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + value.len() + 10).sum();
        HEAD + 36 + self.key.map_or(0, <[u8]>::len) + self.value.len() + headers
    }
}

impl Records {
    /// How many bytes the batch has before compression.
    pub(super) fn size(&self) -> usize {
        HEAD + self.bytes.len()
    }

    pub(super) fn add(&mut self, record: &Record<'_>) {
        if self.count == 0 {
            (self.first_ms, self.most_ms) = (record.time_ms, record.time_ms);
        }
        self.most_ms = self.most_ms.max(record.time_ms);
        let body = &mut self.record;
        body.clear();
        body.push(0);
        varint(record.time_ms - self.first_ms, body);
        varint(i64::from(self.count), body);
        match record.key {
            Some(key) => counted(key, body),
            None => varint(-1, body),
        }
        counted(record.value, body);
        varint(record.headers.len() as i64, body);
        for (key, value) in record.headers {
            counted(key.as_bytes(), body);
            counted(value.as_bytes(), body);
        }
        counted(&self.record, &mut self.bytes);
        self.count += 1;
    }

    /// The batch; [`stamp`] makes it whole.
    pub(super) fn finish(self, compression: Compression) -> Vec<u8> {
        let mut out = vec![0; HEAD];
        let bits = compress(compression, &self.bytes, &mut out);
        let length = (out.len() - 12) as i32;
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(8, &length.to_be_bytes());
        put(12, &(-1_i32).to_be_bytes());
        put(16, &[2]);
        put(COVERED, &bits.to_be_bytes());
        put(23, &(self.count - 1).to_be_bytes());
        put(27, &self.first_ms.to_be_bytes());
        put(35, &self.most_ms.to_be_bytes());
        put(57, &self.count.to_be_bytes());
        out
    }
}

/// Who produced a batch, for brokers that tell a second sending from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

impl Producer {
    /// Nobody in particular: a second sending isn't told from the first.
    pub(super) const NONE: Producer = Producer { id: -1, epoch: -1 };
}

/// Writes producer and first number into a batch, and its checksum.
pub(super) fn stamp(batch: &mut [u8], producer: Producer, sequence: i32) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = batch.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(43, &producer.id.to_be_bytes());
    put(51, &producer.epoch.to_be_bytes());
    put(53, &sequence.to_be_bytes());
    let sum = crc32c::crc32c(batch.get(COVERED..).unwrap_or_default());
    if let Some(place) = batch.get_mut(CHECKSUM..COVERED) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Appends the records as they are sent; the bits that say how. What a compressor doesn't take is sent as it is.
fn compress(how: Compression, records: &[u8], out: &mut Vec<u8>) -> i16 {
    match how {
        Compression::None => {}
        Compression::Gzip(level) => {
            Compressor::new(Container::Gzip, level).compress(records, out);
            return 1;
        }
        Compression::Snappy => {
            if let Ok(packed) = snap::raw::Encoder::new().compress_vec(records) {
                out.extend_from_slice(&packed);
                return 2;
            }
        }
        Compression::Lz4 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            if let Ok(packed) = lz4.write_all(records).map_err(drop).and_then(|()| lz4.finish().map_err(drop)) {
                out.extend_from_slice(&packed);
                return 3;
            }
        }
        Compression::Zstd => {
            out.extend_from_slice(&ruzstd::encoding::compress_to_vec(records, CompressionLevel::Fastest));
            return 4;
        }
    }
    out.extend_from_slice(records);
    0
}

/// A number in as few bytes as it takes, small negative ones too.
fn varint(n: i64, out: &mut Vec<u8>) {
    let mut left = ((n << 1) ^ (n >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads what [`varint`] wrote.
    fn read_varint(bytes: &mut &[u8]) -> i64 {
        let (mut n, mut shift) = (0_u64, 0);
        loop {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            n |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return (n >> 1) as i64 ^ -((n & 1) as i64);
            }
        }
    }

    fn read_counted(bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let length = usize::try_from(read_varint(bytes)).ok()?;
        let (head, rest) = bytes.split_at(length);
        *bytes = rest;
        Some(head.to_vec())
    }

    /// A batch that was read back: producer, first number, records as (time, key, value, headers).
    pub(in crate::kafka) type Read = (Producer, i32, Vec<(i64, Option<Vec<u8>>, Vec<u8>, usize)>);

    /// Reads a batch that isn't compressed, checksum and all.
    pub(in crate::kafka) fn read(batch: &[u8]) -> Read {
        let i32_at = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().unwrap());
        let i64_at = |at: usize| i64::from_be_bytes(batch[at..at + 8].try_into().unwrap());
        assert_eq!((i32_at(8) as usize, batch[16]), (batch.len() - 12, 2));
        assert_eq!(i32_at(CHECKSUM) as u32, crc32c::crc32c(&batch[COVERED..]));
        let producer = Producer { id: i64_at(43), epoch: i16::from_be_bytes(batch[51..53].try_into().unwrap()) };
        let mut rest = &batch[HEAD..];
        let mut records = Vec::new();
        for at in 0..i32_at(57) {
            let record = read_counted(&mut rest).unwrap();
            let mut r = &record[1..];
            let time = i64_at(27) + read_varint(&mut r);
            assert_eq!(read_varint(&mut r), i64::from(at));
            let (key, value) = (read_counted(&mut r), read_counted(&mut r).unwrap());
            let headers = read_varint(&mut r) as usize;
            (0..2 * headers).for_each(|_| drop(read_counted(&mut r)));
            assert!(r.is_empty() && time <= i64_at(35));
            records.push((time, key, value, headers));
        }
        assert!(rest.is_empty() && i32_at(23) == i32_at(57) - 1);
        (producer, i32_at(53), records)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            all in prop::collection::vec((0i64..1 << 42, prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), prop::collection::vec(any::<u8>(), 0..200)), 1..40),
            headers in 0usize..3,
        ) {
            let headers: Vec<(String, String)> = (0..headers).map(|i| (format!("h{i}"), "v".repeat(i))).collect();
            let mut records = Records::default();
            let mut most = HEAD;
            for (time_ms, key, value) in &all {
                let record = Record { time_ms: *time_ms, key: key.as_deref(), value, headers: &headers };
                most += record.size() - HEAD;
                records.add(&record);
            }
            prop_assert!(records.size() <= most);
            let mut batch = records.finish(Compression::None);
            stamp(&mut batch, Producer { id: 7, epoch: 1 }, 42);
            let (producer, sequence, got) = read(&batch);
            prop_assert_eq!((producer, sequence), (Producer { id: 7, epoch: 1 }, 42));
            let want: Vec<_> = all.into_iter().map(|(time, key, value)| (time, key, value, headers.len())).collect();
            prop_assert_eq!(got, want);
        }
    }

    /// The encoder is young: whatever it is given comes back, also over several of its blocks.
    #[test]
    fn zstd_gives_back_whatever_it_is_given() {
        let mut noise = 1_u32;
        let mut next = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        };
        let random: Vec<u8> = (0..300_000).map(|_| next()).collect();
        let lines = b"2026-11-29T02:00:00Z INFO a line that comes again, and again\n".repeat(20_000);
        let mixed: Vec<u8> = random.chunks(100).flat_map(|part| [part, b"the same between them"].concat()).collect();
        for text in [&b""[..], b"x", &random, &lines, &mixed, &vec![0; 1 << 20]] {
            let mut packed = Vec::new();
            assert_eq!(compress(Compression::Zstd, text, &mut packed), 4);
            let mut out = Vec::new();
            std::io::copy(&mut ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap(), &mut out).unwrap();
            assert!(out == text && packed.len() < text.len() + 200, "{} bytes as {}", text.len(), packed.len());
        }
    }

    #[test]
    fn compressed_records_come_back() {
        let value = b"a line again and again ".repeat(50);
        let batch = |how| {
            let mut records = Records::default();
            (0..20).for_each(|i| records.add(&Record { time_ms: i, key: None, value: &value, headers: &[] }));
            records.finish(how)
        };
        let plain = batch(Compression::None);
        let gzip = Compression::Gzip(Level::new(4).unwrap());
        for (how, bits) in [(gzip, 1), (Compression::Snappy, 2), (Compression::Lz4, 3), (Compression::Zstd, 4)] {
            let packed = batch(how);
            assert_eq!((packed[22], packed.len() < plain.len() / 4), (bits, true), "{how:?}");
            let body = &packed[HEAD..];
            let mut out = Vec::new();
            match how {
                Compression::Snappy => out = snap::raw::Decoder::new().decompress_vec(body).unwrap(),
                Compression::Lz4 => {
                    std::io::copy(&mut lz4_flex::frame::FrameDecoder::new(body), &mut out).unwrap();
                }
                Compression::Zstd => {
                    let mut unpacked = ruzstd::decoding::StreamingDecoder::new(body).unwrap();
                    std::io::copy(&mut unpacked, &mut out).unwrap();
                }
                _ => assert_eq!(body[..2], [0x1f, 0x8b]),
            }
            assert!(out.is_empty() || out == plain[HEAD..], "{how:?}");
        }
    }
}
