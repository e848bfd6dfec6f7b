//! Inputs of further files (`filebeat.config.inputs`): read at the start, and while they change.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Endpoint, Job, Running, dead_port, wait_for};
use crate::monitoring::{AT_ANY_PORT, json, port, series};

/// Looked at as often as a test wants it.
const RELOAD: &str = "  reload: {enabled: true, period: 30ms}\n";

/// A job whose configuration names `inputs.d/*.yml`, with this added below the option.
fn job(endpoint: &Endpoint, more: &str) -> Job {
    let job = Job::new(endpoint.address);
    let config = job.read("filebeat.yml");
    job.write("filebeat.yml", &format!("{config}filebeat.config.inputs:\n  path: inputs.d/*.yml\n{more}"));
    for folder in ["inputs.d", "more"] {
        std::fs::create_dir(job.path(folder)).unwrap();
    }
    job
}

/// One input that reads `more/NAME*`.
fn input(job: &Job, name: &str) -> String {
    format!("- type: filestream\n  id: {name}\n  paths: ['{}/{name}*']\n", job.path("more").display())
}

#[test]
fn inputs_of_further_files_are_read_beside_those_of_the_main_one() {
    let endpoint = Endpoint::start();
    let job = job(&endpoint, "");
    job.write("inputs.d/a.yml", &input(&job, "a"));
    job.write("inputs.d/b.yml", &input(&job, "b"));
    job.write("inputs.d/c.yml.off", &input(&job, "c"));
    for (file, line) in [("data/x.log", "main\n"), ("more/a", "of a\n"), ("more/b", "of b\n"), ("more/c", "of c\n")] {
        job.write(file, line);
    }
    job.start(&["test", "config"]).ends_with(0);
    job.start(&["--once"]).ends_with(0);
    let mut lines = endpoint.messages();
    lines.sort();
    assert_eq!(lines, ["main", "of a", "of b"]);
    assert_eq!(job.receipt()["verdict"], "complete");
}

