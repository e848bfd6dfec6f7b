//! Bytes of a log as the inside of a JSON string, as Go's encoders write them.
//!
//! Comes in: any bytes. Goes out: valid UTF-8 without anything that a JSON string can't hold. Go's `encoding/json` (5.6)
//! and go-structform (7 to 9) agree: `\"`, `\\`, `\n`, `\r`, `\t`; other control characters as `\u00XX`; U+2028 and U+2029
//! as `\u2028` and `\u2029`; each byte that isn't part of valid UTF-8 as `\ufffd` (Go counts bytes, where Rust's lossy
//! conversion makes one character of a cut-off sequence); with `html` also `<`, `>` and `&` as `\u00XX`. DEL stays.
//!
//! Always holds: clean text is copied in as long runs as possible; the look at it is written so that the compiler makes
//! vector instructions of it, without unsafe code. Tested below against a slow, obvious version.

/// How many bytes are looked at together.
const STEP: usize = 32;

/// Appends `text` to `out` as the inside of a JSON string.
pub fn escape(text: &[u8], html: bool, out: &mut Vec<u8>) {
    if html { escape_as::<true>(text, out) } else { escape_as::<false>(text, out) }
}

fn escape_as<const HTML: bool>(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let clean = clean_chunks::<HTML>(rest);
        let (run, dirty) = rest.split_at(clean);
        out.extend_from_slice(run);
        // What is near a special character is looked at in small steps: such characters seldom come alone.
        let (near, far) = dirty.split_at(dirty.len().min(STEP));
        let done = escape_words::<HTML>(near, out);
        rest = if done < near.len() { escape_unicode::<HTML>(dirty.split_at(done).1, out) } else { far };
        if rest.is_empty() {
            return;
        }
    }
}

/// Escapes ASCII, eight bytes at a time. Gives back how much: less than all when something above ASCII comes.
fn escape_words<const HTML: bool>(text: &[u8], out: &mut Vec<u8>) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    for (at, bytes) in words.iter().enumerate() {
        let w = u64::from_le_bytes(*bytes);
        if w & HIGH != 0 {
            return at * 8 + escape_bytes::<HTML>(bytes, out);
        }
        let mut found = special_in::<HTML>(w);
        let mut begin = 0;
        while found != 0 {
            let special = found.trailing_zeros() / 8;
            push_word(w >> (8 * begin), special - begin, out);
            escape_ascii(bytes[special as usize & 7], out);
            begin = special + 1;
            found &= found - 1;
        }
        if begin < 8 {
            push_word(w >> (8 * begin), 8 - begin, out);
        }
    }
    words.len() * 8 + escape_bytes::<HTML>(tail, out)
}

/// Appends the first `n` (at most 8) bytes of a word: a copy of fixed size that is cut back costs less than one of any
/// size.
fn push_word(w: u64, n: u32, out: &mut Vec<u8>) {
    let len = out.len() + n as usize;
    out.extend_from_slice(&w.to_le_bytes());
    out.truncate(len);
}

fn escape_bytes<const HTML: bool>(text: &[u8], out: &mut Vec<u8>) -> usize {
    for (at, &b) in text.iter().enumerate() {
        match b {
            0x80.. => return at,
            b if is_special::<HTML>(b) => escape_ascii(b, out),
            b => out.push(b),
        }
    }
    text.len()
}

/// Whether an ASCII character can't stand in the string as it is.
const fn is_special<const HTML: bool>(b: u8) -> bool {
    // `"` and `&` differ in one bit, and so do `<` and `>`: fewer comparisons. `|`, not `||`: no branches.
    let marks = if HTML { (b & !4 == b'"') | (b & !2 == b'<') } else { b == b'"' };
    (b < 0x20) | (b == b'\\') | marks
}

/// Whether a byte can't be copied without a closer look.
const fn is_dirty<const HTML: bool>(b: u8) -> bool {
    // As a signed number, what is above ASCII lies below the control characters' end too.
    ((b as i8) < 0x20) | is_special::<HTML>(b)
}

/// How many bytes from the start, in whole chunks, are ASCII that needs no escape.
fn clean_chunks<const HTML: bool>(text: &[u8]) -> usize {
    // Without an early exit inside a chunk: this is what becomes vector instructions.
    let chunks = text.as_chunks::<STEP>().0;
    let dirty = |chunk: &[u8; STEP]| chunk.iter().fold(false, |dirty, &b| dirty | is_dirty::<HTML>(b));
    STEP * chunks.iter().position(dirty).unwrap_or(chunks.len())
}

const LOW: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// The high bit of each of eight ASCII characters that is special.
const fn special_in<const HTML: bool>(w: u64) -> u64 {
    // The high bit of each byte that is zero. Exact: below 0x80 nothing is carried into the next byte.
    const fn zero(w: u64) -> u64 {
        !(w + !HIGH) & HIGH
    }
    const fn equal(w: u64, b: u8) -> u64 {
        zero(w ^ (LOW * b as u64))
    }
    let marks = if HTML { equal(w & !(LOW * 4), b'"') | equal(w & !(LOW * 2), b'<') } else { equal(w, b'"') };
    zero(w & (LOW * 0x60)) | equal(w, b'\\') | marks
}

