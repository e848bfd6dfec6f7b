//! What nobody took, and how it is told.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

use pillion_config::Config;

/// `+` before a message: refused; `?`: unknown; `!`: unasked; `-`: harmless.
fn told(yaml: &str, take: impl Fn(&Config)) -> Vec<String> {
    let config = Config::from_yaml(yaml).unwrap();
    take(&config);
    let left = config.leftovers();
    let mark = |mark: &str, list: &[pillion_config::Error]| {
        list.iter().map(|e| format!("{mark} {}", e.one_line())).collect::<Vec<_>>()
    };
    [mark("+", &left.refused), mark("?", &left.unknown), mark("!", &left.unasked), mark("-", &left.harmless)].concat()
}

fn take_inputs(config: &Config) {
    let filebeat = config.root().section("filebeat").unwrap().unwrap();
    for input in filebeat.sections("inputs").unwrap() {
        input.str("type").unwrap();
        input.strings("paths").unwrap();
        input.duration("close.on_state_change.inactive").unwrap();
    }
}

#[test]
fn fates() {
    for (yaml, messages) in [
        ("pillion.compat: 8", &[][..]),
        ("processors: []\nsetup.kibana:\nhttp.enabled: false\noutput.kafka: {enabled: false, hosts: [a]}", &[]),
        (
            "setup.kibana.host: h\nsetup.template.settings:\n  index.number_of_shards: 1",
            &[
                "- filebeat.yml:1:1: setup: has no effect: dashboards, machine learning jobs and ingest pipelines aren't set up: do that \
                 once with the tool of your choice",
            ],
        ),
        (
            "filebeat.modules: [{module: nats, log.var: {path: /x, convert_timezone: true}}]",
            &[
                "? filebeat.yml:1:45: filebeat.modules.0.log.var.path: unknown option; did you mean `paths`?",
                "! filebeat.yml:1:21: filebeat.modules.0.module: has no effect in this place; remove it",
                "- filebeat.yml:1:55: filebeat.modules.0.log.var.convert_timezone: has no effect: it is for the ingest pipeline, which \
                 Filebeat has put into Elasticsearch with it or without",
            ],
        ),
        (
            "features.log_input_run_as_filestream.enabled: true",
            &[
                "+ filebeat.yml:1:1: features.log_input_run_as_filestream: Filebeat reads each `log` and `container` input as a filestream \
                 with it, which names files and states in another way: write `type: filestream` with an `id` and \
                 `take_over.enabled: true`; remove the option if you can do without it",
            ],
        ),
        ("features.log_input_run_as_filestream.enabled: false", &[]),
        (
            "pillion.compat: 8\nfeatures.log_input_run_as_filestream.enabled: true",
            &[
                "? filebeat.yml:2:1: features.log_input_run_as_filestream: is an option of Filebeat 9; this configuration is read as \
                 Filebeat 8 (pillion.compat says so); remove it, or set pillion.compat to the version the file was written for",
            ],
        ),
        ("nmae: x", &["? filebeat.yml:1:1: nmae: unknown option; did you mean `name`?"]),
        (
            "paths: /x",
            &[
                "? filebeat.yml:1:1: paths: unknown option; it is an option of an input: indent it below the input's `- type`",
            ],
        ),
        (
            "filebeat.inputs:\n- type: filestream\n  multiline.pattern: x\n  json.message_key: m",
            &[
                "? filebeat.yml:3:3: filebeat.inputs.0.multiline: unknown option; a filestream has it as a parser: `parsers: [{multiline: \
                 {type: pattern, …}}]`",
                "? filebeat.yml:4:3: filebeat.inputs.0.json: unknown option; a filestream has it as a parser: `parsers: [{ndjson: {…}}]`",
                "! filebeat.yml:2:3: filebeat.inputs.0.type: has no effect in this place; remove it",
            ],
        ),
        (
            "pillion.compat: 8\nspool_sise: 1\nfilebeat.spool_size: 1",
            &[
                "? filebeat.yml:2:1: spool_sise: unknown option; remove it, or check its indentation",
                "? filebeat.yml:3:1: filebeat.spool_size: is an option of Filebeat 5.6; this configuration is read as Filebeat 8 \
                 (pillion.compat says so); remove it, or set pillion.compat to the version the file was written for",
            ],
        ),
        (
            "pillion.compat: 7\nfilebeat.registry_file: x",
            &[
                "+ filebeat.yml:2:1: filebeat.registry_file: Filebeat 7 and later refuse this option of 5.6 and 6; remove the option if \
               you can do without it",
            ],
        ),
        (
            "pillion.completion.falg: /x",
            &["+ filebeat.yml:1:1: pillion.completion.falg: unknown option; did you mean `flag`?"],
        ),
        (
            "output.discard.enabled: true",
            &[
                "+ filebeat.yml:1:1: output.discard: discarding all events isn't an output here; remove the option if you can do \
               without it",
            ],
        ),
    ] {
        let all: Vec<&str> = messages.to_vec();
        let normal = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let got: Vec<String> = told(yaml, |_| ()).iter().map(|t| normal(t)).collect();
        assert_eq!(got, all.iter().map(|t| normal(t)).collect::<Vec<_>>(), "{yaml}");
    }
}

