//! Time zones by their names, as Filebeat's `timezone` has them.
//!
//! Comes in: `Local`, `America/New_York`, `+0200`. Goes out: a [`Zone`] that tells which moment a clock on a wall there
//! shows. Always holds: the rules are read once, from the machine's zoneinfo files; a zone that can't be found is refused
//! when the configuration is read. Otherwise than Filebeat, no such files are in the program.
//!
//! Tested below.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use pillion_config::{Error, Section};
use pillion_world::World;
use pillion_world::calendar::civil_from_days;

/// Where systems keep the rules.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo"];

/// A larger file isn't one of them; bytes.
const FILE_LIMIT: usize = 1 << 20;

/// How far clocks on walls are from UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// The same all year: milliseconds to add to UTC.
    Fixed(i64),
    Rules(TimeZone),
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone(Kind::Fixed(0));

    /// So many milliseconds ahead of UTC.
    pub const fn fixed(ahead_ms: i64) -> Zone {
        Zone(Kind::Fixed(ahead_ms))
    }

    /// The option `timezone` of a section: the machine's own zone when there is none.
    ///
    /// # Errors
    /// A zone whose rules aren't here.
    pub fn from_section(s: &Section<'_>) -> Result<Zone, Error> {
        const KEY: &str = "timezone";
        let world = World::real();
        let Some(name) = s.str(KEY)? else { return Ok(Zone::local(&world)) };
        Zone::named(&world, &name).ok_or_else(|| {
            s.error(
                KEY,
                format!("{} isn't a time zone whose rules this machine has", s.shown(KEY)),
                "give a distance to UTC in quotes, such as \"+0200\", or install the zoneinfo files (often the package tzdata)",
            )
        })
    }

    /// The zone of this name, `None` when it isn't known here.
    pub fn named(world: &World, name: &str) -> Option<Zone> {
        match name {
            "" | "UTC" | "Etc/UTC" | "GMT" | "Z" => return Some(Zone::UTC),
            "Local" => return Some(Zone::local(world)),
            _ => {}
        }
        if let Some(fixed) = fixed(name) {
            return Some(fixed);
        }
        let is_name = |c: u8| c.is_ascii_alphanumeric() || b"_-+/".contains(&c);
        if name.starts_with('/') || !name.bytes().all(is_name) {
            return None;
        }
        FOLDERS.iter().find_map(|folder| read(world, &Path::new(folder).join(name)))
    }

    /// The machine's own: `TZ`, else `/etc/localtime`, else UTC.
    pub(crate) fn local(world: &World) -> Zone {
        let named = match std::env::var("TZ") {
            Err(_) => read(world, Path::new("/etc/localtime")),
            Ok(name) => match name.trim_start_matches(':') {
                path if path.starts_with('/') => read(world, &PathBuf::from(path)),
                "Local" => None,
                name => Zone::named(world, name),
            },
        };
        named.unwrap_or(Zone::UTC)
    }

    /// The moment at which clocks there show this time (milliseconds since 1970 as if it were UTC). Of a time that comes
    /// twice it is the earlier moment, of one that is left out a moment about then.
    pub fn to_utc(&self, local_ms: i64) -> i64 {
        match &self.0 {
            Kind::Fixed(ahead) => local_ms.saturating_sub(*ahead),
            Kind::Rules(rules) => {
                let moment = Timestamp::from_millisecond(local_ms).and_then(|wall| {
                    let wall = Offset::UTC.to_datetime(wall);
                    rules.to_timestamp(wall)
                });
                // A time thousands of years from now: nobody can say.
                moment.map_or(local_ms, Timestamp::as_millisecond)
            }
        }
    }

    /// The year there at a moment (milliseconds since 1970).
    pub fn year(&self, ms: i64) -> i64 {
        let ahead = self.ahead_ms(ms);
        civil_from_days(ms.saturating_add(ahead).div_euclid(86_400_000)).0
    }

    /// Whether clocks there are called so (`CET`, `CEST`) in the year about a time; no name is any zone's.
    pub(crate) fn has_name(&self, name: &str, ms: i64) -> bool {
        const HALF_A_YEAR: i64 = 183 * 86_400_000;
        let called = |ms: i64| self.at(ms).1 == name;
        name.is_empty()
            || called(ms)
            || called(ms.saturating_sub(HALF_A_YEAR))
            || called(ms.saturating_add(HALF_A_YEAR))
    }

    /// How many minutes its clocks are ahead of UTC at a moment (milliseconds since 1970), and what this is called: `CET`.
    pub(crate) fn at(&self, ms: i64) -> (i64, String) {
        let name = match (&self.0, Timestamp::from_millisecond(ms)) {
            (Kind::Rules(rules), Ok(moment)) => rules.to_offset_info(moment).abbreviation().to_owned(),
            _ => "UTC".to_owned(),
        };
        (self.ahead_ms(ms) / 60_000, name)
    }

    fn ahead_ms(&self, ms: i64) -> i64 {
        match &self.0 {
            Kind::Fixed(ahead) => *ahead,
            Kind::Rules(rules) => {
                let moment = Timestamp::from_millisecond(ms);
                moment.map_or(0, |moment| i64::from(rules.to_offset(moment).seconds()) * 1000)
            }
        }
    }
}

