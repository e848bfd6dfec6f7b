//! From the command line's files and settings to one expanded tree.
//!
//! Comes in: [`Load`]. Goes out: [`Config`]. The layers, lowest first: the folders' defaults, each `-c` in turn, each
//! `-E` and `--path.*` in turn; then variables are expanded, then the dialect is found.
//!
//! Always holds: a file that others may write isn't read (Filebeat's rule, `--strict.perms`).
//! Tested in `tests/load.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillion_world::{FileKind, Fs, World};

use crate::compat::{self, Compat};
use crate::config::{Config, Reading};
use crate::error::Error;
use crate::expand::{Names, expand, expand_one};
use crate::includes;
use crate::keystore::{Keystore, Strict};
use crate::modules;
use crate::paths::{Paths, defaults};
use crate::section::Section;
use crate::source::{At, Source};
use crate::tree::{Key, Map, Node, Value, merge};
use crate::value::{self, Syntax};
use crate::yaml;

/// One setting of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `-E key=value`, in go-ucfg's syntax: numbers, booleans, `[a, b]`, `{k: v}`, quotes; `-E key` means true.
    Overwrite(String),
    /// A flag that sets an option to a text as it is, such as `--path.home DIR`.
    Text {
        /// The flag as the user knows it, for messages.
        flag: String,
        /// The option that it sets.
        key: &'static str,
        /// The text; variables in it are expanded.
        value: String,
    },
}

/// What the command line says about the configuration.
#[derive(Clone, Debug)]
pub struct Load {
    /// Each `-c`, in order; empty means `filebeat.yml`. Relative names are looked up in `path.config` (else
    /// `path.home`) when a flag sets it, otherwise in the working directory.
    pub files: Vec<PathBuf>,
    /// `-E`, `--path.*` and other flags that set options, in order.
    pub settings: Vec<Setting>,
    /// `--strict.perms`: refuse files that others own or may write.
    pub strict_perms: bool,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// `path.home` when nothing sets it: see [`crate::default_home`].
    pub home: PathBuf,
    /// This process's effective user, for the permission check.
    pub euid: u32,
}

impl Load {
    fn checks_permissions(&self) -> bool {
        self.strict_perms && self.env.get("BEAT_STRICT_PERMS").map(String::as_str) != Some("false")
    }

    fn strict(&self) -> Strict {
        Strict { perms: self.checks_permissions(), euid: self.euid }
    }

    /// The keystore's file, which needn't be there; for `keystore`, that has to know it before it can be read.
    ///
    /// # Errors
    /// As [`Config::load`] for the files, but nothing of what they hold need make sense.
    pub fn keystore(&self, world: &World) -> Result<(PathBuf, Strict), Error> {
        let strict = self.strict();
        let remedy = "set --path.data, or keystore.path";
        let none = || Error::new("it can't be said where the keystore lies: a variable in its path isn't set", remedy);
        keystore_path(&self.merged(world)?, &self.env).map(|path| (path, strict)).ok_or_else(none)
    }

    /// All layers, one over the other, before variables are expanded.
    fn merged(&self, world: &World) -> Result<Node, Error> {
        let mut root = defaults(&self.home);
        for file in file_names(self) {
            merge(&mut root, read_file(&*world.fs, &file, self)?);
        }
        for setting in &self.settings {
            merge(&mut root, setting_node(setting)?);
        }
        Ok(root)
    }
}

impl Config {
    /// Reads, merges and expands.
    ///
    /// # Errors
    /// The first file that can't be read, isn't safe, or isn't YAML; a broken `-E`; folders or a dialect that don't
    /// make sense. Variables that can't be resolved are told by whoever asks for the value.
    pub fn load(world: &World, load: &Load) -> Result<Config, Error> {
        let root = load.merged(world)?;
        finish(&root, &load.env, Some((&*world.fs, load.strict())), file_names(load))
    }

    /// Reads one text as `filebeat.yml`, without other files, flags or environment; `path.home` is
    /// `/usr/share/filebeat`. For tests, and for the options of a processor that a script makes.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_yaml(text: &str) -> Result<Config, Error> {
        Config::from_yaml_with_env(text, &[])
    }

    /// The same with an environment. For tests and fuzzing.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_yaml_with_env(text: &str, env: &[(&str, &str)]) -> Result<Config, Error> {
        let mut root = defaults(Path::new("/usr/share/filebeat"));
        merge(&mut root, yaml::parse(&Source::file("filebeat.yml", text))?);
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        finish(&root, &env, None, Vec::new())
    }
}

