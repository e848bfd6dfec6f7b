//! Encodings: from a file's bytes to UTF-8, a line at a time.
//!
//! Comes in: `encoding` as Filebeat names it, and the bytes of a line without its end. Goes out: its text; what isn't in
//! the encoding is U+FFFD. Always holds: a line's text depends on its bytes alone, so that a line is the same wherever
//! reading began: a line of iso-2022-jp or hz-gb-2312 begins in ASCII, as RFC 1468 and RFC 1843 have it.
//!
//! The names are those of Filebeat's `libbeat/reader/readfile/encoding`: its own ones, then the labels of the Encoding
//! Standard. Tested in `encoded.rs`.

use std::borrow::Cow;

use encoding_rs::{CoderResult, DecoderResult, Encoding as Standard};

use crate::parse::pages::{self, Page};

/// How a file's characters are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `plain`, `utf-8`: the bytes are the text.
    #[default]
    Plain,
    /// `utf-16be`, `utf-16le`.
    Utf16 {
        /// The higher byte comes first.
        big: bool,
    },
    /// `utf-16-bom`, `utf-16be-bom`, `utf-16le-bom`: the file's first two bytes say which.
    Utf16Bom {
        /// What it is without them; `None` = it can't be read then.
        otherwise: Option<bool>,
    },
    /// One of the Encoding Standard.
    Standard(&'static Standard),
    /// A code page: a byte is a character.
    Page(&'static Page),
    /// `hz-gb-2312`.
    Hz,
}

/// Why an encoding can't be had: the reason, and the remedy.
pub(super) type Refusal = (&'static str, &'static str);

const UNKNOWN: Refusal = (
    "no encoding is named",
    "give plain, utf-8, utf-16le-bom, latin1, gbk, … or another label of the Encoding Standard",
);
const REPLACED: Refusal = (
    "the Encoding Standard forbids to decode it, as Filebeat does: there is no text in",
    "let the application write UTF-8",
);

impl Encoding {
    /// The encoding of this name.
    pub(super) fn named(name: &str) -> Result<Encoding, Refusal> {
        let name = name.trim().to_ascii_lowercase();
        let own = match name.as_str() {
            "" | "plain" | "nop" => Encoding::Plain,
            "utf-16be" => Encoding::Utf16 { big: true },
            "utf-16le" => Encoding::Utf16 { big: false },
            "utf-16-bom" => Encoding::Utf16Bom { otherwise: None },
            "utf-16be-bom" => Encoding::Utf16Bom { otherwise: Some(true) },
            "utf-16le-bom" => Encoding::Utf16Bom { otherwise: Some(false) },
            "gbk" => Encoding::Standard(encoding_rs::GBK),
            "hz-gb-2312" => Encoding::Hz,
            "iso8859-1" => Encoding::Page(&pages::LATIN1),
            "iso8859-6e" | "iso8859-6i" => Encoding::Standard(encoding_rs::ISO_8859_6),
            "iso8859-8e" => Encoding::Standard(encoding_rs::ISO_8859_8),
            "iso8859-8i" => Encoding::Standard(encoding_rs::ISO_8859_8_I),
            "iso8859-9" => Encoding::Page(&pages::ISO8859_9),
            "iso8859-16" => Encoding::Standard(encoding_rs::ISO_8859_16),
            "koi8r" => Encoding::Standard(encoding_rs::KOI8_R),
            "koi8u" => Encoding::Standard(encoding_rs::KOI8_U),
            "macintosh-cyrillic" => Encoding::Standard(encoding_rs::X_MAC_CYRILLIC),
            "cp437" => Encoding::Page(&pages::CP437),
            "cp850" => Encoding::Page(&pages::CP850),
            "cp852" => Encoding::Page(&pages::CP852),
            "cp855" => Encoding::Page(&pages::CP855),
            "cp858" => Encoding::Page(&pages::CP858),
            "cp860" => Encoding::Page(&pages::CP860),
            "cp862" => Encoding::Page(&pages::CP862),
            "cp863" => Encoding::Page(&pages::CP863),
            "cp865" => Encoding::Page(&pages::CP865),
            "ebcdic-037" => Encoding::Page(&pages::EBCDIC_037),
            "ebcdic-1040" => Encoding::Page(&pages::EBCDIC_1140),
            "ebcdic-1047" => Encoding::Page(&pages::EBCDIC_1047),
            _ => return standard(&name),
        };
        Ok(own)
    }

    /// The encoding of a file that begins with these bytes; `None` = it lacks the byte order mark that it has to have.
    pub(super) fn of_file(self, first: &[u8]) -> Option<Encoding> {
        let Encoding::Utf16Bom { otherwise } = self else { return Some(self) };
        let big = match first {
            [0xFE, 0xFF, ..] => Some(true),
            [0xFF, 0xFE, ..] => Some(false),
            _ => otherwise,
        };
        big.map(|big| Encoding::Utf16 { big })
    }

    /// How many bytes a character has at least; characters begin at multiples of it.
    pub(super) fn unit(self) -> usize {
        if matches!(self, Encoding::Utf16 { .. }) { 2 } else { 1 }
    }

    /// A character's bytes, by which it can be found wherever it stands; `None` = there are none.
    pub(super) fn find_by(self, c: char) -> Option<Vec<u8>> {
        let mut utf8 = [0; 4];
        let text = c.encode_utf8(&mut utf8);
        match self {
            Encoding::Plain => Some(text.as_bytes().to_vec()),
            Encoding::Utf16 { big } | Encoding::Utf16Bom { otherwise: Some(big) } => {
                let bytes = |u: u16| if big { u.to_be_bytes() } else { u.to_le_bytes() };
                Some(text.encode_utf16().flat_map(bytes).collect())
            }
            Encoding::Utf16Bom { otherwise: None } => Encoding::Utf16 { big: true }.find_by(c),
            Encoding::Standard(standard) => {
                let (bytes, _, unmappable) = standard.encode(text);
                // In an encoding of several bytes only control characters stand nowhere inside of others.
                let safe = standard.is_single_byte() || c.is_ascii();
                (safe && !unmappable).then(|| bytes.into_owned())
            }
            Encoding::Page(page) => {
                let byte = page.iter().position(|code| u32::from(*code) == u32::from(c))?;
                u8::try_from(byte).ok().map(|byte| vec![byte])
            }
            Encoding::Hz => c.is_ascii().then(|| text.as_bytes().to_vec()),
        }
    }

    /// The text of these bytes, of which the first one is at an odd place of the file or not; it may be cut beyond `max`
    /// bytes of text. Borrowed where the bytes are the text.
    pub(super) fn decode(self, bytes: &[u8], odd: bool, max: usize) -> Cow<'_, [u8]> {
        match self {
            Encoding::Plain => Cow::Borrowed(bytes),
            Encoding::Utf16 { big } | Encoding::Utf16Bom { otherwise: Some(big) } => utf16(bytes, big, odd, max),
            Encoding::Utf16Bom { otherwise: None } => utf16(bytes, true, odd, max),
            Encoding::Hz => Cow::Owned(hz(bytes, max)),
            _ if bytes.is_ascii() && self.is_ascii_text(bytes) => Cow::Borrowed(bytes),
            Encoding::Standard(standard) => Cow::Owned(by_standard(standard, bytes, String::new(), max)),
            Encoding::Page(page) => Cow::Owned(by_page(page, bytes, max)),
        }
    }

    /// Whether bytes below 128 are ASCII here.
    fn is_ascii_text(self, bytes: &[u8]) -> bool {
        match self {
            Encoding::Standard(standard) => standard != encoding_rs::ISO_2022_JP || !bytes.contains(&0x1B),
            Encoding::Page(page) => page[usize::from(b'A')] == u16::from(b'A'),
            _ => true,
        }
    }
}

