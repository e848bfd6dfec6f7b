use std::sync::{Arc, OnceLock};

use pillion_event::{BatchId, Extent, FileStat, Flags, Incarnation, InputKind, Overlay, Stream};
use proptest::prelude::*;
use serde_json::json;

use super::*;

pub(crate) fn agent(version: &str) -> Arc<Agent> {
    Arc::new(Agent {
        version: version.into(),
        name: "N".into(),
        hostname: "H".into(),
        id: "id-1".into(),
        ephemeral_id: "eph-1".into(),
    })
}

pub(crate) fn input(kind: InputKind) -> InputDesc {
    InputDesc::bare(kind, "jobs")
}

/// A batch of whole lines of a file, all of them events.
pub(crate) fn batch(input: InputDesc, from: u64, lines: &[&[u8]]) -> Batch {
    let (mut data, mut events) = (Vec::new(), Vec::new());
    for line in lines {
        let start = data.len() as u32;
        data.extend_from_slice(line);
        let end = data.len() as u32;
        data.push(b'\n');
        events.push(Event {
            text: start..end,
            offset: from + u64::from(start),
            len: end - start + 1,
            time_ms: 1_508_909_543_693,
            stream: Stream::None,
            flags: Flags::default(),
            overlay: None,
        });
    }
    let source = Arc::new(Source {
        input: Arc::new(input),
        path: "/x/test.log".into(),
        key: "k".into(),
        incarnation: Incarnation(0xabc),
        stat: FileStat { inode: 5_841_252, device: 65_024, fingerprint: Some("31a8".into()), ..FileStat::default() },
        render: OnceLock::new(),
        more: Default::default(),
    });
    let to = from + data.len() as u64;
    Batch { id: BatchId(1), source, from, to, guard: Default::default(), read_ms: 0, data, events, replayed: false }
}

fn text(renderer: &Renderer, batch: &Batch, event: &Event) -> String {
    let mut out = Vec::new();
    renderer.write(batch, event, &mut out);
    String::from_utf8(out).unwrap()
}

fn renderer(target: Target, compat: Compat, version: &str) -> Renderer {
    Renderer::new(RenderOptions::new(target, compat), agent(version))
}

fn value(renderer: &Renderer, batch: &Batch) -> Value {
    serde_json::from_str(&text(renderer, batch, &batch.events[0])).unwrap()
}

#[test]
fn events_of_5_6_byte_for_byte() {
    // elastic/beats#5435: three lines of 7 bytes through output.console of 5.6.0, the file before it at 7.
    let b = batch(input(InputKind::Log), 0, &[b"test 1", b"test 2"]);
    let r = renderer(Target::Codec, Compat::V5, "5.6.0");
    let want = |n, offset| {
        format!(
            r#"{{"@timestamp":"2017-10-25T05:32:23.693Z","beat":{{"hostname":"H","name":"N","version":"5.6.0"}},"input_type":"log","message":"test {n}","offset":{offset},"source":"/x/test.log","type":"log"}}"#
        )
    };
    assert_eq!(text(&r, &b, &b.events[0]), want(1, 7));
    assert_eq!(text(&r, &b, &b.events[1]), want(2, 14));
}

#[test]
fn to_logstash_5_6_sends_metadata_first() {
    let mut desc = input(InputKind::Log);
    desc.document_type = "app".into();
    desc.tags = vec!["a".into()];
    desc.fields = json!({"team": "x", "Zone": 1}).as_object().unwrap().clone();
    let b = batch(desc, 0, &[b"<a>&"]);
    let mut options = RenderOptions::new(Target::Logstash, Compat::V5);
    options.index = "myindex".into();
    options.event_ids = true;
    let r = Renderer::new(options, agent("5.6.16"));
    assert_eq!(
        text(&r, &b, &b.events[0]),
        concat!(
            r#"{"@metadata":{"_id":"00000000000000000000000000000abc-0-5","beat":"myindex","type":"app"},"#,
            r#""@timestamp":"2017-10-25T05:32:23.693Z","beat":{"hostname":"H","name":"N","version":"5.6.16"},"#,
            r#""fields":{"Zone":1,"team":"x"},"input_type":"log","message":"\u003ca\u003e\u0026","offset":5,"#,
            r#""source":"/x/test.log","tags":["a"],"type":"app"}"#
        )
    );
}

