//! Elasticsearch answers single events of a `_bulk` request with 403 or 404: no right to write, no index and none may be
//! made. As with Filebeat they are dropped for good, and unlike there everything tells of it: log, numbers, receipt, exit
//! code; a dead-letter file takes them instead.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;

use crate::harness::{Job, wait_for};
use crate::monitoring::{AT_ANY_PORT, json, port, series};

const FORBIDDEN: &str = r#"{"create":{"status":403,"error":{"type":"security_exception","reason":"action [indices:data/write/bulk[s]] is unauthorized for user [writer]"}}}"#;
const NO_INDEX: &str = r#"{"create":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [filebeat] and [action.auto_create_index] is [false]"}}}"#;

/// An Elasticsearch that answers events that say "403" or "404" so, and takes all others.
fn elasticsearch() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || while answer(&stream).is_some() {});
        }
    });
    at
}

fn answer(mut stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let items: Vec<&str> = body.lines().skip(1).step_by(2).map(item).collect();
    let body = format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","));
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()
}

fn item(event: &str) -> &'static str {
    match event {
        _ if event.contains("403") => FORBIDDEN,
        _ if event.contains("404") => NO_INDEX,
        _ => r#"{"create":{"status":201}}"#,
    }
}

fn job(more: &str) -> Job {
    let at = elasticsearch();
    let job = Job::new(at);
    let (data, log) = (job.path("data").display().to_string(), job.path("termination-log").display().to_string());
    job.write(
        "filebeat.yml",
        &format!(
            "filebeat.inputs:\n- {{type: filestream, id: job, paths: ['{data}/*.log']}}\npillion.termination_log: {log}\n\
             setup: {{template.enabled: false, ilm.enabled: false}}\n\
             output.elasticsearch: {{hosts: ['http://{at}'], compression_level: 0{more}}}\n"
        ),
    );
    job.write("termination-log", "");
    job.write("data/a.log", "one\ntext 404\ntwo\ntext 403\ntext 404\nthree\n");
    job
}

#[test]
fn what_is_dropped_for_good_is_told_everywhere() {
    let job = job("");
    let mut run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    let output = || json(at, "/stats")["libbeat"]["output"]["events"].clone();
    wait_for("all to be settled", || (output()["acked"] == 3 && output()["dropped"] == 3).then_some(()));
    assert_eq!(series(at, "pillion_output_events_total{result=\"dropped\"}"), 3);
    run.signal(Signal::INT);
    run.ends_with(3);
    let receipt = job.receipt();
    assert_eq!((&receipt["verdict"], &receipt["final"]), (&"incomplete".into(), &true.into()));
    assert_eq!(
        (&receipt["totals"]["dropped"], &receipt["totals"]["acknowledged"]),
        (&3.into(), &3.into()),
        "{receipt}"
    );
    let text = receipt.to_string();
    for part in ["index_not_found_exception", "security_exception", "404", "403"] {
        assert!(text.contains(part), "{part}: {receipt}");
        assert!(run.err().contains(part), "{part}: {}", run.err());
    }
    assert!(!text.contains("text 40") && !text.contains("[writer]"), "no values: {receipt}");
    assert!(job.read("termination-log").contains("incomplete"), "{}", job.read("termination-log"));
}

#[test]
fn a_dead_letter_file_takes_them() {
    let job = job(", non_indexable_policy.dead_letter_file: {path: dead.ndjson}");
    let mut run = job.start(&["--once"]);
    // They aren't where they should be: that is told as well.
    run.ends_with(3);
    let dead = job.read("dead.ndjson");
    assert_eq!(dead.lines().count(), 3, "{dead}");
    assert!(dead.contains("text 403") && dead.contains("index_not_found_exception"), "{dead}");
    assert_eq!(job.receipt()["totals"]["dead_lettered"], 3, "{}", job.receipt());
}
