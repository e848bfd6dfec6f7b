//! Processors from the configuration.
//!
//! Comes in: a section that may have `processors`. Goes out: [`Steps`]. Always holds: a processor that isn't known is
//! refused with its position; each entry has one processor, or `if`.
//! Tested below.

use std::sync::Arc;

use pillion_config::{Compat, Error, Section, nearest};

use crate::action::{self, Action};
use crate::condition::Condition;
use crate::kubernetes::Kubernetes;

/// One entry of `processors`.
#[derive(Debug)]
pub(crate) enum Step {
    /// A processor, perhaps with a condition.
    Do {
        /// Its name, for the log.
        name: &'static str,
        when: Option<Condition>,
        action: Box<dyn Action>,
    },
    /// `if`, `then`, `else`.
    If { condition: Condition, then: Vec<Step>, otherwise: Vec<Step> },
}

/// The processors of one place of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Steps(pub(crate) Arc<[Step]>);

/// The processors that the events of one input meet.
#[derive(Clone, Debug)]
pub struct Processors {
    pub(crate) compat: Compat,
    pub(crate) input: Steps,
    pub(crate) global: Steps,
}

impl Default for Processors {
    fn default() -> Processors {
        Processors { compat: Compat::V8, input: Steps::default(), global: Steps::default() }
    }
}

impl Processors {
    /// An input's own processors and the global ones, in the dialect of their configuration.
    pub fn new(compat: Compat, input: Steps, global: Steps) -> Processors {
        Processors { compat, input, global }
    }

    /// Every `add_kubernetes_metadata` among them, wherever it stands: each has to be connected before it adds
    /// anything.
    pub fn kubernetes(&self) -> Vec<&Kubernetes> {
        let mut found = Vec::new();
        for steps in [&self.input, &self.global] {
            find_kubernetes(&steps.0, &mut found);
        }
        found
    }
}

fn find_kubernetes<'s>(steps: &'s [Step], found: &mut Vec<&'s Kubernetes>) {
    for step in steps {
        match step {
            Step::Do { action, .. } => found.extend(action.kubernetes()),
            Step::If { then, otherwise, .. } => {
                find_kubernetes(then, found);
                find_kubernetes(otherwise, found);
            }
        }
    }
}

impl Steps {
    /// Reads `processors` of a section; none when it isn't there.
    ///
    /// # Errors
    /// The first processor that isn't known or whose options are wrong.
    pub fn from_section(s: &Section<'_>) -> Result<Steps, Error> {
        Ok(Steps(list(s, "processors")?.into()))
    }
}

/// A list of processors, or one alone.
fn list(s: &Section<'_>, key: &str) -> Result<Vec<Step>, Error> {
    let items = match s.sections(key) {
        Ok(items) => items,
        Err(e) => match s.section(key) {
            Ok(one) => one.into_iter().collect(),
            Err(_) => return Err(e),
        },
    };
    items.iter().map(step).collect()
}

fn step(item: &Section<'_>) -> Result<Step, Error> {
    if item.has("if") {
        let Some(condition) = item.section("if")? else {
            return Err(item.error("if", "there is no condition here", "give one"));
        };
        let condition = Condition::from_section(&condition)?;
        let (then, otherwise) = (list(item, "then")?, list(item, "else")?);
        if then.is_empty() {
            return Err(item.error("if", "`if` without `then` does nothing", "add `then:` with processors"));
        }
        return Ok(Step::If { condition, then, otherwise });
    }
    let keys: Vec<&str> = item.keys().collect();
    let [key] = keys.as_slice() else {
        let shown = keys.join(", ");
        return Err(item.error_here(
            format!("each entry has exactly one processor, and here are {}: {shown}", keys.len()),
            "begin each processor with `- `, and indent its options below its name",
        ));
    };
    let sections = item.named_sections()?;
    let Some((_, options)) = sections.first() else {
        return Err(item.error_here("there is no processor here", "remove the entry"));
    };
    let Some((name, read)) = action::KNOWN.iter().find(|(name, _)| name == key) else {
        return Err(unknown(item, key));
    };
    let when = match options.section("when")? {
        None => None,
        Some(when) => Some(Condition::from_section(&when)?),
    };
    if *name == "drop_event" && when.is_none() {
        options.warn("when", "drop_event without `when` drops every event", "give a condition");
    }
    Ok(Step::Do { name, when, action: read(options)? })
}

fn unknown(item: &Section<'_>, key: &str) -> Error {
    if action::ABSENT.contains(&key) {
        let here: Vec<&str> = action::KNOWN.iter().map(|(name, _)| *name).collect();
        return item.error(
            key,
            format!("the processor `{key}` isn't there yet: events would reach the target without it"),
            format!(
                "remove it if the target can do without, or let the target do its work; here are {}",
                here.join(", ")
            ),
        );
    }
    let names = action::KNOWN.iter().map(|(name, _)| *name).chain(action::ABSENT.iter().copied());
    let remedy = match nearest(key, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "see docs/processors.md for those that are there".to_owned(),
    };
    item.error(key, format!("there is no processor `{key}`"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::config;

    #[test]
    fn what_is_wrong_is_refused() {
        for (processors, want) in [
            ("[{add_tag: {tags: [a]}}]", "did you mean `add_tags`?"),
            ("[{dns: {type: reverse}}]", "isn't there yet"),
            ("[{add_tags: {tags: [a]}, drop_event: ~}]", "exactly one processor"),
            ("[{if: {equals.a: 1}}]", "without `then`"),
            ("[{if: {equal.a: 1}, then: {add_tags: {tags: [a]}}}]", "no condition"),
            ("[{rename: ~}]", "fields"),
            ("[{add_tags: {tags: [a], when: {range.a: x}}}]", "range"),
        ] {
            let config = config(&format!("processors: {processors}"));
            let error = Steps::from_section(&config.root()).unwrap_err().to_string();
            assert!(error.contains(want), "{processors}: {error}");
        }
    }

    #[test]
    fn a_single_processor_stands_for_a_list() {
        let config = config("processors: [{if: {equals.a: 1}, then: {add_tags: {tags: [a]}}, else: [{add_id: ~}]}]");
        let steps = Steps::from_section(&config.root()).unwrap();
        assert!(matches!(&steps.0[0], Step::If { then, otherwise, .. } if then.len() == 1 && otherwise.len() == 1));
        assert!(config.leftovers().refused.is_empty());
    }
}
