//! Prometheus' own check of metrics: `promtool check metrics`.
//!
//! Comes in: the text of a `/metrics`. Goes out: nothing, or what promtool has to say against it.
//! Always holds: without promtool it is an error, never a success: it is taken from `PATH`, else from Debian's package
//! `prometheus`, which is unpacked into the cache and not installed (installed, it would start a server).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::child::{self, Child};
use crate::shipper::{Place, Shipper};
use crate::{Outcome, cache, http, kubernetes, ports, wait};

const PACKAGE: &str = "prometheus";
const LIMIT: Duration = Duration::from_secs(20);

/// Checks this text; a warning of style fails too.
pub(crate) fn lint(text: &str) -> Outcome {
    let mut promtool = Command::new(path()?);
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().map_err(|e| format!("promtool: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, text.as_bytes()).map_err(|e| e.to_string())?;
    }
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    if out.status.success() && said.is_empty() { Ok(()) } else { Err(format!("promtool: {said}")) }
}

/// Fetches it now, for a network that leads nowhere.
pub(crate) fn ready() -> Outcome {
    path().map(drop)
}

fn path() -> Outcome<PathBuf> {
    if kubernetes::has("promtool") {
        return Ok("promtool".into());
    }
    let folder = cache::built("promtool", &[PACKAGE], |folder| {
        child::run(Command::new("apt-get").current_dir(folder).args(["download", "-q", PACKAGE]))?;
        let files = fs::read_dir(folder).map_err(|e| e.to_string())?.flatten().map(|e| e.path());
        let package = files.into_iter().find(|p| p.extension().is_some_and(|e| e == "deb")).ok_or("no package came")?;
        child::run(Command::new("dpkg-deb").current_dir(folder).arg("-x").arg(&package).arg("all"))?;
        let keep = || {
            fs::rename(folder.join("all/usr/bin/promtool"), folder.join("promtool"))?;
            fs::remove_dir_all(folder.join("all"))?;
            fs::remove_file(&package)
        };
        keep().map_err(|e| format!("{}: {e}", folder.display()))
    });
    let folder = folder.map_err(|why| format!("there is no promtool, and Debian's package isn't to be had: {why}"))?;
    Ok(folder.join("promtool"))
}

/// `cargo xtask e2e metrics`: what each endpoint of the executable gives, from the start.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let Some(odd) = words.first() {
        return Err(format!("what is {odd}?"));
    }
    if lint("pillion_odd_count 1\n").is_ok() {
        return Err("promtool has nothing against a counter without help and type".into());
    }
    for (name, text) in [("webhook", webhook()?), ("run", run_of_files()?)] {
        lint(&text)?;
        println!("ok      {name}: {} series", text.lines().filter(|l| !l.starts_with('#')).count());
    }
    Ok(())
}

/// The metrics of a run that has read a line and can't deliver it.
fn run_of_files() -> Outcome<String> {
    let (shipper, place) = (Shipper::named("pillion")?, Place::new()?);
    let (nobody, port) = (ports::free()?, ports::free()?);
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()));
    write(&place.logs().join("a.log"), "one\n")?;
    let inputs = format!("filebeat.inputs: [{{type: filestream, id: a, paths: ['{}/*.log']}}]", place.logs().display());
    let output = format!("output.logstash.hosts: ['127.0.0.1:{nobody}']\nhttp: {{enabled: true, port: {port}}}");
    write(&place.config(), &format!("{inputs}\n{output}\n"))?;
    let mut child = Child::start(&mut shipper.command(&place), &place.log())?;
    wait::until("the metrics of a run", LIMIT, || {
        if child.ended()?.is_some() {
            return Err(fs::read_to_string(place.log()).unwrap_or_default());
        }
        let Ok(answer) = http::request(port, "GET", "/metrics", b"") else { return Ok(None) };
        let text = String::from_utf8_lossy(&answer.good()?.body).into_owned();
        Ok(text.contains("\npillion_backlog_bytes 4\n").then_some(text))
    })
}

/// The metrics of a webhook that nobody has called yet: every series is there from the start.
fn webhook() -> Outcome<String> {
    let (shipper, place) = (Shipper::named("pillion")?, Place::new()?);
    certificate(place.folder())?;
    let (admission, status) = (ports::free()?, ports::free()?);
    let mut command = Command::new(&shipper.path);
    command.args(["webhook", "--api-server", "http://127.0.0.1:1", "--namespace", "own", "--cert-dir"]);
    command.arg(place.folder()).args(["--manage-ca-bundle=false", "--census=false"]);
    command.args(["--listen", &format!("127.0.0.1:{admission}"), "--status", &format!("127.0.0.1:{status}")]);
    let mut child = Child::start(&mut command, &place.log())?;
    wait::until("the webhook's metrics", LIMIT, || {
        if child.ended()?.is_some() {
            return Err(fs::read_to_string(place.log()).unwrap_or_default());
        }
        let Ok(answer) = http::request(status, "GET", "/metrics", b"") else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&answer.good()?.body).into_owned()))
    })
}

fn certificate(folder: &Path) -> Outcome {
    let made = rcgen::generate_simple_self_signed(["hook.own.svc".to_owned()]).map_err(|e| e.to_string())?;
    let write = |name: &str, text: String| fs::write(folder.join(name), text).map_err(|e| format!("{name}: {e}"));
    write("tls.crt", made.cert.pem())?;
    write("tls.key", made.signing_key.serialize_pem())
}
