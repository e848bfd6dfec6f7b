//! Injection: which edits put Pillion beside the work of a Kubernetes object.
//!
//! Comes in: an object as JSON, and [`Options`]; annotations of its pod template steer some of them. Goes out: a
//! [`Plan`], edits like those of a JSON Patch, with what a person should know; or a [`Refusal`] that says what to do.
//!
//! Always holds:
//! - An object that was injected needs no edits: planning twice changes nothing.
//! - Objects that have no pods are left alone.
//! - An annotation can add no hostPath, no image, no privilege: those that exist are a closed list ([`SETTINGS`]), and
//!   each is read into a typed option.
//! - What works for the main container goes on working: its command, arguments, signals and exit code stay as they are.
//!
//! The way: `kinds` (where an object holds pods) → `pod` (what is in one, and what is missing) with `places` (volumes and
//! mounts), `sidecar` (our container), `wrapper` (the command around the work's) → `edits` (the difference).
//! Tested in each and in `tests/inject.rs`.

mod edits;
mod kinds;
mod options;
mod places;
mod pod;
mod settings;
mod sidecar;
mod wrapper;

use std::fmt;

use serde_json::Value;

pub(crate) use edits::pointer_parts;
pub use edits::{Edit, apply};
pub use options::{ConfigSource, KubeVersion, OnIncomplete, Options, Output, OutputKind, Resources, Way};
pub use settings::{SETTINGS, Setting};

/// Where all annotations of ours begin.
pub const PREFIX: &str = "pillion.dev/";

/// The annotation that marks a pod template as injected; its value is the version of Pillion that did it.
pub const MARK: &str = "pillion.dev/injected";

/// The name of the container that is added.
pub const CONTAINER: &str = "pillion";

/// What has to change in one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order in which they are to be applied; empty when nothing has to change.
    pub edits: Vec<Edit>,
    /// What a person should know, one sentence or two each.
    pub notes: Vec<String>,
    /// Objects that are needed beside this one: the ConfigMap with the configuration that was given as text.
    pub documents: Vec<Value>,
}

impl Plan {
    /// The edits as a JSON Patch (RFC 6902).
    pub fn patch(&self) -> Value {
        self.edits.iter().map(Edit::operation).collect()
    }
}

/// Why an object can't be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where in the object, as a JSON pointer (RFC 6901); may name something that isn't there.
    pub at: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Refusal {
    pub(crate) fn new(at: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal { at: at.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.at, self.reason, self.remedy)
    }
}

impl std::error::Error for Refusal {}

/// Plans the injection of one object; a `List` is planned item by item.
///
/// # Errors
/// When the object holds pods that were to be injected and can't be: nothing of it is planned then.
pub fn plan(object: &Value, options: &Options) -> Result<Plan, Refusal> {
    let mut wanted = object.clone();
    let mut plan = Plan::default();
    for place in kinds::places(object)? {
        pod::inject(&mut wanted, &place, options, &mut plan)?;
    }
    plan.edits = edits::between(object, &wanted);
    Ok(plan)
}
