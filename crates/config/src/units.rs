//! Durations and sizes as Filebeat writes them.
//!
//! Comes in: text such as `1h2m3.5s` or `10MiB`. Goes out: nanoseconds, bytes. Tested below.

/// Nanoseconds of a Go duration: a sign, then numbers with a fraction, each with its unit `ns`, `us`, `µs`, `ms`, `s`,
/// `m` or `h`; `0` needs no unit. `None` when it isn't one, or doesn't fit Go's 63 bits.
pub fn duration_ns(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.checked_add(part_ns(number, unit)?)?;
        if total > i128::from(i64::MAX) {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn part_ns(number: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        // U+00B5 (micro sign) and U+03BC (Greek mu), as Go takes both.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond the 18th are worth less than a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<i128>().ok()? * unit / 10_i128.pow(u32::try_from(fraction.len()).ok()?)
    };
    whole.checked_mul(unit)?.checked_add(part)
}

/// Bytes of a size: a number, perhaps with a fraction, and a unit: none or `b`; `k`, `kb`, `m`, `mb`, … up to `e` by
/// 1000; `ki`, `kib`, … by 1024. Letters may be large or small, a blank may stand between.
pub(crate) fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let factor: u64 = match unit {
        "" | "b" => 1,
        _ => {
            let power = u32::try_from("kmgtpe".find(unit.chars().next()?)?).ok()? + 1;
            match &unit[1..] {
                "" | "b" => 1000_u64.pow(power),
                "i" | "ib" => 1024_u64.pow(power),
                _ => return None,
            }
        }
    };
    let number = number.replace(',', "");
    if let Ok(n) = number.parse::<u64>() {
        return n.checked_mul(factor);
    }
    let n: f64 = number.parse().ok()?;
    let bytes = n * factor as f64;
    (bytes.is_finite() && (0.0..18_446_744_073_709_551_616.0).contains(&bytes)).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("0", 0),
            ("-0", 0),
            ("+5s", 5_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("10ms", 10_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("7ns", 7),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("-1m", -60_000_000_000),
            ("0.000000000000000000001h", 0),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(duration_ns(text), Some(ns), "{text}");
        }
        for text in [
            "",
            "-",
            "5",
            "s",
            "5 s",
            "5d",
            "1h 2m",
            "5ss",
            "1..5s",
            ".s",
            "2562047h47m16.854775808s",
            "5S",
            "99999999999999999999s",
            "é",
        ] {
            assert_eq!(duration_ns(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("10485760", 10_485_760),
            ("10MiB", 10 << 20),
            ("10mib", 10 << 20),
            ("10 MB", 10_000_000),
            ("1kb", 1_000),
            ("1k", 1_000),
            ("1Ki", 1_024),
            ("1.5GiB", 3 << 29),
            ("12b", 12),
            ("1,000", 1_000),
            ("15EiB", 15 << 60),
        ] {
            assert_eq!(size_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "1x", "1kbb", "16EiB", "1e3", "1.2.3", "é"] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }
}
