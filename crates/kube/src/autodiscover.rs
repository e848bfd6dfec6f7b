//! `filebeat.autodiscover` with the provider `kubernetes`: which inputs a container has.
//!
//! Comes in: the provider's options, then containers of pods. Goes out: the configurations of their inputs, as JSON, from
//! templates whose condition is true, or from `co.elastic.logs/*` annotations. Who starts and ends the inputs is the
//! binary's business.
//!
//! Always holds: what a pod's annotations say can change how its own lines are read and what is added to them; it can't
//! name paths, outputs or anything of the process ([`ALLOWED`], [`DENIED`]): whoever may make a pod may not read other
//! files of the node, nor variables of the shipper. What annotations may cost is bounded ([`HINT_BYTES`],
//! [`PATTERN_BYTES`]): hints beyond it have no effect, which is said, and the container is read without them.
//! Tested below, with what Filebeat 7.17's hints give.

use pillion_config::{Error, Section};
use pillion_process::kubernetes::Scope;
use pillion_process::{Condition, Look};
use serde_json::{Map, Value, json};

use crate::pods::{Container, Fields, name_of};

/// One template.
#[derive(Debug)]
struct Template {
    condition: Option<Condition>,
    inputs: Vec<Value>,
}

/// What `hints.*` say.
#[derive(Debug)]
struct Hints {
    default: Value,
    /// `default_config.enabled`: containers are read unless an annotation says otherwise.
    enabled: bool,
}

/// One provider.
#[derive(Debug)]
pub struct Provider {
    /// Whose pods.
    pub scope: Scope,
    prefix: String,
    templates: Vec<Template>,
    hints: Option<Hints>,
}

/// What hints may set.
pub const ALLOWED: &[&str] = &[
    "enabled",
    "disable",
    "multiline",
    "json",
    "include_lines",
    "exclude_lines",
    "processors",
    "pipeline",
    "module",
    "fileset",
];

/// Processors that hints may not name: they ask others.
pub const DENIED: &[&str] = &["add_kubernetes_metadata", "add_cloud_metadata", "add_docker_metadata"];

/// Hints of one container at most, and the bytes of all their names and values.
const HINTS: usize = 64;
/// See [`HINTS`].
pub const HINT_BYTES: usize = 16 << 10;
/// What one regular expression of a hint may need when it is compiled, in bytes.
pub const PATTERN_BYTES: usize = 256 << 10;

/// The file of a container, as kubelet links it.
const FILES: &str = "/var/log/containers/*-${data.kubernetes.container.id}.log";

/// The providers of a configuration.
///
/// # Errors
/// What is wrong with them, or isn't there.
pub fn providers(root: &Section<'_>) -> Result<Vec<Provider>, Error> {
    let mut out = Vec::new();
    for s in root.sections("filebeat.autodiscover.providers")? {
        if s.bool("enabled")? == Some(false) {
            s.ignore();
            continue;
        }
        match s.str("type")?.as_deref() {
            Some("kubernetes") => out.push(Provider::from_section(&s)?),
            _ => {
                return Err(s.error(
                    "type",
                    format!("the provider {} isn't there", s.shown("type")),
                    "use `type: kubernetes`, or name the paths in filebeat.inputs",
                ));
            }
        }
    }
    Ok(out)
}

impl Provider {
    fn from_section(s: &Section<'_>) -> Result<Provider, Error> {
        if let Some("service" | "node") = s.str("resource")?.as_deref() {
            return Err(s.error("resource", "only pods have logs here", "use `resource: pod`"));
        }
        if s.bool("unique")? == Some(true) {
            return Err(s.error("unique", "one of several replicas can't be chosen yet", "remove the option"));
        }
        let mut templates = Vec::new();
        for template in s.sections("templates")? {
            let condition = match template.section("condition")? {
                None => None,
                Some(condition) => Some(Condition::from_section(&condition)?),
            };
            let inputs = match template.json("config")? {
                Some(Value::Array(inputs)) => inputs,
                Some(one @ Value::Object(_)) => vec![one],
                _ => return Err(template.error("config", "the template has no inputs", "give a list of inputs")),
            };
            templates.push(Template { condition, inputs });
        }
        let hints = match s.bool("hints.enabled")? {
            Some(true) => Some(hints(s)?),
            _ => None,
        };
        if templates.is_empty() && hints.is_none() {
            return Err(s.error_here("nothing would be read", "give `templates`, or `hints.enabled: true`"));
        }
        let prefix = s.str("prefix")?.filter(|p| !p.is_empty()).unwrap_or_else(|| "co.elastic".to_owned());
        Ok(Provider { scope: Scope::from_section(s)?, prefix, templates, hints })
    }

