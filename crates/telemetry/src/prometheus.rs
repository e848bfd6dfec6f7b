//! The numbers as Prometheus' text, version 0.0.4.
//!
//! Comes in: [`About`], [`Snapshot`]. Goes out: the text. All of it is counted elsewhere and shown on request, so that a
//! registry of metrics of its own would hold everything twice; and OpenMetrics, which prometheus-client writes, isn't what
//! promtool's check reads.
//! Always holds: every series there is was there from the start; labels are a closed list. Tested below, and with promtool by
//! `cargo xtask e2e metrics`.

use std::fmt::Write as _;

use crate::snapshot::{About, Snapshot};

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// One series for each of a closed list.
    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.head(name, "counter", help);
        for (of, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}");
        }
    }
}

/// A label's value, escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All as text.
pub fn text(about: &About, s: &Snapshot) -> String {
    let mut t = Text(String::with_capacity(8 * 1024));
    t.head(
        "pillion_build_info",
        "gauge",
        "Always 1: the version, the version of Filebeat that events carry, and the output.",
    );
    let (own, shown) = (env!("CARGO_PKG_VERSION"), escaped(&about.version));
    let _ = writeln!(
        t.0,
        "pillion_build_info{{version=\"{own}\",agent_version=\"{shown}\",output=\"{}\"}} 1",
        about.output
    );
    t.gauge("pillion_ready", "1 when /readyz says so.", u64::from(s.unready.is_empty()));
    backlog(&mut t, s);
    reading(&mut t, s);
    sending(&mut t, s);
    process(&mut t, s);
    t.0
}

fn backlog(t: &mut Text, s: &Snapshot) {
    t.gauge("pillion_backlog_bytes", "Bytes between what is acknowledged and the ends of the files.", s.lag_bytes());
    t.gauge("pillion_backlog_files", "Files that are not acknowledged to their ends.", s.lag_files());
    t.gauge("pillion_unread_bytes", "Of the backlog: bytes that are not read yet.", s.read.unread_bytes);
    t.gauge("pillion_unacknowledged_events", "Events that are read and not acknowledged.", s.active());
}

fn reading(t: &mut Text, s: &Snapshot) {
    let r = &s.read;
    t.gauge("pillion_files", "Files that are known.", r.files);
    t.gauge("pillion_files_open", "Files that are open.", r.open);
    t.counter("pillion_files_opened_total", "How often a file was opened.", r.opened);
    t.counter("pillion_files_refused_total", "Files that were not taken up since there are too many.", r.refused);
    t.gauge("pillion_file_systems_hung", "Reading threads that a file system does not answer.", r.hung);
    t.counter("pillion_read_bytes_total", "Bytes of files that were read.", r.bytes);
    t.counter("pillion_read_events_total", "Events that were read.", r.events);
    t.counter("pillion_filtered_events_total", "Lines and events that the configuration left out.", r.filtered);
    t.counter("pillion_rate_limited_events_total", "Events that the processor rate_limit dropped.", r.limited);
    t.counter("pillion_lost_bytes_total", "Bytes that were destroyed before they could be read.", r.lost_bytes);
    t.counter(
        "pillion_lost_datagrams_total",
        "Datagrams that the kernel dropped before they could be read.",
        r.lost_datagrams,
    );
}

fn sending(t: &mut Text, s: &Snapshot) {
    let (q, o, g) = (&s.queued, &s.output, &s.registered);
    t.gauge("pillion_queue_events", "Events between reader and acknowledgement.", q.events);
    t.gauge("pillion_queue_bytes", "Their memory.", q.bytes);
    t.gauge("pillion_queue_events_limit", "The most events in the queue.", q.limit_events);
    t.gauge("pillion_queue_bytes_limit", "The most bytes in the queue.", q.limit_bytes);
    let fates = [
        ("acknowledged", o.acked),
        ("duplicate", o.duplicates),
        ("dead_lettered", o.dead_lettered),
        ("dropped", o.dropped),
    ];
    t.counters("pillion_output_events_total", "Events by what the target said of them.", "result", &fates);
    t.counter("pillion_output_resent_events_total", "Events sent again, each time counted.", o.retried);
    t.counter("pillion_output_requests_total", "Requests to the target.", o.requests);
    t.counter("pillion_output_request_failures_total", "Requests that failed as a whole.", o.failed);
    t.counter("pillion_output_sent_bytes_total", "Bytes written to the target.", o.bytes);
    t.gauge("pillion_output_reached", "1 when the target was there at least once.", u64::from(o.reached));
    t.gauge("pillion_registry_entries", "Files that the registry knows.", g.entries);
    let writes = [("success", g.written), ("failure", g.failed)];
    t.counters("pillion_registry_writes_total", "Writes of the registry.", "result", &writes);
}

fn process(t: &mut Text, s: &Snapshot) {
    let p = &s.process;
    t.head("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
    let _ = writeln!(t.0, "process_cpu_seconds_total {}", (p.user_ms + p.system_ms) as f64 / 1000.0);
    t.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", p.resident);
    t.gauge("process_open_fds", "Number of open file descriptors.", p.descriptors);
    t.gauge("process_max_fds", "Maximum number of open file descriptors.", p.descriptor_limits.0);
    t.gauge("process_threads", "Number of threads.", p.threads);
    t.head("pillion_uptime_seconds", "gauge", "How long this run has lasted.");
    let _ = writeln!(t.0, "pillion_uptime_seconds {}", s.uptime_ms as f64 / 1000.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filebeat::tests::{about, snapshot};

    #[test]
    fn every_series_has_help_and_type_once() {
        let text = text(&about(), &snapshot());
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().filter(|l| !l.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let of = |what: &str| lines.iter().filter(|l| l.starts_with(&format!("# {what} {name} "))).count();
            assert_eq!((of("HELP"), of("TYPE")), (1, 1), "{line}");
        }
        for expected in [
            "pillion_backlog_bytes 83",
            "pillion_backlog_files 3",
            "pillion_ready 1",
            "pillion_output_events_total{result=\"acknowledged\"} 70",
            "pillion_registry_writes_total{result=\"failure\"} 1",
            "process_cpu_seconds_total 0.04",
            "pillion_uptime_seconds 61",
        ] {
            assert!(lines.contains(&expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_label_can_hold_anything() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
