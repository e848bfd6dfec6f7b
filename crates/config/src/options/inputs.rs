//! Options of inputs (5.6: prospectors).

use super::Fate::{Harmless as H, Refused as R, Taken as T};
use super::Row;

const ALL: &str = "5789";
const BUFFER: &str = "files are read in chunks of a bounded size of their own";
const NEW: &str = "789";

const MODULES: &str = "a module stands below `filebeat.modules`, or in a file of `filebeat.config.modules`";
const CLEAN: &str = "the registry keeps the file's entry longer; what is delivered stays the same";

/// The types of inputs that are there.
pub(super) const TYPES: &[&str] =
    &["log", "filestream", "container", "docker", "stdin", "tcp", "udp", "unix", "syslog"];

/// The rows of an input by its type.
pub(super) fn tables(name: &str) -> Vec<&'static [Row]> {
    match name {
        "filestream" => vec![COMMON, FILESTREAM],
        "container" => vec![COMMON, HARVEST, LOG, CONTAINER],
        "docker" => vec![COMMON, HARVEST, LOG, DOCKER],
        "stdin" => vec![COMMON, HARVEST],
        "tcp" => vec![COMMON, SOCKET, INTERNET, STREAMS],
        "udp" => vec![COMMON, SOCKET, INTERNET, DATAGRAMS],
        "unix" => vec![COMMON, SOCKET, STREAMS, UNIX],
        "syslog" => vec![COMMON, SYSLOG],
        _ => vec![COMMON, HARVEST, LOG, DOCKER_JSON],
    }
}

/// What is listened with.
const SOCKET: &[Row] = &[Row("max_message_size", NEW, T), Row("timeout", NEW, T)];

const INTERNET: &[Row] = &[Row("host", NEW, T), Row("network", "89", T)];

const STREAMS: &[Row] = &[Row("framing", NEW, T), Row("line_delimiter", NEW, T), Row("max_connections", NEW, T)];

const DATAGRAMS: &[Row] = &[Row("read_buffer", NEW, T)];

const UNIX: &[Row] = &[Row("path", NEW, T), Row("group", NEW, T), Row("mode", NEW, T), Row("socket_type", NEW, T)];

const SYSLOG: &[Row] = &[
    Row("format", NEW, T),
    Row("timezone", NEW, T),
    Row("protocol", NEW, T),
    Row("protocol.tcp.host", NEW, T),
    Row("protocol.tcp.network", "89", T),
    Row("protocol.tcp.max_message_size", NEW, T),
    Row("protocol.tcp.timeout", NEW, T),
    Row("protocol.tcp.framing", NEW, T),
    Row("protocol.tcp.line_delimiter", NEW, T),
    Row("protocol.tcp.max_connections", NEW, T),
    Row("protocol.udp.host", NEW, T),
    Row("protocol.udp.network", "89", T),
    Row("protocol.udp.max_message_size", NEW, T),
    Row("protocol.udp.timeout", NEW, T),
    Row("protocol.udp.read_buffer", NEW, T),
    Row("protocol.unix.path", NEW, T),
    Row("protocol.unix.group", NEW, T),
    Row("protocol.unix.mode", NEW, T),
    Row("protocol.unix.socket_type", NEW, T),
    Row("protocol.unix.max_message_size", NEW, T),
    Row("protocol.unix.timeout", NEW, T),
    Row("protocol.unix.framing", NEW, T),
    Row("protocol.unix.line_delimiter", NEW, T),
    Row("protocol.unix.max_connections", NEW, T),
];

/// `ssl` of an input that listens.
pub(super) const SSL: &[Row] = &[
    Row("enabled", NEW, T),
    Row("certificate", NEW, T),
    Row("key", NEW, T),
    Row("key_passphrase", NEW, T),
    Row("key_passphrase_path", NEW, T),
    Row("certificate_authorities", NEW, T),
    Row("client_authentication", NEW, T),
    Row("verification_mode", NEW, T),
    Row("supported_protocols", NEW, T),
    Row("cipher_suites", NEW, T),
    Row("curve_types", NEW, T),
    Row("renegotiation", NEW, T),
    Row("ca_sha256", NEW, R("clients are checked by `certificate_authorities` alone")),
    Row("ca_trusted_fingerprint", NEW, R("clients are checked by `certificate_authorities` alone")),
    Row("certificate_reload", NEW, H("certificates are read once, at the start")),
    Row("restart_on_cert_change", NEW, H("certificates are read once, at the start")),
];

/// The input types that speak TLS.
pub(super) const WITH_TLS: &[&str] = &["tcp", "syslog"];

