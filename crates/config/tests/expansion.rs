//! Variables, as go-ucfg expands them.

use pillion_config::Config;
use proptest::prelude::*;
use serde_json::json;

const ENV: &[(&str, &str)] = &[
    ("HOST", "es"),
    ("PORT", "9200"),
    ("HOSTS", "a:1,b:2"),
    ("LIST", "[x, 'y, z', \"w\\n\"]"),
    ("OBJECT", "{a: 1}"),
    ("FLAG", "true"),
    ("EMPTY", ""),
    ("QUOTED", "'12,3'"),
    ("SPACES", "  a b "),
    ("NAME", "HOST"),
    ("FLOAT", "1.50"),
    ("HEX", "0x10"),
];

fn value(yaml: &str) -> Result<serde_json::Value, pillion_config::Error> {
    let config = Config::from_yaml_with_env(yaml, ENV)?;
    config.root().json("x").map(|v| v.unwrap_or(serde_json::Value::Null))
}

#[test]
fn forms() {
    for (yaml, expected) in [
        ("x: ${HOST}", json!("es")),
        ("x: http://${HOST}:${PORT}/", json!("http://es:9200/")),
        ("x: ${PORT}", json!(9200)),
        ("x: ${FLAG}", json!(true)),
        ("x: ${HEX}", json!(16)),
        ("x: ${FLOAT}", json!(1.5)),
        ("x: ${HOSTS}", json!(["a:1", "b:2"])),
        ("x: ${LIST}", json!(["x", "y, z", "w\n"])),
        ("x: ${OBJECT}", json!("{a: 1}")),
        ("x: ${OBJECT:}", json!({"a": 1})),
        ("x: ${QUOTED}", json!("12,3")),
        ("x: ${SPACES}", json!("a b")),
        ("x: ${MISSING:d}", json!("d")),
        ("x: ${MISSING:7}", json!(7)),
        ("x: ${MISSING:a b:c}", json!("a b:c")),
        ("x: ${MISSING:}", json!("")),
        ("x: ${EMPTY:d}", json!("d")),
        ("x: ${HOST:d}", json!("es")),
        ("x: ${MISSING:${HOST}}", json!("es")),
        ("x: ${${NAME}}", json!("es")),
        ("x: ${${NAME}:d}", json!("es")),
        ("x: \"${HOST:+yes}${MISSING:+no}\"", json!("yes")),
        ("x: ${HOST:?needed}", json!("es")),
        ("x: $${HOST}", json!("${HOST}")),
        ("x: a$b", json!("a$b")),
        ("x: a$$b", json!("a$b")),
        ("x: a$", json!("a$")),
        ("x: \"a$}b\"", json!("a}b")),
        ("x: \"a}b:c\"", json!("a}b:c")),
        ("x: '^\\d+$'", json!("^\\d+$")),
        ("x: ${some.key}/z\nsome.key: a", json!("a/z")),
        ("x: ${some}\nsome: {key: 1, list: [\"${PORT}\"]}", json!({"key": 1, "list": [9200]})),
        ("x: ${list.1}\nlist: [a, b]", json!("b")),
        ("x: ${path.home}", json!("/usr/share/filebeat")),
        ("x: ${path.data}/r", json!("/usr/share/filebeat/data/r")),
        ("x: ${HOST}\nHOST: from the file", json!("from the file")),
        ("x: [\"${HOST}\", {a: \"${PORT}\"}]", json!(["es", {"a": 9200}])),
        ("HOST: ${HOST}\nx: ${HOST}", json!("es")),
    ] {
        assert_eq!(value(yaml).unwrap(), expected, "{yaml}");
    }
}

