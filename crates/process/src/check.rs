//! Entry points for the fuzz targets: bytes in, and a panic only when something that always holds doesn't.

use pillion_config::Config;
use serde_json::json;

use crate::Condition;
use crate::action::{Tokenizer, check_cef};

/// A tokenizer and a text, cut at the first line end: what comes out is no longer than both together.
pub fn dissect(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (tokenizer, text) = text.split_once('\n').unwrap_or((&text, ""));
    if let Ok(tokenizer) = Tokenizer::new(tokenizer) {
        let found = tokenizer.dissect(text);
        assert!(found.is_none_or(|found| json!(found).to_string().len() <= 64 + 64 * bytes.len()));
    }
}

/// A condition as YAML: read or refused.
pub fn condition(bytes: &[u8]) {
    let Ok(config) = Config::from_yaml(&String::from_utf8_lossy(bytes)) else { return };
    let _ = Condition::from_section(&config.root());
}

/// A message of the Common Event Format, read as Filebeat 9 does when `modern`, else as 7.
///
/// # Errors
/// What doesn't hold that always should.
pub fn cef(text: &[u8], modern: bool) -> Result<(), String> {
    check_cef(text, modern)
}
