//! add_locale: the machine's time zone, as `event.timezone`.
//!
//! Always holds: it is the zone's distance or name when the event's chunk was read, so that the same chunk gives the same
//! events again.

use pillion_config::{Error, Section};
use pillion_world::World;
use serde_json::Value;

use crate::action::{Action, Done};
use crate::doc::Doc;
use crate::zone::Zone;

#[derive(Debug)]
struct AddLocale {
    zone: Zone,
    abbreviation: bool,
}

impl Action for AddLocale {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let (minutes, name) = self.zone.at(doc.read_ms());
        let text = if self.abbreviation { name } else { distance(minutes) };
        doc.put("event.timezone", Value::String(text))?;
        Ok(Done::Keep)
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let abbreviation = match s.str("format")?.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "offset" => false,
        "abbreviation" => true,
        _ => {
            let what = format!("{} isn't a format of add_locale", s.shown("format"));
            return Err(s.error("format", what, "write `offset` or `abbreviation`"));
        }
    };
    Ok(Box::new(AddLocale { zone: Zone::local(&World::real()), abbreviation }))
}

/// `+02:00`.
fn distance(minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{config, processed};
    use serde_json::json;

    #[test]
    fn distances_as_filebeat_7_17_29() {
        for (minutes, want) in [(0, "+00:00"), (60, "+01:00"), (330, "+05:30"), (-210, "-03:30"), (845, "+14:05")] {
            assert_eq!(distance(minutes), want);
        }
    }

    #[test]
    fn the_machines_zone_is_added() {
        let (minutes, name) = Zone::local(&World::real()).at(0);
        for (format, want) in [("offset", distance(minutes)), ("Abbreviation", name)] {
            let step = format!("[{{add_locale: {{format: {format}}}}}]");
            assert_eq!(processed(&step, json!({"message": "m"})), json!({"message": "m", "event": {"timezone": want}}));
        }
        let config = config("add_locale: {format: short}");
        let section = config.root().named_sections().unwrap().pop().unwrap().1;
        assert!(read(&section).is_err_and(|e| e.to_string().contains("isn't a format of add_locale")));
    }
}
