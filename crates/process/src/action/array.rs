//! extract_array.

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, required};
use crate::doc::Doc;
use crate::tree;

#[derive(Debug)]
struct ExtractArray {
    field: String,
    /// Target and index.
    mappings: Vec<(String, usize)>,
    ignore_missing: bool,
    omit_empty: bool,
    overwrite_keys: bool,
    fail_on_error: bool,
}

impl ExtractArray {
    fn extract(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let items = match doc.get(&self.field) {
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(()),
            Err(e) => return Err(format!("could not fetch value for field {}: {e}", self.field)),
            Ok(got) => match got.to_value() {
                Value::Array(items) => items,
                other => {
                    return Err(format!(
                        "unsupported type for field {}: {}",
                        self.field,
                        pillion_event::go_type(&other)
                    ));
                }
            },
        };
        for (target, index) in &self.mappings {
            let Some(value) = items.get(*index) else {
                return Err(format!("index {index} exceeds length of {} when processing mapping", items.len()));
            };
            if self.omit_empty && is_empty(value) {
                continue;
            }
            if !self.overwrite_keys && doc.get(target).is_ok() {
                return Err(format!(
                    "target field {target} already has a value. Set the overwrite_keys flag or drop/rename the field first"
                ));
            }
            doc.put(target, value.clone())?;
        }
        Ok(())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

impl Action for ExtractArray {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = self.fail_on_error.then(|| doc.keep());
        match (self.extract(doc), kept) {
            (Err(e), Some(kept)) => {
                doc.restore(kept);
                Err(e)
            }
            _ => Ok(Done::Keep),
        }
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let wrong = || s.error("mappings", "not a mapping from names to places", "write `mappings: {source.ip: 0}`");
    let Some(Value::Object(map)) = s.json("mappings")? else { return Err(wrong()) };
    let mut mappings = Vec::new();
    for (target, index) in tree::flatten(&map) {
        let index = index.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
        mappings.push((target, index));
    }
    mappings.sort_by_key(|(_, index)| *index);
    Ok(Box::new(ExtractArray {
        field: required(s, "field")?,
        mappings,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        omit_empty: s.bool("omit_empty")?.unwrap_or(false),
        overwrite_keys: s.bool("overwrite_keys")?.unwrap_or(false),
        fail_on_error: s.bool("fail_on_error")?.unwrap_or(true),
    }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::{Value, json};

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "arr": ["q", "", 3], "a": 1});
        let mut extracted = event.clone();
        extracted["x"] = json!({"z": "q"});
        extracted["n"] = json!(3);
        let unchanged: Value = event.clone();
        for (options, want) in [
            ("field: arr, mappings: {x.z: 0, n: 2}", &extracted),
            ("field: arr, mappings: {x: 0, z: 5}", &unchanged),
            ("field: a, mappings: {x: 0}", &unchanged),
            ("field: zz, mappings: {x: 0}", &unchanged),
            ("field: arr, mappings: {a: 0}", &unchanged),
            ("field: arr, omit_empty: true, mappings: {x.z: 0, n: 2, e: 1}", &extracted),
        ] {
            assert_eq!(&processed(&format!("[{{extract_array: {{{options}}}}}]"), event.clone()), want, "{options}");
        }
    }
}
