//! What is tried with the image.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::job::Job;
use super::{Bed, Container, LIMIT, Spec};
use crate::{Outcome, wait};

/// The usual workaround, word for word.
const LOOP: &str = "filebeat -e -c filebeat.yml & while [ ! -f /data/completion-flag ]; do sleep 1; done && exit 0";

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) run: fn(&Bed) -> Outcome,
}

pub(super) const ALL: &[Case] = &[
    Case { name: "exit codes", run: exit_codes },
    Case { name: "a trap", run: a_trap },
    Case { name: "SIGTERM without a trap", run: without_a_trap },
    Case { name: "exec", run: becomes_another },
    Case { name: "zombies", run: zombies },
    Case { name: "what is left running", run: left_running },
    Case { name: "a shell by kubectl exec", run: by_kubectl_exec },
    Case { name: "a shared process namespace", run: shared_namespace },
    Case { name: "the usual loop", run: usual_loop },
    Case { name: "a flag before the start", run: flag_before_start },
    Case { name: "SIGTERM under the loop", run: term_under_the_loop },
    Case { name: "a script that ends it", run: script_ends_it },
    Case { name: "in the foreground", run: in_the_foreground },
    Case { name: "a shell that is killed", run: shell_is_killed },
    Case { name: "a target that is away", run: target_is_away },
    Case { name: "the entry point", run: entry_point },
    Case { name: "install", run: install },
    Case { name: "no target", run: no_target },
    Case { name: "nowhere to write", run: nowhere_to_write },
    Case { name: "written into its own layer", run: own_layer },
];

fn exit_codes(bed: &Bed) -> Outcome {
    for (script, code) in [
        ("exit 7", 7),
        ("true", 0),
        ("set -e; false; exit 0", 1),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("exec sh -c 'exit 5'", 5),
        ("exec sh -c 'kill -9 $$'", 137),
        ("no-such-command", 127),
        ("sleep 1000 & exit 3", 3),
        // What ignores its end is ended a second later.
        ("trap '' TERM; sh -c 'while :; do sleep 1; done' & exit 4", 4),
        ("set -o pipefail; false | true", 1),
    ] {
        let mut container = Container::start(bed, &Spec::shell(script))?;
        container.ends_with(code).map_err(|e| format!("{script}: {e}"))?;
    }
    let mut bash = Container::start(bed, &Spec::new(&["/bin/bash", "-euo", "pipefail", "-c", "[[ a == a ]]; exit 6"]))?;
    bash.ends_with(6)?;
    Container::start(bed, &Spec::new(&["docker-entrypoint", "sh", "-c", "exit 8"]))?.ends_with(8)
}

fn a_trap(bed: &Bed) -> Outcome {
    let script = "trap 'echo trapped; exit 9' TERM; trap 'echo one' USR1; echo ready; while :; do sleep 0.05; done";
    let mut container = Container::ready(bed, &Spec::shell(script))?;
    // What has no trap does nothing, as to process 1.
    container.signal(Signal::HUP)?;
    container.signal(Signal::USR2)?;
    container.signal(Signal::USR1)?;
    container.wait_for_line("one")?;
    container.signal(Signal::TERM)?;
    container.ends_with(9)?;
    container.wait_for_line("trapped").or(Err(container.log()))
}

fn without_a_trap(bed: &Bed) -> Outcome {
    let script = "sleep 1000 & echo ready; wait $!; echo \"child $?\"; exit 2";
    let mut container = Container::ready(bed, &Spec::shell(script))?;
    container.signal(Signal::TERM)?;
    container.ends_with(2)?;
    if container.log().contains("child 143") { Ok(()) } else { Err(container.log()) }
}

fn becomes_another(bed: &Bed) -> Outcome {
    let script = "exec sh -c 'trap \"exit 4\" TERM; echo ready; while :; do sleep 0.05; done'";
    let mut container = Container::ready(bed, &Spec::shell(script))?;
    container.signal(Signal::TERM)?;
    container.ends_with(4)?;
    // A shipper in the shell's place drains at SIGTERM.
    let mut job = Job::new()?;
    let mut container = Container::start(bed, &job.aim(Spec::shell("exec filebeat -e")))?;
    job.begin(&container)?;
    job.write(&container, 100)?;
    container.signal(Signal::TERM)?;
    container.ends_with(0)?;
    job.check(&container)
}

