//! Keys with dots made objects (Beats' `expandFields`).
//!
//! Comes in: a map. Goes out: the same without dots in its keys, at all depths of maps, or Beats' words for which keys want
//! the same place. Always holds: keys without dots come first, so that the outcome is one of those that Beats, which takes
//! them in any order, may have. After an error a part of it is done, and nothing of the rest is gone.
//! Tested below, and against Filebeat.

use pillion_event::go_type;
use serde_json::{Map, Value};

use crate::tree;

/// Makes objects of keys with dots, in place.
///
/// # Errors
/// Two keys want the same place. `modern`: 8 and 9 say more of it.
pub fn expand(map: &mut Map<String, Value>, modern: bool) -> Result<(), String> {
    for (key, value) in map.iter_mut() {
        if let Value::Object(below) = value {
            expand(below, modern).map_err(|e| format!("error expanding {key:?}: {e}"))?;
        }
    }
    if !map.keys().any(|key| key.contains('.')) {
        return Ok(());
    }
    let (dotted, plain): (Vec<_>, Vec<_>) = std::mem::take(map).into_iter().partition(|(key, _)| key.contains('.'));
    map.extend(plain);
    let mut dotted = dotted.into_iter();
    while let Some((key, value)) = dotted.next() {
        if let Err(e) = place(map, &key, value, modern) {
            map.extend(dotted);
            return Err(format!("cannot expand {key:?}: {e}"));
        }
    }
    Ok(())
}

fn place(map: &mut Map<String, Value>, path: &str, value: Value, modern: bool) -> Result<(), String> {
    let is_map = value.is_object();
    let conflict = |why: String| if modern { format!("found conflicting key: {why}") } else { CONFLICT.to_owned() };
    match tree::replace(map, path, value).map_err(conflict)? {
        None | Some(Value::Null) => Ok(()),
        Some(old) if !is_map => Err(format!("found existing ({}) value", go_type(&old))),
        Some(Value::Object(old)) => {
            let placed = tree::replace(map, path, Value::Null)?;
            let Some(Value::Object(mut new)) = placed else { return Ok(()) };
            let merged = merge(&mut new, old);
            tree::put(map, path, Value::Object(new))?;
            merged
        }
        Some(_) => Err(CONFLICT.to_owned()),
    }
}

const CONFLICT: &str = "found conflicting key";

/// Puts one map's members into another's; two with one name have to be maps.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) -> Result<(), String> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => drop(into.insert(key, value)),
            (Some(Value::Object(old)), Value::Object(new)) => {
                merge(old, new).map_err(|e| format!("cannot merge {key:?}: {e}"))?;
            }
            (Some(Value::Object(_)), other) => {
                return Err(format!("cannot merge {key:?}: found ({}) value", go_type(&other)));
            }
            (Some(old), _) => return Err(format!("cannot merge {key:?}: found ({}) value", go_type(old))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Beats' `expand_test.go`, and more.
    #[test]
    fn as_in_beats() {
        let expanded = |value: Value, modern| {
            let Value::Object(mut map) = value else { panic!("no object") };
            expand(&mut map, modern).map(|()| Value::Object(map))
        };
        for (from, want) in [
            (json!({"a.b": 1, "c": {"d.e": 2}}), Ok(json!({"a": {"b": 1}, "c": {"d": {"e": 2}}}))),
            (json!({"a.b.c": 1, "a.b.d": 2, "a": {"e": 3}}), Ok(json!({"a": {"b": {"c": 1, "d": 2}, "e": 3}}))),
            (json!({"a.b": {"c": 1}, "a": {"b": {"d": 2}}}), Ok(json!({"a": {"b": {"c": 1, "d": 2}}}))),
            (json!({"a.b": 1, "a": {"b": null}}), Ok(json!({"a": {"b": 1}}))),
            (json!({"a": [{"b.c": 1}]}), Ok(json!({"a": [{"b.c": 1}]}))),
            (
                json!({"a.b": 1, "a": 2}),
                Err("cannot expand \"a.b\": found conflicting key: expected map but type is int64"),
            ),
            (json!({"a.b": 1, "a": {"b": 2}}), Err("cannot expand \"a.b\": found existing (int64) value")),
            (json!({"a.b": {"c": 1}, "a": {"b": 2}}), Err("cannot expand \"a.b\": found conflicting key")),
            (
                json!({"a.b": {"c": {"d": 1}}, "a": {"b": {"c": {"d": "x"}}}}),
                Err("cannot expand \"a.b\": cannot merge \"c\": cannot merge \"d\": found (int64) value"),
            ),
            (
                json!({"x": {"a.b": 1, "a": 2}}),
                Err(
                    "error expanding \"x\": cannot expand \"a.b\": found conflicting key: expected map but type is int64",
                ),
            ),
        ] {
            assert_eq!(expanded(from.clone(), true), want.map_err(str::to_owned), "{from}");
        }
        let said = expanded(json!({"a.b": 1, "a": 2}), false).unwrap_err();
        assert_eq!(said, "cannot expand \"a.b\": found conflicting key");
    }

    #[test]
    fn nothing_of_the_rest_is_gone_after_an_error() {
        let Value::Object(mut map) = json!({"a.b": 1, "a": 2, "c.d": 3, "e": 4}) else { panic!("no object") };
        expand(&mut map, true).unwrap_err();
        assert_eq!(Value::Object(map), json!({"a": 2, "c.d": 3, "e": 4}));
    }
}
