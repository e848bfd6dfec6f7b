//! urldecode, decode_base64_field, decompress_gzip_field: one text into another.
//!
//! Always holds: what is unpacked has at most [`UNPACKED`] bytes: a few bytes of gzip can stand for gigabytes.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use pillion_config::{Error, Section};

use crate::action::{Action, Done, fail, fetch_text, missing, required};
use crate::doc::{Doc, to_text};

/// The largest text that comes out of gzip, bytes: as `message_max_bytes` has it by default.
const UNPACKED: u64 = 10 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Url,
    Base64,
    Gzip,
}

#[derive(Debug)]
struct Decode {
    kind: Kind,
    /// From and to.
    fields: Vec<(String, String)>,
    ignore_missing: bool,
    fail_on_error: bool,
}

impl Decode {
    fn one(&self, doc: &mut Doc<'_>, from: &str, to: &str) -> Result<(), String> {
        let what = match self.kind {
            Kind::Base64 => "could not fetch base64 value for key",
            Kind::Url | Kind::Gzip => "could not fetch value for key",
        };
        let wrong = |kind: &str, value: &str| match self.kind {
            Kind::Gzip => format!("cannot decompress type {value}"),
            Kind::Url | Kind::Base64 => format!("invalid type for `from`, expecting a string received {kind}"),
        };
        let Some(text) = fetch_text(doc, from, what, self.ignore_missing, wrong)? else { return Ok(()) };
        let decoded = match self.kind {
            Kind::Url => unescape(&text)
                .map_err(|bad| format!("error trying to URL-decode {}: invalid URL escape {bad:?}", to_text(&text)))?,
            Kind::Base64 => STANDARD_NO_PAD
                .decode(text.trim_ascii_end().trim_end_matches_byte(b'='))
                .map_err(|e| format!("error trying to decode {}: {}", to_text(&text), in_go(&e)))?,
            Kind::Gzip => unzip(&text).map_err(|e| format!("error decompressing field {from}: {e}"))?,
        };
        let shown = if self.kind == Kind::Gzip { String::new() } else { format!("{}: ", to_text(&decoded)) };
        doc.put_bytes(to, decoded).map_err(|e| format!("could not put value: {shown}{to}, {e}"))
    }

    fn words(&self) -> &'static str {
        match self.kind {
            Kind::Url => "failed to decode fields in urldecode processor",
            Kind::Base64 => "failed to decode base64 fields in processor",
            Kind::Gzip => "failed to decompress field in decompress_gzip_field processor",
        }
    }
}

/// The error in Go's words.
fn in_go(e: &base64::DecodeError) -> String {
    match e {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => {
            format!("illegal base64 data at input byte {at}")
        }
        other => other.to_string(),
    }
}

trait TrimEnd {
    fn trim_end_matches_byte(&self, byte: u8) -> &[u8];
}

impl TrimEnd for [u8] {
    fn trim_end_matches_byte(&self, byte: u8) -> &[u8] {
        let end = self.iter().rposition(|b| *b != byte).map_or(0, |at| at + 1);
        self.get(..end).unwrap_or_default()
    }
}

/// Go's `url.QueryUnescape`; the error is the escape that isn't one.
fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = |b: &u8| char::from(*b).to_digit(16);
                let two = after.first_chunk::<2>().and_then(|[a, b]| Some((hex(a)? * 16 + hex(b)?) as u8));
                let Some(byte) = two else {
                    let shown = after.get(..2).unwrap_or(after);
                    return Err(format!("%{}", to_text(shown)));
                };
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            other => out.push(*other),
        }
    }
    Ok(out)
}

fn unzip(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(packed).take(UNPACKED + 1).read_to_end(&mut out);
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => Err("gzip: invalid header".to_owned()),
        Err(e) => Err(e.to_string()),
        Ok(_) if out.len() as u64 > UNPACKED => Err(format!("more than {UNPACKED} bytes come out of it")),
        Ok(_) => Ok(out),
    }
}

impl Action for Decode {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let kept = (self.fail_on_error && self.fields.len() > 1).then(|| doc.keep());
        for (from, to) in &self.fields {
            let Err(e) = self.one(doc, from, to) else { continue };
            if self.fail_on_error {
                if let Some(kept) = kept {
                    doc.restore(kept);
                }
                return fail(doc, format!("{}: {e}", self.words()));
            }
        }
        Ok(Done::Keep)
    }
}