fn zombies(bed: &Bed) -> Outcome {
    let script = "i=0; while [ $i -lt 100 ]; do (true &); i=$((i + 1)); done
        i=0; while grep -q ') Z ' /proc/[0-9]*/stat 2>/dev/null; do sleep 0.05; i=$((i + 1)); [ $i -lt 200 ] || exit 1; done";
    Container::start(bed, &Spec::shell(script))?.ends_with(0)
}

fn left_running(bed: &Bed) -> Outcome {
    let script = "(trap 'echo told > /data/told; exit' TERM; echo ready; while :; do sleep 0.05; done) &
        while [ ! -f /data/go ]; do sleep 0.05; done; exit 3";
    let mut container = Container::ready(bed, &Spec::shell(script))?;
    fs::write(container.data("go"), b"").map_err(|e| e.to_string())?;
    container.ends_with(3)?;
    fs::read_to_string(container.data("told")).map(drop).map_err(|e| format!("it wasn't told: {e}"))
}

fn by_kubectl_exec(bed: &Bed) -> Outcome {
    let mut job = Job::new()?;
    let mut container = Container::start(bed, &job.aim(Spec::shell(LOOP)))?;
    job.begin(&container)?;
    for (script, code, said) in [
        ("readlink /proc/$$/exe; echo $PPID; exit 5", 5, "/usr/bin/busybox\n0\n"),
        ("kill -9 $$", -1, ""),
        ("filebeat version | cut -d' ' -f1; true", 0, "filebeat\n"),
    ] {
        let got = container.exec(&["sh", "-c", script])?;
        if got != (code, said.to_owned()) {
            return Err(format!("{script}: {got:?}"));
        }
    }
    job.write(&container, 10)?;
    job.flag(&container)?;
    container.ends_with(0)?;
    job.check(&container)
}

fn shared_namespace(bed: &Bed) -> Outcome {
    let mut pause = Container::ready(bed, &Spec::new(&["busybox", "sh", "-c", "echo ready; exec sleep 1000"]))?;
    let shared = Some(pause.first()?);
    let mut other = Container::ready(bed, &Spec { shared, ..Spec::shell("echo ready; sleep 1000; exit 1") })?;
    for _ in 0..bed.trials.div_ceil(4) {
        let mut job = Job::new()?;
        let mut container = Container::start(bed, &job.aim(Spec { shared, ..Spec::shell(LOOP) }))?;
        job.begin(&container)?;
        let who = container.exec(&["sh", "-c", "echo $$; readlink /proc/$$/exe"])?.1;
        if who.starts_with("1\n") || !who.contains("busybox") {
            return Err(format!("not a shared process namespace, or no shell: {who}"));
        }
        job.write(&container, 300)?;
        job.flag(&container)?;
        container.ends_with(0)?;
        job.check(&container)?;
    }
    let mut orphan = Container::start(bed, &Spec { shared, ..Spec::shell("(sleep 1000 &); exit 3") })?;
    orphan.ends_with(3)?;
    // What isn't of the same container lives on, and nothing is left of those that ended.
    let left = other.exec(&["ps", "-o", "args"])?.1;
    if left.contains("filebeat") || left.lines().filter(|l| *l == "sleep 1000").count() > 2 {
        return Err(format!("left behind: {left}"));
    }
    match (pause.launcher.ended()?, other.launcher.ended()?) {
        (None, None) => Ok(()),
        _ => Err("another container's process was ended".into()),
    }
}

fn usual_loop(bed: &Bed) -> Outcome {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let one = |number: usize| {
        let mut job = Job::new()?;
        let set_e = format!("set -e; {LOOP}");
        let mut container = Container::start(bed, &job.aim(Spec::shell(if number % 4 == 3 { &set_e } else { LOOP })))?;
        job.begin(&container)?;
        job.write(&container, [1, 300][number % 2])?;
        job.flag(&container)?;
        container.ends_with(0)?;
        job.check(&container).map_err(|e| format!("trial {number}: {e}"))
    };
    let many = || {
        while let Some(number) =
            Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|&n| n < bed.trials)
        {
            one(number)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err("a trial panicked".into())))
    })
}

