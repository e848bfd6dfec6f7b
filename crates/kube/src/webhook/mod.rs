//! The mutating admission webhook: pods get their sidecar when they are created.
//!
//! Comes in: `AdmissionReview`s over HTTPS; the API server, for certificate, `caBundle` and the count of what passed. Goes
//! out: JSON Patches that `inject` has planned; `/metrics`, `/readyz`, `/healthz` over HTTP.
//!
//! Always holds: a pod is never refused; everything is bounded; nothing here is touched unless `pillion webhook` is run.
//! The way of a request: `server` (ports, limits) → `review` (who is touched, the answer) → `inject` → `guard` (what a
//! patch may do). Beside it: `certs` (what is served, renewed, published), `census` (what passed uninjected) with `lease`
//! (one replica counts), `metrics`.
//! Tested in each, in `tests.rs` with a scripted API server, and on a real cluster by `cargo xtask e2e kubernetes`.

mod census;
mod certs;
mod guard;
mod lease;
pub mod metrics;
pub mod review;
mod server;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pillion_world::World;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::client::{Client, Error, Patch, Target};
use crate::inject;
use certs::Slot;
use certs::files::Folder;
use certs::generation::Generation;
use certs::keeper::{Ask, Keeper, Now, Rules};
use lease::Lease;
use review::Policy;
use server::{Limits, Port, Shared};

/// How often Secret and configuration are looked at.
const POLL: Duration = Duration::from_secs(10);
/// How long an authority is published before its certificate is served: longer than an API server takes to hear of it.
const SETTLE: Duration = Duration::from_secs(60);
/// How often the cluster is asked for its version.
const VERSION_EVERY: Duration = Duration::from_secs(3600);

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Made here, kept in a Secret of our namespace that all replicas share.
    Secret {
        /// The Secret's name.
        name: String,
        /// How long a certificate lives; it is renewed when a third of that is left. At least a minute.
        lifetime: Duration,
    },
    /// From a folder with `tls.crt`, `tls.key` and perhaps `ca.crt`, read again when they change.
    Folder(PathBuf),
}

/// What `pillion webhook` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where admissions are listened for.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/readyz` and `/healthz` are.
    pub status: SocketAddr,
    /// The certificate.
    pub certificate: Certificate,
    /// Keep the `caBundle` of the configuration up to date.
    pub manage_ca_bundle: bool,
    /// The name of the `MutatingWebhookConfiguration`.
    pub configuration: String,
    /// The name of the Service that leads here: the API server calls `SERVICE.NAMESPACE.svc`.
    pub service: String,
    /// The namespace of Service, Secret and Lease, in which nothing is injected.
    pub namespace: String,
    /// Count pods that passed uninjected.
    pub census: bool,
    /// Tells replicas apart: the pod's name.
    pub identity: String,
    /// How long a replica that is told to end goes on answering, until nobody is sent to it any more.
    pub linger: Duration,
    /// How sidecars are made.
    pub inject: inject::Options,
    /// Ask the cluster for its version, unless one is set in `inject`.
    pub ask_version: bool,
}

/// Why a webhook can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port can't be had.
    #[error("{address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The TLS library refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The certificate's folder can't be used.
    #[error("{0}")]
    Certificate(String),
}

/// A webhook whose ports are bound.
pub struct Webhook {
    options: Options,
    shared: Arc<Shared>,
    client: Client,
    slot: Arc<Slot>,
    admission: TcpListener,
    status: TcpListener,
}

impl Webhook {
    /// Binds the ports.
    ///
    /// # Errors
    /// When a port can't be had.
    pub async fn bind(world: &World, options: Options, target: Target) -> Result<Webhook, RunError> {
        let bind = async |address: SocketAddr| {
            TcpListener::bind(address).await.map_err(|error| RunError::Listen { address, error })
        };
        let (admission, status) = (bind(options.listen).await?, bind(options.status).await?);
        let policy = Policy { options: options.inject.clone(), own_namespace: options.namespace.clone() };
        Ok(Webhook {
            shared: Arc::new(Shared::new(world.clone(), policy, Limits::default())),
            client: Client::new(world.clone(), target),
            slot: Arc::default(),
            options,
            admission,
            status,
        })
    }

