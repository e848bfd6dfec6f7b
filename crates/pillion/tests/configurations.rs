//! More than a hundred configurations as users have them, through `pillion test config`: `configurations/*.yml`.
//!
//! Each begins with comments: what kind of source it stands for and which Filebeat, then `# accepted` or `# refused`, then
//! each message that `test config` has for it, `# warning LINE:COLUMN: …` or `# error LINE:COLUMN: …`, in any order: the
//! message must begin so, and no other may come. Messages without a place have none. `WRITE=1` writes what comes out
//! into the files; look at what it changes: an expectation that nobody has judged shows nothing.
//! What is accepted must fit docs/schema.json, too, and so must the configurations that Pillion comes with.

#![expect(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use pillion_config::{Config, Load};
use pillion_world::World;
use serde_json::{Map, Value, json};

/// What the files' variables mean; `CERTS` comes to it, a folder with certificates.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("ES_HOST", "search.example.net"),
    ("ES_USER", "shipper"),
    ("ES_PASSWORD", "not-a-secret"),
    ("ES_API_KEY", "name:key"),
    ("NODE_NAME", "node-7"),
    ("POD_NAME", "orders-5d4"),
    ("REDIS_PASSWORD", "not-a-secret"),
    ("KAFKA_PASSWORD", "not-a-secret"),
    ("PROXY_PASSWORD", "not-a-secret"),
    ("LOGSTASH_HOST", "logstash.example.net"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations")
}

/// The files, in order.
fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "yml")).collect();
    files.sort();
    files
}

/// The comments between the first line and the configuration.
fn expected(text: &str) -> Vec<&str> {
    text.lines().skip(1).map_while(|line| line.strip_prefix("# ")).collect()
}

/// A folder with an authority and certificates by it, as the files name them.
fn certificates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for name in ["ca", "client", "server"] {
        std::fs::write(dir.path().join(format!("{name}.crt")), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    dir
}

/// What `test config` says of a file: `accepted` or `refused`, then each message's head with its place.
fn told(file: &Path, home: &Path, certs: &Path) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.env_clear().envs(ENVIRONMENT.iter().copied()).env("CERTS", certs).current_dir(home);
    command.args(["test", "config", "--strict.perms=false", "--path.home"]).arg(home).arg("-c").arg(file);
    let output = command.output().unwrap();
    let outcome = match output.status.code() {
        Some(0) => "accepted",
        Some(2) => "refused",
        other => panic!("{}: {other:?}", file.display()),
    };
    let place = format!("{}:", file.display());
    let messages = String::from_utf8(output.stderr).unwrap();
    let heads = messages.lines().filter_map(|line| {
        let (kind, text) = line.split_once(": ").filter(|(kind, _)| ["warning", "error"].contains(kind))?;
        Some(format!("{kind} {}", text.replace(&place, "")))
    });
    std::iter::once(outcome.to_owned()).chain(heads).collect()
}

/// Every message is expected, and every expectation is met, each once.
fn differs(expected: &[&str], mut told: Vec<String>) -> Option<String> {
    let mut out = String::new();
    for line in expected {
        match told.iter().position(|message| message.starts_with(line)) {
            Some(at) => drop(told.remove(at)),
            None => writeln!(out, "  missing: {line}").unwrap(),
        }
    }
    told.iter().for_each(|message| writeln!(out, "  not expected: {message}").unwrap());
    (!out.is_empty()).then_some(out)
}

#[test]
fn each_is_taken_or_refused_as_its_beginning_says() {
    let (certs, mut wrong) = (certificates(), String::new());
    for file in files() {
        let home = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let told = told(&file, home.path(), certs.path());
        let expected = expected(&text);
        let Some(how) = differs(&expected, told.clone()) else { continue };
        write!(wrong, "{}\n{how}", file.display()).unwrap();
        if std::env::var_os("WRITE").is_some() {
            write_anew(&file, &text, &told);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Puts what was told in the place of what was expected. Positions move with the number of lines, so it may need a second
/// turn.
fn write_anew(file: &Path, text: &str, told: &[String]) {
    let first = text.lines().next().unwrap().to_owned();
    let head = std::iter::once(first).chain(told.iter().map(|line| format!("# {line}")));
    let rest = text.lines().skip(1 + expected(text).len()).map(str::to_owned);
    std::fs::write(file, head.chain(rest).map(|line| line + "\n").collect::<String>()).unwrap();
}

#[test]
fn they_are_a_hundred_and_each_says_what_it_stands_for() {
    let files = files();
    assert!(files.len() >= 100, "{}", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("# ") && first.contains(", ") && first.len() > 20, "{}: {first}", file.display());
        let outcome = expected(&text).first().copied();
        assert!(matches!(outcome, Some("accepted" | "refused")), "{}: {outcome:?}", file.display());
    }
}

/// What the schema has against a value: the keys on the way, with as much of JSON schema as it is written with. An input is
/// held against its own type's definition.
fn against(schema: &Value, at: &Value, value: &Value, way: &str) -> Vec<String> {
    if let Some(name) = at["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
        let name = match (name, value["type"].as_str()) {
            ("input", Some(kind)) => format!("input.{kind}"),
            ("input", None) => "input.log".to_owned(),
            _ => name.to_owned(),
        };
        return against(schema, &schema["definitions"][name], value, way);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = at["type"].as_array().is_none_or(|kinds| kinds.iter().any(|one| one == kind));
    let mut wrong = if fits { Vec::new() } else { vec![format!("{way}: {kind}")] };
    if let Value::Array(items) = value {
        wrong.extend(items.iter().flat_map(|item| against(schema, &at["items"], item, &format!("{way}.*"))));
    }
    for (key, below) in value.as_object().into_iter().flatten() {
        wrong.extend(against(schema, &at["properties"][key], below, &format!("{way}.{key}")));
    }
    wrong
}

#[test]
fn editors_find_nothing_wrong_with_what_is_accepted() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let file = &schema["definitions"]["file"];
    let wrong = json!({"output": [1], "filebeat": {"inputs": [{"type": "log", "multiline": {}, "enabled": {}}]}});
    let mut told = against(&schema, file, &wrong, "");
    told.sort();
    assert_eq!(told, [".filebeat.inputs.*.enabled: object", ".output: array"], "the check itself");
    let mut env: std::collections::BTreeMap<String, String> =
        ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.insert("CERTS".to_owned(), "/certificates".to_owned());
    let accepted = |path: &PathBuf| expected(&std::fs::read_to_string(path).unwrap())[0] == "accepted";
    let shipped = ["examples/filebeat.yml", "deploy/image/filebeat.yml"];
    let ours = shipped.map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name));
    for path in files().into_iter().filter(accepted).chain(ours) {
        let load = Load {
            files: vec![path.clone()],
            settings: Vec::new(),
            strict_perms: false,
            env: env.clone(),
            home: "/nowhere".into(),
            euid: 0,
        };
        let config = Config::load(&World::real(), &load).unwrap();
        let root = config.root();
        let all: Map<String, Value> =
            root.keys().filter_map(|key| Some((key.to_owned(), root.json(key).unwrap()?))).collect();
        let told = against(&schema, file, &all.into(), "");
        assert!(told.is_empty(), "{}: {told:?}", path.display());
    }
}
