//! What both programs are given: files and inputs, each input in a folder of its own.
//!
//! Always holds: a case makes at least one event, unless it says that it makes none.

use super::Version;

/// One input and its files.
pub(super) struct Case {
    /// The folder's name.
    pub(super) name: &'static str,
    /// The input's type.
    pub(super) kind: &'static str,
    /// Below the case's folder.
    pub(super) glob: &'static str,
    /// Further options of the input, as YAML's flow style without the outer braces.
    pub(super) options: &'static str,
    /// Names below the case's folder, and what they hold.
    pub(super) files: &'static [(&'static str, &'static [u8])],
}

/// A difference that is meant.
pub(super) struct Deliberate {
    /// The case it is seen in.
    pub(super) case: &'static str,
    /// The field, or `events`: Pillion makes one event more.
    pub(super) field: &'static str,
    /// Why Pillion does it in its own way.
    pub(super) reason: &'static str,
    /// The version of Filebeat that it is seen beside; none: each.
    pub(super) beside: Option<Version>,
}

const MARK: &str = "a byte order mark begins a file; within a file U+FEFF is the application's text, and is shipped";
const ZONE: &str =
    "Filebeat 7.17 takes the index's date in the line's own time zone; Pillion takes that of `@timestamp`, in UTC";
const SKIPPED: &str = "the offset is where the line begins; Filebeat's is that of the lines left out before it";

/// All differences that are meant. A row that is no longer seen is an error too; one of `action.` can be seen only where
/// events go to `_bulk`.
pub(super) const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        case: "unfinished",
        field: "events",
        reason: "Filebeat never ships a last line without its newline; a job's last words matter, so the drain ships them",
        beside: None,
    },
    Deliberate { case: "fs-unfinished", field: "events", reason: "as `unfinished`", beside: None },
    Deliberate { case: "bom", field: "message", reason: MARK, beside: None },
    Deliberate { case: "fs-bom", field: "message", reason: MARK, beside: None },
    Deliberate { case: "cri", field: "action._index", reason: ZONE, beside: Some(Version::Seven) },
    Deliberate { case: "cri-format", field: "action._index", reason: ZONE, beside: Some(Version::Seven) },
    Deliberate { case: "few-cri", field: "action._index", reason: ZONE, beside: Some(Version::Seven) },
    Deliberate { case: "docker-format", field: "log.offset", reason: SKIPPED, beside: None },
    Deliberate { case: "cri-format", field: "log.offset", reason: SKIPPED, beside: None },
    Deliberate { case: "seven-stream", field: "log.offset", reason: SKIPPED, beside: Some(Version::Seven) },
    Deliberate { case: "seven-option", field: "log.offset", reason: SKIPPED, beside: Some(Version::Seven) },
    Deliberate { case: "container-odd", field: "log.offset", reason: SKIPPED, beside: None },
    Deliberate {
        case: "udp-longer",
        field: "log.flags",
        reason: "Filebeat cuts a datagram that is too long without a word; Pillion says so, as of a line from a file",
        beside: None,
    },
    Deliberate {
        case: "syslog-zone",
        field: "@timestamp",
        reason: "a time that ends in `Z` is one in UTC; Filebeat 7.17 takes it for one of the zone that is set, 9.5 doesn't",
        beside: Some(Version::Seven),
    },
    Deliberate {
        case: "fs-container",
        field: "message",
        reason: "Filebeat 7.17's filestream leaves Docker's own line end in the message; Pillion takes it off, as `type: container` does",
        beside: None,
    },
];

/// Cases whose name is here make no event at all.
pub(super) const SILENT: &[&str] = &["symlinks-off", "fs-symlinks-off", "empty", "glob-off"];

pub(super) const TEXT: &[u8] =
    "one\ntwo \"quoted\" \\ Z\u{fc}rich \u{1f980}\n\n  spaces  \t tab\n<a href='x'>&amp;</a>\n \nlast\n".as_bytes();
const CRLF: &[u8] = b"a\r\nb\n\r\nc\r\r\n\rd\r\ne\rf\n";
const BYTES: &[u8] = b"bad \xff\xfe end\nlone \x80\xbf\ncut \xe2\x82\nsurrogate \xed\xa0\x80\noverlong \xc0\xaf\nfour \xf0\x9f\xa6\nc0 \x00\x01\x07\x08\x0b\x0c\x1b\x1f del \x7f\nlines \xe2\x80\xa8 \xe2\x80\xa9\nc1 \xc2\x85 x\n";
const LONG: &[u8] =
    "0123456789\n01234567890123456789\nshort\n12345678\u{fc}x\n123456789\u{fc}x\n\u{1f980}\u{1f980}\u{1f980}\n"
        .as_bytes();