fn read(s: &Section<'_>, kind: Kind) -> Result<Box<dyn Action>, Error> {
    let items = if kind == Kind::Url { s.sections("fields")? } else { s.section("field")?.into_iter().collect() };
    let mut fields = Vec::new();
    for item in items {
        let from = required(&item, "from")?;
        let to = item.str("to")?.filter(|to| !to.is_empty()).unwrap_or_else(|| from.clone());
        fields.push((from, to));
    }
    if fields.is_empty() {
        return Err(missing(s, if kind == Kind::Url { "fields" } else { "field" }));
    }
    let ignore_missing = s.bool("ignore_missing")?.unwrap_or(false);
    let fail_on_error = s.bool("fail_on_error")?.unwrap_or(true);
    Ok(Box::new(Decode { kind, fields, ignore_missing, fail_on_error }))
}

pub(super) fn urldecode(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    read(s, Kind::Url)
}

pub(super) fn base64(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    read(s, Kind::Base64)
}

pub(super) fn gzip(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    // Allowed by Filebeat, and without an effect there.
    s.bool("overwrite_keys")?;
    read(s, Kind::Gzip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    /// `urldecode_test.go`, `decode_base64_field_test.go`, `decompress_gzip_field_test.go`, 9.
    #[test]
    fn as_filebeat() {
        // "decompressed data", packed, and that in base64.
        let packed = "H4sIAAAAAAACA0tJTc7PLShKLS5OTVFISSxJBABsnmkTEQAAAA==";
        let event = json!({"message": "m", "u": "correct%20data+x", "bad": "Hello G%ünter", "b": "Y29ycmVjdCBkYXRh",
            "pad": "Y29ycmVjdCBkYXRhMQ==", "nob": "bad data", "num": 5, "z": packed});
        let failed = |text: &str| json!({"error": {"message": text}});
        let url = "failed to decode fields in urldecode processor";
        let b64 = "failed to decode base64 fields in processor";
        for (processors, change) in [
            ("[{urldecode: {fields: [{from: u, to: v}]}}]", json!({"v": "correct data x"})),
            ("[{urldecode: {fields: [{from: u}]}}]", json!({"u": "correct data x"})),
            (
                "[{urldecode: {fields: [{from: u}, {from: bad}]}}]",
                failed(&format!("{url}: error trying to URL-decode Hello G%ünter: invalid URL escape \"%ü\"")),
            ),
            ("[{urldecode: {fields: [{from: bad}], fail_on_error: false}}]", json!({})),
            (
                "[{urldecode: {fields: [{from: zz}]}}]",
                failed(&format!("{url}: could not fetch value for key: zz, Error: key not found")),
            ),
            ("[{urldecode: {fields: [{from: zz}], ignore_missing: true}}]", json!({})),
            (
                "[{urldecode: {fields: [{from: num}]}}]",
                failed(&format!("{url}: invalid type for `from`, expecting a string received int64")),
            ),
            ("[{decode_base64_field: {field: {from: b, to: c}}}]", json!({"c": "correct data"})),
            ("[{decode_base64_field: {field: {from: pad}}}]", json!({"pad": "correct data1"})),
            ("[{decode_base64_field: {field: {from: nob}, fail_on_error: false}}]", json!({})),
            (
                "[{decode_base64_field: {field: {from: zz}}}]",
                failed(&format!("{b64}: could not fetch base64 value for key: zz, Error: key not found")),
            ),
            (
                "[{decode_base64_field: {field: {from: z}}}, {decompress_gzip_field: {field: {from: z, to: z}}}]",
                json!({"z": "decompressed data"}),
            ),
            ("[{decompress_gzip_field: {field: {from: b, to: x}, fail_on_error: false}}]", json!({})),
            ("[{decompress_gzip_field: {field: {from: zz, to: x}, ignore_missing: true}}]", json!({})),
            (
                "[{decompress_gzip_field: {field: {from: num, to: x}}}]",
                failed("failed to decompress field in decompress_gzip_field processor: cannot decompress type 5"),
            ),
        ] {
            assert_eq!(processed(processors, event.clone()), with(&event, change), "{processors}");
        }
    }

    #[test]
    fn a_failure_is_told_in_the_event() {
        let event = json!({"message": "not packed", "b": "bad data"});
        for processor in
            ["decode_base64_field: {field: {from: b}}", "decompress_gzip_field: {field: {from: message, to: x}}"]
        {
            let got = processed(&format!("[{{{processor}}}]"), event.clone());
            assert!(got["error"]["message"].as_str().is_some_and(|m| m.starts_with("failed to dec")), "{got}");
            assert_eq!((&got["message"], &got["b"]), (&event["message"], &event["b"]));
        }
    }

    #[test]
    fn what_stands_for_too_much_is_refused() {
        use std::io::Write;
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&vec![0; UNPACKED as usize + 1]).unwrap();
        let packed = packer.finish().unwrap();
        assert!(unzip(&packed).unwrap_err().contains("more than 10485760 bytes"));
    }
}
