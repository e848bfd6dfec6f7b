//! fingerprint: a hash of some of an event's fields.
//!
//! Always holds: what is hashed is `|name|value|name|value|…|`, by the names' alphabet, values as Go's `%v` shows them.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pillion_config::{Error, Section};
use pillion_world::{UnixMillis, rfc3339};
use serde_json::Value;

use crate::action::convert::shown;
use crate::action::{Action, Done, fail, required_list};
use crate::doc::{Doc, Got};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    XxHash,
}

const METHODS: &[(&str, Method)] = &[
    ("md5", Method::Md5),
    ("sha1", Method::Sha1),
    ("sha256", Method::Sha256),
    ("sha384", Method::Sha384),
    ("sha512", Method::Sha512),
    ("xxhash", Method::XxHash),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Hex,
    Base32,
    Base64,
}

#[derive(Debug)]
struct Fingerprint {
    fields: Vec<String>,
    target: String,
    method: Method,
    encoding: Encoding,
    ignore_missing: bool,
}

/// A time as Go's `%v` shows it in UTC.
fn time_shown(ms: i64) -> String {
    let text = rfc3339(UnixMillis(ms)).replace('T', " ").replace('Z', "");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // Milliseconds that are all zeros fall away, and with them nothing else.
    let shown = if text.len() < 19 { format!("{text:0<19}") } else { text.to_owned() };
    format!("{shown} +0000 UTC")
}

impl Fingerprint {
    fn source(&self, doc: &mut Doc<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for field in &self.fields {
            let value = match doc.get(field) {
                Err(_) if self.ignore_missing => continue,
                Err(e) => return Err(format!("failed to find field [{field}] in event: {e}")),
                Ok(Got::Value(Value::Object(_) | Value::Array(_))) => {
                    return Err(format!("cannot compute fingerprint using non-scalar field [{field}]"));
                }
                Ok(Got::Time(ms)) => time_shown(ms).into_bytes(),
                Ok(got) => match got.text() {
                    Some(text) => text.to_vec(),
                    None => shown(&got.to_value()).into_bytes(),
                },
            };
            out.push(b'|');
            out.extend_from_slice(field.as_bytes());
            out.push(b'|');
            out.extend_from_slice(&value);
        }
        out.push(b'|');
        Ok(out)
    }

    fn hash(&self, source: &[u8]) -> Vec<u8> {
        let algorithm = match self.method {
            // The cryptography in here has no MD5, and nothing that is to be kept safe depends on this one.
            Method::Md5 => return md5::compute(source).0.to_vec(),
            Method::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Method::Sha256 => &digest::SHA256,
            Method::Sha384 => &digest::SHA384,
            Method::Sha512 => &digest::SHA512,
            Method::XxHash => return xxhash64(source).to_be_bytes().to_vec(),
        };
        digest::digest(algorithm, source).as_ref().to_vec()
    }

    fn encoded(&self, hash: &[u8]) -> String {
        match self.encoding {
            Encoding::Hex => hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            Encoding::Base32 => base32(hash),
            Encoding::Base64 => STANDARD.encode(hash),
        }
    }
}

/// RFC 4648, with padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let n = chunk.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)) << (8 * (5 - chunk.len()));
        let digits = (chunk.len() * 8).div_ceil(5);
        for i in 0..8 {
            let digit = (n >> (35 - 5 * i)) as usize & 31;
            out.push(if i < digits { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    out
}

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

fn round(acc: u64, lane: u64) -> u64 {
    acc.wrapping_add(lane.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// XXH64 with the seed 0 (the algorithm's specification, 0.1.1): 40 lines instead of a crate for one rare option.
fn xxhash64(input: &[u8]) -> u64 {
    let mut rest = input;
    let mut hash = if input.len() >= 32 {
        let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0_u64.wrapping_sub(PRIMES[0])];
        while let Some((stripe, after)) = rest.split_first_chunk::<32>() {
            for (lane, eight) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*eight));
            }
            rest = after;
        }
        let [a, b, c, d] = lanes;
        let sum =
            [(a, 1), (b, 7), (c, 12), (d, 18)].iter().fold(0_u64, |sum, (l, by)| sum.wrapping_add(l.rotate_left(*by)));
        lanes.iter().fold(sum, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]))
    } else {
        PRIMES[4]
    };
    hash = hash.wrapping_add(input.len() as u64);
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ round(0, u64::from_le_bytes(*eight)))
            .rotate_left(27)
            .wrapping_mul(PRIMES[0])
            .wrapping_add(PRIMES[3]);
        rest = after;
    }
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        let lane = u64::from(u32::from_le_bytes(*four)).wrapping_mul(PRIMES[0]);
        hash = (hash ^ lane).rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
        rest = after;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 32)
}

