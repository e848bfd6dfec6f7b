//! What the parser and the processor `syslog` of Filebeat 8 and 9 find, below `log.syslog`.
//!
//! Comes in: a message. Goes out: all that was understood of it up to the first place that doesn't fit, and the error.
//! Otherwise than Filebeat: `\"` and `\\` may stand in structured data, as RFC 5424 has it; a program's name without a
//! colon behind its number stays in the message too, of which Filebeat leaves out what stands before the number.
//!
//! Tested in `tests.rs`.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::stamp::{self, Civil};
use super::{Cursor, FACILITIES, Found, SEVERITIES, is_graph, is_sd_name, string, without_bom};
use crate::zone::Zone;

/// What is known so far.
struct Reading<'t> {
    at: Cursor<'t>,
    priority: Option<i64>,
    version: i64,
    time: Option<Civil>,
    hostname: &'t [u8],
    process: &'t [u8],
    pid: &'t [u8],
    msgid: &'t [u8],
    data: Range<usize>,
    message: Range<usize>,
    errors: Vec<String>,
}

/// `<13>Oct 11 22:14:15 host program[1]: text`, or with a time as RFC 3339 writes it.
pub(super) fn rfc3164(text: &[u8], zone: &Zone, read_ms: i64) -> Found {
    let mut reading = Reading::new(text);
    if reading.header_3164().is_none() {
        reading.ends_early();
    }
    reading.found(zone, zone.year(read_ms))
}

/// `<13>1 2003-10-11T22:14:15.003Z host program 1 ID47 - text`.
pub(super) fn rfc5424(text: &[u8], zone: &Zone) -> Found {
    let mut reading = Reading::new(text);
    if reading.header_5424().is_none() {
        reading.ends_early();
    }
    reading.found(zone, 0)
}

/// `None` of these: the cursor stands at what doesn't fit.
impl<'t> Reading<'t> {
    fn new(text: &'t [u8]) -> Reading<'t> {
        Reading {
            at: Cursor::new(text),
            priority: None,
            version: 0,
            time: None,
            hostname: b"",
            process: b"",
            pid: b"",
            msgid: b"",
            data: 0..0,
            message: 0..0,
            errors: Vec::new(),
        }
    }

    fn ends_early(&mut self) {
        self.errors.push(format!("parsing error at position {}: unexpected EOF", self.at.pos + 1));
    }

    fn invalid(&mut self, at: usize, what: &str) {
        self.errors.push(format!("validation error at position {}: {what}", at + 1));
    }

    fn header_3164(&mut self) -> Option<()> {
        if self.at.peek() == Some(b'<') {
            self.priority()?;
        }
        self.time()?;
        self.hostname = self.word()?;
        self.at.peek()?;
        self.tag();
        self.message = without_bom(self.at.text, self.at.pos..self.at.text.len());
        Some(())
    }

    fn header_5424(&mut self) -> Option<()> {
        self.priority()?;
        self.version()?;
        if self.at.rest().starts_with(b"- ") {
            self.at.pos += 2;
        } else {
            self.rfc3339()?;
        }
        self.hostname = self.word()?;
        self.process = self.word()?;
        self.pid = self.word()?;
        self.msgid = self.word()?;
        self.data = self.data()?;
        if self.at.peek().is_none() {
            return Some(());
        }
        if !self.at.take(b' ') {
            return None;
        }
        self.message = without_bom(self.at.text, self.at.pos..self.at.text.len());
        Some(())
    }

    fn priority(&mut self) -> Option<()> {
        if !self.at.take(b'<') {
            return None;
        }
        let start = self.at.pos;
        let digits = self.at.while_is(|b| is_graph(b) && *b != b'>');
        if digits.is_empty() || !self.at.take(b'>') {
            return None;
        }
        match atoi(digits) {
            Ok(n @ 0..=191) => self.priority = Some(n),
            Ok(_) => self.invalid(start, "priority value out of range (expected 0..191)"),
            Err(e) => self.invalid(start, &format!("invalid priority: {e}")),
        }
        Some(())
    }

    fn version(&mut self) -> Option<()> {
        let start = self.at.pos;
        let digits = self.word()?;
        match atoi(digits) {
            Ok(version) => self.version = version,
            Err(e) => self.invalid(start, &format!("invalid version, expected an integer: {e}")),
        }
        Some(())
    }

    /// A word and the space behind it; `-` stands for none.
    fn word(&mut self) -> Option<&'t [u8]> {
        let word = self.at.while_is(is_graph);
        if word.is_empty() || !self.at.take(b' ') {
            return None;
        }
        Some(if word == b"-" { b"" } else { word })
    }

    fn time(&mut self) -> Option<()> {
        if !self.at.peek()?.is_ascii_alphabetic() {
            return self.rfc3339();
        }
        let start = self.at.pos;
        self.at.while_is(u8::is_ascii_alphabetic);
        for spaces in [true, true, false, false] {
            let between = if spaces { !self.at.while_is(|b| *b == b' ').is_empty() } else { self.at.take(b':') };
            if !between || self.at.while_is(u8::is_ascii_digit).is_empty() {
                return None;
            }
        }
        self.stamp(start, stamp::bsd)
    }

