//! An event as a tree: what is the same for many events, places for what differs, and fields merged over it.
//!
//! Comes in: a [`Node`] (made once for each input) and maps of fields. Goes out: JSON text, or a single field. Nothing is
//! copied on the way: a [`View`] points into the tree and into the maps.
//!
//! Always holds: an object merges into an object, anything else replaces; a key is written once; a null isn't a member
//! of an object (Beats' `GenericEventConverter`; in lists it stays), unless a processor has put it there. Tested through `render/mod.rs`.

use serde_json::{Map, Value};

use super::escape::escape;

/// What differs from event to event, or from file to file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Var {
    /// The event's time.
    Time,
    /// The event's text.
    Message,
    /// Where the event begins in the file.
    Offset,
    /// Where the event ends in the file.
    End,
    /// What is said of the file: 5.6's `source`, 7's `log.file`.
    File,
    /// The event's id.
    Id,
    /// The input's own index, which may hold a date.
    RawIndex,
}

/// A part of an event.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Var(Var),
    Value(Value),
    Object(Vec<(String, Node)>),
}

impl Node {
    pub(crate) fn text(s: &str) -> Node {
        Node::Value(Value::String(s.to_owned()))
    }

    pub(crate) fn object<const N: usize>(members: [(&str, Node); N]) -> Node {
        Node::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }

    /// Adds a member to an object.
    pub(crate) fn push(&mut self, key: &str, value: Node) {
        if let Node::Object(members) = self {
            members.push((key.to_owned(), value));
        }
    }
}

