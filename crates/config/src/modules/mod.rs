//! `filebeat.modules`: what Filebeat's modules stand for, as inputs.
//!
//! Comes in: the expanded tree, in which modules are written as a user writes them. Goes out: the same tree, in which each
//! fileset that is on has a whole input below `input`, with the user's own options over it and the id of the ingest
//! pipeline that Filebeat gives it. From there on it is read as any other input. The filesets: [`table`].
//!
//! Always holds: what isn't here is a [`Value::Bad`] in its place, told when somebody asks for the inputs; a module that is
//! switched off isn't looked at. What the user wrote keeps its place; what he didn't stands at his fileset, else his module.
//! Why it is so: docs/decisions/modules.md. Tested in `tests/modules.rs`.

mod table;

use std::path::Path;

use pillion_world::Fs;
use serde_json::{Value as Json, json};
use table::{ELSEWHERE, FILESETS, Fileset, Zone};

use crate::compat::Compat;
use crate::config::Config;
use crate::error::Error;
use crate::source::At;
use crate::suggest::nearest;
use crate::tree::{Key, Map, Node, Value};

/// What a fileset reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Files.
    File,
    /// Files, and what processors make of Elasticsearch's audit log.
    Audit,
    /// Files, each line of which is JSON that goes to a place of its own.
    KibanaAudit,
    /// Syslog over UDP, or files with `var.input: file`.
    Syslog,
    /// Datagrams, or files with `var.input: file`.
    Pensando,
    /// A service that is asked.
    Service,
}

/// Filesets of one text: some words of it become a whole input each, and text may be much.
const MAX_FILESETS: usize = 1000;

/// The names that inputs of modules aren't below.
const OF_A_MODULE: &[&str] = &["module", "enabled", "path"];

/// What filesets need to know of this program.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// The version in the pipelines' ids.
    pub(crate) version: String,
    /// This machine's name up to its first dot; empty: not known.
    pub(crate) host: String,
}

/// The names of a module's filesets that read lines; none: the module isn't here.
pub fn filesets(module: &str) -> Vec<&'static str> {
    let reads = |fileset: &&Fileset| fileset.module == module && fileset.form != Form::Service;
    FILESETS.iter().filter(reads).map(|fileset| fileset.name).collect()
}

/// What is known for filesets: `pillion.modules.version`, else the version that events carry; this machine's name.
///
/// # Errors
/// What isn't a version.
pub(crate) fn about(config: &Config, fs: Option<&dyn Fs>) -> Result<About, Error> {
    let root = config.root();
    let version = match root.str("pillion.modules.version")? {
        None => config.agent_version().to_owned(),
        Some(version) if is_version(&version) => version,
        Some(_) => {
            let remedy = "give that of the Filebeat whose pipelines are in the cluster, such as 8.19.14";
            return Err(root.error("pillion.modules.version", "not a version", remedy));
        }
    };
    let name = fs.and_then(|fs| fs.read(Path::new("/proc/sys/kernel/hostname"), 1024).ok()).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let host = name.trim().split('.').next().unwrap_or_default().to_owned();
    Ok(About { version, host })
}

fn is_version(text: &str) -> bool {
    text.contains('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c))
}

impl Config {
    /// The version in the ids of modules' pipelines: `pillion.modules.version`, else that which events carry.
    pub fn modules_version(&self) -> &str {
        &self.modules.version
    }

    /// Expands the modules of its tree; 5.6's are refused as a whole.
    pub(crate) fn expand_modules(&mut self) {
        let (compat, about) = (self.compat, self.modules.clone());
        if compat == Compat::V5 {
            return;
        }
        let Some(list) = modules_of(&mut self.root) else { return };
        self.modules_written = Some(list.clone());
        let Value::List(items) = &mut list.value else { return };
        let (mut warnings, mut made) = (Vec::new(), 0);
        for (i, item) in items.iter_mut().enumerate() {
            let mut module =
                Module { path: format!("filebeat.modules.{i}"), compat, about: &about, warnings: Vec::new(), made };
            match module.expand(item) {
                Ok(()) => warnings.append(&mut module.warnings),
                Err(e) => item.value = Value::Bad(e),
            }
            made = module.made;
        }
        warnings.into_iter().for_each(|warning| self.push_warning(warning));
    }
}

/// Where modules stand.
pub(crate) fn modules_of(root: &mut Node) -> Option<&mut Node> {
    get_mut(get_mut(root, "filebeat")?, "modules")
}

fn get_mut<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    let Value::Map(map) = &mut node.value else { return None };
    map.entries.iter_mut().find(|(key, _)| key.name == name).map(|(_, node)| node)
}

