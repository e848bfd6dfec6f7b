//! The board of replicas that share files, as Leases of `coordination.k8s.io`.
//!
//! Comes in: what a member wants written, and what the API server has. Goes out: the board.
//! Each replica has one Lease as its sign of life, `GROUP-MEMBER`; one Lease, `GROUP`, has the table of all shards in an
//! annotation. Nothing watches.
//!
//! Always holds:
//! - Each call ends within a third of the lease, and is one request at rest; what it does beyond that (a Lease was deleted,
//!   or changed by hand) is bounded too.
//! - Reads ask for what is true now (no `resourceVersion`), never for what a cache holds.
//! - A Lease is replaced or deleted only as the very object, in the very version, that was read.
//! - What people wrote into Leases by hand counts as not there when it makes no sense, and is said once.
//!
//! The load: docs/decisions/shards.md. Tested in `tests.rs`, and on a real cluster by `cargo xtask e2e kubernetes`.

mod objects;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use pillion_shards::{Backend, Beat, Board, Later, Table, Version, Wrote};
use pillion_world::{World, rfc3339};
use serde_json::json;
use tokio::sync::Mutex;

use crate::client::{Client, Error, Target};
use objects::{Found, Identity, Life, Names};

/// What of a lease one call may take.
const PART: u32 = 3;
/// Leases on one page of a list.
const PAGE: usize = 500;
/// Pages that are read at most: more members than anybody believes.
const PAGES: usize = 4;

/// Who shares files, and where it is written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the Leases.
    pub namespace: String,
    /// The group: a DNS label of at most 40 bytes.
    pub group: String,
    /// The own name, used by no other process ever. Small letters, digits, `-` and `.`, at most 200 bytes.
    pub member: String,
    /// How long a sign of life must stand still until its owner counts as dead.
    pub lease: Duration,
    /// Into how many shards the member divides the files; `None` for who only looks.
    pub shards: Option<u16>,
}

/// See the module. Each kind of call has a connection of its own, so that a slow list delays no sign of life. Two calls of a
/// kind at a time wait for each other: a member orders none.
pub struct Leases {
    world: World,
    target: Target,
    names: Names,
    limit: Duration,
    own: Mutex<Own>,
    reader: Mutex<Client>,
    writer: Mutex<Client>,
    seen: StdMutex<Seen>,
}

/// The own sign of life.
struct Own {
    client: Client,
    count: u64,
    since: String,
    /// What the server has of it; `None`: nothing, or not known.
    identity: Option<Identity>,
}

/// What the last look showed, for those who remove Leases; what was said of it.
#[derive(Default)]
struct Seen {
    identities: BTreeMap<String, (String, Identity)>,
    said: Vec<String>,
}

impl Leases {
    /// Nothing is connected before the first call.
    pub fn new(world: World, target: Target, settings: &Settings) -> Leases {
        let client = || Client::new(world.clone(), target.clone());
        let own = Own { client: client(), count: 0, since: micro_time(&world), identity: None };
        Leases {
            names: Names::new(settings),
            limit: settings.lease / PART,
            own: Mutex::new(own),
            reader: Mutex::new(client()),
            writer: Mutex::new(client()),
            seen: StdMutex::default(),
            target,
            world,
        }
    }

    async fn renew(&self, leaving: bool) -> Result<(), String> {
        let mut own = self.own.lock().await;
        own.count += 1;
        let life = Life { count: own.count, since: own.since.clone(), now: micro_time(&self.world), leaving };
        let result = self.within(sign(&mut own, &self.names, &life)).await;
        if result.is_err() {
            // Whether it was written isn't known, or somebody has changed it: the next one looks.
            own.identity = None;
            own.client = own.client.clone();
        }
        result
    }

    async fn read(&self) -> Result<Board, String> {
        let mut client = self.reader.lock().await;
        let result = self.within(list(&mut client, &self.names)).await;
        let found = result.inspect_err(|_| *client = client.clone())?;
        self.say(&found.nonsense);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.identities = found.lives.iter().map(|(b, i)| (b.member.clone(), (b.stamp.clone(), i.clone()))).collect();
        let beats = found.lives.into_iter().map(|(beat, _)| beat).collect();
        Ok(Board { beats, table: found.table.map(|(identity, table)| (identity.version(), table)) })
    }

