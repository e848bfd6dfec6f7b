//! What events say of their files.

use crate::harness::{Endpoint, Job};

#[test]
fn events_name_the_owner_of_their_file_where_that_is_wanted() {
    let end = Endpoint::start();
    let job = Job::new(end.address);
    let log = job.write("data/a.log", "one\n");
    let shown = std::process::Command::new("stat").args(["-c", "%U:%G"]).arg(log).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let (owner, group) = shown.trim().split_once(':').unwrap();
    let config = job.read("filebeat.yml");
    for (options, want) in [
        ("  include_file_owner_name: true\n  include_file_owner_group_name: true\n", (Some(owner), Some(group))),
        ("", (None, None)),
    ] {
        let id = format!("  id: job{}\n", options.len());
        job.write(
            "filebeat.yml",
            &format!("pillion.compat: 9\n{}", config.replace("  id: job\n", &format!("{id}{options}"))),
        );
        let before = end.events().len();
        job.start(&["--once"]).ends_with(0);
        let event = end.wait(before + 1).pop().unwrap();
        let file = &event["log"]["file"];
        assert_eq!((file["owner"].as_str(), file["group"].as_str()), want, "{event}");
    }
}
