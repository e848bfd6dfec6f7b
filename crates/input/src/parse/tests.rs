//! The properties that the chain promises, and tables of what Filebeat's documentation and code say.

use std::time::Duration;

use pillion_event::{Event, Overlay, Stream};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What can be seen of an event.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    offset: u64,
    len: u32,
    text: String,
    time_ms: i64,
    stream: Stream,
    multiline: bool,
    truncated: bool,
    overlay: Option<Overlay>,
}

const READ_MS: i64 = 1_000;

fn see(data: &[u8], e: &Event) -> Seen {
    Seen {
        offset: e.offset,
        len: e.len,
        text: String::from_utf8_lossy(&data[e.text.start as usize..e.text.end as usize]).into_owned(),
        time_ms: e.time_ms,
        stream: e.stream,
        multiline: e.flags.multiline,
        truncated: e.flags.truncated,
        overlay: e.overlay.as_deref().cloned(),
    }
}

fn chain(options: ChainOptions) -> Chain {
    Chain::new(options)
}

fn chunk(len: usize, offset: u64, flush: Flush) -> Chunk {
    Chunk { len, offset, flush, read_ms: READ_MS, max_events: usize::MAX / 2 }
}

/// Parses a file in one go.
fn whole(chain: &Chain, file: &[u8], offset: u64, flush: Flush) -> (Vec<Seen>, Parsed) {
    let mut data = file.to_vec();
    let mut events = Vec::new();
    let parsed = chain.parse(&mut data, &chunk(file.len(), offset, flush), &mut events);
    (events.iter().map(|e| see(&data, e)).collect(), parsed)
}

fn texts(chain: &Chain, file: &[u8]) -> Vec<String> {
    whole(chain, file, 0, Flush::All).0.into_iter().map(|s| s.text).collect()
}

fn one_parser(parser: Parser, shape: Shape) -> Chain {
    chain(ChainOptions { parsers: vec![parser], shape, ..ChainOptions::default() })
}

fn pattern(go: &str) -> Pattern {
    Pattern::new(go).unwrap()
}

fn by_pattern(go: &str, negate: bool, matching: Match) -> Multiline {
    Multiline::new(Grouping::Pattern { pattern: pattern(go), negate, matching, flush: None })
}

// ---- lines

#[test]
fn plain_lines() {
    let c = chain(ChainOptions::default());
    let (seen, parsed) = whole(&c, b"\xEF\xBB\xBFone\r\n\n\r\ntwo\r\r\n  \nthr\xffee\nfour", 0, Flush::No);
    let got: Vec<_> = seen.iter().map(|s| (s.offset, s.len, s.text.as_str())).collect();
    assert_eq!(got, [(0, 8, "one"), (11, 6, "two\r"), (17, 3, "  "), (20, 7, "thr\u{fffd}ee")]);
    assert_eq!((parsed.consumed, parsed.seen, parsed.open, parsed.more), (27, 27, Open::Line, false));
    assert_eq!((parsed.lines, parsed.empty), (6, 2));
    assert!(seen.iter().all(|s| s.time_ms == READ_MS && s.overlay.is_none() && !s.truncated));
    let (seen, parsed) = whole(&c, b"\xEF\xBB\xBFone\r", 5, Flush::All);
    assert_eq!(
        (seen[0].text.as_str(), seen[0].len, parsed.consumed, parsed.open),
        ("\u{feff}one\r", 7, 7, Open::Nothing)
    );
}

#[test]
fn line_feed_alone_keeps_the_carriage_return() {
    let c = chain(ChainOptions { terminator: Terminator::LineFeed, ..ChainOptions::default() });
    assert_eq!(texts(&c, b"a\r\nb\n"), ["a\r", "b"]);
}

#[test]
fn long_lines_are_cut_and_covered_whole() {
    let c = chain(ChainOptions { max_bytes: 4, ..ChainOptions::default() });
    let (seen, _) = whole(&c, b"abcd\r\nabcde\nx\n", 0, Flush::No);
    let got: Vec<_> = seen.iter().map(|s| (s.len, s.text.as_str(), s.truncated)).collect();
    assert_eq!(got, [(6, "abcd", false), (6, "abcd", true), (2, "x", false)]);
}

#[test]
fn include_then_exclude() {
    let c = chain(ChainOptions {
        include_lines: vec![pattern("^ERR"), pattern("^WARN")],
        exclude_lines: vec![pattern("harmless")],
        ..ChainOptions::default()
    });
    let (seen, parsed) = whole(&c, b"ERR a\nINFO b\nWARN harmless\n\nWARN c\nINFO d\n", 0, Flush::No);
    assert_eq!(seen.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["ERR a", "WARN c"]);
    assert_eq!((parsed.consumed, parsed.lines, parsed.filtered, parsed.empty), (42, 6, 3, 1));
}

