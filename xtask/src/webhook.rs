//! The webhook on a real cluster: the plain manifests as a user applies them, with the image and a target named.
//!
//! Comes in: perhaps which case. Goes out: a line for each case.
//! Always holds: certificates live a minute here, so that several renewals happen under load; what is injected runs, ships
//! and completes; what passed by is counted.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::args::Args;
use crate::kubernetes::node::Node;
use crate::kubernetes::{self, Rig, api, example, pods};
use crate::peer::Score;
use crate::{Outcome, promtool, root, wait};

const LIMIT: Duration = Duration::from_secs(120);
/// How long pods are made while certificates change: two renewals and more.
const RENEWING: Duration = Duration::from_secs(110);
const LINES: usize = 300;

/// `--case NAME`, `--keep`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let keep = args.switch("--keep");
    let mut score = Score::new(args.value("--case")?);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    kubernetes::ready()?;
    promtool::ready()?;
    let rig = Rig::up(keep)?;
    let stage = Stage { rig: &rig };
    stage.install()?;
    score.case("rights", || stage.rights());
    score.case("namespace", || stage.namespace());
    score.case("annotation", || stage.annotation());
    score.case("renewal", || stage.renewal());
    score.case("away", || stage.away());
    score.case("required", || stage.required());
    score.end()
}

struct Stage<'a> {
    rig: &'a Rig,
}

