//! The table as a list to be shown: docs/compatibility.md and docs/schema.json are made from it.
//!
//! Comes in: the rows. Goes out: groups of options, in the order of the table. Always holds: every row of the table is in
//! a group, unless it only says that anything may stand below an option.
//! Tested by `crates/process/tests/compatibility.rs` and `schema.rs`, which hold them against it.

use super::{Fate, Row, digit, general, inputs, outputs};
use crate::compat::Compat;

/// What becomes of an option where it may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does what it does in Filebeat.
    Works,
    /// The configuration is refused: the reason.
    Refused(&'static str),
    /// It is said once that it has no effect: the reason.
    Harmless(&'static str),
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key within the group.
    pub key: &'static str,
    /// The versions of Filebeat that have it, such as `7 to 9`.
    pub versions: String,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// Where the options of a group stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top of the file.
    Top,
    /// At an input of one of these types.
    Inputs(Vec<&'static str>),
    /// Below `output.` and one of these names.
    Outputs(Vec<&'static str>),
    /// Below `ssl` of an output.
    OutputSsl,
    /// Below `ssl` of an input that listens; `protocol.tcp.ssl` of the input `syslog`.
    InputSsl,
}

/// Options that stand in the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Which place: input types, an output, or a part of the general ones.
    pub title: String,
    /// The same, for programs.
    pub place: Place,
    /// The options.
    pub options: Vec<Listed>,
}

/// Every option that Filebeat 5.6 to 9 has outside of processors, and Pillion's own.
pub fn catalogue() -> Vec<Group> {
    let mut groups = Vec::new();
    let (own, filebeats): (Vec<&Row>, Vec<&Row>) =
        general::GENERAL.iter().partition(|row| row.0.starts_with("pillion."));
    groups.push(group("Outside of inputs and outputs", Place::Top, &filebeats));
    groups.extend(shared(inputs::TYPES, "Inputs", Place::Inputs, inputs::tables));
    groups.extend(shared(outputs::NAMES, "Outputs", Place::Outputs, |name| outputs::tables(name).unwrap_or_default()));
    groups.push(group("`ssl` of every output", Place::OutputSsl, &outputs::SSL.iter().collect::<Vec<_>>()));
    let server: Vec<&Row> = inputs::SSL.iter().collect();
    groups.push(group("`ssl` of the inputs `tcp` and `syslog` (there below `protocol.tcp`)", Place::InputSsl, &server));
    groups.push(group("Pillion's own", Place::Top, &own));
    groups
}

/// A group for each table, named after those that share it.
fn shared(
    names: &[&'static str],
    what: &str,
    place: impl Fn(Vec<&'static str>) -> Place,
    tables: impl Fn(&str) -> Vec<&'static [Row]>,
) -> Vec<Group> {
    let mut seen: Vec<(&'static [Row], Vec<&'static str>)> = Vec::new();
    for name in names {
        for table in tables(name) {
            match seen.iter_mut().find(|(known, _)| *known == table) {
                Some((_, users)) => users.push(name),
                None => seen.push((table, vec![name])),
            }
        }
    }
    let title = |users: &[&str]| match users.len() {
        all if all == names.len() => format!("{what} of every type"),
        _ => format!("{what}: {}", users.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    let rows = |table: &'static [Row]| table.iter().collect::<Vec<_>>();
    seen.into_iter().map(|(table, users)| group(&title(&users), place(users), &rows(table))).collect()
}

fn group(title: &str, place: Place, rows: &[&Row]) -> Group {
    let shown = |row: &&&Row| !row.0.ends_with(".**");
    let listed = |row: &&Row| Listed { key: row.0, versions: versions(row.1), outcome: outcome(row.2) };
    Group { title: title.to_owned(), place, options: rows.iter().filter(shown).map(listed).collect() }
}

fn outcome(fate: Fate) -> Outcome {
    match fate {
        Fate::Taken => Outcome::Works,
        Fate::Refused(reason) => Outcome::Refused(reason),
        Fate::Harmless(reason) => Outcome::Harmless(reason),
    }
}

/// `57` → `5.6, 7`; three or more in a row → `7 to 9`.
fn versions(digits: &str) -> String {
    let all = [Compat::V5, Compat::V7, Compat::V8, Compat::V9];
    let at: Vec<usize> = (0..all.len()).filter(|i| digits.contains(digit(all[*i]))).collect();
    match at.as_slice() {
        [first, .., last] if at.len() > 2 && last - first + 1 == at.len() => {
            format!("{} to {}", all[*first].name(), all[*last].name())
        }
        _ => at.iter().map(|i| all[*i].name()).collect::<Vec<_>>().join(", "),
    }
}
