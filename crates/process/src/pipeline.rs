//! The processors at work on batches.
//!
//! Comes in: the processors of an input and its description, then batches as they were read. Goes out: a description that
//! holds what is the same for all events, and batches whose events are processed.
//!
//! The order is Filebeat's: the input's own processors, then what Filebeat adds to every event, then the global ones. A
//! processor that fails is said to the debug log, and the next one goes on with what it left; within `then` and `else`
//! the rest of that list is left out.
//!
//! Always holds: the events that stay are in the order of their ranges; what is dropped is counted. Tested below.

use std::sync::Arc;

use pillion_config::Compat;
use pillion_event::{Batch, Event, InputDesc, Overlay};
use serde_json::{Map, Value};

use crate::action::{Constant, Done};
use crate::condition::Condition;
use crate::doc::{Doc, Shape, Stage};
use crate::options::{Processors, Step, Steps};
use crate::tree;

/// How many events processors left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Dropped by a processor for what they are.
    pub filtered: u64,
    /// Dropped by `rate_limit` for being too many.
    pub limited: u64,
}

impl LeftOut {
    /// Both together.
    pub fn all(self) -> u64 {
        self.filtered + self.limited
    }
}

/// Processors bound to one input. See the module's header.
pub struct Pipeline {
    shape: Arc<dyn Shape>,
    input: Steps,
    global: Steps,
    /// How many of each, at the front, are in the input's description already.
    folded: [usize; 2],
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("input", &self.input).field("global", &self.global).finish_non_exhaustive()
    }
}

impl Processors {
    /// Binds them to an input: the description that its events have from now on, and the processors that still have to
    /// see each event, if there are any.
    pub fn bind(&self, desc: &Arc<InputDesc>, shape: &Arc<dyn Shape>) -> (Arc<InputDesc>, Option<Arc<Pipeline>>) {
        let mut folded = [0, 0];
        let mut new = Arc::clone(desc);
        if self.compat != Compat::V5 {
            folded[0] = fold(&self.input, &mut new, shape.late(), self.lines);
            if folded[0] == self.input.0.len() {
                folded[1] = fold(&self.global, &mut new, &[], self.lines);
            }
        }
        if folded == [self.input.0.len(), self.global.0.len()] {
            return (new, None);
        }
        let (input, global) = (self.input.clone(), self.global.clone());
        (new, Some(Arc::new(Pipeline { shape: Arc::clone(shape), input, global, folded })))
    }
}

/// Puts what the first processors add to every event into the description; how many they are. `late`: names that aren't
/// there yet when they run. `lines`: no event has tags of its own, so that what a condition says of them is known too.
fn fold(steps: &Steps, desc: &mut Arc<InputDesc>, late: &[&str], lines: bool) -> usize {
    let mut done = 0;
    for step in steps.0.iter() {
        let Step::Do { when, action, .. } = step else { break };
        if let Some(when) = when {
            match lines.then(|| constant_tags(when, desc)).flatten() {
                Some(true) => {}
                // It never runs, whatever it would do.
                Some(false) => {
                    done += 1;
                    continue;
                }
                None => break,
            }
        }
        let Some(Constant { fields, tags }) = action.constant() else { break };
        let special = |key: &str| key == "tags" || key.starts_with('@') || late.contains(&key);
        if fields.keys().any(|key| special(key)) || (!tags.is_empty() && desc.root_fields.contains_key("tags")) {
            break;
        }
        let desc = Arc::make_mut(desc);
        desc.tags.extend(tags);
        for (key, value) in fields {
            match value {
                // `fields` of the configuration are merged last: these have to be there with them.
                Value::Object(below) if key == "fields" => tree::merge(&mut desc.fields, below, true),
                value => tree::merge(&mut desc.root_fields, [(key, value)].into_iter().collect(), true),
            }
        }
        done += 1;
    }
    done
}

/// What a condition says of every event whose tags are those of its input; `None` when it is about more than these.
fn constant_tags(when: &Condition, desc: &InputDesc) -> Option<bool> {
    if !when.is_about(&["tags"]) || desc.root_fields.contains_key("tags") {
        return None;
    }
    let own = [("tags".to_owned(), desc.tags.clone().into())];
    let own: Map<String, Value> = own.into_iter().filter(|_| !desc.tags.is_empty()).collect();
    Some(when.check(&mut &own))
}

impl Pipeline {
    /// Processes the events of a batch. How many were dropped.
    pub fn run(&self, batch: &mut Batch) -> LeftOut {
        let mut events = std::mem::take(&mut batch.events);
        let mut left_out = LeftOut::default();
        events.retain_mut(|event| match self.event(batch, event, &mut left_out) {
            None => false,
            Some((time_ms, overlay)) => {
                event.time_ms = time_ms;
                if let Some(overlay) = overlay {
                    event.overlay = Some(Box::new(overlay));
                }
                true
            }
        });
        batch.events = events;
        left_out
    }

