//! The program under test: Pillion, or a peer in its place.
//!
//! Comes in: where it runs, what it reads, where it ships to. Goes out: a configuration file and a command.
//! Always holds: Pillion and Filebeat get the same configuration file, but for what only Pillion has; a peer with a
//! language of its own gets the same work and else its defaults ([`others`]).

mod others;

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
    program: Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Pillion,
    Filebeat,
    Filebeat9,
    FluentBit,
    Vector,
    Otelcol,
}

impl Program {
    const ALL: [Program; 6] = [
        Program::Pillion,
        Program::Filebeat,
        Program::Filebeat9,
        Program::FluentBit,
        Program::Vector,
        Program::Otelcol,
    ];

    fn name(self) -> &'static str {
        match self {
            Program::Pillion => "pillion",
            Program::Filebeat => "filebeat",
            Program::Filebeat9 => "filebeat9",
            Program::FluentBit => "fluent-bit",
            Program::Vector => "vector",
            Program::Otelcol => "otelcol",
        }
    }

    /// `$PILLION_NAME` names another executable.
    fn variable(self) -> String {
        match self {
            Program::Pillion => "PILLION_BIN".to_owned(),
            _ => format!("PILLION_{}", self.name().to_uppercase().replace('-', "_")),
        }
    }

    /// Its executable, built first where that can be done; none when it isn't here.
    fn path(self) -> Outcome<Option<PathBuf>> {
        if let Some(set) = std::env::var_os(self.variable()) {
            return Ok(Some(set.into()));
        }
        match self {
            Program::Pillion => dist::build().map(Some),
            Program::Filebeat => filebeat::path().map(Some),
            Program::Filebeat9 => filebeat::nine().map(Some),
            Program::FluentBit | Program::Vector => Ok(on_path(self.name())),
            Program::Otelcol => match on_path("otelcol-contrib") {
                Some(found) => Ok(Some(found)),
                None => filebeat::go_program("otelcol").map(Some),
            },
        }
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Files below `logs/`, to an endpoint of ours on loopback.
pub(crate) struct Bulk<'a> {
    /// What their names match: `*.log`.
    pub(crate) files: &'a str,
    /// The endpoint's port.
    pub(crate) port: u16,
    /// Compressed, at level 1; else what is the program's default.
    pub(crate) gzip: bool,
    /// Further lines of the configuration, in Filebeat's language; no other program gets them.
    pub(crate) more: &'a str,
}

impl<'a> Bulk<'a> {
    /// All `logs/*.log` to this port.
    pub(crate) fn to(port: u16) -> Bulk<'a> {
        Bulk { files: "*.log", port, gzip: false, more: "" }
    }
}

impl Shipper {
    /// The program of this name: `pillion` (`$PILLION_BIN`, else `target/dist/pillion`, built first), `filebeat` (7.17),
    /// `filebeat9` or `otelcol` (built first), `fluent-bit` or `vector` (from the path).
    pub(crate) fn named(name: &str) -> Outcome<Shipper> {
        let program = Program::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| format!("there is no shipper {name}: {}", Program::ALL.map(Program::name).join(", ")))?;
        let absent = || format!("{name} isn't here: put it on the PATH, or its path into ${}", program.variable());
        Ok(Shipper { path: program.path()?.ok_or_else(absent)?, program })
    }

    /// Pillion and each peer that is here; says which aren't.
    pub(crate) fn all() -> Outcome<Vec<Shipper>> {
        let mut found = Vec::new();
        for program in Program::ALL {
            match program.path()? {
                Some(path) => found.push(Shipper { path, program }),
                None => println!("{} isn't here: neither on the PATH nor in ${}", program.name(), program.variable()),
            }
        }
        Ok(found)
    }

    /// Filebeat with this executable.
    pub(crate) fn filebeat_at(path: PathBuf) -> Shipper {
        Shipper { path, program: Program::Filebeat }
    }

    /// Pillion with this executable.
    #[cfg(test)]
    pub(crate) fn pillion_at(path: PathBuf) -> Shipper {
        Shipper { path, program: Program::Pillion }
    }

    /// Whether it is Pillion, with its flags and settings.
    pub(crate) fn is_pillion(&self) -> bool {
        self.program == Program::Pillion
    }

    /// Whether it takes a filebeat.yml.
    pub(crate) fn reads_filebeat_yml(&self) -> bool {
        matches!(self.program, Program::Pillion | Program::Filebeat | Program::Filebeat9)
    }

    /// The input with which it reads files: `log`, which version 9 has no more but for those who insist.
    pub(crate) fn input(&self) -> &'static str {
        if self.program == Program::Filebeat9 { "filestream" } else { "log" }
    }

    /// What its input needs to read files of less than 1,024 bytes, which version 9 leaves alone.
    pub(crate) fn for_small_files(&self) -> &'static str {
        match self.program {
            Program::Filebeat9 => "  file_identity.native: ~\n  prospector.scanner.fingerprint.enabled: false\n",
            _ => "",
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.program.name()
    }

    /// The word that makes it say its version.
    pub(crate) fn version_word(&self) -> &'static str {
        if self.reads_filebeat_yml() { "version" } else { "--version" }
    }

    /// Writes the configuration with which it ships these files.
    pub(crate) fn configure(&self, place: &Place, bulk: &Bulk) -> Outcome {
        let text = match self.program {
            Program::Pillion | Program::Filebeat | Program::Filebeat9 => {
                let gzip = if bulk.gzip { "output.elasticsearch.compression_level: 1\n" } else { "" };
                let input = input(place, self.input()).replace("/*.log'", &format!("/{}'", bulk.files));
                input + &output(Protocol::Bulk, bulk.port) + gzip + bulk.more
            }
            Program::FluentBit => others::fluent_bit(place, bulk),
            Program::Vector => others::vector(place, bulk),
            Program::Otelcol => others::otelcol(place, bulk),
        };
        place.configure(&text)
    }

    /// The words that run it on this place: `-e -c … --path.home …`.
    pub(crate) fn words(&self, place: &Place) -> Vec<String> {
        let path = |p: &Path| p.display().to_string();
        let mut words = vec![path(&self.path)];
        let config = path(&place.config());
        match self.program {
            Program::Pillion | Program::Filebeat | Program::Filebeat9 => {
                words.extend(["-e".into(), "-c".into(), config, "--path.home".into(), path(&place.home())]);
            }
            Program::FluentBit | Program::Vector | Program::Otelcol => words.extend(["--config".into(), config]),
        }
        if self.is_pillion() {
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
