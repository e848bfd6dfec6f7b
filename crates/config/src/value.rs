//! What a piece of text means: a plain scalar of YAML, or a value on the command line or in a variable.
//!
//! Comes in: text. Goes out: [`Value`]. Two languages: YAML 1.1's plain scalars as Go's yaml.v2 reads them (`yes` is
//! true, `0600` is octal), and go-ucfg's value syntax (`[a, b]`, `{k: v}`, `"quoted"`, `a,b`), in which `-E` and
//! variables are written.
//!
//! Always holds: numbers are within `i64::MIN..=u64::MAX`; nesting is bounded by [`crate::tree::MAX_DEPTH`].
//! Tested below, and by the fuzz target `config`.

use crate::source::At;
use crate::tree::{Key, MAX_DEPTH, Map, Node, Value};

/// A whole number as Go's `strconv.ParseInt(s, 0, 64)` or `ParseUint` reads it: `10`, `0x0a`, `0o12`, `012`, `0b1010`,
/// `1_000`.
pub(crate) fn go_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if plain.is_empty() || digits.starts_with('_') || !plain.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let n = i128::from_str_radix(&plain, radix).ok()?;
    let n = if negative { -n } else { n };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&n).then_some(n)
}

/// A decimal number with digits, within a double's range: neither `inf` nor `nan`.
pub(crate) fn go_float(text: &str) -> Option<f64> {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first = rest.chars().next()?;
    if !(first.is_ascii_digit() || first == '.') || !rest.chars().any(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|f: &f64| f.is_finite())
}

/// A number as Go's `fmt.Sprintf("%v")` writes it.
pub(crate) fn show_float(f: f64) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{f:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && !(-4..21).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{f}")
}

/// The meaning of a plain (unquoted) scalar in YAML, as Go's yaml.v2 has it.
pub(crate) fn yaml_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if let Some(n) = go_int(text) {
        return Value::Int(n);
    }
    go_float(text).map_or_else(|| Value::Str(text.to_owned()), Value::Float)
}

/// Which parts of go-ucfg's value syntax are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// Lists, objects, quotes, and commas that make a list: `-E`, and texts with variables in them.
    Full,
    /// The same without objects: a value that is one variable of the environment.
    Env,
}

/// Reads a value in go-ucfg's syntax. `at` becomes the position of everything in it.
pub(crate) fn parse(text: &str, syntax: Syntax, at: &At) -> Result<Node, String> {
    let trimmed = text.trim();
    let mut parser = Parser { rest: trimmed, syntax, at };
    let mut values = Vec::new();
    loop {
        values.push(parser.value(",", 0)?);
        parser.skip_blanks();
        if parser.rest.is_empty() {
            break;
        }
        parser.expect(',')?;
    }
    let mut node = match values.len() {
        1 => values.remove(0),
        _ => Node::new(Value::List(values), at),
    };
    if node.is_null() && trimmed.is_empty() {
        node.value = Value::Str(String::new());
    }
    if !matches!(node.value, Value::Str(_)) {
        node.written = Some(text.into());
    }
    Ok(node)
}

struct Parser<'a> {
    rest: &'a str,
    syntax: Syntax,
    at: &'a At,
}

impl<'a> Parser<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(format!("expected `{wanted}`")),
        }
    }

    fn value(&mut self, stop: &str, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        self.skip_blanks();
        match self.rest.chars().next() {
            None => Ok(Node::new(Value::Null, self.at)),
            Some('[') => self.list(depth),
            Some('{') if self.syntax == Syntax::Full => self.object(depth),
            Some(quote @ ('"' | '\'')) => {
                let text = self.quoted(quote)?;
                Ok(Node::new(Value::Str(text), self.at))
            }
            Some(_) => {
                let text = self.plain(stop)?;
                Ok(Node::new(primitive(text), self.at).written(text))
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, String> {
        self.expect('[')?;
        let mut items = Vec::new();
        loop {
            self.skip_blanks();
            if self.rest.starts_with(']') {
                self.expect(']')?;
                break;
            }
            items.push(self.value(",]", depth + 1)?);
            self.skip_blanks();
            if self.rest.is_empty() {
                return Err("the `]` that closes the list is missing".to_owned());
            }
            if self.rest.starts_with(']') {
                continue;
            }
            self.expect(',').map_err(|_| "expected `,` or `]` in the list".to_owned())?;
        }
        Ok(Node::new(Value::List(items), self.at))
    }

    fn object(&mut self, depth: usize) -> Result<Node, String> {
        self.expect('{')?;
        let mut map = Map::default();
        loop {
            self.skip_blanks();
            if self.rest.starts_with('}') {
                self.expect('}')?;
                break;
            }
            let name = match self.rest.chars().next() {
                Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
                _ => self.plain(":")?.to_owned(),
            };
            self.skip_blanks();
            self.expect(':')?;
            let node = self.value(",}", depth + 1)?;
            map.insert(&Key { name, at: self.at.clone() }, node).map_err(|e| e.reason().to_owned())?;
            self.skip_blanks();
            if self.rest.is_empty() {
                return Err("the `}` that closes the object is missing".to_owned());
            }
            if self.rest.starts_with('}') {
                continue;
            }
            self.expect(',').map_err(|_| "expected `,` or `}` in the object".to_owned())?;
        }
        Ok(Node::new(Value::Map(map), self.at))
    }

    /// A text in quotes: single ones take everything as it is, double ones know Go's escapes.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let body = &self.rest[1..];
        if quote == '\'' {
            let end = body.find('\'').ok_or("the ' that closes the text is missing")?;
            self.rest = &body[end + 1..];
            return Ok(body[..end].to_owned());
        }
        let mut escaped = false;
        for (i, c) in body.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.rest = &body[i + 1..];
                    return unescape(&body[..i]);
                }
                _ => {}
            }
        }
        Err("the \" that closes the text is missing".to_owned())
    }

    fn plain(&mut self, stop: &str) -> Result<&'a str, String> {
        let end = self.rest.find(|c| stop.contains(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(format!("unexpected `{}`", self.rest.chars().next().unwrap_or(' ')));
        }
        let text = self.rest[..end].trim();
        self.rest = &self.rest[end..];
        Ok(text)
    }
}

