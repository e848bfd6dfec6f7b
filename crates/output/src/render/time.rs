//! Moments as calendar dates (UTC), and the time stamp that events carry.
//!
//! Comes in: milliseconds since 1970. Goes out: `2017-10-25T05:32:23.693Z`. Tested below against known dates and by the
//! way back.

use pillion_world::calendar::civil_from_days;

/// A moment of the proleptic Gregorian calendar, UTC, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// The year; may be negative.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
    /// 0 to 999.
    pub milli: u32,
    /// Days since 1970-01-01.
    pub days: i64,
}

impl Civil {
    /// The moment that lies `ms` milliseconds after 1970-01-01T00:00:00Z.
    pub fn from_unix_millis(ms: i64) -> Civil {
        let days = ms.div_euclid(86_400_000);
        let of_day = ms.rem_euclid(86_400_000) as u32;
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month: month as u32,
            day: day as u32,
            hour: of_day / 3_600_000,
            minute: of_day / 60_000 % 60,
            second: of_day / 1000 % 60,
            milli: of_day % 1000,
            days,
        }
    }

    /// Monday = 1 to Sunday = 7.
    pub fn weekday(&self) -> u32 {
        // 1970-01-01 was a Thursday.
        (self.days + 3).rem_euclid(7) as u32 + 1
    }

    /// 1 to 366.
    pub fn day_of_year(&self) -> u32 {
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let before = BEFORE.get(self.month as usize - 1).copied().unwrap_or(0);
        before + self.day + u32::from(self.month > 2 && is_leap(self.year))
    }

    /// The ISO 8601 year and week (1 to 53).
    pub fn iso_week(&self) -> (i64, u32) {
        let week = (i64::from(self.day_of_year()) - i64::from(self.weekday()) + 10) / 7;
        if week < 1 {
            (self.year - 1, weeks_of(self.year - 1))
        } else if week as u32 > weeks_of(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week as u32)
        }
    }
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn weeks_of(year: i64) -> u32 {
    // A year has 53 weeks when it ends on a Thursday, or the one before ends on a Wednesday.
    let ends_on = |y: i64| (y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400)).rem_euclid(7);
    if ends_on(year) == 4 || ends_on(year - 1) == 3 { 53 } else { 52 }
}

/// Appends the form in which events carry a time, such as `2017-10-25T05:32:23.693Z`.
pub fn write_timestamp(ms: i64, out: &mut Vec<u8>) {
    let t = Civil::from_unix_millis(ms);
    let mut s = *b"0000-00-00T00:00:00.000Z";
    let mut digits = |at: usize, len: usize, mut n: u32| {
        for place in s[at..at + len].iter_mut().rev() {
            *place = b'0' + (n % 10) as u8;
            n /= 10;
        }
    };
    let plain_year = u32::try_from(t.year).ok().filter(|y| *y <= 9999);
    digits(0, 4, plain_year.unwrap_or(0));
    digits(5, 2, t.month);
    digits(8, 2, t.day);
    digits(11, 2, t.hour);
    digits(14, 2, t.minute);
    digits(17, 2, t.second);
    digits(20, 3, t.milli);
    if plain_year.is_some() {
        out.extend_from_slice(&s);
    } else {
        out.extend_from_slice(t.year.to_string().as_bytes());
        out.extend_from_slice(&s[4..]);
    }
}

/// Appends a number in decimal.
pub(crate) fn write_u64(mut n: u64, out: &mut Vec<u8>) {
    let mut buf = [0; 20];
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&buf[at..]);
}

/// Appends a number in lower-case hexadecimal, without leading zeros.
pub(crate) fn write_hex(mut n: u64, out: &mut Vec<u8>) {
    let mut buf = [0; 16];
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b"0123456789abcdef"[(n & 15) as usize];
        n >>= 4;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&buf[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(ms: i64) -> String {
        let mut out = Vec::new();
        write_timestamp(ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_508_909_543_693, "2017-10-25T05:32:23.693Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_459_223_656, "2026-11-23T18:40:23.656Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(ms), want);
        }
        stamp(i64::MIN);
        stamp(i64::MAX);
    }

    #[test]
    fn weeks_and_days() {
        // 2005-01-01 is in the week 53 of 2004; 2008-12-29 in the week 1 of 2009; 2020 has 53 weeks.
        for (ms, weekday, of_year, week) in [
            (1_104_537_600_000, 6, 1, (2004, 53)),
            (1_230_508_800_000, 1, 364, (2009, 1)),
            (1_609_372_800_000, 4, 366, (2020, 53)),
            (1_609_459_200_000, 5, 1, (2020, 53)),
        ] {
            let c = Civil::from_unix_millis(ms);
            assert_eq!((c.weekday(), c.day_of_year(), c.iso_week()), (weekday, of_year, week), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other(days in -800_000i64..3_000_000) {
            let (a, b) = (Civil::from_unix_millis(days * 86_400_000), Civil::from_unix_millis((days + 1) * 86_400_000));
            let next = (a.year, a.month, a.day + 1) == (b.year, b.month, b.day)
                || (a.day >= 28 && b.day == 1 && (a.year, a.month + 1) == (b.year, b.month))
                || (a.month == 12 && a.day == 31 && (b.year, b.month, b.day) == (a.year + 1, 1, 1));
            prop_assert!(next, "{a:?} {b:?}");
            prop_assert_eq!(a.weekday() % 7 + 1, b.weekday());
            let (w, v) = (a.iso_week(), b.iso_week());
            prop_assert_eq!(w == v, b.weekday() != 1, "{:?} {:?}", a, b);
        }

        #[test]
        fn numbers(n: u64) {
            let mut out = Vec::new();
            write_u64(n, &mut out);
            out.push(b' ');
            write_hex(n, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{n} {n:x}"));
        }
    }
}