/// One item of the list.
struct Module<'a> {
    path: String,
    compat: Compat,
    about: &'a About,
    warnings: Vec<Error>,
    /// How many inputs have been made, of all modules.
    made: usize,
}

impl Module<'_> {
    fn expand(&mut self, item: &mut Node) -> Result<(), Error> {
        // Nothing, a scalar: told by whoever asks for a list of sections.
        if !matches!(item.value, Value::Map(_)) || is_off(item) {
            return Ok(());
        }
        let name = self.name(item)?;
        let filesets: Vec<&Fileset> = FILESETS.iter().filter(|fileset| fileset.module == name).collect();
        let at = item.get("module").map_or_else(|| item.at.clone(), |node| node.at.clone());
        if filesets.is_empty() {
            return Err(Error::at(&at, &format!("{}.module", self.path), self.why_not(&name), self.instead(&name)));
        }
        let Value::Map(map) = &mut item.value else { return Ok(()) };
        self.check_names(map, &filesets)?;
        let mut any = false;
        for fileset in &filesets {
            let there = map.entries.iter_mut().find(|(key, _)| key.name == fileset.name);
            match there {
                Some((_, node)) if is_off(node) => {}
                Some((key, node)) => {
                    any = true;
                    let input = self.input(fileset, node, &key.at)?;
                    put(node, "input", input, &key.at);
                }
                // From 8 on a fileset is off that isn't named.
                None if self.compat == Compat::V7 => {
                    any = true;
                    let mut node = Node::new(Value::Null, &at);
                    let input = self.input(fileset, &node, &at)?;
                    put(&mut node, "input", input, &at);
                    map.entries.push((Key { name: fileset.name.to_owned(), at: at.clone() }, node));
                }
                None => {}
            }
        }
        if any || self.compat == Compat::V7 {
            return Ok(());
        }
        let names: Vec<String> = filesets.iter().map(|fileset| format!("`{}`", fileset.name)).collect();
        let first = filesets.first().map_or("", |fileset| fileset.name);
        let remedy = format!(
            "name one, such as `{first}.enabled: true`; there are {}; with `pillion.compat: 7` all are on \
             that aren't switched off",
            names.join(", ")
        );
        Err(Error::at(&at, &self.path, format!("no fileset of the module `{name}` is enabled"), remedy))
    }

    /// The module's name as it is now.
    fn name(&mut self, item: &Node) -> Result<String, Error> {
        let key = format!("{}.module", self.path);
        let name = match item.get("module").map(|node| &node.value) {
            Some(Value::Str(name)) if !name.is_empty() => name.clone(),
            Some(Value::Bad(e)) => return Err(e.clone()),
            _ => {
                let remedy = "begin it with its name, such as `- module: nginx`";
                return Err(Error::at(&item.at, &key, "it isn't said which module is meant", remedy));
            }
        };
        if name == "apache2" {
            let reason = "the module is called `apache` since Filebeat 7: its events and its pipelines say so, too";
            self.warnings.push(Error::at(&item.at, &key, reason, "write `apache`"));
            return Ok("apache".to_owned());
        }
        Ok(name)
    }

    fn why_not(&self, name: &str) -> String {
        if ELSEWHERE.contains(&name) {
            return format!("the module `{name}` isn't here: most of its filesets listen to devices or ask a service");
        }
        format!("there is no module `{name}` here")
    }

    fn instead(&self, name: &str) -> String {
        let mut names: Vec<&str> = FILESETS.iter().map(|fileset| fileset.module).collect();
        names.dedup();
        match nearest(name, names.iter().copied()) {
            Some(near) if !ELSEWHERE.contains(&name) => format!("did you mean `{near}`?"),
            _ => format!(
                "write its input below `filebeat.inputs`, with `pipeline: filebeat-{}-{name}-FILESET-pipeline` for a pipeline \
                 that Filebeat has set up; here are {}",
                self.about.version,
                names.join(", ")
            ),
        }
    }

    /// Refuses filesets that the module hasn't.
    fn check_names(&self, map: &Map, filesets: &[&Fileset]) -> Result<(), Error> {
        for (key, node) in &map.entries {
            let name = key.name.as_str();
            if OF_A_MODULE.contains(&name) || is_off(node) || filesets.iter().any(|fileset| fileset.name == name) {
                continue;
            }
            let names: Vec<String> = filesets.iter().map(|fileset| format!("`{}`", fileset.name)).collect();
            let remedy = match nearest(name, filesets.iter().map(|fileset| fileset.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}; for others write an input with its `pipeline`", names.join(", ")),
            };
            let reason = format!("the module has no fileset `{name}` here");
            return Err(Error::at(&key.at, &format!("{}.{name}", self.path), reason, remedy));
        }
        Ok(())
    }

    /// The whole input of a fileset.
    fn input(&mut self, fileset: &Fileset, node: &Node, at: &At) -> Result<Node, Error> {
        let key = format!("{}.{}", self.path, fileset.name);
        self.made += 1;
        if self.made > MAX_FILESETS {
            let reason = format!("there are more than {MAX_FILESETS} filesets");
            return Err(Error::at(
                at,
                &key,
                reason,
                "one fileset reads many files: `var.paths` takes a list of patterns",
            ));
        }
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            return Err(Error::at(at, &key, "a fileset is a section", "write `enabled`, `var` or `input` below it"));
        }
        let vars = Vars { node, at, path: format!("{key}.var"), fileset };
        let ours = self.options(fileset, &vars, at, &key)?;
        let ours = from_json(&ours, at);
        ours.take_all();
        let mut input = match node.get("input") {
            Some(Node { value: Value::Bad(e), .. }) => return Err(e.clone()),
            Some(theirs) if !theirs.is_null() => over(ours, theirs.clone(), ""),
            _ => ours,
        };
        for (name, value) in [("_module_name", fileset.module), ("_fileset_name", fileset.name)] {
            let node = Node::new(Value::Str(value.to_owned()), at);
            node.take();
            put(&mut input, name, node, at);
        }
        Ok(input)
    }

    /// The options that Filebeat's fileset has.
    fn options(&self, fileset: &Fileset, vars: &Vars<'_>, at: &At, key: &str) -> Result<Json, Error> {
        let mut input = serde_json::Map::new();
        let mut set = |name: &str, value: Json| drop(input.insert(name.to_owned(), value));
        match (fileset.form, vars.text("input")?.as_deref()) {
            (Form::Service, _) => {
                let reason = "this fileset asks the server for its slow log: there is no such input here";
                return Err(Error::at(at, key, reason, format!("set `{}.enabled: false`", fileset.name)));
            }
            (Form::Syslog, None | Some("syslog")) => {
                set("type", json!("syslog"));
                set("protocol", json!({"udp": {"host": vars.address("localhost")?}}));
            }
            (Form::Pensando, None | Some("syslog")) => {
                set("type", json!("udp"));
                set("host", json!(vars.address("0.0.0.0")?));
            }
            (_, None | Some("file")) => {
                set("type", json!("log"));
                set("paths", json!(vars.paths(self.about, at)?));
                let modern = if self.compat.is_modern() { fileset.exclude_files_8 } else { &[] };
                let excluded: Vec<&str> = [".gz$"].iter().chain(fileset.exclude_files).chain(modern).copied().collect();
                set("exclude_files", json!(excluded));
                if self.compat == Compat::V9 {
                    set("allow_deprecated_use", json!(true));
                }
            }
            (_, Some(other)) => {
                let reason = format!("`{other}` is no kind of input that this fileset has");
                return Err(vars.error("input", reason, "write `file`, or leave it out"));
            }
        }
        vars.refuse_journal()?;
        if !fileset.exclude_lines.is_empty() {
            set("exclude_lines", json!(fileset.exclude_lines));
        }
        if let Some((pattern, negate)) = fileset.multiline {
            set("multiline", json!({"pattern": pattern, "negate": negate, "match": "after"}));
        }
        let kibana = fileset.module == "kibana" && self.compat.is_modern();
        let options = if kibana { table::JSON_BELOW } else { fileset.json };
        if !options.is_empty() {
            set("json", options.iter().map(|(name, on)| ((*name).to_owned(), json!(on))).collect());
        }
        if let Some(tags) = vars.texts("tags")? {
            set("publisher_pipeline", json!({"disable_host": tags.iter().any(|tag| tag == "forwarded")}));
            set("tags", json!(tags));
        }
        set("processors", Json::Array(processors(fileset, kibana)));
        set("pipeline", json!(self.pipeline(fileset)));
        Ok(Json::Object(input))
    }

    /// The id that Filebeat gives the pipeline where a fileset's events enter.
    fn pipeline(&self, fileset: &Fileset) -> String {
        let version = &self.about.version;
        let renamed = fileset.entrypoint.is_some_and(|since| numbers(version) >= since);
        let entry = if renamed { "entrypoint" } else { "pipeline" };
        format!("filebeat-{version}-{}-{}-{entry}", fileset.module, fileset.name)
    }
}

