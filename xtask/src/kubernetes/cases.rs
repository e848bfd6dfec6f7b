//! The table of what is tried on the cluster: five ways to ride, and what happens to Jobs.
//!
//! Always holds: `@` at the beginning of each line of the work is the case's name.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::{Case, End, Expect, Ride};
use super::example::Example;
use super::{api, pods};
use crate::Outcome;

/// 200 lines, the last of which has no newline.
const WORK: &str = "for i in $(seq 199); do echo \"@ $(hostname) $i\"; done >>/data/app.log
printf '@ %s the last' $(hostname) >>/data/app.log";
const FAILS: &str = "for i in $(seq 50); do echo \"@ $(hostname) $i\"; done >>/data/app.log; exit 3";
const CRASHES: &str =
    "for i in $(seq 50); do echo \"@ $(hostname) $i\"; done >>/data/app.log; sh -c 'kill -SEGV $$'; exit $?";
/// Takes more memory than the container may.
const EATS: &str = "for i in $(seq 50); do echo \"@ $(hostname) $i\"; done >>/data/app.log; exec tail /dev/zero";
/// A line every few milliseconds, until something ends it.
const ENDLESS: &str = "i=0; while :; do i=$((i+1)); echo \"@ $(hostname) $i\" >>/data/app.log; usleep 5000; done";
/// The same, and SIGTERM is seen but not obeyed.
const STUBBORN: &str = "trap 'echo \"@ $(hostname) got SIGTERM\" >>/data/app.log' TERM
i=0; while :; do i=$((i+1)); echo \"@ $(hostname) $i\" >>/data/app.log; usleep 5000; done";
/// Writes for about eight seconds, then ends well.
const SLOW: &str = "for i in $(seq 80); do echo \"@ $(hostname) $i\" >>/data/app.log; usleep 100000; done";
/// Fails at its first try and succeeds at its second.
const RETRIES: &str = "if [ -e /data/tried ]; then n=2; else n=1; fi; touch /data/tried
for i in $(seq 50); do echo \"@ $(hostname) try $n line $i\"; done >>/data/app.log
[ $n = 2 ]";
const INDEXED: &str = "for i in $(seq 50); do echo \"@ $JOB_COMPLETION_INDEX $(hostname) $i\"; done >>/data/app.log";

const COMPLETE: Expect = Expect { job: End::Complete, lines: Some(200), receipt: Some("complete"), again: false };
const FAILED: Expect =
    Expect { job: End::Failed("BackoffLimitExceeded"), lines: Some(50), receipt: Some("complete"), again: false };
/// The Job is deleted; the proof is at the target.
const GONE: Expect = Expect { job: End::Deleted, lines: None, receipt: None, again: false };
/// Pods are gone, and the Job has failed.
const LOST_POD: Expect = Expect { job: End::Failed("BackoffLimitExceeded"), lines: None, receipt: None, again: false };

const BASE: Case =
    Case { name: "", example: "", usual: true, work: WORK, tweak: |_| {}, act: |_| Ok(()), expect: COMPLETE };

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend(ends());
    all.extend(kills());
    all.extend(troubles());
    all.extend(jobs());
    all.extend(kinds());
    all
}

/// The work ends by itself, well or badly.
fn ends() -> Vec<Case> {
    vec![
        Case { name: "a-success", example: "a-shell-loop", expect: Expect { receipt: None, ..COMPLETE }, ..BASE },
        Case { name: "b-success", example: "b-flag", ..BASE },
        Case { name: "c-success", example: "c-native", ..BASE },
        Case { name: "d-success", example: "d-shared-pid", ..BASE },
        Case { name: "e-success", example: "e-exec", ..BASE },
        Case { name: "b-failure", example: "b-flag", work: FAILS, expect: FAILED, ..BASE },
        Case { name: "c-failure", example: "c-native", work: FAILS, expect: FAILED, ..BASE },
        Case { name: "d-failure", example: "d-shared-pid", work: FAILS, expect: FAILED, ..BASE },
        Case { name: "e-failure", example: "e-exec", work: FAILS, expect: FAILED, ..BASE },
        Case { name: "b-crash", example: "b-flag", usual: false, work: CRASHES, expect: FAILED, ..BASE },
        Case { name: "c-crash", example: "c-native", usual: false, work: CRASHES, expect: FAILED, ..BASE },
        Case { name: "d-crash", example: "d-shared-pid", usual: false, work: CRASHES, expect: FAILED, ..BASE },
        Case { name: "e-crash", example: "e-exec", usual: false, work: CRASHES, expect: FAILED, ..BASE },
        Case { name: "b-main-oom", example: "b-flag", usual: false, work: EATS, expect: FAILED, ..BASE },
        Case { name: "c-main-oom", example: "c-native", work: EATS, act: is_oom_killed, expect: FAILED, ..BASE },
        Case { name: "d-main-oom", example: "d-shared-pid", usual: false, work: EATS, expect: FAILED, ..BASE },
        Case { name: "e-main-oom", example: "e-exec", work: EATS, expect: FAILED, ..BASE },
    ]
}

