//! The command line: Filebeat's of 5.6 to 9, and our own commands and flags.
//!
//! Comes in: arguments, environment, working directory ([`Process`]). Goes out: a [`Command`], or a [`Usage`] error.
//! Flags that set options (`--until`, `--receipt`, `--path.*`, `-E`) become [`Setting`]s over the configuration file, so
//! that each option has one reader and one error text.
//!
//! The way: `split` (words, flags, what follows `--`; one dash or two) → `flags` (clap, one command each) → here.
//! Always holds: nothing here touches files or prints.
//! Tested in `tests/cli.rs`.

mod around;
mod completion;
mod flags;
mod help;
mod inject;
mod split;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use around::{Around, Exported, Parts, Task};
use clap::ArgMatches;
pub use inject::Inject;
use pillion_config::{Load, Setting, default_home, nearest};

pub use crate::sweep::After;

/// Commands of ours.
const OWN: &[&str] = &[
    "run",
    "test",
    "export",
    "version",
    "help",
    "exec",
    "receive",
    "demo",
    "inject",
    "webhook",
    "install",
    "sweep",
    "shards",
    "setup",
    "keystore",
    "modules",
    "completion",
];
/// Commands of Filebeat that aren't here: they are refused with a remedy.
const FILEBEATS: &[&str] = &["enroll", "generate"];

/// Whether a word is a command, here or in Filebeat.
pub(crate) fn is_command(word: &str) -> bool {
    OWN.contains(&word) || FILEBEATS.contains(&word)
}

/// What the user wants.
#[derive(Debug)]
pub enum Command {
    /// Ship until told to end.
    Run(Run),
    /// `test config`, `-configtest`: read the configuration, report everything, exit 0 or 2.
    TestConfig(Run),
    /// `test output`: connect to the output and report.
    TestOutput(Run),
    /// `export config`: print the merged configuration.
    ExportConfig {
        /// Which configuration.
        run: Run,
        /// `--reveal-secrets`: print secrets too.
        reveal: bool,
    },
    /// `exec [flags] -- CMD…`: run a command and ship what it prints.
    Exec {
        /// Configuration and life cycle.
        run: Run,
        /// The command and its arguments; never empty.
        command: Vec<OsString>,
    },
    /// `receive`: an endpoint for trying things out.
    Receive(Receive),
    /// `install DIR`: a copy of this program into a folder.
    Install(PathBuf),
    /// `demo [-- CMD]`.
    Demo(Demo),
    /// `inject`: put Pillion into manifests.
    Inject(Inject),
    /// `webhook`: a mutating admission webhook.
    Webhook(Webhook),
    /// `sweep PATH`: ship what dead pods left.
    Sweep(Sweep),
    /// `shards`: who has which shard.
    Shards(Shards),
    /// `setup`, `export template` and the like, `keystore`.
    Around(Box<Around>),
    /// Print this to standard output and exit 0: `version`, `help`, `completion`.
    Say(String),
}

/// Configuration and life cycle of a run.
#[derive(Debug)]
pub struct Run {
    /// What to load; holds the settings of `-E`, `--path.*`, `--until…`, `--receipt`, `--on-full`.
    pub load: Load,
    /// `--strict`: unknown options are errors.
    pub strict: bool,
    /// `--once`: read every file to its end, drain, exit.
    pub once: bool,
    /// What the flags say about our own log.
    pub log: Log,
    /// What to log as warnings: flags of Filebeat that have no effect here.
    pub warnings: Vec<String>,
}

/// `pillion sweep`.
#[derive(Debug)]
pub struct Sweep {
    /// The folder beneath which registries are looked for.
    pub path: PathBuf,
    /// The configuration that the dead pods had.
    pub run: Run,
    /// `--grace DURATION`: nanoseconds during which an owner must not have moved.
    pub grace_ns: Option<u64>,
    /// `--dry-run`: only look.
    pub dry_run: bool,
    /// `--delete-after`, `--move-after`: what becomes of shipped files.
    pub after: Option<After>,
}

/// `pillion shards`.
#[derive(Debug)]
pub struct Shards {
    /// The configuration that the replicas have.
    pub run: Run,
    /// `--json`: for programs.
    pub json: bool,
    /// `--behind`: look at registries and files, too.
    pub behind: bool,
    /// `--api-server URL`: another one than the pod's own.
    pub api_server: Option<String>,
}