#[test]
fn events_of_7_to_9_as_the_real_programs_write_them() {
    for (kind, compat, version, want) in [
        (
            InputKind::Log,
            Compat::V7,
            "7.17.29",
            r#"{"@timestamp":"2017-10-25T05:32:23.693Z","@metadata":{"beat":"filebeat","type":"_doc","version":"7.17.29"},"ecs":{"version":"1.12.0"},"host":{"name":"N"},"agent":{"id":"id-1","name":"N","type":"filebeat","version":"7.17.29","hostname":"H","ephemeral_id":"eph-1"},"log":{"offset":0,"file":{"path":"/x/test.log"}},"message":"line 1","input":{"type":"log"}}"#,
        ),
        (
            InputKind::Filestream,
            Compat::V7,
            "7.17.29",
            r#"{"@timestamp":"2017-10-25T05:32:23.693Z","@metadata":{"beat":"filebeat","type":"_doc","version":"7.17.29"},"ecs":{"version":"1.12.0"},"host":{"name":"N"},"agent":{"id":"id-1","name":"N","type":"filebeat","version":"7.17.29","hostname":"H","ephemeral_id":"eph-1"},"log":{"offset":0,"file":{"path":"/x/test.log"}},"message":"line 1","input":{"type":"filestream"}}"#,
        ),
        (
            InputKind::Filestream,
            Compat::V8,
            "8.1.3",
            r#"{"@timestamp":"2017-10-25T05:32:23.693Z","@metadata":{"beat":"filebeat","type":"_doc","version":"8.1.3"},"message":"line 1","input":{"type":"filestream"},"ecs":{"version":"8.0.0"},"host":{"name":"N"},"agent":{"ephemeral_id":"eph-1","id":"id-1","name":"N","type":"filebeat","version":"8.1.3"},"log":{"offset":0,"file":{"path":"/x/test.log"}}}"#,
        ),
        (
            InputKind::Filestream,
            Compat::V9,
            "9.6.0",
            r#"{"@timestamp":"2017-10-25T05:32:23.693Z","@metadata":{"beat":"filebeat","type":"_doc","version":"9.6.0"},"log":{"offset":0,"file":{"inode":"5841252","fingerprint":"31a8","path":"/x/test.log","device_id":"65024"}},"message":"line 1","input":{"type":"filestream"},"host":{"name":"N"},"agent":{"id":"id-1","name":"N","type":"filebeat","version":"9.6.0","ephemeral_id":"eph-1"},"ecs":{"version":"8.0.0"}}"#,
        ),
    ] {
        let b = batch(input(kind), 0, &[b"line 1"]);
        let want: Value = serde_json::from_str(want).unwrap();
        for target in [Target::Codec, Target::Logstash] {
            assert_eq!(value(&renderer(target, compat, version), &b), want, "{compat:?}");
        }
        let mut bare = want;
        bare.as_object_mut().unwrap().remove("@metadata");
        assert_eq!(value(&renderer(Target::Elasticsearch, compat, version), &b), bare, "{compat:?}");
    }
}

#[test]
fn what_an_input_sets_and_readers_note() {
    let mut desc = input(InputKind::Container);
    desc.tags = vec!["a".into(), "b".into()];
    desc.fields = json!({"team": "x"}).as_object().unwrap().clone();
    desc.root_fields = json!({"env": "prod", "host": {"os": "linux"}}).as_object().unwrap().clone();
    desc.service_type = Some("web".into());
    desc.pipeline = Some("p1".into());
    desc.index = Some("own-%{[agent.version]}-%{+yyyy.MM.dd}".into());
    let mut b = batch(desc, 100, &[b"x"]);
    b.events[0].stream = Stream::Stderr;
    b.events[0].flags = Flags { multiline: true, truncated: true };
    let mut options = RenderOptions::new(Target::Logstash, Compat::V8);
    options.event_ids = true;
    let got = value(&Renderer::new(options, agent("8.19.3")), &b);
    assert_eq!(
        got,
        json!({
            "@timestamp": "2017-10-25T05:32:23.693Z",
            "@metadata": {
                "beat": "filebeat", "type": "_doc", "version": "8.19.3", "pipeline": "p1",
                "raw_index": "own-8.19.3-2017.10.25", "_id": "00000000000000000000000000000abc-64-2",
            },
            "message": "x",
            "log": {"offset": 100, "file": {"path": "/x/test.log"}, "flags": ["truncated", "multiline"]},
            "input": {"type": "container"},
            "stream": "stderr",
            "tags": ["a", "b"],
            "fields": {"team": "x"},
            "env": "prod",
            "service": {"type": "web"},
            "ecs": {"version": "8.0.0"},
            "host": {"name": "N", "os": "linux"},
            "agent": {"id": "id-1", "name": "N", "type": "filebeat", "version": "8.19.3", "ephemeral_id": "eph-1"},
        })
    );
}

