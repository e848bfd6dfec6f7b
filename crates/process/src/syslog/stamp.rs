//! Times as syslog messages have them, and Go's words for those that are none.
//!
//! Comes in: a text that looks like a time. Goes out: a [`Civil`], or what Go's `time.Parse` says of it, as that becomes
//! the event's `error.message`. Tested below.

use pillion_world::calendar::{MONTHS, days_from_civil, days_in_month};

/// A time on a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Civil {
    /// `None` = the text had none.
    pub(super) year: Option<i64>,
    /// 1 to 12; days beyond a month's end are those of the next one.
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) ms: i64,
    /// Milliseconds ahead of UTC; `None` = the text doesn't say.
    pub(super) ahead_ms: Option<i64>,
}

impl Civil {
    /// Milliseconds since 1970 as if it were UTC; `year`: when it has none.
    pub(super) fn local_ms(&self, year: i64) -> i64 {
        let days = days_from_civil(self.year.unwrap_or(year), self.month, 1) + self.day - 1;
        (((days * 24 + self.hour) * 60 + self.minute) * 60 + self.second) * 1000 + self.ms
    }
}

/// One element of a layout.
enum Part {
    Literal(&'static str),
    Year,
    Month,
    MonthName,
    /// With a zero or without.
    LooseDay,
    Day,
    Hour,
    Minute,
    Second,
    Zone,
}

impl Part {
    /// As it stands in the layout.
    fn shown(&self) -> &'static str {
        match self {
            Part::Literal(text) => text,
            Part::Year => "2006",
            Part::Month => "01",
            Part::MonthName => "Jan",
            Part::LooseDay => "_2",
            Part::Day => "02",
            Part::Hour => "15",
            Part::Minute => "04",
            Part::Second => "05",
            Part::Zone => "Z07:00",
        }
    }
}

/// `Oct 11 22:14:15`.
pub(super) fn bsd(text: &str) -> Result<Civil, String> {
    use Part::{Hour, Literal, LooseDay, Minute, MonthName, Second};
    let colon = Literal(":");
    let parts = [MonthName, Literal(" "), LooseDay, Literal(" "), Hour, Literal(":"), Minute, colon, Second];
    parse("Jan _2 15:04:05", &parts, text)
}

/// `2003-10-11T22:14:15.003Z`.
pub(super) fn rfc3339(text: &str) -> Result<Civil, String> {
    use Part::{Day, Hour, Literal, Minute, Month, Second, Year, Zone};
    let parts = [
        Year,
        Literal("-"),
        Month,
        Literal("-"),
        Day,
        Literal("T"),
        Hour,
        Literal(":"),
        Minute,
        Literal(":"),
        Second,
        Zone,
    ];
    parse("2006-01-02T15:04:05.999999999Z07:00", &parts, text)
}

/// Why a part doesn't fit.
enum Wrong {
    /// It isn't there.
    Form,
    /// Its value can't be.
    Range(&'static str),
}

fn parse(layout: &str, parts: &[Part], text: &str) -> Result<Civil, String> {
    let about = |what: &str| format!("parsing time {text:?} as {layout:?}: {what}");
    let (mut civil, mut rest) = (Civil::default(), text);
    for part in parts {
        rest = match take(part, rest, &mut civil) {
            Ok(after) => after,
            Err(Wrong::Form) => return Err(about(&format!("cannot parse {rest:?} as {:?}", part.shown()))),
            Err(Wrong::Range(what)) => {
                return Err(format!("parsing time {text:?}: {what} out of range"));
            }
        };
    }
    if !rest.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {rest:?}"));
    }
    // A day of no year may be the leap day.
    if !(1..=days_in_month(civil.year.unwrap_or(2000), civil.month).unwrap_or(0)).contains(&civil.day) {
        return Err(format!("parsing time {text:?}: day out of range"));
    }
    Ok(civil)
}

