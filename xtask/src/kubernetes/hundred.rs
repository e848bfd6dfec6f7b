//! The usual workaround, a hundred times: the flag is made in the same millisecond as the last line.
//!
//! Comes in: the node, the endpoint. Goes out: how many lines of how many Jobs were lost: none.

use std::time::{Duration, Instant};

use super::api;
use super::endpoint::Endpoint;
use super::example::{self, Example};
use super::look;
use super::node::Node;
use crate::{Outcome, wait};

const JOBS: usize = 100;
/// How many the node bears at a time.
const BATCH: usize = 25;
const LINES: usize = 40;
const LIMIT: Duration = Duration::from_secs(120);

/// A few lines, a pause, and at the very end twenty lines and the flag by the shell itself: no process is started in between.
const WORK: &str = "for i in $(seq 20); do echo \"@ $HOSTNAME $i\"; done >>/data/app.log; usleep 500000
exec >>/data/app.log; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do echo \"@ $HOSTNAME end $i\"; done
echo \"@ $HOSTNAME the last\"; : >/data/completion-flag";

/// Runs them, for the `nth` time.
pub(super) fn run(node: &Node, endpoint: &Endpoint, nth: usize) -> Outcome<String> {
    let begin = Instant::now();
    let name = format!("a-hundred-{nth}");
    let mut example = Example::read(node, "a-shell-loop")?;
    example.work(&WORK.replace('@', &name));
    example::namespace(&name, "baseline")?;
    example.create_rest(&name)?;
    let path = format!("/apis/batch/v1/namespaces/{name}/jobs");
    for batch in 0..JOBS / BATCH {
        example.create_jobs(&name, (0..BATCH).map(|i| format!("ride-{}", batch * BATCH + i)))?;
        let mut done = 0;
        let all = (batch + 1) * BATCH;
        let ended = wait::until("a batch of Jobs", LIMIT, || {
            let jobs = api::items(&path)?;
            if let Some(failed) = jobs.iter().find(|j| j["status"]["failed"].as_u64().unwrap_or(0) > 0) {
                return Err(format!("{} has failed", failed["metadata"]["name"]));
            }
            done = jobs.iter().filter(|j| !j["status"]["completionTime"].is_null()).count();
            if done < all {
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok((done >= all).then_some(()))
        });
        ended.map_err(|why| format!("{why}: {done} of {all} are done; {}", look::look(node, &name)))?;
    }
    let lines = endpoint.lines(&name)?;
    let again: usize = lines.values().map(|n| n - 1).sum();
    if lines.len() != JOBS * LINES || again > 0 {
        let lasts = lines.keys().filter(|l| l.ends_with("the last")).count();
        return Err(format!("{} of {} lines arrived, {again} again; {lasts} last ones", lines.len(), JOBS * LINES));
    }
    Ok(format!("{JOBS} Jobs, {} lines, 0 lost, {:.0} s", lines.len(), begin.elapsed().as_secs_f64()))
}
