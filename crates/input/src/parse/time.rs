//! Timestamps in lines.
//!
//! Comes in: text. Goes out: milliseconds since 1970, or nothing. Fractions beyond milliseconds are cut off, as events
//! carry milliseconds. Tested below.

use pillion_world::calendar::{days_from_civil, days_in_month};

/// How a timestamp says its distance to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    /// `Z`.
    Utc,
    /// `+01:00`.
    Colon,
    /// `+0100`.
    Plain,
}

/// RFC 3339, as Go's `time.RFC3339` takes it.
pub(super) fn rfc3339(text: &[u8]) -> Option<i64> {
    parse(text).filter(|(.., zone)| *zone != Zone::Plain).map(|(ms, ..)| ms)
}

/// What Filebeat 7 to 9 take as `@timestamp`: RFC 3339, or the same with milliseconds and `+0100`.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    parse(text).filter(|(_, digits, zone)| *zone != Zone::Plain || *digits == 3).map(|(ms, ..)| ms)
}

/// What 5.6 takes as `@timestamp`: milliseconds and `Z`.
pub(super) fn timestamp_v5(text: &[u8]) -> Option<i64> {
    parse(text).filter(|(_, digits, zone)| *zone == Zone::Utc && *digits == 3).map(|(ms, ..)| ms)
}

/// The time, how many digits its fraction has, and how it says its zone.
fn parse(text: &[u8]) -> Option<(i64, usize, Zone)> {
    let (head, mut rest) = text.split_at_checked(19)?;
    let form = b"0000-00-00T00:00:00";
    let fits = |(b, f): (&u8, &u8)| if *f == b'0' { b.is_ascii_digit() } else { b == f };
    if !head.iter().zip(form).all(fits) {
        return None;
    }
    let (year, month, day) = (number(&head[..4])?, number(&head[5..7])?, number(&head[8..10])?);
    let (hour, minute, second) = (number(&head[11..13])?, number(&head[14..16])?, number(&head[17..])?);
    if hour > 23 || minute > 59 || second > 59 || !(1..=days_in_month(year, month)?).contains(&day) {
        return None;
    }
    let mut ms = (((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000;
    let mut digits = 0;
    if let Some((b'.' | b',', fraction)) = rest.split_first() {
        digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        let (fraction, zone) = fraction.split_at(digits);
        let scale = [0, 100, 10, 1][digits.min(3)];
        ms += number(&fraction[..digits.min(3)])? * scale;
        rest = zone;
        if digits == 0 {
            return None;
        }
    }
    let (sign, zone) = rest.split_first()?;
    let (hours, minutes, kind) = match (sign, zone) {
        (b'Z', []) => return Some((ms, digits, Zone::Utc)),
        (b'+' | b'-', [a, b, b':', c, d]) => (number(&[*a, *b])?, number(&[*c, *d])?, Zone::Colon),
        (b'+' | b'-', [a, b, c, d]) => (number(&[*a, *b])?, number(&[*c, *d])?, Zone::Plain),
        _ => return None,
    };
    if hours > 24 || minutes > 59 {
        return None;
    }
    let distance = (hours * 60 + minutes) * 60_000;
    Some((if *sign == b'+' { ms - distance } else { ms + distance }, digits, kind))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, RFC 3339, `@timestamp` of 7 to 9, `@timestamp` of 5.6.
    type Case = (&'static str, Option<i64>, Option<i64>, Option<i64>);

    #[test]
    fn times() {
        let cases: &[Case] = &[
            ("1970-01-01T00:00:00Z", Some(0), Some(0), None),
            ("1970-01-01T00:00:00.001Z", Some(1), Some(1), Some(1)),
            ("2017-09-12T22:32:21.212861448Z", Some(1_505_255_541_212), Some(1_505_255_541_212), None),
            ("2024-02-29T12:00:00+02:00", Some(1_709_200_800_000), Some(1_709_200_800_000), None),
            ("2024-02-29T12:00:00.5-02:00", Some(1_709_215_200_500), Some(1_709_215_200_500), None),
            ("2024-02-29T12:00:00.000+0200", None, Some(1_709_200_800_000), None),
            ("2024-02-29T12:00:00+0200", None, None, None),
            ("2023-02-29T12:00:00Z", None, None, None),
            ("1969-12-31T23:59:59.999Z", Some(-1), Some(-1), Some(-1)),
            ("2024-13-01T00:00:00Z", None, None, None),
            ("2024-01-01 00:00:00Z", None, None, None),
            ("2024-01-01T00:00:00", None, None, None),
            ("2024-01-01T00:00:00.Z", None, None, None),
            ("2024-01-01T24:00:00Z", None, None, None),
            ("", None, None, None),
        ];
        for (text, a, b, c) in cases {
            let t = text.as_bytes();
            assert_eq!((rfc3339(t), timestamp(t), timestamp_v5(t)), (*a, *b, *c), "{text}");
        }
    }
}
