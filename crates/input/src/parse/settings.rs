//! A chain's options from the configuration of an input.
//!
//! Comes in: the section of one input, its kind and the dialect. Goes out: [`ChainOptions`], or what is wrong and where.
//! Always holds: an option that the dialect doesn't know isn't asked for, so that it is reported as unknown; an option
//! that is known and can't be honoured is refused. Tested below.

use pillion_config::{Compat, Error, Section};
use pillion_event::{InputKind, Stream};

use crate::parse::container::{Container, Format};
use crate::parse::encoding::Encoding;
use crate::parse::json::Json;
use crate::parse::line::LineEnd;
use crate::parse::multiline::{Grouping, Match, Multiline};
use crate::parse::options::{ChainOptions, MAX_BYTES_LIMIT, Parser, Shape, Terminator};
use crate::parse::pattern::Pattern;
use crate::parse::syslog::SyslogLines;

impl ChainOptions {
    /// Whether events are lines, joined or not, with no fields of their own.
    pub fn gives_lines(&self) -> bool {
        let plain = |p: &Parser| matches!(p, Parser::Container(_) | Parser::Multiline(_) | Parser::IncludeMessage(_));
        self.parsers.iter().all(plain)
    }

    /// Takes what concerns the parse chain from an input's section.
    pub fn from_section(section: &Section<'_>, kind: InputKind) -> Result<ChainOptions, Error> {
        let v5 = section.compat() == Compat::V5;
        let filestream = kind == InputKind::Filestream;
        let shape = match (filestream, v5) {
            (true, _) => Shape::Filestream,
            (false, true) => Shape::V5,
            (false, false) => Shape::Log,
        };
        let parsers = if filestream { parsers(section)? } else { log_parsers(section, kind)? };
        let encoding = encoding(section, kind)?;
        let options = ChainOptions {
            encoding,
            max_bytes: max_bytes(section, if filestream { "message_max_bytes" } else { "max_bytes" })?,
            terminator: if v5 { Terminator::Auto } else { terminator(section, encoding)? },
            include_lines: patterns(section, "include_lines")?,
            exclude_lines: patterns(section, "exclude_lines")?,
            parsers,
            shape,
            modern: section.compat().is_modern(),
        };
        options.check(section)?;
        Ok(options)
    }

    /// What Filebeat refuses: the log input's JSON has no text for others without a `message_key`.
    fn check(&self, section: &Section<'_>) -> Result<(), Error> {
        let keyless = self.parsers.iter().any(|p| matches!(p, Parser::Json(j) if j.message_key.is_empty()));
        if self.shape == Shape::Filestream || !keyless {
            return Ok(());
        }
        let multiline = self.parsers.iter().any(|p| matches!(p, Parser::Multiline(_)));
        let filters = !self.include_lines.is_empty() || !self.exclude_lines.is_empty();
        if !multiline && !filters {
            return Ok(());
        }
        let with = if multiline { "multiline" } else { "include_lines and exclude_lines" };
        Err(section.error(
            "json",
            format!("JSON together with {with} needs to know which key holds the text"),
            "set json.message_key",
        ))
    }
}

fn max_bytes(section: &Section<'_>, key: &str) -> Result<usize, Error> {
    let Some(bytes) = section.size(key)? else { return Ok(ChainOptions::default().max_bytes) };
    match usize::try_from(bytes) {
        Ok(bytes @ 1..=MAX_BYTES_LIMIT) => Ok(bytes),
        _ => Err(section.error(key, format!("{} is out of range", section.shown(key)), "give 1 to 256MiB")),
    }
}

fn terminator(section: &Section<'_>, encoding: Encoding) -> Result<Terminator, Error> {
    const KEY: &str = "line_terminator";
    let known = [
        ("auto", Terminator::Auto),
        ("line_feed", Terminator::LineFeed),
        ("vertical_tab", Terminator::VerticalTab),
        ("form_feed", Terminator::FormFeed),
        ("carriage_return", Terminator::CarriageReturn),
        ("carriage_return_line_feed", Terminator::CarriageReturnLineFeed),
        ("next_line", Terminator::NextLine),
        ("line_separator", Terminator::LineSeparator),
        ("paragraph_separator", Terminator::ParagraphSeparator),
        ("null_terminator", Terminator::NullTerminator),
    ];
    let Some(word) = section.choice(KEY, &known.map(|(word, _)| word))? else { return Ok(Terminator::Auto) };
    let chosen = known.iter().find(|(known, _)| *known == word).map_or(Terminator::Auto, |(_, terminator)| *terminator);
    if LineEnd::new(chosen, encoding).is_none() {
        return Err(section.error(
            KEY,
            format!("no line can end with {word} in the encoding {}", section.shown("encoding")),
            "use auto, and let the application end its lines with a line feed",
        ));
    }
    Ok(chosen)
}

