//! Typed reading of one mapping, remembering what was asked for.
//!
//! Comes in: a node of the tree. Goes out: typed values, each problem with its position. Keys may be dotted:
//! `close.on_state_change.inactive` finds the option whichever way it was written.
//!
//! Always holds: a value that nobody has asked for shows up in [`crate::Config::leftovers`]. A null counts as absent,
//! as it does in Filebeat.
//! Tested in `tests/section.rs`.

use std::time::Duration;

use crate::compat::Compat;
use crate::config::Config;
use crate::error::Error;
use crate::keystore::Strict;
use crate::secrets::is_secret;
use crate::suggest::nearest;
use crate::tree::{Map, Node, Value};
use crate::units::{duration_ns, size_bytes};
use crate::value::{go_float, go_int, show_float};

/// One mapping of the configuration.
#[derive(Clone)]
pub struct Section<'a> {
    config: &'a Config,
    node: &'a Node,
    path: String,
}

impl<'a> Section<'a> {
    pub(crate) fn new(config: &'a Config, node: &'a Node, path: String) -> Section<'a> {
        node.take();
        Section { config, node, path }
    }

    /// By which rule files that it names are safe.
    pub fn strict(&self) -> Strict {
        self.config.strict()
    }

    /// The whole name, such as `filebeat.inputs.0.close`; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Filebeat's four folders, as the configuration sets them.
    pub fn paths(&self) -> &'a crate::Paths {
        self.config.paths()
    }

    /// The dialect that the file is written in.
    pub fn compat(&self) -> Compat {
        self.config.compat()
    }

    /// The keys that stand in this mapping, in the order of the text; asking doesn't take them.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let map: Option<&'a Map> = match &self.node.value {
            Value::Map(map) => Some(map),
            _ => None,
        };
        map.into_iter().flat_map(|map| map.entries.iter().map(|(key, _)| key.name.as_str()))
    }

    /// Is there a value other than null? Asking doesn't take it.
    pub fn has(&self, key: &str) -> bool {
        self.node.get(key).is_some_and(|node| !node.is_null())
    }

    /// Takes all below this mapping without looking at it: for sections that are switched off.
    pub fn ignore(&self) {
        self.node.take_all();
    }

    /// A text. Numbers and booleans are written as Filebeat writes them (`0x10` as `16`); where the option is a
    /// secret, as they stand in the file.
    pub fn str(&self, key: &str) -> Result<Option<String>, Error> {
        self.typed(key, "a text", text_of)
    }

    /// Whether `key` (`enabled`, or one that ends in it) leaves something on, which it is where nothing is said. Nothing,
    /// as `${ES_HOSTS:+true}` gives without the variable, is a no; Filebeat refuses it.
    pub fn is_on(&self, key: &str) -> Result<bool, Error> {
        let unset = self.str(key).is_ok_and(|text| text.as_deref() == Some(""));
        Ok(!unset && self.bool(key)?.unwrap_or(true))
    }

    /// A boolean: true, false, and the forms that YAML 1.1 and Go know.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "true or false", |node, _| match &node.value {
            Value::Bool(b) => Some(*b),
            Value::Str(s) => match s.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            },
            _ => None,
        })
    }

    /// A whole number from 0 to 2^64-1.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "a whole number of at least 0", |node, _| u64::try_from(int_of(node)?).ok())
    }

    /// A whole number from 0 to 2^32-1.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.typed(key, "a whole number from 0 to 4294967295", |node, _| u32::try_from(int_of(node)?).ok())
    }

    /// A whole number of at least 0 that fits this machine.
    pub fn usize(&self, key: &str) -> Result<Option<usize>, Error> {
        self.typed(key, "a whole number of at least 0", |node, _| usize::try_from(int_of(node)?).ok())
    }

    /// A whole number that may be negative.
    pub fn i64(&self, key: &str) -> Result<Option<i64>, Error> {
        self.typed(key, "a whole number", |node, _| i64::try_from(int_of(node)?).ok())
    }

    /// A whole number within a range; the error names it.
    pub fn u64_in(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, Error> {
        let Some(n) = self.u64(key)? else { return Ok(None) };
        if range.contains(&n) {
            return Ok(Some(n));
        }
        let remedy = match *range.end() {
            u64::MAX => format!("give a number of at least {}", range.start()),
            end => format!("give a number from {} to {end}", range.start()),
        };
        Err(self.error(key, format!("{} is out of range", self.shown(key)), remedy))
    }

    /// A file's permission bits, at most `0o777`: `0600`, in quotes or not, as octal numbers are in YAML 1.1.
    pub fn file_mode(&self, key: &str) -> Result<Option<u32>, Error> {
        match self.u64(key)? {
            Some(mode) if mode > 0o777 => Err(self.error(
                key,
                format!("{} isn't a file mode", self.shown(key)),
                "write it as an octal number with its leading zero, such as 0600",
            )),
            mode => Ok(mode.and_then(|mode| u32::try_from(mode).ok())),
        }
    }

    /// A number.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, Error> {
        self.typed(key, "a number", |node, _| match &node.value {
            Value::Int(n) => Some(*n as f64),
            Value::Float(f) if f.is_finite() => Some(*f),
            Value::Str(s) => go_float(s),
            _ => None,
        })
    }

    /// A time span of at least 0: Go's syntax (`1h2m3.5s`), a bare number means seconds.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(ns) = self.signed_duration_ns(key)? else { return Ok(None) };
        match u64::try_from(ns) {
            Ok(ns) => Ok(Some(Duration::from_nanos(ns))),
            Err(_) => Err(self.error(key, "a time span can't be negative here", "give a time span such as `5m`, or 0")),
        }
    }

    /// A time span that may be negative (`clean_inactive: -1` means off), in nanoseconds.
    pub fn signed_duration_ns(&self, key: &str) -> Result<Option<i64>, Error> {
        const SECOND: i128 = 1_000_000_000;
        self.typed(key, "a time span such as `10s`, `5m` or `1h30m` (a bare number means seconds)", |node, _| {
            let ns = match &node.value {
                Value::Int(n) => n.checked_mul(SECOND)?,
                Value::Float(f) if f.is_finite() => (f * 1e9) as i128,
                Value::Str(s) => match duration_ns(s) {
                    Some(ns) => i128::from(ns),
                    None => go_int(s)?.checked_mul(SECOND)?,
                },
                _ => return None,
            };
            i64::try_from(ns).ok()
        })
    }

    /// A number of bytes: `10485760`, `10MiB`, `10MB`, `1kb`.
    pub fn size(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "a number of bytes such as `10485760`, `10MiB` or `10MB`", |node, _| match &node.value {
            Value::Int(n) => u64::try_from(*n).ok(),
            Value::Float(_) | Value::Str(_) => size_bytes(node.written.as_deref().or(str_of(node))?),
            _ => None,
        })
    }

    /// A list of texts, or one text as a list of one; empty when absent.
    pub fn strings(&self, key: &str) -> Result<Vec<String>, Error> {
        let Some(node) = self.take(key)? else { return Ok(Vec::new()) };
        let secret = is_secret(&self.full(key));
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            item.take();
            if let Value::Bad(e) = &item.value {
                return Err(e.clone());
            }
            if item.is_null() {
                continue;
            }
            match text_of(item, secret) {
                Some(text) => out.push(text),
                None => return Err(self.mismatch(key, item, "a text, or a list of texts")),
            }
        }
        Ok(out)
    }

    /// A list of regular expressions, or one as a list of one; empty when absent.
    pub fn regexes(&self, key: &str) -> Result<Vec<regex::bytes::Regex>, Error> {
        self.strings(key)?.iter().map(|pattern| self.compile(key, pattern)).collect()
    }

    /// A regular expression.
    pub fn regex(&self, key: &str) -> Result<Option<regex::bytes::Regex>, Error> {
        self.str(key)?.map(|pattern| self.compile(key, &pattern)).transpose()
    }

    fn compile(&self, key: &str, pattern: &str) -> Result<regex::bytes::Regex, Error> {
        regex::bytes::Regex::new(pattern).map_err(|e| {
            let text = e.to_string();
            let why = text.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_owned();
            self.error(
                key,
                format!("not a regular expression: {why}"),
                "Filebeat's patterns are RE2: no look-around and no back-references; put the pattern in single quotes",
            )
        })
    }

    /// One of the words given.
    pub fn choice<'c>(&self, key: &str, words: &[&'c str]) -> Result<Option<&'c str>, Error> {
        let Some(word) = self.str(key)? else { return Ok(None) };
        if let Some(known) = words.iter().find(|known| **known == word) {
            return Ok(Some(known));
        }
        let list = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let remedy = match nearest(&word, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Known are {list}"),
            None => format!("known are {list}"),
        };
        Err(self.error(key, format!("{} isn't known here", self.shown(key)), remedy))
    }

    /// A mapping below this one; `None` when absent or null.
    pub fn section(&self, key: &str) -> Result<Option<Section<'a>>, Error> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match &node.value {
            Value::Map(_) => Ok(Some(Section::new(self.config, node, self.full(key)))),
            Value::List(items) if items.is_empty() => Ok(None),
            _ => Err(self.mismatch(key, node, "a section with options of its own")),
        }
    }

    /// A list of mappings; empty when absent. Null items are left out.
    pub fn sections(&self, key: &str) -> Result<Vec<Section<'a>>, Error> {
        let Some(node) = self.take(key)? else { return Ok(Vec::new()) };
        let Value::List(items) = &node.value else {
            return Err(self.mismatch(key, node, "a list: each entry begins with `- `"));
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            item.take();
            match &item.value {
                Value::Map(_) => out.push(Section::new(self.config, item, format!("{}.{i}", self.full(key)))),
                Value::Null => {}
                Value::Bad(e) => return Err(e.clone()),
                _ => return Err(self.mismatch(key, item, "a section with options of its own")),
            }
        }
        Ok(out)
    }

    /// An empty section in the place of one that isn't there, for what something else switches on.
    pub fn absent(&self, key: &str) -> Section<'a> {
        Section::new(self.config, &self.config.nothing, self.full(key))
    }

    /// Each key of this mapping with what is below it as a section; a null counts as an empty one, as in
    /// `output.console:` with nothing below.
    pub fn named_sections(&self) -> Result<Vec<(&'a str, Section<'a>)>, Error> {
        let Value::Map(map) = &self.node.value else { return Ok(Vec::new()) };
        let mut out = Vec::with_capacity(map.entries.len());
        for (key, node) in &map.entries {
            node.take();
            match &node.value {
                Value::Map(_) | Value::Null => {
                    out.push((key.name.as_str(), Section::new(self.config, node, self.full(&key.name))));
                }
                Value::Bad(e) => return Err(e.clone()),
                _ => return Err(self.mismatch(&key.name, node, "a section with options of its own")),
            }
        }
        Ok(out)
    }

    /// A value of any shape as JSON, for `fields` and the like; all below it is taken. An empty section is null, as in
    /// Filebeat, and at the top absent.
    pub fn json(&self, key: &str) -> Result<Option<serde_json::Value>, Error> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        node.take_all();
        Ok(Some(to_json(node)?).filter(|json| !json.is_null()))
    }

    /// All of this section as JSON, for comparing; nothing is taken.
    ///
    /// # Errors
    /// A value whose variable can't be resolved.
    pub fn whole(&self) -> Result<serde_json::Value, Error> {
        to_json(self.node)
    }

    /// An error about an option of this section, at the position of its value, or where it would stand.
    pub fn error(&self, key: &str, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        let node = self.nearest_node(key);
        Error::at(&node.at, &self.full(key), reason, remedy)
    }

    /// An error about the section itself.
    pub fn error_here(&self, reason: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::at(&self.node.at, &self.path, reason, remedy)
    }

    /// Says something about an option without refusing it: [`Config::warnings`] returns it.
    pub fn warn(&self, key: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        self.config.push_warning(self.error(key, reason, remedy));
    }

    /// The value as it may be shown in a message: in backquotes, or masked when it is a secret or came from a
    /// variable.
    pub fn shown(&self, key: &str) -> String {
        let Some(node) = self.node.get(key) else { return "nothing".to_owned() };
        if node.hidden || is_secret(&self.full(key)) {
            return "the value".to_owned();
        }
        match text_of(node, true) {
            Some(text) => format!("`{}`", text.chars().take(80).collect::<String>()),
            None => "the value".to_owned(),
        }
    }

    fn full(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{key}", self.path),
        }
    }

    /// The node of a dotted key, or the nearest one above it that is there.
    fn nearest_node(&self, key: &str) -> &'a Node {
        let mut path = key;
        loop {
            if let Some(node) = self.node.get(path) {
                return node;
            }
            match path.rsplit_once('.') {
                Some((above, _)) => path = above,
                None => return self.node,
            }
        }
    }

    /// The value of a dotted key, taken, with all sections on the way; `None` when absent or null.
    fn take(&self, key: &str) -> Result<Option<&'a Node>, Error> {
        let mut node = self.node;
        let mut at = String::new();
        if node.is_null() {
            return Ok(None);
        }
        for part in key.split('.') {
            let Value::Map(map) = &node.value else {
                return Err(self.mismatch(&at, node, "a section with options of its own"));
            };
            let Some(below) = map.get(part) else { return Ok(None) };
            below.take();
            if !at.is_empty() {
                at.push('.');
            }
            at.push_str(part);
            match &below.value {
                Value::Null => return Ok(None),
                Value::Bad(e) => return Err(e.clone()),
                _ => node = below,
            }
        }
        Ok(Some(node))
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: impl Fn(&Node, bool) -> Option<T>) -> Result<Option<T>, Error> {
        let Some(node) = self.take(key)? else { return Ok(None) };
        match read(node, is_secret(&self.full(key))) {
            Some(value) => Ok(Some(value)),
            None => Err(self.mismatch(key, node, wanted)),
        }
    }

    fn mismatch(&self, key: &str, node: &Node, wanted: &str) -> Error {
        let found = match &node.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) | Value::Bad(_) => "a section",
        };
        let key = self.full(key);
        let found = match text_of(node, true) {
            Some(text) if !node.hidden && !is_secret(&key) => {
                format!("{found}: `{}`", text.chars().take(80).collect::<String>())
            }
            _ => found.to_owned(),
        };
        Error::at(&node.at, &key, format!("this is {found}"), format!("give {wanted}"))
    }
}

