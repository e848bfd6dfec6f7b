//! What Filebeat gives for the same messages. Of the input: recorded with Filebeat 7.17.29 and `timezone: "+0200"`, one
//! message a connection. Of parser and processor: by the tables of Beats 9 (`libbeat/reader/syslog/*_test.go`).

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2026-11-28T17:25:00Z.
const READ: i64 = 1_795_886_700_000;

fn syslog(format: Format) -> Syslog {
    Syslog { format, zone: Zone::fixed(2 * 3_600_000) }
}

/// An input's event, as the table writes it; a text alone when it is no syslog message.
fn input(format: Format, text: &str) -> Value {
    let Some(found) = syslog(format).parse_input(text.as_bytes(), READ) else { return json!(text) };
    let mut event = found.fields;
    event.insert("message".into(), json!(text[found.message]));
    event.insert("@timestamp".into(), json!(pillion_world::rfc3339(pillion_world::UnixMillis(found.time_ms.unwrap()))));
    Value::Object(event)
}

/// What most of the table's events have in common: `<190>Oct  1 02:03:04 host prog: …`.
fn with(mut change: Value) -> Value {
    let mut event = json!({"@timestamp": "2026-10-01T00:03:04.000Z", "hostname": "host", "process": {"program": "prog"},
        "event": {"severity": 6}, "syslog": {"facility": 23, "facility_label": "local7", "priority": 190,
        "severity_label": "Informational"}});
    let into = event.as_object_mut().unwrap();
    for (key, value) in std::mem::take(change.as_object_mut().unwrap()) {
        if value.is_null() { drop(into.remove(&key)) } else { drop(into.insert(key, value)) }
    }
    event
}

