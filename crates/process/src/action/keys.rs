//! lowercase, uppercase, move_fields, append.

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, fail, required, required_list};
use crate::doc::Doc;
use crate::tree;

/// The options of both.
pub(super) const CASE: &[&str] = &["fields", "values", "ignore_missing", "fail_on_error", "alter_full_field"];

/// Whether names, or texts too (9.1's `values`), change their case.
#[derive(Debug)]
struct Case {
    upper: bool,
    fields: Vec<String>,
    values: Vec<String>,
    ignore_missing: bool,
    fail_on_error: bool,
    /// Every part of the path, not the last one alone.
    full: bool,
}

impl Case {
    fn alter(&self, text: &str) -> String {
        if self.upper { text.to_uppercase() } else { text.to_lowercase() }
    }

    /// The field's name; parts of the path are found whatever their case.
    fn key(&self, doc: &mut Doc<'_>, field: &str) -> Result<(), String> {
        let found = doc.find_path(field)?;
        let altered = match found.rsplit_once('.') {
            Some((above, last)) if !self.full => format!("{above}.{}", self.alter(last)),
            _ => self.alter(&found),
        };
        if altered == found {
            return Ok(());
        }
        doc.rename_path(&found, &altered)
    }

    fn value(&self, doc: &mut Doc<'_>, field: &str) -> Result<(), String> {
        let altered = match doc.get(field)?.to_value() {
            Value::String(text) => Value::String(self.alter(&text)),
            Value::Array(items) => {
                let texts: Option<Vec<String>> = items.iter().map(|v| v.as_str().map(|t| self.alter(t))).collect();
                Value::from(texts.ok_or_else(|| format!("value of key {field:?} is not a string"))?)
            }
            _ => return Err(format!("value of key {field:?} is not a string")),
        };
        doc.put(field, altered)
    }
}

impl Action for Case {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = self.fail_on_error.then(|| doc.keep());
        let keys = self.fields.iter().map(|field| (field, true));
        for (field, is_key) in keys.chain(self.values.iter().map(|field| (field, false))) {
            let done = if is_key { self.key(doc, field) } else { self.value(doc, field) };
            match (done, kept.is_some()) {
                (Err(e), _) if self.ignore_missing && e == tree::NOT_FOUND => {}
                (Err(e), true) => {
                    if let Some(kept) = kept {
                        doc.restore(kept);
                    }
                    let is_missing = e == tree::NOT_FOUND;
                    let e = if is_missing { format!("could not fetch value for key: {field}, Error: {e}") } else { e };
                    return fail(doc, e);
                }
                _ => {}
            }
        }
        Ok(Done::Keep)
    }
}

fn case(s: &Section<'_>, upper: bool) -> Result<Box<dyn Action>, Error> {
    let values = s.strings("values")?;
    let fields = if values.is_empty() { required_list(s, "fields")? } else { s.strings("fields")? };
    // `@timestamp` and `type` keep their names.
    let free = |field: &String| {
        let lower = field.to_lowercase();
        !["@timestamp", "type"].iter().any(|kept| lower == *kept || lower.starts_with(&format!("{kept}.")))
    };
    Ok(Box::new(Case {
        upper,
        fields: fields.into_iter().filter(free).collect(),
        values,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        fail_on_error: s.bool("fail_on_error")?.unwrap_or(true),
        full: s.bool("alter_full_field")?.unwrap_or(true),
    }))
}

pub(super) fn lowercase(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    case(s, false)
}

pub(super) fn uppercase(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    case(s, true)
}

#[derive(Debug)]
struct MoveFields {
    /// Empty = the root.
    from: String,
    /// Empty = all below `from`.
    fields: Vec<String>,
    exclude: Vec<String>,
    /// Put before each name; no dot is added.
    to: String,
    ignore_missing: bool,
}

