//! Dates as Filebeat's files write them: RFC 3339 in text, and pairs of numbers in states.
//!
//! Tested below with dates from real registries.

use pillion_world::calendar::days_from_civil;

const NS: i128 = 1_000_000_000;

/// Nanoseconds since 1970 of `2026-11-23T18:40:23.656789+01:00`; `None` when it isn't one.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i128> {
    let b = text.as_bytes();
    let num = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = b.get(range)?;
        digits.iter().all(u8::is_ascii_digit).then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, any: &[u8]| b.get(at).is_some_and(|c| any.contains(c));
    let seps = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (month, day) = (num(5..7)?, num(8..10)?);
    if !seps || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let secs =
        days_from_civil(num(0..4)?, month, day) * 86_400 + num(11..13)? * 3600 + num(14..16)? * 60 + num(17..19)?;
    let mut at = 19;
    let mut nanos = 0;
    if is(at, b".") {
        at += 1;
        let mut unit = NS / 10;
        while let Some(d) = b.get(at).filter(|d| d.is_ascii_digit()) {
            nanos += i128::from(d - b'0') * unit;
            unit /= 10;
            at += 1;
        }
    }
    let zone = match b.get(at)? {
        b'Z' | b'z' => 0,
        sign @ (b'+' | b'-') => {
            let minutes = num(at + 1..at + 3)? * 60 + num(at + 4..at + 6)?;
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    Some(i128::from(secs - zone) * NS + nanos)
}

/// Nanoseconds since 1970 of the pair `[x, seconds]`: the low 32 bits of x are the nanoseconds, seconds are 64 bits in
/// two's complement that may be written without a sign (18446744011573954816 is year 1, Go's zero time).
pub(crate) fn from_pair(x: u64, seconds: u64) -> i128 {
    i128::from(seconds as i64) * NS + i128::from(x as u32)
}

/// The pair `[nanoseconds, seconds]`.
pub(crate) fn to_pair(ns: i128) -> (u32, u64) {
    let seconds = i64::try_from(ns.div_euclid(NS)).unwrap_or(0);
    (ns.rem_euclid(NS) as u32, seconds as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-23T18:40:23.656Z", 1_795_459_223_656_000_000),
            ("2026-11-23T19:40:23.656789123+01:00", 1_795_459_223_656_789_123),
            ("2017-06-01T02:03:04.5-05:30", 1_496_302_384_500_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800 * NS),
        ] {
            assert_eq!(parse_rfc3339(text), Some(ns), "{text}");
        }
        for text in
            ["", "2026", "2026-11-23", "2026-13-01T00:00:00Z", "2026-11-23T18:40:23", "2026-11-23T18:40:23+0", "é"]
        {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn pairs() {
        assert_eq!(from_pair(658_707_069, 1_795_459_224), 1_795_459_224_658_707_069);
        assert_eq!(from_pair(0, 18_446_744_011_573_954_816), -62_135_596_800 * NS);
        assert_eq!(from_pair(0xffff_ffff_0000_0001, 1), NS + 1);
        for ns in [0, 1, NS, -1, -62_135_596_800 * NS, 1_795_459_224_658_707_069] {
            let (x, s) = to_pair(ns);
            assert_eq!(from_pair(u64::from(x), s), ns);
        }
    }
}
