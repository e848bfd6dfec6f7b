//! What the webhook counts, as Prometheus' text format.
//!
//! Always holds: every series there is was there from the start, so that a rate is never missing; labels are a closed
//! list. Tested below, and with promtool by `cargo xtask e2e metrics` and `e2e webhook`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What came of an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod got its sidecar.
    Injected,
    /// It has one already, or needs none.
    Unchanged,
    /// It wasn't to be touched: opted out, not opted in, a protected namespace, not the creation of a pod.
    Skipped,
    /// It was to be injected and can't be: it starts without, with a warning that says why.
    Refused,
    /// The request wasn't an AdmissionReview.
    Invalid,
}

impl Outcome {
    const ALL: [(Outcome, &'static str); 5] = [
        (Outcome::Injected, "injected"),
        (Outcome::Unchanged, "unchanged"),
        (Outcome::Skipped, "skipped"),
        (Outcome::Refused, "refused"),
        (Outcome::Invalid, "invalid"),
    ];
}

/// The upper ends of the buckets of answering times, in milliseconds.
const BUCKETS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 250, 1000];

/// All counters and gauges.
#[derive(Debug, Default)]
pub struct Metrics {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Each answer is counted in one bucket; the last is for all slower ones.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
    /// Connections that are open.
    pub(crate) connections: AtomicI64,
    /// Handshakes and connections that failed.
    pub(crate) connection_errors: AtomicU64,
    /// When the served certificate ends, seconds since 1970; 0 = none is served.
    pub(crate) certificate_ends: AtomicI64,
    /// How often another certificate was served.
    pub(crate) certificate_changes: AtomicU64,
    /// 1 when the served certificate is trusted by the API server.
    pub(crate) ready: AtomicI64,
    /// Passes over Secret and configuration that failed.
    pub(crate) sync_errors: AtomicU64,
    /// 1 on the replica that watches for uninjected pods.
    pub(crate) census: AtomicI64,
    /// Pods there are that should have a sidecar and have none.
    pub(crate) uninjected: AtomicI64,
    /// Such pods since the start.
    pub(crate) uninjected_total: AtomicU64,
}

impl Metrics {
    /// Counts an admission and the time its answer took.
    pub fn admission(&self, outcome: Outcome, took: Duration) {
        if let Some(at) = Outcome::ALL.iter().position(|(o, _)| *o == outcome) {
            self.outcomes[at].fetch_add(1, Relaxed);
        }
        let bucket = BUCKETS.iter().position(|ms| took <= Duration::from_millis(*ms)).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How many admissions had this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        let at = Outcome::ALL.iter().position(|(o, _)| *o == outcome);
        at.map_or(0, |at| self.outcomes[at].load(Relaxed))
    }

    /// All as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        head(&mut out, "admissions_total", "counter", "Admission requests by what came of them.");
        for ((_, name), count) in Outcome::ALL.iter().zip(&self.outcomes) {
            let _ = writeln!(out, "pillion_webhook_admissions_total{{result=\"{name}\"}} {}", count.load(Relaxed));
        }
        self.histogram(&mut out);
        let counters = [
            ("connection_errors_total", &self.connection_errors, "Connections and handshakes that failed."),
            ("certificate_changes_total", &self.certificate_changes, "How often another certificate was served."),
            ("sync_errors_total", &self.sync_errors, "Failed attempts to keep Secret and caBundle up to date."),
            (
                "uninjected_pods_total",
                &self.uninjected_total,
                "Pods seen since the start that should have a sidecar and have none.",
            ),
        ];
        for (name, value, help) in counters {
            one(&mut out, name, "counter", help, value.load(Relaxed).cast_signed());
        }
        let gauges = [
            ("connections", &self.connections, "Open connections."),
            (
                "certificate_not_after_timestamp_seconds",
                &self.certificate_ends,
                "When the served certificate ends; 0 when none is served.",
            ),
            ("ready", &self.ready, "1 when the served certificate is trusted by the API server."),
            ("census", &self.census, "1 on the replica that watches for pods without a sidecar."),
            (
                "uninjected_pods",
                &self.uninjected,
                "Pods there are that should have a sidecar and have none; 0 on all replicas but one.",
            ),
        ];
        for (name, value, help) in gauges {
            one(&mut out, name, "gauge", help, value.load(Relaxed));
        }
        out
    }

    fn histogram(&self, out: &mut String) {
        const NAME: &str = "pillion_webhook_admission_seconds";
        head(out, "admission_seconds", "histogram", "Time from a request's body to its answer.");
        let mut sum = 0;
        let ends = BUCKETS.iter().map(|ms| (*ms as f64 / 1000.0).to_string()).chain(["+Inf".to_owned()]);
        for (count, end) in self.buckets.iter().zip(ends) {
            sum += count.load(Relaxed);
            let _ = writeln!(out, "{NAME}_bucket{{le=\"{end}\"}} {sum}");
        }
        let _ = writeln!(out, "{NAME}_sum {}", self.nanoseconds.load(Relaxed) as f64 / 1e9);
        let _ = writeln!(out, "{NAME}_count {sum}");
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(out, "# HELP pillion_webhook_{name} {help}\n# TYPE pillion_webhook_{name} {kind}\n");
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, value: i64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "pillion_webhook_{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_help_and_type_once_and_buckets_add_up() {
        let metrics = Metrics::default();
        for ms in [0, 1, 3, 49, 5000] {
            metrics.admission(Outcome::Injected, Duration::from_millis(ms));
        }
        metrics.admission(Outcome::Refused, Duration::ZERO);
        let text = metrics.text();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().filter(|l| !l.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            let help = lines.iter().filter(|l| l.starts_with(&format!("# HELP {base} "))).count();
            let kind = lines.iter().filter(|l| l.starts_with(&format!("# TYPE {base} "))).count();
            assert_eq!((help, kind), (1, 1), "{line}");
        }
        for expected in [
            "pillion_webhook_admissions_total{result=\"injected\"} 5",
            "pillion_webhook_admissions_total{result=\"refused\"} 1",
            "pillion_webhook_admission_seconds_bucket{le=\"0.001\"} 3",
            "pillion_webhook_admission_seconds_bucket{le=\"0.05\"} 5",
            "pillion_webhook_admission_seconds_bucket{le=\"+Inf\"} 6",
            "pillion_webhook_admission_seconds_count 6",
            "pillion_webhook_uninjected_pods 0",
        ] {
            assert!(lines.contains(&expected), "{expected}\n{text}");
        }
        assert_eq!(metrics.count(Outcome::Injected), 5);
    }
}
