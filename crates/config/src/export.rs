//! `export config`: the merged and expanded configuration as YAML.
//!
//! Always holds: reading the output gives the same values again; secrets are masked unless asked for.
//! Tested in `tests/export.rs`.

use crate::config::Config;
use crate::modules::modules_of;
use crate::secrets::{MASK, is_secret, mask_text};
use crate::tree::{Node, Value};
use crate::value::{show_float, yaml_plain};

impl Config {
    /// The configuration as YAML. `reveal`: show secrets too.
    pub fn export(&self, reveal: bool) -> String {
        let mut out = String::new();
        let mut root = self.root.clone();
        if let (Some(list), Some(written)) = (modules_of(&mut root), &self.modules_written) {
            *list = written.clone();
        }
        write_map_or_list(&mut out, &root, "", 0, reveal);
        out
    }
}

fn write_map_or_list(out: &mut String, node: &Node, path: &str, indent: usize, reveal: bool) {
    match &node.value {
        Value::Map(map) => {
            for (key, node) in &map.entries {
                out.push_str(&" ".repeat(indent));
                out.push_str(&quote(&key.name));
                out.push(':');
                let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
                write_below(out, node, &path, indent + 2, reveal);
            }
        }
        Value::List(items) => {
            for node in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                write_below(out, node, path, indent + 2, reveal);
            }
        }
        _ => {}
    }
}

fn write_below(out: &mut String, node: &Node, path: &str, indent: usize, reveal: bool) {
    let full = match &node.value {
        Value::Map(map) => !map.entries.is_empty(),
        Value::List(items) => !items.is_empty(),
        _ => false,
    };
    if full && (reveal || !is_secret(path)) {
        out.push('\n');
        write_map_or_list(out, node, path, indent, reveal);
        return;
    }
    let text = match &node.value {
        _ if !reveal && is_secret(path) && !node.is_null() => quote(MASK),
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(f) => float(*f),
        Value::Str(text) if reveal => quote(&text.replace("${", "$${")),
        Value::Str(text) => quote(&mask_text(text).replace("${", "$${")),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
        Value::Bad(e) => format!("null # {}", e.reason().replace(['\n', '\r'], " ")),
    };
    out.push(' ');
    out.push_str(&text);
    out.push('\n');
}

fn float(f: f64) -> String {
    if f.is_nan() {
        ".nan".to_owned()
    } else if f.is_infinite() {
        if f > 0.0 { ".inf" } else { "-.inf" }.to_owned()
    } else {
        let text = show_float(f);
        if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
    }
}

/// A text as a YAML scalar: plain when that can't be misread, else in double quotes as in JSON.
fn quote(text: &str) -> String {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-@".contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && matches!(yaml_plain(text), Value::Str(_));
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
