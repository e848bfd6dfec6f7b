//! The Kafka output against a real broker: partitions, compressions, logins, TLS, restarts and crashes.
//!
//! Comes in: perhaps which case. Goes out: a line for each case that says what was compared.
//! Always holds: every line arrives, and with `idempotent` each once within a run; what can't be shipped is in the receipt
//! with its reason. One broker serves all cases but `leaders`, which has two of its own.

mod pair;
mod server;

use crate::args::Args;
use crate::peer::Score;
use crate::shipper::Shipper;
use crate::stage::{Stage, at};
use crate::{Outcome, wait};
use pair::Pair;
use rustix::process::Signal;
use server::Broker;

const LINES: usize = 3000;

/// `--case NAME`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let mut score = Score::new(args.value("--case")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let mut broker = Broker::start()?;
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        score.case(compression, || at(&shipper, |stage| compressed(stage, &broker, compression)));
    }
    score.case("keys", || at(&shipper, |stage| keys(stage, &broker)));
    score.case("login", || at(&shipper, |stage| login(stage, &broker)));
    score.case("tls", || at(&shipper, |stage| tls(stage, &broker)));
    score.case("restart", || at(&shipper, |stage| away(stage, &mut broker, "restart", false)));
    score.case("crash", || at(&shipper, |stage| away(stage, &mut broker, "crash", true)));
    score.case("leaders", || at(&shipper, |stage| leaders(stage, &broker)));
    score.end()
}

/// The output's section, with short pauses.
fn output(host: &str, topic: &str, more: &str) -> String {
    format!("output.kafka:\n  hosts: ['{host}']\n  topic: {topic}\n  backoff: {{init: 50ms, max: 500ms}}\n{more}")
}

fn once(stage: &Stage<'_>, broker: &Broker, topic: &str) -> Outcome {
    match stage.compare(&broker.read(topic, "%s\n")?)? {
        0 => Ok(()),
        again => Err(format!("{again} events came again")),
    }
}

fn compressed(stage: &mut Stage<'_>, broker: &Broker, compression: &str) -> Outcome<String> {
    stage.write(LINES)?;
    let more = format!("  compression: {compression}\n  partition.round_robin.group_events: 10\n");
    stage.configure(&output(&format!("127.0.0.1:{}", broker.plain), compression, &more))?;
    let tested = stage.test_output();
    if !tested.contains("OK") {
        return Err(format!("test output says {tested}"));
    }
    stage.complete(stage.once()?)?;
    once(stage, broker, compression)?;
    let partitions = broker.read(compression, "%p\n")?;
    let of = |partition: &str| partitions.lines().filter(|p| *p == partition).count();
    let sizes = ["0", "1", "2"].map(of);
    if sizes.contains(&0) {
        return Err(format!("partitions of {sizes:?} records"));
    }
    Ok(format!("{LINES} lines, each once, on partitions of {sizes:?}"))
}

/// Topics by rules, keys, headers; a key keeps its partition.
fn keys(stage: &mut Stage<'_>, broker: &Broker) -> Outcome<String> {
    stage.write(LINES)?;
    let more = "  key: '%{[log.file.path]}'\n  headers: [{key: team, value: ours}]\n  topics:\n  - {topic: even, \
                when.regexp.message: '^[0-9]*[02468] '}\n";
    stage.configure(&output(&format!("127.0.0.1:{}", broker.plain), "'odd-%{[agent.type]}'", more))?;
    stage.complete(stage.once()?)?;
    let both = |format: &str| Ok::<_, String>(broker.read("even", format)? + &broker.read("odd-filebeat", format)?);
    if stage.compare(&both("%s\n")?)? > 0 {
        return Err("events came again".into());
    }
    let mut kinds: Vec<String> = both("%t %k %p %h\n")?.lines().map(str::to_owned).collect();
    kinds.sort();
    kinds.dedup();
    // Two topics, four files, each file on one partition of a topic.
    if kinds.len() != 8 || !kinds.iter().all(|kind| kind.ends_with(" team=ours")) {
        return Err(format!("{kinds:?}"));
    }
    Ok(format!("{LINES} lines of four files on two topics, each file on one partition of each"))
}