/// Escapes what begins with a byte of 0x80 or above: all valid UTF-8 up to the next invalid byte, or that byte. Gives
/// back what follows it.
fn escape_unicode<'a, const HTML: bool>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let valid = match std::str::from_utf8(text) {
        Ok(_) => text.len(),
        Err(e) => e.valid_up_to(),
    };
    let (mut good, bad) = text.split_at(valid);
    loop {
        let clean = clean_utf8::<HTML>(good);
        let (run, special) = good.split_at(clean);
        out.extend_from_slice(run);
        match *special {
            [] => break,
            // Valid UTF-8 that begins with 0xE2 has two more bytes.
            [0xE2, b, c, ref after @ ..] => {
                match (b, c) {
                    (0x80, 0xA8) => out.extend_from_slice(b"\\u2028"),
                    (0x80, 0xA9) => out.extend_from_slice(b"\\u2029"),
                    _ => out.extend_from_slice(&[0xE2, b, c]),
                }
                good = after;
            }
            [b, ref after @ ..] => {
                escape_ascii(b, out);
                good = after;
            }
        }
    }
    match bad.split_first() {
        None => bad,
        Some((_, after)) => {
            out.extend_from_slice(b"\\ufffd");
            after
        }
    }
}

/// How many bytes from the start of valid UTF-8 need no escape; stops before each 0xE2, which may begin U+2028.
fn clean_utf8<const HTML: bool>(text: &[u8]) -> usize {
    let matters = |b: u8| (b == 0xE2) | is_special::<HTML>(b);
    let chunks = text.as_chunks::<STEP>().0;
    let dirty = |chunk: &[u8; STEP]| chunk.iter().fold(false, |dirty, &b| dirty | matters(b));
    let at = STEP * chunks.iter().position(dirty).unwrap_or(chunks.len());
    let tail = text.get(at..).unwrap_or_default();
    at + tail.iter().position(|&b| matters(b)).unwrap_or(tail.len())
}

fn escape_ascii(b: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match b {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(b >> 4)]);
            out.push(HEX[usize::from(b & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(text: &[u8], html: bool) -> String {
        let mut out = Vec::new();
        escape(text, html, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Go's way, one character at a time.
    fn slowly(text: &[u8], html: bool) -> (String, String) {
        let (mut json, mut plain) = (String::new(), String::new());
        let mut rest = text;
        while let Some(&first) = rest.first() {
            let ch = (1..=rest.len().min(4)).find_map(|n| std::str::from_utf8(&rest[..n]).ok()?.chars().next());
            plain.push(ch.unwrap_or('\u{fffd}'));
            match ch {
                None => json.push_str("\\ufffd"),
                Some('\n') => json.push_str("\\n"),
                Some('\r') => json.push_str("\\r"),
                Some('\t') => json.push_str("\\t"),
                Some(c @ ('"' | '\\')) => json.extend(['\\', c]),
                Some(c @ ('<' | '>' | '&')) if html => json.push_str(&format!("\\u{:04x}", c as u32)),
                Some(c @ ('\u{2028}' | '\u{2029}')) => json.push_str(&format!("\\u{:04x}", c as u32)),
                Some(c) if c < ' ' => json.push_str(&format!("\\u{:04x}", c as u32)),
                Some(c) => json.push(c),
            }
            rest = &rest[ch.map_or(1, char::len_utf8)..];
            assert!(ch.is_some() || first >= 0x80);
        }
        (json, plain)
    }

    #[test]
    fn as_gos_encoders() {
        for (text, html, want) in [
            (&b"plain text 123"[..], true, r"plain text 123"),
            (b"a\"b\\c\n\r\t", false, r#"a\"b\\c\n\r\t"#),
            (b"\x00\x01\x08\x0c\x1f\x20\x7f", false, "\\u0000\\u0001\\u0008\\u000c\\u001f \x7f"),
            (b"<a href=\"x\">&</a>", true, r#"\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e"#),
            (b"<a>&", false, "<a>&"),
            ("\u{2028}|\u{2029}|\u{2027}|“…”".as_bytes(), false, "\\u2028|\\u2029|\u{2027}|“…”"),
            (b"\xff\xfe", false, r"\ufffd\ufffd"),
            (b"cut \xe2\x82", false, r"cut \ufffd\ufffd"),
            (b"surrogate \xed\xa0\x80!", false, r"surrogate \ufffd\ufffd\ufffd!"),
            (b"long \xc0\xaf form", false, r"long \ufffd\ufffd form"),
            ("grün 日本 🦀\t".as_bytes(), false, "grün 日本 🦀\\t"),
        ] {
            assert_eq!(escaped(text, html), want, "{text:?}");
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "[ -~]{0,80}".prop_map(String::into_bytes),
            2 => "\\PC{0,20}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..8),
            1 => prop_oneof![Just("\u{2028}"), Just("…"), Just("<&>"), Just("\"\\\n\0")].prop_map(|s| s.as_bytes().to_vec()),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|p| p.concat())
    }

    proptest! {
        #[test]
        fn the_same_as_the_slow_way_and_valid_json(text in bytes(), html: bool) {
            let got = escaped(&text, html);
            let (json, plain) = slowly(&text, html);
            prop_assert_eq!(&got, &json);
            let parsed: String = serde_json::from_str(&format!("\"{got}\"")).unwrap();
            prop_assert_eq!(parsed, plain);
        }
    }
}
