//! From two states of an object to the edits between them, and back.
//!
//! Always holds: applying the edits to the first state gives the second. A mapping that only gained keys, and a list that
//! only grew at its end, are edited where they changed; whatever else differs is replaced as a whole.
//! Tested below.

use serde_json::{Map, Value, json};

/// One change, at a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A new key of a mapping, a new last item of a list (the pointer ends with `/-`), or one before the item of that
    /// number. What holds it is there.
    Add {
        /// Where.
        at: String,
        /// What.
        value: Value,
    },
    /// Another value in the place of one that is there.
    Replace {
        /// Where.
        at: String,
        /// What.
        value: Value,
    },
}

impl Edit {
    /// Where.
    pub fn at(&self) -> &str {
        match self {
            Edit::Add { at, .. } | Edit::Replace { at, .. } => at,
        }
    }

    /// What.
    pub fn value(&self) -> &Value {
        match self {
            Edit::Add { value, .. } | Edit::Replace { value, .. } => value,
        }
    }

    /// As an operation of a JSON Patch (RFC 6902).
    pub fn operation(&self) -> Value {
        let op = match self {
            Edit::Add { .. } => "add",
            Edit::Replace { .. } => "replace",
        };
        json!({"op": op, "path": self.at(), "value": self.value()})
    }
}

/// The edits from `before` to `after`, which are both the same object.
pub(crate) fn between(before: &Value, after: &Value) -> Vec<Edit> {
    let mut edits = Vec::new();
    differ(String::new(), before, after, &mut edits);
    edits
}

fn differ(at: String, before: &Value, after: &Value, edits: &mut Vec<Edit>) {
    match (before, after) {
        (a, b) if a == b => {}
        (Value::Object(a), Value::Object(b)) if grew(a, b) => {
            for (key, value) in b {
                let at = format!("{at}/{}", escape(key));
                match a.get(key) {
                    Some(old) => differ(at, old, value, edits),
                    None => edits.push(Edit::Add { at, value: value.clone() }),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() <= b.len() && !a.is_empty() && !is_words(a) => {
            for (i, (old, value)) in a.iter().zip(b).enumerate() {
                differ(format!("{at}/{i}"), old, value, edits);
            }
            let added = b.iter().skip(a.len());
            edits.extend(added.map(|value| Edit::Add { at: format!("{at}/-"), value: value.clone() }));
        }
        // Words before those that are there, which keep what stands beside them.
        (Value::Array(a), Value::Array(b)) if !a.is_empty() && b.len() > a.len() && b.ends_with(a) => {
            let added = b.iter().take(b.len() - a.len()).enumerate();
            edits.extend(added.map(|(i, value)| Edit::Add { at: format!("{at}/{i}"), value: value.clone() }));
        }
        (_, value) => edits.push(Edit::Replace { at, value: value.clone() }),
    }
}

/// No key is gone, and those that were there have kept their order.
fn grew(before: &Map<String, Value>, after: &Map<String, Value>) -> bool {
    before.keys().all(|key| after.contains_key(key))
}

/// A command's words mean something together: such a list is replaced as a whole.
fn is_words(list: &[Value]) -> bool {
    list.iter().all(|item| !item.is_object() && !item.is_array())
}

/// A key as a part of a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The parts of a JSON pointer, unescaped.
pub(crate) fn pointer_parts(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// Applies edits in their order. `None` when one names a place that isn't there: `object` is then half edited.
#[must_use = "an edit that fits nowhere is told by this"]
pub fn apply(object: &mut Value, edits: &[Edit]) -> Option<()> {
    edits.iter().try_for_each(|edit| match edit {
        Edit::Replace { at, value } => object.pointer_mut(at).map(|old| *old = value.clone()),
        Edit::Add { at, value } => {
            let (parent, _) = at.rsplit_once('/')?;
            let key = pointer_parts(at).last()?;
            match object.pointer_mut(parent)? {
                Value::Object(map) => drop(map.insert(key, value.clone())),
                Value::Array(list) if key == "-" => list.push(value.clone()),
                Value::Array(list) => {
                    let index = key.parse().ok().filter(|i| *i <= list.len())?;
                    list.insert(index, value.clone());
                }
                _ => return None,
            }
            Some(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_lead_from_the_one_to_the_other() {
        let before = json!({"a": {"b/c": 1, "gone": 1}, "list": [{"x": 1}], "words": ["a"], "empty": []});
        for after in [
            json!({"a": {"b/c": 2, "gone": 1, "new~": {}}, "list": [{"x": 1, "y": []}, {}], "words": ["a", "b"], "empty": [1]}),
            json!({"a": {"b/c": 1}, "list": [], "words": ["x", "y", "a"], "empty": {}}),
            json!([]),
            before.clone(),
        ] {
            let edits = between(&before, &after);
            let mut object = before.clone();
            apply(&mut object, &edits).unwrap();
            assert_eq!(object, after);
            assert_eq!(edits.is_empty(), after == before);
        }
    }

    #[test]
    fn only_what_changed_is_edited() {
        let edits = between(&json!({"a": [{"b": 1}], "c": 1}), &json!({"a": [{"b": 1, "d/e": 2}, 3], "c": 1}));
        let at: Vec<&str> = edits.iter().map(Edit::at).collect();
        assert_eq!(at, ["/a/0/d~1e", "/a/-"]);
    }

    #[test]
    fn a_place_that_is_not_there_is_told() {
        let edit = |at: &str| [Edit::Add { at: at.into(), value: json!(1) }];
        assert!(apply(&mut json!({}), &edit("/a/b")).is_none());
        assert!(apply(&mut json!([1]), &edit("/5")).is_none());
    }
}