fn primitive(text: &str) -> Value {
    match text {
        "null" => Value::Null,
        "t" | "T" | "true" | "TRUE" | "True" | "on" | "ON" => Value::Bool(true),
        "f" | "F" | "false" | "FALSE" | "False" | "off" | "OFF" => Value::Bool(false),
        _ => go_int(text)
            .map(Value::Int)
            .or_else(|| go_float(text).map(Value::Float))
            .unwrap_or_else(|| Value::Str(text.to_owned())),
    }
}

/// Go's escapes in a double-quoted text.
fn unescape(body: &str) -> Result<String, String> {
    let mut out = String::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escape = chars.next().ok_or("a `\\` at the end of a quoted text")?;
        let digits = match escape {
            'a' => push(&mut out, '\u{7}'),
            'b' => push(&mut out, '\u{8}'),
            'f' => push(&mut out, '\u{c}'),
            'n' => push(&mut out, '\n'),
            'r' => push(&mut out, '\r'),
            't' => push(&mut out, '\t'),
            'v' => push(&mut out, '\u{b}'),
            '\\' | '"' => push(&mut out, escape),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(format!("unknown escape `\\{escape}` in a quoted text")),
        };
        if digits > 0 {
            let hex: String = chars.by_ref().take(digits).collect();
            let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits).and_then(char::from_u32);
            out.push(code.ok_or_else(|| format!("`\\{escape}{hex}` isn't a character"))?);
        }
    }
    Ok(out)
}

/// Pushes and says that no digits follow.
fn push(out: &mut String, c: char) -> usize {
    out.push(c);
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn shown(text: &str, syntax: Syntax) -> String {
        let at = At::new(&Source::flag("-E", text), 1, 1, 1);
        match parse(text, syntax, &at) {
            Ok(node) => crate::section::to_json(&node).map_or_else(|e| e.reason().to_owned(), |json| json.to_string()),
            Err(reason) => reason,
        }
    }

    #[test]
    fn go_ucfg_values() {
        for (text, full, env) in [
            ("", "\"\"", "\"\""),
            ("a b", "\"a b\"", "\"a b\""),
            ("a,b", "[\"a\",\"b\"]", "[\"a\",\"b\"]"),
            ("a,", "[\"a\",null]", "[\"a\",null]"),
            ("[a, [1, 'x,y'], \"\\t\\x41\\u00e9\"]", "[\"a\",[1,\"x,y\"],\"\\tAé\"]", "[\"a\",[1,\"x,y\"],\"\\tAé\"]"),
            ("[a,]", "[\"a\"]", "[\"a\"]"),
            ("{a.b: 1, \"c\": [t]}", "{\"a\":{\"b\":1},\"c\":[true]}", "expected `,`"),
            ("-0x10", "-16", "-16"),
            ("1e3", "1000.0", "1000.0"),
            ("null", "null", "null"),
            ("[a", "the `]` that closes the list is missing", "the `]` that closes the list is missing"),
            ("{a", "expected `:`", "\"{a\""),
            ("{a: 1", "the `}` that closes the object is missing", "\"{a: 1\""),
            ("'a", "the ' that closes the text is missing", "the ' that closes the text is missing"),
            ("\"\\q\"", "unknown escape `\\q` in a quoted text", "unknown escape `\\q` in a quoted text"),
            (",a", "unexpected `,`", "unexpected `,`"),
            ("'a'b", "expected `,`", "expected `,`"),
        ] {
            assert_eq!((shown(text, Syntax::Full).as_str(), shown(text, Syntax::Env).as_str()), (full, env), "{text}");
        }
        assert!(shown(&"[".repeat(100), Syntax::Full).contains("nested more than"));
    }

    #[test]
    fn floats_as_go_shows_them() {
        for (f, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e-5, "1.25e-05"),
            (0.0001, "0.0001"),
            (-2.5e100, "-2.5e+100"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(show_float(f), text);
        }
    }
}
