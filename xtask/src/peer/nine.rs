//! What only Filebeat 8 and 9 have: inputs beside those of [`super::cases`].

use super::cases::{CRI, Case, DOCKER, LEVELS, TEXT, container, log, stream};

/// Gzip: two lines, an empty one and a last one, more than 64 bytes in all.
const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x2b\x48\x4c\xce\x4e\x4d\x51\xc8\xcf\x4b\xd5\x51\x48\x54\xc8\xc9\xcc\x4b\x55\xc8\x4f\x53\x28\xce\xcf\x4d\x55\xc8\x49\xcd\x4b\x2f\xc9\xe0\x2a\x80\xa8\x28\x29\xcf\x07\xaa\xc8\xcb\x2f\xc9\x48\x2d\xc2\xaa\x8e\x2b\x27\xb1\xb8\x44\x01\xa2\x9a\x0b\x00\x17\xea\x73\x83\x57\x00\x00\x00";
const SYSLOG: &[u8] = b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8\n\
<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!\n\
<165>1 2003-10-11T22:14:15.003Z host.example.com evntslog 111 ID47 [exampleSDID@32473 iut=\"3\" eventSource=\"App\"] \xef\xbb\xbfAn event\n\
<34>1 2003-10-11T22:14:15.003Z mymachine su - ID47 - no data\n\
<14>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.\n\
<30>2024-01-02T03:04:05Z iso app[12]: with pid\n\
no syslog at all\n\
<999>Oct 11 22:14:15 m su: priority\n\
<34>1 - - - - - -\n\
Oct 11 22:14:15 host prog: no priority\n";
const PARTS: &[u8] = b"2026-01-01T00:00:00Z stdout P 0123456789\n2026-01-01T00:00:01Z stdout P abcdefghij\n\
2026-01-01T00:00:02Z stdout F end\n2026-01-01T00:00:03Z stdout F short\n2026-01-01T00:00:04Z stdout F 0123456789abc\n";
const EXPAND: &[u8] = b"{\"a.b\":1,\"c\":{\"d.e\":2},\"message\":\"m\"}\n{\"a.b\":1,\"a\":2,\"message\":\"x\"}\n\
{\"a.b\":{\"c\":1},\"a\":{\"b\":{\"d\":2}},\"message\":\"y\"}\n";

/// All of them.
pub(super) const NINE: &[Case] = &[
    stream("nine-owner", "include_file_owner_name: true, include_file_owner_group_name: true", &[("a.log", LEVELS)]),
    // Not the parser: Filebeat's takes the text that it leaves for what it has read, and reads again from within lines.
    // One zone for all: the last one that is read is every processor's there.
    log("nine-syslog", "processors: [{syslog: {field: message, timezone: '-0300'}}]", &[("a.log", SYSLOG)]),
    log(
        "nine-syslog-3164",
        "processors: [{syslog: {field: message, format: rfc3164, timezone: '-0300', overwrite_keys: false}}]",
        &[("a.log", SYSLOG)],
    ),
    log(
        "nine-syslog-5424",
        "processors: [{syslog: {field: message, format: rfc5424, ignore_failure: true}}]",
        &[("a.log", SYSLOG)],
    ),
    stream("nine-message", "parsers: [{include_message: {patterns: ['^ERR', secret]}}]", &[("a.log", LEVELS)]),
    stream(
        "nine-message-multi",
        "parsers: [{include_message: {patterns: ['^INF', '^ERR']}}, {multiline: {type: count, count_lines: 2}}]",
        &[("a.log", LEVELS)],
    ),
    Case {
        glob: "*",
        ..stream(
            "nine-gzip",
            "compression: gzip, file_identity.fingerprint: null, prospector.scanner.fingerprint: {enabled: true, length: 64}",
            &[("a.log.gz", PACKED)],
        )
    },
    Case {
        glob: "*",
        ..stream(
            "nine-gzip-auto",
            "compression: auto, file_identity.fingerprint: null, prospector.scanner.fingerprint: {enabled: true, length: 64}",
            &[("a.log.gz", PACKED), ("b.log", TEXT), ("c", DOCKER)],
        )
    },
    stream(
        "nine-fingerprint",
        "file_identity.fingerprint: null, prospector.scanner.fingerprint: {enabled: true, offset: 0, length: 64}",
        &[("a.log", TEXT), ("c.log", DOCKER)],
    ),
    stream(
        "nine-fingerprint-offset",
        "file_identity.fingerprint: null, prospector.scanner.fingerprint: {enabled: true, offset: 10, length: 64}",
        &[("a.log", TEXT), ("c.log", DOCKER)],
    ),
    stream(
        "nine-expand",
        "parsers: [{ndjson: {target: '', expand_keys: true, add_error_key: true}}]",
        &[("a.log", EXPAND)],
    ),
    stream(
        "nine-expand-target",
        "parsers: [{ndjson: {target: doc.sub, expand_keys: true, add_error_key: true}}]",
        &[("a.log", EXPAND)],
    ),
    log(
        "nine-log-expand",
        "json: {keys_under_root: true, expand_keys: true, add_error_key: true}",
        &[("a.log", EXPAND)],
    ),
    log("nine-log-owner", "fields: {a: 1}", &[("a.log", b"x\n\n y\n")]),
    container("nine-parts", "max_bytes: 15", &[("a.log", PARTS)]),
    stream("nine-parts-stream", "message_max_bytes: 15, parsers: [{container: {}}]", &[("a.log", PARTS)]),
    stream("nine-cri", "parsers: [{container: {stream: stdout, format: cri}}]", &[("a.log", CRI)]),
];