#[test]
fn failures() {
    for (yaml, message) in [
        (
            "x: ${HOTS}",
            "filebeat.yml:1:4: no variable and no option is named `HOTS`\n 1 | x: ${HOTS}\n   |    ^^^^^^^\nremedy: did you mean `HOST`? \
             set the variable, or give a default: `${HOTS:default}`",
        ),
        (
            "x: ${QQ:?set QQ to the cluster}",
            "filebeat.yml:1:4: no variable and no option is named `QQ`: set QQ to the cluster\n 1 | x: ${QQ:?set QQ to the \
             cluster}\n   |    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^\nremedy: set the variable, or give a default: `${QQ:default}`",
        ),
        (
            "x: ${y}\ny: ${z}\nz: a${x}",
            "filebeat.yml:1:4: the references go in a circle: `y` → `z` → `x` → `y`\n 1 | x: ${y}\n   |    ^^^^\nremedy: \
             `$${` writes a `${` that isn't a variable",
        ),
        (
            "x: ${HOST",
            "filebeat.yml:1:4: the `}` that closes a `${` is missing\n 1 | x: ${HOST\n   |    ^^^^^^\nremedy: `$${` writes a `${` \
             that isn't a variable",
        ),
        (
            "x: ${}",
            "filebeat.yml:1:4: an empty `${}`\n 1 | x: ${}\n   |    ^^^\nremedy: `$${` writes a `${` that isn't a variable",
        ),
        (
            "x: a${y}\ny: [1]",
            "filebeat.yml:1:4: `${y}` is a section or a list: it can't be part of a text\n 1 | x: a${y}\n   |    ^^^^^\nremedy: \
             `$${` writes a `${` that isn't a variable",
        ),
    ] {
        assert_eq!(value(yaml).unwrap_err().to_string(), message, "{yaml}");
    }
}

#[test]
fn a_failure_waits_until_somebody_asks() {
    let config = Config::from_yaml("a: {enabled: false, password: \"${NO_SUCH}\"}\nb: 1").unwrap();
    assert_eq!(config.root().u64("b").unwrap(), Some(1));
    assert!(config.root().str("a.password").is_err());
}

#[test]
fn references_cannot_multiply_without_limit() {
    let mut yaml = String::from("a0: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n");
    for i in 1..40 {
        let p = i - 1;
        yaml.push_str(&format!("a{i}: ${{a{p}}}${{a{p}}}${{a{p}}}${{a{p}}}\n"));
    }
    let config = Config::from_yaml(&yaml).unwrap();
    assert!(config.root().str("a39").is_err());
    let mut yaml = String::from("a0: [1, 2, 3, 4, 5, 6, 7, 8]\n");
    for i in 1..40 {
        let p = i - 1;
        yaml.push_str(&format!("a{i}: [\"${{a{p}}}\", \"${{a{p}}}\", \"${{a{p}}}\"]\n"));
    }
    let config = Config::from_yaml(&yaml).unwrap();
    assert!(config.root().json("a39").is_err());
}

#[test]
fn what_came_from_a_variable_is_not_shown() {
    let config = Config::from_yaml_with_env("x: ${SECRET}\ny: a${SECRET}", &[("SECRET", "hunter2")]).unwrap();
    for key in ["x", "y"] {
        let e = config.root().u64(key).unwrap_err().to_string();
        assert!(!e.contains("hunter2"), "{e}");
    }
}

proptest! {
    /// Escaping a text makes it survive expansion.
    #[test]
    fn an_escaped_text_is_itself(text in "[a-z${}:+?. ]{0,40}") {
        let escaped = text.replace('$', "$$");
        let yaml = format!("fields: {{x: {}}}", serde_json::to_string(&escaped).unwrap());
        let config = Config::from_yaml(&yaml).unwrap();
        let got = config.root().json("fields.x").unwrap();
        prop_assert_eq!(got.unwrap(), serde_json::Value::String(text));
    }

    /// No text makes expansion panic, and a default is found whatever it is.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9${}:+?.,\\[\\]'\" ]{0,60}") {
        let yaml = format!("x: {}", serde_json::to_string(&text).unwrap());
        let _ = value(&yaml);
    }

    #[test]
    fn a_variable_gives_its_text(text in "[a-zA-Z_/@%-]{1,30}") {
        prop_assume!(!["null", "t", "T", "f", "F", "on", "ON", "off", "OFF"].contains(&text.as_str()));
        prop_assume!(!["true", "false"].contains(&text.to_lowercase().as_str()));
        let config = Config::from_yaml_with_env("x: ${V}\ny: a${V}b", &[("V", &text)]).unwrap();
        prop_assert_eq!(config.root().str("x").unwrap().unwrap(), &*text);
        prop_assert_eq!(config.root().str("y").unwrap().unwrap(), format!("a{text}b"));
    }
}
