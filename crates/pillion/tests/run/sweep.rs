//! What dead owners leave beside their logs, and `pillion sweep`, which ships it.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Endpoint, Job, Running, dead_port, wait_for};

/// A volume with the folders of pods, and a configuration that all of them have.
pub(crate) struct Volume {
    pub(crate) job: Job,
}

impl Volume {
    pub(crate) fn new(target: std::net::SocketAddr) -> Volume {
        let job = Job::new(target);
        let volume = job.path("volume");
        std::fs::create_dir(&volume).unwrap();
        job.write(
            "filebeat.yml",
            &format!(
                "filebeat.inputs:\n- type: filestream\n  id: job\n  paths: ['{}/${{POD_NAME}}/*.log']\n  \
                 fields: {{pod: '${{POD_NAME}}'}}\n  close.on_state_change.inactive: 1h\n\
                 output.logstash:\n  hosts: ['{target}']\n\
                 pillion:\n  exactly_once: true\n  termination_log: {}\n  \
                 registry: {{beside_logs: true, name: '${{POD_NAME}}', heartbeat: 1s}}\n",
                volume.display(),
                job.path("termination-log").display()
            ),
        );
        Volume { job }
    }

    /// A pod's folder.
    pub(crate) fn pod(&self, name: &str) -> PathBuf {
        let dir = self.job.path("volume").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(crate) fn append(&self, pod: &str, text: &str) {
        let path = self.pod(pod).join("a.log");
        std::fs::File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// A pod's sidecar, with its output going there.
    pub(crate) fn sidecar(&self, pod: &str, more: &[&str]) -> Running {
        let mut command = self.job.command(&[&["run", "-e"], more].concat());
        command.env("POD_NAME", pod).env("POD_NAMESPACE", "jobs");
        Running::start(&mut command, &self.pod(pod).join(".."))
    }

    pub(crate) fn registry(&self, pod: &str) -> PathBuf {
        self.pod(pod).join(".pillion").join(pod)
    }

    pub(crate) fn has(&self, pod: &str, file: &str) -> bool {
        self.registry(pod).join(file).exists()
    }

    pub(crate) fn json(&self, pod: &str, file: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.registry(pod).join(file)).unwrap()).unwrap()
    }

    pub(crate) fn sweep(&self, more: &[&str]) -> Running {
        let volume = self.job.path("volume");
        let mut command = std::process::Command::new(crate::harness::program());
        command.args(["sweep", "-e", "-c", "filebeat.yml", "--path.home", "."]).args(more).arg(&volume);
        command.current_dir(volume.parent().unwrap()).env("POD_NAME", "sweeper").env_remove("KUBERNETES_SERVICE_HOST");
        Running::start(&mut command, &self.job.path("data"))
    }

    /// Waits until the registry's log says that so much of the file is acknowledged.
    fn is_durable(&self, pod: &str, text: &str) {
        wait_for("the cursor", || {
            let log = std::fs::read_to_string(self.registry(pod).join("registry/filebeat/log.json")).ok()?;
            log.contains(&format!("\"offset\":{}", text.len())).then_some(())
        });
    }

    /// A sidecar that has shipped the first line and was killed before the second could arrive.
    fn leave(&self, pod: &str, endpoint: &Endpoint) {
        self.append(pod, &format!("{pod} first\n"));
        let mut running = self.sidecar(pod, &[]);
        wait_for("the first line", || endpoint.messages().contains(&format!("{pod} first")).then_some(()));
        self.is_durable(pod, &format!("{pod} first\n"));
        running.signal(Signal::KILL);
        running.status();
        self.append(pod, &format!("{pod} second\n"));
    }
}

