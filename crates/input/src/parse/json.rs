//! JSON lines: `json.*` of the log input, and the parser `ndjson`.
//!
//! Comes in: messages whose text should be a JSON object. Goes out: the same with the object's fields. For the log
//! input what was decoded travels with the message and is merged into the event by [`merge`] once multiline has joined
//! the texts of the `message_key`; of several joined lines the last one's fields count, as in Filebeat. For filestream
//! the fields are the event's at once.
//!
//! Always holds: a text that isn't an object stays the message. Decoding is Go's ([`pillion_process::json`]): a line's
//! first value counts and what follows it is ignored.
//!
//! Tested in `tests.rs`; fuzz target `json`.

use pillion_event::{Flags, Overlay, Stream};
use pillion_process::json::{decode_first, expand, numbers};
use serde_json::{Map, Value, json};

use crate::parse::container::strip_newline;
use crate::parse::options::{ChainOptions, Parser, Shape};
use crate::parse::run::{Extra, Message};
use crate::parse::time;

/// `json.*`, or the parser `ndjson`.
#[derive(Clone, Debug, Default)]
pub struct Json {
    /// `message_key`: the key whose value is the text for filters and multiline; empty = none.
    pub message_key: String,
    /// `keys_under_root`: the fields are the event's own, else they are under `json`. Not for `ndjson`.
    pub keys_under_root: bool,
    /// `ndjson`'s `target`: the object under which the fields go; empty = they are the event's own.
    pub target: String,
    /// `overwrite_keys`: under the root, the fields win over the event's own.
    pub overwrite_keys: bool,
    /// `add_error_key`: an error is put into the event.
    pub add_error_key: bool,
    /// `document_id`: the key (dots lead into objects) whose value becomes `@metadata._id`; empty = none.
    pub document_id: String,
    /// `expand_keys`: under the root, dots in keys make objects.
    pub expand_keys: bool,
}

/// What a line held; nothing when it couldn't be decoded and no error is wanted in the event.
#[derive(Clone, Debug)]
pub(super) struct Decoded(Option<Map<String, Value>>);

/// What becomes of the text.
enum Text {
    Stays,
    Becomes(String),
}

/// Takes the next message.
pub(super) fn accept(options: &Json, chain: &ChainOptions, mut message: Message, data: &mut Vec<u8>) -> Message {
    let (text, decoded) = decode(options, chain, &data[message.text.clone()]);
    if let Text::Becomes(text) = &text {
        let text = if chain.shape == Shape::Filestream { text } else { strip_newline(text, chain) };
        let start = data.len();
        data.extend_from_slice(text.as_bytes());
        message.text = start..data.len();
    }
    if chain.shape != Shape::Filestream {
        message.extra().json = Some(Decoded(decoded));
        return message;
    }
    let Some(mut fields) = decoded else { return message };
    let text = String::from_utf8_lossy(&data[message.text.clone()]);
    if !options.message_key.is_empty() && !text.is_empty() && !fields.is_empty() {
        fields.insert(options.message_key.clone(), text.into());
    }
    if fields.len() == 1 && fields.contains_key("error") && message.text.is_empty() {
        message.extra().fields.insert("message".to_owned(), "".into());
    }
    let id = take_id(options, &mut fields);
    let (stream, flagged, mut time_ms) = (message.stream, message.flags != Flags::default(), message.time_ms);
    let Extra { fields: into, metadata, .. } = message.extra();
    metadata.extend(id);
    if options.target.is_empty() {
        let mut event = Root { fields: into, metadata, time_ms: &mut time_ms, stream, flagged };
        event.write(options, chain, fields);
        message.time_ms = time_ms;
    } else if !fields.is_empty() {
        let (top, value) = below(&options.target, Value::Object(fields), chain.modern);
        into.insert(top, value);
    }
    message
}

/// A target's name at the top, and what stands there.
fn below(target: &str, value: Value, dots_lead: bool) -> (String, Value) {
    let mut parts = target.split('.').filter(|_| dots_lead);
    let Some(top) = parts.next() else { return (target.to_owned(), value) };
    let inner = parts.rev().fold(value, |value, name| Value::Object(Map::from_iter([(name.to_owned(), value)])));
    (top.to_owned(), inner)
}

