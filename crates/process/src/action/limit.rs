//! rate_limit: so many events for each key and time, and no more.
//!
//! Comes in: events in the order in which they are read. Goes out: those within the limit. The clock is the read time of
//! an event's chunk, so that the same chunks read at the same times give the same events.
//!
//! Always holds: an event that is sent again after a crash is never dropped here, for it may have been let through
//! before; there are at most [`BUCKETS`] buckets, and full ones are forgotten first. Of a key only a hash is kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use pillion_config::{Error, Section};

use crate::action::convert::shown;
use crate::action::{Action, Done, missing};
use crate::doc::Doc;

/// The most keys that are told apart at a time; beyond it all buckets are thrown away, which lets more through, never less.
const BUCKETS: usize = 65_536;

/// SHA-256 of the fields' values: values may be long, and who writes them shall not share another's bucket.
type Key = [u8; 32];

fn key(values: impl Iterator<Item = String>) -> Key {
    let mut hash = digest::Context::new(&digest::SHA256);
    for value in values {
        hash.update(&(value.len() as u64).to_be_bytes());
        hash.update(value.as_bytes());
    }
    let mut key = Key::default();
    key.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    key
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled_ms: i64,
}

#[derive(Debug)]
struct RateLimit {
    per_second: f64,
    depth: f64,
    fields: Vec<String>,
    buckets: Mutex<HashMap<Key, Bucket>>,
}

impl RateLimit {
    fn allows(&self, key: Key, now_ms: i64) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            let seconds = now_ms.saturating_sub(bucket.filled_ms).max(0) as f64 / 1000.0;
            (bucket.tokens + seconds * self.per_second).min(self.depth)
        };
        if buckets.len() >= BUCKETS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| filled(bucket) < self.depth);
            if buckets.len() >= BUCKETS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: self.depth, filled_ms: now_ms });
        bucket.tokens = filled(bucket);
        bucket.filled_ms = bucket.filled_ms.max(now_ms);
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

impl Action for RateLimit {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        if doc.is_replayed() {
            return Ok(Done::Keep);
        }
        let value = |field: &String| doc.get(field).map(|got| shown(&got.to_value())).unwrap_or_default();
        let key = key(self.fields.iter().map(value));
        Ok(if self.allows(key, doc.read_ms()) { Done::Keep } else { Done::Limit })
    }
}

fn rate(text: &str) -> Option<(f64, f64)> {
    let (number, unit) = text.split_once('/')?;
    let number = number.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some((number, seconds))
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let Some(limit) = s.str("limit")? else { return Err(missing(s, "limit")) };
    let Some((number, seconds)) = rate(&limit) else {
        return Err(s.error("limit", "this isn't a rate", "write a number and a unit, such as `10000/m` (s, m or h)"));
    };
    let burst = s.f64("algorithm.token_bucket.burst_multiplier")?.unwrap_or(1.0);
    // How often Filebeat forgets full buckets; here that goes by their number.
    s.u64("algorithm.token_bucket.gc.num_calls")?;
    let mut fields = s.strings("fields")?;
    fields.sort_unstable();
    Ok(Box::new(RateLimit {
        per_second: number / seconds,
        depth: number * burst.max(0.0),
        fields,
        buckets: Mutex::default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeftOut;
    use crate::options::{Processors, Steps};
    use crate::pipeline::testing::{batch, config, input, lines, shape};
    use pillion_config::Compat;
    use serde_json::json;
    use std::sync::Arc;

    fn limiter(options: &str) -> Box<dyn Action> {
        let config = config(&format!("processors: {{{options}}}"));
        read(&config.root().section("processors").unwrap().unwrap()).unwrap()
    }

    #[test]
    fn the_bucket_empties_and_fills_again() {
        let limit = RateLimit { per_second: 2.0, depth: 2.0, fields: Vec::new(), buckets: Mutex::default() };
        let at = |name: &str, ms| limit.allows(key([name.to_owned()].into_iter()), ms);
        assert_eq!([at("a", 0), at("a", 0), at("a", 0), at("b", 0)], [true, true, false, true]);
        assert_eq!([at("a", 499), at("a", 500), at("a", 500)], [false, true, false]);
        assert_eq!([at("a", 60_000), at("a", 60_000), at("a", 60_000)], [true, true, false]);
        // A clock that goes back gives nothing.
        assert!(!at("a", 0) && !at("a", 60_499) && at("a", 60_500));
    }

    /// `rate_limit_test.go`, 9.
    #[test]
    fn as_filebeat() {
        for (options, want) in [
            ("limit: 2/m", vec!["a", "b"]),
            ("limit: 2/m, algorithm.token_bucket.burst_multiplier: 1.5", vec!["a", "b", "a"]),
            ("limit: 1/m, fields: [message]", vec!["a", "b"]),
            ("limit: 1/m, fields: [zz]", vec!["a"]),
            ("limit: 0/s", vec![]),
        ] {
            assert_eq!(lines(&*limiter(options), &["a", "b", "a", "b"], false), want, "{options}");
        }
    }

    #[test]
    fn what_it_drops_is_counted_apart() {
        let config = config(
            "processors: [{drop_event.when.equals.message: x}, {if: {has_fields: [message]}, then: {rate_limit: {limit: 2/m}}}]",
        );
        let steps = Steps::from_section(&config.root()).unwrap();
        let (_, pipeline) =
            Processors::new(Compat::V7, Steps::default(), steps).bind(&Arc::new(input()), &shape(json!({})));
        let mut batch = batch(Arc::new(input()), &[b"a", b"x", b"b", b"c", b"d"]);
        let left_out = pipeline.unwrap().run(&mut batch);
        assert_eq!((left_out, batch.events.len()), (LeftOut { filtered: 1, limited: 2 }, 2));
    }

    #[test]
    fn what_is_sent_again_passes() {
        assert_eq!(lines(&*limiter("limit: 1/m"), &["a", "b"], true), ["a", "b"]);
    }

    #[test]
    fn the_table_of_buckets_is_bounded() {
        let limit = RateLimit { per_second: 1.0, depth: 1.0, fields: Vec::new(), buckets: Mutex::default() };
        for i in 0..BUCKETS + 10 {
            limit.allows(key([i.to_string()].into_iter()), 0);
        }
        assert!(limit.buckets.lock().unwrap().len() <= BUCKETS);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["10", "x/s", "10/d", "-1/s", ""] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