fn read(world: &World, path: &Path) -> Option<Zone> {
    let bytes = world.fs.read(path, FILE_LIMIT).ok()?;
    TimeZone::tzif("", &bytes).ok().map(|rules| Zone(Kind::Rules(rules)))
}

/// `+02`, `+0200`, `+02:00`.
fn fixed(text: &str) -> Option<Zone> {
    let (sign, rest) = match text.as_bytes() {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let two = |tens: u8, ones: u8| {
        let digit = |b: u8| b.is_ascii_digit().then(|| i64::from(b - b'0'));
        Some(digit(tens)? * 10 + digit(ones)?)
    };
    let (hours, minutes) = match *rest {
        [a, b] => (two(a, b)?, 0),
        [a, b, c, d] | [a, b, b':', c, d] => (two(a, b)?, two(c, d)?),
        _ => return None,
    };
    (hours <= 24 && minutes < 60).then(|| Zone::fixed(sign * (hours * 60 + minutes) * 60_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn distances_to_utc() {
        let world = World::real();
        for (name, want) in [
            ("+02", Some(2 * HOUR)),
            ("+0200", Some(2 * HOUR)),
            ("+02:00", Some(2 * HOUR)),
            ("-0730", Some(-7 * HOUR - HOUR / 2)),
            ("UTC", Some(0)),
            ("", Some(0)),
            ("0200", None),
            ("+2", None),
            ("+0260", None),
            ("+25", None),
            ("../../etc/passwd", None),
            ("/etc/localtime", None),
            ("No/Where", None),
        ] {
            assert_eq!(Zone::named(&world, name), want.map(Zone::fixed), "{name}");
        }
    }

    /// A zone in the form of RFC 9636 whose rules are in its footer alone.
    fn berlin() -> Zone {
        let mut bytes = Vec::new();
        for _ in 0..2 {
            bytes.extend_from_slice(b"TZif2");
            bytes.extend_from_slice(&[0; 15]);
            for count in [0_u32, 0, 0, 0, 1, 4] {
                bytes.extend_from_slice(&count.to_be_bytes());
            }
            bytes.extend_from_slice(&3600_u32.to_be_bytes());
            bytes.extend_from_slice(b"\0\0CET\0");
        }
        bytes.extend_from_slice(b"\nCET-1CEST,M3.5.0,M10.5.0/3\n");
        Zone(Kind::Rules(TimeZone::tzif("", &bytes).unwrap()))
    }

    #[test]
    fn summer_and_winter() {
        let zone = berlin();
        let winter = 1_767_225_600_000; // 2026-01-01T00:00:00Z
        let summer = 1_782_864_000_000; // 2026-07-01T00:00:00Z
        assert_eq!((zone.to_utc(winter), zone.to_utc(summer)), (winter - HOUR, summer - 2 * HOUR));
        assert_eq!((zone.year(winter - HOUR), zone.year(winter - HOUR - 1)), (2026, 2025));
        assert_eq!(zone.to_utc(i64::MAX), i64::MAX);
        assert_eq!((zone.at(winter), zone.at(summer)), ((60, "CET".to_owned()), (120, "CEST".to_owned())));
        // 2026-03-29T02:30 is left out, and 2026-10-25T02:30 comes twice.
        assert_eq!(zone.to_utc(1_774_751_400_000), 1_774_751_400_000 - HOUR);
        assert_eq!(zone.to_utc(1_792_895_400_000), 1_792_895_400_000 - 2 * HOUR);
    }
}
