//! The output against a scripted server: what it sends, and what it makes of each answer.

mod server;
mod setup;

use std::sync::Arc;
use std::time::Duration;

use pillion_config::Config;
use pillion_event::{Batch, Drop, DropKind, Fate, InputKind, Overlay};

use super::*;
use crate::render::tests::{batch, input};
use crate::testing::{Books, List, context, lines};
use crate::tls::tests::Authority;
use server::{Server, Step, TAKEN, items};

/// Settings from what stands below `output.elasticsearch`, and from lines of `setup.…`, with pauses of a millisecond.
fn settings(compat: &str, text: &str) -> Settings {
    let mut yaml = format!("pillion.compat: {compat}\noutput.elasticsearch:\n");
    if !text.contains("backoff") {
        yaml.push_str("  backoff: {init: 1ms, max: 2ms}\n");
    }
    let at_top = |l: &&str| l.starts_with("setup.") || l.starts_with("pillion.");
    let (setup, output): (Vec<&str>, Vec<&str>) = text.lines().map(str::trim).partition(at_top);
    output.iter().for_each(|line| yaml.push_str(&format!("  {line}\n")));
    setup.iter().for_each(|line| yaml.push_str(&format!("{line}\n")));
    // What is set up has tests of its own, which say something of it.
    if setup.is_empty() && !text.contains("template") {
        yaml.push_str(if compat == "5.6" {
            "  template.enabled: false\n"
        } else {
            "setup: {template.enabled: false, ilm.enabled: false}\n"
        });
    }
    let config = Config::from_yaml(&yaml).unwrap();
    Settings::from_section(&config.root(), &config.root().section("output.elasticsearch").unwrap().unwrap()).unwrap()
}

struct Case {
    compat: &'static str,
    text: String,
    batch: Arc<Batch>,
    exactly_once: bool,
}

impl Case {
    fn new(server: &Server, batch: Arc<Batch>) -> Case {
        Case { compat: "8", text: format!("hosts: [\"{}\"]", server.at), batch, exactly_once: false }
    }

    fn set(mut self, line: &str) -> Case {
        self.text.push_str(&format!("\n{line}"));
        self
    }

    fn once(mut self) -> Case {
        self.exactly_once = true;
        self
    }

    /// Runs the output until everything is settled; a test that waits for longer than 20 s has failed.
    async fn run(self) -> Vec<Fate> {
        let books = Arc::new(Books::default());
        let mut context = context();
        context.exactly_once = self.exactly_once;
        let events = self.batch.events.len();
        let output = Elasticsearch::new(settings(self.compat, &self.text), context).unwrap();
        let run = output.run(List::of(self.batch), Arc::clone(&books) as Arc<dyn AckSink>);
        tokio::time::timeout(Duration::from_secs(20), run).await.expect("everything is settled").unwrap();
        let fates = books.all();
        assert_eq!(fates.len(), events, "every event is settled");
        fates
    }
}

fn rejected(status: u16, type_name: &str, field: Option<&str>) -> Drop {
    Drop { kind: DropKind::Rejected(status), type_name: type_name.into(), field: field.map(Into::into) }
}

fn replayed(n: usize) -> Arc<Batch> {
    let mut batch = Arc::into_inner(lines(n)).unwrap();
    batch.replayed = true;
    Arc::new(batch)
}

/// Events that bring their own id along.
fn with_own_id() -> Arc<Batch> {
    let mut batch = batch(input(InputKind::Log), 0, &[b"x"]);
    let mut overlay = Overlay::default();
    overlay.metadata.insert("_id".into(), "o\"wn".into());
    batch.events[0].overlay = Some(Box::new(overlay));
    Arc::new(batch)
}

