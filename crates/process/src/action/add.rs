//! add_fields, add_labels, add_tags.

use pillion_config::{Error, Section};
use serde_json::{Map, Value};

use crate::action::{Action, Constant, Done, required_list, tag};
use crate::doc::Doc;
use crate::tree;

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
    let Some(Value::Object(fields)) = s.json("fields")? else {
        return Err(s.error("fields", "there are no fields to add", "write `fields: {name: value}`"));
    };
    let mut all = Map::new();
    if target.is_empty() {
        all = fields;
    } else {
        tree::put(&mut all, &target, Value::Object(fields))
            .map_err(|e| s.error("target", e, "give the name of an object"))?;
    }
    Ok(Box::new(AddFields(all)))
}

pub(super) fn labels(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let Some(Value::Object(labels)) = s.json("labels")? else {
        return Err(s.error("labels", "there are no labels to add", "write `labels: {name: value}`"));
    };
    // Labels are flat, and texts.
    let flat = tree::flatten(&labels).into_iter().map(|(path, value)| match value {
        Value::Number(n) => (path, Value::String(n.to_string())),
        Value::Bool(b) => (path, Value::String(b.to_string())),
        other => (path, other),
    });
    let all = [("labels".to_owned(), Value::Object(flat.collect()))].into_iter().collect();
    Ok(Box::new(AddFields(all)))
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
            ("add_labels: {labels: {a: {b: 1}, c: x}}", "/labels", json!({"a.b": "1", "c": "x"})),
            ("add_tags: {tags: [a]}", "/tags", json!(["a"])),
            ("add_tags: {tags: [a], target: j.o}", "/j/o", json!({"p": 1})),
            ("add_tags: {tags: [a], target: j.arr}", "/j/arr", json!(["q", "a"])),
        ] {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            assert_eq!(got.pointer(path), Some(&want), "{processor}: {got}");
        }
    }
}
