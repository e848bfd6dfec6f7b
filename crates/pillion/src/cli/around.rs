//! Commands around shipping, as Filebeat has them: `setup`, `export`, `keystore`, `modules`, `completion`.
//!
//! Comes in: the words of the command, and its flags. Goes out: [`Around`]. Tested in `tests/cli.rs`.

use std::path::PathBuf;

use clap::{ArgMatches, Command as Clap, value_parser};

use super::flags::{self, Kind, switch_arg, value_arg};
use super::{Run, Usage};

/// What one of these commands is to do.
#[derive(Debug)]
pub struct Around {
    /// Which configuration.
    pub run: Run,
    /// What.
    pub task: Task,
}

/// The task.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// `setup`.
    Setup(Parts),
    /// `export template`, `ilm-policy`, `index-pattern`.
    Export {
        /// Which of them.
        what: Exported,
        /// `--es.version`; the one that events carry.
        version: Option<String>,
        /// `--noilm`.
        without_ilm: bool,
        /// `--dir`: files in there instead of standard output.
        dir: Option<PathBuf>,
    },
    /// `keystore create`; `force`: over one that is there.
    KeystoreCreate {
        /// `--force`.
        force: bool,
    },
    /// `keystore add KEY`.
    KeystoreAdd {
        /// The key.
        key: String,
        /// `--force`: create the keystore, replace a key that is there.
        force: bool,
        /// `--stdin`: all of standard input is the secret, and nothing is asked.
        stdin: bool,
    },
    /// `keystore list`.
    KeystoreList,
    /// `keystore remove KEY…`.
    KeystoreRemove(Vec<String>),
    /// `modules list`.
    ModulesList,
    /// `modules enable MODULE…`.
    ModulesEnable(Vec<String>),
    /// `modules disable MODULE…`.
    ModulesDisable(Vec<String>),
}

/// What `setup` is asked for; all of it when nothing is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// `--index-management`, `--template`, `--ilm-policy`.
    pub index_management: bool,
    /// `--pipelines`.
    pub pipelines: bool,
    /// `--dashboards`, `--machine-learning`.
    pub dashboards: bool,
}

/// What can be exported beside the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// The index template.
    Template,
    /// The lifecycle policy.
    IlmPolicy,
    /// Kibana's index pattern.
    IndexPattern,
}

/// Which of these commands the words mean; an error when they are one and something is missing.
pub(super) fn kind(words: &[&str], asks_for_help: bool) -> Option<Result<Kind, Usage>> {
    let known = match words {
        ["setup"] => Kind::Setup,
        ["export", "template"] => Kind::ExportTemplate,
        ["export", "ilm-policy"] => Kind::ExportIlmPolicy,
        ["export", "index-pattern"] => Kind::ExportIndexPattern,
        ["keystore", "create"] => Kind::KeystoreCreate,
        ["keystore", "list"] => Kind::KeystoreList,
        ["keystore", "add", _] => Kind::KeystoreAdd,
        ["keystore", "remove", _, ..] => Kind::KeystoreRemove,
        ["keystore"] if asks_for_help => Kind::KeystoreCreate,
        ["keystore", "add"] if asks_for_help => Kind::KeystoreAdd,
        ["keystore", "remove"] if asks_for_help => Kind::KeystoreRemove,
        ["modules", "list"] => Kind::ModulesList,
        ["modules", "enable", _, ..] => Kind::ModulesEnable,
        ["modules", "disable", _, ..] => Kind::ModulesDisable,
        ["modules"] if asks_for_help => Kind::ModulesList,
        ["modules", "enable"] if asks_for_help => Kind::ModulesEnable,
        ["modules", "disable"] if asks_for_help => Kind::ModulesDisable,
        ["completion", "bash" | "zsh" | "fish"] => Kind::Completion,
        ["completion"] if asks_for_help => Kind::Completion,
        ["keystore", ..] => {
            return Some(Err(Usage::new(
                &format!("`{}` isn't a command", words.join(" ")),
                "there are `keystore create`, `keystore add KEY`, `keystore list` and `keystore remove KEY…`",
            )));
        }
        ["modules", ..] => {
            return Some(Err(Usage::new(
                &format!("`{}` isn't a command", words.join(" ")),
                "there are `modules list`, `modules enable MODULE…` and `modules disable MODULE…`",
            )));
        }
        ["completion", ..] => {
            return Some(Err(Usage::new("`completion` needs a shell", "`completion bash`, `zsh` or `fish`")));
        }
        ["export", "dashboard"] => {
            return Some(Err(Usage::new("there are no dashboards", "export them from Kibana itself")));
        }
        _ => return None,
    };
    Some(Ok(known))
}

/// The flags of these commands beside those of a configuration.
pub(super) fn flags(kind: Kind, config: impl Fn(Clap) -> Clap, command: Clap) -> Clap {
    let version = || value_arg("es.version", "VERSION", "For this version of Elasticsearch [default: the dialect's]");
    let dir = || value_arg("dir", "DIR", "Write a file there instead of printing").value_parser(value_parser!(PathBuf));
    let force = |help| switch_arg("force", help);
    match kind {
        Kind::Setup => config(command)
            .arg(switch_arg("index-management", "Only index template, lifecycle policy and alias"))
            .arg(switch_arg("pipelines", "Only ingest pipelines: there are none"))
            .arg(switch_arg("dashboards", "Only dashboards: there are none"))
            .args(["template", "ilm-policy", "machine-learning"].map(|name| switch_arg(name, "").hide(true)))
            .args(["enable-all-filesets", "force-enable-module-filesets"].map(|name| switch_arg(name, "").hide(true))),
        Kind::ExportTemplate => {
            config(command).arg(version()).arg(switch_arg("noilm", "As it is without a lifecycle policy")).arg(dir())
        }
        Kind::ExportIlmPolicy => config(command).arg(version()).arg(dir()),
        Kind::ExportIndexPattern => config(command).arg(version()),
        Kind::KeystoreCreate => config(command).arg(force("Over one that is there")),
        Kind::KeystoreAdd => config(command)
            .arg(switch_arg("stdin", "All of standard input is the secret; nothing is asked"))
            .arg(force("Create the keystore, and replace a key that is there")),
        Kind::KeystoreList | Kind::KeystoreRemove => config(command),
        Kind::ModulesList | Kind::ModulesEnable | Kind::ModulesDisable => config(command),
        _ => command,
    }
}

