//! Targets that take the connection and then hang: the run ends in time all the same, and tells what isn't delivered and
//! who hangs.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Endpoint, Job, LIMIT, wait_for};

/// Takes connections, reads what comes, and never says a word.
struct Mute {
    at: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Mute {
    fn start() -> Mute {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, came) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let mute = Mute { at, came: Arc::clone(&came) };
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                came.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let mut some = [0; 4096];
                    while stream.read(&mut some).is_ok_and(|n| n > 0) {}
                });
            }
        });
        mute
    }

    fn is_reached(&self) {
        wait_for("a connection", || (self.came.load(Ordering::SeqCst) > 0).then_some(()));
    }
}

/// Each output with its default times, which are far longer than a test may take.
const OUTPUTS: &[(&str, &str)] = &[
    ("elasticsearch", "hosts: ['http://HOST']"),
    ("elasticsearch", "hosts: ['https://HOST']"),
    ("logstash", "hosts: [HOST]"),
    ("logstash", "{hosts: [HOST], ssl.enabled: true}"),
    ("logstash", "{hosts: ['logstash:5044'], proxy_url: 'socks5://user:s3cret@HOST'}"),
    ("kafka", "{hosts: [HOST], topic: t}"),
    ("redis", "{hosts: [HOST], key: k, timeout: 60s}"),
    ("forward", "{hosts: [HOST], tag: t}"),
];

fn job(target: &Mute, (name, settings): (&str, &str), more: &str) -> Job {
    let job = Job::new(target.at);
    let (data, log) = (job.path("data").display().to_string(), job.path("termination-log").display().to_string());
    let settings = settings.replace("HOST", &target.at.to_string());
    let settings = if settings.starts_with('{') { settings } else { format!("{{{settings}}}") };
    job.write(
        "filebeat.yml",
        &format!(
            "filebeat.inputs:\n- {{type: filestream, id: job, paths: ['{data}/*.log']}}\noutput.{name}: {settings}\n\
             pillion.termination_log: {log}\n{more}"
        ),
    );
    job.write("data/a.log", "one\ntwo\n");
    job
}

#[test]
fn the_time_for_the_drain_ends_a_run_before_a_target_that_hangs() {
    for output in OUTPUTS {
        let target = Mute::start();
        let job = job(&target, *output, "");
        let began = Instant::now();
        let mut run = job.start(&["--once", "--drain-timeout", "700ms"]);
        target.is_reached();
        run.ends_with(3);
        assert!(began.elapsed() < LIMIT, "{output:?}");
        let receipt = job.receipt();
        assert_eq!((&receipt["verdict"], &receipt["phase"]), (&"incomplete".into(), &"timed out".into()), "{output:?}");
        assert_eq!(receipt["files"][0]["not_acknowledged"][0]["to"], 8, "{output:?}: {receipt}");
        assert!(!run.err().contains("s3cret") && !receipt.to_string().contains("s3cret"), "{}", run.err());
    }
}

#[test]
fn a_second_signal_ends_a_run_before_a_target_that_hangs_at_once() {
    for output in OUTPUTS {
        let target = Mute::start();
        let job = job(&target, *output, "");
        let mut run = job.start::<&str>(&[]);
        target.is_reached();
        run.signal(Signal::INT);
        run.says("draining");
        wait_for("what was read", || (job.receipt()["totals"]["events"] == 2).then_some(()));
        let began = Instant::now();
        run.signal(Signal::INT);
        run.ends_with(3);
        assert!(began.elapsed() < Duration::from_secs(20), "{output:?}");
        assert_eq!(job.receipt()["files"][0]["not_acknowledged"][0]["to"], 8, "{output:?}");
    }
}

#[test]
fn who_hangs_is_told_and_another_host_gets_everything() {
    let (mute, good) = (Mute::start(), Endpoint::start());
    for (settings, host) in [
        (format!("{{hosts: ['{}', '{}'], loadbalance: true, timeout: 1s}}", mute.at, good.address), "both"),
        (format!("{{hosts: ['{}', '{}'], timeout: 1s}}", mute.at, good.address), "one of them"),
    ] {
        let job = job(&mute, ("logstash", &settings), "");
        let (before, came) = (good.messages().len(), mute.came.load(Ordering::SeqCst));
        let mut run = job.start(&["--once"]);
        run.ends_with(0);
        assert_eq!(good.messages()[before..], ["one", "two"], "{host}");
        let asked = mute.came.load(Ordering::SeqCst) > came;
        let waited = run.err().contains("no answer for 1s");
        assert!(!waited || asked && run.err().contains(&format!("logstash: {}: ", mute.at)), "{}", run.err());
    }
}
