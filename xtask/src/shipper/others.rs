//! How Fluent Bit, Vector and the OpenTelemetry Collector are told to ship the same files to the same endpoint.
//!
//! Always holds: they begin at a file's beginning, keep their places in the files on disk, and have else their defaults
//! but for one, as their manuals give them: Fluent Bit 4 (`tail`, `es`), Vector 0.50 (`file`, `elasticsearch`), the Collector 0.148
//! (`filelog` with `file_storage`, `elasticsearch`).

use super::{Bulk, Place};

/// `fluent-bit.yaml`.
pub(super) fn fluent_bit(place: &Place, bulk: &Bulk) -> String {
    let (logs, home) = (place.logs(), place.home());
    let gzip = if bulk.gzip { "\n      compress: gzip" } else { "" };
    format!(
        "pipeline:
  inputs:
    - name: tail
      path: {}/{}
      read_from_head: true
      db: {}/positions.db
  outputs:
    - name: es
      match: '*'
      host: 127.0.0.1
      port: {}
      suppress_type_name: true{gzip}
",
        logs.display(),
        bulk.files,
        home.display(),
        bulk.port
    )
}

/// `vector.yaml`.
pub(super) fn vector(place: &Place, bulk: &Bulk) -> String {
    let (logs, home) = (place.logs(), place.home());
    let gzip = if bulk.gzip { "\n    compression: gzip" } else { "" };
    format!(
        "data_dir: {}
sources:
  files:
    type: file
    include: ['{}/{}']
sinks:
  target:
    type: elasticsearch
    inputs: [files]
    endpoints: ['http://127.0.0.1:{}']
    api_version: v7{gzip}
",
        home.display(),
        logs.display(),
        bulk.files,
        bulk.port
    )
}

/// The Collector's configuration; it compresses by default, at level 1. Its queue of 10 requests isn't the default's: with
/// that, each batch waited 10 s for its least size, which 10 requests of 100 lines never reach.
pub(super) fn otelcol(place: &Place, bulk: &Bulk) -> String {
    let (logs, home) = (place.logs(), place.home());
    format!(
        "extensions:
  file_storage:
    directory: {}
receivers:
  filelog:
    include: ['{}/{}']
    start_at: beginning
    storage: file_storage
exporters:
  elasticsearch:
    endpoints: ['http://127.0.0.1:{}']
    sending_queue:
      queue_size: 1000
service:
  extensions: [file_storage]
  telemetry:
    metrics:
      level: none
  pipelines:
    logs:
      receivers: [filelog]
      exporters: [elasticsearch]
",
        home.display(),
        logs.display(),
        bulk.files,
        bulk.port
    )
}
