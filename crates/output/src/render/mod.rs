//! Events as JSON, in the shape that Filebeat 5.6, 7, 8 or 9 gives them.
//!
//! Comes in: an event and its batch. Goes out: one JSON object, without a line end, appended to a buffer.
//! What is the same for all events of an input is rendered once; of a file only its own piece is kept (`Source.render`).
//! An event without overlay is then written as a few ready pieces with time, text and offset between them: the pieces
//! that repeat are contiguous, which is what a compressor likes. Of one of which processors touched a few members
//! ([`Extent::Members`]) the others are such pieces. Any other event with an overlay goes the long way, through a tree
//! into which its fields are merged. The same tree is what processors get to see ([`Shape`]).
//!
//! Always holds: the output is valid JSON whatever the bytes of the line; writing the same event again gives the same
//! bytes; both ways give the same JSON. Facts: Beats v5.6.16 `filebeat/input/event.go`, `libbeat/publisher/client.go`,
//! `libbeat/outputs/logstash/json.go`; 7 to 9 `libbeat/publisher/processing/default.go`,
//! `libbeat/outputs/codec/json/event.go`, `libbeat/reader/readfile/metafields.go`. Tested below.

mod escape;
mod input;
mod plain;
mod time;
mod tree;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pillion_config::Compat;
use pillion_event::{Batch, Event, EventId, Extent, InputDesc, Overlay, Source};
use pillion_process::Shape;
use serde_json::{Map, Value};

use crate::contract::Agent;
use crate::format::{Format, FormatError};
pub use escape::escape;
use input::{InputRender, Variant};
use plain::Plain;
pub use time::{Civil, write_timestamp};
use time::{write_hex, write_u64};
use tree::{Given, Node, Nulls, Style, Var, View};

/// Where events go: decides about `@metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Elasticsearch: no `@metadata`.
    Elasticsearch,
    /// Logstash: `@metadata` in every dialect.
    Logstash,
    /// A `json` codec (file, console): `@metadata` from 7 on.
    Codec,
}

/// How events are written.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// Where they go.
    pub target: Target,
    /// Whose shape they have.
    pub compat: Compat,
    /// Write `<`, `>` and `&` as `\u00XX`. 5.6 always does; the default of `escape_html` from 7 on is false.
    pub escape_html: bool,
    /// Put the event's id into `@metadata._id` where there is a `@metadata` (`exactly_once`).
    pub event_ids: bool,
    /// `@metadata.beat`: `filebeat`, or `output.logstash.index`.
    pub index: String,
}

impl RenderOptions {
    /// The defaults of a dialect.
    pub fn new(target: Target, compat: Compat) -> RenderOptions {
        RenderOptions {
            target,
            compat,
            escape_html: compat == Compat::V5,
            event_ids: false,
            index: "filebeat".to_owned(),
        }
    }
}

/// What Filebeat adds behind what a line holds, and behind the removal of its nulls.
const BEHIND: &[&str] = &["agent", "ecs", "fields", "host", "input", "service", "tags"];

/// Writes events as JSON. Shared by all workers of an output.
pub struct Renderer {
    /// Tells the caches of several renderers in one process apart.
    number: u64,
    options: RenderOptions,
    agent: Arc<Agent>,
    inputs: Mutex<Vec<Arc<InputRender>>>,
}

/// What is kept in `Source.render`.
struct SourceRender {
    renderer: u64,
    input: Arc<InputRender>,
    /// The JSON of [`Var::File`].
    file: Box<[u8]>,
}

impl Renderer {
    /// A renderer for one output.
    pub fn new(options: RenderOptions, agent: Arc<Agent>) -> Renderer {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Renderer { number, options, agent, inputs: Mutex::default() }
    }

    /// Whose shape events have.
    pub fn compat(&self) -> Compat {
        self.options.compat
    }

    /// Who sends.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Says what is wrong with the format strings of an input (`index`): call it for each before the first event; what
    /// doesn't compile is taken literally later.
    pub fn check_input(&self, input: &InputDesc) -> Result<(), FormatError> {
        input.index.as_deref().map_or(Ok(()), |index| Format::compile(index).map(|_| ()))
    }