impl MoveFields {
    fn all(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let prefix = if self.from.is_empty() { String::new() } else { format!("{}.", self.from) };
        let below = if self.from.is_empty() {
            doc.names()
        } else {
            match doc.get(&self.from) {
                Err(e) => return Err(format!("cannot get value from key '{}': {e}", self.from)),
                Ok(got) => match got.to_value() {
                    Value::Object(map) => map.keys().cloned().collect(),
                    other => return Err(format!("'{}' does not contain an object, it contains '{other}'", self.from)),
                },
            }
        };
        let keys = if self.fields.is_empty() { &below } else { &self.fields };
        for key in keys.iter().filter(|key| !self.exclude.contains(key)) {
            let value = match doc.get(&format!("{prefix}{key}")) {
                Err(e) if self.ignore_missing && e == tree::NOT_FOUND => continue,
                Err(e) => return Err(format!("move field read field from parent, sub key: {key}, failed: {e}")),
                Ok(got) => got.to_value(),
            };
            doc.delete(&format!("{prefix}{key}"))
                .map_err(|e| format!("move field delete field from parent sub key: {key}, failed: {e}"))?;
            let target = format!("{}{key}", self.to);
            doc.put(&target, value)
                .map_err(|e| format!("move field write field to sub key: {key}, new key: {target}, failed: {e}"))?;
        }
        Ok(())
    }
}

impl Action for MoveFields {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = doc.keep();
        match self.all(doc) {
            Ok(()) => Ok(Done::Keep),
            // Filebeat loses the event here.
            Err(e) => {
                doc.restore(kept);
                fail(doc, e)
            }
        }
    }
}

pub(super) fn move_fields(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let Some(to) = s.str("to")? else {
        return Err(s.error("to", "`to` is missing", "give what is put before each name, such as `app.`"));
    };
    Ok(Box::new(MoveFields {
        from: s.str("from")?.unwrap_or_default(),
        fields: s.strings("fields")?,
        exclude: s.strings("exclude")?,
        to,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
    }))
}

#[derive(Debug)]
struct Append {
    target: String,
    fields: Vec<String>,
    values: Vec<Value>,
    ignore_missing: bool,
    ignore_empty: bool,
    fail_on_error: bool,
    duplicates: bool,
}

fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        one => vec![one],
    }
}

impl Append {
    fn append(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let mut all = doc.get(&self.target).map(|got| items(got.to_value())).unwrap_or_default();
        for field in &self.fields {
            match doc.get(field) {
                Err(e) if self.ignore_missing && e == tree::NOT_FOUND => {}
                Err(e) => return Err(format!("could not fetch value for key: {field}, Error: {e}")),
                Ok(got) => all.extend(items(got.to_value())),
            }
        }
        all.extend(self.values.iter().cloned());
        if self.ignore_empty {
            all.retain(|value| !value.is_null() && value.as_str() != Some(""));
        }
        if !self.duplicates {
            let mut once: Vec<Value> = Vec::with_capacity(all.len());
            all.into_iter().for_each(|value| {
                if !once.contains(&value) {
                    once.push(value);
                }
            });
            all = once;
        }
        match doc.delete(&self.target) {
            Err(e) if e != tree::NOT_FOUND => {
                return Err(format!("unable to delete the target field {} due to error: {e}", self.target));
            }
            _ => {}
        }
        doc.put(&self.target, Value::Array(all))
            .map_err(|e| format!("unable to put values in the target field {} due to error: {e}", self.target))
    }
}

impl Action for Append {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        // Nothing is written before all of it is there.
        match self.append(doc) {
            Err(e) if self.fail_on_error => fail(doc, format!("failed to append fields in append processor: {e}")),
            _ => Ok(Done::Keep),
        }
    }
}