    /// The configurations of a container's inputs. `kubernetes`: what is known of its pod.
    pub fn inputs(&self, pod: &Value, kubernetes: &Fields, container: &Container) -> Vec<Value> {
        let data = data(pod, kubernetes, container);
        let mut out: Vec<Value> = Vec::new();
        for template in &self.templates {
            if template.condition.as_ref().is_none_or(|c| c.check(&mut &data)) {
                out.extend(template.inputs.iter().filter_map(|input| filled(input, &data)));
            }
        }
        // As in Filebeat, a template that fits leaves no place for hints.
        if let (true, Some(hints)) = (out.is_empty(), &self.hints) {
            let given = self.given(pod, &container.name);
            let given = bounded(given).unwrap_or_else(|(why, rest)| {
                tracing::warn!(pod = name_of(pod), container = container.name, "its hints have no effect: {why}");
                rest
            });
            out.extend(hints.input(&given).and_then(|input| filled(&input, &data)));
        }
        out
    }

    /// A configuration of each template with everything in it that could be asked for: for checks at the start.
    pub fn examples(&self) -> Vec<Value> {
        let inputs = self.templates.iter().flat_map(|t| t.inputs.iter()).chain(self.hints.iter().map(|h| &h.default));
        inputs.map(exemplified).collect()
    }

    /// What annotations say of a container: those with its name win.
    fn given(&self, pod: &Value, container: &str) -> Map<String, Value> {
        let mut out = Map::new();
        let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
        for prefix in [format!("{}.logs/", self.prefix), format!("{}.logs.{container}/", self.prefix)] {
            for (key, value) in annotations.into_iter().flatten() {
                if let Some(hint) = key.strip_prefix(&prefix) {
                    out.insert(hint.to_owned(), value.clone());
                }
            }
        }
        out
    }
}

fn hints(s: &Section<'_>) -> Result<Hints, Error> {
    let mut default = match s.json("hints.default_config")? {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    let enabled = !matches!(default.remove("enabled"), Some(Value::Bool(false)));
    if !default.contains_key("type") {
        default.insert("type".to_owned(), "container".into());
    }
    // The docker input finds its files by the containers' ids.
    let by_id = default.get("type").and_then(Value::as_str) == Some("docker");
    if !by_id && !default.contains_key("paths") {
        default.insert("paths".to_owned(), json!([FILES]));
    }
    Ok(Hints { default: Value::Object(default), enabled })
}

impl Hints {
    /// The input of a container with these hints; `None`: it isn't read.
    fn input(&self, given: &Map<String, Value>) -> Option<Value> {
        let word = |key: &str| given.get(key).and_then(Value::as_str);
        let wanted = word("enabled").map_or(self.enabled, |w| w.eq_ignore_ascii_case("true"));
        if !wanted || word("disable").is_some_and(|w| w.eq_ignore_ascii_case("true")) {
            return None;
        }
        let mut tree = Map::new();
        for (key, value) in given {
            let first = key.split('.').next().unwrap_or_default();
            if ALLOWED.contains(&first) {
                put(&mut tree, key, value.clone());
            } else {
                tracing::warn!(hint = key, "this hint has no effect here: raw configurations and sets aren't read");
            }
        }
        let Value::Object(mut input) = self.default.clone() else { return None };
        let filestream = input.get("type").and_then(Value::as_str) == Some("filestream");
        for (hint, parser) in [("multiline", "multiline"), ("json", "ndjson")] {
            let Some(options) = tree.remove(hint) else { continue };
            if filestream {
                let parsers = input.entry("parsers").or_insert_with(|| json!([]));
                if let Value::Array(parsers) = parsers {
                    parsers.push(json!({parser: options}));
                }
            } else {
                input.insert(hint.to_owned(), options);
            }
        }
        for key in ["include_lines", "exclude_lines"] {
            if let Some(Value::String(lines)) = tree.remove(key) {
                let lines: Vec<&str> = lines.split(',').map(str::trim).filter(|l| !l.is_empty()).collect();
                input.insert(key.to_owned(), json!(lines));
            }
        }
        if let Some(pipeline) = tree.remove("pipeline") {
            input.insert("pipeline".to_owned(), pipeline);
        }
        if let Some(Value::Object(processors)) = tree.remove("processors") {
            let list = input.entry("processors").or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.extend(listed(processors));
            }
        }
        let Some(module) = word("module") else { return Some(Value::Object(input)) };
        let of_module = of_module(module, &word, &input);
        if of_module.is_none() {
            tracing::warn!(module, "this module isn't here: the container is read without it");
        }
        Some(of_module.unwrap_or(Value::Object(input)))
    }
}