/// `encoding`, by Filebeat's names.
fn encoding(section: &Section<'_>, kind: InputKind) -> Result<Encoding, Error> {
    const KEY: &str = "encoding";
    let Some(name) = section.str(KEY)? else { return Ok(Encoding::Plain) };
    let refused = |(reason, remedy)| section.error(KEY, format!("{reason} {}", section.shown(KEY)), remedy);
    let encoding = Encoding::named(&name).map_err(refused)?;
    if kind == InputKind::Stdin && matches!(encoding, Encoding::Utf16Bom { .. }) {
        return Err(section.error(
            KEY,
            "of standard input, which can't be read from its beginning again, no byte order mark is asked for",
            "use utf-16le or utf-16be; a byte order mark is left out all the same",
        ));
    }
    Ok(encoding)
}

/// `log`, `container`, `stdin`: options of their own, in a fixed order.
fn log_parsers(section: &Section<'_>, kind: InputKind) -> Result<Vec<Parser>, Error> {
    let mut parsers = Vec::new();
    match kind {
        InputKind::Container => parsers.push(Parser::Container(container(section)?)),
        InputKind::Docker => parsers.push(Parser::Container(docker(section)?)),
        _ => {
            if let Some(s) = section.section("docker-json")? {
                parsers.push(Parser::Container(docker_json(&s)?));
            }
        }
    }
    if let Some(s) = section.section("json")? {
        let mut options = json(&s)?;
        options.keys_under_root = s.bool("keys_under_root")?.unwrap_or(false);
        parsers.push(Parser::Json(options));
    }
    if let Some(s) = section.section("multiline")? {
        parsers.push(Parser::Multiline(multiline(&s)?));
    }
    Ok(parsers)
}

/// Filestream's `parsers`, in the order in which they are written.
fn parsers(section: &Section<'_>) -> Result<Vec<Parser>, Error> {
    let mut parsers = Vec::new();
    for entry in section.sections("parsers")? {
        for (name, s) in entry.named_sections()? {
            parsers.push(match name {
                "multiline" => Parser::Multiline(multiline(&s)?),
                "container" => Parser::Container(container(&s)?),
                "ndjson" => Parser::Json(ndjson(&s)?),
                "include_message" => match patterns(&s, "patterns")? {
                    none if none.is_empty() => return Err(s.error("patterns", "missing", "give the patterns to keep")),
                    some => Parser::IncludeMessage(some),
                },
                "syslog" => Parser::Syslog(SyslogLines::from_section(&s)?),
                "auditd" => {
                    return Err(s.error_here(
                        "records of the Linux audit log aren't taken apart here, and events would differ without it",
                        "take it out: the lines arrive whole, and the ingest pipeline of the auditd integration takes them apart",
                    ));
                }
                _ => {
                    return Err(s.error_here(
                        format!("no parser is named {name}"),
                        "known are multiline, ndjson, container, syslog and include_message",
                    ));
                }
            });
        }
    }
    Ok(parsers)
}

fn container(section: &Section<'_>) -> Result<Container, Error> {
    let stream = stream(section, "stream")?;
    Ok(Container { format: format(section)?, stream: stream.unwrap_or_default(), ..Container::default() })
}

/// `type: docker`: what it says of lines.
fn docker(section: &Section<'_>) -> Result<Container, Error> {
    Ok(Container {
        format: if section.bool("cri.force")?.unwrap_or(false) { Format::Cri } else { Format::Auto },
        stream: stream(section, "containers.stream")?.unwrap_or_default(),
        join: section.bool("combine_partials")?.unwrap_or(true),
        tags: section.bool("cri.parse_flags")?.unwrap_or(false),
    })
}

/// `docker-json` of a log input: what `type: docker` and `type: container` are made of in Filebeat.
fn docker_json(section: &Section<'_>) -> Result<Container, Error> {
    let Some(stream) = stream(section, "stream")? else {
        return Err(section.error(
            "stream",
            "missing: Filebeat sends no line without it",
            "give all, stdout or stderr",
        ));
    };
    Ok(Container {
        format: format(section)?,
        stream,
        join: section.bool("partial")?.unwrap_or(false),
        tags: section.bool("cri_flags")?.unwrap_or(false),
    })
}