fn finish(
    root: &Node,
    env: &BTreeMap<String, String>,
    real: Option<(&dyn Fs, Strict)>,
    files: Vec<PathBuf>,
) -> Result<Config, Error> {
    let path = keystore_path(root, env);
    let keystore = match (&path, real) {
        (Some(path), Some((fs, strict))) => Keystore::load(fs, path, strict)?,
        _ => None,
    };
    let fs = real.map(|(fs, _)| fs);
    let names = Names { env, keystore: keystore.as_ref() };
    let mut config = Config::new(expand(root, &names));
    config.paths = paths(&config.root())?;
    config.root().str("keystore.path")?;
    compat::decide(&mut config, fs)?;
    if let Some(fs) = fs.filter(|_| config.compat == Compat::V5) {
        includes::take_empty(&config.root, &config.paths.config, fs);
    }
    config.modules = modules::about(&config, fs)?;
    config.expand_modules();
    let strict = real.map_or(Strict { perms: false, euid: 0 }, |(_, strict)| strict);
    config.reading = Arc::new(Reading { env: env.clone(), keystore, strict, files });
    Ok(config)
}

/// `keystore.path`, else the usual place; `None` when a variable in it means nothing.
fn keystore_path(root: &Node, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let names = Names { env, keystore: None };
    let set = expand_one(root, "keystore.path", &names).filter(|path| !path.is_empty());
    let usual = || expand_one(root, "path.data", &names).map(|data| Path::new(&data).join("filebeat.keystore"));
    set.map(PathBuf::from).or_else(usual)
}

fn paths(root: &Section<'_>) -> Result<Paths, Error> {
    let get = |key: &str| match root.str(key) {
        Ok(Some(path)) if !path.is_empty() => Ok(PathBuf::from(path)),
        Ok(_) => Err(root.error(key, "a folder is needed", "give its name, or leave the option out")),
        Err(e) => Err(e),
    };
    Ok(Paths { home: get("path.home")?, config: get("path.config")?, data: get("path.data")?, logs: get("path.logs")? })
}

/// The files to read. Filebeat looks up relative names where a flag puts `path.config` or `path.home`.
fn file_names(load: &Load) -> Vec<PathBuf> {
    let flag = |wanted: &str| {
        load.settings.iter().rev().find_map(|setting| match setting {
            Setting::Text { key, value, .. } if *key == wanted => Some(PathBuf::from(value)),
            _ => None,
        })
    };
    let base = flag("path.config").or_else(|| flag("path.home")).unwrap_or_default();
    if load.files.is_empty() {
        return vec![base.join("filebeat.yml")];
    }
    load.files.iter().map(|file| base.join(file)).collect()
}

fn read_file(fs: &dyn Fs, path: &Path, load: &Load) -> Result<Node, Error> {
    let shown = path.display().to_string();
    let text = read_text(fs, path, load.strict()).map_err(|e| match e {
        ReadError::Io(e) => unreadable(&shown, &e, load),
        ReadError::Folder | ReadError::NoFile => Error::new(
            format!("{shown}: not a regular file"),
            "pass the file itself with -c, and further ones with another -c",
        ),
        ReadError::Wrong(e) => e,
    })?;
    yaml::parse(&Source::file(&shown, &text))
}

/// Why a file isn't read.
pub(crate) enum ReadError {
    Io(std::io::Error),
    Folder,
    /// A device or the like.
    NoFile,
    Wrong(Error),
}

/// A file's text, if it is safe to believe it.
pub(crate) fn read_text(fs: &dyn Fs, path: &Path, strict: Strict) -> Result<String, ReadError> {
    let shown = path.display().to_string();
    let meta = fs.stat(path, true).map_err(ReadError::Io)?;
    match meta.kind {
        FileKind::File => {}
        FileKind::Dir => return Err(ReadError::Folder),
        _ => return Err(ReadError::NoFile),
    }
    if strict.perms {
        check_permissions(&shown, meta.uid, meta.mode, strict.euid).map_err(ReadError::Wrong)?;
    }
    let bytes = fs.read(path, yaml::MAX_TEXT).map_err(ReadError::Io)?;
    String::from_utf8(bytes).map_err(|e| ReadError::Wrong(not_utf8(&shown, e.as_bytes(), e.utf8_error().valid_up_to())))
}

