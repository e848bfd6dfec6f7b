//! Messages, whole and broken, by the processor as a whole. What Filebeat makes of a hundred more is in
//! [`crate::compared`].

use serde_json::{Map, Value, json};

use super::scan::scan;
use crate::pipeline::testing::processed_as;

const HEADER: &str = "CEF:0|a|b|c|d|e|5|";

fn scanned(text: &str, modern: bool) -> (Value, Vec<String>) {
    let message = scan(text.as_bytes(), modern);
    (Value::Object(message.extensions), message.errors)
}

#[test]
fn extensions_as_they_are_written() {
    for (text, extensions, errors) in [
        ("", json!({}), &[][..]),
        ("a=1 b=x  y c=", json!({"a": "1", "b": "x  y", "c": ""}), &[]),
        ("a=b  c=d", json!({"a": "b ", "c": "d"}), &[]),
        (r"a=\=\\\n\r b.c[0],_=2", json!({"a": "=\\\n\r", "b.c[0],_": "2"}), &[]),
        ("a=1 a=2", json!({"a": "2"}), &[]),
        ("a=1=2 b=3", json!({"b": "3"}), &["malformed value for a at pos 22"]),
        (r"a=\q b=3", json!({"b": "3"}), &["malformed value for a at pos 22"]),
        (r"a=\", json!({}), &["malformed value for a at pos 22", "error in CEF event at pos 21"]),
        ("a=x =y", json!({}), &["malformed value for a at pos 23", "unexpected end of CEF event"]),
        ("a b=1", json!({}), &["error in CEF event at pos 20"]),
        ("a", json!({}), &["unexpected end of CEF event"]),
    ] {
        let got = scanned(&format!("{HEADER}{text}"), false);
        assert_eq!(got, (extensions, errors.iter().map(|e| (*e).to_owned()).collect()), "{text}");
    }
}

#[test]
fn what_nine_reads_otherwise_than_seven() {
    let broken = "CEF:0|Maker|Thing|id=1 name=foo bar";
    let incomplete = ["unexpected end of CEF event", "incomplete CEF header"];
    for (text, seven, nine, errors) in [
        (format!("{HEADER}a="), json!({"a": ""}), json!({}), &[][..]),
        (format!("{HEADER}a=1 b-c=2"), json!({}), json!({"a": "1", "b-c": "2"}), &[]),
        (broken.to_owned(), json!({}), json!({"id": "1", "name": "foo bar"}), &incomplete),
    ] {
        assert_eq!(scanned(&text, false).0, seven, "{text}");
        assert_eq!(scanned(&text, true), (nine, errors.iter().map(|e| (*e).to_owned()).collect()), "{text}");
    }
}

#[test]
fn a_year_that_is_left_out_is_that_of_the_reading() {
    for (time, want) in [
        ("Jan 02 03:04:05", "-01-02T03:04:05.000Z"),
        ("Jan  2 03:04:05.678 CET", "-01-02T03:04:05.678Z"),
        ("Jan 2 03:04:05 +0100", "-01-02T02:04:05.000Z"),
    ] {
        let got = processed_as(9, "[{decode_cef: {ecs: false}}]", json!({"message": format!("{HEADER}end={time}")}));
        let end = got.pointer("/cef/extensions/endTime").and_then(Value::as_str).unwrap_or_default();
        assert!(end.ends_with(want) && end.starts_with("1970"), "{time}: {got}");
    }
}

#[test]
fn the_known_one_of_two_names_counts() {
    for (text, want) in [
        ("src=1.2.3.4 sourceAddress=x", json!({"sourceAddress": "1.2.3.4"})),
        ("sourceAddress=x src=1.2.3.4", json!({"sourceAddress": "1.2.3.4"})),
        ("sourceAddress=x src=y", json!({"sourceAddress": "x"})),
    ] {
        let got = processed_as(9, "[{decode_cef: ~}]", json!({"message": format!("{HEADER}{text}")}));
        assert_eq!(got["cef"]["extensions"], want, "{text}");
        assert_eq!(got["source"]["ip"], want["sourceAddress"], "{text}");
    }
}

#[test]
fn errors_are_added_to_those_that_are_there() {
    let fault = "malformed value for a at pos 22";
    for (before, after) in [
        (json!(null), json!(fault)),
        (json!("x"), json!(["x", fault])),
        (json!(fault), json!(fault)),
        (json!(["x", fault]), json!(["x", fault])),
        (json!(["x"]), json!(["x", fault])),
        (json!(5), json!(5)),
    ] {
        let event = json!({"message": format!("{HEADER}a=1=2 b=3"), "error": {"message": before}});
        let got = processed_as(9, "[{decode_cef: ~}]", event);
        assert_eq!(got["error"]["message"], after, "{before}");
    }
}

/// A fault costs no more than the way to the next name.
#[test]
fn many_faults_are_read_through() {
    let text = format!("{HEADER}{}", "a=1=2 ".repeat(100_000));
    let message = scan(text.as_bytes(), false);
    assert_eq!((message.errors.len(), message.extensions), (100_000 + 1, Map::new()));
    let got = processed_as(9, "[{decode_cef: ~}]", json!({"message": text}));
    assert_eq!(got["error"]["message"].as_array().map(Vec::len), Some(100_000 + 1));
}

#[test]
fn names_of_very_many_parts_are_an_error() {
    let name = "a.".repeat(100_000);
    let got = processed_as(9, "[{decode_cef: ~}]", json!({"message": format!("{HEADER}{name}=1 b=2")}));
    assert_eq!(got["cef"]["extensions"], json!({"b": "2"}));
    assert_eq!(got["error"]["message"], json!("an extension's name has more than 100 parts"));
}

proptest::proptest! {
    /// Any bytes.
    #[test]
    fn any_bytes_are_read(tail in proptest::collection::vec(proptest::sample::select(b"CEF:0|a=\\\\ \t-n\xff".to_vec()), 0..60),
        header in 0_usize..8, modern: bool) {
        let text = [&b"CEF:0|a|b|c|d|e|5|"[..4 + 2 * header], &tail].concat();
        crate::check::cef(&text, modern).map_err(proptest::test_runner::TestCaseError::fail)?;
    }
}
