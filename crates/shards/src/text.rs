//! A table as text: what backends keep it as, in a Lease's annotation or a file.
//!
//! Comes in: a [`Table`], or a text that anybody may have written. Goes out: JSON on one line, or the table and what of the
//! text is nonsense. Always holds: what is written here is read back the same; what isn't a record counts as not there,
//! whatever else the text holds; names that are read can be names of files and of objects, and no path; epochs leave room
//! to count on. Tested below, with properties, and by the fuzz target `shards_table`.

use serde_json::{Map, Value, json};

use crate::board::{Record, Table};
use crate::path::Shard;

/// The longest text that is read or written, in bytes: Kubernetes refuses annotations beyond 256 KiB.
pub const TABLE_LIMIT: usize = 240 << 10;
/// The longest name of a member, in bytes.
pub const NAME_LIMIT: usize = 253;
/// Epochs beyond it aren't believed: nobody could count on from there.
pub const EPOCH_LIMIT: u64 = u64::MAX / 2;

/// A table as JSON on one line; `None`: it is longer than [`TABLE_LIMIT`], or holds what [`read_table`] wouldn't believe.
pub fn table_text(table: &Table) -> Option<String> {
    let shards: Option<Map<String, Value>> = table
        .iter()
        .map(|(shard, record)| {
            let mut shown = Map::new();
            shown.insert("epoch".to_owned(), record.epoch.into());
            for (key, name) in [("owner", &record.owner), ("registry", &record.registry)] {
                shown.extend(name.iter().map(|name| (key.to_owned(), name.as_str().into())));
            }
            let shown = Value::Object(shown);
            (record_of(&shown).as_ref() == Some(record)).then(|| (shard.to_string(), shown))
        })
        .collect();
    Some(json!({ "shards": shards? }).to_string()).filter(|text| text.len() <= TABLE_LIMIT)
}

/// What a text says, and, when some of it is nonsense, what.
pub fn read_table(text: &[u8]) -> (Table, Option<String>) {
    if text.len() > TABLE_LIMIT {
        return (Table::new(), Some(format!("it has {} bytes, more than {TABLE_LIMIT}", text.len())));
    }
    let parsed: Value = match serde_json::from_slice(text) {
        Ok(parsed) => parsed,
        Err(e) => return (Table::new(), Some(format!("it isn't JSON: {e}"))),
    };
    let Some(shards) = parsed.get("shards").and_then(Value::as_object) else {
        return (Table::new(), Some("it has no `shards`".to_owned()));
    };
    let mut table = Table::new();
    let mut bad = 0_usize;
    for (name, shown) in shards {
        let shard = name.parse::<u16>().ok().filter(|n| n.to_string() == *name).map(Shard);
        match shard.zip(record_of(shown)) {
            Some((shard, record)) => {
                table.insert(shard, record);
            }
            None => bad += 1,
        }
    }
    (table, (bad > 0).then(|| format!("{bad} of its {} records are none", shards.len())))
}

fn record_of(shown: &Value) -> Option<Record> {
    let name = |key: &str, is: fn(&str) -> bool| match shown.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(name)) => is(name).then(|| Some(name.clone())),
        Some(_) => None,
    };
    let epoch = shown.get("epoch")?.as_u64().filter(|epoch| *epoch <= EPOCH_LIMIT)?;
    Some(Record { owner: name("owner", is_name)?, epoch, registry: name("registry", is_registry)? })
}

/// Whether this can be a member's name: letters, digits, `.`, `_` and `-`, and no `.` first; at most [`NAME_LIMIT`] bytes.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=NAME_LIMIT).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

