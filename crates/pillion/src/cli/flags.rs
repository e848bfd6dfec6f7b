//! The flags of each command, for clap.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// A command that takes flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    TestConfig,
    TestOutput,
    Export,
    Exec,
    Receive,
    Demo,
    Webhook,
    Inject,
    Install,
    Sweep,
    Shards,
    Setup,
    ExportTemplate,
    ExportIlmPolicy,
    ExportIndexPattern,
    KeystoreCreate,
    KeystoreAdd,
    KeystoreList,
    KeystoreRemove,
    ModulesList,
    ModulesEnable,
    ModulesDisable,
    Completion,
}

/// Flags that are settings over the configuration: the flag and the option.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("path.home", "path.home"),
    ("path.config", "path.config"),
    ("path.data", "path.data"),
    ("path.logs", "path.logs"),
    ("hostname", "hostname"),
    ("until", "pillion.completion.flag"),
    ("until-released", "pillion.completion.lock"),
    ("until-exit", "pillion.completion.process"),
    ("receipt", "pillion.receipt"),
    ("drain-timeout", "pillion.drain.timeout"),
    ("on-incomplete", "pillion.on_incomplete"),
    ("on-full", "pillion.exec.on_full"),
    ("shard", "pillion.shards.index"),
];

/// Filebeat's flags that change nothing that is delivered.
pub(super) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("cpuprofile", "there is no profiler built in"),
    ("memprofile", "there is no profiler built in"),
    ("httpprof", "there is no profiler built in"),
    ("setup", "no dashboards are loaded"),
    ("system.hostfs", "nothing is asked of the host's own file system"),
];

/// Filebeat's flags without which something else would be delivered: flag, reason, remedy.
pub(super) const REFUSED: &[(&str, &str, &str)] = &[
    (
        "N",
        "a run without publishing isn't there",
        "use `test config`, or `-E output.console.pretty=false` to look at events",
    ),
    (
        "M",
        "options of modules aren't taken from the command line",
        "write them below the module's fileset: `access.var.paths: [/logs/*]`, `access.input.tags: [web]`",
    ),
    (
        "modules",
        "modules aren't taken from the command line",
        "write `filebeat.modules: [{module: nginx, access.enabled: true}]`, or use `modules enable`",
    ),
    ("plugin", "plugins can't be loaded", "remove the flag"),
];

/// How a flag is written.
pub(super) fn shown(flag: &str) -> String {
    if flag.len() == 1 { format!("-{flag}") } else { format!("--{flag}") }
}

/// The command with its flags.
pub(super) fn command(kind: Kind) -> Command {
    let command = Command::new("pillion").no_binary_name(false).disable_help_flag(true).disable_version_flag(true);
    match kind {
        Kind::Receive => receive(command),
        Kind::Inject => super::inject::command(command),
        Kind::Webhook => webhook(command),
        Kind::Install => command,
        Kind::Demo => command.arg(switch_arg("keep", "Leave the folder with all files behind and say where it is")),
        Kind::Exec => life(config(command)).arg(value_arg(
            "on-full",
            "block|drop",
            "When the target is away and the spool file is full: let the command wait, or drop lines and count them",
        )),
        Kind::Run | Kind::TestConfig | Kind::TestOutput => life(config(command)),
        Kind::Sweep => config(command)
            .arg(value_arg("drain-timeout", "DURATION", "How long one registry may take [default: 10m]"))
            .arg(switch_arg("dry-run", "Only look, and print what is there"))
            .arg(span_arg("grace", "How long an owner must not have moved [default: 60s]"))
            .arg(span_arg("delete-after", "Delete files that are shipped to their last byte, so long after"))
            .arg(span_arg("move-after", "Move them to .pillion/NAME/shipped beside the logs instead")),
        Kind::Shards => config(command)
            .arg(switch_arg("json", "Print JSON"))
            .arg(switch_arg("behind", "Look at the registries and files too, for how far behind [default: true]"))
            .arg(value_arg("api-server", "URL", "Another API server than the pod's own, such as kubectl proxy's")),
        Kind::Export => life(config(command)).arg(switch_arg("reveal-secrets", "Print passwords and keys too")),
        Kind::Setup
        | Kind::ExportTemplate
        | Kind::ExportIlmPolicy
        | Kind::ExportIndexPattern
        | Kind::KeystoreCreate
        | Kind::KeystoreAdd
        | Kind::KeystoreList
        | Kind::KeystoreRemove
        | Kind::ModulesList
        | Kind::ModulesEnable
        | Kind::ModulesDisable
        | Kind::Completion => super::around::flags(kind, config, command),
    }
}

