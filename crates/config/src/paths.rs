//! Filebeat's four folders: home, config, data, logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::source::{At, Source};
use crate::tree::{Key, Map, Node, Value};

/// The folders, after flags, files and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `path.home`: where the program lies, unless set.
    pub home: PathBuf,
    /// `path.config`: where `-c` names are looked up when it is set; default `${path.home}`.
    pub config: PathBuf,
    /// `path.data`: registry, lock, receipt; default `${path.home}/data`.
    pub data: PathBuf,
    /// `path.logs`: our own log files; default `${path.home}/logs`.
    pub logs: PathBuf,
}

/// The folder that `path.home` means when nobody sets it: that of the program's name as it was called, so the working
/// directory when it was found through `PATH`. That is Filebeat's rule.
pub fn default_home(argv0: &Path, working_directory: &Path) -> PathBuf {
    match argv0.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => working_directory.join(dir),
        _ => working_directory.to_owned(),
    }
}

/// The lowest layer of the configuration: the folders' defaults.
pub(crate) fn defaults(home: &Path) -> Node {
    let source: Arc<Source> = Source::flag("default", "");
    let at = At::new(&source, 1, 1, 1);
    let entry =
        |name: &str, value: String| (Key { name: name.to_owned(), at: at.clone() }, Node::new(Value::Str(value), &at));
    let home = home.to_string_lossy().replace('$', "$$");
    let path = Map {
        entries: vec![
            entry("home", home),
            entry("config", "${path.home}".to_owned()),
            entry("data", "${path.home}/data".to_owned()),
            entry("logs", "${path.home}/logs".to_owned()),
        ],
    };
    let path = (Key { name: "path".to_owned(), at: at.clone() }, Node::new(Value::Map(path), &at));
    Node::new(Value::Map(Map { entries: vec![path] }), &at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_follows_the_name_it_was_called_by() {
        let cwd = Path::new("/here");
        for (argv0, home) in [
            ("filebeat", "/here"),
            ("./filebeat", "/here/."),
            ("bin/pillion", "/here/bin"),
            ("/usr/share/filebeat/filebeat", "/usr/share/filebeat"),
        ] {
            assert_eq!(default_home(Path::new(argv0), cwd), Path::new(home), "{argv0}");
        }
    }
}
