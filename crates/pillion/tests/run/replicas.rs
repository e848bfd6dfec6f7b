//! Several Pillions that share one folder, as real processes: every line arrives, and with ids once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Endpoint, Job, LIMIT, Running, program, wait_for};

/// The lease of all: seconds.
const LEASE: u64 = 2;

/// A shared folder, its target, and the replicas that read it.
struct Share {
    job: Job,
    endpoint: Endpoint,
    written: BTreeSet<String>,
    started: usize,
}

impl Share {
    fn new(shards: &str) -> Share {
        let endpoint = Endpoint::bulk();
        let job = Job::new(endpoint.address);
        let root = job.path("logs");
        std::fs::create_dir(&root).unwrap();
        let root = root.display();
        job.write(
            "filebeat.yml",
            &format!(
                "filebeat.inputs:\n- type: filestream\n  id: jobs\n  paths: ['{root}/*.log', '{root}/*.log.*']\n  \
                 prospector.scanner.check_interval: 200ms\n\
                 output.elasticsearch:\n  hosts: ['http://{}']\n\
                 setup.template.enabled: false\n\
                 pillion.exactly_once: true\n\
                 pillion.shards: {{root: '{root}', count: 16, {shards}}}\n",
                endpoint.address
            ),
        );
        Share { job, endpoint, written: BTreeSet::new(), started: 0 }
    }

    fn start(&mut self, args: &[&str]) -> Running {
        self.started += 1;
        let dir = self.job.path(&format!("replica-{}", self.started));
        std::fs::create_dir(&dir).unwrap();
        let mut all = vec!["-e", "--path.data", "state"];
        all.extend(args);
        Running::start(&mut self.job.command(&all), &dir)
    }

    fn log(&self, file: usize) -> PathBuf {
        self.job.path("logs").join(format!("job-{file}.log"))
    }

    /// Appends lines to so many files.
    fn write(&mut self, files: std::ops::Range<usize>, lines: std::ops::Range<usize>) {
        for file in files {
            let mut log = std::fs::OpenOptions::new().create(true).append(true).open(self.log(file)).unwrap();
            for line in lines.clone() {
                let text = format!("file {file} line {line}");
                writeln!(log, "{text}").unwrap();
                self.written.insert(text);
            }
        }
    }

    /// What arrived: each line, under which ids, and how often altogether.
    fn arrived(&self) -> BTreeMap<String, Vec<String>> {
        let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.endpoint.events() {
            let text = event["message"].as_str().unwrap().to_owned();
            arrived.entry(text).or_default().push(event["_id"].as_str().unwrap_or_default().to_owned());
        }
        arrived
    }

