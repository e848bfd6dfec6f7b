//! What the input `syslog` of Filebeat 7 to 9 finds: `syslog`, `process`, `hostname`, `event.severity`.
//!
//! Comes in: a message. Goes out: its fields, or `None` when it isn't one.
//!
//! Otherwise than Filebeat 7.17, in which these are faults: a month beyond 12 makes the message no syslog message (there
//! the connection breaks, and what it still held is lost); a `Z` of RFC 5424 is UTC (there it is the option `timezone`);
//! a text behind structured data that isn't understood is kept, with that data (there the text is lost); a program's name
//! without a colon behind its number stays in the message whole (there only from the number on); `event.sequence` is
//! the number in the message (there it has its colon for a digit).
//! Tested in `tests.rs`.

use std::ops::Range;

use pillion_world::calendar::MONTHS;
use serde_json::{Map, Value, json};

use super::stamp::{self, Civil};
use super::{Cursor, FACILITIES, Found, SEVERITIES, is_graph, is_sd_name, number, string, without_bom};
use crate::zone::Zone;

/// What was found.
#[derive(Default)]
struct Parts<'t> {
    priority: Option<i64>,
    sequence: Option<i64>,
    time: Civil,
    hostname: &'t [u8],
    program: &'t [u8],
    pid: i64,
    version: Option<i64>,
    app_name: &'t [u8],
    proc_id: &'t [u8],
    msg_id: &'t [u8],
    data: Map<String, Value>,
    message: Range<usize>,
}

fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

/// `<13>Oct 11 22:14:15 host program[1]: text` and what devices make of it.
pub(super) fn rfc3164(text: &[u8], zone: &Zone, read_ms: i64) -> Option<Found> {
    let (mut at, mut parts) = (Cursor::new(text), Parts::default());
    if at.take(b'<') {
        parts.priority = Some(number(at.some(5, u8::is_ascii_digit)?));
        if !at.take(b'>') {
            return None;
        }
    }
    parts.sequence = sequence(&mut at);
    at.take_any(b" *.");
    let start = at.pos;
    parts.time = bsd_time(&mut at).or_else(|| {
        at.pos = start;
        iso_time(&mut at)
    })?;
    at.take(b':');
    space(&mut at)?;
    header(&mut at, &mut parts, text);
    let message = without_bom(text, at.pos..text.len());
    if message.is_empty() {
        return None;
    }
    parts.message = message;
    Some(parts.found(text, zone, zone.year(read_ms)))
}

/// The name of the host and the program, where they are.
fn header<'t>(at: &mut Cursor<'t>, parts: &mut Parts<'t>, text: &'t [u8]) {
    let start = at.pos;
    let Some(host) = hostname(at).filter(|_| space(at).is_some()) else {
        at.pos = start;
        return;
    };
    parts.hostname = host;
    if at.rest().is_empty() {
        // Nothing follows: it is the text, too.
        at.pos = start;
        return;
    }
    let start = at.pos;
    // A name may hold colons: the last one of the word ends it.
    let word = at.while_is(|b| !is_space(b) && !b"[]".contains(b));
    let end = start + word.len();
    if at.peek() == Some(b'[') && !word.is_empty() {
        parts.program = word;
        at.pos += 1;
        let pid = at.while_is(u8::is_ascii_digit);
        if !pid.is_empty() && at.take(b']') {
            // What is no number of a process is left out.
            parts.pid = i64::from(i32::try_from(number(pid)).unwrap_or(0));
            if at.take(b':') && space(at).is_some() && !at.rest().is_empty() {
                return;
            }
        }
    } else if let Some(colon) = word.iter().rposition(|b| *b == b':').filter(|colon| *colon > 0) {
        parts.program = word.get(..colon).unwrap_or_default();
        at.pos = end;
        if colon + 1 == word.len() && space(at).is_some() && at.pos < text.len() {
            return;
        }
    }
    at.pos = start;
}

fn space(at: &mut Cursor<'_>) -> Option<()> {
    let found = at.peek().filter(is_space);
    at.pos += usize::from(found.is_some());
    found.map(|_| ())
}

/// `123: `, as routers count their messages.
fn sequence(at: &mut Cursor<'_>) -> Option<i64> {
    let start = at.pos;
    let digits = at.while_is(u8::is_ascii_digit);
    if !digits.is_empty() && at.take(b':') && space(at).is_some() {
        return Some(number(digits));
    }
    at.pos = start;
    None
}