/// Major and minor number of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The processors of a fileset's input; `json_says`: lines in JSON may say themselves which ECS they follow (Kibana's since 8).
fn processors(fileset: &Fileset, json_says: bool) -> Vec<Json> {
    let mut list = match fileset.zone {
        Zone::None => Vec::new(),
        Zone::All => vec![json!({"add_locale": {}})],
        Zone::Plain => vec![json!({"add_locale": {"when": {"not": {"regexp": {"message": "^\\{"}}}}})],
    };
    if fileset.ecs {
        let mut add = json!({"target": "", "fields": {"ecs": {"version": "1.12.0"}}});
        if json_says {
            let lacks = |path: &str| json!({"not": {"has_fields": [path]}});
            add["when"] = json!({"and": [lacks("ecs.version"), lacks("json.ecs.version")]});
        }
        list.push(json!({ "add_fields": add }));
    }
    match fileset.form {
        Form::KibanaAudit if !json_says => {
            list.push(json!({"decode_json_fields": {"fields": ["message"], "target": "kibana._audit_temp"}}));
        }
        Form::Audit => list.extend(of_audit()),
        _ => {}
    }
    list
}

/// What the body of an audited request is. Filebeat looks for it with a script in lines that aren't JSON, too: those of
/// Elasticsearch 6 and before.
fn of_audit() -> [Json; 3] {
    [
        json!({"if": {"regexp": {"message": "^\\{"}}, "then": [
            {"decode_json_fields": {"fields": ["message"], "target": "_json"}},
            {"rename": {"fields": [{"from": "_json.request.body", "to": "_request"}], "ignore_missing": true}},
            {"drop_fields": {"fields": ["_json"]}},
        ]}),
        json!({"detect_mime_type": {"field": "_request", "target": "http.request.mime_type"}}),
        json!({"drop_fields": {"fields": ["_request"], "ignore_missing": true}}),
    ]
}