/// The stream whose lines are wanted; [`Stream::None`] = those of all.
fn stream(section: &Section<'_>, key: &str) -> Result<Option<Stream>, Error> {
    Ok(section.choice(key, &["all", "stdout", "stderr"])?.map(|word| match word {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => Stream::None,
    }))
}

fn format(section: &Section<'_>) -> Result<Format, Error> {
    Ok(match section.choice("format", &["auto", "docker", "json-file", "cri"])? {
        Some("docker" | "json-file") => Format::Docker,
        Some("cri") => Format::Cri,
        _ => Format::Auto,
    })
}

fn ndjson(section: &Section<'_>) -> Result<Json, Error> {
    if section.has("field") {
        return Err(section.error("field", "decoding another field than the text isn't supported", "take it out"));
    }
    // Filebeat takes this too, and `target` alone decides.
    section.bool("keys_under_root")?;
    Ok(Json { target: section.str("target")?.unwrap_or_default(), ..json(section)? })
}

/// What `json` and `ndjson` have in common.
fn json(section: &Section<'_>) -> Result<Json, Error> {
    let mut options = Json {
        message_key: section.str("message_key")?.unwrap_or_default(),
        overwrite_keys: section.bool("overwrite_keys")?.unwrap_or(false),
        add_error_key: section.bool("add_error_key")?.unwrap_or(false),
        ..Json::default()
    };
    if section.compat() != Compat::V5 {
        options.document_id = section.str("document_id")?.unwrap_or_default();
        // It keeps Filebeat's log quiet; here no line is logged for what it holds.
        let _ = section.bool("ignore_decoding_error")?;
        options.expand_keys = section.bool("expand_keys")?.unwrap_or(false);
    }
    Ok(options)
}

fn multiline(section: &Section<'_>) -> Result<Multiline, Error> {
    let v5 = section.compat() == Compat::V5;
    let kind = match v5 {
        true => None,
        // 8 and 9 document it with an underscore, and their code has it with a dash; 7.17 knows none of the two. Empty
        // means pattern in all of them.
        false => section.choice("type", &["", "pattern", "count", "while_pattern", "while-pattern"])?,
    };
    let negate = section.bool("negate")?.unwrap_or(false);
    let grouping = match kind {
        Some("count") => match section.u64("count_lines")? {
            Some(lines @ 1..) => Grouping::Count(lines),
            _ => return Err(section.error("count_lines", "missing or 0", "give the number of lines of an event")),
        },
        Some("while_pattern" | "while-pattern") => Grouping::While { pattern: required(section)?, negate },
        _ => {
            let pattern = required(section)?;
            let matching = match section.choice("match", &["after", "before"])? {
                Some("after") => Match::After,
                Some(_) => Match::Before,
                None => return Err(section.error("match", "missing", "give after or before")),
            };
            let flush = if v5 { None } else { one_pattern(section, "flush_pattern")? };
            Grouping::Pattern { pattern, negate, matching, flush }
        }
    };
    let mut options = Multiline::new(grouping);
    if let Some(lines) = section.i64("max_lines")? {
        // As in Filebeat, nothing above 0 means no limit.
        options.max_lines = u64::try_from(lines).unwrap_or(0);
    }
    if let Some(timeout) = section.duration("timeout")? {
        options.timeout = timeout;
    }
    if !v5 {
        options.skip_newline = section.bool("skip_newline")?.unwrap_or(false);
    }
    Ok(options)
}

fn required(section: &Section<'_>) -> Result<Pattern, Error> {
    match one_pattern(section, "pattern")? {
        Some(pattern) => Ok(pattern),
        None => Err(section.error("pattern", "missing", "give the pattern that tells which lines belong together")),
    }
}

fn one_pattern(section: &Section<'_>, key: &str) -> Result<Option<Pattern>, Error> {
    section.str(key)?.map(|go| compile(section, key, &go)).transpose()
}

fn patterns(section: &Section<'_>, key: &str) -> Result<Vec<Pattern>, Error> {
    section.strings(key)?.iter().map(|go| compile(section, key, go)).collect()
}

fn compile(section: &Section<'_>, key: &str, go: &str) -> Result<Pattern, Error> {
    Pattern::new(go).map_err(|e| {
        let reason = e.lines().last().unwrap_or_default().trim_start_matches("error: ");
        section.error(key, format!("not a regular expression: {reason}"), "write it in Go's RE2 syntax")
    })
}

