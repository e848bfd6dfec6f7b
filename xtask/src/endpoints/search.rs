//! Elasticsearch and OpenSearch: shipping, restarts, refusals.
//!
//! Always holds: each case has an index and a place of its own, so that cases share a server and nothing else.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Score, with_server};
use crate::child::Child;
use crate::servers::{Kind, Server};
use crate::shipper::{Place, Shipper, input};
use crate::{Outcome, job, wait};

const LIMIT: Duration = Duration::from_secs(90);

/// One case: its name, its code, and the servers that it makes sense for.
type Case = (&'static str, fn(&mut Run<'_>) -> Outcome, fn(Kind) -> bool);

const PLAIN: [Case; 10] = [
    ("ship", ship, |_| true),
    ("default-index", default_index, |_| true),
    ("rules", rules, |_| true),
    ("data-stream", data_stream, |k| matches!(k, Kind::OpenSearch2 | Kind::OpenSearch3)),
    ("server-killed", server_killed, |_| true),
    ("shipper-killed", shipper_killed, |_| true),
    ("mapping-conflict", mapping_conflict, |_| true),
    ("read-only", read_only, |_| true),
    // 5.6 has no modules here.
    ("modules", modules, |k| k != Kind::Elasticsearch5),
    // The last one: what it leaves can't be taken away from 8.19, which has data streams and no API for them.
    ("setup", setup, |_| true),
];

const TIGHT: [Case; 2] = [("rejected", rejected, |_| true), ("too-large", too_large, |_| true)];

/// Runs all cases of a server with default settings, or of one with tiny limits.
pub(super) fn suite(score: &mut Score, kind: Kind, tight: bool, shipper: &Shipper) {
    let cases: &[Case] = if tight { &TIGHT } else { &PLAIN };
    let cases: Vec<&Case> =
        cases.iter().filter(|(name, _, fits)| fits(kind) && score.only.as_ref().is_none_or(|o| o == name)).collect();
    if cases.is_empty() {
        return;
    }
    let pool = kind.write_pool();
    let limits = [format!("{pool}.size=1"), format!("{pool}.queue_size=1"), "http.max_content_length=20kb".to_owned()];
    let started = with_server(kind, if tight { &limits } else { &[] }, |server| {
        for (name, case, _) in cases {
            score.case(kind.name(), name, || {
                let mut run = Run { index: format!("e2e-{name}"), server, shipper, place: Place::new()? };
                let outcome = case(&mut run);
                outcome.map_err(|why| {
                    let log = run.server.keep_log();
                    format!("{why}; its place: {}; {log}", run.place.keep().display())
                })
            });
        }
    });
    if started.is_err() {
        score.case(kind.name(), "start", || started);
    }
}

struct Run<'a> {
    index: String,
    server: &'a mut Server,
    shipper: &'a Shipper,
    place: Place,
}

impl Run<'_> {
    /// The configuration of most cases, with more lines for the input and for the output.
    fn configure(&self, input_more: &str, output_more: &str) -> Outcome {
        let mut text = input(&self.place, "log") + input_more;
        text.push_str(&format!("output.elasticsearch:\n  hosts: ['http://127.0.0.1:{}']\n", self.server.port()));
        text.push_str(output_more);
        text.push_str("setup.template.enabled: false\nsetup.ilm.enabled: false\n");
        text.push_str("pillion.exactly_once: true\n");
        self.place.configure(&text)
    }

    /// Into the case's own index.
    fn to_index(&self, more: &str) -> String {
        format!("  index: {}\n{more}", self.index)
    }

    fn write(&self, file: &str, lines: &[String]) -> Outcome {
        job::append(&self.place.logs().join(file), lines)
    }

    fn start(&self) -> Outcome<Child> {
        let mut command = self.shipper.command(&self.place);
        command.arg("--until").arg(self.place.flag()).arg("--receipt").arg(self.place.receipt());
        Child::start(&mut command, &self.place.log())
    }

    /// Sets the flag and waits for the end with this exit code.
    fn finish(&self, child: &mut Child, wanted: i32) -> Outcome {
        fs::write(self.place.flag(), b"").map_err(|e| e.to_string())?;
        let status = child.wait(LIMIT)?.status;
        if status.code() == Some(wanted) { Ok(()) } else { Err(format!("{status} instead of exit code {wanted}")) }
    }

    fn wait_for_documents(&self, least: usize) -> Outcome {
        wait::until(&format!("{least} documents"), LIMIT, || {
            let _ = self.server.ask("POST", &format!("/{}/_refresh", self.index), &Value::Null);
            let count = self.server.ask("GET", &format!("/{}/_count", self.index), &Value::Null);
            let count = count.map_or(0, |a| a.json()["count"].as_u64().unwrap_or(0));
            Ok((count >= least as u64).then_some(()))
        })
    }

    fn compare(&self, lines: &[String]) -> Outcome {
        let documents = self.server.documents(&self.index)?;
        job::compare(lines, documents.iter().map(|(_, source)| source["message"].as_str().unwrap_or_default()))
    }

    fn receipt(&self) -> Outcome<Value> {
        let text = fs::read_to_string(self.place.receipt()).map_err(|e| format!("the receipt: {e}"))?;
        serde_json::from_str(&text).map_err(|e| format!("the receipt: {e}"))
    }

    /// Checks the receipt's verdict and how many events it says were dropped.
    fn check_receipt(&self, lines: usize, dropped: usize) -> Outcome {
        let receipt = self.receipt()?;
        let verdict = if dropped == 0 { "complete" } else { "incomplete" };
        let totals = &receipt["totals"];
        let got = (&receipt["verdict"], &totals["events"], &totals["acknowledged"], &totals["dropped"]);
        let wanted = (&json!(verdict), &json!(lines), &json!(lines - dropped), &json!(dropped));
        if got == wanted { Ok(()) } else { Err(format!("the receipt: {got:?} instead of {wanted:?}")) }
    }
}

