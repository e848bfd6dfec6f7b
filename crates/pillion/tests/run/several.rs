//! Several outputs in one process.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Endpoint, Job, Running, dead_port, wait_for};
use crate::monitoring::{AT_ANY_PORT, get, json, port};

/// A job with a further output `archive`, as it is written.
fn job(first: &Endpoint, archive: &str, more: &str) -> Job {
    let job = Job::new(first.address);
    let before = job.read("filebeat.yml");
    job.write("filebeat.yml", &format!("{before}{more}pillion.outputs:\n  archive: {archive}\n"));
    job
}

fn logstash(at: std::net::SocketAddr) -> String {
    format!("{{logstash: {{hosts: ['{at}'], timeout: 2s, backoff: {{init: 20ms, max: 100ms}}}}}}")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_line_goes_to_both_and_each_goes_on_where_it_was() {
    let (first, second) = (Endpoint::start(), Endpoint::bulk());
    let archive = format!("{{elasticsearch: {{hosts: ['http://{}']}}}}", second.address);
    let job = job(&first, &archive, "setup.template.enabled: false\nsetup.ilm.enabled: false\n");
    job.write("data/a.log", "one\ntwo\n");
    let mut run = job.start(&["--once"]);
    run.ends_with(0);
    assert_eq!(
        (first.messages(), second.messages()),
        (vec!["one".into(), "two".into()], vec!["one".into(), "two".into()])
    );
    let agent = |end: &Endpoint| end.events()[0]["agent"]["id"].clone();
    assert_eq!(agent(&first), agent(&second));
    assert!(run.err().contains("logstash: receipt: complete; 2 events"), "{}", run.err());
    assert!(run.err().contains("archive: receipt: complete; 2 events"), "{}", run.err());
    for receipt in ["receipt.json", "receipt.archive.json"] {
        assert_eq!(read(&job.path(receipt))["totals"]["acknowledged"], 2, "{receipt}");
    }
    job.write("data/a.log", "one\ntwo\nthree\n");
    job.start(&["--once"]).ends_with(0);
    assert_eq!((first.messages().len(), second.messages().len()), (3, 3));
}

#[test]
fn a_target_that_is_away_holds_up_no_other_and_gets_everything_later() {
    let first = Endpoint::start();
    let away = dead_port();
    let job = job(&first, &logstash(away), "pillion.drain.timeout: 1s\n");
    job.write("termination-log", "");
    job.write("data/a.log", "one\ntwo\n");
    let mut run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    first.wait(2);
    wait_for("its acknowledgement", || (json(at, "/backlog")["lag_bytes"] == 0).then_some(()));
    assert_eq!(json(at, "/outputs/archive/backlog")["lag_bytes"], 8);
    assert_eq!(json(at, "/outputs/archive/stats")["libbeat"]["output"]["events"]["acked"], 0);
    let unready = wait_for("the reason", || Some(get(at, "/readyz")).filter(|(code, _)| *code == 503)).1;
    assert!(unready.starts_with("archive: the output logstash hasn't been reached yet"), "{unready}");
    assert_eq!(get(at, "/outputs/none/stats").0, 404);
    run.signal(Signal::INT);
    run.ends_with(3);
    let message = job.read("termination-log");
    assert!(message.starts_with("pillion (archive): incomplete; "), "{message}");
    assert!(message.contains("\npillion (logstash): complete; 2 events"), "{message}");
    assert_eq!(read(&job.path("receipt.json"))["verdict"], "complete");
    assert_eq!(read(&job.path("receipt.archive.json"))["verdict"], "incomplete");
    let second = Endpoint::at(away);
    job.start(&["--once"]).ends_with(0);
    assert_eq!((first.messages().len(), second.messages()), (2, vec!["one".to_owned(), "two".to_owned()]));
}

#[test]
fn one_that_cannot_go_on_ends_all_after_what_is_there_is_delivered() {
    let first = Endpoint::start();
    let job = job(&first, "{console: {}}", "");
    job.write("data/a.log", "one\n");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Running::start_to(&mut job.command::<&str>(&[]), &job.path(""), writer).ends_with(1);
    assert_eq!(first.messages(), ["one"]);
    assert_eq!(read(&job.path("receipt.json"))["cause"], "other_output");
}

#[test]
fn the_flag_ends_all() {
    let (first, second) = (Endpoint::start(), Endpoint::start());
    let job = job(&first, &logstash(second.address), "");
    let mut run = job.start(&["--until", "data/done"]);
    job.write("data/a.log", "one\nthe last");
    first.wait(1);
    second.wait(1);
    job.write("data/done", "0");
    run.ends_with(0);
    assert_eq!(
        (first.messages(), second.messages()),
        (first.messages(), vec!["one".to_owned(), "the last".to_owned()])
    );
}

#[test]
fn what_one_output_writes_none_reads() {
    let first = Endpoint::start();
    let job = Job::new(first.address);
    let data = job.path("data").display().to_string();
    let before = job.read("filebeat.yml");
    job.write(
        "filebeat.yml",
        &format!("{before}pillion.outputs:\n  archive: {{file: {{path: '{data}', filename: out.log}}}}\n"),
    );
    job.write("data/a.log", "one\n");
    job.start(&["--once"]).ends_with(0);
    job.start(&["--once"]).ends_with(0);
    assert_eq!(first.messages(), ["one"]);
    let archived = std::fs::read_dir(job.path("data")).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let archived: String =
        archived.filter(|n| n.starts_with("out.log")).map(|n| job.read(&format!("data/{n}"))).collect();
    assert_eq!(archived.lines().count(), 1, "{archived}");
}

#[test]
fn each_has_a_line_of_metrics() {
    let (first, second) = (Endpoint::start(), Endpoint::start());
    let job = job(&first, &logstash(second.address), "logging.metrics.period: 1s\n");
    job.write("data/a.log", "one\n");
    let run = job.start::<&str>(&[]);
    for begin in ["\"Non-zero metrics in the last 1s\"", "\"archive: Non-zero metrics in the last 1s\""] {
        wait_for(begin, || run.err().lines().find(|l| l.contains(begin) && l.contains("\"acked\":1")).map(|_| ()));
    }
}

#[test]
fn what_can_be_read_only_once_is_refused() {
    let first = Endpoint::start();
    for (archive, more, want) in [
        ("{file: {path: /a}}", "queue.disk: {max_size: 20MB, path: /q}\n", "one folder for several queues"),
        ("{file: {path: /a}}", "- type: tcp\n  host: localhost:0\n", "can be read only once"),
        (
            "{file: {path: /a}}",
            "- type: filestream\n  id: d\n  paths: [/x]\n  delete.enabled: true\n",
            "a file would go",
        ),
        ("{file: {path: /a}}", "pillion.registry.beside_logs: true\n", "there is one output"),
        (
            "{file: {path: /a}}",
            "filebeat.config.inputs: {enabled: true, path: /conf/*.yml, reload.enabled: true}\n",
            "filebeat.config.inputs.reload.enabled: can't be used with pillion.outputs",
        ),
        ("{file: {path: /a, pth: 1}}", "", "pillion.outputs.archive.file.pth"),
        ("{file: {}, console: {}}", "", "pillion.outputs.archive: several outputs are enabled"),
        ("{none: {}}", "", "pillion.outputs.archive.none: there is no output `none` here"),
        ("{file: {path: /a}}", "nonsense: 1\n", "nonsense"),
        ("{file: {path: /a}}", "pillion.outputs.logstash.file.path: /b\n", "the first output is called so"),
    ] {
        let job = job(&first, archive, "");
        let text = job.read("filebeat.yml");
        let text = match more.strip_prefix("- ") {
            Some(_) => text.replacen("filebeat.inputs:\n", &format!("filebeat.inputs:\n{more}"), 1),
            None => format!("{text}{more}"),
        };
        job.write("filebeat.yml", &text);
        let mut command = std::process::Command::new(crate::harness::program());
        let out = command.args(["test", "config", "-c", "filebeat.yml", "--path.home", "."]).current_dir(job.path(""));
        let out = out.output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{archive} {more}: {err}");
        assert!(err.contains(want) && err.contains("filebeat.yml:"), "{archive} {more}: {err}");
        assert_eq!(err.matches("error: ").count(), 1, "{err}");
    }
}