/// Letters, digits, `.-_:`, a letter, digit or `::` at the end, and no two dots or dashes side by side; a colon may follow.
fn hostname<'t>(at: &mut Cursor<'t>) -> Option<&'t [u8]> {
    let word = at.while_is(|b| b.is_ascii_alphanumeric() || b".-_:".contains(b));
    let twice = word.windows(2).any(|two| two == b".." || two == b"--");
    let name = match word.strip_suffix(b":") {
        Some(name) if !word.ends_with(b"::") => name,
        _ => word,
    };
    let ends = name.ends_with(b"::") || name.last().is_some_and(u8::is_ascii_alphanumeric);
    (ends && !twice).then_some(name)
}

/// `Oct  1 22:14:15.003`; months may be written out.
fn bsd_time(at: &mut Cursor<'_>) -> Option<Civil> {
    let word = at.while_is(u8::is_ascii_alphabetic);
    let is = |name: &str| word == name.as_bytes() || word == name.as_bytes().get(..3).unwrap_or_default();
    let month = MONTHS.iter().position(|name| is(name))? as i64 + 1;
    space(at)?;
    let padded = space(at).is_some();
    let day = match at.two(0..=31) {
        Some(day) if !padded => day,
        Some(_) => return None,
        None => at.digits(1).filter(|day| *day > 0)?,
    };
    space(at)?;
    let time = clock(at, usize::MAX)?;
    Some(Civil { month, day, ..time })
}

/// `2003-10-11T22:14:15.003+02:00`; a space may stand for the `T`, and the zone may be left out.
fn iso_time(at: &mut Cursor<'_>) -> Option<Civil> {
    let year = at.digits(4)?;
    if !at.take(b'-') {
        return None;
    }
    let month = at.two(1..=12)?;
    if !at.take(b'-') {
        return None;
    }
    let day = at.two(0..=39)?;
    at.take_any(b"Tt \t\n\x0b\x0c\r")?;
    let time = clock(at, usize::MAX)?;
    Some(Civil { year: Some(year), month, day, ahead_ms: offset(at), ..time })
}

/// `22:14:15.003`, with at most so many digits behind the point.
fn clock(at: &mut Cursor<'_>, most: usize) -> Option<Civil> {
    let hour = at.two(0..=23)?;
    let minute = at.take(b':').then(|| at.two(0..=59))??;
    let second = at.take(b':').then(|| at.two(0..=59))??;
    let start = at.pos;
    let digits = if at.take(b'.') { at.while_is(u8::is_ascii_digit) } else { b"" };
    if digits.is_empty() {
        at.pos = start;
    }
    if digits.len() > most {
        return None;
    }
    Some(Civil { hour, minute, second, ms: stamp::thousandths(digits), ..Civil::default() })
}

/// `Z`, `+02`, `+0200`, `+02:00`, or the latter behind a `Z`.
fn offset(at: &mut Cursor<'_>) -> Option<i64> {
    let utc = at.take_any(b"Zz").map(|_| 0);
    let start = at.pos;
    let ahead = (|| {
        let sign = if at.take_any(b"+-")? == b'-' { -1 } else { 1 };
        let hours = at.digits(2)?;
        let before_minutes = at.pos;
        at.take(b':');
        let minutes = at.digits(2).unwrap_or_else(|| {
            at.pos = before_minutes;
            0
        });
        Some(sign * (hours * 60 + minutes) * 60_000)
    })();
    if ahead.is_none() {
        at.pos = start;
    }
    // Behind a `Z` nothing counts.
    utc.or(ahead)
}

/// `<13>1 2003-10-11T22:14:15.003Z host program 1 ID47 - text`; a `-` that stands for nothing is kept, as in Filebeat. A message without a time, or with neither a text nor
/// data, is none.
pub(super) fn rfc5424(text: &[u8], zone: &Zone) -> Option<Found> {
    let (mut at, mut parts) = (Cursor::new(text), Parts::default());
    let start = at.take(b'<').then(|| at.priority())?;
    parts.priority = Some(start?);
    parts.version = Some(at.take(b'>').then(|| at.version())??);
    parts.time = at.take(b' ').then(|| full_time(&mut at))??;
    let mut word = |most| if at.take(b' ') { at.some(most, is_graph) } else { None };
    parts.hostname = word(255)?;
    parts.app_name = word(48)?;
    parts.proc_id = word(128)?;
    parts.msg_id = word(32)?;
    if !at.take(b' ') {
        return None;
    }
    let rest = at.pos;
    let whole = if at.take(b'-') { true } else { data(&mut at, &mut parts.data)? };
    let ended = at.rest().is_empty();
    parts.message = if whole && (ended || at.take(b' ')) {
        without_bom(text, at.pos..text.len())
    } else {
        // What isn't understood stays in the text.
        rest..text.len()
    };
    if parts.message.is_empty() && parts.data.is_empty() {
        return None;
    }
    Some(parts.found(text, zone, 0))
}

