//! The index template, put only where the user asks for it.
//!
//! Comes in: `setup.template` (5.6: `output.elasticsearch.template`) with `enabled: true` written out. Goes out: before
//! the first event of a run, one template in the form that the server knows: with types up to 6, `_template` of 7, a
//! composable one with a data stream from 7.9 and in OpenSearch. Facts: elastic/beats `libbeat/template/{config,load,
//! template}.go`; why it is off by default: `docs/decisions/index-template.md`.
//!
//! Always holds: a template that is there is left as it is, unless `overwrite` is set; two shippers that start at once
//! put one; while it can't be put, nothing is sent, and nothing is lost. Tested in `tests/template.rs`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::{Method, StatusCode};
use pillion_config::{Compat, Error, Section};
use serde_json::{Map, Value, json};

use super::target::{Target, refusal};
use crate::OutputContext;
use crate::format::Format;
use crate::hosts::percent_encode;
use crate::problem::Problem;

/// The longest file of `json.path`, bytes.
const FILE_LIMIT: usize = 4 << 20;
/// Longer strings aren't indexed as keywords, as in Filebeat's template, characters.
const KEYWORD_LIMIT: u64 = 1_024;

/// The template that the user asks for.
#[derive(Clone, Debug)]
pub struct TemplateSettings {
    compat: Compat,
    name: Format,
    pattern: Format,
    overwrite: bool,
    /// Of a composable template.
    priority: u64,
    /// Of the older ones.
    order: u64,
    /// `settings.index`.
    index: Option<Value>,
    /// `settings._source`.
    source: Option<Value>,
    /// The user's own template instead of ours.
    file: Option<PathBuf>,
    /// The index is a data stream where the server has them.
    data_stream: bool,
}

impl TemplateSettings {
    /// Reads what concerns the template; `output` is `output.elasticsearch`. `None`: it isn't asked for.
    pub fn from_root(root: &Section<'_>, output: &Section<'_>) -> Result<Option<TemplateSettings>, Error> {
        let (place, section) = match root.compat() {
            Compat::V5 => (output, "template"),
            Compat::V7 | Compat::V8 | Compat::V9 => (root, "setup.template"),
        };
        // Without the word nothing is taken: what else stands there is told as without effect.
        if !place.has(&format!("{section}.enabled")) {
            return Ok(None);
        }
        let Some(t) = place.section(section)? else { return Ok(None) };
        if t.bool("enabled")? != Some(true) {
            t.ignore();
            return Ok(None);
        }
        match root.compat() {
            Compat::V5 => Self::of_5(root, output, &t),
            Compat::V7 | Compat::V8 | Compat::V9 => Self::of_7(root, output, &t),
        }
        .map(Some)
    }

    fn of_5(root: &Section<'_>, output: &Section<'_>, t: &Section<'_>) -> Result<TemplateSettings, Error> {
        let file = file(root, t, "path")?;
        let index = output.str("index")?.filter(|i| !i.is_empty()).unwrap_or_else(|| "filebeat-".into());
        let fixed = index.split("%{").next().unwrap_or_default();
        if fixed.is_empty() && file.is_none() {
            let reason = "the index begins with a variable: there is no pattern for a template";
            return Err(t.error("enabled", reason, "Set template.path to a template of your own."));
        }
        Ok(TemplateSettings {
            compat: Compat::V5,
            name: format(t, "name", "filebeat")?,
            pattern: compile(t, "enabled", &format!("{}*", fixed.to_lowercase()))?,
            overwrite: t.bool("overwrite")?.unwrap_or(false),
            priority: 150,
            order: 0,
            index: None,
            source: None,
            file,
            data_stream: false,
        })
    }

    fn of_7(root: &Section<'_>, output: &Section<'_>, t: &Section<'_>) -> Result<TemplateSettings, Error> {
        let default = "filebeat-%{[agent.version]}";
        let own_index = output.str("index")?.is_some_and(|i| !i.is_empty());
        let file = match t.bool("json.enabled")?.unwrap_or(false) {
            true => {
                let file = file(root, t, "json.path")?;
                let missing = || t.error("json.enabled", "there is no json.path", "Name the file of the template.");
                Some(file.ok_or_else(missing)?)
            }
            false => None,
        };
        if own_index && file.is_none() && !(t.has("name") && t.has("pattern")) {
            let reason = "the index has a name of its own, and the template hasn't";
            return Err(t.error("enabled", reason, "Set setup.template.name and setup.template.pattern, both."));
        }
        let seven = root.compat() == Compat::V7;
        // 7 without ILM writes to an index for each day.
        let daily = seven && !own_index && root.str("setup.ilm.enabled")?.as_deref() == Some("false");
        let name = format(t, "name", default)?;
        Ok(TemplateSettings {
            compat: root.compat(),
            name: if file.is_some() && t.has("json.name") { format(t, "json.name", default)? } else { name },
            pattern: format(t, "pattern", if daily { "filebeat-%{[agent.version]}-*" } else { default })?,
            overwrite: t.bool("overwrite")?.unwrap_or(false),
            priority: t.u64("priority")?.unwrap_or(150),
            order: t.u64("order")?.unwrap_or(1),
            index: t.json("settings.index")?,
            source: t.json("settings._source")?,
            file,
            // Filebeat 8 has data streams only; an index of one's own in 7 is an index.
            data_stream: !(seven && (own_index || daily)),
        })
    }
}

