//! Keys in few bytes: most are an input's prefix with an inode and a device, whose text can be made again.
//!
//! Always holds: a key's text comes back as it was, byte for byte; two keys are the same here exactly when their texts are.
//! Tested below.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// What stands between a key's prefix and its inode.
const NATIVE: &str = "native::";

/// More prefixes aren't kept apart from their keys: their number is that of the inputs, not that of the files.
const MAX_PREFIXES: usize = 1024;

/// A key, or what its text can be made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CompactKey {
    /// A prefix of [`Prefixes`], an inode and a device.
    Native {
        /// Inode number.
        ino: u64,
        /// Device number.
        dev: u32,
        /// Which prefix.
        prefix: u16,
    },
    /// The text.
    Text(Box<Arc<str>>),
}

/// What to look for: a key's text, taken apart. Two are the same exactly when the texts are, as long as no prefix is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Parts<'a> {
    Native(u16, u64, u32),
    Text(&'a str),
}

/// The prefixes that keys share.
#[derive(Clone, Debug, Default)]
pub struct Prefixes(Vec<Box<str>>);

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Prefix, inode and device of a key whose text these give back.
fn split(key: &str) -> Option<(&str, u64, u32)> {
    let at = key.rfind(NATIVE)?;
    let (prefix, rest) = key.split_at(at);
    let (ino, dev) = rest.strip_prefix(NATIVE)?.split_once('-')?;
    Some((prefix, number(ino)?, number(dev)?))
}

impl Prefixes {
    fn number_of(&self, prefix: &str) -> Option<u16> {
        self.0.iter().position(|p| **p == *prefix).and_then(|at| u16::try_from(at).ok())
    }

    /// A key's text, taken apart.
    pub(crate) fn parts<'a>(&self, key: &'a str) -> Parts<'a> {
        let native = split(key).and_then(|(prefix, ino, dev)| Some(Parts::Native(self.number_of(prefix)?, ino, dev)));
        native.unwrap_or(Parts::Text(key))
    }

    /// The key in few bytes.
    pub fn compact(&mut self, key: &Arc<str>) -> CompactKey {
        if let Some((prefix, ..)) = split(key)
            && self.0.len() < MAX_PREFIXES
            && self.number_of(prefix).is_none()
        {
            self.0.push(prefix.into());
        }
        self.known(key)
    }

    /// The same, of a key that was made small before.
    pub fn known(&self, key: &Arc<str>) -> CompactKey {
        match self.parts(key) {
            Parts::Native(prefix, ino, dev) => CompactKey::Native { ino, dev, prefix },
            Parts::Text(_) => CompactKey::Text(Box::new(Arc::clone(key))),
        }
    }

    /// Its text.
    pub fn text(&self, key: &CompactKey) -> Arc<str> {
        match key {
            CompactKey::Text(text) => Arc::clone(text),
            CompactKey::Native { ino, dev, prefix } => {
                let prefix = self.0.get(usize::from(*prefix)).map_or("", |p| p);
                format!("{prefix}{NATIVE}{ino}-{dev}").into()
            }
        }
    }

    /// Whether this is the key of that text.
    pub fn is(&self, key: &CompactKey, text: &str) -> bool {
        parts_of(key) == self.parts(text)
    }

    /// A hash of a key's text: that of [`hash_of`], as long as no prefix is new.
    pub fn hash(&self, text: &str) -> u64 {
        hash(self.parts(text))
    }
}

/// A key, taken apart.
pub(crate) fn parts_of(key: &CompactKey) -> Parts<'_> {
    match key {
        CompactKey::Native { ino, dev, prefix } => Parts::Native(*prefix, *ino, *dev),
        CompactKey::Text(text) => Parts::Text(text),
    }
}

/// A hash of a key that is taken apart.
pub(crate) fn hash(parts: Parts<'_>) -> u64 {
    // With a fixed key, so that one seed replays a run.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(parts)
}

/// A hash of a key.
pub fn hash_of(key: &CompactKey) -> u64 {
    hash(parts_of(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_is_two_words() {
        assert_eq!(size_of::<CompactKey>(), 16);
    }

    #[test]
    fn keys_that_are_usual_need_no_text() {
        let mut prefixes = Prefixes::default();
        for key in ["filebeat::logs::native::5841252-65024", "filestream::jobs::native::18446744073709551615-0"] {
            assert!(matches!(prefixes.compact(&key.into()), CompactKey::Native { .. }), "{key}");
        }
        for key in
            ["", "native::", "filebeat::logs::native::01-1", "filebeat::logs::native::1-4294967296", "a::native::+1-1"]
        {
            assert!(matches!(prefixes.compact(&key.into()), CompactKey::Text(_)), "{key}");
        }
    }

    proptest! {
        /// Any texts, many of them nearly native keys: they come back, and are told apart.
        #[test]
        fn texts_come_back(keys in prop::collection::vec("(a::|b::native::)?(native::)?[0-9]{0,3}-?[0-9]{0,3}", 1..20)) {
            let mut prefixes = Prefixes::default();
            let all: Vec<(Arc<str>, CompactKey)> =
                keys.iter().map(|k| (Arc::from(k.as_str()), prefixes.compact(&k.as_str().into()))).collect();
            for (text, key) in &all {
                prop_assert_eq!(&prefixes.text(key), text);
                for (other, _) in &all {
                    prop_assert_eq!(prefixes.is(key, other), text == other, "{} {}", text, other);
                }
                prop_assert_eq!(prefixes.hash(text), hash_of(key));
            }
        }
    }
}
