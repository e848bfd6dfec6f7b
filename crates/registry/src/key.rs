//! Keys: which file an entry is about, in Filebeat's words.
//!
//! Comes in: an identifier (inode and device, path, marker, fingerprint) and the kind of input. Goes out: the key
//! string under which Filebeat would look for the same file; and back.
//!
//! - `log` and `container`: `filebeat::logs::IDENTIFIER`; with `meta` (a container input that reads one stream alone)
//!   `filebeat::logs::HASH-IDENTIFIER`, HASH as `hashstructure` of Go makes it.
//! - `filestream`: `filestream::ID::IDENTIFIER`, ID `.global` where the input has none.
//! - Of two files that are there together with one fingerprint, the second one's has `~` and a hash of its path behind it.
//!
//! Tested below with keys that real Filebeats wrote.

use std::fmt;

/// What all keys of `log` and `container` inputs begin with.
pub const LOG_PREFIX: &str = "filebeat::logs::";
/// What all keys of `filestream` inputs begin with.
pub const FILESTREAM_PREFIX: &str = "filestream::";
/// What stands for the id of a `filestream` input that has none.
pub const GLOBAL_ID: &str = ".global";

/// What tells a file from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// Inode and device: `native::INODE-DEVICE`.
    Native {
        /// Inode number.
        ino: u64,
        /// Device number; means something on this machine alone.
        dev: u64,
    },
    /// The path: `path::PATH`.
    Path(String),
    /// The inode and the content of a marker file: `inode_marker::INODE-MARKER`.
    InodeMarker {
        /// Inode number.
        ino: u64,
        /// What the marker file holds, as it is (line ending included).
        marker: String,
    },
    /// A hash of the file's beginning in hexadecimal: `fingerprint::SHA256`.
    Fingerprint(String),
    /// What another program or a later version wrote: `NAME::VALUE`.
    Other {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Identifier {
    /// The name in keys and in `identifier_name`.
    pub fn name(&self) -> &str {
        match self {
            Identifier::Native { .. } => "native",
            Identifier::Path(_) => "path",
            Identifier::InodeMarker { .. } => "inode_marker",
            Identifier::Fingerprint(_) => "fingerprint",
            Identifier::Other { name, .. } => name,
        }
    }

    /// Reads `NAME::VALUE`; `None` when there is no `::`.
    pub fn parse(text: &str) -> Option<Identifier> {
        let (name, value) = text.split_once("::")?;
        let inode = || {
            let (ino, rest) = value.split_once('-')?;
            Some((ino.parse::<u64>().ok()?, rest))
        };
        let known = match name {
            "native" => inode().and_then(|(ino, dev)| Some(Identifier::Native { ino, dev: dev.parse().ok()? })),
            "path" => Some(Identifier::Path(value.to_owned())),
            "inode_marker" => inode().map(|(ino, marker)| Identifier::InodeMarker { ino, marker: marker.to_owned() }),
            "fingerprint" => Some(Identifier::Fingerprint(value.to_owned())),
            _ => None,
        };
        Some(known.unwrap_or_else(|| Identifier::Other { name: name.to_owned(), value: value.to_owned() }))
    }
}

impl fmt::Display for Identifier {
    /// `NAME::VALUE`, as in keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identifier::Native { ino, dev } => write!(f, "native::{ino}-{dev}"),
            Identifier::Path(path) => write!(f, "path::{path}"),
            Identifier::InodeMarker { ino, marker } => write!(f, "inode_marker::{ino}-{marker}"),
            Identifier::Fingerprint(hash) => write!(f, "fingerprint::{hash}"),
            Identifier::Other { name, value } => write!(f, "{name}::{value}"),
        }
    }
}

/// The key of a file that a `log` or `container` input reads. `meta`: what distinguishes several states of one file
/// (`[("stream", "stdout")]` for a container input that reads one stream alone); mostly none.
pub fn log_key(identifier: &Identifier, meta: &[(String, String)]) -> String {
    if meta.is_empty() {
        format!("{LOG_PREFIX}{identifier}")
    } else {
        format!("{LOG_PREFIX}{:x}-{identifier}", meta_hash(meta))
    }
}

/// The key of a file that a `filestream` input reads; `input_id` empty = none.
pub fn filestream_key(input_id: &str, identifier: &Identifier) -> String {
    let id = if input_id.is_empty() { GLOBAL_ID } else { input_id };
    format!("{FILESTREAM_PREFIX}{id}::{identifier}")
}

/// What parts a file from another one with its fingerprint that is there too: the fingerprint, and a hash of the path.
pub fn tied(fingerprint: &str, path: &[u8]) -> Identifier {
    let plain = fingerprint.split('~').next().unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path);
    let tie = digest.as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        use fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    });
    Identifier::Fingerprint(format!("{plain}~{tie}"))
}

/// The key of the same file, tied to this path; `None`: it isn't told apart by a fingerprint.
pub fn tied_key(key: &str, path: &[u8]) -> Option<String> {
    let Some(Identifier::Fingerprint(value)) = identifier_of(key) else { return None };
    let Identifier::Fingerprint(tied) = tied(&value, path) else { return None };
    Some(format!("{}{tied}", key.strip_suffix(&*value)?))
}

