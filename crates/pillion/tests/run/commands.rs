//! The other commands, and how the program is called.

use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use crate::harness::{Endpoint, Job, Running, dead_port, program, wait_for};

fn output(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

#[test]
fn the_demo_agrees_to_the_line() {
    let (code, out, err) = output(Command::new(program()).arg("demo"));
    assert_eq!(code, 0, "{out}{err}");
    for part in ["receipt    complete", "0 lines lost, 0 doubled", "both sides agree to the line", "orders.log.1"] {
        assert!(out.contains(part), "{part}\n{out}");
    }
}

#[test]
fn the_demo_ships_ones_own_command() {
    let script = "seq 500; echo problem >&2; echo more > \"$LOG_DIR/more.log\"; printf last";
    let (code, out, err) = output(Command::new(program()).args(["demo", "--", "sh", "-c", script]));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("503 lines in 3 files") && out.contains("both sides agree to the line"), "{out}");
}

#[test]
fn a_demo_that_fails_says_so() {
    let (code, out, _) = output(Command::new(program()).args(["demo", "--", "sh", "-c", "echo x; exit 3"]));
    assert!(code == 0 && out.contains("3"), "a job may fail, its lines arrive all the same: {out}");
    let (code, _, err) = output(Command::new(program()).args(["demo", "--", "/no/such/program"]));
    assert!(code == 1 && err.contains("the job"), "{err}");
}

#[test]
fn the_receiver_says_where_it_listens_and_counts() {
    let job = Job::new(dead_port());
    let mut command = Command::new(program());
    command.args(["receive", "--lumberjack", "127.0.0.1:0"]).stdin(Stdio::null());
    std::fs::create_dir(job.path("receiver")).unwrap();
    let mut receiver = Running::start(&mut command, &job.path("receiver"));
    let address =
        wait_for("the address", || Some(receiver.err().lines().next()?.strip_prefix("lumberjack on ")?.to_owned()));
    job.write("data/a.log", "one\ntwo\n");
    job.start(&["--once", "-E", &format!("output.logstash.hosts=['{address}']")]).ends_with(0);
    receiver.signal(Signal::INT);
    receiver.ends_with(0);
    assert!(receiver.err().contains("received in all: 2 events"), "{}", receiver.err());
    let lines: Vec<serde_json::Value> = receiver.out().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["message"]), (2, &"two".into()));
}

/// Slow answers, and every fifth item or window refused: every line arrives, and by `_bulk`, which says which, none twice.
#[test]
fn a_slow_receiver_that_refuses_gets_every_line() {
    const LINES: usize = 20_000;
    for (protocol, listen) in [("lumberjack", "--lumberjack"), ("elasticsearch", "--elasticsearch")] {
        let job = Job::new(dead_port());
        std::fs::create_dir(job.path("receiver")).unwrap();
        let mut command = Command::new(program());
        command.args(["receive", listen, "127.0.0.1:0", "--delay", "20ms", "--reject-every", "5"]).stdin(Stdio::null());
        let mut receiver = Running::start(&mut command, &job.path("receiver"));
        let said = format!("{protocol} on ");
        let address = wait_for("the address", || Some(receiver.err().lines().next()?.strip_prefix(&said)?.to_owned()));
        let output = match protocol {
            "lumberjack" => format!("output.logstash: {{hosts: ['{address}'], backoff: {{init: 1ms, max: 5ms}}}}"),
            _ => format!("output.elasticsearch: {{hosts: ['{address}'], backoff: {{init: 1ms, max: 5ms}}}}"),
        };
        let config: String = job.read("filebeat.yml");
        let (inputs, rest) = config.split_once("output.logstash").unwrap();
        let (_, end) = rest.split_once("pillion.").unwrap();
        job.write("filebeat.yml", &format!("{inputs}{output}\npillion.{end}"));
        for file in 0..4 {
            let lines: String = (0..LINES / 4).map(|i| format!("line {i} of {file}\n")).collect();
            job.write(&format!("data/{file}.log"), &lines);
        }
        job.start(&["--once"]).ends_with(0);
        assert_eq!(job.receipt()["totals"]["acknowledged"], LINES);
        receiver.signal(Signal::INT);
        receiver.ends_with(0);
        let arrived: Vec<serde_json::Value> =
            receiver.out().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let different: std::collections::BTreeSet<&str> =
            arrived.iter().map(|e| e["message"].as_str().unwrap()).collect();
        assert_eq!(different.len(), LINES, "{protocol}");
        if protocol == "elasticsearch" {
            assert_eq!(arrived.len(), LINES, "what wasn't refused isn't sent again");
        }
    }
}

#[test]
fn a_receiver_without_its_port_fails() {
    let end = Endpoint::start();
    let (code, _, err) = output(Command::new(program()).args(["receive", "--lumberjack", &end.address.to_string()]));
    assert!(code == 1 && err.contains(&end.address.to_string()), "{err}");
}