#[test]
fn rfc_3164_of_the_input() {
    let by = |text: &str| with(json!({"message": text}));
    let at = |text: &str, time: &str| with(json!({"message": text, "@timestamp": time}));
    let bare = |text: &str| with(json!({"message": text, "process": null, "hostname": null}));
    let hosted = |text: &str| with(json!({"message": text, "process": null}));
    let raw = |text: &str| json!(text);
    for (text, want) in [
        (
            "<190>Oct  1 02:03:04 host prog[123]: hello",
            with(json!({"message": "hello", "process": {"pid": 123, "program": "prog"}})),
        ),
        ("<190>Oct  1 02:03:04 host prog[abc]: hello", by("prog[abc]: hello")),
        ("<190>Oct  1 02:03:04 host a:b: hello", with(json!({"message": "hello", "process": {"program": "a:b"}}))),
        ("<190>Oct  1 02:03:04 host a:b hello", with(json!({"message": "a:b hello", "process": {"program": "a"}}))),
        ("<190>Oct  1 02:03:04 host prog:hello world", by("prog:hello world")),
        ("<190>Oct  1 02:03:04 host [error] something", hosted("[error] something")),
        ("<190>Oct  1 02:03:04 host:  colon msg", hosted(" colon msg")),
        (
            "<190>Oct  1 02:03:04 host: prog[1]: x",
            with(json!({"message": "x", "process": {"pid": 1, "program": "prog"}})),
        ),
        ("<190>Oct  1 02:03:04 host ", hosted("host ")),
        ("<190>Oct  1 02:03:04 host", bare("host")),
        ("<190>October 1 02:03:04 host prog: long month", by("long month")),
        ("<190>Oct 01 02:03:04.123456 host prog: frac", at("frac", "2026-10-01T00:03:04.123Z")),
        ("<190>2019-01-02T03:04:05.678+01:00 host prog: x", at("x", "2019-01-02T02:04:05.678Z")),
        ("<190>2019-01-02T03:04:05Z host prog: x", at("x", "2019-01-02T03:04:05.000Z")),
        ("<190>2019-01-02 03:04:05 host prog: x", at("x", "2019-01-02T01:04:05.000Z")),
        ("<190>2019-01-02T03:04:05-0730 host prog: x", at("x", "2019-01-02T10:34:05.000Z")),
        ("<190>2019-01-02T03:04:05+03 host prog: x", at("x", "2019-01-02T00:04:05.000Z")),
        ("<190>2019-02-39T03:04:05Z host prog: x", at("x", "2019-03-11T03:04:05.000Z")),
        ("<190>Feb 30 02:03:04 host prog: x", at("x", "2026-03-02T00:03:04.000Z")),
        (
            "<190>*Oct  1 02:03:04.123: %SYS-5: x",
            with(json!({"message": "%SYS-5: x", "process": null, "hostname": null,
            "@timestamp": "2026-10-01T00:03:04.123Z"})),
        ),
        ("<190>.Oct  1 02:03:04 host prog: dot", by("dot")),
        ("<190> Oct  1 02:03:04 host prog: space", by("space")),
        ("<190>Oct  1 02:03:04 ho..st prog: x", bare("ho..st prog: x")),
        ("<190>Oct  1 02:03:04 ho--st prog: x", bare("ho--st prog: x")),
        ("<190>Oct  1 02:03:04 host- prog: x", bare("host- prog: x")),
        ("<190>Oct  1 02:03:04 2001:db8::1 prog: x", with(json!({"message": "x", "hostname": "2001:db8::1"}))),
        ("<190>Oct  1 02:03:04 ::1 prog: x", with(json!({"message": "x", "hostname": "::1"}))),
        ("<190>Oct  1 02:03:04 host_x prog: x", with(json!({"message": "x", "hostname": "host_x"}))),
        ("<190>Oct  1 02:03:04 hösst prog: x", bare("hösst prog: x")),
        ("Oct  1 02:03:04 host prog: x", with(json!({"message": "x", "event": {}, "syslog": {}}))),
        (
            "<999>Oct  1 02:03:04 host prog: x",
            with(json!({"message": "x", "event": {"severity": 7},
            "syslog": {"facility": 124, "priority": 999, "severity_label": "Debug"}})),
        ),
        ("<190>Oct  1 02:03:04 host prog[0]: x", by("x")),
        ("<190>Oct  1 02:03:04 host prog[12345678901234567890]: x", by("x")),
        (
            "<190>Oct  1 02:03:04 host pr(og)-x/1[77]: x",
            with(json!({"message": "x", "process": {"pid": 77, "program": "pr(og)-x/1"}})),
        ),
        ("<190>Oct  1 02:03:04 host prog : x", hosted("prog : x")),
        ("<190>Oct  1 02:03:04  host prog: x", bare(" host prog: x")),
        ("<190>Oct  1 02:03:04 host  prog: x", hosted(" prog: x")),
        ("<190>Oct  1 02:03:04\thost\tprog:\ttabs", by("tabs")),
        ("<190>Oct  1 02:03:04 host prog:", by("prog:")),
        ("<190>Oct  1 02:03:04 host prog: ", by("prog: ")),
        ("<190>Oct 1 02:03:04 -- x", bare("-- x")),
        ("<190>Oct 1 02:03:04 host prog: x\n\n", by("x")),
        ("no syslog at all", raw("no syslog at all")),
        ("<190>no timestamp", raw("<190>no timestamp")),
        ("<123456>Oct  1 02:03:04 host prog: x", raw("<123456>Oct  1 02:03:04 host prog: x")),
        ("<190>Oct 32 02:03:04 host prog: x", raw("<190>Oct 32 02:03:04 host prog: x")),
        ("<190>Oct  1 25:03:04 host prog: x", raw("<190>Oct  1 25:03:04 host prog: x")),
        ("<190>Foo  1 02:03:04 host prog: x", raw("<190>Foo  1 02:03:04 host prog: x")),
        ("<>Oct  1 02:03:04 host prog: x", raw("<>Oct  1 02:03:04 host prog: x")),
        // Faults of Filebeat's that aren't followed; see `input.rs`.
        ("<190>2019-13-02T03:04:05Z host prog: x", raw("<190>2019-13-02T03:04:05Z host prog: x")),
        (
            "<190>Oct  1 02:03:04 host prog[123] x",
            with(json!({"message": "prog[123] x", "process": {"pid": 123, "program": "prog"}})),
        ),
        (
            "<190>123: Oct  1 02:03:04 host prog: x",
            with(json!({"message": "x", "event": {"severity": 6, "sequence": 123}})),
        ),
        ("<190>Oct  1 02:03:04 ", raw("<190>Oct  1 02:03:04 ")),
        ("", raw("")),
    ] {
        assert_eq!(input(Format::Rfc3164, text), want, "{text}");
    }
}

