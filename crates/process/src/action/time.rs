//! timestamp: times in Go's layouts.
//!
//! Comes in: layouts such as `2006-01-02T15:04:05Z07:00`, then texts and numbers. Goes out: `@timestamp`, or another
//! field. Always holds: where a layout has no year, it is that of the event's read time, so that the same line gives the
//! same time again. Tested below and against Filebeat.

use pillion_config::{Error, Section};
use pillion_world::calendar::{MONTHS, days_from_civil, days_in_month};
use pillion_world::{UnixMillis, rfc3339};
use serde_json::Value;

use crate::action::{Action, Done, required, required_list};
use crate::doc::{Doc, to_text};
use crate::tree;
use crate::zone::Zone;

/// One element of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Year,
    ShortYear,
    /// A number of so many digits at least, of two at most.
    Month(usize),
    /// The whole word, else its first three letters.
    MonthName {
        whole: bool,
    },
    Day(usize),
    DayName {
        whole: bool,
    },
    Hour,
    HalfDayHour(usize),
    Minute(usize),
    Second(usize),
    Fraction,
    HalfDay,
    /// `Z` is allowed, and a colon is wanted.
    Zone {
        z: bool,
        colon: bool,
        minutes: bool,
    },
    ZoneName,
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Unix,
    UnixMs,
    Parts(Vec<Part>),
}

/// Go's elements, the longer ones first.
const ELEMENTS: &[(&str, Part)] = &[
    ("January", Part::MonthName { whole: true }),
    ("Jan", Part::MonthName { whole: false }),
    ("Monday", Part::DayName { whole: true }),
    ("Mon", Part::DayName { whole: false }),
    ("MST", Part::ZoneName),
    ("2006", Part::Year),
    ("Z07:00", Part::Zone { z: true, colon: true, minutes: true }),
    ("Z0700", Part::Zone { z: true, colon: false, minutes: true }),
    ("Z07", Part::Zone { z: true, colon: false, minutes: false }),
    ("-07:00", Part::Zone { z: false, colon: true, minutes: true }),
    ("-0700", Part::Zone { z: false, colon: false, minutes: true }),
    ("-07", Part::Zone { z: false, colon: false, minutes: false }),
    ("01", Part::Month(2)),
    ("02", Part::Day(2)),
    ("03", Part::HalfDayHour(2)),
    ("04", Part::Minute(2)),
    ("05", Part::Second(2)),
    ("06", Part::ShortYear),
    ("_2", Part::Day(1)),
    ("15", Part::Hour),
    ("PM", Part::HalfDay),
    ("pm", Part::HalfDay),
    ("1", Part::Month(1)),
    ("2", Part::Day(1)),
    ("3", Part::HalfDayHour(1)),
    ("4", Part::Minute(1)),
    ("5", Part::Second(1)),
];

impl Layout {
    pub(super) fn new(text: &str) -> Layout {
        match text {
            "UNIX" => return Layout::Unix,
            "UNIX_MS" => return Layout::UnixMs,
            _ => {}
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = fraction(rest) {
                parts.push(Part::Fraction);
                rest = after;
            } else if let Some((word, part)) = ELEMENTS.iter().find(|(word, _)| rest.starts_with(word)) {
                parts.push(part.clone());
                rest = rest.get(word.len()..).unwrap_or_default();
            } else if let Some(c) = rest.chars().next() {
                match parts.last_mut() {
                    Some(Part::Literal(text)) => text.push(c),
                    _ => parts.push(Part::Literal(c.to_string())),
                }
                rest = rest.get(c.len_utf8()..).unwrap_or_default();
            }
        }
        Layout::Parts(parts)
    }

    /// Milliseconds since 1970; `zone`: when the text has none; `year`: when the layout has none.
    pub(super) fn parse(&self, text: &str, zone: &Zone, year: i64) -> Option<i64> {
        match self {
            Layout::Unix => unix(text, 1000.0),
            Layout::UnixMs => unix(text, 1.0),
            Layout::Parts(parts) => parse(parts, text, zone, year),
        }
    }
}

/// `.000`, `,999` and the like behind seconds: what follows them.
fn fraction(text: &str) -> Option<&str> {
    let body = text.strip_prefix(['.', ','])?;
    let digit = body.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let after = body.trim_start_matches(digit);
    (!after.starts_with(|c: char| c.is_ascii_digit())).then_some(after)
}

