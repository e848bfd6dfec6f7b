//! What the configuration says of template and policy.
//!
//! Comes in: the root and `output.elasticsearch`. Goes out: [`SetupSettings`], with the defaults of each dialect: a
//! template is put unless `enabled` says no, as in Filebeat; a policy unless `setup.ilm.enabled` does, from 7 on.
//! Always holds: format strings compile. Tested in `tests/setup.rs`.

use std::path::PathBuf;

use pillion_config::{Compat, Error, Section};

use super::template::TemplateSettings;
use crate::format::Format;

/// `setup.ilm.enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::elasticsearch) enum Mode {
    /// Where the server has it.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// `setup.ilm`.
#[derive(Clone, Debug)]
pub(in crate::elasticsearch) struct IlmSettings {
    pub(in crate::elasticsearch) mode: Mode,
    pub(super) policy_name: Format,
    pub(super) policy_file: Option<PathBuf>,
    /// `rollover_alias`; only 7 has it.
    pub(super) alias: Format,
    /// `pattern`, of the first index behind the alias.
    pub(super) pattern: String,
    pub(super) check_exists: bool,
    pub(super) overwrite: bool,
}

/// What is set up before the first event.
#[derive(Clone, Debug)]
pub struct SetupSettings {
    pub(super) compat: Compat,
    pub(super) template: Option<TemplateSettings>,
    pub(in crate::elasticsearch) ilm: IlmSettings,
    /// `output.elasticsearch.index`, where it is set.
    pub(super) own_index: Option<Format>,
    /// `pillion.setup.on_failure: wait`: nothing is sent until everything is there.
    pub(super) wait: bool,
}

impl SetupSettings {
    /// Reads what concerns the set-up; `output` is `output.elasticsearch`.
    pub fn from_root(root: &Section<'_>, output: &Section<'_>) -> Result<SetupSettings, Error> {
        let compat = root.compat();
        let (place, section) = match compat {
            Compat::V5 => (output, "template"),
            Compat::V7 | Compat::V8 | Compat::V9 => (root, "setup.template"),
        };
        let ilm = IlmSettings::from_root(root)?;
        let t = place.section(section)?.unwrap_or_else(|| place.absent(section));
        let asked = t.has("enabled");
        let template = if t.bool("enabled")?.unwrap_or(true) {
            TemplateSettings::from_section(root, output, &t, asked, ilm.mode)?
        } else {
            t.ignore();
            None
        };
        let own_index = output.str("index")?.filter(|i| !i.is_empty());
        let own_index = own_index.map(|text| compile(output, "index", &text)).transpose()?;
        let wait = root.choice("pillion.setup.on_failure", &["ship", "wait"])? == Some("wait");
        Ok(SetupSettings { compat, template, ilm, own_index, wait })
    }
}

impl IlmSettings {
    fn from_root(root: &Section<'_>) -> Result<IlmSettings, Error> {
        let compat = root.compat();
        let s = match compat {
            Compat::V5 => root.absent("setup.ilm"),
            Compat::V7 | Compat::V8 | Compat::V9 => {
                root.section("setup.ilm")?.unwrap_or_else(|| root.absent("setup.ilm"))
            }
        };
        let mode = match s.str("enabled")?.map(|word| word.to_lowercase()).as_deref() {
            _ if compat == Compat::V5 => Mode::Off,
            None | Some("auto") => Mode::Auto,
            Some(_) if s.bool("enabled")? == Some(true) => Mode::On,
            Some(_) => Mode::Off,
        };
        if mode == Mode::Off {
            s.ignore();
        }
        let text = |key: &str, default: &str| {
            let text = s.str(key)?.filter(|text| !text.is_empty());
            compile(&s, key, text.as_deref().unwrap_or(default))
        };
        let rolls = compat == Compat::V7;
        let pattern = if rolls { s.str("pattern")? } else { None };
        Ok(IlmSettings {
            mode,
            policy_name: text("policy_name", "filebeat")?,
            policy_file: file(root, &s, "policy_file")?,
            alias: if rolls { text("rollover_alias", VERSIONED)? } else { Format::literal("") },
            pattern: pattern.filter(|p| !p.is_empty()).unwrap_or_else(|| "{now/d}-000001".to_owned()),
            check_exists: s.bool("check_exists")?.unwrap_or(true),
            overwrite: s.bool("overwrite")?.unwrap_or(false),
        })
    }
}

/// The name that alias, template and data stream have.
pub(super) const VERSIONED: &str = "filebeat-%{[agent.version]}";

pub(super) fn compile(s: &Section<'_>, key: &str, text: &str) -> Result<Format, Error> {
    Format::compile(text).map_err(|e| s.error(key, e.to_string(), "Write it as filebeat-%{[agent.version]}."))
}

/// Relative names are those in `path.config`, as in Filebeat.
pub(super) fn file(root: &Section<'_>, s: &Section<'_>, key: &str) -> Result<Option<PathBuf>, Error> {
    let Some(name) = s.str(key)?.filter(|name| !name.is_empty()) else { return Ok(None) };
    Ok(Some(PathBuf::from(root.str("path.config")?.unwrap_or_default()).join(name)))
}
