//! The program under test: Pillion, or a real Filebeat in its place.
//!
//! Comes in: where it runs, what it reads, where it ships to. Goes out: a configuration file and a command.
//! Always holds: both get the same configuration file, but for what only Pillion has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sink::Protocol;
use crate::{Outcome, dist, filebeat};

/// Which program ships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shipper {
    /// Its executable.
    pub(crate) path: PathBuf,
    /// Whether it is Pillion, with its flags and settings.
    pub(crate) pillion: bool,
}

impl Shipper {
    /// The program of this name: `pillion` (`$PILLION_BIN`, else `target/dist/pillion`, built first) or `filebeat`.
    pub(crate) fn named(name: &str) -> Outcome<Shipper> {
        match name {
            "pillion" => {
                let path = match std::env::var_os("PILLION_BIN") {
                    Some(set) => PathBuf::from(set),
                    None => dist::build()?,
                };
                Ok(Shipper { path, pillion: true })
            }
            "filebeat" => Ok(Shipper { path: filebeat::path()?, pillion: false }),
            _ => Err(format!("there is no shipper {name}: pillion or filebeat")),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        if self.pillion { "pillion" } else { "filebeat" }
    }

    /// The words that run it on this place: `-e -c … --path.home …`.
    pub(crate) fn words(&self, place: &Place) -> Vec<String> {
        let path = |p: &Path| p.display().to_string();
        let mut words = vec![path(&self.path), "-e".into(), "-c".into(), path(&place.config())];
        words.extend(["--path.home".into(), path(&place.home())]);
        if self.pillion {
            words.push("--strict.perms=false".into());
        }
        words
    }

    /// The command that runs it on this place.
    pub(crate) fn command(&self, place: &Place) -> Command {
        let words = self.words(place);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(place.folder());
        command
    }
}

/// A folder with all that one run needs: `logs/`, `home/`, `shipper.yml`, `flag`, `shipper.log`, `receipt.json`.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A new one.
    pub(crate) fn new() -> Outcome<Place> {
        Place::below(&std::env::temp_dir())
    }

    /// A new one in memory, where a sync costs nothing; where the system has no such folder, a usual one.
    pub(crate) fn in_memory() -> Outcome<Place> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Place::below(memory) } else { Place::new() }
    }

    fn below(folder: &Path) -> Outcome<Place> {
        let folder = tempfile::Builder::new().prefix("pillion-run").tempdir_in(folder).map_err(|e| e.to_string())?;
        let place = Place { folder };
        for dir in [place.logs(), place.home()] {
            fs::create_dir(dir).map_err(|e| e.to_string())?;
        }
        Ok(place)
    }

    /// The folder of it all.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the Job writes its logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    /// The shipper's home: its data folder lies below.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder().join("shipper.yml")
    }

    /// The completion flag.
    pub(crate) fn flag(&self) -> PathBuf {
        self.folder().join("flag")
    }

    /// The receipt.
    pub(crate) fn receipt(&self) -> PathBuf {
        self.folder().join("receipt.json")
    }

    /// What a program prints to standard output, when that is told apart from its log.
    pub(crate) fn console(&self) -> PathBuf {
        self.folder().join("console.out")
    }

    /// What the shipper printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder().join("shipper.log")
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, text: &str) -> Outcome {
        fs::write(self.config(), text).map_err(|e| format!("{}: {e}", self.config().display()))
    }

    /// Keeps the folder when something went wrong, and says where it is.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

/// The input that most configurations have, for the files `logs/*.log`.
pub(crate) fn input(place: &Place, kind: &str) -> String {
    let id = if kind == "filestream" { "\n  id: job" } else { "" };
    format!("filebeat.inputs:\n- type: {kind}{id}\n  enabled: true\n  paths: ['{}/*.log']\n", place.logs().display())
}

/// The output to an endpoint of ours on loopback.
pub(crate) fn output(protocol: Protocol, port: u16) -> String {
    match protocol {
        Protocol::Bulk => format!(
            "output.elasticsearch:\n  hosts: ['http://127.0.0.1:{port}']\nsetup.template.enabled: false\nsetup.ilm.enabled: false\n"
        ),
        Protocol::Lumberjack => format!("output.logstash:\n  hosts: ['127.0.0.1:{port}']\n"),
    }
}
