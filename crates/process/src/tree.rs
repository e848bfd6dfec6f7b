//! Maps of maps by dotted path, as Beats' `MapStr` has them.
//!
//! Comes in: a map and a path. Goes out: a value, or Beats' own words for why not.
//! Always holds: at each level a key that has the dots in itself comes first (Beats' `mapFind`).
//! Tested below and against Filebeat.

use pillion_event::go_type;
use serde_json::{Map, Value};

/// What Beats says of a path that leads nowhere.
pub(crate) const NOT_FOUND: &str = "key not found";

fn no_map(value: &Value) -> String {
    format!("expected map but type is {}", go_type(value))
}

/// The value at a path.
pub(crate) fn get<'m>(map: &'m Map<String, Value>, path: &str) -> Result<&'m Value, String> {
    if let Some(value) = map.get(path) {
        return Ok(value);
    }
    let (head, tail) = path.split_once('.').ok_or(NOT_FOUND)?;
    match map.get(head) {
        None => Err(NOT_FOUND.to_owned()),
        Some(Value::Object(below)) => get(below, tail),
        Some(other) => Err(no_map(other)),
    }
}

/// All dotted paths, what lies below an object before the object.
pub(crate) fn paths(map: &Map<String, Value>) -> Vec<String> {
    let mut out = Vec::new();
    for (key, value) in map {
        if let Value::Object(below) = value {
            out.extend(paths(below).into_iter().map(|path| format!("{key}.{path}")));
        }
        out.push(key.clone());
    }
    out
}

/// Sets the value at a path; maps on the way are made.
pub(crate) fn put(map: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    replace(map, path, value).map(drop)
}

/// The same, and what was there.
pub(crate) fn replace(map: &mut Map<String, Value>, path: &str, value: Value) -> Result<Option<Value>, String> {
    if !map.contains_key(path)
        && let Some((head, tail)) = path.split_once('.')
    {
        return match map.entry(head).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(below) => replace(below, tail, value),
            other => Err(no_map(other)),
        };
    }
    Ok(map.insert(path.to_owned(), value))
}

/// Takes the value at a path away.
pub(crate) fn delete(map: &mut Map<String, Value>, path: &str) -> Result<Value, String> {
    if let Some(value) = map.remove(path) {
        return Ok(value);
    }
    let (head, tail) = path.split_once('.').ok_or(NOT_FOUND)?;
    match map.get_mut(head) {
        None => Err(NOT_FOUND.to_owned()),
        Some(Value::Object(below)) => delete(below, tail),
        Some(other) => Err(no_map(other)),
    }
}

/// A path as it stands in the map, where its parts may be written in another case.
pub(crate) fn find(map: &Map<String, Value>, path: &str) -> Result<String, String> {
    find_below(map, path, path)
}

fn find_below(map: &Map<String, Value>, path: &str, whole: &str) -> Result<String, String> {
    let (head, tail) = path.split_once('.').map_or((path, None), |(head, tail)| (head, Some(tail)));
    let same = map.get_key_value(head);
    let other = || map.iter().find(|(key, _)| key.to_lowercase() == head.to_lowercase());
    let (key, value) = same.or_else(other).ok_or(NOT_FOUND)?;
    match (tail, value) {
        (None, _) => Ok(key.clone()),
        (Some(tail), Value::Object(below)) => Ok(format!("{key}.{}", find_below(below, tail, whole)?)),
        (Some(_), _) => {
            Err(format!("cannot continue path {whole:?}, next value {key:?} is not a map: value is not a map"))
        }
    }
}

/// Gives the parts of a path other names, from a path as [`find`] gives it; both have as many parts.
pub(crate) fn rename(map: &mut Map<String, Value>, from: &str, to: &str) -> Result<(), String> {
    let cut =
        |path: &str| path.split_once('.').map_or((path.to_owned(), None), |(a, b)| (a.to_owned(), Some(b.to_owned())));
    let ((head, tail), (new, new_tail)) = (cut(from), cut(to));
    if head != new && map.contains_key(&new) {
        return Err(format!("key collision: {new}"));
    }
    if let (Some(tail), Some(new_tail)) = (tail, new_tail)
        && let Some(Value::Object(below)) = map.get_mut(&head)
    {
        rename(below, &tail, &new_tail)?;
    }
    let value = map.remove(&head).ok_or(NOT_FOUND)?;
    map.insert(new, value);
    Ok(())
}

