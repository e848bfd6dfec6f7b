//! A stream of manifests, injected.
//!
//! Comes in: the text of a file, options. Goes out: the text with Pillion beside every work in it; or all the faults.
//!
//! Always holds: documents that aren't changed are the same byte for byte; one that can't be injected stops all.
//! Tested in `tests/manifest.rs`, against golden files.

use serde_json::Value;

use crate::inject::{Options, plan};
use crate::yaml::{self, Fault};

/// An injected text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// The text.
    pub text: String,
    /// What a person should know, one line each.
    pub notes: Vec<String>,
    /// How many documents have changed.
    pub changed: usize,
}

/// Injects every object of a text that has pods.
///
/// # Errors
/// All that is wrong: a text that isn't YAML, objects that can't be injected, each with its place.
pub fn inject(text: &str, options: &Options) -> Result<Injected, Vec<Fault>> {
    let parts = yaml::split(text).map_err(|fault| vec![fault])?;
    let mut out = Injected::default();
    let (mut faults, mut more, mut line) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        match one(part, options, &mut out.notes, &mut more) {
            Ok(after) => {
                out.changed += usize::from(after != part);
                out.text.push_str(&after);
            }
            Err(mut fault) => {
                fault.line += line;
                faults.push(fault);
            }
        }
        line += part.matches('\n').count();
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    append(&mut out, &more).map_err(|fault| vec![fault])?;
    Ok(out)
}

/// One document; what is needed beside it goes into `more`.
fn one(text: &str, options: &Options, notes: &mut Vec<String>, more: &mut Vec<Value>) -> Result<String, Fault> {
    let Some(object) = yaml::read(text)? else { return Ok(text.to_owned()) };
    let plan = plan(&object, options).map_err(|refusal| {
        let (line, column) = yaml::locate(text, &refusal.at);
        Fault { line, column, reason: format!("{}: {}", refusal.at, refusal.reason), remedy: refusal.remedy }
    })?;
    let edited = yaml::edit(text, &plan.edits)?;
    notes.extend(plan.notes);
    notes.extend(edited.notes);
    for document in plan.documents {
        if !more.contains(&document) {
            more.push(document);
        }
    }
    Ok(edited.text)
}

/// Documents after the last one.
fn append(out: &mut Injected, documents: &[Value]) -> Result<(), Fault> {
    if documents.is_empty() {
        return Ok(());
    }
    if out.text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[']) {
        return Err(Fault {
            line: 0,
            column: 0,
            reason: "a ConfigMap has no place beside an object in JSON".into(),
            remedy: "create it, and name it with --config-map".into(),
        });
    }
    let newline = if out.text.contains("\r\n") { "\r\n" } else { "\n" };
    for document in documents {
        if !out.text.is_empty() && !out.text.ends_with('\n') {
            out.text.push_str(newline);
        }
        out.text.push_str(&format!("---{newline}{}", yaml::write(document).replace('\n', newline)));
    }
    Ok(())
}
