//! Lifecycle policies (ILM): the default one, and the alias of 7 that rolls over.
//!
//! Facts: elastic/beats `libbeat/idxmgmt/ilm/{config,std,client_handler}.go` (7.17), `libbeat/idxmgmt/lifecycle` (8).

use pillion_config::Compat;
use serde_json::{Value, json};

use crate::hosts::percent_encode;

/// Filebeat's own policy: an index is rolled over at 50 GB or 30 days, and nothing is ever deleted.
pub(super) fn policy(compat: Compat) -> Value {
    let size = if compat >= Compat::V8 { "max_primary_shard_size" } else { "max_size" };
    json!({"policy": {"phases": {"hot": {"actions": {"rollover": {size: "50gb", "max_age": "30d"}}}}}})
}

/// The path of the first index behind an alias: `<alias-pattern>`, a name with date mathematics.
pub(super) fn first_index(alias: &str, pattern: &str) -> String {
    let mut path = String::from("/");
    percent_encode(&format!("<{alias}-{pattern}>"), &mut path);
    path
}

/// What the first index is made with.
pub(super) fn first_index_body(alias: &str) -> Value {
    json!({"aliases": {alias: {"is_write_index": true}}})
}
