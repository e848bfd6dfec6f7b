//! Filebeat's keystore: a file of secrets by name, for `${NAME}` in configurations.
//!
//! Comes in: the file, or nothing yet. Goes out: secrets by name, and the file with what was changed. Its format:
//! `v1`, then base64 of salt (64 bytes), nonce (12) and AES-256-GCM of the JSON `{"NAME": {"value": base64}}` with its tag;
//! the key is PBKDF2 (SHA-512, 10,000 rounds) of an empty password: it hides secrets from a glance, not from who can read
//! the file. Facts: elastic/beats `libbeat/keystore/file_keystore.go`.
//!
//! Always holds: what is written is the old file or the new one, whole, and for its owner alone; a file that others may
//! read isn't read, unless `--strict.perms=false` says so; no secret and no part of the file is in an error.
//! Tested below, and beside the real Filebeat by `cargo xtask e2e keystore`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA512};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pillion_world::{FileKind, Fs, World};
use serde_json::{Map, Value, json};

use crate::error::Error;

/// What a keystore may hold: far more than anybody keeps in one.
const FILE_LIMIT: usize = 1 << 20;
const VERSION: &[u8] = b"v1";
const SALT: usize = 64;
const ROUNDS: NonZeroU32 = match NonZeroU32::new(10_000) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

/// Who may read the file.
#[derive(Clone, Copy, Debug)]
pub struct Strict {
    /// `--strict.perms`.
    pub perms: bool,
    /// This process's effective user.
    pub euid: u32,
}

/// The secrets of a keystore.
#[derive(Clone, Default)]
pub struct Keystore {
    path: PathBuf,
    secrets: BTreeMap<String, Vec<u8>>,
}

/// Names alone.
impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystore").field("path", &self.path).field("names", &self.secrets.len()).finish()
    }
}

impl Keystore {
    /// An empty one, to be saved there.
    pub fn empty(path: &Path) -> Keystore {
        Keystore { path: path.to_owned(), secrets: BTreeMap::new() }
    }

    /// Reads a keystore; `None`: there is no such file.
    ///
    /// # Errors
    /// A file that can't be read, that others may read, or that isn't a keystore.
    pub fn load(fs: &dyn Fs, path: &Path, strict: Strict) -> Result<Option<Keystore>, Error> {
        let shown = path.display();
        let meta = match fs.stat(path, true) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(Error::new(format!("the keystore {shown}: {e}"), "let this user read it")),
            Ok(meta) => meta,
        };
        if meta.kind != FileKind::File {
            return Err(Error::new(
                format!("the keystore {shown} isn't a file"),
                "name the file itself (keystore.path)",
            ));
        }
        if strict.perms {
            check_permissions(path, meta.uid, meta.mode, strict.euid)?;
        }
        let bytes = fs.read(path, FILE_LIMIT);
        let bytes = bytes.map_err(|e| Error::new(format!("the keystore {shown}: {e}"), "let this user read it"))?;
        let secrets = open(&bytes).map_err(|why| {
            Error::new(
                format!("the keystore {shown}: {why}"),
                "make it anew: `keystore create --force`, `keystore add`",
            )
        })?;
        Ok(Some(Keystore { path: path.to_owned(), secrets }))
    }

    /// A secret. One that isn't UTF-8 is shown with replacement characters, as a text of a configuration can't hold it.
    pub fn get(&self, name: &str) -> Option<String> {
        self.secrets.get(name).map(|secret| String::from_utf8_lossy(secret).into_owned())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// Puts a secret, in the place of one that has that name.
    pub fn put(&mut self, name: &str, secret: Vec<u8>) {
        self.secrets.insert(name.to_owned(), secret);
    }

    /// Takes a secret out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.secrets.remove(name).is_some()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The folder or the file can't be written.
    pub fn save(&self, world: &World) -> Result<(), Error> {
        let bytes = seal(&self.secrets, world).ok_or_else(|| Error::new("the keystore can't be sealed", ""))?;
        let folder = self.folder();
        let made = world.fs.create_dir_all(folder, 0o750).and_then(|()| world.fs.replace(&self.path, &bytes, 0o600));
        made.map_err(|e| self.unwritable(&e))
    }

    /// Where the file lies.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// What is said when it can't be written.
    pub fn unwritable(&self, why: &std::io::Error) -> Error {
        Error::new(
            format!("the keystore {}: {why}", self.path.display()),
            "let this user write there, or set --path.data",
        )
    }
}

/// Filebeat's rule: its owner's or root's, and for nobody else.
fn check_permissions(path: &Path, owner: u32, mode: u32, euid: u32) -> Result<(), Error> {
    let shown = path.display();
    if owner != 0 && owner != euid {
        return Err(Error::new(
            format!("the keystore {shown} belongs to user {owner}, not to this one ({euid}) or root"),
            format!("chown it, or pass --strict.perms=false ({shown})"),
        ));
    }
    match mode & 0o777 {
        0o600 => Ok(()),
        mode => Err(Error::new(
            format!("the keystore {shown} has mode {mode:04o}: others may read it"),
            format!("chmod 600 {shown}, or where a volume doesn't allow that, pass --strict.perms=false"),
        )),
    }
}