    /// Appends the event as one JSON object, without a line end.
    pub fn write(&self, batch: &Batch, event: &Event, out: &mut Vec<u8>) {
        self.with_source(&batch.source, |source| {
            let variant = source.input.variant(event, &self.options, &self.agent);
            match (event.overlay.as_deref(), &variant.template) {
                (None, Some(template)) => {
                    out.reserve(template.bytes.len() + source.file.len() + event.text.len() + 128);
                    template.write(out, &mut |var, out| self.write_var(var, source, batch, event, out));
                }
                (Some(overlay @ Overlay { extent: Extent::Members(gone), .. }), Some(template)) => {
                    out.reserve(template.bytes.len() + source.file.len() + event.text.len() + 256);
                    let unused = Node::Var(Var::File);
                    let stays =
                        |name: &str| !(gone.iter().any(|gone| gone == name) || overlay.no_message && name == "message");
                    let style = Style { nulls: true, ..self.options.style() };
                    let others = self.others(variant, overlay, &unused);
                    template.write_members(stays, others, style, out, &mut |var, out| {
                        self.write_var(var, source, batch, event, out);
                    });
                }
                _ => self.view(&source.input, variant, batch, event, |view| {
                    let settled = event.overlay.as_ref().is_some_and(|o| o.extent != Extent::Merged);
                    let nulls = source.input.desc.keep_null || settled;
                    view.write(Style { nulls, ..self.options.style() }, out, &mut |var, out| {
                        self.write_var(var, source, batch, event, out);
                    });
                }),
            }
        });
    }

    /// Appends a field of the event as text, as format strings need it: strings as they are, numbers and booleans in
    /// their usual form, objects as JSON. False, and nothing is appended, when there is no such field or it is null or a list.
    pub fn write_field(&self, batch: &Batch, event: &Event, path: &str, out: &mut Vec<u8>) -> bool {
        self.write_field_as(Plain::Text, batch, event, path, out)
    }

    /// The same as Filebeat's hash partitioner has it: see [`Plain::Hashed`].
    pub fn write_hashed_field(&self, batch: &Batch, event: &Event, path: &str, out: &mut Vec<u8>) -> bool {
        // It asks for fields alone.
        !path.starts_with('@') && self.write_field_as(Plain::Hashed, batch, event, path, out)
    }

    fn write_field_as(&self, form: Plain, batch: &Batch, event: &Event, path: &str, out: &mut Vec<u8>) -> bool {
        self.with_source(&batch.source, |source| {
            let variant = source.input.variant(event, &self.options, &self.agent);
            let file = self.options.file_node(&self.agent, &batch.source);
            let given = Given { file: &file, nulls: Nulls::Stay, late: &[] };
            let mut found = false;
            self.view(&source.input, variant, batch, event, |view| {
                let view = match view.find(path, given) {
                    Some(View::Node(Node::Var(Var::File))) => Some(View::Node(&file)),
                    other => other,
                };
                found = match view {
                    Some(View::Node(Node::Var(Var::Message))) => {
                        // As it is, invalid UTF-8 too: as in Beats.
                        out.extend_from_slice(batch.text(event));
                        true
                    }
                    Some(View::Node(Node::Var(var))) => {
                        let from = out.len();
                        self.write_var(*var, source, batch, event, out);
                        form.settle(from, out);
                        true
                    }
                    Some(View::Node(Node::Value(value)) | View::Value(value)) if !value.is_object() => {
                        form.write(value, out)
                    }
                    Some(View::Text(s)) => {
                        out.extend_from_slice(s.as_bytes());
                        true
                    }
                    // What `@metadata` is made of there isn't the event's.
                    Some(view) if path != "@metadata" => {
                        view.write(plain::OBJECT, out, &mut |var, out| self.write_var(var, source, batch, event, out));
                        true
                    }
                    _ => false,
                };
            });
            found
        })
    }

