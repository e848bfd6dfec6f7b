//! What is put into Elasticsearch before the first event: index template, lifecycle policy, write alias.
//!
//! Comes in: `setup.template`, `setup.ilm` (5.6: `output.elasticsearch.template`). Goes out: once in a run, before the
//! first bulk request, what isn't there yet; and which index events go to, where that depends on the server (7).
//! What each is: [`template`], [`ilm`]; which server it is: [`server`]. Why it is done so:
//! `docs/decisions/index-template.md`.
//!
//! Always holds: what is there is left as it is, unless `overwrite` is set; of two shippers that start at once one
//! wins. Nothing waits longer than [`BOUND`] for it, unless `pillion.setup.on_failure: wait` says so: then what couldn't
//! be put is said, and events are sent all the same. Tested in `tests/setup.rs`.

mod by_hand;
mod fields;
mod ilm;
mod server;
mod settings;
mod steps;
mod template;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pillion_config::Compat;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use by_hand::run_setup;
pub use server::Version;
pub(super) use settings::Mode;
pub use settings::SetupSettings;
use steps::{Kind, Note, Trouble};

use super::target::Target;
use crate::OutputContext;
use crate::format::Format;
use crate::hurry::Hurry;
use crate::problem::Problem;

/// How long attempts may take, from the first one that reached a server on; the pauses between them come on top.
const BOUND: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(10) };

/// What an output sets up, for all of its workers, or for `pillion setup` and `export`.
pub struct Setup {
    settings: SetupSettings,
    names: Names,
    /// The user's own template, from `json.path`.
    own_template: Option<Value>,
    /// The policy: the user's own, or Filebeat's.
    policy: Value,
    done: AtomicBool,
    /// Where events go, when the server decides that.
    index: OnceLock<Arc<Format>>,
    /// Only one worker tries at a time. When a server first answered.
    turn: Mutex<Option<Instant>>,
}

/// Names in which dates and what is known of the agent are filled in.
struct Names {
    template: String,
    pattern: String,
    policy: String,
    alias: String,
}

/// What `pillion setup` does beside looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// Puts the template even where there is one.
    pub template: bool,
}

impl Setup {
    /// Reads the files that the settings name. An error is one of the configuration.
    pub fn new(settings: SetupSettings, context: &OutputContext) -> Result<Setup, Problem> {
        let text = |format: &Format, what: &str| {
            let mut out = Vec::new();
            let now = context.world.clock.wall().0;
            let format = format.clone().of_program(&context.agent);
            format.write_static(now, &context.agent, &mut out).map_err(|missing| {
                let remedy = "Only dates and what is known of the agent can stand in it.";
                Problem::new(format!("setup.{what}: %{{[{}]}} isn't known before an event", missing.0), remedy)
            })?;
            Ok::<_, Problem>(String::from_utf8_lossy(&out).to_lowercase())
        };
        let of_template = |pick: fn(&template::TemplateSettings) -> &Format| match &settings.template {
            Some(t) => text(pick(t), "template"),
            None => Ok(String::new()),
        };
        let names = Names {
            template: of_template(|t| &t.name)?,
            pattern: of_template(|t| &t.pattern)?,
            policy: text(&settings.ilm.policy_name, "ilm.policy_name")?,
            alias: text(&settings.ilm.alias, "ilm.rollover_alias")?,
        };
        let own_template = settings.template.as_ref().and_then(|t| t.file.as_ref());
        let own_template = own_template.map(|path| steps::read(context, path, "the template")).transpose()?;
        let policy = match &settings.ilm.policy_file {
            Some(path) => steps::read(context, path, "the policy")?,
            None => ilm::policy(settings.compat),
        };
        let (done, index, turn) = (AtomicBool::new(false), OnceLock::new(), Mutex::default());
        Ok(Setup { settings, names, own_template, policy, done, index, turn })
    }

    /// Whether there is anything to do before the first event.
    pub(super) fn is_needed(&self) -> bool {
        self.settings.template.is_some() || self.settings.ilm.mode != Mode::Off
    }

    /// Where events go, once that is known and if it depends on the server.
    pub(super) fn index(&self) -> Option<&Arc<Format>> {
        self.index.get()
    }

