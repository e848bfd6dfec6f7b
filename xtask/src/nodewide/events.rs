//! What events say: by the example as it stands, with hints and templates, and beside the real Filebeat.
//!
//! Comes in: the stage. Goes out: what was compared.
//! Always holds: every line comes once, with the metadata that the API has of its pod.

use serde_json::{Value, json};

use super::shippers::Program;
use super::under_load::clean;
use super::writers::pod;
use super::{HOME, LIMIT, PORT, Stage};
use crate::kubernetes::node::Node;
use crate::kubernetes::{api, example, pods};
use crate::peer::compare;
use crate::{Outcome, wait};

/// Lines of each container.
const LINES: usize = 50;

/// The configuration for both programs: all pods by one input.
pub(super) const METADATA: &str = "filebeat.inputs:
- type: container
  paths: [/var/log/containers/*_NAMESPACE_*.log]
processors:
- add_kubernetes_metadata:
    host: ${NODE_NAME}
    matchers:
    - logs_path: {logs_path: /var/log/containers/}
";

/// The same by inputs that come and go.
pub(super) const AUTODISCOVER: &str = "filebeat.autodiscover.providers:
- type: kubernetes
  node: ${NODE_NAME}
  namespace: NAMESPACE
  templates:
  - condition.equals.kubernetes.labels.app: templated
    config:
    - type: container
      paths: ['/var/log/containers/*-${data.kubernetes.container.id}.log']
      fields: {by: '${data.kubernetes.labels.app}'}
      exclude_lines: ['left out']
  hints.enabled: true
  hints.default_config:
    type: container
    paths: ['/var/log/containers/*-${data.kubernetes.container.id}.log']
";

/// A script that writes numbered lines with a tag, some to standard error.
fn lines(tag: &str) -> String {
    format!("for i in $(seq {LINES}); do [ $((i % 5)) -ne 0 ] && echo \"{tag} $i\" || echo \"{tag} $i\" >&2; done")
}

/// The example as it stands: pods of two namespaces, two containers, a deployment, a Job, one that is started again.
pub(super) fn example(stage: &Stage<'_>) -> Outcome<String> {
    let spaces = ["nw-shop", "nw-bank"];
    for space in spaces {
        example::namespace(space, "privileged")?;
    }
    let mut objects = vec![pod(
        spaces[0],
        "web-0",
        &json!({"app": "web", "app.kubernetes.io/name": "web"}),
        &json!({}),
        &[("main", &lines("nw-example shop-main")), ("helper", &lines("nw-example shop-helper"))],
    )];
    let template = |app: &str, script: &str, policy: &str| {
        json!({"metadata": {"labels": {"app": app}}, "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "busybox:1", "command": ["sh", "-c", script]}]}})
    };
    let staying = format!("{}; exec sleep 100000", lines("nw-example bank-api"));
    objects.push(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api", "namespace": spaces[1]},
        "spec": {"selector": {"matchLabels": {"app": "api"}}, "template": template("api", &staying, "Always")}}),
    );
    // Ends at once and stays as an ended pod.
    objects.push(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once", "namespace": spaces[1]},
        "spec": {"template": template("once", &lines("nw-example bank-once"), "Never")}}));
    // Its second container has another id; the lines of the first are the odd ones.
    let twice = "if [ -e /keep/a ]; then a=2; else a=1; fi; : >/keep/a
        for i in $(seq $a 2 50); do echo \"nw-example shop-twice $i\"; done; [ $a = 2 ] && exec sleep 100000; exit 1";
    let mut restarted = pod(spaces[0], "twice", &json!({}), &json!({}), &[("main", twice)]);
    restarted["spec"]["volumes"] = json!([{"name": "keep", "emptyDir": {}}]);
    restarted["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "keep", "mountPath": "/keep"}]);
    objects.push(restarted);

    let warnings = stage.warnings()?;
    stage.ship(Program::Pillion, None, "example")?;
    stage.apply(&objects)?;
    let expected = 6 * LINES - LINES;
    let mut events = Vec::new();
    let come = wait::until("all lines", LIMIT, || {
        let all = super::arrived::Arrived::new(stage.rig.node.folder("arrived")).events("nw-example ")?;
        events = all.into_iter().filter(|e| text(e, "/message").starts_with("nw-example ")).collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        Ok((events.len() >= expected).then_some(()))
    });
    come.map_err(|why| format!("{why}: {} of {expected}; {}", events.len(), stage.said(spaces[0])))?;
    let mut messages: Vec<&str> = events.iter().map(|e| text(e, "/message")).collect();
    messages.sort_unstable();
    messages.dedup();
    if (messages.len(), events.len()) != (expected, expected) {
        return Err(format!("{} events, {} different ones of {expected}", events.len(), messages.len()));
    }
    let all: Vec<Value> = spaces.iter().map(|space| pods::all(space)).collect::<Outcome<Vec<_>>>()?.concat();
    events.iter().try_for_each(|event| described(event, &all))?;
    rights(stage)?;
    stage.end(Program::Pillion)?;
    spaces.iter().try_for_each(|space| clean(stage, space))?;
    Ok(format!("{expected} lines of {} pods with their metadata; what `restricted` says of it: {warnings}", all.len()))
}

fn text<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an event says of its pod what the API says.
fn described(event: &Value, all: &[Value]) -> Outcome {
    let named = |p: &&Value| p["metadata"]["name"] == event["kubernetes"]["pod"]["name"];
    let pod = all.iter().find(named).ok_or_else(|| format!("no such pod: {event}"))?;
    let kubernetes = &event["kubernetes"];
    let id = text(event, "/container/id");
    let name = text(event, "/kubernetes/container/name");
    let status = pods::status(pod, name).ok_or_else(|| format!("no such container: {event}"))?;
    let ids = [&status["containerID"], &status["lastState"]["terminated"]["containerID"]];
    let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let labels: Value = labels.into_iter().map(|(k, v)| (k.replace('.', "_"), v)).collect();
    let stream = text(event, "/message").rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).map(|n| n % 5);
    let twice = pod["metadata"]["name"] == "twice";
    let holds = [
        ("uid", kubernetes["pod"]["uid"] == pod["metadata"]["uid"]),
        ("ip", kubernetes["pod"]["ip"] == pod["status"]["podIP"]),
        ("namespace", kubernetes["namespace"] == pod["metadata"]["namespace"]),
        ("node", kubernetes["node"]["name"] == "node1" && kubernetes["node"]["labels"].is_object()),
        ("labels", kubernetes["labels"] == labels || labels.as_object().is_some_and(serde_json::Map::is_empty)),
        ("namespace_labels", kubernetes["namespace_labels"]["kubernetes_io/metadata_name"] == kubernetes["namespace"]),
        ("container.id", !id.is_empty() && ids.iter().any(|i| i.as_str().is_some_and(|i| i.ends_with(id)))),
        ("file", text(event, "/log/file/path").contains(id)),
        ("image", event["container"]["image"]["name"] == status["image"]),
        ("stream", twice || (event["stream"] == "stderr") == (stream == Some(0))),
        ("replicaset", (pod["metadata"]["labels"]["app"] == "api") == kubernetes["replicaset"]["name"].is_string()),
        ("job", (pod["metadata"]["labels"]["app"] == "once") == kubernetes["job"]["name"].is_string()),
    ];
    match holds.iter().find(|(_, good)| !good) {
        None => Ok(()),
        Some((what, _)) => Err(format!("{what} doesn't hold: {event}\n  pod: {pod}")),
    }
}

/// The rights are those that are said, and no more.
fn rights(stage: &Stage<'_>) -> Outcome {
    let who = format!("system:serviceaccount:{HOME}:pillion");
    let table = [
        (true, &["list", "pods", "-A"][..]),
        (true, &["watch", "pods", "-A"]),
        (true, &["get", "nodes"]),
        (true, &["watch", "namespaces"]),
        (false, &["create", "pods", "-A"]),
        (false, &["delete", "pods", "-A"]),
        (false, &["get", "pods", "--subresource=log", "-A"]),
        (false, &["get", "secrets", "-A"]),
        (false, &["list", "configmaps", "-A"]),
        (false, &["list", "replicasets.apps", "-A"]),
        (false, &["update", "nodes"]),
    ];
    for (may, words) in table {
        let mut kubectl = stage.rig.node.kubectl();
        let out = kubectl.args(["auth", "can-i", "--as", &who]).args(words).output().map_err(|e| e.to_string())?;
        if out.status.success() != may {
            return Err(format!("{words:?}: {}", String::from_utf8_lossy(&out.stdout)));
        }
    }
    Ok(())
}

/// Hints of all kinds, hostile ones too, and templates.
pub(super) fn hints(stage: &Stage<'_>) -> Outcome<String> {
    let (namespace, at) = ("nw-hints", 4);
    let (_endpoint, arrived) = stage.endpoint(namespace, at)?;
    stage.ship(Program::Pillion, Some(&target(AUTODISCOVER, namespace, at)), namespace)?;
    example::namespace(namespace, "privileged")?;
    stage.apply(&hinted(namespace))?;
    let mut hostile = hostile(namespace);
    stage.apply(&hostile)?;
    let n = hostile.len();
    let expected = EXPECTED + n * 3;
    let events = settled(stage, &arrived, namespace, expected)?;
    let of = |pod: &str| events.iter().filter(|e| text(e, "/kubernetes/pod/name") == pod).collect::<Vec<_>>();
    for (pod, n) in [("off", 0), ("multi", 2), ("json", 3), ("two", 3), ("templated", 3), ("plain", 3), ("tagged", 3)] {
        if of(pod).len() != n {
            return Err(format!("{pod}: {} events, not {n}: {:?}", of(pod).len(), of(pod)));
        }
    }
    let holds = [
        ("multiline", text(of("multi")[0], "/message") == "start 1\n  more\n  and more"),
        ("json", of("json")[1]["level"] == "info" && of("json")[1]["n"] == 2),
        ("one container", of("two").iter().all(|e| text(e, "/kubernetes/container/name") == "read")),
        ("template", of("templated").iter().all(|e| e["fields"]["by"] == "templated")),
        ("processors", of("tagged").iter().all(|e| e["tags"][0] == "hinted")),
        ("hostile", hostile.drain(..).all(|p| of(pods::name(&p)).len() == 3)),
        ("files", events.iter().all(|e| text(e, "/log/file/path").starts_with("/var/log/containers/"))),
        ("secrets", !events.iter().any(|e| e.to_string().contains(HOME))),
    ];
    if let Some((what, _)) = holds.iter().find(|(_, good)| !good) {
        return Err(format!("{what} doesn't hold: {events:#?}"));
    }
    let log = stage.log(Program::Pillion);
    if !log.contains("has no effect here") || !log.contains("its hints have no effect") {
        return Err(format!("that hints have no effect isn't said: {log}"));
    }
    stage.end(Program::Pillion)?;
    clean(stage, namespace)?;
    Ok(format!("{expected} events, {n} hostile pods"))
}

/// How many events the pods of [`hinted`] give.
const EXPECTED: usize = 2 + 3 + 3 + 3 + 3 + 3;

fn hinted(namespace: &str) -> Vec<Value> {
    let three = "for i in 1 2 3; do echo \"line $i\"; done";
    let one = |name: &str, labels: Value, annotations: Value, script: &str| {
        pod(namespace, name, &labels, &annotations, &[("main", script)])
    };
    vec![
        one("off", json!({}), json!({"co.elastic.logs/enabled": "false"}), three),
        one(
            "multi",
            json!({}),
            json!({"co.elastic.logs/multiline.pattern": "^start", "co.elastic.logs/multiline.negate": "true",
                "co.elastic.logs/multiline.match": "after", "co.elastic.logs/multiline.timeout": "2s"}),
            "echo 'start 1\n  more\n  and more\nstart 2\n  the end'",
        ),
        one(
            "json",
            json!({}),
            json!({"co.elastic.logs/json.keys_under_root": "true", "co.elastic.logs/json.add_error_key": "true"}),
            "for i in 1 2 3; do echo \"{\\\"level\\\": \\\"info\\\", \\\"n\\\": $i}\"; done",
        ),
        pod(
            namespace,
            "two",
            &json!({}),
            &json!({"co.elastic.logs.quiet/enabled": "false"}),
            &[("read", three), ("quiet", three)],
        ),
        one(
            "templated",
            json!({"app": "templated"}),
            json!({}),
            "for i in 1 2 3; do echo \"line $i\"; echo 'left out'; done",
        ),
        one("plain", json!({"app.kubernetes.io/name": "plain"}), json!({}), three),
        one("tagged", json!({}), json!({"co.elastic.logs/processors.1.add_tags.tags": "[\"hinted\"]"}), three),
    ]
}

/// Pods whose annotations try to reach what isn't theirs: their lines are read as any, and nothing else is.
fn hostile(namespace: &str) -> Vec<Value> {
    let config = "[{\"type\": \"log\", \"paths\": [\"/etc/passwd\", \"/var/log/containers/../../../etc/hostname\"]}]";
    let all = [
        json!({"co.elastic.logs/config": config}),
        json!({"co.elastic.logs/raw": config, "co.elastic.logs/paths": "/etc/passwd"}),
        json!({"co.elastic.logs/multiline.pattern": "(\\pL{100}){100}"}),
        json!({"co.elastic.logs/processors.1.add_kubernetes_metadata.namespace": "kube-system"}),
        json!({"co.elastic.logs/exclude_lines": "x".repeat(20_000)}),
    ];
    let three = "for i in 1 2 3; do echo \"line $i\"; done";
    let each = |(n, annotations): (usize, &Value)| {
        pod(namespace, &format!("hostile-{n}"), &json!({}), annotations, &[("main", three)])
    };
    all.iter().enumerate().map(each).collect()
}

/// The events of a namespace, once there are so many and no more for a while.
fn settled(stage: &Stage<'_>, arrived: &super::arrived::Arrived, namespace: &str, n: usize) -> Outcome<Vec<Value>> {
    let mut there = Vec::new();
    let come = wait::until("events to arrive", LIMIT, || {
        there = arrived.events(namespace)?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        Ok((there.len() >= n).then_some(()))
    });
    come.map_err(|why| format!("{why}: {} of {n}: {there:#?}; {}", there.len(), stage.said(namespace)))?;
    // What shouldn't come would come with the next look at the files.
    std::thread::sleep(std::time::Duration::from_secs(12));
    arrived.events(namespace)
}

/// A configuration with its namespace and target.
fn target(config: &str, namespace: &str, at: u16) -> String {
    format!("{}output.logstash.hosts: [\"{}:{}\"]\n", config.replace("NAMESPACE", namespace), Node::ADDRESS, PORT + at)
}

/// Fields that differ, and why that is meant.
const MEANT: &[(&str, &str)] = &[
    ("kubernetes.deployment.name", "told from the replica set's name: Filebeat has to be allowed to read replica sets"),
    ("tags", "a list in a hint is one here: Filebeat 7 takes `[\"a\"]` as one tag"),
];

/// Both programs with the same configuration on the same node at the same time.
pub(super) fn same_as_filebeat(stage: &Stage<'_>, case: &str, config: &str) -> Outcome<String> {
    let namespace = format!("nw-{case}");
    let at = if case == "same-metadata" { 5 } else { 7 };
    let (_theirs, filebeat) = stage.endpoint(&format!("{case}-filebeat"), at)?;
    let (_ours, pillion) = stage.endpoint(&format!("{case}-pillion"), at + 1)?;
    example::namespace(&namespace, "privileged")?;
    let version = "pillion.compat: 7\npillion.agent_version: 7.17.29\n";
    stage.ship(Program::Filebeat, Some(&target(config, &namespace, at)), &format!("{case}-filebeat"))?;
    let ours = format!("{version}{}", target(config, &namespace, at + 1));
    stage.ship(Program::Pillion, Some(&ours), &format!("{case}-pillion"))?;
    let mut objects = hinted(&namespace);
    let script = format!("{}; exec sleep 100000", lines("web"));
    objects.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web", "a.b/c": "d"}},
            "spec": {"terminationGracePeriodSeconds": 1,
                "containers": [{"name": "main", "image": "busybox:1", "command": ["sh", "-c", script]}]}}}}));
    stage.apply(&objects)?;
    // By hints some lines are left out or joined.
    let n = LINES + if case == "same-metadata" { 3 + 5 + 3 + 6 + 6 + 3 + 3 } else { EXPECTED };
    let theirs = settled(stage, &filebeat, &namespace, n)?.len();
    let ours = settled(stage, &pillion, &namespace, n)?.len();
    let read = |arrived: &super::arrived::Arrived| -> Outcome<Vec<compare::Flat>> {
        let text = arrived.ndjson(&namespace)?;
        let mut by_case = compare::by_case(text.as_bytes(), "/var/log", "2026")?;
        let mut events = by_case.remove("containers").unwrap_or_default();
        compare::by_place(&mut events);
        Ok(events)
    };
    let (a, b) = (read(&filebeat)?, read(&pillion)?);
    let found: Vec<_> = compare::differences(&a, &b)
        .into_iter()
        .filter(|d| !MEANT.iter().any(|(field, _)| *field == d.field))
        .collect();
    stage.end(Program::Filebeat)?;
    stage.end(Program::Pillion)?;
    if !found.is_empty() {
        let mut texts: Vec<&str> = found.iter().map(|d| d.text.as_str()).collect();
        texts.truncate(40);
        return Err(format!(
            "{} differences of {theirs} and {ours} events:\n    {}",
            found.len(),
            texts.join("\n    ")
        ));
    }
    clean(stage, &namespace)?;
    let fields: usize = a.iter().map(std::collections::BTreeMap::len).sum();
    let _ = api::get("/api/v1/nodes")?;
    let meant: Vec<String> = MEANT.iter().map(|(field, why)| format!("{field} ({why})")).collect();
    Ok(format!("{theirs} events, {fields} fields; may differ: {}", meant.join(", ")))
}

impl Stage<'_> {
    /// What the policy `restricted` has against the example.
    fn warnings(&self) -> Outcome<String> {
        self.rig.kubectl(&["label", "namespace", HOME, "pod-security.kubernetes.io/warn=restricted", "--overwrite"])?;
        let said = self.ship(Program::Pillion, None, "example")?;
        self.rig.kubectl(&["label", "namespace", HOME, "pod-security.kubernetes.io/warn-"])?;
        self.end(Program::Pillion)?;
        let line = said.lines().find(|l| l.contains("would violate")).unwrap_or_default();
        let allowed = ["hostPath", "restricted volume types", "runAsNonRoot", "runAsUser", "host namespaces"];
        let (_, what) = line.split_once("latest\": ").ok_or_else(|| format!("no warning: {said}"))?;
        let odd = ["capabilities", "seccompProfile", "allowPrivilegeEscalation", "privileged containers"];
        match odd.iter().find(|word| what.contains(**word)) {
            Some(word) => Err(format!("{word} isn't as restricted as it can be: {what}")),
            None => Ok(allowed.iter().filter(|a| what.contains(**a)).copied().collect::<Vec<_>>().join(", ")),
        }
    }
}
