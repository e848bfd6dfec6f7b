//! syslog: messages of RFC 3164 and RFC 5424 to fields, as Filebeat 8 and 9 name them. See [`crate::syslog`].

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done};
use crate::doc::Doc;
use crate::syslog::{Format, Syslog};
use crate::tree;

#[derive(Debug)]
struct Process {
    field: String,
    syslog: Syslog,
    overwrite_keys: bool,
    ignore_missing: bool,
    ignore_failure: bool,
}

impl Process {
    fn one(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let text = match doc.bytes(&self.field) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return Err(format!("type of field {:?} is not a string", self.field)),
            Err(e) if self.ignore_missing && e == tree::NOT_FOUND => return Ok(()),
            Err(e) => return Err(e),
        };
        let found = self.syslog.parse(&text, doc.read_ms());
        let mut fields = found.fields;
        if let Some(message) = text.get(found.message).filter(|m| !m.is_empty()) {
            fields.insert("message".to_owned(), Value::String(String::from_utf8_lossy(message).into_owned()));
        }
        if !fields.is_empty() {
            doc.merge(fields, self.overwrite_keys);
        }
        if let Some(ms) = found.time_ms {
            doc.set_time(ms);
        }
        found.error.map_or(Ok(()), Err)
    }
}

/// Adds to the event's errors: one is a text, several are a list.
fn add_error(doc: &mut Doc<'_>, error: &str) -> Result<(), String> {
    const KEY: &str = "error.message";
    let all = match doc.get(KEY).map(|got| got.to_value()) {
        Err(_) => Value::from(error),
        Ok(Value::String(one)) => Value::from(vec![one.as_str(), error]),
        Ok(Value::Array(mut list)) => {
            list.push(error.into());
            Value::Array(list)
        }
        Ok(_) => return Ok(()),
    };
    doc.put(KEY, all)
}

impl Action for Process {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        match self.one(doc) {
            Err(e) if !self.ignore_failure => {
                let error = format!("syslog failed to process field {:?}: {e}", self.field);
                add_error(doc, &error)?;
                Err(error)
            }
            _ => Ok(Done::Keep),
        }
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let flag = |key, default| Ok(s.bool(key)?.unwrap_or(default));
    // It only names the processor in Filebeat's metrics.
    s.str("tag")?;
    Ok(Box::new(Process {
        field: s.str("field")?.filter(|f| !f.is_empty()).unwrap_or_else(|| "message".to_owned()),
        syslog: Syslog::from_section(s, Format::Auto)?,
        overwrite_keys: flag("overwrite_keys", true)?,
        ignore_missing: flag("ignore_missing", false)?,
        ignore_failure: flag("ignore_failure", false)?,
    }))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::processed;
    use serde_json::json;

    /// `libbeat/processors/syslog/syslog_test.go`, 9.
    #[test]
    fn as_filebeat() {
        let line = "<13>1 2003-08-24T05:14:15.000003-07:00 test-host su 1234 msg-5678 - This is a test message";
        let named = json!({"priority": 13, "facility": {"code": 1, "name": "user-level"},
            "severity": {"code": 5, "name": "Notice"}, "hostname": "test-host", "appname": "su", "procid": "1234",
            "msgid": "msg-5678", "version": "1"});
        let failed = |what: &str| json!({"message": format!("syslog failed to process field {what}")});
        for (options, event, want) in [
            (
                "field: message",
                json!({"message": line}),
                json!({"message": "This is a test message", "log": {"syslog": named},
                "@timestamp": 1_061_727_255_000_i64}),
            ),
            (
                "overwrite_keys: false",
                json!({"message": line, "log": {"syslog": {"priority": 1}}}),
                json!({"message": line, "log": {"syslog": {"priority": 1, "facility": named["facility"],
                "severity": named["severity"], "hostname": "test-host", "appname": "su", "procid": "1234",
                "msgid": "msg-5678", "version": "1"}}, "@timestamp": 1_061_727_255_000_i64}),
            ),
            ("field: a", json!({"message": "x"}), json!({"message": "x", "error": failed("\"a\": key not found")})),
            ("field: a, ignore_missing: true", json!({"message": "x"}), json!({"message": "x"})),
            ("field: a, ignore_failure: true", json!({"message": "x"}), json!({"message": "x"})),
            (
                "field: a",
                json!({"a": 1, "message": "m", "error": {"message": "e"}}),
                json!({"a": 1, "message": "m", "error": {"message": ["e",
                "syslog failed to process field \"a\": type of field \"a\" is not a string"]}}),
            ),
            (
                "field: a, tag: t, timezone: UTC, format: rfc3164",
                json!({"a": "<13>Oct 11 22:14:15 h", "message": "m"}),
                json!({"a": "<13>Oct 11 22:14:15 h", "message": "m", "log": {"syslog": {"priority": 13,
                "facility": named["facility"], "severity": named["severity"]}},
                "error": failed("\"a\": parsing error at position 22: unexpected EOF"), "@timestamp": 24_531_255_000_i64}),
            ),
        ] {
            let got = processed(&format!("[{{syslog: {{{options}}}}}]"), event);
            assert_eq!(got, want, "{options}");
        }
    }
}
