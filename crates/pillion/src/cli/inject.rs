//! The flags of `pillion inject`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pillion_kube::inject::{PREFIX, SETTINGS};

use super::{Usage, flags};

/// `pillion inject`.
#[derive(Debug, PartialEq, Eq)]
pub struct Inject {
    /// `-f FILE`, `-` for standard input; never empty.
    pub files: Vec<PathBuf>,
    /// `-o FILE`; without it, or with `-`: standard output.
    pub output: Option<PathBuf>,
    /// `--diff`: show what would change.
    pub diff: bool,
    /// `--check`: only tell whether something would change.
    pub check: bool,
    /// `--set NAME=VALUE`, in their order.
    pub settings: Vec<(String, String)>,
    /// `--config FILE`: the configuration, which is put into a ConfigMap.
    pub config: Option<PathBuf>,
    /// `--config-map NAME`: a ConfigMap that is there.
    pub config_map: Option<String>,
    /// `--kube-version`: a version, or `cluster`.
    pub kube_version: Option<String>,
}

pub(super) fn command(command: Command) -> Command {
    let path = |name: &'static str, short: char, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).short(short).value_name(value).value_parser(value_parser!(PathBuf)).help(help)
    };
    command
        .arg(
            path("filename", 'f', "FILE", "Manifests to read, `-` for standard input; repeat it for more")
                .action(ArgAction::Append)
                .allow_hyphen_values(true),
        )
        .arg(
            path("output", 'o', "FILE", "Where to write; may be the file that was read [default: standard output]")
                .allow_hyphen_values(true),
        )
        .arg(flags::switch_arg("diff", "Show what would change, and write nothing"))
        .arg(flags::switch_arg("check", "Write nothing; exit with 1 when something would change"))
        .arg(flags::set_arg("Set one of the settings below; repeat it for more"))
        .arg(
            flags::value_arg("config", "FILE", "A filebeat.yml, which is written into a ConfigMap beside each object")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(flags::value_arg("config-map", "NAME[/KEY]", "The ConfigMap that has the filebeat.yml"))
        .arg(flags::value_arg(
            "kube-version",
            "VERSION",
            "The version of the cluster, such as 1.34; `cluster` asks the one that kubectl talks to",
        ))
}

pub(super) fn read(matches: &ArgMatches) -> Result<Inject, Usage> {
    let files: Vec<PathBuf> = matches.get_many::<PathBuf>("filename").into_iter().flatten().cloned().collect();
    if files.is_empty() {
        return Err(Usage::new("`inject` needs manifests", "give a file with -f, or `-f -` for standard input"));
    }
    if files.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Usage::new("standard input can be read once", "give `-f -` once"));
    }
    let mut settings = Vec::new();
    for (_, text) in flags::all(matches, "set") {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Usage::new(&format!("`--set {text}` has no value"), "write --set NAME=VALUE"));
        };
        settings.push((name.trim().to_owned(), value.to_owned()));
    }
    let text = |name: &str| flags::text(matches, name).cloned();
    let inject = Inject {
        files,
        output: matches.get_one::<PathBuf>("output").cloned(),
        diff: flags::on(matches, "diff"),
        check: flags::on(matches, "check"),
        settings,
        config: matches.get_one::<PathBuf>("config").cloned(),
        config_map: text("config-map"),
        kube_version: text("kube-version"),
    };
    if inject.config.is_some() && inject.config_map.is_some() {
        return Err(Usage::new("--config and --config-map exclude each other", "give one of them"));
    }
    Ok(inject)
}

/// What `help inject` says after the flags.
pub(super) fn more() -> String {
    let mut out = format!("Settings; those with * may be annotations of the pod ({PREFIX}NAME), which then win:\n");
    for setting in SETTINGS {
        let mark = if setting.annotation { '*' } else { ' ' };
        let meaning = setting.meaning.replace('`', "");
        let default = setting.default.replace('`', "");
        out.push_str(&format!("  {mark} {:<14} {meaning}\n{:19}[default: {default}]\n", setting.name, ""));
    }
    out.push_str(
        "\nExit codes: 0; with --check 1 when something would change; 2 when something can't be injected: nothing is \
         written then.\n\nExamples:\n  pillion inject -f job.yml | kubectl apply -f -\n  pillion inject -f job.yml -o job.yml \
         --config filebeat.yml --kube-version 1.34\n  kubectl create job x --image work:1 --dry-run=client -o yaml -- ./work \
         | pillion inject -f - --set output=logstash=lg:5044\n",
    );
    out
}
