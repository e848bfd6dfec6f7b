//! What a real Elasticsearch has of a row.
//!
//! Comes in: the server, a row's index. Goes out: the server's own count, and which lines a search finds, how often each.
//! Always holds: every document of the index is looked at; a line is its pod, its file and its number.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Outcome;
use crate::servers::Server;

/// Documents of one page of a search.
const PAGE: usize = 10_000;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Documents, by the server's own `_count`.
    pub(super) documents: usize,
    /// Different lines among them.
    pub(super) lines: usize,
    /// Files of which at least one line is there.
    pub(super) files: usize,
    /// Files of which a line is missing, those without any line among them.
    pub(super) short: usize,
}

/// Makes the index. Only a few fields are indexed: the server shares two processors with all pods.
pub(super) fn make(server: &Server, index: &str) -> Outcome {
    let body = json!({
        "settings": {"number_of_shards": 1, "number_of_replicas": 0},
        "mappings": {"dynamic": false, "properties": {
            "@timestamp": {"type": "date"},
            "log": {"properties": {"file": {"properties": {"path": {"type": "keyword"}}}}},
        }},
    });
    server.ask("PUT", &format!("/{index}"), &body)?.good().map(drop)
}

/// How many documents the server counts.
pub(super) fn documents(server: &Server, index: &str) -> Outcome<usize> {
    let answer = server.ask("GET", &format!("/{index}/_count"), &Value::Null)?.good()?.json();
    let count = answer["count"].as_u64().ok_or_else(|| format!("no count: {answer}"))?;
    usize::try_from(count).map_err(|e| e.to_string())
}

/// Of how many files at least one line is there now.
pub(super) fn files(server: &Server, index: &str) -> Outcome<u64> {
    let paths = json!({"cardinality": {"field": "log.file.path", "precision_threshold": 40_000}});
    let query = json!({"size": 0, "aggs": {"paths": paths}});
    let answer = server.ask("POST", &format!("/{index}/_search"), &query)?.good()?.json();
    answer["aggregations"]["paths"]["value"].as_u64().ok_or_else(|| format!("no files: {answer}"))
}

/// Looks at every document. `files` were written, each with `lines`.
pub(super) fn found(server: &Server, index: &str, files: usize, lines: usize) -> Outcome<Found> {
    server.ask("POST", &format!("/{index}/_refresh"), &Value::Null)?.good()?;
    let documents = documents(server, index)?;
    let mut seen: HashMap<(String, u32), Vec<u64>> = HashMap::new();
    let query = json!({"size": PAGE, "sort": ["_doc"], "_source": ["message"]});
    let mut page = server.ask("POST", &format!("/{index}/_search?scroll=2m"), &query)?.good()?.json();
    let mut looked = 0;
    while let Some(hits) = page["hits"]["hits"].as_array().filter(|hits| !hits.is_empty()) {
        for hit in hits {
            looked += 1;
            let message = hit["_source"]["message"].as_str().unwrap_or_default();
            let (file, n) = line(message).ok_or_else(|| format!("an event that nobody wrote: {hit}"))?;
            let bits = seen.entry(file).or_insert_with(|| vec![0; lines / 64 + 1]);
            *bits.get_mut(n / 64).ok_or_else(|| format!("a line that nobody wrote: {message}"))? |= 1 << (n % 64);
        }
        let next = json!({"scroll": "2m", "scroll_id": page["_scroll_id"]});
        page = server.ask("POST", "/_search/scroll", &next)?.good()?.json();
    }
    if looked != documents {
        return Err(format!("the server counts {documents} documents, and a search finds {looked}"));
    }
    let count = |bits: &Vec<u64>| bits.iter().map(|word| word.count_ones() as usize).sum::<usize>();
    let whole = seen.values().filter(|bits| count(bits) == lines).count();
    let all = seen.values().map(count).sum();
    Ok(Found { documents, lines: all, files: seen.len(), short: files - whole })
}

/// The file and the number of a line: `POD FILE NUMBER …`.
fn line(message: &str) -> Option<((String, u32), usize)> {
    let mut words = message.split(' ');
    let file = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    Some((file, words.next()?.parse().ok()?))
}