#[test]
fn fields_at_the_root_may_replace_and_reach_anywhere() {
    let mut desc = input(InputKind::Log);
    desc.root_fields = json!({"message": "m", "log": {"file": {"name": "n"}, "level": "l"}, "@metadata": {"k": 1}})
        .as_object()
        .unwrap()
        .clone();
    let b = batch(desc, 0, &[b"x"]);
    let got = value(&renderer(Target::Codec, Compat::V9, "9.0.0"), &b);
    assert_eq!(got["message"], "m");
    assert_eq!(got["log"], json!({"offset": 0, "file": {"path": "/x/test.log", "name": "n"}, "level": "l"}));
    assert_eq!(got["@metadata"], json!({"beat": "filebeat", "type": "_doc", "version": "9.0.0", "k": 1}));

    let mut desc = input(InputKind::Log);
    desc.root_fields = json!({"source": "s", "beat": {"x": 1}, "type": "own"}).as_object().unwrap().clone();
    let b = batch(desc, 0, &[b"x"]);
    let got = value(&renderer(Target::Logstash, Compat::V5, "5.6.16"), &b);
    assert_eq!((&got["source"], &got["beat"]), (&json!("s"), &json!({"x": 1})), "5.6 replaces whole members");
    assert_eq!((&got["type"], &got["@metadata"]["type"]), (&json!("own"), &json!("own")));
}

#[test]
fn overlays_merge_deeply() {
    let mut b = batch(input(InputKind::Log), 0, &[b"{}"]);
    b.events[0].overlay = Some(Box::new(Overlay {
        no_message: true,
        fields: json!({"log": {"level": "info", "file": {"line": 3}}, "host": "other", "z": [1, {"y": null}], "big": 18446744073709551615u64})
            .as_object()
            .unwrap()
            .clone(),
        metadata: json!({"_id": "own"}).as_object().unwrap().clone(),
        ..Overlay::default()
    }));
    let mut options = RenderOptions::new(Target::Codec, Compat::V8);
    options.event_ids = true;
    let got = value(&Renderer::new(options, agent("8.1.0")), &b);
    assert_eq!(got.get("message"), None);
    assert_eq!(got["log"], json!({"offset": 0, "file": {"path": "/x/test.log", "line": 3}, "level": "info"}));
    assert_eq!((&got["host"], &got["z"]), (&json!("other"), &json!([1, {}])), "no null in an object");
    assert_eq!(got["big"], json!(u64::MAX));
    assert_eq!(got["@metadata"]["_id"], "own");

    b.events[0].overlay = Some(Box::new(Overlay {
        fields: json!({"message": "from json", "type": "t", "json": {"b": 1, "a": {"d": 1, "c": 2}}})
            .as_object()
            .unwrap()
            .clone(),
        ..Overlay::default()
    }));
    let r = renderer(Target::Logstash, Compat::V5, "5.6.16");
    assert_eq!(
        text(&r, &b, &b.events[0]),
        concat!(
            r#"{"@metadata":{"beat":"filebeat","type":"t"},"@timestamp":"2017-10-25T05:32:23.693Z","#,
            r#""beat":{"hostname":"H","name":"N","version":"5.6.16"},"input_type":"log","json":{"a":{"c":2,"d":1},"b":1},"#,
            r#""message":"from json","offset":3,"source":"/x/test.log","type":"t"}"#
        )
    );
}