fn key(salt: &[u8]) -> Option<LessSafeKey> {
    let mut key = [0; 32];
    pbkdf2::derive(PBKDF2_HMAC_SHA512, ROUNDS, salt, b"", &mut key);
    UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
}

/// The secrets in the bytes of a file.
fn open(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, &'static str> {
    let encoded = bytes.strip_prefix(VERSION).ok_or("it isn't a keystore of version v1")?;
    let encoded: Vec<u8> = encoded.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let data = STANDARD.decode(encoded).map_err(|_| "it is cut off or changed (base64)")?;
    let (salt, rest) = data.split_at_checked(SALT).ok_or("it is cut off")?;
    let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or("it is cut off")?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| "it is cut off")?;
    let mut sealed = sealed.to_vec();
    let key = key(salt).ok_or("its key can't be made")?;
    let plain = key
        .open_in_place(nonce, Aad::empty(), &mut sealed)
        .map_err(|_| "it can't be opened: it is cut off or changed, or has a password")?;
    let root: Value = serde_json::from_slice(plain).map_err(|_| "what is in it isn't JSON")?;
    let Value::Object(root) = root else { return Err("what is in it isn't a list of secrets") };
    let secret = |value: &Value| STANDARD.decode(value.get("value")?.as_str()?).ok();
    let secrets = root.iter().map(|(name, value)| Some((name.clone(), secret(value)?)));
    secrets.collect::<Option<_>>().ok_or("a secret in it can't be read")
}

fn seal(secrets: &BTreeMap<String, Vec<u8>>, world: &World) -> Option<Vec<u8>> {
    let entry = |(name, secret): (&String, &Vec<u8>)| (name.clone(), json!({"value": STANDARD.encode(secret)}));
    let root: Map<String, Value> = secrets.iter().map(entry).collect();
    // Go's encoder ends with a line end.
    let mut sealed = format!("{}\n", Value::Object(root)).into_bytes();
    let mut data = vec![0; SALT + NONCE_LEN];
    world.random.fill(&mut data);
    let (salt, nonce) = data.split_at_checked(SALT)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    key(salt)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).ok()?;
    data.extend_from_slice(&sealed);
    Some([VERSION, STANDARD.encode(data).as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Strict = Strict { perms: false, euid: 0 };

    #[test]
    fn what_is_saved_is_read_and_nothing_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/filebeat.keystore");
        let world = World::real();
        assert!(Keystore::load(&*world.fs, &path, MINE).unwrap().is_none());
        let mut store = Keystore::empty(&path);
        store.put("ES_PWD", b"geheim\n".to_vec());
        store.put("bytes", vec![0xff, 0]);
        store.save(&world).unwrap();
        let mut again = Keystore::load(&*world.fs, &path, MINE).unwrap().unwrap();
        assert_eq!(again.get("ES_PWD").as_deref(), Some("geheim\n"));
        assert_eq!(again.names().collect::<Vec<_>>(), ["ES_PWD", "bytes"]);
        assert!(again.remove("bytes") && !again.remove("bytes"));
        assert!(!format!("{again:?}").contains("geheim"));
        let file = world.fs.read(&path, FILE_LIMIT).unwrap();
        assert!(file.starts_with(b"v1") && !file.windows(6).any(|w| w == b"geheim"));
        assert_eq!(world.fs.stat(&path, true).unwrap().mode & 0o777, 0o600);
        again.save(&world).unwrap();
        assert_ne!(world.fs.read(&path, FILE_LIMIT).unwrap(), file, "another salt");
    }

    #[test]
    fn one_of_filebeat_7_17_is_read() {
        // `filebeat keystore add ES_PWD --stdin` with `s3cr3t: [a, b]`, Filebeat 7.17.29.
        let store = open(include_bytes!("keystore/testdata/filebeat-7.17.keystore")).unwrap();
        assert_eq!(store.get("ES_PWD").map(Vec::as_slice), Some(&b"s3cr3t: [a, b]"[..]));
    }

    #[test]
    fn who_may_read_it() {
        let path = Path::new("/k");
        for (owner, mode, good) in
            [(7, 0o600, true), (0, 0o600, true), (8, 0o600, false), (7, 0o640, false), (7, 0o400, false)]
        {
            assert_eq!(check_permissions(path, owner, mode, 7).is_ok(), good, "{owner} {mode:o}");
        }
    }

    #[test]
    fn what_was_changed_is_refused_in_words() {
        let world = World::real();
        let good = seal(&BTreeMap::from([("a".to_owned(), b"b".to_vec())]), &world).unwrap();
        assert!(open(&good).is_ok());
        for cut in 0..good.len() {
            assert!(open(&good[..cut]).is_err(), "{cut}");
        }
        for at in [2, 90, 110, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert!(open(&bad).is_err(), "{at}");
        }
    }
}
