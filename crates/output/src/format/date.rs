//! Date patterns as Beats' `dtfmt` has them (nearly Joda's): `yyyy.MM.dd`.
//!
//! Comes in: a pattern, then moments (always UTC). Goes out: text. Where Beats differs from Joda, Beats is followed: `e` is
//! 0 on Sundays, `h` and `k` are the hour plus one, a number is padded to at least its field's usual width as soon as
//! two letters are given. Facts: elastic/beats `libbeat/common/dtfmt/{fmt,builder,fields,util}.go`. Tested below with
//! upstream's table.

use pillion_world::calendar::MONTHS;

use crate::render::Civil;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DatePattern {
    elements: Vec<Element>,
    /// The pattern gives the same text for all moments within a multiple of this many milliseconds.
    pub(super) step_ms: i64,
}

#[derive(Clone, Debug, PartialEq)]
enum Element {
    Text(String),
    Number(Field, usize),
    TwoDigits(Field),
    Fraction(usize),
    Weekday { short: bool },
    Month { short: bool },
    HalfDay,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Year,
    WeekYear,
    Week,
    Weekday,
    DayOfYear,
    Month,
    Day,
    HourOfHalf,
    ClockHourOfHalf,
    Hour,
    ClockHour,
    Minute,
    Second,
}

const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;

impl DatePattern {
    /// Compiles a pattern; the error names what is wrong.
    pub(super) fn compile(pattern: &str) -> Result<DatePattern, String> {
        let mut elements: Vec<Element> = Vec::new();
        let mut step_ms = i64::MAX;
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let element = if c.is_ascii_alphabetic() {
                let len = rest.len() - rest.trim_start_matches(c).len();
                rest = &rest[len..];
                let (element, step) =
                    letter(c, len).ok_or_else(|| format!("`{c}` isn't a letter of a date pattern"))?;
                step_ms = step_ms.min(step);
                element
            } else if c == '\'' {
                let (text, after) = quoted(&rest[1..])?;
                rest = after;
                Element::Text(text.to_owned())
            } else {
                let (text, after) = rest.split_at(c.len_utf8());
                rest = after;
                Element::Text(text.to_owned())
            };
            match (elements.last_mut(), element) {
                (Some(Element::Text(last)), Element::Text(more)) => last.push_str(&more),
                (_, element) => elements.push(element),
            }
        }
        Ok(DatePattern { elements, step_ms })
    }

    /// Appends the moment.
    pub(super) fn write(&self, time_ms: i64, out: &mut Vec<u8>) {
        let t = Civil::from_unix_millis(time_ms);
        for element in &self.elements {
            match element {
                Element::Text(s) => out.extend_from_slice(s.as_bytes()),
                Element::Number(field, width) => {
                    out.extend_from_slice(format!("{:0width$}", field.of(&t)).as_bytes());
                }
                Element::TwoDigits(field) => {
                    out.extend_from_slice(format!("{:02}", field.of(&t).rem_euclid(100)).as_bytes());
                }
                Element::Fraction(digits) => {
                    let milli = format!("{:03}", t.milli);
                    out.extend(milli.bytes().chain(std::iter::repeat(b'0')).take(*digits));
                }
                Element::Weekday { short } => write_name(WEEKDAYS[t.weekday() as usize % 7], *short, out),
                Element::Month { short } => write_name(MONTHS[(t.month as usize - 1) % 12], *short, out),
                Element::HalfDay => out.extend_from_slice(if t.hour < 12 { b"AM" } else { b"PM" }),
            }
        }
    }
}

/// What a run of one letter means, and how long its text stays the same.
fn letter(c: char, len: usize) -> Option<(Element, i64)> {
    use Element::{Fraction, HalfDay, Number, Text, TwoDigits};
    // One letter is unpadded; more are padded to the field's usual width at least.
    let number = |field, width: usize| Number(field, if len == 1 { 1 } else { len.max(width) });
    Some(match c {
        'x' if len == 2 => (TwoDigits(Field::WeekYear), DAY),
        'x' => (number(Field::WeekYear, 4), DAY),
        'y' | 'Y' if len == 2 => (TwoDigits(Field::Year), DAY),
        'y' | 'Y' => (number(Field::Year, 4), DAY),
        'w' => (number(Field::Week, 2), DAY),
        'e' => (number(Field::Weekday, 1), DAY),
        'E' => (Element::Weekday { short: len < 4 }, DAY),
        'D' => (number(Field::DayOfYear, 3), DAY),
        'M' if len >= 3 => (Element::Month { short: len < 4 }, DAY),
        'M' => (number(Field::Month, 2), DAY),
        'd' => (number(Field::Day, 2), DAY),
        'a' => (HalfDay, HOUR),
        'K' => (number(Field::HourOfHalf, 2), HOUR),
        'h' => (number(Field::ClockHourOfHalf, 2), HOUR),
        'H' => (number(Field::Hour, 2), HOUR),
        'k' => (number(Field::ClockHour, 2), HOUR),
        'm' => (number(Field::Minute, 2), 60_000),
        's' => (number(Field::Second, 2), 1000),
        'S' => (Fraction(len), 1),
        // As many digits as are known, at least three: times are in milliseconds here.
        'f' => (Fraction(len.min(3)), 1),
        'z' => (Text("+00:00".to_owned()), i64::MAX),
        _ => return None,
    })
}