    /// What looks like a time of RFC 3339: digits, with single other characters among them.
    fn rfc3339(&mut self) -> Option<()> {
        let (start, mut run) = (self.at.pos, 0);
        while let Some(byte) = self.at.peek() {
            match byte {
                b'0'..=b'9' => run += 1,
                b'a'..=b'z' | b'A'..=b'Z' | b':' | b'.' | b'+' | b'-' if run > 0 => run = 0,
                _ => break,
            }
            self.at.pos += 1;
        }
        // One digit alone is none of these.
        if run == 1 || self.at.pos == start {
            return None;
        }
        self.stamp(start, stamp::rfc3339)
    }

    fn stamp(&mut self, start: usize, read: fn(&str) -> Result<Civil, String>) -> Option<()> {
        let text = self.at.text.get(start..self.at.pos).unwrap_or_default();
        if !self.at.take(b' ') {
            return None;
        }
        match read(&String::from_utf8_lossy(text)) {
            Ok(civil) => self.time = Some(civil),
            Err(e) => self.invalid(start, &e),
        }
        Some(())
    }

    /// The program and its number before a message. What is none stays in the message.
    fn tag(&mut self) {
        let start = self.at.pos;
        let tag = self.at.while_is(|b| is_graph(b) && !b":[".contains(b));
        if tag.is_empty() || !self.at.peek().is_some_and(|b| b":[".contains(&b)) {
            self.at.pos = start;
            return;
        }
        self.process = tag;
        if self.at.take(b'[') {
            let pid = self.at.while_is(|b| (b' '..=b'~').contains(b) && *b != b']');
            if !pid.is_empty() && self.at.take(b']') {
                self.pid = pid;
            }
        }
        if !self.at.rest().starts_with(b": ") || self.at.rest().len() == 2 {
            self.at.pos = start;
            return;
        }
        self.at.pos += 2;
    }

    /// The range of the structured data, empty where there is none.
    fn data(&mut self) -> Option<Range<usize>> {
        let start = self.at.pos;
        if self.at.take(b'-') {
            return Some(0..0);
        }
        while self.at.take(b'[') {
            loop {
                self.at.while_is(|b| !b"]\\".contains(b));
                if self.at.take(b']') {
                    break;
                }
                if !self.at.take(b'\\') {
                    return None;
                }
                self.at.take_any(b"]\\\"")?;
            }
        }
        (self.at.pos > start).then_some(start..self.at.pos)
    }

    fn found(self, zone: &Zone, year: i64) -> Found {
        let mut log = Map::new();
        if let Some(priority) = self.priority {
            let (facility, severity) = ((priority >> 3) as usize, (priority & 7) as usize);
            log.insert("priority".into(), priority.into());
            log.insert("facility".into(), json!({"code": facility, "name": FACILITIES.get(facility)}));
            log.insert("severity".into(), json!({"code": severity, "name": SEVERITIES.get(severity)}));
        }
        let mut put = |name: &str, value: &[u8]| {
            if !value.is_empty() {
                log.insert(name.into(), string(value));
            }
        };
        put("hostname", self.hostname);
        put("appname", self.process);
        if !self.process.is_empty() {
            put("procid", self.pid);
        }
        put("msgid", self.msgid);
        if self.version != 0 {
            log.insert("version".into(), self.version.to_string().into());
        }
        let (text, mut message) = (self.at.text, self.message);
        if !self.data.is_empty() {
            match structured(text.get(self.data.clone()).unwrap_or_default()) {
                Some(data) => drop(log.insert("structured_data".into(), Value::Object(data))),
                // What isn't understood stays in the message.
                None => message = self.data.start..message.end.max(self.data.end),
            }
        }
        let mut fields = Map::new();
        if !log.is_empty() {
            fields.insert("log".into(), json!({ "syslog": log }));
        }
        let moment = |civil: Civil| {
            let local = civil.local_ms(year);
            civil.ahead_ms.map_or_else(|| zone.to_utc(local), |ahead| local - ahead)
        };
        let error = (!self.errors.is_empty()).then(|| self.errors.join("\n"));
        Found { fields, message, time_ms: self.time.map(moment), error }
    }
}

/// Go's `strconv.Atoi`, with its words.
fn atoi(text: &[u8]) -> Result<i64, String> {
    let text = String::from_utf8_lossy(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
    }
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: value out of range"))
}

/// `[id name="value"][id]`; `None` = it isn't that.
fn structured(data: &[u8]) -> Option<Map<String, Value>> {
    let (mut at, mut out) = (Cursor::new(data), Map::new());
    while at.take(b'[') {
        let id = at.some(32, is_sd_name)?;
        let id = String::from_utf8_lossy(id).into_owned();
        let element = out.entry(id).or_insert_with(|| json!({}));
        while at.take(b' ') {
            let name = String::from_utf8_lossy(at.some(32, is_sd_name)?).into_owned();
            if !at.take(b'=') || !at.take(b'"') {
                return None;
            }
            let value = at.sd_value()?;
            element.as_object_mut()?.insert(name, string(&value));
        }
        if !at.take(b']') {
            return None;
        }
    }
    at.rest().is_empty().then_some(out)
}