fn unix(text: &str, scale: f64) -> Option<i64> {
    let ms = text.trim().parse::<f64>().ok().filter(|f| f.is_finite())? * scale;
    (ms.abs() < 9.0e15).then(|| ms.floor() as i64)
}

#[derive(Default)]
struct Fields<'t> {
    year: Option<i64>,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    ms: i64,
    afternoon: Option<bool>,
    offset_ms: Option<i64>,
    /// Empty: none.
    zone_name: &'t str,
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

fn parse(parts: &[Part], text: &str, default: &Zone, year: i64) -> Option<i64> {
    let mut f = Fields { month: 1, day: 1, ..Fields::default() };
    let mut rest = text;
    for (i, part) in parts.iter().enumerate() {
        rest = match part {
            Part::Literal(literal) => rest.strip_prefix(literal.as_str())?,
            Part::Year => number(rest, 4, 4, |n| f.year = Some(n))?,
            Part::ShortYear => number(rest, 2, 2, |n| f.year = Some(if n >= 69 { n + 1900 } else { n + 2000 }))?,
            Part::Month(least) => number(rest, *least, 2, |n| f.month = n)?,
            Part::Day(least) => number(rest.trim_start_matches(' '), *least, 2, |n| f.day = n)?,
            Part::Hour => number(rest, 1, 2, |n| f.hour = n)?,
            Part::HalfDayHour(least) => number(rest, *least, 2, |n| f.hour = n)?,
            Part::Minute(least) => number(rest, *least, 2, |n| f.minute = n)?,
            Part::Second(least) => {
                let after = number(rest, *least, 2, |n| f.second = n)?;
                // Go takes a fraction behind the seconds though the layout has none.
                match parts.get(i + 1) {
                    Some(Part::Fraction) => after,
                    _ => take_fraction(after, &mut f.ms).unwrap_or(after),
                }
            }
            Part::Fraction => take_fraction(rest, &mut f.ms)?,
            Part::MonthName { whole } => {
                let (n, after) = name(rest, &MONTHS, *whole)?;
                f.month = n + 1;
                after
            }
            Part::DayName { whole } => name(rest, &DAYS, *whole)?.1,
            Part::HalfDay => {
                let (word, after) = rest.split_at_checked(2)?;
                f.afternoon = Some(word.eq_ignore_ascii_case("pm"));
                (word.eq_ignore_ascii_case("pm") || word.eq_ignore_ascii_case("am")).then_some(after)?
            }
            Part::Zone { z, colon, minutes } => zone(rest, *z, *colon, *minutes, &mut f.offset_ms)?,
            Part::ZoneName => {
                let (word, after) = zone_name(rest)?;
                f.zone_name = word;
                after
            }
        };
    }
    if !rest.is_empty() {
        return None;
    }
    f.time(default, year)
}

impl Fields<'_> {
    fn time(mut self, zone: &Zone, year: i64) -> Option<i64> {
        if let Some(afternoon) = self.afternoon {
            self.hour = self.hour % 12 + if afternoon { 12 } else { 0 };
        }
        let year = self.year.filter(|y| *y != 0).unwrap_or(year);
        let days = days_in_month(year, self.month)?;
        let fits = (1..=days).contains(&self.day) && self.hour < 24 && self.minute < 60 && self.second < 60;
        let ms = ((days_from_civil(year, self.month, self.day) * 24 + self.hour) * 60 + self.minute) * 60 + self.second;
        let local = ms * 1000 + self.ms;
        let utc = || if zone.has_name(self.zone_name, local) { zone.to_utc(local) } else { local };
        fits.then(|| self.offset_ms.map_or_else(utc, |ahead| local - ahead))
    }
}

/// A zone by its name. Go doesn't know how far from UTC it is, be it `GMT+3`, unless the zone that times are in has that
/// name.
fn zone_name(text: &str) -> Option<(&str, &str)> {
    let digits = |from: usize| {
        let digits = text.get(from..)?.bytes().take_while(u8::is_ascii_digit).count();
        let hours: u8 = text.get(from..from + digits)?.parse().ok()?;
        (hours <= 23).then_some(from + digits)
    };
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let signed = |at: usize| text.get(at..).is_some_and(|rest| rest.starts_with(['+', '-']));
    let end = match letters {
        0 if signed(0) => digits(1)?,
        _ if text.starts_with("UTC") => 3,
        _ if text.starts_with("GMT") => digits(4).filter(|_| signed(3)).unwrap_or(3),
        3 => 3,
        4 if text.get(..4).is_some_and(|word| word.ends_with('T') || word == "WITA") => 4,
        5 if text.get(4..5) == Some("T") => 5,
        _ => return None,
    };
    text.split_at_checked(end)
}

