//! decode_xml: elements as objects.
//!
//! Comes in: a text. Goes out: each element as an object of its attributes and the elements in it; one that has neither
//! is its text, and text beside them is `#text`. Elements of one name make a list. The rules are those of Beats'
//! `encoding/xml`, namespaces are left out.
//!
//! Always holds: nesting is bounded ([`DEPTH`]). A text without an element is an error here, where Filebeat puts an empty
//! object in its place.

use pillion_config::{Error, Section};
use quick_xml::errors::{Error as XmlError, IllFormedError};
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Value};

use crate::action::{Action, Done, fail};
use crate::doc::{Doc, to_text};
use crate::tree;

/// How deep elements may lie in each other.
const DEPTH: usize = 100;

#[derive(Debug)]
struct DecodeXml {
    field: String,
    /// Empty = the root.
    target: String,
    overwrite_keys: bool,
    document_id: Option<String>,
    to_lower: bool,
    ignore_missing: bool,
    ignore_failure: bool,
}

/// An element that isn't closed yet.
#[derive(Default)]
struct Open {
    name: String,
    attributes: Map<String, Value>,
    inside: Map<String, Value>,
    /// The last run of text; one that goes on after a reference is the same run.
    text: String,
    in_run: bool,
}

impl Open {
    fn push(&mut self, text: &str) {
        if !std::mem::replace(&mut self.in_run, true) {
            self.text.clear();
        }
        self.text.push_str(text);
    }

    /// Its name and value.
    fn close(mut self) -> (String, Value) {
        let text = self.text.trim();
        // A text alone is looked for before attributes are added: so it is in Beats.
        if self.inside.is_empty() && self.attributes.is_empty() {
            return (self.name, Value::from(text));
        }
        self.inside.extend(self.attributes);
        if !text.is_empty() {
            self.inside.insert("#text".to_owned(), Value::from(text));
        }
        (self.name, Value::Object(self.inside))
    }
}

/// Puts an element to those of the same name.
fn add(map: &mut Map<String, Value>, name: String, value: Value) {
    match map.get_mut(&name) {
        None => drop(map.insert(name, value)),
        Some(Value::Array(all)) => all.push(value),
        Some(one) => *one = Value::Array(vec![one.take(), value]),
    }
}