    /// Waits until all that was written has arrived.
    fn all_there(&self, running: &[&Running]) {
        let begin = Instant::now();
        while self.arrived().len() < self.written.len() {
            if begin.elapsed() > LIMIT {
                let arrived = self.arrived();
                let missing: Vec<_> =
                    self.written.iter().filter(|line| !arrived.contains_key(*line)).take(10).collect();
                let said: Vec<String> = running.iter().map(|r| r.err()).collect();
                unreachable!("missing: {missing:?}; they said:\n{}", said.join("\n\n"));
            }
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Every line is there, under one id each.
    fn each_has_one_id(&self) {
        let arrived = self.arrived();
        let lines: BTreeSet<String> = arrived.keys().cloned().collect();
        assert_eq!(lines, self.written);
        for (line, ids) in arrived {
            let different: BTreeSet<&String> = ids.iter().collect();
            assert!(different.len() == 1 && !ids[0].is_empty(), "{line}: {ids:?}");
        }
    }

    fn shards(&self) -> Value {
        let mut command = Command::new(program());
        command.args(["shards", "--json", "--behind=false", "-c", "filebeat.yml"]).current_dir(self.job.path("."));
        let output = command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until every file is read to its end, and that is on the disk.
    fn all_read(&self, running: &[&Running]) {
        self.all_there(running);
        let begin = Instant::now();
        loop {
            let mut command = Command::new(program());
            command.args(["shards", "--json", "-c", "filebeat.yml"]).current_dir(self.job.path("."));
            let output = command.env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
            let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if shown["behind_bytes"] == 0 && shown["whole"] == true {
                return;
            }
            assert!(begin.elapsed() < LIMIT, "not everything is noted: {shown}");
        }
    }

    /// Waits until each of so many living replicas has a part.
    fn settled(&self, replicas: usize) {
        wait_for(&format!("{replicas} replicas that have all shards"), || {
            let shown = self.shards();
            let living = shown["replicas"].as_array()?.iter().filter(|r| r["life"] == "alive");
            let have = living.filter(|r| r["shards"].as_u64().is_some_and(|n| n > 0)).count();
            (have == replicas && shown["whole"] == true).then_some(())
        });
    }
}

fn files() -> Share {
    Share::new(&format!("board: files, lease: {LEASE}s"))
}

#[test]
fn one_is_killed_and_the_others_go_on() {
    let mut share = files();
    share.write(0..40, 0..5);
    let (one, two) = (share.start(&[]), share.start(&[]));
    share.settled(2);
    share.write(0..60, 5..10);
    share.all_there(&[&one, &two]);
    let killed = Instant::now();
    one.signal(Signal::KILL);
    share.write(0..60, 10..15);
    share.all_there(&[&two]);
    let took = killed.elapsed().as_secs();
    assert!(took <= LEASE + 8, "the others took over after {took} s");
    share.each_has_one_id();
    let mut two = two;
    two.signal(Signal::TERM);
    two.ends_with(0);
}

#[test]
fn one_that_ends_gives_back_and_nothing_comes_twice() {
    let mut share = files();
    let (mut one, two) = (share.start(&[]), share.start(&[]));
    share.settled(2);
    share.write(0..50, 0..20);
    one.signal(Signal::TERM);
    share.write(0..50, 20..30);
    one.ends_with(0);
    let begin = Instant::now();
    share.all_there(&[&one, &two]);
    assert!(begin.elapsed().as_secs() < LEASE * 4);
    share.write(0..50, 30..40);
    share.all_there(&[&two]);
    let mut two = two;
    two.signal(Signal::TERM);
    two.ends_with(0);
    share.each_has_one_id();
    for ended in [one, two] {
        let said = ended.err();
        assert!(said.contains("receipt: complete") && !said.contains("were there already"), "{said}");
    }
}

#[test]
fn one_that_sleeps_longer_than_its_lease_does_no_harm() {
    let mut share = files();
    share.write(0..40, 0..5);
    let (one, two) = (share.start(&[]), share.start(&[]));
    share.settled(2);
    share.all_there(&[&one, &two]);
    one.signal(Signal::STOP);
    share.write(0..40, 5..20);
    share.all_there(&[&one, &two]);
    one.signal(Signal::CONT);
    share.write(0..40, 20..30);
    share.settled(2);
    share.write(0..40, 30..35);
    share.all_there(&[&one, &two]);
    share.each_has_one_id();
    one.says("paus");
    let (mut one, mut two) = (one, two);
    for running in [&mut one, &mut two] {
        running.signal(Signal::TERM);
        running.ends_with(0);
    }
}

#[test]
fn rotations_into_another_shard_keep_their_cursor() {
    let mut share = files();
    let (one, two) = (share.start(&[]), share.start(&[]));
    share.settled(2);
    share.write(0..30, 0..10);
    share.all_there(&[&one, &two]);
    // Every file gets another name, so that most change their shard.
    for file in 0..30 {
        std::fs::rename(share.log(file), share.job.path("logs").join(format!("renamed-{file}-{file}.log"))).unwrap();
    }
    for file in 0..30 {
        let path = share.job.path("logs").join(format!("renamed-{file}-{file}.log"));
        let text = format!("file {file} after its rename");
        writeln!(std::fs::OpenOptions::new().append(true).open(path).unwrap(), "{text}").unwrap();
        share.written.insert(text);
    }
    share.all_there(&[&one, &two]);
    share.each_has_one_id();
}

#[test]
fn fixed_parts_read_each_their_own_and_go_on_after_a_restart() {
    let mut share = Share::new("board: static");
    share.write(0..30, 0..10);
    for part in ["1/2", "2/2"] {
        let mut ends = share.start(&["--once", "--shard", part]);
        ends.ends_with(0);
    }
    share.each_has_one_id();
    share.write(0..30, 10..20);
    // Another division: what the former parts had read isn't read again.
    for part in ["1/3", "2/3", "3/3"] {
        let mut ends = share.start(&["--once", "--shard", part]);
        ends.ends_with(0);
    }
    share.each_has_one_id();
    let one = share.start(&["--shard", "1/3"]);
    one.says("shares its files");
    let mut same = share.start(&["--shard", "1/3"]);
    same.ends_with(1);
    // What replicas keep on the volume is no dead sidecar's.
    let sweep =
        Command::new(program()).args(["sweep", "--dry-run", "--grace", "0"]).arg(share.job.path("logs")).output();
    let sweep = sweep.unwrap();
    assert_eq!(
        (sweep.status.code(), String::from_utf8_lossy(&sweep.stdout).lines().count()),
        (Some(0), 1),
        "{sweep:?}"
    );
}

#[test]
fn what_cant_be_shared_is_refused() {
    let mut share = files();
    for (args, why) in [
        (vec!["--once"], "--shard I/N"),
        (vec!["-E", "pillion.shards.root=/proc"], "every path must lie beneath"),
        (vec!["-E", "pillion.shards.board=kubernetes"], "KUBERNETES_SERVICE_HOST"),
    ] {
        let mut refused = share.start(&args);
        refused.ends_with(2);
        assert!(refused.err().contains(why), "{args:?}: {}", refused.err());
    }
}

/// Neither looks at what the other one takes: each line would come twice, for as long as both go on.
#[test]
fn replicas_with_a_board_wait_for_a_fixed_part_and_a_fixed_part_is_refused_beside_them() {
    let mut share = files();
    share.write(0..20, 0..5);
    let fixed = ["-E", "pillion.shards.board=static", "--shard", "1/1"];
    let mut part = share.start(&fixed);
    part.says("shares its files");
    share.all_there(&[&part]);
    let board = share.start(&[]);
    wait_for("the word of the other division", || {
        board.err().contains("part-1-of-1 reads files of this folder").then_some(())
    });
    share.write(0..30, 5..10);
    share.all_there(&[&part, &board]);
    part.signal(Signal::TERM);
    part.ends_with(0);
    share.write(0..40, 10..15);
    share.all_there(&[&board]);
    let mut refused = share.start(&fixed);
    refused.ends_with(1);
    assert!(refused.err().contains("divides them otherwise, and is still running"), "{}", refused.err());
    share.each_has_one_id();
    assert!(!board.err().contains("were there already"), "{}", board.err());
}

/// The default of Filebeat 9: files of several replicas begin alike, and go from one to the other.
#[test]
fn with_fingerprints_files_that_begin_alike_keep_a_cursor_each() {
    let mut share = files();
    let config = share.job.read("filebeat.yml");
    let config = config.replace("  id: jobs", "  id: jobs\n  file_identity.fingerprint: {growing: true}");
    share.job.write("filebeat.yml", &config);
    let begin = |share: &Share, files: std::ops::Range<usize>| {
        for file in files {
            std::fs::write(share.log(file), "Starting\n").unwrap();
        }
    };
    begin(&share, 0..40);
    let (one, two) = (share.start(&[]), share.start(&[]));
    share.settled(2);
    begin(&share, 40..60);
    share.write(0..60, 0..10);
    share.all_read(&[&one, &two]);
    // Every file gets another name, so that most change their shard.
    for file in 0..60 {
        std::fs::rename(share.log(file), share.log(file + 100)).unwrap();
    }
    share.write(100..160, 10..20);
    share.all_read(&[&one, &two]);
    one.signal(Signal::KILL);
    share.write(100..160, 20..30);
    share.all_read(&[&two]);
    let mut two = two;
    two.signal(Signal::TERM);
    two.ends_with(0);
    let mut arrived = share.arrived();
    // A life for each file, whatever they begin with, and nothing begins anew.
    let ids: BTreeSet<String> = arrived.remove("Starting").unwrap().into_iter().collect();
    assert_eq!(ids.len(), 60);
    assert_eq!(arrived.keys().cloned().collect::<BTreeSet<_>>(), share.written);
    for (line, ids) in arrived {
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "{line}: {ids:?}");
    }
}

/// An update that changes `count`, or a typing error: what each division leaves to the other would be read by nobody.
#[test]
fn a_replica_with_another_count_waits_until_the_others_have_ended() {
    let mut share = files();
    share.write(0..40, 0..5);
    let mut one = share.start(&[]);
    share.settled(1);
    let two = share.start(&["-E", "pillion.shards.count=5"]);
    wait_for("the word of the other count", || {
        two.err().contains("pillion.shards.count is 5 here and 16").then_some(())
    });
    share.write(0..60, 5..20);
    share.all_there(&[&one, &two]);
    one.signal(Signal::TERM);
    one.ends_with(0);
    share.write(0..60, 20..25);
    share.all_there(&[&one, &two]);
    share.each_has_one_id();
    let mut two = two;
    two.signal(Signal::TERM);
    two.ends_with(0);
    assert!(!two.err().contains("were there already"), "{}", two.err());
}
