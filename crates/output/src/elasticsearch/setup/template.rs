//! The index template: what the configuration says of it, and what it looks like.
//!
//! Comes in: `setup.template` (5.6: `output.elasticsearch.template`). Goes out: one template in the form that the server
//! knows: with types up to 6, `_template` of 7, a composable one with a data stream in the dialects 8 and 9. Facts:
//! elastic/beats `libbeat/template/{config,load,template}.go`. Tested in `tests/setup.rs`.

use std::path::PathBuf;

use pillion_config::{Compat, Error, Section};
use serde_json::{Map, Value, json};

use super::fields::{self, Fields};
use super::server::{Form, Version};
use super::settings::{VERSIONED, compile, file};
use super::{Mode, Setup};
use crate::format::Format;

/// Longer strings aren't indexed as keywords, as in Filebeat's template, characters.
pub(super) const KEYWORD_LIMIT: u64 = 1_024;

/// The template that is to be put.
#[derive(Clone, Debug)]
pub(super) struct TemplateSettings {
    pub(super) name: Format,
    pub(super) pattern: Format,
    pub(super) overwrite: bool,
    /// Of a composable template.
    priority: u64,
    /// Of the older ones.
    order: u64,
    /// `settings.index`.
    index: Option<Value>,
    /// `settings._source`.
    source: Option<Value>,
    /// The user's own template instead of ours.
    pub(super) file: Option<PathBuf>,
    /// `append_fields`.
    append: Fields,
    /// `type`, where it isn't the usual one.
    form: Option<Form>,
    /// The index is a data stream where the server has them.
    data_stream: bool,
}

impl TemplateSettings {
    /// Reads the section `t`. `asked`: the user wrote `enabled: true`; then a template that can't be made is an error,
    /// else it is said that there is none.
    pub(super) fn from_section(
        root: &Section<'_>,
        output: &Section<'_>,
        t: &Section<'_>,
        asked: bool,
        ilm: Mode,
    ) -> Result<Option<TemplateSettings>, Error> {
        let made = match root.compat() {
            Compat::V5 => Self::of_5(root, output, t)?,
            Compat::V7 | Compat::V8 | Compat::V9 => Self::of_7(root, output, t, ilm)?,
        };
        match made {
            Ok(made) => Ok(Some(made)),
            Err((reason, remedy)) if asked => Err(t.error("enabled", reason, remedy)),
            Err((reason, remedy)) => {
                let remedy = format!("{remedy} Or say so: enabled: false.");
                output.warn("index", format!("no index template is put: {reason}"), remedy);
                t.ignore();
                Ok(None)
            }
        }
    }

    fn of_5(root: &Section<'_>, output: &Section<'_>, t: &Section<'_>) -> Result<Made, Error> {
        let file = file(root, t, "path")?;
        let index = output.str("index")?.filter(|i| !i.is_empty()).unwrap_or_else(|| "filebeat-".into());
        let fixed = index.split("%{").next().unwrap_or_default();
        if fixed.is_empty() && file.is_none() {
            let reason = "the index begins with a variable: there is no pattern for a template";
            return Ok(Err((reason, "Set template.path to a template of your own.")));
        }
        let name = t.str("name")?.filter(|name| !name.is_empty());
        Ok(Ok(TemplateSettings {
            name: compile(t, "name", name.as_deref().unwrap_or("filebeat"))?,
            pattern: Format::literal(&format!("{}*", fixed.to_lowercase())),
            overwrite: t.bool("overwrite")?.unwrap_or(false),
            priority: 150,
            order: 0,
            index: None,
            source: None,
            file,
            append: Fields::default(),
            form: None,
            data_stream: false,
        }))
    }