#[test]
fn rfc_5424_of_the_input() {
    let event = |change: Value| {
        let mut event = json!({"@timestamp": "2003-10-11T22:14:15.000Z", "event": {"severity": 5}, "hostname": "host",
            "process": {"entity_id": "1", "name": "app"}, "syslog": {"facility": 1, "facility_label": "user-level",
            "msgid": "id", "priority": 13, "severity_label": "Notice", "version": 1}});
        for (key, value) in change.as_object().unwrap() {
            event.pointer_mut(if key == "data" { "/syslog" } else { "" }).unwrap()[key] = value.clone();
        }
        event
    };
    let head = "<13>1 2003-10-11T22:14:15Z host app 1 id";
    for (rest, want) in [
        (" - text", Some(json!({"message": "text"}))),
        (" - \u{feff}text", Some(json!({"message": "text"}))),
        (" [a b=\"c\"] text", Some(json!({"message": "text", "data": {"a": {"b": "c"}}}))),
        (" [a b=\"c\"]", Some(json!({"message": "", "data": {"a": {"b": "c"}}}))),
        (" [a b=\"c\"] ", Some(json!({"message": "", "data": {"a": {"b": "c"}}}))),
        (" [a]", Some(json!({"message": "", "data": {"a": {}}}))),
        (" [a b=\"c\\\"d\\]e\\\\f\"] x", Some(json!({"message": "x", "data": {"a": {"b": "c\"d]e\\f"}}}))),
        (" [a b=\"1\" b=\"2\"][c] x", Some(json!({"message": "x", "data": {"a": {"b": "2"}, "c": {}}}))),
        (" -", None),
        (" nodash msg", None),
        ("", None),
        // Filebeat loses the text behind such data; see `input.rs`.
        (" [a b=\"c\\xd\"] bad", Some(json!({"message": "[a b=\"c\\xd\"] bad", "data": {"a": {}}}))),
        (
            " [a b=\"c\"][a d=\"e\"] dup",
            Some(json!({"message": "[a b=\"c\"][a d=\"e\"] dup", "data": {"a": {"b": "c"}}})),
        ),
        (" [a b=\"c\"]x", Some(json!({"message": "[a b=\"c\"]x", "data": {"a": {"b": "c"}}}))),
    ] {
        let text = format!("{head}{rest}");
        assert_eq!(input(Format::Rfc5424, &text), want.map_or(json!(text), event), "{text}");
    }
    for text in [
        "<13>1 - host app 1 id - nil timestamp",
        "<13>1 2003-10-11T22:14:15.123456789Z host app 1 id - nanos",
        "<13>1 2003-10-11T22:14:15 host app 1 id - no zone",
        "<13>0 2003-10-11T22:14:15Z host app abc id - version 0",
        "<192>1 2003-10-11T22:14:15Z host app abc id - prio 192",
        "<13>1 2003-10-11T22:14:60Z host app 1 id - sec 60",
        "<13>1 2003-10-11T22:14:15Z host app 1 abcdefghijklmnopqrstuvwxyzabcdefg - long id",
        "<34>Oct 11 22:14:15 mymachine su: 3164",
    ] {
        assert_eq!(input(Format::Rfc5424, text), json!(text));
    }
    let got = input(Format::Rfc5424, "<165>12 2003-02-31T05:14:15.000003-07:00 - app - - - x");
    assert_eq!(got["@timestamp"], "2003-03-03T12:14:15.000Z");
    assert_eq!(
        (&got["hostname"], &got["syslog"]["msgid"], &got["syslog"]["version"]),
        (&json!("-"), &json!("-"), &json!(12))
    );
}

#[test]
fn what_a_message_is_taken_for() {
    for (text, is) in [
        ("<13>1 2003-08-24T05:14:15.000003-07:00 test-host su 1234 msg-5678 - test", true),
        ("<13>Oct 11 22:14:15 test-host this is the message", false),
        ("not a valid message", false),
        ("<13>1 - host", false),
        ("<013>1 2", false),
        ("<191>999 2", true),
        ("<192>1 2", false),
        ("<1>01 2", false),
    ] {
        assert_eq!(begins_as_5424(text.as_bytes()), is, "{text}");
    }
}

