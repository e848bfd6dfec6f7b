//! `delete.*`: delivered files go, and no others.

use rustix::process::Signal;

use crate::harness::{Endpoint, Job, dead_port, wait_for};

/// A job whose files go as soon as they are delivered.
fn job(target: std::net::SocketAddr) -> Job {
    let job = Job::new(target);
    let config = job.read("filebeat.yml");
    let more = "  id: job\n  delete: {enabled: true, grace_period: 200ms}\n  close.reader.on_eof: true\n  \
                prospector.scanner.check_interval: 50ms\n";
    job.write("filebeat.yml", &config.replace("  id: job\n", more));
    job
}

#[test]
fn delivered_files_are_deleted_and_others_stay() {
    let endpoint = Endpoint::start();
    let job = job(endpoint.address);
    let mut run = job.start::<&str>(&[]);
    let line = "a line that is long enough to be told apart from others ".repeat(30);
    for n in 0..50 {
        job.write(&format!("data/{n}.log"), &format!("{n} {line}\n{n} end\n"));
    }
    job.write("data/half.log", &format!("{line}\nhalf"));
    endpoint.wait(101);
    let left = || {
        // The registry lies there, too.
        let names = std::fs::read_dir(job.path("data")).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".log") || name.starts_with('.')).collect::<Vec<_>>()
    };
    wait_for("an empty folder", || (left() == ["half.log"]).then_some(()));
    run.signal(Signal::INT);
    run.ends_with(0);
    assert_eq!(endpoint.events().len(), 102);
    assert_eq!(job.receipt()["verdict"], "complete");
    assert_eq!(left(), ["half.log"]);
}

#[test]
fn what_is_not_delivered_is_not_deleted() {
    let job = job(dead_port());
    job.write("data/a.log", "one\n");
    let mut run = job.start(&["--drain-timeout", "100ms"]);
    run.says("connect");
    // Longer than the grace period and many searches.
    std::thread::park_timeout(std::time::Duration::from_millis(600));
    run.signal(Signal::INT);
    run.ends_with(3);
    assert_eq!(job.read("data/a.log"), "one\n");
}

#[test]
fn what_lies_in_the_disk_queue_is_not_deleted() {
    let job = job(dead_port());
    job.write("filebeat.yml", &format!("{}\nqueue.disk.max_size: 10MB\n", job.read("filebeat.yml")));
    job.write("data/a.log", "one\n");
    let mut run = job.start(&["--drain-timeout", "100ms"]);
    run.says("connect");
    std::thread::park_timeout(std::time::Duration::from_millis(600));
    run.signal(Signal::INT);
    run.ends_with(3);
    assert_eq!(job.receipt()["queue"]["events"], 1);
    assert_eq!(job.read("data/a.log"), "one\n", "the target may refuse it yet");
}
