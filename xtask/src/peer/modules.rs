//! Filebeat's modules for both: the lines that each fileset of the real one is tested with, and their events field by field.
//!
//! Comes in: the folder of modules that belongs to the real Filebeat, from its Go module. Goes out: what was compared.
//! Always holds: every fileset of that folder is in, unless it is in [`WITHOUT`]; a difference fails unless it is in
//! [`MEANT`], and one that is no longer seen fails too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::compare::{Flat, by_case, by_place, differences};
use super::differential::{filebeat_at, now, text, written};
use super::{Pair, Version, pillion_once};
use crate::child::run;
use crate::shipper::Place;
use crate::{Outcome, root};

/// Filesets that read no files; that of 9 which is a filestream with an index of its own.
const WITHOUT: &[&str] = &["redis-slowlog", "elasticsearch-querylog"];

/// Fileset, field, reason.
const MEANT: &[(&str, &str, &str)] = &[(
    "elasticsearch-audit",
    "http.request.mime_type",
    "Filebeat finds it with a script in lines that aren't JSON, too",
)];

/// A fileset: its name, its module's, and the files that it is tested with.
struct Fileset {
    module: String,
    name: String,
    files: Vec<PathBuf>,
}

impl Fileset {
    fn case(&self) -> String {
        format!("{}-{}", self.module, self.name)
    }
}

pub(super) fn compare(pair: &Pair) -> Outcome<String> {
    let (files, theirs, ours) = (Place::new()?, Place::new()?, Place::new()?);
    let folder = folder(pair.version, &theirs)?;
    let filesets = filesets(&folder)?;
    symlink(&folder, theirs.home().join("module")).map_err(|e| e.to_string())?;
    let config = configuration(&files.logs(), &filesets)?;
    let begin = now(&files)?;
    let outcome = (|| {
        let to = "output.file: {path: '${path.home}/out', filename: events, rotate_every_kb: 100000}\n";
        let events = |place: &Place| written(&place.home().join("out"));
        ours.configure(&(config.clone() + to))?;
        pillion_once(pair, &ours, &[])?;
        let pillion = by_case(&events(&ours), &text(&files.logs()), &begin)?;
        theirs.configure(&(config + to))?;
        filebeat_at(pair, &theirs, &|| events(&theirs), pillion.values().map(Vec::len).sum())?;
        let mut filebeat = by_case(&events(&theirs), &text(&files.logs()), &begin)?;
        filebeat.values_mut().for_each(|events| by_place(events));
        verdict(&filesets, &filebeat, &pillion)
    })();
    outcome.map_err(|why| {
        let kept = [files, theirs, ours].map(|p| text(&p.keep()));
        format!("{why}\n    files, Filebeat's and Pillion's place: {}", kept.join(", "))
    })
}

/// The modules that belong to a Filebeat. Go writes beside the file that says which one that is.
fn folder(version: Version, place: &Place) -> Outcome<PathBuf> {
    let program = if version == Version::Nine { "filebeat9" } else { "filebeat" };
    let (source, copy) = (root().join("e2e").join(program), place.folder().join("go.mod"));
    fs::copy(source.join("go.mod"), &copy).map_err(|e| e.to_string())?;
    let mut go = Command::new("go");
    go.current_dir(source).args(["list", "-mod=mod", "-m", "-f", "{{.Dir}}", "-modfile"]).arg(copy);
    let beats = run(go.arg("github.com/elastic/beats/v7"))?;
    Ok(Path::new(beats.trim()).join("filebeat/module"))
}

fn filesets(folder: &Path) -> Outcome<Vec<Fileset>> {
    let mut all = Vec::new();
    for module in below(folder)? {
        for fileset in below(&module)?.into_iter().filter(|path| path.join("manifest.yml").is_file()) {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_input = |path: &PathBuf| !text(path).ends_with("-expected.json") && path.is_file();
            let files = below(&fileset.join("test"))?.into_iter().filter(is_input).collect();
            let one = Fileset { module: name(&module), name: name(&fileset), files };
            if !WITHOUT.contains(&one.case().as_str()) {
                all.push(one);
            }
        }
    }
    Ok(all)
}

