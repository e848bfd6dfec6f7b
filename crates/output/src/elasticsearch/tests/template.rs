//! The index template: when it is put, in which form, and what becomes of the events meanwhile.

use serde_json::{Value, json};

use super::*;

const ASKED: &str = "setup.template.enabled: true";

fn root(number: &str, distribution: &str) -> Step {
    let other = if distribution.is_empty() { String::new() } else { format!(r#","distribution":"{distribution}""#) };
    Step::reply(200, &format!(r#"{{"version":{{"number":"{number}"{other}}}}}"#))
}

fn missing() -> Step {
    // The answer to HEAD has no body.
    Step::reply(404, "")
}

/// Runs the output on one line; what the server was asked, each as `METHOD URL`, and the templates it got.
async fn run(steps: Vec<Step>, compat: &'static str, text: &str) -> (Vec<String>, Vec<Value>) {
    let server = Server::start(steps).await;
    let mut case = Case::new(&server, lines(1)).set(text);
    case.compat = compat;
    assert_eq!(case.run().await, [Fate::Acked]);
    let seen = server.seen();
    let asked = |s: &server::Seen| s.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_string();
    let puts = seen.iter().filter(|s| s.head.starts_with("PUT"));
    let templates = puts.map(|s| serde_json::from_str(&s.lines.concat()).unwrap()).collect();
    (seen.iter().map(|s| asked(s).split("?filter").next().unwrap().to_string()).collect(), templates)
}

#[tokio::test]
async fn nothing_is_put_unless_it_is_asked_for() {
    for (compat, text) in [
        ("8", ""),
        ("8", "setup.template.enabled: false"),
        ("8", "setup.template.name: x\nsetup.template.pattern: x-*"),
        ("5.6", "template.enabled: false"),
        ("5.6", "template.overwrite: true"),
        ("5.6", ""),
    ] {
        let (asked, _) = run(vec![], compat, text).await;
        assert_eq!(asked, ["POST /_bulk"], "{compat} {text}");
    }
}

#[tokio::test]
async fn each_server_gets_the_form_it_knows() {
    let composable = "/_index_template/filebeat-8.19.3";
    let legacy = "/_template/filebeat-8.19.3";
    for (compat, number, distribution, at) in [
        ("5.6", "5.6.16", "", "/_template/filebeat"),
        ("5.6", "6.8.23", "", "/_template/filebeat"),
        ("7", "7.7.1", "", legacy),
        ("7", "7.8.0", "", legacy),
        ("7", "7.10.2", "", composable),
        ("8", "8.19.3", "", composable),
        ("9", "9.2.0", "", composable),
        ("8", "2.19.3", "opensearch", composable),
        ("9", "3.3.0", "opensearch", composable),
    ] {
        let text = if compat == "5.6" { "template.enabled: true" } else { ASKED };
        let steps = vec![root(number, distribution), missing(), Step::reply(200, r#"{"acknowledged":true}"#)];
        let (asked, templates) = run(steps, compat, text).await;
        let want = ["GET /".into(), format!("HEAD {at}"), format!("PUT {at}?create=true"), "POST /_bulk".into()];
        assert_eq!(asked, want, "{number}");
        let t = &templates[0];
        let (pattern, mappings) = match number.split('.').next().unwrap() {
            "5" => (&t["template"], &t["mappings"]["_default_"]),
            "6" => (&t["index_patterns"][0], &t["mappings"]["_default_"]),
            _ if at == legacy => (&t["index_patterns"][0], &t["mappings"]),
            _ => (&t["index_patterns"][0], &t["template"]["mappings"]),
        };
        assert_eq!(pattern, if compat == "5.6" { "filebeat-*" } else { "filebeat-8.19.3" }, "{number}");
        assert_eq!(mappings["properties"]["message"]["type"], "text", "{number}");
        assert_eq!(mappings["properties"]["@timestamp"]["type"], "date", "{number}");
        assert_eq!(mappings["dynamic_templates"][0]["strings_as_keyword"]["mapping"]["type"], "keyword", "{number}");
        assert_eq!(t.get("data_stream").is_some(), at == composable, "{number}");
        assert_eq!(t.get("priority").is_some(), at == composable, "{number}");
    }
}

#[tokio::test]
async fn one_that_is_there_stays() {
    let taken = r#"{"error":{"type":"illegal_argument_exception","reason":"index template [x] already exists"}}"#;
    let at = "/_index_template/filebeat-8.19.3";
    for (steps, text, last) in [
        (vec![root("8.1.0", ""), Step::reply(200, "")], ASKED, format!("HEAD {at}")),
        // Somebody else put it between the question and ours.
        (vec![root("8.1.0", ""), missing(), Step::reply(400, taken)], ASKED, format!("PUT {at}?create=true")),
        (
            vec![root("8.1.0", ""), Step::reply(200, "{}")],
            "setup.template: {enabled: true, overwrite: true}",
            format!("PUT {at}"),
        ),
    ] {
        let requests = steps.len();
        let (asked, _) = run(steps, "8", text).await;
        assert_eq!(asked[requests - 1..], [last, "POST /_bulk".into()]);
    }
}

#[tokio::test]
async fn who_may_not_know_the_version_finds_it_out() {
    let steps = vec![
        Step::reply(403, r#"{"error":{"type":"security_exception"}}"#),
        Step::reply(405, ""),
        Step::reply(405, r#"{"error":"Incorrect HTTP method for uri [/_index_template/x] and method [PUT]"}"#),
        missing(),
        Step::reply(200, "{}"),
    ];
    let (asked, _) = run(steps, "7", ASKED).await;
    assert_eq!(asked[4..], ["PUT /_template/filebeat-8.19.3?create=true", "POST /_bulk"]);
}

#[tokio::test]
async fn nothing_is_sent_nor_lost_until_it_is_there() {
    let refused = || Step::reply(403, r#"{"error":{"type":"security_exception"}}"#);
    for balance in ["true", "false"] {
        let steps = vec![
            Step::Reset,
            Step::reply(503, ""),
            missing(),
            refused(),
            root("8.1.0", ""),
            missing(),
            refused(),
            root("8.1.0", ""),
            missing(),
            Step::reply(200, "{}"),
        ];
        let server = Server::start(steps).await;
        let dead = Server::start(vec![]).await.stop();
        let mut case = Case::new(&server, lines(60)).set(ASKED);
        case.text = format!(
            "hosts: [\"{dead}\", \"{}\"]\nloadbalance: {balance}\nworker: 2\nbulk_max_size: 10\n{ASKED}",
            server.at
        );
        assert_eq!(case.run().await, vec![Fate::Acked; 60], "{balance}");
        let seen = server.seen();
        let first = seen.iter().position(|s| s.head.starts_with("POST")).unwrap();
        assert!(seen[..first].iter().any(|s| s.head.starts_with("PUT")) && first == 10, "{balance}: {first}");
        assert_eq!(seen[first..].len(), 6, "{balance}: the template is put once");
    }
}

#[tokio::test]
async fn what_the_user_sets() {
    let steps = || vec![root("8.1.0", ""), missing(), Step::reply(200, "{}")];
    let text = "parameters: {a: b}\nindex: logs-%{[fields.none]:x}\nsetup.template: {enabled: true, name: Logs, \
                pattern: \"logs-*\", priority: 7, settings: {index.number_of_shards: 3, _source.enabled: false}}";
    let (asked, templates) = run(steps(), "8", text).await;
    assert_eq!(asked[1..3], ["HEAD /_index_template/logs?a=b", "PUT /_index_template/logs?a=b&create=true"]);
    let t = &templates[0];
    assert_eq!((&t["index_patterns"], &t["priority"]), (&json!(["logs-*"]), &json!(7)));
    assert_eq!(t["template"]["settings"]["index"]["number_of_shards"], 3);
    assert_eq!(t["template"]["mappings"]["_source"]["enabled"], false);
    let (_, templates) = run(steps(), "7", &text.replace("Logs", "l")).await;
    assert!(templates[0].get("data_stream").is_none(), "an index of one's own in 7");
    let (_, templates) = run(steps(), "7", "setup.ilm.enabled: false\nsetup.template.enabled: true").await;
    assert!(templates[0].get("data_stream").is_none(), "an index for each day");
    assert_eq!(templates[0]["index_patterns"][0], "filebeat-8.19.3-*");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    #[expect(clippy::disallowed_methods, reason = "a test makes the user's file")]
    std::fs::write(&path, r#"{"index_patterns":["mine-*"]}"#).unwrap();
    let text =
        format!("setup.template: {{enabled: true, json: {{enabled: true, name: mine, path: \"{}\"}}}}", path.display());
    let (asked, templates) = run(steps(), "8", &text).await;
    assert_eq!(asked[1], "HEAD /_index_template/mine");
    assert_eq!(templates, [json!({"index_patterns": ["mine-*"]})]);
    let (_, templates) =
        run(steps(), "5.6", &format!("template: {{enabled: true, path: \"{}\"}}", path.display())).await;
    assert_eq!(templates, [json!({"index_patterns": ["mine-*"]})]);
}

#[test]
fn what_is_refused() {
    for (compat, output, setup, why) in [
        ("8", "index: x", ASKED, "setup.template.pattern"),
        ("8", "index: x", "setup.template: {enabled: true, name: x}", "setup.template.pattern"),
        ("8", "", "setup.template: {enabled: true, json.enabled: true}", "json.path"),
        ("8", "", "setup.template: {enabled: true, name: \"%{[a\"}", "%{[a"),
        ("5.6", "index: \"%{[x]}\"\n  template.enabled: true", "", "variable"),
    ] {
        let yaml = format!("pillion.compat: {compat}\noutput.elasticsearch:\n  hosts: [x]\n  {output}\n{setup}\n");
        let config = Config::from_yaml(&yaml).unwrap();
        let section = config.root().section("output.elasticsearch").unwrap().unwrap();
        let error = Settings::from_section(&config.root(), &section).err();
        let error = error.unwrap_or_else(|| panic!("{yaml} is accepted")).to_string();
        assert!(error.contains(why), "{yaml}: {error}");
    }
    for text in ["name: \"%{[fields.x]}\"", "json: {enabled: true, path: /no/such}"] {
        let settings = settings("8", &format!("hosts: [x]\nsetup.template: {{enabled: true, {text}}}"));
        assert!(Elasticsearch::new(settings, context()).is_err(), "{text}");
    }
}
