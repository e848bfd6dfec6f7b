//! The text of a CEF message: its header, and its extensions as names and values that are still texts.
//!
//! Comes in: bytes from `CEF:` on. Goes out: a [`Message`], whole or as far as it could be read, and what is wrong with it.
//!
//! How a message is read: seven fields end in `|`, in which `\|` and `\\` stand for the second character; then
//! `name=value`, parted by a space, where values may have spaces in them: a word that begins behind a space and goes on to a
//! `=` is the next name. In values `\=`, `\\`, `\n` and `\r` are known, and any other `\` or `=` is a fault: that extension
//! is left out, and reading goes on at the next name. Filebeat 9 takes `-` in names, and looks for extensions behind any
//! field when the header breaks off.
//!
//! What could be meant at a place is a set of [states](state): a word in a value may be the next name, and where the header
//! broke off, a field may be an extension.
//!
//! Always holds: no byte is looked at more than three times in one walk, of which there are two at most: after a fault
//! reading goes on behind it; what goes out is no longer than what came in. Tested in `super::tests` and against Filebeat
//! 7.17.29 and 9.5.0.

use serde_json::{Map, Value};

use crate::doc::to_text;

/// A message as far as it could be read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Message {
    /// `None`: nothing of the message is of use.
    pub(super) version: Option<i64>,
    /// Vendor, product, version, class of event, name, severity.
    pub(super) header: [String; 6],
    /// Names as they are written; of one that comes twice the last value.
    pub(super) extensions: Map<String, Value>,
    pub(super) errors: Vec<String>,
}

/// What could be meant at a place: a set of these.
mod state {
    /// In a field of the header, behind a `\` there, and behind the escaped character.
    pub(super) const FIELD: u16 = 1;
    pub(super) const FIELD_ESCAPE: u16 = 1 << 1;
    pub(super) const FIELD_ESCAPED: u16 = 1 << 2;
    /// Before the first extension, and in spaces there.
    pub(super) const BEGIN: u16 = 1 << 3;
    pub(super) const SPACES: u16 = 1 << 4;
    pub(super) const NAME: u16 = 1 << 5;
    /// Behind a `=`, a character of the value, a space, another white space, a `\`, and the escaped character.
    pub(super) const EQUALS: u16 = 1 << 6;
    pub(super) const VALUE: u16 = 1 << 7;
    pub(super) const SPACE: u16 = 1 << 8;
    pub(super) const WHITE: u16 = 1 << 9;
    pub(super) const ESCAPE: u16 = 1 << 10;
    pub(super) const ESCAPED: u16 = 1 << 11;
    /// All that are in a value, and those with which a message may end.
    pub(super) const IN_VALUE: u16 = EQUALS | VALUE | SPACE | WHITE | ESCAPE | ESCAPED;
    pub(super) const END: u16 = IN_VALUE & !ESCAPE;
}
use state::*;

/// Why reading ended before the end.
enum Wrong {
    /// A byte that can't stand there.
    At(usize),
    /// The text ends in the header.
    InHeader,
    /// The text ends behind it.
    Early,
}

/// Reads a message, as Filebeat 9 does when `modern`, else as 7.
pub(super) fn scan(text: &[u8], modern: bool) -> Message {
    let mut message = Message::default();
    let mut walk = Walk::new(text, modern);
    let whole = header(text, &mut message).and_then(|at| walk.run(at, BEGIN, SEVERITY));
    let mut errors = walk.errors;
    message.extensions = walk.extensions;
    if let Err(wrong) = &whole {
        errors.push(match wrong {
            Wrong::At(at) => format!("error in CEF event at pos {}", at + 1),
            Wrong::InHeader | Wrong::Early => "unexpected end of CEF event".to_owned(),
        });
    }
    if modern && matches!(whole, Err(Wrong::InHeader)) {
        errors.push("incomplete CEF header".to_owned());
    }
    if modern && !errors.is_empty() && message.extensions.is_empty() {
        let mut walk = Walk::new(text, modern);
        if let Ok((_, at)) = version(text) {
            // Where this ends has been said.
            drop(walk.run(at, FIELD | BEGIN, 0));
        }
        errors.append(&mut walk.errors);
        message.extensions = walk.extensions;
    }
    message.errors = errors;
    message
}

/// The number behind `CEF:`, and where the first field begins.
fn version(text: &[u8]) -> Result<(i64, usize), Wrong> {
    const CEF: &[u8] = b"CEF:";
    let digits = text.iter().skip(CEF.len()).take_while(|c| c.is_ascii_digit()).count();
    let end = CEF.len() + digits;
    match text.get(end) {
        None => Err(Wrong::InHeader),
        Some(b'|') if digits > 0 => {
            let digits = text.get(CEF.len()..end).unwrap_or_default();
            // One that is too large becomes the largest.
            Ok((String::from_utf8_lossy(digits).parse().unwrap_or(i64::MAX), end + 1))
        }
        Some(_) => Err(Wrong::At(end)),
    }
}

