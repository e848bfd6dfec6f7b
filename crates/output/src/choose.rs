//! Choosing a name for each event by rules: `key` and `keys` of Redis, `topic` and `topics` of Kafka, `indices` and
//! `pipelines` of Elasticsearch.
//!
//! Comes in: a section with one format string (`key`) and a list of rules (`keys`), then events. Goes out: the name of
//! the first rule that fits and gives one, else what the format string gives. A rule has a format string under the same
//! name as the single one, perhaps `mappings` from what it gives to another name, a `default` where it gives none, and a
//! condition `when`. Facts: elastic/beats `libbeat/outputs/outil/select.go`.
//!
//! Always holds: the same event gives the same name whenever it is sent; an event for which there is no name is an error
//! that names the field which is missing. A name that is the same for all events costs nothing. Tested below.

use pillion_config::{Error, Section};
use pillion_event::{Batch, Event};
use pillion_process::{Condition, Doc, Stage};
use serde_json::Value;

use crate::format::{Format, MissingField};
use crate::render::Renderer;

/// Rules and what holds where none fits.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The option's name: `key`.
    name: &'static str,
    rules: Rules,
    /// The single format string; `None` = only the rules.
    fallback: Option<Format>,
}

/// Rules alone, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

/// What becomes of upper case in names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// It stays.
    Keep,
    /// Names of Elasticsearch from 7 on: what rules give is in lower case, and so are both sides of `mappings`. What a
    /// format gives is looked up in them as it stands, as in Filebeat.
    Lower,
}

impl Case {
    fn of(self, text: &str) -> String {
        if self == Case::Lower { text.to_lowercase() } else { text.to_owned() }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    when: Option<Condition>,
    format: Format,
    /// Without any the format's own text is the name.
    mappings: Vec<(String, String)>,
    /// Where there is none; empty = the next rule is asked.
    default: String,
}

impl Choice {
    /// Reads the option `name` and the rules of `list`; `otherwise` stands in for an option that isn't set.
    pub(crate) fn from_section(
        s: &Section<'_>,
        name: &'static str,
        list: &str,
        otherwise: Option<&str>,
    ) -> Result<Choice, Error> {
        let rules = Rules::from_section(s, name, list, Case::Keep)?;
        let fallback = match s.str(name)?.filter(|text| !text.is_empty()) {
            Some(text) => Some(compile(s, name, &text)?),
            None => otherwise.map(|text| compile(s, name, text)).transpose()?,
        };
        Ok(Choice { name, rules, fallback })
    }

    /// The name, when it is the same for all events.
    pub(crate) fn constant(&self) -> Option<&str> {
        self.fallback.as_ref().filter(|_| self.rules.is_empty()).and_then(Format::constant)
    }

    /// Whether there is neither a rule nor a format string.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.fallback.is_none()
    }

    /// The event's name, never empty.
    pub(crate) fn of(&self, renderer: &Renderer, batch: &Batch, event: &Event) -> Result<Vec<u8>, MissingField> {
        let mut out = Vec::new();
        if self.rules.write(renderer, batch, event, &mut out) {
            return Ok(out);
        }
        if let Some(format) = &self.fallback {
            format.write(renderer, batch, event, &mut out)?;
        }
        // Nothing was chosen: the option itself is what is missing.
        if out.is_empty() { Err(MissingField(self.name.to_owned())) } else { Ok(out) }
    }
}

impl Rules {
    /// Reads the rules of `list`, each with a format string under `name`.
    pub(crate) fn from_section(s: &Section<'_>, name: &str, list: &str, case: Case) -> Result<Rules, Error> {
        let rules = s.sections(list)?;
        rules.iter().map(|rule| Rule::from_section(rule, name, case)).collect::<Result<_, _>>().map(Rules)
    }

    /// Whether there is no rule.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the name that the first rule gives into the empty `out`; false and nothing when none gives one.
    pub(crate) fn write(&self, renderer: &Renderer, batch: &Batch, event: &Event, out: &mut Vec<u8>) -> bool {
        self.0.iter().any(|rule| rule.fits(renderer, batch, event) && rule.write(renderer, batch, event, out))
    }
}

