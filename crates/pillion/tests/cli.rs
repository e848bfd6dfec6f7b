//! Command lines of Filebeat 5.6 to 9, and our own.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failing call is a failing test")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use pillion::cli::{Command, Exported, Parts, Process, Run, Task, Usage, parse};
use pillion_config::Setting;

fn called(line: &str) -> Result<Command, Usage> {
    let process = Process {
        args: line.split_whitespace().map(Into::into).collect(),
        env: BTreeMap::new(),
        cwd: "/job".into(),
        euid: 1000,
    };
    parse(&process)
}

fn run(line: &str) -> Run {
    match called(line) {
        Ok(Command::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    let usage = called(line).unwrap_err();
    assert_eq!(usage.code, 2);
    usage.text
}

fn said(line: &str) -> String {
    match called(line) {
        Ok(Command::Say(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn text(flag: &str, key: &'static str, value: &str) -> Setting {
    Setting::Text { flag: flag.into(), key, value: value.into() }
}

#[test]
fn one_dash_or_two_and_with_or_without_run() {
    for line in [
        "filebeat -e -c a.yml -path.home /h -once -strict.perms=false -E x=1 -v",
        "filebeat --e --c a.yml --path.home=/h --once --strict.perms=false --E x=1 --v=true",
        "filebeat run -e -c a.yml --path.home /h --once=true --strict.perms=0 -E x=1 -v",
        "filebeat -e -c a.yml run --path.home /h -once=t -strict.perms=F -Ex=1 -v",
        "filebeat -evc a.yml -path.home=/h -once -strict.perms=false -E=x=1",
        "filebeat -once -strict.perms=true -strict.perms=false -path.home /x -path.home /h -vec a.yml -E x=1",
    ] {
        let run = run(line);
        assert_eq!(run.load.files, [PathBuf::from("a.yml")], "{line}");
        assert!(run.once && !run.strict && !run.load.strict_perms && run.log.stderr && run.log.verbose, "{line}");
        let mut settings = run.load.settings;
        settings.sort_by_key(|setting| format!("{setting:?}"));
        assert_eq!(settings, [Setting::Overwrite("x=1".into()), text("--path.home", "path.home", "/h")], "{line}");
    }
}

#[test]
fn defaults() {
    let run = run("filebeat");
    assert!(
        run.load.files.is_empty() && run.load.settings.is_empty() && run.load.strict_perms && run.warnings.is_empty()
    );
    assert!(!run.once && !run.strict && run.log == pillion::cli::Log::default());
    assert_eq!((run.load.home, run.load.euid), (PathBuf::from("/job"), 1000));
}

#[test]
fn settings_keep_their_order() {
    let run = run("pillion -E a=1 --until /f -E b=2 --receipt r.json --drain-timeout 5m -E c --until-exit 7");
    assert_eq!(
        run.load.settings,
        [
            Setting::Overwrite("a=1".into()),
            text("--until", "pillion.completion.flag", "/f"),
            Setting::Overwrite("b=2".into()),
            text("--receipt", "pillion.receipt", "r.json"),
            text("--drain-timeout", "pillion.drain.timeout", "5m"),
            Setting::Overwrite("c".into()),
            text("--until-exit", "pillion.completion.process", "7"),
        ]
    );
}

#[test]
fn selectors_files_and_environment() {
    let run =
        run("filebeat -d * -d a,b -c one.yml -c two.yml --environment container -httpprof :6060 --system.hostfs /host");
    assert_eq!(run.log.selectors, ["*", "a", "b"]);
    assert_eq!(run.load.files, [PathBuf::from("one.yml"), PathBuf::from("two.yml")]);
    assert!(run.log.stderr);
    let without_effect = [
        "--httpprof has no effect: there is no profiler built in",
        "--system.hostfs has no effect: nothing is asked of the host's own file system",
    ];
    assert_eq!(run.warnings, without_effect);
}

#[test]
fn commands() {
    assert!(matches!(called("filebeat -configtest -c x"), Ok(Command::TestConfig(_))));
    assert!(matches!(called("filebeat -configtest=false"), Ok(Command::Run(_))));
    assert!(matches!(called("filebeat test config -c x"), Ok(Command::TestConfig(_))));
    assert!(matches!(called("filebeat -c x test -e config"), Ok(Command::TestConfig(_))));
    assert!(matches!(called("filebeat test output"), Ok(Command::TestOutput(_))));
    assert!(matches!(called("pillion export config"), Ok(Command::ExportConfig { reveal: false, .. })));
    assert!(matches!(called("pillion export config --reveal-secrets"), Ok(Command::ExportConfig { reveal: true, .. })));
    match called("pillion exec --once=false -c f.yml --on-full drop -- sh -c -once --x") {
        Ok(Command::Exec { run, command }) => {
            assert_eq!(command, ["sh", "-c", "-once", "--x"]);
            assert_eq!(run.load.settings, [text("--on-full", "pillion.exec.on_full", "drop")]);
        }
        other => panic!("{other:?}"),
    }
    match called("pillion receive -lumberjack 127.0.0.1:0 --delay 200ms --reject-every 10 --to out") {
        Ok(Command::Receive(receive)) => {
            assert_eq!((receive.delay_ns, receive.reject_every), (200_000_000, 10));
            assert_eq!(receive.lumberjack.as_deref(), Some("127.0.0.1:0"));
            assert_eq!((receive.elasticsearch, receive.to), (None, Some("out".into())));
        }
        other => panic!("{other:?}"),
    }
    match called("pillion demo --keep -- seq 9") {
        Ok(Command::Demo(demo)) => assert!(demo.keep && demo.command == ["seq", "9"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn version_and_help() {
    assert!(said("filebeat -version").starts_with("filebeat version 8.19.14 ("));
    assert!(said("/usr/bin/filebeat version").starts_with("filebeat version 8.19.14 ("));
    assert!(said("pillion --version").starts_with("pillion 0."));
    for line in ["pillion --help", "pillion -h", "pillion help", "filebeat -help"] {
        let help = said(line);
        for part in ["--until <FILE>", "Exit codes:", "  3  ", "-E <KEY=VALUE>", "Examples:", "--path.home <DIR>"] {
            assert!(help.contains(part), "{line}: {part}\n{help}");
        }
        assert!(!help.contains("configtest"), "{help}");
    }
    assert!(said("pillion exec --help").contains("--on-full"));
    assert!(said("pillion help test output").contains("test output [FLAGS]"));
    for line in ["filebeat test --help", "filebeat test -h"] {
        assert!(said(line).contains("test config [FLAGS]"), "{line}");
    }
    assert!(said("filebeat export -h").contains("export config [FLAGS]"));
    assert!(said("pillion receive -help").contains("--reject-every <N>"));
}

#[test]
fn environments_are_filebeats() {
    for (line, stderr) in [
        ("filebeat -environment container", true),
        ("filebeat --environment=Container", true),
        ("filebeat --environment default", false),
        ("filebeat --environment systemd", false),
    ] {
        assert_eq!(run(line).log.stderr, stderr, "{line}");
    }
    assert_eq!(
        refused("filebeat --environment contaner"),
        "error: --environment: no environment is named contaner\nremedy: give `container` or `default`"
    );
}

#[test]
fn around_shipping() {
    let task = |line: &str| match called(line) {
        Ok(Command::Around(around)) => around.task,
        other => panic!("{line}: {other:?}"),
    };
    let index = Parts { index_management: true, ..Parts::default() };
    for line in
        ["filebeat setup --index-management -e", "filebeat setup --template", "filebeat -c a.yml setup --ilm-policy"]
    {
        assert_eq!(task(line), Task::Setup(index), "{line}");
    }
    assert_eq!(task("filebeat setup -e"), Task::Setup(Parts::default()));
    let template = Task::Export {
        what: Exported::Template,
        version: Some("7.10.2".into()),
        without_ilm: true,
        dir: Some("/d".into()),
    };
    assert_eq!(task("filebeat export template --es.version 7.10.2 --noilm --dir=/d"), template);
    assert_eq!(task("filebeat keystore create --force"), Task::KeystoreCreate { force: true });
    let add = Task::KeystoreAdd { key: "ES_PWD".into(), force: false, stdin: true };
    assert_eq!(task("filebeat keystore add ES_PWD --stdin --path.data /d"), add);
    assert_eq!(task("filebeat keystore remove a b"), Task::KeystoreRemove(vec!["a".into(), "b".into()]));
    for topic in ["setup", "export template", "keystore", "keystore add", "completion"] {
        assert!(said(&format!("pillion help {topic}")).contains("Usage: pillion "), "{topic}");
        assert!(said(&format!("pillion {topic} --help")).contains(topic), "{topic}");
    }
}

/// Bash itself takes the script, and completes by it.
#[test]
fn bash_completes() {
    let script = said("pillion completion bash");
    for (line, at, want) in [
        ("pillion te", 1, "test"),
        ("pillion test co", 2, "config"),
        ("pillion -c file.yml keystore re", 4, "remove"),
        ("pillion --unti", 1, "--until --until-exit --until-released"),
        ("pillion setup --ind", 2, "--index-management"),
    ] {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let test = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={at}; _pillion; echo \"${{COMPREPLY[@]}}\"",
            words.join(" ")
        );
        let out = std::process::Command::new("bash").arg("-c").arg(test).output().unwrap();
        let mut got: Vec<String> = String::from_utf8(out.stdout).unwrap().split_whitespace().map(Into::into).collect();
        got.sort();
        assert_eq!(got.join(" "), want, "{line}: {}", String::from_utf8_lossy(&out.stderr));
    }
    assert!(said("pillion completion zsh").starts_with("#compdef pillion\n"));
    assert!(
        said("filebeat completion fish")
            .contains("complete -c filebeat -n '__fish_seen_subcommand_from setup' -l index-management")
    );
}

#[test]
fn what_is_refused() {
    for (line, message) in [
        ("filebeat rnu", "error: `rnu` isn't a command\nremedy: did you mean `run`?"),
        (
            "filebeat run now",
            "error: `run now`: `run` takes no further words\nremedy: flags begin with a dash; see --help",
        ),
        ("filebeat test", "error: `test` needs to know what\nremedy: `test config` or `test output`"),
        (
            "filebeat keystore destroy",
            "error: `keystore destroy` isn't a command\nremedy: there are `keystore create`, `keystore add KEY`, `keystore list` and \
             `keystore remove KEY…`",
        ),
        ("filebeat completion", "error: `completion` needs a shell\nremedy: `completion bash`, `zsh` or `fish`"),
        ("filebeat export dashboard", "error: there are no dashboards\nremedy: export them from Kibana itself"),
        (
            "pillion exec",
            "error: `exec` needs a command\nremedy: write it after two dashes: `pillion exec -c filebeat.yml -- ./work.sh`",
        ),
        (
            "pillion exec ls -l",
            "error: the command of `exec` comes after two dashes\nremedy: `pillion exec [flags] -- CMD…`",
        ),
        (
            "pillion run -- ls",
            "error: a command after `--` belongs to `exec` or `demo`\nremedy: write `pillion exec [flags] -- CMD…`",
        ),
        (
            "filebeat -N",
            "error: -N: a run without publishing isn't there\nremedy: use `test config`, or `-E output.console.pretty=false` to look at \
             events",
        ),
        (
            "filebeat -modules nginx",
            "error: --modules: modules aren't taken from the command line\nremedy: write `filebeat.modules: [{module: nginx, \
             access.enabled: true}]`, or use `modules enable`",
        ),
        ("pillion receive --tls-cert a", "error: --tls-cert and --tls-key belong together\nremedy: give both"),
    ] {
        assert_eq!(refused(line), message, "{line}");
    }
    for (line, part) in [
        ("pillion --untli /x", "error: `--untli` isn't a flag\nremedy: did you mean `--until`?"),
        ("pillion --once=maybe", "give true or false"),
        ("pillion -c", "a value is required"),
        ("pillion receive --delay soon", "give a time span"),
        ("pillion receive --until /x", "unexpected argument '--until'"),
    ] {
        let text = refused(line);
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn install_takes_one_folder_and_no_flag() {
    match called("pillion install /shared/bin") {
        Ok(Command::Install(dir)) => assert_eq!(dir, PathBuf::from("/shared/bin")),
        other => panic!("{other:?}"),
    }
    for line in ["pillion install", "pillion install /a /b", "pillion install /a -e", "pillion install /a -- b"] {
        refused(line);
    }
    assert!(refused("pillion install").contains("one folder"));
    assert!(said("pillion install --help").contains("install DIR"));
    assert!(said("pillion help install").contains("install DIR"));
}
