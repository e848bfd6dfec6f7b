//! Replicas on a volume on which sidecars keep their registries beside the logs: what a dead one left is shipped, once, and
//! what a living one reads is left alone.

use std::io::Write as _;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Endpoint, Running, program, wait_for};
use crate::sweep::{Volume, sorted};

const FILES: usize = 12;

/// A line of each file: all of one length.
fn line(file: usize, word: &str) -> String {
    format!("job-1 {file:02} {word}")
}

fn append(volume: &Volume, pod: &str, file: usize, text: &str) {
    let path = volume.pod(pod).join(format!("{file:02}.log"));
    let mut log = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(log, "{text}").unwrap();
}

/// A sidecar that has shipped the first line of each file and was killed before the second could arrive.
fn leave(volume: &Volume, endpoint: &Endpoint) {
    (0..FILES).for_each(|file| append(volume, "job-1", file, &line(file, "first")));
    let mut sidecar = volume.sidecar("job-1", &[]);
    endpoint.wait(FILES);
    let shipped = format!("\"offset\":{}", line(0, "first").len() + 1);
    wait_for("offsets on the disk", || {
        let log = std::fs::read_to_string(volume.registry("job-1").join("registry/filebeat/log.json")).ok()?;
        (log.matches(&shipped).count() >= FILES).then_some(())
    });
    sidecar.signal(Signal::KILL);
    sidecar.status();
    (0..FILES).for_each(|file| append(volume, "job-1", file, &line(file, "other")));
}

fn replica(volume: &Volume, endpoint: &Endpoint, number: usize) -> Running {
    patient_replica(volume, endpoint, number, "3s")
}

fn patient_replica(volume: &Volume, endpoint: &Endpoint, number: usize, grace: &str) -> Running {
    let root = volume.job.path("volume");
    let root = root.display();
    volume.job.write(
        "replica.yml",
        &format!(
            "filebeat.inputs:\n- type: filestream\n  id: all\n  paths: ['{root}/*/*.log']\n  \
             prospector.scanner.check_interval: 200ms\n\
             output.logstash:\n  hosts: ['{}']\n\
             pillion.exactly_once: true\n\
             pillion.shards: {{root: '{root}', count: 16, board: files, lease: 2s, grace: {grace}}}\n",
            endpoint.address
        ),
    );
    let dir = volume.job.path(&format!("replica-{number}"));
    std::fs::create_dir(&dir).unwrap();
    let mut command = Command::new(program());
    command.args(["run", "-e", "-c", "replica.yml", "--path.home", ".", "--path.data", "state"]);
    command.current_dir(volume.job.path(".")).env_remove("KUBERNETES_SERVICE_HOST");
    Running::start(&mut command, &dir)
}

#[test]
fn what_a_killed_sidecar_left_is_shipped_once_and_a_living_ones_files_are_left_alone() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    leave(&volume, &endpoint);
    volume.append("job-2", "job-2 first\n");
    let lives = volume.sidecar("job-2", &[]);
    endpoint.wait(FILES + 1);
    let mut replicas = [1, 2].map(|number| replica(&volume, &endpoint, number));
    // Nobody's but the replicas'.
    append(&volume, "job-3", 0, "job-3 alone");
    wait_for("what nobody else reads", || endpoint.messages().contains(&"job-3 alone".to_owned()).then_some(()));
    volume.append("job-2", "job-2 second\n");
    wait_for("both parts of what was left to be shipped", || volume.has("job-1", "done.json").then_some(()));
    endpoint.wait(2 * FILES + 3);
    let mut all: Vec<String> = (0..FILES).flat_map(|file| [line(file, "first"), line(file, "other")]).collect();
    all.extend(["job-2 first", "job-2 second", "job-3 alone"].map(str::to_owned));
    assert_eq!(sorted(endpoint.messages()), sorted(all.clone()), "{}\n{}", replicas[0].err(), replicas[1].err());
    let done = volume.json("job-1", "done.json");
    assert_eq!(
        (&done["verdict"], &done["final"], &done["refused"]),
        (&"complete".into(), &true.into(), &serde_json::json!([]))
    );
    let by = &done["swept_by"];
    assert!(by["replica"].as_str().is_some_and(|name| !name.is_empty()) && by["host"].is_string(), "{done}");
    assert!(done["left"]["files"].as_array().is_some_and(|files| !files.is_empty()), "{done}");
    assert!(!volume.has("job-2", "done.json"));
    // The replicas have these files from now on; a sweep finds nothing left.
    append(&volume, "job-1", 3, &line(3, "third"));
    all.push(line(3, "third"));
    endpoint.wait(all.len());
    volume.sweep(&["--grace", "2s"]).ends_with(0);
    assert_eq!(sorted(endpoint.messages()), sorted(all));
    for replica in &mut replicas {
        replica.signal(Signal::TERM);
        replica.ends_with(0);
    }
    drop(lives);
}

