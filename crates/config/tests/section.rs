//! Typed reading: every type with what it takes and what it refuses.

use std::time::Duration;

use pillion_config::{Config, Error};
use proptest::prelude::*;
use serde_json::json;

fn with<T>(yaml: &str, read: impl Fn(&pillion_config::Section<'_>) -> Result<T, Error>) -> Result<T, String> {
    let config = Config::from_yaml(yaml).map_err(|e| e.to_string())?;
    read(&config.root()).map_err(|e| e.one_line())
}

#[test]
fn numbers_and_texts() {
    assert_eq!(with("x: 0600", |s| s.u32("x")), Ok(Some(0o600)));
    assert_eq!(with("x: 0o600", |s| s.u32("x")), Ok(Some(0o600)));
    assert_eq!(with("x: '0600'", |s| s.u32("x")), Ok(Some(0o600)));
    assert_eq!(with("x: 1_000", |s| s.u64("x")), Ok(Some(1000)));
    assert_eq!(with("x: 0640", |s| s.file_mode("x")), Ok(Some(0o640)));
    assert_eq!(with("x: '0640'", |s| s.file_mode("x")), Ok(Some(0o640)));
    assert_eq!(
        with("x: 640", |s| s.file_mode("x")),
        Err("filebeat.yml:1:4: x: `640` isn't a file mode; write it as an octal number with its leading zero, such as 0600".into())
    );
    assert_eq!(with("x: 18446744073709551615", |s| s.u64("x")), Ok(Some(u64::MAX)));
    assert_eq!(with("x: 1e3", |s| s.u64("x")), Ok(Some(1000)));
    assert_eq!(with("x: ~", |s| s.u64("x")), Ok(None));
    assert_eq!(with("y: 1", |s| s.u64("x")), Ok(None));
    assert_eq!(with("x: -1", |s| s.i64("x")), Ok(Some(-1)));
    assert_eq!(with("x: 2.5", |s| s.f64("x")), Ok(Some(2.5)));
    assert_eq!(with("x: yes", |s| s.bool("x")), Ok(Some(true)));
    assert_eq!(with("x: 'false'", |s| s.bool("x")), Ok(Some(false)));
    assert_eq!(with("x: 0x10", |s| s.str("x")), Ok(Some("16".into())));
    assert_eq!(with("x: 1.50", |s| s.str("x")), Ok(Some("1.5".into())));
    assert_eq!(with("x: 1e21", |s| s.str("x")), Ok(Some("1e+21".into())));
    assert_eq!(with("password: 0123", |s| s.str("password")), Ok(Some("0123".into())));
    assert_eq!(with("x: 2016-01-02", |s| s.str("x")), Ok(Some("2016-01-02".into())));
    assert_eq!(with("x: !!str 12", |s| s.json("x")), Ok(Some(json!("12"))));
    assert_eq!(with("x: [1, a, true, ~]", |s| s.strings("x")), Ok(vec!["1".into(), "a".into(), "true".into()]));
    assert_eq!(with("x: one", |s| s.strings("x")), Ok(vec!["one".into()]));
}

#[test]
fn times_and_sizes() {
    assert_eq!(with("x: 1h2m3.5s", |s| s.duration("x")), Ok(Some(Duration::from_millis(3_723_500))));
    assert_eq!(with("x: 90", |s| s.duration("x")), Ok(Some(Duration::from_secs(90))));
    assert_eq!(with("x: '90'", |s| s.duration("x")), Ok(Some(Duration::from_secs(90))));
    assert_eq!(with("x: 0.5", |s| s.duration("x")), Ok(Some(Duration::from_millis(500))));
    assert_eq!(with("x: -1", |s| s.signed_duration_ns("x")), Ok(Some(-1_000_000_000)));
    assert_eq!(with("x: 10MiB", |s| s.size("x")), Ok(Some(10 << 20)));
    assert_eq!(with("x: 512", |s| s.size("x")), Ok(Some(512)));
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    for (yaml, key, message) in [
        ("x: -1", "u64", "filebeat.yml:1:4: x: this is a number: `-1`; give a whole number of at least 0"),
        ("x: [1]", "u64", "filebeat.yml:1:4: x: this is a list; give a whole number of at least 0"),
        ("x: 1.5", "u64", "filebeat.yml:1:4: x: this is a number: `1.5`; give a whole number of at least 0"),
        ("x: maybe", "bool", "filebeat.yml:1:4: x: this is a text: `maybe`; give true or false"),
        ("x: {y: 1}", "str", "filebeat.yml:1:4: x: this is a section; give a text"),
        (
            "x: 5d",
            "duration",
            "filebeat.yml:1:4: x: this is a text: `5d`; give a time span such as `10s`, `5m` or `1h30m` (a bare number means seconds)",
        ),
        (
            "x: -5s",
            "duration",
            "filebeat.yml:1:4: x: a time span can't be negative here; give a time span such as `5m`, or 0",
        ),
        ("x: abc", "section", "filebeat.yml:1:4: x: this is a text: `abc`; give a section with options of its own"),
        ("x: {a: 1}", "sections", "filebeat.yml:1:4: x: this is a section; give a list: each entry begins with `- `"),
        (
            "x: '('",
            "regexes",
            "filebeat.yml:1:4: x: not a regular expression: unclosed group; Filebeat's patterns are RE2: no look-around and no back-references; put the pattern in single quotes",
        ),
        (
            "x: aftre",
            "choice",
            "filebeat.yml:1:4: x: `aftre` isn't known here; did you mean `after`? Known are `after`, `before`",
        ),
        ("x: 11", "range", "filebeat.yml:1:4: x: `11` is out of range; give a number from 1 to 10"),
    ] {
        let got = with(yaml, |s| match key {
            "u64" => s.u64("x").map(drop),
            "bool" => s.bool("x").map(drop),
            "str" => s.str("x").map(drop),
            "duration" => s.duration("x").map(drop),
            "section" => s.section("x").map(drop),
            "sections" => s.sections("x").map(drop),
            "regexes" => s.regexes("x").map(drop),
            "choice" => s.choice("x", &["after", "before"]).map(drop),
            _ => s.u64_in("x", 1..=10).map(drop),
        });
        assert_eq!(got, Err(message.to_owned()));
    }
}

#[test]
fn dotted_keys_mean_nesting_on_both_sides() {
    for yaml in [
        "a.b.c: 1\na.b.d: 2",
        "a:\n  b.c: 1\n  b:\n    d: 2",
        "a: {b: {c: 1, d: 2}}",
        "a.b: {c: 1}\na: {b.d: 2}",
        "a: ~\na.b: {c: 1, d: 2}",
        "a.b.c: 1\na.b.d: 2\na.b: ~",
    ] {
        let config = Config::from_yaml(yaml).unwrap();
        let a = config.root().section("a").unwrap().unwrap();
        assert_eq!(a.u64("b.c").unwrap(), Some(1), "{yaml}");
        let b = config.root().section("a.b").unwrap().unwrap();
        assert_eq!((b.path(), b.u64("d").unwrap()), ("a.b", Some(2)), "{yaml}");
    }
    let e = Config::from_yaml("a.b: 1\na: {b: 2}").unwrap_err().to_string();
    assert_eq!(
        e,
        "filebeat.yml:2:5: `b` is set twice: here and at filebeat.yml:1:6\n 2 | a: {b: 2}\n   |     ^\nremedy: keep one of the \
         two; sections of the same name belong together under one key"
    );
}

#[test]
fn named_sections_take_nulls() {
    let config = Config::from_yaml("output:\n  console:\n  file: {path: /x}").unwrap();
    let names: Vec<_> = config
        .root()
        .section("output")
        .unwrap()
        .unwrap()
        .named_sections()
        .unwrap()
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    assert_eq!(names, ["console", "file"]);
}

/// Every way to write a path of keys with dots or nesting.
fn write(parts: &[String], cuts: &[bool], value: u64) -> String {
    let mut out = String::new();
    let mut indent = 0;
    for (i, part) in parts.iter().enumerate() {
        if i > 0 && cuts[i - 1] {
            indent += 2;
            out.push_str(&format!(":\n{}", " ".repeat(indent)));
        } else if i > 0 {
            out.push('.');
        }
        out.push_str(part);
    }
    format!("{out}: {value}\n")
}

proptest! {
    #[test]
    fn a_path_is_found_however_it_was_written(
        parts in prop::collection::vec("[a-z_]{1,6}x", 1..6),
        cuts in prop::collection::vec(any::<bool>(), 6),
        value in any::<u64>(),
    ) {
        let config = Config::from_yaml(&write(&parts, &cuts, value)).unwrap();
        prop_assert_eq!(config.root().u64(&parts.join(".")).unwrap(), Some(value));
    }
}