    fn of_7(root: &Section<'_>, output: &Section<'_>, t: &Section<'_>, ilm: Mode) -> Result<Made, Error> {
        let own_index = output.str("index")?.is_some_and(|i| !i.is_empty());
        let seven = root.compat() == Compat::V7;
        let file = match t.bool("json.enabled")?.unwrap_or(false) {
            true => {
                let file = file(root, t, "json.path")?;
                let missing = || t.error("json.enabled", "there is no json.path", "Name the file of the template.");
                Some(file.ok_or_else(missing)?)
            }
            false => None,
        };
        // An alias of 7 makes the index its own.
        let named = t.has("name") && t.has("pattern") || seven && ilm == Mode::On;
        if own_index && file.is_none() && !named {
            let reason = "the index has a name of its own, and the template hasn't";
            return Ok(Err((reason, "Set setup.template.name and setup.template.pattern, both.")));
        }
        let name = t.str("name")?.filter(|name| !name.is_empty()).unwrap_or_else(|| VERSIONED.to_owned());
        let pattern = t.str("pattern")?.filter(|pattern| !pattern.is_empty());
        // 7 has an index for each day, or more behind an alias; later there is one data stream.
        let pattern = pattern.unwrap_or_else(|| if seven { format!("{name}-*") } else { name.clone() });
        let own_name = t.str("json.name")?.filter(|name| !name.is_empty() && file.is_some());
        let form = match t.choice("type", &["", "legacy", "component", "index"])? {
            Some("legacy") => Some(Form::Legacy),
            Some("component") => Some(Form::Component),
            None | Some("") if seven && file.is_some() => Some(Form::Legacy),
            _ => None,
        };
        Ok(Ok(TemplateSettings {
            name: compile(
                t,
                if own_name.is_some() { "json.name" } else { "name" },
                own_name.as_ref().unwrap_or(&name),
            )?,
            pattern: compile(t, "pattern", &pattern)?,
            overwrite: t.bool("overwrite")?.unwrap_or(false),
            priority: t.u64("priority")?.unwrap_or(150),
            order: t.u64("order")?.unwrap_or(1),
            index: t.json("settings.index")?,
            source: t.json("settings._source")?,
            file,
            append: Fields::from_sections(&t.sections("append_fields")?)?,
            form,
            data_stream: !seven,
        }))
    }

    /// The form for a server.
    pub(super) fn form(&self, version: Version) -> Form {
        match (version.form(), self.form) {
            (Form::Index, Some(own)) => own,
            (usual, _) => usual,
        }
    }
}

/// The settings, or why there can't be a template, and the remedy.
type Made = Result<TemplateSettings, (&'static str, &'static str)>;

impl Setup {
    /// The template: the user's own, or a small one that suits any line.
    pub(super) fn template_body(&self, t: &TemplateSettings, form: Form, pattern: &str, with_ilm: bool) -> Value {
        if let Some(own) = &self.own_template {
            return own.clone();
        }
        let compat = self.settings.compat;
        let (properties, dynamic) = fields::mapping(compat, &t.append);
        let mut mappings = json!({
            "_meta": {"beat": "filebeat", "version": compat.agent_version()},
            "date_detection": false,
            "dynamic_templates": dynamic,
            "properties": properties,
        });
        if let (Some(source), Value::Object(mappings)) = (&t.source, &mut mappings) {
            mappings.insert("_source".into(), source.clone());
        }
        let settings = json!({"index": self.index_settings(t, form, with_ilm)});
        match form {
            Form::Five => json!({
                "template": pattern, "order": t.order, "settings": settings, "mappings": {"_default_": mappings},
            }),
            Form::Six => json!({
                "index_patterns": [pattern], "order": t.order, "settings": settings, "mappings": {"_default_": mappings},
            }),
            Form::Legacy => json!({
                "index_patterns": [pattern], "order": t.order, "settings": settings, "mappings": mappings,
            }),
            Form::Component => json!({"template": {"settings": settings, "mappings": mappings}}),
            Form::Index => {
                let mut all = json!({
                    "index_patterns": [pattern], "priority": t.priority,
                    "template": {"settings": settings, "mappings": mappings},
                });
                if let (true, Value::Object(all)) = (t.data_stream, &mut all) {
                    all.insert("data_stream".into(), json!({}));
                }
                all
            }
        }
    }

    /// Filebeat's own settings of an index, and the user's over them.
    fn index_settings(&self, t: &TemplateSettings, form: Form, with_ilm: bool) -> Value {
        let mut index = json!({"refresh_interval": "5s", "mapping": {"total_fields": {"limit": 10_000}}});
        if form == Form::Six {
            merge(&mut index, &json!({"number_of_routing_shards": 30}));
        }
        if form != Form::Five {
            merge(&mut index, &json!({"max_docvalue_fields_search": 200}));
        }
        if with_ilm {
            merge(&mut index, &json!({"lifecycle": {"name": self.names.policy}}));
            if self.settings.compat == Compat::V7 {
                merge(&mut index, &json!({"lifecycle": {"rollover_alias": self.names.alias}}));
            }
        }
        if let Some(own) = &t.index {
            merge(&mut index, own);
        }
        index
    }
}

/// Lays `over` over `under`, section by section.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Object(Map::new())), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}
