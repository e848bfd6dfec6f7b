//! The proleptic Gregorian calendar, for whoever reads or writes dates.
//!
//! Comes in: days since 1970-01-01, or a date. Goes out: the other one. Both ways are Howard Hinnant's, from
//! "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the leap day is the last one.
//! Always holds: one is the inverse of the other for every day whose year has at most nine digits.
//! Tested below.

/// The months' names; their short forms are the first three letters.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The first three letters of a month's name; `month` is 1 to 12, what is beyond counts on around the year.
pub fn short_month(month: i64) -> &'static str {
    // `rem_euclid` keeps the index below 12, and no name is shorter than three letters.
    &MONTHS[(month - 1).rem_euclid(12) as usize][..3]
}

/// Year, month (1 to 12) and day of the month (1 to 31) of so many days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// Days since 1970-01-01 of a date; `month` is 1 to 12. A day beyond the month's end counts on into the next one.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// How many days a month has; `None` when it isn't 1 to 12.
pub fn days_in_month(year: i64, month: i64) -> Option<i64> {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (20_780, (2026, 11, 23)),
            (-719_162, (1, 1, 1)),
        ] {
            assert_eq!((civil_from_days(days), days_from_civil(date.0, date.1, date.2)), (date, days));
        }
    }

    #[test]
    fn every_day_comes_back_and_months_end_where_they_say() {
        for day in -800_000..800_000 {
            let (y, m, d) = civil_from_days(day);
            assert_eq!(days_from_civil(y, m, d), day);
            let last = days_in_month(y, m).unwrap();
            assert!((1..=last).contains(&d), "{y}-{m}-{d}");
            assert_eq!(civil_from_days(day + 1).2 == 1, d == last, "{y}-{m}-{d}");
        }
        assert_eq!((days_in_month(2026, 0), days_in_month(2026, 13)), (None, None));
    }
}