    /// Where admissions and status are listened for.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.admission.local_addr()?, self.status.local_addr()?))
    }

    /// Runs until `end` is done, then lingers, lets open requests finish, and returns.
    ///
    /// # Errors
    /// When TLS can't be set up, or the certificate's folder can't be read at the start.
    pub async fn run(self, end: impl Future<Output = ()>) -> Result<(), RunError> {
        let Webhook { options, shared, client, slot, admission, status } = self;
        let mut certificates = Certificates::new(&options, &shared, &client, &slot)?;
        let tls = Port::Admission(TlsAcceptor::from(slot.config()?));
        let (stop, stopped) = watch::channel(false);
        let ports = [(admission, tls), (status, Port::Status)]
            .map(|(listener, port)| tokio::spawn(server::serve(listener, port, Arc::clone(&shared), stopped.clone())));
        let mut lease = Lease::new(&options.namespace, &options.service, options.identity.clone());
        let counting = async {
            if options.census {
                census::run(Arc::clone(&shared), client.clone(), &mut lease, options.namespace.clone()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let version = ask_version(&options, &shared, client.clone());
        let lingering = async {
            end.await;
            tracing::info!("told to end: answering for another {:?}", options.linger);
            shared.ending.store(true, Relaxed);
            tokio::time::sleep(options.linger).await;
        };
        tokio::select! {
            () = lingering => {}
            () = certificates.keep() => {}
            () = counting => {}
            () = version => {}
        }
        stop.send_replace(true);
        lease.release(&mut client.clone()).await;
        for port in ports {
            let _ = port.await;
        }
        Ok(())
    }
}

/// Learns the cluster's version, and whether it has been upgraded; never ends.
async fn ask_version(options: &Options, shared: &Shared, mut client: Client) {
    if !options.ask_version || options.inject.kube_version.is_some() {
        return std::future::pending().await;
    }
    loop {
        let pause = match client.get("/version").await {
            Ok(answer) => {
                let part = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
                let known = format!("{}.{}", part("major"), part("minor")).parse().ok();
                let mut policy = shared.policy.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                policy.options.kube_version = known.or(policy.options.kube_version);
                VERSION_EVERY
            }
            Err(e) => {
                tracing::warn!("the cluster's version isn't known: {e}");
                POLL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Keeps what is served, and what is trusted.
struct Certificates<'a> {
    keeper: Keeper,
    folder: Option<Folder>,
    shared: &'a Shared,
    client: Client,
    slot: &'a Slot,
    paths: Paths,
    served: Option<Generation>,
    trouble: Option<String>,
}

/// Where the API server keeps what we keep up to date.
struct Paths {
    secrets: String,
    secret: String,
    secret_name: String,
    configuration: String,
}

impl<'a> Certificates<'a> {
    fn new(
        options: &Options,
        shared: &'a Shared,
        client: &Client,
        slot: &'a Slot,
    ) -> Result<Certificates<'a>, RunError> {
        let (folder, name, lifetime) = match &options.certificate {
            Certificate::Folder(path) => (Some(Folder::new(path)), String::new(), Duration::ZERO),
            Certificate::Secret { name, lifetime } => (None, name.clone(), *lifetime),
        };
        let secrets = format!("/api/v1/namespaces/{}/secrets", options.namespace);
        let paths = Paths {
            secret: format!("{secrets}/{name}"),
            secrets,
            secret_name: name,
            configuration: format!(
                "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
                options.configuration
            ),
        };
        let rules = Rules {
            names: vec![format!("{}.{}.svc", options.service, options.namespace)],
            lifetime,
            // Short-lived certificates, as tests have them, change sooner.
            settle: if folder.is_none() { SETTLE.min(lifetime / 12) } else { SETTLE },
            poll: if folder.is_none() { POLL.min(lifetime / 60) } else { POLL },
            make: folder.is_none(),
            publish: options.manage_ca_bundle,
        };
        let mut made = Certificates {
            keeper: Keeper::new(rules),
            folder,
            shared,
            client: client.clone(),
            slot,
            paths,
            served: None,
            trouble: None,
        };
        made.look().map_err(RunError::Certificate)?;
        Ok(made)
    }

    fn now(&self) -> Now {
        let clock = &self.shared.world.clock;
        Now { wall: clock.wall(), mono: clock.mono() }
    }

    /// Reads the folder again, where there is one.
    fn look(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(folder) = &mut self.folder else { return Ok(()) };
        if let Some(generation) = folder.look(&*self.shared.world.fs)? {
            self.keeper.take_files(generation, now);
        }
        self.put();
        Ok(())
    }

    /// Never ends.
    async fn keep(&mut self) {
        loop {
            let now = self.now();
            match self.keeper.next(now) {
                Ask::Rest(pause) => {
                    self.put();
                    tokio::time::sleep(pause.min(POLL)).await;
                    let looked = self.look();
                    self.tell(looked.err().or_else(|| self.keeper.trouble().map(str::to_owned)));
                }
                ask => {
                    let answer = self.perform(ask).await;
                    let now = self.now();
                    self.keeper.answered(now, answer);
                    self.put();
                }
            }
        }
    }

    async fn perform(&mut self, ask: Ask) -> Result<serde_json::Value, Error> {
        let (client, paths) = (&mut self.client, &self.paths);
        match ask {
            Ask::ReadSecret => client.get(&paths.secret).await,
            Ask::CreateSecret(mut object) => {
                object["apiVersion"] = "v1".into();
                object["kind"] = "Secret".into();
                object["metadata"] = serde_json::json!({"name": paths.secret_name});
                client.create(&paths.secrets, &object).await
            }
            Ask::ReplaceSecret(object) => client.replace(&paths.secret, &object).await,
            Ask::ReadConfiguration => client.get(&paths.configuration).await,
            Ask::Patch(patch) => client.patch(&paths.configuration, Patch::Json, &patch).await,
            Ask::Rest(_) => Ok(serde_json::Value::Null),
        }
    }

    /// Serves what is chosen, and says whether it is trusted.
    fn put(&mut self) {
        let metrics = &self.shared.metrics;
        if let Some(chosen) = self.keeper.serving().filter(|g| self.served.as_ref() != Some(g)) {
            match self.slot.set(chosen) {
                Ok(()) => {
                    let chosen = chosen.clone();
                    tracing::info!("serving the certificate that ends at {}", ends(&chosen));
                    metrics.certificate_changes.fetch_add(1, Relaxed);
                    metrics.certificate_ends.store(chosen.valid.1, Relaxed);
                    self.served = Some(chosen);
                }
                Err(why) => self.tell(Some(why)),
            }
        }
        let ready = self.served.is_some() && self.keeper.is_ready(self.now());
        if metrics.ready.swap(i64::from(ready), Relaxed) != i64::from(ready) {
            tracing::info!(
                "{}",
                if ready { "ready" } else { "not ready: the API server doesn't trust the certificate" }
            );
        }
    }

    /// Says a new trouble once, and counts each.
    fn tell(&mut self, trouble: Option<String>) {
        if let Some(trouble) = &trouble {
            self.shared.metrics.sync_errors.fetch_add(1, Relaxed);
            if self.trouble.as_ref() != Some(trouble) {
                tracing::warn!("{trouble}");
            }
        }
        self.trouble = trouble;
    }
}

fn ends(generation: &Generation) -> String {
    pillion_world::rfc3339(pillion_world::UnixMillis(generation.valid.1.saturating_mul(1000)))
}
