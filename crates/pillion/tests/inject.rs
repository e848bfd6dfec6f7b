//! `pillion inject` as a command; and what it writes, run: the shell around the work and the sidecar, with their own
//! arguments, on this machine's folders.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is a failure of the test")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pillion_kube::yaml;
use serde_json::Value;

const JOB: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: orders}   # a comment
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: main
          image: work:1
          command: [/bin/sh, -c]
          args: ['for i in 1 2 3; do echo line $i >> /logs/a.log; done; printf unfinished >> /logs/a.log; exit 5']
";

fn pillion(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A wrong call ends before it reads its input.
    if let Err(e) = child.stdin.take().unwrap().write_all(input.as_bytes()) {
        assert_eq!(e.kind(), std::io::ErrorKind::BrokenPipe);
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_writes_shows_or_checks() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("job.yml");
    let file = path.to_str().unwrap();
    std::fs::File::create_new(&path).unwrap().write_all(JOB.as_bytes()).unwrap();
    let printed = pillion(&["inject", "-f", "-", "--set", "output=logstash=lg:5044"], JOB);
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    assert!(text(&printed.stdout).contains("# a comment"));
    assert!(text(&printed.stderr).contains("Job orders: "));
    assert_eq!(pillion(&["inject", "-f", file, "--check"], "").status.code(), Some(1));
    let diff = pillion(&["inject", "-f", file, "--diff"], "");
    assert!(text(&diff.stdout).starts_with(&format!("--- {file}\n+++ {file}\n@@ ")), "{}", text(&diff.stdout));
    assert_eq!(pillion(&["inject", "-f", file, "-o", file], "").status.code(), Some(0));
    let check = pillion(&["inject", "-f", file, "--check"], "");
    assert_eq!((check.status.code(), text(&check.stdout)), (Some(0), String::new()));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_ends_with_2() {
    for (args, input, words) in [
        (vec!["-f", "-"], "a: 1\n\tb: 2\n", "standard input:1:4: not valid YAML"),
        (vec!["-f", "-"], "a: 1\na: 2\n", "standard input:2:1: the key `a` stands twice"),
        (vec!["-f", "-", "--set", "way=signal"], JOB, "standard input:7:7: /spec/template/spec/restartPolicy"),
        (vec!["-f", "-", "--set", "way=process"], JOB, "standard input:6:5: /spec/template/spec/shareProcessNamespace"),
        (vec!["-f", "/nowhere.yml"], "", "/nowhere.yml: "),
        (vec!["-f", "-", "--set", "wya=flag"], JOB, "there is no such setting"),
        (vec!["-f", "-", "--config", "/nowhere.yml"], JOB, "check the name given to --config"),
        (vec!["-f", "-", "--kube-version", "new"], JOB, "isn't a version"),
        (vec![], "", "`inject` needs manifests"),
    ] {
        let output = pillion(&[vec!["inject"], args.clone()].concat(), input);
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()), "{args:?} {told}");
        assert!(told.contains(words) && told.contains("remedy: "), "{args:?}: {told}");
    }
}

/// The words of a container's command and arguments, with folders of this machine in the place of the pod's.
fn words(container: &Value, folders: &[(&str, &Path)]) -> Vec<String> {
    let list = |key: &str| container[key].as_array().cloned().unwrap_or_default();
    let word = |word: &Value| {
        let mut text = word.as_str().unwrap().to_owned();
        for (from, to) in folders {
            text = text.replace(from, to.to_str().unwrap());
        }
        text
    };
    list("command").iter().chain(&list("args")).map(word).collect()
}

#[test]
fn what_it_writes_ships_every_line_and_ends_with_the_work() {
    let tmp = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = tmp.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (logs, run, data, etc, out) = (place("logs"), place("run"), place("data"), place("etc"), place("out"));
    let injected =
        pillion(&["inject", "-f", "-", "--set", "way=flag", "--set", "paths=/logs", "--config-map", "c"], JOB);
    let job = yaml::read(&text(&injected.stdout)).unwrap().unwrap();
    let containers = &job["spec"]["template"]["spec"]["containers"];
    let folders: [(&str, &Path); 4] =
        [("/logs", &logs), ("/run/pillion", &run), ("/var/lib/pillion", &data), ("/etc/pillion", &etc)];
    let config = format!(
        "filebeat.inputs:\n- type: filestream\n  id: a\n  paths: [{}/*.log]\noutput.file: {{path: {}, filename: events}}\n",
        logs.display(),
        out.display()
    );
    std::fs::File::create_new(etc.join("filebeat.yml")).unwrap().write_all(config.as_bytes()).unwrap();
    let sidecar = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(words(&containers[1], &folders))
        .env("PILLION_GRACE_PERIOD_SECONDS", "30")
        .env("BEAT_STRICT_PERMS", "false")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let work = words(&containers[0], &folders);
    assert_eq!(Command::new(&work[0]).args(&work[1..]).status().unwrap().code(), Some(5));
    let ended = sidecar.wait_with_output().unwrap();
    let log = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{log}");
    assert!(log.contains("complete"), "{log}");
    let mut lines = 0;
    for entry in std::fs::read_dir(&out).unwrap() {
        lines += std::fs::read_to_string(entry.unwrap().path()).unwrap().lines().count();
    }
    assert_eq!(lines, 4, "{log}");
}

#[test]
fn every_sidecar_s_arguments_are_ones_that_pillion_takes() {
    let tmp = tempfile::tempdir().unwrap();
    let config = tmp.path().join("filebeat.yml");
    let inputs = "filebeat.inputs: [{type: filestream, id: a, paths: [/data/*.log, /var/log/*.log]}]\n";
    std::fs::File::create_new(&config).unwrap().write_all(inputs.as_bytes()).unwrap();
    for settings in [
        vec!["kube_version=1.34"],
        vec!["way=flag", "paths=/logs/*.log,/other", "on_incomplete=fail"],
        vec!["way=flag", "exactly_once=false"],
        vec!["config=c", "output=logstash=a:1,b:2"],
    ] {
        let mut args = vec!["inject", "-f", "-"];
        settings.iter().for_each(|setting| args.extend(["--set", setting]));
        let injected = pillion(&args, JOB);
        let job = yaml::read(&text(&injected.stdout)).unwrap().unwrap();
        let spec = &job["spec"]["template"]["spec"];
        let sidecar =
            if spec["initContainers"].is_array() { &spec["initContainers"][0] } else { &spec["containers"][1] };
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
        command.args(["test", "config", "--strict.perms=false", "-c"]).arg(&config);
        // The image's own configuration takes its target from variables; here they are said by a flag.
        let mut words = words(sidecar, &[]);
        if !settings[0].starts_with("config") {
            words.extend(["-E".into(), "output.logstash.hosts=[lg:5044]".into()]);
        }
        let own = words.iter().position(|word| word == "-c").map_or(words.clone(), |i| {
            words.iter().enumerate().filter(|(n, _)| *n != i && *n != i + 1).map(|(_, w)| w.clone()).collect()
        });
        let output = command.args(&own).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{own:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).is_empty(), "{own:?}: {}", text(&output.stderr));
    }
}
