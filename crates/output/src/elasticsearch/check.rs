//! `test output`: each step towards each host, said as Filebeat says it. Tested in `tests.rs`.

use std::fmt::Write;

use hyper::{Method, StatusCode};

use super::settings::Settings;
use super::settle::no_pipeline;
use super::target::{Target, proxy};
use crate::hosts::Host;
use crate::net::Connector;
use crate::problem::Problem;
use crate::tls::{TlsClient, Verification};
use pillion_world::World;

/// Tries each host, step by step, and writes what it finds. Whether all hosts are good.
pub async fn test_output(settings: &Settings, world: &World, report: &mut String) -> bool {
    let tls = match settings.uses_tls().then(|| settings.tls.build(world, &["http/1.1"])).transpose() {
        Ok(tls) => tls,
        Err(problem) => {
            let _ = writeln!(report, "elasticsearch: reading ssl... ERROR {problem}");
            return false;
        }
    };
    let mut good = true;
    for host in &settings.hosts {
        let scheme = host.scheme.as_deref().unwrap_or("http");
        let _ = writeln!(report, "elasticsearch: {scheme}://{host}{}...", host.path);
        if let Err(problem) = test_host(settings, world, host, tls.clone(), report).await {
            let _ = writeln!(report, " ERROR {problem}");
            good = false;
        }
    }
    good
}

async fn test_host(
    settings: &Settings,
    world: &World,
    host: &Host,
    tls: Option<TlsClient>,
    report: &mut String,
) -> Result<(), Problem> {
    let mut target = Target::new(settings, host, tls, world, false)?;
    let scheme = host.scheme.as_deref().unwrap_or("http");
    report.push_str("  parse url... OK\n  connection...\n    parse host... OK\n");
    if proxy(settings, host, scheme == "https")?.is_none() {
        let connector = Connector::new(world.clone(), None, settings.timeout);
        report.push_str("    dns lookup...");
        let addresses: Vec<String> = connector.resolve(&host.name).await?.iter().map(ToString::to_string).collect();
        let _ = write!(report, " OK\n    addresses: {}\n    dial up...", addresses.join(", "));
        connector.connect(host, false).await?;
        report.push_str(" OK\n");
    }
    report.push_str("  TLS...");
    target.client.connect().await?;
    match (scheme, settings.tls.verification) {
        ("https", Verification::None) => report.push_str(" WARN the server's certificate isn't checked\n"),
        ("https", _) => report.push_str(" OK\n"),
        _ => report.push_str(" WARN secure connection disabled\n"),
    }
    report.push_str("  talk to server...");
    talk(&mut target, report).await?;
    for id in &settings.needed {
        let _ = write!(report, "  pipeline {id}...");
        pipeline(&mut target, id, report).await?;
    }
    Ok(())
}

/// Whether it has a pipeline. Names that would have to be encoded aren't Filebeat's.
async fn pipeline(target: &mut Target, id: &str, report: &mut String) -> Result<(), Problem> {
    let path = format!("/_ingest/pipeline/{id}");
    let (status, _) =
        target.ask(Method::GET, &path, "filter_path=*.version", Vec::new()).await.map_err(|f| f.problem)?;
    match status {
        StatusCode::OK => report.push_str(" OK\n"),
        StatusCode::NOT_FOUND => return Err(no_pipeline(id)),
        // A user that may only write.
        other => drop(writeln!(report, " WARN {other}: it can't be said whether it is there")),
    }
    Ok(())
}

/// Who answers there.
async fn talk(target: &mut Target, report: &mut String) -> Result<(), Problem> {
    let (status, body) = target.root().await.map_err(|f| f.problem)?;
    match status {
        StatusCode::OK => {
            let _ = write!(report, " OK\n  version: {}\n", version(&body));
            Ok(())
        }
        StatusCode::UNAUTHORIZED => {
            Err(Problem::new("the credentials aren't accepted (401)", "Check username and password, or api_key."))
        }
        // A user that may only write, or a server that has no such page: events may be taken all the same.
        other => {
            let _ = writeln!(report, " WARN {other} for GET /: it can't be said whether events will be taken");
            Ok(())
        }
    }
}

/// `version.number`, and the distribution where it isn't Elasticsearch.
fn version(body: &[u8]) -> String {
    let Ok(root) = serde_json::from_slice::<serde_json::Value>(body) else { return "unknown".into() };
    let text = |key: &str| root.get("version").and_then(|v| v.get(key)).and_then(|v| v.as_str()).unwrap_or_default();
    match (text("number"), text("distribution")) {
        ("", _) => "unknown".into(),
        (number, "") => number.into(),
        (number, distribution) => format!("{number} ({distribution})"),
    }
}