/// Three files arrive whole, with all that JSON escapes.
fn ship(run: &mut Run<'_>) -> Outcome {
    run.configure("", &run.to_index(""))?;
    let lines = job::lines(0, 3000, 120);
    for (i, part) in lines.chunks(1000).enumerate() {
        run.write(&format!("{i}.log"), part)?;
    }
    let mut child = run.start()?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)?;
    run.check_receipt(lines.len(), 0)
}

/// Without `index` the events go where Filebeat's go.
fn default_index(run: &mut Run<'_>) -> Outcome {
    run.index = "filebeat-*".into();
    run.configure("", "")?;
    let lines = job::lines(0, 10, 60);
    run.write("a.log", &lines)?;
    let mut child = run.start()?;
    run.finish(&mut child, 0)?;
    let compared = run.compare(&lines);
    run.server.ask("DELETE", "/filebeat-*", &Value::Null)?;
    compared
}

/// Nothing is said of templates: one is put as that version of Filebeat puts it, and a second run leaves it alone.
fn setup(run: &mut Run<'_>) -> Outcome {
    run.index = "filebeat-*".into();
    let (dialect, daily, kind) = match run.server.kind() {
        Kind::Elasticsearch5 => ("5.6", true, "_template/filebeat"),
        Kind::Elasticsearch7 => ("7", true, "_index_template/filebeat-7.17.29"),
        Kind::Elasticsearch8 => ("8", false, "_index_template/filebeat-8.19.14"),
        Kind::OpenSearch2 | Kind::OpenSearch3 => ("9", false, "_index_template/filebeat-9.6.0"),
    };
    let logs = match run.server.kind() {
        Kind::Elasticsearch5 => {
            format!("filebeat.prospectors:\n- input_type: log\n  paths: ['{}/*.log']\n", run.place.logs().display())
        }
        _ => input(&run.place, "log"),
    };
    let text = format!(
        "{logs}output.elasticsearch.hosts: ['http://127.0.0.1:{}']\npillion.compat: {dialect}\n",
        run.server.port()
    );
    run.place.configure(&text)?;
    let lines = job::lines(0, 20, 60);
    for part in lines.chunks(10) {
        run.write("a.log", part)?;
        let mut child = run.start()?;
        run.finish(&mut child, 0)?;
    }
    run.compare(&lines)?;
    let put = run.server.ask("GET", &format!("/{kind}"), &Value::Null)?.good()?.json().to_string();
    let mapping = run.server.ask("GET", "/filebeat-*/_mapping", &Value::Null)?.good()?.json();
    let by_server = |kind: Kind| matches!(kind, Kind::OpenSearch2 | Kind::OpenSearch3);
    if by_server(run.server.kind()) {
        let streams = run.server.ask("GET", "/_data_stream/filebeat-9.6.0", &Value::Null)?.good()?.json();
        run.server.ask("DELETE", "/_data_stream/filebeat-*", &Value::Null)?;
        if streams["data_streams"].as_array().map_or(0, Vec::len) != 1 {
            return Err(format!("not one data stream: {streams}"));
        }
    } else {
        run.server.ask("DELETE", "/filebeat-*", &Value::Null)?;
    }
    run.server.ask("DELETE", &format!("/{kind}"), &Value::Null)?;
    let index = mapping.as_object().and_then(|m| m.keys().next().cloned()).unwrap_or_default();
    let dated = index.rsplit('-').next().is_some_and(|day| day.split('.').count() == 3 && day.len() == 10);
    if daily != dated {
        return Err(format!("the index is {index}"));
    }
    let mapping = mapping.to_string();
    for want in [r#""message":{"type":"text"}"#, r#""strings_as_keyword""#] {
        if !mapping.contains(want) {
            return Err(format!("{want} isn't in the mapping {mapping}"));
        }
    }
    if put.contains("lifecycle") { Err(format!("a policy where there are none: {put}")) } else { Ok(()) }
}

