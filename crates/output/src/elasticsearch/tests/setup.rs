//! What is set up before the first event: in which form, where events go then, and what becomes of them when it fails.

use serde_json::{Value, json};

use super::*;

/// A line that says nothing: everything is as it is by default.
const DEFAULT: &str = "pillion.setup.on_failure: ship";
const NO_ILM: &str = "setup.ilm.enabled: false";
const NO_TEMPLATE: &str = "setup.template.enabled: false";
const INDEX_TEMPLATE: &str = "/_index_template/filebeat-8.19.3";
const POLICY: &str = "/_ilm/policy/filebeat";

fn root(number: &str, distribution: &str) -> Step {
    let other = if distribution.is_empty() { String::new() } else { format!(r#","distribution":"{distribution}""#) };
    Step::reply(200, &format!(r#"{{"version":{{"number":"{number}"{other}}}}}"#))
}

fn ok() -> Step {
    Step::reply(200, r#"{"acknowledged":true}"#)
}

fn missing() -> Step {
    // The answer to HEAD has no body.
    Step::reply(404, "")
}

fn no_policy() -> Step {
    Step::reply(404, r#"{"error":{"type":"resource_not_found_exception","reason":"Lifecycle policy not found"}}"#)
}

fn refused() -> Step {
    Step::reply(403, r#"{"error":{"type":"security_exception"}}"#)
}

fn no_handler() -> Step {
    Step::reply(400, r#"{"error":"no handler found for uri [/_ilm/policy/filebeat] and method [GET]"}"#)
}

/// What a server saw of one line.
struct Ran {
    /// Each as `METHOD URL`.
    asked: Vec<String>,
    /// The bodies of what was put.
    put: Vec<Value>,
    /// Where the line went.
    index: String,
}

async fn run(steps: Vec<Step>, compat: &'static str, text: &str) -> Ran {
    let server = Server::start(steps).await;
    let mut batch = Arc::into_inner(lines(1)).unwrap();
    batch.events[0].time_ms = 1_795_426_496_000;
    let mut case = Case::new(&server, Arc::new(batch)).set(text);
    case.compat = compat;
    assert_eq!(case.run().await, [Fate::Acked]);
    let seen = server.seen();
    let asked = |s: &server::Seen| s.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_string();
    let puts = seen.iter().filter(|s| s.head.starts_with("PUT"));
    let action: Value = serde_json::from_str(&seen.last().unwrap().lines[0]).unwrap();
    let action = action.as_object().unwrap().values().next().unwrap();
    Ran {
        asked: seen.iter().map(|s| asked(s).split("?filter").next().unwrap().to_string()).collect(),
        put: puts.map(|s| serde_json::from_str(&s.lines.concat()).unwrap()).collect(),
        index: action["_index"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn nothing_is_asked_where_it_is_switched_off() {
    let off = format!("{NO_TEMPLATE}\n{NO_ILM}");
    for (compat, text) in
        [("8", off.as_str()), ("9", off.as_str()), ("7", off.as_str()), ("5.6", "template.enabled: false")]
    {
        assert_eq!(run(vec![], compat, text).await.asked, ["POST /_bulk"], "{compat}");
    }
}

#[tokio::test]
async fn each_server_gets_the_form_it_knows() {
    let daily = "filebeat-8.19.3-2026.11.23";
    let legacy = "/_template/filebeat-8.19.3";
    let composable = INDEX_TEMPLATE;
    for (compat, number, distribution, at, index) in [
        ("5.6", "5.6.16", "", "/_template/filebeat", "filebeat-2026.11.23"),
        ("5.6", "6.8.23", "", "/_template/filebeat", "filebeat-2026.11.23"),
        ("7", "7.7.1", "", legacy, daily),
        ("7", "7.8.0", "", legacy, daily),
        ("7", "7.10.2", "", composable, daily),
        ("8", "8.19.3", "", composable, "filebeat-8.19.3"),
        ("9", "9.2.0", "", composable, "filebeat-8.19.3"),
        ("8", "2.19.3", "opensearch", composable, "filebeat-8.19.3"),
        ("9", "3.3.0", "opensearch", composable, "filebeat-8.19.3"),
    ] {
        let asks_for_policy = compat != "5.6" && distribution.is_empty();
        let mut steps = vec![root(number, distribution), missing(), ok()];
        let mut want =
            vec!["GET /".into(), format!("HEAD {at}"), format!("PUT {at}?create=true"), "POST /_bulk".into()];
        if asks_for_policy {
            steps.insert(1, no_handler());
            want.insert(1, format!("GET {POLICY}"));
        }
        let ran = run(steps, compat, DEFAULT).await;
        assert_eq!((ran.asked, ran.index.as_str()), (want, index), "{compat} {number}");
        let t = &ran.put[0];
        let (pattern, mappings, settings) = match number.split('.').next().unwrap() {
            "5" => (&t["template"], &t["mappings"]["_default_"], &t["settings"]),
            "6" => (&t["index_patterns"][0], &t["mappings"]["_default_"], &t["settings"]),
            _ if at == legacy => (&t["index_patterns"][0], &t["mappings"], &t["settings"]),
            _ => (&t["index_patterns"][0], &t["template"]["mappings"], &t["template"]["settings"]),
        };
        let matches = pattern.as_str().unwrap();
        assert!(index.starts_with(matches.trim_end_matches('*')), "{number}: {matches} for {index}");
        assert_eq!(mappings["properties"]["message"]["type"], "text", "{number}");
        assert_eq!(mappings["properties"]["@timestamp"]["type"], "date", "{number}");
        assert_eq!(mappings["dynamic_templates"][0]["strings_as_keyword"]["mapping"]["type"], "keyword", "{number}");
        assert_eq!(settings["index"]["mapping"]["total_fields"]["limit"], 10_000, "{number}");
        assert!(settings["index"].get("lifecycle").is_none(), "{number}");
        assert_eq!(t.get("data_stream").is_some(), at == composable && compat != "7", "{number}");
        assert_eq!(t.get("priority").is_some(), at == composable, "{number}");
    }
}

#[tokio::test]
async fn a_policy_and_the_alias_of_7() {
    // 8: the policy's name in the template of the data stream.
    let ran = run(vec![root("8.19.3", ""), no_policy(), ok(), ok()], "8", DEFAULT).await;
    let put = format!("PUT {POLICY}");
    // A new policy means a new template: what is there may not know of it.
    assert_eq!(
        ran.asked[1..],
        [format!("GET {POLICY}"), put.clone(), format!("PUT {INDEX_TEMPLATE}"), "POST /_bulk".into()]
    );
    assert_eq!(ran.put[0]["policy"]["phases"]["hot"]["actions"]["rollover"]["max_primary_shard_size"], "50gb");
    assert_eq!(ran.put[1]["template"]["settings"]["index"]["lifecycle"], json!({"name": "filebeat"}));
    assert_eq!(ran.index, "filebeat-8.19.3");
    // 7: an alias, with its first index, whatever `index` says.
    let steps = vec![root("7.17.0", ""), ok(), missing(), ok(), missing(), missing(), ok()];
    let text = "index: mine\nsetup.template: {name: mine, pattern: \"mine-*\"}\nsetup.ilm.policy_name: keep";
    let ran = run(steps, "7", text).await;
    let want = [
        "GET /",
        "GET /_ilm/policy/keep",
        "HEAD /_index_template/filebeat-8.19.3",
        "PUT /_index_template/filebeat-8.19.3?create=true",
        "HEAD /_alias/filebeat-8.19.3",
        "HEAD /filebeat-8.19.3",
        "PUT /%3Cfilebeat-8.19.3-%7Bnow%2Fd%7D-000001%3E",
        "POST /_bulk",
    ];
    assert_eq!(ran.asked, want);
    assert_eq!(ran.put[0]["index_patterns"], json!(["filebeat-8.19.3-*"]));
    let lifecycle = json!({"name": "keep", "rollover_alias": "filebeat-8.19.3"});
    assert_eq!(ran.put[0]["template"]["settings"]["index"]["lifecycle"], lifecycle);
    assert_eq!(ran.put[1], json!({"aliases": {"filebeat-8.19.3": {"is_write_index": true}}}));
    assert_eq!(ran.index, "filebeat-8.19.3");
}

#[tokio::test]
async fn what_ilm_is_set_to() {
    let daily = "filebeat-8.19.3-2026.11.23";
    for (text, steps, asked, index) in [
        // Off.
        ("enabled: false", vec![root("7.17.0", ""), ok()], vec!["GET /"], daily),
        // The server hasn't got it: OpenSearch is not even asked.
        ("enabled: auto", vec![root("2.19.1", "opensearch"), ok()], vec!["GET /"], daily),
        (
            "enabled: auto",
            vec![root("7.10.2", ""), no_handler(), ok()],
            vec!["GET /", "GET /_ilm/policy/filebeat"],
            daily,
        ),
        // The user may not know: as if an alias had been made for him.
        (
            "enabled: auto",
            vec![root("7.17.0", ""), refused(), ok()],
            vec!["GET /", "GET /_ilm/policy/filebeat"],
            "filebeat-8.19.3",
        ),
        // The policy can't be put: then there is nothing that would roll over.
        (
            "enabled: auto",
            vec![root("7.17.0", ""), no_policy(), refused(), ok()],
            vec!["GET /", "GET /_ilm/policy/filebeat", "PUT /_ilm/policy/filebeat"],
            daily,
        ),
        // Always.
        (
            "{enabled: true, rollover_alias: Roll, overwrite: true}",
            vec![root("7.17.0", ""), ok(), ok(), missing(), ok()],
            vec!["GET /", "PUT /_ilm/policy/filebeat"],
            "roll",
        ),
        ("{enabled: true, rollover_alias: Roll}", vec![root("2.19.1", "opensearch"), ok()], vec!["GET /"], "roll"),
        ("{check_exists: false}", vec![root("7.17.0", ""), ok()], vec!["GET /"], "filebeat-8.19.3"),
    ] {
        let text = if text.starts_with('{') { format!("setup.ilm: {text}") } else { format!("setup.ilm.{text}") };
        let ran = run(steps, "7", &text).await;
        assert_eq!(ran.asked[..asked.len()], asked, "{text}");
        assert_eq!(ran.index, index, "{text}: {:?}", ran.asked);
    }
}

#[tokio::test]
async fn one_that_is_there_stays() {
    let taken = r#"{"error":{"type":"illegal_argument_exception","reason":"index template [x] already exists"}}"#;
    for (steps, text, last) in [
        (vec![root("8.1.0", ""), ok()], NO_ILM, format!("HEAD {INDEX_TEMPLATE}")),
        // Somebody else put it between the question and ours.
        (
            vec![root("8.1.0", ""), missing(), Step::reply(400, taken)],
            NO_ILM,
            format!("PUT {INDEX_TEMPLATE}?create=true"),
        ),
        (
            vec![root("8.1.0", ""), ok()],
            "setup.template.overwrite: true\nsetup.ilm.enabled: false",
            format!("PUT {INDEX_TEMPLATE}"),
        ),
    ] {
        let requests = steps.len();
        let ran = run(steps, "8", text).await;
        assert_eq!(ran.asked[requests - 1..], [last, "POST /_bulk".into()]);
    }
}

#[tokio::test]
async fn who_may_not_know_the_version_finds_it_out() {
    let steps = vec![
        refused(),
        Step::reply(405, ""),
        Step::reply(405, r#"{"error":"Incorrect HTTP method for uri [/_index_template/x] and method [PUT]"}"#),
        missing(),
        ok(),
    ];
    let ran = run(steps, "7", NO_ILM).await;
    assert_eq!(ran.asked[4..], ["PUT /_template/filebeat-8.19.3?create=true", "POST /_bulk"]);
}

#[tokio::test]
async fn who_may_put_nothing_ships_all_the_same() {
    for (compat, steps) in [
        ("8", vec![refused(), refused(), refused(), refused()]),
        ("7", vec![refused(), refused(), refused(), refused()]),
        ("5.6", vec![refused(), refused(), refused()]),
        // Something that isn't Elasticsearch, and takes _bulk.
        ("8", vec![missing(), missing(), missing(), missing()]),
    ] {
        let requests = steps.len();
        let ran = run(steps, compat, DEFAULT).await;
        assert_eq!(ran.asked.len(), requests + 1, "{:?}", ran.asked);
        assert_eq!(ran.asked.last().unwrap(), "POST /_bulk", "it is tried once, and not again");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_holds_the_first_event_for_a_bounded_time() {
    for steps in [vec![Step::Silent], vec![Step::reply(503, ""); 10_000]] {
        let server = Server::start(steps).await;
        let began = tokio::time::Instant::now();
        // The answer to a bulk request is awaited far longer.
        let case = Case::new(&server, lines(3)).set(DEFAULT).set("timeout: 60s");
        let books = Arc::new(Books::default());
        let output = Elasticsearch::new(settings(case.compat, &case.text), context()).unwrap();
        let run = output.run(List::of(case.batch), Arc::clone(&books) as Arc<dyn AckSink>);
        let first_bulk = async {
            while !server.seen().iter().any(|s| s.head.starts_with("POST /_bulk")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = run => ended.unwrap(),
            () = first_bulk => {}
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn who_wants_to_waits_until_it_is_there() {
    for balance in ["true", "false"] {
        let steps = vec![
            Step::Reset,
            Step::reply(503, ""),
            root("8.1.0", ""),
            missing(),
            refused(),
            root("8.1.0", ""),
            missing(),
            refused(),
            root("8.1.0", ""),
            missing(),
            ok(),
        ];
        let server = Server::start(steps).await;
        let dead = Server::start(vec![]).await.stop();
        let mut case = Case::new(&server, lines(60));
        case.text = format!(
            "hosts: [\"{dead}\", \"{}\"]\nloadbalance: {balance}\nworker: 2\nbulk_max_size: 10\n{NO_ILM}\npillion.setup.on_failure: wait",
            server.at
        );
        assert_eq!(case.run().await, vec![Fate::Acked; 60], "{balance}");
        let seen = server.seen();
        let first = seen.iter().position(|s| s.head.starts_with("POST")).unwrap();
        assert!(seen[..first].iter().any(|s| s.head.starts_with("PUT")) && first == 11, "{balance}: {first}");
        assert_eq!(seen[first..].len(), 6, "{balance}: the template is put once");
    }
}

#[tokio::test]
async fn what_the_user_sets() {
    let steps = || vec![root("8.1.0", ""), missing(), ok()];
    let text = "parameters: {a: b}\nindex: logs-%{[fields.none]:x}\nsetup.ilm.enabled: false\nsetup.template: {name: Logs, \
                pattern: \"logs-*\", priority: 7, settings: {index.number_of_shards: 3, _source.enabled: false}, \
                append_fields: [{name: order.id, type: long}]}";
    let ran = run(steps(), "8", text).await;
    assert_eq!(ran.asked[1..3], ["HEAD /_index_template/logs?a=b", "PUT /_index_template/logs?a=b&create=true"]);
    let t = &ran.put[0];
    assert_eq!((&t["index_patterns"], &t["priority"]), (&json!(["logs-*"]), &json!(7)));
    assert_eq!(t["template"]["settings"]["index"]["number_of_shards"], 3);
    assert_eq!(t["template"]["settings"]["index"]["refresh_interval"], "5s");
    assert_eq!(t["template"]["mappings"]["_source"]["enabled"], false);
    assert_eq!(t["template"]["mappings"]["properties"]["order"]["properties"]["id"]["type"], "long");
    let ran = run(steps(), "7", &text.replace("Logs", "l")).await;
    assert!(ran.put[0].get("data_stream").is_none() && ran.index == "logs-x", "an index of one's own in 7");
    for (kind, path) in [("legacy", "/_template/"), ("component", "/_component_template/")] {
        let ran = run(steps(), "8", &format!("setup.template.type: {kind}\n{NO_ILM}")).await;
        assert_eq!(ran.asked[1], format!("HEAD {path}filebeat-8.19.3"));
        assert!(ran.put[0].get("data_stream").is_none());
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    #[expect(clippy::disallowed_methods, reason = "a test makes the user's file")]
    std::fs::write(&path, r#"{"index_patterns":["mine-*"]}"#).unwrap();
    let text =
        format!("{NO_ILM}\nsetup.template: {{json: {{enabled: true, name: mine, path: \"{}\"}}}}", path.display());
    let ran = run(steps(), "8", &text).await;
    assert_eq!(ran.asked[1], "HEAD /_index_template/mine");
    assert_eq!(ran.put, [json!({"index_patterns": ["mine-*"]})]);
    let ran = run(steps(), "5.6", &format!("template: {{path: \"{}\"}}", path.display())).await;
    assert_eq!(ran.put, [json!({"index_patterns": ["mine-*"]})]);
    let text = format!("setup.ilm: {{policy_file: \"{}\", policy_name: p}}\n{NO_TEMPLATE}", path.display());
    let ran = run(vec![root("8.1.0", ""), no_policy(), ok()], "8", &text).await;
    assert_eq!((ran.asked[2].as_str(), &ran.put[0]), ("PUT /_ilm/policy/p", &json!({"index_patterns": ["mine-*"]})));
}

#[test]
fn what_is_refused_or_left_out() {
    const ASKED: &str = "setup.template.enabled: true";
    for (compat, output, setup, why) in [
        ("8", "index: x", ASKED, "setup.template.pattern"),
        ("8", "index: x", "setup.template: {enabled: true, name: x}", "setup.template.pattern"),
        ("8", "", "setup.template: {enabled: true, json.enabled: true}", "json.path"),
        ("8", "", "setup.template: {enabled: true, name: \"%{[a\"}", "%{[a"),
        ("8", "", "setup.ilm.enabled: perhaps", "true or false"),
        ("5.6", "index: \"%{[x]}\"\n  template.enabled: true", "", "variable"),
    ] {
        let yaml = format!("pillion.compat: {compat}\noutput.elasticsearch:\n  hosts: [x]\n  {output}\n{setup}\n");
        let config = Config::from_yaml(&yaml).unwrap();
        let section = config.root().section("output.elasticsearch").unwrap().unwrap();
        let error = Settings::from_section(&config.root(), &section).err();
        let error = error.unwrap_or_else(|| panic!("{yaml} is accepted")).to_string();
        assert!(error.contains(why), "{yaml}: {error}");
    }
    // Where nobody asked for a template, one that can't be made is a warning.
    let config = Config::from_yaml("output.elasticsearch: {hosts: [x], index: x}").unwrap();
    let section = config.root().section("output.elasticsearch").unwrap().unwrap();
    Settings::from_section(&config.root(), &section).unwrap();
    assert!(config.warnings()[0].to_string().contains("no index template is put"));
    for text in [
        "template: {name: \"%{[fields.x]}\"}",
        "template: {json: {enabled: true, path: /no/such}}",
        "ilm: {policy_file: /no/such}",
    ] {
        let settings = settings("8", &format!("hosts: [x]\nsetup.{text}"));
        assert!(Elasticsearch::new(settings, context()).is_err(), "{text}");
    }
}

#[tokio::test]
async fn by_hand() {
    let settings = |at: &str, text: &str| settings("8", &format!("hosts: [\"{at}\"]\n{text}"));
    let server = Server::start(vec![root("8.1.0", ""), ok(), ok()]).await;
    let mut report = String::new();
    let all = Overwrite { template: true };
    assert!(run_setup(&settings(&server.at, DEFAULT), &context(), all, &mut report).await, "{report}");
    assert!(
        report.contains("policy `filebeat` is there already") && report.contains("`filebeat-8.19.3` is put"),
        "{report}"
    );
    assert!(server.seen()[2].head.starts_with("PUT /_index_template/filebeat-8.19.3 "), "without create=true");

    let server = Server::start(vec![root("8.1.0", ""), refused(), refused()]).await;
    let mut report = String::new();
    assert!(!run_setup(&settings(&server.at, DEFAULT), &context(), all, &mut report).await, "{report}");
    assert!(report.contains("read_ilm") && report.contains("manage_index_templates"), "{report}");
    let mut report = String::new();
    let dead = Server::start(vec![]).await.stop();
    assert!(!run_setup(&settings(&dead, DEFAULT), &context(), all, &mut report).await, "{report}");
}
