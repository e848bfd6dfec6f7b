//! Where events go. Each batch is written at once, before it is acknowledged. A file has whole lines only: what a killed
//! receiver had begun to write, and never acknowledged, is cut off when the next one opens it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
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
                let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
                cut_to_whole_lines(&file)?;
                Target::File(Mutex::new(file))
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

/// Cuts off what stands behind the last line's end.
fn cut_to_whole_lines(file: &File) -> io::Result<()> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(());
    }
    let (mut end, mut block) = (meta.len(), vec![0; 64 * 1024]);
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        // No longer than the block, by how it begins.
        let part = &mut block[..(end - begin) as usize];
        file.read_exact_at(part, begin)?;
        if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end < meta.len() {
        file.set_len(end)?;
    }
    Ok(())
}

/// Line ends in JSON stand only between its tokens: a space means the same.
fn one_line(json: &[u8], lines: &mut Vec<u8>) {
    let start = lines.len();
    lines.extend_from_slice(json);
    if let Some(new) = lines.get_mut(start..) {
        new.iter_mut().filter(|b| matches!(b, b'\n' | b'\r')).for_each(|b| *b = b' ');
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a folder of the test's own")]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_killed_receiver_had_begun_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ndjson");
        let long = "x".repeat(200_000);
        for (before, after) in [
            (String::new(), ""),
            ("{}\n".to_owned(), "{}\n"),
            ("{}\n{\"a\":".to_owned(), "{}\n"),
            (format!("{{}}\n{long}"), "{}\n"),
            (long, ""),
        ] {
            std::fs::write(&path, &before).unwrap();
            let file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
            cut_to_whole_lines(&file).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