/// Merges what was decoded into the complete event of a log input.
pub(super) fn merge(decoded: Decoded, chain: &ChainOptions, m: &mut Message, data: &[u8], overlay: &mut Overlay) {
    let Some(options) = chain.parsers.iter().find_map(|p| if let Parser::Json(j) = p { Some(j) } else { None }) else {
        return;
    };
    let Some(mut fields) = decoded.0.filter(|d| !d.is_empty()) else {
        if chain.shape == Shape::Log {
            overlay.fields.insert("json".to_owned(), json!({}));
        }
        overlay.no_message = chain.modern && m.text.is_empty();
        return;
    };
    overlay.no_message = true;
    if !options.message_key.is_empty() {
        let text = String::from_utf8_lossy(&data[m.text.clone()]).into_owned();
        fields.insert(options.message_key.clone(), text.into());
    }
    if chain.shape == Shape::V5 {
        return merge_v5(options, fields, m, overlay);
    }
    if fields.len() == 1 && fields.get("error").is_some_and(|e| !e.is_null()) {
        overlay.no_message = false;
    }
    overlay.metadata.extend(take_id(options, &mut fields));
    if options.keys_under_root {
        // Filebeat's log input forgets what the line says of `@metadata`; filestream's parser doesn't.
        let (metadata, time_ms) = (&mut Map::new(), &mut m.time_ms);
        let flagged = m.flags != Flags::default();
        let mut event = Root { fields: &mut overlay.fields, metadata, time_ms, stream: m.stream, flagged };
        event.write(options, chain, fields);
    } else {
        overlay.fields.insert("json".to_owned(), Value::Object(fields));
    }
}

/// 5.6: flat, and what couldn't be taken over is said in `json_error` whether asked for or not.
fn merge_v5(options: &Json, mut fields: Map<String, Value>, m: &mut Message, overlay: &mut Overlay) {
    if !options.keys_under_root {
        overlay.fields.insert("json".to_owned(), Value::Object(fields));
        return;
    }
    fields.remove("beat");
    if !options.overwrite_keys {
        for own in ["@timestamp", "source", "offset", "type", "input_type"] {
            fields.remove(own);
        }
        overlay.fields = fields;
        return;
    }
    let mut error = None;
    match fields.remove("@timestamp") {
        Some(Value::String(text)) => match time::timestamp_v5(text.as_bytes()) {
            Some(ms) => m.time_ms = ms,
            None => error = Some(format!("@timestamp not overwritten (parse error on {text})")),
        },
        Some(_) => error = Some("@timestamp not overwritten (not string)".to_owned()),
        None => {}
    }
    if let Err(e) = check_type(&mut fields) {
        error = Some(e);
    }
    overlay.fields = fields;
    if let Some(error) = error {
        overlay.fields.insert("json_error".to_owned(), error.into());
    }
}

/// Removes a `type` that an event can't have, and says why.
fn check_type(fields: &mut Map<String, Value>) -> Result<(), String> {
    let error = match fields.get("type") {
        None => return Ok(()),
        Some(Value::String(text)) if !text.is_empty() && !text.starts_with('_') => return Ok(()),
        Some(Value::String(text)) => format!("type not overwritten (invalid value [{text}])"),
        Some(_) => "type not overwritten (not string)".to_owned(),
    };
    fields.remove("type");
    Err(error)
}

/// The event of Filebeat 7 to 9 that fields are written into.
struct Root<'a> {
    fields: &'a mut Map<String, Value>,
    metadata: &'a mut Map<String, Value>,
    time_ms: &'a mut i64,
    stream: Stream,
    /// The reader has put flags into `log.flags`.
    flagged: bool,
}