/// How many fields come before the severity, in which no other characters are allowed than those of words.
const SEVERITY: usize = 5;

fn is_severity(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'-'
}

/// Reads the header; where the extensions begin.
fn header(text: &[u8], into: &mut Message) -> Result<usize, Wrong> {
    let (version, mut at) = version(text)?;
    into.version = Some(version);
    for (i, field) in into.header.iter_mut().enumerate() {
        let mut value = Vec::new();
        loop {
            let c = *text.get(at).ok_or(Wrong::InHeader)?;
            match c {
                b'|' => break,
                _ if i == SEVERITY && !is_severity(c) => return Err(Wrong::At(at)),
                b'\\' => {
                    at += 1;
                    let escaped = *text.get(at).ok_or(Wrong::InHeader)?;
                    if !matches!(escaped, b'\\' | b'|') {
                        return Err(Wrong::At(at));
                    }
                    value.push(escaped);
                }
                _ => value.push(c),
            }
            at += 1;
        }
        at += 1;
        *field = to_text(&value);
    }
    Ok(at)
}

/// What is done at a byte, in this order: a set of these.
mod act {
    /// An escape ends before this byte; one begins with it.
    pub(super) const ESCAPED: u8 = 1;
    pub(super) const SLASH: u8 = 1 << 1;
    /// The first extension begins: what a field of the header left is forgotten.
    pub(super) const FORGET: u8 = 1 << 2;
    /// A name may begin; a name ends.
    pub(super) const NAME: u8 = 1 << 3;
    pub(super) const NAMED: u8 = 1 << 4;
    /// A value begins; it goes at least to here.
    pub(super) const VALUE: u8 = 1 << 5;
    pub(super) const MORE: u8 = 1 << 6;
}

struct Walk<'t> {
    text: &'t [u8],
    modern: bool,
    /// The name whose value is read; empty: none.
    name: &'t [u8],
    /// Where the last word began that may be a name, and the last `\`.
    mark: usize,
    slash: usize,
    value: std::ops::Range<usize>,
    escapes: Vec<std::ops::Range<usize>>,
    extensions: Map<String, Value>,
    errors: Vec<String>,
}

