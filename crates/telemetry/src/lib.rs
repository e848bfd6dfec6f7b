//! What Pillion says of itself.
//!
//! - [`init`]: its log.
//! - [`Settings`]: what the configuration asks for: the HTTP endpoint (`http.*`) and the line of metrics
//!   (`logging.metrics.*`).
//! - [`Snapshot`]: the numbers of one moment; [`filebeat`] shows them under Filebeat's names, [`prometheus`] as Prometheus'
//!   text.
//! - [`Endpoint`]: the HTTP server. [`log_metrics`]: the line every 30 s.
//!
//! It knows nothing of files, queues and outputs: whoever has the numbers brings them.

mod destination;
pub mod filebeat;
mod http;
mod log;
mod metrics_line;
mod process;
pub mod prometheus;
mod settings;
mod snapshot;

pub use destination::{Destination, Files};
pub use http::{Answers, Endpoint};
pub use log::{Form, MAX_LINE, Options, init};
pub use metrics_line::{Lines, log_metrics};
pub use process::{Process, Processes};
pub use settings::{Place, Settings};
pub use snapshot::{About, Input, Output, Queued, Read, Registered, Snapshot};
