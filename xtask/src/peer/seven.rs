//! What only Filebeat 6 and 7 have: cases for `cargo xtask e2e differential`.

use super::cases::{CONTAINER_TRACES, CRI, Case, DOCKER, log};

const fn docker(name: &'static str, options: &'static str, files: &'static [(&'static str, &'static [u8])]) -> Case {
    Case { name, kind: "docker", glob: "*.log", options, files }
}

const JSON: &[u8] = br#"{"log":"{\"a\":1,\"message\":\"m\"}\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}
{"log":"text\n","stream":"stderr","time":"2026-01-01T00:00:01Z"}
"#;

/// All of them.
pub(super) const SEVEN: &[Case] = &[
    docker("seven-docker", "", &[("a.log", DOCKER), ("b.log", DOCKER), ("c.txt", DOCKER)]),
    docker("seven-stream", "containers.stream: stderr", &[("a.log", DOCKER)]),
    docker("seven-parts", "combine_partials: false", &[("a.log", DOCKER)]),
    docker("seven-manual", "combine_partial: false", &[("a.log", DOCKER)]),
    docker("seven-cri", "cri.parse_flags: true", &[("a.log", CRI)]),
    docker("seven-cri-parts", "cri.parse_flags: true, combine_partials: false", &[("a.log", CRI)]),
    docker("seven-flags", "", &[("a.log", CRI)]),
    docker("seven-force", "cri: {force: true, parse_flags: true}", &[("a.log", CRI)]),
    docker("seven-fields", "fields: {team: a}, tags: [one], exclude_lines: ['^$']", &[("a.log", DOCKER)]),
    docker(
        "seven-multi",
        "cri.parse_flags: true, multiline: {pattern: '^ ', match: after}",
        &[("a.log", CONTAINER_TRACES)],
    ),
    docker("seven-json", "json: {keys_under_root: true, message_key: message}", &[("a.log", JSON)]),
    log("seven-option", "docker-json: {stream: stdout, partial: true, cri_flags: true}", &[("a.log", CRI)]),
    log("seven-option-format", "docker-json: {stream: all, format: docker}", &[("a.log", DOCKER)]),
];