/// The task of a command; `None`: it is none of these.
pub(super) fn task(kind: Kind, matches: &ArgMatches, words: &[&str]) -> Option<Task> {
    let on = |name: &str| flags::on(matches, name);
    let export = |what| Task::Export {
        what,
        version: flags::text(matches, "es.version").cloned(),
        without_ilm: on("noilm"),
        dir: matches.try_get_one::<PathBuf>("dir").ok().flatten().cloned(),
    };
    let keys = || words.iter().skip(2).map(|key| key.trim().to_owned());
    Some(match kind {
        Kind::Setup => Task::Setup(Parts {
            index_management: on("index-management") || on("template") || on("ilm-policy"),
            pipelines: on("pipelines"),
            dashboards: on("dashboards") || on("machine-learning"),
        }),
        Kind::ExportTemplate => export(Exported::Template),
        Kind::ExportIlmPolicy => export(Exported::IlmPolicy),
        Kind::ExportIndexPattern => export(Exported::IndexPattern),
        Kind::KeystoreCreate => Task::KeystoreCreate { force: on("force") },
        Kind::KeystoreAdd => {
            Task::KeystoreAdd { key: keys().next().unwrap_or_default(), force: on("force"), stdin: on("stdin") }
        }
        Kind::KeystoreList => Task::KeystoreList,
        Kind::KeystoreRemove => Task::KeystoreRemove(keys().collect()),
        Kind::ModulesList => Task::ModulesList,
        Kind::ModulesEnable => Task::ModulesEnable(keys().collect()),
        Kind::ModulesDisable => Task::ModulesDisable(keys().collect()),
        _ => return None,
    })
}

/// Usage, text and examples of `help`.
pub(super) fn help(kind: Kind) -> Option<super::help::Texts<'static>> {
    Some(match kind {
        Kind::Setup => (
            "setup [FLAGS]",
            "Puts the index template, the lifecycle policy and, for 7, the alias with its first index into Elasticsearch or \
             OpenSearch,\nas a run would before its first event, and prints what came of it. The template replaces one that is there; \
             the rest stays.\nFor whoever may do that, once: a sidecar's user needn't. Exits with 0 when all is there, else with 1.",
            "Example:\n  pillion setup -c filebeat.yml -E output.elasticsearch.username=admin -E 'output.elasticsearch.password=${ADMIN}'\n",
        ),
        Kind::ExportTemplate => (
            "export template [FLAGS]",
            "Prints the index template as it would be put.",
            "Example:\n  pillion export template -c filebeat.yml --es.version 7.10.2 > template.json\n",
        ),
        Kind::ExportIlmPolicy => ("export ilm-policy [FLAGS]", "Prints the lifecycle policy as it would be put.", ""),
        Kind::ExportIndexPattern => (
            "export index-pattern [FLAGS]",
            "Prints an index pattern for Kibana, with the fields of the index template.",
            "",
        ),
        Kind::KeystoreCreate => (
            "keystore create [FLAGS]",
            "Makes an empty keystore: ${path.data}/filebeat.keystore, or keystore.path. It is Filebeat's own, readable by its \
             owner alone.\nIts keys are variables of the configuration, as ${ES_PASSWORD}; a variable of the environment wins.",
            "",
        ),
        Kind::KeystoreAdd => (
            "keystore add KEY [FLAGS]",
            "Puts a secret under a name into the keystore. It is asked for without an echo, or read from standard input.",
            "Example:\n  printf %s \"$PASSWORD\" | pillion keystore add ES_PASSWORD --stdin --force\n",
        ),
        Kind::KeystoreList => ("keystore list [FLAGS]", "Prints the names in the keystore, never a secret.", ""),
        Kind::KeystoreRemove => ("keystore remove KEY… [FLAGS]", "Takes names out of the keystore.", ""),
        Kind::ModulesList => (
            "modules list [FLAGS]",
            "Prints which files of modules are read, and which aren't: NAME.yml and NAME.yml.disabled in the folder of \
             filebeat.config.modules.path.",
            "",
        ),
        Kind::ModulesEnable => (
            "modules enable MODULE… [FLAGS]",
            "Renames NAME.yml.disabled to NAME.yml in the folder of filebeat.config.modules.path. Which filesets of it are read is \
             said in the file.\nTheir ingest pipelines aren't loaded: run `filebeat setup --pipelines --modules NAME` once.",
            "Example:\n  pillion modules enable nginx system -c filebeat.yml\n",
        ),
        Kind::ModulesDisable => ("modules disable MODULE… [FLAGS]", "Renames NAME.yml to NAME.yml.disabled there.", ""),
        Kind::Completion => (
            "completion bash|zsh|fish",
            "Prints what a shell needs to complete commands and flags.",
            "Examples:\n  source <(pillion completion bash)\n  pillion completion fish > ~/.config/fish/completions/pillion.fish\n",
        ),
        _ => return None,
    })
}
