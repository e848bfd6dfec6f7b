//! Filebeat's format strings: `%{[fields.team]}`, `%{[agent.version]:none}`, `%{+yyyy.MM.dd}`.
//!
//! Comes in: a format string, once; then events. Goes out: text, for the names of indices, pipelines and files, and for
//! `codec.format.string`. A field that isn't there (or is null, a list, an object) and has no default is an error: Beats
//! drops such an event, and so must the caller. `\` takes the next character literally. Facts: elastic/beats
//! `libbeat/common/fmtstr/{formatstring,formatevents}.go`.
//!
//! Always holds: a string that compiled never fails for another reason than a missing field. [`Selector`] remembers the
//! last result as long as it can't differ. Tested below.

mod date;

use std::fmt;
use std::sync::Arc;

use pillion_event::{Batch, Event, Source};

use crate::contract::Agent;
use crate::render::Renderer;
use date::DatePattern;

/// A compiled format string.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Field { path: String, default: Option<String> },
    Time(DatePattern),
}

/// Why a format string can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

/// A field that a format string needs isn't in the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingField(
    /// Its path, such as `fields.team`.
    pub String,
);

impl fmt::Display for MissingField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event has no text or number in `{}`", self.0)
    }
}

impl std::error::Error for MissingField {}

impl Format {
    /// Compiles a format string.
    pub fn compile(text: &str) -> Result<Format, FormatError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => literal.extend(chars.next()),
                '%' if chars.peek() == Some(&'{') => {
                    chars.next();
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(variable(&mut chars).map_err(|why| FormatError(format!("{why} in `{text}`")))?);
                }
                c => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Format { parts })
    }

    /// A format that gives this text for every event.
    pub(crate) fn literal(text: &str) -> Format {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text.to_owned())] };
        Format { parts }
    }

    /// The text, when it is the same for all events.
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(s)] => Some(s),
            _ => None,
        }
    }

    /// Appends what the format gives for an event. After an error the buffer is as it was.
    pub fn write(
        &self,
        renderer: &Renderer,
        batch: &Batch,
        event: &Event,
        out: &mut Vec<u8>,
    ) -> Result<(), MissingField> {
        self.write_with(event.time_ms, out, |path, out| renderer.write_field(batch, event, path, out))
    }

    /// Appends what the format gives where there is no event: only dates and what is known of the agent.
    pub fn write_static(&self, time_ms: i64, agent: &Agent, out: &mut Vec<u8>) -> Result<(), MissingField> {
        self.write_with(time_ms, out, |path, out| {
            let text = match path {
                "agent.version" | "beat.version" | "observer.version" => &agent.version,
                "agent.name" | "beat.name" | "host.name" => &agent.name,
                "agent.hostname" | "beat.hostname" => &agent.hostname,
                "agent.id" => &agent.id,
                "agent.type" => "filebeat",
                _ => return false,
            };
            out.extend_from_slice(text.as_bytes());
            true
        })
    }

    fn write_with(
        &self,
        time_ms: i64,
        out: &mut Vec<u8>,
        mut field: impl FnMut(&str, &mut Vec<u8>) -> bool,
    ) -> Result<(), MissingField> {
        let begin = out.len();
        for part in &self.parts {
            match part {
                Part::Text(s) => out.extend_from_slice(s.as_bytes()),
                Part::Time(pattern) => pattern.write(time_ms, out),
                Part::Field { path, default } => {
                    let from = out.len();
                    let found = field(path, out);
                    match default {
                        // An empty text counts as none.
                        Some(default) if out.len() == from => out.extend_from_slice(default.as_bytes()),
                        None if !found => {
                            out.truncate(begin);
                            return Err(MissingField(path.clone()));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// The same where Filebeat knows only its own name and version (`fmtstr.FieldsForBeat`): an input's `index`, what
    /// `setup` makes. There `agent.name` is the program's name, in events it is the host's.
    pub(crate) fn of_program(mut self, agent: &Agent) -> Format {
        for part in &mut self.parts {
            let Part::Field { path, .. } = part else { continue };
            let Some((of, what)) = path.split_once('.') else { continue };
            match (of, what) {
                ("agent" | "beat" | "observer", "name") => *part = Part::Text("filebeat".to_owned()),
                ("agent" | "beat" | "observer", "version") => *part = Part::Text(agent.version.clone()),
                _ => {}
            }
        }
        self
    }

    /// The text is the same for all moments within a multiple of this many milliseconds.
    fn step_ms(&self) -> i64 {
        let steps = self.parts.iter().map(|part| match part {
            Part::Time(pattern) => pattern.step_ms,
            _ => i64::MAX,
        });
        steps.min().unwrap_or(i64::MAX)
    }

    fn scope(&self) -> Scope {
        let scopes = self.parts.iter().map(|part| match part {
            Part::Field { path, .. } if differs_by_event(path) => Scope::Event,
            Part::Field { .. } => Scope::Source,
            Part::Text(_) | Part::Time(_) => Scope::All,
        });
        scopes.max().unwrap_or(Scope::All)
    }
}

/// For which events a format gives the same text at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    Source,
    Event,
}

/// Whether a field may differ between two events of one file that have no overlay.
fn differs_by_event(path: &str) -> bool {
    let of_log = |rest: &str| !rest.starts_with("file");
    matches!(path, "message" | "offset" | "stream" | "log")
        || path.starts_with('@')
        || path.strip_prefix("log.").is_some_and(of_log)
}

/// Everything up to the closing brace.
fn variable(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, String> {
    // The text before each operator, and the operators: `:` with an optional second character.
    let (mut texts, mut operators) = (vec![String::new()], Vec::new());
    loop {
        let c = chars.next().ok_or("a `}` is missing")?;
        let Some(text) = texts.last_mut() else { return Err("an empty expression".to_owned()) };
        match c {
            '\\' => text.extend(chars.next()),
            '%' if chars.peek() == Some(&'{') => return Err("`%{` within `%{`".to_owned()),
            '}' => break,
            ':' if text.is_empty() => return Err("a `:` where a name should be".to_owned()),
            ':' => {
                operators.push(chars.next_if(|c| "!@#&*=+<>?".contains(*c)));
                texts.push(String::new());
            }
            c => text.push(c),
        }
    }
    let mut texts = texts.into_iter();
    let name = texts.next().unwrap_or_default();
    if let Some(pattern) = name.strip_prefix('+') {
        // Beats ignores what follows a `:` here.
        return DatePattern::compile(pattern).map(Part::Time);
    }
    if !name.starts_with('[') {
        return Err(format!("`{name}` is neither a field in brackets nor a date that begins with `+`"));
    }
    let default = match operators.as_slice() {
        [] => None,
        [None] => Some(texts.next().unwrap_or_default()),
        [Some(c)] => return Err(format!("`:{c}` isn't supported")),
        _ => return Err("more than one default".to_owned()),
    };
    Ok(Part::Field { path: field_path(&name)?, default })
}

/// `[a][b.c]` as `a.b.c`.
fn field_path(name: &str) -> Result<String, String> {
    let mut path = String::new();
    let mut rest = name.trim_matches([' ', '\n', '\r', '\t']);
    while !rest.is_empty() {
        let inside = rest.strip_prefix('[').ok_or_else(|| format!("a `[` is missing in `{name}`"))?;
        let (field, after) = inside.split_once(']').ok_or_else(|| format!("a `]` is missing in `{name}`"))?;
        if field.is_empty() {
            return Err("`[]` names no field".to_owned());
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(field);
        rest = after;
    }
    Ok(path)
}

/// A format string and its last result: what outputs use for names, which seldom differ from one event to the next.
/// Each worker has its own.
#[derive(Clone, Debug)]
pub struct Selector {
    format: Arc<Format>,
    scope: Scope,
    step_ms: i64,
    /// For which source and which stretch of time `text` holds.
    last: Option<(Option<Arc<Source>>, i64)>,
    text: String,
}

impl Selector {
    /// A selector that remembers nothing yet.
    pub fn new(format: Arc<Format>) -> Selector {
        let (scope, step_ms) = (format.scope(), format.step_ms());
        Selector { format, scope, step_ms, last: None, text: String::new() }
    }

    /// The text for an event.
    pub fn get(&mut self, renderer: &Renderer, batch: &Batch, event: &Event) -> Result<&str, MissingField> {
        let stretch = event.time_ms.div_euclid(self.step_ms);
        let cacheable = match self.scope {
            Scope::All => true,
            Scope::Source => event.overlay.is_none(),
            Scope::Event => false,
        };
        let source = (self.scope != Scope::All).then_some(&batch.source);
        let holds = cacheable
            && self.last.as_ref().is_some_and(|(of, at)| {
                *at == stretch
                    && match (of, source) {
                        (None, None) => true,
                        (Some(of), Some(source)) => Arc::ptr_eq(of, source),
                        _ => false,
                    }
            });
        if !holds {
            self.last = None;
            let mut text = std::mem::take(&mut self.text).into_bytes();
            text.clear();
            self.format.write(renderer, batch, event, &mut text)?;
            self.text = String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
            self.last = cacheable.then(|| (source.cloned(), stretch));
        }
        Ok(&self.text)
    }
}

#[cfg(test)]
mod tests;
