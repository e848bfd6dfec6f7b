//! YAML text to a tree whose nodes know their bytes.
//!
//! Comes in: the text of a stream or of one document. Goes out: the documents' texts ([`split`]), or one document's tree.
//!
//! Always holds: joined again, the parts of [`split`] are the text. Nesting is bounded ([`MAX_DEPTH`]).
//! Tested in `tests/yaml.rs`.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{Fault, MAX_TEXT};

/// Deepest nesting.
const MAX_DEPTH: usize = 100;

/// One value of the text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The first byte, of its anchor or tag if it has one.
    pub(super) start: usize,
    /// The first byte after anchor and tag. Of a block list, the first `-`.
    pub(super) body: usize,
    /// After the last byte. Of a block scalar, the beginning of the line after it, or the text's end.
    pub(super) end: usize,
    /// The parser's number of its anchor; 0 is none.
    pub(super) anchor: usize,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    Scalar { text: String, style: ScalarStyle, string: bool },
    List { flow: bool, items: Vec<Node> },
    Map { flow: bool, entries: Vec<(Node, Node)> },
    Alias(usize),
}

impl Node {
    /// Written between brackets.
    pub(super) fn is_flow(&self) -> bool {
        matches!(self.kind, Kind::List { flow: true, .. } | Kind::Map { flow: true, .. })
    }

    /// Nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, style: ScalarStyle::Plain, .. } if text.is_empty())
    }

    /// `|` or `>`.
    pub(super) fn is_block_scalar(&self) -> bool {
        matches!(self.kind, Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. })
    }

    /// Whether lines of their own make it up: what follows it begins a new line.
    pub(super) fn ends_with_block_scalar(&self) -> bool {
        match &self.kind {
            Kind::List { flow: false, items } => items.last().is_some_and(Node::ends_with_block_scalar),
            Kind::Map { flow: false, entries } => entries.last().is_some_and(|(_, v)| v.ends_with_block_scalar()),
            _ => self.is_block_scalar(),
        }
    }

    /// Calls for this node and all below it.
    pub(super) fn visit<'a>(&'a self, call: &mut impl FnMut(&'a Node)) {
        call(self);
        match &self.kind {
            Kind::List { items, .. } => items.iter().for_each(|item| item.visit(call)),
            Kind::Map { entries, .. } => entries.iter().for_each(|(key, value)| {
                key.visit(call);
                value.visit(call);
            }),
            _ => {}
        }
    }
}

/// One document.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// `None`: there is no value.
    pub(super) root: Option<Node>,
}

impl<'a> Document<'a> {
    /// Reads a text with one document in it.
    pub(super) fn parse(text: &'a str) -> Result<Document<'a>, Fault> {
        if text.len() > MAX_TEXT {
            return Err(too_long());
        }
        let mut root = None;
        // In JSON a tab may stand wherever a blank may, which the parser doesn't know.
        let blanks = json_with_blanks(text);
        let parsed = blanks.as_deref().unwrap_or(text);
        let mut reader = Reader { parser: Parser::new_from_str(parsed), text: parsed, offsets: Offsets::of(parsed) };
        loop {
            let (event, span) = reader.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event if root.is_none() => root = Some(reader.node(event, span, 0)?),
                _ => return Err(Fault::at(text, 0, "two documents in one", "put `---` between them")),
            }
        }
        Ok(Document { text, root: root.filter(|root| !root.is_empty()) })
    }

    /// The column of a byte, in characters.
    pub(super) fn column(&self, offset: usize) -> usize {
        let line = self.line_start(offset);
        self.text[line..offset].chars().filter(|c| *c != '\u{feff}').count()
    }

    /// The first byte of the line that a byte is in.
    pub(super) fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |i| i + 1)
    }

    /// The line's end: its `\n`, or the end of the text.
    pub(super) fn line_end(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |i| offset + i)
    }

    /// The blanks that the line of a byte begins with.
    pub(super) fn indentation(&self, offset: usize) -> &'a str {
        let line = &self.text[self.line_start(offset)..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }
}

/// The texts of a stream's documents, one after another; each `---` begins one.
///
/// # Errors
/// When the text isn't YAML, or too long.
pub fn split(text: &str) -> Result<Vec<&str>, Fault> {
    if text.len() > MAX_TEXT {
        return Err(too_long());
    }
    let blanks = json_with_blanks(text);
    let parsed = blanks.as_deref().unwrap_or(text);
    let mut reader = Reader { parser: Parser::new_from_str(parsed), text: parsed, offsets: Offsets::of(parsed) };
    let mut starts = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) => starts.push(line_with_directives(text, reader.byte(span.start.index()))),
            _ => {}
        }
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for start in starts.into_iter().skip(1).chain([text.len()]) {
        parts.push(&text[from..start.max(from)]);
        from = start.max(from);
    }
    Ok(parts)
}

