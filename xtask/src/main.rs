//! The project's own chores, each a subcommand of `cargo xtask`.
//!
//! Comes in: the command line. Goes out: what the chore prints, and exit code 0 only when it succeeded.
//! Always holds: nothing here is part of the shipped program; a chore starts what it needs on loopback and ends it again.
//! Tested by being run: `.ci/run` calls every chore.
#![allow(
    clippy::disallowed_methods,
    reason = "chores run on the real machine: simulated time and files are for the core alone"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who called it")]

mod args;
mod bench;
mod cache;
mod child;
mod container;
mod dist;
mod e2e;
mod endpoints;
mod exhausted;
mod filebeat;
mod forward;
mod golumber;
mod helm;
mod http;
mod image;
mod job;
mod kafka;
mod keystore;
mod kubernetes;
mod loss;
mod nfs;
mod nodewide;
mod oldtls;
mod peer;
mod podman;
mod ports;
mod promtool;
mod queue;
mod redis;
mod replicas;
mod servers;
mod shipper;
mod sink;
mod stage;
mod sweep;
mod tidy;
mod wait;
mod webhook;

use std::process::ExitCode;

/// What a chore returns: nothing, or why it failed, for a person to read.
type Outcome<T = ()> = Result<T, String>;

const USAGE: &str = "\
usage: cargo xtask CHORE
  dist                 build target/dist/pillion: one static executable
  image …              the container image as a tar: -o FILE, --tag NAME, --arch amd64|arm64, --binary FILE,
                       --busybox FILE, --certificates FILE, --layer FILE (the root file system alone)
  tidy                 the project's style, as tests
  bench …              the figures of Pillion and its peers: --only ROW, --shipper NAME, --lines N, --repeat N, --out FOLDER
  bench surge          a KEDA ScaledJob from 0 to 200 pods on a real node: --pods N, --out FILE, --only NAME,NAME of none,
                       pillion, filebeat-loop, filebeat-native
  bench shared …       200 pods of a ScaledJob write 5,000 files into one shared folder of a real node, one shipper is killed
                       midway, a real Elasticsearch counts: --pods N, --files N, --lines N, --only NAME,NAME of nobody,
                       sidecars, central, replicas-1, replicas-2, replicas-4, filebeat, filebeat-killed, --out FILE
  bench files …        very many files at once: --writers N, --rate N, --quiet N, --new N, --seconds N, --rotate N,
                       --descriptors N, --stop SECONDS, --config LINE, --shipper NAME
  bench files backlog … an hour of lines gathers while the target is silent: --files N, --lines N, --order fair|oldest
  bench files plot …   CPU and memory over 100 to 100,000 files, as SVG: --most N, --peers N, --out FOLDER
  bench instructions   what a line costs with processors and without, as valgrind counts it: --lines N
  e2e servers [NAME…]  build and start each search server once
  e2e missing          name each server that can't run here, and why
  e2e endpoints …      the executable against each of them: --server NAME, --case NAME
  e2e filebeat         build the real Filebeat into the cache and print its path
  e2e tls …            the executable against TLS servers as old sites have them: --case NAME, --output bulk|lumberjack
  e2e differential …   the real Filebeat and Pillion on the same files and configuration: --case NAME,
                       --filebeat 9 (built first, some minutes), --record (the tables of unit tests)
  e2e swap …           each goes on with the other's registry: --case NAME
  e2e client …         the real Filebeat ships to `pillion receive`: --case NAME
  e2e nodewide …       the DaemonSet on a real cluster, beside Filebeat and after it: --case NAME, --keep
  e2e golumber …       go-lumber's server: settings, a wrong authority, two hosts: --case NAME
  e2e image …          the image's root file system as a runtime runs it: --image FILE, --case NAME, --trials N
  e2e inotify          the executable where the kernel has no inotify instances or watches left
  e2e queue            the disk queue: the target away, kills, a full disk
  e2e replicas …       several Pillions over one shared folder; some are killed, paused, ended: --rounds N, --case NAME
  e2e sweep            sidecars on one shared folder, some killed in mid-work, and `pillion sweep` behind them
  e2e helm …           the Helm chart, linted and rendered by the real helm; the plain manifests: --write
  e2e metrics          what /metrics gives, linted by promtool
  e2e podman           the image with podman, and the Dockerfile beside it
  e2e nfs …            a real server and its clients in a kernel of their own: --on nfs|glusterfs|sshfs (NFSv4.1),
                       --case NAME, --long (the server is away for a minute)
  e2e kafka …          a real broker: partitions, compressions, logins, TLS, restarts: --case NAME
  e2e forward …        a real server of the forward protocol: logins, TLS, restarts: --case NAME
  e2e redis …          a real Redis: restarts, a full memory, logins, TLS: --case NAME
  e2e keystore         a keystore handed to and fro between the real Filebeat and Pillion
  e2e resident         what the executable keeps resident at rest is within its limits
  e2e webhook …        the webhook on that Kubernetes: --case NAME, --keep
  e2e kubernetes …     on a real one-node Kubernetes: --only NAME, --all, --keep, --list, --jobs N
  e2e loss …           lines lost when a Job ends: --shipper pillion|filebeat, --trials N, --parallel N, --target, --end,
                       --write, --input log|filestream, --plain
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["dist"] => dist::run(),
        ["image", rest @ ..] => image::run(rest),
        ["tidy"] => tidy::run(),
        ["bench", "surge", rest @ ..] => kubernetes::surge::run(rest),
        ["bench", "shared", rest @ ..] => kubernetes::shared::run(rest),
        ["bench", "files", rest @ ..] => bench::files::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["e2e", rest @ ..] => e2e::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root folder.
fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
