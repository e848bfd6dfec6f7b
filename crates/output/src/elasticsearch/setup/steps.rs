//! The steps towards a server: policy, template, alias.
//!
//! Always holds: a refusal ends only its own step, and is noted; what may pass by itself (no answer, 429, 5xx) ends the
//! attempt. Repeating all steps does no harm. Tested in `tests/setup.rs`.

use std::path::Path;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use pillion_config::Compat;
use serde_json::Value;

use super::server::{Form, Version};
use super::template::TemplateSettings;
use super::{Mode, Overwrite, Setup, ilm};
use crate::OutputContext;
use crate::elasticsearch::target::{Target, refusal};
use crate::format::Format;
use crate::hosts::percent_encode;
use crate::problem::Problem;

/// The longest file of `json.path` or `policy_file`, bytes.
const FILE_LIMIT: usize = 4 << 20;

/// What came of a step.
pub(super) enum Note {
    /// It is there, or was put.
    Done(String),
    /// It isn't, for good.
    Failed(Problem),
}

/// Why an attempt ended.
pub(super) struct Trouble {
    pub(super) problem: Problem,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server wasn't reached.
    Unreached,
    /// The connection broke before an answer: who sends events meets that, too, and says it.
    Broken,
    /// It has answered, and may answer otherwise later; or it takes its time.
    Passing,
}

impl Trouble {
    pub(super) fn passing(problem: Problem) -> Trouble {
        Trouble { problem, kind: Kind::Passing }
    }
}

/// What is known of lifecycle policies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ilm {
    /// They are not wanted, or the server hasn't got them.
    None,
    /// The policy is there.
    There,
    /// The user may not know.
    Unknown,
}

/// The index that events go to, where the server decides that.
type Index = Option<Arc<Format>>;

impl Setup {
    /// All steps, once.
    pub(super) async fn steps(
        &self,
        target: &mut Target,
        overwrite: Overwrite,
        notes: &mut Vec<Note>,
    ) -> Result<Index, Trouble> {
        let (status, answer) = ask(target, Method::GET, "/", "", None).await?;
        // Who may only write needn't be told the version: then the dialect says it, and the answer corrects it.
        let known = Version::of(&answer).filter(|_| status.is_success());
        let version = known.unwrap_or_else(|| Version::of_dialect(self.settings.compat));
        let (ilm, new_policy) = self.ensure_policy(target, version, notes).await?;
        if let Some(t) = &self.settings.template {
            let overwrite = overwrite.template || t.overwrite || new_policy;
            let put = self.ensure_template(target, t, t.form(version), known.is_none(), ilm, overwrite).await?;
            notes.push(put);
        }
        if ilm == Ilm::There && self.settings.compat == Compat::V7 && self.settings.ilm.check_exists {
            let alias = self.ensure_alias(target).await?;
            notes.push(alias);
        }
        Ok(self.index_by(ilm))
    }

    /// The index, when nothing could be found out.
    pub(super) fn unknown(&self) -> Index {
        self.index_by(Ilm::Unknown)
    }

    /// Only 7 lets the server decide: the alias where there is ILM, else an index for each day.
    fn index_by(&self, ilm: Ilm) -> Index {
        if self.settings.compat != Compat::V7 || self.settings.ilm.mode == Mode::Off {
            return None;
        }
        let alias = || Arc::new(Format::literal(&self.names.alias));
        match ilm {
            _ if self.settings.ilm.mode == Mode::On => Some(alias()),
            Ilm::There => {
                if self.settings.own_index.is_some() {
                    let alias = &self.names.alias;
                    tracing::info!(
                        "output.elasticsearch.index gives way to the alias `{alias}` (setup.ilm), as in Filebeat"
                    );
                }
                Some(alias())
            }
            Ilm::Unknown if self.settings.own_index.is_none() => Some(alias()),
            Ilm::None if self.settings.own_index.is_none() => {
                let daily = Format::compile(crate::elasticsearch::settings::DAILY);
                daily.ok().map(Arc::new)
            }
            Ilm::None | Ilm::Unknown => None,
        }
    }

