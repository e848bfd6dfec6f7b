//! MessagePack, as far as the forward protocol needs it.
//!
//! Comes in: what is to be written; JSON text; bytes from a server. Goes out: MessagePack; the parts of one value.
//! Facts: msgpack.org's `spec.md`, and the forward protocol's v1 specification ("EventTime Ext Format"). It is written
//! here and not by a library: a dozen heads on the way out, and on the way in a reader that is bounded.
//!
//! Always holds: numbers and lengths take their shortest form, except that an object or list has a head of 16 bits, which
//! is filled in when its members are counted; a value that is read is at most [`DEEP`] deep and never larger than the bytes
//! that are there, whatever lengths it names. Tested below.

use std::fmt;
use std::io;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The most levels of a value that is read.
const DEEP: usize = 8;

/// Appends the head of a list.
pub(super) fn array(n: u32, out: &mut Vec<u8>) {
    head(n, (0x90, 15), None, [0xdc, 0xdd], out);
}

/// Appends the head of a map.
pub(super) fn map(n: u32, out: &mut Vec<u8>) {
    head(n, (0x80, 15), None, [0xde, 0xdf], out);
}

/// Appends a text.
pub(super) fn text(s: &str, out: &mut Vec<u8>) {
    // Nothing here is 4 GiB long.
    head(s.len() as u32, (0xa0, 31), Some(0xd9), [0xda, 0xdb], out);
    out.extend_from_slice(s.as_bytes());
}

/// Appends the head of so many bytes.
pub(super) fn bytes(n: u32, out: &mut Vec<u8>) {
    head(n, (0, 0), Some(0xc4), [0xc5, 0xc6], out);
}

/// Appends a number.
pub(super) fn unsigned(n: u64, out: &mut Vec<u8>) {
    match n {
        0..=0x7f => out.push(n as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => tagged(0xcd, &(n as u16).to_be_bytes(), out),
        0x1_0000..=0xffff_ffff => tagged(0xce, &(n as u32).to_be_bytes(), out),
        _ => tagged(0xcf, &n.to_be_bytes(), out),
    }
}

fn signed(n: i64, out: &mut Vec<u8>) {
    match n {
        0.. => unsigned(n.unsigned_abs(), out),
        -32..0 => out.push(n as u8),
        -0x80..-32 => out.extend_from_slice(&[0xd0, n as u8]),
        -0x8000..-0x80 => tagged(0xd1, &(n as i16).to_be_bytes(), out),
        -0x8000_0000..-0x8000 => tagged(0xd2, &(n as i32).to_be_bytes(), out),
        _ => tagged(0xd3, &n.to_be_bytes(), out),
    }
}

/// Appends a moment as the protocol's `EventTime`: seconds and nanoseconds of 32 bits each. What is before 1970 or after
/// 2106 becomes the nearest that there is.
pub(super) fn event_time(ms: i64, out: &mut Vec<u8>) {
    let (least, most) = (0, i64::from(u32::MAX) * 1000 + 999);
    let ms = ms.clamp(least, most);
    out.extend_from_slice(&[0xd7, 0x00]);
    out.extend_from_slice(&((ms / 1000) as u32).to_be_bytes());
    out.extend_from_slice(&((ms % 1000) as u32 * 1_000_000).to_be_bytes());
}

fn tagged(tag: u8, rest: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(rest);
}

/// `fix`: the head of what is at most so long; `short`: that of 8 bits, where there is one; `long`: of 16 and 32 bits.
fn head(n: u32, fix: (u8, u32), short: Option<u8>, long: [u8; 2], out: &mut Vec<u8>) {
    match (n, short) {
        (0.., _) if n <= fix.1 && fix.1 > 0 => out.push(fix.0 | n as u8),
        (0..=0xff, Some(tag)) => out.extend_from_slice(&[tag, n as u8]),
        (0..=0xffff, _) => tagged(long[0], &(n as u16).to_be_bytes(), out),
        _ => tagged(long[1], &n.to_be_bytes(), out),
    }
}

/// Appends JSON text as MessagePack: one pass, without a tree between.
///
/// # Errors
/// It isn't JSON, or more than 127 levels deep. What was appended is of no use then.
pub(super) fn json(json: &[u8], out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(json);
    Writer(out).deserialize(&mut parser)?;
    parser.end()
}

/// Writes one value as it is read.
struct Writer<'o>(&'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Writer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Writer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(0xc0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { 0xc3 } else { 0xc2 });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        unsigned(value, self.0);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        signed(value, self.0);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        tagged(0xcb, &value.to_be_bytes(), self.0);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        text(value, self.0);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let (at, mut n) = (open(0xde, self.0), 0);
        while members.next_key_seed(Writer(self.0))?.is_some() {
            members.next_value_seed(Writer(self.0))?;
            n += 1;
        }
        close(at, n, self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (at, mut n) = (open(0xdc, self.0), 0);
        while items.next_element_seed(Writer(self.0))?.is_some() {
            n += 1;
        }
        close(at, n, self.0);
        Ok(())
    }
}

