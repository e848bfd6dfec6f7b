//! `add_docker_metadata`: the container's name, image and labels, asked of the Docker daemon (Beats 7.17 and 9.5,
//! `libbeat/processors/add_docker_metadata`).
//!
//! Comes in: events whose file's path, process or fields name a container. Goes out: the same with `container.*`.
//! Always holds: where there is no socket at the start nothing is ever added, and where no daemon answers nothing until it is asked
//! again after [`AGAIN`]; one that hangs holds reading for at most [`PATIENCE`] each time, and for at most a fifth of the time. Nothing but the id of a container, 64 or 12 hexadecimal digits, gets into
//! a request. What was known of a container holds on when it is removed; what is known is bounded.
//! Tested below with a daemon on a socket; `cargo xtask e2e differential --case docker` compares it with Filebeat.

mod daemon;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_world::{Mono, World};
use serde_json::{Map, Value, json};

use crate::action::{Action, Constant, Done};
use crate::doc::Doc;
use crate::generations::Generations;
use crate::kubernetes::named;
use crate::running::long_word;
use daemon::Daemon;

/// The options, by their first names.
pub(crate) const OPTIONS: &[&str] = &[
    "host",
    "ssl",
    "match_fields",
    "match_pids",
    "match_source",
    "match_source_index",
    "match_short_id",
    "labels",
    "cleanup_timeout",
    "hostfs",
    "system",
    "skip_older",
    "wait_for_metadata",
];

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When a daemon that didn't answer is asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// How long what is known of a container isn't asked again: it may be renamed.
const FRESH: Duration = Duration::from_secs(60);
/// How long a container that isn't there isn't asked for again.
const ABSENT: Duration = Duration::from_secs(2);
/// A daemon that takes longer than this for an answer gets a rest: asking it takes at most a fifth of the time.
const SLOW: Duration = Duration::from_millis(100);
/// Of how many containers something is known, and of how many processes.
const KNOWN: usize = 4096;
/// How long the container of a process is known, ms.
const PROCESS_MS: i64 = 300_000;
/// The largest list of control groups, bytes.
const CGROUPS: usize = 64 << 10;
/// The digits of an id, and of a short one.
const DIGITS: usize = 64;
const SHORT: usize = 12;

struct AddDockerMetadata {
    /// None: nobody can be asked at such an address.
    daemon: Option<Daemon>,
    fields: Vec<String>,
    pids: Vec<String>,
    /// Which part of a file's path is the container's id.
    source: Option<usize>,
    short: bool,
    dedot: bool,
    /// As 5 and 6: `docker.container.*`, with the image as a text.
    old: bool,
    host: PathBuf,
    world: World,
    state: Mutex<State>,
}

/// What is put into events of a container.
type Container = Arc<Map<String, Value>>;

/// From when on a container is asked for again, and what the daemon said.
type Known = (Mono, Option<Container>);

#[derive(Debug)]
struct State {
    /// Whether it has ever answered: until then events are left alone.
    found: bool,
    /// Whether it was said that it may not be asked.
    warned: bool,
    /// Before this it isn't asked: nobody was there, or it was slow.
    rests_until: Option<Mono>,
    /// Before this it isn't asked for what is known.
    fresh_until: Option<Mono>,
    containers: Generations<String, Known>,
    processes: Generations<u64, Option<String>>,
}

impl fmt::Debug for AddDockerMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddDockerMetadata").field("daemon", &self.daemon).finish_non_exhaustive()
    }
}

impl Action for AddDockerMetadata {
    /// Where there is no socket at the start nothing is ever added, as in Filebeat.
    fn constant(&self) -> Option<Constant> {
        self.daemon.is_none().then(Constant::default)
    }

    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| self.is_there(daemon)) else { return Ok(Done::Keep) };
        let mut id = None;
        if let (Some(index), Some(path)) = (self.source, doc.text(self.names().path)) {
            let Some(part) = part_of(&path, index) else { return Ok(Done::Keep) };
            doc.put(self.names().id, part.into())?;
            id = Some(part.to_owned());
        }
        if id.is_none()
            && let Some(of_process) = self.of_process(doc)
        {
            doc.put(self.names().id, of_process.clone().into())?;
            id = Some(of_process);
        }
        let id = id.or_else(|| self.fields.iter().find_map(|field| doc.text(field)));
        if let Some(container) = id.and_then(|id| self.container(daemon, id)) {
            doc.merge((*container).clone(), true);
        }
        Ok(Done::Keep)
    }
}

/// How a dialect calls a file's path and a container's id.
struct Names {
    path: &'static str,
    id: &'static str,
}

