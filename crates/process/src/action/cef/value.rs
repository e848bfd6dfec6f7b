//! Values of CEF's extensions by their types.
//!
//! Comes in: a text. Goes out: a number, an address, a time, or Go's words for why it is none.
//! Always holds: where a time has no year, it is that of the event's read time. Otherwise than Filebeat: an infinite number
//! is an error, since JSON has none and Filebeat then loses the event, and so is a hexadecimal one with a fraction.
//! Tested below and against Filebeat.

use std::net::IpAddr;

use pillion_world::calendar::days_from_civil;
use pillion_world::{UnixMillis, rfc3339};
use serde_json::Value;

use super::names::Kind;
use crate::action::convert::Type;
use crate::action::time::Layout;
use crate::zone::Zone;

/// How times are written; fractions of seconds are taken by each.
const LAYOUTS: [&str; 10] = [
    "Jan _2 15:04:05 MST",
    "Jan _2 15:04:05 Z0700",
    "Jan _2 15:04:05 Z07:00",
    "Jan _2 15:04:05 GMT-07:00",
    "Jan _2 15:04:05",
    "Jan _2 2006 15:04:05 MST",
    "Jan _2 2006 15:04:05 Z0700",
    "Jan _2 2006 15:04:05 Z07:00",
    "Jan _2 2006 15:04:05 GMT-07:00",
    "Jan _2 2006 15:04:05",
];

/// What values are read by.
#[derive(Debug)]
pub(super) struct Types {
    layouts: Vec<Layout>,
    /// Of times that name none.
    zone: Zone,
}

impl Types {
    pub(super) fn new(zone: Zone) -> Types {
        Types { layouts: LAYOUTS.iter().map(|layout| Layout::new(layout)).collect(), zone }
    }

    /// A text as a value of this type.
    pub(super) fn read(&self, text: &str, kind: Kind, read_ms: i64) -> Result<Value, String> {
        match kind {
            Kind::Text => Ok(Value::from(text)),
            Kind::Integer => int(text, 32).map(Value::from),
            Kind::Long => int(text, 64).map(Value::from),
            Kind::Float => float(text, Type::Float),
            Kind::Double => float(text, Type::Double),
            Kind::Ip if text.parse::<IpAddr>().is_ok() => Ok(Value::from(text)),
            Kind::Ip => Err("value is not a valid IP address".to_owned()),
            Kind::Mac => mac(text).map(Value::from),
            Kind::Time => {
                let ms = self.time(text, read_ms).ok_or("value is not a valid timestamp")?;
                Ok(Value::from(rfc3339(UnixMillis(ms))))
            }
        }
    }

    /// Milliseconds since 1970.
    fn time(&self, text: &str, read_ms: i64) -> Option<i64> {
        if let Ok(ms) = int(text, 64) {
            // Counted in nanoseconds, of which Go has 64 bits.
            return Some(ms.wrapping_mul(1_000_000).div_euclid(1_000_000));
        }
        let parse = |year: i64| self.layouts.iter().find_map(|layout| layout.parse(text, &self.zone, year));
        let year = self.zone.year(read_ms);
        // A 29th of February in a year that has none is the day behind it.
        let leap = || {
            let days = days_from_civil(year, 3, 1) - days_from_civil(2000, 2, 29);
            parse(2000).map(|ms| ms + days * 86_400_000)
        };
        parse(year).or_else(leap)
    }
}

/// A whole number as Go writes one in a program: also `0x1f`, `0b1`, `0o7`, `017`, `1_000`.
fn int(text: &str, bits: u32) -> Result<i64, String> {
    let failed = |why: &str| format!("strconv.ParseInt: parsing {}: {why}", quoted(text));
    let wrong = || failed("invalid syntax");
    let out_of_range = || failed("value out of range");
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, body) = match lower.as_bytes() {
        [b'0', b'x', _, ..] => (16, lower.get(2..)),
        [b'0', b'b', _, ..] => (2, lower.get(2..)),
        [b'0', b'o', _, ..] => (8, lower.get(2..)),
        [b'0', _, ..] => (8, lower.get(1..)),
        _ => (10, Some(lower.as_str())),
    };
    let body = body.unwrap_or_default();
    let mut number: u64 = 0;
    for c in body.chars().filter(|c| *c != '_') {
        let digit = c.to_digit(base).ok_or_else(wrong)?;
        // What is too large is said before a wrong character behind it.
        let next = number.checked_mul(u64::from(base)).and_then(|n| n.checked_add(u64::from(digit)));
        number = next.filter(|n| *n >> (bits - 1) <= 1).ok_or_else(out_of_range)?;
    }
    // An underscore stands between digits, or behind what says the base.
    let joined = body.strip_prefix('_').filter(|_| base != 10).unwrap_or(body);
    if joined.split('_').any(str::is_empty) {
        return Err(wrong());
    }
    let limit = 1_u64 << (bits - 1);
    if number > limit || (number == limit && !negative) {
        return Err(out_of_range());
    }
    Ok(if negative { 0_i64.wrapping_sub_unsigned(number) } else { i64::try_from(number).unwrap_or(i64::MAX) })
}

fn float(text: &str, kind: Type) -> Result<Value, String> {
    let failed = |why: &str| format!("strconv.ParseFloat: parsing {}: {why}", quoted(text));
    let digit = |i: Option<usize>| i.and_then(|i| text.as_bytes().get(i)).is_some_and(u8::is_ascii_digit);
    let joined = text.match_indices('_').all(|(i, _)| digit(i.checked_sub(1)) && digit(Some(i + 1)));
    let plain = text.replace('_', "");
    let number = plain.parse::<f64>().ok().filter(|_| joined).ok_or_else(|| failed("invalid syntax"))?;
    let fits = number.is_finite() && (kind != Type::Float || (number as f32).is_finite());
    kind.of(&Value::from(plain)).filter(|_| fits).ok_or_else(|| failed("value out of range"))
}

/// A hardware address of 6, 8 or 20 bytes in pairs by `:` or `-`, in fours by `.`, or of 6 or 8 bytes by nothing.
fn mac(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or_default();
    let bare = matches!(bytes.len(), 12 | 16) && !matches!(at(2), b':' | b'-') && at(4) != b'.';
    let shown = if bare {
        let pairs: Vec<String> = bytes.chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect();
        pairs.join(":")
    } else {
        text.to_owned()
    };
    let wrong = || match shown.as_str() {
        "" => "invalid MAC address".to_owned(),
        shown => format!("address {shown}: invalid MAC address"),
    };
    let (separator, width) = match (shown.as_bytes().get(2), shown.as_bytes().get(4)) {
        (Some(b':'), _) => (':', 2),
        (Some(b'-'), _) => ('-', 2),
        (_, Some(b'.')) => ('.', 4),
        _ => return Err(wrong()),
    };
    let parts: Vec<&str> = shown.split(separator).collect();
    let hex = |part: &&str| part.len() == width && part.bytes().all(|c| c.is_ascii_hexdigit());
    if !parts.iter().all(hex) || !matches!(parts.len() * width / 2, 6 | 8 | 20) {
        return Err(wrong());
    }
    let digits = parts.concat().to_ascii_lowercase();
    let pairs: Vec<&str> = (0..digits.len()).step_by(2).filter_map(|i| digits.get(i..i + 2)).collect();
    Ok(pairs.join(":"))
}

/// A text as Go quotes it, but for characters that aren't printed.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
