//! Inputs of further files: `filebeat.config.inputs` (5.6: `filebeat.config.prospectors`, `filebeat.config_dir`).
//!
//! Comes in: the configuration, which says where they lie. Goes out: their inputs, checked beside those that are there
//! already, or what is wrong, each with its file, line and column.
//!
//! Always holds: a file counts as a whole: one that is wrong gives no input. They are taken in the order of their paths.
//! Tested below and by the command line's tests (`tests/run/further.rs`).

use std::path::{Path, PathBuf};

use pillion_config::{Config, Diagnostic, Error, Form, Further, further_text};
use pillion_event::InputKind;
use pillion_input::{Glob, InputSpec, names_of, specs};
use pillion_output::tls::ServerTls;
use pillion_world::{FileKind, Fs, World};
use serde_json::Value;

use crate::assemble::{left_over, server_tls};
use crate::reload::Watch;

/// How many files there may be: more, and the pattern is wrong.
pub(crate) const MAX_FILES: usize = 10_000;

/// What files give.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) specs: Vec<InputSpec>,
    /// TLS of those that listen.
    pub(crate) tls: Vec<(String, ServerTls)>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Files that are looked at again later.
    pub(crate) watch: Option<Watch>,
}

/// What one file gives.
pub(crate) struct One {
    /// Its inputs, and each as it is written.
    pub(crate) inputs: Vec<(InputSpec, Value)>,
    pub(crate) tls: Vec<(String, ServerTls)>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Reads all of them; `keep` gets what is wrong. `before`: the inputs of the main file. `strict`: what isn't known is wrong, and
/// so is a file that isn't right yet, though it is looked at again later.
pub(crate) fn read(
    config: &Config,
    world: &World,
    before: &[InputSpec],
    strict: bool,
    keep: &mut dyn FnMut(Error),
) -> Read {
    let mut all = Read::default();
    let places = config.further().unwrap_or_else(|e| {
        keep(e);
        Vec::new()
    });
    let mut watched = Vec::new();
    for place in places {
        let paths = paths_of(config, &*world.fs, &place).unwrap_or_else(|e| {
            keep(e);
            Vec::new()
        });
        if place.reload.is_some() {
            watched.push(place);
            continue;
        }
        for path in paths {
            let beside: Vec<&InputSpec> = before.iter().chain(&all.specs).collect();
            match read_one(config, &*world.fs, (&path, place.form), &beside, strict) {
                Ok(Some(one)) => all.add(one),
                Ok(None) => {}
                Err(errors) => errors.into_iter().for_each(&mut *keep),
            }
        }
    }
    if !watched.is_empty() {
        let fixed = before.iter().chain(&all.specs).cloned().collect();
        all.begin_watch(config, world, Watch::new(watched, fixed, strict), keep);
    }
    all
}

impl Read {
    fn add(&mut self, one: One) {
        self.specs.extend(one.inputs.into_iter().map(|(spec, _)| spec));
        self.tls.extend(one.tls);
        self.warnings.extend(one.warnings);
    }