impl AddDockerMetadata {
    fn names(&self) -> Names {
        if self.old {
            Names { path: "source", id: "docker.container.id" }
        } else {
            Names { path: "log.file.path", id: "container.id" }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a daemon, as far as is known.
    fn is_there(&self, daemon: &Daemon) -> bool {
        let mut state = self.state();
        if !state.found && state.may_ask(self.world.clock.mono()) {
            match daemon.get("/_ping", PATIENCE) {
                Ok(_) => state.found = true,
                Err(e) => {
                    // It is there, and whoever set it up would wonder.
                    if e.kind() == io::ErrorKind::PermissionDenied && !std::mem::replace(&mut state.warned, true) {
                        tracing::warn!("add_docker_metadata: {daemon}: {e}: run with the group that may open it");
                    }
                    tracing::debug!("add_docker_metadata: {daemon}: {e}: events get nothing of containers");
                    state.is_silent(self.world.clock.mono());
                }
            }
        }
        state.found
    }

    /// What is put into events of a container.
    fn container(&self, daemon: &Daemon, id: String) -> Option<Container> {
        let short = self.short && id.len() == SHORT;
        if !(short || id.len() == DIGITS) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut state = self.state();
        let now = self.world.clock.mono();
        let (again, before) = state.containers.get(&id, 0).cloned().unzip();
        let before: Option<Container> = before.flatten();
        let holds = again.is_some_and(|again| now < again) || before.is_some() && state.is_fresh(now);
        if holds || !state.may_ask(now) {
            return before;
        }
        let answer = daemon.get(&format!("/containers/{id}/json"), PATIENCE);
        let end = self.world.clock.mono();
        let took = end.since(now);
        state.took(end, took);
        let (found, holds) = match answer {
            Ok(answer) => {
                let found = answer.and_then(|answer| self.read(&answer, &id)).map(Arc::new).or(before);
                let holds = if found.is_some() { FRESH } else { ABSENT };
                (found, holds)
            }
            Err(e) => {
                tracing::warn!("add_docker_metadata: {daemon}: {e}: asked again in {AGAIN:?}");
                if is_away(&e) {
                    state.is_silent(end);
                }
                (before, AGAIN)
            }
        };
        state.containers.put(id, (end.plus(holds.max(took * 20)), found.clone()), i64::MAX);
        found
    }

    /// The daemon's words for a container; it also finds one by a part of its id, or by its name.
    fn read(&self, answer: &[u8], id: &str) -> Option<Map<String, Value>> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let full = answer["Id"].as_str().filter(|full| full.len() == id.len() || self.short && id.len() == SHORT)?;
        let full = full.strip_prefix(id).map(|_| full)?;
        let image = answer["Config"]["Image"].as_str().unwrap_or_default();
        let mut container = json!({
            "id": full,
            "image": if self.old { json!(image) } else { json!({"name": image}) },
            "name": answer["Name"].as_str().unwrap_or_default().trim_start_matches('/'),
        });
        if let Some(labels) = answer["Config"]["Labels"].as_object().filter(|labels| !labels.is_empty()) {
            container["labels"] = named(labels, |_| true, self.dedot).into();
        }
        let fields = Map::from_iter([("container".to_owned(), container)]);
        Some(if self.old { Map::from_iter([("docker".to_owned(), fields.into())]) } else { fields })
    }

    /// The container of the first process that an event names and that is there.
    fn of_process(&self, doc: &mut Doc<'_>) -> Option<String> {
        for field in &self.pids {
            let pid = match doc.get(field).map(|got| got.to_value()) {
                Ok(Value::Number(n)) => n.as_u64(),
                Ok(Value::String(text)) => text.parse().ok(),
                _ => None,
            };
            let Some(pid) = pid else { continue };
            let mut state = self.state();
            if let Some(known) = state.processes.get(&pid, doc.read_ms()) {
                return known.clone();
            }
            let path = self.host.join(format!("proc/{pid}/cgroup"));
            let Ok(groups) = self.world.fs.read(&path, CGROUPS) else { continue };
            let id = long_word(&String::from_utf8_lossy(&groups)).map(str::to_owned);
            state.processes.put(pid, id.clone(), doc.read_ms().saturating_add(PROCESS_MS));
            return id;
        }
        None
    }
}

/// A part of a path, from 0 on.
fn part_of(path: &str, index: usize) -> Option<&str> {
    path.split('/').filter(|part| !part.is_empty()).nth(index)
}

/// Whether nobody is there; else another container may be answered for.
fn is_away(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

impl State {
    fn may_ask(&self, now: Mono) -> bool {
        self.rests_until.is_none_or(|until| now >= until)
    }

    fn is_fresh(&self, now: Mono) -> bool {
        self.fresh_until.is_some_and(|until| now < until)
    }

    /// It took so long for an answer: what is known is asked for again in a twentieth of the time.
    fn took(&mut self, end: Mono, took: Duration) {
        self.fresh_until = Some(end.plus(took * 20));
        if took > SLOW {
            self.rests_until = Some(end.plus(took * 4));
        }
    }

    fn is_silent(&mut self, now: Mono) {
        self.rests_until = Some(now.plus(AGAIN));
    }
}

pub(crate) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let host = s.str("host")?.filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    if s.json("ssl")?.is_some_and(|ssl| ssl["enabled"] != Value::Bool(false)) {
        return Err(s.error(
            "ssl",
            "the Docker daemon is asked without TLS",
            "give its socket: `host: unix:///var/run/docker.sock`",
        ));
    }
    let (world, old) = (World::real(), s.compat() == Compat::V5);
    let daemon = Daemon::at(&host);
    if daemon.is_none() {
        s.warn(
            "host",
            format!("`{host}` is no address of a Docker daemon that can be asked: nothing is added"),
            "give `unix://PATH` or `tcp://HOST:PORT`",
        );
    }
    // Filebeat's own configuration has this processor wherever it runs: without a daemon it costs nothing.
    let daemon = daemon.filter(|daemon| daemon.may_be_there(&world));
    for switch in ["skip_older", "wait_for_metadata"] {
        s.bool(switch)?;
    }
    s.duration("cleanup_timeout")?;
    let pids = s.strings("match_pids")?;
    let parent = if s.compat().is_modern() { "process.parent.pid" } else { "process.ppid" };
    let pids = if pids.is_empty() && !s.has("match_pids") { vec!["process.pid".into(), parent.into()] } else { pids };
    let index = s.usize("match_source_index")?.unwrap_or(4);
    // 7 has the latter name.
    let (hostfs, before) = (s.str("hostfs")?, s.str("system.hostfs")?);
    Ok(Box::new(AddDockerMetadata {
        daemon,
        fields: s.strings("match_fields")?,
        pids,
        source: s.bool("match_source")?.unwrap_or(true).then_some(index),
        short: s.bool("match_short_id")?.unwrap_or(false),
        dedot: s.bool("labels.dedot")?.unwrap_or(!old),
        old,
        host: hostfs.or(before).filter(|host| !host.is_empty()).unwrap_or_else(|| "/".to_owned()).into(),
        world,
        state: Mutex::new(State {
            found: false,
            warned: false,
            rests_until: None,
            fresh_until: None,
            containers: Generations::new(KNOWN),
            processes: Generations::new(KNOWN),
        }),
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::doc::Stage;
    use crate::pipeline::testing::{config, processed, processed_in, with};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A daemon that knows one container, and counts what it is asked.
    fn daemon(folder: &std::path::Path) -> (String, Arc<AtomicUsize>) {
        let path = folder.join("docker.sock");
        let (listener, asked) = (UnixListener::bind(&path).unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut asked, mut part) = (Vec::new(), [0; 512]);
                while !asked.ends_with(b"\r\n\r\n") {
                    let size = stream.read(&mut part).unwrap();
                    asked.extend_from_slice(&part[..size]);
                }
                count.fetch_add(1, Ordering::Relaxed);
                let asked = String::from_utf8(asked).unwrap();
                let body = match asked.split(' ').nth(1).unwrap() {
                    "/_ping" => "OK".to_owned(),
                    path if path == format!("/containers/{ID}/json")
                        || path == format!("/containers/{}/json", &ID[..12]) =>
                    {
                        json!({"Id": ID, "Name": "/web-1", "Image": "sha256:1", "Config": {"Image": "nginx:1.27",
                            "Labels": {"com.docker.compose.project": "shop", "a": "1", "a.b": "2"}}})
                        .to_string()
                    }
                    _ => {
                        let _ = stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"no such container\"}");
                        continue;
                    }
                };
                let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\nContent-Type: x\r\n\r\n{body}").as_bytes());
            }
        });
        (format!("unix://{}", path.display()), asked)
    }

