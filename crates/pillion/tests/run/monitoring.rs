//! What a run says of itself: the HTTP endpoint, by port and by socket, and the line of metrics.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Endpoint, Job, LIMIT, Running, dead_port, wait_for};

/// With the endpoint at a free port.
pub(crate) const AT_ANY_PORT: [&str; 4] = ["-E", "http.enabled=true", "-E", "http.port=0"];

/// Where it says that it listens.
pub(crate) fn port(run: &Running) -> SocketAddr {
    let said = "Metrics endpoint listening on: ";
    wait_for(said, || run.err().split_once(said)?.1.split_once(' ')?.0.parse().ok())
}

/// The answer's code and body.
pub(crate) fn get(at: SocketAddr, path: &str) -> (u16, String) {
    ask(TcpStream::connect(at).unwrap(), path)
}

fn ask(mut stream: impl std::io::Read + std::io::Write, path: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: pillion\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn json(at: SocketAddr, path: &str) -> Value {
    let (code, body) = get(at, path);
    assert_eq!(code, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The value of a series without labels.
pub(crate) fn series(at: SocketAddr, name: &str) -> u64 {
    let (_, text) = get(at, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    assert!(line.is_some(), "no {name} in:\n{text}");
    line.unwrap().parse().unwrap()
}

#[test]
fn a_run_answers_until_it_ends() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    job.write("data/a.log", "one\ntwo\nthr");
    let mut run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    assert!(at.ip().is_loopback());
    endpoint.wait(2);
    // The unfinished line is what is left, and the cursor is behind the second.
    wait_for("the acknowledgement", || (json(at, "/backlog")["lag_bytes"] == 3).then_some(()));
    let backlog = json(at, "/backlog");
    assert_eq!(
        (&backlog["lag_files"], &backlog["unacknowledged_bytes"], &backlog["files"]),
        (&1.into(), &0.into(), &1.into())
    );
    assert_eq!(series(at, "pillion_backlog_bytes"), 3);
    let info = json(at, "/?pretty");
    assert_eq!((&info["beat"], info["uuid"].as_str().unwrap().len()), (&"filebeat".into(), 36));
    let state = json(at, "/state");
    assert_eq!(state["service"]["id"], info["uuid"]);
    assert!(state["host"]["os"]["kernel"].is_string() && state["queue"]["name"] == "mem", "{state}");
    let stats = json(at, "/stats");
    assert_eq!(stats["filebeat"]["events"], serde_json::json!({"active": 0, "added": 2, "done": 2}));
    assert_eq!(
        (&stats["libbeat"]["output"]["type"], &stats["libbeat"]["output"]["events"]["acked"]),
        (&"logstash".into(), &2.into())
    );
    assert_eq!(stats["registrar"]["states"]["current"], 1);
    assert!(stats["beat"]["memstats"]["rss"].as_u64().unwrap() > 1 << 20);
    let inputs = json(at, "/inputs/");
    assert_eq!(
        (&inputs[0]["id"], &inputs[0]["input"], &inputs[0]["events_acknowledged_total"]),
        (&"job".into(), &"filestream".into(), &2.into())
    );
    assert_eq!([get(at, "/healthz").0, get(at, "/readyz").0, get(at, "/other").0], [200, 200, 404]);
    run.signal(Signal::INT);
    run.ends_with(0);
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn a_target_that_is_away_shows_in_backlog_and_readiness() {
    let job = Job::new(dead_port());
    let run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    assert_eq!(get(at, "/readyz"), (200, "ok\n".into()), "there is nothing to send");
    job.write("data/a.log", "one\ntwo\n");
    job.write("data/b.log", "three\n");
    wait_for("the backlog", || (json(at, "/backlog")["lag_bytes"] == 14).then_some(()));
    let backlog = json(at, "/backlog");
    assert_eq!(
        (&backlog["lag_files"], &backlog["unread_bytes"], &backlog["unacknowledged_events"]),
        (&2.into(), &0.into(), &3.into())
    );
    let (code, why) = get(at, "/readyz");
    assert!(code == 503 && why.starts_with("the output logstash hasn't been reached yet"), "{code} {why}");
    assert_eq!((get(at, "/healthz").0, series(at, "pillion_ready"), series(at, "pillion_output_reached")), (200, 0, 0));
    let endpoint = Endpoint::at(target(&job));
    endpoint.wait(3);
    wait_for("the end of the backlog", || (json(at, "/backlog")["lag_files"] == 0).then_some(()));
    assert_eq!((json(at, "/backlog")["lag_bytes"].clone(), get(at, "/readyz").0), (0.into(), 200));
}

/// The endpoint that a job's configuration names.
fn target(job: &Job) -> SocketAddr {
    let text = job.read("filebeat.yml");
    text.split_once("hosts: ['").unwrap().1.split_once('\'').unwrap().0.parse().unwrap()
}

#[test]
fn what_the_queue_has_no_room_for_is_in_the_backlog_too() {
    let job = Job::new(dead_port());
    let text: String = (0..5000).map(|n| format!("line {n:05}\n")).collect();
    for name in ["a", "b", "c"] {
        job.write(&format!("data/{name}.log"), &text);
    }
    let run = job.start(&[&AT_ANY_PORT[..], &["-E", "queue.mem.events=64"]].concat());
    let at = port(&run);
    let all = 3 * text.len() as u64;
    wait_for("all of it", || (json(at, "/backlog")["lag_bytes"] == all).then_some(()));
    let backlog = json(at, "/backlog");
    assert!(backlog["unread_bytes"].as_u64().unwrap() > all / 2, "{backlog}");
    assert_eq!(backlog["lag_files"], 3);
    let endpoint = Endpoint::at(target(&job));
    endpoint.wait(15_000);
    wait_for("the end", || (json(at, "/backlog")["lag_bytes"] == 0).then_some(()));
    assert_eq!(json(at, "/backlog")["lag_files"], 0);
}

#[test]
fn what_an_earlier_run_has_acknowledged_is_no_backlog() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    job.write("data/a.log", "one\ntwo\n");
    job.start(&["--once"]).ends_with(0);
    drop(endpoint);
    let run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    wait_for("the file", || (json(at, "/backlog")["files"] == 1).then_some(()));
    assert_eq!(json(at, "/backlog")["lag_bytes"], 0);
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_place_and_remedy() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let job = Job::new(dead_port());
    let config = job.read("filebeat.yml");
    job.write(
        "filebeat.yml",
        &format!("http.enabled: true\nhttp.port: {}\n{config}", holder.local_addr().unwrap().port()),
    );
    let mut run = job.start::<&str>(&[]);
    run.ends_with(1);
    let said = run.err();
    for part in ["could not start the HTTP server for the API", "filebeat.yml:2:", "give each its own http.port"] {
        assert!(said.contains(part), "{part} in:\n{said}");
    }
}

#[test]
fn a_socket_is_made_and_taken_away() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    let path = job.path("http.sock");
    let host = format!("http.host=unix://{}", path.display());
    let mut run = job.start(&["-E", "http.enabled=true", "-E", &host]);
    run.says("Metrics endpoint listening on: unix://");
    assert_eq!(ask(UnixStream::connect(&path).unwrap(), "/healthz").0, 200);
    let second = Job::new(endpoint.address);
    let mut other = second.start(&["-E", "http.enabled=true", "-E", &host]);
    other.ends_with(1);
    assert!(other.err().contains("give each a socket of its own"), "{}", other.err());
    // One that is killed leaves its socket behind, and the next takes it.
    run.signal(Signal::KILL);
    run.status();
    assert!(path.exists());
    let mut next = job.start(&["-E", "http.enabled=true", "-E", &host]);
    next.says("Metrics endpoint listening on: unix://");
    assert_eq!(ask(UnixStream::connect(&path).unwrap(), "/healthz").0, 200);
    next.signal(Signal::INT);
    next.ends_with(0);
    assert!(!path.exists());
}

#[test]
fn hostile_clients_hold_nothing_up() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    let mut run = job.start(&AT_ANY_PORT);
    let at = port(&run);
    let mut hostile = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        // Whoever was closed for a later one gets an error: that is its end.
        let _ = match n % 5 {
            0 => stream.write_all(b"GET /stats HTTP/1.1\r\nslow: "),
            1 => stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
            2 => stream.write_all("GET / HTTP/1.1\r\nhuge: ".repeat(1000).as_bytes()),
            3 => stream.write_all(b"POST /stats HTTP/1.1\r\ncontent-length: 1000000000\r\n\r\nxxx"),
            _ => Ok(()),
        };
        hostile.push(stream);
    }
    let began = Instant::now();
    assert_eq!(get(at, "/healthz"), (200, "ok\n".into()));
    job.write("data/a.log", "one\n");
    endpoint.wait(1);
    wait_for("the acknowledgement", || (json(at, "/stats")["libbeat"]["output"]["events"]["acked"] == 1).then_some(()));
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    let open = json(at, "/stats")["beat"]["handles"]["open"].as_u64().unwrap();
    assert!(open < 100, "{open} descriptors are open");
    run.signal(Signal::INT);
    run.ends_with(0);
    drop(hostile);
}