pub(crate) fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn a_sweep_ships_what_a_killed_sidecar_left_and_nothing_twice() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.leave("job-1", &endpoint);
    volume.leave("job-2", &endpoint);
    // A file that the dead one has never seen.
    std::fs::write(volume.pod("job-2").join("b.log"), "job-2 third\n").unwrap();
    volume.sweep(&["--grace", "2s"]).ends_with(0);
    let all = ["job-1 first", "job-1 second", "job-2 first", "job-2 second", "job-2 third"];
    assert_eq!(sorted(endpoint.messages()), all);
    for event in endpoint.events() {
        let (message, pod) = (event["message"].as_str().unwrap(), event["fields"]["pod"].as_str().unwrap());
        assert!(message.starts_with(pod), "{event}");
        let path = event["log"]["file"]["path"].as_str().unwrap();
        assert!(path.starts_with(volume.pod(pod).to_str().unwrap()), "{event}");
    }
    let done = volume.json("job-1", "done.json");
    assert_eq!((&done["verdict"], &done["left"]["files"][0]["from"]), (&"complete".into(), &12.into()), "{done}");
    assert_eq!(done["receipt"]["totals"]["acknowledged"], 1);
    let by = &done["swept_by"];
    assert_eq!(by["version"], env!("CARGO_PKG_VERSION"), "{done}");
    assert!(by["host"].as_str().is_some_and(|host| !host.is_empty()) && by["at"].is_string(), "{done}");
    let (receipt, mut told) = (volume.json("job-1", "receipt.json"), done);
    assert!(told.as_object_mut().unwrap().remove("run").is_some(), "{told}");
    assert_eq!(receipt, told);
    // Nothing is left for another one, nor for the owner itself, which makes it undone first.
    volume.sweep(&["--grace", "2s"]).ends_with(0);
    volume.append("job-1", "job-1 last\n");
    let mut owner = volume.sidecar("job-1", &["--once"]);
    owner.ends_with(0);
    assert_eq!(endpoint.messages().len(), 6);
    assert_eq!(volume.json("job-1", "done.json")["by"]["swept"], false);
}

#[test]
fn who_lives_is_left_alone() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.append("job-1", "first\n");
    let mut owner = volume.sidecar("job-1", &[]);
    endpoint.wait(1);
    let mut sweep = volume.sweep(&["--grace", "2s"]);
    sweep.ends_with(0);
    assert!(sweep.err().contains("1 alive"), "{}", sweep.err());
    // Without its lock, the beat alone tells. (The file is replaced: the lock that the owner holds is that of the old one.)
    std::fs::remove_file(volume.registry("job-1").join("filebeat.lock")).unwrap();
    let mut sweep = volume.sweep(&["--grace", "3s"]);
    sweep.ends_with(0);
    assert!(sweep.err().contains("1 alive") && !volume.has("job-1", "done.json"), "{}", sweep.err());
    // A grace that is shorter than what the beat can tell makes nobody dead.
    let mut sweep = volume.sweep(&["--grace", "1s"]);
    sweep.ends_with(3);
    assert!(sweep.err().contains("can't tell"), "{}", sweep.err());
    volume.append("job-1", "second\n");
    endpoint.wait(2);
    owner.signal(Signal::INT);
    owner.ends_with(0);
    assert_eq!(endpoint.messages(), ["first", "second"]);
}

#[test]
fn an_owner_that_was_paused_learns_that_it_was_deposed() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.append("job-1", "first\n");
    let mut owner = volume.sidecar("job-1", &[]);
    volume.is_durable("job-1", "first\n");
    owner.signal(Signal::STOP);
    // What an expired lease of NFS does to a lock.
    std::fs::remove_file(volume.registry("job-1").join("filebeat.lock")).unwrap();
    volume.append("job-1", "second\n");
    volume.sweep(&["--grace", "2s"]).ends_with(0);
    assert_eq!(sorted(endpoint.messages()), ["first", "second"]);
    owner.signal(Signal::CONT);
    assert_eq!(owner.code(), 1);
    assert!(owner.err().contains("another run has taken over"), "{}", owner.err());
    // Its work may go on without it.
    volume.append("job-1", "third\n");
    volume.sweep(&["--grace", "2s"]).ends_with(0);
    // What was unread when it was paused may come from both, under one id.
    let mut events = endpoint.events();
    let id = |event: &Value| event["@metadata"]["_id"].as_str().unwrap().to_owned();
    events.sort_by_key(id);
    events.dedup_by_key(|event| id(event));
    let messages = events.iter().map(|event| event["message"].as_str().unwrap().to_owned());
    assert_eq!(sorted(messages.collect()), ["first", "second", "third"]);
    assert!(volume.has("job-1", "done.json"));
}

