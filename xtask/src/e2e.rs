//! End-to-end tests: the real executable with real servers.
//!
//! Comes in: which suite. Goes out: a line for each test, and an error when one failed.

use crate::peer::Check;
use crate::servers::{self, Kind};
use crate::{
    Outcome, bench, container, endpoints, exhausted, filebeat, forward, golumber, helm, kafka, keystore, kubernetes,
    loss, nfs, nodewide, oldtls, peer, podman, promtool, queue, redis, replicas, sweep, webhook,
};

/// Runs a suite.
pub(crate) fn run(words: &[&str]) -> Outcome {
    match words {
        ["servers", names @ ..] => try_servers(names),
        ["missing"] => {
            for (kind, why) in Kind::ALL.iter().filter_map(|k| Some((k, k.missing()?))) {
                println!("{}: {why}", kind.name());
            }
            Ok(())
        }
        ["filebeat"] => {
            println!("{}", filebeat::path()?.display());
            Ok(())
        }
        ["endpoints", rest @ ..] => endpoints::run(rest),
        ["image", rest @ ..] => container::run(rest),
        ["tls", rest @ ..] => oldtls::run(rest),
        ["differential", rest @ ..] => peer::run(Check::Differential, rest),
        ["golumber", rest @ ..] => golumber::run(rest),
        ["helm", rest @ ..] => helm::run(rest),
        ["swap", rest @ ..] => peer::run(Check::Swap, rest),
        ["client", rest @ ..] => peer::run(Check::Client, rest),
        ["webhook", rest @ ..] => webhook::run(rest),
        ["kubernetes", rest @ ..] => kubernetes::run(rest),
        ["nodewide", rest @ ..] => nodewide::run(rest),
        ["inotify", rest @ ..] => exhausted::run(rest),
        ["queue", rest @ ..] => queue::run(rest),
        ["replicas", rest @ ..] => replicas::run(rest),
        ["sweep", rest @ ..] => sweep::run(rest),
        ["loss", rest @ ..] => loss::run(rest),
        ["metrics", rest @ ..] => promtool::run(rest),
        ["podman", rest @ ..] => podman::run(rest),
        ["nfs", "missing"] => {
            nfs::missing().into_iter().for_each(|why| println!("{why}"));
            Ok(())
        }
        ["nfs", rest @ ..] => nfs::run(rest),
        ["kafka", rest @ ..] => kafka::run(rest),
        ["forward", rest @ ..] => forward::run(rest),
        ["redis", rest @ ..] => redis::run(rest),
        ["keystore", rest @ ..] => keystore::run(rest),
        ["resident"] => bench::check_resident(),
        _ => Err(crate::USAGE.to_owned()),
    }
}

fn try_servers(names: &[&str]) -> Outcome {
    let mut failed = Vec::new();
    for kind in Kind::ALL {
        if !names.is_empty() && !names.contains(&kind.name()) {
            continue;
        }
        if let Some(why) = kind.missing() {
            println!("{}: SKIPPED: {why}", kind.name());
        } else if let Err(why) = servers::try_out(kind) {
            failed.push(format!("{}: {why}", kind.name()));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}