fn decode(text: &str, lower: bool) -> Result<Map<String, Value>, String> {
    let mut reader = Reader::from_str(text);
    let mut stack = vec![Open::default()];
    let wrong = |at: u64, why: String| {
        let before = text.as_bytes().get(..at as usize).unwrap_or(text.as_bytes());
        format!("XML syntax error on line {}: {why}", before.iter().filter(|b| **b == b'\n').count() + 1)
    };
    loop {
        let event = reader.read_event();
        let at = reader.buffer_position();
        let event = event.map_err(|e| wrong(at, shown(&e)))?;
        let depth = stack.len();
        let Some(top) = stack.last_mut() else { return Err(wrong(at, "unexpected end element".to_owned())) };
        let own_run = matches!(event, Event::Text(_) | Event::GeneralRef(_));
        if !own_run {
            top.in_run = false;
        }
        match event {
            Event::Start(_) | Event::Empty(_) if depth > DEPTH => {
                return Err(wrong(at, format!("more than {DEPTH} elements lie in each other")));
            }
            Event::Start(start) => stack.push(opened(&start, lower).map_err(|e| wrong(at, e))?),
            Event::Empty(start) => {
                let (name, value) = opened(&start, lower).map_err(|e| wrong(at, e))?.close();
                add(&mut top.inside, name, value);
            }
            Event::End(_) => {
                let closed = stack.pop().map(Open::close);
                if let (Some((name, value)), Some(above)) = (closed, stack.last_mut()) {
                    add(&mut above.inside, name, value);
                }
            }
            Event::Text(part) => top.push(&part.xml_content().map_err(|e| wrong(at, e.to_string()))?),
            Event::CData(part) => {
                top.push(&part.decode().map_err(|e| wrong(at, e.to_string()))?);
                top.in_run = false;
            }
            Event::GeneralRef(part) => {
                let name = part.decode().map_err(|e| wrong(at, e.to_string()))?.into_owned();
                let one = part.resolve_char_ref().map_err(|e| wrong(at, e.to_string()))?.map(String::from);
                let known = one.or_else(|| resolve_predefined_entity(&name).map(str::to_owned));
                top.push(&known.ok_or_else(|| wrong(at, format!("invalid character entity &{name};")))?);
            }
            Event::Eof => {
                return match stack.pop() {
                    Some(root) if stack.is_empty() && !root.inside.is_empty() => Ok(root.inside),
                    Some(_) if stack.is_empty() => Err("there is no element in it".to_owned()),
                    _ => Err(wrong(at, "unexpected EOF".to_owned())),
                };
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// Go's words where they are known.
fn shown(e: &XmlError) -> String {
    match e {
        XmlError::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
            format!("element <{expected}> closed by </{found}>")
        }
        XmlError::IllFormed(IllFormedError::UnmatchedEndTag(name)) => format!("unexpected end element </{name}>"),
        other => other.to_string(),
    }
}

fn opened(start: &BytesStart<'_>, lower: bool) -> Result<Open, String> {
    let key = |name: &[u8]| {
        let name = to_text(name);
        if lower { name.to_lowercase() } else { name }
    };
    let mut attributes = Map::new();
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|e| e.to_string())?;
        let value = to_text(&attribute.value);
        let value = unescape(&value).map_err(|e| e.to_string())?.into_owned();
        attributes.insert(key(attribute.key.local_name().as_ref()), Value::String(value));
    }
    Ok(Open { name: key(start.local_name().as_ref()), attributes, ..Open::default() })
}

impl DecodeXml {
    fn decode(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let text = match doc.get(&self.field) {
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(()),
            Err(e) => return Err(e),
            Ok(got) => got.text().map(to_text).ok_or("field value is not a string")?,
        };
        let mut output = decode(&text, self.to_lower).map_err(|e| format!("error decoding XML field: {e}"))?;
        let id = self.document_id.as_ref().and_then(|path| {
            let id = tree::get(&output, path).ok()?.as_str()?.to_owned();
            tree::delete(&mut output, path).ok().map(|_| id)
        });
        if self.target.is_empty() {
            doc.merge(output, self.overwrite_keys);
        } else {
            doc.put(&self.target, Value::Object(output))?;
        }
        id.map_or(Ok(()), |id| doc.put("@metadata._id", Value::String(id)))
    }
}

impl Action for DecodeXml {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        match self.decode(doc) {
            Err(e) if !self.ignore_failure => {
                fail(doc, format!("failed in decode_xml on the {:?} field: {e}", self.field))
            }
            _ => Ok(Done::Keep),
        }
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let field = s.str("field")?.filter(|f| !f.is_empty()).unwrap_or_else(|| "message".to_owned());
    Ok(Box::new(DecodeXml {
        target: s.str("target_field")?.unwrap_or_else(|| field.clone()),
        field,
        overwrite_keys: s.bool("overwrite_keys")?.unwrap_or(true),
        document_id: s.str("document_id")?.filter(|id| !id.is_empty()),
        to_lower: s.bool("to_lower")?.unwrap_or(true),
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        ignore_failure: s.bool("ignore_failure")?.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    #[test]
    fn elements_as_beats_reads_them() {
        for (text, want) in [
            ("<a>x</a>", json!({"a": "x"})),
            ("<a/>", json!({"a": ""})),
            ("<a b='1'>x</a>", json!({"a": {"b": "1", "#text": "x"}})),
            ("<a b='1'/>", json!({"a": {"b": "1"}})),
            ("<a><b>1</b><b>2</b><c> z </c></a>", json!({"a": {"b": ["1", "2"], "c": "z"}})),
            ("<a>one<b/>two</a>", json!({"a": {"b": "", "#text": "two"}})),
            ("<a>1 &lt; 2 &amp; &#51;</a>", json!({"a": "1 < 2 & 3"})),
            ("<a><![CDATA[<b>]]></a>", json!({"a": "<b>"})),
            (
                "<?xml version='1.0' encoding='UTF-16'?><!-- c --><n:A xmlns:n='u'><n:B>x</n:B></n:A>",
                json!({"A": {"B": "x", "n": "u"}}),
            ),
        ] {
            assert_eq!(decode(text, false).map(Value::Object), Ok(want), "{text}");
        }
        for (text, want) in [
            ("<a><b></c></a>", "XML syntax error on line 1: element <b> closed by </c>"),
            ("<a>\n<b>", "XML syntax error on line 2: unexpected EOF"),
            ("<a>&nope;</a>", "XML syntax error on line 1: invalid character entity &nope;"),
            ("no element", "there is no element in it"),
        ] {
            assert_eq!(decode(text, false), Err(want.to_owned()), "{text}");
        }
        let deep = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert!(decode(&deep(DEPTH), false).is_ok());
        assert!(decode(&deep(DEPTH + 1), false).is_err_and(|e| e.contains("lie in each other")));
    }

    /// `decode_xml_test.go`, 9.
    #[test]
    fn as_filebeat() {
        let text = "<Catalog><Book seq=\"10\"><Author>W. Gaddis</Author></Book></Catalog>";
        let event = json!({"message": text, "num": 1, "bad": "<a></b>", "catalog": "old"});
        let catalog = json!({"book": {"seq": "10", "author": "W. Gaddis"}});
        let failed = |field: &str, text: &str| json!({"error": {"message": format!("failed in decode_xml on the \"{field}\" field: {text}")}});
        for (options, change) in [
            ("field: message, target_field: xml", json!({"xml": {"catalog": catalog}})),
            (
                "field: message, target_field: xml, to_lower: false",
                json!({"xml": {"Catalog": {"Book": {"seq": "10", "Author": "W. Gaddis"}}}}),
            ),
            ("field: message", json!({"message": {"catalog": catalog}})),
            ("target_field: ''", json!({"catalog": catalog})),
            // An object takes the place of a text.
            ("target_field: '', overwrite_keys: false", json!({"catalog": catalog})),
            (
                "target_field: xml, document_id: catalog.book.seq",
                json!({"xml": {"catalog": {"book": {"author": "W. Gaddis"}}}, "@metadata": {"_id": "10"}}),
            ),
            ("field: zz", failed("zz", "key not found")),
            ("field: zz, ignore_missing: true", json!({})),
            ("field: num", failed("num", "field value is not a string")),
            ("field: num, ignore_failure: true", json!({})),
            (
                "field: bad",
                failed("bad", "error decoding XML field: XML syntax error on line 1: element <a> closed by </b>"),
            ),
        ] {
            let got = processed(&format!("[{{decode_xml: {{{options}}}}}]"), event.clone());
            assert_eq!(got, with(&event, change), "{options}");
        }
    }
}
