//! YAML text to a tree with positions.
//!
//! Comes in: the text of one file. Goes out: its root mapping as a [`Node`], dotted keys unfolded, anchors and merge
//! keys (`<<`) resolved.
//!
//! Always holds: what a text may cost is bounded, in bytes ([`MAX_TEXT`]), nesting ([`MAX_DEPTH`]), keys of one mapping
//! ([`MAX_KEYS`]) and values after aliases have been copied ([`MAX_NODES`]), so that a few lines of anchors can't
//! become gigabytes. Nothing is dropped in silence: a second document, a key set twice, an unknown tag is an error.
//! Tested below and by the fuzz target `config`.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::error::Error;
use crate::source::{At, Source, line_of};
use crate::tree::{Key, MAX_DEPTH, Map, Node, Value, too_deep};
use crate::value::yaml_plain;

/// Longest text of one file, in bytes.
pub(crate) const MAX_TEXT: usize = 4 << 20;

/// Most values of one file, those that aliases copy counted each time.
const MAX_NODES: usize = 200_000;

/// Most keys of one mapping.
const MAX_KEYS: usize = 10_000;

/// Reads a text that is a mapping; an empty one is an empty mapping.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Node, Error> {
    let node = parse_any(source)?;
    match node.value {
        Value::Map(_) => Ok(node),
        _ => Err(Error::at(
            &node.at,
            "",
            "a configuration is a mapping of options",
            "write `key: value`, with a blank after the colon",
        )),
    }
}

/// Reads a text, whatever it is; an empty one is an empty mapping.
pub(crate) fn parse_any(source: &Arc<Source>) -> Result<Node, Error> {
    let start = At::new(source, 1, 1, 1);
    if source.text.len() > MAX_TEXT {
        return Err(Error::new(
            format!("{}: larger than {} MiB", source.name, MAX_TEXT >> 20),
            "this isn't a configuration file: check the name given to -c",
        ));
    }
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let mut reader = Reader { parser: Parser::new_from_str(text), source, anchors: HashMap::new(), nodes: 0 };
    reader.document(&start)
}

