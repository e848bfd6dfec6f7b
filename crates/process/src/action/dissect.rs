//! dissect: a text cut at fixed texts.
//!
//! Comes in: a tokenizer such as `%{level} [%{module}] %{text}`, then texts. Goes out: names and values.
//! The rules are Beats' (`libbeat/processors/dissect`): `?name` is left out, `*name` and `&name` are name and value of a
//! field, `+name` joins values (`+name/2` says in which order), `name->` takes padding, `name#4` has a fixed length,
//! `name|integer` a type.
//! Always holds: a text is looked through once from left to right; any bytes may come. Fuzzed (`dissect`).

use pillion_config::{Error, Section};
use serde_json::{Map, Value};

use crate::action::convert::Type;
use crate::action::{Action, Done, required, tag};
use crate::doc::{Doc, to_text};
use crate::tree;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Its value is needed for others at most.
    Skip,
    /// Its value is the name of the field whose value `&` has.
    Name,
    Indirect,
    Append,
    AppendIndirect,
}

#[derive(Debug)]
struct Key {
    name: String,
    kind: Kind,
    /// Which of the pieces it takes.
    place: usize,
    ordinal: u32,
    greedy: bool,
    length: Option<usize>,
    of_type: Option<Type>,
    /// What stands before it.
    before: String,
}

/// A compiled tokenizer.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// In the order in which they take effect.
    keys: Vec<Key>,
    /// For each piece: is it greedy, and how long is it?
    pieces: Vec<(bool, Option<usize>)>,
    /// One before each piece, and perhaps one behind the last.
    delimiters: Vec<String>,
}

impl Tokenizer {
    /// Compiles a tokenizer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Tokenizer, String> {
        let (mut keys, mut pieces, mut delimiters) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("%{") {
            let (key, after) = behind.split_once('}').ok_or("a `%{` isn't closed")?;
            let key = key_of(key, keys.len(), before)?;
            pieces.push((key.greedy, key.length));
            keys.push(key);
            delimiters.push(before.to_owned());
            rest = after;
        }
        if keys.is_empty() {
            return Err("there is no `%{key}` in it".to_owned());
        }
        if !rest.is_empty() {
            delimiters.push(rest.to_owned());
        }
        for key in keys.iter().filter(|k| matches!(k.kind, Kind::Indirect | Kind::AppendIndirect)) {
            let named = |k: &Key| matches!(k.kind, Kind::Name | Kind::Skip) && k.name == key.name;
            if !keys.iter().any(named) {
                return Err(format!("`&{}` has no `*{}` or `?{}` that gives its name", key.name, key.name, key.name));
            }
        }
        keys.sort_by_key(|k: &Key| (matches!(k.kind, Kind::Indirect | Kind::AppendIndirect), k.ordinal));
        Ok(Tokenizer { keys, pieces, delimiters })
    }

    /// The pieces of a text; `None` when it doesn't fit.
    fn cut<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let mut out = vec![""; self.pieces.len()];
        let mut at = self.delimiters.first().filter(|d| text.starts_with(d.as_str()))?.len();
        for (i, (greedy, length)) in self.pieces.iter().enumerate() {
            let piece = out.get_mut(i)?;
            let Some(next) = self.delimiters.get(i + 1) else {
                // The last piece takes the rest.
                if length.is_some_and(|length| at + length != text.len()) {
                    return None;
                }
                *piece = text.get(at..)?;
                break;
            };
            let end = match length {
                Some(length) => at.checked_add(*length).filter(|end| *end <= text.len())?,
                None => at + text.get(at..)?.find(next.as_str())?,
            };
            *piece = text.get(at..end)?;
            at = end;
            if *greedy && !next.is_empty() {
                while text.get(at + 1..).is_some_and(|t| t.starts_with(next.as_str())) {
                    at += 1;
                }
            }
            at += next.len();
            if at > text.len() {
                return None;
            }
        }
        Some(out)
    }

    /// Names and values of a text; `None` when it doesn't fit.
    pub(crate) fn dissect(&self, text: &str) -> Option<Map<String, Value>> {
        if text.is_empty() {
            return None;
        }
        let pieces = self.cut(text)?;
        let mut found: Map<String, Value> = Map::new();
        for key in &self.keys {
            let value = (*pieces.get(key.place)?).to_owned();
            let named = |found: &Map<String, Value>| found.get(&key.name).and_then(Value::as_str).map(str::to_owned);
            match key.kind {
                Kind::Plain | Kind::Name => drop(found.insert(key.name.clone(), typed(key, value))),
                Kind::Skip if key.name.is_empty() => {}
                Kind::Skip => drop(found.insert(key.name.clone(), Value::String(value))),
                Kind::Append => append(&mut found, key, key.name.clone(), value),
                Kind::Indirect => {
                    if let Some(name) = named(&found) {
                        found.insert(name, Value::String(value));
                    }
                }
                Kind::AppendIndirect => {
                    if let Some(name) = named(&found) {
                        append(&mut found, key, name, value);
                    }
                }
            }
        }
        for key in self.keys.iter().filter(|k| matches!(k.kind, Kind::Name | Kind::Skip)) {
            found.remove(&key.name);
        }
        Some(found)
    }
}

