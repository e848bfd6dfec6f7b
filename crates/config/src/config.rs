//! The whole configuration, ready to be taken section by section.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::compat::Compat;
use crate::error::Diagnostic;
use crate::keystore::{Keystore, Strict};
use crate::modules::About;
use crate::paths::Paths;
use crate::section::Section;
use crate::tree::{Node, Value};

/// A configuration, read, merged and expanded, whose sections can be taken.
pub struct Config {
    pub(crate) root: Node,
    /// What stands where nothing stands: see [`Section::absent`].
    pub(crate) nothing: Node,
    pub(crate) paths: Paths,
    pub(crate) compat: Compat,
    pub(crate) compat_reason: String,
    pub(crate) agent_version: String,
    /// What filesets of modules are made with.
    pub(crate) modules: About,
    /// `filebeat.modules` as it is written, for the export.
    pub(crate) modules_written: Option<Node>,
    /// What further files are read with.
    pub(crate) reading: Arc<Reading>,
    warnings: Mutex<Vec<Diagnostic>>,
}

/// What was there when a configuration was read, for further files that belong to it.
pub(crate) struct Reading {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) keystore: Option<Keystore>,
    pub(crate) strict: Strict,
    /// Its own files.
    pub(crate) files: Vec<PathBuf>,
}

impl Config {
    pub(crate) fn new(root: Node) -> Config {
        let empty = PathBuf::new;
        Config {
            nothing: Node::new(Value::Null, &root.at),
            root,
            paths: Paths { home: empty(), config: empty(), data: empty(), logs: empty() },
            compat: Compat::V8,
            compat_reason: String::new(),
            agent_version: String::new(),
            modules: About::default(),
            modules_written: None,
            reading: Arc::new(Reading {
                env: BTreeMap::new(),
                keystore: None,
                strict: Strict { perms: false, euid: 0 },
                files: Vec::new(),
            }),
            warnings: Mutex::new(Vec::new()),
        }
    }

    /// Another tree of the same dialect, folders and surroundings.
    pub(crate) fn beside(&self, root: Node) -> Config {
        let mut config = Config::new(root);
        config.paths = self.paths.clone();
        config.compat = self.compat;
        config.compat_reason.clone_from(&self.compat_reason);
        config.agent_version.clone_from(&self.agent_version);
        config.modules.clone_from(&self.modules);
        config.reading = Arc::clone(&self.reading);
        config
    }

    /// The root mapping.
    pub fn root(&self) -> Section<'_> {
        Section::new(self, &self.root, String::new())
    }

    /// The folders `path.*`.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The dialect that the file is written in.
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// Why it is taken for that dialect: a sentence for the log.
    pub fn compat_reason(&self) -> &str {
        &self.compat_reason
    }

    /// The version of Filebeat that events carry: `pillion.agent_version`, else the dialect's.
    pub fn agent_version(&self) -> &str {
        &self.agent_version
    }

    /// What was said by [`Section::warn`] so far.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn push_warning(&self, warning: Diagnostic) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }
}

/// Without the values: there are secrets among them.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Config({})", self.compat.name())
    }
}