/// `var` of a fileset.
struct Vars<'a> {
    /// The fileset.
    node: &'a Node,
    at: &'a At,
    path: String,
    fileset: &'a Fileset,
}

impl Vars<'_> {
    /// A variable that is set, taken.
    fn get(&self, name: &str) -> Result<Option<&Node>, Error> {
        if name != "paths" && !self.fileset.vars.contains(&name) {
            return Ok(None);
        }
        let Some(var) = self.node.get("var") else { return Ok(None) };
        var.take();
        match var.get(name) {
            Some(Node { value: Value::Bad(e), .. }) => Err(e.clone()),
            Some(node) => {
                node.take_all();
                Ok(Some(node).filter(|node| !node.is_null()))
            }
            None => Ok(None),
        }
    }

    fn error(&self, name: &str, reason: impl Into<String>, remedy: &str) -> Error {
        let at = self.node.get(&format!("var.{name}")).map_or(self.at, |node| &node.at);
        Error::at(at, &format!("{}.{name}", self.path), reason, remedy)
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.get(name)? {
            None => Ok(None),
            Some(node) => scalar(node).map(Some).ok_or_else(|| self.error(name, "not a text", "give a text")),
        }
    }

    /// A list, or one text as a list of one.
    fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let Some(node) = self.get(name)? else { return Ok(None) };
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if let Some(Value::Bad(e)) = items.iter().map(|item| &item.value).find(|value| matches!(value, Value::Bad(_))) {
            return Err(e.clone());
        }
        let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
        texts.map(Some).ok_or_else(|| self.error(name, "not a list of texts", "write `[one, two]`"))
    }

    /// `paths`, else where the files lie.
    fn paths(&self, about: &About, at: &At) -> Result<Vec<String>, Error> {
        if let Some(paths) = self.texts("paths")?.filter(|paths| !paths.is_empty()) {
            return Ok(paths);
        }
        let home = self.text("kafka_home")?.unwrap_or_else(|| "/opt/kafka*".to_owned());
        let filled = |path: &&str| path.replace("{kafka_home}", &home).replace("{hostname}", &about.host);
        let known = |path: &&&str| !about.host.is_empty() || !path.contains("{hostname}");
        let paths: Vec<String> = self.fileset.paths.iter().filter(known).map(filled).collect();
        // The user's own may stand at the input, where the reader looks for them.
        if paths.is_empty() && self.node.get("input.paths").is_none() {
            let reason = "the fileset has no files of its own on Linux";
            return Err(Error::at(
                at,
                &format!("{}.paths", self.path),
                reason,
                "give them: `var.paths: [/logs/*.log]`",
            ));
        }
        Ok(paths)
    }

    /// Where to listen.
    fn address(&self, host: &str) -> Result<String, Error> {
        let host = self.text("syslog_host")?.unwrap_or_else(|| host.to_owned());
        let port = self.text("syslog_port")?.unwrap_or_else(|| "9001".to_owned());
        // An address of IPv6 has colons itself.
        Ok(if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        })
    }

    fn refuse_journal(&self) -> Result<(), Error> {
        match self.get("use_journald")? {
            Some(node) if scalar(node).is_some_and(|text| text == "true") => Err(self.error(
                "use_journald",
                "the journal of systemd isn't read here",
                "set it to false where the files are there too, or leave this fileset to Filebeat",
            )),
            _ => Ok(()),
        }
    }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Str(text) => Some(text.clone()),
        Value::Int(n) => Some(n.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    }
}

