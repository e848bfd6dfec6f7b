//! What ends a run, and with which code.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::{Endpoint, Job, Running, dead_port, wait_for};

#[test]
fn once_ships_what_is_there_and_ends() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    job.write("data/a.log", "one\ntwo\nthe last has no newline");
    job.write("data/b.log", "");
    let mut run = job.start(&["--once"]);
    run.ends_with(0);
    assert_eq!(end.messages(), ["one", "two", "the last has no newline"]);
    let receipt = job.receipt();
    assert_eq!((&receipt["verdict"], &receipt["cause"]), (&"complete".into(), &"once".into()));
    assert_eq!((&receipt["final"], &receipt["totals"]["acknowledged"]), (&true.into(), &3.into()));
    assert!(
        run.err().contains("receipt: complete; 3 events of 31 bytes from 1 files, 3 acknowledged"),
        "{}",
        run.err()
    );
    job.start(&["--once"]).ends_with(0);
    assert_eq!(end.events().len(), 3, "nothing is sent twice");
}

#[test]
fn the_flag_ends_it_and_tells_the_works_exit_code() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let mut run = job.start(&["--until", "data/done"]);
    job.write("data/a.log", "one\n");
    end.wait(1);
    assert!(!run.has_ended());
    job.write("data/b.log", "in a new file, at the last moment");
    job.write("data/done", "7\n");
    run.ends_with(0);
    assert_eq!(end.messages(), ["one", "in a new file, at the last moment"]);
    let receipt = job.receipt();
    assert_eq!((&receipt["cause"], &receipt["work_exit_code"]), (&"flag".into(), &7.into()));
}

#[test]
fn a_flag_that_is_older_than_the_pod_is_not_believed() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let flag = job.write("data/done", "");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::open(&flag).unwrap().set_modified(old).unwrap();
    let mut command = job.command(&["--until", "data/done"]);
    let mut run = Running::start(command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1"), &job.path(""));
    run.says("older than this pod");
    job.write("data/a.log", "one\n");
    end.wait(1);
    assert!(!run.has_ended());
    job.write("data/done", "0");
    run.ends_with(0);
    // Outside of Kubernetes nothing is known of a pod: the flag counts.
    std::fs::File::open(&flag).unwrap().set_modified(old).unwrap();
    job.start(&["--until", "data/done"]).ends_with(0);
}

#[test]
fn a_shell_that_is_killed_before_its_flag_ends_it_by_its_lock() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let mut run = job.start(&["--until", "data/done", "--until-released", "data/lock"]);
    let script =
        "mkfifo lock.new && exec 9<>lock.new && mv -f lock.new lock; echo one >a.log; read line; echo $? >done";
    let mut shell = Command::new("sh");
    shell.current_dir(job.path("data")).args(["-c", script]).stdin(Stdio::piped()).process_group(0);
    let shell = scopeguard(shell.spawn().unwrap());
    end.wait(1);
    assert!(!run.has_ended());
    job.write("data/b.log", "the last words");
    // As the kernel does to a container: all of it at once.
    let group = rustix::process::Pid::from_raw(shell.0.id() as i32).unwrap();
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    run.ends_with(0);
    assert_eq!(end.messages(), ["one", "the last words"]);
    assert_eq!(job.receipt()["cause"], "lock_released");
}

#[test]
fn a_watched_process_ends_it_by_id_and_by_name() {
    let end = Endpoint::start();
    for by_name in [false, true] {
        let job = Job::new(end.address);
        let name = format!("work-{}-{by_name}", std::process::id());
        std::os::unix::fs::symlink("/bin/cat", job.path(&name)).unwrap();
        let work = Command::new(job.path(&name)).stdin(Stdio::piped()).spawn();
        let mut work = scopeguard(work.unwrap());
        let watched = if by_name { name } else { work.0.id().to_string() };
        let mut run = job.start(&["--until-exit", &watched]);
        let before = end.events().len();
        job.write("data/a.log", "one\n");
        end.wait(before + 1);
        // It has to be seen alive: the name is looked for five times a second.
        if by_name {
            wait_for("the watch", || watches(run.id()).then_some(()));
        }
        assert!(!run.has_ended());
        drop(work.0.stdin.take());
        work.0.wait().unwrap();
        run.ends_with(0);
        assert_eq!(job.receipt()["cause"], "process_end");
    }
}

/// Whether this process holds a pidfd.
fn watches(pid: u32) -> bool {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("pidfd")))
}

struct Guard(std::process::Child);

fn scopeguard(child: std::process::Child) -> Guard {
    Guard(child)
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_end_of_standard_input_ends_it() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let yaml = job.read("filebeat.yml");
    let rest = yaml.split_once("output.").unwrap().1;
    job.write("filebeat.yml", &format!("filebeat.inputs: [{{type: stdin}}]\noutput.{rest}"));
    let mut run = Running::start(job.command::<&str>(&[]).stdin(Stdio::piped()), &job.path(""));
    let mut stdin = run.take_stdin();
    std::io::Write::write_all(&mut stdin, b"one\ntwo").unwrap();
    end.wait(1);
    assert!(!run.has_ended());
    drop(stdin);
    run.ends_with(0);
    assert_eq!(end.messages(), ["one", "two"]);
    let receipt = job.receipt();
    assert_eq!((&receipt["cause"], &receipt["files"][0]["path"]), (&"stdin_end".into(), &"-".into()));
}

