//! Variables: `${NAME}`, `${NAME:default}`, `${NAME:?error text}`, `${NAME:+instead}`, `$${` for a literal `${`.
//!
//! Comes in: the merged tree and the environment. Goes out: the tree with every text expanded, as go-ucfg does it
//! when a value is asked for: a name is looked for in the configuration itself (`${path.home}`, `${some.key}`), then
//! in the environment, then in the keystore. What comes out is read once more, so that `${PORT}` is a number and `${HOSTS}` a list.
//!
//! Always holds: a value that stems from the environment, or from a secret option, is marked hidden. Work and output
//! are bounded by [`MAX_STEPS`] and [`MAX_BYTES`], and cycles are found, so that a few references can't become
//! gigabytes. A failed expansion is kept in its place ([`Value::Bad`]) and told when the value is asked for.
//! Tested below, in `tests/expansion.rs` and by the fuzz target `config`.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::keystore::Keystore;
use crate::secrets::is_secret;
use crate::source::At;
use crate::suggest::nearest;
use crate::tree::{MAX_DEPTH, Map, Node, Value};
use crate::value::{Syntax, parse, show_float};

/// Most variables looked up and values visited for one configuration.
const MAX_STEPS: usize = 500_000;

/// Most bytes that expansion may make in total.
const MAX_BYTES: usize = 16 << 20;

/// A text with variables in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Var(Var),
}

/// `${name op arg}`; the name and the argument may hold variables themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Var {
    name: Vec<Piece>,
    op: Op,
    arg: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// `${name}`
    Value,
    /// `${name:arg}`: arg when the name is unset or empty.
    Default,
    /// `${name:+arg}`: arg when the name is set, else nothing.
    Instead,
    /// `${name:?arg}`: arg is the error text when the name is unset or empty.
    Fail,
}

/// Splits a text into its pieces. `Err` holds the reason.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut rest = text;
    let out = scan(&mut rest, 0, false)?;
    Ok(out.0)
}

/// Reads pieces up to the end, or in a variable up to the `:` or `}`; what ended it comes with them.
fn scan(rest: &mut &str, depth: usize, in_name: bool) -> Result<(Vec<Piece>, char), String> {
    let mut out = Vec::new();
    let mut text = String::new();
    loop {
        let mut chars = rest.chars();
        let Some(c) = chars.next() else {
            if depth > 0 {
                return Err("the `}` that closes a `${` is missing".to_owned());
            }
            flush(&mut out, &mut text);
            return Ok((out, '\0'));
        };
        let after = chars.as_str();
        match (c, after.chars().next()) {
            ('$', Some('{')) => {
                flush(&mut out, &mut text);
                *rest = &after[1..];
                out.push(Piece::Var(variable(rest, depth + 1)?));
                continue;
            }
            ('$', Some(escaped @ ('$' | '}'))) => {
                text.push(escaped);
                *rest = &after[1..];
                continue;
            }
            ('}', _) if depth > 0 => {
                flush(&mut out, &mut text);
                *rest = after;
                return Ok((out, '}'));
            }
            (':', Some(_)) if in_name => {
                flush(&mut out, &mut text);
                *rest = after;
                return Ok((out, ':'));
            }
            _ => text.push(c),
        }
        *rest = after;
    }
}

fn variable(rest: &mut &str, depth: usize) -> Result<Var, String> {
    if depth > MAX_DEPTH {
        return Err(format!("variables nested more than {MAX_DEPTH} levels deep"));
    }
    let (name, end) = scan(rest, depth, true)?;
    if name.is_empty() {
        return Err("an empty `${}`".to_owned());
    }
    if end == '}' {
        return Ok(Var { name, op: Op::Value, arg: Vec::new() });
    }
    let op = match rest.chars().next() {
        Some('+') => Op::Instead,
        Some('?') => Op::Fail,
        _ => Op::Default,
    };
    if op != Op::Default {
        *rest = &rest[1..];
    }
    let (arg, _) = scan(rest, depth, false)?;
    Ok(Var { name, op, arg })
}

/// A secret's text, not read once more.
fn as_it_is(text: String, at: &At) -> Node {
    let mut node = Node::new(Value::Str(text), at);
    hide(&mut node, true);
    node
}

/// A name that autodiscovery fills in for each container (`${data.kubernetes.container.id}`): it stays as it stands.
fn is_later(name: &str) -> bool {
    name.starts_with("data.")
}

fn flush(out: &mut Vec<Piece>, text: &mut String) {
    if !text.is_empty() {
        out.push(Piece::Text(std::mem::take(text)));
    }
}

