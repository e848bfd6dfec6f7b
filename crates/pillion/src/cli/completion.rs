//! What shells need to complete commands and flags.
//!
//! Comes in: the shell, and the name that the program is called by. Goes out: a script. Always holds: commands and flags
//! are those of the command line's own tables. Tested in `tests/cli.rs`, by bash itself.

use std::fmt::Write;

use super::flags::{self, Kind};

/// Each command, its flags, and what it is for.
const COMMANDS: &[(&str, Kind, &str)] = &[
    ("run", Kind::Run, "Ship"),
    ("exec", Kind::Exec, "Run a command and ship what it prints"),
    ("test config", Kind::TestConfig, "Check the configuration"),
    ("test output", Kind::TestOutput, "Connect to the output"),
    ("export config", Kind::Export, "Print the configuration"),
    ("export template", Kind::ExportTemplate, "Print the index template"),
    ("export ilm-policy", Kind::ExportIlmPolicy, "Print the lifecycle policy"),
    ("export index-pattern", Kind::ExportIndexPattern, "Print an index pattern"),
    ("setup", Kind::Setup, "Put template and policy"),
    ("keystore create", Kind::KeystoreCreate, "Make a keystore"),
    ("keystore add", Kind::KeystoreAdd, "Put a secret into it"),
    ("keystore list", Kind::KeystoreList, "Names in it"),
    ("keystore remove", Kind::KeystoreRemove, "Take a secret out of it"),
    ("modules list", Kind::ModulesList, "Which modules are read"),
    ("modules enable", Kind::ModulesEnable, "Read a module"),
    ("modules disable", Kind::ModulesDisable, "Don't read it"),
    ("receive", Kind::Receive, "An endpoint for trying things out"),
    ("inject", Kind::Inject, "Put Pillion into manifests"),
    ("webhook", Kind::Webhook, "Give pods their sidecar"),
    ("sweep", Kind::Sweep, "Ship what dead pods left"),
    ("shards", Kind::Shards, "Which replica has which files"),
    ("install", Kind::Install, "Copy this program"),
    ("demo", Kind::Demo, "See it work"),
    ("completion bash", Kind::Completion, "Completion for bash"),
    ("completion zsh", Kind::Completion, "Completion for zsh"),
    ("completion fish", Kind::Completion, "Completion for fish"),
    ("version", Kind::Completion, "Print the version"),
    ("help", Kind::Completion, "Tell more"),
];

/// The script for a shell.
pub(super) fn script(shell: &str, name: &str) -> String {
    match shell {
        "fish" => fish(name),
        "zsh" => format!("#compdef {name}\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(name)),
        _ => bash(name),
    }
}

/// The long flags of a command that are shown, each with its help and whether a value follows.
fn shown(kind: Kind) -> Vec<(String, String, bool)> {
    let command = flags::command(kind);
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set());
    args.filter_map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some((arg.get_long()?.to_owned(), help, !arg.is_require_equals_set()))
    })
    .collect()
}

fn bash(name: &str) -> String {
    let function = format!("_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let (mut cases, mut with_value) = (String::new(), vec!["-c".to_owned(), "-E".into(), "-d".into(), "-f".into()]);
    let mut first: Vec<&str> = Vec::new();
    for (command, kind, _) in COMMANDS {
        let mut words: Vec<String> = Vec::new();
        for (flag, _, value) in shown(*kind) {
            words.push(format!("--{flag}"));
            if value {
                with_value.push(format!("--{flag}"));
            }
        }
        let _ = writeln!(cases, "    \"{command}\"*) words=\"{}\" ;;", words.join(" "));
        let word = command.split(' ').next().unwrap_or(command);
        if !first.contains(&word) {
            first.push(word);
        }
    }
    let mut groups = String::new();
    for group in ["test", "export", "keystore", "completion"] {
        let below = COMMANDS.iter().filter_map(|(c, ..)| c.strip_prefix(group)?.strip_prefix(' '));
        let _ = writeln!(groups, "    \"{group}\") words=\"{}\" ;;", below.collect::<Vec<_>>().join(" "));
    }
    let run: Vec<String> = shown(Kind::Run).into_iter().map(|(flag, ..)| format!("--{flag}")).collect();
    with_value.sort();
    with_value.dedup();
    format!(
        "{function}() {{\n  local cur=${{COMP_WORDS[COMP_CWORD]}} given=\"\" words=\"\" i\n  for ((i = 1; i < COMP_CWORD; i++)); do\n    \
         case ${{COMP_WORDS[i]}} in\n      {}) ((i++)) ;;\n      -*) ;;\n      *) given=\"$given${{given:+ }}${{COMP_WORDS[i]}}\" ;;\n    \
         esac\n  done\n  case $given in\n    \"\") words=\"{} {}\" ;;\n{groups}{cases}  esac\n  \
         COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n  if [[ ${{#COMPREPLY[@]}} -eq 0 ]]; then COMPREPLY=($(compgen -f -- \"$cur\")); \
         fi\n}}\ncomplete -o filenames -F {function} {name}\n",
        with_value.join("|"),
        first.join(" "),
        run.join(" "),
    )
}

fn fish(name: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut out = String::new();
    for (command, kind, about) in COMMANDS {
        let about = quoted(about);
        let condition = match command.split_once(' ') {
            None => {
                let _ = writeln!(out, "complete -c {name} -n __fish_use_subcommand -a {command} -d {about}");
                format!("__fish_seen_subcommand_from {command}")
            }
            Some((group, word)) => {
                let _ = writeln!(out, "complete -c {name} -n __fish_use_subcommand -a {group}");
                let _ = writeln!(
                    out,
                    "complete -c {name} -n '__fish_seen_subcommand_from {group}; and not __fish_seen_subcommand_from {word}' -a {word} -d {about}"
                );
                format!("__fish_seen_subcommand_from {group}; and __fish_seen_subcommand_from {word}")
            }
        };
        for (flag, help, value) in shown(*kind) {
            let follows = if value { " -r" } else { "" };
            let _ = writeln!(out, "complete -c {name} -n '{condition}' -l {flag}{follows} -d {}", quoted(&help));
        }
    }
    out
}
