//! truncate_fields.

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, required_list, tag};
use crate::doc::{Doc, to_text};
use crate::tree;

/// Where a text is cut.
#[derive(Clone, Copy, Debug)]
enum Max {
    Bytes(usize),
    Characters(usize),
}

#[derive(Debug)]
struct Truncate {
    fields: Vec<String>,
    max: Max,
    ignore_missing: bool,
    fail_on_error: bool,
}

impl Truncate {
    fn one(&self, doc: &mut Doc<'_>, field: &str) -> Result<(), String> {
        let cut = match doc.get(field) {
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(()),
            Err(e) => return Err(format!("could not fetch value for key: {field}, Error: {e}")),
            Ok(got) => match got.text() {
                None => return Err(format!("value cannot be truncated: {}", pillion_event::go_type(&got.to_value()))),
                Some(text) => self.cut(text),
            },
        };
        let Some(cut) = cut else { return Ok(()) };
        doc.put(field, Value::String(cut)).map_err(|e| format!("could not add truncated string value for key: {e}"))?;
        tag(doc, "log.flags", &["truncated".to_owned()])
    }

    /// The text, when it is too long.
    fn cut(&self, text: &[u8]) -> Option<String> {
        match self.max {
            Max::Bytes(n) => (text.len() > n).then(|| to_text(text.get(..n).unwrap_or_default())),
            Max::Characters(n) => {
                let text = to_text(text);
                let end = text.char_indices().nth(n)?.0;
                Some(text.get(..end).unwrap_or_default().to_owned())
            }
        }
    }
}

impl Action for Truncate {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = self.fail_on_error.then(|| doc.keep());
        for field in &self.fields {
            let Err(e) = self.one(doc, field) else { continue };
            if let Some(kept) = kept {
                doc.restore(kept);
                // Filebeat says it in its own log alone.
                return Err(e);
            }
        }
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let size = |key| Ok(s.size(key)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)).filter(|n| *n > 0));
    let max = match (size("max_bytes")?, size("max_characters")?) {
        (Some(n), None) => Max::Bytes(n),
        (None, Some(n)) => Max::Characters(n),
        _ => return Err(s.error_here("how long a field may be isn't clear", "give max_bytes or max_characters")),
    };
    Ok(Box::new(Truncate {
        fields: required_list(s, "fields")?,
        max,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        // Whatever its documentation says.
        fail_on_error: s.bool("fail_on_error")?.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::json;

    #[test]
    fn as_filebeat() {
        let event = json!({"message": "abcdéf", "j": {"s": "abcdéf"}});
        for (processor, path, want) in [
            ("truncate_fields: {fields: [j.s], max_bytes: 5}", "/j/s", json!("abcd\u{fffd}")),
            ("truncate_fields: {fields: [j.s], max_characters: 5}", "/j/s", json!("abcdé")),
            ("truncate_fields: {fields: [message], max_bytes: 3}", "/message", json!("abc")),
            ("truncate_fields: {fields: [message], max_bytes: 3}", "/log/flags", json!(["truncated"])),
            ("truncate_fields: {fields: [message], max_characters: 6}", "/message", json!("abcdéf")),
        ] {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            assert_eq!(got.pointer(path), Some(&want), "{processor}: {got}");
        }
        for fields in ["message, zz", "message, j"] {
            let steps = |more: &str| format!("[{{truncate_fields: {{fields: [{fields}], max_bytes: 3{more}}}}}]");
            assert_eq!(processed(&steps(", fail_on_error: true"), event.clone()), event, "{fields}");
            assert_eq!(processed(&steps(""), event.clone())["message"], "abc", "{fields}");
        }
    }
}
