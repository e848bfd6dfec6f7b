//! The numbers under Filebeat's names: `/`, `/state`, `/stats`, `/inputs/`, and the line of metrics in the log.
//!
//! Comes in: [`About`], [`Snapshot`]. Goes out: JSON, or names with values. The names and their nesting are those of Filebeat
//! 7 to 9 (libbeat's `monitoring` registries); what Pillion has nothing of (a garbage collector, modules) isn't there.
//! Always holds: each name once, in one list for all who show it. Tested below.

use serde_json::{Map, Value, json};

use crate::snapshot::{About, Input, Snapshot};

/// How a value goes into a line about a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows: what came since the last line.
    Counter,
    /// What it is now.
    Gauge,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name, parts joined by dots.
    pub name: &'static str,
    /// How it is shown over time.
    pub kind: Kind,
    /// A number, or a text.
    pub value: Value,
}

/// `/`: who this is.
pub fn info(about: &About) -> Value {
    json!({
        "beat": "filebeat",
        "binary_arch": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "elastic_licensed": false,
        "ephemeral_id": about.ephemeral_id,
        "gid": about.ids.1.to_string(),
        "hostname": about.hostname,
        "name": about.name,
        "pillion": env!("CARGO_PKG_VERSION"),
        "uid": about.ids.0.to_string(),
        "uuid": about.uuid,
        "version": about.version,
    })
}

/// `/state`: what this runs as. Metricbeat's module `beat` asks for it before anything else, and sends nothing without it.
pub fn state(about: &About, s: &Snapshot) -> Value {
    let mut state = json!({
        "beat": {"name": about.name},
        "host": about.host,
        "input": {"count": s.inputs, "names": about.kinds},
        "management": {"enabled": false},
        "output": {"name": about.output},
        // What Filebeat says until it has asked the cluster, which Pillion never does.
        "outputs": {"elasticsearch": {"cluster_uuid": ""}},
        "queue": {"name": about.queue},
        "service": {"id": about.uuid, "name": "filebeat", "version": about.version},
    });
    if !about.cluster.is_empty() {
        state["monitoring"] = json!({"cluster_uuid": about.cluster});
    }
    state
}

/// `/stats`.
pub fn stats(about: &About, s: &Snapshot) -> Value {
    nested(metrics(about, s).into_iter().map(|m| (m.name, m.value)))
}

/// `/inputs/`; `kind`: of this type alone.
pub fn inputs(inputs: &[Input], kind: Option<&str>) -> Value {
    let one = |input: &Input| {
        json!({
            "id": input.id,
            "input": input.kind,
            "bytes_processed_total": input.bytes,
            "events_processed_total": input.events,
            "events_acknowledged_total": input.acked,
            "events_refused_total": input.refused,
        })
    };
    inputs.iter().filter(|input| kind.is_none_or(|kind| input.kind.eq_ignore_ascii_case(kind))).map(one).collect()
}

/// Names with dots as objects in each other.
pub fn nested(metrics: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut root = Map::new();
    for (name, value) in metrics {
        let mut at = &mut root;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                at.insert(part.to_owned(), value);
                break;
            }
            let below = at.entry(part).or_insert_with(|| Value::Object(Map::new()));
            match below {
                Value::Object(map) => at = map,
                _ => break,
            }
        }
    }
    Value::Object(root)
}