fn unreadable(shown: &str, e: &std::io::Error, load: &Load) -> Error {
    let remedy = match e.kind() {
        std::io::ErrorKind::NotFound if load.files.is_empty() => {
            "name the configuration with `-c FILE`; `--help` tells more"
        }
        std::io::ErrorKind::NotFound => {
            "check the name; relative ones are looked up in --path.config, else --path.home, else the working directory"
        }
        std::io::ErrorKind::PermissionDenied => {
            "let this user read the file (see `ls -l` and the container's runAsUser)"
        }
        _ => "",
    };
    Error::new(format!("{shown}: {e}"), remedy)
}

/// UTF-16 is what editors on Windows leave behind: say so.
fn not_utf8(shown: &str, bytes: &[u8], valid_up_to: usize) -> Error {
    let line = bytes[..valid_up_to].iter().filter(|b| **b == b'\n').count() + 1;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Error::new(format!("{shown}: this is UTF-16, not UTF-8"), "save the file as UTF-8");
    }
    let byte = bytes.get(valid_up_to).copied().unwrap_or(0);
    Error::new(format!("{shown}:{line}: not UTF-8: byte 0x{byte:02x}"), "save the file as UTF-8")
}

/// Filebeat's rule: owned by this user or root, and writable by nobody else.
fn check_permissions(shown: &str, owner: u32, mode: u32, euid: u32) -> Result<(), Error> {
    if owner != 0 && owner != euid {
        return Err(Error::new(
            format!("config file (\"{shown}\") must be owned by the user identifier (uid={euid}) or root"),
            format!("change the owner (`chown {euid} {shown}`), or switch this check off with `--strict.perms=false`"),
        ));
    }
    if mode & 0o022 != 0 {
        return Err(Error::new(
            format!(
                "config file (\"{shown}\") can only be writable by the owner but the permissions are \"{}\" (to fix the \
                 permissions use: 'chmod go-w {shown}')",
                mode_text(mode)
            ),
            format!(
                "`chmod go-w {shown}`, or in Kubernetes `defaultMode: 0640` on the volume, or `--strict.perms=false`"
            ),
        ));
    }
    Ok(())
}

/// `-rw-r--r--`, as Go writes it.
fn mode_text(mode: u32) -> String {
    let mut out = String::from("-");
    for (i, c) in "rwxrwxrwx".chars().enumerate() {
        out.push(if mode & (0o400 >> i) != 0 { c } else { '-' });
    }
    out
}

fn setting_node(setting: &Setting) -> Result<Node, Error> {
    match setting {
        Setting::Text { flag, key, value } => {
            let source = Source::flag(flag, &format!("{flag}={value}"));
            let at = value_at(&source, flag.chars().count());
            root_with(key, Node::new(Value::Str(value.clone()), &at), &source)
        }
        Setting::Overwrite(text) => {
            let source = Source::flag("-E", text);
            let Some((key, value)) = text.split_once('=') else {
                let at = At::new(&source, 1, 1, 1);
                return root_with(text.trim(), Node::new(Value::Bool(true), &at), &source);
            };
            let at = value_at(&source, key.chars().count());
            // Nothing behind the sign sets nothing, as in Filebeat; `-E 'key=""'` is the empty text.
            if value.trim().is_empty() {
                root_with(key.trim(), Node::new(Value::Null, &at), &source)?;
                return Ok(Node::new(Value::Map(Map::default()), &at));
            }
            let node = value::parse(value, Syntax::Full, &at).map_err(|reason| {
                Error::at(
                    &at,
                    key,
                    reason,
                    "`-E key=value`: put text with `,`, `[` or `{` in it in quotes, such as -E 'key=\"a,b\"'",
                )
            })?;
            root_with(key.trim(), node, &source)
        }
    }
}

fn value_at(source: &Arc<Source>, key_width: usize) -> At {
    let column = u32::try_from(key_width + 2).unwrap_or(u32::MAX);
    let width = u32::try_from(source.text.chars().count().saturating_sub(key_width + 1)).unwrap_or(1);
    At::new(source, 1, column, width)
}

fn root_with(key: &str, node: Node, source: &Arc<Source>) -> Result<Node, Error> {
    let at = At::new(source, 1, 1, u32::try_from(key.chars().count()).unwrap_or(1));
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(Error::at(&at, "", "an option's name is missing", "write `-E some.option=value`"));
    }
    let mut map = Map::default();
    map.insert(&Key { name: key.to_owned(), at: at.clone() }, node)?;
    Ok(Node::new(Value::Map(map), &at))
}
