//! The names of index and pipeline for each event.
//!
//! Comes in: `index`, `indices`, `pipeline`, `pipelines`, what an input says of its own, and events. Goes out: the two
//! names, before they are put into lower case. In Filebeat's order: what the event's `@metadata` says (`index`,
//! `raw_index`; up to 7 `alias`, and the day behind `index`; `pipeline`), what its input says, the first rule that gives
//! a name, the single format string. Facts: elastic/beats `libbeat/idxmgmt/std.go`, `libbeat/outputs/outil/select.go`,
//! `libbeat/outputs/elasticsearch/client.go`.
//!
//! Always holds: the same event gives the same names whenever it is sent. Without rules a name that doesn't differ from
//! one event to the next is not made again. An event without an index is an error that names the missing field; one
//! without a pipeline goes without. Tested below and in `tests.rs`.

use std::sync::Arc;

use pillion_config::Compat;
use pillion_event::{Batch, Event, InputDesc};
use serde_json::Value;

use crate::choose::Rules;
use crate::contract::Agent;
use crate::format::{Format, MissingField, Selector};
use crate::render::{Renderer, write_timestamp};

/// Inputs remembered; beyond it (reloads) all are forgotten.
const MOST_INPUTS: usize = 256;

/// What the output's settings say. Cheap to clone.
#[derive(Clone)]
pub(super) struct NameOptions {
    /// `index`.
    pub(super) index: Arc<Format>,
    /// `indices`.
    pub(super) indices: Arc<Rules>,
    /// `pipeline`.
    pub(super) pipeline: Option<Arc<Format>>,
    /// `pipelines`.
    pub(super) pipelines: Arc<Rules>,
    /// Which Filebeat's names.
    pub(super) compat: Compat,
}

/// The names for the events of one input.
struct OfInput {
    input: Arc<InputDesc>,
    index: Selector,
    /// The input has an index of its own: no rule is asked.
    own_index: bool,
    pipeline: Option<Selector>,
    own_pipeline: bool,
}

/// Makes names; each worker has its own.
pub(super) struct Names {
    options: NameOptions,
    inputs: Vec<OfInput>,
    last: usize,
    /// What a rule or the event gave last.
    text: String,
}

impl Names {
    pub(super) fn new(options: NameOptions) -> Names {
        Names { options, inputs: Vec::new(), last: 0, text: String::new() }
    }

    /// From now on this takes the place of the single format string.
    pub(super) fn use_index(&mut self, index: &Arc<Format>) {
        if !Arc::ptr_eq(&self.options.index, index) {
            self.options.index = Arc::clone(index);
            self.inputs.clear();
        }
    }

    /// The index of an event.
    pub(super) fn index(&mut self, renderer: &Renderer, batch: &Batch, event: &Event) -> Result<&str, MissingField> {
        if let Some(index) = index_of_its_own(event, self.options.compat) {
            self.text = index;
            return Ok(&self.text);
        }
        self.find(&batch.source.input, renderer.agent());
        let Some(names) = self.inputs.get_mut(self.last) else { return Ok("") };
        let rules = &self.options.indices;
        if !names.own_index && !rules.is_empty() && chosen(rules, renderer, batch, event, &mut self.text) {
            return Ok(&self.text);
        }
        names.index.get(renderer, batch, event)
    }

    /// The pipeline of an event; empty = none.
    pub(super) fn pipeline<'n>(&'n mut self, renderer: &Renderer, batch: &Batch, event: &'n Event) -> &'n str {
        if let Some(pipeline) = metadata(event, "pipeline") {
            return pipeline;
        }
        self.find(&batch.source.input, renderer.agent());
        let Some(names) = self.inputs.get_mut(self.last) else { return "" };
        if !names.own_pipeline {
            // From 7 on Filebeat asks the output only for events without any `@metadata`, and an input's `index` is there too:
            // elastic/beats#40076.
            let said = |event: &Event| event.overlay.as_ref().is_some_and(|o| !o.metadata.is_empty());
            if self.options.compat != Compat::V5 && (names.own_index || said(event)) {
                return "";
            }
            let rules = &self.options.pipelines;
            if !rules.is_empty() && chosen(rules, renderer, batch, event, &mut self.text) {
                return &self.text;
            }
        }
        // A field that isn't there means no pipeline, as in Filebeat.
        names.pipeline.as_mut().and_then(|p| p.get(renderer, batch, event).ok()).unwrap_or_default()
    }

    /// Makes `last` the place of this input's names.
    fn find(&mut self, input: &Arc<InputDesc>, agent: &Agent) {
        if self.inputs.get(self.last).is_some_and(|n| Arc::ptr_eq(&n.input, input)) {
            return;
        }
        if let Some(at) = self.inputs.iter().position(|n| Arc::ptr_eq(&n.input, input)) {
            self.last = at;
            return;
        }
        if self.inputs.len() >= MOST_INPUTS {
            self.inputs.clear();
        }
        let own = |text: &Option<String>| Format::compile(text.as_deref().filter(|t| !t.is_empty())?).ok();
        let index = own(&input.index).map(|format| Arc::new(format.of_program(agent)));
        let pipeline = own(&input.pipeline).map(Arc::new);
        let (own_index, own_pipeline) = (index.is_some(), pipeline.is_some());
        let index = Selector::new(index.unwrap_or_else(|| Arc::clone(&self.options.index)));
        let pipeline = pipeline.or_else(|| self.options.pipeline.clone()).map(Selector::new);
        self.inputs.push(OfInput { input: Arc::clone(input), index, own_index, pipeline, own_pipeline });
        self.last = self.inputs.len() - 1;
    }
}