/// A module whose filesets read the container, by Filebeat's rule: `fileset` gets all of it, `fileset.stdout` and
/// `fileset.stderr` a stream; with none of them each of the module's filesets gets all.
fn of_module<'g>(module: &str, word: &impl Fn(&str) -> Option<&'g str>, input: &Map<String, Value>) -> Option<Value> {
    let known = pillion_config::filesets(module);
    let mut streams: Map<String, Value> = Map::new();
    for (hint, stream) in
        [("fileset", "all"), ("fileset.all", "all"), ("fileset.stdout", "stdout"), ("fileset.stderr", "stderr")]
    {
        if let Some(fileset) = word(hint).filter(|fileset| known.contains(fileset)) {
            streams.insert(fileset.to_owned(), stream.into());
        }
    }
    if streams.is_empty() {
        streams.extend(known.iter().map(|fileset| ((*fileset).to_owned(), "all".into())));
    }
    let of_stream = match input.get("type").and_then(Value::as_str) {
        Some("container") => Some("stream"),
        Some("docker") => Some("containers.stream"),
        _ => None,
    };
    let mut made = Map::from_iter([("module".to_owned(), module.into())]);
    for (fileset, stream) in streams {
        let mut input = input.clone();
        if let Some(option) = of_stream {
            put(&mut input, option, stream);
        }
        made.insert(fileset, json!({"enabled": true, "input": input}));
    }
    (made.len() > 1).then_some(Value::Object(made))
}

/// `processors.1.dissect.…` in the order of the numbers, then those without one.
fn listed(processors: Map<String, Value>) -> Vec<Value> {
    let mut numbered: Vec<(u64, Value)> = Vec::new();
    let mut others = Vec::new();
    for (key, value) in processors {
        match (key.parse(), unquoted(value)) {
            (Ok(n), value) => numbered.push((n, value)),
            (Err(_), value) => others.push(json!({key: value})),
        }
    }
    numbered.sort_by_key(|(n, _)| *n);
    numbered.into_iter().map(|(_, value)| value).chain(others).collect()
}

/// Annotations are texts; lists and objects in them are written as JSON.
fn unquoted(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with(['[', '{']) => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (k, unquoted(v))).collect()),
        other => other,
    }
}

fn put(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(map.insert(path.to_owned(), value)),
        Some((head, tail)) => {
            if let Value::Object(below) = map.entry(head).or_insert_with(|| json!({})) {
                put(below, tail, value);
            }
        }
    }
}

/// What `${data.…}` and conditions may ask for.
fn data(pod: &Value, kubernetes: &Fields, container: &Container) -> Map<String, Value> {
    let mut fields = kubernetes.clone();
    let about = json!({
        "id": container.id, "name": container.name, "image": container.image, "runtime": container.runtime,
    });
    fields.insert("container".to_owned(), about);
    let mut annotations = Map::new();
    for (key, value) in pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten() {
        put(&mut annotations, key, value.clone());
    }
    fields.insert("annotations".to_owned(), annotations.into());
    let mut out = Map::new();
    out.insert("kubernetes".to_owned(), fields.into());
    out.insert(
        "container".to_owned(),
        json!({"id": container.id, "image": {"name": container.image}, "runtime": container.runtime}),
    );
    if let Some(ip) = pod.pointer("/status/podIP") {
        out.insert("host".to_owned(), ip.clone());
    }
    out
}

/// Hints that cost no more than they may; else why not, and those that are followed none the less.
fn bounded(given: Map<String, Value>) -> Result<Map<String, Value>, (String, Map<String, Value>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bytes: usize = given.iter().map(|(key, value)| key.len() + text(value).len()).sum();
    let why = if given.len() > HINTS || bytes > HINT_BYTES {
        format!("there are {} of {bytes} bytes, more than {HINTS} or {HINT_BYTES} bytes", given.len())
    } else if let Some((key, _)) = given.iter().find(|(_, value)| too_large((*value).clone())) {
        format!("`{key}` is a regular expression that needs more than {PATTERN_BYTES} bytes")
    } else if let Some((key, _)) = given.iter().find(|(key, value)| denied(key) || denied(&text(value))) {
        format!("`{key}` names a processor that hints may not name: {}", DENIED.join(", "))
    } else {
        return Ok(given);
    };
    Err((why, given.into_iter().filter(|(key, _)| ["enabled", "disable"].contains(&key.as_str())).collect()))
}

