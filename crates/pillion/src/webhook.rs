//! `pillion webhook`: from flags to the webhook's options. Tested below, and with the webhook itself in `tests/webhook.rs`.

use std::path::Path;
use std::time::Duration;

use pillion_engine::signals::while_held;
use pillion_kube::client::{Target, own_namespace};
use pillion_kube::inject;
use pillion_kube::webhook::{Certificate, Options, Webhook};
use pillion_telemetry::Form;
use pillion_world::World;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, Process};
use crate::receiving::address;

/// The ports when nothing is said, on loopback.
const PORTS: [u16; 2] = [8443, 8080];
/// 90 days.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Shorter than this there is no time to change it.
const SHORTEST: Duration = Duration::from_secs(60);
/// Until nobody is sent to a pod that is going, usually.
const LINGER: Duration = Duration::from_secs(5);

pub(crate) fn webhook(flags: &cli::Webhook, process: &Process) -> u8 {
    let world = World::real();
    let level = if flags.verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let log = pillion_telemetry::Options::to_stderr(level, Form::Json);
    pillion_telemetry::init(log, &world);
    let (options, target) = match options(flags, process, own_namespace(&world)) {
        Ok(found) => found,
        Err(reason) => {
            crate::complain(&format!("error: {reason}"));
            return crate::BAD_CONFIGURATION;
        }
    };
    match run(&world, options, target) {
        Ok(()) => 0,
        Err(reason) => {
            crate::complain(&format!("error: {reason}"));
            crate::work::FAILURE
        }
    }
}

fn run(world: &World, options: Options, target: Target) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let signals = while_held(|| [SignalKind::terminate(), SignalKind::interrupt()].map(signal));
        let [mut term, mut int] = match signals {
            [Ok(term), Ok(int)] => [term, int],
            [Err(e), _] | [_, Err(e)] => return Err(format!("signals: {e}")),
        };
        let webhook = Webhook::bind(world, options, target).await.map_err(|e| e.to_string())?;
        let (admission, status) = webhook.addresses().map_err(|e| e.to_string())?;
        tracing::info!("taking admissions at https://{admission}/mutate, status at http://{status}/metrics");
        let end = async {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        };
        webhook.run(end).await.map_err(|e| e.to_string())
    })
}

/// What the flags say; the error has reason and remedy.
fn options(flags: &cli::Webhook, process: &Process, own: Option<String>) -> Result<(Options, Target), String> {
    let variable = |name: &str| process.env.get(name).filter(|value| !value.is_empty()).cloned();
    let listen = |text: &Option<String>, port: u16| {
        address(text.as_deref().unwrap_or_default(), port).map_err(|e| format!("{e}\nremedy: write HOST:PORT"))
    };
    let target = match &flags.api_server {
        Some(url) => Target::at(url),
        None => Target::in_cluster(&variable),
    };
    let named = |text: &Option<String>, usual: &str| text.clone().unwrap_or_else(|| usual.to_owned());
    let mut inject = inject::Options::default();
    for setting in &flags.settings {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("--set {setting}: there is no `=`\nremedy: write --set NAME=VALUE"))?;
        inject.set(name, value).map_err(|e| format!("--set {name}: {e}\nremedy: see `pillion help webhook`"))?;
    }
    let lifetime = flags.lifetime_ns.map_or(LIFETIME, Duration::from_nanos);
    if lifetime < SHORTEST {
        return Err(format!(
            "--cert-lifetime {lifetime:?} is too short to renew it\nremedy: give {SHORTEST:?} or more"
        ));
    }
    let certificate = match &flags.cert_dir {
        Some(folder) => Certificate::Folder(Path::new(folder).to_owned()),
        None => Certificate::Secret { name: named(&flags.secret, "pillion-webhook-tls"), lifetime },
    };
    let namespace = flags
        .namespace
        .clone()
        .or_else(|| variable("POD_NAMESPACE"))
        .or(own)
        .ok_or("the namespace isn't known: this isn't a pod of a cluster\nremedy: name it with --namespace")?;
    Ok((
        Options {
            listen: listen(&flags.listen, PORTS[0])?,
            status: listen(&flags.status, PORTS[1])?,
            certificate,
            manage_ca_bundle: flags.manage_ca_bundle,
            configuration: named(&flags.configuration, "pillion-webhook"),
            service: named(&flags.service, "pillion-webhook"),
            namespace,
            census: flags.census,
            identity: variable("POD_NAME").or_else(|| variable("HOSTNAME")).unwrap_or_else(|| "webhook".into()),
            linger: flags.linger_ns.map_or(LINGER, Duration::from_nanos),
            ask_version: inject.kube_version.is_none(),
            inject,
        },
        target.map_err(|p| format!("{}\nremedy: {}", p.reason, p.remedy))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;

    fn called(line: &str, env: &[(&str, &str)]) -> Result<Options, String> {
        let process = Process {
            args: line.split(' ').map(Into::into).collect(),
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            cwd: "/".into(),
            euid: 1,
        };
        match cli::parse(&process) {
            Ok(Command::Webhook(flags)) => options(&flags, &process, None).map(|(options, _)| options),
            other => panic!("{other:?}"),
        }
    }

    const POD: [(&str, &str); 4] = [
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("POD_NAMESPACE", "tools"),
        ("POD_NAME", "hook-1"),
    ];

    #[test]
    fn in_a_pod_nothing_has_to_be_said_and_loopback_is_the_default() {
        let options = called("pillion webhook", &POD).unwrap();
        assert_eq!(
            (options.listen.to_string(), options.status.to_string()),
            ("127.0.0.1:8443".into(), "127.0.0.1:8080".into())
        );
        assert_eq!((options.namespace.as_str(), options.identity.as_str()), ("tools", "hook-1"));
        assert!(options.manage_ca_bundle && options.census && options.ask_version);
        let line = "pillion webhook --listen 0.0.0.0:443 --set image=r/p:1 --set kube_version=1.28 --cert-dir=/certs --manage-ca-bundle=false";
        let options = called(line, &POD).unwrap();
        assert_eq!((options.listen.to_string(), options.inject.image.as_str()), ("0.0.0.0:443".into(), "r/p:1"));
        assert_eq!(options.certificate, Certificate::Folder("/certs".into()));
        assert!(!options.manage_ca_bundle && !options.ask_version);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        for (line, env, expected) in [
            ("pillion webhook", &[][..], "--namespace"),
            ("pillion webhook --namespace x", &[], "isn't a pod"),
            ("pillion webhook --set image", &POD, "NAME=VALUE"),
            ("pillion webhook --set colour=red", &POD, "there is no such setting"),
            ("pillion webhook --cert-lifetime 5s", &POD, "too short"),
            ("pillion webhook --listen example.org:1", &POD, "isn't an IP address"),
        ] {
            let error = called(line, env).unwrap_err();
            assert!(error.contains(expected) && error.contains("remedy"), "{line}: {error}");
        }
    }
}
