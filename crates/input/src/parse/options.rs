//! What a chain can be told.
//!
//! Typed options with Filebeat's defaults; `settings.rs` reads them from a configuration. Tested with the chains that
//! are built from them.

use std::time::Duration;

use crate::parse::container::Container;
use crate::parse::encoding::Encoding;
use crate::parse::json::Json;
use crate::parse::multiline::Multiline;
use crate::parse::pattern::Pattern;
use crate::parse::syslog::SyslogLines;

/// The largest `max_bytes`, in bytes. A line is looked at up to four times as far, and what it becomes has to be
/// addressed with 32 bits.
pub const MAX_BYTES_LIMIT: usize = 256 << 20;

/// Filebeat's default of `max_bytes` and `message_max_bytes`, in bytes.
pub(super) const DEFAULT_MAX_BYTES: usize = 10 << 20;

/// How lines end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminator {
    /// `auto`: a line feed; a carriage return before it doesn't belong to the line either.
    #[default]
    Auto,
    /// `line_feed`: a line feed alone.
    LineFeed,
    /// `vertical_tab`.
    VerticalTab,
    /// `form_feed`.
    FormFeed,
    /// `carriage_return`.
    CarriageReturn,
    /// `carriage_return_line_feed`: both; a line feed alone stays in the line.
    CarriageReturnLineFeed,
    /// `next_line`: U+0085.
    NextLine,
    /// `line_separator`: U+2028.
    LineSeparator,
    /// `paragraph_separator`: U+2029.
    ParagraphSeparator,
    /// `null_terminator`: U+0000.
    NullTerminator,
}

impl Terminator {
    /// The characters that end a line.
    pub(super) fn text(self) -> &'static str {
        match self {
            Terminator::Auto | Terminator::LineFeed => "\n",
            Terminator::VerticalTab => "\u{b}",
            Terminator::FormFeed => "\u{c}",
            Terminator::CarriageReturn => "\r",
            Terminator::CarriageReturnLineFeed => "\r\n",
            Terminator::NextLine => "\u{85}",
            Terminator::LineSeparator => "\u{2028}",
            Terminator::ParagraphSeparator => "\u{2029}",
            Terminator::NullTerminator => "\0",
        }
    }
}

/// Whose events these are: Filebeat's inputs put what parsers find in different places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The log prospector of 5.6.
    V5,
    /// `log`, `container` and `stdin` of 7 to 9: `json.*` is merged into the event after multiline.
    #[default]
    Log,
    /// `filestream`: parsers change the event one after the other; an event with an empty text has no `message`.
    Filestream,
}

/// One parser of a chain.
#[derive(Clone, Debug)]
pub enum Parser {
    /// A container's log.
    Container(Container),
    /// JSON lines: `json.*` with [`Shape::Log`] and [`Shape::V5`], the parser `ndjson` with [`Shape::Filestream`].
    Json(Json),
    /// Several lines joined to one event.
    Multiline(Multiline),
    /// `include_message`: lines that match none of the patterns go no further.
    IncludeMessage(Vec<Pattern>),
    /// Syslog messages.
    Syslog(SyslogLines),
}

impl Parser {
    pub(super) fn timeout(&self) -> Option<Duration> {
        match self {
            Parser::Multiline(m) => m.timeout(),
            Parser::Container(_) | Parser::Json(_) | Parser::IncludeMessage(_) | Parser::Syslog(_) => None,
        }
    }
}

/// What a chain can be told.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// `max_bytes`, `message_max_bytes`: the longest text of an event in bytes; the rest is cut off. 1 to
    /// [`MAX_BYTES_LIMIT`], default 10 MiB.
    pub max_bytes: usize,
    /// `encoding`.
    pub encoding: Encoding,
    /// `line_terminator`.
    pub terminator: Terminator,
    /// `include_lines`: when there are any, an event's text has to match one.
    pub include_lines: Vec<Pattern>,
    /// `exclude_lines`: an event whose text matches one isn't sent.
    pub exclude_lines: Vec<Pattern>,
    /// The parsers in the order in which lines pass them. For `log` that is container, JSON, multiline.
    pub parsers: Vec<Parser>,
    /// Whose events these are.
    pub shape: Shape,
    /// Whether they are as in 8 and 9: an event of a log input whose text is empty has no `message`, and dots in
    /// `ndjson`'s `target` lead into objects.
    pub modern: bool,
}

impl Default for ChainOptions {
    fn default() -> ChainOptions {
        ChainOptions {
            max_bytes: DEFAULT_MAX_BYTES,
            encoding: Encoding::Plain,
            terminator: Terminator::Auto,
            include_lines: Vec::new(),
            exclude_lines: Vec::new(),
            parsers: Vec::new(),
            shape: Shape::Log,
            modern: true,
        }
    }
}
