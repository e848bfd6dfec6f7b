//! add_process_metadata: what is known of the process whose number an event names.
//!
//! Comes in: the options, then events. Goes out: `process.*` and `container.id` of the first process that is found.
//!
//! Always holds: nothing is asked but `/proc`; what is known of a process is kept for half a minute by the events' read
//! times, of at most 1,024 processes. An event that is sent again may find that its process has ended.
//! Tested below.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pillion_config::{Error, Section};
use pillion_world::{UnixMillis, World, names, rfc3339};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::action::{self, Action, Done};
use crate::doc::Doc;
use crate::generations::Generations;
use crate::tree;

/// The options, by their first names.
pub(crate) const OPTIONS: &[&str] = &[
    "match_pids",
    "target",
    "include_fields",
    "ignore_missing",
    "overwrite_keys",
    "restricted_fields",
    "host_path",
    "cgroup_prefixes",
    "cgroup_regex",
    "cgroup_cache_expire_time",
];

/// What can be asked for.
const PROCESS: [&str; 8] = [
    "process.args",
    "process.executable",
    "process.name",
    "process.parent.pid",
    "process.pid",
    "process.ppid",
    "process.start_time",
    "process.title",
];
/// Since 8.
const OWNER: [&str; 2] = ["process.owner.id", "process.owner.name"];
const RESTRICTED: &str = "process.env";
const CONTAINER: &str = "container.id";

/// A file below `/proc` larger than this isn't taken; bytes.
const FILE: usize = 256 << 10;
/// How long what is known of a process holds, ms.
const KEPT_MS: i64 = 30_000;
/// Of how many processes.
const KEPT: usize = 1024;
/// Ticks of `/proc/PID/stat` in a second: the kernel's `USER_HZ`, the same on every architecture that Linux runs on today.
const TICKS: u64 = 100;

#[derive(Debug)]
struct AddProcessMetadata {
    pids: Vec<String>,
    /// Where an event gets what, by the target's alphabet.
    mappings: Vec<(String, &'static str)>,
    ignore_missing: bool,
    overwrite: bool,
    cgroups: Cgroups,
    /// Empty: there is no such process.
    known: Mutex<Generations<u32, Map<String, Value>>>,
}

/// How a container's id is found in the names of control groups.
#[derive(Debug)]
struct Cgroups {
    host: PathBuf,
    prefixes: Vec<String>,
    regex: Option<Regex>,
}

impl Action for AddProcessMetadata {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let named = self.pids.iter().find_map(|field| Some((field, doc.get(field).ok()?.to_value())));
        let Some((field, value)) = named else {
            let none = "none of the fields in match_pids found in the event";
            return if self.ignore_missing { Ok(Done::Keep) } else { Err(none.to_owned()) };
        };
        let failed = |why: String| format!("error applying add_process_metadata processor: {why}");
        let pid = number(&value).map_err(|why| failed(format!("cannot parse pid field '{field}': {why}")))?;
        let known = self.process(pid, doc.read_ms());
        if known.is_empty() {
            return Err("process not found".to_owned());
        }
        if !self.overwrite
            && let Some((there, _)) = self.mappings.iter().find(|(target, _)| doc.get(target).is_ok())
        {
            return Err(failed(format!("target field '{there}' already exists and overwrite_keys is false")));
        }
        for (target, source) in &self.mappings {
            if let Ok(value) = tree::get(&known, source) {
                doc.put(target, value.clone()).map_err(failed)?;
            }
        }
        Ok(Done::Keep)
    }
}

impl AddProcessMetadata {
    fn process(&self, pid: u32, now_ms: i64) -> Map<String, Value> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&pid, now_ms) {
            return known.clone();
        }
        let world = World::real();
        let mut found = facts(&world, pid, self.asks(RESTRICTED)).unwrap_or_default();
        if self.asks(CONTAINER)
            && let Some(id) = self.cgroups.container(&world, pid)
        {
            found.insert("container".to_owned(), json!({"id": id}));
        }
        all.put(pid, found.clone(), now_ms.saturating_add(KEPT_MS));
        found
    }

    fn asks(&self, what: &str) -> bool {
        self.mappings.iter().any(|(_, source)| *source == what)
    }
}

fn number(value: &Value) -> Result<u32, String> {
    match value {
        Value::String(text) => text.parse().map_err(|_| format!("error converting string to integer: {text:?}")),
        Value::Number(n) => {
            n.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| format!("integer out of range: {n}"))
        }
        other => Err(format!("not an integer or string, but {}", pillion_event::go_type(other))),
    }
}

