//! Functions that fit on a screen, files with one subject: a ratchet.
//!
//! Comes in: Rust files as rustfmt leaves them, the list of what may be longer. Goes out: breaches.
//! Always holds: the list names each long thing with its exact length, so that it can't grow, and must be made smaller
//! when the thing was.

use std::collections::BTreeMap;

use super::Source;

/// The list: lines of `PATH LINES` and `PATH fn NAME LINES`, `#` begins a comment.
pub(super) const ALLOWED: &str = "xtask/tidy.allow";

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 60;
const TEST_LINES: usize = 120;

/// All that is longer than allowed, and all that the list allows in vain.
pub(super) fn check(files: &[Source], allowed: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
    for line in allowed.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.rsplit_once(' ').and_then(|(what, n)| Some((what, n.parse().ok()?))) {
            Some((what, lines)) => drop(listed.insert(what, lines)),
            None => breaches.push(format!("{ALLOWED}: no number at the end: {line}")),
        }
    }
    for (what, lines) in files.iter().filter(|f| f.is_rust()).flat_map(long) {
        match listed.remove(what.as_str()) {
            Some(allowed) if lines == allowed => {}
            Some(allowed) if lines < allowed => {
                breaches.push(format!("{what}: {lines} lines: write that into {ALLOWED} instead of {allowed}"));
            }
            _ => breaches.push(format!("{what}: {lines} lines: too long")),
        }
    }
    breaches.extend(listed.keys().map(|what| format!("{what}: no longer too long: strike it from {ALLOWED}")));
    breaches
}

/// What of a file is long: `(PATH, lines)` and `(PATH fn NAME, lines)`.
fn long(file: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = file.text.lines().collect();
    let tests_from = lines.iter().position(|l| *l == "#[cfg(test)]").unwrap_or(lines.len());
    let tests_from = if file.is_test() { 0 } else { tests_from };
    let mut found = Vec::new();
    if tests_from.min(lines.len()) > FILE_LINES {
        found.push((file.path.clone(), tests_from));
    }
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        // A function without a body, or on one line, ends where it begins.
        let header_ends = lines[at..].iter().position(|l| l.ends_with('{') || l.ends_with(';') || l.ends_with('}'));
        let opens = header_ends.is_some_and(|n| lines[at + n].ends_with('{'));
        let length = lines[at..].iter().position(|l| *l == end).filter(|_| opens).map_or(1, |n| n + 1);
        if length > if at >= tests_from { TEST_LINES } else { FUNCTION_LINES } {
            found.push((format!("{} fn {name}", file.path), length));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let before_name = line.find("fn ")?;
    let words = line[..before_name].trim();
    let known = |w: &str| ["pub", "const", "async", "unsafe", "extern", "\"C\""].contains(&w) || w.starts_with("pub(");
    if !words.split(' ').all(|w| w.is_empty() || known(w) || w.ends_with(')')) {
        return None;
    }
    line[before_name + 3..].split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(body_lines: usize) -> Source {
        let body = "        a();\n".repeat(body_lines);
        let text = format!("//! x\nimpl X {{\n    pub(crate) fn long<T>(x: T) {{\n{body}    }}\n}}\n");
        Source { path: "a.rs".into(), bytes: 0, text }
    }

    #[test]
    fn a_long_function_must_be_listed_with_its_length() {
        let cases = [
            (58, "", 0),
            (59, "", 1),
            (59, "# why\na.rs fn long 61\n", 0),
            (60, "a.rs fn long 61\n", 1),
            (59, "a.rs fn long 70\n", 1),
            (58, "a.rs fn long 61\n", 1),
        ];
        for (lines, allowed, breaches) in cases {
            assert_eq!(check(&[file(lines)], allowed).len(), breaches, "{lines} {allowed}");
        }
    }

    #[test]
    fn functions_are_told_from_other_lines() {
        let cases = [
            ("fn a() {", Some("a")),
            ("    pub(crate) async fn b<T>(x: T) {", Some("b")),
            ("    let f: fn (u8) = x;", None),
            ("// a fn is short", None),
        ];
        for (line, name) in cases {
            assert_eq!(function_name(line), name, "{line}");
        }
    }
}
