//! Arguments into words, flags, and the command after `--`; one dash into two where a long flag is meant.
//!
//! Go's `flag` package, which Filebeat 5.6 uses, takes `-once` and `--once` alike; later versions take `-e`, `-ec FILE`
//! and `--once`. Here all of these are one.

use std::ffi::OsString;

/// Long flags, and whether a value follows them.
const LONG: &[(&str, bool)] = &[
    ("path.home", true),
    ("path.config", true),
    ("path.data", true),
    ("path.logs", true),
    ("strict.perms", false),
    ("strict", false),
    ("once", false),
    ("configtest", false),
    ("version", false),
    ("help", false),
    ("setup", false),
    ("modules", true),
    ("plugin", true),
    ("cpuprofile", true),
    ("memprofile", true),
    ("httpprof", true),
    ("system.hostfs", true),
    ("environment", true),
    ("hostname", true),
    ("until", true),
    ("until-released", true),
    ("until-exit", true),
    ("receipt", true),
    ("on-full", true),
    ("on-incomplete", true),
    ("drain-timeout", true),
    ("shard", true),
    ("reveal-secrets", false),
    ("lumberjack", true),
    ("elasticsearch", true),
    ("to", true),
    ("count", false),
    ("with-action", false),
    ("delay", true),
    ("reject-every", true),
    ("tls-cert", true),
    ("tls-key", true),
    ("tls-client-ca", true),
    ("keep", false),
    ("listen", true),
    ("status", true),
    ("cert-dir", true),
    ("cert-lifetime", true),
    ("cert-secret", true),
    ("manage-ca-bundle", false),
    ("configuration", true),
    ("service", true),
    ("namespace", true),
    ("census", false),
    ("linger", true),
    ("api-server", true),
    ("set", true),
    ("filename", true),
    ("output", true),
    ("diff", false),
    ("check", false),
    ("config", true),
    ("config-map", true),
    ("kube-version", true),
    ("grace", true),
    ("delete-after", true),
    ("move-after", true),
    ("dry-run", false),
    ("json", false),
    ("behind", false),
    ("index-management", false),
    ("pipelines", false),
    ("dashboards", false),
    ("machine-learning", false),
    ("template", false),
    ("ilm-policy", false),
    ("enable-all-filesets", false),
    ("force-enable-module-filesets", false),
    ("es.version", true),
    ("noilm", false),
    ("dir", true),
    ("force", false),
    ("stdin", false),
];

/// Short flags that a value follows.
const SHORT_WITH_VALUE: &[char] = &['c', 'd', 'E', 'M', 'f', 'o'];

/// All long flags, for "did you mean".
pub(super) fn long_flags() -> impl Iterator<Item = &'static str> {
    LONG.iter().map(|(name, _)| *name)
}

/// The parts of a command line.
#[derive(Debug, Default)]
pub(super) struct Split {
    /// What is neither flag nor value: the command.
    pub(super) words: Vec<String>,
    /// A name (clap skips it), then the flags with their values, long ones with two dashes.
    pub(super) flags: Vec<OsString>,
    /// What comes after `--`.
    pub(super) command: Vec<OsString>,
    /// The first long flag that no command has.
    pub(super) unknown: Option<String>,
    /// `-h`, `--help`.
    pub(super) asks_for_help: bool,
}

pub(super) fn split(args: impl Iterator<Item = OsString>) -> Split {
    let mut out = Split { flags: vec!["pillion".into()], ..Split::default() };
    let mut args = args;
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str() else {
            out.words.push(arg.to_string_lossy().into_owned());
            continue;
        };
        if text == "--" {
            out.command = args.collect();
            break;
        }
        if text == "-" || !text.starts_with('-') {
            out.words.push(text.to_owned());
            continue;
        }
        let (flag, value_follows) = normal(text);
        if matches!(flag.as_str(), "-h" | "--help" | "-?") {
            out.asks_for_help = true;
            continue;
        }
        let bare = flag.trim_start_matches("--").split('=').next().unwrap_or("");
        if flag.starts_with("--") && !LONG.iter().any(|(long, _)| *long == bare) {
            out.unknown.get_or_insert_with(|| format!("--{bare}"));
        }
        out.flags.push(flag.into());
        if value_follows && let Some(value) = args.next() {
            out.flags.push(value);
        }
    }
    out
}

/// The flag as clap wants it, and whether the next argument is its value.
fn normal(text: &str) -> (String, bool) {
    let body = text.trim_start_matches('-');
    let dashes = text.len() - body.len();
    let (name, has_value) = match body.split_once('=') {
        Some((name, _)) => (name, true),
        None => (body, false),
    };
    let long = LONG.iter().find(|(long, _)| *long == name);
    match long {
        Some((_, takes_value)) => (format!("--{body}"), *takes_value && !has_value),
        // A short flag with two dashes: Go's flag package takes `--e` as `-e`.
        None if dashes > 1 && name.chars().count() == 1 => {
            (format!("-{body}"), !has_value && name.contains(SHORT_WITH_VALUE))
        }
        None if dashes > 1 => (text.to_owned(), false),
        None => {
            // A cluster: the first flag that takes a value takes the rest, or the next argument.
            let at = body.find(SHORT_WITH_VALUE);
            let last = at.is_some_and(|at| at + 1 == body.len());
            (text.to_owned(), last)
        }
    }
}
