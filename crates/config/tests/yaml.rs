//! YAML: what is read, what is refused, and how that is shown.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use pillion_config::Config;
use serde_json::json;

fn x(yaml: &str) -> serde_json::Value {
    Config::from_yaml(yaml).unwrap().root().json("x").unwrap().unwrap_or(serde_json::Value::Null)
}

#[test]
fn values() {
    for (yaml, value) in [
        ("", json!(null)),
        ("---\n", json!(null)),
        ("# nothing\n", json!(null)),
        ("---\nx: 1\n...\n", json!(1)),
        ("\u{feff}x: 1", json!(1)),
        ("x: 1\r\ny: 2\r\n", json!(1)),
        ("x: |\n  a\n  b\n", json!("a\nb\n")),
        ("x: >-\n  a\n  b\n", json!("a b")),
        ("x: \"\\u00e9\\n\"", json!("é\n")),
        ("x: 'it''s'", json!("it's")),
        ("x: [a, 1, {b: c}]", json!(["a", 1, {"b": "c"}])),
        ("x:\n- a\n- - b", json!(["a", ["b"]])),
        ("y: &a {b: 1}\nx: *a", json!({"b": 1})),
        ("y: &a {b: 1, c: 2}\nx:\n  <<: *a\n  c: 3", json!({"c": 3, "b": 1})),
        ("y: &a {b: 1}\nz: &c {b: 2, d: 4}\nx:\n  <<: [*a, *c]", json!({"b": 1, "d": 4})),
        ("x: {'<<': 1}", json!({"<<": 1})),
        ("x: 08", json!(8.0)),
        ("x: 0b11", json!(3)),
        ("x: +12", json!(12)),
        ("x: 99999999999999999999", json!(1e20)),
        ("x: 1.2.3.4", json!("1.2.3.4")),
        ("x: 12:30", json!("12:30")),
        ("x: .inf", json!(null)),
        ("on: {x: 1}\nx: Off", json!(false)),
        (
            "x: [y, n, on, off, yes, no, Y, N, 'n', \"on\"]",
            json!([true, false, true, false, true, false, true, false, "n", "on"]),
        ),
        ("x: [yES, oN, tRUE, nULL]", json!(["yES", "oN", "tRUE", "nULL"])),
        // Filebeat refuses a key that YAML 1.1 takes for a truth value or a number; as a text it means one thing only.
        ("x: {n: 1, on: 2, yes: 3, 4: 5, 'y': 6}", json!({"n": 1, "on": 2, "yes": 3, "4": 5, "y": 6})),
        ("x: a:b#c", json!("a:b#c")),
        ("x: %{[a]}", json!(null)),
    ] {
        if yaml.contains('%') {
            assert!(Config::from_yaml(yaml).is_err());
        } else {
            assert_eq!(x(yaml), value, "{yaml}");
        }
    }
}

#[test]
fn what_is_refused() {
    for (yaml, message) in [
        (
            "x: %{[a]}",
            "filebeat.yml:1:4: not valid YAML: unexpected character: `%'\n 1 | x: %{[a]}\n   |    ^\nremedy: put the value in quotes: it \
             begins with a character that YAML keeps for itself",
        ),
        (
            "x:\n\ty: 1\n",
            "filebeat.yml:2:2: not valid YAML: tabs disallowed within this context (block indentation)\n 2 |  y: 1\n   |  ^\nremedy: \
             indent with blanks: YAML allows no tab there",
        ),
        (
            "x: *.log",
            "filebeat.yml:1:4: not valid YAML: while parsing node, found unknown anchor\n 1 | x: *.log\n   |    ^\nremedy: put the value \
             in quotes: a `*` at its beginning means an alias in YAML",
        ),
        (
            "a: 1\nb: 2\na: 3",
            "filebeat.yml:3:1: `a` is set twice: here and at filebeat.yml:1:4\n 3 | a: 3\n   | ^\nremedy: keep one of the two; sections of \
             the same name belong together under one key",
        ),
        (
            "a: 1\n---\nb: 2",
            "filebeat.yml:3:1: a second YAML document: only the first would be read\n 3 | b: 2\n   | ^\nremedy: remove the `---`, or put \
             the second part into a file of its own and pass it with another -c",
        ),
        (
            "- a\n",
            "filebeat.yml:1:1: a configuration is a mapping of options\n 1 | - a\n   | ^\nremedy: write `key: value`, with a blank after \
             the colon",
        ),
        (
            "{a: 1}: 2",
            "filebeat.yml:1:1: a key has to be a text\n 1 | {a: 1}: 2\n   | ^\nremedy: a value that begins with `{`, `[`, `*` or `?` \
             belongs in quotes",
        ),
        (
            "x: !secret a",
            "filebeat.yml:1:4: the tag `!secret` has no meaning here\n 1 | x: !secret a\n   |    ^^^^^^^^^\nremedy: remove it",
        ),
        (
            "x: &a [*a]",
            "filebeat.yml:1:8: an alias inside of what it stands for\n 1 | x: &a [*a]\n   |        ^^\nremedy: write the value out",
        ),
        (
            "x: 1\n<<: 2",
            "filebeat.yml:2:1: `<<` takes a mapping or a list of mappings\n 2 | <<: 2\n   | ^^\nremedy: write `<<: *name`",
        ),
    ] {
        assert_eq!(Config::from_yaml(yaml).unwrap_err().to_string(), message, "{yaml}");
    }
}

#[test]
fn a_broken_text_does_not_show_its_secrets() {
    let yaml = "output.elasticsearch:\n  password: \"hunter2\n  api_key: abc:def\nx: [";
    let e = Config::from_yaml(yaml).unwrap_err().to_string();
    assert!(!e.contains("hunter2") && !e.contains("abc"), "{e}");
}

#[test]
fn what_a_text_may_cost_is_bounded() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        let item = format!("*a{}, ", i - 1).repeat(10);
        laughs.push_str(&format!("a{i}: &a{i} [{item}]\n"));
    }
    let e = Config::from_yaml(&laughs).unwrap_err().to_string();
    assert!(e.contains("more than 200000 values, aliases counted"), "{e}");

    for deep in [format!("x: {}{}", "[".repeat(2000), "]".repeat(2000)), format!("x{}: 1", ".y".repeat(400))] {
        let e = Config::from_yaml(&deep).unwrap_err().to_string();
        assert!(e.contains("nested more than 64 levels deep"), "{e}");
    }
    let mut chain = String::from("a0: &a0 [x]\n");
    for i in 1..100 {
        chain.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    let e = Config::from_yaml(&chain).unwrap_err().to_string();
    assert!(e.contains("nested more than 64 levels deep"), "{e}");

    let many: String = (0..10_001).map(|i| format!("k{i}: 1\n")).collect();
    let e = Config::from_yaml(&many).unwrap_err().to_string();
    assert!(e.contains("more than 10000 keys in one mapping"), "{e}");
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let yaml = format!("x: [{}, \"\\q\"]", "a".repeat(500));
    let e = Config::from_yaml(&yaml).unwrap_err().to_string();
    assert!(e.lines().all(|line| line.chars().count() < 180) && e.contains("\\q"), "{e}");
}