#[test]
fn what_a_sidecar_has_shipped_and_marked_goes_on_where_it_stopped() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    volume.append("job-1", "job-1 first\n");
    volume.sidecar("job-1", &["--once"]).ends_with(0);
    assert!(volume.has("job-1", "done.json"));
    volume.append("job-1", "job-1 second\n");
    let mut replica = replica(&volume, &endpoint, 1);
    wait_for("the second line", || endpoint.messages().contains(&"job-1 second".to_owned()).then_some(()));
    assert_eq!(endpoint.messages(), ["job-1 first", "job-1 second"], "{}", replica.err());
    replica.signal(Signal::TERM);
    replica.ends_with(0);
}

#[test]
fn a_sidecar_that_is_just_starting_keeps_its_files() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    // Its folder is there, and nothing in it yet.
    std::fs::create_dir_all(volume.registry("job-1")).unwrap();
    volume.append("job-1", "job-1 first\n");
    let mut replica = patient_replica(&volume, &endpoint, 1, "20s");
    append(&volume, "job-3", 0, "job-3 alone");
    endpoint.wait(1);
    // One whose work is over is looked at, and so is the first one with it.
    volume.append("job-2", "job-2 first\n");
    volume.sidecar("job-2", &["--once"]).ends_with(0);
    append(&volume, "job-2", 0, "job-2 second");
    endpoint.wait(3);
    let mut sidecar = volume.sidecar("job-1", &[]);
    endpoint.wait(4);
    volume.append("job-1", "job-1 second\n");
    endpoint.wait(5);
    let (first, second) = ("job-1 first".to_owned(), "job-1 second".to_owned());
    let of_it: Vec<_> = endpoint.messages().into_iter().filter(|line| [&first, &second].contains(&line)).collect();
    assert_eq!(of_it, [first, second], "{}", replica.err());
    sidecar.signal(Signal::INT);
    sidecar.ends_with(0);
    replica.signal(Signal::TERM);
    replica.ends_with(0);
}

#[test]
fn a_sidecar_that_came_a_moment_ago_is_seen_before_its_files_are_taken() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    let mut replica = replica(&volume, &endpoint, 1);
    append(&volume, "job-3", 0, "job-3 alone");
    endpoint.wait(1);
    // Its registry lies in a folder that was just looked into.
    let folder = format!("pillion.registry.beside_logs={}", volume.job.path("volume").display());
    let mut sidecar = volume.sidecar("job-1", &["-E", &folder]);
    let seat = volume.job.path("volume/.pillion/job-1");
    wait_for("its claim", || seat.join("owner.json").exists().then_some(()));
    volume.append("job-1", "job-1 first\n");
    endpoint.wait(2);
    for file in 1..4 {
        let line = line(file, "alone");
        append(&volume, "job-2", file, &line);
        wait_for("a later search", || endpoint.messages().contains(&line).then_some(()));
    }
    sidecar.signal(Signal::INT);
    sidecar.ends_with(0);
    let of_it = endpoint.messages().into_iter().filter(|line| line == "job-1 first").count();
    assert_eq!(of_it, 1, "{}", replica.err());
    replica.signal(Signal::TERM);
    replica.ends_with(0);
}

#[test]
fn what_cant_be_used_beside_the_logs_holds_nothing_up() {
    let endpoint = Endpoint::start();
    let volume = Volume::new(endpoint.address);
    let seat = |name: &str| {
        let dir = volume.pod(name).join(".pillion").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    };
    // No owner; one that says nonsense; one whose folder of logs is elsewhere; a link and a FIFO in its registry's place.
    seat("empty");
    std::fs::write(seat("broken").join("owner.json"), "{").unwrap();
    let owner =
        |view: &str| format!("{{\"version\":1,\"view\":\"{view}\",\"host\":\"h\",\"env\":{{}},\"heartbeat_ms\":1000}}");
    std::fs::write(seat("upwards").join("owner.json"), owner("/logs/../../etc")).unwrap();
    std::fs::write(seat("linked").join("owner.json"), owner("/data")).unwrap();
    std::os::unix::fs::symlink("/etc", seat("linked").join("registry")).unwrap();
    std::fs::write(seat("fifo").join("owner.json"), owner("/data")).unwrap();
    let home = seat("fifo").join("registry/filebeat");
    std::fs::create_dir_all(&home).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, home.join("log.json"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let pods = ["empty", "broken", "upwards", "linked", "fifo"];
    for pod in pods {
        append(&volume, pod, 0, pod);
    }
    let mut replica = replica(&volume, &endpoint, 1);
    endpoint.wait(pods.len());
    assert_eq!(sorted(endpoint.messages()), sorted(pods.map(str::to_owned).to_vec()));
    replica.signal(Signal::TERM);
    replica.ends_with(0);
}