/// What `/proc` has of a process; `None` when there is none.
fn facts(world: &World, pid: u32, env: bool) -> Option<Map<String, Value>> {
    let of = |file: &str| world.fs.read(&PathBuf::from(format!("/proc/{pid}/{file}")), FILE);
    let stat = of("stat").ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name may have brackets and blanks of its own: it ends at the last one.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let mut after = after.split_ascii_whitespace();
    let parent: u32 = after.nth(1)?.parse().ok()?;
    let started: u64 = after.nth(17)?.parse().ok()?;
    let args = strings(&of("cmdline").unwrap_or_default());
    let mut process = json!({
        "name": name, "title": args.join(" "), "args": args, "pid": pid, "ppid": parent, "parent": {"pid": parent},
    });
    if let Some(boot) = boot_s(world) {
        let at = (boot * 1000).saturating_add(started.saturating_mul(1000) / TICKS);
        process["start_time"] = rfc3339(UnixMillis(i64::try_from(at).ok()?)).into();
    }
    if let Ok(path) = world.fs.read_link(&PathBuf::from(format!("/proc/{pid}/exe"))) {
        process["executable"] = path.to_string_lossy().into();
    }
    if let Some(user) = owner(&of("status").unwrap_or_default()) {
        process["owner"] = json!({"id": user.to_string()});
        if let Some(name) = names::user(world, user) {
            process["owner"]["name"] = name.into();
        }
    }
    if env {
        let pairs = strings(&of("environ").unwrap_or_default());
        let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
        process["env"] = pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    }
    Some([("process".to_owned(), process)].into_iter().collect())
}

/// Texts that end with a zero each.
fn strings(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|b| *b == 0).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// The effective user of `/proc/PID/status`.
fn owner(status: &[u8]) -> Option<u32> {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// When the machine began, seconds since 1970.
fn boot_s(world: &World) -> Option<u64> {
    let stat = world.fs.read(&PathBuf::from("/proc/stat"), FILE).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

impl Cgroups {
    fn container(&self, world: &World, pid: u32) -> Option<String> {
        let path = self.host.join(format!("proc/{pid}/cgroup"));
        let groups = world.fs.read(&path, FILE).ok()?;
        String::from_utf8_lossy(&groups).lines().find_map(|line| self.id(line))
    }

    /// The id in a line `HIERARCHY:CONTROLLERS:PATH`; the unified hierarchy has no controllers.
    fn id(&self, line: &str) -> Option<String> {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        if let Some(regex) = &self.regex {
            return Some(regex.captures(path)?.get(1)?.as_str().to_owned());
        }
        if controllers.is_empty() {
            return long_word(path).map(str::to_owned);
        }
        let fits = self.prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()));
        fits.then(|| path.rsplit('/').next().unwrap_or(path).to_owned()).filter(|id| !id.is_empty())
    }
}

/// The first 64 word characters in a row: a container's id, wherever it stands.
pub(crate) fn long_word(text: &str) -> Option<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).find_map(|run| run.get(..64))
}

pub(crate) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    s.duration("cgroup_cache_expire_time")?;
    let or = |list: Vec<String>, default: &[&str]| {
        if list.is_empty() { default.iter().map(|&name| name.to_owned()).collect() } else { list }
    };
    let regex = match s.str("cgroup_regex")?.filter(|regex| !regex.is_empty()) {
        None => None,
        Some(text) => Some(container_regex(s, &text)?),
    };
    Ok(Box::new(AddProcessMetadata {
        pids: or(
            s.strings("match_pids")?,
            &["process.pid", "process.ppid", "process.parent.pid", "process.parent.ppid"],
        ),
        mappings: mappings(s)?,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(true),
        overwrite: s.bool("overwrite_keys")?.unwrap_or(false),
        cgroups: Cgroups {
            host: s.str("host_path")?.unwrap_or_else(|| "/".to_owned()).into(),
            prefixes: or(s.strings("cgroup_prefixes")?, &["/kubepods", "/docker"]),
            regex,
        },
        known: Mutex::new(Generations::new(KEPT)),
    }))
}

fn container_regex(s: &Section<'_>, text: &str) -> Result<Regex, Error> {
    let key = "cgroup_regex";
    let regex = action::regex(s, key, text)?;
    if regex.captures_len() < 2 {
        return Err(s.error(
            key,
            "the expression has no group",
            "put the container's id into brackets: `([0-9a-f]{64})`",
        ));
    }
    Ok(regex)
}

