//! decode_json_fields.

use pillion_config::{Error, Section};
use serde_json::{Map, Value, json};

use crate::action::time::rfc3339_ms;
use crate::action::{Action, Done, required_list};
use crate::doc::{Doc, to_text};
use crate::json::{decode_only, expand, numbers};
use crate::tree;

#[derive(Debug)]
struct DecodeJson {
    fields: Vec<String>,
    max_depth: u32,
    process_array: bool,
    /// `None`: the field itself. Empty: the root.
    target: Option<String>,
    overwrite_keys: bool,
    add_error_key: bool,
    expand_keys: bool,
    document_id: Option<String>,
    /// 8 and 9 give each error its type, and leave the data out when there is none.
    typed_errors: bool,
}

/// Why a text isn't decoded.
enum Refused {
    /// It is a list, and lists aren't wanted.
    List,
    Broken(String),
}

impl DecodeJson {
    fn decode(&self, text: &str, depth: u32) -> Result<Value, Refused> {
        let mut value = decode_only(text.as_bytes()).map_err(Refused::Broken)?;
        match &mut value {
            Value::Object(map) => map.values_mut().for_each(numbers),
            // Filebeat leaves these numbers as Go's decoder gives them, and those are texts when they are written.
            other => number_texts(other),
        }
        if depth <= 1 {
            return Ok(value);
        }
        let deeper = |value: &mut Value| {
            let Value::String(text) = value else { return };
            if is_structured(text)
                && let Ok(decoded) = self.decode(text, depth - 1)
            {
                *value = decoded;
            }
        };
        match &mut value {
            Value::Object(map) => map.values_mut().for_each(deeper),
            Value::Array(_) if !self.process_array => return Err(Refused::List),
            Value::Array(items) => items.iter_mut().for_each(deeper),
            _ => {}
        }
        Ok(value)
    }

    fn one(&self, doc: &mut Doc<'_>, field: &str) -> Result<(), String> {
        let text = match doc.get(field) {
            Err(e) if e == tree::NOT_FOUND => return Ok(()),
            Err(e) => return Err(e),
            Ok(got) => match got.text() {
                None => return Ok(()),
                Some(text) => to_text(text),
            },
        };
        let mut output = match self.decode(&text, self.max_depth) {
            Ok(output) => output,
            Err(refused) => {
                let e = match refused {
                    Refused::List => "processing skipped".to_owned(),
                    Refused::Broken(e) => e,
                };
                self.error(doc, &format!("parsing input as JSON: {e}"), Some((text, field)));
                return Err(e);
            }
        };
        let id = self.document_id.as_ref().and_then(|key| {
            let map = output.as_object_mut()?;
            let id = tree::get(map, key).ok()?.as_str()?.to_owned();
            tree::delete(map, key).ok().map(|_| id)
        });
        match (self.target.as_deref().unwrap_or(field), output) {
            ("", Value::Object(map)) => self.write_keys(doc, map)?,
            ("", _) => return Err("failed to add target to root".to_owned()),
            (target, mut output) => {
                if let Value::Object(map) = &mut output {
                    self.expand(doc, map);
                } else if self.expand_keys && self.typed_errors {
                    doc.put(target, output)?;
                    return Err("failed to expand keys".to_owned());
                }
                doc.put(target, output)?;
            }
        }
        if let Some(id) = id {
            doc.put("@metadata._id", Value::String(id))?;
        }
        Ok(())
    }

    fn error(&self, doc: &mut Doc<'_>, message: &str, data: Option<(String, &str)>) {
        if self.add_error_key {
            let error = match data {
                Some((data, field)) if self.typed_errors && data.is_empty() => {
                    json!({"message": message, "type": "json", "field": field})
                }
                Some((data, field)) if self.typed_errors => {
                    json!({"message": message, "type": "json", "data": data, "field": field})
                }
                Some((data, field)) => json!({"message": message, "data": data, "field": field}),
                None => json!({"message": message, "type": "json"}),
            };
            // `error` may be a text of the event's own: then that stays.
            let _ = doc.put("error", error);
        }
    }

    /// Whether keys with dots could become objects, where that is wanted.
    fn expand(&self, doc: &mut Doc<'_>, map: &mut Map<String, Value>) -> bool {
        if !self.expand_keys {
            return true;
        }
        let expanded = expand(map, self.typed_errors);
        if let Err(e) = &expanded {
            self.error(doc, e, None);
        }
        expanded.is_ok()
    }

    /// Beats' `WriteJSONKeys`.
    fn write_keys(&self, doc: &mut Doc<'_>, mut map: Map<String, Value>) -> Result<(), String> {
        if !self.expand(doc, &mut map) {
            return Ok(());
        }
        let (time, metadata) = (map.remove("@timestamp"), map.remove("@metadata"));
        if !self.overwrite_keys {
            doc.merge(map, false);
            return Ok(());
        }
        match time {
            None => {}
            Some(Value::String(text)) => match rfc3339_ms(&text) {
                Some(ms) => doc.set_time(ms),
                None => self.error(doc, &format!("@timestamp not overwritten (parse error on {text})"), None),
            },
            Some(_) => self.error(doc, "@timestamp not overwritten (not string)", None),
        }
        match metadata {
            None => {}
            Some(metadata @ Value::Object(_)) => {
                doc.merge([("@metadata".to_owned(), metadata)].into_iter().collect(), true);
            }
            Some(_) => self.error(doc, "failed to update @metadata", None),
        }
        match map.remove("type") {
            None => {}
            Some(Value::String(t)) if t.is_empty() || t.starts_with('_') => {
                self.error(doc, &format!("type not overwritten (invalid value [{t}])"), None);
            }
            Some(t @ Value::String(_)) => doc.put("type", t)?,
            Some(_) => self.error(doc, "type not overwritten (not string)", None),
        }
        doc.merge(map, true);
        Ok(())
    }
}