#[cfg(test)]
mod tests {
    use pillion_config::Config;

    use super::*;

    fn read(yaml: &str, kind: InputKind) -> Result<ChainOptions, Error> {
        let config = Config::from_yaml(yaml).unwrap();
        ChainOptions::from_section(&config.root().section("i").unwrap().unwrap(), kind)
    }

    #[test]
    fn defaults() {
        let plain = read("i: {type: log}", InputKind::Log).unwrap();
        assert_eq!((plain.max_bytes, plain.parsers.len(), plain.shape), (10 << 20, 0, Shape::Log));
        let container = read("i: {type: container}", InputKind::Container).unwrap();
        assert!(matches!(container.parsers.as_slice(), [Parser::Container(c)] if c.stream == Stream::None));
        let multiline = read("i: {multiline: {pattern: x, match: after}}", InputKind::Log).unwrap();
        assert!(matches!(multiline.parsers.as_slice(),
            [Parser::Multiline(m)] if m.max_lines == 500 && m.timeout.as_secs() == 5 && !m.skip_newline));
        assert_eq!(read("{pillion.compat: 5.6, i: {type: log}}", InputKind::Log).unwrap().shape, Shape::V5);
    }

    #[test]
    fn all_that_is_known_is_taken() {
        let yaml = "i:
  max_bytes: 1kb
  line_terminator: line_feed
  include_lines: ['^a', '^b']
  exclude_lines: c
  stream: stderr
  format: cri
  json: {message_key: m, keys_under_root: true, overwrite_keys: true, add_error_key: true, document_id: d,
    ignore_decoding_error: true, expand_keys: true}
  multiline: {type: pattern, pattern: p, negate: true, match: before, flush_pattern: f, max_lines: -1, timeout: 3s,
    skip_newline: true}
";
        let options = read(yaml, InputKind::Container).unwrap();
        assert_eq!((options.max_bytes, options.terminator), (1000, Terminator::LineFeed));
        assert_eq!((options.include_lines.len(), options.exclude_lines.len()), (2, 1));
        let [Parser::Container(c), Parser::Json(j), Parser::Multiline(m)] = options.parsers.as_slice() else {
            panic!("{options:?}")
        };
        assert_eq!((c.stream, c.format), (Stream::Stderr, Format::Cri));
        assert!(j.keys_under_root && j.overwrite_keys && j.add_error_key && j.expand_keys);
        assert_eq!((j.message_key.as_str(), j.document_id.as_str()), ("m", "d"));
        assert!(matches!(&m.grouping, Grouping::Pattern { negate: true, matching: Match::Before, flush: Some(_), .. }));
        assert_eq!((m.max_lines, m.timeout.as_secs(), m.skip_newline), (0, 3, true));
    }

    #[test]
    fn what_docker_is_made_of() {
        let one = |yaml: &str, kind| {
            let options = read(&format!("pillion.compat: 7\ni: {yaml}"), kind).unwrap();
            let Some(Parser::Container(c)) = options.parsers.first().cloned() else { panic!("{options:?}") };
            (c.format, c.stream, c.join, c.tags)
        };
        let all = (Format::Auto, Stream::None, true, false);
        assert_eq!(one("{}", InputKind::Docker), all);
        assert_eq!(one("{combine_partials: false}", InputKind::Docker), (Format::Auto, Stream::None, false, false));
        let yaml = "{containers.stream: stdout, cri: {force: true, parse_flags: true}}";
        assert_eq!(one(yaml, InputKind::Docker), (Format::Cri, Stream::Stdout, true, true));
        assert_eq!(one("{docker-json: {stream: all, partial: true}}", InputKind::Log), all);
        let yaml = "{docker-json: {stream: stderr, format: json-file, cri_flags: true}}";
        assert_eq!(one(yaml, InputKind::Log), (Format::Docker, Stream::Stderr, false, true));
        let e = read("i: {docker-json: {partial: true}}", InputKind::Log).unwrap_err();
        assert_eq!(e.key(), "i.docker-json.stream");
        assert_eq!(one("{}", InputKind::Container), (Format::Auto, Stream::None, true, true));
    }

