//! Where a value was written: the text it came from and the place in it.
//!
//! Comes in: a name and a text. Goes out: [`At`], a position that can show its line with a caret under the value.
//! Always holds: a shown line never holds the value of a secret key or the password of a URL (see [`crate::secrets`]).
//! Tested below and in `error.rs`.

use std::fmt;
use std::sync::Arc;

use crate::secrets;

/// A longer line is cut when shown, in characters.
const SHOWN_WIDTH: usize = 160;

/// What kind of text it is, which decides how a position is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file: shown as `name:line:column`.
    File,
    /// An argument of the command line: shown as the flag.
    Flag,
}

/// A text that configuration was read from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file's name as the user gave it, or the flag's.
    pub(crate) name: String,
    /// The whole text.
    pub(crate) text: String,
    /// File or flag.
    pub(crate) origin: Origin,
}

impl Source {
    pub(crate) fn file(name: &str, text: &str) -> Arc<Source> {
        Arc::new(Source { name: name.to_owned(), text: text.to_owned(), origin: Origin::File })
    }

    pub(crate) fn flag(name: &str, text: &str) -> Arc<Source> {
        Arc::new(Source { name: name.to_owned(), text: text.to_owned(), origin: Origin::Flag })
    }
}

/// A place in a text. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) source: Arc<Source>,
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
    /// How many characters the caret underlines; 0 is shown as 1.
    pub(crate) width: u32,
}

impl At {
    pub(crate) fn new(source: &Arc<Source>, line: u32, column: u32, width: u32) -> At {
        At { source: Arc::clone(source), line, column, width }
    }

    /// The line's text with secrets masked, and the caret's column and width in what is shown (from 0).
    pub(crate) fn snippet(&self) -> (String, usize, usize) {
        let line = line_of(&self.source.text, self.line as usize);
        let masked = secrets::mask_line(&self.source.text, self.line as usize, line);
        let mut column = (self.column as usize).saturating_sub(1);
        let mut shown: String = masked.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if shown.chars().count() > SHOWN_WIDTH {
            let from = column.saturating_sub(SHOWN_WIDTH / 2);
            shown = shown.chars().skip(from).take(SHOWN_WIDTH).collect();
            column -= from;
        }
        let length = shown.chars().count();
        let column = column.min(length);
        let width = (self.width as usize).clamp(1, (length - column).max(1));
        (shown, column, width)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.origin {
            Origin::File => write!(f, "{}:{}:{}", self.source.name, self.line, self.column),
            Origin::Flag => f.write_str(&self.source.name),
        }
    }
}

/// A line of a text by its number from 1, without its end; YAML ends a line with `\n`, `\r\n` or `\r`.
pub(crate) fn line_of(text: &str, number: usize) -> &str {
    let line = text.split('\n').nth(number.saturating_sub(1)).unwrap_or("");
    line.strip_suffix('\r').unwrap_or(line)
}