    /// Sees to the policy. What is known then, and whether it is new.
    async fn ensure_policy(
        &self,
        target: &mut Target,
        version: Version,
        notes: &mut Vec<Note>,
    ) -> Result<(Ilm, bool), Trouble> {
        let s = &self.settings.ilm;
        if s.mode == Mode::Off {
            return Ok((Ilm::None, false));
        }
        let name = &self.names.policy;
        let without = || Problem::new("the server has no lifecycle policies", "Set setup.ilm.enabled: auto, or false.");
        if !version.has_ilm(s.mode) {
            if s.mode == Mode::On {
                notes.push(Note::Failed(without()));
            }
            return Ok((Ilm::None, false));
        }
        if !s.check_exists && !s.overwrite {
            return Ok((Ilm::There, false));
        }
        let path = with_name("/_ilm/policy/", name);
        if !s.overwrite {
            let (status, answer) = ask(target, Method::GET, &path, "", None).await?;
            match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let mut problem = refusal(target.client.host(), status, &answer);
                    problem.reason.push_str(&format!(" to the question for the policy `{name}`"));
                    problem.remedy =
                        "The user needs the cluster privilege read_ilm, or setup.ilm.enabled: false.".into();
                    notes.push(Note::Failed(problem));
                    return Ok((Ilm::Unknown, false));
                }
                status if status.is_success() => {
                    notes.push(Note::Done(format!("the lifecycle policy `{name}` is there already")));
                    return Ok((Ilm::There, false));
                }
                // Who hasn't got policies doesn't miss one.
                _ if !says(&answer, b"resource_not_found_exception") => {
                    if s.mode == Mode::On {
                        notes.push(Note::Failed(without()));
                    }
                    return Ok((Ilm::None, false));
                }
                _ => {}
            }
        }
        let (status, answer) = ask(target, Method::PUT, &path, "", Some(&self.policy)).await?;
        if status.is_success() {
            notes.push(Note::Done(format!("the lifecycle policy `{name}` is put")));
            return Ok((Ilm::There, !s.overwrite));
        }
        let mut problem = refusal(target.client.host(), status, &answer);
        problem.reason = format!("the lifecycle policy `{name}` isn't there: {}", problem.reason);
        problem.remedy = "The user needs the cluster privilege manage_ilm; or have it put once, by `pillion setup` of somebody who may.".into();
        notes.push(Note::Failed(problem));
        Ok((Ilm::None, false))
    }

    /// Sees to the template. `guessed`: the server didn't say its version.
    async fn ensure_template(
        &self,
        target: &mut Target,
        t: &TemplateSettings,
        form: Form,
        guessed: bool,
        ilm: Ilm,
        overwrite: bool,
    ) -> Result<Note, Trouble> {
        let (name, pattern) = self.template_names(ilm == Ilm::There);
        let put = async |form: Form, target: &mut Target| {
            let body = self.template_body(t, form, &pattern, ilm == Ilm::There);
            put_template(target, form, &name, &body, overwrite).await
        };
        let mut answer = put(form, target).await?;
        if let (Answer::NoSuchForm(_), true, Form::Index) = (&answer, guessed, form) {
            answer = put(Form::Legacy, target).await?;
        }
        Ok(match answer {
            Answer::Put => Note::Done(format!("the index template `{name}` is put")),
            Answer::There => Note::Done(format!("the index template `{name}` is there already, and left as it is")),
            Answer::NoSuchForm(problem) | Answer::Refused(problem) => {
                Note::Failed(problem.during(format!("the index template `{name}` isn't there")))
            }
        })
    }

    /// Sees to the alias of 7 and the first index behind it.
    async fn ensure_alias(&self, target: &mut Target) -> Result<Note, Trouble> {
        let name = &self.names.alias;
        let there = || Note::Done(format!("the alias `{name}` is there already"));
        if !self.settings.ilm.overwrite && self.has(target, "/_alias/", name).await? {
            return Ok(there());
        }
        if self.has(target, "/", name).await? && !self.has(target, "/_alias/", name).await? {
            let remedy = "Delete or rename that index, or set setup.ilm.rollover_alias to another name.";
            return Ok(Note::Failed(Problem::new(format!("`{name}` is an index and not an alias"), remedy)));
        }
        let path = ilm::first_index(name, &self.settings.ilm.pattern);
        let (status, answer) = ask(target, Method::PUT, &path, "", Some(&ilm::first_index_body(name))).await?;
        if status.is_success() {
            return Ok(Note::Done(format!("the alias `{name}` and its first index are made")));
        }
        // Somebody else may have made it meanwhile.
        if self.has(target, "/_alias/", name).await? {
            return Ok(there());
        }
        let mut problem = refusal(target.client.host(), status, &answer);
        problem.reason = format!("the alias `{name}` isn't there: {}", problem.reason);
        problem.remedy = "The user needs the index privileges manage and create_index for it; or have it made once, by `pillion setup`.".into();
        Ok(Note::Failed(problem))
    }

    async fn has(&self, target: &mut Target, path: &str, name: &str) -> Result<bool, Trouble> {
        let (status, _) = ask(target, Method::HEAD, &with_name(path, name), "", None).await?;
        Ok(status.is_success())
    }
}

