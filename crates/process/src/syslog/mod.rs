//! Syslog messages: RFC 3164 (BSD) and RFC 5424 (IETF).
//!
//! Comes in: the bytes of one message. Goes out: [`Found`], the fields in one of Filebeat's two shapes.
//! - [`Syslog::parse`]: the parser `syslog` of filestream and the processor `syslog`, which came with Filebeat 8: fields
//!   below `log.syslog` (`modern.rs`).
//! - [`Syslog::parse_input`]: the input `syslog` of 7 to 9: fields `syslog`, `process`, `hostname` (`input.rs`).
//!
//! Always holds: no bytes make it fail or take more than a few times their length; the message is a part of the text, and
//! what isn't understood stays in it. Where a time has no year, it is that of the read time, so that the same bytes give
//! the same event again.
//!
//! Facts: Beats 7.17.29 `filebeat/input/syslog`, 9 `libbeat/reader/syslog`. Tested in `tests.rs` (with what they give)
//! and by the fuzz target `syslog`.

mod input;
mod modern;
mod stamp;
#[cfg(test)]
mod tests;

use std::ops::Range;

use pillion_config::{Error, Section};
use serde_json::{Map, Value, json};

use crate::zone::Zone;

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Each as it begins.
    #[default]
    Auto,
    /// `<13>Oct 11 22:14:15 host program[1]: text`.
    Rfc3164,
    /// `<13>1 2003-10-11T22:14:15.003Z host program 1 ID47 - text`.
    Rfc5424,
}

/// How messages are read.
#[derive(Clone, Debug)]
pub struct Syslog {
    /// `format`.
    pub format: Format,
    /// `timezone`: of times that don't say it.
    pub zone: Zone,
}

/// What a message holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Fields of the event by their top-level names, without `message`.
    pub fields: Map<String, Value>,
    /// Where in the text the message stands; empty = there is none.
    pub message: Range<usize>,
    /// Its time, milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// What is wrong with it, in Filebeat's words.
    pub error: Option<String>,
}

impl Syslog {
    /// The options `format` and `timezone` of a section. `default`: of a section that says no format.
    ///
    /// # Errors
    /// A format or zone that isn't known.
    pub fn from_section(s: &Section<'_>, default: Format) -> Result<Syslog, Error> {
        let format = match s.choice("format", &["auto", "rfc3164", "rfc5424"])? {
            Some("auto") => Format::Auto,
            Some("rfc3164") => Format::Rfc3164,
            Some("rfc5424") => Format::Rfc5424,
            _ => default,
        };
        Ok(Syslog { format, zone: Zone::from_section(s)? })
    }

    /// As the parser and the processor of Filebeat 8 and 9. `read_ms`: when it was read, milliseconds since 1970.
    pub fn parse(&self, text: &[u8], read_ms: i64) -> Found {
        match self.is_5424(text) {
            true => modern::rfc5424(text, &self.zone),
            false => modern::rfc3164(text, &self.zone, read_ms),
        }
    }

    /// As the input of Filebeat 7 to 9; `None` = it isn't such a message, and all of it is the text.
    pub fn parse_input(&self, text: &[u8], read_ms: i64) -> Option<Found> {
        match self.is_5424(text) {
            true => input::rfc5424(text, &self.zone),
            false => input::rfc3164(text, &self.zone, read_ms),
        }
    }

    fn is_5424(&self, text: &[u8]) -> bool {
        match self.format {
            Format::Auto => begins_as_5424(text),
            Format::Rfc3164 => false,
            Format::Rfc5424 => true,
        }
    }
}

/// Whether a text begins `<13>1 2`: a priority, a version, and a digit of a year.
fn begins_as_5424(text: &[u8]) -> bool {
    let mut at = Cursor::new(text);
    at.take(b'<')
        && at.priority().is_some()
        && at.take(b'>')
        && at.version().is_some()
        && at.take(b' ')
        && at.peek().is_some_and(|b| b.is_ascii_digit())
}

/// The severities' names.
const SEVERITIES: [&str; 8] =
    ["Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"];

