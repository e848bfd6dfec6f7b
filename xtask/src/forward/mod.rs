//! The forward output against a real server: plain, compressed, logins, TLS, restarts, a server that never answers.
//!
//! Comes in: perhaps which case. Goes out: a line for each case that says what was compared.
//! Always holds: every line arrives; what comes twice has the same id, and so has its message, which is the same then; what
//! can't be shipped is in the receipt with its reason, and the next run ships all.

mod server;

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::args::Args;
use crate::endpoints::lumber::certificates;
use crate::peer::Score;
use crate::shipper::{Place, Shipper};
use crate::stage::{LIMIT, Stage, at};
use crate::{Outcome, wait};
use server::Server;

const LINES: usize = 5000;

/// What a case does; what it returns says what was compared.
type Case = fn(&mut Stage<'_>) -> Outcome<String>;

/// `--case NAME`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let mut score = Score::new(args.value("--case")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let cases: [(&str, Case); 6] = [
        ("plain", |stage| all(stage, "  tag: 'jobs.%{[agent.type]}'\n", "jobs.filebeat", &Value::Null)),
        ("compressed", |stage| all(stage, "  compression: gzip\n", "filebeat", &json!("gzip"))),
        ("login", login),
        ("tls", tls),
        ("restarts", restarts),
        ("deaf", deaf),
    ];
    for (name, case) in cases {
        score.case(name, || at(&shipper, case));
    }
    score.end()
}

/// The output's section, with short pauses.
fn output(host: &str, more: &str) -> String {
    format!("output.forward:\n  hosts: ['{host}']\n  backoff: {{init: 50ms, max: 500ms}}\n{more}")
}

fn host(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

/// Compares what has arrived with what was written, and what came again with what came first; how many came again.
fn compare(stage: &Stage<'_>, server: &Server) -> Outcome<usize> {
    let events = server.events();
    let mut messages: HashMap<String, (u64, HashSet<&str>)> = HashMap::new();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).map_err(|e| format!("{e} in {line:.80}"))?;
        let said = &event["@forward"];
        let ms = said["ms"].as_f64().unwrap_or(-1.0).rem_euclid(1000.0).round();
        let text = event["@timestamp"].as_str().unwrap_or_default();
        if !text.ends_with(&format!(".{ms:03}Z")) || said["size"] != said["entries"] {
            return Err(format!("{text} isn't the entry's time, or the size is wrong: {said}"));
        }
        let chunk = said["chunk"].as_str().ok_or("a message without an id")?.to_owned();
        let size = said["size"].as_u64().unwrap_or(0);
        messages.entry(chunk).or_insert_with(|| (size, HashSet::new())).1.insert(line);
    }
    // One that came again is there several times over, each time the same.
    if let Some((chunk, (size, lines))) = messages.iter().find(|(_, (size, lines))| *size != lines.len() as u64) {
        return Err(format!("the message {chunk} of {size} came again as another one: {} events", lines.len()));
    }
    stage.compare(&events)
}

/// All lines in one run; what the messages say of tag and compression.
fn all(stage: &mut Stage<'_>, more: &str, tag: &str, compressed: &Value) -> Outcome<String> {
    let server = Server::start(stage, "forward", &json!({}))?;
    stage.write(LINES)?;
    stage.configure(&output(&host(&server), more))?;
    stage.complete(stage.once()?)?;
    let events = server.events();
    let first = events.lines().next().unwrap_or_default();
    let said: Value = serde_json::from_str(first).map_err(|e| format!("{e} in {first:.80}"))?;
    if said["@forward"]["tag"] != tag || said["@forward"]["compressed"] != *compressed {
        return Err(format!("a message says {}", said["@forward"]));
    }
    match compare(stage, &server)? {
        0 => Ok(format!("{LINES} lines, each once, with the tag {tag}")),
        again => Err(format!("{again} events came again")),
    }
}