/// The beginning of the line that a document begins in, or of the `%` lines right above it.
fn line_with_directives(text: &str, offset: usize) -> usize {
    let mut start = text[..offset].rfind('\n').map_or(0, |i| i + 1);
    while start > 0 {
        let above = text[..start - 1].rfind('\n').map_or(0, |i| i + 1);
        if !text[above..].starts_with('%') {
            break;
        }
        start = above;
    }
    start
}

/// A JSON text with a blank in the place of every tab and its other bytes as they are; `None` when it isn't one, or has
/// no tabs.
fn json_with_blanks(text: &str) -> Option<String> {
    if !text.contains('\t') || !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    // Within its strings there is no bare tab.
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok().map(|_| text.replace('\t', " "))
}

fn too_long() -> Fault {
    Fault {
        line: 0,
        column: 0,
        reason: format!("longer than {} MiB", MAX_TEXT >> 20),
        remedy: "give fewer documents at once".into(),
    }
}

/// Bytes for the parser's characters.
enum Offsets {
    /// All characters are one byte.
    Same,
    /// The byte of each character, and the end.
    Each(Vec<u32>),
}

impl Offsets {
    fn of(text: &str) -> Offsets {
        if text.is_ascii() {
            return Offsets::Same;
        }
        let end = text.len();
        Offsets::Each(text.char_indices().map(|(i, _)| i).chain([end]).map(|i| i as u32).collect())
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    offsets: Offsets,
}

impl<'a> Reader<'a> {
    fn byte(&self, index: usize) -> usize {
        match &self.offsets {
            Offsets::Same => index.min(self.text.len()),
            Offsets::Each(all) => all.get(index).map_or(self.text.len(), |i| *i as usize),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => Err(self.broken(&e)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn broken(&self, e: &ScanError) -> Fault {
        let offset = self.byte(e.marker().index());
        if e.info().contains("recursion limit") {
            return self.too_deep(offset);
        }
        let lines = |n: usize| self.text.lines().nth(n.saturating_sub(1)).unwrap_or_default();
        let (line, above) = (lines(e.marker().line()), lines(e.marker().line().saturating_sub(1)));
        let tab = |line: &str| line[..line.len() - line.trim_start().len()].contains('\t');
        let remedy = if line.contains("{{") || above.contains("{{") {
            "this looks like a template: render it first, as in `helm template … | pillion inject -f -`"
        } else if tab(line) || e.info().contains("tab") {
            "indent with blanks: YAML allows no tab there"
        } else {
            "check the indentation and the quotes here and in the line above"
        };
        Fault::at(self.text, offset, format!("not valid YAML: {}", e.info()), remedy)
    }

    fn too_deep(&self, offset: usize) -> Fault {
        Fault::at(
            self.text,
            offset,
            format!("nested deeper than {MAX_DEPTH} levels"),
            "no manifest needs that: look here",
        )
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let start = self.byte(span.start.index());
        if depth > MAX_DEPTH {
            return Err(self.too_deep(start));
        }
        let end = self.byte(span.end.index());
        match event {
            Event::Alias(id) => Ok(Node { kind: Kind::Alias(id), start, body: start, end, anchor: 0 }),
            Event::Scalar(text, style, anchor, tag) => {
                let props = anchor > 0 || tag.is_some();
                let body = if props { self.after_props(start).min(end) } else { start };
                let string =
                    style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str" || tag.suffix.is_empty());
                let end = self.end_of_scalar(body, end, style);
                Ok(Node { kind: Kind::Scalar { text: text.into_owned(), style, string }, start, body, end, anchor })
            }
            Event::SequenceStart(anchor, tag) => {
                self.list(start..end, anchor, tag.is_some(), depth).and_then(|node| self.found(node, start))
            }
            Event::MappingStart(anchor, tag) => {
                self.map(start..end, anchor, tag.is_some(), depth).and_then(|node| self.found(node, start))
            }
            _ => Err(Fault::at(self.text, start, "not valid YAML: a value is missing here", "complete it")),
        }
    }

    /// Refuses a list or mapping whose ends aren't where they were looked for, as after an anchor that runs into a bracket:
    /// edits count on them.
    fn found(&self, node: Node, start: usize) -> Result<Node, Fault> {
        let whole = node.start <= node.body
            && self.text.get(node.body..node.end).is_some_and(|body| {
                !node.is_flow() || body.len() > 1 && body.starts_with(['[', '{']) && body.ends_with([']', '}'])
            });
        if whole {
            return Ok(node);
        }
        let reason = "where this list or mapping begins and ends can't be told";
        Err(Fault::at(self.text, start, reason, "write a blank behind its anchor or tag, and close its bracket"))
    }

    /// After a scalar's last byte: the parser's word for it may lie in what follows.
    fn end_of_scalar(&self, body: usize, end: usize, style: ScalarStyle) -> usize {
        match style {
            ScalarStyle::Literal | ScalarStyle::Folded if end < self.text.len() => {
                self.text[..end].rfind('\n').map_or(end, |i| i + 1)
            }
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                let escape = if style == ScalarStyle::SingleQuoted { b'\'' } else { b'\\' };
                let bytes = self.text.as_bytes();
                let quote = bytes.get(body).copied().unwrap_or_default();
                let mut at = body + 1;
                while at < bytes.len() {
                    if bytes[at] == escape && (escape == b'\\' || bytes.get(at + 1) == Some(&quote)) {
                        at += 2;
                    } else if bytes[at] == quote {
                        return at + 1;
                    } else {
                        at += 1;
                    }
                }
                end
            }
            _ => end,
        }
    }

    /// The first byte after anchor and tag.
    fn after_props(&self, mut at: usize) -> usize {
        loop {
            let rest = &self.text[at..];
            let trimmed = rest.trim_start();
            at += rest.len() - trimmed.len();
            if trimmed.starts_with(['&', '!']) {
                at += trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
            } else if trimmed.starts_with('#') {
                at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else {
                return at;
            }
        }
    }

    /// The `-` before this byte, with nothing but blanks and comments between them.
    fn dash_before(&self, from: usize) -> usize {
        let mut at = from;
        loop {
            let before = self.text[..at].trim_end();
            if before.ends_with('-') {
                return before.len() - 1;
            }
            let line = before.rfind('\n').map_or(0, |i| i + 1);
            let trimmed = before[line..].trim_start();
            let column = before.len() - trimmed.len();
            match trimmed.strip_prefix('-').map(str::trim_start) {
                _ if trimmed.starts_with('#') && line > 0 => at = line,
                Some(rest) if rest.starts_with('#') => return column,
                _ => return from,
            }
        }
    }

    /// After the bracket that closes what ended at `at` at the earliest.
    fn after_closing(&self, mut at: usize) -> usize {
        loop {
            let Some(rest) = self.text.get(at..) else { return at };
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == ':');
            at += rest.len() - trimmed.len();
            match trimmed.chars().next() {
                Some('#') => at += trimmed.find('\n').unwrap_or(trimmed.len()),
                Some(']' | '}') => return at + 1,
                _ => return at,
            }
        }
    }

    fn list(&mut self, begin: Range<usize>, anchor: usize, tag: bool, depth: usize) -> Result<Node, Fault> {
        let start = begin.start;
        let body = if anchor > 0 || tag { self.after_props(start) } else { start };
        let flow = self.text.get(begin).is_some_and(|text| text.ends_with(['[', '{']));
        let mut items = Vec::new();
        let mut end = body + usize::from(flow);
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (event, span) => {
                    let item = self.node(event, span, depth + 1)?;
                    end = end.max(item.end);
                    items.push(item);
                }
            }
        }
        let end = if flow { self.after_closing(end) } else { end };
        // Of a list that isn't indented beneath its key, the parser names the first item's place.
        let of_item = !self.text[body..].starts_with('-')
            || items.first().is_some_and(|item| {
                item.body == body && matches!(item.kind, Kind::List { flow: false, .. }) || item.start == body
            });
        let body = if !flow && of_item && !items.is_empty() { self.dash_before(body) } else { body };
        Ok(Node { kind: Kind::List { flow, items }, start: start.min(body), body, end, anchor })
    }

    fn map(&mut self, begin: Range<usize>, anchor: usize, tag: bool, depth: usize) -> Result<Node, Fault> {
        let start = begin.start;
        let body = if anchor > 0 || tag { self.after_props(start) } else { start };
        let flow = self.text.get(begin).is_some_and(|text| text.ends_with(['[', '{']));
        let mut entries = Vec::new();
        let mut end = body + usize::from(flow);
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, span) => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            if value.is_empty() && value.start == value.end || value.is_empty() && value.anchor == 0 && flow {
                // The parser's place for nothing may lie beyond it.
                (value.start, value.body, value.end) = (key.end, key.end, key.end);
            }
            end = end.max(value.end).max(key.end);
            entries.push((key, value));
        }
        let end = if flow { self.after_closing(end) } else { end };
        Ok(Node { kind: Kind::Map { flow, entries }, start, body, end, anchor })
    }
}
