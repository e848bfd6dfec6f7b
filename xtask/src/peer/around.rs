//! Processors that look at what is around: the machine, processes, a Docker daemon; and those that count.
//!
//! Comes in: nothing but the cases below. Goes out: the verdict: both run on the same machine.
//! Always holds: the Docker daemon is one of our own that knows one container; it and the process that is looked at are there until
//! both programs have ended.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::cases::{Case, NUMBERED, log};
use super::{Pair, Version, differential};
use crate::Outcome;

/// A container's id, which is its folder's name too.
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const LIST: &str = r#"[{"Id":"ID","Names":["/web-1"],"Image":"nginx:1.27","ImageID":"sha256:1","Command":"x","Created":1700000000,"Ports":[],"Labels":{"com.docker.compose.project":"shop","a":"1","b.c":"2"},"State":"running","Status":"Up","HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}}},"Mounts":[]}]"#;
const ONE: &str = r#"{"Id":"ID","Created":"2023-11-14T22:13:20Z","Path":"x","Args":[],"State":{"Status":"running","Running":true},"Image":"sha256:1","Name":"/web-1","Config":{"Hostname":"h","Image":"nginx:1.27","Labels":{"com.docker.compose.project":"shop","a":"1","b.c":"2"}},"NetworkSettings":{"Networks":{}}}"#;

/// What needs nobody else.
const AROUND: &[Case] = &[
    log("around-host", "processors: [{add_host_metadata: ~}]", &[("a.log", b"one\n")]),
    log("around-host-bare", "processors: [{add_host_metadata: {netinfo.enabled: false}}]", &[("a.log", b"one\n")]),
    log(
        "around-host-geo",
        "processors: [{add_host_metadata: {netinfo.enabled: false, name: n, geo: {name: g, location: '1.5, 2', \
         continent_name: c, country_iso_code: d, region_name: r, region_iso_code: s, city_name: t}}}]",
        &[("a.log", b"one\n")],
    ),
    log(
        "around-host-kept",
        "processors: [{add_fields: {target: host, fields: {own: 1, os: {own: 2}}}}, {add_host_metadata: {netinfo.enabled: false, \
         replace_fields: false}}]",
        &[("a.log", b"one\n")],
    ),
    log("around-observer", "processors: [{add_observer_metadata: ~}]", &[("a.log", b"one\n")]),
    log(
        "around-observer-net",
        "processors: [{add_observer_metadata: {netinfo.enabled: true, geo.name: g}}]",
        &[("a.log", b"one\n")],
    ),
    log("around-limit", "processors: [{rate_limit: {limit: 3/h}}]", &[("a.log", NUMBERED)]),
    log(
        "around-limit-burst",
        "processors: [{rate_limit: {limit: 2/h, algorithm.token_bucket.burst_multiplier: 2}}]",
        &[("a.log", NUMBERED)],
    ),
    log(
        "around-limit-field",
        "processors: [{dissect: {tokenizer: '%{k} %{v}', target_prefix: ''}}, {rate_limit: {limit: 1/h, fields: [k]}}]",
        &[("a.log", b"a 1\na 2\nb 1\nc\nb 2\nc\na 3\n")],
    ),
    log("around-drop", "processors: [{drop_event.when.equals.message: '3'}]", &[("a.log", NUMBERED)]),
    log("around-locale", "processors: [{add_locale: ~}]", &[("a.log", b"one\n")]),
    log(
        "around-cloud",
        "processors: [{add_cloud_metadata: {timeout: 100ms, host: '127.0.0.1:1'}}]",
        &[("a.log", b"one\n")],
    ),
    log(
        "around-no-docker",
        "processors: [{add_docker_metadata: {host: 'unix:///nowhere/docker.sock'}}]",
        &[("a.log", b"one\n")],
    ),
];

/// Both programs side by side.
pub(super) fn compare(pair: &Pair) -> Outcome<String> {
    let daemon = daemon()?;
    let mut cases: Vec<Case> = AROUND.iter().map(|case| Case { ..*case }).collect();
    let pid = std::process::id();
    cases.extend(processes(pair.version, pid));
    let said = differential::same(pair, &cases)?.0;
    // Its daemon is asked from the start of a process on: alone, so that the others are as without one.
    let said_of_docker = differential::same(pair, &docker(daemon))?.0;
    Ok(format!("{said}; {said_of_docker}"))
}

