//! decode_csv_fields: the first record of a text, as Go's `encoding/csv` reads it with `LazyQuotes`.

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, fetch_text, mappings};
use crate::doc::{Doc, to_text};

#[derive(Debug)]
struct DecodeCsv {
    /// From and to.
    fields: Vec<(String, String)>,
    separator: char,
    ignore_missing: bool,
    trim_leading_space: bool,
    overwrite_keys: bool,
    fail_on_error: bool,
}

/// The first record that isn't an empty line; `None` = there is none. A quoted part may have line ends in it, `""` stands
/// for a quote, and a quote in the wrong place is one too.
fn record(text: &str, separator: char, trim: bool) -> Option<Vec<String>> {
    let mut rest = text.trim_start_matches(['\r', '\n']);
    if rest.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    loop {
        if trim {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() && c != '\n' && c != separator);
        }
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find([separator, '\n']).unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                (field.to_owned(), after)
            }
            Some(quoted) => unquote(quoted, separator),
        };
        let ended = !after.starts_with(separator);
        // The line's end may have a carriage return.
        out.push(if ended { field.strip_suffix('\r').map_or(field.clone(), str::to_owned) } else { field });
        match after.strip_prefix(separator) {
            Some(more) => rest = more,
            None => return Some(out),
        }
    }
}

/// What is in quotes (the first one is taken off), and what follows: a separator, a line end, or nothing.
fn unquote(mut rest: &str, separator: char) -> (String, &str) {
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once('"') {
        out.push_str(before);
        if let Some(more) = after.strip_prefix('"') {
            out.push('"');
            rest = more;
        } else if after.is_empty() || after.starts_with([separator, '\n']) || after.starts_with("\r\n") {
            return (out, after);
        } else {
            // A quote in the middle of a quoted field.
            out.push('"');
            rest = after;
        }
    }
    out.push_str(rest);
    (out, "")
}

impl DecodeCsv {
    fn one(&self, doc: &mut Doc<'_>, from: &str, to: &str) -> Result<(), String> {
        let wrong = |_: &str, _: &str| format!("field {from} is not of string type");
        let what = "could not fetch value for field";
        let Some(text) = fetch_text(doc, from, what, self.ignore_missing, wrong)? else { return Ok(()) };
        let Some(record) = record(&to_text(&text), self.separator, self.trim_leading_space) else {
            return Err(format!("error decoding CSV from field {from}: EOF"));
        };
        if from != to && !self.overwrite_keys && doc.get(to).is_ok() {
            return Err(format!(
                "target field {to} already has a value. Set the overwrite_keys flag or drop/rename the field first"
            ));
        }
        doc.put(to, Value::from(record)).map_err(|e| format!("failed setting field {to}: {e}"))
    }
}

impl Action for DecodeCsv {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = (self.fail_on_error && self.fields.len() > 1).then(|| doc.keep());
        for (from, to) in &self.fields {
            let Err(e) = self.one(doc, from, to) else { continue };
            if self.fail_on_error {
                if let Some(kept) = kept {
                    doc.restore(kept);
                }
                return Err(e);
            }
        }
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let separator = s.str("separator")?.unwrap_or_else(|| ",".to_owned());
    let mut chars = separator.chars();
    let (Some(one), None) = (chars.next(), chars.next()) else {
        return Err(s.error("separator", "a separator is one character", "give one character, such as ','"));
    };
    if matches!(one, '"' | '\r' | '\n') {
        return Err(s.error("separator", "quotes and line ends can't separate fields", "give another character"));
    }
    Ok(Box::new(DecodeCsv {
        fields: mappings(s, "fields")?,
        separator: one,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        trim_leading_space: s.bool("trim_leading_space")?.unwrap_or(false),
        overwrite_keys: s.bool("overwrite_keys")?.unwrap_or(false),
        fail_on_error: s.bool("fail_on_error")?.unwrap_or(true),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    #[test]
    fn records_as_go_reads_them() {
        for (text, want) in [
            ("a,b", Some(vec!["a", "b"])),
            ("a,b\r\nc", Some(vec!["a", "b"])),
            ("\n\na", Some(vec!["a"])),
            ("", None),
            ("\n", None),
            (",", Some(vec!["", ""])),
            ("\"a,b\",c", Some(vec!["a,b", "c"])),
            ("\"a\nb\",c\nd", Some(vec!["a\nb", "c"])),
            ("\"a\"b\",c", Some(vec!["a\"b", "c"])),
            ("a \"b\",c", Some(vec!["a \"b\"", "c"])),
            ("\"open", Some(vec!["open"])),
            ("\"a\"\r\nb", Some(vec!["a"])),
        ] {
            assert_eq!(record(text, ',', false), want.map(|w| w.iter().map(|s| (*s).to_owned()).collect()), "{text:?}");
        }
    }

    /// `decode_csv_fields_test.go`, 9.
    #[test]
    fn as_filebeat() {
        let event = json!({"message": "17,192.168.33.1,8.8.8.8", "my": {"field": "1,2"}, "q": "\"hello \"\"world\"\"\"",
            "semi": "1.5;false;hello world;3", "space": " Here's,   some,   extra ,whitespace", "old": 42,
            "beer": "🐢🍺🌔🐈🍺🍺🐥🐲"});
        for (options, change) in [
            ("fields: {message: message}", json!({"message": ["17", "192.168.33.1", "8.8.8.8"]})),
            ("fields: {my: {field: out}}", json!({"out": ["1", "2"]})),
            ("fields: {q: old}", json!({})),
            ("fields: {q: old}, overwrite_keys: true", json!({"old": ["hello \"world\""]})),
            ("fields: {semi: semi}, separator: ;", json!({"semi": ["1.5", "false", "hello world", "3"]})),
            (
                "fields: {space: space}, trim_leading_space: true",
                json!({"space": ["Here's", "some", "extra ", "whitespace"]}),
            ),
            ("fields: {beer: beer}, separator: 🍺", json!({"beer": ["🐢", "🌔🐈", "", "🐥🐲"]})),
            ("fields: {old: x}", json!({})),
            ("fields: {zz: x}", json!({})),
            ("fields: {zz: x}, ignore_missing: true", json!({})),
            ("fields: {semi: semi, zz: x}", json!({})),
            ("fields: {semi: semi, zz: x}, fail_on_error: false", json!({"semi": ["1.5;false;hello world;3"]})),
        ] {
            let got = processed(&format!("[{{decode_csv_fields: {{{options}}}}}]"), event.clone());
            assert_eq!(got, with(&event, change), "{options}");
        }
    }
}
