//! add_id.
//!
//! Filebeat's ids are made of a clock, a counter and the machine's address. Here they are made of what names the event for
//! ever (its file's incarnation and range), so that an event that is sent again has the same id again.

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done};
use crate::doc::Doc;

#[derive(Debug)]
struct AddId {
    target: String,
}

/// Go's `base64.RawURLEncoding`.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 15 bytes as 20 characters, as Filebeat's ids have them.
fn encode(bytes: [u8; 15]) -> String {
    let mut out = String::with_capacity(20);
    for three in bytes.as_chunks::<3>().0 {
        let n = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for shift in [18, 12, 6, 0] {
            out.push(char::from(ALPHABET[(n >> shift) as usize & 63]));
        }
    }
    out
}

/// A mixture of the incarnation and the range: the offset stays readable in the low half, so that two events of a file
/// never share an id, and two files only when 2^-60 happens.
fn mix(incarnation: u128, offset: u64) -> [u8; 15] {
    // splitmix64, over both halves.
    let step = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let high = step((incarnation >> 64) as u64 ^ step(incarnation as u64));
    let low = step(incarnation as u64) ^ step(offset);
    let mut out = [0; 15];
    for (to, from) in out.iter_mut().zip(low.to_be_bytes().into_iter().chain(high.to_be_bytes())) {
        *to = from;
    }
    out
}

impl Action for AddId {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let id = doc.id();
        doc.put(&self.target, Value::String(encode(mix(id.incarnation.0, id.offset))))?;
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    s.choice("type", &["elasticsearch"])?;
    let target = s.str("target_field")?.filter(|t| !t.is_empty()).unwrap_or_else(|| "@metadata._id".to_owned());
    Ok(Box::new(AddId { target }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::processed;
    use serde_json::json;
    use std::collections::HashSet;

    #[test]
    fn the_same_event_has_the_same_id_and_no_other_has_it() {
        let id = || processed("[{add_id: ~}]", json!({"message": "m"}))["@metadata"]["_id"].clone();
        assert_eq!(id(), id());
        assert_eq!(id().as_str().unwrap().len(), 20);
        let all: HashSet<[u8; 15]> =
            (0..100).flat_map(|i| (0..1000).map(move |offset| mix(u128::from(i as u64) << 60, offset))).collect();
        assert_eq!(all.len(), 100_000);
    }
}
