//! Which bytes of a text change for an edit.
//!
//! Comes in: a document and one edit, whose way is clear of aliases. Goes out: the new text, or why there is none.
//!
//! Always holds: between brackets all stays on its line or goes on in the lines' own indentation; elsewhere new keys and
//! items go into lines of their own after the last one, where their siblings begin. Nothing that is read as a comment is
//! dropped.
//! Tested in `tests/yaml.rs` and `tests/yaml_random.rs`.

use serde_json::{Value, json};

use super::emit::{self, Style};
use super::tree::{Document, Kind, Node};
use crate::inject::{Edit, apply, pointer_parts};

/// A node and what holds it.
#[derive(Clone, Copy)]
pub(super) struct Slot<'a> {
    pub(super) node: &'a Node,
    pub(super) holder: Holder<'a>,
    /// Whether it lies between brackets.
    pub(super) in_flow: bool,
}

/// What holds a node.
#[derive(Clone, Copy)]
pub(super) enum Holder<'a> {
    Root,
    Entry(&'a Node),
    Item,
}

impl<'a> Slot<'a> {
    pub(super) fn root(document: &'a Document<'_>) -> Option<Slot<'a>> {
        document.root.as_ref().map(|node| Slot { node, holder: Holder::Root, in_flow: false })
    }

    /// The slot with this name or number within this one's node.
    pub(super) fn child(&self, part: &str) -> Option<Slot<'a>> {
        let in_flow = self.in_flow || self.node.is_flow();
        match &self.node.kind {
            Kind::Map { entries, .. } => {
                let is_it = |key: &Node| matches!(&key.kind, Kind::Scalar { text, .. } if text == part);
                let (key, node) = entries.iter().find(|(key, _)| is_it(key))?;
                Some(Slot { node, holder: Holder::Entry(key), in_flow })
            }
            Kind::List { items, .. } => {
                let node = items.get(part.parse::<usize>().ok()?)?;
                Some(Slot { node, holder: Holder::Item, in_flow })
            }
            _ => None,
        }
    }

    /// Calls for all slots within this one, itself included.
    pub(super) fn visit(self, call: &mut impl FnMut(Slot<'a>)) {
        call(self);
        let in_flow = self.in_flow || self.node.is_flow();
        match &self.node.kind {
            Kind::Map { entries, .. } => {
                for (key, node) in entries {
                    Slot { node, holder: Holder::Entry(key), in_flow }.visit(call);
                }
            }
            Kind::List { items, .. } => {
                items.iter().for_each(|node| Slot { node, holder: Holder::Item, in_flow }.visit(call));
            }
            _ => {}
        }
    }
}

/// The slot at a pointer, reached without going through an alias.
pub(super) fn find<'a>(document: &'a Document<'_>, pointer: &str) -> Option<Slot<'a>> {
    pointer_parts(pointer).try_fold(Slot::root(document)?, |slot, part| slot.child(&part))
}

/// The first byte of what is at a pointer, or of the nearest that holds it.
pub(super) fn nearest(document: &Document<'_>, pointer: &str) -> usize {
    let Some(mut slot) = Slot::root(document) else { return 0 };
    for part in pointer_parts(pointer) {
        match slot.child(&part) {
            Some(child) => slot = child,
            None => break,
        }
    }
    match slot.holder {
        Holder::Entry(key) => key.start,
        _ => slot.node.start,
    }
}

/// Makes one edit of those that add items of several lines to a list between brackets: it is rewritten in lines.
pub(super) fn gather(document: &Document<'_>, edits: &[Edit]) -> Vec<Edit> {
    let mut gathered: Vec<Edit> = Vec::new();
    let mut rest = edits;
    while let Some(first) = rest.first() {
        let list = |edit: &Edit| match edit {
            Edit::Add { at, .. } => at.rsplit_once('/').map(|(list, _)| list.to_owned()),
            Edit::Replace { .. } => None,
        };
        let at = list(first);
        let run = rest.iter().take_while(|edit| at.is_some() && list(edit) == at).count().max(1);
        let (these, others) = rest.split_at(run);
        rest = others;
        match at.and_then(|at| rewritten(document, &at, these)) {
            Some(edit) => gathered.push(edit),
            None => gathered.extend_from_slice(these),
        }
    }
    gathered
}