/// Whether a text of a hint, taken as a regular expression, is too large. Which texts are taken so is up to processors.
fn too_large(hint: Value) -> bool {
    match unquoted(hint) {
        Value::String(text) => [text.as_str()].into_iter().chain(text.split(',').map(str::trim)).any(|text| {
            let pattern = regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
            matches!(pattern, Err(regex::Error::CompiledTooBig(_)))
        }),
        Value::Array(items) => items.into_iter().any(too_large),
        Value::Object(map) => map.into_iter().any(|(_, value)| too_large(value)),
        _ => false,
    }
}

fn denied(text: &str) -> bool {
    DENIED.iter().any(|name| text.contains(name))
}

/// A configuration with its variables filled in; `None`: one of them isn't known, or would lead a path elsewhere.
fn filled(input: &Value, data: &Map<String, Value>) -> Option<Value> {
    let Value::Object(options) = input else { return None };
    // Paths of a module lie deeper, at more than one place.
    let of_module = options.contains_key("module");
    let one = |(key, value): (&String, &Value)| {
        let is_path = ["path", "paths", "containers"].contains(&key.as_str()) || of_module;
        let filled = map_texts(value, &|text| filled_text(text, data, is_path))?;
        Some((key.clone(), filled))
    };
    options.iter().map(one).collect::<Option<_>>().map(Value::Object)
}

/// `in_path`: what is filled in is one or more names of a path, no pattern and no way upwards.
fn filled_text(text: &str, data: &Map<String, Value>, in_path: bool) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${data.") {
        let (name, after) = behind.split_once('}')?;
        let (name, default) = name.split_once(':').map_or((name, None), |(n, d)| (n, Some(d)));
        let value = match (&mut &*data).get(name).map(|got| got.to_value()) {
            Ok(Value::String(text)) => text,
            Ok(Value::Number(n)) => n.to_string(),
            _ => default?.to_owned(),
        };
        if in_path && (value.contains(['*', '?', '[', '{', '\\', '\0']) || value.split('/').any(|part| part == "..")) {
            tracing::warn!(variable = name, "the value in a path isn't a plain name: nothing is read there");
            return None;
        }
        out.push_str(before);
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn exemplified(input: &Value) -> Value {
    let example = |text: &str| {
        let mut parts = text.split("${data.");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push('x');
            out.push_str(part.split_once('}').map_or("", |(_, after)| after));
        }
        Some(out)
    };
    map_texts(input, &example).unwrap_or_default()
}