fn compile(t: &Section<'_>, key: &str, text: &str) -> Result<Format, Error> {
    Format::compile(text).map_err(|e| t.error(key, e.to_string(), "Write it as filebeat-%{[agent.version]}."))
}

fn format(t: &Section<'_>, key: &str, default: &str) -> Result<Format, Error> {
    let text = t.str(key)?.filter(|text| !text.is_empty());
    compile(t, key, text.as_deref().unwrap_or(default))
}

/// Relative names are those in `path.config`, as in Filebeat.
fn file(root: &Section<'_>, t: &Section<'_>, key: &str) -> Result<Option<PathBuf>, Error> {
    let Some(name) = t.str(key)?.filter(|name| !name.is_empty()) else { return Ok(None) };
    Ok(Some(PathBuf::from(root.str("path.config")?.unwrap_or_default()).join(name)))
}

/// How a server wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Up to 5: `_template`, mappings by type, the pattern as `template`.
    Five,
    /// 6: mappings by type.
    Six,
    /// 7.0 to 7.8: `_template` without types.
    Seven,
    /// `_index_template`.
    Composable,
}

/// What a server says of itself, as far as it is asked for here: by `GET /`.
fn form_of(answer: &[u8]) -> Option<Form> {
    let root: Value = serde_json::from_slice(answer).ok()?;
    let version = root.get("version")?;
    if version.get("distribution").and_then(Value::as_str) == Some("opensearch") {
        return Some(Form::Composable);
    }
    let mut parts = version.get("number")?.as_str()?.split('.').map(|n| n.parse::<u32>().ok());
    Some(match (parts.next()??, parts.next()??) {
        (..=5, _) => Form::Five,
        (6, _) => Form::Six,
        (7, ..9) => Form::Seven,
        _ => Form::Composable,
    })
}

/// The template of an output, for all of its workers.
pub(super) struct Template {
    settings: TemplateSettings,
    name: String,
    pattern: String,
    /// What is put instead of ours.
    own: Option<Value>,
    done: AtomicBool,
    /// Only one worker tries at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Template {
    /// Reads the user's own template, if there is one. An error is one of the configuration.
    pub(super) fn new(settings: TemplateSettings, context: &OutputContext) -> Result<Template, Problem> {
        let text = |format: &Format| {
            let mut out = Vec::new();
            let now = context.world.clock.wall().0;
            format.write_static(now, &context.agent, &mut out).map_err(|missing| {
                let remedy = "Only dates and what is known of the agent can stand in it.";
                Problem::new(format!("setup.template: %{{[{}]}} isn't known before an event", missing.0), remedy)
            })?;
            Ok(String::from_utf8_lossy(&out).to_lowercase())
        };
        let (name, pattern) = (text(&settings.name)?, text(&settings.pattern)?);
        let own = settings.file.as_ref().map(|path| {
            let bad = |why: String| {
                let remedy = "Is it mounted into this container, and is it JSON? Without it a small template is put.";
                Problem::new(format!("the template {}: {why}", path.display()), remedy)
            };
            let bytes = context.world.fs.read(path, FILE_LIMIT).map_err(|e| bad(e.to_string()))?;
            serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
        });
        let (done, turn) = (AtomicBool::new(false), tokio::sync::Mutex::default());
        Ok(Template { own: own.transpose()?, settings, name, pattern, done, turn })
    }

