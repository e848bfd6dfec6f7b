//! The table of every option that Filebeat 5.6 to 9 has, with its fate when no crate has taken it.
//!
//! Comes in: an option's path in a configuration. Goes out: what Filebeat knows of it and what becomes of it here.
//! Where it stands in the table: `inputs.rs`, `outputs.rs`, `general.rs`; our own names are in `general.rs` too.
//!
//! Always holds: a row with [`Fate::Refused`] or [`Fate::Harmless`] covers all below its key, a row with
//! [`Fate::Taken`] only the key itself, unless it ends in `**`. `*` stands for one part of any name.
//! Tested in `tests/leftovers.rs`.

pub(crate) mod catalogue;
mod general;
mod inputs;
mod outputs;

use crate::compat::Compat;
use crate::tree::{Node, Value};

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A crate reads it where it applies; left over, it has no effect in its place.
    Taken,
    /// What is delivered would differ without it: the reason.
    Refused(&'static str),
    /// Nothing is lost without it: the reason.
    Harmless(&'static str),
}

/// One option: its key below its scope, the dialects that have it (first digits: `5789`), its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) &'static str, pub(crate) &'static str, pub(crate) Fate);

/// What the table says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An option of this dialect.
    Known(Fate),
    /// An option of other dialects only: their digits.
    Elsewhere(&'static str),
    /// A section of known options.
    Section,
    /// Nothing.
    Unknown,
}

pub(crate) fn digit(compat: Compat) -> char {
    match compat {
        Compat::V5 => '5',
        Compat::V7 => '7',
        Compat::V8 => '8',
        Compat::V9 => '9',
    }
}

/// The rows that hold at a path, and the path's rest below their scope.
pub(crate) struct Scope<'p> {
    tables: Vec<&'static [Row]>,
    pub(crate) rest: &'p str,
}

impl<'p> Scope<'p> {
    /// Finds the scope of a path; an input's depends on its type, which stands in the tree.
    pub(crate) fn of(root: &Node, path: &'p str) -> Scope<'p> {
        if let Some((at, rest)) = input_at(path) {
            let kind = input_type(root, at);
            let ssl = rest.strip_prefix("ssl.").or_else(|| rest.strip_prefix("protocol.tcp.ssl."));
            if let Some(ssl) = ssl.filter(|_| inputs::WITH_TLS.contains(&kind)) {
                return Scope { tables: vec![inputs::SSL], rest: ssl };
            }
            return Scope { tables: inputs::tables(kind), rest };
        }
        if let Some(rest) = path.strip_prefix("output.")
            && let Some((output, rest)) = rest.split_once('.')
            && let Some(tables) = outputs::tables(output)
        {
            if let Some(ssl) = rest.strip_prefix("ssl.") {
                return Scope { tables: vec![outputs::SSL], rest: ssl };
            }
            return Scope { tables, rest };
        }
        Scope { tables: vec![general::GENERAL], rest: path }
    }

    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.tables.iter().flat_map(|table| table.iter())
    }

    /// Looks a path up; the row with the longest key counts, one of this dialect before others.
    pub(crate) fn find(&self, compat: Compat) -> Found {
        let here = digit(compat);
        let mut best: Option<&Row> = None;
        let mut section = false;
        for row in self.rows() {
            match matches(row, self.rest) {
                Match::Covers => {
                    let rank = |row: &Row| (row.1.contains(here), row.0.len());
                    if best.is_none_or(|best| rank(row) > rank(best)) {
                        best = Some(row);
                    }
                }
                Match::Above => section = true,
                Match::No => {}
            }
        }
        // What another dialect refuses as a whole may be a section here.
        let is_here = |key: &str| self.rows().any(|row| row.0 == key && row.1.contains(here));
        match best {
            Some(row) if row.1.contains(here) => Found::Known(row.2),
            Some(row) if !is_here(row.0) => Found::Elsewhere(row.1),
            _ if section => Found::Section,
            _ => Found::Unknown,
        }
    }

    /// The known names that could stand in the place of the path's last part.
    pub(crate) fn siblings(&self, compat: Compat) -> Vec<&'static str> {
        let above: Vec<&str> = match self.rest.rsplit_once('.') {
            Some((above, _)) => above.split('.').collect(),
            None => Vec::new(),
        };
        let mut out = Vec::new();
        for row in self.rows().filter(|row| row.1.contains(digit(compat))) {
            let parts: Vec<&'static str> = row.0.split('.').collect();
            let fits = parts.len() > above.len() && above.iter().zip(&parts).all(|(a, p)| *p == "*" || p == a);
            if fits && !parts[above.len()].starts_with('*') {
                out.push(parts[above.len()]);
            }
        }
        out
    }
}

/// Where else an unknown input option is known: the name of that input type.
pub(crate) fn other_input(root: &Node, path: &str, compat: Compat) -> Option<&'static str> {
    let (at, rest) = input_at(path)?;
    let own = input_type(root, at);
    let types = inputs::TYPES.iter().copied();
    types.filter(|name| *name != own).find(|name| {
        matches!(Scope { tables: inputs::tables(name), rest }.find(compat), Found::Known(_) | Found::Section)
    })
}

/// Whether an input of any type has this option.
pub(crate) fn of_an_input(rest: &str, compat: Compat) -> bool {
    inputs::TYPES.iter().any(|name| {
        matches!(Scope { tables: inputs::tables(name), rest }.find(compat), Found::Known(_) | Found::Section)
    })
}

enum Match {
    Covers,
    Above,
    No,
}

fn matches(row: &Row, path: &str) -> Match {
    let mut parts = path.split('.');
    for pattern in row.0.split('.') {
        if pattern == "**" {
            return Match::Covers;
        }
        match parts.next() {
            None => return Match::Above,
            Some(part) if pattern == "*" || pattern == part => {}
            Some(_) => return Match::No,
        }
    }
    match (parts.next(), row.2) {
        (Some(_), Fate::Taken) => Match::No,
        _ => Match::Covers,
    }
}

/// Where an option's input is, and the option below it: `filebeat.inputs.3`, `filebeat.modules.0.access.input`.
fn input_at(path: &str) -> Option<(&str, &str)> {
    let listed = below_item(path, &["filebeat.inputs.", "filebeat.prospectors."]);
    let of_a_fileset = || {
        let mut dots = path.match_indices('.').map(|(at, _)| at).skip(3);
        let (fileset, input) = (dots.next()?, dots.next()?);
        let inside = path.starts_with("filebeat.modules.") && &path[fileset..input] == ".input";
        inside.then(|| (&path[..input], &path[input + 1..]))
    };
    listed.or_else(of_a_fileset)
}

/// `filebeat.inputs.3.close.inactive` → (`filebeat.inputs.3`, `close.inactive`).
fn below_item<'p>(path: &'p str, lists: &[&str]) -> Option<(&'p str, &'p str)> {
    let list = lists.iter().find(|list| path.starts_with(**list))?;
    let dot = list.len() + path[list.len()..].find('.')?;
    Some((&path[..dot], &path[dot + 1..]))
}

fn input_type<'n>(root: &'n Node, at: &str) -> &'n str {
    let Some(input) = root.get(at) else { return "log" };
    let name = input.get("type").or_else(|| input.get("input_type"));
    match name.map(|name| &name.value) {
        Some(Value::Str(name)) => name,
        _ => "log",
    }
}