/// The main container is killed, or the whole pod.
fn kills() -> Vec<Case> {
    let killed = Expect { lines: None, ..FAILED };
    let base = || Case { work: ENDLESS, tweak: short_grace, ..BASE };
    vec![
        // The container is gone at once, with the shell that would have made the flag.
        Case { name: "b-main-killed", example: "b-flag", act: kill_main, expect: killed, ..base() },
        Case { name: "c-main-killed", example: "c-native", act: kill_main, expect: killed, ..base() },
        Case { name: "d-main-killed", example: "d-shared-pid", act: kill_main, expect: killed, ..base() },
        Case { name: "b-deleted", example: "b-flag", act: delete, expect: LOST_POD, ..base() },
        Case { name: "c-deleted", example: "c-native", usual: false, act: delete, expect: LOST_POD, ..base() },
        Case { name: "d-deleted", example: "d-shared-pid", usual: false, act: delete, expect: LOST_POD, ..base() },
        Case { name: "e-deleted", example: "e-exec", usual: false, act: delete, expect: LOST_POD, ..base() },
        Case { name: "b-evicted", example: "b-flag", usual: false, act: evict, expect: LOST_POD, ..base() },
        Case { name: "c-evicted", example: "c-native", act: evict, expect: LOST_POD, ..base() },
        Case { name: "d-evicted", example: "d-shared-pid", usual: false, act: evict, expect: LOST_POD, ..base() },
        Case { name: "e-evicted", example: "e-exec", usual: false, act: evict, expect: LOST_POD, ..base() },
        Case { name: "b-to-the-last", example: "b-flag", work: STUBBORN, act: delete, expect: LOST_POD, ..base() },
        Case { name: "c-to-the-last", example: "c-native", work: STUBBORN, act: delete, expect: LOST_POD, ..base() },
        Case {
            name: "d-to-the-last",
            example: "d-shared-pid",
            usual: false,
            work: STUBBORN,
            act: delete,
            expect: LOST_POD,
            ..base()
        },
        Case { name: "e-to-the-last", example: "e-exec", work: STUBBORN, act: delete, expect: LOST_POD, ..base() },
        Case { name: "c-job-deleted", example: "c-native", usual: false, act: delete_job, expect: GONE, ..base() },
    ]
}

/// The sidecar, the endpoint or kubelet is in trouble while the work goes on.
fn troubles() -> Vec<Case> {
    let again = Expect { lines: Some(80), again: true, ..COMPLETE };
    let once = Expect { again: false, ..again };
    let base = || Case { work: SLOW, expect: again, ..BASE };
    vec![
        Case { name: "b-sidecar-killed", example: "b-flag", tweak: on_failure, act: kill_shipper, ..base() },
        Case { name: "c-sidecar-killed", example: "c-native", act: kill_shipper, ..base() },
        Case { name: "d-sidecar-killed", example: "d-shared-pid", usual: false, act: kill_shipper, ..base() },
        Case { name: "b-sidecar-oom", example: "b-flag", usual: false, tweak: on_failure, act: oom_shipper, ..base() },
        Case { name: "c-sidecar-oom", example: "c-native", act: oom_shipper, ..base() },
        Case { name: "d-sidecar-oom", example: "d-shared-pid", usual: false, act: oom_shipper, ..base() },
        Case {
            name: "a-endpoint-away",
            example: "a-shell-loop",
            usual: false,
            act: endpoint_away,
            expect: Expect { receipt: None, ..again },
            ..base()
        },
        Case { name: "b-endpoint-away", example: "b-flag", usual: false, act: endpoint_away, ..base() },
        Case { name: "c-endpoint-away", example: "c-native", act: endpoint_away, ..base() },
        Case { name: "d-endpoint-away", example: "d-shared-pid", usual: false, act: endpoint_away, ..base() },
        Case { name: "e-endpoint-away", example: "e-exec", usual: false, act: endpoint_away, ..base() },
        // Real servers, which crash, and nothing is twice.
        Case { name: "c-elasticsearch", example: "c-native", act: endpoint_crashes, expect: once, ..base() },
        Case { name: "e-opensearch", example: "e-exec", act: endpoint_crashes, expect: once, ..base() },
        Case { name: "b-kubelet-restart", example: "b-flag", usual: false, act: restart_kubelet, ..base() },
        Case { name: "c-kubelet-restart", example: "c-native", act: restart_kubelet, ..base() },
        Case { name: "d-kubelet-restart", example: "d-shared-pid", usual: false, act: restart_kubelet, ..base() },
        Case { name: "e-kubelet-restart", example: "e-exec", usual: false, act: restart_kubelet, ..base() },
        Case {
            name: "b-old-flag",
            example: "b-flag",
            work: RETRIES,
            tweak: on_failure,
            expect: Expect { lines: Some(100), ..COMPLETE },
            ..BASE
        },
        Case {
            name: "c-second-try",
            example: "c-native",
            usual: false,
            work: RETRIES,
            tweak: on_failure,
            expect: Expect { lines: Some(100), ..COMPLETE },
            ..BASE
        },
        Case {
            name: "a-exec-shell",
            example: "a-shell-loop",
            act: shell,
            expect: Expect { receipt: None, ..again },
            ..base()
        },
        Case { name: "c-exec-shell", example: "c-native", usual: false, act: shell, ..base() },
    ]
}