const TRACES: &[u8] =
    b"2026-01-01 ERROR a\n  at b\n  at c\n2026-01-01 INFO d\n\n2026-01-01 ERROR e\n\tat f\n\n\n2026-01-01 end\n";
const FLUSHED: &[u8] = b"begin 1\n a\n b\nend\nafter\nbegin 2\n c\nend\nbegin 3\n d\n";
pub(super) const NUMBERED: &[u8] = b"1\n2\n3\n4\n5\n6\n7\n8\n";
pub(super) const LEVELS: &[u8] = b"DBG x\nINF y\nERR z\nINF secret\nother\n";
const JSON: &[u8] =
    br#"{"message":"m","level":"info","n":1.0,"i":12345678901234567890,"e":1e3,"o":{"p":[1,null,true,{"q":-0.5}]}}
not json
{"log":"text","tags":["a"],"host":"h","agent":{"name":"x","own":1}}
{"@timestamp":"2020-02-03T04:05:06.789Z","message":"dated","type":"t"}
{"@timestamp":"yesterday","message":"odd date"}
{"@timestamp":12345,"message":"number date"}
{"message":17,"a.b":1,"a":{"c":2}}
{"message":null}
[1,2]
"text"
{}
{"message":"cut","x":
{"message":"tail"} more
{"id":"my-id","@metadata":{"x":1},"message":"with id","input":"i","ecs":{"version":"9"}}
{"error":"own error","message":"e","un\u00efcode":"\u00fc\ud83e\udd80","esc":"<>&\u2028"}
{"message":"small","f":0.1,"g":1.5e300,"h":-0,"big":123456789012345678901234567890}
"#;
const NULLS: &[u8] =
    br#"{"message":"m","a":null,"o":{"b":null,"c":[null,{"d":null}],"e":{}},"fields":null,"log":{"x":null}}
{"message":null,"a":1}
{"message":"own","host":null,"agent":null,"ecs":null,"input":null,"log":null,"tags":null,"error":null,"@timestamp":null}
{"message":"below","host":{"x":null},"agent":{"name":null},"@metadata":{"x":null}}
{"message":"meta","@metadata":null,"fields":"text"}
{"message":"inner","log":{"own":null},"fields":{"x":null,"z":1}}
"#;
pub(super) const DOCKER: &[u8] = br#"{"log":"one\n","stream":"stdout","time":"2026-01-01T00:00:00.000000001Z"}
{"log":"part ","stream":"stderr","time":"2026-01-01T00:00:00.5Z"}
{"log":"whole\n","stream":"stderr","time":"2026-01-01T00:00:00.6Z"}
{"log":"\n","stream":"stdout","time":"2026-01-01T00:00:01.1239Z"}
{"log":"crlf\r\n","stream":"stdout","time":"2026-01-01T01:00:02+01:00"}
{"log":"attrs\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-01-01T00:00:03Z"}
{"log":"  \u001b[31mred\u001b[0m\n","stream":"stdout","time":"2026-01-01T00:00:04Z"}
"#;
pub(super) const CRI: &[u8] = b"2026-01-01T00:00:00.000000001Z stdout F one\n2026-01-01T00:00:01Z stderr P part \n2026-01-01T00:00:02Z stderr F whole\n2026-01-01T00:00:03+01:00 stdout F  spaces  \n2026-01-01T00:00:04Z stdout F \n2026-01-01T00:00:05Z stdout P a\n2026-01-01T00:00:06Z stdout P b\n2026-01-01T00:00:07Z stdout F c\n2026-01-01T00:00:08Z stdout F:x tagged\n";
pub(super) const CONTAINER_TRACES: &[u8] = b"2026-01-01T00:00:00Z stdout F begin\n2026-01-01T00:00:01Z stdout F  at a\n2026-01-01T00:00:02Z stdout F  at b\n2026-01-01T00:00:03Z stdout F begin\n";

pub(super) const fn log(
    name: &'static str,
    options: &'static str,
    files: &'static [(&'static str, &'static [u8])],
) -> Case {
    Case { name, kind: "log", glob: "*.log", options, files }
}

pub(super) const fn stream(
    name: &'static str,
    options: &'static str,
    files: &'static [(&'static str, &'static [u8])],
) -> Case {
    Case { name, kind: "filestream", glob: "*.log", options, files }
}

pub(super) const fn container(
    name: &'static str,
    options: &'static str,
    files: &'static [(&'static str, &'static [u8])],
) -> Case {
    Case { name, kind: "container", glob: "*.log", options, files }
}

/// `type: log` and `type: container`.
pub(super) const LOG: &[Case] = &[
    log("plain", "", &[("a.log", TEXT), ("b.log", TEXT), ("c.txt", TEXT)]),
    log("crlf", "", &[("a.log", CRLF)]),
    log("bytes", "", &[("a.log", BYTES)]),
    log("utf8", "encoding: utf-8", &[("a.log", BYTES)]),
    log("bom", "", &[("a.log", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")]),
    log("unfinished", "", &[("a.log", b"one\ntwo")]),
    log("empty", "", &[("a.log", b""), ("b.log", b"\n\n"), ("c.log", b"\r\n")]),
    log("max-bytes", "max_bytes: 10", &[("a.log", LONG)]),
    log("small-buffer", "harvester_buffer_size: 16", &[("a.log", LONG), ("b.log", TEXT)]),
    log("include", "include_lines: ['^ERR', '^INF'], exclude_lines: [secret]", &[("a.log", LEVELS)]),
    log("exclude", "exclude_lines: ['^DBG', '^$']", &[("a.log", LEVELS)]),
    log("exclude-files", "exclude_files: ['\\.1\\.log$', skip]", &[
        ("a.log", LEVELS), ("a.1.log", LEVELS), ("skipped.log", LEVELS),
    ]),
    log("symlinks", "symlinks: true", &[("a.log", TEXT), ("link.log", b"-> other.txt"), ("same.log", b"-> a.log"), ("other.txt", LEVELS)]),
    Case { glob: "l*.log", ..log("symlinks-off", "", &[("link.log", b"-> other.txt"), ("other.txt", LEVELS)]) },
    Case {
        glob: "**/*.log",
        ..log("globs", "", &[
            ("0.log", b"0\n"), ("1/a.log", b"1\n"), ("1/2/3/4/5/6/7/a.log", b"7\n"), ("1/2/3/4/5/6/7/8/a.log", b"8\n"),
            ("1/2/3/4/5/6/7/8/9/a.log", b"9\n"), (".hidden/a.log", b"h\n"), ("1/.h.log", b"h\n"),
        ])
    },
    Case { glob: "**/*.log", ..log("glob-off", "recursive_glob.enabled: false", &[("1/2/a.log", b"2\n"), ("b.log", b"b\n")]) },
    Case { glob: "[a-b]?.log", ..log("glob-class", "", &[("a1.log", b"1\n"), ("b2.log", b"2\n"), ("c3.log", b"3\n"), ("{a}.log", b"4\n")]) },
    log("fields", "fields: {team: a, num: 1, f: 1.5, t: true, nil: null, deep.er: [x, 2], o: {p: {q: r}}}, tags: [one, two]", &[("a.log", LEVELS)]),
    log("fields-root", "fields: {team: a, message: over, agent.name: m, tags: [own], host: {x: 1}}, fields_under_root: true, tags: [one]", &[("a.log", LEVELS)]),
    log("meta", "pipeline: p, index: 'i-%{[agent.version]}'", &[("a.log", LEVELS)]),
    log("json", "json: {}", &[("a.log", b"{\"message\":\"x\"}\n")]),
    log("json-key", "json: {message_key: message}", &[("a.log", JSON)]),
    log("json-errors", "json: {add_error_key: true}", &[("a.log", JSON)]),
    log("json-root", "json: {keys_under_root: true}", &[("a.log", JSON)]),
    log("json-over", "json: {keys_under_root: true, overwrite_keys: true, add_error_key: true, message_key: message}", &[("a.log", JSON)]),
    log("json-expand", "json: {keys_under_root: true, expand_keys: true, add_error_key: true}", &[("a.log", b"{\"a.b\":1,\"c\":{\"d.e\":2},\"message\":\"m\"}\n")]),
    log("json-id", "json: {keys_under_root: true, document_id: id}", &[("a.log", JSON)]),
    log("json-set", "json: {keys_under_root: true}, tags: [one], fields: {level: set, o: {r: 1}, new: 1}, fields_under_root: true", &[("a.log", JSON)]),
    log("json-tags", "json: {keys_under_root: true}, tags: [one], fields: {x: 1}", &[("a.log", JSON)]),
    log("json-quiet", "json: {keys_under_root: true, add_error_key: true, ignore_decoding_error: true}", &[("a.log", JSON)]),
    log("nulls", "json: {keys_under_root: true}", &[("a.log", NULLS)]),
    log("nulls-over", "json: {keys_under_root: true, overwrite_keys: true}", &[("a.log", NULLS)]),
    log("nulls-kept", "keep_null: true, json: {keys_under_root: true, add_error_key: true}, fields: {x: 1}", &[("a.log", NULLS)]),
    log("nulls-kept-over", "keep_null: true, json: {keys_under_root: true, overwrite_keys: true, add_error_key: true}, tags: [t]", &[("a.log", NULLS)]),
    log("nulls-kept-under", "keep_null: true, json: {message_key: message}, fields: {x: 1}", &[("a.log", NULLS)]),
    log("nulls-kept-processed", "keep_null: true, json: {keys_under_root: true}, processors: [{add_tags: {tags: [x], when: {has_fields: [a]}}}, {drop_fields: {fields: [o.b], ignore_missing: true}}]", &[("a.log", NULLS)]),
    log("json-filter", "json: {message_key: level}, include_lines: [info]", &[("a.log", JSON)]),
    log("json-multiline", "json: {message_key: log, keys_under_root: true}, multiline: {pattern: '^b', negate: true, match: after}", &[("a.log", b"{\"log\":\"b 1\",\"x\":1}\n{\"log\":\" a\",\"x\":2}\n{\"log\":\"b 2\",\"x\":3}\n")]),
    log("after", "multiline: {type: pattern, pattern: '^2026', negate: true, match: after}", &[("a.log", TRACES)]),
    log("after-same", "multiline: {pattern: '^\\s', negate: false, match: after}", &[("a.log", TRACES)]),
    log("before", "multiline: {pattern: 'd$', negate: false, match: before}", &[("a.log", TRACES)]),
    log("before-not", "multiline: {pattern: 'd$', negate: true, match: before}", &[("a.log", FLUSHED)]),
    log("count", "multiline: {type: count, count_lines: 3}", &[("a.log", NUMBERED)]),
    log("flush", "multiline: {pattern: '^begin', negate: true, match: after, flush_pattern: '^end'}", &[("a.log", FLUSHED)]),
    log("max-lines", "multiline: {pattern: '^1', negate: true, match: after, max_lines: 3}", &[("a.log", NUMBERED)]),
    log("skip-newline", "multiline: {pattern: '^2026', negate: true, match: after, skip_newline: true}", &[("a.log", TRACES)]),
    log("multi-bytes", "max_bytes: 25, multiline: {pattern: '^2026', negate: true, match: after}", &[("a.log", TRACES)]),
    log("multi-filter", "include_lines: [ERROR], exclude_lines: ['at f'], multiline: {pattern: '^2026', negate: true, match: after}", &[("a.log", TRACES)]),
    log("multi-crlf", "multiline: {pattern: '^a', negate: true, match: after}", &[("a.log", b"a\r\nb\r\na\r\nc\n")]),
    log("term-lf", "line_terminator: line_feed", &[("a.log", CRLF)]),
    container("docker", "", &[("a.log", DOCKER)]),
    container("docker-format", "format: docker, stream: stderr", &[("a.log", DOCKER)]),
    container("cri", "", &[("a.log", CRI)]),
    container("cri-format", "format: cri, stream: stdout", &[("a.log", CRI)]),
    container("container-multi", "multiline: {pattern: '^ ', match: after}", &[("a.log", CONTAINER_TRACES)]),
    container("container-odd", "", &[("a.log", b"not a container's line\n{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n2026-01-01T00:00:00Z stdout\n2026-01-01T00:00:00Z stdout F x\n")]),
    container("container-json", "json: {keys_under_root: true, add_error_key: true}", &[("a.log", b"2026-01-01T00:00:00Z stdout F {\"a\":1}\n2026-01-01T00:00:01Z stdout F text\n")]),
];

/// `type: filestream`.
pub(super) const STREAM: &[Case] = &[
    stream("fs-plain", "", &[("a.log", TEXT), ("b.log", TEXT), ("c.txt", TEXT)]),
    stream("fs-crlf", "", &[("a.log", CRLF)]),
    stream("fs-bytes", "", &[("a.log", BYTES)]),
    stream("fs-utf8", "encoding: utf-8", &[("a.log", BYTES)]),
    stream("fs-bom", "", &[("a.log", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")]),
    stream("fs-unfinished", "", &[("a.log", b"one\ntwo")]),
    stream("fs-max-bytes", "message_max_bytes: 10", &[("a.log", LONG)]),
    stream("fs-small-buffer", "buffer_size: 16", &[("a.log", LONG), ("b.log", TEXT)]),
    stream("fs-include", "include_lines: ['^ERR', '^INF'], exclude_lines: [secret]", &[("a.log", LEVELS)]),
    stream(
        "fs-exclude-files",
        "prospector.scanner.exclude_files: ['\\.1\\.log$', skip]",
        &[("a.log", LEVELS), ("a.1.log", LEVELS), ("skipped.log", LEVELS)],
    ),
    stream(
        "fs-include-files",
        "prospector.scanner.include_files: ['a\\.log$']",
        &[("a.log", LEVELS), ("b.log", LEVELS)],
    ),
    stream(
        "fs-symlinks",
        "prospector.scanner.symlinks: true",
        &[("a.log", TEXT), ("link.log", b"-> other.txt"), ("other.txt", LEVELS)],
    ),
    Case { glob: "l*.log", ..stream("fs-symlinks-off", "", &[("link.log", b"-> other.txt"), ("other.txt", LEVELS)]) },
    Case {
        glob: "**/*.log",
        ..stream(
            "fs-globs",
            "",
            &[
                ("0.log", b"0\n"),
                ("1/a.log", b"1\n"),
                ("1/2/3/4/5/6/7/8/a.log", b"8\n"),
                ("1/2/3/4/5/6/7/8/9/a.log", b"9\n"),
                (".hidden/a.log", b"h\n"),
            ],
        )
    },
    stream("fs-fields", "fields: {team: a, num: 1}, tags: [one, two]", &[("a.log", LEVELS)]),
    stream("fs-fields-root", "fields: {team: a, message: over}, fields_under_root: true", &[("a.log", LEVELS)]),
    stream("fs-path-id", "file_identity.path: ~", &[("a.log", LEVELS)]),
    stream("fs-ndjson", "parsers: [{ndjson: {keys_under_root: true, add_error_key: true}}]", &[("a.log", JSON)]),
    stream(
        "fs-ndjson-over",
        "parsers: [{ndjson: {keys_under_root: true, overwrite_keys: true, add_error_key: true, message_key: message}}]",
        &[("a.log", JSON)],
    ),
    stream(
        "fs-ndjson-target",
        "parsers: [{ndjson: {target: doc, add_error_key: true, message_key: message}}]",
        &[("a.log", JSON)],
    ),
    stream("fs-ndjson-root", "parsers: [{ndjson: {target: '', overwrite_keys: true}}]", &[("a.log", JSON)]),
    stream(
        "fs-ndjson-expand",
        "parsers: [{ndjson: {target: '', expand_keys: true}}]",
        &[("a.log", b"{\"a.b\":1,\"c\":{\"d.e\":2},\"message\":\"m\"}\n")],
    ),
    stream("fs-nulls", "parsers: [{ndjson: {target: '', overwrite_keys: true}}]", &[("a.log", NULLS)]),
    stream("fs-nulls-kept", "keep_null: true, parsers: [{ndjson: {target: ''}}]", &[("a.log", NULLS)]),
    stream(
        "fs-nulls-kept-over",
        "keep_null: true, parsers: [{ndjson: {target: '', overwrite_keys: true, message_key: message}}]",
        &[("a.log", NULLS)],
    ),
    stream("fs-nulls-kept-target", "keep_null: true, parsers: [{ndjson: {target: doc}}]", &[("a.log", NULLS)]),
    stream("fs-ndjson-id", "parsers: [{ndjson: {target: '', document_id: id}}]", &[("a.log", JSON)]),
    stream(
        "fs-after",
        "parsers: [{multiline: {type: pattern, pattern: '^2026', negate: true, match: after}}]",
        &[("a.log", TRACES)],
    ),
    stream("fs-before", "parsers: [{multiline: {pattern: 'd$', negate: false, match: before}}]", &[("a.log", TRACES)]),
    stream("fs-count", "parsers: [{multiline: {type: count, count_lines: 3}}]", &[("a.log", NUMBERED)]),
    stream(
        "fs-flush",
        "parsers: [{multiline: {pattern: '^begin', negate: true, match: after, flush_pattern: '^end', max_lines: 3}}]",
        &[("a.log", FLUSHED)],
    ),
    stream(
        "fs-multi-json",
        "parsers: [{multiline: {pattern: '^ ', match: after}}, {ndjson: {target: '', add_error_key: true}}]",
        &[("a.log", b"{\"a\":\n 1}\n{\"a\":2}\n")],
    ),
    stream(
        "fs-json-multi",
        "parsers: [{ndjson: {target: '', message_key: log}}, {multiline: {pattern: '^ ', match: after}}]",
        &[("a.log", b"{\"log\":\"a\",\"x\":1}\n{\"log\":\" b\",\"x\":2}\n{\"log\":\"c\",\"x\":3}\n")],
    ),
    stream("fs-container", "parsers: [{container: {stream: all, format: auto}}]", &[("a.log", CRI), ("b.log", DOCKER)]),
    stream(
        "fs-container-cri",
        "parsers: [{container: {stream: stderr, format: cri}}, {multiline: {pattern: '^ ', match: after}}]",
        &[("a.log", CRI)],
    ),
];

/// A few inputs under settings that hold for all.
pub(super) const FEW: &[Case] = &[
    log("few-plain", "", &[("a.log", TEXT)]),
    log("few-fields", "fields: {team: input, own: 1}, tags: [input]", &[("a.log", LEVELS)]),
    log("few-root", "fields: {team: input}, fields_under_root: true", &[("a.log", LEVELS)]),
    stream("few-stream", "fields: {a: {b: 2}}, tags: [input]", &[("a.log", LEVELS)]),
    stream("few-json", "parsers: [{ndjson: {target: '', add_error_key: true}}]", &[("a.log", JSON)]),
    container("few-cri", "", &[("a.log", CRI)]),
    log("few-host", "processors: [{add_host_metadata: {netinfo.enabled: false}}]", &[("a.log", LEVELS)]),
];

const PROCESSED: &[u8] = br#"{"a":1,"f":1.5,"s":"abcd\u00e9f","d":"one two","num":"42","arr":["q",""],"o":{"p":1},"b":true,"nul":null,"ip":"10.0.0.1","e":"","t":"2020-01-02T03:04:05Z"}
{"a":2,"s":"xyz","d":"one","num":"x42","arr":"q","ip":"8.8.8.8","t":"yesterday","o":"text"}
not json at all
{"zz":{"y":[1,{"w":null}]},"message":"own","@timestamp":"2021-01-01T00:00:00.5Z"}
DROP me
"#;

const BROKEN: &[u8] = br#"no json
{"a":1
{"a":1} x
{"a":1}}
[1] ]
{"a" 1}
{"a":tru!}
{"a":"\x"}
{"a":"\ud800"}
"#;
const DOTTED: &[u8] = br#"{"m":{"a.b":{"c":1},"a":{"b":{"d":2}}}}
{"a.b.c":1,"a.b.d":{"e.f":2}}
"#;

/// Inputs with processors of their own, under global ones.
pub(super) const PROCESSORS: &[Case] = &[
    log("p-none", "", &[("a.log", PROCESSED)]),
    log(
        "p-add",
        "tags: [own], fields: {x: 1}, processors: [{add_fields: {fields: {x: 2, q: {z: 3}}}}, {add_tags: {tags: [p]}}, {add_labels: {labels: {l.m: v, num: 1}}}, {add_fields: {target: '', fields: {top: 1, host: {own: h}}}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-when",
        "processors: [{add_tags: {tags: [m], when: {contains.message: one}}}, {add_fields: {target: c, fields: {hit: 1}, when: {not: {regexp.message: '^[{]'}}}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-late",
        "processors: [{drop_fields: {fields: [agent, input.type, log.offset]}}, {add_tags: {tags: [seen], when: {has_fields: [agent]}}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-decode",
        "processors: [{decode_json_fields: {fields: [message], target: j, add_error_key: false}}, {drop_fields: {fields: [message], when: {has_fields: [j]}}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-broken",
        "processors: [{decode_json_fields: {fields: [message], target: j, add_error_key: true}}]",
        &[("a.log", BROKEN)],
    ),
    log(
        "p-expand",
        "processors: [{decode_json_fields: {fields: [message], target: '', expand_keys: true, add_error_key: true}}]",
        &[("a.log", DOTTED)],
    ),
    log("p-md5", "processors: [{fingerprint: {fields: [message], method: md5}}]", &[("a.log", TEXT)]),
    log(
        "p-root",
        "processors: [{decode_json_fields: {fields: [message], target: '', overwrite_keys: true}}]",
        &[("a.log", PROCESSED)],
    ),
    log("p-root-keep", "processors: [{decode_json_fields: {fields: [message], target: ''}}]", &[("a.log", PROCESSED)]),
    log(
        "p-moves",
        "processors: [{decode_json_fields: {fields: [message], target: j}}, {rename: {fields: [{from: j.a, to: r.a}], ignore_missing: true}}, {copy_fields: {fields: [{from: j.s, to: c.s}], fail_on_error: false}}, {rename: {fields: [{from: j.zz, to: r.zz}]}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-convert",
        "processors: [{decode_json_fields: {fields: [message], target: j}}, {convert: {fields: [{from: j.num, to: x, type: integer}, {from: j.f, type: string}, {from: j.ip, to: i, type: ip}], ignore_missing: true, fail_on_error: false}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-dissect",
        "processors: [{dissect: {tokenizer: '%{k1} %{k2}', target_prefix: di}}, {dissect: {tokenizer: '%{+all} %{+all} %{}', field: message, target_prefix: ap, ignore_failure: true}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-cut",
        "processors: [{truncate_fields: {fields: [message], max_bytes: 7}}, {decode_json_fields: {fields: [message]}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-array",
        "processors: [{decode_json_fields: {fields: [message], target: j}}, {extract_array: {field: j.arr, mappings: {w.z: 0}, ignore_missing: true}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-time",
        "processors: [{decode_json_fields: {fields: [message], target: j}}, {timestamp: {field: j.t, layouts: ['2006-01-02T15:04:05Z'], ignore_missing: true}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-if",
        "processors: [{if: {contains.message: '{'}, then: [{decode_json_fields: {fields: [message], target: j}}, {add_tags: {tags: [then]}}], else: {add_tags: {tags: [else]}}}]",
        &[("a.log", PROCESSED)],
    ),
    log(
        "p-range",
        "processors: [{decode_json_fields: {fields: [message], target: j}}, {add_tags: {tags: [r], when: {range: {j.a: {gte: 1, lt: 2}}}}}, {add_tags: {tags: [n], when: {network.j.ip: private}}}, {add_tags: {tags: [b], when: {equals.j.b: true}}}]",
        &[("a.log", PROCESSED)],
    ),
    log("p-include", "processors: [{include_fields: {fields: [message, log.file]}}]", &[("a.log", PROCESSED)]),
    log(
        "p-json",
        "json: {keys_under_root: true, add_error_key: true}, processors: [{add_tags: {tags: [x], when: {equals.a: 2}}}, {drop_fields: {fields: [s, zz]}}]",
        &[("a.log", PROCESSED)],
    ),
    stream(
        "p-stream",
        "parsers: [{ndjson: {target: doc, add_error_key: true}}], processors: [{rename: {fields: [{from: doc, to: d2}]}}]",
        &[("a.log", PROCESSED)],
    ),
    container("p-cri", "processors: [{add_tags: {tags: [err], when: {equals.stream: stderr}}}]", &[("a.log", CRI)]),
];

/// Settings that hold for all: their name, the inputs, the settings.
pub(super) const RUNS: &[(&str, &[Case], &str)] = &[
    ("log", LOG, ""),
    ("filestream", STREAM, ""),
    ("global-fields", FEW, "name: shipper-1\ntags: [global, x]\nfields: {team: global, a: {c: 3}}\n"),
    (
        "processors",
        PROCESSORS,
        "processors: [{drop_event: {when: {contains.message: 'DROP'}}}, {add_fields: {target: 'global', fields: {of: '%{x}'}}}, \
         {drop_fields: {fields: [agent.ephemeral_id, ecs]}}]\n",
    ),
    (
        "processors-constant",
        FEW,
        "processors: [{add_fields: {fields: {of: all, team: p}}}, {add_tags: {tags: [last]}}]\n",
    ),
    ("global-root", FEW, "fields: {team: global, level: root}\nfields_under_root: true\n"),
];