    /// Returns at once when everything is there, or can't be; else tries once. An error: nothing may be sent yet.
    pub(super) async fn ensure(&self, target: &mut Target, hurry: &Hurry) -> Result<(), Problem> {
        if self.done.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut began = self.turn.lock().await;
        if self.done.load(Ordering::Acquire) {
            return Ok(());
        }
        let host = target.client.host().to_string();
        let mut notes = Vec::new();
        let start = Instant::now();
        let left = BOUND.saturating_sub(began.map_or(Duration::ZERO, |began| began.elapsed()));
        let left = if self.settings.wait { BOUND } else { left.max(BOUND / 10) };
        let tried = tokio::time::timeout(left, self.steps(target, Overwrite { template: false }, &mut notes)).await;
        let tried = tried.unwrap_or_else(|_| {
            // The connection may be in the middle of an answer.
            target.client.close();
            Err(Trouble::passing(Problem::bare(format!("{host}: no answer within {left:.0?}"))))
        });
        let index = match tried {
            Ok(index) => index,
            Err(trouble) => {
                // Where nobody can be reached, nothing can be sent either.
                let late = trouble.kind != Kind::Unreached
                    && (began.get_or_insert(start).elapsed() >= BOUND || hurry.has_begun());
                if !late || self.settings.wait {
                    return Err(trouble.problem.during("index template and policy aren't there yet"));
                }
                match trouble.kind {
                    Kind::Broken => tracing::debug!("index template and policy: {}", trouble.problem),
                    _ => notes.push(Note::Failed(trouble.problem)),
                }
                self.unknown()
            }
        };
        if self.settings.wait
            && let Some(failed) = notes.iter().find_map(|n| if let Note::Failed(p) = n { Some(p) } else { None })
        {
            return Err(failed.clone());
        }
        say(&notes);
        if let Some(index) = index {
            let _ = self.index.set(index);
        }
        self.done.store(true, Ordering::Release);
        Ok(())
    }

    /// The template as it is put into a server of this version; `None`: there is none. Name and body.
    pub fn template_for(&self, version: Version, with_ilm: bool) -> Option<(String, Value)> {
        let t = self.settings.template.as_ref()?;
        let ilm = with_ilm && self.settings.ilm.mode != Mode::Off && version.has_ilm(self.settings.ilm.mode);
        let (name, pattern) = self.template_names(ilm);
        Some((name, self.template_body(t, t.form(version), &pattern, ilm)))
    }

    /// The lifecycle policy: name and body.
    pub fn policy(&self) -> (String, Value) {
        (self.names.policy.clone(), self.policy.clone())
    }

    /// An index pattern for Kibana, with the few fields that aren't strings.
    pub fn index_pattern(&self) -> Value {
        let old = self.settings.compat == Compat::V5;
        let fields: Vec<Value> = fields::listed(self.settings.compat)
            .map(|(name, kind)| {
                let shown = match kind {
                    "keyword" | "text" => "string",
                    "long" | "double" | "integer" => "number",
                    other => other,
                };
                json!({"name": name, "type": shown, "searchable": true, "aggregatable": kind != "text"})
            })
            .collect();
        let attributes =
            json!({"title": "filebeat-*", "timeFieldName": "@timestamp", "fields": Value::Array(fields).to_string()});
        let (id, kind) = ("filebeat-*", "index-pattern");
        if old {
            return json!({"version": self.settings.compat.agent_version(), "objects": [{"type": kind, "id": id, "version": 1, "attributes": attributes}]});
        }
        // What Kibana's `saved_objects/_import` takes; the version is as empty as Filebeat's.
        json!({"attributes": attributes, "id": id, "type": kind, "version": ""})
    }

    /// Name and pattern; those of the alias where 7 has one.
    fn template_names(&self, with_ilm: bool) -> (String, String) {
        if with_ilm && self.settings.compat == Compat::V7 {
            return (self.names.alias.clone(), format!("{}-*", self.names.alias));
        }
        (self.names.template.clone(), self.names.pattern.clone())
    }
}

fn say(notes: &[Note]) {
    for note in notes {
        match note {
            Note::Done(text) => tracing::info!("{text}"),
            Note::Failed(problem) => {
                let end = if problem.remedy.is_empty() { "." } else { "" };
                tracing::warn!(
                    "{problem}{end} Events are sent all the same; pillion.setup.on_failure: wait would hold them back."
                );
            }
        }
    }
}