    /// The event as a tree with everything merged into it.
    fn view(
        &self,
        input: &InputRender,
        variant: &Variant,
        batch: &Batch,
        event: &Event,
        use_it: impl FnOnce(View<'_>),
    ) {
        let file = self.options.file_node(&self.agent, &batch.source);
        let settled = match event.overlay.as_deref() {
            Some(overlay) if overlay.extent == Extent::Whole => {
                return use_it(self.whole_view(variant, overlay, &file));
            }
            Some(Overlay { extent: Extent::Members(gone), .. }) => Some(gone),
            _ => None,
        };
        let mut view = View::Node(&variant.tree);
        let desc = &input.desc;
        let given = Given { file: &file, nulls: self.nulls(desc), late: BEHIND };
        let new = self.options.compat != Compat::V5;
        let tags = if new { all_tags(event, desc) } else { None };
        if let Some(overlay) = event.overlay.as_deref().filter(|_| settled.is_none()) {
            if overlay.no_message {
                view.remove_var("message", Var::Message, given);
            }
            view.merge(&overlay.fields, true, given);
            if let Some(meta) = view.member("@metadata", given) {
                meta.merge(&overlay.metadata, true, Given { nulls: Nulls::Stay, ..given });
                let own = overlay.fields.get("type").and_then(Value::as_str);
                let own = own.filter(|_| !desc.root_fields.contains_key("type"));
                if let (Compat::V5, Some(own)) = (self.options.compat, own) {
                    meta.set("type", View::Text(own), given);
                }
            }
        }
        // What the user set wins over what the line says.
        let own = Given { nulls: Nulls::Ignored, ..given };
        view.merge(&desc.root_fields, new, own);
        if let Some(fields) = view.member("fields", given).filter(|_| new && !desc.fields.is_empty()) {
            fields.merge_or_become(&desc.fields, own);
        }
        if let Some(tags) = tags.as_ref().filter(|_| settled.is_none()) {
            view.set("tags", View::Value(tags), given);
        }
        if let (Some(gone), Some(overlay)) = (settled, event.overlay.as_deref()) {
            self.settle(&mut view, gone, overlay, &file);
        }
        use_it(view);
    }

    /// Puts members that processors have settled in the place of the event's own.
    fn settle<'a>(&self, view: &mut View<'a>, gone: &[String], overlay: &'a Overlay, file: &'a Node) {
        let given = Given { file, nulls: Nulls::Stay, late: &[] };
        if let Some(members) = view.members(given) {
            members.retain(|(name, _)| {
                let gone = gone.iter().any(|gone| gone == name) || overlay.fields.contains_key(*name);
                !(gone || overlay.no_message && *name == "message")
            });
            members.extend(overlay.fields.iter().map(|(name, value)| (name.as_str(), View::Value(value))));
        }
        self.add_metadata(view, overlay, given);
    }

    /// The members that take the place of an event's own; `file` stands for what isn't looked into.
    fn others<'a>(&self, variant: &'a Variant, overlay: &'a Overlay, file: &'a Node) -> Vec<(&'a str, View<'a>)> {
        let mut others: Vec<_> =
            overlay.fields.iter().map(|(name, value)| (name.as_str(), View::Value(value))).collect();
        if !overlay.metadata.is_empty() || self.options.compat == Compat::V5 {
            let given = Given { file, nulls: Nulls::Stay, late: &[] };
            let mut view = View::Node(&variant.tree);
            self.add_metadata(&mut view, overlay, given);
            others.extend(view.member("@metadata", given).map(|meta| ("@metadata", meta.clone())));
        }
        others
    }

    fn add_metadata<'a>(&self, view: &mut View<'a>, overlay: &'a Overlay, given: Given<'a>) {
        if let Some(meta) = view.member("@metadata", given) {
            meta.merge(&overlay.metadata, true, given);
            if let (Compat::V5, Some(own)) = (self.options.compat, overlay.fields.get("type").and_then(Value::as_str)) {
                meta.set("type", View::Text(own), given);
            }
        }
    }

    /// An event whose fields processors have settled: only its time, its metadata and its text are still to be added.
    fn whole_view<'a>(&self, variant: &'a Variant, overlay: &'a Overlay, file: &'a Node) -> View<'a> {
        let built_in = |name: &str| match name {
            "message" => !overlay.no_message,
            "@timestamp" | "@metadata" => true,
            _ => false,
        };
        let members: &[(String, Node)] = if let Node::Object(members) = &variant.tree { members } else { &[] };
        let kept =
            members.iter().filter(|(name, _)| built_in(name)).map(|(name, node)| (name.as_str(), View::Node(node)));
        let settled = overlay.fields.iter().map(|(name, value)| (name.as_str(), View::Value(value)));
        let given = Given { file, nulls: Nulls::Stay, late: &[] };
        let mut view = View::Object(kept.chain(settled).collect());
        self.add_metadata(&mut view, overlay, given);
        view
    }

    /// What is said of a file, as a value.
    fn file(&self, source: &Source) -> Option<Value> {
        View::Node(&self.options.file_node(&self.agent, source)).to_value(false, &|_| None)
    }

    /// What becomes of the nulls that a line holds.
    fn nulls(&self, input: &InputDesc) -> Nulls {
        match (input.keep_null, self.options.compat) {
            (true, _) => Nulls::Stay,
            (false, Compat::V5) => Nulls::Ignored,
            (false, _) => Nulls::Remove,
        }
    }

    fn write_var(&self, var: Var, source: &SourceRender, batch: &Batch, event: &Event, out: &mut Vec<u8>) {
        match var {
            Var::Message => {
                out.push(b'"');
                escape(batch.text(event), self.options.escape_html, out);
                out.push(b'"');
            }
            Var::Time => {
                out.push(b'"');
                write_timestamp(event.time_ms, out);
                out.push(b'"');
            }
            Var::Offset => write_u64(event.offset, out),
            Var::End => write_u64(event.offset + u64::from(event.len), out),
            Var::File => out.extend_from_slice(&source.file),
            Var::Id => {
                out.push(b'"');
                write_event_id(&batch.event_id(event), out);
                out.push(b'"');
            }
            Var::RawIndex => {
                let mut text = Vec::new();
                source.input.write_raw_index(event.time_ms, &self.agent, &mut text);
                out.push(b'"');
                escape(&text, self.options.escape_html, out);
                out.push(b'"');
            }
        }
    }

    fn with_source<R>(&self, source: &Arc<Source>, use_it: impl FnOnce(&SourceRender) -> R) -> R {
        let cached = source.render.get_or_init(|| Box::new(self.describe(source)));
        match cached.downcast_ref::<SourceRender>() {
            Some(mine) if mine.renderer == self.number => use_it(mine),
            // Another output's: a second one in the same process pays for it.
            _ => use_it(&self.describe(source)),
        }
    }

    fn describe(&self, source: &Source) -> SourceRender {
        let mut file = Vec::new();
        let node = self.options.file_node(&self.agent, source);
        View::Node(&node).write(self.options.style(), &mut file, &mut |_, _| {});
        SourceRender { renderer: self.number, input: self.input(&source.input), file: file.into_boxed_slice() }
    }

    fn input(&self, desc: &Arc<InputDesc>) -> Arc<InputRender> {
        let mut inputs = self.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = inputs.iter().find(|known| Arc::ptr_eq(&known.desc, desc)) {
            return Arc::clone(known);
        }
        // Inputs that nobody else knows any more (reloaded): theirs go.
        inputs.retain(|known| Arc::strong_count(&known.desc) > 1);
        let new = Arc::new(InputRender::new(Arc::clone(desc), &self.agent));
        inputs.push(Arc::clone(&new));
        new
    }
}

