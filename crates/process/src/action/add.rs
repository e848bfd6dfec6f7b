//! add_fields, add_labels, add_tags.

use pillion_config::{Error, Section};
use serde_json::{Map, Value};

use crate::action::{Action, Constant, Done, required_list, tag};
use crate::doc::Doc;
use crate::json::numbers;

#[derive(Debug)]
struct AddFields(Map<String, Value>);

impl Action for AddFields {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        doc.merge(self.0.clone(), true);
        Ok(Done::Keep)
    }

    fn constant(&self) -> Option<Constant> {
        Some(Constant { fields: self.0.clone(), tags: Vec::new() })
    }
}

pub(super) fn fields(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let target = s.str("target")?.unwrap_or_else(|| "fields".to_owned());
    let Some(Value::Object(mut fields)) = s.json("fields")? else {
        return Err(s.error("fields", "there are no fields to add", "write `fields: {name: value}`"));
    };
    without_nulls(&mut fields);
    fields.values_mut().for_each(numbers);
    let mut all = Map::new();
    if target.is_empty() {
        all = fields;
    } else {
        // As it stands: dots don't lead into objects here.
        all.insert(target, Value::Object(fields));
    }
    Ok(Box::new(AddFields(all)))
}

pub(super) fn labels(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let Some(Value::Object(labels)) = s.json("labels")? else {
        return Err(s.error("labels", "there are no labels to add", "write `labels: {name: value}`"));
    };
    // Labels are flat, and texts.
    let mut flat = Map::new();
    labels.into_iter().for_each(|(name, value)| flat_label(name, value, &mut flat));
    let all = [("labels".to_owned(), Value::Object(flat))].into_iter().collect();
    Ok(Box::new(AddFields(all)))
}

/// What has no value in the configuration isn't there.
fn without_nulls(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
    fields.values_mut().filter_map(Value::as_object_mut).for_each(without_nulls);
}

fn flat_label(path: String, value: Value, out: &mut Map<String, Value>) {
    let text = match value {
        Value::Object(below) if !below.is_empty() => {
            return below.into_iter().for_each(|(name, value)| flat_label(format!("{path}.{name}"), value, out));
        }
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            return items.for_each(|(i, value)| flat_label(format!("{path}.{i}"), value, out));
        }
        Value::Number(n) => Value::String(n.to_string()),
        Value::Bool(b) => Value::String(b.to_string()),
        other => other,
    };
    out.insert(path, text);
}

#[derive(Debug)]
struct AddTags {
    tags: Vec<String>,
    target: String,
}

impl Action for AddTags {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        tag(doc, &self.target, &self.tags)?;
        Ok(Done::Keep)
    }

    fn constant(&self) -> Option<Constant> {
        (self.target == "tags").then(|| Constant { fields: Map::new(), tags: self.tags.clone() })
    }
}

pub(super) fn tags(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let target = s.str("target")?.filter(|t| !t.is_empty()).unwrap_or_else(|| "tags".to_owned());
    Ok(Box::new(AddTags { tags: required_list(s, "tags")?, target }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::json;

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "j": {"o": {"p": 1}, "arr": ["q"]}});
        for (processor, path, want) in [
            ("add_fields: {fields: {a.b: 1}}", "/fields", json!({"a": {"b": 1}})),
            ("add_fields: {target: '', fields: {j.o: {q: 1}}}", "/j/o", json!({"p": 1, "q": 1})),
            ("add_fields: {target: '', fields: {message: zz}}", "/message", json!("zz")),
            ("add_fields: {target: '@metadata', fields: {x: 1}}", "/@metadata", json!({"x": 1})),
            (
                "add_fields: {fields: {f: 1.0, n: null, o: {n: null, g: 1.5}, e: {}}}",
                "/fields",
                json!({"f": 1, "o": {"g": 1.5}}),
            ),
            ("add_fields: {target: j.new, fields: {x: 1}}", "/j.new", json!({"x": 1})),
            ("add_fields: {target: message.x, fields: {x: 1}}", "/message", json!("m")),
            ("add_labels: {labels: {l: [1, {a: x}]}}", "/labels", json!({"l.0": "1", "l.1.a": "x"})),
            ("add_tags: {tags: [a], target: message}", "/message", json!("m")),
            ("add_labels: {labels: {a: {b: 1}, c: x}}", "/labels", json!({"a.b": "1", "c": "x"})),
            ("add_tags: {tags: [a]}", "/tags", json!(["a"])),
            ("add_tags: {tags: [a], target: j.o}", "/j/o", json!({"p": 1})),
            ("add_tags: {tags: [a], target: j.arr}", "/j/arr", json!(["q", "a"])),
        ] {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            assert_eq!(got.pointer(path), Some(&want), "{processor}: {got}");
        }
        // No time comes from a text.
        let time = "add_fields: {target: '', fields: {'@timestamp': '2020-01-01T00:00:00Z', x: 1}}";
        assert_eq!(processed(&format!("[{{{time}}}]"), json!({"message": "m"})), json!({"message": "m", "x": 1}));
    }
}
