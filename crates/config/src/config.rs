//! The whole configuration.

use std::sync::{Mutex, PoisonError};

use crate::compat::Compat;
use crate::error::{Diagnostic, Error};
use crate::section::Section;
use crate::source::Source;
use crate::tree::Node;
use crate::yaml;

/// A configuration, read and merged, whose sections can be taken.
pub struct Config {
    root: Node,
    compat: Compat,
    warnings: Mutex<Vec<Diagnostic>>,
}

impl Config {
    /// Reads one text, for tests: no other files, flags or environment.
    pub fn from_yaml(text: &str) -> Result<Config, Error> {
        let root = yaml::parse(&Source::file("filebeat.yml", text))?;
        Ok(Config { root, compat: Compat::V8, warnings: Mutex::new(Vec::new()) })
    }

    /// The root mapping.
    pub fn root(&self) -> Section<'_> {
        Section::new(self, &self.root, String::new())
    }

    /// The dialect.
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// What was said by [`Section::warn`] so far.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn push_warning(&self, warning: Diagnostic) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }
}
