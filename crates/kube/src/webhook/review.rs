//! One admission: from an `AdmissionReview` to its answer.
//!
//! Comes in: the request's body, [`Policy`], [`Scope`]. Goes out: the answer's body and what came of it. Pure: no I/O, no
//! clock. Always holds:
//! - A pod is never kept from starting: what can't be injected is let through, with a warning that says why.
//! - A pod that was asked about twice gets the same once; injected, it is left alone (`reinvocationPolicy: IfNeeded`).
//! - `kube-system` and our own namespace are never touched, whatever the configuration of the webhook lets through.
//! - No patch goes out that `guard` hasn't looked at.
//!
//! Tested below and in `tests/webhook.rs`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::guard;
use super::metrics::Outcome;
use crate::inject::{self, CONTAINER, MARK, Options};

/// The label that says of a pod that it has its sidecar; annotations can't be selected by, and the census has to.
pub const LABEL: &str = "pillion.dev/injected";

/// The annotation by which a pod asks for a sidecar, or asks to be left alone.
pub(crate) const ASK: &str = "pillion.dev/inject";

/// Kubernetes' own namespaces.
pub(crate) const PROTECTED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Characters of a warning; `kubectl` shows longer ones cut.
const WARNING: usize = 256;
/// Warnings of one answer.
const WARNINGS: usize = 8;

/// What is injected, and where never.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How sidecars are made.
    pub options: Options,
    /// The namespace that the webhook itself runs in; empty when it isn't known.
    pub own_namespace: String,
}

/// Whose wish a request stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The namespace has opted in: all pods that don't opt out.
    Namespace,
    /// Only pods that ask for it by annotation.
    Pod,
}

/// What is sent back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// An `AdmissionReview`, as JSON.
    pub body: Vec<u8>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What becomes of one pod.
struct Verdict {
    outcome: Outcome,
    patch: Vec<Value>,
    warnings: Vec<String>,
}

impl Verdict {
    fn leave(outcome: Outcome) -> Verdict {
        Verdict { outcome, patch: Vec::new(), warnings: Vec::new() }
    }
}

/// Answers one request.
///
/// # Errors
/// When the body is no `AdmissionReview` of `admission.k8s.io/v1`: there is nothing to answer to.
pub fn answer(policy: &Policy, scope: Scope, body: &[u8]) -> Result<Answer, String> {
    let mut review: Value = serde_json::from_slice(body).map_err(|e| format!("the body isn't JSON: {e}"))?;
    if review["apiVersion"] != "admission.k8s.io/v1" || review["kind"] != "AdmissionReview" {
        return Err("the body is no AdmissionReview of admission.k8s.io/v1".into());
    }
    let mut request = review.get_mut("request").map(Value::take).unwrap_or_default();
    let uid = request["uid"].as_str().filter(|uid| !uid.is_empty() && uid.len() <= 256);
    let uid = uid.ok_or("the AdmissionReview has no uid")?.to_owned();
    let verdict = judge(policy, scope, &mut request);
    let mut response = json!({"uid": uid, "allowed": true});
    if !verdict.patch.is_empty() {
        response["patchType"] = "JSONPatch".into();
        response["patch"] = STANDARD.encode(Value::Array(verdict.patch).to_string()).into();
    }
    if !verdict.warnings.is_empty() {
        response["warnings"] = verdict.warnings.into();
    }
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Ok(Answer { body: answer.to_string().into_bytes(), outcome: verdict.outcome })
}

fn judge(policy: &Policy, scope: Scope, request: &mut Value) -> Verdict {
    let kind = &request["kind"];
    let is_pod = kind["group"] == "" && kind["version"] == "v1" && kind["kind"] == "Pod";
    let creates = request["operation"] == "CREATE" && request["subResource"].as_str().unwrap_or_default().is_empty();
    let namespace = request["namespace"].as_str().unwrap_or_default();
    if !is_pod || !creates || PROTECTED.contains(&namespace) || namespace == policy.own_namespace {
        return Verdict::leave(Outcome::Skipped);
    }
    let mut pod = request.get_mut("object").map(Value::take).unwrap_or_default();
    if !pod.is_object() {
        return Verdict::leave(Outcome::Skipped);
    }
    // The API server leaves them out of nothing; a test or an older one may.
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    let asked = pod["metadata"]["annotations"].get(ASK).and_then(Value::as_str).map(str::trim);
    let skipped = match asked {
        Some("false" | "disabled" | "no") => true,
        Some(_) => false,
        None => scope == Scope::Pod,
    };
    if skipped || pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some() {
        return Verdict::leave(Outcome::Skipped);
    }
    let options = Options { opt_in: scope == Scope::Pod, ..policy.options.clone() };
    inject_pod(&pod, &options).unwrap_or_else(|why| {
        let warning = format!("pillion: this pod starts without its log shipper: {why}");
        Verdict { warnings: vec![cut(&warning)], ..Verdict::leave(Outcome::Refused) }
    })
}

