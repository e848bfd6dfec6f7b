//! `filebeat.config.modules` of Filebeat 6: the section that names the files of modules.
//!
//! These aren't read, but the file that it is installed with always has such a section, and with no module enabled
//! it names nothing. So: comes in the tree, goes out the same with the section taken when its pattern names no file. What
//! is left shows up in [`crate::Config::leftovers`].
//! Tested in `tests/load.rs`.

use std::path::Path;

use pillion_world::Fs;

use crate::tree::{Node, Value};

/// Takes the section when its `path` matches no file now and it doesn't ask to look again later.
pub(crate) fn take_empty(root: &Node, config_folder: &Path, fs: &dyn Fs) {
    let Some(node) = root.get("filebeat.config.modules") else { return };
    let reload = node.get("reload.enabled").is_some_and(|on| matches!(on.value, Value::Bool(true)));
    let Some(Value::Str(pattern)) = node.get("path").map(|path| &path.value) else { return };
    if !reload && names_nothing(fs, &config_folder.join(pattern)) {
        node.take_all();
    }
}

/// True when it is sure that the pattern matches no file: only its last part may have wildcards.
fn names_nothing(fs: &dyn Fs, pattern: &Path) -> bool {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    if dir.to_string_lossy().contains(['*', '?', '[', '\\']) || name.contains(['[', '\\']) {
        return false;
    }
    let mut found = false;
    let listed = fs.read_dir(dir, &mut |entry| {
        found |= matches(name.as_bytes(), entry.name.as_encoded_bytes());
        !found
    });
    match listed {
        Ok(()) => !found,
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

/// `*` is any number of bytes, `?` one. Goes back to the last `*` only, so the work is at most the product of both
/// lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, hit) in [
            ("*.yml", "nginx.yml", true),
            ("*.yml", "nginx.yml.disabled", false),
            ("?a*b*", "xaYbZ", true),
            ("a", "a", true),
            ("a*", "b", false),
            ("*", "", true),
            ("", "", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), hit, "{pattern} {name}");
        }
    }
}