/// Lines go to the indices that rules give them.
fn rules(run: &mut Run<'_>) -> Outcome {
    let index = run.index.clone();
    let more =
        format!("  indices: [{{index: '{index}-Odd', when.contains.message: ' odd'}}]\n  index: '{index}-rest'\n");
    run.configure("", &more)?;
    let lines: Vec<String> = (0..400).map(|i| format!("{i} {}", if i % 2 == 0 { "even" } else { "odd" })).collect();
    run.write("a.log", &lines)?;
    let mut child = run.start()?;
    run.finish(&mut child, 0)?;
    for (name, rest) in [("odd", 1), ("rest", 0)] {
        let documents = run.server.documents(&format!("{index}-{name}"))?;
        let wanted: Vec<String> = lines.iter().skip(rest).step_by(2).cloned().collect();
        let got = documents.iter().map(|(_, source)| source["message"].as_str().unwrap_or_default());
        job::compare(&wanted, got)?;
    }
    Ok(())
}

/// With a template for it the default index is a data stream.
fn data_stream(run: &mut Run<'_>) -> Outcome {
    run.index = "filebeat-*".into();
    let template = json!({"index_patterns": ["filebeat-*"], "data_stream": {}, "priority": 500});
    run.server.ask("PUT", "/_index_template/e2e", &template)?.good()?;
    run.configure("", "")?;
    let lines = job::lines(0, 10, 60);
    run.write("a.log", &lines)?;
    let mut child = run.start()?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)?;
    let streams = run.server.ask("GET", "/_data_stream", &Value::Null)?.good()?.json();
    run.server.ask("DELETE", "/_data_stream/filebeat-*", &Value::Null)?;
    run.server.ask("DELETE", "/_index_template/e2e", &Value::Null)?;
    let count = streams["data_streams"].as_array().map_or(0, Vec::len);
    if count == 1 { Ok(()) } else { Err(format!("{count} data streams instead of 1")) }
}

/// The server is killed in mid-shipment; lines go on while it is down.
fn server_killed(run: &mut Run<'_>) -> Outcome {
    run.configure("", &run.to_index("  bulk_max_size: 200\n  backoff.max: 1s\n"))?;
    let lines = job::lines(0, 20_000, 120);
    run.write("a.log", &lines[..15_000])?;
    let mut child = run.start()?;
    run.wait_for_documents(1)?;
    run.server.stop(true)?;
    run.write("a.log", &lines[15_000..])?;
    run.server.start_again()?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)?;
    run.check_receipt(lines.len(), 0)
}

/// The shipper is killed in mid-shipment and started again: with `exactly_once` nothing is there twice.
fn shipper_killed(run: &mut Run<'_>) -> Outcome {
    run.configure("", &run.to_index("  bulk_max_size: 200\n  worker: 2\n"))?;
    let lines = job::lines(0, 20_000, 120);
    run.write("a.log", &lines)?;
    for documents in [1, 3000] {
        let mut child = run.start()?;
        run.wait_for_documents(documents)?;
        child.signal(Signal::KILL);
        child.wait(LIMIT)?;
    }
    let mut child = run.start()?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)
}

/// Events that the mapping refuses are dropped, counted, and make the run incomplete.
fn mapping_conflict(run: &mut Run<'_>) -> Outcome {
    let kind = if run.server.kind().typed() { "doc" } else { "_doc" };
    run.server.ask("POST", &format!("/{}/{kind}", run.index), &json!({"n": 1, "message": "first"}))?.good()?;
    run.configure("  json.keys_under_root: true\n  json.message_key: message\n", &run.to_index(""))?;
    let line = |i: usize| {
        let n = if i.is_multiple_of(10) { json!("none") } else { json!(i) };
        json!({"n": n, "message": format!("line {i}")}).to_string()
    };
    run.write("a.log", &(0..100).map(line).collect::<Vec<_>>())?;
    let mut child = run.start()?;
    run.finish(&mut child, 3)?;
    let good = (0..100).filter(|i| i % 10 != 0).map(|i| format!("line {i}"));
    run.compare(&good.chain(["first".to_owned()]).collect::<Vec<_>>())?;
    run.check_receipt(100, 10)?;
    let refused = run.receipt()?["files"][0]["refused"][0].clone();
    let field = refused["field"].as_str().unwrap_or_default();
    let known = refused["type"].as_str().is_some_and(|t| t.ends_with("_parsing_exception"));
    if known && field == "n" && refused["events"] == 10 { Ok(()) } else { Err(format!("the receipt: {refused}")) }
}

