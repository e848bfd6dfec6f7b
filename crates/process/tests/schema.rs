//! docs/schema.json tells editors of every option what the code does with it: a JSON schema (draft 7, which editors read
//! best) of filebeat.yml.
//!
//! It completes and explains, and rejects little: what Pillion takes is valid. So sections take what isn't listed, every
//! option may stand nested or dotted, and a text, which may be a variable, may stand anywhere.
//! `WRITE=1 cargo test -p pillion-process --test schema` writes it anew.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]
#![expect(clippy::disallowed_methods, reason = "the schema is a real file")]

use std::collections::BTreeMap;
use std::path::Path;

use pillion_config::{Listed, Outcome, Place, catalogue};
use pillion_process::{KINDS, listed};
use serde_json::{Map, Value, json};

/// An option or a section: what is told of it, and what stands below. The entry `*` stands for the items of a list.
#[derive(Default)]
struct Tree {
    told: Vec<String>,
    below: BTreeMap<&'static str, Tree>,
}

impl Tree {
    /// Adds an option below these sections.
    fn add(&mut self, sections: &[&'static str], option: &Listed) {
        let key = option.key.split('.').filter(|part| *part != "**");
        let at = sections.iter().copied().chain(key).fold(self, |tree, part| tree.below.entry(part).or_default());
        let (here, why) = match option.outcome {
            Outcome::Works => ("works", String::new()),
            Outcome::Refused(why) => ("refused", format!(": {why}")),
            Outcome::Harmless(why) => ("no effect", format!(": {why}")),
        };
        at.told.push(format!("Filebeat {}: {here}{why}.", option.versions));
    }

    /// Writes the definition of this and of all below.
    fn define(&self, name: &str, definitions: &mut Map<String, Value>) {
        let mut own = Map::new();
        if !self.told.is_empty() {
            own.insert("description".into(), self.told.join("\n").into());
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        if self.below.contains_key("*") {
            own.insert("type".into(), json!(["array", "object", "string", "null"]));
            own.insert("items".into(), refer(&format!("{name}.*")));
        } else if !self.below.is_empty() {
            let mut properties = Map::new();
            self.reach("", name, &mut properties);
            own.insert("properties".into(), properties.into());
            // What has a row of its own may be more than a section.
            if self.told.is_empty() {
                own.insert("type".into(), json!(["object", "string", "null"]));
            }
        } else if last == "enabled" {
            own.insert("type".into(), json!(["boolean", "integer", "string", "null"]));
        }
        definitions.insert(name.to_owned(), own.into());
        for (part, tree) in &self.below {
            tree.define(&format!("{name}.{part}"), definitions);
        }
    }

    /// Everything that may be written below a section, with dots as well, down to lists.
    fn reach(&self, above: &str, name: &str, properties: &mut Map<String, Value>) {
        for (part, tree) in self.below.iter().filter(|(part, _)| **part != "*") {
            let (key, name) = (format!("{above}{part}"), format!("{name}.{part}"));
            properties.insert(key.clone(), refer(&name));
            tree.reach(&format!("{key}."), &name, properties);
        }
    }
}

fn refer(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// The types of inputs, in the order of the table.
fn input_types() -> Vec<&'static str> {
    let mut types: Vec<&str> = Vec::new();
    for group in catalogue() {
        if let Place::Inputs(users) = group.place {
            let new: Vec<&str> = users.into_iter().filter(|name| !types.contains(name)).collect();
            types.extend(new);
        }
    }
    types
}

/// The whole file but for what is below an input.
fn top() -> Tree {
    let mut top = Tree::default();
    for group in catalogue() {
        for option in &group.options {
            match &group.place {
                Place::Top => top.add(&[], option),
                Place::Outputs(users) => users.iter().for_each(|user| top.add(&["output", user], option)),
                Place::OutputSsl => ["elasticsearch", "logstash", "kafka", "redis", "forward"]
                    .iter()
                    .for_each(|user| top.add(&["output", user, "ssl"], option)),
                Place::Inputs(_) | Place::InputSsl => {}
            }
        }
    }
    top
}

/// What may stand at an input of a type.
fn input(kind: &str) -> Tree {
    let mut tree = Tree::default();
    for group in catalogue() {
        for option in &group.options {
            match &group.place {
                Place::Inputs(users) if users.contains(&kind) => tree.add(&[], option),
                Place::InputSsl if kind == "tcp" => tree.add(&["ssl"], option),
                Place::InputSsl if kind == "syslog" => tree.add(&["protocol", "tcp", "ssl"], option),
                _ => {}
            }
        }
    }
    tree
}

/// An input of any type: what it may have is said by its `type`; `log` when it has none.
fn any_input(types: &[&str]) -> Value {
    let is = |kind: &str| json!({"properties": {"type": {"const": kind}}, "required": ["type"]});
    let each = types.iter().map(|kind| {
        let condition = match *kind {
            "log" => json!({"anyOf": [is(kind), {"not": {"required": ["type"]}}]}),
            _ => is(kind),
        };
        json!({"if": condition, "then": refer(&format!("input.{kind}"))})
    });
    json!({
        "type": ["object", "string", "null"],
        "properties": {"type": {"description": "The type of the input; `log` without it.", "examples": types}},
        "allOf": each.collect::<Vec<_>>(),
    })
}

fn processor() -> Value {
    let mut properties = Map::new();
    for (part, what) in [("if", "condition"), ("then", "processors"), ("else", "processors")] {
        properties.insert(part.into(), refer(what));
    }
    for (name, known) in listed() {
        let (description, options) = match known {
            Ok(options) => ("Works.".to_owned(), options),
            Err(why) => (format!("Refused: {why}."), [].as_slice()),
        };
        let mut below = Map::new();
        below.insert("when".into(), refer("condition"));
        below.extend(options.iter().map(|option| ((*option).to_owned(), json!({}))));
        properties.extend(below.iter().map(|(option, schema)| (format!("{name}.{option}"), schema.clone())));
        properties.insert(name.into(), json!({"description": description, "properties": below}));
    }
    json!({"type": ["object", "string", "null"], "properties": properties})
}

fn schema() -> Value {
    let mut definitions = Map::new();
    let top = top();
    top.define("file", &mut definitions);
    let types = input_types();
    for kind in &types {
        input(kind).define(&format!("input.{kind}"), &mut definitions);
    }
    definitions.insert("input".into(), any_input(&types));
    definitions.insert("processor".into(), processor());
    let kinds: Map<String, Value> = KINDS.iter().map(|kind| ((*kind).to_owned(), json!({}))).collect();
    definitions.insert("condition".into(), json!({"type": ["object", "string", "null"], "properties": kinds}));
    let list_of = |items: &str, description: &str| json!({"type": ["array", "object", "string", "null"], "items": refer(items), "description": description});
    let processors = "Processors, in their order; each entry has one, or `if`, `then`, `else`.";
    definitions.insert("processors".into(), list_of("processor", processors));
    let lists: Vec<String> = definitions.keys().filter(|name| name.ends_with(".processors")).cloned().collect();
    lists.into_iter().for_each(|name| drop(definitions.insert(name, refer("processors"))));
    for (name, tree) in [
        ("inputs", &top.below["filebeat"].below["inputs"]),
        ("prospectors", &top.below["filebeat"].below["prospectors"]),
    ] {
        definitions.insert(format!("file.filebeat.{name}"), list_of("input", &tree.told.join("\n")));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "filebeat.yml, as Pillion reads it",
        "allOf": [refer("file")],
        "definitions": definitions,
    })
}

#[test]
#[cfg_attr(feature = "script", ignore = "the published file is made without the feature")]
fn the_schema_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema.json");
    let schema = schema();
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
    }
    let there: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
    assert!(there == schema, "docs/schema.json isn't what the code says; WRITE=1 writes it");
}

