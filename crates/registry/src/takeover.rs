//! The registries of Filebeat 5.6 to 7.8: one JSON array of states.
//!
//! | Filebeat | where |
//! |---|---|
//! | 5.6, 6.x | the file `path.data/registry` (or `registry_file`) |
//! | 7.0 to 7.8 | the folder `path.data/registry/filebeat/` with `meta.json` (version `"0"`) and `data.json` |
//!
//! Comes in: such an array. Goes out: entries, one for each file. As in Filebeat's own conversion: a state without
//! `identifier_name` is known by inode and device; of several states of one file the largest offset and the newest path
//! count; `ttl` becomes -2 (kept until an input says otherwise). A faulty state is skipped and reported.
//! Tested below and in `open.rs`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::chunks::{Bytes, Element};
use crate::entry::{Entry, Kind};
use crate::key::{self, Identifier, LOG_PREFIX};
use crate::load::{Faults, MAX_ENTRIES};
use crate::value::{self, Words};

/// What Filebeat writes for a state that no input claims yet.
const TTL_UNCLAIMED: i64 = -2;

/// Reads an array of states.
pub(crate) fn read_array<R: FnMut(&mut [u8], u64) -> io::Result<usize>>(
    bytes: &mut Bytes<R>,
    path: &Path,
    faults: &mut Faults,
) -> io::Result<Vec<Entry>> {
    let mut found: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
    let mut out = Vec::new();
    let (mut words, mut n) = (Words::default(), 0);
    loop {
        let place = || format!("{}: entry {n}", path.display());
        match bytes.element(n == 0, &mut out)? {
            Element::End => break,
            Element::Damaged => {
                faults.add(|| format!("{}: ends in the middle, behind entry {n}", path.display()));
                break;
            }
            Element::TooLong => faults.add(|| format!("{}: too long", place())),
            Element::Value => match state(&out, &mut words) {
                Ok(new) => match found.get_mut(&new.key) {
                    Some(old) => {
                        faults.add(|| format!("{}: {} is there twice; the larger offset counts", place(), new.key));
                        merge(old, new);
                    }
                    None => {
                        if found.len() >= MAX_ENTRIES {
                            return Err(io::ErrorKind::FileTooLarge.into());
                        }
                        found.insert(Arc::clone(&new.key), new);
                    }
                },
                Err(why) => faults.add(|| format!("{}: {why}; skipped", place())),
            },
        }
        n += 1;
    }
    Ok(found.into_values().collect())
}

fn state(json: &[u8], words: &mut Words) -> Result<Entry, String> {
    let Value::Object(map) = serde_json::from_slice(json).map_err(|e| e.to_string())? else {
        return Err("not an object".into());
    };
    let known = |name| map.get(name).and_then(Value::as_str).filter(|s: &&str| !s.is_empty());
    let id = known("identifier_name").and(known("id")).map(|id| format!("{LOG_PREFIX}{id}"));
    let mut entry = value::decode_log(&"".into(), map, words)?;
    let Kind::Log(log) = &entry.kind else { return Err("not a log's state".into()) };
    entry.key = match id {
        Some(key) => key.into(),
        None if log.ino == 0 => return Err("no inode".into()),
        None => key::log_key(&Identifier::Native { ino: log.ino, dev: log.dev }, &log.words.meta).into(),
    };
    entry.ttl_ns = TTL_UNCLAIMED;
    // What only the program knew that wrote it: the newer format has no place for it.
    if let Some(unknown) = &mut entry.unknown {
        unknown.shift_remove("Finished");
    }
    entry.unknown = entry.unknown.filter(|unknown| !unknown.is_empty());
    Ok(entry)
}

fn merge(old: &mut Entry, new: Entry) {
    let offset = old.offset.max(new.offset);
    if old.updated_ns < new.updated_ns {
        *old = new;
    }
    old.offset = offset;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::slice_reader;

    fn read(text: &str) -> (Vec<Entry>, Faults) {
        let mut faults = Faults::default();
        let reader = slice_reader(text.as_bytes(), 100);
        let mut all = read_array(&mut Bytes::new(reader), Path::new("registry"), &mut faults).unwrap();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        (all, faults)
    }

    #[test]
    fn states_of_each_version() {
        let (all, faults) = read(
            r#"[
            {"source":"/p/a","offset":10,"FileStateOS":{"inode":1,"device":2},"timestamp":"2017-06-01T02:03:04.5Z","ttl":-1},
            {"source":"/p/b","offset":20,"timestamp":"2018-06-01T02:03:04.5Z","ttl":-1,"type":"log","meta":null,"FileStateOS":{"inode":3,"device":2}},
            {"source":"/p/c","offset":30,"timestamp":"2018-06-01T02:03:04.5Z","ttl":-1,"type":"docker","meta":{"stream":"stdout"},"FileStateOS":{"inode":4,"device":2}}
            ]"#,
        );
        assert_eq!(faults.list, [""; 0]);
        let keys: Vec<_> = all.iter().map(|e| (&*e.key, &*e.source, e.offset, e.ttl_ns)).collect();
        let hashed = key::log_key(&Identifier::Native { ino: 4, dev: 2 }, &[("stream".into(), "stdout".into())]);
        assert!(keys.contains(&("filebeat::logs::native::1-2", "/p/a", 10, -2)));
        assert!(keys.contains(&("filebeat::logs::native::3-2", "/p/b", 20, -2)));
        assert!(keys.contains(&(&*hashed, "/p/c", 30, -2)));
    }

    #[test]
    fn duplicates_and_faults_do_not_stop_the_start() {
        let (all, faults) = read(
            r#"[{"source":"/old","offset":90,"timestamp":"2018-01-01T00:00:00Z","FileStateOS":{"inode":1,"device":2}},
            {"source":"/new","offset":10,"timestamp":"2019-01-01T00:00:00Z","FileStateOS":{"inode":1,"device":2}},
            {"source":"/x","offset":-1,"FileStateOS":{"inode":5,"device":2}}, 7, {"source":"/y","offset":1},
            {"source":"/z","offset":1,"FileSta"#,
        );
        assert_eq!(all.iter().map(|e| (&*e.source, e.offset)).collect::<Vec<_>>(), [("/new", 90)]);
        assert_eq!(faults.count, 5, "{:?}", faults.list);
    }
}
