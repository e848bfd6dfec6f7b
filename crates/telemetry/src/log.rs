//! The log.
//!
//! Comes in: `tracing` events from all crates. Goes out: one line each to its [`Destination`], in the form that the dialect's
//! Filebeat writes: tab-separated text up to 7, JSON from 8 on.
//!
//! Always holds: one event is one line and one write, also with line breaks in it; a line is at most
//! [`MAX_LINE`] bytes; an error of the log itself (a closed pipe) is ignored, since shipping goes on.
//!
//! Tested below.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use pillion_world::{Clock, UnixMillis, World};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::destination::{Destination, Write};

/// Bytes of one line; a longer message is cut.
pub const MAX_LINE: usize = 16 * 1024;

/// The field whose text is JSON and is shown as such: the metrics.
const MONITORING: &str = "monitoring";

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `2026-11-23T18:40:23.656Z\tWARN\t[selector]\tfile.rs:89\tmessage`, as Filebeat 7 writes it.
    Text,
    /// `{"log.level":"warn","@timestamp":…,"log.logger":…,"message":…}`, as Filebeat 8 and 9 write it.
    Json,
}

/// What is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// The least important level that is written (`logging.level`, `-v`, `-d`).
    pub level: Level,
    /// The form.
    pub form: Form,
    /// Whose debug lines are written (`logging.selectors`, `-d`): Filebeat's names for parts of it, or ours; none = all.
    pub selectors: Vec<String>,
    /// Also what libraries say below a warning (`-d "*"`).
    pub libraries: bool,
    /// Where it goes.
    pub destination: Destination,
}

impl Options {
    /// All lines of this level and above it, to standard error.
    pub fn to_stderr(level: Level, form: Form) -> Options {
        Options { level, form, selectors: Vec::new(), libraries: false, destination: Destination::Stderr }
    }
}

/// Filebeat's selectors, and the part of a module's path that means about the same here.
const ALIASES: [(&str, &str); 12] = [
    ("crawler", "scan"),
    ("harvester", "harvest"),
    ("input", "input"),
    ("output", "output"),
    ("processors", "process"),
    ("prospector", "input"),
    ("publish", "output"),
    ("publisher", "output"),
    ("registrar", "registry"),
    ("scanner", "scan"),
    ("service", "pillion"),
    ("tls", "tls"),
];

/// Whether a selector names the module of this path.
fn selects(selector: &str, module: &str) -> bool {
    let part = ALIASES.iter().find(|(name, _)| *name == selector).map_or(selector, |(_, part)| part);
    module.split("::").any(|name| name == part || name.strip_prefix("pillion_") == Some(part))
}

/// Writes every log line from now on to its destination. Called a second time, it changes nothing and returns false.
pub fn init(options: Options, world: &World) -> bool {
    let write = options.destination.clone().writer(world.clone());
    let log = Log { options, clock: Arc::clone(&world.clock), write };
    tracing::subscriber::set_global_default(log).is_ok()
}

struct Log {
    options: Options,
    clock: Arc<dyn Clock>,
    write: Write,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if !metadata.is_event() || *metadata.level() > self.options.level {
            return false;
        }
        let selectors = &self.options.selectors;
        if *metadata.level() >= Level::DEBUG
            && !selectors.is_empty()
            && !selectors.iter().any(|selector| selects(selector, metadata.target()))
        {
            return false;
        }
        metadata.target().starts_with("pillion") || self.options.libraries || *metadata.level() <= Level::WARN
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.options.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = match self.options.form {
            Form::Text => text(event.metadata(), &fields, self.clock.wall()),
            Form::Json => json(event.metadata(), fields, self.clock.wall()),
        };
        line.push('\n');
        (self.write)(*event.metadata().level(), line.as_bytes());
    }

    // Spans aren't used.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    /// A text in the field [`MONITORING`] is JSON.
    fn put_text(&mut self, field: &Field, value: &str) {
        let json = (field.name() == MONITORING).then(|| serde_json::from_str(value).ok()).flatten();
        self.put(field, json.unwrap_or_else(|| value.into()));
    }

    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, format!("{value:?}").into());
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message.push_str(value) } else { self.put_text(field, value) }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

fn place(metadata: &Metadata<'_>) -> (String, u32) {
    let file = metadata.file().unwrap_or_default().trim_start_matches("crates/");
    (file.replace("/src/", "/"), metadata.line().unwrap_or(0))
}

fn selector<'a>(metadata: &Metadata<'a>) -> &'a str {
    let target = metadata.target();
    target.strip_prefix("pillion_").unwrap_or(target).split("::").next().unwrap_or(target)
}

fn shortened(message: &mut String) {
    if message.len() > MAX_LINE {
        message.truncate(message.floor_char_boundary(MAX_LINE));
        message.push('…');
    }
}

fn text(metadata: &Metadata<'_>, fields: &Fields, now: UnixMillis) -> String {
    let (file, line) = place(metadata);
    let time = pillion_world::rfc3339(now);
    let mut s = format!("{time}\t{}\t[{}]\t{file}:{line}\t", metadata.level(), selector(metadata));
    let head = s.len();
    s.push_str(&fields.message);
    for (key, value) in &fields.others {
        let _ = match key.as_str() {
            MONITORING => write!(s, "\t{{\"{MONITORING}\": {value}}}"),
            _ => write!(s, "\t{key}={value}"),
        };
    }
    let mut message = s.split_off(head).replace(['\n', '\r'], " ");
    shortened(&mut message);
    s + &message
}

