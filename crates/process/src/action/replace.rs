//! replace.

use pillion_config::{Error, Section};
use regex::Regex;
use serde_json::Value;

use crate::action::{Action, Done, fail, fetch_text, missing, pattern, required};
use crate::doc::{Doc, Got, to_text};

/// One field, and what becomes of each match in it.
#[derive(Debug)]
struct Field {
    field: String,
    pattern: Regex,
    /// `$1` and `${name}` stand for groups, `$$` for a dollar: Go's `Expand`, which is the regex crate's too.
    replacement: String,
}

#[derive(Debug)]
struct Replace {
    fields: Vec<Field>,
    ignore_missing: bool,
    fail_on_error: bool,
}

impl Replace {
    fn one(&self, doc: &mut Doc<'_>, field: &Field) -> Result<(), String> {
        let wrong = |kind: &str, value: &str| {
            format!("key '{}' expected type string, but got {kind} with value '{value}'", field.field)
        };
        if let Ok(Got::Value(object @ Value::Object(_))) = doc.get(&field.field) {
            return Err(wrong("mapstr.M", &object.to_string()));
        }
        let Some(text) = fetch_text(doc, &field.field, "could not fetch value for key", self.ignore_missing, wrong)?
        else {
            return Ok(());
        };
        let text = to_text(&text);
        let replaced = field.pattern.replace_all(&text, field.replacement.as_str());
        if replaced == text {
            return Ok(());
        }
        let replaced = replaced.into_owned();
        doc.put(&field.field, Value::String(replaced))
            .map_err(|e| format!("could not put value: {}: {text}, {e}", field.replacement))
    }
}

impl Action for Replace {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = (self.fail_on_error && self.fields.len() > 1).then(|| doc.keep());
        for field in &self.fields {
            let Err(e) = self.one(doc, field) else { continue };
            if self.fail_on_error {
                if let Some(kept) = kept {
                    doc.restore(kept);
                }
                return fail(doc, format!("Failed to replace fields in processor: {e}"));
            }
        }
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let mut fields = Vec::new();
    for item in s.sections("fields")? {
        let Some(replacement) = item.str("replacement")? else { return Err(missing(&item, "replacement")) };
        fields.push(Field { field: required(&item, "field")?, pattern: pattern(&item, "pattern")?, replacement });
    }
    if fields.is_empty() {
        return Err(missing(s, "fields"));
    }
    let ignore_missing = s.bool("ignore_missing")?.unwrap_or(false);
    let fail_on_error = s.bool("fail_on_error")?.unwrap_or(true);
    Ok(Box::new(Replace { fields, ignore_missing, fail_on_error }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    /// `libbeat/processors/actions/replace.go`, 9.
    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "f": "hello hello", "num": 5, "agent": {"name": "sparse-17"}});
        let failed =
            |text: &str| json!({"error": {"message": format!("Failed to replace fields in processor: {text}")}});
        for (options, change) in [
            ("fields: [{field: f, pattern: 'hel+o', replacement: x}]", json!({"f": "x x"})),
            (
                "fields: [{field: agent.name, pattern: '^.*-(.*)$', replacement: 'host-$1'}]",
                json!({"agent": {"name": "host-17"}}),
            ),
            ("fields: [{field: message, pattern: m, replacement: ''}]", json!({"message": ""})),
            ("fields: [{field: f, pattern: zz, replacement: x}]", json!({})),
            (
                "fields: [{field: zz, pattern: a, replacement: b}]",
                failed("could not fetch value for key: zz, Error: key not found"),
            ),
            ("fields: [{field: zz, pattern: a, replacement: b}], ignore_missing: true", json!({})),
            ("fields: [{field: zz, pattern: a, replacement: b}], fail_on_error: false", json!({})),
            (
                "fields: [{field: f, pattern: h, replacement: x}, {field: num, pattern: a, replacement: b}]",
                failed("key 'num' expected type string, but got int64 with value '5'"),
            ),
            (
                "fail_on_error: false, fields: [{field: num, pattern: a, replacement: b}, {field: f, pattern: h, replacement: x}]",
                json!({"f": "xello xello"}),
            ),
        ] {
            let got = processed(&format!("[{{replace: {{{options}}}}}]"), event.clone());
            assert_eq!(got, with(&event, change), "{options}");
        }
    }
}
