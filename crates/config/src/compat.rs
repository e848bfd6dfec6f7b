//! Dialects: whose words and defaults a configuration means.
//!
//! Comes in: the expanded tree, and the registry at the data path. Goes out: [`Compat`] with the reason, and the
//! version that events carry. `pillion.compat` decides; else what only one dialect knows; else the registry; else 8.
//! Tested in `tests/compat.rs`.

use std::path::Path;

use pillion_world::{FileKind, Fs};

use crate::config::Config;
use crate::error::Error;
use crate::tree::{Node, Value};

/// The Filebeat that a configuration was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compat {
    /// 5.x, and what 6.x shares with it: prospectors.
    V5,
    /// 7.x.
    V7,
    /// 8.x: what is taken when nothing tells.
    V8,
    /// 9.x.
    V9,
}

impl Compat {
    /// `5.6`, `7`, `8` or `9`, as in `pillion.compat`.
    pub fn name(self) -> &'static str {
        match self {
            Compat::V5 => "5.6",
            Compat::V7 => "7",
            Compat::V8 => "8",
            Compat::V9 => "9",
        }
    }

    /// The version that events carry when `pillion.agent_version` isn't set: the last of that line that was compared
    /// with.
    pub fn agent_version(self) -> &'static str {
        match self {
            Compat::V5 => "5.6.16",
            Compat::V7 => "7.17.29",
            Compat::V8 => "8.19.14",
            Compat::V9 => "9.6.0",
        }
    }

    /// Whether it is 8 or 9, which are alike in much that 7.17 did otherwise.
    pub fn is_modern(self) -> bool {
        matches!(self, Compat::V8 | Compat::V9)
    }

    fn from_name(name: &str) -> Option<Compat> {
        match name.strip_prefix('v').unwrap_or(name).split('.').next()? {
            "5" | "6" => Some(Compat::V5),
            "7" => Some(Compat::V7),
            "8" => Some(Compat::V8),
            "9" => Some(Compat::V9),
            _ => None,
        }
    }
}

/// What only one dialect knows, by the whole name; a `*` stands for any place in a list or any key.
const SIGNS: &[(&str, Compat)] = &[
    ("filebeat.prospectors", Compat::V5),
    ("filebeat.config.prospectors", Compat::V5),
    ("filebeat.config_dir", Compat::V5),
    ("filebeat.registry_file", Compat::V5),
    ("filebeat.registry_flush", Compat::V5),
    ("filebeat.registry_file_permissions", Compat::V5),
    ("filebeat.spool_size", Compat::V5),
    ("filebeat.idle_timeout", Compat::V5),
    ("filebeat.publish_async", Compat::V5),
    ("filebeat.inputs.*.input_type", Compat::V5),
    ("filebeat.inputs.*.document_type", Compat::V5),
    ("queue_size", Compat::V5),
    ("bulk_queue_size", Compat::V5),
    ("output.elasticsearch.template", Compat::V5),
    ("output.*.save_topology", Compat::V5),
    ("output.redis.host_topology", Compat::V5),
    ("output.logstash.port", Compat::V5),
    ("output.redis.port", Compat::V5),
    ("filebeat.inputs.*.delete", Compat::V9),
    ("filebeat.inputs.*.compression", Compat::V9),
    ("filebeat.inputs.*.gzip_experimental", Compat::V9),
    ("filebeat.inputs.*.include_file_owner_name", Compat::V9),
    ("filebeat.inputs.*.include_file_owner_group_name", Compat::V9),
    ("filebeat.inputs.*.include_file_fingerprint", Compat::V9),
    ("filebeat.inputs.*.file_identity.fingerprint.growing", Compat::V9),
    ("filebeat.inputs.*.allow_deprecated_use", Compat::V9),
    ("filebeat.inputs.*.allow_deprecated_id_duplication", Compat::V9),
    ("filebeat.inputs.*.take_over.enabled", Compat::V9),
    ("filebeat.registry.backend", Compat::V9),
    ("features.log_input_run_as_filestream", Compat::V9),
    ("hostname", Compat::V9),
    ("output.elasticsearch.preset", Compat::V8),
    ("output.elasticsearch.idle_connection_timeout", Compat::V8),
    ("xpack.monitoring", Compat::V7),
    ("filebeat.inputs.*.containers", Compat::V7),
    ("filebeat.autodiscover.providers.*.hints.default_config.containers", Compat::V7),
    ("filebeat.autodiscover.providers.*.templates.*.config.*.containers", Compat::V7),
];

