//! The processors themselves, one subject a file.
//!
//! Comes in: a processor's options, then events as [`Doc`]s. Goes out: changed events, or the word that one is dropped.
//! Always holds: options are read once, at the start; what a processor does depends on the event alone.
//! Tested below each, with what Filebeat 7.17.29 gives for the same.

mod add;
mod array;
mod cache;
mod cef;
mod clock;
mod convert;
mod copy;
mod csv;
mod decode;
mod dissect;
pub(crate) mod dns;
mod domain;
mod hash;
mod id;
mod json;
mod keys;
mod limit;
mod locale;
mod mime;
mod network;
mod replace;
#[cfg(feature = "script")]
mod script;
mod select;
mod syslog;
pub(crate) mod time;
mod truncate;
mod xml;

use std::fmt::Debug;

use pillion_config::{Error, Section};
use regex::Regex;
use serde_json::{Map, Value};

use crate::doc::Doc;
use crate::options::Outside;
use crate::{cloud, docker, kubernetes, machine, running};

pub(crate) use cef::check as check_cef;
pub(crate) use dissect::Tokenizer;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Keep,
    Drop,
    /// Dropped since it is beyond what `rate_limit` lets through.
    Limit,
}

/// What a processor adds to every event alike.
#[derive(Default)]
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

    /// The processor, when it has to be told something from outside before it adds anything.
    fn outside(&self) -> Option<Outside<'_>> {
        None
    }
}

/// Reads a processor's options.
pub(crate) type Read = fn(&Section<'_>) -> Result<Box<dyn Action>, Error>;

/// A processor of the configuration.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) read: Read,
    /// Its options besides `when`; lists and sections within them by their names alone.
    pub(crate) options: &'static [&'static str],
}

