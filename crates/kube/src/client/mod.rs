//! A small client of the Kubernetes API: JSON over the HTTP/1.1 and TLS that the outputs use.
//!
//! Comes in: a path such as `/api/v1/namespaces/x/secrets/y`, perhaps a body. Goes out: the object as JSON, or an
//! [`Error`]; [`follow`] turns list and watch into changes. Always holds: nothing is connected, read or allocated before
//! the first request, so that a program that only links this pays nothing; the service account's token and authority are
//! read again, since both are replaced while a pod lives; every request has a time limit, every answer a limit in bytes;
//! tokens are never shown. A client has one connection and does one request at a time: clone it for more.
//! Why not the crate `kube`: docs/decisions/kubernetes-client.md. Tested in `tests.rs` against a scripted server, and on
//! a real cluster by `cargo xtask e2e kubernetes`.

mod error;
mod follow;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use pillion_output::Problem;
use pillion_output::hosts::Host;
use pillion_output::http::HttpClient;
use pillion_output::net::Connector;
use pillion_output::tls::TlsSettings;
use pillion_world::World;
use serde_json::Value;

pub use error::Error;
pub use follow::{Change, Watched, follow};

/// Where Kubernetes puts a service account's token, its authority and its namespace.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The longest answer, in bytes: a page of a list. An object has at most 1.5 MiB in etcd.
const ANSWER_LIMIT: usize = 8 << 20;
/// A token larger than this isn't one.
const TOKEN_LIMIT: usize = 64 << 10;
/// For connecting, and for each request that isn't a watch.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How a `PATCH` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json,
    /// RFC 7386: an object laid over the other.
    Merge,
}

/// Where the API server is, and who is asking.
#[derive(Clone)]
pub struct Target {
    /// Its address; TLS unless its scheme is `http`.
    pub host: Host,
    /// A PEM file of the authorities that sign its certificate; `None`: the system's.
    pub authority: Option<PathBuf>,
    /// A file with a bearer token, read for each request; `None`: no token is sent.
    pub token: Option<PathBuf>,
}

impl Target {
    /// The cluster in whose pod this runs. `variable` looks up an environment variable.
    ///
    /// # Errors
    /// When this isn't a pod of a cluster, with the remedy.
    pub fn in_cluster(variable: &dyn Fn(&str) -> Option<String>) -> Result<Target, Problem> {
        let get = |name: &str| {
            variable(name).filter(|v| !v.is_empty()).ok_or_else(|| {
                Problem::new(
                    format!("the variable {name} isn't set: this isn't a pod of a Kubernetes cluster"),
                    "Run it in a pod with a service account, or name the API server.",
                )
            })
        };
        let (name, port) = (get("KUBERNETES_SERVICE_HOST")?, get("KUBERNETES_SERVICE_PORT")?);
        let address =
            if name.contains(':') { format!("https://[{name}]:{port}") } else { format!("https://{name}:{port}") };
        let host = Host::parse(&address, 443).map_err(|why| Problem::bare(format!("{address}: {why}")))?;
        let folder = Path::new(SERVICE_ACCOUNT);
        Ok(Target { host, authority: Some(folder.join("ca.crt")), token: Some(folder.join("token")) })
    }

    /// Another server: `http://127.0.0.1:8001` as `kubectl proxy` gives it, or `https://…` with the system's
    /// authorities.
    ///
    /// # Errors
    /// When the URL can't be understood.
    pub fn at(url: &str) -> Result<Target, Problem> {
        let host = Host::parse(url, 443).map_err(|why| Problem::bare(format!("the API server's address: {why}")))?;
        Ok(Target { host, authority: None, token: None })
    }
}

/// The namespace of the pod in which this runs, when it is one.
pub fn own_namespace(world: &World) -> Option<String> {
    let text = world.fs.read(&Path::new(SERVICE_ACCOUNT).join("namespace"), TOKEN_LIMIT).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|name| !name.is_empty())
}

/// A client with at most one connection. Cloned, it has a connection of its own.
pub struct Client {
    world: World,
    target: Target,
    http: Option<HttpClient>,
}

impl Clone for Client {
    fn clone(&self) -> Client {
        Client::new(self.world.clone(), self.target.clone())
    }
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(world: World, target: Target) -> Client {
        Client { world, target, http: None }
    }