#[test]
fn what_a_line_says_beside_what_is_configured() {
    let object = |value: Value| value.as_object().unwrap().clone();
    let mut desc = input(InputKind::Log);
    desc.tags = vec!["configured".into()];
    desc.fields = object(json!({"team": "ours", "site": {"a": 1, "none": null}}));
    desc.root_fields = object(json!({"level": "ours", "type": "root"}));
    let mut b = batch(desc, 0, &[b"{}"]);
    let said = json!({
        "tags": ["said"], "fields": {"team": "theirs", "site": {"b": 2}}, "level": "theirs", "type": "theirs",
        "gone": null, "nested": {"gone": null, "list": [null, {"gone": null}]},
    });
    b.events[0].overlay = Some(Box::new(Overlay { fields: object(said), ..Overlay::default() }));
    let got = value(&renderer(Target::Logstash, Compat::V8, "8.1.0"), &b);
    assert_eq!(got["tags"], json!(["said", "configured"]));
    assert_eq!(got["fields"], json!({"team": "ours", "site": {"a": 1, "b": 2}}));
    assert_eq!((&got["level"], got.get("gone")), (&json!("ours"), None));
    assert_eq!(got["nested"], json!({"list": [null, {}]}));
    let mut field = Vec::new();
    assert!(!renderer(Target::Codec, Compat::V8, "8.1.0").write_field(&b, &b.events[0], "nested.gone", &mut field));

    let got = value(&renderer(Target::Logstash, Compat::V5, "5.6.16"), &b);
    assert_eq!((&got["tags"], &got["level"]), (&json!(["said"]), &json!("ours")), "5.6 adds no tags to a line's own");
    assert_eq!((&got["type"], &got["@metadata"]["type"]), (&json!("root"), &json!("root")));
    assert_eq!((got.get("gone"), &got["nested"]), (None, &json!({"list": [null, {}]})));

    let Some(overlay) = &mut b.events[0].overlay else { panic!() };
    overlay.fields = object(json!({"tags": "a text"}));
    let got = value(&renderer(Target::Codec, Compat::V8, "8.1.0"), &b);
    assert_eq!(got["tags"], "a text", "what isn't a list can't be added to");
}

#[test]
fn two_renderers_do_not_mix_their_caches() {
    let b = batch(input(InputKind::Log), 0, &[b"x"]);
    let (five, nine) = (renderer(Target::Codec, Compat::V5, "5.6.16"), renderer(Target::Codec, Compat::V9, "9.0.0"));
    let first = text(&five, &b, &b.events[0]);
    assert!(text(&nine, &b, &b.events[0]).contains("\"agent\""));
    assert_eq!(text(&five, &b, &b.events[0]), first);
}

#[test]
fn an_events_id_is_what_its_display_says() {
    for id in [
        EventId { incarnation: Incarnation(0), offset: 0, len: 0 },
        EventId { incarnation: Incarnation(u128::MAX - 5), offset: u64::MAX, len: u32::MAX },
        EventId { incarnation: Incarnation(1 << 100), offset: 4096, len: 201 },
    ] {
        let mut out = Vec::new();
        write_event_id(&id, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), id.to_string());
    }
}

/// As Go decodes: one U+FFFD for each byte that isn't part of valid UTF-8.
fn lossy(bytes: &[u8]) -> String {
    bytes.utf8_chunks().flat_map(|c| c.valid().chars().chain(c.invalid().iter().map(|_| '\u{fffd}'))).collect()
}

proptest! {
    #[test]
    fn always_valid_json_that_holds_the_text(
        line in prop_oneof![proptest::collection::vec(any::<u8>(), 0..300), "\\PC*".prop_map(String::into_bytes)],
        path in "\\PC{0,20}",
        tag in "\\PC{0,5}",
        which in 0..4usize,
        target in 0..3usize,
        html: bool,
        stream in 0..3usize,
    ) {
        let compat = [Compat::V5, Compat::V7, Compat::V8, Compat::V9][which];
        let target = [Target::Elasticsearch, Target::Logstash, Target::Codec][target];
        let mut desc = input(InputKind::Filestream);
        desc.tags = vec![tag];
        let mut b = batch(desc, 7, &[&line]);
        Arc::get_mut(&mut b.source).unwrap().path = path.as_str().into();
        b.events[0].stream = [Stream::None, Stream::Stdout, Stream::Stderr][stream];
        let mut options = RenderOptions::new(target, compat);
        (options.event_ids, options.escape_html) = (html, html);
        let r = Renderer::new(options, agent("9.6.0"));
        let fast = text(&r, &b, &b.events[0]);
        let parsed: Value = serde_json::from_str(&fast).unwrap();
        prop_assert_eq!(parsed["message"].as_str().unwrap(), lossy(&line));
        let at = if compat == Compat::V5 { &parsed["source"] } else { &parsed["log"]["file"]["path"] };
        prop_assert_eq!(at.as_str().unwrap(), path);
        // The long way gives the same, byte for byte.
        b.events[0].overlay = Some(Box::default());
        prop_assert_eq!(text(&r, &b, &b.events[0]), fast);
    }
}