/// Begins what is counted later; returns where.
fn open(tag: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[tag, 0, 0]);
    out.len() - 3
}

/// Fills in how many there are. A head of 32 bits, for more than fit into 16, moves what stands behind it.
fn close(at: usize, n: u32, out: &mut Vec<u8>) {
    match (u16::try_from(n), out.get_mut(at..at + 3)) {
        (Ok(n), Some([_, high, low])) => [*high, *low] = n.to_be_bytes(),
        (Err(_), Some([tag, ..])) => {
            let wide = *tag + 1;
            let [a, b, c, d] = n.to_be_bytes();
            out.splice(at..at + 3, [wide, a, b, c, d]);
        }
        _ => {}
    }
}

/// A value that was read, as far as anybody looks at it.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    Bool(bool),
    /// A text or bytes.
    Bytes(&'a [u8]),
    List(Vec<Item<'a>>),
    Map(Vec<(Item<'a>, Item<'a>)>),
    /// A number, nothing, an extension.
    Other,
}

/// Reads the value that these bytes begin with.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// The bytes end before the value does.
struct Cut;

enum Stop {
    Cut,
    Malformed(&'static str),
}

impl From<Cut> for Stop {
    fn from(_: Cut) -> Stop {
        Stop::Cut
    }
}

impl<'a> Reader<'a> {
    /// The value and its length; `None` = it isn't all there yet.
    ///
    /// # Errors
    /// `InvalidData`: no MessagePack, or too deep.
    pub(super) fn read(from: &'a [u8]) -> io::Result<Option<(Item<'a>, usize)>> {
        let mut reader = Reader { rest: from };
        match reader.item(0) {
            Ok(item) => Ok(Some((item, from.len() - reader.rest.len()))),
            Err(Stop::Cut) => Ok(None),
            Err(Stop::Malformed(why)) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Cut> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(Cut)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length or count of `n` bytes, at most 4.
    fn number(&mut self, n: usize) -> Result<usize, Cut> {
        Ok(self.take(n)?.iter().fold(0, |number, &b| number << 8 | usize::from(b)))
    }

    fn item(&mut self, depth: usize) -> Result<Item<'a>, Stop> {
        if depth > DEEP {
            return Err(Stop::Malformed("an answer that is too deep"));
        }
        let tag = self.number(1)?;
        Ok(match tag {
            0x00..=0x7f | 0xe0.. | 0xc0 => Item::Other,
            0xc2 | 0xc3 => Item::Bool(tag == 0xc3),
            0x80..=0x8f => self.map(tag & 15, depth)?,
            0x90..=0x9f => self.list(tag & 15, depth)?,
            0xa0..=0xbf => Item::Bytes(self.take(tag & 31)?),
            0xc4..=0xc6 => self.sized(1 << (tag - 0xc4))?,
            0xd9..=0xdb => self.sized(1 << (tag - 0xd9))?,
            0xdc | 0xdd => {
                let n = self.number(2 << (tag - 0xdc))?;
                self.list(n, depth)?
            }
            0xde | 0xdf => {
                let n = self.number(2 << (tag - 0xde))?;
                self.map(n, depth)?
            }
            // An extension has a type besides.
            0xc7..=0xc9 => {
                let n = self.number(1 << (tag - 0xc7))?;
                self.skip(n + 1)?
            }
            0xd4..=0xd8 => self.skip((1 << (tag - 0xd4)) + 1)?,
            0xca | 0xce | 0xd2 => self.skip(4)?,
            0xcb | 0xcf | 0xd3 => self.skip(8)?,
            0xcc | 0xd0 => self.skip(1)?,
            0xcd | 0xd1 => self.skip(2)?,
            _ => return Err(Stop::Malformed("an answer that isn't MessagePack")),
        })
    }

    fn sized(&mut self, width: usize) -> Result<Item<'a>, Cut> {
        let n = self.number(width)?;
        self.take(n).map(Item::Bytes)
    }

    fn skip(&mut self, n: usize) -> Result<Item<'a>, Cut> {
        self.take(n).map(|_| Item::Other)
    }

    /// Each item takes a byte at least: the list grows only with what is there.
    fn list(&mut self, n: usize, depth: usize) -> Result<Item<'a>, Stop> {
        let mut items = Vec::new();
        for _ in 0..n {
            items.push(self.item(depth + 1)?);
        }
        Ok(Item::List(items))
    }

    fn map(&mut self, n: usize, depth: usize) -> Result<Item<'a>, Stop> {
        let mut members = Vec::new();
        for _ in 0..n {
            members.push((self.item(depth + 1)?, self.item(depth + 1)?));
        }
        Ok(Item::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn numbers_and_heads_take_their_shortest_form() {
        for (n, want) in [
            (0, &[0x00][..]),
            (127, &[0x7f]),
            (128, &[0xcc, 0x80]),
            (255, &[0xcc, 0xff]),
            (256, &[0xcd, 1, 0]),
            (65_535, &[0xcd, 0xff, 0xff]),
            (65_536, &[0xce, 0, 1, 0, 0]),
            (1 << 32, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
            (-1, &[0xff]),
            (-32, &[0xe0]),
            (-33, &[0xd0, 0xdf]),
            (-128, &[0xd0, 0x80]),
            (-129, &[0xd1, 0xff, 0x7f]),
            (-32_769, &[0xd2, 0xff, 0xff, 0x7f, 0xff]),
            (-2_147_483_649, &[0xd3, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        ] {
            assert_eq!(of(|out| signed(n, out)), want, "{n}");
        }
        for (n, want) in
            [(0, &[0xa0][..]), (31, &[0xbf]), (32, &[0xd9, 32]), (256, &[0xda, 1, 0]), (65_536, &[0xdb, 0, 1, 0, 0])]
        {
            let s = "x".repeat(n);
            assert_eq!(of(|out| text(&s, out)), [want, s.as_bytes()].concat());
        }
        for (n, want) in [(0, &[0xc4, 0][..]), (255, &[0xc4, 255]), (256, &[0xc5, 1, 0]), (65_536, &[0xc6, 0, 1, 0, 0])]
        {
            assert_eq!(of(|out| bytes(n, out)), want);
        }
        for (n, list, object) in [
            (15, &[0x9f][..], &[0x8f][..]),
            (16, &[0xdc, 0, 16], &[0xde, 0, 16]),
            (65_536, &[0xdd, 0, 1, 0, 0], &[0xdf, 0, 1, 0, 0]),
        ] {
            assert_eq!((of(|out| array(n, out)), of(|out| map(n, out))), (list.to_vec(), object.to_vec()));
        }
    }

    #[test]
    fn times_of_the_specification() {
        for (ms, seconds, nanos) in [
            (1_441_588_984_123, 1_441_588_984_u32, 123_000_000_u32),
            (0, 0, 0),
            (-1, 0, 0),
            (i64::MAX, u32::MAX, 999_000_000),
            (i64::MIN, 0, 0),
        ] {
            let want = [&[0xd7, 0][..], &seconds.to_be_bytes(), &nanos.to_be_bytes()].concat();
            assert_eq!(of(|out| event_time(ms, out)), want);
        }
    }

    #[test]
    fn json_as_messagepack() {
        let of_json = |text: &str| {
            let mut out = Vec::new();
            json(text.as_bytes(), &mut out).map(|()| out)
        };
        for (text, want) in [
            (
                r#"{"a":1,"b":[true,false,null,-1,1.5]}"#,
                &b"\xde\x00\x02\xa1a\x01\xa1b\xdc\x00\x05\xc3\xc2\xc0\xff\xcb\x3f\xf8\0\0\0\0\0\0"[..],
            ),
            (r#""x\n\u00e4\ud83e\udd80""#, b"\xa8x\n\xc3\xa4\xf0\x9f\xa6\x80"),
            ("{}", b"\xde\0\0"),
        ] {
            assert_eq!(of_json(text).unwrap(), want, "{text}");
        }
        assert!(of_json("{} x").is_err() && of_json(&"[".repeat(200)).is_err());
        // More members than 16 bits can count.
        let many = format!("[{}0]", "0,".repeat(70_000));
        let got = of_json(&many).unwrap();
        assert_eq!((got.len(), &got[..6]), (70_001 + 5, &b"\xdd\x00\x01\x11\x71\x00"[..]));
    }

    #[test]
    fn what_is_read_is_bounded_and_needs_all_its_bytes() {
        let all = of(|out| {
            json(br#"{"k":["text",1,-40,300,70000,5000000000,1.5,null,true,{"d":{}}]}"#, out).unwrap();
        });
        let (item, length) = Reader::read(&all).unwrap().unwrap();
        assert_eq!(length, all.len());
        let Item::Map(members) = item else { panic!("{item:?}") };
        assert_eq!(members[0].0, Item::Bytes(b"k"));
        for end in 0..all.len() {
            assert!(Reader::read(&all[..end]).unwrap().is_none(), "{end}");
        }
        assert!(Reader::read(&[0x91; 20]).is_err(), "too deep");
        assert!(Reader::read(&[0xc1]).is_err());
        // Lengths beyond what is there wait, and take nothing.
        for huge in
            [&b"\xdd\xff\xff\xff\xff"[..], b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\0"]
        {
            assert!(Reader::read(huge).unwrap().is_none());
        }
    }
}