#[test]
fn max_events_stops_between_lines() {
    for parsers in [vec![], vec![Parser::Json(Json::default())]] {
        let c = chain(ChainOptions { parsers, ..ChainOptions::default() });
        let file = b"{\"a\":1}\n{\"a\":2}\n{\"a\":3}";
        let (mut data, mut events, mut at) = (file.to_vec(), Vec::new(), 0);
        for more in [true, true, false] {
            let mut chunk = chunk(data.len(), at, Flush::All);
            chunk.max_events = 1;
            let parsed = c.parse(&mut data, &chunk, &mut events);
            assert_eq!((parsed.more, parsed.lines), (more, 1));
            at += parsed.consumed;
            data = file[at as usize..].to_vec();
        }
        assert_eq!((at, events.len()), (file.len() as u64, 3));
    }
}

// ---- multiline

#[test]
fn multiline_groups() {
    let count = |n| Multiline::new(Grouping::Count(n));
    let flush = |go| {
        Multiline::new(Grouping::Pattern {
            pattern: pattern("start"),
            negate: true,
            matching: Match::After,
            flush: Some(pattern(go)),
        })
    };
    let each = |go, negate| Multiline::new(Grouping::While { pattern: pattern(go), negate });
    let cases: &[(&str, Multiline, &str, &[&str])] = &[
        (
            "java stack trace",
            by_pattern(r"^\s", false, Match::After),
            "a\n at b\n at c\nd\n",
            &["a\n at b\n at c", "d"],
        ),
        ("timestamps", by_pattern(r"^\[", true, Match::After), "[1\nx\n\ny\n[2\n[3\n", &["[1\nx\n\ny", "[2", "[3"]),
        ("line continuation", by_pattern(r"\\$", false, Match::Before), "a\\\nb\\\nc\nd\n", &["a\\\nb\\\nc", "d"]),
        ("before, negated", by_pattern(r"^end", true, Match::Before), "a\nend\nb\nc\nend\n", &["a\nend", "b\nc\nend"]),
        ("crlf", by_pattern(r"^\s", false, Match::After), "a\r\n b\r\nc\r\n", &["a\n b", "c"]),
        ("flush", flush("^end"), "start\na\nend\nb\nstart\nend\nc\n", &["start\na\nend", "b", "start\nend", "c"]),
        ("flush isn't asked of the first", flush("^start"), "start\na\nstart\nb\n", &["start\na\nstart", "b"]),
        ("count", count(2), "a\nb\nc\nd\ne\n", &["a\nb", "c\nd", "e"]),
        ("count of one", count(1), "a\nb\n", &["a", "b"]),
        ("count beyond 500", count(600), &"x\n".repeat(1200), &[&["x"; 600].join("\n"), &["x"; 600].join("\n")]),
        ("while", each(r"^\{", false), "{1\n{2\nx\ny\n{3\n", &["{1\n{2", "x", "y", "{3"]),
        ("while not", each(r"^\{", true), "{1\nx\ny\n{3\n", &["{1", "x\ny", "{3"]),
        ("empty lines at the beginning", by_pattern("^x", true, Match::After), "\n\na\n\nb\nx\n", &["a\n\nb", "x"]),
        ("one empty line", by_pattern("^x", true, Match::After), "\nx\n", &["x"]),
    ];
    for (name, multiline, file, expect) in cases {
        for shape in [Shape::Log, Shape::Filestream] {
            let c = one_parser(Parser::Multiline(multiline.clone()), shape);
            let (seen, parsed) = whole(&c, file.as_bytes(), 0, Flush::All);
            assert_eq!(seen.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), *expect, "{name}");
            assert_eq!(parsed.consumed, file.len() as u64, "{name}");
            assert_eq!(parsed.lines, file.lines().count() as u64, "{name}");
            assert!(seen.iter().all(|s| s.multiline == s.text.trim_matches('\n').contains('\n')), "{name}");
        }
    }
}

#[test]
fn filestream_says_where_the_last_line_begins() {
    let c = one_parser(Parser::Multiline(by_pattern("^ ", false, Match::After)), Shape::Filestream);
    let (seen, _) = whole(&c, b"a\n b\nc\n\n\nd\n \n e\r\nf\n", 0, Flush::All);
    let offset = |s: &Seen| s.overlay.as_ref().map_or(s.offset, |o| o.fields["log"]["offset"].as_u64().unwrap());
    // As Filebeat 7.17 did.
    assert_eq!(seen.iter().map(offset).collect::<Vec<_>>(), [2, 5, 13, 17]);
}