    /// The world it reads its files from.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Reads an object or a list.
    ///
    /// # Errors
    /// As every request: no answer, or a refusal.
    pub async fn get(&mut self, path: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, JSON, None).await
    }

    /// Reads a list whose items are metadata alone (`PartialObjectMetadata`).
    pub(crate) async fn get_metadata(&mut self, path: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", None).await
    }

    /// Makes an object; `path` is that of its list. Exists it already, the error [is a conflict](Error::is_conflict).
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn create(&mut self, path: &str, object: &Value) -> Result<Value, Error> {
        self.send(Method::POST, path, JSON, Some((JSON, object))).await
    }

    /// Replaces an object. With the `metadata.resourceVersion` that was read, the server refuses it when somebody has
    /// changed the object since: the error [is a conflict](Error::is_conflict).
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn replace(&mut self, path: &str, object: &Value) -> Result<Value, Error> {
        self.send(Method::PUT, path, JSON, Some((JSON, object))).await
    }

    /// Changes parts of an object.
    ///
    /// # Errors
    /// No answer, or a refusal; a failed `test` [is a conflict](Error::is_conflict).
    pub async fn patch(&mut self, path: &str, kind: Patch, body: &Value) -> Result<Value, Error> {
        let content = match kind {
            Patch::Json => "application/json-patch+json",
            Patch::Merge => "application/merge-patch+json",
        };
        self.send(Method::PATCH, path, JSON, Some((content, body))).await
    }

    /// Deletes an object; `options`: a `DeleteOptions`, perhaps with preconditions, of which one that doesn't hold
    /// [is a conflict](Error::is_conflict).
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn delete(&mut self, path: &str, options: &Value) -> Result<Value, Error> {
        self.send(Method::DELETE, path, JSON, Some((JSON, options))).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Value, Error> {
        let mut answer = Vec::new();
        let mut too_long = false;
        let status = self
            .exchange(method, path, accept, body, TIMEOUT, &mut |_, piece| {
                too_long |= answer.len() + piece.len() > ANSWER_LIMIT;
                if !too_long {
                    answer.extend_from_slice(piece);
                }
            })
            .await?;
        if too_long {
            return Err(Error::TooLong(ANSWER_LIMIT));
        }
        let parsed = serde_json::from_slice::<Value>(&answer);
        if !status.is_success() {
            return Err(Error::refused(status.as_u16(), &parsed.unwrap_or_default()));
        }
        match parsed {
            Ok(object) if object.is_object() => Ok(object),
            Ok(_) => Err(Problem::bare("the API server's answer is no object").into()),
            Err(e) => Err(Problem::bare(format!("the API server's answer isn't JSON: {e}")).into()),
        }
    }

    /// One request. A connection that was at rest may have been closed by the server: then it is tried once more.
    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
        timeout: Duration,
        each: &mut impl FnMut(StatusCode, &[u8]),
    ) -> Result<StatusCode, Error> {
        loop {
            let request = self.request(&method, path, accept, body)?;
            let http = match self.http.take().filter(HttpClient::is_connected) {
                Some(http) => http,
                // A new connection trusts the authority that the file holds now.
                None => self.open(timeout)?,
            };
            let http = self.http.insert(http);
            match http.send(request, &mut *each).await {
                Ok(status) => return Ok(status),
                Err(failure) if failure.was_idle => {}
                Err(failure) => return Err(failure.problem.into()),
            }
        }
    }

    fn open(&self, timeout: Duration) -> Result<HttpClient, Problem> {
        let connector = Connector::new(self.world.clone(), None, TIMEOUT);
        let plain = self.target.host.scheme.as_deref() == Some("http");
        let tls = match &self.target.authority {
            _ if plain => None,
            authority => {
                let mut settings = TlsSettings::default();
                settings.authorities = authority.iter().map(|path| path.display().to_string()).collect();
                Some(settings.build(&self.world, &[]).map_err(|p| p.during("the API server's authority"))?)
            }
        };
        Ok(HttpClient::new(connector, self.target.host.clone(), tls, timeout))
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        accept: &'static str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<Request<Full<Bytes>>, Problem> {
        let bytes = body.map(|(_, object)| object.to_string()).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.target.host.to_string())
            .header(USER_AGENT, concat!("pillion/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, accept);
        if let Some((content, _)) = body {
            request = request.header(CONTENT_TYPE, content);
        }
        if let Some(path) = &self.target.token {
            let remedy = "Is a service account's token mounted (automountServiceAccountToken)?";
            let say = |e: &dyn std::fmt::Display| Problem::new(format!("{}: {e}", path.display()), remedy);
            let token = self.world.fs.read(path, TOKEN_LIMIT).map_err(|e| say(&e))?;
            let token = String::from_utf8_lossy(&token);
            let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut value = value.map_err(|_| say(&"it isn't a token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(Bytes::from(bytes))).map_err(|e| Problem::bare(format!("{path}: {e}")))
    }
}

const JSON: &str = "application/json";
