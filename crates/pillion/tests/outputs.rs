//! What becomes of events that the target refuses: the real executable with an endpoint that is scripted, or with
//! `pillion receive`.

#![expect(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// In every refused event; nothing but a dead letter may hold it.
const SECRET: &str = "hunter2";
const LINES: [&str; 5] = ["one", "bad hunter2 first", "three", "bad hunter2 second", "five"];

/// An endpoint of `_bulk` that refuses what says `bad hunter2` with a mapping error, unless it goes to the index `dead`.
struct Endpoint {
    port: u16,
    /// Index and document of what it took.
    taken: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Endpoint {
    fn start() -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&all);
                std::thread::spawn(move || while serve(&stream, &taken).is_some() {});
            }
        });
        Endpoint { port, taken }
    }

    fn taken(&self, index: &str) -> Vec<Value> {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|(i, _)| i.starts_with(index)).map(|(_, doc)| doc.clone()).collect()
    }
}

/// One request and its answer; `None` at the connection's end.
fn serve(mut stream: &TcpStream, taken: &Mutex<Vec<(String, Value)>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let mut lines = body.lines();
    let (mut items, mut errors) = (Vec::new(), false);
    while let (Some(action), Some(doc)) = (lines.next(), lines.next()) {
        let action: Value = serde_json::from_str(action).unwrap();
        let index = action["create"]["_index"].as_str().unwrap().to_owned();
        if doc.contains("bad hunter2") && index != "dead" {
            errors = true;
            let reason =
                format!("[1:9] failed to parse field [n] of type [long]. Preview of field's value: '{SECRET}'");
            let error = json!({"type": "document_parsing_exception", "reason": reason});
            items.push(json!({"create": {"status": 400, "error": error}}));
        } else {
            taken.lock().unwrap().push((index, serde_json::from_str(doc).unwrap()));
            items.push(json!({"create": {"status": 201}}));
        }
    }
    let body = json!({"errors": errors, "items": items}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()
}

/// Ships `lines` once to the port; `more` is added to the output's settings.
fn ship(dir: &Path, port: u16, lines: &[&str], more: &str, flags: &[&str]) -> (Output, Value) {
    fs::create_dir_all(dir.join("logs")).unwrap();
    fs::write(dir.join("logs/job.log"), lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
    let config = format!(
        "filebeat.inputs: [{{type: log, paths: ['{}/logs/*.log']}}]\noutput.elasticsearch:\n  hosts: ['127.0.0.1:{port}']\n  \
         compression_level: 0\n  backoff: {{init: 10ms, max: 50ms}}\n{more}",
        dir.display()
    );
    fs::write(dir.join("filebeat.yml"), config).unwrap();
    let receipt = dir.join("receipt.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
    command.arg("-c").arg(dir.join("filebeat.yml")).arg("--path.home").arg(dir).arg("--receipt").arg(&receipt);
    command.args(["-e", "--once", "--strict.perms=false", "--drain-timeout", "60s"]).args(flags);
    let output = command.env_remove("http_proxy").stdin(Stdio::null()).output().unwrap();
    let receipt = fs::read_to_string(&receipt)
        .unwrap_or_else(|e| panic!("no receipt: {e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, serde_json::from_str(&receipt).unwrap())
}

/// Neither the log nor the receipt holds a value.
fn holds_no_secret(output: &Output, receipt: &Value) {
    for text in [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)] {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(!receipt.to_string().contains(SECRET), "{receipt}");
}

/// What the receipt says of the two refused events.
fn refused(dead_lettered: bool) -> Value {
    json!([{
        "reason": "rejected with status 400", "type": "document_parsing_exception", "field": "n",
        "dead_lettered": dead_lettered, "events": 2, "first_ranges": [[4, 22], [28, 47]],
    }])
}

#[test]
fn refused_events_are_dropped_and_the_receipt_says_which() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start());
    let (output, receipt) = ship(dir.path(), endpoint.port, &LINES, "", &[]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(receipt["verdict"], "incomplete");
    assert_eq!(receipt["reasons"], json!(["2 events refused by the target"]));
    assert_eq!((&receipt["totals"]["acknowledged"], &receipt["totals"]["dropped"]), (&json!(3), &json!(2)));
    let file = &receipt["files"][0];
    assert!(file["path"].as_str().unwrap().ends_with("/logs/job.log"));
    assert_eq!(file["refused"], refused(false), "{receipt:#}");
    assert_eq!(endpoint.taken("filebeat").len(), 3);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = log.lines().filter(|l| l.contains("refuses events for good")).count();
    assert_eq!(said, 1, "{log}");
    holds_no_secret(&output, &receipt);

    // They are settled: another run doesn't send them again.
    fs::remove_file(dir.path().join("receipt.json")).unwrap();
    let (output, receipt) = ship(dir.path(), endpoint.port, &LINES, "", &[]);
    assert_eq!((output.status.code(), &receipt["totals"]["events"]), (Some(0), &json!(0)), "{receipt:#}");
}

#[test]
fn an_incomplete_end_may_count_as_success() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start());
    let flags = ["--on-incomplete", "succeed"];
    let (output, receipt) = ship(dir.path(), endpoint.port, &LINES, "", &flags);
    assert_eq!((output.status.code(), &receipt["verdict"]), (Some(0), &json!("incomplete")));
}

#[test]
fn a_dead_letter_file_holds_what_was_refused_for_its_owner_alone() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start());
    let path = dir.path().join("dead.ndjson");
    let more = format!("  non_indexable_policy.dead_letter_file.path: {}\n", path.display());
    let (output, receipt) = ship(dir.path(), endpoint.port, &LINES, &more, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let letters: Vec<Value> =
        fs::read_to_string(&path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let messages: Vec<&str> = letters.iter().map(|l| l["event"]["message"].as_str().unwrap()).collect();
    assert_eq!(messages, [LINES[1], LINES[3]]);
    assert_eq!(letters[0]["error"]["type"], "document_parsing_exception");
    assert!(letters[0]["error"]["reason"].as_str().unwrap().contains("field [n]"));
    assert_eq!((&receipt["totals"]["dead_lettered"], &receipt["totals"]["dropped"]), (&json!(2), &json!(0)));
    assert_eq!(receipt["files"][0]["refused"], refused(true), "{receipt:#}");
    holds_no_secret(&output, &receipt);
}

#[test]
fn a_full_dead_letter_file_drops_the_rest() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start());
    let path = dir.path().join("dead.ndjson");
    let more = format!("  non_indexable_policy.dead_letter_file: {{path: {}, max_size: 1kB}}\n", path.display());
    let (output, receipt) = ship(dir.path(), endpoint.port, &LINES, &more, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(fs::metadata(&path).unwrap().len() <= 1000);
    assert_eq!((&receipt["totals"]["dead_lettered"], &receipt["totals"]["dropped"]), (&json!(1), &json!(1)));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(log.lines().filter(|l| l.contains("dead.ndjson is full")).count(), 1, "{log}");
}

#[test]
fn a_dead_letter_index_takes_what_was_refused_with_the_reason() {
    let (dir, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start());
    let more = "  non_indexable_policy.dead_letter_index.index: dead\n";
    let (output, receipt) = ship(dir.path(), endpoint.port, &LINES, more, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((endpoint.taken("filebeat").len(), endpoint.taken("dead").len()), (3, 2));
    let letter = &endpoint.taken("dead")[0];
    let event: Value = serde_json::from_str(letter["message"].as_str().unwrap()).unwrap();
    assert_eq!(event["message"], LINES[1]);
    assert_eq!((&letter["error.type"], &letter["@timestamp"]), (&json!(400), &event["@timestamp"]));
    assert!(letter["error.message"].as_str().unwrap().starts_with(r#"{"type":"document_parsing_exception","reason":"#));
    assert_eq!(receipt["files"][0]["refused"], refused(true), "{receipt:#}");
    holds_no_secret(&output, &receipt);
}

/// `pillion receive`, killed when it is dropped.
struct Receiver {
    child: Child,
    port: u16,
}

impl Receiver {
    fn start(folder: &Path, flags: &[&str]) -> Receiver {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillion"));
        command.args(["receive", "--elasticsearch", "127.0.0.1:0", "--to"]).arg(folder).args(flags);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        Receiver { child, port }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_the_target_puts_off_arrives_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&dir.path().join("arrived"), &["--reject-every", "3"]);
    let lines: Vec<String> = (0..500).map(|i| format!("line {i}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (output, receipt) = ship(dir.path(), receiver.port, &lines, "  bulk_max_size: 50\n", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&receipt["verdict"], &receipt["totals"]["acknowledged"]), (&json!("complete"), &json!(500)));
    let arrived = dir.path().join(format!("arrived/elasticsearch-{}.ndjson", receiver.port));
    let mut arrived: Vec<String> = fs::read_to_string(arrived)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["message"].as_str().unwrap().to_owned())
        .collect();
    arrived.sort();
    let mut sent: Vec<String> = lines.iter().map(|l| l.to_string()).collect();
    sent.sort();
    assert_eq!(arrived, sent);
}

#[test]
fn a_standard_output_that_is_closed_is_refused_and_nothing_counts_as_delivered() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("job.log"), "one\n").unwrap();
    let config = format!(
        "filebeat.inputs:\n- {{type: filestream, id: job, paths: ['{}/*.log']}}\noutput.console: {{}}\n",
        dir.path().display()
    );
    fs::write(dir.path().join("filebeat.yml"), config).unwrap();
    let run = |redirection: &str| {
        let receipt = dir.path().join("receipt.json");
        let script = format!("exec \"$0\" \"$@\" {redirection}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pillion"), "-e", "--once", "--strict.perms=false"]);
        command.arg("-c").arg(dir.path().join("filebeat.yml")).arg("--path.home").arg(dir.path());
        let output = command.arg("--receipt").arg(&receipt).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said, fs::read_to_string(&receipt).is_ok())
    };
    let (code, said, shipped) = run(">&-");
    assert!(code == Some(2) && said.contains("standard output isn't open") && !shipped, "{code:?} {said}");
    assert_eq!(run(">/dev/null").0, Some(0));
}
