//! detect_mime_type: what a field's text is, by how it begins.
//!
//! Always holds: first the formats that are known by their first bytes, then the table of texts of the WHATWG's MIME
//! Sniffing Standard (as Go's `http.DetectContentType`), and of what is text, JSON and XML are told apart by reading all
//! of it. What is none of these gets no field. The target's name is one name, with dots or without, as in Filebeat.

use pillion_config::{Error, Section};
use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::action::{Action, Done, required};
use crate::doc::Doc;

/// How much of a text is looked at for its first bytes.
const HEAD: usize = 8192;
/// How much of it tells whether it is text.
const SNIFFED: usize = 512;

#[derive(Debug)]
struct DetectMimeType {
    field: String,
    target: String,
}

impl Action for DetectMimeType {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        if let Ok(Ok(text)) = doc.bytes(&self.field)
            && let Some(found) = detect(&text)
        {
            doc.merge([(self.target.clone(), Value::String(found.to_owned()))].into_iter().collect(), true);
        }
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    Ok(Box::new(DetectMimeType { field: required(s, "field")?, target: required(s, "target")? }))
}

fn detect(text: &[u8]) -> Option<&'static str> {
    if text.is_empty() {
        return None;
    }
    let head = text.get(..HEAD).unwrap_or(text);
    if let Some(known) = infer::get(head)
        && !matches!(known.matcher_type(), infer::MatcherType::Text | infer::MatcherType::Custom)
    {
        return Some(known.mime_type());
    }
    match sniff(head.get(..SNIFFED).unwrap_or(head))? {
        plain @ "text/plain; charset=utf-8" => Some(encoded(text).unwrap_or(plain)),
        sniffed => Some(sniffed),
    }
}

/// Beginnings of HTML, in upper case; what follows must end the name.
const TAGS: [&[u8]; 17] = [
    b"<!DOCTYPE HTML",
    b"<HTML",
    b"<HEAD",
    b"<SCRIPT",
    b"<IFRAME",
    b"<H1",
    b"<DIV",
    b"<FONT",
    b"<TABLE",
    b"<A",
    b"<STYLE",
    b"<TITLE",
    b"<B",
    b"<BODY",
    b"<BR",
    b"<P",
    b"<!--",
];

fn sniff(head: &[u8]) -> Option<&'static str> {
    let blank = |b: &&u8| matches!(b, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ');
    let text = head.get(head.iter().take_while(blank).count()..).unwrap_or_default();
    let is_tag = |tag: &[u8]| {
        text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag))
            && matches!(text.get(tag.len()), Some(b' ' | b'>'))
    };
    if TAGS.iter().any(|tag| is_tag(tag)) {
        return Some("text/html; charset=utf-8");
    }
    if text.starts_with(b"<?xml") {
        return Some("text/xml; charset=utf-8");
    }
    for (mark, found) in [
        (&b"\xfe\xff"[..], "text/plain; charset=utf-16be"),
        (b"\xff\xfe", "text/plain; charset=utf-16le"),
        (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    ] {
        if head.len() > mark.len() && head.starts_with(mark) {
            return Some(found);
        }
    }
    let binary = |b: &u8| matches!(b, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    (!head.iter().any(binary)).then_some("text/plain; charset=utf-8")
}

fn encoded(text: &[u8]) -> Option<&'static str> {
    if serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        return Some("application/json");
    }
    is_xml(text).then_some("text/xml")
}

/// Whether there is an element, and the first one is whole; Go's decoder doesn't look beyond it.
fn is_xml(text: &[u8]) -> bool {
    // No text of a line can nest deeper than Go's decoder goes.
    const DEPTH: usize = 10_000;
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut reader = Reader::from_str(text);
    let mut depth = 0_usize;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                if depth == DEPTH || start.attributes().any(|attribute| attribute.is_err()) {
                    return false;
                }
                depth += 1;
            }
            Ok(Event::Empty(start)) => {
                if start.attributes().any(|attribute| attribute.is_err()) {
                    return false;
                }
                if depth == 0 {
                    return true;
                }
            }
            Ok(Event::End(_)) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return true;
                }
            }
            Ok(Event::GeneralRef(name)) => {
                let known = matches!(&*name, b"lt" | b"gt" | b"amp" | b"apos" | b"quot") || name.starts_with(b"#");
                if !known {
                    return false;
                }
            }
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::processed;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn as_filebeat_7_17_29() {
        for (text, want) in [
            (&b"<html>Test</html>"[..], "text/html; charset=utf-8"),
            (b"{}", "application/json"),
            (b"{\"a\": 1} x", "text/plain; charset=utf-8"),
            (b"123", "application/json"),
            (b"\"text\"", "application/json"),
            (b"<test></test>", "text/xml"),
            (b"before <b>x</b> after", "text/xml"),
            (b"<test>", "text/plain; charset=utf-8"),
            (b"<c b=c></c>", "text/plain; charset=utf-8"),
            (b"<c>&nbsp;</c>", "text/plain; charset=utf-8"),
            (b"Hello world!", "text/plain; charset=utf-8"),
            (b"%PDF-1.4", "application/pdf"),
            (b"GIF89a", "image/gif"),
            (b"  <!DOCTYPE HTML>", "text/html; charset=utf-8"),
            (b"<?xml version=\"1.0\"?>", "text/xml; charset=utf-8"),
            (b"<br>", "text/html; charset=utf-8"),
            (b"<brx>", "text/plain; charset=utf-8"),
            (b"<!-- comment", "text/html; charset=utf-8"),
            (b"nul\0here", ""),
            (b"\x1b[31mred", "text/plain; charset=utf-8"),
            (b"BM this", "image/bmp"),
            (b"%!PS-Adobe-3", "application/postscript"),
            (b"MZ\x90", "application/vnd.microsoft.portable-executable"),
            (b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x03\0\x01\0\0\0\xf0\xdc\x01\0\x34\0\0\0\x80\xa3\x18\0\0\0\0\0\x34\0\x20\0\x08\0\x28\0\x1e\0\x1d\0\x01", "application/x-executable"),
            (b"\xcf\xfa\xed\xfe\x07\0\0\x01\x03\0\0\0\x02\0\0\0\x10\0\0\0\x58\x05\0\0\x85\0\x20\0", "application/x-mach-binary"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x58\0\0\x02\x58\x08\x02\0\0\0\x31\x04\x0f\x8b", "image/png"),
            (b"", ""),
        ] {
            assert_eq!(detect(text).unwrap_or_default(), want, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_target_is_one_name() {
        let steps = "[{detect_mime_type: {field: message, target: mime.type}}]";
        assert_eq!(
            processed(steps, json!({"message": "{}"})),
            json!({"message": "{}", "mime.type": "application/json"})
        );
        let number = "[{detect_mime_type: {field: n, target: mime}}]";
        assert_eq!(processed(number, json!({"message": "m", "n": 5})), json!({"message": "m", "n": 5}));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text: Vec<u8>) {
            detect(&text);
        }
    }
}