/// A Job that was done before its sidecar ran.
fn flag_before_start(bed: &Bed) -> Outcome {
    for number in 0..bed.trials {
        let script = match number % 3 {
            0 => LOOP.to_owned(),
            1 => format!("({LOOP})"),
            _ => "nohup filebeat -e & exit 0".to_owned(),
        };
        let wait = format!("while [ ! -f /data/go ]; do sleep 0.01; done; {script}");
        let mut job = Job::new()?;
        let mut container = Container::start(bed, &job.aim(Spec::shell(&wait)))?;
        job.write(&container, 50)?;
        job.flag(&container)?;
        fs::write(container.data("go"), b"").map_err(|e| e.to_string())?;
        container.ends_with(0)?;
        job.check(&container).map_err(|e| format!("{script}: {e}"))?;
    }
    // The plain shell takes the shipper with it, or these trials prove nothing.
    let mut job = Job::new()?;
    let script = "while [ ! -f /data/go ]; do sleep 0.01; done; filebeat -e & exit 0";
    let mut container = Container::start(bed, &job.aim(Spec::new(&["busybox", "sh", "-c", script])))?;
    job.write(&container, 50)?;
    fs::write(container.data("go"), b"").map_err(|e| e.to_string())?;
    container.ends_with(0)?;
    if job.check(&container).is_ok() { Err("the plain shell lost nothing either".into()) } else { Ok(()) }
}

/// An ordinary sidecar gets SIGTERM together with main, which writes on.
fn term_under_the_loop(bed: &Bed) -> Outcome {
    for script in [LOOP.to_owned(), format!("set -e; {LOOP}"), format!("trap 'echo trapped' TERM; {LOOP}")] {
        let mut job = Job::new()?;
        let mut container = Container::start(bed, &job.aim(Spec::shell(&script)))?;
        job.begin(&container)?;
        container.signal(Signal::TERM)?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(1500) {
            job.write(&container, 1)?;
            job.arrived(&container)?;
        }
        if container.launcher.ended()?.is_some() {
            return Err(format!("{script}: it ended at SIGTERM; {}", container.log()));
        }
        job.write(&container, 100)?;
        job.flag(&container)?;
        container.ends_with(0)?;
        job.check(&container).map_err(|e| format!("{script}: {e}"))?;
    }
    Ok(())
}

/// Those who wrote a better loop, which ends the shipper and waits for it: SIGTERM from the script is the end.
fn script_ends_it(bed: &Bed) -> Outcome {
    let script =
        "filebeat -e & while [ ! -f /data/completion-flag ]; do sleep 0.1; done; kill $!; wait $!; echo \"shipper $?\"";
    for term in [false, true] {
        let mut job = Job::new()?;
        let mut container = Container::start(bed, &job.aim(Spec::shell(script)))?;
        job.begin(&container)?;
        if term {
            container.signal(Signal::TERM)?;
            job.begin(&container)?;
        }
        job.write(&container, 100)?;
        job.flag(&container)?;
        container.ends_with(0)?;
        job.check(&container)?;
        if !container.log().contains("shipper 0") {
            return Err(container.log());
        }
    }
    Ok(())
}

/// A shipper that the shell waits for is the container's work: SIGTERM drains it.
fn in_the_foreground(bed: &Bed) -> Outcome {
    let mut job = Job::new()?;
    let mut container = Container::start(bed, &job.aim(Spec::shell("filebeat -e; echo \"shipper $?\"; exit 6")))?;
    job.begin(&container)?;
    job.write(&container, 100)?;
    container.signal(Signal::TERM)?;
    container.ends_with(6)?;
    job.check(&container)?;
    if container.log().contains("shipper 0") { Ok(()) } else { Err(container.log()) }
}

