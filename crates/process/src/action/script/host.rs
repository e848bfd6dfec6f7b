//! What a script's modules ask of the program: its log, addresses, and processors.
//!
//! Comes in: calls of `modules.js`, with texts and JSON. Goes out: the same. Always holds: a script makes at most
//! [`PROCESSORS`] processors, of those alone that Filebeat has for scripts and that need nothing from outside; nothing here
//! throws, an error is part of the answer. Tested in [`super`]'s tests.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pillion_config::{Compat, Config};
use pillion_event::{
    Batch, BatchId, Event, Extent, FileStat, Flags, Guard, InputDesc, InputKind, Overlay, Source, Stream,
};
use rquickjs::{Ctx, Function, Object};
use serde_json::{Map, Value, json};

use crate::action::Done;
use crate::doc::{Doc, Shape, Stage};
use crate::options::{Step, Steps};
use crate::pipeline::run;

/// The most processors that a script makes: one that makes them for each event would never end.
const PROCESSORS: usize = 1000;

/// The constructors of the module `processor`, and the processors that they make (Beats 7.17, `RegisterPlugin`).
const CONSTRUCTORS: &[(&str, &str)] = &[
    ("AddFields", "add_fields"),
    ("AddID", "add_id"),
    ("AddLocale", "add_locale"),
    ("AddNetworkDirection", "add_network_direction"),
    ("AddProcessMetadata", "add_process_metadata"),
    ("CommunityID", "community_id"),
    ("Convert", "convert"),
    ("CopyFields", "copy_fields"),
    ("DNS", "dns"),
    ("DecodeBase64Field", "decode_base64_field"),
    ("DecodeCSVField", "decode_csv_fields"),
    ("DecodeJSONFields", "decode_json_fields"),
    ("DecodeXML", "decode_xml"),
    ("Dissect", "dissect"),
    ("ExtractArray", "extract_array"),
    ("RegisteredDomain", "registered_domain"),
    ("Rename", "rename"),
    ("Replace", "replace"),
    ("Timestamp", "timestamp"),
    ("TruncateFields", "truncate_fields"),
    ("URLDecode", "urldecode"),
    // They are told something from outside, which a script isn't: making one is an error that says so.
    ("AddCloudMetadata", "add_cloud_metadata"),
    ("AddHostMetadata", "add_host_metadata"),
    ("AddObserverMetadata", "add_observer_metadata"),
];

/// Which event is at hand: what its processors see of it beside its fields.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct At {
    pub(super) id: Option<pillion_event::EventId>,
    pub(super) read_ms: i64,
    pub(super) replayed: bool,
}

/// What the modules of one script share.
pub(super) struct Host {
    compat: Compat,
    at: Mutex<At>,
    made: Mutex<Vec<Arc<Steps>>>,
}

/// The fields as they are in the overlay.
struct Whole;

impl Shape for Whole {
    fn fields(&self, _: &Batch, event: &Event) -> Map<String, Value> {
        event.overlay.as_ref().map(|o| o.fields.clone()).unwrap_or_default()
    }

    fn late(&self) -> &'static [&'static str] {
        &[]
    }
}

impl Host {
    pub(super) fn new(compat: Compat) -> Host {
        Host { compat, at: Mutex::default(), made: Mutex::default() }
    }