#[test]
fn sigterm_and_sigint_drain() {
    for (signal, cause) in [(Signal::TERM, "sigterm"), (Signal::INT, "sigint")] {
        let end = Endpoint::start();
        let job = Job::new(end.address);
        let mut run = job.start::<&str>(&[]);
        job.write("data/a.log", "one\n");
        end.wait(1);
        job.write("data/b.log", "two");
        run.signal(signal);
        run.ends_with(0);
        assert_eq!((end.messages(), &job.receipt()["cause"]), (vec!["one".into(), "two".into()], &cause.into()));
    }
}

#[test]
fn sigterm_follows_on_until_the_flag() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let mut run = job.start(&["--until", "data/done"]);
    job.write("data/a.log", "one\n");
    end.wait(1);
    run.signal(Signal::TERM);
    run.says("following on");
    job.write("data/b.log", "written after SIGTERM\n");
    end.wait(2);
    wait_for("a receipt before the end", || (job.receipt()["phase"] == "following").then_some(()));
    assert!(!run.has_ended());
    job.write("data/done", "0");
    run.ends_with(0);
    assert_eq!(job.receipt()["cause"], "flag");
}

#[test]
fn sigint_drains_at_once_even_with_a_flag_and_a_second_one_stops_now() {
    let job = Job::new(dead_port());
    job.write("data/a.log", "one\n");
    let mut run = job.start(&["--until", "data/done"]);
    run.says("started");
    run.signal(Signal::INT);
    run.says("draining");
    wait_for("a receipt", || (job.receipt()["totals"]["events"] == 1).then_some(()));
    run.signal(Signal::INT);
    run.ends_with(3);
    let receipt = job.receipt();
    assert_eq!((&receipt["verdict"], &receipt["final"]), (&"incomplete".into(), &true.into()));
    assert_eq!(receipt["reasons"][0], "stopped by a second signal");
    assert_eq!(receipt["files"][0]["not_acknowledged"][0]["to"], 4);
}

#[test]
fn with_a_dead_target_the_receipts_are_rewritten_until_the_time_is_up() {
    for (choice, code) in [("fail", 3), ("succeed", 0)] {
        let job = Job::new(dead_port());
        job.write("data/a.log", "one\ntwo\n");
        job.write("termination-log", "");
        let flags = ["--once", "--drain-timeout", "1500ms", "--on-incomplete", choice];
        let mut run = job.start(&flags);
        let first = wait_for("a receipt with what was read", || {
            Some(job.receipt()).filter(|r| r["phase"] == "awaiting acknowledgements")
        });
        let message = wait_for("a message", || Some(job.read("termination-log")).filter(|m| m.contains("(2 events)")));
        assert!(message.starts_with("pillion: incomplete; ") && message.len() <= 1024, "{message}");
        let again = wait_for("another receipt", || Some(job.receipt()).filter(|r| r["written"] != first["written"]));
        assert_eq!(again["verdict"], "incomplete");
        run.ends_with(code);
        let last = job.receipt();
        assert_eq!((&last["final"], &last["phase"]), (&true.into(), &"timed out".into()));
        assert_eq!(last["reasons"][0], "the time for the drain was up");
        let message = job.read("termination-log");
        assert!(message.contains("the time for the drain was up") && message.len() <= 1024, "{message}");
    }
}

#[test]
fn a_target_that_comes_back_during_the_drain_gets_everything() {
    let address = dead_port();
    let job = Job::new(address);
    job.write("data/a.log", "one\n");
    let mut run = job.start(&["-E", "output.logstash.backoff.init=60s", "--until", "data/done"]);
    run.says("trying again in");
    job.write("data/done", "");
    run.says("draining");
    let end = Endpoint::at(address);
    run.ends_with(0);
    assert_eq!(end.messages(), ["one"]);
}

#[test]
fn what_a_killed_run_left_is_sent_by_the_next() {
    let job = Job::new(dead_port());
    job.write("data/a.log", "one\n");
    let mut run = job.start::<&str>(&[]);
    run.says("trying again in");
    run.signal(Signal::KILL);
    run.status();
    let end = Endpoint::start();
    let hosts = format!("output.logstash.hosts=['{}']", end.address);
    job.start(&["--once", "-E", &hosts]).ends_with(0);
    assert_eq!(end.messages(), ["one"]);
}

#[test]
fn a_second_process_on_the_same_data_path_is_refused() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let first = job.start::<&str>(&[]);
    first.says("started");
    std::fs::create_dir(job.path("second")).unwrap();
    let mut second = Running::start(&mut job.command::<&str>(&[]), &job.path("second"));
    second.ends_with(1);
    assert!(second.err().contains("filebeat.lock"), "{}", second.err());
}

#[test]
fn a_data_path_that_can_not_be_written_is_named() {
    let job = Job::new(dead_port());
    job.write("file", "");
    let mut run = job.start(&["--path.data", "file/data"]);
    run.ends_with(1);
    assert!(run.err().contains("path.data must be a directory"), "{}", run.err());
    if rustix::process::geteuid().is_root() {
        return; // to whom permissions say nothing
    }
    std::fs::create_dir(job.path("closed")).unwrap();
    std::fs::set_permissions(job.path("closed"), std::fs::Permissions::from_mode(0o500)).unwrap();
    let mut run = job.start(&["--path.data", "closed"]);
    run.ends_with(1);
    assert!(run.err().contains("closed"), "{}", run.err());
}
