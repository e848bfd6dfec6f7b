//! Writing the answer to a `_bulk` request: what became of each action, as far as `filter_path` asks for it.
//! Tested here.

use crate::bulk::{Action, Op};

/// What became of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Written anew.
    Created,
    /// Written over another, or changed.
    Updated,
    /// Removed.
    Deleted,
    /// Nothing to remove.
    NotFound,
    /// `create` with an id that exists: 409.
    Conflict,
    /// The document isn't JSON: 400.
    Malformed,
    /// Refused for now: 429.
    Rejected,
}

impl Outcome {
    pub(crate) fn status(self) -> u16 {
        match self {
            Outcome::Created => 201,
            Outcome::Updated | Outcome::Deleted => 200,
            Outcome::NotFound => 404,
            Outcome::Conflict => 409,
            Outcome::Malformed => 400,
            Outcome::Rejected => 429,
        }
    }

    fn result(self) -> &'static str {
        match self {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Deleted => "deleted",
            _ => "not_found",
        }
    }

    /// Elasticsearch's name of the error and its text.
    fn error(self) -> Option<(&'static str, &'static str)> {
        match self {
            Outcome::Conflict => {
                Some(("version_conflict_engine_exception", "version conflict, document already exists"))
            }
            Outcome::Malformed => Some(("mapper_parsing_exception", "failed to parse")),
            Outcome::Rejected => Some(("es_rejected_execution_exception", "rejected on request (--reject-every)")),
            _ => None,
        }
    }
}

/// `filter_path`: which fields of an answer the client wants.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    patterns: Vec<Vec<String>>,
}

impl Filter {
    /// From the query's value: patterns separated by commas; `*` is a name, `**` any number of them. At most 32 are
    /// taken.
    pub(crate) fn new(value: &str) -> Filter {
        let pattern = |p: &str| p.split('.').map(str::to_owned).collect();
        Filter { patterns: value.split(',').filter(|p| !p.is_empty()).take(32).map(pattern).collect() }
    }

    fn wants(&self, path: &[&str]) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|p| matches(p, path))
    }
}

/// A pattern takes a path and all below it.
fn matches(pattern: &[String], path: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return true };
    if first == "**" {
        return (0..=path.len()).any(|n| matches(rest, path.get(n..).unwrap_or_default()));
    }
    path.split_first().is_some_and(|(name, below)| (first == "*" || first == name) && matches(rest, below))
}

/// The fields of an item that are wanted for one kind of action.
struct Wanted {
    meta: bool,
    result: bool,
    status: bool,
    error: bool,
}

/// The answer to a request, from the outcomes of its actions.
pub(crate) fn render(actions: &[Action<'_>], outcomes: &[Outcome], filter: &Filter, first_id: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + actions.len() * 32);
    out.push(b'{');
    if filter.wants(&["took"]) {
        out.extend_from_slice(b"\"took\":0");
    }
    if filter.wants(&["errors"]) {
        comma(&mut out);
        let errors = outcomes.iter().any(|o| o.error().is_some());
        out.extend_from_slice(format!("\"errors\":{errors}").as_bytes());
    }
    let wanted = [Op::Index, Op::Create, Op::Update, Op::Delete].map(|op| wanted(filter, op));
    let before = out.len();
    comma(&mut out);
    out.extend_from_slice(b"\"items\":[");
    let start = out.len();
    for (i, (action, outcome)) in actions.iter().zip(outcomes).enumerate() {
        let Some(wanted) = wanted.get(action.op as usize) else { continue };
        item(&mut out, action, *outcome, wanted, first_id + i as u64);
    }
    if out.len() == start && !filter.patterns.is_empty() {
        out.truncate(before);
    } else {
        out.push(b']');
    }
    out.push(b'}');
    out
}

fn wanted(filter: &Filter, op: Op) -> Wanted {
    let field = |name| filter.wants(&["items", op.as_str(), name]);
    Wanted { meta: field("_id"), result: field("result"), status: field("status"), error: field("error") }
}

fn item(out: &mut Vec<u8>, action: &Action<'_>, outcome: Outcome, wanted: &Wanted, number: u64) {
    let before = out.len();
    comma(out);
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(action.op.as_str().as_bytes());
    out.extend_from_slice(b"\":{");
    let start = out.len();
    if wanted.meta {
        let id = action.id.as_ref().map_or_else(|| format!("pillion{number:013}"), |id| id.to_string());
        out.extend_from_slice(format!("\"_index\":{},\"_id\":{}", quoted(&action.index), quoted(&id)).as_bytes());
    }
    if wanted.result && outcome.error().is_none() {
        comma(out);
        let text = format!("\"_version\":1,\"result\":\"{}\",\"_seq_no\":{number}", outcome.result());
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b",\"_primary_term\":1,\"_shards\":{\"total\":1,\"successful\":1,\"failed\":0}");
    }
    if wanted.status {
        comma(out);
        out.extend_from_slice(format!("\"status\":{}", outcome.status()).as_bytes());
    }
    if let (true, Some((kind, reason))) = (wanted.error, outcome.error()) {
        comma(out);
        out.extend_from_slice(format!("\"error\":{{\"type\":\"{kind}\",\"reason\":\"{reason}\"}}").as_bytes());
    }
    if out.len() == start {
        out.truncate(before);
    } else {
        out.extend_from_slice(b"}}");
    }
}

fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// A string as JSON.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"create\":{\"_id\":\"x\"}}\n{}\n{\"index\":{}}\n{}\n";

    fn answer(outcomes: [Outcome; 2], filter: &str) -> String {
        let actions = crate::bulk::parse(BODY, Some("i"), &crate::bulk::BulkLimits::default()).unwrap();
        let bytes = render(&actions, &outcomes, &Filter::new(filter), 5);
        let _: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn answers_by_filter() {
        use Outcome::{Conflict, Created};
        let filebeat = "errors,items.*.error,items.*.status";
        for (outcomes, filter, want) in [
            (
                [Created, Created],
                filebeat,
                r#"{"errors":false,"items":[{"create":{"status":201}},{"index":{"status":201}}]}"#,
            ),
            ([Created, Created], "errors", r#"{"errors":false}"#),
            ([Created, Created], "items.*.error", "{}"),
            ([Created, Created], "took,items.create.status", r#"{"took":0,"items":[{"create":{"status":201}}]}"#),
            ([Conflict, Created], "items.*.error.type,**.status", {
                r#"{"items":[{"create":{"status":409}},{"index":{"status":201}}]}"#
            }),
            (
                [Conflict, Created],
                "items.*.error",
                concat!(
                    r#"{"items":[{"create":{"error":{"type":"version_conflict_engine_exception","#,
                    r#""reason":"version conflict, document already exists"}}}]}"#
                ),
            ),
        ] {
            assert_eq!(answer(outcomes, filter), want, "{filter}");
        }
        let full = answer([Created, Outcome::Rejected], "");
        assert!(full.contains(r#""create":{"_index":"i","_id":"x","_version":1,"result":"created""#), "{full}");
        assert!(full.contains(r#""_id":"pillion0000000000006","status":429,"error":{"type":"es_rejected"#), "{full}");
    }
}