const CONFLICT: (u16, &str) = (409, r#"{"type":"version_conflict_engine_exception","reason":"exists"}"#);
const MAPPING: (u16, &str) = (
    400,
    r#"{"type":"mapper_parsing_exception","reason":"failed to parse field [n] of type [long] in document with id 'secret'"}"#,
);
const BLOCKED: (u16, &str) = (403, r#"{"type":"cluster_block_exception","reason":"index [x] blocked"}"#);

/// Dialect, ids, batch, the answers for the one event until it is settled, its fate.
type Row = (&'static str, bool, Arc<Batch>, Vec<(u16, &'static str)>, Fate);

#[tokio::test]
async fn what_becomes_of_an_event_by_its_status() {
    let conflict = Fate::Dropped(rejected(409, "version_conflict_engine_exception", None));
    let taken = Fate::Dropped(Drop {
        kind: DropKind::IdTaken,
        type_name: "version_conflict_engine_exception".into(),
        field: None,
    });
    let mapping = Fate::Dropped(rejected(400, "mapper_parsing_exception", Some("n")));
    let own = with_own_id;
    let table: Vec<Row> = vec![
        ("8", false, lines(1), vec![(200, "")], Fate::Acked),
        ("8", false, lines(1), vec![MAPPING], mapping.clone()),
        ("5.6", false, lines(1), vec![MAPPING], mapping.clone()),
        ("8", false, lines(1), vec![(429, ""), (429, ""), (201, "")], Fate::Acked),
        ("8", false, lines(1), vec![(503, ""), (500, ""), (201, "")], Fate::Acked),
        ("8", false, lines(1), vec![BLOCKED, (201, "")], Fate::Acked),
        ("8", false, lines(1), vec![(403, "")], Fate::Dropped(rejected(403, "", None))),
        ("8", false, own(), vec![CONFLICT], Fate::Duplicate),
        ("5.6", false, own(), vec![CONFLICT], conflict.clone()),
        ("8", true, own(), vec![CONFLICT], Fate::Duplicate),
        ("8", true, lines(1), vec![CONFLICT], taken.clone()),
        ("5.6", true, lines(1), vec![CONFLICT], taken),
        ("8", true, replayed(1), vec![CONFLICT], Fate::Duplicate),
        ("5.6", true, replayed(1), vec![CONFLICT], Fate::Duplicate),
        ("8", true, lines(1), vec![(500, ""), CONFLICT], Fate::Duplicate),
        ("8", true, replayed(1), vec![MAPPING], mapping),
    ];
    for (row, (compat, exactly_once, batch, answers, fate)) in table.into_iter().enumerate() {
        let steps: Vec<Step> = answers.iter().map(|a| Step::reply(200, &items(&[*a]))).collect();
        let server = Server::start(steps).await;
        let case = Case { compat, exactly_once, ..Case::new(&server, batch) };
        assert_eq!(case.run().await, [fate], "row {row}");
        let seen = server.seen();
        assert_eq!(seen.len(), answers.len(), "row {row}");
        assert!(seen.iter().all(|s| s.lines == seen[0].lines), "row {row}: each sending is the same");
    }
}

/// Events of a fileset, which go through this pipeline.
fn of_a_module(n: usize) -> Arc<Batch> {
    let mut desc = input(InputKind::Log);
    desc.pipeline = Some("p".into());
    desc.root_fields.insert("fileset".into(), serde_json::json!({"name": "access"}));
    let texts = vec![&b"x"[..]; n];
    Arc::new(batch(desc, 0, &texts))
}

const NO_PIPELINE: (u16, &str) =
    (400, r#"{"type":"illegal_argument_exception","reason":"pipeline with id [p] does not exist"}"#);

#[tokio::test]
async fn events_wait_for_the_pipeline_of_their_module() {
    let absent = items(&[NO_PIPELINE, (201, "")]);
    let server = Server::start(vec![Step::reply(200, &absent), Step::reply(200, &items(&[NO_PIPELINE]))]).await;
    assert_eq!(Case::new(&server, of_a_module(2)).run().await, [Fate::Acked, Fate::Acked]);
    let seen = server.seen();
    assert_eq!(seen.iter().map(|s| s.lines.len()).collect::<Vec<_>>(), [4, 2, 2]);
    assert!(seen[0].lines[0].contains(r#""pipeline":"p""#), "{:?}", seen[0].lines);
    // Another one isn't there, or it is the user's own: as with Filebeat it is an error of the event.
    let other = (NO_PIPELINE.0, NO_PIPELINE.1.replace("[p]", "[q]"));
    let mut own = input(InputKind::Log);
    own.pipeline = Some("p".into());
    let own = Arc::new(batch(own, 0, &[b"x"]));
    for (batch, answer) in [(of_a_module(1), (other.0, other.1.as_str())), (own, NO_PIPELINE)] {
        let server = Server::start(vec![Step::reply(200, &items(&[answer]))]).await;
        let fates = Case::new(&server, batch).run().await;
        assert_eq!(fates, [Fate::Dropped(rejected(400, "illegal_argument_exception", None))]);
    }
}

#[tokio::test]
async fn test_output_looks_for_the_pipelines_of_modules() {
    let root = || Step::reply(200, r#"{"version":{"number":"8.19.3"}}"#);
    for (steps, good, want) in [
        (
            vec![root(), Step::reply(200, "{}"), Step::reply(200, "{}")],
            true,
            "pipeline a-1... OK\n  pipeline b... OK\n",
        ),
        (vec![root(), Step::reply(200, "{}"), Step::reply(404, "{}")], false, "setup --pipelines --modules NAME"),
        (vec![root(), Step::reply(403, "{}"), Step::reply(200, "{}")], true, "WARN 403 Forbidden: it can't be said"),
    ] {
        let server = Server::start(steps).await;
        let mut settings = settings("8", &format!("hosts: [\"{}\"]", server.at));
        settings.needed = vec!["a-1".into(), "b".into()];
        let mut report = String::new();
        assert_eq!(test_output(&settings, &pillion_world::World::real(), &mut report).await, good, "{report}");
        assert!(report.contains(want), "{want}: {report}");
        assert!(server.seen()[1].head.starts_with("GET /_ingest/pipeline/a-1?"), "{:?}", server.seen()[1].head);
    }
}

#[tokio::test]
async fn only_what_failed_is_sent_again() {
    let answer = items(&[(201, ""), (429, ""), MAPPING, (201, ""), (500, "")]);
    let server = Server::start(vec![Step::reply(200, &answer)]).await;
    let fates = Case::new(&server, lines(5)).run().await;
    assert!(matches!(fates[2], Fate::Dropped(_)));
    assert_eq!(fates.iter().filter(|f| **f == Fate::Acked).count(), 4);
    let seen = server.seen();
    let again = &seen[1].lines;
    assert_eq!(again.len(), 4);
    assert!(again[1].contains("line 1") && again[3].contains("line 4"), "{again:?}");
}

#[tokio::test]
async fn a_request_without_a_clear_answer_is_sent_again_and_its_409_believed() {
    let full = items(&[(201, ""), (201, "")]);
    for step in [
        Step::Reset,
        Step::CutOff(TAKEN.into()),
        Step::CutOff(full.clone()),
        Step::Silent,
        Step::reply(200, "<html>login</html>"),
        Step::reply(200, r#"{"errors":true,"items":[]}"#),
        Step::reply(502, "bad gateway"),
        Step::Packed("br", TAKEN.into()),
    ] {
        let name = format!("{step:?}");
        let server = Server::start(vec![step, Step::reply(200, &items(&[CONFLICT, (201, "")]))]).await;
        let fates = Case::new(&server, lines(2)).once().set("timeout: 300ms").run().await;
        assert_eq!(fates, [Fate::Duplicate, Fate::Acked], "{name}");
        let seen = server.seen();
        assert_eq!(seen.len(), 2, "{name}");
        assert_eq!(seen[0].lines, seen[1].lines, "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_a_proxy_has_compressed_is_read() {
    let answer = items(&[(201, ""), (400, r#"{"type":"x","reason":"failed to parse field [n] of"}"#)]);
    let server = Server::start(vec![Step::Packed("gzip", answer)]).await;
    let fates = Case::new(&server, lines(2)).run().await;
    assert_eq!((fates[0].clone(), server.seen().len()), (Fate::Acked, 1));
    assert!(matches!(&fates[1], Fate::Dropped(d) if *d == rejected(400, "x", Some("n"))), "{fates:?}");
    assert!(server.seen()[0].head.contains("accept-encoding: identity"));
}

#[tokio::test]
async fn a_refused_request_is_sent_again_for_as_long_as_it_takes() {
    let steps = [401, 403, 404, 429, 503, 400].map(|status| Step::reply(status, r#"{"error":{"type":"x"}}"#));
    let server = Server::start(steps.to_vec()).await;
    let fates = Case::new(&server, lines(1)).once().run().await;
    assert_eq!(fates, [Fate::Acked]);
    assert_eq!(server.seen().len(), 7);
}

#[tokio::test]
async fn events_that_the_target_has_too_many_of_are_counted() {
    let busy = Step::reply(200, &items(&[(201, ""), (429, ""), (503, "")]));
    let server = Server::start(vec![Step::reply(429, ""), Step::reply(503, ""), busy]).await;
    let case = Case::new(&server, lines(3));
    let (books, context) = (Arc::new(Books::default()), context());
    let stats = Arc::clone(&context.stats);
    let output = Elasticsearch::new(settings(case.compat, &case.text), context).unwrap();
    output.run(List::of(case.batch), Arc::clone(&books) as Arc<dyn AckSink>).await.unwrap();
    // Three with the first request, one of the third; a 503 is none.
    assert_eq!((books.acked(), stats.too_many.get()), (3, 4));
}

#[tokio::test]
async fn a_409_after_a_refusal_that_did_nothing_is_not_believed() {
    let server = Server::start(vec![Step::reply(429, ""), Step::reply(200, &items(&[CONFLICT]))]).await;
    let fates = Case::new(&server, lines(1)).once().run().await;
    assert!(matches!(&fates[0], Fate::Dropped(d) if d.kind == DropKind::IdTaken), "{fates:?}");
}

#[tokio::test]
async fn too_large_is_halved_down_to_the_one_event() {
    let mut texts: Vec<Vec<u8>> = (0..9).map(|i| format!("small {i}").into_bytes()).collect();
    texts[5] = vec![b'x'; 50_000];
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let big = Arc::new(batch(input(InputKind::Log), 0, &texts));
    let server = Server::start_limited(20_000).await;
    let fates = Case::new(&server, big).run().await;
    for (i, fate) in fates.iter().enumerate() {
        match fate {
            Fate::Dropped(d) => assert_eq!((i, d.kind), (5, DropKind::TooLarge)),
            other => assert_eq!((i != 5, other), (true, &Fate::Acked)),
        }
    }
}

#[tokio::test]
async fn a_body_never_grows_beyond_its_limit() {
    let text = vec![b'x'; 3 << 20];
    let big = Arc::new(batch(input(InputKind::Log), 0, &[&text, &text, &text]));
    let server = Server::start(vec![]).await;
    assert_eq!(Case::new(&server, big).run().await, vec![Fate::Acked; 3]);
    let sizes: Vec<usize> = server.seen().iter().map(|s| s.lines.len() / 2).collect();
    assert_eq!(sizes, [2, 1]);
}

#[tokio::test]
async fn what_is_sent_by_dialect() {
    for (compat, once, want) in [
        ("5.6", false, r#"{"index":{"_index":"filebeat-2026.11.23","_type":"doc"}}"#),
        ("5.6", true, r#"{"create":{"_index":"filebeat-2026.11.23","_type":"doc","_id":""#),
        ("7", false, r#"{"create":{"_index":"filebeat-8.19.3-2026.11.23"}}"#),
        ("8", false, r#"{"create":{"_index":"filebeat-8.19.3"}}"#),
        ("9", true, r#"{"create":{"_index":"filebeat-8.19.3","_id":""#),
    ] {
        let server = Server::start(vec![]).await;
        let mut batch = Arc::into_inner(lines(1)).unwrap();
        batch.events[0].time_ms = 1_795_426_496_000;
        let mut case = Case::new(&server, Arc::new(batch));
        (case.compat, case.exactly_once) = (compat, once);
        case.run().await;
        let seen = server.seen();
        assert!(seen[0].lines[0].starts_with(want), "{compat}: {}", seen[0].lines[0]);
        assert_eq!(seen[0].head.contains("content-encoding: gzip"), compat != "5.6", "{compat}");
    }
}

/// An event with this `@metadata`.
fn with_metadata(metadata: &serde_json::Value) -> Arc<Batch> {
    let mut batch = batch(input(InputKind::Log), 0, &[b"x"]);
    let metadata = metadata.as_object().unwrap().clone();
    batch.events[0].overlay = Some(Box::new(Overlay { metadata, ..Overlay::default() }));
    Arc::new(batch)
}

/// `createEventBulkMeta` of Filebeat 7.17.29.
#[tokio::test]
async fn an_event_says_itself_what_is_done_with_it() {
    for (compat, metadata, want, lines) in [
        ("8", serde_json::json!({"op_type": "index"}), r#"{"index":{"_index":"i"}}"#, 2),
        ("8", serde_json::json!({"op_type": "index", "_id": "1"}), r#"{"index":{"_index":"i","_id":"1"}}"#, 2),
        ("7", serde_json::json!({"op_type": "create"}), r#"{"create":{"_index":"i"}}"#, 2),
        ("8", serde_json::json!({"op_type": "delete", "_id": "1"}), r#"{"delete":{"_index":"i","_id":"1"}}"#, 1),
        ("8", serde_json::json!({"op_type": "update"}), r#"{"create":{"_index":"i"}}"#, 2),
        ("5.6", serde_json::json!({"op_type": "delete"}), r#"{"index":{"_index":"i","_type":"doc"}}"#, 2),
    ] {
        let server = Server::start(vec![]).await;
        let case = Case { compat, ..Case::new(&server, with_metadata(&metadata)) }.set("index: i");
        assert_eq!(case.run().await, [Fate::Acked]);
        let seen = server.seen().remove(0);
        assert_eq!((seen.lines[0].as_str(), seen.lines.len()), (want, lines), "{compat}");
    }
    let server = Server::start(vec![]).await;
    let fates = Case::new(&server, with_metadata(&serde_json::json!({"op_type": "delete"}))).run().await;
    let field = Some("@metadata._id".to_owned());
    assert_eq!(fates, [Fate::Dropped(Drop { kind: DropKind::Unencodable, type_name: "missing_field".into(), field })]);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_second_deletion_finds_nothing() {
    let delete = || with_metadata(&serde_json::json!({"op_type": "delete", "_id": "1"}));
    for (answers, want) in
        [(vec![(404, "")], Fate::Dropped(rejected(404, "", None))), (vec![(503, ""), (404, "")], Fate::Duplicate)]
    {
        let server = Server::start(answers.iter().map(|a| Step::reply(200, &items(&[*a]))).collect()).await;
        assert_eq!(Case::new(&server, delete()).run().await, [want]);
    }
}

#[tokio::test]
async fn url_headers_and_names() {
    let server = Server::start(vec![]).await;
    let case = Case::new(&server, with_own_id())
        .set("path: /es/")
        .set("parameters: {a: \"b c\"}")
        .set("headers: {X-Scope: \"7\"}")
        .set("api_key: \"id:key\"")
        .set("index: \"Logs-%{[fields.none]:X}\"")
        .set("pipeline: \"not for events with @metadata\"");
    case.run().await;
    let seen = server.seen().remove(0);
    assert!(seen.head.starts_with("POST /es/_bulk?a=b%20c&filter_path=errors,"), "{}", seen.head);
    for want in ["x-scope: 7", "authorization: ApiKey aWQ6a2V5", "content-type: application/json", "host: 127.0.0.1:"] {
        assert!(seen.head.contains(want), "{want}: {}", seen.head);
    }
    assert_eq!(seen.lines[0], r#"{"create":{"_index":"logs-x","_id":"o\"wn"}}"#);
}

#[tokio::test]
async fn the_server_corrects_the_dialect() {
    let unknown = r#"{"error":{"type":"illegal_argument_exception","reason":"Action/metadata line [1] contains an unknown parameter [_type]"},"status":400}"#;
    let missing = r#"{"error":{"type":"action_request_validation_exception","reason":"Validation Failed: 1: type is missing;"},"status":400}"#;
    for (compat, answer, then_with_type) in [("5.6", unknown, false), ("8", missing, true)] {
        let server = Server::start(vec![Step::reply(400, answer)]).await;
        let case = Case { compat, ..Case::new(&server, lines(1)) };
        assert_eq!(case.run().await, [Fate::Acked]);
        let seen = server.seen();
        assert_eq!(seen[0].lines[0].contains("_type"), !then_with_type);
        assert_eq!(seen[1].lines[0].contains("_type"), then_with_type);
        assert_eq!(seen[0].lines[1], seen[1].lines[1]);
    }
}

#[tokio::test]
async fn events_that_lack_a_field_of_the_index_are_dropped_and_the_rest_goes() {
    let server = Server::start(vec![]).await;
    let fates = Case::new(&server, lines(2)).set("index: \"x-%{[fields.none]}\"").run().await;
    assert!(fates.iter().all(|f| matches!(f, Fate::Dropped(d) if d.kind == DropKind::Unencodable)), "{fates:?}");
    assert!(server.seen().is_empty(), "nothing is left to send");
}

#[tokio::test]
async fn refused_events_go_to_the_dead_letter_index() {
    let reason = rejected(400, "mapper_parsing_exception", Some("n"));
    for (second, fate) in [
        (items(&[(201, "")]), Fate::DeadLettered(reason.clone())),
        (TAKEN.to_string(), Fate::DeadLettered(reason.clone())),
        (items(&[MAPPING]), Fate::Dropped(reason.clone())),
    ] {
        let server =
            Server::start(vec![Step::reply(200, &items(&[(201, ""), MAPPING])), Step::reply(200, &second)]).await;
        let case = Case::new(&server, lines(2)).set("non_indexable_policy.dead_letter_index.index: dead");
        assert_eq!(case.run().await, [Fate::Acked, fate]);
        let seen = server.seen();
        assert_eq!(seen[1].lines[0], r#"{"create":{"_index":"dead"}}"#);
        let dead: serde_json::Value = serde_json::from_str(&seen[1].lines[1]).unwrap();
        assert_eq!(dead["message"].as_str().unwrap(), seen[0].lines[3]);
        assert_eq!(dead["error.type"], 400);
        // The target's error as JSON, as in Filebeat.
        let said: serde_json::Value = serde_json::from_str(dead["error.message"].as_str().unwrap()).unwrap();
        assert_eq!(said["type"], "mapper_parsing_exception");
        assert!(said["reason"].as_str().unwrap().contains("failed to parse field [n]"), "{said}");
    }
}

#[tokio::test]
async fn refused_events_go_to_the_dead_letter_file_up_to_its_size() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead.ndjson");
    let server = Server::start(vec![Step::reply(200, &items(&[MAPPING, MAPPING, MAPPING]))]).await;
    let case = Case::new(&server, lines(3))
        .set(&format!("non_indexable_policy.dead_letter_file: {{path: \"{}\", max_size: 900}}", path.display()));
    let fates = case.run().await;
    #[expect(clippy::disallowed_methods, reason = "a test looks at what was written")]
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let written = fates.iter().filter(|f| matches!(f, Fate::DeadLettered(_))).count();
    assert!(written > 0 && written < 3 && text.len() <= 900, "{fates:?}");
    assert_eq!(text.lines().count(), written);
    for line in text.lines() {
        let dead: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(dead["event"]["message"].as_str().unwrap().starts_with("line "));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_dead_host_holds_nothing_up() {
    for balance in ["true", "false"] {
        let good = Server::start(vec![]).await;
        let dead = Server::start(vec![]).await.stop();
        let mut case = Case::new(&good, lines(100));
        case.text = format!("hosts: [\"{dead}\", \"{}\"]\nloadbalance: {balance}\nbulk_max_size: 10", good.at);
        assert_eq!(case.run().await, vec![Fate::Acked; 100], "{balance}");
    }
}

#[tokio::test]
async fn a_connection_closed_at_rest_is_opened_again_without_a_pause() {
    let server = Server::start(vec![Step::ReplyAndClose(TAKEN.into())]).await;
    // A pause would last longer than the test may.
    let case = Case::new(&server, lines(2)).set("bulk_max_size: 1").set("backoff: {init: 60s, max: 60s}");
    assert_eq!(case.run().await, [Fate::Acked, Fate::Acked]);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start(vec![]).await;
    assert_eq!(Case::new(&server, lines(50)).set("bulk_max_size: 5").run().await, vec![Fate::Acked; 50]);
    assert_eq!((server.seen().len(), server.connections()), (10, 1));
}

#[tokio::test]
async fn test_output_says_each_step() {
    let server =
        Server::start(vec![Step::reply(200, r#"{"version":{"number":"8.19.3"}}"#), Step::reply(401, "")]).await;
    let settings = settings("8", &format!("hosts: [\"{}\"]", server.at));
    let mut report = String::new();
    assert!(test_output(&settings, &pillion_world::World::real(), &mut report).await, "{report}");
    for want in [
        "dns lookup... OK",
        "addresses: 127.0.0.1",
        "dial up... OK",
        "WARN secure connection disabled",
        "version: 8.19.3",
    ] {
        assert!(report.contains(want), "{want}: {report}");
    }
    report.clear();
    assert!(!test_output(&settings, &pillion_world::World::real(), &mut report).await, "{report}");
    assert!(report.contains("ERROR the credentials aren't accepted (401)"), "{report}");
}

#[tokio::test]
async fn mutual_tls_carries_everything() {
    let ours = Authority::new();
    let server = Server::start_tls(ours.issue(&["localhost"], |_| {}).server(Some(&ours)), vec![Step::Reset]).await;
    let client = ours.issue(&["pillion"], |_| {});
    let mut case = Case::new(&server, lines(20));
    case.text = format!(
        "hosts: [\"https://{}\"]\nbulk_max_size: 5\nssl.certificate_authorities: [{:?}]\nssl.certificate: {:?}\nssl.key: {:?}",
        server.at.replace("127.0.0.1", "localhost"),
        ours.pem(),
        client.pem(),
        client.key_pem(),
    );
    assert_eq!(case.run().await, vec![Fate::Acked; 20]);
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn test_output_explains_tls() {
    let ours = Authority::new();
    let server = ours.issue(&["localhost"], |_| {});
    let trusting = format!("ssl.certificate_authorities: [{:?}]", ours.pem());
    for (clients, extra, want) in [
        (None, "", "isn't trusted"),
        (Some(&ours), trusting.as_str(), "Set ssl.certificate and ssl.key"),
        (None, "ssl.verification_mode: none", "WARN the server's certificate isn't checked"),
    ] {
        let host = crate::tls::tests::serve(server.server(clients)).await;
        let extra = if extra.is_empty() {
            format!("ssl.certificate_authorities: [{:?}]", Authority::new().pem())
        } else {
            extra.into()
        };
        let settings = settings("8", &format!("hosts: [\"https://{host}\"]\n{extra}"));
        let mut report = String::new();
        // The server only says hello, which isn't HTTP.
        assert!(!test_output(&settings, &pillion_world::World::real(), &mut report).await, "{report}");
        assert!(report.contains(want), "{want}: {report}");
    }
}

#[test]
fn a_preset_wins_over_what_stands_beside_it() {
    for (compat, text, workers, size, idle_seconds, warnings) in [
        ("7", "hosts: [x]", 1, 50, 60, 0),
        ("8", "hosts: [x]", 1, 1600, 3, 0),
        ("8", "hosts: [x]\npreset: custom\nworker: 2\nbulk_max_size: 7", 2, 7, 3, 0),
        ("8", "hosts: [x]\nworkers: 3", 3, 1600, 3, 0),
        ("8", "hosts: [x]\npreset: balanced\nworkers: 3", 1, 1600, 3, 0),
        ("8", "hosts: [x]\npreset: throughput\nworker: 2\ncompression_level: 9", 4, 1600, 15, 2),
        ("9", "hosts: [x]\npreset: scale\nbackoff.init: 1ms", 1, 1600, 1, 1),
        ("9", "hosts: [x]\npreset: latency\nbulk_max_size: 7\nidle_connection_timeout: 9s", 1, 50, 60, 2),
    ] {
        let mut yaml = format!("pillion.compat: {compat}\noutput.elasticsearch:\n");
        text.lines().for_each(|l| yaml.push_str(&format!("  {l}\n")));
        let config = Config::from_yaml(&yaml).unwrap();
        let section = config.root().section("output.elasticsearch").unwrap().unwrap();
        let s = Settings::from_section(&config.root(), &section).unwrap();
        let idle = Duration::from_secs(idle_seconds);
        assert_eq!((s.workers, s.bulk_max_size, s.idle_timeout), (workers, size, idle), "{text}");
        assert!(s.compression.is_some(), "{text}");
        assert_eq!(config.warnings().len(), warnings, "{text}");
    }
}

#[test]
fn settings_that_are_refused() {
    for (text, why) in [
        ("hosts: []", "no host"),
        ("hosts: [\"ftp://x\"]", "scheme"),
        ("hosts: [x]\napi_key: a:b\nusername: u", "both"),
        ("hosts: [x]\nindex: \"%{[a\"", "%{[a"),
        ("hosts: [x]\nworker: 0", "worker"),
        ("hosts: [x]\nheaders: {\"a b\": c}", "header"),
        ("hosts: [x]\nproxy_url: \"ftp://x\"", "proxy"),
        ("hosts: [x]\nnon_indexable_policy.dead_letter_index: {}", "dead-letter"),
        ("hosts: [x]\nssl.supported_protocols: [TLSv1.0]", "TLSv1.0"),
        ("hosts: [x]\nssl.cipher_suites: [ECDHE-RSA-AES-128-CBC-SHA]", "CBC"),
        ("hosts: [x]\nssl.certificate: /x", "ssl.key"),
        ("hosts: [x]\nssl.ca_sha256: [abc]", "SHA-256"),
    ] {
        let mut yaml = "output.elasticsearch:\n".to_string();
        text.lines().for_each(|l| yaml.push_str(&format!("  {l}\n")));
        let config = Config::from_yaml(&yaml).unwrap();
        let error =
            Settings::from_section(&config.root(), &config.root().section("output.elasticsearch").unwrap().unwrap())
                .err();
        let error = error.unwrap_or_else(|| panic!("{text} is accepted")).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}