/// What the flags say about our own log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `-e` or `--environment container`: to standard error whatever the file says.
    pub stderr: bool,
    /// `-v`: at level info at least.
    pub verbose: bool,
    /// `-d`: at level debug, for these selectors; `*` is all.
    pub selectors: Vec<String>,
}

/// `pillion receive`.
#[derive(Debug, PartialEq, Eq)]
pub struct Receive {
    /// `--lumberjack HOST:PORT`; when neither it nor `--elasticsearch` is given, both listen on their usual ports.
    pub lumberjack: Option<String>,
    /// `--elasticsearch HOST:PORT`.
    pub elasticsearch: Option<String>,
    /// `--to DIR`: a file of NDJSON for each port; without it, standard output.
    pub to: Option<PathBuf>,
    /// `--count`: write events nowhere.
    pub count: bool,
    /// `--with-action`: keep what `_bulk` said about each document.
    pub with_action: bool,
    /// `--delay DURATION`: nanoseconds that each answer waits.
    pub delay_ns: u64,
    /// `--reject-every N`: 0 = never.
    pub reject_every: u64,
    /// `--tls-cert FILE` and `--tls-key FILE`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `--tls-client-ca FILE`: ask clients for a certificate of this authority.
    pub tls_client_ca: Option<PathBuf>,
}

/// `pillion demo`.
#[derive(Debug, PartialEq, Eq)]
pub struct Demo {
    /// The user's own command; empty = the built-in job.
    pub command: Vec<OsString>,
    /// `--keep`: leave the folder with all files behind.
    pub keep: bool,
}

/// `pillion webhook`; `None`, empty: the default.
#[derive(Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `--listen HOST:PORT`: admissions.
    pub listen: Option<String>,
    /// `--status HOST:PORT`: probes and metrics.
    pub status: Option<String>,
    /// `--set NAME=VALUE`, in order.
    pub settings: Vec<String>,
    /// `--namespace NAME`.
    pub namespace: Option<String>,
    /// `--service NAME`.
    pub service: Option<String>,
    /// `--configuration NAME`.
    pub configuration: Option<String>,
    /// `--cert-secret NAME`.
    pub secret: Option<String>,
    /// `--cert-lifetime DURATION`: nanoseconds.
    pub lifetime_ns: Option<u64>,
    /// `--cert-dir DIR`.
    pub cert_dir: Option<PathBuf>,
    /// `--manage-ca-bundle`.
    pub manage_ca_bundle: bool,
    /// `--census`.
    pub census: bool,
    /// `--linger DURATION`: nanoseconds.
    pub linger_ns: Option<u64>,
    /// `--api-server URL`.
    pub api_server: Option<String>,
    /// `-v`.
    pub verbose: bool,
}

/// A command line that can't be understood.
#[derive(Debug)]
pub struct Usage {
    /// What to print to standard error.
    pub text: String,
    /// The exit code: 2.
    pub code: u8,
}

impl Usage {
    fn new(reason: &str, remedy: &str) -> Usage {
        Usage { text: format!("error: {reason}\nremedy: {remedy}"), code: 2 }
    }
}

/// What the operating system gave this process.
#[derive(Debug)]
pub struct Process {
    /// The arguments, the name it was called by first.
    pub args: Vec<OsString>,
    /// The environment; names and values that aren't UTF-8 are left out.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The effective user.
    pub euid: u32,
}

impl Process {
    /// This process.
    pub fn real() -> Process {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Process {
            args: std::env::args_os().collect(),
            env: std::env::vars_os().filter_map(text).collect(),
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            euid: rustix::process::geteuid().as_raw(),
        }
    }

    /// The name it was called by, without its folder: `pillion`, `filebeat`.
    pub fn name(&self) -> &str {
        let name = self.args.first().and_then(|arg| Path::new(arg).file_name()).and_then(|name| name.to_str());
        name.unwrap_or("pillion")
    }
}

