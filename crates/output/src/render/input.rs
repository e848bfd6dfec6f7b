//! The part of an event that is the same for all events of an input, as a tree and as a ready template.
//!
//! Comes in: the input's description, the agent, the options. Goes out: a [`Variant`] for each combination of stream and
//! flags, made when the first such event comes. Tested through `render/mod.rs`.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use pillion_config::Compat;
use pillion_event::{Event, Flags, InputDesc, InputKind, Source, Stream};
use serde_json::Value;

use super::tree::{Given, Node, Nulls, Style, Var, View, copy, write_string};
use super::{RenderOptions, Target};
use crate::contract::Agent;
use crate::format::Format;

/// What is the same for all events of an input.
pub(super) struct InputRender {
    pub(super) desc: Arc<InputDesc>,
    /// The input's `index`, compiled; `None` when there is none or it is a plain text.
    raw_index: Option<Format>,
    variants: [OnceLock<Variant>; 12],
}

/// What is the same for all events of an input with the same stream and flags.
pub(super) struct Variant {
    pub(super) tree: Node,
    /// `None`: what the user put at the root reaches into what differs between files.
    pub(super) template: Option<Template>,
}

/// Ready JSON, cut where something differs.
pub(super) struct Template {
    pub(super) bytes: Vec<u8>,
    cuts: Vec<(usize, Var)>,
    /// Each member of the event by its name: where it is in `bytes`, without commas, and in `cuts`.
    members: Vec<(String, Range<usize>, Range<usize>)>,
}

impl Template {
    fn new<'a>(mut view: View<'a>, given: Given<'a>, style: Style) -> Template {
        let (mut bytes, mut cuts, mut pieces) = (vec![b'{'], Vec::new(), Vec::new());
        let mut members = view.members(given).map(std::mem::take);
        if style.sorted {
            members.iter_mut().for_each(|all| all.sort_by_key(|(name, _)| *name));
        }
        for (name, member) in members.unwrap_or_default() {
            if bytes.len() > 1 {
                bytes.push(b',');
            }
            let (from, first) = (bytes.len(), cuts.len());
            write_string(name, style, &mut bytes);
            bytes.push(b':');
            member.write(style, &mut bytes, &mut |var, out| cuts.push((out.len(), var)));
            pieces.push((name.to_owned(), from..bytes.len(), first..cuts.len()));
        }
        bytes.push(b'}');
        Template { bytes, cuts, members: pieces }
    }

    /// Writes the event, with `var` for what differs.
    pub(super) fn write(&self, out: &mut Vec<u8>, var: &mut impl FnMut(Var, &mut Vec<u8>)) {
        self.piece(0..self.bytes.len(), &self.cuts, out, var);
    }

    /// Writes those of its members for which there are no others, and which stay, and the others.
    pub(super) fn write_members(
        &self,
        stays: impl Fn(&str) -> bool,
        others: Vec<(&str, View<'_>)>,
        style: Style,
        out: &mut Vec<u8>,
        var: &mut impl FnMut(Var, &mut Vec<u8>),
    ) {
        let own =
            self.members.iter().filter(|(name, ..)| stays(name) && !others.iter().any(|(other, _)| other == name));
        let own = own.map(|(name, bytes, cuts)| (name.as_str(), Ok((bytes.clone(), cuts.clone()))));
        let mut all = Vec::with_capacity(self.members.len() + others.len());
        all.extend(own);
        all.extend(others.into_iter().map(|(name, other)| (name, Err(other))));
        if style.sorted {
            all.sort_by_key(|(name, _)| *name);
        }
        out.push(b'{');
        for (i, (name, member)) in all.into_iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            match member {
                Ok((bytes, cuts)) => self.piece(bytes, self.cuts.get(cuts).unwrap_or_default(), out, var),
                Err(other) => {
                    write_string(name, style, out);
                    out.push(b':');
                    other.write(style, out, var);
                }
            }
        }
        out.push(b'}');
    }

    fn piece(
        &self,
        bytes: Range<usize>,
        cuts: &[(usize, Var)],
        out: &mut Vec<u8>,
        var: &mut impl FnMut(Var, &mut Vec<u8>),
    ) {
        let mut at = bytes.start;
        for &(cut, which) in cuts {
            out.extend_from_slice(self.bytes.get(at..cut).unwrap_or_default());
            var(which, out);
            at = cut;
        }
        out.extend_from_slice(self.bytes.get(at..bytes.end).unwrap_or_default());
    }
}

