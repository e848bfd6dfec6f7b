//! Which dialect a configuration is taken for, and why.

use pillion_config::{Compat, Config};

#[test]
fn signs() {
    let eight = "nothing in it belongs to one version alone; set pillion.compat to 5.6, 7, 8 or 9 to say otherwise";
    for (yaml, compat, reason, version) in [
        ("filebeat.inputs: [{type: log, paths: [/x]}]", Compat::V8, eight, "8.19.14"),
        (
            "filebeat.prospectors: [{input_type: log, paths: [/x]}]",
            Compat::V5,
            "`filebeat.prospectors` is an option of Filebeat 5.6",
            "5.6.16",
        ),
        (
            "filebeat:\n  inputs:\n  - {type: log}\n  - {input_type: log}",
            Compat::V5,
            "`filebeat.inputs.1.input_type` is an option of Filebeat 5.6",
            "5.6.16",
        ),
        ("filebeat.registry_file: x", Compat::V5, "`filebeat.registry_file` is an option of Filebeat 5.6", "5.6.16"),
        ("filebeat.registry_file: ~", Compat::V8, eight, "8.19.14"),
        (
            "output.elasticsearch.preset: latency",
            Compat::V8,
            "`output.elasticsearch.preset` is an option of Filebeat 8",
            "8.19.14",
        ),
        (
            "filebeat.inputs:\n- {type: filestream, delete.enabled: true}",
            Compat::V9,
            "`filebeat.inputs.0.delete` is an option of Filebeat 9",
            "9.6.0",
        ),
        (
            "filebeat.inputs:\n- {type: filestream, gzip_experimental: true}",
            Compat::V9,
            "`filebeat.inputs.0.gzip_experimental` is an option of Filebeat 9",
            "9.6.0",
        ),
        (
            "features.log_input_run_as_filestream.enabled: true",
            Compat::V9,
            "`features.log_input_run_as_filestream` is an option of Filebeat 9",
            "9.6.0",
        ),
        ("xpack.monitoring.enabled: true", Compat::V7, "`xpack.monitoring` is an option of Filebeat 7", "7.17.29"),
        (
            "filebeat.inputs:\n- {type: docker, containers.ids: '*'}",
            Compat::V7,
            "`filebeat.inputs.0.containers` is an option of Filebeat 7",
            "7.17.29",
        ),
        (
            "filebeat.autodiscover.providers: [{type: kubernetes, hints.default_config: {type: docker, containers.ids: [x]}}]",
            Compat::V7,
            "`filebeat.autodiscover.providers.0.hints.default_config.containers` is an option of Filebeat 7",
            "7.17.29",
        ),
        ("pillion.compat: 5.6\nfilebeat.inputs: []", Compat::V5, "pillion.compat says so", "5.6.16"),
        ("pillion.compat: 6", Compat::V5, "pillion.compat says so", "5.6.16"),
        ("pillion.compat: '7.17'", Compat::V7, "pillion.compat says so", "7.17.29"),
        ("pillion: {compat: 9, agent_version: 9.2.1}", Compat::V9, "pillion.compat says so", "9.2.1"),
    ] {
        let config = Config::from_yaml(yaml).unwrap();
        assert_eq!(
            (config.compat(), config.compat_reason(), config.agent_version()),
            (compat, reason, version),
            "{yaml}"
        );
    }
}

#[test]
fn what_makes_no_sense() {
    for (yaml, message) in [
        (
            "pillion.compat: 4",
            "filebeat.yml:1:17: pillion.compat: no dialect is named `4`\n 1 | pillion.compat: 4\n   |                 ^\nremedy: give 5.6, \
             7, 8 or 9",
        ),
        (
            "pillion.agent_version: a b",
            "filebeat.yml:1:24: pillion.agent_version: not a version\n 1 | pillion.agent_version: a b\n   |                        \
             ^^^\nremedy: give one such as 8.19.14, or leave it out",
        ),
        (
            "path.data: ''",
            "filebeat.yml:1:12: path.data: a folder is needed\n 1 | path.data: ''\n   |            ^^\nremedy: give its name, or leave \
             the option out",
        ),
    ] {
        assert_eq!(Config::from_yaml(yaml).unwrap_err().to_string(), message);
    }
}