/// One of the Encoding Standard, or one of its names with a dash less.
fn standard(name: &str) -> Result<Encoding, Refusal> {
    let dashed = name.strip_prefix("windows").map(|number| format!("windows-{number}")).unwrap_or_default();
    let label = |name: &str| Standard::for_label(name.as_bytes());
    match label(name).or_else(|| label(&dashed)).ok_or(UNKNOWN)? {
        found if found == encoding_rs::UTF_8 => Ok(Encoding::Plain),
        found if found == encoding_rs::UTF_16BE => Ok(Encoding::Utf16 { big: true }),
        found if found == encoding_rs::UTF_16LE => Ok(Encoding::Utf16 { big: false }),
        found if found == encoding_rs::REPLACEMENT => Err(REPLACED),
        found => Ok(Encoding::Standard(found)),
    }
}

fn by_page(page: &Page, bytes: &[u8], max: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().min(max) + bytes.len().min(max) / 2);
    for byte in bytes {
        if text.len() > max {
            break;
        }
        let c = char::from_u32(page[usize::from(*byte)].into()).unwrap_or(char::REPLACEMENT_CHARACTER);
        text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    text
}

/// Appends a text to another, until it is longer than `max`.
fn by_standard(standard: &'static Standard, bytes: &[u8], before: String, max: usize) -> Vec<u8> {
    let mut decoder = standard.new_decoder_without_bom_handling();
    let need = decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(usize::MAX);
    let mut text = before;
    // A decoder stops when the next character might not fit: there is more then.
    text.reserve_exact(need.min(max.saturating_add(32)));
    let (_result, _read, _malformed): (CoderResult, usize, bool) = decoder.decode_to_string(bytes, &mut text, true);
    let undefined = |c: char| ('\u{80}'..'\u{a0}').contains(&c);
    if standard.is_single_byte() && text.contains(undefined) {
        // The standard has control characters where a code page has nothing, Filebeat's decoder has none.
        text = text.replace(undefined, "\u{fffd}");
    }
    text.into_bytes()
}