fn json(metadata: &Metadata<'_>, mut fields: Fields, now: UnixMillis) -> String {
    let (file, line) = place(metadata);
    shortened(&mut fields.message);
    let mut o = Map::new();
    o.insert("log.level".into(), metadata.level().as_str().to_ascii_lowercase().into());
    o.insert("@timestamp".into(), pillion_world::rfc3339(now).into());
    o.insert("log.logger".into(), selector(metadata).into());
    o.insert("log.origin".into(), serde_json::json!({"file.name": file, "file.line": line}));
    o.insert("message".into(), fields.message.into());
    o.insert("service.name".into(), "filebeat".into());
    o.insert("ecs.version".into(), "1.6.0".into());
    o.extend(fields.others);
    Value::Object(o).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_world::Mono;
    use std::sync::Mutex;

    struct Fixed;
    impl Clock for Fixed {
        fn mono(&self) -> Mono {
            Mono(0)
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(1_795_459_223_656)
        }
    }

    #[test]
    fn selectors_name_modules() {
        for (selector, module, want) in [
            ("harvester", "pillion_input::harvest::read", true),
            ("publish", "pillion_output::elasticsearch", true),
            ("kafka", "pillion_output::kafka::produce", true),
            ("registry", "pillion_registry::load", true),
            ("harvester", "pillion_output::elasticsearch", false),
            ("harv", "pillion_input::harvest", false),
        ] {
            assert_eq!(selects(selector, module), want, "{selector} {module}");
        }
        let written = |selectors: &[&str]| {
            let options = Options {
                selectors: selectors.iter().map(|&s| s.to_owned()).collect(),
                ..Options::to_stderr(Level::DEBUG, Form::Text)
            };
            let count = Arc::new(Mutex::new(0));
            let to = Arc::clone(&count);
            let write = Box::new(move |_, _: &[u8]| *to.lock().unwrap() += 1);
            tracing::subscriber::with_default(Log { options, clock: Arc::new(Fixed), write }, || {
                tracing::debug!("one");
                tracing::info!("another");
            });
            *count.lock().unwrap()
        };
        assert_eq!((written(&[]), written(&["telemetry"]), written(&["harvester"])), (2, 2, 1));
    }

    fn lines(form: Form, say: impl FnOnce()) -> String {
        let out = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&out);
        let write = Box::new(move |_, line: &[u8]| to.lock().unwrap().extend_from_slice(line));
        let options = Options::to_stderr(Level::INFO, form);
        tracing::subscriber::with_default(Log { options, clock: Arc::new(Fixed), write }, say);
        let out = out.lock().unwrap();
        String::from_utf8(out.clone()).unwrap()
    }

    #[test]
    fn text_is_one_line_with_tabs() {
        let s = lines(Form::Text, || {
            tracing::warn!(path = "/x", n = 3_u64, "two\nlines");
            tracing::debug!("not at this level");
        });
        let (line, rest) = s.split_once('\n').unwrap();
        assert_eq!(rest, "");
        let parts: Vec<&str> = line.split('\t').collect();
        assert_eq!(parts[..3], ["2026-11-23T18:40:23.656Z", "WARN", "[telemetry]"]);
        assert_eq!(parts[4..], ["two lines", "path=\"/x\"", "n=3"]);
    }

    #[test]
    fn json_has_the_names_of_filebeat_8() {
        let s = lines(Form::Json, || tracing::error!(path = "/x", "it failed"));
        let v: Value = serde_json::from_str(&s).unwrap();
        assert_eq!((&v["log.level"], &v["message"], &v["path"]), (&"error".into(), &"it failed".into(), &"/x".into()));
        assert_eq!(v["@timestamp"], "2026-11-23T18:40:23.656Z");
    }

    #[test]
    fn metrics_are_json_in_both_forms() {
        let say = || tracing::info!(monitoring = "{\"metrics\":{\"a\":1}}", path = "{}", "Non-zero");
        let v: Value = serde_json::from_str(&lines(Form::Json, say)).unwrap();
        assert_eq!((&v["monitoring"]["metrics"]["a"], &v["path"]), (&1.into(), &"{}".into()));
        assert!(lines(Form::Text, say).contains("\tNon-zero\t{\"monitoring\": {\"metrics\":{\"a\":1}}}"));
    }

    #[test]
    fn a_long_message_is_cut() {
        let s = lines(Form::Text, || tracing::info!("{}", "ä".repeat(MAX_LINE)));
        assert!(s.len() < MAX_LINE + 200);
    }

    #[test]
    fn libraries_are_heard_from_a_warning_on() {
        let s = lines(Form::Text, || {
            tracing::info!(target: "hyper", "chatter");
            tracing::warn!(target: "hyper", "trouble");
        });
        assert!(s.contains("trouble") && !s.contains("chatter"));
    }
}