const COMMON: &[Row] = &[
    Row("type", ALL, T),
    Row("input_type", "5", T),
    Row("enabled", ALL, T),
    Row("id", NEW, T),
    Row("tags", ALL, T),
    Row("fields.**", ALL, T),
    Row("fields", ALL, T),
    Row("fields_under_root", ALL, T),
    Row("pipeline", ALL, T),
    Row("index", NEW, T),
    Row("keep_null", NEW, T),
    Row("publisher_pipeline.disable_host", NEW, T),
    Row("processors", ALL, T),
    Row("service.type", NEW, T),
    Row("_module_name", NEW, T),
    Row("_fileset_name", NEW, T),
    Row("module", ALL, R(MODULES)),
];

/// What log, container and stdin share.
const HARVEST: &[Row] = &[
    Row("encoding", ALL, T),
    Row("include_lines", ALL, T),
    Row("exclude_lines", ALL, T),
    Row("max_bytes", ALL, T),
    Row("harvester_buffer_size", ALL, H(BUFFER)),
    Row("line_terminator", NEW, T),
    Row("document_type", "5", T),
    Row("json", ALL, T),
    Row("json.message_key", ALL, T),
    Row("json.keys_under_root", ALL, T),
    Row("json.overwrite_keys", ALL, T),
    Row("json.add_error_key", ALL, T),
    Row("json.document_id", NEW, T),
    Row("json.ignore_decoding_error", ALL, T),
    Row("json.expand_keys", NEW, T),
    Row("multiline.type", NEW, T),
    Row("multiline.pattern", ALL, T),
    Row("multiline.negate", ALL, T),
    Row("multiline.match", ALL, T),
    Row("multiline.max_lines", ALL, T),
    Row("multiline.timeout", ALL, T),
    Row("multiline.flush_pattern", ALL, T),
    Row("multiline.count_lines", NEW, T),
    Row("multiline.skip_newline", NEW, T),
    Row("close_eof", ALL, T),
    Row("close_inactive", ALL, T),
    Row("close_timeout", ALL, T),
    Row("backoff", ALL, T),
    Row("max_backoff", ALL, T),
    Row("backoff_factor", ALL, T),
    Row("tail_files", ALL, T),
];

const LOG: &[Row] = &[
    Row("paths", ALL, T),
    Row("exclude_files", ALL, T),
    Row("ignore_older", ALL, T),
    Row("close_renamed", ALL, T),
    Row("close_removed", ALL, T),
    Row("close_older", "5", T),
    Row("force_close_files", "5", T),
    Row("clean_inactive", ALL, H(CLEAN)),
    Row("clean_removed", ALL, T),
    Row("scan_frequency", ALL, T),
    Row("scan.sort", NEW, H("files are read side by side, each in turn")),
    Row("scan.order", NEW, H("files are read side by side, each in turn")),
    Row("symlinks", ALL, T),
    Row("harvester_limit", ALL, H("files cost bytes here, not threads: all are read at the same time")),
    Row("recursive_glob.enabled", ALL, T),
    Row("file_identity.native", NEW, T),
    Row("file_identity.path", NEW, T),
    Row("file_identity.inode_marker.path", NEW, T),
    Row("file_identity", NEW, T),
    Row("allow_deprecated_use", "9", T),
    Row("run_as_filestream", "9", H("Filebeat heeds it under Elastic Agent alone")),
];

const CONTAINER: &[Row] = &[Row("stream", NEW, T), Row("format", NEW, T)];

/// The input that 8 has no more.
const DOCKER: &[Row] = &[
    Row("containers.ids", "57", T),
    Row("containers.path", "57", T),
    Row("containers.stream", "57", T),
    Row("combine_partials", "57", T),
    Row(
        "combine_partial",
        "57",
        H("Filebeat ignores it too, though its manual has it: the option is `combine_partials`, and on by itself"),
    ),
    Row("cri.parse_flags", "57", T),
    Row("cri.force", "57", T),
];

/// What Filebeat's manual doesn't have: `docker` and `container` are made of it there.
const DOCKER_JSON: &[Row] = &[
    Row("docker-json.stream", ALL, T),
    Row("docker-json.partial", ALL, T),
    Row("docker-json.format", ALL, T),
    Row("docker-json.cri_flags", ALL, T),
];