/// A number of so many digits; what follows it.
fn number(text: &str, least: usize, most: usize, take: impl FnOnce(i64)) -> Option<&str> {
    let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (number, after) = text.split_at(digits);
    take(number.parse().ok().filter(|_| digits >= least)?);
    Some(after)
}

fn take_fraction<'t>(text: &'t str, ms: &mut i64) -> Option<&'t str> {
    let body = text.strip_prefix(['.', ','])?;
    let digits = body.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, after) = body.split_at(digits);
    let first: String = fraction.chars().chain("000".chars()).take(3).collect();
    *ms = first.parse().ok().filter(|_| digits > 0)?;
    Some(after)
}

/// Which of the names a text begins with, whole or by its first three letters.
fn name<'t>(text: &'t str, names: &[&str], whole: bool) -> Option<(i64, &'t str)> {
    let begins = |part: &str| text.get(..part.len()).is_some_and(|t| t.eq_ignore_ascii_case(part));
    for (i, name) in names.iter().enumerate() {
        let form = if whole { name } else { name.get(..3)? };
        if begins(form) {
            return Some((i as i64, text.get(form.len()..)?));
        }
    }
    None
}

fn zone<'t>(text: &'t str, z: bool, colon: bool, minutes: bool, offset: &mut Option<i64>) -> Option<&'t str> {
    if z && let Some(after) = text.strip_prefix('Z') {
        *offset = Some(0);
        return Some(after);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let rest = text.strip_prefix(['+', '-'])?;
    let (mut hours, mut mins) = (0, 0);
    let mut rest = number(rest, 2, 2, |n| hours = n)?;
    if minutes {
        if colon {
            rest = rest.strip_prefix(':')?;
        }
        rest = number(rest, 2, 2, |n| mins = n)?;
    }
    *offset = (hours <= 24 && mins < 60).then_some(sign * (hours * 60 + mins) * 60_000);
    offset.map(|_| rest)
}

/// RFC 3339 to milliseconds since 1970.
pub(crate) fn rfc3339_ms(text: &str) -> Option<i64> {
    let zone = Part::Zone { z: true, colon: true, minutes: true };
    let dash = || Part::Literal("-".to_owned());
    let colon = || Part::Literal(":".to_owned());
    let parts = [
        Part::Year,
        dash(),
        Part::Month(2),
        dash(),
        Part::Day(2),
        Part::Literal("T".to_owned()),
        Part::Hour,
        colon(),
        Part::Minute(2),
        colon(),
        Part::Second(2),
        zone,
    ];
    parse(&parts, text, &Zone::UTC, 1970)
}

#[derive(Debug)]
struct Timestamp {
    field: String,
    target: String,
    layouts: Vec<Layout>,
    zone: Zone,
    ignore_missing: bool,
    ignore_failure: bool,
}

impl Timestamp {
    fn time(&self, doc: &mut Doc<'_>) -> Result<Option<i64>, String> {
        let year = match doc.get("@timestamp") {
            Ok(crate::doc::Got::Time(ms)) => {
                rfc3339(UnixMillis(ms)).get(..4).and_then(|y| y.parse().ok()).unwrap_or(1970)
            }
            _ => 1970,
        };
        let text = match doc.get(&self.field) {
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(None),
            Err(e) => return Err(format!("failed to get time field {}: {e}", self.field)),
            Ok(got) => match (got.text(), got.to_value()) {
                (Some(text), _) => to_text(text),
                (None, Value::Number(n)) => n.to_string(),
                (None, other) => {
                    return Err(format!("unexpected type {} for time field", pillion_event::go_type(&other)));
                }
            },
        };
        let parsed = self.layouts.iter().find_map(|layout| layout.parse(&text, &self.zone, year));
        parsed.map(Some).ok_or_else(|| format!("failed parsing time field {}", self.field))
    }
}