    /// What becomes of an event; `None` = it is dropped, and counted.
    fn event(&self, batch: &Batch, event: &Event, left_out: &mut LeftOut) -> Option<(i64, Option<Overlay>)> {
        let mut doc = Doc::new(&*self.shape, batch, event);
        for (stage, steps, folded) in
            [(Stage::Input, &self.input, self.folded[0]), (Stage::Global, &self.global, self.folded[1])]
        {
            doc.enter(stage);
            for step in steps.0.iter().skip(folded) {
                match run(step, &mut doc) {
                    Ok(Done::Keep) | Err(_) => {}
                    Ok(Done::Drop) => {
                        left_out.filtered += 1;
                        return None;
                    }
                    Ok(Done::Limit) => {
                        left_out.limited += 1;
                        return None;
                    }
                }
            }
        }
        Some(doc.finish())
    }
}

/// Runs one step; an error was said already.
pub(crate) fn run(step: &Step, doc: &mut Doc<'_>) -> Result<Done, String> {
    match step {
        Step::Do { name, when, action } => {
            if when.as_ref().is_some_and(|when| !when.check(doc)) {
                return Ok(Done::Keep);
            }
            action.run(doc).inspect_err(|error| tracing::debug!(processor = name, error, "a processor failed"))
        }
        Step::If { condition, then, otherwise } => {
            for step in if condition.check(doc) { then } else { otherwise } {
                let done = run(step, doc)?;
                if done != Done::Keep {
                    return Ok(done);
                }
            }
            Ok(Done::Keep)
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Events for tests: what a processor makes of one.

    use super::*;
    use pillion_config::Config;
    use pillion_event::{BatchId, Extent, FileStat, Flags, Guard, Incarnation, InputKind, Source, Stream};
    use serde_json::json;

    /// A configuration of a few lines.
    pub(crate) fn config(yaml: &str) -> Config {
        Config::from_yaml(&format!("pillion.compat: 7\n{yaml}\n")).unwrap()
    }

    /// Fields as they are; `agent`, `host` and `ecs` come late.
    struct Fixed(Map<String, Value>, u8);

    impl Shape for Fixed {
        fn fields(&self, _: &Batch, _: &Event) -> Map<String, Value> {
            self.0.clone()
        }
        fn late(&self) -> &'static [&'static str] {
            &["ecs", "host", "agent"]
        }
        fn is_modern(&self) -> bool {
            self.1 >= 8
        }
    }

    pub(crate) fn input() -> InputDesc {
        InputDesc::bare(InputKind::Log, "")
    }

    /// A batch of lines of one file, without their line ends in between.
    pub(crate) fn batch(desc: Arc<InputDesc>, lines: &[&[u8]]) -> Batch {
        let source = Source {
            input: desc,
            path: "/x/a.log".into(),
            key: "k".into(),
            incarnation: Incarnation(7),
            stat: FileStat::default(),
            render: Default::default(),
            more: Default::default(),
        };
        let mut data = Vec::new();
        let events = lines
            .iter()
            .map(|line| {
                let from = data.len() as u32;
                data.extend_from_slice(line);
                Event {
                    text: from..data.len() as u32,
                    offset: u64::from(from),
                    len: line.len() as u32,
                    time_ms: 1_767_225_600_000,
                    stream: Stream::None,
                    flags: Flags::default(),
                    overlay: None,
                }
            })
            .collect();
        Batch {
            id: BatchId(1),
            source: Arc::new(source),
            from: 0,
            to: data.len() as u64,
            guard: Guard::default(),
            read_ms: 0,
            data,
            events,
            replayed: false,
        }
    }

    /// A shape that gives these fields for each event.
    pub(crate) fn shape(fields: Value) -> Arc<dyn Shape> {
        shape_as(8, fields)
    }

    fn shape_as(dialect: u8, mut fields: Value) -> Arc<dyn Shape> {
        let mut map = fields.as_object_mut().map(std::mem::take).unwrap_or_default();
        map.remove("message");
        Arc::new(Fixed(map, dialect))
    }

    /// What is seen of an event with these fields, `message` being its text.
    pub(crate) fn on_event<R>(event: Value, look: impl FnOnce(&mut Doc<'_>) -> R) -> R {
        let text = event["message"].as_str().unwrap_or_default().to_owned();
        let batch = batch(Arc::new(input()), &[text.as_bytes()]);
        let shape = shape(event);
        look(&mut Doc::new(&*shape, &batch, &batch.events[0]))
    }

    /// The texts of the events that a processor lets through, all read at the same time.
    pub(crate) fn lines(action: &dyn crate::action::Action, texts: &[&str], replayed: bool) -> Vec<String> {
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        let mut batch = batch(Arc::new(input()), &texts);
        batch.replayed = replayed;
        let shape = shape(json!({}));
        let kept = |event: &&Event| matches!(action.run(&mut Doc::new(&*shape, &batch, event)), Ok(Done::Keep));
        batch.events.iter().filter(kept).map(|e| String::from_utf8_lossy(batch.text(e)).into_owned()).collect()
    }

    /// An event with some of its top-level fields changed.
    pub(crate) fn with(event: &Value, change: Value) -> Value {
        let mut out = event.clone();
        if let (Value::Object(out), Value::Object(change)) = (&mut out, change) {
            out.extend(change);
        }
        out
    }

    /// What global processors make of an event: its fields with `message`, and `@timestamp` and `@metadata` where they
    /// changed; `null` = dropped.
    pub(crate) fn processed(processors: &str, event: Value) -> Value {
        processed_as(7, processors, event)
    }

    /// The same in a dialect: 7, 8 or 9.
    pub(crate) fn processed_as(dialect: u8, processors: &str, event: Value) -> Value {
        processed_in(Stage::Global, dialect, processors, event)
    }

    /// The same by an input's own processors, or by those at the top.
    pub(crate) fn processed_in(stage: Stage, dialect: u8, processors: &str, event: Value) -> Value {
        let config = Config::from_yaml(&format!("pillion.compat: {dialect}\nprocessors: {processors}\n")).unwrap();
        let (mut input_steps, mut global) = (Steps::from_section(&config.root()).unwrap(), Steps::default());
        if stage == Stage::Global {
            std::mem::swap(&mut input_steps, &mut global);
        }
        let text = event["message"].as_str().unwrap_or_default().to_owned();
        let mut batch = batch(Arc::new(input()), &[text.as_bytes()]);
        let time = batch.events[0].time_ms;
        let before = event.as_object().cloned().unwrap_or_default();
        let shape = shape_as(dialect, event);
        let pipeline = Pipeline { shape, input: input_steps, global, folded: [0, 0] };
        pipeline.run(&mut batch);
        let Some(e) = batch.events.first() else { return Value::Null };
        let mut fields = match &e.overlay {
            None => before,
            Some(o) => {
                let mut fields = match &o.extent {
                    Extent::Members(gone) => {
                        let stays = |name: &String| name != "message" && !gone.contains(name);
                        before.into_iter().filter(|(name, _)| stays(name)).collect()
                    }
                    _ => Map::new(),
                };
                fields.extend(o.fields.clone());
                if !o.no_message {
                    fields.insert("message".into(), json!(text));
                }
                if !o.metadata.is_empty() {
                    fields.insert("@metadata".into(), Value::Object(o.metadata.clone()));
                }
                fields
            }
        };
        if e.time_ms != time {
            fields.insert("@timestamp".into(), json!(e.time_ms));
        }
        Value::Object(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{batch, config, input, processed, shape};
    use super::*;
    use pillion_event::Extent;
    use serde_json::json;

    fn bind(input_steps: &str, global: &str) -> (Arc<InputDesc>, Option<Arc<Pipeline>>) {
        let steps = |yaml: &str| Steps::from_section(&config(&format!("processors: {yaml}")).root()).unwrap();
        let shape = shape(json!({"agent": {"type": "filebeat"}, "host": {"name": "h"}, "log": {"offset": 0}}));
        Processors::new(Compat::V7, steps(input_steps), steps(global)).bind(&Arc::new(input()), &shape)
    }

    #[test]
    fn what_is_the_same_for_all_events_costs_nothing_for_each() {
        let (desc, rest) = bind(
            "[{add_tags: {tags: [a]}}, {add_fields: {fields: {x: 1}}}]",
            "[{add_labels: {labels: {l: v}}}, {add_fields: {target: '', fields: {y: {z: 2}}}}]",
        );
        assert!(rest.is_none());
        assert_eq!(desc.tags, ["a"]);
        assert_eq!(json!(desc.fields), json!({"x": 1}));
        assert_eq!(json!(desc.root_fields), json!({"labels": {"l": "v"}, "y": {"z": 2}}));
    }

    /// Filebeat's own default configuration has such a condition.
    #[test]
    fn a_condition_on_tags_is_answered_once() {
        let when = "[{add_fields: {fields: {x: 1}, when.not.contains.tags: forwarded}}]";
        let steps = || Steps::from_section(&config(&format!("processors: {when}")).root()).unwrap();
        for (tags, lines, folded, fields) in [
            (&[][..], true, true, json!({"x": 1})),
            (&["forwarded"][..], true, true, json!({})),
            (&["other"][..], true, true, json!({"x": 1})),
            (&[][..], false, false, json!({})),
        ] {
            let mut desc = input();
            desc.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let processors = Processors::new(Compat::V8, Steps::default(), steps()).of_lines(lines);
            let (desc, rest) = processors.bind(&Arc::new(desc), &shape(json!({})));
            assert_eq!((rest.is_none(), json!(desc.fields)), (folded, fields), "{tags:?} {lines}");
        }
    }

    #[test]
    fn what_never_runs_costs_nothing() {
        let steps =
            "[{add_tags: {tags: [t]}}, {drop_event.when.contains.tags: forwarded}, {add_id.when.contains.tags: x}]";
        let steps = || Steps::from_section(&config(&format!("processors: {steps}")).root()).unwrap();
        for (tags, folded) in [(&[][..], true), (&["forwarded"][..], false), (&["x"][..], false)] {
            let mut desc = input();
            desc.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let processors = Processors::new(Compat::V8, Steps::default(), steps()).of_lines(true);
            let (_, rest) = processors.bind(&Arc::new(desc), &shape(json!({})));
            assert_eq!(rest.is_none(), folded, "{tags:?}");
        }
    }

    #[test]
    fn events_that_are_only_looked_at_stay_as_they_were_read() {
        let (desc, pipeline) = bind("[]", "[{drop_event.when.contains.message: debug}]");
        let mut b = batch(desc, &[b"one", b"debug two", b"three"]);
        assert_eq!(pipeline.unwrap().run(&mut b), LeftOut { filtered: 1, limited: 0 });
        let kept: Vec<&[u8]> = b.events.iter().map(|e| b.text(e)).collect();
        assert_eq!(kept, [&b"one"[..], b"three"]);
        assert!(b.events.iter().all(|e| e.overlay.is_none()));
        assert_eq!(b.check(), Ok(()));
    }

    #[test]
    fn an_inputs_own_processors_dont_see_what_comes_later() {
        let has_agent = "{add_tags: {tags: [t], when: {has_fields: [agent.type]}}}";
        let (desc, pipeline) = bind(&format!("[{has_agent}]"), "[]");
        let mut b = batch(Arc::clone(&desc), &[b"x"]);
        pipeline.unwrap().run(&mut b);
        assert!(b.events[0].overlay.is_none());
        let (_, pipeline) = bind("[{drop_fields: {fields: [agent, log]}}]", &format!("[{has_agent}]"));
        let mut b = batch(desc, &[b"x"]);
        pipeline.unwrap().run(&mut b);
        let overlay = b.events[0].overlay.as_deref().unwrap();
        assert!(!overlay.no_message);
        assert_eq!(overlay.extent, Extent::Members(vec!["log".into()]));
        assert_eq!(json!(overlay.fields), json!({"agent": {"type": "filebeat"}, "tags": ["t"]}));
    }

    #[test]
    fn what_comes_later_is_there_whatever_an_inputs_own_processors_leave() {
        for own in [
            "include_fields: {fields: [zz]}",
            "drop_fields: {fields: [log]}",
            "add_fields: {target: host, fields: {own: 1}}",
        ] {
            let (desc, pipeline) = bind(&format!("[{{{own}}}]"), "[{add_fields: {target: host, fields: {late: 2}}}]");
            let mut b = batch(desc, &[b"x"]);
            pipeline.unwrap().run(&mut b);
            let overlay = b.events[0].overlay.as_deref().unwrap();
            assert_eq!(overlay.fields["host"]["name"], "h", "{own}");
            assert_eq!(overlay.fields.contains_key("agent"), overlay.extent == Extent::Whole, "{own}");
        }
    }

    #[test]
    fn a_failure_ends_its_branch_alone() {
        let steps = "[{if: {contains.message: abc}, then: [{rename: {fields: [{from: zz, to: y}]}}, {add_tags: {tags: \
                     [never]}}], else: [{add_tags: {tags: [e]}}]}, {add_tags: {tags: [after]}}]";
        let want = "Failed to rename fields in processor: could not fetch value for key: zz, Error: key not found";
        assert_eq!(
            processed(steps, json!({"message": "abc"})),
            json!({"message": "abc", "error": {"message": want}, "tags": ["after"]})
        );
        assert_eq!(processed(steps, json!({"message": "x"})), json!({"message": "x", "tags": ["e", "after"]}));
    }
}