/// Takes a part off the text.
fn take<'t>(part: &Part, text: &'t str, civil: &mut Civil) -> Result<&'t str, Wrong> {
    let within = |value: i64, most: i64, what| if value <= most { Ok(value) } else { Err(Wrong::Range(what)) };
    match part {
        Part::Literal(" ") => match text.trim_start_matches(' ') {
            after if after.len() == text.len() && !text.is_empty() => Err(Wrong::Form),
            after => Ok(after),
        },
        Part::Literal(literal) => text.strip_prefix(literal).ok_or(Wrong::Form),
        Part::Year => {
            let (year, rest) = number(text, 4, 4)?;
            civil.year = Some(year);
            Ok(rest)
        }
        Part::Month => {
            let (month, rest) = number(text, 2, 2)?;
            civil.month = if month == 0 { Err(Wrong::Range("month")) } else { within(month, 12, "month") }?;
            Ok(rest)
        }
        Part::MonthName => {
            let named =
                |name: &str| text.get(..3).zip(name.get(..3)).is_some_and(|(t, short)| t.eq_ignore_ascii_case(short));
            let month = MONTHS.iter().position(|name| named(name)).ok_or(Wrong::Form)?;
            civil.month = month as i64 + 1;
            Ok(text.get(3..).unwrap_or_default())
        }
        Part::LooseDay | Part::Day => {
            let (day, rest) = number(text, if matches!(part, Part::Day) { 2 } else { 1 }, 2)?;
            civil.day = day;
            Ok(rest)
        }
        Part::Hour => {
            let (hour, rest) = number(text, 1, 2)?;
            civil.hour = within(hour, 23, "hour")?;
            Ok(rest)
        }
        Part::Minute => {
            let (minute, rest) = number(text, 2, 2)?;
            civil.minute = within(minute, 59, "minute")?;
            Ok(rest)
        }
        Part::Second => {
            let (second, rest) = number(text, 2, 2)?;
            civil.second = within(second, 59, "second")?;
            let (ms, rest) = fraction(rest);
            civil.ms = ms;
            Ok(rest)
        }
        Part::Zone => {
            let (ahead, rest) = zone(text)?;
            civil.ahead_ms = Some(ahead);
            Ok(rest)
        }
    }
}

/// A number of so many digits, and what follows it.
fn number(text: &str, least: usize, most: usize) -> Result<(i64, &str), Wrong> {
    let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits).filter(|_| digits >= least).ok_or(Wrong::Form)?;
    Ok((number.parse().map_err(|_| Wrong::Form)?, rest))
}

/// The milliseconds of a fraction, if there is one.
pub(super) fn fraction(text: &str) -> (i64, &str) {
    let Some(digits) = text.strip_prefix(['.', ',']) else { return (0, text) };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    let Some((digits, rest)) = digits.split_at_checked(len).filter(|_| len > 0) else { return (0, text) };
    (thousandths(digits.as_bytes()), rest)
}

/// The digits behind a decimal point as thousandths; what is finer is cut off.
pub(super) fn thousandths(digits: &[u8]) -> i64 {
    let digit = |at: usize| digits.get(at).map_or(0, |b| i64::from(b.wrapping_sub(b'0')));
    digit(0) * 100 + digit(1) * 10 + digit(2)
}

fn zone(text: &str) -> Result<(i64, &str), Wrong> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Ok((0, rest));
    }
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'+') => (1, text.get(1..).unwrap_or_default()),
        Some(b'-') => (-1, text.get(1..).unwrap_or_default()),
        _ => return Err(Wrong::Form),
    };
    let (hours, rest) = number(rest, 2, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(':').ok_or(Wrong::Form)?, 2, 2)?;
    if hours > 24 || minutes > 59 {
        return Err(Wrong::Range("time zone offset"));
    }
    Ok((sign * (hours * 60 + minutes) * 60_000, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, year, want) in [
            ("Oct 11 22:14:15", 2003, Ok(1_065_910_455_000)),
            ("oct  1 22:14:15", 2003, Ok(1_065_046_455_000)),
            ("Sep 01 02:03:04", 2026, Ok(1_788_228_184_000)),
            // No leap year: the day after.
            ("Feb 29 00:00:00", 2026, Ok(1_772_323_200_000)),
            ("Feb 30 00:00:00", 2026, Err("parsing time \"Feb 30 00:00:00\": day out of range")),
            (
                "Foo 11 22:14:15",
                2026,
                Err(
                    "parsing time \"Foo 11 22:14:15\" as \"Jan _2 15:04:05\": cannot parse \"Foo 11 22:14:15\" as \"Jan\"",
                ),
            ),
            ("Oct 11 24:14:15", 2026, Err("parsing time \"Oct 11 24:14:15\": hour out of range")),
        ] {
            assert_eq!(bsd(text).map(|c| c.local_ms(year)), want.map_err(str::to_owned), "{text}");
        }
        let layout = "2006-01-02T15:04:05.999999999Z07:00";
        for (text, want) in [
            ("2003-10-11T22:14:15.003Z", Ok((1_065_910_455_003, 0))),
            ("2003-08-24T05:14:15.000003-07:00", Ok((1_061_702_055_000, -25_200_000))),
            (
                "2003-10-11T22:14:15",
                Err(format!("parsing time \"2003-10-11T22:14:15\" as {layout:?}: cannot parse \"\" as \"Z07:00\"")),
            ),
            ("13", Err(format!("parsing time \"13\" as {layout:?}: cannot parse \"13\" as \"2006\""))),
            ("2003-10-11T22:14:15Zx", Err("parsing time \"2003-10-11T22:14:15Zx\": extra text: \"x\"".to_owned())),
            ("2003-13-11T22:14:15Z", Err("parsing time \"2003-13-11T22:14:15Z\": month out of range".to_owned())),
        ] {
            assert_eq!(rfc3339(text).map(|c| (c.local_ms(0), c.ahead_ms.unwrap())), want, "{text}");
        }
    }
}