#[test]
fn inputs_know_their_type() {
    let yaml = "filebeat.inputs:\n  - type: filestream\n    paths: [/x]\n    close_eof: true\n    close.on_state_change:\n      \
                inactive: 5m\n      inactiv: 3m\n  - type: log\n    paths: /y\n    parsers: []\n    clsoe_eof: true\n    \
                prospector.scanner.check_interval: 5s\n    delete: {enabled: false}\n    tail_files: true\n";
    assert_eq!(
        told(yaml, take_inputs),
        [
            "? filebeat.yml:4:5: filebeat.inputs.0.close_eof: unknown option; it is an option of the input type `log`",
            "? filebeat.yml:7:7: filebeat.inputs.0.close.on_state_change.inactiv: unknown option; did you mean `inactive`?",
            "? filebeat.yml:11:5: filebeat.inputs.1.clsoe_eof: unknown option; did you mean `close_eof`?",
            "? filebeat.yml:12:5: filebeat.inputs.1.prospector: unknown option; it is an option of the input type `filestream`",
            "! filebeat.yml:14:5: filebeat.inputs.1.tail_files: has no effect in this place; remove it",
        ]
    );
}

#[test]
fn the_whole_message() {
    let config = Config::from_yaml("filebeat:\n  inputs:\n  - paths: [/x]\n    pahts: /y\n").unwrap();
    take_inputs(&config);
    assert_eq!(
        config.leftovers().unknown[0].to_string(),
        "filebeat.yml:4:5: filebeat.inputs.0.pahts: unknown option\n 4 |     pahts: /y\n   |     ^^^^^\nremedy: did you mean `paths`?"
    );
}

#[test]
fn what_is_switched_off_is_left_alone() {
    let config =
        Config::from_yaml("filebeat.inputs:\n  - {type: kafka, enabled: false, hosts: [\"${NO_SUCH}\"]}\n").unwrap();
    let input = &config.root().section("filebeat").unwrap().unwrap().sections("inputs").unwrap()[0];
    assert_eq!(input.bool("enabled").unwrap(), Some(false));
    input.ignore();
    let left = config.leftovers();
    assert!(left.refused.is_empty() && left.unknown.is_empty() && left.unasked.is_empty() && left.harmless.is_empty());
}

/// Options that Filebeat has and that change nothing of what is delivered: said once each, never an error.
#[test]
fn what_has_no_effect_is_said() {
    for (yaml, taken, options) in [
        (
            "output.file: {worker: 2, bulk_max_size: 5}",
            "output.file",
            &["output.file.worker", "output.file.bulk_max_size"][..],
        ),
        ("output.console: {workers: 2, bulk_max_size: 5}", "output.console.bulk_max_size", &["output.console.workers"]),
        (
            "filebeat.inputs: [{type: log, paths: [/a], harvester_buffer_size: 1KiB}]",
            "",
            &["filebeat.inputs.0.harvester_buffer_size"],
        ),
        (
            "filebeat.inputs: [{type: filestream, paths: [/a], buffer_size: 1KiB}]",
            "",
            &["filebeat.inputs.0.buffer_size"],
        ),
    ] {
        let messages = told(&format!("pillion.compat: 8\n{yaml}"), |config| {
            if taken.is_empty() {
                take_inputs(config);
            } else {
                let _ = (config.root().section(taken), config.root().u64(taken));
            }
        });
        assert_eq!(messages.len(), options.len(), "{yaml}: {messages:?}");
        for (message, option) in messages.iter().zip(options) {
            assert!(message.starts_with("- ") && message.contains(&format!("{option}: has no effect")), "{message}");
        }
    }
}
