use pillion_config::Compat;
use pillion_event::{InputKind, Overlay};
use serde_json::json;

use super::*;
use crate::render::tests::{agent, batch, input};
use crate::render::{RenderOptions, Target};

fn renderer(compat: Compat) -> Renderer {
    Renderer::new(RenderOptions::new(Target::Codec, compat), agent("8.19.3"))
}

fn run(format: &str, compat: Compat) -> Result<String, MissingField> {
    let mut desc = input(InputKind::Log);
    desc.fields =
        json!({"team": "x", "n": 7, "f": 1.5, "b": true, "null": null, "list": [1], "empty": "", "a.b": "dot", "o": {"z": [1, null], "a": "<", "n": null},
            "floats": {"a": 1_234_567.0, "b": 1e6, "c": 123_456.5, "d": 0.00001, "e": 0.0001, "f": -1e21, "g": 12_345_678}})
            .as_object()
            .unwrap()
            .clone();
    desc.root_fields = json!({"app": "shop"}).as_object().unwrap().clone();
    let b = batch(desc, 10, &[b"some \"text\""]);
    let mut out = b"before:".to_vec();
    let done = Format::compile(format).unwrap().write(&renderer(compat), &b, &b.events[0], &mut out);
    let out = String::from_utf8(out).unwrap();
    match done {
        Ok(()) => Ok(out.strip_prefix("before:").unwrap().to_owned()),
        Err(e) => {
            assert_eq!(out, "before:");
            Err(e)
        }
    }
}

#[test]
fn gives_what_beats_gives() {
    for (format, want) in [
        ("", ""),
        ("plain 100% {x}", "plain 100% {x}"),
        (r"\%{[x]} \\ \q", r"%{[x]} \ q"),
        ("filebeat-%{[agent.version]}-%{+yyyy.MM.dd}", "filebeat-8.19.3-2017.10.25"),
        ("%{[fields.team]}-%{[fields][n]}-%{[fields.f]}-%{[fields.b]}", "x-7-1.5-true"),
        ("%{[fields.floats.a]} %{[fields.floats.b]} %{[fields.floats.c]}", "1.234567e+06 1e+06 123456.5"),
        ("%{[fields.floats.d]} %{[fields.floats.e]} %{[fields.floats.f]}", "1e-05 0.0001 -1e+21"),
        ("%{[fields.floats.g]}", "12345678"),
        ("%{[fields.a.b]}", "dot"),
        ("%{[app]}", "shop"),
        ("%{[fields.no]:none}%{[fields.null]:-}%{[fields.list]:}%{[fields.empty]:e}", "none-e"),
        ("%{[message]}", "some \"text\""),
        ("%{[log]} %{[log.file]}", r#"{"file":{"path":"/x/test.log"},"offset":10} {"path":"/x/test.log"}"#),
        ("%{[fields.o]}", r#"{"a":"\u003c","z":[1,null]}"#),
        ("%{[log.offset]} %{[log.file.path]} %{[input.type]}", "10 /x/test.log log"),
        ("%{[@timestamp]}", "2017-10-25T05:32:23.693Z"),
        ("%{[@metadata.beat]}", "filebeat"),
        ("%{+HH:mm}", "05"),
        ("%{[no]:d\\}\\:}", "d}:"),
    ] {
        assert_eq!(run(format, Compat::V8).unwrap(), want, "{format}");
    }
    for (format, want) in
        [("%{[beat.version]}", "8.19.3"), ("%{[source]}", "/x/test.log"), ("%{[offset]}", "22"), ("%{[type]}", "log")]
    {
        assert_eq!(run(format, Compat::V5).unwrap(), want, "{format}");
    }
}

#[test]
fn a_missing_field_is_an_error_that_names_it() {
    for (format, path) in [
        ("a-%{[fields.no]}", "fields.no"),
        ("%{[fields.null]}", "fields.null"),
        ("%{[fields.list]}", "fields.list"),
        ("%{[message.x]}", "message.x"),
        ("%{[@metadata]}", "@metadata"),
    ] {
        assert_eq!(run(format, Compat::V8), Err(MissingField(path.to_owned())), "{format}");
    }
}

#[test]
fn refuses_what_it_can_not_understand() {
    for (format, part) in [
        ("%{", "`}` is missing"),
        ("%{[a]", "`}` is missing"),
        ("%{}", "neither a field"),
        ("%{a}", "neither a field"),
        ("%{[]}", "names no field"),
        ("%{[a}", "`]` is missing"),
        ("%{[a]b}", "`[` is missing"),
        ("%{[a]:?x}", "isn't supported"),
        ("%{[a]:x:y}", "more than one"),
        ("%{[a]:%{[b]}}", "within"),
        ("%{:x}", "where a name"),
        ("%{+yyyy.G}", "`G`"),
    ] {
        let e = Format::compile(format).unwrap_err().to_string();
        assert!(e.contains(part) && e.contains(format), "{format}: {e}");
    }
}

#[test]
fn a_selector_remembers_only_what_can_not_differ() {
    let r = renderer(Compat::V8);
    let two = |format: &str, change: &dyn Fn(&mut Batch)| {
        let mut desc = input(InputKind::Log);
        desc.fields = json!({"team": "x"}).as_object().unwrap().clone();
        let mut b = batch(desc, 0, &[b"one", b"two"]);
        change(&mut b);
        let mut s = Selector::new(Arc::new(Format::compile(format).unwrap()));
        let first = s.get(&r, &b, &b.events[0]).unwrap().to_owned();
        (first, s.get(&r, &b, &b.events[1]).unwrap().to_owned(), s.last.is_some())
    };
    let day_later = |b: &mut Batch| b.events[1].time_ms += 86_400_000;
    let overlay = |b: &mut Batch| {
        let fields = json!({"json": {"team": "y"}}).as_object().unwrap().clone();
        b.events[1].overlay = Some(Box::new(Overlay { fields, ..Overlay::default() }));
    };
    for (format, change, want) in [
        ("i-%{+yyyy.MM.dd}", &day_later as &dyn Fn(&mut Batch), ("i-2017.10.25", "i-2017.10.26", true)),
        ("i-%{+yyyy.MM}", &overlay, ("i-2017.10", "i-2017.10", true)),
        ("%{[fields.team]}", &day_later, ("x", "x", true)),
        ("%{[json.team]:x}", &overlay, ("x", "y", false)),
        ("%{[message]}", &day_later, ("one", "two", false)),
        ("%{[log.offset]}", &day_later, ("0", "4", false)),
    ] {
        let (first, second, cached) = two(format, change);
        assert_eq!((first.as_str(), second.as_str(), cached), want, "{format}");
    }
    let (a, b) = (batch(input(InputKind::Log), 0, &[b"a"]), batch(input(InputKind::Stdin), 0, &[b"b"]));
    let mut s = Selector::new(Arc::new(Format::compile("%{[input.type]}").unwrap()));
    assert_eq!(s.get(&r, &a, &a.events[0]).unwrap(), "log");
    assert_eq!(s.get(&r, &b, &b.events[0]).unwrap(), "stdin");
    let mut missing = Selector::new(Arc::new(Format::compile("%{[no]}").unwrap()));
    assert!(missing.get(&r, &a, &a.events[0]).is_err() && missing.get(&r, &a, &a.events[0]).is_err());
    assert_eq!(Format::compile("a\\%b").unwrap().constant(), Some("a%b"));
    assert_eq!(Format::compile("%{+yyyy}").unwrap().constant(), None);
}
