//! Where events go. Each batch is written at once, before it is acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Mutex;

use serde::de::IgnoredAny;

use crate::answer::quoted;
use crate::bulk::Op;
use crate::options::{Arrived, Kind, Options, Sink};

/// The end of one port's events.
pub(crate) struct Port {
    kind: Kind,
    target: Target,
    with_action: bool,
}

enum Target {
    File(Mutex<File>),
    Stdout,
    Count,
    Call(std::sync::Arc<dyn Fn(Arrived<'_>) + Send + Sync>),
}

impl Port {
    pub(crate) fn open(options: &Options, kind: Kind, port: u16) -> io::Result<Port> {
        let target = match &options.sink {
            Sink::Folder(folder) => {
                std::fs::create_dir_all(folder)?;
                let path = folder.join(format!("{}-{port}.ndjson", kind.as_str()));
                Target::File(Mutex::new(OpenOptions::new().append(true).create(true).open(path)?))
            }
            Sink::Stdout => Target::Stdout,
            Sink::Count => Target::Count,
            Sink::Call(function) => Target::Call(function.clone()),
        };
        Ok(Port { kind, target, with_action: options.with_action })
    }

    /// Whether it wants to see an event, or only how many there are.
    pub(crate) fn looks_at_events(&self) -> bool {
        !matches!(self.target, Target::Count)
    }

    /// Whether the bytes can be taken as an event. Without a look they are.
    pub(crate) fn accepts(&self, json: &[u8]) -> bool {
        !self.looks_at_events() || serde_json::from_slice::<IgnoredAny>(json).is_ok()
    }

    /// Takes one event; its line is appended to `lines` where lines are written.
    pub(crate) fn take(&self, op: Option<Op>, event: Arrived<'_>, lines: &mut Vec<u8>) {
        match &self.target {
            Target::Count => {}
            Target::Call(function) => function(event),
            Target::File(_) | Target::Stdout => match op {
                Some(op) if self.with_action => {
                    let id = event.id.map_or("null".into(), quoted);
                    let head = format!(
                        "{{\"action\":\"{}\",\"index\":{},\"id\":{id},\"doc\":",
                        op.as_str(),
                        quoted(event.index)
                    );
                    lines.extend_from_slice(head.as_bytes());
                    one_line(event.json, lines);
                    lines.extend_from_slice(b"}\n");
                }
                _ => {
                    one_line(event.json, lines);
                    lines.push(b'\n');
                }
            },
        }
    }

    /// Writes the lines of a batch.
    pub(crate) fn write(&self, lines: &[u8]) -> io::Result<()> {
        match &self.target {
            _ if lines.is_empty() => Ok(()),
            Target::File(file) => file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write_all(lines),
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Target::Count | Target::Call(_) => Ok(()),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

/// Line ends in JSON stand only between its tokens: a space means the same.
fn one_line(json: &[u8], lines: &mut Vec<u8>) {
    let start = lines.len();
    lines.extend_from_slice(json);
    if let Some(new) = lines.get_mut(start..) {
        new.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
    }
}
