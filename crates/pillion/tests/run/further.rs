//! Inputs of further files (`filebeat.config.inputs`).

use crate::harness::{Endpoint, Job};

/// A job whose configuration names `inputs.d/*.yml`, with this added below the option.
fn job(endpoint: &Endpoint, more: &str) -> Job {
    let job = Job::new(endpoint.address);
    let config = job.read("filebeat.yml");
    job.write("filebeat.yml", &format!("{config}filebeat.config.inputs:\n  path: inputs.d/*.yml\n{more}"));
    for folder in ["inputs.d", "more"] {
        std::fs::create_dir(job.path(folder)).unwrap();
    }
    job
}

/// One input that reads `more/NAME*`.
fn input(job: &Job, name: &str) -> String {
    format!("- type: filestream\n  id: {name}\n  paths: ['{}/{name}*']\n", job.path("more").display())
}

#[test]
fn inputs_of_further_files_are_read_beside_those_of_the_main_one() {
    let endpoint = Endpoint::start();
    let job = job(&endpoint, "");
    job.write("inputs.d/a.yml", &input(&job, "a"));
    job.write("inputs.d/b.yml", &input(&job, "b"));
    job.write("inputs.d/c.yml.off", &input(&job, "c"));
    for (file, line) in [("data/x.log", "main\n"), ("more/a", "of a\n"), ("more/b", "of b\n"), ("more/c", "of c\n")] {
        job.write(file, line);
    }
    job.start(&["test", "config"]).ends_with(0);
    job.start(&["--once"]).ends_with(0);
    let mut lines = endpoint.messages();
    lines.sort();
    assert_eq!(lines, ["main", "of a", "of b"]);
    assert_eq!(job.receipt()["verdict"], "complete");
}

#[test]
fn a_further_file_that_is_wrong_is_refused_with_its_place() {
    let job = job(&Endpoint::start(), "");
    job.write("inputs.d/a.yml", &input(&job, "a"));
    job.write("inputs.d/b.yml", &format!("{}  close.inactive: soon\n", input(&job, "b").replace("id: b", "id: a")));
    for args in [&["test", "config"][..], &["run", "--once"]] {
        let mut ran = job.start(args);
        ran.ends_with(2);
        assert!(
            ran.err().contains("inputs.d/b.yml:2:7: filebeat.inputs.0.id: another filestream input"),
            "{}",
            ran.err()
        );
    }
    std::fs::set_permissions(job.path("inputs.d/a.yml"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let mut ran = job.start(&["test", "config"]);
    ran.ends_with(2);
    assert!(ran.err().contains("a.yml\") can only be writable by the owner"), "{}", ran.err());
}