impl Action for Fingerprint {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let done = self.source(doc).and_then(|source| {
            let encoded = self.encoded(&self.hash(&source));
            doc.put(&self.target, Value::String(encoded))
        });
        match done {
            Ok(()) => Ok(Done::Keep),
            // Filebeat loses the event here.
            Err(e) => fail(doc, format!("failed to compute fingerprint: {e}")),
        }
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let mut fields = required_list(s, "fields")?;
    fields.sort_unstable();
    fields.dedup();
    let name = s.str("method")?.unwrap_or_else(|| "sha256".to_owned()).to_lowercase();
    let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == name) else {
        return Err(s.error("method", "there is no such method", "give md5, sha1, sha256, sha384, sha512 or xxhash"));
    };
    let encoding = match s.str("encoding")?.map(|e| e.to_lowercase()).as_deref() {
        None | Some("hex") => Encoding::Hex,
        Some("base32") => Encoding::Base32,
        Some("base64") => Encoding::Base64,
        Some(_) => return Err(s.error("encoding", "there is no such encoding", "give hex, base32 or base64")),
    };
    Ok(Box::new(Fingerprint {
        fields,
        target: s.str("target_field")?.filter(|t| !t.is_empty()).unwrap_or_else(|| "fingerprint".to_owned()),
        method: *method,
        encoding,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    /// `fingerprint_test.go`, 9, and the hashes of coreutils for the same text.
    #[test]
    fn as_filebeat() {
        let event = json!({"message": "m", "field1": "foo", "num": 1, "o": {"p": 1}});
        let failed = |text: &str| json!({"error": {"message": format!("failed to compute fingerprint: {text}")}});
        for (options, change) in [
            (
                "fields: [field1]",
                json!({"fingerprint": "4cf8b768ad20266c348d63a6d1ff5d6f6f9ed0f59f5c68ae031b78e3e04c5144"}),
            ),
            ("fields: [field1], method: SHA1, target_field: a.b", json!({"a": {"b": SHA1}})),
            (
                "fields: [zz, field1], ignore_missing: true, encoding: base64, method: sha1",
                json!({"fingerprint": SHA1_64}),
            ),
            ("fields: [field1], method: md5", json!({"fingerprint": MD5})),
            ("fields: [zz]", failed("failed to find field [zz] in event: key not found")),
            ("fields: [o]", failed("cannot compute fingerprint using non-scalar field [o]")),
        ] {
            let got = processed(&format!("[{{fingerprint: {{{options}}}}}]"), event.clone());
            assert_eq!(got, with(&event, change), "{options}");
        }
    }

    // `printf '|field1|foo|' | sha1sum` and `md5sum`, and the same through `xxd -r -p | base64`.
    const MD5: &str = "3455d980d9c2a5a1c2c0b090a929aa3a";
    const SHA1: &str = "46de5d8225e75aeedd559c953f100dca41612b18";
    const SHA1_64: &str = "Rt5dgiXnWu7dVZyVPxANykFhKxg=";

    #[test]
    fn encodings_and_hashes_as_their_specifications_say() {
        for (text, want) in [("", ""), ("f", "MY======"), ("fo", "MZXQ===="), ("foobar", "MZXW6YTBOI======")] {
            assert_eq!(base32(text.as_bytes()), want);
        }
        for (text, want) in [
            ("", 0xef46_db37_51d8_e999),
            ("a", 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0x44bc_2cf5_ad77_0999),
            ("The quick brown fox jumps over the lazy dog", 0x0b24_2d36_1fda_71bc),
        ] {
            assert_eq!(xxhash64(text.as_bytes()), want, "{text}");
        }
        for (ms, want) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (1_577_934_245_670, "2020-01-02 03:04:05.67 +0000 UTC"),
            (1_577_934_240_000, "2020-01-02 03:04:00 +0000 UTC"),
        ] {
            assert_eq!(time_shown(ms), want);
        }
    }
}
