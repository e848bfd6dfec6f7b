//! What nobody took, told by what it means.
//!
//! Comes in: the tree after every crate has taken its options. Goes out: [`Leftovers`]. No option is ignored in
//! silence; only what asks for nothing is: nulls, empty sections, and sections or switches that are off.
//! Tested in `tests/leftovers.rs`.

use crate::compat::Compat;
use crate::config::Config;
use crate::error::{Diagnostic, Error};
use crate::options::{Fate, Found, Scope, digit, of_an_input, other_input};
use crate::source::At;
use crate::suggest::nearest;
use crate::tree::{Node, Value};

/// The options that no crate has taken.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// What is delivered would differ from what the file says: don't start.
    pub refused: Vec<Error>,
    /// Not known: a warning at `run`, an error at `test config` and with `--strict`.
    pub unknown: Vec<Diagnostic>,
    /// Known, but nobody asked for it in its place. As bad as `unknown`, if everything was read: an error stops the
    /// reading of its section, and what stood behind it has an effect all the same.
    pub unasked: Vec<Diagnostic>,
    /// Known, and nothing is lost without it: one warning each.
    pub harmless: Vec<Diagnostic>,
}

impl Leftovers {
    /// All of them.
    pub fn lists(&mut self) -> [&mut Vec<Diagnostic>; 4] {
        [&mut self.refused, &mut self.unknown, &mut self.unasked, &mut self.harmless]
    }
}

impl Config {
    /// What nobody took. Ask when all crates have read their options.
    pub fn leftovers(&self) -> Leftovers {
        let mut out = Leftovers::default();
        let Value::Map(map) = &self.root.value else { return out };
        for (key, node) in &map.entries {
            self.look(node, &key.at, &key.name, &mut out);
        }
        out
    }

    /// `at` is where the key stands, or the item of a list.
    fn look(&self, node: &Node, at: &At, path: &str, out: &mut Leftovers) {
        if asks_for_nothing(node) {
            return;
        }
        if !node.is_taken() && !self.judge(node, at, path, out) {
            return;
        }
        match &node.value {
            Value::Map(map) => {
                map.entries
                    .iter()
                    .for_each(|(key, node)| self.look(node, &key.at, &format!("{path}.{}", key.name), out));
            }
            Value::List(items) => {
                for (i, item) in items.iter().enumerate().filter(|(_, item)| is_container(item)) {
                    item.take();
                    self.look(item, &item.at, &format!("{path}.{i}"), out);
                }
            }
            _ => {}
        }
    }

    /// Sorts in a value that nobody took; true when what is below has to be looked at.
    fn judge(&self, node: &Node, at: &At, path: &str, out: &mut Leftovers) -> bool {
        let scope = Scope::of(&self.root, path);
        let off = matches!(node.value, Value::Bool(false));
        match scope.find(self.compat) {
            Found::Known(Fate::Refused(_) | Fate::Harmless(_)) if off => {}
            Found::Known(Fate::Refused(reason)) => {
                out.refused.push(Error::at(at, path, reason, "remove the option if you can do without it"));
            }
            Found::Known(Fate::Harmless(reason)) => {
                out.harmless.push(Error::at(at, path, format!("has no effect: {reason}"), ""));
            }
            Found::Known(Fate::Taken) if has_options(node) => return true,
            Found::Known(Fate::Taken) => {
                out.unasked.push(Error::at(at, path, "has no effect in this place", "remove it"));
            }
            Found::Elsewhere(dialects) => out.unknown.push(self.elsewhere(at, path, dialects)),
            Found::Section if is_container(node) => return true,
            Found::Section => {
                out.unknown.push(Error::at(at, path, "this is a section with options of its own", "put them below it"));
            }
            Found::Unknown => self.unknown(at, path, &scope, out),
        }
        false
    }

    fn elsewhere(&self, at: &At, path: &str, dialects: &str) -> Error {
        let names = [Compat::V5, Compat::V7, Compat::V8, Compat::V9]
            .into_iter()
            .filter(|compat| dialects.contains(digit(*compat)))
            .map(Compat::name)
            .collect::<Vec<_>>()
            .join(", ");
        Error::at(
            at,
            path,
            format!(
                "is an option of Filebeat {names}; this configuration is read as Filebeat {} ({})",
                self.compat.name(),
                self.compat_reason
            ),
            "remove it, or set pillion.compat to the version the file was written for",
        )
    }

    fn unknown(&self, at: &At, path: &str, scope: &Scope<'_>, out: &mut Leftovers) {
        let name = path.rsplit('.').next().unwrap_or(path);
        let known = scope.siblings(self.compat);
        let remedy = match (nearest(name, known.iter().copied()), other_input(&self.root, path, self.compat)) {
            (_, Some(_)) if name == "multiline" && known.contains(&"parsers") => {
                "a filestream has it as a parser: `parsers: [{multiline: {type: pattern, …}}]`".to_owned()
            }
            (_, Some(_)) if name == "json" && known.contains(&"parsers") => {
                "a filestream has it as a parser: `parsers: [{ndjson: {…}}]`".to_owned()
            }
            _ if path == name && of_an_input(name, self.compat) => {
                "it is an option of an input: indent it below the input's `- type`".to_owned()
            }
            (_, Some(other)) => format!("it is an option of the input type `{other}`"),
            (Some(near), None) => format!("did you mean `{near}`?"),
            (None, None) => "remove it, or check its indentation".to_owned(),
        };
        let error = Error::at(at, path, "unknown option", remedy);
        // A mistyped option of our own would mean a sidecar that never ends, or doubled lines: not just a warning.
        if path.starts_with("pillion.") {
            out.refused.push(error);
        } else {
            out.unknown.push(error);
        }
    }
}

/// Are there options below: a mapping, or a list of mappings?
fn has_options(node: &Node) -> bool {
    match &node.value {
        Value::Map(_) => true,
        Value::List(items) => items.iter().any(is_container),
        _ => false,
    }
}

fn is_container(node: &Node) -> bool {
    matches!(node.value, Value::Map(_) | Value::List(_))
}

/// Null, empty, or switched off.
fn asks_for_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        Value::Map(map) => {
            map.entries.iter().all(|(_, node)| asks_for_nothing(node))
                || !node.is_taken() && map.get("enabled").is_some_and(|on| matches!(on.value, Value::Bool(false)))
        }
        _ => false,
    }
}