fn rewritten(document: &Document<'_>, at: &str, edits: &[Edit]) -> Option<Edit> {
    let slot = find(document, at).filter(|slot| !slot.in_flow && slot.node.is_flow())?;
    let several = |edit: &Edit| edit.value().as_str().is_some_and(|text| text.contains('\n'));
    if !matches!(slot.node.kind, Kind::List { .. }) || !edits.iter().any(several) || Style::of(document).json {
        return None;
    }
    let mut value = document.value().ok()??;
    apply(&mut value, edits)?;
    Some(Edit::Replace { at: at.to_owned(), value: value.pointer(at)?.clone() })
}

/// The text after the edit; `literal`: texts of several lines may be literal blocks.
pub(super) fn splice(document: &Document<'_>, edit: &Edit, literal: bool) -> Result<String, String> {
    let writer = Writer { document, style: Style { literal, ..Style::of(document) } };
    match edit {
        Edit::Replace { at, value } => writer.replace(&find(document, at).ok_or("it isn't there")?, value),
        Edit::Add { at, value } => {
            let (holder, _) = at.rsplit_once('/').ok_or("the whole can't be added")?;
            let key = pointer_parts(at).last().unwrap_or_default();
            let slot = find(document, holder).ok_or("what should hold it isn't there")?;
            match &slot.node.kind {
                // As a JSON Patch has it: a key that is there gets another value.
                Kind::Map { .. } if slot.child(&key).is_some() => {
                    writer.replace(&slot.child(&key).ok_or("it isn't there")?, value)
                }
                Kind::Map { entries, .. } => writer.add_entry(&slot, entries, &key, value),
                Kind::List { items, .. } => {
                    let index = if key == "-" { items.len() } else { key.parse().map_err(|_| "not a number")? };
                    writer.add_item(&slot, items, index, value)
                }
                _ => Err("what should hold it is neither a mapping nor a list".into()),
            }
        }
    }
}

/// The text with another value in a slot.
pub(super) fn replace(document: &Document<'_>, slot: &Slot<'_>, value: &Value) -> Result<String, String> {
    Writer { document, style: Style::of(document) }.replace(slot, value)
}

impl Style {
    /// The style of a document, from the first places that show it.
    pub(super) fn of(document: &Document<'_>) -> Style {
        let mut style = Style { step: 2, list: 2, json: false, airy: document.text.contains("\": "), literal: true };
        let Some(root) = &document.root else { return style };
        if let Kind::Map { flow: true, entries } = &root.kind {
            style.json = entries.first().is_none_or(|(key, _)| document.text[key.body..].starts_with('"'));
        }
        let (mut step, mut list) = (None, None);
        root.visit(&mut |node| {
            let Kind::Map { flow: false, entries } = &node.kind else { return };
            for (key, value) in entries {
                let column = document.column(key.start);
                match &value.kind {
                    Kind::Map { flow: false, entries } => {
                        let below = entries.first().map_or(0, |(key, _)| document.column(key.start));
                        step = step.or(below.checked_sub(column).filter(|n| (1..=16).contains(n)));
                    }
                    Kind::List { flow: false, .. } => {
                        list = list.or(document.column(value.body).checked_sub(column).filter(|n| *n <= 16));
                    }
                    _ => {}
                }
            }
        });
        style.step = step.unwrap_or(style.step);
        style.list = list.unwrap_or(style.list);
        style
    }
}

struct Writer<'a> {
    document: &'a Document<'a>,
    style: Style,
}

