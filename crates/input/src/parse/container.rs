//! Containers' logs: Docker's JSON files and the CRI form of containerd and CRI-O.
//!
//! Comes in: lines. Goes out: what the container wrote, with its time and stream; a line that the runtime split is put
//! together again.
//!
//! Always holds: what comes out is in the order in which it began. While a split line of one stream waits for its rest,
//! lines of the other stream wait behind it, so that the parts of both find together; beyond [`SLOTS`] lines or four
//! times `max_bytes` all of them go out as they are. (Filebeat joins whatever lines follow, of whichever stream.)
//! Unless lines aren't to be joined (`combine_partials: false`): then each part is an event.
//! A line that isn't in the form is skipped and counted, as Filebeat skips it with an error in its log; unlike there,
//! the parts before it stay. An event of a split line covers the bytes up to the first line of another stream.
//!
//! Tested in `tests.rs`; fuzz target `container`.

use std::borrow::Cow;
use std::ops::Range;

use pillion_event::Stream;
use pillion_process::json;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::parse::options::{ChainOptions, Terminator};
use crate::parse::run::{Fate, Message};
use crate::parse::time::rfc3339;

/// How many lines wait behind a split one at most.
const SLOTS: usize = 256;

/// `format`: the form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// By each line's first byte: `{` is Docker's.
    #[default]
    Auto,
    /// `docker`, `json-file`.
    Docker,
    /// `cri`.
    Cri,
}

/// The parser `container`, and what `type: container`, `type: docker` and `docker-json` add to `log`.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// `format`.
    pub format: Format,
    /// `stream`: [`Stream::None`] = `all`; lines of another stream are filtered out.
    pub stream: Stream,
    /// `combine_partials`, `docker-json.partial`: lines that the runtime split are put together again.
    pub join: bool,
    /// `cri.parse_flags`, `docker-json.cri_flags`: lines of the CRI form have tags, which say whether they are split;
    /// else the tags are the text's first word.
    pub tags: bool,
}

impl Default for Container {
    fn default() -> Container {
        Container { format: Format::Auto, stream: Stream::None, join: true, tags: true }
    }
}

/// Lines that wait for the rest of a split one.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    slots: Vec<Slot>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    message: Message,
    /// The text, where it is joined of parts.
    gathered: Option<Vec<u8>>,
    /// Its last part hasn't come.
    split: bool,
}

/// What comes out for a line.
pub(super) enum Released {
    Nothing,
    One(Message),
    Many(Vec<Message>),
}

impl Cluster {
    pub(super) fn anchor(&self) -> Option<u64> {
        self.slots.first().map(|s| s.message.anchor)
    }

    pub(super) fn texts(&mut self, each: &mut dyn FnMut(&mut Range<usize>)) {
        self.slots.iter_mut().for_each(|s| each(&mut s.message.text));
    }

    /// Lets all lines go as they are. Several ones hang together: parts of the first may lie behind the others.
    pub(super) fn release(&mut self, data: &mut Vec<u8>) -> Vec<Message> {
        self.bytes = 0;
        let anchor = self.anchor().unwrap_or_default();
        let ready = |mut slot: Slot| {
            if let Some(text) = slot.gathered {
                let start = data.len();
                data.extend_from_slice(&text);
                slot.message.text = start..data.len();
            }
            Message { anchor, ..slot.message }
        };
        self.slots.drain(..).map(ready).collect()
    }

    fn add(&mut self, message: Message, split: bool, limit: usize, data: &mut Vec<u8>) -> Released {
        let waiting = self.slots.iter().rposition(|s| s.split && s.message.stream == message.stream);
        if waiting.is_none() && !split && self.slots.is_empty() {
            return Released::One(message);
        }
        self.bytes += message.text.len();
        match waiting {
            Some(at) => {
                let last = at + 1 == self.slots.len();
                self.slots[at].join(&message, split, last, limit, data);
            }
            None => self.slots.push(Slot { message, gathered: None, split }),
        }
        let one = self.slots.len() == 1;
        if self.slots.iter().any(|s| s.split) && (one || (self.slots.len() < SLOTS && self.bytes <= limit)) {
            return Released::Nothing;
        }
        Released::Many(self.release(data))
    }
}

