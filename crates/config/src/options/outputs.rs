//! Options of outputs.

use super::Fate::{Harmless as H, Refused as R, Taken as T};
use super::Row;

const ALL: &str = "5789";
const NEW: &str = "789";
const ONE_WRITER: &str = "Filebeat ignores it too: there is one writer";
const FOREVER: &str = "what wasn't acknowledged is sent again, without limit";
const RETRIES: &str = "Filebeat ignores it too: what wasn't acknowledged is sent again, without limit";

/// The outputs that Filebeat has, and `forward`, which it hasn't.
pub(super) const NAMES: &[&str] =
    &["elasticsearch", "logstash", "kafka", "redis", "forward", "file", "console", "discard"];

/// The rows of an output by its name; `None` for one that Filebeat doesn't have.
pub(super) fn tables(name: &str) -> Option<Vec<&'static [Row]>> {
    Some(match name {
        "elasticsearch" => vec![COMMON, NETWORK, ELASTICSEARCH],
        "logstash" => vec![COMMON, NETWORK, LOGSTASH],
        "file" => vec![COMMON, FILE],
        "console" => vec![COMMON, CONSOLE],
        "redis" => vec![COMMON, REDIS],
        "kafka" => vec![COMMON, KAFKA],
        "forward" => vec![COMMON, FORWARD],
        "discard" => vec![NOT_YET],
        _ => return None,
    })
}

const NOT_YET: &[Row] = &[Row(
    "**",
    ALL,
    R("this output isn't there yet: elasticsearch, logstash, kafka, redis, forward, file and console are"),
)];

const TOPOLOGY: &str = "topologies went away with 6.0";
const FLUSH: &str = "part-filled batches are sent at once when nothing else is on its way";

const COMMON: &[Row] = &[
    Row("enabled", ALL, T),
    Row("queue.mem.**", "89", T),
    Row("queue.mem", "89", T),
    Row("queue.disk.**", "89", T),
    Row("queue.disk", "89", T),
];

const NETWORK: &[Row] = &[
    Row("hosts", ALL, T),
    Row("bulk_max_size", ALL, T),
    Row("worker", ALL, T),
    Row("workers", NEW, T),
    Row("loadbalance", ALL, T),
    Row("timeout", ALL, T),
    Row("compression_level", ALL, T),
    Row("backoff.init", NEW, T),
    Row("backoff.max", NEW, T),
    Row("max_retries", ALL, H(RETRIES)),
    Row("escape_html", ALL, T),
    Row("index", ALL, T),
    Row("ssl", ALL, T),
    Row("proxy_url", ALL, T),
    Row("proxy_disable", NEW, T),
    Row("flush_interval", "5", H(FLUSH)),
];

const ELASTICSEARCH: &[Row] = &[
    Row("host", NEW, H("Filebeat ignores it too: the option is `hosts`")),
    Row("protocol", ALL, T),
    Row("path", ALL, T),
    Row("parameters.**", ALL, T),
    Row("parameters", ALL, T),
    Row("headers.**", ALL, T),
    Row("headers", ALL, T),
    Row("username", ALL, T),
    Row("password", ALL, T),
    Row("api_key", NEW, T),
    Row("idle_connection_timeout", "89", T),
    Row("preset", "89", T),
    Row("indices.**", ALL, T),
    Row("indices", ALL, T),
    Row("pipeline", ALL, T),
    Row("pipelines.**", ALL, T),
    Row("pipelines", ALL, T),
    Row("non_indexable_policy.**", NEW, T),
    Row("non_indexable_policy", NEW, T),
    Row("allow_older_versions", NEW, H("older servers are always spoken to")),
    Row("proxy_headers.**", NEW, T),
    Row("proxy_headers", NEW, T),
    Row("kerberos", NEW, R("Kerberos isn't supported")),
    Row("template.enabled", "5", T),
    Row("template.name", "5", T),
    Row("template.path", "5", T),
    Row("template.overwrite", "5", T),
    Row("template.versions", "5", H("the form of the template is that of the server")),
    Row("save_topology", "5", H(TOPOLOGY)),
    Row("ilm", "7", H("it stands at setup.ilm from 7 on")),
];

const LOGSTASH: &[Row] = &[
    Row("port", "5", T),
    Row("slow_start", ALL, T),
    Row("ttl", NEW, T),
    Row("pipelining", ALL, T),
    Row("proxy_use_local_resolver", ALL, T),
];

const REDIS: &[Row] = &[
    Row("hosts", ALL, T),
    Row("port", "5", T),
    Row("index", ALL, T),
    Row("key", ALL, T),
    Row("keys.**", ALL, T),
    Row("keys", ALL, T),
    Row("username", NEW, T),
    Row("password", ALL, T),
    Row("db", ALL, T),
    Row("datatype", ALL, T),
    Row("codec.json.pretty", ALL, T),
    Row("codec.json.escape_html", NEW, T),
    Row("codec.format.string", ALL, T),
    Row("codec.json", ALL, T),
    Row("codec.format", ALL, T),
    Row("worker", ALL, T),
    Row("workers", NEW, T),
    Row("loadbalance", ALL, T),
    Row("timeout", ALL, T),
    Row("backoff.init", NEW, T),
    Row("backoff.max", NEW, T),
    Row("max_retries", ALL, H(RETRIES)),
    Row("bulk_max_size", ALL, T),
    Row("ssl", ALL, T),
    Row("proxy_url", ALL, T),
    Row("proxy_use_local_resolver", ALL, T),
    Row("save_topology", "5", H(TOPOLOGY)),
    Row("host_topology", "5", H(TOPOLOGY)),
    Row("password_topology", "5", H(TOPOLOGY)),
    Row("db_topology", "5", H(TOPOLOGY)),
    Row("flush_interval", "5", H(FLUSH)),
];