/// What every command that reads a configuration takes.
fn config(command: Command) -> Command {
    let command = command
        .arg(
            Arg::new("c")
                .short('c')
                .value_name("FILE")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Configuration file; repeat it to lay further files over the first [default: filebeat.yml]"),
        )
        .arg(
            Arg::new("E")
                .short('E')
                .value_name("KEY=VALUE")
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .help("Set one option, as in -E output.logstash.hosts=[lg1:5044,lg2:5044]"),
        )
        .arg(switch_arg("e", "Log to standard error").short('e'))
        .arg(switch_arg("v", "Log at level info").short('v'))
        .arg(
            Arg::new("d")
                .short('d')
                .value_name("SELECTORS")
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .help("Log at level debug for these parts, `*` for all"),
        )
        .arg(value_arg(
            "path.home",
            "DIR",
            "Where the other folders lie [default: this program's folder as it was called]",
        ))
        .arg(value_arg("path.config", "DIR", "Where relative -c names are looked up"))
        .arg(value_arg("path.data", "DIR", "Registry and lock [default: ${path.home}/data]"))
        .arg(value_arg("path.logs", "DIR", "Our own log files [default: ${path.home}/logs]"))
        .arg(switch_arg("strict.perms", "Refuse a configuration that others may write [default: true]"))
        .arg(switch_arg("strict", "An unknown option is an error, not a warning"))
        .arg(value_arg("environment", "NAME", "`container`: log to standard error").hide(true))
        .arg(value_arg("hostname", "NAME", "The host's name in events"));
    let hidden = ["configtest", "version", "setup"].map(|name| switch_arg(name, "").hide(true));
    let values = ["cpuprofile", "memprofile", "httpprof", "modules", "plugin", "system.hostfs"]
        .map(|n| value_arg(n, "", "").hide(true));
    let once = switch_arg("once", "Read every file to its end, ship it, and end");
    command
        .arg(once)
        .args(hidden)
        .args(values)
        .arg(switch_arg("N", "").short('N').hide(true))
        .arg(Arg::new("M").short('M').action(ArgAction::Append).allow_hyphen_values(true).hide(true))
}

/// What ends a run, and how it ends; the commands that only read a configuration take it too, since it sets options.
fn life(command: Command) -> Command {
    command
        .arg(value_arg("until", "FILE", "The job is done when this file appears: ship the rest, then end"))
        .arg(value_arg(
            "until-released",
            "FIFO",
            "The job is done when nobody holds this FIFO open any more: its shell was killed before it made the flag",
        ))
        .arg(value_arg("until-exit", "PID|NAME", "The job is done when this process ends (shared process namespace)"))
        .arg(value_arg("receipt", "FILE", "Write the receipt as JSON: what was read, acknowledged, dropped"))
        .arg(value_arg("drain-timeout", "DURATION", "How long the end may take [default: 10m]"))
        .arg(value_arg("shard", "I/N", "Read part I of N of the files beneath pillion.shards.root, others the rest"))
        .arg(value_arg(
            "on-incomplete",
            "fail|succeed",
            "Exit code when not everything was acknowledged: 3 or 0 [default: fail]",
        ))
}