impl InputRender {
    pub(super) fn new(desc: Arc<InputDesc>, agent: &Agent) -> InputRender {
        let raw_index = desc.index.as_deref().and_then(|index| Format::compile(index).ok());
        let raw_index = raw_index.map(|format| format.of_program(agent));
        InputRender { desc, raw_index, variants: Default::default() }
    }

    pub(super) fn variant(&self, event: &Event, options: &RenderOptions, agent: &Agent) -> &Variant {
        let stream = match event.stream {
            Stream::None => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        let at = stream * 4 + usize::from(event.flags.multiline) * 2 + usize::from(event.flags.truncated);
        self.variants[at].get_or_init(|| self.make(event.stream, event.flags, options, agent))
    }

    fn make(&self, stream: Stream, flags: Flags, options: &RenderOptions, agent: &Agent) -> Variant {
        let tree = match options.compat {
            Compat::V5 => self.tree_5(stream, options, agent),
            _ => self.tree_7(stream, flags, options, agent),
        };
        let reaches_into_file = options.compat != Compat::V5
            && matches!(self.desc.root_fields.get("log"), Some(Value::Object(log)) if log.contains_key("file"));
        let template = (!reaches_into_file).then(|| {
            let unused = Node::Var(Var::File);
            let mut view = View::Node(&tree);
            let given = Given { file: &unused, nulls: Nulls::Ignored, late: &[] };
            view.merge(&self.desc.root_fields, options.compat != Compat::V5, given);
            Template::new(view, given, options.style())
        });
        Variant { tree, template }
    }

    fn tree_5(&self, stream: Stream, options: &RenderOptions, agent: &Agent) -> Node {
        let desc = &self.desc;
        let mut root = Node::Object(Vec::new());
        if options.target == Target::Logstash {
            let own = desc.root_fields.get("type").and_then(Value::as_str);
            let mut meta = Node::object([
                ("type", Node::text(own.unwrap_or(&desc.document_type))),
                ("beat", Node::text(&options.index)),
            ]);
            if options.event_ids {
                meta.push("_id", Node::Var(Var::Id));
            }
            root.push("@metadata", meta);
        }
        root.push("@timestamp", Node::Var(Var::Time));
        let beat = Node::object([
            ("hostname", Node::text(&agent.hostname)),
            ("name", Node::text(&agent.name)),
            ("version", Node::text(&agent.version)),
        ]);
        root.push("beat", beat);
        root.push("input_type", Node::text(desc.kind.as_str()));
        root.push("message", Node::Var(Var::Message));
        root.push("offset", Node::Var(Var::End));
        root.push("source", Node::Var(Var::File));
        root.push("type", Node::text(&desc.document_type));
        self.common(&mut root, stream);
        root
    }

    fn tree_7(&self, stream: Stream, flags: Flags, options: &RenderOptions, agent: &Agent) -> Node {
        let mut root = Node::object([("@timestamp", Node::Var(Var::Time))]);
        if options.target != Target::Elasticsearch {
            root.push("@metadata", self.metadata_7(options, agent));
        }
        root.push("message", Node::Var(Var::Message));
        let network = self.desc.kind.is_network();
        let mut log = if network {
            Node::Object(Vec::new())
        } else {
            Node::object([("offset", Node::Var(Var::Offset)), ("file", Node::Var(Var::File))])
        };
        let flags: Vec<Value> = [(flags.truncated, "truncated"), (flags.multiline, "multiline")]
            .into_iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, name)| Value::from(name))
            .collect();
        if !flags.is_empty() {
            log.push("flags", Node::Value(Value::Array(flags.clone())));
        }
        // What comes over sockets has no place in a file.
        if !(network && flags.is_empty()) {
            root.push("log", log);
        }
        root.push("input", Node::object([("type", Node::text(self.desc.kind.as_str()))]));
        self.common(&mut root, stream);
        let ecs = if options.compat == Compat::V7 { "1.12.0" } else { "8.0.0" };
        root.push("ecs", Node::object([("version", Node::text(ecs))]));
        if !self.desc.without_host {
            root.push("host", Node::object([("name", Node::text(&agent.name))]));
        }
        let mut about = Node::object([
            ("id", Node::text(&agent.id)),
            ("name", Node::text(&agent.name)),
            ("type", Node::text("filebeat")),
            ("version", Node::text(&agent.version)),
            ("ephemeral_id", Node::text(&agent.ephemeral_id)),
        ]);
        if options.compat == Compat::V7 {
            about.push("hostname", Node::text(&agent.hostname));
        }
        root.push("agent", about);
        root
    }

    fn metadata_7(&self, options: &RenderOptions, agent: &Agent) -> Node {
        let mut meta = Node::object([
            ("beat", Node::text(&options.index)),
            ("type", Node::text("_doc")),
            ("version", Node::text(&agent.version)),
        ]);
        let has_truncated = self.desc.kind == InputKind::Syslog
            // 9.5 says it no more.
            || self.desc.kind == InputKind::Udp && options.compat != Compat::V9;
        if has_truncated {
            // What Filebeat found of a datagram's size on Windows; here `log.flags` says it.
            meta.push("truncated", Node::Value(Value::Bool(false)));
        }
        if let Some(pipeline) = &self.desc.pipeline {
            meta.push("pipeline", Node::text(pipeline));
        }
        match (&self.raw_index, &self.desc.index) {
            (Some(_), _) => meta.push("raw_index", Node::Var(Var::RawIndex)),
            (None, Some(literal)) => meta.push("raw_index", Node::text(literal)),
            (None, None) => {}
        }
        if options.event_ids {
            meta.push("_id", Node::Var(Var::Id));
        }
        meta
    }

    /// What is the same in all dialects, where it is set.
    fn common(&self, root: &mut Node, stream: Stream) {
        let desc = &self.desc;
        if let Some(stream) = stream.as_str() {
            root.push("stream", Node::text(stream));
        }
        if !desc.tags.is_empty() {
            root.push("tags", Node::Value(desc.tags.iter().cloned().map(Value::String).collect()));
        }
        if !desc.fields.is_empty() {
            root.push("fields", Node::Value(copy(&Value::Object(desc.fields.clone()), false)));
        }
        if let Some(service) = &desc.service_type {
            root.push("service", Node::object([("type", Node::text(service))]));
        }
    }

    /// The input's own index at a time.
    pub(super) fn write_raw_index(&self, time_ms: i64, agent: &Agent, out: &mut Vec<u8>) {
        let Some(format) = &self.raw_index else { return };
        let from = out.len();
        // As in Beats only the date and the agent's version may stand there; what can't be found is taken literally.
        if format.write_static(time_ms, agent, out).is_err() {
            out.truncate(from);
            out.extend_from_slice(self.desc.index.as_deref().unwrap_or_default().as_bytes());
        }
    }
}

