//! decode_duration, now.
//!
//! Always holds: "now" is when the event's chunk was read, so that the same chunk gives the same events again.

use pillion_config::{Error, Section, duration_ns};
use pillion_world::{UnixMillis, rfc3339};
use serde_json::Value;

use crate::action::{Action, Done, required};
use crate::doc::Doc;
use crate::json::float;

#[derive(Debug)]
struct DecodeDuration {
    field: String,
    /// How many nanoseconds one of the unit has.
    unit: f64,
}

impl Action for DecodeDuration {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        // As in Filebeat, what is no duration stays as it is, and that is no error.
        if let Some(ns) = doc.text(&self.field).and_then(|text| duration_ns(&text))
            && let Some(value) = float(ns as f64 / self.unit)
        {
            doc.put(&self.field, Value::Number(value))?;
        }
        Ok(Done::Keep)
    }
}

pub(super) fn decode_duration(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let unit = match s.choice("format", &["milliseconds", "seconds", "minutes", "hours"])? {
        Some("seconds") => 1e9,
        Some("minutes") => 60e9,
        Some("hours") => 3600e9,
        _ => 1e6,
    };
    Ok(Box::new(DecodeDuration { field: required(s, "field")?, unit }))
}

#[derive(Debug)]
struct Now(String);

impl Action for Now {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let now = rfc3339(UnixMillis(doc.read_ms()));
        doc.put(&self.0, Value::String(now))?;
        Ok(Done::Keep)
    }
}

pub(super) fn now(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    Ok(Box::new(Now(required(s, "field")?)))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::{processed, with};
    use serde_json::json;

    /// `decode_duration_test.go`, `now_test.go`, 9.
    #[test]
    fn as_filebeat() {
        let event = json!({"message": "1h30m", "d": {"ms": "1.5s"}, "n": 1, "s": "x"});
        for (processor, change) in [
            ("decode_duration: {field: message, format: hours}", json!({"message": 1.5})),
            ("decode_duration: {field: message, format: minutes}", json!({"message": 90})),
            ("decode_duration: {field: d.ms, format: seconds}", json!({"d": {"ms": 1.5}})),
            ("decode_duration: {field: d.ms}", json!({"d": {"ms": 1500}})),
            ("decode_duration: {field: s, format: seconds}", json!({})),
            ("decode_duration: {field: n, format: seconds}", json!({})),
            ("decode_duration: {field: zz, format: seconds}", json!({})),
            ("now: {field: t}", json!({"t": "1970-01-01T00:00:00.000Z"})),
        ] {
            assert_eq!(processed(&format!("[{{{processor}}}]"), event.clone()), with(&event, change), "{processor}");
        }
    }
}