/// Switched off in so many words.
fn is_off(node: &Node) -> bool {
    match node.get("enabled").map(|on| &on.value) {
        Some(Value::Bool(on)) => !on,
        Some(Value::Str(text)) => matches!(text.as_str(), "0" | "f" | "F" | "false" | "FALSE" | "False"),
        _ => false,
    }
}

/// Puts a value below a node that is a mapping or nothing.
fn put(node: &mut Node, name: &str, value: Node, at: &At) {
    if node.is_null() {
        node.value = Value::Map(Map::default());
    }
    let Value::Map(map) = &mut node.value else { return };
    map.entries.retain(|(key, _)| key.name != name);
    map.entries.push((Key { name: name.to_owned(), at: at.clone() }, value));
}

/// The user's options over the fileset's, by Filebeat's rule: mappings key by key, lists place by place, but `paths` as a
/// whole, and `processors` behind those that are there. His nodes stay, so that nothing of his is passed over.
fn over(ours: Node, mut theirs: Node, name: &str) -> Node {
    match (ours.value, &mut theirs.value) {
        (value @ (Value::Map(_) | Value::List(_)), Value::Null) => theirs.value = value,
        (Value::Map(ours), Value::Map(map)) => {
            for (key, node) in ours.entries {
                match map.entries.iter().position(|(k, _)| k.name == key.name) {
                    None => map.entries.push((key, node)),
                    Some(at) => {
                        let (their_key, old) = map.entries.swap_remove(at);
                        let merged = over(node, old, &key.name);
                        map.entries.push((their_key, merged));
                    }
                }
            }
        }
        (Value::List(_), Value::List(items)) if name == "paths" && !items.is_empty() => {}
        (Value::List(mut ours), Value::List(items)) if name == "processors" => {
            ours.append(items);
            *items = ours;
        }
        (Value::List(ours), Value::List(items)) => {
            let mut rest = ours.into_iter();
            for item in items.iter_mut() {
                let Some(node) = rest.next() else { break };
                *item = over(node, item.clone(), "");
            }
            items.extend(rest);
        }
        _ => {}
    }
    theirs
}

/// A tree of what isn't written anywhere.
fn from_json(json: &Json, at: &At) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(on) => Value::Bool(*on),
        Json::Number(n) => Value::Int(n.as_i64().unwrap_or_default().into()),
        Json::String(text) => Value::Str(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(|item| from_json(item, at)).collect()),
        Json::Object(members) => {
            let entry =
                |(name, json): (&String, &Json)| (Key { name: name.clone(), at: at.clone() }, from_json(json, at));
            Value::Map(Map { entries: members.iter().map(entry).collect() })
        }
    };
    Node::new(value, at)
}
