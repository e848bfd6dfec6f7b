//! One value as Filebeat writes it, and our member `pillion` in it.
//!
//! Comes in: a key and a JSON value, by anybody. Goes out: a [`Record`]; and back to bytes.
//! Always holds: what comes out of a known value goes back in with the same meaning, unknown members included; a value
//! that isn't understood is kept whole.
//!
//! `pillion` is `["<incarnation: 32 hex digits>",<born: ns, or null>,[[from,to,read_ms,bytes,"<hash>"],…],[offset,bytes,"<hash>"]]`, the
//! last, of the bytes before the offset, only where it is known. An array, since Filebeat drops a whole entry of which an
//! unknown member is an object with anything in it. Filebeat 7 to 9 decode states with go-structform's gotype, which skips members that a struct
//! doesn't have (`unfolderStruct.OnKey`), and write the struct back without them: an entry that Filebeat has changed
//! comes back without `pillion`, which is how we know. One that it hasn't touched stays a plain map in its store and keeps
//! it.
//!
//! Tested in `tests/real.rs` with records of real Filebeats, and in `tests/hostile.rs`.

use std::io::Write;
use std::num::NonZeroI64;
use std::sync::Arc;

use pillion_event::{GUARD, Guard, Incarnation};
use serde_json::{Map, Value};

use crate::entry::{Entry, FilestreamState, Intent, Kind, LogState, LogWords};
use crate::key::{self, FILESTREAM_PREFIX, LOG_PREFIX};
use crate::registry::{MAX_INTENTS, Record};
use crate::time;

/// What reading a value gave.
pub(crate) enum Decoded {
    /// A file's state. Its incarnation is 0 when Filebeat has changed it, or always had it: to be made up.
    File(Entry),
    /// Not a file's state: another input's.
    Other(Value),
    /// It should be a file's state but isn't; why.
    Faulty(Value, &'static str),
    /// `ttl` is 0: Filebeat would remove it.
    Expired,
}

/// What entries repeat, each kept once.
#[derive(Default)]
pub(crate) struct Words(Vec<Arc<LogWords>>);

/// More different ones aren't compared: they come from a registry that no Filebeat wrote.
const MAX_WORDS: usize = 64;

impl Words {
    fn once(&mut self, words: LogWords) -> Arc<LogWords> {
        if let Some(known) = self.0.iter().find(|known| ***known == words) {
            return Arc::clone(known);
        }
        let words = Arc::new(words);
        if self.0.len() < MAX_WORDS {
            self.0.push(Arc::clone(&words));
        }
        words
    }
}

/// Reads a value.
pub(crate) fn decode(key: &Arc<str>, value: Value, words: &mut Words) -> Decoded {
    let is_log = key.starts_with(LOG_PREFIX);
    if !is_log && !key.starts_with(FILESTREAM_PREFIX) {
        return Decoded::Other(value);
    }
    let decoded = match &value {
        Value::Object(map) if is_log => decode_log(key, map.clone(), words),
        Value::Object(map) => decode_filestream(key, map.clone()),
        _ => Err("not an object"),
    };
    match decoded {
        Ok(entry) if entry.ttl_ns == 0 => Decoded::Expired,
        Ok(entry) => Decoded::File(entry),
        Err(why) => Decoded::Faulty(value, why),
    }
}

type Members = Map<String, Value>;

/// The state of a `log` or `container` input, in the registry of 7.9 and later or in the arrays before it.
pub(crate) fn decode_log(key: &Arc<str>, mut map: Members, words: &mut Words) -> Result<Entry, &'static str> {
    let offset = take_u64(&mut map, "offset").ok_or("no offset")?;
    let source = take_string(&mut map, "source").ok_or("no source")?;
    let (ino, dev) = match map.shift_remove("FileStateOS") {
        Some(Value::Object(mut os)) => {
            (take_u64(&mut os, "inode").unwrap_or(0), take_u64(&mut os, "device").unwrap_or(0))
        }
        _ => (0, 0),
    };
    let meta = match map.shift_remove("meta") {
        Some(Value::Object(meta)) => meta.into_iter().filter_map(|(k, v)| Some((k, v.as_str()?.to_owned()))).collect(),
        _ => Vec::new(),
    };
    let input_type = take_string(&mut map, "type").unwrap_or_default();
    let prev_id = take_string(&mut map, "prev_id").unwrap_or_default();
    let state = LogState { ino, dev, words: words.once(LogWords { input_type, prev_id, meta }) };
    let ttl_ns = take_i64(&mut map, "ttl").unwrap_or(-1);
    let updated_ns = take_time(&mut map, "timestamp");
    map.shift_remove("id");
    map.shift_remove("identifier_name");
    Ok(finish(key, Kind::Log(state), source, offset, ttl_ns, updated_ns, map))
}