/// A run that is shorter than the hour after which entries go.
#[test]
fn what_was_in_flight_of_a_file_that_is_gone_makes_the_next_run_incomplete() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.append("job-1", "first\n");
    let never = format!("output.logstash.hosts=['{}']", silent.local_addr().unwrap());
    let mut killed = volume.sidecar("job-1", &["-E", &never]);
    let (mut asked, _) = silent.accept().unwrap();
    std::io::Read::read_exact(&mut asked, &mut [0; 6]).unwrap();
    killed.signal(Signal::KILL);
    killed.status();
    let path = volume.pod("job-1").join("a.log");
    std::fs::rename(&path, volume.job.path("elsewhere")).unwrap();
    let mut next = volume.sidecar("job-1", &["--once"]);
    next.ends_with(3);
    assert!(next.err().contains("6 bytes destroyed") && !volume.has("job-1", "done.json"), "{}", next.err());
    // It comes back: what may have been sent is sent again.
    std::fs::rename(volume.job.path("elsewhere"), &path).unwrap();
    volume.sidecar("job-1", &["--once"]).ends_with(0);
    assert_eq!(endpoint.messages(), ["first"]);
}

#[test]
fn a_sweep_without_a_target_leaves_everything_and_the_next_one_ships_it() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.leave("job-1", &endpoint);
    let away = format!("output.logstash.hosts=['{}']", dead_port());
    let mut sweep = volume.sweep(&["--grace", "2s", "--drain-timeout", "1s", "-E", &away]);
    sweep.ends_with(3);
    let receipt = volume.json("job-1", "receipt.json");
    assert_eq!(receipt["verdict"], "incomplete", "{receipt}");
    assert!(receipt["left"]["files"][0]["path"].as_str().unwrap().ends_with("a.log"), "{receipt}");
    assert!(!volume.has("job-1", "done.json"));
    // Killed while it waits for the target.
    let mut killed = volume.sweep(&["--grace", "2s", "-E", &away]);
    killed.says("adopting what a dead owner left");
    killed.signal(Signal::KILL);
    killed.status();
    // Two at once.
    let (mut one, mut two) = (volume.sweep(&["--grace", "2s"]), volume.sweep(&["--grace", "2s"]));
    one.ends_with(0);
    two.ends_with(0);
    assert_eq!(endpoint.messages(), ["job-1 first", "job-1 second"]);
    assert!(volume.has("job-1", "done.json"));
}