#[test]
fn multiline_limits() {
    let lines = |max_lines| Multiline { max_lines, ..by_pattern("^x", true, Match::After) };
    let count = Multiline { max_lines: 2, ..Multiline::new(Grouping::Count(3)) };
    let (seen, parsed) = whole(&one_parser(Parser::Multiline(count), Shape::Log), b"a\nb\nc\nd\n", 0, Flush::All);
    let got: Vec<_> = seen.iter().map(|s| (s.text.as_str(), s.truncated)).collect();
    assert_eq!((got, parsed.lines), (vec![("a\nb", true), ("d", false)], 4));
    let cases: &[(u64, usize, bool, &str, &str, bool)] = &[
        // max_lines, max_bytes, skip_newline, file, text, truncated
        (2, 100, false, "xa\nb\nc\n", "xa\nb", true),
        (2, 100, false, "xa\nb\n\n", "xa\nb", false),
        (0, 100, false, "xa\nb\nc\n", "xa\nb\nc", false),
        (500, 5, false, "xa\nbbb\nc\n", "xa\nbb", true),
        (500, 3, false, "xa\nbbb\n", "xa", true),
        (500, 4, false, "xa\r\nbbb\n", "xa\nb", true),
        (500, 100, true, "xa\nb\n\nc\n", "xabc", false),
    ];
    for (max_lines, max_bytes, skip_newline, file, text, truncated) in cases {
        let multiline = Multiline { skip_newline: *skip_newline, ..lines(*max_lines) };
        let c = chain(ChainOptions {
            max_bytes: *max_bytes,
            parsers: vec![Parser::Multiline(multiline)],
            ..ChainOptions::default()
        });
        let (seen, _) = whole(&c, file.as_bytes(), 0, Flush::All);
        let got: Vec<_> = seen.iter().map(|s| (s.text.as_str(), s.truncated, s.len as usize)).collect();
        assert_eq!(got, [(*text, *truncated, file.len())], "{file:?} {max_lines} {max_bytes}");
    }
}

#[test]
fn a_group_stays_open_until_it_is_flushed() {
    let c = one_parser(Parser::Multiline(by_pattern("^x", true, Match::After)), Shape::Log);
    assert_eq!(c.group_timeout(), Some(Duration::from_secs(5)));
    let file = b"xa\nb\nxc\nd\ne";
    let (seen, parsed) = whole(&c, file, 100, Flush::No);
    assert_eq!((seen.len(), parsed.consumed, parsed.seen, parsed.open), (1, 5, 10, Open::Group));
    let (seen, parsed) = whole(&c, &file[5..], 105, Flush::Groups);
    assert_eq!((seen[0].text.as_str(), seen[0].offset), ("xc\nd", 105));
    assert_eq!((seen.len(), parsed.consumed, parsed.open), (1, 5, Open::Line));
    let (seen, parsed) = whole(&c, &file[5..], 105, Flush::All);
    assert_eq!((seen[0].text.as_str(), seen.len(), parsed.consumed, parsed.open), ("xc\nd\ne", 1, 6, Open::Nothing));
}

#[test]
fn a_group_of_line_feeds_is_not_copied() {
    let c = one_parser(Parser::Multiline(by_pattern("^x", true, Match::After)), Shape::Log);
    for (file, grows) in [(&b"xa\nb\n\nxc\n"[..], false), (b"xa\r\nb\r\nxc\r\n", true)] {
        let mut data = file.to_vec();
        c.parse(&mut data, &chunk(file.len(), 0, Flush::All), &mut Vec::new());
        assert_eq!(data.len() > file.len(), grows);
    }
}

// ---- containers

fn container(stream: Stream, shape: Shape) -> Chain {
    one_parser(Parser::Container(Container { stream, ..Container::default() }), shape)
}

