//! convert.

use std::net::IpAddr;

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, missing, required};
use crate::doc::Doc;
use crate::{json, tree};

/// What a value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Integer,
    Long,
    Float,
    Double,
    Text,
    Boolean,
    Ip,
}

const TYPES: &[(&str, Type)] = &[
    ("integer", Type::Integer),
    ("long", Type::Long),
    ("float", Type::Float),
    ("double", Type::Double),
    ("string", Type::Text),
    ("boolean", Type::Boolean),
    ("ip", Type::Ip),
];

impl Type {
    /// By its name in the configuration.
    pub(super) fn named(name: &str) -> Option<Type> {
        TYPES.iter().find(|(known, _)| *known == name).map(|(_, t)| *t)
    }

    /// A value of this type; `None` when it can't be one.
    pub(super) fn of(self, value: &Value) -> Option<Value> {
        match self {
            Type::Integer => Some(Value::from(i32::try_from(int(value)?).ok()?)),
            Type::Long => Some(Value::from(int(value)?)),
            Type::Float => {
                let short = (float(value)? as f32).to_string();
                json::float(short.parse().ok()?).map(Value::Number)
            }
            Type::Double => json::float(float(value)?).map(Value::Number),
            Type::Text => Some(Value::String(shown(value))),
            Type::Boolean => match value {
                Value::Bool(b) => Some(Value::Bool(*b)),
                Value::String(s) => match s.as_str() {
                    "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Value::Bool(true)),
                    "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Value::Bool(false)),
                    _ => None,
                },
                _ => None,
            },
            Type::Ip => value.as_str().filter(|s| s.parse::<IpAddr>().is_ok()).map(Value::from),
        }
    }
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|f| f.abs() < 9.2e18).map(|f| f as i64)),
        Value::String(s) => match s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
            Some(hex) => i64::from_str_radix(hex, 16).ok(),
            None => s.parse().ok(),
        },
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.parse().ok().filter(|f: &f64| f.is_finite()),
        _ => None,
    }
}

/// Go's `%v`.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut all: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", shown(v))).collect();
            all.sort_unstable();
            format!("map[{}]", all.join(" "))
        }
    }
}

#[derive(Debug)]
struct Field {
    from: String,
    to: String,
    kind: Option<Type>,
}

#[derive(Debug)]
struct Convert {
    fields: Vec<Field>,
    rename: bool,
    ignore_missing: bool,
    fail_on_error: bool,
}

impl Convert {
    fn convert(&self, doc: &mut Doc<'_>, field: &Field) -> Result<Option<Value>, String> {
        let value = match doc.get(&field.from) {
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(None),
            Err(e) => return Err(format!("field [{}] is missing: {e}", field.from)),
            Ok(got) => got.to_value(),
        };
        let Some(kind) = field.kind else { return Ok(Some(value)) };
        let wrong = || format!("conversion of field [{}] to type [{kind:?}] failed", field.from);
        kind.of(&value).ok_or_else(wrong).map(Some)
    }
}

impl Action for Convert {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let mut converted = Vec::with_capacity(self.fields.len());
        // Nothing is written before all of it can be.
        for field in &self.fields {
            match self.convert(doc, field) {
                Ok(value) => converted.push(value),
                Err(e) if self.fail_on_error => return Err(e),
                Err(_) => converted.push(None),
            }
        }
        let kept = doc.keep();
        for (field, value) in self.fields.iter().zip(converted) {
            let Some(value) = value else { continue };
            let written = doc.put(&field.to, value);
            if self.rename && field.to != field.from && written.is_ok() {
                doc.delete(&field.from)?;
            }
            if let (Err(e), true) = (written, self.fail_on_error) {
                doc.restore(kept);
                return Err(e);
            }
        }
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
    let rename = s.choice("mode", &["copy", "rename"])? == Some("rename");
    let mut fields = Vec::new();
    for item in s.sections("fields")? {
        let from = required(&item, "from")?;
        let to = item.str("to")?.filter(|to| !to.is_empty()).unwrap_or_else(|| from.clone());
        let kind = item.choice("type", &names)?.and_then(Type::named);
        if kind.is_none() && from == to {
            return Err(item.error_here("neither a name nor a type is changed", "give `to` or `type`"));
        }
        fields.push(Field { from, to, kind });
    }
    if fields.is_empty() {
        return Err(missing(s, "fields"));
    }
    s.str("tag")?;
    let ignore_missing = s.bool("ignore_missing")?.unwrap_or(false);
    let fail_on_error = s.bool("fail_on_error")?.unwrap_or(true);
    Ok(Box::new(Convert { fields, rename, ignore_missing, fail_on_error }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::json;

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "a": 1, "f": 1.5, "s": "x", "num": "42", "h": "0x1f", "b": true,
            "ip": "10.0.0.1", "o": {"p": 1}});
        for (options, add) in [
            ("fields: [{from: f, to: x, type: integer}]", json!({"x": 1})),
            ("fields: [{from: h, to: x, type: long}]", json!({"x": 31})),
            ("fields: [{from: num, to: x, type: double}, {from: f, to: y2, type: float}]", json!({"x": 42, "y2": 1.5})),
            (
                "fields: [{from: b, to: x, type: string}, {from: ip, to: z, type: ip}]",
                json!({"x": "true", "z": "10.0.0.1"}),
            ),
            ("fields: [{from: o, to: x, type: string}]", json!({"x": "map[p:1]"})),
            ("fields: [{from: num, type: integer}]", json!({"num": 42})),
            ("fields: [{from: num, to: x, type: integer}, {from: s, to: z, type: integer}]", json!({})),
            (
                "fail_on_error: false, fields: [{from: num, to: x, type: integer}, {from: s, to: z, type: integer}]",
                json!({"x": 42}),
            ),
            ("fields: [{from: zz, to: x, type: integer}]", json!({})),
            ("fields: [{from: s, to: x, type: ip}]", json!({})),
            ("fields: [{from: a, type: boolean}]", json!({})),
        ] {
            let mut want = event.as_object().unwrap().clone();
            want.extend(add.as_object().unwrap().clone());
            let got = processed(&format!("[{{convert: {{{options}}}}}]"), event.clone());
            assert_eq!(got, json!(want), "{options}");
        }
        let got =
            processed("[{convert: {mode: rename, fields: [{from: a, to: x.y}]}}]", json!({"message": "", "a": 1}));
        assert_eq!(got, json!({"message": "", "x": {"y": 1}}));
    }
}
