//! The answer to a `_bulk` request.
//!
//! Comes in: the body, piece by piece. Goes out: [`Verdict`]. Always holds: memory is bounded by the number of events
//! sent; an answer that can't be understood, or that doesn't say something of every event, is never taken for success;
//! of an error only its type and the name of the field are taken, never a value. `"errors":false` ends the parsing: the
//! rest is only drained. Tested below and by the fuzz target `bulk_answer`.

use pillion_event::{Drop, DropKind};

use super::json::{NotJson, Reader, Token};

/// What the target says of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The HTTP status of the event.
    pub status: u16,
    /// Why it was refused.
    pub error: Option<Box<ItemError>>,
}

/// Why an event was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemError {
    /// The error's type, at most 128 bytes of letters, digits, `_`, `.`, `-`.
    pub type_name: String,
    /// The field it is about, at most 128 bytes.
    pub field: Option<String>,
    /// The target's text, cut off. May quote values: only for a dead-letter index at the same target, never for logs,
    /// receipts or metrics.
    pub reason: String,
}

impl Item {
    /// What goes into the receipt.
    pub fn drop_reason(&self) -> Drop {
        let error = self.error.as_deref();
        Drop {
            kind: DropKind::Rejected(self.status),
            type_name: error.map(|e| e.type_name.clone()).unwrap_or_default(),
            field: error.and_then(|e| e.field.clone()),
        }
    }
}

/// What the answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target has all events.
    AllTaken,
    /// One item for each event, in order.
    Items(Vec<Item>),
    /// It can't be understood, or says too little or too much: nothing is known.
    Unclear,
}

/// Which key the reader stands behind, at each depth of interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Errors,
    Items,
    Status,
    Error,
    Type,
    Reason,
}

/// Reads one answer.
#[derive(Debug)]
pub struct AnswerParser {
    reader: Reader,
    found: Found,
    bad: bool,
}

#[derive(Debug)]
struct Found {
    /// The keys at depth 1 (top), 4 (action) and 5 (error).
    names: [Name; 6],
    errors: Option<bool>,
    sent: usize,
    items: Vec<Item>,
    too_many: bool,
}

impl AnswerParser {
    /// A parser for the answer to a request with this many events.
    pub fn new(sent: usize) -> AnswerParser {
        let found = Found { names: [Name::Other; 6], errors: None, sent, items: Vec::new(), too_many: false };
        AnswerParser { reader: Reader::new(), found, bad: false }
    }

    /// Takes the next piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        if self.bad || self.found.errors == Some(false) {
            return;
        }
        let found = &mut self.found;
        if self.reader.push(piece, &mut |depth, token| found.take(depth, &token)) == Err(NotJson) {
            self.bad = true;
        }
    }

    /// The body has ended as its framing said it would.
    pub fn finish(self) -> Verdict {
        match self.found.errors {
            // What came before it was well-formed; what may be wrong behind it was not looked at.
            Some(false) => Verdict::AllTaken,
            _ if self.bad || self.found.too_many || !self.reader.is_complete() => Verdict::Unclear,
            _ if self.found.items.len() != self.found.sent => Verdict::Unclear,
            _ if self.found.items.iter().any(|i| i.status < 200) => Verdict::Unclear,
            _ => Verdict::Items(self.found.items),
        }
    }
}

