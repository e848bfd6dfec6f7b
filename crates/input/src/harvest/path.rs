//! Where a file was last seen.
//!
//! Always holds: of a file that isn't quiet there is one text of its path in memory, shared by the harvester and the batches;
//! only a path that isn't UTF-8 is kept beside its text. What lasts (`cold.rs`, the registry's entry, the receipt's account)
//! keeps a path in fewer bytes. Tested below.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file's path.
#[derive(Clone, Debug)]
pub(crate) enum FilePath {
    /// The path is this text.
    Text(Arc<str>),
    /// The path isn't UTF-8; its text stands for it.
    Raw(Box<(PathBuf, Arc<str>)>),
}

impl FilePath {
    /// The path as text, lossily where it isn't UTF-8.
    pub(crate) fn text(&self) -> &Arc<str> {
        match self {
            FilePath::Text(text) => text,
            FilePath::Raw(both) => &both.1,
        }
    }

    /// Keeps a text that somebody else has in the place of its own, where it is the same.
    pub(crate) fn share(&mut self, text: &Arc<str>) {
        match self {
            FilePath::Text(own) if own == text => *own = Arc::clone(text),
            FilePath::Raw(both) if both.1 == *text => both.1 = Arc::clone(text),
            _ => {}
        }
    }
}

impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> FilePath {
        match path.to_str() {
            Some(text) => FilePath::Text(text.into()),
            None => {
                let text = path.to_string_lossy().into();
                FilePath::Raw(Box::new((path, text)))
            }
        }
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        match self {
            FilePath::Text(text) => Path::new(&**text),
            FilePath::Raw(both) => &both.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_is_its_text_unless_it_has_none() {
        let mut plain = FilePath::from(PathBuf::from("/x/a.log"));
        assert_eq!((&*plain, &**plain.text()), (Path::new("/x/a.log"), "/x/a.log"));
        let others: Arc<str> = "/x/a.log".into();
        plain.share(&others);
        assert!(Arc::ptr_eq(plain.text(), &others));
        plain.share(&"/x/b.log".into());
        assert!(Arc::ptr_eq(plain.text(), &others), "another path's text");

        let bytes = PathBuf::from(OsStr::from_bytes(b"/x/\xff.log"));
        let raw = FilePath::from(bytes.clone());
        assert_eq!((&*raw, &**raw.text()), (&*bytes, "/x/\u{fffd}.log"));
    }

    #[test]
    fn it_is_two_words() {
        assert_eq!(size_of::<FilePath>(), 2 * size_of::<usize>());
    }
}
