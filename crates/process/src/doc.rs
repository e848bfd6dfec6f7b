//! One event while processors look at it.
//!
//! Comes in: an event of a batch as it was read. Goes out: the same event, with an overlay when something was changed.
//!
//! Always holds: a member at the top is made only when something asks for what is in it and that isn't at hand (`message`,
//! the file's path, the stream), all of them only for what looks at all names; an event that was only looked at is given
//! back as it was. The text isn't copied unless it is changed.
//! Tested with the pipeline.

use pillion_event::{Batch, Event, Extent, Overlay};
use pillion_world::{UnixMillis, rfc3339};
use serde_json::{Map, Value};

use crate::action::time::rfc3339_ms;
use crate::tree;

/// How an event looks before processors: the renderer of the outputs tells.
pub trait Shape: Send + Sync {
    /// All fields by their top-level names, without `@timestamp` and `@metadata`, and without `message` as long as that
    /// is the event's text.
    fn fields(&self, batch: &Batch, event: &Event) -> Map<String, Value>;

    /// One of them, of an event without an overlay.
    fn member(&self, batch: &Batch, event: &Event, name: &str) -> Option<Value> {
        self.fields(batch, event).remove(name)
    }

    /// The top-level names that an input's own processors don't see yet: what Filebeat adds after them, where they have
    /// put nothing themselves.
    fn late(&self) -> &'static [&'static str];

    /// Whether it is an event of 8 or 9, where processors find nothing below a `@metadata` that is empty. To those of 7
    /// everything is there then, and is nothing.
    fn is_modern(&self) -> bool {
        true
    }
}

/// Whose processors look at the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The input's own.
    Input,
    /// Those at the top of the configuration.
    Global,
}

/// A value that was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Got<'a> {
    /// A text as it was read: perhaps not valid UTF-8.
    Text(&'a [u8]),
    /// A field.
    Value(&'a Value),
    /// `@timestamp`, milliseconds since 1970.
    Time(i64),
}

impl Got<'_> {
    /// Its bytes, when it is a text.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Got::Text(text) => Some(text),
            Got::Value(Value::String(s)) => Some(s.as_bytes()),
            _ => None,
        }
    }

    /// As a value of its own.
    pub fn to_value(&self) -> Value {
        match self {
            Got::Text(text) => Value::String(to_text(text)),
            Got::Value(value) => (*value).clone(),
            Got::Time(ms) => Value::String(rfc3339(UnixMillis(*ms))),
        }
    }
}

/// Bytes as text, with U+FFFD for each byte that isn't part of valid UTF-8, as Go's encoders write it.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out
}

/// See the module's header.
pub struct Doc<'b> {
    shape: &'b dyn Shape,
    batch: &'b Batch,
    event: &'b Event,
    stage: Stage,
    /// The members that somebody has asked for or put, but for the text.
    fields: Map<String, Value>,
    /// `fields` are all that there are.
    all: bool,
    /// The event's own members that were taken away.
    gone: Vec<String>,
    /// What comes after the input's own processors.
    late: Map<String, Value>,
    metadata: Map<String, Value>,
    /// `message` isn't the event's text: it is among the fields, or there is none.
    no_message: bool,
    time_ms: i64,
    changed: bool,
    /// The bytes of a text that isn't valid UTF-8, by its path: the fields have it with U+FFFD.
    binary: Option<(String, Vec<u8>)>,
}

const MESSAGE: &str = "message";
const TIMESTAMP: &str = "@timestamp";
const METADATA: &str = "@metadata";

/// The path below `@metadata`.
fn below_metadata(path: &str) -> Option<&str> {
    path.strip_prefix(METADATA)?.strip_prefix('.')
}

