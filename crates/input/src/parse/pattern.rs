//! Regular expressions as Filebeat's users write them: Go's RE2 syntax.
//!
//! Comes in: a pattern in Go's syntax. Goes out: the same in the syntax of the `regex` crate, compiled.
//!
//! Always holds: what both take means the same. The differences that are bridged: in Go `\d`, `\w`, `\s`, `\b` and
//! their opposites are ASCII; a `{` that begins no count is a plain character, as in `^{"level"`; `\Q…\E` quotes;
//! `\<` and `\>` are plain characters; a class knows no nested classes and no `&&`, `--`, `~~`; a byte that isn't UTF-8
//! matches as U+FFFD does. Differences that stay: Go refuses `**` and counts above 1000, `(?x)` and `(?u)`; here a
//! pattern may compile to at most 10 MiB.
//!
//! Tested below.

use regex::bytes::{Regex, RegexBuilder};

/// A compiled pattern in Go's syntax.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern. The error says what is wrong, for people.
    pub fn new(go: &str) -> Result<Pattern, String> {
        RegexBuilder::new(&translate(go)).octal(true).build().map(Pattern).map_err(|e| e.to_string())
    }

    /// Whether it matches anywhere in the text.
    pub fn is_match(&self, text: &[u8]) -> bool {
        if self.0.is_match(text) {
            return true;
        }
        match std::str::from_utf8(text) {
            Ok(_) => false,
            Err(_) => self.0.is_match(String::from_utf8_lossy(text).as_bytes()),
        }
    }
}

/// Go's syntax to the crate's. What is wrong in Go's is left as it is for the compiler to refuse.
fn translate(go: &str) -> String {
    let mut out = String::with_capacity(go.len() + 16);
    let mut rest = go;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(tail, false, &mut out),
            '[' => class(tail, &mut out),
            '{' if !is_count(tail) => {
                out.push_str("\\{");
                tail
            }
            _ => {
                out.push(c);
                tail
            }
        };
    }
    out
}

/// Whether what follows a `{` makes it a count: `3}`, `3,}`, `3,5}`.
fn is_count(tail: &str) -> bool {
    let Some((inside, _)) = tail.split_once('}') else { return false };
    let (from, to) = inside.split_once(',').unwrap_or((inside, ""));
    !from.is_empty() && from.bytes().chain(to.bytes()).all(|b| b.is_ascii_digit())
}

/// What follows a backslash, inside a class or outside; gives the rest.
fn escape<'a>(tail: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = tail.chars().next() else {
        out.push('\\');
        return tail;
    };
    let rest = &tail[c.len_utf8()..];
    let (ascii, negated) = match c.to_ascii_lowercase() {
        'd' => ("0-9", c == 'D'),
        'w' => ("0-9A-Za-z_", c == 'W'),
        's' => ("\\t\\n\\x0C\\r ", c == 'S'),
        'b' if !in_class => {
            out.push_str(if c == 'b' { "(?-u:\\b)" } else { "(?-u:\\B)" });
            return rest;
        }
        'q' if c == 'Q' && !in_class => {
            let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return after;
        }
        _ => {
            if c == '<' || c == '>' || c == '_' {
                out.push(c);
            } else {
                out.push('\\');
                out.push(c);
            }
            // The braces of \x{10FFFF} and \p{Greek} are no count.
            if let Some(name) =
                matches!(c, 'x' | 'p' | 'P').then(|| rest.find('}')).flatten().filter(|_| rest.starts_with('{'))
            {
                out.push_str(&rest[..=name]);
                return &rest[name + 1..];
            }
            return rest;
        }
    };
    match (in_class, negated) {
        (true, false) => out.push_str(ascii),
        (_, negated) => {
            out.push_str(if negated { "[^" } else { "[" });
            out.push_str(ascii);
            out.push(']');
        }
    }
    rest
}

/// A class behind its `[`; gives what follows the `]`.
fn class<'a>(tail: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = tail;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' if !first => {
                out.push(']');
                return after;
            }
            '\\' => escape(after, true, out),
            '[' => match after.strip_prefix(':').and_then(|name| name.find(":]")) {
                Some(end) => {
                    out.push_str(&rest[..end + 4]);
                    &rest[end + 4..]
                }
                None => {
                    out.push_str("\\[");
                    after
                }
            },
            ']' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            // "--" would be a difference of classes; to Go it is a range to the dash, or from it at the beginning.
            '-' if first => {
                out.push_str("\\-");
                after
            }
            '-' if after.starts_with('-') => {
                out.push_str("-\\-");
                &after[1..]
            }
            _ => {
                out.push(c);
                after
            }
        };
        first = false;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_patterns_match_as_in_go() {
        let cases: &[(&str, &[u8], bool)] = &[
            (r#"^{"level""#, br#"{"level":1}"#, true),
            (r"^{", b"x{", false),
            (r"a{2}b", b"aab", true),
            (r"a{2,}b", b"aaaab", true),
            (r"a{,2}b", b"a{,2}b", true),
            (r"a{,2}b", b"aab", false),
            (r"^\d+$", "٣".as_bytes(), false),
            (r"^\w+$", "é".as_bytes(), false),
            (r"^[\w.]+$", b"a_b.c", true),
            (r"^[^\s]+$", b"a b", false),
            (r"^[\S]+$", b"ab", true),
            (r"^[\D]+$", b"1", false),
            (r"\bERR\b", "éERRé".as_bytes(), true),
            (r"\Qa.b[\E$", b"a.b[", true),
            (r"\Qa.b", b"axb", false),
            (r"\<x\>", b"<x>", true),
            (r"^[[]x", b"[x", true),
            (r"^[a[b]$", b"[", true),
            (r"^[[:alpha:]_]+$", b"ab_", true),
            (r"^[[:^alpha:]]$", b"1", true),
            (r"^[]a]+$", b"]a", true),
            (r"^[a&&b]$", b"&", true),
            (r"^[a~~b]$", b"~", true),
            (r"^[+--]$", b",", true),
            (r"^[--/]$", b".", true),
            (r"^[-a]$", b"-", true),
            (r"^[a-]$", b"-", true),
            (r"^\[", b"[2024", true),
            (r"^\pL\p{Greek}\x{41}\x42$", "éΩAB".as_bytes(), true),
            (r"^[\x{41}-\x{43}]$", b"B", true),
            (r"^a.*b$", b"a\xffb", true),
            (r"^a[^x]b$", b"a\xffb", true),
            (r"^ab$", b"a\xffb", false),
            (r"(?i)error", b"ERROR", true),
            (r"^[0-9]{4}-[0-9]{2}-[0-9]{2}", b"2024-01-02 x", true),
            (r"\101", b"A", true),
            (r"^\s*(at|\.{3})\s+|^Caused by:", b"   at x.y", true),
            (r"a$", b"a\n", false),
        ];
        for (go, text, expect) in cases {
            let p = Pattern::new(go).unwrap_or_else(|e| panic!("{go}: {e}"));
            assert_eq!(p.is_match(text), *expect, "{go} ({}) on {}", translate(go), String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for go in ["(", "[a", "a\\", r"(?=x)", r"\Z", "*a"] {
            assert!(Pattern::new(go).is_err(), "{go}");
        }
    }
}
