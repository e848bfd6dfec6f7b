//! `take_over`: a filestream goes on where another input has read to.

use crate::harness::{Endpoint, Job};

#[test]
fn a_change_from_log_to_filestream_and_of_the_id_doubles_nothing() {
    let endpoint = Endpoint::start();
    let job = Job::new(endpoint.address);
    let written = job.read("filebeat.yml");
    job.write("data/a.log", "one\n");
    let with = |input: &str, lines: &str| {
        job.write("filebeat.yml", &written.replace("type: filestream\n  id: job\n", input));
        job.write("data/a.log", lines);
        job.start(&["--once"]).ends_with(0);
    };
    with("type: log\n", "one\n");
    with("type: filestream\n  id: first\n  take_over: true\n", "one\ntwo\n");
    with(
        "type: filestream\n  id: second\n  take_over: {enabled: true, from_ids: [first]}\n  file_identity.fingerprint: {growing: true}\n",
        "one\ntwo\nthree\n",
    );
    with("type: filestream\n  id: second\n  file_identity.fingerprint: {growing: true}\n", "one\ntwo\nthree\nfour\n");
    assert_eq!(endpoint.messages(), ["one", "two", "three", "four"]);
    let tags: Vec<_> = endpoint.events().iter().map(|e| e["tags"].clone()).collect();
    let marked = serde_json::json!(["take_over"]);
    assert!(tags[0].is_null() && tags[1] == marked && tags[2] == marked && tags[3].is_null(), "{tags:?}");
}