impl Rule {
    fn from_section(s: &Section<'_>, name: &str, case: Case) -> Result<Rule, Error> {
        let remedy = || format!("give it a format string, such as `{name}: \"logs-%{{[fields.team]}}\"`");
        let text = s.str(name)?.filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| s.error_here(format!("a rule without `{name}`"), remedy()))?;
        let mut mappings = Vec::new();
        if let Some(map) = s.json("mappings")? {
            let Value::Object(map) = map else {
                return Err(s.error("mappings", "not a section of names", "write `mappings: {from: to}`"));
            };
            for (from, to) in map {
                let Value::String(to) = to else {
                    return Err(s.error("mappings", format!("{from} isn't mapped to a text"), "put it in quotes"));
                };
                mappings.push((case.of(&from), case.of(&to)));
            }
        }
        let when = s.section("when")?.map(|when| Condition::from_section(&when)).transpose()?;
        let default = case.of(&s.str("default")?.unwrap_or_default());
        let mut format = compile(s, name, &text)?;
        if let (Case::Lower, Some(constant)) = (case, format.constant()) {
            format = Format::literal(&case.of(constant));
        }
        Ok(Rule { when, format, mappings, default })
    }

    fn fits(&self, renderer: &Renderer, batch: &Batch, event: &Event) -> bool {
        let Some(when) = &self.when else { return true };
        let mut doc = Doc::new(renderer, batch, event);
        doc.enter(Stage::Global);
        when.check(&mut doc)
    }

    /// Appends the rule's name; false and nothing when it has none for the event.
    fn write(&self, renderer: &Renderer, batch: &Batch, event: &Event, out: &mut Vec<u8>) -> bool {
        let found = self.format.write(renderer, batch, event, out).is_ok() && !out.is_empty();
        if found && !self.mappings.is_empty() {
            let to = self.mappings.iter().find(|(from, _)| from.as_bytes() == out.as_slice()).map(|(_, to)| to);
            out.clear();
            out.extend_from_slice(to.map_or(&[][..], String::as_bytes));
        }
        if out.is_empty() {
            out.extend_from_slice(self.default.as_bytes());
        }
        !out.is_empty()
    }
}

fn compile(s: &Section<'_>, name: &str, text: &str) -> Result<Format, Error> {
    let remedy = "fields are written `%{[name]}`, dates `%{+yyyy.MM.dd}`";
    Format::compile(text).map_err(|e| s.error(name, e.to_string(), remedy))
}

#[cfg(test)]
mod tests {
    use pillion_config::{Compat, Config};
    use pillion_event::InputKind;

    use super::*;
    use crate::render::tests::{agent, batch, input};
    use crate::render::{RenderOptions, Target};

    /// What is chosen for the lines `INFO a` and `WARN b` of `/x/test.log`.
    fn chosen(yaml: &str) -> Result<[Result<String, String>; 2], String> {
        let config = Config::from_yaml(&format!("o:\n{yaml}")).unwrap();
        let section = config.root().section("o").unwrap().unwrap();
        let choice = Choice::from_section(&section, "key", "keys", Some("other")).map_err(|e| e.to_string())?;
        let batch = batch(input(InputKind::Log), 0, &[b"INFO a", b"WARN b"]);
        let renderer = Renderer::new(RenderOptions::new(Target::Codec, Compat::V8), agent("8.19.3"));
        let of = |at: usize| {
            let name = choice.of(&renderer, &batch, &batch.events[at]);
            name.map(|name| String::from_utf8(name).unwrap()).map_err(|missing| missing.0)
        };
        Ok([of(0), of(1)])
    }

    #[test]
    fn the_table() {
        let (ok, missing) = (|name: &str| Ok(name.to_owned()), |field: &str| Err(field.to_owned()));
        for (yaml, want) in [
            (" x: 1", [ok("other"), ok("other")]),
            (" key: one", [ok("one"), ok("one")]),
            (" key: '%{[message]}!'", [ok("INFO a!"), ok("WARN b!")]),
            (" key: '%{[no.such]}'", [missing("no.such"), missing("no.such")]),
            (" keys: [{key: warn, when.contains.message: WARN}]", [ok("other"), ok("warn")]),
            (" keys: [{key: '%{[no.such]}'}, {key: second}]", [ok("second"), ok("second")]),
            (" keys: [{key: '%{[no.such]}', default: d}, {key: second}]", [ok("d"), ok("d")]),
            (" keys: [{key: '%{[message]}', mappings: {INFO a: low}}]", [ok("low"), ok("other")]),
            (" keys: [{key: '%{[message]}', mappings: {INFO a: low}, default: d}]", [ok("low"), ok("d")]),
            (
                " keys: [{key: 'log-%{[agent.type]}', when.equals.agent.type: filebeat}]",
                [ok("log-filebeat"), ok("log-filebeat")],
            ),
        ] {
            assert_eq!(chosen(yaml), Ok(want), "{yaml}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (yaml, why) in [
            (" keys: [{when.contains.message: x}]", "without `key`"),
            (" keys: [{key: '%{'}]", "missing"),
            (" keys: [{key: a, mappings: [b]}]", "section of names"),
            (" keys: [{key: a, when.contians.message: x}]", "no condition"),
        ] {
            let said = chosen(yaml).unwrap_err();
            assert!(said.contains(why), "{yaml}: {said}");
        }
    }
}