fn append(found: &mut Map<String, Value>, key: &Key, name: String, value: String) {
    let join = if key.before.is_empty() { " " } else { key.before.as_str() };
    let joined = match found.get(&name).and_then(Value::as_str) {
        Some(old) => format!("{old}{join}{value}"),
        None => value,
    };
    found.insert(name, Value::String(joined));
}

fn typed(key: &Key, text: String) -> Value {
    let text = Value::String(text);
    key.of_type.and_then(|t| t.of(&text)).unwrap_or(text)
}

/// What stands between `%{` and `}`.
fn key_of(text: &str, place: usize, before: &str) -> Result<Key, String> {
    let (text, of_type) = match text.split_once('|') {
        None => (text, None),
        Some((text, name)) => {
            (text, Some(Type::named(name).ok_or_else(|| format!("there is no type `{name}` for `{text}`"))?))
        }
    };
    let (text, greedy) = text.strip_suffix("->").map_or((text, false), |t| (t, true));
    let number = |t: &str| t.parse::<u32>().ok().filter(|_| t.len() <= 6);
    let (text, length) = match text.split_once('#').and_then(|(t, n)| Some((t, number(n)?))) {
        Some((t, n)) => (t, Some(n as usize)),
        None => (text, None),
    };
    let (text, ordinal) = match text.rsplit_once('/').and_then(|(t, n)| Some((t, number(n)?))) {
        Some((t, n)) => (t, n),
        None => (text, 0),
    };
    let prefixes = [
        ("+&", Kind::AppendIndirect),
        ("&+", Kind::AppendIndirect),
        ("?", Kind::Skip),
        ("+", Kind::Append),
        ("&", Kind::Indirect),
        ("*", Kind::Name),
    ];
    let found = prefixes.iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, *kind)));
    let (name, kind) = found.unwrap_or((text, if text.is_empty() { Kind::Skip } else { Kind::Plain }));
    if name.is_empty() && kind != Kind::Skip {
        return Err(format!("`%{{{text}}}` has no name"));
    }
    Ok(Key { name: name.to_owned(), kind, place, ordinal, greedy, length, of_type, before: before.to_owned() })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trim {
    left: bool,
    right: bool,
}

#[derive(Debug)]
struct Dissect {
    tokenizer: Tokenizer,
    field: String,
    prefix: String,
    ignore_failure: bool,
    overwrite_keys: bool,
    trim: Trim,
    trim_chars: Vec<char>,
}

impl Dissect {
    fn write(&self, doc: &mut Doc<'_>, found: Map<String, Value>) -> Result<(), String> {
        for (key, value) in found {
            let path = if self.prefix.is_empty() { key } else { format!("{}.{key}", self.prefix) };
            if !self.overwrite_keys {
                match doc.get(&path) {
                    Err(e) if e == tree::NOT_FOUND => {}
                    _ => return Err(format!("cannot override existing key with `{path}`")),
                }
            }
            doc.put(&path, self.trimmed(value))?;
        }
        Ok(())
    }

    fn trimmed(&self, value: Value) -> Value {
        let Value::String(text) = value else { return value };
        let mut cut = text.as_str();
        if self.trim.left {
            cut = cut.trim_start_matches(self.trim_chars.as_slice());
        }
        if self.trim.right {
            cut = cut.trim_end_matches(self.trim_chars.as_slice());
        }
        Value::from(cut)
    }
}