    #[test]
    fn filestream_parsers_keep_their_order() {
        let yaml = "i:
  message_max_bytes: 5
  parsers:
    - ndjson: {target: t, message_key: m}
    - container:
    - multiline: {type: count, count_lines: 3}
    - multiline: {type: while_pattern, pattern: x}
    - include_message: {patterns: [a]}
    - syslog: {format: rfc5424, timezone: '+0200', log_errors: true, add_error_key: false}
";
        let options = read(yaml, InputKind::Filestream).unwrap();
        assert_eq!((options.max_bytes, options.shape), (5, Shape::Filestream));
        let [
            Parser::Json(j),
            Parser::Container(_),
            Parser::Multiline(a),
            Parser::Multiline(b),
            Parser::IncludeMessage(_),
            Parser::Syslog(s),
        ] = options.parsers.as_slice()
        else {
            panic!("{options:?}")
        };
        assert_eq!(j.target, "t");
        assert!(s.log_errors && !s.add_error_key);
        assert!(matches!(a.grouping, Grouping::Count(3)) && matches!(b.grouping, Grouping::While { .. }));
    }

    #[test]
    fn the_kinds_of_multiline_by_every_spelling() {
        for (kind, like) in [
            ("''", "pattern"),
            ("pattern", "pattern"),
            ("count", "count"),
            ("while_pattern", "while"),
            ("while-pattern", "while"),
        ] {
            let yaml = format!("i:\n  multiline: {{type: {kind}, pattern: x, match: after, count_lines: 2}}");
            let options = read(&yaml, InputKind::Log).unwrap();
            let [Parser::Multiline(multiline)] = options.parsers.as_slice() else { panic!("{options:?}") };
            let is = match multiline.grouping {
                Grouping::Pattern { .. } => "pattern",
                Grouping::Count(_) => "count",
                Grouping::While { .. } => "while",
            };
            assert_eq!(is, like, "{kind}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_place() {
        let cases = [
            ("i:\n  multiline: {pattern: x}", InputKind::Log, "i.multiline.match"),
            ("i:\n  multiline: {match: after}", InputKind::Log, "i.multiline.pattern"),
            ("i:\n  multiline: {type: count}", InputKind::Log, "i.multiline.count_lines"),
            ("i:\n  include_lines: ['(']", InputKind::Log, "i.include_lines"),
            ("i:\n  max_bytes: 0", InputKind::Log, "i.max_bytes"),
            ("i:\n  message_max_bytes: 1GiB", InputKind::Filestream, "i.message_max_bytes"),
            ("i:\n  line_terminator: nonsense", InputKind::Log, "i.line_terminator"),
            ("i:\n  line_terminator: next_line\n  encoding: gbk", InputKind::Log, "i.line_terminator"),
            ("i:\n  encoding: utf-7", InputKind::Log, "i.encoding"),
            ("i:\n  encoding: iso-2022-kr", InputKind::Filestream, "i.encoding"),
            ("i:\n  encoding: utf-16le-bom", InputKind::Stdin, "i.encoding"),
            ("i:\n  json: {add_error_key: true}\n  exclude_lines: [a]", InputKind::Log, "i.json"),
            ("i:\n  json: {add_error_key: true}\n  multiline: {pattern: x, match: after}", InputKind::Log, "i.json"),
            ("i:\n  parsers: [{auditd: {}}]", InputKind::Filestream, "i.parsers.0.auditd"),
            ("i:\n  parsers: [{syslog: {format: x}}]", InputKind::Filestream, "i.parsers.0.syslog.format"),
            ("i:\n  parsers: [{syslog: {timezone: No/Where}}]", InputKind::Filestream, "i.parsers.0.syslog.timezone"),
            ("i:\n  parsers: [{nonsense: {}}]", InputKind::Filestream, "i.parsers.0.nonsense"),
            ("i:\n  parsers: [{ndjson: {field: x}}]", InputKind::Filestream, "i.parsers.0.ndjson.field"),
            ("i:\n  parsers: [{include_message: {}}]", InputKind::Filestream, "i.parsers.0.include_message.patterns"),
        ];
        for (yaml, kind, key) in cases {
            let error = read(yaml, kind).unwrap_err();
            assert_eq!(error.key(), key, "{yaml}: {error}");
        }
    }

    #[test]
    fn what_5_6_does_not_know_is_left_to_be_reported() {
        let yaml = "{pillion.compat: 5.6, i: {line_terminator: nonsense, json: {document_id: x, message_key: m}}}";
        let options = read(yaml, InputKind::Log).unwrap();
        assert!(matches!(options.parsers.as_slice(), [Parser::Json(j)] if j.document_id.is_empty()));
    }
}