/// What stands between quotes, given what follows the first one; two quotes are one quote.
fn quoted(after: &str) -> Result<(&str, &str), String> {
    let end = after.find('\'').ok_or("a quote isn't closed")?;
    let tail = &after[end + 1..];
    Ok(match end {
        0 => (&after[..1], tail),
        // `'it''s'`: the quote belongs to the text, and the second one opens the next piece.
        _ if tail.starts_with('\'') => (&after[..=end], tail),
        _ => (&after[..end], tail),
    })
}

impl Field {
    fn of(self, t: &Civil) -> i64 {
        i64::from(match self {
            Field::Year => return t.year,
            Field::WeekYear => return t.iso_week().0,
            Field::Week => t.iso_week().1,
            Field::Weekday => t.weekday() % 7,
            Field::DayOfYear => t.day_of_year(),
            Field::Month => t.month,
            Field::Day => t.day,
            Field::HourOfHalf => t.hour % 12,
            Field::ClockHourOfHalf => t.hour % 12 + 1,
            Field::Hour => t.hour,
            Field::ClockHour => t.hour + 1,
            Field::Minute => t.minute,
            Field::Second => t.second,
        })
    }
}

/// Begins with Sunday.
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn write_name(name: &str, short: bool, out: &mut Vec<u8>) {
    let bytes = name.as_bytes();
    out.extend_from_slice(if short { bytes.get(..3).unwrap_or(bytes) } else { bytes });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(ms: i64, pattern: &str) -> String {
        let mut out = Vec::new();
        DatePattern::compile(pattern).unwrap().write(ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn upstreams_table() {
        let year_6 = -61_959_513_600_000;
        let (august, new_year, eve) = (1_154_390_400_000, 1_420_070_400_000, 1_419_984_000_000);
        let (morning, evening) = (946_713_924_000, 946_757_124_000);
        for (ms, pattern, want) in [
            (year_6, "y.M.d", "6.8.1"),
            (year_6, "yy.MM.dd", "06.08.01"),
            (august, "y.M.d", "2006.8.1"),
            (august, "yy.MM.dd", "06.08.01"),
            (august, "yyy.MMM.dd", "2006.Aug.01"),
            (august, "yyyy.MMMM.d", "2006.August.1"),
            (august, "yyyyyy.MM.ddd", "002006.08.001"),
            (august, "YYYY.MM.dd", "2006.08.01"),
            (august, "D DD", "213 213"),
            (new_year, "D DD", "1 001"),
            (new_year, "xx.ww.e", "15.01.4"),
            (eve, "xx.ww.e", "15.01.3"),
            (new_year, "xx.w.E", "15.1.Thu"),
            (eve, "xxxx.w.EEEE", "2015.1.Wednesday"),
            (morning, "K:m:s a", "8:5:24 AM"),
            (morning, "KK:mm:ss aa", "08:05:24 AM"),
            (evening, "K:m:s a", "8:5:24 PM"),
            (evening, "hh:mm:ss aa", "09:05:24 PM"),
            (evening, "H:m:s a", "20:5:24 PM"),
            (evening, "kk:mm:ss aa", "21:05:24 PM"),
            (1_123, "S SS SSS SSSS", "1 12 123 1230"),
            (1_123, "f fff ffffff", "1 123 123"),
            (0, "--=++,_!/?\\[]{}@#$%^&*()", "--=++,_!/?\\[]{}@#$%^&*()"),
            (0, "'plain text'", "plain text"),
            (0, "'plain' '' 'text'", "plain ' text"),
            (0, "'plain '' text'", "plain ' text"),
            (1_483_329_967_123, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "2017-01-02T04:06:07.123Z"),
            (1_483_329_967_123, "HH:mmz", "04:06+00:00"),
            // A Sunday.
            (3 * DAY, "e EEE", "0 Sun"),
        ] {
            assert_eq!(format(ms, pattern), want, "{pattern}");
        }
        assert!(DatePattern::compile("yyyy.G").is_err());
        assert!(DatePattern::compile("'open").is_err());
    }

    #[test]
    fn knows_how_long_its_text_stays_the_same() {
        for (pattern, step) in [
            ("yyyy.MM.dd", DAY),
            ("xxxx.ww", DAY),
            ("yyyy.MM.dd.HH", HOUR),
            ("HH:mm", 60_000),
            ("ss", 1000),
            ("SSS", 1),
            ("'x'", i64::MAX),
        ] {
            assert_eq!(DatePattern::compile(pattern).unwrap().step_ms, step, "{pattern}");
        }
    }
}
