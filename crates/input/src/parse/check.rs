//! The chain's promises, checked on any bytes: for the property tests and the fuzz targets `multiline`, `container`, `json`, `syslog`
//! and `encoding`.
//!
//! Comes in: a chain and a file. Goes out: what doesn't hold. The file is parsed whole, and read in chunks as the
//! harvester reads it, the unconsumed tail again and what is too large with [`Chain::long`]; the events have to be the
//! same. Each batch of it is parsed again; the events have to be the same.

use pillion_event::{Event, Stream};
use pillion_process::Zone;
use pillion_process::syslog::{self, Syslog};

use crate::parse::{
    Chain, ChainOptions, Chunk, Container, Encoding, Flush, Format, Grouping, Json, LongParsed, Match, Multiline, Open,
    Parsed, Parser, Pattern, Shape, SyslogLines, Terminator,
};

/// A batch as it was read: its range in the file, and its events with their texts.
struct Read {
    from: u64,
    to: u64,
    events: Vec<(Event, Vec<u8>)>,
}

fn with_texts(data: &[u8], events: Vec<Event>) -> Vec<(Event, Vec<u8>)> {
    let text = |e: &Event| data[e.text.start as usize..e.text.end as usize].to_vec();
    events.into_iter().map(|e| (text(&e), e)).map(|(text, e)| (e, text)).collect()
}

fn parse(chain: &Chain, file: &[u8], offset: u64, flush: Flush) -> (Vec<(Event, Vec<u8>)>, Parsed) {
    let chunk = Chunk { len: file.len(), offset, flush, read_ms: 1_000, max_events: usize::MAX };
    let (mut data, mut events) = (file.to_vec(), Vec::new());
    let parsed = chain.parse(&mut data, &chunk, &mut events);
    (with_texts(&data, events), parsed)
}

/// Whether two lists of events are the same but for where their texts lie.
fn same(a: &[(Event, Vec<u8>)], b: &[(Event, Vec<u8>)]) -> bool {
    let eq = |(x, s): &(Event, Vec<u8>), (y, t): &(Event, Vec<u8>)| {
        (x.offset, x.len, x.time_ms, x.stream, x.flags, &x.overlay, s)
            == (y.offset, y.len, y.time_ms, y.stream, y.flags, &y.overlay, t)
    };
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| eq(x, y))
}

fn count_lines(chain: &Chain, file: &[u8]) -> usize {
    let (mut lines, mut at) = (0, 0);
    while let Some(end) = chain.line_end(file, at, 0) {
        (lines, at) = (lines + 1, end.end);
    }
    lines + usize::from(at < file.len())
}

/// Checks a chain on a file that is read in chunks of the sizes `cuts`, taken in turn, of at most `budget` bytes each.
pub fn holds(chain: &Chain, file: &[u8], cuts: &[usize], budget: usize) -> Result<(), String> {
    let (expect, parsed) = parse(chain, file, 0, Flush::All);
    if (parsed.consumed, parsed.open) != (file.len() as u64, Open::Nothing) {
        return Err(format!("a flush left something: {parsed:?}"));
    }
    let lines = count_lines(chain, file);
    if parsed.lines != lines as u64 {
        return Err(format!("{} of {lines} lines are accounted for", parsed.lines));
    }
    let mut at = 0;
    for (e, text) in &expect {
        let limit = chain.options().max_bytes;
        if e.offset < at || text.len() > limit {
            return Err(format!("{e:?} begins before {at} or is longer than {limit}"));
        }
        at = e.offset + u64::from(e.len);
    }
    if at > file.len() as u64 {
        return Err(format!("events end at {at}, the file at {}", file.len()));
    }
    let mut all = Vec::new();
    for batch in harvest(chain, file, cuts, budget)? {
        let taken = &file[batch.from as usize..batch.to as usize];
        let (again, parsed) = parse(chain, taken, batch.from, Flush::All);
        if parsed.consumed != taken.len() as u64 || !same(&again, &batch.events) {
            return Err(format!("{}..{} doesn't replay: {:?}, then {again:?}", batch.from, batch.to, batch.events));
        }
        all.extend(batch.events);
    }
    if same(&all, &expect) { Ok(()) } else { Err(format!("whole: {expect:?}\nin chunks: {all:?}")) }
}

/// Reads a file as the harvester does.
fn harvest(chain: &Chain, file: &[u8], cuts: &[usize], budget: usize) -> Result<Vec<Read>, String> {
    let (mut pos, mut size, mut batches) = (0, 1, Vec::new());
    let mut cuts = cuts.iter().copied().chain([1]).cycle();
    let mut cut = move || cuts.next().unwrap_or(1).max(1);
    loop {
        let end = file.len().min(pos + size.min(budget));
        let last = end == file.len();
        let (events, parsed) = parse(chain, &file[pos..end], pos as u64, Flush::No);
        let (read, to) = match parsed.consumed as usize {
            0 if !last && size < budget => {
                size *= 2;
                continue;
            }
            0 if !last => follow(chain, file, pos, &mut cut),
            0 => {
                let (events, parsed) = parse(chain, &file[pos..], pos as u64, Flush::All);
                (events, pos + parsed.consumed as usize)
            }
            consumed => (events, pos + consumed),
        };
        if to == pos && !last {
            return Err(format!("no way on from byte {pos}"));
        }
        batches.push(Read { from: pos as u64, to: to as u64, events: read });
        if to == file.len() {
            return Ok(batches);
        }
        (pos, size) = (to, cut());
    }
}

