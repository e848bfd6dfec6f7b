//! Changing YAML without rewriting it: what isn't changed stays byte for byte as it is.
//!
//! Comes in: a text of one or many documents, and edits for one of them. Goes out: the text with the edits in it, in the
//! style of what stands around them.
//!
//! Always holds:
//! - After each edit the text is read again and compared with what was wanted. A text that doesn't say that is never
//!   given out: that is an error.
//! - Comments survive, those inside of a value that is replaced too, where there is a line for them.
//! - An edit beneath an anchor changes only the place that it names: aliases are written out before.
//!
//! The way: `tree` (the parser's events with their places) → `value` (what the text means) → `splice` (which bytes change)
//! with `emit` (values as text).
//! Tested in `tests/yaml.rs`, with random documents in `tests/yaml_random.rs`, and by the fuzz target `yaml_edit`.

mod emit;
mod expand;
mod splice;
mod tree;
mod value;

use std::fmt;

use serde_json::Value;

pub use tree::split;

use crate::inject::{Edit, apply};
use tree::Document;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 8 << 20;

/// What is wrong with a text, or with an edit of it, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1; 0 when it is about no place.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    fn at(text: &str, offset: usize, reason: impl Into<String>, remedy: impl Into<String>) -> Fault {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Fault {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().filter(|c| *c != '\u{feff}').count() + 1,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.line, self.column, self.reason, self.remedy)
    }
}

impl std::error::Error for Fault {}

/// What the text of one document means. `None`: nothing (no document, or only comments), or nothing that JSON could say,
/// such as keys that are lists.
///
/// # Errors
/// When it isn't YAML, has a key twice, or is beyond a limit.
pub fn read(text: &str) -> Result<Option<Value>, Fault> {
    Document::parse(text)?.value()
}

/// A value as a document of its own, with an end of line.
pub fn write(value: &Value) -> String {
    let style = emit::Style { step: 2, list: 2, json: false, airy: true, literal: true };
    let mut text = emit::block(value, 0, style).join("\n");
    text.push('\n');
    text
}

/// Where the value at a JSON pointer begins in the text of one document: line and column, from 1. Of what isn't there,
/// the nearest that holds it.
pub fn locate(text: &str, pointer: &str) -> (usize, usize) {
    let offset = Document::parse(text).map_or(0, |document| splice::nearest(&document, pointer));
    let place = Fault::at(text, offset, "", "");
    (place.line, place.column)
}

/// A text with edits in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// What a person should know: aliases that were written out.
    pub notes: Vec<String>,
}

/// Makes edits, one after another, in the text of one document.
///
/// # Errors
/// When an edit names nothing that is there, or can't be made without changing what it doesn't name.
pub fn edit(text: &str, edits: &[Edit]) -> Result<Edited, Fault> {
    let mut edited = Edited { text: text.to_owned(), notes: Vec::new() };
    let Some(mut wanted) = read(text)? else {
        let nothing = Fault::at(text, 0, "there is nothing to edit", "give a document with a value");
        return if edits.is_empty() { Ok(edited) } else { Err(nothing) };
    };
    let edits = splice::gather(&Document::parse(text)?, edits);
    for edit in &edits {
        let cannot = |text: &str, why: &str| {
            let offset = Document::parse(text).map_or(0, |document| splice::nearest(&document, edit.at()));
            Fault::at(
                text,
                offset,
                format!("{} can't be edited here: {why}", edit.at()),
                "write this part in a plainer style (no anchors, no tags, one key a line), or edit it by hand",
            )
        };
        if apply(&mut wanted, std::slice::from_ref(edit)).is_none() {
            return Err(cannot(&edited.text, "there is no such place"));
        }
        expand::clear_the_way(&mut edited, edit.at())?;
        let document = Document::parse(&edited.text)?;
        let mut why = "the text would say something else than what is wanted".to_owned();
        let after = [true, false].into_iter().find_map(|literal| match splice::splice(&document, edit, literal) {
            Ok(after) => read(&after).is_ok_and(|value| value.as_ref() == Some(&wanted)).then_some(after),
            Err(reason) => {
                why = reason;
                None
            }
        });
        edited.text = after.ok_or_else(|| cannot(&edited.text, &why))?;
    }
    Ok(edited)
}