/// Whether a rule gives a name; it is in `text` then.
fn chosen(rules: &Rules, renderer: &Renderer, batch: &Batch, event: &Event, text: &mut String) -> bool {
    let mut bytes = std::mem::take(text).into_bytes();
    bytes.clear();
    let found = rules.write(renderer, batch, event, &mut bytes);
    *text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    found
}

/// A text of the event's `@metadata`.
pub(super) fn metadata<'e>(event: &'e Event, key: &str) -> Option<&'e str> {
    event.overlay.as_ref()?.metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What `@metadata` says of the index. The first key that is there decides; one without a text leaves it to what else says so.
fn index_of_its_own(event: &Event, compat: Compat) -> Option<String> {
    let all = &event.overlay.as_ref()?.metadata;
    // 8.0 has no aliases any more, and takes `index` as it is, for data streams.
    let dated = compat < Compat::V8;
    let keys: &[&str] = if dated { &["alias", "index", "raw_index"] } else { &["index", "raw_index"] };
    let key = keys.iter().find(|key| all.contains_key(**key))?;
    let name = metadata(event, key)?;
    if !dated || *key != "index" {
        return Some(name.to_owned());
    }
    let mut time = Vec::new();
    write_timestamp(event.time_ms, &mut time);
    let day = String::from_utf8_lossy(time.get(..10).unwrap_or_default()).replace('-', ".");
    Some(format!("{name}-{day}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pillion_config::Config;
    use pillion_event::{InputKind, Overlay};

    use super::*;
    use crate::choose::Case;
    use crate::render::tests::{agent, batch, input};
    use crate::render::{RenderOptions, Target};

    /// Index and pipeline of `INFO a` and of `WARN b`, with `@metadata` for the second.
    fn names(yaml: &str, input: InputDesc, metadata: &str) -> [(String, String); 2] {
        names_of(Compat::V8, yaml, input, metadata)
    }

    fn names_of(compat: Compat, yaml: &str, input: InputDesc, metadata: &str) -> [(String, String); 2] {
        let config = Config::from_yaml(&format!("o:\n{yaml}")).unwrap();
        let s = config.root().section("o").unwrap().unwrap();
        let rules = |key, list| Arc::new(Rules::from_section(&s, key, list, Case::Lower).unwrap());
        let format = |key| s.str(key).unwrap().map(|text| Arc::new(Format::compile(&text).unwrap()));
        let options = NameOptions {
            index: format("index").unwrap_or_else(|| Arc::new(Format::compile("usual").unwrap())),
            indices: rules("index", "indices"),
            pipeline: format("pipeline"),
            pipelines: rules("pipeline", "pipelines"),
            compat,
        };
        let mut batch = batch(input, 0, &[b"INFO a", b"WARN b"]);
        batch.events[1].time_ms = 1_795_426_496_000;
        if !metadata.is_empty() {
            let metadata = serde_json::from_str(metadata).unwrap();
            batch.events[1].overlay = Some(Box::new(Overlay { metadata, ..Overlay::default() }));
        }
        let renderer = Renderer::new(RenderOptions::new(Target::Elasticsearch, compat), agent("8.19.3"));
        let mut names = Names::new(options);
        [0, 1].map(|at| {
            let event = &batch.events[at];
            let index = names.index(&renderer, &batch, event).map_or_else(|m| format!("! {}", m.0), str::to_owned);
            (index, names.pipeline(&renderer, &batch, event).to_owned())
        })
    }

    #[test]
    fn the_order_is_that_of_filebeat() {
        let warn = "{index: Warn, when.contains.message: WARN}";
        let clean = "{pipeline: Clean, when.contains.message: WARN}";
        for (yaml, metadata, first, second) in [
            (" x: 1".to_owned(), "", ("usual", ""), ("usual", "")),
            (format!(" indices: [{warn}]\n pipelines: [{clean}]"), "", ("usual", ""), ("warn", "clean")),
            (format!(" index: Own\n pipeline: p\n indices: [{warn}]"), "", ("Own", "p"), ("warn", "p")),
            (" index: '%{[no]}'\n pipeline: '%{[no]}'".into(), "", ("! no", ""), ("! no", "")),
            (format!(" indices: [{warn}]"), r#"{"raw_index":"Raw"}"#, ("usual", ""), ("Raw", "")),
            (format!(" indices: [{warn}]"), r#"{"index":"day","raw_index":"r"}"#, ("usual", ""), ("day", "")),
            (format!(" indices: [{warn}]"), r#"{"index":"day","alias":"a"}"#, ("usual", ""), ("day", "")),
            (format!(" indices: [{warn}]"), r#"{"index":"","raw_index":"r"}"#, ("usual", ""), ("warn", "")),
            (format!(" indices: [{warn}]"), r#"{"alias":"a"}"#, ("usual", ""), ("warn", "")),
            (format!(" pipelines: [{clean}]"), r#"{"pipeline":"m"}"#, ("usual", ""), ("usual", "m")),
            (
                " indices: [{index: '%{[message]}', mappings: {INFO a: Low, warn b: x}, default: D}]".into(),
                "",
                // The keys are in lower case, what the format gives isn't: so it is in Filebeat.
                ("d", ""),
                ("d", ""),
            ),
            (" indices: [{index: 'ONE', mappings: {One: Two}}]".into(), "", ("two", ""), ("two", "")),
        ] {
            let own = |(index, pipeline): (&str, &str)| (index.to_owned(), pipeline.to_owned());
            assert_eq!(names(&yaml, input(InputKind::Log), metadata), [own(first), own(second)], "{yaml} {metadata}");
        }
    }

    #[test]
    fn up_to_7_an_alias_comes_first_and_an_index_gets_its_day() {
        for (metadata, index) in [
            (r#"{"index":"day","raw_index":"r"}"#, "day-2026.11.23"),
            (r#"{"index":"day","alias":"a"}"#, "a"),
            (r#"{"alias":"","raw_index":"r"}"#, "usual"),
        ] {
            for compat in [Compat::V5, Compat::V7] {
                assert_eq!(names_of(compat, " x: 1", input(InputKind::Log), metadata)[1].0, index, "{metadata}");
            }
        }
    }

    /// `getPipeline` in `client.go`, elastic/beats#40076: what the output says is for events that have no `@metadata`.
    #[test]
    fn an_event_with_metadata_has_its_own_pipeline_or_none() {
        let yaml = " pipeline: single\n pipelines: [{pipeline: rule, when.contains.message: WARN}]";
        for (metadata, pipeline) in
            [("", "rule"), (r#"{"_id":"x"}"#, ""), (r#"{"pipeline":7}"#, ""), (r#"{"pipeline":"P"}"#, "P")]
        {
            assert_eq!(names(yaml, input(InputKind::Log), metadata)[1].1, pipeline, "{metadata}");
            assert_eq!(names(yaml, input(InputKind::Log), metadata)[0].1, "single", "{metadata}");
        }
        // 5 and 6 ask it for all that have no pipeline of their own.
        let before = names_of(Compat::V5, yaml, input(InputKind::Log), r#"{"_id":"x"}"#);
        assert_eq!(before[1].1, "rule");
        let own = |index: bool, pipeline: bool| {
            let mut own = input(InputKind::Log);
            own.index = index.then(|| "i".into());
            own.pipeline = pipeline.then(|| "p".into());
            names(yaml, own, r#"{"_id":"x"}"#).map(|(_, pipeline)| pipeline)
        };
        assert_eq!([own(true, false), own(true, true), own(false, true)], [["", ""], ["p", "p"], ["p", "p"]]);
    }

    /// `fmtstr.FieldsForBeat`: there `agent.name` is the program's, not the host's.
    #[test]
    fn an_inputs_index_knows_the_program() {
        let mut own = input(InputKind::Log);
        own.index = Some("%{[agent.name]}-%{[beat.version]}-%{[observer.name]}-%{[agent.id]}".into());
        assert_eq!(names(" x: 1", own, "")[0].0, "filebeat-8.19.3-filebeat-id-1");
    }

    #[test]
    fn what_an_input_says_comes_before_rules_and_behind_the_event() {
        let mut own = input(InputKind::Log);
        own.index = Some("of-input".into());
        own.pipeline = Some("pipe".into());
        let yaml = " indices: [{index: rule}]\n pipelines: [{pipeline: rule}]\n pipeline: single";
        let got = names(yaml, own, r#"{"raw_index":"event","pipeline":"e"}"#);
        let want = [("of-input", "pipe"), ("event", "e")].map(|(i, p)| (i.to_owned(), p.to_owned()));
        assert_eq!(got, want);
    }

    #[test]
    fn without_rules_a_name_is_made_once() {
        let format = |text: &str| Arc::new(Format::compile(text).unwrap());
        let mut names = Names::new(NameOptions {
            index: format("logs-%{[agent.version]}-%{+yyyy.MM}"),
            indices: Arc::default(),
            pipeline: Some(format("p-%{[agent.type]}")),
            pipelines: Arc::default(),
            compat: Compat::V8,
        });
        let batch = batch(input(InputKind::Log), 0, &[b"a", b"b"]);
        let renderer = Renderer::new(RenderOptions::new(Target::Elasticsearch, Compat::V8), agent("8.19.3"));
        let mut at = |event: usize| {
            let event = &batch.events[event];
            let index = names.index(&renderer, &batch, event).unwrap().as_ptr();
            (index, names.pipeline(&renderer, &batch, event).as_ptr(), names.text.capacity())
        };
        let first = at(0);
        assert_eq!(first.2, 0, "nothing was made beside the selectors' own text");
        assert_eq!(at(1), first, "the very same text");
    }
}
