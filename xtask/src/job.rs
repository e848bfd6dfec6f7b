//! A Job's part in a test: lines in files.
//!
//! Always holds: each line is unique, so that what arrives can be told apart.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use crate::Outcome;

/// Lines `from..to`, each of about `width` bytes, with characters of one to four bytes and all that JSON escapes.
pub(crate) fn lines(from: usize, to: usize, width: usize) -> Vec<String> {
    (from..to)
        .map(|i| format!("{i:07} Zürich \"naïve\" \\ \u{1f980} \t{}", "x".repeat(width.saturating_sub(36))))
        .collect()
}

/// Adds lines to a file in one write, as a buffered logger does.
pub(crate) fn append(path: &Path, lines: &[String]) -> Outcome {
    let mut text = lines.join("\n");
    text.push('\n');
    let write = || fs::File::options().create(true).append(true).open(path)?.write_all(text.as_bytes());
    write().map_err(|e| format!("{}: {e}", path.display()))
}

/// Compares what was written with what arrived: each line once.
pub(crate) fn compare<'a>(written: &[String], arrived: impl Iterator<Item = &'a str>) -> Outcome {
    doubled(written, arrived, 0).map(drop)
}

/// Compares what was written with what arrived: each line, and at most so many of them more than once. How many these are.
pub(crate) fn doubled<'a>(written: &[String], arrived: impl Iterator<Item = &'a str>, most: usize) -> Outcome<usize> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for line in arrived {
        *times.entry(line).or_default() += 1;
    }
    let lost: Vec<&String> = written.iter().filter(|l| !times.contains_key(l.as_str())).collect();
    let doubled = times.values().filter(|&&n| n > 1).count();
    let known: std::collections::HashSet<&str> = written.iter().map(String::as_str).collect();
    let strange: Vec<&&str> = times.keys().filter(|l| !known.contains(*l)).collect();
    if lost.is_empty() && doubled <= most && strange.is_empty() {
        return Ok(doubled);
    }
    let first = |what: &str, line: Option<String>| line.map_or(String::new(), |l| format!("; {what} {l:.60}"));
    Err(format!(
        "of {} lines {} lost, {doubled} doubled, {} strange ones{}{}",
        written.len(),
        lost.len(),
        strange.len(),
        first("the first lost:", lost.first().map(ToString::to_string)),
        first("a strange one:", strange.first().map(ToString::to_string)),
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_lost_doubled_or_strange_is_told() {
        let written = super::lines(0, 2, 40);
        let (a, b) = (written[0].as_str(), written[1].as_str());
        assert!(super::compare(&written, [a, b].into_iter()).is_ok());
        for arrived in [vec![a], vec![a, b, b], vec![a, b, "?"]] {
            assert!(super::compare(&written, arrived.into_iter()).is_err());
        }
        for (arrived, told) in [(vec![a, b, b], Some(1)), (vec![a, b, b, a], None), (vec![a, a], None)] {
            assert_eq!(super::doubled(&written, arrived.into_iter(), 1).ok(), told);
        }
    }
}