/// What else a Job can be told.
fn jobs() -> Vec<Case> {
    vec![
        Case {
            name: "c-backoff",
            example: "c-native",
            work: FAILS,
            tweak: |e| e.job()["backoffLimit"] = 1.into(),
            expect: Expect { lines: Some(100), ..FAILED },
            ..BASE
        },
        Case {
            name: "b-policy",
            example: "b-flag",
            work: FAILS,
            tweak: fail_at_once,
            expect: Expect { job: End::Failed("PodFailurePolicy"), ..FAILED },
            ..BASE
        },
        Case {
            name: "e-policy",
            example: "e-exec",
            usual: false,
            work: FAILS,
            tweak: fail_at_once,
            expect: Expect { job: End::Failed("PodFailurePolicy"), ..FAILED },
            ..BASE
        },
    ]
}

/// Jobs that end by a deadline, have several completions, or come by the clock.
fn kinds() -> Vec<Case> {
    vec![
        Case {
            name: "e-deadline",
            example: "e-exec",
            usual: false,
            work: ENDLESS,
            tweak: deadline,
            expect: Expect { job: End::Failed("DeadlineExceeded"), ..LOST_POD },
            ..BASE
        },
        Case {
            name: "e-indexed",
            example: "e-exec",
            usual: false,
            work: INDEXED,
            tweak: indexed,
            expect: Expect { lines: Some(150), ..COMPLETE },
            ..BASE
        },
        Case {
            name: "b-deadline",
            example: "b-flag",
            usual: false,
            work: ENDLESS,
            tweak: deadline,
            expect: Expect { job: End::Failed("DeadlineExceeded"), ..LOST_POD },
            ..BASE
        },
        Case {
            name: "c-deadline",
            example: "c-native",
            work: ENDLESS,
            tweak: deadline,
            expect: Expect { job: End::Failed("DeadlineExceeded"), ..LOST_POD },
            ..BASE
        },
        Case {
            name: "b-indexed",
            example: "b-flag",
            work: INDEXED,
            tweak: indexed,
            expect: Expect { lines: Some(150), ..COMPLETE },
            ..BASE
        },
        Case {
            name: "d-indexed",
            example: "d-shared-pid",
            usual: false,
            work: INDEXED,
            tweak: indexed,
            expect: Expect { lines: Some(150), ..COMPLETE },
            ..BASE
        },
        Case { name: "c-cron", example: "c-native", usual: false, tweak: Example::every_minute, ..BASE },
    ]
}

fn grace(example: &mut Example, seconds: u64) {
    example.grace("pillion", seconds);
    example.grace("main", seconds);
}

fn short_grace(example: &mut Example) {
    grace(example, 8);
}

/// The pod's containers are started again when they fail.
fn on_failure(example: &mut Example) {
    example.pod()["restartPolicy"] = "OnFailure".into();
    example.job()["backoffLimit"] = 5.into();
    if !example.container("pillion")["args"].is_null() {
        example.flags("pillion", &["-E", "pillion.completion.restarts=true"]);
    }
}

fn fail_at_once(example: &mut Example) {
    let codes = json!({"containerName": "main", "operator": "In", "values": [3]});
    example.job()["backoffLimit"] = 4.into();
    example.job()["podFailurePolicy"] = json!({"rules": [{"action": "FailJob", "onExitCodes": codes}]});
}

fn deadline(example: &mut Example) {
    example.job()["activeDeadlineSeconds"] = 8.into();
    grace(example, 5);
}

fn indexed(example: &mut Example) {
    for (key, value) in [("completions", json!(3)), ("parallelism", json!(3)), ("completionMode", json!("Indexed"))] {
        example.job()[key] = value;
    }
}