#[test]
fn hostile_registries_lead_nowhere() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    let secret = volume.job.write("secret.log", "not for you\n");
    let owner =
        |view: &str| format!("{{\"version\":1,\"view\":\"{view}\",\"host\":\"x\",\"env\":{{\"POD_NAME\":\"p\"}}}}");
    let make = |pod: &str| {
        let dir = volume.registry(pod);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("owner.json"), owner(volume.pod(pod).to_str().unwrap())).unwrap();
        dir
    };
    let link = |target: &Path, at: PathBuf| symlink(target, at).unwrap();
    // Logs that are links, and a registry that names a path outside.
    link(&secret, volume.pod("linked").join("p.log"));
    make("linked");
    let dir = make("pointing").join("registry/filebeat");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("meta.json"), "{\"version\":\"1\"}").unwrap();
    let entry = format!(
        "{{\"op\":\"set\",\"id\":1}}\n{{\"k\":\"filestream::job::path::{0}\",\"v\":{{\"ttl\":-1,\"updated\":[1,1],\"cursor\":\
         {{\"offset\":0}},\"meta\":{{\"source\":\"{0}\",\"identifier_name\":\"path\"}}}}}}\n",
        secret.display()
    );
    std::fs::write(dir.join("log.json"), entry).unwrap();
    // A folder that claims to be seen at the root of everything.
    std::fs::write(make("rooted").join("owner.json"), owner("/")).unwrap();
    for (pod, text) in [("upwards", owner("/v/../..")), ("nothing", "{".into()), ("huge", " ".repeat(200_000))] {
        std::fs::write(make(pod).join("owner.json"), text).unwrap();
    }
    // Parts of the registry that lead out, or hang whoever opens them.
    let outside = volume.job.path("outside");
    std::fs::create_dir(&outside).unwrap();
    link(&outside, make("out").join("registry"));
    link(&secret, make("locked").join("filebeat.lock"));
    for name in ["alive.json", "claim.json"] {
        let fifo = make(&format!("fifo-{name}")).join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, fifo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    }
    link(&outside, volume.job.path("volume").join("elsewhere"));
    let mut sweep = volume.sweep(&["--grace", "0"]);
    sweep.ends_with(3);
    assert_eq!(endpoint.messages(), Vec::<String>::new(), "{}", sweep.err());
    assert_eq!(std::fs::read(&secret).unwrap(), b"not for you\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    for refused in ["upwards", "nothing", "huge", "out", "locked", "fifo-alive.json"] {
        assert!(!volume.has(refused, "done.json"), "{refused}: {}", sweep.err());
    }
    assert!(
        volume.has("fifo-claim.json", "done.json"),
        "a claim takes the place of whatever lies there: {}",
        sweep.err()
    );
}

#[test]
fn what_lies_behind_a_link_is_told_and_holds_nothing_up() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    let config = std::fs::read_to_string(volume.job.path("filebeat.yml")).unwrap();
    let follows = "prospector.scanner.symlinks: true\n  close.on_state_change";
    volume.job.write("filebeat.yml", &config.replace("close.on_state_change", follows));
    let target = volume.pod("job-1").join("behind.txt");
    std::fs::write(&target, "job-1 first\n").unwrap();
    symlink("behind.txt", volume.pod("job-1").join("a.log")).unwrap();
    let mut owner = volume.sidecar("job-1", &[]);
    endpoint.wait(1);
    volume.is_durable("job-1", "job-1 first\n");
    owner.signal(Signal::KILL);
    owner.status();
    std::fs::File::options().append(true).open(&target).unwrap().write_all(b"job-1 second\n").unwrap();
    let mut sweep = volume.sweep(&["--grace", "2s"]);
    sweep.ends_with(3);
    assert!(sweep.err().contains("behind links"), "{}", sweep.err());
    let receipt = volume.json("job-1", "receipt.json");
    assert!(receipt["left"]["unreachable"][0].as_str().unwrap().ends_with("a.log"), "{receipt}");
    assert_eq!(endpoint.messages(), ["job-1 first"]);
}

#[test]
fn a_dry_run_needs_no_configuration_and_changes_nothing() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.leave("job-1", &endpoint);
    let before = std::fs::read(volume.registry("job-1").join("alive.json")).unwrap();
    let mut sweep = volume.sweep(&["--grace", "2s", "--dry-run", "-c", "/nonexistent"]);
    sweep.ends_with(3);
    assert!(sweep.out().starts_with("dead ") && sweep.out().contains("13 bytes of 1 files"), "{}", sweep.out());
    assert_eq!(std::fs::read(volume.registry("job-1").join("alive.json")).unwrap(), before);
    assert_eq!(endpoint.messages(), ["job-1 first"]);
}