/// The environment and the keystore.
pub(crate) struct Names<'a> {
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) keystore: Option<&'a Keystore>,
}

/// Expands every text of a tree.
pub(crate) fn expand(root: &Node, names: &Names<'_>) -> Node {
    let mut expander = Expander { root, names, active: Vec::new(), depth: 0, steps: 0, bytes: 0 };
    expander.node(root, "")
}

/// Expands one value of a tree, named by its path, as a text; `None` when it is absent or can't be expanded.
pub(crate) fn expand_one(root: &Node, path: &str, names: &Names<'_>) -> Option<String> {
    let mut expander = Expander { root, names, active: Vec::new(), depth: 0, steps: 0, bytes: 0 };
    let node = expander.node(root.get(path)?, path);
    as_text(&node)
}

struct Expander<'a> {
    root: &'a Node,
    names: &'a Names<'a>,
    /// The names being resolved, outermost first.
    active: Vec<String>,
    /// Levels of the tree that is being made.
    depth: usize,
    steps: usize,
    bytes: usize,
}

/// A text that came out, and whether it may be shown.
struct Text {
    text: String,
    hidden: bool,
}

impl Expander<'_> {
    fn node(&mut self, node: &Node, path: &str) -> Node {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.depth > 2 * MAX_DEPTH {
            let e =
                Error::at(&node.at, "", "variables expand to too much", "look for references that multiply each other");
            return Node::new(Value::Bad(e), &node.at);
        }
        self.depth += 1;
        let out = self.node_here(node, path);
        self.depth -= 1;
        out
    }

    fn node_here(&mut self, node: &Node, path: &str) -> Node {
        let mut out = Node::new(Value::Null, &node.at);
        out.hidden = node.hidden;
        out.written.clone_from(&node.written);
        out.value = match &node.value {
            Value::Str(text) if text.contains('$') => return self.text_node(text, node, is_secret(path)),
            Value::List(items) => Value::List(
                items.iter().enumerate().map(|(i, item)| self.node(item, &join(path, &i.to_string()))).collect(),
            ),
            Value::Map(map) => {
                let entries = map
                    .entries
                    .iter()
                    .map(|(key, node)| (key.clone(), self.node(node, &join(path, &key.name))))
                    .collect();
                Value::Map(Map { entries })
            }
            value => value.clone(),
        };
        out
    }

    /// `secret`: what comes out is taken as it is, since a password may hold anything.
    fn text_node(&mut self, text: &str, node: &Node, secret: bool) -> Node {
        let made = pieces(text).and_then(|pieces| match pieces.as_slice() {
            [] => Ok(Node::new(Value::Str(String::new()), &node.at)),
            [Piece::Text(text)] => Ok(Node::new(Value::Str(text.clone()), &node.at)),
            [Piece::Var(Var { name, op: Op::Value, .. })] => self.whole(name, &node.at, secret),
            pieces => {
                let text = self.splice(pieces)?;
                if secret {
                    return Ok(as_it_is(text.text, &node.at));
                }
                let mut made = parse(&text.text, Syntax::Full, &node.at)
                    .map_err(|e| if text.hidden { "the expanded value can't be read".to_owned() } else { e })?;
                hide(&mut made, text.hidden);
                Ok(made)
            }
        });
        match made {
            Ok(mut made) => {
                made.hidden |= node.hidden;
                made
            }
            Err(reason) => Node::new(Value::Bad(self.failure(reason, text, &node.at)), &node.at),
        }
    }

    /// A value that is one variable and nothing else: it may be of any type.
    fn whole(&mut self, name: &[Piece], at: &At, secret: bool) -> Result<Node, String> {
        let name = self.splice(name)?.text;
        if let Some(node) = self.reference(&name)? {
            return Ok(node);
        }
        if is_later(&name) {
            return Ok(Node::new(Value::Str(format!("${{{name}}}")), at));
        }
        let (value, syntax) = self.outside(&name).ok_or_else(|| missing(&name))?;
        self.made(value.len())?;
        if secret {
            return Ok(as_it_is(value, at));
        }
        let mut node = parse(&value, syntax, at)
            .map_err(|_| format!("what `{name}` holds can't be read: unbalanced brackets or quotes"))?;
        hide(&mut node, true);
        Ok(node)
    }

    fn splice(&mut self, pieces: &[Piece]) -> Result<Text, String> {
        let mut out = Text { text: String::new(), hidden: false };
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.text.push_str(text),
                Piece::Var(var) => {
                    let value = self.var(var)?;
                    out.text.push_str(&value.text);
                    out.hidden |= value.hidden;
                }
            }
        }
        self.made(out.text.len())?;
        Ok(out)
    }

    fn var(&mut self, var: &Var) -> Result<Text, String> {
        let name = self.splice(&var.name);
        let value = match &name {
            Ok(name) => self.lookup(&name.text),
            Err(e) => Err(e.clone()),
        };
        let set = value.as_ref().is_ok_and(|value| !value.text.is_empty());
        match (var.op, set) {
            (Op::Value, _) | (Op::Default | Op::Fail, true) => value,
            (Op::Default, false) | (Op::Instead, true) => self.splice(&var.arg),
            (Op::Instead, false) => Ok(Text { text: String::new(), hidden: false }),
            (Op::Fail, false) => {
                let said = self.splice(&var.arg)?.text;
                let missing = missing(&name.map(|n| n.text).unwrap_or_default());
                Err(if said.is_empty() { missing } else { format!("{missing}: {said}") })
            }
        }
    }

    /// The value of a name as a text.
    fn lookup(&mut self, name: &str) -> Result<Text, String> {
        if let Some(node) = self.reference(name)? {
            let text = as_text(&node)
                .ok_or_else(|| format!("`${{{name}}}` is a section or a list: it can't be part of a text"))?;
            self.made(text.len())?;
            return Ok(Text { text, hidden: node.hidden });
        }
        if is_later(name) {
            return Ok(Text { text: format!("${{{name}}}"), hidden: false });
        }
        let (text, _) = self.outside(name).ok_or_else(|| missing(name))?;
        self.made(text.len())?;
        Ok(Text { text, hidden: true })
    }

    /// A value of the configuration itself, expanded.
    fn reference(&mut self, name: &str) -> Result<Option<Node>, String> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} variables to look up"));
        }
        let root = self.root;
        let Some(node) = root.get(name).filter(|_| !name.is_empty()) else { return Ok(None) };
        if self.active.len() >= MAX_DEPTH || self.active.iter().any(|active| active == name) {
            // A name may mean itself in the environment: `name: ${name}`.
            if self.outside(name).is_some() {
                return Ok(None);
            }
            let circle = self.active.iter().map(|name| format!("`{name}` → ")).collect::<String>();
            return Err(format!("the references go in a circle: {circle}`{name}`"));
        }
        self.active.push(name.to_owned());
        let mut made = self.node(node, name);
        self.active.pop();
        if let Value::Bad(e) = &made.value {
            return Err(e.reason().to_owned());
        }
        hide(&mut made, is_secret(name));
        Ok(Some(made))
    }

    /// What a name means outside of the configuration, and how it is read once more.
    fn outside(&self, name: &str) -> Option<(String, Syntax)> {
        let env = self.names.env.get(name).filter(|value| !value.is_empty());
        let secret = || self.names.keystore?.get(name).map(|value| (value, Syntax::Full));
        env.map(|value| (value.clone(), Syntax::Env)).or_else(secret)
    }

    fn made(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BYTES {
            return Err(format!("variables expand to more than {} MiB", MAX_BYTES >> 20));
        }
        Ok(())
    }

    fn failure(&self, reason: String, text: &str, at: &At) -> Error {
        let remedy = match reason.strip_prefix(MISSING) {
            Some(rest) => {
                let name = rest.split('`').nth(1).unwrap_or("");
                let mut remedy = String::new();
                let kept = self.names.keystore.into_iter().flat_map(Keystore::names);
                if let Some(near) = nearest(name, self.names.env.keys().map(String::as_str).chain(kept)) {
                    remedy = format!("did you mean `{near}`? ");
                }
                remedy.push_str(&format!("set the variable, or give a default: `${{{name}:default}}`"));
                if self.names.keystore.is_some() {
                    remedy.push_str(&format!("; or put it into the keystore: `keystore add {name}`"));
                }
                remedy
            }
            None if text.contains("${") => "`$${` writes a `${` that isn't a variable".to_owned(),
            None => String::new(),
        };
        Error::at(at, "", reason, remedy)
    }
}

const MISSING: &str = "no variable and no option is named ";

fn missing(name: &str) -> String {
    format!("{MISSING}`{name}`")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn hide(node: &mut Node, hidden: bool) {
    if !hidden {
        return;
    }
    node.hidden = true;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| hide(item, true)),
        Value::Map(map) => map.entries.iter_mut().for_each(|(_, node)| hide(node, true)),
        _ => {}
    }
}

fn as_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Str(text) => Some(text.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(f) => Some(show_float(*f)),
        Value::List(_) | Value::Map(_) => node.written.as_deref().map(str::to_owned),
        Value::Null | Value::Bad(_) => None,
    }
}