/// Ours: the names are Fluentd's, or those of the other outputs.
const FORWARD: &[Row] = &[
    Row("hosts", ALL, T),
    Row("tag", ALL, T),
    Row("shared_key", ALL, T),
    Row("self_hostname", ALL, T),
    Row("username", ALL, T),
    Row("password", ALL, T),
    Row("require_ack_response", ALL, T),
    Row("ack_response_timeout", ALL, T),
    Row("compression", ALL, T),
    Row("compression_level", ALL, T),
    Row("pipelining", ALL, T),
    Row("bulk_max_size", ALL, T),
    Row("worker", ALL, T),
    Row("workers", ALL, T),
    Row("loadbalance", ALL, T),
    Row("timeout", ALL, T),
    Row("backoff.init", ALL, T),
    Row("backoff.max", ALL, T),
    Row("max_retries", ALL, H(FOREVER)),
    Row("ssl", ALL, T),
    Row("proxy_url", ALL, T),
    Row("proxy_use_local_resolver", ALL, T),
];

const KAFKA: &[Row] = &[
    Row("hosts", ALL, T),
    Row("version", ALL, T),
    Row("topic", ALL, T),
    Row("topics.**", ALL, T),
    Row("topics", ALL, T),
    Row("key", ALL, T),
    Row("headers.**", NEW, T),
    Row("headers", NEW, T),
    Row("partition.**", ALL, T),
    Row("partition", ALL, T),
    Row("codec.json.pretty", ALL, T),
    Row("codec.json.escape_html", NEW, T),
    Row("codec.format.string", ALL, T),
    Row("codec.json", ALL, T),
    Row("codec.format", ALL, T),
    Row("compression", ALL, T),
    Row("compression_level", NEW, T),
    Row("required_acks", ALL, T),
    Row("idempotent", NEW, T),
    Row("username", ALL, T),
    Row("password", ALL, T),
    Row("sasl.mechanism", NEW, T),
    Row("kerberos", NEW, R("Kerberos isn't supported: PLAIN and SCRAM are (sasl.mechanism)")),
    Row("client_id", ALL, T),
    Row("worker", ALL, T),
    Row("workers", NEW, T),
    Row("timeout", ALL, T),
    Row("broker_timeout", ALL, T),
    Row("max_message_bytes", ALL, T),
    Row("bulk_max_size", ALL, T),
    Row("backoff.init", NEW, T),
    Row("backoff.max", NEW, T),
    Row("max_retries", ALL, H(RETRIES)),
    Row("metadata.retry.backoff", ALL, T),
    Row("metadata.refresh_frequency", ALL, T),
    Row("metadata.retry.max", ALL, H("topics that aren't there yet are asked for until they are")),
    Row("metadata.full", NEW, H("only the topics that are written to are asked for")),
    Row("ssl", ALL, T),
    Row("bulk_flush_frequency", NEW, H(FLUSH)),
    Row("flush_interval", "5", H(FLUSH)),
    Row("channel_buffer_size", ALL, H("there is no channel of its own between queue and brokers")),
    Row("keep_alive", ALL, H("brokers that are gone show by `timeout`")),
];

const FILE: &[Row] = &[
    Row("bulk_max_size", ALL, H("Filebeat ignores it too: events are written as they come")),
    Row("worker", ALL, H(ONE_WRITER)),
    Row("workers", NEW, H(ONE_WRITER)),
    Row("path", ALL, T),
    Row("filename", ALL, T),
    Row("rotate_every_kb", ALL, T),
    Row("number_of_files", ALL, T),
    Row("permissions", NEW, T),
    Row("rotate_on_startup", NEW, T),
    Row("codec.json.pretty", ALL, T),
    Row("codec.json.escape_html", NEW, T),
    Row("codec.format.string", ALL, T),
    Row("codec.json", ALL, T),
    Row("codec.format", ALL, T),
];

const CONSOLE: &[Row] = &[
    Row("bulk_max_size", ALL, T),
    Row("worker", ALL, H(ONE_WRITER)),
    Row("workers", NEW, H(ONE_WRITER)),
    Row("pretty", ALL, T),
    Row("codec.json.pretty", ALL, T),
    Row("codec.json.escape_html", NEW, T),
    Row("codec.format.string", ALL, T),
    Row("codec.json", ALL, T),
    Row("codec.format", ALL, T),
];

/// `ssl.*` of every output.
pub(super) const SSL: &[Row] = &[
    Row("enabled", ALL, T),
    Row("verification_mode", ALL, T),
    Row("supported_protocols", ALL, T),
    Row("certificate_authorities", ALL, T),
    Row("certificate", ALL, T),
    Row("key", ALL, T),
    Row("key_passphrase", ALL, T),
    Row("key_passphrase_path", NEW, T),
    Row("cipher_suites", ALL, T),
    Row("curve_types", ALL, T),
    Row("renegotiation", ALL, T),
    Row("ca_sha256", NEW, T),
    Row("ca_trusted_fingerprint", NEW, T),
    Row("certificate_reload", NEW, H("certificates are read once, at the start")),
    Row("restart_on_cert_change", NEW, H("certificates are read once, at the start")),
];
