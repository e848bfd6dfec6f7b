//! Further files that hold inputs: `filebeat.config.inputs` and `filebeat.config.modules` (5.6: `filebeat.config.prospectors`, and
//! `filebeat.config_dir`).
//!
//! Comes in: the section that names them; the text of one such file. Goes out: where they lie ([`Further`]), and each as a
//! [`Config`] of its own, in which its inputs stand under `filebeat.inputs` or `filebeat.modules` (5.6: `filebeat.prospectors`).
//!
//! Always holds: a file that others may write isn't read, as the main file; variables mean what they mean there, the
//! folders `${path.*}` included; the dialect is that of the main file. Each value keeps its place in its own file.
//! Tested in `tests/further.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pillion_world::Fs;

use crate::compat::Compat;
use crate::config::Config;
use crate::error::Error;
use crate::expand::{Names, expand};
use crate::keystore::Strict;
use crate::load::{ReadError, read_text};
use crate::section::Section;
use crate::source::{At, Source};
use crate::tree::{Key, Map, Node, Value, merge};
use crate::yaml;

/// What a further file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A list of inputs.
    List,
    /// A list of modules.
    Modules,
    /// A whole configuration, of which only the inputs count.
    Whole,
}

/// Which further files there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Further {
    /// The option that names them, for messages.
    pub key: &'static str,
    /// A pattern as Go's `filepath.Glob` takes it; absolute.
    pub pattern: PathBuf,
    /// It is no pattern, but a folder whose `*.yml` are meant, or one file; it has to be there.
    pub folder: bool,
    /// What they hold.
    pub form: Form,
    /// How often to look whether they have changed; `None`: they are read once.
    pub reload: Option<Duration>,
}

