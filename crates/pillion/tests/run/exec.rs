//! `pillion exec`.

use rustix::process::Signal;

use crate::harness::{Endpoint, Job, Running, dead_port, wait_for};

/// A job without files of its own.
fn job(end: &Endpoint) -> Job {
    Job::new(end.address)
}

fn exec(job: &Job, flags: &[&str], script: &str) -> Running {
    let mut args = vec!["exec"];
    args.extend(flags);
    args.extend(["--", "/bin/sh", "-c", script]);
    // `--` begins with dashes as flags do, so that all of it follows the configuration.
    job.start(&args)
}

fn segments(job: &Job) -> Vec<String> {
    let Ok(dir) = std::fs::read_dir(job.path("data/exec")) else { return Vec::new() };
    dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn output_is_passed_through_and_shipped_with_its_stream() {
    let end = Endpoint::start();
    let job = job(&end);
    let mut run = exec(&job, &[], "echo one; echo two >&2; printf three");
    run.ends_with(0);
    assert_eq!(run.out(), "one\nthree");
    assert!(run.err().lines().any(|l| l == "two"), "{}", run.err());
    let mut got: Vec<_> = end.events().iter().map(|e| (e["stream"].to_string(), e["message"].to_string())).collect();
    got.sort();
    let pair = |a: &str, b: &str| (format!("{a:?}"), format!("{b:?}"));
    assert_eq!(got, [pair("stderr", "two"), pair("stdout", "one"), pair("stdout", "three")]);
    let receipt = job.receipt();
    assert_eq!((&receipt["verdict"], &receipt["cause"]), (&"complete".into(), &"command_end".into()));
    assert_eq!(receipt["work_exit_code"], 0);
    assert_eq!(segments(&job), [""; 0], "what is delivered is removed");
}

#[test]
fn output_is_passed_through_at_once_and_shipped_while_the_command_runs() {
    let end = Endpoint::start();
    let job = job(&end);
    let mut run = exec(&job, &[], "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two");
    wait_for("the first line", || (run.out() == "one\n").then_some(()));
    end.wait(1);
    assert!(!run.has_ended());
    job.write("go", "");
    run.ends_with(0);
    assert_eq!(end.messages(), ["one", "two"]);
}

#[test]
fn exit_codes_are_the_commands() {
    let end = Endpoint::start();
    for (script, code) in [("exit 7", 7), ("kill -KILL $$", 137), ("exit 0", 0), ("exit 255", 255)] {
        exec(&job(&end), &[], script).ends_with(code);
    }
    let job = job(&end);
    let mut run = job.start(&["exec", "--", "/no/such/program"]);
    run.ends_with(127);
    assert!(run.err().contains("/no/such/program"), "{}", run.err());
    job.write("plain", "");
    job.start(&["exec", "--", "./plain"]).ends_with(126);
}

#[test]
fn lines_that_are_missing_make_3_of_0() {
    for (script, choice, code) in [("echo one", "fail", 3), ("echo one", "succeed", 0), ("echo one; exit 7", "fail", 7)]
    {
        let job = Job::new(dead_port());
        let mut run = exec(&job, &["--drain-timeout", "100ms", "--on-incomplete", choice], script);
        run.ends_with(code);
        assert_eq!((run.out().as_str(), &job.receipt()["verdict"]), ("one\n", &"incomplete".into()));
    }
}

#[test]
fn signals_are_passed_on() {
    let end = Endpoint::start();
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1")] {
        let job = job(&end);
        let script = format!("trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.02; done");
        let mut run = exec(&job, &[], &script);
        wait_for("the command", || run.out().contains("ready").then_some(()));
        run.signal(signal);
        run.ends_with(5);
        assert!(run.out().ends_with(&format!("got {name}\n")));
        assert_eq!(end.messages().last().unwrap(), &format!("got {name}"));
    }
}

#[test]
fn a_command_that_lives_on_after_sigterm_is_shipped_to_its_end() {
    let end = Endpoint::start();
    let job = job(&end);
    let script = "trap 'echo on' TERM; echo ready; while [ ! -e go ]; do sleep 0.02; done; echo done";
    let mut run = exec(&job, &[], script);
    wait_for("the command", || run.out().contains("ready").then_some(()));
    run.signal(Signal::TERM);
    end.wait(2);
    assert!(!run.has_ended());
    job.write("go", "");
    run.ends_with(0);
    assert_eq!(end.messages(), ["ready", "on", "done"]);
}

#[test]
fn what_one_run_left_is_shipped_by_the_next() {
    let job = Job::new(dead_port());
    exec(&job, &["--drain-timeout", "50ms"], "echo one; echo two >&2").ends_with(3);
    assert_eq!(segments(&job).len(), 2);
    let end = Endpoint::start();
    let hosts = format!("output.logstash.hosts=['{}']", end.address);
    exec(&job, &["-E", &hosts], "echo three").ends_with(0);
    let mut messages = end.messages();
    messages.sort();
    assert_eq!(messages, ["one", "three", "two"]);
    assert_eq!(segments(&job), [""; 0]);
}

/// 24 MiB of lines, where 18 MiB fit.
const MUCH: &str = "yes \"$(printf %01023d 7)\" | head -n 24576; echo end >&2";

#[test]
fn when_the_spool_is_full_lines_are_dropped_and_counted() {
    let job = Job::new(dead_port());
    let mut run = exec(&job, &["--drain-timeout", "50ms", "-E", "pillion.exec.spool_limit=1kb"], MUCH);
    run.ends_with(3);
    assert_eq!(run.out().len(), 24 << 20, "all of it is passed through");
    let lost = job.receipt()["totals"]["lost_bytes"].as_u64().unwrap();
    assert!((4 << 20..8 << 20).contains(&lost), "{lost}");
    let files = job.receipt()["files"].to_string();
    assert!(files.contains("/exec/stdout\""), "{files}");
}

#[test]
fn when_the_spool_is_full_the_command_waits_if_it_shall() {
    let address = dead_port();
    let job = Job::new(address);
    let mut run = exec(&job, &["--on-full", "block", "-E", "pillion.exec.spool_limit=1kb"], MUCH);
    wait_for("a full spool", || (run.out().len() >= 16 << 20).then_some(()));
    assert!(!run.has_ended());
    let end = Endpoint::at(address);
    run.ends_with(0);
    assert_eq!((run.out().len(), end.events().len()), (24 << 20, 24577));
    assert_eq!(job.receipt()["verdict"], "complete");
}

#[test]
fn a_command_that_does_not_mind_sigterm_is_ended_in_time_for_its_last_lines() {
    let end = Endpoint::start();
    let job = job(&end);
    let script = "trap 'echo still here' TERM; (trap '' TERM; while :; do echo below; sleep 0.02; done) & \
                  while :; do echo above; sleep 0.02; done";
    let mut run = exec(&job, &["-E", "pillion.drain.grace_period=3s"], script);
    end.wait(2);
    run.signal(Signal::TERM);
    run.ends_with(137);
    let printed = run.out().lines().count();
    assert_eq!(end.messages().len(), printed, "all that was passed through was shipped");
    assert!(run.out().contains("still here") && run.out().contains("below"), "{}", run.out());
    let receipt = job.receipt();
    assert_eq!((&receipt["verdict"], &receipt["work_exit_code"]), (&"complete".into(), &137.into()));
}