/// Everything, in the order of the names.
pub fn metrics(about: &About, s: &Snapshot) -> Vec<Metric> {
    let mut all = Vec::with_capacity(80);
    let mut add = |kind, list: &[(&'static str, u64)]| {
        all.extend(list.iter().map(|(name, n)| Metric { name, kind, value: (*n).into() }));
    };
    add(Kind::Gauge, &gauges(s));
    add(Kind::Counter, &counters(s));
    add_others(&mut all, about, s);
    all.sort_unstable_by_key(|m| m.name);
    all
}

/// Events that an output has taken and not settled.
fn sending(s: &Snapshot) -> u64 {
    s.queued.events.saturating_sub(s.queued.waiting)
}

fn gauges(s: &Snapshot) -> [(&'static str, u64); 21] {
    let (p, q) = (&s.process, &s.queued);
    let (cpu, active) = (p.user_ms + p.system_ms, s.active());
    [
        ("beat.cpu.system.ticks", p.system_ms),
        ("beat.cpu.total.ticks", cpu),
        ("beat.cpu.total.value", cpu),
        ("beat.cpu.user.ticks", p.user_ms),
        ("beat.handles.limit.hard", p.descriptor_limits.1),
        ("beat.handles.limit.soft", p.descriptor_limits.0),
        ("beat.handles.open", p.descriptors),
        ("beat.info.uptime.ms", s.uptime_ms),
        ("beat.memstats.rss", p.resident),
        ("filebeat.events.active", active),
        ("filebeat.harvester.open_files", s.read.open),
        ("filebeat.harvester.running", s.read.open),
        ("libbeat.output.events.active", sending(s)),
        ("libbeat.pipeline.clients", s.inputs),
        ("libbeat.pipeline.events.active", active),
        ("libbeat.pipeline.queue.filled.bytes", q.bytes),
        ("libbeat.pipeline.queue.filled.events", q.events),
        ("libbeat.pipeline.queue.max_bytes", q.limit_bytes),
        ("libbeat.pipeline.queue.max_events", q.limit_events),
        ("registrar.states.current", s.registered.entries),
        ("system.cpu.cores", p.cores),
    ]
}

fn counters(s: &Snapshot) -> [(&'static str, u64); 34] {
    let (p, r, o, g) = (&s.process, &s.read, &s.output, &s.registered);
    let settled = o.acked + o.duplicates + o.dead_lettered + o.dropped;
    [
        ("beat.cpu.system.time.ms", p.system_ms),
        ("beat.cpu.total.time.ms", p.user_ms + p.system_ms),
        ("beat.cpu.user.time.ms", p.user_ms),
        ("filebeat.events.added", r.events),
        ("filebeat.events.done", r.events.saturating_sub(s.active())),
        ("filebeat.harvester.closed", r.opened.saturating_sub(r.open)),
        ("filebeat.harvester.skipped", r.refused),
        ("filebeat.harvester.started", r.opened),
        ("filebeat.input.log.files.renamed", r.renamed),
        ("filebeat.input.log.files.truncated", r.truncated),
        ("libbeat.config.reloads", r.reloads),
        ("libbeat.config.scans", r.scans),
        ("libbeat.output.events.acked", o.acked),
        ("libbeat.output.events.batches", o.requests),
        ("libbeat.output.events.dead_letter", o.dead_lettered),
        ("libbeat.output.events.dropped", o.dropped),
        ("libbeat.output.events.duplicates", o.duplicates),
        ("libbeat.output.events.failed", o.retried),
        ("libbeat.output.events.toomany", o.too_many),
        ("libbeat.output.events.total", settled + o.retried + sending(s)),
        ("libbeat.output.write.bytes", o.bytes),
        ("libbeat.output.write.errors", o.failed),
        // What can't be sent waits in its file.
        ("libbeat.pipeline.events.dropped", 0),
        ("libbeat.pipeline.events.failed", 0),
        ("libbeat.pipeline.events.filtered", r.filtered + r.limited),
        ("libbeat.pipeline.events.published", r.events),
        ("libbeat.pipeline.events.retry", o.retried),
        ("libbeat.pipeline.events.total", r.events + r.filtered + r.limited),
        ("libbeat.pipeline.queue.acked", settled),
        ("registrar.states.cleanup", r.forgotten),
        ("registrar.states.update", g.updates),
        ("registrar.writes.fail", g.failed),
        ("registrar.writes.success", g.written),
        ("registrar.writes.total", g.written + g.failed),
    ]
}

/// Texts and fractions.
fn add_others(all: &mut Vec<Metric>, about: &About, s: &Snapshot) {
    let mut add = |name, value: Value| all.push(Metric { name, kind: Kind::Gauge, value });
    add("beat.info.ephemeral_id", about.ephemeral_id.as_str().into());
    add("beat.info.name", "filebeat".into());
    add("beat.info.version", about.version.as_str().into());
    add("libbeat.output.type", about.output.into());
    let (q, [one, five, fifteen]) = (&s.queued, s.process.load);
    let cores = s.process.cores.max(1) as f64;
    let filled = match q.limit_events {
        0 => q.bytes as f64 / q.limit_bytes.max(1) as f64,
        most => q.events as f64 / most as f64,
    };
    add("libbeat.pipeline.queue.filled.pct", round(filled).into());
    for (name, norm, load) in [
        ("system.load.1", "system.load.norm.1", one),
        ("system.load.15", "system.load.norm.15", fifteen),
        ("system.load.5", "system.load.norm.5", five),
    ] {
        add(name, load.into());
        add(norm, round(load / cores).into());
    }
}

/// Four places behind the point.
fn round(n: f64) -> f64 {
    (n * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snapshot::{Output, Queued, Read, Registered};

    pub(crate) fn about() -> About {
        About {
            name: "n".into(),
            hostname: "h".into(),
            version: "8.19.3".into(),
            uuid: "u".into(),
            ephemeral_id: "e".into(),
            output: "elasticsearch",
            ids: (1000, 100),
            queue: "mem",
            kinds: vec!["filestream", "log"],
            cluster: "c".into(),
            host: [("hostname".to_owned(), "h".into())].into_iter().collect(),
        }
    }

    pub(crate) fn snapshot() -> Snapshot {
        Snapshot {
            uptime_ms: 61_000,
            inputs: 2,
            read: Read {
                files: 7,
                open: 3,
                opened: 5,
                refused: 1,
                renamed: 11,
                truncated: 12,
                forgotten: 13,
                scans: 14,
                reloads: 15,
                bytes: 1000,
                events: 100,
                filtered: 3,
                limited: 1,
                lost_datagrams: 8,
                lost_bytes: 6,
                unread_bytes: 50,
                unread_files: 2,
                hung: 0,
            },
            queued: Queued {
                events: 20,
                bytes: 300,
                waiting: 12,
                limit_events: 3200,
                limit_bytes: 4096,
                unacked_bytes: 33,
                unacked_files: 1,
            },
            output: Output {
                acked: 70,
                duplicates: 5,
                dead_lettered: 3,
                dropped: 2,
                retried: 9,
                too_many: 4,
                requests: 8,
                failed: 1,
                bytes: 5000,
                reached: true,
            },
            registered: Registered { entries: 7, updates: 40, written: 6, failed: 1 },
            process: crate::Process {
                user_ms: 30,
                system_ms: 10,
                cores: 2,
                load: [0.5, 0.25, 0.125],
                ..Default::default()
            },
            unready: Vec::new(),
        }
    }

    #[test]
    fn every_name_is_there_once() {
        let all = metrics(&about(), &snapshot());
        let names: std::collections::BTreeSet<&str> = all.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), all.len());
        for name in &names {
            let under = format!("{name}.");
            assert!(!names.iter().any(|other| other.starts_with(&under)), "{name} is a value and an object");
        }
    }

    #[test]
    fn stats_as_filebeat_nests_them() {
        let v = stats(&about(), &snapshot());
        for (path, expected) in [
            ("/beat/info/uptime/ms", json!(61_000)),
            ("/beat/info/version", json!("8.19.3")),
            ("/beat/cpu/total/time/ms", json!(40)),
            ("/filebeat/events", json!({"active": 20, "added": 100, "done": 80})),
            ("/filebeat/harvester", json!({"closed": 2, "open_files": 3, "running": 3, "skipped": 1, "started": 5})),
            (
                "/libbeat/output",
                json!({
                    "events": {
                        "acked": 70, "active": 8, "batches": 8, "dead_letter": 3, "dropped": 2, "duplicates": 5, "failed": 9,
                        "toomany": 4, "total": 97,
                    },
                    "type": "elasticsearch",
                    "write": {"bytes": 5000, "errors": 1},
                }),
            ),
            (
                "/libbeat/pipeline/queue",
                json!({
                    "acked": 80, "filled": {"bytes": 300, "events": 20, "pct": 0.0063}, "max_bytes": 4096,
                    "max_events": 3200,
                }),
            ),
            ("/filebeat/input/log/files", json!({"renamed": 11, "truncated": 12})),
            ("/libbeat/config", json!({"reloads": 15, "scans": 14})),
            ("/registrar/writes", json!({"fail": 1, "success": 6, "total": 7})),
            ("/registrar/states", json!({"cleanup": 13, "current": 7, "update": 40})),
            ("/system/load", json!({"1": 0.5, "15": 0.125, "5": 0.25, "norm": {"1": 0.25, "15": 0.0625, "5": 0.125}})),
        ] {
            assert_eq!(v.pointer(path), Some(&expected), "{path}");
        }
    }

    #[test]
    fn who_this_is() {
        let v = info(&about());
        let of = |key: &str| v[key].as_str().unwrap().to_owned();
        assert_eq!(["beat", "name", "hostname", "uuid", "gid"].map(of), ["filebeat", "n", "h", "u", "100"]);
    }

    #[test]
    fn the_state_has_filebeats_names() {
        let mut about = about();
        let all = json!({
            "beat": {"name": "n"},
            "host": {"hostname": "h"},
            "input": {"count": 2, "names": ["filestream", "log"]},
            "management": {"enabled": false},
            "monitoring": {"cluster_uuid": "c"},
            "output": {"name": "elasticsearch"},
            "outputs": {"elasticsearch": {"cluster_uuid": ""}},
            "queue": {"name": "mem"},
            "service": {"id": "u", "name": "filebeat", "version": "8.19.3"},
        });
        assert_eq!(state(&about, &snapshot()), all);
        about.cluster.clear();
        assert!(state(&about, &snapshot()).get("monitoring").is_none());
    }

    #[test]
    fn inputs_of_one_type() {
        let input = |kind| Input { kind, ..Input::default() };
        let all = [input("log"), input("filestream")];
        let kinds =
            |kind| inputs(&all, kind).as_array().unwrap().iter().map(|i| i["input"].clone()).collect::<Vec<_>>();
        assert_eq!(kinds(None), ["log", "filestream"]);
        assert_eq!(kinds(Some("FileStream")), ["filestream"]);
        assert!(kinds(Some("tcp")).is_empty());
    }

    #[test]
    fn inputs_are_a_list() {
        let one = Input { id: "job".into(), kind: "filestream", bytes: 5, events: 2, acked: 1, refused: 1 };
        let v = inputs(&[one], None);
        assert_eq!(
            (&v[0]["id"], &v[0]["input"], &v[0]["events_processed_total"]),
            (&"job".into(), &"filestream".into(), &2.into())
        );
        assert_eq!(inputs(&[], None), json!([]));
    }
}