#[test]
fn the_line_of_metrics_has_filebeats_names() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    job.write("data/a.log", "one\ntwo\n");
    let period = ["-E", "logging.metrics.period=1s"];
    let run = job.start(&period);
    let line = wait_for("the line", || {
        let said = run.err();
        let line =
            said.lines().find(|l| l.contains("\"Non-zero metrics in the last 1s\"") && l.contains("\"added\":2"))?;
        serde_json::from_str::<Value>(line).ok()
    });
    let metrics = &line["monitoring"]["metrics"];
    assert_eq!((&line["log.logger"], &metrics["filebeat"]["events"]["added"]), (&"monitoring".into(), &2.into()));
    assert!(metrics["beat"]["info"]["uptime"]["ms"].as_u64().unwrap() > 0);
    drop(run);
    let run = job.start(&[&period[..], &["-E", "pillion.compat=7"]].concat());
    wait_for("the line of 7", || {
        run.err().contains("\tNon-zero metrics in the last 1s\t{\"monitoring\": {\"metrics\":").then_some(())
    });
    drop(run);
    // Without it, and without the endpoint, there is neither.
    let mut run = job.start(&["--once", "-E", "logging.metrics.enabled=false"]);
    run.ends_with(0);
    assert!(!run.err().contains("etrics"), "{}", run.err());
}
