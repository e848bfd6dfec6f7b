//! Values as YAML text.
//!
//! Comes in: a value and a style. Goes out: lines for a block, or one piece for between brackets.
//!
//! Always holds: what is written is read back as the same value, by readers of YAML 1.1 and 1.2 alike; what is in doubt is
//! put in quotes, as JSON writes them.
//! Tested in `tests/yaml_random.rs`.

use serde_json::Value;

use super::value::plain;

/// How a document is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Blanks for one level.
    pub(super) step: usize,
    /// Blanks between a key and the `-` of its list.
    pub(super) list: usize,
    /// JSON: everything in quotes and brackets.
    pub(super) json: bool,
    /// JSON with blanks after `:` and `,`.
    pub(super) airy: bool,
    /// Texts of several lines may be literal blocks, to which what is indented after them would belong.
    pub(super) literal: bool,
}

/// Lines of a block, without an end of line, each indented by `indent` blanks.
pub(super) fn block(value: &Value, indent: usize, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = scalar_text(key, false);
                let below = if value.is_array() { indent + style.list } else { indent + style.step };
                entry(&format!("{pad}{key}:"), value, indent, below, style, &mut lines);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                match item {
                    Value::Object(map) if !map.is_empty() => nested(item, indent, style, &mut lines),
                    Value::Array(items) if !items.is_empty() => nested(item, indent, style, &mut lines),
                    _ => entry(&format!("{pad}-"), item, indent, indent + style.step, style, &mut lines),
                }
            }
        }
        _ => entry(&pad, value, indent, indent, style, &mut lines),
    }
    lines
}

/// A collection as an item of a block list: its first line after the `-`.
fn nested(item: &Value, indent: usize, style: Style, lines: &mut Vec<String>) {
    let below = block(item, indent + 2, style);
    for (i, line) in below.into_iter().enumerate() {
        match line.get(indent + 2..) {
            Some(rest) if i == 0 => lines.push(format!("{}- {rest}", " ".repeat(indent))),
            _ => lines.push(line),
        }
    }
}

/// A value after `head`, which is `key:` or `-`; what needs lines of its own is indented by `below`.
fn entry(head: &str, value: &Value, indent: usize, below: usize, style: Style, lines: &mut Vec<String>) {
    let blank = if head.ends_with([':', '-']) { " " } else { "" };
    match value {
        Value::Object(map) if !map.is_empty() => {
            lines.push(head.to_owned());
            lines.extend(block(value, below, style));
        }
        Value::Array(list) if !list.is_empty() => {
            lines.push(head.to_owned());
            lines.extend(block(value, below, style));
        }
        Value::String(text) => match literal(text).filter(|_| style.literal && !blank.is_empty()) {
            Some((mark, body)) => {
                let pad = " ".repeat(indent + style.step.max(2));
                lines.push(format!("{head} {mark}"));
                lines.extend(body.lines().map(|l| if l.is_empty() { String::new() } else { format!("{pad}{l}") }));
            }
            None => lines.push(format!("{head}{blank}{}", scalar_text(text, false))),
        },
        value => lines.push(format!("{head}{blank}{}", flow(value, style))),
    }
}

/// The mark and the text of a literal block, for texts of several lines that one can hold.
fn literal(text: &str) -> Option<(&'static str, &str)> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let printable =
        |c: char| c == '\n' || c == '\t' || !c.is_control() && !"\u{feff}\u{85}\u{2028}\u{2029}".contains(c);
    let good = body.contains('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && !body.ends_with('\n')
        && body.chars().all(printable)
        && body.lines().all(|line| !line.trim_matches([' ', '\t']).is_empty() || line.is_empty());
    good.then_some((if text.ends_with('\n') { "|" } else { "|-" }, body))
}

/// One piece on one line.
pub(super) fn flow(value: &Value, style: Style) -> String {
    if style.json && !style.airy {
        return value.to_string();
    }
    match value {
        Value::Object(map) => {
            let name = |key: &str| if style.json { quoted(key) } else { scalar_text(key, true) };
            let parts: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", name(k), flow(v, style))).collect();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(|item| flow(item, style)).collect();
            format!("[{}]", parts.join(", "))
        }
        Value::String(text) if !style.json => scalar_text(text, true),
        value => value.to_string(),
    }
}

/// JSON on several lines; the first has no indentation.
pub(super) fn pretty(value: &Value, indent: &str, step: &str) -> String {
    let below = format!("{indent}{step}");
    let (open, parts, close): (_, Vec<String>, _) = match value {
        Value::Object(map) if !map.is_empty() => {
            let part = |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), pretty(value, &below, step));
            ('{', map.iter().map(part).collect(), '}')
        }
        Value::Array(list) if !list.is_empty() => {
            ('[', list.iter().map(|item| pretty(item, &below, step)).collect(), ']')
        }
        value => return value.to_string(),
    };
    format!("{open}\n{below}{}\n{indent}{close}", parts.join(&format!(",\n{below}")))
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// A text, without quotes where no reader could take it for something else.
pub(super) fn scalar_text(text: &str, in_flow: bool) -> String {
    if is_plain(text, in_flow) {
        return text.to_owned();
    }
    // Characters that JSON takes as they are and YAML doesn't.
    let odd = |c: char| c.is_control() || "\u{feff}\u{85}\u{2028}\u{2029}".contains(c);
    let quoted = quoted(text);
    if !quoted.chars().any(odd) {
        return quoted;
    }
    quoted.chars().map(|c| if odd(c) { format!("\\u{:04x}", c as u32) } else { c.to_string() }).collect()
}

fn is_plain(text: &str, in_flow: bool) -> bool {
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return false };
    let begins = first.is_ascii_alphanumeric()
        || "/_.".contains(first)
        || first == '-' && second.is_some_and(|c| c.is_ascii_alphabetic() || c == '-');
    let usual = |c: char| c.is_ascii_alphanumeric() || "/_.-=+@~^".contains(c) || !in_flow && "()".contains(c);
    let middle = text.chars().all(|c| usual(c) || c == ':' || c == ' ' && !in_flow);
    begins
        && middle
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains("  ")
        && (!in_flow || !text.contains(':'))
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !is_doubtful(text)
}

/// Whether some reader takes it for a number, a time, a boolean or nothing.
fn is_doubtful(text: &str) -> bool {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    let lower = text.to_ascii_lowercase();
    let number = |c: char| c.is_ascii_hexdigit() || "_.:+-xo".contains(c);
    WORDS.contains(&lower.trim_start_matches(['.', '+', '-']))
        || !matches!(plain(text), Value::String(_))
        || text.contains(|c: char| c.is_ascii_digit())
            && text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && lower.chars().all(number)
}
