//! Pillion's Lumberjack output against go-lumber's server: settings, slowness, a wrong authority, a host that goes away.
//!
//! Comes in: perhaps which case. Goes out: a line for each case that says what was compared.
//! Always holds: every line arrives; what comes twice has the same id; where Pillion can't ship, it says why and its
//! receipt is incomplete, and the next run ships all. The server's other troubles are in `endpoints/lumber.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::args::Args;
use crate::child::Child;
use crate::endpoints::lumber::{certificates, compare};
use crate::peer::{Score, tail};
use crate::shipper::{Place, Shipper, input};
use crate::{Outcome, filebeat, job, wait};

const LIMIT: Duration = Duration::from_secs(60);
const LINES: usize = 5000;

/// A case of one server: its name, the server's flags, the output's options.
const CASES: [(&str, &[&str], &str); 7] = [
    ("pipelining-0", &["-lose-ack-every", "7"], "  pipelining: 0\n"),
    ("pipelining-2", &["-drop-every", "6"], "  pipelining: 2\n"),
    ("pipelining-5", &["-lose-ack-every", "9", "-drop-every", "10"], "  pipelining: 5\n"),
    ("compression-0", &[], "  compression_level: 0\n"),
    ("compression-9", &["-drop-every", "9"], "  compression_level: 9\n"),
    // Only the keep-alives say that the server lives: each acknowledgement takes twice the timeout.
    ("ack-after-timeout", &["-delay-ack", "2s", "-keepalive", "200ms"], "  timeout: 1s\n  bulk_max_size: 2048\n"),
    ("slow-start", &["-lose-ack-every", "8"], "  slow_start: true\n"),
];

/// `--case NAME`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let mut score = Score::new(args.value("--case")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    for (name, flags, options) in CASES {
        score.case(name, || at(&shipper, |stage| one(stage, flags, options)));
    }
    score.case("wrong-authority", || at(&shipper, wrong_authority));
    for (name, loadbalance) in [("failover", false), ("loadbalance", true)] {
        score.case(name, || at(&shipper, |stage| two_hosts(stage, loadbalance)));
    }
    score.end()
}

/// A place with lines to ship.
struct Stage<'a> {
    shipper: &'a Shipper,
    place: Place,
    lines: Vec<String>,
}

fn at(shipper: &Shipper, run: impl FnOnce(&Stage<'_>) -> Outcome<String>) -> Outcome<String> {
    let (place, lines) = (Place::new()?, job::lines(0, LINES, 120));
    for (i, part) in lines.chunks(LINES / 4).enumerate() {
        job::append(&place.logs().join(format!("{i}.log")), part)?;
    }
    let stage = Stage { shipper, place, lines };
    run(&stage)
        .map_err(|why| format!("{why}; {}; its place: {}", tail(&stage.place.log()), stage.place.keep().display()))
}

/// A server that listens.
struct Server {
    child: Child,
    port: u16,
    out: PathBuf,
}

impl Stage<'_> {
    fn path(&self, name: &str) -> String {
        self.place.folder().join(name).display().to_string()
    }

    fn serve(&self, name: &str, flags: &[&str]) -> Outcome<Server> {
        let log = self.place.folder().join(format!("{name}.log"));
        let out = self.place.folder().join(format!("{name}.ndjson"));
        let mut command = Command::new(filebeat::go_program("golumber")?);
        let child = Child::start(command.arg("serve").arg("-out").arg(&out).args(flags), &log)?;
        let port = wait::until("go-lumber to listen", LIMIT, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            Ok(text.lines().find_map(|l| l.strip_prefix("listening on ")?.rsplit(':').next()?.parse::<u16>().ok()))
        })?;
        Ok(Server { child, port, out })
    }

    fn configure(&self, hosts: &[String], options: &str) -> Outcome {
        let size = if options.contains("bulk_max_size") { "" } else { "  bulk_max_size: 100\n" };
        self.place.configure(&format!(
            "{}output.logstash:\n  hosts: [{}]\n  backoff: {{init: 50ms, max: 500ms}}\n{size}{options}pillion.exactly_once: true\n",
            input(&self.place, "filestream"),
            hosts.join(", ")
        ))
    }

    fn start(&self, more: &[&str]) -> Outcome<Child> {
        Child::start(self.shipper.command(&self.place).arg("--once").args(more), &self.place.log())
    }

    fn complete(&self, mut child: Child) -> Outcome {
        let status = child.wait(LIMIT)?.status;
        if status.code() == Some(0) { Ok(()) } else { Err(format!("Pillion: {status}")) }
    }

    /// Compares what all servers have; returns how many events came again.
    fn compare(&self, servers: &[&Server]) -> Outcome<usize> {
        let all: String = servers.iter().map(|s| fs::read_to_string(&s.out).unwrap_or_default()).collect();
        compare(&self.lines, &all)?;
        Ok(all.lines().count() - self.lines.len())
    }
}