/// What lies in a folder, in order; nothing when it isn't there or is none.
fn below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let paths: Result<BTreeSet<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(paths.map_err(|e| format!("{}: {e}", folder.display()))?.into_iter().collect())
}

/// Copies the files, and writes what reads them; `system/auth` has further options, to see that they arrive.
fn configuration(logs: &Path, filesets: &[Fileset]) -> Outcome<String> {
    let mut modules: BTreeMap<&str, String> = BTreeMap::new();
    for fileset in filesets {
        let folder = logs.join(fileset.case());
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        for file in &fileset.files {
            let mut bytes = fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
            if !bytes.is_empty() && !bytes.ends_with(b"\n") {
                bytes.push(b'\n');
            }
            let to = folder.join(file.file_name().unwrap_or_default());
            fs::write(&to, bytes).map_err(|e| format!("{}: {e}", to.display()))?;
        }
        let more = match fileset.case().as_str() {
            "haproxy-log" | "pensando-dfw" => "    var.input: file\n",
            "system-auth" => {
                "    var.tags: [forwarded, here]\n    input.processors: [{drop_fields: {fields: [event.module]}}]\n    \
                 input.multiline.negate: false\n    input.fields: {event: {kind: x}}\n    input.fields_under_root: true\n"
            }
            _ => "",
        };
        let text = modules.entry(&fileset.module).or_insert_with(|| format!("- module: {}\n", fileset.module));
        let _ = write!(
            text,
            "  {}:\n    enabled: true\n    var.paths: ['{}/*']\n    input.close_eof: true\n{more}",
            fileset.name,
            folder.display()
        );
        if fileset.case() == "redis-log" {
            text.push_str("  slowlog.enabled: false\n");
        }
    }
    let list: String = modules.into_values().collect();
    Ok(format!("filebeat.modules:\n{list}queue.mem: {{events: 4096, flush.min_events: 1, flush.timeout: 0s}}\n"))
}

fn verdict(
    filesets: &[Fileset],
    filebeat: &BTreeMap<String, Vec<Flat>>,
    pillion: &BTreeMap<String, Vec<Flat>>,
) -> Outcome<String> {
    let none = Vec::new();
    let (mut events, mut fields, mut bad) = (0, 0, String::new());
    let mut meant: BTreeSet<&str> = MEANT.iter().map(|(case, ..)| *case).collect();
    for fileset in filesets {
        let case = fileset.case();
        let of = |all: &BTreeMap<String, Vec<Flat>>| all.get(&case).unwrap_or(&none).clone();
        let (theirs, ours) = (of(filebeat), of(pillion));
        events += theirs.len();
        fields += theirs.iter().map(Flat::len).sum::<usize>();
        if theirs.is_empty() != fileset.files.is_empty() {
            let _ = write!(bad, "\n    {case}: Filebeat has {} events of {} files", theirs.len(), fileset.files.len());
        }
        for difference in differences(&theirs, &ours) {
            // A name with dots in 7, a path in 9.
            let field = difference.field.replace("\\.", ".");
            match MEANT.iter().find(|(name, meant, _)| *name == case && *meant == field) {
                Some((name, ..)) => drop(meant.remove(name)),
                None => drop(write!(bad, "\n    {case}: {}", difference.text)),
            }
        }
    }
    for case in meant {
        let _ = write!(bad, "\n    {case}: there is no difference any more");
    }
    let named = filesets.iter().map(Fileset::case).collect::<BTreeSet<String>>();
    let others = filebeat.keys().chain(pillion.keys()).filter(|case| !named.contains(*case)).count();
    if others > 0 {
        let _ = write!(bad, "\n    {others} lists of events that belong to no fileset");
    }
    if bad.is_empty() {
        Ok(format!("{} filesets, {events} events, {fields} fields the same", filesets.len()))
    } else {
        Err(bad)
    }
}