#[test]
fn shipped_files_go_and_all_others_stay() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.leave("job-1", &endpoint);
    let dir = volume.pod("job-1");
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    for name in ["b.log", "c.log", "grown.log", "replaced.log", "linked.log"] {
        write(name, &format!("{name} line\n"));
    }
    volume.sweep(&["--grace", "2s"]).ends_with(0);
    assert_eq!(endpoint.messages().len(), 7);
    // What has changed since, in each of the ways in which it can.
    std::fs::File::options().append(true).open(dir.join("grown.log")).unwrap().write_all(b"more\n").unwrap();
    std::fs::remove_file(dir.join("replaced.log")).unwrap();
    write("replaced.log", "replaced.log l1ne\n");
    std::fs::hard_link(dir.join("linked.log"), dir.join("linked.again")).unwrap();
    write("unknown.log", "nobody has read this\n");
    let names = || {
        let all = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        sorted(all.filter(|name| name != ".pillion").collect())
    };
    let before = names();
    volume.sweep(&["--grace", "2s", "--delete-after", "1h"]).ends_with(0);
    assert_eq!(names(), before, "not old enough");
    volume.sweep(&["--grace", "2s", "--delete-after", "0"]).ends_with(0);
    assert_eq!(names(), ["grown.log", "linked.again", "linked.log", "replaced.log", "unknown.log"]);
    // A registry that isn't done keeps its files.
    volume.leave("job-2", &endpoint);
    let away = format!("output.logstash.hosts=['{}']", dead_port());
    volume.sweep(&["--grace", "2s", "--drain-timeout", "1s", "-E", &away, "--delete-after", "0"]).ends_with(3);
    assert!(volume.pod("job-2").join("a.log").exists());
    volume.sweep(&["--grace", "2s", "--move-after", "0"]).ends_with(0);
    let moved: Vec<_> = std::fs::read_dir(volume.registry("job-2").join("shipped")).unwrap().collect();
    assert_eq!(moved.len(), 1);
    assert!(!volume.pod("job-2").join("a.log").exists());
}

#[test]
fn where_no_registry_can_be_made_beside_the_logs_lines_are_shipped_all_the_same() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.append("job-1", "first\n");
    let mut owner = volume.sidecar("job-1", &["--once", "-E", "pillion.registry.beside_logs=/sys"]);
    owner.ends_with(0);
    assert!(owner.err().contains("no registry can be made beside the logs"), "{}", owner.err());
    assert_eq!(endpoint.messages(), ["first"]);
    assert!(volume.job.path("data/registry/filebeat/log.json").exists() && !volume.registry("job-1").exists());
}

#[test]
fn a_volume_that_is_mounted_elsewhere_is_seen_as_its_owner_saw_it() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.leave("job-1", &endpoint);
    let (here, there) = (volume.job.path("volume"), volume.job.path("elsewhere"));
    std::fs::rename(&here, &there).unwrap();
    // In its place lies what isn't meant.
    volume.append("job-1", "not this one\n");
    let mut command = std::process::Command::new(crate::harness::program());
    command.args(["sweep", "-e", "-c", "filebeat.yml", "--path.home", ".", "--grace", "2s"]).arg(&there);
    command.current_dir(volume.job.path(".")).env_remove("KUBERNETES_SERVICE_HOST");
    Running::start(&mut command, &volume.job.path("data")).ends_with(0);
    assert_eq!(endpoint.messages(), ["job-1 first", "job-1 second"]);
    let events = endpoint.events();
    assert_eq!(events[0]["log"]["file"]["path"], events[1]["log"]["file"]["path"]);
    let life = |n: usize| events[n]["@metadata"]["_id"].as_str().unwrap().split('-').next().unwrap().to_owned();
    assert_eq!((life(0), &events[0]["agent"]["id"]), (life(1), &events[1]["agent"]["id"]));
}