/// By a signal, and in the midst of a pipe that the shipper's log goes through.
fn shell_is_killed(bed: &Bed) -> Outcome {
    let script = "filebeat -e 2>&1 | tee /data/shipper.txt & while [ ! -f /data/completion-flag ]; do sleep 0.05; done; kill -9 $$";
    let mut job = Job::new()?;
    let mut container = Container::start(bed, &job.aim(Spec::shell(script)))?;
    job.begin(&container)?;
    job.write(&container, 100)?;
    job.flag(&container)?;
    container.ends_with(137)?;
    job.check(&container)
}

/// The container waits for the drain; whoever can't wait says SIGINT once more.
fn target_is_away(bed: &Bed) -> Outcome {
    let script =
        "(while [ ! -f /data/job.log ]; do sleep 0.05; done; exec filebeat -e) & echo ready; sleep 0.5; exit 5";
    let spec = Spec::shell(script).env("ELASTICSEARCH_HOSTS", "http://127.0.0.1:1");
    let mut container = Container::ready(bed, &spec)?;
    fs::write(container.data("job.log"), b"one line\n").map_err(|e| e.to_string())?;
    wait::until("the drain", LIMIT, || Ok(container.log().contains("draining").then_some(())))
        .map_err(|e| format!("{e}; {}", container.log()))?;
    container.signal(Signal::TERM)?;
    if container.launcher.ended()?.is_some() {
        return Err(format!("it didn't wait: {}", container.log()));
    }
    container.signal(Signal::INT)?;
    container.ends_with(5)?;
    let log = container.log();
    if log.contains("incomplete") { Ok(()) } else { Err(log) }
}

/// A copy on a volume is a shipper like the image's own.
fn install(bed: &Bed) -> Outcome {
    let script = "pillion install /data/bin && pillion install /data/bin && PATH=/data/bin:$PATH &&
        pillion -e -c /usr/share/filebeat/filebeat.yml --path.data /data/state &
        while [ ! -f /data/completion-flag ]; do sleep 0.05; done; exit 0";
    let mut job = Job::new()?;
    let mut container = Container::start(bed, &job.aim(Spec::shell(script)))?;
    job.begin(&container)?;
    job.write(&container, 100)?;
    job.flag(&container)?;
    container.ends_with(0)?;
    job.check(&container)?;
    if container.log().contains("is there already") { Ok(()) } else { Err(container.log()) }
}

/// Without a command, as any user, with nothing writable but the volumes.
fn entry_point(bed: &Bed) -> Outcome {
    for user in [0, 1000, 1_000_660_000] {
        let mut job = Job::new()?;
        let spec = Spec { user, ..Spec::new(&["/usr/local/bin/docker-entrypoint", "-environment", "container"]) };
        let mut container = Container::start(bed, &job.aim(spec))?;
        job.begin(&container)?;
        job.write(&container, 100)?;
        container.signal(Signal::TERM)?;
        container.ends_with(0)?;
        job.check(&container)?;
    }
    Ok(())
}

fn no_target(bed: &Bed) -> Outcome {
    let mut container = Container::start(bed, &Spec::new(&["docker-entrypoint", "-e"]))?;
    container.ends_with(2)?;
    if container.log().contains("ELASTICSEARCH_HOSTS") { Ok(()) } else { Err(container.log()) }
}

fn nowhere_to_write(bed: &Bed) -> Outcome {
    let job = Job::new()?;
    let spec = Spec { state: false, ..Spec::new(&["docker-entrypoint", "-e"]) };
    let mut container = Container::start(bed, &job.aim(spec))?;
    container.ends_with(1)?;
    let log = container.log();
    if log.contains("/usr/share/filebeat/data") && log.contains("path.data") { Ok(()) } else { Err(log) }
}

fn own_layer(bed: &Bed) -> Outcome {
    let said = "the container's own layer";
    for (state, warned) in [(false, true), (true, false)] {
        let mut job = Job::new()?;
        let spec = Spec { state, read_only: false, ..Spec::new(&["docker-entrypoint", "-e"]) };
        let spec = spec.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        let mut container = Container::start(bed, &job.aim(spec))?;
        job.begin(&container)?;
        container.signal(Signal::TERM)?;
        container.ends_with(0)?;
        if container.log().contains(said) != warned {
            return Err(container.log());
        }
    }
    Ok(())
}