fn inject_pod(pod: &Value, options: &Options) -> Result<Verdict, String> {
    let plan = inject::plan(pod, options).map_err(|refusal| refusal.to_string())?;
    if !plan.documents.is_empty() {
        return Err("its configuration would need a ConfigMap of its own: name one that is there".into());
    }
    let mut after = pod.clone();
    inject::apply(&mut after, &plan.edits).ok_or("the plan doesn't fit the pod")?;
    guard::check(pod, &after, options)?;
    let mut patch: Vec<Value> = plan.edits.iter().map(inject::Edit::operation).collect();
    patch.extend(label(&after));
    let (outcome, warnings) = match plan.edits.is_empty() {
        true => (Outcome::Unchanged, Vec::new()),
        false => (Outcome::Injected, plan.notes.iter().take(WARNINGS).map(|n| cut(&format!("pillion: {n}"))).collect()),
    };
    Ok(Verdict { outcome, patch, warnings })
}

/// The operation that labels a pod which has its sidecar, unless it is labelled.
fn label(pod: &Value) -> Option<Value> {
    let ours = |c: &Value| {
        let image = c["image"].as_str().unwrap_or_default();
        let name = image.rsplit('/').next().and_then(|name| name.split([':', '@']).next());
        c["name"] == CONTAINER || name == Some("pillion")
    };
    let lists = ["containers", "initContainers"].map(|key| pod["spec"][key].as_array());
    let has_one = pod["metadata"]["annotations"].get(MARK).is_some() || lists.into_iter().flatten().flatten().any(ours);
    let labels = &pod["metadata"]["labels"];
    match labels.as_object() {
        _ if !has_one => None,
        Some(labels) if labels.contains_key(LABEL) => None,
        Some(_) => {
            let path = format!("/metadata/labels/{}", LABEL.replace('/', "~1"));
            Some(json!({"op": "add", "path": path, "value": "true"}))
        }
        None => Some(json!({"op": "add", "path": "/metadata/labels", "value": {LABEL: "true"}})),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WARNING) {
        Some(_) => text.chars().take(WARNING - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> Policy {
        Policy {
            options: Options { image: "registry/pillion:1".into(), ..Options::default() },
            own_namespace: "own".into(),
        }
    }

    fn pod(annotations: &Value) -> Value {
        json!({
            "metadata": {"generateName": "orders-", "annotations": annotations},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "orders:1", "command": ["sh", "-c", "work"],
                    "volumeMounts": [{"name": "logs", "mountPath": "/data"}]}],
                "volumes": [{"name": "logs", "emptyDir": {}}],
            },
        })
    }

    fn ask(namespace: &str, object: &Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
            "namespace": namespace, "object": object,
        }})
    }

    fn answered(scope: Scope, review: &Value) -> (Outcome, Value, Vec<Value>) {
        let answer = answer(&policy(), scope, review.to_string().as_bytes()).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let response = body["response"].clone();
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
        let patch = response["patch"].as_str().map(|p| STANDARD.decode(p).unwrap());
        let patch: Vec<Value> = patch.map(|p| serde_json::from_slice(&p).unwrap()).unwrap_or_default();
        assert_eq!(patch.is_empty(), response["patchType"].is_null());
        (answer.outcome, response, patch)
    }

    #[test]
    fn who_is_touched() {
        let yes = json!({"pillion.dev/inject": "true"});
        let no = json!({"pillion.dev/inject": "false"});
        let none = json!({});
        let table = [
            ("team", &none, Scope::Namespace, Outcome::Injected),
            ("team", &yes, Scope::Namespace, Outcome::Injected),
            ("team", &no, Scope::Namespace, Outcome::Skipped),
            ("team", &none, Scope::Pod, Outcome::Skipped),
            ("team", &yes, Scope::Pod, Outcome::Injected),
            ("team", &no, Scope::Pod, Outcome::Skipped),
            ("kube-system", &yes, Scope::Pod, Outcome::Skipped),
            ("kube-system", &none, Scope::Namespace, Outcome::Skipped),
            ("own", &yes, Scope::Namespace, Outcome::Skipped),
        ];
        for (namespace, annotations, scope, expected) in table {
            let (outcome, response, patch) = answered(scope, &ask(namespace, &pod(annotations)));
            assert_eq!(outcome, expected, "{namespace} {annotations} {scope:?} {response}");
            assert_eq!(patch.is_empty(), expected != Outcome::Injected);
        }
        for (key, value) in [
            ("operation", json!("UPDATE")),
            ("subResource", json!("exec")),
            ("kind", json!({"group": "apps", "version": "v1", "kind": "Pod"})),
        ] {
            let mut review = ask("team", &pod(&none));
            review["request"][key] = value;
            assert_eq!(answered(Scope::Namespace, &review).0, Outcome::Skipped, "{key}");
        }
    }

    /// Applies a JSON Patch as the API server does, as far as ours go.
    fn patched(mut object: Value, patch: &[Value]) -> Value {
        for op in patch {
            let (parent, key) = op["path"].as_str().unwrap().rsplit_once('/').unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            match object.pointer_mut(parent).unwrap() {
                Value::Array(list) if key == "-" => list.push(op["value"].clone()),
                Value::Array(list) if op["op"] == "add" => list.insert(key.parse().unwrap(), op["value"].clone()),
                Value::Array(list) => list[key.parse::<usize>().unwrap()] = op["value"].clone(),
                other => other[key.as_str()] = op["value"].clone(),
            }
        }
        object
    }

    #[test]
    fn asked_again_it_changes_nothing() {
        let before = pod(&json!({}));
        let (_, _, patch) = answered(Scope::Namespace, &ask("team", &before));
        let after = patched(before, &patch);
        assert_eq!(after["metadata"]["labels"][LABEL], "true");
        let names =
            |key: &str| after["spec"][key].as_array().map(|c| c.iter().map(|c| c["name"].clone()).collect::<Vec<_>>());
        assert!(names("initContainers").unwrap().contains(&json!(CONTAINER)), "{after}");
        let (outcome, response, patch) = answered(Scope::Namespace, &ask("team", &after));
        assert_eq!((outcome, patch.len()), (Outcome::Unchanged, 0), "{response}");
        // Injected by hand before: only the label is missing.
        let mut by_hand = after;
        by_hand["metadata"]["labels"] = json!({"app": "x"});
        let (outcome, _, patch) = answered(Scope::Namespace, &ask("team", &by_hand));
        assert_eq!((outcome, patch.len()), (Outcome::Unchanged, 1));
    }

    #[test]
    fn what_can_not_be_injected_starts_without_and_says_why() {
        let refused = pod(&json!({"pillion.dev/way": "sideways"}));
        let (outcome, response, patch) = answered(Scope::Namespace, &ask("team", &refused));
        assert_eq!((outcome, patch.len()), (Outcome::Refused, 0));
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(warning.contains("sideways") && warning.chars().count() <= WARNING, "{warning}");
        let odd = [json!(null), json!({"spec": 7}), json!({"metadata": [], "spec": {"containers": [1]}}), json!("pod")];
        for object in odd {
            let answer = answer(&policy(), Scope::Namespace, ask("team", &object).to_string().as_bytes());
            assert!(answer.is_ok_and(|a| a.outcome != Outcome::Injected), "{object}");
        }
    }

    #[test]
    fn what_is_no_review_has_no_answer() {
        let older = ask("team", &json!({})).to_string().replace("k8s.io/v1", "k8s.io/v1beta1");
        let nobody = ask("team", &json!({})).to_string().replace("u-1", "");
        for body in ["", "{", "[]", "{}", "null", &older, &nobody] {
            assert!(answer(&policy(), Scope::Namespace, body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn warnings_are_cut_between_characters() {
        assert_eq!(cut("kurz"), "kurz");
        assert_eq!(cut(&"ä".repeat(300)).chars().count(), WARNING);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
        /// Whatever annotations say, injection itself asks for nothing that the guard would have to stop.
        #[test]
        fn no_annotation_asks_for_more(
            said in proptest::collection::btree_map(
                prop::sample::select(vec!["paths", "config", "output", "way", "resources", "inject", "image", "user", "x"]),
                prop_oneof![
                    "[ -~]{0,20}",
                    Just("/var/lib/kubelet, /data/*.log".to_owned()), Just("/etc/../proc".to_owned()),
                    Just("limits.memory=1Gi,requests.cpu=,limits.hugepages-2Mi=1".to_owned()),
                    Just("process".to_owned()), Just("exec".to_owned()), Just("flag".to_owned()),
                    Just("secret/../../x".to_owned()), Just("cm/key.yml".to_owned()),
                    Just("elasticsearch=https://es:9200".to_owned()),
                ],
                0..5,
            ),
            shared in any::<bool>(),
            host in any::<bool>(),
        ) {
            let annotations: serde_json::Map<_, _> =
                said.iter().map(|(k, v)| (format!("pillion.dev/{k}"), v.clone().into())).collect();
            let mut before = pod(&annotations.into());
            before["spec"]["shareProcessNamespace"] = shared.into();
            if host {
                before["spec"]["volumes"][0] = json!({"name": "logs", "hostPath": {"path": "/logs"}});
            }
            let (outcome, response, patch) = answered(Scope::Namespace, &ask("team", &before));
            let warning = response["warnings"].to_string();
            prop_assert!(!warning.contains("an injection must not") && !warning.contains("an added"), "{}", warning);
            if outcome == Outcome::Injected {
                let after = patched(before.clone(), &patch);
                prop_assert_eq!(guard::check(&before, &after, &policy().options), Ok(()));
                prop_assert_eq!(answered(Scope::Namespace, &ask("team", &after)).0, Outcome::Unchanged);
            }
        }
    }
}
