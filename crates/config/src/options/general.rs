//! Everything outside of inputs and outputs, with our own `pillion.*`.

use super::Fate::{Harmless as H, Refused as R, Taken as T};
use super::Row;

const ALL: &str = "5789";
const NEW: &str = "789";

const SETUP: &str = "nothing is set up in Elasticsearch or Kibana: do that once with the tool of your choice";
const TEMPLATE: &str = "it isn't in the small index template that setup.template.enabled: true asks for; setup.template.json takes your own";
const WATCHED: &str = "Pillion isn't monitored this way; its receipt and its log tell what it did";
const OWN_LOG: &str = "Pillion's own log doesn't have this; what is delivered stays the same";
const BATCHES: &str = "batches are filled and sent by a rule of their own; nothing is lost or late by that";
const REMOVED: &str = "Filebeat 7 and later refuse this option of 5.6 and 6";
const MODULES: &str = "modules aren't supported: write the inputs out";
const RELOAD: &str =
    "inputs from further files aren't supported yet: put them into this file, or pass the file with another -c";
const DISK: &str = "this queue isn't there yet; the log files themselves are the buffer while the target is away";
const TOPOLOGY: &str = "topologies went away with 6.0";

pub(super) const GENERAL: &[Row] = &[
    Row("name", ALL, T),
    Row("hostname", "9", T),
    Row("tags", ALL, T),
    Row("fields", ALL, T),
    Row("fields.**", ALL, T),
    Row("fields_under_root", ALL, T),
    Row("processors", ALL, T),
    Row("max_procs", ALL, H("the few threads there are don't depend on it")),
    Row("gc_percent", NEW, H("there is no garbage collector")),
    Row("timestamp.precision", NEW, R("time stamps have milliseconds")),
    Row("queue_size", "5", H(BATCHES)),
    Row("bulk_queue_size", "5", H(BATCHES)),
    Row("refresh_topology_freq", "5", H(TOPOLOGY)),
    Row("topology_expire", "5", H(TOPOLOGY)),
    Row("geoip", "5", H("Filebeat 5 ignores it too")),
    Row("path.home", ALL, T),
    Row("path.config", ALL, T),
    Row("path.data", ALL, T),
    Row("path.logs", ALL, T),
    Row("keystore", NEW, H("keystores can't be read yet: pass secrets as variables")),
    Row("features.fqdn", NEW, R("the host's name in events is the short one; set `name` to say otherwise")),
    Row("features", NEW, H("this concerns the program, not what is delivered")),
    Row("seccomp", NEW, H("this concerns the program, not what is delivered")),
    Row("management", NEW, H("central management isn't there")),
    Row("migration", "7", H("this concerns dashboards and templates of 6")),
    // filebeat.*
    Row("filebeat.inputs", ALL, T),
    Row("filebeat.prospectors", "5", T),
    Row("filebeat.prospectors", NEW, R(REMOVED)),
    Row("filebeat.spool_size", "5", H(BATCHES)),
    Row("filebeat.idle_timeout", "5", H(BATCHES)),
    Row("filebeat.publish_async", "5", H(BATCHES)),
    Row("filebeat.registry_file", "5", T),
    Row("filebeat.registry_file", NEW, R(REMOVED)),
    Row("filebeat.registry_file_permissions", "5", T),
    Row("filebeat.registry_file_permissions", NEW, R(REMOVED)),
    Row("filebeat.registry_flush", "5", T),
    Row("filebeat.registry_flush", NEW, R(REMOVED)),
    Row("filebeat.config_dir", "5", R(RELOAD)),
    Row("filebeat.config_dir", NEW, R(REMOVED)),
    Row("filebeat.config.prospectors", "5", R(RELOAD)),
    Row("filebeat.config.prospectors", NEW, R(REMOVED)),
    Row("filebeat.config.inputs", ALL, R(RELOAD)),
    Row("filebeat.config.modules", ALL, R(MODULES)),
    Row("filebeat.modules", ALL, R(MODULES)),
    Row("filebeat.autodiscover", ALL, T),
    Row("filebeat.autodiscover.providers", ALL, T),
    Row("filebeat.overwrite_pipelines", NEW, H("there are no modules whose pipelines could be loaded")),
    Row(
        "filebeat.shutdown_timeout",
        ALL,
        H("the end waits for the last acknowledgement; `pillion.drain.timeout` limits it"),
    ),
    Row("filebeat.registry.path", NEW, T),
    Row("filebeat.registry.file_permissions", NEW, T),
    Row("filebeat.registry.flush", NEW, T),
    Row(
        "filebeat.registry.cleanup_interval",
        NEW,
        H("the registry keeps entries longer; what is delivered stays the same"),
    ),
    Row("filebeat.registry.migrate_file", NEW, T),
    Row("filebeat.registry.backend", "9", R("only the memlog registry is read and written")),
    // Queues.
    Row("queue.mem", NEW, T),
    Row("queue.mem.events", ALL, T),
    Row("queue.mem.flush.min_events", ALL, T),
    Row("queue.mem.flush.timeout", ALL, T),
    Row("queue.disk", NEW, R(DISK)),
    Row("queue.spool", "57", R(DISK)),
    // Outputs: what stands below the known ones is in `outputs.rs`.
    Row("output.elasticsearch", ALL, T),
    Row("output.logstash", ALL, T),
    Row("output.file", ALL, T),
    Row("output.console", ALL, T),
    Row("output.kafka", ALL, T),
    Row("output.redis", ALL, T),
    Row("output.discard", NEW, R("discarding all events isn't an output here")),
    Row("cloud.id", NEW, T),
    Row("cloud.auth", NEW, T),
    // Pillion's own log.
    Row("logging.level", ALL, T),
    Row("logging.json", NEW, T),
    Row("logging.to_stderr", NEW, T),
    Row("logging.to_files", ALL, T),
    Row("logging.metrics.enabled", ALL, T),
    Row("logging.metrics.period", ALL, T),
    Row("logging.metrics", ALL, H(OWN_LOG)),
    Row("logging", ALL, H(OWN_LOG)),
    // What Filebeat does besides shipping.
    Row("setup", ALL, H(SETUP)),
    Row("setup.template.enabled", NEW, T),
    Row("setup.template", NEW, H(TEMPLATE)),
    Row("dashboards", "5", H(SETUP)),
    Row("monitoring", NEW, H(WATCHED)),
    Row("xpack", ALL, H(WATCHED)),
    Row("instrumentation", NEW, H(WATCHED)),
    Row("http.enabled", NEW, T),
    Row("http.host", NEW, T),
    Row("http.port", NEW, T),
    Row("http.named_pipe", NEW, H("named pipes are Windows'")),
    Row("http", NEW, H("there is no profiler and no inspector built in")),
    // Ours.
    Row("pillion.compat", ALL, T),
    Row("pillion.agent_version", ALL, T),
    Row("pillion.exactly_once", ALL, T),
    Row("pillion.registry.beside_logs", ALL, T),
    Row("pillion.registry.name", ALL, T),
    Row("pillion.registry.heartbeat", ALL, T),
    Row("pillion.shards.root", ALL, T),
    Row("pillion.shards.count", ALL, T),
    Row("pillion.shards.grace", ALL, T),
    Row("pillion.shards.lease", ALL, T),
    Row("pillion.shards.board", ALL, T),
    Row("pillion.shards.group", ALL, T),
    Row("pillion.shards.namespace", ALL, T),
    Row("pillion.shards.index", ALL, T),
    Row("pillion.completion.flag", ALL, T),
    Row("pillion.completion.lock", ALL, T),
    Row("pillion.completion.restarts", ALL, T),
    Row("pillion.completion.process", ALL, T),
    Row("pillion.drain.timeout", ALL, T),
    Row("pillion.on_incomplete", ALL, T),
    Row("pillion.receipt", ALL, T),
    Row("pillion.completion.accept_stale", ALL, T),
    Row("pillion.drain.grace_period", ALL, T),
    Row("pillion.exec.on_full", ALL, T),
    Row("pillion.exec.spool_limit", ALL, T),
    Row("pillion.queue.bytes", ALL, T),
    Row("pillion.files.open", ALL, T),
    Row("pillion.files.order", ALL, T),
    Row("pillion.termination_log", ALL, T),
];