#[test]
fn what_processors_see_is_what_is_written() {
    let object = |value: Value| value.as_object().unwrap().clone();
    for (compat, version) in
        [(Compat::V5, "5.6.16"), (Compat::V7, "7.17.29"), (Compat::V8, "8.19.3"), (Compat::V9, "9.1.0")]
    {
        for kind in [InputKind::Log, InputKind::Filestream, InputKind::Container] {
            let mut desc = input(kind);
            desc.tags = vec!["t".into()];
            desc.fields = object(json!({"team": "a", "none": null}));
            desc.root_fields = object(json!({"level": "x", "log": {"file": {"line": 1}}}));
            let mut b = batch(desc, 100, &[b"plain \xff", b"{}"]);
            b.events[1].overlay = Some(Box::new(Overlay {
                no_message: true,
                fields: object(json!({"tags": ["s"], "fields": {"n": {"o": null}}, "json": {"b": [null, 1]}})),
                metadata: object(json!({"_id": "own"})),
                ..Overlay::default()
            }));
            for target in [Target::Elasticsearch, Target::Codec, Target::Logstash] {
                let r = renderer(target, compat, version);
                for event in &b.events {
                    let before: Value = serde_json::from_str(&text(&r, &b, event)).unwrap();
                    let no_message = event.overlay.as_ref().is_some_and(|o| o.no_message);
                    let whole = Overlay {
                        extent: Extent::Whole,
                        no_message,
                        fields: r.fields(&b, event),
                        metadata: event.overlay.as_ref().map(|o| o.metadata.clone()).unwrap_or_default(),
                        weight: 0,
                    };
                    let event = Event { overlay: Some(Box::new(whole)), ..event.clone() };
                    let after: Value = serde_json::from_str(&text(&r, &b, &event)).unwrap();
                    assert_eq!(before, after, "{compat:?} {kind:?} {target:?}");
                    members_like_the_whole(&r, &b, &event);
                }
            }
        }
    }
}

/// Filebeat 7.17.29: what came over sockets.
#[test]
fn events_of_sockets_have_no_file() {
    let r = renderer(Target::Codec, Compat::V7, "7.17.29");
    let source = json!({"source": {"address": "127.0.0.1:50312"}});
    for (kind, log, truncated) in [
        (InputKind::Tcp, Some(source.clone()), None),
        (InputKind::Unix, None, None),
        (InputKind::Udp, Some(source.clone()), Some(false)),
        (InputKind::Syslog, Some(source), Some(false)),
    ] {
        let mut b = batch(input(kind), 0, &[b"short"]);
        if let Some(log) = &log {
            let fields = json!({"log": log}).as_object().unwrap().clone();
            b.events[0].overlay = Some(Box::new(Overlay { fields, ..Overlay::default() }));
        }
        let got = value(&r, &b);
        assert_eq!((got.get("log"), &got["message"]), (log.as_ref(), &json!("short")), "{kind:?}");
        assert_eq!(
            (&got["input"]["type"], got["@metadata"]["truncated"].as_bool()),
            (&json!(kind.as_str()), truncated)
        );
        b.events[0].flags.truncated = true;
        assert_eq!(value(&r, &b)["log"]["flags"], json!(["truncated"]));
    }
    let mut desc = input(InputKind::Log);
    desc.without_host = true;
    assert_eq!(value(&r, &batch(desc, 0, &[b"x"])).get("host"), None);
    // Filebeat 9.5: of a datagram it says nothing of the kind, of syslog it does.
    let r = renderer(Target::Codec, Compat::V9, "9.5.0");
    for (kind, truncated) in [(InputKind::Udp, None), (InputKind::Syslog, Some(false)), (InputKind::Tcp, None)] {
        let got = value(&r, &batch(input(kind), 0, &[b"short"]));
        assert_eq!(got["@metadata"]["truncated"].as_bool(), truncated, "{kind:?}");
    }
}

