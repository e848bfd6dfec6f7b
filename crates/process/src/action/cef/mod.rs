//! decode_cef: messages of ArcSight's Common Event Format to fields.
//!
//! Comes in: a text with `CEF:` somewhere in it. Goes out: the message as an object at `target_field`, its extensions by
//! their full names and as what they are, and unless `ecs: false` the same in fields of the Elastic Common Schema. What is
//! wrong with a message goes to `error.message`, and all that could be read of it stays.
//!
//! Always holds: a message whose version can't be read changes nothing. Where Filebeat takes extensions in an order of
//! chance, which shows when two become one field, they are taken in the order of the message here, so that the last one
//! stays. A name with more than [`PARTS`] dots is an error. `ignore_empty_values` is read, but Filebeat 9 leaves empty extensions that it knows out in any case.
//!
//! Tested in [`tests`] and against Filebeat 7.17.29 and 9.5.0.

mod names;
mod scan;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashSet;

use pillion_config::{Error, Section};
use serde_json::{Map, Value, json};

use crate::action::{Action, Done};
use crate::doc::Doc;
use crate::tree;
use crate::zone::Zone;
use names::Names;
use scan::Message;
use value::Types;

#[derive(Debug)]
struct DecodeCef {
    field: String,
    target: String,
    ecs: bool,
    ignore_missing: bool,
    ignore_failure: bool,
    /// As Filebeat 9 does it, else 7.
    modern: bool,
    names: Names,
    types: Types,
}

/// How many parts the name of an extension may have, each of which is an object in the one before.
const PARTS: usize = 100;

/// An extension by its full name.
struct Extension {
    raw: String,
    value: Value,
    /// It is written by the name that messages have for it; its full name isn't one.
    known: bool,
}

impl DecodeCef {
    /// The message of an event; `None` when there is none and that is fine.
    fn message(&self, doc: &mut Doc<'_>) -> Result<Option<Message>, String> {
        let field = &self.field;
        let text = match doc.bytes(field) {
            Err(_) if self.ignore_missing => return Ok(None),
            Err(e) => return Err(format!("decode_cef field [{field}] not found: {e}")),
            // Filebeat 7 takes this for no error.
            Ok(Err(_)) if self.ignore_failure || !self.modern => return Ok(None),
            Ok(Err(value)) => {
                return Err(format!("decode_cef field [{field}] is not a string: {}", pillion_event::go_type(&value)));
            }
            Ok(Ok(text)) => text,
        };
        let found = text.windows(4).position(|four| four == b"CEF:").and_then(|at| text.get(at..));
        let message = match found {
            None if self.ignore_failure => return Ok(None),
            None => return Err(format!("decode_cef field [{field}] does not contain a CEF header")),
            Some(text) => scan::scan(text, self.modern),
        };
        match message.version {
            None if self.ignore_failure => Ok(None),
            None => Err(format!("decode_cef failed to parse message: {}", message.errors.join("\n"))),
            Some(_) => Ok(Some(message)),
        }
    }

    /// Extensions as what they are; those that can't be are left out, and said.
    fn typed(&self, message: &mut Message, read_ms: i64) -> Vec<(String, Extension)> {
        let mut all = Vec::with_capacity(message.extensions.len());
        let mut known = HashSet::new();
        for (name, raw) in std::mem::take(&mut message.extensions) {
            let Value::String(raw) = raw else { continue };
            if name.split('.').count() > PARTS {
                message.errors.push(format!("an extension's name has more than {PARTS} parts"));
                continue;
            }
            let Some((full, kind)) = self.names.extension(&name) else {
                all.push((name, Extension { value: Value::from(raw.as_str()), raw, known: false }));
                continue;
            };
            if self.modern && raw.is_empty() {
                continue;
            }
            match self.types.read(&raw, kind, read_ms) {
                Ok(value) => {
                    known.insert(full);
                    all.push((full.to_owned(), Extension { raw, value, known: true }));
                }
                Err(e) => message.errors.push(format!("error in field '{name}': {e}")),
            }
        }
        // Of the two names the one that is known counts, wherever it stands.
        all.retain(|(name, extension)| extension.known || !known.contains(name.as_str()));
        all
    }

    /// What an extension becomes in the Elastic Common Schema; `None`: nothing.
    fn ecs(&self, full: &str, extension: &Extension) -> Result<Option<Value>, String> {
        let raw = extension.raw.as_str();
        Ok(match full {
            "deviceDirection" => match raw {
                "0" => Some(Value::from("inbound")),
                "1" => Some(Value::from("outbound")),
                _ => return Err(format!("{full}: deviceDirection must be 0 or 1")),
            },
            "requestContext" => raw.starts_with("http").then(|| Value::from(raw)),
            "transportProtocol" => Some(Value::from(raw.to_lowercase())),
            "deviceAddress" if self.modern => Some(json!([raw])),
            "agentMacAddress" | "destinationMacAddress" | "deviceMacAddress" | "sourceMacAddress" if self.modern => {
                Some(Value::from(raw.replace(':', "-").to_uppercase()))
            }
            _ => Some(extension.value.clone()),
        })
    }