impl Slot {
    fn join(&mut self, part: &Message, split: bool, last: bool, limit: usize, data: &[u8]) {
        let m = &mut self.message;
        m.lines += part.lines;
        if last {
            m.len = part.end() - m.offset;
        }
        let text = self.gathered.get_or_insert_with(|| data[m.text.clone()].to_vec());
        let room = limit.saturating_sub(text.len());
        m.flags.truncated |= part.text.len() > room || part.flags.truncated;
        text.extend_from_slice(&data[part.text.start..part.text.end.min(part.text.start + room)]);
        self.split = split;
    }
}

/// Takes the next line.
pub(super) fn accept(
    options: &Container,
    chain: &ChainOptions,
    cluster: &mut Cluster,
    mut message: Message,
    data: &mut Vec<u8>,
) -> Result<Released, Fate> {
    let text = &data[message.text.clone()];
    if text.is_empty() {
        return Err(Fate::Empty);
    }
    let docker = match options.format {
        Format::Auto => text[0] == b'{',
        Format::Docker => true,
        Format::Cri => false,
    };
    let split = if docker { docker_line(chain, &mut message, data) } else { cri_line(options, &mut message, data) };
    let split = split.ok_or(Fate::Malformed)?;
    if options.stream != Stream::None && options.stream != message.stream {
        return Err(Fate::Filtered);
    }
    Ok(cluster.add(message, split && options.join, chain.max_bytes * 4, data))
}

/// `2017-09-12T22:32:21.212861448Z stdout F text`: gives whether it is a part only.
fn cri_line(options: &Container, message: &mut Message, data: &[u8]) -> Option<bool> {
    let line = &data[message.text.clone()];
    let mut fields = line.splitn(if options.tags { 4 } else { 3 }, |b| *b == b' ');
    let (time, stream) = (fields.next()?, fields.next()?);
    let tags = if options.tags { fields.next()? } else { b"" };
    let text = fields.next()?;
    message.time_ms = rfc3339(time)?;
    set_stream(message, &String::from_utf8_lossy(stream));
    message.text.start = message.text.end - text.len();
    Some(tags.split(|b| *b == b':').any(|tag| tag == b"P"))
}

#[derive(Deserialize)]
struct DockerLine<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<Map<String, Value>>,
}

/// `{"log":"text\n","stream":"stdout","time":"…"}`: gives whether it is a part only.
fn docker_line(chain: &ChainOptions, message: &mut Message, data: &mut Vec<u8>) -> Option<bool> {
    let lenient;
    let line: DockerLine<'_> = match json::first(&data[message.text.clone()]) {
        Ok(line) => line,
        Err(_) => {
            lenient = json::mend(&data[message.text.clone()])?;
            json::first(lenient.as_bytes()).ok()?
        }
    };
    message.time_ms = rfc3339(line.time.as_bytes())?;
    set_stream(message, &line.stream);
    if let Some(attrs) = line.attrs.filter(|a| !a.is_empty()) {
        let docker = Map::from_iter([("attrs".to_owned(), Value::Object(attrs))]);
        message.extra().fields.insert("docker".to_owned(), Value::Object(docker));
    }
    let log = line.log.into_owned();
    let split = !log.ends_with('\n');
    let start = data.len();
    data.extend_from_slice(strip_newline(&log, chain).as_bytes());
    message.text = start..data.len();
    Some(split)
}

/// A text without the line ending that it brought along. (Filestream of 7.17 leaves Docker's line feed in the event.)
pub(super) fn strip_newline<'a>(text: &'a str, chain: &ChainOptions) -> &'a str {
    let stripped = text.strip_suffix(chain.terminator.text()).unwrap_or(text);
    match chain.terminator {
        Terminator::Auto if stripped.len() < text.len() => stripped.strip_suffix('\r').unwrap_or(stripped),
        _ => stripped,
    }
}

fn set_stream(message: &mut Message, name: &str) {
    message.stream = match name {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        other => {
            message.extra().fields.insert("stream".to_owned(), other.into());
            Stream::None
        }
    };
}