/// Understands a command line.
///
/// # Errors
/// With what is wrong, what to do, and exit code 2.
pub fn parse(process: &Process) -> Result<Command, Usage> {
    let name = process.name();
    let split = split::split(process.args.iter().skip(1).cloned());
    check_flags(&split)?;
    let words: Vec<&str> = split.words.iter().map(String::as_str).collect();
    let kind = match words.as_slice() {
        ["help", topic @ ..] => return help::topic(name, topic).map(Command::Say),
        ["version"] => return Ok(Command::Say(help::version(name))),
        words => kind_of(words, split.asks_for_help)?,
    };
    if split.asks_for_help {
        return Ok(Command::Say(if words.is_empty() { help::overview(name) } else { help::of(name, kind) }));
    }
    let matches = flags::command(kind)
        .try_get_matches_from(split.flags)
        .map_err(|e| Usage { text: e.render().to_string().trim_end().to_owned(), code: 2 })?;
    let command = split.command;
    check_command(kind, &command)?;
    match kind {
        flags::Kind::Receive => receive(&matches).map(Command::Receive),
        flags::Kind::Inject => inject::read(&matches).map(Command::Inject),
        flags::Kind::Webhook => Ok(Command::Webhook(webhook(&matches))),
        flags::Kind::Install => Ok(Command::Install(words.iter().skip(1).collect())),
        flags::Kind::Completion => {
            Ok(Command::Say(completion::script(words.last().copied().unwrap_or_default(), name)))
        }
        flags::Kind::Demo => Ok(Command::Demo(Demo { command, keep: flags::on(&matches, "keep") })),
        _ => {
            let run = run(&matches, process)?;
            if let Some(task) = around::task(kind, &matches, &words) {
                return Ok(Command::Around(Box::new(Around { run, task })));
            }
            Ok(match kind {
                _ if flags::on(&matches, "version") => Command::Say(help::version(name)),
                flags::Kind::TestConfig => Command::TestConfig(run),
                flags::Kind::TestOutput => Command::TestOutput(run),
                flags::Kind::Export => Command::ExportConfig { run, reveal: flags::on(&matches, "reveal-secrets") },
                flags::Kind::Exec => Command::Exec { run, command },
                flags::Kind::Sweep => Command::Sweep(sweep(&matches, words.iter().skip(1).collect(), run)?),
                flags::Kind::Shards => Command::Shards(shards(&matches, run)),
                _ if flags::on(&matches, "configtest") => Command::TestConfig(run),
                _ => Command::Run(run),
            })
        }
    }
}

/// Which command the words mean.
fn kind_of(words: &[&str], asks_for_help: bool) -> Result<flags::Kind, Usage> {
    Ok(match words {
        [] | ["run"] => flags::Kind::Run,
        ["test", "config"] => flags::Kind::TestConfig,
        ["test"] if asks_for_help => flags::Kind::TestConfig,
        ["test", "output"] => flags::Kind::TestOutput,
        ["export", "config"] => flags::Kind::Export,
        ["export"] if asks_for_help => flags::Kind::Export,
        ["exec"] => flags::Kind::Exec,
        ["receive"] => flags::Kind::Receive,
        ["demo"] => flags::Kind::Demo,
        ["inject"] => flags::Kind::Inject,
        ["install", _] => flags::Kind::Install,
        ["install"] if asks_for_help => flags::Kind::Install,
        ["sweep", _] => flags::Kind::Sweep,
        ["sweep"] if asks_for_help => flags::Kind::Sweep,
        ["sweep"] => {
            return Err(Usage::new("`sweep` needs a folder", "write `pillion sweep -c filebeat.yml /volume`"));
        }
        ["webhook"] => flags::Kind::Webhook,
        ["shards"] => flags::Kind::Shards,
        words => match around::kind(words, asks_for_help) {
            Some(kind) => kind?,
            None => return Err(not_a_command(words)),
        },
    })
}

fn shards(matches: &ArgMatches, run: Run) -> Shards {
    Shards {
        run,
        json: flags::on(matches, "json"),
        behind: flags::switch(matches, "behind").unwrap_or(true),
        api_server: flags::text(matches, "api-server").cloned(),
    }
}