/// The facilities' names.
const FACILITIES: [&str; 24] = [
    "kernel",
    "user-level",
    "mail",
    "system",
    "security/authorization",
    "syslogd",
    "line printer",
    "network news",
    "UUCP",
    "clock",
    "security/authorization",
    "FTP",
    "NTP",
    "log audit",
    "log alert",
    "clock",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

/// The byte order mark with which a message may begin.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A message without the byte order mark before it.
fn without_bom(text: &[u8], message: Range<usize>) -> Range<usize> {
    let marked = text.get(message.clone()).is_some_and(|m| m.starts_with(BOM));
    if marked { message.start + BOM.len()..message.end } else { message }
}

fn string(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// Printable and no space.
fn is_graph(byte: &u8) -> bool {
    byte.is_ascii_graphic()
}

/// May stand in the names of structured data.
fn is_sd_name(byte: &u8) -> bool {
    is_graph(byte) && !b"=]\"".contains(byte)
}

/// A place in a text.
struct Cursor<'t> {
    text: &'t [u8],
    pos: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t [u8]) -> Cursor<'t> {
        Cursor { text, pos: 0 }
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.pos..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Steps over this byte, if it is there.
    fn take(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.pos += usize::from(is);
        is
    }

    /// Steps over one of these bytes.
    fn take_any(&mut self, bytes: &[u8]) -> Option<u8> {
        let found = self.peek().filter(|b| bytes.contains(b))?;
        self.pos += 1;
        Some(found)
    }

    /// Steps over all bytes of a kind.
    fn while_is(&mut self, is: impl Fn(&u8) -> bool) -> &'t [u8] {
        let rest = self.rest();
        let len = rest.iter().take_while(|b| is(b)).count();
        self.pos += len;
        rest.get(..len).unwrap_or_default()
    }

    /// Steps over 1 to `most` bytes of a kind; nothing where there are none or more.
    fn some(&mut self, most: usize, is: impl Fn(&u8) -> bool) -> Option<&'t [u8]> {
        let start = self.pos;
        let found = self.while_is(is);
        if (1..=most).contains(&found.len()) {
            return Some(found);
        }
        self.pos = start;
        None
    }

    /// Steps over `len` digits.
    fn digits(&mut self, len: usize) -> Option<i64> {
        let digits = self.rest().get(..len).filter(|d| d.iter().all(u8::is_ascii_digit))?;
        self.pos += len;
        Some(number(digits))
    }

    /// Steps over a number of two digits in a range.
    fn two(&mut self, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let start = self.pos;
        let found = self.digits(2).filter(|n| range.contains(n));
        if found.is_none() {
            self.pos = start;
        }
        found
    }

    /// A priority as RFC 5424 has it: 0 to 191, without zeros before it.
    fn priority(&mut self) -> Option<i64> {
        let digits = self.some(3, u8::is_ascii_digit)?;
        Some(number(digits)).filter(|n| *n <= 191 && (digits.len() == 1 || !digits.starts_with(b"0")))
    }

    /// A version: 1 to 999, without zeros before it.
    fn version(&mut self) -> Option<i64> {
        let digits = self.some(3, u8::is_ascii_digit)?;
        (!digits.starts_with(b"0")).then(|| number(digits))
    }

    /// The value of a parameter of structured data up to its closing quote, without its escapes.
    fn sd_value(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            out.extend_from_slice(self.while_is(|b| !b"\"]\\".contains(b)));
            if self.take(b'"') {
                return Some(out);
            }
            if !self.take(b'\\') {
                return None;
            }
            out.push(self.take_any(b"\"]\\")?);
        }
    }
}

/// The value of digits; the largest one where there are too many.
fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |n: i64, b| n.saturating_mul(10).saturating_add(i64::from(b.wrapping_sub(b'0'))))
}

/// Any bytes in each format: what is found has to be as [`Found`] says. For the fuzz target.
///
/// # Errors
/// What doesn't hold.
pub fn check(text: &[u8]) -> Result<(), String> {
    for format in [Format::Auto, Format::Rfc3164, Format::Rfc5424] {
        for zone in [Zone::UTC, Zone::fixed(-12 * 3_600_000)] {
            let syslog = Syslog { format, zone };
            let modern = syslog.parse(text, 1_767_225_600_000);
            let input = syslog.parse_input(text, 1_767_225_600_000).unwrap_or_default();
            for found in [modern, input] {
                let within = found.message.start <= found.message.end && found.message.end <= text.len();
                let size = json!(found.fields).to_string().len();
                if !within || size > 1024 + 16 * text.len() {
                    return Err(format!(
                        "{format:?}: {:?} in {} bytes, {size} bytes of fields",
                        found.message,
                        text.len()
                    ));
                }
            }
        }
    }
    Ok(())
}
