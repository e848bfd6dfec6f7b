//! What a configuration says of queues: `queue.mem`, `queue.disk`, 5.6's spooler.
//!
//! Comes in: the configuration's root. Goes out: limits of the memory queue, and the disk queue's options where there is one
//! (spec: Filebeat's reference, "Configure the internal queue"; `libbeat/publisher/queue/diskqueue/config.go`).
//!
//! Always holds: one queue is configured, in one place. Tested below.

use std::path::PathBuf;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};
use pillion_queue::Limits;
use pillion_queue::disk::DiskOptions;

use super::QUEUE_BYTES;

/// A disk queue and its files are no smaller, as with Filebeat.
const MIN_DISK: u64 = 10_000_000;
const MIN_SEGMENT: u64 = 1_000_000;
/// How long files are where the queue has no limit.
const SEGMENT: u64 = 100 << 20;

/// The memory queue, and the disk queue before it.
pub(super) fn read(root: &Section<'_>) -> Result<(Limits, Option<DiskOptions>), Error> {
    let bytes = root.size("pillion.queue.bytes")?.map_or(QUEUE_BYTES, |n| n as usize).max(64 << 10);
    if root.compat() == Compat::V5 {
        let (events, flush) = spooler(root)?;
        return Ok((Limits { events, bytes, flush }, None));
    }
    let (place, preset) = queue_place(root)?;
    if let Some(disk) = disk(root, &place, preset.is_some())? {
        // What was read ahead goes out as it is: it has waited for nothing but the disk.
        return Ok((Limits { events: disk.read_ahead.max(1), bytes, flush: None }, Some(disk)));
    }
    let (events, flush) = memory(root, &place, preset)?;
    Ok((Limits { events, bytes, flush }, None))
}

fn spooler(root: &Section<'_>) -> Result<(usize, Option<(usize, Duration)>), Error> {
    let size = root.u64_in("filebeat.spool_size", 1..=10_000_000)?;
    let timeout = root.duration("filebeat.idle_timeout")?;
    let events = size.unwrap_or(2048) as usize;
    Ok((events, timeout.map(|t| (events, t))))
}

/// `queue.mem`. Flush settings count only when they are written down: Filebeat's defaults hold a line back for seconds.
fn memory(root: &Section<'_>, place: &str, preset: Option<usize>) -> Result<(usize, Option<(usize, Duration)>), Error> {
    let (default, min_default) = if root.compat() == Compat::V7 { (4096, 2048) } else { (3200, 1600) };
    let key = |name: &str| format!("{place}queue.mem.{name}");
    let events = root.u64_in(&key("events"), 32..=100_000_000)?.map_or(default, |n| n as usize);
    let min = root.usize(&key("flush.min_events"))?;
    let timeout = root.duration(&key("flush.timeout"))?;
    let flush = (min.is_some() || timeout.is_some())
        .then(|| (min.unwrap_or(min_default).clamp(1, events), timeout.unwrap_or(Duration::from_secs(10))));
    // A timeout of 0 is Filebeat's way of saying "do not wait".
    let flush = flush.filter(|(_, t)| !t.is_zero());
    let Some(events) = preset else { return Ok((events, flush)) };
    let queue = format!("{place}queue");
    if root.has(&queue) {
        root.warn(&queue, "the preset of the output sets the queue itself", "remove one of the two");
    }
    Ok((events, None))
}