impl RenderOptions {
    pub(super) fn style(&self) -> Style {
        Style { sorted: self.compat == Compat::V5, html: self.escape_html, nulls: false }
    }

    /// What is said of a file: 5.6's `source`, later `log.file`.
    pub(super) fn file_node(&self, agent: &Agent, source: &Source) -> Node {
        if self.compat == Compat::V5 {
            return Node::text(&source.path);
        }
        let mut file = Node::object([("path", Node::text(&source.path))]);
        // elastic/beats#36065, in 8.10: filestream says which file it was.
        if source.input.kind == InputKind::Filestream && version_at_least(&agent.version, 8, 10) {
            file.push("device_id", Node::text(&source.stat.device.to_string()));
            file.push("inode", Node::text(&source.stat.inode.to_string()));
            if let Some(fingerprint) = &source.stat.fingerprint {
                file.push("fingerprint", Node::text(fingerprint));
            }
            for (name, value) in [("owner", &source.stat.owner), ("group", &source.stat.group)] {
                if let Some(value) = value {
                    file.push(name, Node::text(value));
                }
            }
        }
        file
    }
}

/// Whether a version such as `8.19.3` is this one or a later one; what isn't a version counts as a late one.
fn version_at_least(version: &str, major: u32, minor: u32) -> bool {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(u32::MAX));
    let has = (numbers.next().unwrap_or(u32::MAX), numbers.next().unwrap_or(u32::MAX));
    has >= (major, minor)
}