/// A tree with fields merged over it.
#[derive(Clone, Debug)]
pub(crate) enum View<'a> {
    Node(&'a Node),
    Value(&'a Value),
    Text(&'a str),
    Object(Vec<(&'a str, View<'a>)>),
}

/// How JSON is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Keys in byte order, as Go writes maps.
    pub(crate) sorted: bool,
    /// `<`, `>` and `&` as `\u00XX`.
    pub(crate) html: bool,
    /// Nulls that processors have put into objects stay there.
    pub(crate) nulls: bool,
}

impl<'a> View<'a> {
    /// Turns whatever is an object into one whose members can change. `file` stands for [`Var::File`].
    fn members(&mut self, file: &'a Node) -> Option<&mut Vec<(&'a str, View<'a>)>> {
        let expanded = match *self {
            View::Node(Node::Var(Var::File)) => {
                *self = View::Node(file);
                return if matches!(file, Node::Object(_)) { self.members(file) } else { None };
            }
            View::Node(Node::Object(members)) => members.iter().map(|(k, v)| (k.as_str(), View::Node(v))).collect(),
            View::Value(Value::Object(map)) | View::Node(Node::Value(Value::Object(map))) => {
                map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.as_str(), View::Value(v))).collect()
            }
            View::Object(ref mut members) => return Some(members),
            _ => return None,
        };
        *self = View::Object(expanded);
        match self {
            View::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Merges fields over an object: deeply, or replacing whole members.
    pub(crate) fn merge(&mut self, fields: &'a Map<String, Value>, deep: bool, file: &'a Node) {
        let Some(members) = self.members(file) else { return };
        // The fields differ from one another: only what was there before can be met again.
        let known = members.len();
        for (key, value) in fields.iter().filter(|(_, v)| !v.is_null()) {
            match members[..known].iter_mut().find(|(k, _)| k == key) {
                None => members.push((key, View::Value(value))),
                Some((_, old)) => match value {
                    Value::Object(map) if deep && old.members(file).is_some() => old.merge(map, true, file),
                    _ => *old = View::Value(value),
                },
            }
        }
    }

    /// Sets a member of an object.
    pub(crate) fn set(&mut self, key: &'a str, value: View<'a>, file: &'a Node) {
        let Some(members) = self.members(file) else { return };
        match members.iter_mut().find(|(k, _)| *k == key) {
            None => members.push((key, value)),
            Some((_, old)) => *old = value,
        }
    }

    /// Takes a member out of an object if it is this variable.
    pub(crate) fn remove_var(&mut self, key: &str, var: Var, file: &'a Node) {
        if let Some(members) = self.members(file) {
            members.retain(|(k, v)| *k != key || !matches!(v, View::Node(Node::Var(found)) if *found == var));
        }
    }

    /// A member of an object.
    pub(crate) fn member(&mut self, key: &str, file: &'a Node) -> Option<&mut View<'a>> {
        self.members(file)?.iter_mut().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Looks up a dotted path; at each level a key that has the dots in itself comes first, as in Beats.
    pub(crate) fn find(mut self, path: &str, file: &'a Node) -> Option<View<'a>> {
        if path.is_empty() {
            return Some(self);
        }
        let members = self.members(file)?;
        if let Some((_, found)) = members.iter().find(|(k, _)| *k == path) {
            return Some(found.clone());
        }
        let (head, tail) = path.split_once('.')?;
        let (_, found) = members.iter().find(|(k, _)| *k == head)?;
        found.clone().find(tail, file)
    }

    /// As a value of its own; `var` gives that of a variable, or nothing: then the member is left out.
    pub(crate) fn to_value(&self, var: &impl Fn(Var) -> Option<Value>) -> Option<Value> {
        match self {
            View::Node(Node::Var(v)) => var(*v),
            View::Node(Node::Value(value)) => Some(without_nulls(value)),
            View::Value(value) => Some(without_nulls(value)),
            View::Text(s) => Some(Value::from(*s)),
            View::Node(Node::Object(members)) => {
                let each = |(k, v): &(String, Node)| Some((k.clone(), View::Node(v).to_value(var)?));
                Some(Value::Object(members.iter().filter_map(each).collect()))
            }
            View::Object(members) => {
                let each = |(k, v): &(&str, View<'_>)| Some(((*k).to_owned(), v.to_value(var)?));
                Some(Value::Object(members.iter().filter_map(each).collect()))
            }
        }
    }

    /// Writes JSON; `var` writes the whole JSON value of a variable.
    pub(crate) fn write(&self, style: Style, out: &mut Vec<u8>, var: &mut impl FnMut(Var, &mut Vec<u8>)) {
        match self {
            View::Node(Node::Var(v)) => var(*v, out),
            View::Node(Node::Value(value)) => write_value(value, style, out),
            View::Value(value) => write_value(value, style, out),
            View::Text(s) => write_string(s, style, out),
            View::Node(Node::Object(members)) => {
                let mut refs: Vec<(&str, View<'_>)> =
                    members.iter().map(|(k, v)| (k.as_str(), View::Node(v))).collect();
                write_object(&mut refs, style, out, |v, out| v.write(style, out, var));
            }
            View::Object(members) => {
                let mut refs: Vec<(&str, &View<'_>)> = members.iter().map(|(k, v)| (*k, v)).collect();
                write_object(&mut refs, style, out, |v, out| v.write(style, out, var));
            }
        }
    }
}

/// A copy as it is written.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let members = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(members.map(|(k, v)| (k.clone(), without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

fn write_object<V>(members: &mut [(&str, V)], style: Style, out: &mut Vec<u8>, mut each: impl FnMut(&V, &mut Vec<u8>)) {
    if style.sorted {
        members.sort_unstable_by(|a, b| a.0.cmp(b.0));
    }
    out.push(b'{');
    for (i, (key, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(key, style, out);
        out.push(b':');
        each(value, out);
    }
    out.push(b'}');
}

fn write_string(s: &str, style: Style, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(s.as_bytes(), style.html, out);
    out.push(b'"');
}

/// Writes a JSON value. Its depth is bounded by whoever parsed it.
pub(crate) fn write_value(value: &Value, style: Style, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::String(s) => write_string(s, style, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, style, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let stays = |v: &Value| style.nulls || !v.is_null();
            let mut refs: Vec<(&str, &Value)> =
                map.iter().filter(|(_, v)| stays(v)).map(|(k, v)| (k.as_str(), v)).collect();
            write_object(&mut refs, style, out, |v, out| write_value(v, style, out));
        }
    }
}