#[test]
fn container_lines() {
    let cases: &[(&str, &str, i64, Stream)] = &[
        ("2017-09-12T22:32:21.212861448Z stdout F a  b ", "a  b ", 1_505_255_541_212, Stream::Stdout),
        ("1970-01-01T00:00:02+00:00 stderr F:x x\r", "x", 2_000, Stream::Stderr),
        (
            r#"{"log":"q\"\u00e9\t\n","stream":"stdout","time":"1970-01-01T00:00:01.5Z"}"#,
            "q\"é\t",
            1_500,
            Stream::Stdout,
        ),
        (r#"{"log":"a\r\n","stream":"stderr","time":"1970-01-01T00:00:00Z","x":1} "#, "a", 0, Stream::Stderr),
        (r#"{"log":"\ud800\n","stream":"stderr","time":"1970-01-01T00:00:00Z"}"#, "\u{fffd}", 0, Stream::Stderr),
    ];
    for (line, text, time_ms, stream) in cases {
        let (seen, parsed) = whole(&container(Stream::None, Shape::Log), format!("{line}\n").as_bytes(), 0, Flush::No);
        assert_eq!(parsed.malformed, Malformed::default(), "{line}");
        let expect = Seen {
            offset: 0,
            len: line.len() as u32 + 1,
            text: (*text).to_owned(),
            time_ms: *time_ms,
            stream: *stream,
            multiline: false,
            truncated: false,
            overlay: None,
        };
        assert_eq!(seen, [expect], "{line}");
    }
}

#[test]
fn container_extras() {
    let c = container(Stream::None, Shape::Log);
    let line = br#"{"log":"a\n","stream":"stdout","time":"1970-01-01T00:00:00Z","attrs":{"tag":"t"}}
1970-01-01T00:00:00Z other F b
1970-01-01T00:00:00Z stdout F 
"#;
    let (seen, _) = whole(&c, line, 0, Flush::No);
    assert_eq!(seen[0].overlay.as_ref().map(|o| json!(o.fields)), Some(json!({"docker":{"attrs":{"tag":"t"}}})));
    assert_eq!(seen[1].overlay.as_ref().map(|o| json!(o.fields)), Some(json!({"stream":"other"})));
    // What a container wrote as an empty line is an event: without a message, but in the log input of 7.
    let parser = || vec![Parser::Container(Container::default())];
    for (shape, modern) in [(Shape::Log, false), (Shape::Log, true), (Shape::Filestream, false)] {
        let chain = chain(ChainOptions { parsers: parser(), shape, modern, ..ChainOptions::default() });
        let (seen, _) = whole(&chain, line, 0, Flush::No);
        let is_without = seen[2].overlay.as_ref().is_some_and(|o| o.no_message);
        assert_eq!((seen[2].text.as_str(), is_without), ("", modern || shape == Shape::Filestream));
    }
}

#[test]
fn container_parts_are_joined() {
    let t = "1970-01-01T00:00:00Z";
    let cri = |s: &str| s.split('|').map(|l| format!("{t} {l}\n")).collect::<String>();
    let cases: &[(&str, &[&str])] = &[
        ("stdout P a|stdout P b|stdout F c|stdout F d", &["abc", "d"]),
        ("stdout P a|stderr F x|stdout F b|stderr F y", &["ab", "x", "y"]),
        ("stdout P a|stderr P x|stdout F b|stderr F y|stdout F c", &["ab", "xy", "c"]),
        ("stdout P a|bad|stdout F b", &["ab"]),
        ("stdout P a", &["a"]),
    ];
    for (file, expect) in cases {
        assert_eq!(texts(&container(Stream::None, Shape::Log), cri(file).as_bytes()), *expect, "{file}");
    }
    let only =
        texts(&container(Stream::Stdout, Shape::Log), cri("stdout P a|stderr P x|stdout F b|stderr F y").as_bytes());
    assert_eq!(only, ["ab"]);
    let docker = |log: &str, stream: &str| format!("{}\n", json!({"log": log, "stream": stream, "time": t}));
    let file = docker("a", "stdout") + &docker("x\n", "stderr") + &docker("b\n", "stdout") + "\n";
    let (seen, parsed) = whole(&container(Stream::None, Shape::Log), file.as_bytes(), 0, Flush::No);
    assert_eq!(seen.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["ab", "x"]);
    assert_eq!((parsed.consumed, parsed.lines, parsed.empty), (file.len() as u64, 4, 1));
    let (seen, parsed) =
        whole(&container(Stream::None, Shape::Log), docker("a", "stdout").as_bytes(), 0, Flush::Groups);
    assert_eq!((seen.len(), parsed.consumed, parsed.open), (0, 0, Open::Line));
}

#[test]
fn container_parts_stay_apart_where_they_are_to_and_tags_may_be_text() {
    let file =
        b"{\"log\":\"a\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:00Z\"}\n1970-01-01T00:00:00Z stderr P b c\n";
    for (join, tags, expect) in
        [(false, true, &["a", "b c"] as &[&str]), (false, false, &["a", "P b c"]), (true, false, &["a", "P b c"])]
    {
        let c = one_parser(Parser::Container(Container { join, tags, ..Container::default() }), Shape::Log);
        assert_eq!(texts(&c, file), expect, "{join} {tags}");
        let (_, parsed) = whole(&c, file, 0, Flush::No);
        assert_eq!(parsed.open == Open::Nothing, !join);
    }
}

/// As Filebeat 7.17.29, where such a line lies in what it has read already: elsewhere it drops it.
#[test]
fn a_containers_line_is_seen_whole_however_short_its_events_may_be() {
    let t = "1970-01-01T00:00:01.5Z";
    let docker = format!("{}\n", json!({"log": "\u{1}".repeat(16 << 10) + "\n", "stream": "stdout", "time": t}));
    for file in [docker, format!("{t} stdout F {}\n", "\u{1}".repeat(5_000))] {
        let mut c = container(Stream::None, Shape::Log).options().clone();
        c.max_bytes = 10;
        let (seen, parsed) = whole(&Chain::new(c), file.as_bytes(), 0, Flush::No);
        let got: Vec<_> = seen.iter().map(|s| (s.text.as_str(), s.truncated)).collect();
        assert_eq!((got, parsed.malformed.lines), (vec![("\u{1}".repeat(10).as_str(), true)], 0));
    }
}

#[test]
fn a_part_without_its_rest_does_not_hold_the_others_for_ever() {
    let file: String = std::iter::once("1970-01-01T00:00:00Z stdout P a\n".to_owned())
        .chain((0..300).map(|n| format!("1970-01-01T00:00:00Z stderr F {n}\n")))
        .collect();
    let (seen, parsed) = whole(&container(Stream::None, Shape::Log), file.as_bytes(), 0, Flush::No);
    assert_eq!((seen.len(), seen[0].text.as_str(), parsed.consumed), (301, "a", file.len() as u64));
}

#[test]
fn container_lines_that_are_none_are_counted() {
    let c = container(Stream::Stdout, Shape::Log);
    let file = b"1970-01-01T00:00:00Z stdout F a\nnonsense\n{\"log\":1}\n1970-01-01T00:00:00Z stdout F\n\n1970-01-01T00:00:00Z stderr F x\n";
    let (seen, parsed) = whole(&c, file, 1000, Flush::No);
    assert_eq!((seen.len(), parsed.lines, parsed.empty, parsed.filtered), (1, 6, 1, 1));
    assert_eq!((parsed.malformed.lines, parsed.malformed.bytes), (3, 9 + 10 + 30));
    assert_eq!(parsed.malformed.first, [1032..1041, 1041..1051, 1051..1081]);
}

// ---- JSON

fn log_json(options: Json) -> Chain {
    one_parser(Parser::Json(options), Shape::Log)
}

/// The fields that the one event of a line has beyond the plain ones, with `message` and the rest that matters.
fn event_of(c: &Chain, line: &str) -> Value {
    let (seen, _) = whole(c, format!("{line}\n").as_bytes(), 0, Flush::All);
    assert_eq!(seen.len(), 1, "{line}");
    let overlay = seen[0].overlay.clone().unwrap_or_default();
    let mut out = overlay.fields;
    if !overlay.no_message {
        out.insert("message".into(), seen[0].text.clone().into());
    }
    if !overlay.metadata.is_empty() {
        out.insert("@metadata".into(), overlay.metadata.into());
    }
    if seen[0].time_ms != READ_MS {
        out.insert("ms".into(), seen[0].time_ms.into());
    }
    out.into()
}

#[test]
fn json_of_the_log_input() {
    let json = Json::default;
    let root = || Json { keys_under_root: true, ..json() };
    let over = || Json { overwrite_keys: true, add_error_key: true, ..root() };
    let key = || Json { message_key: "m".into(), ..json() };
    let cases: &[(Json, &str, Value)] = &[
        (json(), r#"{"a":1,"b":{"c":[true,null,1.5]}}"#, json!({"json":{"a":1,"b":{"c":[true,null,1.5]}}})),
        (json(), r#"{"a":1.0,"b":-0.0,"c":1e3,"d":1.5}"#, json!({"json":{"a":1,"b":0,"c":1000,"d":1.5}})),
        (json(), r#"{"a":1} trailing"#, json!({"json":{"a":1}})),
        (json(), "plain", json!({"message":"plain","json":{}})),
        (json(), "[1]", json!({"message":"[1]","json":{}})),
        (json(), "{}", json!({"json":{}})),
        (json(), r#"{"n":18446744073709551615}"#, json!({"json":{"n":18446744073709551615.0}})),
        (key(), r#"{"m":"text\n","a":1}"#, json!({"json":{"m":"text","a":1}})),
        (root(), r#"{"message":"x","a":1}"#, json!({"message":"x","a":1})),
        (
            root(),
            r#"{"@timestamp":"1970-01-01T00:00:00Z","@metadata":{"x":1},"log":{"offset":1,"level":"e"}}"#,
            json!({"log":{"level":"e"}}),
        ),
        (root(), r#"{"log":{"flags":["x"],"offset":1}}"#, json!({"log":{"flags":["x"]}})),
        (
            root(),
            r#"{"log":"x","host":"h","input":{"type":"x","y":1},"agent":{"name":"n"}}"#,
            json!({"input":{"y":1},"agent":{"name":"n"}}),
        ),
        (
            over(),
            r#"{"@timestamp":"1970-01-01T00:00:02.000+0000","@metadata":{"x":1},"type":"t"}"#,
            json!({"ms":2000,"type":"t"}),
        ),
        (
            over(),
            r#"{"@timestamp":1,"type":"_t","a":1}"#,
            json!({"a":1,"error":{"type":"json","message":"type not overwritten (invalid value [_t])"}}),
        ),
        (
            over(),
            r#"{"@timestamp":"no","a":1}"#,
            json!({"a":1,"error":{"type":"json","message":"@timestamp not overwritten (parse error on no)"}}),
        ),
        (
            over(),
            "x",
            json!({"message":"x","error":{"type":"json","message":"Error decoding JSON: invalid character 'x' looking for beginning of value"}}),
        ),
        (over(), "null", json!({"message":"null","error":{"type":"json","message":"Error decoding JSON: <nil>"}})),
        (
            over(),
            "tru!",
            json!({"message":"tru!","error":{"type":"json","message":"Error decoding JSON: invalid character '!' in literal true (expecting 'e')"}}),
        ),
        (
            over(),
            r#"{"a":"#,
            json!({"message":"{\"a\":","error":{"type":"json","message":"Error decoding JSON: unexpected EOF"}}),
        ),
        (
            Json { add_error_key: true, ..key() },
            r#"{"a":1}"#,
            json!({"json":{"a":1,"m":"","error":{"type":"json","message":"Key 'm' not found"}}}),
        ),
        (
            Json { add_error_key: true, ..key() },
            r#"{"m":1}"#,
            json!({"json":{"m":"","error":{"type":"json","message":"Value of key 'm' is not a string"}}}),
        ),
        (
            Json { document_id: "a.id".into(), ..json() },
            r#"{"a":{"id":"7","b":1}}"#,
            json!({"json":{"a":{"b":1}},"@metadata":{"_id":"7"}}),
        ),
        (Json { document_id: "id".into(), ..json() }, r#"{"id":7}"#, json!({"json":{"id":7}})),
        (Json { expand_keys: true, ..root() }, r#"{"a.b":1,"a":{"c.d":2}}"#, json!({"a":{"b":1,"c":{"d":2}}})),
        (
            Json { expand_keys: true, ..over() },
            r#"{"a.b":1,"a":2}"#,
            json!({"error":{"type":"json","message":"cannot expand \"a.b\": found conflicting key: expected map but type is int64"}}),
        ),
        (root(), r#"{"a.b":1}"#, json!({"a.b":1})),
        (json(), "{\"a\":\"\u{fffd}\"}", json!({"json":{"a":"\u{fffd}"}})),
        (json(), r#"{"a":"\ud83d\ude00\udc00"}"#, json!({"json":{"a":"😀\u{fffd}"}})),
    ];
    for (options, line, expect) in cases {
        assert_eq!(event_of(&log_json(options.clone()), line), *expect, "{line} {options:?}");
    }
    let (seen, _) = whole(&log_json(Json::default()), b"{\"a\":\"\xff\"}\n", 0, Flush::All);
    assert_eq!(seen[0].overlay.as_ref().map(|o| o.fields["json"]["a"].clone()), Some("\u{fffd}".into()));
}

#[test]
fn json_of_5_6() {
    let json = Json { add_error_key: true, ..Json::default() };
    let root = Json { keys_under_root: true, ..json.clone() };
    let over = Json { overwrite_keys: true, ..root.clone() };
    let cases: &[(&Json, &str, Value)] = &[
        (&json, r#"{"a":1}"#, json!({"json":{"a":1}})),
        (&root, r#"{"a":1,"source":"x","offset":2,"beat":{},"type":"t"}"#, json!({"a":1})),
        (&over, r#"{"source":"x","beat":{},"@timestamp":"1970-01-01T00:00:02.000Z"}"#, json!({"source":"x","ms":2000})),
        (
            &over,
            r#"{"@timestamp":"1970-01-01T00:00:02Z"}"#,
            json!({"json_error":"@timestamp not overwritten (parse error on 1970-01-01T00:00:02Z)"}),
        ),
        (&over, r#"{"type":1}"#, json!({"json_error":"type not overwritten (not string)"})),
    ];
    for (options, line, expect) in cases {
        let c = one_parser(Parser::Json((*options).clone()), Shape::V5);
        assert_eq!(event_of(&c, line), *expect, "{line}");
    }
    let quiet = one_parser(Parser::Json(Json::default()), Shape::V5);
    assert_eq!(event_of(&quiet, "plain"), json!({"message":"plain"}));
}

#[test]
fn ndjson() {
    let json = Json::default;
    let target = || Json { target: "t".into(), ..json() };
    let cases: &[(Json, &str, Value)] = &[
        (json(), r#"{"a":1,"message":"x"}"#, json!({"a":1,"message":"x"})),
        (json(), "plain", json!({"message":"plain"})),
        (target(), r#"{"a":1}"#, json!({"t":{"a":1}})),
        (
            Json { message_key: "m".into(), ..target() },
            r#"{"a":1,"m":"x"}"#,
            json!({"message":"x","t":{"a":1,"m":"x"}}),
        ),
        (Json { message_key: "m".into(), ..json() }, r#"{"message":1,"m":"x"}"#, json!({"message":"x","m":"x"})),
        (
            Json { add_error_key: true, ..json() },
            "x",
            json!({"message":"x","error":{"type":"json","message":"Error decoding JSON: invalid character 'x' looking for beginning of value"}}),
        ),
        (Json { document_id: "id".into(), ..json() }, r#"{"id":"7","a":1}"#, json!({"a":1,"@metadata":{"_id":"7"}})),
        (
            Json { overwrite_keys: true, ..json() },
            r#"{"@timestamp":"1970-01-01T00:00:03Z","a":1}"#,
            json!({"a":1,"ms":3000}),
        ),
    ];
    for (options, line, expect) in cases {
        let c = one_parser(Parser::Json(options.clone()), Shape::Filestream);
        assert_eq!(event_of(&c, line), *expect, "{line} {options:?}");
    }
    let c = one_parser(Parser::Json(json()), Shape::Filestream);
    assert_eq!(event_of(&c, "{}"), json!({}));
    let c = one_parser(Parser::Json(Json { add_error_key: true, ..target() }), Shape::Filestream);
    let error = json!({"type":"json","message":"Error decoding JSON: EOF"});
    assert_eq!(event_of(&c, ""), json!({"message":"","t":{"error":error}}));
    assert!(texts(&one_parser(Parser::Json(json()), Shape::Filestream), b"\n\n").is_empty());
}

#[test]
fn multiline_over_json_joins_the_message_key() {
    let json = Json { message_key: "m".into(), keys_under_root: true, ..Json::default() };
    let c = chain(ChainOptions {
        parsers: vec![Parser::Json(json), Parser::Multiline(by_pattern("^ ", false, Match::After))],
        exclude_lines: vec![pattern("^drop")],
        ..ChainOptions::default()
    });
    let file = b"{\"m\":\"one\",\"n\":1}\n{\"m\":\" two\",\"n\":2}\n{\"m\":\"drop\",\"n\":3}\n";
    let (seen, parsed) = whole(&c, file, 0, Flush::All);
    assert_eq!((seen.len(), parsed.filtered, seen[0].multiline, seen[0].len), (1, 1, true, 37));
    assert_eq!(seen[0].overlay.as_ref().map(|o| json!(o.fields)), Some(json!({"m":"one\n two","n":2})));
}

#[test]
fn parsers_pass_in_their_order() {
    let t = "1970-01-01T00:00:00Z stdout F";
    let file = format!("{t} {{\"a\":\n{t}   1}}\n{t} {{\"a\":2}}\n");
    let c = chain(ChainOptions {
        parsers: vec![
            Parser::Container(Container::default()),
            Parser::Multiline(by_pattern("^ ", false, Match::After)),
            Parser::Json(Json::default()),
        ],
        shape: Shape::Filestream,
        ..ChainOptions::default()
    });
    let (seen, _) = whole(&c, file.as_bytes(), 0, Flush::All);
    let got: Vec<_> = seen.iter().map(|s| (json!(s.overlay.as_ref().unwrap().fields), s.stream, s.multiline)).collect();
    assert_eq!(
        got,
        [(json!({"a":1,"log":{"offset":36}}), Stream::Stdout, true), (json!({"a":2}), Stream::Stdout, false)]
    );
}

// ---- properties

pub(super) fn chains() -> impl Strategy<Value = ChainOptions> {
    let grouping = prop_oneof![
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(negate, after, flush)| Grouping::Pattern {
            pattern: pattern("^ |x$"),
            negate,
            matching: if after { Match::After } else { Match::Before },
            flush: flush.then(|| pattern("e")),
        }),
        (1u64..4).prop_map(Grouping::Count),
        any::<bool>().prop_map(|negate| Grouping::While { pattern: pattern("^ |x"), negate }),
    ];
    let multiline = (grouping, 0u64..4, any::<bool>()).prop_map(|(grouping, max_lines, skip_newline)| {
        Parser::Multiline(Multiline { max_lines, skip_newline, ..Multiline::new(grouping) })
    });
    let json = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(key, root, error)| {
        Parser::Json(Json {
            message_key: if key { "m".into() } else { String::new() },
            keys_under_root: root,
            overwrite_keys: root,
            add_error_key: error,
            ..Json::default()
        })
    });
    let container = (prop_oneof![Just(Stream::None), Just(Stream::Stdout)], any::<bool>())
        .prop_map(|(stream, join)| Parser::Container(Container { stream, join, ..Container::default() }));
    let parser = prop_oneof![3 => multiline, 1 => json, 2 => container];
    let shape = prop_oneof![Just(Shape::Log), Just(Shape::V5), Just(Shape::Filestream)];
    (prop::collection::vec(parser, 0..4), 1usize..40, any::<bool>(), any::<bool>(), shape).prop_map(
        |(parsers, max_bytes, feed, exclude, shape)| ChainOptions {
            max_bytes,
            encoding: Encoding::Plain,
            terminator: if feed { Terminator::LineFeed } else { Terminator::Auto },
            include_lines: Vec::new(),
            exclude_lines: if exclude { vec![pattern("b")] } else { Vec::new() },
            parsers,
            shape,
            modern: feed,
        },
    )
}

pub(super) fn files() -> impl Strategy<Value = String> {
    let time = "1970-01-01T00:00:01Z";
    let line = prop_oneof![
        "[ abcex\r]{0,12}".prop_map(String::from),
        ("std(out|err)", "[PF]", "[ abcex]{0,8}").prop_map(move |(s, p, t)| format!("{time} {s} {p} {t}")),
        ("std(out|err)", "[ abcex]{0,8}(\\\\n)?")
            .prop_map(move |(s, t)| format!(r#"{{"log":"{t}","stream":"{s}","time":"{time}"}}"#)),
        "[ abcex]{0,8}".prop_map(|t| format!(r#"{{"m":"{t}","n":1}}"#)),
        Just("\u{feff}a".to_owned()),
    ];
    (prop::collection::vec((line, any::<bool>()), 0..16), any::<bool>()).prop_map(|(lines, end)| {
        let mut file = String::new();
        for (line, cr) in lines {
            file.push_str(&line);
            file.push_str(if cr { "\r\n" } else { "\n" });
        }
        if !end {
            file.pop();
            file.pop();
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn any_chunking_gives_the_same_events_and_each_batch_replays(
        options in chains(),
        file in files(),
        cuts in prop::collection::vec(1usize..60, 1..8),
        budget in 1usize..200,
    ) {
        check::holds(&chain(options), file.as_bytes(), &cuts, budget).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_flushed_group_replays_and_counts_add_up(options in chains(), file in files(), cut in 0usize..200) {
        let (chain, file) = (chain(options), file.as_bytes());
        let bytes = &file[..cut.min(file.len())];
        for flush in [Flush::No, Flush::Groups, Flush::All] {
            let (seen, parsed) = whole(&chain, bytes, 0, flush);
            let taken = &bytes[..parsed.consumed as usize];
            let (again, replayed) = whole(&chain, taken, 0, Flush::All);
            prop_assert_eq!(&again, &seen);
            prop_assert_eq!((replayed.lines, replayed.empty, replayed.filtered, replayed.malformed),
                (parsed.lines, parsed.empty, parsed.filtered, parsed.malformed));
            let lines = taken.split(|b| *b == b'\n').count() - usize::from(taken.is_empty() || taken.ends_with(b"\n"));
            prop_assert_eq!(parsed.lines, lines as u64);
        }
    }
}

#[test]
fn an_empty_text_lies_within_what_is_consumed() {
    let parsers = vec![
        Parser::Multiline(by_pattern("^ ", false, Match::After)),
        Parser::Json(Json { keys_under_root: true, ..Json::default() }),
    ];
    let c = chain(ChainOptions { parsers, shape: Shape::Filestream, ..ChainOptions::default() });
    let mut data = b"{\"a\":\n 1}\n{\"a\":2}\n".to_vec();
    let (len, mut events) = (data.len(), Vec::new());
    let parsed = c.parse(&mut data, &chunk(len, 0, Flush::No), &mut events);
    assert_eq!((parsed.consumed, events.len()), (10, 1), "the second group is open");
    assert!(u64::from(events[0].text.end) <= parsed.consumed);
}

// ---- syslog

/// `libbeat/reader/syslog/syslog_test.go`, 9.
#[test]
fn syslog_lines() {
    let with = |add_error_key| {
        let syslog = pillion_process::syslog::Syslog { format: Default::default(), zone: pillion_process::Zone::UTC };
        one_parser(Parser::Syslog(SyslogLines { syslog, log_errors: false, add_error_key }), Shape::Filestream)
    };
    let file = b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 1024 ID47 - this is the message\n\
        <13>Oct 11 22:14:15 test-host su[1024]: this is the message\nNot a valid message.\n<13>1 2003-10-11T22:14:15.003Z - - - - -\n";
    let (seen, _) = whole(&with(true), file, 0, Flush::No);
    let texts: Vec<_> = seen.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(texts, ["this is the message", "this is the message", "Not a valid message.", ""]);
    let times: Vec<_> = seen.iter().map(|s| s.time_ms).collect();
    // The second one's year is that of the read time: 1970.
    assert_eq!(times, [1_065_910_455_003, 24_531_255_000, READ_MS, 1_065_910_455_003]);
    let fields: Vec<_> = seen.iter().map(|s| Value::Object(s.overlay.clone().unwrap().fields)).collect();
    let notice = json!({"code": 5, "name": "Notice"});
    let user = json!({"code": 1, "name": "user-level"});
    assert_eq!(
        fields[1],
        json!({"log": {"syslog": {"priority": 13, "facility": user, "severity": notice,
        "hostname": "test-host", "appname": "su", "procid": "1024"}}})
    );
    assert_eq!(
        fields[2],
        json!({"error": {"message": "Error parsing syslog message: parsing error at position 5: unexpected EOF"}})
    );
    assert!(seen[3].overlay.as_ref().unwrap().no_message);
    let (seen, _) = whole(&with(false), b"Not a valid message.\n", 0, Flush::No);
    assert_eq!(seen[0].overlay, None);
}

proptest! {
    #[test]
    fn syslog_in_any_chunks(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(check::syslog(&input), Ok(()));
    }
}
