//! Paths in few bytes: many files lie in few folders, so that a folder's text is kept once, and a file's name without an
//! allocation of its own.
//!
//! Always holds: a path's text comes back as it was, byte for byte. A folder is never forgotten, so that their number is
//! bounded ([`MAX_FOLDERS`]): what lies in a further one, or has a longer name than [`NAME`], is kept as its text, which it
//! shares with whoever else has it.
//! Tested below.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use hashbrown::HashTable;

/// More folders aren't kept apart from their files' names.
const MAX_FOLDERS: usize = 1024;

/// The longest name that stands beside its folder's number, in bytes.
const NAME: usize = 20;

/// A path, or what its text can be made of.
#[derive(Clone, Debug)]
pub struct CompactPath(Form);

#[derive(Clone, Debug)]
enum Form {
    Named {
        /// The folder's number: in two bytes, so that nothing is aligned.
        folder: [u8; 2],
        len: u8,
        name: [u8; NAME],
    },
    Text(Arc<str>),
}

/// A path up to its last slash, with it, and what stands behind.
pub type PathParts<'a> = (&'a [u8], &'a [u8]);

/// Takes a path apart.
pub fn path_parts(path: &[u8]) -> PathParts<'_> {
    path.split_at(path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1))
}

/// The folders that paths share.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    texts: Vec<Box<str>>,
    index: HashTable<u16>,
}

fn hash(folder: &str) -> u64 {
    // With a fixed key, so that one seed replays a run.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(folder)
}

impl Folders {
    /// A path in few bytes.
    pub fn compact(&mut self, path: &Arc<str>) -> CompactPath {
        CompactPath(self.named(path).unwrap_or_else(|| Form::Text(Arc::clone(path))))
    }

    fn named(&mut self, path: &str) -> Option<Form> {
        let (folder, rest) = path.split_at(path.rfind('/').map_or(0, |at| at + 1));
        let mut name = [0; NAME];
        name.get_mut(..rest.len())?.copy_from_slice(rest.as_bytes());
        let folder = self.number_of(folder)?.to_ne_bytes();
        Some(Form::Named { folder, len: rest.len() as u8, name })
    }

    fn number_of(&mut self, folder: &str) -> Option<u16> {
        let (texts, mine) = (&mut self.texts, hash(folder));
        let text = |at: u16| texts.get(usize::from(at)).map_or("", |text| text);
        if let Some(known) = self.index.find(mine, |at| text(*at) == folder) {
            return Some(*known);
        }
        let at = u16::try_from(texts.len()).ok().filter(|_| texts.len() < MAX_FOLDERS)?;
        texts.push(folder.into());
        let text = |at: u16| texts.get(usize::from(at)).map_or("", |text| text);
        self.index.insert_unique(mine, at, |at| hash(text(*at)));
        Some(at)
    }

    /// A path's text.
    pub fn text(&self, path: &CompactPath) -> Arc<str> {
        if let Form::Text(text) = &path.0 {
            return Arc::clone(text);
        }
        let (folder, name) = self.parts(path);
        // Both were texts when they came in.
        String::from_utf8_lossy(&[folder, name].concat()).into()
    }

    /// A path's parts.
    pub fn parts<'a>(&'a self, path: &'a CompactPath) -> PathParts<'a> {
        match &path.0 {
            Form::Text(text) => path_parts(text.as_bytes()),
            Form::Named { folder, len, name } => {
                let folder = self.texts.get(usize::from(u16::from_ne_bytes(*folder))).map_or("", |text| text);
                (folder.as_bytes(), name.get(..usize::from(*len)).unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_three_words() {
        assert_eq!(size_of::<CompactPath>(), 24);
    }

    #[test]
    fn folders_are_bounded() {
        let mut folders = Folders::default();
        let all: Vec<(Arc<str>, CompactPath)> = (0..2 * MAX_FOLDERS)
            .map(|n| Arc::from(format!("/{n}/a.log")))
            .map(|path: Arc<str>| (Arc::clone(&path), folders.compact(&path)))
            .collect();
        assert_eq!(folders.texts.len(), MAX_FOLDERS);
        assert!(all.iter().all(|(text, path)| folders.text(path) == *text));
    }

    #[test]
    fn a_long_name_shares_its_text() {
        let mut folders = Folders::default();
        let path: Arc<str> = format!("/x/{}.log", "a".repeat(NAME)).into();
        let compact = folders.compact(&path);
        assert!(Arc::ptr_eq(&path, &folders.text(&compact)));
        assert!(folders.texts.is_empty(), "a folder is kept for nobody");
    }

    proptest! {
        /// Any texts: they come back, with their parts.
        #[test]
        fn texts_come_back(paths in prop::collection::vec("(/|/a/|/b/é/|//|)[a-zé/]{0,25}", 1..20)) {
            let mut folders = Folders::default();
            let all: Vec<(Arc<str>, CompactPath)> =
                paths.iter().map(|p| (Arc::from(p.as_str()), folders.compact(&p.as_str().into()))).collect();
            for (text, path) in &all {
                prop_assert_eq!(&folders.text(path), text);
                prop_assert_eq!(folders.parts(path), path_parts(text.as_bytes()));
                let (folder, name) = path_parts(text.as_bytes());
                prop_assert_eq!([folder, name].concat(), text.as_bytes());
                prop_assert!(!name.contains(&b'/') && (folder.is_empty() || folder.ends_with(b"/")));
            }
        }
    }
}
