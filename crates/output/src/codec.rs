//! Codecs of the outputs that have one (file, console, redis, kafka): an event as the text of one record.
//!
//! Comes in: the `codec` section, then events. Goes out: JSON (one line, or indented as Go's `json.Indent` does), or what
//! a format string gives. Without the line end: outputs add it.
//!
//! Always holds: `codec.json` never fails; `codec.format` fails only where a field is missing, and the event is then
//! dropped, as in Beats. Tested below.

use std::sync::Arc;

use pillion_config::{Compat, Error, Section};
use pillion_event::{Batch, Event};

use crate::contract::OutputContext;
use crate::format::{Format, MissingField};
use crate::render::{RenderOptions, Renderer, Target};

/// What the user set.
#[derive(Clone, Debug, PartialEq)]
pub enum CodecOptions {
    /// `codec.json`.
    Json {
        /// Indented, over several lines.
        pretty: bool,
        /// `<`, `>` and `&` as `\u00XX`; always on in 5.6.
        escape_html: bool,
    },
    /// `codec.format.string`.
    Format(Format),
}

impl CodecOptions {
    /// Reads `codec` of an output's section; `json` without it.
    pub fn from_section(output: &Section<'_>, compat: Compat) -> Result<CodecOptions, Error> {
        let codec = output.section("codec")?;
        let json = codec.as_ref().map_or(Ok(None), |c| c.section("json"))?;
        if let Some(codec) = codec.as_ref().filter(|c| c.has("format")) {
            if codec.has("json") {
                return Err(codec.error_here("an output has one codec, and here are two", "keep `json` or `format`"));
            }
            let text = codec.str("format.string")?.ok_or_else(|| {
                codec.error("format", "the format has no `string`", "give one, such as `string: '%{[message]}'`")
            })?;
            let format = Format::compile(&text).map_err(|e| {
                codec.error("format.string", e.to_string(), "fields are written `%{[name]}`, dates `%{+yyyy.MM.dd}`")
            })?;
            return Ok(CodecOptions::Format(format));
        }
        let (mut pretty, mut escape_html) = (None, None);
        if let Some(json) = &json {
            (pretty, escape_html) = (json.bool("pretty")?, json.bool("escape_html")?);
        }
        Ok(CodecOptions::Json {
            pretty: pretty.unwrap_or(false),
            escape_html: escape_html.unwrap_or(false) || compat == Compat::V5,
        })
    }
}

/// Writes events as records. Shared by the workers of an output.
pub struct Codec {
    renderer: Renderer,
    pretty: bool,
    format: Option<Format>,
}

impl Codec {
    /// The codec of an output.
    pub fn new(options: CodecOptions, compat: Compat, context: &OutputContext) -> Codec {
        Codec::with_index(options, compat, context, None)
    }

    /// The codec of an output that has an option `index`: what `@metadata.beat` says.
    pub fn with_index(options: CodecOptions, compat: Compat, context: &OutputContext, index: Option<&str>) -> Codec {
        let mut render = RenderOptions::new(Target::Codec, compat);
        if let Some(index) = index {
            index.clone_into(&mut render.index);
        }
        render.event_ids = context.exactly_once;
        let (pretty, format) = match options {
            CodecOptions::Json { pretty, escape_html } => {
                render.escape_html = escape_html;
                (pretty, None)
            }
            CodecOptions::Format(format) => (false, Some(format)),
        };
        Codec { renderer: Renderer::new(render, Arc::clone(&context.agent)), pretty, format }
    }

    /// What else of an event's fields an output needs: keys, topics.
    pub fn renderer(&self) -> &Renderer {
        &self.renderer
    }

    /// Appends the event, without a line end. After an error the buffer is as it was.
    pub fn encode(&self, batch: &Batch, event: &Event, out: &mut Vec<u8>) -> Result<(), MissingField> {
        match &self.format {
            Some(format) => format.write(&self.renderer, batch, event, out),
            None if self.pretty => {
                let mut flat = Vec::new();
                self.renderer.write(batch, event, &mut flat);
                indent(&flat, out);
                Ok(())
            }
            None => {
                self.renderer.write(batch, event, out);
                Ok(())
            }
        }
    }
}

/// Appends compact JSON with line breaks and two blanks for each level, as Go's `json.Indent(…, "", "  ")`.
fn indent(json: &[u8], out: &mut Vec<u8>) {
    fn line(level: usize, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * level, b' ');
    }
    let mut level = 0usize;
    let mut bytes = json.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        match b {
            b'"' => {
                out.push(b);
                while let Some(b) = bytes.next() {
                    out.push(b);
                    match b {
                        b'\\' => out.extend(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                out.push(b);
                if let Some(end) = bytes.next_if(|b| matches!(b, b'}' | b']')) {
                    out.push(end);
                } else {
                    level += 1;
                    line(level, out);
                }
            }
            b'}' | b']' => {
                level = level.saturating_sub(1);
                line(level, out);
                out.push(b);
            }
            b',' => {
                out.push(b);
                line(level, out);
            }
            b':' => out.extend_from_slice(b": "),
            b => out.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use pillion_event::InputKind;
    use pillion_world::World;

    use super::*;
    use crate::render::tests::{agent, batch, input};

    fn context() -> OutputContext {
        OutputContext {
            world: World::real(),
            agent: agent("5.6.16"),
            exactly_once: false,
            shared: false,
            data_path: "/nowhere".into(),
            stats: Arc::default(),
            hurry: Arc::default(),
        }
    }

    #[test]
    fn pretty_as_go_indents() {
        let mut out = Vec::new();
        indent(br#"{"a":{},"b":[],"c":[1,{"d":"x: {\"},"}],"e":"\\"}"#, &mut out);
        let want = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1,\n    {\n      \"d\": \"x: {\\\"},\"\n    }\n  ],\n  \"e\": \"\\\\\"\n}";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn json_pretty_and_format() {
        let b = batch(input(InputKind::Log), 0, &[b"x"]);
        let run = |options| {
            let mut out = b"|".to_vec();
            let done = Codec::new(options, Compat::V5, &context()).encode(&b, &b.events[0], &mut out);
            (done, String::from_utf8(out).unwrap())
        };
        let (_, flat) = run(CodecOptions::Json { pretty: false, escape_html: true });
        assert!(flat.starts_with("|{\"@timestamp\":") && flat.ends_with("\"type\":\"log\"}"), "{flat}");
        let (_, pretty) = run(CodecOptions::Json { pretty: true, escape_html: true });
        assert!(
            pretty.starts_with("|{\n  \"@timestamp\": \"2017") && pretty.ends_with("\"type\": \"log\"\n}"),
            "{pretty}"
        );
        let format = |text| run(CodecOptions::Format(Format::compile(text).unwrap()));
        assert_eq!(format("%{[source]}: %{[message]}"), (Ok(()), "|/x/test.log: x".into()));
        assert_eq!(format("a%{[no]}"), (Err(MissingField("no".into())), "|".into()));
    }
}
