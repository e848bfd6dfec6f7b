//! Several outputs: `pillion.outputs`, beside the one under `output`.
//!
//! Comes in: the configuration. Goes out: for each further output its name, and the configuration of a run that differs from
//! the first one's in the output and in `path.data`, so that it has a place of its own in the files.
//!
//! Always holds: each value keeps its place in its file; what an error is about is told by the name that stands there.
//! Tested in `tests/several.rs`.

use crate::config::Config;
use crate::error::Error;
use crate::tree::{Key, Map, Node, Value};

/// The option.
const KEY: &str = "pillion.outputs";
/// The most further outputs: each has threads and a queue of its own.
const MAX: usize = 8;
/// The longest name, bytes.
const NAME: usize = 32;
/// What is the first output's alone.
const FIRST: &[&str] = &["cloud", "http", "output"];

impl Config {
    /// The further outputs, in the order of the text.
    ///
    /// # Errors
    /// A name that can't be a folder's, an entry that is no output, too many.
    pub fn further_outputs(&self) -> Result<Vec<(String, Config)>, Error> {
        let Some(section) = self.root().section(KEY)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (name, output) in section.named_sections()? {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || name.len() > NAME || !name.bytes().all(fits) {
                let remedy = "take up to 32 of a-z, 0-9 and `-`: a folder gets this name";
                return Err(section.error(name, "this can't be an output's name", remedy));
            }
            if output.is_on("enabled")? {
                let Some(config) = self.root.get(KEY).and_then(|all| all.get(name)).map(|node| self.with(name, node))
                else {
                    continue;
                };
                found.push((name.to_owned(), config));
            }
        }
        if let Some(all) = self.root.get(KEY) {
            all.take_all();
        }
        if found.len() > MAX {
            let reason = format!("these are more than {MAX} outputs");
            return Err(self.root().error(KEY, reason, "each has threads and a queue of its own: take fewer"));
        }
        Ok(found)
    }

    /// This configuration with another output.
    fn with(&self, name: &str, output: &Node) -> Config {
        let mut root = self.root.clone();
        if let Value::Map(map) = &mut root.value {
            map.entries.retain(|(key, _)| !FIRST.contains(&key.name.as_str()));
            let key = Key { name: "output".to_owned(), at: output.at.clone() };
            map.entries.push((key, without(output, "enabled")));
            for (_, pillion) in map.entries.iter_mut().filter(|(key, _)| key.name == "pillion") {
                *pillion = without(pillion, "outputs");
            }
        }
        let mut config = self.beside(root);
        config.paths.data = self.paths.data.join("outputs").join(name);
        config
    }
}

/// A mapping without one of its keys.
fn without(node: &Node, name: &str) -> Node {
    let mut node = node.clone();
    if let Value::Map(Map { entries }) = &mut node.value {
        entries.retain(|(key, _)| key.name != name);
    }
    node
}
