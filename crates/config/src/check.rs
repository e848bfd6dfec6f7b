//! What must hold for any bytes given as a configuration: for the fuzz target `config` and for tests.

use crate::config::Config;
use crate::error::Error;
use crate::section::Section;
use crate::source::Source;
use crate::tree::merge;
use crate::value::{Syntax, parse};

/// A value in the environment that no message may show.
const HIDDEN: &str = "SWORDFISH-7";

/// Reads bytes as a configuration (up to a NUL) and a `-E` value (after it), takes every option in every way, and
/// exports.
///
/// # Errors
/// What doesn't hold: a message shows a value of the environment, or the export isn't read as what it was.
pub fn fuzz(data: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(data);
    let (yaml, value) = text.split_once('\0').unwrap_or((&text, ""));
    let at = crate::source::At::new(&Source::flag("-E", value), 1, 1, 1);
    let value = parse(value, Syntax::Full, &at);
    let env = [("S", HIDDEN), ("LIST", "[a, 'b', \"c\"]"), ("N", "0x10"), ("NAME", "N")];
    let mut config = match Config::from_yaml_with_env(yaml, &env) {
        Ok(config) => config,
        Err(e) => return quiet(yaml, &e),
    };
    if let Ok(value) = value {
        merge(&mut config.root, value);
        if !matches!(config.root.value, crate::tree::Value::Map(_)) {
            return Ok(());
        }
    }
    take(yaml, &config.root())?;
    let left = config.leftovers();
    [left.refused, left.unknown, left.unasked, left.harmless].iter().flatten().try_for_each(|e| quiet(yaml, e))?;
    round_trip(&config)
}

fn take(yaml: &str, section: &Section<'_>) -> Result<(), String> {
    for key in section.keys() {
        let told = [
            section.str(key).err(),
            section.bool(key).err(),
            section.u64(key).err(),
            section.i64(key).err(),
            section.f64(key).err(),
            section.signed_duration_ns(key).err(),
            section.size(key).err(),
            section.strings(key).err(),
            section.regexes(key).err(),
            section.choice(key, &["after", "before"]).err(),
        ];
        told.into_iter().flatten().try_for_each(|e| quiet(yaml, &e))?;
        for below in section.sections(key).unwrap_or_default() {
            take(yaml, &below)?;
        }
        if let Ok(Some(below)) = section.section(key) {
            take(yaml, &below)?;
        }
    }
    Ok(())
}

fn quiet(yaml: &str, e: &Error) -> Result<(), String> {
    let shown = format!("{e}\n{}", e.one_line());
    if shown.contains(HIDDEN) && !yaml.contains(HIDDEN) {
        Err(format!("a message shows what is hidden: {shown}"))
    } else {
        Ok(())
    }
}

fn round_trip(config: &Config) -> Result<(), String> {
    let Ok(before) = crate::section::to_json(&config.root) else { return Ok(()) };
    let text = config.export(true);
    let again = Config::from_yaml(&text).map_err(|e| format!("the export can't be read: {e}\n{text}"))?;
    let after =
        crate::section::to_json(&again.root).map_err(|e| format!("the export can't be expanded: {e}\n{text}"))?;
    if before == after { Ok(()) } else { Err(format!("the export differs: {before}\n{after}\n{text}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_yaml_of_these_words_holds(words in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b.c", ": ", "\n", "  ", "- ", "${S}", "${", "}", "$", ":", "[", "]", "{", "}", ", ", "'", "\"", "&x ", "*x",
                "<<", "1", "0x", "~", "|", ">", "#", "é", "password", "filebeat.inputs", "type", "\t", "\r\n", "\0", "${N:+${S}}",
            ]),
            0..24,
        )) {
            let text = words.concat();
            if let Err(e) = fuzz(text.as_bytes()) {
                prop_assert!(false, "{text:?}: {e}");
            }
        }
    }
}
