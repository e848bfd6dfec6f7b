//! An event as a tree: what is the same for many events, places for what differs, and fields merged over it.
//!
//! Comes in: a [`Node`] (made once for each input) and maps of fields. Goes out: JSON text, or a single field. Nothing is
//! copied on the way: a [`View`] points into the tree and into the maps.
//!
//! Always holds: an object merges into an object, anything else replaces; a key is written once; a null isn't a member
//! of an object (Beats' `GenericEventConverter`; in lists it stays), unless a processor has put it there or the input
//! keeps nulls. Tested through `render/mod.rs`.

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

    /// A member of an object.
    pub(super) fn member(&self, name: &str) -> Option<&Node> {
        let Node::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, member)| member)
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

/// What becomes of nulls in objects that are merged into a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// They are as if they weren't there: those of the configuration.
    Ignored,
    /// They take out what is there, and aren't there themselves: those of a line.
    Remove,
    /// They are values like others: those of a line with `keep_null`.
    Stay,
}

/// What a tree doesn't hold itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// What stands for [`Var::File`].
    pub(crate) file: &'a Node,
    /// What becomes of nulls.
    pub(crate) nulls: Nulls,
    /// Members that are added behind what a line holds: nulls there remove nothing from them.
    pub(crate) late: &'static [&'static str],
}

impl Given<'_> {
    /// For what is below a member.
    fn below(self, key: &str) -> Self {
        let late = self.nulls == Nulls::Remove && self.late.contains(&key);
        Given { nulls: if late { Nulls::Ignored } else { self.nulls }, late: &[], ..self }
    }
}

/// How JSON is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Keys in byte order, as Go writes maps.
    pub(crate) sorted: bool,
    /// `<`, `>` and `&` as `\u00XX`.
    pub(crate) html: bool,
    /// Nulls in objects stay there: processors have put them there, or the input keeps them.
    pub(crate) nulls: bool,
}

impl<'a> View<'a> {
    /// Turns whatever is an object into one whose members can change.
    pub(super) fn members(&mut self, given: Given<'a>) -> Option<&mut Vec<(&'a str, View<'a>)>> {
        let expanded = match *self {
            View::Node(Node::Var(Var::File)) => {
                *self = View::Node(given.file);
                return if matches!(given.file, Node::Object(_)) { self.members(given) } else { None };
            }
            View::Node(Node::Object(members)) => members.iter().map(|(k, v)| (k.as_str(), View::Node(v))).collect(),
            View::Value(Value::Object(map)) | View::Node(Node::Value(Value::Object(map))) => {
                let stays = |v: &Value| given.nulls == Nulls::Stay || !v.is_null();
                map.iter().filter(|(_, v)| stays(v)).map(|(k, v)| (k.as_str(), View::Value(v))).collect()
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
    pub(crate) fn merge(&mut self, fields: &'a Map<String, Value>, deep: bool, given: Given<'a>) {
        let Some(members) = self.members(given) else { return };
        // The fields differ from one another: only what was there before can be met again.
        let mut known = members.len();
        for (key, value) in fields {
            let at = members.iter().take(known).position(|(k, _)| k == key);
            let below = given.below(key);
            if value.is_null() && given.nulls != Nulls::Stay {
                if let Some(at) = at.filter(|_| below.nulls == Nulls::Remove) {
                    members.remove(at);
                    known -= 1;
                }
                continue;
            }
            match at.and_then(|at| members.get_mut(at)) {
                None => members.push((key, View::Value(value))),
                Some((_, old)) => match value {
                    Value::Object(map) if deep && old.members(below).is_some() => old.merge(map, true, below),
                    _ => *old = View::Value(value),
                },
            }
        }
    }

    /// Merges fields deeply over whatever it is: what is no object gives way.
    pub(crate) fn merge_or_become(&mut self, fields: &'a Map<String, Value>, given: Given<'a>) {
        if self.members(given).is_none() {
            *self = View::Object(Vec::new());
        }
        self.merge(fields, true, given);
    }

    /// Sets a member of an object.
    pub(crate) fn set(&mut self, key: &'a str, value: View<'a>, given: Given<'a>) {
        let Some(members) = self.members(given) else { return };
        match members.iter_mut().find(|(k, _)| *k == key) {
            None => members.push((key, value)),
            Some((_, old)) => *old = value,
        }
    }

    /// Takes a member out of an object if it is this variable.
    pub(crate) fn remove_var(&mut self, key: &str, var: Var, given: Given<'a>) {
        if let Some(members) = self.members(given) {
            members.retain(|(k, v)| *k != key || !matches!(v, View::Node(Node::Var(found)) if *found == var));
        }
    }

    /// A member of an object.
    pub(crate) fn member(&mut self, key: &str, given: Given<'a>) -> Option<&mut View<'a>> {
        self.members(given)?.iter_mut().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Looks up a dotted path; at each level a key that has the dots in itself comes first, as in Beats.
    pub(crate) fn find(mut self, path: &str, given: Given<'a>) -> Option<View<'a>> {
        if path.is_empty() {
            return Some(self);
        }
        let members = self.members(given)?;
        if let Some((_, found)) = members.iter().find(|(k, _)| *k == path) {
            return Some(found.clone());
        }
        let (head, tail) = path.split_once('.')?;
        let (_, found) = members.iter().find(|(k, _)| *k == head)?;
        found.clone().find(tail, given)
    }

    /// As a value of its own, with its nulls or without; `var` gives that of a variable, or nothing: then the member is left
    /// out.
    pub(crate) fn to_value(&self, nulls: bool, var: &impl Fn(Var) -> Option<Value>) -> Option<Value> {
        match self {
            View::Node(Node::Var(v)) => var(*v),
            View::Node(Node::Value(value)) => Some(copy(value, nulls)),
            View::Value(value) => Some(copy(value, nulls)),
            View::Text(s) => Some(Value::from(*s)),
            View::Node(Node::Object(members)) => {
                let each = |(k, v): &(String, Node)| Some((k.clone(), View::Node(v).to_value(nulls, var)?));
                Some(Value::Object(members.iter().filter_map(each).collect()))
            }
            View::Object(members) => {
                let each = |(k, v): &(&str, View<'_>)| Some(((*k).to_owned(), v.to_value(nulls, var)?));
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
pub(super) fn copy(value: &Value, nulls: bool) -> Value {
    match value {
        Value::Object(map) if !nulls => {
            let members = map.iter().filter(|(_, v)| !v.is_null());
            Value::Object(members.map(|(k, v)| (k.clone(), copy(v, nulls))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| copy(item, nulls)).collect()),
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

pub(super) fn write_string(s: &str, style: Style, out: &mut Vec<u8>) {
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