/// `queue.disk`, when it is there and on.
fn disk(root: &Section<'_>, place: &str, preset: bool) -> Result<Option<DiskOptions>, Error> {
    let (section, memory) = (format!("{place}queue.disk"), format!("{place}queue.mem"));
    if !root.has(&section) || !root.is_on(&format!("{section}.enabled"))? {
        return Ok(None);
    }
    let other = match (root.has(&memory) && root.is_on(&format!("{memory}.enabled"))?, preset) {
        (true, _) => Some(("queue.mem is set too: there is one queue", "remove one of the two")),
        (_, true) => Some(("the preset of the output sets the memory queue", "write `preset: custom`")),
        _ => None,
    };
    if let Some((reason, remedy)) = other {
        return Err(root.error(&section, reason, remedy));
    }
    let key = |name: &str| format!("{section}.{name}");
    let (max_size, segment_size) = sizes(root, &section)?;
    let first = root.duration(&key("retry_interval"))?.unwrap_or(Duration::from_secs(1));
    let most = root.duration(&key("max_retry_interval"))?;
    if most.is_some_and(|most| most < first) {
        return Err(root.error(&key("max_retry_interval"), "less than retry_interval", "make it the greater one"));
    }
    Ok(Some(DiskOptions {
        path: root.str(&key("path"))?.filter(|path| !path.is_empty()).map(PathBuf::from),
        max_size,
        segment_size,
        read_ahead: root.u64_in(&key("read_ahead"), 1..=1_000_000)?.map_or(512, |n| n as usize),
        write_ahead: root.u64_in(&key("write_ahead"), 1..=1_000_000)?.map_or(2048, |n| n as usize),
        retry: (first, most.unwrap_or(Duration::from_secs(30)).max(first)),
    }))
}

/// `max_size` and `segment_size`.
fn sizes(root: &Section<'_>, section: &str) -> Result<(u64, u64), Error> {
    let key = |name: &str| format!("{section}.{name}");
    let Some(max_size) = root.size(&key("max_size"))? else {
        let remedy = "write `max_size: 10GB`, or 0 for no limit but the disk's";
        return Err(root.error(section, "max_size is missing: how much of the disk it may take", remedy));
    };
    if max_size != 0 && max_size < MIN_DISK {
        return Err(root.error(&key("max_size"), "less than 10MB", "use 10MB or more"));
    }
    let Some(segment) = root.size(&key("segment_size"))? else {
        return Ok((max_size, if max_size == 0 { SEGMENT } else { max_size / 10 }));
    };
    if segment < MIN_SEGMENT {
        return Err(root.error(&key("segment_size"), "less than 1MB", "use 1MB or more"));
    }
    if max_size != 0 && max_size < segment.saturating_mul(2) {
        let reason = "max_size must be at least twice as big";
        return Err(root.error(&key("segment_size"), reason, "leave it out: it is a tenth of max_size"));
    }
    Ok((max_size, segment))
}

/// Before which keys the queue's options stand: at the top, or (8 and 9) below the output; and how many events the
/// output's preset gives it. A preset wins over all, and both places at once are an error, as in Filebeat
/// (`libbeat/outputs/elasticsearch/config_presets.go`, `libbeat/cmd/instance/beat.go`).
fn queue_place(root: &Section<'_>) -> Result<(String, Option<usize>), Error> {
    if !matches!(root.compat(), Compat::V8 | Compat::V9) {
        return Ok((String::new(), None));
    }
    for name in ["elasticsearch", "logstash", "kafka", "redis", "forward", "file", "console"] {
        let output = format!("output.{name}");
        if !root.has(&output) || !root.is_on(&format!("{output}.enabled"))? {
            continue;
        }
        let preset = match name {
            "elasticsearch" => root.str("output.elasticsearch.preset")?,
            _ => None,
        };
        let preset = match preset.as_deref() {
            Some("balanced" | "scale") => Some(3200),
            Some("throughput") => Some(12_800),
            Some("latency") => Some(4100),
            _ => None,
        };
        if !root.has(&format!("{output}.queue")) {
            return Ok((String::new(), preset));
        }
        if preset.is_none() && root.has("queue") {
            let reason = "the queue is set at the top and below the output: Filebeat takes only one of them";
            return Err(root.error("queue", reason, "remove one of the two"));
        }
        return Ok((format!("{output}."), preset));
    }
    Ok((String::new(), None))
}

#[cfg(test)]
mod tests {
    use super::super::EngineSettings;
    use super::*;
    use pillion_config::Config;

    fn settings(yaml: &str) -> Result<EngineSettings, Error> {
        EngineSettings::from_section(&Config::from_yaml(yaml)?.root())
    }