fn mappings(s: &Section<'_>) -> Result<Vec<(String, &'static str)>, Error> {
    let mut valid: Vec<&'static str> = PROCESS.to_vec();
    valid.push(CONTAINER);
    if s.compat().is_modern() {
        valid.extend(OWNER);
    }
    if s.bool("restricted_fields")?.unwrap_or(false) {
        valid.push(RESTRICTED);
    }
    let prefix = s.str("target")?.filter(|target| !target.is_empty()).map_or_else(String::new, |t| format!("{t}."));
    let mut wanted = s.strings("include_fields")?;
    if wanted.is_empty() {
        wanted = vec!["process".to_owned(), "container".to_owned()];
    }
    let mut all = Vec::new();
    for want in &wanted {
        let below = format!("{want}.");
        let before = all.len();
        let fits = valid.iter().filter(|name| *name == want || name.starts_with(&below));
        all.extend(fits.map(|name| (format!("{prefix}{name}"), *name)));
        if all.len() == before {
            let what = format!("there is no field `{want}` of a process");
            return Err(s.error("include_fields", what, format!("the fields are {}", valid.join(", "))));
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{config, processed};

    #[test]
    fn the_process_is_found_by_its_number() {
        let pid = std::process::id();
        let got = processed(
            "[{add_process_metadata: {match_pids: [pid], restricted_fields: true, target: of}}]",
            json!({"message": "m", "pid": pid}),
        );
        let process = &got["of"]["process"];
        let args: Vec<String> = std::env::args().collect();
        assert_eq!((&process["pid"], &process["args"]), (&json!(pid), &json!(args)));
        assert_eq!(process["title"], json!(args.join(" ")));
        let parent = std::os::unix::process::parent_id();
        assert_eq!((&process["ppid"], &process["parent"]["pid"]), (&json!(parent), &json!(parent)));
        assert_eq!(process["executable"], json!(std::env::current_exe().unwrap()));
        assert!(process["env"].is_object() && process["start_time"].as_str().is_some_and(|t| t.starts_with("20")));
        let text = processed("[{add_process_metadata: {match_pids: [a, pid]}}]", json!({"pid": pid.to_string()}));
        assert_eq!((&text["process"]["pid"], text["process"].get("env")), (&json!(pid), None));
    }

    #[test]
    fn what_fails_leaves_the_event_as_it_is() {
        for (options, event) in [
            ("", json!({"message": "no number"})),
            ("ignore_missing: false", json!({"message": "no number"})),
            ("match_pids: [pid]", json!({"message": "odd", "pid": "x1"})),
            ("match_pids: [pid]", json!({"message": "odd", "pid": [1]})),
            ("match_pids: [pid]", json!({"message": "none has it", "pid": 4_194_305})),
            ("", json!({"message": "its own field is in the way", "process": {"pid": std::process::id()}})),
        ] {
            assert_eq!(processed(&format!("[{{add_process_metadata: {{{options}}}}}]"), event.clone()), event);
        }
    }

    #[test]
    fn a_containers_id_is_in_the_name_of_a_control_group() {
        let id = "2bb9fd4de339e5d4f094e78bb87636004acfe53f5668104addc761fe4a93588e";
        let plain = Cgroups { host: "/".into(), prefixes: vec!["/kubepods".into(), "/docker".into()], regex: None };
        for (line, want) in [
            (format!("4:memory:/kubepods/besteffort/pod9b9e/{id}"), Some(id)),
            (format!("0::/kubepods.slice/kubepods-pod1f30.slice/crio-{id}.scope"), Some(id)),
            (format!("4:memory:/system.slice/{id}"), None),
            ("4:memory:/docker/".to_owned(), None),
            ("0::/".to_owned(), None),
            ("no line".to_owned(), None),
        ] {
            assert_eq!(plain.id(&line).as_deref(), want, "{line}");
        }
        let own = Cgroups { regex: Some(Regex::new("pod-([a-z]+)").unwrap()), ..plain };
        assert_eq!(own.id("0::/x/pod-abc").as_deref(), Some("abc"));
    }

    #[test]
    fn options_that_are_wrong() {
        for (options, want) in [
            ("include_fields: [process.nme]", "no field `process.nme`"),
            ("include_fields: [process.env]", "no field `process.env`"),
            ("cgroup_regex: '['", "not a regular expression"),
            ("cgroup_regex: abc", "no group"),
        ] {
            let config = config(&format!("add_process_metadata: {{{options}}}"));
            let section = config.root().named_sections().unwrap().pop().unwrap().1;
            assert!(read(&section).is_err_and(|e| e.to_string().contains(want)), "{options}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let config = config("add_process_metadata: {include_fields: [process.pid]}");
        let section = config.root().named_sections().unwrap().pop().unwrap().1;
        let processor = AddProcessMetadata {
            pids: Vec::new(),
            mappings: mappings(&section).unwrap(),
            ignore_missing: true,
            overwrite: false,
            cgroups: Cgroups { host: "/".into(), prefixes: Vec::new(), regex: None },
            known: Mutex::new(Generations::new(KEPT)),
        };
        for pid in 0..3000 {
            processor.process(pid + 4_194_305, 0);
        }
        assert!(processor.known.lock().unwrap().len() <= KEPT);
    }
}
