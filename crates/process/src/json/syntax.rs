//! What is wrong with a JSON text, in the words of Go's decoder, so that `error.message` is the same as Filebeat's.
//!
//! Comes in: a text that couldn't be decoded. Goes out: Go's error, or nothing when Go would have no complaint (there
//! are limits that are not Go's, such as the depth). Always holds: ends after one pass, without recursion. Tested below,
//! with what Filebeat 7.17 said of the same texts.

/// Why a text doesn't begin with a JSON value.
pub(super) fn explain(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0, open: Vec::new() };
    match scan.value() {
        Ok(()) => None,
        Err(None) => Some(if scan.text.iter().all(|b| is_space(*b)) { "EOF" } else { "unexpected EOF" }.to_owned()),
        Err(Some(error)) => Some(error),
    }
}

/// The first byte behind a text's first value that isn't white space.
pub(super) fn behind(text: &[u8]) -> Option<u8> {
    let mut scan = Scan { text, at: 0, open: Vec::new() };
    scan.value().ok()?;
    scan.token().ok()
}

/// A byte that no value can begin with, in Go's words.
pub(super) fn no_beginning(b: u8) -> String {
    format!("invalid character {} looking for beginning of value", quoted(b))
}

/// An error, or the text's end.
type Wrong = Option<String>;

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// The brackets that are open.
    open: Vec<u8>,
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// A byte as Go quotes it: as the character of that number.
fn quoted(b: u8) -> String {
    match b {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        b'\t' | b'\n' | b'\r' | b'\\' | b' '..=b'~' => format!("'{}'", char::from(b).escape_default()),
        0..=0x1f | 0x7f => format!("'\\x{b:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{b:04x}'"),
        _ => format!("'{}'", char::from(b)),
    }
}

impl Scan<'_> {
    /// A whole value with all that is in it.
    fn value(&mut self) -> Result<(), Wrong> {
        loop {
            match self.token()? {
                b'{' => match self.token()? {
                    b'}' => {}
                    b'"' => {
                        self.open.push(b'{');
                        self.key()?;
                        continue;
                    }
                    _ => return self.wrong("looking for beginning of object key string"),
                },
                b'[' => {
                    if self.token()? != b']' {
                        self.at -= 1;
                        self.open.push(b'[');
                        continue;
                    }
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => return self.wrong("looking for beginning of value"),
            }
            if self.close()? {
                return Ok(());
            }
        }
    }

    /// What stands behind a value: true when it was the last one.
    fn close(&mut self) -> Result<bool, Wrong> {
        while let Some(bracket) = self.open.last() {
            match (*bracket, self.token()?) {
                (b'{', b'}') | (b'[', b']') => drop(self.open.pop()),
                (b'[', b',') => return Ok(false),
                (b'{', b',') => {
                    if self.token()? != b'"' {
                        return self.wrong("looking for beginning of object key string");
                    }
                    self.key()?;
                    return Ok(false);
                }
                (b'{', _) => return self.wrong("after object key:value pair"),
                _ => return self.wrong("after array element"),
            }
        }
        Ok(true)
    }

    /// The rest of a key, and the colon.
    fn key(&mut self) -> Result<(), Wrong> {
        self.string()?;
        if self.token()? == b':' { Ok(()) } else { self.wrong("after object key") }
    }

    fn string(&mut self) -> Result<(), Wrong> {
        loop {
            match self.byte()? {
                b'"' => return Ok(()),
                b'\\' => match self.byte()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.byte()?.is_ascii_hexdigit() {
                                return self.wrong("in \\u hexadecimal character escape");
                            }
                        }
                    }
                    _ => return self.wrong("in string escape code"),
                },
                0..=0x1f => return self.wrong("in string literal"),
                _ => {}
            }
        }
    }

    /// The rest of a number whose first byte was taken.
    fn number(&mut self) -> Result<(), Wrong> {
        let mut first = self.text[self.at - 1];
        if first == b'-' {
            first = self.byte()?;
            if !first.is_ascii_digit() {
                return self.wrong("in numeric literal");
            }
        }
        if first != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.byte()?.is_ascii_digit() {
                return self.wrong("after decimal point in numeric literal");
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.byte()?.is_ascii_digit() {
                return self.wrong("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Wrong> {
        for want in word.bytes().skip(1) {
            if self.byte()? != want {
                return self.wrong(&format!("in literal {word} (expecting {})", quoted(want)));
            }
        }
        Ok(())
    }

    fn wrong<T>(&self, place: &str) -> Result<T, Wrong> {
        Err(Some(format!("invalid character {} {place}", quoted(self.text[self.at - 1]))))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        let b = self.peek().ok_or(None)?;
        self.at += 1;
        Ok(b)
    }

    /// The next byte that isn't white space.
    fn token(&mut self) -> Result<u8, Wrong> {
        loop {
            let b = self.byte()?;
            if !is_space(b) {
                return Ok(b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_go() {
        let cases: &[(&str, Option<&str>)] = &[
            ("plain", Some("invalid character 'p' looking for beginning of value")),
            ("", Some("EOF")),
            ("  ", Some("EOF")),
            ("tru!", Some("invalid character '!' in literal true (expecting 'e')")),
            ("{\"a\":", Some("unexpected EOF")),
            ("{\"a\" 1}", Some("invalid character '1' after object key")),
            ("{\"a\":1,}", Some("invalid character '}' looking for beginning of object key string")),
            ("{a}", Some("invalid character 'a' looking for beginning of object key string")),
            ("{\"k\":\"a\tb\"}", Some("invalid character '\\t' in string literal")),
            ("it's", Some("invalid character 'i' looking for beginning of value")),
            ("'x'", Some("invalid character '\\'' looking for beginning of value")),
            ("\u{e9}x", Some("invalid character '\u{c3}' looking for beginning of value")),
            ("{\"a\":1 \"b\"}", Some("invalid character '\"' after object key:value pair")),
            ("[1 2]", Some("invalid character '2' after array element")),
            ("{\"a\":[1,]}", Some("invalid character ']' looking for beginning of value")),
            ("{\"a\":\"\\x\"}", Some("invalid character 'x' in string escape code")),
            ("{\"a\":\"\\u12g\"}", Some("invalid character 'g' in \\u hexadecimal character escape")),
            ("{\"a\":-x}", Some("invalid character 'x' in numeric literal")),
            ("{\"a\":1.x}", Some("invalid character 'x' after decimal point in numeric literal")),
            ("{\"a\":1ex}", Some("invalid character 'x' in exponent of numeric literal")),
            ("{\"a\":{\"b\":[{}, [], 0.5e-3]}}", None),
        ];
        for (text, expect) in cases {
            assert_eq!(explain(text.as_bytes()).as_deref(), *expect, "{text}");
        }
    }
}
