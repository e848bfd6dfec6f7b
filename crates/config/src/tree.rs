//! The configuration as a tree, each value with the place it was written at.
//!
//! Comes in: nodes made by [`crate::yaml`] and [`crate::value`]. Goes out: lookups by dotted path, and merging.
//!
//! Always holds: no mapping has a key with a dot in it, or the same key twice; the tree is at most [`MAX_DEPTH`] deep.
//! Tested in `yaml.rs` and `section.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;
use crate::source::At;

/// Deepest nesting of a configuration.
pub(crate) const MAX_DEPTH: usize = 64;

/// Highest index that a dotted key such as `filebeat.inputs.3.paths` may name.
const MAX_INDEX: usize = 1023;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Always within `i64::MIN..=u64::MAX`.
    Int(i128),
    Float(f64),
    Str(String),
    List(Vec<Node>),
    Map(Map),
    /// Its expansion failed; told when somebody asks for the value, so that a disabled section needs no variables.
    Bad(Error),
}

/// A value, where it stands, and whether somebody has asked for it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: At,
    /// The text before it was taken for a number, a boolean or a list.
    pub(crate) written: Option<Box<str>>,
    /// It came from a variable: never shown.
    pub(crate) hidden: bool,
    taken: AtomicBool,
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: At,
}

/// A mapping, in the order of the text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    pub(crate) entries: Vec<(Key, Node)>,
}

impl Clone for Node {
    fn clone(&self) -> Node {
        Node {
            value: self.value.clone(),
            at: self.at.clone(),
            written: self.written.clone(),
            hidden: self.hidden,
            taken: AtomicBool::new(self.is_taken()),
        }
    }
}

impl Node {
    pub(crate) fn new(value: Value, at: &At) -> Node {
        Node { value, at: at.clone(), written: None, hidden: false, taken: AtomicBool::new(false) }
    }

    /// The node with the text that it was made of.
    pub(crate) fn written(mut self, text: &str) -> Node {
        self.written = Some(text.into());
        self
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// How many levels lie below this one.
    pub(crate) fn height(&self) -> usize {
        let below = match &self.value {
            Value::List(items) => items.iter().map(Node::height).max(),
            Value::Map(map) => map.entries.iter().map(|(_, node)| node.height()).max(),
            _ => None,
        };
        below.map_or(0, |height| height + 1)
    }

    /// Somebody has asked for this value.
    pub(crate) fn take(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// Somebody has asked for this value and all below it.
    pub(crate) fn take_all(&self) {
        self.take();
        match &self.value {
            Value::List(items) => items.iter().for_each(Node::take_all),
            Value::Map(map) => map.entries.iter().for_each(|(_, node)| node.take_all()),
            _ => {}
        }
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// The node at a dotted path below this one; the empty path is the node itself.
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        path.split('.').try_fold(self, |node, part| match &node.value {
            Value::Map(map) => map.get(part),
            Value::List(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

impl Map {
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// Puts a value at a dotted key, as a mapping of one text does: what is there already is completed when both are
    /// mappings or lists, stays when the new value is null, and is a duplicate otherwise.
    pub(crate) fn insert(&mut self, key: &Key, node: Node) -> Result<(), Error> {
        match key.name.split_once('.') {
            None => self.insert_here(key.name.clone(), key, node),
            Some((first, rest)) => {
                let below = nest(rest, key, node)?;
                self.insert_here(first.to_owned(), key, below)
            }
        }
    }

    fn insert_here(&mut self, name: String, key: &Key, node: Node) -> Result<(), Error> {
        let Some((_, old)) = self.entries.iter_mut().find(|(k, _)| k.name == name) else {
            self.entries.push((Key { name, at: key.at.clone() }, node));
            return Ok(());
        };
        match (&old.value, &node.value) {
            (_, Value::Null) => Ok(()),
            (Value::Null, _) => {
                *old = node;
                Ok(())
            }
            (Value::Map(_), Value::Map(_)) | (Value::List(_), Value::List(_)) => complete(old, node, key),
            _ => Err(duplicate(key, old)),
        }
    }
}

/// Puts `node` below `old` within one text: each scalar may be set once.
fn complete(old: &mut Node, node: Node, key: &Key) -> Result<(), Error> {
    match (&mut old.value, node.value) {
        (Value::Map(map), Value::Map(new)) => {
            new.entries.into_iter().try_for_each(|(key, node)| map.insert_here(key.name.clone(), &key, node))
        }
        (Value::List(items), Value::List(new)) => {
            for (i, node) in new.into_iter().enumerate() {
                match items.get_mut(i) {
                    None => items.push(node),
                    Some(old) if old.is_null() => *old = node,
                    Some(_) if node.is_null() => {}
                    Some(old) => complete(old, node, key)?,
                }
            }
            Ok(())
        }
        _ => Err(duplicate(key, old)),
    }
}

fn duplicate(key: &Key, old: &Node) -> Error {
    Error::at(
        &key.at,
        "",
        format!("`{}` is set twice: here and at {}", key.name, old.at),
        "keep one of the two; sections of the same name belong together under one key",
    )
}

/// The mappings (or the list, where a part is a number) that a dotted key stands for.
fn nest(path: &str, key: &Key, node: Node) -> Result<Node, Error> {
    let mut parts: Vec<&str> = path.split('.').collect();
    if parts.len() >= MAX_DEPTH {
        return Err(too_deep(&key.at));
    }
    let mut node = node;
    while let Some(part) = parts.pop() {
        node = match part.parse::<usize>() {
            Ok(index) if index <= MAX_INDEX => {
                let mut items: Vec<Node> = (0..index).map(|_| Node::new(Value::Null, &key.at)).collect();
                items.push(node);
                Node::new(Value::List(items), &key.at)
            }
            Ok(_) => {
                return Err(Error::at(
                    &key.at,
                    "",
                    format!("`{part}` in `{}` is a place in a list, and larger than {MAX_INDEX}", key.name),
                    "count places from 0",
                ));
            }
            Err(_) => {
                let entries = vec![(Key { name: part.to_owned(), at: key.at.clone() }, node)];
                Node::new(Value::Map(Map { entries }), &key.at)
            }
        };
    }
    Ok(node)
}

/// Lays a later text over an earlier one: mappings are merged key by key, lists place by place, a null changes
/// nothing under a mapping or a list, and everything else is replaced.
pub(crate) fn merge(old: &mut Node, new: Node) {
    match (&mut old.value, new.value) {
        (Value::Map(_) | Value::List(_), Value::Null) => {}
        (Value::Map(map), Value::Map(newer)) => {
            for (key, node) in newer.entries {
                match map.entries.iter_mut().find(|(k, _)| k.name == key.name) {
                    Some((_, old)) => merge(old, node),
                    None => map.entries.push((key, node)),
                }
            }
        }
        (Value::List(items), Value::List(newer)) => {
            for (i, node) in newer.into_iter().enumerate() {
                match items.get_mut(i) {
                    Some(old) => merge(old, node),
                    None => items.push(node),
                }
            }
        }
        (slot, value) => {
            *slot = value;
            old.at = new.at;
            old.written = new.written;
            old.hidden = new.hidden;
        }
    }
}

/// What is said of a text that nests too deeply.
pub(crate) fn too_deep(at: &At) -> Error {
    Error::at(
        at,
        "",
        format!("nested more than {MAX_DEPTH} levels deep"),
        "no option lies that deep: look for a wrong indentation",
    )
}