impl Root<'_> {
    fn write(&mut self, options: &Json, chain: &ChainOptions, mut keys: Map<String, Value>) {
        if options.expand_keys
            && let Err(e) = expand(&mut keys, chain.modern)
        {
            return self.error(options, &e);
        }
        self.protect(&mut keys, options.overwrite_keys, chain.shape);
        if !options.overwrite_keys {
            keys.remove("@timestamp");
            keys.remove("@metadata");
            update(self.fields, keys, false);
            return;
        }
        match keys.remove("@timestamp") {
            Some(Value::String(text)) => match time::timestamp(text.as_bytes()) {
                Some(ms) => *self.time_ms = ms,
                None => self.error(options, &format!("@timestamp not overwritten (parse error on {text})")),
            },
            Some(_) => self.error(options, "@timestamp not overwritten (not string)"),
            None => {}
        }
        match keys.remove("@metadata") {
            Some(Value::Object(m)) => update(self.metadata, m, true),
            Some(_) => self.error(options, "failed to update @metadata"),
            None => {}
        }
        if let Err(e) = check_type(&mut keys) {
            self.error(options, &e);
        }
        update(self.fields, keys, true);
    }

    fn error(&mut self, options: &Json, message: &str) {
        if options.add_error_key {
            self.fields.insert("error".to_owned(), error_object(message));
        }
    }

    /// Takes away what can't win over the event's own fields. These are put in after the overlay is made, so the
    /// overlay must not hold what has to give way to them.
    fn protect(&self, keys: &mut Map<String, Value>, overwrite: bool, shape: Shape) {
        if !overwrite {
            let file: &[&str] = if shape == Shape::Filestream {
                &["path", "device_id", "inode", "fingerprint", "owner", "group"]
            } else {
                &["path"]
            };
            let gone = match keys.get_mut("log") {
                Some(Value::Object(log)) => {
                    log.remove("offset");
                    if self.flagged {
                        log.remove("flags");
                    }
                    match log.get_mut("file") {
                        Some(Value::Object(f)) => file.iter().for_each(|name| drop(f.remove(*name))),
                        Some(_) => drop(log.remove("file")),
                        None => {}
                    }
                    log.is_empty()
                }
                _ => true,
            };
            if gone {
                keys.remove("log");
            }
            if self.stream != Stream::None && !keys.get("stream").is_some_and(Value::is_object) {
                keys.remove("stream");
            }
        }
        // Filebeat writes `input.type` over whatever is there, and puts objects in the place of these when they are none.
        if let Some(Value::Object(input)) = keys.get_mut("input") {
            input.remove("type");
        }
        for name in ["input", "agent", "ecs", "host"] {
            if keys.get(name).is_some_and(|v| !v.is_object()) {
                keys.remove(name);
            }
        }
    }
}

/// Decodes a line: what becomes of its text, and the fields.
fn decode(options: &Json, chain: &ChainOptions, text: &[u8]) -> (Text, Option<Map<String, Value>>) {
    let mut fields = match object(text) {
        Ok(fields) => fields,
        Err(e) => {
            let mut fields = Map::new();
            set_error(options, chain, &mut fields, || format!("Error decoding JSON: {e}"));
            return (Text::Stays, options.add_error_key.then_some(fields));
        }
    };
    if options.message_key.is_empty() {
        return (Text::Becomes(String::new()), Some(fields));
    }
    let key = &options.message_key;
    let text = match fields.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(_) => {
            set_error(options, chain, &mut fields, || format!("Value of key '{key}' is not a string"));
            String::new()
        }
        None => {
            set_error(options, chain, &mut fields, || format!("Key '{key}' not found"));
            String::new()
        }
    };
    (Text::Becomes(text), Some(fields))
}

fn set_error(options: &Json, chain: &ChainOptions, fields: &mut Map<String, Value>, error: impl FnOnce() -> String) {
    if !options.add_error_key {
        return;
    }
    match chain.shape {
        Shape::V5 => fields.insert("json_error".to_owned(), error().into()),
        Shape::Log | Shape::Filestream => fields.insert("error".to_owned(), error_object(&error())),
    };
}

fn error_object(message: &str) -> Value {
    json!({ "message": message, "type": "json" })
}

/// `document_id`: takes the value out of the fields when it is a string.
fn take_id(options: &Json, fields: &mut Map<String, Value>) -> Option<(String, Value)> {
    let key = options.document_id.as_str();
    if key.is_empty() {
        return None;
    }
    let id = take_string(fields, key)?;
    Some(("_id".to_owned(), Value::String(id)))
}

fn take_string(fields: &mut Map<String, Value>, key: &str) -> Option<String> {
    match fields.get(key) {
        Some(Value::String(_)) => match fields.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        Some(_) => None,
        None => {
            let (head, tail) = key.split_once('.')?;
            take_string(fields.get_mut(head)?.as_object_mut()?, tail)
        }
    }
}

/// Puts an object's members into another's: objects into objects; anything else only when it may overwrite. An object
/// takes the place of what isn't one, as in Filebeat.
pub(super) fn update(into: &mut Map<String, Value>, from: Map<String, Value>, overwrite: bool) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => update(old, new, overwrite),
            (Some(old), new @ Value::Object(_)) => *old = new,
            (Some(_), _) if !overwrite => {}
            (_, new) => drop(into.insert(key, new)),
        }
    }
}

/// The object that a text begins with, or Go's words for why there is none.
fn object(text: &[u8]) -> Result<Map<String, Value>, String> {
    match decode_first(text)? {
        Value::Object(mut fields) => {
            fields.values_mut().for_each(numbers);
            Ok(fields)
        }
        Value::Null => Err("<nil>".to_owned()),
        other => {
            Err(format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", kind(&other)))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Null | Value::Object(_) => "object",
    }
}