fn sweep(matches: &ArgMatches, path: PathBuf, run: Run) -> Result<Sweep, Usage> {
    let span = |name: &str| matches.get_one::<u64>(name).copied();
    let after = match (span("delete-after"), span("move-after")) {
        (Some(_), Some(_)) => {
            return Err(Usage::new("--delete-after and --move-after: a file can't go both ways", "choose one"));
        }
        (Some(ns), None) => Some(After::Delete(Duration::from_nanos(ns))),
        (None, Some(ns)) => Some(After::Move(Duration::from_nanos(ns))),
        (None, None) => None,
    };
    Ok(Sweep { path, run, grace_ns: span("grace"), dry_run: flags::on(matches, "dry-run"), after })
}

/// What follows `--` is for some commands alone, and `exec` needs it.
fn check_command(kind: flags::Kind, command: &[OsString]) -> Result<(), Usage> {
    match kind {
        flags::Kind::Exec if command.is_empty() => Err(Usage::new(
            "`exec` needs a command",
            "write it after two dashes: `pillion exec -c filebeat.yml -- ./work.sh`",
        )),
        flags::Kind::Exec | flags::Kind::Demo => Ok(()),
        _ if !command.is_empty() => {
            Err(Usage::new("a command after `--` belongs to `exec` or `demo`", "write `pillion exec [flags] -- CMD…`"))
        }
        _ => Ok(()),
    }
}

/// Refuses a long flag that no command has, unless the command itself is what has to be explained.
fn check_flags(split: &split::Split) -> Result<(), Usage> {
    const FOREIGN: &[&str] = &["enroll", "generate", "export", "test"];
    let foreign = split.words.first().is_some_and(|word| FOREIGN.contains(&word.as_str()));
    if let Some(flag) = split.unknown.as_ref().filter(|_| !foreign) {
        let near = nearest(flag.trim_start_matches('-'), split::long_flags());
        let remedy = near.map_or("see --help for what there is".to_owned(), |near| format!("did you mean `--{near}`?"));
        return Err(Usage::new(&format!("`{flag}` isn't a flag"), &remedy));
    }
    Ok(())
}

fn run(matches: &ArgMatches, process: &Process) -> Result<Run, Usage> {
    refuse(matches)?;
    let mut settings = Vec::new();
    for (flag, key) in flags::SETTINGS {
        if let Some(value) = flags::text(matches, flag) {
            settings.push((
                flags::place(matches, flag),
                Setting::Text { flag: format!("--{flag}"), key, value: value.clone() },
            ));
        }
    }
    for (place, value) in flags::all(matches, "E") {
        settings.push((place, Setting::Overwrite(value)));
    }
    settings.sort_by_key(|(place, _)| *place);
    let files = matches.get_many::<PathBuf>("c").map(|files| files.cloned().collect()).unwrap_or_default();
    let argv0 = process.args.first().map(Path::new).unwrap_or(Path::new("pillion"));
    let container = in_container(flags::text(matches, "environment").map(String::as_str))?;
    let selectors = flags::all(matches, "d").into_iter().flat_map(|(_, list)| {
        list.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect::<Vec<_>>()
    });
    Ok(Run {
        load: Load {
            files,
            settings: settings.into_iter().map(|(_, setting)| setting).collect(),
            strict_perms: flags::switch(matches, "strict.perms").unwrap_or(true),
            env: process.env.clone(),
            home: default_home(argv0, &process.cwd),
            euid: process.euid,
        },
        strict: flags::on(matches, "strict"),
        once: flags::on(matches, "once"),
        log: Log {
            stderr: flags::on(matches, "e") || container,
            verbose: flags::on(matches, "v"),
            selectors: selectors.collect(),
        },
        warnings: flags::WITHOUT_EFFECT
            .iter()
            .filter(|(flag, _)| flags::given(matches, flag))
            .map(|(flag, why)| format!("{flag} has no effect: {why}", flag = flags::shown(flag)))
            .collect(),
    })
}

/// Flags of Filebeat without which something else would be delivered.
fn refuse(matches: &ArgMatches) -> Result<(), Usage> {
    for (flag, reason, remedy) in flags::REFUSED {
        let asked = match flags::switch(matches, flag) {
            Some(on) => on,
            None => flags::given(matches, flag) && flags::text(matches, flag).is_none_or(|text| !text.is_empty()),
        };
        if asked {
            return Err(Usage::new(&format!("{}: {reason}", flags::shown(flag)), remedy));
        }
    }
    Ok(())
}