/// Whether a text within a value looks like an object or a list: others stay texts, numbers among them.
fn is_structured(text: &str) -> bool {
    matches!(text.trim().as_bytes(), [b'{', .., b'}'] | [b'[', .., b']'])
}

fn number_texts(value: &mut Value) {
    match value {
        Value::Number(n) => *value = Value::String(n.to_string()),
        Value::Array(items) => items.iter_mut().for_each(number_texts),
        Value::Object(map) => map.values_mut().for_each(number_texts),
        _ => {}
    }
}

impl Action for DecodeJson {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let errors: Vec<String> = self.fields.iter().filter_map(|field| self.one(doc, field).err()).collect();
        if errors.is_empty() { Ok(Done::Keep) } else { Err(errors.join(", ")) }
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let flag = |key| Ok(s.bool(key)?.unwrap_or(false));
    let max_depth = s.u64_in("max_depth", 1..=64)?.unwrap_or(1);
    Ok(Box::new(DecodeJson {
        fields: required_list(s, "fields")?,
        max_depth: u32::try_from(max_depth).unwrap_or(1),
        process_array: flag("process_array")?,
        target: s.str("target")?,
        overwrite_keys: flag("overwrite_keys")?,
        add_error_key: flag("add_error_key")?,
        expand_keys: flag("expand_keys")?,
        document_id: s.str("document_id")?.filter(|id| !id.is_empty()),
        typed_errors: s.compat().is_modern(),
    }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::{Value, json};

    #[test]
    fn as_filebeat() {
        let line = r#"{"a":1.0,"s":"{\"q\":2}","l":"[1]","n":"5","t":"true","q":"\"q\"","o":{"p":1.0},"id":"I","a.b":3,"message":"own","@timestamp":"2020-01-02T03:04:05Z"}"#;
        let event = json!({"message": line, "a": 0, "o": "text"});
        for (options, path, want) in [
            ("target: j", "/j/a", json!(1)),
            ("target: j", "/j/s", json!("{\"q\":2}")),
            ("target: j, max_depth: 2", "/j/s", json!({"q": 2})),
            ("target: j, max_depth: 3", "/j/l", json!("[1]")),
            ("target: j, max_depth: 2", "/j/l", json!(["1"])),
            ("target: j, max_depth: 3, process_array: true", "/j/l", json!(["1"])),
            ("target: j, max_depth: 3", "/j/n", json!("5")),
            ("target: j, max_depth: 3", "/j/t", json!("true")),
            ("target: j, max_depth: 3", "/j/q", json!("\"q\"")),
            ("target: ''", "/o", json!({"p": 1})),
            ("target: j, document_id: id", "/@metadata", json!({"_id": "I"})),
            ("target: ''", "/a", json!(0)),
            ("target: ''", "/message", json!(line)),
            ("target: '', overwrite_keys: true", "/message", json!("own")),
            ("target: '', overwrite_keys: true", "/@timestamp", json!(1_577_934_245_000_i64)),
        ] {
            let got = processed(&format!("[{{decode_json_fields: {{fields: [message], {options}}}}}]"), event.clone());
            assert_eq!(got.pointer(path), Some(&want), "{options}: {got}");
        }
        let got = processed("[{decode_json_fields: {fields: [message]}}]", json!({"message": "{\"a\":[1]}"}));
        assert_eq!(got, json!({"message": {"a": [1]}}));
        let whole = |text: &str, options: &str| {
            processed(
                &format!("[{{decode_json_fields: {{fields: [message], target: j{options}}}}}]"),
                json!({"message": text}),
            )["j"]
                .take()
        };
        for (text, options, want) in [
            ("[1,[2.5],{\"a\":3}]", "", json!(["1", ["2.5"], {"a": "3"}])),
            ("[1,\"{\\\"k\\\":3}\"]", ", max_depth: 2, process_array: true", json!(["1", {"k": 3}])),
            ("[1]", ", max_depth: 2", Value::Null),
            ("5", "", json!("5")),
            ("true", "", json!(true)),
            ("{\"a\":1} x", "", Value::Null),
        ] {
            assert_eq!(whole(text, options), want, "{text}{options}");
        }
        let broken = json!({"message": "no json"});
        assert_eq!(processed("[{decode_json_fields: {fields: [message, zz]}}]", broken.clone()), broken);
        let got = processed("[{decode_json_fields: {fields: [message], add_error_key: true}}]", broken);
        assert_eq!(got.pointer("/error/field"), Some(&json!("message")));
    }
}
