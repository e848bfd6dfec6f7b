//! The shell around the work's command, run by real shells: arguments, exit codes, signals, flag and lock.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is a failure of the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pillion_kube::inject::{Options, Way, apply, plan};
use serde_json::{Value, json};

/// The shells of this machine; dash or bash is always there.
fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["/bin/dash"], vec!["/bin/bash"], vec!["/bin/busybox", "sh"]];
    let there: Vec<_> = all.into_iter().filter(|words| Path::new(words[0]).exists()).collect();
    assert!(!there.is_empty());
    there
}

/// What `inject` makes of containers with these commands: one command line each, in a folder of the test.
fn wrapped(restart: &str, commands: &[&[&str]], folder: &Path) -> Vec<Vec<String>> {
    let container = |(i, command): (usize, &&[&str])| json!({"name": format!("c{i}"), "command": command});
    let containers: Vec<Value> = commands.iter().enumerate().map(container).collect();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
        "spec": {"restartPolicy": restart, "containers": containers}});
    let edits = plan(&pod, &Options { way: Way::Flag, ..Options::default() }).unwrap().edits;
    apply(&mut pod, &edits).unwrap();
    let words = |i: usize| -> Vec<String> {
        let command = pod["spec"]["containers"][i]["command"].as_array().unwrap();
        let text = |word: &Value| word.as_str().unwrap().replace("/run/pillion", folder.to_str().unwrap());
        assert!(command[0] == "/bin/sh" && !command[2].as_str().unwrap().contains("$("));
        command.iter().skip(1).map(text).collect()
    };
    (0..commands.len()).map(words).collect()
}

struct Stage {
    tmp: tempfile::TempDir,
    shell: Vec<&'static str>,
}