/// What Filebeat 7.17.29 gives: `cargo xtask e2e differential`, cases `nulls…`.
#[test]
fn nulls_of_a_line_go_or_stay() {
    let fields =
        json!({"a": null, "o": {"b": null, "l": [null]}, "log": null, "agent": {"name": null}, "fields": null});
    let case = |compat, keep_null| {
        let mut desc = input(InputKind::Log);
        (desc.keep_null, desc.fields) = (keep_null, json!({"x": 1}).as_object().unwrap().clone());
        let mut b = batch(desc, 0, &[b"m"]);
        let fields = fields.as_object().unwrap().clone();
        b.events[0].overlay = Some(Box::new(Overlay { fields, ..Overlay::default() }));
        let r = renderer(Target::Elasticsearch, compat, "7.17.29");
        let mut seen = r.fields(&b, &b.events[0]);
        seen.retain(|name, _| ["a", "o", "log", "fields"].contains(&name.as_str()));
        let event = value(&r, &b);
        let own = |name: &str| event.as_object().unwrap().get(name).cloned();
        for (name, value) in seen {
            assert_eq!(own(&name), Some(value), "{name}, as processors see it");
        }
        [own("a"), own("o"), own("log"), own("agent").map(|agent| agent["name"].clone()), own("fields")]
    };
    let x = Some(json!({"x": 1}));
    assert_eq!(case(Compat::V7, false), [None, Some(json!({"l": [null]})), None, Some(json!("N")), x.clone()]);
    let null = Some(Value::Null);
    assert_eq!(case(Compat::V7, true), [null.clone(), Some(json!({"b": null, "l": [null]})), null.clone(), null, x]);
    assert_eq!(case(Compat::V5, false)[..2], [None, Some(json!({"l": [null]}))]);
}

/// Processors that take some members away and put others there give the same event, whether the rest of it is known to them
/// or not.
fn members_like_the_whole(r: &Renderer, b: &Batch, whole: &Event) {
    let map = |value: Value| value.as_object().cloned().unwrap_or_default();
    let plain = &b.events[0];
    let all = r.fields(b, plain);
    for name in all.keys() {
        assert_eq!(r.member(b, plain, name).as_ref(), all.get(name), "{name}");
    }
    assert_eq!((r.member(b, plain, "nothing"), r.member(b, plain, "message")), (None, None));
    let some: Vec<String> = all.keys().step_by(2).cloned().collect();
    for (gone, metadata) in [(&some[..], json!({})), (&some[1..], json!({"_id": "own"})), (&[], json!({}))] {
        for no_message in [false, true] {
            let new = map(json!({"log": {"x": null}, "new": ["\u{7}", 1.5], "tags": ["p"], "type": "own"}));
            let overlay = |extent, mut fields: Map<String, Value>| {
                fields.extend(new.clone());
                let metadata = map(metadata.clone());
                Some(Box::new(Overlay { extent, no_message, fields, metadata, weight: 0 }))
            };
            let rest = all.clone().into_iter().filter(|(name, _)| !gone.contains(name)).collect();
            let members = Event { overlay: overlay(Extent::Members(gone.to_vec()), Map::new()), ..plain.clone() };
            let expect = Event { overlay: overlay(Extent::Whole, rest), ..plain.clone() };
            let [members_text, expect_text] = [&members, &expect].map(|e| text(r, b, e));
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(&members_text), parse(&expect_text), "{gone:?} {:?}", whole.offset);
            for path in ["new", "log.x", "type", "message", "@metadata._id", "input.type", "stream", "level"] {
                let [a, b] = [&members, &expect].map(|e| {
                    let mut out = Vec::new();
                    (r.write_field(b, e, path, &mut out), out)
                });
                assert_eq!(a, b, "{path}");
            }
            assert_eq!(r.fields(b, &members), r.fields(b, &expect));
        }
    }
}