/// `log.syslog` without the codes' names, with the message, the time and the error where they are.
fn modern(format: Format, text: &str) -> Value {
    let found = syslog(format).parse(text.as_bytes(), READ);
    let mut out = found.fields.get("log").map_or(json!({}), |log| log["syslog"].clone());
    for code in ["facility", "severity"] {
        if let Some(map) = out.get_mut(code) {
            *map = map["code"].clone();
        }
    }
    if !found.message.is_empty() {
        out["message"] = json!(text[found.message]);
    }
    if let Some(ms) = found.time_ms {
        out["time"] = json!(pillion_world::rfc3339(pillion_world::UnixMillis(ms)));
    }
    if let Some(error) = found.error {
        out["error"] = json!(error);
    }
    out
}

#[test]
fn rfc_3164_of_parser_and_processor() {
    let head = json!({"priority": 13, "facility": 1, "severity": 5, "hostname": "test-host",
        "message": "this is the message", "time": "2026-10-11T20:14:15.000Z"});
    for (text, change) in [
        ("<13>Oct 11 22:14:15 test-host this is the message", json!({})),
        (
            "<13>2003-08-24T05:14:15.000003-07:00 test-host this is the message",
            json!({"time": "2003-08-24T12:14:15.000Z"}),
        ),
        ("<13>Oct 11 22:14:15 test-host su: this is the message", json!({"appname": "su"})),
        ("<13>Oct 11 22:14:15 test-host su[1024]: this is the message", json!({"appname": "su", "procid": "1024"})),
        (
            "<13>Oct 11 22:14:15 test-host su[1024]: a [b]: c",
            json!({"appname": "su", "procid": "1024", "message": "a [b]: c"}),
        ),
        (
            "<123>Sep 01 02:03:04 test-host this is the message",
            json!({"priority": 123, "facility": 15, "severity": 3,
            "time": "2026-09-01T00:03:04.000Z"}),
        ),
        (
            "Oct 11 22:14:15 test-host this is the message",
            json!({"priority": null, "facility": null, "severity": null}),
        ),
        (
            "<abc>Oct 11 22:14:15 test-host this is the message",
            json!({"priority": null, "facility": null, "severity": null,
            "error": "validation error at position 2: invalid priority: strconv.Atoi: parsing \"abc\": invalid syntax"}),
        ),
        (
            "<192>Oct 11 22:14:15 test-host this is the message",
            json!({"priority": null, "facility": null, "severity": null,
            "error": "validation error at position 2: priority value out of range (expected 0..191)"}),
        ),
        (
            "<-1>Oct 11 22:14:15 test-host this is the message",
            json!({"priority": null, "facility": null, "severity": null,
            "error": "validation error at position 2: priority value out of range (expected 0..191)"}),
        ),
        (
            "13 Oct 11 22:14:15 test-host this is the message",
            json!({"priority": null, "facility": null, "severity": null,
            "time": null, "hostname": "Oct", "message": "11 22:14:15 test-host this is the message",
            "error": "validation error at position 1: parsing time \"13\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"13\" as \"2006\""}),
        ),
        (
            "<13> test-host this is the message",
            json!({"time": null, "hostname": null, "message": null,
            "error": "parsing error at position 5: unexpected EOF"}),
        ),
        (
            "<13>Foo 11 22:14:15 test-host this is the message",
            json!({"time": null,
            "error": "validation error at position 5: parsing time \"Foo 11 22:14:15\" as \"Jan _2 15:04:05\": cannot parse \"Foo 11 22:14:15\" as \"Jan\""}),
        ),
        (
            "<13>24-08-2003T05:14:15-07:00 test-host this is the message",
            json!({"time": null,
            "error": "validation error at position 5: parsing time \"24-08-2003T05:14:15-07:00\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"24-08-2003T05:14:15-07:00\" as \"2006\""}),
        ),
        (
            "<13>Oct 11 22:14:15 test-",
            json!({"hostname": null, "message": null, "error": "parsing error at position 26: unexpected EOF"}),
        ),
        // Not in the tables: nothing of a text is left out.
        (
            "<13>Oct 11 22:14:15 test-host su[1024] text",
            json!({"appname": "su", "procid": "1024", "message": "su[1024] text"}),
        ),
        ("<13>Oct 11 22:14:15 test-host su[10 text", json!({"appname": "su", "message": "su[10 text"})),
    ] {
        let mut want = head.clone();
        for (key, value) in change.as_object().unwrap() {
            if value.is_null() { drop(want.as_object_mut().unwrap().remove(key)) } else { want[key] = value.clone() }
        }
        assert_eq!(modern(Format::Auto, text), want, "{text}");
    }
}