fn kill_main(ride: &mut Ride<'_>) -> Outcome {
    let pod = ride.pod()?;
    pods::kill(&pod, "main")
}

fn delete(ride: &mut Ride<'_>) -> Outcome {
    let pod = ride.pod()?;
    ride.delete(&pod)
}

fn delete_job(ride: &mut Ride<'_>) -> Outcome {
    ride.pod()?;
    api::delete(&format!("/apis/batch/v1/namespaces/{}/jobs/ride", ride.namespace))
}

fn evict(ride: &mut Ride<'_>) -> Outcome {
    let pod = ride.pod()?;
    ride.evict(&pod)
}

fn is_oom_killed(ride: &mut Ride<'_>) -> Outcome {
    ride.until("main to be OOM-killed", |pods| {
        let end = pods::ended(pods.first()?, "main")?;
        (end["reason"] == "OOMKilled").then_some(())
    })
}

fn restarts(pod: &Value, container: &str) -> u64 {
    pods::status(pod, container).and_then(|s| s["restartCount"].as_u64()).unwrap_or(0)
}

fn has_restarted(ride: &mut Ride<'_>) -> Outcome {
    let shipper = ride.shipper();
    ride.until("the sidecar's restart", |pods| (restarts(pods.first()?, shipper) > 0).then_some(()))
}

fn kill_shipper(ride: &mut Ride<'_>) -> Outcome {
    let pod = ride.pod()?;
    pods::kill(&pod, ride.shipper())?;
    has_restarted(ride)
}

/// Takes what memory the sidecar's container may have, in a place that nobody can be killed for, until the kernel kills the
/// sidecar for want of it.
fn oom_shipper(ride: &mut Ride<'_>) -> Outcome {
    let pod = ride.pod()?;
    let shipper = ride.shipper();
    for pid in pods::processes(&pod, shipper) {
        // Whoever fills the memory uses little of it himself; make sure that the kernel sees it so.
        let path = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(&path, "1000").map_err(|e| format!("{path}: {e}"))?;
    }
    let out = ride.exec(&pod, shipper, &["sh", "-c", "head -c 67108864 /dev/zero >/dev/shm/fill"])?;
    if out.status.success() {
        return Err("the container's memory isn't limited".into());
    }
    has_restarted(ride)?;
    ride.until("the reason", |pods| {
        let end = &pods::status(pods.first()?, shipper)?["lastState"]["terminated"];
        (end["reason"] == "OOMKilled" && end["exitCode"] == 137).then_some(())
    })
}

/// The target crashes in mid-work, and comes back with what it had acknowledged.
fn endpoint_crashes(ride: &mut Ride<'_>) -> Outcome {
    ride.arrived(20)?;
    ride.endpoint.stop()?;
    ride.endpoint.again()
}

/// Nobody listens from the middle of the work until after its end.
fn endpoint_away(ride: &mut Ride<'_>) -> Outcome {
    ride.pod()?;
    ride.endpoint.stop()?;
    let begin = Instant::now();
    // Main has ended, or (around the command) its last line is written; the shipper waits for the target.
    ride.until("the work's end", |pods| {
        let ended = pods::ended(pods.first()?, "main").is_some();
        (ended || begin.elapsed() > Duration::from_secs(12)).then_some(())
    })?;
    ride.endpoint.again()
}

fn restart_kubelet(ride: &mut Ride<'_>) -> Outcome {
    ride.pod()?;
    ride.node.kill_kubelet()
}

/// A person's shell in the sidecar: it is a shell like any, and its end is nobody else's.
fn shell(ride: &mut Ride<'_>) -> Outcome {
    let pod = ride.pod()?;
    let shipper = ride.shipper();
    let out = ride.exec(&pod, shipper, &["sh", "-c", "ls /data/*.log; sleep 0 & wait; echo $((6 * 7)); exit 7"])?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.code() != Some(7) || said != "/data/app.log\n42\n" {
        let err = String::from_utf8_lossy(&out.stderr);
        return Err(format!("the shell said {said:?} {err:?} and ended with {}", out.status));
    }
    for (script, code) in [("kill -9 $$", 137), ("kill $$", 143), ("trap 'exit 4' TERM; kill $$; exit 5", 4)] {
        let out = ride.exec(&pod, shipper, &["sh", "-c", script])?;
        if out.status.code() != Some(code) {
            return Err(format!("`{script}` ended with {}, not {code}", out.status));
        }
    }
    // None of these ends was the container's.
    ride.until("the container to go on", |pods| {
        let status = pods::status(pods.first()?, shipper)?;
        (!status["state"]["running"].is_null() && status["restartCount"] == 0).then_some(())
    })
}
