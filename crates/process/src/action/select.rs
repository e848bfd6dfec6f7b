//! drop_event, drop_fields, include_fields.

use pillion_config::{Error, Section};
use regex::Regex;
use serde_json::Map;

use crate::action::{Action, Done, required_list};
use crate::doc::Doc;
use crate::tree;

#[derive(Debug)]
struct DropEvent;

impl Action for DropEvent {
    fn run(&self, _: &mut Doc<'_>) -> Result<Done, String> {
        Ok(Done::Drop)
    }
}

pub(super) fn drop_event(_: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    Ok(Box::new(DropEvent))
}

/// Names of fields, and in 8 and 9 patterns for them (`/…/`).
#[derive(Debug, Default)]
struct Names {
    plain: Vec<String>,
    patterns: Vec<Regex>,
}

/// What isn't dropped by its name (Beats' `MandatoryExportedFields`).
fn is_kept(name: &str) -> bool {
    ["@timestamp", "type"]
        .iter()
        .any(|kept| name.strip_prefix(kept).is_some_and(|r| r.is_empty() || r.starts_with('.')))
}

impl Names {
    fn read(s: &Section<'_>) -> Result<Names, Error> {
        let mut names = Names::default();
        for name in required_list(s, "fields")?.into_iter().filter(|name| !is_kept(name)) {
            let pattern = name.strip_prefix('/').and_then(|n| n.strip_suffix('/')).filter(|n| !n.is_empty());
            match pattern.filter(|_| s.compat().is_modern()) {
                None => names.plain.push(name),
                Some(pattern) => names.patterns.push(Regex::new(pattern).map_err(|e| {
                    let why = e.to_string().lines().last().unwrap_or_default().to_owned();
                    s.error("fields", format!("not a regular expression: {why}"), "write it in Go's RE2 syntax")
                })?),
            }
        }
        Ok(names)
    }

    /// The paths of this event that patterns match.
    fn matched(&self, doc: &mut Doc<'_>) -> Vec<String> {
        if self.patterns.is_empty() {
            return Vec::new();
        }
        let paths = doc.paths().into_iter();
        paths.filter(|path| self.patterns.iter().any(|pattern| pattern.is_match(path))).collect()
    }
}

#[derive(Debug)]
struct DropFields {
    names: Names,
    ignore_missing: bool,
}

impl Action for DropFields {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let mut errors = Vec::new();
        let matched = self.names.matched(doc);
        for name in self.names.plain.iter().chain(&matched) {
            match doc.delete(name) {
                Err(e) if !(self.ignore_missing && e == tree::NOT_FOUND) => {
                    errors.push(format!("failed to drop field [{name}], error: {e}"));
                }
                _ => {}
            }
        }
        if errors.is_empty() { Ok(Done::Keep) } else { Err(errors.join(", ")) }
    }
}

pub(super) fn drop_fields(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let ignore_missing = s.bool("ignore_missing")?.unwrap_or(false);
    Ok(Box::new(DropFields { names: Names::read(s)?, ignore_missing }))
}

#[derive(Debug)]
struct IncludeFields(Vec<String>);

impl Action for IncludeFields {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let mut kept = Map::new();
        let mut text = false;
        for name in self.0.iter().map(String::as_str).chain(["type"]) {
            if name == "message" && doc.text_is_own() {
                text = true;
            } else if name != "@timestamp"
                && !name.starts_with("@metadata")
                && let Ok(value) = doc.get(name).map(|got| got.to_value())
            {
                tree::put(&mut kept, name, value)?;
            }
        }
        doc.replace(kept, text);
        Ok(Done::Keep)
    }
}

pub(super) fn include_fields(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    Ok(Box::new(IncludeFields(required_list(s, "fields")?)))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::{processed, processed_as};
    use serde_json::{Value, json};

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "j": {"a": 1, "b": {"c": 2}}, "type": "log"});
        for (processor, want) in [
            ("drop_event: {when.equals.j.a: 1}", Value::Null),
            ("drop_event: {when.equals.j.a: 2}", event.clone()),
            ("drop_fields: {fields: [j.zz]}", event.clone()),
            ("drop_fields: {fields: [j, type, '@timestamp']}", json!({"message": "m", "type": "log"})),
            ("drop_fields: {fields: [zz, message, j.b.c]}", json!({"j": {"a": 1, "b": {}}, "type": "log"})),
            ("drop_fields: {fields: ['/^j\\./']}", event.clone()),
            ("include_fields: {fields: [j.a, zz]}", json!({"j": {"a": 1}, "type": "log"})),
            ("include_fields: {fields: [message]}", json!({"message": "m", "type": "log"})),
            ("include_fields: {fields: ['/^j[.]b/']}", json!({"type": "log"})),
        ] {
            assert_eq!(processed(&format!("[{{{processor}}}]"), event.clone()), want, "{processor}");
        }
    }

    /// From 8 on `drop_fields` takes patterns; they reach `type`, which its name doesn't.
    #[test]
    fn patterns() {
        let event = json!({"message": "m", "j": {"a": 1, "b": {"c": 2}}, "type": "log"});
        for (fields, want) in [
            (r"'/^j\./'", json!({"message": "m", "j": {}, "type": "log"})),
            (r"'/^j/', type, type.x", json!({"message": "m", "type": "log"})),
            (r"'/^t/', '//', '/'", json!({"message": "m", "j": {"a": 1, "b": {"c": 2}}})),
            (r"'/zz/'", event.clone()),
        ] {
            let steps = format!("[{{drop_fields: {{fields: [{fields}]}}}}]");
            for dialect in [8, 9] {
                assert_eq!(processed_as(dialect, &steps, event.clone()), want, "{fields}");
            }
        }
    }
}