/// Follows what is larger than the budget.
fn follow(chain: &Chain, file: &[u8], pos: usize, cut: &mut dyn FnMut() -> usize) -> (Vec<(Event, Vec<u8>)>, usize) {
    let mut long = chain.long(pos as u64, 1_000);
    let mut done = false;
    while !done && (long.next() as usize) < file.len() {
        let at = long.next() as usize;
        done = long.feed(&file[at..file.len().min(at + cut())]);
    }
    let LongParsed { data, events, parsed } = long.finish(if done { Flush::No } else { Flush::All });
    (with_texts(&data, events), pos + parsed.consumed as usize)
}

/// A chain that the first byte of an input chooses, and what the others say of the chunks; the rest is the file.
fn chosen(input: &[u8], make: impl Fn(u8) -> Result<Vec<Parser>, String>) -> Result<(), String> {
    encoded(input, Encoding::Plain, make)
}

fn encoded(input: &[u8], encoding: Encoding, make: impl Fn(u8) -> Result<Vec<Parser>, String>) -> Result<(), String> {
    let Some((&[a, b, c, d], file)) = input.split_first_chunk::<4>() else { return Ok(()) };
    let shape = match b % 3 {
        0 => Shape::Log,
        1 => Shape::V5,
        _ => Shape::Filestream,
    };
    let chain = Chain::new(ChainOptions {
        max_bytes: usize::from(c) + 1,
        terminator: if b & 0x80 == 0 { Terminator::Auto } else { Terminator::LineFeed },
        parsers: make(a)?,
        shape,
        encoding,
        ..ChainOptions::default()
    });
    holds(&chain, file, &[usize::from(d >> 4) + 1, usize::from(d & 15) * 7 + 1], usize::from(d) + 1)
}

fn multiline_of(choice: u8) -> Result<Parser, String> {
    let negate = choice & 1 != 0;
    let grouping = match choice >> 1 & 3 {
        0 => Grouping::Count(u64::from(choice >> 3 & 3) + 1),
        1 => Grouping::While { pattern: Pattern::new("^ |x")?, negate },
        kind => Grouping::Pattern {
            pattern: Pattern::new(r"^\s|x$")?,
            negate,
            matching: if kind == 2 { Match::After } else { Match::Before },
            flush: if choice & 8 != 0 { Some(Pattern::new("e")?) } else { None },
        },
    };
    let max_lines = u64::from(choice >> 4 & 3);
    Ok(Parser::Multiline(Multiline { max_lines, skip_newline: choice & 64 != 0, ..Multiline::new(grouping) }))
}

/// Any bytes through multiline.
pub fn multiline(input: &[u8]) -> Result<(), String> {
    chosen(input, |a| Ok(vec![multiline_of(a)?]))
}

/// Any bytes in an encoding that the first one chooses, alone or before multiline.
pub fn encoding(input: &[u8]) -> Result<(), String> {
    const NAMES: [&str; 8] =
        ["utf-16le", "utf-16be", "latin1", "gb18030", "shift-jis", "iso-2022-jp", "hz-gb-2312", "ebcdic-037"];
    let Some((choice, input)) = input.split_first() else { return Ok(()) };
    let encoding = Encoding::named(NAMES[usize::from(choice % 8)]).map_err(|(reason, _)| reason.to_owned())?;
    encoded(input, encoding, |a| if choice & 8 == 0 { Ok(Vec::new()) } else { Ok(vec![multiline_of(a)?]) })
}

/// Any bytes through the containers' forms, alone or before multiline.
pub fn container(input: &[u8]) -> Result<(), String> {
    chosen(input, |a| {
        let format = match a % 3 {
            0 => Format::Auto,
            1 => Format::Docker,
            _ => Format::Cri,
        };
        let stream = if a & 4 == 0 { Stream::None } else { Stream::Stderr };
        let (join, tags) = (a & 8 == 0, a & 16 == 0);
        let mut parsers = vec![Parser::Container(Container { format, stream, join, tags })];
        if a & 0x80 != 0 {
            parsers.push(multiline_of(a)?);
        }
        Ok(parsers)
    })
}

/// Any bytes through the parser syslog, alone or before multiline, and through each of syslog's formats.
pub fn syslog(input: &[u8]) -> Result<(), String> {
    syslog::check(input)?;
    chosen(input, |a| {
        let format = match a % 3 {
            0 => syslog::Format::Auto,
            1 => syslog::Format::Rfc3164,
            _ => syslog::Format::Rfc5424,
        };
        let syslog = Syslog { format, zone: Zone::fixed(3_600_000) };
        let mut parsers = vec![Parser::Syslog(SyslogLines { syslog, log_errors: false, add_error_key: a & 4 == 0 })];
        if a & 0x80 != 0 {
            parsers.push(multiline_of(a)?);
        }
        Ok(parsers)
    })
}

/// Any bytes through JSON, alone or before multiline.
pub fn json(input: &[u8]) -> Result<(), String> {
    chosen(input, |a| {
        let mut parsers = vec![Parser::Json(Json {
            message_key: if a & 1 == 0 { String::new() } else { "m".to_owned() },
            keys_under_root: a & 2 != 0,
            target: if a & 2 == 0 { "t".to_owned() } else { String::new() },
            overwrite_keys: a & 4 != 0,
            add_error_key: a & 8 != 0,
            document_id: if a & 16 == 0 { String::new() } else { "a.id".to_owned() },
            expand_keys: a & 32 != 0,
        })];
        if a & 0x80 != 0 {
            parsers.push(multiline_of(a)?);
        }
        Ok(parsers)
    })
}
