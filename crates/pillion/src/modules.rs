//! `modules list`, `enable`, `disable`: which files of modules are read; and which ingest pipelines they need.
//!
//! Comes in: the configuration, which says in `filebeat.config.modules.path` where they lie, and names of modules. Goes
//! out: what Filebeat prints, and NAME.yml.disabled renamed to NAME.yml or back. Always holds: a file is renamed or it
//! isn't; nothing is overwritten. Tested in `tests/around.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pillion_config::{Config, Error, Load};
use pillion_input::{Glob, InputSpec, names_of};
use pillion_world::World;

use crate::cli::Task;
use crate::work::FAILURE;
use crate::{refuse, say};

const KEY: &str = "filebeat.config.modules.path";
const ON: &str = ".yml";
const OFF: &str = ".yml.disabled";

/// Carries a task out, and returns the exit code.
pub(crate) fn modules(load: &Load, task: &Task) -> u8 {
    let world = World::real();
    let folder = match Config::load(&world, load).and_then(|config| Folder::of(&config, &world)) {
        Ok(folder) => folder,
        Err(e) => return refuse(&[e]),
    };
    let mut said = String::new();
    let done = match task {
        Task::ModulesEnable(names) => names.iter().try_for_each(|name| folder.switch(&world, name, true, &mut said)),
        Task::ModulesDisable(names) => names.iter().try_for_each(|name| folder.switch(&world, name, false, &mut said)),
        _ => {
            said = folder.list();
            Ok(())
        }
    };
    say(&said);
    match done {
        Ok(()) => 0,
        Err(e) => {
            refuse(&[e]);
            FAILURE
        }
    }
}

/// The ingest pipelines that modules need, each once; what is filled in from events, or has odd letters, can't be looked for.
pub(crate) fn pipelines(inputs: &[InputSpec]) -> Vec<String> {
    let plain = |id: &&String| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let of_a_module = inputs.iter().filter(|input| input.desc.root_fields.contains_key("fileset"));
    let ids: BTreeSet<&String> = of_a_module.filter_map(|input| input.desc.pipeline.as_ref()).filter(plain).collect();
    ids.into_iter().cloned().collect()
}

/// The files of modules, by their names.
struct Folder {
    pattern: PathBuf,
    on: Vec<(String, PathBuf)>,
    off: Vec<(String, PathBuf)>,
}

impl Folder {
    fn of(config: &Config, world: &World) -> Result<Folder, Error> {
        let root = config.root();
        let Some(pattern) = root.str(KEY)?.filter(|path| !path.is_empty()) else {
            let remedy = "set it: `filebeat.config.modules.path: ${path.config}/modules.d/*.yml`";
            return Err(root.error(KEY, "it isn't said where the files of modules lie", remedy));
        };
        if !pattern.ends_with("*.yml") {
            let reason =
                format!("{} doesn't end with *.yml: modules can't be switched on and off there", root.shown(KEY));
            return Err(root.error(KEY, reason, "write a pattern such as ${path.config}/modules.d/*.yml"));
        }
        let pattern = config.paths().config.join(pattern);
        let pattern = std::path::absolute(&pattern).unwrap_or(pattern);
        let found = |end: &str| {
            let mut glob = pattern.clone().into_os_string();
            glob.push(end.strip_prefix(ON).unwrap_or_default());
            let glob = Glob::new(&glob, false).map_err(|e| root.error(KEY, e.to_string(), "repair the pattern"))?;
            let paths = names_of(&*world.fs, &glob);
            let paths = paths.map_err(|e| root.error(KEY, e.to_string(), "let this user list the folder"))?;
            let named = |path: PathBuf| Some((path.file_name()?.to_str()?.strip_suffix(end)?.to_owned(), path));
            let mut files: Vec<(String, PathBuf)> = paths.into_iter().filter_map(named).collect();
            files.sort();
            Ok::<_, Error>(files)
        };
        let (on, off) = (found(ON)?, found(OFF)?);
        Ok(Folder { pattern, on, off })
    }

    fn list(&self) -> String {
        let names = |files: &[(String, PathBuf)]| files.iter().map(|(name, _)| format!("{name}\n")).collect::<String>();
        format!("Enabled:\n{}\nDisabled:\n{}", names(&self.on), names(&self.off))
    }

    fn switch(&self, world: &World, name: &str, on: bool, said: &mut String) -> Result<(), Error> {
        let (from, to, end, word) = match on {
            true => (&self.off, &self.on, ON, "enabled"),
            false => (&self.on, &self.off, OFF, "disabled"),
        };
        let file = |files: &[(String, PathBuf)]| files.iter().find(|(n, _)| n == name).map(|(_, path)| path.clone());
        // One that is there in both ways is read.
        let is_so = if on { file(to).is_some() } else { file(from).is_none() && file(to).is_some() };
        if is_so {
            said.push_str(&format!("Module {name} is already {word}\n"));
            return Ok(());
        }
        let Some(path) = file(from) else { return Err(self.unknown(name)) };
        let new = path.with_file_name(format!("{name}{end}"));
        let moved = world.fs.rename_new(&path, &new).and_then(|()| synced(world, &new));
        moved.map_err(|e| {
            let remedy = match e.kind() {
                std::io::ErrorKind::AlreadyExists => format!("remove one of the two: {} is there too", new.display()),
                _ => "let this user write in the folder; where it is mounted read-only, change what is mounted"
                    .to_owned(),
            };
            let verb = if on { "enabling" } else { "disabling" };
            Error::new(format!("there was an error {verb} module {name}: {}: {e}", path.display()), remedy)
        })?;
        said.push_str(&format!("{} {name}\n", if on { "Enabled" } else { "Disabled" }));
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let folder = self.pattern.parent().unwrap_or(Path::new("/")).display();
        let remedy = format!(
            "see `modules list`; a module has a file of its own: {folder}/{name}.yml, a list such as `- module: {name}`"
        );
        Error::new(format!("Module {name} doesn't exist!"), remedy)
    }
}

/// The renaming is on the disk.
fn synced(world: &World, file: &Path) -> std::io::Result<()> {
    file.parent().map_or(Ok(()), |folder| world.fs.sync_dir(folder))
}