impl Writer<'_> {
    fn text(&self) -> &str {
        self.document.text
    }

    fn newline(&self) -> &'static str {
        if self.text().contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// The text with `new` in the place of some bytes.
    fn with(&self, from: usize, to: usize, new: &str) -> String {
        format!("{}{new}{}", &self.text()[..from], &self.text()[to..])
    }

    /// Lines, indented by `column`, after the line in which a block node ends; comments below it that are indented no
    /// less are taken for its own.
    fn lines_after(&self, node: &Node, column: usize, lines: &[String]) -> String {
        let newline = self.newline();
        let new = lines.join(newline);
        if node.ends_with_block_scalar() {
            let begin = if self.text()[..node.end].ends_with('\n') { "" } else { newline };
            let end = if begin.is_empty() { newline } else { "" };
            return self.with(node.end, node.end, &format!("{begin}{new}{end}"));
        }
        let mut at = self.document.line_end(node.end);
        while let Some(end) = self.own_comment(at, column) {
            at = end;
        }
        if self.text()[..at].ends_with('\r') {
            at -= 1;
        }
        self.with(at, at, &format!("{newline}{new}"))
    }

    /// The end of a comment that begins a line below `at`, if it belongs to what stands above it: it is indented more than
    /// `column`, or as much with no empty line between (at the left edge it is more likely about what follows).
    fn own_comment(&self, at: usize, column: usize) -> Option<usize> {
        let below = self.text()[at..].strip_prefix('\n')?;
        let text = below.trim_start();
        let start = self.text().len() - text.len();
        let (indent, adjacent) = (self.document.column(start), self.document.line_start(start) == at + 1);
        let is_own = text.starts_with('#') && (indent > column || indent == column && column > 0 && adjacent);
        is_own.then(|| self.document.line_end(start))
    }

    fn add_entry(&self, slot: &Slot<'_>, entries: &[(Node, Node)], key: &str, value: &Value) -> Result<String, String> {
        if slot.in_flow || slot.node.is_flow() {
            let key = if self.style.json { json!(key).to_string() } else { emit::scalar_text(key, true) };
            let colon = if self.style.json && !self.style.airy { ":" } else { ": " };
            let nodes: Vec<(&Node, usize)> = entries.iter().map(|(key, v)| (key, self.end_of_entry(key, v))).collect();
            return self.add_between(slot.node, &nodes, nodes.len(), &format!("{key}{colon}"), value);
        }
        let (first, _) = entries.first().ok_or("an empty mapping without brackets")?;
        let column = self.document.column(first.start);
        let lines = emit::block(&json!({ key: value }), column, self.style);
        Ok(self.lines_after(slot.node, column, &lines))
    }

    /// After an entry between brackets, its colon included.
    fn end_of_entry(&self, key: &Node, value: &Node) -> usize {
        if value.is_empty() { self.after_colon(key).unwrap_or(key.end) } else { value.end.max(key.end) }
    }

    fn after_colon(&self, key: &Node) -> Option<usize> {
        let rest = &self.text()[key.end..];
        let at = rest.len() - rest.trim_start().len();
        rest[at..].starts_with(':').then_some(key.end + at + 1)
    }

    fn add_item(&self, slot: &Slot<'_>, items: &[Node], index: usize, value: &Value) -> Result<String, String> {
        if slot.in_flow || slot.node.is_flow() {
            let nodes: Vec<(&Node, usize)> = items.iter().map(|item| (item, item.end)).collect();
            return self.add_between(slot.node, &nodes, index, "", value);
        }
        if !self.text()[slot.node.body..].starts_with('-') {
            return Err("a list whose beginning isn't clear".into());
        }
        let column = self.document.column(slot.node.body);
        let lines = emit::block(&json!([value]), column, self.style);
        match index.checked_sub(1) {
            Some(before) => {
                let before = items.get(before).ok_or("there is no such place")?;
                Ok(self.lines_after(before, column, &lines))
            }
            None => {
                let new = lines.join(self.newline());
                let new = format!("{}{}{}", &new[column..], self.newline(), " ".repeat(column));
                Ok(self.with(slot.node.body, slot.node.body, &new))
            }
        }
    }

    /// A new part between brackets; `parts` are those that are there, with their ends.
    fn add_between(
        &self,
        node: &Node,
        parts: &[(&Node, usize)],
        index: usize,
        key: &str,
        value: &Value,
    ) -> Result<String, String> {
        let Some((last, _)) = parts.last() else {
            let (open, close) = (&self.text()[node.body..=node.body], &self.text()[node.end - 1..node.end]);
            let outer = self.document.indentation(node.body);
            let new = if self.is_pretty() {
                let inner = format!("{outer}{}", self.json_step());
                let value = emit::pretty(value, &inner, &self.json_step());
                format!("{open}{0}{inner}{key}{value}{0}{outer}{close}", self.newline())
            } else {
                format!("{open}{key}{}{close}", emit::flow(value, self.style))
            };
            return Ok(self.with(node.body, node.end, &new));
        };
        let own_line = self.document.line_start(last.start) != self.document.line_start(node.body);
        let indent = self.document.indentation(last.start);
        let new = if self.is_pretty() && own_line {
            emit::pretty(value, indent, &self.json_step()).replace('\n', self.newline())
        } else {
            emit::flow(value, self.style)
        };
        let blank = match (own_line, self.style) {
            (true, _) => format!("{}{indent}", self.newline()),
            (false, Style { json: true, airy: false, .. }) => String::new(),
            (false, _) => " ".to_owned(),
        };
        match index.checked_sub(1) {
            Some(before) => {
                let end = parts.get(before).ok_or("there is no such place")?.1;
                Ok(self.with(end, end, &format!(",{blank}{key}{new}")))
            }
            None => {
                let start = parts.first().map_or(node.body + 1, |(first, _)| first.start);
                Ok(self.with(start, start, &format!("{key}{new},{blank}")))
            }
        }
    }

    /// JSON on several lines.
    fn is_pretty(&self) -> bool {
        self.style.json && self.text().trim().contains('\n')
    }

    /// What JSON's lines are indented by.
    fn json_step(&self) -> String {
        let first = match self.document.root.as_ref().map(|root| &root.kind) {
            Some(Kind::Map { entries, .. }) => entries.first().map(|(key, _)| self.document.indentation(key.start)),
            _ => None,
        };
        first.filter(|step| !step.is_empty()).unwrap_or("  ").to_owned()
    }

    fn replace(&self, slot: &Slot<'_>, value: &Value) -> Result<String, String> {
        let node = slot.node;
        if slot.in_flow || self.style.json {
            return Ok(self.replace_inline(slot, &self.between_brackets(node, value)));
        }
        let lines_needed = match value {
            Value::String(text) => text.contains('\n') && self.style.literal,
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        };
        let has_parts = match &node.kind {
            Kind::List { items, .. } => !items.is_empty(),
            Kind::Map { entries, .. } => !entries.is_empty(),
            _ => false,
        };
        let stays_flow = node.is_flow() && has_parts && !has_lines(value);
        let in_lines = node.is_block_scalar() || !node.is_flow() && has_parts;
        if (!lines_needed || stays_flow) && !in_lines {
            return Ok(self.replace_inline(slot, &emit::flow(value, self.style)));
        }
        match slot.holder {
            Holder::Root => Err("the whole document would be rewritten".into()),
            Holder::Entry(key) => self.rewrite_entry(key, node, value),
            Holder::Item => self.rewrite_item(node, value),
        }
    }

    fn between_brackets(&self, node: &Node, value: &Value) -> String {
        if self.is_pretty() {
            let indent = self.document.indentation(node.start);
            return emit::pretty(value, indent, &self.json_step()).replace('\n', self.newline());
        }
        emit::flow(value, self.style)
    }

    /// Another value on the same line.
    fn replace_inline(&self, slot: &Slot<'_>, new: &str) -> String {
        let node = slot.node;
        if !node.is_empty() {
            return self.with(node.body, node.end, new);
        }
        let (at, head) = match slot.holder {
            Holder::Entry(key) => match self.after_colon(key) {
                Some(at) => (at.max(node.end), " "),
                None => (key.end, ": "),
            },
            _ => (node.end, " "),
        };
        self.with(at, at, &format!("{head}{new}"))
    }

    /// `key: value` with a value in lines of its own.
    fn rewrite_entry(&self, key: &Node, node: &Node, value: &Value) -> Result<String, String> {
        let colon = self.after_colon(key).ok_or("a key without a colon after it")?;
        let from = colon.max(if node.is_empty() { node.end } else { colon });
        let (mut comments, end) = self.comments(colon, node);
        let anchor = self.anchor(node);
        let column = self.document.column(key.start);
        let below = column + if value.is_array() { self.style.list } else { self.style.step };
        let key_only = emit::block(&json!({"k": value}), column, self.style);
        // The head of a literal block stands on the key's line, all else below it.
        let mark = key_only.first().and_then(|line| line[column..].strip_prefix("k:")).unwrap_or_default();
        let mut new = String::new();
        anchor.iter().for_each(|anchor| new.push_str(&format!(" {anchor}")));
        new.push_str(mark);
        let on_key_line = !comments.is_empty() && (!mark.contains('"') || key_only.len() == 1);
        if on_key_line && let Some(comment) = comments.pop() {
            new.push_str(&format!(" {comment}"));
        }
        if !comments.is_empty() && key_only.len() > 1 && !mark.is_empty() {
            return Err("its comments would have no place".into());
        }
        for comment in &comments {
            new.push_str(&format!("{}{}{comment}", self.newline(), " ".repeat(below)));
        }
        for line in key_only.iter().skip(1) {
            new.push_str(&format!("{}{line}", self.newline()));
        }
        let from = if node.is_empty() && anchor.is_some() { colon } else { from };
        Ok(self.with(from, end, &self.ended(node, end, new)))
    }

    /// `- value` with a value in lines of its own.
    fn rewrite_item(&self, node: &Node, value: &Value) -> Result<String, String> {
        if node.is_empty() || node.is_block_scalar() {
            return Err("an item that isn't on the line of its `-`".into());
        }
        let (comments, end) = self.comments(node.start, node);
        let column = self.document.column(node.start);
        let lines = match value {
            Value::String(_) => return Err("a text of several lines in the place of another value".into()),
            value => emit::block(value, column, self.style),
        };
        let mut new = self.anchor(node).map(|anchor| format!("{anchor}{}{}", self.newline(), " ".repeat(column)));
        let new = new.get_or_insert_default();
        for comment in &comments {
            new.push_str(&format!("{comment}{}{}", self.newline(), " ".repeat(column)));
        }
        let joined = lines.join(self.newline());
        new.push_str(joined.get(column..).unwrap_or_default());
        Ok(self.with(node.start, end, &self.ended(node, end, new.clone())))
    }

    /// What is written in the place of a block scalar ends its last line itself.
    fn ended(&self, node: &Node, end: usize, mut new: String) -> String {
        if node.ends_with_block_scalar() && self.text()[..end].ends_with('\n') {
            new.push_str(self.newline());
        }
        new
    }

    fn anchor(&self, node: &Node) -> Option<String> {
        let props = &self.text()[node.start..node.body.max(node.start)];
        let props = if node.is_empty() { &self.text()[node.start..node.end] } else { props };
        props.split_whitespace().find(|word| word.starts_with('&')).map(str::to_owned)
    }

    /// The comments from `from` to the end of the node's last line, and where that is; the one at the end comes last.
    fn comments(&self, from: usize, node: &Node) -> (Vec<String>, usize) {
        let in_lines = node.ends_with_block_scalar();
        let mut to = if in_lines { node.end } else { self.document.line_end(node.end) };
        if !in_lines && self.text()[..to].ends_with('\r') {
            to -= 1;
        }
        let mut scalars = Vec::new();
        if let Some(root) = &self.document.root {
            root.visit(&mut |node| {
                if matches!(node.kind, Kind::Scalar { .. }) && node.start < to && node.end > from {
                    scalars.push(node.body..node.end);
                }
            });
        }
        let text = self.text();
        let mut comments = Vec::new();
        let mut at = from;
        while let Some(found) = text[at..to].find('#').map(|i| at + i) {
            let alone = text[..found].ends_with([' ', '\t', '\n']) || found == 0;
            if let Some(scalar) = scalars.iter().find(|s| s.contains(&found)) {
                at = scalar.end.min(to);
            } else if alone {
                let end = self.document.line_end(found).min(to);
                comments.push(text[found..end].trim_end().to_owned());
                at = end;
            } else {
                at = found + 1;
            }
        }
        (comments, to)
    }
}

/// Whether some text in it has several lines.
fn has_lines(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\n'),
        Value::Array(list) => list.iter().any(has_lines),
        Value::Object(map) => map.values().any(has_lines),
        _ => false,
    }
}