fn one(stage: &Stage<'_>, flags: &[&str], options: &str) -> Outcome<String> {
    let server = stage.serve("server", flags)?;
    stage.configure(&[format!("'127.0.0.1:{}'", server.port)], options)?;
    stage.complete(stage.start(&[])?)?;
    let again = stage.compare(&[&server])?;
    // Without lost acknowledgements and dropped connections there is no reason to send anything twice.
    if again > 0 && !flags.iter().any(|f| f.starts_with("-drop") || f.starts_with("-lose")) {
        return Err(format!("{again} events came again"));
    }
    Ok(format!("{LINES} lines, all there, {again} came again with the same id"))
}

/// A certificate of a stranger: nothing is shipped, the reason is told; with the right authority all is.
fn wrong_authority(stage: &Stage<'_>) -> Outcome<String> {
    let stranger = Place::new()?;
    let (ca, wrong) = (certificates(&stage.place)?, certificates(&stranger)?);
    let (cert, key) = (stage.path("server.pem"), stage.path("server.key"));
    let server = stage.serve("server", &["-tls-cert", &cert, "-tls-key", &key])?;
    let hosts = [format!("'localhost:{}'", server.port)];
    let authority = |ca: &PathBuf| format!("  ssl.certificate_authorities: ['{}']\n", ca.display());
    stage.configure(&hosts, &authority(&wrong))?;
    let status = stage.start(&["--drain-timeout", "2s"])?.wait(LIMIT)?.status;
    if status.code() != Some(3) {
        return Err(format!("with a wrong authority Pillion ended with {status}, not 3"));
    }
    let log = fs::read_to_string(stage.place.log()).map_err(|e| e.to_string())?;
    let told = log.lines().find(|l| l.contains("certificate") && l.contains(&server.port.to_string()));
    let told = told.ok_or("the log doesn't name host and certificate")?;
    let told = told.split_once("\"message\":").map_or(told, |(_, message)| message).to_owned();
    if fs::metadata(&server.out).is_ok_and(|m| m.len() > 0) {
        return Err("events reached a server that isn't trusted".into());
    }
    stage.configure(&hosts, &authority(&ca))?;
    stage.complete(stage.start(&[])?)?;
    stage.compare(&[&server])?;
    Ok(format!("exit code 3 and `{:.160}`, then {LINES} lines with the right authority", told.trim()))
}

/// Two servers, of which the one that gets events goes away in mid-shipment.
fn two_hosts(stage: &Stage<'_>, loadbalance: bool) -> Outcome<String> {
    let slow = ["-delay-ack", "20ms"];
    let mut servers = [stage.serve("first", &slow)?, stage.serve("second", &slow)?];
    let hosts = [0, 1].map(|i: usize| format!("'127.0.0.1:{}'", servers[i].port));
    stage.configure(&hosts, &format!("  loadbalance: {loadbalance}\n"))?;
    let child = stage.start(&[])?;
    let has = |s: &Server| fs::read_to_string(&s.out).unwrap_or_default().lines().count();
    let busy = wait::until("a part at a server", LIMIT, || {
        let counts = [has(&servers[0]), has(&servers[1])];
        let enough = if loadbalance { counts.iter().all(|&n| n >= 300) } else { counts.iter().any(|&n| n >= 300) };
        Ok(enough.then_some(usize::from(counts[1] > counts[0])))
    })?;
    servers[busy].child.signal(Signal::KILL);
    servers[busy].child.wait(LIMIT)?;
    let left = has(&servers[busy]);
    if left >= LINES {
        return Err("all had arrived before the server went away: nothing is shown".into());
    }
    stage.complete(child)?;
    let again = stage.compare(&[&servers[0], &servers[1]])?;
    let other = has(&servers[1 - busy]);
    Ok(format!("{LINES} lines, all there: {left} at the one that went away, {other} at the other, {again} came again"))
}
