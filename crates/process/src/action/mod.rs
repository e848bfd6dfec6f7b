//! The processors themselves, one subject a file.
//!
//! Comes in: a processor's options, then events as [`Doc`]s. Goes out: changed events, or the word that one is dropped.
//! Always holds: options are read once, at the start; what a processor does depends on the event alone.
//! Tested below each, with what Filebeat 7.17.29 gives for the same.

mod add;
mod array;
mod convert;
mod copy;
mod dissect;
mod id;
mod json;
mod select;
pub(crate) mod time;
mod truncate;

use std::fmt::Debug;

use pillion_config::{Error, Section};
use serde_json::{Map, Value};

use crate::doc::Doc;
use crate::kubernetes::{self, Kubernetes};

pub(crate) use dissect::Tokenizer;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Keep,
    Drop,
}

/// What a processor adds to every event alike.
pub(crate) struct Constant {
    /// Merged over the event's fields.
    pub(crate) fields: Map<String, Value>,
    /// Added to `tags`.
    pub(crate) tags: Vec<String>,
}

/// One processor.
pub(crate) trait Action: Debug + Send + Sync {
    /// Processes an event. An error is Filebeat's text; what the event then looks like is decided here too.
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String>;

    /// What it adds, when that is the same for every event.
    fn constant(&self) -> Option<Constant> {
        None
    }

    /// The processor, when it is `add_kubernetes_metadata`.
    fn kubernetes(&self) -> Option<&Kubernetes> {
        None
    }
}

type Read = fn(&Section<'_>) -> Result<Box<dyn Action>, Error>;

/// The processors that are there.
pub(crate) const KNOWN: &[(&str, Read)] = &[
    ("add_fields", add::fields),
    ("add_id", id::read),
    ("add_kubernetes_metadata", kubernetes::read),
    ("add_labels", add::labels),
    ("add_tags", add::tags),
    ("convert", convert::read),
    ("copy_fields", copy::copy_fields),
    ("decode_json_fields", json::read),
    ("dissect", dissect::read),
    ("drop_event", select::drop_event),
    ("drop_fields", select::drop_fields),
    ("extract_array", array::read),
    ("include_fields", select::include_fields),
    ("rename", copy::rename),
    ("timestamp", time::read),
    ("truncate_fields", truncate::read),
];

/// Filebeat's other processors, 5.6 to 9.
pub(crate) const ABSENT: &[&str] = &[
    "add_cloud_metadata",
    "add_cloudfoundry_metadata",
    "add_docker_metadata",
    "add_formatted_index",
    "add_host_metadata",
    "add_locale",
    "add_network_direction",
    "add_nomad_metadata",
    "add_observer_metadata",
    "add_process_metadata",
    "add_session_metadata",
    "append",
    "cache",
    "community_id",
    "decode_base64_field",
    "decode_cef",
    "decode_csv_fields",
    "decode_duration",
    "decode_xml",
    "decode_xml_wineventlog",
    "decompress_gzip_field",
    "detect_mime_type",
    "dns",
    "fingerprint",
    "lowercase",
    "move_fields",
    "now",
    "parse_aws_vpc_flow_log",
    "rate_limit",
    "registered_domain",
    "replace",
    "script",
    "syslog",
    "translate_ldap_attribute",
    "translate_sid",
    "uppercase",
    "urldecode",
];

/// `error.message`, as Filebeat sets it, and the error itself.
fn fail<T>(doc: &mut Doc<'_>, message: String) -> Result<T, String> {
    doc.put("error.message", Value::String(message.clone()))?;
    Err(message)
}

/// Adds tags to a list, which may not be there yet, or be one text.
fn tag(doc: &mut Doc<'_>, path: &str, tags: &[String]) -> Result<(), String> {
    let mut all = match doc.get(path) {
        Err(_) => Vec::new(),
        Ok(got) => match got.to_value() {
            Value::Array(items) => items,
            Value::String(one) => vec![Value::String(one)],
            other => return Err(format!("expected string array by type is {}", crate::tree::go_type(&other))),
        },
    };
    all.extend(tags.iter().cloned().map(Value::String));
    doc.put(path, Value::Array(all))
}

/// A field that a processor can't do without.
fn required(s: &Section<'_>, key: &str) -> Result<String, Error> {
    s.str(key)?.filter(|v| !v.is_empty()).ok_or_else(|| missing(s, key))
}

/// The `fields` of a processor, at least one.
fn required_list(s: &Section<'_>, key: &str) -> Result<Vec<String>, Error> {
    let list = s.strings(key)?;
    if list.is_empty() { Err(missing(s, key)) } else { Ok(list) }
}

fn missing(s: &Section<'_>, key: &str) -> Error {
    s.error(key, format!("`{key}` is missing"), format!("give `{key}`"))
}