impl<'b> Doc<'b> {
    /// An event of a batch.
    pub fn new(shape: &'b dyn Shape, batch: &'b Batch, event: &'b Event) -> Doc<'b> {
        let overlay = event.overlay.as_deref();
        Doc {
            shape,
            batch,
            event,
            stage: Stage::Input,
            fields: Map::new(),
            all: false,
            gone: Vec::new(),
            late: Map::new(),
            metadata: overlay.map(|o| o.metadata.clone()).unwrap_or_default(),
            no_message: overlay.is_some_and(|o| o.no_message || o.fields.contains_key(MESSAGE)),
            time_ms: event.time_ms,
            changed: false,
            binary: None,
        }
    }

    /// The input's own processors are done.
    pub fn enter(&mut self, stage: Stage) {
        if stage == Stage::Global && self.stage == Stage::Input {
            let mut late = std::mem::take(&mut self.late);
            if !self.all {
                // The others are still where they were.
                for name in self.shape.late().iter().filter(|name| self.fields.contains_key(**name)) {
                    let own = self.shape.member(self.batch, self.event, name);
                    late.extend(own.map(|own| ((*name).to_owned(), own)));
                }
            }
            tree::merge(&mut self.fields, late, false);
        }
        self.stage = stage;
    }

    /// The event's range in its file: the same whenever it is read.
    pub(crate) fn id(&self) -> pillion_event::EventId {
        self.batch.event_id(self.event)
    }

    /// When the event's chunk was read, milliseconds since 1970: what "now" means to processors.
    pub(crate) fn read_ms(&self) -> i64 {
        self.batch.read_ms
    }

    /// Whether the event may have been sent before a crash.
    pub(crate) fn is_replayed(&self) -> bool {
        self.batch.replayed
    }

    /// Whether the text is `message` as it was read.
    fn has_text(&self) -> bool {
        !self.no_message && !self.batch.source.input.root_fields.contains_key(MESSAGE)
    }

    /// What is at hand without making the fields.
    fn at_hand(&self, path: &str) -> Option<Got<'b>> {
        if path == MESSAGE && self.has_text() {
            return Some(Got::Text(self.batch.text(self.event)));
        }
        let input = &self.batch.source.input;
        let top = path.split_once('.').map_or(path, |(top, _)| top);
        let own = |key: &String| key == top || key == path;
        let touched = self.all || self.gone.iter().chain(self.fields.keys()).any(own);
        if touched || self.event.overlay.is_some() || input.root_fields.keys().any(own) {
            return None;
        }
        match path {
            "log.file.path" if !input.kind.is_network() && !self.shape.late().contains(&"beat") => {
                Some(Got::Text(self.batch.source.path.as_bytes()))
            }
            "stream" => self.event.stream.as_str().map(|s| Got::Text(s.as_bytes())),
            _ => None,
        }
    }

    /// All fields.
    fn fields(&mut self) -> &mut Map<String, Value> {
        if !self.all {
            let mut fields = self.shape.fields(self.batch, self.event);
            if self.batch.source.input.root_fields.contains_key(MESSAGE) {
                self.no_message = true;
            }
            if self.stage == Stage::Input {
                for name in self.shape.late() {
                    if let Some(value) = fields.remove(*name) {
                        self.late.insert((*name).to_owned(), value);
                    }
                }
            }
            fields.retain(|name, _| !self.gone.contains(name));
            fields.append(&mut self.fields);
            (self.fields, self.all) = (fields, true);
        }
        &mut self.fields
    }

    /// The fields as far as a path may lead through them.
    fn along(&mut self, path: &str) -> &mut Map<String, Value> {
        // What a parser has merged into an event isn't taken apart.
        if self.all || self.event.overlay.is_some() {
            return self.fields();
        }
        self.take_in(path);
        if let Some((top, _)) = path.split_once('.') {
            self.take_in(top);
        }
        &mut self.fields
    }

    /// Makes one of the event's own members, unless it is there, gone, or not there yet.
    fn take_in(&mut self, name: &str) {
        let not_yet = self.stage == Stage::Input && self.shape.late().contains(&name);
        if not_yet || self.fields.contains_key(name) || self.gone.iter().any(|gone| gone == name) {
            return;
        }
        if let Some(own) = self.shape.member(self.batch, self.event, name) {
            self.fields.insert(name.to_owned(), own);
        }
    }