const fn known(name: &'static str, read: Read, options: &'static [&'static str]) -> Known {
    Known { name, read, options }
}

const FROM_TO: &[&str] = &["fields", "ignore_missing", "fail_on_error"];
const ONE_FROM_TO: &[&str] = &["field", "ignore_missing", "fail_on_error"];

/// Options of `script`, which is there with the cargo feature of that name.
pub const SCRIPT: &[&str] =
    &["lang", "tag", "id", "source", "file", "files", "params", "timeout", "tag_on_exception", "max_cached_sessions"];

/// The processors that are there.
pub(crate) const KNOWN: &[Known] = &[
    known("add_cloud_metadata", cloud::read, cloud::OPTIONS),
    known("add_docker_metadata", docker::read, docker::OPTIONS),
    known("add_fields", add::fields, &["fields", "target"]),
    known("add_host_metadata", machine::host, machine::HOST_OPTIONS),
    known("add_id", id::read, &["target_field", "type"]),
    known("add_kubernetes_metadata", kubernetes::read, kubernetes::OPTIONS),
    known("add_labels", add::labels, &["labels"]),
    known("add_locale", locale::read, &["format"]),
    known("add_network_direction", network::direction, &["source", "destination", "target", "internal_networks"]),
    known("add_observer_metadata", machine::observer, machine::OBSERVER_OPTIONS),
    known("add_process_metadata", running::read, running::OPTIONS),
    known("add_tags", add::tags, &["tags", "target"]),
    known(
        "append",
        keys::append,
        &[
            "target_field",
            "fields",
            "values",
            "ignore_missing",
            "ignore_empty_values",
            "fail_on_error",
            "allow_duplicate",
        ],
    ),
    known(
        "cache",
        cache::read,
        &["backend", "put", "get", "delete", "ignore_missing", "ignore_failure", "overwrite_keys"],
    ),
    known("community_id", network::community_id, &["fields", "target", "seed"]),
    known("convert", convert::read, &["fields", "mode", "tag", "ignore_missing", "fail_on_error"]),
    known("copy_fields", copy::copy_fields, FROM_TO),
    known("decode_base64_field", decode::base64, ONE_FROM_TO),
    known(
        "decode_cef",
        cef::read,
        &["field", "target_field", "ecs", "timezone", "ignore_missing", "ignore_failure", "ignore_empty_values", "id"],
    ),
    known(
        "decode_csv_fields",
        csv::read,
        &["fields", "separator", "ignore_missing", "trim_leading_space", "overwrite_keys", "fail_on_error"],
    ),
    known("decode_duration", clock::decode_duration, &["field", "format"]),
    known(
        "decode_json_fields",
        json::read,
        &[
            "fields",
            "target",
            "max_depth",
            "process_array",
            "overwrite_keys",
            "expand_keys",
            "add_error_key",
            "document_id",
        ],
    ),
    known(
        "decode_xml",
        xml::read,
        &["field", "target_field", "overwrite_keys", "document_id", "to_lower", "ignore_missing", "ignore_failure"],
    ),
    known("decompress_gzip_field", decode::gzip, &["field", "ignore_missing", "fail_on_error", "overwrite_keys"]),
    known("detect_mime_type", mime::read, &["field", "target"]),
    known(
        "dissect",
        dissect::read,
        &["tokenizer", "field", "target_prefix", "ignore_failure", "overwrite_keys", "trim_values", "trim_chars"],
    ),
    known("dns", dns::read, dns::OPTIONS),
    known("drop_event", select::drop_event, &[]),
    known("drop_fields", select::drop_fields, &["fields", "ignore_missing"]),
    known(
        "extract_array",
        array::read,
        &["field", "mappings", "ignore_missing", "omit_empty", "overwrite_keys", "fail_on_error"],
    ),
    known("fingerprint", hash::read, &["fields", "target_field", "method", "encoding", "ignore_missing"]),
    known("include_fields", select::include_fields, &["fields"]),
    known("lowercase", keys::lowercase, keys::CASE),
    known("move_fields", keys::move_fields, &["from", "fields", "exclude", "to", "ignore_missing"]),
    known("now", clock::now, &["field"]),
    known("rate_limit", limit::read, &["limit", "fields", "algorithm"]),
    known(
        "registered_domain",
        domain::read,
        &[
            "field",
            "target_field",
            "target_subdomain_field",
            "target_etld_field",
            "ignore_missing",
            "ignore_failure",
            "id",
        ],
    ),
    known("rename", copy::rename, FROM_TO),
    known("replace", replace::read, FROM_TO),
    #[cfg(feature = "script")]
    known("script", script::read, SCRIPT),
    known(
        "syslog",
        syslog::read,
        &["field", "format", "timezone", "overwrite_keys", "ignore_missing", "ignore_failure", "tag"],
    ),
    known(
        "timestamp",
        time::read,
        &["field", "target_field", "layouts", "timezone", "test", "ignore_missing", "ignore_failure"],
    ),
    known(
        "truncate_fields",
        truncate::read,
        &["fields", "max_bytes", "max_characters", "ignore_missing", "fail_on_error"],
    ),
    known("uppercase", keys::uppercase, keys::CASE),
    known("urldecode", decode::urldecode, FROM_TO),
];

const WINDOWS: &str = "it asks Windows, where Pillion doesn't run";
const VENDOR: &str = "it reads the format of one vendor, which the target's pipelines read as well";

/// Filebeat's other processors, 5.6 to 9, and why they are refused.
pub(crate) const ABSENT: &[(&str, &str)] = &[
    ("add_cloudfoundry_metadata", "it asks Cloud Foundry, which Pillion doesn't know"),
    ("add_formatted_index", "it belongs to modules' own indices: use `index` at the input, or the output's"),
    ("add_nomad_metadata", "it asks Nomad, which Pillion doesn't know"),
    ("add_session_metadata", "it follows the kernel's processes, which is Auditbeat's work"),
    ("decode_xml_wineventlog", WINDOWS),
    ("parse_aws_vpc_flow_log", VENDOR),
    #[cfg(not(feature = "script"))]
    (
        "script",
        "there is no JavaScript in this executable: most of what scripts do, `if`, `replace`, `dissect` and `convert` can \
         do, and one that is built with `--features script` has it",
    ),
    ("translate_ldap_attribute", "it asks an LDAP server, which Pillion doesn't speak with"),
    ("translate_sid", WINDOWS),
];

/// `error.message`, as Filebeat sets it, and the error itself.
fn fail<T>(doc: &mut Doc<'_>, message: String) -> Result<T, String> {
    doc.put("error.message", Value::String(message.clone()))?;
    Err(message)
}

/// Adds tags to a list, which may not be there yet.
fn tag(doc: &mut Doc<'_>, path: &str, tags: &[String]) -> Result<(), String> {
    let mut all = match doc.get(path) {
        Err(_) => Vec::new(),
        Ok(got) => match got.to_value() {
            Value::Array(items) => items,
            other => return Err(format!("expected string array by type is {}", pillion_event::go_type(&other))),
        },
    };
    all.extend(tags.iter().cloned().map(Value::String));
    doc.put(path, Value::Array(all))
}

/// A field that a processor can't do without.
fn required(s: &Section<'_>, key: &str) -> Result<String, Error> {
    s.str(key)?.filter(|v| !v.is_empty()).ok_or_else(|| missing(s, key))
}

/// A regular expression that a processor can't do without.
fn pattern(s: &Section<'_>, key: &str) -> Result<Regex, Error> {
    regex(s, key, &required(s, key)?)
}

/// An option's text as a regular expression.
pub(crate) fn regex(s: &Section<'_>, key: &str, text: &str) -> Result<Regex, Error> {
    Regex::new(text).map_err(|e| {
        let why = e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        s.error(key, format!("not a regular expression: {why}"), "write it in Go's RE2 syntax")
    })
}

/// Names of fields and the names of those that they become, in the order of the text.
fn mappings(s: &Section<'_>, key: &str) -> Result<Vec<(String, String)>, Error> {
    let wrong = || s.error(key, "not a mapping from names to names", format!("write `{key}: {{from: to}}`"));
    let Some(Value::Object(map)) = s.json(key)? else { return Err(wrong()) };
    let pairs = crate::tree::flatten(&map).into_iter();
    pairs.map(|(from, to)| Ok((from, to.as_str().ok_or_else(wrong)?.to_owned()))).collect()
}

/// A field's text as bytes, binary ones too; `None` when it isn't there and that is ignored. `wrong`: the words for a
/// value of another type, from Go's name for that and the value.
fn fetch_text(
    doc: &mut Doc<'_>,
    field: &str,
    what: &str,
    ignore_missing: bool,
    wrong: impl Fn(&str, &str) -> String,
) -> Result<Option<Vec<u8>>, String> {
    match doc.bytes(field) {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        Ok(Err(value)) => Err(wrong(pillion_event::go_type(&value), &convert::shown(&value))),
        Err(e) if ignore_missing && e == crate::tree::NOT_FOUND => Ok(None),
        Err(e) => Err(format!("{what}: {field}, Error: {e}")),
    }
}

/// The `fields` of a processor, at least one.
fn required_list(s: &Section<'_>, key: &str) -> Result<Vec<String>, Error> {
    let list = s.strings(key)?;
    if list.is_empty() { Err(missing(s, key)) } else { Ok(list) }
}

fn missing(s: &Section<'_>, key: &str) -> Error {
    s.error(key, format!("`{key}` is missing"), format!("give `{key}`"))
}