impl<'t> Walk<'t> {
    fn new(text: &'t [u8], modern: bool) -> Walk<'t> {
        let (extensions, errors) = (Map::new(), Vec::new());
        Walk { text, modern, name: &[], mark: 0, slash: 0, value: 0..0, escapes: Vec::new(), extensions, errors }
    }

    /// Reads on from a place where `set` is meant, in the header's field of this number if in any.
    fn run(&mut self, mut at: usize, mut set: u16, mut field: usize) -> Result<(), Wrong> {
        while let Some(&c) = self.text.get(at) {
            let (mut next, mut acts) = in_header(set, c, field);
            field += usize::from(next & BEGIN != 0);
            in_extensions(set, c, self.modern, &mut next, &mut acts);
            if next == 0 && set & IN_VALUE == 0 {
                return Err(Wrong::At(at));
            }
            if next == 0 {
                self.malformed(at);
                at = self.next_name(at).ok_or(Wrong::Early)?;
                set = SPACES;
                continue;
            }
            self.act(acts, at);
            set = next;
            at += 1;
        }
        self.end(set)
    }

    /// The text ends.
    fn end(&mut self, set: u16) -> Result<(), Wrong> {
        let at = self.text.len();
        if set & END != 0 {
            self.act(
                if set & EQUALS != 0 { act::VALUE } else { 0 } | if set & ESCAPED != 0 { act::ESCAPED } else { 0 },
                at,
            );
            // Of an empty value at the end Filebeat 9 says nothing.
            let nothing = self.name.is_empty() || (self.modern && self.value.is_empty());
            if !nothing {
                self.push(self.value.clone());
            }
            return Ok(());
        }
        if set & ESCAPE != 0 {
            self.malformed(at);
            return Err(Wrong::At(at.saturating_sub(1)));
        }
        if set & BEGIN != 0 { Ok(()) } else { Err(Wrong::Early) }
    }

    fn act(&mut self, acts: u8, at: usize) {
        if acts & act::ESCAPED != 0 {
            self.escapes.push(self.slash..at);
        }
        if acts & act::SLASH != 0 {
            self.slash = at;
        }
        if acts & act::FORGET != 0 {
            self.mark = at;
            self.forget();
        }
        if acts & act::NAME != 0 {
            self.mark = at;
        }
        if acts & act::NAMED != 0 {
            // The space before the name isn't of the value.
            if !self.name.is_empty() && self.value.start < self.mark {
                self.push(self.value.start..self.mark - 1);
            }
            self.name = self.text.get(self.mark..at).unwrap_or_default();
        }
        if acts & act::VALUE != 0 {
            if self.modern && !self.escapes.is_empty() {
                self.push(self.value.clone());
            }
            self.value = at..at;
        }
        if acts & act::MORE != 0 {
            self.value.end = at + 1;
        }
    }

    fn forget(&mut self) {
        (self.name, self.value) = (&[], 0..0);
        self.escapes.clear();
    }

    fn malformed(&mut self, at: usize) {
        self.errors.push(format!("malformed value for {} at pos {}", to_text(self.name), at + 1));
    }

    /// Where the next name begins behind a space, from a fault on.
    fn next_name(&mut self, from: usize) -> Option<usize> {
        self.forget();
        let (mut begin, mut at) = (None, from);
        while let Some(&c) = self.text.get(at) {
            at += 1;
            begin = match begin {
                _ if c == b' ' => Some(at),
                Some(begin) if c == b'=' && begin + 1 < at => return Some(begin),
                Some(begin) if begin + 1 == at && begins_name(c) => Some(begin),
                Some(begin) if begin + 1 < at && is_name(c, self.modern) => Some(begin),
                _ => None,
            };
        }
        None
    }

    /// Takes a part of the text as the value, with what its escapes stand for.
    fn push(&mut self, part: std::ops::Range<usize>) {
        let mut value = Vec::with_capacity(part.len());
        let mut done = part.start;
        for escape in self.escapes.drain(..).filter(|e| part.start <= e.start && e.end <= part.end) {
            value.extend_from_slice(self.text.get(done..escape.start).unwrap_or_default());
            value.push(match self.text.get(escape.start + 1) {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                other => other.copied().unwrap_or_default(),
            });
            done = escape.end;
        }
        value.extend_from_slice(self.text.get(done..part.end).unwrap_or_default());
        self.extensions.insert(to_text(self.name), Value::String(to_text(&value)));
        self.forget();
    }
}

fn begins_name(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn is_name(c: u8, modern: bool) -> bool {
    begins_name(c) || matches!(c, b'.' | b',' | b'[' | b']') || (modern && c == b'-')
}

/// What follows in the header.
fn in_header(set: u16, c: u8, field: usize) -> (u16, u8) {
    let escaped = if set & FIELD_ESCAPED != 0 { act::ESCAPED } else { 0 };
    if set & FIELD_ESCAPE != 0 && matches!(c, b'\\' | b'|') {
        return (FIELD_ESCAPED, 0);
    }
    match c {
        _ if set & (FIELD | FIELD_ESCAPED) == 0 => (0, 0),
        b'|' if field == SEVERITY => (BEGIN, escaped),
        b'|' => (FIELD | BEGIN, escaped),
        _ if field == SEVERITY => (if is_severity(c) { FIELD } else { 0 }, escaped),
        b'\\' => (FIELD_ESCAPE, escaped | act::SLASH),
        _ => (FIELD, escaped),
    }
}

/// What follows in extensions.
fn in_extensions(set: u16, c: u8, modern: bool, next: &mut u16, acts: &mut u8) {
    let mut to = |condition: bool, state: u16, act: u8| {
        if condition {
            *next |= state;
            *acts |= act;
        }
    };
    let (space, white) = (c == b' ', matches!(c, 9..=13));
    let begin = if set & BEGIN != 0 { act::FORGET } else { 0 };
    to(set & (BEGIN | SPACES) != 0 && space, SPACES, begin);
    to(set & (BEGIN | SPACES) != 0 && begins_name(c), NAME, act::NAME | begin);
    to(set & SPACE != 0 && begins_name(c), NAME, act::NAME);
    to(set & NAME != 0 && is_name(c, modern), NAME, 0);
    to(set & NAME != 0 && c == b'=', EQUALS, act::NAMED);
    if set & ESCAPE != 0 {
        to(matches!(c, b'=' | b'\\' | b'n' | b'r'), ESCAPED, act::MORE);
    }
    if set & END == 0 || c == b'=' {
        return;
    }
    let left = if set & EQUALS != 0 { act::VALUE } else { 0 } | if set & ESCAPED != 0 { act::ESCAPED } else { 0 };
    to(space, SPACE, left);
    to(white, WHITE, left);
    to(c == b'\\', ESCAPE, left | act::SLASH);
    to(!space && !white && c != b'\\', VALUE, left | act::MORE);
}
