//! A JSON reader that is fed piece by piece and keeps almost nothing.
//!
//! Comes in: bytes in pieces of any size. Goes out: [`Token`]s to a closure, in order. Always holds: memory is bounded
//! (of a string at most [`TEXT_LIMIT`] bytes are kept, nesting is limited to [`DEPTH_LIMIT`]); how the bytes are cut into
//! pieces changes nothing; what isn't JSON is an error. Tested below and by the fuzz target `bulk_answer`.

/// How many bytes of a string are kept; the rest is read and forgotten.
pub(super) const TEXT_LIMIT: usize = 1024;
/// How deep objects and arrays may lie in each other.
pub(super) const DEPTH_LIMIT: u32 = 64;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `}` or `]`
    End,
    /// A key, decoded, cut off at the limit.
    Key(&'a [u8]),
    /// A string, decoded, cut off at the limit.
    Text(&'a [u8]),
    /// A number, as it was written.
    Number(&'a [u8]),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

/// The bytes aren't JSON, or nested too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must come.
    Value,
    /// A value or `]`.
    FirstElement,
    /// A key or `}`.
    FirstKey,
    /// A key.
    Key,
    /// `:`
    Colon,
    /// `,` or the end of the container; at the top nothing but blanks.
    After,
    /// In a string (`key`: it is a key).
    Text { key: bool },
    /// Behind a backslash.
    Escape { key: bool },
    /// In `\uXXXX`, this many digits still to come.
    Unicode { key: bool, left: u8, value: u16 },
    /// In a number, or one of `true`, `false`, `null`.
    Word,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    depth: u32,
    /// One bit for each open container: 1 = object.
    objects: u64,
    text: Vec<u8>,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { state: State::Value, depth: 0, objects: 0, text: Vec::new(), high: None }
    }

    /// Whether one whole value has been read.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::After && self.depth == 0
    }

    /// Reads a piece.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut impl FnMut(u32, Token<'_>)) -> Result<(), NotJson> {
        let mut at = 0;
        while let Some(&b) = bytes.get(at) {
            match self.state {
                State::Text { key } => at += self.in_text(bytes.get(at..).unwrap_or_default(), key, each),
                State::Escape { key } => {
                    self.escape(b, key)?;
                    at += 1;
                }
                State::Unicode { key, left, value } => {
                    self.unicode(b, key, left, value)?;
                    at += 1;
                }
                // What ends a word belongs to what follows it.
                State::Word if !is_word(b) => self.end_word(each)?,
                State::Word => {
                    self.keep(&[b]);
                    at += 1;
                }
                _ => {
                    if !matches!(b, b' ' | b'\t' | b'\n' | b'\r') {
                        self.structure(b, each)?;
                    }
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn structure(&mut self, b: u8, each: &mut impl FnMut(u32, Token<'_>)) -> Result<(), NotJson> {
        self.state = match (self.state, b) {
            (State::Value | State::FirstElement, b'{') => self.open(true, each)?,
            (State::Value | State::FirstElement, b'[') => self.open(false, each)?,
            (State::Value | State::FirstElement, b'"') => self.begin(State::Text { key: false }),
            (State::Value | State::FirstElement, _) if is_word(b) => {
                self.begin(State::Word);
                self.keep(&[b]);
                State::Word
            }
            (State::FirstElement, b']') | (State::FirstKey, b'}') => self.close(each),
            (State::FirstKey | State::Key, b'"') => self.begin(State::Text { key: true }),
            (State::Colon, b':') => State::Value,
            (State::After, b',') if self.depth > 0 && self.in_object() => State::Key,
            (State::After, b',') if self.depth > 0 => State::Value,
            (State::After, b'}') if self.depth > 0 && self.in_object() => self.close(each),
            (State::After, b']') if self.depth > 0 && !self.in_object() => self.close(each),
            _ => return Err(NotJson),
        };
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn begin(&mut self, state: State) -> State {
        self.text.clear();
        self.high = None;
        state
    }

    fn open(&mut self, object: bool, each: &mut impl FnMut(u32, Token<'_>)) -> Result<State, NotJson> {
        if self.depth == DEPTH_LIMIT {
            return Err(NotJson);
        }
        each(self.depth, if object { Token::Object } else { Token::Array });
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(object);
        Ok(if object { State::FirstKey } else { State::FirstElement })
    }

    fn close(&mut self, each: &mut impl FnMut(u32, Token<'_>)) -> State {
        self.depth -= 1;
        self.objects >>= 1;
        each(self.depth, Token::End);
        State::After
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = TEXT_LIMIT.saturating_sub(self.text.len());
        self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    /// Reads the plain part of a string; how many bytes that were.
    fn in_text(&mut self, rest: &[u8], key: bool, each: &mut impl FnMut(u32, Token<'_>)) -> usize {
        let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        if plain > 0 {
            self.lone_half();
        }
        self.keep(rest.get(..plain).unwrap_or_default());
        match rest.get(plain) {
            None => return plain,
            Some(b'"') => {
                self.lone_half();
                each(self.depth, if key { Token::Key(&self.text) } else { Token::Text(&self.text) });
                self.state = if key { State::Colon } else { State::After };
            }
            Some(_) => self.state = State::Escape { key },
        }
        plain + 1
    }

    fn lone_half(&mut self) {
        if self.high.take().is_some() {
            self.keep("\u{fffd}".as_bytes());
        }
    }

    fn escape(&mut self, b: u8, key: bool) -> Result<(), NotJson> {
        let plain = match b {
            b'"' | b'\\' | b'/' => b,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = State::Unicode { key, left: 4, value: 0 };
                return Ok(());
            }
            _ => return Err(NotJson),
        };
        self.lone_half();
        self.keep(&[plain]);
        self.state = State::Text { key };
        Ok(())
    }

    fn unicode(&mut self, b: u8, key: bool, left: u8, value: u16) -> Result<(), NotJson> {
        let digit = char::from(b).to_digit(16).ok_or(NotJson)?;
        let value = value << 4 | digit as u16;
        if left > 1 {
            self.state = State::Unicode { key, left: left - 1, value };
            return Ok(());
        }
        self.state = State::Text { key };
        let c = match (self.high.take(), value) {
            (Some(high), 0xdc00..=0xdfff) => {
                char::from_u32(0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(value) - 0xdc00))
            }
            (before, _) => {
                if before.is_some() {
                    self.keep("\u{fffd}".as_bytes());
                }
                if (0xd800..0xdc00).contains(&value) {
                    self.high = Some(value);
                    return Ok(());
                }
                char::from_u32(u32::from(value))
            }
        };
        let mut utf8 = [0; 4];
        let c = c.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8);
        self.keep(c.as_bytes());
        Ok(())
    }

    fn end_word(&mut self, each: &mut impl FnMut(u32, Token<'_>)) -> Result<(), NotJson> {
        let token = match self.text.as_slice() {
            b"true" => Token::Bool(true),
            b"false" => Token::Bool(false),
            b"null" => Token::Null,
            number if matches!(number.first(), Some(b'-' | b'0'..=b'9')) => Token::Number(number),
            _ => return Err(NotJson),
        };
        each(self.depth, token);
        self.state = State::After;
        Ok(())
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], step: usize) -> Result<String, NotJson> {
        let mut reader = Reader::new();
        let mut out = String::new();
        for piece in text.chunks(step) {
            reader.push(piece, &mut |depth, token| {
                let token = match token {
                    Token::Key(t) => format!("{}:", String::from_utf8_lossy(t)),
                    Token::Text(t) => format!("'{}'", String::from_utf8_lossy(t)),
                    Token::Number(t) => String::from_utf8_lossy(t).into_owned(),
                    other => format!("{other:?}"),
                };
                out.push_str(&format!("{depth}{token} "));
            })?;
        }
        if reader.is_complete() { Ok(out) } else { Err(NotJson) }
    }

    #[test]
    fn tokens_are_the_same_however_the_bytes_are_cut() {
        for (text, want) in [
            (r#"{}"#, "0Object 0End "),
            (
                r#" {"a":[1,-2.5e+3,true,null,"x"],"b":{}} "#,
                "0Object 1a: 1Array 21 2-2.5e+3 2Bool(true) 2Null 2'x' 1End 1b: 1Object 1End 0End ",
            ),
            (r#"["\u00e4\n\"\ud83d\ude00\ud83d!\ud83d"]"#, "0Array 1'ä\n\"😀\u{fffd}!\u{fffd}' 0End "),
        ] {
            for step in 1..=text.len() {
                assert_eq!(read(text.as_bytes(), step).as_deref(), Ok(want), "{text} by {step}");
            }
        }
    }

    #[test]
    fn what_is_not_json() {
        for text in [
            "",
            "{",
            "{]",
            "[}",
            "{,}",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\":}",
            "tru",
            "[nul]",
            "\"\\x\"",
            "\"\\u12g4\"",
            "{} {}",
            "[]]",
            "<html>",
            "[1",
        ] {
            assert_eq!(read(text.as_bytes(), 3), Err(NotJson), "{text}");
        }
        assert!(read("[".repeat(65).as_bytes(), 7).is_err());
        let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(read(deep.as_bytes(), 7).is_ok());
    }

    #[test]
    fn a_long_string_is_read_but_not_kept() {
        let text = format!("[\"{}\"]", "x".repeat(100_000));
        assert_eq!(read(text.as_bytes(), 333).unwrap().len(), "0Array 1'' 0End ".len() + TEXT_LIMIT);
    }
}
