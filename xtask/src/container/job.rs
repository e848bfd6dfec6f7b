//! Lines of a Job, written beside a container and counted at an endpoint.
//!
//! Always holds: each line is unique; the flag is made in the same millisecond as the last line.

use std::fs;
use std::io::Write as _;

use super::{Container, LIMIT, Spec};
use crate::Outcome;
use crate::sink::{Depth, Protocol, Sink};

/// A Job's lines and where they go to.
pub(super) struct Job {
    pub(super) sink: Sink,
    written: Vec<String>,
}

impl Job {
    pub(super) fn new() -> Outcome<Job> {
        Ok(Job { sink: Sink::start(Protocol::Bulk, Depth::Lines)?, written: Vec::new() })
    }

    /// The image's own configuration ships to this Job's endpoint.
    pub(super) fn aim<'a>(&self, spec: Spec<'a>) -> Spec<'a> {
        spec.env("ELASTICSEARCH_HOSTS", format_args!("http://127.0.0.1:{}", self.sink.port()))
    }

    /// Writes lines, each by a call of its own.
    pub(super) fn write(&mut self, container: &Container, count: usize) -> Outcome {
        let path = container.data("job.log");
        let mut file = fs::File::options().create(true).append(true).open(path).map_err(|e| e.to_string())?;
        for _ in 0..count {
            let line = format!("line {}", self.written.len());
            file.write_all(format!("{line}\n").as_bytes()).map_err(|e| e.to_string())?;
            self.written.push(line);
        }
        Ok(())
    }

    /// One line, and waits until it has arrived: the shipper follows.
    pub(super) fn begin(&mut self, container: &Container) -> Outcome {
        self.write(container, 1)?;
        self.arrived(container)
    }

    /// Waits until all that was written has arrived.
    pub(super) fn arrived(&self, container: &Container) -> Outcome {
        let all = self.sink.tally().wait_for(self.written.len() as u64, LIMIT);
        all.map(drop).map_err(|e| format!("{e}; {}", container.log()))
    }

    pub(super) fn flag(&self, container: &Container) -> Outcome {
        fs::write(container.data("completion-flag"), b"").map_err(|e| e.to_string())
    }

    /// Each line arrived once.
    pub(super) fn check(&self, container: &Container) -> Outcome {
        let stored = self.sink.tally().lines();
        let arrived = stored.iter().flat_map(|(line, &times)| std::iter::repeat_n(line.as_str(), times));
        crate::job::compare(&self.written, arrived).map_err(|e| format!("{e}; {}", container.log()))
    }
}
