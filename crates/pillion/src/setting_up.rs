//! `setup`, and `export` of what it puts.
//!
//! Comes in: the configuration, and what is asked for. Goes out: requests to Elasticsearch, or JSON on standard output or
//! in a folder, and the exit code. Tested in `tests/setup.rs`.

use std::path::Path;

use pillion_config::{Config, Error, Setting};
use pillion_output::any::AnyOptions;
use pillion_output::elasticsearch::{Overwrite, Setup, SetupSettings, Version, run_setup};
use pillion_world::World;
use serde_json::Value;

use crate::assemble::assemble;
use crate::cli::{Around, Exported, Parts, Task};
use crate::work::{self, FAILURE};
use crate::{BAD_CONFIGURATION, complain, keystore, modules, refuse, say};

/// Carries a task out, and returns the exit code.
pub(crate) fn around(around: &Around) -> u8 {
    if matches!(around.task, Task::ModulesList | Task::ModulesEnable(_) | Task::ModulesDisable(_)) {
        return modules::modules(&around.run.load, &around.task);
    }
    if !matches!(around.task, Task::Setup(_) | Task::Export { .. }) {
        return match keystore::keystore(&around.run.load, &around.task) {
            Ok(text) => say(&text),
            Err(e) => {
                refuse(&[e]);
                FAILURE
            }
        };
    }
    let config = match load(around) {
        Ok(config) => config,
        Err(e) => return refuse(&[e]),
    };
    match &around.task {
        Task::Export { what, version, without_ilm, dir } => {
            export(&config, *what, version.as_deref(), *without_ilm, dir.as_deref())
        }
        Task::Setup(parts) => setup(&config, *parts),
        _ => BAD_CONFIGURATION,
    }
}

/// The configuration. A template that is asked for is there, as in Filebeat: who puts it by hand has switched it off.
fn load(around: &Around) -> Result<Config, Error> {
    let (world, load) = (World::real(), &around.run.load);
    let config = Config::load(&world, load)?;
    let asked = matches!(&around.task, Task::Export { what: Exported::Template, .. });
    if !asked || config.root().bool("setup.template.enabled")? != Some(false) {
        return Ok(config);
    }
    let mut load = load.clone();
    load.settings.push(Setting::Overwrite("setup.template.enabled=true".to_owned()));
    Config::load(&world, &load)
}

fn setup(config: &Config, parts: Parts) -> u8 {
    let assembled = match assemble(config, false, false) {
        Ok(assembled) => assembled,
        Err(errors) => return refuse(&errors),
    };
    let all = parts == Parts::default();
    let mut report = String::new();
    let mut good = true;
    let absent = [
        (
            parts.pipelines,
            "ingest pipelines",
            "Those of modules come from Filebeat itself: `filebeat setup --pipelines --modules NAME`",
        ),
        (
            parts.dashboards,
            "dashboards and machine learning jobs",
            "There are none: load them once, with Filebeat or Kibana",
        ),
    ];
    for (asked, what, why) in absent {
        if asked || all {
            report.push_str(&format!("{what}: not set up. {why}.\n"));
            good &= !asked;
        }
    }
    if parts.index_management || all {
        let outputs = assembled.further.iter().map(|one| (&one.config, &one.parts));
        let clusters: Vec<_> = [(config, &assembled)]
            .into_iter()
            .chain(outputs)
            .filter_map(|(config, parts)| match &parts.output {
                AnyOptions::Elasticsearch(settings) => Some((settings, work::context_by_hand(config, parts))),
                _ => None,
            })
            .collect();
        if clusters.is_empty() {
            let reason = format!("output.{} needs no set-up", assembled.output.name());
            let remedy = "pass the cluster: -E output.elasticsearch.hosts=[…], and switch the other output off";
            return refuse(&[Error::new(reason, remedy)]);
        }
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                for (settings, context) in clusters {
                    let put = run_setup(settings, &context, Overwrite { template: true }, &mut report);
                    good &= runtime.block_on(put);
                }
            }
            Err(e) => {
                complain(&format!("error: the runtime can't start: {e}"));
                good = false;
            }
        }
    }
    say(&report);
    if good { 0 } else { FAILURE }
}

fn export(config: &Config, what: Exported, version: Option<&str>, without_ilm: bool, dir: Option<&Path>) -> u8 {
    let assembled = match assemble(config, false, false) {
        Ok(assembled) => assembled,
        Err(errors) => return refuse(&errors),
    };
    let made = exported(config, &assembled, what, version, without_ilm).and_then(|(folder, name, value)| {
        let text = format!("{value:#}\n");
        let Some(dir) = dir else { return Ok(text) };
        let (world, folder) = (World::real(), dir.join(folder));
        let file = folder.join(format!("{name}.json"));
        let written =
            world.fs.create_dir_all(&folder, 0o755).and_then(|()| world.fs.replace(&file, text.as_bytes(), 0o644));
        let failed = |e| Error::new(format!("{}: {e}", file.display()), "name a folder that this user may write in");
        written.map(|()| format!("{}\n", file.display())).map_err(failed)
    });
    match made {
        Ok(text) => say(&text),
        Err(e) => refuse(&[e]),
    }
}

/// The folder and the name of its file, and what stands in it.
fn exported(
    config: &Config,
    assembled: &crate::assemble::Assembled,
    what: Exported,
    version: Option<&str>,
    without_ilm: bool,
) -> Result<(&'static str, String, Value), Error> {
    let root = config.root();
    let settings = match &assembled.output {
        AnyOptions::Elasticsearch(settings) => settings.setup.clone(),
        _ => SetupSettings::from_root(&root, &root.absent("output.elasticsearch"))?,
    };
    let context = work::context_by_hand(config, assembled);
    let setup = Setup::new(settings, &context).map_err(|p| Error::new(p.reason, p.remedy))?;
    let version = version.unwrap_or(config.agent_version());
    let bad = || Error::new(format!("`{version}` isn't a version"), "write --es.version 8.19.14");
    let version = Version::parse(version).ok_or_else(bad)?;
    match what {
        Exported::Template => {
            let none =
                || Error::new("there is no index template: it is switched off", "set setup.template.enabled: true");
            setup.template_for(version, !without_ilm).map(|(name, body)| ("template", name, body)).ok_or_else(none)
        }
        Exported::IlmPolicy => {
            let (name, body) = setup.policy();
            Ok(("policy", name, body))
        }
        Exported::IndexPattern => Ok(("index-pattern", "filebeat".to_owned(), setup.index_pattern())),
    }
}