fn decode_filestream(key: &Arc<str>, mut map: Members) -> Result<Entry, &'static str> {
    let mut state = FilestreamState::default();
    let offset = match map.shift_remove("cursor") {
        None | Some(Value::Null) => 0,
        Some(Value::Object(mut cursor)) => {
            let offset = take_u64(&mut cursor, "offset").ok_or("a cursor without offset")?;
            state.eof = take_bool(&mut cursor, "eof");
            keep_rest(&mut map, "cursor", cursor);
            offset
        }
        Some(_) => return Err("a cursor that isn't an object"),
    };
    let source = match map.shift_remove("meta") {
        Some(Value::Object(mut meta)) => {
            let source = take_string(&mut meta, "source").unwrap_or_default();
            state.fingerprint_len = take_u64(&mut meta, "fingerprint_len");
            meta.shift_remove("identifier_name");
            keep_rest(&mut map, "meta", meta);
            source
        }
        _ => String::new(),
    };
    let ttl_ns = take_i64(&mut map, "ttl").unwrap_or(-1);
    let updated_ns = take_time(&mut map, "updated");
    Ok(finish(key, Kind::Filestream(state), source, offset, ttl_ns, updated_ns, map))
}

fn finish(
    key: &Arc<str>,
    kind: Kind,
    source: String,
    offset: u64,
    ttl_ns: i64,
    updated_ns: i128,
    mut map: Members,
) -> Entry {
    let ours = match map.shift_remove("pillion") {
        Some(Value::Array(ours)) => decode_ours(&ours),
        _ => None,
    };
    let none = Ours { incarnation: Incarnation(0), birth_ns: None, tail: None, intents: Vec::new() };
    let ours = ours.unwrap_or(none);
    let unknown = (!map.is_empty()).then(|| Box::new(map));
    let (incarnation, birth_ns, intents) = (ours.incarnation, ours.birth_ns, ours.intents);
    // Of another offset: somebody else has moved it since.
    let guard = ours.tail.filter(|(at, _)| *at == offset).map_or_else(Guard::default, |(_, guard)| guard);
    let (key, source) = (Arc::clone(key), source.into());
    Entry { key, kind, source, offset, ttl_ns, updated_ns, incarnation, birth_ns, guard, intents, unknown }
}

/// Our own member's content.
struct Ours {
    incarnation: Incarnation,
    birth_ns: Option<NonZeroI64>,
    /// The offset that the guard stands before.
    tail: Option<(u64, Guard)>,
    intents: Vec<Intent>,
}

/// Our own member: taken whole or, when anything about it is odd, not at all. It is an array, since Filebeat drops
/// a whole entry of which an unknown member is an object with anything in it.
fn decode_ours(ours: &[Value]) -> Option<Ours> {
    let [hex, born, intents, tail @ ..] = ours else { return None };
    let hex = hex.as_str().filter(|h| h.len() == 32)?;
    let intents = intents.as_array()?;
    let mut all = Vec::with_capacity(intents.len().min(MAX_INTENTS));
    for intent in intents {
        let [from, to, read_ms, len, hash] = intent.as_array()?.as_slice() else { return None };
        let guard = decode_guard(len, hash)?;
        let intent = Intent { from: from.as_u64()?, to: to.as_u64()?, read_ms: read_ms.as_i64()?, guard };
        if intent.from > intent.to || all.len() == MAX_INTENTS {
            return None;
        }
        all.push(intent);
    }
    all.sort_unstable();
    Some(Ours {
        incarnation: hex.parse().ok()?,
        birth_ns: born.as_i64().and_then(NonZeroI64::new),
        tail: tail.first().and_then(decode_tail),
        intents: all,
    })
}

fn decode_tail(value: &Value) -> Option<(u64, Guard)> {
    let [at, len, hash] = value.as_array()?.as_slice() else { return None };
    Some((at.as_u64()?, decode_guard(len, hash)?))
}

fn decode_guard(len: &Value, hash: &Value) -> Option<Guard> {
    let len = u8::try_from(len.as_u64()?).ok().filter(|len| usize::from(*len) <= GUARD)?;
    Some(Guard { hash: u64::from_str_radix(hash.as_str()?, 16).ok()?, len })
}

/// Appends `"k":…` and `"v":…` members or their likes: the value alone, as one line without an end.
pub(crate) fn encode(record: &Record, key: &str, checkpoint: bool, out: &mut Vec<u8>) {
    if checkpoint {
        put(out, b"{\"_key\":");
        put_str(out, key);
        let at = out.len();
        encode_value(record, out);
        // `{"a":…}` becomes `,"a":…}` behind the key; an empty object just ends.
        let empty = out.get(at..) == Some(b"{}");
        if empty {
            out.truncate(at);
            out.push(b'}');
        } else if let Some(open) = out.get_mut(at) {
            *open = b',';
        }
    } else {
        put(out, b"{\"k\":");
        put_str(out, key);
        put(out, b",\"v\":");
        encode_value(record, out);
        out.push(b'}');
    }
}

fn encode_value(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::File(entry) => encode_entry(entry, out),
        Record::Foreign(value) => put_json(out, &**value),
    }
}

