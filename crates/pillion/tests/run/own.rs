//! What Pillion itself writes beside the job's files: it is never read, and nothing else is taken for it.

use crate::harness::{Endpoint, Job};

/// A job that reads everything below its folder, and writes its own log, receipt and flag there.
fn job(target: &Endpoint, more: &str) -> Job {
    let job = Job::new(target.address);
    let data = job.path("data").display().to_string();
    let text = job.read("filebeat.yml").replace("/*.log'", "/**'");
    job.write("filebeat.yml", &format!("{text}logging.files: {{path: '{data}'}}\n{more}"));
    job
}

#[test]
fn its_own_log_is_left_out_and_that_is_told_once() {
    for (compat, own) in [("7", "filebeat"), ("8", "filebeat-")] {
        let target = Endpoint::start();
        let job = job(&target, &format!("logging: {{to_files: true, level: debug}}\npillion.compat: {compat}\n"));
        job.write("data/a.log", "one\n");
        // What an earlier run wrote, and what only begins like it.
        for (name, line) in [("filebeat.3", "old"), ("filebeat-20260101-2.ndjson", "old"), ("filebeat-app.log", "two")]
        {
            job.write(&format!("data/{name}"), &format!("{line}\n"));
        }
        for _ in 0..3 {
            job.start(&["--once"]).ends_with(0);
        }
        let mut messages = target.messages();
        messages.sort();
        assert_eq!(messages, ["one", "two"], "{compat}");
        let logs = std::fs::read_dir(job.path("data")).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
        let logs: Vec<String> = logs.filter(|n| n.starts_with(own) && !n.contains("app")).collect();
        let said: String = logs.iter().map(|name| job.read(&format!("data/{name}"))).collect();
        assert!(logs.len() > 2 && said.contains("a file of Pillion's own is left out"), "{logs:?}: {said}");
    }
}

#[test]
fn a_log_that_goes_elsewhere_is_somebody_elses() {
    let target = Endpoint::start();
    let job = job(&target, "logging.to_files: true\n");
    job.write("data/filebeat-20260101.ndjson", "of a Filebeat\n");
    job.start(&["--once", "-e"]).ends_with(0);
    assert_eq!(target.messages(), ["of a Filebeat"]);
}

#[test]
fn a_name_that_only_begins_like_one_of_its_own_is_read() {
    let target = Endpoint::start();
    let job = job(&target, "");
    std::fs::create_dir(job.path("data/done-orders")).unwrap();
    for (n, name) in ["done.log", "done2", "done-orders/a.log", "receipt.json.log", "done.new.log"].iter().enumerate() {
        job.write(&format!("data/{name}"), &format!("{n}\n"));
    }
    job.write("data/done.new", "half a flag\n");
    job.write("data/done", "0\n");
    job.start(&["--until", "data/done", "--receipt", "data/receipt.json"]).ends_with(0);
    let mut messages = target.messages();
    messages.sort();
    assert_eq!(messages, ["0", "1", "2", "3", "4"]);
}
