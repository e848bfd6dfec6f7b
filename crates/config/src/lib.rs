//! filebeat.yml: from text to typed options.
//!
//! Comes in: YAML files, `-E` settings, the environment. Goes out: [`Config`], from which each crate takes its own
//! options through a [`Section`]; every problem is an [`Error`] with file, line, column, reason and remedy.
//!
//! The way of a text: `yaml` (positions, dotted keys) → `tree` (merging) → `section` (typed reading).

mod compat;
mod config;
mod error;
mod expand;
mod export;
mod includes;
mod leftovers;
mod load;
mod options;
mod paths;
mod secrets;
mod section;
mod source;
mod suggest;
mod tree;
mod units;
mod value;
mod yaml;

pub use compat::Compat;
pub use config::Config;
pub use error::{Diagnostic, Error};
pub use leftovers::Leftovers;
pub use load::{Load, Setting};
pub use paths::{Paths, default_home};
pub use section::Section;
