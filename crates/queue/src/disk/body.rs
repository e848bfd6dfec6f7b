//! The bodies of records: a source's description, a batch's events.
//!
//! Comes in: a [`Source`] or a [`Batch`]. Goes out: bytes, and from them the same again: the same texts, ranges, times,
//! fields and metadata, so that what is sent later is what would have been sent at once. Of a batch's bytes only the texts
//! of its events are kept.
//!
//! Numbers are LEB128, signed ones zigzag; texts have their length before them. JSON is kept in a form of its own, since a
//! text of it would limit depth and lose what no text can say; a value that is nested deeper than [`DEPTH`] becomes the
//! text of its JSON.
//!
//! Always holds: reading any bytes gives something or nothing, never a panic, and takes no more memory than a small
//! multiple of their length. Tested below and in `tests.rs`; the fuzz target `disk_queue` reads any bytes.

use std::sync::{Arc, OnceLock};

use pillion_event::{
    Batch, BatchId, Event, Extent, FileStat, Flags, Incarnation, InputDesc, InputKind, Overlay, Source, Stream,
};
use serde_json::{Map, Number, Value};

use super::format::Head;

/// How deep a value may be nested.
const DEPTH: usize = 1000;

fn put_u64(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_i64(out: &mut Vec<u8>, n: i64) {
    put_u64(out, ((n << 1) ^ (n >> 63)) as u64);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_some(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    text.into_iter().for_each(|text| put_bytes(out, text.as_bytes()));
}

fn put_map(out: &mut Vec<u8>, map: &Map<String, Value>, depth: usize) {
    put_u64(out, map.len() as u64);
    for (key, value) in map {
        put_bytes(out, key.as_bytes());
        put_value(out, value, depth + 1);
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(b) => out.push(1 + u8::from(*b)),
        Value::Number(n) => put_number(out, n),
        Value::String(s) => {
            out.push(6);
            put_bytes(out, s.as_bytes());
        }
        Value::Array(_) | Value::Object(_) if depth >= DEPTH => {
            out.push(6);
            put_bytes(out, value.to_string().as_bytes());
        }
        Value::Array(items) => {
            out.push(7);
            put_u64(out, items.len() as u64);
            items.iter().for_each(|item| put_value(out, item, depth + 1));
        }
        Value::Object(map) => {
            out.push(8);
            put_map(out, map, depth);
        }
    }
}

fn put_number(out: &mut Vec<u8>, n: &Number) {
    if let Some(n) = n.as_u64() {
        out.push(3);
        put_u64(out, n);
    } else if let Some(n) = n.as_i64() {
        out.push(4);
        put_i64(out, n);
    } else {
        out.push(5);
        out.extend_from_slice(&n.as_f64().unwrap_or_default().to_le_bytes());
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u64(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    fn i64(&mut self) -> Option<i64> {
        let n = self.u64()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// A count of things that take at least a byte each.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.u64()?).ok().filter(|n| *n <= self.0.len())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.count()?;
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn owned(&mut self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    fn some(&mut self) -> Option<Option<String>> {
        match self.u8()? {
            0 => Some(None),
            1 => self.owned().map(Some),
            _ => None,
        }
    }

    fn map(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut map = Map::new();
        for _ in 0..self.count()? {
            let key = self.owned()?;
            map.insert(key, self.value(depth + 1)?);
        }
        Some(map)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        Some(match self.u8()? {
            0 => Value::Null,
            n @ (1 | 2) => Value::Bool(n == 2),
            3 => self.u64()?.into(),
            4 => self.i64()?.into(),
            5 => Number::from_f64(f64::from_le_bytes(self.fixed()?))?.into(),
            6 => self.owned()?.into(),
            7 if depth < DEPTH => {
                let mut items = Vec::new();
                for _ in 0..self.count()? {
                    items.push(self.value(depth + 1)?);
                }
                Value::Array(items)
            }
            8 if depth < DEPTH => Value::Object(self.map(depth)?),
            _ => return None,
        })
    }

    fn ended<T>(&self, what: T) -> Option<T> {
        self.0.is_empty().then_some(what)
    }
}

/// The description of an input, as [`put_source`] has it within.
pub(super) fn put_input(input: &InputDesc) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, input.kind.as_str().as_bytes());
    put_bytes(&mut out, input.id.as_bytes());
    put_u64(&mut out, input.tags.len() as u64);
    input.tags.iter().for_each(|tag| put_bytes(&mut out, tag.as_bytes()));
    put_map(&mut out, &input.fields, 0);
    put_map(&mut out, &input.root_fields, 0);
    for text in [&input.pipeline, &input.index, &input.service_type] {
        put_some(&mut out, text.as_deref());
    }
    put_bytes(&mut out, input.document_type.as_bytes());
    out.push(u8::from(input.without_host) | (u8::from(input.keep_null) << 1));
    out
}

fn take_input(bytes: &[u8]) -> Option<InputDesc> {
    let mut r = Reader(bytes);
    let kind = r.text()?;
    let mut input = InputDesc::bare(kind_of(kind)?, r.text()?);
    for _ in 0..r.count()? {
        input.tags.push(r.owned()?);
    }
    input.fields = r.map(0)?;
    input.root_fields = r.map(0)?;
    for text in [&mut input.pipeline, &mut input.index, &mut input.service_type] {
        *text = r.some()?;
    }
    input.document_type = r.owned()?;
    let flags = r.u8()?;
    (input.without_host, input.keep_null) = (flags & 1 != 0, flags & 2 != 0);
    r.ended(input)
}

fn kind_of(name: &str) -> Option<InputKind> {
    use InputKind as K;
    let all = [K::Log, K::Filestream, K::Container, K::Stdin, K::Tcp, K::Udp, K::Unix, K::Syslog];
    all.into_iter().find(|kind| kind.as_str() == name)
}

/// The body of a source's record.
pub(super) fn put_source(source: &Source, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, input);
    put_bytes(&mut out, source.path.as_bytes());
    put_bytes(&mut out, source.key.as_bytes());
    out.extend_from_slice(&source.incarnation.0.to_le_bytes());
    put_u64(&mut out, source.stat.inode);
    put_u64(&mut out, source.stat.device);
    for text in [&source.stat.fingerprint, &source.stat.owner, &source.stat.group] {
        put_some(&mut out, text.as_deref());
    }
    out
}

/// The source of a record's body; `shared` gives an input's description for its bytes, so that equal ones are one.
pub(super) fn take_source(body: &[u8], shared: &mut dyn FnMut(&[u8]) -> Option<Arc<InputDesc>>) -> Option<Source> {
    let mut r = Reader(body);
    let input = r.bytes()?;
    let input = match shared(input) {
        Some(input) => input,
        None => Arc::new(take_input(input)?),
    };
    let (path, key) = (r.text()?.into(), r.text()?.into());
    let incarnation = Incarnation(u128::from_le_bytes(r.fixed()?));
    let mut stat = FileStat { inode: r.u64()?, device: r.u64()?, ..FileStat::default() };
    for text in [&mut stat.fingerprint, &mut stat.owner, &mut stat.group] {
        *text = r.some()?;
    }
    let source = Source { input, path, key, incarnation, stat, render: OnceLock::new(), more: Default::default() };
    r.ended(source)
}

/// A source of nothing, for batches of any bytes.
pub(super) fn any_source() -> Source {
    let input = Arc::new(InputDesc::bare(InputKind::Log, ""));
    let (path, key, incarnation) = ("".into(), "".into(), Incarnation(0));
    let (stat, render, more) = (FileStat::default(), OnceLock::new(), Default::default());
    Source { input, path, key, incarnation, stat, render, more }
}

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const MULTILINE: u8 = 4;
const TRUNCATED: u8 = 8;
const OVERLAY: u8 = 16;

const WHOLE: u8 = 1;
const NO_MESSAGE: u8 = 2;
const MEMBERS: u8 = 4;

/// The body of a batch's record.
pub(super) fn put_batch(batch: &Batch) -> Vec<u8> {
    let texts: usize = batch.events.iter().map(|e| e.text.len()).sum();
    let mut out = Vec::with_capacity(texts + 16 * batch.events.len() + 16);
    put_i64(&mut out, batch.read_ms);
    out.push(u8::from(batch.replayed));
    let mut at = batch.from;
    for event in &batch.events {
        let mut bits = match event.stream {
            Stream::None => 0,
            Stream::Stdout => STDOUT,
            Stream::Stderr => STDERR,
        };
        for (is_set, bit) in
            [(event.flags.multiline, MULTILINE), (event.flags.truncated, TRUNCATED), (event.overlay.is_some(), OVERLAY)]
        {
            bits |= if is_set { bit } else { 0 };
        }
        out.push(bits);
        put_u64(&mut out, batch.text(event).len() as u64);
        put_i64(&mut out, event.offset.wrapping_sub(at) as i64);
        put_u64(&mut out, event.len.into());
        put_i64(&mut out, event.time_ms.wrapping_sub(batch.read_ms));
        at = event.offset.wrapping_add(event.len.into());
        if let Some(overlay) = &event.overlay {
            let (extent, gone) = match &overlay.extent {
                Extent::Merged => (0, None),
                Extent::Whole => (WHOLE, None),
                Extent::Members(gone) => (MEMBERS, Some(gone)),
            };
            out.push(extent | if overlay.no_message { NO_MESSAGE } else { 0 });
            put_u64(&mut out, overlay.weight.into());
            if let Some(gone) = gone {
                put_u64(&mut out, gone.len() as u64);
                gone.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
            }
            put_map(&mut out, &overlay.fields, 0);
            put_map(&mut out, &overlay.metadata, 0);
        }
    }
    batch.events.iter().for_each(|event| out.extend_from_slice(batch.text(event)));
    out
}

/// The batch of a record, under this number.
pub(super) fn take_batch(head: &Head, body: &[u8], source: Arc<Source>, id: BatchId) -> Option<Batch> {
    let mut r = Reader(body);
    let read_ms = r.i64()?;
    let replayed = r.u8()? != 0;
    let mut events = Vec::new();
    let (mut at, mut text) = (head.from, 0_u32);
    for _ in 0..head.events {
        let event = take_event(&mut r, (&mut at, &mut text), read_ms)?;
        events.push(event);
    }
    if r.0.len() != text as usize {
        return None;
    }
    events.shrink_to_fit();
    let (from, to, guard, data) = (head.from, head.to, head.guard, r.0.to_vec());
    let batch = Batch { id, source, from, to, guard, read_ms, data, events, replayed };
    batch.check().is_ok().then_some(batch)
}

fn take_event(r: &mut Reader<'_>, (at, text): (&mut u64, &mut u32), read_ms: i64) -> Option<Event> {
    let bits = r.u8()?;
    let stream = match bits & (STDOUT | STDERR) {
        0 => Stream::None,
        STDOUT => Stream::Stdout,
        STDERR => Stream::Stderr,
        _ => return None,
    };
    let begin = *text;
    *text = begin.checked_add(r.u32()?)?;
    let offset = at.wrapping_add(r.i64()? as u64);
    let len = r.u32()?;
    *at = offset.checked_add(len.into())?;
    let time_ms = read_ms.wrapping_add(r.i64()?);
    let overlay = match bits & OVERLAY {
        0 => None,
        _ => {
            let said = r.u8()?;
            let (no_message, weight) = (said & NO_MESSAGE != 0, r.u32()?);
            let extent = match said & (WHOLE | MEMBERS) {
                0 => Extent::Merged,
                WHOLE => Extent::Whole,
                MEMBERS => Extent::Members((0..r.u32()?).map(|_| r.text().map(str::to_owned)).collect::<Option<_>>()?),
                _ => return None,
            };
            let (fields, metadata) = (r.map(0)?, r.map(0)?);
            Some(Box::new(Overlay { extent, no_message, fields, metadata, weight }))
        }
    };
    let flags = Flags { multiline: bits & MULTILINE != 0, truncated: bits & TRUNCATED != 0 };
    Some(Event { text: begin..*text, offset, len, time_ms, stream, flags, overlay })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((".{0,4}", inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn again(value: &Value) -> Option<Value> {
        let mut out = Vec::new();
        put_value(&mut out, value, 0);
        let mut r = Reader(&out);
        let value = r.value(0)?;
        r.ended(value)
    }

    proptest! {
        #[test]
        fn a_value_comes_back_as_it_was(value in value()) {
            prop_assert_eq!(again(&value), Some(value));
        }

        #[test]
        fn numbers_come_back_as_they_were(n in any::<i64>()) {
            let mut out = Vec::new();
            put_i64(&mut out, n);
            put_u64(&mut out, n as u64);
            let mut r = Reader(&out);
            prop_assert_eq!((r.i64(), r.u64(), r.u8()), (Some(n), Some(n as u64), None));
        }

        #[test]
        fn any_bytes_give_something_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader(&bytes).value(0);
            let _ = take_source(&bytes, &mut |_| None);
        }
    }

    #[test]
    fn what_is_nested_too_deeply_becomes_text() {
        let deep = (0..DEPTH + 3).fold(json!(1), |inner, _| json!([inner]));
        let mut found = &again(&deep).unwrap();
        for _ in 0..DEPTH {
            found = &found[0];
        }
        assert_eq!(*found, json!("[[[1]]]"));
    }
}