/// What a server makes of a template.
enum Answer {
    Put,
    There,
    /// It doesn't know templates of this form.
    NoSuchForm(Problem),
    Refused(Problem),
}

async fn put_template(
    target: &mut Target,
    form: Form,
    name: &str,
    body: &Value,
    overwrite: bool,
) -> Result<Answer, Trouble> {
    let path = with_name(form.path(), name);
    if !overwrite {
        // Cheaper for the target than to put it: hundreds of Jobs may start at once.
        let (status, _) = ask(target, Method::HEAD, &path, "", None).await?;
        if status.is_success() {
            return Ok(Answer::There);
        }
    }
    let query = if overwrite { "" } else { "create=true" };
    let (status, answer) = ask(target, Method::PUT, &path, query, Some(body)).await?;
    if status.is_success() {
        return Ok(Answer::Put);
    }
    if status == StatusCode::BAD_REQUEST && !overwrite && says(&answer, b"already exists") {
        return Ok(Answer::There);
    }
    let mut problem = refusal(target.client.host(), status, &answer);
    problem.remedy = match status.as_u16() {
        401 => "Check username and password, or api_key.",
        403 => "The user needs the cluster privilege manage_index_templates; or have it put once, by `pillion setup` of somebody who may, and set setup.template.enabled: false.",
        _ => "Does another template of the same priority have the same pattern, or is a setting below setup.template.settings not known to it?",
    }
    .into();
    let unknown = says(&answer, b"no handler found") || says(&answer, b"Incorrect HTTP method");
    if status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::BAD_REQUEST && unknown {
        return Ok(Answer::NoSuchForm(problem));
    }
    Ok(Answer::Refused(problem))
}

/// A request, and the answer unless it may be another one later.
async fn ask(
    target: &mut Target,
    method: Method,
    path: &str,
    query: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Vec<u8>), Trouble> {
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let asked = target.ask(method, path, query, body).await;
    let (status, answer) = asked.map_err(|f| Trouble {
        kind: if f.maybe_received || f.was_idle { Kind::Broken } else { Kind::Unreached },
        problem: f.problem,
    })?;
    let passes = matches!(status.as_u16(), 408 | 429 | 500 | 502..=504);
    if passes { Err(Trouble::passing(refusal(target.client.host(), status, &answer))) } else { Ok((status, answer)) }
}

fn with_name(path: &str, name: &str) -> String {
    let mut path = path.to_owned();
    percent_encode(name, &mut path);
    path
}

fn says(answer: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(answer, text).is_some()
}

/// A file of JSON that the user names.
pub(super) fn read(context: &OutputContext, path: &Path, what: &str) -> Result<Value, Problem> {
    let bad = |why: String| {
        let remedy = "Is it mounted into this container, and is it JSON?";
        Problem::new(format!("{what} {}: {why}", path.display()), remedy)
    };
    let bytes = context.world.fs.read(path, FILE_LIMIT).map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}