impl Found {
    fn take(&mut self, depth: u32, token: &Token<'_>) {
        let name = |d: usize| self.names.get(d).copied().unwrap_or_default();
        let in_item = name(1) == Name::Items;
        match (depth, token) {
            (1..=5, Token::Key(key)) => self.named(depth as usize, key),
            (1, Token::Bool(errors)) if name(1) == Name::Errors => self.errors = Some(*errors),
            (2, Token::Object) if in_item => {
                if self.items.len() == self.sent {
                    self.too_many = true;
                } else {
                    self.items.push(Item::default());
                }
            }
            (4, Token::Number(n)) if in_item && name(4) == Name::Status => {
                let status = std::str::from_utf8(n).ok().and_then(|n| n.parse().ok());
                if let (Some(item), Some(status)) = (self.items.last_mut(), status) {
                    item.status = status;
                }
            }
            // Before 2.0 an error was a text; a proxy may still send one.
            (4, Token::Text(text)) if in_item && name(4) == Name::Error => self.error(|e| e.set_reason(text)),
            (5, Token::Text(text)) if in_item && name(4) == Name::Error => match name(5) {
                Name::Type => self.error(|e| e.type_name = identifier(text)),
                Name::Reason => self.error(|e| e.set_reason(text)),
                _ => {}
            },
            _ => {}
        }
    }

    fn named(&mut self, depth: usize, key: &[u8]) {
        let name = match (depth, key) {
            (1, b"errors") => Name::Errors,
            (1, b"items") => Name::Items,
            (4, b"status") => Name::Status,
            (4, b"error") => Name::Error,
            (5, b"type") => Name::Type,
            (5, b"reason") => Name::Reason,
            _ => Name::Other,
        };
        if let Some(slot) = self.names.get_mut(depth) {
            *slot = name;
        }
    }

    fn error(&mut self, set: impl FnOnce(&mut ItemError)) {
        if let (Some(item), false) = (self.items.last_mut(), self.too_many) {
            set(item.error.get_or_insert_default());
        }
    }
}

impl ItemError {
    fn set_reason(&mut self, text: &[u8]) {
        self.reason = String::from_utf8_lossy(text).into_owned();
        self.field = field_in(&self.reason);
    }
}

/// At most 128 bytes, and only what types are made of, so that no value can hide in it.
fn identifier(text: &[u8]) -> String {
    let plain = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.iter().take(128).filter(plain).map(|b| char::from(*b)).collect()
}

/// The field that an error names, at the known places of the known texts alone: elsewhere in brackets stand values.
fn field_in(reason: &str) -> Option<String> {
    // Since 8.10 a position is put in front: "[1:23] failed to parse field [a] of type …".
    let reason = match reason.strip_prefix('[').and_then(|r| r.split_once("] ")) {
        Some((position, rest)) if position.bytes().all(|b| b.is_ascii_digit() || b == b':') => rest,
        _ => reason,
    };
    const BEFORE: [&str; 5] = [
        "failed to parse field [",
        "failed to parse [",
        "object mapping for [",
        "mapper [",
        "mapping set to strict, dynamic introduction of [",
    ];
    let rest = BEFORE.iter().find_map(|b| reason.strip_prefix(b))?;
    let field = rest.split(']').next()?;
    let mut end = field.len().min(128);
    while !field.is_char_boundary(end) {
        end -= 1;
    }
    let field = field.get(..end).unwrap_or_default();
    (!field.is_empty()).then(|| field.to_string())
}