/// Beats' `DeepUpdate`: an object into an object, anything else replaces; without `overwrite` what is there stays, but for
/// what isn't an object where one comes.
pub(crate) fn merge(into: &mut Map<String, Value>, from: Map<String, Value>, overwrite: bool) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new, overwrite),
            (Some(old), new @ Value::Object(_)) => *old = new,
            (Some(_), _) if !overwrite => {}
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Every value below a map by its dotted path; an empty object counts as a value.
pub(crate) fn flatten(map: &Map<String, Value>) -> Vec<(String, Value)> {
    fn below(prefix: &str, map: &Map<String, Value>, out: &mut Vec<(String, Value)>) {
        for (key, value) in map {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Object(inner) if !inner.is_empty() => below(&path, inner, out),
                value => out.push((path, value.clone())),
            }
        }
    }
    let mut out = Vec::new();
    below("", map, &mut out);
    out
}

/// About how many bytes of memory a value takes.
pub(crate) fn weight(value: &Value) -> usize {
    const NODE: usize = 64;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => NODE,
        Value::String(s) => NODE + s.len(),
        Value::Array(items) => NODE + items.iter().map(weight).sum::<usize>(),
        Value::Object(map) => NODE + map.iter().map(|(k, v)| NODE + k.len() + weight(v)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn paths_as_in_beats() {
        let mut m = map(json!({"a": {"b": 1}, "a.b": 2, "c": "text", "d": {"e.f": 3}}));
        assert_eq!(get(&m, "a.b"), Ok(&json!(2)));
        assert_eq!(get(&m, "d.e.f"), Ok(&json!(3)));
        assert_eq!(get(&m, "x.y"), Err("key not found".into()));
        assert_eq!(get(&m, "c.y"), Err("expected map but type is string".into()));
        assert_eq!(put(&mut m, "c.y", json!(0)), Err("expected map but type is string".into()));
        put(&mut m, "x.y.z", json!(4)).unwrap();
        assert_eq!(get(&m, "x"), Ok(&json!({"y": {"z": 4}})));
        assert_eq!(delete(&mut m, "a.b"), Ok(json!(2)));
        assert_eq!(delete(&mut m, "a.b"), Ok(json!(1)));
        assert_eq!(delete(&mut m, "a.b"), Err("key not found".into()));
        merge(&mut m, map(json!({"x": {"y": {"z": 5}}, "c": 6})), false);
        assert_eq!((get(&m, "c"), get(&m, "x.y.z")), (Ok(&json!("text")), Ok(&json!(4))));
        merge(&mut m, map(json!({"c": {"q": 6}})), false);
        assert_eq!(get(&m, "c"), Ok(&json!({"q": 6})));
        merge(&mut m, map(json!({"x": {"y": 5}})), true);
        assert_eq!(get(&m, "x.y"), Ok(&json!(5)));
        assert_eq!(flatten(&map(json!({"a": {"b": 1, "c": {}}, "d": [2]}))).len(), 3);
    }

    proptest! {
        #[test]
        fn what_is_put_is_there_until_it_is_deleted(path in "[a-c](\\.[a-c]){0,3}", other in "[a-c](\\.[a-c]){0,3}") {
            let mut m = Map::new();
            put(&mut m, &other, json!("x")).unwrap();
            if put(&mut m, &path, json!(1)).is_ok() {
                prop_assert_eq!(get(&m, &path), Ok(&json!(1)));
                prop_assert_eq!(delete(&mut m, &path), Ok(json!(1)));
                prop_assert!(get(&m, &path).is_err());
            }
        }
    }
}
