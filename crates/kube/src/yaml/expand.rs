//! Clearing the way of an edit: what several places share is written out, so that only the place named changes.
//!
//! Comes in: a text and where it will be edited. Goes out: a text that means the same, in which nothing on the way there
//! is an alias, is shared by one, or comes by a merge key; and notes of what was done.
//!
//! Always holds: the meaning doesn't change, which is looked at each time.
//! Tested in `tests/yaml.rs`.

use serde_json::Value;

use super::splice::{self, Slot};
use super::tree::{Document, Kind};
use super::{Edited, Fault, read};
use crate::inject::{Edit, pointer_parts};

/// Most things that are written out for one edit.
const MOST: usize = 1000;

/// Something on the way.
enum Obstacle {
    /// The alias that begins at this byte stands for what would change.
    Alias(usize),
    /// This key of the mapping at this pointer comes by a merge key.
    Merged(String, String),
}

/// Writes out what is in the way of an edit at `pointer`.
pub(super) fn clear_the_way(edited: &mut Edited, edit_at: &str) -> Result<(), Fault> {
    for _ in 0..MOST {
        let document = Document::parse(&edited.text)?;
        let Some(obstacle) = obstacle(&document, edit_at) else { return Ok(()) };
        let meaning = read(&edited.text)?;
        let (text, note) = remove(&document, &obstacle, meaning.as_ref())?;
        if read(&text)? != meaning {
            let offset = splice::nearest(&document, edit_at);
            return Err(Fault::at(
                &edited.text,
                offset,
                format!("{edit_at} can't be changed alone: it shares what it says by an anchor"),
                "write it out, without anchors and aliases",
            ));
        }
        edited.text = text;
        if !edited.notes.contains(&note) {
            edited.notes.push(note);
        }
    }
    Err(Fault::at(&edited.text, 0, format!("more than {MOST} aliases are in the way"), "write them out"))
}

fn obstacle(document: &Document<'_>, pointer: &str) -> Option<Obstacle> {
    let mut slot = Slot::root(document)?;
    let parts: Vec<String> = pointer_parts(pointer).collect();
    let mut at = String::new();
    for (i, part) in parts.iter().enumerate() {
        if let Some(obstacle) = shared(document, &slot) {
            return Some(obstacle);
        }
        let is_last = i + 1 == parts.len();
        match slot.child(part) {
            Some(child) => slot = child,
            // A new key, or an item at the end.
            None if is_last && !is_merged(document, &at, part) => return None,
            None => return Some(Obstacle::Merged(at, part.clone())),
        }
        at = format!("{at}/{}", part.replace('~', "~0").replace('/', "~1"));
    }
    // An alias that is replaced is in nobody's way.
    if matches!(slot.node.kind, Kind::Alias(_)) { None } else { shared(document, &slot) }
}

/// Whether the mapping at a pointer has this key by its meaning.
fn is_merged(document: &Document<'_>, at: &str, key: &str) -> bool {
    let meaning = document.value().ok().flatten();
    meaning.as_ref().and_then(|value| value.pointer(at)).is_some_and(|map| map.get(key).is_some())
}

/// The node is an alias, or something else is one of it.
fn shared(document: &Document<'_>, slot: &Slot<'_>) -> Option<Obstacle> {
    if matches!(slot.node.kind, Kind::Alias(_)) {
        return Some(Obstacle::Alias(slot.node.start));
    }
    let mut found = None;
    if slot.node.anchor > 0 {
        document.root.as_ref()?.visit(&mut |node| {
            if matches!(node.kind, Kind::Alias(id) if id == slot.node.anchor) {
                found.get_or_insert(Obstacle::Alias(node.start));
            }
        });
    }
    found
}

/// The text without the obstacle, and what to tell.
fn remove(document: &Document<'_>, obstacle: &Obstacle, meaning: Option<&Value>) -> Result<(String, String), Fault> {
    let cannot = |offset: usize, why: String| {
        Fault::at(document.text, offset, format!("an alias can't be written out here: {why}"), "write it out by hand")
    };
    match obstacle {
        Obstacle::Alias(start) => {
            let mut found = None;
            if let Some(root) = Slot::root(document) {
                root.visit(&mut |slot| {
                    if slot.node.start == *start && matches!(slot.node.kind, Kind::Alias(_)) {
                        found = Some(slot);
                    }
                });
            }
            let slot = found.ok_or_else(|| cannot(*start, "it is a key".into()))?;
            let value = document.meaning_of(slot.node)?;
            let text = splice::replace(document, &slot, &value).map_err(|why| cannot(*start, why))?;
            let name = &document.text[slot.node.start..slot.node.end];
            let line = document.text[..*start].matches('\n').count() + 1;
            Ok((text, format!("line {line}: {name} is written out, since only one of its places changes")))
        }
        Obstacle::Merged(at, key) => {
            let offset = splice::nearest(document, at);
            let value = meaning.and_then(|value| value.pointer(at)).and_then(|map| map.get(key));
            let Some(value) = value.filter(|_| splice::find(document, at).is_some()) else {
                return Err(cannot(offset, format!("there is no {at}/{key}")));
            };
            let below = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            let edit = Edit::Add { at: below, value: value.clone() };
            let text = splice::splice(document, &edit, false).map_err(|why| cannot(offset, why))?;
            let line = document.text[..offset].matches('\n').count() + 1;
            Ok((text, format!("line {line}: {key}, which comes by `<<`, is written out, since it changes here")))
        }
    }
}