impl Stage<'_> {
    fn apply(&self, text: &str) -> Outcome {
        let path = self.rig.node.folder("apply.yml");
        fs::write(&path, text).map_err(|e| e.to_string())?;
        self.rig.kubectl(&["apply", "-f", &path.display().to_string()]).map(drop)
    }

    /// Applies the manifests with what a user changes in them, and certificates that live a minute.
    fn install(&self) -> Outcome {
        let read = |name: &str| {
            let path = root().join("deploy/webhook").join(name);
            fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
        };
        self.apply(&read("namespace.yml")?)?;
        let text = read("webhook.yml")?
            .replace("pillion:0.1.0", "localhost/pillion:0.1.0")
            .replace("--cert-lifetime=2160h", "--cert-lifetime=60s")
            .replace("--linger=5s", "--linger=1s")
            .replace(
                "- \"--set=image=",
                "- \"--set=output=logstash=logstash.logging:5044\"\n            - \"--set=pull_policy=Never\"\n            - \"--set=image=",
            );
        self.apply(&text)?;
        let rolled =
            self.rig.kubectl(&["-n", "pillion", "rollout", "status", "deployment/pillion-webhook", "--timeout=120s"]);
        rolled.map(drop).map_err(|why| format!("{why}; {}", self.said()))
    }

    /// What a person would look at.
    fn said(&self) -> String {
        let mut said = String::new();
        for words in [
            &["-n", "pillion", "get", "pods", "-o", "wide"][..],
            &["-n", "pillion", "logs", "-l", "app.kubernetes.io/name=pillion-webhook", "--tail=15", "--prefix"],
            &["-n", "pillion", "get", "events"],
        ] {
            let text = self.rig.kubectl(words).unwrap_or_else(|why| why);
            said.push_str(&format!("\n  $ kubectl {}\n{text}", words.join(" ")));
        }
        said
    }

    /// The rights are those that are said, and no more.
    fn rights(&self) -> Outcome<String> {
        const WHO: &str = "system:serviceaccount:pillion:pillion-webhook";
        let table = [
            (true, &["update", "secrets/pillion-webhook-tls", "-n", "pillion"][..]),
            (true, &["patch", "mutatingwebhookconfigurations/pillion-webhook"]),
            (true, &["watch", "pods", "-A"]),
            (false, &["create", "secrets", "-n", "pillion"]),
            (false, &["list", "secrets", "-n", "pillion"]),
            (false, &["get", "secrets/other", "-n", "pillion"]),
            (false, &["update", "secrets/pillion-webhook-tls", "-n", "default"]),
            (false, &["patch", "mutatingwebhookconfigurations/other"]),
            (false, &["create", "pods", "-n", "default"]),
            (false, &["get", "configmaps", "-n", "default"]),
        ];
        for (may, words) in table {
            let mut kubectl = self.rig.node.kubectl();
            let out = kubectl.args(["auth", "can-i", "--as", WHO]).args(words).output().map_err(|e| e.to_string())?;
            if out.status.success() != may {
                return Err(format!("{words:?}: {}", String::from_utf8_lossy(&out.stdout)));
            }
        }
        Ok(format!("{} rights", table.len()))
    }

    /// A namespace, perhaps opted in.
    fn place(&self, name: &str, labels: &[&str]) -> Outcome {
        example::namespace(name, "restricted")?;
        let mut words = vec!["label", "namespace", name];
        words.extend(labels);
        if labels.is_empty() { Ok(()) } else { self.rig.kubectl(&words).map(drop) }
    }

    fn job(&self, namespace: &str, name: &str, annotations: &Value) -> Outcome {
        api::create(namespace, &job(namespace, name, annotations)).map(drop)
    }

    /// Waits for a Job's end, and gives its pod.
    fn complete(&self, namespace: &str, name: &str) -> Outcome<Value> {
        let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}");
        let ended = wait::until("the Job's end", LIMIT, || {
            let job = api::get(&path)?;
            let done = job["status"]["succeeded"] == 1;
            let failed = job["status"]["failed"].as_u64().unwrap_or(0) > 0;
            if !done {
                std::thread::sleep(Duration::from_millis(200));
            }
            if failed { Err("the Job failed".to_owned()) } else { Ok(done.then_some(())) }
        });
        ended.map_err(|why| {
            let more = self.rig.kubectl(&["-n", namespace, "get", "pods,events", "-o", "wide"]).unwrap_or_default();
            let logs =
                self.rig.kubectl(&["-n", namespace, "logs", &format!("job/{name}"), "--all-containers", "--tail=10"]);
            format!("{why}: {more}\n{}\n{}", logs.unwrap_or_else(|e| e), self.said())
        })?;
        let all = pods::all(namespace)?;
        all.into_iter().find(|p| pods::name(p).starts_with(name)).ok_or_else(|| "the Job has no pod".into())
    }

    fn arrived(&self, namespace: &str, name: &str) -> Outcome {
        let n = self.rig.endpoint.lines(&format!("{namespace}/{name}"))?.len();
        if n == LINES { Ok(()) } else { Err(format!("{n} of {LINES} lines have arrived")) }
    }

    fn namespace(&self) -> Outcome<String> {
        self.place("hooked", &["pillion.dev/inject=enabled"])?;
        self.is_heard_of()?;
        self.job("hooked", "in", &json!({}))?;
        self.job("hooked", "out", &json!({"pillion.dev/inject": "false"}))?;
        let pod = self.complete("hooked", "in")?;
        if !is_injected(&pod) || pod["metadata"]["labels"]["pillion.dev/injected"] != "true" {
            return Err(format!("the pod has no sidecar: {pod}; {}", self.said()));
        }
        self.arrived("hooked", "in")?;
        let receipt = wait::until("the receipt", LIMIT, || {
            let pod = api::get(&format!("/api/v1/namespaces/hooked/pods/{}", pods::name(&pod)))?;
            Ok(Some(pods::message(&pod, "pillion")).filter(|m| !m.is_empty()))
        })?;
        if !receipt.starts_with("pillion: complete") {
            return Err(format!("the receipt: {receipt}"));
        }
        if is_injected(&self.complete("hooked", "out")?) {
            return Err("a pod that opted out was injected".into());
        }
        Ok(format!("{LINES} lines; {receipt}"))
    }

    fn annotation(&self) -> Outcome<String> {
        self.place("plain", &[])?;
        self.job("plain", "asks", &json!({"pillion.dev/inject": "true"}))?;
        self.job("plain", "silent", &json!({}))?;
        if !is_injected(&self.complete("plain", "asks")?) {
            return Err(format!("a pod that asked for it has no sidecar; {}", self.said()));
        }
        self.arrived("plain", "asks")?;
        if is_injected(&self.complete("plain", "silent")?) {
            return Err("a pod that didn't ask was injected".into());
        }
        let before = self.metric("pillion_webhook_admissions_total{result=\"skipped\"}")?;
        if before > 0 {
            return Err(format!("{before} pods were sent to the webhook that it had nothing to do with"));
        }
        // Nonsense is let through, with a warning.
        let pod = pod("plain", "odd", &json!({"pillion.dev/inject": "true", "pillion.dev/way": "sideways"}));
        let out = self.create_with_kubectl(&pod)?;
        if !(out.contains("created") && out.contains("Warning: pillion:") && out.contains("sideways")) {
            return Err(format!("no warning: {out}"));
        }
        Ok("asked for, not asked for, nonsense".into())
    }

    fn create_with_kubectl(&self, object: &Value) -> Outcome<String> {
        let mut kubectl = self.rig.node.kubectl();
        kubectl.args(["create", "--dry-run=server", "-f", "-"]).stdin(Stdio::piped());
        let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        std::io::Write::write_all(&mut stdin, object.to_string().as_bytes()).map_err(|e| e.to_string())?;
        drop(stdin);
        let out = child.wait_with_output().map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }

    /// Every pod that is made while certificates change gets its sidecar: no handshake fails.
    fn renewal(&self) -> Outcome<String> {
        let begin = Instant::now();
        let before = self.metric("pillion_webhook_certificate_changes_total")?;
        let (mut made, mut slowest) = (0, Duration::ZERO);
        let mut authorities = 0;
        while begin.elapsed() < RENEWING {
            let asked = Instant::now();
            if !is_injected(&self.try_pod("hooked", &format!("p{made}"))?) {
                return Err(format!("pod {made}, after {:?}, has no sidecar; {}", begin.elapsed(), self.said()));
            }
            made += 1;
            slowest = slowest.max(asked.elapsed());
            authorities = authorities.max(self.authorities()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        let changes = self.metric("pillion_webhook_certificate_changes_total")? - before;
        if changes < 4 || authorities < 2 {
            return Err(format!(
                "{changes} changes of two replicas, {authorities} authorities at a time; {}",
                self.said()
            ));
        }
        Ok(format!("{made} pods, {changes} changes of certificates, slowest request {slowest:?}"))
    }

    /// Waits until pods are injected: the API server hears of a label, and the node of a service, within moments.
    fn is_heard_of(&self) -> Outcome {
        wait::until("the first injection", LIMIT, || {
            std::thread::sleep(Duration::from_millis(100));
            Ok(is_injected(&self.try_pod("hooked", "first")?).then_some(()))
        })
    }

    /// A pod as it would be made.
    fn try_pod(&self, namespace: &str, name: &str) -> Outcome<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let body = pod(namespace, name, &json!({})).to_string();
        Ok(crate::http::request(Node::PORT, "POST", &path, body.as_bytes())?.good()?.json())
    }

    /// How many authorities are published.
    fn authorities(&self) -> Outcome<usize> {
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pillion-webhook";
        let text = api::get(path)?["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
        // An authority with a P-256 key has some 900 characters here.
        Ok(text.len() / 850)
    }

    /// While no replica answers, pods start without, and are counted afterwards.
    fn away(&self) -> Outcome<String> {
        self.scale(0)?;
        self.job("hooked", "bare", &json!({}))?;
        let pod = self.complete("hooked", "bare")?;
        self.scale(2)?;
        if is_injected(&pod) {
            return Err("a pod was injected by nobody".into());
        }
        let counted = wait::until("the count", LIMIT, || {
            let n = self.metric("pillion_webhook_uninjected_pods")?;
            std::thread::sleep(Duration::from_millis(500));
            Ok((n == 1).then_some(n))
        });
        counted.map_err(|why| format!("{why}; {}", self.said()))?;
        self.is_heard_of()?;
        self.job("hooked", "again", &json!({}))?;
        if !is_injected(&self.complete("hooked", "again")?) {
            return Err(format!("back again, it doesn't inject; {}", self.said()));
        }
        self.arrived("hooked", "again")?;
        Ok("one pod passed by and was counted".into())
    }

    fn scale(&self, n: u32) -> Outcome {
        self.rig.kubectl(&["-n", "pillion", "scale", "deployment/pillion-webhook", &format!("--replicas={n}")])?;
        let what = format!("{n} ready replicas");
        wait::until(&what, LIMIT, || {
            let all = pods::all("pillion")?;
            let ready = all.iter().filter(|p| is_ready(p)).count();
            std::thread::sleep(Duration::from_millis(200));
            Ok((ready == n as usize && all.len() == n as usize).then_some(()))
        })
        .map_err(|why| format!("{why}; {}", self.said()))
    }

    /// The policy refuses Jobs that would run without, and their pods.
    fn required(&self) -> Outcome<String> {
        let path = root().join("deploy/examples/require-sidecar.yml");
        self.rig.kubectl(&["apply", "-f", &path.display().to_string()])?;
        self.place("strict", &["pillion.dev/require=sidecar"])?;
        // A policy is heard of within moments.
        let refused = wait::until("the policy", LIMIT, || {
            let probe = job("strict", "probe", &json!({}));
            std::thread::sleep(Duration::from_millis(300));
            let path = "/apis/batch/v1/namespaces/strict/jobs?dryRun=All";
            let answer = crate::http::request(Node::PORT, "POST", path, probe.to_string().as_bytes())?;
            Ok((answer.status >= 400).then(|| String::from_utf8_lossy(&answer.body).into_owned()))
        })?;
        if !refused.contains("pillion inject") {
            return Err(format!("refused for another reason: {refused}"));
        }
        self.job("strict", "asks", &json!({"pillion.dev/inject": "true"}))?;
        if !is_injected(&self.complete("strict", "asks")?) {
            return Err("a Job that was let through has no sidecar".into());
        }
        // While the webhook is away the Job waits; then it goes on by itself.
        self.scale(0)?;
        self.job("strict", "waits", &json!({"pillion.dev/inject": "true"}))?;
        wait::until("the refused pod", LIMIT, || {
            let events = api::items("/api/v1/namespaces/strict/events")?;
            std::thread::sleep(Duration::from_millis(200));
            Ok(events.iter().any(|e| e["message"].as_str().is_some_and(|m| m.contains("no log shipper"))).then_some(()))
        })?;
        self.scale(2)?;
        self.complete("strict", "waits")?;
        self.arrived("strict", "waits")?;
        Ok("refused, let through, waited".into())
    }

    /// A metric, summed over the replicas.
    fn metric(&self, name: &str) -> Outcome<i64> {
        let mut sum = 0;
        for pod in pods::all("pillion")?.iter().filter(|p| is_ready(p)) {
            let path = format!("/api/v1/namespaces/pillion/pods/{}:8080/proxy/metrics", pods::name(pod));
            let text = crate::http::request(Node::PORT, "GET", &path, b"")?.good()?.body;
            let text = String::from_utf8_lossy(&text).into_owned();
            let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse::<i64>().ok());
            sum += value.ok_or_else(|| format!("no {name} in {text}"))?;
            promtool::lint(&text)?;
        }
        Ok(sum)
    }
}

fn is_injected(pod: &Value) -> bool {
    ["containers", "initContainers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .any(|c| c["name"] == "pillion")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn spec(namespace: &str, name: &str) -> Value {
    let work = format!("for i in $(seq 1 {LINES}); do echo \"{namespace}/{name} line $i\" >>/data/app.log; done");
    json!({
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "main", "image": "busybox:1", "imagePullPolicy": "Never", "command": ["sh", "-c", work],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }],
        "volumes": [{"name": "data", "emptyDir": {}}],
    })
}

fn pod(namespace: &str, name: &str, annotations: &Value) -> Value {
    let meta = json!({"name": name, "namespace": namespace, "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec(namespace, name)})
}

fn job(namespace: &str, name: &str, annotations: &Value) -> Value {
    let template = json!({"metadata": {"annotations": annotations}, "spec": spec(namespace, name)});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template}})
}
