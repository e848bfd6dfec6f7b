//! Reading the body of an Elasticsearch `_bulk` request.
//!
//! A body in, its actions out, pointing into the body. Always holds: a body is taken whole or refused whole, as
//! Elasticsearch does with lines that it can't read; documents aren't parsed here. Tested here and by the fuzz target
//! `bulk_request`.

use std::borrow::Cow;

use memchr::memchr;
use serde::Deserialize;

/// What an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a document, over another one of the same id if need be.
    Index,
    /// Writes a document whose id mustn't exist.
    Create,
    /// Changes a document.
    Update,
    /// Removes a document; the only one without a second line.
    Delete,
}

impl Op {
    /// Its name in requests and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Index => "index",
            Op::Create => "create",
            Op::Update => "update",
            Op::Delete => "delete",
        }
    }
}

/// One action of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action<'a> {
    /// What it does.
    pub op: Op,
    /// The index: the line's, or the request path's.
    pub index: Cow<'a, str>,
    /// The document's id, if one was given.
    pub id: Option<Cow<'a, str>>,
    /// The document, unparsed; empty for [`Op::Delete`].
    pub source: &'a [u8],
}

/// What a request may hold.
#[derive(Clone, Debug)]
pub struct BulkLimits {
    /// Actions in a request.
    pub actions: usize,
    /// Bytes of a line.
    pub line_bytes: usize,
}

impl Default for BulkLimits {
    /// 65,536 actions, lines of 16 MiB.
    fn default() -> BulkLimits {
        BulkLimits { actions: 65_536, line_bytes: 16 << 20 }
    }
}

/// Why a request is refused whole. The texts are Elasticsearch's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// Nothing in it.
    #[error("request body is required")]
    Empty,
    /// The last line has no end: the request may have been cut.
    #[error("The bulk request must be terminated by a newline [\\n]")]
    NoNewline,
    /// A line that should say what to do doesn't.
    #[error("Malformed action/metadata line [{line}]: {reason}")]
    Malformed {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An action without its document.
    #[error("Malformed action/metadata line [{line}]: its document is missing")]
    NoSource {
        /// The action's number, from 1.
        line: usize,
    },
    /// A line is too long.
    #[error("line [{line}] is longer than {max} bytes")]
    LongLine {
        /// Its number, from 1.
        line: usize,
        /// The limit.
        max: usize,
    },
    /// Too many actions.
    #[error("more than {0} actions in one request")]
    TooMany(usize),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Index(#[serde(borrow)] Meta<'a>),
    Create(#[serde(borrow)] Meta<'a>),
    Update(#[serde(borrow)] Meta<'a>),
    Delete(#[serde(borrow)] Meta<'a>),
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "_index")]
    index: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "_id")]
    id: Option<Cow<'a, str>>,
}

/// Reads a body. `path_index` is the index in the request's path, for lines that name none.
///
/// # Errors
/// See [`BulkError`].
pub fn parse<'a>(
    body: &'a [u8],
    path_index: Option<&'a str>,
    limits: &BulkLimits,
) -> Result<Vec<Action<'a>>, BulkError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(BulkError::Empty);
    }
    if body.last() != Some(&b'\n') {
        return Err(BulkError::NoNewline);
    }
    let mut lines = Lines { rest: body, number: 0, max: limits.line_bytes };
    let mut actions: Vec<Action<'a>> = Vec::new();
    let mut last: Option<(&'a [u8], Op, Cow<'a, str>)> = None;
    while let Some(line) = lines.next()? {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if actions.len() == limits.actions {
            return Err(BulkError::TooMany(limits.actions));
        }
        let number = lines.number;
        // Shippers send the same line for each event: it is parsed once.
        let mut action = match &last {
            Some((same, op, index)) if *same == line => Action { op: *op, index: index.clone(), id: None, source: &[] },
            _ => parse_line(line, path_index).map_err(|reason| BulkError::Malformed { line: number, reason })?,
        };
        if action.op != Op::Delete {
            action.source = lines.next()?.ok_or(BulkError::NoSource { line: number })?;
        }
        if action.id.is_none() {
            last = Some((line, action.op, action.index.clone()));
        }
        actions.push(action);
    }
    Ok(actions)
}

fn parse_line<'a>(line: &'a [u8], path_index: Option<&'a str>) -> Result<Action<'a>, String> {
    let (op, meta) = match serde_json::from_slice(line).map_err(|e| e.to_string())? {
        Line::Index(meta) => (Op::Index, meta),
        Line::Create(meta) => (Op::Create, meta),
        Line::Update(meta) => (Op::Update, meta),
        Line::Delete(meta) => (Op::Delete, meta),
    };
    let index = meta.index.or(path_index.map(Cow::Borrowed)).filter(|i| !i.is_empty()).ok_or("index is missing")?;
    if matches!(op, Op::Update | Op::Delete) && meta.id.is_none() {
        return Err("an id must be provided".into());
    }
    Ok(Action { op, index, id: meta.id, source: &[] })
}

struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
    max: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, BulkError> {
        let Some(end) = memchr(b'\n', self.rest) else { return Ok(None) };
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        self.number += 1;
        if line.len() > self.max {
            return Err(BulkError::LongLine { line: self.number, max: self.max });
        }
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}