fn receive(command: Command) -> Command {
    let file =
        |name: &'static str, help: &'static str| value_arg(name, "FILE", help).value_parser(value_parser!(PathBuf));
    command
        .arg(value_arg(
            "lumberjack",
            "HOST:PORT",
            "Speak the Beats protocol there, as Logstash [default: 127.0.0.1:5044]",
        ))
        .arg(value_arg("elasticsearch", "HOST:PORT", "Speak HTTP with _bulk there [default: 127.0.0.1:9200]"))
        .arg(
            value_arg("to", "DIR", "Write NDJSON files there [default: standard output]")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(switch_arg("count", "Write events nowhere, only count them"))
        .arg(switch_arg("with-action", "Write each _bulk document with its action, index and id"))
        .arg(value_arg("delay", "DURATION", "Be slow: wait this long before each answer").value_parser(|text: &str| {
            pillion_config::parse_duration(text).ok_or("give a time span such as 200ms or 2s")
        }))
        .arg(value_arg("reject-every", "N", "Refuse every Nth item or window").value_parser(value_parser!(u64)))
        .arg(file("tls-cert", "Speak TLS with this certificate (PEM)"))
        .arg(file("tls-key", "The certificate's key (PEM)"))
        .arg(file("tls-client-ca", "Ask clients for a certificate of this authority (PEM)"))
}

fn webhook(command: Command) -> Command {
    let duration = |text: &str| pillion_config::parse_duration(text).ok_or("give a time span such as 720h or 30s");
    command
        .arg(value_arg("listen", "HOST:PORT", "Take admission requests there, over HTTPS [default: 127.0.0.1:8443]"))
        .arg(value_arg("status", "HOST:PORT", "/metrics, /readyz and /healthz, over HTTP [default: 127.0.0.1:8080]"))
        .arg(set_arg("How sidecars are made; see the table of settings in the manual (docs/kubernetes.md)"))
        .arg(value_arg("namespace", "NAME", "The namespace it runs in, never injected [default: the pod's own]"))
        .arg(value_arg("service", "NAME", "The Service that leads here [default: pillion-webhook]"))
        .arg(value_arg("configuration", "NAME", "The MutatingWebhookConfiguration to keep [default: pillion-webhook]"))
        .arg(value_arg("cert-secret", "NAME", "The Secret that replicas share [default: pillion-webhook-tls]"))
        .arg(
            value_arg("cert-lifetime", "DURATION", "How long a certificate lives [default: 2160h]")
                .value_parser(duration),
        )
        .arg(
            value_arg("cert-dir", "DIR", "Take tls.crt, tls.key and ca.crt from there instead of making them")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(switch_arg("manage-ca-bundle", "Keep the configuration's caBundle up to date [default: true]"))
        .arg(switch_arg("census", "Count the pods that passed without a sidecar [default: true]"))
        .arg(
            value_arg("linger", "DURATION", "Go on answering so long after SIGTERM [default: 5s]")
                .value_parser(duration),
        )
        .arg(
            value_arg("api-server", "URL", "Another API server than the pod's own, such as kubectl proxy's").hide(true),
        )
        .arg(switch_arg("v", "Log at level debug").short('v'))
}

/// `--set NAME=VALUE`, as often as wanted: a setting of `inject`.
pub(super) fn set_arg(help: &'static str) -> Arg {
    Arg::new("set").long("set").value_name("NAME=VALUE").action(ArgAction::Append).allow_hyphen_values(true).help(help)
}

pub(super) fn value_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .action(ArgAction::Set)
        .overrides_with(name)
        .allow_hyphen_values(true)
        .help(help)
}

/// A time span, in nanoseconds.
fn span_arg(name: &'static str, help: &'static str) -> Arg {
    value_arg(name, "DURATION", help)
        .value_parser(|text: &str| pillion_config::parse_duration(text).ok_or("give a time span such as 60s or 24h"))
}

/// A switch as Go has it: `--once`, `--once=false`.
pub(super) fn switch_arg(name: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name)
        .action(ArgAction::Set)
        .overrides_with(name)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("BOOL")
        .hide_possible_values(true)
        .value_parser(go_bool)
        .help(help);
    if name.len() == 1 { arg } else { arg.long(name) }
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("give true or false"),
    }
}

/// The value of a switch; `None` when it wasn't given or isn't one.
pub(super) fn switch(matches: &ArgMatches, name: &str) -> Option<bool> {
    matches.try_get_one::<bool>(name).ok().flatten().copied()
}

/// Is the switch on?
pub(super) fn on(matches: &ArgMatches, name: &str) -> bool {
    switch(matches, name).unwrap_or(false)
}

/// Was the flag given? False also for a flag that the command doesn't have.
pub(super) fn given(matches: &ArgMatches, name: &str) -> bool {
    matches.try_contains_id(name).unwrap_or(false) && switch(matches, name) != Some(false)
}

/// The text of a flag.
pub(super) fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a String> {
    matches.try_get_one::<String>(name).ok().flatten()
}

/// Where a flag stood, to keep the order of settings.
pub(super) fn place(matches: &ArgMatches, name: &str) -> usize {
    matches.index_of(name).unwrap_or(0)
}

/// All values of a repeatable flag with their places.
pub(super) fn all(matches: &ArgMatches, name: &str) -> Vec<(usize, String)> {
    let values = matches.try_get_many::<String>(name).ok().flatten().into_iter().flatten().cloned();
    matches.indices_of(name).into_iter().flatten().zip(values).collect()
}