    /// Fields of the Elastic Common Schema. What can't be put in its place is left out, as in Filebeat.
    fn put_ecs(&self, doc: &mut Doc<'_>, message: &mut Message, extensions: &[(String, Extension)]) {
        const HEADER: [&str; 5] = ["observer.vendor", "observer.product", "observer.version", "event.code", "message"];
        let [header @ .., severity] = &message.header;
        for (field, text) in HEADER.iter().zip(header).filter(|(_, text)| !text.is_empty()) {
            doc.put(field, Value::from(text.as_str())).ok();
        }
        if let Some(number) = severity_number(severity) {
            doc.put("event.severity", Value::from(number)).ok();
        }
        for (full, extension) in extensions {
            let Some(field) = self.names.field(full) else { continue };
            match self.ecs(full, extension) {
                Ok(None) => {}
                Ok(Some(value)) => drop(doc.put(field, value)),
                Err(e) => message.errors.push(e),
            }
        }
    }
}

fn severity_number(text: &str) -> Option<i64> {
    match text.to_ascii_lowercase().as_str() {
        "low" => Some(0),
        "medium" => Some(4),
        "high" => Some(7),
        "very-high" => Some(9),
        other => other.parse().ok(),
    }
}

/// The object of a message.
fn object(message: &Message, extensions: &[(String, Extension)]) -> Value {
    const HEADER: [&str; 6] =
        ["device.vendor", "device.product", "device.version", "device.event_class_id", "name", "severity"];
    let mut object = Map::new();
    object.insert("version".to_owned(), Value::from(message.version.unwrap_or_default().to_string()));
    for (field, text) in HEADER.iter().zip(&message.header).filter(|(_, text)| !text.is_empty()) {
        tree::put(&mut object, field, Value::from(text.as_str())).ok();
    }
    if !extensions.is_empty() {
        let mut below = Map::new();
        for (name, extension) in extensions {
            // Names may have dots; one that leads through a value is left out.
            tree::put(&mut below, name, extension.value.clone()).ok();
        }
        object.insert("extensions".to_owned(), Value::Object(below));
    }
    Value::Object(object)
}

/// Adds to the event's errors: one is a text, several are a list without repetitions.
fn add_errors(doc: &mut Doc<'_>, errors: Vec<String>) {
    const KEY: &str = "error.message";
    let before = doc.get(KEY).map(|got| got.to_value());
    let listed = matches!(before, Ok(Value::Array(_)));
    let mut all = match before {
        _ if errors.is_empty() => return,
        Err(_) | Ok(Value::Null) => Vec::new(),
        Ok(Value::String(one)) => vec![Value::String(one)],
        Ok(Value::Array(list)) => list,
        Ok(_) => return,
    };
    let mut known: HashSet<String> = all.iter().filter_map(|e| e.as_str().map(str::to_owned)).collect();
    all.extend(errors.into_iter().filter(|e| known.insert(e.clone())).map(Value::String));
    let all = match all.pop() {
        Some(only) if all.is_empty() && !listed => only,
        last => {
            all.extend(last);
            Value::Array(all)
        }
    };
    doc.put(KEY, all).ok();
}

impl Action for DecodeCef {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let Some(mut message) = self.message(doc)? else { return Ok(Done::Keep) };
        let extensions = self.typed(&mut message, doc.read_ms());
        doc.put(&self.target, object(&message, &extensions)).ok();
        if self.ecs {
            self.put_ecs(doc, &mut message, &extensions);
        }
        add_errors(doc, message.errors);
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let flag = |key, default| Ok(s.bool(key)?.unwrap_or(default));
    let modern = s.compat().is_modern();
    // It only names the processor in Filebeat's log.
    s.str("id")?;
    s.bool("ignore_empty_values")?;
    let zone = if s.has("timezone") { Zone::from_section(s)? } else { Zone::UTC };
    Ok(Box::new(DecodeCef {
        field: s.str("field")?.unwrap_or_else(|| "message".to_owned()),
        target: s.str("target_field")?.unwrap_or_else(|| "cef".to_owned()),
        ecs: flag("ecs", true)?,
        ignore_missing: flag("ignore_missing", false)?,
        ignore_failure: flag("ignore_failure", false)?,
        modern,
        names: Names::new(modern),
        types: Types::new(zone),
    }))
}

/// What always holds of any bytes.
///
/// # Errors
/// What doesn't.
pub(crate) fn check(text: &[u8], modern: bool) -> Result<(), String> {
    const KINDS: [names::Kind; 8] = {
        use names::Kind::*;
        [Text, Integer, Long, Float, Double, Ip, Mac, Time]
    };
    let message = scan::scan(text, modern);
    let types = Types::new(Zone::UTC);
    let mut size = message.header.iter().map(String::len).sum::<usize>();
    for (name, value) in &message.extensions {
        let raw = value.as_str().ok_or("an extension isn't a text")?;
        size += name.len() + raw.len();
        for kind in KINDS {
            if let Ok(Value::Number(n)) = types.read(raw, kind, 0)
                && !n.as_f64().is_some_and(f64::is_finite)
            {
                return Err(format!("{raw:?} isn't a number that JSON has"));
            }
        }
    }
    // A byte that isn't UTF-8 becomes a character of three, and behind a broken header a field may be an extension too.
    if size > 6 * text.len() || message.errors.len() > 2 * text.len() + 2 {
        return Err(format!("{} bytes became {size}, with {} errors", text.len(), message.errors.len()));
    }
    Ok(())
}