impl Action for Dissect {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let text = match doc.get(&self.field)?.text() {
            None => return Err(format!("field is not a string, field: `{}`", self.field)),
            Some(text) => to_text(text),
        };
        let Some(found) = self.tokenizer.dissect(&text) else {
            tag(doc, "log.flags", &["dissect_parsing_error".to_owned()])?;
            return if self.ignore_failure { Ok(Done::Keep) } else { Err("the text doesn't fit".to_owned()) };
        };
        let kept = doc.keep();
        self.write(doc, found).inspect_err(|_| doc.restore(kept))?;
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let text = required(s, "tokenizer")?;
    let tokenizer = Tokenizer::new(&text).map_err(|e| {
        s.error("tokenizer", e, "write it like `%{level} [%{module}] %{text}`, with the text between as it stands")
    })?;
    let trim = match s.choice("trim_values", &["none", "left", "right", "all"])? {
        Some("left") => Trim { left: true, right: false },
        Some("right") => Trim { left: false, right: true },
        Some("all") => Trim { left: true, right: true },
        _ => Trim::default(),
    };
    Ok(Box::new(Dissect {
        tokenizer,
        field: s.str("field")?.filter(|f| !f.is_empty()).unwrap_or_else(|| "message".to_owned()),
        prefix: s.str("target_prefix")?.unwrap_or_else(|| "dissect".to_owned()),
        ignore_failure: s.bool("ignore_failure")?.unwrap_or(false),
        overwrite_keys: s.bool("overwrite_keys")?.unwrap_or(false),
        trim,
        trim_chars: s.str("trim_chars")?.unwrap_or_else(|| " ".to_owned()).chars().collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::processed;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn as_filebeat() {
        for (tokenizer, text, want) in [
            ("%{k1} %{k2}", "one two", json!({"k1": "one", "k2": "two"})),
            ("x %{k1}", "one two", Value::Null),
            ("%{k1} %{k2}", "one", Value::Null),
            ("%{*k} %{&k}", "one two", json!({"one": "two"})),
            ("%{?k} %{&k}", "one two", json!({"one": "two"})),
            ("%{+k} %{+k}", "one two", json!({"k": "one two"})),
            ("%{+k/2} %{+k/1}", "one two", json!({"k": "two one"})),
            ("o%{k}wo", "one two", json!({"k": "ne t"})),
            ("%{k#2}%{r}", "one two", json!({"k": "on", "r": "e two"})),
            ("%{k->} %{r}", "one    two", json!({"k": "one", "r": "two"})),
            ("%{} %{r}", "one two", json!({"r": "two"})),
            ("%{k|integer} %{r|integer}", "12 two", json!({"k": 12, "r": "two"})),
            ("[%{t}] %{l}: %{m}", "[now] INFO: a: b", json!({"t": "now", "l": "INFO", "m": "a: b"})),
        ] {
            let got = Tokenizer::new(tokenizer).unwrap().dissect(text).map_or(Value::Null, Value::Object);
            assert_eq!(got, want, "{tokenizer} on {text}");
        }
        for wrong in ["no key", "%{a", "%{+}", "%{&k}", "%{k|colour}"] {
            assert!(Tokenizer::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_fails_is_flagged_or_left_alone() {
        let event = json!({"message": "one two", "k1": "mine"});
        let run = |options: &str| processed(&format!("[{{dissect: {{{options}}}}}]"), event.clone());
        assert_eq!(
            run("tokenizer: 'x %{k}'"),
            json!({"message": "one two", "k1": "mine", "log": {"flags": ["dissect_parsing_error"]}})
        );
        assert_eq!(run("tokenizer: '%{k1} %{k2}', target_prefix: ''"), event);
        assert_eq!(
            run("tokenizer: '%{k1} %{k2}', target_prefix: '', overwrite_keys: true"),
            json!({"message": "one two", "k1": "one", "k2": "two"})
        );
        assert_eq!(run("tokenizer: '%{a} %{b}'")["dissect"], json!({"a": "one", "b": "two"}));
        assert_eq!(run("tokenizer: '%{a}w%{b}', trim_values: all")["dissect"], json!({"a": "one t", "b": "o"}));
    }

    proptest! {
        #[test]
        fn any_tokenizer_on_any_text(tokenizer in "[%{}a+*&?/#|> -]{0,24}", text in "\\PC{0,30}") {
            if let Ok(t) = Tokenizer::new(&tokenizer) {
                t.dissect(&text);
            }
        }
    }
}
