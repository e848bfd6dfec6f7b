//! Which shard a file belongs to: a hash of its path beneath the shared root, without its rotation suffix.
//!
//! Comes in: a path relative to the shared root. Goes out: a shard's number.
//! Always holds: the same on every machine and in every version, since replicas of two versions share files during an
//! update; a file and its rotations (`app.log`, `app.log.1`, `app.log.2.gz`, `app.log-20261124`) have one shard. Names that
//! look alike but aren't rotations may share one too: that costs evenness, never a line.
//! Tested below.

use std::fmt;

/// A shard's number: 0 … count − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The shard of a file, of `count` shards (at least 1). `relative`: its path beneath the shared root, without `/` at the
/// beginning.
pub fn shard_of(relative: &[u8], count: u16) -> Shard {
    let folder = relative.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let (folder, name) = relative.split_at(folder);
    // FNV-1a, then the end of splitmix64, which spreads it over all bits: http://isthe.com/chongo/tech/comp/fnv/
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in folder.iter().chain(without_rotation(name)) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    Shard((hash % u64::from(count.max(1))) as u16)
}

/// What compressed rotations end in.
const COMPRESSED: [&str; 5] = [".gz", ".zst", ".bz2", ".xz", ".lz4"];

/// A rotation's number has at most this many digits: `job.o12345` is a job's output, not the 12,345th rotation.
const DIGITS: usize = 3;

/// A file's name without what rotation adds at its end: a number, a date with or without a time, and the ending of a
/// compressed one.
fn without_rotation(name: &[u8]) -> &[u8] {
    let mut rest = name;
    if let Some(shorter) = COMPRESSED.iter().find_map(|end| rest.strip_suffix(end.as_bytes())) {
        rest = shorter;
    }
    for _ in 0..2 {
        rest = without_number(rest).or_else(|| without_date(rest)).unwrap_or(rest);
    }
    // A file whose whole name is a number or a date has nothing else to be told by.
    if rest.is_empty() { name } else { rest }
}

/// `app.log.12` → `app.log`.
fn without_number(name: &[u8]) -> Option<&[u8]> {
    let digits = name.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let rest = name.get(..name.len().checked_sub(digits + 1)?)?;
    let is_it = (1..=DIGITS).contains(&digits) && name.get(rest.len()) == Some(&b'.') && !rest.is_empty();
    is_it.then_some(rest)
}

/// `app.log-20261124`, `app.log.2026-11-24`, `app.log-2026-11-24T10-00-00.000`, `app.log_20261124-100000` → `app.log`.
fn without_date(name: &[u8]) -> Option<&[u8]> {
    let is_part = |b: &u8| b.is_ascii_digit() || b"-_.:TZ".contains(b);
    let length = name.iter().rev().take_while(|b| is_part(b)).count();
    let tail = name.get(name.len() - length..)?;
    let begin = (0..tail.len()).find(|at| {
        let separated = tail.get(*at).is_some_and(|b| b"-._".contains(b));
        separated && tail.get(at + 1..).is_some_and(begins_with_date)
    })?;
    name.get(..name.len() - length + begin).filter(|rest| !rest.is_empty())
}

/// `20261124…`, `2026-11-24…`, `2026_11_24…`, with a month and a day that there are.
fn begins_with_date(text: &[u8]) -> bool {
    let digits = |at: usize, n: usize| {
        let part = text.get(at..at + n).filter(|p| p.iter().all(u8::is_ascii_digit))?;
        Some(part.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    };
    let (month, day) = match text.get(4) {
        Some(b'-' | b'_' | b'.') if text.get(7) == text.get(4) => (5, 8),
        _ => (4, 6),
    };
    let within = |value: Option<u32>, low, high| value.is_some_and(|v| (low..=high).contains(&v));
    within(digits(0, 4), 1970, 2199) && within(digits(month, 2), 1, 12) && within(digits(day, 2), 1, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_are_taken_off() {
        for (name, want) in [
            ("app.log", "app.log"),
            ("app.log.1", "app.log"),
            ("app.log.12.gz", "app.log"),
            ("app.log.gz", "app.log"),
            ("app.log-20261124", "app.log"),
            ("app.log-20261124.gz", "app.log"),
            ("app.log.2026-11-24", "app.log"),
            ("app.log.2026-11-24.3", "app.log"),
            ("app.log.2026-11-24_10-00-00.zst", "app.log"),
            ("app.log-2026-11-24T10:00:00.000Z", "app.log"),
            ("app.log-1699999999", "app.log-1699999999"),
            ("job.o12345", "job.o12345"),
            ("slurm-123.out", "slurm-123.out"),
            ("pod-17.log", "pod-17.log"),
            ("app.log.1234", "app.log.1234"),
            ("20261124", "20261124"),
            ("1", "1"),
            (".1", ".1"),
            ("", ""),
            ("app-20261345.log", "app-20261345.log"),
            ("app.log-20261345", "app.log-20261345"),
        ] {
            assert_eq!(String::from_utf8_lossy(without_rotation(name.as_bytes())), want, "{name}");
        }
    }

    /// Computed apart from this program, from the definitions of FNV-1a and splitmix64.
    #[test]
    fn shards_are_the_same_for_ever() {
        for (path, want) in [("app.log", 56), ("a/app.log", 31), ("a/app.log.1", 31), ("b/app.log", 16), ("", 27)] {
            assert_eq!(shard_of(path.as_bytes(), 64), Shard(want), "{path}");
        }
    }

    #[test]
    fn a_flat_folder_spreads() {
        let mut counts = [0_u32; 64];
        for pod in 0..6400 {
            counts[usize::from(shard_of(format!("job-{pod}.log").as_bytes(), 64).0)] += 1;
        }
        assert!(counts.iter().all(|n| (60..150).contains(n)), "{counts:?}");
    }

    proptest::proptest! {
        #[test]
        fn every_path_has_one(path in proptest::collection::vec(0_u8.., 0..64), count in 0_u16..) {
            assert!(shard_of(&path, count).0 < count.max(1));
        }
    }
}
