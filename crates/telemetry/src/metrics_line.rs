//! The line `Non-zero metrics in the last 30s`.
//!
//! Comes in: [`Snapshot`]s, one for each span of time. Goes out: log lines with the names of [`filebeat`]: counters by what
//! came since the last line, the rest as it is. Always holds: what is 0 isn't in it. Up to 5.6 the values stand in the message,
//! later in the field `monitoring`. Tested below.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::filebeat::{self, Kind, Metric};
use crate::snapshot::{About, Snapshot};

/// What the lines look like.
#[derive(Clone, Debug)]
pub struct Lines {
    /// How often one comes.
    pub period: Duration,
    /// As 5.6 has them.
    pub flat: bool,
    /// Whose they are, where they aren't the first output's: each begins so.
    pub of: Option<String>,
}

/// Writes a line at the end of each span of time, for as long as the runtime lives.
pub async fn log_metrics(lines: Lines, about: &About, now: impl Fn() -> Snapshot) {
    let mut last = Last::default();
    loop {
        tokio::time::sleep(lines.period).await;
        let news = last.news(filebeat::metrics(about, &now()));
        say(&lines, news);
    }
}

fn say(lines: &Lines, news: Vec<(&'static str, Value)>) {
    let span = go_duration(lines.period);
    let of = lines.of.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    if news.is_empty() {
        tracing::info!(target: "pillion_monitoring", "{of}No non-zero metrics in the last {span}");
    } else if lines.flat {
        let mut text = String::new();
        for (name, value) in news {
            let _ = match value {
                Value::String(value) => write!(text, " {name}={value}"),
                value => write!(text, " {name}={value}"),
            };
        }
        tracing::info!(target: "pillion_monitoring", "{of}Non-zero metrics in the last {span}:{text}");
    } else {
        let monitoring = json!({"metrics": filebeat::nested(news)}).to_string();
        let monitoring = monitoring.as_str();
        tracing::info!(target: "pillion_monitoring", monitoring, "{of}Non-zero metrics in the last {span}");
    }
}

/// What counters said in the last line.
#[derive(Default)]
struct Last(HashMap<&'static str, u64>);

impl Last {
    fn news(&mut self, metrics: Vec<Metric>) -> Vec<(&'static str, Value)> {
        let value = |m: Metric| match (m.kind, m.value.as_u64()) {
            (Kind::Counter, Some(n)) => {
                let before = self.0.insert(m.name, n).unwrap_or(0);
                (m.name, n.saturating_sub(before).into())
            }
            _ => (m.name, m.value),
        };
        metrics.into_iter().map(value).filter(|(_, value)| value.as_f64() != Some(0.0)).collect()
    }
}

/// A span of whole seconds as Go writes it: `30s`, `1m0s`, `1h0m0s`.
fn go_duration(span: Duration) -> String {
    let (hours, minutes, seconds) = (span.as_secs() / 3600, span.as_secs() / 60 % 60, span.as_secs() % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filebeat::tests::{about, snapshot};

    #[test]
    fn counters_by_what_came_and_gauges_as_they_are() {
        let mut last = Last::default();
        let news = |last: &mut Last, s: &Snapshot| -> HashMap<_, _> {
            last.news(filebeat::metrics(&about(), s)).into_iter().collect()
        };
        let first = news(&mut last, &snapshot());
        assert_eq!(first["filebeat.events.added"], 100);
        let mut later = snapshot();
        (later.read.events, later.uptime_ms) = (130, 91_000);
        let second = news(&mut last, &later);
        assert_eq!((&second["filebeat.events.added"], &second["beat.info.uptime.ms"]), (&json!(30), &json!(91_000)));
        assert_eq!((&second["filebeat.events.active"], second.get("filebeat.harvester.started")), (&json!(50), None));
        assert!(second.contains_key("beat.info.version"), "texts are in every line");
    }

    #[test]
    fn spans_as_go_writes_them() {
        let all = [1, 30, 60, 3600, 3723].map(|s| go_duration(Duration::from_secs(s)));
        assert_eq!(all, ["1s", "30s", "1m0s", "1h0m0s", "1h2m3s"]);
    }
}