#[test]
fn a_further_file_that_is_wrong_is_refused_with_its_place() {
    let job = job(&Endpoint::start(), "");
    job.write("inputs.d/a.yml", &input(&job, "a"));
    job.write("inputs.d/b.yml", &input(&job, "b").replace("id: b", "id: a"));
    for args in [&["test", "config"][..], &["run", "--once"]] {
        let mut ran = job.start(args);
        ran.ends_with(2);
        assert!(
            ran.err().contains("inputs.d/b.yml:2:7: filebeat.inputs.0.id: another filestream input"),
            "{}",
            ran.err()
        );
    }
    std::fs::set_permissions(job.path("inputs.d/a.yml"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let mut ran = job.start(&["test", "config"]);
    ran.ends_with(2);
    assert!(ran.err().contains("a.yml\") can only be writable by the owner"), "{}", ran.err());
}

/// A module that is switched on and off while others are read; its events say what it is.
#[test]
fn modules_come_and_go() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    let config = job.read("filebeat.yml");
    job.write("filebeat.yml", &format!("{config}filebeat.config.modules:\n  path: modules.d/*.yml\n{RELOAD}"));
    for folder in ["modules.d", "more"] {
        std::fs::create_dir(job.path(folder)).unwrap();
    }
    let paths = job.path("more").display().to_string();
    let nginx = format!("- module: nginx\n  access:\n    var.paths: ['{paths}/access*']\n  error.enabled: false\n");
    let off = job.write("modules.d/nginx.yml.disabled", &nginx);
    let on = job.path("modules.d/nginx.yml");
    let mut run = job.start::<&str>(&[]);
    run.says("started; ");
    append(&job, "more/access.log", "GET /1\n");
    std::fs::rename(&off, &on).unwrap();
    endpoint.wait(1);
    let event = endpoint.events().remove(0);
    for (pointer, want) in [
        ("/@metadata/pipeline", "filebeat-8.19.14-nginx-access-pipeline"),
        ("/event/module", "nginx"),
        ("/event/dataset", "nginx.access"),
        ("/fileset/name", "access"),
        ("/service/type", "nginx"),
        ("/ecs/version", "1.12.0"),
        ("/input/type", "log"),
    ] {
        assert_eq!(event.pointer(pointer).and_then(Value::as_str), Some(want), "{pointer}: {event}");
    }
    assert!(event.pointer("/event/timezone").is_some(), "{event}");
    std::fs::rename(&on, &off).unwrap();
    changed(&run, 2);
    append(&job, "more/access.log", "GET /2\n");
    append(&job, "data/x.log", "main\n");
    endpoint.wait(2);
    std::fs::rename(&off, &on).unwrap();
    endpoint.wait(3);
    run.signal(Signal::INT);
    run.ends_with(0);
    let mut lines = endpoint.messages();
    lines.sort();
    assert_eq!(lines, ["GET /1", "GET /2", "main"]);
}

#[test]
fn looks_at_files_of_inputs_are_counted() {
    let endpoint = Endpoint::start();
    let job = job(&endpoint, RELOAD);
    put(&job, "a.yml", &input(&job, "a"));
    let run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    let count = |name: &str| json(at, "/stats")["libbeat"]["config"][name].as_u64().unwrap_or_default();
    wait_for("some looks", || (count("scans") > 2).then_some(()));
    assert_eq!(count("reloads"), 0);
    put(&job, "a.yml", &input(&job, "b"));
    changed(&run, 1);
    wait_for("the change", || (count("reloads") == 1).then_some(()));
}

/// Puts a file into `inputs.d` as whoever cares does: it is whole from the first moment on.
fn put(job: &Job, name: &str, text: &str) {
    let whole = job.write("whole", text);
    std::fs::rename(whole, job.path("inputs.d").join(name)).unwrap();
}

/// Adds to a file of `more` or `data`.
fn append(job: &Job, name: &str, text: &str) {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(job.path(name));
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// Waits until it has said so often that a file has changed.
fn changed(run: &Running, times: usize) {
    wait_for("a change", || (run.err().matches("a file of inputs has changed").count() >= times).then_some(()));
}

/// The tags of the event with this message.
fn tags(endpoint: &Endpoint, message: &str) -> Value {
    wait_for(message, || endpoint.events().iter().find(|e| e["message"] == message).map(|e| e["tags"].clone()))
}

#[test]
fn inputs_come_change_break_and_go_while_others_are_read() {
    let endpoint = Endpoint::start();
    let job = job(&endpoint, RELOAD);
    append(&job, "data/a.log", "main 1\n");
    let mut run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    endpoint.wait(1);
    // It comes.
    append(&job, "more/x", "x 1\nunfin");
    put(&job, "x.yml", &input(&job, "x"));
    endpoint.wait(2);
    changed(&run, 1);
    let opened = series(at, "pillion_files_opened_total");
    // It changes: what comes then has the new tags, and no file is opened again, neither its own nor another's.
    put(&job, "x.yml", &format!("{}  tags: [changed]\n", input(&job, "x")));
    changed(&run, 2);
    append(&job, "more/x", "ished\n");
    append(&job, "data/a.log", "main 2\n");
    assert_eq!(tags(&endpoint, "unfinished"), serde_json::json!(["changed"]));
    endpoint.wait(4);
    assert_eq!(series(at, "pillion_files_opened_total"), opened);
    // It breaks: that is said once, and what there was goes on.
    put(&job, "x.yml", "- type: filestream\n  id: x\n  paths: [}\n");
    run.says("inputs.d/x.yml:3:");
    append(&job, "more/x", "x 3\n");
    assert_eq!(tags(&endpoint, "x 3"), serde_json::json!(["changed"]));
    // It goes.
    std::fs::remove_file(job.path("inputs.d/x.yml")).unwrap();
    changed(&run, 3);
    append(&job, "more/x", "x 4\n");
    append(&job, "data/a.log", "main 3\n");
    endpoint.wait(6);
    assert_eq!(run.err().matches("inputs.d/x.yml:3:").count(), 1);
    assert_eq!(series(at, "pillion_files_opened_total"), opened);
    // It comes back, and goes on where it stopped.
    put(&job, "y.yml", &input(&job, "x"));
    endpoint.wait(7);
    append(&job, "more/x", "x 5");
    let inputs = json(at, "/inputs/");
    let events: Vec<_> =
        inputs.as_array().unwrap().iter().map(|i| (i["id"].as_str(), i["events_processed_total"].as_u64())).collect();
    assert!(events.contains(&(Some("x"), Some(4))) && events.contains(&(Some("job"), Some(3))), "{inputs}");
    run.signal(Signal::INT);
    run.ends_with(0);
    let mut lines = endpoint.messages();
    lines.sort();
    assert_eq!(lines, ["main 1", "main 2", "main 3", "unfinished", "x 1", "x 3", "x 4", "x 5"]);
    let receipt = job.receipt();
    assert_eq!((&receipt["verdict"], &receipt["totals"]["acknowledged"]), (&"complete".into(), &8.into()));
}

#[test]
fn nothing_is_lost_or_doubled_however_often_an_input_changes_under_load() {
    let endpoint = Endpoint::start();
    changes_under_load(&job(&endpoint, RELOAD), &endpoint);
}

#[test]
fn nor_is_it_with_ids() {
    let endpoint = Endpoint::bulk();
    let job = job(&endpoint, RELOAD);
    let config = job.read("filebeat.yml").replace(
        &format!("output.logstash:\n  hosts: ['{}']\n", endpoint.address),
        &format!("output.elasticsearch.hosts: ['{}']\npillion.exactly_once: true\nsetup.template.enabled: false\nsetup.ilm.enabled: false\n", endpoint.address),
    );
    job.write("filebeat.yml", &config);
    changes_under_load(&job, &endpoint);
    let ids: std::collections::HashSet<_> =
        endpoint.events().iter().map(|e| e["_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), endpoint.events().len());
}

fn changes_under_load(job: &Job, endpoint: &Endpoint) {
    let mut run = job.start::<&str>(&[]);
    run.says("started; ");
    let mut want = Vec::new();
    for round in 0..40 {
        for line in 0..50 {
            let text = format!("{round}-{line}");
            append(job, &format!("more/x{}", line % 3), &format!("{text}\n"));
            want.push(text);
        }
        match round % 4 {
            3 => std::fs::remove_file(job.path("inputs.d/x.yml")).unwrap(),
            _ => put(job, "x.yml", &format!("{}  tags: ['{round}']\n", input(job, "x"))),
        }
        if round % 2 == 0 {
            changed(&run, 1 + round / 4);
        }
    }
    put(job, "x.yml", &input(job, "x"));
    endpoint.wait(want.len());
    run.signal(Signal::INT);
    run.ends_with(0);
    assert_eq!(job.receipt()["totals"]["acknowledged"], want.len());
    assert!(job.receipt()["totals"]["duplicates"].as_u64().is_none_or(|n| n == 0), "{}", job.receipt()["totals"]);
    let mut lines = endpoint.messages();
    lines.sort();
    want.sort();
    assert_eq!(lines, want);
}

#[test]
fn sockets_come_change_and_go() {
    let endpoint = Endpoint::start();
    let job = job(&endpoint, RELOAD);
    let mut run = job.start::<&str>(&[]);
    let (tcp, udp): (SocketAddr, _) = (dead_port(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let at_udp = udp.local_addr().unwrap();
    drop(udp);
    let socket = job.path("app.sock");
    let inputs = |tag: &str| {
        format!(
            "- {{type: tcp, host: '{tcp}', tags: [{tag}]}}\n- {{type: udp, host: '{at_udp}', tags: [{tag}]}}\n\
             - {{type: unix, path: '{}', socket_type: datagram, tags: [{tag}]}}\n",
            socket.display()
        )
    };
    let send = |what: &str| {
        let mut peer = wait_for("the port", || TcpStream::connect(tcp).ok());
        peer.write_all(format!("tcp {what}\n").as_bytes()).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(format!("udp {what}").as_bytes(), at_udp).unwrap();
        let unix = UnixDatagram::unbound().unwrap();
        wait_for("the socket", || unix.send_to(format!("unix {what}").as_bytes(), &socket).ok());
        peer
    };
    put(&job, "x.yml", &inputs("one"));
    wait_for("three sockets", || (run.err().matches(": listening").count() == 3).then_some(()));
    let mut first = send("1");
    for kind in ["tcp 1", "udp 1", "unix 1"] {
        assert_eq!(tags(&endpoint, kind), serde_json::json!(["one"]));
    }
    // They change: whoever is connected is told to end, and what it has sent is read.
    first.write_all(b"the last").unwrap();
    put(&job, "x.yml", &inputs("two"));
    wait_for("three more sockets", || (run.err().matches(": listening").count() == 6).then_some(()));
    assert_eq!(tags(&endpoint, "the last"), serde_json::json!(["one"]));
    drop(send("2"));
    for kind in ["tcp 2", "udp 2", "unix 2"] {
        assert_eq!(tags(&endpoint, kind), serde_json::json!(["two"]));
    }
    // They go. A port that somebody else has is taken as soon as it is free.
    std::fs::remove_file(job.path("inputs.d/x.yml")).unwrap();
    let taken = wait_for("the free port", || std::net::TcpListener::bind(tcp).ok());
    wait_for("no socket", || (!socket.exists()).then_some(()));
    put(&job, "x.yml", &inputs("three"));
    run.says("an input can't begin: it is tried again");
    drop(taken);
    wait_for("again three sockets", || (run.err().matches(": listening").count() == 9).then_some(()));
    drop(send("3"));
    assert_eq!(tags(&endpoint, "tcp 3"), serde_json::json!(["three"]));
    endpoint.wait(10);
    run.signal(Signal::INT);
    run.ends_with(0);
    assert_eq!(endpoint.events().len(), 10);
    assert_eq!(job.receipt()["totals"]["acknowledged"], 10);
    assert_eq!(run.err().matches("it is tried again").count(), 1);
}

#[test]
fn with_reload_a_wrong_file_holds_up_no_other_and_test_config_refuses_it() {
    let endpoint = Endpoint::start();
    let job = job(&endpoint, RELOAD);
    put(&job, "a.yml", &input(&job, "a"));
    put(&job, "b.yml", "- type: nothing\n");
    append(&job, "more/a", "of a\n");
    let mut tested = job.start(&["test", "config"]);
    tested.ends_with(2);
    assert!(tested.err().contains("inputs.d/b.yml:1:9"), "{}", tested.err());
    job.start(&["--once"]).ends_with(0);
    assert_eq!(endpoint.messages(), ["of a"]);
    let mut refused = job.start(&["-E", "pillion.registry.beside_logs=true"]);
    refused.ends_with(2);
    assert!(refused.err().contains("can't be used with pillion.registry.beside_logs"), "{}", refused.err());
}