    /// What files that are looked at again give the first time. As with Filebeat, one that is wrong holds up none of the rest.
    fn begin_watch(&mut self, config: &Config, world: &World, mut watch: Watch, keep: &mut dyn FnMut(Error)) {
        let seen = watch.look(config)(&*world.fs);
        let changes = watch.judge(config, seen);
        self.specs.extend(changes.come);
        self.tls.extend(changes.tls);
        self.warnings.extend(changes.warnings);
        if watch.strict {
            changes.wrong.into_iter().for_each(keep);
        } else {
            self.warnings.extend(changes.wrong);
        }
        self.watch = Some(watch);
    }
}

/// The files that are meant, in the order of their paths.
fn paths_of(config: &Config, fs: &dyn Fs, place: &Further) -> Result<Vec<PathBuf>, Error> {
    let key = if place.folder { place.key.to_owned() } else { format!("{}.path", place.key) };
    let wrong = |reason: String, remedy: &str| config.root().error(&key, reason, remedy);
    let mut pattern = place.pattern.clone();
    if place.folder {
        match fs.stat(&pattern, true) {
            Ok(meta) if meta.kind == FileKind::Dir => pattern = escaped(&pattern).join("*.yml"),
            Ok(_) => return Ok(vec![pattern]),
            Err(e) => {
                return Err(wrong(format!("{}: {e}", pattern.display()), "make the folder, or remove the option"));
            }
        }
    }
    let glob = Glob::new(pattern.as_os_str(), false)
        .map_err(|e| wrong(e.to_string(), "give a pattern such as /etc/filebeat/inputs.d/*.yml"))?;
    let found = names_of(fs, &glob).map_err(|e| wrong(e.to_string(), "let this user list the folder"))?;
    if found.len() > MAX_FILES {
        return Err(wrong(format!("matches more than {MAX_FILES} files"), "give a pattern that matches fewer"));
    }
    if let Some(main) = found.iter().find(|path| config.is_main_file(fs, path)) {
        return Err(wrong(
            format!("{} is the configuration itself", main.display()),
            "put the further files into a folder of their own",
        ));
    }
    Ok(found)
}

/// A folder's path as a pattern that matches it alone.
fn escaped(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    text.chars().flat_map(|c| "*?[\\".contains(c).then_some('\\').into_iter().chain([c])).collect::<String>().into()
}

/// Reads one file; `None`: it isn't there any more.
fn read_one(
    config: &Config,
    fs: &dyn Fs,
    (path, form): (&Path, Form),
    beside: &[&InputSpec],
    strict: bool,
) -> Result<Option<One>, Vec<Error>> {
    let text = further_text(fs, path, config.strict()).map_err(|e| vec![e])?;
    text.map(|text| parse(config, (path, form), &text, beside, strict)).transpose()
}

/// Reads the text of one file.
pub(crate) fn parse(
    config: &Config,
    (path, form): (&Path, Form),
    text: &str,
    beside: &[&InputSpec],
    strict: bool,
) -> Result<One, Vec<Error>> {
    let one = |e: Error| vec![e];
    let name = path.display().to_string();
    let own = config.further_config(&name, text, form).map_err(one)?;
    let mut specs = specs(&config.root(), &own.root(), beside).map_err(one)?;
    let texts = written(&own).map_err(one)?;
    let mut tls = server_tls(&own.root(), &specs).map_err(one)?;
    // Each file counts its inputs from 0.
    let apart = |key: &mut String| *key = format!("{name}: {key}");
    tls.iter_mut().for_each(|(key, _)| apart(key));
    specs.iter_mut().filter_map(|spec| spec.listen.as_mut()?.ssl.as_mut()).for_each(apart);
    let mut wrong = Vec::new();
    let warnings = left_over(&own, (strict, &|_| true), &mut wrong);
    let inputs = specs.into_iter().zip(texts).collect();
    if wrong.is_empty() { Ok(One { inputs, tls, warnings }) } else { Err(wrong) }
}

/// Each enabled input as it is written, in the order of the file.
fn written(own: &Config) -> Result<Vec<Value>, Error> {
    let mut texts = Vec::new();
    for section in pillion_input::sections(&own.root())? {
        texts.push(section.whole()?);
    }
    Ok(texts)
}

/// Refuses what can't come and go while others are read.
pub(crate) fn refuse_lasting(path: &Path, inputs: &[(InputSpec, Value)]) -> Result<(), Error> {
    if inputs.iter().any(|(spec, _)| spec.desc.kind == InputKind::Stdin) {
        return Err(Error::new(
            format!("{}: an input stdin can't come from a file that is looked at again", path.display()),
            "put it into the main file, or set reload.enabled to false",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        tmp: tempfile::TempDir,
        world: World,
    }

    impl Rig {
        fn new(files: &[(&str, &str)]) -> Rig {
            let rig = Rig { tmp: tempfile::tempdir().unwrap(), world: World::real() };
            rig.world.fs.create_dir_all(&rig.tmp.path().join("d"), 0o700).unwrap();
            for (name, text) in files {
                rig.world.fs.replace(&rig.tmp.path().join("d").join(name), text.as_bytes(), 0o600).unwrap();
            }
            rig
        }

        /// The ids of the inputs of `d/*.yml`, and what is wrong.
        fn read(&self, yaml: &str, strict: bool) -> (Vec<String>, Vec<String>) {
            let dir = self.tmp.path().display().to_string();
            let config = Config::from_yaml(&yaml.replace("DIR", &dir)).unwrap();
            let before = pillion_input::specs_from_root(&config.root()).unwrap();
            let mut wrong = Vec::new();
            let shown = |e: Error| e.one_line().replace(&dir, "DIR");
            let found = read(&config, &self.world, &before, strict, &mut |e| wrong.push(shown(e)));
            (found.specs.iter().map(|s| s.desc.id.clone()).collect(), wrong)
        }
    }

    const LIST: &str =
        "filebeat.config.inputs.path: DIR/d/*.yml\nfilebeat.inputs: [{type: filestream, id: main, paths: [/m]}]";

    #[test]
    fn inputs_of_all_files_come_together() {
        let rig = Rig::new(&[
            ("b.yml", "- {type: filestream, id: b1, paths: [/b1]}\n- {type: filestream, id: b2, paths: [/b2]}"),
            ("a.yml", "- {type: filestream, id: a, paths: [/a]}\n- {type: log, enabled: false, what: 1}"),
            ("c.yml.disabled", "nothing of this"),
            ("e.yml", ""),
        ]);
        let ids = |all: &[&str]| all.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(rig.read(LIST, true), (ids(&["a", "b1", "b2"]), Vec::new()));
        assert_eq!(rig.read("filebeat.config.inputs.path: DIR/none/*.yml", true), Default::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file_and_place() {
        let rig = Rig::new(&[
            ("1.yml", "- type: filestream\n  id: main\n  paths: [/x]\n"),
            ("2.yml", "- {type: filestream, id: twice, paths: [/y]}"),
            ("3.yml", "- {type: filestream, id: twice, paths: [/z]}"),
            ("4.yml", "- type: filestream\n  id: four\n  paths: [/z]\n  module: nginx\n"),
            ("5.yml", "- type: filestream\n  id: five\n  paths: [/z]\n  closed: 1\n"),
            ("6.yml", "- type: [\n"),
            ("7.yml", "- type: stdin\n"),
        ]);
        let places = |wrong: &[String]| -> Vec<String> {
            wrong.iter().map(|w| w.strip_prefix("DIR/d/").unwrap().split(": ").next().unwrap().to_owned()).collect()
        };
        let (ids, wrong) = rig.read(LIST, false);
        assert_eq!(ids, ["twice", "five"]);
        assert_eq!(places(&wrong), ["1.yml:2:7", "3.yml:1:26", "4.yml:4:3", "6.yml:2:1", "7.yml:1:9"], "{wrong:#?}");
        assert!(wrong[0].contains("another filestream input has `main` as id too"));
        assert!(wrong[4].contains("stdin has to be the only input"));
        assert_eq!(places(&rig.read(LIST, true).1)[3], "5.yml:4:3");
    }

    #[test]
    fn a_folder_of_whole_configurations() {
        let rig = Rig::new(&[("x.yml", "filebeat.prospectors:\n- {paths: [/x]}\n"), ("y.txt", "no")]);
        let (ids, wrong) = rig.read("filebeat.config_dir: DIR/d", true);
        assert_eq!((ids.len(), wrong), (1, Vec::new()));
        assert_eq!(rig.read("filebeat.config_dir: DIR/d/x.yml", true).0.len(), 1);
        assert!(rig.read("filebeat.config_dir: DIR/none", true).1[0].contains("make the folder"));
    }

    #[test]
    fn a_pattern_that_is_none() {
        let rig = Rig::new(&[]);
        let wrong = rig.read("filebeat.config.inputs.path: 'DIR/[.yml'", true).1;
        assert!(
            wrong[0].starts_with("filebeat.yml:1:30: filebeat.config.inputs.path: syntax error in pattern"),
            "{wrong:?}"
        );
    }
}
