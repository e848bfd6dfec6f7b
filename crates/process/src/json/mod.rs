//! JSON as Filebeat's decoder, which is Go's, takes it: for the parsers of inputs and for `decode_json_fields`.
//!
//! Comes in: texts. Goes out: values, or Go's words for why there is none; [`expand`]: keys with dots made objects.
//! Always holds: bytes that aren't UTF-8 and halves of surrogate pairs become U+FFFD. Otherwise than Go: nesting deeper than
//! 128 is an error, so that everything below may recurse.
//! Tested in the modules, by those who decode with it, and against Filebeat; fuzz target `json`.

mod expand;
mod syntax;

use serde::Deserialize;
use serde_json::{Number, Value};

pub use expand::expand;

/// Reads what a text begins with; what follows is ignored, as Go's decoder does.
///
/// # Errors
/// There is no such value.
pub fn first<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, serde_json::Error> {
    T::deserialize(&mut serde_json::Deserializer::from_slice(text))
}

/// The value that a text begins with; numbers are as they were written ([`numbers`]).
///
/// # Errors
/// Go's words for why there is none.
pub fn decode_first(text: &[u8]) -> Result<Value, String> {
    let value = first(text).or_else(|e| match mend(text) {
        Some(mended) => first(mended.as_bytes()),
        None => Err(e),
    });
    value.map_err(|e| syntax::explain(text).unwrap_or_else(|| e.to_string()))
}

/// The only value of a text, likewise.
///
/// # Errors
/// Filebeat's words for why there is none, or for what follows it.
pub fn decode_only(text: &[u8]) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    let value = decode_first(text)?;
    match syntax::behind(text) {
        None => Ok(value),
        Some(bracket @ (b'}' | b']')) => Err(syntax::no_beginning(bracket)),
        Some(_) => Err("multiple json elements found".to_owned()),
    }
}

/// A float as Filebeat writes it (Go's `%g`): without a fraction where there is none, and from a million on with an exponent, by
/// which a target takes it for a float.
pub(crate) fn float(f: f64) -> Option<Number> {
    if f.fract() == 0.0 && f.abs() < 1e6 { Some((f as i64).into()) } else { Number::from_f64(f) }
}

/// As Filebeat has numbers: floats as [`float`] writes them, and an integer beyond 64 bits with a sign is a float.
pub fn numbers(value: &mut Value) {
    match value {
        Value::Number(n) if n.is_f64() => {
            if let Some(float) = n.as_f64().and_then(float) {
                *n = float;
            }
        }
        Value::Number(n) if n.as_i64().is_none() => {
            if let Some(float) = n.as_f64().and_then(Number::from_f64) {
                *n = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(numbers),
        Value::Object(fields) => fields.values_mut().for_each(numbers),
        _ => {}
    }
}

/// What Go takes and `serde_json` doesn't: bytes that aren't UTF-8, and halves of surrogate pairs. Gives nothing when
/// neither is there.
pub fn mend(text: &[u8]) -> Option<String> {
    let broken = std::str::from_utf8(text).is_err();
    if !broken && memchr::memmem::find(text, b"\\u").is_none() {
        return None;
    }
    let mut out = String::from_utf8_lossy(text).into_owned();
    let mut at = 0;
    let mut halves = false;
    while let Some(found) = out[at..].find('\\') {
        let here = at + found;
        match surrogate(&out[here..]) {
            Some(0xD800..=0xDBFF) if matches!(surrogate(&out[here + 6..]), Some(0xDC00..=0xDFFF)) => at = here + 12,
            Some(_) => {
                out.replace_range(here..here + 6, "\\ufffd");
                (at, halves) = (here + 6, true);
            }
            // The escaped character is ASCII when the JSON is right; else the decoder says what is wrong.
            None => at = here + 1 + out[here + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    (broken || halves).then_some(out)
}

/// The surrogate that an escape at the beginning of a text stands for.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok().filter(|unit| (0xD800..=0xDFFF).contains(unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_only_value_of_a_text() {
        let invalid = |c: char| Err(format!("invalid character '{c}' looking for beginning of value"));
        let several = || Err("multiple json elements found".to_owned());
        for (text, want) in [
            ("{\"a\":1} ", Ok(json!({"a": 1}))),
            (" 5", Ok(json!(5))),
            ("{\"a\":1} x", several()),
            ("1 2", several()),
            ("{\"a\":1}}", invalid('}')),
            ("[1] ]", invalid(']')),
            ("plain", invalid('p')),
            ("", Err("EOF".to_owned())),
            ("{\"a\":", Err("unexpected EOF".to_owned())),
            ("\"\\ud800\"", Ok(json!("\u{fffd}"))),
            ("\"\\ud800\" x", several()),
        ] {
            assert_eq!(decode_only(text.as_bytes()), want, "{text}");
        }
        assert_eq!(decode_only(b"\"\xff\""), Ok(json!("\u{fffd}")));
        assert_eq!(decode_first(b"{\"a\":1}} x"), Ok(json!({"a": 1})));
    }

    #[test]
    fn numbers_as_go_writes_them() {
        for (text, want) in [
            ("1.0", "1"),
            ("1e3", "1000"),
            ("1.5", "1.5"),
            ("18446744073709551615", "1.8446744073709552e+19"),
            ("[999999.0,1e6]", "[999999,1000000.0]"),
            ("[9007199254740993.0]", "[9007199254740992.0]"),
        ] {
            let mut value = decode_first(text.as_bytes()).unwrap();
            numbers(&mut value);
            assert_eq!(value.to_string(), want);
        }
    }
}
