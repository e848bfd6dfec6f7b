//! `add_docker_metadata`, where there is no Docker.
//!
//! Filebeat's default configuration has this processor everywhere, and without a Docker daemon it adds nothing and says
//! nothing. So it is here; where there is a daemon, the configuration is refused, since events would lack what it knows.
//! Tested below.

use std::path::Path;

use pillion_config::{Error, Section};

use crate::action::{Action, Done};
use crate::doc::Doc;

/// The options, by their first names.
pub(crate) const OPTIONS: &[&str] = &[
    "host",
    "ssl",
    "match_fields",
    "match_pids",
    "match_source",
    "match_source_index",
    "match_short_id",
    "labels",
    "cleanup_timeout",
    "hostfs",
    "skip_older",
    "wait_for_metadata",
];

#[derive(Debug)]
struct NoDocker;

impl Action for NoDocker {
    fn run(&self, _: &mut Doc<'_>) -> Result<Done, String> {
        Ok(Done::Keep)
    }
}

pub(crate) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let host = s.str("host")?.filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    let daemon = match host.strip_prefix("unix://") {
        Some(path) => Path::new(path).exists(),
        None => host.contains("://"),
    };
    if daemon {
        return Err(s.error(
            "host",
            format!("there is a Docker daemon at {host}, and it can't be asked yet: events would lack its metadata"),
            "remove the processor if the target can do without; in Kubernetes, use add_kubernetes_metadata",
        ));
    }
    for list in ["match_fields", "match_pids"] {
        s.strings(list)?;
    }
    for switch in ["match_source", "match_short_id", "labels.dedot", "skip_older", "wait_for_metadata"] {
        s.bool(switch)?;
    }
    s.u64("match_source_index")?;
    s.duration("cleanup_timeout")?;
    s.str("hostfs")?;
    s.json("ssl")?;
    Ok(Box::new(NoDocker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{config, processed};
    use serde_json::json;

    #[test]
    fn without_a_daemon_nothing_is_added_and_with_one_it_is_refused() {
        let event = json!({"message": "m"});
        assert_eq!(processed("[{add_docker_metadata: {host: 'unix:///nowhere/docker.sock'}}]", event.clone()), event);
        // Any file that is there stands for the socket.
        for host in ["unix:///proc/self/status", "tcp://127.0.0.1:2375"] {
            let config = config(&format!("docker: {{host: '{host}'}}"));
            let section = config.root().named_sections().unwrap().pop().unwrap().1;
            assert!(read(&section).is_err_and(|e| e.to_string().contains("can't be asked yet")), "{host}");
        }
    }
}