/// A shared key, a user, and what is said without them.
fn login(stage: &mut Stage<'_>) -> Outcome<String> {
    let user = json!({"key": "keysecret", "user": "ship", "password": "shipsecret"});
    let server = Server::start(stage, "forward", &user)?;
    stage.write(LINES)?;
    for (more, reason) in [
        ("", "asks for a shared key"),
        ("  shared_key: wrongsecret\n  username: ship\n  password: shipsecret\n", "shared key mismatch"),
        ("  shared_key: keysecret\n", "asks for a user"),
        ("  shared_key: keysecret\n  username: ship\n  password: wrongsecret\n", "username/password mismatch"),
    ] {
        stage.configure(&output(&host(&server), more))?;
        stage.refused(reason)?;
        let tested = stage.test_output();
        // Without a key of ours nothing is asked at the start: the server's greeting is no answer.
        let named = more.is_empty() || tested.contains("ERROR") && tested.contains(reason);
        if !named {
            return Err(format!("test output says {tested}"));
        }
    }
    let right = "  shared_key: keysecret\n  username: ship\n  password: shipsecret\n";
    stage.configure(&output(&host(&server), right))?;
    let tested = stage.test_output();
    if !tested.contains("OK") {
        return Err(format!("test output says {tested}"));
    }
    stage.complete(stage.once()?)?;
    let again = compare(stage, &server)?;
    if stage.log().contains("secret") {
        return Err("a secret is in the log".into());
    }
    Ok(format!("four refusals named, then {LINES} lines, {again} came again"))
}

/// TLS with an authority of our own, and one of a stranger.
fn tls(stage: &mut Stage<'_>) -> Outcome<String> {
    let stranger = Place::new()?;
    let (ca, wrong) = (certificates(&stage.place)?, certificates(&stranger)?);
    let files = json!({"cert": stage.path("server.pem"), "certKey": stage.path("server.key"), "key": "keysecret"});
    let server = Server::start(stage, "forward", &files)?;
    stage.write(LINES)?;
    let section = |ca: &std::path::Path| {
        let more = format!("  shared_key: keysecret\n  ssl.certificate_authorities: ['{}']\n", ca.display());
        output(&format!("localhost:{}", server.port), &more)
    };
    stage.configure(&section(&wrong))?;
    let said = stage.refused("certificate")?;
    stage.configure(&section(&ca))?;
    stage.complete(stage.once()?)?;
    let again = compare(stage, &server)?;
    Ok(format!("`{said:.80}`, then {LINES} lines, {again} came again"))
}

/// The server is killed with messages that it took and didn't acknowledge, and comes back, three times.
fn restarts(stage: &mut Stage<'_>) -> Outcome<String> {
    let mut server = Server::start(stage, "forward", &json!({}))?;
    stage.configure(&output(&host(&server), "  bulk_max_size: 50\n"))?;
    let child = stage.follow()?;
    let count = |server: &Server| server.events().lines().count();
    let mut before = 0;
    for _ in 0..3 {
        stage.write(LINES)?;
        wait::until("a part of it", LIMIT, || Ok((count(&server) > before + 100).then_some(())))?;
        let answered = before + server.deafen()?;
        stage.write(LINES)?;
        wait::until("what isn't acknowledged", LIMIT, || Ok((count(&server) > answered).then_some(())))?;
        server.kill()?;
        before = count(&server);
        server.start_again()?;
    }
    stage.flag()?;
    stage.complete(child)?;
    match compare(stage, &server)? {
        0 => Err("nothing came again: nothing is shown".into()),
        again => Ok(format!("{} lines, all there, {again} came again in the same messages", stage.lines.len())),
    }
}

/// A server that never answers is named when the time is up; nothing counts as delivered.
fn deaf(stage: &mut Stage<'_>) -> Outcome<String> {
    let deaf = Server::start(stage, "deaf", &json!({"deaf": true}))?;
    stage.write(LINES)?;
    stage.configure(&output(&host(&deaf), "  ack_response_timeout: 300ms\n"))?;
    let said = stage.refused("no answer within 300ms")?;
    let server = Server::start(stage, "forward", &json!({}))?;
    stage.configure(&output(&host(&server), ""))?;
    stage.complete(stage.once()?)?;
    let again = compare(stage, &server)?;
    Ok(format!("`{said:.80}`, then {LINES} lines at one that answers, {again} came again"))
}