    /// The next calls are about this event.
    pub(super) fn look_at(&self, at: At) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Makes a processor with options as JSON: its number, or why not.
    fn construct(&self, name: &str, options: &str) -> Result<usize, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= PROCESSORS {
            return Err("a script makes its processors once, not for each event".to_owned());
        }
        let version = self.compat.agent_version();
        let text = format!("pillion.compat: {version}\nprocessors: [{{{name}: {options}}}]\n");
        let steps = Config::from_yaml(&text).and_then(|config| Steps::from_section(&config.root()));
        // The position is one within the text above: it helps nobody.
        let steps = steps.map_err(|e| format!("{name}: {}", e.reason()))?;
        let outside = |step: &Step| matches!(step, Step::Do { action, .. } if action.outside().is_some());
        if steps.0.iter().any(outside) {
            return Err(format!("{name} isn't there in scripts: put it before the script in `processors`"));
        }
        made.push(Arc::new(steps));
        Ok(made.len() - 1)
    }

    /// Runs a processor on an event as JSON.
    fn run(&self, number: usize, event: &str) -> Value {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned().unwrap_or_default();
        let mut given: Value = serde_json::from_str(event).unwrap_or_default();
        let mut map = |key: &str| match given.get_mut(key).map(Value::take) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let (fields, metadata) = (map("fields"), map("metadata"));
        let batch = batch(at, fields, metadata, given["time"].as_i64().unwrap_or_default());
        let mut all = batch.events.iter();
        let Some(event) = all.next() else { return Value::Null };
        let mut doc = Doc::new(&Whole, &batch, event);
        doc.enter(Stage::Global);
        let (mut dropped, mut error) = (false, None);
        for step in steps.0.iter() {
            match run(step, &mut doc) {
                Ok(Done::Keep) => {}
                Ok(Done::Drop | Done::Limit) => dropped = true,
                Err(why) => error = Some(why),
            }
        }
        let (fields, metadata, time) = doc.whole();
        let mut answer = json!({"fields": fields, "metadata": metadata, "time": time, "dropped": dropped});
        if let Some(error) = error {
            answer["error"] = error.into();
        }
        answer
    }
}

/// A batch of one event that has these fields and nothing else.
fn batch(at: At, fields: Map<String, Value>, metadata: Map<String, Value>, time_ms: i64) -> Batch {
    let id = at.id;
    let source = Source {
        input: Arc::new(InputDesc::bare(InputKind::Log, "")),
        path: "".into(),
        key: "".into(),
        incarnation: id.map(|id| id.incarnation).unwrap_or(pillion_event::Incarnation(0)),
        stat: FileStat::default(),
        render: Default::default(),
        more: Default::default(),
    };
    let event = Event {
        text: 0..0,
        offset: id.map_or(0, |id| id.offset),
        len: id.map_or(0, |id| id.len),
        time_ms,
        stream: Stream::None,
        flags: Flags::default(),
        overlay: Some(Box::new(Overlay { extent: Extent::Whole, no_message: true, fields, metadata, weight: 0 })),
    };
    Batch {
        id: BatchId(0),
        source: Arc::new(source),
        from: event.offset,
        to: event.offset + u64::from(event.len),
        guard: Guard::default(),
        read_ms: at.read_ms,
        data: Vec::new(),
        events: vec![event],
        replayed: at.replayed,
    }
}

fn log(level: &str, text: &str) {
    match level {
        "debug" => tracing::debug!("script: {text}"),
        "warn" => tracing::warn!("script: {text}"),
        "error" => tracing::error!("script: {text}"),
        _ => tracing::info!("script: {text}"),
    }
}

/// 4 or 6; 0 = the text is no address.
fn version(text: &str) -> u8 {
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(_)) => 4,
        Ok(IpAddr::V6(_)) => 6,
        Err(_) => 0,
    }
}

/// The host as a script's modules see it.
pub(super) fn object<'js>(ctx: &Ctx<'js>, host: &Arc<Host>) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("names", json!(CONSTRUCTORS).to_string())?;
    object.set("log", Function::new(ctx.clone(), |level: String, text: String| log(&level, &text))?)?;
    object.set("isIP", Function::new(ctx.clone(), |text: String| version(&text))?)?;
    let of = Arc::clone(host);
    let construct = move |name: String, options: String| match of.construct(&name, &options) {
        Ok(number) => json!([number]).to_string(),
        Err(why) => json!([0, why]).to_string(),
    };
    object.set("construct", Function::new(ctx.clone(), construct)?)?;
    let of = Arc::clone(host);
    object.set(
        "run",
        Function::new(ctx.clone(), move |number: usize, event: String| of.run(number, &event).to_string())?,
    )?;
    Ok(object)
}
