//! A single field outside of JSON: in a format string, and for Kafka's hash partitioner.
//!
//! Comes in: a value of the event. Goes out: its bytes, or that it has none there: nulls and lists. Objects are JSON in both
//! (`MapStr.String`). Facts: elastic/beats `libbeat/common/fmtstr/formatevents.go` (`tryConvString`),
//! `libbeat/outputs/kafka/partition.go` (`hashFieldValue`).
//!
//! Always holds: the same value has the same bytes. Tested below and in `format/tests.rs`.

use serde_json::Value;

use super::tree::Style;

/// How Go's `encoding/json` writes maps.
pub(super) const OBJECT: Style = Style { sorted: true, html: true, nulls: false };

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// Text, for a format string.
    Text,
    /// To be hashed: an integer is its eight bytes, a boolean one, a float the text that it has with 32 bits.
    Hashed,
}

impl Plain {
    /// Appends what isn't an object; false and nothing when there is no such form of it.
    pub(super) fn write(self, value: &Value, out: &mut Vec<u8>) -> bool {
        match (self, value) {
            (_, Value::Null | Value::Array(_) | Value::Object(_)) => return false,
            (_, Value::String(s)) => out.extend_from_slice(s.as_bytes()),
            (Plain::Text, Value::Bool(b)) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
            (Plain::Hashed, Value::Bool(b)) => out.push(u8::from(*b)),
            (_, Value::Number(n)) => match (self, n.as_f64().filter(|_| n.is_f64())) {
                (Plain::Text, Some(f)) => out.extend_from_slice(float(&format!("{f:e}"), &f.to_string()).as_bytes()),
                (Plain::Hashed, Some(f)) => {
                    let f = f as f32;
                    out.extend_from_slice(float(&format!("{f:e}"), &f.to_string()).as_bytes());
                }
                (Plain::Text, None) => out.extend_from_slice(n.to_string().as_bytes()),
                (Plain::Hashed, None) => {
                    let bytes = n.as_i64().map(i64::to_le_bytes).or_else(|| n.as_u64().map(u64::to_le_bytes));
                    out.extend_from_slice(&bytes.unwrap_or_default());
                }
            },
        }
        true
    }

    /// Makes of the JSON text behind `from`, a string or a number without a fraction, what it is here.
    pub(super) fn settle(self, from: usize, out: &mut Vec<u8>) {
        if out.get(from) == Some(&b'"') {
            out.pop();
            out.remove(from);
        } else if self == Plain::Hashed {
            let number = std::str::from_utf8(out.get(from..).unwrap_or_default()).ok().and_then(|n| n.parse().ok());
            if let Some(number) = number {
                out.truncate(from);
                out.extend_from_slice(&i64::to_le_bytes(number));
            }
        }
    }
}

/// Go's `FormatFloat(f, 'g', -1, …)`, with an exponent from a million on, of the shortest digits in both forms.
fn float(scientific: &str, plain: &str) -> String {
    match plain {
        "inf" => return "+Inf".to_owned(),
        "-inf" => return "-Inf".to_owned(),
        _ => {}
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return plain.to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_go_has_them() {
        let bytes = |plain: Plain, value: Value| {
            let mut out = Vec::new();
            plain.write(&value, &mut out).then_some(out)
        };
        for (value, text, hashed) in [
            (json!("ä"), "ä", "ä".as_bytes()),
            (json!(true), "true", &[1]),
            (json!(7), "7", &[7, 0, 0, 0, 0, 0, 0, 0]),
            (json!(-2), "-2", &[254, 255, 255, 255, 255, 255, 255, 255]),
            (json!(u64::MAX), "18446744073709551615", &[255; 8]),
            (json!(0.1), "0.1", b"0.1"),
            (json!(1.234_567_890_12), "1.23456789012", b"1.2345679"),
            (json!(1_234_567.0), "1.234567e+06", b"1.234567e+06"),
            (json!(1e6), "1e+06", b"1e+06"),
            (json!(123_456.0), "123456", b"123456"),
            (json!(0.0001), "0.0001", b"0.0001"),
            (json!(0.000_01), "1e-05", b"1e-05"),
            (json!(-1e300), "-1e+300", b"-Inf"),
        ] {
            assert_eq!(bytes(Plain::Text, value.clone()).as_deref(), Some(text.as_bytes()), "{value}");
            assert_eq!(bytes(Plain::Hashed, value.clone()).as_deref(), Some(hashed), "{value}");
        }
        for none in [json!(null), json!([1])] {
            assert_eq!((bytes(Plain::Text, none.clone()), bytes(Plain::Hashed, none)), (None, None));
        }
    }
}