#[test]
fn rfc_5424_of_parser_and_processor() {
    let full = json!({"priority": 165, "facility": 20, "severity": 5, "version": "1", "hostname": "mymachine.example.com",
        "appname": "evntslog", "msgid": "ID47", "time": "2003-10-11T22:14:15.003Z"});
    let with = |change: Value| {
        let mut out = full.clone();
        for (key, value) in change.as_object().unwrap() {
            if value.is_null() { drop(out.as_object_mut().unwrap().remove(key)) } else { out[key] = value.clone() }
        }
        out
    };
    let head = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47";
    let data =
        r#"[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]"#;
    let structured = json!({"exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": "1011"},
        "examplePriority@32473": {"class": "high"}});
    let loose = r#"[action:"Drop"; flags:"278528"; tag:"a[b={c};d=e\]"; src:"81.2.69.144"]"#;
    for (text, want) in [
        (format!("{head} {data}"), with(json!({"structured_data": structured}))),
        (
            format!("{head} {data} this is the message"),
            with(json!({"structured_data": structured, "message": "this is the message"})),
        ),
        (format!("{head} - \u{feff}'su root' failed"), with(json!({"message": "'su root' failed"}))),
        (
            format!("{head} [a b=\"[x\\] y\"] Some [value] more"),
            with(json!({"structured_data": {"a": {"b": "[x] y"}}, "message": "Some [value] more"})),
        ),
        (
            format!("{head} [a b=\"\\\"\\\\\" c=\"\"] x"),
            with(json!({"structured_data": {"a": {"b": "\"\\", "c": ""}}, "message": "x"})),
        ),
        (format!("{head} {loose}"), with(json!({"message": loose}))),
        (
            format!("{head} {loose} This is a test message"),
            with(json!({"message": format!("{loose} This is a test message")})),
        ),
        ("<13>1 - - - - - -".to_owned(), json!({"priority": 13, "facility": 1, "severity": 5, "version": "1"})),
        (
            format!("{head} {data}").replace(">1 ", ">A "),
            with(json!({"version": null, "structured_data": structured,
            "error": "validation error at position 6: invalid version, expected an integer: strconv.Atoi: parsing \"A\": invalid syntax"})),
        ),
        (
            format!("{head} {data}").replace("2003-10-11T", "10-11-2003T"),
            with(json!({"time": null, "structured_data": structured,
            "error": "validation error at position 8: parsing time \"10-11-2003T22:14:15.003Z\" as \"2006-01-02T15:04:05.999999999Z07:00\": cannot parse \"10-11-2003T22:14:15.003Z\" as \"2006\""})),
        ),
        (
            "<13>1 2003-08-24T05:14:15.000003-07:00 test-host su 1234 msg-".to_owned(),
            json!({"priority": 13, "facility": 1,
            "severity": 5, "version": "1", "hostname": "test-host", "appname": "su", "procid": "1234",
            "time": "2003-08-24T12:14:15.000Z", "error": "parsing error at position 62: unexpected EOF"}),
        ),
    ] {
        assert_eq!(modern(Format::Rfc5424, &text), want, "{text}");
    }
    let found = syslog(Format::Auto).parse(head.as_bytes(), READ);
    assert_eq!(found.fields["log"]["syslog"]["facility"], json!({"code": 20, "name": "local4"}));
    assert_eq!(found.fields["log"]["syslog"]["severity"], json!({"code": 5, "name": "Notice"}));
}

proptest! {
    #[test]
    fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(check(&text), Ok(()));
    }

    /// What looks like a message for longer.
    #[test]
    fn any_pieces(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "<13>", "1 ", "Oct ", " 1 ", "02:03:04", "2003-10-11", "T", "Z", ".5", "+02:00", " ", "host", "-", ":", "[", "]", "a",
        "=\"", "\"", "\\", "\u{feff}", "prog", "9", "\n", "é",
    ]), 0..24)) {
        prop_assert_eq!(check(pieces.concat().as_bytes()), Ok(()));
    }
}
