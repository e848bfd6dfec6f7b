//! What the servers do that tests rely on, checked against each of them.
//!
//! Comes in: a running server with default settings. Goes out: nothing, or what it did otherwise.
//! Always holds: a fact that is written here is one that was seen; `docs` and tests may build upon it.

use serde_json::{Value, json};

use super::{Kind, Server};
use crate::{Outcome, http};

/// Checks all that is known of a server; it is restarted once.
pub(crate) fn check(server: &mut Server) -> Outcome {
    root(server)?;
    repeated_create(server)?;
    mapping_conflict(server)?;
    unfinished_body(server)?;
    unknown_pipeline(server)?;
    read_only_block(server)?;
    restart(server)
}

fn expect(what: &str, got: &Value, wanted: &Value) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("{what}: {got} instead of {wanted}")) }
}

/// Sends one event with `create`; the item's `create` object, or the whole answer's error.
fn create(server: &Server, index: &str, id: &str, event: &Value, further: &Value) -> Outcome<Value> {
    let mut meta = json!({"_index": index, "_id": id});
    if server.kind().typed() {
        meta["_type"] = json!("doc");
    }
    if let (Some(meta), Some(further)) = (meta.as_object_mut(), further.as_object()) {
        meta.extend(further.clone());
    }
    let body = format!("{}\n{event}\n", json!({"create": meta}));
    let answer = http::request(server.port(), "POST", "/_bulk", body.as_bytes())?.json();
    Ok(if answer["items"].is_array() { answer["items"][0]["create"].clone() } else { answer })
}

fn root(server: &Server) -> Outcome {
    let answer = server.ask("GET", "/", &Value::Null)?.good()?.json();
    let number = answer["version"]["number"].as_str().unwrap_or_default();
    let wanted = server.kind().name().rsplit('-').next().unwrap_or_default();
    if !number.starts_with(wanted) {
        return Err(format!("GET /: version {number}"));
    }
    let opensearch = matches!(server.kind(), Kind::OpenSearch2 | Kind::OpenSearch3);
    expect("GET /: distribution", &json!(answer["version"]["distribution"] == "opensearch"), &json!(opensearch))
}

fn repeated_create(server: &Server) -> Outcome {
    let event = json!({"@timestamp": "2026-11-01T00:00:00Z", "message": "one"});
    expect("first create", &create(server, "quirks", "a", &event, &Value::Null)?["status"], &json!(201))?;
    let again = create(server, "quirks", "a", &event, &Value::Null)?;
    expect("repeated create", &again["status"], &json!(409))?;
    expect("repeated create", &again["error"]["type"], &json!("version_conflict_engine_exception"))
}

fn mapping_conflict(server: &Server) -> Outcome {
    create(server, "conflict", "a", &json!({"n": 1}), &Value::Null)?;
    let item = create(server, "conflict", "b", &json!({"n": "no number"}), &Value::Null)?;
    let kind =
        if server.kind() == Kind::Elasticsearch8 { "document_parsing_exception" } else { "mapper_parsing_exception" };
    expect("mapping conflict", &item["status"], &json!(400))?;
    expect("mapping conflict", &item["error"]["type"], &json!(kind))
}

fn unfinished_body(server: &Server) -> Outcome {
    let path = if server.kind().typed() { "/quirks/doc/_bulk" } else { "/quirks/_bulk" };
    let answer = http::request(server.port(), "POST", path, b"{\"index\":{}}\n{\"a\":1}")?;
    expect("a body without its last newline", &json!(answer.status), &json!(400))
}

fn unknown_pipeline(server: &Server) -> Outcome {
    let item = create(server, "quirks", "p", &json!({"a": 1}), &json!({"pipeline": "none"}))?;
    expect("unknown pipeline", &item["status"], &json!(400))
}

fn read_only_block(server: &Server) -> Outcome {
    let block = json!({"index.blocks.read_only_allow_delete": true});
    server.ask("PUT", "/quirks/_settings", &block)?.good()?;
    let item = create(server, "quirks", "blocked", &json!({"a": 1}), &Value::Null)?;
    let wanted = match server.kind() {
        Kind::Elasticsearch5 => 403,
        _ => 429,
    };
    expect("read-only block", &item["status"], &json!(wanted))?;
    expect("read-only block", &item["error"]["type"], &json!("cluster_block_exception"))?;
    let free = json!({"index.blocks.read_only_allow_delete": null});
    server.ask("PUT", "/quirks/_settings", &free)?.good().map(drop)
}

fn restart(server: &mut Server) -> Outcome {
    server.stop(true)?;
    server.start_again()?;
    let ids: Vec<String> = server.documents("quirks")?.into_iter().map(|(id, _)| id).collect();
    expect("documents after a kill and a restart", &json!(ids), &json!(["a"]))
}