/// A name, or two with a `/` between them: `MEMBER/EPOCH`.
fn is_registry(name: &str) -> bool {
    let (member, epoch) = name.split_once('/').unwrap_or((name, "1"));
    is_name(member) && is_name(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(owner: Option<&str>, epoch: u64, registry: Option<&str>) -> Record {
        Record { owner: owner.map(str::to_owned), epoch, registry: registry.map(str::to_owned) }
    }

    #[test]
    fn a_table_is_one_line_that_people_can_read() {
        let table = Table::from([
            (Shard(0), record(Some("pillion-0-7f"), 3, Some("pillion-0-7f/3"))),
            (Shard(12), record(None, 2, Some("pillion-1-9a/2"))),
            (Shard(13), record(None, 1, None)),
        ]);
        let text = table_text(&table).unwrap();
        assert_eq!(
            text,
            r#"{"shards":{"0":{"epoch":3,"owner":"pillion-0-7f","registry":"pillion-0-7f/3"},"12":{"epoch":2,"registry":"pillion-1-9a/2"},"13":{"epoch":1}}}"#
        );
        assert_eq!(read_table(text.as_bytes()), (table, None));
    }

    #[test]
    fn nonsense_counts_as_not_there_and_is_said() {
        for (text, said) in [
            ("", "JSON"),
            ("[]", "no `shards`"),
            ("{\"shards\": 3}", "no `shards`"),
            ("{\"shards\": {\"0\": 3}}", "1 of its 1"),
            ("{\"shards\": {\"x\": {\"epoch\": 1}, \"70000\": {\"epoch\": 1}, \"01\": {\"epoch\": 1}}}", "3 of its 3"),
            ("{\"shards\": {\"0\": {\"epoch\": -1}, \"1\": {\"epoch\": 18446744073709551615}}}", "2 of its 2"),
            ("{\"shards\": {\"0\": {\"epoch\": 1, \"owner\": 7}}}", "1 of its 1"),
            ("{\"shards\": {\"0\": {\"epoch\": 1, \"owner\": \"\"}}}", "1 of its 1"),
            ("{\"shards\": {\"0\": {\"epoch\": 1, \"owner\": \"a\", \"registry\": \"../../etc\"}}}", "1 of its 1"),
            ("{\"shards\": {\"0\": {\"epoch\": 1, \"registry\": \"/etc/passwd\"}}}", "1 of its 1"),
            ("{\"shards\": {\"0\": {\"epoch\": 1, \"registry\": \"a/b/c\"}}}", "1 of its 1"),
            (&"[".repeat(100_000), "JSON"),
            (&" ".repeat(TABLE_LIMIT + 1), "bytes"),
        ] {
            let (table, nonsense) = read_table(text.as_bytes());
            assert!(table.is_empty(), "{table:?}");
            assert!(nonsense.unwrap().contains(said), "{said}");
        }
        let (table, nonsense) = read_table(br#"{"shards": {"0": {"epoch": 1}, "1": {}}, "more": []}"#);
        assert_eq!((table.len(), nonsense.is_some()), (1, true));
    }

    #[test]
    fn as_many_shards_as_there_may_be_fit_with_long_names() {
        let name = format!("{}-12345678", "a".repeat(54));
        let record = record(Some(&name), EPOCH_LIMIT, Some(&format!("{name}/{EPOCH_LIMIT}")));
        let table: Table = (0..1024).map(|n| (Shard(n), record.clone())).collect();
        assert!(table_text(&table).is_some());
        let long: Table =
            (0..1024).map(|n| (Shard(n), Record { owner: Some("a".repeat(NAME_LIMIT)), ..record.clone() })).collect();
        assert_eq!(table_text(&long), None);
        assert_eq!(table_text(&Table::from([(Shard(0), Record { owner: Some("a b".into()), ..record })])), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            shards in proptest::collection::btree_map(
                0_u16..,
                (proptest::option::of("[a-z0-9][a-zA-Z0-9._-]{0,20}"), 0..EPOCH_LIMIT, proptest::option::of("[a-z]{1,9}/[0-9]{1,5}")),
                0..70,
            ),
        ) {
            let table: Table = shards
                .into_iter()
                .map(|(shard, (owner, epoch, registry))| (Shard(shard), Record { owner, epoch, registry }))
                .collect();
            let text = table_text(&table).unwrap();
            prop_assert_eq!(read_table(text.as_bytes()), (table, None));
        }

        #[test]
        fn any_text_is_read(text in proptest::collection::vec(0_u8.., 0..200)) {
            let (table, _) = read_table(&text);
            prop_assert_eq!(read_table(table_text(&table).unwrap().as_bytes()).0, table);
        }
    }
}