/// What an anchor stands for, of how many values it consists, and how deep it is.
struct Anchor {
    node: Node,
    size: usize,
    height: usize,
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    source: &'a Arc<Source>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self, start: &At) -> Result<Node, Error> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event => {
                    let node = self.node(event, span, 0)?;
                    if root.is_some() {
                        return Err(Error::at(
                            &node.at,
                            "",
                            "a second YAML document: only the first would be read",
                            "remove the `---`, or put the second part into a file of its own and pass it with another -c",
                        ));
                    }
                    root = Some(node);
                }
            }
        }
        Ok(root.filter(|node| !node.is_null()).unwrap_or_else(|| Node::new(Value::Map(Map::default()), start)))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Error> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => Err(self.broken(&e)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn at(&self, span: Span) -> At {
        let width =
            if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        At::new(self.source, u32(span.start.line()), u32(span.start.col()) + 1, u32(width))
    }

    fn broken(&self, e: &ScanError) -> Error {
        let marker = e.marker();
        let at = At::new(self.source, u32(marker.line().max(1)), u32(marker.col()) + 1, 1);
        if e.info().contains("recursion limit") {
            return too_deep(&at);
        }
        let line = line_of(&self.source.text, marker.line());
        let remedy = if line[..line.len() - line.trim_start().len()].contains('\t') {
            "indent with blanks: YAML allows no tab there"
        } else if line.trim_start().starts_with(['%', '@', '`']) || line.contains(": %") || line.contains(": @") {
            "put the value in quotes: it begins with a character that YAML keeps for itself"
        } else if line.contains(": *") || line.contains("- *") {
            "put the value in quotes: a `*` at its beginning means an alias in YAML"
        } else {
            "check the indentation and the quotes here and in the line above"
        };
        Error::at(&at, "", format!("not valid YAML: {}", e.info()), remedy)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Error> {
        let at = self.at(span);
        if depth > MAX_DEPTH {
            return Err(too_deep(&at));
        }
        self.count(1, &at)?;
        let before = self.nodes;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref(), &at)?, anchor),
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag.as_deref(), &["seq"], &at)?;
                (self.list(&at, depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag.as_deref(), &["map"], &at)?;
                (self.mapping(&at, depth)?, anchor)
            }
            Event::Alias(id) => return self.alias(id, &at, depth),
            _ => return Err(Error::at(&at, "", "not valid YAML: a value is missing here", "")),
        };
        if anchor > 0 {
            let anchored = Anchor { node: node.clone(), size: self.nodes - before + 1, height: node.height() };
            self.anchors.insert(anchor, anchored);
        }
        Ok(node)
    }

    fn count(&mut self, more: usize, at: &At) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(Error::at(
                at,
                "",
                format!("more than {MAX_NODES} values, aliases counted"),
                "no configuration needs that many: look at what the anchors (`&name`, `*name`) multiply",
            ));
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, at: &At, depth: usize) -> Result<Node, Error> {
        let Some(anchor) = self.anchors.get(&id) else {
            return Err(Error::at(at, "", "an alias inside of what it stands for", "write the value out"));
        };
        if depth + anchor.height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let size = anchor.size;
        self.count(size, at)?;
        self.anchors.get(&id).map(|anchor| anchor.node.clone()).ok_or_else(|| too_deep(at))
    }

    fn list(&mut self, at: &At, depth: usize) -> Result<Node, Error> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node::new(Value::List(items), at)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, at: &At, depth: usize) -> Result<Node, Error> {
        let mut map = Map::default();
        let mut merged = Vec::new();
        loop {
            let (name, span, plain) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, ..), span) => (text, span, style == ScalarStyle::Plain),
                (_, span) => {
                    return Err(Error::at(
                        &self.at(span),
                        "",
                        "a key has to be a text",
                        "a value that begins with `{`, `[`, `*` or `?` belongs in quotes",
                    ));
                }
            };
            let key = Key { at: self.at(span), name: name.into_owned() };
            if map.entries.len() >= MAX_KEYS {
                return Err(Error::at(&key.at, "", format!("more than {MAX_KEYS} keys in one mapping"), ""));
            }
            let below = depth + 1 + key.name.matches('.').count();
            let (event, span) = self.next()?;
            let node = self.node(event, span, below)?;
            if plain && key.name == "<<" {
                merged.push((key, node));
            } else {
                map.insert(&key, node)?;
            }
        }
        for (key, node) in merged {
            merge_key(&mut map, &key, node)?;
        }
        Ok(Node::new(Value::Map(map), at))
    }
}

/// `<<: *base` or `<<: [*one, *two]`: what is missing is added, what is there stays.
fn merge_key(map: &mut Map, key: &Key, node: Node) -> Result<(), Error> {
    match node.value {
        Value::Map(base) => {
            for (k, node) in base.entries {
                if map.get(&k.name).is_none() {
                    map.entries.push((k, node));
                }
            }
            Ok(())
        }
        Value::List(bases) if bases.iter().all(|base| matches!(base.value, Value::Map(_))) => {
            bases.into_iter().try_for_each(|base| merge_key(map, key, base))
        }
        _ => Err(Error::at(&key.at, "", "`<<` takes a mapping or a list of mappings", "write `<<: *name`")),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: &At) -> Result<Node, Error> {
    known_tag(tag, &["str", "int", "float", "bool", "null"], at)?;
    let value = match tag {
        Some(tag) if tag.suffix == "str" || tag.suffix.is_empty() => Value::Str(text.to_owned()),
        Some(_) => yaml_plain(text),
        None if style == ScalarStyle::Plain => yaml_plain(text),
        None => Value::Str(text.to_owned()),
    };
    Ok(match value {
        Value::Str(_) => Node::new(value, at),
        value => Node::new(value, at).written(text),
    })
}

fn known_tag(tag: Option<&Tag>, known: &[&str], at: &At) -> Result<(), Error> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && known.contains(&tag.suffix.as_str()) || tag.suffix.is_empty()) => {
            Err(Error::at(at, "", format!("the tag `{tag}` has no meaning here"), "remove it"))
        }
        _ => Ok(()),
    }
}

fn u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