impl Action for Timestamp {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        match self.time(doc) {
            Ok(None) => {}
            Ok(Some(ms)) if self.target == "@timestamp" => doc.set_time(ms),
            Ok(Some(ms)) => doc.put(&self.target, Value::String(rfc3339(UnixMillis(ms))))?,
            Err(_) if self.ignore_failure => {}
            Err(e) => return Err(e),
        }
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let layouts: Vec<Layout> = required_list(s, "layouts")?.iter().map(|l| Layout::new(l)).collect();
    let zone = if s.has("timezone") { Zone::from_section(s)? } else { Zone::UTC };
    for (i, test) in s.strings("test")?.iter().enumerate() {
        if !layouts.iter().any(|l| l.parse(test, &zone, 2000).is_some()) {
            return Err(s.error(
                "test",
                format!("test {i} fits none of the layouts"),
                "correct the layouts or the test",
            ));
        }
    }
    Ok(Box::new(Timestamp {
        field: required(s, "field")?,
        target: s.str("target_field")?.filter(|t| !t.is_empty()).unwrap_or_else(|| "@timestamp".to_owned()),
        layouts,
        zone,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        ignore_failure: s.bool("ignore_failure")?.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::processed;
    use serde_json::json;

    #[test]
    fn layouts_as_go_reads_them() {
        for (layout, text, want) in [
            ("2006-01-02T15:04:05Z07:00", "2024-02-29T12:00:00+02:00", Some(1_709_200_800_000)),
            ("2006-01-02T15:04:05Z", "2020-01-02T03:04:05Z", Some(1_577_934_245_000)),
            ("2006-01-02T15:04:05.999Z07:00", "2020-01-02T03:04:05.678Z", Some(1_577_934_245_678)),
            ("2006-01-02 15:04:05,000", "2020-01-02 03:04:05,678", Some(1_577_934_245_678)),
            ("2006-01-02 15:04:05", "2020-01-02 03:04:05.6", Some(1_577_934_245_600)),
            ("02/Jan/2006:15:04:05 -0700", "02/Jan/2020:04:04:05 +0100", Some(1_577_934_245_000)),
            ("Mon Jan _2 15:04:05 MST 2006", "Thu Jan  2 03:04:05 UTC 2020", Some(1_577_934_245_000)),
            ("Jan 2 15:04:05", "Jan 2 03:04:05", Some(1_577_934_245_000)),
            ("January 2, 2006 3:04 PM", "January 2, 2020 3:04 PM", Some(1_577_977_440_000)),
            ("Jan 2 2006 15:04:05 MST", "Jan 2 2020 03:04:05 CET", Some(1_577_934_245_000)),
            ("Jan 2 2006 15:04:05 MST", "Jan 2 2020 03:04:05 GMT+3", Some(1_577_934_245_000)),
            ("Jan 2 2006 15:04:05 MST", "Jan 2 2020 03:04:05 +02", Some(1_577_934_245_000)),
            ("Jan 2 2006 15:04:05 MST", "Jan 2 2020 03:04:05 +0200", None),
            ("Jan 2 2006 15:04:05", "January 2 2020 03:04:05", None),
            ("Jan 2 2006 15:04:05", "Jan 2 2020 3:4:5", None),
            ("Jan 2 2006 15:4:5", "Jan 2 2020 3:4:5", Some(1_577_934_245_000)),
            ("January 2 2006 15:04:05", "Jan 2 2020 03:04:05", None),
            ("UNIX", "42", Some(42_000)),
            ("UNIX", "1.5", Some(1500)),
            ("UNIX_MS", "1500", Some(1500)),
            ("2006-01-02", "2023-02-29", None),
            ("2006-01-02", "2023-02-28 x", None),
            ("UNIX", "x", None),
        ] {
            assert_eq!(Layout::new(layout).parse(text, &Zone::UTC, 2020), want, "{layout}: {text}");
        }
    }

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "num": "42", "f": 1.5, "s": "x", "d": "2020-01-02 03:04"});
        for (options, path, want) in [
            ("field: num, layouts: [UNIX]", "/@timestamp", Some(json!(42_000))),
            ("field: f, layouts: [UNIX]", "/@timestamp", Some(json!(1500))),
            ("field: d, layouts: ['2006-01-02 15:04']", "/@timestamp", Some(json!(1_577_934_240_000_i64))),
            (
                "field: d, layouts: ['2006-01-02 15:04'], timezone: '+0200'",
                "/@timestamp",
                Some(json!(1_577_927_040_000_i64)),
            ),
            ("field: s, layouts: [UNIX]", "/@timestamp", None),
            ("field: zz, layouts: [UNIX]", "/@timestamp", None),
            ("field: num, target_field: t, layouts: [UNIX]", "/t", Some(json!("1970-01-01T00:00:42.000Z"))),
        ] {
            let got = processed(&format!("[{{timestamp: {{{options}}}}}]"), event.clone());
            assert_eq!(got.pointer(path), want.as_ref(), "{options}: {got}");
        }
    }
}