#[test]
fn test_config_says_ok_or_where_the_error_is() {
    let job = Job::new(dead_port());
    let (code, out, err) = output(&mut job.command(&["test", "config"]));
    assert_eq!((code, out.as_str()), (0, "Config OK\n"), "{err}");
    job.write(
        "filebeat.yml",
        "filebeat.inputs:\n- type: filestream\n  paths: [/x]\n  close.reader.on_eof: maybe\noutput.console: {}\n",
    );
    for args in [&["test", "config"][..], &["--once"]] {
        let (code, out, err) = output(&mut job.command(args));
        assert_eq!((code, out.as_str()), (2, ""));
        for part in ["filebeat.yml", ":4:", "close.reader.on_eof: maybe", "remedy"] {
            assert!(err.contains(part), "{args:?}: {part}\n{err}");
        }
    }
}

#[test]
fn an_error_is_told_without_accusing_the_options_beside_it() {
    let job = Job::new(dead_port());
    job.write(
        "filebeat.yml",
        "filebeat.inputs:\n- {type: filestream, id: x, paths: [/x]}\noutput.elasticsearch:\n  hosts: [es:9200]\n  worker: 0\n  \
         username: me\n  pasword: it\n",
    );
    let (code, _, err) = output(&mut job.command(&["test", "config"]));
    assert_eq!((code, err.matches("error:").count()), (2, 2), "{err}");
    for part in ["output.elasticsearch.worker: `0` is out of range", "did you mean `password`?"] {
        assert!(err.contains(part), "{part}\n{err}");
    }
}

#[test]
fn an_unknown_option_is_a_warning_in_a_run_and_an_error_in_a_test() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let yaml = job.read("filebeat.yml").replace("  id: job\n", "  id: job\n  scan_frequenzy: 1s\n");
    job.write("filebeat.yml", &yaml);
    let mut run = job.start(&["--once"]);
    run.ends_with(0);
    assert!(run.err().contains("scan_frequenzy"), "{}", run.err());
    job.start(&["--once", "--strict"]).ends_with(2);
    let (code, _, err) = output(&mut job.command(&["test", "config"]));
    assert!(code == 2 && err.contains("scan_frequenzy"), "{err}");
}

#[test]
fn test_output_tries_the_way_to_the_target() {
    let end = Endpoint::start();
    let (code, out, err) = output(&mut Job::new(end.address).command(&["test", "output"]));
    assert!(code == 0 && out.contains(&end.address.to_string()), "{out}{err}");
    let (code, out, err) = output(&mut Job::new(dead_port()).command(&["test", "output"]));
    assert!(code == 1 && out.contains("refused"), "{out}{err}");
}

#[test]
fn export_config_masks_secrets() {
    let job = Job::new(dead_port());
    job.write("filebeat.yml", "output.elasticsearch: {hosts: [\"${HOST}\"], password: topsecret}\n");
    let (code, out, _) = output(job.command(&["export", "config"]).env("HOST", "es:9200"));
    assert!(code == 0 && out.contains("es:9200") && !out.contains("topsecret"), "{out}");
    let (_, out, _) = output(job.command(&["export", "config", "--reveal-secrets"]).env("HOST", "es:9200"));
    assert!(out.contains("topsecret"), "{out}");
}

#[test]
fn called_filebeat_with_the_flags_of_5_6() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let data = job.path("data").display().to_string();
    job.write(
        "filebeat.yml",
        &format!(
            "filebeat.prospectors:\n- input_type: log\n  paths: ['{data}/*.log']\n\
             output.logstash.hosts: ['{}']\n",
            end.address
        ),
    );
    job.write("data/a.log", "one\n");
    symlink(program(), job.path("filebeat")).unwrap();
    let mut command = Command::new("./filebeat");
    command.args(["-e", "-c", "filebeat.yml", "-once", "-strict.perms=false", "-path.home", "."]);
    let mut run = Running::start(command.current_dir(job.path("")).stdin(Stdio::null()), &job.path(""));
    run.ends_with(0);
    let events = end.events();
    assert_eq!((&events[0]["message"], &events[0]["input_type"]), (&"one".into(), &"log".into()));
    let (code, out, _) =
        output(Command::new("./filebeat").args(["-configtest", "-path.home=."]).current_dir(job.path("")));
    assert_eq!((code, out.as_str()), (0, "Config OK\n"));
    let (_, out, _) = output(Command::new("./filebeat").arg("version").current_dir(job.path("")));
    assert!(out.starts_with("filebeat version "), "{out}");
}

#[test]
fn levels_may_be_written_in_letters_of_any_size() {
    let job = Job::new(dead_port());
    for (level, code) in [("info", 0), ("INFO", 0), ("Warning", 0), ("loud", 2)] {
        let mut command = Command::new(program());
        command
            .args(["test", "config", "-c"])
            .arg(job.path("filebeat.yml"))
            .args(["-E", &format!("logging.level={level}")]);
        let (got, out, err) = output(&mut command);
        assert_eq!(got, code, "{level}: {out}{err}");
    }
}