impl Stage {
    fn each(test: impl Fn(&Stage)) {
        for shell in shells() {
            test(&Stage { tmp: tempfile::tempdir().unwrap(), shell });
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    fn start(&self, words: &[String]) -> Child {
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn one(&self, restart: &str, command: &[&str]) -> Child {
        self.start(&wrapped(restart, &[command], self.tmp.path())[0])
    }

    fn flag(&self) -> Option<String> {
        std::fs::read_to_string(self.path("done")).ok()
    }

    /// Whether somebody holds the lock, as the engine looks at it.
    fn is_held(&self) -> bool {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = rustix::fs::open(self.path("lock"), flags, Mode::empty()).unwrap();
        rustix::io::read(&fd, &mut [0; 1]).is_err()
    }
}

impl Stage {
    /// Blocks until nobody holds the lock.
    fn wait_released(&self) {
        use rustix::fs::{Mode, OFlags};
        let fd = rustix::fs::open(self.path("lock"), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        rustix::fs::fcntl_setfl(&fd, OFlags::empty()).unwrap();
        assert_eq!(rustix::io::read(&fd, &mut [0; 1]).unwrap(), 0);
    }
}

/// Reads one line that the work has written: it runs now.
fn line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

#[test]
fn arguments_input_and_exit_code_stay_as_they_are() {
    Stage::each(|stage| {
        let command = ["/bin/sh", "-c", r#"printf '<%s>' "$@"; cat; exit 7"#, "name", "a b", "", "*", "$HOME", "-e"];
        let mut child = stage.one("Never", &command);
        child.stdin.take().unwrap().write_all(b"input").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "<a b><><*><$HOME><-e>input", "{:?}", stage.shell);
        assert_eq!(output.status.code(), Some(7), "{:?}", stage.shell);
        assert_eq!(stage.flag().as_deref(), Some("7\n"), "{:?}", stage.shell);
        assert!(!stage.is_held(), "{:?}", stage.shell);
    });
}

#[test]
fn a_command_that_is_not_there_ends_with_127() {
    Stage::each(|stage| {
        let output = stage.one("Never", &["/nowhere/to/be/found"]).wait_with_output().unwrap();
        assert_eq!((output.status.code(), stage.flag().as_deref()), (Some(127), Some("127\n")), "{:?}", stage.shell);
    });
}

#[test]
fn signals_are_passed_on_and_the_end_is_waited_for() {
    use rustix::process::Signal;
    Stage::each(|stage| {
        for (sent, name) in [(Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1")] {
            let script = format!("trap 'echo got; exit 5' {name}; echo ready; while :; do sleep 0.05; done");
            let mut child = stage.one("Never", &["/bin/sh", "-c", &script]);
            assert_eq!(line(&mut child), "ready");
            assert!(stage.is_held() && stage.flag().is_none());
            signal(&child, sent);
            assert_eq!(line(&mut child), "got", "{name} {:?}", stage.shell);
            assert_eq!(child.wait().unwrap().code(), Some(5), "{name} {:?}", stage.shell);
            assert_eq!(stage.flag().as_deref(), Some("5\n"));
        }
    });
}

#[test]
fn a_work_that_goes_on_after_a_signal_is_waited_for() {
    use rustix::process::Signal;
    Stage::each(|stage| {
        let script = "trap 'echo again' USR1; trap '' HUP; echo ready; \
                      while read -r x; do echo $x; done; while read -r x; do :; done; exit 3";
        let mut child = stage.one("Never", &["/bin/sh", "-c", script]);
        let mut input = child.stdin.take().unwrap();
        assert_eq!(line(&mut child), "ready");
        for _ in 0..3 {
            signal(&child, Signal::HUP);
            input.write_all(b"x\n").unwrap();
            assert_eq!(line(&mut child), "x", "{:?}", stage.shell);
            assert!(stage.flag().is_none() && stage.is_held(), "{:?}", stage.shell);
        }
        drop(input);
        assert_eq!(child.wait().unwrap().code(), Some(3), "{:?}", stage.shell);
        assert_eq!(stage.flag().as_deref(), Some("3\n"));
    });
}

#[test]
fn a_work_that_is_killed_has_its_code_told() {
    Stage::each(|stage| {
        let output = stage.one("Never", &["/bin/sh", "-c", "kill -9 $$"]).wait_with_output().unwrap();
        assert_eq!((output.status.code(), stage.flag().as_deref()), (Some(137), Some("137\n")), "{:?}", stage.shell);
    });
}

#[test]
fn when_all_are_killed_the_lock_is_released_without_a_flag() {
    Stage::each(|stage| {
        let mut child = stage.one("Never", &["/bin/sh", "-c", "echo $$; read x"]);
        let work: i32 = line(&mut child).parse().unwrap();
        let input = child.stdin.take(); // waiting would close it, and the work would end
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(stage.is_held(), "the work still runs: {:?}", stage.shell);
        rustix::process::kill_process(rustix::process::Pid::from_raw(work).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        stage.wait_released();
        drop(input);
        assert!(stage.flag().is_none(), "{:?}", stage.shell);
    });
}

#[test]
fn a_try_begins_without_the_flag_of_the_one_before() {
    Stage::each(|stage| {
        stage.one("OnFailure", &["/bin/sh", "-c", "exit 1"]).wait().unwrap();
        assert_eq!(stage.flag().as_deref(), Some("1\n"));
        let mut child = stage.one("OnFailure", &["/bin/sh", "-c", "echo ready; read x"]);
        assert_eq!(line(&mut child), "ready");
        assert!(stage.flag().is_none() && stage.is_held(), "{:?}", stage.shell);
        drop(child.stdin.take());
        child.wait().unwrap();
    });
}

#[test]
fn where_a_container_is_started_again_for_ever_there_is_no_flag() {
    Stage::each(|stage| {
        assert_eq!(stage.one("Always", &["/bin/sh", "-c", "exit 4"]).wait().unwrap().code(), Some(4));
        assert!(stage.flag().is_none() && !stage.is_held(), "{:?}", stage.shell);
    });
}

#[test]
fn of_several_containers_the_last_one_makes_the_flag() {
    Stage::each(|stage| {
        let work: &[&str] = &["/bin/sh", "-c", "echo ready; read x; exit $x"];
        let lines = wrapped("Never", &[work, work, work], stage.tmp.path());
        let mut first = stage.start(&lines[0]);
        assert_eq!(line(&mut first), "ready");
        assert!(!stage.path("lock").exists(), "not all have begun");
        let mut others = [stage.start(&lines[1]), stage.start(&lines[2])];
        others.iter_mut().for_each(|child| assert_eq!(line(child), "ready"));
        assert!(stage.is_held());
        let end = |child: &mut Child, code: &str| {
            child.stdin.take().unwrap().write_all(format!("{code}\n").as_bytes()).unwrap();
            assert_eq!(child.wait().unwrap().code().unwrap().to_string(), code);
        };
        let [second, third] = &mut others;
        end(&mut first, "0");
        end(third, "6");
        assert!(stage.is_held() && stage.flag().is_none(), "{:?}", stage.shell);
        end(second, "0");
        assert_eq!(stage.flag().as_deref(), Some("6\n"), "{:?}", stage.shell);
        assert!(!stage.is_held());
    });
}

#[test]
fn of_several_that_may_try_again_all_must_succeed() {
    Stage::each(|stage| {
        let lines = wrapped(
            "OnFailure",
            &[&["/bin/sh", "-c", "exit 0"], &["/bin/sh", "-c", "[ -e \"$0\" ]", stage.path("go").to_str().unwrap()]],
            stage.tmp.path(),
        );
        assert_eq!(stage.start(&lines[0]).wait().unwrap().code(), Some(0));
        assert_eq!(stage.start(&lines[1]).wait().unwrap().code(), Some(1));
        assert!(stage.flag().is_none(), "{:?}", stage.shell);
        std::fs::File::create_new(stage.path("go")).unwrap();
        assert_eq!(stage.start(&lines[1]).wait().unwrap().code(), Some(0));
        assert_eq!(stage.flag().as_deref(), Some("0\n"), "{:?}", stage.shell);
    });
}

#[test]
fn without_mkfifo_there_is_still_the_flag() {
    Stage::each(|stage| {
        let words = &wrapped("Never", &[&["/bin/sh", "-c", "exit 2"]], stage.tmp.path())[0];
        let mut command = Command::new(stage.shell[0]);
        // busybox's shell has its own; it is the only one that does.
        let status = command.args(&stage.shell[1..]).args(words).env("PATH", "/nowhere").output().unwrap();
        assert_eq!((status.status.code(), stage.flag().as_deref()), (Some(2), Some("2\n")), "{:?}", stage.shell);
    });
}