/// Events of a module wait for their pipeline, which somebody loads later; `test output` says that it is missing.
fn modules(run: &mut Run<'_>) -> Outcome {
    let pipeline = "/_ingest/pipeline/filebeat-8.1.0-nginx-access-pipeline";
    run.configure("", &run.to_index(""))?;
    let text = fs::read_to_string(run.place.config()).map_err(|e| e.to_string())?;
    let (_, rest) = text.split_once("output.").ok_or("no output")?;
    let logs = run.place.logs();
    let module = format!("- {{module: nginx, access.var.paths: ['{}/*.log']}}", logs.display());
    run.place.configure(&format!("pillion.modules.version: 8.1.0\nfilebeat.modules:\n{module}\noutput.{rest}"))?;
    let tested = || {
        let mut command = Command::new(&run.shipper.path);
        command.args(["test", "output", "-c"]).arg(run.place.config()).arg("--path.home").arg(run.place.home());
        let out = command.output().map_err(|e| e.to_string())?;
        Ok::<_, String>((out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    let (code, said) = tested()?;
    if code != Some(1) || !said.contains("isn't there") {
        return Err(format!("test output: {code:?}: {said}"));
    }
    let lines = job::lines(0, 200, 80);
    run.write("access.log", &lines)?;
    let mut child = run.start()?;
    wait::until("a word on the pipeline", LIMIT, || {
        let log = fs::read_to_string(run.place.log()).unwrap_or_default();
        Ok(log.contains("filebeat-8.1.0-nginx-access-pipeline` isn't there").then_some(()))
    })?;
    let description = json!({"description": "for a test", "processors": []});
    run.server.ask("PUT", pipeline, &description)?.good()?;
    run.wait_for_documents(lines.len())?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)?;
    run.check_receipt(lines.len(), 0)?;
    match tested()? {
        (Some(0), said) if said.contains("nginx-access-pipeline... OK") => Ok(()),
        (code, said) => Err(format!("test output: {code:?}: {said}")),
    }
}

/// An index that is blocked since the disk is full takes the lines once it is free again.
fn read_only(run: &mut Run<'_>) -> Outcome {
    let index = format!("/{}", run.index);
    run.server.ask("PUT", &index, &json!({}))?.good()?;
    let block = |on: Value| json!({ "index.blocks.read_only_allow_delete": on });
    run.server.ask("PUT", &format!("{index}/_settings"), &block(json!(true)))?.good()?;
    run.configure("", &run.to_index("  backoff.init: 100ms\n  backoff.max: 1s\n"))?;
    let lines = job::lines(0, 1000, 120);
    run.write("a.log", &lines)?;
    let mut child = run.start()?;
    wait::until("a refusal in the shipper's log", LIMIT, || {
        let log = fs::read_to_string(run.place.log()).unwrap_or_default();
        Ok(["cluster_block", "429", "blocked", "403"].iter().any(|w| log.contains(w)).then_some(()))
    })?;
    run.server.ask("PUT", &format!("{index}/_settings"), &block(Value::Null))?.good()?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)
}

/// Requests and items that the server has no room for are sent again.
fn rejected(run: &mut Run<'_>) -> Outcome {
    run.configure("", &run.to_index("  worker: 16\n  bulk_max_size: 10\n  backoff.init: 50ms\n  backoff.max: 1s\n"))?;
    let lines = job::lines(0, 5000, 120);
    run.write("a.log", &lines)?;
    let mut child = run.start()?;
    run.finish(&mut child, 0)?;
    run.compare(&lines)?;
    run.check_receipt(lines.len(), 0)?;
    let pool = run.server.kind().write_pool().trim_start_matches("thread_pool.");
    let path = format!("/_cat/thread_pool/{pool}?h=rejected");
    let rejected = run.server.ask("GET", &path, &Value::Null)?.good()?.body;
    let rejected = String::from_utf8_lossy(&rejected).trim().to_owned();
    if rejected.parse::<u64>().is_ok_and(|n| n > 0) { Ok(()) } else { Err(format!("the server rejected {rejected}")) }
}

/// A request that is too large is cut in pieces; an event that is too large alone is dropped and counted.
fn too_large(run: &mut Run<'_>) -> Outcome {
    run.configure("", &run.to_index("  bulk_max_size: 1000\n  compression_level: 0\n"))?;
    let mut lines = job::lines(0, 500, 120);
    lines.insert(200, job::lines(9_000_000, 9_000_001, 30_000).remove(0));
    run.write("a.log", &lines)?;
    let mut child = run.start()?;
    run.finish(&mut child, 3)?;
    lines.remove(200);
    run.compare(&lines)?;
    run.check_receipt(501, 1)
}