impl Config {
    /// The further files that hold inputs, by the options that name some.
    ///
    /// # Errors
    /// An option that is wrong.
    pub fn further(&self) -> Result<Vec<Further>, Error> {
        let (root, v5) = (self.root(), self.compat() == Compat::V5);
        let keys: [(&'static str, Form); 2] = if v5 {
            [("filebeat.config.prospectors", Form::List), ("filebeat.config.inputs", Form::List)]
        } else {
            [("filebeat.config.inputs", Form::List), ("filebeat.config.modules", Form::Modules)]
        };
        let mut found = Vec::new();
        for (key, form) in keys {
            if let Some(section) = root.section(key)? {
                found.extend(self.of_section(&section, key, form)?);
            }
        }
        if v5 && let Some(folder) = root.str("filebeat.config_dir")?.filter(|folder| !folder.is_empty()) {
            let (key, pattern) = ("filebeat.config_dir", self.place(&folder));
            found.push(Further { key, pattern, folder: true, form: Form::Whole, reload: None });
        }
        Ok(found)
    }

    fn of_section(&self, section: &Section<'_>, key: &'static str, form: Form) -> Result<Option<Further>, Error> {
        if !section.is_on("enabled")? {
            section.ignore();
            return Ok(None);
        }
        let Some(pattern) = section.str("path")?.filter(|path| !path.is_empty()) else {
            let remedy = match form {
                Form::Modules => "name them, such as `path: ${path.config}/modules.d/*.yml`",
                _ => "name them, such as `path: ${path.config}/inputs.d/*.yml`",
            };
            return Err(section.error("path", "it isn't said which files hold further inputs", remedy));
        };
        let every = section.duration("reload.period")?.unwrap_or(Duration::from_secs(10));
        if every.is_zero() {
            let remedy = "give a time span such as `10s`";
            return Err(section.error("reload.period", "a time span of 0 isn't possible here", remedy));
        }
        let reload = section.bool("reload.enabled")?.unwrap_or(false).then_some(every);
        Ok(Some(Further { key, pattern: self.place(&pattern), folder: false, form, reload }))
    }

    /// An absolute path; a relative one is meant from `path.config` on.
    fn place(&self, path: &str) -> PathBuf {
        let path = self.paths().config.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Whether a file is one of those that this configuration was read from.
    pub fn is_main_file(&self, fs: &dyn Fs, path: &Path) -> bool {
        let real = |path: &Path| fs.canonicalize(path).ok();
        real(path).is_some_and(|path| self.reading.files.iter().any(|main| real(main).as_ref() == Some(&path)))
    }

    /// By which rule further files are safe.
    pub fn strict(&self) -> Strict {
        self.reading.strict
    }

    /// Reads a further file's text, under its name.
    ///
    /// # Errors
    /// What doesn't hold of it, with its place in it.
    pub fn further_config(&self, name: &str, text: &str, form: Form) -> Result<Config, Error> {
        let source = Source::file(name, text);
        let at = At::new(&source, 1, 1, 1);
        let own = match form {
            Form::Whole => yaml::parse(&source)?,
            Form::List => under(&["filebeat", self.list()], list_of(yaml::parse_any(&source)?, form)?, &at),
            Form::Modules => under(&["filebeat", "modules"], list_of(yaml::parse_any(&source)?, form)?, &at),
        };
        let mut root = self.folders(&at);
        merge(&mut root, own);
        let names = Names { env: &self.reading.env, keystore: self.reading.keystore.as_ref() };
        let mut config = self.beside(expand(&root, &names));
        config.root.get("path").into_iter().for_each(Node::take_all);
        config.expand_modules();
        Ok(config)
    }

    /// Under which name inputs stand.
    fn list(&self) -> &'static str {
        if self.compat() == Compat::V5 { "prospectors" } else { "inputs" }
    }

    /// `path.*` as they are.
    fn folders(&self, at: &At) -> Node {
        let paths = self.paths();
        let one = |(name, path): (&str, &Path)| {
            let text = path.to_string_lossy().replace('$', "$$");
            (Key { name: name.to_owned(), at: at.clone() }, Node::new(Value::Str(text), at))
        };
        let all = [("home", &*paths.home), ("config", &*paths.config), ("data", &*paths.data), ("logs", &*paths.logs)];
        under(&["path"], Node::new(Value::Map(Map { entries: all.into_iter().map(one).collect() }), at), at)
    }
}

/// The text of a further file; `None`: there is none (any more), or it is a folder.
///
/// # Errors
/// A file that can't be read, that others may write, or that is no text.
pub fn further_text(fs: &dyn Fs, path: &Path, strict: Strict) -> Result<Option<String>, Error> {
    match read_text(fs, path, strict) {
        Ok(text) => Ok(Some(text)),
        Err(ReadError::Folder) => Ok(None),
        Err(ReadError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(ReadError::Io(e)) => {
            Err(Error::new(format!("{}: {e}", path.display()), "let this user read the file, or take it away"))
        }
        Err(ReadError::NoFile) => {
            Err(Error::new(format!("{}: not a regular file", path.display()), "put a file there, or take it away"))
        }
        Err(ReadError::Wrong(e)) => Err(e),
    }
}

/// The list that a file consists of; an empty file is an empty list.
fn list_of(node: Node, form: Form) -> Result<Node, Error> {
    match &node.value {
        Value::List(_) => Ok(node),
        Value::Map(map) if map.entries.is_empty() => Ok(Node::new(Value::Null, &node.at)),
        _ if form == Form::Modules => Err(Error::at(
            &node.at,
            "",
            "a file of modules is a list of them",
            "begin each module with `- module: `, such as `- module: nginx`, without `filebeat.modules:` above them",
        )),
        _ => Err(Error::at(
            &node.at,
            "",
            "a file of inputs is a list of them",
            "begin each input with `- `, such as `- type: filestream`, without `filebeat.inputs:` above them",
        )),
    }
}

/// A value at a path.
fn under(path: &[&str], value: Node, at: &At) -> Node {
    path.iter().rev().fold(value, |below, name| {
        let entries = vec![(Key { name: (*name).to_owned(), at: at.clone() }, below)];
        Node::new(Value::Map(Map { entries }), at)
    })
}