/// Without the values: there may be secrets among them.
impl std::fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Section({})", self.path)
    }
}

fn str_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Str(s) => Some(s),
        _ => None,
    }
}

/// The value as a text; `raw`: as it was written.
fn text_of(node: &Node, raw: bool) -> Option<String> {
    if raw && let Some(written) = &node.written {
        return Some(written.to_string());
    }
    match &node.value {
        Value::Str(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Int(n) => Some(n.to_string()),
        Value::Float(f) => Some(show_float(*f)),
        // A variable whose text has a comma in it, where a text is wanted: take it as it is.
        Value::List(_) | Value::Map(_) => node.written.as_deref().map(str::to_owned),
        Value::Null | Value::Bad(_) => None,
    }
}

fn int_of(node: &Node) -> Option<i128> {
    match &node.value {
        Value::Int(n) => Some(*n),
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 1e18 => Some(*f as i128),
        Value::Str(s) => go_int(s),
        _ => None,
    }
}

pub(crate) fn to_json(node: &Node) -> Result<serde_json::Value, Error> {
    use serde_json::Value as Json;
    Ok(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) => match (u64::try_from(*n), i64::try_from(*n)) {
            (Ok(n), _) => Json::from(n),
            (_, Ok(n)) => Json::from(n),
            _ => Json::Null,
        },
        Value::Float(f) => Json::from(*f),
        Value::Str(s) => Json::String(s.clone()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        // As in Filebeat, where an empty section is nothing.
        Value::Map(map) if map.entries.is_empty() => Json::Null,
        Value::Map(map) => {
            let mut out = serde_json::Map::new();
            for (key, node) in &map.entries {
                out.insert(key.name.clone(), to_json(node)?);
            }
            Json::Object(out)
        }
        Value::Bad(e) => return Err(e.clone()),
    })
}