    #[test]
    fn the_queue_is_set_at_the_top_or_below_the_output_or_by_its_preset() {
        let second = Duration::from_secs(1);
        for (yaml, events, flush) in [
            ("pillion.compat: 8\noutput.elasticsearch.queue.mem.events: 64", 64, None),
            (
                "pillion.compat: 9\noutput.logstash: {queue.mem: {events: 99, flush.timeout: 1s}}",
                99,
                Some((99, second)),
            ),
            ("pillion.compat: 8\noutput.file.queue.mem.events: 64\noutput.file.enabled: false", 3200, None),
            ("pillion.compat: 8\noutput.elasticsearch.preset: throughput", 12_800, None),
            ("pillion.compat: 8\noutput.elasticsearch: {preset: latency, queue.mem.events: 64}", 4100, None),
            ("pillion.compat: 8\nqueue.mem.events: 64\noutput.elasticsearch.preset: custom", 64, None),
            ("pillion.compat: 7\nqueue.mem.events: 64\noutput.elasticsearch.queue.mem.events: 65", 64, None),
        ] {
            let s = settings(yaml).unwrap();
            assert_eq!((s.queue.events, s.queue.flush), (events, flush), "{yaml}");
        }
        let both = "pillion.compat: 8\nqueue.mem.events: 64\noutput.elasticsearch.queue.mem.events: 65";
        assert!(settings(both).unwrap_err().to_string().contains("only one of them"));
        let config = Config::from_yaml("output.elasticsearch: {preset: scale, queue.mem.events: 64}").unwrap();
        EngineSettings::from_section(&config.root()).unwrap();
        assert_eq!(config.warnings().len(), 1);
    }

    #[test]
    fn a_disk_queue_has_filebeats_defaults_and_bounds() {
        let disk = |yaml: &str| settings(yaml).map(|s| s.disk);
        let second = Duration::from_secs;
        let plain = DiskOptions {
            path: None,
            max_size: 10 << 30,
            segment_size: 1 << 30,
            read_ahead: 512,
            write_ahead: 2048,
            retry: (second(1), second(30)),
        };
        assert_eq!(disk("queue.disk.max_size: 10GiB").unwrap(), Some(plain.clone()));
        assert_eq!(settings("queue.disk.max_size: 10GiB").unwrap().queue.events, 512);
        let unlimited = DiskOptions { max_size: 0, segment_size: SEGMENT, ..plain };
        assert_eq!(disk("pillion.compat: 7\nqueue.disk: {max_size: 0}").unwrap(), Some(unlimited));
        let all = "pillion.compat: 9\noutput.kafka.queue.disk: {max_size: 20000000, path: /q, segment_size: 2000000, \
                   read_ahead: 9, write_ahead: 8, retry_interval: 2s, max_retry_interval: 2s}";
        let all_of_it = DiskOptions {
            path: Some("/q".into()),
            max_size: 20_000_000,
            segment_size: 2_000_000,
            read_ahead: 9,
            write_ahead: 8,
            retry: (second(2), second(2)),
        };
        assert_eq!(disk(all).unwrap(), Some(all_of_it));
        assert_eq!(disk("queue.disk: {enabled: false}").unwrap(), None);
    }

    #[test]
    fn a_disk_queue_that_cannot_work_is_refused_with_its_place() {
        for (bad, said) in [
            ("queue.disk: {path: /q}", "max_size is missing"),
            ("queue.disk.max_size: 9999999", "less than 10MB"),
            ("queue.disk: {max_size: 10MB, segment_size: 6MB}", "twice as big"),
            ("queue.disk: {max_size: 10MB, segment_size: 999999}", "less than 1MB"),
            ("queue.disk: {max_size: 10MB, retry_interval: 3s, max_retry_interval: 2s}", "less than retry_interval"),
            ("queue: {disk.max_size: 10MB, mem.events: 64}", "there is one queue"),
            ("pillion.compat: 8\noutput.elasticsearch: {preset: latency, queue.disk.max_size: 10MB}", "preset: custom"),
            ("queue.disk.max_size: 10MB\npillion.registry.beside_logs: true", "never send"),
            ("queue.disk.max_size: 10MB\npillion.shards.root: /logs", "never send"),
        ] {
            let error = settings(bad).unwrap_err();
            assert!(error.to_string().contains(said) && error.line().is_some(), "{bad}: {error}");
        }
    }
}
