//! The Redis output against a real Redis: lists, channels, keys, restarts, a full memory, logins, TLS, a replica.
//!
//! Comes in: perhaps which case. Goes out: a line for each case that says what was compared.
//! Always holds: every line arrives; what comes twice has the same id, and only where a connection was lost; what can't be
//! shipped is in the receipt with its reason, and the next run ships all.

mod server;

use std::fs;

use crate::args::Args;
use crate::child::Child;
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
    let cases: [(&str, Case); 9] = [
        ("list", list),
        ("channel", channel),
        ("keys", keys),
        ("restarts", |stage| restarts(stage, false)),
        ("crashes", |stage| restarts(stage, true)),
        ("out-of-memory", out_of_memory),
        ("login", login),
        ("tls", tls),
        ("replica", replica),
    ];
    for (name, case) in cases {
        score.case(name, || at(&shipper, case));
    }
    score.end()
}

/// The output's section, with short pauses.
fn output(hosts: &str, more: &str) -> String {
    format!("output.redis:\n  hosts: [{hosts}]\n  backoff: {{init: 50ms, max: 500ms}}\n{more}")
}

fn host(server: &Server) -> String {
    format!("'127.0.0.1:{}'", server.port)
}

fn list(stage: &mut Stage<'_>) -> Outcome<String> {
    let server = Server::start(stage, "redis", &[], &["-n", "2"])?;
    stage.write(LINES)?;
    stage.configure(&output(&host(&server), "  key: jobs\n  db: 2\n"))?;
    stage.complete(stage.once()?)?;
    let list = server.list("jobs")?;
    match stage.compare(&list)? {
        0 => Ok(format!("{LINES} lines, each once")),
        again => Err(format!("{again} events came again")),
    }
}

/// Without anybody who listens the run is complete, as with Filebeat; a subscriber gets all.
fn channel(stage: &mut Stage<'_>) -> Outcome<String> {
    let server = Server::start(stage, "redis", &[], &[])?;
    stage.configure(&output(&host(&server), "  key: jobs\n  datatype: channel\n"))?;
    stage.write(10)?;
    stage.complete(stage.once()?)?;
    let heard = stage.place.folder().join("heard");
    let _subscriber = Child::start(&mut server.cli(&["--raw", "SUBSCRIBE", "jobs"]), &heard)?;
    let text = || fs::read_to_string(&heard).unwrap_or_default();
    wait::until("the subscription", LIMIT, || Ok(text().contains("subscribe").then_some(())))?;
    let unheard = stage.lines.len();
    stage.write(LINES)?;
    stage.complete(stage.once()?)?;
    let events = || text().lines().filter(|l| l.starts_with('{')).map(|l| format!("{l}\n")).collect::<String>();
    wait::until("all events", LIMIT, || Ok((events().lines().count() >= LINES).then_some(())))?;
    stage.lines.drain(..unheard);
    let again = stage.compare(&events())?;
    Ok(format!("{unheard} lines to nobody, {LINES} lines heard, {again} came again"))
}

fn keys(stage: &mut Stage<'_>) -> Outcome<String> {
    let server = Server::start(stage, "redis", &[], &[])?;
    stage.write(LINES)?;
    let rules = "  key: 'rest-%{[agent.type]}'\n  keys:\n  - {key: even, when.regexp.message: '^[0-9]*[02468] '}\n";
    stage.configure(&output(&host(&server), rules))?;
    stage.complete(stage.once()?)?;
    let (even, rest) = (server.list("even")?, server.list("rest-filebeat")?);
    let again = stage.compare(&format!("{even}\n{rest}"))?;
    match (even.lines().count(), rest.lines().count(), again) {
        (a, b, 0) if a == b => Ok(format!("{a} lines on each list")),
        other => Err(format!("{other:?} lines on the lists, and again")),
    }
}

/// The server goes away while it gets events, and comes back, three times.
fn restarts(stage: &mut Stage<'_>, hard: bool) -> Outcome<String> {
    let mut server = Server::start(stage, "redis", &[], &[])?;
    stage.configure(&output(&host(&server), "  bulk_max_size: 50\n"))?;
    let child = stage.follow()?;
    let mut missing = 0;
    for _ in 0..3 {
        let before = server.length("filebeat")?;
        stage.write(LINES)?;
        wait::until("a part of it", LIMIT, || Ok((server.length("filebeat")? > before + 100).then_some(())))?;
        // What is written from here on waits at the server when it goes away.
        server.tell(&["CLIENT", "PAUSE", "60000", "WRITE"])?;
        stage.write(LINES)?;
        server.stop(hard)?;
        server.start_again()?;
        missing += stage.lines.len().saturating_sub(server.length("filebeat")?);
    }
    if missing == 0 {
        return Err("all had arrived each time before the server went away: nothing is shown".into());
    }
    stage.flag()?;
    stage.complete(child)?;
    let again = stage.compare(&server.list("filebeat")?)?;
    Ok(format!("{} lines, all there, {again} came again; {missing} were missing as it went away", stage.lines.len()))
}