pub(super) fn append(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let values = match s.json("values")? {
        None => Vec::new(),
        Some(values) => items(values),
    };
    Ok(Box::new(Append {
        target: required(s, "target_field")?,
        fields: s.strings("fields")?,
        values,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        ignore_empty: s.bool("ignore_empty_values")?.unwrap_or(false),
        fail_on_error: s.bool("fail_on_error")?.unwrap_or(true),
        duplicates: s.bool("allow_duplicate")?.unwrap_or(true),
    }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::{processed, with};
    use serde_json::{Value, json};

    /// `lowercase_test.go`, `uppercase_test.go`, 9.
    #[test]
    fn cases() {
        let event = json!({"message": "Ab", "Field1": {"SubField": 1}, "l": ["A", "B"], "num": 1});
        for (processor, want) in [
            ("lowercase: {fields: [Field1]}", json!({"field1": {"SubField": 1}})),
            ("lowercase: {fields: [field1.subfield]}", json!({"field1": {"subfield": 1}})),
            ("lowercase: {fields: [Field1.SubField], alter_full_field: false}", json!({"Field1": {"subfield": 1}})),
            ("uppercase: {fields: [Field1.SubField]}", json!({"FIELD1": {"SUBFIELD": 1}})),
            (
                "lowercase: {fields: [zz]}",
                json!({
                    "Field1": {"SubField": 1},
                    "error": {"message": "could not fetch value for key: zz, Error: key not found"},
                }),
            ),
            ("lowercase: {fields: [zz], ignore_missing: true}", json!({"Field1": {"SubField": 1}})),
            ("lowercase: {fields: [zz, Field1], fail_on_error: false}", json!({"field1": {"SubField": 1}})),
        ] {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            let mut rest = event.clone();
            rest.as_object_mut().map(|map| map.remove("Field1"));
            assert_eq!(got, with(&rest, want), "{processor}");
        }
        for (processor, change) in [
            ("lowercase: {values: [message]}", json!({"message": "ab"})),
            ("lowercase: {values: [l]}", json!({"l": ["a", "b"]})),
            (
                "uppercase: {values: [message, num]}",
                json!({"error": {"message": "value of key \"num\" is not a string"}}),
            ),
        ] {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            assert_eq!(got, with(&event, change), "{processor}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_not_overwritten() {
        let event = json!({"message": "m", "A": 1, "a": 2});
        let got = processed("[{uppercase: {fields: [a]}}]", event.clone());
        assert_eq!((&got["A"], &got["a"]), (&event["A"], &event["a"]), "{got}");
        assert!(got["error"]["message"].is_string());
    }

    /// `move_fields_test.go`, 9; where Filebeat loses the event, it passes here.
    #[test]
    fn moves() {
        let event = json!({"message": "m", "app": {"method": "a", "elapsed": 100, "id": "x"}});
        let missing = "move field read field from parent, sub key: zz, failed: key not found";
        for (options, app, rpc) in [
            (
                "from: app, fields: [method, elapsed], to: rpc.",
                json!({"id": "x"}),
                json!({"method": "a", "elapsed": 100}),
            ),
            ("from: app, exclude: [method], to: rpc.", json!({"method": "a"}), json!({"elapsed": 100, "id": "x"})),
            (
                "from: app, fields: [zz, id], ignore_missing: true, to: rpc.",
                json!({"method": "a", "elapsed": 100}),
                json!({"id": "x"}),
            ),
            ("from: app, fields: [id, zz], to: rpc.", event["app"].clone(), Value::Null),
        ] {
            let got = processed(&format!("[{{move_fields: {{{options}}}}}]"), event.clone());
            assert_eq!((&got["app"], &got["rpc"]), (&app, &rpc), "{options}");
            assert_eq!(got["error"]["message"] == json!(missing), rpc.is_null(), "{got}");
        }
        let got = processed("[{move_fields: {fields: [message], to: 'my_'}}]", event);
        assert_eq!((&got["my_message"], &got["message"]), (&json!("m"), &Value::Null));
    }

    /// `append_test.go`, 9.
    #[test]
    fn appends() {
        let event = json!({"message": "m", "one": "x", "list": ["x", ""], "t": "t0"});
        let failed =
            "failed to append fields in append processor: could not fetch value for key: zz, Error: key not found";
        for (options, change) in [
            ("target_field: new, fields: [one, list], values: [1]", json!({"new": ["x", "x", "", 1]})),
            ("target_field: t, fields: [one]", json!({"t": ["t0", "x"]})),
            ("target_field: list, values: [x, w], allow_duplicate: false", json!({"list": ["x", "", "w"]})),
            ("target_field: list, values: [w], ignore_empty_values: true", json!({"list": ["x", "w"]})),
            ("target_field: new, fields: [zz]", json!({"error": {"message": failed}})),
            ("target_field: new, fields: [zz], fail_on_error: false", json!({})),
            ("target_field: new, fields: [zz, one], ignore_missing: true", json!({"new": ["x"]})),
        ] {
            let got = processed(&format!("[{{append: {{{options}}}}}]"), event.clone());
            assert_eq!(got, with(&event, change), "{options}");
        }
    }
}