/// What processors see of an event before they change it. Nothing is kept at the source for that: its place is the output's.
impl Shape for Renderer {
    fn fields(&self, batch: &Batch, event: &Event) -> Map<String, Value> {
        let mut out = Map::new();
        let input = self.input(&batch.source.input);
        let variant = input.variant(event, &self.options, &self.agent);
        let file = || self.file(&batch.source);
        self.view(&input, variant, batch, event, |view| {
            if let Some(Value::Object(fields)) = view.to_value(input.desc.keep_null, &|var| of_var(var, event, &file)) {
                out = fields;
            }
        });
        out.remove("@metadata");
        out
    }

    fn member(&self, batch: &Batch, event: &Event, name: &str) -> Option<Value> {
        let input = self.input(&batch.source.input);
        if input.desc.root_fields.contains_key(name) || event.overlay.is_some() {
            return self.fields(batch, event).remove(name);
        }
        let variant = input.variant(event, &self.options, &self.agent);
        let node = variant.tree.member(name).filter(|_| name != "@metadata")?;
        View::Node(node).to_value(input.desc.keep_null, &|var| of_var(var, event, &|| self.file(&batch.source)))
    }

    fn late(&self) -> &'static [&'static str] {
        match self.options.compat {
            Compat::V5 => &["beat", "tags", "fields"],
            _ => &["ecs", "host", "agent"],
        }
    }

    fn is_modern(&self) -> bool {
        self.options.compat.is_modern()
    }
}

/// What processors see of a variable; `file` gives what is said of the event's file.
fn of_var(var: Var, event: &Event, file: &impl Fn() -> Option<Value>) -> Option<Value> {
    match var {
        Var::Offset => Some(Value::from(event.offset)),
        Var::End => Some(Value::from(event.offset + u64::from(event.len))),
        Var::File => file(),
        Var::Time | Var::Message | Var::Id | Var::RawIndex => None,
    }
}

/// The tags that the line brings along with the configured ones behind them, where it has both. 5.6 couldn't do that:
/// there the line's win.
fn all_tags(event: &Event, desc: &InputDesc) -> Option<Value> {
    let own = event.overlay.as_ref()?.fields.get("tags")?.as_array().filter(|_| !desc.tags.is_empty())?;
    Some(own.iter().cloned().chain(desc.tags.iter().cloned().map(Value::String)).collect())
}

/// Appends an event's id, as its `Display` does.
pub fn write_event_id(id: &EventId, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in id.incarnation.0.to_be_bytes() {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.push(b'-');
    write_hex(id.offset, out);
    out.push(b'-');
    write_hex(u64::from(id.len), out);
}

#[cfg(test)]
pub(crate) mod tests;