fn utf16(bytes: &[u8], big: bool, odd: bool, max: usize) -> Cow<'static, [u8]> {
    let standard = if big { encoding_rs::UTF_16BE } else { encoding_rs::UTF_16LE };
    let (before, rest) = match bytes {
        // Half of a character, the other half of which was the end of a file that then grew.
        [_half, rest @ ..] if odd => ("\u{fffd}", rest),
        _ => ("", bytes),
    };
    Cow::Owned(by_standard(standard, rest, before.to_owned(), max))
}

/// RFC 1843: `~{` begins pairs of bytes of GB 2312, `~}` ends them, `~~` is a tilde.
fn hz(bytes: &[u8], max: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut pairs = false;
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        if text.len() > max {
            break;
        }
        let (read, c) = match (first, after.first()) {
            (b'~', Some(b'{')) => (2, None),
            (b'~', Some(b'}')) => (2, None),
            (b'~', Some(b'~')) => (2, Some('~')),
            (0x21..=0x7D, Some(second @ 0x21..=0x7E)) if pairs => (2, Some(pair(*first, *second))),
            (0x00..=0x7F, _) if !pairs && *first != b'~' => (1, Some(char::from(*first))),
            _ => (1, Some(char::REPLACEMENT_CHARACTER)),
        };
        match c {
            Some(c) => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => pairs = after.first() == Some(&b'{'),
        }
        rest = rest.get(read..).unwrap_or_default();
    }
    text
}

/// A character of GB 2312; in GBK it has the same bytes with their highest bits set.
fn pair(first: u8, second: u8) -> char {
    let mut decoder = encoding_rs::GBK.new_decoder_without_bom_handling();
    let mut text = [0; 8];
    let (result, _, written) =
        decoder.decode_to_utf8_without_replacement(&[first | 0x80, second | 0x80], &mut text, true);
    let decoded = if result == DecoderResult::InputEmpty { text.get(..written) } else { None };
    let decoded = decoded.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.chars().next());
    decoded.unwrap_or(char::REPLACEMENT_CHARACTER)
}
