//! Several outputs (`pillion.outputs`): each has a run of its own over the same inputs, with its own place in the files.
//!
//! Comes in: the configuration. Goes out: what each run is made of, and what they share: the pod's termination message, the
//! endpoint, and that all end when one of them can't go on.
//!
//! ```text
//!            ┌─▶ run of `output`:          harvester ─▶ queue ─▶ target    registry in path.data
//! inputs ────┤
//!            └─▶ run of `pillion.outputs`: harvester ─▶ queue ─▶ target    registry in path.data/outputs/NAME
//! ```
//!
//! Always holds: what one target doesn't take holds up no other one; the exit code and the termination message are those of
//! the worst; nothing that can be read only once is read by two. Why so: docs/decisions/several-outputs.md.
//! Tested by the command line's tests (`tests/run/several.rs`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use pillion_config::{Config, Diagnostic, Error};
use pillion_event::InputKind;

use crate::assemble::Assembled;

/// A further output.
pub struct Further {
    /// Its name.
    pub name: String,
    /// The configuration of its run.
    pub config: Config,
    /// What that is made of.
    pub parts: Assembled,
}

/// Which of the options that nobody has taken are told where one output is read.
pub(crate) type Mine<'a> = dyn Fn(&Diagnostic) -> bool + 'a;

/// Reads a configuration with one output.
pub(crate) type ReadOne<'a> = dyn Fn(&Config, &Mine<'_>) -> Result<Assembled, Vec<Error>> + 'a;

/// Reads the first output, and every further one.
///
/// # Errors
/// All of them, each once.
pub(crate) fn assemble(config: &Config, read: &ReadOne<'_>) -> Result<Assembled, Vec<Error>> {
    let (mut errors, mut further) = (Vec::new(), Vec::new());
    let named = config.further_outputs().unwrap_or_else(|e| {
        errors.push(e);
        Vec::new()
    });
    let mut left = Vec::new();
    for (name, config) in named {
        let under = format!("pillion.outputs.{name}");
        let renamed = |e: Error| e.renamed("output", &under);
        let parts = read(&config, &is_of_output);
        left.push(left_over(&config));
        match parts {
            Ok(mut parts) => {
                parts.warnings = parts.warnings.into_iter().map(renamed).collect();
                further.push(Further { name, config, parts });
            }
            Err(wrong) => errors.extend(wrong.into_iter().map(renamed)),
        }
    }
    // An option that one of them has a use for isn't left over.
    let mine = |d: &Diagnostic| is_of_output(d) || left.iter().all(|left| left.contains(&place(d)));
    match read(config, &mine) {
        Ok(parts) if errors.is_empty() => joined(config, parts, further),
        Ok(_) => Err(errors),
        Err(mut all) => {
            errors.retain(|e| !all.iter().any(|other| other.one_line() == e.one_line()));
            all.append(&mut errors);
            Err(all)
        }
    }
}

type Place = (String, Option<u32>, Option<u32>);

fn place(d: &Diagnostic) -> Place {
    (d.key().to_owned(), d.line(), d.column())
}

fn is_of_output(d: &Diagnostic) -> bool {
    d.key().split('.').next() == Some("output")
}

fn left_over(config: &Config) -> HashSet<Place> {
    let mut leftovers = config.leftovers();
    leftovers.lists().into_iter().flat_map(|list| list.iter().map(place).collect::<Vec<_>>()).collect()
}

/// Puts them together, when nothing is read that can be read only once.
fn joined(config: &Config, mut parts: Assembled, further: Vec<Further>) -> Result<Assembled, Vec<Error>> {
    if let Some(one) = further.iter().find(|one| one.name == parts.output.name()) {
        let key = format!("pillion.outputs.{}", one.name);
        return Err(vec![config.root().error(&key, "the first output is called so", "take another name")]);
    }
    if let Some(watch) = parts.watch.as_ref().filter(|_| !further.is_empty()) {
        return Err(vec![watch.unfit(
            &config.root(),
            "pillion.outputs: all of them read the same inputs, which are known at the start",
        )]);
    }
    let Some(reason) = obstacle(&parts).filter(|_| !further.is_empty()) else {
        let told: HashSet<String> = parts.warnings.iter().map(Error::one_line).collect();
        for one in &further {
            parts.warnings.extend(one.parts.warnings.iter().filter(|w| !told.contains(&w.one_line())).cloned());
        }
        parts.further = further;
        return Ok(parts);
    };
    let remedy = "run a shipper of its own for each output, or send to one target that hands on (Logstash, Kafka)";
    Err(vec![config.root().error("pillion.outputs", reason, remedy)])
}

/// Why this can't be read by several runs.
fn obstacle(parts: &Assembled) -> Option<String> {
    let once = |kind: InputKind| kind == InputKind::Stdin || kind.is_network();
    if let Some(input) = parts.inputs.iter().find(|input| once(input.desc.kind)) {
        return Some(format!("what an input `{}` gets can be read only once", input.desc.kind.as_str()));
    }
    if parts.inputs.iter().any(|input| input.delete_after.is_some()) {
        return Some("`delete.enabled`: a file would go before the other outputs have read it".to_owned());
    }
    let engine = &parts.engine;
    let named_queue = engine.disk.as_ref().is_some_and(|disk| disk.path.is_some());
    [
        (parts.sharing.is_some(), "with `pillion.shards` there is one output"),
        (engine.beside.is_some(), "with `pillion.registry.beside_logs` there is one output"),
        (named_queue, "`queue.disk.path` names one folder for several queues: leave it out, and each has its own"),
    ]
    .into_iter()
    .find_map(|(is, why)| is.then(|| why.to_owned()))
}

/// Where a further output's receipt goes: `receipt.json` becomes `receipt.NAME.json`.
pub(crate) fn receipt_of(receipt: &Path, name: &str) -> PathBuf {
    let (stem, extension) = (receipt.file_stem().unwrap_or_default(), receipt.extension());
    let mut file = stem.to_owned();
    file.push(format!(".{name}"));
    if let Some(extension) = extension {
        file.push(".");
        file.push(extension);
    }
    receipt.with_file_name(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receipt_has_a_name_of_its_own() {
        for (receipt, want) in [
            ("/data/receipt.json", "/data/receipt.a.json"),
            ("receipt", "receipt.a"),
            ("/x.y/r.tar.gz", "/x.y/r.tar.a.gz"),
        ] {
            assert_eq!(receipt_of(Path::new(receipt), "a"), Path::new(want));
        }
    }
}