/// This process, as events name it.
fn processes(version: Version, pid: u32) -> Vec<Case> {
    let named =
        format!("{{add_fields: {{target: '', fields: {{p: {{id: {pid}, text: '{pid}', none: 4194305, odd: x}}}}}}}}");
    // 9 has no other names than these for them.
    let fields = "include_fields: [process.name, process.title, process.executable, process.args, process.pid, \
                  process.parent.pid, process.start_time]";
    let mut all: Vec<(&str, String)> = vec![
        ("around-process", format!("match_pids: [p.id], target: x, {fields}")),
        ("around-process-text", format!("match_pids: [p.text], target: x.y, {fields}")),
        ("around-process-none", format!("match_pids: [p.none], target: x, {fields}")),
        ("around-process-odd", format!("match_pids: [p.odd], target: x, {fields}")),
        ("around-process-missing", format!("match_pids: [q], target: x, ignore_missing: true, {fields}")),
        (
            "around-process-there",
            "match_pids: [p.id], target: p, include_fields: [process.name, process.pid]".to_owned(),
        ),
        ("around-process-parent", "match_pids: [p.id], include_fields: [process.parent.pid]".to_owned()),
    ];
    if version == Version::Nine {
        all.push((
            "around-process-owner",
            "match_pids: [p.id], include_fields: [process.owner.name, process.owner.id]".to_owned(),
        ));
    }
    all.into_iter()
        .map(|(name, options)| Case {
            options: format!("processors: [{named}, {{add_process_metadata: {{{options}}}}}]").leak(),
            ..log(name, "", &[("a.log", b"one\n")])
        })
        .collect()
}

fn docker(daemon: SocketAddr) -> Vec<Case> {
    let case = |name, before: &str, options: &str| Case {
        options: format!("processors: [{before}{{add_docker_metadata: {{host: 'tcp://{daemon}', {options}}}}}]").leak(),
        ..log(name, "", &[("a.log", b"one\n")])
    };
    let id = format!(
        "{{add_fields: {{target: '', fields: {{id: {CONTAINER}, short: {}, other: {}}}}}}}, ",
        &CONTAINER[..12],
        "f".repeat(64)
    );
    vec![
        // The folder's name stands behind /tmp, the place and its logs.
        case(CONTAINER, "", "match_source_index: 3"),
        case("around-docker-index", "", "match_source_index: 3"),
        case("around-docker-far", "", "match_source_index: 30"),
        case("around-docker-default", "", "labels.dedot: true"),
        case("around-docker-field", &id, "match_source: false, match_fields: [nope, id]"),
        case("around-docker-dots", &id, "match_source: false, match_fields: [id], labels.dedot: false"),
        case("around-docker-other", &id, "match_source: false, match_fields: [other, id]"),
        case("around-docker-short", &id, "match_source: false, match_fields: [short], match_short_id: true"),
        case("around-docker-long", &id, "match_source: false, match_fields: [short]"),
        case(
            "around-docker-own",
            &format!(
                "{id}{{add_fields: {{target: container, fields: {{own: 1, name: n, labels.a: x, labels.z: y}}}}}}, "
            ),
            "match_source: false, match_fields: [id]",
        ),
        case("around-docker-pids", "{add_fields: {target: process, fields: {pid: 4194305}}}, ", "match_source: false"),
    ]
}

/// A Docker daemon that knows one container, for as long as this process lives.
fn daemon() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("a Docker daemon: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(&stream));
        }
    });
    Ok(address)
}

/// Answers requests until the other side has gone.
fn serve(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut asked, mut line) = (String::new(), String::new());
        while reader.read_line(&mut line).is_ok_and(|size| size > 0) && line != "\r\n" {
            if asked.is_empty() {
                asked = line.clone();
            }
            line.clear();
        }
        let Some(path) = asked.split(' ').nth(1).map(|path| path.split('?').next().unwrap_or(path)) else { return };
        // Without the version of the API: `/v1.24/info`.
        let path = path.strip_prefix("/v1").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
        let known = |id: &str| CONTAINER.starts_with(id) && id.len() >= 12;
        let (status, body) = match path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")) {
            Some(id) if known(id) => ("200 OK", ONE.replace("ID", CONTAINER)),
            Some(_) => ("404 Not Found", r#"{"message":"No such container"}"#.to_owned()),
            None if path == "/containers/json" => ("200 OK", LIST.replace("ID", CONTAINER)),
            None if path == "/_ping" => ("200 OK", "OK".to_owned()),
            // Nothing happens for as long as somebody listens.
            None if path == "/events" => {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
                let _ = reader.read_line(&mut String::new());
                return;
            }
            None => ("200 OK", "{}".to_owned()),
        };
        let old = asked.trim_end().ends_with("HTTP/1.0");
        let head = format!(
            "HTTP/1.{} {status}\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            u8::from(!old),
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() || old {
            return;
        }
    }
}