/// A full memory is waited for, and named when the time is up.
fn out_of_memory(stage: &mut Stage<'_>) -> Outcome<String> {
    let full = ["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"];
    let server = Server::start(stage, "redis", &full, &[])?;
    stage.configure(&output(&host(&server), "  bulk_max_size: 100\n"))?;
    stage.write(LINES)?;
    let said = stage.refused("OOM")?;
    let part = server.length("filebeat")?;
    if part == 0 || part >= LINES {
        return Err(format!("{part} lines fit"));
    }
    let before = stage.log().len();
    let child = stage.once()?;
    wait::until("the next run to meet it", LIMIT, || {
        Ok(stage.log().get(before..).is_some_and(|new| new.contains("OOM")).then_some(()))
    })?;
    server.tell(&["CONFIG", "SET", "maxmemory", "0"])?;
    stage.complete(child)?;
    // Behind one that didn't fit another may have: the next run begins with the first that is missing.
    let again = stage.compare(&server.list("filebeat")?)?;
    Ok(format!("{part} of {LINES} lines fit, then `{said:.60}`; with more memory all, {again} came again"))
}

/// A password, a user of its own, and what is said without them.
fn login(stage: &mut Stage<'_>) -> Outcome<String> {
    let cli = ["-a", "topsecret", "--no-auth-warning"];
    let server = Server::start(stage, "redis", &["--requirepass", "topsecret"], &cli)?;
    server.tell(&["ACL", "SETUSER", "ship", "on", ">shipsecret", "~jobs", "+rpush", "+ping", "+select"])?;
    stage.write(LINES)?;
    for (more, reason) in [
        ("", "NOAUTH"),
        ("  password: wrongsecret\n", "WRONGPASS"),
        ("  username: ship\n  password: shipsecret\n  key: other\n", "NOPERM"),
    ] {
        stage.configure(&output(&host(&server), more))?;
        stage.refused(reason)?;
        let tested = stage.test_output();
        if reason != "NOPERM" && !(tested.contains("ERROR") && tested.contains(reason)) {
            return Err(format!("test output says {tested}"));
        }
    }
    let url = format!("'redis://ship:shipsecret@127.0.0.1:{}'", server.port);
    stage.configure(&output(&url, "  key: jobs\n"))?;
    let tested = stage.test_output();
    if !tested.contains("OK") {
        return Err(format!("test output says {tested}"));
    }
    stage.complete(stage.once()?)?;
    let again = stage.compare(&server.list("jobs")?)?;
    if stage.log().contains("secret") {
        return Err("a password is in the log".into());
    }
    Ok(format!("three refusals named, then {LINES} lines, {again} came again"))
}

/// TLS on both sides, and an authority of a stranger.
fn tls(stage: &mut Stage<'_>) -> Outcome<String> {
    let stranger = Place::new()?;
    let (ca, wrong) = (certificates(&stage.place)?, certificates(&stranger)?);
    let ca = ca.display().to_string();
    let file = |name: &str| stage.path(name);
    let (cert, key, own, own_key) = (file("server.pem"), file("server.key"), file("client.pem"), file("client.key"));
    let settings = ["--port", "0", "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let cli = ["--tls", "--cacert", &ca, "--cert", &own, "--key", &own_key, "--sni", "localhost"];
    let server = Server::start(stage, "redis", &settings, &cli)?;
    stage.write(LINES)?;
    let section = |ca: &str, own: &str| {
        let hosts = format!("'rediss://localhost:{}'", server.port);
        output(&hosts, &format!("  ssl.certificate_authorities: ['{ca}']\n{own}"))
    };
    stage.configure(&section(&wrong.display().to_string(), ""))?;
    let stranger = stage.refused("certificate")?;
    stage.configure(&section(&ca, ""))?;
    stage.refused("certificate")?;
    stage.configure(&section(&ca, &format!("  ssl.certificate: '{own}'\n  ssl.key: '{own_key}'\n")))?;
    stage.complete(stage.once()?)?;
    let again = stage.compare(&server.list("filebeat")?)?;
    Ok(format!("`{stranger:.80}`, then {LINES} lines with both certificates, {again} came again"))
}

/// A replica refuses, and the events go to its master, which is the other host.
fn replica(stage: &mut Stage<'_>) -> Outcome<String> {
    let master = Server::start(stage, "master", &[], &[])?;
    let of = master.port.to_string();
    let replica = Server::start(stage, "replica", &["--replicaof", "127.0.0.1", &of], &[])?;
    wait::until("the replica", LIMIT, || {
        Ok(replica.ask(&["INFO", "replication"])?.contains("master_link_status:up").then_some(()))
    })?;
    stage.write(LINES)?;
    let hosts = format!("{}, {}", host(&replica), host(&master));
    stage.configure(&output(&hosts, "  loadbalance: true\n"))?;
    stage.complete(stage.once()?)?;
    let again = stage.compare(&master.list("filebeat")?)?;
    Ok(format!("{LINES} lines at the master, {again} came again"))
}