/// Sets the dialect and the version of events.
pub(crate) fn decide(config: &mut Config, fs: Option<&dyn Fs>) -> Result<(), Error> {
    let root = config.root();
    let set = root.str("pillion.compat")?;
    let (compat, reason) = match set {
        Some(name) => match Compat::from_name(&name) {
            Some(compat) => (compat, "pillion.compat says so".to_owned()),
            None => {
                return Err(root.error(
                    "pillion.compat",
                    format!("no dialect is named {}", root.shown("pillion.compat")),
                    "give 5.6, 7, 8 or 9",
                ));
            }
        },
        None => find(config, fs),
    };
    let version = match root.str("pillion.agent_version")? {
        Some(version)
            if !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c)) =>
        {
            version
        }
        Some(_) => {
            return Err(root.error(
                "pillion.agent_version",
                "not a version",
                "give one such as 8.19.14, or leave it out",
            ));
        }
        None => compat.agent_version().to_owned(),
    };
    drop(root);
    config.compat = compat;
    config.compat_reason = reason;
    config.agent_version = version;
    Ok(())
}

fn find(config: &Config, fs: Option<&dyn Fs>) -> (Compat, String) {
    for (sign, compat) in SIGNS {
        let parts: Vec<&str> = sign.split('.').collect();
        if let Some(path) = first_match(&config.root, &parts) {
            return (*compat, format!("`{path}` is an option of Filebeat {}", compat.name()));
        }
    }
    if let Some((compat, why)) = fs.and_then(|fs| by_registry(fs, &config.paths.data)) {
        return (compat, why);
    }
    (
        Compat::V8,
        "nothing in it belongs to one version alone; set pillion.compat to 5.6, 7, 8 or 9 to say otherwise".to_owned(),
    )
}

/// The first path that matches the pattern and isn't null.
fn first_match(node: &Node, pattern: &[&str]) -> Option<String> {
    let Some((first, rest)) = pattern.split_first() else {
        return (!node.is_null()).then(String::new);
    };
    let below: Vec<(String, &Node)> = match &node.value {
        Value::Map(map) if *first == "*" => map.entries.iter().map(|(key, node)| (key.name.clone(), node)).collect(),
        Value::Map(map) => map.get(first).map(|node| vec![((*first).to_owned(), node)]).unwrap_or_default(),
        Value::List(items) if *first == "*" => {
            items.iter().enumerate().map(|(i, node)| (i.to_string(), node)).collect()
        }
        _ => Vec::new(),
    };
    below.into_iter().find_map(|(name, node)| {
        let rest = first_match(node, rest)?;
        Some(if rest.is_empty() { name } else { format!("{name}.{rest}") })
    })
}

/// What the registry at the data path was written by, where that can be told.
fn by_registry(fs: &dyn Fs, data: &Path) -> Option<(Compat, String)> {
    const LOOK_AT: usize = 1 << 20;
    let registry = data.join("registry");
    let by = |compat: Compat| {
        Some((compat, format!("the registry in {} was written by Filebeat {}", registry.display(), compat.name())))
    };
    if fs.stat(&registry, true).ok()?.kind == FileKind::File {
        return None;
    }
    let folder = registry.join("filebeat");
    let meta = fs.read(&folder.join("meta.json"), LOOK_AT).ok()?;
    if contains(&meta, b"\"0\"") {
        return by(Compat::V7);
    }
    let log = fs.open(&folder.join("log.json"), pillion_world::OpenHow::Read).ok()?;
    let mut head = vec![0; LOOK_AT];
    let n = log.read_at(&mut head, 0).ok()?;
    if contains(&head[..n], b"\"fingerprint_len\"") {
        return by(Compat::V9);
    }
    None
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
