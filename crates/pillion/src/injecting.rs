//! `pillion inject`: from flags to manifests with Pillion in them.
//!
//! Comes in: files or standard input, settings. Goes out: the text, its difference, or the exit code alone.
//!
//! Always holds: when one object can't be injected, nothing is written at all.
//! Tested in `tests/inject.rs`.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pillion_kube::inject::{ConfigSource, Options};
use pillion_kube::yaml::{Fault, MAX_TEXT};
use pillion_kube::{diff, manifest};
use pillion_world::World;

use crate::cli::Inject;
use crate::{BAD_CONFIGURATION, complain, say};

/// What `--check` ends with when something would change.
const WOULD_CHANGE: u8 = 1;

/// Most bytes of a ConfigMap (Kubernetes' own limit).
const MAX_CONFIG: usize = 1 << 20;

pub(crate) fn inject(flags: &Inject) -> u8 {
    match run(flags) {
        Ok(code) => code,
        Err(Problem::Bad(texts)) => {
            texts.iter().for_each(|text| complain(&format!("error: {text}\n")));
            BAD_CONFIGURATION
        }
        Err(Problem::Failed(text)) => {
            complain(&format!("error: {text}"));
            crate::work::FAILURE
        }
    }
}

enum Problem {
    /// The user's input: exit code 2.
    Bad(Vec<String>),
    /// The machine: exit code 1.
    Failed(String),
}

impl Problem {
    fn bad(reason: &str, remedy: &str) -> Problem {
        Problem::Bad(vec![format!("{reason}\nremedy: {remedy}")])
    }
}

fn run(flags: &Inject) -> Result<u8, Problem> {
    let world = World::real();
    let options = options(flags, &world)?;
    let mut faults = Vec::new();
    let mut done = Vec::new();
    for file in &flags.files {
        let name = name_of(file);
        let before = read(&world, file)?;
        match manifest::inject(&before, &options) {
            Ok(after) => done.push((name, before, after)),
            Err(found) => faults.extend(found.iter().map(|fault| told(&name, &before, fault))),
        }
    }
    if !faults.is_empty() {
        return Err(Problem::Bad(faults));
    }
    for (name, _, after) in &done {
        after.notes.iter().for_each(|note| complain(&format!("{name}: {note}")));
    }
    let changed = done.iter().any(|(_, before, after)| *before != after.text);
    if flags.diff {
        for (name, before, after) in &done {
            say(&diff::unified(name, before, &after.text));
        }
    } else if !flags.check {
        let texts: Vec<&str> = done.iter().map(|(.., after)| after.text.as_str()).collect();
        write(&world, flags.output.as_deref(), &joined(&texts))?;
    }
    Ok(if flags.check && changed { WOULD_CHANGE } else { 0 })
}

/// Several files as one stream.
fn joined(texts: &[&str]) -> String {
    let mut out = String::new();
    for text in texts {
        if !out.is_empty() {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            if !text.starts_with("---") {
                out.push_str("---\n");
            }
        }
        out.push_str(text);
    }
    out
}

fn name_of(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

/// A fault with its file, its line of the text, and the remedy.
fn told(name: &str, text: &str, fault: &Fault) -> String {
    if fault.line == 0 {
        return format!("{name}: {}\nremedy: {}", fault.reason, fault.remedy);
    }
    let line = text.lines().nth(fault.line - 1).unwrap_or_default();
    let shown: String = line.chars().take(160).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let (number, column) = (fault.line.to_string(), fault.column.min(160));
    let blank = " ".repeat(number.len());
    let caret = format!("{}^", " ".repeat(column.saturating_sub(1)));
    format!(
        "{name}:{number}:{}: {}\n {number} | {shown}\n {blank} | {caret}\nremedy: {}",
        fault.column, fault.reason, fault.remedy
    )
}

fn options(flags: &Inject, world: &World) -> Result<Options, Problem> {
    let mut options = Options::default();
    if let Some(file) = &flags.config {
        options.config = ConfigSource::Text(config(world, file)?);
    }
    let mut settings = flags.settings.clone();
    match flags.kube_version.as_deref() {
        Some("cluster") => settings.push(("kube_version".into(), cluster_version()?)),
        Some(version) => settings.push(("kube_version".into(), version.to_owned())),
        None => {}
    }
    if let Some(name) = &flags.config_map {
        settings.push(("config".into(), name.clone()));
    }
    for (name, text) in &settings {
        options.set(name, text).map_err(|reason| {
            Problem::bad(&format!("{name}={text}: {reason}"), "see `pillion help inject` for what can be set")
        })?;
    }
    Ok(options)
}

fn config(world: &World, file: &Path) -> Result<String, Problem> {
    let bytes = world.fs.read(file, MAX_CONFIG + 1);
    let bytes =
        bytes.map_err(|e| Problem::bad(&format!("{}: {e}", file.display()), "check the name given to --config"))?;
    if bytes.len() > MAX_CONFIG {
        let reason = format!("{}: longer than the 1 MiB that a ConfigMap may have", file.display());
        return Err(Problem::bad(&reason, "give a filebeat.yml"));
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| Problem::bad(&format!("{}: not UTF-8", file.display()), "give a filebeat.yml"))
}

fn read(world: &World, file: &Path) -> Result<String, Problem> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let limit = MAX_TEXT as u64 + 1;
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map(|_| bytes)
    } else {
        world.fs.read(file, MAX_TEXT + 1)
    };
    let name = name_of(file);
    let bytes = bytes.map_err(|e| Problem::bad(&format!("{name}: {e}"), "check the name given to -f"))?;
    if bytes.len() > MAX_TEXT {
        let reason = format!("{name}: longer than {} MiB", MAX_TEXT >> 20);
        return Err(Problem::bad(&reason, "give fewer documents at once"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let reason = format!("{name}: not UTF-8, at byte {}", e.utf8_error().valid_up_to());
        Problem::bad(&reason, "save it as UTF-8")
    })
}

fn write(world: &World, file: Option<&Path>, text: &str) -> Result<(), Problem> {
    match file.filter(|file| *file != Path::new("-")) {
        None => {
            say(text);
            Ok(())
        }
        Some(file) => {
            let mode = world.fs.stat(file, true).map_or(0o644, |meta| meta.mode & 0o777);
            let target: PathBuf = file.to_owned();
            let done = world.fs.replace(&target, text.as_bytes(), mode);
            done.map_err(|e| Problem::Failed(format!("{}: {e}", file.display())))
        }
    }
}

/// What the cluster says that kubectl talks to.
fn cluster_version() -> Result<String, Problem> {
    let failed = |why: &str| {
        Problem::Failed(format!("the cluster can't be asked for its version: {why}; say it with --kube-version 1.34"))
    };
    let output = Command::new("kubectl").args(["version", "-o", "json", "--request-timeout=10s"]).output();
    let output = output.map_err(|e| failed(&format!("kubectl: {e}")))?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer.pointer("/serverVersion/gitVersion").and_then(serde_json::Value::as_str) {
        Some(version) => Ok(version.to_owned()),
        None => Err(failed(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no answer"))),
    }
}