fn map_texts(value: &Value, each: &impl Fn(&str) -> Option<String>) -> Option<Value> {
    Some(match value {
        Value::String(text) => Value::String(each(text)?),
        Value::Array(items) => Value::Array(items.iter().map(|v| map_texts(v, each)).collect::<Option<_>>()?),
        Value::Object(map) => {
            let one = |(k, v): (&String, &Value)| Some((k.clone(), map_texts(v, each)?));
            Value::Object(map.iter().map(one).collect::<Option<_>>()?)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::{Beside, containers, kubernetes};
    use pillion_config::Config;

    fn provider(yaml: &str) -> Provider {
        let config =
            Config::from_yaml(&format!("pillion.compat: 8\nfilebeat.autodiscover.providers: [{yaml}]\n")).unwrap();
        providers(&config.root()).unwrap().remove(0)
    }

    fn inputs(provider: &Provider, annotations: &Value) -> Vec<Value> {
        let pod = json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "u", "labels": {"app": "web"}, "annotations": annotations},
            "spec": {"nodeName": "n"},
            "status": {"containerStatuses": [{"name": "main", "image": "redis:7", "containerID": "containerd://abc"}]},
        });
        let fields = kubernetes(&pod, Beside::default(), &provider.scope);
        provider.inputs(&pod, &fields, &containers(&pod)[0])
    }

    const PATH: &str = "/var/log/containers/*-abc.log";

    #[test]
    fn templates_with_conditions_and_variables() {
        let p = provider(
            "{type: kubernetes, templates: [{condition.contains.kubernetes.container.image: redis, config: [{type: \
             container, paths: ['/var/log/containers/*-${data.kubernetes.container.id}.log'], fields: {app: \
             '${data.kubernetes.labels.app}'}}]}, {condition.equals.kubernetes.namespace: other, config: [{type: log}]}]}",
        );
        assert_eq!(inputs(&p, &json!({})), [json!({"type": "container", "paths": [PATH], "fields": {"app": "web"}})]);
        assert_eq!(p.examples()[0]["paths"][0], "/var/log/containers/*-x.log");
    }

    #[test]
    fn hints() {
        let p = provider("{type: kubernetes, hints.enabled: true}");
        let base = json!({"type": "container", "paths": [PATH]});
        let with = |more: Value| {
            let mut all = base.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            vec![all]
        };
        for (annotations, want) in [
            (json!({}), with(json!({}))),
            (json!({"co.elastic.logs/enabled": "false"}), vec![]),
            (json!({"co.elastic.logs/enabled": "false", "co.elastic.logs.main/enabled": "true"}), with(json!({}))),
            (json!({"co.elastic.logs.other/enabled": "false"}), with(json!({}))),
            (
                json!({"co.elastic.logs/json.keys_under_root": "true", "co.elastic.logs/json.message_key": "m"}),
                with(json!({"json": {"keys_under_root": "true", "message_key": "m"}})),
            ),
            (
                json!({"co.elastic.logs/multiline.pattern": "^a", "co.elastic.logs/multiline.negate": "true"}),
                with(json!({"multiline": {"pattern": "^a", "negate": "true"}})),
            ),
            (json!({"co.elastic.logs/exclude_lines": "^D, ^T"}), with(json!({"exclude_lines": ["^D", "^T"]}))),
            (
                json!({"co.elastic.logs/processors.2.add_tags.tags": "[\"b\"]", "co.elastic.logs/processors.1.dissect.tokenizer": "%{a}"}),
                with(json!({"processors": [{"dissect": {"tokenizer": "%{a}"}}, {"add_tags": {"tags": ["b"]}}]})),
            ),
            // What would name files or programs of the node has no effect.
            (
                json!({"co.elastic.logs/raw": "[{paths: [/etc/shadow]}]", "co.elastic.logs/paths": "/etc/shadow"}),
                with(json!({})),
            ),
        ] {
            assert_eq!(inputs(&p, &annotations), want, "{annotations}");
        }
        let of = |stream: &str, more: Value| {
            let mut input = with(more).remove(0);
            input["stream"] = stream.into();
            json!({"enabled": true, "input": input})
        };
        for (annotations, want) in [
            (
                json!({"co.elastic.logs/module": "nginx", "co.elastic.logs/fileset.stdout": "access", "co.elastic.logs/fileset.stderr": "error"}),
                json!({"module": "nginx", "access": of("stdout", json!({})), "error": of("stderr", json!({}))}),
            ),
            (
                json!({"co.elastic.logs/module": "redis", "co.elastic.logs/exclude_lines": "a"}),
                json!({"module": "redis", "log": of("all", json!({"exclude_lines": ["a"]}))}),
            ),
            (
                json!({"co.elastic.logs/module": "apache", "co.elastic.logs/fileset": "error"}),
                json!({"module": "apache", "error": of("all", json!({}))}),
            ),
            (json!({"co.elastic.logs/module": "../etc"}), base.clone()),
        ] {
            assert_eq!(inputs(&p, &annotations), [want], "{annotations}");
        }
        let p = provider("{type: kubernetes, hints: {enabled: true, default_config: {enabled: false}}}");
        assert!(inputs(&p, &json!({})).is_empty());
        assert!(inputs(&p, &json!({"co.elastic.logs/json.message_key": "m"})).is_empty());
        assert_eq!(inputs(&p, &json!({"co.elastic.logs/enabled": "true"})).len(), 1);
        let p = provider(
            "{type: kubernetes, hints: {enabled: true, default_config: {type: filestream, id: '${data.kubernetes.container.id}', \
             paths: ['/x/${data.kubernetes.pod.name}']}}}",
        );
        assert_eq!(
            inputs(&p, &json!({"co.elastic.logs/json.target": ""})),
            [
                json!({"type": "filestream", "id": "abc", "paths": ["/x/web-0"], "parsers": [{"ndjson": {"target": ""}}]})
            ]
        );
    }

    #[test]
    fn hostile_hints_have_no_effect() {
        let p = provider("{type: kubernetes, hints.enabled: true}");
        let plain = [json!({"type": "container", "paths": [PATH]})];
        let many: Map<String, Value> = (0..65).map(|n| (format!("co.elastic.logs/json.k{n}"), json!("v"))).collect();
        for hostile in [
            json!({"co.elastic.logs/multiline.pattern": "(\\pL{100}){100}"}),
            json!({"co.elastic.logs/exclude_lines": "a{1000}{1000}"}),
            json!({"co.elastic.logs/processors.1.replace.fields": "[{\"pattern\": \"(a{100}){1000}\"}]"}),
            json!({"co.elastic.logs/processors.1.add_kubernetes_metadata.namespace": "kube-system"}),
            json!({"co.elastic.logs/processors.1": "{\"add_kubernetes_metadata\": {\"api_server\": \"http://x\"}}"}),
            json!({"co.elastic.logs/include_lines": "x".repeat(HINT_BYTES)}),
            many.into(),
        ] {
            assert_eq!(inputs(&p, &hostile), plain, "{hostile}");
            let mut off = hostile.clone();
            off["co.elastic.logs/enabled"] = "false".into();
            assert!(inputs(&p, &off).is_empty(), "{off}");
        }
        // Variables of the process aren't filled in, and the hint doesn't become a path.
        let got = inputs(&p, &json!({"co.elastic.logs/json.target": "${HOME}", "co.elastic.logs/config": "[{}]"}));
        assert_eq!(got[0]["json"]["target"], "${HOME}");
        assert_eq!(got[0]["paths"], json!([PATH]));
    }

    #[test]
    fn hints_for_the_docker_input() {
        let p = provider(
            "{type: kubernetes, hints: {enabled: true, default_config: {type: docker, containers.ids: ['${data.container.id}']}}}",
        );
        assert_eq!(inputs(&p, &json!({})), [json!({"type": "docker", "containers": {"ids": ["abc"]}})]);
        let got = inputs(&p, &json!({"co.elastic.logs/module": "nginx", "co.elastic.logs/fileset.stderr": "error"}));
        assert_eq!(got[0]["error"]["input"]["containers"], json!({"ids": ["abc"], "stream": "stderr"}));
    }

    #[test]
    fn annotations_in_paths_of_templates_lead_nowhere_else() {
        let p = provider(
            "{type: kubernetes, templates: [{config: [{type: log, paths: ['/logs/${data.kubernetes.annotations.dir}/*.log'], \
             tags: ['${data.kubernetes.annotations.dir}']}]}]}",
        );
        let path = |dir: &str| inputs(&p, &json!({"dir": dir})).first().map(|i| i["paths"][0].clone());
        assert_eq!(path("a/b"), Some(json!("/logs/a/b/*.log")));
        let p = provider(
            "{type: kubernetes, templates: [{config: [{module: nginx, access: {var.paths: \
             ['/logs/${data.kubernetes.annotations.dir}/*.log']}}]}]}",
        );
        let in_module =
            |dir: &str| inputs(&p, &json!({"dir": dir})).first().map(|i| i["access"]["var"]["paths"][0].clone());
        assert_eq!(in_module("a/b"), Some(json!("/logs/a/b/*.log")));
        let p = provider(
            "{type: kubernetes, templates: [{config: [{type: docker, containers.ids: ['${data.kubernetes.annotations.dir}']}]}]}",
        );
        let in_id = |dir: &str| inputs(&p, &json!({"dir": dir})).first().map(|i| i["containers"]["ids"][0].clone());
        assert_eq!(in_id("a/b"), Some(json!("a/b")));
        for hostile in ["..", "../../etc", "a/../..", "*", "[a-z]", "{a,b}", "a\\b"] {
            assert_eq!((path(hostile), in_module(hostile), in_id(hostile)), (None, None, None), "{hostile}");
        }
    }

    #[test]
    fn what_isnt_there_is_refused() {
        for yaml in [
            "{type: docker, hints.enabled: true}",
            "{type: kubernetes}",
            "{type: kubernetes, hints.enabled: true, unique: true}",
            "{type: kubernetes, hints.enabled: true, resource: service}",
            "{type: kubernetes, templates: [{condition: {equal.a: 1}, config: [{type: log}]}]}",
        ] {
            let config = Config::from_yaml(&format!("filebeat.autodiscover.providers: [{yaml}]\n")).unwrap();
            assert!(providers(&config.root()).is_err(), "{yaml}");
        }
    }
}