    fn known(labels: &Value) -> Value {
        json!({"id": ID, "name": "web-1", "image": {"name": "nginx:1.27"}, "labels": labels})
    }

    /// `add_docker_metadata_test.go`, 7.17.
    #[test]
    fn containers_by_path_process_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let (host, _) = daemon(folder.path());
        let world = World::real();
        world.fs.create_dir_all(&folder.path().join("proc/7"), 0o700).unwrap();
        let groups = format!("0::/system.slice/docker-{ID}.scope\n");
        world.fs.replace(&folder.path().join("proc/7/cgroup"), groups.as_bytes(), 0o600).unwrap();
        let all = || json!({"com_docker_compose_project": "shop", "a": "1", "a_b": "2"});
        let hostfs = folder.path().display().to_string();
        // The file's path is /x/a.log.
        let by_path = |index: usize| format!(", match_source: true, match_source_index: {index}");
        for (options, event, want) in [
            (by_path(1).as_str(), json!({"message": "m"}), json!({"id": "a.log"})),
            (&by_path(2), json!({"process": {"pid": 7}}), Value::Null),
            ("", json!({"process": {"pid": 7}}), known(&all())),
            (
                ", labels.dedot: false",
                json!({"process": {"pid": 7}}),
                known(&json!({"com": {"docker": {"compose": {"project": "shop"}}}, "a": {"value": "1", "b": "2"}})),
            ),
            (
                "",
                json!({"process": {"pid": "7"}, "container": {"own": 1, "name": "n"}}),
                with(&known(&all()), json!({"own": 1})),
            ),
            (", match_pids: [p.q, r]", json!({"p": {"q": 8}, "r": 7}), known(&all())),
            (", match_pids: [nope, r]", json!({"r": 7}), known(&all())),
            (", match_pids: []", json!({"process": {"pid": 7}}), Value::Null),
            (", match_fields: [id, other]", json!({"other": ID}), known(&all())),
            (", match_fields: [id]", json!({"id": &ID[..12]}), Value::Null),
            (", match_fields: [id], match_short_id: true", json!({"id": &ID[..12]}), known(&all())),
            (", match_fields: [id], match_short_id: true", json!({"id": &ID[..13]}), Value::Null),
            (
                ", match_fields: [id]",
                json!({"id": "../../info?x=0123456789abcdef0123456789abcdef0123456789abcdef01234"}),
                Value::Null,
            ),
            (", match_fields: [id]", json!({"id": ID.replace('0', "f")}), Value::Null),
        ] {
            let source = if options.contains("match_source") { "" } else { ", match_source: false" };
            let steps = format!("[{{add_docker_metadata: {{host: '{host}', hostfs: '{hostfs}'{source}{options}}}}}]");
            let event = with(&event, json!({"message": "m"}));
            let got = processed(&steps, event.clone());
            let mut expected = event.clone();
            if !want.is_null() {
                expected["container"] = want;
            }
            assert_eq!(got, expected, "{options}: {event}");
        }
    }

    #[test]
    fn names_of_5_and_6() {
        let folder = tempfile::tempdir().unwrap();
        let (host, _) = daemon(folder.path());
        let steps = format!("[{{add_docker_metadata: {{host: '{host}', match_fields: [id], match_source: false}}}}]");
        let got = processed_in(Stage::Input, 5, &steps, json!({"message": "m", "id": ID}));
        let labels = json!({"com": {"docker": {"compose": {"project": "shop"}}}, "a": {"value": "1", "b": "2"}});
        let container = json!({"id": ID, "name": "web-1", "image": "nginx:1.27", "labels": labels});
        assert_eq!((&got["docker"]["container"], &got["container"]), (&container, &Value::Null));
    }

    #[test]
    fn parts_of_paths() {
        let path = format!("/var/lib/docker/containers/{ID}/{ID}-json.log");
        assert_eq!((part_of(&path, 4), part_of(&path, 0), part_of(&path, 6)), (Some(ID), Some("var"), None));
    }

    #[test]
    fn a_container_is_asked_for_once_and_a_silent_daemon_adds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (host, asked) = daemon(folder.path());
        let config = config(&format!("docker: {{host: '{host}', match_source: false, match_fields: [id]}}"));
        let action = read(&config.root().named_sections().unwrap().pop().unwrap().1).unwrap();
        let name = || {
            crate::pipeline::testing::on_event(json!({"id": ID}), |doc| {
                action.run(doc).unwrap();
                doc.text("container.name")
            })
        };
        assert_eq!((0..5).map(|_| name()).collect::<Vec<_>>(), vec![Some("web-1".to_owned()); 5]);
        assert_eq!(asked.load(Ordering::Relaxed), 2, "/_ping and the container");
        let event = json!({"log": {"file": {"path": format!("/var/lib/docker/containers/{ID}/x.log")}}});
        for host in ["unix:///nowhere/docker.sock", "h", "npipe:////./pipe/docker_engine"] {
            assert_eq!(
                processed(&format!("[{{add_docker_metadata: {{host: '{host}'}}}}]"), event.clone()),
                event,
                "{host}"
            );
        }
    }
}