const FILESTREAM: &[Row] = &[
    Row("paths", NEW, T),
    Row(
        "allow_deprecated_id_duplication",
        "9",
        R("two inputs with one id share their registry entries and lose lines"),
    ),
    Row("file_identity.native", NEW, T),
    Row("file_identity.path", NEW, T),
    Row("file_identity.inode_marker.path", NEW, T),
    Row("file_identity.fingerprint", NEW, T),
    Row("file_identity.fingerprint.growing", NEW, T),
    Row("file_identity", NEW, T),
    Row("prospector.scanner.check_interval", NEW, T),
    Row("prospector.scanner.include_files", NEW, T),
    Row("prospector.scanner.exclude_files", NEW, T),
    Row("prospector.scanner.symlinks", NEW, T),
    Row("prospector.scanner.recursive_glob", NEW, T),
    Row("prospector.scanner.resend_on_touch", NEW, T),
    Row("prospector.scanner.fingerprint.enabled", NEW, T),
    Row("prospector.scanner.fingerprint.offset", NEW, T),
    Row("prospector.scanner.fingerprint.length", NEW, T),
    Row("ignore_older", NEW, T),
    Row("ignore_inactive", NEW, T),
    Row("close.on_state_change.inactive", NEW, T),
    Row("close.on_state_change.renamed", NEW, T),
    Row("close.on_state_change.removed", NEW, T),
    Row("close.on_state_change.check_interval", NEW, T),
    Row("close.reader.on_eof", NEW, T),
    Row("close.reader.after_interval", NEW, T),
    Row("read_until_eof", "89", H("reading to the end before stopping is what always happens")),
    Row("clean_inactive", NEW, H(CLEAN)),
    Row("legacy_clean_inactive", NEW, H(CLEAN)),
    Row("clean_removed", NEW, T),
    Row("backoff.init", NEW, T),
    Row("backoff.max", NEW, T),
    Row("harvester_limit", NEW, H("files cost bytes here, not threads: all are read at the same time")),
    Row("include_file_owner_name", "9", T),
    Row("include_file_owner_group_name", "9", T),
    Row("include_file_fingerprint", "9", T),
    Row("include_lines", NEW, T),
    Row("exclude_lines", NEW, T),
    Row("buffer_size", NEW, H(BUFFER)),
    Row("harvester_buffer_size", NEW, H("Filebeat ignores it too: the option is `buffer_size`")),
    Row("message_max_bytes", NEW, T),
    Row("line_terminator", NEW, T),
    Row("encoding", NEW, T),
    Row("seek_to_tail", NEW, T),
    Row("compression", "9", T),
    Row("gzip_experimental", "9", T),
    Row("delete.enabled", "9", T),
    Row("delete.grace_period", "9", T),
    Row("take_over", NEW, T),
    Row("take_over.enabled", NEW, T),
    Row("take_over.from_ids", NEW, T),
    Row("take_over.stream", NEW, T),
    Row(
        "rotation.external",
        NEW,
        H("a copytruncate is recognised by the file's size, whatever the rotated file is called"),
    ),
    Row("parsers.*.multiline.type", NEW, T),
    Row("parsers.*.multiline.pattern", NEW, T),
    Row("parsers.*.multiline.negate", NEW, T),
    Row("parsers.*.multiline.match", NEW, T),
    Row("parsers.*.multiline.max_lines", NEW, T),
    Row("parsers.*.multiline.timeout", NEW, T),
    Row("parsers.*.multiline.flush_pattern", NEW, T),
    Row("parsers.*.multiline.count_lines", NEW, T),
    Row("parsers.*.multiline.skip_newline", NEW, T),
    Row("parsers.*.ndjson", NEW, T),
    Row("parsers.*.ndjson.target", NEW, T),
    Row("parsers.*.ndjson.message_key", NEW, T),
    Row("parsers.*.ndjson.document_id", NEW, T),
    Row("parsers.*.ndjson.keys_under_root", NEW, T),
    Row("parsers.*.ndjson.overwrite_keys", NEW, T),
    Row("parsers.*.ndjson.add_error_key", NEW, T),
    Row("parsers.*.ndjson.ignore_decoding_error", NEW, T),
    Row("parsers.*.ndjson.expand_keys", NEW, T),
    Row("parsers.*.ndjson.field", NEW, T),
    Row("parsers.*.container", NEW, T),
    Row("parsers.*.container.stream", NEW, T),
    Row("parsers.*.container.format", NEW, T),
    Row("parsers.*.syslog", "89", T),
    Row("parsers.*.syslog.format", "89", T),
    Row("parsers.*.syslog.timezone", "89", T),
    Row("parsers.*.syslog.log_errors", "89", T),
    Row("parsers.*.syslog.add_error_key", "89", T),
    Row("parsers.*.include_message.patterns", NEW, T),
    Row(
        "parsers.*.auditd",
        "9",
        R(
            "records of the Linux audit log aren't taken apart: that takes tables of system calls, errors and record types",
        ),
    ),
];