/// For the fuzz target: however the body is cut, the verdict is the same, and it never says more than was sent.
pub fn fuzz_answer(data: &[u8]) {
    let sent = 3;
    let verdict = |step: usize| {
        let mut parser = AnswerParser::new(sent);
        data.chunks(step).for_each(|piece| parser.push(piece));
        parser.finish()
    };
    let whole = verdict(data.len().max(1));
    assert_eq!(whole, verdict(1));
    assert_eq!(whole, verdict(7));
    if let Verdict::Items(items) = whole {
        assert_eq!(items.len(), sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str, sent: usize) -> Verdict {
        let verdict = |step| {
            let mut parser = AnswerParser::new(sent);
            body.as_bytes().chunks(step).for_each(|p| parser.push(p));
            parser.finish()
        };
        let whole = verdict(body.len().max(1));
        assert_eq!(whole, verdict(1), "{body}");
        whole
    }

    #[test]
    fn no_errors_ends_the_parsing() {
        for body in [
            r#"{"took":3,"errors":false,"items":[{"create":{"status":201}}]}"#,
            r#"{"took":0,"errors":false}"#,
            r#"{"errors":false,"items":[{"create":"#,
        ] {
            assert_eq!(parse(body, 2), Verdict::AllTaken, "{body}");
        }
    }

    #[test]
    fn items_with_and_without_errors() {
        let body = r#"{"took":30,"errors":true,"items":[
            {"create":{"_index":"i","status":201,"_shards":{"status":7}}},
            {"create":{"_id":"1","status":409,"error":{"type":"version_conflict_engine_exception","reason":"[1]: version conflict"}}},
            {"index":{"error":{"type":"document_parsing_exception","reason":"[1:9] failed to parse field [n] of type [long] in document with id 'x'. Preview of field's value: 'secret'","caused_by":{"type":"other","reason":"For input string: \"secret\""}},"status":400}}]}"#;
        let Verdict::Items(items) = parse(body, 3) else { panic!() };
        assert_eq!(items.iter().map(|i| i.status).collect::<Vec<_>>(), [201, 409, 400]);
        assert_eq!(items[0].error, None);
        let drop = items[2].drop_reason();
        assert_eq!((drop.kind, drop.type_name.as_str()), (DropKind::Rejected(400), "document_parsing_exception"));
        assert_eq!(drop.field.as_deref(), Some("n"));
        assert!(!format!("{drop:?}").contains("secret"));
    }

    #[test]
    fn errors_may_come_last_and_be_texts() {
        let body = r#"{"items":[{"create":{"status":400,"error":"MapperParsingException[failed]"}}],"errors":true}"#;
        let Verdict::Items(items) = parse(body, 1) else { panic!() };
        assert_eq!(items[0].drop_reason().type_name, "");
    }

    #[test]
    fn what_says_too_little_is_unclear() {
        for body in [
            "",
            "{}",
            "<html>busy</html>",
            r#"{"errors":true}"#,
            r#"{"errors":true,"items":[]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}}]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{}}]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}}]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":201}}"#,
            r#"{"items":{"errors":false}}"#,
            r#"{"errors":"false"}"#,
        ] {
            assert_eq!(parse(body, 2), Verdict::Unclear, "{body}");
        }
    }

    #[test]
    fn fields_are_names_and_never_values() {
        for (reason, field) in [
            ("failed to parse [status]", Some("status")),
            ("failed to parse field [a.b] of type [date]", Some("a.b")),
            ("object mapping for [x] tried to parse field [x] as object", Some("x")),
            ("mapper [y] cannot be changed from type [long] to [text]", Some("y")),
            ("mapping set to strict, dynamic introduction of [z] within [_doc] is not allowed", Some("z")),
            ("failed to parse date field [2020-13-01] with format [x]", None),
            ("Limit of total fields [1000] has been exceeded", None),
            ("[secret] failed to parse field [x]", None),
            ("failed to parse [] ", None),
        ] {
            assert_eq!(field_in(reason).as_deref(), field, "{reason}");
        }
        let long = format!("failed to parse [{}]", "ä".repeat(200));
        assert_eq!(field_in(&long).unwrap().len(), 128);
        assert_eq!(identifier(b"a b\"c\x00_exception"), "abc_exception");
    }

    proptest::proptest! {
        #[test]
        fn any_piece_of_an_answer_is_read_alike_however_it_is_cut(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"errors\":", "\"items\":[", "true", "false", "{\"create\":{\"status\":",
                "201}}", "409,\"error\":{\"type\":\"x\",\"reason\":\"mapper [a]\"}}}", "\"", "\\u00", "e4", "\\", " 1.5e3", "\u{0}",
            ]), 0..40),
        ) {
            fuzz_answer(pieces.concat().as_bytes());
        }
    }

    #[test]
    fn the_fuzz_entry_takes_anything() {
        for data in [&b""[..], b"{\"errors\":true,\"items\":[{\"a\":{\"status\":400}}]}", b"\"\\ud800", b"[[[["] {
            fuzz_answer(data);
        }
    }
}