fn receive(matches: &ArgMatches) -> Result<Receive, Usage> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let tls = match (path("tls-cert"), path("tls-key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(Usage::new("--tls-cert and --tls-key belong together", "give both")),
    };
    Ok(Receive {
        lumberjack: flags::text(matches, "lumberjack").cloned(),
        elasticsearch: flags::text(matches, "elasticsearch").cloned(),
        to: path("to"),
        count: flags::on(matches, "count"),
        with_action: flags::on(matches, "with-action"),
        delay_ns: matches.get_one::<u64>("delay").copied().unwrap_or(0),
        reject_every: matches.get_one::<u64>("reject-every").copied().unwrap_or(0),
        tls,
        tls_client_ca: path("tls-client-ca"),
    })
}

fn webhook(matches: &ArgMatches) -> Webhook {
    let text = |name: &str| flags::text(matches, name).cloned();
    Webhook {
        listen: text("listen"),
        status: text("status"),
        settings: flags::all(matches, "set").into_iter().map(|(_, setting)| setting).collect(),
        namespace: text("namespace"),
        service: text("service"),
        configuration: text("configuration"),
        secret: text("cert-secret"),
        lifetime_ns: matches.get_one::<u64>("cert-lifetime").copied(),
        cert_dir: matches.get_one::<PathBuf>("cert-dir").cloned(),
        manage_ca_bundle: flags::switch(matches, "manage-ca-bundle").unwrap_or(true),
        census: flags::switch(matches, "census").unwrap_or(true),
        linger_ns: matches.get_one::<u64>("linger").copied(),
        api_server: text("api-server"),
        verbose: flags::on(matches, "v"),
    }
}

/// What `--environment` says, in letters of any size, as with Filebeat. Of its names `container` alone changes anything
/// here: the log goes to standard error in all of them unless the file says otherwise.
fn in_container(name: Option<&str>) -> Result<bool, Usage> {
    const NAMES: [&str; 5] = ["default", "container", "systemd", "macos_service", "windows_service"];
    let Some(name) = name else { return Ok(false) };
    match NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        Some(known) => Ok(*known == "container"),
        None => {
            Err(Usage::new(&format!("--environment: no environment is named {name}"), "give `container` or `default`"))
        }
    }
}

fn not_a_command(words: &[&str]) -> Usage {
    let first = words.first().copied().unwrap_or("");
    let said = words.join(" ");
    match (first, words.get(1)) {
        ("test" | "export", None) => {
            let remedy = match first {
                "test" => "`test config` or `test output`",
                _ => "`export config`, `template`, `ilm-policy` or `index-pattern`",
            };
            Usage::new(&format!("`{first}` needs to know what"), remedy)
        }
        ("generate", _) => Usage::new(
            "`generate` isn't here: it makes the first files of a new module of Filebeat",
            "use a Filebeat of its developers for that; `modules list` tells which modules are read here",
        ),
        ("enroll", _) => Usage::new(
            "`enroll` isn't here: there is no central management",
            "give the configuration as a file: `-c filebeat.yml`",
        ),
        ("test" | "export", Some(_)) => Usage::new(
            &format!("`{said}` isn't a command"),
            "there are `test config`, `test output`, `export config`, `template`, `ilm-policy` and `index-pattern`",
        ),
        ("install", _) => Usage::new(
            "`install` needs one folder",
            "name one on a volume that the other container shares: `pillion install /shared`",
        ),
        ("exec", _) => Usage::new("the command of `exec` comes after two dashes", "`pillion exec [flags] -- CMD…`"),
        ("demo", _) => Usage::new("the command of `demo` comes after two dashes", "`pillion demo -- CMD…`"),
        (word, _) if OWN.contains(&word) => {
            Usage::new(&format!("`{said}`: `{word}` takes no further words"), "flags begin with a dash; see --help")
        }
        (word, _) => match nearest(word, OWN.iter().copied()) {
            Some(near) => Usage::new(&format!("`{word}` isn't a command"), &format!("did you mean `{near}`?")),
            None => Usage::new(&format!("`{word}` isn't a command"), "see --help for what there is"),
        },
    }
}