    /// The value at a dotted path.
    ///
    /// # Errors
    /// Beats' words for why there is none.
    pub fn get(&mut self, path: &str) -> Result<Got<'_>, String> {
        if let Some(got) = self.at_hand(path) {
            return Ok(got);
        }
        if path == TIMESTAMP {
            return Ok(Got::Time(self.time_ms));
        }
        if let Some(below) = below_metadata(path) {
            let none = (self.metadata.is_empty() && !self.shape.is_modern()).then_some(&Value::Null);
            return none.map_or_else(|| tree::get(&self.metadata, below), Ok).map(Got::Value);
        }
        if self.has_text() && path.starts_with("message.") {
            return Err("expected map but type is string".to_owned());
        }
        tree::get(self.along(path), path).map(Got::Value)
    }

    /// The text at a path; `None` when there is none, or it isn't a text.
    pub fn text(&mut self, path: &str) -> Option<String> {
        self.get(path).ok()?.text().map(to_text)
    }

    /// The bytes of the text at a path, which need not be UTF-8; the value when it isn't a text.
    ///
    /// # Errors
    /// Beats' words for why there is none.
    pub(crate) fn bytes(&mut self, path: &str) -> Result<Result<Vec<u8>, Value>, String> {
        let binary = self.binary.take();
        let got = self.get(path)?;
        let found = match (got.text(), &binary) {
            // As long as nobody has put another text there.
            (Some(text), Some((at, bytes))) if at == path && to_text(bytes).as_bytes() == text => Ok(bytes.clone()),
            (Some(text), _) => Ok(text.to_vec()),
            (None, _) => Err(got.to_value()),
        };
        self.binary = binary;
        Ok(found)
    }

    /// Sets a text that need not be UTF-8: of the last such one the bytes are kept, for [`Doc::bytes`].
    pub(crate) fn put_bytes(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), String> {
        match String::from_utf8(bytes) {
            Ok(text) => self.put(path, Value::String(text)),
            Err(e) => {
                self.put(path, Value::String(to_text(e.as_bytes())))?;
                self.binary = Some((path.to_owned(), e.into_bytes()));
                Ok(())
            }
        }
    }

    /// A path as it stands in the event, where its parts may be written in another case.
    pub(crate) fn find_path(&mut self, path: &str) -> Result<String, String> {
        if self.has_text() && path.eq_ignore_ascii_case(MESSAGE) {
            return Ok(MESSAGE.to_owned());
        }
        tree::find(self.fields(), path)
    }

    /// Gives the parts of a path other names.
    pub(crate) fn rename_path(&mut self, from: &str, to: &str) -> Result<(), String> {
        if from == MESSAGE && self.has_text() {
            if self.fields().contains_key(to) {
                return Err(format!("key collision: {to}"));
            }
            let text = self.delete(MESSAGE)?;
            return self.put(to, text);
        }
        tree::rename(self.fields(), from, to)?;
        self.changed = true;
        Ok(())
    }

    /// The top-level names, the text's among them.
    pub(crate) fn names(&mut self) -> Vec<String> {
        let mut names: Vec<String> = self.fields().keys().cloned().collect();
        if self.has_text() {
            names.push(MESSAGE.to_owned());
        }
        names
    }

    /// Sets the value at a dotted path. `@timestamp` takes a time alone: see [`Doc::set_time`].
    ///
    /// # Errors
    /// Beats' words for why not.
    pub fn put(&mut self, path: &str, value: Value) -> Result<(), String> {
        if path == TIMESTAMP {
            let Some(ms) = value.as_str().and_then(rfc3339_ms) else {
                return Err("timestamp is not a time".to_owned());
            };
            self.set_time(ms);
            return Ok(());
        }
        if let Some(below) = below_metadata(path) {
            tree::put(&mut self.metadata, below, value)?;
            self.changed = true;
            return Ok(());
        }
        if self.has_text() && path.starts_with("message.") {
            return Err("expected map but type is string".to_owned());
        }
        tree::put(self.along(path), path, value)?;
        self.no_message |= path == MESSAGE;
        self.changed = true;
        Ok(())
    }

    /// Sets `@timestamp`, milliseconds since 1970.
    pub fn set_time(&mut self, ms: i64) {
        self.time_ms = ms;
    }

    /// Takes the value at a dotted path away.
    ///
    /// # Errors
    /// Beats' words for why there is none.
    pub fn delete(&mut self, path: &str) -> Result<Value, String> {
        let value = if path == TIMESTAMP {
            return Err(format!("deleting {TIMESTAMP:?} key is not supported"));
        } else if let Some(below) = below_metadata(path) {
            tree::delete(&mut self.metadata, below)?
        } else if path == MESSAGE && self.has_text() {
            self.no_message = true;
            Value::String(to_text(self.batch.text(self.event)))
        } else {
            let at_the_top = self.along(path).contains_key(path);
            let value = tree::delete(&mut self.fields, path)?;
            if at_the_top && !self.all {
                self.gone.push(path.to_owned());
            }
            value
        };
        self.changed = true;
        Ok(value)
    }

    /// Merges fields over the event's, deeply.
    pub fn merge(&mut self, fields: Map<String, Value>, overwrite: bool) {
        let had_text = self.has_text();
        let mut fields = fields;
        if had_text && !overwrite && !fields.get(MESSAGE).is_some_and(Value::is_object) {
            fields.remove(MESSAGE);
        }
        // Only a time could become the event's, and there is none among values.
        fields.remove(TIMESTAMP);
        if let Some(Value::Object(metadata)) = fields.remove(METADATA) {
            tree::merge(&mut self.metadata, metadata, overwrite);
        }
        self.no_message |= fields.contains_key(MESSAGE);
        fields.keys().for_each(|name| {
            self.along(name);
        });
        tree::merge(&mut self.fields, fields, overwrite);
        self.changed = true;
    }

    /// All dotted paths, what lies below an object before the object, the text's among them.
    pub(crate) fn paths(&mut self) -> Vec<String> {
        let mut out = tree::paths(self.fields());
        if self.has_text() {
            out.push(MESSAGE.to_owned());
        }
        out
    }

    /// Replaces all fields by these; `text`: the event's own text stays.
    pub(crate) fn replace(&mut self, fields: Map<String, Value>, text: bool) {
        let text = text && self.has_text();
        // What comes later is told apart by this.
        self.fields();
        (self.fields, self.no_message) = (fields, !text);
        self.changed = true;
    }

    /// All that a script sees: the fields with the text, `@metadata`, and the time in milliseconds since 1970.
    #[cfg(feature = "script")]
    pub(crate) fn whole(&mut self) -> (Map<String, Value>, Map<String, Value>, i64) {
        let mut fields = self.fields().clone();
        if self.has_text() {
            fields.insert(MESSAGE.to_owned(), Value::String(to_text(self.batch.text(self.event))));
        }
        (fields, self.metadata.clone(), self.time_ms)
    }

    /// Puts back what [`Doc::whole`] gave; `text`: the message is still what it was.
    #[cfg(feature = "script")]
    pub(crate) fn set_whole(&mut self, mut fields: Map<String, Value>, metadata: Map<String, Value>, text: bool) {
        if text && self.has_text() {
            fields.remove(MESSAGE);
        }
        self.replace(fields, text);
        self.metadata = metadata;
    }

    /// A copy of what can change, to go back to.
    pub(crate) fn keep(&self) -> Kept {
        Kept {
            fields: self.fields.clone(),
            all: self.all,
            gone: self.gone.clone(),
            metadata: self.metadata.clone(),
            no_message: self.no_message,
            time_ms: self.time_ms,
            changed: self.changed,
        }
    }

    /// Goes back to what was kept.
    pub(crate) fn restore(&mut self, kept: Kept) {
        let Kept { fields, all, gone, metadata, no_message, time_ms, changed } = kept;
        (self.fields, self.all, self.gone) = (fields, all, gone);
        (self.metadata, self.no_message) = (metadata, no_message);
        (self.time_ms, self.changed) = (time_ms, changed);
    }

    /// Whether the text is still the one that was read.
    pub(crate) fn text_is_own(&self) -> bool {
        self.has_text()
    }

    /// What became of the event: its time, and an overlay when more than that was changed.
    pub fn finish(mut self) -> (i64, Option<Overlay>) {
        if !self.changed {
            return (self.time_ms, None);
        }
        self.enter(Stage::Global);
        if self.event.overlay.is_some() {
            self.fields();
        }
        let fields = self.fields;
        let weight = fields.iter().chain(&self.metadata).map(|(k, v)| 64 + k.len() + tree::weight(v)).sum::<usize>();
        let overlay = Overlay {
            extent: if self.all { Extent::Whole } else { Extent::Members(self.gone) },
            no_message: self.no_message,
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            fields,
            metadata: self.metadata,
        };
        (self.time_ms, Some(overlay))
    }
}

/// What a document was.
pub(crate) struct Kept {
    fields: Map<String, Value>,
    all: bool,
    gone: Vec<String>,
    metadata: Map<String, Value>,
    no_message: bool,
    time_ms: i64,
    changed: bool,
}
