//! cache: a value of one event, put into others with the same key.
//!
//! Comes in: events in the order in which they are read. Goes out: the same, with what an earlier one had.
//!
//! Always holds: what is kept is bounded in number and bytes: the oldest goes first. Time is the read time of an event's
//! chunk. Stores are shared by their ids within the process and are gone with it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, required};
use crate::doc::Doc;
use crate::generations::Generations;
use crate::tree;

/// The most values of a store without `capacity`.
const CAPACITY: usize = 65_536;
/// The most bytes of a store.
const BYTES: usize = 4 << 20;
/// The most stores: whoever may write hints for pods may name processors, and each name costs memory.
const STORES_MAX: usize = 16;

/// The values of a store.
#[derive(Debug)]
struct Store {
    kept: Generations<String, Value>,
    /// Of the young ones.
    bytes: usize,
}

impl Store {
    fn new(capacity: usize) -> Store {
        Store { kept: Generations::new(capacity), bytes: 0 }
    }

    fn put(&mut self, key: String, value: Value, expires_ms: i64) {
        let bytes = key.len() + tree::weight(&value);
        if bytes > BYTES / 2 {
            return;
        }
        if self.kept.is_grown() || self.bytes + bytes > BYTES / 2 {
            self.kept.turn();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.kept.put(key, value, expires_ms);
    }

    fn get(&self, key: &str, now_ms: i64) -> Option<Value> {
        self.kept.get(key, now_ms).cloned()
    }

    fn delete(&mut self, key: &str) {
        self.kept.remove(key);
    }
}

/// The stores that some processor has.
static STORES: Mutex<Vec<(String, Weak<Mutex<Store>>)>> = Mutex::new(Vec::new());

/// The store of this name; `None` when there are too many.
fn store(id: &str, capacity: usize) -> Option<Arc<Mutex<Store>>> {
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.retain(|(_, store)| store.strong_count() > 0);
    if let Some(store) = stores.iter().find(|(known, _)| known == id).and_then(|(_, store)| store.upgrade()) {
        return Some(store);
    }
    if stores.len() >= STORES_MAX {
        return None;
    }
    let store = Arc::new(Mutex::new(Store::new(capacity)));
    stores.push((id.to_owned(), Arc::downgrade(&store)));
    Some(store)
}

#[derive(Debug)]
enum Job {
    Put { value: String, ttl_ms: i64 },
    Get { target: String },
    Delete,
}

#[derive(Debug)]
struct Cache {
    store: Arc<Mutex<Store>>,
    key: String,
    job: Job,
    ignore_missing: bool,
    ignore_failure: bool,
    overwrite_keys: bool,
}

impl Cache {
    fn work(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let now_ms = doc.read_ms();
        if let Job::Get { target } = &self.job
            && !self.overwrite_keys
            && doc.get(target).is_ok()
        {
            return Err(format!("target field '{target}' already exists and overwrite_keys is false"));
        }
        let key = match doc.get(&self.key)?.text() {
            Some(text) => String::from_utf8_lossy(text).into_owned(),
            None => return Err(format!("key field '{}' is not a string", self.key)),
        };
        let lock = || self.store.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.job {
            Job::Put { value, ttl_ms } => {
                let value = doc.get(value)?.to_value();
                lock().put(key, value, now_ms.saturating_add(*ttl_ms));
            }
            Job::Get { target } => {
                let found = lock().get(&key, now_ms).filter(|value| !value.is_null());
                doc.put(target, found.ok_or_else(|| format!("metadata not found for '{key}'"))?)?;
            }
            Job::Delete => lock().delete(&key),
        }
        Ok(())
    }
}

impl Action for Cache {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        match self.work(doc) {
            Err(e) if !(self.ignore_failure || self.ignore_missing && e == tree::NOT_FOUND) => Err(e),
            _ => Ok(Done::Keep),
        }
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    if s.has("backend.file") {
        return Err(s.error("backend.file", "values aren't kept on the disk", "use `backend.memory.id`"));
    }
    let Some(id) = s.str("backend.memory.id")? else {
        return Err(s.error("backend", "no store is named", "give `backend.memory.id`"));
    };
    let capacity = s.usize("backend.capacity")?.filter(|n| *n > 0).unwrap_or(CAPACITY);
    let jobs: Vec<&str> = ["put", "get", "delete"].into_iter().filter(|job| s.has(job)).collect();
    let ([name], Some(job)) = (jobs.as_slice(), jobs.first().and_then(|job| s.section(job).transpose())) else {
        return Err(s.error_here("not exactly one operation is given", "give one of put, get and delete"));
    };
    let job = job?;
    let key = required(&job, "key_field")?;
    let job = match *name {
        "put" => {
            let Some(ttl) = job.duration("ttl")? else {
                return Err(job.error("ttl", "`ttl` is missing", "say how long a value is kept, such as 1h"));
            };
            let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
            Job::Put { value: required(&job, "value_field")?, ttl_ms }
        }
        "get" => Job::Get { target: required(&job, "target_field")? },
        _ => Job::Delete,
    };
    let Some(store) = store(&id, capacity.min(CAPACITY)) else {
        return Err(s.error(
            "backend",
            format!("there are {STORES_MAX} stores already"),
            "let processors share a store",
        ));
    };
    Ok(Box::new(Cache {
        store,
        key,
        job,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(true),
        ignore_failure: s.bool("ignore_failure")?.unwrap_or(false),
        overwrite_keys: s.bool("overwrite_keys")?.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    /// `cache_test.go`, 9.
    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "id": "one", "other": "two", "name": {"first": "Bobbie"}, "num": 1});
        let put = |id: &str| {
            format!("{{cache: {{backend.memory.id: {id}, put: {{key_field: id, value_field: name, ttl: 1h}}}}}}")
        };
        let get = |id: &str, key: &str, target: &str, more: &str| {
            format!("{{cache: {{backend.memory.id: {id}, get: {{key_field: {key}, target_field: {target}}}{more}}}}}")
        };
        for (processors, change) in [
            (format!("[{}, {}]", put("a"), get("a", "id", "who", "")), json!({"who": {"first": "Bobbie"}})),
            (format!("[{}, {}]", put("b"), get("b", "other", "who", "")), json!({})),
            (format!("[{}, {}]", put("c"), get("other-store", "id", "who", "")), json!({})),
            (format!("[{}, {}]", put("d"), get("d", "id", "num", "")), json!({})),
            (
                format!("[{}, {}]", put("e"), get("e", "id", "num", ", overwrite_keys: true")),
                json!({"num": {"first": "Bobbie"}}),
            ),
            (
                format!(
                    "[{}, {{cache: {{backend.memory.id: f, delete.key_field: id}}}}, {}]",
                    put("f"),
                    get("f", "id", "who", "")
                ),
                json!({}),
            ),
            (format!("[{}]", get("g", "zz", "who", ", ignore_missing: false")), json!({})),
        ] {
            assert_eq!(processed(&processors, event.clone()), with(&event, change), "{processors}");
        }
    }

    #[test]
    fn values_end_and_the_oldest_go_first() {
        let mut store = Store::new(4);
        store.put("a".into(), json!(1), 1000);
        assert_eq!((store.get("a", 999), store.get("a", 1000)), (Some(json!(1)), None));
        for i in 0..10 {
            store.put(format!("k{i}"), json!(i), 1000);
        }
        assert!(store.kept.len() <= 4);
        assert_eq!((store.get("k9", 0), store.get("k0", 0)), (Some(json!(9)), None));
        store.put("k9".into(), json!("new"), 1000);
        assert_eq!(store.get("k9", 0), Some(json!("new")));
        store.delete("k9");
        assert_eq!(store.get("k9", 0), None);
        store.put("big".into(), json!("x".repeat(BYTES)), 1000);
        assert_eq!(store.get("big", 0), None);
    }
}