fn login(stage: &mut Stage<'_>, broker: &Broker) -> Outcome<String> {
    let host = format!("127.0.0.1:{}", broker.login);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let of = |password: &str| format!("  username: ship\n  password: {password}\n  sasl.mechanism: {mechanism}\n");
        stage.write(10)?;
        stage.configure(&output(&host, "login", &of("wrongsecret")))?;
        stage.refused("user or password are wrong")?;
        stage.configure(&output(&host, "login", &of("shipsecret")))?;
        stage.complete(stage.once()?)?;
    }
    once(stage, broker, "login")?;
    if stage.log().contains("secret") {
        return Err("a password is in the log".into());
    }
    Ok("a wrong password is named, the right one serves, by PLAIN and SCRAM".into())
}

fn tls(stage: &mut Stage<'_>, broker: &Broker) -> Outcome<String> {
    let host = format!("localhost:{}", broker.tls);
    let ca = broker.place.folder().join("ca.pem");
    stage.write(LINES)?;
    stage.configure(&output(&host, "tls", "  ssl.enabled: true\n"))?;
    let said = stage.refused("certificate")?;
    stage.configure(&output(&host, "tls", &format!("  ssl.certificate_authorities: ['{}']\n", ca.display())))?;
    stage.complete(stage.once()?)?;
    once(stage, broker, "tls")?;
    Ok(format!("`{said:.80}`, then {LINES} lines with the authority"))
}

/// The broker goes away while it gets events, and comes back: with `idempotent` each is there once.
fn away(stage: &mut Stage<'_>, broker: &mut Broker, topic: &str, hard: bool) -> Outcome<String> {
    let more = "  idempotent: true\n  bulk_max_size: 20\n  timeout: 5s\n";
    stage.configure(&output(&format!("127.0.0.1:{}", broker.plain), topic, more))?;
    let child = stage.follow()?;
    stage.write(100)?;
    let count = |broker: &Broker| broker.read(topic, "%s\n").map(|all| all.lines().count()).unwrap_or(0);
    wait::until("the first lines", crate::stage::LIMIT, || Ok((count(broker) >= 100).then_some(())))?;
    stage.write(3 * LINES)?;
    // Some of it is there, and it is in the middle of more.
    wait::until("more lines", crate::stage::LIMIT, || Ok((count(broker) > 200).then_some(())))?;
    let before = stage.log().len();
    broker.stop(hard)?;
    // These can't be there before it is back.
    stage.write(LINES)?;
    let new = |stage: &Stage<'_>| stage.log().get(before..).is_some_and(|new| new.contains("trying again"));
    wait::until("Pillion to notice", crate::stage::LIMIT, || Ok(new(stage).then_some(())))?;
    broker.start_again()?;
    stage.flag()?;
    stage.complete(child)?;
    once(stage, broker, topic)?;
    Ok(format!("{} lines, each once", stage.lines.len()))
}

/// The leaders of partitions move between two brokers, in each way, while events come: with `idempotent` each is there once.
fn leaders(stage: &mut Stage<'_>, broker: &Broker) -> Outcome<String> {
    const TOPIC: &str = "leaders";
    let mut pair = Pair::start(broker)?;
    pair.create(TOPIC)?;
    let more = "  idempotent: true\n  bulk_max_size: 20\n  timeout: 5s\n  partition.random.group_events: 3\n";
    let hosts = format!("127.0.0.1:{}', '127.0.0.1:{}", pair.ports[0], pair.ports[1]);
    stage.configure(&output(&hosts, TOPIC, more))?;
    let child = stage.follow()?;
    for (which, signal) in [(2, Signal::TERM), (1, Signal::TERM), (1, Signal::STOP), (2, Signal::KILL)] {
        // Some of it is there, and it is in the middle of more.
        let count = |pair: &Pair<'_>| pair.read(TOPIC).map(|all| all.lines().count()).unwrap_or(0);
        let before = stage.lines.len();
        stage.write(LINES)?;
        wait::until("lines", crate::stage::LIMIT, || Ok((count(&pair) > before + 20).then_some(())))?;
        pair.strike(which, signal, TOPIC)?;
        stage.write(LINES)?;
        pair.heal(which, TOPIC)?;
    }
    stage.flag()?;
    stage.complete(child)?;
    match stage.compare(&pair.read(TOPIC)?)? {
        0 => Ok(format!("{} lines, each once", stage.lines.len())),
        again => Err(format!("{again} events came again")),
    }
}
