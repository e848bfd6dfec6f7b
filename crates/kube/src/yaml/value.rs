//! What a tree means: aliases and merge keys resolved, plain words taken for what they are.
//!
//! Always holds: the size of what aliases multiply is bounded ([`MAX_NODES`]); a key that stands twice is an error.
//! Words are read as kubectl reads them: `yes`, `no`, `on` and `off` are booleans, `0644` is octal (YAML 1.1).
//! Tested in `tests/yaml.rs`.

use std::collections::HashMap;

use saphyr_parser::ScalarStyle;
use serde_json::{Map, Number, Value};

use super::Fault;
use super::tree::{Document, Kind, Node};

/// Most values of one document, those that aliases copy counted each time.
const MAX_NODES: usize = 1_000_000;

/// Deepest nesting of aliases within aliases.
const MAX_DEPTH: usize = 200;

impl Document<'_> {
    /// The nodes that anchors name.
    pub(super) fn anchors(&self) -> HashMap<usize, &Node> {
        let mut anchors = HashMap::new();
        if let Some(root) = &self.root {
            root.visit(&mut |node| {
                if node.anchor > 0 {
                    anchors.insert(node.anchor, node);
                }
            });
        }
        anchors
    }

    /// What one of its nodes means.
    pub(super) fn meaning_of(&self, node: &Node) -> Result<Value, Fault> {
        Meaning { text: self.text, anchors: self.anchors(), left: MAX_NODES, odd: None }.of(node, 0)
    }

    /// What it means; `None` when that is nothing, or nothing that JSON could say.
    pub(super) fn value(&self) -> Result<Option<Value>, Fault> {
        let Some(root) = &self.root else { return Ok(None) };
        let mut meaning = Meaning { text: self.text, anchors: self.anchors(), left: MAX_NODES, odd: None };
        let value = meaning.of(root, 0)?;
        match meaning.odd {
            Some(at) if self.text[at.saturating_sub(1)..].starts_with("{{") || self.text[at..].starts_with("{{") => {
                Err(Fault::at(
                    self.text,
                    at,
                    "a key that is a mapping",
                    "this looks like a template: render it first, as in `helm template … | pillion inject -f -`",
                ))
            }
            Some(_) => Ok(None),
            None => Ok(Some(value)),
        }
    }
}

struct Meaning<'a> {
    text: &'a str,
    anchors: HashMap<usize, &'a Node>,
    left: usize,
    /// Where a key isn't a text.
    odd: Option<usize>,
}

impl<'a> Meaning<'a> {
    fn of(&mut self, node: &'a Node, depth: usize) -> Result<Value, Fault> {
        if self.left == 0 || depth > MAX_DEPTH {
            return Err(Fault::at(
                self.text,
                node.start,
                format!("more than {MAX_NODES} values, or more than {MAX_DEPTH} levels, aliases counted"),
                "look at what the anchors (`&name`, `*name`) multiply",
            ));
        }
        self.left -= 1;
        match &node.kind {
            Kind::Scalar { text, style, string } => {
                Ok(if *string || *style != ScalarStyle::Plain { Value::String(text.clone()) } else { plain(text) })
            }
            Kind::List { items, .. } => items.iter().map(|item| self.of(item, depth + 1)).collect(),
            Kind::Alias(id) => self.of(self.named(*id, node)?, depth + 1),
            Kind::Map { entries, .. } => self.map(entries, depth),
        }
    }

    fn named(&self, id: usize, alias: &Node) -> Result<&'a Node, Fault> {
        let inside = |target: &&&Node| target.start <= alias.start && alias.end <= target.end;
        match self.anchors.get(&id) {
            Some(node) if !inside(&node) => Ok(node),
            _ => Err(Fault::at(self.text, alias.start, "an alias inside of what it stands for", "write the value out")),
        }
    }

    fn map(&mut self, entries: &'a [(Node, Node)], depth: usize) -> Result<Value, Fault> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        for (key, value) in entries {
            let name = match &key.kind {
                Kind::Scalar { text, style: ScalarStyle::Plain, .. } if text == "<<" => {
                    merged.push(value);
                    continue;
                }
                Kind::Scalar { text, .. } => text.clone(),
                _ => {
                    self.odd.get_or_insert(key.start);
                    continue;
                }
            };
            let value = self.of(value, depth + 1)?;
            if map.insert(name.clone(), value).is_some() {
                return Err(Fault::at(
                    self.text,
                    key.start,
                    format!("the key `{name}` stands twice in this mapping"),
                    "remove one of them: only one would count",
                ));
            }
        }
        for node in merged {
            self.merge(node, &mut map, depth + 1)?;
        }
        Ok(Value::Object(map))
    }

    /// `<<: *base`, `<<: [*one, *two]`: what is missing is added, what is there stays.
    fn merge(&mut self, node: &'a Node, map: &mut Map<String, Value>, depth: usize) -> Result<(), Fault> {
        let bases = match self.of(node, depth)? {
            Value::Object(base) => vec![base],
            Value::Array(list) if list.iter().all(Value::is_object) => list
                .into_iter()
                .filter_map(|base| if let Value::Object(base) = base { Some(base) } else { None })
                .collect(),
            _ => {
                let remedy = "write `<<: *name`";
                return Err(Fault::at(self.text, node.start, "`<<` takes a mapping or a list of mappings", remedy));
            }
        };
        for (key, value) in bases.into_iter().flatten() {
            if !map.contains_key(&key) {
                map.insert(key, value);
            }
        }
        Ok(())
    }
}

/// A word without quotes.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
        _ => {}
    }
    let number = |text: &str| -> Option<Number> {
        if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return None;
        }
        let digits = text.trim_start_matches(['+', '-']);
        let sign = if text.starts_with('-') { -1 } else { 1 };
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)] {
            if let Some(rest) = digits.strip_prefix(prefix)
                && !rest.is_empty()
                && let Ok(n) = i64::from_str_radix(rest, radix)
                && !rest.starts_with(['+', '-'])
            {
                return Some((n * sign).into());
            }
        }
        if let Ok(n) = text.parse::<i64>() {
            return Some(n.into());
        }
        if let Ok(n) = text.parse::<u64>() {
            return Some(n.into());
        }
        let is_float = digits.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c))
            && digits.contains(|c: char| c.is_ascii_digit());
        text.parse::<f64>().ok().filter(|n| is_float && n.is_finite()).and_then(Number::from_f64)
    };
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}