/// For fuzzing: reads a body under small limits, and checks what always holds.
#[doc(hidden)]
pub fn fuzz_bulk(data: &[u8]) {
    let limits = BulkLimits { actions: 50, line_bytes: 1000 };
    if let Ok(actions) = parse(data, Some("i"), &limits) {
        assert!(actions.len() <= limits.actions);
        for a in actions {
            assert!(!a.index.is_empty() && a.source.len() <= limits.line_bytes && !a.source.contains(&b'\n'));
            assert!(a.op != Op::Delete || a.source.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<String>, String> {
        let limits = BulkLimits { actions: 4, line_bytes: 60 };
        let actions = parse(body.as_bytes(), Some("path"), &limits).map_err(|e| e.to_string())?;
        let show = |a: &Action<'_>| {
            let source = String::from_utf8_lossy(a.source);
            format!("{} {} {} {source}", a.op.as_str(), a.index, a.id.as_deref().unwrap_or("-"))
        };
        Ok(actions.iter().map(show).collect())
    }

    #[test]
    fn what_is_read() {
        let same = "{\"create\":{\"_index\":\"a\"}}\n{}\n";
        for (body, want) in [
            (same.repeat(2), vec!["create a - {}", "create a - {}"]),
            ("{\"index\":{}}\r\n{\"a\":1}\r\n".into(), vec!["index path - {\"a\":1}"]),
            (
                "{ \"index\" : {\"_index\":\"i\",\"_type\":\"doc\",\"_id\":\"x\\\"\"} }\n{}\n".into(),
                vec!["index i x\" {}"],
            ),
            ("{\"delete\":{\"_id\":\"1\"}}\n{\"update\":{\"_id\":\"2\"}}\n{}\n".into(), {
                vec!["delete path 1 ", "update path 2 {}"]
            }),
            ("{\"create\":{\"_id\":\"1\"}}\n{}\n\n{\"create\":{\"_id\":\"2\"}}\nnot json\n".into(), {
                vec!["create path 1 {}", "create path 2 not json"]
            }),
        ] {
            assert_eq!(read(&body).unwrap(), want, "{body}");
            fuzz_bulk(body.as_bytes());
        }
    }

    #[test]
    fn what_is_refused() {
        for (body, want) in [
            ("", "request body is required"),
            ("\n \n", "request body is required"),
            ("{\"index\":{}}\n{}", "must be terminated by a newline"),
            ("{\"index\":{}}\n{}\n{\"x\":{}}\n{}\n", "line [3]: unknown variant `x`"),
            ("{\"index\":{},\"create\":{}}\n{}\n", "line [1]"),
            ("{}\n{}\n", "line [1]"),
            ("[]\n{}\n", "line [1]"),
            ("{\"index\":{\"_index\":\"\"}}\n{}\n", "index is missing"),
            ("{\"update\":{}}\n{}\n", "an id must be provided"),
            ("{\"index\":{}}\n", "line [1]: its document is missing"),
            (&format!("{{\"index\":{{}}}}\n{}\n", "x".repeat(61)), "line [2] is longer than 60"),
            (&"{\"index\":{}}\n{}\n".repeat(5), "more than 4 actions"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(want), "{body}: {error}");
            fuzz_bulk(body.as_bytes());
        }
        assert_eq!(parse(b"{\"index\":{}}\n{}\n", None, &BulkLimits::default()).unwrap_err(), {
            BulkError::Malformed { line: 1, reason: "index is missing".into() }
        });
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(
            actions in proptest::collection::vec(
                (0usize..4, "[a-z<>.\\-é\"]{1,8}", proptest::option::of("[ -~\n]{0,40}"), "[ -~]{0,60}"),
                1..30,
            ),
        ) {
            let ops = [Op::Index, Op::Create, Op::Update, Op::Delete];
            let (mut body, mut want) = (String::new(), Vec::new());
            for (op, index, id, source) in &actions {
                let op = ops[*op];
                let id = id.clone().or((op as usize > 1).then(|| "needed".to_owned()));
                let mut meta = serde_json::json!({"_index": index, "_type": "doc", "pipeline": "p"});
                if let Some(id) = &id {
                    meta["_id"] = id.as_str().into();
                }
                let line = serde_json::json!({ op.as_str(): meta });
                body.push_str(&format!("{line}\n"));
                if op != Op::Delete {
                    body.push_str(&format!("{source}\n"));
                }
                want.push((op, index.clone(), id, if op == Op::Delete { String::new() } else { source.clone() }));
            }
            let read = parse(body.as_bytes(), None, &BulkLimits::default()).unwrap();
            let read: Vec<_> = read
                .into_iter()
                .map(|a| {
                    let source = String::from_utf8(a.source.to_vec()).unwrap();
                    (a.op, a.index.into_owned(), a.id.map(Cow::into_owned), source)
                })
                .collect();
            proptest::prop_assert_eq!(read, want);
        }

        #[test]
        fn noise_is_read_or_refused(data: Vec<u8>, cut: proptest::sample::Index) {
            fuzz_bulk(&data);
            let good = b"{\"index\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{}\n{\"delete\":{\"_id\":\"1\"}}\n";
            let mut bad = good.to_vec();
            bad.splice(cut.index(good.len()).., data);
            fuzz_bulk(&bad);
        }
    }
}