    /// Returns at once when the template is there; else tries once to put it.
    pub(super) async fn ensure(&self, target: &mut Target) -> Result<(), Problem> {
        if self.done.load(Ordering::Acquire) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if self.done.load(Ordering::Acquire) {
            return Ok(());
        }
        let name = &self.name;
        let put =
            self.put(target).await.map_err(|p| p.during(format!("the index template `{name}` isn't there yet")))?;
        match put {
            true => tracing::info!("the index template `{name}` is put"),
            false => tracing::info!("the index template `{name}` is there already, and left as it is"),
        }
        self.done.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the template was put; false: there is one.
    async fn put(&self, target: &mut Target) -> Result<bool, Problem> {
        let (status, answer) = target.root().await.map_err(|f| f.problem)?;
        let known = form_of(&answer).filter(|_| status.is_success());
        // Who may only write needn't be told the version: then the dialect says it, and the answer corrects it.
        let guess = match self.settings.compat {
            Compat::V5 => Form::Five,
            Compat::V7 | Compat::V8 | Compat::V9 => Form::Composable,
        };
        let form = known.unwrap_or(guess);
        match self.put_as(form, target).await? {
            Answer::Put => Ok(true),
            Answer::There => Ok(false),
            Answer::NoSuchForm(_) if known.is_none() && form == Form::Composable => {
                match self.put_as(Form::Seven, target).await? {
                    Answer::Put => Ok(true),
                    Answer::There => Ok(false),
                    Answer::NoSuchForm(problem) => Err(problem),
                }
            }
            Answer::NoSuchForm(problem) => Err(problem),
        }
    }

    async fn put_as(&self, form: Form, target: &mut Target) -> Result<Answer, Problem> {
        let mut path = String::from(if form == Form::Composable { "/_index_template/" } else { "/_template/" });
        percent_encode(&self.name, &mut path);
        let failed = |f: crate::http::Failure| f.problem;
        if !self.settings.overwrite {
            // Cheaper for the target than to put it: hundreds of Jobs may start at once.
            let (status, _) = target.ask(Method::HEAD, &path, "", Vec::new()).await.map_err(failed)?;
            if status.is_success() {
                return Ok(Answer::There);
            }
        }
        let body = self.body(form).to_string().into_bytes();
        let query = if self.settings.overwrite { "" } else { "create=true" };
        let (status, answer) = target.ask(Method::PUT, &path, query, body).await.map_err(failed)?;
        if status.is_success() {
            return Ok(Answer::Put);
        }
        let says = |text: &[u8]| memchr::memmem::find(&answer, text).is_some();
        if status == StatusCode::BAD_REQUEST && !self.settings.overwrite && says(b"already exists") {
            return Ok(Answer::There);
        }
        let mut problem = refusal(target.client.host(), status, &answer);
        problem.remedy = remedy(status).into();
        let unknown = says(b"no handler found") || says(b"Incorrect HTTP method");
        if status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::BAD_REQUEST && unknown {
            return Ok(Answer::NoSuchForm(problem));
        }
        Err(problem)
    }

    /// The template: the user's own, or a small one that suits any line.
    fn body(&self, form: Form) -> Value {
        if let Some(own) = &self.own {
            return own.clone();
        }
        let s = &self.settings;

        let mut mappings = json!({
            "date_detection": false,
            "dynamic_templates": [{"strings_as_keyword": {
                "match_mapping_type": "string",
                "mapping": {"type": "keyword", "ignore_above": KEYWORD_LIMIT},
            }}],
            "properties": {"@timestamp": {"type": "date"}, "message": {"type": "text"}},
        });
        if let (Some(source), Value::Object(mappings)) = (&s.source, &mut mappings) {
            mappings.insert("_source".into(), source.clone());
        }
        let mut settings = Map::new();
        if let Some(index) = &s.index {
            settings.insert("index".into(), index.clone());
        }
        match form {
            Form::Five => json!({
                "template": self.pattern, "order": s.order, "settings": settings, "mappings": {"_default_": mappings},
            }),
            Form::Six => json!({
                "index_patterns": [self.pattern], "order": s.order, "settings": settings,
                "mappings": {"_default_": mappings},
            }),
            Form::Seven => json!({
                "index_patterns": [self.pattern], "order": s.order, "settings": settings, "mappings": mappings,
            }),
            Form::Composable => {
                let mut all = json!({
                    "index_patterns": [self.pattern], "priority": s.priority,
                    "template": {"settings": settings, "mappings": mappings},
                });
                if let (true, Value::Object(all)) = (s.data_stream, &mut all) {
                    all.insert("data_stream".into(), json!({}));
                }
                all
            }
        }
    }
}

/// What a server makes of a template.
enum Answer {
    Put,
    There,
    /// It doesn't know templates of this form.
    NoSuchForm(Problem),
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "Check username and password, or api_key.",
        403 => {
            "The user needs the cluster privilege manage_index_templates; or have the template put once, by somebody who may, and set enabled: false."
        }
        400 => {
            "Does another template of the same priority have the same pattern, or is a setting below setup.template.settings not known to it?"
        }
        _ => "It is tried again; nothing is sent until then.",
    }
}