/// A key without what [`tied`] has added.
pub fn untied(key: &str) -> &str {
    const NAME: &str = "::fingerprint::";
    let value = key.rfind(NAME).map_or(key.len(), |at| at + NAME.len());
    let tie = key.get(value..).and_then(|rest| rest.find('~'));
    key.get(..tie.map_or(key.len(), |at| value + at)).unwrap_or(key)
}

/// The identifier at the end of a key; `None` for a key of another form.
///
/// An input's id may hold `::` itself: the last place where a known name begins is taken for the identifier, except
/// that a path may hold anything: `path::` counts from its first place.
pub fn identifier_of(key: &str) -> Option<Identifier> {
    if let Some(rest) = key.strip_prefix(LOG_PREFIX) {
        let (name, _) = rest.split_once("::")?;
        let hash = name.split_once('-').map(|(hash, _)| hash).filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        return Identifier::parse(rest.get(hash.map_or(0, |h| h.len() + 1)..)?);
    }
    let rest = key.strip_prefix(FILESTREAM_PREFIX)?;
    let first_path = rest.find("::path::");
    let last = ["::native::", "::inode_marker::", "::fingerprint::"].iter().filter_map(|n| rest.rfind(n)).max();
    let at = match (first_path, last) {
        (Some(path), Some(other)) => path.min(other),
        (Some(at), None) | (None, Some(at)) => at,
        (None, None) => rest.find("::")?,
    };
    Identifier::parse(rest.get(at + 2..)?)
}

/// What Go's `hashstructure.Hash` (v1, FNV-1, 64 bits) makes of a `map[string]string`.
fn meta_hash(meta: &[(String, String)]) -> u64 {
    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| h.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*b))
    }
    let pair = |(k, v): &(String, String)| {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&fnv(k.as_bytes()).to_le_bytes());
        both[8..].copy_from_slice(&fnv(v.as_bytes()).to_le_bytes());
        fnv(&both)
    };
    meta.iter().fold(0, |h, kv| h ^ pair(kv))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_filebeat_writes_them() {
        let native = Identifier::Native { ino: 5_841_252, dev: 65_024 };
        assert_eq!(log_key(&native, &[]), "filebeat::logs::native::5841252-65024");
        assert_eq!(filestream_key("jobs", &native), "filestream::jobs::native::5841252-65024");
        assert_eq!(filestream_key("", &native), "filestream::.global::native::5841252-65024");
        let path = Identifier::Path("/x/a::b.log".into());
        assert_eq!(log_key(&path, &[]), "filebeat::logs::path::/x/a::b.log");
    }

    #[test]
    fn identifiers_come_back_from_keys() {
        let all = [
            Identifier::Native { ino: 1, dev: u64::MAX },
            Identifier::Path("/x/native::1-2/a-b.log".into()),
            Identifier::InodeMarker { ino: 7, marker: "m-1\n".into() },
            Identifier::Fingerprint("31a8".into()),
            Identifier::Other { name: "new".into(), value: "x".into() },
        ];
        let meta = [("stream".to_owned(), "stdout".to_owned())];
        for id in all {
            assert_eq!(identifier_of(&log_key(&id, &[])), Some(id.clone()));
            assert_eq!(identifier_of(&log_key(&id, &meta)), Some(id.clone()));
            assert_eq!(identifier_of(&filestream_key("", &id)), Some(id.clone()));
            assert_eq!(identifier_of(&filestream_key("jobs", &id)), Some(id.clone()));
        }
        for key in ["", "winlogbeat::x", "filebeat::logs::", "filestream::", "filestream::jobs"] {
            assert_eq!(identifier_of(key), None, "{key}");
        }
    }

    #[test]
    fn a_fingerprint_is_tied_to_one_path_at_a_time() {
        let plain = filestream_key("jobs", &Identifier::Fingerprint("31a8".into()));
        let one = tied_key(&plain, b"/x/a.log").unwrap();
        assert_eq!(one, "filestream::jobs::fingerprint::31a8~7a49475f5def362e");
        let other = tied_key(&one, b"/x/b.log").unwrap();
        assert_ne!(one, other);
        assert_eq!((untied(&one), untied(&plain)), (&*plain, &*plain));
        assert_eq!(tied_key(&other, b"/x/a.log"), Some(one));
        let path = log_key(&Identifier::Path("/x/a~b".into()), &[]);
        assert_eq!(untied(&path), path);
        assert_eq!(tied_key(&log_key(&Identifier::Path("/x".into()), &[]), b"/x"), None);
    }

    #[test]
    fn the_hash_is_that_of_gos_hashstructure() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        // What github.com/mitchellh/hashstructure v1.1.0 answers.
        assert_eq!(meta_hash(&[pair("stream", "stdout")]), 0xea74_5ab6_88be_85a9);
        assert_eq!(meta_hash(&[pair("stream", "stderr"), pair("a", "b")]), 0xee16_096c_f51c_b975);
        let native = Identifier::Native { ino: 1, dev: 2 };
        let key = log_key(&native, &[pair("stream", "stdout")]);
        assert_eq!(key, "filebeat::logs::ea745ab688be85a9-native::1-2");
    }

    #[test]
    fn a_damaged_native_identifier_is_another_one() {
        for text in ["native::x-1", "native::1", "native::1-", "inode_marker::-m"] {
            assert!(matches!(Identifier::parse(text), Some(Identifier::Other { .. })), "{text}");
        }
    }
}