/// A time of RFC 5424, which has a zone.
fn full_time(at: &mut Cursor<'_>) -> Option<Civil> {
    let year = at.digits(4)?;
    let month = at.take(b'-').then(|| at.two(1..=12))??;
    let day = at.take(b'-').then(|| at.two(1..=31))??;
    let time = at.take(b'T').then(|| clock(at, 6))??;
    let ahead_ms = Some(offset(at)?);
    Some(Civil { year: Some(year), month, day, ahead_ms, ..time })
}

/// Structured data as far as it is right, and whether all of it is; `None` = there is none.
fn data(at: &mut Cursor<'_>, into: &mut Map<String, Value>) -> Option<bool> {
    if at.peek() != Some(b'[') {
        return None;
    }
    while at.take(b'[') {
        let Some(id) = at.some(32, is_sd_name) else { return Some(false) };
        let id = String::from_utf8_lossy(id).into_owned();
        if into.contains_key(&id) {
            return Some(false);
        }
        let Some(element) = into.entry(id).or_insert_with(|| json!({})).as_object_mut() else { return Some(false) };
        while at.take(b' ') {
            let Some(name) = at.some(32, is_sd_name) else { return Some(false) };
            if !at.take(b'=') || !at.take(b'"') {
                return Some(false);
            }
            let Some(value) = at.sd_value().filter(|v| !v.is_empty()) else { return Some(false) };
            element.insert(String::from_utf8_lossy(name).into_owned(), string(&value));
        }
        if !at.take(b']') {
            return Some(false);
        }
    }
    Some(true)
}

impl Parts<'_> {
    fn found(self, text: &[u8], zone: &Zone, year: i64) -> Found {
        let (mut syslog, mut event, mut process) = (Map::new(), Map::new(), Map::new());
        if let Some(priority) = self.priority {
            let (facility, severity) = (priority >> 3, priority & 7);
            syslog.insert("priority".into(), priority.into());
            event.insert("severity".into(), severity.into());
            let name =
                |names: &[&str], at: i64| usize::try_from(at).ok().and_then(|at| names.get(at).map(|n| json!(n)));
            syslog.extend(name(&SEVERITIES, severity).map(|n| ("severity_label".into(), n)));
            syslog.insert("facility".into(), facility.into());
            syslog.extend(name(&FACILITIES, facility).map(|n| ("facility_label".into(), n)));
        }
        let put = |map: &mut Map<String, Value>, name: &str, value: &[u8]| {
            if !value.is_empty() {
                map.insert(name.into(), string(value));
            }
        };
        if self.pid > 0 {
            process.insert("pid".into(), self.pid.into());
        }
        put(&mut process, "program", self.program);
        put(&mut process, "name", self.app_name);
        put(&mut process, "entity_id", self.proc_id);
        put(&mut syslog, "msgid", self.msg_id);
        syslog.extend(self.version.map(|version| ("version".into(), version.into())));
        if !self.data.is_empty() {
            syslog.insert("data".into(), Value::Object(self.data));
        }
        event.extend(self.sequence.map(|sequence| ("sequence".into(), sequence.into())));
        let mut fields = Map::new();
        put(&mut fields, "hostname", self.hostname);
        fields.insert("syslog".into(), Value::Object(syslog));
        fields.insert("event".into(), Value::Object(event));
        if !process.is_empty() {
            fields.insert("process".into(), Value::Object(process));
        }
        let local = self.time.local_ms(year);
        let time = self.time.ahead_ms.map_or_else(|| zone.to_utc(local), |ahead| local - ahead);
        let mut message = self.message;
        while text.get(message.clone()).is_some_and(|m| m.ends_with(b"\n")) {
            message.end -= 1;
        }
        Found { fields, message, time_ms: Some(time), error: None }
    }
}
