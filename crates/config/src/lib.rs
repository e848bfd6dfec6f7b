//! filebeat.yml: from text to typed options.
//!
//! Comes in: YAML files, `-E` settings, the environment. Goes out: [`Config`], from which each crate takes its own
//! options through a [`Section`]; every problem is an [`Error`] with file, line, column, reason and remedy.
//!
//! The way of a text: `yaml` (positions, dotted keys) → `load` (layers of files, `-E` and flags, merged by `tree`) →
//! `expand` (variables, their values read by `value`) → `compat` (the dialect) → `section` (typed reading) →
//! `leftovers` (what nobody took, told by the table in `options`). `modules`: what Filebeat's modules stand for.
//! `further`: files beside it that hold inputs.
//!
//! Always holds: no option is ignored in silence; no message shows a secret; what any text may cost is bounded.
//! Tested by the tables in `tests/`, by properties, and by the fuzz target `config` (see [`check`]).

pub mod check;
mod compat;
mod config;
mod error;
mod expand;
mod export;
mod further;
mod includes;
mod keystore;
mod leftovers;
mod load;
mod modules;
mod options;
mod paths;
mod secrets;
mod section;
mod several;
mod source;
mod suggest;
mod tree;
mod units;
mod value;
mod yaml;

pub use compat::Compat;
pub use config::Config;
pub use error::{Diagnostic, Error};
pub use further::{Form, Further, further_text};
pub use keystore::{Keystore, Strict};
pub use leftovers::Leftovers;
pub use load::{Load, Setting};
pub use modules::filesets;
pub use options::catalogue::{Group, Listed, Outcome, Place, catalogue};
pub use paths::{Paths, default_home};
pub use section::Section;
pub use suggest::nearest;
pub use units::duration_ns;

/// Nanoseconds of a time span in Go's syntax, a bare number meaning seconds: for flags. `None` when it isn't one or is
/// negative.
pub fn parse_duration(text: &str) -> Option<u64> {
    let seconds = || text.parse::<u64>().ok()?.checked_mul(1_000_000_000);
    duration_ns(text).map_or_else(seconds, |ns| u64::try_from(ns).ok())
}