/// Follows keys down from a definition, through references and lists.
fn follow<'s>(schema: &'s Value, mut at: &'s Value, keys: &[&str]) -> Option<&'s Value> {
    for key in keys {
        at = resolve(schema, at);
        at = if *key == "*" { &at["items"] } else { at["properties"].get(*key)? };
    }
    Some(resolve(schema, at))
}

fn resolve<'s>(schema: &'s Value, mut at: &'s Value) -> &'s Value {
    while let Some(name) = at["$ref"].as_str().and_then(|name| name.strip_prefix("#/definitions/")) {
        at = schema["definitions"].get(name).unwrap();
    }
    at
}

#[test]
fn options_are_explained_nested_and_dotted() {
    let schema = schema();
    for (keys, part) in [
        (&["output", "elasticsearch", "hosts"][..], "works"),
        (&["output.elasticsearch.hosts"], "works"),
        (&["output.elasticsearch", "ssl.key"], "works"),
        (&["output", "kafka.kerberos"], "refused: Kerberos"),
        (&["filebeat.inputs"], "works"),
        (&["filebeat", "inputs"], "works"),
        (&["pillion.completion.flag"], "works"),
        (&["processors", "*", "drop_fields"], "Works"),
        (&["processors", "*", "parse_aws_vpc_flow_log"], "Refused: it reads the format of one vendor"),
    ] {
        let found = follow(&schema, &schema["definitions"]["file"], keys).unwrap_or_else(|| panic!("{keys:?}"));
        assert!(found["description"].as_str().is_some_and(|text| text.contains(part)), "{keys:?}: {found}");
    }
    for (kind, keys) in [
        ("filestream", &["parsers", "*", "multiline.pattern"][..]),
        ("filestream", &["parsers", "*", "multiline", "pattern"]),
        ("log", &["multiline.pattern"]),
        ("syslog", &["protocol.tcp", "ssl", "certificate"]),
        ("tcp", &["processors", "*", "add_tags.tags"]),
    ] {
        let at = &schema["definitions"][format!("input.{kind}")];
        assert!(follow(&schema, at, keys).is_some(), "{kind} {keys:?}");
    }
}

/// Every reference has its definition, and nothing but the choice of an input's type demands or forbids a key.
#[test]
fn nothing_is_demanded_and_nothing_points_nowhere() {
    fn walk(schema: &Value, at: &Value, in_condition: bool) {
        match at {
            Value::Object(map) => {
                resolve(schema, at);
                assert!(!map.contains_key("additionalProperties") && !map.contains_key("enum"), "{at}");
                assert!(in_condition || !map.contains_key("required"), "{at}");
                map.iter().for_each(|(key, below)| walk(schema, below, in_condition || key == "if"));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(schema, item, in_condition)),
            _ => {}
        }
    }
    let schema = schema();
    schema.as_object().unwrap().iter().for_each(|(_, below)| walk(&schema, below, false));
}