fn encode_entry(e: &Entry, out: &mut Vec<u8>) {
    let (nanos, seconds) = time::to_pair(e.updated_ns);
    let identifier = key::identifier_of(&e.key);
    let name = identifier.as_ref().map_or("native", |i| i.name());
    let mut unknown = e.unknown.as_deref().cloned().unwrap_or_default();
    match &e.kind {
        Kind::Log(state) => {
            put_fmt(out, format_args!("{{\"offset\":{},\"ttl\":{},\"id\":", e.offset, e.ttl_ns));
            put_str(out, e.key.strip_prefix(LOG_PREFIX).unwrap_or_default());
            put(out, b",\"prev_id\":");
            put_str(out, &state.words.prev_id);
            put(out, b",\"source\":");
            put_str(out, &e.source);
            put_fmt(out, format_args!(",\"timestamp\":[{nanos},{seconds}],\"type\":"));
            put_str(out, &state.words.input_type);
            if !state.words.meta.is_empty() {
                put(out, b",\"meta\":");
                put_json(
                    out,
                    &state.words.meta.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect::<Members>(),
                );
            }
            let (ino, dev) = (state.ino, state.dev);
            put_fmt(out, format_args!(",\"FileStateOS\":{{\"inode\":{ino},\"device\":{dev}}},\"identifier_name\":"));
            put_str(out, name);
        }
        Kind::Filestream(state) => {
            put(out, b"{\"meta\":{\"source\":");
            put_str(out, &e.source);
            put(out, b",\"identifier_name\":");
            put_str(out, name);
            if let Some(len) = state.fingerprint_len {
                put_fmt(out, format_args!(",\"fingerprint_len\":{len}"));
            }
            put_rest(out, &mut unknown, "meta");
            put_fmt(out, format_args!(",\"ttl\":{},\"updated\":[{nanos},{seconds}]", e.ttl_ns));
            put_fmt(out, format_args!(",\"cursor\":{{\"offset\":{}", e.offset));
            if let Some(eof) = state.eof {
                put_fmt(out, format_args!(",\"eof\":{eof}"));
            }
            put_rest(out, &mut unknown, "cursor");
        }
    }
    put_fmt(out, format_args!(",\"pillion\":[\"{}\",", e.incarnation));
    match e.birth_ns {
        Some(born) => put_fmt(out, format_args!("{born},[")),
        None => put(out, b"null,["),
    }
    for (n, i) in e.intents.iter().enumerate() {
        put(out, if n == 0 { b"" } else { b"," });
        put_fmt(out, format_args!("[{},{},{},{},\"{:016x}\"]", i.from, i.to, i.read_ms, i.guard.len, i.guard.hash));
    }
    put(out, b"]");
    if e.guard.len > 0 {
        put_fmt(out, format_args!(",[{},{},\"{:016x}\"]", e.offset, e.guard.len, e.guard.hash));
    }
    put(out, b"]");
    put_members(out, &unknown);
    out.push(b'}');
}

/// Ends a nested object with what was unknown in it.
fn put_rest(out: &mut Vec<u8>, unknown: &mut Members, name: &str) {
    if let Some(Value::Object(rest)) = unknown.shift_remove(name) {
        put_members(out, &rest);
    }
    out.push(b'}');
}

fn put_members(out: &mut Vec<u8>, members: &Members) {
    for (k, v) in members {
        out.push(b',');
        put_str(out, k);
        out.push(b':');
        put_json(out, v);
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

fn put_fmt(out: &mut Vec<u8>, args: std::fmt::Arguments<'_>) {
    // Writing into a vector can't fail.
    let _ = out.write_fmt(args);
}

pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_json(out, text);
}

fn put_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    // Strings, numbers and trees of them always have a JSON form.
    let _ = serde_json::to_writer(out, value);
}

fn keep_rest(map: &mut Members, name: &str, rest: Members) {
    if !rest.is_empty() {
        map.insert(name.to_owned(), Value::Object(rest));
    }
}

fn take_string(map: &mut Members, name: &str) -> Option<String> {
    match map.shift_remove(name)? {
        Value::String(s) => Some(s),
        _ => None,
    }
}

fn take_bool(map: &mut Members, name: &str) -> Option<bool> {
    map.shift_remove(name)?.as_bool()
}

/// A number that isn't negative, whole also when it was written as `1e6` or `1.0`.
fn take_u64(map: &mut Members, name: &str) -> Option<u64> {
    let value = map.shift_remove(name)?;
    let whole = |f: f64| ((0.0..9.0e15).contains(&f) && f.fract() == 0.0).then_some(f as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

fn take_i64(map: &mut Members, name: &str) -> Option<i64> {
    map.shift_remove(name)?.as_i64()
}

/// `[x, seconds]`, or RFC 3339 as the versions before 7.9 wrote it; 0 when it is neither.
fn take_time(map: &mut Members, name: &str) -> i128 {
    let number = |v: &Value| v.as_u64().or_else(|| v.as_i64().map(|n| n as u64));
    match map.shift_remove(name) {
        Some(Value::Array(pair)) => match pair.as_slice() {
            [x, seconds] => number(x).zip(number(seconds)).map_or(0, |(x, s)| time::from_pair(x, s)),
            _ => 0,
        },
        Some(Value::String(text)) => time::parse_rfc3339(&text).unwrap_or(0),
        _ => 0,
    }
}
