//! The parser `syslog` of filestream (from Filebeat 8 on).
//!
//! Comes in: messages whose text should be one of RFC 3164 or RFC 5424. Goes out: the same with the fields `log.syslog`, the
//! time, and what is left as text. Always holds: a text that isn't understood stays; nothing is added to the buffer, since
//! what is left is a part of the text. The grammars are in `pillion_process::syslog`.
//!
//! Tested in `tests.rs`; fuzz target `syslog`.

use pillion_config::{Error, Section};
use pillion_process::syslog::{Format, Syslog};
use serde_json::json;

use crate::parse::json;
use crate::parse::run::Message;

/// The parser `syslog`.
#[derive(Clone, Debug)]
pub struct SyslogLines {
    /// How messages are read.
    pub syslog: Syslog,
    /// `log_errors`: what can't be read is said in the log.
    pub log_errors: bool,
    /// `add_error_key`: and in the event's `error.message`.
    pub add_error_key: bool,
}

impl SyslogLines {
    /// Its options.
    pub(super) fn from_section(s: &Section<'_>) -> Result<SyslogLines, Error> {
        Ok(SyslogLines {
            syslog: Syslog::from_section(s, Format::Auto)?,
            log_errors: s.bool("log_errors")?.unwrap_or(false),
            add_error_key: s.bool("add_error_key")?.unwrap_or(true),
        })
    }
}

/// Takes the next message. `read_ms`: when it was read, milliseconds since 1970.
pub(super) fn accept(options: &SyslogLines, mut message: Message, data: &[u8], read_ms: i64) -> Message {
    let found = options.syslog.parse(data.get(message.text.clone()).unwrap_or_default(), read_ms);
    let mut fields = found.fields;
    if let Some(e) = &found.error {
        if options.log_errors {
            tracing::error!("a syslog message can't be read: {e}");
        }
        if options.add_error_key {
            fields.insert("error".to_owned(), json!({"message": format!("Error parsing syslog message: {e}")}));
        }
    }
    if !found.message.is_empty() || found.error.is_none() {
        let start = message.text.start;
        message.text = start + found.message.start..start + found.message.end;
    }
    json::update(&mut message.extra().fields, fields, true);
    if let Some(ms) = found.time_ms {
        message.time_ms = ms;
    }
    message
}