    async fn replace(&self, over: Option<Version>, table: Table) -> Wrote {
        let told = |why: String| {
            tracing::warn!(lease = self.names.group, "the table of shards isn't known to be written: {why}");
            Wrote::Unknown
        };
        let identity = match over.map(|version| Identity::of_version(&version)) {
            Some(None) => return told("its version is of another board".to_owned()),
            Some(identity) => identity,
            None => None,
        };
        let Some(object) = objects::table_lease(&self.names, identity.as_ref(), &table) else {
            return told(
                "it is longer than an annotation may be, or has names that Kubernetes doesn't take".to_owned(),
            );
        };
        let replaces = identity.is_some();
        let mut client = self.writer.lock().await;
        let written = tokio::time::timeout(self.limit, async {
            match replaces {
                true => client.replace(&self.names.object(&self.names.group), &object).await,
                false => client.create(&self.names.list, &object).await,
            }
        });
        match written.await {
            Ok(Ok(answer)) => match Identity::of(&answer) {
                Some(identity) => Wrote::Done(identity.version()),
                None => told("the answer has no version".to_owned()),
            },
            // Changed since it was read, or made by somebody else.
            Ok(Err(Error::Refused { code: 409, .. })) => Wrote::Conflict,
            // Deleted since then. What can't be made because of that has no namespace.
            Ok(Err(Error::Refused { code: 404, .. })) if replaces => Wrote::Conflict,
            Ok(Err(e)) => told(explained(&e)),
            Err(_) => {
                *client = client.clone();
                told(self.late())
            }
        }
    }

    async fn remove(&self, beat: &Beat) -> Result<(), String> {
        let identity = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match seen.identities.get(&beat.member) {
                Some((stamp, identity)) if *stamp == beat.stamp => identity.clone(),
                _ => return Ok(()),
            }
        };
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": identity.uid, "resourceVersion": identity.resource}});
        let path = self.names.object(&self.names.life(&beat.member));
        let mut client = Client::new(self.world.clone(), self.target.clone());
        self.within(async { client.delete(&path, &options).await.map(drop).or_else(is_over) }).await
    }

    /// Ends a call in time. Whoever calls it gives up the connection of one that failed.
    async fn within<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
        match tokio::time::timeout(self.limit, call).await {
            Ok(result) => result.map_err(|e| explained(&e)),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> String {
        format!("the API server gave no answer within {:?}", self.limit)
    }

    /// Says what makes no sense, once.
    fn say(&self, nonsense: &[String]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.said != nonsense {
            for what in nonsense.iter().filter(|what| !seen.said.contains(what)) {
                tracing::warn!("{what}: it counts as not there");
            }
            seen.said = nonsense.to_vec();
        }
    }
}

impl Backend for Leases {
    fn beat(&self, leaving: bool) -> Later<'_, Result<(), String>> {
        Box::pin(self.renew(leaving))
    }

    fn look(&self) -> Later<'_, Result<Board, String>> {
        Box::pin(self.read())
    }

    fn write(&self, over: Option<Version>, table: Table) -> Later<'_, Wrote> {
        Box::pin(self.replace(over, table))
    }

    fn bury(&self, beat: Beat) -> Later<'_, Result<(), String>> {
        Box::pin(async move { self.remove(&beat).await })
    }
}

/// Somebody else was faster: it is gone, or lives.
fn is_over(e: Error) -> Result<(), Error> {
    if matches!(e, Error::Refused { code: 404 | 409, .. }) { Ok(()) } else { Err(e) }
}

/// Renews the own Lease: one request, when it is as it was left.
async fn sign(own: &mut Own, names: &Names, life: &Life) -> Result<(), Error> {
    let path = names.object(&names.life(&names.member));
    if let Some(identity) = own.identity.take() {
        match own.client.replace(&path, &objects::life_lease(names, Some(&identity), life)).await {
            Ok(answer) => {
                own.identity = Identity::of(&answer);
                return Ok(());
            }
            Err(Error::Refused { code: 404 | 409, .. }) => {}
            Err(e) => return Err(e),
        }
    }
    // The first one, or somebody has deleted or changed it.
    let answer = match own.client.create(&names.list, &objects::life_lease(names, None, life)).await {
        Err(Error::Refused { code: 409, .. }) => {
            let found = Identity::of(&own.client.get(&path).await?);
            own.client.replace(&path, &objects::life_lease(names, found.as_ref(), life)).await?
        }
        other => other?,
    };
    own.identity = Identity::of(&answer);
    Ok(())
}

/// All Leases of the group. A table that has lost its labels is asked for by its name.
async fn list(client: &mut Client, names: &Names) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut go_on = String::new();
    for _ in 0..PAGES {
        let path = format!("{}?labelSelector={}&limit={PAGE}{go_on}", names.list, names.selector);
        let page = client.get(&path).await?;
        for item in page["items"].as_array().into_iter().flatten() {
            found.take(names, item);
        }
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => go_on = format!("&continue={}", percent(token)),
            None => break,
        }
    }
    if found.table.is_none() {
        match client.get(&names.object(&names.group)).await {
            Ok(lease) => found.take(names, &lease),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// A token as a part of a query.
fn percent(token: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    token.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn explained(e: &Error) -> String {
    if e.is_forbidden() {
        return format!(
            "{e}; the service account needs get, list, create, update and delete on leases.coordination.k8s.io"
        );
    }
    e.to_string()
}

/// Now, as Leases write it: with six digits behind the point.
fn micro_time(world: &World) -> String {
    rfc3339(world.clock.wall()).replace('Z', "000Z")
}
